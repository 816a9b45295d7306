//! After a crash: a lane never shrinks, no LSN is written twice, and what was written commits.

use crate::world::client::*;
use crate::world::*;
use bytes::Bytes;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::rng::Rng;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::{Bounds, SlotEvent};

/// Delivers everything but lets only `synced` nodes complete their syncs.
fn settle_without_sync_of(world: &mut World, unsynced: usize) {
    while let Some(&a) = world.actions().iter().find(|a| **a != Action::Sync(unsynced)) {
        world.act(a);
    }
}

/// Crashes a node in such a way that nothing of what was being written survives.
fn crash_and_forget(world: &mut World, n: usize) {
    let lucky = (0..).find(|&seed| {
        let mut disk = world.nodes[n].disk.clone();
        disk.crash(&mut Rng::new(seed, "forget"));
        let cfg = zoolog_core::wal::WalConfig::new(CLUSTER, n as u64 + 1, zoolog_core::wal::OnDamage::Report);
        let (recovered, _) = zoolog_core::wal::recover(&disk, &cfg).unwrap();
        recovered.tail.iter().all(|e| e.kind != 1)
    });
    world.rng = Rng::new(lucky.unwrap(), "forget");
    world.crash(n);
}

fn serving(world: &World, n: usize) -> (u64, u64) {
    let events = world.nodes[n].events.iter().rev();
    let mut found = events.filter_map(|e| match e {
        SlotEvent::Serving { len, adopted, .. } => Some((*len, *adopted)),
        _ => None,
    });
    found.next().expect("it serves")
}

fn contents(world: &mut World, n: usize) -> Vec<(Gsn, Bytes)> {
    let tail = world.orderer.tail;
    let (all, covers, end) = world.read(n, 1, Gsn(0), tail, 1 << 20);
    assert_eq!((covers, end), (tail, ReadEnd::Complete));
    all.into_iter().map(|(gsn, b)| (gsn, b.batch.bytes().clone())).collect()
}

/// Shared-log defects 5 and 17: a restart began at LSN 0.
#[test]
fn a_primary_that_lost_its_write_adopts_what_its_backup_has() {
    let mut world = World::ready(1, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    let b = batch(9, 0, 3, 20);
    world.send(w, append(lane(1, 0), &b));
    settle_without_sync_of(&mut world, 0);
    crash_and_forget(&mut world, 0);
    world.settle();
    world.start(0);
    world.run(1000);
    assert_eq!(serving(&world, 0), (3, 3), "adopted");
    assert_eq!(world.orderer.tail, Gsn(3), "and committed, though nobody asked again");
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &b));
    world.send(w, append(lane(1, 0), &batch(9, 1, 1, 20)));
    world.settle();
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0)), (Seq(1), Gsn(3))]);
    let (first, second) = (contents(&mut world, 0), contents(&mut world, 1));
    assert_eq!(first, second);
    assert_eq!(first.len(), 2, "the resent batch is not there twice");
}

/// The backup holds more than it takes from a living primary. It must not stop reading before it was asked for it.
#[test]
fn a_primary_that_lost_its_write_gets_it_back_from_a_full_backup() {
    let bounds = Bounds { uncommitted_bytes: 1000, ..tiny() };
    let mut world = World::ready(1, &[&[0, 1]], &bounds);
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 4, 2000)));
    settle_without_sync_of(&mut world, 0);
    crash_and_forget(&mut world, 0);
    world.settle();
    world.start(0);
    world.run(5000);
    assert_eq!(serving(&world, 0), (4, 4), "adopted");
    assert_eq!(world.orderer.tail, Gsn(4));
}

#[test]
fn a_backup_that_lost_its_write_is_sent_it_again() {
    let mut world = World::ready(2, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 3, 20)));
    settle_without_sync_of(&mut world, 1);
    crash_and_forget(&mut world, 1);
    world.settle();
    assert_eq!(world.orderer.tail, Gsn(0));
    world.start(1);
    world.run(1000);
    assert_eq!(world.orderer.tail, Gsn(3));
    assert_eq!(
        world.clients[w].acks(),
        [(Seq(0), Gsn(0))],
        "in the same incarnation, on the same connection"
    );
    assert_eq!(contents(&mut world, 0), contents(&mut world, 1));
}

/// The batch lies in the primary's log only, and no longer in memory: it is read back for the backup.
#[test]
fn a_restarted_primary_reads_back_what_its_backup_lacks() {
    let mut world = World::ready(3, &[&[0, 1]], &tiny());
    let w = world.client(0);
    (0..30).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 2, 100))));
    settle_without_sync_of(&mut world, 1);
    crash_and_forget(&mut world, 1);
    world.crash(0);
    world.settle();
    (0..2).for_each(|n| world.start(n));
    world.run(1000);
    assert_eq!(world.orderer.tail, Gsn(60));
    assert_eq!(contents(&mut world, 0), contents(&mut world, 1));
}

