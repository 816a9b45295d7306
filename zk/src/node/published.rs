//! What do connection executors hear from the one that applies? One immutable value per batch, the same for all of
//! them: what changed, in GSN order, and in between, at their places, the answers and whatever else concerns single
//! connections. And what do they say to it?
//!
//! A value is published before the lock on the state that it describes is released, and an executor that has taken the
//! lock takes what was published before it reads. So it has told its clients of every change that it can see, and
//! has answered what was asked before (ZK-3).

use super::listing::Listing;
use super::report::About;
use super::status::Counts;
use crate::txn::{AuthId, Change};
use crate::watch::Kind;
use bytes::Bytes;
use std::time::Duration;
use zoolog_core::{ConnId, Instant};

/// A connection's number in the whole node: its executor's above, its number there below. Bit 63 stays free.
const FRONT_SHIFT: u32 = 48;

/// The number in the whole node of connection `conn` of front `front`.
///
/// # Panics
/// When either is out of bounds: a process would have to accept 2^48 connections.
pub fn conn_of(front: u16, conn: ConnId) -> ConnId {
    assert!(conn.0 >> FRONT_SHIFT == 0 && front >> 15 == 0, "connection {} of front {front}", conn.0);
    ConnId(u64::from(front) << FRONT_SHIFT | conn.0)
}

/// Which front a connection is at.
pub const fn front_of(conn: ConnId) -> u16 {
    (conn.0 >> FRONT_SHIFT) as u16
}

/// Its number there.
pub(super) const fn local(conn: ConnId) -> ConnId {
    ConnId(conn.0 & ((1 << FRONT_SHIFT) - 1))
}

/// One of the things that happened, in the order in which they did.
#[derive(Debug)]
pub(super) enum Item {
    /// The tree changed.
    Changed { zxid: i64, change: Change },
    /// So many answers to a connection, whose bytes go on to `end`. Its session was shown alive by a record that was
    /// appended at `vouched_at`, and has come back.
    Answered { conn: ConnId, end: usize, answers: u32, vouched_at: Instant },
    /// The last of its answers is to be gone on with in pieces.
    Lists { conn: ConnId, listing: Box<Listing> },
    /// A read among its requests leaves a watch.
    Watched { conn: ConnId, kind: Kind, path: Box<str> },
    /// It is this, besides what its address says.
    Proved { conn: ConnId, ids: Box<[AuthId]> },
    /// It has its session.
    Opened { conn: ConnId, timeout: Duration, vouched_at: Instant },
    /// It has a session that only reads: all that it asks is passed on.
    ReadOnly { conn: ConnId },
    /// Its session was shown alive, as above.
    Vouched { conn: ConnId, at: Instant },
    /// It should be read from, or not.
    Paused { conn: ConnId, paused: bool },
    /// It is to end, behind what it was answered; `cut`: without what is under way.
    Closed { conn: ConnId, cut: bool },
    /// All fronts are to say what they have counted.
    Counting { ask: u64, about: About },
}

/// What one batch, or whatever else happened, means for the connections.
#[derive(Debug)]
pub struct Published {
    /// zxid of the last record that was applied.
    pub(super) zxid: i64,
    /// When the newest record of this node that has come back was appended.
    pub(super) vouched_at: Instant,
    /// Between two touches, while there are sessions.
    pub(super) touch_interval: Option<Duration>,
    pub(super) items: Vec<Item>,
    /// Of all answers, one behind the other.
    pub(super) bytes: Vec<u8>,
}

impl Published {
    /// Whether front `front` has something to do soon: something of its own, or changes while it watches.
    pub fn concerns(&self, front: u16, watches: bool) -> bool {
        self.items.iter().any(|item| match item {
            Item::Changed { .. } => watches,
            Item::Answered { conn, .. }
            | Item::Watched { conn, .. }
            | Item::Lists { conn, .. }
            | Item::Opened { conn, .. }
            | Item::ReadOnly { conn }
            | Item::Paused { conn, .. }
            | Item::Closed { conn, .. } => front_of(*conn) == front,
            // Matters only when a request comes.
            Item::Proved { .. } | Item::Vouched { .. } => false,
            Item::Counting { .. } => true,
        })
    }
}

/// What will be published next.
#[derive(Debug)]
pub(super) struct Draft {
    fronts: u16,
    items: Vec<Item>,
    bytes: Vec<u8>,
    /// zxid of the last record that was applied.
    zxid: i64,
}

impl Draft {
    pub(super) fn new(fronts: u16, zxid: i64) -> Self {
        Self { fronts, items: Vec::new(), bytes: Vec::new(), zxid }
    }

    /// How many fronts there are.
    pub(super) fn fronts(&self) -> u16 {
        self.fronts
    }

    /// Everything up to this zxid is applied.
    pub(super) fn applied(&mut self, zxid: i64) {
        // A node that began anew may have gone back, and serves nobody until it is further.
        self.zxid = self.zxid.max(zxid);
    }

    pub(super) fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    pub(super) fn answered(&mut self, conn: ConnId, bytes: &[u8], answers: u32, vouched_at: Instant) {
        self.bytes.extend_from_slice(bytes);
        self.items.push(Item::Answered { conn, end: self.bytes.len(), answers, vouched_at });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What there is so far; the next begins empty.
    pub(super) fn take(&mut self, vouched_at: Instant, touch_interval: Option<Duration>) -> Published {
        // The next is about as long as this one: one allocation each.
        let items = Vec::with_capacity(self.items.len());
        let bytes = Vec::with_capacity(self.bytes.len());
        Published {
            zxid: self.zxid,
            vouched_at,
            touch_interval,
            items: std::mem::replace(&mut self.items, items),
            bytes: std::mem::replace(&mut self.bytes, bytes),
        }
    }
}

/// What a front says. Connections are named by their numbers in the whole node.
#[derive(Debug)]
pub enum Said {
    /// A client has connected.
    Accepted {
        /// Its connection.
        conn: ConnId,
        /// `ip:port`.
        peer: String,
    },
    /// A request that must be in order with writes, or whatever else the front doesn't answer itself.
    Frame {
        /// Of which connection.
        conn: ConnId,
        /// As it came.
        bytes: Bytes,
    },
    /// The connection is gone.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// Much waits to leave over it, or doesn't any more.
    Backlog {
        /// Which one.
        conn: ConnId,
        /// Whether much waits.
        high: bool,
    },
    /// Its client was heard; said now and then only.
    Heard {
        /// Which one.
        conn: ConnId,
        /// When.
        at: Instant,
    },
    /// So many bytes of its answers were handed to the socket.
    Took {
        /// Which one.
        conn: ConnId,
        /// Bytes.
        bytes: usize,
    },
    /// What was counted there.
    Counts {
        /// Of the question.
        ask: u64,
        /// The figures.
        counts: Box<Counts>,
    },
}
