//! Does a writer leave a lane only when it is settled what of it is there, and take the rest elsewhere, byte for byte?
//! Invariants LOG-3, LOG-7.

use crate::bench::*;
use bytes::Bytes;
use zoolog_client::{ClientConfig, LogEvent, SharedLog, WriterLost};
use zoolog_core::batch::{Batch, BatchKind, FENCE_SEQ};
use zoolog_core::view::{Final, ShardState, View};
use zoolog_core::wire::*;
use zoolog_core::*;

/// The view number `number` in which those shards have ended, at `end`.
pub fn ended(number: u64, shards: u32, gone: &[u32]) -> View {
    let mut v = view(number, shards);
    for s in v.shards.iter_mut().filter(|s| gone.contains(&s.id.0)) {
        s.state = ShardState::Finalized(Final { lens: vec![0, 0], first: Gsn(0), end: Gsn(0) });
    }
    v
}

/// A view of two shards with all replicas behind the same two addresses: lanes of both shards have the same primary.
fn shared(number: u64, gone: &[u32]) -> View {
    let mut v = ended(number, 2, gone);
    for s in &mut v.shards {
        for (i, r) in s.replicas.iter_mut().enumerate() {
            r.addr = addr(1, i);
        }
    }
    v
}

/// Everything sent on all connections since last asked.
pub fn all_sent(b: &mut Bench) -> Vec<(ConnId, Packet)> {
    let conns: Vec<_> = b.up.keys().copied().collect();
    conns.into_iter().flat_map(|c| b.sent(c).into_iter().map(move |p| (c, p)).collect::<Vec<_>>()).collect()
}

/// Appends among them: lane, start, number, bytes.
pub fn appended(sent: &[(ConnId, Packet)]) -> Vec<(LaneId, Seq, Seq, Bytes)> {
    let of = |p: &Packet| match &p.message {
        Message::Append(m) => {
            Some((m.lane, m.start, Batch::check(p.payload.clone()).unwrap().seq(), p.payload.clone()))
        }
        _ => None,
    };
    sent.iter().filter_map(|(_, p)| of(p)).collect()
}

pub fn resolves(sent: &[(ConnId, Packet)]) -> Vec<(ConnId, Resolve)> {
    let of = |p: &Packet| if let Message::Resolve(m) = &p.message { Some(m.clone()) } else { None };
    sent.iter().filter_map(|(c, p)| Some((*c, of(p)?))).collect()
}

pub fn fences(sent: &[(ConnId, Packet)]) -> Vec<(ConnId, LaneId, Batch)> {
    let of = |p: &Packet| match &p.message {
        Message::Fence(m) => Some((m.lane, Batch::check(p.payload.clone()).unwrap())),
        _ => None,
    };
    sent.iter().filter_map(|(c, p)| of(p).map(|(l, f)| (*c, l, f))).collect()
}

/// Lets time pass, dials succeed, until a question about what is in the lane goes out; what else was sent, too.
fn asked(b: &mut Bench) -> (ConnId, Resolve, Vec<(ConnId, Packet)>) {
    let mut sent = Vec::new();
    for _ in 0..2000 {
        connect_all(b);
        sent.extend(all_sent(b));
        if let Some((conn, m)) = resolves(&sent).pop() {
            return (conn, m, sent);
        }
        b.ms(1);
    }
    panic!("nobody is asked what is in the lane");
}

/// The same question to another replica, however often `first`, which doesn't remember, is asked before.
fn asked_elsewhere(b: &mut Bench, first: ConnId) -> (ConnId, Resolve) {
    for _ in 0..100 {
        let (at, m, _) = asked(b);
        if b.up[&at] != b.up[&first] {
            return (at, m);
        }
        answer(b, at, &m, ResolveEnd::Forgotten, &[]);
    }
    panic!("no other replica is asked");
}

fn answer(b: &mut Bench, conn: ConnId, m: &Resolve, end: ResolveEnd, acks: &[(u64, u64)]) {
    let acks = acks.iter().map(|&(s, g)| (Seq(s), Gsn(g))).collect();
    b.say(
        conn,
        Resolved { request: m.request, lane: m.lane, writer: m.writer, end, acks, tail: None, newest: None },
    );
}

