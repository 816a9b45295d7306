//! A shard ends: what was committed stays, the rest is let go, and any replica tells a writer which of its batches are
//! in. Or a writer leaves a lane that lives on, behind a fence. Invariants LOG-3, LOG-7.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::batch::{BatchBuilder, BatchKind, FENCE_SEQ};
use zoolog_core::wal::WalSource;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

const W: u128 = 41;

/// Finalizes the shard; the nodes `told` hear of it at once.
fn finalize(world: &mut World, shard: u32, told: &[usize]) {
    let out = world.orderer.finalize(shard, |s| told.iter().any(|&n| slot_id(n) == s));
    world.take_from_orderer(out);
}

fn restart(world: &mut World, n: usize) {
    if world.nodes[n].slot.is_some() {
        world.crash(n);
    }
    world.start(n);
    world.run(1500);
}

/// What node `n` has of shard 1, which must be all that is committed and nothing else.
fn committed(world: &mut World, n: usize) -> Vec<Placed> {
    let tail = world.orderer.tail;
    let (all, covers, end) = world.read(n, 1, Gsn(0), tail, 700);
    assert_eq!((covers, end), (tail, ReadEnd::Complete), "node {n}: {}", world.status(n));
    let held: u64 = all.iter().map(|(_, b)| u64::from(b.batch.count())).sum();
    assert_eq!(held, (0..2).map(|i| world.orderer.len(lane(1, i))).sum::<u64>(), "node {n}");
    all
}

/// The figures that the node reported last, before it was asked for more.
fn lane_status(world: &World, n: usize, lane: LaneId) -> (String, [u64; 3]) {
    let status = world.status(n);
    let at = status.find(&format!("\"lane\":\"{lane}\"")).expect("the lane");
    let of = &status[at..at + status[at..].find('}').expect("its end")];
    let field = |name: &str| {
        let from = of.find(&format!("\"{name}\":")).expect("the field") + name.len() + 3;
        of[from..].chars().take_while(|c| !",}".contains(*c)).collect::<String>()
    };
    let state = field("state").trim_matches('"').to_owned();
    (state, ["accepted", "durable", "committed"].map(|f| field(f).parse().expect("a number")))
}

fn taken(acks: &[(Seq, Gsn)]) -> Vec<u64> {
    acks.iter().map(|a| a.0.0).collect()
}

/// Batches committed and acknowledged, before anything happens.
fn write(world: &mut World, index: u8, writer: u128, seqs: std::ops::Range<u64>) -> Vec<(Seq, Gsn)> {
    let c = world.client(usize::from(index));
    let n = seqs.end - seqs.start;
    for seq in seqs {
        world.send(c, append(lane(1, index), &batch(writer, seq, 2, 120)));
        world.settle();
    }
    let acks = world.clients[c].acks();
    assert_eq!(acks.len() as u64, n);
    acks
}

/// However far batches had come that no cut took, to disk, to the backup or nowhere: they are let go, their writers
/// are told, and what was committed is all there is, through restarts of any replica at any time.
#[test]
fn what_is_not_committed_is_let_go_wherever_it_was() {
    let mut refused_early = 0;
    for (k, bounds) in (0..48usize).flat_map(|k| [(k, Bounds::default()), (k, tiny())]) {
        let mut world = World::ready(k as u64, &[&[0, 1]], &bounds);
        let acks = write(&mut world, 0, W, 0..3);
        write(&mut world, 1, W + 1, 0..2);
        let sub = world.client(1);
        world.send(sub, encode(Subscribe { shard: ShardId(1), from: vec![Lsn(0), Lsn(0)], credit: 1 << 20 }));
        world.settle();
        world.orderer.auto = false;
        let writers = [world.client(0), world.client(1)];
        for (i, &c) in writers.iter().enumerate() {
            for seq in 3..7 {
                let b = batch(W + i as u128, if i == 0 { seq } else { seq - 1 }, 2, 300);
                world.send(c, append(lane(1, i as u8), &b));
            }
        }
        for _ in 0..k {
            let actions = world.actions();
            let i = world.rng.below(actions.len().max(1) as u64) as usize;
            if let Some(&action) = actions.get(i) {
                world.act(action);
            }
        }
        finalize(&mut world, 1, &[0, 1]);
        world.settle();
        let lens = world.orderer.final_lens(1).unwrap().to_vec();
        for (i, &c) in writers.iter().enumerate() {
            let first = if i == 0 { 3 } else { 2 };
            let told = world.clients[c].append_refusals();
            assert!(!told.is_empty(), "round {k}: the writer of lane {i} waits for ever");
            assert!(told.iter().all(|(seq, why, _)| seq.0 >= first && *why == AppendRefusedWhy::Closed));
            refused_early += usize::from(told[0].0 == Seq(first) && told.len() == 1);
        }
        for round in 0..4 {
            match round {
                0 => {}
                3 => [0, 1].into_iter().for_each(|n| restart(&mut world, n)),
                n => restart(&mut world, n - 1),
            }
            for n in 0..2 {
                for i in 0..2u8 {
                    let len = lens[usize::from(i)];
                    assert_eq!(
                        lane_status(&world, n, lane(1, i)),
                        ("finalized".into(), [len; 3]),
                        "round {k}"
                    );
                }
                committed(&mut world, n);
                let got = world.resolve(n, lane(1, 0), W, Seq(0));
                assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks), "round {k}, restarts {round}");
                let fresh = world.client(n);
                let from = vec![Lsn(0), Lsn(0)];
                world.send(fresh, encode(Subscribe { shard: ShardId(1), from, credit: 1 << 20 }));
                world.run(10);
                let pushed = world.clients[fresh].inbox.drain(..).flat_map(|p| batches(p.payload));
                let mut ends = [0; 2];
                pushed.for_each(|b| ends[usize::from(b.placement.lane.index())] = b.end_lsn().0);
                assert_eq!(ends[..], lens[..], "round {k}: pushed to the end and no further");
            }
        }
        // Whoever comes yet is told that it is over.
        let c = world.client(0);
        world.send(c, append(lane(1, 0), &batch(W, 3, 2, 300)));
        world.settle();
        assert_eq!(world.clients[c].append_refusals(), [(Seq(3), AppendRefusedWhy::Closed, Seq(3))]);
    }
    assert!(refused_early > 0, "batches were taken before the end came");
}

