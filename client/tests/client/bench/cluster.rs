//! A whole cluster as a simple model: lanes are lists of batches, replicas hold prefixes of them, cuts are
//! made whenever chance says so, and any connection may end at any time. It asserts what clients owe it.

use super::*;
use std::collections::btree_map::Entry;
use zoolog_core::batch::Batch;
use zoolog_core::cut::Order;
use zoolog_core::rng::Rng;
use zoolog_core::view::Final;
use zoolog_core::wire::*;

/// How often what goes wrong, in percent of steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub close: u64,
    pub damage: u64,
    pub refuse: u64,
    pub unavailable: u64,
    pub mute: u64,
    /// Shards end, and others take their place.
    pub end: u64,
    /// A replica can't be reached for a while.
    pub away: u64,
}

/// What a lane has of a writer.
#[derive(Default)]
struct Window {
    epoch: Epoch,
    /// (seq, first LSN), ascending; dense but for a fence.
    batches: Vec<(Seq, Lsn)>,
    fence: Option<Lsn>,
}

impl Window {
    fn next(&self) -> Seq {
        self.batches.last().map_or(Seq(0), |b| b.0.next())
    }
}

#[derive(Default)]
struct Lane {
    batches: Vec<PlacedBatch>,
    /// Batches that each replica holds durably.
    durable: [usize; 2],
    writers: BTreeMap<WriterId, Window>,
}

impl Lane {
    fn end(&self) -> Lsn {
        self.batches.last().map_or(Lsn(0), |b| b.end_lsn())
    }
    fn len_of(&self, batches: usize) -> u64 {
        if batches == 0 { 0 } else { self.batches[batches - 1].end_lsn().0 }
    }
    fn place(&mut self, id: LaneId, batch: Batch) {
        let prev = self.batches.last().map_or(0, |b| b.placement.crc);
        let placed = PlacedBatch::place(id, Incarnation(1), self.end(), prev, batch);
        let (epoch, lsn) = (placed.batch.epoch(), placed.placement.first_lsn);
        let w = self.writers.entry(placed.batch.writer()).or_default();
        if epoch > w.epoch {
            *w = Window { epoch, ..Window::default() };
        }
        w.batches.push((placed.batch.seq(), lsn));
        if placed.batch.kind() == BatchKind::Fence {
            w.fence = Some(lsn);
        }
        self.batches.push(placed);
    }
    /// It ends there: what lies beyond is let go.
    fn end_at(&mut self, len: u64) {
        self.batches.retain(|b| b.placement.first_lsn.0 < len);
        self.durable = [self.batches.len(); 2];
        for w in self.writers.values_mut() {
            w.batches.retain(|b| b.1.0 < len);
            w.fence.take_if(|lsn| lsn.0 >= len);
        }
    }
    /// Index of the batch that begins at `lsn`.
    fn at(&self, lsn: Lsn) -> usize {
        let i = self.batches.partition_point(|b| b.end_lsn() <= lsn);
        let boundary = self.batches.get(i).map_or(self.end(), |b| b.placement.first_lsn);
        assert_eq!(boundary, lsn, "subscriptions begin where batches begin");
        i
    }
}

struct Stream {
    /// Next batch of each lane.
    at: Vec<usize>,
    credit: Vec<usize>,
}

#[derive(Default)]
struct Conn {
    hello: bool,
    streams: BTreeMap<ShardId, Stream>,
    /// Next number to acknowledge.
    writers: BTreeMap<(WriterId, LaneId), Seq>,
    watching: bool,
    /// It watches no cuts.
    views_only: bool,
    tails: Vec<u64>,
    to_client: VecDeque<Bytes>,
    /// Doesn't get or give anything any more, but stays open.
    mute: bool,
}

pub struct Cluster {
    pub bench: Bench,
    pub rng: Rng,
    pub view: View,
    pub order: Order,
    pub faults: Faults,
    cuts: Vec<Cut>,
    lanes: BTreeMap<LaneId, Lane>,
    conns: BTreeMap<ConnId, Conn>,
    leader: usize,
    /// Every batch ever sent by a writer, to compare what it sends again.
    seen: BTreeMap<(WriterId, Epoch, Seq), Bytes>,
    /// Who can't be reached.
    away: Option<String>,
    others: u64,
    credit: usize,
    /// Tail when each tail request was made, by the client's number.
    pub asked_tails: BTreeMap<zoolog_client::RequestId, Gsn>,
}

