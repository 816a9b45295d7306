//! Where do nodes live? In pages that never move, so that a slot stays a node's address for its life and
//! growth never copies what is there.

use super::children::Children;
use super::node::Node;
use super::walk::Walk;
use std::ops::Range;

/// A node's address. Freed slots are used again, the last one freed first.
pub type Slot = u32;

/// Nodes per page.
pub const PAGE: usize = 1024;

/// All nodes.
#[derive(Debug, Default)]
pub struct Slab {
    pages: Vec<Vec<Option<Node>>>,
    free: Vec<Slot>,
    len: usize,
    /// The image being taken, which hears of every change before it is made.
    walk: Option<Box<Walk>>,
}

impl Slab {
    /// Begins an image of all nodes as they are now. Panics while one is being taken.
    pub fn begin_walk(&mut self) {
        assert!(self.walk.is_none(), "two walks at a time");
        self.walk = Some(Box::new(Walk::new(self.end())));
    }

    /// Goes on with it, see [`Walk::go_on`]. The slots it has passed, whether those were the last, and one, if there is one,
    /// whose data was not what it should be. Panics if none was begun.
    pub fn go_on_walking(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        slots: u32,
    ) -> (Range<Slot>, bool, Option<Slot>) {
        let mut walk = self.walk.take().expect("a walk was begun");
        let from = walk.at();
        let done = walk.go_on(out, bytes, slots, |slot| self.place(slot).as_ref());
        let (to, damaged) = (walk.at(), walk.damaged());
        self.walk = (!done).then_some(walk);
        (from..to, done, damaged)
    }

    /// Gives the image up, if one is being taken.
    pub fn end_walk(&mut self) {
        self.walk = None;
    }

    /// Bytes put aside for the image being taken.
    pub fn aside_bytes(&self) -> usize {
        self.walk.as_ref().map_or(0, |w| w.aside_bytes())
    }

    /// One past the last slot ever used.
    pub fn end(&self) -> Slot {
        (self.len + self.free.len()) as Slot
    }

    fn place(&self, slot: Slot) -> &Option<Node> {
        &self.pages[slot as usize / PAGE][slot as usize % PAGE]
    }

    /// Before the place of `slot` changes, the walk puts aside what is there.
    fn touch(&mut self, slot: Slot) {
        if let Some(walk) = &mut self.walk
            && walk.wants(slot)
        {
            let place = &self.pages[slot as usize / PAGE][slot as usize % PAGE];
            walk.put_aside(slot, place.as_ref());
        }
    }

    /// Number of nodes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts a node in. Panics at 2^32 nodes: memory ends long before.
    pub fn insert(&mut self, node: Node) -> Slot {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            self.touch(slot);
            let place = &mut self.pages[slot as usize / PAGE][slot as usize % PAGE];
            assert!(place.is_none(), "slot {slot} was free and holds {:?}", place.as_ref().map(|n| &n.name));
            *place = Some(node);
            return slot;
        }
        let slot = Slot::try_from(self.len - 1).expect("below 2^32 nodes");
        if self.pages.last().is_none_or(|p| p.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        self.pages.last_mut().expect("just made").push(Some(node));
        slot
    }

    /// Takes a node out. Panics if there is none.
    pub fn remove(&mut self, slot: Slot) -> Node {
        self.touch(slot);
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].take();
        let node = node.unwrap_or_else(|| panic!("slot {slot} to be removed is free"));
        self.free.push(slot);
        self.len -= 1;
        node
    }

    /// The node at `slot`, if there is one; below [`Slab::end`].
    pub fn at(&self, slot: Slot) -> Option<&Node> {
        self.pages.get(slot as usize / PAGE)?.get(slot as usize % PAGE)?.as_ref()
    }

    /// The node at `slot`. Panics if there is none.
    pub fn get(&self, slot: Slot) -> &Node {
        self.place(slot).as_ref().unwrap_or_else(|| panic!("slot {slot} is free"))
    }

    /// The node at `slot`, to change. Panics if there is none.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Node {
        self.touch(slot);
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].as_mut();
        node.unwrap_or_else(|| panic!("slot {slot} is free"))
    }

    /// The children of the node at `slot`, to change what follows from other nodes and is in no image. Panics if
    /// there is no node.
    pub fn children_mut(&mut self, slot: Slot) -> Option<&mut Children> {
        self.behind_all_backs(slot).children.as_deref_mut()
    }

    /// The node at `slot`, to change what nobody keeps account of. Panics if there is none.
    pub fn behind_all_backs(&mut self, slot: Slot) -> &mut Node {
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].as_mut();
        node.unwrap_or_else(|| panic!("slot {slot} is free"))
    }

    /// All slots in use, ascending.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let places = self.pages.iter().flatten().enumerate();
        places.filter(|(_, place)| place.is_some()).map(|(slot, _)| slot as Slot)
    }
}
