//! Does the client follow the order as orderers tell it, and only that?

use crate::bench::*;
use zoolog_client::{ClientConfig, LogEvent, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

#[test]
fn a_skipped_cut_is_never_guessed() {
    let (mut b, orderer, _, _) = placed(config(), 10);
    b.client.subscribe(Gsn(0));
    b.drain();
    connect_all(&mut b);
    b.say(orderer, CutIs { cut: cut(2, 1, 1, &[(lane(1, 0), 1, 2)]) });
    assert!(b.closing.contains(&orderer));
    assert_eq!(b.client.known_tail(), Some(Gsn(0)));
    assert_eq!(b.committed(), []);
    // The next connection begins with the order so far; what was missed is read.
    b.close(orderer);
    b.ms(100);
    b.follow(&|r| order_is(r, 2, 2, view(1, 2), &[(lane(1, 0), 2)]));
    let conns: Vec<_> = b.up.keys().copied().collect();
    let reads: Vec<_> = conns.into_iter().flat_map(|c| b.sent(c)).collect();
    let ranges = reads.iter().filter_map(|p| match &p.message {
        Message::Read(m) => Some((m.shard, m.from, m.to)),
        _ => None,
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [(ShardId(1), Gsn(0), Gsn(2)), (ShardId(2), Gsn(0), Gsn(2))]);
}

#[test]
fn the_leader_is_found_through_the_others() {
    let mut b = Bench::new(config(), 11);
    let (conn, first) = b.dials.pop_first().unwrap();
    b.dials.insert(conn, first.clone());
    b.connected(conn);
    b.say(conn, NotLeader { leader: Some("o9:9".into()) });
    assert!(b.closing.contains(&conn));
    let next = b.connect("o9:9");
    // Nobody leads: the configured ones in turn, after a pause.
    b.say(next, NotLeader { leader: None });
    assert!(b.dials.is_empty());
    b.ms(50);
    let (_, addr) = b.dials.first_key_value().expect("another is tried");
    assert!(ORDERERS.contains(&addr.as_str()) && *addr != first);
}

#[test]
fn orderers_that_point_at_each_other_are_not_chased_without_end() {
    let mut b = Bench::new(config(), 12);
    let mut hops = 0;
    while let Some((&conn, addr)) = b.dials.first_key_value() {
        let other = if addr == "o1:1" { "o2:1" } else { "o1:1" };
        b.connected(conn);
        b.say(conn, NotLeader { leader: Some(other.into()) });
        hops += 1;
        assert!(hops < 10);
    }
    assert!(hops > 1);
    assert!(b.client.next_deadline().is_some_and(|(at, _)| at > b.now));
}

#[test]
fn a_silent_leader_is_probed_and_then_left() {
    let (mut b, orderer, _, _) = placed(config(), 13);
    b.ms(2100);
    let probe: Vec<_> = b.sent(orderer);
    let [Packet { message: Message::Tail(probe), .. }] = &probe[..] else { panic!("{probe:?}") };
    b.say(orderer, TailIs { request: probe.request, gsn: Gsn(0) });
    assert!(!b.events().iter().any(|e| matches!(e, LogEvent::Tail { .. })), "nobody asked");
    b.ms(1900);
    assert!(b.sent(orderer).is_empty() && !b.closing.contains(&orderer));
    b.ms(1300);
    assert!(b.closing.contains(&orderer), "the second probe went unanswered");
    assert!(!b.dials.is_empty());
}

#[test]
fn another_cluster_is_not_believed() {
    let mut b = Bench::new(ClientConfig { cluster: ClusterId(5), ..config() }, 14);
    let conn = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    assert!(b.closing.contains(&conn) && b.client.known_tail().is_none());
}

#[test]
fn ready_comes_once_with_the_cluster_that_was_learned() {
    let (mut b, _, conn, _) = placed(config(), 15);
    b.close(conn);
    b.ms(1000);
    connect_all(&mut b);
    let ready = b.events().into_iter().filter(|e| matches!(e, LogEvent::Ready { .. })).collect::<Vec<_>>();
    assert_eq!(ready, [LogEvent::Ready { cluster: CLUSTER, view: ViewNumber(1) }]);
}

#[test]
fn a_leader_that_is_behind_catches_up_without_repeating_anything() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 17);
    let l = lane(1, 0);
    b.say_with(one, Push { lane: l }, &batches(l, 1, &[1, 1, 1]));
    let cuts: Vec<_> = (0..3).map(|i| cut(i + 1, i, 1, &[(l, i, i + 1)])).collect();
    b.say(orderer, CutIs { cut: cuts[0].clone() });
    b.say(orderer, CutIs { cut: cuts[1].clone() });
    assert_eq!(b.committed().len(), 2);
    b.close(orderer);
    b.ms(5);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 1, 1, view(1, 2), &[(l, 1)]));
    assert_eq!(b.client.known_tail(), Some(Gsn(2)));
    b.say(orderer, CutIs { cut: cuts[1].clone() });
    b.say(orderer, CutIs { cut: cuts[2].clone() });
    assert!(!b.closing.contains(&orderer));
    assert_eq!(b.committed().iter().map(|c| c.first_gsn).collect::<Vec<_>>(), [Gsn(2)]);
}

