//! Where does raft read its log? From memory: everything that was handed to the write-ahead log, down to
//! some slack below what is applied. Who needs older entries gets a snapshot.

use crate::sequencer::Conf;
use protobuf::Message as _;
use raft::prelude::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::Cell;
use std::collections::VecDeque;

/// Applied entries kept for members that lag a little.
const SLACK_ENTRIES: u64 = 10_000;
/// Bytes of them, at most.
const SLACK_BYTES: usize = 4 << 20;

/// Raft's log in memory.
pub(crate) struct Log {
    /// Index of the first entry.
    first: u64,
    /// Term of the entry before it.
    before: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    hard: HardState,
    conf: ConfState,
    /// The last entry that changed the members, or would have.
    changed: u64,
    snapshot: Option<Snapshot>,
    /// Raft asked for a snapshot that wasn't there.
    wanted: Cell<bool>,
}

/// The members as raft writes them.
pub(super) fn to_raft(members: &Conf) -> ConfState {
    let mut conf = ConfState::default();
    conf.set_voters(members.voters.clone());
    conf.set_learners(members.learners.clone());
    conf.set_voters_outgoing(members.outgoing.clone());
    conf.set_auto_leave(!members.outgoing.is_empty());
    conf
}

/// The members as raft has them. Whom it makes a learner only later it never has: nobody who votes is to learn.
pub(super) fn from_raft(conf: &ConfState) -> Conf {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Conf {
        voters: sorted(conf.get_voters()),
        outgoing: sorted(conf.get_voters_outgoing()),
        learners: sorted(conf.get_learners()),
    }
}

fn bytes_of(e: &Entry) -> usize {
    e.data.len() + e.context.len() + 32
}

impl Log {
    /// A log that starts behind `index`, whose term is `term`, of these members.
    pub fn new(index: u64, term: u64, members: &Conf) -> Self {
        Self {
            first: index + 1,
            before: term,
            entries: VecDeque::new(),
            bytes: 0,
            hard: HardState::default(),
            conf: to_raft(members),
            changed: 0,
            snapshot: None,
            wanted: Cell::new(false),
        }
    }

    /// Index of the entry before the first.
    pub fn start(&self) -> u64 {
        self.first - 1
    }

    /// Index of the last entry.
    pub fn last(&self) -> u64 {
        self.first + self.entries.len() as u64 - 1
    }

