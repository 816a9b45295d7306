//! ZK-4: are an ended session's ephemerals gone, and a living one's there?

use super::{Verdict, promise};
use crate::observe::{ZkCall, ZkFact, ZkReply};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::Instant;

/// Who made which ephemeral, and which sessions are over.
#[derive(Debug, Default)]
pub struct Expiry {
    /// Names under `/e` by session, acknowledged and not deleted.
    held: BTreeMap<i64, BTreeSet<String>>,
    owner: BTreeMap<String, i64>,
    /// When their client learnt that they are over.
    ended: BTreeMap<i64, Instant>,
    expired: u64,
    client: BTreeMap<i64, u32>,
}

impl Expiry {
    /// Takes what one request came to.
    pub fn fact(&mut self, now: Instant, fact: &ZkFact) -> Verdict {
        self.client.insert(fact.session, fact.client);
        match (&fact.call, &fact.reply) {
            (ZkCall::Create { ephemeral: true, .. }, ZkReply::Ok { path, .. }) => {
                let path = path.as_deref().expect("a create's reply has a path");
                let name = path.rsplit('/').next().expect("a name").to_string();
                self.owner.insert(name.clone(), fact.session);
                self.held.entry(fact.session).or_default().insert(name);
            }
            (ZkCall::Delete { path }, ZkReply::Ok { .. } | ZkReply::Logged { .. } | ZkReply::Unknown) => {
                let name = path.rsplit('/').next().expect("a name");
                if let Some(session) = self.owner.get(name) {
                    self.held.entry(*session).or_default().remove(name);
                }
            }
            (ZkCall::Connect { resumed: true }, ZkReply::Expired) => {
                self.expired += 1;
                self.ended.entry(fact.session).or_insert(now);
            }
            (ZkCall::CloseSession, ZkReply::Ok { .. }) => {
                self.ended.entry(fact.session).or_insert(now);
            }
            (ZkCall::Children { path, synced }, ZkReply::Ok { names, .. }) if path == "/e" => {
                return self.children(fact, *synced, names);
            }
            _ => {}
        }
        Ok(())
    }

    fn children(&self, fact: &ZkFact, synced: Option<Instant>, names: &[String]) -> Verdict {
        let own = self.held.get(&fact.session);
        let missing = own.and_then(|own| own.iter().find(|n| !names.contains(n)));
        promise!("ZK-4", missing.is_none(), "{fact:?}: the session's own {missing:?} is not there");
        let Some(synced) = synced else { return Ok(()) };
        let stale = names.iter().find(|n| {
            self.owner.get(*n).and_then(|s| self.ended.get(s)).is_some_and(|&ended| ended < synced)
        });
        promise!("ZK-4", stale.is_none(), "{fact:?}: {stale:?} outlives its session");
        Ok(())
    }

    /// All sessions of a client that has been dead for long must be over by now. How many ephemerals they had.
    pub fn must_be_over(&mut self, client: u32, now: Instant) -> usize {
        let sessions: Vec<i64> = self.client.iter().filter(|&(_, c)| *c == client).map(|(s, _)| *s).collect();
        sessions.iter().for_each(|s| {
            self.ended.entry(*s).or_insert(now);
        });
        sessions.iter().filter_map(|s| self.held.get(s)).map(BTreeSet::len).sum()
    }

    /// Sessions that were found expired by their clients.
    pub fn expired(&self) -> u64 {
        self.expired
    }
}
