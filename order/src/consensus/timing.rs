//! How fast does raft's clock run, and who stands for election first? Both are repeatable: ticks follow the
//! time that is passed in, election timeouts a seed.

use std::time::Duration;
use zoolog_core::Instant;
use zoolog_core::rng::Rng;

/// Raft's unit of time.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks between heartbeats.
pub(super) const HEARTBEAT_TICKS: usize = 5;
/// Shortest election timeout, in ticks.
pub(super) const ELECTION_TICKS: usize = 15;
/// No election timeout is as long as this, in ticks.
pub(super) const ELECTION_TICKS_END: usize = 30;

/// Ticks after which an orderer wakes to count them, if nothing has woken it before: one heartbeat's worth. A
/// follower of a live leader is woken by heartbeats and never by this.
const STRIDE_TICKS: u32 = HEARTBEAT_TICKS as u32;

/// Counts ticks.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    /// The last tick that was counted.
    last: Instant,
}

impl Ticker {
    pub fn new(now: Instant) -> Self {
        Self { last: now }
    }

    /// When to count at the latest.
    pub fn next(&self) -> Instant {
        self.last + TICK * STRIDE_TICKS
    }

    /// How many ticks have passed. Late ones are made up for by one at most, and time that was slept through
    /// doesn't count: a process that stood still must not conclude that all others did.
    pub fn due(&mut self, now: Instant) -> u32 {
        let passed = (now.since(self.last).as_nanos() / TICK.as_nanos()).try_into().unwrap_or(u32::MAX);
        if passed <= STRIDE_TICKS + 1 {
            self.last = self.last + TICK * passed;
            return passed;
        }
        self.last = now;
        STRIDE_TICKS + 1
    }
}

/// Election timeouts, drawn per start and term.
#[derive(Clone, Debug)]
pub(super) struct Elections {
    seed: u64,
    incarnation: u64,
    drawn: Option<(u64, usize)>,
}

impl Elections {
    pub fn new(seed: u64, incarnation: u64) -> Self {
        Self { seed, incarnation, drawn: None }
    }

    /// The timeout in `term`, in ticks.
    pub fn timeout(&mut self, term: u64) -> usize {
        match self.drawn {
            Some((of, ticks)) if of == term => ticks,
            _ => {
                let mut rng = Rng::new(self.seed, &format!("election {} {term}", self.incarnation));
                let ticks = rng.between(ELECTION_TICKS as u64, ELECTION_TICKS_END as u64) as usize;
                self.drawn = Some((term, ticks));
                ticks
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_slept_through_is_not_made_up_for() {
        let mut t = Ticker::new(Instant(0));
        let ms = |n: u64| Instant(n * 1_000_000);
        assert_eq!((t.due(ms(9)), t.next()), (0, ms(50)));
        assert_eq!((t.due(ms(25)), t.next()), (2, ms(70)));
        assert_eq!((t.due(ms(81)), t.next()), (6, ms(130)));
        assert_eq!((t.due(ms(900)), t.next()), (6, ms(950)));
    }

    #[test]
    fn election_timeouts_repeat_and_differ() {
        let draws = |seed, incarnation| -> Vec<usize> {
            let mut e = Elections::new(seed, incarnation);
            (0..20).map(|term| e.timeout(term)).collect()
        };
        assert_eq!(draws(1, 1), draws(1, 1));
        assert_ne!(draws(1, 1), draws(1, 2));
        assert_ne!(draws(1, 1), draws(2, 1));
        assert!(draws(3, 4).iter().all(|t| (ELECTION_TICKS..ELECTION_TICKS_END).contains(t)));
    }
}
