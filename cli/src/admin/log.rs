//! `zoolog admin log switch`: how does a log go on in another? The one is sealed, the other told where it begins. The seal is the
//! only step that can't be undone, and all can be done again.

use crate::args::SwitchArgs;
use crate::exit::{Code, Failure};
use crate::local::LogPlace;
use crate::{out, status};
use serde_json::json;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use zoolog_client::{LocalDir, LogEvent, Sealed, SharedLog, control_seal, local_birth};
use zoolog_core::Gsn;
use zoolog_core::config::{self, BirthConfig, ClusterConfig, Config};
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::rt::{self, Executor, Host, Job, NodeSpec, Stop};
use zoolog_core::wire::{Begin, BeginEnd, Message};

/// Who the embedded log in `dir` is.
///
/// # Errors
/// There is none.
pub fn birth(dir: &Path) -> Result<BirthConfig, String> {
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
    let LogPlace::Local(dir) = &args.log;
    let (birth, cluster) = (birth(dir)?, config::load::<ClusterConfig>(&args.to).map_err(|e| e.to_string())?);
    cluster.validate().map_err(|e| e.to_string())?;
    if birth.id != cluster.id || birth.secret != cluster.secret || !cluster.successor {
        let text = format!(
            "{} was not made to go on where {} ends: make it with `zoolog admin init --succeeds {}`",
            args.to.display(),
            args.log,
            args.log
        );
        return Err(Failure::new(Code::Usage, text));
    }
    let begun = is_ready(&cluster)?;
    let sealed = seal(dir, &birth, &cluster.orderers.join(","))?;
    if let Some(gsn) = begun.filter(|gsn| *gsn != sealed.tail) {
        let text = format!(
            "{} ends at {}, but the cluster began at {gsn}: it is another log's",
            args.log, sealed.tail
        );
        return Err(Failure::new(Code::Fault, text));
    }
    begin(&cluster, sealed.tail).map_err(|e| {
        let why = e.text;
        let text = format!(
            "{} is sealed at {}, for good, but whether the cluster knows is not known: {why}. Repeat the command",
            args.log, sealed.tail
        );
        Failure::new(Code::Unknown, text)
    })?;
    let text = format!(
        "{} ends at {}, and goes on at {}. Who runs with `--log {}` goes on there by itself, now and after a restart",
        args.log, sealed.tail, sealed.successor, args.log
    );
    match args.json {
        true => out::print(json!({ "tail": sealed.tail.0, "successor": sealed.successor, "text": text })),
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

/// Ends the log: whoever uses it does, or, if nobody does, we.
fn seal(dir: &Path, birth: &BirthConfig, successor: &str) -> Result<Sealed, Failure> {
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
