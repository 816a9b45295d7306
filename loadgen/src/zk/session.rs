//! How does one session talk to one server? Bytes in, bytes out: the handshake, requests in flight, pings,
//! resuming after a lost connection, the end. No sockets and no clock in here.

use super::verify::{Known, Verify};
use super::wire::{self, Encoder};
use super::work::{Job, Paths, Phase, Work};
use crate::payload::Payload;
use crate::recorder::Recorder;
use serde::Serialize;
use std::collections::VecDeque;
use zoolog_zk::jute::{ConnectResponse, ErrorCode, ReplyHeader, frame_length, xid};

/// Bytes of a reply at most.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Bytes waiting to be sent beyond which no more requests are written.
const OUT_BYTES_MAX: usize = 1 << 20;
/// Pauses between attempts to connect, in nanoseconds: first, and the most it doubles up to.
const BACKOFF_NS: (u64, u64) = (20_000_000, 1_000_000_000);

/// What all sessions of a run share.
#[derive(Debug)]
pub struct World {
    /// What to do next.
    pub work: Work,
    /// Whether it was right.
    pub verify: Verify,
    /// What is written.
    pub payload: Payload,
    /// Where.
    pub paths: Paths,
    /// How long it took.
    pub recorder: Recorder,
    /// What else happened.
    pub counts: Counts,
    /// Writes requests.
    pub encoder: Encoder,
    /// Where in the recorder each of [`KINDS`](super::work::KINDS) is.
    pub kinds: [Option<usize>; 4],
    /// What to ask for, in milliseconds.
    pub session_timeout_ms: u32,
}

/// What happened besides answers.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Requests of the load whose connection was lost before their answer.
    pub unknown: u64,
    /// Connections lost after their session was up.
    pub connections_lost: u64,
    /// Sessions resumed on another connection.
    pub resumed: u64,
    /// Sessions that the server had given up, and that were replaced by new ones.
    pub expired: u64,
    /// Attempts to connect that came to nothing.
    pub connects_failed: u64,
    /// Pings sent.
    pub pings: u64,
    /// Operations that began more than 10 ms later than intended (fixed rate).
    pub begun_late: u64,
    /// Operations that were scheduled but never begun (fixed rate).
    pub never_begun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    xid: i32,
    job: Job,
    intended_ns: u64,
    sent_ns: u64,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection; dial at this time.
    Down {
        /// Nanoseconds.
        until_ns: u64,
    },
    /// TCP is being connected.
    Dialling,
    /// The connect request is out.
    Handshake,
    /// Requests may be sent.
    Up,
    /// Ended.
    Closed,
}

/// A session of the load.
#[derive(Debug)]
pub struct Session {
    index: u32,
    state: State,
    id: i64,
    password: [u8; 16],
    timeout_ns: u64,
    next_xid: i32,
    /// Greatest zxid seen, on whichever connection: no server that is behind it may serve this session.
    zxid: i64,
    in_flight: VecDeque<Pending>,
    output: Vec<u8>,
    heard_ns: u64,
    said_ns: u64,
    backoff_ns: u64,
}

/// The connection is of no more use.
#[derive(Debug, PartialEq, Eq)]
pub struct Hangup;

impl Session {
    /// The session number `index`, not connected.
    pub fn new(index: u32, depth: u32) -> Self {
        Self {
            index,
            state: State::Down { until_ns: 0 },
            id: 0,
            password: [0; 16],
            timeout_ns: 0,
            next_xid: 1,
            zxid: 0,
            in_flight: VecDeque::with_capacity(depth as usize),
            output: Vec::with_capacity(16 << 10),
            heard_ns: 0,
            said_ns: 0,
            backoff_ns: BACKOFF_NS.0,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Requests of the load that wait for an answer.
    pub fn measured_in_flight(&self) -> u64 {
        self.in_flight.iter().filter(|p| p.job.kind().is_some()).count() as u64
    }

    /// What is to be sent; whoever sends it takes it out.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// A connection is being made.
    pub fn dialling(&mut self, now_ns: u64) {
        assert!(matches!(self.state, State::Down { .. }), "session {} dials in {:?}", self.index, self.state);
        self.state = State::Dialling;
        self.heard_ns = now_ns;
    }

    /// The connection is there: introduces itself.
    pub fn connected(&mut self, now_ns: u64, world: &World) {
        assert_eq!(self.state, State::Dialling, "session {}", self.index);
        self.state = State::Handshake;
        self.heard_ns = now_ns;
        self.output.clear();
        wire::connect(self.id, &self.password, world.session_timeout_ms, self.zxid, &mut self.output);
    }

    /// The connection is gone, or was given up.
    pub fn disconnected(&mut self, now_ns: u64, world: &mut World) {
        match self.state {
            State::Closed => return,
            State::Up => world.counts.connections_lost += 1,
            _ => world.counts.connects_failed += 1,
        }
        for pending in std::mem::take(&mut self.in_flight) {
            if !world.work.lost(self.index, pending.job) {
                world.counts.unknown += 1;
            }
        }
        self.output.clear();
        self.state = if world.work.phase() == Phase::Close {
            State::Closed // it ends by its timeout
        } else {
            State::Down { until_ns: now_ns + self.backoff_ns }
        };
        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_NS.1);
    }

    /// Takes the frames that have come; returns how many bytes they were.
    ///
    /// # Errors
    /// When the connection must be given up.
    pub fn received(&mut self, now_ns: u64, bytes: &[u8], world: &mut World) -> Result<usize, Hangup> {
        self.heard_ns = now_ns;
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match frame_length(rest, REPLY_BYTES_MAX) {
                Ok(Some(length)) if length <= rest.len() => {
                    self.frame(now_ns, &rest[4..length], world)?;
                    used += length;
                }
                Ok(_) => return Ok(used),
                Err(e) => {
                    world.verify.malformed(self.index, e);
                    return Err(Hangup);
                }
            }
        }
    }

