//! Where in the order are the records? Cuts give the shard its parts, parts give records their GSNs, and
//! the writers their answers.

use super::Replica;
use crate::effects::Effects;
use crate::event::SlotEvent;
use crate::marks::cut_record;
use crate::stages::{ACK, ORDER};
use zoolog_core::cut::{Cut, CutError, Run, ShardPart};
use zoolog_core::wire::PartsAre;
use zoolog_core::{CutNumber, LaneId};

/// No honest length, GSN or number gets here; arithmetic on what is below never overflows.
pub(super) const SANE_MAX: u64 = 1 << 56;

/// Refuses a cut whose numbers could overflow ours.
pub(crate) fn check_sane(cut: &Cut) -> Result<(), CutError> {
    let sane = cut.number.0 < SANE_MAX && cut.base.0 < SANE_MAX && cut.lanes.iter().all(|l| l.to < SANE_MAX);
    let ordered = cut.lanes.iter().all(|l| l.from < l.to) && cut.lanes.is_sorted_by(|a, b| a.lane < b.lane);
    if sane && ordered && !cut.lanes.is_empty() {
        return Ok(());
    }
    Err(CutError::Contradiction { number: cut.number, what: "its numbers" })
}

impl Replica {
    /// Takes the next cut, which was checked to be sane.
    ///
    /// # Errors
    /// When it isn't the next, or contradicts what is known: what is missing is to be asked for.
    pub fn take_cut(&mut self, fx: &mut Effects, cut: &Cut) -> Result<(), CutError> {
        let taken = self.try_cut(fx, cut);
        self.check_damage(fx);
        self.settle(fx);
        taken
    }

    fn try_cut(&mut self, fx: &mut Effects, cut: &Cut) -> Result<(), CutError> {
        if self.is_copy() {
            return Ok(()); // the shard has ended: it gets its parts from those who have them
        }
        if self.lacks_parts() {
            return Ok(()); // it comes again, with what is missing before it
        }
        match self.seen {
            Some(seen) if cut.number <= seen => return Ok(()),
            Some(seen) if cut.number != seen.next() => {
                return Err(CutError::Gap { have: seen, got: cut.number });
            }
            None if !self.is_unborn() && !self.is_complete() => {
                let what = "it came before the parts that may have been missed";
                return Err(CutError::Contradiction { number: cut.number, what });
            }
            Some(_) | None => {}
        }
        let lens: Vec<u64> = (0..self.lanes.len()).map(|i| self.history.len(i as u8)).collect();
        if let Some(part) = cut.part(self.shard, &lens)? {
            self.take_part(fx, part)?;
        }
        self.seen = Some(cut.number);
        self.known = self.known.max(cut.end());
        Ok(())
    }

    /// Takes the parts that were missed.
    ///
    /// # Errors
    /// When they contradict what is known, or each other.
    pub fn take_parts(&mut self, fx: &mut Effects, m: PartsAre) -> Result<(), CutError> {
        let taken = self.try_parts(fx, m);
        self.check_damage(fx);
        self.settle(fx);
        taken
    }

    fn try_parts(&mut self, fx: &mut Effects, m: PartsAre) -> Result<(), CutError> {
        if self.is_copy() {
            return Ok(());
        }
        let wrong = |number, what| Err(CutError::Contradiction { number, what });
        if m.number.0 >= SANE_MAX || m.tail.0 >= SANE_MAX {
            return wrong(m.number, "its numbers");
        }
        for part in m.parts {
            let n = part.number;
            if n <= self.history.number() {
                continue;
            }
            if n > m.number || part.base >= m.tail || part.lens.iter().any(|&l| l >= SANE_MAX) {
                return wrong(n, "its numbers");
            }
            self.take_part(fx, part)?;
        }
        let lens: Vec<u64> = (0..self.lanes.len()).map(|i| self.history.len(i as u8)).collect();
        if m.lens != lens {
            return wrong(m.number, "the committed lengths with all parts taken");
        }
        if m.tail < self.history.end() {
            return wrong(m.number, "its tail");
        }
        self.seen = Some(m.number);
        self.known = self.known.max(m.tail);
        Ok(())
    }