fn acks(b: &mut Bench) -> Vec<(u64, u64)> {
    let all = b.events().into_iter();
    let of =
        |e| if let LogEvent::Appended { seq, first_gsn, .. } = e { Some((seq.0, first_gsn.0)) } else { None };
    all.filter_map(of).collect()
}

/// Until appends go out again: those.
fn moved(b: &mut Bench) -> Vec<(LaneId, Seq, Seq, Bytes)> {
    for _ in 0..2000 {
        connect_all(b);
        let out = appended(&all_sent(b));
        if !out.is_empty() {
            return out;
        }
        b.ms(1);
    }
    panic!("nothing goes out any more");
}

/// Whatever part of the pipeline is in, the rest goes elsewhere as it was, in order, and nothing goes out before that
/// is known.
#[test]
fn the_rest_goes_to_another_lane_byte_for_byte() {
    for told in [false, true] {
        for known in 0..=4u64 {
            let (mut b, orderer, conn, old) = placed(config(), 50 + known);
            append_each(&mut b, 4);
            let before = appends(&b.sent(conn));
            if told {
                refuse(&mut b, conn, 2, AppendRefusedWhy::Closed, 2);
            }
            b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
            append_each(&mut b, 2);
            let (at, m, sent) = asked(&mut b);
            assert_eq!(appended(&sent), [], "nothing goes out before it is settled");
            assert_eq!((m.lane, m.writer, m.from), (old, b.client.writer(), Seq(0)));
            assert!(fences(&sent).is_empty(), "a lane that has ended needs no fence");
            let is_in: Vec<_> = (0..known).map(|s| (s, 10 + s)).collect();
            answer(&mut b, at, &m, ResolveEnd::Final, &is_in);
            assert_eq!(acks(&mut b), is_in);
            let out = moved(&mut b);
            assert!(out.iter().all(|a| a.0.shard() != old.shard() && a.1 == Seq(known)), "{out:?}");
            assert_eq!(out.iter().map(|a| a.2.0).collect::<Vec<_>>(), (known..6).collect::<Vec<_>>());
            for (sent, was) in out.iter().zip(&before[known as usize..]) {
                assert_eq!(sent.3, was.1, "byte for byte");
            }
            assert_eq!(b.client.metrics().left_lanes, 1);
        }
    }
}

#[test]
fn who_does_not_know_yet_is_asked_again_and_so_is_another() {
    for end in [ResolveEnd::NotReady, ResolveEnd::Open] {
        let (mut b, orderer, conn, old) = placed(config(), 61);
        append_each(&mut b, 3);
        b.sent(conn);
        b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
        let (mut who, mut times) = (std::collections::BTreeSet::new(), Vec::new());
        for _ in 0..8 {
            let (at, m, sent) = asked(&mut b);
            assert_eq!(appended(&sent), []);
            who.insert(b.up[&at].clone());
            times.push(b.now);
            answer(&mut b, at, &m, end, &[]);
        }
        assert_eq!(who.len(), 2, "both replicas are asked");
        let pauses: Vec<_> = times.windows(2).map(|t| t[1].since(t[0])).collect();
        assert!(pauses[6] > 4 * pauses[0] && pauses[6].as_millis() <= 250, "{pauses:?}");
        let (at, m, _) = asked(&mut b);
        answer(&mut b, at, &m, ResolveEnd::Final, &[(0, 4)]);
        assert_eq!(moved(&mut b).iter().map(|a| a.2.0).collect::<Vec<_>>(), [1, 2]);
    }
}

