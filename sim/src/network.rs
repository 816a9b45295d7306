//! How do bytes get from node to node? Over links that are FIFO in each direction and otherwise as bad as
//! the seed wants: random delays, slow links, resets, refused dials, partitions. Bytes arrive cut anywhere;
//! the receiving side splits them into frames as the real shell does.

use crate::options::{Options, around};
use crate::schedule::{Carried, Event, Life, NodeId, Schedule};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use zoolog_core::rng::Rng;
use zoolog_core::{ConnId, Instant};

/// A connection, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// One side of a link.
#[derive(Debug)]
pub struct End {
    /// Where.
    pub node: NodeId,
    /// In which of its lives.
    pub life: Life,
    /// What the machine calls it.
    pub conn: ConnId,
    /// From `Connected` or `Accepted` (dialler: from the dial) until `Closed` is given.
    pub open: bool,
    /// The machine asked to close it: nothing more is read.
    pub closing: bool,
    /// The machine doesn't want frames now.
    pub paused: bool,
    /// Whether no frame has been cut off yet.
    pub first: bool,
    /// Bytes that arrived and are not yet a frame, or not wanted yet.
    pub unread: BytesMut,
    /// When the last thing sent to this end arrives.
    last: Instant,
    /// What a partition holds back, in order.
    held: VecDeque<Carried>,
}

/// A connection: end 0 dialled, end 1 accepted.
#[derive(Debug)]
pub struct Link {
    /// Both ends.
    pub ends: [End; 2],
    /// What tells the connections of another port than the first from those of that.
    pub port: u64,
    delay: Duration,
    /// Nothing arrives until it is thawed, but resets.
    frozen: bool,
}

/// All links, and who can't reach whom.
#[derive(Debug)]
pub struct Network {
    /// Every link with an open end.
    pub links: BTreeMap<LinkId, Link>,
    next: u64,
    rng: Rng,
    delay: Duration,
    slow_link_percent: u64,
    late_percent: u64,
    refuse_percent: u64,
    /// Partitions in force, by number: ordered pairs that are blocked.
    partitions: BTreeMap<u64, BTreeSet<(NodeId, NodeId)>>,
    partitions_made: u64,
}

impl Network {
    /// No link yet.
    pub fn new(options: &Options) -> Self {
        Self {
            links: BTreeMap::new(),
            next: 0,
            rng: Rng::new(options.seed, "network"),
            delay: options.delay,
            slow_link_percent: options.slow_link_percent,
            late_percent: options.late_percent,
            refuse_percent: options.refuse_percent,
            partitions: BTreeMap::new(),
            partitions_made: 0,
        }
    }

    /// No more refusals, late chunks and slow links; partitions are healed apart.
    pub fn calm(&mut self) {
        self.late_percent = 0;
        self.refuse_percent = 0;
        self.slow_link_percent = 0;
        self.links.values_mut().for_each(|l| l.delay = self.delay);
    }

    /// Whether bytes from `from` don't reach `to` now.
    pub fn blocked(&self, from: NodeId, to: NodeId) -> bool {
        self.partitions.values().any(|p| p.contains(&(from, to)))
    }

    /// Blocks these ordered pairs until [`heal`](Self::heal) of the returned number.
    pub fn block(&mut self, pairs: BTreeSet<(NodeId, NodeId)>) -> u64 {
        self.partitions_made += 1;
        self.partitions.insert(self.partitions_made, pairs);
        self.partitions_made
    }

    /// The partitions in force.
    pub fn partitions(&self) -> Vec<u64> {
        self.partitions.keys().copied().collect()
    }

    fn one_way(&mut self, link: Duration) -> Duration {
        let mut d = around(&mut self.rng, link);
        if self.rng.chance(self.late_percent) {
            d *= 1 + self.rng.below(50) as u32;
        }
        d
    }

    /// `from` dials `to`.
    pub fn dial(
        &mut self,
        schedule: &mut Schedule,
        from: (NodeId, Life, ConnId),
        to: Option<NodeId>,
    ) -> LinkId {
        self.next += 1;
        let id = LinkId(self.next);
        let slow = self.rng.chance(self.slow_link_percent);
        let delay = if slow { self.delay * 10 } else { self.delay };
        let end = |node, life, conn, open| End {
            node,
            life,
            conn,
            open,
            closing: false,
            paused: false,
            first: true,
            unread: BytesMut::new(),
            last: Instant(0),
            held: VecDeque::new(),
        };
        let ends = [end(from.0, from.1, from.2, true), end(to.unwrap_or(from.0), 0, ConnId(0), false)];
        self.links.insert(id, Link { ends, port: 0, delay, frozen: false });
        let wait = self.one_way(delay);
        match to {
            Some(to) if self.blocked(from.0, to) => {
                let wait = Duration::from_millis(self.rng.between(300, 1500));
                schedule.after(wait, Event::Arrives(id, 0, Carried::Reset));
            }
            Some(_) if !self.rng.chance(self.refuse_percent) => schedule.after(wait, Event::DialArrives(id)),
            _ => schedule.after(wait * 2, Event::Arrives(id, 0, Carried::Reset)),
        }
        id
    }

