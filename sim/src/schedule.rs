//! What happens next? The earliest event; among events of one time, whichever the seed says.

use crate::network::LinkId;
use crate::options::Fault;
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wire::SnapshotAt;
use zoolog_core::{Gsn, Instant, Token};

/// A simulated process, by its place in the cluster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Number of a node's start; events of an earlier life are void.
pub type Life = u64;

/// What can be due.
#[derive(Debug)]
pub enum Event {
    /// A node works off its inbox.
    Turn(NodeId, Life),
    /// A node's timer may have passed.
    Timer(NodeId, Life),
    /// A node looks at its wall clock.
    Wall(NodeId, Life),
    /// A node that was down starts.
    Start(NodeId),
    /// A node has read its disk and written its first block: its machine begins.
    Serve(NodeId, Life),
    /// The group in flight is durable.
    Synced(NodeId, Life),
    /// A fresh segment is zeroed and synced.
    SegmentReady(NodeId, Life, (u32, u32)),
    /// The disk was idle for a while.
    DiskIdle(NodeId, Life),
    /// A record was read back.
    Loaded(NodeId, Life, Token, Result<Bytes, String>),
    /// A piece of a segment was read.
    SegmentRead(NodeId, Life, Token, Result<(Bytes, u32), String>),
    /// A piece of a snapshot was saved, or was not.
    SnapshotSaved(NodeId, Life, Gsn, bool, Result<(), String>),
    /// A snapshot to be given to others was looked for.
    SnapshotFound(NodeId, Life, Option<SnapshotAt>),
    /// A piece of one was read.
    SnapshotRead(NodeId, Life, Token, Result<Bytes, String>),
    /// A connection attempt reaches its target.
    DialArrives(LinkId),
    /// Something reaches an end of a link.
    Arrives(LinkId, usize, Carried),
    /// The weather changes.
    Fault(Fault),
}

/// What travels over a link.
#[derive(Clone, Debug)]
pub enum Carried {
    /// The connection attempt was answered.
    Answer,
    /// Bytes, cut wherever the network liked.
    Bytes(Bytes),
    /// The other side closed in an orderly way: comes behind its bytes.
    Fin,
    /// The connection broke: overtakes bytes.
    Reset,
    /// A partition ended: what it held back may go on, in order.
    Release,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    tie: u64,
    nth: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.tie, self.nth).cmp(&(other.at, other.tie, other.nth))
    }
}

/// Simulated time and everything that is due in it.
#[derive(Debug)]
pub struct Schedule {
    now: Instant,
    heap: BinaryHeap<Reverse<Entry>>,
    ties: Rng,
    pushed: u64,
}

impl Schedule {
    /// An empty one, at time 0.
    pub fn new(seed: u64) -> Self {
        Self { now: Instant(0), heap: BinaryHeap::new(), ties: Rng::new(seed, "ties"), pushed: 0 }
    }

    /// Simulated time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// `event` happens at `at`, or now if that is past.
    pub fn at(&mut self, at: Instant, event: Event) {
        self.pushed += 1;
        let entry = Entry { at: at.max(self.now), tie: self.ties.next_u64(), nth: self.pushed, event };
        self.heap.push(Reverse(entry));
    }

    /// `event` happens `delay` from now.
    pub fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Moves time to the next event and returns it, unless it lies past `until`: then time moves there.
    pub fn next(&mut self, until: Instant) -> Option<Event> {
        match self.heap.peek() {
            Some(Reverse(entry)) if entry.at <= until => {
                let Reverse(entry) = self.heap.pop().expect("peeked");
                assert!(entry.at >= self.now, "time runs back from {:?} to {:?}", self.now, entry.at);
                self.now = entry.at;
                Some(entry.event)
            }
            _ => {
                self.now = self.now.max(until);
                None
            }
        }
    }

    /// How many events were ever due: a measure of work.
    pub fn events(&self) -> u64 {
        self.pushed
    }
}
