//! Is what came back right? Every answer of the load is held against what a ZooKeeper promises its sessions.

use super::work::{Job, Paths, Work};
use crate::checks::Checks;
use crate::payload::{Origin, Payload};
use std::collections::BTreeMap;
use std::ops::Range;
use zoolog_zk::jute::codec::DecodeError;
use zoolog_zk::jute::{ErrorCode, EventType, Reader, ReplyHeader, WatcherEvent};
use zoolog_zk::txn::Stat;

/// Entries of the table of versions seen; sessions times keys beyond it are not followed.
const SEEN_MAX: usize = 16 << 20;

const ORDER: &str = "replies come in the order of the requests";
const ZXID: &str = "the zxid of replies never decreases";
const ERROR: &str = "no unexpected error";
const ECHO: &str = "create answers with the path asked for";
const VALUE: &str = "get returns a value that was set";
const VERSION_SET: &str = "each set raises the version its session saw";
const VERSION_READ: &str = "a read never goes back behind a version its session saw";
const STAT: &str = "the stat fits the data and the reply";
const WATCH: &str = "a watch fires once, for what was watched";
const BODY: &str = "replies can be decoded";

/// What the answers are held against.
#[derive(Debug)]
pub struct Known<'a> {
    /// What was begun.
    pub work: &'a Work,
    /// What values look like.
    pub payload: &'a Payload,
    /// Where nodes are.
    pub paths: &'a mut Paths,
}

/// What sessions have seen, and what was found wrong.
#[derive(Debug)]
pub struct Verify {
    checks: Checks,
    /// Number of the first session.
    first: u32,
    /// Last version seen, -1 for none, of `followed` keys per session.
    seen: Vec<i32>,
    followed: usize,
    /// Passes per check, counted here since a map look-up per answer would cost more than the check.
    passed: [u64; 9],
    errors: BTreeMap<i32, u64>,
}

impl Verify {
    /// For these sessions and so many keys.
    pub fn new(sessions: Range<u32>, keys: u32) -> Self {
        let followed = (keys as usize).min(SEEN_MAX / sessions.len().max(1));
        let seen = vec![-1; followed * sessions.len()];
        Self {
            checks: Checks::default(),
            first: sessions.start,
            seen,
            followed,
            passed: [0; 9],
            errors: BTreeMap::new(),
        }
    }

    /// Header of any reply but to a ping, against the request it must answer. False if nothing more on
    /// this connection can be told apart.
    pub fn header(
        &mut self,
        session: u32,
        expected_xid: Option<i32>,
        zxid_seen: i64,
        h: &ReplyHeader,
    ) -> bool {
        self.zxid(session, zxid_seen, h);
        if expected_xid == Some(h.xid) {
            self.passed[0] += 1;
            return true;
        }
        self.checks
            .fail(ORDER, || format!("session {session}: xid {} where {expected_xid:?} was due", h.xid));
        false
    }

    /// The zxid of any reply, pings included.
    pub fn zxid(&mut self, session: u32, seen: i64, h: &ReplyHeader) {
        if h.zxid < seen {
            self.checks.fail(ZXID, || format!("session {session}: {:#x} after {seen:#x}", h.zxid));
        }
        self.passed[1] += 1;
    }

    /// Bytes that are no legal frame or reply.
    pub fn malformed(&mut self, session: u32, what: impl std::fmt::Display) {
        self.checks.fail(BODY, || format!("session {session}: {what}"));
    }

    /// The answer to `job`, behind a header that was in order. True if it succeeded.
    pub fn answer(
        &mut self,
        session: u32,
        job: Job,
        h: &ReplyHeader,
        body: Reader<'_>,
        known: Known<'_>,
    ) -> bool {
        let Known { work, payload, paths } = known;
        if h.err != 0 {
            *self.errors.entry(h.err).or_default() += 1;
            let name = ErrorCode::from_code(h.err).map_or("unknown".to_owned(), |e| format!("{e:?}"));
            self.checks.fail(ERROR, || format!("session {session}: {job:?} got {} ({name})", h.err));
            return false;
        }
        self.passed[2] += 1;
        let judged = match job {
            Job::Create(counter) => self.created(session, paths.created(session, counter), body),
            Job::Set { key, counter } => {
                let bytes = payload.bytes(Origin { key, writer: session, counter });
                self.set(session, key, h, body, bytes)
            }
            Job::Get(key) => self.got(session, key, h, body, work, payload),
            Job::Arm => self.got(session, 0, h, body, work, payload),
            Job::Exists(key) => self.existed(session, key, h, body, payload),
            Job::Delete(_) | Job::Leave | Job::Close => Ok(()),
            Job::Parent(_) | Job::Fill(_) | Job::Refill(_) | Job::Sync => Ok(()),
        };
        if let Err(e) = judged {
            self.malformed(session, format!("answer to {job:?}: {e}"));
        }
        true
    }

