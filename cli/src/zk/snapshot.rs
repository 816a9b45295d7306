//! What is in a snapshot of a ZooKeeper node of ours? Its state, walked from the root down.

use super::{Sink, is_own};
use crate::exit::Failure;
use crate::out;
use std::path::Path;
use zoolog_core::rt::snapshots::{SnapshotFile, SnapshotStore};
use zoolog_core::{ClusterId, Gsn};
use zoolog_zk::snapshot::load_together;
use zoolog_zk::state::State;
use zoolog_zk::tree::Lifetime;

/// Threads that make nodes of what was read, at most: behind so many, putting them together takes longer.
const MAKERS_MAX: usize = 4;

/// The state in a snapshot's file, of that cluster; 0 takes any. It is loaded by as many threads as there are cores, and some
/// more that mostly wait: whoever starts a node waits for it.
///
/// # Errors
/// Text for a person, with the path: it can't be read, or is not whole.
pub fn load(store: &SnapshotStore, file: &SnapshotFile, cluster: ClusterId) -> Result<State, String> {
    let makers = std::thread::available_parallelism().map_or(1, usize::from).min(MAKERS_MAX);
    let loaded = load_together(cluster, makers, |sink| store.read_ahead(file, sink));
    let fits = loaded.and_then(|state| match state.applied() == file.gsn {
        true => Ok(state),
        false => Err(format!("it is of position {}", state.applied())),
    });
    fits.map_err(|why| format!("{} can't be used: {why}", file.path.display()))
}

/// Gives what is in the newest good snapshot of the node whose data directory this is, and its zxid; `None` if it isn't one.
///
/// # Errors
/// If none of its snapshots is good.
pub fn read_newest(dir: &Path, sink: &mut dyn Sink) -> Result<Option<i64>, Failure> {
    if !dir.join("snapshots").is_dir() {
        return Ok(None);
    }
    let state = newest_until(dir, Gsn(u64::MAX))?;
    let state = state.ok_or_else(|| format!("{}: no good snapshot yet", dir.display()))?;
    walk(&state, sink)?;
    Ok(Some(state.zxid()))
}

/// The newest good snapshot in that node's data directory that is not behind `gsn`.
///
/// # Errors
/// If the directory has no snapshots to look at.
pub fn newest_until(dir: &Path, gsn: Gsn) -> Result<Option<State>, Failure> {
    let store = SnapshotStore::look(&dir.join("snapshots"), ClusterId(0));
    for file in store.newest()?.into_iter().filter(|f| f.gsn <= gsn) {
        match load(&store, &file, ClusterId(0)) {
            Ok(state) => return Ok(Some(state)),
            Err(why) => out::note(format!("{why}; trying the one before it")),
        }
    }
    Ok(None)
}

/// Gives all nodes of a state, parents before children.
fn walk(state: &State, sink: &mut dyn Sink) -> Result<(), Failure> {
    let mut open = vec![String::from("/")];
    while let Some(path) = open.pop() {
        let node = state.look(&path).map_err(|_| format!("{path} is listed, but not there"))?;
        if matches!(node.lifetime(), Lifetime::Ephemeral(_)) {
            sink.ephemeral();
        } else if !is_own(&path) {
            sink.node(node.export(&path))?;
        }
        let below = path.trim_end_matches('/');
        // The last of the stack comes first.
        let at = open.len();
        open.extend(node.children().map(|name| format!("{below}/{name}")));
        open[at..].reverse();
    }
    Ok(())
}
