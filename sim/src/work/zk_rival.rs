//! What becomes of the connection that a session has left? A client that moves sometimes keeps the old one open and goes
//! on there while it asks for the session elsewhere: what is written over the old one may be done before the session
//! moves, and not after (ZK-4). And a session that was answered lately can't have expired (ZK-4).

use super::jute::{Frame, Reader, op};
use super::zk_client::ZkClient;
use zoolog_core::{Instant, Output};

/// Number of the writes that may come too late.
const LATE: i32 = 1 << 30;
/// Such writes that are looked for afterwards.
const LATE_MAX: usize = 8;

impl ZkClient {
    /// The connection is left; it may stay open beside the next one.
    pub(super) fn leave(&mut self, now: Instant) {
        let Some(conn) = self.conn() else { return };
        self.drop_rival();
        if self.rng.chance(50) {
            self.rival = Some(conn);
        } else {
            self.out.push_back(Output::Close { conn });
        }
        self.disconnected(now);
    }

    /// Ends the old connection, if it is there.
    pub(super) fn drop_rival(&mut self) {
        if let Some(conn) = self.rival.take() {
            self.out.push_back(Output::Close { conn });
        }
    }

    /// Writes over the old connection, while the session is on its way to the new one or has come there.
    pub(super) fn write_over_rival(&mut self) {
        let Some(conn) = self.rival else { return };
        self.counter += 1;
        let path = format!("/late-{}.{}.{}", self.cfg.client, self.cfg.life, self.counter);
        let frame = Frame::request(LATE, op::CREATE).bytes(path.as_bytes()).bytes(b"").open_acl().int(0);
        self.out.push_back(Output::Send { conn, bytes: frame.done() });
        self.late.push(path);
        if self.late.len() > LATE_MAX {
            self.late.remove(0);
        }
    }

    /// The first answer has come over the connection to which the session has moved: the move was before that.
    pub(super) fn moved_before(&mut self, zxid: i64) {
        if self.moved_by.is_none() {
            self.moved_by = Some(zxid);
        }
    }

    /// A write over the old connection was found done, by an answer or in the tree, at that zxid.
    pub(super) fn late_write(&mut self, path: &str, zxid: i64) {
        if self.moved_by.is_some_and(|moved| zxid > moved) {
            let text = format!("{path} was made at {zxid} over a connection that its session had left");
            self.broken("ZK-4", text);
        }
    }

    /// Something came over the old connection.
    pub(super) fn rival_frame(&mut self, body: &[u8]) {
        let mut r = Reader(body);
        let head = (|| Some((r.int()?, r.long()?, r.int()?)))();
        if let Some((LATE, zxid, 0)) = head {
            self.late_write("a node", zxid);
        }
    }

    /// A request of the session, sent at that time, was answered.
    pub(super) fn showed_itself(&mut self, asked: Instant) {
        let silent = asked.since(self.answered_at);
        if silent >= self.lull.0 || asked.since(self.lull.1) > self.timeout {
            self.lull = (silent, asked);
        }
        self.answered_at = self.answered_at.max(asked);
    }

    /// The session is refused as expired.
    pub(super) fn check_expiry(&mut self, now: Instant) {
        // A node answers while its own records of a third of the timeout and a touch interval ago have come back. Among
        // them is a touch of the session, unless that was not heard of for so long: what it was silent for before counts
        // as if it were silent now. Others wait for the timeout, and a touch interval, after that touch.
        let silent = now.since(self.answered_at);
        let patience = (self.timeout / 2).saturating_sub(self.lull.0);
        if !self.may_be_closed && silent < patience {
            let text = format!(
                "session {:x} is over {silent:?} after a request that was answered, and was never silent for {patience:?}",
                self.session
            );
            self.broken("ZK-4", text);
        }
    }
}
