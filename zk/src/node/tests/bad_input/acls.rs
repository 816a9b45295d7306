//! Point 56: lists, versions and data at and beyond their bounds.

use super::*;
use crate::jute::OpCode;
use crate::node::NodeConfig;
use crate::txn::{Acl, AuthId};

fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, id: AuthId { scheme: scheme.into(), id: id.into() } }
}

#[test]
pub fn p56_lists_that_are_empty_or_name_nobody_are_refused() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/a", 0));
    let invalid = ErrorCode::InvalidAcl.code();
    for acl in [
        vec![],
        vec![entry(31, "nobody", "x")],
        vec![entry(31, "world", "someone")],
        vec![entry(31, "digest", "no-colon")],
        vec![entry(31, "ip", "300.0.0.1")],
        vec![entry(31, "ip", "10.0.0.0/99")],
        vec![entry(31, "auth", "")],
        vec![entry(31, "world", "anyone"), entry(31, "", "")],
    ] {
        let made =
            Request::Create { path: "/b".into(), data: None, acl: acl.clone(), flags: 0, with_stat: false };
        assert_eq!(s.w.call(c, 2, &made).reply(), (2, invalid), "{acl:?}");
        let set = Request::SetAcl { path: "/a".into(), acl: acl.clone(), version: -1 };
        assert_eq!(s.w.call(c, 3, &set).reply(), (3, invalid), "{acl:?}");
    }
    s.end();
}

/// As the original: bits that mean nothing are kept, and let nobody do anything.
#[test]
pub fn p56_unknown_permission_bits_permit_nothing() {
    let mut s = Stage::new();
    let c = s.client();
    for (i, perms) in [0, 32, i32::MIN, 1 << 20].into_iter().enumerate() {
        let path = format!("/p{i}");
        let acl = vec![entry(perms, "world", "anyone")];
        let made = Request::Create { path: path.clone().into(), data: None, acl, flags: 0, with_stat: false };
        assert_eq!(s.w.call(c, 1, &made).reply(), (1, 0));
        assert_eq!(s.w.call(c, 2, &get(&path, false)).reply(), (2, ErrorCode::NoAuth.code()), "{perms}");
    }
    s.end();
}

/// As many entries as a frame holds cost what the frame costs, not more.
#[test]
pub fn p56_a_list_of_as_many_entries_as_fit_is_taken_or_refused_as_a_whole() {
    let mut s = Stage::new();
    let c = s.client();
    for (entries, expected) in [(10_000, 0), (30_000, 0)] {
        let path = format!("/a{entries}");
        s.w.call(c, 1, &create(&path, 0));
        let acl: Vec<Acl> = (0..entries).map(|i| entry(1, "digest", &format!("u{i}:x"))).collect();
        let error = s.refused(c, OpCode::SetAcl.code(), |w| {
            w.string(&path).acls(&acl).int(-1);
        });
        assert_eq!(error, expected, "{entries}");
    }
    let error = s.refused(c, OpCode::SetAcl.code(), |w| {
        w.string("/good").int(100_000);
        for _ in 0..58_000 {
            w.int(31).int(0).int(0);
        }
    });
    assert_eq!(error, MARSHALLING, "a hundred thousand don't fit a frame");
    s.end();
}

#[test]
pub fn p56_versions_must_match_and_only_minus_one_is_any() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/a", 0));
    for version in [-2, 1, 7, i32::MIN, i32::MAX] {
        for request in [
            Request::SetAcl { path: "/a".into(), acl: open_acl(), version },
            Request::SetData { path: "/a".into(), data: None, version },
            Request::Delete { path: "/a".into(), version },
        ] {
            assert_eq!(s.w.call(c, 2, &request).reply(), (2, ErrorCode::BadVersion.code()), "{request:?}");
        }
    }
    s.end();
}

#[test]
pub fn p56_data_at_the_limit_is_taken_and_read_back_and_a_byte_more_is_not() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/a", 0));
    // What the reply that shows it has beside: length, header, Stat.
    let most = s.w.cfg.max_frame_bytes - 88;
    let data = vec![7u8; most + 1];
    for (bytes, expected) in [(most, 0), (most + 1, BAD_ARGUMENTS)] {
        let error = s.refused(c, OpCode::SetData.code(), |w| {
            w.string("/a").buffer(Some(&data[..bytes])).int(-1);
        });
        assert_eq!(error, expected, "{bytes}");
    }
    assert_eq!(s.w.call(c, 2, &get("/a", false)).data().len(), most);
    s.end();
}

/// A setting that could not work is brought into its bounds rather than believed.
#[test]
pub fn p56_settings_out_of_bounds_do_no_harm() {
    for odd in [0, 1, u32::MAX] {
        let mut w = World::new(0);
        w.cfg = NodeConfig {
            secret: w.cfg.secret,
            tick_ms: odd,
            min_session_timeout_ms: odd,
            max_session_timeout_ms: odd,
            max_pending_requests: odd as usize,
            max_pending_bytes: odd as usize,
            container_max_per_minute: odd,
            snapshot_records: 0,
            snapshot_bytes: 0,
            ..w.cfg
        };
        w.start(10);
        let c = w.ask(0, 0, 4000, None);
        assert!(w.answer(c).is_some_and(|a| a.timeout_ms > 0), "{odd}");
        assert_eq!(w.call(c, 1, &create("/a", 0)).reply(), (1, 0), "{odd}");
    }
}
