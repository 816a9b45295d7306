//! What if somebody sends nonsense, or somebody else's messages?

use crate::driver::{CLUSTER, Sim, hello};
use crate::model::World;
use bytes::Bytes;
use zoolog_core::cut::Order;
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::{ClusterId, Incarnation, OrdererId, ServerId, ShardId, SlotId};

fn refusal(sim: &mut Sim, g: usize) -> RefusedWhy {
    let why = sim.answer(g, "a refusal", |m| match m {
        Message::Refused(r) => Some(r.why),
        _ => None,
    });
    sim.run_ms(2);
    assert!(!sim.guests[g].open, "refused means closed");
    why
}

#[test]
fn hello_comes_first_and_names_the_right_cluster() {
    let mut sim = Sim::new(3, 1);
    let leader = sim.elect();
    let g = sim.connect(leader);
    sim.send(g, WatchCuts { request: 1 });
    assert_eq!(refusal(&mut sim, g), RefusedWhy::Unexpected);
    for role in [Role::Slot, Role::Orderer, Role::Client] {
        let g = sim.connect(leader);
        sim.send(g, Hello { cluster: ClusterId(2), ..hello(role, 2, 1) });
        assert_eq!(refusal(&mut sim, g), RefusedWhy::Cluster);
    }
    let g = sim.connect(leader);
    sim.send(g, Hello { cluster: ClusterId(0), ..hello(Role::Slot, 2, 1) });
    assert_eq!(refusal(&mut sim, g), RefusedWhy::Cluster);
    let g = sim.connect(leader);
    sim.send(g, Hello { cluster: ClusterId(0), ..hello(Role::Client, 0, 0) });
    sim.send(g, WatchCuts { request: 9 });
    let cluster = sim.answer(g, "the order", |m| match m {
        Message::OrderIs(o) => Some((o.request, o.cluster)),
        _ => None,
    });
    assert_eq!(cluster, (9, CLUSTER), "a client learns the cluster");
}

#[test]
fn a_connection_that_never_says_who_it_is_is_closed() {
    let mut sim = Sim::new(3, 1);
    let g = sim.connect(0);
    let client = sim.client(0);
    sim.run_ms(9_000);
    assert!(sim.guests[g].open);
    sim.run_ms(1_200);
    assert!(!sim.guests[g].open && sim.guests[client].open);
}

#[test]
fn messages_of_another_role_are_refused() {
    let mut sim = Sim::new(3, 2);
    let leader = sim.elect();
    let slot = SlotId { server: ServerId(1), index: 0 };
    let report = Report { slot, incarnation: Incarnation(1), cuts: CutsWanted::Own, shards: vec![] };
    let (addr, domain) = ("a:1".to_string(), String::new());
    let register = Register { slot, incarnation: Incarnation(1), addr, domain, stamp: 0, parts: vec![] };
    for m in [
        Message::from(report.clone()),
        register.clone().into(),
        TailIs { request: 1, gsn: zoolog_core::Gsn(1) }.into(),
    ] {
        let g = sim.client(leader);
        sim.send(g, m);
        assert_eq!(refusal(&mut sim, g), RefusedWhy::Unexpected);
    }
    let g = sim.connect(leader);
    sim.send(g, hello(Role::Slot, 1, 1));
    sim.send(g, report);
    assert_eq!(refusal(&mut sim, g), RefusedWhy::Unexpected, "a report before a registration");
    let g = sim.connect(leader);
    sim.send(g, hello(Role::Slot, 2, 1));
    sim.send(g, register);
    assert_eq!(refusal(&mut sim, g), RefusedWhy::Invalid, "another slot's registration");
}