/// An answer that takes its time is as good as one that is quick: what it says is final.
#[test]
fn slow_answers_are_answers() {
    let (mut b, orderer, _, old) = placed(config(), 62);
    append_each(&mut b, 3);
    b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
    let (at, first, _) = asked(&mut b);
    b.ms(230);
    let (_, second, _) = asked(&mut b);
    assert_ne!(first.request, second.request);
    answer(&mut b, at, &first, ResolveEnd::Final, &[(0, 4), (1, 5)]);
    assert_eq!(acks(&mut b), [(0, 4), (1, 5)]);
    assert_eq!(moved(&mut b).iter().map(|a| a.2.0).collect::<Vec<_>>(), [2]);
}

/// What comes late from the old lane's primary, which is the new one's too, over the same connection.
#[test]
fn late_answers_of_the_old_lane_do_no_harm_in_the_new_one() {
    for seed in 0..8 {
        let mut b = Bench::new(config(), 70 + seed);
        let orderer = b.follow(&|r| order_is(r, 0, 0, shared(1, &[]), &[]));
        connect_all(&mut b);
        append_each(&mut b, 5);
        let sent = all_sent(&mut b);
        let (old, conn) = (
            appended(&sent)[0].0,
            sent.iter().find(|s| matches!(s.1.message, Message::Append(_))).unwrap().0,
        );
        b.say(orderer, ViewIs { view: shared(2, &[old.shard().0]) });
        let (at, m, _) = asked(&mut b);
        answer(&mut b, at, &m, ResolveEnd::Final, &[(0, 10), (1, 11)]);
        assert_eq!(acks(&mut b), [(0, 10), (1, 11)]);
        let out = moved(&mut b);
        assert!(out.iter().all(|a| a.0.shard() != old.shard() && a.1 == Seq(2)));
        let same = b.up[&conn] == addr(1, usize::from(out[0].0.index()));
        let writer = b.client.writer();
        let closed = |b: &mut Bench, seq: u64| {
            let (seq, why, expected) = (Seq(seq), AppendRefusedWhy::Closed, Seq(seq));
            b.say(conn, AppendRefused { lane: old, writer, seq, why, expected });
        };
        (2..5).for_each(|seq| closed(&mut b, seq));
        ack(&mut b, conn, &[(0, 10), (1, 11)]);
        answer(&mut b, at, &m, ResolveEnd::Final, &[(0, 10), (1, 11)]);
        answer(&mut b, at, &m, ResolveEnd::Forgotten, &[]);
        b.ms(50);
        assert_eq!(appended(&all_sent(&mut b)), [], "seed {seed}: nothing is sent twice");
        assert_eq!((acks(&mut b), b.client.metrics().left_lanes, b.closing.len()), (vec![], 1, 0));
        let new = b.conn(&addr(1, usize::from(out[0].0.index()))).unwrap();
        assert_eq!(same, new == conn);
        ack(&mut b, new, &[(2, 20), (3, 21), (4, 22)]);
        assert_eq!(acks(&mut b), [(2, 20), (3, 21), (4, 22)], "seed {seed}");
    }
}

#[test]
fn answers_that_cannot_be_true_are_not_believed() {
    type Wrong = &'static [(u64, u64)];
    let wrong: [Wrong; 8] = [
        &[(3, 13)],                                     // not from the first on
        &[(2, 12), (4, 14)],                            // with a hole
        &[(2, 12), (2, 13)],                            // twice
        &[(2, 12), (3, 13), (4, 14), (5, 15), (6, 16)], // more than was ever sent
        &[(2, u64::MAX)],                               // nowhere
        &[(2, 9)],                                      // before what is acknowledged
        &[(2, 12), (3, 11)],                            // out of order
        &[],                                            // lacks what is acknowledged already
    ];
    for (i, acks_said) in wrong.into_iter().enumerate() {
        let (mut b, orderer, conn, old) = placed(config(), 63);
        append_each(&mut b, 6);
        b.sent(conn);
        ack(&mut b, conn, &[(0, 10), (1, 11)]);
        if acks_said.is_empty() {
            // Its cut overtook that of number 2, which can't be; but the answer must not lose it.
            ack(&mut b, conn, &[(3, 13)]);
        }
        b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
        let (at, m, _) = asked(&mut b);
        assert_eq!(m.from, Seq(2));
        b.events();
        answer(&mut b, at, &m, ResolveEnd::Final, acks_said);
        assert_eq!(acks(&mut b), [], "case {i}");
        let (at, m, sent) = asked(&mut b);
        assert_eq!(appended(&sent), [], "case {i}: asked again, and nothing sent");
        // Of another lane, or another writer.
        let foreign = Resolve { lane: lane(9, 0), ..m.clone() };
        answer(&mut b, at, &foreign, ResolveEnd::Final, &[]);
        let foreign = Resolve { writer: WriterId(5), ..m.clone() };
        answer(&mut b, at, &foreign, ResolveEnd::Final, &[]);
        let foreign = Resolve { request: m.request + 1000, ..m.clone() };
        answer(&mut b, at, &foreign, ResolveEnd::Final, &[]);
        assert_eq!(acks(&mut b), [], "case {i}");
        answer(&mut b, at, &m, ResolveEnd::Final, &[(1, 11), (2, 12), (3, 13)]);
        assert_eq!(acks(&mut b), [(2, 12), (3, 13)], "case {i}");
        assert_eq!(moved(&mut b).iter().map(|a| a.2.0).collect::<Vec<_>>(), [4, 5]);
    }
}

