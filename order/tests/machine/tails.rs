//! Is the tail that somebody is told never older than what was known when he asked?

use crate::driver::Sim;
use crate::model::World;
use zoolog_core::Gsn;
use zoolog_core::wire::{Message, Tail};

fn tail(m: &Message) -> Option<(u64, Gsn)> {
    match m {
        Message::TailIs(t) => Some((t.request, t.gsn)),
        _ => None,
    }
}

#[test]
fn the_tail_is_what_is_committed() {
    let mut w = World::ready(1);
    w.append(1, 0, 5);
    w.until("committed", |w| w.truth.tail == Gsn(5));
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.send(g, Tail { request: 3 });
    assert_eq!(w.sim.answer(g, "the tail", tail), (3, Gsn(5)));
}

/// One round runs, one waits: callers that come while one runs all share the next.
#[test]
fn callers_share_rounds_that_start_after_their_call() {
    let mut sim = Sim::new(3, 2);
    let leader = sim.elect();
    let g = sim.client(leader);
    sim.run_ms(50);
    let before = sim.nodes[leader].sent_frames;
    for request in 0..200 {
        sim.send(g, Tail { request });
    }
    let mut answers = Vec::new();
    sim.until("all answers", |s| {
        let got: Vec<_> = s.take(g).iter().filter_map(tail).collect();
        answers.extend(got);
        answers.len() == 200
    });
    let requests: Vec<u64> = answers.iter().map(|a| a.0).collect();
    assert_eq!(requests, (0..200).collect::<Vec<_>>());
    let frames = sim.nodes[leader].sent_frames - before - 200;
    assert!(frames < 60, "{frames} frames for 200 callers");
}

/// A leader that was replaced without knowing must not answer from its own state.
#[test]
fn a_leader_without_its_quorum_tells_no_tail() {
    let mut w = World::ready(3);
    let old = w.sim.leader().unwrap();
    let g = w.sim.client(old);
    w.sim.run_ms(5);
    w.sim.isolate(old);
    w.sim.send(g, Tail { request: 1 });
    w.run_ms(400);
    let answers = w.sim.take(g);
    assert!(answers.iter().all(|m| matches!(m, Message::NotLeader(_))), "{answers:?}");
}

/// Raft drops a round silently when the leader can't serve it: it is begun anew, not forgotten.
#[test]
fn a_round_that_got_lost_is_begun_anew() {
    let mut w = World::ready(4);
    let leader = w.sim.leader().unwrap();
    let g = w.sim.client(leader);
    w.sim.run_ms(5);
    let others: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    others.iter().for_each(|o| w.sim.cut(leader, *o));
    w.sim.send(g, Tail { request: 1 });
    w.sim.run_ms(60);
    w.sim.heal();
    let mut answered = None;
    w.sim.until("an answer, or an honest no", |s| {
        answered = s.take(g).into_iter().next();
        answered.is_some()
    });
    assert!(matches!(answered, Some(Message::TailIs(_) | Message::NotLeader(_))), "{answered:?}");
}
