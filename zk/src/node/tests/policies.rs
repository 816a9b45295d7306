//! What do other policies change about answers, and what not? See docs/POLICIES.md.

use super::member::with_fronts;
use super::world::*;
use crate::jute::{ErrorCode, EventType, Request};
use zoolog_client::LogEvent;
use zoolog_core::policy::{Acks, Fetch, Reads};
use zoolog_core::wire::DiskRoom;
use zoolog_core::{Gsn, WriterId};

/// Two nodes, of which the second answers by these policies.
fn world(acks: Acks, reads: Reads) -> World {
    let mut w = World::new(1);
    (w.cfg.acks, w.cfg.reads) = (acks, reads);
    w.start(1000);
    w
}

/// The second node is told nothing of what is committed, though it is acknowledged, and its questions are answered.
fn hold_back(w: &mut World, slow: bool) {
    let slow = slow.then_some(WriterId(2)).into_iter().collect();
    w.hub.borrow_mut().slow = slow;
    w.run();
}

fn xids(got: &[Got]) -> Vec<(i32, i32)> {
    got.iter().map(Got::reply).collect()
}

#[test]
fn a_session_read_shows_what_is_applied_and_a_linearizable_one_waits_for_all_there_is() {
    for reads in Reads::ALL.iter().copied() {
        let mut w = world(Acks::Applied, reads);
        let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
        w.call(a, 1, &create("/n", 0));
        hold_back(&mut w, true);
        w.call(a, 2, &set("/n", b"newer"));
        w.send(b, 1, &get("/n", false));
        let at_once = w.got(b);
        match reads {
            Reads::Session => assert_eq!(at_once[0].data(), b"new"),
            _ => assert_eq!(at_once, [], "{reads}: what was answered before it is not applied"),
        }
        hold_back(&mut w, false);
        match reads {
            Reads::Session => assert_eq!(w.call(b, 2, &get("/n", false)).data(), b"newer"),
            _ => assert_eq!(w.got(b)[0].data(), b"newer"),
        }
    }
}

#[test]
fn a_read_through_the_log_is_a_record_and_one_that_asks_for_the_tail_is_none() {
    let records = |reads| {
        let mut w = world(Acks::Applied, reads);
        let (b, _) = w.connect(1);
        let before = w.hub.borrow().tail();
        for xid in 1..=3 {
            assert_eq!(w.call(b, xid, &get("/", false)).reply(), (xid, 0));
        }
        let after = w.hub.borrow().tail();
        after.since(before)
    };
    assert_eq!((records(Reads::Log), records(Reads::Linearizable), records(Reads::Session)), (3, 0, 0));
}

#[test]
fn reads_through_the_log_go_on_while_its_disks_are_short_of_room() {
    let mut w = world(Acks::Applied, Reads::Log);
    let (b, _) = w.connect(1);
    w.hub.borrow_mut().gap = Some(LogEvent::Room { room: DiskRoom::Low });
    w.call(b, 1, &Request::Exists { path: "/".into(), watch: false });
    // Whichever node took the word for it.
    w.hub.borrow_mut().gap = Some(LogEvent::Room { room: DiskRoom::Low });
    let before = w.hub.borrow().tail();
    assert_eq!(w.call(b, 2, &get("/", false)).reply(), (2, 0));
    assert!(w.hub.borrow().tail() <= before.plus(1));
}

/// Reads of what is not the tree need no tail, and a read's watch is left where it is answered.
#[test]
fn watches_work_with_every_kind_of_read() {
    for reads in Reads::ALL.iter().copied() {
        let mut w = world(Acks::Applied, reads);
        let ((a, _), (b, _)) = (w.connect(0), w.connect(1));
        w.call(a, 1, &create("/n", 0));
        w.call(b, 1, &get("/n", true));
        w.call(a, 2, &set("/n", b"newer"));
        let got = w.got(b);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].event(), (EventType::NodeDataChanged, "/n"));
        assert_eq!(w.call(b, 2, &get("/n", false)).data(), b"newer");
    }
}

#[test]
fn a_logged_create_is_answered_before_it_is_applied_and_reads_behind_it_wait() {
    let mut w = world(Acks::Logged, Reads::Session);
    let (b, _) = w.connect(1);
    let zxid = w.call(b, 1, &get("/", false)).zxid();
    hold_back(&mut w, true);
    for (xid, request) in
        [(2, create("/n", 0)), (3, delete("/other")), (4, get("/n", false)), (5, create("/m", 0))]
    {
        w.send(b, xid, &request);
    }
    let got = w.got(b);
    assert_eq!(xids(&got), [(2, 0), (3, 0)], "up to the read");
    assert_eq!(got[0].path(), "/n");
    assert!(got.iter().all(|g| g.zxid() == zxid), "what is applied here, since nothing else was shown");
    hold_back(&mut w, false);
    let got = w.got(b);
    assert_eq!(
        xids(&got),
        [(4, 0), (5, 0)],
        "its own write is seen; what was answered is not answered again"
    );
    assert_eq!(got[0].data(), b"new");
    assert!(got[0].zxid() > zxid && got[1].zxid() >= got[0].zxid());
    // There was no /other to delete; that was answered as done.
    assert!(w.word(1, "mntr").contains("zk_writes_failed_after_ack\t1\n"), "{}", w.word(1, "mntr"));
    assert_eq!(w.hash(0), w.hash(1));
}

