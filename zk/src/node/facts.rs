//! What does a node know of its surroundings? What its owner tells it, for whoever asks; nothing of it decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What doesn't change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its client port.
    pub client_port: u16,
    /// Where its snapshots are.
    pub data_dir: String,
    /// Lines of `envi`: keys and values.
    pub environment: Vec<(String, String)>,
    /// What changes.
    pub gauges: Arc<Gauges>,
}

/// What its owner measures now and then.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Bytes of its files.
    pub data_dir_bytes: AtomicU64,
    /// Files that its process has open.
    pub open_files: AtomicU64,
    /// Files that it may have open.
    pub max_files: AtomicU64,
}

impl Gauges {
    /// One of them.
    pub fn get(gauge: &AtomicU64) -> u64 {
        gauge.load(Ordering::Relaxed)
    }
}
