//! Who is let do what? Operation by permission by scheme, and what a connection may prove.

use super::world::*;
use crate::jute::codes::perms::{ADMIN, ALL, CREATE, DELETE, READ, WRITE};
use crate::jute::{ErrorCode, EventType, NewNode, Reader, Request};
use crate::txn::{Acl, AuthId};

const NO_AUTH: i32 = ErrorCode::NoAuth.code();

fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, id: AuthId { scheme: scheme.into(), id: id.into() } }
}

/// `me:secret`.
const ME: &str = "me:016djjlksVQS5RgX3M7biBGyYwY=";

fn auth(proof: &'static str) -> Request<'static> {
    Request::Auth { scheme: "digest".into(), auth: proof.as_bytes() }
}

fn set_acl(path: &str, acl: Vec<Acl>) -> Request<'static> {
    Request::SetAcl { path: path.to_string().into(), acl, version: -1 }
}

fn node(path: &str, flags: i32) -> NewNode<'static> {
    NewNode { path: path.to_string().into(), data: None, acl: open_acl(), flags }
}

/// The error of a reply, that of its only part if it is a multi's that came through.
fn error(got: &Got, multi: bool) -> i32 {
    match got.reply() {
        (_, 0) if multi => {
            let mut r = Reader::new(got.record());
            (r.int().unwrap(), r.boolean().unwrap(), r.int().unwrap()).2
        }
        (_, err) => err,
    }
}

/// Each operation, what it needs on `/n`, and whether it is a multi.
fn operations() -> Vec<(Request<'static>, i32, bool)> {
    let n = || "/n".to_string().into();
    vec![
        (get("/n", false), READ, false),
        (exists("/n", false), READ, false),
        (children("/n", false), READ, false),
        (Request::GetChildren { path: n(), watch: false, with_stat: true }, READ, false),
        (Request::GetAllChildrenNumber { path: n() }, READ, false),
        (Request::GetAcl { path: n() }, READ | ADMIN, false),
        (Request::MultiRead(vec![get("/n", false)]), READ, true),
        (Request::Multi(vec![Request::Check { path: n(), version: -1 }]), READ, true),
        (set("/n", b"x"), WRITE, false),
        (Request::Multi(vec![set("/n", b"x")]), WRITE, true),
        (create("/n/k", 0), CREATE, false),
        (create("/n/e", 1), CREATE, false),
        (create("/n/s-", 2), CREATE, false),
        (Request::CreateContainer(node("/n/box", 4)), CREATE, false),
        (Request::CreateTtl { node: node("/n/ttl", 5), ttl_ms: 9 }, CREATE, false),
        (Request::Multi(vec![create("/n/m", 0)]), CREATE, true),
        (delete("/n/old"), DELETE, false),
        (Request::Multi(vec![delete("/n/older")]), DELETE, true),
        (sync(), 0, false),
        (Request::AddWatch { path: n(), mode: 0 }, 0, false),
        (Request::GetEphemerals { prefix: "/n".into() }, 0, false),
        // At the end: it changes what is tried.
        (set_acl("/n", vec![entry(ALL, "world", "anyone")]), ADMIN, false),
    ]
}

/// Operation x permission x scheme: each is let do it by the permission it needs, on the node or its parent, and
/// by no other, whatever the identity is.
#[test]
pub(super) fn every_operation_needs_its_permission_whoever_asks() {
    let schemes = [("world", "anyone"), ("digest", ME), ("ip", "10.0.0.1"), ("ip", "10.0.0.0/8")];
    for (scheme, id) in schemes {
        for perm in [0, READ, WRITE, CREATE, DELETE, ADMIN, ALL] {
            let mut w = World::new(1);
            let (c, _) = w.connect(0);
            for path in ["/n", "/n/old", "/n/older"] {
                w.call(c, 1, &create(path, 0));
            }
            w.call(c, 2, &auth("me:secret"));
            let others =
                [entry(ALL, "digest", "you:x"), entry(ALL, "ip", "10.0.0.2"), entry(ALL, "sasl", ME)];
            let acl = others.into_iter().chain([entry(perm, scheme, id)]).collect();
            assert_eq!(w.call(c, 3, &set_acl("/n", acl)).reply().1, 0);
            for (request, needed, multi) in operations() {
                let got = error(&w.call(c, 4, &request), multi);
                let wanted = if needed == 0 || perm & needed != 0 { 0 } else { NO_AUTH };
                assert_eq!(got, wanted, "{request:?} with {perm} for {scheme}:{id}");
            }
        }
    }
}

