//! Does nobody wait for what is large? Events for many, long lists, the watches of who has gone: each turn does a bounded
//! part of it, and clients see the same as if it had been done at once.

use super::world::*;
use crate::jute::{ErrorCode, EventType, Reader, Request, SetWatches, xid};
use proptest::prelude::*;
use std::collections::BTreeSet;
use zoolog_core::Gsn;
use zoolog_core::limits::OUT_BYTES_PAUSE;

const CROWD: usize = 1500;
/// As in [`Steps`](crate::node::Steps).
const TELL_STEP: usize = 512;
const TIDY_STEP: usize = 4096;

/// Clients that all watch `/hot`, and one that sets it.
fn crowd() -> (World, Vec<usize>, usize) {
    let mut w = World::new(0);
    w.cfg.max_connections_per_ip = 0;
    w.start(1000);
    let (setter, _) = w.connect(0);
    w.call(setter, 1, &create("/hot", 0));
    let crowd: Vec<usize> = (0..CROWD).map(|_| w.connect(0).0).collect();
    for c in &crowd {
        w.put_request(*c, 1, &get("/hot", true));
    }
    w.run();
    for c in &crowd {
        assert_eq!(w.got(*c).len(), 1);
    }
    (w, crowd, setter)
}

#[test]
pub(super) fn a_crowd_is_told_in_steps_and_everybody_once() {
    let (mut w, crowd, setter) = crowd();
    w.send(setter, 2, &set("/hot", b"1"));
    assert_eq!(w.got(setter)[0].reply(), (2, 0));
    let (mut told, mut turns) = (vec![0; CROWD], 0);
    while told.contains(&0) {
        let mut now = 0;
        for (c, told) in crowd.iter().zip(&mut told) {
            let got = w.got(*c);
            now += got.len();
            *told += got.len();
            got.iter().for_each(|g| assert_eq!(g.event(), (EventType::NodeDataChanged, "/hot")));
        }
        // A turn of each of the executors with connections.
        assert!(now <= 4 * TELL_STEP, "{now} in one turn");
        turns += 1;
        assert!(turns < 100);
        w.advance(MS);
    }
    w.advance(100 * MS);
    assert!(crowd.iter().all(|c| w.got(*c).is_empty()) && told.iter().all(|n| *n == 1));
    assert_eq!(w.node(0).status().watches, 0);
}

/// Batches that were delivered together and take long to apply: who reads comes in between.
#[test]
fn deliveries_that_take_long_do_not_keep_a_reader_waiting() {
    const WRITES: i32 = 40;
    let mut w = World::new(1);
    let ((writer, _), (reader, _)) = (w.connect(0), w.connect(0));
    w.call(writer, 1, &create("/a", 0));
    w.hub.borrow_mut().hold = true;
    for xid in 2..2 + WRITES {
        w.send(writer, xid, &set("/a", b"1"));
    }
    w.hub.borrow_mut().hold = false;
    assert_eq!(w.hub.borrow_mut().commit(usize::MAX), WRITES as usize);
    w.stage_takes = MS;
    w.send(reader, 1, &get("/a", false));
    let mut before = w.got(writer).len();
    assert!((1..10).contains(&before), "{before} writes were answered before a read");
    assert_eq!(w.got(reader)[0].reply(), (1, 0));
    let mut turns = 1;
    while before < WRITES as usize {
        w.send(reader, 1, &get("/a", false));
        assert_eq!(w.got(reader)[0].reply(), (1, 0));
        before += w.got(writer).len();
        turns += 1;
        assert!(turns <= WRITES, "every turn applies something");
    }
    assert!(turns > 4);
    // And by themselves, with nobody who asks.
    w.hub.borrow_mut().hold = true;
    for xid in 0..WRITES {
        w.send(writer, xid, &set("/a", b"2"));
    }
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(usize::MAX);
    w.run();
    assert!(w.got(writer).len() < WRITES as usize);
    w.advance(100 * MS);
    assert_eq!(w.call(reader, 2, &get("/a", false)).data(), b"2");
}

