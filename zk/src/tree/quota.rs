//! How much may be below a node? Quotas as ZooKeeper's: for a node P, the data of `/zookeeper/quota/P/zookeeper_limits`
//! says what is allowed, and that of `.../zookeeper_stats`, which the service keeps, what there is.
//!
//! Soft limits are told when they are passed; hard ones refuse a write, if its node was told to enforce them.
//! The deepest node with limits on the way to a path decides. What is kept beside the tree follows from it.

use super::undo::Undo;
use super::{Slot, Tree};
use crate::jute::ErrorCode;
use std::collections::BTreeMap;

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// Paths that have limits, and where those are.
pub type Quotas = BTreeMap<String, Slot>;

/// What stands in the data of limits and stats; -1 is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Track {
    count: i64,
    bytes: i64,
    count_hard: i64,
    bytes_hard: i64,
}

impl Track {
    const NOTHING: Self = Self { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1 };

    /// What the text says; what can't be read is not set.
    fn parse(data: Option<&[u8]>) -> Self {
        let mut track = Self::NOTHING;
        let text = std::str::from_utf8(data.unwrap_or_default()).unwrap_or_default();
        for pair in text.split([',', ';']) {
            let mut parts = pair.split('=');
            let (key, value) = (parts.next(), parts.next().and_then(|v| v.parse().ok()).unwrap_or(-1));
            match key {
                Some("count") => track.count = value,
                Some("bytes") => track.bytes = value,
                Some("countHardLimit") => track.count_hard = value,
                Some("byteHardLimit") => track.bytes_hard = value,
                _ => {}
            }
        }
        track
    }

    /// As the original writes it: hard limits only where there are some.
    fn text(&self) -> String {
        let mut text = format!("count={},bytes={}", self.count, self.bytes);
        if self.count_hard != -1 || self.bytes_hard != -1 {
            text += &format!("=;byteHardLimit={};countHardLimit={}", self.bytes_hard, self.count_hard);
        }
        text
    }
}

/// The path whose limits or stats these are.
fn subject<'a>(path: &'a str, suffix: &str) -> Option<&'a str> {
    path.strip_prefix(ROOT)?.strip_suffix(suffix).filter(|p| !p.is_empty())
}

impl Tree {
    /// The deepest path with limits that is `path` or above it.
    fn governing(&self, path: &str) -> Option<(&str, Slot)> {
        let mut end = path.len();
        loop {
            if let Some((of, slot)) = self.quotas.get_key_value(&path[..end]) {
                return Some((of, *slot));
            }
            end = path[..end].rfind('/').filter(|at| *at > 0)?;
        }
    }

    fn stats_of(&self, of: &str) -> Option<Slot> {
        self.find(&[ROOT, of, STATS].concat())
    }

    /// Whether there is room for so many more nodes and bytes at `path`: the path of the soft limit that is
    /// passed, if one is.
    ///
    /// # Errors
    /// `QuotaExceeded` for a hard limit, if these are enforced.
    pub(super) fn check_quota(
        &self,
        path: &str,
        count: i64,
        bytes: i64,
        enforce: bool,
    ) -> Result<Option<String>, ErrorCode> {
        let Some((of, limits)) = self.governing(path) else { return Ok(None) };
        let Some(stats) = self.stats_of(of) else { return Ok(None) };
        let limits = Track::parse(self.nodes.get(limits).data.as_deref());
        let used = Track::parse(self.nodes.get(stats).data.as_deref());
        let mut passed = false;
        for (change, used, soft, hard) in [
            (count, used.count, limits.count, limits.count_hard),
            (bytes, used.bytes, limits.bytes, limits.bytes_hard),
        ] {
            let new = used.saturating_add(change);
            if change != 0 && hard > -1 && new > hard && enforce {
                return Err(ErrorCode::QuotaExceeded);
            }
            let limit = if hard > -1 { hard } else { soft };
            // Told once: when it is passed, not as long as it is.
            passed |= change > 0 && limit > -1 && new > limit && used <= limit;
        }
        Ok(passed.then(|| of.to_owned()))
    }