#[test]
fn an_older_start_of_a_slot_is_refused_as_stale() {
    let mut w = World::ready(3);
    let leader = w.sim.leader().unwrap();
    w.slots[0].restart(&mut w.sim);
    w.until("registered again", |w| w.slots[0].registered);
    let g = w.sim.connect(leader);
    w.sim.send(g, hello(Role::Slot, 0, 1));
    let (slot, addr) = (w.slots[0].id, "s0:1".to_string());
    let old =
        Register { slot, incarnation: Incarnation(1), addr, domain: String::new(), stamp: 0, parts: vec![] };
    w.sim.send(g, old);
    assert_eq!(refusal(&mut w.sim, g), RefusedWhy::Stale);
    w.append(1, 0, 3);
    w.until("the living one counts", |w| w.truth.tail.0 == 3);
}

/// LOG-2: what that start's number stood for before is not known of it. It has to come with one that was never used.
#[test]
fn a_start_whose_number_is_older_than_the_newest_is_sent_away_once_that_is_gone() {
    let mut w = World::ready(9);
    w.slots[0].restart(&mut w.sim);
    w.until("registered again", |w| w.slots[0].registered);
    w.slots[0].disconnect(&mut w.sim);
    w.slots[0].mute = true;
    w.sim.run_ms(50);
    let leader = w.sim.leader().unwrap();
    let g = w.sim.connect(leader);
    w.sim.send(g, hello(Role::Slot, 0, 1));
    let (slot, addr) = (w.slots[0].id, "s0:1".to_string());
    let (domain, stamp) = (String::new(), w.slots[0].stamp);
    w.sim.send(g, Register { slot, incarnation: Incarnation(1), addr, domain, stamp, parts: vec![] });
    let (why, text) = w.sim.answer(g, "a refusal", |m| match m {
        Message::Refused(r) => Some((r.why, r.text.clone())),
        _ => None,
    });
    assert_eq!(why, RefusedWhy::Dismissed, "{text}");
    assert!(text.contains("Start it again"), "it says what to do: {text}");
    // Its next one is higher, and counts.
    w.slots[0].mute = false;
    w.slots[0].restart(&mut w.sim);
    w.until("registered again", |w| w.slots[0].registered);
    w.append(1, 0, 3);
    w.until("it counts", |w| w.truth.tail.0 == 3);
}

#[test]
fn a_report_that_goes_back_is_refused_as_damaged_and_the_order_stands() {
    let mut w = World::ready(4);
    w.append(1, 0, 8);
    w.until("committed", |w| w.truth.tail.0 == 8);
    let holder = (0..3).find(|i| w.slots[*i].shards.contains_key(&ShardId(1))).unwrap();
    let g = w.slots[holder].guest.unwrap();
    w.slots[holder].shards.get_mut(&ShardId(1)).unwrap().durable[0] = 7;
    w.slots[holder].report(&mut w.sim);
    assert_eq!(refusal(&mut w.sim, g), RefusedWhy::Damaged);
    assert_eq!(w.sim.machine(w.sim.leader().unwrap()).state().tail().0, 8);
}

#[test]
fn status_is_json_for_anybody() {
    let mut sim = Sim::new(3, 5);
    let leader = sim.elect();
    sim.run_ms(100);
    for i in 0..3 {
        let g = sim.client(i);
        sim.send(g, Status { request: 5 });
        let json = sim.answer(g, "a status", |m| match m {
            Message::StatusIs(s) => Some(s.json.clone()),
            _ => None,
        });
        assert!(json.starts_with("{\"role\":\"orderer\"") && json.ends_with('}'), "{json}");
        assert!(json.contains(&format!("\"leader\":{}", i == leader)), "{json}");
        assert!(json.contains(&format!("\"leader_addr\":\"{}\"", crate::driver::addr(leader))), "{json}");
    }
}

