//! Trims by hand, and what the leader lets go by itself: by time, by bytes, and of consumers that don't return.

use crate::driver::Sim;
use crate::model::World;
use std::time::Duration;
use zoolog_core::wire::{
    Consumer, ConsumerIs, DiskRoom, Held, LaneHeld, Message, Status, Trim, TrimAnswer, TrimEnd,
};
use zoolog_core::{Gsn, LaneId, ShardId};
use zoolog_order::{OrderEvent, RetentionConfig};

fn trim(sim: &mut Sim, g: usize, request: u64, gsn: u64) -> (TrimEnd, u64, u64) {
    sim.send(g, Trim { request, gsn: Gsn(gsn) });
    sim.answer(g, "TrimAnswer", |m| match m {
        Message::TrimAnswer(TrimAnswer { request: r, end, before, trim }) if *r == request => {
            Some((end.clone(), before.0, trim.0))
        }
        _ => None,
    })
}

fn tell(sim: &mut Sim, g: usize, request: u64, name: &str, upto: u64) -> (Option<Gsn>, Gsn) {
    sim.send(g, Consumer { request, name: name.into(), upto: Gsn(upto) });
    sim.answer(g, "ConsumerIs", |m| match m {
        Message::ConsumerIs(ConsumerIs { request: r, upto, trim }) if *r == request => Some((*upto, *trim)),
        _ => None,
    })
}

/// A world with 100 records, under these settings, and a client of its leader.
fn hundred(seed: u64, retention: RetentionConfig) -> (World, usize) {
    let mut w = World::new(seed);
    w.sim.cfg.retention = retention;
    for i in 0..3 {
        w.sim.crash(i);
        w.sim.start(i);
    }
    w.until("a view at every slot", |w| w.slots.iter().all(|s| s.registered && s.shards.len() == 2));
    w.report_all();
    w.run_ms(50);
    w.append(1, 0, 100);
    w.until("committed", |w| w.truth.tail == Gsn(100));
    let g = client(&mut w);
    (w, g)
}

fn client(w: &mut World) -> usize {
    let leader = w.sim.leader().expect("a leader");
    w.sim.client(leader)
}

/// The one that leads is gone, and comes back when another does.
fn change_leader(w: &mut World) -> usize {
    let old = w.sim.leader().unwrap();
    w.sim.crash(old);
    w.until("another leader", |w| w.sim.leader().is_some_and(|l| l != old));
    w.sim.start(old);
    w.until("all slots are back", |w| w.slots.iter().all(|s| s.registered));
    client(w)
}

fn point(w: &World) -> u64 {
    w.sim.machine(w.sim.leader().unwrap()).state().trim().0
}

#[test]
fn a_trim_by_hand_is_answered_with_what_it_did_and_slots_hear_of_it() {
    let (mut w, g) = hundred(1, RetentionConfig::default());
    assert_eq!(trim(&mut w.sim, g, 1, 30), (TrimEnd::Done, 0, 30));
    assert_eq!(trim(&mut w.sim, g, 2, 20), (TrimEnd::Done, 30, 30), "gone already");
    assert_eq!(trim(&mut w.sim, g, 3, 101), (TrimEnd::BeyondTail(Gsn(100)), 30, 30));
    assert_eq!(trim(&mut w.sim, g, 4, u64::MAX), (TrimEnd::BeyondTail(Gsn(100)), 30, 30));
    tell(&mut w.sim, g, 5, "slower", 30);
    tell(&mut w.sim, g, 6, "slow", 40);
    assert_eq!(trim(&mut w.sim, g, 7, 50), (TrimEnd::HeldBack("slower".into(), Gsn(30)), 30, 30));
    w.until("slots know", |w| w.slots.iter().all(|s| s.trim == Gsn(30)));
    let g = change_leader(&mut w);
    assert_eq!(trim(&mut w.sim, g, 1, 20), (TrimEnd::Done, 30, 30));
}

