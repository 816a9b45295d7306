//! How does a ZooKeeper node get another's state? As any structure on the log does ([`zoolog_client::bootstrap`]); here is only
//! how bytes become its state.

use crate::snapshot::Loader;
use crate::state::State;
use zoolog_core::snapshot::SnapshotError;
use zoolog_core::{ClusterId, Gsn};

pub use zoolog_client::bootstrap::{FetchConfig, Load, PIECE_BYTES_MAX, Progress, Serve, ServeConfig};

#[cfg(test)]
use zoolog_client::bootstrap::cheaper;

#[cfg(test)]
mod tests;

/// What an earlier life of a node has got of another's.
pub type Begun = zoolog_client::bootstrap::Begun<Loader>;
/// Gets a ZooKeeper node's snapshot.
pub type Fetch = zoolog_client::bootstrap::Fetch<Loader>;
/// What it wants done.
pub type Act = zoolog_client::bootstrap::Act<Box<State>>;

impl Load for Loader {
    type State = Box<State>;

    fn begin(cluster: ClusterId, _: &str) -> Self {
        Self::new(cluster)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        Self::push(self, bytes)
    }

    fn finish(self) -> Result<(Gsn, Self::State), SnapshotError> {
        let state = Self::finish(self)?;
        Ok((state.applied(), Box::new(state)))
    }
}
