//! Which sessions have been silent too long? One clock per session on every node, read now and then rather
//! than reset by every request: a read that finds the session active since the last one starts it anew.
//!
//! A session whose last connection was here is *mine*: this node knows to the moment when it was heard. Of
//! others it knows only what the log says, touch by touch, and leaves their own node one touch interval of
//! grace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zoolog_core::{Gsn, Instant};

/// Looks are rounded up to this, so that many share one wake-up.
const GRID: Duration = Duration::from_millis(20);

/// A touch interval is this part of the shortest timeout, so at most this part of any.
pub(super) const TOUCHES_PER_TIMEOUT: u32 = 4;

/// What the state says about a session's life: GSN of its attach, and of its last touch.
pub(super) type Seen = (Gsn, Gsn);

#[derive(Debug)]
struct Clock {
    timeout: Duration,
    mine: bool,
    /// Mine: when it was last heard. Others: when a look last found it touched.
    alive_at: Instant,
    seen: Seen,
    look_at: Instant,
}

impl Clock {
    /// Silence after which it is to be expired.
    fn patience(&self) -> Duration {
        if self.mine { self.timeout } else { self.timeout + self.timeout / TOUCHES_PER_TIMEOUT }
    }
}

/// One clock per session.
#[derive(Debug)]
pub(super) struct Clocks {
    all: BTreeMap<i64, Clock>,
    looks: BTreeSet<(Instant, i64)>,
    /// How many sessions have which timeout, in milliseconds.
    timeouts: BTreeMap<u64, usize>,
    /// No clock shows more than since then.
    running_from: Instant,
}

fn on_grid(at: Instant) -> Instant {
    let grid = GRID.as_nanos() as u64;
    Instant(at.0.saturating_add(grid - 1) / grid * grid)
}