    /// All members: those that vote, those that voted before, those that learn.
    pub fn members(&self) -> impl Iterator<Item = u64> + '_ {
        let conf = &self.conf;
        let outgoing = conf.get_voters_outgoing().iter().filter(|id| !conf.get_voters().contains(id));
        conf.get_voters().iter().chain(outgoing).chain(conf.get_learners()).copied()
    }

    /// The last entry that changed the members, or would have.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// Whether that member votes, also behind a joint set.
    pub fn stays(&self, id: u64) -> bool {
        self.conf.get_voters().contains(&id)
    }

    /// The members are others from now on, as raft has them. A snapshot from before is of no use to who is new.
    pub fn set_conf(&mut self, conf: ConfState) {
        self.snapshot = None;
        self.conf = conf;
    }

    /// Term and vote, and how far the log was known to be committed.
    pub fn hard(&self) -> &HardState {
        &self.hard
    }

    pub fn set_hard(&mut self, hard: HardState) {
        self.hard = hard;
    }

    /// Takes entries, replacing those from the first of them on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(from) = entries.first().map(Entry::get_index) else { return };
        assert!(
            self.first <= from && from <= self.last() + 1,
            "entries from {from} on a log of {}..={}",
            self.first,
            self.last()
        );
        for old in self.entries.drain((from - self.first) as usize..) {
            self.bytes -= bytes_of(&old);
        }
        for (i, e) in entries.iter().enumerate() {
            assert_eq!(e.index, from + i as u64, "entries have a hole");
            self.bytes += bytes_of(e);
            if e.get_entry_type() != EntryType::EntryNormal {
                self.changed = e.index;
            }
            self.entries.push_back(e.clone());
        }
    }

    /// Starts anew behind a snapshot.
    pub fn restore(&mut self, index: u64, term: u64, conf: ConfState) {
        self.conf = conf;
        self.first = index + 1;
        self.before = term;
        self.entries.clear();
        self.bytes = 0;
        self.snapshot = None;
    }

    /// Forgets applied entries beyond the slack.
    pub fn compact(&mut self, applied: u64) {
        while self.first <= applied
            && (applied - self.first >= SLACK_ENTRIES || self.bytes > SLACK_BYTES)
            && let Some(old) = self.entries.pop_front()
        {
            self.bytes -= bytes_of(&old);
            self.before = old.term;
            self.first += 1;
        }
        if self.snapshot.as_ref().is_some_and(|s| s.get_metadata().index < self.start()) {
            self.snapshot = None;
        }
    }

    /// Entries behind `index`.
    pub fn behind(&self, index: u64) -> impl Iterator<Item = &Entry> {
        let skip = (index + 1).saturating_sub(self.first) as usize;
        self.entries.iter().skip(skip)
    }

    /// The term of an entry that is here, or of the one before the first.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.start() {
            return Some(self.before);
        }
        let i = index.checked_sub(self.first)?;
        self.entries.get(usize::try_from(i).ok()?).map(|e| e.term)
    }

    /// Whether raft waits for [`Log::offer`].
    pub fn wants_snapshot(&self) -> bool {
        self.wanted.get()
    }

    /// A snapshot of the state at `index`, for a member that lags.
    pub fn offer(&mut self, index: u64, state: Vec<u8>) {
        let term = self.term_of(index).expect("the applied entry, or the one before the first, is here");
        let mut s = Snapshot::default();
        s.set_data(state.into());
        let meta = s.mut_metadata();
        meta.set_index(index);
        meta.set_term(term);
        meta.set_conf_state(self.conf.clone());
        self.snapshot = Some(s);
        self.wanted.set(false);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let wanted = self.entries.range((low - self.first) as usize..(high - self.first) as usize);
        let fits = wanted.take_while(|e| {
            let before = size;
            size += u64::from(e.compute_size());
            before == 0 || size <= limit
        });
        Ok(fits.cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.first => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let fresh = |s: &&Snapshot| {
            let index = s.get_metadata().index;
            index >= request_index && index >= self.start()
        };
        match self.snapshot.as_ref().filter(fresh) {
            Some(s) => Ok(s.clone()),
            None => {
                self.wanted.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voting(ids: &[u64]) -> Conf {
        Conf { voters: ids.to_vec(), ..Conf::default() }
    }

    fn entry(index: u64, term: u64) -> Entry {
        let mut e = Entry::default();
        e.set_index(index);
        e.set_term(term);
        e.set_data(vec![0; 10].into());
        e
    }

    fn get(log: &Log, low: u64, high: u64, max: u64) -> raft::Result<Vec<u64>> {
        let got = log.entries(low, high, max, GetEntriesContext::empty(false))?;
        Ok(got.iter().map(|e| e.index).collect())
    }

    #[test]
    fn a_conflicting_append_truncates_what_was_there() {
        let mut log = Log::new(0, 0, &voting(&[1]));
        log.append(&[entry(1, 1), entry(2, 1), entry(3, 1)]);
        log.append(&[entry(2, 2)]);
        assert_eq!((log.last(), log.term(2).unwrap(), log.bytes), (2, 2, 2 * bytes_of(&entry(1, 1))));
        assert_eq!(log.term(3), Err(StorageError::Unavailable.into()));
    }

    #[test]
    fn entries_come_at_least_one_and_within_the_limit() {
        let mut log = Log::new(4, 1, &voting(&[1]));
        log.append(&(5..15).map(|i| entry(i, 1)).collect::<Vec<_>>());
        assert_eq!(get(&log, 5, 15, 0).unwrap(), [5]);
        assert_eq!(get(&log, 6, 9, u64::MAX).unwrap(), [6, 7, 8]);
        let one = u64::from(entry(5, 1).compute_size());
        assert_eq!(get(&log, 5, 15, 3 * one).unwrap(), [5, 6, 7]);
        assert_eq!(get(&log, 4, 6, 9), Err(StorageError::Compacted.into()));
    }

    #[test]
    fn compaction_keeps_slack_and_the_term_before_the_first() {
        let mut log = Log::new(0, 0, &voting(&[1]));
        log.append(&(1..=SLACK_ENTRIES + 50).map(|i| entry(i, i / 100)).collect::<Vec<_>>());
        log.compact(SLACK_ENTRIES + 20);
        assert_eq!(log.start(), 20);
        assert_eq!((log.term(20).unwrap(), log.term(19)), (0, Err(StorageError::Compacted.into())));
        assert_eq!(log.last(), SLACK_ENTRIES + 50);
    }

    #[test]
    fn a_snapshot_is_made_on_demand_and_forgotten_when_too_old_to_help() {
        let mut log = Log::new(0, 0, &voting(&[1, 2]));
        log.append(&(1..=SLACK_ENTRIES + 50).map(|i| entry(i, 1)).collect::<Vec<_>>());
        assert!(log.snapshot(0, 2).is_err() && log.wants_snapshot());
        log.offer(10, b"state".to_vec());
        assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 10);
        log.compact(SLACK_ENTRIES + 30);
        assert!(log.snapshot(0, 2).is_err(), "entries behind index 10 are gone");
    }
}
