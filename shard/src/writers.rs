//! Is this batch the writer's next one? Per lane, the window of each writer: what it may send next, and where its
//! newest batches went, so that a resent one is answered rather than stored again. Backups keep the windows too: a
//! writer that has to leave the lane asks any of them what is in.
//!
//! Invariant LOG-3: a writer's batches enter a lane in the order of their numbers, each once.

use crate::marks::WriterMark;
use std::collections::{BTreeMap, VecDeque};
use zoolog_core::batch::{Batch, BatchKind};
use zoolog_core::limits::WRITER_WINDOW;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::AppendRefusedWhy;
use zoolog_core::{Epoch, Gsn, Seq, WriterId};

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Store it.
    New,
    /// It is stored already, from this LSN on, and at this position if that was known when it was committed.
    Known(u64, Option<Gsn>),
    /// Don't take it; `Seq` is the number that would be taken.
    Refused(AppendRefusedWhy, Seq),
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    seq: Seq,
    first_lsn: u64,
    count: u32,
    crc: u32,
    /// Once it is committed. Kept here because its part may be trimmed before the writer has its answer.
    gsn: Option<Gsn>,
}

/// What a window remembers of a batch that enters the lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    writer: WriterId,
    epoch: Epoch,
    seq: Seq,
    kind: BatchKind,
    count: u32,
    crc: u32,
}

impl Head {
    /// Of that batch.
    pub fn of(b: &Batch) -> Self {
        let (writer, epoch, seq) = (b.writer(), b.epoch(), b.seq());
        Self { writer, epoch, seq, kind: b.kind(), count: b.count(), crc: b.crc() }
    }

    /// How many records it has.
    pub fn count(&self) -> u32 {
        self.count
    }
}

#[derive(Debug)]
struct Window {
    epoch: Epoch,
    /// First LSN of the fence that ended this opening's use of the lane.
    closed: Option<u64>,
    next: Seq,
    /// The newest batches of this opening: their numbers are dense, but for a fence, which may leave some out.
    taken: VecDeque<Taken>,
    /// How many of its batches are not committed.
    pending: u64,
    /// The newest connection it used.
    conn: Option<ConnId>,
    used: u64,
}

/// The writers of one lane.
#[derive(Debug)]
pub(crate) struct Writers {
    map: BTreeMap<WriterId, Window>,
    /// Batches remembered, over all writers.
    remembered: usize,
    uses: u64,
    writers_max: usize,
    remembered_max: usize,
    /// Some window was dropped, or never seen: an unknown writer may have batches here.
    forgot: bool,
}

/// What is known of a writer's batches in a lane that takes no more of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// These, by number, with first LSN, and position if it was kept; no others.
    In(Vec<(Seq, u64, Option<Gsn>)>),
    /// Nobody remembers.
    Forgotten,
}

impl Writers {
    /// None, of at most `writers_max`, with `remembered_max` batches of them all.
    pub fn new(writers_max: usize, remembered_max: usize) -> Self {
        Self { map: BTreeMap::new(), remembered: 0, uses: 0, writers_max, remembered_max, forgot: false }
    }

