//! What does the ordering layer tell us? The order so far, then cut by cut, and the views they belong to.
//! Nothing is guessed: what doesn't follow what is known ends the connection, and the next one begins with
//! the order so far.

use super::LogClient;
use zoolog_core::cut::{Cut, Order};
use zoolog_core::limits::{LANES_MAX, REPLICAS_MAX};
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{BeginEnd, BeginIs, ConsumerIs, Grown, Message, OrderIs};
use zoolog_core::{ClusterId, Gsn, LaneId};

/// Positions and lengths beyond this are nobody's honest ones; below it, sums can't overflow.
pub(super) const POSITION_MAX: u64 = 1 << 62;
/// Longest address we take from a view.
const ADDR_BYTES_MAX: usize = 256;

impl LogClient {
    pub(super) fn orderer_says(&mut self, message: Message) {
        self.orderers.heard(&self.cx);
        match message {
            Message::OrderIs(m) => self.order_is(m),
            Message::Grown(m) if self.orderers.following() => self.grown(m),
            Message::CutIs(m) if self.orderers.following() => self.cut_is(&m.cut),
            Message::ViewIs(m) if self.orderers.following() => self.view_is(m.view),
            Message::ConsumerIs(m) => self.consumer_is(&m),
            Message::BeginIs(m) => self.begin_is(&m),
            Message::SealedIs(m) => self.sealed_is(m),
            Message::WriterIs(m) => self.writer.named(&mut self.cx, &mut self.links, &self.view, &m),
            Message::TailIs(m) => {
                self.tails.answer(&mut self.cx, &m);
                self.tail_is(m.gsn);
            }
            Message::OffersAre(m) => self.offers.answer(&mut self.cx, m),
            Message::TrimAnswer(m) => self.trims.answer(&mut self.cx, m),
            Message::OrderersAre(m) => self.orderers.are(&mut self.cx, m),
            Message::NotLeader(m) => {
                self.orderers.not_leader(&mut self.cx, m.leader);
                self.orderer_gone();
            }
            Message::Refused(m) => {
                tracing::warn!(why = ?m.why, text = m.text, "refused by an orderer");
                self.orderer_failed();
            }
            other => {
                tracing::warn!(message = other.name(), "unexpected message from an orderer");
                self.orderer_failed();
            }
        }
    }

    pub(super) fn orderer_failed(&mut self) {
        self.orderers.lost(&mut self.cx);
        self.orderer_gone();
    }

    /// What it was asked gets no answer any more.
    pub(super) fn orderer_gone(&mut self) {
        self.tails.lost();
        self.trims.lost();
        self.offers.lost();
        self.sealing.lost();
        self.position.lost();
        self.writer.orderer_gone();
    }

    /// Where the log begins: there, or this is not the log that was meant.
    fn begin_is(&mut self, m: &BeginIs) {
        if !self.orderers.is_begin(m) {
            return self.orderer_failed();
        }
        match m.end {
            BeginEnd::Begun(gsn) if Some(gsn) == self.cx.cfg.succeeds => {
                let registration = self.position.registration(&mut self.cx);
                self.orderers.connected(&mut self.cx, registration);
            }
            // Asked again: it was not decided.
            BeginEnd::Awaits => self.orderer_failed(),
            BeginEnd::Begun(_) | BeginEnd::Own(_) => {
                tracing::error!(end = ?m.end, ours = ?self.cx.cfg.succeeds, "the log there is not the one that follows");
                self.writer.has_no_successor(&mut self.cx);
                self.orderer_failed();
            }
        }
    }

    fn consumer_is(&mut self, m: &ConsumerIs) {
        if self.position.answer(m) {
            self.orderers.registered(&mut self.cx);
        } else if self.orderers.registering() {
            self.orderer_failed();
        }
    }

    pub(super) fn contradicted(&mut self, what: &str) {
        tracing::error!(what, "the ordering layer contradicts what is known");
        self.cx.metrics.order_errors += 1;
        self.orderer_failed();
    }

