//! At which slot is the node whose path has this hash? A hash table in many parts, each of which grows by itself: a
//! table of millions that doubles at once looks at every node, and nobody is answered meanwhile.

use super::slab::Slot;
use hashbrown::HashTable;

/// Parts. At 4,000,000 nodes one part has 4,000, and no insertion moves more.
const PARTS: usize = 1024;
/// The part is chosen by the hash's bits from here on: the lowest choose the place in a part, the highest are the
/// tags that a part compares.
const PART_SHIFT: u32 = 40;

/// Slots by the hash of what is there, which every caller computes the same way.
#[derive(Debug)]
pub(super) struct Index {
    parts: Box<[HashTable<Slot>]>,
}

impl Index {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { parts: std::iter::repeat_with(HashTable::new).take(PARTS).collect() }
    }

    /// An empty one that takes about as many slots before it grows.
    pub(super) fn with_room_for(slots: usize) -> Self {
        let part = || HashTable::with_capacity(slots.div_ceil(PARTS));
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect() }
    }

    const fn part(hash: u64) -> usize {
        (hash >> PART_SHIFT) as usize % PARTS
    }

    /// The slot of that hash which `is_it`, if there is one.
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&Slot) -> bool) -> Option<Slot> {
        self.parts[Self::part(hash)].find(hash, is_it).copied()
    }

    /// Puts in a slot that is not in. `hash_of` is the hash of a slot that is.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(&Slot) -> u64) {
        self.parts[Self::part(hash)].insert_unique(hash, slot, hash_of);
    }

    /// Takes out `slot`, whose hash is `hash`. Panics if it is not in.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        let entry = self.parts[Self::part(hash)].find_entry(hash, |&s| s == slot);
        entry.unwrap_or_else(|_| panic!("slot {slot} is not in the index")).remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::node::child_hash;

    fn hash(slot: Slot) -> u64 {
        child_hash(1, format!("node-{slot:010}").as_bytes())
    }

    #[test]
    fn what_went_in_is_found_until_it_is_taken_out() {
        let mut index = Index::new();
        (0..20_000).for_each(|s| index.insert(hash(s), s, |&s| hash(s)));
        (0..20_000).step_by(2).for_each(|s| index.remove(hash(s), s));
        for s in 0..20_000 {
            assert_eq!(index.find(hash(s), |&at| at == s), (s % 2 == 1).then_some(s));
        }
    }

    #[test]
    fn no_insertion_looks_at_more_than_a_part() {
        let (mut index, nodes) = (Index::new(), 1 << 19);
        let mut most = 0;
        for slot in 0..nodes {
            let looked_at = std::cell::Cell::new(0);
            index.insert(hash(slot), slot, |&s| {
                looked_at.set(looked_at.get() + 1);
                hash(s)
            });
            most = most.max(looked_at.get());
        }
        let fair = nodes as usize / PARTS;
        assert!(
            most >= fair / 2 && most < 2 * fair,
            "{most} nodes looked at in one insertion, {fair} a part"
        );
    }
}
