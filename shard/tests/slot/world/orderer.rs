//! The leader of the orderers, scripted: it takes registrations and reports, and cuts when told to.

use super::Item;
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::cut::{Cut, CutLane, ShardPart};
use zoolog_core::view::{Final, Rebuild, ReplicaView, ShardState, View};
use zoolog_core::wire::*;
use zoolog_core::*;

#[derive(Default)]
pub struct Out {
    pub frames: Vec<(usize, Bytes)>,
    pub close: Vec<usize>,
}

#[derive(Default)]
pub struct Orderer {
    /// Whether it can be dialled.
    pub up: bool,
    /// Whether it cuts whenever it can.
    pub auto: bool,
    /// Whether it answers at all.
    pub mute: bool,
    pub view: View,
    pub cuts: Vec<Cut>,
    pub tail: Gsn,
    pub lens: BTreeMap<LaneId, u64>,
    parts: BTreeMap<ShardId, Vec<ShardPart>>,
    /// By link.
    registered: BTreeMap<usize, (SlotId, Incarnation)>,
    /// (shard, replica) -> (link, durable).
    reports: BTreeMap<(ShardId, u8), (usize, Vec<u64>)>,
    /// The most that was ever durable at a replica, and its newest durable part.
    held: BTreeMap<(ShardId, SlotId), (Vec<u64>, CutNumber)>,
    /// The newest part that all replicas once held: those up to it are not sent any more.
    known: BTreeMap<ShardId, CutNumber>,
    /// Shards that each slot says to mend.
    pub recovering: BTreeMap<SlotId, Vec<ShardId>>,
    /// What each copy in the making holds durably.
    pub copies: BTreeMap<ShardId, (Vec<u64>, CutNumber)>,
    pub registrations: usize,
    pub reported: usize,
    /// Which cuts the last report of each slot asks for.
    pub wanted: BTreeMap<SlotId, CutsWanted>,
    pub trim: Gsn,
    /// What each slot said that it holds.
    pub said: BTreeMap<SlotId, Vec<Held>>,
    /// The next cut is not sent to this slot.
    pub skip: Option<SlotId>,
}

impl Orderer {
    pub fn new(view: View) -> Self {
        let parts = view.shards.iter().map(|s| (s.id, Vec::new())).collect();
        Self { up: true, auto: true, view, parts, ..Self::default() }
    }

    pub fn handle(&mut self, link: usize, item: Item) -> Out {
        let mut out = Out::default();
        match item {
            Item::Frame(bytes) if !self.mute => self.frame(link, decode(bytes).unwrap().message, &mut out),
            Item::Closed => {
                self.registered.remove(&link);
                self.reports.retain(|_, r| r.0 != link);
            }
            _ => {}
        }
        out
    }

    fn frame(&mut self, link: usize, message: Message, out: &mut Out) {
        match message {
            Message::Hello(m) => assert_eq!(m.role, Role::Slot),
            Message::Status(m) => {
                out.frames.push((link, encode(StatusIs { request: m.request, json: "{}".into() })));
            }
            Message::Register(m) => self.register(link, &m, out),
            Message::Report(m) => self.report(link, m),
            Message::Held(m) => {
                assert!(
                    self.registered.contains_key(&link),
                    "{} says what it holds before it registers",
                    m.slot
                );
                self.said.entry(m.slot).or_default().push(m);
            }
            Message::Recovering(m) => drop(self.recovering.insert(m.slot, m.shards)),
            Message::Refused(_) => {} // it says why it closes
            other => panic!("an orderer got {other:?}"),
        }
    }

    fn register(&mut self, link: usize, m: &Register, out: &mut Out) {
        self.registrations += 1;
        let newest = self.registered.values().filter(|r| r.0 == m.slot).map(|r| r.1).max();
        if newest.is_some_and(|n| n > m.incarnation) {
            out.frames.push((link, encode(Refused { why: RefusedWhy::Stale, text: "stale".into() })));
            out.close.push(link);
            return;
        }
        self.registered.retain(|_, r| r.0 != m.slot);
        self.registered.insert(link, (m.slot, m.incarnation));
        out.frames.push((link, encode(ViewIs { view: self.view.clone() })));
        out.frames.push((link, encode(TrimIs { gsn: self.trim })));
        for shard in self.view.shards.iter().filter(|s| s.replica_in(m.slot).is_some()) {
            let stated = m.parts.iter().find(|p| p.0 == shard.id).map_or(CutNumber(0), |p| p.1);
            let durable = self.held.get(&(shard.id, m.slot)).map_or(CutNumber(0), |h| h.1);
            assert!(stated >= durable, "{} forgot parts of shard {} that were durable", m.slot, shard.id);
            let index = shard.replica_in(m.slot).unwrap();
            self.reports.remove(&(shard.id, index));
            let known = self.known.get(&shard.id).copied().unwrap_or_default();
            if stated < known {
                out.frames.push((link, encode(PartsGone { shard: shard.id, known })));
                continue;
            }
            let parts = self.parts[&shard.id].iter().filter(|p| p.number > stated).cloned().collect();
            let lens = shard.lanes().map(|l| self.len(l)).collect();
            let (number, tail) = (CutNumber(self.cuts.len() as u64), self.tail);
            out.frames.push((link, encode(PartsAre { shard: shard.id, parts, lens, number, tail })));
        }
    }

