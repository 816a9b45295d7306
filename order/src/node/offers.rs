//! Who offers snapshots? What ZooKeeper nodes say over their connections to the leader, for those of them that lack what
//! was trimmed. Nothing of it is decided or kept: who is gone offers nothing, and a new leader is told anew.

use super::Orderer;
use crate::sequencer::{Refusal, is_name};
use std::collections::BTreeMap;
use zoolog_core::ConnId;
use zoolog_core::limits::CONSUMERS_MAX;
use zoolog_core::wire::{self, Offer, OfferAt, OffersAre, RefusedWhy};

/// Longest address that is told on.
const ADDR_BYTES_MAX: usize = 256;

/// One per connection: its newest.
pub(super) type Offers = BTreeMap<ConnId, OfferAt>;

/// The address as others can use it: an unspecified host is the one that its node comes from.
fn reachable(addr: String, peer: &str) -> String {
    let port = addr.strip_prefix("0.0.0.0:").or_else(|| addr.strip_prefix("[::]:"));
    match (port, peer.rsplit_once(':')) {
        (Some(port), Some((host, _))) => format!("{host}:{port}"),
        _ => addr,
    }
}

impl Orderer {
    /// A node has a snapshot for others.
    pub(super) fn offer(&mut self, conn: ConnId, m: Offer) {
        let Offer { name, addr, gsn } = m;
        if !(is_name(&name) || name.is_empty()) || addr.is_empty() || addr.len() > ADDR_BYTES_MAX {
            let text = format!("an offer of {name:?}, to be had at {addr:?}");
            return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
        }
        let addr = reachable(addr, self.conns.get(&conn).map_or("", |c| &c.peer));
        let Some(lead) = &mut self.lead else { return };
        // What is beyond the bound is not told on: a thousand others have one, too.
        if lead.offers.len() < CONSUMERS_MAX || lead.offers.contains_key(&conn) {
            lead.offers.insert(conn, OfferAt { name, addr, gsn });
        }
    }

    /// Somebody lacks a snapshot.
    pub(super) fn find_offers(&mut self, conn: ConnId, request: u64) {
        let Some(lead) = &self.lead else { return };
        let others = lead.offers.iter().filter(|(c, _)| **c != conn);
        let offers = others.map(|(_, offer)| offer.clone()).collect();
        self.send(conn, wire::encode(OffersAre { request, trim: self.state.trim(), offers }));
    }

    /// A client is gone, and what it offered with it.
    pub(super) fn offerer_gone(&mut self, conn: ConnId) {
        if let Some(lead) = &mut self.lead {
            lead.offers.remove(&conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn an_unspecified_host_is_the_one_that_was_seen() {
        for (addr, peer, wanted) in [
            ("0.0.0.0:7", "10.0.0.3:555", "10.0.0.3:7"),
            ("[::]:7", "[fe80::1]:555", "[fe80::1]:7"),
            ("10.1.1.1:7", "10.0.0.3:555", "10.1.1.1:7"),
            ("zk-3.internal:7", "10.0.0.3:555", "zk-3.internal:7"),
            ("0.0.0.0:7", "", "0.0.0.0:7"),
        ] {
            assert_eq!(reachable(addr.into(), peer), wanted);
        }
    }
}
