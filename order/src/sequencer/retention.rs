//! How long is what kept, beyond what consumers need? The replicated part: where automatic trimming must stop, a clock
//! that counts the time in which somebody led, where the log was at its times, and for how long consumers are away.
//!
//! No wall clock is asked: machines disagree about it, and one that jumps would trim everything. The clock here moves
//! by what leaders measured of their own terms, so it is never ahead of the time that has really passed; what
//! passes between two leaders is not counted, and the log is kept that much longer.

use super::{Applied, ConsumerAt, State};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::Gsn;
use zoolog_core::limits::CONSUMERS_MAX;

/// Times whose tails are remembered. Beyond, every other one is forgotten: then more is kept, never less.
const MARKS_MAX: usize = 256;
/// The clock ends here: longer than any cluster lives.
const CLOCK_MS_MAX: u64 = 1 << 48;

/// Some time has passed, as the leader has measured it, and what follows from its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Tick {
    /// Milliseconds since its last tick, or since it leads.
    pub elapsed_ms: u64,
    /// Consumers that have no connection to it.
    pub absent: Vec<String>,
    /// What lies at or past this is kept whatever consumers say; `None`: they alone decide.
    pub keep_from: Option<Gsn>,
    /// Consumers that hold the log back for too long, or by too much: they are dropped if they are still there.
    pub dropped: Vec<ConsumerAt>,
}

/// What all orderers know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Automatic trimming stops here; `None`: consumers alone decide.
    pub keep_from: Option<Gsn>,
    /// Milliseconds in which somebody led.
    pub clock_ms: u64,
    /// (time of that clock, tail at that time), both ascending.
    pub marks: Vec<(u64, Gsn)>,
    /// Milliseconds since a consumer was last there; those that are there aren't in it.
    pub absent_ms: BTreeMap<String, u64>,
}

/// As it travels in an image of the state.
#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct RetentionImage {
    keep_from: Option<Gsn>,
    clock_ms: u64,
    marks: Vec<(u64, Gsn)>,
    absent_ms: Vec<(String, u64)>,
}

impl Retention {
    /// First GSN that was not there yet `age_ms` ago, when the clock shows `now_ms`: what lies before it is older.
    pub fn older_than(&self, age_ms: u64, now_ms: u64) -> Gsn {
        let Some(then) = now_ms.checked_sub(age_ms) else { return Gsn(0) };
        let old = self.marks.partition_point(|(at, _)| *at <= then);
        old.checked_sub(1).map_or(Gsn(0), |i| self.marks[i].1)
    }

    fn note(&mut self, tail: Gsn, trim: Gsn) {
        if tail > self.marks.last().map_or(Gsn(0), |m| m.1) {
            match self.marks.last_mut() {
                Some(last) if last.0 == self.clock_ms => {} // not older than that: it has to wait for a later time
                _ => self.marks.push((self.clock_ms, tail)),
            }
        }
        let gone = self.marks.partition_point(|m| m.1 <= trim).saturating_sub(1);
        self.marks.drain(..gone);
        if self.marks.len() > MARKS_MAX {
            let last = self.marks.len() - 1;
            let mut i = 0;
            self.marks.retain(|_| {
                i += 1;
                i - 1 == last || (i - 1) % 2 == 0
            });
        }
    }

    pub(super) fn image(&self) -> RetentionImage {
        RetentionImage {
            keep_from: self.keep_from,
            clock_ms: self.clock_ms,
            marks: self.marks.clone(),
            absent_ms: self.absent_ms.iter().map(|(name, ms)| (name.clone(), *ms)).collect(),
        }
    }

    /// ORD-8, of a state that may come from elsewhere.
    pub(super) fn check(&self, tail: Gsn, consumers: &BTreeMap<String, Gsn>) -> Result<(), String> {
        let ascend = self.marks.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1);
        let last = self.marks.last().copied().unwrap_or_default();
        if !ascend || last.0 > self.clock_ms || last.1 > tail || self.clock_ms > CLOCK_MS_MAX {
            return Err(format!(
                "ORD-8: clock {}, tail {tail}, the last of {} marks {last:?}",
                self.clock_ms,
                self.marks.len()
            ));
        }
        if self.marks.len() > MARKS_MAX || self.absent_ms.len() > CONSUMERS_MAX {
            return Err(format!("ORD-8: {} marks, {} absent", self.marks.len(), self.absent_ms.len()));
        }
        match self.absent_ms.iter().find(|(name, ms)| **ms > CLOCK_MS_MAX || !consumers.contains_key(*name)) {
            Some((name, ms)) => Err(format!("ORD-8: {name:?}, away for {ms} ms, is no consumer")),
            None => Ok(()),
        }
    }
}

impl RetentionImage {
    pub(super) fn restore(self) -> Retention {
        let Self { keep_from, clock_ms, marks, absent_ms } = self;
        Retention { keep_from, clock_ms, marks, absent_ms: absent_ms.into_iter().collect() }
    }
}

