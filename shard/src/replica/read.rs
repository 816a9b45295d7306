//! Which of the shard's records lie in a range of GSNs? From whatever replica has them and their cut.

use super::Replica;
use crate::effects::{Effects, encode_batches};
use crate::loads::{Piece, Purpose};
use bytes::Bytes;
use zoolog_core::Gsn;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Read, ReadEnd, ReadIs};

impl Replica {
    /// Starts to answer a read: its job comes to [`Effects::done`], perhaps at once. Returns whether it asks for
    /// what is not ordered yet, as far as is known here.
    pub fn read(&self, fx: &mut Effects, conn: ConnId, m: &Read) -> bool {
        let (answer, pieces) = self.plan(m);
        let ahead = answer.end == ReadEnd::NotYet;
        fx.load(Purpose::Read { conn, answer }, pieces);
        ahead
    }

    fn plan(&self, m: &Read) -> (ReadIs, Vec<Piece>) {
        let mut answer = unavailable(m);
        if m.from > m.to || m.max_bytes == 0 {
            answer.end = ReadEnd::Invalid;
            return (answer, Vec::new());
        }
        if m.from < self.trim {
            (answer.end, answer.covers) = (ReadEnd::Trimmed, self.trim);
            return (answer, Vec::new());
        }
        if !self.is_sound() {
            return (answer, Vec::new());
        }
        // A finalized shard has nothing beyond what is known of it.
        let upto = if self.is_complete() { m.to } else { m.to.min(self.known) };
        answer.covers = upto.max(m.from);
        answer.end = if answer.covers >= m.to { ReadEnd::Complete } else { ReadEnd::NotYet };
        let bytes_max = self.bounds.read_bytes.min(m.max_bytes as usize);
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        for part in self.history.part_from(m.from)..self.history.parts().len() {
            for run in self.history.runs(self.shard, part) {
                let end = run.first_gsn.plus(run.count);
                if end <= m.from {
                    continue;
                }
                let (mut gsn, end) = (run.first_gsn.max(m.from), end.min(upto));
                while gsn < end {
                    let lsn = run.first_lsn.0 + gsn.since(run.first_gsn);
                    let found = self.lanes[usize::from(run.lane.index())].find(lsn);
                    let Some(found) = found.filter(|f| f.first_lsn >= run.first_lsn.0) else {
                        // Lost here. What comes before it can still be served.
                        return if pieces.is_empty() {
                            (unavailable(m), pieces)
                        } else {
                            (cut_short(answer, gsn), pieces)
                        };
                    };
                    let (first, behind) = (
                        run.first_gsn.plus(found.first_lsn - run.first_lsn.0),
                        run.first_gsn.plus(found.end - run.first_lsn.0),
                    );
                    if m.begun_within && first < m.from {
                        gsn = behind;
                        continue;
                    }
                    let is_full = pieces.len() >= self.bounds.read_batches || bytes + found.bytes > bytes_max;
                    if is_full && !pieces.is_empty() {
                        return (cut_short(answer, gsn), pieces);
                    }
                    bytes += found.bytes;
                    answer.gsns.push(first);
                    pieces.push(found.piece);
                    gsn = behind;
                }
            }
            if self.history.parts()[part].base >= upto {
                break;
            }
        }
        (answer, pieces)
    }
}

fn cut_short(mut answer: ReadIs, covers: Gsn) -> ReadIs {
    (answer.covers, answer.end) = (covers, ReadEnd::More);
    answer
}

/// The answer that says to ask elsewhere.
pub(crate) fn unavailable(m: &Read) -> ReadIs {
    let end = ReadEnd::Unavailable;
    ReadIs { request: m.request, shard: m.shard, from: m.from, covers: m.from, end, gsns: Vec::new() }
}

/// The frame of an answer, once its batches are there; damaged ones are never served.
pub(crate) fn answer(mut answer: ReadIs, result: Result<Vec<PlacedBatch>, String>) -> Bytes {
    let batches = result.unwrap_or_else(|why| {
        tracing::warn!(shard = %answer.shard, from = %answer.from, %why, "a read met damage");
        (answer.end, answer.covers) = (ReadEnd::Unavailable, answer.from);
        answer.gsns.clear();
        Vec::new()
    });
    encode_batches(answer, &batches.iter().collect::<Vec<_>>())
}
