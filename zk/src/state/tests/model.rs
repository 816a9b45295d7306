//! What should a record do? The same rules once more, the slow and plain way: whole paths in a map, every
//! number counted instead of derived, everything copied before a multi.

use crate::access::Rules;
use crate::jute::ErrorCode;
use crate::jute::codes::perms;
use crate::tree::world;
use crate::txn::{
    Acl, AuthId, Change, CreateMode, Op, Outcome, Part, PartOutcome, Readers, Stat, Sweeping, Txn, flags,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a node lives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Life {
    #[default]
    Long,
    Session(i64),
    Container,
    Ttl(i64),
}

#[derive(Clone, Debug, Default)]
pub struct MNode {
    pub data: Option<Vec<u8>>,
    pub acl: Vec<Acl>,
    pub life: Life,
    pub stat: Stat,
    created: i64,
    deleted: i64,
}

#[derive(Clone, Debug)]
pub struct MSession {
    pub timeout_ms: u32,
    pub attach: u64,
    pub touch: u64,
    /// Its address, as the only identity that it has by itself.
    pub address: Vec<AuthId>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: BTreeMap<String, MNode>,
    pub sessions: BTreeMap<i64, MSession>,
    pub next: u64,
}

/// Whose write it is, and when.
struct By<'a> {
    session: i64,
    proved: &'a [AuthId],
    ids: Vec<AuthId>,
    flags: u8,
    zxid: i64,
    now: i64,
}

fn valid(path: &str) -> bool {
    path == "/"
        || path.starts_with('/')
            && path.split('/').skip(1).all(|n| !n.is_empty() && n != "." && n != "..")
            && path.chars().all(|c| c >= ' ')
}

/// Where a path's parent is in the map.
fn parent(path: &str) -> String {
    let at = path.rfind('/').expect("it has a slash");
    if at == 0 { "/".into() } else { path[..at].into() }
}

fn named(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

fn allows(acl: &[Acl], wanted: i32, by: &By<'_>) -> bool {
    let held = |id: &AuthId| (id.scheme == "world" && id.id == "anyone") || by.ids.contains(id);
    by.flags & flags::SKIP_ACL != 0
        || by.ids.iter().any(|i| i.scheme == "super")
        || acl.iter().any(|a| a.perms & wanted != 0 && held(&a.id))
}

/// Who alone may read.
fn readers(acl: &[Acl]) -> Option<Arc<Rules>> {
    let anyone = acl.iter().any(|a| a.id.scheme == "world" && a.perms & perms::READ != 0);
    (!anyone).then(|| Arc::new(Rules::new(acl)))
}

fn fix_up(acl: &[Acl], proved: &[AuthId]) -> Result<Vec<Acl>, ErrorCode> {
    let mut fixed: Vec<Acl> = Vec::new();
    for a in acl {
        let mut new = vec![a.clone()];
        match a.id.scheme.as_str() {
            "world" | "digest" | "ip" => {}
            "auth" => {
                let digests = proved.iter().filter(|i| i.scheme == "digest");
                new = digests.map(|i| Acl { perms: a.perms, id: i.clone() }).collect();
            }
            _ => new.clear(),
        }
        if new.is_empty() {
            return Err(ErrorCode::InvalidAcl);
        }
        for n in new {
            if !fixed.contains(&n) {
                fixed.push(n);
            }
        }
    }
    if fixed.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(fixed) }
}

/// A number in a quota's text.
fn quota(node: &MNode, key: &str) -> i64 {
    let text = String::from_utf8(node.data.clone().unwrap_or_default()).unwrap_or_default();
    let mut pairs = text.split([',', ';']).filter_map(|p| p.split_once('='));
    let value = pairs.find(|p| p.0 == key).map_or("", |p| p.1).trim_end_matches('=');
    value.parse().unwrap_or(-1)
}

