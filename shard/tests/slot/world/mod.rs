//! A world for slots: virtual connections, disks that can crash, and a scripted leader of the orderers.
//! Nothing happens but by [`World::act`], one action at a time, so that a test can stop between any two.

pub mod client;
pub mod node;
pub mod orderer;
pub mod writer;

use bytes::Bytes;
pub use client::Client;
pub use node::Node;
use orderer::Orderer;
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::machine::{ConnId, Input, Output};
use zoolog_core::rng::Rng;
use zoolog_core::view::{ReplicaView, ShardState, ShardView, View};
use zoolog_core::wire::frame_length;
use zoolog_core::*;
use zoolog_shard::{Bounds, SlotEvent};

pub const CLUSTER: ClusterId = ClusterId(77);

/// What is on its way to one end of a link.
#[derive(Clone, Debug)]
pub enum Item {
    Connected,
    Accepted,
    Frame(Bytes),
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Node(usize, ConnId),
    Orderer,
    Client(usize),
}

pub struct Link {
    pub ends: [End; 2],
    pub queues: [VecDeque<Item>; 2],
    /// Neither end sends any more.
    pub dead: bool,
    pub paused: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Deliver(usize, usize),
    Sync(usize),
    Load(usize),
    Piece(usize),
}

pub struct World {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub orderer: Orderer,
    pub links: Vec<Link>,
    pub clients: Vec<Client>,
    pub rng: Rng,
    /// What is meant for connections that are no links: a test plays their shell.
    pub beside: Vec<Output<SlotEvent>>,
}

pub fn slot_id(node: usize) -> SlotId {
    SlotId { server: ServerId(node as u32 + 1), index: 0 }
}

/// Small disks and caches, so that rolls, evictions and read-backs happen often.
pub fn tiny() -> Bounds {
    Bounds { cache_bytes: 2000, push_bytes: 600, replicate_bytes: 900, read_bytes: 1500, ..Bounds::default() }
}

impl World {
    /// `shards` lists the nodes of each shard's replicas; shard ids are 1, 2, ...
    pub fn new(seed: u64, shards: &[&[usize]], bounds: &Bounds) -> Self {
        let nodes = shards.iter().flat_map(|s| s.iter()).max().unwrap() + 1;
        let replica = |&n: &usize| ReplicaView { slot: slot_id(n), addr: format!("s{n}") };
        let shards = shards.iter().enumerate().map(|(i, nodes)| ShardView {
            id: ShardId(i as u32 + 1),
            replicas: nodes.iter().map(replica).collect(),
            state: ShardState::Live,
            rebuild: None,
        });
        let view = View { number: ViewNumber(1), shards: shards.collect() };
        let mut world = Self {
            now: Instant(1),
            nodes: (0..nodes).map(|n| Node::new(n, bounds)).collect(),
            orderer: Orderer::new(view),
            links: Vec::new(),
            clients: Vec::new(),
            rng: Rng::new(seed, "world"),
            beside: Vec::new(),
        };
        (0..nodes).for_each(|n| world.start(n));
        world
    }

    /// The same, settled: every lane takes appends.
    pub fn ready(seed: u64, shards: &[&[usize]], bounds: &Bounds) -> Self {
        let mut world = Self::new(seed, shards, bounds);
        world.run(200);
        world
    }

    pub fn start(&mut self, n: usize) {
        let now = self.now;
        self.nodes[n].start(now).expect("a node that starts");
        self.turn(n, Vec::new());
    }

    /// The power of a node goes; what was being written may be there or not.
    pub fn crash(&mut self, n: usize) {
        self.nodes[n].crash(&mut self.rng);
        for link in &mut self.links {
            let at = |i: usize| matches!(link.ends[i], End::Node(m, _) if m == n);
            let Some(here) = (0..2).find(|&i| at(i)) else { continue };
            if link.dead {
                link.queues[here].clear();
                continue;
            }
            link.dead = true;
            link.queues[here].clear();
            let keep = self.rng.below(link.queues[1 - here].len() as u64 + 1) as usize;
            link.queues[1 - here].truncate(keep);
            link.queues[1 - here].push_back(Item::Closed);
        }
    }