    /// A watch event; `due` if the session has a watch on `path` that did not fire yet.
    pub fn event(&mut self, session: u32, mut body: Reader<'_>, path: &str, due: bool) {
        self.passed[8] += 1;
        match WatcherEvent::decode(&mut body) {
            Err(e) => self.malformed(session, format_args!("an event: {e}")),
            Ok(event) if !due || event.kind != EventType::NodeDataChanged || event.path != path => {
                let set = if due { "set" } else { "not set" };
                self.checks.fail(WATCH, || format!("session {session}: {event:?}, its watch is {set}"));
            }
            Ok(_) => {}
        }
    }

    fn created(&mut self, session: u32, path: &str, mut body: Reader<'_>) -> Result<(), DecodeError> {
        let echoed = body.buffer()?;
        if echoed != Some(path.as_bytes()) {
            let echoed = echoed.map(String::from_utf8_lossy);
            self.checks.fail(ECHO, || format!("session {session}: {echoed:?} instead of {path}"));
        }
        self.passed[3] += 1;
        Ok(())
    }

    fn set(
        &mut self,
        s: u32,
        key: u32,
        h: &ReplyHeader,
        mut body: Reader<'_>,
        bytes: usize,
    ) -> Result<(), DecodeError> {
        let stat = body.stat()?;
        self.stat(s, key, h, &stat, stat.data_length as usize == bytes);
        if let Some(seen) = self.seen(s, key) {
            let before = std::mem::replace(seen, stat.version.max(*seen));
            self.passed[6] += 1;
            if stat.version <= before {
                let now = stat.version;
                self.checks.fail(VERSION_SET, || format!("session {s}: key {key} from {before} to {now}"));
            }
        }
        Ok(())
    }

    fn got(
        &mut self,
        s: u32,
        key: u32,
        h: &ReplyHeader,
        mut body: Reader<'_>,
        work: &Work,
        payload: &Payload,
    ) -> Result<(), DecodeError> {
        let data = body.buffer()?.unwrap_or_default();
        let stat = body.stat()?;
        self.stat(s, key, h, &stat, stat.data_length as usize == data.len());
        self.not_older(s, key, &stat);
        self.passed[4] += 1;
        match payload.read(data) {
            Err(why) => self.checks.fail(VALUE, || format!("session {s}: key {key}: {why:?}")),
            Ok(Some(o)) if o.key != key || work.issued(o.writer).is_none_or(|n| o.counter > n) => {
                self.checks.fail(VALUE, || format!("session {s}: key {key} holds {o:?}"));
            }
            Ok(_) => {}
        }
        Ok(())
    }

    fn existed(
        &mut self,
        s: u32,
        key: u32,
        h: &ReplyHeader,
        mut body: Reader<'_>,
        p: &Payload,
    ) -> Result<(), DecodeError> {
        let stat = body.stat()?;
        self.stat(s, key, h, &stat, p.can_have(stat.data_length as usize));
        self.not_older(s, key, &stat);
        Ok(())
    }

    fn stat(&mut self, session: u32, key: u32, h: &ReplyHeader, stat: &Stat, length_fits: bool) {
        self.passed[5] += 1;
        if stat.mzxid > h.zxid || !length_fits {
            let zxid = h.zxid;
            self.checks
                .fail(STAT, || format!("session {session}: key {key}, reply zxid {zxid:#x}, {stat:?}"));
        }
    }

    fn not_older(&mut self, session: u32, key: u32, stat: &Stat) {
        if let Some(seen) = self.seen(session, key) {
            let before = std::mem::replace(seen, stat.version.max(*seen));
            self.passed[7] += 1;
            if stat.version < before {
                let now = stat.version;
                self.checks
                    .fail(VERSION_READ, || format!("session {session}: key {key} from {before} to {now}"));
            }
        }
    }

    fn seen(&mut self, session: u32, key: u32) -> Option<&mut i32> {
        let (key, s) = (key as usize, (session - self.first) as usize);
        (key < self.followed).then(|| &mut self.seen[s * self.followed + key])
    }

    /// Errors by code.
    pub fn errors(&self) -> &BTreeMap<i32, u64> {
        &self.errors
    }

    /// All that was checked.
    pub fn finish(mut self) -> Checks {
        let names = [ORDER, ZXID, ERROR, ECHO, VALUE, STAT, VERSION_SET, VERSION_READ, WATCH];
        for (name, n) in names.into_iter().zip(self.passed).filter(|(_, n)| *n > 0) {
            self.checks.pass(name, n);
        }
        self.checks
    }
}
