//! Is this machine fit for it? `zoolog admin selftest`: under a minute of measuring what speed and safety rest on,
//! with a verdict and a cure for each.
//!
//! - `system`: kernel, io_uring, limits, cores, memory settings. `disk`: what a durable write costs.
//! - `timing`: clocks, standstills, wake-ups, the loopback.

mod disk;
mod system;
mod timing;

use crate::args::SelftestArgs;
use crate::exit::Failure;
use crate::out;
use serde_json::{Value, json};
use zoolog_core::rt::clock;

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Nothing to say against it.
    Fit,
    /// It will work, slower than it could.
    Slow,
    /// It won't work, or what is acknowledged won't be safe.
    Unfit,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Slow => "slow",
            Self::Unfit => "unfit",
        }
    }
}

/// What was found out about one thing.
#[derive(Clone, Debug)]
struct Item {
    name: &'static str,
    verdict: Verdict,
    /// What was measured, in a line.
    text: String,
    /// Why it is slow or unfit and what to do about it; empty if it is fit.
    cure: String,
    /// The figures, with units in their names.
    values: Value,
}

impl Item {
    /// One that nothing is wrong with so far.
    fn new(name: &'static str, text: impl Into<String>, values: Value) -> Self {
        Self { name, verdict: Verdict::Fit, text: text.into(), cure: String::new(), values }
    }

    /// Makes it as bad as `verdict` if `wrong`, for this reason.
    fn unless(mut self, wrong: bool, verdict: Verdict, cure: impl Into<String>) -> Self {
        if wrong {
            self.verdict = self.verdict.max(verdict);
            if !self.cure.is_empty() {
                self.cure.push_str("; ");
            }
            self.cure.push_str(&cure.into());
        }
        self
    }
}

/// Carries out `zoolog admin selftest`.
///
/// # Errors
/// If the machine is unfit, or the directory can't be used: text for a person.
pub fn run(args: &SelftestArgs) -> Result<(), Failure> {
    let began = clock::now();
    let mut items = system::items();
    items.extend(disk::items(&args.data_dir));
    items.extend(timing::items());
    let seconds = clock::now().since(began).as_secs_f64();
    let overall = items.iter().map(|i| i.verdict).max().unwrap_or(Verdict::Fit);
    if args.json {
        out::print(format!("{:#}", as_json(&items, overall, seconds)))?;
    } else {
        out::print(lines(&items, overall, seconds))?;
    }
    match overall {
        Verdict::Unfit => {
            let names: Vec<_> = items.iter().filter(|i| i.verdict == overall).map(|i| i.name).collect();
            Err(format!("this machine is unfit: {}", names.join(", ")).into())
        }
        Verdict::Fit | Verdict::Slow => Ok(()),
    }
}

fn as_json(items: &[Item], overall: Verdict, seconds: f64) -> Value {
    let items: Vec<_> = items
        .iter()
        .map(|i| {
            json!({
                "name": i.name, "verdict": i.verdict.name(), "text": i.text, "cure": i.cure, "values": i.values,
            })
        })
        .collect();
    json!({ "format": 1, "verdict": overall.name(), "seconds": seconds, "items": items })
}

fn lines(items: &[Item], overall: Verdict, seconds: f64) -> String {
    let mut lines = String::new();
    for item in items {
        lines += &format!("{:6} {:20} {}\n", item.verdict.name(), item.name, item.text);
        if !item.cure.is_empty() {
            lines += &format!("{:27} -> {}\n", "", item.cure);
        }
    }
    let words = match overall {
        Verdict::Fit => "this machine is fit",
        Verdict::Slow => "this machine will do, slower than it could: see what to do",
        Verdict::Unfit => "this machine is unfit: see what to do",
    };
    lines + &format!("{words} (measured for {seconds:.0} s)")
}

/// Of many durations: median, 99th percentile, maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    count: usize,
}

impl Spread {
    /// Of nanoseconds, in any order. All zero if there are none.
    fn of(mut ns: Vec<u64>) -> Self {
        ns.sort_unstable();
        let at = |q: f64| match ns.len() {
            0 => 0.0,
            n => ns[((n as f64 * q).ceil() as usize).clamp(1, n) - 1] as f64 / 1e3,
        };
        Self { p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0), count: ns.len() }
    }

    fn text(&self) -> String {
        format!("p50 {:.0} us, p99 {:.0} us, max {:.0} us", self.p50_us, self.p99_us, self.max_us)
    }

    fn json(&self) -> Value {
        json!({"p50_us": self.p50_us, "p99_us": self.p99_us, "max_us": self.max_us, "count": self.count})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let spread = Spread::of((1..=1000).rev().map(|us| us * 1000).collect());
        assert_eq!(spread, Spread { p50_us: 500.0, p99_us: 990.0, max_us: 1000.0, count: 1000 });
        assert_eq!(Spread::of(vec![7000]), Spread { p50_us: 7.0, p99_us: 7.0, max_us: 7.0, count: 1 });
        assert_eq!(Spread::of(Vec::new()).count, 0);
    }

    #[test]
    fn the_worst_reason_counts_and_all_are_told() {
        let item = Item::new("x", "", json!({}))
            .unless(true, Verdict::Unfit, "broken")
            .unless(false, Verdict::Unfit, "never")
            .unless(true, Verdict::Slow, "slow too");
        assert_eq!((item.verdict, item.cure.as_str()), (Verdict::Unfit, "broken; slow too"));
        let all = as_json(&[item.clone(), Item::new("y", "", json!({}))], item.verdict, 1.0);
        assert_eq!(all["verdict"], "unfit");
        assert_eq!(all["items"][1]["verdict"], "fit");
    }
}
