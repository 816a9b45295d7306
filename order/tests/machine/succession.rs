//! A log that goes on where another has ended: it takes nothing before it is told where that is, is told once, and keeps it.

use crate::driver::Sim;
use crate::model::World;
use zoolog_core::wire::{Begin, BeginEnd, BeginIs, Message};
use zoolog_core::{Gsn, ViewNumber};

fn ask(sim: &mut Sim, g: usize, request: u64, first_gsn: Option<u64>) -> BeginEnd {
    sim.send(g, Begin { request, first_gsn: first_gsn.map(Gsn) });
    sim.answer(g, "BeginIs", |m| match m {
        Message::BeginIs(BeginIs { request: r, end }) if *r == request => Some(*end),
        _ => None,
    })
}

fn client(w: &mut World) -> usize {
    let leader = w.sim.elect();
    w.sim.client(leader)
}

/// One that waits, its servers being there.
fn waiting(seed: u64) -> World {
    let mut w = World::new(seed);
    w.sim.cfg.successor = true;
    for i in 0..3 {
        w.sim.crash(i);
        w.sim.start(i);
    }
    w.until("all slots are there", |w| w.slots.iter().all(|s| s.registered));
    w
}

/// The one that leads is gone, and comes back when another does.
fn change_leader(w: &mut World) {
    let old = w.sim.elect();
    w.sim.crash(old);
    w.until("another leader", |w| w.sim.leader().is_some_and(|l| l != old));
    w.sim.start(old);
}

#[test]
fn it_waits_then_goes_on_where_it_was_told_whoever_leads() {
    for seed in 1..6 {
        let mut w = waiting(seed);
        let g = client(&mut w);
        assert_eq!(ask(&mut w.sim, g, 1, None), BeginEnd::Awaits);
        w.run_ms(300);
        let leader = w.sim.elect();
        let view = |w: &World, i: usize| w.sim.machine(i).state().view().number;
        assert_eq!(view(&w, leader), ViewNumber(0), "no shard before");
        if seed % 2 == 0 {
            change_leader(&mut w);
        }
        let g = client(&mut w);
        w.truth.tail = Gsn(1000);
        assert_eq!(ask(&mut w.sim, g, 2, Some(1000)), BeginEnd::Begun(Gsn(1000)));
        assert_eq!(ask(&mut w.sim, g, 3, Some(1000)), BeginEnd::Begun(Gsn(1000)), "again");
        assert_eq!(ask(&mut w.sim, g, 4, Some(7)), BeginEnd::Begun(Gsn(1000)), "elsewhere: no");
        w.until("a view at every slot", |w| w.slots.iter().all(|s| s.registered && s.shards.len() == 2));
        w.until("slots know what is trimmed", |w| w.slots.iter().all(|s| s.trim == Gsn(1000)));
        w.report_all();
        w.run_ms(50);
        w.append(1, 0, 100);
        w.until("committed", |w| w.truth.tail == Gsn(1100));
        // Who restarts from its log, and who takes over, know it.
        change_leader(&mut w);
        let g = client(&mut w);
        assert_eq!(ask(&mut w.sim, g, 1, None), BeginEnd::Begun(Gsn(1000)));
        let leader = w.sim.elect();
        w.sim.roll(leader);
        w.sim.crash(leader);
        w.sim.start(leader);
        w.until("it has caught up", |w| w.sim.machine(leader).state().tail() == Gsn(1100));
    }
}

#[test]
fn a_log_that_began_by_itself_is_no_successor() {
    let mut w = World::ready(9);
    let g = client(&mut w);
    assert_eq!(ask(&mut w.sim, g, 1, None), BeginEnd::Own(Gsn(0)));
    assert_eq!(ask(&mut w.sim, g, 2, Some(5)), BeginEnd::Own(Gsn(0)));
    w.append(1, 0, 10);
    w.until("committed", |w| w.truth.tail == Gsn(10));
    assert_eq!(ask(&mut w.sim, g, 3, Some(5)), BeginEnd::Own(Gsn(10)));
    // Nor does it become one because its file says so now.
    w.sim.cfg.successor = true;
    change_leader(&mut w);
    let g = client(&mut w);
    assert_eq!(ask(&mut w.sim, g, 4, Some(5)), BeginEnd::Own(Gsn(10)));
}

/// Bounded, and answered only once a leader is ready.
#[test]
fn too_many_that_ask_at_once_are_turned_away() {
    let mut w = waiting(11);
    let g = client(&mut w);
    for request in 0..200 {
        w.sim.send(g, Begin { request, first_gsn: None });
    }
    w.run_ms(50);
    let answers = w.sim.take(g);
    let answered = answers.iter().filter(|m| matches!(m, Message::BeginIs(_))).count();
    let refused = answers.iter().any(|m| matches!(m, Message::Refused(_)));
    assert!(answered == 200 || (refused && answered >= 1), "{answered} {refused}");
}
