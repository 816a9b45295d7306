//! Do sessions begin, move and end as they should?

use super::world::*;
use crate::jute::{ConnectRequest, ErrorCode, EventType, Request, xid};
use std::time::Duration;
use zoolog_core::Instant;

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The node's bounds are 2 and 20 ticks of a second.
#[test]
pub(super) fn timeouts_are_clamped_and_returned() {
    let mut w = World::new(1);
    for (wished, granted) in [(-5, 2000), (0, 2000), (4000, 4000), (i32::MAX, 20_000)] {
        let c = w.ask(0, 0, wished, None);
        assert_eq!(w.answer(c).expect("an answer").timeout_ms, granted);
    }
}

#[test]
pub(super) fn an_old_client_that_sends_no_flag_gets_none() {
    let mut w = World::new(1);
    let c = w.dial(0);
    let mut bytes = Vec::new();
    let mut request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 4000,
        session: 0,
        password: &[0; 16],
        read_only: None,
    };
    request.encode(&mut bytes);
    w.put(c, &bytes, true);
    w.run();
    let answer = w.answer(c).expect("an answer");
    assert_eq!((answer.read_only, answer.is_refusal()), (None, false));
    // A refusal has none either.
    let c = w.dial(0);
    request.session = 7;
    bytes.clear();
    request.encode(&mut bytes);
    w.put(c, &bytes, true);
    w.run();
    let answer = w.answer(c).expect("an answer");
    assert_eq!((answer.read_only, answer.is_refusal(), w.is_closed(c)), (None, true, true));
}

#[test]
pub(super) fn requests_sent_without_waiting_for_the_session_are_served_once_it_is_there() {
    let mut w = World::new(1);
    w.hub.borrow_mut().hold = true;
    let c = w.ask(0, 0, 4000, None);
    w.send(c, 1, &create("/a", 0));
    w.send(c, 2, &get("/a", false));
    assert!(w.answer(c).is_none());
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(9);
    w.run();
    assert!(!w.answer(c).expect("an answer").is_refusal());
    assert_eq!(w.got(c).iter().map(Got::reply).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
}

#[test]
pub(super) fn a_wrong_password_is_refused_and_does_not_disturb_the_owner() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    let tail = w.hub.borrow().tail();
    for node in 0..2 {
        let mut forged = answer;
        forged.password[15] ^= 1;
        let thief = w.ask(node, 0, 4000, Some(&forged));
        assert!(w.answer(thief).expect("a refusal").is_refusal());
        assert!(w.is_closed(thief));
    }
    assert_eq!(w.hub.borrow().tail(), tail, "nothing was logged");
    assert_eq!(w.call(c, 1, &create("/a", 0)).reply(), (1, 0));
}

#[test]
pub(super) fn a_session_resumed_on_the_same_node_leaves_its_old_connection() {
    let mut w = World::new(1);
    let (old, answer) = w.connect(0);
    w.call(old, 1, &create("/e", 1));
    let new = w.ask(0, 0, 4000, Some(&answer));
    let again = w.answer(new).expect("an answer");
    assert_eq!((again.session, again.password), (answer.session, answer.password));
    assert!(w.is_closed(old));
    assert_eq!(w.call(new, 1, &get("/e", false)).data(), b"new");
}

/// The old connection's write is in the log behind the move: it must not count.
#[test]
pub(super) fn what_the_old_connection_wrote_after_the_move_does_nothing() {
    let mut w = World::new(2);
    let (old, answer) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    let new = w.ask(1, 0, 4000, Some(&answer));
    w.send(old, 1, &create("/late", 0));
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(9);
    w.run();
    assert!(!w.answer(new).expect("an answer").is_refusal());
    assert!(w.is_closed(old));
    assert_eq!(w.got(old), [], "no reply: the client can't know what became of it");
    assert_eq!(w.call(new, 1, &exists("/late", false)).reply(), (1, ErrorCode::NoNode.code()));
    assert_eq!(w.hash(0), w.hash(1));
}

