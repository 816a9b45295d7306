//! A cluster's log that ends, as its client sees it: what is in it is told, what is not is brought into the log that follows, once
//! and in order (LOG-3, LOG-11).

use crate::bench::*;
use crate::leaving::ended;
use std::collections::BTreeMap;
use zoolog_client::{
    AppendError, ClientConfig, ClusterLog, LogCommand, LogEvent, SealError, Sealed, SharedLog, Successor,
};
use zoolog_core::batch::{Batch, BatchKind};
use zoolog_core::wire::*;
use zoolog_core::*;

const NEXT: &str = "n0:1,n1:1;generation=1";

fn sealed_is(request: u64, tail: u64, successor: &str) -> SealedIs {
    SealedIs { request, tail: Gsn(tail), successor: successor.into() }
}

fn end(tail: u64) -> Sealed {
    Sealed { tail: Gsn(tail), successor: NEXT.into() }
}

/// Until a message of that kind goes out on any connection, dials succeeding: it, and where.
fn sent<L: SharedLog, T>(b: &mut Bench<L>, what: &str, pick: impl Fn(&Packet) -> Option<T>) -> (ConnId, T) {
    for _ in 0..2_000 {
        let dials: Vec<ConnId> = b.dials.keys().copied().collect();
        dials.into_iter().for_each(|conn| b.connected(conn));
        let conns: Vec<ConnId> = b.up.keys().copied().collect();
        for conn in conns {
            let packets = b.sent.entry(conn).or_default();
            if let Some(i) = packets.iter().position(|p| pick(p).is_some()) {
                let found = packets.remove(i).and_then(|p| pick(&p)).expect("just seen");
                return (conn, found);
            }
        }
        b.ms(1);
    }
    panic!("never sent: {what}");
}

fn resolve(p: &Packet) -> Option<Resolve> {
    if let Message::Resolve(m) = &p.message { Some(m.clone()) } else { None }
}

fn seal(p: &Packet) -> Option<Seal> {
    if let Message::Seal(m) = &p.message { Some(m.clone()) } else { None }
}

fn append(p: &Packet) -> Option<Batch> {
    matches!(p.message, Message::Append(_)).then(|| Batch::check(p.payload.clone()).unwrap())
}

fn hello(p: &Packet) -> Option<ClusterId> {
    if let Message::Hello(m) = &p.message { Some(m.cluster) } else { None }
}

fn resolved(m: &Resolve, acks: &[(u64, u64)]) -> Resolved {
    let acks = acks.iter().map(|&(s, g)| (Seq(s), Gsn(g))).collect();
    let (end, lane, writer) = (ResolveEnd::Final, m.lane, m.writer);
    Resolved { request: m.request, lane, writer, end, acks, tail: None, newest: None }
}

/// The log ends behind what was appended here before that was asked for; the first end counts.
#[test]
fn an_end_is_asked_for_behind_all_that_was_appended() {
    let (mut b, orderer, primary, _) = placed(config(), 300);
    append_each(&mut b, 3);
    let first = b.client.seal(NEXT).unwrap();
    let other = b.client.seal("x:1").unwrap();
    assert_eq!(b.client.seal(""), Err(SealError::Malformed { bytes: 0 }));
    assert_eq!(b.client.append(b"late"), Err(AppendError::Sealed));
    assert!(!b.client.has_room());
    b.drain();
    assert!(b.sent(orderer).iter().all(|p| seal(p).is_none()), "something is under way");
    ack(&mut b, primary, &[(0, 0), (1, 1), (2, 2)]);
    let (_, m) = sent(&mut b, "Seal", seal);
    assert_eq!(m.successor, NEXT);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(lane(1, 0), 0, 3)]) });
    b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
    b.events();
    b.say(orderer, sealed_is(0, 3, NEXT));
    b.say(orderer, sealed_is(m.request, 3, NEXT));
    let events = b.events();
    let done = |request, result| LogEvent::SealDone { request, result };
    assert!(
        events.contains(&done(first, Ok(end(3)))) && events.contains(&LogEvent::Sealed(end(3))),
        "{events:?}"
    );
    assert!(events.contains(&done(other, Err(SealError::Another(end(3))))));
    // Where it ends is all that there is to say.
    let request = b.client.tail();
    b.drain();
    assert_eq!(b.events(), [LogEvent::Tail { request, gsn: Gsn(3) }]);
}

/// Its owner is told only when it is known of all of his what is in.
#[test]
fn it_is_told_behind_what_is_in_it() {
    for known in 0..=3u64 {
        let (mut b, orderer, _, own) = placed(config(), 310 + known);
        append_each(&mut b, 3);
        b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
        b.say(orderer, sealed_is(0, 0, NEXT));
        assert!(!b.events().iter().any(|e| matches!(e, LogEvent::Sealed(_))), "it is not settled");
        let (at, m) = sent(&mut b, "Resolve", resolve);
        assert_eq!(m.lane, own);
        let acks: Vec<_> = (0..known).map(|s| (s, s)).collect();
        b.say(at, resolved(&m, &acks));
        let told: Vec<LogEvent> = b.events();
        let (last, before) = told.split_last().unwrap();
        assert_eq!(last, &LogEvent::Sealed(end(0)));
        assert_eq!(before.iter().filter(|e| matches!(e, LogEvent::Appended { .. })).count() as u64, known);
        b.ms(5_000);
        let again = |e: &LogEvent| matches!(e, LogEvent::Sealed(_) | LogEvent::Appended { .. });
        assert!(!b.events().iter().any(again), "once");
    }
}