#[test]
fn a_writer_that_nobody_remembers_has_come_to_its_end() {
    for dropped in [false, true] {
        let (mut b, orderer, conn, old) = placed(config(), 64);
        append_each(&mut b, 3);
        b.sent(conn);
        ack(&mut b, conn, &[(0, 10)]);
        b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
        if dropped {
            let mut v = ended(3, 2, &[old.shard().0]);
            v.shards.retain(|s| s.id != old.shard());
            b.say(orderer, ViewIs { view: v });
        } else {
            let (first, m, _) = asked(&mut b);
            answer(&mut b, first, &m, ResolveEnd::Forgotten, &[]);
            let lost = |e: &LogEvent| matches!(e, LogEvent::WriterLost { .. });
            assert!(!b.events().iter().any(lost), "the others may know");
            let (second, m) = asked_elsewhere(&mut b, first);
            answer(&mut b, second, &m, ResolveEnd::Forgotten, &[]);
        }
        let lost = LogEvent::WriterLost { why: WriterLost::Forgotten, unknown_from: Seq(1) };
        assert!(b.events().contains(&lost));
        b.ms(5000);
        connect_all(&mut b);
        assert_eq!(appended(&all_sent(&mut b)), []);
    }
}

/// One replica had lost batches and was mended by its peer, which still knows (seed 5724 of the simulator).
#[test]
fn what_one_replica_has_forgotten_another_tells() {
    let (mut b, orderer, conn, old) = placed(config(), 66);
    append_each(&mut b, 3);
    b.sent(conn);
    ack(&mut b, conn, &[(0, 10)]);
    b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
    let (first, m, _) = asked(&mut b);
    answer(&mut b, first, &m, ResolveEnd::Forgotten, &[]);
    let (second, m) = asked_elsewhere(&mut b, first);
    answer(&mut b, second, &m, ResolveEnd::Final, &[(1, 11)]);
    assert_eq!(acks(&mut b), [(0, 10), (1, 11)]);
    assert_eq!(moved(&mut b).iter().map(|a| a.1.0).collect::<Vec<_>>(), [2]);
}

/// The other replicas are silent: that one doesn't remember is believed in the end, and not before.
#[test]
fn who_can_not_be_asked_is_waited_for_and_not_for_ever() {
    let (mut b, orderer, conn, old) = placed(config(), 67);
    append_each(&mut b, 3);
    b.sent(conn);
    b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
    let (first, m, _) = asked(&mut b);
    let only = b.up[&first].clone();
    answer(&mut b, first, &m, ResolveEnd::Forgotten, &[]);
    let lost = |b: &mut Bench| b.events().iter().any(|e| matches!(e, LogEvent::WriterLost { .. }));
    let (mut waited_ms, mut asked_often) = (0, 0);
    while waited_ms < 20_000 {
        connect_all(&mut b);
        for (at, m) in resolves(&all_sent(&mut b)) {
            if b.up[&at] == only {
                asked_often += 1;
                answer(&mut b, at, &m, ResolveEnd::Forgotten, &[]);
            }
        }
        if lost(&mut b) {
            break;
        }
        b.ms(1);
        waited_ms += 1;
    }
    assert!((10_000..11_000).contains(&waited_ms), "{waited_ms} ms, asked {asked_often} times");
}

