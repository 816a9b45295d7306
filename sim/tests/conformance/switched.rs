//! An embedded log that becomes a cluster's, as the suite uses it.

use crate::held::{Client, Held};
use crate::suite::{Harness, UNSWITCHED};
use std::time::Duration;
use zoolog_client::{ChainLog, ClientConfig, LocalConfig, LocalLog, LogClient, LogEvent, Sealed, SharedLog};
use zoolog_core::rng::Rng;
use zoolog_core::{Instant, Seq};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::Role;
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

pub type Chain = ChainLog<LocalLog, LogClient>;

/// An embedded log that goes on in a cluster, at some time in each test, underneath it.
pub struct Switched {
    world: World,
    held: Held<Chain>,
    client: NodeId,
    /// Steps until it is sealed; `None` once that was asked for in this life.
    until: Option<u32>,
}

impl Switched {
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

impl Harness for Switched {
    const SUCCESSOR: &str = "10.0.1.1:7000,10.0.1.2:7000,10.0.1.3:7000";

    fn new(seed: u64, _: bool) -> Self {
        let mut o = Options::calm(seed);
        (o.trims, o.trims_by_hand, o.successor) = (true, true, true);
        (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 0, 0);
        let embedded = Role::Embedded(1);
        let roles = [roles(&o), vec![embedded]].concat();
        let mut world = World::new(o, &roles, TraceMode::Off);
        let held = Held::default();
        let client: Held<Chain> = held.clone();
        world.builder = Box::new(move |birth| {
            if birth.role != embedded {
                return cluster::build(birth);
            }
            let recovered = birth.recovered.expect("it has a disk");
            let first = LocalLog::new(LocalConfig::new(CLUSTER), &recovered, birth.seed)?;
            let (ended, seed) = (first.sealed(), birth.seed ^ 1 << 63);
            let follow = move |now: Instant, sealed: &Sealed, first_seq: Seq| {
                let orderers = sealed.successor.split(',').map(String::from).collect();
                let succeeds = Some(sealed.tail);
                let cfg = ClientConfig {
                    cluster: CLUSTER,
                    orderers,
                    succeeds,
                    first_seq,
                    ..ClientConfig::default()
                };
                LogClient::new(cfg, seed, now)
            };
            let log = ChainLog::new(first, ended, Box::new(follow), birth.now);
            *client.0.borrow_mut() = Some(log);
            Ok(Box::new(Client { held: client.clone(), now: birth.now }))
        });
        world.start_all();
        let client = world.node(embedded);
        let until = (seed != UNSWITCHED).then(|| 3 + (seed % 7) as u32);
        let mut this = Self { world, held, client, until };
        this.wait_for_client();
        this
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut dyn SharedLog) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }

    fn step(&mut self) -> Vec<LogEvent> {
        if let Some(left) = &mut self.until {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.until = None;
                self.with(|log| log.seal(Self::SUCCESSOR)).expect("it can be");
            }
        }
        self.run(Duration::from_millis(2));
        self.held.1.borrow_mut().drain(..).collect()
    }

    /// A server or an orderer dies and comes back.
    fn disturb(&mut self, rng: &mut Rng) {
        let down = Duration::from_millis(rng.between(20, 400));
        let id = match rng.chance(50) {
            true => self.world.node(Role::Orderer(rng.between(1, 4))),
            false => self.world.node(Role::Server(rng.between(1, 4) as u32)),
        };
        self.world.crash_for(id, down);
    }

    fn reopen(&mut self) {
        // What it was given leaves with it only if a turn came before.
        self.world.crash_for(self.client, Duration::from_millis(5));
        self.held.1.borrow_mut().clear();
        let asked = self.held.0.borrow_mut().take().is_some_and(|log| log.second().is_some());
        if !asked && self.until.is_none() {
            self.until = Some(2);
        }
        self.wait_for_client();
    }
}