/// What can't be the end of the log that is known ends the connection, and nothing else.
#[test]
fn an_end_that_contradicts_what_is_known_is_not_believed() {
    for (tail, twice) in [(5, false), (0, true)] {
        let (mut b, orderer, _, _) = placed(config(), 320 + tail);
        b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
        b.say(orderer, sealed_is(0, tail, NEXT));
        if twice {
            assert!(b.closing.is_empty());
            b.say(orderer, sealed_is(0, tail, "other:1"));
        }
        assert!(b.closing.contains(&orderer), "{tail} {twice}");
        assert_eq!(b.client.metrics().order_errors, 1);
        assert_eq!(b.client.sealed().is_some(), twice, "what was known stays");
    }
}

fn cluster(seed: u64) -> (Bench<ClusterLog>, ConnId) {
    let cfg = ClientConfig { cluster: CLUSTER, ..config() };
    let mut b = Bench::with(ClusterLog::new(cfg, seed, Instant(0)));
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    (b, orderer)
}

/// Answers the orderer of the cluster that follows, from where it begins.
fn follow_next(b: &mut Bench<ClusterLog>, first_gsn: u64) -> ConnId {
    let (conn, m) =
        sent(b, "Begin", |p| if let Message::Begin(m) = &p.message { Some(m.clone()) } else { None });
    assert_eq!(m.first_gsn, Some(Gsn(first_gsn)));
    assert!(b.up[&conn].starts_with('n'), "of that cluster: {}", b.up[&conn]);
    b.say(conn, BeginIs { request: m.request, end: BeginEnd::Begun(Gsn(first_gsn)) });
    let watch = |p: &Packet| if let Message::WatchGrowth(m) = &p.message { Some(m.request) } else { None };
    let (at, request) = sent(b, "WatchGrowth", watch);
    assert_eq!(at, conn);
    let order = OrderIs { generation: 1, ..order_is(request, 0, first_gsn, view(1, 2), &[]) };
    b.say(conn, order);
    conn
}

/// Whatever part of the pipeline is in, the rest goes into the next cluster's log as it was, in order, ahead of all else; and who
/// asks where the log ends is told by that one.
#[test]
fn what_is_not_in_goes_into_the_log_that_follows() {
    for known in 0..=4u64 {
        let (mut b, orderer) = cluster(330 + known);
        let mut all: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for i in 0..4u64 {
            let record = format!("record {i}").into_bytes();
            assert_eq!(b.client.append(&record), Ok((Seq(i), 0)));
            all.insert(i, record);
            b.drain();
        }
        let old = b.client.writer();
        sent(&mut b, "the first append", append);
        b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
        b.say(orderer, sealed_is(0, 0, NEXT));
        let asked = b.client.tail();
        b.drain();
        assert_eq!(b.client.append(b"now"), Err(AppendError::Full), "a pause");
        let (at, m) = sent(&mut b, "Resolve", resolve);
        b.events();
        let acks: Vec<_> = (0..known).map(|s| (s, s)).collect();
        b.say(at, resolved(&m, &acks));
        let events = b.events();
        assert!(events.contains(&LogEvent::Moved(end(0))), "{events:?}");
        assert!(!events.iter().any(|e| matches!(e, LogEvent::Tail { .. })), "not of the log that has ended");
        b.sent.clear();
        assert_eq!(b.client.append(b"behind"), Ok((Seq(4), 0)));
        all.insert(4, b"behind".to_vec());
        b.drain();
        let next = follow_next(&mut b, 0);
        assert_ne!(b.client.writer(), old);
        for seq in known..5 {
            let (_, batch) = sent(&mut b, "what is left", append);
            let records: Vec<Vec<u8>> = batch.records().map(|r| r.to_vec()).collect();
            assert_eq!((batch.seq(), batch.writer()), (Seq(seq), b.client.writer()));
            assert_eq!((records, batch.kind()), (vec![all[&seq].clone()], BatchKind::Data));
        }
        let tail = |p: &Packet| if let Message::Tail(m) = &p.message { Some(m.request) } else { None };
        let (_, request) = sent(&mut b, "Tail", tail);
        b.say(next, TailIs { request, gsn: Gsn(9) });
        assert!(b.events().contains(&LogEvent::Tail { request: asked, gsn: Gsn(9) }));
    }
}

/// What clients of the one and the other call themselves, so that none is taken for the other's.
#[test]
fn each_cluster_is_spoken_to_as_itself() {
    let (mut b, orderer) = cluster(340);
    assert_eq!(b.sent(orderer).iter().find_map(hello), None, "it was looked at before");
    b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
    b.say(orderer, sealed_is(0, 0, NEXT));
    b.ms(1);
    let (_, named) = sent(&mut b, "Hello", |p| hello(p).filter(|c| *c != CLUSTER));
    assert_eq!(named, CLUSTER.at(1));
    assert_eq!(named.of_order(1), CLUSTER);
}

/// A text that names no cluster, or one that is no later one: the owner is told that the log has ended, and where.
#[test]
fn a_successor_that_is_none_is_where_it_ends() {
    for (seed, text) in [(350, "somewhere"), (351, "a:1"), (352, "a:1;generation=0")] {
        let (mut b, orderer) = cluster(seed);
        b.say(orderer, ViewIs { view: ended(2, 2, &[1, 2]) });
        b.say(orderer, sealed_is(0, 0, text));
        let tag = 7;
        b.input(Input::Command(LogCommand::Tail { tag }));
        let sealed = Sealed { tail: Gsn(0), successor: text.into() };
        assert!(b.events().contains(&LogEvent::Sealed(sealed)));
        assert_eq!(b.client.append(b"late"), Err(AppendError::Sealed));
    }
    assert_eq!(NEXT.parse::<Successor>().unwrap().generation, 1);
}