/// SYS-1: whatever bytes come, in whatever role, nobody panics and the work goes on.
#[test]
fn garbage_frames_never_panic_and_cost_only_their_connection() {
    let mut w = World::ready(6);
    let mut rng = Rng::new(6, "garbage");
    for i in 0..600u64 {
        let node = (i % 3) as usize;
        let g = w.sim.connect(node);
        match rng.below(4) {
            0 => w.sim.send(g, hello(Role::Client, 0, 0)),
            1 => w.sim.send(g, hello(Role::Slot, rng.below(4), rng.below(3))),
            2 => w.sim.send(g, hello(Role::Orderer, rng.below(5), 1)),
            _ => {}
        }
        let len = rng.below(120) as usize;
        let noise: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        let crc = crc32c::crc32c(&noise);
        let frame = match rng.below(3) {
            0 => Bytes::from(noise),
            1 => encode_with(Raft { from: rng.below(4), crc }, &[&noise]),
            _ => {
                let mut good = encode(Tail { request: 1 }).to_vec();
                let at = rng.below(good.len() as u64) as usize;
                good[at] ^= 1 << rng.below(8);
                good.into()
            }
        };
        w.sim.send_raw(g, frame);
        w.run_ms(1);
    }
    w.until("slots are back", |w| w.slots.iter().all(|s| s.registered));
    let before = w.truth.tail.0;
    w.append(1, 0, 3);
    w.until("the work goes on", |w| w.truth.tail.0 >= before + 3);
}

/// SYS-1: raft messages that decode, from a member, with any numbers in them.
#[test]
fn forged_raft_messages_never_panic() {
    use protobuf::Message as _;
    use raft::eraftpb::{Entry, Message as RaftMessage, MessageType};
    let kinds = [
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgSnapshot,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgPropose,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
        MessageType::MsgTransferLeader,
        MessageType::MsgTimeoutNow,
        MessageType::MsgHup,
        MessageType::MsgSnapStatus,
        MessageType::MsgUnreachable,
        MessageType::MsgCheckQuorum,
        MessageType::MsgBeat,
    ];
    for seed in 0..6 {
        let mut sim = Sim::new(3, seed);
        sim.elect();
        let mut rng = Rng::new(seed, "forged");
        let mut heard = 0;
        for _ in 0..1500 {
            let to = rng.below(3) as usize;
            let from = (to as u64 + 1 + rng.below(2)) % 3 + 1;
            let number = |rng: &mut Rng| match rng.below(6) {
                0 => u64::MAX,
                1 => rng.below(1 << 40),
                _ => rng.below(8),
            };
            let mut m = RaftMessage::default();
            m.set_msg_type(kinds[rng.below(kinds.len() as u64) as usize]);
            m.from = from;
            m.to = to as u64 + 1;
            // Terms close to the real one, or the others' messages would all be ignored.
            m.term = if rng.chance(90) { rng.below(6) } else { number(&mut rng) };
            m.log_term = number(&mut rng);
            m.index = number(&mut rng);
            m.commit = number(&mut rng);
            m.commit_term = number(&mut rng);
            m.reject = rng.chance(30);
            m.reject_hint = number(&mut rng);
            m.request_snapshot = if rng.chance(5) { 7 } else { 0 };
            for i in 0..rng.below(3) {
                let mut e = Entry::new();
                e.index = if rng.chance(80) { m.index.wrapping_add(1 + i) } else { number(&mut rng) };
                e.term = if rng.chance(80) { m.log_term } else { number(&mut rng) };
                m.mut_entries().push(e);
            }
            if rng.chance(20) {
                let meta = m.mut_snapshot().mut_metadata();
                meta.index = rng.below(9);
                meta.term = rng.below(4);
                meta.mut_conf_state().set_voters(vec![1, 2, 3]);
                let state = zoolog_order::State::new(CLUSTER).encode();
                m.mut_snapshot().set_data(state.into());
            }
            let bytes = m.write_to_bytes().unwrap();
            let g = sim.connect(to);
            sim.send(g, hello(Role::Orderer, from, 1));
            // Else it isn't heard at all.
            let birth = sim.machine(to).state().members().get(OrdererId(from)).map_or(0, |m| m.birth);
            let addr = crate::driver::addr(from as usize - 1);
            sim.send(g, Introduce { birth, born: true, yours: 0, addr });
            sim.send_raw(g, encode_with(Raft { from, crc: crc32c::crc32c(&bytes) }, &[&bytes]));
            sim.run(std::time::Duration::from_micros(rng.between(600, 3000)));
            heard += usize::from(sim.guests[g].open);
        }
        assert!(heard > 1000, "{heard} connections were listened to");
    }
}

