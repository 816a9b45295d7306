//! Which shards are given up, and which are not? Silence, stalls, pauses and starts; and what operators ask for.

use crate::driver::Sim;
use crate::model::World;
use std::collections::BTreeSet;
use std::time::Duration;
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{Consumer, Decided, Finalize, Message, WantShards};
use zoolog_core::{Gsn, ShardId, SlotId, ViewNumber};
use zoolog_order::OrderEvent;

const TIMEOUT_MS: u64 = 1_000;

fn view(w: &World) -> View {
    let leader = w.sim.leader().expect("a leader");
    w.sim.nodes[leader].machine.as_ref().expect("it runs").state().view().clone()
}

fn live(v: &View) -> Vec<BTreeSet<SlotId>> {
    v.live().map(|s| s.replicas.iter().map(|r| r.slot).collect()).collect()
}

/// How often any member has seen a shard end.
fn ends(w: &World) -> usize {
    let events = w.sim.nodes.iter().flat_map(|n| &n.events);
    events.filter(|e| matches!(e, OrderEvent::ViewFormed { finalized, .. } if !finalized.is_empty())).count()
}

#[test]
fn shards_of_a_silent_slot_end_and_others_take_their_place() {
    let mut w = World::ready(1);
    w.append(1, 0, 5);
    w.until("committed", |w| w.truth.tail == Gsn(5));
    w.run_ms(500);
    let gone = w.slots[2].id;
    w.slots[2].mute = true;
    w.run_ms(TIMEOUT_MS / 2);
    assert_eq!((ends(&w), view(&w).number), (0, ViewNumber(1)), "not yet");
    w.until("replaced", |w| ends(w) > 0);
    let v = view(&w);
    assert_eq!(v.live().count(), 3, "as many as are wanted: {v:?}");
    assert!(live(&v).iter().all(|slots| !slots.contains(&gone)));
    for s in v.shards.iter().filter(|s| s.state != ShardState::Live) {
        assert!(s.replica_in(gone).is_some(), "only those that failed: {s:?}");
    }
    let new = v.live().map(|s| s.id).max().unwrap();
    w.until("the new shards are known", |w| w.slots[0].shards.contains_key(&new));
    w.run_ms(300);
    w.append(new.0, 0, 7);
    w.until("what goes there is ordered", |w| w.truth.tail == Gsn(12));
    // It comes back: nothing more ends.
    w.slots[2].mute = false;
    w.run_ms(3 * TIMEOUT_MS);
    assert_eq!(view(&w).number, v.number);
}

#[test]
fn nothing_ends_while_nothing_can_take_its_place() {
    let mut w = World::ready(2);
    (w.slots[1].mute, w.slots[2].mute) = (true, true);
    w.run_ms(5 * TIMEOUT_MS);
    assert_eq!((ends(&w), view(&w).number), (0, ViewNumber(1)));
    w.slots[1].mute = false;
    w.until("with two servers it can", |w| ends(w) > 0);
    assert!(live(&view(&w)).iter().all(|slots| !slots.contains(&w.slots[2].id)));
}

#[test]
fn a_disk_that_stands_still_ends_its_shards_unless_all_do() {
    let mut w = World::ready(3);
    let all = w.slots.len();
    w.slots.iter_mut().for_each(|s| s.behind = 3);
    w.run_ms(4 * TIMEOUT_MS);
    assert_eq!(ends(&w), 0, "no server is better than another");
    w.slots.iter_mut().take(all - 1).for_each(|s| s.behind = 0);
    let slow = w.slots[all - 1].id;
    w.until("the slow one is left out", |w| ends(w) > 0);
    assert!(live(&view(&w)).iter().all(|slots| !slots.contains(&slow)));
    // A disk that is slow and moves is none of that.
    let mut w = World::ready(3);
    w.slots[2].behind = 3;
    for _ in 0..8 {
        w.run_ms(TIMEOUT_MS / 2);
        w.append(2, 0, 1);
        w.append(2, 1, 1);
        w.append(1, 0, 1);
        w.append(1, 1, 1);
        w.append(3, 0, 1);
        w.append(3, 1, 1);
    }
    assert_eq!(ends(&w), 0);
}

