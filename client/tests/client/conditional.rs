//! Do conditional appends count only if nothing but their writer's own was ordered since the tail that they expected, and do
//! all ways of learning that agree? Invariant LOG-10.

use crate::bench::*;
use zoolog_client::{AppendError, LogEvent, SharedLog};
use zoolog_core::batch::{Batch, BatchKind};
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::*;

/// What was sent there as batches: kind and number.
fn kinds(b: &mut Bench, conn: ConnId) -> Vec<(u64, BatchKind)> {
    let batches = appends(&b.sent(conn)).into_iter();
    batches.map(|(seq, bytes)| (seq.0, Batch::check(bytes).unwrap().kind())).collect()
}

/// What came of batches: number, position, whether they count.
fn fates(b: &mut Bench) -> Vec<(u64, u64, bool)> {
    let fate = |e| match e {
        LogEvent::Appended { seq, first_gsn, .. } => Some((seq.0, first_gsn.0, true)),
        LogEvent::Conflict { seq, tail, .. } => Some((seq.0, tail.0, false)),
        _ => None,
    };
    b.events().into_iter().filter_map(fate).collect()
}

#[test]
fn one_after_the_other_they_expect_what_is_before_them() {
    let (mut b, _, conn, _) = placed(config(), 80);
    b.client.append_if(Gsn(0), &[b"a", b"b"]).unwrap();
    b.client.append_if(Gsn(0), &[b"c"]).unwrap();
    b.client.append(b"d").unwrap();
    let seq = b.client.append_if(Gsn(0), &[b"e"]).unwrap();
    assert_eq!(seq, Seq(3));
    b.drain();
    let at = |gsn| BatchKind::OnlyAt(Gsn(gsn));
    assert_eq!(kinds(&mut b, conn), [(0, at(0)), (1, at(2)), (2, BatchKind::Data), (3, at(4))]);
    ack(&mut b, conn, &[(0, 0), (1, 2), (2, 3), (3, 4)]);
    assert_eq!(fates(&mut b), [(0, 0, true), (1, 2, true), (2, 3, true), (3, 4, true)]);
    // What is ours doesn't count, wherever in it the expected tail lies.
    b.client.append_if(Gsn(1), &[b"f"]).unwrap();
    b.drain();
    assert_eq!(kinds(&mut b, conn), [(4, at(5))]);
}

#[test]
fn who_comes_second_is_told_where_the_log_ended() {
    let (mut b, _, conn, _) = placed(config(), 81);
    b.client.append_if(Gsn(0), &[b"a", b"b"]).unwrap();
    b.client.append_if(Gsn(0), &[b"c"]).unwrap();
    b.client.append(b"d").unwrap();
    b.drain();
    ack(&mut b, conn, &[(0, 5), (1, 7), (2, 8)]);
    let events = b.events();
    assert!(
        events.contains(&LogEvent::Conflict { seq: Seq(0), expected: Gsn(0), tail: Gsn(5) }),
        "{events:?}"
    );
    assert!(events.contains(&LogEvent::Conflict { seq: Seq(1), expected: Gsn(2), tail: Gsn(7) }));
    assert!(events.contains(&LogEvent::Appended { seq: Seq(2), first_gsn: Gsn(8), count: 1 }));
    // That there is somebody else's before ours is known now.
    assert_eq!(b.client.append_if(Gsn(4), &[b"x"]), Err(AppendError::Conflict { tail: Gsn(9) }));
    assert_eq!(b.client.append_if(Gsn(5), &[b"x"]), Ok(Seq(3)));
    b.drain();
    assert_eq!(kinds(&mut b, conn).last(), Some(&(3, BatchKind::OnlyAt(Gsn(9)))));
}

