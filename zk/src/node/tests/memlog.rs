//! A log in memory that several nodes share, with a hand on when it commits and whom it reaches.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use zoolog_client::{AppendError, Committed, LogCommand, LogEvent, ReadEnd, RequestId, SharedLog};
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::wire::OfferAt;
use zoolog_core::{
    Epoch, Gsn, Incarnation, Input, Instant, LaneId, Lsn, Machine, Output, Seq, ShardId, WriterId,
};

/// What all share.
#[derive(Debug, Default)]
pub struct Hub {
    committed: Vec<(Gsn, PlacedBatch)>,
    tail: Gsn,
    /// Sent, not committed.
    queued: VecDeque<Batch>,
    /// While set, only [`Hub::commit`] commits.
    pub hold: bool,
    /// Writers that are cut off: nothing of theirs arrives, and nothing reaches them.
    pub cut: Vec<WriterId>,
    /// Writers to whom nothing is delivered yet, though their questions are answered.
    pub slow: Vec<WriterId>,
    /// While set, no question for the tail is answered.
    pub mute: bool,
    /// Longest record there is room for, if there isn't for all.
    pub room: Option<usize>,
    /// What the next node that asks is told instead of what was committed.
    pub gap: Option<LogEvent>,
    /// Whom that concerns; anybody, if nobody is named.
    pub gap_of: Option<WriterId>,
    /// What those are told who ask for snapshots, if the log knows of any: the trim point, and offers.
    pub offers: Option<(Gsn, Vec<OfferAt>)>,
}

impl Hub {
    /// Commits up to `n` of what was sent, in the order in which it was. Returns how many there were.
    pub fn commit(&mut self, n: usize) -> usize {
        let n = n.min(self.queued.len());
        for batch in self.queued.drain(..n) {
            let lane = LaneId::new(ShardId(0), 0);
            let placed = PlacedBatch::place(lane, Incarnation(1), Lsn(self.tail.0), 0, batch);
            let first = self.tail;
            self.tail = first.plus(u64::from(placed.batch.count()));
            self.committed.push((first, placed));
        }
        n
    }

    pub fn tail(&self) -> Gsn {
        self.tail
    }

    /// All records that were committed, one behind the other.
    pub fn bytes(&self) -> Vec<u8> {
        self.committed.iter().flat_map(|(_, placed)| placed.batch.bytes().to_vec()).collect()
    }
}

/// One node's side of it.
#[derive(Debug)]
pub struct MemLog {
    hub: Rc<RefCell<Hub>>,
    writer: WriterId,
    open: BatchBuilder,
    next: Seq,
    sealed: VecDeque<Batch>,
    /// Batches sent and not seen committed.
    pending: usize,
    /// Batches that may be pending.
    pub window: usize,
    cursor: usize,
    /// Batches that were looked at for acknowledgements.
    acked: usize,
    /// What the owner wanted to have delivered, as it last said.
    pub wanted: Gsn,
    /// How often it wanted all that is new.
    pub refreshed: usize,
    /// Where the subscription begins.
    from: Gsn,
    /// What the owner let go, as it last said.
    pub released: Gsn,
    tails: VecDeque<RequestId>,
    /// The question for snapshots.
    finding: Option<RequestId>,
    /// What the owner offers.
    pub offered: Option<(String, Gsn)>,
    reads: VecDeque<(RequestId, Gsn, Gsn)>,
    /// Whether anything is delivered.
    subscribed: bool,
    requests: u64,
}

impl MemLog {
    pub fn new(hub: Rc<RefCell<Hub>>, writer: u128) -> Self {
        Self {
            hub,
            writer: WriterId(writer),
            open: BatchBuilder::new(),
            next: Seq(0),
            sealed: VecDeque::new(),
            pending: 0,
            window: 1000,
            cursor: 0,
            acked: 0,
            wanted: Gsn(0),
            refreshed: 0,
            from: Gsn(0),
            released: Gsn(0),
            tails: VecDeque::new(),
            finding: None,
            offered: None,
            reads: VecDeque::new(),
            subscribed: false,
            requests: 0,
        }
    }

    fn is_cut(&self) -> bool {
        self.hub.borrow().cut.contains(&self.writer)
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push_back(self.open.finish(BatchKind::Data, self.writer, Epoch(0), self.next));
            self.next = self.next.next();
        }
        if !self.is_cut() {
            let mut hub = self.hub.borrow_mut();
            hub.queued.append(&mut self.sealed);
            if !hub.hold {
                hub.commit(usize::MAX);
            }
        }
    }
}

