//! What do the nodes' hashes add up to? The sum over all of them is the tree's hash; the sum over each page of the slab is
//! kept beside it, so that a part of the tree can be compared with what it should be while the rest changes.

use super::slab::{PAGE, Slot};

/// Sums of nodes' hashes, changed with every node. They wrap: what comes and goes leaves no trace.
#[derive(Debug, Default)]
pub struct Sums {
    all: u64,
    /// By page: slots that share one when divided by [`PAGE`].
    pages: Vec<u64>,
}

impl Sums {
    /// Over all nodes.
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// Over the nodes of a page.
    pub fn page(&self, page: usize) -> u64 {
        self.pages.get(page).copied().unwrap_or(0)
    }

    /// The node at `slot` had the first hash and has the second; 0 stands for none.
    pub fn change(&mut self, slot: Slot, before: u64, after: u64) {
        let page = slot as usize / PAGE;
        if page >= self.pages.len() {
            self.pages.resize(page + 1, 0);
        }
        let by = after.wrapping_sub(before);
        self.all = self.all.wrapping_add(by);
        self.pages[page] = self.pages[page].wrapping_add(by);
    }
}