/// The same of one batch: it is applied in pieces.
#[test]
fn a_batch_that_takes_long_does_not_keep_a_reader_waiting() {
    const WRITES: i32 = 40;
    let mut w = World::new(0);
    w.cfg.steps.record_bytes = 1;
    w.start(1000);
    let ((writer, _), (reader, _)) = (w.connect(0), w.connect(0));
    w.call(writer, 1, &create("/a", 0));
    (2..2 + WRITES).for_each(|xid| w.put_request(writer, xid, &set("/a", b"1")));
    w.hub.borrow_mut().hold = true;
    w.run();
    w.hub.borrow_mut().hold = false;
    assert_eq!(w.hub.borrow_mut().commit(usize::MAX), 1, "all are in one batch");
    w.stage_takes = MS;
    let (mut before, mut turns) = (0, 0);
    while before < WRITES as usize {
        w.send(reader, 1, &get("/a", false));
        assert_eq!(w.got(reader)[0].reply(), (1, 0));
        let got = w.got(writer);
        assert!((1..10).contains(&got.len()), "{} writes were answered before a read", got.len());
        let order: Vec<i32> = got.iter().map(|g| g.reply().0).collect();
        assert!(order.iter().eq(&(before as i32 + 2..).take(got.len()).collect::<Vec<_>>()), "{order:?}");
        (before, turns) = (before + got.len(), turns + 1);
    }
    assert!(turns > 4);
}

/// What is left of a batch goes with the state that it would be applied to.
#[test]
fn a_batch_that_is_half_applied_ends_with_the_state() {
    let mut w = World::new(0);
    w.cfg.steps.record_bytes = 1;
    w.start(1000);
    let (writer, _) = w.connect(0);
    (1..40).for_each(|xid| w.put_request(writer, xid, &create(&format!("/n{xid}"), 0)));
    w.hub.borrow_mut().hold = true;
    w.run();
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(usize::MAX);
    w.stage_takes = MS;
    w.hub.borrow_mut().offers = Some((Gsn(0), Vec::new()));
    w.put_request(writer, 99, &get("/", false));
    w.run();
    assert!((1..39).contains(&w.got(writer).len()), "it is under way");
    w.rebuild(0);
    w.stage_takes = std::time::Duration::ZERO;
    w.advance(1000 * MS);
    assert_eq!((w.is_closed(writer), w.failed(0)), (true, None));
    let (c, _) = w.connect(0);
    assert_eq!(w.call(c, 1, &get("/n39", false)).data(), b"new", "the log has it all: {:?}", w.notes(0));
}

/// Of many connections a round looks at some in each turn, and touches those that were heard, each turn's in a record of its own.
#[test]
pub(super) fn connections_are_looked_at_in_steps_and_all_that_were_heard_are_touched() {
    const STEP: usize = 10;
    const CLIENTS: usize = 45;
    let mut w = World::new(0);
    w.cfg.steps.connections = STEP;
    w.cfg.max_connections_per_ip = 0;
    w.start(1000);
    w.start(1000);
    let sessions: Vec<(usize, i64)> =
        (0..CLIENTS).map(|_| w.connect(0)).map(|(c, a)| (c, a.session)).collect();
    let clients: Vec<usize> = sessions.iter().map(|s| s.0).collect();
    for _ in 0..10 {
        w.advance_pinging(2000 * MS, &clients);
        let mut records: std::collections::BTreeMap<Gsn, usize> = Default::default();
        for (c, session) in &sessions {
            let touch = w.node(1).state().session(*session).expect("it lives on").touch;
            *records.entry(touch).or_default() += 1;
            assert!(w.got(*c).len() > 10);
        }
        assert!(
            records.len() >= CLIENTS.div_ceil(STEP) && records.values().all(|n| *n <= STEP),
            "{records:?}"
        );
    }
    // Those that go silent end, and they alone.
    w.advance_pinging(20_000 * MS, &clients[1..]);
    let lives: Vec<bool> = sessions.iter().map(|s| w.node(1).state().session(s.1).is_some()).collect();
    assert!(!lives[0] && lives[1..].iter().all(|lives| *lives), "{lives:?}");
}

#[test]
pub(super) fn who_was_silent_for_long_is_touched_at_once_and_alone() {
    let mut w = World::new(1);
    let ((silent, a), (busy, b)) = (w.connect(0), w.connect(0));
    w.advance_pinging(2500 * MS, &[busy]);
    let touch = |w: &World, session: i64| w.node(0).state().session(session).expect("it lives").touch;
    w.send(busy, xid::PING, &Request::Ping);
    let before = (touch(&w, a.session), touch(&w, b.session));
    w.send(silent, xid::PING, &Request::Ping);
    w.run();
    assert!(touch(&w, a.session) > before.0, "nobody waits for the next round");
    assert_eq!(touch(&w, b.session), before.1, "who was touched lately waits for it");
    w.advance_pinging(20_000 * MS, &[silent, busy]);
    assert!(!w.is_closed(silent) && !w.is_closed(busy));
}

