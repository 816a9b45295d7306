//! One node that gets a snapshot, several that give theirs, and a network, disks and peers that fail in every way: what comes
//! out in the end is the state that one of them has, and the same bytes on the disk.

use super::*;
use crate::snapshot::{Pace as Taken, Taking};
use crate::state::{State, encode};
use crate::tree::world;
use crate::txn::{CreateMode, Op, Txn};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::wire::{
    self, Hello, Message, OfferAt, Packet, Refused, RefusedWhy, Role, SnapshotAt, SnapshotIs, SnapshotWanted,
};
use zoolog_core::{ClusterId, ConnId, Gsn, Incarnation, Input, Instant, Machine, Output, WallMs};

const CLUSTER: ClusterId = ClusterId(5);
const PIECE: u32 = 500;
const WINDOW: usize = 3;
/// As many records as make so many bytes are played.
const LOG_BYTES: u64 = 30 * 256;

fn config() -> FetchConfig {
    FetchConfig { bytes_per_s: 0, piece_bytes: PIECE, window: WINDOW, log_bytes: LOG_BYTES }
}

/// A snapshot of that many nodes: the state's hash and the file.
fn snapshot(nodes: usize) -> (State, Vec<u8>) {
    let mut state = State::new();
    for i in 0..nodes {
        let (path, data) = (format!("/{i}"), Some(vec![i as u8; 40]));
        let op = Op::Create { path, data, acl: world(31), mode: CreateMode::Persistent };
        let record = encode(&Txn { session: 0, attach: 0, wall: WallMs(1), ids: vec![], op });
        state.apply(state.applied(), &record, &mut Vec::new());
    }
    let mut taking = Taking::begin(&mut state, CLUSTER, Taken { piece_bytes: 700, piece_slots: 100 });
    let mut file = Vec::new();
    loop {
        let (bytes, last) = taking.next(&mut state);
        file.extend_from_slice(&bytes);
        if last {
            return (state, file);
        }
    }
}

fn about(gsn: Gsn, file: &[u8]) -> SnapshotAt {
    SnapshotAt { gsn, bytes: file.len() as u64, crc: crc32c::crc32c(file) }
}

/// What goes wrong when a piece is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    No,
    /// The connection breaks.
    Break,
    /// A bit of the payload changes on its way.
    Flip(usize),
    /// A bit changed on the disk it was read from.
    Misread(usize),
    /// The node that gives it is gone for good.
    Die,
    /// It has lost that snapshot.
    Lose,
    /// It comes, and then nothing any more.
    Silence,
    /// The disk does not take the next piece.
    DiskFull,
    /// The one that gets it ends, and begins a new life; so many bytes of what it had are there, the last ones perhaps damaged.
    Restart(usize, bool),
}

struct Peer {
    serve: Serve,
    files: BTreeMap<Gsn, Vec<u8>>,
    alive: bool,
    silent: bool,
}

impl Peer {
    fn new(files: &[(&State, &[u8])]) -> Self {
        let serve = Serve::new(ServeConfig { cluster: CLUSTER, bytes_per_s: 0, fetchers_max: 2 });
        let files = files.iter().map(|(state, file)| (state.applied(), file.to_vec())).collect();
        Self { serve, files, alive: true, silent: false }
    }
}

/// All of it.
struct Net {
    now: Instant,
    fetch: Fetch,
    trim: Gsn,
    peers: Vec<Peer>,
    /// Which peer a connection of the fetcher leads to, while it is there.
    conns: BTreeMap<ConnId, usize>,
    faults: VecDeque<Fault>,
    disk_full: bool,
    /// What the disk has of the file that is being written, and all that was finished.
    writing: Option<(SnapshotAt, Vec<u8>)>,
    finished: BTreeMap<Gsn, Vec<u8>>,
    done: Option<Box<State>>,
    from_log: bool,
    dropped_own: bool,
    notes: Vec<String>,
    /// Offsets that were asked for.
    asked: Vec<u64>,
    rounds: usize,
    /// Bytes that were got before the last restart, if there was one.
    kept: Option<u64>,
}

impl Net {
    fn new(peers: Vec<Peer>) -> Self {
        Self {
            now: Instant(1_000_000_000),
            fetch: Fetch::new(config(), CLUSTER, "own".into()),
            trim: Gsn(0),
            peers,
            conns: BTreeMap::new(),
            faults: VecDeque::new(),
            disk_full: false,
            writing: None,
            finished: BTreeMap::new(),
            done: None,
            from_log: false,
            dropped_own: false,
            notes: Vec::new(),
            asked: Vec::new(),
            rounds: 0,
            kept: None,
        }
    }

