//! What does a ZooKeeper client do that would take a read-only session? It goes from node to node, reads registers, and tries to
//! write where it may not. What it is shown in a read-only session is the state at one position, which stays the same as long as the
//! session lasts, is none that it had seen past, and is left when the node is back (ZK-2).

use super::jute::{Frame, Reader, op};
use super::zk_client::REGISTERS;
use crate::observe::{Observation, ZkLook};
use crate::process::Process;
use bytes::Bytes;
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::{ConnId, Input, Instant, Output};

/// What a write in a read-only session is answered.
const NOT_READ_ONLY: i32 = -119;
/// Answers in a session that may write, after which it goes elsewhere.
const READS: u32 = 5;
/// What it takes for a dead connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where it is.
#[derive(Debug)]
enum Link {
    /// Dial at that time.
    Down(Instant),
    /// Connecting, since then.
    Handshake(ConnId, Instant),
    Up(Up),
}

/// A session, over this connection.
#[derive(Debug)]
struct Up {
    conn: ConnId,
    read_only: bool,
    /// Of its first answer.
    zxid: Option<i64>,
    answers: u32,
    /// What was asked and not answered: the register that is read; `None`: a write.
    asked: Option<(i32, Option<String>)>,
    heard_at: Instant,
    next: Instant,
}

/// A client.
#[derive(Debug)]
pub struct ZkLooker {
    addrs: Vec<String>,
    timeout: Duration,
    every: Duration,
    calm_at: Instant,
    rng: Rng,
    link: Link,
    dialled: u64,
    session: i64,
    password: Vec<u8>,
    zxid: i64,
    xid: i32,
    done: bool,
    out: Vec<Output<Observation>>,
}

