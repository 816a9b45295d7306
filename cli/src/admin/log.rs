//! `zoolog admin log switch`: how does a log go on in another? The one is sealed, the other told where it begins. The seal is the
//! only step that can't be undone, and all can be done again.

use crate::args::SwitchArgs;
use crate::exit::{Code, Failure};
use crate::{out, status};
use serde_json::json;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;
use zoolog_client::{LocalDir, LogEvent, Sealed, SharedLog, Successor, control_seal, local_birth};
use zoolog_core::Gsn;
use zoolog_core::config::{self, BirthConfig, ClusterConfig, Config};
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::rt::{self, Executor, Host, Job, NodeSpec, Stop};
use zoolog_core::wire::{Begin, BeginEnd, Consumer, Message, Seal};

/// A log that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An embedded one, in this directory.
    Local(PathBuf),
    /// The one of the cluster that this file is of.
    Cluster(PathBuf),
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("local:") {
            Some(dir) if !dir.is_empty() => Ok(Self::Local(dir.into())),
            None if !text.is_empty() => Ok(Self::Cluster(text.into())),
            _ => Err(format!("`{text}` is no log: say local:DIR, or the path of a cluster.toml")),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.display()),
            Self::Cluster(file) => write!(f, "{}", file.display()),
        }
    }
}

impl Ending {
    /// What names its order, and how many clusters come before the one that follows.
    ///
    /// # Errors
    /// There is no such log.
    pub fn identity(&self) -> Result<(BirthConfig, u32), String> {
        match self {
            Self::Local(dir) => Ok((birth(dir)?, 0)),
            Self::Cluster(file) => {
                let ClusterConfig { id, secret, generation, .. } = load(file)?;
                let next = generation.checked_add(1).ok_or("there were too many clusters before it")?;
                Ok((BirthConfig { id, secret }, next))
            }
        }
    }
}

fn load(file: &Path) -> Result<ClusterConfig, String> {
    let cluster = config::load::<ClusterConfig>(file).map_err(|e| e.to_string())?;
    cluster.validate().map_err(|e| e.to_string())?;
    Ok(cluster)
}

/// Who the embedded log in `dir` is.
fn birth(dir: &Path) -> Result<BirthConfig, String> {
    if !dir.join("log.toml").exists() {
        return Err(format!("there is no embedded log in {}: it has no log.toml", dir.display()));
    }
    local_birth(dir)
}

/// Carries it out.
///
/// # Errors
/// Says whether the log was sealed, and that the command can be repeated.
pub fn switch(args: &SwitchArgs) -> Result<(), Failure> {
    let ((birth, generation), cluster) = (args.from.identity()?, load(&args.to)?);
    let same = birth.id == cluster.id && birth.secret == cluster.secret;
    if !same || !cluster.successor || generation != cluster.generation {
        let text = format!(
            "{} was not made to go on where {} ends: make it with `zoolog admin init --succeeds {}`",
            args.to.display(),
            args.from,
            args.from
        );
        return Err(Failure::new(Code::Usage, text));
    }
    let begun = is_ready(&cluster)?;
    let successor = Successor { orderers: cluster.orderers.clone(), generation }.to_string();
    let sealed = match &args.from {
        Ending::Local(dir) => seal_local(dir, &birth, &successor)?,
        Ending::Cluster(file) => {
            let old = load(file)?;
            if begun.is_none() {
                take_consumers_along(&old, &cluster)?;
            }
            seal_cluster(&old, &successor)?
        }
    };
    if let Some(gsn) = begun.filter(|gsn| *gsn != sealed.tail) {
        let text = format!(
            "{} ends at {}, but the cluster began at {gsn}: it is another log's",
            args.from, sealed.tail
        );
        return Err(Failure::new(Code::Fault, text));
    }
    begin(&cluster, sealed.tail).map_err(|e| {
        let why = e.text;
        let text = format!(
            "{} is sealed at {}, for good, but whether the cluster knows is not known: {why}. Repeat the command",
            args.from, sealed.tail
        );
        Failure::new(Code::Unknown, text)
    })?;
    let (from, tail) = (&args.from, sealed.tail);
    let who = match from {
        Ending::Local(_) => format!("Who runs with `--log {from}`"),
        Ending::Cluster(_) => "Who uses it".into(),
    };
    let text = format!(
        "{from} ends at {tail}, and goes on at {}. {who} goes on there by itself, now and after a restart",
        sealed.successor
    );
    match args.json {
        true => out::print(json!({ "tail": tail.0, "successor": sealed.successor, "text": text })),
        false => out::print(text),
    }
}

fn ask(cluster: &ClusterConfig, first_gsn: Option<Gsn>) -> Result<BeginEnd, Failure> {
    let question = Begin { request: 1, first_gsn };
    status::ask_leader_of(cluster.cluster(), &cluster.orderers, question, |answer| match answer {
        Message::BeginIs(is) => Some(is.end),
        _ => None,
    })
}

