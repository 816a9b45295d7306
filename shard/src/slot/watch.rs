//! Is the other side still there? A connection whose peer owes us something and is silent is asked for a
//! sign of life, and then given up: a network may swallow everything without ever closing.

use std::time::Duration;
use zoolog_core::Instant;

/// Watches one dialled connection. Costs no timer while nothing is owed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    owed_since: Option<Instant>,
    heard: Instant,
    asked: bool,
}

/// What to do about a silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Ask for a sign of life.
    Ask,
    /// Give it up.
    Dead,
}

impl Watch {
    /// Starts to watch a new connection, which owes us its completion.
    pub fn dialled(now: Instant) -> Self {
        Self { owed_since: Some(now), heard: now, asked: false }
    }

    /// Something came.
    pub fn heard(&mut self, now: Instant) {
        (self.heard, self.asked) = (now, false);
    }

    /// Whether something is owed now.
    pub fn owes(&mut self, now: Instant, owes: bool) {
        if !owes {
            (self.owed_since, self.asked) = (None, false);
        } else if self.owed_since.is_none() {
            self.owed_since = Some(now);
        }
    }

    /// When to look again.
    pub fn deadline(&self, silence: Duration) -> Option<Instant> {
        let since = self.owed_since?.max(self.heard);
        Some(since + silence * if self.asked { 2 } else { 1 })
    }

    /// Looks.
    pub fn look(&mut self, now: Instant, silence: Duration) -> Verdict {
        if self.deadline(silence).is_none_or(|d| now < d) {
            return Verdict::Fine;
        }
        if self.asked {
            return Verdict::Dead;
        }
        self.asked = true;
        Verdict::Ask
    }
}

/// The pause before the `fails`th attempt in a row to dial: 20 ms, doubling up to 500 ms.
pub(crate) fn backoff(fails: u32) -> Duration {
    Duration::from_millis((20u64 << fails.min(5)).min(500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silent_debtor_is_asked_and_then_given_up() {
        let (s, at) = (Duration::from_secs(1), |ms: u64| Instant(ms * 1_000_000));
        let mut w = Watch::dialled(at(0));
        w.owes(at(0), false);
        assert_eq!((w.deadline(s), w.look(at(90_000), s)), (None, Verdict::Fine));
        w.owes(at(90_000), true);
        w.owes(at(90_500), true);
        assert_eq!(w.look(at(90_999), s), Verdict::Fine);
        assert_eq!(w.look(at(91_000), s), Verdict::Ask);
        assert_eq!(w.look(at(91_500), s), Verdict::Fine);
        w.heard(at(91_600));
        assert_eq!(w.look(at(92_599), s), Verdict::Fine);
        assert_eq!(w.look(at(92_600), s), Verdict::Ask);
        assert_eq!(w.look(at(93_600), s), Verdict::Dead);
        assert_eq!((backoff(0), backoff(9)), (Duration::from_millis(20), Duration::from_millis(500)));
    }
}
