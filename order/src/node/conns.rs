//! Who is on the other end? Accepted connections: `Hello` first, then the messages of that role.

use super::Orderer;
use super::views::Wish;
use crate::sequencer::{Command, Refusal};
use bytes::Bytes;
use std::time::Duration;
use tracing::{info, warn};
use zoolog_core::wire::{self, ClaimLane, Hello, Message, NotLeader, Refused, RefusedWhy, Role};
use zoolog_core::{ClusterId, ConnId, Incarnation, Instant, OrdererId, Output, ServerId, SlotId};

/// Connections accepted at a time.
const CONNS_MAX: usize = 4096;
/// How long a connection may take to say who it is.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// An accepted connection.
pub(super) struct Conn {
    pub peer: String,
    pub who: Who,
    /// Of an orderer that has introduced itself: the birth of its directory; else 0.
    pub birth: u64,
}

/// What is known of its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Nothing yet.
    New,
    /// A member.
    Orderer(OrdererId),
    /// A slot, of this start.
    Slot(SlotId, Incarnation),
    /// A writer, reader or subscriber.
    Client,
    /// We ended it; what still arrives is of no interest.
    Ending,
}

impl Orderer {
    pub(super) fn accepted(&mut self, now: Instant, conn: ConnId, peer: String) {
        let full = self.conns.len() >= CONNS_MAX;
        self.silent.push_back((now + HELLO_TIME, conn));
        self.conns.insert(conn, Conn { peer, who: Who::New, birth: 0 });
        if full {
            self.refuse(
                conn,
                Refusal::new(RefusedWhy::NotReady, format!("{CONNS_MAX} connections are open")),
            );
        }
    }

    /// Ends connections that never said hello.
    pub(super) fn close_silent(&mut self, now: Instant) {
        while let Some((_, conn)) = self.silent.front().copied().filter(|(by, _)| *by <= now) {
            self.silent.pop_front();
            if self.conns.get(&conn).is_some_and(|c| c.who == Who::New) {
                self.refuse(conn, Refusal::new(RefusedWhy::Unexpected, "no hello"));
            }
        }
    }

    pub(super) fn closed(&mut self, now: Instant, conn: ConnId) {
        if conn.is_dialled() {
            self.peer_closed(now, conn);
        } else if let Some(Conn { who, .. }) = self.conns.remove(&conn) {
            self.forget(conn, who);
        }
    }

    /// Takes the connection out of all conversations.
    fn forget(&mut self, conn: ConnId, who: Who) {
        match who {
            Who::Slot(slot, _) => self.slot_gone(conn, slot),
            Who::Orderer(id) => {
                let unused = self.peers.inbound_gone(id, conn);
                self.out.extend(unused.map(|conn| Output::Close { conn }));
            }
            Who::Client => {
                self.consumer_gone(conn);
                self.offerer_gone(conn);
            }
            Who::New | Who::Ending => {}
        }
        self.subscriber_gone(conn);
    }

