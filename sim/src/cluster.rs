//! What runs where? The topology, and how each node's process is made from what its disk kept.

use crate::disk::{CLUSTER, Disk};
use crate::node::{Node, Role};
use crate::observe::Observation;
use crate::options::{Options, Policy};
use crate::process::{Plain, Process, Told};
use crate::schedule::Life;
use crate::work::log_reader::LogReader;
use crate::work::log_writer::LogWriter;
use crate::work::operator::{Ended, Operator};
use crate::work::zk_client::{ZkClient, ZkClientConfig};
use std::time::Duration;
use zoolog_client::{ClientConfig, LogClient};
use zoolog_core::wal::Recovered;
use zoolog_core::{Instant, OrdererId, ServerId, SlotId};
use zoolog_order::{CutInterval, Failures, OrderError, OrderEvent, Orderer, OrdererConfig, RetentionConfig};
use zoolog_shard::{Bounds, Slot, SlotConfig};
use zoolog_zk::snapshot::Restored;

/// All nodes of these options, service first.
pub fn roles(o: &Options) -> Vec<Role> {
    let orderers = (1..=o.orderers + o.joiners).map(|n| Role::Orderer(u64::from(n)));
    let servers = (1..=o.servers).map(Role::Server);
    let zk = (1..=o.zk).map(Role::Zk);
    let users = (1..=o.writers).map(Role::Writer).chain((1..=o.readers).map(Role::Reader));
    let clients = (1..=o.zk_clients).map(Role::ZkClient);
    let operator = o.change_every.map(|_| Role::Operator);
    orderers.chain(servers).chain(zk).chain(users).chain(clients).chain(operator).collect()
}

/// A node of that role, down, with an empty disk.
pub fn place(role: Role, options: &Options) -> Node {
    Node::new(role, Disk::new(options.segment_bytes))
}

fn orderer_addrs(o: &Options) -> Vec<String> {
    (1..=o.orderers).map(|n| Role::Orderer(u64::from(n)).addr()).collect()
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
                keeps: o.policy != Policy::USUAL,
                timeout: Duration::from_millis(o.session_timeout_ms),
                every: o.request_every,
                depth: o.request_depth,
                restless: o.restless,
                calm_at,
            };
            Box::new(ZkClient::new(cfg, seed, now))
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
    let members = (1..=u64::from(o.orderers)).map(|n| (OrdererId(n), Role::Orderer(n).addr()));
    let cfg = OrdererConfig {
        cluster: CLUSTER,
        id: OrdererId(n),
        addr: Role::Orderer(n).addr(),
        peers: members.collect(),
        joins: n > u64::from(o.orderers),
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
        successor: o.successor,
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
    let cfg = SlotConfig {
        cluster: CLUSTER,
        slot: SlotId { server: ServerId(n), index: 0 },
        stamp: disk << 32 | u64::from(n),
        addr: Role::Server(n).addr(),
        domain: format!("host-{n}"),
        orderers: orderer_addrs(o),
        bounds: Bounds {
            // Fast enough to be round several times in a history of seconds.
            scrub_bytes_per_s: if o.rot.is_some() { 64 << 20 } else { 0 },
            scrub_pause: Duration::from_millis(400),
            rebuild_bytes_per_s: o.rebuild_bytes_per_s,
            ..if o.small_caches { small } else { Bounds::default() }
        },
    };
    let machine = Slot::new(cfg, recovered, now).map_err(|e| e.to_string())?;
    Ok(Box::new(Plain(machine)))
}
