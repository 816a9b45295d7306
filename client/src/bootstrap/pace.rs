//! How fast may something go? So many bytes per second, with little saved up.

use std::time::Duration;
use zoolog_core::Instant;

/// What may be made up for, if it was late.
const SLACK: Duration = Duration::from_millis(20);

/// A rate, and when it allows more.
#[derive(Debug)]
pub(super) struct Pace {
    /// 0: as many as there are.
    bytes_per_s: u64,
    free_at: Instant,
}

impl Pace {
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, free_at: Instant(0) }
    }

    /// When more may go; `None`: now.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        (self.bytes_per_s > 0 && self.free_at > now).then_some(self.free_at)
    }

    /// So many go now.
    pub fn spend(&mut self, now: Instant, bytes: u32) {
        if let Some(nanos) = (u64::from(bytes) * 1_000_000_000).checked_div(self.bytes_per_s) {
            let earliest = Instant(now.0.saturating_sub(SLACK.as_nanos() as u64));
            self.free_at = self.free_at.max(earliest) + Duration::from_nanos(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is spent whenever it may be: over any time no more than the rate allows, the slack and one piece.
        #[test]
        fn the_rate_is_kept(rate in 1_000u64..1_000_000, waits in prop::collection::vec(0u64..50_000_000, 1..200)) {
            let (mut pace, mut now, mut spent) = (Pace::new(rate), Instant(1_000_000_000), 0);
            let start = now;
            for wait in waits {
                now = now + Duration::from_nanos(wait);
                if pace.waits_until(now).is_none() {
                    pace.spend(now, 4096);
                    spent += 4096;
                }
            }
            let allowed = (now.since(start) + SLACK).as_secs_f64() * rate as f64 + 2.0 * 4096.0;
            prop_assert!(spent as f64 <= allowed, "{spent} of {allowed}");
        }
    }

    #[test]
    fn zero_is_no_bound() {
        let mut pace = Pace::new(0);
        pace.spend(Instant(5), u32::MAX);
        assert_eq!(pace.waits_until(Instant(5)), None);
    }
}
