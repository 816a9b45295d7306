//! Would the checkers notice? Each is shown a small history that breaks its promise, and its honest twin.

use bytes::Bytes;
use zoolog_core::batch::{BatchBuilder, BatchKind, FENCE_SEQ, PlacedBatch, first_seq};
use zoolog_core::cut::{Cut, CutLane};
use zoolog_core::view::{Final, Rebuild, ReplicaView, ShardState, ShardView, View};
use zoolog_core::wire::{
    self, Append, Appended, Consumer, ConsumerIs, CutIs, CutsWanted, Fence, OrderIs, ReadEnd, ReadIs, Report,
    ShardReport, TrimIs, ViewIs,
};
use zoolog_core::{
    ClusterId, CutNumber, Epoch, Gsn, Incarnation, Instant, LaneId, Lsn, Seq, ServerId, ShardId, SlotId,
    ViewNumber, WriterId,
};
use zoolog_sim::check::Checks;
use zoolog_sim::observe::{Observation, ZkCall, ZkFact, ZkLook, ZkReply, ZkStat};
use zoolog_sim::options::Options;
use zoolog_sim::schedule::NodeId;

const LANE: LaneId = LaneId::new(ShardId(1), 0);
const WRITER: WriterId = WriterId(9);

fn placed(seq: u64, first_lsn: u64, records: &[&[u8]]) -> PlacedBatch {
    let mut b = BatchBuilder::new();
    records.iter().for_each(|r| b.push(r));
    let batch = b.finish(BatchKind::Data, WRITER, Epoch(0), Seq(seq));
    PlacedBatch::place(LANE, Incarnation(1), Lsn(first_lsn), 0, batch)
}

/// The first batch of an opening, a record.
fn placed_in(epoch: Epoch, first_lsn: u64) -> PlacedBatch {
    let mut b = BatchBuilder::new();
    b.push(b"r");
    let batch = b.finish(BatchKind::Data, WRITER, epoch, first_seq(epoch));
    PlacedBatch::place(LANE, Incarnation(1), Lsn(first_lsn), 0, batch)
}

/// Of another writer, its first batch.
fn placed_by(writer: WriterId, first_lsn: u64, records: &[&[u8]]) -> PlacedBatch {
    let mut b = BatchBuilder::new();
    records.iter().for_each(|r| b.push(r));
    let batch = b.finish(BatchKind::Data, writer, Epoch(0), Seq(0));
    PlacedBatch::place(LANE, Incarnation(1), Lsn(first_lsn), 0, batch)
}

fn cut(number: u64, base: u64, from: u64, to: u64) -> Cut {
    let lanes = vec![CutLane { lane: LANE, from, to }];
    Cut { number: CutNumber(number), base: Gsn(base), view: ViewNumber(1), lanes }
}

struct History(Checks);

impl History {
    fn new() -> Self {
        Self(Checks::new(&Options::calm(1)))
    }
    fn sent(&mut self, bytes: &Bytes) -> Result<(), &'static str> {
        self.0.sent(Instant(5), NodeId(0), NodeId(7), bytes).map_err(|v| v.promise)
    }
    /// A client says as a consumer how far it is, and is told where it is.
    fn consumer(&mut self, node: usize, upto: u64, at: u64, trim: u64) -> Result<(), &'static str> {
        let say = wire::encode(Consumer { request: 1, name: "c".into(), upto: Gsn(upto) });
        let answer = wire::encode(ConsumerIs { request: 1, upto: Some(Gsn(at)), trim: Gsn(trim) });
        self.0.sent(Instant(5), NodeId(node), NodeId(0), &say).map_err(|v| v.promise)?;
        self.0.sent(Instant(5), NodeId(0), NodeId(node), &answer).map_err(|v| v.promise)
    }
    fn append(&mut self, p: &PlacedBatch) -> Result<(), &'static str> {
        self.sent(&wire::encode_with(Append { lane: LANE, start: Seq(0), prompt: true }, &[p.batch.bytes()]))
    }
    fn ack(&mut self, seq: u64, gsn: u64) -> Result<(), &'static str> {
        self.sent(&wire::encode(Appended { writer: WRITER, acks: vec![(Seq(seq), Gsn(gsn))] }))
    }
    fn cut(&mut self, cut: Cut) -> Result<(), &'static str> {
        self.sent(&wire::encode(CutIs { cut }))
    }
    fn seen(&mut self, node: usize, seen: Observation) -> Result<(), &'static str> {
        self.0.seen(Instant(9), NodeId(node), "a reader", &seen).map_err(|v| v.promise)
    }
    fn read(&mut self, node: usize, first: u64, placed: &PlacedBatch) -> Result<(), &'static str> {
        let (first_gsn, take) = (Gsn(first), placed.batch.count());
        self.seen(node, Observation::Delivered { first_gsn, placed: placed.clone(), skip: 0, take })
    }
    fn subscribe(&mut self, node: usize) {
        self.seen(node, Observation::Subscribed { from: Gsn(0) }).unwrap();
    }
    fn zk(&mut self, session: i64, asked: u64, call: ZkCall, reply: ZkReply) -> Result<(), &'static str> {
        self.seen(0, Observation::Zk(ZkFact { client: 1, session, asked: Instant(asked), call, reply }))
    }
}

