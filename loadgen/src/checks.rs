//! Was everything as it must be? Counts of what was looked at, and the failures, the first few in words.

use serde::Serialize;
use std::collections::BTreeMap;

/// Failures that are told in words; the rest is only counted.
const TOLD_MAX: usize = 10;

/// The outcome of a run's checks.
#[derive(Debug, Default, Serialize)]
pub struct Checks {
    /// How often each check was made.
    pub made: BTreeMap<&'static str, u64>,
    /// How often each failed.
    pub failed: BTreeMap<&'static str, u64>,
    /// The first failures.
    pub told: Vec<String>,
}

impl Checks {
    /// Counts `n` passes of the check `name`.
    pub fn pass(&mut self, name: &'static str, n: u64) {
        *self.made.entry(name).or_default() += n;
    }

    /// Records a failure of the check `name`.
    pub fn fail(&mut self, name: &'static str, what: impl FnOnce() -> String) {
        *self.failed.entry(name).or_default() += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{name}: {}", what()));
        }
    }

    /// Adds what another found.
    pub fn merge(&mut self, other: Self) {
        other.made.into_iter().for_each(|(name, n)| *self.made.entry(name).or_default() += n);
        other.failed.into_iter().for_each(|(name, n)| *self.failed.entry(name).or_default() += n);
        let room = TOLD_MAX - self.told.len();
        self.told.extend(other.told.into_iter().take(room));
    }

    /// Whether any failed.
    pub fn any_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// `12 kinds of check, 345 made, all good` or the failures, one per line.
    pub fn summary(&self) -> String {
        if !self.any_failed() {
            let made: u64 = self.made.values().sum();
            return format!("checks: {} kinds, {made} made, all good", self.made.len());
        }
        let mut text = String::from("CHECKS FAILED:");
        for (name, n) in &self.failed {
            text.push_str(&format!("\n  {n} x {name}"));
        }
        for told in &self.told {
            text.push_str(&format!("\n  {told}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_the_first_are_told() {
        let mut c = Checks::default();
        c.pass("order", 3);
        assert!(!c.any_failed() && c.summary().contains("all good"));
        for i in 0..100 {
            c.fail("order", || format!("number {i}"));
        }
        assert!(c.any_failed() && c.summary().contains("100 x order") && c.summary().contains("number 0"));
        assert_eq!(c.told.len(), TOLD_MAX);
    }
}
