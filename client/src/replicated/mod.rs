//! Your own data structure, replicated: a state machine that applies commands in the log's order, the same everywhere.
//!
//! - [`StateMachine`]: what you write: how a command changes the state, and how the state becomes bytes and comes back.
//! - [`Replicated`]: what runs it: it appends commands to a [`SharedLog`](crate::SharedLog), applies what the log says, and
//!   tells you the outcome of your own. A pure [`Machine`](zoolog_core::Machine), over any log.
//! - `ReplicatedNode`, `ReplicatedHandle` (feature `rt`): the same on a thread of its own, for programs that know nothing of
//!   machines.
//! - [`check`]: tries to show that a state machine can't be replicated.
//!
//! - `record`: what a command looks like in the log; `image`: what a snapshot looks like in its file.
//! - `lookahead`: which commands are to be skipped. `proposals`: own commands on their way; `queries`: who waits for a position; `snapshots`: when one is taken.
//!
//! `docs/REPLICATED.md` shows it on an example; larger ones are in `client/examples/`.
//!
//! # What is promised
//! - **One order.** All nodes apply the same commands in the same order, at the same positions, each exactly once. What a
//!   command does may therefore depend on nothing but the state, its position and its bytes: no clock, no chance, no
//!   iteration in random order.
//! - **An outcome is true.** It comes when the command is applied here, and so is durable in the log. An error says which of
//!   three things is so: it is not in the log ([`ProposeError::is_retryable`] or not), it is and did nothing, or nobody knows
//!   ([`ProposeError::is_unknown`]).
//! - **Reads** show at least what this node's outcomes said ([`Consistency::Session`]), what another node's outcome said
//!   ([`Consistency::Since`]), or all that anybody was told before ([`Consistency::Linearizable`]).
//! - **A node that is behind what the log still has** goes on from another node's snapshot, and tells nobody an outcome meanwhile.
//! - **A node whose state differs from most ends**, and says since when: states are compared at marks in the log.
//! - **What can't be decoded is rejected**, by all alike; what a newer version wrote stops a node that is older, since it could
//!   not do as the others do.

mod check;
mod config;
#[cfg(feature = "rt")]
mod driven;
mod event;
#[cfg(feature = "rt")]
mod files;
#[cfg(feature = "rt")]
mod handle;
mod image;
mod lookahead;
mod machine;
mod node;
mod proposals;
mod queries;
mod record;
#[cfg(feature = "rt")]
mod runner;
mod snapshots;

pub use check::check;
pub use config::ReplicatedConfig;
pub use event::{Applied, Figures, ReplicatedEvent};
#[cfg(feature = "rt")]
pub use handle::{Pending, ReplicatedHandle};
pub use image::{Loader, Restored};
pub use lookahead::{Lookahead, Next as LookaheadNext};
pub use machine::{Command, Image, StateMachine, unarchive};
pub use node::{Loading, Replicated};
pub use proposals::{ProposalId, ProposeError};
pub use queries::{Consistency, QueryError, QueryId};
pub use record::{Entry, Writing};
/// With which commands are written down; derive its `Archive` and `Serialize` for them, and say
/// `#[rkyv(crate = zoolog_client::replicated::rkyv)]` if your package has no dependency of that name.
pub use rkyv;
#[cfg(feature = "rt")]
pub use runner::{LogPlace, ReplicatedNode};

/// The page that shows all this on an example, which is compiled.
#[cfg(all(doctest, feature = "rt"))]
#[doc = include_str!("../../../docs/REPLICATED.md")]
pub struct Page;
