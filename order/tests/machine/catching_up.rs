//! Do members and slots that were away get what they missed?

use crate::driver::{Sim, hello};
use crate::model::World;
use zoolog_core::wal::Recovered;
use zoolog_core::wire::{Message, PartsAre, Recovering, RefusedWhy, Register, Role, Status};
use zoolog_core::{CutNumber, Gsn, Incarnation, ShardId};
use zoolog_order::{OrderError, OrderEvent, Orderer};

#[test]
fn restarted_from_records_alone_all_goes_on() {
    let mut w = World::ready(1);
    w.append(1, 0, 5);
    w.until("committed", |w| w.truth.tail == Gsn(5));
    let before = w.sim.machine(0).state().clone();
    (0..3).for_each(|i| w.sim.crash(i));
    w.run_ms(50);
    (0..3).for_each(|i| w.sim.start(i));
    w.append(2, 0, 2);
    w.until("it goes on", |w| w.truth.tail == Gsn(7));
    let view = |w: &World| w.sim.machine(0).state().view().clone();
    assert_eq!(before.view(), &view(&w));
    w.check_order();
}

#[test]
fn restarted_from_checkpoint_and_records_all_goes_on() {
    let mut w = World::ready(2);
    for i in 0..30 {
        w.append(i % 3 + 1, 0, 1);
        w.run_ms(3);
        if i % 7 == 0 {
            (0..3).for_each(|n| w.sim.roll(n));
        }
    }
    w.until("committed", |w| w.truth.tail == Gsn(30));
    for i in 0..3 {
        assert!(w.sim.nodes[i].disk.released >= 2, "segments before a durable checkpoint are given back");
        w.sim.crash(i);
        w.sim.start(i);
        let state = w.sim.machine(i).state().clone();
        assert!(state.last_cut() <= *w.truth.cuts.keys().last().unwrap());
    }
    w.append(3, 1, 4);
    w.until("it goes on", |w| w.truth.tail == Gsn(34));
    w.check_order();
}

#[test]
fn a_checkpoint_with_records_still_on_their_way_is_whole() {
    let mut w = World::ready(3);
    let leader = w.sim.leader().unwrap();
    let follower = (leader + 1) % 3;
    w.sim.hold(follower, true);
    w.append(1, 0, 5);
    w.until("committed by the others", |w| w.truth.tail == Gsn(5));
    w.sim.roll(follower);
    w.sim.hold(follower, false);
    w.append(1, 1, 5);
    w.until("committed", |w| w.truth.tail == Gsn(10));
    w.run_ms(100);
    w.sim.crash(follower);
    w.sim.start(follower);
    w.run_ms(200);
    assert_eq!(w.sim.machine(follower).state().tail(), Gsn(10));
}

/// Defect 20: snapshots that are empty while the log is compacted. A member that lags further than the
/// leader remembers gets the whole state.
#[test]
fn a_member_that_lags_far_is_caught_up_by_a_snapshot() {
    let mut w = World::ready(4);
    w.append(1, 0, 1);
    w.until("committed", |w| w.truth.tail == Gsn(1));
    let leader = w.sim.leader().unwrap();
    let away = (leader + 1) % 3;
    w.sim.crash(away);
    // A leader that restarts has nothing older than its checkpoint in memory.
    for i in 0..60u64 {
        w.append((i % 3) as u32 + 1, 1, 1);
        w.run_ms(3);
    }
    w.until("committed", |w| w.truth.tail == Gsn(61));
    w.run_ms(50);
    for i in (0..3).filter(|i| *i != away) {
        w.sim.roll(i);
        w.sim.crash(i);
        w.sim.start(i);
    }
    w.until("a leader", |w| w.sim.leader().is_some());
    w.sim.start(away);
    w.until("it has caught up", |w| w.sim.machine(away).state().tail() == Gsn(61));
    assert!(w.sim.nodes[away].events.iter().any(|e| matches!(e, OrderEvent::CaughtUp { .. })));
    w.append(2, 0, 1);
    w.until("it goes on with it", |w| w.sim.machine(away).state().tail() == Gsn(62));
    w.run_ms(100);
    w.sim.crash(away);
    w.sim.start(away);
    assert!(w.sim.machine(away).state().tail() >= Gsn(61), "the snapshot is on its disk");
    w.until("it knows the rest again", |w| w.sim.machine(away).state().tail() == Gsn(62));
    w.check_order();
}

