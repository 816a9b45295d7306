//! Is everything there that was acknowledged? Follows the log over all of it: each writer's records in order,
//! each exactly once, each where its acknowledgement said.

use super::append::Acked;
use super::control::Control;
use super::loader::Load;
use crate::checks::Checks;
use crate::payload::{Origin, Payload};
use std::collections::BTreeMap;
use std::sync::Arc;
use zoolog_client::{Committed, LogClient, LogEvent, SharedLog};
use zoolog_core::batch::BatchKind;
use zoolog_core::{Gsn, WriterId};

/// That nothing is missing.
pub const ALL_THERE: &str = "every acknowledged record is in the log";
const ORDER: &str = "each writer's records are in the log once, in order";
const PLACE: &str = "each record lies where its acknowledgement said";
const CONTENT: &str = "records hold what was written";
const DENSE: &str = "the log has no gap";

/// How far one writer's records have been found.
#[derive(Debug)]
struct Track {
    acked: Acked,
    /// Counter of the next record.
    next: u64,
    /// Which of its acknowledged batches the next record is in.
    batch: usize,
}

/// The reader of it all.
#[derive(Debug)]
pub struct Verifier {
    control: Arc<Control>,
    payload: Payload,
    tracks: BTreeMap<WriterId, Track>,
    from: Gsn,
    until: Gsn,
    at: Option<Gsn>,
    checks: Checks,
    found: u64,
}

impl Verifier {
    /// For what these writers were acknowledged, at least one batch of one of them.
    pub fn new(acked: Vec<Acked>, payload: Payload, control: Arc<Control>) -> Self {
        let batches = || acked.iter().flat_map(|a| &a.batches);
        let from = batches().map(|b| b.first_gsn).min().expect("something was acknowledged");
        let until = batches().map(|b| b.first_gsn.plus(u64::from(b.count))).max().expect("as above");
        let tracks =
            acked.into_iter().map(|acked| (acked.writer, Track { acked, next: 1, batch: 0 })).collect();
        let checks = Checks::default();
        Self { control, payload, tracks, from, until, at: None, checks, found: 0 }
    }

    fn committed(&mut self, c: &Committed) {
        let at = self.at.replace(c.end());
        if at != Some(c.from()) {
            self.checks.fail(DENSE, || format!("{} follows {at:?}", c.from()));
        }
        self.control.add_answered(u64::from(c.take));
        let Some(track) = self.tracks.get_mut(&c.placed.batch.writer()) else { return };
        if c.placed.batch.kind() != BatchKind::Data {
            return;
        }
        for (gsn, _, record) in c.records() {
            self.found += 1;
            let want = Origin { key: 0, writer: track.acked.index, counter: track.next };
            match self.payload.read(&record) {
                Ok(Some(origin)) if origin == want => {}
                Ok(origin) => self.checks.fail(ORDER, || format!("{gsn}: {origin:?} where {want:?} was due")),
                Err(why) => self.checks.fail(CONTENT, || format!("{gsn}: {why:?}")),
            }
            if let Some(batch) = track.acked.batches.get(track.batch) {
                // Acknowledgements come in order, so only unacknowledged records lie behind the last batch.
                let said = batch.first_gsn.plus(track.next - batch.first_counter);
                if said != gsn {
                    self.checks.fail(PLACE, || format!("{want:?} at {gsn}, acknowledged at {said}"));
                }
                if track.next + 1 == batch.first_counter + u64::from(batch.count) {
                    track.batch += 1;
                }
            }
            track.next += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.at.is_some_and(|at| at >= self.until)
    }
}

impl Load for Verifier {
    type Result = Checks;

    fn turn(&mut self, _now_ns: u64, log: &mut LogClient) {
        if self.at.is_none() {
            self.at = Some(self.from);
            log.subscribe(self.from);
        }
    }

    fn event(&mut self, _now_ns: u64, _log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Committed(c) if !self.is_done() => self.committed(&c),
            LogEvent::Gap { from, until } => {
                // Trimmed meanwhile: the operator's doing, but then nothing can be said for sure.
                self.checks.fail(ALL_THERE, || format!("{from} to {until} were trimmed"));
                self.at = Some(self.until);
            }
            _ => {}
        }
    }