    /// It ends, and begins again, with what its disk has: so many bytes of what it was getting, at most, or other ones.
    fn restart(&mut self, bytes: usize, damaged: bool) {
        for conn in self.conns.keys().copied().collect::<Vec<_>>() {
            let n = self.conns.remove(&conn).expect("listed");
            self.peers[n].serve.handle(self.now, Input::Closed { conn: accepted(conn) });
        }
        self.fetch = Fetch::new(config(), CLUSTER, "own".into());
        (self.kept, self.asked, self.disk_full) = (Some(0), Vec::new(), false);
        if let Some((of, mut file)) = self.writing.take() {
            file.truncate(bytes.min(of.bytes as usize - 1));
            if let Some(last) = file.last_mut() {
                *last ^= u8::from(damaged);
            }
            let mut begun = Begun::new(of, CLUSTER);
            if begun.push(&file).is_ok() {
                self.kept = Some(begun.bytes());
                self.fetch.has_begun(begun);
                self.writing = Some((of, file));
            }
        }
        self.begin(1);
    }

    fn begin(&mut self, least: u64) {
        self.fetch.begin(self.now, CLUSTER, Gsn(least), false, false);
    }

    fn offers(&self) -> Vec<OfferAt> {
        let offer = |(n, peer): (usize, &Peer)| {
            let gsn = *peer.files.last_key_value()?.0;
            peer.alive.then(|| OfferAt { name: format!("zk-{n}"), addr: format!("{n}"), gsn })
        };
        let mut all: Vec<OfferAt> = self.peers.iter().enumerate().filter_map(offer).collect();
        all.push(OfferAt { name: "own".into(), addr: "nowhere".into(), gsn: Gsn(1 << 40) });
        all
    }

    /// The connection ends, for both.
    fn break_off(&mut self, conn: ConnId) {
        if let Some(n) = self.conns.remove(&conn) {
            self.peers[n].serve.handle(self.now, Input::Closed { conn: accepted(conn) });
            self.fetch.closed(self.now, conn);
        }
    }

    fn act(&mut self, act: Act) {
        let now = self.now;
        match act {
            Act::FindOffers => {
                self.rounds += 1;
                let offers = self.offers();
                self.fetch.offers(now, self.trim, offers);
            }
            Act::Dial { conn, addr } => match addr.parse().ok().filter(|n: &usize| self.peers[*n].alive) {
                Some(n) => {
                    self.conns.insert(conn, n);
                    let peer = "10.0.0.1:1".to_string();
                    self.peers[n].serve.handle(now, Input::Accepted { conn: accepted(conn), peer });
                    self.fetch.connected(now, conn);
                }
                None => self.fetch.closed(now, conn),
            },
            Act::Send { conn, bytes } => {
                if let Ok(Packet { message: Message::SnapshotWanted(m), .. }) = wire::decode(bytes.clone()) {
                    self.asked.extend((m.bytes > 0).then_some(m.from));
                }
                if let Some(&n) = self.conns.get(&conn) {
                    self.peers[n].serve.handle(now, Input::Frame { conn: accepted(conn), bytes });
                }
            }
            Act::Close { conn } => {
                if let Some(n) = self.conns.remove(&conn) {
                    self.peers[n].serve.handle(now, Input::Closed { conn: accepted(conn) });
                }
            }
            Act::Save { of, from, bytes, last } => {
                if std::mem::take(&mut self.disk_full) {
                    self.writing = None;
                    return self.fetch.saved(now, last, Err("no room".into()));
                }
                if from == 0 {
                    self.writing = Some((of, Vec::new()));
                }
                let (at, file) = self.writing.as_mut().expect("its beginning is there");
                assert_eq!((*at, file.len() as u64), (of, from), "one file at a time, from its beginning on");
                file.extend_from_slice(&bytes);
                if last {
                    let (of, file) = self.writing.take().expect("just there");
                    self.finished.insert(of.gsn, file);
                }
                self.fetch.saved(now, last, Ok(()));
            }
            Act::Drop { finished } => {
                self.writing = None;
                self.dropped_own |= finished;
            }
            Act::Note(text) => self.notes.push(text),
            Act::FromLog => self.from_log = true,
            Act::Done(state, bytes) => {
                assert_eq!(self.finished[&state.applied()].len() as u64, bytes);
                self.done = Some(state);
            }
        }
    }

