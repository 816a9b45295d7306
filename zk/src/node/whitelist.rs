//! Which four-letter words are answered? ZooKeeper's `4lw.commands.whitelist`.

use std::collections::BTreeSet;

/// All that there are, in the original or here.
pub const WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr",
    "stat", "stmk", "wchc", "wchp", "wchs",
];

/// Answered unless set otherwise: those that change nothing and name no node of the tree.
pub const DEFAULT_WORDS: [&str; 11] =
    ["conf", "cons", "dirs", "envi", "hash", "isro", "mntr", "ruok", "srvr", "stat", "wchs"];

/// Words that are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whitelist(BTreeSet<&'static str>);

impl Default for Whitelist {
    fn default() -> Self {
        Self(DEFAULT_WORDS.into())
    }
}

impl Whitelist {
    /// From a list with commas, or `*` for all of them. Also gives the names in it that are no word's.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut words, mut unknown) = (BTreeSet::new(), Vec::new());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match WORDS.iter().find(|w| **w == name) {
                _ if name == "*" => words.extend(WORDS),
                Some(word) => drop(words.insert(*word)),
                None => unknown.push(name.to_string()),
            }
        }
        (Self(words), unknown)
    }

    /// Whether that one is answered.
    pub fn has(&self, word: &[u8]) -> bool {
        std::str::from_utf8(word).is_ok_and(|w| self.0.contains(w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_original_does() {
        let (some, unknown) = Whitelist::parse(" ruok, mntr,,nope ");
        assert!(some.has(b"ruok") && some.has(b"mntr") && !some.has(b"srvr"));
        assert_eq!(unknown, ["nope"]);
        let (all, unknown) = Whitelist::parse("*");
        assert!(WORDS.iter().all(|w| all.has(w.as_bytes())) && unknown.is_empty());
        assert_eq!(Whitelist::parse(""), (Whitelist(BTreeSet::new()), vec![]));
        let usual = Whitelist::default();
        assert!(usual.has(b"srvr") && !usual.has(b"wchp") && !usual.has(b"srst"));
    }
}
