//! What is said at the end? A table on stdout, everything as JSON, the distribution for plotting.

use crate::checks::Checks;
use crate::environment::{Environment, cpu_seconds};
use crate::recorder::Recorder;
use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

const PERCENTILES: [(&str, f64); 6] =
    [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p99_9", 99.9), ("p99_99", 99.99)];

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
}

impl Report<'_> {
    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header([
            "op",
            "per second",
            "count",
            "p50 us",
            "p90 us",
            "p99 us",
            "p99.9 us",
            "max us",
            "errors",
        ]);
        for kind in self.recorder.kinds() {
            let us = |p: f64| micros(kind.response.value_at_quantile(p / 100.0));
            table.add_row([
                kind.name.to_owned(),
                format!("{:.0}", self.per_second(kind.answered)),
                kind.answered.to_string(),
                us(50.0),
                us(90.0),
                us(99.0),
                us(99.9),
                micros(kind.response.max()),
                self.checks.failed.values().sum::<u64>().to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// Counts that are not 0, in one line.
    pub fn counts_line(&self) -> String {
        let zero = [json!(0), json!({}), json!(null)];
        let counts = self.counts.as_object().into_iter().flatten();
        let told: Vec<_> =
            counts.filter(|(_, v)| !zero.contains(v)).map(|(k, v)| format!("{k} {v}")).collect();
        format!("measured {:.1} s; {}", self.recorder.seconds(), told.join(", "))
    }

    /// Everything.
    pub fn json(&self) -> Value {
        let kinds: serde_json::Map<String, Value> = self
            .recorder
            .kinds()
            .iter()
            .map(|kind| {
                let mut v = json!({
                    "answered": kind.answered,
                    "per_second": self.per_second(kind.answered),
                    "latency_us": latency(&kind.response),
                });
                if self.recorder.is_open_loop() {
                    v["service_us"] = latency(&kind.service);
                }
                (kind.name.to_owned(), v)
            })
            .collect();
        let answered: u64 = self.recorder.kinds().iter().map(|k| k.answered).sum();
        json!({
            "format": 1,
            "started_ms": self.started_ms,
            "environment": Environment::of_this_process(),
            "settings": self.settings,
            "seconds": self.recorder.seconds(),
            "per_second": self.per_second(answered),
            "answered_each_second": self.recorder.per_second(),
            "ops": kinds,
            "counts": self.counts,
            "checks": self.checks,
            "ok": !self.checks.any_failed(),
            "generator_cpu_seconds": cpu_seconds(),
            "warnings": self.warnings,
        })
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// Which could not be written and why.
    pub fn write_files(&self, json: Option<&Path>, hgrm: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(&self.json())? + "\n";
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        if let Some(path) = hgrm {
            let text = hgrm_text(&self.recorder.merged());
            std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    fn per_second(&self, answered: u64) -> f64 {
        let seconds = self.recorder.seconds();
        if seconds > 0.0 { answered as f64 / seconds } else { 0.0 }
    }
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

/// The percentile listing that the HdrHistogram plotter reads; values in microseconds.
fn hgrm_text(h: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for i in h.iter_quantiles(5) {
        let (value, q) = (i.value_iterated_to() as f64 / 1e3, i.quantile_iterated_to());
        total += i.count_since_last_iteration();
        let _ = write!(text, "{value:12.3} {q:2.12} {total:10}");
        let _ = if q < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - q)) } else { writeln!(text) };
    }
    let _ = writeln!(text, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", h.mean() / 1e3, h.stdev() / 1e3);
    let _ = writeln!(text, "#[Max     = {:12.3}, Total count    = {:12}]", h.max() as f64 / 1e3, h.len());
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", h.buckets(), 2048);
    text
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
        Report { recorder, checks, settings, counts, started_ms: 1, warnings: &[] }
    }

    #[test]
    fn json_has_throughput_percentiles_and_environment() {
        let (recorder, checks) = (recorder(), Checks::default());
        let v = report(&recorder, &checks).json();
        assert_eq!(v["per_second"], json!(500.5));
        assert_eq!(v["answered_each_second"], json!([1000, 1]));
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
    fn the_plot_file_ends_at_the_maximum_with_all_counted() {
        let recorder = recorder();
        let text = hgrm_text(&recorder.merged());
        let last = text.lines().rfind(|l| !l.starts_with('#') && !l.is_empty()).unwrap();
        assert!(last.contains("1.000000000000") && last.contains("1001"), "{last}");
    }
}