/// What one replica takes and the other never gets: they are kept apart from then on.
#[test]
fn servers_that_do_not_reach_each_other_share_no_new_shard() {
    let mut w = World::ready(4);
    let torn = view(&w).shards[0].clone();
    let pair: BTreeSet<SlotId> = torn.replicas.iter().map(|r| r.slot).collect();
    let primary = torn.replicas[0].slot;
    let i = w.slots.iter().position(|s| s.id == primary).unwrap();
    w.slots[i].grow(torn.id, 0, 9);
    w.report_all();
    w.until("it ends", |w| ends(w) > 0);
    let v = view(&w);
    assert_ne!(v.shard(torn.id).unwrap().state, ShardState::Live);
    assert_eq!(v.live().count(), 3);
    assert!(!live(&v).contains(&pair), "{v:?}");
    assert_eq!(v.shards.iter().filter(|s| s.state != ShardState::Live).count(), 1, "the others go on");
}

/// The servers of the shards that take appends, by pairs.
fn pairs(w: &World) -> BTreeSet<BTreeSet<u32>> {
    live(&view(w)).into_iter().map(|slots| slots.iter().map(|s| s.server.0).collect()).collect()
}

/// What each primary takes reaches the others of its shard only if it is on `good` servers. For so long.
fn write_across(w: &mut World, ms: u64, good: &[u32]) {
    for _ in 0..ms / 100 {
        for s in view(w).live().cloned().collect::<Vec<_>>() {
            let primary = s.replicas[0].slot.server.0;
            let reached = s.replicas.iter().all(|r| good.contains(&r.slot.server.0));
            let slots = w.slots.iter_mut().filter(|x| reached || x.id.server.0 == primary);
            slots.for_each(|x| x.grow(s.id, 0, 1));
        }
        w.report_all();
        w.run_ms(100);
    }
}

fn gone(w: &mut World, server: usize) {
    let World { slots, sim, .. } = w;
    slots[server].disconnect(sim);
    slots[server].mute = true;
}

/// LOG-5: when nobody else is left, those who once didn't reach each other may do so by now. While they don't, no
/// shard after the other ends for nothing.
#[test]
fn servers_that_were_kept_apart_share_a_shard_when_no_others_are_left() {
    let mut w = World::ready(12);
    let torn: Vec<u32> = view(&w).shards[0].replicas.iter().map(|r| r.slot.server.0).collect();
    let third = (0..3).find(|s| !torn.contains(s)).unwrap();
    let apart: BTreeSet<u32> = torn.iter().copied().collect();
    write_across(&mut w, 3 * TIMEOUT_MS, &[torn[0], third]);
    write_across(&mut w, 3 * TIMEOUT_MS, &[torn[1], third]);
    w.until("they share nothing", |w| !pairs(w).contains(&apart));
    gone(&mut w, third as usize);
    // The leader may have acted just now.
    w.run_ms(6 * TIMEOUT_MS);
    assert_eq!(pairs(&w), [apart.clone()].into(), "the log goes on");
    let before = w.truth.tail;
    write_across(&mut w, TIMEOUT_MS, &torn);
    assert!(w.truth.tail > before);
    // They lose sight of each other once more: nothing could be better.
    let before = ends(&w);
    write_across(&mut w, 60 * TIMEOUT_MS, &[]);
    assert_eq!(ends(&w), before, "no churn");
    w.slots[third as usize].mute = false;
    w.until("there is a better place again", |w| !pairs(w).contains(&apart));
}

