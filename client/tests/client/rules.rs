//! Single rules, each by a schedule that would break it: what the client sends, when, and to whom.

use crate::bench::*;
use bytes::Bytes;
use proptest::prelude::*;
use zoolog_client::{AppendError, ClientConfig, LogEvent, ReadEnd, SharedLog, WriterLost};
use zoolog_core::batch::{Batch, PlacedBatch};
use zoolog_core::limits::{BATCH_BYTES_TARGET, RECORD_BYTES_MAX};
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::*;

/// A bench that follows an empty order of two shards; its writer is connected. The bench, the orderer's
/// connection, the primary's, and the lane.
fn placed(cfg: ClientConfig, seed: u64) -> (Bench, ConnId, ConnId, LaneId) {
    let mut b = Bench::new(cfg, seed);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let (conn, addr) = b.dials.iter().next().map(|(c, a)| (*c, a.clone())).expect("the primary is dialled");
    b.connected(conn);
    let digits: Vec<u32> = addr.chars().filter_map(|c| c.to_digit(10)).collect();
    b.sent(conn);
    (b, orderer, conn, lane(digits[0], digits[1] as u8))
}

/// Connects all replicas that are dialled.
fn connect_all(b: &mut Bench) {
    while let Some(conn) = b.dials.keys().next().copied() {
        b.connected(conn);
    }
}

fn appends(packets: &[Packet]) -> Vec<(Seq, Bytes)> {
    let batches = packets.iter().filter(|p| matches!(p.message, Message::Append(_)));
    batches.map(|p| (Batch::check(p.payload.clone()).unwrap().seq(), p.payload.clone())).collect()
}

fn seqs(packets: &[Packet]) -> Vec<u64> {
    appends(packets).iter().map(|a| a.0.0).collect()
}

fn refuse(b: &mut Bench, conn: ConnId, seq: u64, why: AppendRefusedWhy, expected: u64) {
    let writer = b.client.writer();
    b.say(conn, AppendRefused { writer, seq: Seq(seq), why, expected: Seq(expected) });
}

fn ack(b: &mut Bench, conn: ConnId, acks: &[(u64, u64)]) {
    let writer = b.client.writer();
    b.say(conn, Appended { writer, acks: acks.iter().map(|&(s, g)| (Seq(s), Gsn(g))).collect() });
}

/// Appends one batch per record.
fn append_each(b: &mut Bench, n: u64) {
    for i in 0..n {
        b.client.append(format!("record {i}").as_bytes()).unwrap();
        b.drain();
    }
}

// ---- the writer

#[test]
fn records_of_one_turn_share_a_batch_and_keep_their_places() {
    let (mut b, _, conn, lane) = placed(config(), 1);
    assert_eq!(b.client.append(b"a"), Ok((Seq(0), 0)));
    assert_eq!(b.client.append(b"b"), Ok((Seq(0), 1)));
    b.drain();
    assert_eq!(b.client.append(b"c"), Ok((Seq(1), 0)));
    b.drain();
    let packets = b.sent(conn);
    assert!(
        packets.iter().all(|p| p.message == Message::Append(Append { lane, start: Seq(0), prompt: true }))
    );
    assert_eq!(seqs(&packets), [0, 1]);
    let first = Batch::check(packets[0].payload.clone()).unwrap();
    assert_eq!(first.records().collect::<Vec<_>>(), [&b"a"[..], b"b"]);
    ack(&mut b, conn, &[(0, 7), (1, 9)]);
    let acked: Vec<_> = b.events().into_iter().filter(|e| matches!(e, LogEvent::Appended { .. })).collect();
    let first = LogEvent::Appended { seq: Seq(0), first_gsn: Gsn(7), count: 2 };
    assert_eq!(acked, [first, LogEvent::Appended { seq: Seq(1), first_gsn: Gsn(9), count: 1 }]);
    assert_eq!(b.client.pending_batches(), 0);
}

#[test]
fn after_a_reconnect_what_is_unacknowledged_goes_out_again_byte_for_byte() {
    let (mut b, _, conn, _) = placed(config(), 2);
    append_each(&mut b, 4);
    let before = appends(&b.sent(conn));
    ack(&mut b, conn, &[(0, 0)]);
    b.close(conn);
    append_each(&mut b, 1);
    b.ms(100);
    connect_all(&mut b);
    let again: Vec<_> = b.up.keys().copied().collect();
    let after: Vec<_> = again.into_iter().flat_map(|c| appends(&b.sent(c))).collect();
    assert_eq!(after[..3], before[1..]);
    assert_eq!(after[3].0, Seq(4));
    assert_eq!(after.len(), 4);
}

#[test]
fn a_gap_is_resent_from_where_the_primary_says_and_only_once() {
    let (mut b, _, conn, _) = placed(config(), 3);
    append_each(&mut b, 5);
    assert_eq!(seqs(&b.sent(conn)), [0, 1, 2, 3, 4]);
    for seq in 3..5 {
        refuse(&mut b, conn, seq, AppendRefusedWhy::Gap, 2);
    }
    append_each(&mut b, 1);
    assert_eq!(seqs(&b.sent(conn)), [] as [u64; 0], "nothing goes out before the pause is over");
    b.ms(10);
    assert_eq!(seqs(&b.sent(conn)), [2, 3, 4, 5]);
}