    fn result(&mut self) -> Option<Checks> {
        if !self.is_done() {
            return None;
        }
        let mut checks = std::mem::take(&mut self.checks);
        for track in self.tracks.values() {
            let acked: u64 = track.acked.batches.iter().map(|b| u64::from(b.count)).sum();
            if track.next <= acked {
                let (index, found) = (track.acked.index, track.next - 1);
                checks.fail(ALL_THERE, || format!("writer {index}: {found} of {acked} found"));
            }
        }
        for check in [ALL_THERE, ORDER, PLACE, CONTENT] {
            checks.pass(check, self.found);
        }
        Some(checks)
    }
}

#[cfg(test)]
mod tests {
    use super::super::append::AckedBatch;
    use super::*;
    use crate::sizes::Sizes;
    use zoolog_core::batch::{BatchBuilder, PlacedBatch};
    use zoolog_core::{Epoch, Incarnation, Instant, LaneId, Lsn, Seq};

    const RUN: u32 = 9;

    /// The batch `seq` of writer `w`, at `first_gsn`, holding its records `counters`.
    fn batch(w: u32, seq: u64, first_gsn: u64, counters: std::ops::Range<u64>) -> Committed {
        let (mut builder, mut payload) = (BatchBuilder::new(), Payload::new(RUN, Sizes::Fixed(40)));
        let take = (counters.end - counters.start) as u32;
        for counter in counters {
            builder.push(payload.make(Origin { key: 0, writer: w, counter }));
        }
        let batch = builder.finish(BatchKind::Data, WriterId(u128::from(w)), Epoch(0), Seq(seq));
        let placed = PlacedBatch::place(LaneId(0), Incarnation(1), Lsn(0), 0, batch);
        Committed { first_gsn: Gsn(first_gsn), placed, skip: 0, take, own: false, ordered_at: Instant(0) }
    }

    /// Two writers were acknowledged the records 1..3 at 10 and 3..6 at 16, and 1..4 at 13; all was read back as
    /// `log` says.
    fn verify(log: &[Committed]) -> Checks {
        let said =
            |first_gsn, first_counter, count| AckedBatch { first_gsn: Gsn(first_gsn), first_counter, count };
        let acked = |index: u32, batches| Acked { index, writer: WriterId(u128::from(index)), batches };
        let all = vec![acked(1, vec![said(10, 1, 2), said(16, 3, 3)]), acked(2, vec![said(13, 1, 3)])];
        let mut verifier = Verifier::new(all, Payload::new(RUN, Sizes::Fixed(40)), Arc::default());
        verifier.at = Some(verifier.from);
        log.iter().for_each(|c| verifier.committed(c));
        verifier.result().expect("it was read to its end")
    }

    /// What was acknowledged, with a stranger's record at 12.
    fn right() -> Vec<Committed> {
        vec![batch(1, 0, 10, 1..3), batch(7, 0, 12, 5..6), batch(2, 0, 13, 1..4), batch(1, 1, 16, 3..6)]
    }

    #[test]
    fn a_log_as_acknowledged_passes() {
        let checks = verify(&right());
        assert!(!checks.any_failed(), "{}", checks.summary());
        assert_eq!(checks.made[ALL_THERE], 8);
    }

    #[test]
    fn every_way_of_losing_doubling_or_moving_records_is_caught() {
        let mut missing = right();
        missing[2] = batch(7, 1, 13, 6..9);
        let mut doubled = right();
        doubled[3] = batch(1, 0, 16, 1..4);
        let mut moved = right();
        moved.swap(0, 1);
        (moved[0].first_gsn, moved[1].first_gsn) = (Gsn(10), Gsn(11));
        let mut gap = right();
        gap.remove(1);
        let mut changed = right();
        let mut other = Payload::new(RUN + 1, Sizes::Fixed(40));
        let mut builder = BatchBuilder::new();
        (1..4).for_each(|counter| builder.push(other.make(Origin { key: 0, writer: 2, counter })));
        let foreign = builder.finish(BatchKind::Data, WriterId(2), Epoch(0), Seq(0));
        changed[2].placed = PlacedBatch::place(LaneId(0), Incarnation(1), Lsn(0), 0, foreign);
        let cases =
            [(missing, ALL_THERE), (doubled, ORDER), (moved, PLACE), (gap, DENSE), (changed, CONTENT)];
        for (log, check) in cases {
            let checks = verify(&log);
            assert!(checks.failed.contains_key(check), "{check}: {}", checks.summary());
        }
    }
}
