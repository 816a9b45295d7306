//! Which machines work together? A whole cluster: three orderers and servers of one slot each, settled.

use crate::host;
use crate::net::{CLUSTER, Net, NodeId, UserId};
use bytes::Bytes;
use zoolog_client::{ClientConfig, LogClient};
use zoolog_core::batch::{BatchBuilder, BatchKind};
use zoolog_core::view::View;
use zoolog_core::wal::Recovered;
use zoolog_core::wire::{self, Append, Hello, Role};
use zoolog_core::{
    ClusterId, Epoch, Incarnation, LaneId, OrdererId, Seq, ServerId, SlotId, WallMs, WriterId,
};
use zoolog_core::{Input, Instant};
use zoolog_order::{CutInterval, Failures, Orderer, OrdererConfig};
use zoolog_shard::{Bounds, Slot, SlotConfig};
use zoolog_zk::{Node, NodeConfig};

/// Shape of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Shards.
    pub shards: u32,
    /// Replicas of each.
    pub replicas: u32,
    /// Data servers.
    pub servers: u32,
}

/// What `zoolog dev` brings up.
pub const DEFAULT: Shape = Shape { shards: 3, replicas: 2, servers: 3 };

/// One shard on two servers.
pub const PAIR: Shape = Shape { shards: 1, replicas: 2, servers: 2 };

/// A cluster in a [`Net`].
pub struct Cluster {
    /// Where it lives.
    pub net: Net,
    orderers: Vec<NodeId>,
}

fn orderer_addr(n: u64) -> String {
    format!("10.0.1.{n}:1")
}

/// Address of the slot of a server.
pub fn slot_addr(server: u32) -> String {
    format!("10.0.2.{server}:1")
}

impl Cluster {
    /// Orderers alone, with a leader; whoever plays the servers must register them.
    pub fn orderers(shape: Shape) -> Self {
        let mut net = Net::default();
        let peers: Vec<_> = (1..=3).map(|n| (OrdererId(n), orderer_addr(n))).collect();
        let orderers = peers.iter().map(|(id, addr)| {
            let cfg = OrdererConfig {
                cluster: CLUSTER,
                id: *id,
                addr: addr.clone(),
                peers: peers.clone(),
                joins: false,
                moved: Vec::new(),
                wanted_shards: shape.shards,
                replicas: shape.replicas,
                servers: shape.servers,
                cut_interval: CutInterval::default(),
                failures: Failures::default(),
                retention: zoolog_order::RetentionConfig::default(),
                successor: false,
                generation: 0,
            };
            let machine = Orderer::new(cfg, &Recovered::empty(1), id.0, Instant(0)).expect("a sound orderer");
            net.add(addr.clone(), false, host::orderer(machine))
        });
        let orderers = orderers.collect();
        let mut cluster = Self { net, orderers };
        cluster.net.run();
        cluster.wait("a leader", |c| c.leader_if_any().is_some());
        cluster
    }

    /// All of it, with its view.
    pub fn start(shape: Shape) -> Self {
        let mut cluster = Self::orderers(shape);
        for n in 1..=shape.servers {
            let cfg = SlotConfig {
                cluster: CLUSTER,
                slot: SlotId { server: ServerId(n), index: 0 },
                stamp: 1,
                addr: slot_addr(n),
                domain: format!("host-{n}"),
                orderers: (1..=3).map(orderer_addr).collect(),
                bounds: Bounds::default(),
            };
            let machine = Slot::new(cfg, Recovered::empty(1), cluster.net.now()).expect("a sound slot");
            cluster.net.add(slot_addr(n), false, host::slot(machine));
        }
        cluster.net.run();
        cluster.wait("a view", |c| !c.view().shards.is_empty());
        cluster.net.wait_ms(100);
        cluster
    }

    fn wait(&mut self, what: &str, until: impl Fn(&Self) -> bool) {
        for _ in 0..5000 {
            if until(self) {
                return;
            }
            self.net.wait_ms(1);
        }
        panic!("5 s have passed without {what}");
    }

