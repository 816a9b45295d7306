//! What of raft is on disk? One record per ready (entries with the hard state that covers them, or a
//! snapshot), and a checkpoint at the head of each segment; and how the log is put together again.

use super::storage::Log;
use crate::sequencer::{Conf, State};
use bytes::Bytes;
use raft::prelude::{Entry, EntryType, HardState};
use zoolog_core::wal::WalRecord;
use zoolog_core::{ClusterId, OrdererId};

/// The kind of all records in an orderer's write-ahead log.
pub(crate) const RAFT: u8 = 1;
const VERSION: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct EntryImage {
    index: u64,
    term: u64,
    /// Whether it is a proposal of ours; raft's own kinds are kept but never applied.
    normal: bool,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct HardImage {
    term: u64,
    vote: u64,
    commit: u64,
}

/// The state as of an applied entry.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SnapshotImage {
    pub index: u64,
    pub term: u64,
    pub state: Vec<u8>,
}

/// Whose log this is: drawn and written before its owner says anything to anybody.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Identity {
    /// Of this data directory; never 0.
    pub birth: u64,
    /// The first orderers of the cluster, if its owner is one of them; else empty: it joined later.
    pub first: Vec<(OrdererId, String)>,
    /// Whether it may take part. One that joined learns that from its first snapshot instead.
    pub born: bool,
    /// The births of the others among the first, as of when it was born.
    pub others: Vec<(OrdererId, u64)>,
    /// Why its owner must never take part again.
    pub dismissed: Option<String>,
}

/// What one ready, or one checkpoint, makes durable.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct RaftRecord {
    identity: Option<Identity>,
    pub snapshot: Option<SnapshotImage>,
    entries: Vec<EntryImage>,
    hard: Option<HardImage>,
}

impl RaftRecord {
    pub fn new<'a>(
        snapshot: Option<SnapshotImage>,
        entries: impl Iterator<Item = &'a Entry>,
        hard: &HardState,
    ) -> Self {
        let image = |e: &Entry| EntryImage {
            index: e.index,
            term: e.term,
            normal: e.get_entry_type() == EntryType::EntryNormal,
            data: e.data.to_vec(),
        };
        let hard = HardImage { term: hard.term, vote: hard.vote, commit: hard.commit };
        Self { identity: None, snapshot, entries: entries.map(image).collect(), hard: Some(hard) }
    }

    /// Nothing but whose log it is.
    pub fn of_identity(identity: Identity) -> Self {
        Self { identity: Some(identity), snapshot: None, entries: Vec::new(), hard: None }
    }

    /// With whose log it is.
    pub fn with(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    pub fn encode(&self) -> Bytes {
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(self).expect("our own records serialize");
        let mut out = Vec::with_capacity(1 + body.len());
        out.push(VERSION);
        out.extend_from_slice(&body);
        out.into()
    }

    /// As a record for the log.
    pub fn into_wal(self) -> WalRecord {
        let (first, last) = (self.entries.first(), self.entries.last());
        WalRecord {
            kind: RAFT,
            in_index: false,
            aux: self.entries.len() as u32,
            key1: first.map_or(0, |e| e.index),
            key2: last.map_or(0, |e| e.index),
            data: vec![self.encode()],
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&VERSION, body)) => rkyv::from_bytes::<Self, rkyv::rancor::Error>(body)
                .map_err(|_| format!("{} bytes that are no raft record", bytes.len())),
            Some((v, _)) => Err(format!("a raft record of version {v}, this build reads {VERSION}")),
            None => Err("an empty raft record".into()),
        }
    }
}

impl EntryImage {
    fn into_entry(self) -> Entry {
        let mut e = Entry::default();
        e.set_index(self.index);
        e.set_term(self.term);
        e.set_entry_type(if self.normal { EntryType::EntryNormal } else { EntryType::EntryConfChangeV2 });
        e.set_data(self.data.into());
        e
    }
}

/// What a record says, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// Index of the first and of the last entry.
    pub entries: Option<(u64, u64)>,
    /// Term of the last entry.
    pub last_term: u64,
    /// The entry as of which it has a snapshot.
    pub snapshot: Option<u64>,
    /// Term, vote and commit.
    pub hard: Option<(u64, u64, u64)>,
}

/// Reads a record only to say what is in it.
///
/// # Errors
/// When it is not ours.
pub(crate) fn summary(bytes: &[u8]) -> Result<RecordSummary, String> {
    let record = RaftRecord::decode(bytes)?;
    let (first, last) = (record.entries.first(), record.entries.last());
    Ok(RecordSummary {
        entries: first.zip(last).map(|(first, last)| (first.index, last.index)),
        last_term: last.map_or(0, |e| e.term),
        snapshot: record.snapshot.map(|s| s.index),
        hard: record.hard.map(|h| (h.term, h.vote, h.commit)),
    })
}

