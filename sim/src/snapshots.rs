//! What becomes of a node's snapshot files? They have their names once their last piece is answered; a crash
//! before that loses them, leaves them whole or leaves them torn. Of another node's, what was synced stays to be gone on with; what
//! was not may be anything.

use crate::disk::CLUSTER;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::Gsn;
use zoolog_core::rng::Rng;
use zoolog_core::snapshot::Unframer;
use zoolog_core::wire::SnapshotAt;
use zoolog_zk::bootstrap::Begun;
use zoolog_zk::snapshot::{Beware, Loader, Restored};

/// Files kept beside the newest.
const OLDER_KEPT: usize = 2;
/// Bytes of another node's snapshot after which its file is synced.
const SYNC_BYTES: usize = 1200;

/// Snapshot files of one node; they survive its crashes.
#[derive(Debug, Default)]
pub struct Snapshots {
    files: BTreeMap<Gsn, Vec<u8>>,
    /// Those that were answered: they must be good for ever.
    good: BTreeSet<Gsn>,
    /// Position, bytes so far, whether all of it.
    writing: Option<(Gsn, Vec<u8>, bool)>,
    /// Another node's that is being written, or is there from an earlier life: which, bytes so far, whether all of it.
    part: Option<(SnapshotAt, Vec<u8>, bool)>,
    /// With what the last life ended.
    beware: Beware,
    /// Where the newest was that was ever answered, even if it is lost.
    newest_ever: Gsn,
}

impl Snapshots {
    /// A piece is written.
    pub fn write(&mut self, gsn: Gsn, bytes: &Bytes, last: bool) {
        let (of, file, complete) = self.writing.get_or_insert_with(|| (gsn, Vec::new(), false));
        assert_eq!((*of, *complete), (gsn, false), "one piece of one snapshot at a time");
        file.extend_from_slice(bytes);
        *complete = last;
    }

    /// A piece of another node's is written.
    pub fn write_part(&mut self, of: SnapshotAt, from: u64, bytes: &Bytes, last: bool) {
        // Whatever else was begun is left.
        self.writing = None;
        if from == 0 {
            self.part = Some((of, Vec::new(), false));
        }
        let (which, file, complete) = self.part.as_mut().expect("its beginning is there");
        assert_eq!((*which, file.len() as u64, *complete), (of, from, false), "it goes on where it was");
        file.extend_from_slice(bytes);
        *complete = last;
    }

    /// A piece of another node's is answered.
    pub fn part_answered(&mut self, ok: bool) {
        match self.part.take() {
            Some((of, file, true)) if ok => {
                self.writing = Some((of.gsn, file, true));
                self.answered(true);
            }
            part => self.part = part.filter(|_| ok),
        }
    }

    /// How much of another node's is there.
    pub fn part_bytes(&self) -> usize {
        self.part.as_ref().map_or(0, |(_, file, _)| file.len())
    }

    /// Whether a piece of another node's is what was given last.
    pub const fn is_part(&self) -> bool {
        self.writing.is_none() && self.part.is_some()
    }

    /// A piece is answered: after the last the file has its name for good.
    pub fn answered(&mut self, ok: bool) {
        // Unless it was dropped meanwhile.
        let Some((gsn, file, complete)) = self.writing.take() else { return };
        if ok && complete {
            self.files.insert(gsn, file);
            self.good.insert(gsn);
            self.newest_ever = self.newest_ever.max(gsn);
            let older: Vec<Gsn> = self.files.range(..gsn).rev().map(|f| *f.0).skip(OLDER_KEPT).collect();
            for gsn in older {
                self.files.remove(&gsn);
                self.good.remove(&gsn);
            }
        } else if ok {
            self.writing = Some((gsn, file, false));
        }
    }

    /// The power goes.
    pub fn crash(&mut self, rng: &mut Rng) {
        if let Some((of, mut file, _)) = self.part.take() {
            // The last sync may not have been one.
            let whole = file.len().min(of.bytes as usize - 1) / SYNC_BYTES * SYNC_BYTES;
            file.truncate(whole);
            if whole > 0 && rng.chance(20) {
                file[whole - 1 - rng.below(SYNC_BYTES as u64) as usize] ^= 1 << rng.below(8);
            }
            self.part = Some((of, file, false)).filter(|_| whole > 0);
        }
        if let Some((gsn, mut file, true)) = self.writing.take() {
            match rng.below(3) {
                0 => return,
                1 => file.truncate(rng.below(file.len() as u64) as usize),
                _ => {}
            }
            self.files.insert(gsn, file);
        }
    }

