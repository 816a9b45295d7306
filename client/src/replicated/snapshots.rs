//! When is a snapshot taken, and what follows from it? One at a time, after so many records or bytes; each piece goes out when
//! the one before it is saved. What lies in the log before the second newest good one is let go.
//!
//! The next waits until as many bytes of records were applied as the last one had: under load, snapshots write no more
//! than the log does, and a start reads at most about as much log as snapshot.

use super::image::Taking;
use std::time::Duration;
use zoolog_core::{Gsn, Instant};

/// After a failure (a full disk, say) the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(60);

/// What a node knows of its snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// One is taken after so many records, or bytes of them; 0: not for that reason.
    every: (u64, u64),
    /// Records, and their bytes, applied since the last one began.
    since: (u64, u64),
    /// Bytes of the last, or of the one that is being taken, so far.
    bytes: u64,
    taking: Option<Taking>,
    retry_at: Instant,
    /// Somebody wants one, whether or not it is time for it.
    wanted: bool,
    /// Of the one that this life began with.
    pub began: Option<Gsn>,
    pub newest: Option<Gsn>,
    pub second_newest: Option<Gsn>,
}

/// What came of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Saved {
    /// The next is to go out.
    Goes,
    /// The snapshot is complete: what lies before this position is not needed any more, if there is one.
    Complete(Option<Gsn>),
    /// There is no snapshot.
    Failed,
}

impl Snapshots {
    pub fn new(every: (u64, u64), newest: Option<Gsn>, second_newest: Option<Gsn>) -> Self {
        let (taking, retry_at, wanted) = (None, Instant(0), false);
        let began = newest;
        Self { every, since: (0, 0), bytes: 0, taking, retry_at, wanted, began, newest, second_newest }
    }

    /// The state will be another: none is taken of this one. Returns whether the disk has a piece of one.
    pub fn leave(&mut self) -> bool {
        (self.since, self.bytes) = ((0, 0), 0);
        self.taking.take().is_some()
    }

    /// The state is that of a snapshot of so many bytes, which is on the disk now. What there was before is older than what
    /// the log still has.
    pub const fn fetched(&mut self, gsn: Gsn, bytes: u64) {
        (self.since, self.bytes) = ((0, 0), bytes);
        (self.began, self.newest, self.second_newest) = (Some(gsn), Some(gsn), None);
    }

    /// A record of that length was applied.
    pub const fn applied(&mut self, bytes: usize) {
        self.since.0 += 1;
        self.since.1 += bytes as u64;
    }

    /// One is to be taken as soon as can be.
    pub const fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether it is time for one of the state at `applied`.
    pub fn is_due(&self, now: Instant, applied: Gsn) -> bool {
        let (records, bytes) = self.since;
        let much = |have: u64, limit: u64| limit > 0 && have >= limit;
        let time = bytes >= self.bytes && (much(records, self.every.0) || much(bytes, self.every.1));
        self.taking.is_none()
            && self.newest.unwrap_or_default() < applied
            && (self.wanted || (time && self.retry_at <= now))
    }

    pub fn begin(&mut self, taking: Taking) {
        (self.taking, self.since, self.bytes, self.wanted) = (Some(taking), (0, 0), 0, false);
    }

    /// The next piece: position, bytes, whether it is the last.
    pub fn next(&mut self) -> (Gsn, Vec<u8>, bool) {
        let taking = self.taking.as_mut().expect("a snapshot is being taken");
        let (bytes, last) = taking.next();
        self.bytes += bytes.len() as u64;
        (taking.gsn, bytes, last)
    }

    /// The shell has saved a piece, or could not.
    pub fn saved(&mut self, now: Instant, gsn: Gsn, last: bool, result: &Result<(), String>) -> Saved {
        let taking = self.taking.as_ref().unwrap_or_else(|| panic!("no piece at {gsn} was to be saved"));
        assert_eq!(taking.gsn, gsn, "pieces of one snapshot are saved at a time");
        match result {
            Ok(()) if last => {
                self.taking = None;
                self.second_newest = self.newest.replace(gsn);
                Saved::Complete(self.second_newest)
            }
            Ok(()) => Saved::Goes,
            Err(_) => {
                self.taking = None;
                self.retry_at = now + RETRY;
                Saved::Failed
            }
        }
    }
}
