//! When does a client ask for records that are not pushed to it, whom, and what does it cost to know where they are? Whether
//! it then delivers them all, in order, is shown by `delivery`.

use crate::bench::*;
use zoolog_client::{ClientConfig, Fetch, ReadEnd, SharedLog};
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::*;
use zoolog_core::*;

/// Records that come in a round.
const ROUND: u64 = 1000;

/// Subscribed from 0, everything connected; all that is written goes to shard 2.
fn pulled(fetch: Fetch) -> (Bench, ConnId, Vec<PlacedBatch>) {
    let (mut b, orderer, _, _) = placed(ClientConfig { fetch, ..config() }, 40);
    b.client.subscribe(Gsn(0));
    b.drain();
    b.sent(orderer);
    (b, orderer, batches(lane(2, 0), 1, &[100; 100]))
}

/// Answers the questions for records that were asked; of which shards they are.
fn serve(b: &mut Bench, all: &[PlacedBatch]) -> Vec<u32> {
    connect_all(b);
    let asked = reads(b);
    for (conn, m) in &asked {
        let first = |p: &PlacedBatch| p.placement.first_lsn.0;
        let here = all.iter().filter(|p| m.shard == ShardId(2) && (m.from.0..m.to.0).contains(&first(p)));
        let here: Vec<PlacedBatch> = here.cloned().collect();
        let gsns = here.iter().map(|p| Gsn(first(p))).collect();
        let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
        b.say_with(*conn, ReadIs { request, shard, from, covers, end, gsns }, &here);
    }
    asked.iter().map(|(_, m)| m.shard.0).collect()
}

/// The log ends there, if it was asked for that.
fn tell_tail(b: &mut Bench, orderer: ConnId, tail: u64) -> bool {
    let asked = b.sent(orderer).into_iter().find_map(|p| match p.message {
        Message::Tail(m) => Some(m.request),
        _ => None,
    });
    if let Some(request) = asked {
        b.say(orderer, TailIs { request, gsn: Gsn(tail) });
    }
    asked.is_some()
}

/// Ten rounds. Which shards were asked, each list at once, and the location bytes received for each record.
fn rounds(fetch: Fetch) -> (Vec<Vec<u32>>, f64) {
    let (mut b, orderer, all) = pulled(fetch);
    let before = b.client.fetching().location_bytes;
    let (mut asked, mut delivered) = (Vec::new(), 0);
    for round in 1..=10 {
        b.ms(20);
        assert!(tell_tail(&mut b, orderer, round * ROUND), "{fetch}: it asks every 20 ms");
        loop {
            let shards = serve(&mut b, &all);
            delivered += b.committed().iter().map(|c| u64::from(c.take)).sum::<u64>();
            if shards.is_empty() {
                break;
            }
            asked.push(shards);
        }
        assert_eq!(delivered, round * ROUND, "{fetch}");
    }
    let bytes = b.client.fetching().location_bytes - before;
    (asked, bytes as f64 / delivered as f64)
}

#[test]
fn a_deferred_one_asks_one_shard_after_the_other_and_whoever_had_it_last_first() {
    let (asked, bytes_per_record) = rounds(Fetch::Deferred);
    assert!(asked.iter().all(|shards| shards.len() == 1), "{asked:?}");
    assert_eq!(
        asked.iter().filter(|shards| shards[0] == 1).count(),
        1,
        "who has nothing is asked once: {asked:?}"
    );
    assert!(bytes_per_record < 0.1, "{bytes_per_record}");
}

#[test]
fn a_batched_one_asks_all_shards_at_once() {
    let (asked, bytes_per_record) = rounds(Fetch::Batched);
    let of = |shard| asked.iter().filter(|shards| shards.contains(&shard)).count();
    assert!(of(1) >= 10 && of(2) >= 10, "{asked:?}");
    assert!(bytes_per_record < 0.2, "an empty answer of the other shard each time: {bytes_per_record}");
}

#[test]
fn a_lazy_one_asks_for_nothing_until_somebody_waits() {
    let (mut b, orderer, all) = pulled(Fetch::Lazy);
    for _ in 0..40 {
        b.ms(100);
        tell_tail(&mut b, orderer, ROUND);
        assert!(serve(&mut b, &all).is_empty());
    }
    b.client.want(Gsn(300));
    b.drain();
    while !serve(&mut b, &all).is_empty() {}
    assert_eq!(b.committed().iter().map(|c| c.take).sum::<u32>(), 300, "and no more than that");
    b.client.refresh();
    b.drain();
    assert!(tell_tail(&mut b, orderer, ROUND));
    while !serve(&mut b, &all).is_empty() {}
    assert_eq!(b.committed().iter().map(|c| c.take).sum::<u32>(), 700);
}

/// Records in short stretches of two shards: one question each, in the order of positions.
#[test]
fn stretches_that_a_shard_leaves_out_are_asked_of_the_next() {
    let cfg = ClientConfig { fetch: Fetch::Deferred, location_limit: 2, ..config() };
    let (mut b, orderer, _, _) = placed(cfg, 41);
    b.client.subscribe(Gsn(0));
    b.ms(20);
    assert!(tell_tail(&mut b, orderer, 12));
    // Two positions each in turn, in lanes 1/0 and 2/0.
    let lanes = [batches(lane(1, 0), 1, &[2; 3]), batches(lane(2, 0), 2, &[2; 3])];
    let gsn = |shard: usize, i: usize| Gsn((4 * i + 2 * shard) as u64);
    let mut got = Vec::new();
    for _ in 0..40 {
        connect_all(&mut b);
        let asked = reads(&mut b);
        assert!(asked.len() <= 1, "{asked:?}");
        for (conn, m) in asked {
            let shard = m.shard.0 as usize - 1;
            let here: Vec<usize> =
                (0..3).filter(|&i| gsn(shard, i) >= m.from && gsn(shard, i) < m.to).collect();
            let gsns = here.iter().map(|&i| gsn(shard, i)).collect();
            let placed: Vec<PlacedBatch> = here.iter().map(|&i| lanes[shard][i].clone()).collect();
            let (request, shard, from, covers, end) = (m.request, m.shard, m.from, m.to, ReadEnd::Complete);
            b.say_with(conn, ReadIs { request, shard, from, covers, end, gsns }, &placed);
        }
        assert!(b.client.fetching().location_entries <= 2);
        got.extend(b.committed().iter().map(|c| c.first_gsn.0));
    }
    assert_eq!(got, [0, 2, 4, 6, 8, 10]);
}
