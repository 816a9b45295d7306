//! When may the next cut be proposed? At once after idle; spaced under load, so that the cost of cuts stays
//! a small share of a core and each carries the news of several reports.

use crate::config::CutInterval;
use std::time::Duration;
use zoolog_core::Instant;

/// Cuts that may wait for their quorum. Beyond it the quorum is too slow for more to help.
const IN_FLIGHT_MAX: usize = 64;

/// The leader's memory of its last proposals.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    interval: CutInterval,
    last: Option<Instant>,
    /// Since when there is something to propose.
    wanted: Option<Instant>,
}

impl Pace {
    pub fn new(interval: CutInterval) -> Self {
        Self { interval, last: None, wanted: None }
    }

    /// There is something to propose (or not any more).
    pub fn want(&mut self, now: Instant, wanted: bool) {
        self.wanted = wanted.then(|| self.wanted.unwrap_or(now));
    }

    /// Since when there is something to propose.
    pub fn wanted_since(&self) -> Option<Instant> {
        self.wanted
    }

    /// When to propose it, with so many proposals not yet applied; `None` if nothing is wanted, or if a
    /// proposal has to be applied first.
    pub fn due(&self, in_flight: usize) -> Option<Instant> {
        let wanted = self.wanted?;
        if in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        Some(match self.interval {
            CutInterval::Adaptive { max } => {
                let spacing = if in_flight > 0 { max } else { max / 2 };
                self.last.map_or(wanted, |last| wanted.max(last + spacing))
            }
            CutInterval::Fixed(step) => {
                let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
                let after = self.last.map_or(wanted, |last| wanted.max(last + Duration::from_nanos(1)));
                Instant(after.0.div_ceil(step).saturating_mul(step))
            }
        })
    }

    /// A proposal was made.
    pub fn proposed(&mut self, now: Instant) {
        self.last = Some(now);
        self.wanted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Instant {
        Instant(n * 1000)
    }

    #[test]
    fn after_idle_at_once_under_load_spaced_and_never_when_nothing_is_wanted() {
        let mut p = Pace::new(CutInterval::default());
        assert_eq!(p.due(0), None);
        p.want(us(10), true);
        assert_eq!(p.due(0), Some(us(10)));
        p.proposed(us(10));
        assert_eq!(p.due(1), None);
        p.want(us(100), true);
        assert_eq!(p.due(1), Some(us(1010)), "one is in flight: wait for it, but not longer than max");
        assert_eq!(p.due(0), Some(us(510)));
        assert_eq!(p.due(IN_FLIGHT_MAX), None);
        p.want(us(300), true);
        assert_eq!(p.due(0), Some(us(510)));
        p.want(us(400), false);
        assert_eq!(p.due(0), None);
        p.want(us(5000), true);
        assert_eq!(p.due(0), Some(us(5000)));
    }

    #[test]
    fn a_fixed_interval_proposes_on_its_grid_only() {
        let mut p = Pace::new(CutInterval::Fixed(Duration::from_micros(500)));
        p.want(us(1), true);
        assert_eq!(p.due(0), Some(us(500)));
        p.proposed(us(500));
        p.want(us(501), true);
        assert_eq!(p.due(3), Some(us(1000)));
        let mut at_once = Pace::new(CutInterval::Fixed(Duration::ZERO));
        at_once.want(us(7), true);
        assert_eq!(at_once.due(0), Some(us(7)));
    }
}
