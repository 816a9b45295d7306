//! What do the machines live in? A network that loses, delays and reorders nothing, and logs that are durable at
//! once: the shortest way from an input to all that follows from it, the same in every run.

use crate::host::{Host, Told, frames};
use crate::meter;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_client::LogCommand;
use zoolog_core::wal::{MemoryDisk, OnDamage, Wal, WalConfig, WalRecord, recover};
use zoolog_core::wire::{TABLE, kind};
use zoolog_core::{ClusterId, ConnId, Input, Instant, Output, Token};

/// The cluster of all scenarios.
pub const CLUSTER: ClusterId = ClusterId(0xC0);

/// A machine, by number.
pub type NodeId = usize;
/// A connection of somebody outside, by number.
pub type UserId = usize;

/// What a turn is about: its first input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A message between nodes.
    Wire(u16),
    /// A ZooKeeper client's requests.
    Jute,
    /// A command of the owner.
    Command,
    /// Records are durable.
    Persisted,
    /// The write-ahead log itself: taking records in, laying out and filling the group, handing it back.
    Wal,
    /// Time has passed.
    Timer,
    /// A connection came or went, or anything else.
    Conn,
}

/// The turns that a message of that name starts.
pub fn about(message: &str) -> About {
    let found = TABLE.iter().find(|(_, name)| *name == message);
    About::Wire(found.unwrap_or_else(|| panic!("there is no message {message}")).0)
}

/// Which turns are counted: of one node or of all, about one thing or about anything but time.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// Whose; `None`: anybody's.
    pub node: Option<NodeId>,
    /// About what; `None`: anything but [`About::Timer`] and [`About::Wal`].
    pub about: Option<About>,
}

impl Pick {
    fn takes(&self, node: NodeId, what: About) -> bool {
        let usual = !matches!(what, About::Timer | About::Wal);
        self.node.is_none_or(|n| n == node) && self.about.map_or(usual, |a| a == what)
    }
}

#[derive(Clone, Copy)]
enum End {
    Node(NodeId, ConnId),
    User(UserId),
}

struct Place {
    host: Box<dyn Host>,
    addr: String,
    speaks_jute: bool,
    conns: BTreeMap<ConnId, End>,
    accepted: u64,
    wal: Wal,
    delivered: u64,
    appended: u64,
}

struct User {
    at: (NodeId, ConnId),
    inbox: Vec<Bytes>,
}

/// Nodes, the connections between them, and what is under way.
#[derive(Default)]
pub struct Net {
    places: Vec<Place>,
    users: Vec<User>,
    queue: VecDeque<(NodeId, Vec<Input<LogCommand>>)>,
    now: Instant,
    buffer: Vec<u8>,
    /// What is counted while `counting`.
    pub picks: Vec<Pick>,
    /// Whether the warm-up is over.
    pub counting: bool,
}

impl Net {
    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Puts a machine at an address. `speaks_jute`: who connects to it is a ZooKeeper client.
    pub fn add(&mut self, addr: String, speaks_jute: bool, host: Box<dyn Host>) -> NodeId {
        let mut cfg = WalConfig::new(CLUSTER, 1, OnDamage::Refuse);
        (cfg.first_segment_bytes, cfg.segment_bytes) = (1 << 30, 1 << 30);
        let (_, wal) = recover(&MemoryDisk::new(), &cfg).expect("a new log");
        let (conns, accepted) = (BTreeMap::new(), 0);
        self.places.push(Place { host, addr, speaks_jute, conns, accepted, wal, delivered: 0, appended: 0 });
        let node = self.places.len() - 1;
        self.write_log(node, None);
        self.queue.push_back((node, vec![Input::Timer]));
        node
    }

