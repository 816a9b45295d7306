//! How is one node of each kind started? From its settings to a job for an executor, alike in a process of its
//! own and within `dev`.

use crate::args::ZkArgs;
use crate::asking::{self, Asked};
use crate::http::stored::StoredPages;
use crate::http::zk::ZkPages;
use crate::local::{self, LogPlace};
use crate::{beginning, beware, executors, facts, giving, http, remembered, start, zoo_cfg};
use std::fmt::{Debug, Display};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use zoolog_client::{Passed, Way};
use zoolog_core::config::{self, ClusterConfig, Config, OrderConfig, ShardConfig, ZkConfig};
use zoolog_core::rt::datadir::DataDir;
use zoolog_core::rt::memory::Toucher;
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::rt::{self, Disk, Executor, Job, NodeSpec, SpaceLimits, Stop, clock, starts};
use zoolog_core::wal::{OnDamage, Recovered, WalConfig};
use zoolog_core::{Machine, OrdererId, ServerId, SlotId};
use zoolog_order::OrderEvent;
use zoolog_shard::SlotEvent;
use zoolog_zk::NodeEvent;
use zoolog_zk::node::{Facts, Report};
use zoolog_zk::snapshot::Restored;

/// Memory that is touched ahead of a ZooKeeper node that plays the log: from so many bytes on, and so many at most.
const TOUCHED_BYTES: (u64, u64) = (32 << 20, 1 << 30);

/// Told once when the node serves.
pub type Ready = std::sync::mpsc::Sender<String>;

/// `zoolog order --config FILE`.
///
/// # Errors
/// Text for a person.
pub fn order_process(file: &Path, join: bool) -> Result<(), String> {
    let mut config: OrderConfig = config::load(file).map_err(|e| e.to_string())?;
    config.join |= join;
    config.validate().map_err(|e| e.to_string())?;
    process(&config.cluster_file.clone(), config.spin_us, 1, |cluster, stop, ready| {
        let listen = match config.listen.as_str() {
            "" => order_addr(&config, cluster).ok_or_else(|| {
                let (id, n) = (config.id, cluster.orderers.len());
                format!("`id` is {id}, but the cluster file lists {n} orderers: say where to `listen`")
            })?,
            listen => listen,
        };
        let listener = rt::listen_when_free(listen)?;
        let nodes = vec![(format!("order-{}", config.id - 1), reachable(listen))];
        serve_stored(&config.admin_listen, "order", nodes)?;
        Ok(vec![order_job(config, cluster.clone(), listener, stop, ready)?])
    })
}

/// `zoolog shard --config FILE`.
///
/// # Errors
/// Text for a person.
pub fn shard_process(file: &Path) -> Result<(), String> {
    let config: ShardConfig = config::load(file).map_err(|e| e.to_string())?;
    process(&config.cluster_file.clone(), config.spin_us, config.slots.into(), |cluster, stop, ready| {
        let name = |slot| format!("shard-{}.{slot}", config.server);
        let nodes = (0..config.slots).map(|slot| (name(slot), reachable(&slot_listen(&config, slot))));
        serve_stored(&config.admin_listen, "shard", nodes.collect())?;
        (0..config.slots)
            .map(|slot| {
                let listener = rt::listen_when_free(&slot_listen(&config, slot))?;
                slot_job(config.clone(), slot, cluster.clone(), listener, stop.clone(), ready.clone())
            })
            .collect()
    })
}

/// `zoolog zk --config FILE`, `zoolog zk --zoo-cfg FILE`, or both.
///
/// # Errors
/// Text for a person.
pub fn zk_process(args: &ZkArgs) -> Result<(), String> {
    if let Some(LogPlace::Local(dir)) = &args.log {
        return local::zk_process(args, dir);
    }
    let mut config: ZkConfig = zoo_cfg::node_config(args.config.as_deref(), &args.zoo)?;
    args.apply(&mut config);
    config.validate().map_err(|e| e.to_string())?;
    let executors = config.executors_on(std::thread::available_parallelism().map_or(1, usize::from));
    process(&config.cluster_file.clone(), config.spin_us, 1, |cluster, stop, ready| {
        if executors == 1 {
            let listener = rt::listen_when_free(&config.listen)?;
            return Ok(vec![zk_job(config, cluster.clone(), listener, stop, ready)?]);
        }
        let listeners = rt::listen_shared(&config.listen, executors - 1)?;
        zk_jobs(config, cluster, listeners, &stop, ready)
    })
}