/// ZK-3: who asks for something while others are being told hears first of what has happened.
#[test]
pub(super) fn who_reads_meanwhile_is_told_first_and_of_all_in_order() {
    let (mut w, crowd, setter) = crowd();
    w.put_request(setter, 2, &set("/hot", b"1"));
    w.run();
    // Whoever has not been told by now asks, and watches again; then it changes once more.
    let last: Vec<usize> = crowd.iter().rev().take(20).copied().collect();
    for (i, c) in last.iter().enumerate() {
        match i % 3 {
            0 => w.send(*c, 2, &get("/hot", true)),
            1 => w.send(*c, xid::PING, &Request::Ping),
            _ => w.send(*c, 2, &set("/hot2", b"")),
        }
    }
    w.send(setter, 3, &set("/hot", b"2"));
    w.advance(100 * MS);
    for (i, c) in last.iter().enumerate() {
        let got = w.got(*c);
        assert_eq!(got[0].event(), (EventType::NodeDataChanged, "/hot"), "{got:?}");
        assert!(got.windows(2).all(|g| g[0].zxid() <= g[1].zxid()), "{got:?}");
        assert_eq!(got.len(), if i % 3 == 0 { 3 } else { 2 }, "{got:?}");
        if i % 3 == 0 {
            assert_eq!(got[1].data(), b"1");
            assert_eq!(got[2].event(), (EventType::NodeDataChanged, "/hot"));
        }
    }
}

#[test]
pub(super) fn who_comes_in_the_place_of_one_who_has_gone_hears_nothing_of_his() {
    let (mut w, crowd, setter) = crowd();
    w.send(setter, 2, &set("/hot", b"1"));
    for c in crowd.iter().rev().take(100) {
        w.hang_up(*c);
    }
    let new: Vec<usize> = (0..100).map(|_| w.connect(0).0).collect();
    w.advance(100 * MS);
    for c in new {
        assert_eq!(w.got(c), [], "a new connection watches nothing");
    }
}

#[test]
pub(super) fn the_watches_of_who_has_gone_are_forgotten_in_steps() {
    const WATCHES: usize = 10 * TIDY_STEP;
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let (other, _) = w.connect(0);
    for from in (0..WATCHES).step_by(TIDY_STEP) {
        let exist = (from..from + TIDY_STEP).map(|n| format!("/w{n}").into()).collect();
        let set = SetWatches { relative_zxid: 0, data: vec![], exist, child: vec![] };
        w.send(c, -8, &Request::SetWatches(set));
        w.advance(5 * MS);
    }
    w.hang_up(c);
    let mut before = WATCHES;
    for step in 0.. {
        let now = w.node(0).status().watches;
        assert!(before - now <= TIDY_STEP + 1, "from {before} to {now} in one turn");
        before = now;
        if now == 0 {
            break;
        }
        assert!(step < 100);
        // Nobody is told of what is being forgotten, and others live on.
        assert_eq!(w.call(other, 1, &create(&format!("/w{}", WATCHES - 1 - step), 0)).reply(), (1, 0));
        w.advance(MS);
    }
    // Its place is used again.
    let (c, _) = w.connect(0);
    assert_eq!(w.call(c, 1, &get("/", false)).reply().1, 0);
}

/// Many reconnect at once, and set their watches again: not all of them in one turn, and nobody is forgotten.
#[test]
pub(super) fn watches_that_many_set_again_at_once_are_set_over_turns() {
    const EACH: usize = 1000;
    let mut w = World::new(1);
    let clients: Vec<usize> = (0..20).map(|_| w.connect(0).0).collect();
    for (i, c) in clients.iter().enumerate() {
        let exist = (0..EACH).map(|n| format!("/some/where/{i}/{n:06}").into()).collect();
        let set = SetWatches { relative_zxid: 0, data: vec![], exist, child: vec![] };
        w.put_request(*c, -8, &Request::SetWatches(set));
    }
    let (mut before, mut turns) = (0, 0);
    while before < EACH * clients.len() {
        w.run();
        let now = w.node(0).status().watches;
        assert!(now > before && now - before <= 8 * EACH, "from {before} to {now} in one turn or two");
        (before, turns) = (now, turns + 1);
        w.advance(MS);
    }
    assert!(turns > 1, "{turns}");
    w.advance(10 * MS);
    assert!(clients.iter().all(|c| w.got(*c).iter().map(Got::reply).eq([(-8, 0)])));
}

