//! Do cuts follow from reports, and only from what all replicas said in this term?

use crate::model::World;
use zoolog_core::{CutNumber, Gsn, ShardId};

#[test]
fn reports_become_dense_cuts_with_the_right_bases() {
    let mut w = World::ready(1);
    w.append_thirty();
    w.check_order();
    let numbers: Vec<u64> = w.truth.cuts.keys().map(|n| n.0).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(w.slots.iter().all(|s| s.shards.values().all(|r| r.committed == r.durable)));
}

/// LOG-2: what one replica lacks is not committed.
#[test]
fn a_report_of_fewer_than_all_replicas_commits_nothing() {
    let mut w = World::ready(2);
    w.slots[0].grow(ShardId(1), 0, 5);
    w.slots[0].report(&mut w.sim);
    w.run_ms(100);
    assert_eq!(w.truth.tail, Gsn(0));
    let other = (1..3).find(|i| w.slots[*i].shards.contains_key(&ShardId(1))).unwrap();
    w.slots[other].grow(ShardId(1), 0, 3);
    w.slots[other].report(&mut w.sim);
    w.until("the minimum is committed", |w| w.truth.tail == Gsn(3));
    w.run_ms(100);
    assert_eq!(w.truth.tail, Gsn(3));
}

/// A new leader knows nothing from before: until all replicas spoke to it, it commits nothing for them.
#[test]
fn a_new_leader_waits_for_all_replicas_to_report_in_its_term() {
    let mut w = World::ready(3);
    w.append(1, 0, 4);
    w.until("committed", |w| w.truth.tail == Gsn(4));
    let old = w.sim.leader().unwrap();
    w.sim.crash(old);
    w.until("slots are registered again", |w| {
        w.sim.leader().is_some() && w.slots.iter().all(|s| s.registered)
    });
    w.run_ms(100);
    // One of the two replicas stays silent from now on.
    let holders: Vec<usize> = (0..3).filter(|i| w.slots[*i].shards.contains_key(&ShardId(1))).collect();
    w.slots[holders[1]].restart(&mut w.sim);
    let leader = w.sim.leader().unwrap();
    let before = w.truth.tail;
    w.slots[holders[0]].grow(ShardId(1), 0, 9);
    w.slots[holders[0]].report(&mut w.sim);
    w.sim.run_ms(200);
    assert_eq!(w.sim.machine(leader).state().tail(), before, "one voice is not enough");
    w.slots[holders[1]].grow(ShardId(1), 0, 9);
    w.until("with both it goes on", |w| w.truth.tail.0 == before.0 + 9);
    w.check_order();
}

/// Defect 19: the leader dies between propose and commit. Whatever becomes of the proposal, positions are
/// dense and nobody sees two of them.
#[test]
fn a_leader_killed_between_propose_and_commit_leaves_no_hole_and_no_duplicate() {
    for seed in 10..22 {
        let mut w = World::ready(seed);
        w.append(1, 0, 5);
        w.until("committed", |w| w.truth.tail == Gsn(5));
        let old = w.sim.leader().unwrap();
        // Nobody's disk finishes: the next proposal stays one, on the leader and perhaps on others.
        let others: Vec<usize> = (0..3).filter(|i| *i != old).collect();
        others.iter().for_each(|i| w.sim.hold(*i, true));
        w.append(2, 1, 7);
        w.run_ms(seed % 5);
        w.sim.crash(old);
        others.iter().for_each(|i| w.sim.hold(*i, false));
        if seed % 2 == 0 {
            w.until("another leads", |w| w.sim.leader().is_some());
        }
        w.sim.start(old);
        w.until("all is committed once", |w| w.truth.tail == Gsn(12));
        w.append(1, 1, 1);
        w.until("and it goes on", |w| w.truth.tail == Gsn(13));
        w.run_ms(200);
        w.check_order();
        let states: Vec<_> = (0..3).map(|i| w.sim.machine(i).state().clone()).collect();
        assert!(states.windows(2).all(|s| s[0] == s[1]), "all orderers agree");
    }
}

/// Defect 21: an entry per tick even when idle. Here no report, no entry, no record.
#[test]
fn nothing_is_proposed_or_written_when_idle() {
    let mut w = World::ready(4);
    w.append(1, 0, 5);
    w.until("committed", |w| w.truth.tail == Gsn(5));
    w.report_all();
    w.run_ms(200);
    let applied: Vec<u64> = (0..3).map(|i| w.sim.machine(i).applied()).collect();
    let records: Vec<u64> = w.sim.nodes.iter().map(|n| n.disk.records).collect();
    let frames: u64 = w.sim.nodes.iter().map(|n| n.sent_frames).sum();
    w.run_ms(2000);
    w.report_all();
    w.run_ms(1000);
    assert_eq!(applied, (0..3).map(|i| w.sim.machine(i).applied()).collect::<Vec<_>>());
    assert_eq!(records, w.sim.nodes.iter().map(|n| n.disk.records).collect::<Vec<_>>());
    let idle = w.sim.nodes.iter().map(|n| n.sent_frames).sum::<u64>() - frames;
    // Heartbeats every 20 ms to two followers, and their answers.
    assert!(idle <= 3 * 200 + 50, "{idle} frames in 3 s");
}

/// Defects 23 and 24: one slow or dead replica stalls all ordering. Here nothing waits for it but its own
/// shards, and no queue of ours fills up for its sake.
#[test]
fn a_silent_slot_stalls_only_its_own_shards() {
    let mut w = World::ready(5);
    let gone = 2;
    let without = (1..=3).map(ShardId).find(|s| !w.slots[gone].shards.contains_key(s)).unwrap();
    w.slots[gone].restart(&mut w.sim);
    w.slots[gone].incarnation = 0; // Never comes back: an older start is refused.
    let before = w.truth.tail;
    w.append(without.0, 0, 6);
    w.until("the other shard goes on", |w| w.truth.tail.0 == before.0 + 6);
}

#[test]
fn many_reports_in_a_short_time_share_cuts() {
    let mut w = World::ready(6);
    let before = w.truth.cuts.len() as u64;
    for i in 0..400u64 {
        w.slots.iter_mut().for_each(|s| s.grow(ShardId((i % 3) as u32 + 1), 0, 1));
        w.slots.iter_mut().for_each(|s| s.report(&mut w.sim));
        w.sim.run(std::time::Duration::from_micros(100));
        if i % 10 == 9 {
            w.run_ms(0);
        }
    }
    w.until("all is committed", |w| w.truth.tail.0 == 400);
    let cuts = w.truth.cuts.len() as u64 - before;
    // 40 ms under load, a cut every 0.5 to 1 ms.
    assert!((20..=100).contains(&cuts), "{cuts} cuts");
    w.check_order();
}

#[test]
fn parts_are_forgotten_once_all_replicas_hold_them() {
    let mut w = World::ready(7);
    for _ in 0..40 {
        w.append(1, 0, 1);
        w.run_ms(10);
    }
    w.until("all is committed", |w| w.truth.tail.0 == 40);
    let leader = w.sim.leader().unwrap();
    let kept = w.sim.machine(leader).state().parts_after(ShardId(1), CutNumber(39)).unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(w.sim.machine(leader).state().parts_after(ShardId(1), CutNumber(5)), None);
}