/// Where a node that listens there is reached from its own machine.
fn reachable(listen: &str) -> String {
    let port = listen.rsplit_once(':').map_or("", |(_, port)| port);
    match listen.strip_suffix(port) {
        Some("0.0.0.0:" | "[::]:") => format!("127.0.0.1:{port}"),
        _ => listen.to_string(),
    }
}

/// The admin port of a process with logs, if it is to have one.
pub fn serve_stored(addr: &str, kind: &'static str, nodes: Vec<(String, String)>) -> Result<(), String> {
    if addr.is_empty() {
        return Ok(());
    }
    http::serve(addr, Arc::new(StoredPages { kind, nodes }))
}

/// The admin port of a ZooKeeper node, if it is to have one, and the node's side of the questions asked there.
pub fn serve_zk(config: &ZkConfig, facts: &Facts) -> Result<Asked, String> {
    let (asking, asked) = asking::line();
    let pages = Arc::new(ZkPages { asking, config: config.clone(), facts: facts.clone() });
    for addr in [&config.admin_listen, &config.metrics_listen] {
        if !addr.is_empty() {
            http::serve(addr, pages.clone())?;
        }
    }
    Ok(asked)
}

/// Runs the jobs of one node, an executor each, until a signal or a failure. So many of them say when they are ready.
fn process(
    cluster_file: &Path,
    spin_us: u32,
    readies: usize,
    jobs: impl FnOnce(&ClusterConfig, Stop, Ready) -> Result<Vec<Job>, String>,
) -> Result<(), String> {
    start::prepare()?;
    let stop = start::stop_on_signals()?;
    let Some(cluster) = wait_for_cluster(cluster_file, &stop)? else { return Ok(()) };
    drive(stop, spin_us, readies, |stop, ready| jobs(&cluster, stop, ready))
}

/// As `process`, of a node that needs no cluster.
///
/// # Errors
/// Text for a person.
pub fn run(
    spin_us: u32,
    readies: usize,
    jobs: impl FnOnce(Stop, Ready) -> Result<Vec<Job>, String>,
) -> Result<(), String> {
    drive(start::stop_on_signals()?, spin_us, readies, jobs)
}

fn drive(
    stop: Stop,
    spin_us: u32,
    readies: usize,
    jobs: impl FnOnce(Stop, Ready) -> Result<Vec<Job>, String>,
) -> Result<(), String> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let jobs = jobs(stop.clone(), ready)?;
    let spin = Duration::from_micros(spin_us.into());
    let executors: Vec<_> =
        jobs.into_iter().map(|job| Executor::start("node", spin, vec![job])).collect::<Result<_, _>>()?;
    std::thread::spawn(move || {
        let names: Vec<String> = is_ready.iter().take(readies).collect();
        if names.len() == readies {
            println!("ready: {}", names.join(" "));
        }
    });
    let (ends, ended) = std::sync::mpsc::channel();
    for executor in executors {
        let ends = ends.clone();
        std::thread::spawn(move || ends.send(executor.join()));
    }
    drop(ends);
    let mut outcome = Ok(());
    for end in ended {
        stop.stop(); // one executor that fails takes its server down: half a server helps nobody
        outcome = outcome.and(end);
    }
    outcome
}

