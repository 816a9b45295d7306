//! What do bytes cost? Batches, frames, the log's groups, and the arithmetic of cuts.

use crate::{ROUNDS, Scenario, meter};
use bytes::Bytes;
use std::hint::black_box;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::cut::{Cut, CutLane, Order, ShardHistory};
use zoolog_core::wal::{MemoryDisk, OnDamage, WalConfig, WalRecord, recover};
use zoolog_core::wire::{
    self, Append, Appended, CutIs, Grown, Message, Push, Replicate, Report, ShardReport,
};
use zoolog_core::{
    CutNumber, Epoch, Gsn, Incarnation, LaneId, Lsn, Seq, ServerId, ShardId, SlotId, Token, ViewNumber,
    WriterId,
};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "batch/build", what: "64 records of 128 bytes become a batch", run: build },
    Scenario {
        name: "batch/check",
        what: "a batch of 64 records of 128 bytes is checked and its records walked",
        run: check,
    },
    Scenario { name: "batch/place", what: "a batch gets its place in a lane", run: place },
    Scenario {
        name: "wire/append",
        what: "Append of one record of 128 bytes: encode and decode",
        run: || both(append()),
    },
    Scenario {
        name: "wire/replicate",
        what: "Replicate of one such batch: encode and decode",
        run: || both(replicate()),
    },
    Scenario {
        name: "wire/report",
        what: "Report of 2 shards of 2 lanes: encode and decode",
        run: || both(report()),
    },
    Scenario { name: "wire/cut", what: "CutIs of 6 lanes: encode and decode", run: || both(cut_is()) },
    Scenario {
        name: "wire/grown",
        what: "the same cut as Grown: encode, decode, and the cut of it",
        run: grown,
    },
    Scenario { name: "wire/push", what: "Push of one batch: encode and decode", run: || both(push()) },
    Scenario {
        name: "wire/appended",
        what: "Appended of one batch: encode and decode",
        run: || both(appended()),
    },
    Scenario {
        name: "wal/group-64k",
        what: "a group of 64 KiB: append of 64 records of 1 KiB, plan, fill, completion",
        run: || group(64, 1024),
    },
    Scenario { name: "wal/group-1", what: "a group of one record of 256 bytes", run: || group(1, 256) },
    Scenario { name: "cut/order", what: "a follower takes a cut of 6 lanes", run: order },
    Scenario {
        name: "cut/shard",
        what: "a replica takes its part of a cut of 6 lanes and finds a GSN in it",
        run: shard,
    },
];

fn lane(i: usize) -> LaneId {
    LaneId::new(ShardId(i as u32 / 2 + 1), (i % 2) as u8)
}

fn batch(records: usize, seq: u64) -> Batch {
    let mut builder = BatchBuilder::new();
    (0..records).for_each(|i| builder.push(&[i as u8; 128]));
    builder.finish(BatchKind::Data, WriterId(7), Epoch(0), Seq(seq))
}

fn placed(records: usize) -> PlacedBatch {
    PlacedBatch::place(lane(0), Incarnation(1), Lsn(0), 0, batch(records, 0))
}

/// Runs `work` to warm up, then counted.
fn repeat(mut work: impl FnMut(usize)) -> usize {
    (0..ROUNDS).for_each(&mut work);
    meter::run(true, || (ROUNDS..2 * ROUNDS).for_each(work));
    ROUNDS
}

fn build() -> usize {
    let mut builder = BatchBuilder::new();
    repeat(|i| {
        (0..64u8).for_each(|r| builder.push(&[r; 128]));
        black_box(builder.finish(BatchKind::Data, WriterId(7), Epoch(0), Seq(i as u64)));
    })
}

fn check() -> usize {
    let bytes = batch(64, 0).bytes().clone();
    repeat(|_| {
        let batch = Batch::check(bytes.clone()).expect("a batch");
        batch.records().for_each(|r| drop(black_box(r)));
    })
}

fn place() -> usize {
    let batch = batch(1, 0);
    repeat(|i| {
        black_box(PlacedBatch::place(lane(0), Incarnation(1), Lsn(i as u64), i as u32, batch.clone()));
    })
}

fn both((message, payload): (Message, Vec<Bytes>)) -> usize {
    let parts: Vec<&[u8]> = payload.iter().map(|p| &p[..]).collect();
    repeat(|_| {
        let frame = wire::encode_with(message.clone(), &parts);
        black_box(wire::decode(frame).expect("our own frame"));
    })
}

