//! How far has a shard come, and which of its parts may some replica still lack? Parts lie side by side: one more
//! costs no allocation.

use std::collections::VecDeque;
use zoolog_core::cut::ShardPart;
use zoolog_core::{CutNumber, Gsn};

/// Of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Committed length of each of its lanes.
    pub lens: Vec<u64>,
    /// All replicas hold this and earlier parts: they were dropped.
    pub known: CutNumber,
    /// First GSN of the shard, and one past its last; `None` while nothing is in it.
    pub span: Option<(Gsn, Gsn)>,
    /// Cut and base of later ones, ascending.
    heads: VecDeque<(CutNumber, Gsn)>,
    /// Lengths after each of them, all lanes of the first, then all of the second, and so on.
    ends: VecDeque<u64>,
}

impl Parts {
    /// Of a shard of so many lanes, in which nothing is.
    pub fn new(lanes: usize) -> Self {
        Self { lens: vec![0; lanes], ..Self::default() }
    }

    /// The newest part, kept or not; 0 if there was none.
    pub fn newest(&self) -> CutNumber {
        self.heads.back().map_or(self.known, |(number, _)| *number)
    }

    /// How many parts are kept.
    pub fn kept(&self) -> usize {
        self.heads.len()
    }

    /// Cut and base of the kept parts.
    pub fn heads(&self) -> &VecDeque<(CutNumber, Gsn)> {
        &self.heads
    }

    /// Lane lengths after the `i`th of them.
    pub fn ends(&self, i: usize) -> impl Iterator<Item = u64> + '_ {
        let n = self.lens.len();
        (i * n..(i + 1) * n).map(|at| self.ends[at])
    }

    /// The kept parts beyond `after`.
    pub fn after(&self, after: CutNumber) -> impl Iterator<Item = ShardPart> + '_ {
        let from = self.heads.partition_point(|(number, _)| *number <= after);
        (from..self.heads.len()).map(|i| {
            let (number, base) = self.heads[i];
            ShardPart { number, base, lens: self.ends(i).collect() }
        })
    }

    /// The lengths are those of a new part, whose records lie in `base..end`.
    pub fn keep(&mut self, number: CutNumber, base: Gsn, end: Gsn) {
        self.span = Some((self.span.map_or(base, |(first, _)| first), end));
        self.heads.push_back((number, base));
        self.ends.extend(&self.lens);
    }

    /// Takes a part that was kept elsewhere; whether it is of a shard of as many lanes.
    pub fn restore(&mut self, part: &ShardPart) -> bool {
        self.heads.push_back((part.number, part.base));
        self.ends.extend(&part.lens);
        part.lens.len() == self.lens.len()
    }

    /// Drops the parts up to this one, which all replicas hold.
    pub fn forget(&mut self, number: CutNumber) {
        if number <= self.known {
            return;
        }
        self.known = number;
        let dropped = self.heads.iter().take_while(|(n, _)| *n <= number).count();
        self.heads.drain(..dropped);
        self.ends.drain(..dropped * self.lens.len());
    }
}