#[test]
pub(super) fn what_counts_first_is_told() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/n", 0));
    w.call(c, 1, &create("/n/old", 0));
    assert_eq!(w.call(c, 2, &set_acl("/n", vec![entry(ALL, "digest", "you:x")])).reply().1, 0);
    for (request, err) in [
        (create("/n/old", 0), NO_AUTH),
        (create("/n/a/b", 0), ErrorCode::NoNode.code()),
        (delete("/n/none"), NO_AUTH),
        (delete("/none/x"), ErrorCode::NoNode.code()),
        (Request::SetData { path: "/n".into(), data: None, version: 7 }, NO_AUTH),
        (get("/n/none", false), ErrorCode::NoNode.code()),
        (set_acl("/n", vec![]), ErrorCode::InvalidAcl.code()),
        (set_acl("/n/", open_acl()), ErrorCode::BadArguments.code()),
        (set_acl("/none", open_acl()), ErrorCode::NoNode.code()),
        (set_acl("/n", open_acl()), NO_AUTH),
        (
            Request::SetAcl { path: "/n/old".into(), acl: open_acl(), version: 1 },
            ErrorCode::BadVersion.code(),
        ),
        (Request::SetAcl { path: "/n/old".into(), acl: open_acl(), version: 0 }, 0),
        (
            Request::SetAcl { path: "/n/old".into(), acl: open_acl(), version: 0 },
            ErrorCode::BadVersion.code(),
        ),
    ] {
        assert_eq!(w.call(c, 3, &request).reply().1, err, "{request:?}");
    }
}

#[test]
pub(super) fn a_list_is_shown_whole_only_to_who_may_change_it() {
    let mut w = World::new(1);
    let (owner, _) = w.connect(0);
    let (reader, _) = w.connect(0);
    w.call(owner, 1, &auth("me:secret"));
    let acl = || vec![entry(ALL, "digest", ME), entry(READ, "world", "anyone")];
    let request = Request::Create { path: "/n".into(), data: None, acl: acl(), flags: 0, with_stat: false };
    assert_eq!(w.call(owner, 2, &request).reply().1, 0);
    let shown = |got: &Got| Reader::new(got.record()).acls().unwrap();
    let ask = Request::GetAcl { path: "/n".into() };
    assert_eq!(shown(&w.call(owner, 3, &ask)), acl());
    let redacted = vec![entry(ALL, "digest", "me:x"), entry(READ, "world", "anyone")];
    assert_eq!(shown(&w.call(reader, 3, &ask)), redacted);
}

/// FIFO, exactly: a read that came before the proof doesn't profit from it, a write that came behind it does,
/// though both are decided after the proof has come.
#[test]
pub(super) fn a_proof_counts_for_what_comes_behind_it() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/n", 0));
    w.call(c, 1, &create("/other", 0));
    w.call(c, 2, &set_acl("/n", vec![entry(ALL, "digest", ME)]));
    w.put_request(c, 3, &set("/other", b"x"));
    w.put_request(c, 4, &get("/n", false));
    w.put_request(c, 5, &set("/n", b"before"));
    w.put_request(c, -4, &auth("me:secret"));
    w.put_request(c, 6, &set("/n", b"behind"));
    w.put_request(c, 7, &get("/n", false));
    w.run();
    let got: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    assert_eq!(got, [(3, 0), (4, NO_AUTH), (5, NO_AUTH), (-4, 0), (6, 0), (7, 0)]);
}

#[test]
pub(super) fn proofs_last_as_long_as_their_connection() {
    let mut w = World::new(2);
    let (c, session) = w.connect(0);
    w.call(c, 1, &auth("me:secret"));
    w.call(c, 2, &create("/n", 0));
    let own = vec![entry(ALL, "auth", "")];
    assert_eq!(w.call(c, 3, &set_acl("/n", own)).reply().1, 0);
    assert_eq!(w.node(1).state().acl("/n").map(|a| a.0.to_vec()), Ok(vec![entry(ALL, "digest", ME)]));
    let again = w.ask(1, 0, 4000, Some(&session));
    assert!(w.answer(again).is_some_and(|a| !a.is_refusal()));
    assert_eq!(w.call(again, 4, &set("/n", b"x")).reply().1, NO_AUTH);
    assert_eq!(w.call(again, 5, &auth("me:secret")).reply(), (5, 0));
    assert_eq!(w.call(again, 6, &set("/n", b"x")).reply().1, 0);
}

#[test]
pub(super) fn a_proof_that_is_none_ends_the_connection_in_its_turn() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.put_request(c, 1, &create("/n", 0));
    w.put_request(c, -4, &Request::Auth { scheme: "nonsense".into(), auth: b"x" });
    w.put_request(c, 2, &create("/m", 0));
    w.run();
    let got: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    assert_eq!(got, [(1, 0), (-4, ErrorCode::AuthFailed.code())]);
    assert!(w.is_closed(c));
    assert!(w.node(0).state().stat("/m").is_err());
}

#[test]
pub(super) fn who_proves_the_super_digest_may_do_everything() {
    let mut w = World::new(0);
    w.cfg.super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into());
    w.start(10);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/n", 0));
    w.call(c, 2, &set_acl("/n", vec![entry(ALL, "digest", "you:x")]));
    assert_eq!(
        w.call(c, 3, &auth("super:wrong")).reply().1,
        0,
        "there is nothing that it could be held against"
    );
    assert_eq!(w.call(c, 4, &get("/n", false)).reply().1, NO_AUTH);
    assert_eq!(w.call(c, 5, &auth("super:test")).reply().1, 0);
    for (request, ..) in operations().into_iter().filter(|o| !matches!(&o.0, Request::Delete { .. })) {
        assert_eq!(w.call(c, 6, &request).reply().1, 0, "{request:?}");
    }
}

