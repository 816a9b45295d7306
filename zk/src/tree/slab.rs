//! Where do nodes live? In pages that never move, so that a slot stays a node's address for its life and
//! growth never copies what is there.

use super::node::Node;

/// A node's address. Freed slots are used again, the last one freed first.
pub type Slot = u32;

/// Nodes per page.
const PAGE: usize = 1024;

/// All nodes.
#[derive(Debug, Default)]
pub struct Slab {
    pages: Vec<Vec<Option<Node>>>,
    free: Vec<Slot>,
    len: usize,
}

impl Slab {
    /// Number of nodes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts a node in. Panics at 2^32 nodes: memory ends long before.
    pub fn insert(&mut self, node: Node) -> Slot {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
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
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].take();
        let node = node.unwrap_or_else(|| panic!("slot {slot} to be removed is free"));
        self.free.push(slot);
        self.len -= 1;
        node
    }

    /// The node at `slot`. Panics if there is none.
    pub fn get(&self, slot: Slot) -> &Node {
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].as_ref();
        node.unwrap_or_else(|| panic!("slot {slot} is free"))
    }

    /// The node at `slot`, to change. Panics if there is none.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Node {
        let node = self.pages[slot as usize / PAGE][slot as usize % PAGE].as_mut();
        node.unwrap_or_else(|| panic!("slot {slot} is free"))
    }

    /// All slots in use, ascending.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        let places = self.pages.iter().flatten().enumerate();
        places.filter(|(_, place)| place.is_some()).map(|(slot, _)| slot as Slot)
    }
}
