//! How do orderers reach each other? Each dials every other, and sends over the connection it dialled;
//! what they send it arrives over theirs. Who they are follows from the replicated state; who has reached us and is not
//! in ours (it may be newer than we know) is dialled as long as its connection lasts.

use super::Orderer;
use crate::consensus::Outgoing;
use crate::node::OrderEvent;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::{info, warn};
use zoolog_core::rng::Rng;
use zoolog_core::wire::{self, Hello, Message, Raft, RefusedWhy, Role};
use zoolog_core::{ConnId, Instant, OrdererId, Output};

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Orderers that have reached us and that we don't know.
const CALLERS_MAX: usize = 16;

/// The way to one member.
struct Peer {
    addr: String,
    /// Whether the replicated state has it.
    known: bool,
    /// The connection we dialled, and since when it is up.
    out: Option<(ConnId, Option<Instant>)>,
    /// The newest connection it dialled.
    inbound: Option<ConnId>,
    backoff: Duration,
    redial_at: Instant,
}

/// The ways to all other members.
pub(super) struct Peers {
    peers: BTreeMap<OrdererId, Peer>,
    dialled: u64,
    rng: Rng,
}

impl Peer {
    fn new(addr: &str, known: bool, now: Instant) -> Self {
        let addr = addr.to_string();
        Self { addr, known, out: None, inbound: None, backoff: BACKOFF_MIN, redial_at: now }
    }
}

impl Peers {
    pub fn new(seed: u64, incarnation: u64) -> Self {
        let rng = Rng::new(seed, &format!("redial {incarnation}"));
        Self { peers: BTreeMap::new(), dialled: 0, rng }
    }

    /// These are the others. Returns the dialled connections that are of no use any more, to be closed.
    pub fn set(&mut self, now: Instant, others: &[(OrdererId, String)]) -> Vec<ConnId> {
        let mut unused = Vec::new();
        let known: BTreeMap<OrdererId, &String> = others.iter().map(|(id, addr)| (*id, addr)).collect();
        self.peers.retain(|id, peer| {
            peer.known = known.contains_key(id);
            let stays = peer.known || peer.inbound.is_some();
            if !stays {
                unused.extend(peer.out.take().map(|(conn, _)| conn));
            }
            stays
        });
        for (id, addr) in known {
            let peer = self.peers.entry(id).or_insert_with(|| Peer::new(addr, true, now));
            if peer.addr != *addr {
                unused.extend(peer.out.take().map(|(conn, _)| conn));
                *peer = Peer { inbound: peer.inbound, ..Peer::new(addr, true, now) };
            }
        }
        unused
    }

    /// Nobody is reached any more. Returns the dialled connections, to be closed.
    pub fn dismiss(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.peers).into_values().filter_map(|p| p.out.map(|(conn, _)| conn)).collect()
    }

    /// Dials who isn't connected and has waited long enough.
    pub fn redial(&mut self, now: Instant) -> Vec<Output<OrderEvent>> {
        let mut dials = Vec::new();
        for peer in self.peers.values_mut().filter(|p| p.out.is_none() && p.redial_at <= now) {
            self.dialled += 1;
            let conn = ConnId::dialled(self.dialled);
            peer.out = Some((conn, None));
            dials.push(Output::Dial { conn, addr: peer.addr.clone() });
        }
        dials
    }

    fn of(&mut self, conn: ConnId) -> Option<(OrdererId, &mut Peer)> {
        self.peers.iter_mut().find(|(_, p)| p.out.is_some_and(|(c, _)| c == conn)).map(|(id, p)| (*id, p))
    }

    /// The connection to send to `id` over, if it is up.
    fn way(&self, id: OrdererId) -> Option<ConnId> {
        self.peers.get(&id)?.out.filter(|(_, up)| up.is_some()).map(|(conn, _)| conn)
    }

    /// `id` has dialled us and says where it is, so it is worth dialling. Returns the older of its connections, to be
    /// closed: there is one stream per member, in order.
    pub fn inbound(&mut self, now: Instant, id: OrdererId, conn: ConnId, addr: &str) -> Option<ConnId> {
        let callers = self.peers.values().filter(|p| !p.known).count();
        if !self.peers.contains_key(&id) && callers >= CALLERS_MAX {
            return Some(conn);
        }
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(addr, false, now));
        peer.redial_at = now;
        // Accepted connections are numbered in order.
        let other = peer.inbound.replace(conn).filter(|other| *other != conn)?;
        peer.inbound = Some(conn.max(other));
        Some(conn.min(other))
    }

    /// A connection that `id` dialled is gone. Returns ours to it, to be closed, if that was all we knew of it.
    pub fn inbound_gone(&mut self, id: OrdererId, conn: ConnId) -> Option<ConnId> {
        let peer = self.peers.get_mut(&id).filter(|p| p.inbound == Some(conn))?;
        peer.inbound = None;
        if peer.known {
            return None;
        }
        self.peers.remove(&id)?.out.map(|(conn, _)| conn)
    }
}

