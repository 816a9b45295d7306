//! What does bad input come to at the orderers? The list of docs/BAD_INPUT.md, each entry a test that names it: a typed
//! answer or the end of the connection, the order as it was, and everybody else served. Invariant SYS-1.

use crate::driver::hello;
use crate::model::World;
use zoolog_core::cut::{Cut, CutLane};
use zoolog_core::view::View;
use zoolog_core::wire::*;
use zoolog_core::{CutNumber, Epoch, Gsn, Incarnation, LaneId, ServerId, ShardId, SlotId, ViewNumber};

const MAX: u64 = u64::MAX;

/// A world in which something is ordered.
fn begun(seed: u64) -> World {
    let mut w = World::ready(seed);
    unharmed(&mut w);
    w
}

/// What was ordered stands, and what becomes durable is ordered next.
fn unharmed(w: &mut World) {
    w.until("slots are registered", |w| w.slots.iter().all(|s| s.registered));
    let before = w.durable();
    w.until("as it was", |w| w.truth.tail.0 >= before);
    w.append(1, 0, 3);
    w.until("the work goes on", |w| w.truth.tail.0 >= before + 3);
    assert_eq!(w.truth.tail.0, before + 3, "nothing was made up");
    w.check_order();
}

fn leader(w: &mut World) -> usize {
    w.until("a leader", |w| w.sim.leader().is_some());
    w.sim.leader().expect("just there")
}

/// The guest is told why, and closed.
fn is_refused(w: &mut World, g: usize, wants: RefusedWhy, what: &str) {
    let mut why = None;
    for _ in 0..200 {
        w.run_ms(1);
        for m in w.sim.take(g) {
            if let Message::Refused(r) = m {
                why = Some(r.why);
            }
        }
        if !w.sim.guests[g].open {
            break;
        }
    }
    assert_eq!((why, w.sim.guests[g].open), (Some(wants), false), "{what}");
}

/// The answer to what a client asks of the leader.
fn ask<T>(w: &mut World, question: impl Into<Message>, pick: impl Fn(&Message) -> Option<T>) -> T {
    let at = leader(w);
    let g = w.sim.client(at);
    w.sim.send(g, question);
    let mut found = None;
    w.until("an answer", |w| {
        found = w.sim.take(g).iter().find_map(&pick);
        found.is_some()
    });
    w.sim.hang_up(g);
    found.expect("just seen")
}

fn slot(server: u32) -> SlotId {
    SlotId { server: ServerId(server), index: 0 }
}

fn report(slot: SlotId, incarnation: u64, shards: Vec<ShardReport>) -> Report {
    Report { slot, incarnation: Incarnation(incarnation), cuts: CutsWanted::Late, shards }
}

fn register(slot: SlotId, incarnation: u64, parts: Vec<(ShardId, CutNumber)>) -> Register {
    let (addr, domain, incarnation) = (format!("{}:1", slot.server), String::new(), Incarnation(incarnation));
    Register { slot, incarnation, addr, domain, stamp: 0, parts }
}

/// A slot that holds shard 1, and what it would say of it now.
fn holder(w: &World) -> (usize, ShardReport) {
    let i = (0..3).find(|i| w.slots[*i].shards.contains_key(&ShardId(1))).expect("somebody holds it");
    let r = &w.slots[i].shards[&ShardId(1)];
    let (durable, part) = (r.durable.clone(), r.part);
    (i, ShardReport { shard: ShardId(1), accepted: durable.clone(), durable, part, serving: true })
}

/// The registered slot says that of its shard, is refused for it, and comes back as it was.
fn forged_report_is_refused(seed: u64, wants: RefusedWhy, all: &[&dyn Fn(&mut ShardReport)]) {
    let mut w = begun(seed);
    for (n, change) in all.iter().enumerate() {
        let (i, mut said) = holder(&w);
        change(&mut said);
        let (g, slot, incarnation) =
            (w.slots[i].guest.expect("connected"), w.slots[i].id, w.slots[i].incarnation);
        w.slots[i].mute = true;
        w.sim.send(g, report(slot, incarnation, vec![said.clone()]));
        is_refused(&mut w, g, wants, &format!("{n}: {said:?}"));
        w.slots[i].mute = false;
        unharmed(&mut w);
    }
}

