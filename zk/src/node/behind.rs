//! What does a node do that has lost its place in the log? What it needs next was trimmed, or its state is good for nothing.
//! It leaves its clients, who go elsewhere, forgets its state, gets another node's snapshot, and plays the log from there;
//! then it serves again. Nobody has to do anything.
//!
//! One that begins, and would have much of the log to play, gets another's snapshot too if that is clearly cheaper. It keeps what
//! it has until it has all of that, and plays the log as soon as nothing comes of it.

use super::back::{Replacement, Step};
use super::clocks::Clocks;
use super::connection::Slot;
use super::marks::Marks;
use super::scrub::Scrub;
use super::sweep::Sweeper;
use super::{Back, NodeEvent};
use crate::bootstrap::{Act, Fetch};
use crate::snapshot::Restored;
use crate::state::State;
use std::time::Duration;
use zoolog_client::{RequestId, SharedLog};
use zoolog_core::wire::OfferAt;
use zoolog_core::{Gsn, Instant, Output};

/// Between two lines that say how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a node has to do with others' snapshots.
#[derive(Debug)]
pub(super) struct Behind {
    pub fetch: Fetch,
    /// The log was asked who offers some.
    asked: Option<RequestId>,
    /// It begins, and its state is of there, if the log is played from there unless something cheaper comes.
    stands_at: Option<Gsn>,
    /// A state takes the place of the one that is lent.
    replacement: Option<Replacement>,
    tell_at: Instant,
}

impl Behind {
    pub(super) fn new(fetch: Fetch, now: Instant) -> Self {
        Self { fetch, asked: None, stands_at: None, replacement: None, tell_at: now }
    }
}

impl<L: SharedLog> Back<L> {
    /// The log is played from where `restored` stands, unless there is something cheaper.
    pub(super) fn play_or_look(&mut self, restored: &Restored) {
        let (now, at) = (self.now, restored.state.applied());
        // Who is to say where it differed from others must come by there.
        if self.log.gives_offers() && restored.outline.is_none() {
            self.behind.tell_at = now + TELL_EVERY;
            self.behind.fetch.look(now, self.snapshots.cluster, at);
        }
        match self.behind.fetch.is_on() {
            true => self.behind.stands_at = Some(at),
            false => self.play(at),
        }
    }

    /// The log is played from there on.
    pub(super) fn play(&mut self, at: Gsn) {
        self.plays = (at, self.now);
        self.log.subscribe(at);
    }

    /// The log begins at `until` now, and this node has applied less.
    pub(super) fn on_gap(&mut self, from: Gsn, until: Gsn) {
        let why = format!("the log from {from} to {until} was trimmed before this node applied it");
        if self.log.gives_offers() {
            return self.begin_anew(until, false, &why);
        }
        self.fail(format!("{why}: copy DIR/snapshots of another ZooKeeper node here and start again"));
    }

    /// The node's state, and its snapshots, are good for nothing: it throws them away and begins anew, from another node's
    /// snapshot, or from the log alone, if that is whole and nobody offers one. What it does already it goes on doing.
    pub fn rebuild(&mut self, why: &str) {
        if self.failed {
            return;
        }
        if self.log.gives_offers() {
            return self.begin_anew(Gsn(0), true, why);
        }
        self.fail(format!("{why}: there is no other node to get a state from"));
    }

    fn begin_anew(&mut self, least: Gsn, drops_own: bool, why: &str) {
        if self.behind.fetch.is_on() && !self.behind.fetch.is_optional() {
            if drops_own {
                self.behind.fetch.drops_own(self.now);
            }
            return;
        }
        self.behind.stands_at = None;
        self.note(format!("{why}; it serves nobody until it has another node's snapshot"));
        self.stop_serving();
        let (now, cluster) = (self.now, self.snapshots.cluster);
        let saving = self.snapshots.leave();
        self.behind.tell_at = now + TELL_EVERY;
        self.behind.fetch.begin(now, cluster, least, drops_own, saving);
        self.behind.replacement = Some(Replacement { state: Box::new(State::new()), restored: false });
    }

