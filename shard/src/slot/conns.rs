//! Who is on the other end? What a slot remembers of each connection, and when it stops reading from it.

use super::Slot;
use std::collections::{BTreeSet, VecDeque};
use zoolog_core::machine::{ConnId, Output};
use zoolog_core::wire::{DiskRoom, Hello, Read, RefusedWhy, Role};
use zoolog_core::{ClusterId, Instant, LaneId, Seq, ServerId, ShardId, SlotId, WriterId};

use crate::effects::Refusal;

/// Who is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Came to us and has not said `Hello`.
    Stranger,
    /// A writer, reader or subscriber.
    Client,
    /// A slot that is primary of lanes we back up.
    Primary(SlotId),
    /// An orderer that came to us; it may only ask how we are.
    Guest,
    /// The orderer we dialled.
    Leader,
    /// The slot we dialled, which backs up lanes of ours.
    Backup(SlotId),
}

/// Why a connection isn't read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hold {
    /// The shard's own lane has too much that isn't committed.
    Lane(ShardId),
    /// A lane backed up here has far more that isn't committed than its primary should let in.
    Backup(LaneId),
    /// The log has too much that isn't durable.
    Disk,
    /// Too many reads are in progress.
    Reads,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Who.
    pub kind: Kind,
    /// We are done with it; `Closed` is on the way.
    pub closing: bool,
    /// Reads in progress.
    pub reads: usize,
    /// Reads that wait for those.
    pub queued: VecDeque<Read>,
    /// After a refusal: later batches of this writer are not taken in this lane before this number comes.
    pub refused: Option<(LaneId, WriterId, Seq)>,
    /// The shard it last appended to, and what it knows of the room there.
    pub writes: Option<(ShardId, DiskRoom)>,
    holds: BTreeSet<Hold>,
}

impl Conn {
    /// A new connection.
    pub fn new(kind: Kind) -> Self {
        let (queued, holds) = (VecDeque::new(), BTreeSet::new());
        Self { kind, closing: false, reads: 0, queued, refused: None, writes: None, holds }
    }
}

/// Who says `Hello`, if it is to be let in.
pub(crate) fn admit(hello: &Hello, cluster: ClusterId) -> Result<Kind, Refusal> {
    let anonymous = hello.role == Role::Client && hello.cluster == ClusterId(0);
    if hello.cluster != cluster && !anonymous {
        let text = format!("this is cluster {:032x}, not {:032x}", cluster.0, hello.cluster.0);
        return Err(Refusal::new(RefusedWhy::Cluster, text));
    }
    match (hello.role, u32::try_from(hello.node)) {
        (Role::Client, _) => Ok(Kind::Client),
        (Role::Orderer, _) => Ok(Kind::Guest),
        (Role::Slot, Ok(server)) => Ok(Kind::Primary(SlotId { server: ServerId(server), index: hello.slot })),
        (Role::Slot, Err(_)) => Err(Refusal::new(RefusedWhy::Invalid, "no server has that id")),
    }
}

impl Slot {
    /// Dials `addr`, with a connection number never used before.
    pub(super) fn dial(&mut self, addr: String, kind: Kind) -> ConnId {
        let conn = ConnId::dialled(self.dials);
        self.dials += 1;
        self.conns.insert(conn, Conn::new(kind));
        self.fx.out.push_back(Output::Dial { conn, addr });
        conn
    }

    /// Closes a connection and forgets what hangs on it; `Closed` will follow.
    pub(super) fn close(&mut self, now: Instant, conn: ConnId) {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.closing) else { return };
        c.closing = true;
        self.fx.out.push_back(Output::Close { conn });
        self.lost(now, conn);
    }

    /// Says why, closes, and forgets.
    pub(super) fn refuse(&mut self, now: Instant, conn: ConnId, refusal: Refusal) {
        let Some(c) = self.conns.get(&conn).filter(|c| !c.closing) else { return };
        tracing::warn!(conn = conn.0, kind = ?c.kind, why = ?refusal.why, text = %refusal.text, "closing a connection");
        self.fx.refusal(conn, refusal);
        self.close(now, conn);
    }

    /// `Closed` came.
    pub(super) fn closed(&mut self, now: Instant, conn: ConnId) {
        let Some(c) = self.conns.get(&conn) else { return };
        if !c.closing {
            self.lost(now, conn);
        }
        self.conns.remove(&conn);
    }

    fn lost(&mut self, now: Instant, conn: ConnId) {
        let c = self.conns.get_mut(&conn).expect("a connection that is lost was there");
        c.queued.clear();
        for hold in std::mem::take(&mut c.holds) {
            self.held.remove(&(hold, conn));
        }
        let kind = c.kind;
        self.backlogged.remove(&conn);
        self.replicas.values_mut().for_each(|r| r.closed(conn));
        match kind {
            Kind::Leader => self.leader_gone(now),
            Kind::Backup(slot) => self.peer_gone(now, slot),
            Kind::Stranger | Kind::Client | Kind::Primary(_) | Kind::Guest => {}
        }
    }

    /// Stops reading from a connection.
    pub(super) fn hold(&mut self, conn: ConnId, hold: Hold) {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.closing) else { return };
        if c.holds.is_empty() {
            self.fx.out.push_back(Output::Pause { conn });
        }
        c.holds.insert(hold);
        self.held.insert((hold, conn));
    }

    /// Reads again, unless there is another reason not to.
    pub(super) fn let_go(&mut self, conn: ConnId, hold: Hold) {
        self.held.remove(&(hold, conn));
        let Some(c) = self.conns.get_mut(&conn).filter(|c| !c.closing) else { return };
        if c.holds.remove(&hold) && c.holds.is_empty() {
            self.fx.out.push_back(Output::Resume { conn });
        }
    }
}
