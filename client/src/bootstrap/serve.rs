//! How does a node give others its snapshots? Few at a time, at a bounded rate, with a bounded number of pieces in memory;
//! on a thread of its own, so that its clients don't wait for it.
//!
//! What fills up: connections and fetchers (who comes then is refused, and tries another node), the questions of a
//! connection (more than a fetcher asks end it), what waits to leave (nothing more is read for it until that has gone).

use super::PIECE_BYTES_MAX;
use super::pace::Pace;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::wire::{self, Hello, Message, Refused, RefusedWhy, SnapshotAt, SnapshotIs, SnapshotWanted};
use zoolog_core::{ClusterId, ConnId, Input, Instant, Machine, Output, Token};

/// Connections at a time, whatever they want.
const CONNS_MAX: usize = 64;
/// Questions of one that may wait.
const QUESTIONS_MAX: usize = 16;
/// Pieces that are being read.
const READS_MAX: usize = 2;
/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Settings of a [`Serve`].
#[derive(Clone, Copy, Debug)]
pub struct ServeConfig {
    /// Whose snapshots: nobody else gets them.
    pub cluster: ClusterId,
    /// Bytes that it gives per second, to all together; 0: as many as there are.
    pub bytes_per_s: u64,
    /// How many it gives to at a time.
    pub fetchers_max: usize,
}

#[derive(Debug)]
struct Peer {
    addr: String,
    /// It has said who it is.
    known: bool,
    /// It was refused; what still arrives is of no interest.
    ending: bool,
    heard_at: Instant,
    wanted: VecDeque<SnapshotWanted>,
    /// So many of its questions, the first ones, are being answered.
    busy: usize,
    /// Much waits to leave over it.
    backlog: bool,
}

/// Gives snapshots to others. How: at the head of `bootstrap`.
#[derive(Debug)]
pub struct Serve {
    cfg: ServeConfig,
    peers: BTreeMap<ConnId, Peer>,
    pace: Pace,
    /// Who has asked which snapshot there is, while that is looked for.
    finding: Option<ConnId>,
    /// Pieces that are being read, and for whom.
    reads: BTreeMap<Token, ConnId>,
    tokens: u64,
    /// Who was served last.
    last: ConnId,
    out: VecDeque<Output<String>>,
}

impl Serve {
    /// One that has given nothing yet.
    pub fn new(cfg: ServeConfig) -> Self {
        Self {
            cfg,
            peers: BTreeMap::new(),
            pace: Pace::new(cfg.bytes_per_s),
            finding: None,
            reads: BTreeMap::new(),
            tokens: 0,
            last: ConnId(0),
            out: VecDeque::new(),
        }
    }

    fn send(&mut self, conn: ConnId, message: impl Into<Message>) {
        self.out.push_back(Output::Send { conn, bytes: wire::encode(message) });
    }

    fn refuse(&mut self, conn: ConnId, why: RefusedWhy, text: String) {
        if let Some(peer) = self.peers.get_mut(&conn).filter(|p| !p.ending) {
            peer.ending = true;
            peer.wanted.clear();
            peer.busy = 0;
            self.out.push_back(Output::Event(format!("{} gets no snapshot: {text}", peer.addr)));
            self.send(conn, Refused { why, text });
            self.out.push_back(Output::Close { conn });
        }
    }

    fn frame(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        let Some(peer) = self.peers.get_mut(&conn).filter(|p| !p.ending) else { return };
        peer.heard_at = now;
        let (known, questions) = (peer.known, peer.wanted.len());
        match wire::decode(bytes).map(|packet| packet.message) {
            Ok(Message::Hello(hello)) if !known => self.hello(conn, hello),
            Ok(Message::SnapshotWanted(_)) if known && questions >= QUESTIONS_MAX => {
                let text = format!("more than {QUESTIONS_MAX} questions at a time");
                self.refuse(conn, RefusedWhy::Invalid, text);
            }
            Ok(Message::SnapshotWanted(m)) if known => {
                let fits = |at: SnapshotAt| {
                    m.bytes <= PIECE_BYTES_MAX
                        && m.from.checked_add(m.bytes.into()).is_some_and(|end| end <= at.bytes)
                };
                if m.bytes > 0 && !m.which.is_some_and(fits) {
                    let text = format!("no piece of {} bytes lies at {}", m.bytes, m.from);
                    return self.refuse(conn, RefusedWhy::Invalid, text);
                }
                self.peers.get_mut(&conn).expect("looked at").wanted.push_back(m);
            }
            Ok(other) => {
                let text = format!("{} has no place on this connection", other.name());
                self.refuse(conn, RefusedWhy::Unexpected, text);
            }
            Err(e) => self.refuse(conn, RefusedWhy::Invalid, e.to_string()),
        }
    }

    fn hello(&mut self, conn: ConnId, hello: Hello) {
        if hello.cluster != self.cfg.cluster {
            let (theirs, ours) = (hello.cluster.0, self.cfg.cluster.0);
            let text = format!("this is cluster {ours:032x}, you are of {theirs:032x}");
            return self.refuse(conn, RefusedWhy::Cluster, text);
        }
        let many = self.peers.values().filter(|p| p.known && !p.ending).count();
        if many >= self.cfg.fetchers_max {
            let text = format!("{many} others are being given snapshots");
            return self.refuse(conn, RefusedWhy::NotReady, text);
        }
        self.peers.get_mut(&conn).expect("it has spoken").known = true;
    }

