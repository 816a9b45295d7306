//! How big may things get? Every bound that two parts must agree on, with its unit and its reason.
//! When one fills, the sender is slowed or refused; nothing grows past it.

/// Bytes of one record. A ZooKeeper node's data limit is 1,048,575 bytes, and a Txn adds path and ACL.
pub const RECORD_BYTES_MAX: usize = 2 << 20;

/// Bytes of one batch, headers included. Writers close a batch before it gets there.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// Bytes at which a writer closes a batch though more records wait.
pub const BATCH_BYTES_TARGET: usize = 256 << 10;

/// Records of one batch.
pub const BATCH_RECORDS_MAX: u32 = 1 << 16;

/// Bytes of one frame between our own nodes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Replicas of one shard.
pub const REPLICAS_MAX: usize = 8;

/// Lanes a cut may list.
pub const LANES_MAX: usize = 1 << 16;

/// Batches of one writer that a primary accepts beyond the committed ones; also the window in which it
/// recognises a resent batch.
pub const WRITER_WINDOW: u64 = 1024;

/// Bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 64;

/// Bytes of the text that says where a log goes on that has ended.
pub const SUCCESSOR_BYTES_MAX: usize = 2048;

/// Consumers that may be registered: each holds the trim point back, and one answer lists a few of them.
pub const CONSUMERS_MAX: usize = 1024;

/// Bytes a node lets pile up for a connection before it closes it as unable to keep up.
pub const OUT_BYTES_MAX: usize = 64 << 20;

/// Bytes waiting for a connection above which nothing more is read from it.
pub const OUT_BYTES_PAUSE: usize = 1 << 20;

// A batch with its one largest record, and headers, must fit a batch; a batch with its placement, and
// a message around it, must fit a frame.
const _: () = assert!(RECORD_BYTES_MAX + 1024 <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + 4096 <= FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_TARGET + RECORD_BYTES_MAX + 1024 <= BATCH_BYTES_MAX);
const _: () = assert!(OUT_BYTES_PAUSE < OUT_BYTES_MAX && FRAME_BYTES_MAX <= OUT_BYTES_MAX);
