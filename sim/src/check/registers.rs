//! ZK-1: are writes linearizable? Every write's reply names its place in the order (zxid) and, for data, the
//! version it made; so the history is checked against that order instead of searching for one.

use super::{Verdict, promise};
use crate::observe::{ZkCall, ZkFact, ZkLook, ZkReply, ZkStat};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use zoolog_core::Instant;

/// One version of one node's data: what all who saw it agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    mzxid: i64,
    value: Vec<u8>,
}

/// The history so far.
#[derive(Debug, Default)]
pub struct Registers {
    /// Greatest zxid of all writes answered up to a time.
    answered: Vec<(Instant, i64)>,
    /// The same per path, for sets.
    sets: BTreeMap<String, Vec<(Instant, i64)>>,
    zxids: BTreeSet<i64>,
    /// By (path, czxid, version).
    versions: BTreeMap<(String, i64, i32), Version>,
    /// Where each value was seen.
    values: BTreeMap<Vec<u8>, (String, i64, i32)>,
    /// Sequential nodes: acked paths, and how many were asked for.
    made: BTreeSet<String>,
    asked: u64,
    last_queue: Option<(i64, Vec<String>)>,
    writes: u64,
    reads: u64,
    /// What was shown in read-only sessions: path, zxid of its creation, of its last change, and of the answer.
    looks: BTreeSet<(String, i64, i64, i64)>,
    shown: usize,
}

