//! Points 20 to 24: paths that name nothing, and kinds of nodes that there are none of.

use super::*;
use crate::jute::OpCode;

/// The error that creating a node of these bytes comes to.
fn made(s: &mut Stage, c: usize, path: &[u8], flags: i32) -> i32 {
    s.refused(c, OpCode::Create.code(), |w| {
        w.buffer(Some(path)).buffer(None).acls(&open_acl()).int(flags);
    })
}

#[test]
pub fn p20_characters_that_no_path_may_have_are_refused() {
    let mut s = Stage::new();
    let c = s.client();
    let znodes = s.w.node(0).status().znodes;
    let bytes: [&[u8]; 12] = [
        b"\xff",
        b"\xc0\x80",
        b"a\xe2\x82",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\0",
        b"a\0b",
        b"\x01",
        b"\x1f",
        b"\x7f",
        b"\xc2\x9f",
    ];
    let chars = ['\u{80}', '\u{e000}', '\u{f8ff}', '\u{fff0}', '\u{ffff}', '\u{10000}', '😀'];
    let names = bytes.iter().map(|b| b.to_vec()).chain(chars.map(|c| c.to_string().into_bytes()));
    for name in names {
        let path = [b"/", &name[..]].concat();
        for (path, flags) in [(path.clone(), 0), (path.clone(), 2), ([&path[..], b"/x"].concat(), 0)] {
            let error = made(&mut s, c, &path, flags);
            assert!(error == BAD_ARGUMENTS || error == ErrorCode::NoNode.code(), "{path:?}: {error}");
        }
        // Nothing has such a name, whatever is asked of it.
        for op in [OpCode::Exists, OpCode::GetData, OpCode::GetChildren, OpCode::GetAcl] {
            let error = s.refused(c, op.code(), |w| {
                w.buffer(Some(&path)).boolean(true);
            });
            assert!([BAD_ARGUMENTS, ErrorCode::NoNode.code()].contains(&error), "{op:?} {path:?}: {error}");
        }
    }
    assert_eq!(s.w.node(0).status().znodes, znodes);
    s.end();
}

#[test]
pub fn p21_malformed_long_and_deep_paths() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/a", 0));
    for path in ["", "a", "/a/", "//", "/.", "/..", "/a/.", "/a/.."] {
        assert_eq!(made(&mut s, c, path.as_bytes(), 0), BAD_ARGUMENTS, "{path:?}");
    }
    for path in ["/./x", "/../x", "a/b", "/a//b", "//a"] {
        let error = made(&mut s, c, path.as_bytes(), 0);
        assert!([BAD_ARGUMENTS, ErrorCode::NoNode.code()].contains(&error), "{path:?}: {error}");
    }
    let long = format!("/{}", "x".repeat(1_000_000));
    assert_eq!(made(&mut s, c, long.as_bytes(), 0), 0, "only a frame bounds a name");
    assert_eq!(s.w.call(c, 1, &delete(&long)).reply(), (1, 0));
    let steps = "/a".repeat(100_000);
    assert_eq!(made(&mut s, c, steps.as_bytes(), 0), ErrorCode::NoNode.code());
    assert_eq!(s.w.call(c, 1, &Request::AddWatch { path: steps.into(), mode: 1 }).reply(), (1, 0));
    s.end();
}

/// Deeper than any stack would like, if anything went down it step by step.
#[test]
pub fn p21_a_deep_tree_is_made_watched_and_torn_down() {
    let mut s = Stage::new();
    let c = s.client();
    let watch = Request::AddWatch { path: "/".into(), mode: 1 };
    assert_eq!(s.w.call(c, 1, &watch).reply(), (1, 0));
    const DEPTH: usize = 2000;
    for depth in 1..=DEPTH {
        s.w.put_request(c, 1, &create(&"/d".repeat(depth), 0));
    }
    s.w.advance(500 * MS);
    assert_eq!(s.w.got(c).len(), 2 * DEPTH, "an answer and an event for each");
    let all = s.w.call(c, 2, &Request::GetAllChildrenNumber { path: "/d".into() });
    assert_eq!(all.record(), (DEPTH as i32 - 1).to_be_bytes());
    assert_eq!(s.w.node(0).state().hash(), s.w.node(0).state().hash_from_scratch());
    for depth in (1..=DEPTH).rev() {
        s.w.put_request(c, 1, &delete(&"/d".repeat(depth)));
    }
    s.w.advance(500 * MS);
    let got = s.w.got(c);
    assert_eq!(got.len(), 2 * DEPTH);
    assert!(got.iter().all(|g| matches!(g, Got::Event(..) | Got::Reply(_, _, 0, _))));
    s.w.call(c, 3, &Request::Watches { path: "/".into(), kind: 3, remove: true });
    s.end();
}

#[test]
pub fn p22_a_sequential_name_may_be_nothing_but_its_number() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/s", 0));
    assert_eq!(s.w.call(c, 2, &create("/s/", 2)).path(), "/s/0000000000");
    assert_eq!(s.w.call(c, 3, &create("/s/", 3)).path(), "/s/0000000001");
    assert_eq!(made(&mut s, c, b"/s/", 0), BAD_ARGUMENTS);
    for (path, error) in
        [(&b"/s//"[..], ErrorCode::NoNode.code()), (b"", BAD_ARGUMENTS), (b"s", BAD_ARGUMENTS)]
    {
        assert_eq!(made(&mut s, c, path, 2), error, "{path:?}");
    }
    s.end();
}

#[test]
pub fn p24_kinds_of_nodes_that_there_are_none_of_are_refused() {
    let mut s = Stage::new();
    let c = s.client();
    for flags in [-1, 5, 6, 7, 8, 255, i32::MAX, i32::MIN] {
        for op in [OpCode::Create, OpCode::Create2, OpCode::CreateContainer] {
            let error = s.refused(c, op.code(), |w| {
                w.string("/kind").buffer(None).acls(&open_acl()).int(flags);
            });
            assert_eq!(error, BAD_ARGUMENTS, "{op:?} {flags}");
        }
    }
    for (flags, ttl_ms) in
        [(5, 0), (5, -1), (5, i64::MIN), (6, 0x100_0000_0000), (5, i64::MAX), (0, 1000), (7, 1000)]
    {
        let error = s.refused(c, OpCode::CreateTtl.code(), |w| {
            w.string("/ttl").buffer(None).acls(&open_acl()).int(flags).long(ttl_ms);
        });
        assert_eq!(error, BAD_ARGUMENTS, "{flags} {ttl_ms}");
    }
    let mut w = World::new(0);
    w.cfg.extended_types = false;
    w.start(10);
    let mut without = Stage::on(w);
    let c = without.client();
    let error = without.refused(c, OpCode::CreateTtl.code(), |w| {
        w.string("/ttl").buffer(None).acls(&open_acl()).int(5).long(1000);
    });
    assert_eq!(error, ErrorCode::Unimplemented.code());
    without.end();
    s.end();
}