#[test]
fn a_slot_that_was_away_gets_exactly_the_parts_it_missed() {
    let mut w = World::ready(5);
    for _ in 0..5 {
        w.append(1, 0, 1);
        w.run_ms(20);
    }
    let holder = (0..3).find(|i| w.slots[*i].shards.contains_key(&ShardId(1))).unwrap();
    let leader = w.sim.leader().unwrap();
    let slot = w.slots[holder].id;
    w.slots[holder].disconnect(&mut w.sim);
    w.sim.run_ms(5);
    let g = w.sim.connect(leader);
    w.sim.send(g, hello(Role::Slot, u64::from(slot.server.0), 2));
    let known = w.sim.machine(leader).state().last_cut();
    let parts = vec![(ShardId(1), CutNumber(known.0 - 1))];
    let register = Register {
        slot,
        incarnation: Incarnation(2),
        addr: "s:1".into(),
        domain: String::new(),
        stamp: 0,
        parts,
    };
    w.sim.send(g, register);
    let PartsAre { parts, lens, number, tail, .. } = w.sim.answer(g, "parts", |m| match m {
        Message::PartsAre(p) if p.shard == ShardId(1) => Some(p.clone()),
        _ => None,
    });
    assert_eq!(parts.iter().map(|p| p.number).collect::<Vec<_>>(), [known]);
    assert_eq!((lens, number, tail), (vec![5, 0], known, Gsn(5)));
}

#[test]
fn a_slot_that_lost_parts_it_once_held_is_sent_to_the_other_replicas() {
    let mut w = World::ready(6);
    for _ in 0..10 {
        w.append(1, 0, 1);
        w.run_ms(20);
    }
    let holder = (0..3).find(|i| w.slots[*i].shards.contains_key(&ShardId(1))).unwrap();
    let (leader, slot) = (w.sim.leader().unwrap(), w.slots[holder].id);
    let g = w.sim.connect(leader);
    w.sim.send(g, hello(Role::Slot, u64::from(slot.server.0), 2));
    let (incarnation, addr) = (Incarnation(2), "s:1".to_string());
    w.sim.send(g, Register { slot, incarnation, addr, domain: String::new(), stamp: 0, parts: vec![] });
    let known = w.sim.answer(g, "parts that are gone", |m| match m {
        Message::PartsGone(m) if m.shard == ShardId(1) => Some(m.known),
        Message::PartsAre(m) => panic!("parts with a gap before them: {m:?}"),
        _ => None,
    });
    assert!(known > CutNumber(0));
    // While it mends them it lives, and reports nothing of the shard.
    let status = |w: &mut World| {
        let client = w.sim.client(leader);
        w.sim.send(client, Status { request: 1 });
        w.sim.answer(client, "a status", |m| match m {
            Message::StatusIs(m) => Some(m.json.clone()),
            _ => None,
        })
    };
    let recovering = |shards| Recovering { slot, incarnation, shards };
    w.sim.send(g, recovering(vec![ShardId(1), ShardId(99)]));
    w.sim.run_ms(50);
    assert!(w.sim.guests[g].open, "a shard that it has nothing of, or not any more, doesn't matter");
    assert!(status(&mut w).contains(&format!("\"mending\":{{\"{slot}\":[1]}}")), "{}", status(&mut w));
    w.sim.send(g, recovering(vec![]));
    w.sim.run_ms(50);
    assert!(status(&mut w).contains("\"mending\":{}"), "{}", status(&mut w));
    w.sim.send(g, Recovering { slot, incarnation: Incarnation(1), shards: vec![] });
    w.sim.run_ms(50);
    assert!(!w.sim.guests[g].open, "of a start that isn't its own");
}

