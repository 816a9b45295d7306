//! May this raft message be stepped? raft-rs trusts its peers and panics on what an honest one never sends;
//! here foreign bytes become either a message it can take, or a reason.

use super::storage::{Log, from_raft};
use crate::sequencer::State;
use bytes::Bytes;
use protobuf::Message as _;
use raft::prelude::{Message, MessageType};
use raft::{Raft, StateRole};
use zoolog_core::{ClusterId, OrdererId};

/// No honest term, index or commit gets here; below it nothing overflows.
const NUMBER_MAX: u64 = 1 << 62;

/// Parts of a message, for the walk over its fields.
#[derive(Clone, Copy)]
enum Part {
    Message,
    Snapshot,
    Metadata,
    Leaf,
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Walks the fields without recursion into the unknown: the decoder of protobuf 2 follows nested groups, of
/// which raft has none, as deep as its stack goes, and beyond.
fn has_no_groups(mut bytes: &[u8], part: Part) -> bool {
    while !bytes.is_empty() {
        let Some(tag) = varint(&mut bytes) else { return false };
        let skip = match tag & 7 {
            0 => match varint(&mut bytes) {
                Some(_) => 0,
                None => return false,
            },
            1 => 8,
            2 => match varint(&mut bytes).and_then(|n| usize::try_from(n).ok()) {
                Some(n) => n,
                None => return false,
            },
            5 => 4,
            _ => return false,
        };
        let Some((field, rest)) = bytes.split_at_checked(skip) else { return false };
        bytes = rest;
        let inner = match (part, tag >> 3) {
            (Part::Message, 7) | (Part::Metadata, 1) => Some(Part::Leaf),
            (Part::Message, 9) => Some(Part::Snapshot),
            (Part::Snapshot, 2) => Some(Part::Metadata),
            _ => None,
        };
        if tag & 7 == 2 && inner.is_some_and(|p| !has_no_groups(field, p)) {
            return false;
        }
    }
    true
}

/// Decodes the message that `from` sent to `to`.
///
/// # Errors
/// Why it is none.
pub(super) fn decode(from: OrdererId, to: u64, payload: &Bytes) -> Result<Message, String> {
    if !has_no_groups(payload, Part::Message) {
        return Err(format!("{} bytes that are no raft message", payload.len()));
    }
    let m = Message::parse_from_carllerche_bytes(payload).map_err(|e| format!("no raft message: {e}"))?;
    if m.from != from.0 || m.to != to {
        return Err(format!("a raft message from {} to {} came from {from} to {to}", m.from, m.to));
    }
    Ok(m)
}

/// Whether raft in its present state can take it.
///
/// # Errors
/// Why not.
pub(super) fn check(raft: &Raft<Log>, cluster: ClusterId, m: &Message) -> Result<(), String> {
    use MessageType::*;
    let kind = m.get_msg_type();
    let last = raft.raft_log.last_index();
    let numbers = [m.term, m.log_term, m.index, m.commit, m.commit_term, m.reject_hint];
    if m.term == 0 || numbers.iter().any(|n| *n > NUMBER_MAX) || m.request_snapshot != 0 {
        return Err(format!("{kind:?} with impossible numbers {numbers:?}"));
    }
    // A log in which nothing is has nothing to vote with: its owner waits for its first snapshot.
    if last == 0 && matches!(kind, MsgRequestVote | MsgRequestPreVote | MsgTimeoutNow) {
        return Err("we know nothing yet, so we have no vote".into());
    }
    match kind {
        MsgTimeoutNow if m.term != raft.term || m.from != raft.leader_id => {
            Err("leadership is handed over by somebody who does not lead".into())
        }
        MsgTimeoutNow => Ok(()),
        MsgRequestVote | MsgRequestPreVote | MsgRequestPreVoteResponse | MsgHeartbeatResponse => Ok(()),
        // A late vote for who leads already is nothing special: raft passes over it.
        MsgRequestVoteResponse if raft.state == StateRole::Candidate && raft.raft_log.persisted != last => {
            Err("a vote for a candidacy that can't have been announced yet".into())
        }
        MsgRequestVoteResponse => Ok(()),
        MsgHeartbeat if m.term >= raft.term && m.commit > last => Err(format!(
            "the leader says that we hold entries up to {}, our log ends at {last}: this member lost its disk; \
             it must be replaced under a new id",
            m.commit
        )),
        MsgHeartbeat => Ok(()),
        MsgAppendResponse if m.term == raft.term && (m.index > last || m.reject_hint > last) => {
            Err(format!("a member holds entry {}, ours end at {last}", m.index.max(m.reject_hint)))
        }
        MsgAppendResponse => Ok(()),
        MsgAppend => append(m),
        MsgSnapshot => snapshot(raft, cluster, m),
        _ => Err(format!("{kind:?} has no place between orderers")),
    }
}

fn append(m: &Message) -> Result<(), String> {
    // Term 0 is that of the empty log before entry 1, and raft's answer for entries it doesn't have.
    if (m.index == 0) != (m.log_term == 0) {
        return Err(format!("entries behind {} of term {}", m.index, m.log_term));
    }
    let mut term = m.log_term.max(1);
    for (i, e) in m.entries.iter().enumerate() {
        if e.index != m.index + 1 + i as u64 || e.term < term || e.term > m.term {
            return Err(format!(
                "entry {} of term {} has no place behind {} of term {term}",
                e.index, e.term, m.index
            ));
        }
        term = e.term;
    }
    Ok(())
}

fn snapshot(raft: &Raft<Log>, cluster: ClusterId, m: &Message) -> Result<(), String> {
    let meta = m.get_snapshot().get_metadata();
    if meta.index == 0 || meta.index > NUMBER_MAX || meta.term > m.term || meta.term == 0 {
        return Err(format!("a snapshot of entry {} of term {}", meta.index, meta.term));
    }
    let state = State::decode(cluster, m.get_snapshot().get_data()).map_err(|e| format!("snapshot: {e}"))?;
    let (says, holds) = (from_raft(meta.get_conf_state()), state.members().conf());
    let odd = meta.get_conf_state().get_auto_leave() == says.outgoing.is_empty()
        || !meta.get_conf_state().get_learners_next().is_empty();
    if says != holds || odd {
        return Err(format!("a snapshot for members {says:?}, in it they are {holds:?}"));
    }
    if !says.voters.iter().chain(&says.outgoing).chain(&says.learners).any(|id| *id == raft.id) {
        return Err(format!("a snapshot for members {says:?}, without us"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nested_groups_are_refused_before_the_decoder_sees_them() {
        // Field 31 of wire type 3 (start of a group), over and over.
        let bomb = Bytes::from([0xfb, 0x01].repeat(4 << 20));
        assert!(decode(OrdererId(2), 1, &bomb).is_err());
        // The same one level down, in field 7 (an entry).
        let mut inner = vec![0x3a, 0x80, 0x80, 0x80, 0x04];
        inner.extend([0xfb, 0x01].repeat(4 << 20));
        assert!(decode(OrdererId(2), 1, &inner.into()).is_err());
    }

    #[test]
    fn an_honest_message_passes() {
        let mut m = Message::default();
        m.set_msg_type(MessageType::MsgAppend);
        m.from = 2;
        m.to = 1;
        m.mut_snapshot().mut_metadata().mut_conf_state().set_voters(vec![1, 2, 3]);
        m.mut_entries().push_default().set_data(b"data".to_vec().into());
        let bytes = Bytes::from(m.write_to_bytes().unwrap());
        assert_eq!(decode(OrdererId(2), 1, &bytes).unwrap(), m);
        assert!(decode(OrdererId(3), 1, &bytes).is_err(), "somebody else's");
        assert!(decode(OrdererId(2), 3, &bytes).is_err(), "for somebody else");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(OrdererId(2), 1, &Bytes::from(bytes));
        }
    }
}
