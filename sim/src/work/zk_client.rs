//! What does a ZooKeeper client do? It keeps a session over whatever connections it can get, reads and
//! writes a few registers, makes ephemerals and queue entries, watches, falls silent, and reports what came
//! of each request. After the storm it reads everything once more and is done.

use super::jute::{Frame, Reader, op};
use super::zk_more::More;
use super::zk_script::parse;
use super::zk_told::{SET_AGAIN, Told};
use crate::observe::{Observation, ZkCall, ZkFact, ZkReply};
use crate::options::Policy;
use crate::process::Process;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::policy::Acks;
use zoolog_core::rng::Rng;
use zoolog_core::{ConnId, Input, Instant, Output};

/// Registers `/r0` .. below this.
pub const REGISTERS: u64 = 3;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ZkClientConfig {
    /// Its number.
    pub client: u32,
    /// Number of its life: its values and names are unlike those of earlier ones.
    pub life: u64,
    /// Where the service is, and by which policies it answers there.
    pub addrs: Vec<(String, Policy)>,
    /// Whether it makes nodes that it looks for ever after.
    pub keeps: bool,
    /// Session timeout asked for.
    pub timeout: Duration,
    /// Mean pause between requests.
    pub every: Duration,
    /// Requests in flight at most.
    pub depth: usize,
    /// Whether it falls silent and changes connections of its own accord.
    pub restless: bool,
    /// When the storm is over.
    pub calm_at: Instant,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Asked {
    pub xid: i32,
    pub at: Instant,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Call { call: ZkCall, watch: bool },
    More(More),
    Sync,
}

#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Dial at that time.
    Down(Instant),
    /// Waiting for the connection, or for the answer to the handshake, since then.
    Handshake(ConnId, Instant),
    /// In session.
    Up(ConnId),
}

/// A client.
pub struct ZkClient {
    pub(super) cfg: ZkClientConfig,
    pub(super) rng: Rng,
    link: Link,
    dialled: u64,
    pub(super) session: i64,
    password: Vec<u8>,
    pub(super) timeout: Duration,
    pub(super) zxid: i64,
    pub(super) xid: i32,
    pub(super) in_flight: VecDeque<Asked>,
    /// Not answered yet, as connections come and go.
    next_request: Instant,
    last_sent: Instant,
    last_heard: Instant,
    pub(super) silent_until: Instant,
    pub(super) counter: u64,
    /// Whether this life has made the nodes it works on.
    pub(super) prepared: bool,
    /// One of them could not be made.
    unmade: bool,
    /// Paths of own ephemerals of this session that were acknowledged.
    pub(super) ephemerals: BTreeSet<String>,
    /// Data watches, which are set again on each connection: path, and zxid of the reply that armed it.
    pub(super) watches: BTreeMap<String, i64>,
    /// They are being set again.
    pub(super) setting_again: bool,
    /// What has come over this connection.
    pub(super) told: Told,
    /// The connection that was left last, if it is still open.
    pub(super) rival: Option<ConnId>,
    /// Paths of what was last written over such connections.
    pub(super) late: Vec<String>,
    /// zxid of the first answer over this connection.
    pub(super) moved_by: Option<i64>,
    /// When the newest request was sent that was answered.
    pub(super) answered_at: Instant,
    /// The longest time between two such requests of late, and when it ended.
    pub(super) lull: (Duration, Instant),
    /// A goodbye was not answered.
    pub(super) may_be_closed: bool,
    /// By which policies the connection's node answers.
    pub(super) policy: Policy,
    /// Paths of nodes that were acknowledged and that nobody deletes: the newest ones.
    pub(super) kept: VecDeque<String>,
    /// Persistent watches of this connection: path, and zxid up to which it was told.
    pub(super) standing: BTreeMap<String, i64>,
    /// Steps of the last round still to be answered; `None` before it began.
    pub(super) last_round: Option<usize>,
    done: bool,
    pub(super) out: VecDeque<Output<Observation>>,
}

