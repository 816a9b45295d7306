//! Do the histograms of an orderer say what happened? Cuts at the leader, records at everybody.

use crate::model::World;
use zoolog_core::wire::{Message, Stages};

/// What orderer `i` has counted: cuts waited for, cuts agreed on, records, cuts sent.
fn counts(w: &mut World, i: usize, reset: bool) -> [u64; 4] {
    let g = w.sim.client(i);
    w.sim.send(g, Stages { request: 8, reset });
    let json = w.sim.answer(g, "stages", |m| match m {
        Message::StatusIs(s) if s.request == 8 => Some(s.json.clone()),
        _ => None,
    });
    ["cut_wait", "raft", "raft_wal", "cut_send"].map(|name| {
        let (_, rest) = json.split_once(&format!("\"name\":\"{name}\",\"count\":")).expect(&json);
        rest.split(',').next().unwrap().parse().unwrap()
    })
}

#[test]
fn the_leader_counts_its_cuts_and_everybody_its_records() {
    let mut w = World::ready(1);
    w.append_thirty();
    let leader = w.sim.leader().unwrap();
    let cuts = w.truth.cuts.len() as u64;
    for i in 0..3 {
        let records = w.sim.nodes[i].disk.records;
        let [waited, agreed, persisted, sent] = counts(&mut w, i, true);
        let own = if i == leader { cuts } else { 0 };
        assert_eq!([waited, agreed, sent], [own, own, own], "orderer {i}");
        assert!(persisted >= cuts / 2 && persisted <= records, "{persisted} of {records} records");
        assert_eq!(counts(&mut w, i, false), [0; 4], "counted anew");
    }
}
