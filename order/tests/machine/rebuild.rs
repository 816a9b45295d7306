//! When is a copy of a finalized shard lost, who makes another, and what becomes of that?

use crate::driver::Sim;
use crate::model::{Slot, World};
use std::time::Duration;
use zoolog_core::view::{ShardView, View};
use zoolog_core::wire::{Decided, Finalize, Message, RebuildShard};
use zoolog_core::{Gsn, ShardId, ViewNumber};

const ONE: ShardId = ShardId(1);
const AFTER_MS: u64 = 3_000;

fn view(w: &World) -> View {
    let leader = w.sim.leader().expect("a leader");
    w.sim.nodes[leader].machine.as_ref().expect("it runs").state().view().clone()
}

fn one(w: &World) -> ShardView {
    view(w).shard(ONE).expect("shard 1").clone()
}

fn ask(sim: &mut Sim, m: impl Into<Message>) -> Decided {
    let c = sim.client(sim.leader().unwrap());
    sim.send(c, m);
    for _ in 0..1000 {
        sim.run_ms(1);
        if let Some(d) = sim.take(c).into_iter().find_map(|m| match m {
            Message::Decided(d) => Some(d),
            _ => None,
        }) {
            sim.hang_up(c);
            return d;
        }
    }
    panic!("no answer")
}

/// Four servers; shard 1 has ended with nine records, and the server of its first replica says nothing any more.
/// Returns which.
fn lost(seed: u64, after_ms: u64) -> (World, usize) {
    let mut w = World::new(seed);
    w.sim.cfg.failures.rebuild_after = Duration::from_millis(after_ms);
    for i in 0..w.sim.nodes.len() {
        w.sim.crash(i);
        w.sim.start(i);
    }
    w.slots.push(Slot::new(3));
    w.until("a view", |w| w.slots.iter().filter(|s| s.registered && !s.shards.is_empty()).count() >= 3);
    w.report_all();
    w.append(1, 0, 4);
    w.append(1, 1, 5);
    w.until("committed", |w| w.truth.tail == Gsn(9));
    w.run_ms(300);
    assert_eq!(ask(&mut w.sim, Finalize { request: 1, shard: ONE }).refused, "");
    w.run_ms(500);
    let slot = one(&w).replicas[0].slot;
    let gone = w.slots.iter().position(|s| s.id == slot).unwrap();
    mute(&mut w, gone);
    (w, gone)
}

fn mute(w: &mut World, slot: usize) {
    let World { slots, sim, .. } = w;
    slots[slot].disconnect(sim);
    slots[slot].mute = true;
}

/// The slot that makes the copy.
fn maker(w: &World) -> Option<usize> {
    let to = one(w).rebuild?.to.slot;
    w.slots.iter().position(|s| s.id == to)
}

/// It has all of it.
fn complete(w: &mut World, maker: usize) {
    let whole = w.slots.iter().find_map(|s| s.shards.get(&ONE)).expect("somebody has it").clone();
    w.slots[maker].copies.insert(ONE, whole);
    w.slots[maker].report(&mut w.sim);
}

#[test]
fn a_lost_copy_is_made_anew_on_a_server_that_has_none_and_takes_its_place() {
    let (mut w, gone) = lost(1, AFTER_MS);
    w.run_ms(AFTER_MS - 500);
    assert_eq!(one(&w).rebuild, None, "not yet: it may come back");
    w.until("a copy begins", |w| maker(w).is_some());
    let (new, before) = (maker(&w).unwrap(), one(&w));
    assert!(before.replicas.iter().all(|r| r.slot != w.slots[new].id), "where none was");
    w.run_ms(2 * AFTER_MS);
    assert_eq!(one(&w), before, "it isn't there before it says that it has everything");
    complete(&mut w, new);
    w.until("it counts", |w| one(w).rebuild.is_none());
    let after = one(&w);
    assert_eq!((after.replicas[0].slot, &after.replicas[1]), (w.slots[new].id, &before.replicas[1]));
    assert_eq!(after.state, before.state, "it holds what it held");
    // LOG-2: nothing more happens, whoever comes back, and cuts go on.
    w.slots[gone].mute = false;
    w.until("the lost one is back", |w| w.slots[gone].registered && !w.slots[gone].shards.contains_key(&ONE));
    let number = view(&w).number;
    w.run_ms(2 * AFTER_MS);
    assert_eq!(view(&w).number, number);
}

#[test]
fn who_comes_back_in_time_keeps_its_place() {
    let (mut w, gone) = lost(2, AFTER_MS);
    w.until("a copy begins", |w| maker(w).is_some());
    let before = one(&w);
    w.slots[gone].mute = false;
    w.until("it is given up", |w| one(w).rebuild.is_none());
    assert_eq!(one(&w).replicas, before.replicas);
    w.until("its maker hears", |w| w.slots.iter().all(|s| s.copies.is_empty()));
    w.run_ms(2 * AFTER_MS);
    assert_eq!(one(&w).rebuild, None);
}