    fn order_is(&mut self, m: OrderIs) {
        if self.cx.cluster != ClusterId(0) && m.cluster != self.cx.cluster {
            return self.contradicted("another cluster");
        }
        let other = self.cx.generation.is_some_and(|ours| ours != m.generation);
        if self.cx.cluster != ClusterId(0) && other {
            return self.contradicted("another cluster of that order");
        }
        let lanes_ok = m.lanes.len() <= LANES_MAX
            && m.lanes.is_sorted_by(|a, b| a.lane < b.lane)
            && m.lanes.iter().all(|l| l.from == 0 && l.to <= POSITION_MAX);
        if m.tail.0 > POSITION_MAX || m.number.0 > POSITION_MAX {
            return self.contradicted("a position beyond all");
        }
        if !lanes_ok || !sound(&m.view) {
            return self.contradicted("a malformed order");
        }
        let lens = m.lanes.iter().filter(|l| l.to > 0).map(|l| (l.lane, l.to)).collect();
        let mut new = Order { number: m.number, tail: m.tail, lens };
        let pulled = self.pace.is_pulled();
        match &self.order {
            Some(old) if new.number == old.number => {
                // Of shards that have left the view nothing is said any more, and that needs no cut.
                let differs =
                    old.lens.iter().any(|(lane, &len)| new.lens.get(lane).is_some_and(|&n| n != len));
                if differs || (new.tail != old.tail && !pulled) {
                    return self.contradicted("the same cut, another order");
                }
            }
            Some(old) if new.number > old.number => {
                let shrinks =
                    old.lens.iter().any(|(lane, &len)| new.lens.get(lane).is_some_and(|&n| n < len));
                if shrinks || (new.tail <= old.tail && !pulled) {
                    return self.contradicted("a later cut, a shorter order");
                }
            }
            _ => {}
        }
        if !self.orderers.accept_order(&self.cx, m.request, m.number) {
            return self.contradicted("an order that was not asked for");
        }
        (self.cx.cluster, self.cx.generation) = (m.cluster, Some(m.generation));
        // An older one is no news: its cuts will come to where we are.
        let news = self.order.as_ref().is_none_or(|old| new.number > old.number);
        if news {
            // Whoever follows no cuts may have been told of a later end.
            new.tail = new.tail.max(self.order.as_ref().map_or(new.tail, |old| old.tail));
            self.moved(new.tail);
            self.order = Some(new);
        }
        self.set_view(m.view);
        self.tail_is(m.tail);
        if let (true, Some(subscription), Some(order)) = (news, &mut self.subscription, &self.order) {
            subscription.catch_up(&self.cx, &mut self.fetches, &self.view, order);
        }
    }

    /// What the next cut adds to the last one that was said here.
    fn grown(&mut self, grown: Grown) {
        let Some(order) = &self.order else { return };
        let number = self.orderers.said().next();
        if number <= order.number && grown.may_be(number) {
            // By a leader that was behind: another one said it before.
            return self.orderers.cut_said(number);
        }
        match grown.behind(order, self.view.number) {
            Ok(cut) => self.cut_is(&cut),
            Err(error) => self.contradicted(&error.to_string()),
        }
    }

    fn cut_is(&mut self, cut: &Cut) {
        let Some(order) = &mut self.order else { return };
        if cut.number <= order.number {
            return self.orderers.cut_said(cut.number);
        }
        if cut.view > self.view.number {
            return self.contradicted("a cut of a view that we were not told");
        }
        let known = |lane: LaneId| {
            let shard = self.view.shard(lane.shard());
            shard.is_some_and(|s| usize::from(lane.index()) < s.replicas.len())
        };
        if cut.end().0 > POSITION_MAX || !cut.lanes.iter().all(|l| known(l.lane) && l.to <= POSITION_MAX) {
            return self.contradicted("a cut of lanes that are not there, or beyond all");
        }
        if let Err(error) = order.apply(cut) {
            return self.contradicted(&error.to_string());
        }
        self.orderers.cut_said(cut.number);
        if let Some(subscription) = &mut self.subscription {
            subscription.cut(&mut self.cx, &mut self.fetches, &self.view, order, cut);
        }
        let tail = order.tail;
        self.moved(tail);
    }

    /// The log's end was told. Who follows cuts hears of it from them.
    pub(super) fn tail_is(&mut self, tail: Gsn) {
        if self.pace.is_pulled() && tail.0 <= POSITION_MAX {
            self.pace.tail_is(tail);
            if let Some(order) = self.order.as_mut().filter(|o| o.tail < tail) {
                order.tail = tail;
                self.moved(tail);
            }
        }
    }

    fn moved(&mut self, tail: Gsn) {
        self.cx.tail_seen = self.cx.tail_seen.max(tail);
        self.progress = true;
    }

    fn view_is(&mut self, view: View) {
        if sound(&view) {
            self.set_view(view);
        } else {
            self.contradicted("a malformed view");
        }
    }

    fn set_view(&mut self, view: View) {
        if view.number <= self.view.number {
            return;
        }
        self.view = view;
        for link in self.links.set_view(&mut self.cx, &self.view) {
            self.link_lost(link);
        }
        self.writer.place(&mut self.cx, &mut self.links, &self.view);
        self.fetches.view_changed(&self.cx, &self.view);
        if let (Some(subscription), Some(order)) = (&mut self.subscription, &self.order) {
            subscription.view_changed(&self.cx, &self.view, order);
        }
    }
}

/// Whether a view is one: ids ascend, replicas and lanes fit each other.
fn sound(view: &View) -> bool {
    view.shards.len() <= LANES_MAX
        && view.shards.is_sorted_by(|a, b| a.id < b.id)
        && view.shards.iter().all(|s| {
            let lens_fit = match &s.state {
                ShardState::Live => true,
                ShardState::Finalized(f) => f.lens.len() == s.replicas.len() && f.first <= f.end,
            };
            let addrs_fit = s.replicas.iter().all(|r| !r.addr.is_empty() && r.addr.len() <= ADDR_BYTES_MAX);
            lens_fit && addrs_fit && (1..=REPLICAS_MAX).contains(&s.replicas.len())
        })
}
