//! What do the clients of two clusters say, of which one follows the other? What of it the owner hears, and when the one takes
//! over from the other.

use super::cluster::ClusterLog;
use super::{Passed, Successor};
use crate::{ClientConfig, LogClient, LogEvent, RequestId, Sealed, SharedLog};
use std::collections::BTreeSet;
use zoolog_core::wire::{DiskRoom, ReadEnd};
use zoolog_core::{ClusterId, Gsn, Instant, Machine, Output};

/// Clusters before the newest whose clients are kept at a time: what lies in older ones counts as trimmed.
const PAST_MAX: usize = 8;

/// The client of a cluster whose log has ended.
#[derive(Debug)]
pub(super) struct Past {
    pub log: LogClient,
    /// Where that ended.
    pub tail: Gsn,
    /// Questions that wait for its answers.
    pub asked: BTreeSet<RequestId>,
    /// Those whose answers concern nobody.
    pub hidden: BTreeSet<RequestId>,
}

impl ClusterLog {
    /// What the owner hears of what the newest client says.
    pub(super) fn newest_says(&mut self, event: LogEvent) -> Option<LogEvent> {
        match event {
            // It was ready before, as far as he knows.
            LogEvent::Ready { .. } if std::mem::replace(&mut self.ready, true) => None,
            // He reads the past again, and will come to it.
            LogEvent::Committed(_) | LogEvent::Gap { .. } if self.of_past.is_some() => None,
            LogEvent::Committed(committed) => {
                self.at = Some(committed.end());
                Some(LogEvent::Committed(committed))
            }
            LogEvent::Gap { from, until } => {
                self.at = None;
                Some(LogEvent::Gap { from, until })
            }
            // The next position is given elsewhere.
            LogEvent::Tail { request, .. } if self.log.sealed().is_some() && !self.stuck => {
                self.tails.push(request);
                None
            }
            LogEvent::Sealed(sealed) => {
                self.sealed = Some(sealed);
                self.log.want_all();
                None
            }
            // What is remembered is where to begin again: with the first, as long as who starts may need it.
            LogEvent::Orderers { .. } if self.moved => None,
            LogEvent::ReadDone { request, batches, covers, end } => {
                self.asked.remove(&request);
                Some(LogEvent::ReadDone { request, batches, covers, end })
            }
            LogEvent::TrimDone { request, result } => {
                self.asked.remove(&request);
                if result.is_ok() {
                    self.forget_past();
                }
                Some(LogEvent::TrimDone { request, result })
            }
            LogEvent::Stalled { what } => {
                self.stalled.insert(what);
                Some(LogEvent::Stalled { what })
            }
            LogEvent::Resumed { what } => {
                self.stalled.remove(what);
                Some(LogEvent::Resumed { what })
            }
            other => Some(other),
        }
    }

    /// What the owner hears of what a client before it says.
    pub(super) fn past_says(&mut self, i: usize, event: LogEvent) -> Option<LogEvent> {
        let past = &mut self.past[i];
        let subscribed = self.of_past == Some(past.tail);
        match event {
            LogEvent::Committed(committed) if subscribed => {
                self.at = Some(committed.end());
                Some(LogEvent::Committed(committed))
            }
            LogEvent::Gap { from, until } if subscribed => {
                (self.at, self.of_past) = (None, None);
                Some(LogEvent::Gap { from, until })
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                past.asked.remove(&request);
                // It goes on in the newest.
                let goes_on = end == ReadEnd::NotYet && covers == past.tail;
                let end = if goes_on { ReadEnd::More } else { end };
                Some(LogEvent::ReadDone { request, batches, covers, end })
            }
            LogEvent::TrimDone { request, result } => {
                past.asked.remove(&request);
                let hidden = past.hidden.remove(&request);
                (!hidden).then_some(LogEvent::TrimDone { request, result })
            }
            // The next position is given elsewhere.
            LogEvent::Tail { request, .. } => {
                self.log.ask_tail(request);
                None
            }
            LogEvent::Offers { .. } | LogEvent::SealDone { .. } => Some(event),
            _ => None,
        }
    }

    /// Something of the newest log was trimmed: so all before that is to go.
    fn forget_past(&mut self) {
        for past in &mut self.past {
            past.log.release(past.tail);
            let request = past.log.trim(past.tail);
            past.asked.insert(request);
            past.hidden.insert(request);
        }
    }

