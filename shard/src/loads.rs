//! What is being read back from the log, and for whom? A job collects batches, some at hand, some to be
//! loaded, and is done when all are there or one can't be had.

use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::{ConnId, Token};
use zoolog_core::wal::WalPos;
use zoolog_core::wire::{BatchesAre, FetchLane, ReadIs};
use zoolog_core::{LaneId, Lsn, ShardId};

/// A batch, or where it lies.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// In memory.
    Ready(PlacedBatch),
    /// In the log.
    At {
        /// Its lane.
        lane: LaneId,
        /// Its first LSN.
        first_lsn: Lsn,
        /// Where.
        pos: WalPos,
    },
}

impl Piece {
    /// The batch, if it is in memory.
    pub fn ready(&self) -> Option<&PlacedBatch> {
        match self {
            Self::Ready(b) => Some(b),
            Self::At { .. } => None,
        }
    }
}

/// A range of a lane on its way to somebody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// First LSN.
    pub from: u64,
    /// First LSN behind it.
    pub to: u64,
}

/// For whom a job is.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// For a backup that is behind.
    CatchUp {
        /// The shard.
        shard: ShardId,
        /// Index of the backup.
        backup: u8,
        /// The stream to it.
        stream: u64,
        /// What.
        stretch: Stretch,
    },
    /// For a primary that adopts what we hold.
    Fetch {
        /// Where to answer.
        conn: ConnId,
        /// The question.
        question: FetchLane,
    },
    /// For a replica that lost what we hold.
    Lend {
        /// Where to answer.
        conn: ConnId,
        /// The answer but for its payload.
        answer: BatchesAre,
    },
    /// For ourselves: the neighbours of lost batches, to compare copies with.
    Mend {
        /// The lane.
        lane: LaneId,
        /// The copies.
        batches: Vec<PlacedBatch>,
        /// Whether the batch before them is read, and the one behind.
        sides: (bool, bool),
    },
    /// For nobody: whether they can be read.
    Scrub,
    /// For a subscriber.
    Push {
        /// Who.
        conn: ConnId,
        /// The lane.
        lane: LaneId,
        /// Of its subscription.
        generation: u64,
    },
    /// For a reader; the answer but for its payload.
    Read {
        /// Who.
        conn: ConnId,
        /// What will be answered.
        answer: ReadIs,
    },
}

/// A finished job.
#[derive(Debug)]
pub(crate) struct Done {
    /// For whom.
    pub purpose: Purpose,
    /// The batches, in order, each checked; or why one can't be had.
    pub result: Result<Vec<PlacedBatch>, String>,
}

#[derive(Debug)]
struct Job {
    purpose: Purpose,
    batches: Vec<Option<PlacedBatch>>,
    missing: usize,
    failed: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Loading {
    job: u64,
    at: usize,
    lane: LaneId,
    first_lsn: Lsn,
    pos: WalPos,
}

/// A durable copy that could not be read.
#[derive(Clone, Debug)]
pub(crate) struct Rot {
    /// The lane.
    pub lane: LaneId,
    /// First LSN of the batch.
    pub first_lsn: Lsn,
    /// Where it lies.
    pub pos: WalPos,
    /// What is wrong.
    pub why: String,
}

/// All jobs in progress.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    jobs: BTreeMap<u64, Job>,
    loading: BTreeMap<Token, Loading>,
    started: u64,
}

impl Loads {
    /// Starts a job. `load` asks for a record and gives the token of that request. Returns the job at once
    /// if nothing has to be loaded.
    pub fn start(
        &mut self,
        purpose: Purpose,
        pieces: Vec<Piece>,
        mut load: impl FnMut(WalPos) -> Token,
    ) -> Option<Done> {
        let job = self.started;
        self.started += 1;
        let (mut batches, mut missing) = (Vec::with_capacity(pieces.len()), 0);
        for (at, piece) in pieces.into_iter().enumerate() {
            batches.push(match piece {
                Piece::Ready(b) => Some(b),
                Piece::At { lane, first_lsn, pos } => {
                    let loading = Loading { job, at, lane, first_lsn, pos };
                    let old = self.loading.insert(load(pos), loading);
                    assert!(old.is_none(), "a load's token was used twice: {old:?}");
                    missing += 1;
                    None
                }
            });
        }
        let job_state = Job { purpose, batches, missing, failed: None };
        if missing == 0 {
            return Some(job_state.finish());
        }
        self.jobs.insert(job, job_state);
        None
    }

