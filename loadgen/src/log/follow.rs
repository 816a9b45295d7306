//! What does a follower do? Subscribes from the first record on when measuring begins, and takes all that comes,
//! in order; says when it had caught up, for from then on it only waits for what others append. Latencies are
//! the times between deliveries.

use super::control::Control;
use super::loader::{Load, Measured};
use crate::checks::Checks;
use crate::recorder::Recorder;
use std::sync::Arc;
use zoolog_client::{LogClient, LogEvent, SharedLog};
use zoolog_core::Gsn;

const DENSE: &str = "positions are delivered densely, each once";

/// One follower.
#[derive(Debug)]
pub struct Follower {
    control: Arc<Control>,
    at: Option<Gsn>,
    recorder: Recorder,
    is_open: bool,
    is_over: bool,
    /// When it subscribed, and when something last came.
    began_ns: u64,
    since_ns: u64,
    /// Where the log ended when it began; `None` once it has caught up.
    behind: Option<Gsn>,
    taken: u64,
    warnings: Vec<String>,
    checks: Checks,
}

impl Follower {
    /// One that has not begun.
    pub fn new(control: Arc<Control>) -> Self {
        Self {
            control,
            at: None,
            recorder: super::recorder("follow", false),
            is_open: false,
            is_over: false,
            began_ns: 0,
            since_ns: 0,
            behind: None,
            taken: 0,
            warnings: Vec::new(),
            checks: Checks::default(),
        }
    }

    fn caught_up(&mut self, now_ns: u64) {
        if self.behind.take_if(|tail| self.at >= Some(*tail)).is_some() {
            let seconds = (now_ns - self.began_ns) as f64 / 1e9;
            let rate = self.taken as f64 / seconds;
            self.warnings.push(format!(
                "caught up with the log after {seconds:.2} s and {} records, {rate:.0} per second; then waited",
                self.taken
            ));
        }
    }
}

impl Load for Follower {
    type Result = Measured;

    fn turn(&mut self, now_ns: u64, log: &mut LogClient) {
        let Some(window) = self.control.window() else { return };
        if !self.is_open && now_ns >= window.measure_ns {
            self.is_open = true;
            self.recorder.open(window.measure_ns, window.end_ns);
            (self.began_ns, self.since_ns) = (now_ns, now_ns);
            self.at = Some(Gsn(0));
            log.subscribe(Gsn(0));
            log.tail();
        }
        self.is_over |= self.control.is_over(now_ns);
    }

    fn event(&mut self, now_ns: u64, log: &mut LogClient, event: LogEvent) {
        match event {
            LogEvent::Ready { .. } => self.control.is_ready(),
            LogEvent::Committed(c) => {
                let at = self.at.replace(c.end());
                if at != Some(c.from()) {
                    self.checks.fail(DENSE, || format!("{} follows {at:?}", c.from()));
                }
                self.checks.pass(DENSE, 1);
                self.recorder.answered(0, self.since_ns, self.since_ns, now_ns, u64::from(c.take));
                self.control.add_answered(u64::from(c.take));
                self.since_ns = now_ns;
                self.taken += u64::from(c.take);
                self.caught_up(now_ns);
            }
            LogEvent::Tail { gsn, .. } => {
                self.behind = Some(gsn);
                self.caught_up(now_ns);
            }
            LogEvent::Gap { until, .. } => {
                self.at = Some(until);
                log.subscribe(until);
            }
            _ => {}
        }
    }

    fn result(&mut self) -> Option<Measured> {
        if !self.is_over {
            return None;
        }
        let mut recorder = std::mem::replace(&mut self.recorder, super::recorder("follow", false));
        if let Some(cut_ns) = self.control.was_cut() {
            recorder.cut(cut_ns);
        }
        let mut measured = Measured::new(recorder, std::mem::take(&mut self.checks));
        measured.warnings = std::mem::take(&mut self.warnings);
        Some(measured)
    }
}
