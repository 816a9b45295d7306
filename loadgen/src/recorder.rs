//! What is counted, and over which stretch of time? Throughput from the answers within the measured window;
//! latencies of those and of the operations that were meant to start within it but were answered later.

use crate::pauses::Pauses;
use crate::timeline::Timeline;
use hdrhistogram::Histogram;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const MS_NS: u64 = 1_000_000;

/// One kind of operation.
#[derive(Debug)]
pub struct Kind {
    /// Its name in reports.
    pub name: &'static str,
    /// Nanoseconds from the intended start to the answer.
    pub response: Histogram<u64>,
    /// Nanoseconds from the actual start to the answer; the same as `response` in a closed loop.
    pub service: Histogram<u64>,
    /// Answers within the window.
    pub answered: u64,
}

/// The measured part of a run.
#[derive(Debug)]
pub struct Recorder {
    kinds: Vec<Kind>,
    open_loop: bool,
    start_ns: u64,
    end_ns: u64,
    timeline: Timeline,
    pauses: Pauses,
    /// Nanoseconds by which the generator began operations late though nothing but itself was in the way.
    lateness: Histogram<u64>,
    answered_ever: u64,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("bounds are fixed")
}

impl Recorder {
    /// For operations of the kinds `names`. Nothing is measured until [`open`](Self::open).
    pub fn new(names: &[&'static str], open_loop: bool) -> Self {
        let kinds = names
            .iter()
            .map(|&name| Kind { name, response: histogram(), service: histogram(), answered: 0 })
            .collect();
        let (start_ns, end_ns) = (u64::MAX, u64::MAX);
        let (timeline, lateness) = (Timeline::new(0, histogram()), histogram());
        let pauses = Pauses::default();
        Self { kinds, open_loop, start_ns, end_ns, timeline, pauses, lateness, answered_ever: 0 }
    }

    /// Measures `start_ns..end_ns`.
    pub fn open(&mut self, start_ns: u64, end_ns: u64) {
        assert!(start_ns < end_ns, "window {start_ns}..{end_ns}");
        (self.start_ns, self.end_ns) = (start_ns, end_ns);
        let seconds = (end_ns - start_ns).div_ceil(SECOND_NS);
        self.timeline = Timeline::new(seconds as usize, histogram());
        self.pauses = Pauses::new((end_ns - start_ns).div_ceil(MS_NS) as usize);
    }

    /// Ends the window now if it is still open: the run was cut short. Before it, nothing was measured.
    pub fn cut(&mut self, now_ns: u64) {
        if self.start_ns < now_ns && now_ns < self.end_ns {
            self.end_ns = now_ns;
            let seconds = (self.end_ns - self.start_ns).div_ceil(SECOND_NS);
            self.timeline.cut(seconds as usize);
            self.pauses.cut((self.end_ns - self.start_ns).div_ceil(MS_NS) as usize);
        } else if now_ns <= self.start_ns {
            (self.start_ns, self.end_ns) = (u64::MAX, u64::MAX);
            self.timeline.cut(0);
            self.pauses.cut(0);
        }
    }

    /// `n` operations that began together were answered.
    pub fn answered(&mut self, kind: usize, intended_ns: u64, sent_ns: u64, now_ns: u64, n: u64) {
        self.answered_ever += n;
        let is_within = self.is_within(now_ns);
        let response_ns = now_ns.saturating_sub(intended_ns);
        if is_within {
            self.kinds[kind].answered += n;
            self.timeline.answered(self.second(now_ns), response_ns, n);
            self.pauses.answered(((now_ns - self.start_ns) / MS_NS) as usize);
        }
        if is_within || self.is_within(intended_ns) {
            let kind = &mut self.kinds[kind];
            kind.response.saturating_record_n(response_ns, n);
            if self.open_loop {
                kind.service.saturating_record_n(now_ns.saturating_sub(sent_ns), n);
            }
        }
    }

    /// An operation was answered with an error.
    pub fn failed(&mut self, now_ns: u64) {
        if self.is_within(now_ns) {
            self.timeline.failed(self.second(now_ns));
        }
    }

    /// An operation was begun `late_ns` after the generator could have.
    pub fn begun(&mut self, intended_ns: u64, late_ns: u64) {
        if self.open_loop && self.is_within(intended_ns) {
            self.lateness.saturating_record(late_ns);
        }
    }

    fn is_within(&self, ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&ns)
    }

