//! What is a replica? One shard's copy in a slot: the lane it is primary of, those it backs up, and the
//! shard's committed parts. This file has the state; each conversation has its own.

mod append;
mod commit;
mod copy;
mod gap;
pub(crate) mod invariants;
mod later;
mod lend;
pub(crate) mod mend;
mod read;
pub(crate) mod recover;
mod replicate;
mod report;
mod resolve;
mod seal;
mod subscribe;
mod sync;
pub(crate) mod trim;

pub(crate) use commit::check_sane;
pub(crate) use read::{answer as read_answer, unavailable};
pub(crate) use subscribe::PushCache;

use crate::config::Bounds;
use crate::lane::Lane;
use crate::stages::Synced;
use crate::writers::Writers;
use copy::Copy;
use gap::Gap;
use mend::Mend;
use recover::Images;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use subscribe::Subscription;
use sync::{Backup, Inbound};
use trim::Places;
use zoolog_core::cut::ShardHistory;
use zoolog_core::machine::ConnId;
use zoolog_core::view::{ReplicaView, ShardState, ShardView};
use zoolog_core::wire::DiskRoom;
use zoolog_core::{CutNumber, Epoch, Gsn, Incarnation, Instant, Lsn, Seq, ShardId, SlotId, WriterId};

/// One shard's copy in a slot.
#[derive(Debug)]
pub(crate) struct Replica {
    /// The shard.
    pub shard: ShardId,
    /// Index of this replica, and of the lane it is primary of.
    pub index: u8,
    /// The slots of all replicas, by index.
    pub slots: Vec<SlotId>,
    /// Whether the shard takes appends.
    pub live: bool,
    /// By index.
    pub lanes: Vec<Lane>,
    /// The writers' windows in each of them.
    pub writers: Vec<Writers>,
    /// The shard's parts.
    pub history: ShardHistory,
    /// Which of its parts are missing.
    pub gap: Gap,
    /// Parts whose marks were durable before those of parts they follow.
    pub rejoined: BTreeSet<CutNumber>,
    /// What is being done about damage.
    pub mend: Mend,
    /// First GSN that is still readable, as far as known here.
    pub trim: Gsn,
    /// Where the marks of its parts lie.
    pub places: Places,
    /// What of the order is known here exactly: the shard has no records between its newest part and this.
    pub known: Gsn,
    /// The last cut that was looked at since registration; `None` before anything was said.
    pub seen: Option<CutNumber>,
    /// Newest part whose mark waits for the next `Persist`, or is past that.
    pub marked: CutNumber,
    /// Newest part that is in a `Persist` already.
    pub emitted: CutNumber,
    /// Newest part that is durable here.
    pub part_durable: CutNumber,
    /// How much room the slot's disk has.
    pub disk: DiskRoom,
    /// What the writers of the own lane know of its room.
    pub told_room: DiskRoom,
    /// Whether durable lengths moved since the last report.
    pub moved: bool,
    /// Why what this replica holds can't be trusted, for good.
    pub broken: Option<String>,
    /// Whether the owner knows that it is damaged.
    pub damage_told: bool,
    /// What is being done to make it, of a copy in the making.
    copy: Option<Copy>,
    /// It needs less of the log than before, in other ways than by trimming.
    pub freed: bool,
    /// The own lane's appends.
    pub own: Own,
    /// Streams of the other lanes, by index; that of the own lane is unused.
    pub inbound: Vec<Inbound>,
    /// By connection.
    pub subs: BTreeMap<ConnId, Subscription>,
    /// Connections whose question after batches is being answered.
    pub lending: BTreeSet<ConnId>,
    generation: u64,
    bounds: Bounds,
}

