//! LOG-1: does everybody see the same record at the same GSN, and every GSN once?

use super::{Verdict, promise};
use crate::schedule::NodeId;
use std::collections::BTreeMap;
use zoolog_core::batch::{BatchKind, PlacedBatch};
use zoolog_core::{Epoch, Gsn, LaneId, Lsn, Seq, WriterId};

/// What lies at a GSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Lane.
    pub lane: LaneId,
    /// Position in it.
    pub lsn: Lsn,
    /// Who wrote it.
    pub writer: WriterId,
    /// In which of its openings.
    pub epoch: Epoch,
    /// In which of its batches.
    pub seq: Seq,
    /// Where in that batch.
    pub index: u32,
    /// Whether it is a fence, not a record.
    pub fence: bool,
    /// Checksum of the batch's placement, which covers all of it.
    pub crc: u32,
}

/// The log as all readers together have seen it.
#[derive(Debug, Default)]
pub struct TotalOrder {
    log: Vec<Option<Place>>,
    by_lane: BTreeMap<(LaneId, Lsn), Gsn>,
    next: BTreeMap<NodeId, Gsn>,
}

impl TotalOrder {
    /// What lies at `gsn`, if anybody has read it.
    pub fn at(&self, gsn: Gsn) -> Option<&Place> {
        self.log.get(gsn.0 as usize).and_then(Option::as_ref)
    }

    /// Where that reader goes on.
    pub fn position(&self, node: NodeId) -> Option<Gsn> {
        self.next.get(&node).copied()
    }

    /// A reader subscribes from `from`.
    pub fn subscribed(&mut self, node: NodeId, from: Gsn) {
        self.next.insert(node, from);
    }

    /// A reader was told that it can't go on from `from`: that must be where it is.
    pub fn stopped(&self, node: NodeId, name: &str, from: Gsn) -> Verdict {
        let expected = self.position(node);
        promise!("LOG-1", expected == Some(from), "{name} is told of a gap at {from}, it is at {expected:?}");
        Ok(())
    }

    /// A reader died.
    pub fn gone(&mut self, node: NodeId) {
        self.next.remove(&node);
    }

    /// A reader got records `skip..skip + take` of a batch that begins at `first`.
    pub fn delivered(
        &mut self,
        node: NodeId,
        name: &str,
        first: Gsn,
        placed: &PlacedBatch,
        skip: u32,
        take: u32,
    ) -> Verdict {
        let expected = self.next.get(&node).copied();
        let got = first.plus(u64::from(skip));
        promise!("LOG-1", expected == Some(got), "{name} got {got} where {expected:?} was next");
        let (p, count) = (&placed.placement, placed.batch.count());
        promise!(
            "LOG-1",
            skip + take <= count && take > 0,
            "{name} got {skip}+{take} of {count} records at {first}"
        );
        for index in skip..skip + take {
            let gsn = first.plus(u64::from(index));
            let lsn = p.first_lsn.plus(u64::from(index));
            let (writer, seq) = (placed.batch.writer(), placed.batch.seq());
            let fence = placed.batch.kind() == BatchKind::Fence;
            let epoch = placed.batch.epoch();
            let place = Place { lane: p.lane, lsn, writer, epoch, seq, index, fence, crc: p.crc };
            let at = gsn.0 as usize;
            if self.log.len() <= at {
                self.log.resize(at + 1, None);
            }
            match self.log[at] {
                Some(before) => {
                    promise!(
                        "LOG-1",
                        before == place,
                        "{name} sees {place:?} at {gsn}, others saw {before:?}"
                    );
                }
                None => {
                    let other = self.by_lane.insert((p.lane, lsn), gsn);
                    promise!(
                        "LOG-1",
                        other.is_none(),
                        "{name} sees lane {} LSN {lsn} at {gsn}, it was at {other:?}",
                        p.lane
                    );
                    self.log[at] = Some(place);
                }
            }
        }
        self.next.insert(node, got.plus(u64::from(take)));
        Ok(())
    }

    /// Whether every GSN from `from` to `tail` was read, and none at or past that.
    pub fn complete(&self, from: Gsn, tail: Gsn) -> Verdict {
        let hole = (from.0..tail.0).find(|&g| self.at(Gsn(g)).is_none());
        promise!("LOG-1", hole.is_none(), "nobody could read {hole:?} though the tail is {tail}");
        promise!(
            "LOG-1",
            self.log.len() as u64 <= tail.0,
            "read up to {}, but the tail is {tail}",
            self.log.len()
        );
        Ok(())
    }

    /// First GSN past all that was read.
    pub fn end(&self) -> Gsn {
        Gsn(self.log.len() as u64)
    }
}
