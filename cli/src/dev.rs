//! How does a whole topology come up on this machine? Ports and settings for every node, the nodes as threads
//! or processes, one `ready` line, a clean end.

use crate::args::{DevArgs, Isolate};
use crate::http::{self, topology::Topology};
use crate::settings::Common;
use crate::{admin, nodes, start, supervise};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use zoolog_core::config::{self, ClusterConfig, Config, OrderConfig, ShardConfig, ZkConfig};
use zoolog_core::rt::{self, Executor, Job, Stop};

/// Where the internal ports are looked for: below the range from which the kernel gives outgoing connections
/// theirs, so that none of those takes the port of a node that is just being restarted.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// After this long without being ready, say what is missing; go on waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The nodes' settings.
#[derive(Debug)]
struct Plan {
    cluster: ClusterConfig,
    orderers: Vec<OrderConfig>,
    shards: Vec<ShardConfig>,
    zk: Vec<ZkConfig>,
}

/// Carries out `zoolog dev`.
///
/// # Errors
/// Text for a person.
pub fn run(args: DevArgs) -> Result<(), String> {
    start::prepare()?;
    let dir = &args.data_dir;
    std::fs::create_dir_all(dir.join("nodes"))
        .map_err(|e| format!("can't create {}: {e}; check its owner and rights", dir.display()))?;
    let _lock = rt::datadir::lock(dir)?;
    let common = Common::new(&args.set, &args.zoo)?;
    let zk_listeners: Vec<TcpListener> = (0..args.zk)
        .map(|i| rt::listen_when_free(&format!("127.0.0.1:{}", zk_port(&args, &common.zk, i)?)))
        .collect::<Result<_, _>>()?;
    let (plan, listeners) = plan(&args, common)?;
    let admin_addr = format!("127.0.0.1:{}", args.admin_port);
    let topology = Topology {
        orderers: plan.cluster.orderers.clone(),
        zk: plan.zk.iter().map(|z| z.listen.clone()).collect(),
    };
    http::serve(&admin_addr, Arc::new(topology))?;
    let stop = start::stop_on_signals()?;
    let line = format!(
        "ready: zk={} orderers={} admin={admin_addr}",
        plan.zk.iter().map(|z| z.listen.as_str()).collect::<Vec<_>>().join(","),
        plan.cluster.orderers.join(",")
    );
    match args.isolate {
        Isolate::Thread => threads(plan, listeners, zk_listeners, &stop, line),
        Isolate::Process => {
            drop((listeners, zk_listeners)); // bound until now to report a port in use from here
            supervise::run(&dir.join("nodes"), plan.files(dir)?, &stop, &line, PATIENCE)
        }
    }
}

/// Client port of the `i`th ZooKeeper node.
fn zk_port(args: &DevArgs, common: &ZkConfig, i: u32) -> Result<u16, String> {
    let set = common.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let first = args.port.or(set).unwrap_or(2181);
    later_port(first, i).ok_or_else(|| format!("client port {first} leaves no room for that many --zk"))
}

fn later_port(first: u16, i: u32) -> Option<u16> {
    u16::try_from(u32::from(first) + i).ok()
}

/// Where the `i`th node listens, if the first one listens at `addr`, or nowhere.
fn listen_of(addr: &str, i: u32) -> Result<String, String> {
    let Some((host, port)) = addr.rsplit_once(':') else { return Ok(String::new()) };
    let port = port.parse().ok().and_then(|port| later_port(port, i));
    let port = port.ok_or_else(|| format!("{addr} leaves no room for that many --zk"))?;
    Ok(format!("{host}:{port}"))
}

/// Listeners of the orderers and of the slots, in that order.
type Listeners = (Vec<TcpListener>, Vec<TcpListener>);