/// Both replicas restart with written, uncommitted records: they must not stay stuck.
#[test]
fn what_was_written_before_both_replicas_restarted_still_commits() {
    let mut world = World::ready(4, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    for (n, index) in [(0, 0), (1, 1)] {
        let w = world.client(n);
        (0..5).for_each(|s| world.send(w, append(lane(1, index), &batch(9 + n as u128, s, 1, 20))));
    }
    world.settle();
    (0..2).for_each(|n| world.crash(n));
    world.settle();
    world.orderer.auto = true;
    (0..2).for_each(|n| world.start(n));
    world.run(1000);
    assert_eq!(world.orderer.tail, Gsn(10));
    for (n, index) in [(0, 0), (1, 1)] {
        let w = world.client(n);
        (0..5).for_each(|s| world.send(w, append(lane(1, index), &batch(9 + n as u128, s, 1, 20))));
        world.settle();
        assert_eq!(world.clients[w].acks().len(), 5, "and the writer finds out");
    }
    assert_eq!(world.orderer.tail, Gsn(10));
}

#[test]
fn a_primary_takes_nothing_before_every_backup_has_answered() {
    let mut world = World::ready(5, &[&[0, 1, 2]], &Bounds::default());
    world.crash(0);
    world.crash(2);
    world.settle();
    world.start(0);
    world.run(300);
    let w = world.client(0);
    (0..3).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 20))));
    world.settle();
    assert_eq!(world.clients[w].append_refusals(), [(Seq(0), AppendRefusedWhy::Recovering, Seq(0))]);
    world.start(2);
    world.run(1000);
    (0..3).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 20))));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 3);
}

/// The lane of a rebuilt position never gets other content: with three replicas, the longest copy wins, and
/// the shorter ones are brought up to it.
#[test]
fn the_longest_copy_is_adopted_and_given_to_the_others() {
    let mut world = World::ready(6, &[&[0, 1, 2]], &tiny());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 20)));
    world.settle();
    // The third replica no longer hears from the primary, which then loses its own copies.
    world.crash(2);
    (1..20).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 100))));
    world.settle();
    world.crash(0);
    world.nodes[0].disk = zoolog_core::wal::MemoryDisk::new();
    world.settle();
    world.orderer = {
        let mut fresh = orderer::Orderer::new(world.orderer.view.clone());
        fresh.auto = false;
        fresh
    };
    (0..3).filter(|&n| n != 1).for_each(|n| world.start(n));
    world.run(1000);
    assert_eq!(serving(&world, 0), (20, 20));
    for n in 0..3 {
        assert!(world.status(n).contains("\"lane\":\"1/0\",\"primary\":"), "{}", world.status(n));
        assert!(world.status(n).contains("\"accepted\":20,\"durable\":20"), "node {n}: {}", world.status(n));
    }
}

/// A slot that pretends to be the primary in slot 0.
fn primary(world: &mut World, incarnation: u64, stream: u64) -> usize {
    let c = world.connect(1);
    world.send(c, hello(Role::Slot, 0));
    world.send(c, encode(Sync { lane: lane(1, 0), incarnation: Incarnation(incarnation), stream }));
    c
}

fn placed(lsn: u64, prev: u32, incarnation: u64) -> PlacedBatch {
    PlacedBatch::place(lane(1, 0), Incarnation(incarnation), Lsn(lsn), prev, batch(9, lsn, 1, 5))
}

fn replicate(incarnation: u64, stream: u64, batch: &PlacedBatch) -> Bytes {
    let head = Replicate { lane: lane(1, 0), incarnation: Incarnation(incarnation), stream };
    encode_with(head, &[&batch.placement.encode(), batch.batch.bytes()])
}

#[test]
fn frames_of_an_older_stream_are_dropped_after_a_newer_sync() {
    let mut world = World::ready(7, &[&[0, 1]], &Bounds::default());
    world.crash(0);
    world.settle();
    let old = primary(&mut world, 5, 1);
    world.settle();
    assert!(
        matches!(&world.clients[old].inbox[..], [Packet { message: Message::Synced(m), .. }] if m.len == 0)
    );
    let new = primary(&mut world, 5, 2);
    world.settle();
    world.send(old, replicate(5, 1, &placed(0, 0, 5)));
    world.settle();
    assert_eq!(world.clients[old].refused(), Some(RefusedWhy::Stale));
    assert!(world.clients[old].closed);
    assert!(world.status(1).contains("\"accepted\":0"), "{}", world.status(1));
    world.send(new, replicate(5, 2, &placed(0, 0, 5)));
    world.settle();
    assert_eq!(world.clients[new].refused(), None);
    assert!(world.status(1).contains("\"accepted\":1"), "{}", world.status(1));
    let older = primary(&mut world, 4, 9);
    world.settle();
    assert_eq!(
        world.clients[older].refused(),
        Some(RefusedWhy::Stale),
        "an older incarnation, whatever its stream"
    );
}

