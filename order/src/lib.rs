//! The ordering layer: a few members that agree, through raft, on which slots make which shards and on the
//! cuts that put all records into one order.
//!
//! # Tour: the life of a cut
//! 1. A slot registers with the leader (`node/slots.rs`): a raft entry, so that no older start of it is ever
//!    heard again. It gets the view and the parts of its shards that it missed.
//! 2. It reports what it holds durably (`sequencer/reports.rs`). Per lane the leader takes the minimum over
//!    the shard's replicas, once all of them have spoken in its term.
//! 3. When that moves, and the last proposal is long enough ago (`sequencer/pace.rs`), the leader proposes
//!    the new lengths (`node/lead.rs`). A proposal is not yet a cut: it has neither number nor base.
//! 4. Raft brings it to a quorum that has synced it (`consensus/`).
//! 5. Each member applies it to the replicated state (`sequencer/cuts.rs`), which clips it, numbers it and
//!    gives it its place; the leader sends the cut to slots and subscribers (`node/apply.rs`).
//!
//! Beside that the leader watches over the shards (`node/health.rs`): one whose replicas fail it is finalized, and
//! another formed of servers that are well, in one entry (`node/views.rs`, `sequencer/views.rs`).
//!
//! [`Orderer`] is the one [`Machine`](zoolog_core::Machine); `node/` holds its conversations, `sequencer/`
//! is pure state, `consensus/` the border behind which raft-rs lives. [`audit`] reads what a stopped orderer's log
//! holds, for `zoolog log fsck` and `dump`.

pub mod audit;
mod config;
mod consensus;
mod node;
mod sequencer;

pub use config::{CutInterval, Failures, OrderError, OrdererConfig, RetentionConfig};
pub use node::{OrderEvent, Orderer};
pub use sequencer::{
    Applied, Command, FormView, GSN_MAX, Member, Members, NAME_BYTES_MAX, NAMES_MAX, NameIs, Named,
    ORDERERS_MAX, PARTS_MAX, Parts, ProposedCut, Registration, SHARDS_MAX, SLOTS_MAX, SlotEntry, Standing,
    State,
};
