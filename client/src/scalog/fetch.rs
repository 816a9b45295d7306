//! How are the records of a range of positions had? From each shard that may hold some, in parallel, a
//! bounded piece at a time, checked, and merged by position. Whatever fails is asked of another replica.

use super::cx::Cx;
use super::links::{LinkId, Links};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::{Read, ReadEnd, ReadIs};
use zoolog_core::{Gsn, Instant, LaneId, Lsn, ShardId};

/// Pause before a range is asked for again, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));
/// Payload bytes asked of one shard at a time, least and most.
const CHUNK: (usize, usize) = (64 << 10, 1 << 20);

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

/// What one shard contributes to a range.
#[derive(Debug)]
struct Part {
    /// All that the shard has before this position is in `batches`, or was handed out.
    covers: Gsn,
    batches: VecDeque<(Gsn, PlacedBatch)>,
    bytes: usize,
    /// Per lane: where its next batch must begin, and the checksum it must refer to.
    chain: BTreeMap<LaneId, (Lsn, u32)>,
    asked: Option<u64>,
    retry_at: Instant,
    /// Failures since the last success.
    fails: u32,
    /// Failures so far; moves the choice of replica on.
    failed: usize,
}

impl Part {
    fn new(covers: Gsn, now: Instant) -> Self {
        let (batches, chain) = (VecDeque::new(), BTreeMap::new());
        Self { covers, batches, bytes: 0, chain, asked: None, retry_at: now, fails: 0, failed: 0 }
    }

    fn failed(&mut self, cx: &mut Cx) {
        cx.metrics.reread += 1;
        let pause = cx.pause(RETRY.0, RETRY.1, self.fails);
        (self.asked, self.retry_at) = (None, cx.now + pause);
        (self.fails, self.failed) = (self.fails.saturating_add(1), self.failed.wrapping_add(1));
    }
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
}

#[derive(Debug)]
struct Asked {
    fetch: FetchId,
    shard: ShardId,
    link: LinkId,
    from: Gsn,
    to: Gsn,
    since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Fetches {
    table: BTreeMap<FetchId, Fetch>,
    asked: BTreeMap<u64, Asked>,
    next: u64,
    /// Which replica this client asks first: differs between clients.
    first_choice: usize,
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
        self.table.insert(id, Fetch { next: from, to: from, mid: from, only, parts, trimmed: None });
        self.extend(cx, view, id, to);
        id
    }

    /// Moves the end of the range on, and takes shards in that the view has added.
    pub fn extend(&mut self, cx: &Cx, view: &View, id: FetchId, to: Gsn) {
        let fetch = self.table.get_mut(&id).expect("fetches are extended while they are open");
        if fetch.next == fetch.to {
            fetch.mid = fetch.to;
        }
        fetch.to = fetch.to.max(to);
        for shard in &view.shards {
            let outside = match &shard.state {
                ShardState::Live => false,
                ShardState::Finalized(f) => f.end <= fetch.next || fetch.to <= f.first,
            };
            if !outside && fetch.only.is_none_or(|o| o == shard.id) {
                fetch.parts.entry(shard.id).or_insert_with(|| Part::new(fetch.next, cx.now));
            }
        }
    }

    /// A shard that was missing when a range was opened may hold part of it.
    pub fn view_changed(&mut self, cx: &Cx, view: &View) {
        for id in self.table.keys().copied().collect::<Vec<_>>() {
            let to = self.table[&id].to;
            self.extend(cx, view, id, to);
        }
    }

    /// Where the range ends.
    pub fn end(&self, id: FetchId) -> Gsn {
        self.table[&id].to
    }