    /// The first question of a connection is answered, which may be gone.
    fn answer(
        &mut self,
        now: Instant,
        conn: ConnId,
        which: impl FnOnce(&SnapshotWanted) -> Option<SnapshotAt>,
        piece: &[u8],
    ) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        peer.busy = peer.busy.saturating_sub(1);
        peer.heard_at = now;
        let Some(wanted) = peer.wanted.pop_front() else { return };
        let (request, from, crc) = (wanted.request, wanted.from, crc32c::crc32c(piece));
        let answer = SnapshotIs { request, which: which(&wanted), from, crc };
        self.out.push_back(Output::Send { conn, bytes: wire::encode_with(answer, &[piece]) });
    }

    /// Begins what can be begun, in turn.
    fn go_on(&mut self, now: Instant) {
        let behind: Vec<ConnId> = self.peers.range(ConnId(self.last.0 + 1)..).map(|p| *p.0).collect();
        let before: Vec<ConnId> = self.peers.range(..=self.last).map(|p| *p.0).collect();
        for conn in behind.into_iter().chain(before) {
            let peer = self.peers.get_mut(&conn).expect("listed");
            let Some(wanted) = peer.wanted.get(peer.busy).filter(|_| !peer.backlog) else { continue };
            if wanted.bytes == 0 {
                // Answers come in the order of the questions.
                if self.finding.is_none() && peer.busy == 0 {
                    let like = wanted.which;
                    (self.finding, peer.busy) = (Some(conn), 1);
                    self.out.push_back(Output::FindSnapshot { like });
                }
            } else if let Some(of) = wanted.which
                && self.finding != Some(conn)
                && self.reads.len() < READS_MAX
                && self.pace.waits_until(now).is_none()
            {
                let (from, bytes) = (wanted.from, wanted.bytes);
                self.tokens += 1;
                let token = Token(self.tokens);
                self.reads.insert(token, conn);
                self.pace.spend(now, bytes);
                (peer.busy, self.last) = (peer.busy + 1, conn);
                self.out.push_back(Output::ReadSnapshot { token, of, from, bytes });
            }
        }
    }

    fn close_silent(&mut self, now: Instant) {
        let silent = |p: &Peer| p.wanted.is_empty() && p.heard_at + PATIENCE <= now && !p.ending;
        let silent: Vec<ConnId> = self.peers.iter().filter(|(_, p)| silent(p)).map(|(c, _)| *c).collect();
        for conn in silent {
            self.refuse(conn, RefusedWhy::Unexpected, "it wants nothing".into());
        }
    }
}

impl Machine for Serve {
    type Command = std::convert::Infallible;
    /// Something that a person may want to know.
    type Event = String;

    fn handle(&mut self, now: Instant, input: Input<Self::Command>) {
        match input {
            Input::Accepted { conn, .. } if self.peers.len() >= CONNS_MAX => {
                self.out.push_back(Output::Close { conn });
            }
            Input::Accepted { conn, peer } => {
                let (wanted, heard_at) = (VecDeque::new(), now);
                let (known, ending, busy, backlog) = (false, false, 0, false);
                self.peers.insert(conn, Peer { addr: peer, known, ending, heard_at, wanted, busy, backlog });
            }
            Input::Frame { conn, bytes } => self.frame(now, conn, bytes),
            Input::Closed { conn } => drop(self.peers.remove(&conn)),
            Input::Backlog { conn, high } => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    (peer.backlog, peer.heard_at) = (high, now);
                }
            }
            Input::SnapshotFound { found } => {
                let conn = self.finding.take().expect("it was looked for");
                self.answer(now, conn, |_| found, &[]);
            }
            Input::SnapshotRead { token, result } => {
                let conn = self.reads.remove(&token).expect("it was to be read");
                match result {
                    Ok(piece) => self.answer(now, conn, |wanted| wanted.which, &piece),
                    Err(why) => {
                        self.out
                            .push_back(Output::Event(format!("a snapshot can't be given any more: {why}")));
                        self.answer(now, conn, |_| None, &[]);
                    }
                }
            }
            Input::Timer => self.close_silent(now),
            Input::WallClock(_) | Input::DiskSpace { .. } => {}
            other => panic!("who gives snapshots asked for nothing that {other:?} answers"),
        }
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<String>> {
        if self.out.is_empty() {
            self.go_on(now);
        }
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let idle = |p: &&Peer| p.wanted.is_empty() && !p.ending;
        let silent = self.peers.values().filter(idle).map(|p| p.heard_at + PATIENCE).min();
        let waits = |p: &Peer| !p.backlog && p.wanted.get(p.busy).is_some_and(|w| w.bytes > 0);
        let any = self.reads.len() < READS_MAX && self.peers.values().any(waits);
        let pace = if any { self.pace.waits_until(Instant(0)) } else { None };
        [(silent, "a fetcher is silent"), (pace, "the rate")]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min_by_key(|d| d.0)
    }
}
