//! How are the records of a range of positions had? From each shard that may hold some, in parallel, several
//! windows of the range at a time (`part`), checked (`checked`), and merged by position. Or from one shard after the other,
//! one question at a time (`locations`). Whatever fails is asked of another replica.

mod checked;
mod locations;
mod part;

use super::cx::Cx;
use super::links::{LinkId, Links};
use bytes::Bytes;
use locations::{Locations, Next};
use part::Part;
use std::collections::BTreeMap;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{Read, ReadEnd, ReadIs};
use zoolog_core::{Gsn, Instant, ShardId};

/// Payload bytes asked for at a time, least and most. Replicas don't answer with more.
const CHUNK: (usize, usize) = (1 << 10, 2 << 20);
/// Windows of a shard that may be asked for at a time.
const WINDOWS: usize = 4;

/// One range being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FetchId(u64);

/// What [`Fetches::step`] has to offer.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The next batch, and the position of its first record, which may lie before the range.
    Batch(Gsn, PlacedBatch),
    /// Not there yet.
    Wait,
    /// The range is complete.
    Done,
    /// What is next was trimmed, up to there.
    Trimmed(Gsn),
}

#[derive(Debug)]
struct Fetch {
    next: Gsn,
    to: Gsn,
    /// Where the range was cut: here, and only here, a batch may begin before what is next.
    mid: Gsn,
    only: Option<ShardId>,
    parts: BTreeMap<ShardId, Part>,
    trimmed: Option<Gsn>,
    /// If one shard is asked after the other: what is missing.
    locations: Option<Locations>,
}

#[derive(Debug)]
struct Asked {
    fetch: FetchId,
    shard: ShardId,
    link: LinkId,
    question: Read,
    since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Fetches {
    table: BTreeMap<FetchId, Fetch>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Which replica this client asks first: differs between clients.
    first_choice: usize,
    /// Which shard had something last, of those that are asked in turn.
    likely: Option<ShardId>,
}

impl Fetches {
    pub fn new(cx: &mut Cx) -> Self {
        Self { first_choice: cx.rng.below(1 << 16) as usize, ..Self::default() }
    }

    /// Begins to fetch `from..to` from all shards, or only one.
    pub fn open(&mut self, cx: &Cx, view: &View, from: Gsn, to: Gsn, only: Option<ShardId>) -> FetchId {
        self.next += 1;
        let id = FetchId(self.next);
        let parts = BTreeMap::new();
        let fetch = Fetch { next: from, to: from, mid: from, only, parts, trimmed: None, locations: None };
        self.table.insert(id, fetch);
        self.extend(cx, view, id, to);
        id
    }

    /// Begins to fetch `from..to` from one shard after the other.
    pub fn open_in_turn(&mut self, cx: &Cx, view: &View, from: Gsn, to: Gsn) -> FetchId {
        let id = self.open(cx, view, from, from, None);
        let fetch = self.table.get_mut(&id).expect("just opened");
        fetch.locations = Some(Locations::new(cx.cfg.location_limit, from, self.likely));
        self.extend(cx, view, id, to);
        id
    }

    /// Stretches in all tables of what is missing.
    pub fn location_entries(&self) -> usize {
        self.table.values().filter_map(|f| f.locations.as_ref()).map(Locations::len).sum()
    }

    /// Moves the end of the range on, and takes shards in that the view has added.
    pub fn extend(&mut self, cx: &Cx, view: &View, id: FetchId, to: Gsn) {
        let fetch = self.table.get_mut(&id).expect("fetches are extended while they are open");
        if fetch.next == fetch.to {
            fetch.mid = fetch.to;
        }
        fetch.to = fetch.to.max(to);
        if let Some(locations) = &mut fetch.locations {
            locations.extend(fetch.to);
        }
        for shard in &view.shards {
            let outside = match &shard.state {
                ShardState::Live => false,
                ShardState::Finalized(f) => f.end <= fetch.next || fetch.to <= f.first,
            };
            if !outside && fetch.only.is_none_or(|o| o == shard.id) {
                fetch.parts.entry(shard.id).or_insert_with(|| Part::new(fetch.next, cx.now));
            }
        }
        if fetch.only.is_some_and(|o| view.shard(o).is_none()) {
            // All that was in it is trimmed: nobody is left who could say so.
            fetch.trimmed = fetch.trimmed.max(Some(fetch.to));
        }
    }

