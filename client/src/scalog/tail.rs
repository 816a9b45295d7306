//! Where does the order end now? Shares questions between callers: a round asked before a call can't
//! answer it, so at most one is running and one waiting.

use super::cx::Cx;
use super::orderers::Orderers;
use crate::{LogEvent, RequestId};
use zoolog_core::wire::{Tail, TailIs};
use zoolog_core::{Gsn, Instant};

#[derive(Debug)]
struct Round {
    request: u64,
    since: Instant,
    callers: Vec<RequestId>,
}

#[derive(Debug, Default)]
pub(super) struct Tails {
    running: Option<Round>,
    waiting: Vec<RequestId>,
    /// A round is wanted though nobody waits for it: to see whether the leader is alive.
    probe: bool,
}

impl Tails {
    pub fn ask(&mut self, caller: RequestId) {
        self.waiting.push(caller);
    }

    pub fn probe(&mut self) {
        self.probe = self.running.is_none();
    }

    pub fn probing(&self) -> bool {
        self.probe || self.running.is_some()
    }

    /// The log has ended there: that is all that there is to say, to whoever asks.
    pub fn ended(&mut self, cx: &mut Cx, answers: u64, tail: Gsn) {
        // Also to those whose round is under way: its answer will say the same.
        let asked = self.running.as_mut().map(|round| std::mem::take(&mut round.callers));
        self.running.take_if(|round| round.request == answers);
        let callers = asked.into_iter().flatten();
        for request in callers.chain(std::mem::take(&mut self.waiting)) {
            cx.event(LogEvent::Tail { request, gsn: tail });
        }
        cx.tail_seen = cx.tail_seen.max(tail);
    }

    /// Starts the next round if one is due.
    pub fn flush(&mut self, cx: &mut Cx, orderers: &Orderers) {
        let wanted = self.probe || !self.waiting.is_empty();
        if !wanted || self.running.is_some() || !orderers.following() {
            return;
        }
        let request = cx.request();
        self.running = Some(Round { request, since: cx.now, callers: std::mem::take(&mut self.waiting) });
        self.probe = false;
        orderers.send(cx, Tail { request });
    }

    /// An answer. One that was not asked for, or no longer, is of no use.
    pub fn answer(&mut self, cx: &mut Cx, answer: &TailIs) {
        match self.running.take() {
            Some(round) if round.request == answer.request => {
                for request in round.callers {
                    cx.event(LogEvent::Tail { request, gsn: answer.gsn });
                }
                cx.tail_seen = cx.tail_seen.max(answer.gsn);
            }
            other => self.running = other,
        }
    }

    /// The leader is gone: a later round serves its callers as well.
    pub fn lost(&mut self) {
        if let Some(mut round) = self.running.take() {
            round.callers.append(&mut self.waiting);
            self.waiting = round.callers;
        }
        self.probe = false;
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        Some((self.running.as_ref()?.since + cx.cfg.request_timeout, "a tail round takes too long"))
    }
}