    /// What to do with `batch`, whose writer has no lower numbers than `start` in this lane.
    pub fn judge(&mut self, batch: &Batch, start: Seq) -> Judged {
        let (seq, epoch) = (batch.seq(), batch.epoch());
        let known = self.map.get(&batch.writer());
        let Some(w) = known.filter(|w| w.epoch >= epoch) else {
            // Unknown, or the writer's next opening. A fence need not follow anything.
            if seq != start && batch.kind() != BatchKind::Fence {
                return Judged::Refused(AppendRefusedWhy::Gap, start);
            }
            if known.is_none() && !self.make_room() {
                return Judged::Refused(AppendRefusedWhy::Window, seq);
            }
            return Judged::New;
        };
        if w.epoch > epoch {
            return Judged::Refused(AppendRefusedWhy::Closed, w.next);
        }
        if seq < w.next {
            return match w.taken.binary_search_by_key(&seq, |t| t.seq).ok().and_then(|i| w.taken.get(i)) {
                Some(t) if t.crc == batch.crc() && t.count == batch.count() => {
                    Judged::Known(t.first_lsn, t.gsn)
                }
                Some(t) if w.closed == Some(t.first_lsn) => Judged::Refused(AppendRefusedWhy::Closed, w.next),
                Some(_) => Judged::Refused(AppendRefusedWhy::Malformed, w.next),
                None if w.closed.is_some() => Judged::Refused(AppendRefusedWhy::Closed, w.next),
                None => Judged::Refused(AppendRefusedWhy::Window, w.next),
            };
        }
        if w.closed.is_some() {
            return Judged::Refused(AppendRefusedWhy::Closed, w.next);
        }
        if seq > w.next && batch.kind() != BatchKind::Fence {
            return Judged::Refused(AppendRefusedWhy::Gap, w.next);
        }
        if w.pending >= WRITER_WINDOW {
            return Judged::Refused(AppendRefusedWhy::Window, w.next);
        }
        Judged::New
    }

    /// Whether the lane is still open for the writer of that fence.
    pub fn takes_fence(&mut self, fence: &Batch) -> bool {
        match self.map.get(&fence.writer()) {
            Some(w) => w.epoch < fence.epoch() || (w.epoch == fence.epoch() && w.closed.is_none()),
            None => self.make_room(),
        }
    }

    /// The number that a writer uses next, if it is known.
    pub fn next(&self, writer: WriterId) -> Option<Seq> {
        self.map.get(&writer).map(|w| w.next)
    }

    /// The newest opening of that writer that has anything here, or had.
    pub fn newest(&self, writer: WriterId) -> Option<Epoch> {
        self.map.get(&writer).map(|w| w.epoch)
    }

    /// Remembers that `batch` is in the own lane from `first_lsn` on, not committed as far as is known. Batches
    /// that recovery or adoption brings count as well.
    pub fn took(&mut self, batch: &Batch, first_lsn: u64) {
        self.note(&Head::of(batch), first_lsn).pending += 1;
    }

    /// Remembers that `batch` is in the lane, of which `committed` records are, and which is only backed up here.
    pub fn backed_up(&mut self, batch: &Head, first_lsn: u64, committed: u64) {
        if !self.map.contains_key(&batch.writer) && !self.has_room() {
            self.drop_idle(committed);
        }
        self.note(batch, first_lsn);
    }

    fn note(&mut self, batch: &Head, first_lsn: u64) -> &mut Window {
        let (seq, epoch) = (batch.seq, batch.epoch);
        let fence = batch.kind == BatchKind::Fence;
        self.uses += 1;
        let w = self.map.entry(batch.writer).or_insert_with(|| Window::new(epoch, seq));
        if epoch > w.epoch || (seq != w.next && !fence) {
            // Of this opening some never came by here: what else did not is not known.
            self.forgot |= epoch == w.epoch;
            self.remembered -= w.taken.len();
            // A later opening may fence the lane and never use any: the next one still asks where the last record is. Any of
            // them may be the last: the lane may yet be cut off before those that are not committed.
            match fence && epoch > w.epoch {
                true => w.taken.retain(|t| w.closed != Some(t.first_lsn)),
                false => w.taken.clear(),
            }
            self.remembered += w.taken.len();
            (w.closed, w.next) = (None, Seq(0));
        }
        (w.epoch, w.next, w.used) = (epoch, seq.next().max(w.next), self.uses);
        if fence {
            w.closed = w.closed.or(Some(first_lsn));
        }
        w.taken.push_back(Taken { seq, first_lsn, count: batch.count, crc: batch.crc, gsn: None });
        self.remembered += 1;
        if w.taken.len() as u64 > w.room() {
            w.taken.pop_front();
            self.remembered -= 1;
        }
        w
    }

