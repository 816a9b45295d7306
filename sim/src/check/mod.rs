//! Are the promises kept? One property per file; this one hands each fact to the checkers it concerns.

pub mod conditions;
pub mod content;
pub mod convergence;
pub mod copies;
pub mod cuts;
pub mod durability;
pub mod expiry;
pub mod openings;
pub mod registers;
pub mod sessions;
pub mod starts;
pub mod tail;
pub mod total_order;
pub mod trim;
pub mod views;
pub mod writers;

use crate::observe::Observation;
use crate::options::Options;
use crate::schedule::NodeId;
use bytes::Bytes;
use std::fmt;
use zoolog_core::wire::{self, AppendRefusedWhy, Message, ReadEnd};
use zoolog_core::{Gsn, Instant};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number among the promises.
    pub promise: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// A broken promise.
    pub fn new(promise: &'static str, text: String) -> Self {
        Self { promise, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken: {}", self.promise, self.text)
    }
}

/// What a checker says to a fact.
pub type Verdict = Result<(), Violation>;

/// Breaks `promise` with a text, if the condition does not hold.
macro_rules! promise {
    ($promise:literal, $ok:expr, $($text:tt)*) => {
        if !$ok {
            return Err($crate::check::Violation::new($promise, format!($($text)*)));
        }
    };
}
pub(crate) use promise;

/// All checkers.
#[derive(Debug)]
pub struct Checks {
    /// LOG-1.
    pub order: total_order::TotalOrder,
    /// LOG-10.
    pub conditions: conditions::Conditions,
    /// LOG-1, seen from the cuts.
    pub cuts: cuts::Cuts,
    /// LOG-2.
    pub durability: durability::Durability,
    /// LOG-3.
    pub writers: writers::Writers,
    /// LOG-4.
    pub content: content::Content,
    /// LOG-6.
    pub trim: trim::Trims,
    /// LOG-7.
    pub views: views::Views,
    /// LOG-8, as those see it who take a name.
    pub openings: openings::Openings,
    /// LOG-9.
    pub copies: copies::Copies,
    /// LOG-2: a start is known by its number.
    pub starts: starts::Starts,
    /// Tails are linearizable.
    pub tail: tail::Tails,
    /// ZK-1.
    pub registers: registers::Registers,
    /// ZK-2.
    pub sessions: sessions::Sessions,
    /// ZK-4.
    pub expiry: expiry::Expiry,
    /// ZK-5.
    pub convergence: convergence::Convergence,
    /// Whether this is about a cluster that goes on where another has ended: what lies before counts as trimmed there, whoever
    /// needs it.
    follows: bool,
    /// Whether something may be trimmed that nobody has read.
    unread: bool,
    /// Names of ZooKeeper nodes that are yet to register as consumers, and what to set when none is left.
    pending: (std::collections::BTreeSet<String>, std::sync::Arc<std::sync::atomic::AtomicBool>),
    /// Appends refused for want of room, by clients or by their primaries.
    pub refused: u64,
    /// How many processes of the workload are done, by node.
    pub done: std::collections::BTreeSet<NodeId>,
    /// Changes of the orderers that were decided or begun.
    pub decided: u64,
}

impl Checks {
    /// Nothing seen yet.
    pub fn new(options: &Options) -> Self {
        let zk = if options.trims { options.zk } else { 0 };
        let pending = (1..=zk).map(|n| format!("zk-{n}")).collect::<std::collections::BTreeSet<_>>();
        options.registered.store(pending.is_empty(), std::sync::atomic::Ordering::Relaxed);
        Self {
            follows: false,
            unread: options.may_go_unread(),
            pending: (pending, options.registered.clone()),
            refused: 0,
            order: Default::default(),
            conditions: Default::default(),
            openings: Default::default(),
            cuts: Default::default(),
            durability: Default::default(),
            writers: Default::default(),
            content: Default::default(),
            trim: trim::Trims::new(options.may_go_unread()),
            views: Default::default(),
            copies: Default::default(),
            starts: Default::default(),
            tail: Default::default(),
            registers: Default::default(),
            sessions: Default::default(),
            expiry: Default::default(),
            convergence: Default::default(),
            done: Default::default(),
            decided: 0,
        }
    }

    /// The same of a cluster that goes on where another has ended.
    pub fn of_later(options: &Options) -> Self {
        Self { follows: true, ..Self::new(options) }
    }

