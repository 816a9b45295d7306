//! What becomes of a trim that the owner asked for? One question at a time to the leader, asked again until somebody
//! answers: to trim twice is to trim once.

use super::cx::Cx;
use super::orderers::Orderers;
use crate::{LogEvent, RequestId, TrimError, Trimmed};
use std::collections::VecDeque;
use zoolog_core::wire::{Trim, TrimAnswer, TrimEnd};
use zoolog_core::{Gsn, Instant};

#[derive(Debug, Default)]
pub(super) struct Trims {
    /// Asked for, oldest first; the first is being asked if `running` says so.
    waiting: VecDeque<(RequestId, Gsn)>,
    /// Our question, and since when it is out.
    running: Option<(u64, Instant)>,
}

impl Trims {
    pub fn ask(&mut self, request: RequestId, gsn: Gsn) {
        self.waiting.push_back((request, gsn));
    }

    /// Asks what is to be asked next.
    pub fn flush(&mut self, cx: &mut Cx, orderers: &Orderers) {
        if self.running.is_some() || !orderers.following() {
            return;
        }
        let Some(&(_, gsn)) = self.waiting.front() else { return };
        let request = cx.request();
        self.running = Some((request, cx.now));
        orderers.send(cx, Trim { request, gsn });
    }

    /// An answer; one to an older question says nothing of this one.
    pub fn answer(&mut self, cx: &mut Cx, m: TrimAnswer) {
        if self.running.is_none_or(|(asked, _)| asked != m.request) {
            return;
        }
        self.running = None;
        let (request, _) = self.waiting.pop_front().expect("it was asked for");
        let result = match m.end {
            TrimEnd::Done => Ok(Trimmed { before: m.before, trim: m.trim }),
            TrimEnd::HeldBack(consumer, at) => Err(TrimError::HeldBack { consumer, at }),
            TrimEnd::BeyondTail(tail) => Err(TrimError::BeyondTail { tail }),
        };
        cx.event(LogEvent::TrimDone { request, result });
    }

    /// The leader is gone: the next one is asked.
    pub fn lost(&mut self) {
        self.running = None;
    }

    /// Asks again what was not answered for too long.
    pub fn tick(&mut self, cx: &Cx) {
        self.running.take_if(|(_, since)| *since + cx.cfg.request_timeout <= cx.now);
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        Some((self.running?.1 + cx.cfg.request_timeout, "a trim takes too long"))
    }
}