    /// All files are lost.
    pub fn wipe(&mut self) {
        *self = Self { newest_ever: self.newest_ever, ..Self::default() };
    }

    /// Up to where, by what this node said, the log may be trimmed: it said no more.
    pub const fn newest_ever(&self) -> Gsn {
        self.newest_ever
    }

    /// What is unfinished goes, and everything else, if so.
    pub fn drop_files(&mut self, finished: bool) {
        (self.writing, self.part) = (None, None);
        if finished {
            self.files.clear();
            self.good.clear();
        }
    }

    /// The file that can be given to others: that one, if it is there, or the newest that is whole.
    pub fn find(&self, like: Option<SnapshotAt>) -> Option<SnapshotAt> {
        let about = |gsn: &Gsn, file: &Vec<u8>| SnapshotAt {
            gsn: *gsn,
            bytes: file.len() as u64,
            crc: crc32c::crc32c(file),
        };
        let whole = |file: &Vec<u8>| {
            let mut frame = Unframer::new(CLUSTER);
            frame.push(file, |_, _| Ok(())).is_ok() && frame.finish().is_ok()
        };
        let named = like.filter(|at| self.files.get(&at.gsn).is_some_and(|f| about(&at.gsn, f) == *at));
        named.or_else(|| self.files.iter().rev().find(|f| whole(f.1)).map(|(gsn, f)| about(gsn, f)))
    }

    /// A piece of that file; `None` if it is not there any more.
    pub fn piece(&self, of: SnapshotAt, from: u64, bytes: u32) -> Option<Vec<u8>> {
        let file = self.files.get(&of.gsn).filter(|f| f.len() as u64 == of.bytes)?;
        Some(file[from as usize..][..bytes as usize].to_vec())
    }

    /// A life ends with this.
    pub fn beware(&mut self, beware: Beware) {
        self.beware = self.beware.and(beware);
    }

    /// The newest file that was answered as saved.
    pub fn newest_good(&self) -> Option<(Gsn, Vec<u8>)> {
        let gsn = *self.good.last()?;
        Some((gsn, self.files.get(&gsn)?.clone()))
    }

    /// The files, for scenarios that damage them.
    pub fn files_mut(&mut self) -> &mut BTreeMap<Gsn, Vec<u8>> {
        &mut self.files
    }

    /// What there is of another node's snapshot; what is of no use goes.
    fn begun(&mut self, applied: Gsn) -> Option<Begun> {
        let (of, file, _) = self.part.take().filter(|(of, _, _)| of.gsn > applied)?;
        let mut begun = Begun::new(of, CLUSTER);
        file.chunks(1000).try_for_each(|chunk| begun.push(chunk)).ok()?;
        self.part = Some((of, file, false));
        Some(begun)
    }

    /// What a node that starts finds: the newest good one, and where the next older good one is.
    ///
    /// # Errors
    /// When one that was answered can't be loaded.
    pub fn restore(&mut self) -> Result<Restored, String> {
        let mut found: Option<Restored> = None;
        let (beware, mut aside) = (self.beware, Vec::new());
        for (gsn, bytes) in self.files.iter().rev() {
            let mut loader = Loader::new(CLUSTER);
            let pushed = bytes.chunks(1000).try_for_each(|chunk| loader.push(chunk));
            let state = match pushed.and_then(|()| loader.finish()) {
                Ok(state) => state,
                Err(why) if self.good.contains(gsn) => return Err(format!("the snapshot at {gsn}: {why}")),
                Err(_) => continue,
            };
            if state.applied() != *gsn || state.hash() != state.hash_from_scratch() {
                return Err(format!("the snapshot at {gsn} gave {} with a wrong hash", state.applied()));
            }
            if !beware.permits(*gsn, |gsn| state.has_skipped(gsn)) {
                aside.push(*gsn);
                continue;
            }
            match &mut found {
                None => found = Some(Restored::from_snapshot(state, None)),
                Some(restored) => {
                    restored.second_newest = Some(*gsn);
                    break;
                }
            }
        }
        for gsn in aside {
            self.files.remove(&gsn);
            self.good.remove(&gsn);
        }
        let mut restored = found.unwrap_or_default();
        restored.begun = self.begun(restored.state.applied());
        restored.look_ahead = beware.command.is_some();
        self.beware = beware.left(restored.second_newest);
        Ok(restored)
    }
}