    /// A node sent these bytes to another.
    pub fn sent(&mut self, now: Instant, from: NodeId, to: NodeId, bytes: &Bytes) -> Verdict {
        let mut rest = bytes.clone();
        while let Ok(Some(len)) = wire::frame_length(&rest, usize::MAX) {
            if len > rest.len() {
                break;
            }
            let frame = rest.split_to(len);
            // Only these kinds are of interest: others need not be decoded.
            let kind = wire::kind(&frame);
            let of_copies = kind == 11 && self.copies.is_any_begun();
            let of_trims = matches!(kind, 21 | 22 | 24 | 26 | 41);
            if !of_copies && (of_trims && self.follows) {
                continue;
            }
            if !of_copies && !matches!(kind, 13 | 14 | 17 | 21 | 22 | 24 | 26 | 30..=32 | 41 | 55 | 95) {
                continue;
            }
            let Ok(packet) = wire::decode(frame) else { continue };
            match packet.message {
                Message::CutIs(m) => {
                    self.cuts.announced(from, &m.cut)?;
                    self.views.cut(&m.cut)?;
                }
                Message::Grown(m) => self.cuts.grown(from, m)?,
                Message::ViewIs(m) => {
                    self.views.stated(&m.view)?;
                    self.copies.stated(&m.view)?;
                }
                Message::Report(m) => self.copies.reported(&m),
                Message::OrderIs(m) => {
                    self.views.stated(&m.view)?;
                    self.copies.stated(&m.view)?;
                    self.cuts.stated(m.number, m.tail)?;
                    self.cuts.asked(from, m.number);
                }
                Message::Fence(m) => self.content.fenced(m.lane, packet.payload)?,
                Message::TrimIs(m) => self.trim.stated("the leader", m.gsn)?,
                Message::Consumer(m) => self.trim.said(from, m.name, m.upto),
                Message::ConsumerIs(m) => {
                    self.trim.stated("the leader", m.trim)?;
                    if let Some(at) = m.upto {
                        self.trim.registered(to, at);
                        self.registered(to);
                    }
                }
                Message::TrimAnswer(m) => self.trim.stated("the leader", m.trim)?,
                Message::AppendRefused(m) if m.why == AppendRefusedWhy::DiskFull => self.refused += 1,
                Message::ReadIs(m) if m.end == ReadEnd::Trimmed => self.trim.stated("a replica", m.covers)?,
                Message::Append(m) => self.content.appended(m.lane, packet.payload, &self.views)?,
                Message::Appended(m) => {
                    for (seq, gsn) in m.acks {
                        self.content.count(m.writer, seq).map_or(Ok(()), |count| {
                            self.tail.acked(now, gsn.plus(u64::from(count)));
                            self.durability.acked(m.writer, seq, gsn, count, &self.order)
                        })?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A process said something.
    pub fn seen(&mut self, now: Instant, node: NodeId, name: &str, seen: &Observation) -> Verdict {
        match seen {
            Observation::Note(_) | Observation::Beware(_) => {}
            Observation::Failed(why) => {
                let differs = why.contains("ZK-5") && self.convergence.corruptions() == 0;
                promise!("ZK-5", !differs, "{name} stops, though nobody has touched its state: {why}");
                promise!("SYS-1", !why.contains("panicked"), "{name}: {why}");
            }
            Observation::Broken { promise, text } => return Err(Violation::new(promise, text.clone())),
            Observation::Appending { writer, seq, index, record } => {
                self.content.record(*writer, *seq, *index, record.clone());
            }
            Observation::AppendingIf { writer, seq, expected } => {
                self.conditions.asked(*writer, *seq, *expected)
            }
            Observation::Opened { writer, epoch, tail } => {
                let now = (self.cuts.end(), self.trim.point() > Gsn(0));
                self.openings.opened((*writer, *epoch), *tail, &self.order, now)?;
            }
            Observation::Conflicted { writer, seq, tail } => {
                self.conditions.told(*writer, *seq, false, *tail)?;
                let count = self.content.count(*writer, *seq).unwrap_or_default();
                self.durability.acked(*writer, *seq, *tail, count, &self.order)?;
            }
            Observation::Acked { writer, seq, first_gsn, count } => {
                self.conditions.told(*writer, *seq, true, *first_gsn)?;
                self.durability.acked(*writer, *seq, *first_gsn, *count, &self.order)?;
            }
            Observation::Subscribed { from } => self.order.subscribed(node, *from),
            Observation::Delivered { first_gsn, placed, skip, take } => {
                self.content.delivered(name, placed)?;
                self.order.delivered(node, name, *first_gsn, placed, *skip, *take)?;
                self.cuts.delivered(*first_gsn, placed)?;
                self.conditions.delivered(*first_gsn, placed)?;
                self.durability.delivered(*first_gsn, placed)?;
                self.writers.advance(&self.order, self.unread_before())?;
            }
            Observation::Gap { from, until } => {
                self.order.stopped(node, name, *from)?;
                self.trim.gap(name, *from, *until)?;
            }
            Observation::NoRoom => self.refused += 1,
            Observation::ConsumerDropped { name } => self.trim.dropped(name),
            Observation::TrimDone { asked, result } => self.trim.answered(name, *asked, result)?,
            Observation::Tail { asked, gsn } => self.tail.answered(name, *asked, *gsn)?,
            Observation::State { applied, hash } => self.convergence.state(node, name, *applied, *hash)?,
            Observation::Decided => self.decided += 1,
            Observation::ZkEnqueue => self.registers.enqueue(),
            Observation::Zk(fact) => {
                self.registers.fact(now, fact)?;
                self.sessions.fact(fact)?;
                self.expiry.fact(now, fact)?;
            }
            Observation::Looked(look) => self.registers.looked(look)?,
            Observation::Done => {
                self.done.insert(node);
            }
        }
        Ok(())
    }

    /// A node crashed: what it said of itself is void.
    pub fn crashed(&mut self, node: NodeId) {
        self.order.gone(node);
        self.convergence.gone(node);
        self.done.remove(&node);
    }

    /// All is quiet: the whole log up to `tail` must have been read, and hold all that was promised.
    pub fn finally(&self, tail: Gsn) -> Verdict {
        self.order.complete(self.unread_before(), tail)?;
        self.durability.finally(&self.order, self.unread_before())?;
        self.conditions.finally(&self.order)?;
        self.openings.finally(&self.order, self.unread_before())?;
        self.registers.finally()
    }

    /// What lies before this may be gone though nobody has read it.
    fn unread_before(&self) -> Gsn {
        if self.unread { self.trim.point() } else { self.trim.reads_from() }
    }

    /// That client is a consumer now. Once all ZooKeeper nodes are, others may release.
    fn registered(&mut self, node: NodeId) {
        if let Some(name) = self.trim.name(node) {
            self.pending.0.remove(name);
        }
        if self.pending.0.is_empty() {
            self.pending.1.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
