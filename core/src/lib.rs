//! The vocabulary, formats and arithmetic that every part of Zoolog shares. No sockets, no files, no
//! clocks: those are behind the feature `rt`.
//!
//! # Tour
//! - [`ids`]: what things are called: [`Gsn`], [`Lsn`], [`LaneId`], [`WriterId`], ...
//! - [`time`], [`rng`]: time and chance are arguments, never read from the machine.
//! - [`machine`]: the contract of every protocol part, and the [`Input`]s and [`Output`]s it speaks.
//! - [`batch`]: the records of one writer in one frame; the same bytes on the wire and on disk.
//! - [`cut`]: from committed lane lengths to positions in the total order, and back.
//! - [`view`]: which shards exist, and which replicas serve them.
//! - [`wire`]: every message, in one table, and the frame around it.
//! - [`wal`]: the one write-ahead log, of slots and of orderers.
//! - [`starts`]: which number a start of a slot takes.
//! - [`snapshot`]: the frame around an image of an application's state.
//! - [`limits`], [`config`], [`policy`], [`error`]: bounds with their reasons, settings, choices, failures. [`guard`]: which
//!   panics are survived.
//!
//! # Words
//! A **record** is the opaque bytes one caller appended; a **batch** the records one writer sends in one
//! frame. A **shard** is R **replicas** on R servers. A **lane** is the FIFO sequence of batches whose
//! *primary* is one replica; the others are its *backups*. The **LSN** is a record's index in its lane. A
//! **cut** is a numbered vector lane -> committed length; the **GSN** a record's place in the total order
//! that the cuts define.

pub mod batch;
pub mod config;
pub mod cut;
pub mod error;
pub mod guard;
pub mod ids;
pub mod limits;
pub mod machine;
pub mod policy;
pub mod rng;
#[cfg(feature = "rt")]
pub mod rt;
pub mod snapshot;
pub mod stages;
pub mod starts;
pub mod time;
pub mod view;
pub mod wal;
pub mod wire;

pub use error::WireError;
pub use ids::*;
pub use machine::{ConnId, Input, Machine, Output, Token};
pub use time::{Instant, WallMs};