    /// Does what has become possible, once all have said everything. Returns whether there was something.
    pub(super) fn go_on(&mut self, now: Instant) -> bool {
        // The owner was given all of a past one.
        if let (Some(tail), Some(at)) = (self.of_past, self.at)
            && tail <= at
        {
            self.past.iter_mut().filter(|p| p.tail == tail).for_each(|p| p.log.rest());
            self.subscribe(at);
            return true;
        }
        let given = |tail: Gsn| self.of_past.is_none() && self.at.is_none_or(|at| tail <= at);
        if let Some(sealed) = self.sealed.take_if(|s| given(s.tail)) {
            self.exchange(now, sealed);
            return true;
        }
        let done = |past: &Past| {
            let passed = self.cfg.consumer.is_some() && past.tail <= self.released;
            let used = self.of_past == Some(past.tail) || !past.asked.is_empty();
            passed && !used && past.log.has_reported()
        };
        let many = self.past.len() > PAST_MAX;
        let Some(i) = self.past.iter().position(|past| many || done(past)) else { return false };
        let past = self.past.remove(i);
        tracing::info!(tail = %past.tail, "nothing of the log that ended there is needed here any more");
        self.leave(now, past.log);
        self.out.push_back(Output::Event(LogEvent::Left(past.tail)));
        true
    }

    fn leave(&mut self, now: Instant, mut log: LogClient) {
        log.hang_up();
        while let Some(output) = log.poll_output(now) {
            if let Ok(output) = output.try_map(|_: LogEvent| Err::<LogEvent, ()>(())) {
                self.out.push_back(output);
            }
        }
    }

    /// The settings of the client of a cluster that follows.
    fn settings(&self, order: ClusterId, successor: Successor, tail: Gsn) -> ClientConfig {
        ClientConfig {
            cluster: order,
            generation: Some(successor.generation),
            orderers: successor.orderers,
            succeeds: Some(tail),
            ..self.cfg.clone()
        }
    }

    /// What was the newest log ends there.
    fn put_next(&mut self, next: LogClient, tail: Gsn) {
        let mut log = std::mem::replace(&mut self.log, next);
        log.rest();
        let asked = std::mem::take(&mut self.asked);
        self.past.push(Past { log, tail, asked, hidden: BTreeSet::new() });
    }

    /// An earlier life of the owner went on in the log that follows, and we do so at once. Nobody has asked for anything yet.
    pub(super) fn pass(&mut self, passed: Passed, now: Instant) {
        let Some(successor) = passed.successor() else { return };
        let (Passed { sealed, left }, order) = (passed, self.log.cluster().0);
        tracing::info!(
            tail = %sealed.tail, successor = sealed.successor, left,
            "the log has ended there, as is known from an earlier life: it goes on with the one that follows"
        );
        let seed = self.seeds.next_u64();
        let next = self.log.next_to(self.settings(order, successor, sealed.tail), seed, now);
        self.put_next(next, sealed.tail);
        self.moved = true;
        match left {
            // It was never asked anything.
            true => drop(self.past.pop()),
            false => self.out.push_back(Output::Event(LogEvent::Moved(sealed))),
        }
    }

    /// Appends go to the cluster that follows from now on.
    fn exchange(&mut self, now: Instant, sealed: Sealed) {
        let (order, ours) = self.log.cluster();
        let named = sealed.successor.parse::<Successor>();
        let Some(successor) = named.ok().filter(|s| Some(s.generation) > ours) else {
            tracing::error!(?sealed, ?ours, "the log goes on nowhere that could be found from here");
            self.stuck = true;
            for request in self.tails.drain(..) {
                self.out.push_back(Output::Event(LogEvent::Tail { request, gsn: sealed.tail }));
            }
            return self.out.push_back(Output::Event(LogEvent::Sealed(sealed)));
        };
        let next = self.log.follow(self.settings(order, successor, sealed.tail), self.seeds.next_u64(), now);
        self.put_next(next, sealed.tail);
        if let Some(at) = self.at {
            self.log.subscribe(at);
        }
        if let Some((addr, gsn)) = &self.offer {
            self.log.offer(addr, *gsn);
        }
        for request in self.tails.drain(..) {
            self.log.ask_tail(request);
        }
        (self.moved, self.opened) = (true, true);
        let resumed = std::mem::take(&mut self.stalled).into_iter().map(|what| LogEvent::Resumed { what });
        self.out.extend(resumed.map(Output::Event));
        // Of its disks nothing bad is known yet.
        let room = LogEvent::Room { room: DiskRoom::Ample };
        self.out.extend([room, LogEvent::Moved(sealed)].map(Output::Event));
    }
}
