//! Points 50 to 55: more than one asks for in good faith.

use super::*;
use crate::jute::{OpCode, SetWatches};
use std::time::Duration;
use zoolog_core::limits::OUT_BYTES_PAUSE;

/// A client that comes back with more watches than fit a frame sends them in several: each is answered, with its
/// events before.
#[test]
pub fn p50_watches_set_again_in_many_packets_are_all_set_or_told() {
    const PATHS: usize = 60_000;
    const PACKET: usize = 6_000;
    let mut s = Stage::new();
    let c = s.client();
    let seen = s.w.call(c, 1, &exists("/good", false)).zxid();
    s.w.call(c, 2, &create("/n7", 0));
    let path = |i: usize| format!("/n{i}");
    // In one frame they don't fit: the connection ends, and the shell says why.
    let one = request(3, OpCode::SetWatches.code(), |w| {
        w.long(seen).int(0).strings((0..2 * PATHS).map(path).collect::<Vec<_>>().iter()).int(0);
    });
    assert!(one.len() > s.w.cfg.max_frame_bytes);
    let refusal = framing(false, &one, s.w.cfg.max_frame_bytes).expect_err("it is too long");
    assert!(refusal.contains("the limit is 1048575"), "{refusal}");
    for packet in 0..PATHS / PACKET {
        let exist = (packet * PACKET..(packet + 1) * PACKET).map(|i| path(i).into()).collect();
        let set = SetWatches { relative_zxid: seen, data: vec![], exist, child: vec![] };
        s.w.put_request(c, -8, &Request::SetWatches(set));
    }
    s.w.run();
    s.w.advance(Duration::from_millis(100));
    let got = s.w.got(c);
    assert_eq!(got[0].event(), (EventType::NodeCreated, "/n7"));
    let answers: Vec<_> = got[1..].iter().map(Got::reply).collect();
    assert_eq!(answers, vec![(-8, 0); PATHS / PACKET]);
    assert_eq!(s.w.node(0).status().watches, PATHS - 1 + 1, "one was told, and one is the good client's");
    s.end();
}

/// The bytes that each takes are counted in `zk/tests/watch_memory.rs`; here, that there is an end.
#[test]
pub fn p51_watches_have_a_bound_and_who_goes_past_it_loses_his_own_only() {
    let mut w = World::new(0);
    w.cfg.max_watches = 5000;
    w.start(10);
    let mut s = Stage::on(w);
    let c = s.client();
    for i in 0..6000 {
        s.w.put_request(c, i + 1, &exists(&format!("/none{i}"), true));
    }
    s.w.run();
    assert!(s.w.is_closed(c));
    // They are forgotten in steps.
    s.w.advance(Duration::from_millis(10));
    assert_eq!(s.w.node(0).status().watches, 1);
    s.end();
}

/// Nothing bounds the number of children; the reply is as long as they are, and so are others' waits no longer.
#[test]
pub fn p52_a_list_of_children_longer_than_a_frame_is_answered_in_one() {
    const CHILDREN: usize = 20_000;
    let mut s = Stage::new();
    let c = s.client();
    s.w.call(c, 1, &create("/p", 0));
    let name = "n".repeat(80);
    for i in 0..CHILDREN {
        s.w.put_request(c, 1, &create(&format!("/p/{name}{i}"), 0));
        if i % 500 == 0 {
            s.w.run();
        }
    }
    s.w.run();
    assert_eq!(s.w.got(c).len(), CHILDREN);
    s.w.send(c, 2, &children("/p", false));
    s.w.advance(Duration::from_millis(100));
    let all = s.w.got(c).remove(0);
    assert!(all.record().len() > s.w.cfg.max_frame_bytes);
    assert_eq!(all.record()[..4], (CHILDREN as i32).to_be_bytes());
    s.end();
}