impl ZkClient {
    /// A client that connects at once.
    pub fn new(cfg: ZkClientConfig, seed: u64, now: Instant) -> Self {
        Self {
            rng: Rng::new(seed, "zk client"),
            link: Link::Down(now),
            dialled: 0,
            session: 0,
            password: vec![0; 16],
            timeout: cfg.timeout,
            zxid: 0,
            xid: 0,
            in_flight: VecDeque::new(),
            next_request: now,
            last_sent: now,
            last_heard: now,
            silent_until: Instant(0),
            counter: 0,
            prepared: false,
            unmade: false,
            ephemerals: BTreeSet::new(),
            watches: BTreeMap::new(),
            setting_again: false,
            told: Told::default(),
            rival: None,
            late: Vec::new(),
            moved_by: None,
            answered_at: now,
            lull: (Duration::ZERO, now),
            may_be_closed: false,
            policy: Policy::USUAL,
            kept: VecDeque::new(),
            standing: BTreeMap::new(),
            last_round: None,
            done: false,
            out: VecDeque::new(),
            cfg,
        }
    }

    pub(super) fn observe(&mut self, seen: Observation) {
        self.out.push_back(Output::Event(seen));
    }

    fn fact(&mut self, asked: Instant, call: ZkCall, reply: ZkReply) {
        let (client, session) = (self.cfg.client, self.session);
        self.observe(Observation::Zk(ZkFact { client, session, asked, call, reply }));
    }

