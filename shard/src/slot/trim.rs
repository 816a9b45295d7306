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
    /// Segments before this one are released as soon as the marks on their way are durable.
    asked: u32,
    /// Segments before this one are released.
    released: u32,
    /// Replicas have left since segments were last looked at.
    left: bool,
}

impl Trim {
    /// A replica has left: what it needed is not needed any more.
    pub fn left_some(&mut self) {
        self.left = true;
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
    /// The marks ride with the next batches and start no write of their own: an idle log doesn't grow.
    pub(super) fn trim_log(&mut self) {
        let mut dropped = std::mem::take(&mut self.trim.left);
        for replica in self.replicas.values_mut() {
            dropped |= replica.drop_trimmed();
        }
        if !dropped || self.trim.newest <= self.trim.asked {
            return;
        }
        let needed = self.replicas.values().filter_map(|r| r.oldest_segment());
        let held = [self.images.oldest_segment(), self.fx.oldest_load()].into_iter().flatten();
        let oldest = needed.chain(held).fold(self.trim.newest, u32::min);
        if oldest > self.trim.asked.max(1) {
            self.trim.asked = oldest;
            self.fx.marks.extend(self.replicas.values().filter_map(|r| r.trim_mark(oldest)));
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