impl Model {
    pub fn new() -> Self {
        let mut nodes = BTreeMap::new();
        for (path, uncounted) in
            [("/", 1), ("/zookeeper", 2), ("/zookeeper/quota", 0), ("/zookeeper/config", 0)]
        {
            let mut node =
                MNode { data: Some(vec![]), deleted: -uncounted, acl: world(perms::ALL), ..MNode::default() };
            if path == "/zookeeper/config" {
                (node.stat.version, node.stat.aversion) = (-1, -1);
                node.acl = world(perms::READ);
            }
            nodes.insert(path.to_owned(), node);
        }
        Self { nodes, sessions: BTreeMap::new(), next: 0 }
    }

    pub fn children(&self, path: &str) -> Vec<String> {
        let below = |p: &&String| p.len() > 1 && parent(p) == path;
        let mut names: Vec<_> = self.nodes.keys().filter(below).cloned().collect();
        names.iter_mut().for_each(|p| *p = p[p.rfind('/').expect("a slash") + 1..].to_owned());
        names.sort();
        names
    }

    /// Everything below a path.
    pub fn below(&self, path: &str) -> Vec<&MNode> {
        let start = if path == "/" { "/".into() } else { format!("{path}/") };
        let below = |p: &String| p.len() > 1 && p.starts_with(&start);
        self.nodes.iter().filter(|(p, _)| below(p)).map(|(_, n)| n).collect()
    }