/// LOG-5: whoever the two are that reach each other by now, they are found.
#[test]
fn of_servers_that_all_lost_each_other_the_two_that_meet_again_are_found() {
    for (seed, good) in [(13, [0, 1]), (14, [0, 2]), (15, [1, 2])] {
        let mut w = World::ready(seed);
        write_across(&mut w, 20 * TIMEOUT_MS, &[]);
        let ended = ends(&w) / 3;
        assert!(ended < 12, "it is not tried all the time: {ended} times");
        let tail = w.truth.tail;
        for _ in 0..20 {
            write_across(&mut w, TIMEOUT_MS, &good);
            if pairs(&w) == [good.into()].into() {
                break;
            }
        }
        assert_eq!(pairs(&w), [good.into()].into(), "seed {seed}");
        write_across(&mut w, TIMEOUT_MS, &good);
        assert!(w.truth.tail > tail);
        let before = ends(&w);
        write_across(&mut w, 20 * TIMEOUT_MS, &good);
        assert_eq!(ends(&w), before, "there it stays");
    }
}

/// Who says nothing at all is not one whom some others don't reach.
#[test]
fn a_server_that_was_silent_is_kept_apart_from_nobody() {
    let mut w = World::ready(16);
    for back in [2, 0] {
        w.slots[back].mute = true;
        for _ in 0..25 {
            for s in view(&w).live().map(|s| s.id.0).collect::<Vec<_>>() {
                w.append(s, 0, 1);
                w.append(s, 1, 1);
            }
            w.run_ms(TIMEOUT_MS / 10);
        }
        w.until("it is left out", |w| pairs(w).iter().all(|p| !p.contains(&(back as u32))));
        w.slots[back].mute = false;
        w.run_ms(TIMEOUT_MS);
    }
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.send(g, WantShards { request: 1, shards: 6 });
    assert_eq!(decided(&mut w.sim, g, 1).refused, "");
    w.until("six take appends", |w| view(w).live().count() == 6);
    assert_eq!(pairs(&w).len(), 3, "all pairs serve: {:?}", pairs(&w));
}

/// Connected is not enough: a server that nobody has heard for a while gets no shard, though it has the least load.
#[test]
fn nothing_new_rests_on_a_silent_server_that_holds_nothing() {
    let mut w = World::ready(17);
    w.slots[2].mute = true;
    w.until("it is left out", |w| pairs(w) == [[0, 1].into()].into());
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.send(g, WantShards { request: 1, shards: 5 });
    assert_eq!(decided(&mut w.sim, g, 1).refused, "");
    w.until("five take appends", |w| view(w).live().count() == 5);
    assert_eq!(pairs(&w), [[0, 1].into()].into());
}

#[test]
fn a_primary_whose_backup_never_answers_ends_in_the_end() {
    let mut w = World::ready(5);
    (1..=3).for_each(|shard| (0..2).for_each(|lane| w.append(shard, lane, 1)));
    w.slots[0].serving = false;
    w.run_ms(3 * TIMEOUT_MS);
    assert_eq!(ends(&w), 0, "it may be fetching");
    w.slots[0].serving = true;
    w.run_ms(3 * TIMEOUT_MS);
    w.slots[0].serving = false;
    w.until("it never comes to serve", |w| ends(w) > 0);
}

#[test]
fn a_pause_of_everybody_ends_nothing() {
    let mut w = World::ready(6);
    for _ in 0..5 {
        w.sim.now = w.sim.now + Duration::from_millis(2 * TIMEOUT_MS);
        w.run_ms(TIMEOUT_MS / 2);
    }
    w.until("all slots are registered", |w| w.slots.iter().all(|s| s.registered));
    assert_eq!(ends(&w), 0);
}

