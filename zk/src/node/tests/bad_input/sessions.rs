//! Points 25 to 38: requests at the wrong time, sessions of others, and numbers that mean something else.

use super::*;
use crate::jute::{ConnectRequest, OpCode};
use std::time::Duration;

/// A connect request's frame.
fn hello(session: i64, password: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ask = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 4000,
        session,
        password,
        read_only: Some(false),
    };
    ask.encode(&mut bytes);
    bytes
}

#[test]
pub fn p25_unknown_operations_are_answered_in_order_and_the_connection_stays() {
    let mut s = Stage::new();
    let c = s.client();
    for op in [-10, -12, -1, 0, 10, 13, 20, 23, 99, 108, i32::MAX, i32::MIN] {
        s.w.put_request(c, 1, &create("/x", 0));
        s.w.put(
            c,
            &request(2, op, |w| {
                w.buffer(Some(&[0xff; 50]));
            }),
            false,
        );
        s.w.put_request(c, 3, &delete("/x"));
        s.w.run();
        let got: Vec<_> = s.w.got(c).iter().map(Got::reply).collect();
        assert_eq!(got, [(1, 0), (2, ErrorCode::Unimplemented.code()), (3, 0)], "{op}");
    }
    s.end();
}

#[test]
pub fn p26_a_goodbye_before_the_session_ends_the_connection() {
    let mut s = Stage::new();
    let c = s.w.dial(0);
    s.wire(c, &request(1, OpCode::CloseSession.code(), |_| ()), true);
    assert!(s.w.is_closed(c) && s.w.answer(c).is_none());
    s.end();
}

/// The second one is a request whose operation is whatever stands in its place.
#[test]
pub fn p27_a_second_connect_request_changes_nothing() {
    let mut s = Stage::new();
    let (c, mine) = s.w.connect(0);
    let (other, theirs) = s.w.connect(0);
    for resumed in [(0, [0; 16]), (mine.session, mine.password), (theirs.session, theirs.password)] {
        s.wire(c, &hello(resumed.0, &resumed.1), false);
        assert_eq!(s.w.got(c)[0].reply().1, ErrorCode::Unimplemented.code());
    }
    assert!(s.is_served(c) && s.is_served(other));
    assert_eq!(s.w.node(0).status().sessions, 3);
    s.end();
}

#[test]
pub fn p28_a_request_before_the_connect_request_ends_the_connection() {
    let mut s = Stage::new();
    let (_, victim) = s.w.connect(0);
    let frames = [
        request(1, OpCode::Exists.code(), |w| {
            w.string("/").boolean(false);
        }),
        request(1, OpCode::Ping.code(), |_| ()),
        request(1, OpCode::Create.code(), |w| {
            w.string("/bad").buffer(Some(&[0xff; 100])).acls(&open_acl()).int(0);
        }),
        request(-4, OpCode::Auth.code(), |w| {
            w.int(0).string("digest").buffer(Some(b"a:b"));
        }),
        // What looks like a victim's session, by chance.
        request(0, 0, |w| {
            w.int(0).int(4000).long(victim.session).buffer(Some(&[0xff; 16]));
        }),
    ];
    for frame in frames {
        let c = s.w.dial(0);
        s.wire(c, &frame, true);
        assert!(s.w.is_closed(c), "{frame:?}");
        assert!(s.w.answer(c).is_none_or(|a| a.is_refusal()));
    }
    assert!(s.w.node(0).state().session(victim.session).is_some());
    s.end();
}

#[test]
pub fn p29_a_connect_request_without_the_flag_gets_none_back() {
    let mut s = Stage::new();
    let c = s.w.dial(0);
    let old = framed(|w| {
        w.int(0).long(0).int(4000).long(0).buffer(Some(&[0; 16]));
    });
    s.wire(c, &old, true);
    assert_eq!(s.w.answer(c).expect("an answer").read_only, None);
    assert!(s.is_served(c));
    s.end();
}

#[test]
pub fn p30_any_protocol_version_is_taken() {
    let mut s = Stage::new();
    for version in [1, -1, i32::MAX, i32::MIN] {
        let c = s.w.dial(0);
        let hello = framed(|w| {
            w.int(version).long(0).int(4000).long(0).buffer(Some(&[0; 16])).boolean(false);
        });
        s.wire(c, &hello, true);
        assert!(!s.w.answer(c).expect("an answer").is_refusal());
        assert!(s.is_served(c));
    }
    s.end();
}

#[test]
pub fn p31_timeouts_are_brought_into_bounds() {
    let mut s = Stage::new();
    for (asked, granted) in [(0, 2000), (-1, 2000), (i32::MIN, 2000), (i32::MAX, 20_000), (7000, 7000)] {
        let c = s.w.ask(0, 0, asked, None);
        assert_eq!(s.w.answer(c).expect("an answer").timeout_ms, granted, "{asked}");
    }
    s.end();
}

#[test]
pub fn p32_who_has_seen_more_than_there_is_is_closed_without_an_answer() {
    let mut s = Stage::new();
    for ahead in [1 << 40, i64::MAX] {
        let c = s.w.ask(0, ahead, 4000, None);
        s.wait(3);
        assert!(s.w.is_closed(c) && s.w.answer(c).is_none());
    }
    // Nonsense that is behind is behind.
    let c = s.w.ask(0, i64::MIN, 4000, None);
    assert!(!s.w.answer(c).expect("an answer").is_refusal());
    s.end();
}

