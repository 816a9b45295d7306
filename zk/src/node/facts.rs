//! What does a node know of its surroundings? What its owner tells it, for whoever asks; nothing of it decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a node calls itself to tools that expect one server to lead and the others to follow. All take reads and writes
/// alike: it is a name, and nothing rests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its log is its own: there are no others.
    Standalone,
    /// Of all that are there it is the one with the lowest number.
    Leader,
    /// It is another one, or nobody has told yet who is there.
    Follower,
}

impl Mode {
    /// As in `server_state`.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
        }
    }
}

/// What doesn't change while it runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its client port.
    pub client_port: u16,
    /// Where its snapshots are.
    pub data_dir: String,
    /// Lines of `envi`: keys and values.
    pub environment: Vec<(String, String)>,
    /// Whether its log is in its own process, and nobody else's.
    pub alone: bool,
    /// What changes.
    pub gauges: Arc<Gauges>,
}

impl Facts {
    /// What it calls itself now.
    pub fn mode(&self) -> Mode {
        match self.alone {
            true => Mode::Standalone,
            false if self.gauges.leads.load(Ordering::Relaxed) => Mode::Leader,
            false => Mode::Follower,
        }
    }
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
    /// ZooKeeper nodes that the service counts on, itself included; 0 as long as nobody told.
    pub nodes: AtomicU64,
    /// Those of them that are there.
    pub nodes_here: AtomicU64,
    /// Number of the first that is.
    pub first: AtomicU64,
    /// Whether that is this one,
    pub leads: AtomicBool,
    /// and for how many milliseconds it has been.
    pub leads_for_ms: AtomicU64,
}

impl Gauges {
    /// One of them.
    pub fn get(gauge: &AtomicU64) -> u64 {
        gauge.load(Ordering::Relaxed)
    }
}
