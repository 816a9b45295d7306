//! What is said at the end? A table on stdout, and everything as JSON.

use crate::checks::Checks;
use crate::environment::{Environment, cpu_seconds};
use crate::objectives::Judged;
use crate::recorder::Recorder;
use crate::stages::Node;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A pause that somebody could see.
const PAUSE_MS: u64 = 50;
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9), ("p99_99", 99.99)];

/// How a run ended, but for its checks and objectives.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Why it ended before its time, if the servers made it.
    pub trouble: Option<String>,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Why what was measured is the generator and not the servers, if so.
    pub lagged: Option<String>,
}

impl Ending {
    /// Whether it ended before its time.
    pub fn is_partial(&self) -> bool {
        self.trouble.is_some() || self.interrupted
    }
}

/// Everything a run found out.
#[derive(Debug)]
pub struct Report<'a> {
    /// Latencies and throughput.
    pub recorder: &'a Recorder,
    /// What was checked.
    pub checks: &'a Checks,
    /// Settings of the run, as JSON.
    pub settings: Value,
    /// Counts beyond the recorder's: reconnects, unknown outcomes, ...
    pub counts: Value,
    /// When the run began, wall-clock milliseconds since 1970.
    pub started_ms: u64,
    /// What the reader must know to judge the numbers.
    pub warnings: &'a [String],
    /// How it ended.
    pub ending: Ending,
    /// Objectives and what came of them.
    pub objectives: Vec<Judged>,
    /// What the nodes say of their stages, if they were asked.
    pub stages: Vec<Node>,
}

