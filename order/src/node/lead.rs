//! What does a leader decide? The soft state of one term: who is there, what to propose, and when.

use super::Orderer;
use super::consumers::Gathered;
use super::health::Health;
use super::late::Late;
use super::members::Changing;
use super::names::Names;
use super::offers::Offers;
use super::retention::Watch;
use super::sealing::Ending;
use super::slots::Newcomer;
use super::status::CUT_WAIT;
use super::succession::Beginning;
use super::trims::Trims;
use super::views::Views;
use crate::node::OrderEvent;
use crate::sequencer::{Command, Pace, Reports};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zoolog_core::stages::Pending;
use zoolog_core::{ConnId, Instant, Output, SlotId};

/// What a leader knows in its term, and forgets with it.
pub(super) struct Lead {
    pub term: u64,
    /// An entry of this term is applied: so is all that was committed before.
    pub ready: bool,
    pub reports: Reports,
    pace: Pace,
    /// When to look for a cut again.
    pub cut_due: Option<Instant>,
    /// Raft takes no proposals until then.
    hold_until: Option<Instant>,
    /// Indices of cuts proposed and not yet applied.
    in_flight: VecDeque<u64>,
    /// Since when each of them waits for its quorum.
    pub rafting: Pending<u64>,
    /// What becomes of the view.
    pub views: Views,
    /// Slots whose registration isn't decided yet.
    pub newcomers: BTreeMap<SlotId, Newcomer>,
    /// Who asked for cuts before we were ready: (connection, request).
    pub watchers: Vec<(ConnId, u64)>,
    /// Who gets every cut.
    pub pushing: BTreeSet<ConnId>,
    /// Those of them that hear of no cuts.
    pub without_cuts: BTreeSet<ConnId>,
    /// Those of them that take cuts in few bytes.
    pub in_few_bytes: BTreeSet<ConnId>,
    /// Cuts that some slots get later.
    pub late: Late,
    /// What consumers said.
    pub consumers: Gathered,
    /// What named writers asked.
    pub names: Names,
    /// Who offers snapshots.
    pub offers: Offers,
    /// Who wants something trimmed.
    pub trims: Trims,
    /// What is kept, by time and bytes.
    pub watch: Watch,
    /// Changes of the orderers.
    pub changing: Changing,
    /// Where the log begins, if it follows another.
    pub beginning: Beginning,
    /// Who wants it to end.
    pub ending: Ending,
}

impl Lead {
    fn new(term: u64, pace: Pace, views: Views, now: Instant) -> Self {
        Self {
            term,
            ready: false,
            reports: Reports::default(),
            pace,
            cut_due: None,
            hold_until: None,
            in_flight: VecDeque::new(),
            rafting: Pending::default(),
            views,
            newcomers: BTreeMap::new(),
            watchers: Vec::new(),
            pushing: BTreeSet::new(),
            without_cuts: BTreeSet::new(),
            in_few_bytes: BTreeSet::new(),
            late: Late::default(),
            consumers: Gathered::default(),
            names: Names::default(),
            offers: Offers::new(),
            trims: Trims::default(),
            watch: Watch::new(now),
            changing: Changing::default(),
            beginning: Beginning::default(),
            ending: Ending::default(),
        }
    }

    /// The entry at `index` is applied.
    pub fn applied(&mut self, index: u64, term: u64) -> bool {
        self.watch.applied(index);
        let before = self.in_flight.len();
        let done = self.in_flight.iter().take_while(|i| **i <= index).count();
        self.in_flight.drain(..done);
        if before > 0 && self.in_flight.is_empty() {
            self.reports.settled();
        }
        let first = term == self.term && !self.ready;
        self.ready |= first;
        first
    }
}

impl Orderer {
    /// Takes note of having become leader, or of not being it any more.
    pub(super) fn follow_role(&mut self, now: Instant) {
        let leads = self.consensus.is_leader().then(|| self.consensus.term());
        let led = self.lead.as_ref().map(|l| l.term);
        if leads == led {
            return;
        }
        let mut ready = Vec::new();
        self.thrifty.role_changed(&mut ready);
        self.transmit(ready);
        if let Some(term) = led {
            self.step_down(term);
        }
        if let Some(term) = leads {
            let health = Health::new(self.cfg.failures, now, self.made);
            let (pace, views) = (Pace::new(self.cfg.cut_interval), Views::new(health));
            self.lead = Some(Lead::new(term, pace, views, now));
        }
    }

    pub(super) fn step_down(&mut self, term: u64) {
        let answer = self.not_leader();
        self.lead = None;
        self.tails.clear();
        self.out.push_back(Output::Event(OrderEvent::SteppedDown { term }));
        let guests: Vec<ConnId> =
            self.conns.iter().filter(|(_, c)| c.who.is_guest()).map(|(conn, _)| *conn).collect();
        for conn in guests {
            self.send(conn, answer.clone());
            self.close(conn);
        }
    }

    /// Everything a ready leader does of its own accord.
    pub(super) fn lead_on(&mut self, now: Instant) {
        if !self.is_leading() {
            return;
        }
        self.admit_newcomers(now);
        self.tend_beginning();
        self.admit_watchers();
        self.tend_views(now);
        self.propose_cut(now);
        // Behind what was reported until now.
        self.propose_seal();
        // What is kept, before what consumers let go.
        self.propose_tick(now);
        self.propose_consumers(now);
        self.propose_names();
        self.propose_trims();
        self.start_tails(now);
    }

    fn propose_cut(&mut self, now: Instant) {
        let Some(lead) = &mut self.lead else { return };
        lead.pace.want(now, lead.reports.wants());
        let held = lead.hold_until.is_some_and(|until| now < until);
        let due = lead.pace.due(lead.in_flight.len()).is_some_and(|due| due <= now);
        // Put together only when it may leave: with many lanes that is most of a cut's price.
        let cut = if due && !held { lead.reports.proposal(&self.state) } else { None };
        if let Some(cut) = cut {
            match self.consensus.propose(Command::encode_cut(&cut)) {
                Some(index) => {
                    lead.in_flight.push_back(index);
                    lead.reports.proposed(&self.state, &cut);
                    lead.rafting.begin(index, now, 1);
                    if let Some(since) = lead.pace.wanted_since() {
                        self.stages.record(CUT_WAIT, now.since(since), 1);
                    }
                    lead.pace.proposed(now);
                    lead.hold_until = None;
                }
                // Too much waits for the quorum already: what was reported meanwhile goes in the next one.
                None => lead.hold_until = Some(now + crate::consensus::TICK),
            }
        }
        lead.pace.want(now, lead.reports.wants());
        let due = lead.pace.due(lead.in_flight.len());
        lead.cut_due = due.map(|due| lead.hold_until.map_or(due, |until| due.max(until)));
    }
}
