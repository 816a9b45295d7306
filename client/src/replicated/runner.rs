//! How does a program run a node? [`ReplicatedNode`]: opens log and snapshots, and runs the machine on a thread of its own.

use super::config::ReplicatedConfig;
use super::driven::{Driven, News};
use super::files::Files;
use super::handle::{Asking, Proposing, QUEUE_MAX, ReplicatedHandle, Shared};
use super::machine::StateMachine;
use super::node::Replicated;
use super::record::Writing;
use crate::bootstrap::{Begun, Giving};
use crate::{
    ChainLog, ClientConfig, ClusterLog, Control, LocalDir, Sealed, SharedLog, Successor, local_birth,
};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Duration;
use zoolog_core::ClusterId;
use zoolog_core::limits::{CONSUMER_NAME_BYTES_MAX, FRAME_BYTES_MAX};
use zoolog_core::rt::{self, Disk, Executor, Host, NodeSpec, Stop, clock};

/// Bytes of a structure's name: it is part of its nodes' names as consumers.
const NAME_BYTES_MAX: usize = CONSUMER_NAME_BYTES_MAX - 17;

/// Where a structure's log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPlace {
    /// In this directory, in this process: no servers, one node, one disk.
    Local(PathBuf),
    /// In a cluster whose orderers are at these `host:port`; any that answers is enough.
    Cluster(Vec<String>),
}

impl FromStr for LogPlace {
    type Err = String;

    /// `local:DIR`, or `HOST:PORT[,HOST:PORT...]` of orderers.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_addr = |addr: &str| {
            addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match text.strip_prefix("local:") {
            Some(dir) if !dir.is_empty() => Ok(Self::Local(dir.into())),
            None if text.split(',').all(is_addr) => {
                Ok(Self::Cluster(text.split(',').map(String::from).collect()))
            }
            _ => Err(format!("`{text}` is no log: say local:DIR, or HOST:PORT of its orderers")),
        }
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.display()),
            Self::Cluster(addrs) => f.write_str(&addrs.join(",")),
        }
    }
}

/// A node of a replicated structure, running on a thread of its own. Dropped, it ends: what handles have given it is finished
/// first, for a second at most.
#[derive(Debug)]
pub struct ReplicatedNode<S: StateMachine> {
    handle: ReplicatedHandle<S>,
    stop: Stop,
    thread: Option<Executor>,
}

/// The node's side of what its handles have, and who hears of its beginning.
struct Run<S: StateMachine> {
    cfg: ReplicatedConfig,
    files: Files,
    shared: Arc<Shared>,
    proposals: Receiver<Proposing<S::Outcome>>,
    asks: Receiver<Asking<S>>,
    stop: Stop,
    open: Sender<()>,
}

impl<S: StateMachine> Run<S> {
    fn on_local(mut self, host: &mut Host<'_>, place: &Path) -> Result<(), String> {
        let birth = local_birth(place)?;
        let LocalDir { log, disk, dir } = LocalDir::open(place, &birth)?;
        self.files.belongs_to(birth.cluster())?;
        // Should it be sealed, the node goes on in the cluster that it was sealed for.
        let (mut client, remembered) = (self.client(), self.files.remembering());
        let mut seed = Some(u64::from_le_bytes(rt::random_bytes()?));
        let ended = log.sealed();
        if let Some(first) = ended.as_ref().and_then(|s| s.successor.parse::<Successor>().ok()) {
            client.way = self.files.way(Some(first.generation), &first.orderers);
        }
        let follow = move |now, sealed: &Sealed, first_seq| {
            // A text that names none leads nowhere: the node stands still, and says so.
            let named = sealed.successor.parse::<Successor>();
            let Successor { orderers, generation } = named.unwrap_or_else(|why| {
                tracing::error!("the log has ended, and goes on nowhere: {why}");
                Successor { orderers: Vec::new(), generation: 0 }
            });
            let (orderers, generation) = (remembered.orderers(&orderers), Some(generation));
            let succeeds = Some(sealed.tail);
            let client = ClientConfig { orderers, generation, first_seq, succeeds, ..client.clone() };
            ClusterLog::new(client, seed.take().expect("a log ends once"), now)
        };
        let led_to = ended.as_ref().and_then(|s| s.successor.parse::<Successor>().ok());
        let orderers = led_to.map_or_else(Vec::new, |s| s.orderers);
        let log = ChainLog::new(log, ended, Box::new(follow), clock::now());
        let log = log.controlled(Control::listen(place, host.waker())?);
        self.on(host, log, Some(disk), &orderers, dir)
    }

    /// Settings of a client of the cluster, but for where that is.
    fn client(&self) -> ClientConfig {
        ClientConfig {
            cluster: self.files.cluster,
            // What it has applied and not yet in a snapshot must stay in the log.
            consumer: Some(format!("{}/{}", self.cfg.name, self.files.node)),
            ..ClientConfig::default()
        }
    }

    fn on_cluster(self, host: &mut Host<'_>, orderers: &[String]) -> Result<(), String> {
        let orderers = self.files.remembering().orderers(orderers);
        // Addresses say nothing of how many clusters came before theirs.
        let way = self.files.way(None, &orderers);
        let client = ClientConfig { orderers, generation: None, way, ..self.client() };
        let seed = u64::from_le_bytes(rt::random_bytes()?);
        let known = client.orderers.clone();
        self.on(host, ClusterLog::new(client, seed, clock::now()), None, &known, ())
    }

