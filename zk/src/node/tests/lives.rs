//! Do containers and nodes with a time to live go when they should, once, and not before? And quotas: do they
//! count?

use super::world::*;
use crate::jute::{ErrorCode, NewNode, Reader, Request};
use crate::snapshot::Restored;
use crate::state::{APPLY_VERSION_MAX, State};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn node(path: &str, flags: i32) -> NewNode<'static> {
    NewNode { path: path.to_string().into(), data: None, acl: open_acl(), flags }
}

fn container(path: &str) -> Request<'static> {
    Request::CreateContainer(node(path, 4))
}

fn ttl(path: &str, ttl_ms: i64) -> Request<'static> {
    Request::CreateTtl { node: node(path, 5), ttl_ms }
}

fn is_there(w: &World, path: &str) -> bool {
    w.node(0).state().stat(path).is_ok()
}

#[test]
pub(super) fn a_container_goes_after_its_last_child_and_not_before_its_first() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    for path in ["/box", "/unused", "/full"] {
        let got = w.call(c, 1, &container(path));
        let mut r = Reader::new(got.record());
        assert_eq!((r.string().as_deref(), r.stat().map(|s| s.ephemeral_owner)), (Ok(path), Ok(0)));
    }
    w.call(c, 2, &create("/box/a", 0));
    w.call(c, 2, &create("/full/a", 0));
    w.advance_pinging(2 * MINUTE, &[c]);
    assert!(is_there(&w, "/box"));
    w.call_through_pongs(c, &delete("/box/a"));
    let (other, _) = w.connect(1);
    w.call(other, 3, &exists("/box", true));
    w.advance_pinging(MINUTE + 2 * Duration::from_secs(1), &[c, other]);
    assert!(!is_there(&w, "/box") && is_there(&w, "/unused") && is_there(&w, "/full"));
    let events = w.got(other).into_iter().filter(|g| matches!(g, Got::Event(..)));
    assert_eq!(events.count(), 1, "whoever watches it hears of it");
    assert_eq!(w.hash(0), w.hash(1));
}

#[test]
pub(super) fn a_time_to_live_starts_anew_when_data_is_set_and_waits_for_children() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &ttl("/short", 30_000));
    w.call(c, 1, &ttl("/set", 90_000));
    w.call(c, 1, &ttl("/parent", 30_000));
    w.call(c, 1, &create("/parent/k", 0));
    w.advance_pinging(MINUTE + Duration::from_secs(1), &[c]);
    assert!(!is_there(&w, "/short") && is_there(&w, "/set") && is_there(&w, "/parent"));
    w.call_through_pongs(c, &set("/set", b"again"));
    w.advance_pinging(MINUTE, &[c]);
    assert!(is_there(&w, "/set"), "90 s have not passed since it was set");
    w.call_through_pongs(c, &delete("/parent/k"));
    w.advance_pinging(2 * MINUTE, &[c]);
    assert!(!is_there(&w, "/set") && !is_there(&w, "/parent"));
}

#[test]
pub(super) fn many_go_at_the_pace_that_was_set() {
    let mut w = World::new(0);
    w.cfg.container_max_per_minute = 600;
    w.start(1000);
    let (c, _) = w.connect(0);
    for i in 0..1000 {
        w.put_request(c, i, &ttl(&format!("/t{i}"), 1));
    }
    w.run();
    w.advance_pinging(MINUTE, &[c]);
    let before = w.node(0).state().znode_count();
    w.advance_pinging(MINUTE, &[c]);
    let gone = before - w.node(0).state().znode_count();
    assert!((300..=900).contains(&gone), "{gone} in a minute");
    w.advance_pinging(3 * MINUTE, &[c]);
    assert_eq!(w.node(0).state().znode_count(), 4);
}

#[test]
pub(super) fn without_anything_to_sweep_no_timer_runs() {
    let mut w = World::new(1);
    let timer = |w: &World| w.next_deadline(0).map(|d| d.1);
    assert_eq!(timer(&w), Some("look at memory"), "once in ten minutes");
    let (c, _) = w.connect(0);
    w.call(c, 1, &container("/box"));
    w.call(c, 2, &Request::CloseSession);
    w.advance(MINUTE);
    assert_eq!(timer(&w), Some("look at memory"), "a container that never had children is not looked at");
}