/// The same, while others read: they are answered in the turn in which they ask, however many wait to set theirs.
#[test]
pub(super) fn who_asks_for_little_does_not_wait_for_those_who_set_many_watches() {
    const EACH: usize = 1000;
    let mut w = World::new(1);
    let clients: Vec<usize> = (0..30).map(|_| w.connect(0).0).collect();
    let reader = w.connect(0).0;
    for (i, c) in clients.iter().enumerate() {
        let exist = (0..EACH).map(|n| format!("/some/where/{i}/{n:06}").into()).collect();
        let set = SetWatches { relative_zxid: 0, data: vec![], exist, child: vec![] };
        w.put_request(*c, -8, &Request::SetWatches(set));
    }
    let mut reads = 0;
    while w.node(0).status().watches < EACH * clients.len() {
        reads += 1;
        assert_eq!(w.call(reader, reads, &get("/", false)).reply(), (reads, 0));
        w.advance(MS);
    }
    assert!(reads > 2, "they were set over several turns: {reads}");
}

const MANY: usize = 12_000;

fn name(n: usize) -> String {
    format!("n{n:06}")
}

fn multi(c: usize, w: &mut World, parts: Vec<Request<'static>>) {
    let got = w.call(c, 1, &Request::Multi(parts));
    assert_eq!(got.reply(), (1, 0));
}

/// A node `/many` with so many children, every other name of twice as many.
fn many() -> (World, usize, usize) {
    let mut w = World::new(1);
    let ((c, _), (writer, _)) = (w.connect(0), w.connect(0));
    w.call(writer, 1, &create("/many", 0));
    for from in (0..MANY).step_by(1000) {
        let parts = (from..from + 1000).map(|n| create(&format!("/many/{}", name(2 * n)), 0)).collect();
        multi(writer, &mut w, parts);
    }
    (w, c, writer)
}

fn names(got: &Got) -> Vec<String> {
    let mut r = Reader::new(got.record());
    let n = r.int().unwrap();
    let all = (0..n).map(|_| r.string().unwrap().into_owned()).collect();
    assert_eq!(r.rest(), b"");
    all
}

#[test]
pub(super) fn a_long_list_comes_in_pieces_and_others_are_answered_in_between() {
    let (mut w, c, writer) = many();
    w.keep(c);
    let total = 20 + MANY * (4 + name(0).len()) + 4;
    w.send(c, 7, &children("/many", false));
    let mut at = 0;
    let mut turns = 0;
    while at < total {
        let now = w.kept(c).0;
        assert!(now - at <= 600 << 10, "{} bytes in one turn", now - at);
        assert!(now < total || turns > 0, "a list of {total} bytes came at once");
        at = now;
        turns += 1;
        assert!(turns < 100);
        w.call(writer, 1, &get("/many", false));
        w.advance(MS);
    }
    let got = w.got(c);
    assert_eq!(names(&got[0]), (0..MANY).map(|n| name(2 * n)).collect::<Vec<_>>());
}

#[test]
pub(super) fn a_long_list_is_exact_and_what_follows_it_comes_behind_it() {
    let (mut w, c, writer) = many();
    let stat = |w: &mut World, writer| w.call(writer, 1, &exists("/many", false)).record().to_vec();
    let before = stat(&mut w, writer);
    let list = Request::GetChildren { path: "/many".into(), watch: true, with_stat: true };
    w.put_request(c, 7, &list);
    w.put_request(c, 8, &get("/many", false));
    w.put_request(c, xid::PING, &Request::Ping);
    w.run();
    // Whoever lists it hears of this behind the list.
    for n in [0, 1, 2 * MANY - 2, 2 * MANY - 1, MANY, MANY + 1] {
        let path = format!("/many/{}", name(n));
        let request = if n % 2 == 0 { delete(&path) } else { create(&path, 0) };
        assert_eq!(w.call(writer, 1, &request).reply(), (1, 0));
    }
    w.advance(100 * MS);
    let got = w.got(c);
    let list = got.iter().position(|g| matches!(g, Got::Reply(7, ..))).expect("the list");
    let mut r = Reader::new(got[list].record());
    assert_eq!((got[list].reply(), r.int().unwrap()), ((7, 0), MANY as i32));
    for n in 0..MANY {
        assert_eq!(r.string().unwrap(), name(2 * n));
    }
    assert_eq!(r.rest(), before, "the Stat is that of the moment");
    assert!(got.windows(2).all(|g| g[0].zxid() <= g[1].zxid()));
    let event = got.iter().position(|g| matches!(g, Got::Event(..))).expect("its children have changed");
    assert_eq!(got[event].event(), (EventType::NodeChildrenChanged, "/many"));
    let read = got.iter().position(|g| matches!(g, Got::Reply(8, ..))).expect("the read behind the list");
    // It was made behind the list, when the node had changed.
    assert!(list < event && event < read && got.len() == 4, "{list} {event} {read} {}", got.len());
}