/// Whether the cluster would take what follows: then nothing was changed yet. Where it has begun, if it was told before.
fn is_ready(cluster: &ClusterConfig) -> Result<Option<Gsn>, Failure> {
    match ask(cluster, None)? {
        BeginEnd::Begun(gsn) => return Ok(Some(gsn)),
        BeginEnd::Awaits => {}
        BeginEnd::Own(tail) => {
            let text = format!(
                "the cluster began by itself, and ends at {tail}: its orderers were started with another file. Nothing was \
                 changed; make a new one, with `zoolog admin init --succeeds`, and start it on empty directories"
            );
            return Err(Failure::new(Code::Fault, text));
        }
    }
    let servers = status::leader(&cluster.orderers)?["servers"].as_u64().unwrap_or_default();
    if servers < u64::from(cluster.servers) {
        let text = format!(
            "{servers} of the cluster's {} data servers are there: start them first. Nothing was changed",
            cluster.servers
        );
        return Err(Failure::new(Code::Unavailable, text));
    }
    Ok(None)
}

/// Who holds the one log back holds the other back from its beginning on, whether he is there when it begins or not.
fn take_consumers_along(old: &ClusterConfig, new: &ClusterConfig) -> Result<(), Failure> {
    let status = status::leader(&old.orderers)?;
    for name in status["consumers"].as_object().into_iter().flat_map(|all| all.keys()) {
        let question = Consumer { request: 1, name: name.clone(), upto: Gsn(0) };
        status::ask_leader_of(new.cluster(), &new.orderers, question, |answer| {
            matches!(answer, Message::ConsumerIs(_)).then_some(())
        })?;
    }
    Ok(())
}

/// Ends the log of a cluster, or finds out where that has ended.
fn seal_cluster(old: &ClusterConfig, successor: &str) -> Result<Sealed, Failure> {
    let question = Seal { request: 1, successor: successor.to_string() };
    let asked = status::ask_leader_of(old.cluster(), &old.orderers, question, |answer| match answer {
        Message::SealedIs(is) => Some(Sealed { tail: is.tail, successor: is.successor }),
        _ => None,
    });
    let sealed = asked.map_err(|e| {
        let text = format!("whether the log has ended is not known: {}. Repeat the command", e.text);
        Failure::new(Code::Unknown, text)
    })?;
    if sealed.successor != successor {
        let Sealed { tail, successor } = sealed;
        let text = format!("the log has ended before, at {tail}, and goes on at {successor}");
        return Err(Failure::new(Code::Conflict, text));
    }
    Ok(sealed)
}

/// Ends an embedded log: whoever uses it does, or, if nobody does, we.
fn seal_local(dir: &Path, birth: &BirthConfig, successor: &str) -> Result<Sealed, Failure> {
    match control_seal(dir, successor).map_err(|why| Failure::new(Code::Unknown, why))? {
        Some(sealed) => Ok(sealed),
        None => seal_unused(dir, birth, successor),
    }
}

fn seal_unused(dir: &Path, birth: &BirthConfig, successor: &str) -> Result<Sealed, Failure> {
    rt::preflight::check()?;
    let (tell, told) = mpsc::channel();
    let (dir, birth, successor, stop) =
        (dir.to_path_buf(), birth.clone(), successor.to_string(), Stop::default());
    let job: Job = Box::new(move |host: &mut Host<'_>| {
        let LocalDir { mut log, disk, dir } = LocalDir::open(&dir, &birth)?;
        log.seal(&successor).map_err(|e| e.to_string())?;
        let spec = NodeSpec {
            name: "log".into(),
            listener: None,
            framing: rt::node_framing,
            frame_limit: FRAME_BYTES_MAX,
            disk: Some(disk),
            snapshots: None,
            gives: None,
            stop: stop.clone(),
        };
        host.run(log, spec, move |event| {
            let _locked = &dir;
            if let LogEvent::SealDone { result, .. } = event {
                // It waits for this.
                let _ = tell.send(result);
                stop.stop();
            }
            Ok(())
        })
    });
    let executor = Executor::start("log", Duration::ZERO, vec![job])?;
    let done = told.recv();
    executor.join()?;
    match done {
        Ok(Ok(sealed)) => Ok(sealed),
        Ok(Err(e)) => Err(Failure::new(Code::Conflict, e)),
        Err(_) => Err("the log's thread ended before it was sealed: repeat the command".into()),
    }
}

/// Tells the cluster where it begins.
fn begin(cluster: &ClusterConfig, tail: Gsn) -> Result<(), Failure> {
    match ask(cluster, Some(tail))? {
        BeginEnd::Begun(gsn) if gsn == tail => Ok(()),
        BeginEnd::Begun(gsn) => Err(Failure::new(Code::Fault, format!("it began at {gsn}"))),
        BeginEnd::Awaits => Err(Failure::new(Code::Unavailable, "it was not decided")),
        BeginEnd::Own(_) => Err(Failure::new(Code::Fault, "it began by itself")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_named_by_its_directory_or_its_file() {
        assert_eq!("local:/a".parse(), Ok(Ending::Local("/a".into())));
        assert_eq!("old/cluster.toml".parse(), Ok(Ending::Cluster("old/cluster.toml".into())));
        assert!(["", "local:"].iter().all(|wrong| wrong.parse::<Ending>().is_err()));
    }
}
