//! What becomes of a replica when its shard is finalized? It keeps what was committed and lets go of the rest: no cut
//! will ever take that, and its writers take it elsewhere.

use super::Replica;
use crate::effects::Effects;
use zoolog_core::view::Final;
use zoolog_core::wire::{AppendRefused, AppendRefusedWhy};

impl Replica {
    /// The shard is finalized, as `end` says. Writers of what is given up are told. The parts that this replica has
    /// yet to hear of end there too.
    pub fn finalize(&mut self, fx: &mut Effects, end: &Final) {
        if !self.live || end.lens.len() != self.lanes.len() {
            return;
        }
        self.live = false;
        self.own.serving = false;
        for (lane, &len) in self.lanes.iter_mut().zip(&end.lens) {
            if lane.committed > len {
                self.broken = Some(format!(
                    "lane {}: {} records are committed, it ended at {len}",
                    lane.id, lane.committed
                ));
                return;
            }
            lane.end_at(len);
        }
        self.mend.end_at(&end.lens);
        let len = end.lens[usize::from(self.index)];
        while let Some(p) = self.own.pending.back().copied().filter(|p| p.end > len) {
            self.own.pending.pop_back();
            self.own.uncommitted_bytes -= p.bytes;
            self.own.awaited -= usize::from(p.prompt);
        }
        self.own.synced = Default::default();
        let lane = self.own_lane().id;
        for (conn, writer, seq) in self.own_writers().cut_off(len) {
            fx.send(conn, AppendRefused { lane, writer, seq, why: AppendRefusedWhy::Closed, expected: seq });
        }
        self.own.backups.iter_mut().flatten().for_each(|b| b.stream = None);
        self.moved = true;
    }

    /// Whether all that the finalized shard holds is known here.
    pub fn is_complete(&self) -> bool {
        !self.live && self.is_sound() && self.lanes.iter().all(|l| l.is_beyond_end(l.committed))
    }
}
