//! What was found wrong with a node's data, how bad is it, and what is to be done?

use serde_json::{Value, json};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// How a node's data is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that it promised is there.
    Whole,
    /// A node runs on it: nobody knows before it is stopped.
    InUse,
    /// Something is lost here; others have it, and the node can go on.
    Damaged,
    /// The node would not start on it, or must not.
    Unusable,
}

impl Verdict {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::InUse => "in use",
            Self::Damaged => "damaged",
            Self::Unusable => "unusable",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    /// A file, or a lane.
    at: String,
    what: String,
    cure: String,
}

/// What is known of one node's data.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// How much there is, in words.
    pub holds: String,
    /// More about it, for programs.
    pub details: Value,
    findings: Vec<Finding>,
}

impl Report {
    /// Of a node of which nothing is known yet.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self {
            dir: dir.to_path_buf(),
            name: name.to_owned(),
            verdict: Verdict::Whole,
            holds: String::new(),
            details: json!({}),
            findings: Vec::new(),
        }
    }

    /// Notes a finding. With verdict `Whole` it is only worth knowing.
    pub fn find(&mut self, verdict: Verdict, at: impl Display, what: &dyn Display, cure: impl Display) {
        let finding = Finding { verdict, at: at.to_string(), what: what.to_string(), cure: cure.to_string() };
        // The same cure for many places is said once, and one place is named once for the same thing.
        if !self.findings.contains(&finding) {
            self.verdict = self.verdict.max(verdict);
            self.findings.push(finding);
        }
    }

    /// The findings for people; the cure behind the last of those that it is for.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (i, f) in self.findings.iter().enumerate() {
            let verdict = if f.verdict == Verdict::Whole { "note" } else { f.verdict.name() };
            lines.push(format!("{}: {verdict}: {}: {}", self.name, f.at, f.what));
            let last = self.findings.get(i + 1).is_none_or(|next| next.cure != f.cure);
            if last && !f.cure.is_empty() {
                lines.push(format!("    -> {}", f.cure));
            }
        }
        lines
    }

    /// All of it, for programs.
    pub fn json(&self) -> Value {
        let finding = |f: &Finding| {
            let verdict = if f.verdict == Verdict::Whole { "note" } else { f.verdict.name() };
            json!({ "verdict": verdict, "at": f.at, "what": f.what, "cure": f.cure })
        };
        json!({
            "node": self.name, "dir": self.dir.display().to_string(), "verdict": self.verdict.name(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(), "details": self.details,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts_and_a_cure_is_said_once() {
        let mut report = Report::new(Path::new("d"), "shard-0.0");
        assert_eq!((report.verdict, report.lines().len()), (Verdict::Whole, 0));
        report.find(Verdict::Whole, "wal", &"a torn end", "");
        assert_eq!(report.verdict, Verdict::Whole);
        for at in ["wal-1", "wal-2", "wal-2"] {
            report.find(Verdict::Damaged, at, &"rot", "mend it");
        }
        report.find(Verdict::Unusable, "stamp.toml", &"another cluster's", "take it away");
        assert_eq!(report.verdict, Verdict::Unusable);
        let want = [
            "shard-0.0: note: wal: a torn end",
            "shard-0.0: damaged: wal-1: rot",
            "shard-0.0: damaged: wal-2: rot",
            "    -> mend it",
            "shard-0.0: unusable: stamp.toml: another cluster's",
            "    -> take it away",
        ];
        assert_eq!(report.lines(), want);
        assert_eq!(report.json()["findings"][0]["verdict"], "note");
    }
}