#[test]
fn trims_wait_for_a_leader_that_is_ready_and_are_bounded() {
    let (mut w, g) = hundred(2, RetentionConfig::default());
    for request in 0..100 {
        w.sim.send(g, Trim { request, gsn: Gsn(request + 1) });
    }
    w.run_ms(100);
    let answers = w.sim.take(g);
    let (done, refused) = (
        answers.iter().filter(|m| matches!(m, Message::TrimAnswer(a) if a.end == TrimEnd::Done)).count(),
        answers.iter().filter(|m| matches!(m, Message::Refused(_))).count(),
    );
    assert!(done + refused > 0 && refused <= 1, "{done} done, {refused} refused");
    let g = client(&mut w);
    assert_eq!(trim(&mut w.sim, g, 1, 100).2, 100, "the next client is served");
}

/// Time is what leaders have measured: a change of leaders makes nothing older, and none of the time before is lost
/// beyond the last tick.
#[test]
fn what_is_old_goes_and_not_before() {
    let time = Some(Duration::from_secs(8));
    let (mut w, _) = hundred(3, RetentionConfig { time, ..RetentionConfig::default() });
    w.run_ms(4_000);
    w.append(2, 0, 10);
    w.run_ms(3_500);
    assert_eq!(point(&w), 0, "7.5 s are not 8");
    w.run_ms(1_500);
    assert_eq!(point(&w), 100);
    change_leader(&mut w);
    w.run_ms(1_000);
    assert_eq!(point(&w), 100, "the others are 6 s old");
    w.run_ms(4_000);
    assert_eq!(point(&w), 110, "everything, once nothing comes any more");
    let (leader, ticks) = (w.sim.leader().unwrap(), |w: &World, l: usize| w.sim.machine(l).applied());
    let before = ticks(&w, leader);
    w.run_ms(5_000);
    assert_eq!(ticks(&w, leader), before, "nothing left to age: no entries");
}

/// A wanted time and a consumer: the slower of both decides.
#[test]
fn retention_keeps_more_than_the_consumer_needs() {
    let time = Some(Duration::from_secs(2));
    let (mut w, g) = hundred(4, RetentionConfig { time, ..RetentionConfig::default() });
    assert_eq!(tell(&mut w.sim, g, 1, "a", 60), (Some(Gsn(60)), Gsn(0)), "kept for its time");
    w.run_ms(3_000);
    assert_eq!(point(&w), 60, "then only for the consumer");
}

fn lane() -> LaneId {
    LaneId::new(ShardId(1), 0)
}

/// The primary of the lane says what it holds: 1000 bytes a record.
fn say(w: &mut World, tail: u64) {
    let from = (0..=10).map(|i| (Gsn(i * tail / 10), (tail - i * tail / 10) * 1000)).collect();
    let slot = w.slots.iter().find(|s| s.shards.contains_key(&ShardId(1))).expect("one of its replicas");
    let held = Held {
        slot: slot.id,
        room: DiskRoom::Low,
        free_bytes: 77,
        lanes: vec![LaneHeld { lane: lane(), from }],
    };
    let g = slot.guest.expect("registered");
    w.sim.send(g, held);
}

#[test]
fn what_is_too_much_goes_once_the_slots_have_said_how_much_there_is() {
    let retention = RetentionConfig { bytes: Some(35_000), ..RetentionConfig::default() };
    let (mut w, g) = hundred(5, retention);
    w.run_ms(3_000);
    assert_eq!(point(&w), 0, "nobody knows how much there is");
    say(&mut w, 100);
    w.run_ms(1_500);
    assert_eq!(point(&w), 60, "the newest 40 have more than 35,000 bytes, the newest 30 have not");
    tell(&mut w.sim, g, 1, "a", 100);
    assert_eq!(point(&w), 60, "kept though nobody needs it");
    w.sim.send(g, Status { request: 2 });
    let json = w.sim.answer(g, "a status", |m| match m {
        Message::StatusIs(s) => Some(s.json.clone()),
        _ => None,
    });
    assert!(
        json.contains("\"keep_from\":60") && json.contains("\"room\":\"low\",\"free_bytes\":77"),
        "{json}"
    );
    // A new leader doesn't know: nothing goes until it does, whatever consumers say.
    let g = change_leader(&mut w);
    w.append(1, 0, 100);
    w.until("committed", |w| w.truth.tail == Gsn(200));
    assert_eq!(tell(&mut w.sim, g, 1, "a", 200).1, Gsn(60));
    w.run_ms(3_000);
    assert_eq!(point(&w), 60);
    say(&mut w, 200);
    w.run_ms(1_500);
    assert_eq!(point(&w), 160);
}

