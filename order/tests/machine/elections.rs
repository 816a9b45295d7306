//! Does one member lead, and another when that one is gone?

use crate::driver::Sim;
use crate::model::World;
use zoolog_core::ViewNumber;
use zoolog_core::wire::{Message, NotLeader, WatchCuts};
use zoolog_order::OrderEvent;

#[test]
fn one_leader_is_elected_and_the_same_one_for_the_same_seed() {
    let leader = |seed| Sim::new(3, seed).elect();
    for seed in 0..8 {
        assert_eq!(leader(seed), leader(seed));
    }
    assert!((0..8).map(leader).any(|l| l != leader(0)), "chance decides");
}

#[test]
fn a_single_member_leads_alone() {
    let mut sim = Sim::new(1, 1);
    assert_eq!(sim.elect(), 0);
    sim.crash(0);
    sim.start(0);
    assert_eq!(sim.elect(), 0);
}

#[test]
fn the_first_view_gives_each_pair_of_servers_one_shard() {
    let w = World::ready(3);
    for i in 0..3 {
        let view = w.sim.machine(i).state().view();
        assert_eq!((view.number, view.shards.len()), (ViewNumber(1), 3));
        let mut pairs: Vec<Vec<u32>> = view
            .shards
            .iter()
            .map(|s| {
                let mut p: Vec<u32> = s.replicas.iter().map(|r| r.slot.server.0).collect();
                p.sort_unstable();
                p
            })
            .collect();
        pairs.sort();
        assert_eq!(pairs, [[0, 1], [0, 2], [1, 2]]);
    }
}

/// Defect 18: a fixed leader, and followers that drop what they are sent. Here followers say where the
/// leader is, and another takes over when it is gone.
#[test]
fn followers_point_at_the_leader_and_one_of_them_takes_over() {
    let mut sim = Sim::new(3, 5);
    let old = sim.elect();
    sim.run_ms(100);
    let follower = (old + 1) % 3;
    let g = sim.client(follower);
    sim.send(g, WatchCuts { request: 4 });
    let leader = sim.answer(g, "where the leader is", |m| match m {
        Message::NotLeader(NotLeader { leader }) => Some(leader.clone()),
        _ => None,
    });
    assert_eq!(leader, Some(crate::driver::addr(old)));
    sim.crash(old);
    let before = sim.now;
    let new = sim.elect();
    assert!(new != old);
    assert!(sim.now.since(before).as_millis() < 1000, "took {:?}", sim.now.since(before));
    assert!(matches!(sim.nodes[new].events.last(), Some(OrderEvent::BecameLeader { .. })));
}

#[test]
fn a_leader_cut_off_from_its_quorum_steps_down_and_tells_its_guests() {
    let mut sim = Sim::new(3, 6);
    let old = sim.elect();
    let g = sim.client(old);
    sim.send(g, WatchCuts { request: 1 });
    sim.run_ms(20);
    sim.isolate(old);
    sim.until("it notices", |s| !s.machine(old).is_leading());
    sim.run_ms(5);
    assert!(matches!(
        sim.take(g).as_slice(),
        [Message::OrderIs(_), Message::OrderersAre(_), Message::NotLeader(_)]
    ));
    assert!(!sim.guests[g].open);
    assert!(sim.nodes[old].events.iter().any(|e| matches!(e, OrderEvent::SteppedDown { .. })));
    sim.until("another one leads", |s| s.leader().is_some_and(|l| l != old));
    sim.heal();
    sim.run_ms(3000);
    assert!(sim.leader().is_some());
}

#[test]
fn the_old_leaders_return_does_not_disturb_the_new_one() {
    let mut sim = Sim::new(3, 7);
    let old = sim.elect();
    sim.isolate(old);
    sim.until("another one leads", |s| s.leader().is_some_and(|l| l != old));
    let new = sim.leader();
    sim.run_ms(2000);
    sim.heal();
    sim.run_ms(3000);
    assert_eq!(sim.leader(), new, "pre-vote: the returned member doesn't force an election");
}

#[test]
fn a_new_address_of_a_slot_reaches_everybody_in_a_new_view() {
    let mut w = World::ready(8);
    let g = w.slots[0].guest.unwrap();
    let leader = w.sim.guests[g].node;
    w.slots[0].restart(&mut w.sim);
    let g = w.sim.connect(leader);
    use zoolog_core::wire::{Register, Role};
    w.sim.send(g, crate::driver::hello(Role::Slot, 0, 2));
    let (slot, incarnation) = (w.slots[0].id, zoolog_core::Incarnation(2));
    let parts = vec![];
    w.sim.send(
        g,
        Register { slot, incarnation, addr: "moved:1".into(), domain: String::new(), stamp: 0, parts },
    );
    let watcher = w.sim.client(leader);
    w.sim.send(watcher, WatchCuts { request: 1 });
    w.sim.answer(watcher, "the new view", |m| match m {
        Message::ViewIs(v) => (v.view.number == ViewNumber(2)).then_some(()),
        Message::OrderIs(o) => (o.view.number == ViewNumber(2)).then_some(()),
        _ => None,
    });
    w.sim.run_ms(100);
    for i in 0..3 {
        let view = w.sim.machine(i).state().view();
        let addrs = view.shards.iter().flat_map(|s| &s.replicas).filter(|r| r.slot == slot);
        assert!(addrs.clone().count() == 2 && addrs.into_iter().all(|r| r.addr == "moved:1"));
    }
}
