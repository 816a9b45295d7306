//! How are a node's children kept? As slots in chunks, ordered by name; the names stay with the nodes.

use super::slab::Slot;

/// Slots of one chunk, at most: bounds what an insertion moves.
const CHUNK: usize = 512;

/// Children of one node, ordered by name. `name_of` gives the name of a slot that is in here.
#[derive(Debug, Default)]
pub struct Children {
    /// None is empty.
    chunks: Vec<Vec<Slot>>,
    len: usize,
    /// Of all names.
    name_bytes: u64,
    /// Nodes below these, that is without them.
    pub below: u64,
}

impl Children {
    /// Number of children.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all their names.
    pub const fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    /// Slots in the order of their names, behind that name; all of them without one.
    pub fn slots_behind<'a, F: Fn(Slot) -> &'a str>(
        &'a self,
        name: Option<&str>,
        name_of: F,
    ) -> impl Iterator<Item = Slot> + use<'a, F> {
        let (chunk, at) = match name {
            Some(name) if self.len > 0 => {
                let (chunk, place) = self.find(name, name_of);
                (chunk, place.map_or_else(|at| at, |at| at + 1))
            }
            _ => (0, 0),
        };
        self.chunks[chunk..].iter().flatten().skip(at).copied()
    }

    /// Slots in the order of their names.
    pub fn slots(&self) -> std::iter::Flatten<std::slice::Iter<'_, Vec<Slot>>> {
        self.chunks.iter().flatten()
    }

    /// The children at these slots, which are in the order of their names, of so many bytes; `None` if there are none.
    pub fn from_sorted(slots: &[Slot], name_bytes: u64) -> Option<Self> {
        let chunks: Vec<_> = slots.chunks(CHUNK).map(<[Slot]>::to_vec).collect();
        (!slots.is_empty()).then_some(Self { chunks, len: slots.len(), name_bytes, below: 0 })
    }

    /// Chunk that has, or should have, `name`, and where in it. Needs one chunk.
    fn find<'a>(&self, name: &str, name_of: impl Fn(Slot) -> &'a str) -> (usize, Result<usize, usize>) {
        let last = self.chunks.len() - 1;
        // Sequential names come in ascending order: look at the end first.
        if self.chunks[last].last().is_some_and(|&s| name_of(s) < name) {
            return (last, Err(self.chunks[last].len()));
        }
        let chunk = self.chunks.partition_point(|c| name_of(c[0]) <= name).saturating_sub(1);
        (chunk, self.chunks[chunk].binary_search_by(|&s| name_of(s).cmp(name)))
    }

    /// Puts in a child. Panics if one of that name is there.
    pub fn insert<'a>(&mut self, slot: Slot, name: &str, name_of: impl Fn(Slot) -> &'a str) {
        self.len += 1;
        self.name_bytes += name.len() as u64;
        if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
            self.chunks.push(vec![slot]);
            return;
        }
        let (chunk, place) = self.find(name, name_of);
        let Err(at) = place else { panic!("a child {name:?} is there already") };
        if self.chunks[chunk].len() < CHUNK {
            self.chunks[chunk].insert(at, slot);
        } else if at == CHUNK {
            // Behind a full chunk the next one starts: ascending names leave full chunks behind them.
            self.chunks.insert(chunk + 1, vec![slot]);
        } else {
            let upper = self.chunks[chunk].split_off(CHUNK / 2);
            self.chunks.insert(chunk + 1, upper);
            let (chunk, at) = if at < CHUNK / 2 { (chunk, at) } else { (chunk + 1, at - CHUNK / 2) };
            self.chunks[chunk].insert(at, slot);
        }
    }

    /// Takes out a child. Panics if it is not there.
    pub fn remove<'a>(&mut self, slot: Slot, name: &str, name_of: impl Fn(Slot) -> &'a str) {
        assert!(!self.chunks.is_empty(), "child {name:?} to be removed from none");
        let (chunk, place) = self.find(name, name_of);
        let at = place.unwrap_or_else(|_| panic!("child {name:?} to be removed is missing"));
        let removed = self.chunks[chunk].remove(at);
        assert_eq!(removed, slot, "child {name:?} is at another slot");
        self.len -= 1;
        self.name_bytes -= name.len() as u64;
        self.tidy(chunk);
    }

    /// Gives back room after a removal: what is left must not cost as much as what was there.
    fn tidy(&mut self, chunk: usize) {
        let len = self.chunks[chunk].len();
        if len == 0 {
            self.chunks.remove(chunk);
        } else if len < CHUNK / 4
            && let Some(next) = self.chunks.get(chunk + 1)
            && len + next.len() <= CHUNK / 2
        {
            let next = self.chunks.remove(chunk + 1);
            self.chunks[chunk].extend(next);
        } else if len < self.chunks[chunk].capacity() / 4 {
            self.chunks[chunk].shrink_to(len * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound::{Excluded, Unbounded};

    fn check(ops: impl Iterator<Item = (bool, u32)>) {
        let names: Vec<String> = (0..4000).map(|i| format!("n{:04}", (i * 7919) % 4000)).collect();
        let name_of = |s: Slot| names[s as usize].as_str();
        let (mut children, mut model) = (Children::default(), BTreeMap::new());
        for (add, slot) in ops {
            let name = name_of(slot);
            if add && !model.contains_key(name) {
                children.insert(slot, name, name_of);
                model.insert(name, slot);
            } else if !add && model.remove(name).is_some() {
                children.remove(slot, name, name_of);
            }
            assert!(children.chunks.iter().all(|c| !c.is_empty() && c.len() <= CHUNK));
        }
        assert_eq!(children.len(), model.len());
        assert!(children.slots().eq(model.values()));
        assert_eq!(children.name_bytes(), model.keys().map(|n| n.len() as u64).sum::<u64>());
        for name in ["", "n0000", "n1234", "n12345", "n3999", "z"] {
            let behind = model.range::<str, _>((Excluded(name), Unbounded)).map(|(_, s)| *s);
            assert!(children.slots_behind(Some(name), name_of).eq(behind), "behind {name:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn order_is_that_of_the_names(
            grow in prop::collection::vec(0u32..4000, 0..3000),
            mixed in prop::collection::vec((any::<bool>(), 0u32..4000), 0..300),
            shrink in prop::collection::vec(0u32..4000, 0..3000),
        ) {
            let grow = grow.into_iter().map(|s| (true, s));
            let shrink = shrink.into_iter().map(|s| (false, s));
            check(grow.chain(mixed).chain(shrink));
        }
    }

    #[test]
    fn ascending_and_descending_names_fill_chunks() {
        let names: Vec<String> = (0..3000).map(|i| format!("{i:010}")).collect();
        let name_of = |s: Slot| names[s as usize].as_str();
        let (mut up, mut down) = (Children::default(), Children::default());
        for s in 0..3000 {
            up.insert(s, name_of(s), name_of);
            down.insert(2999 - s, name_of(2999 - s), name_of);
        }
        assert_eq!(up.chunks.len(), 3000usize.div_ceil(CHUNK));
        assert!(up.slots().eq(down.slots()) && up.slots().copied().eq(0..3000));
        for s in (0..3000).rev() {
            up.remove(s, name_of(s), name_of);
        }
        assert_eq!((up.len(), up.chunks.len()), (0, 0));
    }
}