impl Clocks {
    pub(super) fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            looks: BTreeSet::new(),
            timeouts: BTreeMap::new(),
            running_from: Instant(0),
        }
    }

    /// The session has come to a connection, of this node or not, and was alive just now.
    pub(super) fn attached(&mut self, now: Instant, session: i64, timeout_ms: u32, mine: bool, seen: Seen) {
        self.ended(session);
        let timeout = Duration::from_millis(u64::from(timeout_ms));
        let clock = Clock { timeout, mine, alive_at: now, seen, look_at: now };
        self.all.insert(session, clock);
        *self.timeouts.entry(u64::from(timeout_ms)).or_default() += 1;
        self.arm(now, session);
    }

    /// The session is gone.
    pub(super) fn ended(&mut self, session: i64) {
        let Some(clock) = self.all.remove(&session) else { return };
        self.looks.remove(&(clock.look_at, session));
        let timeout_ms = clock.timeout.as_millis() as u64;
        match self.timeouts.get_mut(&timeout_ms) {
            Some(1) => drop(self.timeouts.remove(&timeout_ms)),
            Some(n) => *n -= 1,
            None => panic!("session {session:#x} has a timeout of {timeout_ms} ms that was not counted"),
        }
    }

    /// The session, if mine, was last heard at `at`.
    pub(super) fn heard(&mut self, session: i64, at: Instant) {
        if let Some(clock) = self.all.get_mut(&session).filter(|c| c.mine) {
            clock.alive_at = clock.alive_at.max(at);
        }
    }

    /// All clocks start anew: what was silent till now may have been this node, or the log.
    pub(super) fn restart(&mut self, now: Instant) {
        self.running_from = self.running_from.max(now);
    }

    /// The shortest timeout of all sessions.
    pub(super) fn shortest_timeout(&self) -> Option<Duration> {
        self.timeouts.keys().next().map(|ms| Duration::from_millis(*ms))
    }

    /// When to look next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.looks.first().map(|l| l.0)
    }

    /// A session to be looked at now, each once until it is.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<i64> {
        let first = *self.looks.first().filter(|l| l.0 <= now)?;
        self.looks.remove(&first);
        Some(first.1)
    }

    /// Looks at a session that came from [`Clocks::pop_due`]: whether it was silent too long. `heard_at` is
    /// when its connection here was last heard, if it has one. If it was, it is looked at again soon.
    pub(super) fn look(&mut self, now: Instant, session: i64, seen: Seen, heard_at: Option<Instant>) -> bool {
        let clock = self.all.get_mut(&session).expect("a session with a look has a clock");
        match heard_at {
            Some(at) if clock.mine => clock.alive_at = clock.alive_at.max(at),
            _ if !clock.mine && clock.seen != seen => clock.alive_at = now,
            _ => {}
        }
        clock.seen = seen;
        let silent = now.since(clock.alive_at.max(self.running_from)) >= clock.patience();
        self.arm(now, session);
        silent
    }

    /// Sets the next look: mine when the timeout would be over, others several times before that.
    fn arm(&mut self, now: Instant, session: i64) {
        let clock = self.all.get_mut(&session).expect("the session has a clock");
        let part = clock.timeout / TOUCHES_PER_TIMEOUT;
        let over = clock.alive_at.max(self.running_from) + clock.patience();
        let at = match clock.mine {
            _ if over <= now => now + part,
            true => over,
            false => over.min(now + part),
        };
        clock.look_at = on_grid(at);
        self.looks.insert((clock.look_at, session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u32 = 4000;

    fn ms(n: u64) -> Instant {
        Instant(n * 1_000_000)
    }

    /// Looks at everything due at each time the clocks ask for, and returns when the session was found silent.
    fn silent_at(clocks: &mut Clocks, end: Instant, seen: impl Fn(Instant) -> Seen) -> Option<Instant> {
        while let Some(at) = clocks.next_look().filter(|at| *at <= end) {
            while let Some(session) = clocks.pop_due(at) {
                if clocks.look(at, session, seen(at), None) {
                    return Some(at);
                }
            }
        }
        None
    }

    #[test]
    fn mine_is_silent_after_its_timeout_and_not_before() {
        let mut c = Clocks::new();
        let seen = (Gsn(1), Gsn(1));
        c.attached(ms(0), 7, T, true, seen);
        c.heard(7, ms(3000));
        assert_eq!(silent_at(&mut c, ms(60_000), |_| seen), Some(ms(7000)));
    }

    #[test]
    fn anothers_has_a_touch_interval_of_grace_and_every_touch_restarts_it() {
        let seen = |_| (Gsn(1), Gsn(1));
        let mut c = Clocks::new();
        c.attached(ms(0), 7, T, false, seen(ms(0)));
        assert_eq!(silent_at(&mut c, ms(60_000), seen), Some(ms(5000)));

        let touched = |at: Instant| (Gsn(1), Gsn(at.0.min(20_000_000_000) / 900_000_000));
        let mut c = Clocks::new();
        c.attached(ms(0), 7, T, false, touched(ms(0)));
        let at = silent_at(&mut c, ms(60_000), touched).expect("silent in the end");
        assert!(at >= ms(20_000 + 5000) && at <= ms(20_000 + 6100), "{at:?}");
    }

    #[test]
    fn a_restart_gives_everyone_the_whole_timeout_again() {
        let seen = (Gsn(1), Gsn(1));
        let mut c = Clocks::new();
        c.attached(ms(0), 7, T, true, seen);
        c.restart(ms(3500));
        assert_eq!(silent_at(&mut c, ms(7400), |_| seen), None);
        assert_eq!(silent_at(&mut c, ms(60_000), |_| seen), Some(ms(7500)));
    }

    #[test]
    fn the_shortest_timeout_is_that_of_those_that_live() {
        let mut c = Clocks::new();
        for (session, timeout_ms) in [(1, 9000), (2, 4000), (3, 4000)] {
            c.attached(ms(0), session, timeout_ms, false, (Gsn(0), Gsn(0)));
        }
        assert_eq!(c.shortest_timeout(), Some(Duration::from_millis(4000)));
        c.ended(2);
        c.attached(ms(1), 3, 5000, true, (Gsn(0), Gsn(0)));
        assert_eq!(c.shortest_timeout(), Some(Duration::from_millis(5000)));
        c.ended(3);
        c.ended(1);
        assert_eq!((c.shortest_timeout(), c.next_look()), (None, None));
    }
}
