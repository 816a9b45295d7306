//! Is a tail at or past everything that was acknowledged before it was asked for?

use super::{Verdict, promise};
use zoolog_core::{Gsn, Instant};

/// How far acknowledgements had gone, over time.
#[derive(Debug, Default)]
pub struct Tails {
    acked: Vec<(Instant, Gsn)>,
}

impl Tails {
    /// Records below `end` are acknowledged now.
    pub fn acked(&mut self, now: Instant, end: Gsn) {
        if self.acked.last().is_none_or(|&(_, before)| before < end) {
            self.acked.push((now, end));
        }
    }

    /// A tail asked for at `asked` was answered.
    pub fn answered(&self, name: &str, asked: Instant, gsn: Gsn) -> Verdict {
        let n = self.acked.partition_point(|&(at, _)| at < asked);
        let before = n.checked_sub(1).map_or(Gsn(0), |i| self.acked[i].1);
        promise!(
            "LOG-1",
            gsn >= before,
            "{name} asked for the tail at {asked:?} and got {gsn}; {before} was acked"
        );
        Ok(())
    }
}
