//! What does bad input come to at a slot? The list of docs/BAD_INPUT.md, each entry a test that names it: a typed answer
//! or the end of the connection, nothing lost, and nobody else disturbed. Invariant SYS-1.
//!
//! `batches`: what a writer may not send; `ranges`: what a reader may not ask for; `subscribers`: more of them than one has
//! in good faith; `peers`: what no orderer and no slot says; `files`: logs that are not as they were left.

mod batches;
mod files;
mod peers;
mod ranges;
mod subscribers;

use crate::world::client::*;
use crate::world::*;
use zoolog_core::wire::*;
use zoolog_core::*;
use zoolog_shard::{Bounds, SlotEvent};

/// Whom nothing may disturb: a writer to lane 1/0.
const GOOD: u128 = 31;

/// Slots 0 and 1 with shards 1 and 2, slots 1 and 2 with shard 3; somebody appends at slot 0, and somebody follows at
/// slot 1, in good faith.
struct Stage {
    world: World,
    writer: usize,
    follower: usize,
    written: u64,
    followed: u64,
}

impl Stage {
    fn new(bounds: &Bounds) -> Self {
        let mut world = World::ready(1, &[&[0, 1], &[1, 0], &[1, 2]], bounds);
        let (writer, follower) = (world.client(0), world.client(1));
        let from = vec![Lsn(0), Lsn(0)];
        world.send(follower, encode(Subscribe { shard: ShardId(1), from, credit: 1 << 30 }));
        let mut stage = Self { world, writer, follower, written: 0, followed: 0 };
        stage.unharmed();
        stage
    }

    /// The writer's next batch is acknowledged, comes to the follower, and all of his are read at either replica.
    fn unharmed(&mut self) {
        let (world, seq) = (&mut self.world, self.written);
        world.send(self.writer, append(lane(1, 0), &batch(GOOD, seq, 2, 60)));
        world.settle();
        let acks = world.clients[self.writer].acks();
        assert_eq!(acks.iter().map(|a| a.0.0).collect::<Vec<_>>(), [seq], "acknowledged, and nothing else");
        assert_eq!(acks[0].1.plus(2), world.orderer.tail);
        self.written += 1;
        for p in std::mem::take(&mut world.clients[self.follower].inbox) {
            let Message::Push(m) = p.message else { panic!("a push was expected, not {:?}", p.message) };
            for b in batches(p.payload).iter().filter(|b| b.batch.writer() == WriterId(GOOD)) {
                assert_eq!(
                    (m.lane, b.batch.seq()),
                    (lane(1, 0), Seq(self.followed)),
                    "a gap, or a repetition"
                );
                self.followed += 1;
            }
        }
        assert_eq!(self.followed, self.written, "the follower has it");
        self.nothing_is_lost();
    }

    /// All that was acknowledged to the writer is read at either replica, once and in order.
    fn nothing_is_lost(&mut self) {
        for n in 0..2 {
            let world = &mut self.world;
            let (trim, tail) = (world.orderer.trim, world.orderer.tail);
            let (all, covers, end) = world.read(n, 1, trim, tail, 1 << 20);
            assert_eq!((covers, end), (tail, ReadEnd::Complete), "node {n}: {}", world.status(n));
            let mine = all.iter().filter(|(_, b)| b.batch.writer() == WriterId(GOOD));
            let seqs: Vec<u64> = mine.map(|(_, b)| b.batch.seq().0).collect();
            let first = seqs.first().copied().unwrap_or(self.written);
            assert!(trim > Gsn(0) || first == 0, "node {n} begins with {first}");
            assert_eq!(seqs, (first..self.written).collect::<Vec<_>>(), "node {n}");
        }
    }

    /// Ends the shard; all slots hear of it.
    fn finalize(&mut self, shard: u32) {
        let out = self.world.orderer.finalize(shard, |_| true);
        self.world.take_from_orderer(out);
        self.world.settle();
    }

    /// How often the slot found that what it was told doesn't fit what it knows.
    fn contradictions(&self, n: usize) -> usize {
        let all = self.world.nodes[n].events.iter();
        all.filter(|e| matches!(e, SlotEvent::Contradiction { .. })).count()
    }
}
