//! Where were the orderers when this node last heard of them? A small file in its data directory: a node that starts
//! again finds them though none is left of those in its cluster file.

use std::path::Path;
use zoolog_core::rt::datadir::write_durably;

const NAME: &str = "orderers";

/// Writes them down; that it couldn't is only worth a line in the log.
pub fn remember(dir: &Path, addrs: &[String]) {
    let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
    if recall(dir) != addrs
        && let Err(e) = write_durably(&dir.join(NAME), text.as_bytes())
    {
        tracing::warn!("the orderers of now are not remembered: {e}");
    }
}

/// Those that were written down; none if that never happened.
pub fn recall(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join(NAME)).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// Those of now as far as is remembered, then those of the cluster file.
pub fn with_configured(dir: &Path, configured: &[String]) -> Vec<String> {
    let mut all = recall(dir);
    let new = configured.iter().filter(|addr| !all.contains(addr)).cloned().collect::<Vec<_>>();
    all.extend(new);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_last_comes_first_and_what_is_configured_stays() {
        let dir = tempfile::tempdir().unwrap();
        let list = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let configured = list(&["a:1", "b:1"]);
        assert_eq!(with_configured(dir.path(), &configured), configured);
        remember(dir.path(), &list(&["b:1", "d:1"]));
        assert_eq!(with_configured(dir.path(), &configured), list(&["b:1", "d:1", "a:1"]));
        remember(dir.path(), &list(&["d:1"]));
        assert_eq!(recall(dir.path()), list(&["d:1"]));
    }
}
