//! Does all of it hold under random schedules? Crashes, partitions, held disks, rolls, restarted slots, and
//! at the end everything is healed and must have made progress.

use crate::model::World;
use zoolog_core::ShardId;

fn play(seed: u64) -> (u64, u64, String) {
    let mut w = World::ready(seed);
    for _ in 0..120 {
        let node = w.sim.rng.below(3) as usize;
        match w.sim.rng.below(20) {
            0 => {
                if w.sim.nodes[node].machine.is_some() {
                    w.sim.crash(node);
                }
            }
            1..=3 => {
                for i in 0..3 {
                    if w.sim.nodes[i].machine.is_none() {
                        w.sim.start(i);
                    }
                }
            }
            4 => w.sim.isolate(node),
            5 | 6 => w.sim.heal(),
            7 => w.sim.hold(node, true),
            8 | 9 => (0..3).for_each(|i| w.sim.hold(i, false)),
            10 => (0..3).for_each(|i| w.sim.roll(i)),
            11 => w.slots[node].restart(&mut w.sim),
            12 => w.slots[node].disconnect(&mut w.sim),
            _ => {
                let (shard, lane) = (w.sim.rng.below(3) as u32 + 1, w.sim.rng.below(2) as usize);
                let by = w.sim.rng.below(6);
                let slow = w.sim.rng.below(3) as usize;
                for (i, s) in w.slots.iter_mut().enumerate() {
                    // One replica may be slower: the minimum moves later.
                    if i != slow || by.is_multiple_of(2) {
                        s.grow(ShardId(shard), lane, by);
                    }
                }
                w.report_all();
            }
        }
        if w.sim.rng.chance(30) {
            let World { watchers, sim, truth, .. } = &mut w;
            watchers.iter_mut().for_each(|x| x.ask_tail(sim, truth));
        }
        let ms = w.sim.rng.below(60);
        w.run_ms(ms);
    }
    w.sim.heal();
    for i in 0..3 {
        w.sim.hold(i, false);
        if w.sim.nodes[i].machine.is_none() {
            w.sim.start(i);
        }
    }
    w.run_ms(3000);
    w.report_all();
    let durable = w.durable();
    w.until("everything durable is committed", |w| w.truth.tail.0 == durable);
    w.run_ms(300);
    w.check_order();
    let states: Vec<_> = (0..3).map(|i| w.sim.machine(i).state().clone()).collect();
    assert!(states.windows(2).all(|s| s[0] == s[1]), "all orderers agree");
    assert!(w.slots.iter().all(|s| s.shards.values().all(|r| r.committed.iter().sum::<u64>() <= durable)));
    let frames: Vec<u64> = w.sim.nodes.iter().map(|n| n.sent_frames).collect();
    let trace = format!("{frames:?} {:?} {:?}", w.sim.now, w.truth.cuts);
    (w.truth.cuts.len() as u64, w.watchers.iter().map(|x| x.tails).sum(), trace)
}

#[test]
fn any_schedule_keeps_the_order_dense_and_ends_with_progress() {
    let (mut cuts, mut tails) = (0, 0);
    for seed in 100..130u64 {
        eprintln!("seed {seed}");
        let (c, t, _) = play(seed);
        cuts += c;
        tails += t;
    }
    assert!(cuts > 300 && tails > 100, "{cuts} cuts, {tails} tails: the schedules do too little");
}

#[test]
fn a_seed_plays_the_same_twice() {
    assert_eq!(play(7), play(7));
}