/// What the primary of a lane knows beyond the lane.
#[derive(Debug)]
pub(crate) struct Own {
    /// This start.
    pub incarnation: Incarnation,
    /// Whether appends are taken: all backups are in step.
    pub serving: bool,
    /// Records adopted from backups since the start.
    pub adopted: u64,
    /// Batches not known to be committed, in order.
    pub pending: VecDeque<Pending>,
    /// Their bytes.
    pub uncommitted_bytes: usize,
    /// How many of them somebody waits for.
    pub awaited: usize,
    /// When they became durable, for what is measured.
    pub synced: Synced,
    /// By index; `None` at our own.
    pub backups: Vec<Option<Backup>>,
}

/// A batch that waits for its cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    writer: WriterId,
    epoch: Epoch,
    seq: Seq,
    first_lsn: u64,
    end: u64,
    bytes: usize,
    /// Whether its writer waits for the acknowledgement.
    prompt: bool,
    /// When it was placed, if that was in this life.
    at: Option<Instant>,
}

impl Replica {
    /// The replica `index` of a shard, with what recovery found of it.
    pub fn new(
        view: &ShardView,
        (index, is_copy): (u8, bool),
        incarnation: Incarnation,
        bounds: &Bounds,
        images: &mut Images,
    ) -> Self {
        let shard = view.id;
        let copy = match &view.state {
            ShardState::Finalized(end) if is_copy => Some(Copy::new(end)),
            _ => None,
        };
        let (mut lanes, mut inbound, mut writers) = (Vec::new(), Vec::new(), Vec::new());
        for id in view.lanes() {
            let (lane, fence) = images
                .lanes
                .remove(&id)
                .unwrap_or_else(|| (Lane::new(id, bounds.cache_bytes), Incarnation(0)));
            inbound.push(Inbound::fenced(fence.max(lane.placed_by)));
            lanes.push(lane);
            let windows = images.writers.remove(&id);
            writers.push(windows.unwrap_or_else(|| Writers::new(bounds.writers, bounds.remembered)));
        }
        let (found, trimmed) = (images.parts.remove(&shard).unwrap_or_default(), images.trims.remove(&shard));
        let (history, broken, places, gap) = (found.history, found.broken, found.places, found.gap);
        let marked = history.number();
        let later = lanes.iter().map(|l| images.later.remove(&l.id).unwrap_or_default()).collect();
        // Where something is missing something was lost, whether or not the log could tell.
        let lacks = gap.is_open(&history) || lanes.iter().any(|l| l.lost().next().is_some());
        let mend = Mend::new(lanes.len(), !is_copy && (images.damaged || lacks), later);
        let backups = view
            .replicas
            .iter()
            .enumerate()
            .map(|(i, r)| (i != usize::from(index)).then(|| Backup::new(r.slot)));
        let mut replica = Self {
            shard,
            index,
            slots: view.replicas.iter().map(|r| r.slot).collect(),
            live: true,
            trim: Gsn(0),
            places,
            known: history.end(),
            seen: None,
            marked,
            emitted: marked,
            part_durable: marked,
            disk: DiskRoom::Ample,
            told_room: DiskRoom::Ample,
            moved: true,
            broken,
            gap,
            rejoined: BTreeSet::new(),
            mend,
            damage_told: false,
            copy,
            freed: false,
            own: Own {
                incarnation,
                serving: false,
                adopted: 0,
                pending: VecDeque::new(),
                uncommitted_bytes: 0,
                awaited: 0,
                synced: Synced::default(),
                backups: backups.collect(),
            },
            lanes,
            writers,
            history,
            inbound,
            subs: BTreeMap::new(),
            lending: BTreeSet::new(),
            generation: 0,
            bounds: bounds.clone(),
        };
        if replica.lens_fit() {
            replica.recount();
        }
        replica.begin_where_parts_do();
        if let Some((trim, base)) = trimmed {
            replica.restore_trim(trim, base);
        }
        replica
    }

