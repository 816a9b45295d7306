//! How long do the stages of one turn take? What a turn brings passes each stage together, so that a look at the
//! clock per stage, and per batch that is applied, measures it for all: the machine asks for the look
//! ([`Output::ReadClock`](zoolog_core::Output::ReadClock)) and gets what it says with the next call.

use super::status;
use std::time::Duration;
use zoolog_core::Instant;
use zoolog_core::stages::Stages;

/// How long a turn may be before what the log delivers waits for the next one, in which those come first who asked
/// meanwhile. One batch is applied in every turn, however long that takes.
const TURN_MAX: Duration = Duration::from_millis(2);

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
    /// Whether it has applied any.
    has_applied: bool,
    answers: u64,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            running: false,
            reading: false,
            began: now,
            read_at: now,
            lap: now,
            requests: 0,
            applied: 0,
            has_applied: false,
            answers: 0,
        }
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
        self.has_applied = true;
    }

    /// Whether what else was delivered is to wait for the next turn.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        self.has_applied && now.since(self.began) >= TURN_MAX
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