#[test]
fn a_recovering_primary_is_asked_again_from_the_first_ever_more_patiently() {
    let (mut b, _, conn, _) = placed(config(), 4);
    append_each(&mut b, 2);
    b.sent(conn);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        refuse(&mut b, conn, 0, AppendRefusedWhy::Recovering, 0);
        let start = b.now;
        while !b.sent.contains_key(&conn) {
            b.ms(1);
        }
        assert_eq!(seqs(&b.sent(conn)), [0, 1]);
        pauses.push(b.now.since(start));
    }
    assert!(pauses.is_sorted() && pauses[4] > 4 * pauses[0], "{pauses:?}");
}

#[test]
fn a_writer_that_cannot_go_on_says_so_and_takes_nothing_more() {
    type Ending = (fn(&mut Bench, ConnId), WriterLost);
    let ends: [Ending; 3] = [
        (|b, c| refuse(b, c, 2, AppendRefusedWhy::Closed, 2), WriterLost::LaneClosed),
        (|b, c| refuse(b, c, 2, AppendRefusedWhy::Gap, 0), WriterLost::Forgotten),
        (
            |b, c| {
                for _ in 0..3 {
                    refuse(b, c, 2, AppendRefusedWhy::Malformed, 2);
                    b.ms(300);
                }
            },
            WriterLost::Malformed,
        ),
    ];
    for (end, why) in ends {
        let (mut b, _, conn, _) = placed(config(), 5);
        append_each(&mut b, 3);
        ack(&mut b, conn, &[(0, 0), (1, 1)]);
        end(&mut b, conn);
        assert!(b.events().contains(&LogEvent::WriterLost { why, unknown_from: Seq(2) }), "{why:?}");
        assert_eq!(b.client.append(b"x"), Err(AppendError::Closed));
        assert!(!b.client.has_room());
    }
}

#[test]
fn a_writer_whose_primary_cannot_be_reached_at_first_takes_another_lane() {
    let mut b = Bench::new(config(), 6);
    b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    b.client.append(b"x").unwrap();
    b.drain();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let (conn, addr) = b.dials.pop_first().expect("the next lane's primary is dialled at once");
        assert!(!tried.contains(&addr));
        tried.push(addr);
        b.close(conn);
    }
    let conn = *b.dials.first_key_value().unwrap().0;
    b.connected(conn);
    assert_eq!(seqs(&b.sent(conn)), [0]);
    // From now on it stays, whatever happens: this lane may hold its batch.
    let (stays, addr) = (conn, b.up[&conn].clone());
    b.close(stays);
    b.ms(2000);
    connect_all(&mut b);
    let conn = b.conn(&addr).expect("dialled again");
    assert_eq!(seqs(&b.sent(conn)), [0]);
}

#[test]
fn writers_spread_evenly_over_the_lanes() {
    let mut count = std::collections::BTreeMap::new();
    for seed in 0..400 {
        let (_, _, _, lane) = placed(config(), seed);
        *count.entry(lane).or_insert(0) += 1;
    }
    assert!(count.len() == 4 && count.values().all(|n| (60..140).contains(n)), "{count:?}");
}

#[test]
fn the_window_is_bounded_and_opens_again() {
    let (mut b, _, conn, _) = placed(ClientConfig { window_batches: 2, ..config() }, 7);
    append_each(&mut b, 2);
    // Beyond the window records gather in the open batch, until it is full.
    let record = vec![7; 10_000];
    let mut taken = 0;
    let full = loop {
        match b.client.append(&record) {
            Ok((seq, index)) => assert_eq!((seq, index), (Seq(2), taken)),
            Err(error) => break error,
        }
        taken += 1;
        b.drain();
    };
    assert_eq!(full, AppendError::Full);
    assert!(!b.client.has_room() && taken as usize * record.len() <= BATCH_BYTES_TARGET);
    assert_eq!(seqs(&b.sent(conn)), [0, 1]);
    ack(&mut b, conn, &[(0, 0)]);
    assert_eq!(seqs(&b.sent(conn)), [2]);
    assert_eq!(b.client.append(&record), Ok((Seq(3), 0)));
    let limit = RECORD_BYTES_MAX;
    let too_long = Err(AppendError::TooLong { bytes: limit + 1, limit });
    assert_eq!(b.client.append(&vec![0; limit + 1]), too_long);
}

#[test]
fn an_impossible_acknowledgement_costs_the_connection_and_is_not_believed() {
    for acks in [&[(1u64, 5u64)][..], &[(0, 5), (0, 6)], &[(0, u64::MAX)]] {
        let (mut b, _, conn, _) = placed(config(), 8);
        append_each(&mut b, 1);
        ack(&mut b, conn, acks);
        assert!(b.closing.contains(&conn), "{acks:?}");
        assert!(!b.events().iter().any(|e| matches!(e, LogEvent::Appended { .. })), "{acks:?}");
        assert_eq!(b.client.pending_batches(), 1);
    }
}

