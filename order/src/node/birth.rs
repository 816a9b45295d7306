//! May this orderer take part? Votes and confirmations are promises about what is in its data directory: who lost
//! that must never speak under its id again, and who begins with an empty one must know that it is not such a one.
//!
//! Each directory has a *birth*, a number drawn and written before its owner says anything. Orderers introduce
//! themselves to each other with it.
//! - One of the *first* orderers is born, and may vote from then on, once each other of the first has said that it is
//!   not born either, or that it knows it by this very birth. As each remembers, durably, the births of all others when
//!   it is born, an emptied directory can't be born again as long as one of them has kept its own: that one knows
//!   another birth. (The price: the very first start needs all of the first orderers.)
//! - One that *joins* later has no vote before its first snapshot. A leader feeds only whom the replicated state knows
//!   by this birth, and the first birth it decided on for an id is the only one for ever.

use super::Orderer;
use super::conns::Who;
use crate::consensus::Identity;
use crate::node::OrderEvent;
use crate::sequencer::Refusal;
use std::collections::BTreeMap;
use tracing::{error, info};
use zoolog_core::rng::Rng;
use zoolog_core::wire::{self, Introduce, RefusedWhy};
use zoolog_core::{ConnId, Instant, OrdererId, Output, Token};

/// What an orderer knows of its own and the others' births.
pub(super) struct Birth {
    pub identity: Identity,
    /// The record of it that is on its way to the disk.
    writing: Option<Token>,
    /// Whether it is on the disk.
    durable: bool,
    /// The births of those of the first who said that they are not born, or that they know ours.
    heard: BTreeMap<OrdererId, u64>,
}

impl Birth {
    /// As it was found on the disk.
    pub fn found(identity: Identity) -> Self {
        Self { identity, writing: None, durable: true, heard: BTreeMap::new() }
    }

    /// On an empty directory; `first` are the first orderers, if it is one of them.
    pub fn drawn(seed: u64, id: OrdererId, first: Vec<(OrdererId, String)>) -> Self {
        let birth = Rng::new(seed, &format!("birth {id}")).next_u64() | 1;
        // Alone there is nobody to ask.
        let (born, others) = (first.len() == 1, Vec::new());
        let identity = Identity { birth, born, first, others, dismissed: None };
        Self { identity, writing: None, durable: false, heard: BTreeMap::new() }
    }

    /// Whether it may say who it is.
    pub fn may_speak(&self) -> bool {
        self.durable
    }

    /// Whether it may take part in raft.
    pub fn takes_part(&self) -> bool {
        self.durable && (self.identity.born || self.identity.first.is_empty())
    }

    /// Whether one of the first still waits to be born.
    fn waits(&self) -> bool {
        !self.identity.born && !self.identity.first.is_empty()
    }

    /// The birth that one of the first remembers.
    fn of(&self, id: OrdererId) -> Option<u64> {
        self.identity.others.iter().find(|(other, _)| *other == id).map(|(_, birth)| *birth)
    }
}

impl Orderer {
    /// Has the identity written, if it is not yet.
    pub(super) fn write_identity(&mut self) {
        let (token, record) = self.consensus.persist_identity(self.birth.identity.clone());
        self.birth.durable = false;
        self.birth.writing = Some(token);
        self.out.push_back(Output::Persist { token, records: vec![record] });
    }

    /// The record of that token is on the disk.
    pub(super) fn identity_persisted(&mut self, token: Token) {
        if self.birth.writing.take_if(|t| *t == token).is_some() {
            self.birth.durable = true;
            if let Some(why) = self.birth.identity.dismissed.clone() {
                self.out.push_back(Output::Event(OrderEvent::Dismissed { why }));
            }
        }
    }

    /// The birth by which that orderer is known: as decided, else as remembered since ours.
    pub(super) fn known_birth(&self, id: OrdererId) -> Option<u64> {
        let decided = self.state.members().get(id).map(|m| m.birth).filter(|birth| *birth != 0);
        decided.or_else(|| self.birth.of(id))
    }

    /// What we say when we have reached `to`.
    pub(super) fn introduction(&self, to: OrdererId) -> Introduce {
        Introduce {
            birth: self.birth.identity.birth,
            born: self.birth.takes_part() && !self.birth.identity.first.is_empty(),
            yours: self.known_birth(to).unwrap_or(0),
            addr: self.own_addr(),
        }
    }

