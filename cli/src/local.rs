//! How does a ZooKeeper run in one process, without servers? `zoolog zk --log local:DIR`: its log is a directory.

use crate::args::ZkArgs;
use crate::{executors, nodes, remembered, start, zoo_cfg};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zoolog_client::{ChainLog, ClusterLog, Control, Follow, LocalDir, Sealed, Successor, local_birth};
use zoolog_core::Gsn;
use zoolog_core::config::{ClusterConfig, Config, ZkConfig};
use zoolog_core::policy::Fetch;
use zoolog_core::rt::{self, Job, clock};
use zoolog_zk::NodeConfig;

/// Where a ZooKeeper node's log is, if it is not the cluster's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPlace {
    /// In this directory, in this process.
    Local(PathBuf),
}

impl FromStr for LogPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("local", dir)) if !dir.is_empty() => Ok(Self::Local(dir.into())),
            _ => Err(format!("`{text}` is no log: say local:DIR; without --log it is the cluster's")),
        }
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Local(dir) = self;
        write!(f, "local:{}", dir.display())
    }
}

/// `zoolog zk --log local:DIR`.
///
/// # Errors
/// Text for a person.
pub fn zk_process(args: &ZkArgs, log_dir: &Path) -> Result<(), String> {
    let config = settings(args)?;
    start::prepare()?;
    let birth = local_birth(log_dir)?;
    // More only for who asks for them: the one with the log has its disk, too.
    let executors = config.executors.max(1);
    let (alone, listeners) = match executors {
        1 => (Some(rt::listen_when_free(&config.listen)?), Vec::new()),
        several => (None, rt::listen_shared(&config.listen, several - 1)?),
    };
    let (dir, spin_us) = (log_dir.to_path_buf(), config.spin_us);
    let skip = args.skip.iter().map(|gsn| Gsn(*gsn)).collect();
    nodes::run(spin_us, 1, move |stop, ready| {
        // There are no orderers to be found: all that is known of the cluster is who it is.
        let cluster =
            ClusterConfig { id: birth.id.clone(), secret: birth.secret.clone(), ..ClusterConfig::default() };
        let (name, mut machine) = nodes::zk_machine(&config, &cluster)?;
        machine.skip = skip;
        let asked = nodes::serve_zk(&config, &machine.facts)?;
        // One that has the log and applies, and those with the clients, if they are apart.
        let (seat, seats) = executors::split(listeners.len() as u16);
        let fronts = nodes::front_jobs(&name, &machine, seats, listeners, &stop);
        let back: Job = Box::new(move |host| {
            let LocalDir { log, disk, dir: log_dir } = LocalDir::open(&dir, &birth)?;
            let log = {
                let (follow, ended) = (following(&config, &machine)?, log.sealed());
                ChainLog::new(log, ended, follow, clock::now())
            };
            let log = log.controlled(Control::listen(&dir, host.waker())?);
            let (zk_dir, snapshots, mut restored) = nodes::zk_files(&name, &config, &machine)?;
            let apart = alone.is_none();
            let mut spec = nodes::zk_spec(&name, &machine, alone, Some(snapshots), stop);
            spec.disk = Some(disk);
            let mut events = nodes::zk_events(name, ready, zk_dir, asked.answers());
            let events = move |event| {
                let _locked = &log_dir; // as long as the node runs
                events(event)
            };
            if apart {
                let back = zoolog_zk::node::Back::new(machine, log, clock::now(), &mut restored);
                let machine = seat.take(back, restored.state, host.waker());
                return host.run(asked.take(machine, host.waker()), spec, events);
            }
            let machine = zoolog_zk::Node::restore_with_log(machine, log, clock::now(), restored);
            host.run(asked.take(machine, host.waker()), spec, events)
        });
        Ok(std::iter::once(back).chain(fronts).collect())
    })
}

/// The log of a node whose embedded one has ended: the client of the cluster that this was sealed for.
fn following(config: &ZkConfig, machine: &NodeConfig) -> Result<Follow<ClusterLog>, String> {
    let (dir, machine) = (config.data_dir.clone(), machine.clone());
    let mut seed = Some(nodes::seed()?);
    Ok(Box::new(move |now, sealed: &Sealed, first_seq| {
        // A text that names none leads nowhere: the node stands still, and says so.
        let named = sealed.successor.parse::<Successor>();
        let Successor { orderers, generation } = named.unwrap_or_else(|why| {
            tracing::error!("the log has ended, and goes on nowhere: {why}");
            Successor { orderers: Vec::new(), generation: 0 }
        });
        let mut own = machine.clone();
        own.orderers = remembered::with_configured(&dir, &orderers);
        own.log.generation = Some(generation);
        own.log.way = nodes::way(&dir, &own);
        (own.log.succeeds, own.log.first_seq) = (Some(sealed.tail), first_seq);
        own.log_client(seed.take().expect("a log ends once"), now)
    }))
}

/// The settings: a file's if there is one, and what the command line says instead.
fn settings(args: &ZkArgs) -> Result<ZkConfig, String> {
    let mut config = zoo_cfg::node_config(args.config.as_deref(), &args.zoo)?;
    args.apply(&mut config);
    if config.fetch != Fetch::Streamed {
        return Err(format!(
            "with `--log local:DIR` there is nobody to fetch from: `{}` is of no use, leave `fetch` at `streamed`",
            config.fetch
        ));
    }
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_they_say() {
        assert_eq!("local:/a:b".parse(), Ok(LogPlace::Local("/a:b".into())));
        assert_eq!(LogPlace::Local("x".into()).to_string(), "local:x");
        for wrong in ["", "local", "local:", "/a", "scalog:1.2.3.4:5"] {
            assert!(wrong.parse::<LogPlace>().is_err(), "{wrong}");
        }
    }
}
