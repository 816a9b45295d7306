//! How does somebody come through the log? Batch by batch in order: those that are not in memory are read back from the
//! disk, several ahead.

use super::index::{Entry, Index, check};
use bytes::Bytes;
use std::collections::VecDeque;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::wal::WalPos;
use zoolog_core::{Gsn, Token};

/// One batch on the way.
#[derive(Debug)]
struct Ahead {
    entry: Entry,
    what: What,
}

#[derive(Debug)]
enum What {
    Here(PlacedBatch),
    Asked(Token),
    /// It could not be read.
    Failed,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// This batch, the first of whose records is at this position.
    Batch(Gsn, PlacedBatch),
    /// Nothing yet.
    Wait,
    /// It can't be read now.
    Unreadable,
}

/// A way through the log from a position on.
#[derive(Debug)]
pub(super) struct Cursor {
    /// First position that was not handed out.
    pub next: Gsn,
    ahead: VecDeque<Ahead>,
    /// Bytes of `ahead`, as far as known before they are read.
    bytes: usize,
}

impl Cursor {
    pub fn new(next: Gsn) -> Self {
        Self { next, ahead: VecDeque::new(), bytes: 0 }
    }

    /// Looks ahead up to `to`, as far as that is durable, by so many bytes; `load` asks for a record.
    pub fn fill(&mut self, index: &Index, to: Gsn, bytes: usize, mut load: impl FnMut(WalPos) -> Token) {
        loop {
            let from = self.ahead.back().map_or(self.next, |a| a.entry.end());
            if from >= to || (self.bytes >= bytes && !self.ahead.is_empty()) {
                return;
            }
            let Some((entry, cached)) = index.find(from) else { return };
            let pos = entry.pos.expect("a durable batch lies somewhere");
            let what = match cached {
                Some(placed) => What::Here(placed.clone()),
                None => What::Asked(load(pos)),
            };
            self.bytes += pos.len as usize;
            self.ahead.push_back(Ahead { entry, what });
        }
    }

    /// Whether it waits for that answer.
    pub fn awaits(&self, token: Token) -> bool {
        self.ahead.iter().any(|a| matches!(a.what, What::Asked(t) if t == token))
    }

    /// The answer to what it asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn loaded(&mut self, token: Token, result: Result<Bytes, String>) -> Result<(), String> {
        let asked = |a: &&mut Ahead| matches!(a.what, What::Asked(t) if t == token);
        let ahead = self.ahead.iter_mut().find(asked).expect("callers ask whether it waits");
        let placed = result.and_then(|mut bytes| check(&mut bytes, ahead.entry.first));
        let (what, result) = match placed {
            Ok(placed) => (What::Here(placed), Ok(())),
            Err(why) => (What::Failed, Err(why)),
        };
        ahead.what = what;
        result
    }

    /// Takes the next batch.
    pub fn take(&mut self) -> Next {
        match self.ahead.front().map(|a| &a.what) {
            None | Some(What::Asked(_)) => Next::Wait,
            Some(What::Failed) => Next::Unreadable,
            Some(What::Here(_)) => {
                let Some(Ahead { entry, what: What::Here(placed) }) = self.ahead.pop_front() else {
                    unreachable!("it was just there");
                };
                self.bytes -= entry.pos.map_or(0, |p| p.len as usize);
                self.next = entry.end();
                Next::Batch(entry.first, placed)
            }
        }
    }

    /// Asks anew for what could not be read.
    pub fn retry(&mut self) {
        if let Some(failed) = self.ahead.iter().position(|a| matches!(a.what, What::Failed)) {
            for gone in self.ahead.drain(failed..) {
                self.bytes -= gone.entry.pos.map_or(0, |p| p.len as usize);
            }
        }
    }
}
