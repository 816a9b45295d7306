//! A writer that never gives up: it resends, byte for byte, what was not acknowledged.

use super::client::{append, batch, lane};
use super::{End, World};
use std::collections::{BTreeMap, VecDeque};
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
        }
    }

    /// Takes what came.
    pub fn listen(&mut self, world: &mut World) {
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
                Message::AppendRefused(m) => match m.why {
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
                world.send(c, append(self.lane, b));
            }
        } else if may_append && self.unacked.len() < 8 {
            let records = world.rng.between(1, 4) as u32;
            let bytes = world.rng.below(200) as usize;
            let b = batch(self.id, self.next, records, bytes);
            self.next += 1;
            world.send(c, append(self.lane, &b));
            self.unacked.push_back(b);
        }
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
