//! What leaves at the end of a turn? One `Persist` for all that was taken, the streams to the backups, one
//! report, the writers' answers, and what subscribers may have.

use super::Slot;
use super::conns::Hold;
use crate::effects::Refusal;
use crate::lane::Entry;
use crate::loads::{Done, Purpose, Rot};
use crate::marks::{Item, batch_record, mend_record};
use crate::replica::{PushCache, Replica};
use crate::stages::{BACKUP_WAL, PRIMARY_WAL};
use zoolog_core::Instant;
use zoolog_core::machine::{ConnId, Output, Token};
use zoolog_core::wal::WalPos;
use zoolog_core::wire::{Appended, RefusedWhy};

/// A `Persist` that isn't durable yet.
#[derive(Debug)]
pub(crate) struct Inflight {
    token: Token,
    pub(super) items: Vec<Item>,
    bytes: usize,
    /// When its batches were taken.
    at: Instant,
    /// Segments before this one are not needed once it is durable.
    frees: Option<u32>,
}

impl Slot {
    pub(super) fn end_turn(&mut self, now: Instant) {
        self.tend_leader(now);
        self.tend_peers(now);
        self.finish_jobs(now);
        self.tend_mending(now);
        self.tend_scrub(now);
        self.tend_copies(now);
        self.trim_log();
        self.persist();
        let mut refused: Vec<(ConnId, Refusal)> = Vec::new();
        for replica in self.replicas.values_mut() {
            refused.extend(replica.pump_backups(&mut self.fx));
        }
        self.report(now);
        self.tell_held(now);
        self.tell_writers();
        self.tell_recovering();
        self.acknowledge();
        self.hurry = None;
        let mut cache = PushCache::default();
        for replica in self.replicas.values_mut() {
            let (more, wrong) = replica.pump_subscribers(&mut self.fx, &mut cache, &self.backlogged);
            refused.extend(wrong);
            if more {
                self.hurry = Some(now);
            }
        }
        for (conn, refusal) in refused {
            self.refuse(now, conn, refusal);
        }
        self.release_holds();
        self.check_invariants();
    }

    /// Everything that was taken in this turn becomes one write, marks first: the view and the parts that a
    /// batch rests on are never behind it.
    fn persist(&mut self) {
        // Marks that free segments go alone if nothing else is on its way: an idle or full log lets go, too.
        let alone = self.trim.urgent && self.inflight.is_empty();
        let at_once = std::mem::take(&mut self.fx.at_once) && !self.fx.marks.is_empty();
        if self.fx.staged.is_empty() && self.fx.mended.is_empty() && !at_once && !alone {
            return;
        }
        self.trim.urgent = false;
        let mended = std::mem::take(&mut self.fx.mended);
        let marks = std::mem::take(&mut self.fx.marks);
        let batches = std::mem::take(&mut self.fx.staged);
        let bytes = batches.iter().chain(&mended).map(|b| b.encoded_len()).sum();
        let again = mended.iter().map(mend_record);
        let (items, records): (Vec<_>, Vec<_>) =
            marks.into_iter().chain(again).chain(batches.iter().map(batch_record)).unzip();
        for item in &items {
            if let Item::Cut { shard, number } = *item
                && let Some(replica) = self.replicas.get_mut(&shard)
            {
                replica.emitted = number;
            }
        }
        let token = self.fx.token();
        self.unsynced_bytes += bytes;
        let frees = self.trim.frees.take();
        self.inflight.push_back(Inflight { token, items, bytes, at: self.fx.now, frees });
        self.fx.out.push_back(Output::Persist { token, records });
    }

    /// The oldest `Persist` is durable.
    pub(super) fn persisted(&mut self, token: Token, positions: &[WalPos]) {
        let done = self.inflight.pop_front().filter(|i| i.token == token);
        let done = done.unwrap_or_else(|| panic!("{token:?} is durable, but is not the oldest persist"));
        assert!(
            done.items.len() == positions.len(),
            "{} records were persisted, {} positions came",
            done.items.len(),
            positions.len()
        );
        self.unsynced_bytes -= done.bytes;
        // Batches placed here, and those that came from their primaries.
        let (mut own, mut others) = (0, 0);
        for (item, &pos) in done.items.iter().zip(positions) {
            match *item {
                Item::Batch { lane, first_lsn, count } => {
                    if let Some(replica) = self.replicas.get_mut(&lane.shard()) {
                        replica.batch_durable(&mut self.fx, lane, first_lsn, count, pos);
                        *if lane.index() == replica.index { &mut own } else { &mut others } += 1;
                    }
                }
                Item::Cut { shard, number } => {
                    if let Some(replica) = self.replicas.get_mut(&shard) {
                        replica.part_mark_durable(number, pos.segment);
                    }
                }
                Item::Mend { lane, first_lsn, count } => {
                    if let Some(replica) = self.replicas.get_mut(&lane.shard()) {
                        replica.mend_durable(lane, Entry { first_lsn, count, pos });
                    }
                }
                Item::View | Item::Trim { .. } | Item::Lane { .. } | Item::Forget => {}
            }
            self.entered(pos.segment);
        }
        if own + others > 0 {
            self.unreported.get_or_insert(self.fx.now);
        }
        done.frees.into_iter().for_each(|segment| self.release(segment));
        let took = self.fx.now.since(done.at);
        self.fx.stages.record(PRIMARY_WAL, took, own);
        self.fx.stages.record(BACKUP_WAL, took, others);
    }

