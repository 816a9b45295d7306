//! How are numbers drawn that a script has measured? `loadgen plot`: panels with lines, or with groups of bars, as a
//! file of JSON says (`loadgen plot --help`), as SVG.

use crate::args::PlotArgs;
use crate::plots::{self, Area, COLOURS};
use anyhow::{Context, ensure};
use plotters::coord::ranged1d::{AsRangedCoord, DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;

/// Width of a drawing, and heights of its title and of each panel, in pixels.
const WIDTH: u32 = 960;
const TITLE: u32 = 40;
const PANEL: u32 = 380;
/// Panels of a drawing: more are not looked at.
const PANELS_MAX: usize = 12;
/// The part of a group that its bars take.
const BARS: f64 = 0.8;

/// All that is drawn.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawing {
    title: String,
    panels: Vec<Panel>,
}

/// One chart of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

/// What one of its axes shows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Axis {
    name: String,
    #[serde(default)]
    log: bool,
    /// Of groups of bars; only of x.
    #[serde(default)]
    names: Vec<String>,
}

/// One line, or one bar of each group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    name: String,
    points: Vec<Spot>,
}

/// One number, and between which it lay.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spot {
    x: f64,
    y: f64,
    low: Option<f64>,
    high: Option<f64>,
}

/// An axis that is labelled at these places, and nowhere else.
struct Marked<A> {
    axis: A,
    marks: Vec<f64>,
}

impl<A: Ranged<ValueType = f64>> Ranged for Marked<A> {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.axis.range()
    }
}

/// Draws what a file says.
///
/// # Errors
/// When it can't be read, says something that can't be drawn, or the drawing can't be written.
pub fn run(args: &PlotArgs) -> anyhow::Result<()> {
    let name = args.file.display();
    let text = std::fs::read_to_string(&args.file).with_context(|| format!("reading {name}"))?;
    let drawing: Drawing = serde_json::from_str(&text).with_context(|| format!("{name}"))?;
    draw(&drawing, &args.out).with_context(|| format!("{name}"))
}

fn draw(drawing: &Drawing, out: &Path) -> anyhow::Result<()> {
    let count = drawing.panels.len();
    ensure!((1..=PANELS_MAX).contains(&count), "{count} panels: 1 to {PANELS_MAX} can be drawn");
    drawing.panels.iter().try_for_each(Panel::check)?;
    plots::draw(out, (WIDTH, TITLE + PANEL * count as u32), |area| {
        let area = area.titled(&drawing.title, ("sans-serif", 20)).map_err(|e| e.to_string())?;
        let parts = area.split_evenly((count, 1));
        parts.iter().zip(&drawing.panels).try_for_each(|(part, panel)| panel.draw(part))
    })
}

impl Panel {
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.y.names.is_empty(), "`names` are for the axis of x");
        ensure!(!self.x.log || self.x.names.is_empty(), "an axis has `names` or is `log`, not both");
        let groups = self.x.names.len();
        for series in &self.series {
            let outside = series.points.iter().find(|p| p.x < 0.0 || p.x >= groups as f64);
            if let Some(p) = outside.filter(|_| groups > 0) {
                anyhow::bail!("{}: a bar in group {}, of {groups}", series.name, p.x);
            }
        }
        Ok(())
    }

    fn spots(&self) -> impl Iterator<Item = Spot> + '_ {
        self.series.iter().flat_map(|s| &s.points).copied().filter(|p| self.is_drawn(p))
    }

    /// There is no place for 0 on a logarithmic axis.
    fn is_drawn(&self, spot: &Spot) -> bool {
        (!self.x.log || spot.x > 0.0) && (!self.y.log || spot.y > 0.0)
    }

    /// From where to where x goes.
    fn across(&self) -> Range<f64> {
        if !self.x.names.is_empty() {
            return 0.0..self.x.names.len() as f64;
        }
        let (low, high) = bounds(self.spots().map(|p| p.x));
        if self.x.log { low / 1.2..high * 1.2 } else { 0.0..(high * 1.05).max(1.0) }
    }

    /// From where to where y goes, with room for the names of the lines.
    fn up(&self) -> Range<f64> {
        let ends = |p: Spot| [p.y, p.low.unwrap_or(p.y), p.high.unwrap_or(p.y)];
        let (low, high) = bounds(self.spots().flat_map(ends).filter(|y| !self.y.log || *y > 0.0));
        if self.y.log {
            let (low, high) = (low.log10().floor(), high.log10().ceil());
            10f64.powf(low)..10f64.powf(high.max(low + 1.0) + 0.5)
        } else {
            0.0..(high * 1.35).max(f64::MIN_POSITIVE)
        }
    }

    /// Where x is labelled: below each group, or at what was measured.
    fn marks(&self) -> Vec<f64> {
        if !self.x.names.is_empty() {
            return (0..self.x.names.len()).map(|i| i as f64 + 0.5).collect();
        }
        let mut all: Vec<f64> = self.spots().map(|p| p.x).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        all
    }

    fn draw(&self, area: &Area<'_>) -> Result<(), String> {
        let (x, y, marks) = (self.across(), self.up(), self.marks());
        let even = |x| Marked { axis: RangedCoordf64::from(x), marks: marks.clone() };
        let by_tens = |x: Range<f64>| Marked { axis: LogCoord::from(x.log_scale()), marks: marks.clone() };
        let drawn = match (self.x.log, self.y.log) {
            (false, false) => self.chart(area, even(x), y),
            (false, true) => self.chart(area, even(x), y.log_scale()),
            (true, false) => self.chart(area, by_tens(x), y),
            (true, true) => self.chart(area, by_tens(x), y.log_scale()),
        };
        drawn.map_err(|e| e.to_string())
    }

    fn chart<X, Y>(&self, area: &Area<'_>, x: X, y: Y) -> Result<(), DrawingAreaErrorKind<std::io::Error>>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(90)
            .build_cartesian_2d(x, y)?;
        let name_of = |at: &f64| match self.x.names.get(*at as usize) {
            Some(name) => name.clone(),
            None => number(*at),
        };
        chart
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_label_formatter(&name_of)
            .y_label_formatter(&|y| number(*y))
            .max_light_lines(0)
            .draw()?;
        let floor = self.up().start;
        let wide = BARS / self.series.len().max(1) as f64;
        for (i, series) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let spots = || series.points.iter().copied().filter(|p| self.is_drawn(p));
            // Where in its group the middle of this bar is.
            let middle = |x: f64| {
                if self.x.names.is_empty() { x } else { x + (1.0 - BARS) / 2.0 + (i as f64 + 0.5) * wide }
            };
            if self.x.names.is_empty() {
                chart
                    .draw_series(LineSeries::new(spots().map(|p| (p.x, p.y)), colour.stroke_width(2)))?
                    .label(series.name.as_str())
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
                chart.draw_series(spots().map(|p| Circle::new((p.x, p.y), 3, colour.filled())))?;
            } else {
                let bar = |p: Spot| {
                    let (left, right) = (middle(p.x) - 0.45 * wide, middle(p.x) + 0.45 * wide);
                    Rectangle::new([(left, floor), (right, p.y)], colour.filled())
                };
                chart
                    .draw_series(spots().map(bar))?
                    .label(series.name.as_str())
                    .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], colour.filled()));
            }
            let between = |p: Spot| {
                let (low, high) = (p.low.unwrap_or(p.y).max(floor), p.high.unwrap_or(p.y));
                PathElement::new(vec![(middle(p.x), low), (middle(p.x), high)], BLACK.stroke_width(1))
            };
            chart.draw_series(spots().filter(|p| p.low.is_some() || p.high.is_some()).map(between))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
    }
}