#[test]
fn standing_still_is_told_once_and_so_is_going_on() {
    let (mut b, _, conn, _) = placed(config(), 9);
    append_each(&mut b, 1);
    b.ms(1500);
    let stalls = |b: &mut Bench| {
        let all = b.events().into_iter();
        all.filter(|e| matches!(e, LogEvent::Stalled { .. } | LogEvent::Resumed { .. })).collect::<Vec<_>>()
    };
    assert_eq!(stalls(&mut b), [LogEvent::Stalled { what: "append" }]);
    ack(&mut b, conn, &[(0, 0)]);
    assert_eq!(stalls(&mut b), [LogEvent::Resumed { what: "append" }]);
}

// ---- the order

#[test]
fn a_skipped_cut_is_never_guessed() {
    let (mut b, orderer, _, _) = placed(config(), 10);
    b.client.subscribe(Gsn(0));
    b.drain();
    connect_all(&mut b);
    b.say(orderer, CutIs { cut: cut(2, 1, 1, &[(lane(1, 0), 1, 2)]) });
    assert!(b.closing.contains(&orderer));
    assert_eq!(b.client.known_tail(), Some(Gsn(0)));
    assert_eq!(b.committed(), []);
    // The next connection begins with the order so far; what was missed is read.
    b.close(orderer);
    b.ms(100);
    b.follow(&|r| order_is(r, 2, 2, view(1, 2), &[(lane(1, 0), 2)]));
    let conns: Vec<_> = b.up.keys().copied().collect();
    let reads: Vec<_> = conns.into_iter().flat_map(|c| b.sent(c)).collect();
    let ranges = reads.iter().filter_map(|p| match &p.message {
        Message::Read(m) => Some((m.shard, m.from, m.to)),
        _ => None,
    });
    assert_eq!(ranges.collect::<Vec<_>>(), [(ShardId(1), Gsn(0), Gsn(2)), (ShardId(2), Gsn(0), Gsn(2))]);
}

#[test]
fn the_leader_is_found_through_the_others() {
    let mut b = Bench::new(config(), 11);
    let (conn, first) = b.dials.pop_first().unwrap();
    b.dials.insert(conn, first.clone());
    b.connected(conn);
    b.say(conn, NotLeader { leader: Some("o9:9".into()) });
    assert!(b.closing.contains(&conn));
    let next = b.connect("o9:9");
    // Nobody leads: the configured ones in turn, after a pause.
    b.say(next, NotLeader { leader: None });
    assert!(b.dials.is_empty());
    b.ms(50);
    let (_, addr) = b.dials.first_key_value().expect("another is tried");
    assert!(ORDERERS.contains(&addr.as_str()) && *addr != first);
}

#[test]
fn orderers_that_point_at_each_other_are_not_chased_without_end() {
    let mut b = Bench::new(config(), 12);
    let mut hops = 0;
    while let Some((&conn, addr)) = b.dials.first_key_value() {
        let other = if addr == "o1:1" { "o2:1" } else { "o1:1" };
        b.connected(conn);
        b.say(conn, NotLeader { leader: Some(other.into()) });
        hops += 1;
        assert!(hops < 10);
    }
    assert!(hops > 1);
    assert!(b.client.next_deadline().is_some_and(|(at, _)| at > b.now));
}

#[test]
fn a_silent_leader_is_probed_and_then_left() {
    let (mut b, orderer, _, _) = placed(config(), 13);
    b.ms(2100);
    let probe: Vec<_> = b.sent(orderer);
    let [Packet { message: Message::Tail(probe), .. }] = &probe[..] else { panic!("{probe:?}") };
    b.say(orderer, TailIs { request: probe.request, gsn: Gsn(0) });
    assert!(!b.events().iter().any(|e| matches!(e, LogEvent::Tail { .. })), "nobody asked");
    b.ms(1900);
    assert!(b.sent(orderer).is_empty() && !b.closing.contains(&orderer));
    b.ms(1300);
    assert!(b.closing.contains(&orderer), "the second probe went unanswered");
    assert!(!b.dials.is_empty());
}

#[test]
fn another_cluster_is_not_believed() {
    let mut b = Bench::new(ClientConfig { cluster: ClusterId(5), ..config() }, 14);
    let conn = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    assert!(b.closing.contains(&conn) && b.client.known_tail().is_none());
}

#[test]
fn ready_comes_once_with_the_cluster_that_was_learned() {
    let (mut b, _, conn, _) = placed(config(), 15);
    b.close(conn);
    b.ms(1000);
    connect_all(&mut b);
    let ready = b.events().into_iter().filter(|e| matches!(e, LogEvent::Ready { .. })).collect::<Vec<_>>();
    assert_eq!(ready, [LogEvent::Ready { cluster: CLUSTER, view: ViewNumber(1) }]);
}

