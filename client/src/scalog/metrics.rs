//! What has happened so far? Counters, for metrics and tests.

/// What has happened so far, for metrics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Records delivered to the subscriber.
    pub delivered: u64,
    /// Batches delivered whose (writer, seq) had been delivered before: always 0, or the log is broken.
    pub duplicates: u64,
    /// Answers and pushes that were damaged or contradicted what is known.
    pub damaged: u64,
    /// Reads asked again, for whatever reason.
    pub reread: u64,
    /// Committed runs whose batches were not pushed in time.
    pub late: u64,
    /// Push streams given up for another replica's.
    pub resubscribed: u64,
    /// Pushes of streams given up before.
    pub strays: u64,
    /// Times that the subscription fell back to fetching.
    pub fell_back: u64,
    /// Batches that the primary didn't take at first.
    pub refused: u64,
    /// Lanes that the writer left, or began to leave.
    pub left_lanes: u64,
    /// Bytes received that said no more than where records are.
    pub location_bytes: u64,
    /// Cuts or orders that didn't follow what was known.
    pub order_errors: u64,
}