impl Cluster {
    pub fn new(cfg: ClientConfig, seed: u64, shards: u32) -> Self {
        let credit = cfg.subscribe_credit_bytes as usize;
        let view = view(1, shards);
        let lanes = view.live().flat_map(|s| s.lanes()).map(|l| (l, Lane::default())).collect();
        Self {
            bench: Bench::new(cfg, seed),
            rng: Rng::new(seed, "cluster"),
            view,
            order: Order::default(),
            faults: Faults::default(),
            cuts: Vec::new(),
            lanes,
            conns: BTreeMap::new(),
            leader: 0,
            seen: BTreeMap::new(),
            away: None,
            others: 0,
            credit,
            asked_tails: BTreeMap::new(),
        }
    }

    /// The committed records, in order: the truth. Fences are none.
    pub fn truth(&self) -> Vec<Option<Bytes>> {
        let mut out = Vec::new();
        for run in self.cuts.iter().flat_map(|c| c.runs().collect::<Vec<_>>()) {
            for b in &self.lanes[&run.lane].batches {
                let first = b.placement.first_lsn;
                if first >= run.first_lsn && first.0 < run.first_lsn.0 + run.count {
                    let data = b.batch.kind() == BatchKind::Data;
                    out.extend(b.batch.records().map(|r| data.then_some(r)));
                }
            }
        }
        out
    }

    fn replicas_of(&self, addr: &str) -> Vec<(ShardId, usize)> {
        let of = |s: &ShardView| s.replicas.iter().position(|r| r.addr == addr).map(|i| (s.id, i));
        self.view.shards.iter().filter_map(of).collect()
    }

    fn reply(&mut self, conn: ConnId, message: impl Into<Message>) {
        self.reply_with(conn, message, &[]);
    }

    fn reply_with(&mut self, conn: ConnId, message: impl Into<Message>, batches: &[PlacedBatch]) {
        let mut payload = encoded(batches);
        if !payload.is_empty() && self.rng.chance(self.faults.damage) {
            let (mut bytes, bit) = (payload.to_vec(), self.rng.below(payload.len() as u64 * 8));
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
            payload = bytes.into();
        }
        let parts: &[&[u8]] = if payload.is_empty() { &[] } else { &[&payload] };
        let frame = encode_with(message, parts);
        if let Some(c) = self.conns.get_mut(&conn) {
            c.to_client.push_back(frame);
        }
    }

    /// Another writer's batch.
    pub fn other_append(&mut self) {
        let lanes: Vec<_> = self.view.live().flat_map(|s| s.lanes()).collect();
        let id = lanes[self.rng.below(lanes.len() as u64) as usize];
        self.others += 1;
        let mut b = BatchBuilder::new();
        for i in 0..self.rng.between(1, 5) {
            b.push(format!("other {} {i}", self.others).as_bytes());
        }
        let lane = self.lanes.get_mut(&id).unwrap();
        let writer = WriterId(u128::from(id.0));
        let seq = lane.writers.get(&writer).map_or(Seq(0), Window::next);
        lane.place(id, b.finish(BatchKind::Data, writer, Epoch(0), seq));
    }

    /// One replica of one lane takes one more batch to disk.
    fn replicate(&mut self) {
        let lanes: Vec<_> = self.lanes.keys().copied().collect();
        let lane = self.lanes.get_mut(&lanes[self.rng.below(lanes.len() as u64) as usize]).unwrap();
        let r = self.rng.below(2) as usize;
        lane.durable[r] = (lane.durable[r] + 1).min(lane.batches.len());
    }

    pub fn make_cut(&mut self) {
        let grown = self.lanes.iter().filter_map(|(&id, l)| {
            let (from, to) = (self.order.len(id), l.len_of(l.durable[0].min(l.durable[1])));
            (to > from).then_some((id, from, to))
        });
        let grown: Vec<_> = grown.collect();
        if grown.is_empty() {
            return;
        }
        let cut = cut(self.order.number.0 + 1, self.order.tail.0, self.view.number.0, &grown);
        self.order.apply(&cut).unwrap();
        let hears = |c: &Conn| c.watching && !c.views_only;
        let watchers: Vec<_> = self.conns.iter().filter(|(_, c)| hears(c)).map(|(id, _)| *id).collect();
        for conn in watchers {
            // As a whole if it doesn't fit, or now and then: who follows takes either.
            match Grown::of(&cut).filter(|_| self.rng.chance(80)) {
                Some(grown) => self.reply(conn, grown),
                None => self.reply(conn, CutIs { cut: cut.clone() }),
            }
        }
        self.cuts.push(cut);
    }

