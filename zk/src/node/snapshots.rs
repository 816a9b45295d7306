//! When is a snapshot taken, and what follows from it? One at a time, after so many records or bytes; each
//! piece goes out when the one before it is saved. What lies in the log before the second newest good one is
//! let go: the newest may yet turn out to be unreadable.
//!
//! A snapshot costs what the whole state is long, so the next waits until as many bytes of records were applied
//! as the last one had: under load, snapshots write no more than the log does, and a start reads at most
//! about as much log as snapshot.

use super::{Back, NodeConfig, NodeEvent};
use crate::snapshot::{Pace, Restored, Taking};
use crate::state::State;
use std::time::Duration;
use zoolog_client::SharedLog;
use zoolog_core::stages::Summary;
use zoolog_core::{ClusterId, Gsn, Instant, Output};

/// After a failure (a full disk, say) the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(60);

/// What a node knows of its snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// Whose they are; 0 until known.
    pub cluster: ClusterId,
    /// Records, and their bytes, applied since the last snapshot began.
    pub since: (u64, u64),
    /// Bytes of the last snapshot, or of the one that is being taken, so far.
    bytes: u64,
    taking: Option<Taking>,
    /// One is wanted, be it time or not.
    wanted: bool,
    /// None begins before.
    retry_at: Instant,
    /// Of the one that this life began with.
    began_with: Option<Gsn>,
    newest: Option<Gsn>,
    second_newest: Option<Gsn>,
    /// When the last one began.
    begun_at: Instant,
    /// How long those took that came to their end.
    times: Summary,
}

impl Snapshots {
    /// Of a node that starts from `restored`.
    pub(super) fn new(cfg: &NodeConfig, restored: &Restored, now: Instant) -> Self {
        Self {
            cluster: cfg.cluster,
            since: (0, 0),
            bytes: 0,
            taking: None,
            wanted: false,
            retry_at: now,
            began_with: restored.newest,
            newest: restored.newest,
            second_newest: restored.second_newest,
            begun_at: now,
            times: Summary {
                name: "snapshot",
                count: 0,
                sum_us: 0,
                min_us: 0,
                max_us: 0,
                quantiles_us: [0; 4],
            },
        }
    }

    /// Position of the newest that is known to be good.
    pub(super) const fn newest(&self) -> Option<Gsn> {
        self.newest
    }

    /// How long those took that came to their end; without quantiles.
    pub(super) const fn times(&self) -> Summary {
        self.times
    }

    fn ended(&mut self, now: Instant) {
        let us = now.since(self.begun_at).as_micros() as u64;
        let t = &mut self.times;
        (t.min_us, t.max_us) = (if t.count == 0 { us } else { t.min_us.min(us) }, t.max_us.max(us));
        (t.count, t.sum_us) = (t.count + 1, t.sum_us + us);
    }

    /// The state is another from now on: none is taken of the one that was there. Returns whether the disk has a piece of one.
    pub(super) fn leave(&mut self) -> bool {
        (self.since, self.bytes) = ((0, 0), 0);
        self.taking.take().is_some()
    }

    /// Those that there were are gone.
    pub(super) const fn lost(&mut self) {
        (self.newest, self.second_newest) = (None, None);
    }

    /// The state is that of a snapshot of so many bytes, which is on the disk now. What there was before is older than
    /// what the log still has.
    pub(super) const fn restored(&mut self, gsn: Gsn, bytes: u64) {
        (self.since, self.bytes) = ((0, 0), bytes);
        (self.newest, self.second_newest) = (Some(gsn), None);
        self.began_with = Some(gsn);
    }

    /// The log goes on elsewhere from there: what it was before can go once snapshots reach that far.
    pub(super) fn moved(&mut self, tail: Gsn) {
        self.wanted = self.newest.is_none_or(|newest| newest < tail);
    }

    /// Position of the one that this life began with.
    pub(super) const fn began_with(&self) -> Option<Gsn> {
        self.began_with
    }

    /// A record of that length was applied.
    pub(super) const fn applied(&mut self, bytes: usize) {
        self.since.0 += 1;
        self.since.1 += bytes as u64;
    }

    fn is_due(&self, now: Instant, cfg: &NodeConfig) -> bool {
        let (records, bytes) = self.since;
        let much = |have: u64, limit: u64| limit > 0 && have >= limit;
        self.taking.is_none()
            && self.retry_at <= now
            && (self.wanted
                || bytes >= self.bytes
                    && (much(records, cfg.snapshot_records) || much(bytes, cfg.snapshot_bytes)))
    }
}

impl<L: SharedLog> Back<L> {
    /// Begins a snapshot of the state as it is, if it is time for one.
    pub(super) fn snapshot_if_due(&mut self, now: Instant, state: &mut State) {
        let fetch = &self.behind.fetch;
        if self.snapshots.is_due(now, &self.cfg) && !fetch.is_saving() && !fetch.is_on() {
            let taking = Taking::begin(state, self.snapshots.cluster, Pace::default());
            self.snapshots.taking = Some(taking);
            (self.snapshots.since, self.snapshots.wanted) = ((0, 0), false);
            self.snapshots.bytes = 0;
            self.snapshots.begun_at = now;
            self.save_piece(now, state);
        }
    }

    fn save_piece(&mut self, now: Instant, state: &mut State) {
        let taking = self.snapshots.taking.as_mut().expect("a snapshot is being taken");
        let gsn = taking.gsn();
        let (bytes, last) = taking.next(state);
        if let Some(damage) = taking.damage() {
            let what = damage.what.clone();
            return self.found_damage(now, &what);
        }
        self.snapshots.bytes += bytes.len() as u64;
        self.outbox.push_back(Output::SaveSnapshot { gsn, bytes, last });
    }

    /// The shell has saved a piece, or could not.
    pub(super) fn on_snapshot_saved(
        &mut self,
        now: Instant,
        state: &mut State,
        gsn: Gsn,
        last: bool,
        result: Result<(), String>,
    ) {
        if self.failed {
            return;
        }
        if self.behind.fetch.is_saving() {
            return self.behind.fetch.saved(now, last, result);
        }
        let taking =
            self.snapshots.taking.as_ref().unwrap_or_else(|| panic!("no piece at {gsn} was to be saved"));
        assert_eq!(taking.gsn(), gsn, "pieces of one snapshot are saved at a time");
        match result {
            Ok(()) if last => {
                self.snapshots.taking = None;
                self.snapshots.ended(now);
                self.snapshots.second_newest = self.snapshots.newest.replace(gsn);
                self.release_log();
                self.offer();
            }
            Ok(()) => self.save_piece(now, state),
            Err(why) => {
                let taking = self.snapshots.taking.take().expect("it was just there");
                taking.abandon(state);
                self.snapshots.retry_at = now + RETRY;
                let text = format!("no snapshot was taken at {gsn}: {why}; the log stays as long as needed");
                self.outbox.push_back(Output::Event(NodeEvent::Note(text)));
            }
        }
    }

    /// Says where others get the newest.
    pub(super) fn offer(&mut self) {
        if let (Some(addr), Some(gsn)) = (&self.cfg.gives_at, self.snapshots.newest) {
            self.log.offer(addr, gsn);
        }
    }

    /// Lets go of the log before the second newest snapshot.
    pub(super) fn release_log(&mut self) {
        if let Some(gsn) = self.snapshots.second_newest {
            self.log.release(gsn);
        }
    }
}