#[test]
fn a_leader_that_is_behind_catches_up_without_repeating_anything() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 17);
    let l = lane(1, 0);
    b.say_with(one, Push { lane: l }, &batches(l, 1, &[1, 1, 1]));
    let cuts: Vec<_> = (0..3).map(|i| cut(i + 1, i, 1, &[(l, i, i + 1)])).collect();
    b.say(orderer, CutIs { cut: cuts[0].clone() });
    b.say(orderer, CutIs { cut: cuts[1].clone() });
    assert_eq!(b.committed().len(), 2);
    b.close(orderer);
    b.ms(5);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 1, 1, view(1, 2), &[(l, 1)]));
    assert_eq!(b.client.known_tail(), Some(Gsn(2)));
    b.say(orderer, CutIs { cut: cuts[1].clone() });
    b.say(orderer, CutIs { cut: cuts[2].clone() });
    assert!(!b.closing.contains(&orderer));
    assert_eq!(b.committed().iter().map(|c| c.first_gsn).collect::<Vec<_>>(), [Gsn(2)]);
}

#[test]
fn the_same_cut_with_another_order_is_not_believed() {
    let (mut b, orderer, _) = subscribed(config(), 18);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(lane(1, 0), 0, 1)]) });
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 1, 2, view(1, 2), &[(lane(1, 0), 2)]));
    assert!(b.closing.contains(&orderer));
    assert_eq!((b.client.known_tail(), b.client.metrics().order_errors), (Some(Gsn(1)), 1));
}

// ---- tails

#[test]
fn a_tail_round_answers_only_those_who_called_before_it_began() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    let (r1, r2) = (b.client.tail(), b.client.tail());
    b.drain();
    let r3 = b.client.tail();
    b.drain();
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(first), .. }] = &asked[..] else { panic!("{asked:?}") };
    b.say(orderer, TailIs { request: first.request, gsn: Gsn(4) });
    let told = |b: &mut Bench| {
        let all = b.events().into_iter();
        all.filter_map(|e| if let LogEvent::Tail { request, gsn } = e { Some((request, gsn)) } else { None })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&mut b), [(r1, Gsn(4)), (r2, Gsn(4))]);
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(second), .. }] = &asked[..] else { panic!("{asked:?}") };
    // Its leader is lost: it is asked again of the next.
    assert_ne!(second.request, first.request);
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let asked = b.sent(orderer);
    let [Packet { message: Message::Tail(third), .. }] = &asked[..] else { panic!("{asked:?}") };
    b.say(orderer, TailIs { request: second.request, gsn: Gsn(5) });
    assert_eq!(told(&mut b), [], "an answer to an older question");
    b.say(orderer, TailIs { request: third.request, gsn: Gsn(6) });
    assert_eq!(told(&mut b), [(r3, Gsn(6))]);
}

// ---- the subscription

/// Subscribed from 0 to the two shards, everything connected. The connection that serves each shard.
fn subscribed(cfg: ClientConfig, seed: u64) -> (Bench, ConnId, [ConnId; 2]) {
    let (mut b, orderer, _, _) = placed(cfg, seed);
    b.client.subscribe(Gsn(0));
    b.drain();
    let mut serving = [None; 2];
    while serving.contains(&None) {
        connect_all(&mut b);
        for conn in b.up.keys().copied().collect::<Vec<_>>() {
            for packet in b.sent(conn) {
                if let Message::Subscribe(m) = packet.message {
                    assert_eq!(m.from, [Lsn(0), Lsn(0)]);
                    serving[m.shard.0 as usize - 1] = Some(conn);
                }
            }
        }
    }
    b.events();
    (b, orderer, serving.map(Option::unwrap))
}

fn sent_to<T>(b: &mut Bench, pick: impl Fn(&Message) -> Option<T>) -> Vec<(ConnId, T)> {
    let conns: Vec<_> = b.up.keys().copied().collect();
    let all = conns.into_iter().flat_map(|c| b.sent(c).into_iter().map(move |p| (c, p)).collect::<Vec<_>>());
    all.filter_map(|(c, p)| pick(&p.message).map(|m| (c, m))).collect()
}

fn reads(b: &mut Bench) -> Vec<(ConnId, Read)> {
    sent_to(b, |m| if let Message::Read(m) = m { Some(m.clone()) } else { None })
}

#[test]
fn pushed_batches_are_delivered_when_a_cut_takes_them_and_in_its_order() {
    let (mut b, orderer, [one, two]) = subscribed(config(), 20);
    let (l1, l2) = (lane(1, 1), lane(2, 0));
    let (b1, b2) = (batches(l1, 1, &[2, 1]), batches(l2, 2, &[1]));
    b.say_with(two, Push { lane: l2 }, &b2);
    b.say_with(one, Push { lane: l1 }, &b1);
    assert_eq!(b.committed(), [], "durable somewhere is not committed");
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l1, 0, 2), (l2, 0, 1)]) });
    let got = b.committed();
    assert_eq!(
        got.iter().map(|c| (c.first_gsn, c.placed.clone())).collect::<Vec<_>>(),
        [(Gsn(0), b1[0].clone()), (Gsn(2), b2[0].clone())]
    );
    b.say(orderer, CutIs { cut: cut(2, 3, 1, &[(l1, 2, 3)]) });
    assert_eq!(b.committed()[0].placed, b1[1]);
}

