//! Is a multi one thing? Its framing, byte by byte, and what becomes of its parts.

use super::world::*;
use crate::jute::requests::READ_PARTS_MAX;
use crate::jute::{ErrorCode, EventType, Reader, Request};
use crate::txn::Stat;

fn check(path: &'static str, version: i32) -> Request<'static> {
    Request::Check { path: path.into(), version }
}

/// Type and error of each entry of a multi's reply, to its end.
fn entries(got: &Got) -> Vec<(i32, i32)> {
    let (mut r, mut all) = (Reader::new(got.record()), Vec::new());
    loop {
        let (op, done, err) = (r.int().unwrap(), r.boolean().unwrap(), r.int().unwrap());
        if done {
            assert_eq!((op, err, r.rest().len()), (-1, -1, 0));
            return all;
        }
        all.push((op, err));
        match op {
            -1 => assert_eq!(r.int(), Ok(err)),
            1 => drop(r.string().unwrap()),
            15 => drop((r.string().unwrap(), r.stat().unwrap())),
            4 => drop((r.buffer().unwrap(), r.stat().unwrap())),
            5 => drop(r.stat().unwrap()),
            8 => drop(r.strings().unwrap()),
            2 | 13 => {}
            other => panic!("an entry of kind {other}"),
        }
    }
}

#[test]
pub(super) fn a_reply_has_its_golden_bytes() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    let failed = w.call(c, 5, &Request::Multi(vec![check("/a", 0), delete("/nope")]));
    assert_eq!(failed.reply(), (5, 0), "the header of a multi that failed says nothing");
    let hex = |text: &str| crate::jute::testing::hex(text);
    let golden = hex("ffffffff 00 00000000 00000000 ffffffff 00 ffffff9b ffffff9b ffffffff 01 ffffffff");
    assert_eq!(failed.record(), golden);
    let done = w.call(c, 6, &Request::Multi(vec![check("/a", 0), delete("/a")]));
    assert_eq!(done.record(), hex("0000000d 00 00000000 00000002 00 00000000 ffffffff 01 ffffffff"));
    assert!(done.zxid() > failed.zxid(), "a failed one takes a zxid, too");
    let empty = w.call(c, 7, &Request::Multi(vec![]));
    assert_eq!((empty.reply(), empty.record()), ((7, 0), &hex("ffffffff 01 ffffffff")[..]));
}

#[test]
pub(super) fn each_kind_is_answered_by_its_own() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let node = |path: &'static str, flags| crate::jute::NewNode {
        path: path.into(),
        data: None,
        acl: open_acl(),
        flags,
    };
    let create2 = |path: &'static str| Request::Create {
        path: path.into(),
        data: Some(b"2"),
        acl: open_acl(),
        flags: 3,
        with_stat: true,
    };
    let got = w.call(
        c,
        1,
        &Request::Multi(vec![
            create("/a", 0),
            create2("/a/s-"),
            create2("/a/s-"),
            Request::CreateContainer(node("/box", 4)),
            Request::CreateTtl { node: node("/soon", 5), ttl_ms: 1 },
            set("/a", b"x"),
            check("/a", 1),
            delete("/a/s-0000000000"),
        ]),
    );
    let kinds = [1, 15, 15, 15, 15, 5, 13, 2];
    assert_eq!(entries(&got), kinds.map(|kind| (kind, 0)));
    let stat = w.node(0).state().stat("/a").expect("it was made");
    let zxid = got.zxid();
    let wanted =
        Stat { czxid: zxid, mzxid: zxid, pzxid: zxid, version: 1, cversion: 3, num_children: 1, ..stat };
    assert_eq!(stat, wanted, "all of it is one transaction");
    assert!(w.node(0).state().stat("/a/s-0000000001").is_ok());
}

#[test]
pub(super) fn whichever_part_fails_nothing_is_done_and_nobody_hears_of_it() {
    let parts = || vec![create("/n", 0), set("/a", b"x"), create("/n/s-", 2), delete("/b")];
    for at in 0..=4 {
        let mut w = World::new(2);
        let (c, _) = w.connect(0);
        let (watcher, _) = w.connect(1);
        for path in ["/a", "/b"] {
            w.call(c, 1, &create(path, 0));
            w.call(watcher, 1, &exists(path, true));
        }
        w.call(watcher, 2, &children("/", true));
        let before = w.node(0).state().stat("/").expect("the root");
        let mut with_a_bad_one = parts();
        with_a_bad_one.insert(at, check("/a", 7));
        let got = w.call(c, 2, &Request::Multi(with_a_bad_one));
        let wanted = (0..5).map(|i: usize| match i.cmp(&at) {
            std::cmp::Ordering::Less => (-1, 0),
            std::cmp::Ordering::Equal => (-1, ErrorCode::BadVersion.code()),
            std::cmp::Ordering::Greater => (-1, ErrorCode::RuntimeInconsistency.code()),
        });
        assert_eq!(entries(&got), wanted.collect::<Vec<_>>());
        assert_eq!(w.node(0).state().stat("/"), Ok(before));
        assert_eq!(w.node(0).state().get("/a").expect("still there").0, Some(&b"new"[..]));
        assert_eq!(w.got(watcher), []);
        assert_eq!(w.hash(0), w.hash(1));
    }
}

