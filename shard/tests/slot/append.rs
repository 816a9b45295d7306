//! Life of an append: placed, replicated and persisted at once, reported, ordered, acknowledged.

use crate::world::client::*;
use crate::world::*;
use std::time::Duration;
use zoolog_core::limits::WRITER_WINDOW;
use zoolog_core::machine::{Input, Machine};
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::Bounds;

/// The actions that concern one link end, or one node's disk.
pub fn deliver_to(world: &mut World, n: usize) {
    while let Some(&a) = world.actions().iter().find(|a| match **a {
        Action::Deliver(l, i) => matches!(world.links[l].ends[i], End::Node(m, _) if m == n),
        _ => false,
    }) {
        world.act(a);
    }
}

fn deliver_to_orderer(world: &mut World) {
    while let Some(&a) = world
        .actions()
        .iter()
        .find(|a| matches!(**a, Action::Deliver(l, i) if world.links[l].ends[i] == End::Orderer))
    {
        world.act(a);
    }
}

/// For experiments: what became durable is told on a grid only, and nobody spins meanwhile.
#[test]
fn with_a_report_interval_lengths_are_reported_on_its_grid() {
    let every = Duration::from_millis(500);
    let mut world = World::ready(1, &[&[0, 1]], &Bounds { report_every: every, ..Bounds::default() });
    world.run(3000);
    let (w, l) = (world.client(0), lane(1, 0));
    for seq in 0..3 {
        world.run(130);
        world.send(w, append(l, &batch(9, seq, 1, 10)));
        let step = every.as_nanos() as u64;
        let grid = Instant(world.now.0.div_ceil(step) * step);
        let left = grid.since(world.now).as_millis() as u64;
        world.run(left - 1);
        assert!(world.clients[w].acks().is_empty(), "before the next time on the grid");
        assert_eq!(world.orderer.len(l), seq);
        world.run(2);
        assert_eq!(world.orderer.len(l), seq + 1);
        assert_eq!(world.clients[w].acks().len(), 1);
    }
}

/// The leader hears for whom a cut is urgent, with the report that makes it possible.
#[test]
fn reports_say_whether_a_writer_or_a_reader_waits() {
    let mut world = World::ready(1, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let (w, l) = (world.client(0), lane(1, 0));
    world.settle();
    let lazy = |seq: u64| {
        let b = batch(9, seq, 1, 10);
        encode_with(Append { lane: l, start: Seq(0), prompt: false }, &[b.bytes()])
    };
    let wanted = |world: &World| [0, 1].map(|n| world.orderer.wanted[&slot_id(n)]);
    world.send(w, lazy(0));
    world.settle();
    assert_eq!(wanted(&world), [CutsWanted::Late, CutsWanted::Late]);
    world.send(w, append(l, &batch(9, 1, 1, 10)));
    world.settle();
    assert_eq!(wanted(&world), [CutsWanted::Own, CutsWanted::Late], "only the primary answers writers");
    world.cut();
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 2);
    world.send(w, lazy(2));
    world.settle();
    assert_eq!(wanted(&world), [CutsWanted::Late, CutsWanted::Late]);
    // Somebody knows more of the order than this slot: it asks for every cut, though nothing else is new.
    let reported = world.orderer.reported;
    let r = world.client(1);
    world.settle();
    let (shard, from, to) = (ShardId(1), Gsn(0), Gsn(9));
    world.send(r, encode(Read { request: 1, shard, from, to, max_bytes: 4096, begun_within: false }));
    world.settle();
    assert_eq!((wanted(&world)[1], world.orderer.reported), (CutsWanted::All, reported + 1));
}

/// LOG-2: an acknowledgement rests on the syncs of all replicas and on a cut (shared-log defect 9: acks
/// after buffered writes).
#[test]
fn an_append_is_acknowledged_only_after_all_syncs_and_the_cut() {
    let mut world = World::ready(1, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let w = world.client(0);
    world.settle();
    let before = world.orderer.reported;
    world.send(w, append(lane(1, 0), &batch(9, 0, 3, 10)));
    deliver_to(&mut world, 0);
    assert!(world.nodes[0].is_writing());
    // The backup has it before the primary's own sync is done.
    deliver_to(&mut world, 1);
    assert!(world.nodes[1].is_writing(), "no wait between persist and replicate");
    deliver_to_orderer(&mut world);
    assert_eq!(world.orderer.reported, before, "no report before the sync");
    world.act(Action::Sync(0));
    deliver_to_orderer(&mut world);
    assert_eq!(world.orderer.reported, before + 1);
    assert!(!world.orderer.has_cut(), "one of two replicas is not enough");
    world.act(Action::Sync(1));
    world.settle();
    assert_eq!(world.orderer.reported, before + 2);
    assert!(world.clients[w].inbox.is_empty(), "no acknowledgement before the cut");
    world.cut();
    world.settle();
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0))]);
}