/// A write that is in the log before the move counts, though its client never hears of it.
#[test]
pub(super) fn what_was_logged_before_the_move_counts() {
    let mut w = World::new(2);
    let (old, answer) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    w.send(old, 1, &create("/early", 0));
    let new = w.ask(1, 0, 4000, Some(&answer));
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(9);
    w.run();
    assert!(!w.answer(new).expect("an answer").is_refusal());
    assert_eq!(w.call(new, 1, &exists("/early", false)).reply(), (1, 0));
    assert!(w.is_closed(old));
}

#[test]
pub(super) fn a_closed_session_takes_its_ephemerals_along_and_can_not_be_resumed() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    let (other, _) = w.connect(1);
    w.call(c, 1, &create("/e", 1));
    w.call(other, 1, &exists("/e", true));
    w.put_request(c, 2, &Request::CloseSession);
    w.put_request(c, 3, &create("/x", 0)); // ignored: it has said goodbye
    w.run();
    assert_eq!(w.got(c).iter().map(Got::reply).collect::<Vec<_>>(), [(2, 0)]);
    assert!(w.is_closed(c));
    assert_eq!(w.got(other)[0].event(), (EventType::NodeDeleted, "/e"));
    assert_eq!(w.call(other, 2, &exists("/x", false)).reply(), (2, ErrorCode::NoNode.code()));
    for node in 0..2 {
        let again = w.ask(node, 0, 4000, Some(&answer));
        assert!(w.answer(again).expect("a refusal").is_refusal());
        assert!(w.is_closed(again));
    }
}

#[test]
pub(super) fn a_client_that_has_seen_more_waits_for_the_node_to_catch_up_or_is_closed() {
    let mut w = World::new(2);
    let (a, _) = w.connect(0);
    w.cut(1, true);
    let seen = w.call(a, 1, &create("/a", 0)).zxid();
    let patient = w.ask(1, seen, 4000, None);
    w.advance(s(1));
    assert!(w.answer(patient).is_none());
    w.cut(1, false);
    w.run();
    assert!(!w.answer(patient).expect("an answer").is_refusal());
    let liar = w.ask(1, 1 << 40, 4000, None);
    let asked = w.now;
    w.advance(s(3));
    assert_eq!(w.ended_at(liar), Some(asked + s(2)));
    assert!(w.answer(liar).is_none());
}

#[test]
pub(super) fn a_node_that_has_not_caught_up_lets_handshakes_wait_but_not_for_ever() {
    let mut w = World::new(1);
    let (a, _) = w.connect(0);
    w.call(a, 1, &create("/a", 0));
    w.cut(1, true); // The next node starts cut off.
    w.start(100);
    assert!(!w.is_ready(1));
    let early = w.ask(1, 0, 4000, None);
    w.advance(s(9));
    let late = w.ask(1, 0, 4000, None);
    w.advance(s(2));
    assert!(w.is_closed(early) && !w.is_closed(late));
    w.cut(1, false);
    w.run();
    assert!(w.is_ready(1));
    assert!(!w.answer(late).expect("an answer").is_refusal());
    assert_eq!(w.call(late, 1, &get("/a", false)).data(), b"new");
}

#[test]
pub(super) fn a_connection_that_says_nothing_is_closed() {
    let mut w = World::new(1);
    let c = w.dial(0);
    let at = w.now;
    w.advance(s(11));
    assert_eq!(w.ended_at(c), Some(at + s(10)));
}

#[test]
pub(super) fn pings_keep_a_session_and_silence_ends_it_within_its_timeout_and_a_tick() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    let (other, _) = w.connect(1);
    w.call(c, 1, &create("/e", 1));
    w.advance_pinging(s(60), &[c, other]);
    assert!(!w.is_closed(c));
    w.got(other);
    assert_eq!(w.call(other, 1, &exists("/e", true)).reply(), (1, 0));
    let silent_from = w.now;
    w.send(c, xid::PING, &Request::Ping);
    w.advance_pinging(s(6), &[other]);
    let ended = w.ended_at(c).expect("closed");
    assert!(ended >= silent_from + s(4) && ended <= silent_from + s(5), "{:?}", ended.since(silent_from));
    assert!(w.got(other).iter().any(|g| matches!(g, Got::Event(_, EventType::NodeDeleted, p) if p == "/e")));
    assert_eq!(w.hash(0), w.hash(1));
}

