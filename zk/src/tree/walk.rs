//! How is an image of the slab taken while it changes? Slot by slot, in turns; what changes ahead of the walk
//! is put aside as it was, the first time it does. So the image is exact at the moment the walk began, a turn
//! costs what it is given, and a change costs one copy of the node that changes, at most once per walk.

use super::image;
use super::node::{Node, data_hash};
use super::slab::Slot;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// An image being taken.
#[derive(Debug)]
pub struct Walk {
    /// The next slot to be written.
    at: Slot,
    /// One past the last: what comes to be there later is not part of the image.
    end: Slot,
    /// Slots in `at..end` that have changed since: their bytes as they were, `None` where there was no node.
    aside: HashMap<Slot, Option<Box<[u8]>>, FixedState>,
    aside_bytes: usize,
    /// Where data was found that is not what was stored.
    damaged: Option<Slot>,
}

impl Walk {
    /// Of the slots below `end`.
    pub fn new(end: Slot) -> Self {
        Self { at: 0, end, aside: HashMap::default(), aside_bytes: 0, damaged: None }
    }

    /// The next slot to be written.
    pub const fn at(&self) -> Slot {
        self.at
    }

    /// A slot, if there was one, whose data was not what was stored there: what was written is of no use.
    pub const fn damaged(&self) -> Option<Slot> {
        self.damaged
    }

    /// Bytes put aside.
    pub const fn aside_bytes(&self) -> usize {
        self.aside_bytes
    }

    /// Whether what is at `slot` must be put aside before it changes.
    pub fn wants(&self, slot: Slot) -> bool {
        (self.at..self.end).contains(&slot) && !self.aside.contains_key(&slot)
    }

    /// Puts aside what is at `slot`.
    pub fn put_aside(&mut self, slot: Slot, node: Option<&Node>) {
        self.look_at(slot, node);
        let bytes = node.map(|node| {
            let mut bytes = Vec::with_capacity(image::bytes(node));
            image::encode(&mut bytes, slot, node);
            bytes.into_boxed_slice()
        });
        self.aside_bytes += bytes.as_ref().map_or(0, |b| b.len());
        self.aside.insert(slot, bytes);
    }

    /// Data that changed behind the tree's back must not become a snapshot.
    fn look_at(&mut self, slot: Slot, node: Option<&Node>) {
        if node.is_some_and(|n| data_hash(n.data.as_deref()) != n.data_hash) {
            self.damaged = Some(slot);
        }
    }

    /// Appends the next nodes to `out`, till that has at least `bytes` or `slots` slots were looked at. Whether
    /// those were the last. `place` says what is at a slot now.
    pub fn go_on<'a>(
        &mut self,
        out: &mut Vec<u8>,
        bytes: usize,
        slots: u32,
        place: impl Fn(Slot) -> Option<&'a Node>,
    ) -> bool {
        let stop = self.end.min(self.at.saturating_add(slots));
        while self.at < stop && out.len() < bytes {
            // Most walks meet few changes: nothing is looked up when there is nothing to be found.
            let aside = if self.aside.is_empty() { None } else { self.aside.remove(&self.at) };
            match aside {
                Some(Some(was)) => {
                    self.aside_bytes -= was.len();
                    out.extend_from_slice(&was);
                }
                Some(None) => {}
                None => {
                    if let Some(node) = place(self.at) {
                        self.look_at(self.at, Some(node));
                        image::encode(out, self.at, node);
                    }
                }
            }
            self.at += 1;
        }
        self.at == self.end
    }
}
