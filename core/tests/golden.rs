//! Are the bytes on the wire and on disk still those of yesterday? One line of hex per message and batch in
//! `golden/bytes.txt`. A difference is a format change: old nodes and old files can't be read any more.
//! `BLESS=1 cargo test -p zoolog-core --test golden` writes the file anew, for changes that are meant.

use std::fmt::Write as _;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, PlacedBatch};
use zoolog_core::cut::{Cut, CutLane, ShardBase, ShardPart};
use zoolog_core::view::{ReplicaView, ShardState, ShardView, View};
use zoolog_core::wire::*;
use zoolog_core::*;

fn lane() -> LaneId {
    LaneId::new(ShardId(0x0102_0304), 5)
}

fn slot() -> SlotId {
    SlotId { server: ServerId(7), index: 2 }
}

fn view() -> View {
    let replicas = vec![ReplicaView { slot: slot(), addr: "10.0.0.1:4000".into() }];
    let live =
        ShardView { id: ShardId(1), replicas: replicas.clone(), state: ShardState::Live, rebuild: None };
    View { number: ViewNumber(9), shards: vec![live] }
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(b"first");
    builder.push(b"");
    builder.push(b"a third, longer one");
    builder.finish(BatchKind::Data, WriterId(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20), Epoch(3), Seq(4))
}

fn snapshot_at() -> SnapshotAt {
    SnapshotAt { gsn: Gsn(7), bytes: 9000, crc: 0xdead_beef }
}