#[test]
fn an_honest_history_passes() {
    let mut h = History::new();
    let (a, b) = (placed(0, 0, &[b"one", b"two"]), placed(1, 2, &[b"three"]));
    h.append(&a).unwrap();
    h.append(&b).unwrap();
    h.append(&a).unwrap();
    h.cut(cut(1, 0, 0, 2)).unwrap();
    h.cut(cut(2, 2, 2, 3)).unwrap();
    h.ack(0, 0).unwrap();
    for node in 0..2 {
        h.subscribe(node);
        h.read(node, 0, &a).unwrap();
        h.read(node, 2, &b).unwrap();
    }
    h.0.finally(Gsn(3)).unwrap();
}

#[test]
fn two_records_at_one_place_are_noticed() {
    let mut h = History::new();
    let (a, b) = (placed(0, 0, &[b"one"]), placed(0, 0, &[b"two"]));
    h.append(&a).unwrap();
    h.subscribe(0);
    h.subscribe(1);
    h.read(0, 0, &a).unwrap();
    assert_eq!(h.append(&b), Err("LOG-4"), "other bytes under one number");
    assert_eq!(h.read(1, 0, &b), Err("LOG-4"));
}

#[test]
fn a_hole_and_a_repetition_are_noticed() {
    let mut h = History::new();
    let (a, b) = (placed(0, 0, &[b"one"]), placed(1, 1, &[b"two"]));
    h.append(&a).unwrap();
    h.append(&b).unwrap();
    h.subscribe(0);
    assert_eq!(h.read(0, 1, &b), Err("LOG-1"));
    h.read(0, 0, &a).unwrap();
    assert_eq!(h.read(0, 0, &a), Err("LOG-1"));
    assert!(h.0.finally(Gsn(2)).is_err(), "GSN 1 was never read");
}

#[test]
fn a_duplicate_in_the_log_is_noticed() {
    let mut h = History::new();
    let (a, again) = (placed(0, 0, &[b"one"]), placed(0, 1, &[b"one"]));
    h.append(&a).unwrap();
    h.subscribe(0);
    h.read(0, 0, &a).unwrap();
    assert_eq!(h.read(0, 1, &again), Err("LOG-3"));
}

#[test]
fn a_lost_and_a_moved_acknowledgement_are_noticed() {
    let mut h = History::new();
    let a = placed(0, 0, &[b"one"]);
    h.append(&a).unwrap();
    h.ack(0, 0).unwrap();
    assert_eq!(h.0.finally(Gsn(0)).unwrap_err().promise, "LOG-2");
    assert_eq!(h.ack(0, 4), Err("LOG-2"));
}

#[test]
fn a_record_nobody_sent_is_noticed() {
    let mut h = History::new();
    h.subscribe(0);
    assert_eq!(h.read(0, 0, &placed(0, 0, &[b"one"])), Err("LOG-4"));
}

#[test]
fn cuts_that_contradict_each_other_are_noticed() {
    let mut h = History::new();
    h.cut(cut(1, 0, 0, 2)).unwrap();
    assert_eq!(h.cut(cut(1, 0, 0, 3)), Err("LOG-1"));
    assert_eq!(h.cut(cut(2, 3, 2, 3)), Err("LOG-1"), "a GSN is left out");
    h.cut(cut(3, 5, 4, 5)).unwrap();
    assert_eq!(h.cut(cut(2, 2, 2, 6)), Err("LOG-1"), "overlaps the next but one");
}