    fn frame(&mut self, now_ns: u64, payload: &[u8], world: &mut World) -> Result<(), Hangup> {
        if self.state == State::Handshake {
            return self.greeted(now_ns, payload, world);
        }
        let (header, body) = ReplyHeader::decode(payload).map_err(|e| {
            world.verify.malformed(self.index, e);
            Hangup
        })?;
        if header.xid == xid::PING {
            world.verify.zxid(self.index, self.zxid, &header);
            self.zxid = self.zxid.max(header.zxid);
            return Ok(());
        }
        let due = self.in_flight.front().map(|p| p.xid);
        let in_order = world.verify.header(self.index, due, self.zxid, &header);
        self.zxid = self.zxid.max(header.zxid);
        if !in_order {
            return Err(Hangup);
        }
        let pending = self.in_flight.pop_front().expect("a reply in order has a request");
        if let Some(kind) = pending.job.kind() {
            let World { verify, work, payload, paths, recorder, .. } = world;
            let known = Known { work, payload, paths };
            if verify.answer(self.index, pending.job, &header, body, known) {
                let kind = world.kinds[kind].expect("only kinds of this run are begun");
                recorder.answered(kind, pending.intended_ns, pending.sent_ns, now_ns, 1);
            }
            return Ok(());
        }
        if pending.job == Job::Close {
            self.state = State::Closed;
            return Err(Hangup);
        }
        let exists = header.error() == Some(ErrorCode::NodeExists);
        if header.err == 0 || (exists && matches!(pending.job, Job::Parent(_) | Job::Fill(_))) {
            world.work.done(pending.job, exists);
            return Ok(());
        }
        world.verify.malformed(self.index, format_args!("{:?} failed with {}", pending.job, header.err));
        Err(Hangup)
    }

    /// The answer to the handshake.
    fn greeted(&mut self, now_ns: u64, payload: &[u8], world: &mut World) -> Result<(), Hangup> {
        let answer = ConnectResponse::decode(payload).map_err(|e| {
            world.verify.malformed(self.index, e);
            Hangup
        })?;
        if answer.timeout_ms <= 0 {
            if self.id != 0 {
                world.counts.expired += 1;
            }
            (self.id, self.password) = (0, [0; 16]);
            return Err(Hangup);
        }
        if self.id != 0 {
            world.counts.resumed += 1;
        }
        (self.id, self.password) = (answer.session, answer.password);
        self.timeout_ns = answer.timeout_ms as u64 * 1_000_000;
        self.state = State::Up;
        self.said_ns = now_ns;
        self.backoff_ns = BACKOFF_NS.0;
        Ok(())
    }

    /// Writes as many requests as there is room and work for.
    pub fn top_up(&mut self, now_ns: u64, world: &mut World) {
        if self.state != State::Up {
            return;
        }
        while self.in_flight.len() < world.work.depth() && self.output.len() < OUT_BYTES_MAX {
            let Some((job, intended_ns)) = world.work.next(self.index, now_ns) else { break };
            let xid = self.next_xid;
            self.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
            world.encoder.job(job, self.index, xid, &mut world.paths, &mut world.payload, &mut self.output);
            self.in_flight.push_back(Pending { xid, job, intended_ns, sent_ns: now_ns });
            self.said_ns = now_ns;
            if now_ns - intended_ns > 10_000_000 {
                world.counts.begun_late += 1;
            }
        }
    }

    /// When its next operation is meant to start, if it could start then.
    pub fn due_ns(&self, world: &World) -> Option<u64> {
        let has_room = self.state == State::Up && self.in_flight.len() < world.work.depth();
        if has_room { world.work.due_ns(self.index) } else { None }
    }