/// What was found on disk.
pub(crate) struct Restored {
    /// `None` if nothing was: this is the first start on this directory.
    pub identity: Option<Identity>,
    pub log: Log,
    pub state: State,
    /// The entry that `state` is as of.
    pub applied: u64,
}

/// Index and term of the entry that all first orderers agree on without having exchanged it: that they are the
/// first. Who has less is given a snapshot.
const FOUNDED: (u64, u64) = (1, 1);

/// Puts the log together from the newest checkpoint and the records behind it. The checkpoint may already
/// hold what the first of those say: each is taken as if nothing of it were known yet.
///
/// # Errors
/// When they are not ours, or have a hole; says how.
pub(crate) fn restore<'a>(
    cluster: ClusterId,
    checkpoint: Option<&[u8]>,
    tail: impl Iterator<Item = &'a [u8]>,
) -> Result<Restored, String> {
    let mut r = Restored {
        identity: None,
        log: Log::new(0, 0, &Conf::default()),
        state: State::new(cluster),
        applied: 0,
    };
    // An empty checkpoint is that of a log on which nothing has happened yet.
    if let Some(bytes) = checkpoint.filter(|b| !b.is_empty()) {
        r.take(RaftRecord::decode(bytes).map_err(|e| format!("checkpoint: {e}"))?)?;
    }
    for bytes in tail {
        r.take(RaftRecord::decode(bytes)?)?;
    }
    let mut hard = r.log.hard().clone();
    // An overwritten tail may take back what was only thought committed, never what was applied.
    hard.commit = hard.commit.clamp(r.applied, r.log.last().max(r.applied));
    hard.term = hard.term.max(r.log.term_of(r.log.last()).unwrap_or_default());
    r.log.set_hard(hard);
    Ok(r)
}

impl Restored {
    /// Begins with what the first orderers know of each other.
    pub fn found(&mut self, first: &[(OrdererId, String)]) {
        let (index, term) = FOUNDED;
        self.state = State::found(self.state.cluster, first);
        self.log = Log::new(index, term, &self.state.members().conf());
        self.applied = index;
        let mut hard = self.log.hard().clone();
        (hard.term, hard.commit) = (term, index);
        self.log.set_hard(hard);
    }

