//! Who has a snapshot for whom lacks what was trimmed? What our owner offers is told to each leader, who forgets it with
//! the connection; who asks is answered by the leader of now.

use super::cx::Cx;
use super::orderers::Orderers;
use crate::{LogEvent, RequestId};
use zoolog_core::wire::{FindOffers, Offer, OffersAre};
use zoolog_core::{Gsn, Instant};

#[derive(Debug, Default)]
pub(super) struct Offers {
    /// What is offered, and whether the leader knows.
    own: Option<(String, Gsn)>,
    told: bool,
    /// Who asks: the last one.
    asked: Option<RequestId>,
    /// The question, and since when it is out.
    running: Option<(u64, Instant)>,
}

impl Offers {
    pub fn offer(&mut self, addr: &str, gsn: Gsn) {
        (self.own, self.told) = (Some((addr.to_owned(), gsn)), false);
    }

    pub fn ask(&mut self, request: RequestId) {
        self.asked = Some(request);
    }

    /// Tells and asks what is to be told and asked.
    pub fn flush(&mut self, cx: &mut Cx, orderers: &Orderers) {
        if !orderers.following() {
            return;
        }
        if let Some((addr, gsn)) = self.own.clone().filter(|_| !self.told) {
            self.told = true;
            let name = cx.cfg.consumer.clone().unwrap_or_default();
            orderers.send(cx, Offer { name, addr, gsn });
        }
        if self.asked.is_some() && self.running.is_none() {
            let request = cx.request();
            self.running = Some((request, cx.now));
            orderers.send(cx, FindOffers { request });
        }
    }

    /// An answer; one to an older question is of no use.
    pub fn answer(&mut self, cx: &mut Cx, m: OffersAre) {
        if self.running.take_if(|(asked, _)| *asked == m.request).is_some()
            && let Some(request) = self.asked.take()
        {
            cx.event(LogEvent::Offers { request, trim: m.trim, offers: m.offers });
        }
    }

    /// The leader is gone: the next one is told, and asked.
    pub fn lost(&mut self) {
        (self.told, self.running) = (false, None);
    }

    /// Asks again what was not answered for too long.
    pub fn tick(&mut self, cx: &Cx) {
        self.running.take_if(|(_, since)| *since + cx.cfg.request_timeout <= cx.now);
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        Some((self.running?.1 + cx.cfg.request_timeout, "the question for snapshots takes too long"))
    }
}
