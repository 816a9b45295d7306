//! What do writers, readers and subscribers want? Their requests, and how each connection is kept from
//! asking for more than it may.

use super::Slot;
use super::conns::Hold;
use crate::effects::Refusal;
use crate::replica::{read_answer, unavailable};
use bytes::Bytes;
use zoolog_core::batch::{Batch, BatchKind, PlacedBatch};
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{
    self, Append, AppendRefused, AppendRefusedWhy, DiskRoom, Fence, Message, Read, ReadIs, RefusedWhy,
    ResolveEnd, Resolved, Room,
};
use zoolog_core::{LaneId, Seq, WriterId};

impl Slot {
    /// A message from a client.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_client(
        &mut self,
        conn: ConnId,
        message: Message,
        payload: Bytes,
    ) -> Result<(), Refusal> {
        match message {
            Message::Append(m) => self.on_append(conn, &m, payload),
            Message::Read(m) => self.on_read(conn, m)?,
            Message::Subscribe(m) => match self.replicas.get_mut(&m.shard) {
                Some(replica) => replica.subscribe(conn, &m)?,
                None => {
                    let text = format!("shard {} is not known here yet", m.shard);
                    return Err(Refusal::new(RefusedWhy::NotReady, text));
                }
            },
            Message::Credit(m) => {
                if let Some(replica) = self.replicas.get_mut(&m.lane.shard()) {
                    replica.credit(conn, m.lane, m.bytes);
                }
            }
            Message::Resolve(m) => {
                let unknown = || Resolved {
                    request: m.request,
                    lane: m.lane,
                    writer: m.writer,
                    end: ResolveEnd::NotReady,
                    tail: None,
                    newest: None,
                    acks: vec![],
                };
                let answer = self.replicas.get(&m.lane.shard()).map_or_else(unknown, |r| r.resolve(&m));
                self.fx.send(conn, answer);
            }
            Message::Fence(m) => self.on_fence(&m, payload)?,
            Message::Status(m) => self.answer_status(conn, m.request),
            Message::Stages(m) => self.answer_stages(conn, &m),
            other => return Err(super::unexpected(&other)),
        }
        Ok(())
    }

    /// A fence, from its writer or passed on by a backup: for the primary of the lane, here or elsewhere.
    ///
    /// # Errors
    /// The connection is to be refused: it is no fence.
    pub(super) fn on_fence(&mut self, m: &Fence, payload: Bytes) -> Result<(), Refusal> {
        let invalid = |text: String| Refusal::new(RefusedWhy::Invalid, text);
        let batch = Batch::check(payload).map_err(|e| invalid(format!("a fence of lane {}: {e}", m.lane)))?;
        if batch.kind() != BatchKind::Fence {
            return Err(invalid(format!("a batch of records as a fence of lane {}", m.lane)));
        }
        let Some(replica) = self.replicas.get_mut(&m.lane.shard()) else { return Ok(()) };
        if replica.index == m.lane.index() {
            replica.fence(&mut self.fx, batch);
        } else if let Some(primary) = replica.primary_of(usize::from(m.lane.index())) {
            self.fx.send_bytes(primary, wire::encode_with(m.clone(), &[batch.bytes()]));
        }
        Ok(())
    }

    fn on_append(&mut self, conn: ConnId, m: &Append, payload: Bytes) {
        let batch = match Batch::check(payload) {
            Ok(batch) => batch,
            Err(e) => {
                tracing::warn!(conn = conn.0, lane = %m.lane, %e, "a malformed batch");
                let (writer, seq) = (WriterId(0), Seq(0));
                let (lane, why) = (m.lane, AppendRefusedWhy::Malformed);
                let refused = AppendRefused { lane, writer, seq, why, expected: seq };
                self.fx.send(conn, refused);
                return;
            }
        };
        let (writer, seq) = (batch.writer(), batch.seq());
        let c = self.conns.get_mut(&conn).expect("a frame comes over a connection");
        let replica = self.replicas.get_mut(&m.lane.shard()).filter(|r| r.index == m.lane.index());
        let Some(replica) = replica else {
            self.refuse_append(conn, m.lane, writer, seq, (AppendRefusedWhy::NotPrimary, seq));
            return;
        };
        // Who appends where there is little room is told so before his answer.
        let (shard, room) = (replica.shard, replica.room());
        let told = c.writes.filter(|(s, _)| *s == shard).map_or(DiskRoom::Ample, |(_, told)| told);
        c.writes = Some((shard, room));
        if told != room {
            self.fx.send(conn, Room { lane: m.lane, room });
        }
        if let Some((.., expected)) = c.refused.filter(|r| (r.0, r.1) == (m.lane, writer) && seq > r.2)
            && !replica.has_taken(writer, expected)
        {
            return; // its writer was told that this one is not taken either
        }
        match replica.append(&mut self.fx, conn, (m.start, m.prompt), batch) {
            Ok(()) => {
                let is_full = replica.is_full();
                c.refused.take_if(|r| (r.0, r.1) == (m.lane, writer) && seq >= r.2);
                if is_full {
                    self.hold(conn, Hold::Lane(shard));
                }
                if self.unsynced_bytes > self.cfg.bounds.unsynced_bytes {
                    self.hold(conn, Hold::Disk);
                }
            }
            Err(refusal) => self.refuse_append(conn, m.lane, writer, seq, refusal),
        }
    }

    fn refuse_append(
        &mut self,
        conn: ConnId,
        lane: LaneId,
        writer: WriterId,
        seq: Seq,
        (why, expected): (AppendRefusedWhy, Seq),
    ) {
        if let Some(c) = self.conns.get_mut(&conn) {
            c.refused = Some((lane, writer, expected.min(seq)));
        }
        self.fx.send(conn, AppendRefused { lane, writer, seq, why, expected });
    }

    fn on_read(&mut self, conn: ConnId, m: Read) -> Result<(), Refusal> {
        let bound = self.cfg.bounds.reads;
        let c = self.conns.get_mut(&conn).expect("a frame comes over a connection");
        if c.reads < bound && !self.backlogged.contains(&conn) {
            self.start_read(conn, &m);
            return Ok(());
        }
        // It was asked to stop at the bound; what had left it before may still come.
        if c.queued.len() >= 64 * bound {
            return Err(Refusal::new(RefusedWhy::Invalid, "too many reads at once"));
        }
        c.queued.push_back(m);
        self.hold(conn, Hold::Reads);
        Ok(())
    }

    fn start_read(&mut self, conn: ConnId, m: &Read) {
        let Some(replica) = self.replicas.get(&m.shard) else {
            self.fx.send(conn, unavailable(m));
            return;
        };
        self.read_ahead |= replica.read(&mut self.fx, conn, m);
        self.conns.get_mut(&conn).expect("a connection").reads += 1;
    }

    /// The batches of an answer are there: sends it, and starts what waited for it.
    pub(super) fn read_done(
        &mut self,
        conn: ConnId,
        answer: ReadIs,
        result: Result<Vec<PlacedBatch>, String>,
    ) {
        let Some(c) = self.conns.get_mut(&conn) else { return };
        c.reads -= 1;
        if c.closing {
            return;
        }
        self.fx.send_bytes(conn, read_answer(answer, result));
        self.start_queued(conn);
    }

    /// What waits to leave over a connection has come to its bound, or back to it.
    pub(super) fn backlog(&mut self, conn: ConnId, high: bool) {
        if high && self.conns.get(&conn).is_some_and(|c| !c.closing) {
            self.backlogged.insert(conn);
        } else if self.backlogged.remove(&conn) {
            self.start_queued(conn);
        }
    }

    /// Starts reads that wait, as many as may run.
    fn start_queued(&mut self, conn: ConnId) {
        if self.backlogged.contains(&conn) {
            return;
        }
        while let Some(c) = self.conns.get_mut(&conn).filter(|c| c.reads < self.cfg.bounds.reads) {
            let Some(next) = c.queued.pop_front() else {
                self.let_go(conn, Hold::Reads);
                return;
            };
            self.start_read(conn, &next);
        }
    }
}