/// Least and greatest; of nothing 1 and 1.
fn bounds(all: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low.is_finite() { (low, high) } else { (1.0, 1.0) }
}

/// As short as it tells.
fn number(n: f64) -> String {
    match n.abs() {
        a if a >= 1e6 => format!("{}M", n / 1e6),
        a if a >= 10.0 || n.fract() == 0.0 => format!("{n:.0}"),
        a if a >= 0.1 => format!("{n:.1}"),
        _ => format!("{n:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        let (file, out) = (folder.path().join("a.json"), folder.path().join("a.svg"));
        std::fs::write(&file, text)?;
        run(&PlotArgs { file, out: out.clone() })?;
        Ok(std::fs::read_to_string(out)?)
    }

    fn panel(x: &str, y: &str, series: &str) -> String {
        format!(r#"{{"title": "The whole", "panels": [{{"x": {x}, "y": {y}, "series": [{series}]}}]}}"#)
    }

    const Y: &str = r#"{"name": "per second"}"#;
    const LINE: &str =
        r#"{"name": "one line", "points": [{"x": 1, "y": 5}, {"x": 500, "y": 50, "low": 40, "high": 70}]}"#;

    #[test]
    fn lines_are_drawn_on_every_kind_of_axis_with_all_their_names() {
        for log_x in [false, true] {
            for log_y in [false, true] {
                let x = format!(r#"{{"name": "defer, ms", "log": {log_x}}}"#);
                let y = format!(r#"{{"name": "per second", "log": {log_y}}}"#);
                let text = drawn(&panel(&x, &y, LINE)).unwrap();
                assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
                for name in ["The whole", "one line", "defer, ms", "per second", "500"] {
                    assert!(text.contains(name), "{name} is missing: {text}");
                }
            }
        }
    }

    #[test]
    fn bars_stand_in_named_groups() {
        let x = r#"{"name": "policy", "names": ["lazy", "streamed"]}"#;
        let bars =
            |name| format!(r#"{{"name": "{name}", "points": [{{"x": 0, "y": 3}}, {{"x": 1, "y": 4}}]}}"#);
        let text = drawn(&panel(x, Y, &[bars("create"), bars("get")].join(","))).unwrap();
        for name in ["lazy", "streamed", "create", "get"] {
            assert!(text.contains(name), "{name} is missing: {text}");
        }
        // Two bars of each of two, and one beside each name; the frame and the ground are rectangles, too.
        assert!(text.matches("<rect").count() >= 6, "{text}");
    }

    #[test]
    fn nothing_at_all_and_zeros_are_no_trouble() {
        let log = r#"{"name": "n", "log": true}"#;
        let zero = r#"{"name": "zero", "points": [{"x": 0, "y": 0, "low": 0, "high": 0}]}"#;
        for series in ["", r#"{"name": "none", "points": []}"#, zero] {
            for (x, y) in [(log, log), (Y, Y), (log, Y)] {
                assert!(drawn(&panel(x, y, series)).unwrap().starts_with("<svg"));
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let named = r#"{"name": "n", "names": ["a"]}"#;
        let both = r#"{"name": "n", "names": ["a"], "log": true}"#;
        for (text, about) in [
            ("{}".to_owned(), "missing field"),
            (r#"{"title": "t", "panels": []}"#.to_owned(), "0 panels"),
            (panel(named, Y, LINE), "group 1, of 1"),
            (panel(both, Y, ""), "not both"),
            (panel(Y, named, ""), "axis of x"),
            (panel(Y, Y, r#"{"name": "l", "pionts": []}"#), "pionts"),
        ] {
            let e = format!("{:#}", drawn(&text).unwrap_err());
            assert!(e.contains(about), "{about}: {e}");
        }
    }
}