    /// Clients go elsewhere, and nothing is promised any more; what is in the log's hands comes back to nobody.
    fn stop_serving(&mut self) {
        self.serving = false;
        self.boot_tail = (None, None);
        let slots: Vec<Slot> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.cut_conn(slot);
        }
        self.rest = None;
        self.blocked.clear();
        self.own.forget();
        self.pulse.stop();
        self.clocks = Clocks::new();
        self.sweeper = Sweeper::default();
        (self.marks, self.scrub, self.outline) = (Marks::default(), Scrub::default(), None);
        self.rules_proposed = false;
    }

    /// The log says who offers snapshots.
    pub(super) fn on_offers(&mut self, request: RequestId, trim: Gsn, offers: Vec<OfferAt>) {
        if self.behind.asked.take_if(|asked| *asked == request).is_some() {
            self.behind.fetch.offers(self.now, trim, offers);
        }
    }

    /// What is to be done next to get a snapshot.
    pub(super) fn fetch_step(&mut self) -> Option<Step> {
        if let Some(replacement) = self.behind.replacement.take() {
            return Some(Step::Replace(replacement));
        }
        while let Some(act) = self.behind.fetch.poll() {
            return Some(match act {
                Act::FindOffers => {
                    self.behind.asked = self.log.find_offers();
                    assert!(self.behind.asked.is_some(), "a log that said it gives offers");
                    continue;
                }
                Act::Note(text) => Step::Output(Output::Event(NodeEvent::Note(text))),
                Act::Dial { conn, addr } => Step::Output(Output::Dial { conn, addr }),
                Act::Send { conn, bytes } => Step::Output(Output::Send { conn, bytes }),
                Act::Close { conn } => Step::Output(Output::Close { conn }),
                Act::Save { of, from, bytes, last } => {
                    Step::Output(Output::SavePart { of, from, bytes, last })
                }
                Act::Drop { finished } => {
                    if finished {
                        self.snapshots.lost();
                    }
                    Step::Output(Output::DropSnapshots { finished })
                }
                Act::FromLog => match self.behind.stands_at.take() {
                    Some(at) => {
                        self.play(at);
                        self.boot_tail = (Some(self.log.tail()), None);
                        continue;
                    }
                    None => Step::Replace(Replacement { state: Box::new(State::new()), restored: true }),
                },
                Act::Done(state, bytes) => {
                    if self.behind.stands_at.take().is_some() {
                        // Who reads what it had can't go on with what it has now.
                        self.stop_serving();
                    }
                    self.snapshots.restored(state.applied(), bytes);
                    Step::Replace(Replacement { state, restored: true })
                }
            });
        }
        None
    }

    /// Takes in a state that [`Back::step`] gave: it is the one that will be lent from now on.
    pub fn replace(&mut self, now: Instant, state: &mut State, replacement: Replacement) {
        let Replacement { state: new, restored } = replacement;
        *state = *new;
        if let Some(draft) = &mut self.draft {
            // Who is still connected hears that he is not, before anybody reads what is there now.
            self.conns.publish(draft);
        }
        if !restored {
            return;
        }
        self.now = now;
        let at = state.applied();
        self.note(format!("it goes on at {at}, with {} znodes", state.znode_count()));
        self.play(at);
        self.boot_tail = (Some(self.log.tail()), None);
        self.release_log();
        self.offer();
    }

    /// Says how far it is, now and then.
    pub(super) fn tell_progress(&mut self, now: Instant) {
        if self.behind.fetch.is_on() && self.behind.tell_at <= now {
            self.behind.tell_at = now + TELL_EVERY;
            let p = self.behind.fetch.progress();
            if p.of_bytes > 0 {
                let mib_per_s = p.bytes_per_s >> 20;
                let text = format!(
                    "{} of {} bytes of another's snapshot are here, {mib_per_s} MiB/s",
                    p.bytes, p.of_bytes
                );
                self.note(text);
            }
        }
    }
}
