//! Where are the orderers? As decided, unless the settings know better; and who is told, dialled or turned away when they
//! are others.

use super::Orderer;
use super::conns::Who;
use std::collections::BTreeSet;
use zoolog_core::wire::{self, OrdererAt, OrderersAre};
use zoolog_core::{Instant, OrdererId, Output};

impl Orderer {
    /// Where that orderer is reached.
    pub(super) fn addr_of(&self, id: OrdererId) -> Option<&str> {
        let moved = self.cfg.moved.iter().find(|(m, _)| *m == id).map(|(_, addr)| addr.as_str());
        moved.or_else(|| self.state.members().get(id).map(|m| m.addr.as_str()))
    }

    /// Where we are reached.
    pub(super) fn own_addr(&self) -> String {
        match self.cfg.addr.as_str() {
            "" => self.addr_of(self.cfg.id).unwrap_or_default().to_string(),
            addr => addr.to_string(),
        }
    }

    /// All orderers, for those who want to find them.
    pub(super) fn orderers_are(&self) -> OrderersAre {
        let all = self
            .state
            .members()
            .iter()
            .map(|(id, m)| OrdererAt { id, addr: self.addr_of(id).unwrap_or(&m.addr).to_string() });
        OrderersAre { orderers: all.collect() }
    }

    /// The orderers are others, or known better, than before.
    pub(super) fn members_changed(&mut self, now: Instant) {
        let (members, own) = (self.state.members(), self.cfg.id);
        if members.was_removed(own) {
            let text = self.removed(own).text;
            return self.dismiss(text);
        }
        let others: Vec<(OrdererId, String)> = members
            .iter()
            .filter(|(id, _)| *id != own)
            .map(|(id, m)| (id, self.addr_of(id).unwrap_or(&m.addr).to_string()))
            .chain(members.parting().map(|(id, addr)| (id, addr.to_string())).filter(|(id, _)| *id != own))
            .collect();
        // Who is held back from is decided among those that vote; in a joint set nobody is.
        let voters = if members.is_joint() { BTreeSet::new() } else { members.voters().collect() };
        let mut ready = Vec::new();
        self.thrifty.members(voters.into_iter().filter(|id| *id != own), &mut ready);
        self.transmit(ready);
        for conn in self.peers.set(now, &others) {
            self.out.push_back(Output::Close { conn });
        }
        let strange = self.conns.iter().filter_map(|(conn, c)| match c.who {
            Who::Orderer(id) => Some((*conn, id, c.birth)),
            _ => None,
        });
        for (conn, id, birth) in strange.collect::<Vec<_>>() {
            if self.state.members().was_removed(id) {
                self.refuse(conn, self.removed(id));
            } else if birth != 0 && self.known_birth(id).is_some_and(|known| known != birth) {
                self.refuse(conn, self.another_directory(id));
            }
        }
        if self.is_leading() {
            let bytes = wire::encode(self.orderers_are());
            self.push(&bytes);
        }
    }
}