/// Shared-log defect 8: replication without LSNs diverged silently.
#[test]
fn a_batch_that_is_not_exactly_at_the_backups_length_is_refused() {
    for (lsn, prev) in [(1, 0), (0, 7)] {
        let mut world = World::ready(8, &[&[0, 1]], &Bounds::default());
        world.crash(0);
        world.settle();
        let c = primary(&mut world, 5, 1);
        world.send(c, replicate(5, 1, &placed(lsn, prev, 5)));
        world.settle();
        assert_eq!(world.clients[c].refused(), Some(RefusedWhy::Invalid));
        assert!(world.status(1).contains("\"accepted\":0"), "{}", world.status(1));
    }
}

#[test]
fn a_backup_that_forgot_what_is_committed_gets_it_back_before_it_reports() {
    let mut world = World::ready(9, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 5)));
    world.settle();
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0))]);
    world.crash(1);
    world.nodes[1].disk = zoolog_core::wal::MemoryDisk::new();
    world.settle();
    world.orderer.forget(slot_id(1));
    world.start(1);
    world.run(2000);
    assert!(world.nodes[1].events.iter().any(|e| matches!(e, SlotEvent::Damaged { .. })));
    assert!(world.status(1).contains("\"accepted\":1,\"durable\":1"), "{}", world.status(1));
    assert_eq!(contents(&mut world, 0), contents(&mut world, 1));
}

/// Shared-log defect 10: a missed cut gave wrong GSNs for ever after.
#[test]
fn a_skipped_cut_is_fetched_not_guessed() {
    let mut world = World::ready(10, &[&[0, 1], &[1, 0]], &Bounds::default());
    let w = world.client(0);
    let registrations = world.orderer.registrations;
    for s in 0..3 {
        world.orderer.skip = (s == 1).then(|| slot_id(0));
        world.send(w, append(lane(1, 0), &batch(9, s, 2, 5)));
        world.run(200);
    }
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0)), (Seq(1), Gsn(2)), (Seq(2), Gsn(4))]);
    assert!(world.nodes[0].events.iter().any(|e| matches!(e, SlotEvent::Contradiction { .. })));
    assert_eq!(world.orderer.registrations, registrations + 1);
    assert_eq!(contents(&mut world, 0), contents(&mut world, 1));
}

#[test]
fn a_silent_leader_is_asked_and_then_given_up() {
    let mut world = World::ready(11, &[&[0, 1]], &Bounds::default());
    let registrations = world.orderer.registrations;
    world.orderer.mute = true;
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 5)));
    // It has said nothing for 200 ms by now, is asked at 400 and given up at 800.
    world.run(580);
    world.orderer.mute = false;
    world.run(3000);
    assert!(world.orderer.registrations > registrations);
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0))]);
}

/// A leader that is cut off without a word is missed though nothing waits for it: the next one takes whoever hasn't
/// found it by then for dead.
#[test]
fn an_idle_slot_misses_its_leader_within_a_failure_timeout() {
    let mut world = World::ready(11, &[&[0, 1]], &Bounds::default());
    let registrations = world.orderer.registrations;
    world.run(10_000);
    assert_eq!(
        world.orderer.registrations, registrations,
        "a leader with nothing to say is none that is gone"
    );
    let dialled = world.links.len();
    world.orderer.mute = true;
    world.run(900);
    assert!(world.links.len() >= dialled + 2, "both look for another");
}

/// Windows, parts and lanes come from checkpoints once the log has rolled.
#[test]
fn a_restart_after_many_rolls_knows_writers_parts_and_records() {
    let mut world = World::ready(12, &[&[0, 1]], &tiny());
    let w = world.client(0);
    for s in 0..120 {
        world.send(w, append(lane(1, 0), &batch(9, s, 2, 1500)));
        world.settle();
    }
    assert!(world.nodes[0].rolls > 3, "{} rolls", world.nodes[0].rolls);
    let before = contents(&mut world, 0);
    assert_eq!(before.len(), 120);
    (0..2).for_each(|n| world.crash(n));
    world.settle();
    (0..2).for_each(|n| world.start(n));
    world.run(1000);
    assert_eq!((contents(&mut world, 0), contents(&mut world, 1)), (before.clone(), before));
    let w = world.client(0);
    (100..121).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 2, 1500))));
    world.settle();
    let acks: Vec<_> = (100..121).map(|s| (Seq(s), Gsn(2 * s))).collect();
    assert_eq!(world.clients[w].acks(), acks);
}

#[test]
fn a_backup_answers_a_sync_only_when_all_it_accepted_is_durable() {
    let mut world = World::ready(13, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 2, 5)));
    settle_without_sync_of(&mut world, 1);
    world.crash(0);
    settle_without_sync_of(&mut world, 1);
    let newest = primary(&mut world, 9, 1);
    settle_without_sync_of(&mut world, 1);
    assert!(world.clients[newest].inbox.is_empty(), "it has accepted two records and synced none");
    world.settle();
    let Some(Packet { message: Message::Synced(m), .. }) = world.clients[newest].inbox.pop() else {
        panic!("an answer")
    };
    assert_eq!((m.incarnation, m.stream, m.len), (Incarnation(9), 1, 2));
}
