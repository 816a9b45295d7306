//! The data servers' half of the log: a pure [`Machine`](zoolog_core::machine::Machine) per executor, the
//! [`Slot`], which holds replicas of several shards behind one port and one write-ahead log.
//!
//! # Life of an append
//! 1. A writer's `Append` reaches the slot ([`slot`], `slot/clients.rs`), which hands the checked batch to the
//!    replica of its shard.
//! 2. `replica/append.rs` asks `writers.rs` whether the batch is the writer's next one, a resent one, or not
//!    to be taken; a new one gets its LSNs and its placement, and enters the lane (`lane.rs`).
//! 3. At the end of the turn (`slot/turn.rs`) everything that was taken becomes one `Persist`, and, with no
//!    wait between, one `Replicate` per backup (`replica/replicate.rs`). The backup's slot does the same
//!    with what it receives.
//! 4. When the sync completes, durable lengths move (`replica/report.rs`), and one `Report` goes to the
//!    leader of the orderers (`slot/orderer.rs`).
//! 5. The leader's `CutIs` comes to every replica; `replica/commit.rs` cuts its shard's part out of it,
//!    which gives the records their GSNs, and the writers get their `Appended`.
//! 6. Readers ask by GSN (`replica/read.rs`); subscribers are pushed what is durable, before it is ordered
//!    (`replica/subscribe.rs`). What is no longer in memory is read back through `loads.rs`.
//!
//! # Trimming
//! The leader says up to where nobody needs the log any more. `replica/trim.rs` drops the parts and batches below
//! that from memory, `slot/trim.rs` releases segments that hold nothing else. Reads from below are answered
//! `Trimmed`.
//!
//! # After a start
//! `replica/recover.rs` rebuilds all this from the log. A primary then takes no append before every backup
//! has fenced the streams of its earlier life and said what it holds (`replica/sync.rs`): a lane never
//! shrinks, and no LSN is written twice.
//!
//! # Looked at from outside
//! [`audit`] reads what a stopped slot's log holds, for `zoolog log fsck` and `dump`.

pub mod audit;
mod config;
mod effects;
mod event;
mod lane;
mod loads;
mod marks;
mod replica;
mod sizes;
pub mod slot;
mod stages;
mod writers;

pub use config::{Bounds, SlotConfig, SlotError};
pub use event::SlotEvent;
pub use slot::Slot;