/// LOG-2: an empty directory under a known id is not what was there before, whatever start it claims to be.
#[test]
fn another_log_under_a_known_id_is_refused_for_good() {
    let mut w = World::ready(7);
    w.append(1, 0, 3);
    w.until("committed", |w| w.truth.tail.0 == 3);
    let slot = w.slots[0].id;
    for started in [1, 2, 50] {
        let leader = w.sim.leader().unwrap();
        let g = w.sim.connect(leader);
        w.sim.send(g, hello(Role::Slot, u64::from(slot.server.0), started));
        let (incarnation, addr) = (Incarnation(started), "s:1".to_string());
        w.sim.send(g, Register { slot, incarnation, addr, domain: String::new(), stamp: 99, parts: vec![] });
        let (why, text) = w.sim.answer(g, "a refusal", |m| match m {
            Message::Refused(r) => Some((r.why, r.text.clone())),
            _ => None,
        });
        assert_eq!(why, RefusedWhy::Dismissed);
        assert!(text.contains("never used before"), "it says what to do: {text}");
    }
    // The one that is known is not disturbed, and may come back.
    w.append(1, 0, 3);
    w.until("committed", |w| w.truth.tail.0 == 6);
    w.slots[0].restart(&mut w.sim);
    w.until("registered again", |w| w.slots[0].registered);
}

/// A member that comes back without its disk must not vote or acknowledge as if nothing had happened, and
/// must not fall into a crash loop either: it is told, and does nothing any more.
#[test]
fn a_member_that_lost_its_disk_neither_panics_nor_disturbs() {
    let mut sim = Sim::new(3, 9);
    let leader = sim.elect();
    sim.run_ms(200);
    let lost = (leader + 1) % 3;
    sim.crash(lost);
    sim.wipe(lost);
    sim.start(lost);
    sim.run_ms(3000);
    assert_eq!(sim.leader(), Some(leader));
    assert!(sim.nodes[lost].dismissed().is_some_and(|why| why.contains("under a new id")));
    assert!(sim.machine(lost).applied() <= 1, "it is not fed as if it were new");
}

/// The dangerous case: what only the lost disk and a leader held was committed, and then the leader is gone, too.
#[test]
fn a_member_that_lost_its_disk_gives_no_vote_to_one_that_lags() {
    let mut w = World::ready(12);
    let leader = w.sim.leader().unwrap();
    let (lags, lost) = ((leader + 1) % 3, (leader + 2) % 3);
    w.sim.isolate(lags);
    w.append(1, 0, 5);
    w.until("committed without the one that lags", |w| w.truth.tail == Gsn(5));
    w.sim.crash(leader);
    w.sim.crash(lost);
    w.sim.wipe(lost);
    w.sim.heal();
    w.sim.start(lost);
    w.run_ms(5000);
    assert_eq!(w.sim.leader(), None, "two that don't know what was committed must not go on");
    w.sim.start(leader);
    w.until("they go on with it", |w| w.sim.leader().is_some());
    w.append(1, 0, 1);
    w.until("nothing was lost", |w| w.truth.tail == Gsn(6));
    w.check_order();
}

/// The first orderers are who they were, whatever the settings say later; another cluster's state is refused.
#[test]
fn what_is_on_disk_counts_more_than_the_settings() {
    let mut sim = Sim::new(3, 11);
    sim.elect();
    sim.run_ms(100);
    sim.roll(0);
    let recovered = Recovered { checkpoint: sim.nodes[0].disk.checkpoint.clone(), ..Recovered::empty(9) };
    let mut cfg = sim.config_of(0);
    cfg.peers.pop();
    let members = |o: &Orderer| o.state().members().iter().count();
    assert_eq!(Orderer::new(cfg.clone(), &recovered, 1, sim.now).map(|o| members(&o)), Ok(3));
    cfg.cluster.0 += 1;
    assert!(matches!(Orderer::new(cfg, &recovered, 1, sim.now), Err(OrderError::Recovered(_))));
}
