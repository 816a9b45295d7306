//! What happened? One line per event, stamped with simulated time and the node's name.

use std::fmt::Write as _;
use zoolog_core::Instant;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// Nowhere; only the last lines are kept in short form, for failure reports.
    Off,
    /// To standard output as they come.
    Print,
    /// Into memory, to be compared.
    Collect,
}

/// Collects lines.
#[derive(Debug)]
pub struct Trace {
    mode: TraceMode,
    text: String,
}

impl Trace {
    /// An empty trace.
    pub fn new(mode: TraceMode) -> Self {
        Self { mode, text: String::new() }
    }

    /// From now on lines go there.
    pub fn set(&mut self, mode: TraceMode) {
        self.mode = mode;
    }

    /// Whether lines are wanted: callers skip the formatting if not.
    pub fn on(&self) -> bool {
        self.mode != TraceMode::Off
    }

    /// Adds a line, made only if wanted.
    pub fn line(&mut self, now: Instant, who: &str, what: impl FnOnce() -> String) {
        if !self.on() {
            return;
        }
        let start = self.text.len();
        let (s, us) = (now.0 / 1_000_000_000, now.0 / 1000 % 1_000_000);
        let _ = writeln!(self.text, "{s:>4}.{us:06} {who:<9} {}", what());
        if self.mode == TraceMode::Print {
            print!("{}", &self.text[start..]);
            self.text.clear();
        }
    }

    /// All lines so far, if they are collected.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// At most `max` bytes of `text`, for lines that would be long.
pub fn short(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
