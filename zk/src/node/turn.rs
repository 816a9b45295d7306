//! How long do the stages of one turn take? What a turn brings passes each stage together, so that a look at the
//! clock per stage, and per batch that is applied, measures it for all: the machine asks for the look
//! ([`Output::ReadClock`](zoolog_core::Output::ReadClock)) and gets what it says with the next call.

use super::status;
use zoolog_core::Instant;
use zoolog_core::stages::Stages;

/// One turn, from its first input until what it sends is offered to the sockets.
#[derive(Debug)]
pub(super) struct Turn {
    running: bool,
    /// Whether inputs came whose handling is measured, and has not been yet.
    reading: bool,
    began: Instant,
    /// When all its inputs were taken.
    read_at: Instant,
    /// When the stage before the current one ended.
    lap: Instant,
    requests: u64,
    /// Records applied since `lap`.
    applied: u64,
    answers: u64,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        let (running, reading) = (false, false);
        Self { running, reading, began: now, read_at: now, lap: now, requests: 0, applied: 0, answers: 0 }
    }

    /// An input comes. Returns whether it begins a turn.
    pub(super) fn input(&mut self, now: Instant) -> bool {
        if self.running {
            return false;
        }
        *self = Self { running: true, ..Self::new(now) };
        true
    }

    /// A frame came, which is a client's request (for a session, too), or not.
    pub(super) fn frame(&mut self, is_request: bool) {
        self.reading = true;
        self.requests += u64::from(is_request);
    }

    /// So many records were just applied.
    pub(super) fn applied(&mut self, records: u64) {
        self.applied += records;
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.answers += 1;
    }

    /// Whether a stage has just ended, which is measured once the clock is read.
    pub(super) fn wants_clock(&self) -> bool {
        self.reading || self.applied > 0
    }

    /// The clock was read.
    pub(super) fn lap(&mut self, now: Instant, stages: &mut Stages) {
        if std::mem::take(&mut self.reading) {
            stages.record(status::DECODE, now.since(self.began), self.requests);
            self.read_at = now;
        } else {
            let applied = std::mem::take(&mut self.applied);
            stages.record(status::APPLY, now.since(self.lap), applied);
        }
        self.lap = now;
    }

    /// Everything the turn wants has been said.
    pub(super) fn end(&mut self) {
        self.running = false;
    }

    /// What it sends was offered to the sockets, with so many records that were appended in it.
    pub(super) fn sent(&mut self, now: Instant, submitted: u64, stages: &mut Stages) {
        stages.record(status::SUBMIT, now.since(self.read_at), submitted);
        stages.record(status::REPLY, now.since(self.lap), std::mem::take(&mut self.answers));
    }
}
