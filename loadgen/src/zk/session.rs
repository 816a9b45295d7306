//! How does one session talk to one server? Bytes in, bytes out: the handshake, requests in flight, pings,
//! resuming after a lost connection, the end. No sockets and no clock in here.

use super::trouble::{Cause, Troubles};
use super::verify::{Known, Verify};
use super::wire::{self, Encoder};
use super::work::{EVENT, Job, KINDS, LAST_EVENT, OPEN, Paths, Phase, Work};
use crate::args::Auth;
use crate::payload::Payload;
use crate::recorder::Recorder;
use serde::Serialize;
use std::collections::VecDeque;
use zoolog_zk::jute::{ConnectResponse, ErrorCode, Reader, ReplyHeader, frame_length, xid};

/// Bytes of a reply at most.
const REPLY_BYTES_MAX: usize = 64 << 20;
/// Bytes of the answer to the handshake at most: all ZooKeepers send 36 or 37.
const GREETING_BYTES_MAX: usize = 256;
/// Bytes waiting to be sent beyond which no more requests are written.
const OUT_BYTES_MAX: usize = 1 << 20;
/// Pauses between attempts to connect, in nanoseconds: first, and the most it doubles up to.
const BACKOFF_NS: (u64, u64) = (20_000_000, 1_000_000_000);

/// What all sessions of a thread share.
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
    /// What is wrong with servers.
    pub troubles: Troubles,
    /// Writes requests.
    pub encoder: Encoder,
    /// Where in the recorder each of [`KINDS`] is.
    pub kinds: [Option<usize>; KINDS.len()],
    /// What to ask for, in milliseconds.
    pub session_timeout_ms: u32,
    /// How long a server may take to answer the handshake, in nanoseconds.
    pub greeting_ns: u64,
    /// What to show on each connection.
    pub auth: Option<Auth>,
    /// When a server last said anything to any session.
    pub heard_ns: u64,
}

impl World {
    fn record(&mut self, kind: usize, intended_ns: u64, sent_ns: u64, now_ns: u64) {
        let kind = self.kinds[kind].expect("only kinds of this run are measured");
        self.recorder.answered(kind, intended_ns, sent_ns, now_ns, 1);
    }
}

/// What happened besides answers.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Operations of the schedule (fixed rate).
    pub scheduled: u64,
    /// Operations that began more than 10 ms later than intended (fixed rate).
    pub begun_late: u64,
    /// Operations that were scheduled but never begun (fixed rate).
    pub never_begun: u64,
}

impl Counts {
    /// Adds what another counted.
    pub fn merge(&mut self, more: &Self) {
        self.unknown += more.unknown;
        self.connections_lost += more.connections_lost;
        self.resumed += more.resumed;
        self.expired += more.expired;
        self.connects_failed += more.connects_failed;
        self.pings += more.pings;
        self.scheduled += more.scheduled;
        self.begun_late += more.begun_late;
        self.never_begun += more.never_begun;
    }
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
    /// Its session ended, as a session storm wants it; the connection is to be closed.
    Over,
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
    /// The server that it is connected to, or tries.
    server: usize,
    /// Why the connection at hand comes to nothing is known already.
    is_noted: bool,
    dialled_ns: u64,
    /// When it last got room for a request.
    room_ns: u64,
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
            server: 0,
            is_noted: false,
            dialled_ns: 0,
            room_ns: 0,
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

    /// Whether nothing of it waits for an answer, and it is up.
    pub fn is_idle(&self) -> bool {
        self.state == State::Up && self.in_flight.is_empty()
    }

    /// A connection to server number `server` is being made.
    pub fn dialling(&mut self, now_ns: u64, server: usize) {
        assert!(matches!(self.state, State::Down { .. }), "session {} dials in {:?}", self.index, self.state);
        self.state = State::Dialling;
        (self.server, self.is_noted) = (server, false);
        (self.dialled_ns, self.heard_ns) = (now_ns, now_ns);
    }

