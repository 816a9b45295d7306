//! Consumers: registered once it is decided, answered with what is decided, in few entries, by any leader.

use crate::driver::Sim;
use crate::model::World;
use zoolog_core::Gsn;
use zoolog_core::limits::CONSUMERS_MAX;
use zoolog_core::wire::{Consumer, ConsumerIs, ForgetConsumer, Message, RefusedWhy, Status};

fn answer(sim: &mut Sim, g: usize, request: u64) -> (Option<Gsn>, Gsn) {
    sim.answer(g, "ConsumerIs", |m| match m {
        Message::ConsumerIs(ConsumerIs { request: r, upto, trim }) if *r == request => Some((*upto, *trim)),
        _ => None,
    })
}

fn tell(sim: &mut Sim, g: usize, request: u64, name: &str, upto: u64) -> (Option<Gsn>, Gsn) {
    sim.send(g, Consumer { request, name: name.into(), upto: Gsn(upto) });
    answer(sim, g, request)
}

/// A world with 100 records, and a client of its leader.
fn hundred(seed: u64) -> (World, usize) {
    let mut w = World::ready(seed);
    w.append(1, 0, 100);
    w.until("committed", |w| w.truth.tail == Gsn(100));
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    (w, g)
}

#[test]
fn positions_are_decided_before_they_are_answered_and_slots_hear_of_the_trim_point() {
    let (mut w, g) = hundred(1);
    assert_eq!(tell(&mut w.sim, g, 1, "a", 0), (Some(Gsn(0)), Gsn(0)));
    assert_eq!(tell(&mut w.sim, g, 2, "b", 70), (Some(Gsn(70)), Gsn(0)));
    assert_eq!(tell(&mut w.sim, g, 3, "a", 40), (Some(Gsn(40)), Gsn(40)));
    assert_eq!(tell(&mut w.sim, g, 4, "a", 10), (Some(Gsn(40)), Gsn(40)), "never back");
    assert_eq!(tell(&mut w.sim, g, 5, "late", 0), (Some(Gsn(40)), Gsn(40)), "not below the trim point");
    w.until("slots know", |w| w.slots.iter().all(|s| s.trim == Gsn(40)));
    // One that comes back is told at once, with no entry.
    w.slots[0].restart(&mut w.sim);
    w.slots[0].trim = Gsn(0);
    w.until("told again", |w| w.slots[0].trim == Gsn(40));
}

#[test]
fn a_new_leader_knows_consumers_and_trim_point() {
    let (mut w, g) = hundred(2);
    tell(&mut w.sim, g, 1, "a", 60);
    let old = w.sim.leader().unwrap();
    w.sim.crash(old);
    w.until("another leader", |w| w.sim.leader().is_some_and(|l| l != old));
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    assert_eq!(tell(&mut w.sim, g, 1, "a", 0), (Some(Gsn(60)), Gsn(60)));
    // What it was told travels to the one that comes back, too.
    w.sim.start(old);
    assert_eq!(tell(&mut w.sim, g, 2, "a", 80), (Some(Gsn(80)), Gsn(80)));
    w.until("everywhere", |w| (0..3).all(|i| w.sim.machine(i).state().trim() == Gsn(80)));
}

#[test]
fn many_reports_make_few_entries() {
    let (mut w, g) = hundred(3);
    tell(&mut w.sim, g, 1, "a", 1);
    let leader = w.sim.leader().unwrap();
    w.sim.run_ms(200);
    let before = w.sim.machine(leader).applied();
    for i in 0..500u64 {
        w.sim.send(g, Consumer { request: 10 + i, name: format!("c{}", i % 7), upto: Gsn(i / 7) });
        w.sim.run_ms(1);
    }
    w.sim.run_ms(300);
    let answered = w.sim.take(g).iter().filter(|m| matches!(m, Message::ConsumerIs(_))).count();
    let entries = w.sim.machine(leader).applied() - before;
    assert_eq!(answered, 500);
    assert!((4..=8).contains(&entries), "{entries} entries in 0.8 s");
}