/// Decides on ports and settings, continuing those of the directory where there are any.
fn plan(args: &DevArgs, mut common: Common) -> Result<(Plan, Listeners), String> {
    args.policy.apply(&mut common.zk);
    common.zk.validate().map_err(|e| e.to_string())?;
    if let Some(executors) = args.executors {
        common.zk.executors = executors;
        common.zk.validate().map_err(|e| format!("--executors {executors}: {e}"))?;
    }
    if args.isolate == Isolate::Thread && common.zk.executors > 1 {
        return Err("several executors per ZooKeeper node need --isolate process".into());
    }
    if args.isolate == Isolate::Thread && common.shard.slots > 1 {
        return Err("several slots per data server need --isolate process".into());
    }
    let dir = std::path::absolute(&args.data_dir).map_err(|e| e.to_string())?;
    let file = dir.join("cluster.toml");
    let old = if file.exists() {
        Some(config::load::<ClusterConfig>(&file).map_err(|e| e.to_string())?)
    } else {
        None
    };
    if let Some(old) = &old {
        let orderers = old.orderers.len() as u32;
        for (name, asked, made) in [
            ("shards", args.shards, old.shards),
            ("replicas", args.replicas, old.replicas),
            ("servers", args.servers, old.servers),
            ("orderers", args.orderers, orderers),
        ] {
            if asked.is_some_and(|asked| asked != made) {
                return Err(format!(
                    "{} was made with --{name} {made}: leave --{name} away, or give another --data-dir",
                    args.data_dir.display()
                ));
            }
        }
    }
    let n = old.as_ref().map_or(args.orderers.unwrap_or(3) as usize, |old| old.orderers.len());
    let servers = old.as_ref().map_or(args.servers.unwrap_or(3), |old| old.servers);
    // The nodes share the cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    common.zk.executors = match args.isolate {
        Isolate::Thread => 1,
        Isolate::Process => common.zk.executors_on(cores / (n + (servers + args.zk) as usize)),
    };
    let mut ports = Ports::new()?;
    let mut order_listeners = Vec::new();
    let mut addrs = Vec::new();
    for i in 0..n {
        let before = old.as_ref().map(|old| old.orderers[i].clone());
        let (addr, listener) = ports.take(before)?;
        addrs.push(addr);
        order_listeners.push(listener);
    }
    let cluster = match old {
        Some(old) => ClusterConfig { orderers: addrs, ..old },
        None => admin::new_cluster(addrs, args.shards.unwrap_or(3), args.replicas.unwrap_or(2), servers)?,
    };
    admin::save(&cluster, &file)?;
    let node = |kind: &str, i: u32| dir.join("nodes").join(format!("{kind}-{i}"));
    // A port of last time may have been taken since.
    let moved: Vec<String> = (1..).zip(&cluster.orderers).map(|(id, addr)| format!("{id}={addr}")).collect();
    let orderers = (0..n as u32).map(|i| {
        Ok(OrderConfig {
            data_dir: node("order", i).join("data"),
            cluster_file: file.clone(),
            id: u64::from(i) + 1,
            moved: moved.clone(),
            admin_listen: listen_of(&common.order.admin_listen, i)?,
            ..common.order.clone()
        })
    });
    let orderers = orderers.collect::<Result<_, String>>()?;
    let mut shard_listeners = Vec::new();
    let mut shards = Vec::new();
    for i in 0..servers {
        let before =
            config::load::<ShardConfig>(&node("shard", i).join("config.toml")).ok().map(|c| c.listen);
        let (listen, listeners) = ports.take_run(before, common.shard.slots)?;
        shard_listeners.extend(listeners);
        shards.push(ShardConfig {
            data_dir: node("shard", i).join("data"),
            cluster_file: file.clone(),
            server: i,
            listen,
            admin_listen: listen_of(&common.shard.admin_listen, i)?,
            ..common.shard.clone()
        });
    }
    let zk = (0..args.zk).map(|i| {
        Ok(ZkConfig {
            data_dir: node("zk", i).join("data"),
            cluster_file: file.clone(),
            id: i,
            listen: format!("127.0.0.1:{}", zk_port(args, &common.zk, i)?),
            admin_listen: listen_of(&common.zk.admin_listen, i)?,
            metrics_listen: listen_of(&common.zk.metrics_listen, i)?,
            snapshot_listen: match common.zk.snapshot_listen.as_str() {
                alike @ ("" | "none") => alike.to_string(),
                first => listen_of(first, i)?,
            },
            ..common.zk.clone()
        })
    });
    let zk = zk.collect::<Result<_, String>>()?;
    let plan = Plan { cluster, orderers, shards, zk };
    plan.write(&dir)?;
    Ok((plan, (order_listeners, shard_listeners)))
}

/// Hands out free internal ports.
struct Ports {
    next: u16,
}

impl Ports {
    fn new() -> Result<Self, String> {
        let offset = u16::from_le_bytes(start::random_bytes()?) % (PORTS.end - PORTS.start);
        Ok(Self { next: PORTS.start + offset })
    }

    /// The port of last time if it is still free, else another.
    fn take(&mut self, before: Option<String>) -> Result<(String, TcpListener), String> {
        if let Some(addr) = before
            && let Ok(listener) = rt::listen_when_free(&addr)
        {
            return Ok((addr, listener));
        }
        for _ in PORTS {
            let addr = format!("127.0.0.1:{}", self.next);
            self.next = if self.next + 1 == PORTS.end { PORTS.start } else { self.next + 1 };
            if let Ok(listener) = rt::listen(&addr) {
                return Ok((addr, listener));
            }
        }
        Err(format!("no port is free in {PORTS:?}"))
    }

