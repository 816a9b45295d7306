//! What else does a ZooKeeper client ask for, and what must come of it? Multis, permissions, containers, and
//! watches that stay. Each answer is checked here and now, by the client that got it.
//!
//! - Two nodes are only ever set together, by a multi: whoever reads both must see the same in both (ZK-1). Some
//!   multis must fail behind their first part, and leave nothing (ZK-1).
//! - A node whose ACL names one digest: clients that prove it may set it, the others never (ZK-1).
//! - Containers whose children come and go, so that they are swept: what the nodes agree on then is compared as
//!   everything else (ZK-5).
//! - Nodes that nobody deletes: whoever was told that one was made, or that its making is in the log, finds it there from
//!   then on, over whichever connection.
//! - A persistent watch: no read shows a change whose event has not come (ZK-3).

use super::jute::{Frame, Reader, op};
use super::zk_client::{Asked, What, ZkClient};
use zoolog_core::Instant;

const PAIR: [&str; 2] = ["/m0", "/m1"];
const GUARDED: &str = "/guarded";
const PROOF: &[u8] = b"sim:guard";
/// What stands in an ACL for that.
const PROVED: &[u8] = b"sim:Jl1f/DfyjoVuCcHuWltMRtZew8g=";
/// Containers that all work on.
const BOXES: u64 = 3;

const NO_NODE: i32 = -101;
const SYSTEM_ERROR: i32 = -1;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;

/// Nodes that stay and are remembered.
const KEPT_MAX: usize = 16;

/// One of these requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// Makes what the others need.
    Make,
    /// A multi that sets both of the pair.
    SetPair,
    /// A multi that sets the first, then fails.
    FailPair,
    /// A multiRead of the pair.
    ReadPair,
    /// setData of the guarded node.
    SetGuarded,
    /// Something about a container, or its child.
    Box,
    /// A persistent watch on a node.
    Watch(String),
    /// getData of what was written over a connection that the session was leaving.
    Late(String),
    /// Makes a node that stays.
    Keep(String),
    /// getData of such a node.
    Kept(String),
}

/// What one part of a multi or multiRead came to.
enum Part {
    Failed(i32),
    Done,
    /// Data, version, mzxid.
    Data(Vec<u8>, i32, i64),
}

fn header(frame: Frame, op: i32, done: bool) -> Frame {
    frame.int(op).bool(done).int(-1)
}

fn parts(r: &mut Reader<'_>) -> Option<Vec<Part>> {
    let mut all = Vec::new();
    loop {
        let (op, done, err) = (r.int()?, r.bool()?, r.int()?);
        if done {
            return Some(all);
        }
        all.push(match op {
            -1 if r.int()? == err => Part::Failed(err),
            op::SET => {
                r.stat()?;
                Part::Done
            }
            op::GET => {
                let data = r.bytes()?;
                let stat = r.stat()?;
                Part::Data(data, stat.version, stat.mzxid)
            }
            _ => return None,
        });
    }
}

impl ZkClient {
    /// Whether it proves what the guarded node asks for.
    fn proves(&self) -> bool {
        self.cfg.client.is_multiple_of(2)
    }

    /// What a client sends first, on each connection.
    pub(super) fn proof(&self) -> Option<Frame> {
        let frame = || Frame::request(-4, op::AUTH).int(0).bytes(b"digest").bytes(PROOF);
        self.proves().then(frame)
    }

    fn ask_more(&mut self, now: Instant, more: More, record: impl FnOnce(i32) -> Frame) {
        self.xid += 1;
        self.in_flight.push_back(Asked { xid: self.xid, at: now, what: What::More(more) });
        if let Some(conn) = self.conn() {
            let frame = record(self.xid);
            self.send(now, conn, frame.done());
        }
    }

    /// Makes the nodes that these requests are about.
    pub(super) fn prepare_more(&mut self, now: Instant) {
        for path in PAIR {
            self.ask_more(now, More::Make, |xid| {
                Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(b"").open_acl().int(0)
            });
        }
        self.ask_more(now, More::Make, |xid| {
            let frame = Frame::request(xid, op::CREATE).bytes(GUARDED.as_bytes()).bytes(b"");
            frame.int(2).int(31).bytes(b"digest").bytes(PROVED).int(1).bytes(b"world").bytes(b"anyone").int(0)
        });
    }

