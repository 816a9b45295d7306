//! In which order does a client hear of things? Over one connection, zxids never decrease, those of pings included, and an
//! event comes before any answer that shows its change (ZK-3). A client that reconnects sets its watches again, and is
//! told of what it has missed, once.

use super::jute::{Frame, op};
use super::zk_client::ZkClient;
use zoolog_core::{ConnId, Instant};

/// The request that sets watches again, and its answer.
pub(super) const SET_AGAIN: i32 = -8;

/// The newest zxids that have come over a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// In answers, to pings too.
    answer: i64,
    /// Of events.
    event: i64,
}

impl Told {
    /// An answer came.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn answer(&mut self, zxid: i64) -> Result<(), String> {
        let newest = self.answer.max(self.event);
        self.answer = self.answer.max(zxid);
        if zxid < newest { Err(format!("an answer of zxid {zxid} came after {newest}")) } else { Ok(()) }
    }

    /// An event came, of a change that happened at this zxid.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn event(&mut self, zxid: i64) -> Result<(), String> {
        let before = *self;
        self.event = self.event.max(zxid);
        if zxid <= before.answer {
            return Err(format!("an event of zxid {zxid} came after an answer of {}", before.answer));
        }
        if zxid < before.event {
            return Err(format!("an event of zxid {zxid} came after one of {}", before.event));
        }
        Ok(())
    }
}

impl ZkClient {
    /// Sets the watches again that an earlier connection had.
    pub(super) fn set_watches_again(&mut self, now: Instant, conn: ConnId) {
        self.setting_again = !self.watches.is_empty();
        if !self.setting_again {
            return;
        }
        let mut frame =
            Frame::request(SET_AGAIN, op::SET_WATCHES).long(self.zxid).int(self.watches.len() as i32);
        for path in self.watches.keys() {
            frame = frame.bytes(path.as_bytes());
        }
        self.send(now, conn, frame.int(0).int(0).done());
    }

    /// An event came.
    pub(super) fn event(&mut self, path: &str, zxid: i64) {
        let once = self.watches.remove(path).is_some();
        if zxid == -1 {
            // What was missed; behind that answer there is nothing of this kind.
            if !(once && self.setting_again) {
                self.broken("ZK-3", format!("an event for {path} that was missed, out of place"));
            }
            return;
        }
        if let Err(text) = self.told.event(zxid) {
            self.broken("ZK-3", format!("{path}: {text}"));
        }
        if !self.standing_event(path, zxid) && !once {
            self.broken("ZK-3", format!("an event for {path}, which is not watched"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_order_passes() {
        let mut told = Told::default();
        assert!([3, 3, 5].into_iter().all(|zxid| told.answer(zxid).is_ok()));
        // Its own write's event, then the answer to it; a parent's event is of the same zxid.
        assert!(told.event(6).is_ok() && told.event(6).is_ok() && told.answer(6).is_ok());
    }

    #[test]
    fn an_event_behind_what_it_announces_and_zxids_that_decrease_are_noticed() {
        let told = Told { answer: 6, event: 8 };
        for wrong in [6, 5, 7] {
            assert!({ told }.event(wrong).is_err(), "{wrong}");
        }
        for wrong in [5, 7] {
            assert!({ told }.answer(wrong).is_err(), "{wrong}");
        }
    }
}