/// A node without a birth certificate waits for it. `None` if it was told to stop meanwhile.
#[allow(clippy::disallowed_methods, reason = "nothing runs yet; there is only this to wait for")]
fn wait_for_cluster(file: &Path, stop: &Stop) -> Result<Option<ClusterConfig>, String> {
    let mut said = false;
    while !file.exists() {
        if stop.is_stopped() {
            return Ok(None);
        }
        if !said {
            tracing::info!(
                "waiting for {}: make it with `zoolog admin init`, and copy it here",
                file.display()
            );
            said = true;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    config::load(file).map(Some).map_err(|e| e.to_string())
}

/// Where the cluster file says that this orderer is, if it is one of the first.
fn order_addr<'a>(config: &OrderConfig, cluster: &'a ClusterConfig) -> Option<&'a str> {
    let place = usize::try_from(config.id.checked_sub(1)?).ok()?;
    cluster.orderers.get(place).map(String::as_str)
}

/// Where slot `n` of a server listens.
pub fn slot_listen(config: &ShardConfig, slot: u16) -> String {
    let (host, port) = config.listen.rsplit_once(':').expect("validated");
    format!("{host}:{}", port.parse::<u16>().expect("validated") + slot)
}

pub fn seed() -> Result<u64, String> {
    Ok(u64::from_le_bytes(start::random_bytes()?))
}

/// An orderer.
///
/// # Errors
/// If its settings don't fit the cluster's.
pub fn order_job(
    config: OrderConfig,
    cluster: ClusterConfig,
    listener: TcpListener,
    stop: Stop,
    ready: Ready,
) -> Result<Job, String> {
    config.validate().map_err(|e| e.to_string())?;
    let name = format!("order-{}", config.id - 1);
    let seed = seed()?;
    let cut_interval = match config.cut_interval_us {
        0 => zoolog_order::CutInterval::default(),
        us => zoolog_order::CutInterval::Fixed(Duration::from_micros(us)),
    };
    let peers = (1..).map(OrdererId).zip(cluster.orderers.iter().cloned()).collect();
    let machine = zoolog_order::OrdererConfig {
        cluster: cluster.cluster(),
        id: OrdererId(config.id),
        addr: match config.advertise.as_str() {
            "" if config.join => config.listen.clone(),
            "" => order_addr(&config, &cluster).unwrap_or(&config.listen).to_string(),
            advertise => advertise.to_string(),
        },
        peers,
        joins: config.join,
        moved: config.moved().map_err(|e| e.to_string())?,
        wanted_shards: cluster.shards,
        replicas: cluster.replicas,
        servers: cluster.servers,
        cut_interval,
        failures: zoolog_order::Failures {
            timeout: Duration::from_millis(config.failure_timeout_ms),
            start_grace: Duration::from_millis(config.start_grace_ms),
            rebuild_after: Duration::from_millis(config.rebuild_after_ms),
            ..Default::default()
        },
        retention: retention(&config),
        successor: cluster.successor,
        generation: cluster.generation,
    };
    let limits = SpaceLimits {
        reserve_bytes: config.disk_reserve_bytes,
        quota_bytes: config.disk_quota_bytes,
        ends_when_stuck: true, // the others lead meanwhile
    };
    let wal = WalConfig::new(cluster.cluster(), config.id, OnDamage::Refuse);
    let node = Stored { name, dir: config.data_dir, wal, limits, listener, stop, ready };
    let make = move |_: &mut DataDir, _: &mut Disk, recovered: Recovered| {
        zoolog_order::Orderer::new(machine, &recovered, seed, clock::now())
    };
    Ok(node.job(make, |_, event| match event {
        OrderEvent::Dismissed { why } => Err(why.clone()),
        _ => Ok(()),
    }))
}

fn retention(config: &OrderConfig) -> zoolog_order::RetentionConfig {
    let set = |n: u64| (n > 0).then_some(n);
    zoolog_order::RetentionConfig {
        time: set(config.retain_time_s).map(Duration::from_secs),
        bytes: set(config.retain_bytes),
        max_age: set(config.consumer_max_age_s).map(Duration::from_secs),
        max_lag_bytes: set(config.consumer_max_lag_bytes),
    }
}

