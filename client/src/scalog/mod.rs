//! How does the sharded log look from a client? [`LogClient`]: its state, and which conversation each input
//! belongs to.
//!
//! - `orderers`: the connection to the ordering layer's leader; `order`: what it says; `consumer`: what it is
//!   told that we still need.
//! - `links`: connections to replicas. `writer`: appends; `leaving`: how it gets out of a lane; `naming`: how
//!   it comes to its name, if it has one. `fetch`: ranges, in windows of which several are
//!   under way, for `reads` and for history.
//! - `pace`: when records are asked for that are not pushed.
//! - `push`: live batches. `subscription`: both, merged into one sequence. `tail`: where the order ends.
//!   `trims`: what is to be forgotten. `offers`: who has snapshots for whom. `sealing`: the end of the log.

mod consumer;
mod cx;
mod fetch;
mod leaving;
mod links;
mod metrics;
mod naming;
mod offers;
mod order;
mod orderers;
mod pace;
mod push;
mod reads;
mod repeats;
mod sealing;
mod stall;
mod subscription;
mod tail;
mod trims;
mod writer;

use crate::log::Fetching;
use crate::{AppendError, ClientConfig, LogCommand, LogEvent, RequestId, SealError, SharedLog};
use consumer::Position;
use cx::{Cx, earlier};
use fetch::Fetches;
use links::{LinkId, Links};
pub use metrics::Metrics;
use offers::Offers;
use orderers::Orderers;
use pace::Pace;
use reads::Reads;
use sealing::Sealing;
use stall::Stall;
use subscription::Subscription;
use tail::Tails;
use trims::Trims;
use writer::Writer;
use zoolog_core::cut::Order;
use zoolog_core::view::View;
use zoolog_core::wire::{self, Message, Packet};
use zoolog_core::{ConnId, Gsn, Input, Instant, Machine, Output, Seq, WriterId};

/// A client of the sharded log. See [`SharedLog`] for what it does.
#[derive(Debug)]
pub struct LogClient {
    cx: Cx,
    orderers: Orderers,
    links: Links,
    /// As far as known; `None` before the first answer of a leader.
    order: Option<Order>,
    view: View,
    writer: Writer,
    fetches: Fetches,
    subscription: Option<Subscription>,
    pace: Pace,
    reads: Reads,
    tails: Tails,
    trims: Trims,
    offers: Offers,
    sealing: Sealing,
    order_stall: Stall,
    append_stall: Stall,
    position: Position,
    requests: u64,
    ready: bool,
    /// The tail moved and the owner was not told yet.
    progress: bool,
    /// Something happened since the last end of a turn.
    dirty: bool,
}

/// Whether an orderer's message is about where records are.
const fn is_about_places(message: &Message) -> bool {
    matches!(
        message,
        Message::Grown(_) | Message::CutIs(_) | Message::OrderIs(_) | Message::ViewIs(_) | Message::TailIs(_)
    )
}

/// Bit of the request numbers that methods give out, see [`RequestId`].
const METHOD_REQUEST: u64 = 1 << 63;

impl LogClient {
    /// A client that has done nothing yet; it dials when first drained. The writer's id is drawn from `seed`:
    /// never use a seed twice in a cluster's life.
    pub fn new(cfg: ClientConfig, seed: u64, now: Instant) -> Self {
        let mut cx = Cx::new(cfg.bounded(), seed, now);
        let writer = Writer::new(&cx.cfg, seed, now);
        let pace = Pace::new(cx.cfg.fetch, cx.cfg.defer, now);
        let (orderers, fetches) = (Orderers::new(&mut cx), Fetches::new(&mut cx));
        Self {
            cx,
            orderers,
            links: Links::default(),
            order: None,
            view: View::default(),
            writer,
            fetches,
            subscription: None,
            pace,
            reads: Reads::default(),
            tails: Tails::default(),
            trims: Trims::default(),
            offers: Offers::default(),
            sealing: Sealing::default(),
            order_stall: Stall::new("order"),
            append_stall: Stall::new("append"),
            position: Position::new(now),
            requests: 0,
            ready: false,
            progress: false,
            dirty: true,
        }
    }

    /// What has happened so far.
    pub fn metrics(&self) -> Metrics {
        self.cx.metrics
    }

    /// First position that the owner still needs, as it last said.
    pub fn released(&self) -> Gsn {
        self.position.released()
    }

    /// The order is known up to here; `None` before the first answer of a leader.
    pub fn known_tail(&self) -> Option<Gsn> {
        self.order.as_ref().map(|o| o.tail)
    }