    /// An orderer has reached us and says which directory it has.
    pub(super) fn introduced(&mut self, now: Instant, conn: ConnId, id: OrdererId, m: Introduce) {
        if m.birth == 0 || !crate::sequencer::is_addr(&m.addr) {
            let text = "an introduction without birth or address";
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let ours = self.birth.identity.birth;
        if m.yours != 0 && m.yours != ours {
            return self.dismiss(format!(
                "orderer {} has started before, with another data directory than this one: who lost that must come \
                 under a new id (`zoolog admin orderers add ID HOST:PORT --replace {}`)",
                self.cfg.id, self.cfg.id
            ));
        }
        if self.known_birth(id).is_some_and(|known| known != m.birth) {
            return self.refuse(conn, self.another_directory(id));
        }
        if self.birth.waits() && self.birth.identity.first.iter().any(|(first, _)| *first == id) {
            if !m.born || m.yours == ours {
                self.birth.heard.insert(id, m.birth);
            }
            if self.birth.heard.len() + 1 == self.birth.identity.first.len() {
                self.birth.identity.born = true;
                self.birth.identity.others = self.birth.heard.iter().map(|(id, b)| (*id, *b)).collect();
                info!(id = %self.cfg.id, "all first orderers have met");
                self.write_identity();
            }
        }
        if let Some(c) = self.conns.get_mut(&conn) {
            c.birth = m.birth;
        }
        if let Some(older) = self.peers.inbound(now, id, conn, &m.addr) {
            self.close(older);
        }
    }

    /// Why an orderer that was known by another birth is not heard.
    pub(super) fn another_directory(&self, id: OrdererId) -> Refusal {
        let text = format!(
            "orderer {id} was known here with another data directory: who lost that must come under a new id \
             (`zoolog admin orderers add ID HOST:PORT --replace {id}`)"
        );
        Refusal::new(RefusedWhy::Dismissed, text)
    }

    /// Why an orderer that is none any more is not heard.
    pub(super) fn removed(&self, id: OrdererId) -> Refusal {
        let text = format!(
            "orderer {id} was removed from the orderers of this cluster: its data directory is of no use any more; \
             a new one comes under a new id, above {}",
            self.state.members().newest()
        );
        Refusal::new(RefusedWhy::Dismissed, text)
    }

    /// Ends all part in everything, for ever: no start on this directory does anything any more.
    pub(super) fn dismiss(&mut self, why: String) {
        if std::mem::replace(&mut self.dismissed, true) {
            return;
        }
        error!(id = %self.cfg.id, why, "dismissed");
        if let Some(lead) = &self.lead {
            let term = lead.term;
            self.step_down(term);
        }
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.close(conn));
        self.out.extend(self.peers.dismiss().into_iter().map(|conn| Output::Close { conn }));
        // Said once it is remembered: its owner ends with that.
        self.birth.identity.dismissed = Some(why);
        self.write_identity();
    }

    /// Whether the connection's orderer may be heard by raft: it has introduced itself, and is known by that birth. Who
    /// is not known yet is, too, unless we lead: then it is proposed first.
    pub(super) fn hears(&mut self, conn: ConnId, id: OrdererId) -> Result<bool, Refusal> {
        let birth = self.conns.get(&conn).filter(|c| c.who == Who::Orderer(id)).map_or(0, |c| c.birth);
        if birth == 0 {
            return Err(Refusal::new(RefusedWhy::Unexpected, "raft's bytes before an introduction"));
        }
        match self.known_birth(id) {
            Some(known) if known != birth => Err(self.another_directory(id)),
            Some(_) => Ok(self.birth.takes_part()),
            None => {
                if let Some(lead) = &mut self.lead
                    && self.state.members().get(id).is_some()
                {
                    lead.changing.welcomes.insert(id, birth);
                }
                Ok(self.birth.takes_part() && self.lead.is_none())
            }
        }
    }

    /// The introduction, encoded.
    pub(super) fn introduce(&mut self, conn: ConnId, to: OrdererId) {
        let introduction = self.introduction(to);
        self.send(conn, wire::encode(introduction));
    }
}