    /// The writer used `conn`: answers go there from now on, unless it has used a newer one already, whose
    /// frames overtook those of this one.
    pub fn seen_on(&mut self, writer: WriterId, conn: ConnId) {
        self.uses += 1;
        if let Some(w) = self.map.get_mut(&writer) {
            (w.conn, w.used) = (w.conn.max(Some(conn)), self.uses);
        }
    }

    /// A batch of the writer's opening `epoch` is committed, its first record being at `gsn`; where to answer,
    /// if anywhere.
    pub fn committed(&mut self, writer: WriterId, epoch: Epoch, first_lsn: u64, gsn: Gsn) -> Option<ConnId> {
        let w = self.map.get_mut(&writer).expect("a writer with pending batches is never forgotten");
        // Batches are committed in order, so it is the oldest of those pending, unless a later opening has
        // cleared some away.
        let oldest = w.taken.len().checked_sub(w.pending as usize);
        let is_it = |i: &usize| w.taken.get(*i).is_some_and(|t| t.first_lsn == first_lsn);
        let found =
            oldest.filter(is_it).or_else(|| w.taken.binary_search_by_key(&first_lsn, |t| t.first_lsn).ok());
        if let Some(t) = found.and_then(|i| w.taken.get_mut(i)) {
            t.gsn = Some(gsn);
        }
        w.pending = w.pending.checked_sub(1).expect("more batches committed than were taken");
        // A fence isn't answered: its number may be that of a batch in the writer's next lane.
        w.conn.filter(|_| w.epoch == epoch && w.closed != Some(first_lsn))
    }

    /// Forgets that connection.
    pub fn closed(&mut self, conn: ConnId) {
        self.map.values_mut().filter(|w| w.conn == Some(conn)).for_each(|w| w.conn = None);
    }

    /// Whether there is room for one more writer, after forgetting the eighth that was idle longest if
    /// there wasn't.
    fn make_room(&mut self) -> bool {
        if !self.has_room() {
            self.drop_idle(u64::MAX);
        }
        self.has_room()
    }

    fn has_room(&self) -> bool {
        self.map.len() < self.writers_max && self.remembered < self.remembered_max
    }