    pub(super) fn broken(&mut self, promise: &'static str, text: String) {
        self.observe(Observation::Broken { promise, text });
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::Down(_) => None,
            Link::Handshake(conn, _) | Link::Up(conn) => Some(conn),
        }
    }

    pub(super) fn send(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        self.last_sent = now;
        self.out.push_back(Output::Send { conn, bytes });
    }

    fn dial(&mut self, now: Instant) {
        self.dialled += 1;
        let conn = ConnId::dialled(self.dialled);
        let addr;
        (addr, self.policy) = self.cfg.addrs[self.rng.below(self.cfg.addrs.len() as u64) as usize].clone();
        self.link = Link::Handshake(conn, now);
        self.out.push_back(Output::Dial { conn, addr });
    }

    fn connected(&mut self, now: Instant, conn: ConnId) {
        if self.conn() != Some(conn) {
            return;
        }
        let hello = Frame::bare()
            .int(0)
            .long(self.zxid)
            .int(self.cfg.timeout.as_millis() as i32)
            .long(self.session)
            .bytes(&self.password)
            .bool(false);
        self.send(now, conn, hello.done());
        self.write_over_rival();
    }

    /// The connection is gone: what was in flight on it may have happened.
    pub(super) fn disconnected(&mut self, now: Instant) {
        for asked in std::mem::take(&mut self.in_flight) {
            self.prepared &= !matches!(asked.what, What::More(More::Make));
            if let What::Call { call, .. } = asked.what {
                self.may_be_closed |= call == ZkCall::CloseSession;
                if matches!(call, ZkCall::Create { ephemeral: false, sequential: false, .. }) {
                    self.prepared = false;
                }
                if let ZkCall::Delete { path } = &call {
                    self.ephemerals.remove(path);
                }
                self.fact(asked.at, call, ZkReply::Unknown);
            }
        }
        self.told = Told::default();
        self.late.clear();
        self.moved_by = None;
        self.setting_again = false;
        self.standing.clear();
        if self.last_round.is_some() {
            self.last_round = None;
        }
        let wait = Duration::from_millis(self.rng.between(1, 120));
        self.link = Link::Down(now + wait);
    }

    /// The session is over: the next one starts from nothing but the zxid.
    fn forget_session(&mut self) {
        self.session = 0;
        self.password = vec![0; 16];
        self.ephemerals.clear();
        self.watches.clear();
        self.may_be_closed = false;
        self.drop_rival();
    }

    fn handshake(&mut self, now: Instant, conn: ConnId, asked: Instant, frame: &[u8]) {
        let mut r = Reader(&frame[4..]);
        let parsed = (|| Some((r.int()?, r.int()?, r.long()?, r.bytes()?, r.bool()?)))();
        let Some((_, timeout, session, password, read_only)) = parsed else {
            return self.broken("ZK-1", format!("a handshake answer of {} bytes", frame.len()));
        };
        if read_only {
            self.broken("ZK-2", "a read-only session, which it had not asked for".into());
        }
        let resumed = self.session != 0;
        if timeout <= 0 || session == 0 {
            if !resumed {
                return self.broken("ZK-1", "a new session was refused".into());
            }
            self.check_expiry(now);
            self.fact(asked, ZkCall::Connect { resumed }, ZkReply::Expired);
            self.forget_session();
            self.out.push_back(Output::Close { conn });
            return;
        }
        if resumed && (session != self.session || password != self.password) {
            return self.broken("ZK-4", format!("session {:x} resumed as {session:x}", self.session));
        }
        self.session = session;
        self.password = password;
        self.timeout = Duration::from_millis(timeout as u64);
        self.link = Link::Up(conn);
        if let Some(frame) = self.proof() {
            self.send(now, conn, frame.done());
        }
        self.set_watches_again(now, conn);
        self.write_over_rival();
        if !resumed {
            (self.answered_at, self.lull) = (asked, (Duration::ZERO, asked));
        }
        self.showed_itself(asked);
        let reply = ZkReply::Ok { zxid: self.zxid, stat: None, data: None, path: None, names: Vec::new() };
        self.fact(asked, ZkCall::Connect { resumed }, reply);
        self.next_request = now;
    }

    fn frame(&mut self, now: Instant, conn: ConnId, frame: &[u8]) {
        if self.rival == Some(conn) {
            return self.rival_frame(&frame[4..]);
        }
        self.last_heard = now;
        match self.link {
            Link::Handshake(c, asked) if c == conn => self.handshake(now, conn, asked, frame),
            Link::Up(c) if c == conn => self.reply(now, &frame[4..]),
            _ => {}
        }
    }

    fn reply(&mut self, now: Instant, body: &[u8]) {
        let mut r = Reader(body);
        let head = (|| Some((r.int()?, r.long()?, r.int()?)))();
        let Some((xid, zxid, err)) = head else {
            return self.broken("ZK-1", format!("a reply of {} bytes", body.len()));
        };
        match xid {
            -1 => {
                let event = (|| Some((r.int()?, r.int()?, r.string()?)))();
                let Some((_, _, path)) = event else {
                    return self.broken("ZK-3", "a malformed event".into());
                };
                return self.event(&path, zxid);
            }
            -4 if err == 0 => return,
            -4 => return self.broken("ZK-1", format!("a proof was refused: {err}")),
            _ => {}
        }
        self.moved_before(zxid);
        if let Err(text) = self.told.answer(zxid) {
            self.broken("ZK-2", text);
        }
        match xid {
            -2 => return,
            SET_AGAIN if self.setting_again => {
                self.setting_again = false;
                if err != 0 {
                    self.broken("ZK-3", format!("watches were not set again: {err}"));
                }
                return;
            }
            _ => {}
        }
        if zxid < self.zxid {
            self.broken("ZK-2", format!("header zxid {zxid} after {}", self.zxid));
        }
        self.zxid = self.zxid.max(zxid);
        let Some(asked) = self.in_flight.pop_front() else {
            return self.broken("ZK-2", format!("an answer to xid {xid}, which was not asked"));
        };
        if asked.xid != xid {
            return self.broken("ZK-2", format!("an answer to xid {xid}, {} is next", asked.xid));
        }
        self.showed_itself(asked.at);
        let (call, watch) = match asked.what {
            What::Call { call, watch } => (call, watch),
            What::More(more) => {
                self.answered_more(more, zxid, err, &mut r);
                return self.step_done(now);
            }
            What::Sync => return self.step_done(now),
        };
        let reply =
            if err != 0 { Some(ZkReply::Error { code: err, zxid }) } else { parse(&call, zxid, &mut r) };
        let Some(reply) = reply else {
            return self.broken("ZK-1", format!("a malformed answer to {call:?}"));
        };
        self.answered(&call, watch, &reply, zxid);
        if std::mem::take(&mut self.unmade) {
            // What it works on is not there: it begins anew, later.
            self.prepared = false;
            self.fact(asked.at, call, reply);
            if let Some(conn) = self.conn() {
                self.out.push_back(Output::Close { conn });
            }
            return self.disconnected(now);
        }
        let reply = self.as_promised(&call, reply);
        let closed = call == ZkCall::CloseSession;
        self.fact(asked.at, call, reply);
        if closed {
            self.forget_session();
            if let Some(conn) = self.conn() {
                self.out.push_back(Output::Close { conn });
            }
        }
        self.step_done(now);
    }

    /// What the answer means, by the policy of who gave it.
    fn as_promised(&self, call: &ZkCall, reply: ZkReply) -> ZkReply {
        match (call, reply) {
            (
                ZkCall::Create { ephemeral: false, sequential: false, .. } | ZkCall::Delete { .. },
                ZkReply::Ok { zxid, .. },
            ) if self.policy.acks == Acks::Logged => ZkReply::Logged { zxid },
            (_, reply) => reply,
        }
    }

    /// What the client itself has to check and remember of an answer.
    fn answered(&mut self, call: &ZkCall, watch: bool, reply: &ZkReply, zxid: i64) {
        if let ZkReply::Ok { stat: Some(stat), .. } = reply
            && let ZkCall::Get { path, .. } | ZkCall::Set { path, .. } = call
        {
            if let Some(&armed) = self.watches.get(path)
                && stat.mzxid > armed
            {
                let text =
                    format!("{path} shows zxid {}, the watch armed at {armed} has not fired", stat.mzxid);
                self.broken("ZK-3", text);
            }
            self.check_standing(path, stat.mzxid);
            if watch {
                self.watches.entry(path.clone()).or_insert(zxid);
            }
        }
        match (call, reply) {
            (ZkCall::Create { ephemeral: true, .. }, ZkReply::Ok { path: Some(path), .. }) => {
                self.ephemerals.insert(path.clone());
            }
            (ZkCall::Delete { path }, _) => {
                self.ephemerals.remove(path);
            }
            (ZkCall::Create { .. }, ZkReply::Error { code: -110, .. }) => {}
            // The disks below are short of room: it was not done.
            (ZkCall::Create { ephemeral: false, sequential: false, .. }, ZkReply::Error { code: -1, .. }) => {
                self.unmade = true;
            }
            (ZkCall::Set { .. } | ZkCall::Create { .. }, ZkReply::Error { code: -1, .. }) => {}
            (_, ZkReply::Error { code, .. }) if self.prepared && !matches!(code, -103) => {
                self.broken("ZK-1", format!("{call:?} answered with error {code}"));
            }
            _ => {}
        }
    }

    fn step_done(&mut self, now: Instant) {
        if let Some(left) = self.last_round.as_mut() {
            *left -= 1;
            if *left == 0 && !self.done {
                self.done = true;
                self.observe(Observation::Done);
            }
        }
        self.next_request = self.next_request.min(now + self.cfg.every);
    }

    fn work(&mut self, now: Instant) {
        match self.link {
            Link::Down(at) if now >= at && now >= self.silent_until => self.dial(now),
            Link::Handshake(conn, since) if now.since(since) > Duration::from_secs(3) => {
                self.out.push_back(Output::Close { conn });
                self.disconnected(now);
            }
            Link::Up(conn) => self.in_session(now, conn),
            _ => {}
        }
    }

    fn in_session(&mut self, now: Instant, conn: ConnId) {
        if now.since(self.last_heard.max(self.silent_until)) > self.timeout * 2 / 3 {
            self.out.push_back(Output::Close { conn });
            return self.disconnected(now);
        }
        if now < self.silent_until {
            return;
        }
        let closing =
            self.in_flight.iter().any(|a| matches!(&a.what, What::Call { call: ZkCall::CloseSession, .. }));
        if now >= self.next_request {
            self.next_request = now + crate::options::around(&mut self.rng, self.cfg.every);
            if closing {
                // Nothing may follow a goodbye.
            } else if !self.prepared {
                self.prepare(now);
            } else if now < self.cfg.calm_at {
                if self.in_flight.len() < self.cfg.depth {
                    self.request(now);
                }
            } else if self.last_round.is_none() && !self.done {
                self.finish(now);
            }
        }
        if now.since(self.last_sent) >= self.timeout / 3 && matches!(self.link, Link::Up(_)) {
            self.send(now, conn, Frame::request(-2, op::PING).done());
        }
    }
}

impl Process for ZkClient {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Connected { conn } => self.connected(now, conn),
            Input::Frame { conn, bytes } => self.frame(now, conn, &bytes),
            Input::Closed { conn } if self.conn() == Some(conn) => self.disconnected(now),
            Input::Closed { conn } if self.rival == Some(conn) => self.rival = None,
            _ => {}
        }
        self.work(now);
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let at = match self.link {
            Link::Down(at) => at.max(self.silent_until),
            Link::Handshake(_, since) => since + Duration::from_millis(3_001),
            Link::Up(_) => {
                let request = self.next_request.max(self.silent_until);
                let ping = (self.last_sent + self.timeout / 3).max(self.silent_until);
                let heard = self.last_heard.max(self.silent_until);
                let patience = heard + self.timeout * 2 / 3 + Duration::from_millis(1);
                let idle = self.done || (self.last_round.is_some() && self.prepared);
                let request = if idle { ping } else { request };
                request.min(ping).min(patience)
            }
        };
        Some((at, "the client's next step"))
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn frame_length(&self, _conn: ConnId, _first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        super::jute::frame_length(bytes)
    }
}