#[test]
pub(super) fn a_long_list_waits_for_its_client_and_the_goodbye_for_the_list() {
    let (mut w, c, writer) = many();
    w.call(writer, 1, &set("/many", &[7; 1000]));
    w.keep(c);
    w.put_request(c, 7, &children("/many", false));
    w.put_request(c, 8, &Request::CloseSession);
    w.run();
    w.backlog(c, true);
    w.advance(20 * MS);
    w.backlog(c, false);
    w.advance(20 * MS);
    let got = w.got(c);
    assert_eq!((names(&got[0]).len(), got[1].reply(), w.is_closed(c)), (MANY, (8, 0), true));
    assert!(w.kept(c).1 <= OUT_BYTES_PAUSE);
}

#[test]
pub(super) fn lists_before_writes_in_the_logs_hands_are_as_of_before_them() {
    let (mut w, c, _) = many();
    w.hub.borrow_mut().hold = true;
    w.put_request(c, 1, &create("/many/a", 0));
    w.put_request(c, 2, &children("/many", false));
    w.put_request(c, 3, &create("/many/b", 0));
    w.put_request(c, 4, &children("/many", false));
    w.run();
    for _ in 0..50 {
        w.hub.borrow_mut().commit(1);
        w.run();
        w.advance(MS);
    }
    let got = w.got(c);
    let shape: Vec<_> = got.iter().map(|g| g.reply()).collect();
    assert_eq!(shape, [(1, 0), (2, 0), (3, 0), (4, 0)]);
    assert_eq!((names(&got[1]).len(), names(&got[3]).len()), (MANY + 1, MANY + 2));
    w.hub.borrow_mut().hold = false;
    assert_eq!(w.call(c, 5, &delete("/many")).reply(), (5, ErrorCode::NotEmpty.code()));
}

/// What it would go on with is gone: it ends with its connection, be that closed already or not.
#[test]
pub(super) fn a_long_list_ends_with_its_connection_when_the_node_begins_anew() {
    let (mut w, c, _) = many();
    let (leaving, _) = w.connect(0);
    w.put_request(c, 7, &children("/many", false));
    w.put_request(leaving, 7, &children("/many", false));
    w.put_request(leaving, 8, &Request::CloseSession);
    w.run();
    // It has nothing, and nobody gives it anything.
    w.hub.borrow_mut().offers = Some((Gsn(1), Vec::new()));
    w.rebuild(0);
    w.advance(100 * MS);
    assert!(w.is_closed(c) && w.is_closed(leaving), "{:?}", w.notes(0));
    assert_eq!(w.failed(0), None);
}

/// A client with so many ephemerals, of two kinds.
fn owner() -> (World, usize, Vec<String>) {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/of", 0));
    let path = |n: usize| format!("/of/{}-{n:06}", if n.is_multiple_of(3) { "a" } else { "b" });
    let paths: Vec<String> = (0..MANY).map(path).collect();
    for some in paths.chunks(1000) {
        multi(c, &mut w, some.iter().map(|path| create(path, 1)).collect());
    }
    (w, c, paths)
}

fn ephemerals(prefix: &str) -> Request<'static> {
    Request::GetEphemerals { prefix: prefix.to_string().into() }
}

#[test]
pub(super) fn many_ephemerals_are_told_in_pieces_and_others_are_answered_in_between() {
    let (mut w, c, paths) = owner();
    let (other, _) = w.connect(0);
    w.send(c, 7, &ephemerals("/"));
    let mut turns = 0;
    let got = loop {
        if let Some(got) = w.got(c).pop() {
            break got;
        }
        turns += 1;
        assert!(turns < 100);
        assert_eq!(w.call(other, 1, &get("/of", false)).reply(), (1, 0));
        w.advance(MS);
    };
    assert!(turns > 0, "{MANY} came at once");
    assert_eq!(names(&got).into_iter().collect::<BTreeSet<_>>(), paths.into_iter().collect());
}

