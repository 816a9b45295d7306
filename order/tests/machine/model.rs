//! What do honest slots and subscribers do, and what do they insist on? Models that follow the leader, and
//! panic when the order has a gap, a duplicate, or two opinions.

use crate::driver::{Sim, hello, node_at};
use std::collections::BTreeMap;
use zoolog_core::cut::{Cut, Order};
use zoolog_core::view::{ShardState, View};
use zoolog_core::wire::*;
use zoolog_core::{CutNumber, Gsn, Incarnation, ServerId, ShardId, SlotId, ViewNumber};

/// What everybody together has seen: one cut per number, for ever.
#[derive(Default)]
pub struct Truth {
    pub cuts: BTreeMap<CutNumber, Cut>,
    pub tail: Gsn,
    /// Where the log has ended, and what follows it.
    pub end: Option<(Gsn, String)>,
}

impl Truth {
    /// LOG-11: once, for good, with nothing behind it.
    pub fn ended(&mut self, m: &SealedIs) {
        let end = (m.tail, m.successor.clone());
        assert_eq!(*self.end.get_or_insert_with(|| end.clone()), end, "two opinions about the end");
        assert!(self.tail <= m.tail, "it ended at {}, and {} was cut", m.tail, self.tail);
        self.tail = m.tail;
    }

    fn saw(&mut self, cut: &Cut) {
        assert!(self.end.as_ref().is_none_or(|end| cut.end() <= end.0), "cut {cut:?} behind {:?}", self.end);
        let known = self.cuts.entry(cut.number).or_insert_with(|| cut.clone());
        assert_eq!(known, cut, "two opinions about one cut");
        self.tail = self.tail.max(cut.end());
    }
}

/// What a slot knows of one of its shards.
#[derive(Clone, Default)]
pub struct Replica {
    pub durable: Vec<u64>,
    pub committed: Vec<u64>,
    pub part: CutNumber,
    /// It takes nothing any more.
    pub ended: bool,
    end: Gsn,
}

/// Whom to try: a pointer is followed, else those that are known are tried in turn, then all there were.
fn whom(sim: &Sim, known: &[usize], next: usize) -> usize {
    let first = 0..sim.cfg.peers.len();
    let all: Vec<usize> = known.iter().copied().chain(first).collect();
    all[next % all.len()]
}

/// A slot; what it holds survives its restarts.
pub struct Slot {
    pub id: SlotId,
    pub incarnation: u64,
    /// Of its log. Another than the one known is refused.
    pub stamp: u64,
    pub dismissed: bool,
    pub shards: BTreeMap<ShardId, Replica>,
    /// Copies in the making.
    pub copies: BTreeMap<ShardId, Replica>,
    pub guest: Option<usize>,
    pub registered: bool,
    /// It does nothing at all.
    pub mute: bool,
    /// So many records of each lane it has taken and can't make durable.
    pub behind: u64,
    /// Whether it says that it takes appends.
    pub serving: bool,
    /// Which cuts it waits for.
    pub cuts: CutsWanted,
    /// First GSN that can be read, as the leader said.
    pub trim: Gsn,
    /// Who the orderers are, as the leader said last.
    pub orderers: Vec<usize>,
    /// The last cut seen over this connection.
    seen: CutNumber,
    first_report: bool,
    /// When it reported last.
    reported: zoolog_core::Instant,
    next: usize,
    /// Somebody said where the leader is.
    told: bool,
    hint: Option<usize>,
    retry_at: zoolog_core::Instant,
}

impl Slot {
    pub fn new(server: u32) -> Self {
        Self {
            id: SlotId { server: ServerId(server), index: 0 },
            incarnation: 1,
            stamp: 0,
            dismissed: false,
            shards: BTreeMap::new(),
            copies: BTreeMap::new(),
            guest: None,
            trim: Gsn(0),
            mute: false,
            behind: 0,
            serving: true,
            registered: false,
            // One of each kind.
            cuts: [CutsWanted::Late, CutsWanted::Own, CutsWanted::All][server as usize % 3],
            orderers: Vec::new(),
            seen: CutNumber(0),
            first_report: true,
            reported: zoolog_core::Instant(0),
            next: server as usize,
            told: false,
            hint: None,
            retry_at: zoolog_core::Instant(0),
        }
    }

    pub fn restart(&mut self, sim: &mut Sim) {
        self.disconnect(sim);
        self.incarnation += 1;
    }

    pub fn disconnect(&mut self, sim: &mut Sim) {
        if let Some(g) = self.guest.take() {
            sim.hang_up(g);
        }
        self.registered = false;
    }