impl ZkLooker {
    /// A client that connects at once, to any of these.
    pub fn new(
        addrs: Vec<String>,
        timeout: Duration,
        every: Duration,
        calm_at: Instant,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            addrs,
            timeout,
            every,
            calm_at,
            rng: Rng::new(seed, "zk looker"),
            link: Link::Down(now),
            dialled: 0,
            session: 0,
            password: vec![0; 16],
            zxid: 0,
            xid: 0,
            done: false,
            out: Vec::new(),
        }
    }

    fn conn(&self) -> Option<ConnId> {
        match &self.link {
            Link::Down(_) => None,
            Link::Handshake(conn, _) => Some(*conn),
            Link::Up(up) => Some(up.conn),
        }
    }

    fn broken(&mut self, text: String) {
        self.out.push(Output::Event(Observation::Broken { promise: "ZK-2", text }));
    }

    fn leave(&mut self, now: Instant) {
        if let Some(conn) = self.conn() {
            self.out.push(Output::Close { conn });
        }
        self.gone(now);
    }

    fn gone(&mut self, now: Instant) {
        // Another client comes, who has seen nothing yet: one that has seen more than a node that is cut off is not served there.
        if self.rng.chance(50) {
            (self.session, self.password, self.zxid) = (0, vec![0; 16], 0);
        }
        self.link = Link::Down(now + Duration::from_millis(self.rng.between(1, 150)));
    }

    fn dial(&mut self, now: Instant) {
        self.dialled += 1;
        let conn = ConnId::dialled(self.dialled);
        let addr = self.addrs[self.rng.below(self.addrs.len() as u64) as usize].clone();
        self.link = Link::Handshake(conn, now);
        self.out.push(Output::Dial { conn, addr });
    }

    fn connected(&mut self, conn: ConnId) {
        let timeout_ms = self.timeout.as_millis() as i32;
        let hello = Frame::bare().int(0).long(self.zxid).int(timeout_ms).long(self.session);
        self.out.push(Output::Send { conn, bytes: hello.bytes(&self.password).bool(true).done() });
    }

    fn handshake(&mut self, now: Instant, conn: ConnId, frame: &[u8]) {
        let mut r = Reader(frame);
        let parsed = (|| Some((r.int()?, r.int()?, r.long()?, r.bytes()?, r.bool()?)))();
        let Some((_, timeout, session, password, read_only)) = parsed else {
            return self.broken(format!("a handshake answer of {} bytes", frame.len()));
        };
        if timeout <= 0 || session == 0 {
            (self.session, self.password) = (0, vec![0; 16]);
            return self.leave(now);
        }
        if self.session != 0 && (session, &password) != (self.session, &self.password) {
            self.broken(format!("session {:x} resumed as {session:x}", self.session));
        }
        (self.session, self.password) = (session, password);
        let (zxid, answers, asked, heard_at, next) = (None, 0, None, now, now);
        self.link = Link::Up(Up { conn, read_only, zxid, answers, asked, heard_at, next });
    }

    fn answer(&mut self, now: Instant, body: &[u8]) {
        let seen = self.zxid;
        let Link::Up(up) = &mut self.link else { return };
        let mut r = Reader(body);
        let head = (|| Some((r.int()?, r.long()?, r.int()?)))();
        let asked = up.asked.take();
        let (Some((xid, zxid, err)), Some((asked_xid, register))) = (head, asked) else {
            return self.broken(format!("{} bytes that were not asked for", body.len()));
        };
        (up.heard_at, up.answers) = (now, up.answers + 1);
        let (read_only, first) = (up.read_only, *up.zxid.get_or_insert(zxid));
        self.zxid = seen.max(zxid);
        if xid != asked_xid {
            self.broken(format!("an answer to {xid}, {asked_xid} was asked"));
        }
        if zxid < seen {
            self.broken(format!("zxid {zxid}, {seen} was shown before"));
        }
        if read_only && zxid != first {
            self.broken(format!("a read-only session went on from zxid {first} to {zxid}"));
        }
        match register {
            None if read_only && err == NOT_READ_ONLY => {}
            None => self.broken(format!("a write in a read-only session was answered with {err}")),
            Some(path) if err == 0 => {
                let parsed = (|| Some((r.bytes()?, r.stat()?)))();
                let Some((data, stat)) = parsed else {
                    return self.broken(format!("a malformed answer about {path}"));
                };
                let look = ZkLook { path, zxid, stat, data, read_only };
                self.out.push(Output::Event(Observation::Looked(look)));
            }
            // Nobody has made it yet.
            Some(_) if err == -101 => {}
            Some(path) => self.broken(format!("{path} was answered with {err}")),
        }
        if now >= self.calm_at && !read_only && !self.done {
            self.done = true;
            self.out.push(Output::Event(Observation::Done));
        }
    }

    fn work(&mut self, now: Instant) {
        match &mut self.link {
            Link::Down(at) if *at <= now => self.dial(now),
            Link::Handshake(_, since) if *since + PATIENCE <= now => self.leave(now),
            Link::Up(up) if up.heard_at + self.timeout * 2 / 3 <= now && up.asked.is_some() => {
                self.leave(now)
            }
            // Elsewhere it may be otherwise. In a read-only session it stays as long as that lasts.
            Link::Up(up) if !up.read_only && up.answers >= READS && !self.done => self.leave(now),
            Link::Up(up) if up.next <= now && up.asked.is_none() => {
                up.next = now + crate::options::around(&mut self.rng, self.every);
                self.xid += 1;
                let (xid, conn) = (self.xid, up.conn);
                let path = format!("/r{}", self.rng.below(REGISTERS));
                let writes = up.read_only && self.rng.chance(20);
                up.heard_at = now;
                let frame = if writes {
                    up.asked = Some((xid, None));
                    Frame::request(xid, op::SET).bytes(path.as_bytes()).bytes(b"never").int(-1)
                } else {
                    let frame = Frame::request(xid, op::GET).bytes(path.as_bytes()).bool(false);
                    up.asked = Some((xid, Some(path)));
                    frame
                };
                self.out.push(Output::Send { conn, bytes: frame.done() });
            }
            _ => {}
        }
    }
}

impl Process for ZkLooker {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Connected { conn } if self.conn() == Some(conn) => self.connected(conn),
            Input::Frame { conn, bytes } if self.conn() == Some(conn) => match self.link {
                Link::Handshake(..) => self.handshake(now, conn, &bytes[4..]),
                _ => self.answer(now, &bytes[4..]),
            },
            Input::Closed { conn } if self.conn() == Some(conn) => self.gone(now),
            _ => {}
        }
        self.work(now);
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        (!self.out.is_empty()).then(|| self.out.remove(0))
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let at = match &self.link {
            Link::Down(at) => *at,
            Link::Handshake(_, since) => *since + PATIENCE,
            Link::Up(up) if up.asked.is_some() => up.heard_at + self.timeout * 2 / 3,
            Link::Up(up) => up.next,
        };
        Some((at, "the looker's next step"))
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn frame_length(&self, _conn: ConnId, _first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        super::jute::frame_length(bytes)
    }
}