    /// So many more nodes and bytes are at `path` now.
    pub(super) fn use_quota(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(stats) = self.governing(path).and_then(|(of, _)| self.stats_of(of)) else { return };
        let mut used = Track::parse(self.nodes.get(stats).data.as_deref());
        used.count = used.count.saturating_add(count);
        used.bytes = used.bytes.saturating_add(bytes);
        self.note_usage(stats, &used);
    }

    /// Writes what is used where people look for it: no version and no watch knows of that.
    fn note_usage(&mut self, stats: Slot, used: &Track) {
        if self.undo.is_some() {
            self.remember_data(stats);
        }
        let text = used.text();
        let was = self.nodes.get(stats).data_len() as i64;
        self.bytes = self.bytes.checked_add_signed(text.len() as i64 - was).expect("bytes are counted");
        self.change(stats, |n| n.set_data(Some(text.as_bytes())));
    }

    /// A node below the quotas' came to be.
    pub(super) fn quota_node_came(&mut self, path: &str, slot: Slot) {
        if let Some(of) = subject(path, LIMITS) {
            let was = self.quotas.insert(of.to_owned(), slot);
            self.remember_limits(of, was);
        } else if let Some(of) = subject(path, STATS) {
            let (count, bytes) = self.measure(of);
            let used = Track { count, bytes, ..Track::NOTHING };
            self.note_usage(slot, &used);
        }
    }

    /// A node below the quotas' is about to go.
    pub(super) fn quota_node_goes(&mut self, path: &str) {
        if let Some(of) = subject(path, LIMITS) {
            let was = self.quotas.remove(of);
            self.remember_limits(of, was);
        }
    }

    fn remember_limits(&mut self, of: &str, was: Option<Slot>) {
        if let Some(undo) = &mut self.undo {
            undo.push(Undo::Limits { of: of.to_owned(), was });
        }
    }

    /// Looks for limits in the tree.
    pub(super) fn find_quotas(&mut self) {
        self.quotas = self.quotas_in_tree();
    }

    fn quotas_in_tree(&self) -> Quotas {
        let mut quotas = Quotas::new();
        let mut open: Vec<Slot> = self.find(ROOT).into_iter().collect();
        while let Some(slot) = open.pop() {
            let node = self.nodes.get(slot);
            if *node.name == LIMITS[1..]
                && let Some(of) = subject(&self.path_of(slot), LIMITS)
            {
                quotas.insert(of.to_owned(), slot);
            }
            open.extend(node.children.iter().flat_map(|c| c.slots()));
        }
        quotas
    }

    /// Whether a quota is set anywhere.
    pub fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Panics if what is kept along is not what is in the tree.
    pub(super) fn check_quotas(&self) {
        assert_eq!(self.quotas, self.quotas_in_tree(), "quotas");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written_as_the_original_does() {
        for (text, track) in [
            ("count=4,bytes=-1", (4, -1, -1, -1)),
            ("count=4,bytes=5=;byteHardLimit=6;countHardLimit=7", (4, 5, 7, 6)),
        ] {
            let read = Track::parse(Some(text.as_bytes()));
            assert_eq!((read.count, read.bytes, read.count_hard, read.bytes_hard), track);
            assert_eq!(read.text(), text);
        }
        for text in ["", "nonsense", "count=,bytes=x", "=;", "count"] {
            assert_eq!(Track::parse(Some(text.as_bytes())), Track::NOTHING, "{text}");
        }
        assert_eq!(Track::parse(None), Track::NOTHING);
    }

    #[test]
    fn subjects_are_behind_the_root_and_before_the_suffix() {
        assert_eq!(subject("/zookeeper/quota/a/b/zookeeper_limits", LIMITS), Some("/a/b"));
        assert_eq!(subject("/zookeeper/quota/zookeeper_limits", LIMITS), None, "the root has no quota");
        assert_eq!(subject("/zookeeper/quota/a/zookeeper_limits", STATS), None);
    }
}
