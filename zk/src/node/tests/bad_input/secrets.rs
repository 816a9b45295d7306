//! Points 39 to 49: proofs, what they let one see, and what is said of them.

use super::*;
use crate::jute::codes::perms;
use crate::jute::{OpCode, SetWatches, SetWatches2};
use crate::txn::{Acl, AuthId};

fn auth(scheme: &'static str, proof: &'static [u8]) -> Request<'static> {
    Request::Auth { scheme: scheme.into(), auth: proof }
}

fn digest_only(perms: i32) -> Vec<Acl> {
    let id = AuthId { scheme: "digest".into(), id: "me:2XuJ8EmmqVFSNwmHX6ISSYfqXwA=".into() };
    vec![Acl { perms, id }]
}

#[test]
pub fn p39_proofs_that_are_none_too_long_or_too_many_end_the_connection() {
    static LONG: [u8; 1_000_000] = [b'x'; 1_000_000];
    let mut s = Stage::new();
    for (scheme, proof) in [
        ("nobody", &b"x"[..]),
        ("", b""),
        ("world", b"anyone"),
        ("super", b"super:x"),
        ("x509", b""),
        ("digest", &LONG),
    ] {
        let c = s.client();
        s.w.put_request(c, -4, &auth(scheme, proof));
        s.w.put_request(c, 1, &create("/behind", 0));
        s.w.run();
        let got: Vec<_> = s.w.got(c).iter().map(Got::reply).collect();
        assert_eq!(got, [(-4, ErrorCode::AuthFailed.code())], "{scheme}: nothing behind it is done");
        assert!(s.w.is_closed(c));
    }
    // Behind each operation one, until there are too many.
    let c = s.client();
    let mut proofs = 0;
    while !s.w.is_closed(c) {
        proofs += 1;
        let proof: &'static [u8] = format!("user{proofs}:x").into_bytes().leak();
        s.w.put_request(c, 1, &exists("/good", false));
        s.w.put_request(c, -4, &auth("digest", proof));
        s.w.run();
    }
    assert!(proofs <= 65, "{proofs}");
    // The same one any number of times.
    let c = s.client();
    for _ in 0..3000 {
        s.w.put_request(c, -4, &auth("digest", b"me:x"));
    }
    s.w.run();
    let got = s.w.got(c);
    assert!(got.len() == 3000 && got.iter().all(|g| g.reply() == (-4, 0)));
    assert!(s.is_served(c));
    s.end();
}

#[test]
pub fn p40_sasl_in_any_order_is_answered_with_nothing() {
    let mut s = Stage::new();
    let c = s.client();
    for token in [None, Some(&b""[..]), Some(&[0xff; 5000])] {
        for _ in 0..200 {
            let error = s.refused(c, OpCode::Sasl.code(), |w| {
                w.buffer(token);
            });
            assert_eq!(error, 0);
        }
    }
    assert_eq!(s.refused(c, OpCode::Sasl.code(), |_| ()), 0);
    assert!(s.is_served(c));
    s.end();
}

/// Nothing proves such an identity here: no wildcard in one lets anybody in, nor a proof of another kind with its text.
#[test]
pub fn p41_p42_what_nothing_proves_opens_nothing() {
    let mut s = Stage::new();
    let (owner, thief) = (s.client(), s.client());
    for proof in [&b"*:x"[..], b"CN=*:x", b"host:x", b"zookeeper/host@REALM:x"] {
        s.w.call(thief, -4, &auth("digest", proof));
    }
    let ids = ["*", "CN=*", "CN=host,O=*", "host", "zookeeper/*@REALM", "zookeeper/host@REALM", "127.0.0.1"];
    for (i, (scheme, id)) in ["x509", "sasl"].iter().flat_map(|s| ids.map(|id| (s, id))).enumerate() {
        let path = format!("/closed{i}");
        let acl = vec![Acl { perms: 31, id: AuthId { scheme: (*scheme).into(), id: id.into() } }];
        let made = Request::Create { path: path.clone().into(), data: None, acl, flags: 0, with_stat: false };
        assert_eq!(s.w.call(owner, 1, &made).reply(), (1, 0), "{scheme}:{id}");
        for (xid, request) in [(2, get(&path, true)), (3, set(&path, b"x")), (4, children(&path, false))] {
            for client in [owner, thief] {
                let answer = s.w.call(client, xid, &request).reply();
                assert_eq!(answer, (xid, ErrorCode::NoAuth.code()), "{scheme}:{id}");
            }
        }
    }
    for (scheme, proof) in [("x509", &b"CN=host"[..]), ("sasl", b"host"), ("x509", b""), ("sasl", b"")] {
        let c = s.client();
        s.w.send(c, -4, &auth(scheme, proof));
        assert_eq!(s.w.got(c)[0].reply(), (-4, ErrorCode::AuthFailed.code()));
        assert!(s.w.is_closed(c));
    }
    s.end();
}

#[test]
pub fn p44_a_digest_is_shown_to_nobody_but_who_may_change_it() {
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/secret", 0));
    let anyone = Acl { perms: perms::READ, id: AuthId { scheme: "world".into(), id: "anyone".into() } };
    let acl = digest_only(31).into_iter().chain([anyone]).collect();
    s.w.call(c, 2, &Request::SetAcl { path: "/secret".into(), acl, version: -1 });
    let shown = s.w.call(c, 3, &Request::GetAcl { path: "/secret".into() });
    let text = String::from_utf8_lossy(shown.record());
    assert!(text.contains("me:x") && !text.contains("2XuJ8EmmqVFSNwmHX6ISSYfqXwA"), "{text:?}");
    s.end();
}

