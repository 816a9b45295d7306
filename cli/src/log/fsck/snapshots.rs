//! Are a ZooKeeper node's snapshots whole? Each is read to its end, and its state put together and hashed, as at a
//! start.

use super::finding::{Report, Verdict};
use crate::exit::Failure;
use crate::log::node_dir::NodeDir;
use serde_json::json;
use zoolog_core::ClusterId;
use zoolog_core::rt::snapshots::{SnapshotFile, SnapshotStore};
use zoolog_zk::snapshot::Loader;

const COPY: &str =
    "copy the newest `.snapshot` of another ZooKeeper node to this folder before the node starts";

/// Looks at all of them.
///
/// # Errors
/// If the directory can't be read.
pub fn check(node: &NodeDir, report: &mut Report) -> Result<(), Failure> {
    let folder = node.path.join("snapshots");
    let cluster = node.cluster.unwrap_or(ClusterId(0));
    let store = SnapshotStore::look(&folder, cluster);
    let files = if folder.exists() { store.newest()? } else { Vec::new() };
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for file in &files {
        match load(&store, file, cluster) {
            Ok(hash) => good.push((file.gsn, hash)),
            Err(why) => bad.push((file, why)),
        }
    }
    for (file, why) in bad {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (verdict, cure) = match good.first() {
            Some((gsn, _)) if *gsn > file.gsn => (Verdict::Damaged, "none is needed: a newer one is good"),
            Some(_) => {
                (Verdict::Damaged, "none is needed: the node starts from the next older one, which is good")
            }
            None => (Verdict::Unusable, COPY),
        };
        report.find(verdict, name, &why, cure);
    }
    report.holds = match good.first() {
        Some((gsn, hash)) => {
            format!("{} good snapshots, the newest at {gsn} with state hash {hash:016x}", good.len())
        }
        None if files.is_empty() => "no snapshot: it starts at the log's beginning".into(),
        None => "no good snapshot".into(),
    };
    let good: Vec<_> = good
        .iter()
        .map(|(gsn, hash)| json!({ "gsn": gsn.0, "state_hash": format!("{hash:016x}") }))
        .collect();
    report.details = json!({ "snapshots": good });
    Ok(())
}

/// The hash of its state, if it is good.
fn load(store: &SnapshotStore, file: &SnapshotFile, cluster: ClusterId) -> Result<u64, String> {
    let mut loader = Loader::new(cluster);
    store.read(file, &mut |bytes| loader.push(bytes))?;
    let state = loader.finish().map_err(|e| format!("can't be used: {e}"))?;
    Ok(state.hash())
}
