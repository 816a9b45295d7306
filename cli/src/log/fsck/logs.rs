//! Is the write-ahead log of an orderer, or of a data server's slot, whole? Every block is read; then it is recovered as
//! at a start, and the node's own machine is made of what that gives.

use super::finding::{Report, Verdict};
use crate::exit::Failure;
use crate::log::interrupt::Interrupt;
use crate::log::node_dir::{Kind, NodeDir};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use zoolog_core::ClusterId;
use zoolog_core::wal::{
    Audit, Case, Damage, FsSource, OnDamage, Seen, WalConfig, WalEntry, WalError, audit, recover,
    segment_file_name,
};
use zoolog_order::audit as order_audit;
use zoolog_shard::audit::{CheckpointSummary, Lanes, Mark, start as start_slot};

const PEERS: &str = "start the server: its peers have these records. Until it has them again, readers are served by the \
                     peers; if `zoolog admin shards` goes on calling the lane damaged, replace the server, empty and \
                     under a new id";
const REPLACE: &str = "don't start it: replace it, empty and under a new id. Its place must not be taken by an empty \
                       directory under the old id";
const PUT_RIGHT: &str =
    "put the files right; if that can't be done, replace the node, empty and under a new id";

/// Looks at all of it.
///
/// # Errors
/// If the files can't be read, or it was interrupted.
pub fn check(
    node: &NodeDir,
    report: &mut Report,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let folder = node.wal();
    if !folder.is_dir() {
        report.holds = "nothing: it never wrote".into();
        return Ok(());
    }
    let source = FsSource::new(&folder);
    let mut content = Content::of(node.kind);
    let cfg = identify(node, &source)?;
    let mut visit = |seen: Seen<'_>| {
        if let Seen::Block(h) = &seen {
            bar.inc(u64::from(h.bytes));
        }
        content.take(&seen, report);
        if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    bar.inc_length(length(&folder));
    let found = audit(&source, &cfg, &mut visit).map_err(|e| e.to_string())?;
    interrupt.check()?;
    for refusal in &found.refusals {
        let verdict = Verdict::Unusable;
        report.find(
            verdict,
            file_of(refusal).map_or_else(|| "wal".into(), segment_file_name),
            refusal,
            PUT_RIGHT,
        );
    }
    for damage in &found.damage {
        let (verdict, cure) = match node.kind {
            Kind::Orderer(_) => (Verdict::Unusable, REPLACE),
            _ => (Verdict::Damaged, PEERS),
        };
        report.find(verdict, segment_file_name(damage.segment), &describe(damage), cure);
    }
    report.holds = holds(&found);
    content.finish(report);
    let started = if found.refusals.is_empty() { start(node, &source, &cfg, report) } else { Value::Null };
    report.details = details(&found, &content, started);
    Ok(())
}