/// Who waits for nothing loses nothing: no batch of his is in doubt.
#[test]
fn a_writer_with_nothing_pending_that_nobody_remembers_goes_on_elsewhere() {
    for dropped in [false, true] {
        let (mut b, orderer, conn, old) = placed(config(), 65);
        append_each(&mut b, 3);
        b.sent(conn);
        ack(&mut b, conn, &[(0, 10), (1, 11), (2, 12)]);
        assert_eq!(acks(&mut b).len(), 3);
        if dropped {
            // It had no orderer for so long that the shard ended and went meanwhile.
            let mut v = ended(3, 2, &[old.shard().0]);
            v.shards.retain(|s| s.id != old.shard());
            b.say(orderer, ViewIs { view: v });
        } else {
            b.say(orderer, ViewIs { view: ended(2, 2, &[old.shard().0]) });
            let (at, m, _) = asked(&mut b);
            answer(&mut b, at, &m, ResolveEnd::Forgotten, &[]);
        }
        append_each(&mut b, 1);
        let out = moved(&mut b);
        assert_eq!(out.iter().map(|a| (a.1.0, a.2.0)).collect::<Vec<_>>(), [(3, 3)]);
        assert!(
            out[0].0.shard() != old.shard()
                && !b.events().iter().any(|e| matches!(e, LogEvent::WriterLost { .. }))
        );
    }
}

