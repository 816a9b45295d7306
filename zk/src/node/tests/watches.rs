//! Do clients see events in their place?

use super::world::*;
use crate::jute::{ErrorCode, EventType, Request, SetWatches};

#[test]
pub(super) fn an_own_writes_event_comes_before_its_reply_with_the_same_zxid() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 2, &get("/a", true));
    w.send(c, 3, &set("/a", b"x"));
    let got = w.got(c);
    assert_eq!(got[0].event(), (EventType::NodeDataChanged, "/a"));
    assert_eq!(got[1].reply(), (3, 0));
    assert_eq!(got[0].zxid(), got[1].zxid());
    // One-shot: the next write is quiet.
    assert_eq!(w.call(c, 4, &set("/a", b"y")).reply(), (4, 0));
}

#[test]
pub(super) fn a_watcher_elsewhere_sees_the_event_before_the_newer_data() {
    let mut w = World::new(2);
    let (a, _) = w.connect(0);
    let (b, _) = w.connect(1);
    w.call(a, 1, &create("/a", 0));
    assert_eq!(w.call(b, 1, &get("/a", true)).data(), b"new");
    w.put_request(a, 2, &set("/a", b"x"));
    w.put_request(b, 2, &sync());
    w.put_request(b, 3, &get("/a", false));
    w.run();
    w.send(b, 4, &get("/a", false));
    let got = w.got(b);
    let event = got.iter().position(|g| matches!(g, Got::Event(..))).expect("an event");
    for (i, g) in got.iter().enumerate() {
        if matches!(g, Got::Reply(3 | 4, ..)) && g.data() == b"x" {
            assert!(event < i, "{got:?}");
        }
    }
    assert_eq!(got.last().expect("a reply").data(), b"x");
}

#[test]
pub(super) fn a_watch_set_behind_a_write_fires_for_the_next_one_only() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.put_request(c, 1, &create("/a", 0));
    w.put_request(c, 2, &get("/a", true));
    w.put_request(c, 3, &set("/a", b"x"));
    w.put_request(c, 4, &get("/a", true));
    w.run();
    let got = w.got(c);
    let shape: Vec<_> =
        got.iter().map(|g| if matches!(g, Got::Event(..)) { 0 } else { g.reply().0 }).collect();
    assert_eq!(shape, [1, 2, 0, 3, 4]);
}

#[test]
pub(super) fn deletion_is_told_once_and_before_the_parents_event() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.call(c, 2, &exists("/a", true));
    w.call(c, 3, &children("/a", true));
    w.call(c, 4, &children("/", true));
    w.send(c, 5, &delete("/a"));
    let got = w.got(c);
    assert_eq!(got[0].event(), (EventType::NodeDeleted, "/a"));
    assert_eq!(got[1].event(), (EventType::NodeChildrenChanged, "/"));
    assert_eq!(got[2].reply(), (5, 0));
    assert_eq!(got.len(), 3);
}

#[test]
pub(super) fn a_watch_on_a_missing_node_is_left_by_exists_alone() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let missing = ErrorCode::NoNode.code();
    assert_eq!(w.call(c, 1, &get("/a", true)).reply(), (1, missing));
    assert_eq!(w.call(c, 2, &children("/a", true)).reply(), (2, missing));
    assert_eq!(w.call(c, 3, &create("/a", 0)).reply(), (3, 0));
    w.call(c, 4, &delete("/a"));
    assert_eq!(w.call(c, 5, &exists("/a", true)).reply(), (5, missing));
    w.send(c, 6, &create("/a", 0));
    assert_eq!(w.got(c)[0].event(), (EventType::NodeCreated, "/a"));
    let nul = exists("/a\0", true);
    assert_eq!(w.call(c, 7, &nul).reply(), (7, ErrorCode::BadArguments.code()));
    assert_eq!(w.node(0).status().watches, 0);
}

/// Each row of the table: what happened since, and whether it is told now or watched on.
#[test]
pub(super) fn set_watches_tells_what_was_missed_and_watches_on_for_the_rest() {
    let mut w = World::new(1);
    let (a, _) = w.connect(0);
    for path in ["/same", "/changed", "/gone", "/kids", "/quiet"] {
        w.call(a, 1, &create(path, 0));
    }
    let seen = w.call(a, 2, &exists("/same", false)).zxid();
    w.call(a, 3, &set("/changed", b"x"));
    w.call(a, 4, &delete("/gone"));
    w.call(a, 5, &create("/kids/k", 0));
    w.call(a, 6, &create("/born", 0));
    let (b, _) = w.connect(0);
    let list = |paths: &[&'static str]| paths.iter().map(|p| (*p).into()).collect();
    let set = Request::SetWatches(SetWatches {
        relative_zxid: seen,
        data: list(&["/same", "/changed", "/gone"]),
        exist: list(&["/born", "/unborn"]),
        child: list(&["/kids", "/quiet", "/gone"]),
    });
    w.send(b, -8, &set);
    let got = w.got(b);
    let events: Vec<_> = got[..got.len() - 1].iter().map(|g| (g.zxid(), g.event())).collect();
    let expected = [
        (EventType::NodeDataChanged, "/changed"),
        (EventType::NodeDeleted, "/gone"),
        (EventType::NodeCreated, "/born"),
        (EventType::NodeChildrenChanged, "/kids"),
        (EventType::NodeDeleted, "/gone"),
    ];
    assert_eq!(events, expected.map(|e| (-1, e)));
    assert_eq!(got.last().expect("a reply").reply(), (-8, 0));
    assert_eq!(w.node(0).status().watches, 3, "/same, /unborn and /quiet are watched on");
    w.call(a, 7, &set_data("/same"));
    w.call(a, 8, &create("/unborn", 0));
    w.call(a, 9, &create("/quiet/q", 0));
    let events: Vec<_> = w.got(b).iter().map(|g| g.event().0).collect();
    assert_eq!(events, [EventType::NodeDataChanged, EventType::NodeCreated, EventType::NodeChildrenChanged]);
}

fn set_data(path: &str) -> Request<'static> {
    set(path, b"again")
}

#[test]
pub(super) fn watches_end_with_their_connection() {
    let mut w = World::new(1);
    let (a, _) = w.connect(0);
    let (b, _) = w.connect(0);
    w.call(a, 1, &exists("/a", true));
    w.call(a, 2, &children("/", true));
    assert_eq!(w.node(0).status().watches, 2);
    w.hang_up(a);
    assert_eq!(w.node(0).status().watches, 0);
    assert_eq!(w.call(b, 1, &create("/a", 0)).reply(), (1, 0));
}

#[test]
pub(super) fn who_sets_more_watches_than_the_node_holds_is_closed() {
    let mut w = World::new(0);
    w.cfg.max_watches = 3;
    w.start(10);
    let (c, _) = w.connect(0);
    for (xid, path) in [(1, "/a"), (2, "/b"), (3, "/c"), (4, "/a")] {
        assert_eq!(w.call(c, xid, &exists(path, true)).reply(), (xid, ErrorCode::NoNode.code()));
    }
    w.send(c, 5, &exists("/d", true));
    assert!(w.is_closed(c));
    assert_eq!(w.node(0).status().watches, 0);
}