#[test]
pub fn p33_a_wrong_password_never_disturbs_the_owner() {
    let mut w = World::new(2);
    let (owner, session) = w.connect(0);
    w.call(owner, 1, &create("/mine", 1));
    let mut s = Stage::on(w);
    let wrong: [&[u8]; 6] = [&[], &[0; 16], &[0xff; 16], &session.password[..15], &[7; 17], &[7; 1000]];
    for (i, password) in wrong.into_iter().enumerate() {
        let tail = s.w.hub.borrow().tail();
        let thief = s.w.dial(i % 2);
        s.wire(thief, &hello(session.session, password), true);
        let answer = s.w.answer(thief).expect("an answer");
        assert!(answer.is_refusal() && answer.session == 0 && s.w.is_closed(thief));
        assert_eq!(s.w.hub.borrow().tail(), tail, "nothing of it gets into the log");
    }
    assert!(s.is_served(owner));
    s.end();
}

/// The original's passwords follow from the session's id, which `ephemeralOwner` shows to everybody.
#[test]
pub fn p34_a_password_computed_from_the_sessions_id_is_refused() {
    fn computed(session: i64) -> [u8; 16] {
        const MUL: i64 = 0x5_DEEC_E66D;
        let mut state = (session ^ 0xB341_5C00 ^ MUL) & ((1 << 48) - 1);
        let mut password = [0; 16];
        for four in password.chunks_mut(4) {
            state = state.wrapping_mul(MUL).wrapping_add(0xB) & ((1 << 48) - 1);
            four.copy_from_slice(&((state >> 16) as i32).to_le_bytes());
        }
        password
    }
    let vector = computed(0x0100_0000_0000_0000);
    assert_eq!(vector[..4], [0xf2, 0x2a, 0xcd, 0x4a], "as a JVM computes it");
    let mut s = Stage::new();
    let (owner, mine) = s.w.connect(0);
    for session in mine.session - 3..=mine.session + 3 {
        let thief = s.w.dial(0);
        s.wire(thief, &hello(session, &computed(session)), true);
        assert!(s.w.answer(thief).expect("an answer").is_refusal());
    }
    assert!(s.is_served(owner));
    s.end();
}

/// Both nodes are asked at once: the later record in the log has it, the other connection ends, and what it still
/// writes does nothing.
#[test]
pub fn p35_a_session_asked_for_on_two_nodes_at_once_has_one_connection() {
    let mut w = World::new(2);
    let (first, session) = w.connect(0);
    w.call(first, 1, &create("/mine", 1));
    let mut s = Stage::on(w);
    s.w.hub.borrow_mut().hold = true;
    let rivals = [s.w.ask(0, 0, 4000, Some(&session)), s.w.ask(1, 0, 4000, Some(&session))];
    s.w.put_request(first, 2, &set("/mine", b"late"));
    s.w.run();
    s.w.hub.borrow_mut().hold = false;
    s.w.hub.borrow_mut().commit(usize::MAX);
    s.w.run();
    s.w.advance(MS);
    assert!(s.w.is_closed(first));
    let alive: Vec<usize> = rivals.into_iter().filter(|c| !s.w.is_closed(*c)).collect();
    assert_eq!(alive.len(), 1, "one of them");
    assert!(!s.w.answer(alive[0]).expect("an answer").is_refusal());
    assert_eq!(s.w.call(alive[0], 1, &get("/mine", false)).data(), b"new");
    assert_eq!(s.w.hash(0), s.w.hash(1));
    s.end();
}

#[test]
pub fn p36_a_session_that_was_closed_or_has_expired_is_refused_anywhere() {
    let mut w = World::new(2);
    let (closed, a) = w.connect(0);
    w.call(closed, 1, &Request::CloseSession);
    let (silent, b) = w.connect(1);
    let mut s = Stage::on(w);
    s.wait(6);
    assert!(s.w.is_closed(silent));
    let never = crate::jute::ConnectResponse { session: 0x1234_5678, ..a };
    for (session, node) in [(&a, 0), (&a, 1), (&b, 0), (&b, 1), (&never, 0)] {
        let again = s.w.ask(node, 0, 4000, Some(session));
        assert!(s.w.answer(again).expect("an answer").is_refusal() && s.w.is_closed(again));
    }
    s.end();
}

/// A request's number is the client's business.
#[test]
pub fn p37_numbers_that_repeat_decrease_or_mean_something_else_are_echoed() {
    let mut s = Stage::new();
    let c = s.client();
    for xid in [5, 5, 4, 1, 0, -1, -2, -4, -8, -9, i32::MIN] {
        let got = s.refused_as(c, xid);
        assert_eq!(got, (xid, 0));
    }
    // A ping is one by its operation, not by its number.
    s.wire(c, &request(5, OpCode::Ping.code(), |_| ()), false);
    assert_eq!(s.w.got(c)[0].reply(), (-2, 0));
    s.end();
}

#[test]
pub fn p38_numbers_wrap() {
    let mut s = Stage::new();
    let c = s.client();
    for xid in [i32::MAX - 1, i32::MAX, i32::MIN, 1] {
        assert_eq!(s.refused_as(c, xid), (xid, 0));
    }
    s.end();
}

impl Stage {
    /// Number and error of the answer to a request with that number.
    fn refused_as(&mut self, client: usize, xid: i32) -> (i32, i32) {
        self.wire(
            client,
            &request(xid, OpCode::Sync.code(), |w| {
                w.string("/good");
            }),
            false,
        );
        let frame = self.w.raw_frame(client).expect("an answer");
        let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().expect("4 bytes"));
        self.w.advance(Duration::ZERO);
        (int(0), int(12))
    }
}