/// One replica hears of the end long before the other. Nothing that the other still takes is acknowledged, read as
/// committed, or there afterwards.
#[test]
fn a_replica_that_has_not_heard_of_the_end_gets_nothing_committed() {
    for (knows, restarts) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut world = World::ready(7, &[&[0, 1]], &tiny());
        let acks = write(&mut world, 0, W, 0..3);
        write(&mut world, 1, W + 1, 0..3);
        finalize(&mut world, 1, &[knows]);
        world.settle();
        let c: Vec<usize> = (0..2).map(|n| world.client(n)).collect();
        for seq in 3..9 {
            (0..2).for_each(|n| {
                world.send(c[n], append(lane(1, n as u8), &batch(W + n as u128, seq, 2, 200)));
            });
            world.settle();
        }
        world.run(2500);
        let other = 1 - knows;
        let (state, [accepted, ..]) = lane_status(&world, other, lane(1, other as u8));
        assert_eq!((state.as_str(), accepted), ("serving", 18), "it takes them, as it knows no better");
        assert!(world.clients[c[other]].inbox.is_empty(), "no answer is right");
        assert_eq!(world.clients[c[knows]].append_refusals().len(), 1);
        let got = world.resolve(knows, lane(1, other as u8), W + other as u128, Seq(0));
        assert_eq!((got.end, got.acks.len()), (ResolveEnd::Final, 3));
        let got = world.resolve(other, lane(1, other as u8), W + other as u128, Seq(0));
        assert_eq!(got.end, ResolveEnd::Open, "nothing is final for who doesn't know");
        if restarts {
            restart(&mut world, other);
        } else {
            let out = world.orderer.view_again(|s| s == slot_id(other));
            world.take_from_orderer(out);
            world.settle();
            let told = world.clients[c[other]].append_refusals();
            assert_eq!(told, [(Seq(3), AppendRefusedWhy::Closed, Seq(3))]);
        }
        assert_eq!(committed(&mut world, 0), committed(&mut world, 1));
        for n in 0..2 {
            assert_eq!(world.resolve(n, lane(1, 0), W, Seq(1)).acks, acks[1..]);
        }
    }
}

/// The end is known before the last parts are: nothing is told about the writers until they are.
#[test]
fn a_replica_that_lacks_the_last_parts_is_not_asked_in_vain() {
    for n in 0..2 {
        let mut world = World::ready(3, &[&[0, 1]], &Bounds::default());
        let mut acks = write(&mut world, 0, W, 0..2);
        world.orderer.auto = false;
        let c = world.client(0);
        world.send(c, append(lane(1, 0), &batch(W, 2, 2, 120)));
        world.settle();
        world.orderer.skip = Some(slot_id(n));
        world.cut();
        world.settle();
        finalize(&mut world, 1, &[0, 1]);
        world.settle();
        let got = world.resolve(n, lane(1, 0), W, Seq(0));
        assert_eq!((got.end, got.acks.len()), (ResolveEnd::NotReady, 0));
        let tail = world.orderer.tail;
        let (.., end) = world.read(n, 1, Gsn(0), tail, 1 << 20);
        assert_eq!(end, ReadEnd::NotYet);
        acks.push((Seq(2), Gsn(4)));
        assert_eq!(world.resolve(1 - n, lane(1, 0), W, Seq(0)).acks, acks);
        // It registers again, for whatever reason, and is given what it lacks.
        let leader = (0..world.links.len()).rev().find(|&l| {
            let link = &world.links[l];
            !link.dead && link.ends[1] == End::Orderer && matches!(link.ends[0], End::Node(m, _) if m == n)
        });
        world.cut_link(leader.expect("its leader"));
        world.run(1000);
        let got = world.resolve(n, lane(1, 0), W, Seq(0));
        assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks));
        committed(&mut world, n);
        let told = world.clients[c].acks();
        assert_eq!(told, [(Seq(2), Gsn(4))], "node {n}: its primary acknowledges what was in");
    }
}