#[test]
fn a_forgotten_consumer_holds_nothing_back_and_may_come_again() {
    let (mut w, g) = hundred(4);
    tell(&mut w.sim, g, 1, "slow", 5);
    tell(&mut w.sim, g, 2, "fast", 90);
    w.sim.send(g, ForgetConsumer { request: 3, name: "slow".into() });
    assert_eq!(answer(&mut w.sim, g, 3), (None, Gsn(90)));
    assert_eq!(tell(&mut w.sim, g, 4, "slow", 5), (Some(Gsn(90)), Gsn(90)));
    w.sim.send(g, ForgetConsumer { request: 5, name: "nobody".into() });
    assert_eq!(answer(&mut w.sim, g, 5), (None, Gsn(90)));
    // Asked to be forgotten and registering at the same time: whatever comes of it is what is answered.
    w.sim.send(g, ForgetConsumer { request: 6, name: "slow".into() });
    w.sim.send(g, Consumer { request: 7, name: "slow".into(), upto: Gsn(3) });
    let (said, leader) = (answer(&mut w.sim, g, 7).0, w.sim.leader().unwrap());
    assert_eq!(w.sim.machine(leader).state().consumer("slow"), said);
}

#[test]
fn too_many_consumers_and_impossible_names_are_refused() {
    let (mut w, _) = hundred(5);
    let leader = w.sim.leader().unwrap();
    let refused = |sim: &mut Sim, name: String| {
        let g = sim.client(leader);
        sim.send(g, Consumer { request: 1, name, upto: Gsn(1) });
        sim.answer(g, "a refusal", |m| match m {
            Message::Refused(r) => Some(r.why),
            _ => None,
        })
    };
    assert_eq!(refused(&mut w.sim, String::new()), RefusedWhy::Invalid);
    assert_eq!(refused(&mut w.sim, "x".repeat(65)), RefusedWhy::Invalid);
    let g = w.sim.client(leader);
    for i in 0..CONSUMERS_MAX as u64 {
        w.sim.send(g, Consumer { request: i, name: format!("c{i}"), upto: Gsn(1) });
    }
    answer(&mut w.sim, g, CONSUMERS_MAX as u64 - 1);
    assert_eq!(refused(&mut w.sim, "one more".into()), RefusedWhy::NotReady);
    assert_eq!(tell(&mut w.sim, g, 7000, "c3", 9).0, Some(Gsn(9)), "who is there may go on");
}

/// A follower has no say.
#[test]
fn who_does_not_lead_says_who_does() {
    let (mut w, _) = hundred(6);
    let other = (w.sim.leader().unwrap() + 1) % 3;
    let g = w.sim.client(other);
    w.sim.send(g, Consumer { request: 1, name: "a".into(), upto: Gsn(1) });
    let named = w.sim.answer(g, "NotLeader", |m| match m {
        Message::NotLeader(n) => Some(n.leader.is_some()),
        _ => None,
    });
    assert!(named);
}

/// ZooKeeper nodes find in it who of them is there, to say who is called the leader.
#[test]
fn the_status_tells_which_consumers_are_connected() {
    let (mut w, g) = hundred(3);
    tell(&mut w.sim, g, 1, "zk-1", 10);
    let leader = w.sim.leader().unwrap();
    let h = w.sim.client(leader);
    tell(&mut w.sim, h, 1, "zk-0", 10);
    let here = |w: &mut World| {
        let asker = w.sim.client(leader);
        w.sim.send(asker, Status { request: 9 });
        let json = w.sim.answer(asker, "a status", |m| match m {
            Message::StatusIs(s) => Some(s.json.clone()),
            _ => None,
        });
        let (_, rest) = json.split_once("\"consumers_here\":[").expect("a list");
        rest.split(']').next().expect("its end").to_string()
    };
    assert_eq!(here(&mut w), "\"zk-0\",\"zk-1\"");
    w.sim.hang_up(h);
    assert_eq!(here(&mut w), "\"zk-1\"");
}
