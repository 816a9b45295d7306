//! How many bytes of a lane lie behind which LSN? Coarsely, in a bounded number of points: enough to say what retention
//! and lag amount to, at the price of two additions per batch.

use std::collections::VecDeque;

/// Points kept at most; beyond, every other one goes, and those to come are twice as far apart.
const POINTS_MAX: usize = 48;
/// Bytes between two points at least.
const GRAIN_MIN: u64 = 16 << 10;

/// Points of one lane.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    /// (LSN where a batch ends, bytes of all batches up to there), ascending.
    points: VecDeque<(u64, u64)>,
    /// Bytes of all batches so far.
    total: u64,
    /// Bytes between two points.
    grain: u64,
    /// Counts the changes of `points`.
    version: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { points: VecDeque::new(), total: 0, grain: GRAIN_MIN, version: 0 }
    }
}

impl Sizes {
    /// The next batch, of so many bytes, ends at that LSN.
    pub fn add(&mut self, end: u64, bytes: u64) {
        self.total += bytes;
        if self.total - self.points.back().map_or(0, |p| p.1) < self.grain {
            return;
        }
        self.points.push_back((end, self.total));
        self.version += 1;
        if self.points.len() > POINTS_MAX {
            self.grain *= 2;
            let mut n = 0;
            self.points.retain(|_| {
                n += 1;
                n % 2 == 0
            });
        }
    }

    /// What lies before `start` is gone.
    pub fn trim(&mut self, start: u64) {
        let gone = self.points.partition_point(|p| p.0 <= start);
        if gone > 0 {
            self.points.drain(..gone);
            self.version += 1;
            if self.points.len() < POINTS_MAX / 4 {
                self.grain = (self.grain / 2).max(GRAIN_MIN);
            }
        }
    }

    /// What lies behind `end` is gone, or was never there.
    pub fn cut_back(&mut self, end: u64) {
        let kept = self.points.partition_point(|p| p.0 <= end);
        if kept < self.points.len() {
            self.points.truncate(kept);
            self.total = self.points.back().map_or(0, |p| p.1);
            self.version += 1;
        }
    }

    /// Changes with what [`points`](Self::points) says.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// (LSN, bytes from there to the last point at or below `end`), ascending by LSN: never more than lie between the
    /// LSN and `end`.
    pub fn points(&self, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let n = self.points.partition_point(|p| p.0 <= end);
        let last = n.checked_sub(1).map_or(0, |i| self.points[i].1);
        self.points.range(..n).map(move |&(lsn, upto)| (lsn, last - upto))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Never more than there is, not much less, and bounded, wherever it is trimmed.
        #[test]
        fn points_are_few_and_never_say_too_much(
            batches in prop::collection::vec((1u64..50, 1u64..60_000, prop::bool::weighted(0.02)), 0..600), end in 0usize..700,
        ) {
            let (mut sizes, mut all, mut lsn) = (Sizes::default(), Vec::new(), 0);
            for &(count, bytes, trims) in &batches {
                lsn += count;
                all.push((lsn, bytes));
                sizes.add(lsn, bytes);
                if trims {
                    sizes.trim(all[all.len() / 2].0);
                }
                prop_assert!(sizes.points.len() <= POINTS_MAX);
            }
            let end = all.get(end).map_or(lsn, |b| b.0);
            let total: u64 = all.iter().map(|b| b.1).sum();
            let points: Vec<_> = sizes.points(end).collect();
            prop_assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1));
            for (from, bytes) in points {
                let really: u64 = all.iter().filter(|b| b.0 > from && b.0 <= end).map(|b| b.1).sum();
                prop_assert!(bytes <= really && really - bytes <= sizes.grain.max(total / 8) + 120_000);
            }
        }
    }
}
