//! Which files does a run leave? JSON, the percentile listing (.hgrm) and the interval log (.hlog); what they
//! hold is decided elsewhere, how it is laid out here.

use crate::timeline::Timeline;
use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The interval log's maxima are printed in milliseconds, as its readers expect; histograms are in nanoseconds.
const NS_PER_MS: f64 = 1e6;

/// Writes `text` to `path`; folders above it are made.
///
/// # Errors
/// Which file, and why.
pub fn write(path: &Path, text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Writes `value` as JSON for people and programs.
///
/// # Errors
/// As [`write()`].
pub fn json(path: &Path, value: &Value) -> anyhow::Result<()> {
    write(path, serde_json::to_string_pretty(value)? + "\n")
}

/// The percentile listing that the HdrHistogram plotter reads; values in microseconds.
pub fn hgrm(h: &Histogram<u64>) -> String {
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

/// The interval log: one histogram per second of the window, which began at `start_ms` since 1970.
///
/// # Errors
/// When a histogram can't be written down.
pub fn hlog(timeline: &Timeline, start_ms: u64) -> anyhow::Result<Vec<u8>> {
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let start = UNIX_EPOCH + Duration::from_millis(start_ms);
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("response times in nanoseconds, one interval per second")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut log, &mut serializer)?;
    let second = Duration::from_secs(1);
    for (i, h) in timeline.histograms().enumerate() {
        writer
            .write_histogram(&h, Duration::from_secs(i as u64), second, None)
            .map_err(|e| anyhow!("second {i} of the interval log: {e:?}"))?;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn recorder() -> Recorder {
        let mut r = Recorder::new(&["get"], true);
        r.open(0, 2_000_000_000);
        (1..=1000u64).for_each(|i| r.answered(0, 1_000, 2_000, 1_000 + i * 1_000, 1));
        r.answered(0, 5_000, 5_000, 1_500_000_000, 1);
        r
    }

    #[test]
    fn the_percentile_listing_ends_at_the_maximum_with_all_counted() {
        let text = hgrm(&recorder().merged());
        let last = text.lines().rfind(|l| !l.starts_with('#') && !l.is_empty()).unwrap();
        assert!(last.contains("1.000000000000") && last.contains("1001"), "{last}");
    }

    #[test]
    fn the_interval_log_gives_each_second_back() {
        let log = hlog(recorder().timeline(), 1_700_000_000_123).unwrap();
        let mut counts = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            match entry.unwrap() {
                LogEntry::Interval(i) => {
                    use base64::Engine as _;
                    let bytes =
                        base64::engine::general_purpose::STANDARD.decode(i.encoded_histogram()).unwrap();
                    let h: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                    counts.push((i.start_timestamp().as_secs(), h.len()));
                }
                LogEntry::StartTime(t) | LogEntry::BaseTime(t) => {
                    assert_eq!(t.as_millis(), 1_700_000_000_123)
                }
            }
        }
        assert_eq!(counts, [(0, 1000), (1, 1)]);
    }
}