    /// Bytes of pushed batches that wait for their cut, in the lane that has most: bounded by the credit.
    pub fn buffered_bytes(&self) -> usize {
        self.subscription.as_ref().map_or(0, |s| s.pushes.fullest())
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        self.dirty = true;
        RequestId(METHOD_REQUEST | self.requests)
    }

    fn command(&mut self, command: LogCommand) {
        match command {
            LogCommand::Append { records } => {
                for (first, record) in records.iter().enumerate() {
                    if let Err(error) = self.append(record) {
                        self.cx.event(LogEvent::AppendFailed { first, error });
                        break;
                    }
                }
            }
            LogCommand::AppendIf { expected_tail, records } => {
                let records: Vec<&[u8]> = records.iter().map(|r| &r[..]).collect();
                if let Err(error) = self.append_if(expected_tail, &records) {
                    self.cx.event(LogEvent::AppendFailed { first: 0, error });
                }
            }
            LogCommand::Subscribe { from } => self.subscribe(from),
            LogCommand::Read { tag, from, to, max_bytes } => {
                self.reads.ask(&self.cx, RequestId(tag), from, to, max_bytes);
            }
            LogCommand::Tail { tag } => self.ask_tail(RequestId(tag)),
            LogCommand::Trim { tag, gsn } => self.trims.ask(RequestId(tag), gsn),
            LogCommand::Release { upto } => self.release(upto),
        }
    }

    fn connected(&mut self, conn: ConnId) {
        if self.orderers.owns(conn) {
            if let Some(first_gsn) = self.cx.cfg.succeeds {
                return self.orderers.begin(&mut self.cx, first_gsn);
            }
            let registration = self.position.registration(&mut self.cx);
            self.orderers.connected(&mut self.cx, registration);
        } else {
            self.links.connected(&mut self.cx, conn);
        }
    }

    fn closed(&mut self, conn: ConnId) {
        if self.orderers.owns(conn) {
            self.orderers.closed(&mut self.cx);
            self.orderer_gone();
        } else if let Some(link) = self.links.closed(&mut self.cx, conn) {
            self.link_lost(link);
        }
    }

    /// All that relied on a replica's connection goes on without it.
    fn link_lost(&mut self, link: LinkId) {
        if self.writer.is_on(link) {
            self.writer.link_lost(&mut self.cx, &mut self.links, &self.view);
        }
        self.fetches.link_lost(&mut self.cx, link);
        if let (Some(subscription), Some(order)) = (&mut self.subscription, &self.order) {
            subscription.link_lost(&mut self.cx, order, link);
        }
    }

    fn frame(&mut self, conn: ConnId, bytes: bytes::Bytes) {
        let orderer = self.orderers.owns(conn);
        let link = self.links.of(conn);
        if !orderer && link.is_none() {
            // From a connection that we have given up.
            return;
        }
        let len = bytes.len() as u64;
        match (wire::decode(bytes), link) {
            (Ok(packet), None) => {
                if is_about_places(&packet.message) {
                    self.cx.metrics.location_bytes += len;
                }
                self.orderer_says(packet.message);
            }
            (Ok(packet), Some(link)) => {
                if packet.payload.is_empty() && matches!(packet.message, Message::ReadIs(_)) {
                    self.cx.metrics.location_bytes += len;
                }
                self.replica_says(link, packet);
            }
            (Err(error), None) => {
                tracing::warn!(%error, "bad frame from an orderer");
                self.orderer_failed();
            }
            (Err(error), Some(link)) => {
                tracing::warn!(replica = self.links.addr(link), %error, "bad frame");
                self.cx.condemned.insert(link);
            }
        }
    }

    fn replica_says(&mut self, link: LinkId, packet: Packet) {
        let Self { cx, links, .. } = self;
        if !matches!(packet.message, Message::Refused(_)) {
            links.useful(link);
        }
        if matches!(
            packet.message,
            Message::StatusIs(_) | Message::Appended(_) | Message::AppendRefused(_) | Message::Resolved(_)
        ) {
            self.writer.heard(cx, link);
        }
        match packet.message {
            Message::StatusIs(_) => {}
            Message::Appended(m) => self.writer.appended(cx, links, link, &m),
            Message::AppendRefused(m) => self.writer.refused(cx, links, link, &m),
            Message::Resolved(m) => self.writer.resolved(cx, links, &self.view, link, &m),
            Message::Room(m) => self.writer.room_is(cx, link, &m),
            Message::ReadIs(m) => self.fetches.answer(cx, links, link, &m, packet.payload),
            Message::Push(m) => {
                if let (Some(subscription), Some(order)) = (&mut self.subscription, &self.order) {
                    subscription.pushes.pushed(cx, links, order, link, &m, packet.payload);
                }
            }
            Message::Refused(m) => {
                tracing::warn!(replica = links.addr(link), why = ?m.why, text = m.text, "refused");
                cx.condemned.insert(link);
            }
            other => {
                tracing::warn!(replica = links.addr(link), message = other.name(), "unexpected message");
                cx.condemned.insert(link);
            }
        }
    }