/// LOG-3: what a writer with late acknowledgements sees committed is off its window, acknowledged once, and not
/// sent again.
#[test]
fn own_batches_that_the_subscription_shows_count_as_acknowledged_if_acknowledgements_are_late() {
    let cfg = ClientConfig { window_batches: 8, prompt_acks: false, ..config() };
    let (mut b, orderer, serving) = subscribed(cfg, 22);
    append_each(&mut b, 8);
    let conns: Vec<_> = b.up.keys().copied().collect();
    let mut sent =
        conns.into_iter().flat_map(|c| b.sent(c).into_iter().map(move |p| (c, p)).collect::<Vec<_>>());
    let (conn, first) = sent.find(|(_, p)| matches!(p.message, Message::Append(_))).expect("appends");
    let packets: Vec<Packet> = std::iter::once(first).chain(sent.map(|(_, p)| p)).collect();
    let Message::Append(Append { lane: l, .. }) = packets[0].message else { panic!("an append") };
    let prompt: Vec<bool> = packets
        .iter()
        .filter_map(|p| if let Message::Append(m) = &p.message { Some(m.prompt) } else { None })
        .collect();
    assert_eq!(prompt, [false, false, true, true, true, true, true, true], "beyond a quarter of the window");
    let (mut placed, mut prev) = (Vec::new(), 0);
    for (i, (_, bytes)) in appends(&packets).into_iter().enumerate() {
        let p = PlacedBatch::place(l, Incarnation(1), Lsn(i as u64), prev, Batch::check(bytes).unwrap());
        prev = p.placement.crc;
        placed.push(p);
    }
    b.say_with(serving[l.shard().0 as usize - 1], Push { lane: l }, &placed);
    assert_eq!(b.client.pending_batches(), 8, "durable somewhere is not committed");
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 5)]) });
    let acked = |b: &mut Bench| -> Vec<(Seq, Gsn)> {
        let all = b.events().into_iter();
        all.filter_map(|e| {
            if let LogEvent::Appended { seq, first_gsn, .. } = e { Some((seq, first_gsn)) } else { None }
        })
        .collect()
    };
    assert_eq!(acked(&mut b), (0..5).map(|i| (Seq(i), Gsn(i))).collect::<Vec<_>>());
    assert_eq!(b.client.pending_batches(), 3);
    // The acknowledgements come late, and say the same and more.
    ack(&mut b, conn, &[(3, 3), (4, 4), (5, 5)]);
    assert_eq!((acked(&mut b), b.closing.len()), (vec![(Seq(5), Gsn(5))], 0));
    b.close(conn);
    let again = loop {
        b.ms(100);
        connect_all(&mut b);
        let conns: Vec<_> = b.up.keys().copied().collect();
        let packets: Vec<Packet> = conns.into_iter().flat_map(|c| b.sent(c)).collect();
        let again = seqs(&packets);
        if !again.is_empty() {
            break again;
        }
    };
    assert_eq!(again, [6, 7]);
}

#[test]
fn a_committed_batch_that_is_not_pushed_in_time_is_read_from_another_replica() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 21);
    let l = lane(1, 0);
    let all = batches(l, 1, &[3]);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 3)]) });
    b.pass(std::time::Duration::from_micros(9_900));
    assert_eq!(reads(&mut b), []);
    b.ms(1);
    connect_all(&mut b);
    let asked = reads(&mut b);
    let [(conn, m)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((m.shard, m.from, m.to), (ShardId(1), Gsn(0), Gsn(3)));
    let answer = ReadIs {
        request: m.request,
        shard: m.shard,
        from: Gsn(0),
        covers: Gsn(3),
        end: ReadEnd::Complete,
        gsns: vec![Gsn(0)],
    };
    b.say_with(*conn, answer, &all);
    assert_eq!(b.committed().len(), 1);
    // The push that comes at last is not delivered again.
    b.say_with(one, Push { lane: l }, &all);
    assert_eq!(b.committed(), []);
}

#[test]
fn when_a_stream_ends_the_next_begins_at_the_committed_part_and_forgets_the_rest() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 22);
    let l = lane(1, 0);
    let all = batches(l, 1, &[1, 1, 1]);
    b.say_with(one, Push { lane: l }, &all);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 1)]) });
    assert_eq!(b.committed().len(), 1);
    connect_all(&mut b);
    b.close(one);
    b.ms(1000);
    connect_all(&mut b);
    let subs = sent_to(&mut b, |m| if let Message::Subscribe(m) = m { Some(m.clone()) } else { None });
    let from: Vec<_> = subs.iter().filter(|s| s.1.shard == ShardId(1)).map(|s| s.1.from.clone()).collect();
    assert_eq!(from, [[Lsn(1), Lsn(0)]]);
    // What the old stream had brought is not taken for committed: only the new stream's push counts.
    b.say(orderer, CutIs { cut: cut(2, 1, 1, &[(l, 1, 2)]) });
    assert_eq!(b.committed(), []);
    let conn = subs.iter().find(|s| s.1.shard == ShardId(1)).unwrap().0;
    b.say_with(conn, Push { lane: l }, &all[1..]);
    assert_eq!(b.committed()[0].placed, all[1]);
}

