//! What does a node do whose next position was trimmed? It gets another node's snapshot, and goes on from there. Meanwhile it shows
//! what it has, takes no proposals, and tells nobody an outcome that it can't know.

use super::Replicated;
use crate::bootstrap::{Act, Begun, Fetch, Load};
use crate::replicated::event::ReplicatedEvent;
use crate::replicated::image::{Loader, Restored};
use crate::replicated::machine::StateMachine;
use crate::replicated::proposals::ProposeError;
use crate::{RequestId, SharedLog};
use std::marker::PhantomData;
use zoolog_core::snapshot::SnapshotError;
use zoolog_core::wire::OfferAt;
use zoolog_core::{ClusterId, Gsn, Instant, Output};

/// Makes a state of what another node gives.
#[derive(Debug)]
pub struct Loading<S>(Loader, PhantomData<fn() -> S>);

impl<S: StateMachine> Load for Loading<S> {
    type State = Restored<S>;

    fn begin(cluster: ClusterId, structure: &str) -> Self {
        Self(Loader::new::<S>(cluster, structure), PhantomData)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.0.push(bytes)
    }

    fn finish(self) -> Result<(Gsn, Restored<S>), SnapshotError> {
        let restored = self.0.finish::<S>()?;
        Ok((restored.at, restored))
    }
}

/// What a node has to do with others' snapshots.
#[derive(Debug)]
pub(super) struct Behind<S: StateMachine> {
    pub fetch: Fetch<Loading<S>>,
    /// The log was asked who offers some.
    asked: Option<RequestId>,
    /// One from there on is wanted, and it isn't known yet whose log this is.
    wanted: Option<Gsn>,
}

impl<S: StateMachine> Behind<S> {
    pub fn new(fetch: Fetch<Loading<S>>) -> Self {
        Self { fetch, asked: None, wanted: None }
    }

    /// Whether the state is to be another one.
    pub fn is_on(&self) -> bool {
        self.wanted.is_some() || self.fetch.is_on()
    }
}

impl<S: StateMachine, L: SharedLog> Replicated<S, L> {
    /// The log begins at `until` now, and this node has applied only what lies before `from`.
    pub(super) fn on_gap(&mut self, now: Instant, from: Gsn, until: Gsn) {
        let why = format!("the log from {from} to {until} was trimmed before this node applied it");
        if !self.log.gives_offers() {
            return self
                .fail(format!("{why}: copy the newest snapshot of another node here and start again"));
        }
        self.note(format!("{why}: it goes on from another node's snapshot, once it has one"));
        // They may be in what was trimmed, or in what the other's state has applied.
        for proposal in self.proposals.forget().collect::<Vec<_>>() {
            let result = Err(ProposeError::Unknown(why.clone()));
            self.event(ReplicatedEvent::Outcome { proposal, result });
        }
        self.behind.wanted = Some(until);
        self.begin_fetch(now);
    }

    /// An earlier life of it has got so much of another's snapshot. To be said before all else.
    pub fn has_begun(&mut self, begun: Begun<Loading<S>>) {
        self.behind.fetch.has_begun(begun);
    }

    /// It has applied all there was, without another's snapshot: nothing of one is needed.
    pub(super) fn needs_no_other(&mut self) {
        self.behind.fetch.forget();
        // What is left of one goes before an own one is begun.
        while let Some(output) = self.fetch_step() {
            self.outbox.push_back(output);
        }
    }

    /// Begins, if it is known whose snapshot it is to be.
    pub(super) fn begin_fetch(&mut self, now: Instant) {
        if self.cluster != ClusterId(0)
            && let Some(least) = self.behind.wanted.take()
        {
            let saving = self.snapshots.leave();
            self.behind.fetch.begin(now, self.cluster, least, false, saving);
        }
    }

    /// The log says who offers snapshots.
    pub(super) fn on_offers(&mut self, now: Instant, request: RequestId, trim: Gsn, offers: Vec<OfferAt>) {
        if self.behind.asked.take_if(|asked| *asked == request).is_some() {
            self.behind.fetch.offers(now, trim, offers);
        }
    }

    /// What is to be done next to get a snapshot.
    pub(super) fn fetch_step(&mut self) -> Option<Output<ReplicatedEvent<S::Outcome>>> {
        while let Some(act) = self.behind.fetch.poll() {
            return Some(match act {
                Act::FindOffers => {
                    self.behind.asked = self.log.find_offers();
                    assert!(self.behind.asked.is_some(), "a log that said it gives offers");
                    continue;
                }
                Act::Note(text) => Output::Event(ReplicatedEvent::Note(text)),
                Act::Dial { conn, addr } => Output::Dial { conn, addr },
                Act::Send { conn, bytes } => Output::Send { conn, bytes },
                Act::Close { conn } => Output::Close { conn },
                Act::Save { of, from, bytes, last } => Output::SavePart { of, from, bytes, last },
                Act::Drop { finished } => {
                    assert!(!finished, "own snapshots are good, only old");
                    Output::DropSnapshots { finished }
                }
                Act::FromLog => panic!("the log is not whole: some of it was trimmed"),
                Act::Done(restored, bytes) => {
                    self.take_over(restored, bytes);
                    continue;
                }
            });
        }
        None
    }

    /// The state is another node's from now on.
    fn take_over(&mut self, restored: Restored<S>, bytes: u64) {
        let Restored { state, at, skips, .. } = restored;
        assert!(at >= self.applied, "a state never goes back: from {} to {at}", self.applied);
        // What was found further on is to be passed over all the same.
        let found = self.skips.split_off(&at);
        (self.state, self.applied, self.skips) = (state, at, skips);
        self.skips.extend(found);
        self.snapshots.fetched(at, bytes);
        self.comparing.forget();
        self.note(format!("it goes on at {at}"));
        self.log.subscribe(at);
        self.offer();
    }

    /// Tells where others get the newest snapshot.
    pub(super) fn offer(&mut self) {
        if let (Some(addr), Some(gsn)) = (&self.cfg.gives_at, self.snapshots.newest) {
            self.log.offer(addr, gsn);
        }
    }
}