    /// Ends the connections that this input has shown to be useless.
    fn settle(&mut self) {
        while let Some(link) = self.cx.condemned.pop_first() {
            self.links.take_down(&mut self.cx, link);
            self.link_lost(link);
        }
    }

    fn tick(&mut self) {
        let Self { cx, links, .. } = self;
        links.tick(cx);
        self.writer.tick(cx, links, &self.view);
        self.fetches.tick(cx);
        self.trims.tick(cx);
        self.offers.tick(cx);
        self.sealing.tick(cx);
        if let (Some(subscription), Some(order)) = (&mut self.subscription, &self.order) {
            subscription.tick(cx, &mut self.fetches, &self.view, order);
        }
        if self.subscription.is_some() && self.pace.tick(cx.now) {
            self.tails.probe();
        }
        if self.orderers.tick(cx) && !self.tails.probing() {
            self.tails.probe();
        }
        if !self.orderers.following() || self.tails.deadline(cx).is_some_and(|(t, _)| t <= cx.now) {
            if self.orderers.following() {
                // Silent for too long.
                self.orderer_failed();
            }
            self.tails.lost();
        }
    }

    /// The end of a turn: everything gathered in it goes out.
    fn flush(&mut self) {
        let Self { cx, links, .. } = self;
        self.orderers.dial_due(cx);
        if !self.ready && self.writer.placed(links) {
            self.ready = true;
            cx.event(LogEvent::Ready { cluster: cx.cluster, view: self.view.number });
        }
        self.writer.ask_names(cx, &self.orderers);
        self.writer.flush(cx, links);
        self.sealing.flush(cx, &self.orderers, &self.writer);
        if let (Some(subscription), Some(order)) = (&mut self.subscription, &mut self.order)
            && self.pace.is_pulled()
        {
            subscription.fetch(cx, &mut self.fetches, &self.view, order, self.pace.wanted());
        }
        self.tails.flush(cx, &self.orderers);
        self.trims.flush(cx, &self.orderers);
        self.offers.flush(cx, &self.orderers);
        if self.orderers.following()
            && let Some(report) = self.position.report(cx)
        {
            self.orderers.send(cx, report);
        }
        self.reads.flush(cx, &mut self.fetches, &self.view, self.order.as_ref(), self.writer.id());
        self.fetches.flush(cx, links);
        if let Some(subscription) = &mut self.subscription {
            subscription.pushes.flush(cx, links);
        }
        self.order_stall.update(cx, self.orderers.lost_since);
        self.append_stall.update(cx, self.writer.waiting_since());
    }

    fn committed(&mut self) -> Option<LogEvent> {
        let (subscription, order) = (self.subscription.as_mut()?, self.order.as_ref()?);
        let own = self.writer.id();
        let next = subscription.take(&mut self.cx, &mut self.fetches, &self.view, order, own)?;
        if next.own {
            self.writer.committed(&mut self.cx, next.first_gsn, &next.placed);
        }
        Some(LogEvent::Committed(next))
    }
}

impl SharedLog for LogClient {
    fn append(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        let placed = self.writer.append(&self.cx, record)?;
        self.dirty = true;
        Ok(placed)
    }

    fn append_vital(&mut self, record: &[u8]) -> Result<(Seq, u32), AppendError> {
        let placed = self.writer.append_vital(&self.cx, record)?;
        self.dirty = true;
        Ok(placed)
    }

    fn trim(&mut self, gsn: Gsn) -> RequestId {
        let request = self.request();
        self.trims.ask(request, gsn);
        request
    }

    fn append_if(&mut self, expected_tail: Gsn, records: &[&[u8]]) -> Result<Seq, AppendError> {
        self.dirty = true;
        let Some(known) = self.known_tail() else { return Err(AppendError::NotOpen) };
        self.writer.append_if(&self.cx, known, expected_tail, records)
    }

    fn writer(&self) -> WriterId {
        self.writer.id()
    }

    fn pending_batches(&self) -> usize {
        self.writer.pending_batches()
    }

    fn has_room(&self) -> bool {
        self.writer.has_room(&self.cx)
    }