    /// Takes a loaded record; the job, if that was its last, and what could not be read.
    pub fn loaded(&mut self, token: Token, result: Result<Bytes, String>) -> (Option<Done>, Option<Rot>) {
        let l = self.loading.remove(&token).unwrap_or_else(|| panic!("{token:?} was loaded, nobody asked"));
        let job = self.jobs.get_mut(&l.job).expect("a job lives until its last load");
        let rot = match result.and_then(|bytes| check(bytes, l.lane, l.first_lsn)) {
            Ok(batch) => {
                job.batches[l.at] = Some(batch);
                None
            }
            Err(why) => {
                job.failed = Some(why.clone());
                Some(Rot { lane: l.lane, first_lsn: l.first_lsn, pos: l.pos, why })
            }
        };
        job.missing -= 1;
        let done = if job.missing > 0 { None } else { self.jobs.remove(&l.job).map(Job::finish) };
        (done, rot)
    }

    /// The oldest segment that is being read.
    pub fn oldest_segment(&self) -> Option<u32> {
        self.loading.values().map(|l| l.pos.segment).min()
    }

    /// Jobs in progress.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

impl Job {
    fn finish(self) -> Done {
        let result = match self.failed {
            Some(why) => Err(why),
            None => Ok(self.batches.into_iter().map(|b| b.expect("none is missing")).collect()),
        };
        Done { purpose: self.purpose, result }
    }
}

/// Invariant LOG-4: what is read back is the batch that was asked for, whole and in its place.
fn check(mut bytes: Bytes, lane: LaneId, first_lsn: Lsn) -> Result<PlacedBatch, String> {
    let placed =
        PlacedBatch::check_next(&mut bytes).map_err(|e| format!("lane {lane} at {first_lsn}: {e}"))?;
    let p = &placed.placement;
    if !bytes.is_empty() || p.lane != lane || p.first_lsn != first_lsn {
        return Err(format!(
            "wanted lane {lane} at {first_lsn}, the log has lane {} at {}, and {} bytes more",
            p.lane,
            p.first_lsn,
            bytes.len()
        ));
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::batch::{BatchBuilder, BatchKind};
    use zoolog_core::{Epoch, Incarnation, Seq, WriterId};

    fn placed(lane: LaneId, lsn: u64) -> PlacedBatch {
        let mut b = BatchBuilder::new();
        b.push(b"x");
        let batch = b.finish(BatchKind::Data, WriterId(1), Epoch(0), Seq(0));
        PlacedBatch::place(lane, Incarnation(1), Lsn(lsn), 0, batch)
    }

    fn bytes(p: &PlacedBatch) -> Bytes {
        let mut out = Vec::new();
        p.encode(&mut out);
        Bytes::from(out)
    }

    /// Loads that complete in any order give the batches in theirs (shared-log defect 4: readers sharing
    /// buffers got each other's records), and a wrong or failed one fails the whole job.
    #[test]
    fn a_job_is_done_when_all_is_there_and_right() {
        let lane = LaneId::new(ShardId(1), 0);
        let pos = |offset| WalPos { segment: 1, offset, len: 88 };
        let purpose = || Purpose::Push { conn: ConnId(1), lane, generation: 0 };
        let all: Vec<_> = (0..3).map(|i| placed(lane, i)).collect();
        let at = |i: u64| Piece::At { lane, first_lsn: Lsn(i), pos: pos(i as u32) };
        for wrong in [None, Some(2), Some(0)] {
            let mut loads = Loads::default();
            let pieces = vec![at(0), Piece::Ready(all[1].clone()), at(2)];
            assert!(loads.start(purpose(), pieces, |p| Token(u64::from(p.offset))).is_none());
            let give = |i: usize| if wrong == Some(i) { bytes(&all[1]) } else { bytes(&all[i]) };
            assert!(loads.loaded(Token(2), Ok(give(2))).0.is_none());
            let (done, rot) = loads.loaded(Token(0), Ok(give(0)));
            let done = done.expect("that was the last");
            assert_eq!(rot.map(|r| r.first_lsn), (wrong == Some(0)).then_some(Lsn(0)));
            match wrong {
                None => assert_eq!(done.result.unwrap(), all),
                Some(_) => assert!(done.result.unwrap_err().contains("wanted lane 1/0")),
            }
            assert_eq!(loads.len(), 0);
        }
        let mut loads = Loads::default();
        assert!(loads.start(purpose(), vec![at(0)], |_| Token(9)).is_none());
        assert_eq!(loads.loaded(Token(9), Err("rot".into())).0.unwrap().result.unwrap_err(), "rot");
        let done = loads
            .start(purpose(), vec![Piece::Ready(all[0].clone())], |_| Token(1))
            .expect("nothing to load");
        assert_eq!(done.result.unwrap(), all[..1]);
    }
}