/// However a watch came to be, and whatever happens to the node: who may not read it hears nothing of it.
#[test]
pub fn p45_no_kind_of_watch_and_no_read_shows_what_may_not_be_read() {
    let mut s = Stage::new();
    let (owner, spy) = (s.client(), s.client());
    s.w.call(owner, -4, &auth("digest", b"me:x"));
    s.w.call(owner, 1, &create("/open", 0));
    let hidden = |path: &str| Request::Create {
        path: path.to_string().into(),
        data: None,
        acl: vec![Acl { perms: 31, id: AuthId { scheme: "auth".into(), id: String::new() } }],
        flags: 0,
        with_stat: false,
    };
    s.w.call(owner, 2, &hidden("/open/hidden"));
    s.w.call(owner, 3, &hidden("/open/hidden/deep"));

    let no_auth = ErrorCode::NoAuth.code();
    for path in ["/open/hidden", "/open/hidden/deep"] {
        for (xid, request) in [
            (1, exists(path, true)),
            (2, get(path, true)),
            (3, children(path, true)),
            (4, Request::GetAcl { path: path.to_string().into() }),
            (5, Request::GetAllChildrenNumber { path: path.to_string().into() }),
        ] {
            assert_eq!(s.w.call(spy, xid, &request).reply(), (xid, no_auth), "{request:?}");
        }
        let both = Request::MultiRead(vec![get(path, true), children(path, true)]);
        let read = s.w.call(spy, 6, &both);
        let parts = read.record().chunks(13).filter(|p| p.len() == 13);
        assert_eq!(parts.filter(|p| p[9..] == no_auth.to_be_bytes()).count(), 2, "{:?}", read.record());
        for mode in [0, 1] {
            s.w.call(spy, 7, &Request::AddWatch { path: path.to_string().into(), mode });
        }
        let list = || vec![path.to_string().into()];
        let set = SetWatches { relative_zxid: i64::MAX, data: list(), exist: vec![], child: list() };
        let all = SetWatches2 { set, persistent: list(), recursive: list() };
        s.w.call(spy, 8, &Request::SetWatches2(Box::new(all)));
    }
    s.w.call(spy, 9, &Request::AddWatch { path: "/open".into(), mode: 1 });
    s.w.got(spy);
    for (xid, request) in [
        (4, set("/open/hidden/deep", b"1")),
        (5, hidden("/open/hidden/more")),
        (6, delete("/open/hidden/more")),
        (7, delete("/open/hidden/deep")),
        (8, delete("/open/hidden")),
    ] {
        assert_eq!(s.w.call(owner, xid, &request).reply(), (xid, 0));
    }
    let told = s.w.got(spy);
    assert!(told.is_empty(), "{told:?}");
    s.end();
}

/// What is written for people or kept in the log must not hold what a person could prove himself by.
#[test]
pub fn p48_secrets_are_in_no_text_and_in_no_record() {
    const PASSWORD: &[u8] = b"correct-horse-battery";
    let mut w = World::new(0);
    w.cfg.secret = *b"cluster-secret-of-thirty-2-bytes";
    w.cfg.super_digest = Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".into());
    w.start(10);
    let mut s = Stage::on(w);
    let (c, session) = s.w.connect(0);
    s.w.call(c, -4, &auth("digest", b"alice:correct-horse-battery"));
    s.w.call(c, 1, &create("/a", 0));
    s.w.send(c, -4, &auth("digest", &[b'x'; 17 << 10]));
    assert!(s.w.is_closed(c));
    let mut texts = format!("{:?}", s.w.cfg);
    texts += &s.w.command_status(0);
    texts += &s.w.notes(0).join("\n");
    for word in ["srvr", "stat", "mntr", "conf", "cons", "envi", "wchs", "stgs", "dirs"] {
        texts += &s.w.word(0, word);
    }
    let log = s.w.hub.borrow().bytes();
    let holds = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|w| w == secret);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert!(holds(&log, b"alice:"), "the log was looked at");
    for secret in [PASSWORD, &session.password, &s.w.cfg.secret, b"xQJmxLMiHGwaqBvst5y6rkB6HQs="] {
        assert!(!holds(texts.as_bytes(), secret) && !holds(&log, secret), "{secret:?}");
        assert!(!texts.contains(&hex(secret)) && !texts.contains(&format!("{secret:?}")));
    }
    s.end();
}

#[test]
pub fn p49_words_that_are_none_in_the_wrong_case_or_costly_are_not_answered() {
    let mut s = Stage::new();
    for word in ["RUOK", "Ruok", "ruoK", "kill", "zzzz"] {
        assert_eq!(s.w.word(0, word), "", "{word}");
    }
    for word in ["wchp", "wchc", "crst", "srst", "dump", "stmk"] {
        let refusal = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(s.w.word(0, word), refusal);
    }
    // Partly there, it is no word yet.
    let c = s.w.dial(0);
    s.wire(c, b"ru", true);
    assert!(!s.w.is_closed(c));
    s.w.hang_up(c);
    // Behind a session's begin it is a length that no frame has.
    let c = s.client();
    s.wire(c, b"ruok", false);
    assert!(s.w.is_closed(c));
    for _ in 0..300 {
        let text = s.w.word(0, "cons");
        assert_eq!(text.lines().filter(|l| l.contains("sid=")).count(), 1);
    }
    s.end();
}
