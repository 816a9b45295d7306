//! Which replicas are we connected to? One connection per address, for appends, reads and subscriptions
//! alike; dialled when first wanted, then kept up as long as the address is in the view.

use super::cx::Cx;
use bytes::Bytes;
use std::collections::BTreeMap;
use zoolog_core::view::View;
use zoolog_core::wire::Message;
use zoolog_core::{ConnId, Instant, ShardId};

/// The connection to one address, through all its redials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

#[derive(Debug, PartialEq)]
enum State {
    Down { dial_at: Instant },
    Dialing { conn: ConnId, since: Instant },
    Up { conn: ConnId },
}

#[derive(Debug)]
struct Link {
    addr: String,
    state: State,
    fails: u32,
    wanted: bool,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    by_addr: BTreeMap<String, LinkId>,
    by_conn: BTreeMap<ConnId, LinkId>,
    routes: BTreeMap<ShardId, Vec<LinkId>>,
    next: u64,
}

impl Links {
    /// Follows the view. Returns the links that are gone with their addresses.
    pub fn set_view(&mut self, cx: &mut Cx, view: &View) -> Vec<LinkId> {
        let mut by_addr = BTreeMap::new();
        self.routes.clear();
        for shard in &view.shards {
            let mut route = Vec::with_capacity(shard.replicas.len());
            for replica in &shard.replicas {
                let known = by_addr.get(&replica.addr).or_else(|| self.by_addr.get(&replica.addr)).copied();
                let id = known.unwrap_or_else(|| {
                    self.next += 1;
                    let (id, state) = (LinkId(self.next), State::Down { dial_at: cx.now });
                    self.links
                        .insert(id, Link { addr: replica.addr.clone(), state, fails: 0, wanted: false });
                    id
                });
                by_addr.insert(replica.addr.clone(), id);
                route.push(id);
            }
            self.routes.insert(shard.id, route);
        }
        let old = std::mem::replace(&mut self.by_addr, by_addr);
        let gone: Vec<_> =
            old.into_iter().filter(|(a, _)| !self.by_addr.contains_key(a)).map(|(_, id)| id).collect();
        for id in &gone {
            self.take_down(cx, *id);
            self.links.remove(id);
        }
        gone
    }

    /// The replicas of `shard`, by index; none if it is not in the view.
    pub fn route(&self, shard: ShardId) -> &[LinkId] {
        self.routes.get(&shard).map_or(&[], Vec::as_slice)
    }

    /// The first connected replica of `shard`, counting from its `start`th. If none is, all are dialled.
    pub fn pick(&mut self, cx: &mut Cx, shard: ShardId, start: usize) -> Option<LinkId> {
        let route = self.route(shard);
        let n = route.len();
        let up = (0..n).map(|i| route[(start + i) % n]).find(|&l| self.conn(l).is_some());
        if up.is_none() {
            for i in 0..n {
                let link = self.route(shard)[i];
                self.want(cx, link);
            }
        } else {
            // The preferred one is to be there next time.
            let preferred = route[start % n];
            self.want(cx, preferred);
        }
        up
    }

    fn conn(&self, id: LinkId) -> Option<ConnId> {
        match self.links.get(&id)?.state {
            State::Up { conn } => Some(conn),
            _ => None,
        }
    }

    pub fn is_up(&self, id: LinkId) -> bool {
        self.conn(id).is_some()
    }

    pub fn of(&self, conn: ConnId) -> Option<LinkId> {
        self.by_conn.get(&conn).copied()
    }

    pub fn addr(&self, id: LinkId) -> &str {
        self.links.get(&id).map_or("?", |l| &l.addr)
    }

    /// Sees to it that the link is, or comes, up.
    pub fn want(&mut self, cx: &mut Cx, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.wanted = true;
        if matches!(link.state, State::Down { dial_at } if dial_at <= cx.now) {
            let conn = cx.dial(&link.addr);
            link.state = State::Dialing { conn, since: cx.now };
            self.by_conn.insert(conn, id);
        }
    }

    pub fn send(&mut self, cx: &mut Cx, id: LinkId, bytes: Bytes) {
        if let Some(conn) = self.conn(id) {
            cx.send(conn, bytes);
        }
    }

    pub fn send_message(&mut self, cx: &mut Cx, id: LinkId, message: impl Into<Message>) {
        if let Some(conn) = self.conn(id) {
            cx.send_message(conn, message);
        }
    }

    pub fn connected(&mut self, cx: &mut Cx, conn: ConnId) {
        if let Some(id) = self.of(conn) {
            let link = self.links.get_mut(&id).expect("by_conn names existing links");
            link.state = State::Up { conn };
            cx.hello(conn);
        }
    }

    /// The peer has said something useful: the next loss starts with the shortest pause again.
    pub fn useful(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.fails = 0;
        }
    }

    pub fn closed(&mut self, cx: &mut Cx, conn: ConnId) -> Option<LinkId> {
        let id = self.by_conn.remove(&conn)?;
        self.down(cx, id);
        Some(id)
    }

    fn down(&mut self, cx: &mut Cx, id: LinkId) {
        let link = self.links.get_mut(&id).expect("a link that had a connection exists");
        let pause = cx.redial_pause(link.fails);
        link.state = State::Down { dial_at: cx.now + pause };
        link.fails = link.fails.saturating_add(1);
    }

    /// Ends the connection, if there is one; it is dialled again after a pause.
    pub fn take_down(&mut self, cx: &mut Cx, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let (State::Dialing { conn, .. } | State::Up { conn }) = link.state else { return };
        self.by_conn.remove(&conn);
        cx.close(conn);
        self.down(cx, id);
    }

    /// Redials what is due, gives up dials that take too long.
    pub fn tick(&mut self, cx: &mut Cx) {
        let timeout = cx.cfg.request_timeout;
        let due: Vec<_> = self.links.iter().filter(|(_, l)| l.wanted).map(|(id, _)| *id).collect();
        for id in due {
            match self.links[&id].state {
                State::Down { dial_at } if dial_at <= cx.now => self.want(cx, id),
                State::Dialing { since, .. } if since + timeout <= cx.now => {
                    cx.condemned.insert(id);
                }
                _ => {}
            }
        }
    }

    pub fn deadline(&self, cx: &Cx) -> Option<(Instant, &'static str)> {
        let wanted = self.links.values().filter(|l| l.wanted);
        let due = wanted.filter_map(|l| match l.state {
            State::Down { dial_at } => Some((dial_at, "redial a replica")),
            State::Dialing { since, .. } => Some((since + cx.cfg.request_timeout, "a dial takes too long")),
            State::Up { .. } => None,
        });
        due.min_by_key(|d| d.0)
    }
}
