//! Is who asked for it served reads by a node that is cut off, and nothing that a session must not see?

use super::world::*;
use crate::jute::{ConnectResponse, ErrorCode, EventType, Request, SetWatches, xid};
use crate::node::NodeConfig;
use std::time::Duration;
use zoolog_core::Instant;

const NOT_READ_ONLY: i32 = ErrorCode::NotReadOnly.code();

fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Two nodes that serve whoever asks for it while they are cut off.
fn world() -> World {
    let mut w = World::new(0);
    w.cfg.read_only = true;
    (0..2).for_each(|_| {
        w.start(1000);
    });
    w
}

/// A client that takes a read-only session, which is all there is.
fn read_only(
    w: &mut World,
    node: usize,
    last_zxid: i64,
    resume: Option<&ConnectResponse>,
) -> (usize, ConnectResponse) {
    let c = w.ask_read_only(node, last_zxid, resume);
    assert!(w.answer(c).is_none(), "not before the log was away for a while");
    w.advance(s(2));
    let answer = w.answer(c).expect("a session");
    assert_eq!(answer.read_only, Some(true));
    (c, answer)
}

#[test]
pub(super) fn a_node_that_is_cut_off_serves_reads_to_who_takes_that_and_nobody_else() {
    let mut w = world();
    let (a, mine) = w.connect(0);
    w.call(a, 1, &create("/a", 0));
    w.call(a, 2, &create("/mine", 1));
    let zxid = w.call(a, 3, &get("/a", false)).zxid();
    w.cut(0, true);
    w.hang_up(a);
    let other = w.ask(0, 0, 4000, None);
    let (c, answer) = read_only(&mut w, 0, zxid, Some(&mine));
    assert_eq!((answer.session, answer.timeout_ms), (mine.session, 4000));
    assert_eq!(answer.password, mine.password);
    assert_eq!(w.call(c, 1, &get("/a", true)).data(), b"new");
    assert_eq!(w.call(c, 2, &exists("/none", true)).reply(), (2, ErrorCode::NoNode.code()));
    assert_eq!(w.call(c, 3, &Request::GetEphemerals { prefix: "/".into() }).reply(), (3, 0));
    assert_eq!(w.call(c, xid::PING, &Request::Ping).reply(), (xid::PING, 0));
    for (i, request) in
        [create("/b", 0), set("/a", b"x"), delete("/a"), sync(), Request::Multi(vec![])].iter().enumerate()
    {
        assert_eq!(w.call(c, i as i32 + 10, request).reply(), (i as i32 + 10, NOT_READ_ONLY), "{request:?}");
    }
    assert_eq!(w.word(0, "isro"), "ro");
    assert_eq!(w.word(1, "isro"), "rw");
    let (srvr, mntr) = (w.word(0, "srvr"), w.word(0, "mntr"));
    assert!(
        srvr.contains("\nREAD-ONLY mode; serving only read-only clients\n")
            && srvr.contains("\nMode: read-only\n")
    );
    assert!(mntr.contains("\nzk_server_state\tread-only\n"), "{mntr}");
    assert_eq!(w.call(c, 20, &Request::CloseSession).reply(), (20, 0));
    assert!(w.is_closed(c));
    w.advance(w.cfg.handshake_patience);
    assert!(w.is_closed(other) && w.answer(other).is_none(), "who did not ask for it gets nothing");
}

/// ZK-3 and ZK-4: what is read stays as it is, and a session of the log is none as long as it is read-only.
#[test]
pub(super) fn a_read_only_session_ends_before_anything_more_is_seen() {
    let mut w = world();
    let (a, mine) = w.connect(0);
    let zxid = w.call(a, 1, &create("/a", 0)).zxid();
    w.cut(0, true);
    w.hang_up(a);
    let (c, _) = read_only(&mut w, 0, zxid, Some(&mine));
    let seen = w.call(c, 1, &get("/a", true)).zxid();
    let (b, _) = w.connect(1);
    w.call(b, 1, &set("/a", b"newer"));
    assert_eq!(w.call(c, 2, &get("/a", true)).data(), b"new");
    w.cut(0, false);
    w.advance(MS);
    assert!(w.is_closed(c));
    assert_eq!(w.got(c), [], "neither an event nor an answer behind it");
    assert_eq!(w.word(0, "isro"), "rw");
    // Its session lived on meanwhile; what it missed is told when it sets its watch again.
    let again = w.ask_read_only(0, seen, Some(&mine));
    let answer = w.answer(again).expect("a session");
    assert_eq!((answer.session, answer.read_only), (mine.session, Some(false)));
    let set_watches =
        SetWatches { relative_zxid: seen, data: vec!["/a".into()], exist: vec![], child: vec![] };
    w.send(again, xid::SET_WATCHES, &Request::SetWatches(set_watches));
    let got = w.got(again);
    assert_eq!(got[0].event(), (EventType::NodeDataChanged, "/a"), "{got:?}");
    assert_eq!(w.call(again, 3, &create("/b", 0)).reply(), (3, 0));
}