/// Batches beyond the end lie in the log, before and behind a checkpoint that a finalized replica wrote.
#[test]
fn a_checkpoint_of_a_finalized_replica_and_what_lies_beyond_it_agree() {
    let mut rolled = 0;
    for (extra, more) in [(1, 0), (6, 30), (20, 60), (60, 60), (120, 0), (0, 90)] {
        let mut world = World::ready(11, &[&[0, 1], &[1, 0]], &tiny());
        let acks = write(&mut world, 0, W, 0..20);
        world.orderer.auto = false;
        let c = world.client(0);
        (20..20 + extra).for_each(|seq| world.send(c, append(lane(1, 0), &batch(W, seq, 2, 200))));
        world.settle();
        finalize(&mut world, 1, &[0, 1]);
        world.settle();
        world.orderer.auto = true;
        let before = [world.nodes[0].rolls, world.nodes[1].rolls];
        let other = world.client(1);
        for seq in 0..more {
            world.send(other, append(lane(2, 0), &batch(W + 9, seq, 2, 200)));
            world.settle();
        }
        rolled += (0..2).filter(|&n| world.nodes[n].rolls > before[n]).count();
        for round in 0..3 {
            for n in 0..2 {
                assert_eq!(
                    lane_status(&world, n, lane(1, 0)),
                    ("finalized".into(), [40; 3]),
                    "{extra}, {more}"
                );
                committed(&mut world, n);
                let got = world.resolve(n, lane(1, 0), W, Seq(0));
                assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks), "{extra}, {more}, {round}");
            }
            if round < 2 {
                (0..2).for_each(|n| restart(&mut world, n));
            }
        }
        world.send(other, append(lane(2, 0), &batch(W + 9, more, 2, 200)));
    }
    assert!(rolled > 4, "checkpoints were written meanwhile");
}

/// LOG-3: positions are kept when their parts go, and a fence never counts as a batch.
#[test]
fn a_writer_is_told_the_same_after_trims_and_restarts() {
    for (live, trim) in [(false, 7), (false, 40), (true, 40), (true, 25)] {
        let mut world = World::ready(13, &[&[0, 1], &[1, 0]], &tiny());
        let acks = write(&mut world, 0, W, 0..20);
        if live {
            world.fence(0, lane(1, 0), W);
            world.settle();
        } else {
            finalize(&mut world, 1, &[0, 1]);
            world.settle();
        }
        for step in 0..4 {
            match step {
                1 => world.trim(Gsn(trim)),
                2 => {
                    // Enough for new segments, with checkpoints that know of the trim; and then some.
                    let c = world.client(1);
                    for seq in 0..120 {
                        world.send(c, append(lane(2, 0), &batch(W + 9, seq, 2, 200)));
                        world.settle();
                    }
                }
                3 => (0..2).for_each(|n| restart(&mut world, n)),
                _ => {}
            }
            for n in 0..2 {
                for from in [0, 5, 19, 20] {
                    let got = world.resolve(n, lane(1, 0), W, Seq(from));
                    assert_eq!(got.end, ResolveEnd::Final, "{live}, {trim}, {step}: node {n}");
                    assert_eq!(got.acks, acks[from as usize..], "{live}, {trim}, {step}: node {n}");
                }
                let got = world.resolve(n, lane(1, 1), W, Seq(0));
                let end = if live { ResolveEnd::Open } else { ResolveEnd::Final };
                assert_eq!((got.end, got.acks.len()), (end, 0), "it was never there");
            }
        }
    }
}

/// LOG-3: windows that a checkpoint holds know their positions, also when a trim mark behind that checkpoint says that
/// the parts are gone.
#[test]
fn positions_whose_parts_were_trimmed_behind_a_checkpoint_are_known() {
    let mut world = World::ready(17, &[&[0, 1]], &tiny());
    let acks = write(&mut world, 0, W, 0..200);
    let (rolls, mut seq) = (world.nodes[1].rolls, 0);
    while world.nodes[1].rolls == rolls {
        write(&mut world, 1, W + 1, seq..seq + 1);
        seq += 1;
    }
    world.trim(Gsn(390));
    write(&mut world, 1, W + 1, seq..seq + 1);
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    assert!(world.nodes[1].released > 1, "the trim is marked, and segments are gone");
    for restarts in 0..3 {
        let got = world.resolve(1, lane(1, 0), W, Seq(0));
        assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks), "after {restarts} restarts");
        restart(&mut world, 1);
    }
}

