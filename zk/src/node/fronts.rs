//! What do a node and its fronts say to each other? What fronts say is taken in as if it had come from clients
//! directly; what their clients are to hear is published.

use super::connection::{Phase, Slot};
use super::published::{Draft, Item, Published, Said};
use super::report::About;
use super::status::Counts;
use super::{Back, NodeEvent};
use crate::state::State;
use bytes::Bytes;
use std::sync::Arc;
use zoolog_client::SharedLog;
use zoolog_core::{ConnId, Instant, Output};

/// Who has asked how the node is.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    /// A connection, by a four-letter word.
    Conn { slot: Slot, id: ConnId, word: Bytes },
    /// The owner, by a command.
    Owner { ask: u64 },
}

/// A question that waits for what the fronts have counted.
#[derive(Debug)]
pub(super) struct Counting {
    ask: u64,
    asker: Asker,
    about: About,
    /// Fronts that have not answered.
    left: u16,
    sum: Counts,
}

impl<L: SharedLog> Back<L> {
    /// Its connections are at so many fronts from now on. To be called before anything else. `state` is the one
    /// that will be lent.
    ///
    /// # Panics
    /// When there are none.
    pub fn set_fronts(&mut self, fronts: u16, state: &State) {
        assert!(fronts > 0 && self.conns.len() == 0, "{fronts} fronts");
        self.draft = Some(Draft::new(fronts, state.zxid()));
    }

    /// Takes in what a front says.
    pub fn hear(&mut self, now: Instant, state: &State, said: Said) {
        self.begin_turn(now);
        match said {
            Said::Accepted { conn, peer } => self.on_accepted(now, conn, peer),
            Said::Frame { conn, bytes } => self.on_frame(now, state, conn, bytes),
            Said::Closed { conn } => self.on_closed(conn),
            Said::Backlog { conn, high } => self.on_backlog(now, state, conn, high),
            Said::Heard { conn, at } => self.on_heard(now, conn, at),
            Said::Took { conn, bytes } => self.on_took(conn, bytes),
            Said::Counts { ask, counts } => self.on_counts(now, state, ask, &counts),
        }
    }

    /// What is to be published now, if anything: behind every batch that was applied, before the lock on the state is
    /// released, and at the end of the turn.
    pub fn publish(&mut self) -> Option<Published> {
        let (vouched_at, touch_interval) = (self.own.vouched_at(), self.touch_interval());
        let draft = self.draft.as_mut()?;
        let any = std::mem::take(&mut self.unpublished) || !draft.is_empty();
        any.then(|| draft.take(vouched_at, touch_interval))
    }

    /// Whether [`Back::publish`] has something.
    pub fn has_unpublished(&self) -> bool {
        self.unpublished || self.draft.as_ref().is_some_and(|d| !d.is_empty())
    }

    /// The client was heard at its front, where all it wanted was answered.
    fn on_heard(&mut self, now: Instant, conn: ConnId, at: Instant) {
        let Some(slot) = self.conns.slot(conn) else { return };
        let conn = self.conns.at(slot);
        if conn.open().is_some() && !conn.leaving {
            conn.heard_at = conn.heard_at.max(at);
            conn.untouched = true;
            self.hasten_touch(now, slot);
        }
    }

    fn on_took(&mut self, conn: ConnId, bytes: usize) {
        let Some(slot) = self.conns.slot(conn) else { return };
        let conn = self.conns.at(slot);
        let left = conn.published_bytes.checked_sub(bytes);
        conn.published_bytes = left.unwrap_or_else(|| panic!("{bytes} bytes were taken of fewer"));
    }

    /// Somebody asks how the node is: he is told at once, or when all fronts have counted.
    pub(super) fn ask(&mut self, now: Instant, state: &State, asker: Asker, about: About) {
        let Some(draft) = self.draft.as_mut().filter(|_| about.counts) else {
            return self.tell(now, state, asker, about);
        };
        self.asks += 1;
        let ask = self.asks;
        draft.push(Item::Counting { ask, about });
        let left = draft.fronts();
        if let Asker::Conn { slot, .. } = asker {
            self.conns.at(slot).phase = Phase::Asking;
        }
        // One per connection, each of which has a time by which it must be done, and one of the owner.
        self.counting.push_back(Counting { ask, asker, about, left, sum: Counts::default() });
    }

    fn on_counts(&mut self, now: Instant, state: &State, ask: u64, counts: &Counts) {
        let at = self.counting.iter().position(|c| c.ask == ask).expect("it was asked");
        let counting = &mut self.counting[at];
        counting.sum.add(counts);
        counting.left -= 1;
        if counting.left > 0 {
            return;
        }
        let Counting { asker, about, sum, .. } = self.counting.remove(at).expect("it is there");
        self.counted = sum;
        self.tell(now, state, asker, about);
        // Long lists are not kept.
        self.counted.conns = Vec::new();
        self.counted.watched = Vec::new();
    }

    fn tell(&mut self, now: Instant, state: &State, asker: Asker, about: About) {
        match asker {
            Asker::Owner { ask } => {
                let report = Arc::new(self.report(now, state, about));
                self.outbox.push_back(Output::Event(NodeEvent::Report(ask, report)));
            }
            Asker::Conn { slot, id, word } => {
                if self.conns.live(slot, id).is_some() {
                    self.answer_word(now, state, slot, &word, about);
                }
            }
        }
        self.reset(about.reset);
    }
}