/// The same in few bytes: what is added is added to what that leader said, whatever another has said before.
#[test]
fn what_is_added_is_added_to_what_the_same_leader_said() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 21);
    let l = lane(1, 0);
    b.say_with(one, Push { lane: l }, &batches(l, 1, &[1, 1, 1, 1]));
    let cuts: Vec<_> = (0..4).map(|i| cut(i + 1, i, 1, &[(l, i, i + 1)])).collect();
    let grown = |i: usize| Grown::of(&cuts[i]).unwrap();
    b.say(orderer, grown(0));
    b.say(orderer, CutIs { cut: cuts[1].clone() });
    assert_eq!(b.committed().len(), 2);
    b.close(orderer);
    b.ms(100);
    // One that is behind.
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    b.say(orderer, CutIs { cut: cuts[0].clone() });
    b.say(orderer, grown(1));
    assert_eq!((b.committed(), b.client.known_tail()), (Vec::new(), Some(Gsn(2))));
    b.say(orderer, grown(2));
    assert_eq!(b.committed().iter().map(|c| c.first_gsn).collect::<Vec<_>>(), [Gsn(2)]);
    assert!(!b.closing.contains(&orderer));
    b.say(orderer, grown(2));
    assert!(b.closing.contains(&orderer), "it is no news, and nothing that follows could be placed");
    assert_eq!((b.committed(), b.client.known_tail()), (Vec::new(), Some(Gsn(3))));
}

/// Who misses one, or knows another order or view than was meant, begins anew with the order so far.
#[test]
fn what_is_added_to_something_else_is_never_guessed() {
    let l = lane(1, 0);
    let meant = [
        ("a cut is missing", cut(3, 2, 1, &[(l, 2, 3)])),
        ("256 of them are", cut(258, 257, 1, &[(l, 257, 258)])),
        ("another lane is meant", cut(2, 1, 1, &[(lane(2, 0), 3, 4)])),
        ("it begins elsewhere", cut(2, 9, 1, &[(l, 1, 2)])),
        ("another view", cut(2, 1, 2, &[(l, 1, 2)])),
        ("a lane that is none", cut(2, 1, 1, &[(lane(7, 0), 0, 1)])),
        ("beyond all", cut(2, 1, 1, &[(l, 1, u64::MAX)])),
    ];
    for (what, cut) in meant {
        let (mut b, orderer, _) = subscribed(config(), 22);
        b.say(orderer, CutIs { cut: bench_cut(l) });
        b.say(orderer, Grown::of(&cut).unwrap());
        assert!(b.closing.contains(&orderer), "{what}");
        assert_eq!((b.client.known_tail(), b.client.metrics().order_errors), (Some(Gsn(1)), 1), "{what}");
    }
}

/// The first record of a lane.
fn bench_cut(lane: LaneId) -> zoolog_core::cut::Cut {
    cut(1, 0, 1, &[(lane, 0, 1)])
}

#[test]
fn the_same_cut_with_another_order_is_not_believed() {
    let (mut b, orderer, _) = subscribed(config(), 18);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(lane(1, 0), 0, 1)]) });
    b.close(orderer);
    b.ms(100);
    for (tail, len, errors) in [(2, 2, 1), (1, 2, 2), (2, 1, 3)] {
        let orderer = b.follow(&|r| order_is(r, 1, tail, view(1, 2), &[(lane(1, 0), len)]));
        assert!(b.closing.contains(&orderer));
        assert_eq!((b.client.known_tail(), b.client.metrics().order_errors), (Some(Gsn(1)), errors));
        b.close(orderer);
        b.ms(1_000);
    }
}

/// Found by seed 12082: a shard had left the view, nothing was ordered since, and whoever had known its lanes refused the
/// order of every leader that it came to, for ever; nor did it ever append again, so that nothing was ordered.
#[test]
fn an_order_without_the_lanes_of_shards_that_are_gone_is_the_same() {
    let (mut b, orderer, _) = subscribed(config(), 20);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(lane(1, 0), 0, 1), (lane(2, 0), 0, 1)]) });
    b.close(orderer);
    b.ms(100);
    let mut later = view(2, 2);
    later.shards.remove(0);
    let orderer = b.follow(&|r| order_is(r, 1, 2, later.clone(), &[(lane(2, 0), 1)]));
    assert!(!b.closing.contains(&orderer), "it contradicts nothing");
    b.say(orderer, CutIs { cut: cut(2, 2, 2, &[(lane(2, 0), 1, 3)]) });
    assert_eq!((b.client.known_tail(), b.client.metrics().order_errors), (Some(Gsn(4)), 0));
}

#[test]
fn orderers_that_came_later_are_tried_though_all_it_was_started_with_are_gone() {
    let (mut b, orderer, _, _) = placed(config(), 19);
    let at = |n: u64| OrdererAt { id: OrdererId(n), addr: format!("o{n}:1") };
    b.say(orderer, OrderersAre { orderers: vec![at(4), at(5), at(6)] });
    b.say(orderer, OrderersAre { orderers: vec![at(4), at(5), at(6)] });
    let told = b.events().into_iter().filter(|e| matches!(e, LogEvent::Orderers { .. })).count();
    assert_eq!(told, 1, "its owner hears of changes");
    b.close(orderer);
    let mut tried = std::collections::BTreeSet::new();
    for _ in 0..20 {
        b.ms(600);
        let dialled: Vec<_> =
            b.dials.iter().filter(|(_, a)| a.starts_with('o')).map(|(c, a)| (*c, a.clone())).collect();
        for (conn, addr) in dialled {
            tried.insert(addr);
            b.close(conn);
        }
    }
    let all = ["o0:1", "o1:1", "o2:1", "o4:1", "o5:1", "o6:1"];
    assert_eq!(tried.into_iter().collect::<Vec<_>>(), all, "the new ones, and the configured ones too");
}