    /// Pings when it was silent for a third of its timeout; gives a server up that was for two thirds.
    ///
    /// # Errors
    /// When the connection must be given up.
    pub fn tick(&mut self, now_ns: u64, world: &mut World) -> Result<(), Hangup> {
        let patience_ns = match self.state {
            State::Up => self.timeout_ns,
            State::Dialling | State::Handshake => u64::from(world.session_timeout_ms) * 1_000_000,
            State::Down { .. } | State::Closed => return Ok(()),
        };
        if now_ns.saturating_sub(self.heard_ns) > patience_ns / 3 * 2 {
            return Err(Hangup);
        }
        if self.state == State::Up && now_ns.saturating_sub(self.said_ns) > patience_ns / 3 {
            wire::ping(&mut self.output);
            self.said_ns = now_ns;
            world.counts.pings += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Target, ZkArgs};
    use clap::Parser;
    use zoolog_zk::jute::responses::{self, ConnectResponse};
    use zoolog_zk::jute::{ConnectRequest, Reader, Request, RequestHeader};
    use zoolog_zk::txn::Stat;

    const MS: u64 = 1_000_000;

    fn args() -> ZkArgs {
        let line =
            ["loadgen", "zk", "--servers", "a:1", "--op", "mixed:50", "--sessions", "1", "--keys", "3"];
        match Cli::parse_from(line.iter().chain(&["--depth", "4"])).target {
            Target::Zk(args) => args,
            Target::Log(_) => unreachable!("asked for zk"),
        }
    }

    /// A session under load, with its world, up at time 0.
    fn up() -> (Session, World) {
        let mut world = crate::zk::world(&args(), 1);
        world.work.start_load(0, u64::MAX - 1);
        let mut session = Session::new(0, 4);
        connect(&mut session, &mut world, 77);
        (session, world)
    }

    /// Connects; gives back which session was asked for, and the zxid seen.
    fn connect(session: &mut Session, world: &mut World, id: i64) -> (i64, i64) {
        session.dialling(0);
        session.connected(0, world);
        let sent = std::mem::take(session.output());
        let asked = ConnectRequest::decode(&sent[4..]).expect("a connect request");
        let asked = (asked.session, asked.last_zxid_seen);
        let mut answer = Vec::new();
        let timeout_ms = if id == 0 { 0 } else { 9_000 };
        ConnectResponse { timeout_ms, session: id, password: [5; 16], read_only: Some(false) }
            .encode(&mut answer);
        let taken = session.received(0, &answer, world);
        assert_eq!(taken, if id == 0 { Err(Hangup) } else { Ok(answer.len()) });
        asked
    }

    /// A server with three nodes: answers every request that was sent, at rising zxids.
    fn serve(session: &mut Session, world: &mut World, versions: &mut [i32; 3], zxid: &mut i64) -> Vec<u8> {
        let sent = std::mem::take(session.output());
        let (mut out, mut rest) = (Vec::new(), &sent[..]);
        while let Ok(Some(length)) = frame_length(rest, 1 << 20) {
            let mut r = Reader::new(&rest[4..length]);
            let header = RequestHeader::decode(&mut r).expect("a header");
            let request = Request::decode(header.op, r.rest()).expect("a request");
            rest = &rest[length..];
            *zxid += 1;
            let (path, set) = match &request {
                Request::SetData { path, .. } => (path.clone(), true),
                Request::GetData { path, .. } => (path.clone(), false),
                other => panic!("{other:?}"),
            };
            let key: usize = path[path.len() - 8..].parse().expect("a key");
            versions[key] += i32::from(set);
            let data_length = world.payload.bytes() as i32;
            let stat = Stat { version: versions[key], mzxid: *zxid, data_length, ..Stat::default() };
            if set {
                responses::stat(&mut out, header.xid, *zxid, &stat);
            } else {
                let origin = crate::payload::Origin { key: key as u32, writer: 0, counter: 0 };
                let value = world.payload.make(origin).to_vec();
                responses::data(&mut out, header.xid, *zxid, Some(&value), &stat);
            }
        }
        out
    }

    #[test]
    fn a_right_server_passes_all_checks_however_its_bytes_arrive() {
        let (mut session, mut world) = up();
        let (mut versions, mut zxid) = ([0; 3], 5);
        for round in 1..50 {
            session.top_up(round, &mut world);
            let bytes = serve(&mut session, &mut world, &mut versions, &mut zxid);
            let cut = bytes.len() * (round as usize % 7) / 7;
            let used = session.received(round, &bytes[..cut], &mut world).expect("all is well");
            assert!(used <= cut);
            let rest = session.received(round, &bytes[used..], &mut world).expect("all is well");
            assert_eq!(used + rest, bytes.len());
            assert_eq!(session.measured_in_flight(), 0);
        }
        assert_eq!(world.recorder.answered_ever(), 49 * 4);
        let checks = world.verify.finish();
        assert!(!checks.any_failed(), "{}", checks.summary());
    }

    /// Each way of being wrong, by the words of the check it must fail.
    #[test]
    fn a_wrong_server_is_caught() {
        type Spoil = fn(&mut Vec<u8>);
        let wrongs: [(&str, Spoil); 4] = [
            ("order of the requests", |bytes| bytes[7] += 1),
            ("zxid of replies", |bytes| bytes[8..16].copy_from_slice(&1i64.to_be_bytes())),
            ("unexpected error", |bytes| {
                bytes.clear();
                responses::error(bytes, 5, 1 << 40, ErrorCode::NoNode);
            }),
            ("can be decoded", |bytes| bytes[..4].copy_from_slice(&(-5i32).to_be_bytes())),
        ];
        for (check, spoil) in wrongs {
            let (mut session, mut world) = up();
            let (mut versions, mut zxid) = ([0; 3], 5);
            for round in 0..2 {
                session.top_up(round, &mut world);
                let mut bytes = serve(&mut session, &mut world, &mut versions, &mut zxid);
                if round == 1 {
                    spoil(&mut bytes);
                }
                let _ = session.received(round, &bytes, &mut world);
            }
            let checks = world.verify.finish();
            assert!(checks.failed.keys().any(|name| name.contains(check)), "{check}: {}", checks.summary());
        }
    }

    #[test]
    fn a_version_or_value_from_the_past_or_the_future_is_caught() {
        let (mut session, mut world) = up();
        let (mut versions, mut zxid) = ([7; 3], 5);
        for round in 0..20 {
            session.top_up(round, &mut world);
            let bytes = serve(&mut session, &mut world, &mut versions, &mut zxid);
            session.received(round, &bytes, &mut world).expect("in order");
            if round == 10 {
                versions = [0; 3]; // a server that lost writes
            }
        }
        let checks = world.verify.finish();
        assert!(checks.failed.keys().any(|name| name.contains("raises the version")), "{}", checks.summary());
        assert!(checks.failed.keys().any(|name| name.contains("never goes back")), "{}", checks.summary());
    }

    #[test]
    fn a_lost_connection_leaves_unknowns_and_resumes_the_session() {
        let (mut session, mut world) = up();
        let (mut versions, mut zxid) = ([0; 3], 5);
        session.top_up(1, &mut world);
        let bytes = serve(&mut session, &mut world, &mut versions, &mut zxid);
        session.received(2, &bytes, &mut world).expect("all is well");
        session.top_up(3, &mut world);
        session.disconnected(4, &mut world);
        assert_eq!((world.counts.unknown, world.counts.connections_lost), (4, 1));
        assert_eq!(
            connect(&mut session, &mut world, 77),
            (77, zxid),
            "the same session, and what it has seen"
        );
        assert_eq!((world.counts.resumed, world.counts.expired), (1, 0));
        session.disconnected(5, &mut world);
        assert_eq!(connect(&mut session, &mut world, 0).0, 77);
        session.disconnected(6, &mut world);
        assert_eq!(connect(&mut session, &mut world, 78), (0, zxid), "a new one, still not back in time");
        assert_eq!((world.counts.resumed, world.counts.expired), (1, 1));
    }

    #[test]
    fn silence_is_first_answered_with_pings_then_with_a_hangup() {
        let (mut session, mut world) = up();
        assert_eq!(session.tick(2_900 * MS, &mut world), Ok(()));
        assert!(session.output().is_empty(), "not yet a third of 9 s");
        assert_eq!(session.tick(3_100 * MS, &mut world), Ok(()));
        assert_eq!((session.output().len(), world.counts.pings), (12, 1));
        let mut pong = Vec::new();
        responses::empty(&mut pong, xid::PING, 3);
        assert_eq!(session.received(5_000 * MS, &pong, &mut world), Ok(pong.len()));
        assert_eq!(session.tick(10_900 * MS, &mut world), Ok(()));
        assert_eq!(session.tick(11_100 * MS, &mut world), Err(Hangup));
    }

    #[test]
    fn garbage_ends_the_connection_and_nothing_else() {
        let mut seed = zoolog_core::rng::Rng::new(1, "garbage");
        for _ in 0..500 {
            let (mut session, mut world) = up();
            session.top_up(1, &mut world);
            let bytes: Vec<u8> =
                (0..seed.below(64)).map(|_| (seed.next_u64() & seed.next_u64()) as u8).collect();
            let _ = session.received(2, &bytes, &mut world);
        }
    }
}
