//! Where do orderers come from? Three processes of a given binary on free ports, with their data in a temporary
//! folder; they end with the run.

use crate::args::OrderArgs;
use anyhow::{Context, bail};
use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How many.
const ORDERERS: usize = 3;

/// Orderers of our own.
#[derive(Debug)]
pub struct Spawned {
    children: Vec<Child>,
    /// Where they are reached.
    pub addresses: Vec<String>,
    folder: TempDir,
}

impl Spawned {
    /// Starts them, for the shards that `args` wants.
    ///
    /// # Errors
    /// When the binary can't be started, or files can't be written.
    pub fn start(zoolog: &Path, args: &OrderArgs) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("loadgen-order-");
        let folder = match &args.spawn_dir {
            Some(dir) => builder.tempdir_in(dir).with_context(|| format!("a folder in {}", dir.display()))?,
            None => builder.tempdir().context("a temporary folder")?,
        };
        let addresses = free_addresses()?;
        let cluster = cluster_file(args, &addresses)?;
        std::fs::write(folder.path().join("cluster.toml"), cluster)?;
        let mut spawned = Self { children: Vec::new(), addresses, folder };
        for number in 1..=ORDERERS {
            let child = spawned.start_one(zoolog, number, args)?;
            spawned.children.push(child);
        }
        Ok(spawned)
    }

    fn start_one(&self, zoolog: &Path, number: usize, args: &OrderArgs) -> anyhow::Result<Child> {
        let dir = self.folder.path();
        let config = dir.join(format!("order-{number}.toml"));
        let text = format!(
            "data_dir = {:?}\ncluster_file = {:?}\nid = {number}\ncut_interval_us = {}\n",
            dir.join(format!("order-{number}")),
            dir.join("cluster.toml"),
            args.cut_interval.as_micros()
        );
        std::fs::write(&config, text)?;
        let log = File::create(dir.join(format!("order-{number}.log")))?;
        Command::new(zoolog)
            .args(["order", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {}: --spawn wants the zoolog binary", zoolog.display()))
    }

    /// Whether all are still there.
    ///
    /// # Errors
    /// When one is not; with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for (i, child) in self.children.iter_mut().enumerate() {
            if let Some(status) = child.try_wait()? {
                let log = self.folder.path().join(format!("order-{}.log", i + 1));
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<_> = text.lines().rev().take(5).collect();
                let last: Vec<_> = lines.into_iter().rev().collect();
                bail!("orderer {} ended ({status}); its last words:\n{}", i + 1, last.join("\n"));
            }
        }
        Ok(())
    }

    /// Processor seconds that each has used.
    pub fn cpu_seconds(&self) -> Vec<f64> {
        self.children.iter().map(|c| crate::environment::cpu_seconds_of(&c.id().to_string())).collect()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
    }
}

/// Addresses that were free a moment ago.
fn free_addresses() -> anyhow::Result<Vec<String>> {
    let listeners: Vec<TcpListener> =
        (0..ORDERERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?.to_string())).collect()
}

fn cluster_file(args: &OrderArgs, addresses: &[String]) -> anyhow::Result<String> {
    let mut random = [0; 48];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).context("/dev/urandom")?;
    let hex: String = random.iter().map(|b| format!("{b:02x}")).collect();
    let (id, secret) = hex.split_at(32);
    let (shards, replicas, servers) = (args.lanes / args.replicas, args.replicas, args.connections);
    Ok(format!(
        "id = \"{id}\"\nsecret = \"{secret}\"\norderers = {addresses:?}\nshards = {shards}\n\
         replicas = {replicas}\nservers = {servers}\n"
    ))
}