/// A slot of a data server.
///
/// # Errors
/// If its settings make no sense.
pub fn slot_job(
    config: ShardConfig,
    slot: u16,
    cluster: ClusterConfig,
    listener: TcpListener,
    stop: Stop,
    ready: Ready,
) -> Result<Job, String> {
    config.validate().map_err(|e| e.to_string())?;
    let name = format!("shard-{}.{slot}", config.server);
    let listen = slot_listen(&config, slot);
    let addr = match config.advertise.as_str() {
        "" => listen,
        host => format!("{host}:{}", listen.rsplit_once(':').expect("validated").1),
    };
    let domain = match config.domain.as_str() {
        "" => format!("server-{}", config.server),
        domain => domain.to_string(),
    };
    let id = SlotId { server: ServerId(config.server), index: slot };
    let machine = zoolog_shard::SlotConfig {
        cluster: cluster.cluster(),
        slot: id,
        stamp: 0, // of its log, once that is open
        addr,
        domain,
        orderers: cluster.orderers.clone(),
        bounds: zoolog_shard::Bounds {
            scrub_bytes_per_s: config.scrub_bytes_per_s,
            rebuild_bytes_per_s: config.rebuild_bytes_per_s,
            report_every: Duration::from_micros(config.report_interval_us),
            ..zoolog_shard::Bounds::default()
        },
    };
    let wal_id = u64::from(config.server) << 16 | u64::from(slot);
    let wal = WalConfig::new(cluster.cluster(), wal_id, OnDamage::Report);
    let dir = config.data_dir.join(format!("slot-{slot}"));
    let limits = SpaceLimits {
        reserve_bytes: config.disk_reserve_bytes,
        quota_bytes: config.disk_quota_bytes,
        ends_when_stuck: false,
    };
    let node = Stored { name, dir, wal, limits, listener, stop, ready };
    let make = move |dir: &mut DataDir, disk: &mut Disk, mut recovered: Recovered| {
        let stamp = dir.log_stamp(recovered.incarnation == 1, seed)?;
        let number = starts::number(dir.path(), recovered.incarnation, seed()?);
        disk.take_number(&mut recovered, number);
        let orderers = remembered::with_configured(dir.path(), &machine.orderers);
        let config = zoolog_shard::SlotConfig { stamp, orderers, ..machine };
        zoolog_shard::Slot::new(config, recovered, clock::now()).map_err(|e| e.to_string())
    };
    Ok(node.job(make, |dir, event| match event {
        SlotEvent::Orderers { addrs } => {
            remembered::remember(dir, addrs);
            Ok(())
        }
        SlotEvent::Dismissed { why } => Err(why.clone()),
        _ => Ok(()),
    }))
}

/// A node with a log of its own.
struct Stored {
    name: String,
    dir: PathBuf,
    wal: WalConfig,
    limits: SpaceLimits,
    listener: TcpListener,
    stop: Stop,
    ready: Ready,
}

impl Stored {
    /// Opens directory and log, and runs the machine that `make` makes of what the log holds, until `judge` finds an
    /// event after which it must not go on.
    fn job<M, E>(
        self,
        make: impl FnOnce(&mut DataDir, &mut Disk, Recovered) -> Result<M, E> + Send + 'static,
        judge: impl Fn(&Path, &M::Event) -> Result<(), String> + Send + 'static,
    ) -> Job
    where
        M: Machine + 'static,
        M::Event: Debug,
        E: Display,
    {
        let Self { name, dir, wal, limits, listener, stop, ready } = self;
        Box::new(move |host| {
            let mut dir = DataDir::open(&dir, wal.cluster, &name)?;
            let (mut disk, recovered) = Disk::open(&dir.path().join("wal"), wal)?;
            let machine = make(&mut dir, &mut disk, recovered).map_err(|e| format!("{name}: {e}"))?;
            let spec = spec(&name, listener, Some(disk.within(limits)), stop);
            ready_now(&ready, &name);
            host.run(machine, spec, move |event| {
                tracing::info!(node = name, "{event:?}");
                // The directory is locked as long as the node runs.
                judge(dir.path(), &event).map_err(|why| format!("{name}: {why}"))
            })
        })
    }
}

