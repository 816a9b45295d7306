//! How does the sharded log end, as seen from here? We ask for it once all of ours is in; or are told. Then it is found out which
//! of our batches are in it, as when any shard ends, and the owner hears where it goes on. [`LogClient::follow`] makes the
//! client of the log that follows: it goes on with what is left over.

use super::LogClient;
use super::cx::Cx;
use super::order::POSITION_MAX;
use super::orderers::Orderers;
use super::writer::Writer;
use crate::{ClientConfig, LogEvent, RequestId, SealError, Sealed};
use std::collections::VecDeque;
use zoolog_core::limits::SUCCESSOR_BYTES_MAX;
use zoolog_core::wire::{Seal, SealedIs};
use zoolog_core::{ClusterId, ConnId, Instant};

/// So many bits number the questions of one client, of several that one owner has one after the other.
const REQUESTS_BITS: u32 = 40;

/// The end of the log.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// Where it has ended, and what follows it.
    sealed: Option<Sealed>,
    /// The owner knows.
    told: bool,
    /// Who waits for the end, and for which successor.
    waiting: VecDeque<(RequestId, String)>,
    /// The question that is under way.
    asked: Option<(u64, Instant)>,
}

impl Sealing {
    /// The orderer is gone, and what it was asked with it.
    pub fn lost(&mut self) {
        self.asked = None;
    }

    pub fn tick(&mut self, cx: &Cx) {
        if self.deadline(cx).is_some_and(|(at, _)| at <= cx.now) {
            self.asked = None;
        }
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        Some((self.asked?.1 + cx.cfg.request_timeout, "the end of the log takes too long"))
    }

    /// Asks for the end, if it is time; tells what is known.
    pub fn flush(&mut self, cx: &mut Cx, orderers: &Orderers, writer: &Writer) {
        let Some(sealed) = &self.sealed else {
            let Some((_, successor)) = self.waiting.front() else { return };
            if self.asked.is_none()
                && orderers.following()
                && (writer.pending_batches() == 0 || writer.is_lost())
            {
                let request = cx.request();
                self.asked = Some((request, cx.now));
                orderers.send(cx, Seal { request, successor: successor.clone() });
            }
            return;
        };
        for (request, wanted) in self.waiting.drain(..) {
            let same = wanted == sealed.successor;
            let result = if same { Ok(sealed.clone()) } else { Err(SealError::Another(sealed.clone())) };
            cx.event(LogEvent::SealDone { request, result });
        }
        if !self.told && writer.is_settled() {
            self.told = true;
            cx.event(LogEvent::Sealed(sealed.clone()));
        }
    }
}

impl LogClient {
    /// Where the log has ended, if that is known.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealing.sealed.as_ref()
    }

    /// Whose order it is, as far as known, and which of the clusters that follow each other in it.
    pub fn cluster(&self) -> (ClusterId, Option<u32>) {
        (self.cx.cluster, self.cx.generation)
    }

    pub(super) fn ask_seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        let bytes = successor.len();
        if !(1..=SUCCESSOR_BYTES_MAX).contains(&bytes) || successor.contains(['\n', '\r']) {
            return Err(SealError::Malformed { bytes });
        }
        self.writer.close();
        let request = self.request();
        self.sealing.waiting.push_back((request, successor.to_string()));
        Ok(request)
    }

    /// Whether that connection is one of ours.
    pub(crate) fn owns(&self, conn: ConnId) -> bool {
        self.orderers.owns(conn) || self.links.of(conn).is_some()
    }

    pub(crate) fn ask_tail(&mut self, request: RequestId) {
        match &self.sealing.sealed {
            Some(Sealed { tail, .. }) => self.cx.event(LogEvent::Tail { request, gsn: *tail }),
            None => {
                self.tails.ask(request);
                self.dirty = true;
            }
        }
    }

    /// An orderer says that the log has ended.
    pub(super) fn sealed_is(&mut self, m: SealedIs) {
        if !self.orderers.following() {
            return self.contradicted("the end of an order that was not told");
        }
        let SealedIs { request, tail, successor } = m;
        let sealed = Sealed { tail, successor };
        if self.sealing.sealed.as_ref().is_some_and(|known| *known != sealed) {
            return self.contradicted("a log that ends twice");
        }
        // Who follows cuts has had them all.
        let known = self.order.as_ref().map(|o| o.tail);
        let fits = if self.pace.is_pulled() { known <= Some(tail) } else { known == Some(tail) };
        if !fits || tail.0 > POSITION_MAX || !(1..=SUCCESSOR_BYTES_MAX).contains(&sealed.successor.len()) {
            return self.contradicted("the end of a log that ends elsewhere");
        }
        self.tail_is(tail);
        self.tails.ended(&mut self.cx, request, tail);
        if self.sealing.sealed.is_none() {
            tracing::info!(%tail, successor = sealed.successor, "the log has ended");
            self.sealing.sealed = Some(sealed);
            self.writer.end();
            self.writer.place(&mut self.cx, &mut self.links, &self.view);
        }
    }

    /// The client, with these settings, of the log that follows this one, which has ended: it goes on with what is left over of
    /// our appends, and with what the owner has released. Numbers of connections and requests are none that this one uses.
    pub(crate) fn follow(&mut self, cfg: ClientConfig, seed: u64, now: Instant) -> Self {
        let mut next = self.next_to(cfg, seed, now);
        next.position.release(self.position.released());
        next.writer.inherit(&next.cx, &mut self.writer);
        next
    }

    /// A client whose numbers of connections and requests are none that this one uses.
    pub(crate) fn next_to(&self, cfg: ClientConfig, seed: u64, now: Instant) -> Self {
        let mut next = Self::new(cfg, seed, now);
        next.cx.numbers_after(&self.cx);
        next.requests = ((self.requests >> REQUESTS_BITS) + 1) << REQUESTS_BITS;
        next
    }

    /// Whether the ordering layer knows what the owner last released, or has nobody to remember it for.
    pub(crate) fn has_reported(&self) -> bool {
        self.cx.cfg.consumer.is_none() || self.position.is_known()
    }

    /// The owner was given all of it: nothing is asked for by itself any more.
    pub(crate) fn rest(&mut self) {
        if let Some(mut old) = self.subscription.take() {
            old.close(&mut self.fetches);
        }
        self.dirty = true;
    }

    /// Ends all connections: it is not used any more.
    pub(crate) fn hang_up(&mut self) {
        self.orderers.give_up(&mut self.cx);
        self.links.set_view(&mut self.cx, &zoolog_core::view::View::default());
    }

    /// Asks for all up to the end of the log, whatever the policy.
    pub(crate) fn want_all(&mut self) {
        if let Some(Sealed { tail, .. }) = self.sealed().cloned() {
            self.pace.want_all(tail);
            self.dirty = true;
        }
    }
}
