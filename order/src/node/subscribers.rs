//! Who hears of cuts? Slots and subscribers, each from a stated point on, without a gap; a cut is encoded
//! once for all of them.

use super::Orderer;
use super::conns::Who;
use crate::sequencer::Refusal;
use bytes::Bytes;
use zoolog_core::ConnId;
use zoolog_core::cut::CutLane;
use zoolog_core::wire::{self, OrderIs, RefusedWhy};

/// Subscribers besides the slots; what one more costs the leader is a frame per cut.
const SUBSCRIBERS_MAX: usize = 256;

impl Orderer {
    pub(super) fn watch_cuts(&mut self, conn: ConnId, request: u64) {
        let Some(lead) = &mut self.lead else { return };
        let client = |c: &&ConnId| self.conns.get(c).is_some_and(|c| c.who == Who::Client);
        let subscribers = lead.pushing.iter().filter(client).count();
        if subscribers + lead.watchers.len() >= SUBSCRIBERS_MAX {
            let text = "too many subscribers: ask a replica";
            return self.refuse(conn, Refusal::new(RefusedWhy::NotReady, text));
        }
        lead.watchers.push((conn, request));
    }

    /// Answers who has asked for cuts.
    pub(super) fn admit_watchers(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        for (conn, request) in std::mem::take(&mut lead.watchers) {
            lead.pushing.insert(conn);
            let state = &self.state;
            let answer = OrderIs {
                request,
                cluster: self.cfg.cluster,
                number: state.last_cut(),
                tail: state.tail(),
                view: state.view().clone(),
                lanes: state.lanes().map(|(lane, to)| CutLane { lane, from: 0, to }).collect(),
            };
            let bytes = wire::encode(answer);
            self.out.push_back(zoolog_core::Output::Send { conn, bytes });
        }
    }

    pub(super) fn subscriber_gone(&mut self, conn: ConnId) {
        if let Some(lead) = &mut self.lead {
            lead.pushing.remove(&conn);
            lead.watchers.retain(|(c, _)| *c != conn);
        }
    }

    /// Sends to everybody who hears of cuts.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        let Some(lead) = &self.lead else { return };
        for &conn in &lead.pushing {
            self.out.push_back(zoolog_core::Output::Send { conn, bytes: bytes.clone() });
        }
    }
}