    fn leader_if_any(&self) -> Option<NodeId> {
        self.orderers.iter().copied().find(|&n| self.net.machine::<Orderer>(n).is_leading())
    }

    /// The leading orderer.
    pub fn leader(&self) -> NodeId {
        self.leader_if_any().expect("it leads to the end: nothing fails here")
    }

    /// The shards.
    pub fn view(&self) -> View {
        self.net.machine::<Orderer>(self.leader()).state().view().clone()
    }

    /// All lanes, in order.
    pub fn lanes(&self) -> Vec<LaneId> {
        self.view().shards.iter().flat_map(|s| s.lanes().collect::<Vec<_>>()).collect()
    }

    /// The slots that hold a lane's shard, the lane's primary first.
    pub fn holders(&self, lane: LaneId) -> Vec<NodeId> {
        let view = self.view();
        let replicas = &view.shard(lane.shard()).expect("a shard of the view").replicas;
        let at = |i: usize| self.net.node_at(&replicas[i].addr).expect("a slot of the cluster");
        let first = usize::from(lane.index());
        (0..replicas.len()).map(|i| at((first + i) % replicas.len())).collect()
    }

    /// Adds a client of the log.
    pub fn add_client(&mut self, seed: u64) -> NodeId {
        let orderers = (1..=3).map(orderer_addr).collect();
        let cfg = ClientConfig { cluster: CLUSTER, orderers, ..ClientConfig::default() };
        let machine = LogClient::new(cfg, seed, self.net.now());
        let node = self.net.add(format!("10.0.4.{seed}:1"), false, host::client(machine));
        self.net.run();
        self.net.wait_ms(100);
        node
    }

    /// Adds a ZooKeeper node.
    pub fn add_zk(&mut self, n: u32) -> NodeId {
        let cfg = NodeConfig {
            id: n,
            cluster: CLUSTER,
            secret: [7; 32],
            orderers: (1..=3).map(orderer_addr).collect(),
            max_connections_per_ip: 0,
            ..NodeConfig::default()
        };
        let machine = Node::new(cfg, u64::from(n), self.net.now());
        let node = self.net.add(format!("10.0.3.{n}:1"), true, host::zk(machine));
        self.net.input(node, Input::WallClock(WallMs(1_700_000_000_000)));
        self.net.run();
        self.wait("a ZooKeeper node that serves", |c| c.net.machine::<Node>(node).is_serving());
        node
    }
}

/// Says what a connection from outside is.
pub fn hello(role: Role, node: u64) -> Bytes {
    let (cluster, incarnation) = match role {
        Role::Client => (ClusterId(0), Incarnation(0)),
        Role::Slot | Role::Orderer => (CLUSTER, Incarnation(1)),
    };
    wire::encode(Hello { role, cluster, node, slot: 0, incarnation })
}

/// A writer that sends its batches itself, ready made.
pub struct RawWriter {
    lane: LaneId,
    user: UserId,
    records: usize,
    next: u64,
}

impl RawWriter {
    /// One for `lane`, whose batches have that many records of 128 bytes.
    pub fn new(cluster: &mut Cluster, lane: LaneId, records: usize) -> Self {
        let primary = cluster.holders(lane)[0];
        let user = cluster.net.connect(primary);
        cluster.net.send(user, vec![hello(Role::Client, 0)]);
        cluster.net.run();
        Self { lane, user, records, next: 0 }
    }

    /// Sends the next batch, without letting anything happen.
    pub fn append(&mut self, net: &mut Net) {
        let mut batch = BatchBuilder::new();
        (0..self.records).for_each(|i| batch.push(&[i as u8; 128]));
        let writer = WriterId(u128::from(self.lane.0) + 1);
        let batch = batch.finish(BatchKind::Data, writer, Epoch(0), Seq(self.next));
        self.next += 1;
        net.send(
            self.user,
            vec![wire::encode_with(
                Append { lane: self.lane, start: Seq(0), prompt: true },
                &[batch.bytes()],
            )],
        );
    }

    /// How many answers have come since it last looked.
    pub fn acknowledged(&self, net: &mut Net) -> usize {
        net.receive(self.user).len()
    }
}