    pub fn close(&mut self, id: FetchId) {
        if let Some(fetch) = self.table.remove(&id) {
            for asked in fetch.parts.values().filter_map(|p| p.asked) {
                self.asked.remove(&asked);
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
        let next = fetch.next;
        let (mut overlap, mut nowhere) = (false, !fetch.parts.is_empty());
        for part in fetch.parts.values_mut() {
            nowhere &= part.covers > next;
            let Some((first, placed)) = part.batches.front() else { continue };
            let end = first.plus(u64::from(placed.batch.count()));
            if *first == next || (*first < next && next < end && next == fetch.mid) {
                let (first, placed) = part.batches.pop_front().expect("just seen");
                part.bytes -= placed.encoded_len();
                fetch.next = end.min(fetch.to);
                return Step::Batch(first, placed);
            }
            overlap |= *first < next;
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
            if let Some(asked) = part.asked {
                self.asked.remove(&asked);
            }
            let (fails, failed) = (part.fails, part.failed);
            *part = Part { fails, failed, ..Part::new(fetch.next, cx.now) };
            part.failed(cx);
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
            let chunk = (cx.cfg.prefetch_bytes / fetch.parts.len().max(1)).clamp(CHUNK.0, CHUNK.1);
            for (&shard, part) in &mut fetch.parts {
                let due = part.asked.is_none() && part.retry_at <= cx.now && part.bytes < chunk;
                if !due || part.covers >= fetch.to || fetch.trimmed.is_some() {
                    continue;
                }
                let start = self.first_choice.wrapping_add(shard.0 as usize).wrapping_add(part.failed);
                let Some(link) = links.pick(cx, shard, start) else { continue };
                let (request, from, to) = (cx.request(), part.covers, fetch.to);
                part.asked = Some(request);
                self.asked.insert(request, Asked { fetch: id, shard, link, from, to, since: cx.now });
                links.send_message(cx, link, Read { request, shard, from, to, max_bytes: chunk as u32 });
            }
        }
    }

    /// An answer. One that nobody waits for any more is dropped.
    pub fn answer(&mut self, cx: &mut Cx, links: &Links, link: LinkId, m: &ReadIs, payload: Bytes) {
        let Some(asked) = self.asked.get(&m.request).filter(|a| a.link == link) else { return };
        let asked = Asked { ..*asked };
        self.asked.remove(&m.request);
        let fetch = self.table.get_mut(&asked.fetch).expect("closed fetches withdraw their questions");
        let part = fetch.parts.get_mut(&asked.shard).expect("parts stay as long as their fetch");
        part.asked = None;
        match checked(part, &asked, m, payload) {
            Err(what) => {
                tracing::warn!(replica = links.addr(link), shard = %m.shard, from = %m.from, what, "bad answer to a read");
                cx.metrics.damaged += 1;
                part.failed(cx);
            }
            Ok(batches) => {
                for (first, placed) in batches {
                    let end = first.plus(u64::from(placed.batch.count()));
                    part.chain.insert(placed.placement.lane, (placed.end_lsn(), placed.placement.crc));
                    // What was handed out of a batch that straddles two answers is not taken again.
                    if end > fetch.next && part.batches.back().is_none_or(|(f, _)| *f < first) {
                        part.bytes += placed.encoded_len();
                        part.batches.push_back((first, placed));
                    }
                }
                match m.end {
                    ReadEnd::Trimmed => fetch.trimmed = Some(m.covers.max(fetch.trimmed.unwrap_or_default())),
                    ReadEnd::Complete | ReadEnd::More => (part.covers, part.fails) = (m.covers, 0),
                    ReadEnd::NotYet | ReadEnd::Unavailable => {
                        part.covers = m.covers;
                        part.failed(cx);
                    }
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
            fetch.parts.get_mut(&asked.shard).expect("parts stay as long as their fetch").failed(cx);
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
        let parts = self.table.values().flat_map(|f| f.parts.values().filter(|p| p.covers < f.to));
        let retries = parts.filter(|p| p.asked.is_none() && p.retry_at > cx.now);
        answers.chain(retries.map(|p| (p.retry_at, "read again"))).min_by_key(|d| d.0)
    }
}

/// The batches of an answer, if every one of them is sound and in its place. Invariant LOG-4.
fn checked(
    part: &Part,
    asked: &Asked,
    m: &ReadIs,
    mut payload: Bytes,
) -> Result<Vec<(Gsn, PlacedBatch)>, &'static str> {
    if m.shard != asked.shard || m.from != asked.from || m.covers < m.from {
        return Err("it answers another question");
    }
    let limits_kept = match m.end {
        ReadEnd::Complete => m.covers == asked.to,
        ReadEnd::More => m.from < m.covers && m.covers < asked.to,
        ReadEnd::NotYet => m.covers <= asked.to,
        ReadEnd::Trimmed => m.from < m.covers && m.gsns.is_empty(),
        ReadEnd::Unavailable => m.covers <= asked.to,
    };
    if !limits_kept {
        return Err("its range and its end don't fit");
    }
    let (mut batches, mut chain, mut end) = (Vec::new(), part.chain.clone(), Gsn(0));
    for &first in &m.gsns {
        let placed = PlacedBatch::check_next(&mut payload).map_err(|_| "a batch is damaged")?;
        let (place, count) = (placed.placement, u64::from(placed.batch.count()));
        if place.lane.shard() != m.shard {
            return Err("a batch of another shard");
        }
        let behind = Gsn(first.0.checked_add(count).ok_or("a position beyond all")?);
        if first < end || first >= m.covers || behind <= m.from {
            return Err("a batch outside the range, or out of order");
        }
        if place.first_lsn.0.checked_add(count).is_none() {
            return Err("an LSN beyond all");
        }
        match chain.get(&place.lane) {
            // The answer before ended within this batch.
            Some(&(lsn, crc)) if placed.end_lsn() == lsn && place.crc == crc && batches.is_empty() => {}
            Some(&(lsn, crc)) if place.first_lsn == lsn && place.prev == crc => {}
            Some(_) => return Err("a lane's batches don't follow each other"),
            None => {}
        }
        chain.insert(place.lane, (placed.end_lsn(), place.crc));
        end = behind;
        batches.push((first, placed));
    }
    if !payload.is_empty() {
        return Err("bytes behind the last batch");
    }
    Ok(batches)
}