/// A table of writers that is full forgets the idle ones, and says so.
#[test]
fn what_was_forgotten_is_called_so_and_never_denied() {
    let bounds = Bounds { writers: 8, ..Bounds::default() };
    let mut world = World::ready(19, &[&[0, 1]], &bounds);
    for w in 0..20 {
        write(&mut world, 0, 100 + w, 0..2);
    }
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    for round in 0..2 {
        for n in 0..2 {
            let ends: Vec<_> = (0..20).map(|w| world.resolve(n, lane(1, 0), 100 + w, Seq(0))).collect();
            for (w, got) in ends.iter().enumerate() {
                match got.end {
                    ResolveEnd::Forgotten => assert!(w < 16, "node {n}: {w} is one of the newest"),
                    ResolveEnd::Final => assert_eq!(taken(&got.acks), [0, 1], "node {n}, writer {w}"),
                    other => panic!("node {n}: {other:?}"),
                }
            }
            assert!(ends.iter().filter(|g| g.end == ResolveEnd::Forgotten).count() >= 8, "round {round}");
            // One that was never there might as well have been forgotten.
            assert_eq!(world.resolve(n, lane(1, 0), 9, Seq(0)).end, ResolveEnd::Forgotten);
            // In the other lane nobody was.
            assert_eq!(world.resolve(n, lane(1, 1), 9, Seq(0)).end, ResolveEnd::Final);
            restart(&mut world, n);
        }
    }
}

/// A writer that was elsewhere before has no number 0 here.
#[test]
fn a_writer_that_moved_in_is_told_what_it_has_here() {
    let mut world = World::ready(23, &[&[0, 1]], &Bounds::default());
    let c = world.client(0);
    for seq in 70..74 {
        let b = batch(W, seq, 1, 20);
        world.send(c, encode_with(Append { lane: lane(1, 0), start: Seq(70), prompt: true }, &[b.bytes()]));
    }
    world.settle();
    let acks = world.clients[c].acks();
    assert_eq!(taken(&acks), [70, 71, 72, 73]);
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    for n in [0, 1, 0, 1] {
        assert_eq!(world.resolve(n, lane(1, 0), W, Seq(70)).acks, acks);
        assert_eq!(world.resolve(n, lane(1, 0), W, Seq(72)).acks, acks[2..]);
        let unknown = world.resolve(n, lane(1, 0), W + 1, Seq(70));
        assert_eq!((unknown.end, unknown.acks.len()), (ResolveEnd::Final, 0));
        let elsewhere = world.resolve(n, lane(5, 0), W, Seq(70));
        assert_eq!(elsewhere.end, ResolveEnd::NotReady, "no such shard is here");
        assert_eq!(world.resolve(n, lane(1, 7), W, Seq(70)).end, ResolveEnd::NotReady, "nor such a lane");
        restart(&mut world, n);
    }
}