    /// What a peer wants done. False if there was nothing.
    fn serve(&mut self, n: usize) -> bool {
        let now = self.now;
        let Some(output) = self.peers[n].serve.poll_output(now) else { return false };
        let peer = &mut self.peers[n];
        match output {
            Output::FindSnapshot { like } => {
                let named =
                    like.filter(|at| peer.files.get(&at.gsn).is_some_and(|f| about(at.gsn, f) == *at));
                let newest = || peer.files.last_key_value().map(|(gsn, file)| about(*gsn, file));
                peer.serve.handle(now, Input::SnapshotFound { found: named.or_else(newest) });
            }
            Output::ReadSnapshot { token, of, from, bytes } => {
                assert!(bytes <= PIECE_BYTES_MAX && from + u64::from(bytes) <= of.bytes);
                let file = peer.files.get(&of.gsn).filter(|f| about(of.gsn, f) == of);
                let piece = file.map(|f| f[from as usize..][..bytes as usize].to_vec());
                let mut piece = piece.ok_or("it is gone".to_string());
                if let (Some(Fault::Misread(bit)), Ok(piece)) = (self.faults.front(), &mut piece) {
                    let bit = bit % (piece.len() * 8);
                    piece[bit / 8] ^= 1 << (bit % 8);
                    self.faults.pop_front();
                }
                let result = piece.map(Bytes::from);
                peer.serve.handle(now, Input::SnapshotRead { token, result });
            }
            Output::Send { conn, bytes } => {
                let conn = dialled(conn);
                if self.conns.get(&conn) != Some(&n) || self.peers[n].silent {
                    return true;
                }
                let mut bytes = bytes;
                let piece = matches!(wire::decode(bytes.clone()), Ok(p) if !p.payload.is_empty());
                match if piece { self.faults.pop_front() } else { None } {
                    None | Some(Fault::No | Fault::Misread(_)) => {}
                    Some(Fault::Break) => {
                        self.break_off(conn);
                        return true;
                    }
                    Some(Fault::Flip(bit)) => {
                        let packet = wire::decode(bytes.clone()).expect("a frame");
                        let (mut changed, start) =
                            (bytes.to_vec(), bytes.len() - padded(packet.payload.len()));
                        let bit = bit % (packet.payload.len() * 8);
                        changed[start + bit / 8] ^= 1 << (bit % 8);
                        bytes = changed.into();
                    }
                    Some(Fault::Die) => {
                        self.peers[n].alive = false;
                        self.break_off(conn);
                        return true;
                    }
                    // Unless it is the last that it has.
                    Some(Fault::Lose) if self.peers[n].files.len() < 2 => {}
                    Some(Fault::Lose) => drop(self.peers[n].files.pop_last()),
                    Some(Fault::Silence) => self.peers[n].silent = true,
                    Some(Fault::DiskFull) => self.disk_full = true,
                    Some(Fault::Restart(bytes, damaged)) => {
                        self.restart(bytes, damaged);
                        return true;
                    }
                }
                self.fetch.frame(now, conn, bytes);
            }
            Output::Close { conn } => self.break_off(dialled(conn)),
            Output::Event(_) => {}
            other => panic!("{other:?} of who gives snapshots"),
        }
        true
    }

    /// Everything happens that can, and time passes, until it is done or so much has passed.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.done.is_none() && !self.from_log && self.now < end {
            let mut any = false;
            while let Some(act) = self.fetch.poll() {
                self.act(act);
                any = true;
            }
            for n in 0..self.peers.len() {
                any |= self.serve(n);
            }
            assert!(self.fetch.waiting() <= WINDOW, "{} pieces in memory", self.fetch.waiting());
            if any {
                continue;
            }
            let serving = self.peers.iter().filter_map(|p| p.serve.next_deadline());
            let next = serving.map(|d| d.0).chain(self.fetch.next_deadline()).min().unwrap_or(end);
            self.now = next.max(self.now).min(end);
            self.fetch.tick(self.now);
            for peer in &mut self.peers {
                peer.serve.handle(self.now, Input::Timer);
            }
        }
    }

    /// It is done, with the state and the file of one of these.
    fn is_that_of(&self, snapshots: &[(&State, &[u8])]) {
        let state = self.done.as_ref().unwrap_or_else(|| panic!("it has none: {:?}", self.notes));
        let (whose, file) = snapshots
            .iter()
            .find(|(s, _)| s.applied() == state.applied())
            .expect("a snapshot that somebody had");
        assert_eq!((state.hash(), state.hash_from_scratch()), (whose.hash(), whose.hash()));
        assert_eq!(&self.finished[&state.applied()], file, "the same bytes");
        assert_eq!(self.finished.len(), 1, "no other file has a name");
        assert!(!self.fetch.is_on() && self.fetch.next_deadline().is_none());
    }
}