/// The primary can't be reached, its shard lives on: the lane is fenced through the other replica.
#[test]
fn a_lane_whose_primary_is_out_of_reach_is_fenced_through_another_replica() {
    let (mut b, _, conn, old) = placed(config(), 66);
    append_each(&mut b, 4);
    let before = appends(&b.sent(conn));
    let primary = b.up[&conn].clone();
    b.close(conn);
    let mut sent = Vec::new();
    let start = b.now;
    while fences(&sent).is_empty() {
        // All dials succeed but those to the primary.
        let dials: Vec<_> = b.dials.iter().map(|(c, a)| (*c, *a == primary)).collect();
        dials.into_iter().for_each(|(c, dead)| if dead { b.close(c) } else { b.connected(c) });
        sent.extend(all_sent(&mut b));
        b.ms(5);
        assert!(b.now.since(start).as_secs() < 8, "it waits for ever");
    }
    assert!(b.now.since(start) >= config().leave_after, "it waited for the primary");
    assert_eq!(appended(&sent), [], "nothing goes to another lane");
    let (at, fenced, fence) = fences(&sent).remove(0);
    assert_eq!(
        (fenced, fence.kind(), fence.seq(), fence.writer()),
        (old, BatchKind::Fence, FENCE_SEQ, b.client.writer())
    );
    assert_ne!(b.up[&at], primary);
    let (at, m, _) = {
        let r = resolves(&sent).pop().unwrap();
        (r.0, r.1, ())
    };
    answer(&mut b, at, &m, ResolveEnd::Open, &[]);
    // More comes in meanwhile; the fence stays the same, to the byte.
    append_each(&mut b, 2);
    let again = loop {
        b.ms(5);
        let sent = all_sent(&mut b);
        assert_eq!(appended(&sent), []);
        if let Some(f) = fences(&sent).pop() {
            break (f, resolves(&sent).pop().unwrap());
        }
    };
    assert_eq!(again.0.2.bytes(), fence.bytes());
    answer(&mut b, again.1.0, &again.1.1, ResolveEnd::Final, &[(0, 3)]);
    assert_eq!(acks(&mut b), [(0, 3)]);
    let mut out = Vec::new();
    while out.is_empty() {
        let dials: Vec<_> = b.dials.iter().map(|(c, a)| (*c, *a == primary)).collect();
        dials.into_iter().for_each(|(c, dead)| if dead { b.close(c) } else { b.connected(c) });
        out = appended(&all_sent(&mut b));
        b.ms(1);
    }
    assert!(out.iter().all(|a| a.0 != old && a.1 == Seq(1)), "{out:?}");
    assert_eq!(out.iter().map(|a| a.2.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(
        out[..3].iter().map(|a| a.3.clone()).collect::<Vec<_>>(),
        before[1..].iter().map(|a| a.1.clone()).collect::<Vec<_>>()
    );
}

/// All replicas were away, so no fence went out: the primary that comes back is as good as ever, as long as it isn't
/// silent for longer than it may.
#[test]
fn a_primary_that_comes_back_before_a_fence_went_out_is_kept() {
    let (mut b, _, conn, old) = placed(config(), 67);
    append_each(&mut b, 3);
    let primary = b.up[&conn].clone();
    b.close(conn);
    for _ in 0..1200 {
        b.dials.keys().copied().collect::<Vec<_>>().into_iter().for_each(|c| b.close(c));
        b.ms(5);
    }
    let mut sent = Vec::new();
    for _ in 0..150 {
        let dials: Vec<_> = b.dials.iter().map(|(c, a)| (*c, *a == primary)).collect();
        dials.into_iter().for_each(|(c, back)| if back { b.connected(c) } else { b.close(c) });
        sent.extend(all_sent(&mut b));
        b.ms(5);
    }
    assert!(fences(&sent).is_empty(), "nothing is closed for nothing");
    let out = appended(&sent);
    assert!(out.iter().all(|a| a.0 == old && a.1 == Seq(0)));
    assert_eq!(out.iter().map(|a| a.2.0).collect::<Vec<_>>(), [0, 1, 2]);
}

/// A cluster whose servers are away now and then, one after the other, for ever: a writer never runs out of lanes.
#[test]
fn a_writer_that_has_fenced_every_lane_still_finds_one() {
    let cfg = ClientConfig { leave_after: std::time::Duration::from_millis(300), ..config() };
    let (mut b, _, conn, mut on) = placed(cfg, 68);
    append_each(&mut b, 2);
    b.sent(conn);
    let (mut gsn, mut used) = (0, std::collections::BTreeSet::from([on]));
    for round in 0..12u64 {
        let first = round * 2;
        let primary = addr(on.shard().0, usize::from(on.index()));
        let conn = b.conn(&primary).expect("it is connected");
        b.close(conn);
        let mut sent = Vec::new();
        let (at, m) = loop {
            let dials: Vec<_> = b.dials.iter().map(|(c, a)| (*c, *a == primary)).collect();
            dials.into_iter().for_each(|(c, dead)| if dead { b.close(c) } else { b.connected(c) });
            sent.extend(all_sent(&mut b));
            if !fences(&sent).is_empty() {
                break resolves(&sent).pop().unwrap();
            }
            b.ms(5);
        };
        assert_eq!((m.lane, m.from), (on, Seq(first)));
        answer(&mut b, at, &m, ResolveEnd::Final, &[(first, gsn)]);
        let mut out = Vec::new();
        for _ in 0..150 {
            connect_all(&mut b);
            out.extend(appended(&all_sent(&mut b)));
            b.ms(5);
        }
        assert!(!out.is_empty(), "round {round}: it has nowhere to go");
        on = out[0].0;
        used.insert(on);
        assert!(out.iter().all(|a| a.0 == on && a.1 == Seq(first + 1)));
        let conn = b.conn(&addr(on.shard().0, usize::from(on.index()))).unwrap();
        ack(&mut b, conn, &[(first + 1, gsn + 1)]);
        gsn += 2;
        append_each(&mut b, 2);
        b.sent(conn);
        assert_eq!(b.client.pending_batches(), 2);
    }
    assert_eq!(used.len(), 4);
    assert!(!b.events().iter().any(|e| matches!(e, LogEvent::WriterLost { .. })));
}