impl Report<'_> {
    /// The table for people. At a fixed rate each kind has two rows: from the intended start (what users feel)
    /// and from the actual one (what servers take).
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        let header =
            ["op", "per second", "count", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "errors"];
        table.set_header(header);
        let row = |h: &Histogram<u64>| {
            let us = |q: f64| micros(h.value_at_quantile(q));
            [us(0.5), us(0.9), us(0.99), us(0.999), micros(h.max())]
        };
        for kind in self.recorder.kinds() {
            let [p50, p90, p99, p999, max] = row(&kind.response);
            let per_second = format!("{:.0}", self.per_second(kind.answered));
            let failed = self.checks.failed.values().sum::<u64>().to_string();
            let count = kind.answered.to_string();
            table.add_row([kind.name.to_owned(), per_second, count, p50, p90, p99, p999, max, failed]);
            if self.recorder.is_open_loop() {
                let [p50, p90, p99, p999, max] = row(&kind.service);
                let none = String::new;
                table.add_row([
                    "  service time".to_owned(),
                    none(),
                    none(),
                    p50,
                    p90,
                    p99,
                    p999,
                    max,
                    none(),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// Counts that are not 0, in one line.
    pub fn counts_line(&self) -> String {
        let zero = [json!(0), json!({}), json!([]), json!(null)];
        let counts = self.counts.as_object().into_iter().flatten();
        let told: Vec<_> =
            counts.filter(|(_, v)| !zero.contains(v)).map(|(k, v)| format!("{k} {v}")).collect();
        let longest = self.recorder.pauses().longest();
        let pause =
            format!("longest time without an answer {} ms at {:.3} s", longest.ms, longest.at_seconds);
        format!("measured {:.1} s; {pause}; {}", self.recorder.seconds(), told.join(", "))
    }

    /// Everything.
    pub fn json(&self) -> Value {
        let recorder = self.recorder;
        let pause = recorder.pauses().longest();
        json!({
            "format": 1,
            "started_ms": self.started_ms,
            "environment": Environment::of_this_process(),
            "settings": self.settings,
            "seconds": recorder.seconds(),
            "per_second": recorder.per_second(),
            "timeline": recorder.timeline().rows(),
            "longest_pause_ms": pause.ms,
            "longest_pause_at_seconds": pause.at_seconds,
            "pauses_above_50_ms": recorder.pauses().longer_than(PAUSE_MS),
            "ops": ops(recorder),
            "generator_lateness_us": recorder.is_open_loop().then(|| latency(recorder.lateness())),
            "counts": self.counts,
            "checks": self.checks,
            "objectives": self.objectives,
            "stages": self.stages,
            "ok": !self.checks.any_failed(),
            "partial": self.ending.is_partial(),
            "error": self.ending.trouble,
            "generator_could_not_keep_up": self.ending.lagged,
            "generator_cpu_seconds": cpu_seconds(),
            "warnings": self.warnings,
        })
    }

    fn per_second(&self, answered: u64) -> f64 {
        let seconds = self.recorder.seconds();
        if seconds > 0.0 { answered as f64 / seconds } else { 0.0 }
    }
}

/// Each kind of operation.
pub fn ops(recorder: &Recorder) -> Value {
    let seconds = recorder.seconds();
    let one = |kind: &crate::recorder::Kind| {
        let mut v = json!({
            "answered": kind.answered,
            "per_second": if seconds > 0.0 { kind.answered as f64 / seconds } else { 0.0 },
            "latency_us": latency(&kind.response),
        });
        if recorder.is_open_loop() {
            v["service_us"] = latency(&kind.service);
        }
        (kind.name.to_owned(), v)
    };
    Value::Object(recorder.kinds().iter().map(one).collect())
}

fn micros(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    if us < 100.0 { format!("{us:.1}") } else { format!("{us:.0}") }
}

fn latency(h: &Histogram<u64>) -> Value {
    let us = |ns: u64| ns as f64 / 1e3;
    let mut v = json!({"count": h.len(), "mean": h.mean() / 1e3, "min": us(h.min()), "max": us(h.max())});
    for (name, p) in PERCENTILES {
        v[name] = json!(us(h.value_at_quantile(p / 100.0)));
    }
    let curve: Vec<_> =
        h.iter_quantiles(5).map(|i| json!([i.quantile_iterated_to(), us(i.value_iterated_to())])).collect();
    v["quantiles"] = json!(curve);
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorder() -> Recorder {
        let mut r = Recorder::new(&["get", "set"], true);
        r.open(0, 2_000_000_000);
        for i in 1..=1000u64 {
            r.answered(0, 1_000, 2_000, 1_000 + i * 1_000, 1);
        }
        r.answered(1, 5_000, 5_000, 1_500_000_000, 1);
        r
    }

    fn report<'a>(recorder: &'a Recorder, checks: &'a Checks) -> Report<'a> {
        let (settings, counts) = (json!({"op": "x"}), json!({"unknown": 0}));
        let (ending, objectives, stages) = (Ending::default(), Vec::new(), Vec::new());
        Report {
            recorder,
            checks,
            settings,
            counts,
            started_ms: 1,
            warnings: &[],
            ending,
            objectives,
            stages,
        }
    }

    #[test]
    fn json_has_throughput_percentiles_and_environment() {
        let (recorder, checks) = (recorder(), Checks::default());
        let v = report(&recorder, &checks).json();
        assert_eq!(v["per_second"], json!(500.5));
        assert_eq!((&v["timeline"][0]["answered"], &v["timeline"][1]["answered"]), (&json!(1000), &json!(1)));
        let pause =
            ["longest_pause_ms", "longest_pause_at_seconds", "pauses_above_50_ms"].map(|k| v[k].clone());
        assert_eq!(pause, [json!(1499), json!(0.001), json!(2)]);
        let p50 = v["ops"]["get"]["latency_us"]["p50"].as_f64().unwrap();
        assert!((495.0..505.0).contains(&p50), "{p50}");
        assert_eq!(v["ok"], json!(true));
        assert!(v["environment"]["kernel"].is_string() && v["ops"]["set"]["service_us"].is_object());
    }

    #[test]
    fn a_failed_check_shows() {
        let (recorder, mut checks) = (recorder(), Checks::default());
        checks.fail("order", || "was wrong".to_owned());
        let r = report(&recorder, &checks);
        assert_eq!(r.json()["ok"], json!(false));
        assert!(r.table().contains("get"));
    }

    #[test]
    fn a_run_that_was_cut_short_says_so() {
        let (recorder, checks) = (recorder(), Checks::default());
        let mut r = report(&recorder, &checks);
        assert_eq!(r.json()["partial"], json!(false));
        r.ending.trouble = Some("gone".to_owned());
        assert_eq!((&r.json()["partial"], &r.json()["error"]), (&json!(true), &json!("gone")));
    }

    #[test]
    fn a_fixed_rate_tells_response_and_service_time_apart() {
        let (recorder, checks) = (recorder(), Checks::default());
        let r = report(&recorder, &checks);
        assert_eq!(r.table().matches("service time").count(), 2);
        let v = r.json();
        let max = |which: &str| v["ops"]["get"][which]["max"].as_f64().unwrap();
        assert!(max("latency_us") > max("service_us"));
    }
}