/// The number that the other end gives a connection, and back.
fn accepted(conn: ConnId) -> ConnId {
    ConnId(conn.0 & 0xffff)
}

fn dialled(conn: ConnId) -> ConnId {
    ConnId::dialled(conn.0 | 1 << 62)
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => Just(Fault::No),
        2 => Just(Fault::Break),
        2 => (0..8 * PIECE as usize).prop_map(Fault::Flip),
        1 => (0..8 * PIECE as usize).prop_map(Fault::Misread),
        1 => Just(Fault::DiskFull),
        1 => Just(Fault::Silence),
        1 => Just(Fault::Lose),
        1 => (0..20 * PIECE as usize, prop::bool::weighted(0.2)).prop_map(|(n, d)| Fault::Restart(n, d)),
    ]
}

proptest! {
    /// ZK-5: whatever breaks, in the end it has the state of one of them, and before that nothing.
    #[test]
    fn whatever_breaks_it_comes_to_the_state_of_one_of_them(
        sizes in (2usize..60, 2usize..60),
        faults in prop::collection::vec(fault(), 0..60),
        silence_ends in any::<bool>(),
    ) {
        let (a, b) = (snapshot(sizes.0), snapshot(sizes.1));
        let snapshots = [(&a.0, &a.1[..]), (&b.0, &b.1[..])];
        let mut net = Net::new(vec![Peer::new(&snapshots[..1]), Peer::new(&snapshots[1..]), Peer::new(&snapshots)]);
        net.faults = faults.into();
        net.begin(1);
        for round in 0..60 {
            net.run(Duration::from_secs(30));
            if silence_ends || round > 30 || net.peers.iter().all(|p| p.silent) {
                net.peers.iter_mut().for_each(|p| p.silent = false);
            }
        }
        net.is_that_of(&snapshots);
    }

    /// Nobody's bytes make either side panic, and a fetcher whose peer talks nonsense goes on with another.
    #[test]
    fn nonsense_costs_its_connection(
        from in any::<u64>(), bytes in any::<u32>(), gsn in any::<u64>(), crc in any::<u32>(), n in 0..7usize,
        garbage in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let at = SnapshotAt { gsn: Gsn(gsn), bytes: from, crc };
        let which = Some(at);
        let message: Message = match n {
            0 => SnapshotWanted { request: 1, which, from, bytes }.into(),
            1 => SnapshotWanted { request: 1, which: None, from, bytes }.into(),
            2 => SnapshotIs { request: 1, which, from, crc }.into(),
            3 => SnapshotIs { request: 1, which: None, from, crc }.into(),
            4 => Refused { why: RefusedWhy::NotReady, text: "busy".into() }.into(),
            5 => wire::FindOffers { request: from }.into(),
            _ => Hello { role: Role::Slot, cluster: CLUSTER, node: from, slot: 0, incarnation: Incarnation(0) }.into(),
        };
        let frames = [wire::encode_with(message, &[&garbage]), garbage.into()];
        for frame in frames {
            let (state, file) = snapshot(9);
            let good = (&state, &file[..]);
            let mut net = Net::new(vec![Peer::new(&[good]), Peer::new(&[good])]);
            net.begin(1);
            // To who gives: in the place of a question.
            let now = net.now;
            let stranger = ConnId(77);
            net.peers[0].serve.handle(now, Input::Accepted { conn: stranger, peer: "x".into() });
            let (role, incarnation) = (Role::Client, Incarnation(0));
            let hello = Hello { role, cluster: CLUSTER, node: 0, slot: 0, incarnation };
            net.peers[0].serve.handle(now, Input::Frame { conn: stranger, bytes: wire::encode(hello) });
            net.peers[0].serve.handle(now, Input::Frame { conn: stranger, bytes: frame.clone() });
            // To who gets: in the place of any answer.
            while let Some(act) = net.fetch.poll() {
                net.act(act);
            }
            let conn = *net.conns.keys().next().expect("it has dialled");
            net.fetch.frame(now, conn, frame);
            for _ in 0..20 {
                net.run(Duration::from_secs(20));
            }
            net.is_that_of(&[good]);
        }
    }
}

