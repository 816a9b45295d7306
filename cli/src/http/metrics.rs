//! What is told to Prometheus? A ZooKeeper node's figures under the names that dashboards for the original use, which
//! are those of `mntr` without `zk_`; then Zoolog's own under `zoolog_`, and those of orderers and data servers.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use zoolog_core::stages::{QUANTILES, Summary};
use zoolog_zk::node::{Facts, Figure, Report, latencies, monitored, totals};

/// Content type of the format.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of those that `mntr` lists, which are Zoolog's own.
const OWN: [&str; 15] = [
    "applied_gsn",
    "order_tail",
    "snapshot_gsn",
    "snapshot_aside_bytes",
    "apply_version",
    "records_in_flight",
    "fetches",
    "location_entries",
    "location_bytes",
    "writes_failed_after_ack",
    "bootstrap_bytes",
    "bootstrap_of_bytes",
    "bootstrap_bytes_per_s",
    "bootstrap_limit_bytes_per_s",
    "bootstraps",
];

/// Text in the format, one family of figures after the other.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    known: BTreeSet<String>,
}

impl Exposition {
    /// A figure, with labels as `a="b"`, or none.
    fn put(&mut self, kind: &str, name: &str, labels: &str, value: impl Display) {
        if self.known.insert(name.to_string()) {
            let _ = writeln!(self.text, "# TYPE {name} {kind}");
        }
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    /// Number and sum alone.
    fn total(&mut self, name: &str, total: &Summary, unit_us: f64) {
        let _ = writeln!(self.text, "# TYPE {name} summary");
        let _ =
            writeln!(self.text, "{name}_sum {}\n{name}_count {}", total.sum_us as f64 / unit_us, total.count);
    }

    /// Quantiles, number and sum, in units of so many microseconds.
    fn summary(&mut self, name: &str, labels: &str, stage: &Summary, unit_us: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (q, us) in QUANTILES.iter().zip(stage.quantiles_us) {
            let labels = format!("{labels}{comma}quantile=\"{q}\"");
            self.put("summary", name, &labels, us as f64 / unit_us);
        }
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{name}_sum{labels} {}", stage.sum_us as f64 / unit_us);
        let _ = writeln!(self.text, "{name}_count{labels} {}", stage.count);
    }

    fn process(&mut self, kind: &str) {
        let labels = format!("kind=\"{kind}\",version=\"{}\"", env!("CARGO_PKG_VERSION"));
        self.put("gauge", "zoolog_build_info", &labels, 1);
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        if let Some(pages) = pages {
            // SAFETY: a plain call.
            let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as u64;
            self.put("gauge", "process_resident_memory_bytes", "", pages * page_bytes);
        }
        self.put("counter", "process_cpu_seconds_total", "", cpu_seconds());
    }
}

/// Processor seconds of the process so far.
fn cpu_seconds() -> f64 {
    // SAFETY: a plain call that fills what it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Whether that only grows, but for restarts and resets.
fn kind_of(name: &str) -> &'static str {
    let counts =
        name.ends_with("_rejected") || name.ends_with("_expired") || name.ends_with("_received_count");
    let more = [
        "auth_failed_count",
        "connection_request_count",
        "connection_drop_count",
        "fetches",
        "location_bytes",
        "writes_failed_after_ack",
        "bootstraps",
    ];
    if counts || more.contains(&name) { "counter" } else { "gauge" }
}

/// Of a ZooKeeper node.
pub fn of_zk(report: &Report, facts: &Facts) -> String {
    let mut out = Exposition::default();
    for (name, figure) in monitored(report, facts) {
        let own = if OWN.contains(&name) { "zoolog_" } else { "" };
        match figure {
            Figure::Whole(n) => out.put(kind_of(name), &format!("{own}{name}"), "", n),
            Figure::Mean(mean) => out.put(kind_of(name), &format!("{own}{name}"), "", mean),
            Figure::Text(_) => {}
        }
    }
    for (name, stage) in latencies(report) {
        out.summary(name, "", &stage, 1e3);
    }
    for (name, total) in totals(report) {
        out.total(name, &total, 1e3);
    }
    for stage in report.stages.summaries() {
        out.summary("zoolog_stage_seconds", &format!("stage=\"{}\"", stage.name), &stage, 1e6);
    }
    let status = &report.status;
    out.put("gauge", "zoolog_serving", "", u8::from(status.serving));
    let bootstrap = &status.bootstrap;
    let from = format!("from=\"{}\"", bootstrap.peer());
    out.put("gauge", "zoolog_bootstrap", &from, u8::from(bootstrap.on));
    out.put("gauge", "zoolog_log_room", &format!("room=\"{}\"", status.log_room.name()), 1);
    out.process("zk");
    out.text
}

/// What an orderer or the slots of a data server say of themselves: per slot its name, status and stages.
pub fn of_stored(kind: &str, all: &[(String, Value, Value)]) -> String {
    let mut out = Exposition::default();
    let statuses = all.iter().map(|(name, status, _)| (name, status.as_object()));
    let keys: BTreeSet<&String> =
        statuses.clone().flat_map(|(_, s)| s.into_iter().flat_map(|s| s.keys())).collect();
    for key in keys {
        for (name, status) in statuses.clone() {
            let value = status.and_then(|s| s.get(key)).unwrap_or(&Value::Null);
            let labels = format!("node=\"{name}\"");
            let metric = format!("zoolog_{kind}_{key}");
            match value {
                Value::Bool(on) => out.put("gauge", &metric, &labels, u8::from(*on)),
                Value::Number(n) => out.put("gauge", &metric, &labels, n),
                Value::Array(list) => out.put("gauge", &format!("{metric}_count"), &labels, list.len()),
                Value::Object(_) if key == "disk" => {
                    if let Some(bytes) = value["free_bytes"].as_u64() {
                        out.put("gauge", &format!("{metric}_free_bytes"), &labels, bytes);
                    }
                }
                Value::Object(map) if key == "consumers" => {
                    for (consumer, at) in map {
                        let consumer: String =
                            consumer.chars().filter(|c| !matches!(c, '"' | '\\' | '\n')).collect();
                        let labels = format!("{labels},consumer=\"{consumer}\"");
                        out.put("gauge", &format!("zoolog_{kind}_consumer_gsn"), &labels, at);
                    }
                }
                _ => {}
            }
        }
    }
    for (name, _, stages) in all {
        for stage in stages.as_array().into_iter().flatten() {
            let us = |key: &str| stage[key].as_u64().unwrap_or(0);
            let labels = format!("node=\"{name}\",stage={}", stage["name"]);
            for (q, key) in [("0.5", "p50_us"), ("0.99", "p99_us"), ("0.999", "p999_us"), ("1", "max_us")] {
                let labels = format!("{labels},quantile=\"{q}\"");
                out.put("summary", "zoolog_stage_seconds", &labels, us(key) as f64 / 1e6);
            }
            let _ = writeln!(out.text, "zoolog_stage_seconds_count{{{labels}}} {}", us("count"));
        }
    }
    out.process(kind);
    out.text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nodes_with_logs_say_is_flattened() {
        let stage =
            json!([{ "name": "raft", "count": 3, "p50_us": 5, "p99_us": 6, "p999_us": 7, "max_us": 8 }]);
        let status = json!({ "leader": true, "term": 4, "consumers": { "a\"b": 9 }, "lanes": [1, 2], "role": "x",
            "disk": { "room": "ample", "free_bytes": 77 } });
        let text = of_stored("order", &[("order-0".into(), status, stage)]);
        for line in [
            "# TYPE zoolog_order_term gauge",
            "zoolog_order_term{node=\"order-0\"} 4",
            "zoolog_order_leader{node=\"order-0\"} 1",
            "zoolog_order_consumer_gsn{node=\"order-0\",consumer=\"ab\"} 9",
            "zoolog_order_lanes_count{node=\"order-0\"} 2",
            "zoolog_order_disk_free_bytes{node=\"order-0\"} 77",
            "zoolog_stage_seconds{node=\"order-0\",stage=\"raft\",quantile=\"0.5\"} 0.000005",
            "zoolog_stage_seconds_count{node=\"order-0\",stage=\"raft\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
        }
        assert!(!text.contains("role"));
    }
}