fn messages() -> Vec<Message> {
    let (lane, incarnation, stream, request) = (lane(), Incarnation(11), 12, 13);
    let cut_lane = CutLane { lane, from: 5, to: 9 };
    let cut = Cut { number: CutNumber(6), base: Gsn(7), view: ViewNumber(9), lanes: vec![cut_lane] };
    let part = ShardPart { number: CutNumber(6), base: Gsn(7), lens: vec![1, 2, 3] };
    let base = ShardBase { number: CutNumber(5), end: Gsn(6), lens: vec![1, 1, 3] };
    let (shard, writer) = (ShardId(1), WriterId(1 << 100));
    let cluster = ClusterId(0xabcd << 64);
    let report =
        ShardReport { shard, accepted: vec![5, 6], durable: vec![4, 6], part: CutNumber(6), serving: true };
    vec![
        Hello { role: Role::Slot, cluster, node: 7, slot: 2, incarnation }.into(),
        Refused { why: RefusedWhy::Stale, text: "why".into() }.into(),
        Status { request }.into(),
        StatusIs { request, json: "{}".into() }.into(),
        Stages { request, reset: true }.into(),
        Register {
            slot: slot(),
            incarnation,
            addr: "a:1".into(),
            domain: "rack".into(),
            stamp: 0x0a0b_0c0d,
            parts: vec![(shard, CutNumber(5))],
        }
        .into(),
        Report { slot: slot(), incarnation, cuts: CutsWanted::Own, shards: vec![report] }.into(),
        NotLeader { leader: Some("b:2".into()) }.into(),
        ViewIs { view: view() }.into(),
        CutIs { cut: cut.clone() }.into(),
        PartsAre {
            shard,
            parts: vec![part.clone()],
            lens: vec![1, 2, 3],
            number: CutNumber(6),
            tail: Gsn(11),
        }
        .into(),
        WatchCuts { request }.into(),
        OrderIs {
            request,
            cluster,
            generation: 1,
            number: CutNumber(6),
            tail: Gsn(11),
            view: view(),
            lanes: vec![cut_lane],
        }
        .into(),
        Tail { request }.into(),
        TailIs { request, gsn: Gsn(11) }.into(),
        Raft { from: 2, crc: 0xdead_beef }.into(),
        Consumer { request, name: "zk-1".into(), upto: Gsn(11) }.into(),
        ConsumerIs { request, upto: Some(Gsn(11)), trim: Gsn(7) }.into(),
        ForgetConsumer { request, name: "zk-1".into() }.into(),
        TrimIs { gsn: Gsn(7) }.into(),
        Trim { request, gsn: Gsn(9) }.into(),
        TrimAnswer { request, end: TrimEnd::HeldBack("zk-1".into(), Gsn(8)), before: Gsn(7), trim: Gsn(7) }
            .into(),
        Held {
            slot: slot(),
            room: DiskRoom::Low,
            free_bytes: 1 << 30,
            lanes: vec![LaneHeld { lane, from: vec![(Gsn(7), 4096)] }],
        }
        .into(),
        Room { lane, room: DiskRoom::Full }.into(),
        WatchViews { request }.into(),
        Append { lane, start: Seq(2), prompt: true }.into(),
        Appended { writer, acks: vec![(Seq(4), Gsn(7))] }.into(),
        AppendRefused { lane, writer, seq: Seq(5), why: AppendRefusedWhy::Gap, expected: Seq(3) }.into(),
        Replicate { lane, incarnation, stream }.into(),
        Sync { lane, incarnation, stream }.into(),
        Synced { lane, incarnation, stream, len: 9, last: 77 }.into(),
        FetchLane { lane, incarnation, stream, from: Lsn(5) }.into(),
        LaneIs { lane, incarnation, stream, from: Lsn(5) }.into(),
        LaneBase { lane, incarnation, stream, from: Lsn(5), last: 77 }.into(),
        Read { request, shard, from: Gsn(1), to: Gsn(9), max_bytes: 4096, begun_within: false }.into(),
        ReadIs {
            request,
            shard,
            from: Gsn(1),
            covers: Gsn(8),
            end: ReadEnd::NotYet,
            gsns: vec![Gsn(1), Gsn(4)],
        }
        .into(),
        Subscribe { shard, from: vec![Lsn(1), Lsn(2)], credit: 65536 }.into(),
        Credit { lane, bytes: 4096 }.into(),
        Push { lane }.into(),
        Finalize { request, shard }.into(),
        WantShards { request, shards: 4 }.into(),
        Decided { request, view: ViewNumber(9), retry: true, refused: "why".into() }.into(),
        Resolve { request, lane, writer, epoch: Epoch(3), from: Seq(4) }.into(),
        Resolved {
            request,
            lane,
            writer,
            end: ResolveEnd::Final,
            acks: vec![(Seq(4), Gsn(7))],
            tail: Some(Gsn(9)),
            newest: Some(Epoch(3)),
        }
        .into(),
        Fence { lane }.into(),
        OpenWriter { request, name: "a".into() }.into(),
        ClaimLane { request, name: "a".into(), epoch: Epoch(3), lane, tail: Gsn(7) }.into(),
        WriterIs {
            request,
            refused: WriterRefused::No,
            writer,
            epoch: Epoch(3),
            lane: Some(lane),
            tail: Gsn(7),
        }
        .into(),
        OrderersAre { orderers: vec![OrdererAt { id: OrdererId(4), addr: "b:2".into() }] }.into(),
        Introduce { birth: 77, born: true, yours: 78, addr: "b:2".into() }.into(),
        ChangeOrderers {
            request,
            change: OrdererChange::Add(NewOrderer {
                id: OrdererId(4),
                addr: "b:2".into(),
                replaces: Some(OrdererId(1)),
            }),
        }
        .into(),
        OrderersChanged { request, outcome: ChangeOutcome::Refused("why".into()) }.into(),
        BatchesWanted { lane, from: Lsn(14), to: Lsn(17) }.into(),
        BatchesAre { lane, from: Lsn(14), start: Lsn(3), len: Lsn(20), last: 0xdead_beef }.into(),
        PartsWanted { shard, after: CutNumber(4) }.into(),
        PartsHeld { shard, after: CutNumber(4), base: Some(base), parts: vec![part] }.into(),
        Recovering { slot: slot(), incarnation, shards: vec![shard] }.into(),
        PartsGone { shard, known: CutNumber(6) }.into(),
        RebuildShard { request, shard }.into(),
        Begin { request, first_gsn: Some(Gsn(7)) }.into(),
        BeginIs { request, end: BeginEnd::Begun(Gsn(7)) }.into(),
        Seal { request, successor: "b:2;generation=1".into() }.into(),
        SealedIs { request, tail: Gsn(11), successor: "b:2;generation=1".into() }.into(),
        WatchGrowth { request }.into(),
        Offer { name: "zk-1".into(), addr: "b:2".into(), gsn: Gsn(7) }.into(),
        FindOffers { request }.into(),
        OffersAre {
            request,
            trim: Gsn(5),
            offers: vec![OfferAt { name: "zk-1".into(), addr: "b:2".into(), gsn: Gsn(7) }],
        }
        .into(),
        SnapshotWanted { request, which: Some(snapshot_at()), from: 4096, bytes: 512 }.into(),
        SnapshotIs { request, which: Some(snapshot_at()), from: 4096, crc: 0xdead_beef }.into(),
        Grown::of(&cut).expect("it is small").into(),
    ]
}

#[test]
fn the_bytes_are_those_of_yesterday() {
    let mut text = String::new();
    let mut line = |name: &str, bytes: &[u8]| {
        let _ = write!(text, "{name} ");
        bytes.iter().for_each(|b| {
            let _ = write!(text, "{b:02x}");
        });
        text.push('\n');
    };
    line("batch", batch().bytes());
    let mut placed = Vec::new();
    PlacedBatch::place(lane(), Incarnation(11), Lsn(5), 76, batch()).encode(&mut placed);
    line("placed", &placed);
    let all = messages();
    let kinds: Vec<(u16, &str)> = all.iter().map(|m| (m.kind(), m.name())).collect();
    assert_eq!(kinds, TABLE, "one sample of every message, in order");
    for message in all {
        // A short frame has none.
        let payload: &[&[u8]] = if matches!(message, Message::Grown(_)) { &[] } else { &[b"payload"] };
        let bytes = encode_with(message.clone(), payload);
        line(message.name(), &bytes);
        assert_eq!(decode(bytes).unwrap().message, message);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bytes.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (now, then) in text.lines().zip(golden.lines()) {
        assert_eq!(now, then, "the format has changed");
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
