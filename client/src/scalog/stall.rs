//! Does something stand still that should move? Hints for people and for load shedding, never decisions.

use super::cx::Cx;
use crate::LogEvent;
use zoolog_core::Instant;

/// One thing that may stand still.
#[derive(Debug)]
pub(super) struct Stall {
    what: &'static str,
    told: bool,
}

impl Stall {
    pub fn new(what: &'static str) -> Self {
        Self { what, told: false }
    }

    /// It stands still since then, or doesn't.
    pub fn update(&mut self, cx: &mut Cx, since: Option<Instant>) {
        let stalled = since.is_some_and(|t| t + cx.cfg.stall_after <= cx.now);
        if stalled != self.told {
            self.told = stalled;
            let what = self.what;
            cx.event(if stalled { LogEvent::Stalled { what } } else { LogEvent::Resumed { what } });
        }
    }

    pub fn deadline(&self, cx: &Cx, since: Option<Instant>) -> Option<(Instant, &'static str)> {
        (!self.told).then(|| Some((since? + cx.cfg.stall_after, "something stands still")))?
    }
}
