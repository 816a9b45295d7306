//! A writer that never gives up: it resends, byte for byte, what was not acknowledged, and leaves a lane only when it
//! is settled what is in it.

use super::client::{append_from, batch, fence, lane};
use super::{End, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zoolog_core::batch::Batch;
use zoolog_core::wire::*;
use zoolog_core::*;

pub struct Writer {
    pub id: u128,
    pub lane: LaneId,
    node: usize,
    client: Option<usize>,
    pub next: u64,
    pub unacked: VecDeque<Batch>,
    pub acked: BTreeMap<u64, Gsn>,
    resend_from: Option<u64>,
    /// First number that the lane can have.
    start: u64,
    leaving: Option<Leaving>,
    /// Lanes that a fence has closed.
    fenced: BTreeSet<LaneId>,
    /// How often it has left a lane.
    pub left: usize,
}

/// The way out of a lane.
#[derive(Clone, Copy)]
struct Leaving {
    /// Whether behind a fence.
    fence: bool,
    /// Whom it asks what is in.
    asked: Option<usize>,
}

impl Writer {
    /// A writer to the lane of `shard` whose primary is replica `index`.
    pub fn new(world: &World, id: u128, shard: u32, index: u8) -> Self {
        let slot = world.orderer.view.shard(ShardId(shard)).unwrap().replicas[usize::from(index)].slot;
        Self {
            id,
            lane: lane(shard, index),
            node: slot.server.0 as usize - 1,
            client: None,
            next: 0,
            unacked: VecDeque::new(),
            acked: BTreeMap::new(),
            resend_from: None,
            start: 0,
            leaving: None,
            fenced: BTreeSet::new(),
            left: 0,
        }
    }

    /// Takes what came.
    pub fn listen(&mut self, world: &mut World) {
        self.hear_what_is_in(world);
        let Some(c) = self.client else { return };
        for p in std::mem::take(&mut world.clients[c].inbox) {
            match p.message {
                Message::Appended(m) => {
                    assert_eq!(m.writer, WriterId(self.id));
                    for (seq, gsn) in m.acks {
                        let old = self.acked.insert(seq.0, gsn);
                        assert!(
                            old.is_none_or(|o| o == gsn),
                            "writer {}: {seq} at {old:?}, then at {gsn}",
                            self.id
                        );
                        self.unacked.retain(|b| b.seq() != seq);
                    }
                }
                Message::AppendRefused(m) if m.lane != self.lane || self.leaving.is_some() => {}
                Message::AppendRefused(m) => match m.why {
                    AppendRefusedWhy::Closed => self.leaving = Some(Leaving { fence: false, asked: None }),
                    AppendRefusedWhy::Gap => self.resend_from = Some(m.expected.0),
                    AppendRefusedWhy::Recovering | AppendRefusedWhy::Window => self.resend_from = Some(0),
                    AppendRefusedWhy::NotPrimary => self.client = None,
                    other => panic!("writer {}: {} refused: {other:?}", self.id, m.seq),
                },
                other => panic!("a writer got {other:?}"),
            }
        }
        if world.clients[c].closed {
            self.client = None;
        }
    }

    /// Connects, resends, or appends one batch more if it may.
    pub fn act(&mut self, world: &mut World, may_append: bool) {
        if self.leaving.is_some() {
            return self.ask_what_is_in(world);
        }
        let c = match self.client {
            Some(c) => c,
            None if world.nodes[self.node].slot.is_none() => return,
            None => {
                self.resend_from = Some(0);
                *self.client.insert(world.client(self.node))
            }
        };
        if let Some(from) = self.resend_from.take() {
            for b in self.unacked.iter().filter(|b| b.seq().0 >= from) {
                world.send(c, append_from(self.lane, self.start, b));
            }
        } else if may_append && self.unacked.len() < 8 {
            let records = world.rng.between(1, 4) as u32;
            let bytes = world.rng.below(200) as usize;
            let b = batch(self.id, self.next, records, bytes);
            self.next += 1;
            world.send(c, append_from(self.lane, self.start, &b));
            self.unacked.push_back(b);
        }
    }

    /// Begins to leave a lane that lives on, once in its life.
    pub fn fence(&mut self) {
        if self.leaving.is_none() && self.fenced.is_empty() {
            self.leaving = Some(Leaving { fence: true, asked: None });
        }
    }

    fn ask_what_is_in(&mut self, world: &mut World) {
        let Some(Leaving { fence: fenced, asked }) = self.leaving else { return };
        let shard = world.orderer.view.shard(self.lane.shard()).expect("shards stay in the view");
        let nodes: Vec<usize> = shard.replicas.iter().map(|r| r.slot.server.0 as usize - 1).collect();
        let up: Vec<usize> = nodes.into_iter().filter(|&n| world.nodes[n].slot.is_some()).collect();
        if up.is_empty() || asked.is_some_and(|c| !world.clients[c].closed && world.rng.chance(80)) {
            return; // an answer may be on its way
        }
        let n = up[world.rng.below(up.len() as u64) as usize];
        let c = world.client(n);
        if fenced {
            world.send(c, fence(self.lane, self.id));
        }
        let (writer, from) = (WriterId(self.id), Seq(self.next - self.unacked.len() as u64));
        world.send(c, encode(Resolve { request: c as u64, lane: self.lane, writer, epoch: Epoch(0), from }));
        self.leaving = Some(Leaving { fence: fenced, asked: Some(c) });
    }

    fn hear_what_is_in(&mut self, world: &mut World) {
        let Some(Leaving { fence, asked: Some(c) }) = self.leaving else { return };
        let Some(packet) = world.clients[c].inbox.pop() else { return };
        let Message::Resolved(m) = packet.message else { panic!("{:?}", packet.message) };
        self.leaving = Some(Leaving { fence, asked: None });
        match m.end {
            ResolveEnd::Open | ResolveEnd::NotReady => return,
            ResolveEnd::Forgotten => panic!("writer {}: nobody forgets so few", self.id),
            ResolveEnd::Final => {}
        }
        for (seq, gsn) in m.acks {
            let old = self.acked.insert(seq.0, gsn);
            assert!(old.is_none_or(|o| o == gsn), "writer {}: {seq} at {old:?}, then at {gsn}", self.id);
            self.unacked.retain(|b| b.seq() != seq);
        }
        let first = self.next - self.unacked.len() as u64;
        assert!(self.unacked.iter().map(|b| b.seq().0).eq(first..self.next), "what is in comes first");
        if fence {
            self.fenced.insert(self.lane);
        }
        let open = |l: &LaneId| !self.fenced.contains(l);
        let lanes: Vec<LaneId> = world.orderer.view.live().flat_map(|s| s.lanes()).filter(open).collect();
        let to = lanes[world.rng.below(lanes.len() as u64) as usize];
        let slot = world.orderer.view.shard(to.shard()).unwrap().replicas[usize::from(to.index())].slot;
        let node = slot.server.0 as usize - 1;
        if node != self.node {
            self.client = None;
        }
        // Else the batches go over the same connection.
        (self.lane, self.node, self.start, self.leaving) = (to, node, first, None);
        (self.resend_from, self.left) = (Some(0), self.left + 1);
    }

    /// Drops its connection.
    pub fn hang_up(&mut self, world: &mut World) {
        if let Some(c) = self.client {
            world.hang_up(c);
        }
    }

    /// The node it writes to.
    pub fn node(&self) -> usize {
        self.node
    }
}

/// Links between nodes or to the orderer that are alive.
pub fn inner_links(world: &World) -> Vec<usize> {
    let inner = |e: &End| !matches!(e, End::Client(_));
    (0..world.links.len())
        .filter(|&l| !world.links[l].dead && world.links[l].ends.iter().all(inner))
        .collect()
}