/// A ZooKeeper node on one executor.
///
/// # Errors
/// If its settings make no sense.
pub fn zk_job(
    config: ZkConfig,
    cluster: ClusterConfig,
    listener: TcpListener,
    stop: Stop,
    ready: Ready,
) -> Result<Job, String> {
    let (name, mut machine) = zk_machine(&config, &cluster)?;
    let (seed, asked) = (seed()?, serve_zk(&config, &machine.facts)?);
    let giving = giving::listen(&config, &cluster)?;
    machine.gives_at = giving.as_ref().map(|g| g.addr.clone());
    Ok(Box::new(move |host| {
        let (dir, snapshots, restored) = zk_files(&name, &config, &machine)?;
        machine.log.way = way(dir.path(), &machine);
        let id = machine.cluster;
        giving.map_or(Ok(()), |g| g.start(&name, id, snapshots.clone(), stop.clone()))?;
        let spec = zk_spec(&name, &machine, Some(listener), Some(snapshots), stop);
        let machine = zoolog_zk::Node::restore(machine, seed, clock::now(), restored);
        let answers = asked.answers();
        host.run(asked.take(machine, host.waker()), spec, zk_events(name, ready, dir, answers))
    }))
}

/// A ZooKeeper node on several executors: the one that applies, and one per listener.
///
/// # Errors
/// If its settings make no sense.
pub fn zk_jobs(
    config: ZkConfig,
    cluster: &ClusterConfig,
    listeners: Vec<TcpListener>,
    stop: &Stop,
    ready: Ready,
) -> Result<Vec<Job>, String> {
    let (name, mut machine) = zk_machine(&config, cluster)?;
    let (seed, asked) = (seed()?, serve_zk(&config, &machine.facts)?);
    let giving = giving::listen(&config, cluster)?;
    machine.gives_at = giving.as_ref().map(|g| g.addr.clone());
    let (seat, seats) = executors::split(listeners.len() as u16);
    let mut jobs: Vec<Job> = Vec::new();
    let (mut own, back_name, back_stop) = (machine.clone(), name.clone(), stop.clone());
    jobs.push(Box::new(move |host| {
        let (dir, snapshots, mut restored) = zk_files(&back_name, &config, &own)?;
        own.log.way = way(dir.path(), &own);
        let id = own.cluster;
        giving.map_or(Ok(()), |g| g.start(&back_name, id, snapshots.clone(), back_stop.clone()))?;
        let spec = zk_spec(&back_name, &own, None, Some(snapshots), back_stop);
        let (log, now) = (own.log_client(seed, clock::now()), clock::now());
        let back = zoolog_zk::node::Back::new(own, log, now, &mut restored);
        let machine = seat.take(back, restored.state, host.waker());
        let answers = asked.answers();
        host.run(asked.take(machine, host.waker()), spec, zk_events(back_name, ready, dir, answers))
    }));
    jobs.extend(front_jobs(&name, &machine, seats, listeners, stop));
    Ok(jobs)
}

/// The executors that have the clients' connections.
pub fn front_jobs(
    name: &str,
    machine: &zoolog_zk::NodeConfig,
    seats: Vec<executors::FrontSeat>,
    listeners: Vec<TcpListener>,
    stop: &Stop,
) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for (seat, listener) in seats.into_iter().zip(listeners) {
        let (name, machine, stop) = (format!("{name}.{}", seat.index() + 1), machine.clone(), stop.clone());
        jobs.push(Box::new(move |host| {
            let front = zoolog_zk::node::Front::new(&machine, seat.index(), clock::now());
            let spec = zk_spec(&name, &machine, Some(listener), None, stop);
            let machine = seat.take(front, host.waker());
            host.run(machine, spec, move |event| {
                if let NodeEvent::Note(note) = event {
                    tracing::info!(node = name, "{note}");
                }
                Ok(())
            })
        }));
    }
    jobs
}