#[test]
fn subscribers_beyond_the_bound_are_sent_to_a_replica() {
    let mut w = World::ready(8);
    let leader = w.sim.leader().unwrap();
    let mut refused = 0;
    let all: Vec<usize> = (0..300).map(|_| w.sim.client(leader)).collect();
    for g in &all {
        w.sim.send(*g, WatchCuts { request: 1 });
    }
    w.run_ms(50);
    for g in all {
        refused += usize::from(w.sim.take(g).iter().any(|m| matches!(m, Message::Refused(_))));
    }
    assert!((40..=60).contains(&refused), "{refused} refused");
    w.append(1, 0, 2);
    w.until("slots are served as before", |w| w.truth.tail.0 == 2);
}

/// A cut in few bytes is the same cut: what it says lies behind the order that its subscriber was told.
#[test]
fn who_watches_growth_is_told_the_same_in_fewer_bytes() {
    let mut w = World::ready(11);
    let leader = w.sim.leader().unwrap();
    let (few, whole) = (w.sim.client(leader), w.sim.client(leader));
    w.sim.send(few, WatchGrowth { request: 5 });
    w.sim.send(whole, WatchCuts { request: 6 });
    w.run_ms(20);
    let Some(Message::OrderIs(told)) = w.sim.take(few).into_iter().next() else { panic!("no order") };
    w.sim.take(whole);
    let lens = told.lanes.iter().map(|l| (l.lane, l.to)).collect();
    let mut order = Order { number: told.number, tail: told.tail, lens };
    for records in 1..=5 {
        w.append(1, 0, 1);
        w.until("it is ordered", |w| w.truth.tail.0 == records);
    }
    w.run_ms(20);
    let (few, whole) = (w.sim.take(few), w.sim.take(whole));
    assert_eq!((few.len(), whole.len()), (5, 5), "{few:?} {whole:?}");
    for (few, whole) in few.into_iter().zip(whole) {
        let (Message::Grown(grown), Message::CutIs(is)) = (few, whole) else { panic!("no cuts") };
        let cut = grown.behind(&order, told.view.number).unwrap();
        assert_eq!(cut, is.cut);
        order.apply(&cut).unwrap();
    }
}

/// Who asks for records is told of views, and of the end when it asks; no cut costs it or the leader anything.
#[test]
fn who_watches_views_is_told_of_no_cut() {
    let mut w = World::ready(9);
    let leader = w.sim.leader().unwrap();
    let (quiet, follower) = (w.sim.client(leader), w.sim.client(leader));
    w.sim.send(quiet, WatchViews { request: 5 });
    w.sim.send(follower, WatchCuts { request: 6 });
    w.run_ms(20);
    let first = w.sim.take(quiet);
    assert!(
        matches!(&first[..], [Message::OrderIs(o), Message::OrderersAre(_)] if o.request == 5),
        "{first:?}"
    );
    w.append(1, 0, 2);
    w.until("it is ordered", |w| w.truth.tail.0 == 2);
    w.run_ms(20);
    assert!(w.sim.take(follower).iter().any(|m| matches!(m, Message::CutIs(_))));
    assert_eq!(w.sim.take(quiet), []);
    w.sim.send(quiet, Tail { request: 7 });
    let gsn = w.sim.answer(quiet, "the end", |m| match m {
        Message::TailIs(t) => Some((t.request, t.gsn.0)),
        _ => None,
    });
    assert_eq!(gsn, (7, 2));
}