#[test]
fn a_turn_makes_one_persist_one_frame_one_report_and_one_answer() {
    let mut world = World::ready(2, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    for n in 0..2 {
        let first = world.client(n); // the first write also carries the view
        world.send(first, append(lane(1, n as u8), &batch(7 + n as u128, 0, 1, 1)));
        world.settle();
    }
    let (reported, persists) = (world.orderer.reported, world.nodes[0].persists.len());
    let l = world.clients[w].link;
    let End::Node(_, conn) = world.links[l].ends[1] else { panic!("a node's end") };
    let inputs = (0..50).map(|s| Input::Frame { conn, bytes: append(lane(1, 0), &batch(9, s, 2, 5)) });
    world.turn(0, inputs.collect());
    let to_backup: usize = world.links.iter().map(|l| l.queues.iter().map(|q| q.len()).sum::<usize>()).sum();
    assert_eq!(to_backup, 1, "one Replicate");
    world.settle();
    assert_eq!(world.nodes[0].persists[persists..], [51], "and the mark of the last cut");
    assert_eq!(world.nodes[1].persists.last(), Some(&51));
    assert_eq!(world.orderer.reported, reported + 2, "one report each");
    assert_eq!(world.clients[w].inbox.len(), 1, "one answer");
    assert_eq!(world.clients[w].acks(), (0..50).map(|s| (Seq(s), Gsn(2 + 2 * s))).collect::<Vec<_>>());
}

/// Shared-log defect 16: reports every tick though nothing happens.
#[test]
fn an_idle_slot_does_nothing() {
    let mut world = World::ready(3, &[&[0, 1], &[1, 0]], &Bounds::default());
    let w = world.client(0);
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 1)));
    world.settle();
    assert_eq!(world.clients[w].acks().len(), 1);
    let (reported, persists) = (world.orderer.reported, world.nodes[0].persists.len());
    for n in 0..2 {
        let due = world.nodes[n].slot.as_ref().unwrap().next_deadline().map(|d| d.1);
        assert_eq!(due, Some("a sign of life"), "cut marks wait for company");
        world.turn(n, vec![Input::Timer]);
    }
    assert!(world.actions().is_empty());
    assert_eq!((world.orderer.reported, world.nodes[0].persists.len()), (reported, persists));
}

/// LOG-3, and shared-log defect 12: nobody deduplicated.
#[test]
fn a_resent_batch_is_answered_with_its_first_place_and_not_stored_again() {
    let mut world = World::ready(4, &[&[0, 1]], &Bounds::default());
    let first = world.client(0);
    world.send(first, append(lane(1, 0), &batch(9, 0, 2, 5)));
    world.settle();
    world.orderer.auto = false;
    world.send(first, append(lane(1, 0), &batch(9, 1, 2, 5)));
    world.settle();
    assert_eq!(world.clients[first].acks(), [(Seq(0), Gsn(0))]);
    // The writer comes back over another connection and resends both.
    let second = world.client(0);
    (0..2).for_each(|s| world.send(second, append(lane(1, 0), &batch(9, s, 2, 5))));
    world.settle();
    assert_eq!(world.clients[second].acks(), [(Seq(0), Gsn(0))]);
    world.cut();
    world.settle();
    assert_eq!(world.clients[second].acks(), [(Seq(1), Gsn(2))], "the newest connection is answered");
    assert!(world.clients[first].inbox.is_empty());
    assert!(world.status(0).contains("\"accepted\":4"), "{}", world.status(0));
}

#[test]
fn late_frames_of_an_older_connection_do_not_take_the_answers_with_them() {
    let mut world = World::ready(11, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let (old, new) = (world.client(0), world.client(0));
    world.settle();
    world.send(old, append(lane(1, 0), &batch(9, 0, 1, 5)));
    world.send(new, append(lane(1, 0), &batch(9, 0, 1, 5)));
    world.act(Action::Deliver(world.clients[new].link, 1));
    world.act(Action::Deliver(world.clients[old].link, 1));
    world.settle();
    world.cut();
    world.settle();
    assert_eq!(world.clients[new].acks(), [(Seq(0), Gsn(0))]);
}

/// Shared-log defect 7: acks went to the wrong client where LSNs of two lanes met.
#[test]
fn lanes_with_equal_lsns_answer_their_own_writers() {
    let mut world = World::ready(5, &[&[0, 1], &[0, 1]], &Bounds::default());
    let writers: Vec<_> = [(0, 1, 0, 21), (1, 1, 1, 22), (0, 2, 0, 23), (1, 2, 1, 24)]
        .map(|(n, shard, index, id)| (world.client(n), lane(shard, index), id))
        .into();
    for &(c, lane, id) in &writers {
        (0..3).for_each(|s| world.send(c, append(lane, &batch(id, s, 1, 5))));
    }
    world.settle();
    let mut all = Vec::new();
    for &(c, _, id) in &writers {
        let answers = &world.clients[c].inbox;
        assert!(
            answers.iter().all(|p| matches!(&p.message, Message::Appended(m) if m.writer == WriterId(id)))
        );
        let acks = world.clients[c].acks();
        assert_eq!(acks.iter().map(|a| a.0.0).collect::<Vec<_>>(), [0, 1, 2]);
        all.extend(acks.into_iter().map(|a| a.1.0));
    }
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<_>>());
}