#[test]
fn a_cut_and_whatever_else_only_a_leader_says_is_refused_from_anybody() {
    let mut w = begun(21);
    let leads = leader(&mut w);
    let lanes = vec![CutLane { lane: LaneId::new(ShardId(1), 0), from: 3, to: 9 }];
    let cut = Cut { number: CutNumber(2), base: Gsn(3), view: ViewNumber(1), lanes };
    let all: [Message; 9] = [
        CutIs { cut }.into(),
        ViewIs { view: View { number: ViewNumber(9), shards: vec![] } }.into(),
        PartsAre { shard: ShardId(1), parts: vec![], lens: vec![9], number: CutNumber(9), tail: Gsn(9) }
            .into(),
        TrimIs { gsn: Gsn(MAX) }.into(),
        TailIs { request: 1, gsn: Gsn(MAX) }.into(),
        OrderersAre { orderers: vec![] }.into(),
        NotLeader { leader: Some("evil:1".into()) }.into(),
        Decided { request: 1, view: ViewNumber(9), retry: false, refused: String::new() }.into(),
        PartsGone { shard: ShardId(1), known: CutNumber(9) }.into(),
    ];
    for role in [Role::Client, Role::Slot, Role::Orderer] {
        for message in &all {
            for to in [leads, (leads + 1) % 3] {
                let g = w.sim.connect(to);
                w.sim.send(g, hello(role, 9, 1));
                w.sim.send(g, message.clone());
                is_refused(&mut w, g, RefusedWhy::Unexpected, message.name());
            }
        }
    }
    unharmed(&mut w);
}

#[test]
fn a_report_of_a_stranger_is_refused() {
    let mut w = begun(22);
    let leads = leader(&mut w);
    let (i, said) = holder(&w);
    let (known, said) = (w.slots[i].id, vec![said]);
    use RefusedWhy::*;
    // Who says hello, as which slot of which start; for whom it reports.
    for (role, node, started, of, why) in [
        (Role::Client, 0, 0, known, Unexpected),
        (Role::Orderer, 9, 1, known, Unexpected),
        (Role::Slot, 77, 1, slot(77), Unexpected), // never registered
        (Role::Slot, 77, 1, known, Invalid),
        (Role::Slot, u64::from(known.server.0), 1, known, Unexpected), // speaks over another connection
    ] {
        let g = w.sim.connect(leads);
        w.sim.send(g, hello(role, node, started));
        w.sim.send(g, report(of, 1, said.clone()));
        is_refused(&mut w, g, why, &format!("{role:?} {node} for {of}"));
    }
    let g = w.sim.connect(leads);
    w.sim.send(g, hello(Role::Slot, MAX, 1));
    is_refused(&mut w, g, Invalid, "no server has that id");
    unharmed(&mut w);
}

#[test]
fn a_report_with_a_wrong_vector_length_is_refused() {
    forged_report_is_refused(
        23,
        RefusedWhy::Invalid,
        &[
            &|r| r.durable.clear(),
            &|r| r.durable.truncate(1),
            &|r| r.durable.push(0),
            &|r| r.accepted.clear(),
            &|r| r.accepted.extend([0; 1000]),
            &|r| (r.accepted, r.durable) = (vec![9; 3], vec![9; 3]),
        ],
    );
}

#[test]
fn a_report_of_lengths_that_can_not_be_is_refused() {
    forged_report_is_refused(
        24,
        RefusedWhy::Invalid,
        &[
            &|r| r.durable[0] += 1, // more than it accepted
            &|r| (r.accepted[0], r.durable[0]) = (MAX, MAX),
            &|r| r.accepted[1] = 1 << 63,
            &|r| r.part = CutNumber(r.part.0 + 50),
            &|r| r.part = CutNumber(MAX),
        ],
    );
}

#[test]
fn a_regressing_report_is_refused_as_damaged() {
    forged_report_is_refused(
        25,
        RefusedWhy::Damaged,
        &[&|r| r.durable[0] -= 1, &|r| {
            (r.accepted[0], r.durable[0]) = (0, 0);
        }],
    );
}

