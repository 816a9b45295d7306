//! Which segments of the log may go? The trim point comes from the leader, replicas drop what lies below it; when
//! none needs the oldest segments any more, where they begin is written down, and then those are released.

use super::Slot;
use zoolog_core::Gsn;
use zoolog_core::machine::Output;

/// No honest GSN gets here.
const GSN_MAX: u64 = 1 << 56;

/// Where the slot is with trimming.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// First GSN that is still readable, as the leader last said.
    pub point: Gsn,
    /// The newest segment with a record of this start. Nothing on its way to the disk lies before it.
    pub newest: u32,
    /// Something was dropped, and what that frees was not looked at, or was being read.
    dirty: bool,
    /// There are marks that must not wait for a batch that may never come.
    pub urgent: bool,
    /// Segments before this one are not needed once the next `Persist` is durable.
    pub frees: Option<u32>,
    /// Segments before this one are released as soon as the marks on their way are durable.
    asked: u32,
    /// Segments before this one are released.
    released: u32,
}

impl Trim {
    /// A replica has left: what it needed is not needed any more.
    pub fn left_some(&mut self) {
        self.dirty = true;
    }
}

impl Slot {
    /// The leader says where the trim point is. It was decided, so it counts at once.
    pub(super) fn trim_is(&mut self, gsn: Gsn) {
        if gsn.0 >= GSN_MAX {
            tracing::warn!(%gsn, "a trim point beyond all");
            return;
        }
        self.trim.point = self.trim.point.max(gsn);
        self.replicas.values_mut().for_each(|r| r.trim_is(gsn));
    }

    /// At the end of a turn: drops what may go, and marks where the replicas begin when that frees a segment.
    /// The marks ride with the next batches, or go alone if nothing else is on its way: once per segment that is freed,
    /// so an idle log doesn't grow.
    pub(super) fn trim_log(&mut self) {
        for replica in self.replicas.values_mut() {
            self.trim.dirty |= replica.drop_trimmed();
        }
        if !self.trim.dirty || self.trim.newest <= self.trim.asked {
            return;
        }
        let needed = self.replicas.values().filter_map(|r| r.oldest_segment());
        let kept = needed.chain(self.images.oldest_segment()).fold(self.trim.newest, u32::min);
        let oldest = self.fx.oldest_load().map_or(kept, |read| read.min(kept));
        self.trim.dirty = oldest < kept;
        if oldest > self.trim.asked.max(1) {
            self.trim.asked = oldest;
            self.fx.marks.extend(self.replicas.values().filter_map(|r| r.trim_mark()));
            // Even without such marks: what frees the segment may be a view that lacks a shard.
            (self.trim.frees, self.trim.urgent) = (Some(oldest), true);
        }
    }

    /// A record lies in `segment`. The first in a new one means that a newer checkpoint is durable: the log may
    /// now do what it was told before.
    pub(super) fn entered(&mut self, segment: u32) {
        if segment > self.trim.newest {
            self.trim.newest = segment;
            let segment = self.trim.released;
            if segment > 0 {
                self.fx.out.push_back(Output::Release { segment });
            }
        }
    }

    /// The marks are durable: what precedes `segment` is not needed, whatever happens.
    pub(super) fn release(&mut self, segment: u32) {
        if segment > self.trim.released {
            self.trim.released = segment;
            self.fx.out.push_back(Output::Release { segment });
        }
    }
}