    /// A copy that began anew behind what was trimmed: lanes that held more of it than was to go may still.
    fn begin_where_parts_do(&mut self) {
        for lane in &mut self.lanes {
            let start = self.history.start(lane.id.index());
            if lane.start >= start {
                continue;
            }
            // One that doesn't reach there has lost something, and is being mended.
            if lane.committed.min(lane.durable) >= start {
                lane.trim(start);
            }
        }
    }

    /// Whether the recovered parts have as many lanes as the shard; broken if not.
    fn lens_fit(&mut self) -> bool {
        if self.history.lanes().is_some_and(|lanes| lanes != self.lanes.len()) {
            self.broken = Some("its cut marks are of another number of lanes".into());
            self.history = ShardHistory::default();
            return false;
        }
        true
    }

    /// Sets what follows from the recovered parts: committed lengths, and the own lane's pending batches.
    fn recount(&mut self) {
        self.own.pending.clear();
        (self.own.uncommitted_bytes, self.own.awaited, self.own.synced) = (0, 0, Synced::default());
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            lane.committed = self.history.len(i as u8);
            lane.evict();
        }
        if self.is_copy() {
            return; // nobody waits for anything
        }
        if self.mend.open {
            return; // the windows may lack batches: again when all are there
        }
        let i = usize::from(self.index);
        let own = &self.lanes[i];
        let gsn = |lsn| self.history.gsn(self.shard, self.index, Lsn(lsn));
        for (writer, epoch, seq, first_lsn, count) in self.writers[i].recount(own.committed, gsn) {
            let bytes = own.find(first_lsn).map_or(0, |f| f.bytes);
            self.own.uncommitted_bytes += bytes;
            let end = first_lsn + u64::from(count);
            self.own.awaited += 1;
            self.own.pending.push_back(Pending {
                writer,
                epoch,
                seq,
                first_lsn,
                end,
                bytes,
                prompt: true,
                at: None,
            });
        }
    }

    /// Others have taken the place of some replicas of the finalized shard; or of this copy in the making it was decided
    /// that it is a replica.
    pub fn follow_replicas(&mut self, replicas: &[ReplicaView], is_copy: bool) {
        let slots: Vec<SlotId> = replicas.iter().map(|r| r.slot).collect();
        if slots != self.slots {
            let own = usize::from(self.index);
            self.own.backups =
                (slots.iter().enumerate()).map(|(i, s)| (i != own).then(|| Backup::new(*s))).collect();
            self.slots = slots;
        }
        if !is_copy && self.copy.take().is_some() {
            self.moved = true;
        }
    }

    /// The lane this replica is primary of.
    pub fn own_lane(&self) -> &Lane {
        &self.lanes[usize::from(self.index)]
    }

    /// The writers of the own lane.
    fn own_writers(&mut self) -> &mut Writers {
        &mut self.writers[usize::from(self.index)]
    }

    fn own_lane_mut(&mut self) -> &mut Lane {
        &mut self.lanes[usize::from(self.index)]
    }

    /// Why it can't be trusted to serve, if it can't: it holds less than what is committed.
    pub fn damage(&self) -> Option<String> {
        if let Some(why) = &self.broken {
            return Some(why.clone());
        }
        if self.lacks_parts() {
            let (have, until) = (self.history.number(), self.gap.until());
            return Some(format!("of its cut marks those between {have} and {until} are lost"));
        }
        let short = self.lanes.iter().find(|l| l.committed > l.durable)?;
        Some(format!(
            "of lane {} {} records are committed, {} are here",
            short.id, short.committed, short.durable
        ))
    }

    /// Whether it may serve.
    pub fn is_sound(&self) -> bool {
        self.broken.is_none() && !self.lacks_parts() && self.lanes.iter().all(|l| l.committed <= l.durable)
    }

    /// Forgets a connection: its subscription, its writers, its streams.
    pub fn closed(&mut self, conn: ConnId) {
        self.subs.remove(&conn);
        self.own_writers().closed(conn);
        self.copy_closed(conn);
        self.streams_closed(conn);
        self.mending_closed(conn);
    }
}