fn append() -> (Message, Vec<Bytes>) {
    (Append { lane: lane(0), start: Seq(0), prompt: true }.into(), vec![batch(1, 0).bytes().clone()])
}

fn placed_parts() -> Vec<Bytes> {
    let placed = placed(1);
    vec![Bytes::copy_from_slice(&placed.placement.encode()), placed.batch.bytes().clone()]
}

fn replicate() -> (Message, Vec<Bytes>) {
    (Replicate { lane: lane(0), incarnation: Incarnation(1), stream: 1 }.into(), placed_parts())
}

fn push() -> (Message, Vec<Bytes>) {
    (Push { lane: lane(0) }.into(), placed_parts())
}

fn appended() -> (Message, Vec<Bytes>) {
    (Appended { writer: WriterId(7), acks: vec![(Seq(1), Gsn(1))] }.into(), Vec::new())
}

fn report() -> (Message, Vec<Bytes>) {
    let shard = |n| ShardReport {
        shard: ShardId(n),
        accepted: vec![11, 12],
        durable: vec![10, 12],
        part: CutNumber(9),
        serving: true,
    };
    let slot = SlotId { server: ServerId(1), index: 0 };
    (
        Report {
            slot,
            incarnation: Incarnation(1),
            cuts: wire::CutsWanted::Own,
            shards: vec![shard(1), shard(2)],
        }
        .into(),
        Vec::new(),
    )
}

/// A cut by which each of 6 lanes, of `len` records before, grows by one.
fn cut(number: u64, len: u64) -> Cut {
    let lanes = (0..6).map(|i| CutLane { lane: lane(i), from: len, to: len + 1 }).collect();
    Cut { number: CutNumber(number), base: Gsn(6 * len), view: ViewNumber(1), lanes }
}

fn cut_is() -> (Message, Vec<Bytes>) {
    (CutIs { cut: cut(1, 0) }.into(), Vec::new())
}

fn grown() -> usize {
    let (cut, order) = (cut(1, 0), Order::default());
    repeat(|_| {
        let frame = wire::encode(Grown::of(&cut).expect("it fits"));
        let Message::Grown(grown) = wire::decode(frame).expect("our own frame").message else {
            panic!("another message");
        };
        assert_eq!(grown.behind(&order, ViewNumber(1)).as_ref(), Ok(&cut));
    })
}

fn order() -> usize {
    let cuts: Vec<Cut> = (0..2 * ROUNDS as u64).map(|i| cut(i + 1, i)).collect();
    let mut order = Order::default();
    repeat(|i| order.apply(&cuts[i]).expect("the next cut"))
}

fn shard() -> usize {
    let cuts: Vec<Cut> = (0..2 * ROUNDS as u64).map(|i| cut(i + 1, i)).collect();
    let (mut history, id) = (ShardHistory::default(), ShardId(2));
    repeat(|i| {
        let part = cuts[i].part(id, &[i as u64, i as u64]).expect("the next cut").expect("it has our lanes");
        history.push(part).expect("the next part");
        black_box(history.gsn(id, 1, Lsn(i as u64)));
    })
}

fn group(records: usize, bytes: usize) -> usize {
    let mut cfg = WalConfig::new(crate::net::CLUSTER, 1, OnDamage::Refuse);
    (cfg.first_segment_bytes, cfg.segment_bytes) = (1 << 30, 1 << 30);
    let (_, mut wal) = recover(&MemoryDisk::new(), &cfg).expect("a new log");
    let mut buffer = vec![0; 128 << 10];
    let data = Bytes::from(vec![7u8; bytes]);
    let record = |i: usize| WalRecord {
        kind: 1,
        in_index: false,
        aux: 0,
        key1: i as u64,
        key2: 0,
        data: vec![data.clone()],
    };
    let mut appends: Vec<Vec<WalRecord>> = vec![(0..records).map(record).collect(); 2 * ROUNDS];
    let mut write = |i: usize, records: Option<Vec<WalRecord>>| {
        if let Some(records) = records {
            wal.append(Token(i as u64), records);
        }
        while let Some((number, bytes)) = wal.wants_segment() {
            wal.segment_ready(number, bytes);
        }
        let plan = wal.group().expect("a group: there is work");
        wal.fill(&plan, &mut buffer[..plan.len]);
        black_box(wal.completed(plan));
    };
    write(0, None); // the log's own first block
    repeat(|i| write(i + 1, appends.pop()))
}
