//! A node's machine on a log that commits at once, and every byte that is allocated for it.

#![allow(dead_code, reason = "each test file uses its part of it")]

use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zoolog_client::{AppendError, Committed, LogCommand, LogEvent, RequestId, SharedLog};
use zoolog_core::batch::{BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::{
    ConnId, Epoch, Gsn, Incarnation, Input, Instant, LaneId, Lsn, Machine, Output, Seq, ShardId, WallMs,
    WriterId,
};
use zoolog_zk::jute::{ConnectRequest, Request};
use zoolog_zk::{Node, NodeConfig};

/// Counts the bytes that are allocated.
struct Counting;

pub static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A log of one writer that commits at once and keeps nothing.
pub struct Loop {
    open: BatchBuilder,
    next: Seq,
    tail: Gsn,
    events: VecDeque<LogEvent>,
}

impl SharedLog for Loop {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        if !self.open.has_room(record.len()) {
            self.seal();
        }
        self.open.push(record);
        Ok((self.next, self.open.count() - 1))
    }
    fn writer(&self) -> WriterId {
        WriterId(1)
    }
    fn pending_batches(&self) -> usize {
        0
    }
    fn has_room(&self) -> bool {
        true
    }
    fn subscribe(&mut self, _: Gsn) {}
    fn read(&mut self, _: Gsn, _: Gsn, _: usize) -> RequestId {
        panic!("everything is delivered")
    }
    fn tail(&mut self) -> RequestId {
        let request = RequestId(self.next.0);
        self.events.push_back(LogEvent::Tail { request, gsn: self.tail });
        request
    }
    fn trim(&mut self, _: Gsn) -> RequestId {
        panic!("nothing is trimmed")
    }
    fn release(&mut self, _: Gsn) {}
    fn base_gsn(&self) -> Gsn {
        Gsn(0)
    }
}

impl Loop {
    fn seal(&mut self) {
        let batch = self.open.finish(BatchKind::Data, self.writer(), Epoch(0), self.next);
        self.next = self.next.next();
        let (first_gsn, take) = (self.tail, batch.count());
        let lane = LaneId::new(ShardId(0), 0);
        let placed = PlacedBatch::place(lane, Incarnation(1), Lsn(first_gsn.0), 0, batch);
        self.tail = first_gsn.plus(u64::from(take));
        let (skip, own, ordered_at) = (0, true, Instant(0));
        let committed = Committed { first_gsn, placed, skip, take, own, ordered_at };
        self.events.push_back(LogEvent::Committed(committed));
    }
}

impl Machine for Loop {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, _: Instant, _: Input<LogCommand>) {}
    fn poll_output(&mut self, _: Instant) -> Option<Output<LogEvent>> {
        if !self.open.is_empty() {
            self.seal();
        }
        self.events.pop_front().map(Output::Event)
    }
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }
}

pub struct World {
    pub node: Node<Loop>,
    pub now: Instant,
    pub sent_bytes: usize,
    /// Whether connections may be closed.
    pub closes: bool,
}

impl World {
    pub fn new() -> Self {
        let now = Instant(1_000_000_000);
        let log = Loop { open: BatchBuilder::new(), next: Seq(0), tail: Gsn(0), events: VecDeque::new() };
        let cfg = NodeConfig { secret: [9; 32], max_connections_per_ip: 0, ..NodeConfig::default() };
        let mut world = Self { node: Node::with_log(cfg, log, now), now, sent_bytes: 0, closes: false };
        world.give(Input::WallClock(WallMs(1_700_000_000_000)));
        world.turn();
        assert!(world.node.is_serving());
        world
    }

    pub fn give(&mut self, input: Input<zoolog_zk::NodeCommand>) {
        self.node.handle(self.now, input);
    }

    pub fn turn(&mut self) {
        while let Some(output) = self.node.poll_output(self.now) {
            match output {
                Output::Send { bytes, .. } => self.sent_bytes += bytes.len(),
                Output::Close { conn } if self.closes => self.give(Input::Closed { conn }),
                Output::Close { conn } => panic!("{conn:?} is closed"),
                _ => {}
            }
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
        self.give(Input::Timer);
        self.turn();
    }

    pub fn request(&mut self, conn: ConnId, xid: i32, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        self.give(Input::Frame { conn, bytes: Bytes::from(bytes) });
    }

    pub fn connect(&mut self, n: u64) -> ConnId {
        let conn = ConnId(n);
        self.give(Input::Accepted { conn, peer: format!("10.0.{}.{}:{}", n / 250, n % 250, 10_000 + n) });
        let mut bytes = Vec::new();
        let ask = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 30_000,
            session: 0,
            password: &[0; 16],
            read_only: Some(false),
        };
        ask.encode(&mut bytes);
        self.give(Input::Frame { conn, bytes: Bytes::from(bytes) });
        conn
    }

    /// Everybody is heard a few times, and has nothing else to do.
    pub fn idle(&mut self, conns: &[ConnId]) {
        for _ in 0..4 {
            for conn in conns {
                self.request(*conn, -2, &Request::Ping);
            }
            self.advance(Duration::from_secs(4));
        }
    }
}
