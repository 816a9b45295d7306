//! Was it good enough? Objectives on the response time held against what was measured.

use crate::args::Slo;
use crate::clock::nanos;
use crate::recorder::Recorder;
use hdrhistogram::Histogram;
use serde::Serialize;

/// One objective and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// As it was asked for.
    pub objective: String,
    /// What was measured, microseconds.
    pub found_us: f64,
    /// Whether it is within the bound. Never, if nothing was answered.
    pub met: bool,
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (objective, found_us) = (&self.objective, self.found_us);
        write!(f, "{objective}: {} ({found_us:.0} us)", if self.met { "met" } else { "NOT met" })
    }
}

/// Holds `slos` against the response times of all kinds of operations together.
pub fn judge(slos: &[Slo], recorder: &Recorder) -> Vec<Judged> {
    judge_times(slos, &recorder.merged())
}

/// Whether the servers met all of `slos`, if only the time counts that they had a request for.
pub fn servers_met(slos: &[Slo], recorder: &Recorder) -> bool {
    judge_times(slos, &recorder.merged_service()).iter().all(|j| j.met)
}

fn judge_times(slos: &[Slo], all: &Histogram<u64>) -> Vec<Judged> {
    let one = |slo: &Slo| {
        let found_ns = if slo.quantile.0 >= 1.0 { all.max() } else { all.value_at_quantile(slo.quantile.0) };
        Judged {
            objective: slo.text.clone(),
            found_us: found_ns as f64 / 1e3,
            met: !all.is_empty() && found_ns <= nanos(slo.bound),
        }
    };
    slos.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_objective_is_judged_on_its_own() {
        let mut r = Recorder::new(&["set"], true);
        r.open(0, 1_000_000_000);
        let slos: Vec<Slo> = ["p50=2ms", "p99=2ms", "max=20ms"].iter().map(|t| t.parse().unwrap()).collect();
        assert!(judge(&slos, &r).iter().all(|j| !j.met), "nothing answered is not good");
        (0..90).for_each(|_| r.answered(0, 0, 0, 1_000_000, 1));
        (0..10).for_each(|_| r.answered(0, 0, 0, 10_000_000, 1));
        assert_eq!(judge(&slos, &r).iter().map(|j| j.met).collect::<Vec<_>>(), [true, false, true]);
    }
}