/// What a leader says of the order counts as a cut does, and must fit them.
#[test]
fn an_order_that_fits_no_cut_is_noticed() {
    let order = |number, tail| {
        wire::encode(OrderIs {
            request: 1,
            cluster: ClusterId(1),
            generation: 0,
            number: CutNumber(number),
            tail: Gsn(tail),
            view: View { number: ViewNumber(1), shards: Vec::new() },
            lanes: Vec::new(),
        })
    };
    let mut h = History::new();
    h.cut(cut(1, 0, 0, 2)).unwrap();
    assert_eq!(h.sent(&order(1, 3)), Err("LOG-1"), "the cut ends elsewhere");
    let mut h = History::new();
    h.cut(cut(1, 0, 0, 2)).unwrap();
    h.sent(&order(1, 2)).unwrap();
    h.sent(&order(4, 9)).unwrap();
    assert_eq!(h.0.cuts.end(), Gsn(9), "nobody was told of the cuts between");
    assert_eq!(h.cut(cut(5, 8, 7, 9)), Err("LOG-1"), "begins before the order's end");
    let mut h = History::new();
    h.sent(&order(4, 9)).unwrap();
    assert_eq!(h.sent(&order(3, 9)), Err("LOG-1"), "a cut that adds nothing");
}

#[test]
fn a_record_where_no_cut_put_it_is_noticed() {
    let mut h = History::new();
    let (a, b) = (placed(0, 0, &[b"one"]), placed(1, 5, &[b"two"]));
    h.append(&a).unwrap();
    h.append(&b).unwrap();
    h.cut(cut(1, 0, 0, 2)).unwrap();
    h.subscribe(0);
    h.read(0, 0, &a).unwrap();
    assert_eq!(h.read(0, 1, &b), Err("LOG-1"));
}

#[test]
fn trimming_what_a_consumer_needs_is_noticed() {
    let trim = |gsn| wire::encode(TrimIs { gsn: Gsn(gsn) });
    let mut h = History::new();
    assert_eq!(h.sent(&trim(1)), Err("LOG-6"), "nobody has released anything");
    for (node, upto, at) in [(1, 50, 50), (2, 30, 30), (1, 20, 50)] {
        h.consumer(node, upto, at, 0).unwrap();
    }
    h.sent(&trim(30)).unwrap();
    assert_eq!(h.sent(&trim(31)), Err("LOG-6"));
    assert_eq!(h.consumer(3, 0, 30, 31), Err("LOG-6"));
    h.consumer(4, 0, 30, 30).unwrap();
    h.consumer(2, 40, 40, 30).unwrap();
    assert_eq!(h.sent(&trim(35)), Err("LOG-6"), "the latecomer counts from where it begins");
    let (from, covers, end) = (Gsn(1), Gsn(40), ReadEnd::Trimmed);
    let read = ReadIs { request: 1, shard: ShardId(1), from, covers, end, gsns: vec![] };
    assert_eq!(h.sent(&wire::encode(read)), Err("LOG-6"), "a replica says more than was decided");
}

#[test]
fn a_gap_that_hides_records_is_noticed() {
    let gap = |from, until| Observation::Gap { from: Gsn(from), until: Gsn(until) };
    let mut h = History::new();
    h.consumer(1, 30, 30, 0).unwrap();
    h.sent(&wire::encode(TrimIs { gsn: Gsn(20) })).unwrap();
    h.subscribe(2);
    assert_eq!(h.seen(2, gap(0, 25)), Err("LOG-6"), "beyond what is trimmed");
    assert_eq!(h.seen(2, gap(5, 20)), Err("LOG-1"), "from where it was not");
    assert_eq!(h.seen(2, gap(0, 0)), Err("LOG-6"), "no gap at all");
    h.seen(2, gap(0, 20)).unwrap();
}

