//! How fast does raft's clock run, and who stands for election first? Both are repeatable: ticks follow the
//! time that is passed in, election timeouts a seed.

use std::time::Duration;
use zoolog_core::Instant;
use zoolog_core::rng::Rng;

/// Raft's unit of time.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Ticks between heartbeats.
pub(super) const HEARTBEAT_TICKS: usize = 2;
/// Shortest election timeout, in ticks.
pub(super) const ELECTION_TICKS: usize = 15;
/// No election timeout is as long as this, in ticks.
pub(super) const ELECTION_TICKS_END: usize = 30;

/// When the next ticks are due. They are counted in strides of a heartbeat, in which nothing else needs a tick
/// of its own: half the wake-ups of an idle orderer.
#[derive(Clone, Debug)]
pub(crate) struct Ticker {
    /// The last tick that was counted.
    last: Instant,
}

impl Ticker {
    pub fn new(now: Instant) -> Self {
        Self { last: now }
    }

    pub fn next(&self) -> Instant {
        self.last + TICK * HEARTBEAT_TICKS as u32
    }

    /// How many ticks have passed, once a stride has. Late ones are made up for by one at most, and time that
    /// was slept through doesn't count: a process that stood still must not conclude that all others did.
    pub fn due(&mut self, now: Instant) -> u32 {
        if now < self.next() {
            return 0;
        }
        let stride = HEARTBEAT_TICKS as u32;
        if now.since(self.next()) < TICK {
            self.last = self.next();
            return stride;
        }
        self.last = now;
        stride + 1
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
        assert_eq!((t.due(ms(19)), t.next()), (0, ms(20)));
        assert_eq!((t.due(ms(20)), t.next()), (2, ms(40)));
        assert_eq!(t.due(ms(22)), 0);
        assert_eq!((t.due(ms(41)), t.next()), (2, ms(60)));
        assert_eq!((t.due(ms(900)), t.next()), (3, ms(920)));
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
