//! Which commands are to be skipped? A skip stands in the log behind the command that it is about, so who has met such a
//! command, or is to write a skip, first looks through all that there is, and only then begins to apply.

use super::image::SKIPS_MAX;
use crate::{Committed, RequestId};
use std::collections::BTreeSet;
use zoolog_core::wire::ReadEnd;
use zoolog_core::{Gsn, Seq};

/// Bytes of records asked for at a time.
const READ_BYTES: usize = 1 << 20;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something comes.
    Wait,
    /// This range is to be read.
    Read(Gsn, Gsn, usize),
    /// The skip of this command is to be appended.
    Write(Gsn),
    /// All is known: what is skipped is in [`Lookahead::found`], and the log is applied from here on.
    Done(Gsn),
}

/// A search under way, which whoever applies the log gets on with before he does.
#[derive(Debug)]
pub struct Lookahead {
    from: Gsn,
    at: Gsn,
    /// How far it goes, once known.
    tail: Option<Gsn>,
    reading: Option<RequestId>,
    /// Skips that an operator wants, and that were not found yet.
    wanted: BTreeSet<Gsn>,
    /// The skip that is being appended.
    writing: Option<(Gsn, Seq)>,
    /// What is to be skipped, as far as known.
    pub found: BTreeSet<Gsn>,
}

impl Lookahead {
    /// From `at`, where the state stands. `wanted` are written if they aren't found.
    pub fn new(at: Gsn, found: BTreeSet<Gsn>, wanted: &BTreeSet<Gsn>) -> Self {
        // What is in the state already can't be skipped any more; it is for who loads it to see to that.
        let wanted = wanted.range(at..).copied().collect();
        Self { from: at, at, tail: None, reading: None, wanted, writing: None, found }
    }

    /// The log ends there.
    pub const fn ends_at(&mut self, tail: Gsn) {
        self.tail = Some(tail);
    }

    /// What [`Next::Read`] wanted was asked for.
    pub const fn asked(&mut self, request: RequestId) {
        self.reading = Some(request);
    }

    /// What [`Next::Write`] wanted is being appended, in that batch.
    pub const fn wrote(&mut self, skipped: Gsn, seq: Seq) {
        self.writing = Some((skipped, seq));
    }

    /// Part of the log, if it is what was asked for; `skips` says what a record has skipped, if it is of that kind.
    ///
    /// # Errors
    /// There are more skips than a node remembers.
    pub fn read(
        &mut self,
        request: RequestId,
        batches: &[Committed],
        (covers, end): (Gsn, ReadEnd),
        skips: impl Fn(&[u8]) -> Option<Gsn>,
    ) -> Result<(), String> {
        if self.reading != Some(request) {
            return Ok(());
        }
        self.reading = None;
        for (gsn, _, record) in batches.iter().flat_map(Committed::records) {
            if let Some(skipped) = skips(&record)
                && skipped < gsn
            {
                self.found.insert(skipped);
                self.wanted.remove(&skipped);
            }
        }
        self.at = self.at.max(covers);
        // A log that ends early was asked while it had another leader: there is no more of it than that.
        if end == ReadEnd::NotYet {
            self.tail = self.tail.map(|tail| tail.min(self.at));
        }
        if self.found.len() > SKIPS_MAX {
            return Err(format!("there are more than {SKIPS_MAX} skips in the log: restore an older state"));
        }
        Ok(())
    }

    /// A batch of ours is in the log for good.
    pub fn appended(&mut self, seq: Seq) {
        if let Some((skipped, _)) = self.writing.filter(|(_, written)| *written == seq) {
            self.writing = None;
            self.wanted.remove(&skipped);
            self.found.insert(skipped);
        }
    }

    /// What is to be done.
    pub fn next(&self) -> Next {
        match self.tail {
            None => Next::Wait,
            Some(_) if self.reading.is_some() || self.writing.is_some() => Next::Wait,
            Some(tail) if self.at < tail => Next::Read(self.at, tail, READ_BYTES),
            // What isn't in the log yet can't be skipped: nobody knows what it will be.
            Some(tail) => {
                self.wanted.range(..tail).next().map_or(Next::Done(self.from), |gsn| Next::Write(*gsn))
            }
        }
    }
}
