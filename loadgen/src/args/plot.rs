//! What can be asked of `loadgen plot`?

use clap::Args;
use std::path::PathBuf;

/// `loadgen plot`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HOW)]
pub struct PlotArgs {
    /// What to draw, as JSON.
    pub file: PathBuf,
    /// The SVG to make.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

const HOW: &str = r#"
The file: {"title": "..", "panels": [{"x": AXIS, "y": AXIS, "series": [{"name": "..", "points": [POINT, ..]}, ..]}, ..]},
with AXIS {"name": "..", "log": false} and POINT {"x": 1, "y": 2.5}, with "low" and "high" where a spread is to be seen.
With "names": ["a", "b", ..] in the AXIS of x, bars are drawn in so many groups, and the x of a POINT is the group's
index, from 0. Panels lie below each other."#;
