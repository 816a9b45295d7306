//! Where does a state differ from what it should be? A node that stops because it differs leaves its outline; when it has
//! made its state anew, and comes to the same position, it says which parts have become others.

use super::State;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use zoolog_core::Gsn;

/// Parts of the tree at most.
const PARTS_MAX: usize = 1024;
/// What sessions are called, which have no path.
const SESSIONS: &str = "(sessions)";

/// Hashes of a state's parts at a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// First position that it doesn't hold.
    pub at: Gsn,
    parts: BTreeMap<String, u64>,
}

impl State {
    /// Of this state as it is now. Reads all of it.
    pub fn outline(&self) -> Outline {
        let mut parts = self.tree.outline(PARTS_MAX);
        parts.insert(SESSIONS.into(), self.sessions.hash_from_scratch());
        Outline { at: self.applied, parts }
    }

    /// Which parts are different here, if this is the position of the outline.
    pub fn differing(&self, outline: &Outline) -> Vec<String> {
        let mut parts = outline.parts.clone();
        let sessions = parts.remove(SESSIONS);
        let mut differing = self.tree.differing(&parts);
        if sessions != Some(self.sessions.hash_from_scratch()) {
            differing.push(SESSIONS.into());
        }
        differing
    }
}

impl fmt::Display for Outline {
    /// As a file holds it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.at)?;
        self.parts.iter().try_for_each(|(path, hash)| writeln!(f, "{hash:016x} {path}"))
    }
}

impl FromStr for Outline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let at = lines.next().and_then(|at| at.parse().ok()).ok_or("it begins with no position")?;
        let part = |line: &str| {
            let (hash, path) = line.split_once(' ')?;
            Some((path.to_owned(), u64::from_str_radix(hash, 16).ok()?))
        };
        let parts = lines.map(|line| part(line).ok_or_else(|| format!("`{line}` is no part")));
        Ok(Self { at: Gsn(at), parts: parts.collect::<Result<_, _>>()? })
    }
}
