//! What do the two logs say? What of it the owner hears, and what follows from it: the second log is made, and takes over.

use super::{ChainLog, METHOD_REQUEST, Next, renamed};
use crate::{LogEvent, RequestId, Sealed, SharedLog};
use zoolog_core::wire::{DiskRoom, ReadEnd};
use zoolog_core::{Gsn, Instant, Output};

impl<A: SharedLog, B: SharedLog> ChainLog<A, B> {
    /// What the owner hears of what the first log says.
    pub(super) fn first_says(&mut self, now: Instant, event: LogEvent) -> Option<LogEvent> {
        let moved = self.taking().is_some();
        match event {
            LogEvent::Committed(committed) => {
                if !self.of_first {
                    return None;
                }
                self.at = Some(committed.end());
                Some(LogEvent::Committed(committed))
            }
            // Those of commands are numbered by it alone.
            LogEvent::Appended { seq, .. } => {
                self.has_numbered(seq);
                Some(event)
            }
            LogEvent::Gap { .. } if !self.of_first => None,
            LogEvent::Gap { from, until } => {
                (self.at, self.of_first) = (None, false);
                Some(LogEvent::Gap { from, until })
            }
            LogEvent::Sealed(sealed) => {
                // Known since the start, if it was so then.
                if self.next.as_ref().is_none_or(|n| n.sealed != sealed) {
                    self.follow(now, sealed);
                }
                None
            }
            LogEvent::SealDone { request, result } => {
                #[cfg(feature = "rt")]
                if self.control.as_mut().is_some_and(|c| c.answer(request, &result)) {
                    return None;
                }
                Some(LogEvent::SealDone { request, result })
            }
            // It goes on in the second log.
            LogEvent::ReadDone { request, batches, covers, end: ReadEnd::NotYet }
                if self.next.as_ref().is_some_and(|n| n.sealed.tail == covers) =>
            {
                Some(LogEvent::ReadDone { request, batches, covers, end: ReadEnd::More })
            }
            LogEvent::TrimDone { request, .. } if self.hidden.remove(&request) => None,
            LogEvent::Room { .. } | LogEvent::Progress { .. } if moved => None,
            other => Some(other),
        }
    }

    /// The first log has ended: there is a second one from now on.
    pub(super) fn follow(&mut self, now: Instant, sealed: Sealed) {
        assert!(self.next.is_none(), "LOG-11: a log ends once");
        let mut log = (self.follow)(now, &sealed, self.next_seq);
        assert_eq!(
            log.base_gsn(),
            sealed.tail,
            "LOG-11: the log that follows begins where the first one ends"
        );
        if let Some(released) = self.released {
            log.release(released);
        }
        self.next = Some(Next { log, sealed, takes: false });
        // A subscription that begins behind the end was never the first log's.
        if let Some(at) = self.at {
            self.subscribe_where_it_is(at);
        }
    }

    fn subscribe_where_it_is(&mut self, at: Gsn) {
        let Some(next) = self.next.as_mut().filter(|n| n.sealed.tail <= at) else { return };
        next.log.subscribe(at);
        self.of_first = false;
    }

    /// Once the owner has been given all of the first log, he gets the second. Returns whether that is so since now.
    pub(super) fn hand_over(&mut self) -> bool {
        if self.next.is_none() {
            return false;
        }
        let mut any = false;
        if let Some(at) = self.at.filter(|_| self.of_first) {
            self.subscribe_where_it_is(at);
            any = !self.of_first;
        }
        let drained = !self.of_first && self.first.pending_batches() == 0;
        if let Some(next) = self.next.as_mut().filter(|n| drained && !n.takes) {
            next.takes = true;
            (self.opened, any) = (true, true);
            let moved = LogEvent::Moved(next.sealed.clone());
            // Of its disks nothing bad is known yet.
            let room = LogEvent::Room { room: DiskRoom::Ample };
            self.out.extend([room, moved].map(Output::Event));
        }
        any
    }

    /// What the owner hears of what the second log says.
    pub(super) fn second_says(&mut self, event: LogEvent) -> Option<LogEvent> {
        match event {
            // It was ready before, as far as he knows.
            LogEvent::Ready { .. } => None,
            // He reads the first log again, and will come to it.
            LogEvent::Committed(_) | LogEvent::Gap { .. } if self.of_first => None,
            LogEvent::Committed(committed) => {
                self.at = Some(committed.end());
                Some(LogEvent::Committed(committed))
            }
            LogEvent::ReadDone { request, batches, covers, end } => {
                Some(LogEvent::ReadDone { request: renamed(request), batches, covers, end })
            }
            LogEvent::Tail { request, gsn } => Some(LogEvent::Tail { request: renamed(request), gsn }),
            LogEvent::TrimDone { request, result } => {
                if let (Ok(_), Some(tail)) = (&result, self.next.as_ref().map(|n| n.sealed.tail)) {
                    self.forget_first(tail);
                }
                Some(LogEvent::TrimDone { request: renamed(request), result })
            }
            LogEvent::Offers { request, trim, offers } => {
                Some(LogEvent::Offers { request: renamed(request), trim, offers })
            }
            LogEvent::SealDone { request, result } => {
                Some(LogEvent::SealDone { request: renamed(request), result })
            }
            other => Some(other),
        }
    }

    /// All of the first log is to go.
    fn forget_first(&mut self, tail: Gsn) {
        self.first.release(tail);
        let request: RequestId = self.first.trim(tail);
        assert!(request.0 & METHOD_REQUEST != 0, "methods give out numbers of their own");
        self.hidden.insert(request);
        self.touched = true;
    }

    #[cfg(feature = "rt")]
    pub(super) fn hear_control(&mut self) {
        let Some(control) = &mut self.control else { return };
        while let Some(successor) = control.next() {
            self.touched = true;
            let asked = self.first.seal(&successor);
            control.asked(asked);
        }
    }

    #[cfg(feature = "rt")]
    pub(super) fn is_called(&self) -> bool {
        self.control.as_ref().is_some_and(super::Control::is_called)
    }

    #[cfg(not(feature = "rt"))]
    pub(super) fn hear_control(&mut self) {}

    #[cfg(not(feature = "rt"))]
    pub(super) fn is_called(&self) -> bool {
        false
    }
}
