//! What happened when? One entry per second of the measured window, exact enough for percentiles and small
//! enough to keep for all of them: the buckets that were hit.

use hdrhistogram::Histogram;

/// One second.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// Operations answered in it.
    pub answered: u64,
    /// Of those that failed.
    pub errors: u64,
    /// (latency in nanoseconds, how often), of the operations answered in it.
    latencies: Vec<(u64, u64)>,
}

/// What is told of one second.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// Seconds since measuring began, at its start.
    pub second: u64,
    /// Operations answered in it.
    pub answered: u64,
    /// Operations that failed in it.
    pub errors: u64,
    /// Response times of those that were answered, in microseconds; 0 if there were none.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
    /// The greatest.
    pub max_us: f64,
}

/// All seconds of a window.
#[derive(Clone, Debug)]
pub struct Timeline {
    seconds: Vec<Second>,
    /// The second whose latencies are still in `scratch`.
    open: usize,
    scratch: Histogram<u64>,
}

impl Timeline {
    /// Of `seconds` seconds, with a histogram to count in.
    pub fn new(seconds: usize, scratch: Histogram<u64>) -> Self {
        Self { seconds: vec![Second::default(); seconds], open: 0, scratch }
    }

    /// `n` operations were answered in `second`, after `latency_ns`.
    pub fn answered(&mut self, second: usize, latency_ns: u64, n: u64) {
        if second != self.open {
            self.close();
            self.open = second;
        }
        self.seconds[second].answered += n;
        self.scratch.saturating_record_n(latency_ns, n);
    }

    /// An operation failed in `second`.
    pub fn failed(&mut self, second: usize) {
        self.seconds[second].errors += 1;
    }

    /// Moves the open second's latencies to where they are kept.
    fn close(&mut self) {
        if !self.scratch.is_empty() {
            let hit = self.scratch.iter_recorded().map(|i| (i.value_iterated_to(), i.count_at_value()));
            self.seconds[self.open].latencies.extend(hit);
            self.scratch.reset();
        }
    }

    /// Forgets what lies behind the first `seconds` seconds.
    pub fn cut(&mut self, seconds: usize) {
        self.close();
        self.seconds.truncate(seconds);
        self.open = 0;
    }

    /// Adds what another saw in the same seconds.
    pub fn merge(&mut self, other: &Self) {
        self.close();
        let length = self.seconds.len().max(other.seconds.len());
        self.seconds.resize(length, Second::default());
        for (mine, more) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.answered += more.answered;
            mine.errors += more.errors;
            mine.latencies.extend_from_slice(&more.latencies);
        }
        if !other.scratch.is_empty() {
            let hit = other.scratch.iter_recorded().map(|i| (i.value_iterated_to(), i.count_at_value()));
            self.seconds[other.open].latencies.extend(hit);
        }
    }

    /// The latencies of each second.
    pub fn histograms(&self) -> impl Iterator<Item = Histogram<u64>> + '_ {
        self.seconds.iter().enumerate().map(|(i, second)| {
            let mut h = Histogram::new_from(&self.scratch);
            if i == self.open {
                h.add(&self.scratch).expect("equal bounds");
            }
            for &(ns, n) in &second.latencies {
                h.saturating_record_n(ns, n);
            }
            h
        })
    }

    /// Each second in figures.
    pub fn rows(&self) -> Vec<Row> {
        let us = |ns: u64| ns as f64 / 1e3;
        let told = |(i, (second, h)): (usize, (&Second, Histogram<u64>))| Row {
            second: i as u64,
            answered: second.answered,
            errors: second.errors,
            p50_us: us(h.value_at_quantile(0.5)),
            p99_us: us(h.value_at_quantile(0.99)),
            max_us: us(h.max()),
        };
        self.seconds.iter().zip(self.histograms()).enumerate().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(seconds: usize) -> Timeline {
        Timeline::new(seconds, Histogram::new_with_bounds(1, 1 << 40, 3).unwrap())
    }

    #[test]
    fn each_second_has_its_own_percentiles() {
        let mut t = timeline(3);
        (1..=100).for_each(|i| t.answered(0, i * 1_000_000, 1));
        t.answered(2, 7_000, 5);
        t.failed(2);
        let rows = t.rows();
        assert_eq!(
            rows.iter().map(|r| (r.answered, r.errors)).collect::<Vec<_>>(),
            [(100, 0), (0, 0), (5, 1)]
        );
        assert!((49_000.0..51_500.0).contains(&rows[0].p50_us), "{rows:?}");
        assert!((98_000.0..101_000.0).contains(&rows[0].p99_us) && rows[1].max_us == 0.0, "{rows:?}");
        assert!((6.9..7.1).contains(&rows[2].p99_us), "{rows:?}");
    }

    #[test]
    fn merged_is_as_if_one_had_seen_all_whichever_seconds_are_open() {
        let (mut a, mut b, mut all) = (timeline(2), timeline(2), timeline(2));
        for (second, ns) in [(0, 10_000), (0, 20_000), (1, 30_000)] {
            a.answered(second, ns, 2);
            all.answered(second, ns, 2);
        }
        for (second, ns) in [(0, 90_000), (0, 80_000)] {
            b.answered(second, ns, 3);
            all.answered(second, ns, 3);
        }
        a.merge(&b);
        assert_eq!(a.rows(), all.rows());
    }

    #[test]
    fn what_was_cut_off_is_gone() {
        let mut t = timeline(5);
        (0..5).for_each(|s| t.answered(s, 1_000, 1));
        t.cut(2);
        assert_eq!(t.rows().len(), 2);
        assert_eq!(t.histograms().map(|h| h.len()).collect::<Vec<_>>(), [1, 1]);
    }
}
