//! The log as a library: append records, read them back by position, follow them in the one total order,
//! ask where the order ends.
//!
//! # Tour
//! - [`SharedLog`]: what an application needs of a log; [`LogEvent`] is how the log answers.
//! - [`LogClient`]: that trait on the sharded log: a pure state machine that its owner embeds (forwarding
//!   the inputs of its dialled connections) or runs alone.
//! - [`ClientConfig`]: its settings, with units and reasons.
//! - [`LocalLog`]: the same trait on one disk, without servers.
//! - [`ChainLog`]: a log that goes on in another, underneath whoever uses it. [`ClusterLog`]: one that goes on from cluster to
//!   cluster.
//! - [`bootstrap`]: another node's snapshot, for who lacks what was trimmed.
//! - [`votes`]: whether nodes that apply the same log have the same state.
//! - [`replicated`]: a data structure of yours, the same on every node, over any of them.
//!
//! # Life of an append
//! [`LogClient::append`] puts the record into the open batch of the turn and says which (seq, index) it
//! has. When the turn is drained the batch is closed, sent to the writer's primary and kept until
//! [`LogEvent::Appended`]: whatever happens to the connection, the same bytes are sent again, in order.
//!
//! # Life of a delivered batch
//! Replicas push batches as soon as they are durable there; cuts from the ordering layer say which of them
//! are committed, and in which order. The subscription joins the two and hands out
//! [`LogEvent::Committed`], each position exactly once. What it has missed, on either side, it reads.

pub mod bootstrap;
mod chain;
mod config;
mod local;
mod log;
pub mod replicated;
mod scalog;
pub mod votes;

pub use chain::{ChainLog, ClusterLog, Follow, Passed, Successor, Way};
#[cfg(feature = "rt")]
pub use chain::{Control, control_seal};
pub use config::ClientConfig;
#[cfg(feature = "rt")]
pub use local::dir::{LocalDir, local_birth};
pub use local::{LocalConfig, LocalLog};
pub use log::{
    AppendError, Committed, Fetching, LogCommand, LogEvent, RequestId, SUCCESSOR_BYTES_MAX, SealError,
    Sealed, SharedLog, TrimError, Trimmed, WriterLost,
};
pub use scalog::{LogClient, Metrics};
pub use zoolog_core::policy::Fetch;
pub use zoolog_core::wire::{DiskRoom, ReadEnd};
