//! Lending: a replica that lost parts or batches gets them from any other one, from wherever it lacks them, and what
//! is trimmed there is said.

use crate::world::client::*;
use crate::world::*;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wire::*;
use zoolog_core::*;

/// Node 0 as it asks node 1, over a connection of the test's own.
struct Asker(usize);

impl Asker {
    fn new(world: &mut World) -> Self {
        let c = world.connect(1);
        world.send(c, hello(Role::Slot, 0));
        Self(c)
    }

    fn ask(&self, world: &mut World, question: impl Into<Message>) -> Packet {
        world.send(self.0, encode(question));
        world.settle();
        world.clients[self.0].inbox.pop().expect("an answer")
    }

    fn batches(&self, world: &mut World, lane: LaneId, from: u64, to: u64) -> (BatchesAre, Vec<PlacedBatch>) {
        let packet = self.ask(world, BatchesWanted { lane, from: Lsn(from), to: Lsn(to) });
        let Message::BatchesAre(m) = packet.message else { panic!("batches, not {:?}", packet.message) };
        assert_eq!((m.lane, m.from), (lane, Lsn(from)));
        (m, batches(packet.payload))
    }

    fn parts(&self, world: &mut World, after: u64) -> PartsHeld {
        let packet = self.ask(world, PartsWanted { shard: ShardId(1), after: CutNumber(after) });
        let Message::PartsHeld(m) = packet.message else { panic!("parts, not {:?}", packet.message) };
        assert_eq!((m.shard, m.after), (ShardId(1), CutNumber(after)));
        m
    }
}

fn written(batches: u64) -> World {
    let mut world = World::ready(3, &[&[0, 1]], &tiny());
    for (node, l) in [(0, lane(1, 0)), (1, lane(1, 1))] {
        let c = world.client(node);
        for seq in 0..batches {
            world.send(c, append(l, &batch(70 + node as u128, seq, 2, 150)));
            world.settle();
        }
    }
    world
}

/// What an empty replica would ask for: everything, question by question.
#[test]
fn a_lane_is_lent_as_a_whole_in_pieces_that_hang_on_each_other() {
    let mut world = written(40);
    let asker = Asker::new(&mut world);
    for l in [lane(1, 0), lane(1, 1)] {
        let (mut at, mut last, mut answers) = (0, 0, 0);
        while at < 80 {
            let (m, got) = asker.batches(&mut world, l, at, 80);
            assert_eq!((m.start, m.len), (Lsn(0), Lsn(80)));
            assert!(!got.is_empty(), "it has them");
            for b in got {
                assert_eq!((b.placement.first_lsn, b.placement.prev), (Lsn(at), last));
                (at, last) = (b.end_lsn().0, b.placement.crc);
            }
            answers += 1;
            assert!(at < 80 || m.last == last, "the last placement is the last one's");
        }
        assert!(answers > 3, "bounded answers: {answers}");
        assert!(asker.batches(&mut world, l, 80, 90).1.is_empty(), "there is no more");
    }
}

#[test]
fn parts_are_lent_from_the_one_named_on_and_what_precedes_them_if_that_is_trimmed() {
    let mut world = written(40);
    let asker = Asker::new(&mut world);
    let all = asker.parts(&mut world, 0);
    assert_eq!(all.base, None);
    assert!(all.parts.len() > 20 && all.parts.is_sorted_by(|a, b| a.number < b.number));
    let middle = all.parts[9].number;
    assert_eq!(asker.parts(&mut world, middle.0).parts, all.parts[10..]);
    assert!(asker.parts(&mut world, u64::MAX).parts.is_empty());

    world.trim(Gsn(61));
    let c = world.client(0);
    (40..44).for_each(|seq| world.send(c, append(lane(1, 0), &batch(70, seq, 2, 150))));
    world.settle();
    let left = asker.parts(&mut world, 0);
    let base = left.base.expect("older ones are trimmed");
    assert!(base.end <= Gsn(61) && base.number < left.parts[0].number);
    let (m, first) = asker.batches(&mut world, lane(1, 0), 0, 80);
    assert_eq!((m.start.0, first.len()), (base.lens[0], 1), "one, which says what comes before");
    assert_eq!(first[0].placement.first_lsn, m.start);
}

#[test]
fn a_question_that_makes_no_sense_costs_its_connection() {
    let l = lane(1, 0);
    let wanted = |lane, from, to| Message::from(BatchesWanted { lane, from: Lsn(from), to: Lsn(to) });
    for (question, why) in
        [(wanted(l, 4, 4), RefusedWhy::Invalid), (wanted(lane(1, 7), 0, 4), RefusedWhy::Invalid)]
    {
        let mut world = written(4);
        let asker = Asker::new(&mut world);
        world.send(asker.0, encode(question.clone()));
        world.settle();
        assert_eq!(world.clients[asker.0].refused(), Some(why), "{question:?}");
    }
    // Two at once: one is answered before the next is asked.
    let mut world = written(40);
    let asker = Asker::new(&mut world);
    (0..2).for_each(|_| world.send(asker.0, encode(wanted(l, 0, 80))));
    world.settle();
    assert_eq!(world.clients[asker.0].refused(), Some(RefusedWhy::Unexpected));
}

/// One of the two has yet to hear of a view: that costs nothing but the question.
#[test]
fn who_has_no_place_in_the_shard_gets_nothing_of_it() {
    let mut world = written(4);
    let asker = Asker::new(&mut world);
    let (m, got) = asker.batches(&mut world, lane(9, 0), 0, 4);
    assert_eq!((m.len, got.len()), (Lsn(0), 0), "no such shard");
    let c = world.connect(1);
    world.send(c, hello(Role::Slot, 2));
    let stranger = Asker(c);
    let (m, got) = stranger.batches(&mut world, lane(1, 0), 0, 8);
    assert_eq!((m.len, got.len()), (Lsn(0), 0));
    let held = stranger.parts(&mut world, 0);
    assert_eq!((held.parts.len(), held.base), (0, None));
    assert!(!asker.batches(&mut world, lane(1, 0), 0, 8).1.is_empty(), "who has is served");
}