    fn dial(&mut self, sim: &mut Sim) {
        if sim.now < self.retry_at {
            return;
        }
        self.retry_at = sim.now + std::time::Duration::from_millis(20);
        let to = self.hint.take().unwrap_or_else(|| whom(sim, &self.orderers, self.next));
        let g = sim.connect(to);
        sim.send(g, hello(Role::Slot, u64::from(self.id.server.0), self.incarnation));
        let parts = self.shards.iter().map(|(s, r)| (*s, r.part)).collect();
        let (slot, incarnation) = (self.id, Incarnation(self.incarnation));
        sim.send(
            g,
            Register {
                slot,
                incarnation,
                addr: format!("s{}:1", slot.server),
                domain: String::new(),
                stamp: self.stamp,
                parts,
            },
        );
        self.guest = Some(g);
        self.registered = false;
        self.first_report = true;
    }

    /// Takes what came, and keeps the connection going.
    pub fn step(&mut self, sim: &mut Sim, truth: &mut Truth) {
        let Some(g) = self.guest else { return self.dial(sim) };
        for m in sim.take(g) {
            match m {
                Message::NotLeader(n) => {
                    self.hint = n.leader.map(|a| node_at(&a));
                    self.next += usize::from(self.hint.is_none());
                    self.told = true;
                    sim.hang_up(g);
                }
                Message::ViewIs(v) => self.view(v.view),
                Message::PartsAre(p) => {
                    truth.tail = truth.tail.max(p.tail);
                    self.parts(p);
                }
                Message::CutIs(c) => self.cut(&c.cut, truth),
                Message::Refused(r) if r.why == RefusedWhy::Dismissed => {
                    assert!(self.stamp != 0, "an honest slot: {r:?}");
                    (self.dismissed, self.mute) = (true, true);
                }
                Message::Refused(r) => {
                    assert!(
                        matches!(r.why, RefusedWhy::Stale | RefusedWhy::NotReady),
                        "an honest slot: {r:?}"
                    );
                }
                Message::TrimIs(t) => {
                    assert!(t.gsn >= self.trim, "trim {} after {}", t.gsn, self.trim);
                    self.trim = t.gsn;
                }
                Message::OrderersAre(m) => {
                    self.orderers = m.orderers.iter().map(|o| node_at(&o.addr)).collect()
                }
                other => panic!("a slot got {other:?}"),
            }
        }
        if !sim.guests[g].open {
            self.guest = None;
            self.next += usize::from(!std::mem::take(&mut self.told));
            self.registered = false;
        }
    }

    fn view(&mut self, view: View) {
        self.registered = true;
        for s in view.shards.iter().filter(|s| s.replica_in(self.id).is_some()) {
            let zeros = vec![0; s.replicas.len()];
            let fresh = Replica { durable: zeros.clone(), committed: zeros, ..Replica::default() };
            let r = self.shards.entry(s.id).or_insert_with(|| self.copies.remove(&s.id).unwrap_or(fresh));
            if let ShardState::Finalized(f) = &s.state {
                assert!(
                    f.lens.iter().zip(&r.durable).all(|(f, d)| f <= d),
                    "LOG-2: it ends beyond what we hold"
                );
                assert!(!r.ended || r.durable == f.lens, "a finalized shard that moves");
                (r.durable, r.ended) = (f.lens.clone(), true);
            }
        }
        self.shards.retain(|id, _| view.shard(*id).is_some_and(|s| s.replica_in(self.id).is_some()));
        self.copies.retain(|id, _| view.shard(*id).is_some_and(|s| s.rebuilt_in(self.id).is_some()));
        for s in view.shards.iter().filter(|s| s.rebuilt_in(self.id).is_some()) {
            let zeros = vec![0; s.replicas.len()];
            let fresh = Replica { durable: zeros.clone(), committed: zeros, ..Replica::default() };
            self.copies.entry(s.id).or_insert(fresh);
        }
    }

    fn parts(&mut self, p: PartsAre) {
        let r = self.shards.get_mut(&p.shard).expect("a shard of ours");
        let mut number = r.part;
        for part in &p.parts {
            assert!(part.number > number && part.base >= r.end, "{part:?} behind {number}, {}", r.end);
            let added: u64 = part.lens.iter().zip(&r.committed).map(|(n, o)| n - o).sum();
            assert!(added > 0);
            number = part.number;
            r.end = part.base.plus(added);
            r.committed.clone_from(&part.lens);
            r.part = number;
        }
        assert_eq!(r.committed, p.lens, "parts end at the lengths");
        assert!(p.number >= number && p.tail >= r.end);
        self.seen = p.number;
    }