#[test]
fn history_and_pushes_meet_at_the_seam() {
    let (l, all) = (lane(1, 0), batches(lane(1, 0), 1, &[2, 2, 2]));
    let mut b = Bench::new(config(), 23);
    b.client.subscribe(Gsn(1));
    b.drain();
    let orderer = b.follow(&|r| order_is(r, 5, 4, view(1, 1), &[(l, 4)]));
    b.ms(1);
    connect_all(&mut b);
    let mut read = None;
    let mut serving = None;
    for conn in b.up.keys().copied().collect::<Vec<_>>() {
        for packet in b.sent(conn) {
            match packet.message {
                Message::Read(m) => read = Some((conn, m)),
                Message::Subscribe(m) => {
                    assert_eq!(m.from, [Lsn(4), Lsn(0)]);
                    serving = Some(conn);
                }
                _ => {}
            }
        }
    }
    // Pushes may overtake history, and wait for it.
    b.say_with(serving.unwrap(), Push { lane: l }, &all[2..]);
    b.say(orderer, CutIs { cut: cut(6, 4, 1, &[(l, 4, 6)]) });
    assert_eq!(b.committed(), []);
    let (conn, m) = read.unwrap();
    assert_eq!((m.from, m.to), (Gsn(1), Gsn(4)));
    let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
    b.say_with(conn, ReadIs { request, shard, from, covers, end, gsns: vec![Gsn(0), Gsn(2)] }, &all[..2]);
    let got = b.committed();
    let ranges: Vec<_> = got.iter().map(|c| (c.first_gsn.0, c.skip, c.take)).collect();
    assert_eq!(ranges, [(0, 1, 1), (2, 0, 2), (4, 0, 2)]);
    assert_eq!(got[0].records().map(|r| (r.0, r.1)).collect::<Vec<_>>(), [(Gsn(1), 1)]);
}

#[test]
fn damage_is_read_elsewhere_and_never_delivered() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 24);
    let l = lane(1, 0);
    let all = batches(l, 1, &[2]);
    let mut bad = encoded(&all).to_vec();
    *bad.last_mut().unwrap() ^= 1;
    b.input(Input::Frame { conn: one, bytes: encode_with(Push { lane: l }, &[&bad]) });
    connect_all(&mut b);
    let subs = sent_to(&mut b, |m| if let Message::Subscribe(m) = m { Some(m.shard) } else { None });
    assert!(subs.iter().any(|s| s.1 == ShardId(1)), "a new stream");
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 2)]) });
    b.ms(30);
    let asked = reads(&mut b);
    let (first, m) = asked[0].clone();
    let gsns = vec![Gsn(0)];
    let answer = |m: &Read| {
        let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
        ReadIs { request, shard, from, covers, end, gsns: gsns.clone() }
    };
    b.input(Input::Frame { conn: first, bytes: encode_with(answer(&m), &[&bad]) });
    assert_eq!(b.committed(), []);
    b.ms(10);
    connect_all(&mut b);
    let (second, m) = reads(&mut b)[0].clone();
    assert_ne!(first, second, "another replica");
    b.say_with(second, answer(&m), &all);
    assert_eq!(b.committed()[0].placed, all[0]);
    assert_eq!(b.client.metrics().damaged, 2);
}

#[test]
fn a_batch_of_another_lane_or_out_of_its_chain_is_damage() {
    let l = lane(1, 0);
    let (good, other) = (batches(l, 1, &[1, 1]), batches(l, 9, &[1, 1]));
    let foreign = batches(lane(1, 1), 1, &[1]);
    for bad in [vec![foreign[0].clone()], vec![good[0].clone(), other[1].clone()]] {
        let (mut b, _, [one, _]) = subscribed(config(), 25);
        b.say_with(one, Push { lane: l }, &bad);
        assert_eq!(b.client.metrics().damaged, 1);
    }
}