#[test]
fn a_broken_connection_is_gone_on_with_where_it_was_at_another_peer_with_the_same_file() {
    let (state, file) = snapshot(60);
    let good = (&state, &file[..]);
    let mut net = Net::new(vec![Peer::new(&[good]), Peer::new(&[good])]);
    net.faults = [Fault::No, Fault::No, Fault::No, Fault::No, Fault::Die].into();
    net.begin(1);
    net.run(Duration::from_secs(10));
    net.is_that_of(&[good]);
    assert!(!net.peers[0].alive || !net.peers[1].alive);
    let goes_on = format!("goes on at byte {}", 4 * PIECE);
    assert!(net.notes.iter().any(|n| n.contains(&goes_on)), "{:?}", net.notes);
    let twice = net.asked.iter().filter(|from| net.asked.iter().filter(|f| f == from).count() > 1).count();
    assert!(twice <= 2 * WINDOW, "only what was under way is asked for twice: {:?}", net.asked);
    assert_eq!(net.rounds, 1);
}

#[test]
fn another_file_of_the_same_position_is_begun_anew() {
    let (state, file) = snapshot(40);
    let (mut changed, change) = (state, |state: &mut State| {
        let op = Op::CreateSession { timeout_ms: 4000 };
        let record = encode(&Txn { session: 0, attach: 0, wall: WallMs(1), ids: vec![], op });
        state.apply(state.applied(), &record, &mut Vec::new());
    });
    change(&mut changed);
    let first = (changed.applied(), file.clone());
    let (good, good_file) = snapshot(41);
    assert_eq!(good.applied(), changed.applied(), "another state at the same position");
    // The first says that what it has is of that position: only its header's checksum would be wrong.
    let mut net = Net::new(vec![Peer::new(&[]), Peer::new(&[(&good, &good_file)])]);
    net.peers[0].files.insert(first.0, first.1);
    net.begin(1);
    net.run(Duration::from_secs(60));
    net.is_that_of(&[(&good, &good_file)]);
    assert!(net.notes.iter().any(|n| n.contains("bad")), "{:?}", net.notes);
}

#[test]
fn what_is_too_old_another_clusters_or_its_own_is_not_taken_and_it_asks_on() {
    let (old, old_file) = snapshot(5);
    let mut net = Net::new(vec![Peer::new(&[(&old, &old_file)])]);
    net.begin(old.applied().0 + 1);
    net.run(Duration::from_secs(100));
    assert!(net.done.is_none() && net.rounds > 10 && net.rounds < 60, "{} rounds", net.rounds);
    let told = net.notes.iter().filter(|n| n.contains("no other node gives a snapshot")).count();
    assert!((1..6).contains(&told), "{:?}", net.notes);
    let (new, new_file) = snapshot(9);
    net.trim = new.applied();
    let stranger = ServeConfig { cluster: ClusterId(6), bytes_per_s: 0, fetchers_max: 2 };
    net.peers.push(Peer { serve: Serve::new(stranger), ..Peer::new(&[(&new, &new_file)]) });
    net.run(Duration::from_secs(100));
    assert!(net.done.is_none() && net.notes.iter().any(|n| n.contains("this is cluster")));
    net.peers.push(Peer::new(&[(&new, &new_file)]));
    net.run(Duration::from_secs(100));
    net.is_that_of(&[(&new, &new_file)]);
}

#[test]
fn where_nobody_has_one_and_the_log_is_whole_the_log_is_enough() {
    let mut net = Net::new(vec![]);
    net.fetch.begin(net.now, CLUSTER, Gsn(0), true, false);
    net.run(Duration::from_secs(1));
    assert!(net.from_log && net.dropped_own && !net.fetch.is_on());
    let mut net = Net::new(vec![]);
    net.trim = Gsn(1);
    net.fetch.begin(net.now, CLUSTER, Gsn(0), true, false);
    net.run(Duration::from_secs(60));
    assert!(!net.from_log && !net.dropped_own && net.fetch.is_on(), "what is trimmed only another has");
}

