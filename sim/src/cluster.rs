//! What runs where? The topology, and how each node's process is made from what its disk kept.

use crate::disk::{CLUSTER, Disk};
use crate::node::{CLUSTER_STEP, Node, Role};
use crate::observe::Observation;
use crate::options::{Options, Policy};
use crate::process::{Process, Told};
use crate::schedule::Life;
use crate::work::log_reader::LogReader;
use crate::work::log_writer::LogWriter;
use crate::work::operator::{Ended, Operator};
use crate::work::switcher::Switcher;
use crate::work::zk_client::{ZkClient, ZkClientConfig};
use crate::work::zk_looker::ZkLooker;
use std::time::Duration;
use zoolog_client::{ClientConfig, LogClient, Successor};
use zoolog_core::rng::Rng;
use zoolog_core::wal::Recovered;
use zoolog_core::{Instant, OrdererId, ServerId, SlotId};
use zoolog_order::{CutInterval, Failures, OrderError, OrderEvent, Orderer, OrdererConfig, RetentionConfig};
use zoolog_shard::{Bounds, Slot, SlotConfig, SlotEvent};
use zoolog_zk::snapshot::Restored;

/// All nodes of these options, service first.
pub fn roles(o: &Options) -> Vec<Role> {
    let orderers = (1..=o.orderers + o.joiners).map(|n| Role::Orderer(u64::from(n)));
    let servers = (1..=o.servers).map(Role::Server);
    let later = (1..o.clusters).flat_map(|c| {
        let first = c * CLUSTER_STEP;
        let orderers = (1..=o.orderers).map(move |n| Role::Orderer(u64::from(first + n)));
        orderers.chain((1..=o.servers).map(move |n| Role::Server(first + n)))
    });
    let switchers = (1..o.clusters).map(Role::Switcher);
    let zk = (1..=o.zk).map(Role::Zk);
    let users = (1..=o.writers).map(Role::Writer).chain((1..=o.readers).map(Role::Reader));
    let clients = (1..=o.zk_clients).map(Role::ZkClient);
    // Where there is nothing to look at there is nobody who looks.
    let lookers = (1..=o.zk_lookers).filter(|_| o.zk > 0).map(Role::ZkLooker);
    let operator = o.change_every.map(|_| Role::Operator);
    let service = orderers.chain(servers).chain(later).chain(zk);
    service.chain(users).chain(clients).chain(lookers).chain(operator).chain(switchers).collect()
}

/// A node of that role, down, with an empty disk.
pub fn place(role: Role, options: &Options) -> Node {
    Node::new(role, Disk::new(options.segment_bytes))
}

fn orderer_addrs(o: &Options) -> Vec<String> {
    orderers_of(o, 0)
}

/// Addresses of the first orderers of a cluster.
pub fn orderers_of(o: &Options, cluster: u32) -> Vec<String> {
    let first = cluster * CLUSTER_STEP;
    (1..=o.orderers).map(|n| Role::Orderer(u64::from(first + n)).addr()).collect()
}

/// What a log is sealed for that goes on in that cluster.
pub fn successor(o: &Options, cluster: u32) -> String {
    Successor { orderers: orderers_of(o, cluster), generation: cluster }.to_string()
}

/// What a process is made from.
#[derive(Debug)]
pub struct Birth<'a> {
    /// What its node is for.
    pub role: Role,
    /// What the seed decided.
    pub options: &'a Options,
    /// What its disk kept, if it has one.
    pub recovered: Option<Recovered>,
    /// Which of its node's disks that is.
    pub disk: u64,
    /// What its snapshots kept, if it takes any.
    pub restored: Restored,
    /// Never the same for two lives.
    pub seed: u64,
    /// Number of the life.
    pub life: Life,
    /// When it begins.
    pub now: Instant,
}