    pub fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.nodes.get(named(path))?;
        Some(Stat {
            cversion: (node.created + node.deleted) as i32,
            data_length: node.data.as_ref().map_or(0, |d| d.len() as i32),
            num_children: self.children(named(path)).len() as i32,
            ..node.stat
        })
    }

    pub fn ephemerals(&self, session: i64) -> Vec<String> {
        let mine = self.nodes.iter().filter(|(_, n)| n.life == Life::Session(session));
        mine.map(|(p, _)| p.clone()).collect()
    }

    fn remove(&mut self, path: &str, zxid: i64, changes: &mut Vec<Change>) {
        let node = self.nodes.remove(path).expect("it is there");
        let above = self.nodes.get_mut(&parent(path)).expect("parents outlive children");
        above.deleted += 1;
        above.stat.pzxid = zxid;
        let readers = Readers { node: readers(&node.acl), parent: readers(&above.acl) };
        changes.push(Change::Deleted { path: path.into(), readers, ephemeral: None });
        self.use_quota(path, -1, -(node.data.map_or(0, |d| d.len()) as i64));
    }

    fn end(&mut self, session: i64, zxid: i64, changes: &mut Vec<Change>) {
        for path in self.ephemerals(session) {
            self.remove(&path, zxid, changes);
        }
        self.sessions.remove(&session);
        changes.push(Change::SessionEnded { session });
    }

    fn has_meaning(txn: &Txn) -> bool {
        let ephemeral = |m: CreateMode| matches!(m, CreateMode::Ephemeral | CreateMode::EphemeralSequential);
        match &txn.op {
            Op::Create { mode, .. } => !ephemeral(*mode),
            Op::CloseSession => false,
            Op::Multi { parts } => {
                !parts.iter().any(|p| matches!(p, Part::Create { mode, .. } if ephemeral(*mode)))
            }
            _ => true,
        }
    }

    pub fn apply(&mut self, flags: u8, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        let gsn = self.next;
        self.next += 1;
        let zxid = gsn as i64 + 1;
        let mut ids = txn.ids.clone();
        if txn.session == 0 {
            if !Self::has_meaning(txn) {
                return Outcome::Rejected;
            }
        } else {
            match self.sessions.get_mut(&txn.session) {
                Some(s) if s.attach == txn.attach => {
                    s.touch = gsn;
                    ids.extend(s.address.clone());
                }
                _ => return Outcome::Stale,
            }
        }
        match &txn.op {
            Op::CreateSession { timeout_ms } => {
                let session = (1 << 56) + gsn as i64;
                let (timeout_ms, address) = (*timeout_ms, txn.ids.clone());
                self.sessions.insert(session, MSession { timeout_ms, attach: gsn, touch: gsn, address });
                changes.push(Change::SessionAttached { session, attach: gsn });
                Outcome::SessionCreated { session, timeout_ms }
            }
            Op::Attach { session, timeout_ms } => {
                let (timeout_ms, address) = (*timeout_ms, txn.ids.clone());
                let Some(s) = self.sessions.get_mut(session) else { return Outcome::NoSuchSession };
                *s = MSession { timeout_ms, attach: gsn, touch: gsn, address };
                changes.push(Change::SessionAttached { session: *session, attach: gsn });
                Outcome::Attached { timeout_ms }
            }
            Op::CloseSession => {
                self.end(txn.session, zxid, changes);
                Outcome::Done
            }
            Op::Touch { sessions } => {
                for (id, attach) in sessions {
                    if let Some(s) = self.sessions.get_mut(id).filter(|s| s.attach == *attach) {
                        s.touch = gsn;
                    }
                }
                Outcome::Done
            }
            Op::Expire { session, attach, touch } => {
                if self.sessions.get(session).is_some_and(|s| s.attach == *attach && s.touch == *touch) {
                    self.end(*session, zxid, changes);
                }
                Outcome::Done
            }
            Op::Sweep { nodes } => {
                nodes.iter().for_each(|seen| self.sweep(seen, txn.wall.0 as i64, zxid, changes));
                Outcome::Done
            }
            Op::Nothing | Op::RaiseApplyVersion { .. } => Outcome::Done,
            op => {
                let now = txn.wall.0 as i64;
                let by = By { session: txn.session, proved: &txn.ids, ids, flags, zxid, now };
                self.write(op, &by, changes).unwrap_or_else(Outcome::Failed)
            }
        }
    }

    fn sweep(&mut self, seen: &Sweeping, now: i64, zxid: i64, changes: &mut Vec<Change>) {
        let Some(node) = self.nodes.get(&seen.path) else { return };
        let due = match node.life {
            Life::Container => node.created > 0,
            Life::Ttl(ms) => now - node.stat.mtime > ms,
            Life::Long | Life::Session(_) => false,
        };
        let as_seen = seen.zxids == [node.stat.czxid, node.stat.mzxid, node.stat.pzxid];
        if due && as_seen && self.children(&seen.path).is_empty() {
            self.remove(&seen.path, zxid, changes);
        }
    }

    fn write(&mut self, op: &Op, by: &By<'_>, changes: &mut Vec<Change>) -> Result<Outcome, ErrorCode> {
        match op {
            Op::Create { path, data, acl, mode } => {
                let (life, sequential) = match mode {
                    CreateMode::Persistent => (Life::Long, false),
                    CreateMode::PersistentSequential => (Life::Long, true),
                    CreateMode::Ephemeral => (Life::Session(by.session), false),
                    CreateMode::EphemeralSequential => (Life::Session(by.session), true),
                    CreateMode::Container => (Life::Container, false),
                    CreateMode::ContainerSequential => (Life::Container, true),
                };
                self.create(path, data, acl, (life, sequential), by, changes)
            }
            Op::CreateTtl(t) => {
                let life = Life::Ttl(t.ttl_ms as i64);
                self.create(&t.path, &t.data, &t.acl, (life, t.sequential), by, changes)
            }
            Op::Delete { path, version } => {
                let reserved = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
                if !path.contains('/') || reserved.contains(&path.as_str()) {
                    return Err(ErrorCode::BadArguments);
                }
                let above = self.nodes.get(&parent(path)).ok_or(ErrorCode::NoNode)?;
                if !allows(&above.acl, perms::DELETE, by) {
                    return Err(ErrorCode::NoAuth);
                }
                let stat = self.stat(path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != stat.version {
                    return Err(ErrorCode::BadVersion);
                }
                if stat.num_children > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(path, by.zxid, changes);
                Ok(Outcome::Deleted)
            }
            Op::SetData { path, data, version } => self.set_data(path, data, *version, by, changes),
            Op::SetAcl { path, acl, version } => {
                if !valid(path) {
                    return Err(ErrorCode::BadArguments);
                }
                let acl = fix_up(acl, by.proved)?;
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
                if !allows(&node.acl, perms::ADMIN, by) {
                    return Err(ErrorCode::NoAuth);
                }
                if *version != -1 && *version != node.stat.aversion {
                    return Err(ErrorCode::BadVersion);
                }
                node.acl = acl;
                node.stat.aversion += 1;
                Ok(Outcome::Set { stat: self.stat(path).expect("just seen") })
            }
            Op::Multi { parts } => {
                let (before, told) = (self.nodes.clone(), changes.len());
                let mut done = Vec::new();
                for part in parts {
                    match self.part(part, by, changes) {
                        Ok(outcome) => done.push(outcome),
                        Err(error) => {
                            self.nodes = before;
                            changes.truncate(told);
                            return Ok(Outcome::MultiFailed { at: done.len(), of: parts.len(), error });
                        }
                    }
                }
                Ok(Outcome::Multi(done))
            }
            other => panic!("{other:?} is no write"),
        }
    }

    fn part(
        &mut self,
        part: &Part,
        by: &By<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<PartOutcome, ErrorCode> {
        let (op, wants_stat) = match part.clone() {
            Part::Create { path, data, acl, mode, with_stat } => {
                (Op::Create { path, data, acl, mode }, with_stat)
            }
            Part::CreateTtl(t) => (Op::CreateTtl(Box::new(t)), true),
            Part::Delete { path, version } => (Op::Delete { path, version }, false),
            Part::SetData { path, data, version } => (Op::SetData { path, data, version }, false),
            Part::Check { path, version } => {
                if !valid(&path) {
                    return Err(ErrorCode::BadArguments);
                }
                let node = self.nodes.get(&path).ok_or(ErrorCode::NoNode)?;
                return match (allows(&node.acl, perms::READ, by), node.stat.version) {
                    (false, _) => Err(ErrorCode::NoAuth),
                    (true, v) if version == -1 || version == v => Ok(PartOutcome::Checked),
                    (true, _) => Err(ErrorCode::BadVersion),
                };
            }
            Part::Refused { error } => return Err(ErrorCode::from_code(error).expect("a code")),
        };
        Ok(match self.write(&op, by, changes)? {
            Outcome::Created { path, stat } => {
                PartOutcome::Created { path, stat: wants_stat.then_some(stat) }
            }
            Outcome::Set { stat } => PartOutcome::Set { stat },
            Outcome::Deleted => PartOutcome::Deleted,
            other => panic!("{other:?} of a part"),
        })
    }

    fn create(
        &mut self,
        path: &str,
        data: &Option<Vec<u8>>,
        acl: &[Acl],
        (life, sequential): (Life, bool),
        by: &By<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        if !path.contains('/') {
            return Err(ErrorCode::BadArguments);
        }
        let acl = fix_up(acl, by.proved)?;
        let above = parent(path);
        let over = self.nodes.get(&above).ok_or(ErrorCode::NoNode)?;
        if !allows(&over.acl, perms::CREATE, by) {
            return Err(ErrorCode::NoAuth);
        }
        let full = if sequential { format!("{path}{:010}", over.created) } else { path.to_owned() };
        if !valid(&full) {
            return Err(ErrorCode::BadArguments);
        }
        if self.nodes.contains_key(&full) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(over.life, Life::Session(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let parents_readers = readers(&over.acl);
        let bytes = data.as_ref().map_or(0, Vec::len) as i64;
        self.check_quota(&full, 1, bytes, by, changes)?;
        let stat = Stat {
            czxid: by.zxid,
            mzxid: by.zxid,
            pzxid: by.zxid,
            ctime: by.now,
            mtime: by.now,
            ephemeral_owner: if let Life::Session(session) = life { session } else { 0 },
            ..Stat::default()
        };
        let readers = Readers { node: readers(&acl), parent: parents_readers };
        let node = MNode { data: data.clone(), acl, life, stat, created: 0, deleted: 0 };
        self.nodes.insert(full.clone(), node);
        let over = self.nodes.get_mut(&above).expect("just seen");
        over.created += 1;
        over.stat.pzxid = by.zxid;
        if let Some(of) =
            full.strip_prefix("/zookeeper/quota").and_then(|p| p.strip_suffix("/zookeeper_stats"))
            && !of.is_empty()
        {
            let own = self.nodes.get(of);
            let all: Vec<&MNode> =
                own.into_iter().chain(if own.is_some() { self.below(of) } else { vec![] }).collect();
            let bytes: usize = all.iter().map(|n| n.data.as_ref().map_or(0, Vec::len)).sum();
            let count = all.len() as i64;
            self.nodes.get_mut(&full).expect("just made").data = None;
            self.note(&full, count, bytes as i64);
        }
        self.use_quota(&full, 1, bytes);
        changes.push(Change::Created { path: full.clone(), readers });
        let stat = self.stat(&full).expect("just made");
        Ok(Outcome::Created { path: full, stat })
    }

    fn set_data(
        &mut self,
        path: &str,
        data: &Option<Vec<u8>>,
        version: i32,
        by: &By<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        if !valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.nodes.get(path).ok_or(ErrorCode::NoNode)?;
        if !allows(&node.acl, perms::WRITE, by) {
            return Err(ErrorCode::NoAuth);
        }
        let len = |d: &Option<Vec<u8>>| d.as_ref().map_or(0, Vec::len) as i64;
        let (more, actual) = (len(data) - len(&node.data), node.stat.version);
        let readers = Readers { node: readers(&node.acl), parent: None };
        let mut told = Vec::new();
        self.check_quota(path, 0, more, by, &mut told)?;
        if version != -1 && version != actual {
            return Err(ErrorCode::BadVersion);
        }
        let node = self.nodes.get_mut(path).expect("just seen");
        node.data.clone_from(data);
        node.stat.version += 1;
        node.stat.mzxid = by.zxid;
        node.stat.mtime = by.now;
        let stat = self.stat(path).expect("just set");
        self.use_quota(path, 0, more);
        changes.append(&mut told);
        changes.push(Change::DataChanged { path: path.into(), readers });
        Ok(Outcome::Set { stat })
    }

    /// The deepest path with limits that is at or above this one.
    fn governing(&self, path: &str) -> Option<String> {
        let limits = self.nodes.keys().filter_map(|p| {
            p.strip_prefix("/zookeeper/quota")?.strip_suffix("/zookeeper_limits").filter(|p| !p.is_empty())
        });
        let above = limits.filter(|of| *of == path || path.starts_with(&format!("{of}/")));
        above.max_by_key(|of| of.len()).map(str::to_owned)
    }

    fn check_quota(
        &self,
        path: &str,
        count: i64,
        bytes: i64,
        by: &By<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), ErrorCode> {
        let Some(of) = self.governing(path) else { return Ok(()) };
        let limits = &self.nodes[&format!("/zookeeper/quota{of}/zookeeper_limits")];
        let Some(used) = self.nodes.get(&format!("/zookeeper/quota{of}/zookeeper_stats")) else {
            return Ok(());
        };
        let mut passed = false;
        for (more, key, hard) in [(count, "count", "countHardLimit"), (bytes, "bytes", "byteHardLimit")] {
            let (used, soft, hard) = (quota(used, key), quota(limits, key), quota(limits, hard));
            if more != 0 && hard > -1 && used + more > hard && by.flags & flags::ENFORCE_QUOTA != 0 {
                return Err(ErrorCode::QuotaExceeded);
            }
            let limit = if hard > -1 { hard } else { soft };
            passed |= more > 0 && limit > -1 && used <= limit && used + more > limit;
        }
        changes.extend(passed.then_some(Change::OverQuota { path: of }));
        Ok(())
    }

    fn use_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(of) = self.governing(path) else { return };
        let stats = format!("/zookeeper/quota{of}/zookeeper_stats");
        let Some(used) = self.nodes.get(&stats) else { return };
        let (count, bytes) = (quota(used, "count") + count, quota(used, "bytes") + bytes);
        self.note(&stats, count, bytes);
    }

    fn note(&mut self, stats: &str, count: i64, bytes: i64) {
        let node = self.nodes.get_mut(stats).expect("it is there");
        let hard = (quota(node, "byteHardLimit"), quota(node, "countHardLimit"));
        let mut text = format!("count={count},bytes={bytes}");
        if hard != (-1, -1) {
            text += &format!("=;byteHardLimit={};countHardLimit={}", hard.0, hard.1);
        }
        node.data = Some(text.into_bytes());
    }
}