/// They are those of the moment, though they come and go, and their places are used again, before they are told.
#[test]
pub(super) fn many_ephemerals_are_told_as_of_when_they_were_asked_for() {
    let (mut w, c, paths) = owner();
    w.put_request(c, 7, &ephemerals("/of/a"));
    let deletes = paths.iter().step_by(5).map(|path| delete(path));
    let creates = (0..500).map(|n| create(&format!("/of/a-new{n}"), 1));
    w.put_request(c, 8, &Request::Multi(deletes.chain(creates).collect()));
    w.put_request(c, 9, &ephemerals(" "));
    w.put_request(c, 10, &get("/of", false));
    w.run();
    w.advance(200 * MS);
    let got = w.got(c);
    let of = |xid: i32| got.iter().find(|g| matches!(g, Got::Reply(x, ..) if *x == xid)).expect("an answer");
    let with_a: BTreeSet<String> = paths.iter().filter(|p| p.starts_with("/of/a")).cloned().collect();
    let told = names(of(7));
    assert_eq!(told.len(), with_a.len(), "each once");
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), with_a);
    let gone: BTreeSet<&String> = paths.iter().step_by(5).collect();
    let left = paths.iter().filter(|p| !gone.contains(p)).cloned();
    let all: BTreeSet<String> = left.chain((0..500).map(|n| format!("/of/a-new{n}"))).collect();
    assert_eq!(names(of(9)).into_iter().collect::<BTreeSet<_>>(), all);
    let order: Vec<_> = got.iter().map(Got::reply).collect();
    assert_eq!(order, [(7, 0), (8, 0), (9, 0), (10, 0)]);
    assert!(got.windows(2).all(|g| g[0].zxid() <= g[1].zxid()));
}

/// A goodbye behind the question takes all of them along, and the answer comes.
#[test]
pub(super) fn many_ephemerals_are_told_though_their_session_ends() {
    let (mut w, c, paths) = owner();
    w.put_request(c, 7, &ephemerals(""));
    w.put_request(c, 8, &Request::CloseSession);
    w.run();
    w.advance(100 * MS);
    let got = w.got(c);
    assert_eq!(names(&got[0]).into_iter().collect::<BTreeSet<_>>(), paths.into_iter().collect());
    assert_eq!((got[1].reply(), w.is_closed(c)), ((8, 0), true));
}

#[derive(Clone, Debug)]
enum Step {
    Come(usize),
    Go(usize),
    Wait,
    List,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Whatever comes and goes while several lists are under way: each is the names as of when it was asked for.
    #[test]
    fn lists_are_those_of_a_model(steps in prop::collection::vec(prop_oneof![
        8 => (0usize..2 * MANY).prop_map(Step::Come),
        8 => (0usize..2 * MANY).prop_map(Step::Go),
        3 => Just(Step::Wait),
        1 => Just(Step::List),
    ], 0..120)) {
        let (mut w, c, writer) = many();
        let mut model: BTreeSet<String> = (0..MANY).map(|n| name(2 * n)).collect();
        let (d, _) = w.connect(0);
        let mut asked: [Vec<Vec<String>>; 2] = Default::default();
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Come(n) if model.insert(name(*n)) => {
                    prop_assert_eq!(w.call(writer, 1, &create(&format!("/many/{}", name(*n)), 0)).reply(), (1, 0));
                }
                Step::Go(n) if model.remove(&name(*n)) => {
                    prop_assert_eq!(w.call(writer, 1, &delete(&format!("/many/{}", name(*n)))).reply(), (1, 0));
                }
                Step::Wait => w.advance(MS),
                // One at a time each: what is asked for behind a list is made when that is done.
                Step::List if i % 2 == 0 || asked[0].len() > asked[1].len() => {
                    let (n, who) = if asked[0].len() > asked[1].len() { (1, d) } else { (0, c) };
                    w.send(who, 1, &children("/many", false));
                    asked[n].push(model.iter().cloned().collect());
                }
                _ => {}
            }
            if asked[1].len() == asked[0].len() && matches!(step, Step::List) {
                w.advance(100 * MS);
            }
        }
        w.advance(200 * MS);
        for (who, asked) in [(c, &asked[0]), (d, &asked[1])] {
            let got: Vec<_> = w.got(who).iter().map(names).collect();
            prop_assert_eq!(got.len(), asked.len());
            prop_assert!(got == *asked);
        }
    }
}