    /// One `Appended` per writer and connection.
    fn acknowledge(&mut self) {
        for ((conn, writer), mut acks) in std::mem::take(&mut self.fx.acks) {
            let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.closing) else { continue };
            acks.sort_unstable();
            acks.dedup();
            let newest = acks.last().expect("an answer has acknowledgements").0;
            c.refused.take_if(|(_, w, expected)| *w == writer && newest >= *expected);
            self.fx.send(conn, Appended { writer, acks });
        }
    }

    /// Hands out what was read back.
    pub(super) fn finish_jobs(&mut self, now: Instant) {
        for Rot { lane, first_lsn, pos, why } in std::mem::take(&mut self.fx.rotten) {
            if let Some(replica) = self.replicas.get_mut(&lane.shard()) {
                replica.rotted(&mut self.fx, lane, first_lsn.0, pos, &why);
            }
        }
        while let Some(Done { purpose, result }) = self.fx.done.pop_front() {
            match purpose {
                Purpose::Read { conn, answer } => self.read_done(conn, answer, result),
                Purpose::Fetch { conn, question } => {
                    if let Some(replica) = self.replicas.get_mut(&question.lane.shard()) {
                        replica.fetch_done(&question);
                    }
                    match result {
                        Ok(batches) if self.is_open(conn) => {
                            self.fx.send_bytes(conn, Replica::fetched(&question, &batches));
                        }
                        Ok(_) => {}
                        Err(why) => self.refuse(now, conn, Refusal::new(RefusedWhy::Damaged, why)),
                    }
                }
                Purpose::CatchUp { shard, backup, stream, stretch } => {
                    let replica = self.replicas.get_mut(&shard);
                    let done = replica.map(|r| r.caught_up(&mut self.fx, backup, stream, stretch, result));
                    if let Some(Err((conn, refusal))) = done {
                        self.refuse(now, conn, refusal);
                    }
                }
                Purpose::Lend { conn, answer } => {
                    let Some(replica) = self.replicas.get_mut(&answer.lane.shard()) else { continue };
                    let bytes = replica.lent(conn, answer, &result.unwrap_or_default());
                    if self.is_open(conn) {
                        self.fx.send_bytes(conn, bytes);
                    }
                }
                Purpose::Scrub => self.compared(),
                Purpose::Mend { lane, batches, sides } => {
                    if let Some(replica) = self.replicas.get_mut(&lane.shard()) {
                        replica.compared(&mut self.fx, lane, batches, sides, result);
                    }
                }
                Purpose::Push { conn, lane, generation } => {
                    let replica = self.replicas.get_mut(&lane.shard());
                    let done = replica.map(|r| r.push_loaded(&mut self.fx, conn, lane, generation, result));
                    if let Some(Err(refusal)) = done {
                        self.refuse(now, conn, refusal);
                    }
                }
            }
        }
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|c| !c.closing)
    }

    fn release_holds(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let disk_has_room = self.unsynced_bytes <= self.cfg.bounds.unsynced_bytes / 2;
        let over = |&&(hold, _): &&(Hold, ConnId)| match hold {
            Hold::Lane(shard) => self.replicas.get(&shard).is_none_or(Replica::has_room),
            Hold::Backup(lane) => self.replicas.get(&lane.shard()).is_none_or(|r| r.has_backup_room(lane)),
            Hold::Disk => disk_has_room,
            Hold::Reads => false,
        };
        let released: Vec<(Hold, ConnId)> = self.held.iter().filter(over).copied().collect();
        released.into_iter().for_each(|(hold, conn)| self.let_go(conn, hold));
    }

    fn check_invariants(&self) {
        self.replicas.values().for_each(Replica::check_invariants);
        let bytes: usize = self.inflight.iter().map(|i| i.bytes).sum();
        assert!(
            bytes == self.unsynced_bytes,
            "{bytes} bytes on their way to the log, counted {}",
            self.unsynced_bytes
        );
        assert!(
            self.fx.staged.is_empty(),
            "{} batches were forgotten at the turn's end",
            self.fx.staged.len()
        );
        assert!(
            self.fx.mended.is_empty(),
            "{} mended batches were forgotten at the turn's end",
            self.fx.mended.len()
        );
    }
}