/// Its name, and the settings of its machine.
pub fn zk_machine(
    config: &ZkConfig,
    cluster: &ClusterConfig,
) -> Result<(String, zoolog_zk::NodeConfig), String> {
    config.validate().map_err(|e| e.to_string())?;
    let name = format!("zk-{}", config.id);
    let (min_session_timeout_ms, max_session_timeout_ms) = config.session_timeouts_ms();
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut machine = zoolog_zk::NodeConfig {
        id: config.id,
        cluster: cluster.order_id(),
        secret: cluster.secret_bytes(),
        orderers: cluster.orderers.clone(),
        tick_ms: config.tick_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        max_frame_bytes: config.max_request_bytes as usize,
        max_connections_per_ip: config.max_connections_per_ip,
        snapshot_records: config.snapshot_records,
        snapshot_bytes: config.snapshot_bytes,
        max_connections: config.max_connections as usize,
        max_pending_requests: config.max_pending_requests as usize,
        max_pending_bytes: size(config.max_pending_bytes),
        max_pending_bytes_of_all: size(config.max_pending_bytes_of_all),
        max_watches: size(config.max_watches),
        handshake_patience: Duration::from_millis(config.handshake_timeout_ms.into()),
        words: words(config)?,
        super_digest: Some(config.super_digest.clone()).filter(|digest| !digest.is_empty()),
        read_only: config.read_only,
        skip_acl: config.skip_acl,
        enforce_quota: config.enforce_quota,
        extended_types: config.extended_types,
        container_check_interval: Duration::from_millis(config.container_check_interval_ms),
        container_max_per_minute: config.container_max_per_minute,
        facts: facts::of(config, &cluster.orderers),
        acks: config.acks,
        reads: config.reads,
        ..zoolog_zk::NodeConfig::default()
    };
    machine.bootstrap.bytes_per_s = config.snapshot_bytes_per_s;
    machine.bootstrap.log_bytes = config.bootstrap_log_bytes;
    machine.log.generation = Some(cluster.generation);
    machine.log.fetch = config.fetch;
    machine.log.defer = Duration::from_millis(config.defer_ms.into());
    machine.log.location_limit = config.location_limit as usize;
    // What it has applied and not yet in a snapshot must stay in the log.
    machine.log.consumer = Some(name.clone());
    machine.orderers = remembered::with_configured(&config.data_dir, &machine.orderers);
    Ok((name, machine))
}

/// The four-letter words that it answers.
fn words(config: &ZkConfig) -> Result<zoolog_zk::node::Whitelist, String> {
    use zoolog_zk::node::{WORDS, Whitelist};
    // Clients with a read-only session ask other nodes whether they write.
    let more = if config.read_only { ",isro" } else { "" };
    let (words, unknown) = Whitelist::parse(&format!("{}{more}", config.four_letter_words));
    if unknown.is_empty() {
        return Ok(words);
    }
    let (unknown, known) = (unknown.join(", "), WORDS.join(", "));
    Err(format!("`four_letter_words` has {unknown}: it may have {known}, or be `*` for all of them"))
}

/// Its directory, locked as long as that lives, its snapshots, and the state to start from.
pub fn zk_files(
    name: &str,
    config: &ZkConfig,
    machine: &zoolog_zk::NodeConfig,
) -> Result<(DataDir, SnapshotStore, Restored), String> {
    let dir = DataDir::open(&config.data_dir, machine.cluster, name)?;
    let snapshots = SnapshotStore::open(&dir.path().join("snapshots"), machine.cluster)?;
    let restored = beginning::restored(name, dir.path(), &snapshots, machine.cluster)?;
    Ok((dir, snapshots, restored))
}

/// The logs that an earlier life in that directory went past, behind the one that its settings name.
pub fn way(dir: &Path, machine: &zoolog_zk::NodeConfig) -> Vec<Passed> {
    Way::begin(dir, machine.log.generation, &machine.orderers)
}

