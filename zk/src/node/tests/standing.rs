//! Watches that stay: set, looked for, removed, set again after a reconnect. And the small reads.

use super::world::*;
use crate::jute::{ErrorCode, EventType, Reader, Request, SetWatches, SetWatches2};

const NO_WATCHER: i32 = ErrorCode::NoWatcher.code();

fn add(path: &'static str, mode: i32) -> Request<'static> {
    Request::AddWatch { path: path.into(), mode }
}

fn watches(path: &'static str, kind: i32, remove: bool) -> Request<'static> {
    Request::Watches { path: path.into(), kind, remove }
}

#[test]
pub(super) fn persistent_watches_stay_and_tell_each_change_once() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let (writer, _) = w.connect(0);
    let added = w.call(c, 1, &add("/a", 0));
    assert_eq!((added.reply(), added.record()), ((1, 0), &[0; 4][..]), "an error of 0 in the record");
    w.call(c, 2, &add("/", 1));
    w.call(c, 3, &exists("/a", true));
    for request in [create("/a", 0), create("/a/b", 0), set("/a", b"x"), delete("/a/b"), delete("/a")] {
        w.call(writer, 1, &request);
    }
    use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
    let got = w.got(c);
    let events: Vec<_> = got.iter().map(Got::event).collect();
    let wanted = [
        (NodeCreated, "/a"),
        (NodeCreated, "/a/b"),
        (NodeChildrenChanged, "/a"),
        (NodeDataChanged, "/a"),
        (NodeDeleted, "/a/b"),
        (NodeChildrenChanged, "/a"),
        (NodeDeleted, "/a"),
    ];
    assert_eq!(events, wanted);
    assert_eq!(w.node(0).status().watches, 2);
}

#[test]
pub(super) fn each_kind_is_found_and_removed_by_its_number() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 1, &children("/a", true));
    w.call(c, 1, &get("/a", true));
    w.call(c, 1, &add("/a", 0));
    w.call(c, 1, &add("/a", 1));
    for kind in [1, 2, 4, 5] {
        assert_eq!(w.call(c, 2, &watches("/a", kind, false)).reply(), (2, 0), "{kind}");
        assert_eq!(w.call(c, 3, &watches("/a", kind, true)).reply(), (3, 0), "{kind}");
        for remove in [false, true] {
            assert_eq!(w.call(c, 4, &watches("/a", kind, remove)).reply(), (4, NO_WATCHER), "{kind}");
        }
        let any = if kind == 5 { NO_WATCHER } else { 0 };
        assert_eq!(w.call(c, 5, &watches("/a", 3, false)).reply(), (5, any), "after {kind}");
    }
    w.call(c, 6, &get("/a", true));
    w.call(c, 6, &add("/a", 1));
    assert_eq!(w.call(c, 7, &watches("/a", 3, true)).reply(), (7, 0));
    assert_eq!(w.node(0).status().watches, 0);
    let broken = ErrorCode::MarshallingError.code();
    for kind in [0, 6, -1] {
        assert_eq!(w.call(c, 8, &watches("/a", kind, true)).reply(), (8, broken));
    }
    assert_eq!(w.call(c, 9, &add("/a", 2)).reply(), (9, broken));
    // Somebody else's watch is not mine.
    let (other, _) = w.connect(0);
    w.call(other, 1, &add("/a", 0));
    assert_eq!(w.call(c, 9, &watches("/a", 3, false)).reply(), (9, NO_WATCHER));
}

#[test]
pub(super) fn after_a_reconnect_they_are_set_again_and_tell_nothing_of_the_time_between() {
    let mut w = World::new(1);
    let (writer, _) = w.connect(0);
    w.call(writer, 1, &create("/a", 0));
    let (c, _) = w.connect(0);
    let set_watches = SetWatches { relative_zxid: 0, data: vec!["/a".into()], ..SetWatches::default() };
    let (persistent, recursive) = (vec!["/a".into()], vec!["/b".into()]);
    w.send(c, -8, &Request::SetWatches2(Box::new(SetWatches2 { set: set_watches, persistent, recursive })));
    let got = w.got(c);
    assert_eq!((got[0].event(), got[0].zxid()), ((EventType::NodeDataChanged, "/a"), -1));
    assert_eq!((got[1].reply(), got.len()), ((-8, 0), 2));
    w.call(writer, 2, &set("/a", b"x"));
    w.call(writer, 3, &create("/b", 0));
    let events: Vec<_> = w.got(c).iter().map(|g| g.event().0).collect();
    assert_eq!(events, [EventType::NodeDataChanged, EventType::NodeCreated]);
}

#[test]
pub(super) fn persistent_watches_count_against_the_limit() {
    let mut w = World::new(0);
    w.cfg.max_watches = 2;
    w.start(10);
    let (c, _) = w.connect(0);
    for xid in 1..4 {
        assert_eq!(w.call(c, xid, &add("/a", xid % 2)).reply(), (xid, 0));
    }
    w.send(c, 5, &add("/b", 0));
    assert!(w.is_closed(c));
}

#[test]
pub(super) fn own_ephemerals_are_listed_by_prefix_and_descendants_counted() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let (other, _) = w.connect(0);
    w.call(c, 1, &create("/p", 0));
    for path in ["/p/b", "/p/a", "/px"] {
        w.call(c, 1, &create(path, 1));
    }
    w.call(other, 1, &create("/p/other", 1));
    w.call(c, 1, &create("/p/q", 0));
    w.call(c, 1, &create("/p/q/r", 0));
    let paths = |got: &Got| -> Vec<String> {
        Reader::new(got.record()).strings().unwrap().into_iter().map(String::from).collect()
    };
    let ask = |prefix: &'static str| Request::GetEphemerals { prefix: prefix.into() };
    for (prefix, wanted) in [
        ("", &["/p/a", "/p/b", "/px"][..]),
        ("/", &["/p/a", "/p/b", "/px"]),
        ("/p", &["/p/a", "/p/b", "/px"]),
        ("/p/", &["/p/a", "/p/b"]),
        ("/x", &[]),
    ] {
        assert_eq!(paths(&w.call(c, 2, &ask(prefix))), wanted, "{prefix}");
    }
    for (path, number) in [("/", 10), ("/p", 5), ("/p/q", 1), ("/px", 0)] {
        let got = w.call(c, 3, &Request::GetAllChildrenNumber { path: path.into() });
        assert_eq!(Reader::new(got.record()).int(), Ok(number), "{path}");
    }
    let got = w.call(c, 4, &Request::GetAllChildrenNumber { path: "/none".into() });
    assert_eq!(got.reply(), (4, ErrorCode::NoNode.code()));
}