    fn report(&mut self, link: usize, m: Report) {
        let Some(&known) = self.registered.get(&link) else { return };
        assert_eq!(known, (m.slot, m.incarnation));
        self.reported += 1;
        self.wanted.insert(m.slot, m.cuts);
        for r in m.shards {
            let Some(shard) = self.view.shard(r.shard) else { continue };
            let Some(index) = shard.replica_in(m.slot) else {
                self.copied(m.slot, r);
                continue;
            };
            if let ShardState::Finalized(end) = &shard.state
                && let Some((held, _)) = self.held.get_mut(&(r.shard, m.slot))
            {
                // It lets go of what is not committed, or has yet to hear that it may.
                held.iter_mut().zip(&end.lens).for_each(|(held, end)| *held = (*held).min(*end));
            }
            let short = shard.lanes().zip(&r.durable).find(|(l, d)| self.len(*l) > **d);
            assert!(short.is_none(), "{} reports {short:?}, less than is committed", m.slot);
            let held = self.held.entry((r.shard, m.slot)).or_insert((vec![0; r.durable.len()], CutNumber(0)));
            let shrinks = held.0.iter().zip(&r.durable).any(|(old, new)| new < old);
            assert!(!shrinks, "a lane shrinks at {}: {:?} then {:?}", m.slot, held.0, r.durable);
            assert!(r.durable.iter().zip(&r.accepted).all(|(d, a)| d <= a));
            assert!(r.part >= held.1, "durable parts shrink");
            *held = (r.durable.clone(), r.part);
            let all = shard
                .replicas
                .iter()
                .map(|p| self.held.get(&(r.shard, p.slot)).map_or(CutNumber(0), |h| h.1));
            let (known, all) = (self.known.entry(r.shard).or_default(), all.min().unwrap_or_default());
            *known = all.max(*known);
            self.reports.insert((r.shard, index), (link, r.durable));
        }
    }

    pub fn len(&self, lane: LaneId) -> u64 {
        self.lens.get(&lane).copied().unwrap_or(0)
    }

    fn grown(&self) -> Vec<CutLane> {
        let mut out = Vec::new();
        for shard in self.view.live() {
            let reports: Vec<_> = (0..shard.replicas.len() as u8)
                .filter_map(|i| self.reports.get(&(shard.id, i)).map(|r| &r.1))
                .collect();
            if reports.len() < shard.replicas.len() {
                continue;
            }
            for lane in shard.lanes() {
                let to = reports.iter().map(|d| d[usize::from(lane.index())]).min().unwrap();
                let from = self.len(lane);
                if to > from {
                    out.push(CutLane { lane, from, to });
                }
            }
        }
        out
    }

    pub fn has_cut(&self) -> bool {
        self.up && !self.grown().is_empty()
    }

    /// Commits what all replicas hold, if that is more than before.
    pub fn cut(&mut self) -> Out {
        let (mut out, lanes) = (Out::default(), self.grown());
        if lanes.is_empty() || !self.up {
            return out;
        }
        let number = CutNumber(self.cuts.len() as u64 + 1);
        let cut = Cut { number, base: self.tail, view: self.view.number, lanes };
        for shard in self.view.shards.clone() {
            let lens: Vec<u64> = shard.lanes().map(|l| self.len(l)).collect();
            if let Some(part) = cut.part(shard.id, &lens).unwrap() {
                self.parts.get_mut(&shard.id).unwrap().push(part);
            }
        }
        self.lens.extend(cut.lanes.iter().map(|l| (l.lane, l.to)));
        self.tail = cut.end();
        let bytes = encode(CutIs { cut: cut.clone() });
        self.cuts.push(cut);
        let skip = self.skip.take();
        let to = self.registered.iter().filter(|(_, r)| Some(r.0) != skip);
        out.frames.extend(to.map(|(&link, _)| (link, bytes.clone())));
        out
    }
}

impl Orderer {
    /// What lies before `gsn` is trimmed.
    pub fn trim_to(&mut self, gsn: Gsn) -> Out {
        assert!(gsn >= self.trim && gsn <= self.tail);
        self.trim = gsn;
        let bytes = encode(TrimIs { gsn });
        Out { frames: self.registered.keys().map(|&link| (link, bytes.clone())).collect(), ..Out::default() }
    }