pub fn zk_spec(
    name: &str,
    machine: &zoolog_zk::NodeConfig,
    listener: Option<TcpListener>,
    snapshots: Option<SnapshotStore>,
    stop: Stop,
) -> NodeSpec {
    NodeSpec {
        name: name.to_string(),
        listener,
        framing: zoolog_zk::framing,
        frame_limit: machine.max_frame_bytes,
        disk: None,
        snapshots,
        gives: None,
        stop,
    }
}

/// What is done with what it says.
pub fn zk_events(
    name: String,
    ready: Ready,
    dir: DataDir,
    answers: Sender<(u64, Arc<Report>)>,
) -> impl FnMut(NodeEvent) -> Result<(), String> {
    let (mut serves, mut toucher) = (false, None);
    move |event| {
        // The directory is locked as long as the node runs.
        let dir = dir.path();
        match event {
            // From now on, since what its allocator maps then is for what the log brings.
            NodeEvent::Plays { bytes } if !serves && bytes >= TOUCHED_BYTES.0 => {
                toucher = Toucher::start(bytes.min(TOUCHED_BYTES.1));
            }
            NodeEvent::Plays { .. } => {}
            NodeEvent::Orderers(addrs) => remembered::remember(dir, &addrs),
            NodeEvent::Moved(sealed) => Way::remember_moved(dir, &sealed),
            NodeEvent::Left(tail) => Way::remember_left(dir, tail),
            NodeEvent::Ready => {
                serves = true;
                drop(toucher.take());
                ready_now(&ready, &name);
            }
            NodeEvent::Beware(beware) => {
                beware::remember(dir, beware).map_err(|why| format!("{name}: {why}"))?
            }
            NodeEvent::Outline(outline) => beware::remember_outline(dir, &outline),
            NodeEvent::Heals => start::again_at_the_end(),
            NodeEvent::Failed(why) => return Err(format!("{name}: {why}")),
            NodeEvent::Note(note) => tracing::info!(node = name, "{note}"),
            // Whoever asked may be gone.
            NodeEvent::Report(ask, report) => drop(answers.send((ask, report))),
            NodeEvent::Status(_) => {}
        }
        Ok(())
    }
}

fn spec(name: &str, listener: TcpListener, disk: Option<Disk>, stop: Stop) -> NodeSpec {
    NodeSpec {
        name: name.to_string(),
        listener: Some(listener),
        framing: rt::node_framing,
        frame_limit: zoolog_core::limits::FRAME_BYTES_MAX,
        disk,
        snapshots: None,
        gives: None,
        stop,
    }
}

fn ready_now(ready: &Ready, name: &str) {
    // Nobody listens any more once all were ready, or at the end: then there is nobody to tell.
    let _ = ready.send(name.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_a_nodes_file_reach_its_machine() {
        let text = "max_pending_bytes = 4000000\nmax_pending_bytes_of_all = 5000000\nmax_watches = 7\n\
                    max_pending_requests = 8\nhandshake_timeout_ms = 900";
        let config = zoolog_core::config::parse::<ZkConfig>(text).unwrap();
        let (id, secret) = (format!("{:032x}", 1), "ab".repeat(32));
        let cluster =
            ClusterConfig { id, secret, orderers: vec!["127.0.0.1:1".into()], ..Default::default() };
        let (_, machine) = zk_machine(&config, &cluster).unwrap();
        let pending =
            (machine.max_pending_requests, machine.max_pending_bytes, machine.max_pending_bytes_of_all);
        assert_eq!(pending, (8, 4_000_000, 5_000_000));
        assert!(!machine.read_only && machine.words.has(b"srvr"));
        let config = ZkConfig { read_only: true, four_letter_words: "ruok".into(), ..config };
        let (_, cut_off) = zk_machine(&config, &cluster).unwrap();
        assert!(cut_off.read_only && cut_off.words.has(b"isro") && !cut_off.words.has(b"srvr"));
        assert_eq!((machine.max_watches, machine.handshake_patience), (7, Duration::from_millis(900)));
    }
}
