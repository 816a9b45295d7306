//! What can be set about a log client? Each with its unit, its default and the reason for it.

use crate::Passed;
use std::time::Duration;
use zoolog_core::limits::{BATCH_BYTES_MAX, WRITER_WINDOW};
use zoolog_core::policy::Fetch;
use zoolog_core::{ClusterId, Gsn, Seq};

/// Settings of a [`LogClient`](crate::LogClient).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Whose order it is to be; 0 learns it from the first orderer that answers.
    pub cluster: ClusterId,
    /// Which of the clusters is meant that follow each other in that order; `None` learns it from the first orderer that answers.
    /// Default 0, the first.
    pub generation: Option<u32>,
    /// `ip:port` of the orderers; any that answers leads to the leader.
    pub orderers: Vec<String>,
    /// Under this name (1 to 64 bytes; another is refused by the orderers) the client registers as a consumer
    /// before it asks for anything: the log is not trimmed beyond what it has released. A name that comes back
    /// goes on where it was. `None`, the default: the client holds nothing back, and finds gaps where the log was
    /// trimmed.
    pub consumer: Option<String>,
    /// The name (1 to 64 bytes) under which the writer appends: it takes the name over from whoever had it, whose
    /// appends end then, and may append once [`LogEvent::Opened`](crate::LogEvent::Opened) came. `None`, the default:
    /// a writer that nobody else is.
    pub name: Option<String>,
    /// The name is taken over only if its last record lies just before this position (0: if it has none); else the
    /// writer is lost with [`WriterLost::Conflict`](crate::WriterLost::Conflict), having appended nothing. So two that
    /// read the same and want to go on from there can't both do it. `None`, the default: from wherever it is.
    pub expected_tail: Option<Gsn>,
    /// First number of the writer's batches, for who counts on from another log's. Default 0.
    pub first_seq: Seq,
    /// Where another log has ended that this one goes on from: its orderers are told before they are asked anything, which
    /// changes nothing if they know. Should they know otherwise, the writer is lost with
    /// [`WriterLost::NoSuccessor`](crate::WriterLost::NoSuccessor). `None`, the default: the log is what it is.
    pub succeeds: Option<Gsn>,
    /// Of a [`ClusterLog`](crate::ClusterLog), what is known from an earlier life: the logs that lie behind this one. It begins with the
    /// last of them, and goes back to those before only for what was not left there. Default none.
    pub way: Vec<Passed>,
    /// Closed batches that may wait for their acknowledgement; when they are that many, records gather in
    /// the open batch, so batches grow with load. At most [`WRITER_WINDOW`]. Default 64.
    pub window_batches: usize,
    /// Bytes of closed batches that may wait for their acknowledgement. Default 16 MiB.
    pub window_bytes: usize,
    /// Whether acknowledgements are waited for. If not, they may come some milliseconds late, which spares
    /// everybody wake-ups: for an owner whose subscription shows it its own batches. Those that it has been shown
    /// count as acknowledged, and what lies beyond a quarter of the window asks for prompt answers all the same.
    /// Then `window_batches` is at most half of [`WRITER_WINDOW`]. Default true.
    pub prompt_acks: bool,
    /// Bytes that a replica may push per lane before the subscription has taken them. Raised to twice
    /// [`BATCH_BYTES_MAX`], so that the largest batch always gets through. Default 8 MiB.
    pub subscribe_credit_bytes: u32,
    /// How records come to the subscription. Unless they are streamed, cuts are not followed either: where the log ends
    /// is asked for, and `Progress` tells of it as seldom. Default streamed.
    pub fetch: Fetch,
    /// Between two fetches, if they are batched or deferred. Default 20 ms.
    pub defer: Duration,
    /// Stretches of positions, of a range that is fetched from one shard after the other, of which it is remembered who
    /// doesn't have them. What is more is asked for again. At least 1. Default 200.
    pub location_limit: usize,
    /// Bytes of history that are asked for or wait to be taken, over all shards; of each range that is read.
    /// At least 16 KiB. Default 24 MiB: four questions per shard under way, if there are three.
    pub prefetch_bytes: usize,
    /// Records behind the tail at which a subscription stops reading history and takes pushes. When twice as
    /// many committed runs wait, it goes back to reading. Default 8192.
    pub live_within_records: u64,
    /// How long a committed batch may be missing before it is read from another replica. Default 10 ms.
    pub late_push: Duration,
    /// How long a read, a tail request or a dial may go unanswered before it is tried elsewhere. Default 1 s.
    pub request_timeout: Duration,
    /// How long a range read may make no progress before it ends as unavailable. Default 10 s.
    pub read_patience: Duration,
    /// How long appends or the order may stand still before [`LogEvent::Stalled`](crate::LogEvent::Stalled).
    /// Default 1 s.
    pub stall_after: Duration,
    /// For how long the primary of our lane may acknowledge nothing and be out of reach, its shard being alive, before
    /// the writer fences the lane and goes elsewhere. Default 3 s.
    pub leave_after: Duration,
    /// First and longest pause before a lost connection is dialled again. Default 20 ms to 500 ms.
    pub redial: (Duration, Duration),
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            cluster: ClusterId(0),
            generation: Some(0),
            orderers: Vec::new(),
            consumer: None,
            name: None,
            expected_tail: None,
            first_seq: Seq(0),
            succeeds: None,
            way: Vec::new(),
            window_batches: 64,
            window_bytes: 16 << 20,
            prompt_acks: true,
            subscribe_credit_bytes: 8 << 20,
            fetch: Fetch::Streamed,
            defer: Duration::from_millis(20),
            location_limit: 200,
            prefetch_bytes: 24 << 20,
            live_within_records: 8192,
            late_push: Duration::from_millis(10),
            request_timeout: Duration::from_secs(1),
            read_patience: Duration::from_secs(10),
            stall_after: Duration::from_secs(1),
            leave_after: Duration::from_secs(3),
            redial: (Duration::from_millis(20), Duration::from_millis(500)),
        }
    }
}

impl ClientConfig {
    /// The settings with those that could not work brought into their bounds.
    pub(crate) fn bounded(mut self) -> Self {
        // A primary that is told late what is ordered counts more as pending than we do.
        let window = if self.prompt_acks { WRITER_WINDOW } else { WRITER_WINDOW / 2 };
        self.window_batches = self.window_batches.clamp(1, window as usize);
        self.window_bytes = self.window_bytes.max(1);
        self.subscribe_credit_bytes = self.subscribe_credit_bytes.max(2 * BATCH_BYTES_MAX as u32);
        self.defer = self.defer.max(Duration::from_millis(1));
        self.location_limit = self.location_limit.max(1);
        self.prefetch_bytes = self.prefetch_bytes.max(16 << 10);
        self
    }
}