#[test]
fn credit_comes_back_only_as_cuts_take_batches_and_pushes_beyond_it_are_not_kept() {
    let (mut b, orderer, [one, _]) = subscribed(config(), 26);
    let l = lane(1, 0);
    let mut lane_batches = Vec::new();
    let (mut lsn, mut prev) = (Lsn(0), 0);
    let mut builder = zoolog_core::batch::BatchBuilder::new();
    for seq in 0..40u64 {
        builder.push(&vec![seq as u8; 1 << 20]);
        let batch = builder.finish(zoolog_core::batch::BatchKind::Data, WriterId(1), Epoch(0), Seq(seq));
        let placed = PlacedBatch::place(l, Incarnation(1), lsn, prev, batch);
        (lsn, prev) = (placed.end_lsn(), placed.placement.crc);
        lane_batches.push(placed);
    }
    let credits =
        |b: &mut Bench| sent_to(b, |m| if let Message::Credit(m) = m { Some(m.bytes) } else { None });
    for batch in &lane_batches[..8] {
        b.say_with(one, Push { lane: l }, std::slice::from_ref(batch));
    }
    assert_eq!(credits(&mut b), []);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 4)]) });
    let back: u32 = credits(&mut b).iter().map(|c| c.1).sum();
    assert_eq!(back as usize, lane_batches[..4].iter().map(|p| p.encoded_len()).sum::<usize>());
    for batch in &lane_batches[8..] {
        b.say_with(one, Push { lane: l }, std::slice::from_ref(batch));
    }
    assert!(b.client.metrics().resubscribed > 0, "a stream without bound is given up");
    assert!(b.client.buffered_bytes() <= 2 * config().subscribe_credit_bytes as usize);
}

#[test]
fn a_shard_that_joins_is_followed_from_its_first_record() {
    let (mut b, orderer, _) = subscribed(config(), 27);
    b.say(orderer, ViewIs { view: view(2, 3) });
    connect_all(&mut b);
    let subs = sent_to(&mut b, |m| if let Message::Subscribe(m) = m { Some(m.clone()) } else { None });
    let [(conn, m)] = &subs[..] else { panic!("{subs:?}") };
    assert_eq!((m.shard, &m.from[..]), (ShardId(3), &[Lsn(0), Lsn(0)][..]));
    let (l, all) = (lane(3, 1), batches(lane(3, 1), 1, &[1]));
    b.say_with(*conn, Push { lane: l }, &all);
    b.say(orderer, CutIs { cut: cut(1, 0, 2, &[(l, 0, 1)]) });
    assert_eq!(b.committed()[0].placed, all[0]);
}

#[test]
fn trimmed_history_ends_the_subscription_with_a_gap() {
    let mut b = Bench::new(config(), 28);
    b.client.subscribe(Gsn(3));
    b.drain();
    b.follow(&|r| order_is(r, 5, 10, view(1, 1), &[(lane(1, 0), 10)]));
    connect_all(&mut b);
    let (conn, m) = reads(&mut b)[0].clone();
    let (request, shard, from, covers, end) = (m.request, m.shard, m.from, Gsn(7), ReadEnd::Trimmed);
    b.say(conn, ReadIs { request, shard, from, covers, end, gsns: vec![] });
    assert!(b.events().contains(&LogEvent::Gap { from: Gsn(3), until: Gsn(7) }));
    b.client.subscribe(Gsn(7));
    b.drain();
    assert_eq!(reads(&mut b)[0].1.from, Gsn(7));
}

// ---- reads

#[test]
fn shards_that_contradict_each_other_are_asked_again_and_nothing_is_skipped() {
    let mut b = Bench::new(config(), 29);
    b.client.read(Gsn(0), Gsn(2), 1000);
    b.drain();
    b.follow(&|r| order_is(r, 1, 2, view(1, 2), &[(lane(1, 0), 2)]));
    connect_all(&mut b);
    for (conn, m) in reads(&mut b) {
        let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
        b.say(conn, ReadIs { request, shard, from, covers, end, gsns: vec![] });
    }
    assert!(!b.events().iter().any(|e| matches!(e, LogEvent::ReadDone { .. })), "never an empty success");
    b.ms(10);
    assert_eq!(reads(&mut b).len(), 2);
    // In the end it says so.
    b.ms(11_000);
    assert!(
        b.events().iter().any(
            |e| matches!(e, LogEvent::ReadDone { end: ReadEnd::Unavailable, covers, .. } if covers.0 == 0)
        )
    );
}

#[test]
fn two_batches_at_one_position_are_not_both_believed() {
    let mut b = Bench::new(config(), 31);
    b.client.read(Gsn(0), Gsn(4), 10_000);
    b.drain();
    b.follow(&|r| order_is(r, 2, 4, view(1, 2), &[(lane(1, 0), 2), (lane(2, 0), 2)]));
    connect_all(&mut b);
    let done = |b: &mut Bench| b.events().iter().filter(|e| matches!(e, LogEvent::ReadDone { .. })).count();
    let answer = |b: &mut Bench, second: u64| {
        for (conn, m) in reads(b) {
            let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
            let gsn = if shard == ShardId(1) { 0 } else { second };
            let skip = from.0.saturating_sub(gsn).min(2);
            let gsns = if skip < 2 { vec![Gsn(gsn)] } else { vec![] };
            let all = batches(LaneId::new(shard, 0), 1, &[2]);
            let message = ReadIs { request, shard, from, covers, end, gsns };
            b.say_with(conn, message, &all[..usize::from(skip < 2)]);
        }
    };
    // The second shard's batch overlaps the first's.
    answer(&mut b, 1);
    assert_eq!((done(&mut b), b.client.metrics().damaged), (0, 1));
    b.ms(10);
    connect_all(&mut b);
    answer(&mut b, 2);
    assert_eq!(done(&mut b), 1);
}