/// Heard late and then again before the next touch would be due, it must not seem silent to anybody.
#[test]
pub(super) fn a_client_that_speaks_just_before_its_timeout_is_answered_on() {
    for phase in 0..20 {
        let mut w = World::new(2);
        w.advance(phase * 50 * MS);
        let (other, _) = w.connect(1);
        w.advance_pinging(phase * 30 * MS, &[other]);
        let (c, _) = w.connect(0);
        for _ in 0..3 {
            w.advance_pinging(3600 * MS, &[other]);
            w.call(c, xid::PING, &Request::Ping);
            w.advance_pinging(550 * MS, &[other]);
            w.call(c, xid::PING, &Request::Ping);
        }
    }
}

#[test]
pub(super) fn a_session_whose_connection_broke_lives_on_until_its_timeout() {
    let mut w = World::new(1);
    let (c, answer) = w.connect(0);
    let (other, _) = w.connect(0);
    w.hang_up(c);
    w.advance_pinging(s(3), &[other]);
    assert!(w.node(0).state().session(answer.session).is_some());
    let again = w.ask(0, 0, 4000, Some(&answer));
    assert!(!w.answer(again).expect("an answer").is_refusal());
    w.hang_up(again);
    w.advance_pinging(Duration::from_millis(4100), &[other]);
    assert!(w.node(0).state().session(answer.session).is_none());
}

#[test]
pub(super) fn a_dead_nodes_sessions_are_expired_by_another_after_a_touch_interval_more() {
    let mut w = World::new(3);
    let (c, _) = w.connect(0);
    let (other, _) = w.connect(1);
    w.call(c, 1, &create("/e", 1));
    w.advance_pinging(s(10), &[c, other]);
    w.kill(0);
    let killed = w.now;
    w.got(other);
    w.call(other, 1, &exists("/e", true));
    w.advance_pinging(s(4), &[other]);
    assert_eq!(
        w.call_through_pongs(other, &exists("/e", false)),
        0,
        "no other node expires it before its timeout"
    );
    w.advance_pinging(s(4), &[other]);
    let gone = w.got(other).iter().any(|g| matches!(g, Got::Event(_, EventType::NodeDeleted, _)));
    assert!(gone, "gone within {:?}", w.now.since(killed));
    assert_eq!(w.hash(1), w.hash(2));
}

/// The log stands still for longer than every timeout; nobody can be blamed.
#[test]
pub(super) fn a_standstill_of_the_log_expires_no_session() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    w.advance_pinging(s(10), &[c]);
    w.hub.borrow_mut().hold = true;
    w.advance_pinging(s(30), &[c]);
    assert!(w.is_closed(c), "the node must not answer for it");
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(usize::MAX);
    w.run();
    w.advance(s(1));
    let again = w.ask(1, 0, 4000, Some(&answer));
    assert!(!w.answer(again).expect("an answer").is_refusal(), "it had its whole timeout again");
}

#[test]
pub(super) fn a_request_that_makes_no_progress_costs_the_connection_before_its_timeout() {
    let mut w = World::new(1);
    let (c, answer) = w.connect(0);
    w.hub.borrow_mut().mute = true;
    w.send(c, 1, &sync());
    let asked = w.now;
    w.advance_pinging(s(4), &[c]);
    let ended = w.ended_at(c).expect("closed").since(asked);
    assert!(ended > s(4) * 2 / 3 && ended < s(4), "{ended:?}");
    let again = w.ask(0, 0, 4000, Some(&answer));
    assert!(!w.answer(again).expect("an answer").is_refusal());
}