impl Orderer {
    pub(super) fn connected(&mut self, now: Instant, conn: ConnId) {
        let Some((id, peer)) = self.peers.of(conn) else { return self.out.push_back(Output::Close { conn }) };
        peer.out = Some((conn, Some(now)));
        let hello = Hello {
            role: Role::Orderer,
            cluster: self.cfg.cluster,
            node: self.cfg.id.0,
            slot: 0,
            incarnation: self.incarnation,
        };
        self.send(conn, wire::encode(hello));
        self.introduce(conn, id);
    }

    pub(super) fn peer_closed(&mut self, now: Instant, conn: ConnId) {
        let Some((id, peer)) = self.peers.of(conn) else { return };
        let up = peer.out.take().and_then(|(_, up)| up);
        // One that is refused at once is no better than one that can't be made.
        if up.is_some_and(|since| now.since(since) >= BACKOFF_MAX) {
            peer.backoff = BACKOFF_MIN;
        }
        let (backoff, addr) = (peer.backoff, peer.addr.clone());
        peer.backoff = (backoff * 2).min(BACKOFF_MAX);
        // Half of it is chance: members that lost each other don't dial in step.
        let jitter = self.peers.rng.below(backoff.as_nanos() as u64 / 2);
        if let Some(peer) = self.peers.peers.get_mut(&id) {
            peer.redial_at = now + backoff / 2 + Duration::from_nanos(jitter);
        }
        if up.is_some() {
            info!(%id, addr, "connection to orderer lost");
        }
        self.consensus.unreachable(id);
        let mut ready = Vec::new();
        self.thrifty.lost(id, &mut ready);
        self.transmit(ready);
    }

    /// Members answer nothing over a connection that we dialled, but that they refuse it.
    pub(super) fn peer_answered(&mut self, conn: ConnId, bytes: Bytes) {
        let Some((id, _)) = self.peers.of(conn) else { return };
        match wire::decode(bytes).map(|p| p.message) {
            Ok(Message::Refused(r)) if r.why == RefusedWhy::Dismissed => return self.dismiss(r.text),
            Ok(Message::Refused(r)) => warn!(%id, why = ?r.why, text = r.text, "refused by orderer"),
            Ok(other) => warn!(%id, message = other.name(), "unexpected answer of orderer"),
            Err(e) => warn!(%id, error = %e, "malformed answer of orderer"),
        }
        self.out.push_back(Output::Close { conn });
    }

    /// Sends raft's messages, some of them perhaps later.
    pub(super) fn send_raft(&mut self, now: Instant, messages: Vec<Outgoing>) {
        let mut ready = Vec::with_capacity(messages.len());
        for m in messages {
            self.thrifty.offer(now, m, &mut ready);
        }
        self.transmit(ready);
    }

    /// Sends raft messages, or drops those for which there is no way: raft repeats what matters. What may be
    /// under way is bounded by raft's window of unconfirmed messages.
    pub(super) fn transmit(&mut self, messages: Vec<(OrdererId, Bytes)>) {
        for (to, payload) in messages {
            if let Some(conn) = self.peers.way(to) {
                let raft = Raft { from: self.cfg.id.0, crc: crc32c::crc32c(&payload) };
                let frame = wire::encode_with(raft, &[&payload]);
                self.send(conn, frame);
            }
        }
    }

    /// At the end of a turn: what was held back for as long as it may be, appends and cuts alike, since we are
    /// awake for one of them.
    pub(super) fn send_held(&mut self, now: Instant) {
        if self.consensus.is_leader() {
            self.thrifty.progress(self.consensus.committed(), self.consensus.matched());
        }
        let mut ready = Vec::new();
        self.thrifty.tick(now, &mut ready);
        let cuts_due = self.lead.as_ref().and_then(|l| l.late.due()).is_some_and(|at| at <= now);
        if cuts_due {
            self.thrifty.release(&mut ready);
        }
        if cuts_due || !ready.is_empty() {
            self.send_late_cuts();
        }
        self.transmit(ready);
    }
}
