//! Against a whole model cluster, whatever the interleaving and the faults: what is delivered is the order,
//! all of it, once; what is appended is in the log, once, in order.

use crate::bench::cluster::{Cluster, Faults};
use crate::bench::{Bench, config};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use zoolog_client::{
    AppendError, ClientConfig, Committed, Fetch, LogEvent, Metrics, ReadEnd, RequestId, SharedLog,
};
use zoolog_core::rng::Rng;
use zoolog_core::*;

/// What one run delivered, in the order it came.
#[derive(Default)]
struct Told {
    delivered: Vec<(Gsn, Bytes)>,
    appended: Vec<(Seq, Gsn, u32)>,
    tails: BTreeMap<RequestId, Gsn>,
    own: u64,
    asked: BTreeMap<RequestId, (Gsn, Gsn)>,
    read: Vec<(RequestId, Vec<Committed>, Gsn, ReadEnd)>,
}

impl Told {
    fn take(&mut self, bench: &mut Bench) {
        for event in bench.events() {
            match event {
                LogEvent::Committed(c) => {
                    assert_eq!(c.own, c.placed.batch.writer() == bench.client.writer());
                    self.own += u64::from(c.own);
                    self.delivered.extend(c.records().map(|(gsn, _, bytes)| (gsn, bytes)));
                }
                LogEvent::Appended { seq, first_gsn, count } => self.appended.push((seq, first_gsn, count)),
                LogEvent::Tail { request, gsn } => assert!(self.tails.insert(request, gsn).is_none()),
                LogEvent::ReadDone { request, batches, covers, end } => {
                    self.read.push((request, batches, covers, end))
                }
                LogEvent::Gap { .. } | LogEvent::WriterLost { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }
}

fn run(seed: u64, faults: Faults, shards: u32, steps: u32) -> Metrics {
    run_as(Fetch::Streamed, seed, faults, shards, steps)
}

fn run_as(fetch: Fetch, seed: u64, faults: Faults, shards: u32, steps: u32) -> Metrics {
    let mut rng = Rng::new(seed, "workload");
    let live_within_records = [1, 4, 16, 8192][rng.below(4) as usize];
    let window_batches = [1, 3, 64][rng.below(3) as usize];
    let mut pulls = Rng::new(seed, "pulls");
    let defer = Duration::from_millis(pulls.between(1, 20));
    let location_limit = [1, 2, 5, 200][pulls.below(4) as usize];
    let mut cfg =
        ClientConfig { live_within_records, window_batches, fetch, defer, location_limit, ..config() };
    if faults.away > 0 {
        // So that who is away is away for long.
        (cfg.leave_after, cfg.request_timeout) = (Duration::from_millis(10), Duration::from_millis(100));
    }
    let mut cluster = Cluster::new(cfg, seed, shards);
    // Some history first; the subscription begins somewhere in it, or beyond it.
    for _ in 0..rng.below(60) {
        cluster.other_append();
    }
    (0..rng.below(400)).for_each(|_| cluster.step());
    let from = Gsn(rng.below(cluster.order.tail.0 + 4));
    cluster.bench.client.subscribe(from);
    cluster.faults = faults;
    let (mut told, mut mine) = (Told::default(), Vec::new());
    for _ in 0..steps {
        match rng.below(20) {
            0 => cluster.other_append(),
            1 | 2 => {
                let record = format!("mine {}", mine.len());
                match cluster.bench.client.append(record.as_bytes()) {
                    Ok(place) => mine.push((place, record)),
                    Err(error) => assert_eq!(error, AppendError::Full),
                }
                if rng.chance(70) {
                    cluster.bench.drain();
                }
            }
            3 if rng.chance(20) => cluster.ask_tail(),
            4 if rng.chance(20) => {
                let from = rng.below(cluster.order.tail.0 + 1);
                let (to, max) = (from + rng.below(40), 1 + rng.below(600) as usize);
                let request = cluster.bench.client.read(Gsn(from), Gsn(to), max);
                told.asked.insert(request, (Gsn(from), Gsn(to)));
                cluster.bench.drain();
            }
            _ => cluster.step(),
        }
        if pulls.chance(1) {
            cluster.bench.client.refresh();
            cluster.bench.drain();
        }
        assert!(cluster.bench.client.fetching().location_entries <= location_limit);
        told.take(&mut cluster.bench);
        if let Some((_, first, count)) =
            told.appended.last().filter(|_| fetch == Fetch::Lazy && pulls.chance(5))
        {
            cluster.bench.client.want(first.plus(u64::from(*count)));
            cluster.bench.drain();
        }
    }
    cluster.settle("all acknowledged", |c| c.bench.client.pending_batches() == 0);
    told.take(&mut cluster.bench);
    while cluster.order.tail < from {
        cluster.other_append();
        (0..200).for_each(|_| cluster.step());
        told.take(&mut cluster.bench);
    }
    let want = cluster.order.tail;
    let all = want.since(from.min(want));
    cluster.settle("all delivered", |c| c.bench.client.metrics().delivered >= all);
    let open = told.asked.len() + cluster.asked_tails.len() - told.read.len() - told.tails.len();
    let answer = |e: &&LogEvent| matches!(e, LogEvent::ReadDone { .. } | LogEvent::Tail { .. });
    cluster.settle("every question answered", |c| c.bench.events.iter().filter(answer).count() == open);
    told.take(&mut cluster.bench);

    let truth = cluster.truth();
    let records = |from: Gsn, to: Gsn| -> Vec<(Gsn, Bytes)> {
        let all = (from.0..).zip(&truth[from.0 as usize..to.0 as usize]);
        all.filter_map(|(gsn, record)| Some((Gsn(gsn), record.clone()?))).collect()
    };
    let expected = records(from, Gsn(truth.len() as u64));
    assert!(told.delivered.len() >= records(from, want.max(from)).len(), "seed {seed}");
    assert_eq!(told.delivered[..], expected[..told.delivered.len()], "seed {seed}");
    // LOG-2, LOG-3: each append is where its acknowledgement says, in order, and nowhere else.
    for ((seq, index), record) in &mine {
        let ack = told.appended.iter().find(|a| a.0 == *seq).expect("all are acknowledged");
        assert!(*index < ack.2);
        let at = ack.1.plus(u64::from(*index));
        let is = |t: &&Option<Bytes>| t.as_ref().is_some_and(|t| t == record.as_bytes());
        assert!(is(&&truth[at.0 as usize]), "seed {seed}");
        assert_eq!(truth.iter().filter(is).count(), 1, "seed {seed}");
    }
    assert!(told.appended.is_sorted_by(|a, b| a.0.next() == b.0 && a.1 < b.1), "seed {seed}");
    // Reads are exact over what they say they cover.
    for (request, batches, covers, end) in &told.read {
        let (from, to) = told.asked.remove(request).expect("one answer each");
        let got: Vec<_> =
            batches.iter().flat_map(|c| c.records()).map(|(gsn, _, bytes)| (gsn, bytes)).collect();
        assert_eq!(got, records(from, (*covers).max(from)), "seed {seed}");
        match end {
            ReadEnd::Complete => assert_eq!(*covers, to),
            ReadEnd::More => assert!(from < *covers && *covers < to),
            ReadEnd::NotYet => assert!(*covers < to),
            other => panic!("{other:?}"),
        }
    }
    assert!(told.asked.is_empty(), "seed {seed}: unanswered {:?}", told.asked);
    // Tails are linearizable.
    assert_eq!(told.tails.len(), cluster.asked_tails.len(), "seed {seed}");
    for (request, gsn) in &told.tails {
        assert!(*gsn >= cluster.asked_tails[request], "seed {seed}");
    }
    assert_eq!(cluster.bench.client.metrics().duplicates, 0);
    assert_eq!(cluster.bench.client.metrics().order_errors, 0, "seed {seed}");
    cluster.bench.client.metrics()
}

const EVERY: Faults = Faults { close: 1, damage: 5, refuse: 5, unavailable: 20, mute: 1, end: 0, away: 0 };
const ENDS: Faults = Faults { end: 3, away: 10, ..EVERY };

/// The runs below mean something: over a few seeds, everything that can go wrong does.
#[test]
fn the_model_exercises_every_way_out() {
    let mut sum = [0; 7];
    for seed in 0..30 {
        let m = run(seed, EVERY, 2, 3000);
        let one = [m.delivered, m.damaged, m.reread, m.late, m.resubscribed, m.refused, m.fell_back];
        sum.iter_mut().zip(one).for_each(|(s, n)| *s += n);
    }
    eprintln!("{sum:?}");
    assert!(sum.iter().all(|&n| n >= 10), "{sum:?}");
    let left: Vec<u64> = (0..20).map(|seed| run(seed, ENDS, 2, 5000).left_lanes).collect();
    assert!(left.iter().sum::<u64>() > 30, "{left:?}");
    let fenced = Faults { end: 0, ..ENDS };
    let left: Vec<u64> = (0..12).map(|seed| run(seed, fenced, 2, 5000).left_lanes).collect();
    assert!(left.iter().sum::<u64>() > 3, "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn without_faults_nothing_is_read_again(seed in any::<u64>(), shards in 1u32..4) {
        run(seed, Faults::default(), shards, 1500);
    }

    #[test]
    fn delivery_is_exact_while_connections_come_and_go(seed in any::<u64>(), shards in 1u32..4) {
        run(seed, Faults { close: 3, ..Faults::default() }, shards, 3000);
    }

    #[test]
    fn delivery_is_exact_under_every_fault(seed in any::<u64>(), shards in 1u32..4) {
        run(seed, EVERY, shards, 3000);
    }

    /// LOG-1: who asks for records gets what is pushed to others, in the same order, and nothing is skipped.
    #[test]
    fn what_is_asked_for_is_exact_under_every_fault(seed in any::<u64>(), shards in 1u32..4, policy in 1usize..4) {
        run_as(Fetch::ALL[policy], seed, EVERY, shards, 3000);
        run_as(Fetch::ALL[policy], seed, ENDS, shards, 3000);
    }

    /// LOG-3, LOG-7: shards end under the writer and the subscription, and primaries stay away until lanes are fenced.
    #[test]
    fn delivery_is_exact_while_shards_end_and_lanes_are_left(seed in any::<u64>(), shards in 1u32..4) {
        run(seed, ENDS, shards, 5000);
    }
}
