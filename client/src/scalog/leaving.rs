//! How is a lane left? By asking its replicas which of our batches are in, once nothing more of ours can come in: its
//! shard is finalized, or a fence that we sent through whatever replica we reach is committed. Until one of them
//! answers, nothing is sent anywhere: a batch that is in might be appended twice.

use super::cx::Cx;
use super::links::{LinkId, Links};
use std::time::Duration;
use zoolog_core::batch::{Batch, BatchBuilder, BatchKind, FENCE_SEQ};
use zoolog_core::wire::{self, Fence, Resolve, Resolved};
use zoolog_core::{Epoch, Instant, LaneId, Seq, WriterId};

/// Pause between questions, first and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// For how long replicas that don't answer are waited for, when one has answered that it doesn't remember.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way out of one lane.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Whether to send a fence, because the shard may well live on.
    fence: Option<Option<Batch>>,
    /// The opening that is to be over.
    epoch: Epoch,
    /// The first question and the last. Whichever is answered: what is final when it is asked stays so.
    requests: Option<(u64, u64)>,
    due: Instant,
    asked: u32,
    /// Who doesn't remember, and since when that is known: one per replica of the shard at most.
    forgetful: Vec<LinkId>,
    forgotten_at: Option<Instant>,
}

impl Leaving {
    /// Begins; with a fence if the lane isn't over for us anyway.
    pub fn new(now: Instant, epoch: Epoch, fence: bool) -> Self {
        Self {
            fence: fence.then_some(None),
            epoch,
            requests: None,
            due: now,
            asked: 0,
            forgetful: Vec::new(),
            forgotten_at: None,
        }
    }

    /// Whether the lane is as open for us as it was: it depends on our fence, and that did not go out.
    pub fn is_undone(&self) -> bool {
        matches!(self.fence, Some(None))
    }

    /// Whether our fence went out: it may be what has closed the lane.
    pub fn has_fenced(&self) -> bool {
        matches!(self.fence, Some(Some(_)))
    }

    /// When to ask next.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether that is an answer to a question of ours.
    pub fn is_answer(&self, m: &Resolved) -> bool {
        self.requests.is_some_and(|(first, last)| first <= m.request && m.request <= last)
    }

    /// The answer was of no use: asks again soon.
    pub fn again(&mut self, now: Instant) {
        self.due = now + (PAUSE.0 * (1 << self.asked.min(10))).min(PAUSE.1);
    }

    /// The replica behind `from`, one of `replicas`, doesn't remember. Whether nobody does: a replica that has lost batches,
    /// and had them mended by another, has forgotten what its peer still knows. So all of them are asked.
    pub fn forgotten(&mut self, now: Instant, from: LinkId, replicas: &[LinkId]) -> bool {
        self.forgetful.retain(|l| replicas.contains(l) && *l != from);
        self.forgetful.push(from);
        let since = *self.forgotten_at.get_or_insert(now);
        self.again(now);
        replicas.iter().all(|l| self.forgetful.contains(l)) || now >= since + PATIENCE
    }

    /// Asks the next replica that is connected, if it is time.
    pub fn ask(&mut self, cx: &mut Cx, links: &mut Links, lane: LaneId, writer: WriterId, from: Seq) {
        if self.due > cx.now {
            return;
        }
        self.due = cx.now + PAUSE.1;
        let choice = self.asked as usize;
        self.asked = self.asked.saturating_add(1);
        // The primary first, then the others in turn.
        let start = usize::from(lane.index()).wrapping_add(choice);
        let Some(link) = links.pick(cx, lane.shard(), start) else { return };
        if let Some(fence) = &mut self.fence {
            let fence = fence.get_or_insert_with(|| {
                let mut builder = BatchBuilder::new();
                builder.push(b"");
                builder.finish(BatchKind::Fence, writer, self.epoch, FENCE_SEQ)
            });
            links.send(cx, link, wire::encode_with(Fence { lane }, &[fence.bytes()]));
        }
        let request = cx.request();
        self.requests = Some((self.requests.map_or(request, |(first, _)| first), request));
        links.send_message(cx, link, Resolve { request, lane, writer, epoch: self.epoch, from });
    }
}
