//! `zoolog zk dump` and `restore`: how does a ZooKeeper's tree leave one service and come into another?
//!
//! - `format`: a dump's lines. `sources`: where a tree is found: `snapshot` files of ours, `apache`'s, or a running
//!   `server`, anybody's, which `client` asks.
//! - `dump` writes it, `restore` puts it into a cluster's log.
//! - `past`: what the log tells of what was.

mod apache;
mod client;
mod dump;
mod format;
mod past;
mod restore;
mod server;
mod snapshot;

pub use past::{changes, get};
pub use snapshot::load as load_snapshot;

use crate::args::{DumpTreeArgs, RestoreArgs};
use crate::exit::Failure;
use zoolog_zk::jute::codes::perms;
use zoolog_zk::txn::{Acl, ImportedNode};

/// Takes the nodes of a tree, parents before children.
trait Sink {
    /// A node that stays.
    fn node(&mut self, node: ImportedNode) -> Result<(), Failure>;
    /// A session's node, which goes with it and is not carried over.
    fn ephemeral(&mut self);
}

/// Nodes that every service has by itself, and that say nothing of what is kept in it.
fn is_own(path: &str) -> bool {
    matches!(path, "/zookeeper" | "/zookeeper/config" | "/zookeeper/quota")
}

/// The list, but for the one that is open to everyone, which needs none.
fn unless_open(acl: Vec<Acl>) -> Vec<Acl> {
    match &acl[..] {
        [only] if only.perms == perms::ALL && only.id.scheme == "world" && only.id.id == "anyone" => {
            Vec::new()
        }
        _ => acl,
    }
}

/// `zoolog zk dump`.
///
/// # Errors
/// If there is no such tree, or nowhere to write it.
pub fn dump(args: &DumpTreeArgs) -> Result<(), Failure> {
    dump::run(args)
}

/// `zoolog zk restore`.
///
/// # Errors
/// If the dump is not whole, there is no such cluster, or it is not empty.
pub fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    restore::run(args)
}