/// A fence ends a writer's use of a lane that lives on: sent to the primary or to a backup, once or more often.
/// It is never acknowledged, and found again after a restart.
#[test]
fn a_fence_closes_the_lane_for_its_writer_alone() {
    for (through, times) in [(0, 1), (1, 1), (0, 3), (1, 2)] {
        let mut world = World::ready(29, &[&[0, 1]], &tiny());
        let acks = write(&mut world, 0, W, 0..3);
        assert_eq!(world.resolve(1, lane(1, 0), W, Seq(0)).end, ResolveEnd::Open);
        let c = world.client(0);
        world.send(c, append(lane(1, 0), &batch(W, 0, 2, 120)));
        world.settle();
        assert_eq!(taken(&world.clients[c].acks()), [0], "the connection is known");
        world.orderer.auto = false;
        let before = world.orderer.tail;
        (0..times).for_each(|_| {
            world.fence(through, lane(1, 0), W);
            world.settle();
        });
        for n in 0..2 {
            let got = world.resolve(n, lane(1, 0), W, Seq(0));
            assert_eq!(got.end, ResolveEnd::Open, "the fence is not committed");
        }
        world.send(c, append(lane(1, 0), &batch(W, 3, 2, 120)));
        world.settle();
        let told = world.clients[c].append_refusals();
        assert_eq!(told, [(Seq(3), AppendRefusedWhy::Closed, FENCE_SEQ.next())]);
        world.orderer.auto = true;
        world.settle();
        assert_eq!(world.orderer.tail, before.plus(1), "one fence, of one record, whatever is sent");
        assert!(world.clients[c].inbox.is_empty(), "a fence is not acknowledged");
        for round in 0..3 {
            for n in 0..2 {
                let got = world.resolve(n, lane(1, 0), W, Seq(0));
                assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks), "{through}, {round}, node {n}");
                let got = world.resolve(n, lane(1, 0), W, Seq(3));
                assert_eq!((got.end, got.acks.len()), (ResolveEnd::Final, 0));
            }
            let c = world.client(0);
            world.send(c, append(lane(1, 0), &batch(W, 3, 2, 120)));
            world.send(c, append(lane(1, 0), &batch(W, 1, 2, 120)));
            world.fence(1 - through, lane(1, 0), W);
            world.settle();
            let (mut closed, mut known) = (0, 0);
            for p in std::mem::take(&mut world.clients[c].inbox) {
                match p.message {
                    Message::AppendRefused(m) => {
                        assert_eq!((m.seq, m.why), (Seq(3), AppendRefusedWhy::Closed));
                        closed += 1;
                    }
                    Message::Appended(m) => {
                        assert_eq!(m.acks, [acks[1]]);
                        known += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((closed, known, world.orderer.tail), (1, 1, before.plus(1)));
            if round < 2 {
                restart(&mut world, round);
                world.run(1000);
            }
        }
        write(&mut world, 0, W + 7, 0..2);
        let kinds =
            committed(&mut world, 1).iter().filter(|(_, b)| b.batch.kind() == BatchKind::Fence).count();
        assert_eq!(kinds, 1);
    }
}

/// Batches under way when the fence comes are before it or nowhere.
#[test]
fn what_races_with_a_fence_is_before_it_or_refused() {
    for seed in 0..60 {
        let mut world = World::ready(seed, &[&[0, 1]], &tiny());
        let c = world.client(0);
        world.orderer.auto = false;
        for seq in 0..6 {
            world.send(c, append(lane(1, 0), &batch(W, seq, 1, 30)));
        }
        world.fence((seed % 2) as usize, lane(1, 0), W);
        for _ in 0..400 {
            let actions = world.actions();
            let i = world.rng.below(actions.len().max(1) as u64) as usize;
            match actions.get(i) {
                Some(&action) => world.act(action),
                None => world.cut(),
            }
        }
        world.orderer.auto = true;
        world.settle();
        let got = world.resolve(1, lane(1, 0), W, Seq(0));
        assert_eq!(got.end, ResolveEnd::Final, "seed {seed}");
        let all = committed(&mut world, 0);
        let seqs: Vec<u64> = all.iter().map(|(_, b)| b.batch.seq().0).collect();
        let n = got.acks.len() as u64;
        assert_eq!(
            seqs,
            (0..n).chain([FENCE_SEQ.0]).collect::<Vec<_>>(),
            "seed {seed}: the fence comes last"
        );
        let (mut acked, mut refused) = (Vec::new(), Vec::new());
        for p in std::mem::take(&mut world.clients[c].inbox) {
            match p.message {
                Message::Appended(m) => acked.extend(m.acks),
                Message::AppendRefused(m) => refused.push((m.seq.0, m.why)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acked, got.acks, "seed {seed}");
        assert!(
            refused.iter().all(|r| r.0 >= n && r.1 == AppendRefusedWhy::Closed),
            "seed {seed}: {refused:?}"
        );
    }
}

#[test]
fn a_fence_of_a_writer_that_was_never_there_says_that_nothing_of_it_is() {
    let mut world = World::ready(31, &[&[0, 1]], &Bounds::default());
    world.fence(1, lane(1, 0), W);
    world.settle();
    for n in [0, 1, 0, 1] {
        let got = world.resolve(n, lane(1, 0), W, Seq(4));
        assert_eq!((got.end, got.acks.len()), (ResolveEnd::Final, 0));
        let c = world.client(0);
        for (seq, start) in [(4, 4), (13, 13)] {
            let b = batch(W, seq, 1, 20);
            let m = Append { lane: lane(1, 0), start: Seq(start), prompt: true };
            world.send(c, encode_with(m, &[b.bytes()]));
            world.settle();
            let told = world.clients[c].append_refusals();
            assert!(told.iter().all(|t| t.1 == AppendRefusedWhy::Closed), "{told:?}");
        }
        restart(&mut world, n);
        world.run(1000);
    }
    assert_eq!(world.orderer.tail, Gsn(1));
}

#[test]
fn a_fence_comes_too_late_for_a_lane_that_has_ended() {
    let mut world = World::ready(37, &[&[0, 1]], &Bounds::default());
    let acks = write(&mut world, 0, W, 0..3);
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    let tail = world.orderer.tail;
    (0..2).for_each(|n| world.fence(n, lane(1, 0), W));
    world.run(500);
    assert_eq!(world.orderer.tail, tail);
    for n in 0..2 {
        assert_eq!(lane_status(&world, n, lane(1, 0)).1, [6; 3]);
        assert_eq!(world.resolve(n, lane(1, 0), W, Seq(0)).acks, acks);
    }
}

/// LOG-3: a fence takes nobody's place in the window: of a full one the oldest batch is still known.
#[test]
fn a_fence_behind_a_full_window_leaves_all_of_it_known() {
    let n = limits::WRITER_WINDOW;
    let mut world = World::ready(43, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let c = world.client(0);
    (0..n).for_each(|seq| world.send(c, append(lane(1, 0), &batch(W, seq, 1, 1))));
    world.settle();
    world.fence(1, lane(1, 0), W);
    world.settle();
    world.orderer.auto = true;
    world.settle();
    assert_eq!(world.clients[c].acks().len() as u64, n);
    for round in 0..2 {
        for node in 0..2 {
            let got = world.resolve(node, lane(1, 0), W, Seq(0));
            assert_eq!(
                (got.end, got.acks.len() as u64),
                (ResolveEnd::Final, n),
                "round {round}, node {node}"
            );
        }
        (0..2).for_each(|n| restart(&mut world, n));
    }
}

/// A connection over which a lane was refused carries the batches for another lane of the same slot.
#[test]
fn a_refusal_in_one_lane_says_nothing_about_another() {
    let mut world = World::ready(47, &[&[0, 1], &[0, 1]], &Bounds::default());
    let c = world.client(0);
    (0..3).for_each(|seq| world.send(c, append(lane(1, 0), &batch(W, seq, 1, 20))));
    world.settle();
    assert_eq!(world.clients[c].acks().len(), 3);
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    // It lost its connection and sends all again that it has no answer for: refused, though it is in.
    let c = world.client(0);
    (1..3).for_each(|seq| world.send(c, append(lane(1, 0), &batch(W, seq, 1, 20))));
    world.settle();
    assert_eq!(world.clients[c].append_refusals()[0], (Seq(1), AppendRefusedWhy::Closed, Seq(1)));
    let got = world.resolve(1, lane(1, 0), W, Seq(1));
    assert_eq!(taken(&got.acks), [1, 2]);
    for seq in 3..6 {
        let b = batch(W, seq, 1, 20);
        world.send(c, encode_with(Append { lane: lane(2, 0), start: Seq(3), prompt: true }, &[b.bytes()]));
    }
    world.settle();
    assert_eq!(taken(&world.clients[c].acks()), [3, 4, 5]);
}

/// What a slot has to write with its next batch is bounded, however long that takes to come.
#[test]
fn views_that_nobody_writes_down_do_not_pile_up() {
    let mut world = World::ready(53, &[&[0, 1], &[0, 1]], &Bounds::default());
    for _ in 0..50 {
        world.orderer.view.number = world.orderer.view.number.next();
        let out = world.orderer.view_again(|_| true);
        world.take_from_orderer(out);
        world.settle();
    }
    finalize(&mut world, 2, &[0, 1]);
    world.settle();
    world.nodes[0].persists.clear();
    write(&mut world, 0, W, 0..1);
    assert_eq!(world.nodes[0].persists[0], 2, "one view and one batch");
    restart(&mut world, 0);
    assert_eq!(lane_status(&world, 0, lane(2, 0)).0, "finalized");
}

/// A shard that leaves the view is gone: from memory, from disk, and after a restart.
#[test]
fn a_shard_that_leaves_the_view_is_gone_for_good() {
    for idle in [false, true] {
        let mut world = World::ready(59, &[&[0, 1], &[1, 0]], &tiny());
        write(&mut world, 0, W, 0..150);
        let sub = world.client(0);
        world.send(sub, encode(Subscribe { shard: ShardId(1), from: vec![Lsn(0), Lsn(0)], credit: 1 << 20 }));
        finalize(&mut world, 1, &[0, 1]);
        world.settle();
        world.trim(world.orderer.tail);
        let before = world.nodes[0].disk.segments().unwrap().len();
        let out = world.orderer.drop_shard(1);
        world.take_from_orderer(out);
        world.settle();
        let c = world.client(1);
        if !idle {
            for seq in 0..120 {
                world.send(c, append(lane(2, 0), &batch(W + 9, seq, 2, 150)));
                world.settle();
            }
            for n in 0..2 {
                let left = world.nodes[n].disk.segments().unwrap();
                assert!(left[0].0 > 3, "node {n}: {left:?}, there were {before}");
            }
        }
        for round in 0..3 {
            for n in 0..2 {
                assert!(!world.status(n).contains("\"lane\":\"1/"), "round {round}: {}", world.status(n));
                assert_eq!(world.resolve(n, lane(1, 0), W, Seq(0)).end, ResolveEnd::NotReady);
                world.fence(n, lane(1, 0), W);
                let c = world.client(n);
                world.send(c, append(lane(1, n as u8), &batch(W, 150, 2, 150)));
                world.settle();
                let told = world.clients[c].append_refusals();
                assert_eq!(told, [(Seq(150), AppendRefusedWhy::NotPrimary, Seq(150))]);
            }
            (0..2).for_each(|n| restart(&mut world, n));
        }
        let c = world.client(1);
        for seq in if idle { 0..5 } else { 120..125 } {
            world.send(c, append(lane(2, 0), &batch(W + 9, seq, 2, 150)));
        }
        world.settle();
        assert_eq!(world.clients[c].acks().len(), 5, "the other shard goes on");
    }
}

/// A replica that can't be relied on says so, until it has back what it lost.
#[test]
fn nothing_is_resolved_by_a_replica_that_lost_what_is_committed() {
    let mut world = World::ready(67, &[&[0, 1]], &Bounds::default());
    write(&mut world, 0, W, 0..2);
    world.crash(1);
    let old = world.nodes[1].disk.clone();
    world.start(1);
    world.run(1500);
    let acks = write(&mut world, 0, W, 2..6);
    finalize(&mut world, 1, &[0, 1]);
    world.settle();
    (0..2).for_each(|n| world.crash(n));
    world.nodes[1].disk = old;
    world.orderer.forget(slot_id(1));
    world.start(1);
    world.run(1500);
    assert_eq!(lane_status(&world, 1, lane(1, 0)).0, "mending");
    assert_eq!(world.resolve(1, lane(1, 0), W, Seq(2)).end, ResolveEnd::NotReady);
    world.start(0);
    world.run(3000);
    assert_eq!(lane_status(&world, 1, lane(1, 0)).0, "finalized");
    assert_eq!(world.resolve(1, lane(1, 0), W, Seq(2)).acks, acks);
    assert_eq!(world.resolve(0, lane(1, 0), W, Seq(2)).acks, acks);
}

/// The writer's next opening may use a lane that the last one has fenced. What comes late of that one is refused.
#[test]
fn a_fenced_lane_is_open_for_the_writers_next_opening() {
    let of = |epoch: u32, kind: BatchKind, seq: u64| {
        let mut b = BatchBuilder::new();
        b.push(&seq.to_le_bytes());
        b.finish(kind, WriterId(W), Epoch(epoch), Seq(seq))
    };
    let data = |epoch, start, seq| append_from(lane(1, 0), start, &of(epoch, BatchKind::Data, seq));
    let fence_of = |epoch| {
        let fence = of(epoch, BatchKind::Fence, FENCE_SEQ.0);
        encode_with(Fence { lane: lane(1, 0) }, &[fence.bytes()])
    };
    let ask = |world: &mut World, n: usize, epoch, from| {
        let c = world.client(n);
        let (writer, from) = (WriterId(W), Seq(from));
        world.send(c, encode(Resolve { request: 7, lane: lane(1, 0), writer, epoch: Epoch(epoch), from }));
        world.settle();
        match world.clients[c].inbox.pop().expect("an answer").message {
            Message::Resolved(m) => (m.end, taken(&m.acks)),
            other => panic!("{other:?}"),
        }
    };
    for restarts in [false, true] {
        let mut world = World::ready(71, &[&[0, 1]], &tiny());
        let again = |world: &mut World| {
            if restarts {
                (0..2).for_each(|n| restart(world, n));
                world.run(1000);
            }
        };
        let c = world.client(0);
        (0..3).for_each(|seq| world.send(c, data(0, 0, seq)));
        world.send(c, fence_of(0));
        world.settle();
        assert_eq!(taken(&world.clients[c].acks()), [0, 1, 2]);
        again(&mut world);
        assert_eq!(ask(&mut world, 1, 0, 0), (ResolveEnd::Final, vec![0, 1, 2]));
        assert_eq!(ask(&mut world, 1, 1, 3), (ResolveEnd::Open, vec![]), "the next has yet to come");
        let c = world.client(0);
        (3..5).for_each(|seq| world.send(c, data(1, 3, seq)));
        world.settle();
        assert_eq!(taken(&world.clients[c].acks()), [3, 4]);
        again(&mut world);
        let late = world.client(0);
        world.send(late, data(0, 0, 3));
        world.send(late, fence_of(0));
        world.settle();
        assert_eq!(world.clients[late].append_refusals()[0].1, AppendRefusedWhy::Closed);
        for n in 0..2 {
            assert_eq!(ask(&mut world, n, 1, 3), (ResolveEnd::Open, vec![]), "an old fence closes nothing");
        }
        world.send(late, fence_of(1));
        world.settle();
        again(&mut world);
        for n in 0..2 {
            assert_eq!(ask(&mut world, n, 1, 3), (ResolveEnd::Final, vec![3, 4]));
            assert_eq!(
                ask(&mut world, n, 0, 0).0,
                ResolveEnd::Forgotten,
                "of the one before nobody asks any more"
            );
        }
        finalize(&mut world, 1, &[0, 1]);
        world.settle();
        for n in 0..2 {
            assert_eq!(ask(&mut world, n, 1, 4), (ResolveEnd::Final, vec![4]));
            assert_eq!(ask(&mut world, n, 2, 5), (ResolveEnd::Final, vec![]), "a third was never there");
        }
    }
}

/// SYS-1: a number is the sender's to choose; none makes a slot panic, or forget what it knows of the writer.
#[test]
fn a_batch_with_an_absurd_number_harms_nobody() {
    let of = |kind, seq| {
        let mut b = BatchBuilder::new();
        b.push(b"x");
        b.finish(kind, WriterId(W), Epoch(0), Seq(seq))
    };
    let mut world = World::ready(73, &[&[0, 1]], &tiny());
    let acks = write(&mut world, 0, W, 0..3);
    let tail = world.orderer.tail;
    for number in [0, 1, 3, 9, u64::MAX - 2, u64::MAX - 1, u64::MAX] {
        let c = world.client(0);
        let in_place = number < FENCE_SEQ.0;
        if !in_place {
            world.send(c, append_from(lane(1, 0), number, &of(BatchKind::Data, number)));
        }
        world.send(c, append_from(lane(1, 0), number, &of(BatchKind::Fence, number)));
        world.settle();
        let told = world.clients[c].append_refusals();
        let bad = |n: usize| vec![(Seq(0), AppendRefusedWhy::Malformed, Seq(0)); n];
        if number == FENCE_SEQ.0 {
            continue; // as good as one that comes as such
        }
        assert_eq!(told, bad(if in_place { 1 } else { 2 }), "number {number}");
        let c = world.client(1);
        world.send(c, encode_with(Fence { lane: lane(1, 0) }, &[of(BatchKind::Fence, number).bytes()]));
        world.settle();
        assert_eq!(world.clients[c].refused(), Some(RefusedWhy::Invalid), "number {number}");
    }
    assert!(world.orderer.tail <= tail.plus(1), "at most the one that is a fence");
    for round in 0..3 {
        for n in 0..2 {
            let got = world.resolve(n, lane(1, 0), W, Seq(0));
            assert_eq!((got.end, &got.acks), (ResolveEnd::Final, &acks), "round {round}, node {n}");
            restart(&mut world, n);
        }
    }
}

/// A writer without a name goes on in its next opening when every lane was closed for the one before. Each lane says which it
/// has seen last, so that who asks from outside asks for that.
#[test]
fn a_lane_says_which_opening_of_a_writer_it_has_seen_last() {
    let of = |epoch: u32, seq: u64| {
        let mut b = BatchBuilder::new();
        b.push(b"anonymous");
        b.finish(BatchKind::Data, WriterId(W), Epoch(epoch), Seq(seq))
    };
    let fence_of = |epoch: u32| {
        let mut b = BatchBuilder::new();
        b.push(b"");
        let fence = b.finish(BatchKind::Fence, WriterId(W), Epoch(epoch), FENCE_SEQ);
        encode_with(Fence { lane: lane(1, 0) }, &[fence.bytes()])
    };
    let mut world = World::ready(31, &[&[0, 1]], &tiny());
    assert_eq!(world.resolve(0, lane(1, 0), W, Seq(0)).newest, None);
    let c = world.client(0);
    world.send(c, append_from(lane(1, 0), 0, &of(0, 0)));
    world.send(c, fence_of(0));
    world.settle();
    let at = |world: &mut World, epoch: u32, from: u64| {
        let c = world.client(1);
        let (writer, epoch, from) = (WriterId(W), Epoch(epoch), Seq(from));
        world.send(c, encode(Resolve { request: 7, lane: lane(1, 0), writer, epoch, from }));
        world.settle();
        let packet = world.clients[c].inbox.pop().expect("an answer");
        let Message::Resolved(m) = packet.message else { panic!("{:?}", packet.message) };
        (m.end, m.acks.iter().map(|a| a.0.0).collect::<Vec<_>>(), m.newest)
    };
    assert_eq!(at(&mut world, 0, 0), (ResolveEnd::Final, vec![0], Some(Epoch(0))));
    world.send(c, append_from(lane(1, 0), 1, &of(1, 1)));
    world.send(c, append_from(lane(1, 0), 1, &of(1, 2)));
    world.settle();
    for restarted in [false, true] {
        if restarted {
            restart(&mut world, 1);
        }
        assert_eq!(at(&mut world, 0, 0), (ResolveEnd::Forgotten, vec![], Some(Epoch(1))), "its first");
        assert_eq!(at(&mut world, 1, 0), (ResolveEnd::Open, vec![], Some(Epoch(1))));
    }
    world.fence(0, lane(1, 0), W); // of the first, which is closed: nothing comes of it
    let c = world.client(0);
    world.send(c, fence_of(1));
    world.settle();
    assert_eq!(at(&mut world, 1, 1), (ResolveEnd::Final, vec![1, 2], Some(Epoch(1))));
}
