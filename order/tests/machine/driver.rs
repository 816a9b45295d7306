//! What surrounds the machines in these tests? Virtual time, connections that are FIFO until they break,
//! and disks whose syncs can be held back. All chance comes from one seed.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wal::{Recovered, WalEntry, WalPos, WalRecord};
use zoolog_core::wire::{self, Hello, Message, Role};
use zoolog_core::{ClusterId, ConnId, Incarnation, Input, Instant, Machine, OrdererId, Output, Token};
use zoolog_order::{CutInterval, Failures, OrderEvent, Orderer, OrdererConfig, RetentionConfig};

pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// From the end of a turn until what it sends is offered to the sockets.
const SENDING: Duration = Duration::from_micros(250);

/// What an orderer has on disk, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    pub segment: u32,
    pub checkpoint: Option<Bytes>,
    pub tail: Vec<WalEntry>,
    pending: VecDeque<(Token, Vec<WalRecord>)>,
    pub hold: bool,
    busy: bool,
    opened: u64,
    /// How many there were before in its place.
    pub number: u64,
    pub released: u32,
    pub records: u64,
}

impl Disk {
    pub fn empty() -> Self {
        Self { segment: 1, ..Self::default() }
    }
}

pub struct Node {
    pub machine: Option<Orderer>,
    pub disk: Disk,
    pub events: Vec<OrderEvent>,
    accepted: u64,
    /// Start of the process, so that what was meant for an older one is dropped.
    epoch: u64,
    pub sent_frames: u64,
}

impl Node {
    fn down() -> Self {
        let (events, disk) = (Vec::new(), Disk::empty());
        Self { machine: None, disk, events, accepted: 0, epoch: 0, sent_frames: 0 }
    }