    fn gsn(&self, lane: LaneId, lsn: Lsn) -> Option<Gsn> {
        let runs = self.cuts.iter().flat_map(|c| c.runs().collect::<Vec<_>>());
        let run = runs
            .into_iter()
            .find(|r| r.lane == lane && lsn >= r.first_lsn && lsn.0 < r.first_lsn.0 + r.count)?;
        Some(run.first_gsn.plus(lsn.since(run.first_lsn)))
    }

    fn shard_batches(&self, shard: ShardId, from: Gsn, to: Gsn) -> Vec<(Gsn, PlacedBatch)> {
        let mut out = Vec::new();
        for run in
            self.cuts.iter().flat_map(|c| c.runs().collect::<Vec<_>>()).filter(|r| r.lane.shard() == shard)
        {
            for b in &self.lanes[&run.lane].batches {
                let first = b.placement.first_lsn;
                if first >= run.first_lsn && first.0 < run.first_lsn.0 + run.count {
                    let gsn = run.first_gsn.plus(first.since(run.first_lsn));
                    if gsn < to && gsn.0 + u64::from(b.batch.count()) > from.0 {
                        out.push((gsn, b.clone()));
                    }
                }
            }
        }
        out
    }

    fn on_read(&mut self, conn: ConnId, m: Read) {
        let (request, shard, from) = (m.request, m.shard, m.from);
        if self.rng.chance(self.faults.unavailable) {
            let (covers, end) = (from, ReadEnd::Unavailable);
            return self.reply(conn, ReadIs { request, shard, from, covers, end, gsns: vec![] });
        }
        // A replica may be a cut behind.
        let lag = self.rng.chance(20) && self.cuts.len() > 1;
        let known = if lag { self.cuts[self.cuts.len() - 1].base } else { self.order.tail };
        let mut covers = m.to.min(known.max(from));
        let mut end = if covers == m.to { ReadEnd::Complete } else { ReadEnd::NotYet };
        let mut all = self.shard_batches(shard, from, covers);
        all.retain(|(first, _)| !m.begun_within || *first >= from);
        let keep = self.rng.between(1, 6) as usize;
        if all.len() > keep {
            all.truncate(keep);
            covers = all[keep - 1].0.plus(u64::from(all[keep - 1].1.batch.count()));
            end = ReadEnd::More;
        }
        let (gsns, batches): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        self.reply_with(conn, ReadIs { request, shard, from, covers, end, gsns }, &batches);
    }

    fn on_append(&mut self, conn: ConnId, m: Append, payload: Bytes) {
        let batch = Batch::check(payload.clone()).expect("writers send sound batches");
        let (writer, epoch, seq) = (batch.writer(), batch.epoch(), batch.seq());
        match self.seen.entry((writer, epoch, seq)) {
            Entry::Vacant(v) => drop(v.insert(payload)),
            Entry::Occupied(o) => {
                assert_eq!(*o.get(), payload, "batch {seq} was sent again with other bytes")
            }
        }
        let refuse = self.rng.chance(self.faults.refuse);
        let live = self.is_live(m.lane);
        let lane = self.lanes.get_mut(&m.lane).unwrap();
        let known = lane.writers.get(&writer).filter(|w| w.epoch >= epoch);
        let have = known.map_or(m.start, Window::next);
        let is_in = known.is_some_and(|w| w.batches.iter().any(|b| b.0 == seq && w.fence != Some(b.1)));
        let over = known.is_some_and(|w| w.epoch > epoch || w.fence.is_some());
        let why = match () {
            () if !live || (over && !is_in) => Some(AppendRefusedWhy::Closed),
            () if seq > have => Some(AppendRefusedWhy::Gap),
            () if refuse => Some(AppendRefusedWhy::Recovering),
            () => None,
        };
        if let Some(why) = why {
            return self.reply(conn, AppendRefused { lane: m.lane, writer, seq, why, expected: have });
        }
        if !is_in {
            assert_eq!(seq, have, "what comes before the window was acknowledged, or is elsewhere");
            lane.place(m.lane, batch);
        }
        let from = self.conns.get_mut(&conn).unwrap().writers.entry((writer, m.lane)).or_insert(seq);
        *from = (*from).min(seq);
    }

