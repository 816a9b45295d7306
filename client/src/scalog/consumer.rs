//! What does our owner still need? As a named consumer we hold the log's trim point back at the position that the
//! owner last released, which the ordering layer remembers for us.

use super::cx::Cx;
use std::time::Duration;
use zoolog_core::wire::{Consumer, ConsumerIs};
use zoolog_core::{Gsn, Instant};

/// Positions are reported at least this far apart, and one at a time.
const EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Position {
    /// First position that the owner needs.
    upto: Gsn,
    /// As the ordering layer last said; `None` before it did.
    known: Option<Gsn>,
    /// The question that waits for an answer.
    asked: Option<u64>,
    not_before: Instant,
}

impl Position {
    pub fn new(now: Instant) -> Self {
        Self { upto: Gsn(0), known: None, asked: None, not_before: now }
    }

    pub fn released(&self) -> Gsn {
        self.upto
    }

    pub fn release(&mut self, upto: Gsn) {
        self.upto = self.upto.max(upto);
    }

    /// What an orderer is told before it is asked anything else; nothing without a name.
    pub fn registration(&mut self, cx: &mut Cx) -> Option<Consumer> {
        let name = cx.cfg.consumer.clone()?;
        let request = cx.request();
        (self.asked, self.not_before) = (Some(request), cx.now + EVERY);
        Some(Consumer { request, name, upto: self.upto })
    }

    /// The next report, if one is due.
    pub fn report(&mut self, cx: &mut Cx) -> Option<Consumer> {
        let due = self.wanted(cx) && self.not_before <= cx.now;
        if due { self.registration(cx) } else { None }
    }

    fn wanted(&self, cx: &Cx) -> bool {
        let news = self.known.is_none_or(|known| known < self.upto);
        cx.cfg.consumer.is_some() && self.asked.is_none() && news
    }

    /// Whether the ordering layer knows what was last released.
    pub fn is_known(&self) -> bool {
        self.known.is_some_and(|known| known >= self.upto)
    }

    /// Whether this answers our question, and we are registered.
    pub fn answer(&mut self, m: &ConsumerIs) -> bool {
        if self.asked != Some(m.request) {
            return false;
        }
        (self.asked, self.known) = (None, m.upto);
        if m.upto.is_none() {
            tracing::warn!("this consumer was forgotten by the ordering layer, registering anew");
        }
        m.upto.is_some()
    }

    /// The orderer is gone, and what it was asked with it.
    pub fn lost(&mut self) {
        self.asked = None;
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        self.wanted(cx).then_some((self.not_before, "report what is still needed"))
    }
}
