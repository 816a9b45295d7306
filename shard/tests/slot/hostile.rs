//! SYS-1: whatever comes over a connection costs that connection, nothing more.

use crate::world::client::*;
use crate::world::*;
use bytes::Bytes;
use proptest::prelude::*;
use zoolog_core::cut::{Cut, CutLane, ShardPart};
use zoolog_core::machine::{ConnId, Input, Machine};
use zoolog_core::view::{ShardState, ShardView, View};
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// One of each message, with fields drawn from small and absurd numbers.
fn messages(pick: impl Fn(usize) -> u64) -> Vec<Message> {
    let l = LaneId(pick(0));
    let (shard, inc, stream, request) = (ShardId(pick(1) as u32), Incarnation(pick(2)), pick(3), pick(4));
    let (gsn, lsn, number) = (Gsn(pick(5)), Lsn(pick(6)), CutNumber(pick(7)));
    let lanes = vec![CutLane { lane: l, from: pick(8), to: pick(9) }];
    let part = ShardPart { number, base: gsn, lens: vec![pick(8), pick(9)] };
    let view = View {
        number: ViewNumber(pick(10)),
        shards: vec![ShardView { id: shard, replicas: Vec::new(), state: ShardState::Live, rebuild: None }],
    };
    let slot = slot_id(pick(1) as usize % 4);
    vec![
        Hello { role: Role::Client, cluster: CLUSTER, node: pick(2), slot: 0, incarnation: inc }.into(),
        Refused { why: RefusedWhy::Invalid, text: "no".into() }.into(),
        Status { request }.into(),
        StatusIs { request, json: "{}".into() }.into(),
        Register {
            slot,
            incarnation: inc,
            addr: "x".into(),
            domain: "y".into(),
            stamp: 5,
            parts: vec![(shard, number)],
        }
        .into(),
        Report { slot, incarnation: inc, cuts: CutsWanted::Own, shards: vec![] }.into(),
        NotLeader { leader: Some("nowhere".into()) }.into(),
        ViewIs { view }.into(),
        CutIs { cut: Cut { number, base: gsn, view: ViewNumber(1), lanes } }.into(),
        PartsAre { shard, parts: vec![part], lens: vec![pick(8), pick(9)], number, tail: gsn }.into(),
        Tail { request }.into(),
        TrimIs { gsn }.into(),
        OrderersAre { orderers: vec![OrdererAt { id: OrdererId(pick(0)), addr: String::new() }] }.into(),
        ConsumerIs { request, upto: None, trim: gsn }.into(),
        LaneBase { lane: l, incarnation: inc, stream, from: Lsn(pick(8)), last: 7 }.into(),
        TailIs { request, gsn }.into(),
        Append { lane: l, start: Seq(pick(3)), prompt: true }.into(),
        Appended { writer: WriterId(1), acks: vec![] }.into(),
        Replicate { lane: l, incarnation: inc, stream }.into(),
        Sync { lane: l, incarnation: inc, stream }.into(),
        Synced { lane: l, incarnation: inc, stream, len: pick(8), last: pick(9) as u32 }.into(),
        FetchLane { lane: l, incarnation: inc, stream, from: lsn }.into(),
        LaneIs { lane: l, incarnation: inc, stream, from: lsn }.into(),
        Read { request, shard, from: gsn, to: Gsn(pick(6)), max_bytes: pick(9) as u32, begun_within: false }
            .into(),
        Subscribe { shard, from: vec![lsn, Lsn(pick(8))], credit: pick(9) as u32 }.into(),
        Credit { lane: l, bytes: pick(9) as u32 }.into(),
        Push { lane: l }.into(),
        BatchesWanted { lane: l, from: lsn, to: Lsn(pick(8)) }.into(),
        BatchesAre { lane: l, from: lsn, start: Lsn(pick(8)), len: Lsn(pick(9)), last: 7 }.into(),
        PartsWanted { shard, after: number }.into(),
        PartsHeld { shard, after: CutNumber(0), base: None, parts: vec![] }.into(),
        PartsGone { shard, known: number }.into(),
    ]
}

/// A slot in the midst of its work.
fn busy() -> World {
    let mut world = World::ready(1, &[&[0, 1], &[1, 0]], &tiny());
    for (n, l, id) in [(0, lane(1, 0), 51), (1, lane(1, 1), 52), (0, lane(2, 1), 53)] {
        let c = world.client(n);
        (0..6).for_each(|s| world.send(c, append(l, &batch(id, s, 2, 30))));
    }
    world.settle();
    world
}