    fn cut(&mut self, cut: &Cut, truth: &mut Truth) {
        truth.saw(cut);
        assert!(
            self.seen == CutNumber(0) || cut.number == self.seen.next(),
            "{} after {}",
            cut.number,
            self.seen
        );
        self.seen = cut.number;
        for (shard, r) in &mut self.shards {
            if let Some(part) = cut.part(*shard, &r.committed).expect("a cut fits") {
                let added: u64 = part.lens.iter().zip(&r.committed).map(|(n, o)| n - o).sum();
                assert!(part.base >= r.end);
                assert!(
                    part.lens.iter().zip(&r.durable).all(|(c, d)| c <= d),
                    "LOG-2: more than we hold: {part:?}"
                );
                r.end = part.base.plus(added);
                r.committed = part.lens;
                r.part = part.number;
            }
        }
    }

    /// The replica makes more durable, of any lane.
    pub fn grow(&mut self, shard: ShardId, lane: usize, by: u64) {
        if let Some(r) = self.shards.get_mut(&shard).filter(|r| !r.ended) {
            r.durable[lane] += by;
        }
    }

    /// Reports everything, as after a sync.
    pub fn report(&mut self, sim: &mut Sim) {
        let Some(g) = self.guest.filter(|_| self.registered || !self.shards.is_empty()) else { return };
        let shards = self
            .shards
            .iter()
            .chain(&self.copies)
            .map(|(s, r)| ShardReport {
                shard: *s,
                accepted: r.durable.iter().map(|d| d + if r.ended { 0 } else { self.behind }).collect(),
                durable: r.durable.clone(),
                part: r.part,
                serving: self.serving,
            })
            .collect();
        self.reported = sim.now;
        sim.send(
            g,
            Report { slot: self.id, incarnation: Incarnation(self.incarnation), cuts: self.cuts, shards },
        );
    }
}

/// Follows the cuts, and asks for the tail now and then.
#[derive(Default)]
pub struct Watcher {
    guest: Option<usize>,
    next: usize,
    told: bool,
    hint: Option<usize>,
    orderers: Vec<usize>,
    order: Option<Order>,
    in_few_bytes: bool,
    pub seen: u64,
    asked: BTreeMap<u64, Gsn>,
    requests: u64,
    pub tails: u64,
    pub sealed: u64,
    view: u64,
    retry_at: zoolog_core::Instant,
}

impl Watcher {
    pub fn step(&mut self, sim: &mut Sim, truth: &mut Truth) {
        let Some(g) = self.guest else {
            if sim.now >= self.retry_at {
                self.retry_at = sim.now + std::time::Duration::from_millis(20);
                let to = self.hint.take().unwrap_or_else(|| whom(sim, &self.orderers, self.next));
                let g = sim.client(to);
                // The one way and the other, in turn.
                self.in_few_bytes = !self.in_few_bytes;
                match self.in_few_bytes {
                    true => sim.send(g, WatchGrowth { request: 1 }),
                    false => sim.send(g, WatchCuts { request: 1 }),
                }
                (self.guest, self.order) = (Some(g), None);
            }
            return;
        };
        for m in sim.take(g) {
            match m {
                Message::NotLeader(n) => {
                    self.hint = n.leader.map(|a| node_at(&a));
                    self.next += usize::from(self.hint.is_none());
                    self.told = true;
                    sim.hang_up(g);
                }
                Message::OrderIs(o) => {
                    let lens = o.lanes.iter().map(|l| (l.lane, l.to)).collect();
                    let sum: u64 = o.lanes.iter().map(|l| l.to).sum();
                    assert!(Gsn(sum) == o.tail || o.view.shards.iter().all(|s| s.id > ShardId(1)));
                    assert!(o.number.0 >= self.seen, "the order went back: {} after {}", o.number, self.seen);
                    truth.tail = truth.tail.max(o.tail);
                    self.seen = o.number.0;
                    self.view = o.view.number.0;
                    self.order = Some(Order { number: o.number, tail: o.tail, lens });
                }
                Message::ViewIs(v) => self.view = v.view.number.0,
                Message::CutIs(c) if !self.in_few_bytes || c.cut.lanes.len() > 12 => self.cut(&c.cut, truth),
                Message::Grown(grown) if self.in_few_bytes => {
                    let order = self.order.as_ref().expect("OrderIs first");
                    let cut = grown.behind(order, ViewNumber(self.view)).expect("no gap");
                    self.cut(&cut, truth);
                }
                Message::TailIs(t) => {
                    let known = self.asked.remove(&t.request).expect("asked once, answered once");
                    assert!(t.gsn >= known, "tail {} after {known} was seen", t.gsn);
                    self.tails += 1;
                }
                Message::OrderersAre(m) => {
                    self.orderers = m.orderers.iter().map(|o| node_at(&o.addr)).collect()
                }
                Message::SealedIs(m) => {
                    if self.asked.remove(&m.request).is_none() {
                        assert_eq!(m.request, 0, "nobody asked");
                        let tail = self.order.as_ref().expect("OrderIs first").tail;
                        assert_eq!(tail, m.tail, "it comes behind the last cut");
                    }
                    truth.ended(&m);
                    self.sealed += 1;
                }
                other => panic!("a watcher got {other:?}"),
            }
        }
        if !sim.guests[g].open {
            self.guest = None;
            self.asked.clear();
            self.next += usize::from(!std::mem::take(&mut self.told));
        }
    }

