//! What does a ZooKeeper client do? It keeps a session over whatever connections it can get, reads and
//! writes a few registers, makes ephemerals and queue entries, watches, falls silent, and reports what came
//! of each request. After the storm it reads everything once more and is done.

use super::jute::{Frame, Reader, op};
use crate::observe::{Observation, ZkCall, ZkFact, ZkReply};
use crate::process::Process;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
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
    /// Where the service is.
    pub addrs: Vec<String>,
    /// Session timeout asked for.
    pub timeout: Duration,
    /// Mean pause between requests.
    pub every: Duration,
    /// Requests in flight at most.
    pub depth: usize,
    /// When the storm is over.
    pub calm_at: Instant,
}

/// A request in flight.
#[derive(Debug)]
struct Asked {
    xid: i32,
    at: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    Call { call: ZkCall, watch: bool },
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
    cfg: ZkClientConfig,
    rng: Rng,
    link: Link,
    dialled: u64,
    session: i64,
    password: Vec<u8>,
    timeout: Duration,
    zxid: i64,
    xid: i32,
    in_flight: VecDeque<Asked>,
    /// Not answered yet, as connections come and go.
    next_request: Instant,
    last_sent: Instant,
    last_heard: Instant,
    silent_until: Instant,
    counter: u64,
    /// Whether this life has made the nodes it works on.
    prepared: bool,
    /// Paths of own ephemerals of this session that were acknowledged.
    ephemerals: BTreeSet<String>,
    /// Data watches of this connection: path, and zxid of the reply that armed it.
    watches: BTreeMap<String, i64>,
    /// Steps of the last round still to be answered; `None` before it began.
    last_round: Option<usize>,
    done: bool,
    out: VecDeque<Output<Observation>>,
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
            ephemerals: BTreeSet::new(),
            watches: BTreeMap::new(),
            last_round: None,
            done: false,
            out: VecDeque::new(),
            cfg,
        }
    }

    fn observe(&mut self, seen: Observation) {
        self.out.push_back(Output::Event(seen));
    }

    fn fact(&mut self, asked: Instant, call: ZkCall, reply: ZkReply) {
        let (client, session) = (self.cfg.client, self.session);
        self.observe(Observation::Zk(ZkFact { client, session, asked, call, reply }));
    }

    fn broken(&mut self, promise: &'static str, text: String) {
        self.observe(Observation::Broken { promise, text });
    }

    fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::Down(_) => None,
            Link::Handshake(conn, _) | Link::Up(conn) => Some(conn),
        }
    }

    fn send(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        self.last_sent = now;
        self.out.push_back(Output::Send { conn, bytes });
    }

    fn dial(&mut self, now: Instant) {
        self.dialled += 1;
        let conn = ConnId::dialled(self.dialled);
        let addr = self.cfg.addrs[self.rng.below(self.cfg.addrs.len() as u64) as usize].clone();
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
    }

    /// The connection is gone: what was in flight on it may have happened.
    fn disconnected(&mut self, now: Instant) {
        for asked in std::mem::take(&mut self.in_flight) {
            if let What::Call { call, .. } = asked.what {
                if matches!(call, ZkCall::Create { ephemeral: false, sequential: false, .. }) {
                    self.prepared = false;
                }
                if let ZkCall::Delete { path } = &call {
                    self.ephemerals.remove(path);
                }
                self.fact(asked.at, call, ZkReply::Unknown);
            }
        }
        self.watches.clear();
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
    }

    fn handshake(&mut self, now: Instant, conn: ConnId, asked: Instant, frame: &[u8]) {
        let mut r = Reader(&frame[4..]);
        let parsed = (|| Some((r.int()?, r.int()?, r.long()?, r.bytes()?)))();
        let Some((_, timeout, session, password)) = parsed else {
            return self.broken("ZK-1", format!("a handshake answer of {} bytes", frame.len()));
        };
        let resumed = self.session != 0;
        if timeout <= 0 || session == 0 {
            if !resumed {
                return self.broken("ZK-1", "a new session was refused".into());
            }
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
        let reply =
            ZkReply::Ok { zxid: self.zxid, stat: None, data: None, path: None, names: Vec::new() };
        self.fact(asked, ZkCall::Connect { resumed }, reply);
        self.next_request = now;
    }

    fn frame(&mut self, now: Instant, conn: ConnId, frame: &[u8]) {
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
                let Some((_, _, path)) = event else { return self.broken("ZK-3", "a malformed event".into()) };
                if self.watches.remove(&path).is_none() {
                    self.broken("ZK-3", format!("an event for {path}, which is not watched"));
                }
                return;
            }
            -2 => return,
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
        let What::Call { call, watch } = asked.what else {
            self.step_done(now);
            return;
        };
        let reply = if err != 0 {
            Some(ZkReply::Error { code: err, zxid })
        } else {
            parse(&call, zxid, &mut r)
        };
        let Some(reply) = reply else { return self.broken("ZK-1", format!("a malformed answer to {call:?}")) };
        self.answered(&call, watch, &reply, zxid);
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

    /// What the client itself has to check and remember of an answer.
    fn answered(&mut self, call: &ZkCall, watch: bool, reply: &ZkReply, zxid: i64) {
        if let ZkReply::Ok { stat: Some(stat), .. } = reply
            && let ZkCall::Get { path, .. } | ZkCall::Set { path, .. } = call
        {
            if let Some(&armed) = self.watches.get(path)
                && stat.mzxid > armed
            {
                let text = format!("{path} shows zxid {}, the watch armed at {armed} has not fired", stat.mzxid);
                self.broken("ZK-3", text);
            }
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

    fn ask(&mut self, now: Instant, call: ZkCall, watch: bool) {
        self.xid += 1;
        let xid = self.xid;
        let frame = match &call {
            ZkCall::Set { path, value, version } => {
                Frame::request(xid, op::SET).bytes(path.as_bytes()).bytes(value).int(*version)
            }
            ZkCall::Get { path, .. } => Frame::request(xid, op::GET).bytes(path.as_bytes()).bool(watch),
            ZkCall::Create { path, value, ephemeral, sequential } => {
                let flags = i32::from(*ephemeral) | i32::from(*sequential) << 1;
                let frame = Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(value);
                frame.open_acl().int(flags)
            }
            ZkCall::Delete { path } => Frame::request(xid, op::DELETE).bytes(path.as_bytes()).int(-1),
            ZkCall::Children { path, .. } => {
                Frame::request(xid, op::CHILDREN).bytes(path.as_bytes()).bool(false)
            }
            ZkCall::CloseSession => Frame::request(xid, op::CLOSE),
            ZkCall::Connect { .. } => return,
        };
        self.in_flight.push_back(Asked { xid, at: now, what: What::Call { call, watch } });
        if let Some(conn) = self.conn() {
            self.send(now, conn, frame.done());
        }
    }

    fn sync(&mut self, now: Instant) {
        self.xid += 1;
        self.in_flight.push_back(Asked { xid: self.xid, at: now, what: What::Sync });
        if let Some(conn) = self.conn() {
            self.send(now, conn, Frame::request(self.xid, op::SYNC).bytes(b"/").done());
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        let mut value = format!("{}.{}.{}", self.cfg.client, self.cfg.life, self.counter).into_bytes();
        let padding = self.rng.below(60) as usize;
        value.resize(value.len() + padding, b'.');
        value
    }

    fn create(&mut self, now: Instant, path: String, ephemeral: bool, sequential: bool) {
        let value = if ephemeral || sequential { self.value() } else { Vec::new() };
        if sequential {
            self.observe(Observation::ZkEnqueue);
        }
        self.ask(now, ZkCall::Create { path, value, ephemeral, sequential }, false);
    }

    /// Makes the nodes that all clients work on, if nobody has yet.
    fn prepare(&mut self, now: Instant) {
        self.prepared = true;
        let registers = (0..REGISTERS).map(|r| format!("/r{r}"));
        let paths: Vec<String> = registers.chain(["/q".into(), "/e".into()]).collect();
        for path in paths {
            self.create(now, path, false, false);
        }
    }

    fn request(&mut self, now: Instant) {
        let register = format!("/r{}", self.rng.below(REGISTERS));
        match self.rng.below(100) {
            0..35 => {
                let value = self.value();
                self.ask(now, ZkCall::Set { path: register, value, version: -1 }, false);
            }
            35..40 => {
                let (value, version) = (self.value(), self.rng.below(20) as i32);
                self.ask(now, ZkCall::Set { path: register, value, version }, false);
            }
            40..65 => {
                let watch = self.rng.chance(30);
                self.ask(now, ZkCall::Get { path: register, synced: None }, watch);
            }
            65..72 => {
                self.sync(now);
                self.ask(now, ZkCall::Get { path: register, synced: Some(now) }, false);
            }
            72..80 => self.create(now, "/q/n-".into(), false, true),
            80..88 => {
                self.counter += 1;
                let path = format!("/e/{}.{}.{}", self.cfg.client, self.cfg.life, self.counter);
                self.create(now, path, true, false);
            }
            88..91 => {
                if let Some(path) = self.ephemerals.pop_first() {
                    self.ask(now, ZkCall::Delete { path }, false);
                }
            }
            91..94 => self.ask(now, ZkCall::Children { path: "/e".into(), synced: None }, false),
            94..97 => {
                self.sync(now);
                self.ask(now, ZkCall::Children { path: "/e".into(), synced: Some(now) }, false);
            }
            97 => self.ask(now, ZkCall::CloseSession, false),
            98 => {
                let factor = self.rng.below(3) as u32;
                self.silent_until = now + self.timeout * factor;
            }
            _ => {
                // Comes back on another connection while the old one may still be up.
                if let Some(conn) = self.conn() {
                    self.out.push_back(Output::Close { conn });
                }
                self.disconnected(now);
            }
        }
    }

    fn finish(&mut self, now: Instant) {
        let before = self.in_flight.len();
        for register in 0..REGISTERS {
            let value = self.value();
            self.ask(now, ZkCall::Set { path: format!("/r{register}"), value, version: -1 }, false);
            self.sync(now);
            self.ask(now, ZkCall::Get { path: format!("/r{register}"), synced: Some(now) }, false);
        }
        self.sync(now);
        self.ask(now, ZkCall::Children { path: "/e".into(), synced: Some(now) }, false);
        self.ask(now, ZkCall::Children { path: "/q".into(), synced: Some(now) }, false);
        self.last_round = Some(self.in_flight.len());
        assert!(self.in_flight.len() > before, "the last round asks something");
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
        let closing = self.in_flight.iter().any(|a| {
            matches!(&a.what, What::Call { call: ZkCall::CloseSession, .. })
        });
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

fn parse(call: &ZkCall, zxid: i64, r: &mut Reader<'_>) -> Option<ZkReply> {
    let (mut stat, mut data, mut path, mut names) = (None, None, None, Vec::new());
    match call {
        ZkCall::Set { .. } => stat = Some(r.stat()?),
        ZkCall::Get { .. } => {
            data = Some(r.bytes()?);
            stat = Some(r.stat()?);
        }
        ZkCall::Create { .. } => path = Some(r.string()?),
        ZkCall::Children { .. } => names = r.strings()?,
        ZkCall::Delete { .. } | ZkCall::CloseSession | ZkCall::Connect { .. } => {}
    }
    Some(ZkReply::Ok { zxid, stat, data, path, names })
}

impl Process for ZkClient {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Connected { conn } => self.connected(now, conn),
            Input::Frame { conn, bytes } => self.frame(now, conn, &bytes),
            Input::Closed { conn } if self.conn() == Some(conn) => self.disconnected(now),
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
        let Some((front, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let len = i32::from_be_bytes(*front);
        if !(0..=4 << 20).contains(&len) {
            return Err(format!("a frame of {len} bytes"));
        }
        Ok(Some(4 + len as usize))
    }
}
