//! What must be done next for raft? One ready at a time becomes [`Work`]; what rests on its being durable
//! waits here until it is.

use super::Consensus;
use super::record::{Identity, RaftRecord, SnapshotImage};
use super::thrifty::Outgoing;
use bytes::Bytes;
use protobuf::Message as _;
use raft::StateRole;
use raft::prelude::{ConfChangeV2, Entry, EntryType, Message, MessageType};
use zoolog_core::wal::WalRecord;
use zoolog_core::{OrdererId, Token};

/// A committed entry.
pub(crate) struct Committed {
    pub index: u64,
    pub term: u64,
    pub what: What,
}

/// What is in a committed entry.
pub(crate) enum What {
    /// A leader's first entry, or nothing that we understand.
    Nothing,
    /// A proposal.
    Proposal(Bytes),
    /// A change of the members: theirs is the decision whether it is made.
    Members(Bytes),
    /// The members of before count no more.
    LeaveJoint,
}

/// What one ready asks for, to be done in this order.
#[derive(Default)]
pub(crate) struct Work {
    pub persist: Option<(Token, WalRecord)>,
    /// To members.
    pub messages: Vec<Outgoing>,
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
    /// Raft's number of it; `None` if it is not raft's.
    number: Option<u64>,
    /// How far the record says that the log is committed.
    commit: u64,
    messages: Vec<Outgoing>,
    pub snapshot: Option<u64>,
}

/// Whether `next` says all that `m` does: appends are confirmed up to an index, so of several answers in a
/// row only the last is needed.
fn supersedes(next: &Message, m: &Message) -> bool {
    let confirms = |m: &Message| m.get_msg_type() == MessageType::MsgAppendResponse && !m.reject;
    confirms(m) && confirms(next) && (m.to, m.term) == (next.to, next.term) && m.index <= next.index
}

fn encode(messages: Vec<Message>) -> Vec<Outgoing> {
    let mut out = Vec::with_capacity(messages.len());
    let mut rest = messages.into_iter().peekable();
    while let Some(m) = rest.next() {
        if rest.peek().is_some_and(|next| supersedes(next, &m)) {
            continue;
        }
        let append = m.get_msg_type() == MessageType::MsgAppend;
        let append = append.then(|| m.entries.last().map_or(m.index, |e| e.index));
        let bytes = Bytes::from(m.write_to_bytes().expect("raft's own messages serialize"));
        out.push(Outgoing { to: OrdererId(m.to), bytes, append });
    }
    out
}

fn committed(e: Entry) -> Committed {
    let (index, term) = (e.index, e.term);
    let what = match e.get_entry_type() {
        EntryType::EntryNormal if !e.data.is_empty() => What::Proposal(e.data),
        EntryType::EntryConfChangeV2 if e.data.is_empty() => What::LeaveJoint,
        EntryType::EntryConfChangeV2 => ConfChangeV2::parse_from_carllerche_bytes(&e.data)
            .map_or(What::Nothing, |mut cc| What::Members(cc.take_context())),
        _ => What::Nothing,
    };
    Committed { index, term, what }
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
            self.node.mut_store().restore(meta.index, meta.term, meta.get_conf_state().clone());
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
        let (number, commit) = (rd.number(), self.node.store().hard().commit);
        // Who knows other members knows them for ever, before anybody is told that he does: else those who are not needed
        // any more could not go.
        let changed = self.node.store().changed();
        let must_sync = rd.must_sync() || (self.recorded_commit < changed && changed <= commit);
        self.node.advance_append_async(rd);
        self.tame();
        if must_sync {
            let image = snapshot.as_ref().map(|s| SnapshotImage {
                index: s.get_metadata().index,
                term: s.get_metadata().term,
                state: s.data.to_vec(),
            });
            let snapshot = image.as_ref().map(|s| s.index);
            let record = RaftRecord::new(image, entries.iter(), self.node.store().hard());
            let token = self.token();
            work.persist = Some((token, record.into_wal()));
            self.recorded_commit = commit;
            let (number, token) = (Some(number), Some(token));
            self.waiting.push_back(Waiting { token, number, commit, messages: waiting, snapshot });
        } else if self.waiting.is_empty() {
            self.durable(number);
            work.messages.extend(waiting);
        } else {
            let number = Some(number);
            self.waiting.push_back(Waiting {
                token: None,
                number,
                commit: 0,
                messages: waiting,
                snapshot: None,
            });
        }
        Some(work)
    }

    /// What that ready had to save is durable. A leader that is no member any more, since others made its removal durable
    /// before it did, may have to wait for its own disk; its copy counts for nothing, and raft, which looks its own copy up
    /// among the members', is told as a follower is.
    fn durable(&mut self, number: u64) {
        let raft = &mut self.node.raft;
        let removed = raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none();
        if removed {
            raft.state = StateRole::Follower;
        }
        self.node.on_persist_ready(number);
        if removed {
            self.node.raft.state = StateRole::Leader;
        }
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        token
    }

    /// Whose log it is, to be made durable.
    pub fn persist_identity(&mut self, identity: Identity) -> (Token, WalRecord) {
        let token = self.token();
        self.waiting.push_back(Waiting {
            token: Some(token),
            number: None,
            commit: 0,
            messages: Vec::new(),
            snapshot: None,
        });
        (token, RaftRecord::of_identity(identity).into_wal())
    }

    /// The record of `token`, and with it all before it, is durable. Returns the messages that waited.
    pub fn persisted(&mut self, token: Token) -> Vec<Outgoing> {
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
            self.durable_commit = self.durable_commit.max(w.commit);
            if let Some(number) = w.number {
                self.durable(number);
            }
            last = w.snapshot.or(last);
        }
        if let Some(index) = last {
            self.node.advance_apply_to(index);
        }
        self.tame();
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_confirmations_in_a_row_only_the_last_is_sent() {
        let m = |kind, to, index, reject| {
            let mut m = Message::default();
            m.set_msg_type(kind);
            (m.to, m.term, m.index, m.reject) = (to, 3, index, reject);
            m
        };
        use MessageType::{MsgAppendResponse as Yes, MsgHeartbeatResponse as Beat};
        let all = vec![
            m(Yes, 1, 5, false),
            m(Yes, 1, 6, false),
            m(Yes, 1, 6, true),
            m(Yes, 1, 7, false),
            m(Beat, 1, 0, false),
            m(Yes, 1, 9, false),
            m(Yes, 1, 8, false),
            m(Yes, 2, 9, false),
        ];
        let kept = [1, 2, 3, 4, 5, 6, 7].map(|i| Bytes::from(all[i].write_to_bytes().unwrap()));
        assert_eq!(encode(all).into_iter().map(|o| o.bytes).collect::<Vec<_>>(), kept);
    }
}