#[test]
fn a_cold_start_waits_for_slots_that_read_their_logs() {
    let mut w = World::ready(7);
    (0..3).for_each(|i| w.sim.crash(i));
    w.slots.iter_mut().for_each(|s| s.disconnect(&mut w.sim));
    (0..3).for_each(|i| w.sim.start(i));
    w.slots[2].mute = true;
    w.run_ms(20 * TIMEOUT_MS);
    assert_eq!((ends(&w), view(&w).number), (0, ViewNumber(1)), "it may be reading its log");
    w.until("but not for ever", |w| ends(w) > 0);
}

#[test]
fn a_new_leader_of_a_cluster_that_ran_needs_no_grace() {
    let mut w = World::ready(8);
    w.run_ms(31_000);
    let leader = w.sim.leader().unwrap();
    w.slots[2].mute = true;
    w.slots[2].disconnect(&mut w.sim);
    w.sim.crash(leader);
    w.run_ms(5 * TIMEOUT_MS);
    assert!(ends(&w) > 0);
    assert_eq!(view(&w).live().count(), 3);
}

fn decided(sim: &mut Sim, g: usize, request: u64) -> Decided {
    sim.answer(g, "Decided", |m| match m {
        Message::Decided(d) if d.request == request => Some(d.clone()),
        _ => None,
    })
}

#[test]
fn an_operator_ends_a_shard_and_sets_how_many_there_are() {
    let mut w = World::ready(9);
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.send(g, Finalize { request: 1, shard: ShardId(2) });
    let d = decided(&mut w.sim, g, 1);
    assert_eq!((d.refused.as_str(), d.view), ("", ViewNumber(2)));
    assert_ne!(view(&w).shard(ShardId(2)).unwrap().state, ShardState::Live);
    assert_eq!(view(&w).live().count(), 3, "another is formed");
    w.sim.send(g, Finalize { request: 2, shard: ShardId(2) });
    assert_eq!(decided(&mut w.sim, g, 2).refused, "", "done is done");
    w.sim.send(g, Finalize { request: 3, shard: ShardId(77) });
    assert!(decided(&mut w.sim, g, 3).refused.contains("no shard 77"));
    w.sim.send(g, WantShards { request: 4, shards: 5 });
    assert_eq!(decided(&mut w.sim, g, 4).refused, "");
    w.until("five take appends", |w| view(w).live().count() == 5);
    for bad in [0, 1 << 20] {
        w.sim.send(g, WantShards { request: 5, shards: bad });
        let d = decided(&mut w.sim, g, 5);
        assert!(d.refused.contains("are possible") && !d.retry);
    }
}

#[test]
fn the_last_shard_is_not_ended_by_hand_where_none_can_follow() {
    let mut w = World::ready(10);
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    (w.slots[1].mute, w.slots[2].mute) = (true, true);
    (0..2).for_each(|i| w.slots[i + 1].disconnect(&mut w.sim));
    w.run_ms(50);
    for shard in 1..3 {
        w.sim.send(g, Finalize { request: shard, shard: ShardId(shard as u32) });
        assert_eq!(decided(&mut w.sim, g, shard).refused, "", "others are left");
    }
    w.sim.send(g, Finalize { request: 3, shard: ShardId(3) });
    let d = decided(&mut w.sim, g, 3);
    assert!(d.refused.contains("start more") && d.retry, "{d:?}");
}

#[test]
fn a_shard_leaves_the_view_a_while_after_it_is_trimmed() {
    let mut w = World::ready(11);
    w.append(2, 0, 10);
    w.until("committed", |w| w.truth.tail == Gsn(10));
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.send(g, Finalize { request: 1, shard: ShardId(2) });
    decided(&mut w.sim, g, 1);
    w.sim.send(g, Consumer { request: 2, name: "c".into(), upto: Gsn(10) });
    w.run_ms(30_000);
    assert!(view(&w).shard(ShardId(2)).is_some(), "its writers may ask");
    w.run_ms(40_000);
    assert!(view(&w).shard(ShardId(2)).is_none());
    w.append(1, 0, 3);
    w.until("the order goes on", |w| w.truth.tail == Gsn(13));
}