fn dropped(w: &World) -> Vec<String> {
    let events = w.sim.nodes.iter().flat_map(|n| &n.events);
    let names = events.filter_map(|e| match e {
        OrderEvent::ConsumerDropped { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// One that is away too long holds nothing back any more; one that is there does, however long nothing comes from
/// it. One that returns begins where the log does.
#[test]
fn a_consumer_that_does_not_return_is_dropped() {
    let max_age = Some(Duration::from_secs(5));
    let (mut w, g) = hundred(6, RetentionConfig { max_age, ..RetentionConfig::default() });
    let other = client(&mut w);
    tell(&mut w.sim, other, 1, "gone", 20);
    tell(&mut w.sim, g, 1, "there", 80);
    assert_eq!(point(&w), 20);
    w.sim.hang_up(other);
    w.run_ms(4_500);
    assert_eq!((point(&w), dropped(&w).len()), (20, 0));
    w.run_ms(1_500);
    assert_eq!((point(&w), dropped(&w)), (80, vec!["gone".to_string()]));
    w.run_ms(8_000);
    assert_eq!(dropped(&w).len(), 1, "the other is there");
    let back = client(&mut w);
    assert_eq!(tell(&mut w.sim, back, 1, "gone", 20), (Some(Gsn(80)), Gsn(80)), "and sees that it is behind");
}

/// Its absence counts on from leader to leader, and ends when it is back.
#[test]
fn absence_is_counted_across_leaders_and_ends() {
    let max_age = Some(Duration::from_secs(6));
    let (mut w, g) = hundred(7, RetentionConfig { max_age, ..RetentionConfig::default() });
    tell(&mut w.sim, g, 1, "a", 20);
    w.sim.hang_up(g);
    w.run_ms(3_500);
    let g = change_leader(&mut w);
    tell(&mut w.sim, g, 1, "b", 90);
    w.run_ms(1_500);
    assert_eq!((point(&w), dropped(&w).len()), (20, 0));
    w.run_ms(2_000);
    assert_eq!((point(&w), dropped(&w)), (90, vec!["a".to_string()]), "not another 6 s under the new one");
    let a = client(&mut w);
    tell(&mut w.sim, a, 1, "a", 90);
    for _ in 0..3 {
        w.sim.hang_up(a);
        w.run_ms(4_000);
        let a = client(&mut w);
        tell(&mut w.sim, a, 1, "a", 90);
        w.run_ms(300);
        w.sim.hang_up(a);
    }
    assert_eq!(dropped(&w).len(), 1, "it was there in between");
}

#[test]
fn a_consumer_that_is_too_far_behind_is_dropped_even_if_it_is_there() {
    let retention = RetentionConfig { max_lag_bytes: Some(50_000), ..RetentionConfig::default() };
    let (mut w, g) = hundred(8, retention);
    tell(&mut w.sim, g, 2, "far", 10);
    tell(&mut w.sim, g, 1, "near", 60);
    say(&mut w, 100);
    w.run_ms(1_500);
    assert_eq!((point(&w), dropped(&w)), (60, vec!["far".to_string()]));
    assert_eq!(tell(&mut w.sim, g, 3, "far", 70), (Some(Gsn(70)), Gsn(60)), "it may come again");
}

/// Settings that are taken back count no more.
#[test]
fn without_retention_consumers_decide_again() {
    let time = Some(Duration::from_secs(1000));
    let (mut w, g) = hundred(9, RetentionConfig { time, ..RetentionConfig::default() });
    tell(&mut w.sim, g, 1, "a", 50);
    w.run_ms(300);
    assert_eq!(point(&w), 0);
    w.sim.cfg.retention = RetentionConfig::default();
    change_leader(&mut w);
    w.run_ms(300);
    assert_eq!(point(&w), 0, "that one has the old ones");
    for _ in 0..2 {
        change_leader(&mut w);
    }
    w.run_ms(500);
    assert_eq!(point(&w), 50);
}