/// What an opening of a name is told: the tail of the openings before it, neither more nor less, whenever that is read.
#[test]
fn an_opening_that_is_told_another_tail_is_noticed() {
    let opened = |epoch, tail: Option<u64>| Observation::Opened {
        writer: WRITER,
        epoch: Epoch(epoch),
        tail: tail.map(Gsn),
    };
    // The records at 0 and 1 are of opening 0, and read before or after somebody took the name.
    for read_first in [true, false] {
        for tail in [None, Some(0), Some(1), Some(2), Some(3)] {
            let mut h = History::new();
            let (p, rest) = (placed(0, 0, &[b"a", b"b"]), placed_by(WriterId(8), 2, &[b"c", b"d"]));
            for p in [&p, &rest] {
                h.append(p).unwrap();
            }
            h.cut(cut(1, 0, 0, 4)).unwrap();
            h.subscribe(1);
            let mut said = Ok(());
            for step in [read_first, !read_first] {
                if step {
                    h.read(1, 0, &p).unwrap();
                    h.read(1, 2, &rest).unwrap();
                } else {
                    said = h.seen(2, opened(1, tail));
                }
            }
            let said = said.and_then(|()| h.0.finally(Gsn(4)).map_err(|v| v.promise));
            assert_eq!(said, if tail == Some(2) { Ok(()) } else { Err("LOG-8") }, "{tail:?} {read_first}");
        }
    }
    // Whoever is told the tail of an opening after its own has appended nothing, and never does.
    for (who, said) in [(0, Ok(())), (1, Err("LOG-8"))] {
        let mut h = History::new();
        let (first, next) = (placed_in(Epoch(1), 0), placed_in(Epoch(2), 1));
        for p in [&first, &next] {
            h.append(p).unwrap();
        }
        h.cut(cut(1, 0, 0, 2)).unwrap();
        h.subscribe(1);
        h.read(1, 0, &first).unwrap();
        h.read(1, 1, &next).unwrap();
        let told = h.seen(2, opened(who, Some(2)));
        assert_eq!(told.and_then(|()| h.0.finally(Gsn(2)).map_err(|v| v.promise)), said, "{who}");
    }
    let mut h = History::new();
    assert_eq!(h.seen(2, opened(1, Some(0))), Ok(()));
    assert_eq!(h.seen(2, opened(2, Some(1))), Err("LOG-8"), "nothing is ordered yet");
}

#[test]
fn a_tail_before_what_was_acknowledged_is_noticed() {
    let mut h = History::new();
    h.append(&placed(0, 0, &[b"one", b"two"])).unwrap();
    h.ack(0, 0).unwrap();
    h.seen(0, Observation::Tail { asked: Instant(5), gsn: Gsn(0) }).unwrap();
    assert_eq!(h.seen(0, Observation::Tail { asked: Instant(6), gsn: Gsn(1) }), Err("LOG-1"));
}

#[test]
fn states_that_differ_at_one_position_are_noticed() {
    let mut h = History::new();
    h.seen(0, Observation::State { applied: Gsn(4), hash: 1 }).unwrap();
    h.seen(1, Observation::State { applied: Gsn(4), hash: 1 }).unwrap();
    assert_eq!(h.seen(2, Observation::State { applied: Gsn(4), hash: 2 }), Err("ZK-5"));
}

fn set(value: &str) -> ZkCall {
    ZkCall::Set { path: "/r0".into(), value: value.into(), version: -1 }
}

fn ok(zxid: i64, version: i32, data: Option<&str>) -> ZkReply {
    let stat = Some(ZkStat { mzxid: zxid, czxid: 1, version, owner: 0 });
    ZkReply::Ok { zxid, stat, data: data.map(|d| d.as_bytes().to_vec()), path: None, names: vec![] }
}

/// What is answered as in the log has no place among the writes, and one among its session's answers.
#[test]
fn an_early_answer_counts_for_its_session_only() {
    let mut h = History::new();
    let create = || ZkCall::Create { path: "/n".into(), value: vec![], ephemeral: false, sequential: false };
    h.zk(1, 2, set("a"), ok(10, 1, None)).unwrap();
    h.zk(1, 20, create(), ZkReply::Logged { zxid: 10 }).unwrap();
    h.zk(1, 21, create(), ZkReply::Logged { zxid: 10 }).unwrap();
    h.zk(2, 22, create(), ZkReply::Logged { zxid: 4 }).unwrap();
    assert_eq!(h.zk(1, 23, create(), ZkReply::Logged { zxid: 9 }), Err("ZK-2"));
}