#[test]
fn a_replica_that_does_not_answer_is_left_after_a_second() {
    let mut b = Bench::new(config(), 30);
    b.client.read(Gsn(0), Gsn(1), 1000);
    b.drain();
    b.follow(&|r| order_is(r, 1, 1, view(1, 1), &[(lane(1, 0), 1)]));
    connect_all(&mut b);
    let (first, _) = reads(&mut b)[0].clone();
    b.ms(900);
    assert_eq!(reads(&mut b), []);
    b.ms(300);
    connect_all(&mut b);
    let (second, _) = reads(&mut b)[0].clone();
    assert!(b.closing.contains(&first) && b.up[&first] != b.up[&second]);
}

// ---- garbage

fn any_message(r: &mut Rng) -> (Message, Bytes) {
    let small = |r: &mut Rng| if r.chance(5) { u64::MAX - r.below(3) } else { r.below(6) };
    let l = |r: &mut Rng| LaneId::new(ShardId(r.below(4) as u32), r.below(3) as u8);
    let writer = WriterId(u128::from(r.below(3)));
    let mut payload = Bytes::new();
    let message = match r.below(9) {
        0 => {
            let lanes: Vec<_> = (0..r.below(3)).map(|_| (l(r), small(r))).collect();
            order_is(small(r), small(r), small(r), view(r.below(4), r.below(4) as u32), &lanes).into()
        }
        1 => {
            let lanes: Vec<_> = (0..r.below(3)).map(|_| (l(r), small(r), small(r))).collect();
            CutIs { cut: cut(small(r), small(r), r.below(4), &lanes) }.into()
        }
        2 => ViewIs { view: view(small(r), r.below(4) as u32) }.into(),
        3 => TailIs { request: small(r), gsn: Gsn(small(r)) }.into(),
        4 => NotLeader { leader: r.chance(50).then(|| "o1:1".into()) }.into(),
        5 => Appended { writer, acks: vec![(Seq(small(r)), Gsn(small(r)))] }.into(),
        6 => {
            use AppendRefusedWhy::*;
            let why = [Malformed, Gap, NotPrimary, Recovering, Window, Closed][r.below(6) as usize];
            AppendRefused { writer, seq: Seq(small(r)), why, expected: Seq(small(r)) }.into()
        }
        7 => {
            use ReadEnd::*;
            let end = [Complete, More, NotYet, Trimmed, Unavailable][r.below(5) as usize];
            let all = batches(l(r), 1, &[1, 2, 1]);
            let some: Vec<_> = all.into_iter().filter(|_| r.chance(60)).collect();
            payload = encoded(&some);
            let gsns = some.iter().map(|_| Gsn(small(r))).collect();
            let (request, shard) = (small(r), ShardId(r.below(3) as u32));
            ReadIs { request, shard, from: Gsn(small(r)), covers: Gsn(small(r)), end, gsns }.into()
        }
        _ => {
            let lane = l(r);
            let all = batches(if r.chance(90) { lane } else { l(r) }, 1, &[1, 2, 1, 3]);
            payload = encoded(&all.into_iter().filter(|_| r.chance(80)).collect::<Vec<_>>());
            Push { lane }.into()
        }
    };
    (message, payload)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// SYS-1: whatever peers say, in whatever order, nothing panics, and what is delivered is still dense.
    #[test]
    fn no_message_panics(seed in any::<u64>()) {
        let mut r = Rng::new(seed, "garbage");
        let mut b = Bench::new(config(), seed);
        b.client.subscribe(Gsn(0));
        b.client.read(Gsn(0), Gsn(r.below(5)), 100);
        b.drain();
        let mut next = 0;
        for _ in 0..150 {
            if r.chance(10) {
                let _ = b.client.append(b"x");
                b.client.tail();
                b.drain();
            }
            connect_all(&mut b);
            if r.chance(30) {
                let conns: Vec<_> = b.up.keys().copied().collect();
                for conn in conns {
                    for p in b.sent(conn) {
                        if let Message::WatchCuts(m) = p.message {
                            b.say(conn, order_is(m.request, 1, 2, view(1, 2), &[(lane(1, 0), 2)]));
                        }
                    }
                }
            }
            for conn in b.closing.clone() {
                b.close(conn);
            }
            let conns: Vec<_> = b.up.keys().copied().collect();
            if conns.is_empty() {
                b.ms(20);
                continue;
            }
            let conn = conns[r.below(conns.len() as u64) as usize];
            if r.chance(5) {
                let bytes = (0..r.below(80)).map(|_| r.below(256) as u8).collect::<Vec<_>>();
                b.input(Input::Frame { conn, bytes: bytes.into() });
            } else {
                let (message, payload) = any_message(&mut r);
                b.input(Input::Frame { conn, bytes: encode_with(message, &[&payload]) });
            }
            b.pass(std::time::Duration::from_micros(r.below(3000)));
            for c in b.committed() {
                prop_assert_eq!(c.from(), Gsn(next));
                next = c.end().0;
            }
        }
    }
}