    fn cut(&mut self, cut: &Cut, truth: &mut Truth) {
        truth.saw(cut);
        assert!(cut.view.0 <= self.view, "a cut of view {} in view {}", cut.view, self.view);
        self.order.as_mut().expect("OrderIs first").apply(cut).expect("no gap");
        self.seen = cut.number.0;
    }

    pub fn ask_tail(&mut self, sim: &mut Sim, truth: &Truth) {
        if let Some(g) = self.guest {
            self.requests += 1;
            self.asked.insert(self.requests, truth.tail);
            sim.send(g, Tail { request: self.requests });
        }
    }
}

/// Orderers, slots and watchers together.
pub struct World {
    pub sim: Sim,
    pub slots: Vec<Slot>,
    pub watchers: Vec<Watcher>,
    pub truth: Truth,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let watchers = (0..2).map(|next| Watcher { next, ..Watcher::default() }).collect();
        Self {
            sim: Sim::new(3, seed),
            slots: (0..3).map(Slot::new).collect(),
            watchers,
            truth: Truth::default(),
        }
    }

    /// Thirty appends of various lengths, here and there, all of them committed.
    pub fn append_thirty(&mut self) {
        for i in 0..30u64 {
            self.append((i % 3) as u32 + 1, (i % 2) as usize, i % 5 + 1);
            self.run_ms(i % 4);
        }
        self.until("all is committed", |w| w.truth.tail.0 == w.durable());
        self.run_ms(50);
    }

    /// One with a leader, a view, and slots that have made their first report.
    pub fn ready(seed: u64) -> Self {
        let mut w = Self::new(seed);
        w.until("a view at every slot", |w| w.slots.iter().all(|s| s.registered && s.shards.len() == 2));
        w.report_all();
        w.run_ms(50);
        w
    }

    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.sim.run_ms(1);
            self.slots.iter_mut().filter(|s| !s.mute).for_each(|s| {
                s.step(&mut self.sim, &mut self.truth);
                let first = s.shards.len() >= 2 && std::mem::take(&mut s.first_report);
                let alive = self.sim.now.since(s.reported).as_millis() >= 200;
                if s.registered && (first || alive) {
                    s.report(&mut self.sim);
                }
            });
            self.watchers.iter_mut().for_each(|x| x.step(&mut self.sim, &mut self.truth));
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.run_ms(1);
        }
        let slots: Vec<_> = self.slots.iter().map(|s| (s.registered, s.shards.len(), s.guest)).collect();
        panic!(
            "not within 20 s: {what}; leader {:?}, tail {}, slots {slots:?}",
            self.sim.leader(),
            self.truth.tail
        );
    }

    pub fn report_all(&mut self) {
        self.slots.iter_mut().filter(|s| !s.mute).for_each(|s| s.report(&mut self.sim));
    }

    /// All replicas of a shard make `by` more records of one lane durable, and say so.
    pub fn append(&mut self, shard: u32, lane: usize, by: u64) {
        self.slots.iter_mut().for_each(|s| s.grow(ShardId(shard), lane, by));
        self.report_all();
    }

    /// Sum of what is durable on all replicas of each lane.
    pub fn durable(&self) -> u64 {
        let mut min: BTreeMap<(ShardId, usize), u64> = BTreeMap::new();
        for (shard, r) in self.slots.iter().flat_map(|s| &s.shards) {
            for (i, d) in r.durable.iter().enumerate() {
                let m = min.entry((*shard, i)).or_insert(*d);
                *m = (*m).min(*d);
            }
        }
        min.values().sum()
    }

    /// Cuts are dense from 1, each based on the one before.
    pub fn check_order(&self) {
        let mut order = Order::default();
        // What nobody saw (a leader died with it unsent) can't be compared; bases still chain.
        let mut last: Option<&Cut> = None;
        for cut in self.truth.cuts.values() {
            match last.filter(|l| l.number.next() == cut.number) {
                Some(l) => assert_eq!(cut.base, l.end(), "a hole or a duplicate before {}", cut.number),
                None => assert!(last.is_none_or(|l| cut.base > l.end())),
            }
            last = Some(cut);
            if cut.number == order.number.next() {
                order.apply(cut).expect("dense");
            }
        }
    }
}