#[test]
pub(super) fn times_to_live_are_bounded_and_can_be_switched_off() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let bad = ErrorCode::BadArguments.code();
    let max = 0xff_ffff_ffff;
    for (request, err) in [
        (ttl("/a", 0), bad),
        (ttl("/a", -1), bad),
        (ttl("/a", max + 1), bad),
        (ttl("/a", max), 0),
        (Request::CreateTtl { node: node("/b", 0), ttl_ms: 5 }, bad),
        (Request::CreateTtl { node: node("/b", 0), ttl_ms: -1 }, bad),
        (create("/b", 5), bad),
        (Request::CreateContainer(node("/b", 6)), bad),
        (Request::CreateContainer(node("/b", 0)), 0),
    ] {
        assert_eq!(w.call(c, 1, &request).reply().1, err, "{request:?}");
    }
    let mut w = World::new(0);
    w.cfg.extended_types = false;
    w.start(10);
    let (c, _) = w.connect(0);
    for request in [ttl("/a", 5), create("/a", 6), ttl("/a", 0)] {
        assert_eq!(w.call(c, 1, &request).reply().1, ErrorCode::Unimplemented.code(), "{request:?}");
    }
    assert_eq!(w.call(c, 2, &container("/a")).reply().1, 0);
}

#[test]
pub(super) fn hard_quotas_are_enforced_where_that_is_wanted_and_soft_ones_told() {
    let mut w = World::new(0);
    w.start(100);
    w.cfg.enforce_quota = true;
    w.start(100);
    let (lenient, _) = w.connect(0);
    let (strict, _) = w.connect(1);
    let with = |path: &'static str, data: &'static [u8]| Request::Create {
        path: path.into(),
        data: Some(data),
        acl: open_acl(),
        flags: 0,
        with_stat: false,
    };
    for request in [
        with("/q", b""),
        with("/zookeeper/quota/q", b""),
        with("/zookeeper/quota/q/zookeeper_limits", b"count=2,bytes=-1=;byteHardLimit=10;countHardLimit=3"),
        with("/zookeeper/quota/q/zookeeper_stats", b""),
        with("/q/a", b"12345"),
    ] {
        assert_eq!(w.call(strict, 1, &request).reply().1, 0, "{request:?}");
    }
    let over = ErrorCode::QuotaExceeded.code();
    assert_eq!(w.call(strict, 2, &with("/q/b", b"123456")).reply().1, over, "bytes");
    assert_eq!(w.call(strict, 2, &with("/q/b", b"12345")).reply().1, 0);
    assert_eq!(w.call(strict, 2, &with("/q/c", b"")).reply().1, over, "nodes");
    assert_eq!(w.call(strict, 2, &set("/q/a", b"123456")).reply().1, over);
    let version = Request::SetData { path: "/q/a".into(), data: Some(b"123456"), version: 9 };
    assert_eq!(w.call(strict, 2, &version).reply().1, over, "before the version");
    assert_eq!(w.call(lenient, 2, &with("/q/c", b"")).reply().1, 0);
    assert!(w.notes(0).iter().any(|n| n.contains("quota of /q")), "{:?}", w.notes(0));
    let stats = w.call(lenient, 3, &get("/zookeeper/quota/q/zookeeper_stats", false));
    assert_eq!(stats.data(), b"count=4,bytes=10");
    assert_eq!(w.hash(0), w.hash(1));
}

/// What was left by a build without ACLs goes on by its rules till the first node of this one serves.
#[test]
pub(super) fn a_service_of_older_rules_is_raised_once() {
    let mut w = World::new(0);
    w.start_from(10, Restored::from_snapshot(State::by_rules(1), None));
    w.run();
    assert_eq!(w.node(0).state().apply_version(), APPLY_VERSION_MAX);
    assert_eq!(w.node(0).state().applied().0, 1, "one record was enough");
}
