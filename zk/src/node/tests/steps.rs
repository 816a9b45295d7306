//! Does nobody wait for what is large? Events for many, long lists, the watches of who has gone: each turn does a bounded
//! part of it, and clients see the same as if it had been done at once.

use super::world::*;
use crate::jute::{ErrorCode, EventType, Reader, Request, SetWatches, xid};
use proptest::prelude::*;
use std::collections::BTreeSet;
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
        w.call(c, -8, &Request::SetWatches(set));
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
