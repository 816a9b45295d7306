//! How do batches get to the backups? In order, each exactly at the backup's length, while they are still
//! on their way to our own disk.

use super::Replica;
use super::sync::Phase;
use crate::effects::{Effects, Refusal, encode_batches};
use crate::loads::{Purpose, Stretch};
use crate::writers::Head;
use bytes::Bytes;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{LaneBase, RefusedWhy, Replicate};

impl Replica {
    /// The primary's side, at the end of a turn: sends every backup that is in step what it lacks. The
    /// connections returned are to be refused: their backups contradict us.
    pub fn pump_backups(&mut self, fx: &mut Effects) -> Vec<(ConnId, Refusal)> {
        let mut refused = Vec::new();
        if !self.own.serving || !self.live {
            return refused;
        }
        for i in 0..self.own.backups.len() {
            if let Err((conn, why)) = self.pump_backup(fx, i) {
                refused.push((conn, why));
            }
        }
        refused
    }

    fn pump_backup(&mut self, fx: &mut Effects, i: usize) -> Result<(), (ConnId, Refusal)> {
        let Some(stream) = self.own.backups[i].as_ref().and_then(|b| b.stream.as_ref()) else {
            return Ok(());
        };
        let Phase::Streaming { sent, prev, loading: false } = stream.phase else { return Ok(()) };
        let (conn, number) = (stream.conn, stream.number);
        if sent < self.own_lane().start && self.send_base(fx, i) {
            return self.pump_backup(fx, i);
        }
        let lane = self.own_lane();
        let contradiction = |what| {
            let text =
                format!("lane {} at {sent}: the backup's last placement is {prev:#010x}, {what}", lane.id);
            Err((conn, Refusal::new(RefusedWhy::Damaged, text)))
        };
        if sent == lane.accepted {
            return if prev == lane.last { Ok(()) } else { contradiction("ours is another") };
        }
        let from = sent.max(lane.start);
        let phase = if sent >= lane.cache_start() {
            let batches: Vec<&PlacedBatch> = lane.cached_from(sent).collect();
            if batches[0].placement.first_lsn.0 != sent || batches[0].placement.prev != prev {
                return contradiction("our next batch follows another");
            }
            let head = Replicate { lane: lane.id, incarnation: self.own.incarnation, stream: number };
            send_in_frames(fx, conn, &head, &batches, self.bounds.replicate_bytes);
            Phase::Streaming { sent: lane.accepted, prev: lane.last, loading: false }
        } else {
            let (pieces, to) =
                lane.pieces(from, lane.accepted, self.bounds.replicate_bytes, self.bounds.read_batches);
            if pieces.is_empty() {
                return contradiction("and what follows is lost here");
            }
            let stretch = Stretch { from, to };
            fx.load(Purpose::CatchUp { shard: self.shard, backup: i as u8, stream: number, stretch }, pieces);
            Phase::Streaming { sent, prev, loading: true }
        };
        self.own.backups[i].as_mut().and_then(|b| b.stream.as_mut()).expect("looked at above").phase = phase;
        Ok(())
    }

    /// What a backup lacked was read back.
    ///
    /// # Errors
    /// The connection is to be refused: it can't be had, or the backup contradicts it.
    pub fn caught_up(
        &mut self,
        fx: &mut Effects,
        backup: u8,
        number: u64,
        stretch: Stretch,
        result: Result<Vec<PlacedBatch>, String>,
    ) -> Result<(), (ConnId, Refusal)> {
        let (id, incarnation, bytes_max) =
            (self.own_lane().id, self.own.incarnation, self.bounds.replicate_bytes);
        let stream = self.own.backups.get_mut(usize::from(backup)).and_then(Option::as_mut);
        let Some(stream) = stream.and_then(|b| b.stream.as_mut()).filter(|s| s.number == number) else {
            return Ok(()); // that stream is gone
        };
        let Phase::Streaming { sent, prev, loading: true } = stream.phase else { return Ok(()) };
        assert!(sent <= stretch.from, "lane {id}: {sent} sent while {stretch:?} was loaded");
        let refuse = |text: String| Err((stream.conn, Refusal::new(RefusedWhy::Damaged, text)));
        let batches = match result {
            Ok(batches) => batches,
            Err(why) => return refuse(format!("what the backup lacks can't be read: {why}")),
        };
        let Some(first) = batches.first().map(|b| b.placement) else {
            return refuse(format!("lane {id} at {sent}: nothing is there"));
        };
        if sent < stretch.from {
            // What lies between is trimmed, here too.
            let base =
                LaneBase { lane: id, incarnation, stream: number, from: first.first_lsn, last: first.prev };
            fx.send(stream.conn, base);
        } else if first.prev != prev {
            return refuse(format!("lane {id} at {sent}: the backup's last placement is another than ours"));
        }
        let last = batches.last().expect("there is a first").placement.crc;
        stream.phase = Phase::Streaming { sent: stretch.to, prev: last, loading: false };
        let conn = stream.conn;
        let head = Replicate { lane: id, incarnation, stream: number };
        send_in_frames(fx, conn, &head, &batches.iter().collect::<Vec<_>>(), bytes_max);
        Ok(())
    }

    /// The backup's side: takes what the primary's current stream brings.
    ///
    /// # Errors
    /// The connection is to be refused: another stream's frame, or one that doesn't fit. Batches before the
    /// first that doesn't fit were taken.
    pub fn replicate(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        m: &Replicate,
        mut payload: Bytes,
    ) -> Result<(), Refusal> {
        let invalid = |text: String| Err(Refusal::new(RefusedWhy::Invalid, text));
        let i = usize::from(m.lane.index());
        if i >= self.lanes.len() || i == usize::from(self.index) {
            return invalid(format!("a stream of lane {}, which is not backed up here", m.lane));
        }
        self.inbound[i].check(conn, m.incarnation, m.stream)?;
        if !self.inbound[i].answered() {
            return Err(Refusal::new(RefusedWhy::Unexpected, "a batch before the answer to Sync"));
        }
        if !self.live {
            return Ok(()); // its primary has yet to hear that the shard is finalized
        }
        while !payload.is_empty() {
            let placed = match PlacedBatch::check_next(&mut payload) {
                Ok(placed) => placed,
                Err(e) => return invalid(format!("lane {}: {e}", m.lane)),
            };
            if let Some(why) = self.lanes[i].refusal(&placed) {
                return invalid(why);
            }
            if placed.placement.incarnation > m.incarnation {
                return invalid(format!("lane {}: a batch of a later incarnation than its stream", m.lane));
            }
            let (lane, windows) = (&mut self.lanes[i], &mut self.writers[i]);
            windows.backed_up(&Head::of(&placed.batch), placed.placement.first_lsn.0, lane.committed);
            lane.accept(placed.clone());
            fx.staged.push(placed);
        }
        Ok(())
    }
}

fn send_in_frames(
    fx: &mut Effects,
    conn: ConnId,
    head: &Replicate,
    batches: &[&PlacedBatch],
    bytes_max: usize,
) {
    let mut rest = batches;
    while !rest.is_empty() {
        let n = frame_of(rest, bytes_max);
        fx.send_bytes(conn, encode_batches(head.clone(), &rest[..n]));
        rest = &rest[n..];
    }
}

/// How many of `batches` go into a payload of at most `bytes_max` bytes: at least one.
pub(super) fn frame_of(batches: &[&PlacedBatch], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let n = batches.iter().take_while(|b| {
        bytes += b.encoded_len();
        bytes <= bytes_max
    });
    n.count().max(1)
}