/// Invariant ZK-4: whoever is cut off stops answering before anybody else may expire the session.
#[test]
pub(super) fn a_node_that_is_cut_off_stops_answering_before_another_expires_the_session() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    let (other, _) = w.connect(1);
    w.advance_pinging(s(10), &[c, other]);
    w.cut(0, true);
    let cut = w.now;
    let mut last_pong = cut;
    while w.node(1).state().session(answer.session).is_some() {
        w.got(c);
        w.advance_pinging(Duration::from_millis(100), &[c, other]);
        if !w.got(c).is_empty() {
            last_pong = w.now;
        }
        assert!(w.now < cut + s(20), "it must end some day");
    }
    let expired = w.now;
    assert!(last_pong < cut + s(4) && expired > last_pong + s(1), "{last_pong:?} {expired:?}");
    assert!(w.is_closed(c));
    w.cut(0, false);
    w.run();
    assert_eq!(w.hash(0), w.hash(1));
}

/// Its node was in touch with the log until lately, but what the log knows of the session is older: others count
/// from that.
#[test]
pub(super) fn a_session_heard_after_a_silence_is_not_answered_longer_than_the_log_vouches_for_it() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    let (other, _) = w.connect(1);
    w.advance_pinging(3500 * MS, &[other]);
    w.cut(0, true);
    let mut last_pong = None;
    while w.node(1).state().session(answer.session).is_some() {
        w.got(c);
        w.advance_pinging(50 * MS, &[c, other]);
        last_pong = if w.got(c).is_empty() { last_pong } else { Some(w.now) };
    }
    assert!(last_pong.is_some_and(|at| at + s(1) <= w.now), "{last_pong:?} {:?}", w.now);
}

/// The process was stopped, the socket's bytes waited: the first thing it does is not to answer them.
#[test]
pub(super) fn a_node_that_was_frozen_does_not_answer_what_waited_meanwhile() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    w.advance_pinging(s(5), &[c]);
    w.got(c);
    w.now = Instant(w.now.0 + 30_000_000_000);
    w.send(c, xid::PING, &Request::Ping);
    assert!(w.is_closed(c));
    assert_eq!(w.got(c), []);
}

#[test]
pub(super) fn an_expiry_that_races_with_a_touch_does_nothing() {
    let mut w = World::new(2);
    let (c, answer) = w.connect(0);
    let (other, _) = w.connect(1);
    w.advance_pinging(s(5), &[c, other]);
    w.hang_up(c);
    // Node 0 proposes the expiry while the move to node 1 is already before it in the log.
    w.advance_pinging(Duration::from_millis(3700), &[other]);
    w.hub.borrow_mut().hold = true;
    let moved = w.ask(1, 0, 4000, Some(&answer));
    w.advance_pinging(Duration::from_millis(500), &[other]);
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(usize::MAX);
    w.run();
    assert!(!w.answer(moved).expect("an answer").is_refusal());
    assert!(w.node(0).state().session(answer.session).is_some());
    w.advance_pinging(s(10), &[moved, other]);
    assert!(!w.is_closed(moved));
    assert_eq!(w.hash(0), w.hash(1));
}

#[test]
pub(super) fn an_idle_service_without_sessions_writes_nothing() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    w.call(c, 1, &Request::CloseSession);
    w.advance(s(10));
    let tail = w.hub.borrow().tail();
    w.advance(s(1000));
    assert_eq!(w.hub.borrow().tail(), tail);
    assert_eq!(w.node(0).state().sessions().len(), 0);
}

#[test]
pub(super) fn a_restarted_node_replays_to_the_same_state() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    for i in 0..50 {
        w.call(c, i + 1, &create(&format!("/n{i}"), i % 4));
    }
    let third = w.start(10);
    assert!(w.is_ready(third));
    assert_eq!((w.hash(third), w.hash(1)), (w.hash(0), w.hash(0)));
}