#[test]
pub(super) fn with_acls_skipped_they_are_kept_and_do_not_count() {
    let mut w = World::new(0);
    w.cfg.skip_acl = true;
    w.start(10);
    w.cfg.skip_acl = false;
    w.start(10);
    let (skipping, _) = w.connect(0);
    let (other, _) = w.connect(1);
    w.call(skipping, 1, &create("/n", 0));
    w.call(skipping, 2, &set_acl("/n", vec![entry(ALL, "digest", "you:x")]));
    assert_eq!(w.call(skipping, 3, &set("/n", b"x")).reply().1, 0);
    assert_eq!(w.call(skipping, 4, &get("/n", false)).data(), b"x");
    assert_eq!(w.call(other, 1, &set("/n", b"y")).reply().1, NO_AUTH);
    assert_eq!(w.hash(0), w.hash(1));
    let users = w.call(skipping, 5, &Request::WhoAmI);
    assert_eq!(Reader::new(users.record()).int(), Ok(1), "nobody is made super by it");
}

/// The address that counts in apply is that of the connection which the session rests on.
#[test]
pub(super) fn an_address_is_that_of_the_sessions_connection() {
    let mut w = World::new(2);
    let (c, session) = w.connect(0);
    w.call(c, 1, &create("/n", 0));
    w.call(c, 2, &set_acl("/n", vec![entry(ALL, "ip", "10.0.0.1")]));
    assert_eq!(w.call(c, 3, &set("/n", b"x")).reply().1, 0);
    let elsewhere = w.ask_from("10.0.0.2", 1, Some(&session));
    w.answer(elsewhere).expect("an answer");
    assert_eq!(w.call(elsewhere, 4, &set("/n", b"y")).reply().1, NO_AUTH);
    assert_eq!(w.call(elsewhere, 5, &get("/n", false)).reply().1, NO_AUTH);
    let back = w.ask(0, 0, 4000, Some(&session));
    w.answer(back).expect("an answer");
    assert_eq!(w.call(back, 6, &set("/n", b"z")).reply().1, 0);
}

/// An event tells that a node exists and changes: who may not read it doesn't get it, and loses a one-shot watch.
#[test]
pub(super) fn events_reach_only_who_may_read() {
    let mut w = World::new(1);
    let (owner, _) = w.connect(0);
    let (other, _) = w.connect(0);
    w.call(owner, 1, &auth("me:secret"));
    w.call(owner, 2, &create("/open", 0));
    let hidden = |path: &'static str| Request::Create {
        path: path.into(),
        data: None,
        acl: vec![entry(ALL, "digest", ME)],
        flags: 0,
        with_stat: false,
    };
    for c in [owner, other] {
        w.call(c, 3, &exists("/open/hidden", true));
        w.call(c, 4, &children("/open", true));
        w.call(c, 5, &Request::AddWatch { path: "/open/hidden".into(), mode: 1 });
    }
    w.send(owner, 6, &hidden("/open/hidden"));
    w.send(owner, 7, &hidden("/open/hidden/k"));
    w.send(owner, 8, &set("/open/hidden", b"x"));
    w.send(owner, 9, &delete("/open/hidden/k"));
    w.send(owner, 10, &delete("/open/hidden"));
    let events = |got: Vec<Got>| -> Vec<_> {
        let events = got.into_iter().filter(|g| matches!(g, Got::Event(..)));
        events.map(|g| (g.event().0, g.event().1.to_owned())).collect()
    };
    let (all, seen) = (events(w.got(owner)), events(w.got(other)));
    let event = |kind, path: &str| (kind, path.to_owned());
    let wanted = [
        event(EventType::NodeCreated, "/open/hidden"),
        event(EventType::NodeChildrenChanged, "/open"),
        event(EventType::NodeCreated, "/open/hidden/k"),
        event(EventType::NodeDataChanged, "/open/hidden"),
        event(EventType::NodeDeleted, "/open/hidden/k"),
        event(EventType::NodeDeleted, "/open/hidden"),
    ];
    assert_eq!(all, wanted);
    assert_eq!(seen, [event(EventType::NodeChildrenChanged, "/open")], "the parent may be read");
}

#[test]
pub(super) fn who_one_is_is_told() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &auth("me:secret"));
    let got = w.call(c, 2, &Request::WhoAmI);
    let golden = "00000002 00000002 6970 00000008 31302e302e302e31 00000006 646967657374 00000002 6d65";
    assert_eq!(got.record(), crate::jute::testing::hex(golden));
    assert_eq!(w.call(c, 3, &Request::Other(102)).record(), [0xff; 4], "no SASL");
    assert_eq!(w.call(c, 4, &Request::Other(16)).reply().1, ErrorCode::ReconfigDisabled.code());
}
