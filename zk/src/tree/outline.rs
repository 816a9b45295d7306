//! Where do two trees differ that should be the same? Each is cut into some hundreds of parts by path, each with the sum of
//! its nodes' hashes; whose sums differ, that is where.

use super::slab::Slot;
use super::{ROOT, Tree};
use std::collections::{BTreeMap, VecDeque};

impl Tree {
    /// Up to about `max` parts: nodes near the root, each alone, and what is below them as a whole. Reads every node's
    /// place, and its hash anew.
    pub fn outline(&self, max: usize) -> BTreeMap<String, u64> {
        let (mut cuts, mut open) = (vec![ROOT], VecDeque::from([ROOT]));
        while let Some(slot) = open.pop_front() {
            let children = self.nodes.get(slot).children.iter().flat_map(|c| c.slots());
            if cuts.len() + self.nodes.get(slot).num_children() > max {
                continue;
            }
            for &child in children {
                cuts.push(child);
                open.push_back(child);
            }
        }
        self.sums_at(&cuts).into_iter().map(|(slot, sum)| (self.path_of(slot), sum)).collect()
    }

    /// Paths of the parts that are different here, or are not here at all.
    pub fn differing(&self, outline: &BTreeMap<String, u64>) -> Vec<String> {
        let cuts: Vec<Slot> = outline.keys().filter_map(|path| self.find(path)).collect();
        let sums = self.sums_at(&cuts);
        let same = |path: &str, sum: u64| self.find(path).and_then(|slot| sums.get(&slot)) == Some(&sum);
        outline.iter().filter(|(path, sum)| !same(path, **sum)).map(|(path, _)| path.clone()).collect()
    }

    /// For each of these nodes the sum over itself and all below it that is not below another one of them.
    fn sums_at(&self, cuts: &[Slot]) -> BTreeMap<Slot, u64> {
        let mut sums: BTreeMap<Slot, u64> = cuts.iter().map(|slot| (*slot, 0)).collect();
        for slot in self.nodes.slots() {
            let node = self.nodes.get(slot);
            let mut at = slot;
            while !sums.contains_key(&at) && at != ROOT {
                at = self.nodes.get(at).parent;
            }
            if let Some(sum) = sums.get_mut(&at) {
                *sum = sum.wrapping_add(node.hash(self.acls.hash(node.acl)));
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{NewNode, Stamp, Writer};

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for (path, zxid) in paths.iter().zip(1..) {
            let new = NewNode { path, sequential: false, data: None, acl: None, owner: 0 };
            tree.create(new, Writer::root(Stamp { zxid, wall_ms: 0 })).expect("a place for it");
        }
        tree
    }

    #[test]
    fn what_differs_is_named_as_closely_as_the_parts_allow() {
        let paths = ["/a", "/a/b", "/a/b/c", "/a/d", "/e"];
        let (one, mut other) = (tree(&paths), tree(&paths));
        for max in [1, 4, 10, 1000] {
            assert_eq!(other.differing(&one.outline(max)), Vec::<String>::new());
        }
        let slot = other.find("/a/b/c").expect("made");
        other.change(slot, |n| n.ctime += 1);
        assert_eq!(other.differing(&one.outline(1000)), ["/a/b/c"]);
        assert_eq!(other.differing(&one.outline(5)), ["/a"], "no room for what is below");
        assert_eq!(other.differing(&one.outline(1)), ["/"]);
        // One that is not there at all, and its parent, which has counted it.
        let less = tree(&paths[..4]);
        let differing = less.differing(&one.outline(1000));
        assert_eq!(differing, ["/", "/e"]);
    }
}