    /// `n` ports in a row, as [`take`](Self::take) the first of them.
    fn take_run(&mut self, before: Option<String>, n: u16) -> Result<(String, Vec<TcpListener>), String> {
        let mut before = before;
        for _ in PORTS {
            let (addr, first) = self.take(before.take())?;
            let port = first.local_addr().map_err(|e| e.to_string())?.port();
            let more: Result<Vec<_>, String> =
                (1..n).map(|i| rt::listen(&format!("127.0.0.1:{}", port.saturating_add(i)))).collect();
            if let Ok(more) = more {
                return Ok((addr, std::iter::once(first).chain(more).collect()));
            }
        }
        Err(format!("no {n} ports in a row are free in {PORTS:?}"))
    }
}

impl Plan {
    /// (name, kind of node, settings file) of every node.
    fn files(&self, dir: &Path) -> Result<Vec<supervise::Node>, String> {
        let dir = std::path::absolute(dir).map_err(|e| e.to_string())?;
        let names = |kind: &'static str, n: usize| (0..n).map(move |i| (kind, format!("{kind}-{i}")));
        Ok(names("order", self.orderers.len())
            .chain(names("shard", self.shards.len()))
            .chain(names("zk", self.zk.len()))
            .map(|(kind, name)| {
                let folder = dir.join("nodes").join(&name);
                supervise::Node { name, kind, folder }
            })
            .collect())
    }

    fn write(&self, dir: &Path) -> Result<(), String> {
        let save = |name: String, text: Result<String, toml::ser::Error>| {
            let folder: PathBuf = dir.join("nodes").join(name);
            std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            let text = text.map_err(|e| e.to_string())?;
            rt::datadir::write_durably(&folder.join("config.toml"), text.as_bytes())
        };
        for (i, c) in self.orderers.iter().enumerate() {
            save(format!("order-{i}"), toml::to_string(c))?;
        }
        for (i, c) in self.shards.iter().enumerate() {
            save(format!("shard-{i}"), toml::to_string(c))?;
        }
        for (i, c) in self.zk.iter().enumerate() {
            save(format!("zk-{i}"), toml::to_string(c))?;
        }
        Ok(())
    }
}

/// All nodes in this process, on as many executors as there are cores (or nodes).
fn threads(
    plan: Plan,
    (order_listeners, shard_listeners): Listeners,
    zk_listeners: Vec<TcpListener>,
    stop: &Stop,
    line: String,
) -> Result<(), String> {
    let (ready, is_ready) = mpsc::channel();
    let cluster = &plan.cluster;
    // They share their threads.
    let spins = plan.orderers.iter().map(|c| c.spin_us).chain(plan.shards.iter().map(|c| c.spin_us));
    let spin_us = spins.chain(plan.zk.iter().map(|c| c.spin_us)).max().unwrap_or(0);
    let spin = Duration::from_micros(spin_us.into());
    let mut jobs: Vec<Job> = Vec::new();
    for (config, listener) in plan.orderers.into_iter().zip(order_listeners) {
        let addr = listener.local_addr().map_err(|e| e.to_string())?.to_string();
        nodes::serve_stored(&config.admin_listen, "order", vec![(format!("order-{}", config.id - 1), addr)])?;
        jobs.push(nodes::order_job(config, cluster.clone(), listener, stop.clone(), ready.clone())?);
    }
    for (config, listener) in plan.shards.into_iter().zip(shard_listeners) {
        let addr = listener.local_addr().map_err(|e| e.to_string())?.to_string();
        let name = format!("shard-{}.0", config.server);
        nodes::serve_stored(&config.admin_listen, "shard", vec![(name, addr)])?;
        jobs.push(nodes::slot_job(config, 0, cluster.clone(), listener, stop.clone(), ready.clone())?);
    }
    for (config, listener) in plan.zk.into_iter().zip(zk_listeners) {
        jobs.push(nodes::zk_job(config, cluster.clone(), listener, stop.clone(), ready.clone())?);
    }
    drop(ready);
    let n = jobs.len();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(n.max(1));
    let mut shares: Vec<Vec<Job>> = (0..cores).map(|_| Vec::new()).collect();
    for (i, job) in jobs.into_iter().enumerate() {
        shares[i % cores].push(job);
    }
    let executors: Vec<_> =
        shares.into_iter().map(|jobs| Executor::start("dev", spin, jobs)).collect::<Result<_, _>>()?;
    announce(is_ready, n, line);
    let mut outcome = Ok(());
    for executor in executors {
        let ended = executor.join();
        stop.stop();
        outcome = outcome.and(ended);
    }
    outcome
}

/// Prints `line` once `n` nodes have said that they serve; says who hasn't if that takes long.
fn announce(is_ready: mpsc::Receiver<String>, n: usize, line: String) {
    std::thread::spawn(move || {
        let mut names: Vec<String> = Vec::new();
        while names.len() < n {
            match is_ready.recv_timeout(PATIENCE) {
                Ok(name) => names.push(name),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    tracing::warn!("not ready yet; serving so far: {}", names.join(" "));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
        println!("{line}");
    });
}
