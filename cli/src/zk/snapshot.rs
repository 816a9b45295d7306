//! What is in a snapshot of a ZooKeeper node of ours? Its state, walked from the root down.

use super::{Sink, is_own};
use crate::exit::Failure;
use std::path::Path;
use zoolog_core::rt::snapshots::SnapshotStore;
use zoolog_core::{ClusterId, Gsn};
use zoolog_zk::snapshot::Loader;
use zoolog_zk::state::State;
use zoolog_zk::tree::Lifetime;

/// Reads the newest good snapshot of the node whose data directory this is, and gives its zxid; `None` if it isn't one.
///
/// # Errors
/// If none of its snapshots is good.
pub fn read_newest(dir: &Path, sink: &mut dyn Sink) -> Result<Option<i64>, Failure> {
    let folder = dir.join("snapshots");
    if !folder.is_dir() {
        return Ok(None);
    }
    let store = SnapshotStore::look(&folder, ClusterId(0));
    let mut wrong = format!("{}: no snapshot yet", folder.display());
    for file in store.newest()? {
        let mut loader = Loader::new(ClusterId(0));
        let loaded = store.read(&file, &mut |bytes| loader.push(bytes));
        match loaded.and_then(|()| loader.finish().map_err(|e| e.to_string())) {
            Ok(state) => {
                walk(&state, sink)?;
                return Ok(Some(state.zxid()));
            }
            Err(why) => wrong = format!("{}: {why}", file.path.display()),
        }
    }
    Err(wrong.into())
}

/// The newest good snapshot in that node's data directory that is not behind `gsn`; the state before all if there is none.
///
/// # Errors
/// If the directory has no snapshots to look at.
pub fn newest_until(dir: &Path, gsn: Gsn) -> Result<State, Failure> {
    let folder = dir.join("snapshots");
    let store = SnapshotStore::look(&folder, ClusterId(0));
    for file in store.newest()?.into_iter().filter(|f| f.gsn <= gsn) {
        let mut loader = Loader::new(ClusterId(0));
        let loaded = store.read(&file, &mut |bytes| loader.push(bytes));
        match loaded.and_then(|()| loader.finish().map_err(|e| e.to_string())) {
            Ok(state) => return Ok(state),
            Err(why) => crate::out::note(format!("{}: {why}; trying the one before it", file.path.display())),
        }
    }
    Ok(State::new())
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