/// The connections of node 0 by what is at their other end: clients, slots and the leader.
fn conns(world: &World) -> Vec<ConnId> {
    let mut out = Vec::new();
    for link in world.links.iter().filter(|l| !l.dead) {
        out.extend(link.ends.iter().filter_map(|e| match e {
            End::Node(0, conn) => Some(*conn),
            _ => None,
        }));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any message, on any kind of connection, with any numbers and any payload.
    #[test]
    fn no_message_panics_whoever_sends_it(
        sends in prop::collection::vec((any::<prop::sample::Index>(), 0usize..messages(|_| 0).len(), prop::collection::vec(0usize..9, 11), 0usize..4), 1..25),
    ) {
        let mut world = busy();
        world.connect(0);
        let c = world.connect(0);
        world.send(c, hello(Role::Slot, 1));
        world.settle();
        let absurd = [0, 1, 2, 3, 12, 257, u64::from(u32::MAX), 1 << 56, u64::MAX];
        let lanes = [lane(1, 0).0, lane(1, 1).0, lane(2, 0).0, lane(2, 1).0, lane(1, 9).0, 0, 1, 2, u64::MAX];
        let good = batch(60, 0, 1, 5);
        for (who, kind, picks, payload) in sends {
            let open = conns(&world);
            if open.is_empty() {
                world.run(100);
                continue;
            }
            let conn = open[who.index(open.len())];
            let pick = |i: usize| if i == 0 { lanes[picks[0]] } else { absurd[picks[i]] };
            let message = messages(pick).swap_remove(kind);
            let placed = zoolog_core::batch::PlacedBatch::place(
                LaneId(lanes[picks[0]]), Incarnation(absurd[picks[2]]), Lsn(absurd[picks[6]] >> 1), picks[3] as u32, good.clone(),
            );
            let mut bytes = Vec::new();
            placed.encode(&mut bytes);
            let payload: &[u8] = match payload { 0 => &[], 1 => good.bytes(), 2 => &bytes, _ => b"rubbish" };
            world.turn(0, vec![Input::Frame { conn, bytes: encode_with(message, &[payload]) }]);
            if picks[1] % 2 == 0 {
                world.settle();
            }
        }
        world.run(3000);
    }

    #[test]
    fn bytes_that_are_no_frame_close_the_connection(bytes in prop::collection::vec(any::<u8>(), 0..200), flip in 0usize..400) {
        let mut world = busy();
        let mut damaged = encode(Read { request: 1, shard: ShardId(1), from: Gsn(0), to: Gsn(5), max_bytes: 9, begun_within: false }).to_vec();
        let n = damaged.len() * 8;
        damaged[flip % n / 8] ^= 1 << (flip % 8);
        for frame in [bytes, damaged] {
            let c = world.client(0);
            world.settle();
            let End::Node(_, conn) = world.links[world.clients[c].link].ends[1] else { panic!("a node's end") };
            world.turn(0, vec![Input::Frame { conn, bytes: Bytes::from(frame) }]);
            world.settle();
            prop_assert!(world.clients[c].closed);
        }
    }
}

#[test]
fn every_connection_says_hello_first_and_of_this_cluster() {
    let mut world = World::ready(2, &[&[0, 1]], &Bounds::default());
    let c = world.connect(0);
    world.send(c, encode(Status { request: 1 }));
    world.settle();
    assert_eq!(world.clients[c].refused(), Some(RefusedWhy::Unexpected));
    let foreign = |role| Hello { role, cluster: ClusterId(5), node: 2, slot: 0, incarnation: Incarnation(1) };
    for (hello, refused) in [
        (foreign(Role::Slot), Some(RefusedWhy::Cluster)),
        (foreign(Role::Client), Some(RefusedWhy::Cluster)),
        (Hello { cluster: ClusterId(0), ..foreign(Role::Slot) }, Some(RefusedWhy::Cluster)),
        (Hello { cluster: ClusterId(0), ..foreign(Role::Client) }, None),
    ] {
        let c = world.connect(0);
        world.send(c, encode(hello));
        world.settle();
        assert_eq!((world.clients[c].refused(), world.clients[c].closed), (refused, refused.is_some()));
    }
}

#[test]
fn a_slot_says_how_it_is_to_anybody() {
    let mut world = busy();
    let c = world.client(0);
    world.send(c, encode(Status { request: 7 }));
    world.settle();
    let Some(Packet { message: Message::StatusIs(m), .. }) = world.clients[c].inbox.pop() else {
        panic!("an answer")
    };
    assert_eq!(m.request, 7);
    for part in [
        "\"role\":\"slot\"",
        "\"slot\":\"1.0\"",
        "\"leader_connected\":true",
        "\"lane\":\"1/0\",\"primary\":true",
    ] {
        assert!(m.json.contains(part), "{part} in {}", m.json);
    }
    assert_eq!(m.json.matches('{').count(), m.json.matches('}').count());
}

#[test]
fn connections_beyond_the_bound_are_closed() {
    let bounds = Bounds { connections: 6, ..Bounds::default() };
    let mut world = World::ready(3, &[&[0, 1]], &bounds);
    let all: Vec<_> = (0..8).map(|_| world.client(0)).collect();
    world.settle();
    let closed = all.iter().filter(|&&c| world.clients[c].closed).count();
    assert!((2..8).contains(&closed), "{closed} closed");
    let w = all.into_iter().find(|&c| !world.clients[c].closed).unwrap();
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 5)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1);
    let due = world.nodes[0].slot.as_ref().unwrap().next_deadline().map(|d| d.1);
    assert_eq!(due, Some("a sign of life"));
}