    /// Why it was dismissed, if it was.
    pub fn dismissed(&self) -> Option<&str> {
        self.events.iter().find_map(|e| match e {
            OrderEvent::Dismissed { why } => Some(why.as_str()),
            _ => None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Node(usize, ConnId),
    Guest(usize),
}

/// A peer that the test plays itself.
#[derive(Default)]
pub struct Guest {
    pub node: usize,
    pub inbox: VecDeque<Message>,
    pub open: bool,
    link: usize,
}

struct Link {
    ends: [End; 2],
    open: [bool; 2],
}

enum Event {
    Dialled { node: usize, epoch: u64, conn: ConnId, to: usize },
    Frame { link: usize, to: usize, bytes: Bytes },
    Closed { link: usize, to: usize },
    Synced { node: usize, epoch: u64 },
}

pub struct Sim {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub guests: Vec<Guest>,
    links: Vec<Link>,
    of: BTreeMap<End, usize>,
    events: BTreeMap<(Instant, u64), Event>,
    /// Frames of one direction of a link never overtake each other.
    busy_until: BTreeMap<(usize, usize), Instant>,
    number: u64,
    pub cuts: BTreeSet<(usize, usize)>,
    pub rng: Rng,
    pub cfg: OrdererConfig,
    seed: u64,
}

pub fn config(orderers: u64) -> OrdererConfig {
    OrdererConfig {
        cluster: CLUSTER,
        id: OrdererId(1),
        addr: String::new(),
        peers: (1..=orderers).map(|i| (OrdererId(i), format!("o{i}:1"))).collect(),
        joins: false,
        moved: Vec::new(),
        wanted_shards: 3,
        replicas: 2,
        servers: 3,
        cut_interval: CutInterval::default(),
        failures: Failures::default(),
        retention: RetentionConfig::default(),
        successor: false,
        generation: 0,
    }
}

pub fn addr(node: usize) -> String {
    format!("o{}:1", node + 1)
}

pub fn node_at(addr: &str) -> usize {
    addr.trim_start_matches(['o', '0']).trim_end_matches(":1").parse::<usize>().expect("an address") - 1
}

impl Sim {
    pub fn new(orderers: u64, seed: u64) -> Self {
        let mut sim = Self {
            now: Instant(1_000_000),
            nodes: Vec::new(),
            guests: Vec::new(),
            links: Vec::new(),
            of: BTreeMap::new(),
            events: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            number: 0,
            cuts: BTreeSet::new(),
            rng: Rng::new(seed, "driver"),
            cfg: config(orderers),
            seed,
        };
        for i in 0..orderers as usize {
            sim.nodes.push(Node::down());
            sim.start(i);
        }
        sim
    }

    pub fn start(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        assert!(node.machine.is_none());
        node.epoch += 1;
        node.disk.opened += 1;
        let recovered = Recovered {
            checkpoint: node.disk.checkpoint.clone(),
            tail: node.disk.tail.clone(),
            ..Recovered::empty(node.disk.opened)
        };
        // As a shell draws it: another one for each start.
        let seed = self.seed.wrapping_mul(31).wrapping_add(i as u64)
            ^ node.disk.opened << 40
            ^ node.disk.number << 50;
        let machine = Orderer::new(self.config_of(i), &recovered, seed, self.now).expect("starts");
        self.nodes[i].machine = Some(machine);
        self.turn(i, Vec::new());
    }

    pub fn config_of(&self, i: usize) -> OrdererConfig {
        let id = OrdererId(i as u64 + 1);
        let joins = !self.cfg.peers.iter().any(|(first, _)| *first == id);
        OrdererConfig { id, joins, addr: addr(i), ..self.cfg.clone() }
    }

    /// One more orderer, which waits to be added.
    pub fn joiner(&mut self) -> usize {
        let i = self.nodes.len();
        self.nodes.push(Node::down());
        self.start(i);
        i
    }

    /// Puts an empty disk into an orderer that is down.
    pub fn wipe(&mut self, i: usize) {
        let number = self.nodes[i].disk.number + 1;
        self.nodes[i].disk = Disk { number, ..Disk::empty() };
    }

    /// Asked to end: whether it wants to be driven on.
    pub fn farewell(&mut self, i: usize) -> bool {
        let now = self.now;
        let more = self.nodes[i].machine.as_mut().is_some_and(|m| m.farewell(now));
        self.turn(i, Vec::new());
        more
    }

    /// The process is gone, with everything that was not synced.
    pub fn crash(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.machine = None;
        node.epoch += 1;
        node.disk.pending.clear();
        node.disk.busy = false;
        for link in 0..self.links.len() {
            for side in 0..2 {
                if matches!(self.links[link].ends[side], End::Node(n, _) if n == i) {
                    self.break_link(link, Some(side));
                }
            }
        }
    }

    /// The log rolls: a checkpoint stands for all that was handed over so far.
    pub fn roll(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        let Some(machine) = &node.machine else { return };
        node.disk.checkpoint = Some(machine.checkpoint());
        node.disk.tail.clear();
        node.disk.segment += 1;
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.number += 1;
        self.events.insert((self.now + delay, self.number), event);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.between(50, 250))
    }

    fn turn(&mut self, i: usize, inputs: Vec<Input<()>>) {
        let now = self.now;
        let Some(machine) = &mut self.nodes[i].machine else { return };
        let timer = inputs.iter().any(|i| matches!(i, Input::Timer));
        for input in inputs {
            machine.handle(now, input);
        }
        let mut sends = false;
        while let Some(output) = self.nodes[i].machine.as_mut().and_then(|m| m.poll_output(now)) {
            sends |= matches!(output, Output::Send { .. });
            self.carry_out(i, output);
        }
        if let Some(machine) = self.nodes[i].machine.as_mut().filter(|_| sends) {
            machine.sent(now + SENDING);
        }
        let machine = self.nodes[i].machine.as_ref();
        let Some((when, why)) = machine.and_then(|m| m.next_deadline()) else {
            assert!(machine.is_none_or(Orderer::is_dismissed), "a tick is always due");
            return;
        };
        assert!(
            when > now || !timer,
            "{why} is due at {when:?}, which has passed at {now:?}: the shell would spin"
        );
    }

    fn carry_out(&mut self, i: usize, output: Output<OrderEvent>) {
        let epoch = self.nodes[i].epoch;
        match output {
            Output::Dial { conn, addr } => {
                let delay = self.latency();
                self.at(delay, Event::Dialled { node: i, epoch, conn, to: node_at(&addr) });
            }
            Output::Send { conn, bytes } => {
                self.nodes[i].sent_frames += 1;
                self.transmit(End::Node(i, conn), bytes);
            }
            Output::Close { conn } => {
                if let Some(&link) = self.of.get(&End::Node(i, conn)) {
                    self.break_link(link, None);
                }
            }
            Output::Persist { token, records } => {
                self.nodes[i].disk.pending.push_back((token, records));
                self.sync(i);
            }
            Output::Release { segment } => {
                let disk = &mut self.nodes[i].disk;
                assert!(segment <= disk.segment && segment > disk.released);
                disk.released = segment;
            }
            Output::Event(e) => self.nodes[i].events.push(e),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn sync(&mut self, i: usize) {
        let disk = &mut self.nodes[i].disk;
        if !disk.hold && !disk.busy && !disk.pending.is_empty() {
            disk.busy = true;
            let epoch = self.nodes[i].epoch;
            let delay = Duration::from_micros(self.rng.between(100, 600));
            self.at(delay, Event::Synced { node: i, epoch });
        }
    }

    pub fn hold(&mut self, i: usize, hold: bool) {
        self.nodes[i].disk.hold = hold;
        self.sync(i);
    }

    fn transmit(&mut self, from: End, bytes: Bytes) {
        let Some(&link) = self.of.get(&from) else { return };
        let to = usize::from(self.links[link].ends[0] == from);
        let delay = self.latency();
        let when = self.busy_until.get(&(link, to)).copied().unwrap_or(self.now).max(self.now + delay);
        self.busy_until.insert((link, to), when);
        self.number += 1;
        self.events.insert((when, self.number), Event::Frame { link, to, bytes });
    }

    /// Both ends hear of it, the living ones, after what is under way towards them.
    fn break_link(&mut self, link: usize, dead: Option<usize>) {
        for to in 0..2 {
            if dead == Some(to) {
                self.links[link].open[to] = false;
            }
            let when = self.busy_until.get(&(link, to)).copied().unwrap_or(self.now).max(self.now);
            self.number += 1;
            self.events.insert((when + Duration::from_micros(1), self.number), Event::Closed { link, to });
        }
    }

    /// Nothing gets through between two orderers until [`Sim::heal`].
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cuts.extend([(a, b), (b, a)]);
        for link in 0..self.links.len() {
            if let [End::Node(x, _), End::Node(y, _)] = self.links[link].ends
                && self.cuts.contains(&(x, y))
            {
                self.break_link(link, None);
            }
        }
    }

    pub fn isolate(&mut self, i: usize) {
        (0..self.nodes.len()).filter(|j| *j != i).for_each(|j| self.cut(i, j));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dialled { node, epoch, conn, to } => {
                if self.nodes[node].epoch != epoch {
                    return;
                }
                if self.nodes.get(to).is_none_or(|n| n.machine.is_none()) || self.cuts.contains(&(node, to)) {
                    return self.turn(node, vec![Input::Closed { conn }]);
                }
                let end = self.accept(to);
                self.join(End::Node(node, conn), End::Node(to, end));
                self.turn(to, vec![Input::Accepted { conn: end, peer: addr(node) }]);
                self.turn(node, vec![Input::Connected { conn }]);
            }
            Event::Frame { link, to, bytes } => {
                if self.links[link].open[to] {
                    match self.links[link].ends[to] {
                        End::Node(n, conn) => self.turn(n, vec![Input::Frame { conn, bytes }]),
                        End::Guest(g) => {
                            let message = wire::decode(bytes).expect("orderers send good frames").message;
                            self.guests[g].inbox.push_back(message);
                        }
                    }
                }
            }
            Event::Closed { link, to } => {
                if std::mem::replace(&mut self.links[link].open[to], false) {
                    self.of.remove(&self.links[link].ends[to]);
                    match self.links[link].ends[to] {
                        End::Node(n, conn) => self.turn(n, vec![Input::Closed { conn }]),
                        End::Guest(g) => self.guests[g].open = false,
                    }
                }
            }
            Event::Synced { node, epoch } => self.synced(node, epoch),
        }
    }

    fn synced(&mut self, i: usize, epoch: u64) {
        if self.nodes[i].epoch != epoch {
            return;
        }
        let disk = &mut self.nodes[i].disk;
        disk.busy = false;
        let mut inputs = Vec::new();
        if !disk.hold {
            for (token, records) in disk.pending.drain(..) {
                let mut positions = Vec::new();
                for r in records {
                    let data = Bytes::from(r.data.concat());
                    let pos = WalPos {
                        segment: disk.segment,
                        offset: disk.tail.len() as u32 * 64,
                        len: data.len() as u32,
                    };
                    positions.push(pos);
                    disk.records += 1;
                    let (kind, aux, key1, key2) = (r.kind, r.aux, r.key1, r.key2);
                    disk.tail.push(WalEntry { kind, aux, key1, key2, pos, data: Some(data) });
                }
                inputs.push(Input::Persisted { token, positions });
            }
        }
        self.turn(i, inputs);
        self.sync(i);
    }

    fn accept(&mut self, node: usize) -> ConnId {
        self.nodes[node].accepted += 1;
        ConnId(self.nodes[node].accepted)
    }

    fn join(&mut self, a: End, b: End) -> usize {
        let link = self.links.len();
        self.links.push(Link { ends: [a, b], open: [true; 2] });
        self.of.extend([(a, link), (b, link)]);
        link
    }

    /// Goes on for a while.
    pub fn run(&mut self, d: Duration) {
        let end = self.now + d;
        loop {
            let timer = (0..self.nodes.len())
                .filter_map(|i| Some((self.nodes[i].machine.as_ref()?.next_deadline()?.0, i)))
                .min();
            let event = self.events.first_key_value().map(|(k, _)| k.0);
            let next = timer.map(|t| t.0).into_iter().chain(event).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = next.max(self.now);
            match (event, timer) {
                (Some(at), _) if at <= self.now => {
                    let (_, e) = self.events.pop_first().expect("it was there");
                    self.happen(e);
                }
                (_, Some((_, i))) => self.turn(i, vec![Input::Timer]),
                _ => break,
            }
        }
        self.now = end;
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    /// Goes on, in small steps, until `done`; panics if that takes longer than 20 s.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Sim) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.run_ms(1);
        }
        panic!("not within 20 s: {what}");
    }

    pub fn machine(&self, i: usize) -> &Orderer {
        self.nodes[i].machine.as_ref().expect("it runs")
    }

    /// The leader, if exactly one thinks it is ready.
    pub fn leader(&self) -> Option<usize> {
        let mut leaders = (0..self.nodes.len())
            .filter(|i| self.nodes[*i].machine.as_ref().is_some_and(Orderer::is_leading));
        leaders.next().filter(|_| leaders.next().is_none())
    }

    pub fn elect(&mut self) -> usize {
        self.until("a leader", |s| s.leader().is_some());
        self.leader().expect("just there")
    }

    pub fn connect(&mut self, node: usize) -> usize {
        let g = self.guests.len();
        self.guests.push(Guest { node, inbox: VecDeque::new(), open: true, link: usize::MAX });
        if self.nodes[node].machine.is_none() {
            self.guests[g].open = false;
            return g;
        }
        let conn = self.accept(node);
        self.guests[g].link = self.join(End::Guest(g), End::Node(node, conn));
        self.turn(node, vec![Input::Accepted { conn, peer: format!("guest{g}:1") }]);
        g
    }

    pub fn send(&mut self, g: usize, m: impl Into<Message>) {
        self.transmit(End::Guest(g), wire::encode(m));
    }

    pub fn send_raw(&mut self, g: usize, bytes: Bytes) {
        self.transmit(End::Guest(g), bytes);
    }

    pub fn hang_up(&mut self, g: usize) {
        if self.guests[g].link != usize::MAX {
            self.break_link(self.guests[g].link, None);
        }
    }

    /// A connection that has said hello as a client.
    pub fn client(&mut self, node: usize) -> usize {
        let g = self.connect(node);
        self.send(g, hello(Role::Client, 0, 0));
        g
    }

    /// Everything that has arrived.
    pub fn take(&mut self, g: usize) -> Vec<Message> {
        self.guests[g].inbox.drain(..).collect()
    }

    /// Waits for an answer that `pick` likes.
    pub fn answer<T>(&mut self, g: usize, what: &str, mut pick: impl FnMut(&Message) -> Option<T>) -> T {
        let mut got = None;
        self.until(what, |s| {
            while let Some(m) = s.guests[g].inbox.pop_front() {
                got = pick(&m);
                if got.is_some() {
                    return true;
                }
            }
            false
        });
        got.expect("until() saw it")
    }
}

pub fn hello(role: Role, node: u64, incarnation: u64) -> Hello {
    Hello { role, cluster: CLUSTER, node, slot: 0, incarnation: Incarnation(incarnation) }
}