/// Events go to a client that takes nothing, as long as its session lives: it is not read from, so that is not long.
#[test]
pub fn p53_who_never_reads_costs_a_bounded_number_of_bytes() {
    static BIG: [u8; 100_000] = [7; 100_000];
    let mut s = Stage::new();
    let (deaf, busy) = (s.client(), s.client());
    s.w.call(busy, 1, &create("/big", 0));
    s.w.call(busy, 2, &set("/big", &BIG));
    s.w.keep(deaf);
    s.w.send(deaf, 1, &Request::AddWatch { path: "/".into(), mode: 1 });
    let mut xid = 1;
    while !s.w.is_closed(deaf) {
        xid += 1;
        // It asks while it is heard.
        if !s.w.is_paused(deaf) {
            s.w.put_request(deaf, xid, &get("/big", false));
        }
        s.w.put_request(busy, xid, &create(&format!("/n{xid}"), 0));
        s.w.run();
        s.wait(1);
        assert!(xid < 100, "its session ends some day");
    }
    assert!(s.w.kept(deaf).1 < OUT_BYTES_PAUSE + 2 * BIG.len(), "{:?}", s.w.kept(deaf));
    s.end();
}

#[test]
pub fn p54_a_million_requests_of_who_does_not_read_are_not_all_taken_in() {
    static BIG: [u8; 10_000] = [7; 10_000];
    let mut s = Stage::new();
    let (flood, busy) = (s.client(), s.client());
    s.w.call(busy, 1, &create("/big", 0));
    s.w.call(busy, 2, &set("/big", &BIG));
    s.w.keep(flood);
    let mut sent = 0;
    // As the shell: it stops reading when it is told to, and had perhaps 256 KiB in hand.
    while sent < 1_000_000 && !s.w.is_paused(flood) && !s.w.is_closed(flood) {
        for _ in 0..1000 {
            sent += 1;
            s.w.put_request(flood, sent, &get("/big", false));
        }
        s.w.run();
    }
    assert!(sent < 10_000, "{sent} requests were read");
    assert!(s.w.kept(flood).1 < OUT_BYTES_PAUSE + 2 * BIG.len(), "{:?}", s.w.kept(flood));
    assert!(s.is_served(busy));
    // It begins to read: it gets all, in order.
    let mut got = 0;
    while got < sent {
        s.w.take(flood, usize::MAX);
        s.w.advance(2 * MS);
        for answer in s.w.got(flood) {
            got += 1;
            assert_eq!(answer.reply(), (got, 0));
        }
    }
    s.end();
}

#[test]
pub fn p55_connections_beyond_the_limits_are_closed_and_the_places_come_back() {
    let mut w = World::new(0);
    w.cfg.max_connections = 100;
    w.start(10);
    let mut s = Stage::on(w);
    let per_ip: Vec<usize> = (0..70).map(|_| s.w.dial(0)).collect();
    assert_eq!(per_ip.iter().filter(|c| s.w.is_closed(**c)).count(), 70 - 59);
    let all: Vec<usize> = (0..60).map(|i| s.w.ask_from(&format!("10.1.0.{i}"), 0, None)).collect();
    assert_eq!(all.iter().filter(|c| s.w.is_closed(**c)).count(), 20, "a hundred in all");
    assert_eq!(s.w.node(0).status().connections, 100);
    for c in per_ip.into_iter().chain(all) {
        s.w.hang_up(c);
    }
    s.end();
}

/// Connections and sessions that come and go at once leave nothing behind.
#[test]
pub fn p55_a_storm_of_connections_and_sessions_leaves_nothing() {
    let mut s = Stage::new();
    let before = s.w.node(0).status();
    for round in 0..40 {
        let bare: Vec<usize> = (0..20).map(|_| s.w.dial(0)).collect();
        let open: Vec<usize> = (0..20).map(|_| s.client()).collect();
        for (i, c) in open.iter().enumerate() {
            s.w.put_request(*c, 1, &create(&format!("/e{round}-{i}"), 1));
            if i % 2 == 0 {
                s.w.put_request(*c, 2, &Request::CloseSession);
            }
        }
        s.w.run();
        bare.into_iter().chain(open).for_each(|c| s.w.hang_up(c));
    }
    s.wait(8);
    let after = s.w.node(0).status();
    assert_eq!((after.connections, after.sessions, after.ephemerals), (1, 1, 1));
    assert_eq!((after.znodes, after.watches), (before.znodes, 1));
    s.end();
}