#[test]
fn a_write_ordered_before_one_already_answered_is_noticed() {
    let mut h = History::new();
    h.zk(1, 2, set("a"), ok(10, 1, None)).unwrap();
    assert_eq!(h.zk(2, 20, set("b"), ok(9, 2, None)), Err("ZK-1"));
}

#[test]
fn a_stale_read_after_sync_and_a_value_twice_are_noticed() {
    let mut h = History::new();
    let get = |synced| ZkCall::Get { path: "/r0".into(), synced };
    h.zk(1, 2, set("a"), ok(10, 1, None)).unwrap();
    h.zk(1, 3, set("b"), ok(11, 2, None)).unwrap();
    h.zk(2, 4, get(None), ok(10, 1, Some("a"))).unwrap();
    assert_eq!(h.zk(3, 12, get(Some(Instant(12))), ok(10, 1, Some("a"))), Err("ZK-2"));
    assert_eq!(h.zk(4, 12, get(None), ok(10, 1, Some("c"))), Err("ZK-1"), "another value at a version");
    assert_eq!(h.zk(5, 13, get(None), ok(12, 3, Some("a"))), Err("ZK-1"), "a value written twice");
}

#[test]
fn a_session_that_sees_the_past_is_noticed() {
    let mut h = History::new();
    let get = ZkCall::Get { path: "/r0".into(), synced: None };
    h.zk(1, 2, set("a"), ok(10, 1, None)).unwrap();
    let stat = Some(ZkStat { mzxid: 5, czxid: 1, version: 0, owner: 0 });
    let old = |zxid| ZkReply::Ok { zxid, stat, data: Some(vec![]), path: None, names: vec![] };
    assert_eq!(h.zk(1, 3, get.clone(), old(9)), Err("ZK-2"), "the header");
    assert_eq!(h.zk(1, 3, get, old(10)), Err("ZK-2"), "its own write");
}

#[test]
fn an_ephemeral_that_outlives_its_session_is_noticed() {
    let mut h = History::new();
    let create = ZkCall::Create { path: "/e/x".into(), value: vec![1], ephemeral: true, sequential: false };
    let made = ZkReply::Ok { zxid: 7, stat: None, data: None, path: Some("/e/x".into()), names: vec![] };
    h.zk(1, 2, create, made).unwrap();
    let children = |synced| ZkCall::Children { path: "/e".into(), synced };
    let names = |zxid, names: &[&str]| {
        let names = names.iter().map(|n| n.to_string()).collect();
        ZkReply::Ok { zxid, stat: None, data: None, path: None, names }
    };
    assert_eq!(h.zk(1, 3, children(None), names(8, &[])), Err("ZK-4"), "the living session's own");
    h.zk(1, 4, ZkCall::Connect { resumed: true }, ZkReply::Expired).unwrap();
    h.zk(2, 5, children(Some(Instant(5))), names(9, &["x"])).unwrap();
    assert_eq!(h.zk(2, 20, children(Some(Instant(20))), names(9, &["x"])), Err("ZK-4"));
}

fn view(number: u64, ended: Option<u64>) -> Bytes {
    let shard = |id, state| ShardView {
        id: ShardId(id),
        replicas: vec![ReplicaView { slot: SlotId { server: ServerId(1), index: 0 }, addr: "a:1".into() }],
        state,
        rebuild: None,
    };
    let end = |len| ShardState::Finalized(Final { lens: vec![len], first: Gsn(0), end: Gsn(len) });
    let shards = vec![shard(1, ended.map_or(ShardState::Live, end)), shard(2, ShardState::Live)];
    wire::encode(ViewIs { view: View { number: ViewNumber(number), shards } })
}

