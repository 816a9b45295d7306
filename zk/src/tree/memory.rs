//! Is what is stored still what was put there? Memory that has changed by itself, or by a defect of ours, shows in hashes
//! that were kept from before: of each node's data, of its path, and the sum over each page of nodes (invariant ZK-5).

use super::node::{child_hash, data_hash};
use super::slab::{PAGE, Slot};
use super::{ROOT, Tree};

/// Something is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What, and where: for a person.
    pub what: String,
}

/// Where a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(Slot);

impl Tree {
    /// How many calls of [`Tree::look_at_memory`] go once through all nodes, if their data is small.
    pub fn pages(&self) -> usize {
        self.nodes.end() as usize / PAGE + 1
    }

    /// Checks some nodes from `at` on: to the end of their page, or till `bytes` of data were looked at. Returns where to go
    /// on: the default place once all were.
    ///
    /// # Errors
    /// What is damaged.
    pub fn look_at_memory(&self, at: Place, bytes: usize) -> Result<Place, Damage> {
        let Place(mut slot) = at;
        if (slot as usize).is_multiple_of(PAGE) {
            self.check_page(slot as usize / PAGE)?;
        }
        let end = self.nodes.end().min((slot / PAGE as Slot + 1) * PAGE as Slot);
        let mut seen = 0;
        while slot < end && seen <= bytes {
            if let Some(node) = self.nodes.at(slot) {
                seen += node.data_len();
                if data_hash(node.data.as_deref()) != node.data_hash {
                    return Err(self.damage(slot, "data"));
                }
            }
            slot += 1;
        }
        Ok(if slot < self.nodes.end() { Place(slot) } else { Place::default() })
    }

    /// Checks a page's sum, and what the paths of its nodes are: all but their data.
    ///
    /// # Errors
    /// What is damaged.
    pub(super) fn check_page(&self, page: usize) -> Result<(), Damage> {
        let first = page * PAGE;
        let mut sum = 0u64;
        for slot in first as Slot..self.nodes.end().min((first + PAGE) as Slot) {
            let Some(node) = self.nodes.at(slot) else { continue };
            let parent = self.nodes.at(node.parent).map(|above| above.path_hash);
            let path_hash = parent.map(|above| child_hash(above, node.name.as_bytes()));
            if slot != ROOT && path_hash != Some(node.path_hash) {
                return Err(Damage { what: format!("the name of the node `{}`, or its place", node.name) });
            }
            sum = sum.wrapping_add(node.hash(self.acls.hash(node.acl)));
        }
        if sum == self.sums.page(page) {
            return Ok(());
        }
        let among = self
            .nodes
            .at(first as Slot)
            .map_or(String::new(), |_| format!(", of which the first is {}", self.path_of(first as Slot)));
        Err(Damage { what: format!("a Stat or an ACL among the {PAGE} nodes of page {page}{among}") })
    }

    pub(super) fn damage(&self, slot: Slot, what: &str) -> Damage {
        Damage { what: format!("the {what} of {}", self.path_of(slot)) }
    }

    /// Changes a bit somewhere behind the tree's back, as broken memory does, or, for each fifth `choice`, in honest ways
    /// that no record has asked for, as a defect of ours would: for tests. What is changed, and of which node.
    pub(crate) fn flip_a_bit(&mut self, choice: u64) -> String {
        let nth = choice as usize / 5 % self.nodes.len();
        let slot = self.nodes.slots().nth(nth).expect("so many there are");
        let path = self.path_of(slot);
        if choice % 5 == 4 {
            self.change(slot, |n| n.ctime ^= 1 << 7);
            return format!("ctime of {path}, and all that is kept of it");
        }
        let node = self.nodes.behind_all_backs(slot);
        let what = match (choice % 5, &mut node.data) {
            (0, Some(data)) if !data.is_empty() => {
                data[0] ^= 1;
                "data"
            }
            (1, _) => {
                node.mtime ^= 1 << 5;
                "mtime"
            }
            (2, _) => {
                node.pzxid ^= 1;
                "pzxid"
            }
            _ => {
                node.ctime ^= 1 << 7;
                "ctime"
            }
        };
        format!("{what} of {path}")
    }
}