    pub(super) fn take_part(&mut self, fx: &mut Effects, part: ShardPart) -> Result<(), CutError> {
        let wrong = |what| Err(CutError::Contradiction { number: part.number, what });
        if part.lens.len() != self.lanes.len() {
            return wrong("the number of lanes");
        }
        if self.lanes.iter().zip(&part.lens).any(|(lane, &to)| !lane.is_boundary(to)) {
            return wrong("a length inside a batch");
        }
        self.history.push(part.clone())?;
        for (lane, &to) in self.lanes.iter_mut().zip(&part.lens) {
            lane.committed = to;
            lane.evict();
        }
        fx.marks.push(cut_record(self.shard, self.marked, &part));
        self.marked = part.number;
        // One that was lost is waited for: no batch may come along to take its mark with it.
        fx.at_once |= self.mend.open && part.number <= self.gap.until();
        self.rejoin();
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            lane.committed = self.history.len(i as u8);
        }
        Ok(())
    }

    /// Tells the owner once when this replica turns out to hold less than what is committed: a disk forgot
    /// what it had synced, which is the world's fault and not ours to assert.
    pub fn check_damage(&mut self, fx: &mut Effects) {
        let damage = self.damage();
        if let Some(what) = damage.clone().filter(|_| !self.damage_told) {
            fx.event(SlotEvent::Damaged { shard: self.shard, what });
        }
        self.damage_told = damage.is_some();
    }

    /// Answers the writers of own batches that are committed, and durable here.
    pub(super) fn settle(&mut self, fx: &mut Effects) {
        if self.mend.open || self.lacks_parts() {
            return;
        }
        let lane = self.own_lane();
        let upto = lane.committed.min(lane.durable);
        let mut run: Option<Run> = None;
        while let Some(p) = self.own.pending.front().copied().filter(|p| p.end <= upto) {
            self.own.pending.pop_front();
            let durable_at = self.own.synced.take(p.end);
            if let Some(at) = durable_at.filter(|_| p.prompt) {
                fx.stages.record(ORDER, fx.now.since(at), 1);
            }
            self.own.uncommitted_bytes -= p.bytes;
            self.own.awaited -= usize::from(p.prompt);
            if run.is_none_or(|r| r.first_lsn.0 + r.count <= p.first_lsn) {
                run = self.run_at(p.first_lsn);
            }
            let r = run.expect("every LSN below the committed length is in a part");
            if p.first_lsn < r.first_lsn.0 || p.end > r.first_lsn.0 + r.count {
                // Cuts end where batches end. This one came while the batch was lost here.
                self.broken =
                    Some(format!("lane {}: a cut ends inside the batch at {}", r.lane, p.first_lsn));
                return;
            }
            let gsn = r.first_gsn.plus(p.first_lsn - r.first_lsn.0);
            if let Some(conn) = self.own_writers().committed(p.writer, p.epoch, p.first_lsn, gsn) {
                fx.acks.entry((conn, p.writer)).or_default().push((p.seq, gsn));
                if let Some(at) = p.at.filter(|_| p.prompt) {
                    fx.stages.record(ACK, fx.now.since(at), 1);
                }
            }
        }
    }

    /// Newest part known here.
    pub fn newest_part(&self) -> CutNumber {
        self.history.number()
    }

    /// Whether nothing was ever said about this shard, and nothing is in it.
    pub fn is_unborn(&self) -> bool {
        self.history.lanes().is_none() && self.lanes.iter().all(|l| l.accepted == 0)
    }

    /// The run of the own lane that holds `lsn`.
    fn run_at(&self, lsn: u64) -> Option<Run> {
        let i = usize::from(self.index);
        let part = self.history.parts().partition_point(|p| p.lens[i] <= lsn);
        if part == self.history.parts().len() {
            return None;
        }
        self.history.runs(self.shard, part).find(|r| r.lane == LaneId::new(self.shard, self.index))
    }
}
