//! What is seen while it runs? One line on stderr, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line is drawn anew.
const EVERY_NS: u64 = 250_000_000;

/// The line.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    next_ns: u64,
    last: (u64, u64),
}

impl Progress {
    /// An empty one.
    pub fn new() -> Self {
        let bar = ProgressBar::new(1);
        bar.set_style(ProgressStyle::with_template("{bar:30} {msg}").expect("a constant"));
        Self { bar, next_ns: 0, last: (0, 0) }
    }

    /// What it is at.
    pub fn say(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    /// The load begins and will take `total_ns`.
    pub fn start(&mut self, total_ns: u64) {
        self.bar.set_length(total_ns);
        (self.next_ns, self.last) = (0, (0, 0));
    }

    /// The load has run for `elapsed_ns` and had so many answers.
    pub fn at(&mut self, elapsed_ns: u64, answers: u64) {
        if elapsed_ns < self.next_ns {
            return;
        }
        let (then_ns, before) = self.last;
        let seconds = (elapsed_ns - then_ns) as f64 / 1e9;
        // Fewer than before: the warm-up is over, and counting begins anew.
        let rate = if seconds > 0.0 { answers.saturating_sub(before) as f64 / seconds } else { 0.0 };
        self.bar.set_position(elapsed_ns);
        self.bar.set_message(format!("{answers} answers, {rate:.0} per second"));
        self.next_ns = elapsed_ns + EVERY_NS;
        self.last = (elapsed_ns, answers);
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
