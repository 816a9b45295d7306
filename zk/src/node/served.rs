//! What was a connection answered? The last of it, and how long all of it took, for people who ask who loads a node.

use super::queue::{What, WriteOp};
use crate::jute::OpCode;
use std::time::Duration;
use zoolog_core::Instant;

/// What a connection was answered since it began, or since that was reset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    /// The last operation, as ZooKeeper abbreviates it; `NA` before the first.
    pub op: &'static str,
    /// The client's number for it.
    pub xid: i32,
    /// zxid of its answer.
    pub zxid: i64,
    /// When it was answered.
    pub at: Instant,
    /// Milliseconds it took.
    pub last_ms: u32,
    /// Least of all.
    pub min_ms: u32,
    /// Most of all.
    pub max_ms: u32,
    count: u32,
    total_ms: u64,
    /// Frames from and to the connection until it was reset.
    before: (u64, u64),
}

impl Default for Served {
    fn default() -> Self {
        Self {
            op: "NA",
            xid: -1,
            zxid: -1,
            at: Instant(0),
            last_ms: 0,
            min_ms: 0,
            max_ms: 0,
            count: 0,
            total_ms: 0,
            before: (0, 0),
        }
    }
}

impl Served {
    /// An operation was answered after that long.
    pub(super) fn answered(&mut self, op: &'static str, xid: i32, zxid: i64, now: Instant, took: Duration) {
        let ms = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        (self.op, self.xid, self.zxid, self.at, self.last_ms) = (op, xid, zxid, now, ms);
        self.min_ms = if self.count == 0 { ms } else { self.min_ms.min(ms) };
        self.max_ms = self.max_ms.max(ms);
        self.total_ms += u64::from(ms);
        self.count = self.count.saturating_add(1);
    }

    /// The mean of all, in milliseconds.
    pub fn mean_ms(&self) -> u64 {
        self.total_ms / u64::from(self.count.max(1))
    }

    /// Counts anew; so many frames have come and gone.
    pub(super) fn reset(&mut self, received: u64, sent: u64) {
        *self = Self { before: (received, sent), ..Self::default() };
    }

    /// Of so many frames since the connection began, those since it was reset.
    pub(super) fn since_reset(&self, received: u64, sent: u64) -> (u64, u64) {
        (received.saturating_sub(self.before.0), sent.saturating_sub(self.before.1))
    }

    /// With what another executor has answered on the same connection.
    pub(super) fn and(mut self, other: &Self) -> Self {
        if other.count == 0 {
            return self;
        }
        // Within a turn, clients number their requests.
        if (other.at, other.xid) > (self.at, self.xid) {
            (self.op, self.xid, self.zxid) = (other.op, other.xid, other.zxid);
            (self.at, self.last_ms) = (other.at, other.last_ms);
        }
        self.min_ms = if self.count == 0 { other.min_ms } else { self.min_ms.min(other.min_ms) };
        self.max_ms = self.max_ms.max(other.max_ms);
        self.total_ms += other.total_ms;
        self.count = self.count.saturating_add(other.count);
        self
    }
}

/// What a connection is answered first: its session.
pub(super) const SESSION: &str = "SESS";

/// ZooKeeper's abbreviation of a request that waits in a queue.
pub(super) fn abbreviation(what: &What) -> &'static str {
    match what {
        What::Write(op) | What::Unsent(op, _) => match op {
            WriteOp::Create | WriteOp::Create2 => "CREA",
            WriteOp::Delete => "DELE",
            WriteOp::SetData => "SETD",
            WriteOp::Multi => "MULT",
            WriteOp::CloseSession => "CLOS",
            WriteOp::Mark => "NA",
        },
        What::Read(op, _) => OpCode::from_code(*op).map_or("NA", abbreviation_of),
        What::Sync(..) => "SYNC",
        What::Round(_) | What::Refused(_) | What::OfConn(_) => "NA",
    }
}

/// ZooKeeper's abbreviation of an operation that is answered from the state.
pub(super) const fn abbreviation_of(op: OpCode) -> &'static str {
    match op {
        OpCode::Exists => "EXIS",
        OpCode::GetData => "GETD",
        OpCode::GetChildren | OpCode::GetChildren2 => "GETC",
        OpCode::GetAllChildrenNumber => "GETACN",
        OpCode::GetAcl => "GETA",
        OpCode::SetWatches => "SETW",
        OpCode::SetWatches2 => "STW2",
        OpCode::AddWatch => "ADDW",
        OpCode::CheckWatches => "CHKW",
        OpCode::RemoveWatches => "REMW",
        OpCode::GetEphemerals => "GETE",
        OpCode::WhoAmI => "HOMI",
        OpCode::MultiRead => "MLTR",
        _ => "NA",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_executors_answered_adds_up() {
        let mut a = Served::default();
        let mut b = Served::default();
        let ms = Duration::from_millis;
        a.answered("SETD", 1, 10, Instant(5), ms(4));
        a.answered("SETD", 3, 12, Instant(9), ms(8));
        b.answered("GETD", 2, 11, Instant(7), ms(0));
        for both in [a.and(&b), b.and(&a)] {
            assert_eq!((both.op, both.xid, both.zxid, both.last_ms), ("SETD", 3, 12, 8));
            assert_eq!((both.min_ms, both.mean_ms(), both.max_ms), (0, 4, 8));
        }
        assert_eq!(a.and(&Served::default()), a);
        assert_eq!((Served::default().and(&b).min_ms, Served::default().mean_ms()), (0, 0));
        a.reset(7, 5);
        assert_eq!((a.op, a.since_reset(9, 5)), ("NA", (2, 0)));
    }
}