fn length(folder: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Whose files the log should have. Without a stamp they say so themselves; all of them must be the same one's.
///
/// # Errors
/// If they can't be read.
pub fn identify(node: &NodeDir, source: &FsSource) -> Result<WalConfig, Failure> {
    let cluster = node.cluster.unwrap_or(ClusterId(0));
    let mut cfg = WalConfig::new(cluster, node.kind.wal_node().unwrap_or(0), OnDamage::Report);
    let mut pass = |_: Seen<'_>| ControlFlow::Break(());
    for _ in 0..2 {
        let found = audit(source, &cfg, &mut pass).map_err(|e| e.to_string())?;
        match found.refusals.first() {
            Some(WalError::Cluster { found, .. }) if node.cluster.is_none() => cfg.cluster = *found,
            Some(WalError::Node { found, .. }) if node.kind.wal_node().is_none() => cfg.node = *found,
            _ => break,
        }
    }
    Ok(cfg)
}

/// The file that a refusal is about.
const fn file_of(refusal: &WalError) -> Option<u32> {
    match refusal {
        WalError::Io { segment, .. } => *segment,
        WalError::Cluster { segment, .. }
        | WalError::Node { segment, .. }
        | WalError::Version { segment, .. }
        | WalError::Misplaced { segment, .. }
        | WalError::Missing { segment }
        | WalError::Twice { segment }
        | WalError::NoCheckpoint { first: segment }
        | WalError::Unreadable { segment }
        | WalError::Damaged { segment, .. }
        | WalError::Record { segment, .. } => Some(*segment),
    }
}

/// As text.
pub fn describe(damage: &Damage) -> String {
    let Damage { offset, bytes, why, .. } = damage;
    match bytes {
        0 => format!("something is missing at byte {offset}: {why}"),
        bytes => format!("{bytes} bytes from byte {offset}: {why}"),
    }
}

fn holds(found: &Audit) -> String {
    let sum = |of: fn(&zoolog_core::wal::Segment) -> u64| found.segments.iter().map(of).sum::<u64>();
    let end = match found.end {
        Some((segment, offset, case)) => {
            let torn = matches!(case, Case::I | Case::K | Case::L | Case::M);
            let how = if torn { ", where a last write was torn" } else { "" };
            format!("; ends at {} byte {offset}{how}", segment_file_name(segment))
        }
        None => String::new(),
    };
    format!(
        "{} files, {} blocks, {} records, {} starts{end}",
        found.segments.len(),
        sum(|s| s.blocks),
        sum(|s| s.records),
        found.incarnation
    )
}

fn details(found: &Audit, content: &Content, started: Value) -> Value {
    let segment = |s: &zoolog_core::wal::Segment| {
        json!({
            "file": segment_file_name(s.number), "bytes": s.bytes, "blocks": s.blocks, "records": s.records,
            "needed": s.is_needed,
        })
    };
    let damage = |d: &Damage| json!({ "file": segment_file_name(d.segment), "offset": d.offset, "bytes": d.bytes, "why": d.why });
    let end = found.end.map(|(segment, offset, case)| {
        json!({ "file": segment_file_name(segment), "offset": offset, "case": format!("{case:?}") })
    });
    json!({
        "segments": found.segments.iter().map(segment).collect::<Vec<_>>(),
        "damage": found.damage.iter().map(damage).collect::<Vec<_>>(),
        "incarnation": found.incarnation, "end": end, "lanes": content.lanes_json(), "started": started,
    })
}

/// What the records say, beyond being as they were written.
enum Content {
    Slot(Lanes),
    Orderer,
    Unknown,
}

impl Content {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Slot(_) => Self::Slot(Lanes::default()),
            Kind::Orderer(_) => Self::Orderer,
            Kind::Zk | Kind::Unknown => Self::Unknown,
        }
    }

    fn take(&mut self, seen: &Seen<'_>, report: &mut Report) {
        let senseless = |report: &mut Report, at: String, why: String| {
            report.find(Verdict::Unusable, at, &why, "was it written by another build? Then use that one");
        };
        let place = |e: &WalEntry| format!("{} byte {}", segment_file_name(e.pos.segment), e.pos.offset);
        match (self, seen) {
            (Self::Slot(lanes), Seen::Entry(entry)) => match Mark::read(entry) {
                Ok(mark) => lanes.take(&mark),
                Err(why) => senseless(report, place(entry), why),
            },
            (Self::Slot(lanes), Seen::Checkpoint(bytes)) => match CheckpointSummary::read(bytes) {
                Ok(Some(summary)) => lanes.checkpoint(&summary),
                Ok(None) => {}
                Err(why) => senseless(report, "a checkpoint".into(), why),
            },
            (Self::Orderer, Seen::Entry(entry)) => {
                if let Err(why) = order_audit::record(entry) {
                    senseless(report, place(entry), why);
                }
            }
            (Self::Orderer, Seen::Checkpoint(bytes)) => {
                if let Err(why) = order_audit::checkpoint(bytes) {
                    senseless(report, "a checkpoint".into(), why);
                }
            }
            _ => {}
        }
    }

    /// What is missing of the lanes, which is what the damage took.
    fn finish(&self, report: &mut Report) {
        let Self::Slot(lanes) = self else { return };
        for (lane, missing) in lanes.missing() {
            for lsns in missing {
                let what = format!(
                    "{} records are missing, LSN {} to {}",
                    lsns.end - lsns.start,
                    lsns.start,
                    lsns.end
                );
                report.find(Verdict::Damaged, format!("lane {lane}"), &what, PEERS);
            }
        }
    }

    fn lanes_json(&self) -> Value {
        let Self::Slot(lanes) = self else { return Value::Null };
        let missing: std::collections::BTreeMap<_, _> = lanes.missing().collect();
        let all = lanes.spans().map(|(lane, lsns)| {
            let missing: Vec<_> = missing[&lane].iter().map(|m| json!([m.start, m.end])).collect();
            json!({ "lane": lane.to_string(), "start": lsns.start, "end": lsns.end, "missing": missing })
        });
        Value::Array(all.collect())
    }
}

/// Starts the node's machine on it, as far as that goes without a cluster.
fn start(node: &NodeDir, source: &FsSource, cfg: &WalConfig, report: &mut Report) -> Value {
    let recovered = match recover(source, cfg) {
        Ok((recovered, _)) => recovered,
        Err(e) => {
            report.find(Verdict::Unusable, "wal", &e, PUT_RIGHT);
            return Value::Null;
        }
    };
    let outcome = match node.kind {
        Kind::Slot(slot) => start_slot(cfg.cluster, slot, recovered)
            .and_then(|status| serde_json::from_str(&status).map_err(|e| e.to_string())),
        Kind::Orderer(_) => order_audit::start(cfg.cluster, &recovered).map(|s| {
            json!({
                "last_entry": s.last.0, "last_term": s.last.1,
                "checkpoint": { "entry": s.applied, "cut": s.cut.0, "tail": s.tail.0, "view": s.view.0 },
            })
        }),
        Kind::Zk | Kind::Unknown => {
            report.find(
                Verdict::Whole,
                "stamp.toml",
                &"there is none: what the records say was not looked at",
                "",
            );
            Ok(Value::Null)
        }
    };
    outcome.unwrap_or_else(|why| {
        // With damage that is no news, and the cure is the damage's.
        if report.verdict == Verdict::Whole {
            report.find(Verdict::Unusable, "wal", &format!("the node would not start: {why}"), PUT_RIGHT);
        } else {
            report.find(Verdict::Whole, "wal", &format!("a start says: {why}"), "");
        }
        Value::Null
    })
}