    /// A shard that was missing when a range was opened may hold part of it.
    pub fn view_changed(&mut self, cx: &Cx, view: &View) {
        for id in self.table.keys().copied().collect::<Vec<_>>() {
            self.forget_dropped(view, id);
            let to = self.table[&id].to;
            self.extend(cx, view, id, to);
        }
    }

    /// Shards that have left the view hold nothing that is not trimmed.
    fn forget_dropped(&mut self, view: &View, id: FetchId) {
        let fetch = self.table.get_mut(&id).expect("callers name open ones");
        let asked = &mut self.asked;
        fetch.parts.retain(|shard, part| {
            let stays = view.shard(*shard).is_some();
            if !stays {
                for request in part.questions() {
                    asked.remove(&request);
                }
            }
            stays
        });
    }

    /// Where the range ends.
    pub fn end(&self, id: FetchId) -> Gsn {
        self.table[&id].to
    }

    pub fn close(&mut self, id: FetchId) {
        if let Some(fetch) = self.table.remove(&id) {
            for request in fetch.parts.values().flat_map(Part::questions) {
                self.asked.remove(&request);
            }
        }
    }

    /// Hands out what comes next.
    pub fn step(&mut self, cx: &mut Cx, id: FetchId) -> Step {
        let fetch = self.table.get_mut(&id).expect("fetches are stepped while they are open");
        if fetch.next >= fetch.to {
            return Step::Done;
        }
        if let Some(until) = fetch.trimmed {
            return Step::Trimmed(until);
        }
        let (next, in_turn) = (fetch.next, fetch.locations.is_some());
        let (mut overlap, mut nowhere) = (false, !fetch.parts.is_empty());
        for part in fetch.parts.values_mut() {
            nowhere &= in_turn || part.covers() > next;
            let Some((first, end)) = part.front() else { continue };
            if first == next || (first < next && next < end && next == fetch.mid) {
                let Some((first, placed)) = part.pop() else {
                    overlap = true;
                    break;
                };
                fetch.next = end.min(fetch.to);
                return Step::Batch(first, placed);
            }
            overlap |= first < next;
        }
        if let Some(locations) = &fetch.locations {
            nowhere &= locations.next(fetch.parts.keys().copied()) == Next::Nowhere;
        }
        if overlap || nowhere {
            // Never taken for "there is nothing": positions are dense. Our view may be behind, or a replica
            // is mistaken about where its batches lie.
            tracing::error!(position = %next, overlap, nowhere, "answers contradict each other; asking again");
            cx.metrics.damaged += 1;
            self.restart(cx, id);
        }
        Step::Wait
    }

    /// Drops all that is not handed out yet and asks again, elsewhere.
    pub fn restart(&mut self, cx: &mut Cx, id: FetchId) {
        let Some(fetch) = self.table.get_mut(&id) else { return };
        for part in fetch.parts.values_mut() {
            for request in part.questions() {
                self.asked.remove(&request);
            }
            part.restart(cx, fetch.next);
        }
        if let Some(locations) = &mut fetch.locations {
            locations.reset(fetch.next);
        }
    }

    /// Takes back a step whose batch can't be right.
    pub fn reject(&mut self, cx: &mut Cx, id: FetchId, back_to: Gsn) {
        if let Some(fetch) = self.table.get_mut(&id) {
            (fetch.next, fetch.mid) = (back_to, back_to);
        }
        self.restart(cx, id);
    }