#[test]
fn what_only_applying_can_tell_waits_for_it() {
    let waits = [
        create("/n", 1),
        create("/n", 2),
        set("/n", b"x"),
        Request::Delete { path: "/n".into(), version: 3 },
        Request::Create { path: "/n".into(), data: None, acl: open_acl(), flags: 0, with_stat: true },
        Request::Multi(vec![delete("/n")]),
    ];
    for request in waits {
        let mut w = world(Acks::Logged, Reads::Session);
        let (b, _) = w.connect(1);
        hold_back(&mut w, true);
        w.send(b, 1, &request);
        // A plain one behind it has to wait for its turn.
        w.send(b, 2, &create("/later", 0));
        assert_eq!(w.got(b), [], "{request:?}");
        hold_back(&mut w, false);
        assert_eq!(w.got(b).len(), 2, "{request:?}");
    }
}

/// A change that happened before a logged write is told after its answer, with a greater zxid.
#[test]
fn an_early_answer_hides_no_event() {
    let mut w = world(Acks::Logged, Reads::Session);
    let ((a, _), (b, session)) = (w.connect(0), w.connect(1));
    w.call(a, 1, &create("/n", 0));
    w.call(b, 1, &get("/n", true));
    hold_back(&mut w, true);
    w.call(a, 2, &set("/n", b"newer"));
    let answer = w.call(b, 2, &create("/m", 0));
    hold_back(&mut w, false);
    let event = &w.got(b)[0];
    assert!(event.zxid() > answer.zxid(), "{event:?} after {answer:?}");
    // And who comes back elsewhere finds his write.
    w.hang_up(b);
    let b = w.ask(0, answer.zxid(), 4000, Some(&session));
    assert!(!w.answer(b).expect("an answer").is_refusal());
    assert_eq!(w.call(b, 3, &get("/m", false)).data(), b"new");
}

#[test]
fn an_early_answer_does_not_outlive_its_session() {
    let mut w = world(Acks::Logged, Reads::Session);
    let (b, session) = w.connect(1);
    hold_back(&mut w, true);
    w.call(b, 1, &create("/n", 0));
    // The session moves: what comes over the old connection doesn't count any more.
    let c = w.ask(0, 0, 4000, Some(&session));
    assert!(!w.answer(c).expect("an answer").is_refusal());
    w.send(b, 2, &create("/late", 0));
    hold_back(&mut w, false);
    assert!(w.is_closed(b));
    assert_eq!(w.call(c, 2, &get("/n", false)).reply(), (2, 0));
    assert_eq!(w.call(c, 3, &get("/late", false)).reply(), (3, ErrorCode::NoNode.code()));
}

/// A lazy node wants what somebody waits for, and no more.
#[test]
fn a_lazy_node_asks_for_what_is_waited_for() {
    let mut w = World::new(1);
    (w.cfg.acks, w.cfg.log.fetch) = (Acks::Logged, Fetch::Lazy);
    w.start(1000);
    let wanted = |w: &World| w.back(1).log().wanted;
    let (b, _) = w.connect(1);
    let before = wanted(&w);
    assert_eq!(before, w.hub.borrow().tail(), "its session");
    hold_back(&mut w, true);
    w.call(b, 1, &create("/n", 0));
    assert_eq!(wanted(&w), before, "nobody waits for a logged write");
    w.send(b, 2, &get("/n", false));
    assert_eq!(wanted(&w), before.plus(1), "but for a read behind it");
    w.send(b, 3, &set("/n", b"x"));
    assert_eq!(wanted(&w), before.plus(2), "and for an outcome");
    w.send(b, 4, &sync());
    assert_eq!(wanted(&w), w.hub.borrow().tail());
    let refreshed = w.back(1).log().refreshed;
    hold_back(&mut w, false);
    w.got(b);
    w.advance_pinging(4000 * MS, &[b]);
    assert!(w.back(1).log().refreshed >= refreshed + 4, "once per touch interval");
    assert!(wanted(&w) > Gsn(0));
}

/// Nodes that may be behind for as long as they like end nobody's session.
#[test]
fn lazy_and_deferred_nodes_expire_nobody() {
    for (fetch, expires) in [(Fetch::Batched, true), (Fetch::Deferred, false), (Fetch::Lazy, false)] {
        let mut w = World::new(0);
        w.cfg.log.fetch = fetch;
        w.start(1000);
        w.connect(0);
        w.advance(60_000 * MS);
        assert_eq!(w.node(0).state().sessions().len(), usize::from(!expires), "{fetch}");
    }
}

#[test]
fn the_same_at_several_executors() {
    for fronts in [1, 3] {
        for test in [
            a_session_read_shows_what_is_applied_and_a_linearizable_one_waits_for_all_there_is,
            a_read_through_the_log_is_a_record_and_one_that_asks_for_the_tail_is_none,
            watches_work_with_every_kind_of_read,
            a_logged_create_is_answered_before_it_is_applied_and_reads_behind_it_wait,
            what_only_applying_can_tell_waits_for_it,
            an_early_answer_hides_no_event,
            an_early_answer_does_not_outlive_its_session,
            lazy_and_deferred_nodes_expire_nobody,
        ] {
            with_fronts(fronts, 7, test);
        }
    }
}