    /// Forgets the eighth that was idle longest, of those all of whose batches lie before `settled`.
    fn drop_idle(&mut self, settled: u64) {
        let is_idle = |w: &Window| w.pending == 0 && w.taken.back().is_none_or(|t| t.first_lsn < settled);
        let mut idle: Vec<_> =
            self.map.iter().filter(|(_, w)| is_idle(w)).map(|(&id, w)| (w.used, id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.iter().take(idle.len().div_ceil(8)) {
            self.remembered -= self.map.remove(id).map_or(0, |w| w.taken.len());
            self.forgot = true;
        }
    }

    /// Some of the lane's batches never came by here: what is not known may have been.
    pub fn missed_some(&mut self) {
        self.forgot = true;
    }

    /// Whether what is not known may have been.
    pub fn has_forgotten(&self) -> bool {
        self.forgot
    }

    /// Whether the writer's opening `epoch` can add nothing to a lane of which `committed` records are: a fence, or a
    /// later opening, is among them.
    pub fn is_closed(&self, writer: WriterId, epoch: Epoch, committed: u64) -> bool {
        self.map.get(&writer).is_some_and(|w| match w.epoch.cmp(&epoch) {
            std::cmp::Ordering::Greater => {
                // What lies before a fence may be of an opening before it.
                let first = w.closed.or(w.taken.front().map(|t| t.first_lsn));
                first.is_some_and(|lsn| lsn < committed)
            }
            std::cmp::Ordering::Equal => w.closed.is_some_and(|lsn| lsn < committed),
            std::cmp::Ordering::Less => false,
        })
    }

    /// Which batches of the writer's opening `epoch`, from number `from` on, lie before `end`, where the lane is over
    /// for it.
    pub fn fate(&self, writer: WriterId, epoch: Epoch, from: Seq, end: u64) -> Fate {
        let Some(w) = self.map.get(&writer).filter(|w| w.epoch >= epoch) else {
            return if self.forgot { Fate::Forgotten } else { Fate::In(Vec::new()) };
        };
        let all_there = w.taken.front().is_none_or(|t| t.seq <= from)
            || ((w.taken.len() as u64) < w.room() && !self.forgot);
        if w.epoch > epoch || !all_there {
            return Fate::Forgotten;
        }
        let known =
            w.taken.iter().filter(|t| t.seq >= from && t.first_lsn < end && w.closed != Some(t.first_lsn));
        Fate::In(known.map(|t| (t.seq, t.first_lsn, t.gsn)).collect())
    }

    /// The writer's last batch of records before `end`: first LSN, records, and position if it was kept.
    pub fn last(&self, writer: WriterId, end: u64) -> Option<(u64, u32, Option<Gsn>)> {
        let w = self.map.get(&writer)?;
        w.last_data(end).map(|data| (data.first_lsn, data.count, data.gsn))
    }

    /// The lane ends at `end`: forgets what lies beyond. Returns the writers on whose connections batches were
    /// given up, and the first of each.
    pub fn cut_off(&mut self, end: u64) -> Vec<(ConnId, WriterId, Seq)> {
        let mut told = Vec::new();
        for (&id, w) in &mut self.map {
            let mut first = None;
            while let Some(t) = w.taken.back().filter(|t| t.first_lsn >= end) {
                first = Some(t.seq);
                w.taken.pop_back();
                w.pending = w.pending.saturating_sub(1);
                self.remembered -= 1;
            }
            if let Some(seq) = first {
                w.next = seq;
                told.extend(w.conn.map(|conn| (conn, id, seq)));
            }
        }
        told
    }

    /// For a checkpoint: all writers, the one that was idle longest first. Positions not remembered here are those that
    /// `gsn` gives: who reads the checkpoint may find what gives them now trimmed.
    pub fn marks(&self, gsn: impl Fn(u64) -> Option<Gsn>) -> Vec<WriterMark> {
        let mark = |t: &Taken| (t.seq, t.first_lsn, t.count, t.crc, t.gsn.or_else(|| gsn(t.first_lsn)));
        let mut by_use: Vec<_> = self.map.iter().collect();
        by_use.sort_unstable_by_key(|(_, w)| w.used);
        by_use
            .into_iter()
            .map(|(&writer, w)| WriterMark {
                writer,
                epoch: w.epoch,
                closed: w.closed,
                next: w.next,
                batches: w.taken.iter().map(mark).collect(),
            })
            .collect()
    }

    /// Takes what a checkpoint said.
    pub fn restore(&mut self, marks: Vec<WriterMark>) {
        for m in marks {
            let ascends = m.batches.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
            let room = WRITER_WINDOW + u64::from(m.closed.is_some());
            if m.batches.len() as u64 > room || !ascends || m.batches.last().is_some_and(|b| b.0 >= m.next) {
                self.forgot = true;
                continue; // not written by us
            }
            self.uses += 1;
            let taken = m.batches.into_iter();
            let taken =
                taken.map(|(seq, first_lsn, count, crc, gsn)| Taken { seq, first_lsn, count, crc, gsn });
            let w = Window {
                epoch: m.epoch,
                closed: m.closed,
                next: m.next,
                taken: taken.collect(),
                pending: 0,
                conn: None,
                used: self.uses,
            };
            self.remembered += w.taken.len();
            self.map.insert(m.writer, w);
        }
    }

    /// Recounts what is pending, after a start: the batches at or past `committed`, by LSN, as (writer,
    /// epoch, seq, first LSN, count). Those before it get the positions that `gsn` gives.
    pub fn recount(
        &mut self,
        committed: u64,
        gsn: impl Fn(u64) -> Option<Gsn>,
    ) -> Vec<(WriterId, Epoch, Seq, u64, u32)> {
        let mut out = Vec::new();
        for (&id, w) in &mut self.map {
            w.pending = 0;
            for t in &mut w.taken {
                if t.first_lsn < committed {
                    t.gsn = t.gsn.or_else(|| gsn(t.first_lsn));
                    continue;
                }
                w.pending += 1;
                out.push((id, w.epoch, t.seq, t.first_lsn, t.count));
            }
        }
        out.sort_unstable_by_key(|p| p.3);
        out
    }

    /// Forgets what is remembered from that LSN on: it turned out to be lost, and what comes there comes anew.
    pub fn forget_from(&mut self, lsn: u64) {
        let _ = self.cut_off(lsn);
        for w in self.map.values_mut().filter(|w| w.closed.is_some_and(|at| at >= lsn)) {
            // Its fence had left numbers out, perhaps.
            w.closed = None;
            w.next = w.taken.back().map_or(w.next, |t| t.seq.next());
        }
        // Of a fence alone nothing is left.
        self.map.retain(|_, w| !w.taken.is_empty() || w.pending > 0 || w.next > Seq(0));
    }

    /// Remembers the positions, as `gsn` gives them, of the batches that begin in `from..to`: what gives them now is
    /// about to be trimmed.
    pub fn keep_positions(&mut self, from: u64, to: u64, gsn: impl Fn(u64) -> Option<Gsn>) {
        for w in self.map.values_mut() {
            let first = w.taken.partition_point(|t| t.first_lsn < from);
            for t in w.taken.iter_mut().skip(first).take_while(|t| t.first_lsn < to) {
                t.gsn = t.gsn.or_else(|| gsn(t.first_lsn));
            }
        }
    }

    /// Batches taken and not known to be committed, over all writers.
    #[cfg(test)]
    pub fn pending(&self) -> u64 {
        self.map.values().map(|w| w.pending).sum()
    }

    /// How many writers are known.
    pub fn len(&self) -> usize {
        self.map.len()
    }
}

impl Window {
    /// The newest batch of records before `end`; it may be of an earlier opening, if a fence is all of this one.
    fn last_data(&self, end: u64) -> Option<Taken> {
        self.taken.iter().rev().find(|t| t.first_lsn < end && self.closed != Some(t.first_lsn)).copied()
    }

    /// How many batches are remembered at most. A fence takes nobody's place: its writer may yet ask for all the others.
    fn room(&self) -> u64 {
        WRITER_WINDOW + u64::from(self.closed.is_some())
    }

    fn new(epoch: Epoch, next: Seq) -> Self {
        Self { epoch, closed: None, next, taken: VecDeque::new(), pending: 0, conn: None, used: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::batch::BatchBuilder;

    fn batch(writer: u128, epoch: u32, seq: u64) -> Batch {
        let mut b = BatchBuilder::new();
        b.push(&seq.to_le_bytes());
        b.finish(BatchKind::Data, WriterId(writer), Epoch(epoch), Seq(seq))
    }

    fn writers() -> Writers {
        Writers::new(4, 100)
    }

    proptest! {
        /// Whatever is resent, skipped or reordered, what is stored is 0, 1, 2, ... and a resent batch is
        /// answered with the place it got first (shared-log defect 12).
        #[test]
        fn each_batch_is_stored_once_and_in_order(seqs in prop::collection::vec(0u64..12, 0..80), restart in 0usize..80) {
            let mut w = writers();
            let mut stored: Vec<u64> = Vec::new();
            for (i, &seq) in seqs.iter().enumerate() {
                if i == restart {
                    let marks = w.marks(|_| None);
                    w = writers();
                    w.restore(marks);
                    prop_assert_eq!(w.recount(0, |_| None).len(), stored.len());
                }
                let b = batch(7, 0, seq);
                match w.judge(&b, Seq(0)) {
                    Judged::New => {
                        prop_assert_eq!(seq, stored.len() as u64);
                        w.took(&b, 100 + seq);
                        stored.push(seq);
                    }
                    Judged::Known(lsn, _) => prop_assert_eq!((lsn, stored.contains(&seq)), (100 + seq, true)),
                    Judged::Refused(why, expected) => {
                        prop_assert_eq!((why, expected.0), (AppendRefusedWhy::Gap, stored.len() as u64));
                        prop_assert!(seq > expected.0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_resent_batch_with_other_content_is_refused() {
        let mut w = writers();
        w.took(&batch(1, 0, 0), 5);
        let mut other = BatchBuilder::new();
        other.push(b"something else");
        let other = other.finish(BatchKind::Data, WriterId(1), Epoch(0), Seq(0));
        assert_eq!(w.judge(&other, Seq(0)), Judged::Refused(AppendRefusedWhy::Malformed, Seq(1)));
    }

    #[test]
    fn a_full_table_forgets_only_idle_writers() {
        let mut w = writers();
        for id in 1..=4 {
            w.took(&batch(id, 0, 0), id as u64);
        }
        assert_eq!(w.judge(&batch(5, 0, 0), Seq(0)), Judged::Refused(AppendRefusedWhy::Window, Seq(0)));
        w.committed(WriterId(2), Epoch(0), 2, Gsn(20));
        assert_eq!(w.judge(&batch(5, 0, 0), Seq(0)), Judged::New);
        assert_eq!(w.judge(&batch(3, 0, 0), Seq(0)), Judged::Known(3, None));
        assert_eq!((w.len(), w.pending()), (3, 3));
    }

    #[test]
    fn a_writer_has_a_bounded_window() {
        let mut w = Writers::new(4, 1 << 20);
        (0..WRITER_WINDOW).for_each(|s| w.took(&batch(1, 0, s), s));
        let next = batch(1, 0, WRITER_WINDOW);
        assert_eq!(w.judge(&next, Seq(0)), Judged::Refused(AppendRefusedWhy::Window, next.seq()));
        w.committed(WriterId(1), Epoch(0), 0, Gsn(7));
        assert_eq!(w.judge(&next, Seq(0)), Judged::New);
    }

    /// The position outlives the part that gave it, in memory and through a restart.
    #[test]
    fn a_committed_batch_keeps_its_position() {
        let mut w = writers();
        (0..3).for_each(|s| w.took(&batch(1, 0, s), s));
        w.committed(WriterId(1), Epoch(0), 0, Gsn(40));
        w.committed(WriterId(1), Epoch(0), 1, Gsn(43));
        let marks = w.marks(|_| None);
        let mut again = writers();
        again.restore(marks);
        again.took(&batch(1, 0, 3), 3);
        assert_eq!(again.recount(3, |lsn| Some(Gsn(50 + lsn))).len(), 1);
        for (seq, gsn) in [(0, Some(40)), (1, Some(43)), (2, Some(52)), (3, None)] {
            assert_eq!(again.judge(&batch(1, 0, seq), Seq(0)), Judged::Known(seq, gsn.map(Gsn)));
        }
    }

    /// LOG-3: what recovery could not read may have been in the lane. Whoever lacks it doesn't deny it.
    #[test]
    fn a_hole_in_what_came_by_is_not_taken_for_nothing() {
        let mut w = writers();
        [0, 1, 4].into_iter().for_each(|s| w.backed_up(&Head::of(&batch(1, 0, s)), s, 0));
        assert_eq!(w.fate(WriterId(1), Epoch(0), Seq(1), 9), Fate::Forgotten);
        assert_eq!(w.fate(WriterId(1), Epoch(0), Seq(4), 9), Fate::In(vec![(Seq(4), 4, None)]));
        let mut lost = w.marks(|_| None);
        lost[0].next = Seq(0);
        let mut again = writers();
        again.restore(lost);
        assert_eq!(
            again.fate(WriterId(1), Epoch(0), Seq(4), 9),
            Fate::Forgotten,
            "a mark that makes no sense"
        );
    }

    /// LOG-8: openings 2 and 3 of a name fenced the lane of opening 1, and appended nothing anywhere; where the last record
    /// is is asked by each. It was forgotten with the first fence of a later opening.
    #[test]
    fn fences_of_later_openings_leave_the_last_record_known() {
        let fence = |epoch| {
            let mut b = BatchBuilder::new();
            b.push(b"");
            b.finish(BatchKind::Fence, WriterId(1), Epoch(epoch), zoolog_core::batch::FENCE_SEQ)
        };
        let mut w = writers();
        (0..3).for_each(|n| w.took(&batch(1, 1, (1 << 40) + n), n));
        for (n, epoch) in (3..).zip([1, 2, 3]) {
            assert_eq!(w.judge(&fence(epoch), Seq(0)), Judged::New);
            w.took(&fence(epoch), n);
            assert_eq!(w.last(WriterId(1), n), Some((2, 1, None)), "opening {epoch}");
            assert!(!w.is_closed(WriterId(1), Epoch(epoch), n), "its fence is not committed");
            assert!(w.is_closed(WriterId(1), Epoch(epoch), n + 1));
        }
        assert!(!w.is_closed(WriterId(1), Epoch(2), 5), "what an earlier opening has there doesn't close it");
        // In whatever order it is committed, and through a restart.
        for n in 0..6 {
            w.committed(WriterId(1), Epoch(1), n, Gsn(10 + n));
        }
        assert_eq!((w.pending(), w.last(WriterId(1), 9)), (0, Some((2, 1, Some(Gsn(12))))));
        let mut again = writers();
        again.restore(w.marks(|_| None));
        assert_eq!(again.last(WriterId(1), 9), Some((2, 1, Some(Gsn(12)))));
        assert_eq!(again.judge(&batch(1, 4, 4 << 40), Seq(4 << 40)), Judged::New);
        assert_eq!(again.fate(WriterId(1), Epoch(3), Seq(3 << 40), 9), Fate::In(vec![]));
    }

    /// LOG-8 (seed 5925): the lane ended before the records that the fence of a later opening found in it last, and before
    /// that fence. Where the last record is then was forgotten.
    #[test]
    fn a_lane_that_ends_before_a_fence_and_what_it_fenced_leaves_the_last_record_known() {
        let mut b = BatchBuilder::new();
        b.push(b"");
        let fence = b.finish(BatchKind::Fence, WriterId(1), Epoch(2), zoolog_core::batch::FENCE_SEQ);
        let mut w = writers();
        (0..4).for_each(|n| w.took(&batch(1, 1, (1 << 40) + n), n));
        w.took(&fence, 4);
        assert_eq!(w.last(WriterId(1), 5), Some((3, 1, None)));
        w.cut_off(2);
        assert_eq!(w.last(WriterId(1), 2), Some((1, 1, None)));
    }

    #[test]
    fn a_fence_or_a_later_opening_ends_the_earlier_one() {
        let mut w = writers();
        w.took(&batch(1, 1, 0), 0);
        let mut fence = BatchBuilder::new();
        fence.push(b"");
        let fence = fence.finish(BatchKind::Fence, WriterId(1), Epoch(1), Seq(1));
        assert_eq!(w.judge(&fence, Seq(0)), Judged::New);
        w.took(&fence, 1);
        assert_eq!(w.judge(&batch(1, 1, 2), Seq(0)), Judged::Refused(AppendRefusedWhy::Closed, Seq(2)));
        assert_eq!(w.judge(&batch(1, 1, 0), Seq(0)), Judged::Known(0, None));
        assert_eq!(w.judge(&batch(1, 2, 9), Seq(9)), Judged::New);
        w.took(&batch(1, 2, 9), 2);
        assert_eq!(w.judge(&batch(1, 1, 2), Seq(0)), Judged::Refused(AppendRefusedWhy::Closed, Seq(10)));
    }
}