#[test]
fn a_report_or_parts_of_an_unknown_shard_are_refused() {
    forged_report_is_refused(
        26,
        RefusedWhy::Invalid,
        &[&|r| r.shard = ShardId(99), &|r| r.shard = ShardId(u32::MAX)],
    );
    // Of a shard that it has no replica of: it may have had one. Nothing comes of it.
    let mut w = begun(27);
    let stranger =
        (0..3).find(|i| !w.slots[*i].shards.contains_key(&ShardId(1))).expect("three slots, two replicas");
    let (_, mut said) = holder(&w);
    (said.accepted, said.durable) = (vec![1000, 1000], vec![1000, 1000]);
    let (g, id, incarnation) =
        (w.slots[stranger].guest.unwrap(), w.slots[stranger].id, w.slots[stranger].incarnation);
    w.sim.send(g, report(id, incarnation, vec![said]));
    w.run_ms(50);
    unharmed(&mut w);
    // More shards than there can be.
    let many = |n: u32| (1..=n).map(|i| (ShardId(i), CutNumber(0))).collect::<Vec<_>>();
    let leads = leader(&mut w);
    let g = w.sim.connect(leads);
    w.sim.send(g, hello(Role::Slot, 50, 1));
    w.sim.send(g, register(slot(50), 1, many(5000)));
    is_refused(&mut w, g, RefusedWhy::Invalid, "5000 shards");
    unharmed(&mut w);
}

#[test]
fn a_registration_that_knows_the_future_or_is_another_slots_is_refused() {
    let mut w = begun(28);
    let leads = leader(&mut w);
    let (i, _) = holder(&w);
    let id = w.slots[i].id;
    let next = w.slots[i].incarnation + 1;
    for number in [50, MAX] {
        w.slots[i].disconnect(&mut w.sim);
        w.slots[i].mute = true;
        let g = w.sim.connect(leads);
        w.sim.send(g, hello(Role::Slot, u64::from(id.server.0), next));
        let r = register(id, next, vec![(ShardId(1), CutNumber(number))]);
        let stamped = Register { addr: format!("s{}:1", id.server.0), ..r };
        w.sim.send(g, stamped);
        is_refused(&mut w, g, RefusedWhy::Invalid, "it knows a part to come");
        w.slots[i].mute = false;
        w.slots[i].incarnation = next;
        unharmed(&mut w);
    }
    for (as_, start) in [(id.server.0 + 1, next), (id.server.0, next + 1)] {
        let g = w.sim.connect(leads);
        w.sim.send(g, hello(Role::Slot, u64::from(as_), start));
        w.sim.send(g, register(id, next, vec![]));
        is_refused(&mut w, g, RefusedWhy::Invalid, "another's registration");
    }
    unharmed(&mut w);
}

#[test]
fn a_trim_ahead_of_the_tail_is_answered_with_the_tail_and_trims_nothing() {
    let mut w = begun(29);
    let tail = w.truth.tail;
    for gsn in [tail.0 + 1, 1 << 62, 1 << 63, MAX] {
        let m = ask(&mut w, Trim { request: 4, gsn: Gsn(gsn) }, |m| match m {
            Message::TrimAnswer(m) => Some(m.clone()),
            _ => None,
        });
        assert_eq!((m.request, m.end, m.before, m.trim), (4, TrimEnd::BeyondTail(tail), Gsn(0), Gsn(0)));
    }
    let m = ask(&mut w, Trim { request: 5, gsn: Gsn(0) }, |m| match m {
        Message::TrimAnswer(m) => Some(m.clone()),
        _ => None,
    });
    assert_eq!((m.end, m.trim), (TrimEnd::Done, Gsn(0)), "nothing to trim is done at once");
    unharmed(&mut w);
}

#[test]
fn an_operators_wish_for_an_unknown_shard_or_an_absurd_number_is_refused_in_words() {
    let mut w = begun(30);
    let at = leader(&mut w);
    let view = w.sim.machine(at).state().view().number;
    let request = 3;
    let all: [Message; 7] = [
        Finalize { request, shard: ShardId(99) }.into(),
        Finalize { request, shard: ShardId(u32::MAX) }.into(),
        RebuildShard { request, shard: ShardId(99) }.into(),
        RebuildShard { request, shard: ShardId(1) }.into(), // it takes appends
        WantShards { request, shards: 0 }.into(),
        WantShards { request, shards: 100_000 }.into(),
        WantShards { request, shards: u32::MAX }.into(),
    ];
    for wish in all {
        let name = format!("{wish:?}");
        let m = ask(&mut w, wish, |m| match m {
            Message::Decided(m) => Some(m.clone()),
            _ => None,
        });
        assert!(m.request == request && !m.refused.is_empty() && !m.retry, "{name}: {m:?}");
        assert_eq!(m.view, view, "{name}");
    }
    unharmed(&mut w);
}

