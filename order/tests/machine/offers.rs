//! Offers of snapshots: told on by the leader as long as their nodes are there, and by nobody else.

use crate::driver::Sim;
use crate::model::World;
use zoolog_core::Gsn;
use zoolog_core::wire::{FindOffers, Message, Offer, OffersAre, RefusedWhy};

fn offer(sim: &mut Sim, g: usize, name: &str, addr: &str, gsn: u64) {
    sim.send(g, Offer { name: name.into(), addr: addr.into(), gsn: Gsn(gsn) });
    // It has no answer to wait for.
    sim.run_ms(10);
}

/// Names and positions of what is offered, as client `g` is told, and the trim point.
fn offers(sim: &mut Sim, g: usize, request: u64) -> (Vec<(String, u64)>, Gsn) {
    sim.send(g, FindOffers { request });
    sim.answer(g, "OffersAre", |m| match m {
        Message::OffersAre(OffersAre { request: r, trim, offers }) if *r == request => {
            Some((offers.iter().map(|o| (o.name.clone(), o.gsn.0)).collect(), *trim))
        }
        _ => None,
    })
}

fn names(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(name, gsn)| (name.to_string(), *gsn)).collect()
}

#[test]
fn a_node_is_told_what_others_offer_that_are_there() {
    let mut w = World::ready(1);
    let leader = w.sim.leader().unwrap();
    let [a, b, c] = [0, 1, 2].map(|_| w.sim.client(leader));
    assert_eq!(offers(&mut w.sim, a, 1), (vec![], Gsn(0)));
    offer(&mut w.sim, a, "zk-1", "10.0.0.1:5", 40);
    offer(&mut w.sim, b, "zk-2", "10.0.0.2:5", 60);
    offer(&mut w.sim, a, "zk-1", "10.0.0.1:5", 80);
    assert_eq!(offers(&mut w.sim, c, 2).0, names(&[("zk-1", 80), ("zk-2", 60)]), "the newest of each");
    assert_eq!(offers(&mut w.sim, a, 3).0, names(&[("zk-2", 60)]), "not its own");
    w.sim.hang_up(b);
    w.sim.run_ms(10);
    assert_eq!(offers(&mut w.sim, c, 4).0, names(&[("zk-1", 80)]));
}

#[test]
fn another_leader_knows_what_it_was_told_itself() {
    let mut w = World::ready(2);
    let old = w.sim.leader().unwrap();
    let g = w.sim.client(old);
    offer(&mut w.sim, g, "zk-1", "10.0.0.1:5", 40);
    let other = w.sim.client((old + 1) % 3);
    w.sim.send(other, FindOffers { request: 1 });
    let named = w.sim.answer(other, "NotLeader", |m| match m {
        Message::NotLeader(n) => Some(n.leader.is_some()),
        _ => None,
    });
    assert!(named);
    w.sim.crash(old);
    w.until("another leader", |w| w.sim.leader().is_some_and(|l| l != old));
    let leader = w.sim.leader().unwrap();
    let [asks, has] = [0, 1].map(|_| w.sim.client(leader));
    assert_eq!(offers(&mut w.sim, asks, 1).0, []);
    offer(&mut w.sim, has, "zk-1", "10.0.0.1:5", 50);
    assert_eq!(offers(&mut w.sim, asks, 2).0, names(&[("zk-1", 50)]));
}

#[test]
fn an_offer_that_is_none_is_refused() {
    let mut w = World::ready(3);
    let leader = w.sim.leader().unwrap();
    for (name, addr) in [
        ("x".repeat(65), "a:1".to_string()),
        ("zk-1".into(), String::new()),
        ("zk-1".into(), "a".repeat(300)),
    ] {
        let g = w.sim.client(leader);
        offer(&mut w.sim, g, &name, &addr, 5);
        let why = w.sim.answer(g, "a refusal", |m| match m {
            Message::Refused(r) => Some(r.why),
            _ => None,
        });
        assert_eq!(why, RefusedWhy::Invalid);
    }
    let g = w.sim.client(leader);
    assert_eq!(offers(&mut w.sim, g, 1).0, []);
}