    /// Ends a connection, after what was sent.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(c) = self.conns.get_mut(&conn).filter(|c| c.who != Who::Ending) else { return };
        let who = std::mem::replace(&mut c.who, Who::Ending);
        self.forget(conn, who);
        self.out.push_back(Output::Close { conn });
    }

    /// Says why, and ends the connection.
    pub(super) fn refuse(&mut self, conn: ConnId, refusal: Refusal) {
        let Some(c) = self.conns.get(&conn).filter(|c| c.who != Who::Ending) else { return };
        let Refusal { why, text } = refusal;
        info!(peer = %c.peer, who = ?c.who, ?why, text, "connection refused");
        self.send(conn, wire::encode(Refused { why, text }));
        self.close(conn);
    }

    pub(super) fn frame(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        if conn.is_dialled() {
            return self.peer_answered(conn, bytes);
        }
        let Some(who) = self.conns.get(&conn).map(|c| c.who).filter(|w| *w != Who::Ending) else { return };
        let packet = match wire::decode(bytes) {
            Ok(packet) => packet,
            Err(e) => return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, e.to_string())),
        };
        let leader_only = matches!(
            packet.message,
            Message::Register(_)
                | Message::Report(_)
                | Message::Recovering(_)
                | Message::WatchCuts(_)
                | Message::WatchViews(_)
                | Message::WatchGrowth(_)
                | Message::Tail(_)
                | Message::Consumer(_)
                | Message::ForgetConsumer(_)
                | Message::Offer(_)
                | Message::FindOffers(_)
                | Message::Finalize(_)
                | Message::WantShards(_)
                | Message::RebuildShard(_)
                | Message::OpenWriter(_)
                | Message::ClaimLane(_)
                | Message::Trim(_)
                | Message::Held(_)
                | Message::ChangeOrderers(_)
                | Message::Begin(_)
                | Message::Seal(_)
        );
        if leader_only && self.lead.is_none() && matches!(who, Who::Slot(..) | Who::Client) {
            let answer = self.not_leader();
            return self.send(conn, answer);
        }
        match (who, packet.message) {
            (Who::New, Message::Hello(hello)) => self.hello(conn, hello),
            (Who::Orderer(id), Message::Introduce(m)) => self.introduced(now, conn, id, m),
            (Who::Orderer(id), Message::Raft(raft)) => self.raft(now, conn, id, raft, &packet.payload),
            (Who::Slot(slot, started), Message::Register(r)) => self.register(conn, slot, started, r),
            (Who::Slot(slot, started), Message::Report(r)) => self.report(now, conn, slot, started, r),
            (Who::Slot(slot, started), Message::Recovering(r)) => {
                self.recovering(now, conn, slot, started, r)
            }
            (Who::Slot(..) | Who::Client, Message::WatchCuts(w)) => self.watch_cuts(conn, w.request),
            (Who::Client, Message::WatchViews(w)) => self.watch_views(conn, w.request),
            (Who::Client, Message::WatchGrowth(w)) => self.watch_growth(conn, w.request),
            (Who::Slot(..) | Who::Client, Message::Tail(t)) => self.ask_tail(conn, t.request),
            (Who::Client, Message::Consumer(c)) => self.consumer(conn, c),
            (Who::Client, Message::ForgetConsumer(c)) => self.forget_consumer(conn, c),
            (Who::Client, Message::Offer(m)) => self.offer(conn, m),
            (Who::Client, Message::FindOffers(m)) => self.find_offers(conn, m.request),
            (Who::Client, Message::OpenWriter(m)) => {
                self.ask_name(conn, m.request, Command::OpenWriter(m.name))
            }
            (Who::Client, Message::ClaimLane(m)) => {
                let ClaimLane { request, name, epoch, lane, tail } = m;
                self.ask_name(conn, request, Command::ClaimLane { name, epoch, lane, tail });
            }
            (Who::Client, Message::Finalize(m)) => self.ask_view(conn, m.request, Wish::Finalize(m.shard)),
            (Who::Client, Message::WantShards(m)) => self.ask_view(conn, m.request, Wish::Shards(m.shards)),
            (Who::Client, Message::RebuildShard(m)) => self.ask_view(conn, m.request, Wish::Rebuild(m.shard)),
            (Who::Client, Message::Trim(t)) => self.trim(conn, &t),
            (Who::Slot(slot, _), Message::Held(h)) => self.held(conn, slot, h),
            (Who::Slot(..) | Who::Client | Who::Orderer(_), Message::Status(s)) => {
                self.status(conn, s.request)
            }
            (Who::Client, Message::ChangeOrderers(m)) => self.change_orderers(now, conn, m),
            (Who::Client, Message::Begin(m)) => self.begin(conn, m),
            (Who::Client, Message::Seal(m)) => self.seal(conn, m),
            (Who::Client, Message::Stages(m)) => self.answer_stages(conn, &m),
            (_, other) => {
                let text = format!("{} has no place on this connection, of {who:?}", other.name());
                self.refuse(conn, Refusal::new(RefusedWhy::Unexpected, text));
            }
        }
    }

    /// Where the leader is, encoded.
    pub(super) fn not_leader(&self) -> Bytes {
        // Itself it can only name while it doesn't yet know that it leads no more.
        let heir = self.lead.as_ref().and_then(|lead| lead.changing.heir);
        let leader = self.consensus.leader().filter(|id| *id != self.cfg.id).or(heir);
        wire::encode(NotLeader { leader: leader.and_then(|id| self.addr_of(id)).map(String::from) })
    }

    fn hello(&mut self, conn: ConnId, hello: Hello) {
        let stranger = hello.cluster == ClusterId(0) && hello.role == Role::Client;
        if hello.cluster != self.cfg.cluster && !stranger {
            let (theirs, ours) = (hello.cluster.0, self.cfg.cluster.0);
            let text = format!("this is cluster {ours:032x}, you are of {theirs:032x}");
            return self.refuse(conn, Refusal::new(RefusedWhy::Cluster, text));
        }
        let who = match hello.role {
            Role::Client => Who::Client,
            Role::Slot => match u32::try_from(hello.node) {
                Ok(server) => {
                    let slot = SlotId { server: ServerId(server), index: hello.slot };
                    Who::Slot(slot, hello.incarnation)
                }
                Err(_) => {
                    let text = format!("{} is no server id", hello.node);
                    return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
                }
            },
            Role::Orderer => {
                let id = OrdererId(hello.node);
                if id == self.cfg.id || id == OrdererId(0) {
                    let text = format!("orderer {id} can't be another one here");
                    return self.refuse(conn, Refusal::new(RefusedWhy::Invalid, text));
                }
                if self.state.members().was_removed(id) {
                    return self.refuse(conn, self.removed(id));
                }
                Who::Orderer(id)
            }
        };
        if let Some(c) = self.conns.get_mut(&conn) {
            c.who = who;
        }
    }

    fn raft(&mut self, now: Instant, conn: ConnId, id: OrdererId, raft: wire::Raft, payload: &Bytes) {
        match self.hears(conn, id) {
            Ok(true) => {}
            Ok(false) => return,
            Err(refusal) => return self.refuse(conn, refusal),
        }
        if let Some(lead) = &mut self.lead {
            lead.changing.heard.insert(id, now);
        }
        let crc = crc32c::crc32c(payload);
        let checked = if raft.from != id.0 {
            Err(format!("orderer {id} sent a message of {}", raft.from))
        } else if raft.crc != crc {
            Err(format!("a raft message with checksum {crc:#010x} says {:#010x}", raft.crc))
        } else {
            self.consensus.step(id, payload)
        };
        if let Err(text) = checked {
            // Not worth the connection: an honest member's next message may be fine.
            warn!(from = %id, conn = conn.0, text, "raft message dropped");
        }
    }
}