    /// Puts something on its way to end `end` of a link; nothing overtakes but a reset.
    pub fn carry(&mut self, schedule: &mut Schedule, id: LinkId, end: usize, what: Carried) {
        let Some(delay) = self.links.get(&id).map(|l| l.delay) else { return };
        let wait = self.one_way(delay);
        let target = &mut self.links.get_mut(&id).expect("just seen").ends[end];
        let at = (schedule.now() + wait).max(Instant(target.last.0 + 1));
        target.last = at;
        schedule.at(at, Event::Arrives(id, end, what));
    }

    /// Sends `bytes` towards end `end`, in one piece or cut somewhere.
    pub fn send(&mut self, schedule: &mut Schedule, id: LinkId, end: usize, mut bytes: Bytes) {
        if bytes.len() > 1 && self.rng.chance(10) {
            let front = bytes.split_to(1 + self.rng.below(bytes.len() as u64 - 1) as usize);
            self.carry(schedule, id, end, Carried::Bytes(front));
        }
        self.carry(schedule, id, end, Carried::Bytes(bytes));
    }

    /// Breaks a link: each end learns of it at its own time, up to `spread` later.
    pub fn break_link(&mut self, schedule: &mut Schedule, id: LinkId, spread: Duration) {
        for end in 0..2 {
            let wait = Duration::from_nanos(self.rng.below(1 + spread.as_nanos() as u64));
            schedule.after(wait, Event::Arrives(id, end, Carried::Reset));
        }
    }

    /// Only one end learns that a link is broken, now; the other still thinks it is up.
    pub fn break_end(&mut self, schedule: &mut Schedule, id: LinkId, end: usize) {
        schedule.after(Duration::ZERO, Event::Arrives(id, end, Carried::Reset));
    }

    /// A random link, if there is any.
    pub fn any_link(&mut self) -> Option<LinkId> {
        let n = self.links.len() as u64;
        (n > 0).then(|| *self.links.keys().nth(self.rng.below(n) as usize).expect("below the count"))
    }

    /// Whether `what` must wait for a partition to end; it is kept if so.
    pub fn hold(&mut self, id: LinkId, end: usize, what: &Carried) -> bool {
        if matches!(what, Carried::Reset | Carried::Release) {
            return false;
        }
        let Some(link) = self.links.get(&id) else { return false };
        let (from, to) = (link.ends[1 - end].node, link.ends[end].node);
        let hold = link.frozen || !link.ends[end].held.is_empty() || self.blocked(from, to);
        if hold {
            let link = self.links.get_mut(&id).expect("just seen");
            link.ends[end].held.push_back(what.clone());
        }
        hold
    }

    /// Ends a partition; what it held back goes on a little later.
    pub fn heal(&mut self, schedule: &mut Schedule, partition: u64) {
        self.partitions.remove(&partition);
        for (&id, link) in &self.links {
            for end in 0..2 {
                if !link.ends[end].held.is_empty() {
                    let wait = around(&mut self.rng, link.delay);
                    schedule.after(wait, Event::Arrives(id, end, Carried::Release));
                }
            }
        }
    }

    /// What a partition held back from an end and doesn't any more, in order.
    pub fn released(&mut self, id: LinkId, end: usize) -> VecDeque<Carried> {
        let Some(link) = self.links.get(&id) else { return VecDeque::new() };
        if link.frozen || self.blocked(link.ends[1 - end].node, link.ends[end].node) {
            return VecDeque::new();
        }
        std::mem::take(&mut self.links.get_mut(&id).expect("just seen").ends[end].held)
    }

    /// Holds everything on a link back, until [`thaw`](Self::thaw).
    pub fn freeze(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.frozen = true;
        }
    }

    /// Lets what a frozen link held back arrive.
    pub fn thaw(&mut self, schedule: &mut Schedule, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.frozen = false;
            for end in 0..2 {
                schedule.after(Duration::from_micros(1), Event::Arrives(id, end, Carried::Release));
            }
        }
    }

    /// Links that `from` dialled to `to`, oldest first.
    pub fn links_between(&self, from: NodeId, to: NodeId) -> Vec<LinkId> {
        let between = |l: &Link| l.ends[0].node == from && l.ends[1].node == to;
        self.links.iter().filter(|(_, l)| between(l)).map(|(id, _)| *id).collect()
    }

    /// Links with an end on `node`, and which end that is.
    pub fn links_of(&self, node: NodeId) -> Vec<(LinkId, usize)> {
        let on = |(id, link): (&LinkId, &Link)| {
            let id = *id;
            (0..2)
                .filter(|&e| link.ends[e].node == node && link.ends[e].open)
                .map(move |e| (id, e))
                .collect::<Vec<_>>()
        };
        self.links.iter().flat_map(on).collect()
    }

    /// Links between the two sides of a partition.
    pub fn links_across(&self, pairs: &BTreeSet<(NodeId, NodeId)>) -> Vec<LinkId> {
        let across = |l: &Link| {
            let (a, b) = (l.ends[0].node, l.ends[1].node);
            pairs.contains(&(a, b)) || pairs.contains(&(b, a))
        };
        self.links.iter().filter(|(_, l)| across(l)).map(|(id, _)| *id).collect()
    }

    /// Marks an end as gone; the link goes with its second one.
    pub fn end_gone(&mut self, id: LinkId, end: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.ends[end].open = false;
            link.ends[end].unread.clear();
            if !link.ends[1 - end].open {
                self.links.remove(&id);
            }
        }
    }
}
