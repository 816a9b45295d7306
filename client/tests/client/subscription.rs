//! Does a subscription deliver what cuts say, each position once?

use crate::bench::*;
use zoolog_client::{ClientConfig, LogEvent, ReadEnd, SharedLog};
use zoolog_core::batch::{Batch, PlacedBatch};
use zoolog_core::view::{Final, ShardState, View};
use zoolog_core::wire::*;
use zoolog_core::*;

#[test]
fn pushed_batches_are_delivered_when_a_cut_takes_them_and_in_its_order() {
    let (mut b, orderer, [one, two]) = subscribed(config(), 20);
    let (l1, l2) = (lane(1, 1), lane(2, 0));
    let (b1, b2) = (batches(l1, 1, &[2, 1]), batches(l2, 2, &[1]));
    b.say_with(two, Push { lane: l2 }, &b2);
    b.say_with(one, Push { lane: l1 }, &b1);
    assert_eq!(b.committed(), [], "durable somewhere is not committed");
    b.ms(1);
    b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l1, 0, 2), (l2, 0, 1)]) });
    let got = b.committed();
    assert!(got.iter().all(|c| c.ordered_at == b.now), "ordered by the cut, not by the push: {got:?}");
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
    let cut_at = b.now;
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
    let got = b.committed();
    assert_eq!(
        got.iter().map(|c| c.ordered_at).collect::<Vec<_>>(),
        [cut_at],
        "its delivery took all that time"
    );
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

/// The view in which shard 1 has ended at these lengths.
fn shard_ended(number: u64, lens: [u64; 2], end: u64) -> View {
    let mut v = view(number, 2);
    v.shards[0].state = ShardState::Finalized(Final { lens: lens.to_vec(), first: Gsn(0), end: Gsn(end) });
    v
}

/// What comes beyond a shard's end, before or after that is known, is dropped and not kept; what lies before it is
/// delivered, once, whether pushed or read.
#[test]
fn nothing_beyond_the_end_of_a_shard_is_kept_and_nothing_before_it_missed() {
    for pushed in [1, 3] {
        let (mut b, orderer, [one, two]) = subscribed(config(), 30);
        let (l, l2) = (lane(1, 0), lane(2, 0));
        let (all, other) = (batches(l, 1, &[1, 1, 1, 1]), batches(l2, 2, &[1]));
        b.say_with(one, Push { lane: l }, &all[..pushed]);
        b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 1)]) });
        assert_eq!(b.committed().len(), 1);
        b.say(orderer, CutIs { cut: cut(2, 1, 1, &[(l, 1, 2)]) });
        b.say(orderer, ViewIs { view: shard_ended(2, [2, 0], 2) });
        b.say_with(one, Push { lane: l }, &all[pushed..]);
        b.say_with(two, Push { lane: l2 }, &other);
        b.say(orderer, CutIs { cut: cut(3, 2, 2, &[(l2, 0, 1)]) });
        let got: Vec<_> = b.committed().into_iter().map(|c| (c.first_gsn, c.placed)).collect();
        assert_eq!(got, [(Gsn(1), all[1].clone()), (Gsn(2), other[0].clone())], "{pushed}");
        assert_eq!(b.client.buffered_bytes(), 0, "{pushed}: no cut will ever take it");
        assert_eq!((b.client.metrics().damaged, b.client.metrics().duplicates), (0, 0));
        // Another replica that is asked has nothing more either, and is asked from where that is.
        b.close(one);
        b.ms(1000);
        connect_all(&mut b);
        let subs = sent_to(&mut b, |m| if let Message::Subscribe(m) = m { Some(m.clone()) } else { None });
        let of_one: Vec<_> = subs.iter().filter(|s| s.1.shard == ShardId(1)).collect();
        assert!(of_one.iter().all(|s| s.1.from == [Lsn(2), Lsn(0)]), "{subs:?}");
    }
}

/// A shard ends, and all of it is trimmed, while a subscription still waits for a batch of it: it is told, not left
/// waiting. Invariant LOG-6.
#[test]
fn a_shard_that_goes_while_its_batch_is_waited_for_leaves_a_gap() {
    for asked in [false, true] {
        let (mut b, orderer, [_, two]) = subscribed(config(), 31);
        let (l, l2) = (lane(1, 0), lane(2, 0));
        let other = batches(l2, 2, &[1]);
        b.say_with(two, Push { lane: l2 }, &other);
        b.say(orderer, CutIs { cut: cut(1, 0, 1, &[(l, 0, 2), (l2, 0, 1)]) });
        if asked {
            b.ms(20);
            connect_all(&mut b);
            assert!(!reads(&mut b).is_empty());
        }
        b.say(orderer, ViewIs { view: shard_ended(2, [2, 0], 2) });
        let mut gone = view(3, 2);
        gone.shards.remove(0);
        b.say(orderer, ViewIs { view: gone });
        let mut events = b.events();
        for _ in 0..200 {
            b.ms(10);
            connect_all(&mut b);
            events.extend(b.events());
        }
        assert!(events.contains(&LogEvent::Gap { from: Gsn(0), until: Gsn(2) }), "asked: {asked}");
        b.client.subscribe(Gsn(2));
        b.drain();
        let (conn, m) = reads(&mut b).pop().expect("it reads on");
        let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
        b.say_with(conn, ReadIs { request, shard, from, covers, end, gsns: vec![Gsn(2)] }, &other);
        assert_eq!(b.committed().len(), 1);
    }
}