    /// The machine at a node.
    pub fn machine<M: 'static>(&self, node: NodeId) -> &M {
        self.places[node].host.any().downcast_ref().expect("a machine of that type")
    }

    /// The node at an address.
    pub fn node_at(&self, addr: &str) -> Option<NodeId> {
        self.places.iter().position(|p| p.addr == addr)
    }

    /// Records of the log that the client at `node` has delivered.
    pub fn delivered(&self, node: NodeId) -> u64 {
        self.places[node].delivered
    }

    /// Records of its own that the client at `node` knows to be in the log.
    pub fn appended(&self, node: NodeId) -> u64 {
        self.places[node].appended
    }

    /// Connects somebody from outside.
    pub fn connect(&mut self, node: NodeId) -> UserId {
        let user = self.users.len();
        let conn = self.accept(node, End::User(user), "10.9.9.9:1");
        self.users.push(User { at: (node, conn), inbox: Vec::new() });
        user
    }

    /// Sends whole frames from outside, to arrive in one turn.
    pub fn send(&mut self, user: UserId, frames: Vec<Bytes>) {
        let (node, conn) = self.users[user].at;
        let inputs = frames.into_iter().map(|bytes| Input::Frame { conn, bytes }).collect();
        self.queue.push_back((node, inputs));
    }

    /// What has come for somebody outside, as it was sent.
    pub fn receive(&mut self, user: UserId) -> Vec<Bytes> {
        std::mem::take(&mut self.users[user].inbox)
    }

    /// Gives a node an input of its owner.
    pub fn input(&mut self, node: NodeId, input: Input<LogCommand>) {
        self.queue.push_back((node, vec![input]));
    }

    /// Turns until nothing is under way.
    pub fn run(&mut self) {
        for turns in 0.. {
            assert!(turns < 1_000_000, "the nodes never come to rest");
            let Some((node, inputs)) = self.queue.pop_front() else { return };
            self.turn(node, inputs);
        }
    }

    /// Lets time pass, and what is due happen.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        for node in 0..self.places.len() {
            if self.places[node].host.deadline().is_some_and(|at| at <= self.now) {
                self.queue.push_back((node, vec![Input::Timer]));
            }
        }
        self.run();
    }

    /// Lets `ms` milliseconds pass, one by one.
    pub fn wait_ms(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.advance(Duration::from_millis(1)));
    }

    fn is_picked(&self, node: NodeId, what: About) -> bool {
        self.counting && self.picks.iter().any(|p| p.takes(node, what))
    }

    fn turn(&mut self, node: NodeId, inputs: Vec<Input<LogCommand>>) {
        let what = self.about(node, &inputs[0]);
        let picked = self.is_picked(node, what);
        if picked {
            meter::tally(&meter::TURNS, || {
                let at = (self.now.0 / 1000, &self.places[node].addr, inputs.len());
                format!("{} us: {} turns about {what:?}, {} inputs", at.0, at.1, at.2)
            });
        }
        let outputs = self.places[node].host.turn(self.now, inputs, picked);
        // What leaves for one node in one turn arrives there in one turn.
        let mut sent: BTreeMap<NodeId, Vec<Input<LogCommand>>> = BTreeMap::new();
        for output in outputs {
            match output {
                Output::Dial { conn, addr } => self.dial(node, conn, &addr),
                Output::Send { conn, bytes } => match self.places[node].conns.get(&conn) {
                    Some(&End::Node(peer, conn)) => {
                        let inputs = frames(bytes).into_iter().map(|bytes| Input::Frame { conn, bytes });
                        sent.entry(peer).or_default().extend(inputs);
                    }
                    Some(&End::User(user)) => self.users[user].inbox.push(bytes),
                    None => {}
                },
                Output::Close { conn } => self.close(node, conn, &mut sent),
                Output::Persist { token, records } => self.write_log(node, Some((token, records))),
                Output::Load { pos, .. } => panic!("{} reads back {pos:?}", self.places[node].addr),
                Output::ReadSegment { segment, .. } => {
                    panic!("{} scrubs segment {segment}", self.places[node].addr)
                }
                Output::Event(Told::Delivered(n)) => self.places[node].delivered += n,
                Output::Event(Told::Appended(n)) => self.places[node].appended += n,
                _ => {}
            }
        }
        self.queue.extend(sent);
    }

    fn about(&self, node: NodeId, input: &Input<LogCommand>) -> About {
        match input {
            Input::Frame { conn, .. } if self.places[node].speaks_jute && !conn.is_dialled() => About::Jute,
            Input::Frame { bytes, .. } => About::Wire(kind(bytes)),
            Input::Command(_) => About::Command,
            Input::Persisted { .. } | Input::Loaded { .. } | Input::SegmentRead { .. } => About::Persisted,
            Input::Timer | Input::WallClock(_) => About::Timer,
            _ => About::Conn,
        }
    }

    fn accept(&mut self, node: NodeId, from: End, peer: &str) -> ConnId {
        let place = &mut self.places[node];
        place.accepted += 1;
        let conn = ConnId(place.accepted);
        place.conns.insert(conn, from);
        self.queue.push_back((node, vec![Input::Accepted { conn, peer: peer.to_owned() }]));
        conn
    }

    fn dial(&mut self, node: NodeId, conn: ConnId, addr: &str) {
        let Some(peer) = self.node_at(addr) else {
            self.queue.push_back((node, vec![Input::Closed { conn }]));
            return;
        };
        let accepted = self.accept(peer, End::Node(node, conn), "10.9.9.8:1");
        self.places[node].conns.insert(conn, End::Node(peer, accepted));
        self.queue.push_back((node, vec![Input::Connected { conn }]));
    }

    /// Ends a connection, behind what was sent over it. Only nodes do that to each other here.
    fn close(&mut self, node: NodeId, conn: ConnId, sent: &mut BTreeMap<NodeId, Vec<Input<LogCommand>>>) {
        self.queue.push_back((node, vec![Input::Closed { conn }]));
        match self.places[node].conns.remove(&conn) {
            Some(End::Node(peer, conn)) => {
                self.places[peer].conns.remove(&conn);
                sent.entry(peer).or_default().push(Input::Closed { conn });
            }
            Some(End::User(user)) => panic!("{} hangs up on user {user}", self.places[node].addr),
            None => {}
        }
    }

    /// Appends to the node's log, and writes it out at once.
    fn write_log(&mut self, node: NodeId, append: Option<(Token, Vec<WalRecord>)>) {
        let picked = self.is_picked(node, About::Wal);
        let (now, buffer) = (self.now.0 / 1000, &mut self.buffer);
        let Place { wal, addr, .. } = &mut self.places[node];
        if let Some((token, records)) = append {
            meter::run(picked, || wal.append(token, records));
        }
        while wal.has_work() {
            if let Some((number, bytes)) = wal.wants_segment() {
                wal.segment_ready(number, bytes);
            }
            let plan =
                meter::run(picked, || wal.group()).expect("a group: there is work, and nothing in flight");
            buffer.resize(plan.len, 0);
            if picked {
                meter::tally(&meter::WRITES, || format!("{now} us: {addr} writes {} bytes", plan.len));
            }
            let done = meter::run(picked, || {
                wal.fill(&plan, buffer);
                wal.completed(plan)
            });
            for (token, positions) in done {
                self.queue.push_back((node, vec![Input::Persisted { token, positions }]));
            }
        }
    }
}