    /// The network drops a link; what was under way is lost from some point on.
    pub fn cut_link(&mut self, l: usize) {
        let link = &mut self.links[l];
        if link.dead {
            return;
        }
        link.dead = true;
        for queue in &mut link.queues {
            let keep = self.rng.below(queue.len() as u64 + 1) as usize;
            queue.truncate(keep);
            queue.push_back(Item::Closed);
        }
    }

    fn link(&mut self, a: End, b: End) -> usize {
        let queues = [VecDeque::from([Item::Connected]), VecDeque::from([Item::Accepted])];
        self.links.push(Link { ends: [a, b], queues, dead: false, paused: [false; 2] });
        self.links.len() - 1
    }

    /// A new connection from the test to a node, which must be up.
    pub fn connect(&mut self, n: usize) -> usize {
        let c = self.clients.len();
        let conn = self.nodes[n].accept();
        let link = self.link(End::Client(c), End::Node(n, conn));
        self.clients.push(Client::new(link));
        c
    }

    /// Sends frames from a client.
    pub fn send(&mut self, client: usize, bytes: Bytes) {
        let link = &mut self.links[self.clients[client].link];
        if !link.dead {
            push_frames(&mut link.queues[1], bytes);
        }
    }

    pub fn hang_up(&mut self, client: usize) {
        let link = self.clients[client].link;
        self.cut_link(link);
    }

    /// All that can happen now.
    pub fn actions(&self) -> Vec<Action> {
        let mut out = Vec::new();
        for (l, link) in self.links.iter().enumerate() {
            for i in 0..2 {
                let reads = !link.paused[i] || matches!(link.queues[i].front(), Some(Item::Closed));
                if reads && !link.queues[i].is_empty() {
                    out.push(Action::Deliver(l, i));
                }
            }
        }
        for (n, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.slot.is_some()) {
            if node.is_writing() {
                out.push(Action::Sync(n));
            }
            if !node.loads.is_empty() {
                out.push(Action::Load(n));
            }
            if !node.pieces.is_empty() {
                out.push(Action::Piece(n));
            }
        }
        out
    }

    pub fn act(&mut self, action: Action) {
        match action {
            Action::Deliver(l, i) => self.deliver(l, i),
            Action::Sync(n) => {
                let inputs = self.nodes[n].sync();
                self.turn(n, inputs);
            }
            Action::Load(n) => {
                let i = self.rng.below(self.nodes[n].loads.len() as u64) as usize;
                let input = self.nodes[n].load(i);
                self.turn(n, vec![input]);
            }
            Action::Piece(n) => {
                let input = self.nodes[n].piece();
                self.turn(n, vec![input]);
            }
        }
    }

    fn deliver(&mut self, l: usize, i: usize) {
        let Some(item) = self.links[l].queues[i].pop_front() else { return };
        match self.links[l].ends[i] {
            End::Node(n, conn) => {
                let input = match item {
                    Item::Connected => Input::Connected { conn },
                    Item::Accepted => Input::Accepted { conn, peer: "test".into() },
                    Item::Frame(bytes) => Input::Frame { conn, bytes },
                    Item::Closed => Input::Closed { conn },
                };
                if self.nodes[n].slot.is_some() {
                    self.turn(n, vec![input]);
                }
            }
            End::Orderer => {
                let out = self.orderer.handle(l, item);
                self.take_from_orderer(out);
            }
            End::Client(c) => self.clients[c].take(item),
        }
    }

    pub fn take_from_orderer(&mut self, out: orderer::Out) {
        for (l, bytes) in out.frames {
            if !self.links[l].dead {
                push_frames(&mut self.links[l].queues[0], bytes);
            }
        }
        for l in out.close {
            self.close(l, 1);
        }
    }

    /// The orderers commit what all replicas hold.
    pub fn cut(&mut self) {
        let out = self.orderer.cut();
        self.take_from_orderer(out);
    }

    /// The orderers trim the log.
    pub fn trim(&mut self, gsn: Gsn) {
        let out = self.orderer.trim_to(gsn);
        self.take_from_orderer(out);
        self.settle();
    }

    /// One turn of a node.
    pub fn turn(&mut self, n: usize, inputs: Vec<Input<()>>) {
        let now = self.now;
        for output in self.nodes[n].turn(now, inputs) {
            self.carry_out(n, output);
        }
    }