/// Makes the processes of a world.
pub type Builder = Box<dyn Fn(Birth<'_>) -> Result<Box<dyn Process>, String>>;

/// The real machine of a node that starts.
///
/// # Errors
/// When it refuses to.
pub fn build(birth: Birth<'_>) -> Result<Box<dyn Process>, String> {
    let Birth { role, options: o, recovered, disk, restored, seed, life, now } = birth;
    let log_as = |consumer: Option<String>| {
        let orderers = orderer_addrs(o);
        let usual = ClientConfig { cluster: CLUSTER, orderers, consumer, ..ClientConfig::default() };
        // Small windows, so that several of a range are under way although records are small.
        let prefetch_bytes = if o.small_caches { 64 << 10 } else { usual.prefetch_bytes };
        LogClient::new(ClientConfig { prefetch_bytes, ..usual }, seed, now)
    };
    let calm_at = Instant(0) + o.fault_phase;
    Ok(match role {
        Role::Orderer(n) => orderer(n, o, &recovered.expect("an orderer has a log"), seed, now)?,
        Role::Server(n) => slot(n, o, recovered.expect("a slot has a log"), disk, now)?,
        Role::Zk(n) => crate::zk_process::build(n, o, orderer_addrs(o), restored, seed, now),
        Role::Writer(n) => {
            // Every other one takes its acknowledgements late.
            let (orderers, prompt_acks) = (orderer_addrs(o), n % 2 == 1);
            let name = o.named_writers.then(|| format!("writer {}", n.div_ceil(2)));
            let named = name.is_some();
            let cfg =
                ClientConfig { cluster: CLUSTER, orderers, prompt_acks, name, ..ClientConfig::default() };
            let log = LogClient::new(cfg, seed, now);
            let writer = LogWriter::new(log, named, seed, o.write_every, calm_at, now);
            let writer = if o.conditional { writer.conditional() } else { writer };
            Box::new(if o.trims && o.trims_by_hand { writer.trimming(o.registered.clone()) } else { writer })
        }
        Role::Reader(n) => {
            let consumer = (o.trims && n == 1).then(|| format!("{}{}", o.consumer_prefix, role.name()));
            let is_consumer = consumer.is_some();
            let may_release = o.registered.clone();
            let reader = LogReader::new(log_as(consumer), seed, n == 1, is_consumer, calm_at, now);
            Box::new(reader.after(may_release))
        }
        Role::Embedded(_) => return Err("only scenarios have embedded logs".into()),
        Role::Switcher(n) => {
            let generation = Some(n - 1);
            let orderers = orderers_of(o, n - 1);
            let cfg = ClientConfig { cluster: CLUSTER, generation, orderers, ..ClientConfig::default() };
            // One after the other, and while there is a storm.
            let share = o.fault_phase / o.clusters;
            let at = Instant(0)
                + share * n
                + share.mul_f64(0.8) * Rng::new(o.seed, "exchange").below(100) as u32 / 100;
            let log = LogClient::new(cfg, seed, now);
            Box::new(Switcher::new(log, successor(o, n), at.max(now)))
        }
        Role::Operator => {
            let all = (1..=o.orderers + o.joiners).map(|n| Role::Orderer(u64::from(n)).addr()).collect();
            let every = o.change_every.expect("an operator that does something");
            Box::new(Operator::new(all, u64::from(o.orderers), seed, every, calm_at, now))
        }
        Role::ZkClient(n) => {
            let cfg = ZkClientConfig {
                client: n,
                life,
                addrs: (1..=o.zk).map(|n| (Role::Zk(n).addr(), o.policy_of(n))).collect(),
                keeps: o.policies().any(|p| p != Policy::USUAL),
                timeout: Duration::from_millis(o.session_timeout_ms),
                every: o.request_every,
                depth: o.request_depth,
                restless: o.restless,
                calm_at,
            };
            Box::new(ZkClient::new(cfg, seed, now))
        }
        Role::ZkLooker(_) => {
            let addrs = (1..=o.zk).map(|n| Role::Zk(n).addr()).collect();
            let timeout = Duration::from_millis(o.session_timeout_ms);
            Box::new(ZkLooker::new(addrs, timeout, o.request_every, calm_at, seed, now))
        }
    })
}

fn orderer(
    n: u64,
    o: &Options,
    recovered: &Recovered,
    seed: u64,
    now: Instant,
) -> Result<Box<dyn Process>, String> {
    let generation = Role::Orderer(n).cluster();
    let first = u64::from(generation * CLUSTER_STEP);
    let members =
        (1..=u64::from(o.orderers)).map(|n| (OrdererId(first + n), Role::Orderer(first + n).addr()));
    let cfg = OrdererConfig {
        cluster: CLUSTER.at(generation),
        id: OrdererId(n),
        addr: Role::Orderer(n).addr(),
        peers: members.collect(),
        joins: n > first + u64::from(o.orderers),
        moved: Vec::new(),
        wanted_shards: o.shards,
        replicas: o.replicas,
        servers: o.servers,
        cut_interval: CutInterval::default(),
        failures: Failures {
            timeout: o.failure_timeout,
            start_grace: Duration::from_secs(2),
            linger: o.linger,
            rebuild_after: o.rebuild_after,
        },
        retention: RetentionConfig {
            time: o.retain_time,
            bytes: o.retain_bytes,
            max_age: o.consumer_max_age,
            max_lag_bytes: None,
        },
        successor: o.successor || generation > 0,
        generation,
    };
    let machine = match Orderer::new(cfg, recovered, seed, now) {
        Ok(machine) => machine,
        Err(OrderError::Dismissed(_)) => return Ok(Box::new(Ended::default())),
        Err(e) => return Err(e.to_string()),
    };
    Ok(Box::new(Told(machine, |event| match event {
        OrderEvent::ConsumerDropped { name, .. } => Observation::ConsumerDropped { name },
        other => Observation::Note(format!("{other:?}")),
    })))
}

fn slot(
    n: u32,
    o: &Options,
    recovered: Recovered,
    disk: u64,
    now: Instant,
) -> Result<Box<dyn Process>, String> {
    let small = Bounds {
        cache_bytes: 4 << 10,
        replicate_bytes: 16 << 10,
        push_bytes: 8 << 10,
        read_bytes: 8 << 10,
        read_batches: 8,
        uncommitted_bytes: 512 << 10,
        unsynced_bytes: 256 << 10,
        ..Bounds::default()
    };
    let generation = Role::Server(n).cluster();
    let cfg = SlotConfig {
        cluster: CLUSTER.at(generation),
        slot: SlotId { server: ServerId(n), index: 0 },
        stamp: disk << 32 | u64::from(n),
        addr: Role::Server(n).addr(),
        domain: format!("host-{n}"),
        orderers: orderers_of(o, generation),
        bounds: Bounds {
            // Fast enough to be round several times in a history of seconds.
            scrub_bytes_per_s: if o.rot.is_some() { 64 << 20 } else { 0 },
            scrub_pause: Duration::from_millis(400),
            rebuild_bytes_per_s: o.rebuild_bytes_per_s,
            ..if o.small_caches { small } else { Bounds::default() }
        },
    };
    let machine = Slot::new(cfg, recovered, now).map_err(|e| e.to_string())?;
    Ok(Box::new(Told(machine, |event| match event {
        // It ends, and is started again by whoever looks after it.
        SlotEvent::Dismissed { why } => Observation::Failed(why),
        other => Observation::Note(format!("{other:?}")),
    })))
}