    fn is_live(&self, lane: LaneId) -> bool {
        self.view.shard(lane.shard()).is_some_and(|s| s.state == ShardState::Live)
    }

    fn on_fence(&mut self, lane: LaneId, payload: Bytes) {
        let fence = Batch::check(payload).expect("writers send sound fences");
        let away = self.view.shard(lane.shard()).map(|s| &s.replicas[usize::from(lane.index())].addr);
        if !self.is_live(lane) || away == self.away.as_ref() {
            return;
        }
        let at = self.lanes.get_mut(&lane).unwrap();
        let open = at.writers.get(&fence.writer()).is_none_or(|w| {
            assert!(
                w.epoch != fence.epoch() || w.fence.is_some() || w.next() <= fence.seq(),
                "a number used"
            );
            w.epoch < fence.epoch() || (w.epoch == fence.epoch() && w.fence.is_none())
        });
        if open {
            at.place(lane, fence);
        }
    }

    fn on_resolve(&mut self, conn: ConnId, m: Resolve) {
        let committed = self.order.len(m.lane);
        let w = self.lanes[&m.lane].writers.get(&m.writer).filter(|w| w.epoch == m.epoch);
        let over = w.and_then(|w| w.fence).is_some_and(|lsn| lsn.0 < committed);
        let end = match self.is_live(m.lane) {
            true if !over => ResolveEnd::Open,
            _ if self.rng.chance(self.faults.unavailable) => ResolveEnd::NotReady,
            _ => ResolveEnd::Final,
        };
        let mut acks = Vec::new();
        if let (ResolveEnd::Final, Some(w)) = (end, w) {
            let is_in = |b: &&(Seq, Lsn)| b.0 >= m.from && b.1.0 < committed && w.fence != Some(b.1);
            acks.extend(w.batches.iter().filter(is_in).map(|b| (b.0, self.gsn(m.lane, b.1).unwrap())));
        }
        self.reply(
            conn,
            Resolved {
                request: m.request,
                lane: m.lane,
                writer: m.writer,
                end,
                acks,
                tail: None,
                newest: None,
            },
        );
    }

    /// A shard that takes appends ends, and another takes its place.
    pub fn end_shard(&mut self) {
        let live: Vec<ShardId> = self.view.live().map(|s| s.id).collect();
        let id = live[self.rng.below(live.len() as u64) as usize];
        let next = self.view.shards.last().unwrap().id.0 + 1;
        let end = self.order.tail;
        for s in self.view.shards.iter_mut().filter(|s| s.id == id) {
            let lens: Vec<u64> = s.lanes().map(|l| self.order.len(l)).collect();
            s.state = ShardState::Finalized(Final { lens: lens.clone(), first: Gsn(0), end });
            for (lane, len) in s.lanes().zip(lens) {
                self.lanes.get_mut(&lane).unwrap().end_at(len);
            }
        }
        let mut new = view(0, next).shards.pop().unwrap();
        if self.rng.chance(50) {
            // On the same servers as another.
            let other = self.view.shards[self.rng.below(u64::from(next) - 1) as usize].replicas.clone();
            new.replicas = other;
        }
        self.lanes.extend(new.lanes().map(|l| (l, Lane::default())));
        self.view.shards.push(new);
        self.view.number = self.view.number.next();
        let watchers: Vec<_> = self.conns.iter().filter(|(_, c)| c.watching).map(|(id, _)| *id).collect();
        for conn in watchers {
            self.reply(conn, ViewIs { view: self.view.clone() });
        }
        // What it pushed beyond its end it doesn't count on.
        for c in self.conns.values_mut() {
            let Some(stream) = c.streams.get_mut(&id) else { continue };
            for (i, at) in stream.at.iter_mut().enumerate() {
                *at = (*at).min(self.lanes[&LaneId::new(id, i as u8)].batches.len());
            }
        }
    }

