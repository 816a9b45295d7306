//! What does it look like? Throughput and latency over time, and against each other, as SVG.

use crate::timeline::Row;
use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Width and height of a drawing, in pixels.
const SIZE: (u32, u32) = (960, 640);
/// One colour per line, told apart by all kinds of eyes.
pub(crate) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A named line through points.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// (x, y).
    pub points: Vec<(f64, f64)>,
}

/// One step of a sweep, as far as it is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Operations per second that were answered.
    pub achieved: f64,
    /// Percentiles of the response time, microseconds.
    pub p50_us: f64,
    /// The 99th.
    pub p99_us: f64,
    /// The 99.9th.
    pub p999_us: f64,
}

/// Draws `timeline.svg` into `folder`: throughput above, latency below.
///
/// # Errors
/// When the file can't be written.
pub fn timeline(folder: &Path, title: &str, rows: &[Row]) -> anyhow::Result<()> {
    let x = |row: &Row| row.second as f64 + 0.5;
    let line = |name: &str, y: fn(&Row) -> f64| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (x(row), y(row))).collect(),
    };
    let throughput =
        [line("answered per second", |r| r.answered as f64), line("errors", |r| r.errors as f64)];
    let latency = [line("p50", |r| r.p50_us), line("p99", |r| r.p99_us), line("max", |r| r.max_us)];
    let seconds = 0.0..rows.len().max(1) as f64;
    draw(&folder.join("timeline.svg"), SIZE, |area| {
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        let top = highest(&throughput) * 1.05;
        chart(&upper, title, ("seconds", "per second"), seconds.clone(), 0.0..top, &throughput)?;
        let range = decades(&latency);
        chart(&lower, "response time", ("seconds", "us"), seconds.clone(), range.log_scale(), &latency)
    })
}

/// Draws `sweep.svg` into `folder`: latency against throughput, with the objectives as level lines.
///
/// # Errors
/// When the file can't be written.
pub fn sweep(folder: &Path, title: &str, points: &[Point], bounds: &[(String, f64)]) -> anyhow::Result<()> {
    let line = |name: &str, y: fn(&Point) -> f64| Line {
        name: name.to_owned(),
        points: points.iter().map(|p| (p.achieved, y(p))).collect(),
    };
    let mut lines = vec![line("p50", |p| p.p50_us), line("p99", |p| p.p99_us), line("p99.9", |p| p.p999_us)];
    let right = points.iter().map(|p| p.achieved).fold(1.0, f64::max) * 1.05;
    lines.extend(bounds.iter().map(|(text, us)| Line {
        name: format!("objective {text}"),
        points: vec![(0.0, *us), (right, *us)],
    }));
    draw(&folder.join("sweep.svg"), SIZE, |area| {
        let axes = ("answered per second", "response time, us");
        chart(area, title, axes, 0.0..right, decades(&lines).log_scale(), &lines)
    })
}

/// Makes an SVG of so many pixels.
///
/// # Errors
/// When it can't be drawn, or the file can't be written.
pub(crate) fn draw(
    path: &Path,
    size: (u32, u32),
    content: impl FnOnce(&Area<'_>) -> Result<(), String>,
) -> anyhow::Result<()> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| content(&area));
        drawn
            .and_then(|()| area.present().map_err(|e| e.to_string()))
            .map_err(|e| anyhow!("drawing: {e}"))?;
    }
    crate::files::write(path, text)
}

fn chart<Y>(
    area: &Area<'_>,
    title: &str,
    (x_name, y_name): (&str, &str),
    x: Range<f64>,
    y: Y,
    lines: &[Line],
) -> Result<(), String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
{
    let drawn = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(x, y)?;
        let number = |v: &f64| if *v >= 10.0 || *v == 0.0 { format!("{v:.0}") } else { format!("{v:.1}") };
        chart
            .configure_mesh()
            .x_desc(x_name)
            .y_desc(y_name)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .max_light_lines(0)
            .draw()?;
        for (i, line) in lines.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points = || line.points.iter().copied().filter(|(_, y)| *y > 0.0);
            chart
                .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
                .label(line.name.as_str())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            chart.draw_series(points().map(|at| Circle::new(at, 3, colour.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()
    };
    drawn().map_err(|e| e.to_string())
}

fn highest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|l| &l.points).map(|(_, y)| *y).fold(1.0, f64::max)
}

/// Whole powers of ten around all that is above 0.
fn decades(lines: &[Line]) -> Range<f64> {
    let above = lines.iter().flat_map(|l| &l.points).map(|(_, y)| *y).filter(|y| *y > 0.0);
    let low = above.fold(f64::INFINITY, f64::min);
    let low = if low.is_finite() { 10f64.powf(low.log10().floor()) } else { 1.0 };
    low..10f64.powf(highest(lines).log10().ceil()).max(low * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_are_svg_with_every_line_named_even_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let row = |second| Row {
            second,
            answered: 900 + second,
            errors: 0,
            p50_us: 80.0,
            p99_us: 1e4,
            max_us: 0.0,
        };
        for rows in [vec![], vec![row(0)], (0..300).map(row).collect()] {
            timeline(folder.path(), "set at 1000/s", &rows).unwrap();
            let text = std::fs::read_to_string(folder.path().join("timeline.svg")).unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{text}");
            for name in ["p50", "p99", "max", "answered per second", "set at 1000/s"] {
                assert!(text.contains(name), "{name}");
            }
        }
        let point = Point { achieved: 5e3, p50_us: 100.0, p99_us: 900.0, p999_us: 5_000.0 };
        for points in [vec![], vec![point], vec![point, Point { achieved: 9e3, ..point }]] {
            sweep(folder.path(), "sweep", &points, &[("p99=5ms".to_owned(), 5_000.0)]).unwrap();
            let text = std::fs::read_to_string(folder.path().join("sweep.svg")).unwrap();
            assert!(text.contains("objective p99=5ms") && text.contains("p99.9"));
        }
    }
}