    /// One of these requests.
    pub(super) fn request_more(&mut self, now: Instant) {
        if let Some(path) = self.late.pop() {
            return self.ask_more(now, More::Late(path.clone()), |xid| {
                Frame::request(xid, op::GET).bytes(path.as_bytes()).bool(false)
            });
        }
        if self.cfg.keeps && self.rng.chance(25) {
            return self.keep(now);
        }
        let value = self.value();
        match self.rng.below(12) {
            0..3 => self.ask_more(now, More::SetPair, |xid| {
                let mut frame = Frame::request(xid, op::MULTI);
                for path in PAIR {
                    frame = header(frame, op::SET, false).bytes(path.as_bytes()).bytes(&value).int(-1);
                }
                header(frame, -1, true)
            }),
            3 => self.ask_more(now, More::FailPair, |xid| {
                let frame = header(Frame::request(xid, op::MULTI), op::SET, false);
                let frame = frame.bytes(PAIR[0].as_bytes()).bytes(&value).int(-1);
                let frame = header(frame, op::CHECK, false).bytes(PAIR[1].as_bytes()).int(i32::MAX);
                header(frame, -1, true)
            }),
            4..6 => self.read_pair(now),
            6..8 => self.ask_more(now, More::SetGuarded, |xid| {
                Frame::request(xid, op::SET).bytes(GUARDED.as_bytes()).bytes(&value).int(-1)
            }),
            8..11 => {
                let (path, what) = (format!("/box{}", self.rng.below(BOXES)), self.rng.below(3));
                self.ask_more(now, More::Box, |xid| match what {
                    0 => Frame::request(xid, op::CREATE_CONTAINER)
                        .bytes(path.as_bytes())
                        .bytes(b"")
                        .open_acl()
                        .int(4),
                    1 => {
                        let path = path + "/k";
                        Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(b"").open_acl().int(0)
                    }
                    _ => Frame::request(xid, op::DELETE).bytes((path + "/k").as_bytes()).int(-1),
                });
            }
            _ => {
                let path = format!("/r{}", self.rng.below(super::zk_client::REGISTERS));
                self.ask_more(now, More::Watch(path.clone()), |xid| {
                    Frame::request(xid, op::ADD_WATCH).bytes(path.as_bytes()).int(0)
                });
            }
        }
    }

    /// Makes a node that stays, and reads it, or one that was made before.
    fn keep(&mut self, now: Instant) {
        self.counter += 1;
        let path = format!("/keep-{}.{}.{}", self.cfg.client, self.cfg.life, self.counter);
        self.ask_more(now, More::Keep(path.clone()), |xid| {
            Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(b"").open_acl().int(0)
        });
        let known = self.kept.len() as u64;
        let before = (known > 0).then(|| self.kept[self.rng.below(known) as usize].clone());
        let newest = self.rng.chance(50);
        self.ask_kept(now, if newest { path } else { before.unwrap_or(path) });
    }

    fn ask_kept(&mut self, now: Instant, path: String) {
        self.ask_more(now, More::Kept(path.clone()), |xid| {
            Frame::request(xid, op::GET).bytes(path.as_bytes()).bool(false)
        });
    }

    /// Reads all nodes that stay.
    pub(super) fn look_for_kept(&mut self, now: Instant) {
        for path in self.kept.clone() {
            self.ask_kept(now, path);
        }
    }

    /// Reads both of the pair at once.
    pub(super) fn read_pair(&mut self, now: Instant) {
        self.ask_more(now, More::ReadPair, |xid| {
            let mut frame = Frame::request(xid, op::MULTI_READ);
            for path in PAIR {
                frame = header(frame, op::GET, false).bytes(path.as_bytes()).bool(false);
            }
            header(frame, -1, true)
        });
    }

    /// The answer to one of these requests.
    pub(super) fn answered_more(&mut self, more: More, zxid: i64, err: i32, r: &mut Reader<'_>) {
        let writes = !matches!(more, More::Watch(_) | More::ReadPair | More::Late(_) | More::Kept(_));
        let good = match &more {
            // The disks were short of room: nothing was done.
            _ if writes && err == SYSTEM_ERROR => true,
            More::Make => matches!(err, 0 | NODE_EXISTS),
            More::Box => matches!(err, 0 | NO_NODE | NODE_EXISTS | NOT_EMPTY),
            More::SetGuarded => err == if self.proves() { 0 } else { NO_AUTH },
            More::Watch(path) => {
                self.standing.entry(path.clone()).or_insert(zxid);
                err == 0
            }
            More::Late(path) if err == 0 => match r.bytes().and_then(|_| r.stat()) {
                Some(stat) => {
                    self.late_write(path, stat.czxid);
                    true
                }
                None => false,
            },
            More::Late(_) => err == NO_NODE,
            More::Keep(path) => {
                if self.kept.len() == KEPT_MAX {
                    self.kept.pop_front();
                }
                self.kept.push_back(path.clone());
                err == 0
            }
            More::Kept(path) => err == 0 || !self.kept.contains(path),
            More::SetPair => err == 0 && matches!(parts(r).as_deref(), Some([Part::Done, Part::Done])),
            More::FailPair => {
                let parts = parts(r);
                let failed = matches!(parts.as_deref(), Some([Part::Failed(0), Part::Failed(BAD_VERSION)]));
                err == 0 && failed
            }
            More::ReadPair => match parts(r).as_deref() {
                Some([Part::Data(a, version, at), Part::Data(b, version_b, at_b)]) => {
                    (a, version) == (b, version_b) && (*version == 0 || at == at_b)
                }
                _ => false,
            },
        };
        if !good {
            self.broken("ZK-1", format!("{more:?} answered with error {err}, at zxid {zxid}"));
        }
    }

    /// An event of that zxid has come; whether a persistent watch accounts for it.
    pub(super) fn standing_event(&mut self, path: &str, zxid: i64) -> bool {
        let Some(seen) = self.standing.get_mut(path) else { return false };
        *seen = zxid.max(*seen);
        true
    }

    /// A node was seen as changed at `mzxid`: a persistent watch must have told of it.
    pub(super) fn check_standing(&mut self, path: &str, mzxid: i64) {
        if let Some(&seen) = self.standing.get(path)
            && mzxid > seen
        {
            let text = format!("{path} shows zxid {mzxid}, its persistent watch has told up to {seen}");
            self.broken("ZK-3", text);
        }
    }
}