    fn subscribe(&mut self, from: Gsn) {
        if let Some(mut old) = self.subscription.take() {
            old.close(&mut self.fetches);
        }
        let subscription = self.subscription.insert(Subscription::new(&mut self.cx, from));
        if let Some(order) = &self.order {
            subscription.catch_up(&self.cx, &mut self.fetches, &self.view, order);
        }
        self.dirty = true;
    }

    fn read(&mut self, from: Gsn, to: Gsn, max_bytes: usize) -> RequestId {
        let request = self.request();
        self.reads.ask(&self.cx, request, from, to, max_bytes);
        request
    }

    fn tail(&mut self) -> RequestId {
        let request = self.request();
        self.ask_tail(request);
        request
    }

    fn want(&mut self, upto: Gsn) {
        if self.pace.is_pulled() {
            self.pace.want(upto);
            self.dirty = true;
        }
    }

    fn refresh(&mut self) {
        if self.pace.refresh(self.cx.now) {
            self.tails.probe();
            self.dirty = true;
        }
    }

    fn fetching(&self) -> Fetching {
        Fetching {
            fetches: self.pace.begun,
            location_entries: self.fetches.location_entries(),
            location_bytes: self.cx.metrics.location_bytes,
        }
    }

    fn gives_offers(&self) -> bool {
        true
    }

    fn offer(&mut self, addr: &str, gsn: Gsn) {
        self.offers.offer(addr, gsn);
        self.dirty = true;
    }

    fn find_offers(&mut self) -> Option<RequestId> {
        let request = self.request();
        self.offers.ask(request);
        Some(request)
    }

    fn release(&mut self, upto: Gsn) {
        self.position.release(upto);
        self.dirty = true;
    }

    fn base_gsn(&self) -> Gsn {
        self.cx.cfg.succeeds.unwrap_or_default()
    }

    /// Behind what was appended here; what others have under way when it is decided is not in the log.
    fn seal(&mut self, successor: &str) -> Result<RequestId, SealError> {
        self.ask_seal(successor)
    }
}

impl Machine for LogClient {
    type Command = LogCommand;
    type Event = LogEvent;

    fn handle(&mut self, now: Instant, input: Input<LogCommand>) {
        self.cx.now = now;
        self.dirty = true;
        match input {
            Input::Connected { conn } => self.connected(conn),
            Input::Closed { conn } => self.closed(conn),
            Input::Frame { conn, bytes } => self.frame(conn, bytes),
            Input::Timer => self.tick(),
            Input::Command(command) => self.command(command),
            // A client has no port and no disk, wants no wall clock, and sends within windows.
            Input::Accepted { .. }
            | Input::Backlog { .. }
            | Input::Persisted { .. }
            | Input::Loaded { .. }
            | Input::SegmentRead { .. }
            | Input::SnapshotSaved { .. }
            | Input::SnapshotFound { .. }
            | Input::SnapshotRead { .. }
            | Input::DiskSpace { .. }
            | Input::WallClock(_) => {}
        }
        self.settle();
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<LogEvent>> {
        self.cx.now = now;
        loop {
            if let Some(output) = self.cx.out.pop_front() {
                return Some(output);
            }
            if std::mem::take(&mut self.progress) {
                let tail = self.order.as_ref().map_or(Gsn(0), |o| o.tail);
                return Some(Output::Event(LogEvent::Progress { tail }));
            }
            // Deliveries come before the end of the turn, so that what the owner appends on seeing them is
            // still in this turn's batch.
            if let Some(event) = self.committed() {
                self.dirty = true;
                return Some(Output::Event(event));
            }
            if !self.cx.out.is_empty() {
                continue;
            }
            if !std::mem::take(&mut self.dirty) {
                return None;
            }
            self.flush();
        }
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let cx = &self.cx;
        let mut first = earlier(self.orderers.deadline(cx, self.tails.probing()), self.links.deadline(cx));
        first = earlier(first, self.writer.deadline(cx, &self.links));
        first = earlier(first, self.fetches.deadline(cx));
        first = earlier(first, self.subscription.as_ref().and_then(|s| s.deadline(cx)));
        first = earlier(first, self.subscription.as_ref().and_then(|_| self.pace.deadline()));
        first = earlier(first, self.reads.deadline(cx));
        first = earlier(first, self.tails.deadline(cx));
        first = earlier(first, self.trims.deadline(cx));
        first = earlier(first, self.offers.deadline(cx));
        first = earlier(first, self.sealing.deadline(cx));
        if self.orderers.following() {
            first = earlier(first, self.position.deadline(cx));
        }
        first = earlier(first, self.order_stall.deadline(cx, self.orderers.lost_since));
        earlier(first, self.append_stall.deadline(cx, self.writer.waiting_since()))
    }
}
