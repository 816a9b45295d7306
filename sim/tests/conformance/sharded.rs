//! The client of the sharded log, as the suite uses it.

use crate::held::{Client, Held};
use crate::suite::Harness;
use std::time::Duration;
use zoolog_client::{ClientConfig, LogClient, LogEvent, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

/// The client of the sharded log: three orderers, three servers, two shards of two replicas.
pub struct Sharded {
    world: World,
    held: Held<LogClient>,
    client: NodeId,
}

impl Sharded {
    fn run(&mut self, time: Duration) {
        let until = self.world.now() + time;
        self.world.run_until(until);
        assert_eq!(self.world.violation, None);
    }

    fn wait_for_client(&mut self) {
        let held = self.held.clone();
        assert!(self.world.run_while(Duration::from_secs(20), |_| held.0.borrow().is_some()));
    }
}

impl Harness for Sharded {
    const SUCCESSOR: &str = "elsewhere:1";

    fn new(seed: u64, consumer: bool) -> Self {
        let mut o = Options::calm(seed);
        // The world's own checks take nothing for granted that may be trimmed by hand.
        (o.trims, o.trims_by_hand) = (true, true);
        (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 1, 0);
        let roles = roles(&o);
        let mut world = World::new(o, &roles, TraceMode::Off);
        let held = Held::default();
        let client = held.clone();
        world.builder = Box::new(move |birth| match birth.role {
            Role::Writer(_) => {
                let orderers = [1, 2, 3].map(|n| Role::Orderer(n).addr()).to_vec();
                let consumer = consumer.then(|| "suite".to_string());
                let cfg = ClientConfig { cluster: CLUSTER, orderers, consumer, ..ClientConfig::default() };
                *client.0.borrow_mut() = Some(LogClient::new(cfg, birth.seed, birth.now));
                Ok(Box::new(Client { held: client.clone(), now: birth.now }))
            }
            _ => cluster::build(birth),
        });
        world.start_all();
        let client = world.node(Role::Writer(1));
        let mut this = Self { world, held, client };
        this.wait_for_client();
        this
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }

    fn step(&mut self) -> Vec<LogEvent> {
        self.run(Duration::from_millis(2));
        self.held.1.borrow_mut().drain(..).collect()
    }

    /// A server or an orderer dies and comes back, or all connections of the client break.
    fn disturb(&mut self, rng: &mut Rng) {
        let down = Duration::from_millis(rng.between(20, 400));
        let id = match rng.below(3) {
            0 => self.world.node(Role::Orderer(rng.between(1, 4))),
            1 => self.world.node(Role::Server(rng.between(1, 4) as u32)),
            _ => {
                let others: Vec<NodeId> = (0..self.world.nodes.len()).map(NodeId).collect();
                let pairs = others.iter().flat_map(|o| [(self.client, *o), (*o, self.client)]);
                let cut = pairs.filter(|(a, b)| a != b).collect();
                let partition = self.world.network.block(cut);
                self.run(down);
                return self.world.network.heal(&mut self.world.schedule, partition);
            }
        };
        self.world.crash_for(id, down);
    }

    fn reopen(&mut self) {
        // What it was given leaves with it only if a turn came before.
        self.world.crash_for(self.client, Duration::from_millis(5));
        self.held.1.borrow_mut().clear();
        *self.held.0.borrow_mut() = None;
        self.wait_for_client();
    }
}