#[test]
pub(super) fn a_new_session_of_a_node_that_is_cut_off_is_unknown_to_the_others() {
    let mut w = world();
    w.connect(1);
    w.cut(0, true);
    let before = w.hub.borrow().tail();
    let (c, answer) = read_only(&mut w, 0, 0, None);
    assert!(!answer.is_refusal());
    let (d, another) = read_only(&mut w, 0, 0, None);
    assert_ne!(answer.session, another.session);
    w.hang_up(d);
    // The same node takes it again, as long as that is all there is.
    w.hang_up(c);
    let (_, again) = read_only(&mut w, 0, 0, Some(&answer));
    assert_eq!(again.session, answer.session);
    let elsewhere = w.ask_read_only(1, 0, Some(&answer));
    assert!(w.answer(elsewhere).expect("an answer").is_refusal());
    assert!(w.hub.borrow().tail() > before, "but that is a matter of the others'");
    w.cut(0, false);
    w.advance(s(20));
    assert_eq!(w.hash(0), w.hash(1));
    assert!(w.node(0).state().session(answer.session).is_none());
}

#[test]
pub(super) fn who_has_seen_more_or_is_unknown_there_is_not_served() {
    let mut w = world();
    let (a, _) = w.connect(1);
    w.cut(0, true);
    let zxid = w.call(a, 1, &create("/a", 0)).zxid();
    let (_, young) = w.connect(1);
    let ahead = w.ask_read_only(0, zxid, None);
    let unknown = w.ask_read_only(0, 0, Some(&young));
    w.advance(s(11));
    for c in [ahead, unknown] {
        assert!(
            w.is_closed(c) && w.answer(c).is_none(),
            "nobody is told that a session is gone, or shown less"
        );
    }
}

#[test]
pub(super) fn a_node_that_starts_without_the_log_serves_what_it_has_once_it_waited() {
    let mut w = world();
    w.connect(0);
    // It hears what there is, but not whether that is all.
    w.hub.borrow_mut().mute = true;
    let late = w.start(1000);
    w.cut(late, true);
    assert!(!w.is_ready(late));
    assert_eq!(w.word(late, "isro"), "null");
    let (c, _) = read_only(&mut w, late, 0, None);
    assert_eq!(w.call(c, 1, &exists("/", false)).reply(), (1, 0));
    assert_eq!(w.word(late, "isro"), "ro");
    w.cut(late, false);
    w.hub.borrow_mut().mute = false;
    w.advance(MS);
    assert!(w.is_ready(late) && w.is_closed(c));
}

#[test]
pub(super) fn a_node_that_has_nothing_yet_shows_nothing() {
    let mut w = world();
    w.connect(0);
    w.cut(2, true);
    let new = w.start(1000);
    let c = w.ask_read_only(new, 0, None);
    w.advance(s(11));
    assert!(w.is_closed(c) && w.answer(c).is_none());
    assert_eq!(w.word(new, "isro"), "null");
}

#[test]
pub(super) fn a_read_only_session_lasts_as_long_as_its_client_is_heard() {
    let mut w = world();
    w.connect(1);
    w.cut(0, true);
    let (c, _) = read_only(&mut w, 0, 0, None);
    w.advance_pinging(s(9), &[c]);
    assert!(!w.is_closed(c));
    let heard = w.now;
    w.advance(s(5));
    let ended: Instant = w.ended_at(c).expect("closed");
    assert!(ended.since(heard) >= s(4) - 200 * MS && ended.since(heard) <= s(4), "{:?}", ended.since(heard));
}

#[test]
pub(super) fn requests_sent_without_waiting_are_answered_in_order() {
    let mut w = world();
    w.connect(1);
    w.cut(0, true);
    let c = w.ask_read_only(0, 0, None);
    for i in 1..=5 {
        let request = if i == 3 { create("/x", 0) } else { exists("/", false) };
        w.send(c, i, &request);
    }
    assert!(w.answer(c).is_none());
    w.advance(s(2));
    assert_eq!(w.answer(c).expect("a session").read_only, Some(true));
    let replies: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    assert_eq!(replies, [(1, 0), (2, 0), (3, NOT_READ_ONLY), (4, 0), (5, 0)]);
}

#[test]
pub(super) fn a_node_that_is_not_set_to_serves_nobody_while_it_is_cut_off() {
    let mut w = World::new(2);
    assert!(!NodeConfig::default().read_only);
    w.connect(1);
    w.cut(0, true);
    let c = w.ask_read_only(0, 0, None);
    w.advance(s(11));
    assert!(w.is_closed(c) && w.answer(c).is_none());
    assert_eq!(w.word(0, "isro"), "rw");
}