#[test]
fn a_shard_ends_once_and_no_cut_adds_to_it() {
    let mut h = History::new();
    h.cut(cut(1, 0, 0, 3)).unwrap();
    h.sent(&view(1, None)).unwrap();
    h.sent(&view(2, Some(3))).unwrap();
    h.sent(&view(1, None)).unwrap();
    assert_eq!(h.sent(&view(1, Some(3))), Err("LOG-7"), "two views of one number");
    assert_eq!(h.sent(&view(3, Some(4))), Err("LOG-7"), "it ends twice");
    assert_eq!(h.sent(&view(4, None)), Err("LOG-7"), "it lives again");
    assert_eq!(h.cut(cut(2, 3, 3, 4)), Err("LOG-7"), "a cut adds to it");
    let mut h = History::new();
    h.cut(cut(1, 0, 0, 3)).unwrap();
    assert_eq!(h.sent(&view(2, Some(2))), Err("LOG-7"), "it ends before what is committed");
}

#[test]
fn a_batch_goes_to_another_lane_only_when_the_first_is_over() {
    let other = LaneId::new(ShardId(2), 0);
    let to = |lane, p: &PlacedBatch| {
        wire::encode_with(Append { lane, start: Seq(0), prompt: true }, &[p.batch.bytes()])
    };
    let a = placed(0, 0, &[b"one"]);
    let mut h = History::new();
    h.append(&a).unwrap();
    assert_eq!(h.sent(&to(other, &a)), Err("LOG-3"));
    h.sent(&view(2, Some(0))).unwrap();
    h.sent(&to(other, &a)).unwrap();
    // Or because it was fenced; then nothing of that writer may follow in it.
    let mut fence = BatchBuilder::new();
    fence.push(b"");
    let fence = fence.finish(BatchKind::Fence, WRITER, Epoch(0), FENCE_SEQ);
    let sent = wire::encode_with(Fence { lane: LANE }, &[fence.bytes()]);
    let mut h = History::new();
    h.append(&a).unwrap();
    h.sent(&sent).unwrap();
    h.sent(&to(other, &a)).unwrap();
    let fence = PlacedBatch::place(LANE, Incarnation(1), Lsn(0), 0, fence);
    h.seen(1, Observation::Subscribed { from: Gsn(0) }).unwrap();
    h.read(1, 0, &fence).unwrap();
    assert_eq!(h.read(1, 1, &placed(0, 1, &[b"one"])), Err("LOG-3"), "behind its fence");
    // In the writer's next opening the lane is open again, to the same records.
    let again = |epoch, record: &[u8]| {
        let mut b = BatchBuilder::new();
        b.push(record);
        let batch = b.finish(BatchKind::Data, WRITER, Epoch(epoch), Seq(0));
        wire::encode_with(Append { lane: LANE, start: Seq(0), prompt: true }, &[batch.bytes()])
    };
    let fence_of = |epoch| {
        let mut b = BatchBuilder::new();
        b.push(b"");
        let fence = b.finish(BatchKind::Fence, WRITER, Epoch(epoch), FENCE_SEQ);
        wire::encode_with(Fence { lane: LANE }, &[fence.bytes()])
    };
    let mut h = History::new();
    h.append(&a).unwrap();
    assert_eq!(h.sent(&again(1, b"one")), Err("LOG-3"), "it may be in, of the first opening");
    let mut h = History::new();
    h.append(&a).unwrap();
    h.sent(&fence_of(0)).unwrap();
    h.sent(&again(1, b"one")).unwrap();
    assert_eq!(h.sent(&again(2, b"two")), Err("LOG-4"), "other records");
    let mut h = History::new();
    h.append(&a).unwrap();
    h.sent(&fence_of(0)).unwrap();
    h.sent(&again(1, b"one")).unwrap();
    assert_eq!(h.sent(&again(2, b"one")), Err("LOG-3"), "that opening has no fence here");
}

/// Seed 58 had two readers whose answers came in the other order than their states.
#[test]
fn the_newest_state_of_the_queue_counts_whoever_is_answered_last() {
    let ok = |zxid, path: Option<&str>, names: &[&str]| ZkReply::Ok {
        zxid,
        stat: None,
        data: None,
        path: path.map(String::from),
        names: names.iter().map(|n| n.to_string()).collect(),
    };
    let read = || ZkCall::Children { path: "/q".into(), synced: Some(Instant(1)) };
    let make = |h: &mut History| {
        h.seen(0, Observation::ZkEnqueue).unwrap();
        let call = ZkCall::Create { path: "/q/n-".into(), value: vec![], ephemeral: false, sequential: true };
        h.zk(1, 1, call, ok(5, Some("/q/n-0"), &[])).unwrap();
    };
    let mut h = History::new();
    make(&mut h);
    h.zk(1, 2, read(), ok(6, None, &["n-0"])).unwrap();
    h.zk(2, 2, read(), ok(4, None, &[])).unwrap();
    assert_eq!(h.0.registers.finally(), Ok(()));
    let mut h = History::new();
    make(&mut h);
    h.zk(1, 2, read(), ok(6, None, &[])).unwrap();
    assert_eq!(h.0.registers.finally().map_err(|v| v.promise), Err("ZK-1"));
}

