//! The test's end of a connection, and how to speak over it.

use super::{CLUSTER, Item, World};
use bytes::Bytes;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, FENCE_SEQ, PlacedBatch};
use zoolog_core::wire::*;
use zoolog_core::*;

pub struct Client {
    pub link: usize,
    pub inbox: Vec<Packet>,
    pub closed: bool,
}

impl Client {
    pub fn new(link: usize) -> Self {
        Self { link, inbox: Vec::new(), closed: false }
    }

    pub fn take(&mut self, item: Item) {
        match item {
            Item::Frame(bytes) => self.inbox.push(decode(bytes).expect("slots send whole frames")),
            Item::Closed => self.closed = true,
            Item::Connected | Item::Accepted => {}
        }
    }

    /// Takes all acknowledgements: (seq, first GSN).
    pub fn acks(&mut self) -> Vec<(Seq, Gsn)> {
        let mut out = Vec::new();
        for p in std::mem::take(&mut self.inbox) {
            match p.message {
                Message::Appended(m) => out.extend(m.acks),
                other => panic!("an acknowledgement was expected, not {other:?}"),
            }
        }
        out
    }

    /// Why it was refused.
    pub fn refused(&self) -> Option<RefusedWhy> {
        self.inbox.iter().find_map(|p| match &p.message {
            Message::Refused(m) => Some(m.why),
            _ => None,
        })
    }

    /// Takes all refusals of batches: (seq, why, expected).
    pub fn append_refusals(&mut self) -> Vec<(Seq, AppendRefusedWhy, Seq)> {
        let refused = |p: Packet| match p.message {
            Message::AppendRefused(m) => Some((m.seq, m.why, m.expected)),
            _ => None,
        };
        std::mem::take(&mut self.inbox).into_iter().filter_map(refused).collect()
    }
}

pub fn hello(role: Role, node: usize) -> Bytes {
    let node = if role == Role::Slot { node as u64 + 1 } else { 0 };
    encode(Hello { role, cluster: CLUSTER, node, slot: 0, incarnation: Incarnation(0) })
}

pub fn lane(shard: u32, index: u8) -> LaneId {
    LaneId::new(ShardId(shard), index)
}

/// Batch `seq` of a writer: its content names both.
pub fn batch(writer: u128, seq: u64, records: u32, bytes: usize) -> Batch {
    let mut b = BatchBuilder::new();
    for i in 0..records {
        let mut record = format!("{writer}:{seq}:{i}:").into_bytes();
        record.resize(record.len().max(bytes), b'.');
        b.push(&record);
    }
    b.finish(BatchKind::Data, WriterId(writer), Epoch(0), Seq(seq))
}

pub fn append(lane: LaneId, batch: &Batch) -> Bytes {
    append_from(lane, 0, batch)
}

/// The writer has nothing before `start` in this lane.
pub fn append_from(lane: LaneId, start: u64, batch: &Batch) -> Bytes {
    encode_with(Append { lane, start: Seq(start), prompt: true }, &[batch.bytes()])
}

/// The fence of a writer.
pub fn fence(lane: LaneId, writer: u128) -> Bytes {
    let mut b = BatchBuilder::new();
    b.push(b"");
    let fence = b.finish(BatchKind::Fence, WriterId(writer), Epoch(0), FENCE_SEQ);
    encode_with(Fence { lane }, &[fence.bytes()])
}

pub fn batches(mut payload: Bytes) -> Vec<PlacedBatch> {
    let mut out = Vec::new();
    while !payload.is_empty() {
        out.push(PlacedBatch::check_next(&mut payload).expect("slots send whole batches"));
    }
    out
}

/// (GSN of its first record, batch).
pub type Placed = (Gsn, PlacedBatch);

impl World {
    /// A client that has said `Hello`.
    pub fn client(&mut self, n: usize) -> usize {
        let c = self.connect(n);
        self.send(c, hello(Role::Client, 0));
        c
    }

    /// Asks one question and takes the answer.
    pub fn ask(&mut self, c: usize, question: Read) -> (ReadIs, Vec<PlacedBatch>) {
        self.send(c, encode(question));
        self.settle();
        let packet = self.clients[c].inbox.pop().expect("an answer");
        let Message::ReadIs(m) = packet.message else {
            panic!("an answer to Read, not {:?}", packet.message)
        };
        let page = batches(packet.payload);
        assert_eq!(page.len(), m.gsns.len());
        (m, page)
    }

    /// Reads a shard's records in `from..to` from a node, page by page, each of at most `max_bytes`.
    pub fn read(
        &mut self,
        n: usize,
        shard: u32,
        from: Gsn,
        to: Gsn,
        max_bytes: u32,
    ) -> (Vec<Placed>, Gsn, ReadEnd) {
        let c = self.client(n);
        let (mut out, mut at, mut pages) = (Vec::new(), from, 0);
        loop {
            pages += 1;
            let (request, shard) = (pages, ShardId(shard));
            let question = Read { request, shard, from: at, to, max_bytes, begun_within: false };
            let (m, page) = self.ask(c, question);
            assert_eq!((m.request, m.from), (pages, at));
            for (&gsn, b) in m.gsns.iter().zip(&page) {
                let end = gsn.plus(u64::from(b.batch.count()));
                assert!(gsn < m.covers && end > at, "batch {gsn}..{end} in an answer for {at}..{}", m.covers);
            }
            // A page that starts inside a batch brings the whole batch again.
            let seen = out.last().map(|(g, _): &Placed| *g);
            out.extend(m.gsns.into_iter().zip(page).filter(|(g, _)| seen.is_none_or(|s| *g > s)));
            if m.end != ReadEnd::More {
                return (out, m.covers, m.end);
            }
            assert!(m.covers > at, "a page that covers nothing");
            at = m.covers;
        }
    }

    /// Asks a node what is in a lane of that writer's batches.
    pub fn resolve(&mut self, n: usize, lane: LaneId, writer: u128, from: Seq) -> Resolved {
        let c = self.client(n);
        let writer = WriterId(writer);
        self.send(c, encode(Resolve { request: 7, lane, writer, epoch: Epoch(0), from }));
        self.settle();
        let packet = self.clients[c].inbox.pop().expect("an answer");
        let Message::Resolved(m) = packet.message else {
            panic!("an answer to Resolve, not {:?}", packet.message)
        };
        assert_eq!((m.request, m.lane, m.writer), (7, lane, writer));
        m
    }

    /// Sends a node a fence of that writer.
    pub fn fence(&mut self, n: usize, lane: LaneId, writer: u128) {
        let c = self.client(n);
        self.send(c, fence(lane, writer));
    }
}
