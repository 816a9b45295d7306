//! `zoolog log fsck`: what of a stopped node's data is whole, what is damaged, what can be mended, and how? Reads
//! everything, changes nothing.

mod finding;
mod logs;
mod snapshots;

pub use logs::{describe, identify};

use super::interrupt::Interrupt;
use super::node_dir::{self, Kind, NodeDir};
use crate::args::FsckArgs;
use crate::exit::{Code, Failure};
use crate::out;
use finding::{Report, Verdict};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::path::Path;
use zoolog_core::ClusterId;
use zoolog_core::config::{self, ClusterConfig};
use zoolog_core::rt::datadir::InspectError;

/// Carries it out.
///
/// # Errors
/// By exit code: damaged, unusable, in use. What was found is printed before.
pub fn run(args: &FsckArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let cluster = expected_cluster(args)?;
    let dirs = node_dir::find(&args.dir)?;
    // Hidden by itself where stderr is no terminal; what is printed comes behind it.
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes} {msg}").expect("a constant"),
    );
    let mut reports = Vec::new();
    for dir in &dirs {
        reports.push(check(dir, cluster, &bar, &interrupt)?);
    }
    bar.finish_and_clear();
    let verdict = reports.iter().map(|r| r.verdict).max().expect("there is one at least");
    if args.json {
        let nodes: Vec<Value> = reports.iter().map(Report::json).collect();
        out::print(format!("{:#}", json!({ "verdict": verdict.name(), "nodes": nodes })))?;
    } else {
        print(&reports, &args.dir)?;
    }
    match verdict {
        Verdict::Whole => Ok(()),
        Verdict::InUse => Err(Failure::silent(Code::Unavailable)),
        Verdict::Damaged => Err(Failure::silent(Code::Damaged)),
        Verdict::Unusable => Err(Failure::silent(Code::Unusable)),
    }
}

/// What directories are to be stamped with: what a cluster's nodes call themselves, and what names its order.
#[derive(Clone, Copy, Debug)]
struct Expected {
    cluster: ClusterId,
    order: ClusterId,
}

/// The cluster that everything should belong to, if something says so.
fn expected_cluster(args: &FsckArgs) -> Result<Option<Expected>, Failure> {
    let file = args.dir.join("cluster.toml");
    match &args.cluster {
        Some(hex) => match u128::from_str_radix(hex, 16) {
            Ok(id) => Ok(Some(Expected { cluster: ClusterId(id), order: ClusterId(id) })),
            Err(_) => {
                Err(Failure::new(Code::Usage, format!("`{hex}` is no cluster id: 32 hexadecimal digits")))
            }
        },
        None if file.exists() => {
            let cluster = config::load::<ClusterConfig>(&file).map_err(|e| e.to_string())?;
            Ok(Some(Expected { cluster: cluster.cluster(), order: cluster.order_id() }))
        }
        None => Ok(None),
    }
}

fn check(
    dir: &Path,
    expected: Option<Expected>,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> Result<Report, Failure> {
    let mut node = match NodeDir::open(dir) {
        Ok(node) => node,
        Err(e) => {
            let mut report = Report::new(dir, "?");
            let (verdict, at, cure) = match &e {
                InspectError::InUse { node, .. } => {
                    report.name.clone_from(node);
                    (Verdict::InUse, "LOCK", "")
                }
                InspectError::Newer { .. } => (Verdict::Unusable, "stamp.toml", ""),
                InspectError::Unreadable(_) => {
                    (Verdict::Unusable, "stamp.toml", "bring it back from a backup, or replace the node")
                }
            };
            report.find(verdict, at, &e, cure);
            return Ok(report);
        }
    };
    bar.set_message(node.name.clone());
    let mut report = Report::new(dir, &node.name);
    // ZooKeeper nodes go from one cluster of a chain to the next.
    let ours = expected.map(|e| if node.kind == Kind::Zk { e.order } else { e.cluster });
    match (ours, node.cluster) {
        (Some(ours), Some(found)) if ours != found => {
            let what = format!("belongs to cluster {:032x}, not to {:032x}", found.0, ours.0);
            report.find(Verdict::Unusable, "stamp.toml", &what, "this directory belongs somewhere else");
        }
        (Some(ours), None) => node.cluster = Some(ours),
        _ => {}
    }
    if node.kind == Kind::Zk {
        snapshots::check(&node, &mut report)?;
    } else {
        logs::check(&node, &mut report, bar, interrupt)?;
    }
    Ok(report)
}

fn print(reports: &[Report], root: &Path) -> Result<(), Failure> {
    let mut table = out::table(["node", "verdict", "holds", "directory"], 0..0);
    for report in reports {
        let path = report.dir.strip_prefix(root).unwrap_or(&report.dir);
        let path = if path.as_os_str().is_empty() { &report.dir } else { path };
        let row = [
            report.name.clone(),
            report.verdict.name().into(),
            report.holds.clone(),
            path.display().to_string(),
        ];
        table.add_row(row);
    }
    out::print(table)?;
    for report in reports {
        for line in report.lines() {
            out::print(line)?;
        }
    }
    Ok(())
}
