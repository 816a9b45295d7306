//! How do primary and backups agree on what a lane holds? A lane never shrinks, and no LSN is written twice.
//!
//! A primary opens a numbered stream to each backup with `Sync`. The backup fences every older stream,
//! waits until all it accepted is durable, and says what it holds. After a start the primary takes no append
//! before all backups have answered: whatever a backup holds beyond it was placed by an earlier life of its
//! own, so it is adopted, placements and all, and streamed to the backups that lack it. A backup that comes
//! back later in the same incarnation gets a new stream and what it lacks.

use super::Replica;
use crate::effects::{Effects, Refusal, encode_batches};
use crate::event::SlotEvent;
use crate::loads::Purpose;
use bytes::Bytes;
use zoolog_core::batch::PlacedBatch;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{DiskRoom, FetchLane, LaneIs, RefusedWhy, Room, Sync, Synced};
use zoolog_core::{Incarnation, Lsn, SlotId};

/// The primary's view of a backup.
#[derive(Debug)]
pub(crate) struct Backup {
    /// Where it lives.
    pub slot: SlotId,
    /// The stream to it, while there is a connection.
    pub stream: Option<Stream>,
    /// How much room its disk has, as it last said over that stream.
    pub room: DiskRoom,
}

/// A stream of the own lane to a backup.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its connection.
    pub conn: ConnId,
    /// Its number.
    pub number: u64,
    /// How far it is.
    pub phase: Phase,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `Sync` is sent.
    Asked,
    /// Answered, while others are waited for; `fetching` from that LSN.
    Answered { len: u64, last: u32, fetching: Option<u64> },
    /// Everything before `sent` is at the backup or on its way there, `prev` is the last placement's
    /// checksum; `loading` while what comes next is read back.
    Streaming { sent: u64, prev: u32, loading: bool },
}

/// The backup's view of a stream.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The newest (incarnation, stream) seen: all others are fenced.
    pub newest: (Incarnation, u64),
    /// Its connection.
    conn: Option<ConnId>,
    /// `Sync` came, the answer waits for the disk.
    waiting: bool,
    /// What the primary fetches is being read back.
    fetching: bool,
}

impl Inbound {
    /// No stream; those of incarnations before `incarnation` will not be taken.
    pub fn fenced(incarnation: Incarnation) -> Self {
        Self { newest: (incarnation, 0), ..Self::default() }
    }

    /// Refuses what isn't of the newest stream on its connection.
    pub fn check(&self, conn: ConnId, incarnation: Incarnation, stream: u64) -> Result<(), Refusal> {
        if self.conn == Some(conn) && self.newest == (incarnation, stream) {
            return Ok(());
        }
        let (i, s) = self.newest;
        let text = format!("stream {stream} of incarnation {incarnation} is not the newest, {s} of {i} is");
        Err(Refusal::new(RefusedWhy::Stale, text))
    }

    /// The primary's connection, while there is one.
    pub fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    /// Whether the primary knows what is held here.
    pub fn answered(&self) -> bool {
        !self.waiting
    }
}

impl Backup {
    /// A backup to which there is no stream yet.
    pub fn new(slot: SlotId) -> Self {
        Self { slot, stream: None, room: DiskRoom::Ample }
    }
}

impl Replica {
    /// Whether a stream to that slot is wanted and missing.
    pub fn lacks_stream(&self, slot: SlotId) -> bool {
        self.live && self.own.backups.iter().flatten().any(|b| b.slot == slot && b.stream.is_none())
    }

    /// Opens a stream to that slot, with a number greater than any before.
    pub fn open_stream(&mut self, fx: &mut Effects, slot: SlotId, conn: ConnId, number: u64) {
        let (lane, incarnation) = (self.own_lane().id, self.own.incarnation);
        for backup in self.own.backups.iter_mut().flatten().filter(|b| b.slot == slot) {
            backup.stream = Some(Stream { conn, number, phase: Phase::Asked });
            fx.send(conn, Sync { lane, incarnation, stream: number });
        }
    }

    /// The streams over `conn` are gone, in both directions.
    pub(super) fn streams_closed(&mut self, conn: ConnId) {
        for b in self.own.backups.iter_mut().flatten() {
            if b.stream.take_if(|s| s.conn == conn).is_some() {
                b.room = DiskRoom::Ample;
            }
        }
        for inbound in self.inbound.iter_mut().filter(|i| i.conn == Some(conn)) {
            (inbound.conn, inbound.waiting) = (None, false);
        }
    }

    /// How much room there is for the own lane: the least of all disks that hold it.
    pub fn room(&self) -> DiskRoom {
        self.own.backups.iter().flatten().map(|b| b.room).fold(self.disk, DiskRoom::max)
    }

