//! A log client on a test bench: its connections, clock and peers are the test's.

pub mod cluster;
mod subscribing;
mod writing;

pub use subscribing::subscribed;
pub use writing::*;

use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_client::{ClientConfig, Committed, LogClient, LogCommand, LogEvent, SharedLog};
use zoolog_core::batch::{BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::cut::{Cut, CutLane};
use zoolog_core::view::{ReplicaView, ShardState, ShardView, View};
use zoolog_core::wire::{self, Message, OrderIs, Packet, Read};
use zoolog_core::*;

pub const CLUSTER: ClusterId = ClusterId(77);
pub const ORDERERS: [&str; 3] = ["o0:1", "o1:1", "o2:1"];

pub struct Bench<L = LogClient> {
    pub client: L,
    pub now: Instant,
    /// Dials not answered yet.
    pub dials: BTreeMap<ConnId, String>,
    /// Connections that are up, by id.
    pub up: BTreeMap<ConnId, String>,
    /// What the client sent on each connection and the test has not taken.
    pub sent: BTreeMap<ConnId, VecDeque<Packet>>,
    pub events: Vec<LogEvent>,
    /// Connections the client has closed; their `Closed` is owed.
    pub closing: BTreeSet<ConnId>,
    used: BTreeSet<ConnId>,
}

pub fn config() -> ClientConfig {
    ClientConfig { orderers: ORDERERS.map(String::from).to_vec(), ..ClientConfig::default() }
}

impl Bench {
    pub fn new(cfg: ClientConfig, seed: u64) -> Self {
        Self::with(LogClient::new(cfg, seed, Instant(0)))
    }
}

impl<L: SharedLog> Bench<L> {
    pub fn with(client: L) -> Self {
        let mut bench = Self {
            client,
            now: Instant(0),
            dials: BTreeMap::new(),
            up: BTreeMap::new(),
            sent: BTreeMap::new(),
            events: Vec::new(),
            closing: BTreeSet::new(),
            used: BTreeSet::new(),
        };
        bench.drain();
        bench
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.client.poll_output(self.now) {
            match output {
                Output::Dial { conn, addr } => {
                    assert!(conn.is_dialled() && self.used.insert(conn), "{conn:?} is used twice");
                    self.dials.insert(conn, addr);
                }
                Output::Send { conn, mut bytes } => {
                    while !bytes.is_empty() {
                        let len = wire::frame_length(&bytes, usize::MAX).unwrap().expect("whole frames");
                        let packet = wire::decode(bytes.split_to(len)).unwrap();
                        if self.up.contains_key(&conn) {
                            self.sent.entry(conn).or_default().push_back(packet);
                        }
                    }
                }
                Output::Close { conn } => {
                    assert!(self.used.contains(&conn));
                    self.closing.insert(conn);
                }
                Output::Event(event) => self.events.push(event),
                other => panic!("a client has no use for {other:?}"),
            }
        }
    }

    pub fn input(&mut self, input: Input<LogCommand>) {
        self.client.handle(self.now, input);
        self.drain();
    }

    /// Time passes; timers fire when they are due.
    pub fn pass(&mut self, d: Duration) {
        let end = self.now + d;
        let mut rounds = 0;
        while let Some((at, why)) = self.client.next_deadline().filter(|(at, _)| *at <= end) {
            rounds += 1;
            assert!(rounds < 10_000, "the timer `{why}` fires without end");
            self.now = self.now.max(at);
            self.input(Input::Timer);
        }
        self.now = end;
    }

    pub fn ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// Lets a dial to `addr` succeed.
    pub fn connect(&mut self, addr: &str) -> ConnId {
        let conn = self.dials.iter().find(|(_, a)| *a == addr).map(|(c, _)| *c);
        let conn = conn.unwrap_or_else(|| panic!("no dial to {addr} among {:?}", self.dials));
        self.connected(conn);
        conn
    }

    pub fn connected(&mut self, conn: ConnId) {
        let addr = self.dials.remove(&conn).expect("a dial");
        self.up.insert(conn, addr);
        self.input(Input::Connected { conn });
    }

    /// The connection ends, or can't be made.
    pub fn close(&mut self, conn: ConnId) {
        self.dials.remove(&conn);
        self.up.remove(&conn);
        self.sent.remove(&conn);
        self.closing.remove(&conn);
        self.input(Input::Closed { conn });
    }

    pub fn conn(&self, addr: &str) -> Option<ConnId> {
        self.up.iter().find(|(c, a)| *a == addr && !self.closing.contains(c)).map(|(c, _)| *c)
    }

    pub fn say(&mut self, conn: ConnId, message: impl Into<Message>) {
        self.input(Input::Frame { conn, bytes: wire::encode(message) });
    }

    pub fn say_with(&mut self, conn: ConnId, message: impl Into<Message>, batches: &[PlacedBatch]) {
        self.input(Input::Frame { conn, bytes: wire::encode_with(message, &[&encoded(batches)]) });
    }

    /// What the client has sent there since last asked.
    pub fn sent(&mut self, conn: ConnId) -> Vec<Packet> {
        self.sent.remove(&conn).unwrap_or_default().into()
    }

    pub fn events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    pub fn committed(&mut self) -> Vec<Committed> {
        let events = self.events().into_iter();
        events.filter_map(|e| if let LogEvent::Committed(c) = e { Some(c) } else { None }).collect()
    }

    /// Connects to the first orderer dialled and tells it the order. Returns the connection.
    pub fn follow(&mut self, order: &dyn Fn(u64) -> OrderIs) -> ConnId {
        let conn = *self.dials.iter().find(|(_, a)| a.starts_with('o')).expect("an orderer is dialled").0;
        self.connected(conn);
        let request = self.sent(conn).into_iter().find_map(|p| match p.message {
            Message::WatchGrowth(m) => Some(m.request),
            Message::WatchViews(m) => Some(m.request),
            _ => None,
        });
        self.say(conn, order(request.expect("WatchGrowth is sent")));
        conn
    }
}

pub fn encoded(batches: &[PlacedBatch]) -> Bytes {
    let mut out = BytesMut::new();
    batches.iter().for_each(|b| b.encode(&mut out));
    out.freeze()
}

pub fn lane(shard: u32, index: u8) -> LaneId {
    LaneId::new(ShardId(shard), index)
}

pub fn addr(shard: u32, replica: usize) -> String {
    format!("s{shard}r{replica}:1")
}

/// `shards` live shards of 2, from shard 1 on.
pub fn view(number: u64, shards: u32) -> View {
    let replica = |shard, r: usize| ReplicaView {
        slot: SlotId { server: ServerId(shard * 10 + r as u32), index: 0 },
        addr: addr(shard, r),
    };
    let shard = |id| ShardView {
        id: ShardId(id),
        replicas: (0..2).map(|r| replica(id, r)).collect(),
        state: ShardState::Live,
        rebuild: None,
    };
    View { number: ViewNumber(number), shards: (1..=shards).map(shard).collect() }
}

pub fn order_is(request: u64, number: u64, tail: u64, view: View, lens: &[(LaneId, u64)]) -> OrderIs {
    let lanes = lens.iter().map(|&(lane, to)| CutLane { lane, from: 0, to }).collect();
    let (cluster, number, tail) = (CLUSTER, CutNumber(number), Gsn(tail));
    OrderIs { request, cluster, generation: 0, number, tail, view, lanes }
}

pub fn cut(number: u64, base: u64, view: u64, lanes: &[(LaneId, u64, u64)]) -> Cut {
    let lanes = lanes.iter().map(|&(lane, from, to)| CutLane { lane, from, to }).collect();
    Cut { number: CutNumber(number), base: Gsn(base), view: ViewNumber(view), lanes }
}

/// A lane's batches, one after the other: each element is the number of records.
pub fn batches(lane: LaneId, writer: u128, counts: &[u32]) -> Vec<PlacedBatch> {
    let (mut lsn, mut prev, mut builder) = (Lsn(0), 0, BatchBuilder::new());
    let mut out = Vec::new();
    for (seq, &count) in counts.iter().enumerate() {
        (0..count).for_each(|i| builder.push(format!("{lane} {writer} {seq} {i}").as_bytes()));
        let batch = builder.finish(BatchKind::Data, WriterId(writer), Epoch(0), Seq(seq as u64));
        let placed = PlacedBatch::place(lane, Incarnation(1), lsn, prev, batch);
        (lsn, prev) = (placed.end_lsn(), placed.placement.crc);
        out.push(placed);
    }
    out
}

/// All dials succeed.
pub fn connect_all(b: &mut Bench) {
    while let Some(conn) = b.dials.keys().next().copied() {
        b.connected(conn);
    }
}

/// What was sent anywhere since last asked, of one kind.
pub fn sent_to<T>(b: &mut Bench, pick: impl Fn(&Message) -> Option<T>) -> Vec<(ConnId, T)> {
    let conns: Vec<_> = b.up.keys().copied().collect();
    let all = conns.into_iter().flat_map(|c| b.sent(c).into_iter().map(move |p| (c, p)).collect::<Vec<_>>());
    all.filter_map(|(c, p)| pick(&p.message).map(|m| (c, m))).collect()
}

/// Questions for ranges since last asked.
pub fn reads(b: &mut Bench) -> Vec<(ConnId, Read)> {
    sent_to(b, |m| if let Message::Read(m) = m { Some(m.clone()) } else { None })
}
