//! Where is the knee? Rates in rising steps, each judged; the last good one before the first bad one is it.

use crate::args::SweepArgs;
use crate::objectives::Judged;
use crate::plots::Point;
use crate::recorder::Recorder;
use crate::report;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// Share of the rate that must be achieved.
const ACHIEVED_LEAST: f64 = 0.95;
/// Steps at most: a sweep that never breaks ends here.
pub const STEPS_MAX: usize = 200;

/// One rate and what came of it.
#[derive(Debug)]
pub struct Step {
    /// Operations per second that were asked for.
    pub rate: f64,
    /// What was measured.
    pub recorder: Recorder,
    /// Objectives and what came of them.
    pub objectives: Vec<Judged>,
    /// Why the generator was what was measured, if so.
    pub lagged: Option<String>,
    /// Whether it was cut short.
    pub cut: bool,
}

impl Step {
    /// Why it is not good, or nothing.
    pub fn why_not(&self) -> Option<String> {
        if self.cut {
            return Some("cut short".to_owned());
        }
        if let Some(why) = &self.lagged {
            return Some(why.clone());
        }
        if let Some(missed) = self.objectives.iter().find(|j| !j.met) {
            return Some(missed.to_string());
        }
        let share = self.recorder.per_second() / self.rate;
        (share < ACHIEVED_LEAST).then(|| format!("{:.0} % of the rate was achieved", share * 100.0))
    }

    /// In a few words.
    pub fn verdict(&self) -> String {
        let why = self.why_not().unwrap_or_else(|| "good".to_owned());
        why.split_once(": it began")
            .or(why.split_once(": a thread"))
            .map_or(why.clone(), |(short, _)| short.to_owned())
    }

    /// As a point of the plot.
    pub fn point(&self) -> Point {
        let all = self.recorder.merged();
        let us = |q: f64| all.value_at_quantile(q) as f64 / 1e3;
        Point { achieved: self.recorder.per_second(), p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999) }
    }
}

/// The rate behind `rate`, if the sweep goes on that far.
pub fn next_rate(args: &SweepArgs, rate: f64) -> Option<f64> {
    let next = args.rate_step.map_or(rate * args.rate_factor, |step| rate + step);
    (next <= args.rate_to).then_some(next)
}

/// The last good step.
pub fn knee(steps: &[Step]) -> Option<&Step> {
    steps.iter().take_while(|s| s.why_not().is_none()).last()
}

/// The table of steps, and what follows from it.
pub fn table(steps: &[Step]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "rate",
        "achieved",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "service p99 us",
        "verdict",
    ]);
    for step in steps {
        let Point { achieved, p50_us, p99_us, p999_us } = step.point();
        let service =
            step.recorder.kinds().iter().map(|k| k.service.value_at_quantile(0.99)).max().unwrap_or(0);
        let us = |us: f64| if us < 100.0 { format!("{us:.1}") } else { format!("{us:.0}") };
        table.add_row([
            format!("{:.0}", step.rate),
            format!("{achieved:.0}"),
            us(p50_us),
            us(p99_us),
            us(p999_us),
            us(step.recorder.merged().max() as f64 / 1e3),
            us(service as f64 / 1e3),
            step.verdict(),
        ]);
    }
    for column in table.column_iter_mut().take(7) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// One line: the knee, or that there is none.
pub fn conclusion(steps: &[Step]) -> String {
    match (knee(steps), steps.last().and_then(Step::why_not)) {
        (Some(knee), Some(_)) => format!("knee: {:.0} per second", knee.rate),
        (Some(knee), None) => format!("no knee up to {:.0} per second: --rate-to ends the sweep", knee.rate),
        (None, why) => {
            format!("no rate was good: {}", why.unwrap_or_else(|| "nothing was measured".to_owned()))
        }
    }
}

/// The steps as JSON.
pub fn json(steps: &[Step]) -> Value {
    let told = |step: &Step| {
        json!({
            "rate_per_second": step.rate,
            "per_second": step.recorder.per_second(),
            "ops": report::ops(&step.recorder),
            "objectives": step.objectives,
            "good": step.why_not().is_none(),
            "why_not": step.why_not(),
        })
    };
    json!({
        "steps": steps.iter().map(told).collect::<Vec<_>>(),
        "knee_per_second": knee(steps).map(|s| s.rate),
        "conclusion": conclusion(steps),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Target};
    use clap::Parser;

    fn step(rate: f64, answered: u64, met: bool) -> Step {
        let mut recorder = Recorder::new(&["set"], true);
        recorder.open(0, 1_000_000_000);
        recorder.answered(0, 0, 0, 500_000_000, answered);
        let objectives = vec![Judged { objective: "p99=5ms".to_owned(), found_us: 1.0, met }];
        Step { rate, recorder, objectives, lagged: None, cut: false }
    }

    #[test]
    fn the_knee_is_the_last_good_step_before_the_first_bad_one() {
        let steps =
            [step(100.0, 100, true), step(150.0, 149, true), step(225.0, 225, false), step(300.0, 300, true)];
        assert_eq!(knee(&steps).unwrap().rate, 150.0);
        assert_eq!(conclusion(&steps[..3]), "knee: 150 per second");
        assert!(conclusion(&steps[2..3]).contains("no rate was good: p99=5ms"));
        assert!(conclusion(&steps[..2]).contains("no knee up to 150"));
        assert_eq!(json(&steps)["steps"][2]["good"], json!(false));
        assert!(table(&steps).contains("NOT met"));
    }

    #[test]
    fn a_rate_that_is_not_achieved_or_not_offered_is_not_good() {
        assert!(step(100.0, 95, true).why_not().is_none());
        assert!(step(100.0, 94, true).why_not().unwrap().contains("94 %"));
        let lagged = Step { lagged: Some("too slow: it began late".to_owned()), ..step(100.0, 100, true) };
        assert!(lagged.why_not().is_some());
        assert_eq!(lagged.verdict(), "too slow");
    }

    #[test]
    fn rates_rise_by_factor_or_by_step_up_to_the_last() {
        let args = |more: &[&str]| {
            let line = ["loadgen", "zk", "--servers", "a:1", "--sweep"];
            match Cli::parse_from(line.iter().chain(more)).target {
                Target::Zk(args) => args.sweep,
                _ => unreachable!("asked for zk"),
            }
        };
        assert_eq!(next_rate(&args(&["--rate-factor", "2"]), 100.0), Some(200.0));
        assert_eq!(next_rate(&args(&["--rate-step", "30"]), 100.0), Some(130.0));
        assert_eq!(next_rate(&args(&["--rate-step", "30", "--rate-to", "120"]), 100.0), None);
    }
}