/// ZK-2: what a node shows that is cut off is its whole state at one position.
#[test]
fn what_is_shown_while_cut_off_and_is_of_no_position_is_noticed() {
    let stat = |mzxid, version| ZkStat { mzxid, czxid: 2, version, owner: 0 };
    let look = |mzxid, version, zxid| {
        let (path, data) = ("/r0".to_string(), format!("v{version}").into_bytes());
        Observation::Looked(ZkLook { path, zxid, stat: stat(mzxid, version), data, read_only: true })
    };
    let finally = |looks: &[(i64, i32, i64)]| -> Result<(), &'static str> {
        let mut h = History::new();
        for &(mzxid, version, zxid) in looks {
            h.seen(0, look(mzxid, version, zxid))?;
        }
        h.0.registers.finally().map_err(|v| v.promise)
    };
    assert_eq!(finally(&[(5, 1, 5), (5, 1, 7), (8, 2, 8), (8, 2, 9)]), Ok(()));
    assert_eq!(finally(&[(5, 1, 8), (8, 2, 8)]), Err("ZK-2"), "at 8 it has changed");
    assert_eq!(finally(&[(9, 2, 8)]), Err("ZK-2"), "what comes later");
    assert_eq!(finally(&[(5, 1, 5), (6, 1, 7)]), Err("ZK-1"), "another version of that number");
}

/// LOG-9: a copy counts only if it was in the making, and once its slot has said that it has everything.
#[test]
fn a_copy_that_counts_before_it_is_whole_is_noticed() {
    let slot = |server| SlotId { server: ServerId(server), index: 0 };
    let replica = |server| ReplicaView { slot: slot(server), addr: format!("s{server}:1") };
    let state = ShardState::Finalized(Final { lens: vec![3, 4], first: Gsn(0), end: Gsn(7) });
    let stated = |number, first: u32, made: Option<u32>| {
        let rebuild = made.map(|to| Rebuild { index: 0, to: replica(to) });
        let replicas = vec![replica(first), replica(2)];
        let shards = vec![ShardView { id: ShardId(1), replicas, state: state.clone(), rebuild }];
        wire::encode(ViewIs { view: View { number: ViewNumber(number), shards } })
    };
    let says = |server, durable: &[u64]| {
        let shards = vec![ShardReport {
            shard: ShardId(1),
            accepted: durable.to_vec(),
            durable: durable.to_vec(),
            part: CutNumber(2),
            serving: true,
        }];
        wire::encode(Report {
            slot: slot(server),
            incarnation: Incarnation(1),
            cuts: CutsWanted::Late,
            shards,
        })
    };
    type Story = (bool, bool, &'static [u64], Option<&'static str>);
    let stories: [Story; 4] = [
        (true, true, &[3, 4], None),
        (true, true, &[3, 3], Some("LOG-9")),
        (true, false, &[3, 4], Some("LOG-9")),
        (false, true, &[3, 4], Some("LOG-9")),
    ];
    for (begins, speaks, durable, broken) in stories {
        let mut checks = Checks::new(&Options::calm(1));
        let mut hear = |bytes| checks.sent(Instant(1), NodeId(0), NodeId(1), &bytes);
        hear(stated(1, 1, None)).unwrap();
        hear(stated(2, 1, Some(if begins { 3 } else { 4 }))).unwrap();
        if speaks {
            hear(says(3, durable)).unwrap();
        }
        let verdict = hear(stated(3, 3, None));
        assert_eq!(verdict.err().map(|v| v.promise), broken, "{begins} {speaks} {durable:?}");
    }
}
