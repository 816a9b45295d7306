//! How do watchers and the one who sets their node keep step, over all threads? In rounds: all arm their watch,
//! the node is set once, all hear of it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// What all threads know of the rounds.
#[derive(Debug)]
pub struct Storm {
    watchers: u32,
    /// The round that is going on, from 1.
    round: AtomicU64,
    /// Watchers whose watch stands in this round.
    armed: AtomicU32,
    /// Watchers that have heard, or whose watch went down with a connection.
    heard: AtomicU32,
    /// When the node was set in this round.
    fired_ns: AtomicU64,
    /// Raised whenever somebody may have new work.
    stirred: AtomicU64,
}

impl Storm {
    /// Of so many watchers.
    pub fn new(watchers: u32) -> Self {
        let zero = || AtomicU64::new(0);
        let (armed, heard) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { watchers, round: AtomicU64::new(1), armed, heard, fired_ns: zero(), stirred: zero() }
    }

    /// Whether session number `session` is the one that sets the node.
    pub fn is_setter(&self, session: u32) -> bool {
        session == self.watchers
    }

    /// The round that is going on.
    pub fn round(&self) -> u64 {
        self.round.load(SeqCst)
    }

    /// Changes whenever somebody may have new work.
    pub fn stirred(&self) -> u64 {
        self.stirred.load(SeqCst)
    }

    /// One more watch stands.
    pub fn armed(&self) {
        if self.armed.fetch_add(1, SeqCst) + 1 == self.watchers {
            self.stirred.fetch_add(1, SeqCst);
        }
    }

    /// A watch that stood went down with its connection.
    pub fn disarmed(&self) {
        self.armed.fetch_sub(1, SeqCst);
    }

    /// Whether the node may be set.
    pub fn is_ready(&self) -> bool {
        self.armed.load(SeqCst) >= self.watchers
    }

    /// The node is being set.
    pub fn fire(&self, now_ns: u64) {
        self.fired_ns.store(now_ns, SeqCst);
    }

    /// When it was set in this round; 0 if it was not yet.
    pub fn fired_ns(&self) -> u64 {
        self.fired_ns.load(SeqCst)
    }

    /// One more watcher has heard, or never will. True for the last, who ends the round.
    pub fn heard(&self) -> bool {
        let is_last = self.heard.fetch_add(1, SeqCst) + 1 == self.watchers;
        if is_last {
            self.heard.store(0, SeqCst);
            self.armed.store(0, SeqCst);
            self.fired_ns.store(0, SeqCst);
            // Last: who sees the new round finds all else reset.
            self.round.fetch_add(1, SeqCst);
            self.stirred.fetch_add(1, SeqCst);
        }
        is_last
    }
}

/// What one session knows of its watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// The round it was last asked for in.
    pub asked: u64,
    /// The round it last stood in.
    pub stood: u64,
    /// The round in which it last fired.
    pub fired: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_from_all_armed_to_all_heard() {
        let storm = Storm::new(3);
        for round in 1..4 {
            assert_eq!((storm.round(), storm.fired_ns(), storm.is_ready()), (round, 0, false));
            storm.armed();
            storm.armed();
            assert!(!storm.is_ready());
            let before = storm.stirred();
            storm.armed();
            assert!(storm.is_ready() && storm.stirred() > before);
            storm.fire(50);
            assert!(!storm.heard() && !storm.heard() && storm.heard());
        }
        assert!(storm.is_setter(3) && !storm.is_setter(2));
    }
}