#[test]
fn what_can_not_be_settled_or_be_a_batch_is_refused_and_nothing_is_sent() {
    let (mut b, orderer, conn, on) = placed(config(), 82);
    assert_eq!(b.client.append_if(Gsn(7), &[b"x"]), Err(AppendError::Unsettled), "the log isn't so long");
    assert!(matches!(b.client.append_if(Gsn(0), &[]), Err(AppendError::NoBatch { .. })));
    let long = vec![0; 100_000];
    let many: Vec<&[u8]> = std::iter::repeat_n(&long[..], 3).collect();
    assert!(matches!(b.client.append_if(Gsn(0), &many), Err(AppendError::NoBatch { .. })));
    let long = vec![0; limits::RECORD_BYTES_MAX + 1];
    assert!(matches!(b.client.append_if(Gsn(0), &[&long]), Err(AppendError::TooLong { .. })));
    assert!(b.client.append_if(Gsn(0), &[&long[1..]]).is_ok(), "one may be as long as any");
    b.drain();
    b.sent(conn);
    // A cut of another lane: whether ours comes before or behind position 3 isn't known.
    let other = if on == lane(1, 0) { lane(1, 1) } else { lane(1, 0) };
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(other, 0, 3)]) });
    assert_eq!(b.client.append_if(Gsn(3), &[b"x"]), Err(AppendError::Unsettled));
    b.drain();
    assert!(kinds(&mut b, conn).is_empty());
    assert!(AppendError::Unsettled.is_retryable() && !AppendError::Conflict { tail: Gsn(0) }.is_retryable());
}

/// The same bytes go out again, and whichever way it is learned where they are, the verdict follows from that.
#[test]
fn after_a_reconnect_and_in_another_lane_the_verdict_is_the_same() {
    for (at, holds) in [(0, true), (4, false)] {
        let (mut b, orderer, conn, on) = placed(config(), 83);
        b.client.append_if(Gsn(0), &[b"a"]).unwrap();
        b.drain();
        let before = appends(&b.sent(conn));
        b.close(conn);
        b.ms(100);
        connect_all(&mut b);
        let again: Vec<_> = b.up.keys().copied().collect::<Vec<_>>();
        let again: Vec<_> = again.into_iter().flat_map(|c| appends(&b.sent(c))).collect();
        assert_eq!(again, before);
        b.say(orderer, ViewIs { view: crate::leaving::ended(2, 2, &[on.shard().0]) });
        let mut found = None;
        for _ in 0..1000 {
            connect_all(&mut b);
            found = found.or(crate::leaving::resolves(&crate::leaving::all_sent(&mut b)).pop());
            b.ms(1);
        }
        let (conn, m) = found.expect("it asks what is in the lane");
        let (request, lane, writer, acks) = (m.request, m.lane, m.writer, vec![(Seq(0), Gsn(at))]);
        b.say(
            conn,
            Resolved { request, lane, writer, end: ResolveEnd::Final, acks, tail: None, newest: None },
        );
        assert_eq!(fates(&mut b), [(0, at, holds)]);
        assert_eq!(b.client.pending_batches(), 0);
    }
}

/// Readers get the batch with its positions, and records only if it counts.
#[test]
fn readers_see_records_only_where_they_count() {
    let mut builder = zoolog_core::batch::BatchBuilder::new();
    builder.push(b"x");
    let batch = builder.finish(BatchKind::OnlyAt(Gsn(3)), WriterId(5), Epoch(0), Seq(0));
    let placed = zoolog_core::batch::PlacedBatch::place(lane(1, 0), Incarnation(1), Lsn(0), 0, batch);
    for (first, records) in [(2, 0), (3, 1), (4, 0)] {
        let first_gsn = Gsn(first);
        let (placed, ordered_at) = (placed.clone(), Instant(0));
        let c = zoolog_client::Committed { first_gsn, placed, skip: 0, take: 1, own: false, ordered_at };
        assert_eq!((c.records().count(), c.end()), (records, Gsn(first + 1)));
    }
}

