//! How does a writer come to its name? The ordering layer gives it the next opening; it fences the lane of the one before;
//! and it claims each lane before it uses it. So an earlier opening, wherever it lingers, appends nothing more: its lane
//! is closed, and it gets no other.

use super::cx::Cx;
use super::leaving::Leaving;
use super::orderers::Orderers;
use zoolog_core::view::View;
use zoolog_core::wire::{ClaimLane, OpenWriter, ResolveEnd, Resolved};
use zoolog_core::{Epoch, Gsn, Instant, LaneId};

/// How far it is.
#[derive(Debug)]
enum Phase {
    /// To be opened.
    Opening,
    /// The lane of the opening before is to be closed.
    Fencing(LaneId, Leaving),
    /// Opened; the lane chosen, if one is, is not ours yet.
    Claiming,
    /// The lane is ours.
    Claimed,
}

/// The way of a writer to its name and its lanes.
#[derive(Debug)]
pub(super) struct Naming {
    name: String,
    phase: Phase,
    pub epoch: Epoch,
    /// One past the last record of the name, if that is known.
    pub tail: Option<Gsn>,
    /// The question that waits for an answer.
    asked: Option<u64>,
}

impl Naming {
    pub fn new(name: String) -> Self {
        Self { name, phase: Phase::Opening, epoch: Epoch(0), tail: None, asked: None }
    }

    /// Whether the writer has its number and may close batches.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Claiming | Phase::Claimed)
    }

    /// Whether the lane is ours.
    pub fn has_lane(&self) -> bool {
        matches!(self.phase, Phase::Claimed)
    }

    /// Another lane was chosen.
    pub fn claim(&mut self) {
        assert!(self.is_open(), "a lane is chosen by a writer that is not open");
        (self.phase, self.asked) = (Phase::Claiming, None);
    }

    /// Asks what is to be asked of the ordering layer, once.
    pub fn ask(&mut self, cx: &mut Cx, orderers: &Orderers, lane: Option<LaneId>, end: Gsn) {
        if self.asked.is_some() || !orderers.following() {
            return;
        }
        match (&self.phase, lane) {
            (Phase::Opening, _) => {
                let request = cx.request();
                self.asked = Some(request);
                orderers.send(cx, OpenWriter { request, name: self.name.clone() });
            }
            (Phase::Claiming, Some(lane)) => {
                let request = cx.request();
                self.asked = Some(request);
                let (name, epoch) = (self.name.clone(), self.epoch);
                let tail = end.max(self.tail.unwrap_or_default());
                orderers.send(cx, ClaimLane { request, name, epoch, lane, tail });
            }
            _ => {}
        }
    }

    /// Whether that is the number of our question; it is answered then.
    pub fn answered(&mut self, request: u64) -> bool {
        let ours = self.asked == Some(request);
        self.asked.take_if(|_| ours);
        ours
    }

    /// Whether an opening, rather than a lane, was asked for.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening)
    }

    /// The opening is ours: what the one before used is to be fenced. Whether that is to be waited for.
    pub fn opened(&mut self, cx: &Cx, view: &View, epoch: Epoch, before: Option<LaneId>, tail: Gsn) -> bool {
        (self.epoch, self.tail) = (epoch, Some(tail));
        match before {
            Some(lane) if view.shard(lane.shard()).is_some() => {
                self.phase = Phase::Fencing(lane, Leaving::new(cx.now, Epoch(epoch.0 - 1), true));
                true
            }
            other => {
                if other.is_some() {
                    // All of that lane is trimmed: where it ended isn't known.
                    self.tail = None;
                }
                self.phase = Phase::Claiming;
                false
            }
        }
    }

    /// The lane is ours.
    pub fn claimed(&mut self) {
        self.phase = Phase::Claimed;
    }

    /// What is being fenced.
    pub fn fencing(&mut self) -> Option<(LaneId, &mut Leaving)> {
        match &mut self.phase {
            Phase::Fencing(lane, leaving) => Some((*lane, leaving)),
            _ => None,
        }
    }

    /// An answer about the lane of the opening before; whether it is closed.
    pub fn fenced(&mut self, now: Instant, m: &Resolved) -> bool {
        let Phase::Fencing(lane, leaving) = &mut self.phase else { return false };
        if *lane != m.lane || !leaving.is_answer(m) {
            return false;
        }
        match m.end {
            ResolveEnd::Open | ResolveEnd::NotReady => {
                leaving.again(now);
                return false;
            }
            // Nothing comes any more; what it ended with may not be known.
            ResolveEnd::Forgotten => self.tail = m.tail.map(|t| t.max(self.tail.unwrap_or_default())),
            ResolveEnd::Final => self.tail = self.tail.max(m.tail),
        }
        self.phase = Phase::Claiming;
        true
    }

    /// The lane that is being fenced has left the view: nothing comes any more.
    pub fn follow(&mut self, view: &View) -> bool {
        let gone = matches!(&self.phase, Phase::Fencing(lane, _) if view.shard(lane.shard()).is_none());
        if gone {
            (self.phase, self.tail) = (Phase::Claiming, None);
        }
        gone
    }

    /// The orderer is gone, and what it was asked with it.
    pub fn lost(&mut self) {
        self.asked = None;
    }

    /// When to ask next about the lane being fenced.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        match &self.phase {
            Phase::Fencing(_, leaving) => Some((leaving.due(), "ask whether a lane is closed")),
            _ => None,
        }
    }
}