impl SharedLog for MemLog {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        let starts = self.open.is_empty();
        let room = self.hub.borrow().room;
        if starts && self.pending >= self.window || room.is_some_and(|room| record.len() > room) {
            return Err(AppendError::Full);
        }
        if !self.open.has_room(record.len()) {
            self.seal();
            return self.append(record);
        }
        self.pending += usize::from(starts);
        self.open.push(record);
        Ok((self.next, self.open.count() - 1))
    }
    fn writer(&self) -> WriterId {
        self.writer
    }
    fn pending_batches(&self) -> usize {
        self.pending
    }
    fn has_room(&self) -> bool {
        self.pending < self.window
    }
    fn subscribe(&mut self, from: Gsn) {
        (self.from, self.subscribed) = (from, true);
        let hub = self.hub.borrow();
        let end = |(first, placed): &(Gsn, PlacedBatch)| first.plus(u64::from(placed.batch.count()));
        self.cursor = hub.committed.iter().take_while(|c| end(c) <= from).count();
    }
    /// All of the range at once, whatever the bytes.
    fn read(&mut self, from: Gsn, to: Gsn, _: usize) -> RequestId {
        self.requests += 1;
        self.reads.push_back((RequestId(self.requests), from, to));
        RequestId(self.requests)
    }
    fn tail(&mut self) -> RequestId {
        self.requests += 1;
        self.tails.push_back(RequestId(self.requests));
        RequestId(self.requests)
    }
    fn trim(&mut self, _: Gsn) -> RequestId {
        panic!("nodes don't trim")
    }
    fn release(&mut self, upto: Gsn) {
        self.released = upto;
    }
    fn want(&mut self, upto: Gsn) {
        self.wanted = self.wanted.max(upto);
    }
    fn refresh(&mut self) {
        self.refreshed += 1;
    }
    fn gives_offers(&self) -> bool {
        self.hub.borrow().offers.is_some()
    }
    fn offer(&mut self, addr: &str, gsn: Gsn) {
        self.offered = Some((addr.to_string(), gsn));
    }
    fn find_offers(&mut self) -> Option<RequestId> {
        self.requests += 1;
        self.finding = Some(RequestId(self.requests));
        self.finding
    }
    fn base_gsn(&self) -> Gsn {
        Gsn(0)
    }
}

impl Machine for MemLog {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, _: Instant, _: Input<LogCommand>) {}

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        self.seal();
        if self.is_cut() {
            return None;
        }
        let ours = self.hub.borrow().gap_of.is_none_or(|writer| writer == self.writer);
        if let Some(gap) = self.hub.borrow_mut().gap.take_if(|_| ours) {
            return Some(Output::Event(gap));
        }
        if let (Some(request), Some((trim, offers))) = (self.finding, self.hub.borrow().offers.clone()) {
            self.finding = None;
            return Some(Output::Event(LogEvent::Offers { request, trim, offers }));
        }
        let hub = self.hub.borrow();
        while let Some((first_gsn, placed)) = hub.committed.get(self.acked) {
            self.acked += 1;
            if placed.batch.writer() == self.writer {
                let (seq, count) = (placed.batch.seq(), placed.batch.count());
                return Some(Output::Event(LogEvent::Appended { seq, first_gsn: *first_gsn, count }));
            }
        }
        let slow = hub.slow.contains(&self.writer);
        if let Some((first_gsn, placed)) = hub.committed.get(self.cursor).filter(|_| !slow && self.subscribed)
        {
            self.cursor += 1;
            let own = placed.batch.writer() == self.writer;
            // After a new subscription it may come once more.
            self.pending = self.pending.saturating_sub(usize::from(own));
            let skip = self.from.0.saturating_sub(first_gsn.0) as u32;
            let take = placed.batch.count() - skip;
            let (first_gsn, placed) = (*first_gsn, placed.clone());
            let committed = Committed { first_gsn, placed, skip, take, own, ordered_at: now };
            return Some(Output::Event(LogEvent::Committed(committed)));
        }
        if let Some((request, from, to)) = self.reads.pop_front() {
            let within = |(first, placed): &&(Gsn, PlacedBatch)| {
                *first < to && first.plus(u64::from(placed.batch.count())) > from
            };
            let part = |(first, placed): &(Gsn, PlacedBatch)| {
                let count = u64::from(placed.batch.count());
                let (skip, end) = (from.0.saturating_sub(first.0), to.0.min(first.0 + count) - first.0);
                Committed {
                    first_gsn: *first,
                    placed: placed.clone(),
                    skip: skip as u32,
                    take: (end - skip) as u32,
                    own: false,
                    ordered_at: now,
                }
            };
            let batches = hub.committed.iter().filter(within).map(part).collect();
            let (covers, end) = (to.min(hub.tail), ReadEnd::Complete);
            return Some(Output::Event(LogEvent::ReadDone { request, batches, covers, end }));
        }
        // Answers lag behind while commits are held back, so that syncs have something to wait for.
        if hub.mute || hub.hold && !hub.queued.is_empty() {
            return None;
        }
        let request = self.tails.pop_front()?;
        Some(Output::Event(LogEvent::Tail { request, gsn: hub.tail }))
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }
}
