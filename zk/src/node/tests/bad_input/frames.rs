//! Points 1 to 12: frames that are none, that don't end, or that never begin.

use super::*;
use crate::jute::FRAME_BYTES_DEFAULT_MAX as MAX;
use std::time::Duration;

/// What the bytes do to a connection that has said nothing, and to one in a session: both must end.
fn ends_any_connection(bytes: &[u8]) {
    let mut s = Stage::new();
    let bare = s.w.dial(0);
    s.wire(bare, bytes, true);
    let open = s.client();
    s.wire(open, bytes, false);
    assert!(s.w.is_closed(bare) && s.w.is_closed(open));
    assert!(s.w.answer(bare).is_none(), "no word to who is no client");
    assert_eq!(s.w.got(open), []);
    s.end();
}

#[test]
pub fn p01_a_negative_length_ends_the_connection() {
    for length in [-1, -2, i32::MIN] {
        ends_any_connection(&i32::to_be_bytes(length));
    }
}

#[test]
pub fn p02_a_length_above_the_limit_ends_the_connection_and_one_at_it_is_served() {
    ends_any_connection(&(MAX as i32 + 1).to_be_bytes());
    let mut s = Stage::new();
    let c = s.client();
    let filled = request(5, 3, |w| {
        w.string("/good").boolean(false);
        let left = MAX + 4 - w.bytes() - 4;
        w.buffer(Some(&vec![7; left]));
    });
    assert_eq!(filled.len(), MAX + 4);
    s.wire(c, &filled, false);
    assert_eq!(s.w.got(c)[0].reply(), (5, 0));
    s.end();
}

#[test]
pub fn p03_an_empty_frame_ends_the_connection() {
    ends_any_connection(&[0; 4]);
}

/// Nothing is reserved for what was only announced: a length above the limit is refused, and one below it brings no
/// bytes to the node.
#[test]
pub fn p04_a_long_frame_that_is_announced_and_does_not_come_ends_with_the_patience() {
    ends_any_connection(&i32::MAX.to_be_bytes());
    let mut s = Stage::new();
    let c = s.w.dial(0);
    s.wire(c, &(MAX as i32).to_be_bytes(), true);
    assert!(!s.w.is_closed(c));
    s.wait(11);
    assert!(s.w.is_closed(c));
    s.end();
}

/// Only whole frames are a sign of life: who dribbles a request has his session until its timeout.
#[test]
pub fn p05_bytes_one_by_one_don_t_keep_a_session_alive() {
    let mut s = Stage::new();
    let c = s.client();
    let frame = request(1, 11, |_| ());
    for at in 0..frame.len() - 1 {
        s.wire(c, &frame[at..at + 1], false);
        s.wait(1);
    }
    assert!(s.w.is_closed(c));
    s.end();
}

#[test]
pub fn p06_half_a_frame_and_the_end_leaves_the_session_to_its_timeout() {
    let mut s = Stage::new();
    let (c, session) = s.w.connect(0);
    let frame = request(1, 1, |w| {
        w.string("/half").buffer(None).acls(&open_acl()).int(0);
    });
    s.wire(c, &frame[..frame.len() / 2], false);
    s.w.hang_up(c);
    assert!(s.w.node(0).state().session(session.session).is_some());
    s.wait(6);
    assert!(s.w.node(0).state().session(session.session).is_none());
    let again = s.client();
    assert_eq!(s.w.call(again, 1, &exists("/half", false)).reply().1, ErrorCode::NoNode.code());
    s.end();
}

/// What was sent whole before the connection broke counts.
#[test]
pub fn p07_half_a_frame_behind_a_whole_one_and_a_reset_leaves_the_whole_one() {
    let mut s = Stage::new();
    let c = s.client();
    let whole = request(1, 1, |w| {
        w.string("/whole").buffer(None).acls(&open_acl()).int(0);
    });
    let half = request(2, 2, |w| {
        w.string("/whole").int(-1);
    });
    s.w.put(c, &[&whole[..], &half[..half.len() - 1]].concat(), false);
    s.w.hang_up(c);
    let again = s.client();
    assert_eq!(s.w.call(again, 1, &exists("/whole", false)).reply(), (1, 0));
    s.end();
}

/// Its peer is gone without a word; events are still sent to it, until its session ends.
#[test]
pub fn p08_a_half_open_peer_has_its_session_until_the_timeout() {
    let mut s = Stage::new();
    let gone = s.client();
    s.w.keep(gone);
    assert_eq!(s.w.call(gone, 1, &create("/gone", 1)).reply(), (1, 0));
    s.w.call(gone, 2, &Request::AddWatch { path: "/".into(), mode: 1 });
    let silent_from = s.w.now;
    let busy = s.client();
    let mut xid = 1;
    while !s.w.is_closed(gone) {
        xid += 1;
        assert_eq!(s.w.call(busy, xid, &create(&format!("/n{xid}"), 0)).reply(), (xid, 0));
        s.wait(1);
        s.w.got(busy);
    }
    assert!(s.w.now <= silent_from + Duration::from_secs(6));
    assert!(s.w.kept(gone).1 < 4096);
    assert_eq!(s.w.call(busy, 1, &exists("/gone", false)).reply().1, ErrorCode::NoNode.code());
    s.end();
}

#[test]
pub fn p09_a_tls_hello_ends_the_connection() {
    ends_any_connection(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
}

#[test]
pub fn p11_an_http_request_ends_the_connection() {
    ends_any_connection(b"GET / HTTP/1.1\r\nHost: zoo\r\n\r\n");
    ends_any_connection(b"POST /commands/ruok HTTP/1.1\r\n\r\n");
}

#[test]
pub fn p12_who_connects_and_says_nothing_is_closed_after_a_while() {
    let mut s = Stage::new();
    let silent: Vec<usize> = (0..20).map(|_| s.w.dial(0)).collect();
    s.wait(9);
    assert!(silent.iter().all(|c| !s.w.is_closed(*c)));
    s.wait(2);
    assert!(silent.iter().all(|c| s.w.is_closed(*c)));
    assert_eq!(s.w.node(0).status().connections, 1);
    s.end();
}