    /// Asks for what is due, as far as there is room for it.
    pub fn flush(&mut self, cx: &mut Cx, links: &mut Links) {
        for (&id, fetch) in &mut self.table {
            if fetch.trimmed.is_some() {
                continue;
            }
            // In turn, one question at a time; the others' parts have nothing to ask.
            let turn = match &fetch.locations {
                None => None,
                Some(_) if fetch.parts.values().any(|p| p.questions().next().is_some()) => continue,
                Some(locations) => match locations.next(fetch.parts.keys().copied()) {
                    Next::Ask(shard, from, to) => Some((shard, from, to)),
                    Next::Nothing | Next::Nowhere => continue,
                },
            };
            let room = cx.cfg.prefetch_bytes / fetch.parts.len().max(1);
            let chunk = (room / WINDOWS).clamp(CHUNK.0, CHUNK.1);
            for (&shard, part) in &mut fetch.parts {
                if turn.is_some_and(|(of, ..)| of != shard) {
                    continue;
                }
                while let Some(due) = match turn {
                    None => part.due(cx.now, fetch.to, room, chunk),
                    Some((_, from, to)) => part.due_in_turn(cx.now, from, to, chunk),
                } {
                    let start = self.first_choice.wrapping_add(shard.0 as usize).wrapping_add(due.choice);
                    let Some(link) = links.pick(cx, shard, start) else { break };
                    let (request, from, to) = (cx.request(), due.from, due.to);
                    part.asked(&due, request);
                    // Only where the range was cut may a batch lie across; elsewhere whoever asked for what comes
                    // before has it.
                    let begun_within = from != fetch.mid;
                    let question = Read { request, shard, from, to, max_bytes: chunk as u32, begun_within };
                    links.send_message(cx, link, question.clone());
                    self.asked.insert(request, Asked { fetch: id, shard, link, question, since: cx.now });
                }
            }
        }
    }

    /// An answer. One that nobody waits for any more is dropped.
    pub fn answer(&mut self, cx: &mut Cx, links: &Links, link: LinkId, m: &ReadIs, payload: Bytes) {
        if self.asked.get(&m.request).is_none_or(|a| a.link != link) {
            return;
        }
        let asked = self.asked.remove(&m.request).expect("just seen");
        let fetch = self.table.get_mut(&asked.fetch).expect("closed fetches withdraw their questions");
        let part = fetch.parts.get_mut(&asked.shard).expect("parts stay as long as their fetch");
        match checked::batches(&asked.question, m, payload) {
            Err(what) => {
                tracing::warn!(replica = links.addr(link), shard = %m.shard, from = %m.from, what, "bad answer to a read");
                cx.metrics.damaged += 1;
                part.failed(cx, m.request);
            }
            Ok(batches) => {
                let end = |first: &Gsn, placed: &PlacedBatch| first.plus(u64::from(placed.batch.count()));
                let mut forget = None;
                if let Some(locations) = fetch.locations.as_mut().filter(|_| m.end != ReadEnd::Trimmed) {
                    let held: Vec<_> = batches.iter().map(|(first, p)| (*first, end(first, p))).collect();
                    forget = locations.learned(asked.shard, m.from, m.covers, &held);
                    self.likely = locations.likely();
                }
                part.answered(m.request, m.covers, batches);
                match m.end {
                    ReadEnd::Trimmed => fetch.trimmed = Some(m.covers.max(fetch.trimmed.unwrap_or_default())),
                    ReadEnd::Complete | ReadEnd::More => part.succeeded(m.request, m.end),
                    ReadEnd::NotYet | ReadEnd::Unavailable | ReadEnd::Invalid => part.failed(cx, m.request),
                }
                if let Some(forget) = forget {
                    fetch.parts.values_mut().for_each(|p| p.forget(forget));
                }
            }
        }
    }

    /// What was asked there is asked elsewhere.
    pub fn link_lost(&mut self, cx: &mut Cx, link: LinkId) {
        let lost: Vec<_> = self.asked.iter().filter(|(_, a)| a.link == link).map(|(r, _)| *r).collect();
        for request in lost {
            let asked = self.asked.remove(&request).expect("just seen");
            let fetch = self.table.get_mut(&asked.fetch).expect("closed fetches withdraw their questions");
            fetch.parts.get_mut(&asked.shard).expect("parts stay as long as their fetch").failed(cx, request);
        }
    }

    /// A replica that doesn't answer is cut off, which sends its questions elsewhere.
    pub fn tick(&mut self, cx: &mut Cx) {
        for asked in self.asked.values().filter(|a| a.since + cx.cfg.request_timeout <= cx.now) {
            cx.condemned.insert(asked.link);
        }
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        let answers =
            self.asked.values().map(|a| (a.since + cx.cfg.request_timeout, "a read takes too long"));
        let parts = self.table.values().flat_map(|f| f.parts.values());
        let retries = parts.filter_map(|p| p.retry_at(cx.now));
        answers.chain(retries.map(|t| (t, "read again"))).min_by_key(|d| d.0)
    }
}
