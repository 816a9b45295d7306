//! What must always hold in a replica? Checked after every turn, in release builds too; the numbers of the
//! promises are those of docs/INVARIANTS.md.

use super::Replica;
use super::sync::Phase;
use zoolog_core::{CutNumber, Gsn};

impl Replica {
    /// Panics, with the figures, if this replica contradicts itself.
    pub fn check_invariants(&self) {
        let shard = self.shard;
        for (i, lane) in self.lanes.iter().enumerate() {
            let id = lane.id;
            let (accepted, durable, committed) = (lane.accepted, lane.durable, lane.committed);
            // LOG-2: nothing counts as durable that was not taken, nor as committed that is not durable.
            assert!(durable <= accepted, "lane {id}: {durable} durable of {accepted} accepted");
            assert!(
                committed <= durable || self.damage_told || self.broken.is_some(),
                "lane {id}: {committed} committed, {durable} durable, and nobody was told of damage"
            );
            assert!(
                committed == self.history.len(i as u8),
                "lane {id}: {committed} committed, the parts say {}",
                self.history.len(i as u8)
            );
            // LOG-2: only what is committed and durable is trimmed, and whole parts of it.
            assert!(
                lane.start <= accepted && (self.history.start(i as u8) <= lane.start || !self.is_sound()),
                "lane {id}: trimmed to {}, its parts to {}, {accepted} accepted",
                lane.start,
                self.history.start(i as u8)
            );
            // LOG-2: what is lost was durable, and was not trimmed.
            assert!(
                lane.lost().all(|(from, to)| lane.start <= from && from < to && to <= durable),
                "lane {id}: from {} to {durable}, lost are {:?}",
                lane.start,
                lane.lost().collect::<Vec<_>>()
            );
            // LOG-3: what is cached is the lane's end, so that what is not durable is never forgotten.
            let (start, end) = (lane.cache_start(), lane.cache_end());
            assert!(end.is_none_or(|e| e == accepted), "lane {id}: cached up to {end:?} of {accepted}");
            assert!(
                start <= durable || durable == accepted,
                "lane {id}: cached from {start}, {durable} durable"
            );
        }
        // LOG-1, LOG-3: who doesn't know what it once held places nothing.
        assert!(!(self.mend.open && self.own.serving), "shard {shard}: takes appends while it mends");
        self.check_own();
        let base = self.history.base().map_or((CutNumber(0), Gsn(0)), |b| (b.number, b.end));
        assert!(
            base.0 <= self.part_durable && base.1 <= self.trim.max(self.known),
            "shard {shard}: begins behind cut {} at {}, durable is part {}, trimmed to {}",
            base.0,
            base.1,
            self.part_durable,
            self.trim
        );
        assert!(
            self.part_durable <= self.marked,
            "shard {shard}: part {} durable, {} handed to the log",
            self.part_durable,
            self.marked
        );
    }

    fn check_own(&self) {
        let (lane, own) = (self.own_lane(), &self.own);
        let id = lane.id;
        let ends = own.pending.front().map(|p| p.first_lsn).zip(own.pending.back().map(|p| p.end));
        if let Some((first, end)) = ends {
            assert!(end <= lane.accepted, "lane {id}: pending up to {end} of {} accepted", lane.accepted);
            assert!(
                first >= lane.committed.min(lane.durable) || !self.is_sound() || self.mend.open,
                "lane {id}: a batch at {first} is pending, {} are committed",
                lane.committed
            );
        } else {
            assert!(
                own.uncommitted_bytes == 0,
                "lane {id}: {} bytes of nothing are pending",
                own.uncommitted_bytes
            );
        }
        // SYS-1: what is remembered for measuring is no more than what waits.
        assert!(
            own.synced.len() <= own.pending.len() + 1,
            "lane {id}: {} syncs are remembered for {} pending batches",
            own.synced.len(),
            own.pending.len()
        );
        for stream in own.backups.iter().flatten().filter_map(|b| b.stream.as_ref()) {
            match stream.phase {
                // LOG-1: no LSN is placed before all backups have said what they hold.
                Phase::Streaming { sent, .. } => assert!(
                    own.serving && sent <= lane.accepted,
                    "lane {id}: {sent} sent of {}, serving: {}",
                    lane.accepted,
                    own.serving
                ),
                Phase::Answered { .. } => {
                    assert!(!own.serving, "lane {id}: serves, but forgot a backup's answer")
                }
                Phase::Asked => {}
            }
        }
    }
}
