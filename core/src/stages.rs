//! How long does each stage of a request take? Histograms that a machine keeps of its own stages, by the times
//! it is told: of turns, so that what happens within one turn takes no time here.

use hdrhistogram::Histogram;
use std::fmt::Write;
use std::time::Duration;

/// Longest time told apart.
const LONGEST: Duration = Duration::from_secs(60);
/// Digits that are right.
const DIGITS: u8 = 2;

/// Which quantiles a [`Summary`] has.
pub const QUANTILES: [f64; 4] = [0.5, 0.95, 0.99, 0.999];

/// What was measured of one stage since the start or the last reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The stage.
    pub name: &'static str,
    /// How often it was passed.
    pub count: u64,
    /// Microseconds of all together, about.
    pub sum_us: u64,
    /// Shortest, microseconds.
    pub min_us: u64,
    /// Longest, microseconds.
    pub max_us: u64,
    /// At [`QUANTILES`], microseconds.
    pub quantiles_us: [u64; 4],
}

/// Latencies of the stages of one machine. Some 15 KiB per stage.
#[derive(Clone, Debug)]
pub struct Stages {
    stages: Vec<(&'static str, Histogram<u32>)>,
}

impl Stages {
    /// Of these names; [`record`](Self::record) knows them by their place.
    ///
    /// # Panics
    /// Never: the bounds are constants that fit.
    pub fn new(names: &[&'static str]) -> Self {
        let longest = LONGEST.as_micros() as u64;
        let histogram = || Histogram::new_with_bounds(1, longest, DIGITS).expect("constant bounds");
        Self { stages: names.iter().map(|&name| (name, histogram())).collect() }
    }

    /// `n` times that stage took `took`.
    ///
    /// # Panics
    /// When there is no such stage.
    pub fn record(&mut self, stage: usize, took: Duration, n: u64) {
        if n == 0 {
            return; // the histogram would take it for a longest time
        }
        let us = took.min(LONGEST).as_micros() as u64;
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        self.stages[stage].1.record_n(us.max(1), n).expect("within the bounds");
    }

    /// Takes in what another has counted of the same stages.
    ///
    /// # Panics
    /// When they are others.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.stages.len(), other.stages.len(), "the same stages");
        for ((name, h), (other_name, more)) in self.stages.iter_mut().zip(&other.stages) {
            assert_eq!(name, other_name);
            h.add(more).expect("equal bounds");
        }
    }

    /// Counts anew from now on.
    pub fn reset(&mut self) {
        self.stages.iter_mut().for_each(|(_, h)| h.reset());
    }

    /// What was measured of each, in order.
    pub fn summaries(&self) -> impl Iterator<Item = Summary> {
        self.stages.iter().map(|(name, h)| {
            let count = h.len();
            Summary {
                name,
                count,
                sum_us: (h.mean() * count as f64) as u64,
                min_us: h.min(),
                max_us: h.max(),
                quantiles_us: QUANTILES.map(|q| h.value_at_quantile(q)),
            }
        })
    }

    /// A JSON array: `{"name", "count", "p50_us", "p99_us", "p999_us", "max_us"}` per stage, since the
    /// start or the last [`reset`](Self::reset).
    pub fn json(&self) -> String {
        let mut out = String::from("[");
        for (i, (name, h)) in self.stages.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let at = |q| h.value_at_quantile(q);
            let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), h.max());
            let _ = write!(
                out,
                "{comma}{{\"name\":\"{name}\",\"count\":{},\"p50_us\":{p50},\"p99_us\":{p99},\"p999_us\":{p999},\"max_us\":{max}}}",
                h.len()
            );
        }
        out.push(']');
        out
    }
}

/// Times of things that end in the order in which they began, such as what lies on a lane.
#[derive(Clone, Debug)]
pub struct Pending<K> {
    waiting: std::collections::VecDeque<(K, crate::time::Instant, u64)>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { waiting: std::collections::VecDeque::new() }
    }
}

/// Begun and not ended at a time, at most; more are not measured.
const PENDING_MAX: usize = 4096;

impl<K: PartialOrd> Pending<K> {
    /// `n` of them began, and end when `key` is reached.
    pub fn begin(&mut self, key: K, now: crate::time::Instant, n: u64) {
        if self.waiting.len() < PENDING_MAX {
            self.waiting.push_back((key, now, n));
        }
    }

    /// `key` is reached: those up to it took so long.
    pub fn end(&mut self, key: K, now: crate::time::Instant, stages: &mut Stages, stage: usize) {
        while let Some((_, since, n)) = self.waiting.front().filter(|(k, ..)| *k <= key) {
            stages.record(stage, now.since(*since), *n);
            self.waiting.pop_front();
        }
    }

    /// None of them ends any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn what_ends_is_counted_in_its_stage_and_shown() {
        let mut stages = Stages::new(&["wal", "cut"]);
        let mut pending = Pending::default();
        pending.begin(3u64, Instant(1_000_000), 2);
        pending.begin(7, Instant(2_000_000), 1);
        pending.end(6, Instant(1_500_000), &mut stages, 1);
        pending.end(6, Instant(9_500_000), &mut stages, 1);
        pending.end(7, Instant(2_000_000), &mut stages, 1);
        stages.record(0, Duration::from_secs(3600), 1);
        let shown = stages.json();
        assert!(shown.contains("{\"name\":\"cut\",\"count\":3,\"p50_us\":50"), "{shown}");
        assert!(shown.starts_with("[{\"name\":\"wal\",\"count\":1,"), "{shown}");
        let all: Vec<Summary> = stages.summaries().collect();
        assert_eq!((all[1].name, all[1].count, all[1].max_us / 10), ("cut", 3, 50));
        assert!((990..1010).contains(&all[1].sum_us), "{all:?}");
        pending.clear();
        pending.end(u64::MAX, Instant(u64::MAX), &mut stages, 1);
        assert_eq!(stages.json(), shown);
        let mut twice = stages.clone();
        twice.add(&stages);
        assert!(twice.json().contains("{\"name\":\"cut\",\"count\":6,\"p50_us\":50"), "{}", twice.json());
        stages.reset();
        stages.record(1, Duration::from_micros(7), 1);
        stages.record(1, Duration::from_micros(900), 0);
        let shown = stages.json();
        assert!(shown.contains("\"wal\",\"count\":0,") && shown.ends_with("\"max_us\":7}]"), "{shown}");
    }
}
