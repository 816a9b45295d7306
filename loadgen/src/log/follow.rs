//! What does a follower do? Subscribes from the first record on and takes all that comes, in order.

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
    /// When the subscription was last empty-handed: what a record's wait is counted from.
    since_ns: u64,
    checks: Checks,
}

impl Follower {
    /// One that has not begun.
    pub fn new(control: Arc<Control>) -> Self {
        let recorder = super::recorder("follow", false);
        let checks = Checks::default();
        Self { control, at: None, recorder, is_open: false, is_over: false, since_ns: 0, checks }
    }
}

impl Load for Follower {
    type Result = Measured;

    fn turn(&mut self, now_ns: u64, log: &mut LogClient) {
        let Some(window) = self.control.window() else { return };
        if !self.is_open {
            self.is_open = true;
            self.recorder.open(window.measure_ns, window.end_ns);
            self.since_ns = now_ns;
            self.at = Some(Gsn(0));
            log.subscribe(Gsn(0));
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
        Some(Measured::new(recorder, std::mem::take(&mut self.checks)))
    }
}