#[test]
fn own_snapshots_that_are_good_for_nothing_go_when_another_comes_and_not_before() {
    let (state, file) = snapshot(30);
    let mut net = Net::new(vec![]);
    net.fetch.begin(net.now, CLUSTER, Gsn(0), true, false);
    net.trim = Gsn(1);
    net.run(Duration::from_secs(60));
    assert!(!net.dropped_own);
    net.peers.push(Peer::new(&[(&state, &file)]));
    net.run(Duration::from_secs(60));
    assert!(net.dropped_own);
    net.is_that_of(&[(&state, &file)]);
}

/// Time is simulated: what is measured is what the rate does.
#[test]
fn the_rate_is_kept_on_either_side() {
    let (state, file) = snapshot(200);
    for (ours, theirs) in [(20_000, 0), (0, 20_000)] {
        let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
        let cfg = FetchConfig { bytes_per_s: ours, ..config() };
        net.fetch = Fetch::new(cfg, CLUSTER, "own".into());
        net.peers[0].serve =
            Serve::new(ServeConfig { cluster: CLUSTER, bytes_per_s: theirs, fetchers_max: 1 });
        net.begin(1);
        let begin = net.now;
        net.run(Duration::from_secs(60));
        net.is_that_of(&[(&state, &file)]);
        let took = net.now.since(begin).as_secs_f64();
        let least = file.len() as f64 / 20_000.0;
        assert!(took > 0.8 * least && took < 1.2 * least + 0.1, "{took} s, {least} s at that rate");
    }
}

#[test]
fn few_are_given_snapshots_at_a_time_and_nobody_else_waits_for_who_is_silent() {
    let (state, file) = snapshot(20);
    let mut serve = Serve::new(ServeConfig { cluster: CLUSTER, bytes_per_s: 0, fetchers_max: 2 });
    let now = Instant(5);
    let answers = |serve: &mut Serve, now| {
        let mut all = Vec::new();
        while let Some(output) = serve.poll_output(now) {
            match output {
                Output::FindSnapshot { .. } => {
                    serve.handle(now, Input::SnapshotFound { found: Some(about(state.applied(), &file)) });
                }
                Output::ReadSnapshot { token, from, bytes, .. } => {
                    let piece = Bytes::copy_from_slice(&file[from as usize..][..bytes as usize]);
                    serve.handle(now, Input::SnapshotRead { token, result: Ok(piece) });
                }
                Output::Send { conn, bytes } => {
                    all.push((conn, wire::decode(bytes).expect("a frame").message))
                }
                Output::Close { conn } => serve.handle(now, Input::Closed { conn }),
                _ => {}
            }
        }
        all
    };
    let (role, incarnation) = (Role::Client, Incarnation(0));
    let hello = wire::encode(Hello { role, cluster: CLUSTER, node: 0, slot: 0, incarnation });
    let wanted = wire::encode(SnapshotWanted { request: 1, which: None, from: 0, bytes: 0 });
    for n in 1..=3 {
        serve.handle(now, Input::Accepted { conn: ConnId(n), peer: "x".into() });
        serve.handle(now, Input::Frame { conn: ConnId(n), bytes: hello.clone() });
        serve.handle(now, Input::Frame { conn: ConnId(n), bytes: wanted.clone() });
    }
    let said = answers(&mut serve, now);
    let refused = |conn| said.iter().any(|(c, m)| *c == ConnId(conn) && matches!(m, Message::Refused(_)));
    assert_eq!([refused(1), refused(2), refused(3)], [false, false, true], "{said:?}");
    // Who takes nothing is read nothing for.
    serve.handle(now, Input::Backlog { conn: ConnId(1), high: true });
    let piece = SnapshotWanted { request: 2, which: Some(about(state.applied(), &file)), from: 0, bytes: 9 };
    for n in 1..=2 {
        serve.handle(now, Input::Frame { conn: ConnId(n), bytes: wire::encode(piece.clone()) });
    }
    let said = answers(&mut serve, now);
    assert!(said.iter().all(|(c, _)| *c == ConnId(2)) && said.len() == 1, "{said:?}");
    // Who says nothing for long makes room.
    let (at, _) = serve.next_deadline().expect("silence ends");
    serve.handle(at, Input::Timer);
    let said = answers(&mut serve, at);
    assert!(said.iter().any(|(c, m)| *c == ConnId(2) && matches!(m, Message::Refused(_))), "{said:?}");
    serve.handle(at, Input::Accepted { conn: ConnId(4), peer: "x".into() });
    serve.handle(at, Input::Frame { conn: ConnId(4), bytes: hello });
    serve.handle(at, Input::Frame { conn: ConnId(4), bytes: wanted });
    assert!(matches!(answers(&mut serve, at)[..], [(ConnId(4), Message::SnapshotIs(_))]));
}