    /// The connection is there: introduces itself.
    pub fn connected(&mut self, now_ns: u64, world: &World) {
        assert_eq!(self.state, State::Dialling, "session {}", self.index);
        self.state = State::Handshake;
        self.heard_ns = now_ns;
        self.output.clear();
        wire::connect(self.id, &self.password, world.session_timeout_ms, self.zxid, &mut self.output);
    }

    /// What is wrong with the server, unless that is known already.
    fn note(&mut self, world: &mut World, cause: Cause) {
        if !std::mem::replace(&mut self.is_noted, true) {
            world.troubles.note(self.server, cause);
        }
    }

    /// The connection is gone, or was given up; `why` as the kernel says it.
    pub fn disconnected(&mut self, now_ns: u64, why: &str, world: &mut World) {
        match self.state {
            State::Closed => return,
            State::Over => {
                self.state = State::Down { until_ns: now_ns };
                return;
            }
            State::Up => {
                world.counts.connections_lost += 1;
                self.note(world, Cause::Lost(why.to_owned()));
            }
            State::Handshake => {
                world.counts.connects_failed += 1;
                self.note(world, Cause::Closed);
            }
            State::Dialling | State::Down { .. } => {
                world.counts.connects_failed += 1;
                self.note(world, Cause::Unreachable(why.to_owned()));
            }
        }
        for pending in std::mem::take(&mut self.in_flight) {
            if !world.work.lost(self.index, pending.job) {
                world.counts.unknown += 1;
            }
        }
        world.work.watch_lost(self.index);
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
        (self.heard_ns, world.heard_ns) = (now_ns, now_ns);
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let is_greeting = self.state == State::Handshake;
            let longest = if is_greeting { GREETING_BYTES_MAX } else { REPLY_BYTES_MAX };
            match frame_length(rest, longest) {
                Ok(Some(length)) if length <= rest.len() => {
                    self.frame(now_ns, &rest[4..length], world)?;
                    used += length;
                }
                Ok(_) => return Ok(used),
                Err(_) if is_greeting => {
                    self.note(world, Cause::foreign(rest));
                    return Err(Hangup);
                }
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
        match header.xid {
            xid::PING => {
                world.verify.zxid(self.index, self.zxid, &header);
                self.zxid = self.zxid.max(header.zxid);
                return Ok(());
            }
            xid::EVENT if world.work.storm().is_some() => {
                self.event(now_ns, body, world);
                return Ok(());
            }
            xid::AUTH => return self.authenticated(&header, world),
            _ => {}
        }
        if let Some(cause) = (header.err != 0).then(|| Cause::of_error(header.err)).flatten() {
            self.note(world, cause);
        }
        let due = self.in_flight.front().map(|p| p.xid);
        let in_order = world.verify.header(self.index, due, self.zxid, &header);
        self.zxid = self.zxid.max(header.zxid);
        if !in_order {
            return Err(Hangup);
        }
        if self.in_flight.len() >= world.work.depth() {
            self.room_ns = now_ns;
        }
        let pending = self.in_flight.pop_front().expect("a reply in order has a request");
        match pending.job.kind() {
            Some(kind) => self.answered(now_ns, pending, kind, &header, body, world),
            None => self.set_up(pending.job, &header, world),
        }
    }

    /// The answer to a request of the load.
    fn answered(
        &mut self,
        now_ns: u64,
        pending: Pending,
        kind: usize,
        header: &ReplyHeader,
        body: Reader<'_>,
        world: &mut World,
    ) -> Result<(), Hangup> {
        let World { verify, work, payload, paths, .. } = world;
        let known = Known { work, payload, paths };
        if !verify.answer(self.index, pending.job, header, body, known) {
            world.recorder.failed(now_ns);
            return Ok(());
        }
        world.record(kind, pending.intended_ns, pending.sent_ns, now_ns);
        match pending.job {
            Job::Arm => world.work.armed(self.index),
            Job::Leave => {
                (self.id, self.password, self.state) = (0, [0; 16], State::Over);
                return Err(Hangup);
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer to a request of the set-up, or to the last one.
    fn set_up(&mut self, job: Job, header: &ReplyHeader, world: &mut World) -> Result<(), Hangup> {
        if job == Job::Close {
            self.state = State::Closed;
            return Err(Hangup);
        }
        let exists = header.error() == Some(ErrorCode::NodeExists);
        if header.err == 0 || (exists && matches!(job, Job::Parent(_) | Job::Fill(_))) {
            world.work.done(job, exists);
            return Ok(());
        }
        if world.work.phase() < Phase::Load {
            let what = format!("making the nodes failed: {job:?} got {:?} ({})", header.error(), header.err);
            self.note(world, Cause::Failed(what));
        }
        world.work.lost(self.index, job);
        Err(Hangup)
    }

    /// The answer to the credentials.
    fn authenticated(&mut self, header: &ReplyHeader, world: &mut World) -> Result<(), Hangup> {
        if header.err == 0 {
            return Ok(());
        }
        self.note(world, Cause::Denied(header.err));
        Err(Hangup)
    }

    /// A watch fired.
    fn event(&mut self, now_ns: u64, body: Reader<'_>, world: &mut World) {
        let heard = world.work.heard(self.index);
        world.verify.event(self.index, body, world.paths.key(0), heard.is_some());
        if let Some((fired_ns, is_last)) = heard {
            world.record(EVENT, fired_ns, fired_ns, now_ns);
            if is_last {
                world.record(LAST_EVENT, fired_ns, fired_ns, now_ns);
            }
        }
    }

    /// The answer to the handshake.
    fn greeted(&mut self, now_ns: u64, payload: &[u8], world: &mut World) -> Result<(), Hangup> {
        let Ok(answer) = ConnectResponse::decode(payload) else {
            self.note(world, Cause::foreign(payload));
            return Err(Hangup);
        };
        if answer.timeout_ms <= 0 {
            if self.id != 0 {
                world.counts.expired += 1;
                self.is_noted = true; // this session came to its end: no fault of the server's
            } else {
                self.note(world, Cause::Refused);
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
        (self.said_ns, self.room_ns) = (now_ns, now_ns);
        self.backoff_ns = BACKOFF_NS.0;
        world.troubles.cured(self.server);
        if let Some(auth) = &world.auth {
            wire::auth(auth, &mut self.output);
        }
        if world.work.is_session_storm() {
            world.record(OPEN, self.dialled_ns, self.dialled_ns, now_ns);
        }
        Ok(())
    }

    /// Writes as many requests as there is room and work for.
    pub fn top_up(&mut self, now_ns: u64, world: &mut World) {
        if self.state != State::Up {
            return;
        }
        while self.in_flight.len() < world.work.depth() && self.output.len() < OUT_BYTES_MAX {
            if matches!(self.in_flight.back(), Some(p) if p.job == Job::Leave) {
                break; // nothing comes behind the end of a session
            }
            let Some((job, intended_ns)) = world.work.next(self.index, now_ns) else { break };
            let xid = self.next_xid;
            self.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
            world.encoder.job(job, self.index, xid, &mut world.paths, &mut world.payload, &mut self.output);
            self.in_flight.push_back(Pending { xid, job, intended_ns, sent_ns: now_ns });
            self.said_ns = now_ns;
            // What lies before the session had room is the servers' lateness, not the generator's.
            world.recorder.begun(intended_ns, now_ns - intended_ns.max(self.room_ns).min(now_ns));
            if now_ns - intended_ns > 10_000_000 {
                world.counts.begun_late += 1;
            }
        }
    }

    /// Pings when it was silent for a third of its timeout; gives a server up that was for two thirds.
    ///
    /// # Errors
    /// When the connection must be given up.
    pub fn tick(&mut self, now_ns: u64, world: &mut World) -> Result<(), Hangup> {
        let patience_ns = match self.state {
            State::Up => self.timeout_ns,
            State::Dialling | State::Handshake => world.greeting_ns / 2 * 3,
            State::Down { .. } | State::Over | State::Closed => return Ok(()),
        };
        let silent_ns = now_ns.saturating_sub(self.heard_ns);
        if silent_ns > patience_ns / 3 * 2 {
            self.note(world, Cause::Silent(silent_ns / 1_000_000));
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
            Target::Zk(args) => *args,
            _ => unreachable!("asked for zk"),
        }
    }

    /// A session under load, with its world, up at time 0.
    fn up() -> (Session, World) {
        let mut world = crate::zk::worlds(&args(), 1).remove(0);
        world.work.start_load(0, u64::MAX - 1, None);
        let mut session = Session::new(0, 4);
        connect(&mut session, &mut world, 77);
        (session, world)
    }

    /// Connects; gives back which session was asked for, and the zxid seen.
    fn connect(session: &mut Session, world: &mut World, id: i64) -> (i64, i64) {
        session.dialling(0, 0);
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
            let data_length = 128;
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
        session.disconnected(4, "gone", &mut world);
        assert_eq!((world.counts.unknown, world.counts.connections_lost), (4, 1));
        assert_eq!(
            connect(&mut session, &mut world, 77),
            (77, zxid),
            "the same session, and what it has seen"
        );
        assert_eq!((world.counts.resumed, world.counts.expired), (1, 0));
        session.disconnected(5, "gone", &mut world);
        assert_eq!(connect(&mut session, &mut world, 0).0, 77);
        session.disconnected(6, "gone", &mut world);
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
    fn what_is_wrong_with_a_server_is_said_once_the_connection_is_given_up() {
        let told = |answer: &[u8], now_ns: u64| {
            let mut world = crate::zk::worlds(&args(), 1).remove(0);
            let mut session = Session::new(0, 4);
            session.dialling(0, 0);
            session.connected(0, &world);
            if session.received(0, answer, &mut world).is_ok() {
                let _ = session.tick(now_ns, &mut world);
            }
            session.disconnected(now_ns, "end of stream", &mut world);
            world.troubles.told(&["a:1".to_owned()])
        };
        assert!(told(b"HTTP/1.1 400 Bad Request\r\n", 1).contains("no ZooKeeper (it says \"HTTP/1.1 400"));
        assert!(told(b"\0\0\0\x03abc", 1).contains("no ZooKeeper"));
        assert!(told(b"", 1).contains("closed the connection without an answer"));
        assert!(told(b"", 60_000 * MS).contains("has answered nothing for 60000 ms"));
        let mut refusal = Vec::new();
        ConnectResponse::refusal(Some(false)).encode(&mut refusal);
        assert!(told(&refusal, 1).contains("refuses to give a session"));
    }

    #[test]
    fn an_error_that_wants_credentials_is_final() {
        let (mut session, mut world) = up();
        session.top_up(1, &mut world);
        let mut bytes = Vec::new();
        responses::error(&mut bytes, 1, 9, ErrorCode::SessionClosedRequireSaslAuth);
        let _ = session.received(2, &bytes, &mut world);
        assert!(world.troubles.is_final(), "{:?}", world.troubles);
    }

    #[test]
    fn the_generators_lateness_does_not_count_what_the_server_kept_it_waiting() {
        use super::super::work::Pace;
        let mut world = crate::zk::worlds(&args(), 1).remove(0);
        world.recorder = Recorder::new(&["get", "set"], true);
        world.recorder.open(1, 1 << 40);
        world.work.start_load(0, 1 << 40, Some(Pace { first_ns: 1_000.0, interval_ns: 1_000.0 }));
        let mut session = Session::new(0, 4);
        connect(&mut session, &mut world, 77);
        let (mut versions, mut zxid) = ([0; 3], 5);
        session.top_up(4_000, &mut world); // the depth of 4 is full
        assert_eq!(world.recorder.lateness().max() / 1_000, 3);
        let bytes = serve(&mut session, &mut world, &mut versions, &mut zxid);
        session.received(9 * MS, &bytes, &mut world).expect("all is well");
        session.top_up(9 * MS + 2_000, &mut world);
        assert_eq!(world.recorder.lateness().len(), 8);
        assert!(world.recorder.lateness().max() < 5_000, "{}", world.recorder.lateness().max());
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
