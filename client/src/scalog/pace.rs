//! When are records asked for that are not pushed? Up to which position, by the policy of whoever consumes them: now and
//! then, or when somebody waits. How they are had is the business of `fetch`.

use std::time::Duration;
use zoolog_core::policy::Fetch;
use zoolog_core::{Gsn, Instant};

/// A lazy consumer asks at least that often, though nobody waits for anything: the log is kept for it meanwhile.
const LAZY_EVERY: Duration = Duration::from_secs(5);

/// What a policy comes to.
#[derive(Debug)]
pub(super) struct Pace {
    policy: Fetch,
    every: Duration,
    /// When all that is new is asked for next without anybody's asking.
    next_at: Instant,
    /// A fetch has begun: where the log ends is being asked.
    asking: bool,
    /// All before this is to be had now.
    wanted: Gsn,
    /// How many have begun.
    pub begun: u64,
}

impl Pace {
    pub fn new(policy: Fetch, defer: Duration, now: Instant) -> Self {
        let every = if policy == Fetch::Lazy { LAZY_EVERY } else { defer };
        Self { policy, every, next_at: now + every, asking: false, wanted: Gsn(0), begun: 0 }
    }

    /// Whether records come only when they are asked for.
    pub fn is_pulled(&self) -> bool {
        self.policy.is_pulled()
    }

    /// Somebody waits for all before `upto`, which is assigned.
    pub fn want(&mut self, upto: Gsn) {
        if self.policy == Fetch::Lazy && upto > self.wanted {
            self.wanted = upto;
            self.begun += 1;
        }
    }

    /// All before `upto`, the end of the log, is wanted now.
    pub fn want_all(&mut self, upto: Gsn) {
        self.wanted = self.wanted.max(upto);
    }

    /// All that is new is wanted, now. Returns whether the log's end is to be asked for that.
    pub fn refresh(&mut self, now: Instant) -> bool {
        if !self.is_pulled() || self.asking {
            return false;
        }
        (self.asking, self.next_at) = (true, now + self.every);
        self.begun += 1;
        true
    }

    /// The same, if it is time to.
    pub fn tick(&mut self, now: Instant) -> bool {
        self.next_at <= now && self.refresh(now)
    }

    /// The log's end was learned.
    pub fn tail_is(&mut self, tail: Gsn) {
        if std::mem::take(&mut self.asking) {
            self.wanted = self.wanted.max(tail);
        }
    }

    /// All before this is to be had now.
    pub fn wanted(&self) -> Gsn {
        self.wanted
    }

    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        (self.is_pulled() && !self.asking).then_some((self.next_at, "fetch what is new"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_deferred_is_asked_for_at_its_time_whoever_waits() {
        for policy in [Fetch::Batched, Fetch::Deferred] {
            let mut p = Pace::new(policy, 10 * MS, Instant(0));
            p.want(Gsn(5));
            assert_eq!((p.wanted(), p.tick(Instant(0) + 9 * MS)), (Gsn(0), false));
            assert!(p.tick(Instant(0) + 10 * MS));
            assert!(!p.refresh(Instant(0) + 11 * MS), "it is being asked");
            assert_eq!(p.deadline(), None);
            p.tail_is(Gsn(7));
            p.tail_is(Gsn(9));
            assert_eq!((p.wanted(), p.begun), (Gsn(7), 1), "a later answer was to somebody else");
            assert_eq!(p.deadline().map(|d| d.0), Some(Instant(0) + 20 * MS));
        }
    }

    #[test]
    fn a_lazy_one_asks_when_somebody_waits_and_seldom_without() {
        let mut p = Pace::new(Fetch::Lazy, MS, Instant(0));
        assert!(!p.tick(Instant(0) + 1000 * MS));
        p.want(Gsn(5));
        p.want(Gsn(3));
        assert_eq!((p.wanted(), p.begun), (Gsn(5), 1));
        assert!(p.tick(Instant(0) + LAZY_EVERY));
    }

    #[test]
    fn what_is_streamed_is_never_asked_for() {
        let mut p = Pace::new(Fetch::Streamed, MS, Instant(0));
        p.want(Gsn(5));
        assert!(!p.tick(Instant(0) + 60_000 * MS) && !p.refresh(Instant(0)));
        assert_eq!((p.deadline(), p.wanted(), p.begun), (None, Gsn(0), 0));
    }
}