#[test]
fn what_an_earlier_life_has_got_is_gone_on_with() {
    let (state, file) = snapshot(60);
    let good = (&state, &file[..]);
    let mut net = Net::new(vec![Peer::new(&[good])]);
    let kept = 4 * PIECE as usize - 7;
    net.faults = [Fault::No, Fault::No, Fault::No, Fault::No, Fault::No, Fault::Restart(kept, false)].into();
    net.begin(1);
    net.run(Duration::from_secs(10));
    net.is_that_of(&[good]);
    assert_eq!(net.kept, Some(kept as u64));
    assert_eq!(net.asked.first(), net.kept.as_ref(), "nothing is got twice: {:?}", net.asked);
    let p = net.fetch.progress();
    assert_eq!((p.on, p.bytes, p.of_bytes, p.done, &*p.from), (false, file.len() as u64, p.bytes, 1, "zk-0"));
}

#[test]
fn what_an_earlier_life_has_got_goes_if_nobody_has_the_rest_or_needs_it() {
    let (old, old_file) = snapshot(40);
    let (new, new_file) = snapshot(50);
    let begun = || {
        let mut begun = Begun::new(about(old.applied(), &old_file), CLUSTER);
        begun.push(&old_file[..1000]).expect("its beginning");
        begun
    };
    let with = |peers| {
        let mut net = Net::new(peers);
        net.fetch.has_begun(begun());
        net.writing = Some((begun().of(), old_file[..1000].to_vec()));
        net
    };
    let mut net = with(vec![Peer::new(&[(&new, &new_file)])]);
    net.begin(1);
    net.run(Duration::from_secs(10));
    net.is_that_of(&[(&new, &new_file)]);
    assert_eq!(net.asked[0], 0);
    // The log has gone on behind it.
    let mut net = with(vec![Peer::new(&[(&old, &old_file)])]);
    net.begin(old.applied().0 + 1);
    net.run(Duration::from_secs(10));
    assert!(net.writing.is_none() && net.done.is_none());
    let mut net = with(vec![]);
    net.fetch.forget();
    net.run(Duration::from_secs(1));
    assert!(net.writing.is_none() && !net.fetch.is_on());
}

#[test]
fn own_snapshots_that_turn_out_to_be_good_for_nothing_cost_what_has_come_already() {
    let (state, file) = snapshot(60);
    let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
    net.faults = [Fault::No, Fault::No, Fault::No, Fault::Silence].into();
    net.begin(1);
    net.run(Duration::from_secs(1));
    assert!(net.writing.is_some() && net.done.is_none());
    net.peers[0].silent = false;
    net.fetch.drops_own(net.now);
    net.run(Duration::from_secs(1));
    assert!(net.dropped_own);
    net.is_that_of(&[(&state, &file)]);
}

/// What a node does that begins at `have`, where the only other one has a snapshot.
fn looks(have: u64, nodes: usize) -> Net {
    let (state, file) = snapshot(nodes);
    let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
    net.fetch.look(net.now, CLUSTER, Gsn(have));
    net.run(Duration::from_secs(60));
    assert!(net.from_log != net.done.is_some() && !net.fetch.is_on());
    if net.done.is_some() {
        net.is_that_of(&[(&state, &file)]);
    }
    assert_eq!(net.rounds, 1);
    net
}

#[test]
fn a_node_that_begins_plays_a_short_log_and_gets_a_snapshot_rather_than_play_a_long_one() {
    // A node of the file takes half of what its record counts.
    let long = snapshot(200).0.applied().0;
    assert!(looks(0, 200).done.is_some());
    assert!(looks(long - 100, 200).from_log, "its file is longer than what lacks");
    assert!(looks(long - 10, 200).from_log);
    assert!(looks(long, 200).from_log && looks(long + 1, 200).from_log, "it is newer itself");
    assert!(looks(0, 2).from_log, "that is quickly played");
}