    fn on_message(&mut self, conn: ConnId, packet: Packet) {
        let addr = self.bench.up[&conn].clone();
        let c = self.conns.entry(conn).or_default();
        if let Message::Hello(m) = &packet.message {
            assert!(m.role == Role::Client && !c.hello);
            c.hello = true;
            return;
        }
        assert!(c.hello, "{} before Hello", packet.message.name());
        let views_only = matches!(packet.message, Message::WatchViews(_));
        match packet.message {
            Message::WatchGrowth(WatchGrowth { request }) | Message::WatchViews(WatchViews { request })
                if addr == ORDERERS[self.leader] =>
            {
                (c.watching, c.views_only) = (true, views_only);
                let lens: Vec<_> = self.order.lens.iter().map(|(l, n)| (*l, *n)).collect();
                let (number, tail) = (self.order.number.0, self.order.tail.0);
                let answer = order_is(request, number, tail, self.view.clone(), &lens);
                self.reply(conn, answer);
            }
            Message::WatchGrowth(_) | Message::WatchViews(_) => {
                let leader = self.rng.chance(50).then(|| ORDERERS[self.leader].to_owned());
                self.reply(conn, NotLeader { leader });
            }
            Message::Tail(m) => c.tails.push(m.request),
            Message::Status(m) => self.reply(conn, StatusIs { request: m.request, json: "{}".into() }),
            Message::Append(m) => self.on_append(conn, m, packet.payload),
            Message::Fence(m) => self.on_fence(m.lane, packet.payload),
            Message::Resolve(m) => self.on_resolve(conn, m),
            Message::Read(m) => self.on_read(conn, m),
            Message::Subscribe(m) => {
                let mut at = Vec::new();
                for (i, &lsn) in m.from.iter().enumerate() {
                    let id = LaneId::new(m.shard, i as u8);
                    assert!(
                        lsn.0 <= self.order.len(id),
                        "{id}: uncommitted batches of an old stream were kept"
                    );
                    at.push(self.lanes[&id].at(lsn));
                }
                assert!(m.credit as usize <= self.credit);
                c.streams.insert(m.shard, Stream { credit: vec![m.credit as usize; at.len()], at });
            }
            Message::Credit(m) => {
                let credit =
                    &mut c.streams.get_mut(&m.lane.shard()).unwrap().credit[usize::from(m.lane.index())];
                *credit += m.bytes as usize;
                assert!(*credit <= self.credit, "{}: {credit} bytes of credit at once", m.lane);
            }
            other => panic!("unexpected {}", other.name()),
        }
    }

    /// A replica pushes what it may of one lane of one stream, and acknowledges what it can.
    fn serve(&mut self, conn: ConnId) {
        let here = self.replicas_of(&self.bench.up[&conn]);
        if here.is_empty() {
            return self.answer_tails(conn);
        }
        let (shard, r) = here[self.rng.below(here.len() as u64) as usize];
        let index = self.rng.below(2) as u8;
        let id = LaneId::new(shard, index);
        let lane = &self.lanes[&id];
        let Some(c) = self.conns.get_mut(&conn) else { return };
        let mut push = Vec::new();
        if let Some(stream) = c.streams.get_mut(&shard) {
            let (at, credit) = (&mut stream.at[usize::from(index)], &mut stream.credit[usize::from(index)]);
            while *at < lane.durable[r] && push.len() < 3 && lane.batches[*at].encoded_len() <= *credit {
                *credit -= lane.batches[*at].encoded_len();
                push.push(lane.batches[*at].clone());
                *at += 1;
            }
        }
        if !push.is_empty() {
            self.reply_with(conn, Push { lane: id }, &push);
        }
        let writers: Vec<_> = self.conns[&conn].writers.iter().map(|(k, v)| (*k, *v)).collect();
        for ((writer, id), next) in writers {
            let Some(w) = self.lanes[&id].writers.get(&writer) else { continue };
            let entries = w.batches.iter().filter(|b| b.0 >= next && w.fence != Some(b.1));
            let acks: Vec<_> = entries.map_while(|&(seq, lsn)| Some((seq, self.gsn(id, lsn)?))).collect();
            if let Some(&(newest, _)) = acks.last() {
                self.conns.get_mut(&conn).unwrap().writers.insert((writer, id), newest.next());
                self.reply(conn, Appended { writer, acks });
            }
        }
    }

    fn answer_tails(&mut self, conn: ConnId) {
        let gsn = self.order.tail;
        for request in self.conns.get_mut(&conn).map(|c| std::mem::take(&mut c.tails)).unwrap_or_default() {
            self.reply(conn, TailIs { request, gsn });
        }
    }

