//! What must be done next for raft? One ready at a time becomes [`Work`]; what rests on its being durable
//! waits here until it is.

use super::Consensus;
use super::record::{RaftRecord, SnapshotImage};
use bytes::Bytes;
use protobuf::Message as _;
use raft::prelude::{Entry, EntryType, Message};
use zoolog_core::wal::WalRecord;
use zoolog_core::{OrdererId, Token};

/// A committed entry.
pub(crate) struct Committed {
    pub index: u64,
    pub term: u64,
    /// A proposal; `None` for a leader's first entry, and for kinds we don't use.
    pub data: Option<Bytes>,
}

/// What one ready asks for, to be done in this order.
#[derive(Default)]
pub(crate) struct Work {
    pub persist: Option<(Token, WalRecord)>,
    /// To members, in raft's encoding.
    pub messages: Vec<(OrdererId, Bytes)>,
    /// A state that replaces ours: (index, image).
    pub snapshot: Option<(u64, Bytes)>,
    /// To be applied, then reported by [`Consensus::applied`].
    pub entries: Vec<Committed>,
    /// (what `read_index` was called with, the index that must be applied first).
    pub reads: Vec<(u64, u64)>,
}

/// A ready that is not durable yet, or comes behind one.
pub(super) struct Waiting {
    token: Option<Token>,
    number: u64,
    messages: Vec<(OrdererId, Bytes)>,
    pub snapshot: Option<u64>,
}

fn encode(messages: Vec<Message>) -> Vec<(OrdererId, Bytes)> {
    let bytes = |m: Message| {
        (OrdererId(m.to), Bytes::from(m.write_to_bytes().expect("raft's own messages serialize")))
    };
    messages.into_iter().map(bytes).collect()
}

fn committed(e: Entry) -> Committed {
    let (index, term) = (e.index, e.term);
    let proposal = e.get_entry_type() == EntryType::EntryNormal && !e.data.is_empty();
    Committed { index, term, data: proposal.then_some(e.data) }
}

impl Consensus {
    /// The next ready, if there is one.
    pub fn next_work(&mut self) -> Option<Work> {
        if !self.node.has_ready() {
            return None;
        }
        let mut rd = self.node.ready();
        let mut work = Work { messages: encode(rd.take_messages()), ..Work::default() };
        let snapshot = (!rd.snapshot().is_empty()).then(|| rd.snapshot().clone());
        if let Some(s) = &snapshot {
            let meta = s.get_metadata();
            self.node.mut_store().restore(meta.index, meta.term);
            work.snapshot = Some((meta.index, s.data.clone()));
        }
        work.entries = rd.take_committed_entries().into_iter().map(committed).collect();
        let entries = rd.take_entries();
        self.node.mut_store().append(&entries);
        if let Some(hard) = rd.hs() {
            self.node.mut_store().set_hard(hard.clone());
        }
        for read in rd.read_states() {
            if let Ok(ctx) = read.request_ctx.as_slice().try_into() {
                work.reads.push((u64::from_le_bytes(ctx), read.index));
            }
        }
        let waiting = encode(rd.take_persisted_messages());
        let (number, must_sync) = (rd.number(), rd.must_sync());
        self.node.advance_append_async(rd);
        self.tame();
        if must_sync {
            let image = snapshot.as_ref().map(|s| SnapshotImage {
                index: s.get_metadata().index,
                term: s.get_metadata().term,
                voters: s.get_metadata().get_conf_state().get_voters().to_vec(),
                state: s.data.to_vec(),
            });
            let snapshot = image.as_ref().map(|s| s.index);
            let record = RaftRecord::new(image, entries.iter(), self.node.store().hard());
            let token = Token(self.next_token);
            self.next_token += 1;
            work.persist = Some((token, record.into_wal()));
            self.waiting.push_back(Waiting { token: Some(token), number, messages: waiting, snapshot });
        } else if self.waiting.is_empty() {
            self.node.on_persist_ready(number);
            work.messages.extend(waiting);
        } else {
            self.waiting.push_back(Waiting { token: None, number, messages: waiting, snapshot: None });
        }
        Some(work)
    }

    /// The record of `token`, and with it all before it, is durable. Returns the messages that waited.
    pub fn persisted(&mut self, token: Token) -> Vec<(OrdererId, Bytes)> {
        let known = self.waiting.iter().any(|w| w.token == Some(token));
        assert!(known, "{token:?} became durable, {} readies wait for others", self.waiting.len());
        let mut messages = Vec::new();
        let mut last = None;
        let mut reached = false;
        while self.waiting.front().is_some_and(|w| !reached || w.token.is_none())
            && let Some(w) = self.waiting.pop_front()
        {
            reached |= w.token == Some(token);
            messages.extend(w.messages);
            self.node.on_persist_ready(w.number);
            last = w.snapshot.or(last);
        }
        if let Some(index) = last {
            self.node.advance_apply_to(index);
        }
        self.tame();
        messages
    }
}