    /// Forgets what a slot once held: its disk was replaced.
    pub fn forget(&mut self, slot: SlotId) {
        self.held.retain(|k, _| k.1 != slot);
    }

    /// That shard takes no appends any more: it ends where it is committed. Of those connected only the slots `told`
    /// hear of it at once.
    pub fn finalize(&mut self, shard: u32, told: impl Fn(SlotId) -> bool) -> Out {
        let id = ShardId(shard);
        let parts = &self.parts[&id];
        let view = self.view.shards.iter_mut().find(|s| s.id == id).expect("a shard of the view");
        assert_eq!(view.state, ShardState::Live, "a shard ends once");
        let lens: Vec<u64> = view.lanes().map(|l| self.lens.get(&l).copied().unwrap_or(0)).collect();
        let first = parts.first().map_or(self.tail, |p| p.base);
        let ends = self.cuts.iter().rev().find(|c| Some(c.number) == parts.last().map(|p| p.number));
        let mine =
            |c: &Cut| c.runs().filter(|r| r.lane.shard() == id).map(|r| r.first_gsn.plus(r.count)).max();
        let end = ends.and_then(mine).unwrap_or(self.tail);
        view.state = ShardState::Finalized(Final { lens, first, end });
        self.push_view(told)
    }

    /// A slot reports for a shard of which it has no replica: a copy in the making, or it has yet to hear.
    fn copied(&mut self, slot: SlotId, r: ShardReport) {
        let shard = self.view.shard(r.shard).expect("looked up before");
        let (Some(_), ShardState::Finalized(end)) = (shard.rebuilt_in(slot), &shard.state) else { return };
        assert!(r.durable.iter().zip(&end.lens).all(|(d, l)| d <= l), "a copy beyond the end: {r:?}");
        let (durable, part) =
            self.copies.entry(r.shard).or_insert_with(|| (vec![0; r.durable.len()], CutNumber(0)));
        let shrinks = r.part < *part || durable.iter().zip(&r.durable).any(|(old, new)| new < old);
        assert!(!shrinks, "a copy shrinks: {durable:?} at {part}, then {r:?}");
        (*durable, *part) = (r.durable, r.part);
    }

    /// That node begins a copy of a finalized shard in place of replica `index`; `None`: it is given up.
    pub fn copy(&mut self, shard: u32, to: Option<(u8, usize)>) -> Out {
        let id = ShardId(shard);
        let view = self.view.shards.iter_mut().find(|s| s.id == id).expect("a shard of the view");
        view.rebuild = to.map(|(index, node)| Rebuild {
            index,
            to: ReplicaView { slot: super::slot_id(node), addr: format!("s{node}") },
        });
        self.copies.remove(&id);
        self.push_view(|_| true)
    }

    /// Whether the copy holds all of its shard.
    pub fn is_copied(&self, shard: u32) -> bool {
        let newest = self.parts[&ShardId(shard)].last().map_or(CutNumber(0), |p| p.number);
        self.copies
            .get(&ShardId(shard))
            .is_some_and(|(durable, part)| Some(&durable[..]) == self.final_lens(shard) && *part == newest)
    }

    /// The copy takes its place.
    pub fn copy_counts(&mut self, shard: u32) -> Out {
        let id = ShardId(shard);
        assert!(self.is_copied(shard), "shard {shard}: {:?}", self.copies);
        let copy = self.copies.remove(&id).expect("just seen");
        let view = self.view.shards.iter_mut().find(|s| s.id == id).expect("a shard of the view");
        let Rebuild { index, to } = view.rebuild.take().expect("a copy in the making");
        self.held.remove(&(id, view.replicas[usize::from(index)].slot));
        self.held.insert((id, to.slot), copy);
        view.replicas[usize::from(index)] = to;
        self.push_view(|_| true)
    }

    /// That shard leaves the view.
    pub fn drop_shard(&mut self, shard: u32) -> Out {
        self.view.shards.retain(|s| s.id != ShardId(shard));
        self.held.retain(|k, _| k.0 != ShardId(shard));
        self.push_view(|_| true)
    }

    fn push_view(&mut self, told: impl Fn(SlotId) -> bool) -> Out {
        self.view.number = self.view.number.next();
        self.view_again(told)
    }

    /// The view once more.
    pub fn view_again(&self, told: impl Fn(SlotId) -> bool) -> Out {
        let bytes = encode(ViewIs { view: self.view.clone() });
        let to = self.registered.iter().filter(|(_, r)| told(r.0));
        Out { frames: to.map(|(&link, _)| (link, bytes.clone())).collect(), ..Out::default() }
    }

    /// Final lengths of a shard that has ended.
    pub fn final_lens(&self, shard: u32) -> Option<&[u64]> {
        match &self.view.shard(ShardId(shard))?.state {
            ShardState::Finalized(end) => Some(&end.lens),
            ShardState::Live => None,
        }
    }
}