impl State {
    /// Time has passed.
    pub(super) fn tick(&mut self, tick: Tick) -> Applied {
        let Tick { elapsed_ms, absent, keep_from, dropped } = tick;
        let r = &mut self.retention;
        let elapsed_ms = elapsed_ms.min(CLOCK_MS_MAX - r.clock_ms);
        r.clock_ms += elapsed_ms;
        for ConsumerAt { name, upto } in dropped {
            // One that has moved since is there after all.
            if self.consumers.get(&name) == Some(&upto) {
                self.consumers.remove(&name);
            }
        }
        let absent: BTreeSet<String> =
            absent.into_iter().filter(|name| self.consumers.contains_key(name)).collect();
        r.absent_ms.retain(|name, _| absent.contains(name));
        for name in absent {
            let ms = r.absent_ms.entry(name).or_default();
            *ms = (*ms + elapsed_ms).min(CLOCK_MS_MAX);
        }
        r.note(self.tail, self.trim);
        r.keep_from = keep_from.map(|keep| keep.min(self.tail));
        self.advance_trim()
    }

    /// What is kept, and since when.
    pub(crate) fn retention(&self) -> &Retention {
        &self.retention
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::trim::tests::{grow, grown, report};
    use super::*;
    use proptest::prelude::*;

    fn tick(s: &mut State, tick: Tick) -> Applied {
        s.apply(&Command::Tick(Box::new(tick)).encode())
    }

    fn passes(s: &mut State, elapsed_ms: u64) {
        let keep_from = s.retention.keep_from;
        tick(s, Tick { elapsed_ms, keep_from, ..Tick::default() });
    }

    fn keep(s: &mut State, from: Option<u64>) -> Applied {
        tick(s, Tick { keep_from: from.map(Gsn), ..Tick::default() })
    }

    #[test]
    fn retention_keeps_more_than_consumers_need_and_decides_alone_without_any() {
        let mut s = grown(100);
        keep(&mut s, Some(30));
        assert_eq!(s.trim(), Gsn(30), "nobody else wants it");
        report(&mut s, "a", 50);
        assert_eq!(s.trim(), Gsn(30));
        assert_eq!(keep(&mut s, Some(40)), Applied::Trimmed(Gsn(40)));
        assert_eq!(keep(&mut s, Some(80)), Applied::Trimmed(Gsn(50)), "the consumer holds it back");
        keep(&mut s, Some(10));
        report(&mut s, "a", 90);
        assert_eq!(s.trim(), Gsn(50), "it may go back, the trim point does not");
        assert_eq!(keep(&mut s, None), Applied::Trimmed(Gsn(90)), "consumers alone");
    }

    #[test]
    fn what_is_older_is_found_by_the_time_that_leaders_counted() {
        let mut s = grown(0);
        for i in 1..=10u64 {
            grow(&mut s, 10 * i);
            passes(&mut s, 1000);
        }
        let r = s.retention();
        assert_eq!(r.clock_ms, 10_000);
        assert_eq!(r.older_than(4_000, 10_000), Gsn(60), "there when the clock showed 6 s");
        assert_eq!(r.older_than(4_000, 10_999), Gsn(60));
        assert_eq!(r.older_than(10_000, 10_000), Gsn(0));
        assert_eq!(r.older_than(0, 10_000), Gsn(100));
    }

    #[test]
    fn a_consumer_is_away_until_it_is_back_and_dropped_only_where_it_was() {
        let mut s = grown(100);
        report(&mut s, "a", 10);
        let away = |ms| Tick { elapsed_ms: ms, absent: vec!["a".into(), "nobody".into()], ..Tick::default() };
        tick(&mut s, away(100));
        tick(&mut s, away(50));
        assert_eq!(s.retention().absent_ms, BTreeMap::from([("a".to_string(), 150)]));
        tick(&mut s, Tick { elapsed_ms: 9, ..Tick::default() });
        assert_eq!(s.retention().absent_ms, BTreeMap::new());
        tick(&mut s, away(100));
        report(&mut s, "a", 20);
        assert_eq!(s.retention().absent_ms, BTreeMap::new(), "it has spoken");
        let drop = |upto| Tick {
            dropped: vec![ConsumerAt { name: "a".into(), upto: Gsn(upto) }],
            keep_from: Some(Gsn(70)),
            ..away(5)
        };
        tick(&mut s, drop(10));
        assert_eq!((s.consumer("a"), s.trim()), (Some(Gsn(20)), Gsn(20)), "it is not there any more");
        assert_eq!(tick(&mut s, drop(20)), Applied::Trimmed(Gsn(70)));
        assert_eq!((s.consumer("a"), s.retention().absent_ms.len()), (None, 0));
    }

    proptest! {
        /// Whatever leaders measure: a record is never older by the marks than it is, marks are bounded, and an image
        /// comes back equal.
        #[test]
        fn nothing_is_taken_for_older_than_it_is(steps in prop::collection::vec((0u64..5, 0u64..50), 0..900), age in 0u64..3000) {
            let mut s = grown(0);
            let (mut clock, mut tail, mut born) = (0, 0, Vec::new());
            for (more, elapsed) in steps {
                // At the latest just before the tick.
                clock += elapsed;
                born.extend((0..more).map(|_| clock));
                tail += more;
                grow(&mut s, tail);
                passes(&mut s, elapsed);
                let point = s.retention().older_than(age, clock);
                prop_assert!(point.0 <= tail);
                prop_assert!(born[..point.0 as usize].iter().all(|at| clock - at >= age));
            }
            prop_assert!(s.retention.marks.len() <= MARKS_MAX);
            prop_assert_eq!(&State::decode(s.cluster, &s.encode()).unwrap(), &s);
        }
    }
}
