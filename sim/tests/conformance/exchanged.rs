//! A cluster's log that becomes another cluster's, as the suite uses it.

use crate::held::{Client, Held};
use crate::suite::{Harness, UNSWITCHED};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::{ClientConfig, ClusterLog, LogEvent, SharedLog, Way};
use zoolog_core::rng::Rng;
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::disk::CLUSTER;
use zoolog_sim::node::{CLUSTER_STEP, Role};
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

/// A cluster's log that goes on in another cluster, at some time in each test.
pub struct Exchanged {
    world: World,
    held: Held<ClusterLog>,
    client: NodeId,
    /// Steps until it is sealed; `None` once that was asked for in this life.
    until: Option<u32>,
    /// What is written down of where the log went on; not every life does so in time.
    way: Rc<RefCell<Way>>,
    rng: Rng,
}

impl Exchanged {
    fn run(&mut self, time: Duration) {
        let until = self.world.now() + time;
        self.world.run_until(until);
        assert_eq!(self.world.violation, None);
    }

    fn wait_for_client(&mut self) {
        let held = self.held.clone();
        assert!(self.world.run_while(Duration::from_secs(20), |_| held.0.borrow().is_some()));
    }

    /// What the log has said.
    fn said(&mut self) -> Vec<LogEvent> {
        let events: Vec<LogEvent> = self.held.1.borrow_mut().drain(..).collect();
        for event in &events {
            match event {
                LogEvent::Moved(sealed) => drop(self.way.borrow_mut().moved(sealed)),
                LogEvent::Left(tail) => drop(self.way.borrow_mut().left(*tail)),
                _ => {}
            }
        }
        events
    }
}

impl Harness for Exchanged {
    const SUCCESSOR: &str = "10.0.1.101:7000,10.0.1.102:7000,10.0.1.103:7000;generation=1";

    fn new(seed: u64, consumer: bool) -> Self {
        let mut o = Options::calm(seed);
        (o.trims, o.trims_by_hand, o.clusters) = (true, true, 2);
        (o.orderers, o.servers, o.shards, o.replicas) = (3, 3, 2, 2);
        (o.zk, o.zk_clients, o.writers, o.readers) = (0, 0, 1, 0);
        let mut roles = roles(&o);
        roles.retain(|role| !matches!(role, Role::Switcher(_)));
        let mut world = World::new(o, &roles, TraceMode::Off);
        let held = Held::default();
        let client: Held<ClusterLog> = held.clone();
        let way = Rc::new(RefCell::new(Way::default()));
        let known = way.clone();
        world.builder = Box::new(move |birth| match birth.role {
            Role::Writer(_) => {
                let orderers = cluster::orderers_of(birth.options, 0);
                let consumer = consumer.then(|| "suite".to_string());
                let way = known.borrow().ahead(Some(0), &orderers);
                let cfg =
                    ClientConfig { cluster: CLUSTER, orderers, consumer, way, ..ClientConfig::default() };
                *client.0.borrow_mut() = Some(ClusterLog::new(cfg, birth.seed, birth.now));
                Ok(Box::new(Client { held: client.clone(), now: birth.now }))
            }
            _ => cluster::build(birth),
        });
        world.start_all();
        let client = world.node(Role::Writer(1));
        let until = (seed != UNSWITCHED).then(|| 3 + (seed % 7) as u32);
        let mut this = Self { world, held, client, until, way, rng: Rng::new(seed, "exchanged") };
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
                let mut log = self.held.0.borrow_mut();
                let log = log.as_mut().expect("it lives");
                // Whoever begins anew may have found it sealed, and gone on.
                if log.newest().cluster().1 == Some(0) {
                    log.seal(Self::SUCCESSOR).expect("it can be");
                }
            }
        }
        self.run(Duration::from_millis(2));
        self.said()
    }

    /// A server or an orderer of either cluster dies and comes back.
    fn disturb(&mut self, rng: &mut Rng) {
        let down = Duration::from_millis(rng.between(20, 400));
        let n = rng.below(2) * u64::from(CLUSTER_STEP) + rng.between(1, 4);
        let role = if rng.chance(50) { Role::Orderer(n) } else { Role::Server(n as u32) };
        let id = self.world.node(role);
        self.world.crash_for(id, down);
    }

    fn reopen(&mut self) {
        // What it was given leaves with it only if a turn came before.
        self.world.crash_for(self.client, Duration::from_millis(5));
        self.said();
        if self.rng.chance(50) {
            *self.way.borrow_mut() = Way::default();
        }
        let log = self.held.0.borrow_mut().take().expect("it lives");
        if log.before().is_none() && self.until.is_none() {
            self.until = Some(2);
        }
        self.wait_for_client();
    }
}
