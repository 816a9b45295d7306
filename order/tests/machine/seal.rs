//! A log that ends: once, for the first that asked, behind every cut; whoever leads knows it, and tells all who follow.

use crate::driver::Sim;
use crate::model::World;
use std::collections::BTreeSet;
use zoolog_core::Gsn;
use zoolog_core::rng::Rng;
use zoolog_core::view::ShardState;
use zoolog_core::wire::{Decided, Message, RefusedWhy, Seal, SealedIs, Tail, Trim, WantShards};

/// Asks for the end until somebody who leads answers.
fn end(w: &mut World, successor: &str) -> SealedIs {
    for _ in 0..200 {
        let leader = w.sim.elect();
        let g = w.sim.client(leader);
        w.sim.send(g, Seal { request: 7, successor: successor.into() });
        for _ in 0..100 {
            w.run_ms(2);
            for m in w.sim.take(g) {
                match m {
                    Message::SealedIs(is) => {
                        assert_eq!(is.request, 7);
                        w.truth.ended(&is);
                        return is;
                    }
                    Message::NotLeader(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            if !w.sim.guests[g].open {
                break;
            }
        }
    }
    panic!("nobody answers");
}

fn change_leader(w: &mut World) {
    let old = w.sim.elect();
    w.sim.crash(old);
    w.until("another leader", |w| w.sim.leader().is_some_and(|l| l != old));
    w.sim.start(old);
}

fn all_know(w: &mut World, tail: Gsn) {
    w.until("all know", |w| {
        (0..3).all(|i| w.sim.machine(i).state().sealed().is_some_and(|s| s.tail == tail))
    });
}

#[test]
fn the_first_one_counts_and_who_asks_again_is_told_what_it_says() {
    for seed in 1..5 {
        let mut w = World::ready(seed);
        w.append_thirty();
        let tail = w.truth.tail;
        let first = end(&mut w, "b:1");
        assert_eq!((first.tail, first.successor.as_str()), (tail, "b:1"));
        w.until("the watchers are told", |w| w.watchers.iter().all(|x| x.sealed > 0));
        assert_eq!(end(&mut w, "c:1").successor, "b:1");
        // Slots go on making records durable that nobody orders any more.
        for i in 0..20 {
            w.append(i % 3 + 1, 0, 3);
            w.run_ms(3);
        }
        change_leader(&mut w);
        assert_eq!(end(&mut w, "d:1"), SealedIs { request: 7, ..first.clone() });
        assert_eq!(w.truth.tail, tail);
        let leader = w.sim.elect();
        let view = w.sim.machine(leader).state().view().clone();
        assert!(!view.shards.is_empty() && view.shards.iter().all(|s| s.state != ShardState::Live));
        // From a checkpoint as from entries.
        all_know(&mut w, tail);
        w.sim.roll(leader);
        w.sim.crash(leader);
        w.sim.start(leader);
        all_know(&mut w, tail);
        w.check_order();
    }
}

/// Whatever is on its way when it is decided: cuts, reports, another end; whoever leads, and whoever is cut off.
#[test]
fn it_ends_once_whatever_is_on_its_way_and_whoever_leads() {
    for seed in 1..25 {
        let mut w = World::ready(seed);
        let mut rng = Rng::new(seed, "ends");
        let mut asked: Vec<usize> = Vec::new();
        for step in 0..60u64 {
            w.append(rng.between(1, 4) as u32, rng.below(2) as usize, rng.between(1, 6));
            if step >= 20 && rng.chance(25) {
                let node = rng.below(3) as usize;
                let g = w.sim.client(node);
                w.sim.send(g, Seal { request: 1 + step, successor: format!("b:{step}") });
                asked.push(g);
            }
            if rng.chance(6) {
                let node = rng.below(3) as usize;
                w.sim.isolate(node);
                w.run_ms(rng.below(400));
                w.sim.heal();
            }
            if rng.chance(4) {
                let node = rng.below(3) as usize;
                w.sim.crash(node);
                w.run_ms(rng.below(300));
                w.sim.start(node);
            }
            w.run_ms(rng.below(12));
        }
        let last = end(&mut w, "last:1");
        let told: BTreeSet<(Gsn, String)> = asked
            .iter()
            .flat_map(|g| w.sim.take(*g))
            .filter_map(|m| match m {
                Message::SealedIs(is) => Some((is.tail, is.successor)),
                _ => None,
            })
            .collect();
        assert!(
            told.iter().all(|t| *t == (last.tail, last.successor.clone())),
            "seed {seed}: {told:?} {last:?}"
        );
        all_know(&mut w, last.tail);
        w.check_order();
    }
}

fn sealed(m: &Message) -> Option<(u64, Gsn)> {
    match m {
        Message::SealedIs(is) => Some((is.request, is.tail)),
        Message::TailIs(is) => panic!("a tail of a log that has ended: {is:?}"),
        _ => None,
    }
}

/// The next GSN is given elsewhere; shards are formed nowhere; what nobody needs goes.
#[test]
fn of_a_log_that_has_ended_no_tail_is_told_and_no_shard_formed_and_it_is_trimmed() {
    let mut w = World::ready(3);
    w.append_thirty();
    let tail = end(&mut w, "b:1").tail;
    let leader = w.sim.elect();
    let g = w.sim.client(leader);
    w.sim.send(g, Tail { request: 3 });
    assert_eq!(w.sim.answer(g, "the end", sealed), (3, tail));
    w.sim.send(g, WantShards { request: 4, shards: 9 });
    let refused = |m: &Message| match m {
        Message::Decided(Decided { refused, retry, .. }) => Some((refused.clone(), *retry)),
        _ => None,
    };
    let (why, retry) = w.sim.answer(g, "a refusal", refused);
    assert!(why.contains("ended") && !retry, "{why}");
    w.sim.send(g, Trim { request: 5, gsn: tail });
    w.until("all is trimmed", |w| w.sim.machine(leader).state().trim() == tail);
    w.run_ms(2_000);
    let leader = w.sim.elect();
    assert!(w.sim.machine(leader).state().view().live().next().is_none());
    assert_eq!(w.sim.machine(leader).state().tail(), tail);
}

fn refusal(sim: &mut Sim, g: usize) -> (RefusedWhy, String) {
    sim.answer(g, "a refusal", |m| match m {
        Message::Refused(r) => Some((r.why, r.text.clone())),
        _ => None,
    })
}

#[test]
fn what_is_no_successor_is_refused_and_so_is_the_end_of_what_has_not_begun() {
    let mut w = World::ready(4);
    for wrong in [String::new(), "a\nb".into(), "x".repeat(3_000)] {
        let leader = w.sim.elect();
        let g = w.sim.client(leader);
        w.sim.send(g, Seal { request: 1, successor: wrong });
        assert_eq!(refusal(&mut w.sim, g).0, RefusedWhy::Invalid);
    }
    let mut w = World::new(5);
    w.sim.cfg.successor = true;
    for i in 0..3 {
        w.sim.crash(i);
        w.sim.start(i);
    }
    w.until("all slots are there", |w| w.slots.iter().all(|s| s.registered));
    let leader = w.sim.elect();
    let g = w.sim.client(leader);
    w.sim.send(g, Seal { request: 1, successor: "b:1".into() });
    let (why, text) = refusal(&mut w.sim, g);
    assert!(why == RefusedWhy::NotReady && text.contains("begins"), "{text}");
}
