//! What should a record do? The same rules once more, the slow and plain way: whole paths in a map, every
//! number counted instead of derived.

use crate::jute::ErrorCode;
use crate::txn::{Change, CreateMode, Op, Outcome, Stat, Txn};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct MNode {
    pub data: Option<Vec<u8>>,
    stat: Stat,
    created: i64,
    deleted: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct MSession {
    pub timeout_ms: u32,
    pub attach: u64,
    pub touch: u64,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub nodes: BTreeMap<String, MNode>,
    pub sessions: BTreeMap<i64, MSession>,
    pub next: u64,
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

impl Model {
    pub fn new() -> Self {
        let mut nodes = BTreeMap::new();
        for (path, uncounted) in
            [("/", 1), ("/zookeeper", 2), ("/zookeeper/quota", 0), ("/zookeeper/config", 0)]
        {
            let mut node = MNode { data: Some(vec![]), deleted: -uncounted, ..MNode::default() };
            if path == "/zookeeper/config" {
                (node.stat.version, node.stat.aversion) = (-1, -1);
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

    pub fn stat(&self, path: &str) -> Option<Stat> {
        let path = if path.is_empty() { "/" } else { path };
        let node = self.nodes.get(path)?;
        Some(Stat {
            cversion: (node.created + node.deleted) as i32,
            data_length: node.data.as_ref().map_or(0, |d| d.len() as i32),
            num_children: self.children(path).len() as i32,
            ..node.stat
        })
    }

    pub fn ephemerals(&self, session: i64) -> Vec<String> {
        let mine = self.nodes.iter().filter(|(_, n)| session != 0 && n.stat.ephemeral_owner == session);
        mine.map(|(p, _)| p.clone()).collect()
    }

    fn remove(&mut self, path: &str, zxid: i64, changes: &mut Vec<Change>) {
        self.nodes.remove(path).expect("it is there");
        let above = self.nodes.get_mut(&parent(path)).expect("parents outlive children");
        above.deleted += 1;
        above.stat.pzxid = zxid;
        changes.push(Change::Deleted { path: path.into() });
    }

    fn end(&mut self, session: i64, zxid: i64, changes: &mut Vec<Change>) {
        for path in self.ephemerals(session) {
            self.remove(&path, zxid, changes);
        }
        self.sessions.remove(&session);
        changes.push(Change::SessionEnded { session });
    }

    pub fn apply(&mut self, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        let gsn = self.next;
        self.next += 1;
        let zxid = gsn as i64 + 1;
        if txn.session == 0 {
            let mode = if let Op::Create { mode, .. } = &txn.op { Some(*mode) } else { None };
            let ephemeral = matches!(mode, Some(CreateMode::Ephemeral | CreateMode::EphemeralSequential));
            if ephemeral || txn.op == Op::CloseSession {
                return Outcome::Rejected;
            }
        } else {
            match self.sessions.get_mut(&txn.session) {
                Some(s) if s.attach == txn.attach => s.touch = gsn,
                _ => return Outcome::Stale,
            }
        }
        match &txn.op {
            Op::CreateSession { timeout_ms } => {
                let session = (1 << 56) + gsn as i64;
                let new = MSession { timeout_ms: *timeout_ms, attach: gsn, touch: gsn };
                self.sessions.insert(session, new);
                changes.push(Change::SessionAttached { session, attach: gsn });
                Outcome::SessionCreated { session, timeout_ms: *timeout_ms }
            }
            Op::Attach { session, timeout_ms } => {
                let Some(s) = self.sessions.get_mut(session) else { return Outcome::NoSuchSession };
                *s = MSession { timeout_ms: *timeout_ms, attach: gsn, touch: gsn };
                changes.push(Change::SessionAttached { session: *session, attach: gsn });
                Outcome::Attached { timeout_ms: *timeout_ms }
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
            Op::Nothing | Op::RaiseApplyVersion { .. } => Outcome::Done,
            Op::Create { .. } | Op::Delete { .. } | Op::SetData { .. } => {
                self.write(txn, zxid, changes).unwrap_or_else(Outcome::Failed)
            }
        }
    }

    fn write(&mut self, txn: &Txn, zxid: i64, changes: &mut Vec<Change>) -> Result<Outcome, ErrorCode> {
        let now = txn.wall.0 as i64;
        match &txn.op {
            Op::Create { path, data, acl, mode } => {
                if !path.contains('/') {
                    return Err(ErrorCode::BadArguments);
                }
                if acl.is_empty() {
                    return Err(ErrorCode::InvalidAcl);
                }
                let above = parent(path);
                let count = self.nodes.get(&above).ok_or(ErrorCode::NoNode)?.created;
                let sequential =
                    matches!(mode, CreateMode::PersistentSequential | CreateMode::EphemeralSequential);
                let full = if sequential { format!("{path}{count:010}") } else { path.clone() };
                if !valid(&full) {
                    return Err(ErrorCode::BadArguments);
                }
                if self.nodes.contains_key(&full) {
                    return Err(ErrorCode::NodeExists);
                }
                if self.nodes[&above].stat.ephemeral_owner != 0 {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                let ephemeral = matches!(mode, CreateMode::Ephemeral | CreateMode::EphemeralSequential);
                let stat = Stat {
                    czxid: zxid,
                    mzxid: zxid,
                    pzxid: zxid,
                    ctime: now,
                    mtime: now,
                    ephemeral_owner: if ephemeral { txn.session } else { 0 },
                    ..Stat::default()
                };
                self.nodes.insert(full.clone(), MNode { data: data.clone(), stat, created: 0, deleted: 0 });
                let above = self.nodes.get_mut(&above).expect("just seen");
                above.created += 1;
                above.stat.pzxid = zxid;
                changes.push(Change::Created { path: full.clone() });
                let stat = self.stat(&full).expect("just made");
                Ok(Outcome::Created { path: full, stat })
            }
            Op::Delete { path, version } => {
                let reserved = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];
                if !path.contains('/') || reserved.contains(&path.as_str()) {
                    return Err(ErrorCode::BadArguments);
                }
                let stat = self.stat(path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != stat.version {
                    return Err(ErrorCode::BadVersion);
                }
                if stat.num_children > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(path, zxid, changes);
                Ok(Outcome::Deleted)
            }
            Op::SetData { path, data, version } => {
                if !valid(path) {
                    return Err(ErrorCode::BadArguments);
                }
                let node = self.nodes.get_mut(path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.stat.version {
                    return Err(ErrorCode::BadVersion);
                }
                node.data.clone_from(data);
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                node.stat.mtime = now;
                changes.push(Change::DataChanged { path: path.clone() });
                Ok(Outcome::Set { stat: self.stat(path).expect("just set") })
            }
            other => panic!("{other:?} is no write"),
        }
    }
}
