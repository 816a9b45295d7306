//! How is the whole log read for the audit? By a subscription from its first record on, or range by range; up to
//! where it ends once the writers have ended.

use super::super::loader::Load;
use super::rules::Rules;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use zoolog_client::{Committed, LogClient, LogEvent, ReadEnd, RequestId, SharedLog};
use zoolog_core::Gsn;

/// Payload bytes of one range.
const RANGE_BYTES: usize = 1 << 20;
/// Positions of one range.
const RANGE: u64 = 100_000;

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is subscribed.
    Subscribes,
    /// It asks for ranges, one after the other, and first of all where the log ends.
    Ranges,
}

/// What readers share with the thread that steers.
#[derive(Debug, Default)]
pub struct Goal {
    /// Where the log ends; known once nobody writes any more.
    pub until: OnceLock<Gsn>,
}

/// One reader.
#[derive(Debug)]
pub struct Reader {
    name: String,
    way: Way,
    goal: Arc<Goal>,
    /// How far it has come, for whoever wants to know.
    at: Arc<AtomicU64>,
    rules: Option<Rules>,
    begun: bool,
    asked: Option<(RequestId, Gsn)>,
}

/// What a reader has seen.
#[derive(Debug)]
pub struct Seen {
    /// Who.
    pub name: String,
    /// What.
    pub rules: Rules,
}

impl Reader {
    /// One that has not begun.
    pub fn new(name: String, way: Way, rules: Rules, goal: Arc<Goal>, at: Arc<AtomicU64>) -> Self {
        Self { name, way, goal, at, rules: Some(rules), begun: false, asked: None }
    }

    fn committed(&mut self, c: &Committed) {
        let Some(rules) = &mut self.rules else { return };
        rules.committed(c);
        self.at.store(rules.at().0, Ordering::Relaxed);
    }

    fn lost(&mut self, until: Gsn, why: &str) {
        if let Some(rules) = &mut self.rules {
            rules.lost(until, why);
        }
    }

    fn ask(&mut self, log: &mut LogClient) {
        let (Some(rules), Some(until), None) = (&self.rules, self.goal.until.get(), self.asked) else {
            return;
        };
        let (from, to) = (rules.at(), rules.at().plus(RANGE).min(*until));
        if from < to {
            self.asked = Some((log.read(from, to, RANGE_BYTES), to));
        }
    }
}

impl Load for Reader {
    type Result = Seen;

    fn turn(&mut self, _now_ns: u64, log: &mut LogClient) {
        let begun = std::mem::replace(&mut self.begun, true);
        match self.way {
            Way::Subscribes if !begun => log.subscribe(Gsn(0)),
            Way::Subscribes => {}
            Way::Ranges => {
                if !begun {
                    log.tail();
                }
                self.ask(log);
            }
        }
    }

    fn event(&mut self, _now_ns: u64, log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Tail { gsn, .. } => {
                let _ = self.goal.until.set(gsn); // whoever says so first
            }
            LogEvent::Committed(c) => self.committed(&c),
            LogEvent::Gap { until, .. } => {
                self.lost(until, "trimmed");
                log.subscribe(until);
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                let Some((_, to)) = self.asked.take_if(|(asked, _)| *asked == request) else { return };
                batches.iter().for_each(|c| self.committed(c));
                let at = self.rules.as_ref().map(Rules::at);
                match end {
                    ReadEnd::Trimmed => self.lost(covers, "trimmed"),
                    ReadEnd::NotYet => {
                        self.lost(to, "answered as not there yet, though it lies before the tail")
                    }
                    _ if at != Some(covers) => self.lost(covers, "left out of an answer that covers it"),
                    _ => {} // as far as it goes; what is unavailable is asked for again
                }
            }
            _ => {}
        }
    }

    fn result(&mut self) -> Option<Seen> {
        let until = *self.goal.until.get()?;
        let rules = self.rules.take_if(|rules| rules.at() >= until)?;
        Some(Seen { name: self.name.clone(), rules })
    }
}