#[test]
fn a_new_leader_goes_on_with_what_the_last_one_began() {
    let (mut w, _) = lost(3, AFTER_MS);
    w.until("a copy begins", |w| maker(w).is_some());
    let (new, rebuild) = (maker(&w).unwrap(), one(&w).rebuild);
    let leader = w.sim.leader().unwrap();
    w.sim.crash(leader);
    w.until("another leads", |w| w.sim.leader().is_some_and(|l| l != leader));
    w.until("the maker is back", |w| w.slots[new].registered);
    assert_eq!(one(&w).rebuild, rebuild);
    complete(&mut w, new);
    w.until("it counts", |w| one(w).rebuild.is_none());
    assert_eq!(one(&w).replicas[0].slot, w.slots[new].id);
}

#[test]
fn another_server_begins_when_the_one_that_makes_the_copy_is_lost_too() {
    let (mut w, _) = lost(4, AFTER_MS);
    w.until("a copy begins", |w| maker(w).is_some());
    let first = maker(&w).unwrap();
    mute(&mut w, first);
    w.until("another begins", |w| maker(w).is_some_and(|m| m != first));
    let second = maker(&w).unwrap();
    complete(&mut w, second);
    w.until("it counts", |w| one(w).rebuild.is_none());
    assert_eq!(one(&w).replicas[0].slot, w.slots[second].id);
}

#[test]
fn an_operator_need_not_wait_and_hears_why_not() {
    let (mut w, gone) = lost(5, 0);
    w.run_ms(3 * AFTER_MS);
    assert_eq!(one(&w).rebuild, None, "never by itself");
    for (shard, why) in [(ShardId(9), "no shard"), (view(&w).live().next().unwrap().id, "takes appends")] {
        let refused = ask(&mut w.sim, RebuildShard { request: 7, shard });
        assert!(refused.refused.contains(why) && refused.request == 7, "{refused:?}");
    }
    let begun = ask(&mut w.sim, RebuildShard { request: 8, shard: ONE });
    assert_eq!((begun.refused.as_str(), begun.request), ("", 8));
    assert!(begun.view > ViewNumber(1));
    let new = maker(&w).expect("it is being made");
    assert_ne!(new, gone);
    assert_eq!(ask(&mut w.sim, RebuildShard { request: 9, shard: ONE }).refused, "", "it is being made");
    complete(&mut w, new);
    w.until("it counts", |w| one(w).rebuild.is_none());
    w.run_ms(300);
    let again = ask(&mut w.sim, RebuildShard { request: 10, shard: ONE });
    assert!(again.refused.contains("are there"), "{again:?}");
}

#[test]
fn no_copy_is_begun_where_there_is_nobody_to_make_it_or_to_copy_from() {
    let (mut w, gone) = lost(6, AFTER_MS);
    let holds: Vec<usize> = (0..4).filter(|i| w.slots[*i].shards.contains_key(&ONE) && *i != gone).collect();
    mute(&mut w, holds[0]);
    w.run_ms(3 * AFTER_MS);
    assert_eq!(one(&w).rebuild, None, "no copy is left");
    w.slots[holds[0]].mute = false;
    w.until("then one begins", |w| maker(w).is_some());
}

/// LOG-2: the copies on a server that is set up anew are gone for certain, so nothing is waited for.
#[test]
fn what_a_wiped_server_held_is_made_anew_at_once() {
    let (mut w, gone) = lost(7, 3_600_000);
    w.run_ms(3 * AFTER_MS);
    assert_eq!(one(&w).rebuild, None, "it may come back");
    let wiped = &mut w.slots[gone];
    (wiped.mute, wiped.stamp) = (false, 7);
    let shards = std::mem::take(&mut wiped.shards);
    w.until("it is turned away", |w| w.slots[gone].dismissed);
    w.run_ms(500);
    let new = maker(&w).expect("a copy is being made");
    assert_ne!(new, gone);
    complete(&mut w, new);
    w.until("it counts", |w| one(w).rebuild.is_none());
    assert_eq!(one(&w).replicas[0].slot, w.slots[new].id);
    assert!(!shards.is_empty());
}

/// Whoever comes under the id of a server that is there changes nothing, nor does one that came before it returned.
#[test]
fn a_stranger_under_the_id_of_a_living_server_makes_nobody_copy() {
    let (mut w, gone) = lost(8, 3_600_000);
    w.slots[gone].mute = false;
    w.until("it is back", |w| w.slots[gone].registered);
    w.run_ms(500);
    let mut stranger = Slot::new(w.slots[gone].id.server.0);
    (stranger.stamp, stranger.incarnation) = (7, 9);
    w.slots.push(stranger);
    w.until("it is turned away", |w| w.slots.last().unwrap().dismissed);
    w.slots.pop();
    w.run_ms(2 * AFTER_MS);
    assert_eq!(one(&w).rebuild, None);
}