impl Registers {
    /// Takes what one request came to.
    pub fn fact(&mut self, now: Instant, fact: &ZkFact) -> Verdict {
        match (&fact.call, &fact.reply) {
            (call, ZkReply::Ok { zxid, stat, data, path, names }) => match call {
                ZkCall::Set { path, value, version } => {
                    self.written(now, fact, *zxid)?;
                    let stat = stat.as_ref().expect("a set's reply has a stat");
                    promise!("ZK-1", stat.mzxid == *zxid, "{fact:?}: mzxid is not its zxid");
                    let right = *version == -1 || stat.version == version + 1;
                    promise!("ZK-1", right, "{fact:?}: not the version after the expected one");
                    let sets = self.sets.entry(path.clone()).or_default();
                    let max = sets.last().map_or(*zxid, |&(_, z)| z.max(*zxid));
                    sets.push((now, max));
                    self.version(fact, path, stat, value)
                }
                ZkCall::Get { path, synced } => {
                    self.reads += 1;
                    let stat = stat.as_ref().expect("a get's reply has a stat");
                    if let Some(synced) = synced {
                        let newest = newest(self.sets.get(path).map_or(&[], Vec::as_slice), *synced);
                        promise!(
                            "ZK-2",
                            stat.mzxid >= newest,
                            "{fact:?}: {newest} was answered before the sync"
                        );
                    }
                    self.version(fact, path, stat, data.as_deref().unwrap_or_default())
                }
                ZkCall::Create { sequential, ephemeral, .. } => {
                    self.written(now, fact, *zxid)?;
                    if *sequential && !*ephemeral {
                        let path = path.clone().expect("a create's reply has a path");
                        promise!("ZK-1", self.made.insert(path), "{fact:?}: that path was given before");
                    }
                    Ok(())
                }
                ZkCall::Delete { .. } => self.written(now, fact, *zxid),
                ZkCall::Children { path, synced: Some(_) } if path == "/q" => self.queue(fact, *zxid, names),
                ZkCall::Children { .. } | ZkCall::Connect { .. } | ZkCall::CloseSession => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Somebody was shown something who would take a read-only session.
    pub fn looked(&mut self, look: &ZkLook) -> Verdict {
        let (stat, zxid) = (look.stat, look.zxid);
        promise!("ZK-2", stat.mzxid <= zxid, "{look:?}: shows a change past its own header");
        if look.read_only {
            self.shown += 1;
            self.looks.insert((look.path.clone(), stat.czxid, stat.mzxid, zxid));
        }
        self.version(look, &look.path, &stat, &look.data)
    }

    /// What was shown in a read-only session is the state at one position: nothing that was changed before that is missing in it.
    fn looks_are_whole(&self) -> Verdict {
        for ((path, czxid, version), v) in &self.versions {
            let first = (path.clone(), *czxid, i64::MIN, i64::MIN);
            let last = (path.clone(), *czxid, v.mzxid - 1, i64::MAX);
            let missing = self.looks.range(first..=last).find(|(.., zxid)| *zxid >= v.mzxid);
            promise!(
                "ZK-2",
                missing.is_none(),
                "version {version}, made at {}, is not in {missing:?}",
                v.mzxid
            );
        }
        Ok(())
    }

    /// Things that were shown in read-only sessions.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// Somebody asks for an entry of the queue.
    pub fn enqueue(&mut self) {
        self.asked += 1;
    }

    /// A write's place must be its own, and behind all writes answered before it was asked.
    fn written(&mut self, now: Instant, fact: &ZkFact, zxid: i64) -> Verdict {
        self.writes += 1;
        promise!("ZK-1", self.zxids.insert(zxid), "{fact:?}: another write has that zxid");
        let newest = newest(&self.answered, fact.asked);
        promise!("ZK-1", zxid > newest, "{fact:?}: {newest} was answered before this was asked");
        let max = self.answered.last().map_or(zxid, |&(_, z)| z.max(zxid));
        self.answered.push((now, max));
        Ok(())
    }

    /// All who see a version see the same value and place; later versions have later places; a value is
    /// written once.
    fn version(&mut self, fact: &dyn Debug, path: &str, stat: &ZkStat, value: &[u8]) -> Verdict {
        let key = (path.to_string(), stat.czxid, stat.version);
        let version = Version { mzxid: stat.mzxid, value: value.to_vec() };
        if let Some(before) = self.versions.get(&key) {
            promise!("ZK-1", *before == version, "{fact:?}: others saw {before:?} at {key:?}");
            return Ok(());
        }
        let first = (key.0.clone(), key.1, i32::MIN);
        if let Some((below, v)) = self.versions.range(first..key.clone()).next_back() {
            promise!("ZK-1", v.mzxid < version.mzxid, "{fact:?}: version {below:?} is at {}", v.mzxid);
        }
        let last = (key.0.clone(), key.1, i32::MAX);
        if let Some((above, v)) = self.versions.range(key.clone()..last).next() {
            promise!("ZK-1", v.mzxid > version.mzxid, "{fact:?}: version {above:?} is at {}", v.mzxid);
        }
        if stat.version > 0 {
            let other = self.values.insert(value.to_vec(), key.clone());
            promise!("ZK-1", other.is_none(), "{fact:?}: the value was written twice, also as {other:?}");
        }
        self.versions.insert(key, version);
        Ok(())
    }

    /// A read of the queue, which nobody deletes from: names are unique, and what was answered before the
    /// sync is there.
    fn queue(&mut self, fact: &ZkFact, zxid: i64, names: &[String]) -> Verdict {
        let distinct: BTreeSet<&String> = names.iter().collect();
        promise!("ZK-1", distinct.len() == names.len(), "{fact:?}: a name comes twice");
        // Answers come in any order: the newest state counts, not the last answer.
        if self.last_queue.as_ref().is_none_or(|(newest, _)| *newest <= zxid) {
            self.last_queue = Some((zxid, names.to_vec()));
        }
        Ok(())
    }

    /// All is quiet and `/q` was read: every acknowledged create is there, and nothing that nobody asked for.
    fn queue_is(&self, names: &[String]) -> Verdict {
        let there: BTreeSet<String> = names.iter().map(|n| format!("/q/{n}")).collect();
        let lost = self.made.iter().find(|m| !there.contains(*m));
        promise!("ZK-1", lost.is_none(), "{lost:?} was created and is gone");
        let most = self.asked;
        promise!("ZK-1", there.len() as u64 <= most, "{} nodes from at most {most} creates", there.len());
        Ok(())
    }

    /// All is quiet and somebody has read the queue.
    pub fn finally(&self) -> Verdict {
        self.looks_are_whole()?;
        self.last_queue.as_ref().map_or(Ok(()), |(_, names)| self.queue_is(names))
    }

    /// Versions of registers that nobody who was answered has seen: writes that happened though their client
    /// never heard of it.
    pub fn unseen_versions(&self) -> usize {
        let mut last: BTreeMap<(&str, i64), i32> = BTreeMap::new();
        let mut unseen = 0;
        for (path, czxid, version) in self.versions.keys() {
            let before = last.insert((path, *czxid), *version).unwrap_or(0);
            unseen += (version - before - 1).max(0) as usize;
        }
        unseen
    }

    /// (writes, reads) that were answered.
    pub fn counts(&self) -> (u64, u64) {
        (self.writes, self.reads)
    }
}

/// The greatest zxid answered before `at`; the list's zxids are running maxima.
fn newest(answered: &[(Instant, i64)], at: Instant) -> i64 {
    let n = answered.partition_point(|&(t, _)| t < at);
    n.checked_sub(1).map_or(0, |i| answered[i].1)
}