#[test]
fn after_a_gap_nothing_later_is_taken_until_the_missing_batch_comes() {
    let mut world = World::ready(6, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    [0, 2, 3].into_iter().for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 5))));
    world.settle();
    let inbox = std::mem::take(&mut world.clients[w].inbox);
    let refused: Vec<_> = inbox
        .into_iter()
        .filter_map(|p| match p.message {
            Message::AppendRefused(m) => Some((m.seq, m.why, m.expected)),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [(Seq(2), AppendRefusedWhy::Gap, Seq(1))], "one refusal for all that follow");
    [1, 2, 3].into_iter().for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 5))));
    world.settle();
    assert_eq!(world.clients[w].acks().iter().map(|a| a.0.0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_unknown_writer_begins_with_the_batch_it_says_it_begins_with() {
    let mut world = World::ready(7, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    let b = batch(9, 5, 1, 5);
    world.send(w, append(lane(1, 0), &b));
    world.settle();
    assert_eq!(world.clients[w].append_refusals(), [(Seq(5), AppendRefusedWhy::Gap, Seq(0))]);
    let w = world.client(0);
    world.send(w, encode_with(Append { lane: lane(1, 0), start: Seq(5), prompt: true }, &[b.bytes()]));
    world.settle();
    assert_eq!(world.clients[w].acks(), [(Seq(5), Gsn(0))]);
}

#[test]
fn what_is_not_a_batch_or_not_ours_is_refused_and_costs_nothing_else() {
    let mut world = World::ready(8, &[&[0, 1]], &Bounds::default());
    let w = world.client(0);
    let mut bad = batch(9, 0, 1, 5).bytes().to_vec();
    bad[60] ^= 1;
    world.send(w, encode_with(Append { lane: lane(1, 0), start: Seq(0), prompt: true }, &[&bad]));
    world.send(w, append(lane(1, 1), &batch(9, 0, 1, 5)));
    world.send(w, append(lane(7, 0), &batch(8, 0, 1, 5)));
    world.settle();
    let why: Vec<_> = world.clients[w].append_refusals().into_iter().map(|r| r.1).collect();
    assert_eq!(
        why,
        [AppendRefusedWhy::Malformed, AppendRefusedWhy::NotPrimary, AppendRefusedWhy::NotPrimary]
    );
    world.send(w, append(lane(1, 0), &batch(9, 0, 1, 5)));
    world.settle();
    assert_eq!(world.clients[w].acks(), [(Seq(0), Gsn(0))]);
}

#[test]
fn a_writer_beyond_its_window_is_refused_and_resumes_where_it_was() {
    let mut world = World::ready(9, &[&[0, 1]], &Bounds::default());
    world.orderer.auto = false;
    let w = world.client(0);
    (0..WRITER_WINDOW + 3).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 1))));
    world.settle();
    let next = Seq(WRITER_WINDOW);
    assert_eq!(world.clients[w].append_refusals(), [(next, AppendRefusedWhy::Window, next)]);
    world.orderer.auto = true;
    world.settle();
    assert_eq!(world.clients[w].acks().len() as u64, WRITER_WINDOW);
    world.send(w, append(lane(1, 0), &batch(9, next.0, 1, 1)));
    world.settle();
    assert_eq!(world.clients[w].acks(), [(next, Gsn(next.0))]);
}

/// Shared-log defects 14 and 16: one slow peer stopped everything, queues had no bound.
#[test]
fn writers_are_slowed_while_too_much_is_uncommitted_and_go_on_at_half() {
    let bounds = Bounds { uncommitted_bytes: 10_000, ..Bounds::default() };
    let mut world = World::ready(10, &[&[0, 1]], &bounds);
    world.orderer.auto = false;
    let w = world.client(0);
    (0..40).for_each(|s| world.send(w, append(lane(1, 0), &batch(9, s, 1, 1000))));
    world.settle();
    let link = world.clients[w].link;
    assert!(world.links[link].paused[1]);
    assert_eq!(world.links[link].queues[1].len(), 30, "what is not read waits at the writer");
    world.orderer.auto = true;
    world.settle();
    assert!(!world.links[link].paused[1]);
    assert_eq!(world.clients[w].acks().len(), 40);
}
