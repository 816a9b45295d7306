//! A named consumer registers before it asks for anything, and says how far it is: seldom, and to every leader.

use crate::bench::*;
use zoolog_client::{ClientConfig, LogEvent, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

fn named() -> ClientConfig {
    ClientConfig { consumer: Some("zk-1".into()), ..config() }
}

/// What it says as a consumer: (request, position).
fn reports(packets: &[Packet]) -> Vec<(u64, u64)> {
    let consumer = |p: &Packet| match &p.message {
        Message::Consumer(m) => {
            assert_eq!(m.name, "zk-1");
            Some((m.request, m.upto.0))
        }
        _ => None,
    };
    packets.iter().filter_map(consumer).collect()
}

fn asks(packets: &[Packet]) -> Option<u64> {
    packets.iter().find_map(|p| match &p.message {
        Message::WatchGrowth(m) => Some(m.request),
        _ => None,
    })
}

fn consumer_is(b: &mut Bench, conn: ConnId, request: u64, upto: Option<u64>, trim: u64) {
    b.say(conn, ConsumerIs { request, upto: upto.map(Gsn), trim: Gsn(trim) });
}

/// Connects to an orderer, registers, and follows an empty order. The position it registered with.
fn register(b: &mut Bench) -> (ConnId, u64) {
    let conn = *b.dials.iter().find(|(_, a)| a.starts_with('o')).expect("an orderer is dialled").0;
    b.connected(conn);
    let packets = b.sent(conn);
    let [(request, upto)] = reports(&packets)[..] else { panic!("one registration, not {packets:?}") };
    assert_eq!(asks(&packets), None, "nothing is asked before it is registered");
    consumer_is(b, conn, request, Some(upto), 0);
    let request = asks(&b.sent(conn)).expect("now it asks");
    b.say(conn, order_is(request, 1, 100, view(1, 2), &[(lane(1, 0), 100)]));
    (conn, upto)
}

#[test]
fn it_registers_before_it_asks_for_anything() {
    let mut b = Bench::new(named(), 1);
    b.client.subscribe(Gsn(0));
    b.drain();
    assert_eq!(register(&mut b).1, 0);
    assert!(b.dials.values().any(|a| a.starts_with('s')), "and then it reads");
}

#[test]
fn without_a_name_nothing_is_said() {
    let mut b = Bench::new(config(), 2);
    let conn = b.follow(&|r| order_is(r, 1, 100, view(1, 2), &[(lane(1, 0), 100)]));
    b.client.release(Gsn(50));
    b.drain();
    b.ms(500);
    assert!(reports(&b.sent(conn)).is_empty());
    assert_eq!(b.client.released(), Gsn(50));
}

#[test]
fn positions_are_reported_seldom_and_one_at_a_time() {
    let mut b = Bench::new(named(), 3);
    let (conn, _) = register(&mut b);
    b.ms(200);
    let mut said = Vec::new();
    for i in 1..=1000u64 {
        b.client.release(Gsn(i / 10));
        b.drain();
        b.ms(1);
        for (request, upto) in reports(&b.sent(conn)) {
            said.push(upto);
            consumer_is(&mut b, conn, request, Some(upto), 0);
        }
    }
    b.ms(200);
    said.extend(reports(&b.sent(conn)).iter().map(|r| r.1));
    assert!(said.len() <= 12 && said.is_sorted() && said.last() == Some(&100), "{said:?}");
    b.client.release(Gsn(7));
    b.drain();
    b.ms(500);
    assert!(reports(&b.sent(conn)).is_empty(), "never back, and one question is open");
}

#[test]
fn a_new_leader_is_told_again_and_a_forgotten_consumer_registers_anew() {
    let mut b = Bench::new(named(), 4);
    let (conn, _) = register(&mut b);
    b.client.release(Gsn(40));
    b.drain();
    b.ms(150);
    assert_eq!(reports(&b.sent(conn)).len(), 1, "not answered");
    b.close(conn);
    b.ms(100);
    let (conn, upto) = register(&mut b);
    assert_eq!(upto, 40);
    b.client.release(Gsn(41));
    b.drain();
    b.ms(150);
    let request = reports(&b.sent(conn))[0].0;
    consumer_is(&mut b, conn, request, None, 41);
    b.ms(150);
    assert_eq!(reports(&b.sent(conn)).iter().map(|r| r.1).collect::<Vec<_>>(), [41]);
}

/// An orderer that can't register us is of no use: another is tried.
#[test]
fn without_a_registration_nothing_goes_on() {
    let mut b = Bench::new(named(), 5);
    let conn = *b.dials.keys().next().unwrap();
    b.connected(conn);
    let request = reports(&b.sent(conn))[0].0;
    consumer_is(&mut b, conn, request + 99, Some(0), 0);
    assert!(b.closing.contains(&conn), "an answer to another question");
    b.ms(2_000);
    let conn = *b.dials.keys().next().expect("the next is dialled");
    b.connected(conn);
    b.ms(1_500);
    assert!(b.closing.contains(&conn), "no answer at all");
    assert!(b.events().iter().all(|e| !matches!(e, LogEvent::Ready { .. })));
}

/// A subscription from beyond what the orderers yet know starts to read before its place; what is trimmed
/// there is none of its business.
#[test]
fn a_gap_before_the_place_of_a_subscription_is_none() {
    let mut b = Bench::new(config(), 6);
    b.client.subscribe(Gsn(90));
    b.drain();
    let conn = b.follow(&|r| order_is(r, 1, 50, view(1, 1), &[(lane(1, 0), 50)]));
    b.say(conn, CutIs { cut: cut(2, 50, 1, &[(lane(1, 0), 50, 20_000)]) });
    let mut asked = Vec::new();
    for _ in 0..200 {
        while let Some(c) = b.dials.keys().next().copied() {
            b.connected(c);
        }
        let conns: Vec<ConnId> = b.up.keys().copied().filter(|c| *c != conn).collect();
        for c in conns {
            for p in b.sent(c) {
                let Message::Read(m) = p.message else { continue };
                asked.push(m.from.0);
                if m.from < Gsn(80) {
                    let (request, shard, from, covers) = (m.request, m.shard, m.from, Gsn(80));
                    b.say(c, ReadIs { request, shard, from, covers, end: ReadEnd::Trimmed, gsns: vec![] });
                }
            }
        }
        b.ms(5);
    }
    let gaps = b.events().iter().any(|e| matches!(e, LogEvent::Gap { .. }));
    assert!(asked[0] < 80, "the plan begins before its place: {asked:?}");
    assert!(!gaps && asked.last().is_some_and(|f| *f >= 80), "asked from {asked:?}, gap: {gaps}");
}
