//! How does a node start and crash, and what does its disk do meanwhile?

use crate::cluster::Birth;
use crate::disk::Store;
use crate::node::{Role, Running};
use crate::schedule::{Carried, Event, Life, NodeId};
use crate::world::World;
use bytes::Bytes;
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::wal::WalPos;
use zoolog_core::wire::{DiskRoom, SnapshotAt};
use zoolog_core::{Gsn, Input, Token};

/// After this long without a group the log writes its idle block.
const DISK_IDLE: Duration = Duration::from_secs(1);

impl World {
    /// Starts a node that is down: its disk is read, then its machine begins.
    pub(crate) fn start(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0];
        if node.is_up() || node.held_down {
            return;
        }
        node.life += 1;
        let life = node.life;
        if !node.role.has_disk() {
            self.begin(id, None);
            return;
        }
        let random = match self.options.random_starts {
            true => Rng::new(self.options.seed, &format!("start of {id:?}, life {life}")).next_u64(),
            false => 0,
        };
        match Store::open(&mut node.disk, node.role, random) {
            Ok(store) => {
                node.starting = Some(store);
                self.note(id, || format!("starts, life {life}"));
                self.schedule.after(Duration::from_micros(300), Event::Serve(id, life));
            }
            Err(why) => self.refuse_start(id, &why),
        }
    }

    fn refuse_start(&mut self, id: NodeId, why: &str) {
        let name = self.nodes[id.0].name.clone();
        let text = format!("{name} does not start, life {}: {why}", self.nodes[id.0].life);
        self.judge(Err(crate::check::Violation::new("LOG-2", text)));
    }

    /// The disk was read; the first block is written, and when it is synced the machine begins.
    pub(crate) fn serve(&mut self, id: NodeId, life: Life) {
        let node = &mut self.nodes[id.0];
        if node.life != life {
            return;
        }
        let Some(mut store) = node.starting.take() else { return };
        if store.is_open() {
            self.begin(id, Some(store));
            return;
        }
        if let Some(segment) = store.wants_segment() {
            if !node.disk.create(segment) {
                // As the real one: it can't start on a full disk, and is started again.
                self.note(id, || "does not start: its disk is full".into());
                self.refused_segments += 1;
                self.crash_noticed(id, Duration::from_millis(2));
                return self.schedule.after(Duration::from_millis(200), Event::Start(id));
            }
            let wait = self.sync_time(id);
            self.schedule.after(wait, Event::SegmentReady(id, life, segment));
        }
        if store.write_group(&mut self.nodes[id.0].disk) {
            let wait = self.sync_time(id);
            self.schedule.after(wait, Event::Synced(id, life));
        }
        self.nodes[id.0].starting = Some(store);
    }

    fn begin(&mut self, id: NodeId, mut store: Option<Store>) {
        let (now, life, role) = (self.now(), self.nodes[id.0].life, self.nodes[id.0].role);
        let seed = self.options.seed ^ (id.0 as u64 + 1) << 48 ^ life << 32;
        let recovered = store.as_mut().and_then(Store::recovered);
        if let Some(recovered) = recovered.as_ref().filter(|_| matches!(role, Role::Server(_))) {
            let disk = self.nodes[id.0].disk.number;
            let verdict = self.checks.starts.began(id, disk, life, recovered.incarnation);
            self.judge(verdict);
        }
        let restored = match self.nodes[id.0].snapshots.restore() {
            Ok(restored) => restored,
            Err(why) => return self.refuse_start(id, &why),
        };
        if let Some(gsn) = restored.newest {
            self.restored += 1;
            self.note(id, || format!("begins at {gsn}, second newest {:?}", restored.second_newest));
        }
        if let Some(begun) = &restored.begun {
            self.gone_on += 1;
            let (of, bytes) = (begun.of(), begun.bytes());
            self.note(id, || {
                format!("has {bytes} of {} bytes of another's snapshot at {}", of.bytes, of.gsn)
            });
        }
        let disk = self.nodes[id.0].disk.number;
        let birth = Birth { role, options: &self.options, recovered, disk, restored, seed, life, now };
        match (self.builder)(birth) {
            Ok(process) => {
                self.note(id, || format!("serves, life {life}"));
                self.nodes[id.0].running = Some(Running::new(process, store));
                self.schedule.after(Duration::ZERO, Event::Wall(id, life));
                self.schedule.after(DISK_IDLE, Event::DiskIdle(id, life));
            }
            Err(why) => self.refuse_start(id, &why),
        }
    }

    /// A node that was held down starts soon.
    pub fn start_again(&mut self, id: NodeId) {
        self.schedule.after(Duration::from_millis(1), Event::Start(id));
    }

    /// A node dies, and its peers learn of it as they do: at once when a process is killed, later when a
    /// machine loses power and only keep-alives tell.
    pub fn crash(&mut self, id: NodeId) {
        let notice = match self.weather.below(10) {
            0..6 => Duration::from_millis(2),
            6..9 => Duration::from_millis(800),
            _ => Duration::from_secs(4),
        };
        self.crash_noticed(id, notice);
    }

    /// A node dies: memory and connections are gone, the disk keeps what was synced and some of the rest.
    /// Each peer learns of it within `notice`, in the second half of that time.
    pub fn crash_noticed(&mut self, id: NodeId, notice: Duration) {
        self.note(id, || format!("crashes, noticed within {notice:?}"));
        let node = &mut self.nodes[id.0];
        node.running = None;
        node.starting = None;
        node.stalled_until = zoolog_core::Instant(0);
        node.refused = false;
        node.life += 1;
        node.disk.crash(&mut self.disk_rng);
        node.snapshots.crash(&mut self.snapshot_rng);
        for (link, end) in self.network.links_of(id) {
            let half = notice.as_nanos() as u64 / 2;
            let wait = Duration::from_nanos(half + self.weather.below(half + 1));
            self.schedule.after(wait, Event::Arrives(link, 1 - end, Carried::Reset));
            self.network.end_gone(link, end);
        }
        self.checks.crashed(id);
    }

    fn sync_time(&mut self, id: NodeId) -> Duration {
        let mut wait = crate::options::around(&mut self.disk_rng, self.options.sync);
        if self.stormy && self.disk_rng.chance(1) {
            wait += Duration::from_millis(self.disk_rng.below(120));
        }
        wait * self.nodes[id.0].disk_factor
    }

    /// Between turns: rolls the log if it is time, and puts the next group on its way if none is.
    pub(crate) fn pump_disk(&mut self, id: NodeId, run: &mut Running) {
        let Some(store) = run.store.as_mut() else { return };
        let life = self.nodes[id.0].life;
        let wanted = if self.nodes[id.0].refused { None } else { store.wants_segment() };
        if let Some(segment) = wanted {
            if self.nodes[id.0].disk.create(segment) {
                let wait = self.sync_time(id);
                self.schedule.after(wait, Event::SegmentReady(id, life, segment));
            } else {
                store.segment_refused();
                self.nodes[id.0].refused = true;
                self.refused_segments += 1;
                self.trace.line(self.schedule.now(), &self.nodes[id.0].name, || {
                    format!("no room for segment {}", segment.0)
                });
            }
        }
        if store.wants_checkpoint() && run.process.may_checkpoint() {
            let checkpoint = run.process.checkpoint();
            self.trace.line(self.schedule.now(), &self.nodes[id.0].name, || {
                format!("log rolls, checkpoint of {} bytes", checkpoint.len())
            });
            store.start_segment(checkpoint);
        }
        if store.write_group(&mut self.nodes[id.0].disk) {
            let wait = self.sync_time(id);
            self.schedule.after(wait, Event::Synced(id, life));
        }
    }

    /// Once a second and with each segment, as the real shell: how much room is there, and is there some again for a segment?
    pub(crate) fn look_at_disk(&mut self, id: NodeId) {
        let reserve = self.options.disk_reserve_bytes;
        let node = &mut self.nodes[id.0];
        if !node.role.has_disk() {
            return;
        }
        let free_bytes = node.disk.free();
        let refused = node.refused && free_bytes < u64::from(self.options.segment_bytes);
        node.refused = false;
        node.room = match free_bytes {
            _ if refused => DiskRoom::Full,
            free if free < reserve / 2 => DiskRoom::Full,
            free if free < reserve => DiskRoom::Low,
            _ => DiskRoom::Ample,
        };
        let room = node.room;
        self.give(id, Input::DiskSpace { room, free_bytes });
    }

    pub(crate) fn synced(&mut self, id: NodeId, life: Life) {
        if self.nodes[id.0].life != life {
            return;
        }
        if let Some(mut store) = self.nodes[id.0].starting.take() {
            store.group_synced(&mut self.nodes[id.0].disk);
            self.nodes[id.0].starting = Some(store);
            self.serve(id, life);
            return;
        }
        let Some(mut run) = self.nodes[id.0].running.take() else { return };
        let store = run.store.as_mut().expect("only a log syncs");
        let done = store.group_synced(&mut self.nodes[id.0].disk);
        self.pump_disk(id, &mut run);
        self.nodes[id.0].running = Some(run);
        for (token, positions) in done {
            self.give(id, Input::Persisted { token, positions });
        }
    }

    pub(crate) fn segment_ready(&mut self, id: NodeId, life: Life, segment: (u32, u32)) {
        if self.nodes[id.0].life == life
            && let Some(store) = self.nodes[id.0].starting.as_mut()
        {
            store.segment_ready(segment);
            self.serve(id, life);
            return;
        }
        if !self.alive(id, life) {
            return;
        }
        let mut run = self.nodes[id.0].running.take().expect("alive");
        run.store.as_mut().expect("only a log has segments").segment_ready(segment);
        self.pump_disk(id, &mut run);
        self.nodes[id.0].running = Some(run);
        self.look_at_disk(id);
    }

    pub(crate) fn disk_idle(&mut self, id: NodeId, life: Life) {
        if !self.alive(id, life) {
            return;
        }
        let node = &mut self.nodes[id.0];
        let mut run = node.running.take().expect("alive");
        let wrote = run.store.as_mut().is_some_and(|s| s.write_idle_block(&mut node.disk));
        self.nodes[id.0].running = Some(run);
        if wrote {
            let wait = self.sync_time(id);
            self.schedule.after(wait, Event::Synced(id, life));
        }
        self.schedule.after(DISK_IDLE, Event::DiskIdle(id, life));
    }

    pub(crate) fn load(&mut self, id: NodeId, run: &mut Running, token: Token, pos: WalPos) {
        let store = run.store.as_mut().expect("a machine with a log");
        let result = store.read(&self.nodes[id.0].disk, pos);
        self.note(id, || {
            format!("-> Load {} at {pos:?}: {} bytes", token.0, result.as_ref().map_or(0, |b| b.len()))
        });
        let wait = self.sync_time(id) / 4;
        let life = self.nodes[id.0].life;
        self.schedule.after(wait, Event::Loaded(id, life, token, result));
    }

    pub(crate) fn read_segment(
        &mut self,
        id: NodeId,
        token: Token,
        (segment, offset, bytes): (u32, u32, u32),
    ) {
        self.note(id, || format!("-> ReadSegment {} {segment} at {offset}, {bytes} bytes", token.0));
        let result = self.nodes[id.0].disk.piece(segment, offset, bytes).ok_or("no such segment".to_string());
        let wait = self.sync_time(id) / 4;
        let life = self.nodes[id.0].life;
        self.schedule.after(wait, Event::SegmentRead(id, life, token, result));
    }

    pub(crate) fn find_snapshot(&mut self, id: NodeId, like: Option<SnapshotAt>) {
        let found = self.nodes[id.0].snapshots.find(like);
        self.note(id, || format!("-> FindSnapshot: {found:?}"));
        let life = self.nodes[id.0].life;
        let wait = crate::options::around(&mut self.snapshot_rng, self.options.sync);
        self.schedule.after(wait, Event::SnapshotFound(id, life, found));
    }

    pub(crate) fn read_snapshot(
        &mut self,
        id: NodeId,
        token: Token,
        of: SnapshotAt,
        (from, bytes): (u64, u32),
    ) {
        let mut result = self.nodes[id.0].snapshots.piece(of, from, bytes).ok_or("it is gone".to_string());
        if let Ok(piece) = &mut result
            && self.snapshot_rng.chance(self.options.misread_percent)
        {
            self.misread += 1;
            let at = self.snapshot_rng.below(piece.len() as u64) as usize;
            piece[at] ^= 1 << self.snapshot_rng.below(8);
        }
        self.note(id, || format!("-> ReadSnapshot {} at {from}, {bytes} bytes", token.0));
        let (life, result) = (self.nodes[id.0].life, result.map(Bytes::from));
        let wait = crate::options::around(&mut self.snapshot_rng, self.options.sync / 4);
        self.schedule.after(wait, Event::SnapshotRead(id, life, token, result));
    }

    /// All of a node's files are lost, and the node dies with them; it comes back. Not if it was the last that had what the
    /// log has no more, or may let go any time, as all nodes have said that they don't need it: that would be lost for good.
    pub fn wipe(&mut self, id: NodeId, down: Duration) -> bool {
        let of_zk = |n: &&crate::node::Node| matches!(n.role, Role::Zk(_));
        let said = self.nodes.iter().filter(of_zk).map(|n| n.snapshots.newest_ever()).min();
        let point = self.checks.trim.point().max(said.unwrap_or(Gsn(0)));
        let has_it = |n: &crate::node::Node| n.snapshots.newest_good().is_some_and(|(gsn, _)| gsn >= point);
        let others = self.nodes.iter().enumerate().filter(|(i, _)| *i != id.0);
        if point > Gsn(0) && !others.map(|(_, n)| n).any(has_it) {
            return false;
        }
        self.note(id, || "all its files are lost".into());
        if self.nodes[id.0].is_up() {
            self.crash_for(id, down);
        }
        self.nodes[id.0].snapshots.wipe();
        self.wiped += 1;
        true
    }

    pub(crate) fn save_snapshot(&mut self, id: NodeId, gsn: Gsn, bytes: &Bytes, last: bool) {
        self.note(id, || format!("-> SaveSnapshot at {gsn}, {} bytes, last: {last}", bytes.len()));
        self.nodes[id.0].snapshots.write(gsn, bytes, last);
        self.answer_save(id, gsn, last);
    }

    pub(crate) fn save_part(&mut self, id: NodeId, of: SnapshotAt, from: u64, (bytes, last): (&Bytes, bool)) {
        let gsn = of.gsn;
        self.note(id, || format!("-> SavePart of {gsn} from {from}, {} bytes, last: {last}", bytes.len()));
        self.nodes[id.0].snapshots.write_part(of, from, bytes, last);
        self.answer_save(id, gsn, last);
    }

    fn answer_save(&mut self, id: NodeId, gsn: Gsn, last: bool) {
        let (life, sync) = (self.nodes[id.0].life, self.options.sync);
        let wait = crate::options::around(&mut self.snapshot_rng, sync * 4);
        let full = self.stormy && self.snapshot_rng.chance(2);
        let result = if full { Err("no space left on the device".into()) } else { Ok(()) };
        self.schedule.after(wait, Event::SnapshotSaved(id, life, gsn, last, result));
    }
}