    /// The port where others get this node's snapshots, who come from where the orderers are.
    fn giving(&self, orderers: &[String]) -> Result<Option<Giving>, String> {
        let at = match self.cfg.snapshot_listen.as_str() {
            "none" => return Ok(None),
            "" => Giving::place("127.0.0.1:0", orderers),
            addr => addr.to_string(),
        };
        Giving::bind(&at, &self.cfg.snapshot_advertise, self.cfg.snapshot_bytes_per_s).map(Some)
    }

    /// Puts the node on the thread. `locked` is kept as long as it runs.
    fn on<L: SharedLog + 'static>(
        self,
        host: &mut Host<'_>,
        log: L,
        disk: Option<Disk>,
        orderers: &[String],
        locked: impl Sized + 'static,
    ) -> Result<(), String> {
        let mut giving = self.giving(orderers)?;
        let Self { mut cfg, mut files, shared, proposals, asks, stop, open } = self;
        (cfg.node, cfg.gives_at) = (files.number()?, giving.as_ref().map(|g| g.addr.clone()));
        let store = files.snapshots()?;
        let (given, gives_until) = (store.clone(), stop.clone());
        // A log on this disk has nobody else who could want one.
        let mut shared_log = disk.is_none();
        let restored = files.restore::<S>(&store, &cfg)?;
        let begun = Begun::on_disk(&cfg.name, &store, (files.cluster, &cfg.name), restored.at)?;
        let name = cfg.name.clone();
        let spec = NodeSpec {
            name: name.clone(),
            listener: None,
            framing: rt::node_framing,
            frame_limit: FRAME_BYTES_MAX,
            disk,
            snapshots: Some(store),
            gives: None,
            stop,
        };
        // Nobody else sets it.
        let _ = shared.waker.set(host.waker());
        let mut node = Replicated::new(cfg, log, restored);
        begun.into_iter().for_each(|begun| node.has_begun(begun));
        let node = Driven::new(node, shared, proposals, asks);
        host.run(node, spec, move |news| {
            let _locked = &locked;
            match news {
                News::Cluster(id) => files.belongs_to(id)?,
                News::Orderers(addrs) => {
                    shared_log = true;
                    files.remember(&addrs);
                }
                News::Moved(sealed) => files.moved(&sealed),
                News::Left(tail) => files.left(tail),
                News::Ready => tracing::info!(name, "caught up with the log"),
                News::Snapshot(gsn) => tracing::info!(name, "a snapshot is complete at {gsn}"),
                News::Note(text) => tracing::warn!(name, "{text}"),
                News::Failed(why, beware, distrust) => {
                    beware.map_or(Ok(()), |gsn| files.beware(gsn))?;
                    distrust.map_or(Ok(()), |gsn| files.distrust(gsn))?;
                    return Err(format!("{name}: {why}"));
                }
            }
            if shared_log
                && files.cluster != ClusterId(0)
                && let Some(giving) = giving.take()
            {
                giving.start(&name, files.cluster, given.clone(), gives_until.clone())?;
            }
            Ok(())
        })?;
        // Who waits for it may have given up.
        let _ = open.send(());
        Ok(())
    }
}

impl<S: StateMachine> ReplicatedNode<S>
where
    S::Outcome: Send,
{
    /// Starts a node whose log is at `place`, and which keeps in `dir` what is its own: snapshots, and where its log is. Two nodes
    /// never share a `dir`; a node that comes back with its own goes on where it was. In a cluster the node registers as the
    /// consumer `NAME/NODE`, NODE being drawn at its first start: the log is kept for it from its second newest snapshot on, until
    /// an operator forgets it (`zoolog admin consumers`).
    ///
    /// Returns when both are open; [`ReplicatedHandle::caught_up`] tells when it has applied what there was.
    ///
    /// # Errors
    /// Text for a person: something can't be opened, or is another's.
    pub fn start(cfg: ReplicatedConfig, place: LogPlace, dir: &Path) -> Result<Self, String> {
        rt::preflight::check()?;
        if cfg.name.is_empty() || cfg.name.len() > NAME_BYTES_MAX {
            return Err(format!("the structure's name must have 1 to {NAME_BYTES_MAX} bytes"));
        }
        let (shared, stop) = (Arc::new(Shared::default()), Stop::default());
        let (proposals, to_propose) = sync_channel(QUEUE_MAX);
        let (asks, asked) = sync_channel(QUEUE_MAX);
        let handle =
            ReplicatedHandle::new(shared.clone(), Writing::new(&cfg.name, S::VERSION), proposals, asks);
        let files = Files::open(dir)?;
        let (open, opened) = channel();
        let run = Run { cfg, files, shared, proposals: to_propose, asks: asked, stop: stop.clone(), open };
        let job = move |host: &mut Host<'_>| match place {
            LogPlace::Local(place) => run.on_local(host, &place),
            LogPlace::Cluster(orderers) => run.on_cluster(host, &orderers),
        };
        let thread = Executor::start("replicated", Duration::ZERO, vec![Box::new(job)])?;
        if opened.recv().is_err() {
            thread.join()?;
            return Err("the node's thread ended before it began".into());
        }
        Ok(Self { handle, stop, thread: Some(thread) })
    }

    /// To speak to it, from any thread.
    pub fn handle(&self) -> ReplicatedHandle<S> {
        self.handle.clone()
    }

    /// Whether it has come to its end, by itself or not.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(Executor::has_ended)
    }

    /// Ends it, and waits for that.
    ///
    /// # Errors
    /// Why it had ended by itself.
    pub fn stop(mut self) -> Result<(), String> {
        self.stop.stop();
        self.thread.take().map_or(Ok(()), Executor::join)
    }
}

impl<S: StateMachine> Drop for ReplicatedNode<S> {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there, and why it ended was told to its handles.
            let _ = catch_unwind(AssertUnwindSafe(|| thread.join()));
        }
    }
}