    pub fn close(&mut self, conn: ConnId) {
        self.conns.remove(&conn);
        self.bench.close(conn);
    }

    pub fn elect(&mut self, leader: usize) {
        let old: Vec<_> =
            self.bench.up.iter().filter(|(_, a)| **a == ORDERERS[self.leader]).map(|(c, _)| *c).collect();
        self.leader = leader;
        old.into_iter().for_each(|c| self.close(c));
    }

    fn any_conn(&mut self) -> Option<ConnId> {
        let n = self.bench.up.len() as u64;
        (n > 0).then(|| *self.bench.up.keys().nth(self.rng.below(n) as usize).unwrap())
    }

    fn muted(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|c| c.mute)
    }

    /// One thing happens somewhere.
    pub fn step(&mut self) {
        match self.rng.below(100) {
            0..25 => {
                if let Some(conn) = self.any_conn().filter(|&c| !self.muted(c))
                    && let Some(packet) = self.bench.sent.get_mut(&conn).and_then(VecDeque::pop_front)
                {
                    self.on_message(conn, packet);
                }
            }
            25..55 => {
                if let Some(conn) = self.any_conn().filter(|&c| !self.muted(c)) {
                    let frame = self.conns.get_mut(&conn).and_then(|c| c.to_client.pop_front());
                    if let Some(bytes) = frame {
                        self.bench.input(Input::Frame { conn, bytes });
                    }
                }
            }
            55..65 => {
                if let Some(conn) = self.any_conn().filter(|&c| !self.muted(c)) {
                    self.serve(conn);
                }
            }
            65..72 => {
                let dial = self.bench.dials.keys().next().copied();
                match dial {
                    Some(conn) if self.away.as_ref() == Some(&self.bench.dials[&conn]) => self.close(conn),
                    Some(conn) if self.rng.chance(self.faults.close * 5) => self.close(conn),
                    Some(conn) => {
                        self.bench.connected(conn);
                        self.conns.insert(conn, Conn::default());
                    }
                    None => {}
                }
                if let Some(conn) = self.bench.closing.first().copied() {
                    self.close(conn);
                }
            }
            72..84 => self.replicate(),
            84..88 => self.make_cut(),
            88..96 => {
                let us = self.rng.below(2000);
                self.bench.pass(Duration::from_micros(us));
            }
            _ => self.fault(),
        }
    }

    fn fault(&mut self) {
        let (close, mute) = (self.rng.chance(self.faults.close * 20), self.rng.chance(self.faults.mute * 20));
        if self.rng.chance(self.faults.end) {
            return self.end_shard();
        }
        if self.faults.away > 0 && self.rng.chance(if self.away.is_some() { 1 } else { self.faults.away }) {
            return self.go_away();
        }
        let Some(conn) = self.any_conn() else { return };
        if close {
            if self.rng.chance(20) {
                let leader = self.rng.below(3) as usize;
                return self.elect(leader);
            }
            self.close(conn);
        } else if mute && self.conns.values().filter(|c| c.mute).count() < 2 {
            self.conns.entry(conn).or_default().mute = true;
        }
    }

    /// A replica can't be reached any more, or the one that couldn't can be again.
    fn go_away(&mut self) {
        if self.away.take().is_some() {
            return;
        }
        let replicas: Vec<String> =
            self.view.live().flat_map(|s| s.replicas.iter().map(|r| r.addr.clone())).collect();
        let addr = replicas[self.rng.below(replicas.len() as u64) as usize].clone();
        let conns: Vec<_> = self.bench.up.iter().filter(|(_, a)| **a == addr).map(|(c, _)| *c).collect();
        conns.into_iter().for_each(|c| self.close(c));
        self.away = Some(addr);
    }

    /// No more faults; runs until `done`, which must come to be.
    pub fn settle(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        (self.faults, self.away) = (Faults::default(), None);
        for _ in 0..200_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!(
            "never came to: {what}; {:?}, next timer {:?}",
            self.bench.client.metrics(),
            self.bench.client.next_deadline()
        );
    }

    pub fn ask_tail(&mut self) {
        let request = self.bench.client.tail();
        self.asked_tails.insert(request, self.order.tail);
        self.bench.drain();
    }
}