    /// The backup's side: tells the primaries of the lanes that are backed up here how much room there is.
    pub fn tell_primaries(&self, fx: &mut Effects) {
        for (lane, inbound) in self.lanes.iter().zip(&self.inbound) {
            if let Some(conn) = inbound.conn {
                fx.send(conn, Room { lane: lane.id, room: self.disk });
            }
        }
    }

    /// The primary's side of that.
    pub fn backup_has(&mut self, slot: SlotId, room: DiskRoom) {
        for b in self.own.backups.iter_mut().flatten().filter(|b| b.slot == slot) {
            b.room = room;
        }
    }

    /// Whether that slot owes us an answer, or progress.
    pub fn is_owed_by(&self, slot: SlotId) -> bool {
        if !self.live {
            return false;
        }
        let behind = self.own_lane().accepted > self.own_lane().committed;
        let streams =
            self.own.backups.iter().flatten().filter(|b| b.slot == slot).filter_map(|b| b.stream.as_ref());
        streams.into_iter().any(|s| match s.phase {
            Phase::Asked => true,
            Phase::Answered { fetching, .. } => fetching.is_some(),
            Phase::Streaming { .. } => behind,
        })
    }

    /// The backup's side of `Sync`.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub fn sync(&mut self, fx: &mut Effects, conn: ConnId, m: &Sync) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        if i >= self.lanes.len() || i == usize::from(self.index) {
            return Err(Refusal::new(RefusedWhy::Invalid, format!("lane {} is not backed up here", m.lane)));
        }
        let inbound = &mut self.inbound[i];
        if (m.incarnation, m.stream) <= inbound.newest {
            let (i, s) = inbound.newest;
            let text = format!("stream {} of incarnation {}: {s} of {i} was seen", m.stream, m.incarnation);
            return Err(Refusal::new(RefusedWhy::Stale, text));
        }
        inbound.newest = (m.incarnation, m.stream);
        (inbound.conn, inbound.waiting) = (Some(conn), true);
        if self.disk != DiskRoom::Ample {
            fx.send(conn, Room { lane: m.lane, room: self.disk });
        }
        self.answer_sync(fx, i);
        Ok(())
    }

    /// Answers a waiting `Sync` of lane `i` once all that was accepted is durable.
    pub(super) fn answer_sync(&mut self, fx: &mut Effects, i: usize) {
        let (lane, inbound) = (&self.lanes[i], &mut self.inbound[i]);
        if !inbound.waiting || lane.durable < lane.accepted {
            return;
        }
        inbound.waiting = false;
        let (incarnation, stream) = inbound.newest;
        let conn = inbound.conn.expect("a waiting Sync has its connection");
        fx.send(conn, Synced { lane: lane.id, incarnation, stream, len: lane.durable, last: lane.last });
    }

    /// The primary's side of the answer.
    ///
    /// # Errors
    /// The connection is to be refused: the backup lacks what is committed, or has what we never placed.
    pub fn synced(&mut self, fx: &mut Effects, conn: ConnId, m: &Synced) -> Result<(), Refusal> {
        let (committed, accepted) = (self.own_lane().committed, self.own_lane().accepted);
        let start = self.own_lane().start;
        let (serving, incarnation, id) = (self.own.serving, self.own.incarnation, self.own_lane().id);
        let Some(stream) = self.stream_mut(conn, m.incarnation, m.stream) else { return Ok(()) };
        if stream.phase != Phase::Asked {
            return Err(Refusal::new(RefusedWhy::Unexpected, "a second answer to Sync"));
        }
        // What it lacks from `start` on it must have had; what lies before that it need not have any more.
        if m.len < committed && m.len >= start {
            let text = format!("of lane {id} {committed} records are committed, you hold {}", m.len);
            return Err(Refusal::new(RefusedWhy::Damaged, text));
        }
        if !serving {
            stream.phase = Phase::Answered { len: m.len, last: m.last, fetching: None };
            self.try_to_serve(fx);
            return Ok(());
        }
        if m.len > accepted {
            let text =
                format!("lane {id} has {accepted} records in incarnation {incarnation}, you hold {}", m.len);
            return Err(Refusal::new(RefusedWhy::Damaged, text));
        }
        stream.phase = Phase::Streaming { sent: m.len, prev: m.last, loading: false };
        Ok(())
    }

    fn stream_mut(&mut self, conn: ConnId, incarnation: Incarnation, number: u64) -> Option<&mut Stream> {
        if incarnation != self.own.incarnation {
            return None;
        }
        let streams = self.own.backups.iter_mut().flatten().filter_map(|b| b.stream.as_mut());
        streams.into_iter().find(|s| s.conn == conn && s.number == number)
    }

    /// Adopts the longest suffix among the backups once all have answered, and then serves.
    pub fn try_to_serve(&mut self, fx: &mut Effects) {
        if self.own.serving || !self.live || self.mend.open || self.mend.is_crippled(self.index) {
            return;
        }
        let (lane, incarnation) = (self.own_lane().id, self.own.incarnation);
        let accepted = self.own_lane().accepted;
        let mut longest: Option<(u64, usize)> = None;
        for (i, backup) in self.own.backups.iter().enumerate() {
            let Some(backup) = backup else { continue };
            match backup.stream.as_ref().map(|s| s.phase) {
                Some(Phase::Answered { len, fetching: None, .. }) => {
                    if len > longest.map_or(accepted, |l| l.0) {
                        longest = Some((len, i));
                    }
                }
                _ => return, // not answered, or being asked for what it has
            }
        }
        if let Some((_, i)) = longest {
            let stream = self.own.backups[i].as_mut().and_then(|b| b.stream.as_mut()).expect("it answered");
            if let Phase::Answered { fetching, .. } = &mut stream.phase {
                *fetching = Some(accepted);
            }
            let question = FetchLane { lane, incarnation, stream: stream.number, from: Lsn(accepted) };
            fx.send(stream.conn, question);
            return;
        }
        for stream in self.own.backups.iter_mut().flatten().filter_map(|b| b.stream.as_mut()) {
            if let Phase::Answered { len, last, .. } = stream.phase {
                stream.phase = Phase::Streaming { sent: len, prev: last, loading: false };
            }
        }
        self.own.serving = true;
        self.moved = true;
        fx.event(SlotEvent::Serving { lane, incarnation, len: accepted, adopted: self.own.adopted });
    }

    /// The backup's side of `FetchLane`.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub fn fetch_lane(&mut self, fx: &mut Effects, conn: ConnId, m: &FetchLane) -> Result<(), Refusal> {
        let i = usize::from(m.lane.index());
        if i >= self.lanes.len() || i == usize::from(self.index) {
            return Err(Refusal::new(RefusedWhy::Invalid, format!("lane {} is not backed up here", m.lane)));
        }
        self.inbound[i].check(conn, m.incarnation, m.stream)?;
        if std::mem::replace(&mut self.inbound[i].fetching, true) {
            return Err(Refusal::new(RefusedWhy::Unexpected, "a question before the last one is answered"));
        }
        let lane = &self.lanes[i];
        let (pieces, _) =
            lane.pieces(m.from.0, lane.durable, self.bounds.replicate_bytes, self.bounds.read_batches);
        fx.load(Purpose::Fetch { conn, question: m.clone() }, pieces);
        Ok(())
    }

    /// What a primary asked for was read back, or could not be.
    pub fn fetch_done(&mut self, question: &FetchLane) {
        self.inbound[usize::from(question.lane.index())].fetching = false;
    }

    /// What a primary asked for: the answer's frame.
    pub fn fetched(question: &FetchLane, batches: &[PlacedBatch]) -> Bytes {
        let m = LaneIs {
            lane: question.lane,
            incarnation: question.incarnation,
            stream: question.stream,
            from: question.from,
        };
        encode_batches(m, &batches.iter().collect::<Vec<_>>())
    }

    /// The primary's side of `LaneIs`: adopts what its earlier life had placed.
    ///
    /// # Errors
    /// The connection is to be refused: what came contradicts what is here, or what the backup said.
    pub fn lane_is(
        &mut self,
        fx: &mut Effects,
        conn: ConnId,
        m: &LaneIs,
        mut payload: Bytes,
    ) -> Result<(), Refusal> {
        let (accepted, incarnation) = (self.own_lane().accepted, self.own.incarnation);
        let Some(stream) = self.stream_mut(conn, m.incarnation, m.stream) else { return Ok(()) };
        let Phase::Answered { len, last, fetching: Some(from) } = stream.phase else {
            return Err(Refusal::new(RefusedWhy::Unexpected, "batches nobody asked for"));
        };
        stream.phase = Phase::Answered { len, last, fetching: None };
        let damaged = |text: String| Err(Refusal::new(RefusedWhy::Damaged, text));
        if m.lane != self.own_lane().id || m.from.0 != from || from != accepted {
            return damaged(format!("batches of lane {} from {}, wanted from {accepted}", m.lane, m.from));
        }
        while !payload.is_empty() {
            let placed = match PlacedBatch::check_next(&mut payload) {
                Ok(placed) => placed,
                Err(e) => return damaged(format!("lane {}: {e}", m.lane)),
            };
            let later = placed.placement.incarnation > incarnation || placed.end_lsn().0 > len;
            if let Some(why) = self.own_lane().refusal(&placed) {
                return damaged(why);
            }
            if later {
                return damaged(format!(
                    "lane {}: a batch beyond what the backup said, or of a later life",
                    m.lane
                ));
            }
            self.own.adopted += u64::from(placed.batch.count());
            self.enter(fx, placed, true);
        }
        if self.own_lane().accepted == from {
            return damaged(format!("lane {}: {len} records stated, none from {from} on given", m.lane));
        }
        self.try_to_serve(fx);
        Ok(())
    }
}