#[test]
fn a_name_or_a_claim_that_can_not_be_is_refused() {
    let mut w = begun(31);
    let lane = LaneId::new(ShardId(1), 0);
    let (request, tail) = (6, Gsn(0));
    let named = |m: &Message| match m {
        Message::WriterIs(m) => Some(m.clone()),
        _ => None,
    };
    for name in [String::new(), "x".repeat(10_000)] {
        let m = ask(&mut w, OpenWriter { request, name }, named);
        assert_eq!((m.request, m.refused), (6, WriterRefused::Invalid));
    }
    let m = ask(&mut w, OpenWriter { request, name: "n".into() }, named);
    assert_eq!((m.refused, m.epoch), (WriterRefused::No, Epoch(1)));
    let claim =
        |name: &str, epoch, lane| ClaimLane { request, name: name.into(), epoch: Epoch(epoch), lane, tail };
    for (claim, refused) in [
        (claim("nobody", 1, lane), WriterRefused::Invalid),
        (claim("n", 2, lane), WriterRefused::Invalid), // an opening to come
        (claim("n", 0, lane), WriterRefused::Fenced),
        (claim("n", 1, LaneId::new(ShardId(99), 0)), WriterRefused::Invalid),
        (claim("n", 1, LaneId::new(ShardId(1), 9)), WriterRefused::Invalid),
        (claim("n", 1, LaneId(MAX)), WriterRefused::Invalid),
    ] {
        let m = ask(&mut w, claim.clone(), named);
        assert_eq!(m.refused, refused, "{claim:?}");
    }
    unharmed(&mut w);
}

/// An orderer that nobody knows, one that says it is us, and one whose directory is another than was known.
#[test]
fn raft_messages_of_no_member_are_refused() {
    let mut w = begun(32);
    let leads = leader(&mut w);
    let raft = Raft { from: 9, crc: 0 };
    let introduce = Introduce { birth: 5, born: true, yours: 0, addr: "evil:1".into() };
    use RefusedWhy::*;
    let other = (leads + 1) % 3;
    for (id, first, why) in [
        (9, Message::from(raft.clone()), Unexpected), // before an introduction
        (9, Introduce { birth: 0, ..introduce.clone() }.into(), Invalid),
        (9, Introduce { addr: String::new(), ..introduce.clone() }.into(), Invalid),
        (other as u64 + 1, introduce.clone().into(), Dismissed),
        (leads as u64 + 1, introduce.clone().into(), Invalid),
        (0, introduce.clone().into(), Invalid),
    ] {
        let g = w.sim.connect(leads);
        w.sim.send(g, hello(Role::Orderer, id, 1));
        w.sim.send(g, first.clone());
        is_refused(&mut w, g, why, &format!("{id}: {first:?}"));
    }
    for (role, why) in [(Role::Client, Unexpected), (Role::Slot, Unexpected)] {
        let g = w.sim.connect(leads);
        w.sim.send(g, hello(role, 9, 1));
        w.sim.send(g, raft.clone());
        is_refused(&mut w, g, why, "raft's bytes");
    }
    unharmed(&mut w);
    assert_eq!(leader(&mut w), leads, "it leads on");
}

#[test]
fn a_hundred_thousand_questions_that_nobody_takes_the_answers_of_are_bounded_and_others_are_served() {
    let mut w = begun(33);
    let leads = leader(&mut w);
    let g = w.sim.client(leads);
    for request in 0..100_000 {
        w.sim.send(g, Tail { request });
    }
    let watcher = w.sim.client(leads);
    for request in 0..2_000 {
        w.sim.send(watcher, WatchCuts { request });
    }
    w.run_ms(200);
    unharmed(&mut w);
    let answers = w.sim.take(g);
    let refused = answers.iter().any(|m| matches!(m, Message::Refused(r) if r.why == RefusedWhy::NotReady));
    assert!(
        answers.len() == 100_000 || refused,
        "each is answered, or it is said why not: {}",
        answers.len()
    );
    assert_eq!(
        ask(&mut w, Tail { request: 1 }, |m| match m {
            Message::TailIs(m) => Some(m.gsn),
            _ => None,
        }),
        w.truth.tail
    );
}