    fn carry_out(&mut self, n: usize, output: Output<SlotEvent>) {
        match output {
            Output::Dial { conn, addr } => {
                let here = End::Node(n, conn);
                let target = match addr.strip_prefix('s').and_then(|d| d.parse::<usize>().ok()) {
                    Some(m) if self.nodes[m].slot.is_some() => Some(End::Node(m, self.nodes[m].accept())),
                    None if self.orderer.up => Some(End::Orderer),
                    _ => None,
                };
                let l = self.link(here, target.unwrap_or(End::Orderer));
                if target.is_none() {
                    self.links[l].dead = true;
                    self.links[l].queues = [VecDeque::from([Item::Closed]), VecDeque::new()];
                }
            }
            Output::Send { conn, bytes } => match self.find(n, conn) {
                Some((l, i)) if !self.links[l].dead => push_frames(&mut self.links[l].queues[1 - i], bytes),
                Some(_) => {}
                None => self.beside.push(Output::Send { conn, bytes }),
            },
            Output::Close { conn } => match self.find(n, conn) {
                Some((l, i)) => self.close(l, i),
                None => self.beside.push(output),
            },
            Output::Pause { conn } | Output::Resume { conn } => {
                let pause = matches!(output, Output::Pause { .. });
                match self.find(n, conn) {
                    Some((l, i)) => {
                        assert!(self.links[l].paused[i] != pause, "paused twice, or resumed twice");
                        self.links[l].paused[i] = pause;
                    }
                    None => self.beside.push(output),
                }
            }
            Output::SaveSnapshot { .. }
            | Output::SavePart { .. }
            | Output::DropSnapshots { .. }
            | Output::FindSnapshot { .. }
            | Output::ReadSnapshot { .. } => panic!("a slot has no snapshots"),
            Output::ReadClock => panic!("a turn of a slot is one stage"),
            Output::Event(_)
            | Output::Persist { .. }
            | Output::Load { .. }
            | Output::ReadSegment { .. }
            | Output::Release { .. } => {}
        }
    }

    fn close(&mut self, l: usize, i: usize) {
        let link = &mut self.links[l];
        if link.dead {
            return;
        }
        link.dead = true;
        link.queues[i].clear();
        (0..2).for_each(|e| link.queues[e].push_back(Item::Closed));
    }

    fn find(&self, n: usize, conn: ConnId) -> Option<(usize, usize)> {
        let all = self.links.iter().enumerate().rev();
        let mut ends = all.flat_map(|(l, link)| (0..2).map(move |i| (l, i, link.ends[i])));
        ends.find(|e| e.2 == End::Node(n, conn)).map(|e| (e.0, e.1))
    }

    /// Everything that can happen, happens, without time passing.
    pub fn settle(&mut self) {
        for _ in 0..200_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never settles");
    }

    /// The next of all that can happen without time passing, if there is anything.
    pub fn step(&mut self) -> bool {
        if let Some(&first) = self.actions().first() {
            self.act(first);
        } else if self.orderer.auto && self.orderer.has_cut() {
            self.cut();
        } else {
            return self.hurry();
        }
        true
    }

    /// Nodes with a deadline that has come get their timer.
    pub fn hurry(&mut self) -> bool {
        let due: Vec<usize> = (0..self.nodes.len())
            .filter(|&n| self.nodes[n].deadline().is_some_and(|d| d <= self.now))
            .collect();
        due.iter().for_each(|&n| self.turn(n, vec![Input::Timer]));
        !due.is_empty()
    }

    /// `ms` pass, and everything that can happen, happens.
    pub fn run(&mut self, ms: u64) {
        self.settle();
        let end = self.now + Duration::from_millis(ms);
        while let Some(d) = self.nodes.iter().filter_map(Node::deadline).min().filter(|&d| d <= end) {
            self.now = self.now.max(d);
            self.hurry();
            self.settle();
        }
        self.now = end;
    }

    pub fn status(&self, n: usize) -> String {
        self.nodes[n].slot.as_ref().expect("up").status()
    }
}

/// Splits `bytes` into frames, as a shell's reader does.
fn push_frames(queue: &mut VecDeque<Item>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        let len =
            frame_length(&bytes, FRAME_BYTES_MAX).map(|l| l.unwrap_or(bytes.len())).unwrap_or(bytes.len());
        queue.push_back(Item::Frame(bytes.split_to(len.min(bytes.len()))));
    }
}