#[test]
fn a_node_that_begins_plays_the_log_if_nobody_gives_or_the_log_says_nothing() {
    let mut net = Net::new(vec![]);
    net.fetch.look(net.now, CLUSTER, Gsn(0));
    net.run(Duration::from_secs(1));
    assert!(net.from_log);
    // Who offers can't be reached; who gives dies; who gives says nothing any more.
    for fault in [Fault::Die, Fault::Silence] {
        let (state, file) = snapshot(200);
        let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
        net.faults = [Fault::No, Fault::No, fault].into();
        net.fetch.look(net.now, CLUSTER, Gsn(0));
        net.run(Duration::from_secs(300));
        assert!(net.from_log && net.writing.is_none() && net.rounds > 1, "{fault:?}: {:?}", net.notes);
    }
    // The log doesn't answer.
    let mut fetch = Fetch::new(config(), CLUSTER, "own".into());
    fetch.look(Instant(5), CLUSTER, Gsn(0));
    assert!(matches!(fetch.poll(), Some(Act::FindOffers)) && fetch.poll().is_none());
    let at = fetch.next_deadline().expect("not for ever");
    fetch.tick(at);
    assert!(matches!(fetch.poll(), Some(Act::FromLog)) && !fetch.is_on());
}

#[test]
fn a_node_that_begins_and_whose_log_is_trimmed_keeps_what_it_had_begun() {
    let (state, file) = snapshot(60);
    let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
    let mut begun = Begun::new(about(state.applied(), &file), CLUSTER);
    begun.push(&file[..2000]).expect("its beginning");
    net.writing = Some((begun.of(), file[..2000].to_vec()));
    net.fetch.has_begun(begun);
    net.trim = Gsn(5);
    net.fetch.look(net.now, CLUSTER, Gsn(0));
    net.run(Duration::from_secs(1));
    assert!(net.from_log && net.writing.is_some(), "the log will say that it is trimmed");
    net.from_log = false;
    net.begin(5);
    net.run(Duration::from_secs(1));
    net.is_that_of(&[(&state, &file)]);
    assert_eq!(net.asked[0], 2000);
}

#[test]
fn a_node_that_looks_for_something_cheaper_may_find_that_it_needs_one() {
    let (state, file) = snapshot(200);
    let mut net = Net::new(vec![Peer::new(&[(&state, &file)])]);
    net.faults = [Fault::No, Fault::Silence].into();
    net.fetch.look(net.now, CLUSTER, Gsn(0));
    net.run(Duration::from_secs(1));
    assert!(net.fetch.is_optional());
    net.begin(1);
    assert!(net.fetch.is_on() && !net.fetch.is_optional());
    net.peers[0].silent = false;
    net.run(Duration::from_secs(60));
    net.is_that_of(&[(&state, &file)]);
    assert_eq!(net.asked.iter().filter(|from| **from == 0).count(), 1, "{:?}", net.asked);
}

proptest! {
    /// The more there is to play, and the shorter the snapshot, the rather it is got; never for less than was said.
    #[test]
    fn more_log_never_makes_a_snapshot_dearer(
        limit in 1u64..1 << 40, have in prop_oneof![Just(0u64), 0u64..1 << 40], gsn in 0u64..1 << 40,
        bytes in 0u64..1 << 44, more in 0u64..1 << 30,
    ) {
        let is = |gsn, bytes| cheaper(limit, Gsn(have), Gsn(gsn), Some(bytes));
        prop_assert!(!is(gsn, bytes) || is(gsn + more, bytes));
        prop_assert!(have == 0 || !is(gsn, bytes) || is(gsn, bytes.saturating_sub(more)));
        prop_assert!(have == 0 || !is(gsn, bytes) || bytes <= gsn.saturating_sub(have) * 256);
        prop_assert!(!is(gsn, bytes) || (gsn.saturating_sub(have) * 256).max(bytes) >= limit && gsn > have);
        // What is asked without knowing its length is all that may be got.
        prop_assert!(!is(gsn, bytes) || cheaper(limit, Gsn(have), Gsn(gsn), None));
        // Who has nothing gets whatever is long enough.
        prop_assert!(have > 0 || gsn == 0 || is(gsn, bytes.max(limit)));
    }
}