    fn second(&self, ns: u64) -> usize {
        ((ns - self.start_ns) / SECOND_NS) as usize
    }

    /// Adds what another measured over the same window.
    pub fn merge(&mut self, other: &Self) {
        for (kind, more) in self.kinds.iter_mut().zip(&other.kinds) {
            assert_eq!(kind.name, more.name, "recorders of different runs");
            kind.response.add(&more.response).expect("equal bounds");
            kind.service.add(&more.service).expect("equal bounds");
            kind.answered += more.answered;
        }
        self.timeline.merge(&other.timeline);
        self.pauses.merge(&other.pauses);
        self.lateness.add(&other.lateness).expect("equal bounds");
        self.answered_ever += other.answered_ever;
    }

    /// Answers so far, in the window or not.
    pub fn answered_ever(&self) -> u64 {
        self.answered_ever
    }

    /// Answers of all kinds within the window.
    pub fn answered_within(&self) -> u64 {
        self.kinds.iter().map(|k| k.answered).sum()
    }

    /// What was measured of each kind.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Whether operations had an intended start other than the actual one.
    pub fn is_open_loop(&self) -> bool {
        self.open_loop
    }

    /// Seconds measured, 0 if it never came to that.
    pub fn seconds(&self) -> f64 {
        if self.end_ns == u64::MAX { 0.0 } else { (self.end_ns - self.start_ns) as f64 / 1e9 }
    }

    /// Answers within the window, per second.
    pub fn per_second(&self) -> f64 {
        if self.seconds() > 0.0 { self.answered_within() as f64 / self.seconds() } else { 0.0 }
    }

    /// What happened in each second of the window.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// When nothing was answered within the window.
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// By how many nanoseconds the generator itself was late.
    pub fn lateness(&self) -> &Histogram<u64> {
        &self.lateness
    }

    /// All kinds' service times together; nothing in a closed loop.
    pub fn merged_service(&self) -> Histogram<u64> {
        let mut all = histogram();
        for kind in &self.kinds {
            all.add(&kind.service).expect("equal bounds");
        }
        all
    }

    /// All kinds' response times together.
    pub fn merged(&self) -> Histogram<u64> {
        let mut all = histogram();
        for kind in &self.kinds {
            all.add(&kind.response).expect("equal bounds");
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_count_as_latency_but_not_as_throughput() {
        let mut r = Recorder::new(&["set"], true);
        r.answered(0, 5, 5, 10, 1); // before any window
        r.open(1_000, 2_000);
        r.answered(0, 900, 950, 1_100, 1); // meant before, answered within
        r.answered(0, 1_100, 1_200, 1_300, 1); // within
        r.answered(0, 1_900, 2_500, 9_000, 1); // meant within, answered late: a latency, no throughput
        r.answered(0, 2_000, 2_000, 2_100, 1); // after
        let kind = &r.kinds()[0];
        assert_eq!((kind.answered, kind.response.len(), r.answered_ever()), (2, 3, 5));
        assert!(kind.response.max() >= 7_000, "latency counts from the intended start");
        assert!(kind.service.max() < 7_000, "service time from the actual one");
        assert_eq!(r.timeline().rows().iter().map(|row| row.answered).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_cut_run_is_measured_over_what_there_was() {
        let mut r = Recorder::new(&["get"], false);
        r.open(0, 10_000_000_000);
        r.answered(0, 1, 1, 2_000_000_000, 1);
        r.cut(2_500_000_000);
        assert_eq!((r.seconds(), r.timeline().rows().len(), r.per_second()), (2.5, 3, 0.4));
        r.cut(3_000_000_000); // no longer open: nothing to cut
        assert_eq!(r.seconds(), 2.5);
        let mut early = Recorder::new(&["get"], false);
        early.open(1_000, 2_000);
        early.cut(500);
        early.answered(0, 1_500, 1_500, 1_600, 1);
        assert_eq!((early.seconds(), early.answered_within()), (0.0, 0), "cut before it began");
    }
}