/// A log of one own lane and one of others, in any order: what is accepted counts if and only if nobody else's record lies
/// between, and what is refused as a conflict would not have.
#[test]
fn any_schedule_has_exact_verdicts() {
    let (mut held, mut failed, mut refused) = (0, 0, 0);
    for seed in 0..300u64 {
        let (mut b, orderer, conn, own) = placed(config(), seed);
        let other = if own == lane(1, 0) { lane(1, 1) } else { lane(1, 0) };
        let mut rng = Rng::new(seed, "conditional");
        // The order, whose each is; our batches: (number, records, expected); where those that are ordered lie.
        let mut order: Vec<bool> = Vec::new();
        let (mut waiting, mut ordered) =
            (Vec::<(u64, u64, Option<u64>)>::new(), Vec::<(u64, u64, Option<u64>)>::new());
        let (mut cuts, mut number, mut lens) = (Vec::new(), 0, [0u64; 2]);
        let mut last = 0;
        for _ in 0..rng.between(5, 60) {
            match rng.below(10) {
                0 | 1 => {
                    b.client.append(b"plain").unwrap();
                    b.drain();
                }
                2..=4 => {
                    let tail = b.client.known_tail().unwrap().0;
                    let expected = match rng.below(4) {
                        0 => last,
                        1 => rng.below(tail + 2),
                        _ => tail,
                    };
                    let records: Vec<&[u8]> = vec![b"if"; rng.between(1, 4) as usize];
                    match b.client.append_if(Gsn(expected), &records) {
                        Ok(seq) => {
                            b.drain();
                            last = expected;
                            waiting.push((seq.0, records.len() as u64, Some(expected)));
                        }
                        Err(AppendError::Conflict { .. }) => {
                            refused += 1;
                            let from = order.len().min(expected as usize);
                            assert!(order[from..].contains(&false), "seed {seed}: refused for nothing");
                        }
                        Err(e) => assert_eq!(e, AppendError::Unsettled),
                    }
                }
                5 => {
                    let n = rng.between(1, 3);
                    cuts.push(cut(number + 1, order.len() as u64, 1, &[(other, lens[1], lens[1] + n)]));
                    (number, lens[1]) = (number + 1, lens[1] + n);
                    order.extend(std::iter::repeat_n(false, n as usize));
                }
                6 | 7 if !waiting.is_empty() => {
                    let (seq, n, expected) = waiting.remove(0);
                    let at = order.len() as u64;
                    cuts.push(cut(number + 1, at, 1, &[(own, lens[0], lens[0] + n)]));
                    (number, lens[0]) = (number + 1, lens[0] + n);
                    order.extend(std::iter::repeat_n(true, n as usize));
                    ordered.push((seq, at, expected));
                }
                8 if !cuts.is_empty() => b.say(orderer, CutIs { cut: cuts.remove(0) }),
                9 if !ordered.is_empty() => {
                    let (seq, at, expected) = ordered.remove(0);
                    ack(&mut b, conn, &[(seq, at)]);
                    let holds = expected.is_none_or(|e| !order[e as usize..at as usize].contains(&false));
                    assert_eq!(
                        fates(&mut b),
                        [(seq, at, holds)],
                        "seed {seed}: expected {expected:?} in {order:?}"
                    );
                    held += usize::from(holds && expected.is_some());
                    failed += usize::from(!holds);
                }
                _ => {}
            }
            // Plain appends become batches at the end of a turn.
            for (seq, bytes) in appends(&b.sent(conn)) {
                let batch = Batch::check(bytes).unwrap();
                if batch.kind() == BatchKind::Data {
                    let at = waiting.partition_point(|w| w.0 < seq.0);
                    waiting.insert(at, (seq.0, u64::from(batch.count()), None));
                }
            }
        }
    }
    assert!(
        held > 100 && failed > 100 && refused > 100,
        "{held} count, {failed} don't, {refused} were refused"
    );
}
