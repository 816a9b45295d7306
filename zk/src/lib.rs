//! ZooKeeper on the log: unmodified clients on one side, a totally ordered shared log on the other.
//!
//! # Tour
//! - [`jute`]: the client protocol, in both directions.
//! - [`txn`]: what enters the log: a request with every choice already made.
//! - [`tree`], [`state`]: what is replicated, and the pure function that changes it, record by record.
//! - [`snapshot`]: the state in a file, taken while records go on being applied.
//! - [`bootstrap`]: another node's snapshot, over the network.
//! - [`access`]: whose identities an ACL lets do what.
//! - [`watch`]: who wants to be told of what, on one node.
//! - [`node`]: the machine that joins them: connections, sessions, queues, expiry. [`Node`] is pure; whoever
//!   drives it cuts its clients' bytes into frames with [`framing`]. Its parts can also live on several executors.
//!
//! # Life of a write
//! A request becomes a [`txn::Txn`] and goes to the log, in the turn in which it arrives. When the log delivers
//! it, every node applies it at the same position; on each, watches fire; on the node it came from, the outcome
//! is the reply, and reads that were sent behind it are answered from the state right after it.

pub mod access;
pub mod bootstrap;
pub mod jute;
pub mod node;
pub mod snapshot;
pub mod state;
pub mod tree;
pub mod txn;
pub mod watch;

pub use node::{Node, NodeCommand, NodeConfig, NodeEvent, NodeStatus, VERSION, framing};