#[test]
pub(super) fn events_come_in_the_order_of_the_parts_and_before_the_reply() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/b", 0));
    w.call(c, 2, &exists("/a", true));
    w.call(c, 3, &get("/b", true));
    w.call(c, 4, &children("/b", true));
    w.send(c, 5, &Request::Multi(vec![set("/b", b"x"), create("/b/k", 0), create("/a", 0)]));
    let got = w.got(c);
    let events: Vec<_> = got[..3].iter().map(Got::event).collect();
    let wanted = [
        (EventType::NodeDataChanged, "/b"),
        (EventType::NodeChildrenChanged, "/b"),
        (EventType::NodeCreated, "/a"),
    ];
    assert_eq!(events, wanted);
    assert!(got.iter().all(|g| g.zxid() == got[3].zxid()) && got.len() == 4);
}

#[test]
pub(super) fn what_could_be_refused_at_once_still_comes_behind_what_fails_before_it() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let ttl = Request::CreateTtl {
        node: crate::jute::NewNode { path: "/t".into(), data: None, acl: open_acl(), flags: 5 },
        ttl_ms: 0,
    };
    let bad = ErrorCode::BadArguments.code();
    let got = w.call(c, 1, &Request::Multi(vec![delete("/none"), ttl.clone()]));
    assert_eq!(entries(&got), [(-1, ErrorCode::NoNode.code()), (-1, -2)]);
    let got = w.call(c, 2, &Request::Multi(vec![create("/a", 0), ttl]));
    assert_eq!(entries(&got), [(-1, 0), (-1, bad)]);
    assert!(w.node(0).state().stat("/a").is_err());
}

#[test]
pub(super) fn a_multi_read_answers_each_part_by_itself_and_leaves_its_watches() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    let parts = vec![get("/a", true), get("/none", true), children("/", false), children("/none", false)];
    let got = w.call(c, 2, &Request::MultiRead(parts));
    let missing = ErrorCode::NoNode.code();
    assert_eq!(entries(&got), [(4, 0), (-1, missing), (8, 0), (-1, missing)]);
    assert_eq!(w.node(0).status().watches, 1);
    assert_eq!(entries(&w.call(c, 3, &Request::MultiRead(vec![]))), []);
}

/// SYS-1: one request of a few kilobytes must not become gigabytes of answer.
#[test]
pub(super) fn a_multi_read_of_too_much_is_refused() {
    static BIG: [u8; 900_000] = [7; 900_000];
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/big", 0));
    w.call(c, 2, &set("/big", &BIG));
    let parts = |n| Request::MultiRead((0..n).map(|_| get("/big", false)).collect());
    assert_eq!(entries(&w.call(c, 3, &parts(4))).len(), 4);
    assert_eq!(w.call(c, 4, &parts(5)).reply(), (4, ErrorCode::MarshallingError.code()));
    assert_eq!(w.call(c, 4, &parts(10_000)).reply(), (4, ErrorCode::MarshallingError.code()));
    assert_eq!(w.call(c, 5, &get("/big", false)).data().len(), BIG.len());
}

/// However short its answer is, it is made in one turn: so it has a bound, and those who ask for many of them wait for each other.
#[test]
pub(super) fn a_multi_read_of_too_many_is_refused_and_many_of_many_are_answered_over_turns() {
    const CLIENTS: usize = 8;
    let mut w = World::new(1);
    let parts = |n| Request::MultiRead((0..n).map(|_| get("/none", false)).collect());
    let clients: Vec<usize> = (0..CLIENTS).map(|_| w.connect(0).0).collect();
    let (other, _) = w.connect(0);
    assert_eq!(w.call(other, 1, &parts(READ_PARTS_MAX + 1)).reply(), (1, ErrorCode::MarshallingError.code()));
    clients.iter().for_each(|c| w.put_request(*c, 7, &parts(READ_PARTS_MAX)));
    let (mut answered, mut turns) = (0, 0);
    while answered < CLIENTS {
        w.send(other, 1, &get("/", false));
        let now: usize = clients
            .iter()
            .map(|c| w.got(*c))
            .map(|got| {
                got.iter().for_each(|g| assert_eq!(entries(g).len(), READ_PARTS_MAX));
                got.len()
            })
            .sum();
        // One fills a turn, and the last of those before may have been short of filling it.
        assert!(now <= 2, "{now} in one turn");
        (answered, turns) = (answered + now, turns + 1);
        assert_eq!(w.got(other)[0].reply(), (1, 0), "who asks for little is answered in every turn");
        w.advance(MS);
    }
    assert!(turns >= CLIENTS / 2);
}

#[test]
pub(super) fn ephemerals_of_a_multi_belong_to_its_session() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let (other, _) = w.connect(0);
    w.call(c, 1, &Request::Multi(vec![create("/a", 0), create("/a/e", 1), create("/a/s-", 3)]));
    // Deleted and made again in one that fails: they are as before.
    w.call(other, 1, &Request::Multi(vec![delete("/a/e"), create("/a/e", 1), delete("/none")]));
    w.call(c, 2, &Request::CloseSession);
    let stat = w.node(0).state().stat("/a").expect("it stays");
    assert_eq!((stat.num_children, stat.cversion), (0, 4));
    assert_eq!(w.node(0).state().hash(), w.node(0).state().hash_from_scratch());
}