    fn take(&mut self, record: RaftRecord) -> Result<(), String> {
        if let Some(identity) = record.identity {
            if self.applied == 0 && !identity.first.is_empty() {
                self.found(&identity.first);
            }
            self.identity = Some(identity);
        }
        if let Some(s) = record.snapshot
            && s.index > self.applied
        {
            self.state = State::decode(self.state.cluster, &s.state)?;
            self.applied = s.index;
            let hard = self.log.hard().clone();
            self.log = Log::new(s.index, s.term, &self.state.members().conf());
            self.log.set_hard(hard);
        }
        let entries: Vec<Entry> = record
            .entries
            .into_iter()
            .filter(|e| e.index > self.applied)
            .map(EntryImage::into_entry)
            .collect();
        let dense = entries.windows(2).all(|w| w[0].index + 1 == w[1].index);
        if let Some(first) = entries.first() {
            if first.index > self.log.last() + 1 || !dense {
                return Err(format!(
                    "entries from {} on a log that ends at {}",
                    first.index,
                    self.log.last()
                ));
            }
            self.log.append(&entries);
        }
        if let Some(h) = record.hard {
            let mut hard = self.log.hard().clone();
            if h.term > hard.term || (h.term == hard.term && h.vote != 0) {
                hard.vote = h.vote;
            }
            hard.term = hard.term.max(h.term);
            hard.commit = hard.commit.max(h.commit);
            self.log.set_hard(hard);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
        range
            .map(|i| {
                EntryImage { index: i, term, normal: true, data: vec![i as u8, term as u8] }.into_entry()
            })
            .collect()
    }

    fn record(snapshot: Option<u64>, ents: &[Entry], term: u64, vote: u64, commit: u64) -> RaftRecord {
        let mut hard = HardState::default();
        hard.set_term(term);
        hard.set_vote(vote);
        hard.set_commit(commit);
        let state = State::new(ClusterId(5)).encode();
        let snapshot = snapshot.map(|index| SnapshotImage { index, term: 1, state });
        RaftRecord::new(snapshot, ents.iter(), &hard)
    }

    fn play(checkpoint: Option<&RaftRecord>, tail: &[RaftRecord]) -> Result<Restored, String> {
        let tail: Vec<Bytes> = tail.iter().map(RaftRecord::encode).collect();
        let checkpoint = checkpoint.map(RaftRecord::encode);
        restore(ClusterId(5), checkpoint.as_deref(), tail.iter().map(|b| &b[..]))
    }

    #[test]
    fn overwritten_entries_are_gone_and_the_newest_vote_counts() {
        let tail = [record(None, &entries(1..=5, 1), 1, 2, 0), record(None, &entries(3..=4, 2), 2, 3, 4)];
        let r = play(None, &tail).unwrap();
        assert_eq!((r.log.last(), r.log.term_of(2), r.log.term_of(3)), (4, Some(1), Some(2)));
        assert_eq!((r.log.hard().term, r.log.hard().vote, r.log.hard().commit), (2, 3, 4));
    }

    /// The checkpoint was taken while records were still on their way: they come again behind it.
    #[test]
    fn records_that_the_checkpoint_already_holds_change_nothing() {
        let late = record(None, &entries(8..=12, 2), 2, 1, 7);
        let whole = record(Some(10), &entries(11..=12, 2), 2, 1, 10);
        let r = play(Some(&whole), &[late.clone(), late]).unwrap();
        assert_eq!((r.applied, r.log.start(), r.log.last()), (10, 10, 12));
        assert_eq!(r.log.hard().commit, 10);
    }

    #[test]
    fn an_older_term_never_comes_back_and_commit_stays_within_the_log() {
        let r = play(
            None,
            &[record(None, &entries(1..=3, 3), 3, 2, 3), record(None, &entries(2..=2, 2), 2, 1, 3)],
        );
        let r = r.unwrap();
        assert_eq!((r.log.hard().term, r.log.hard().vote), (3, 2));
        assert_eq!((r.log.last(), r.log.hard().commit), (2, 2));
    }

    #[test]
    fn a_summary_says_what_is_in_a_record() {
        let said = summary(&record(Some(10), &entries(11..=12, 2), 3, 1, 10).encode()).unwrap();
        assert_eq!((said.entries, said.last_term, said.snapshot), (Some((11, 12)), 2, Some(10)));
        assert_eq!(said.hard, Some((3, 1, 10)));
        let none = summary(&record(None, &[], 3, 1, 10).encode()).unwrap();
        assert_eq!((none.entries, none.snapshot), (None, None));
        assert!(summary(b"\x09abc").unwrap_err().contains("version 9"));
    }

    #[test]
    fn a_hole_is_refused() {
        assert!(play(None, &[record(None, &entries(2..=3, 1), 1, 0, 0)]).is_err());
        assert!(
            play(Some(&record(Some(10), &[], 1, 0, 10)), &[record(None, &entries(12..=13, 1), 1, 0, 0)])
                .is_err()
        );
    }

    #[test]
    fn another_clusters_checkpoint_is_refused() {
        let bytes = record(Some(3), &[], 1, 0, 3).encode();
        let e = restore(ClusterId(6), Some(&bytes), std::iter::empty()).err().unwrap();
        assert!(e.contains("cluster"), "{e}");
    }

    #[test]
    fn the_first_orderers_begin_with_each_other_and_go_on_from_there() {
        let first = vec![(OrdererId(1), "a:1".to_string()), (OrdererId(2), "b:1".to_string())];
        let identity =
            Identity { birth: 7, first: first.clone(), born: false, others: Vec::new(), dismissed: None };
        let born = Identity { born: true, others: vec![(OrdererId(2), 8)], ..identity.clone() };
        let records = [RaftRecord::of_identity(identity), RaftRecord::of_identity(born.clone())];
        let r = play(None, &records).unwrap();
        assert_eq!((r.applied, r.log.last(), r.identity), (1, 1, Some(born.clone())));
        assert_eq!((r.log.hard().term, r.log.hard().commit), (1, 1));
        assert_eq!(r.log.members().collect::<Vec<_>>(), [1, 2]);
        let more = [&records[..], &[record(None, &entries(2..=4, 2), 2, 1, 3)]].concat();
        let r = play(None, &more).unwrap();
        assert_eq!((r.applied, r.log.last(), r.log.hard().commit), (1, 4, 3));
        let whole = record(Some(10), &[], 1, 0, 10).with(born);
        assert_eq!(play(Some(&whole), &[]).unwrap().applied, 10);
    }

    proptest! {
        #[test]
        fn damaged_records_are_refused_not_followed(at in 0usize..2000, bit in 0u8..8) {
            let mut bytes = record(Some(3), &entries(4..=9, 1), 1, 2, 5).encode().to_vec();
            let len = bytes.len();
            bytes[at % len] ^= 1 << bit;
            let _ = restore(ClusterId(5), Some(&bytes), std::iter::empty());
            let short = &bytes[..at % len];
            let _ = restore(ClusterId(5), None, std::iter::once(short));
        }
    }
}
