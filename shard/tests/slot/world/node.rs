//! A slot with its disk and log, as a shell would run it.

use super::{CLUSTER, slot_id};
use std::collections::VecDeque;
use std::time::Duration;
use zoolog_core::Instant;
use zoolog_core::machine::{ConnId, Input, Machine, Output, Token};
use zoolog_core::rng::Rng;
use zoolog_core::wal::{
    GroupPlan, MemoryDisk, OnDamage, Wal, WalConfig, WalPos, WalSource, recover, verify_record,
};
use zoolog_shard::{Bounds, Slot, SlotConfig, SlotEvent};

/// From the end of a turn until what it sends is offered to the sockets.
const SENDING: Duration = Duration::from_micros(250);

pub struct Node {
    n: usize,
    bounds: Bounds,
    pub slot: Option<Slot>,
    pub disk: MemoryDisk,
    wal: Option<Wal>,
    plan: Option<GroupPlan>,
    pub loads: VecDeque<(Token, WalPos)>,
    /// Pieces of segments asked for: segment, offset, bytes.
    pub pieces: VecDeque<(Token, (u32, u32, u32))>,
    accepted: u64,
    pub events: Vec<SlotEvent>,
    /// Records of each `Persist`.
    pub persists: Vec<usize>,
    /// What it said it needs no segment before.
    pub released: u32,
    /// Segments begun with a checkpoint since the start.
    pub rolls: usize,
}

impl Node {
    pub fn new(n: usize, bounds: &Bounds) -> Self {
        Self {
            n,
            bounds: bounds.clone(),
            slot: None,
            disk: MemoryDisk::new(),
            wal: None,
            plan: None,
            loads: VecDeque::new(),
            pieces: VecDeque::new(),
            accepted: 0,
            events: Vec::new(),
            persists: Vec::new(),
            released: 0,
            rolls: 0,
        }
    }

    /// Starts, unless the log or the slot says why it can't.
    pub fn start(&mut self, now: Instant) -> Result<(), String> {
        let mut cfg = WalConfig::new(CLUSTER, self.n as u64 + 1, OnDamage::Report);
        (cfg.first_segment_bytes, cfg.segment_bytes) = (16 << 10, 24 << 10);
        let (recovered, wal) = recover(&self.disk, &cfg).map_err(|e| e.to_string())?;
        self.wal = Some(wal);
        self.make_segment();
        self.begin();
        assert!(self.finish().is_empty(), "the first group is the log's own");
        let cfg = SlotConfig {
            cluster: CLUSTER,
            slot: slot_id(self.n),
            stamp: self.n as u64,
            addr: format!("s{}", self.n),
            domain: format!("d{}", self.n),
            orderers: vec!["orderer".into()],
            bounds: self.bounds.clone(),
        };
        self.slot = Some(Slot::new(cfg, recovered, now).map_err(|e| e.to_string())?);
        (self.accepted, self.rolls) = (self.accepted + 1000, 0);
        Ok(())
    }

    pub fn crash(&mut self, rng: &mut Rng) {
        self.slot = None;
        self.wal = None;
        self.plan = None;
        self.loads.clear();
        self.pieces.clear();
        self.disk.crash(rng);
    }

    pub fn accept(&mut self) -> ConnId {
        self.accepted += 1;
        ConnId(self.accepted)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.slot.as_ref()?.next_deadline().map(|d| d.0)
    }

    pub fn is_writing(&self) -> bool {
        self.plan.is_some()
    }

    pub fn turn(&mut self, now: Instant, inputs: Vec<Input<()>>) -> Vec<Output<SlotEvent>> {
        let (slot, wal) = (self.slot.as_mut().expect("up"), self.wal.as_mut().expect("up"));
        inputs.into_iter().for_each(|i| slot.handle(now, i));
        let mut out = Vec::new();
        let mut persists = 0;
        while let Some(output) = slot.poll_output(now) {
            match &output {
                Output::Persist { token, records } => {
                    persists += 1;
                    self.persists.push(records.len());
                    wal.append(*token, records.clone());
                }
                Output::Load { token, pos } => self.loads.push_back((*token, *pos)),
                Output::ReadSegment { token, segment, offset, bytes } => {
                    assert!(self.pieces.is_empty(), "one at a time");
                    self.pieces.push_back((*token, (*segment, *offset, *bytes)));
                }
                Output::Event(e) => self.events.push(e.clone()),
                Output::Release { segment } => {
                    assert!(
                        *segment >= self.released || self.rolls == 0,
                        "released to {} before",
                        self.released
                    );
                    self.released = *segment;
                    wal.release(*segment).into_iter().for_each(|n| self.disk.delete(n));
                }
                _ => {}
            }
            out.push(output);
        }
        if out.iter().any(|o| matches!(o, Output::Send { .. })) {
            slot.sent(now + SENDING);
        }
        assert!(persists <= 1, "one persist per turn");
        if wal.wants_checkpoint() && slot.may_checkpoint() {
            wal.start_segment(slot.checkpoint());
            self.rolls += 1;
        }
        self.begin();
        out
    }

    fn make_segment(&mut self) {
        let wal = self.wal.as_mut().expect("up");
        while let Some((number, bytes)) = wal.wants_segment() {
            self.disk.create(number, bytes);
            wal.segment_ready(number, bytes);
        }
    }

    /// Writes the next group, unless one is being synced.
    fn begin(&mut self) {
        if self.plan.is_some() {
            return;
        }
        self.make_segment();
        let wal = self.wal.as_mut().expect("up");
        if let Some(plan) = wal.group() {
            let mut buffer = vec![0; plan.len];
            wal.fill(&plan, &mut buffer);
            self.disk.write(plan.segment, plan.offset, &buffer);
            self.plan = Some(plan);
        }
    }

    fn finish(&mut self) -> Vec<(Token, Vec<WalPos>)> {
        let plan = self.plan.take().expect("something is being written");
        self.disk.sync_range(plan.segment, plan.offset, plan.len);
        plan.also_sync.iter().for_each(|&n| self.disk.sync(n));
        let wal = self.wal.as_mut().expect("up");
        let done = wal.completed(plan);
        wal.release(0).into_iter().for_each(|n| self.disk.delete(n));
        self.begin();
        done
    }

    /// The sync completes.
    pub fn sync(&mut self) -> Vec<Input<()>> {
        let done = self.finish();
        done.into_iter().map(|(token, positions)| Input::Persisted { token, positions }).collect()
    }

    /// The oldest read of a piece of a segment completes.
    pub fn piece(&mut self) -> Input<()> {
        let (token, (segment, offset, bytes)) = self.pieces.pop_front().expect("a piece");
        let size = self.disk.segments().unwrap().iter().find(|s| s.0 == segment).map(|s| s.1 as u32);
        let read = self.disk.read_range(segment, offset.into(), bytes as usize).zip(size);
        Input::SegmentRead { token, result: read.ok_or("no such segment".to_string()) }
    }

    /// The `i`th read-back completes.
    pub fn load(&mut self, i: usize) -> Input<()> {
        let (token, pos) = self.loads.remove(i).expect("a load");
        let (offset, len) = pos.range();
        let bytes = self.disk.read_range(pos.segment, offset, len).ok_or("no such segment".to_string());
        let result = bytes.and_then(|b| verify_record(pos, &b).map_err(|e| e.to_string()));
        Input::Loaded { token, result }
    }
}
