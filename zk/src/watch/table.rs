//! Which connections watch a path, of one kind of watch? A hash table in many parts, each of which grows and shrinks by
//! itself: a table of a million paths that doubles at once looks at all of them, and nobody is answered meanwhile.

use super::Watcher;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Parts. At a million paths one part has 4,000, and no watch moves more.
const PARTS: usize = 256;
/// The part is chosen by the hash's bits from here on, which choose nothing within a part.
const PART_SHIFT: u32 = 40;

/// Most paths are watched by one connection: that costs no allocation. The others are shared with events that are being
/// told, and copied only if they change meanwhile.
#[derive(Clone, Debug)]
pub enum Watchers {
    /// One connection.
    One(Watcher),
    /// Several.
    Many(Arc<BTreeSet<Watcher>>),
}

impl Watchers {
    /// Whether it wasn't in yet.
    fn insert(&mut self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) if *w == watcher => false,
            Watchers::One(w) => {
                *self = Watchers::Many(Arc::new(BTreeSet::from([*w, watcher])));
                true
            }
            Watchers::Many(set) => Arc::make_mut(set).insert(watcher),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) => *w == watcher,
            Watchers::Many(set) => {
                let set = Arc::make_mut(set);
                set.remove(&watcher);
                set.is_empty()
            }
        }
    }

    /// How many.
    #[allow(clippy::len_without_is_empty, reason = "there is none without")]
    pub fn len(&self) -> usize {
        match self {
            Watchers::One(_) => 1,
            Watchers::Many(set) => set.len(),
        }
    }

    /// Whether this one is among them.
    pub fn contains(&self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) => *w == watcher,
            Watchers::Many(set) => set.contains(&watcher),
        }
    }

    /// The first from this number on.
    pub fn at_or_after(&self, watcher: Watcher) -> Option<Watcher> {
        match self {
            Watchers::One(w) => Some(*w).filter(|w| *w >= watcher),
            Watchers::Many(set) => set.range(watcher..).next().copied(),
        }
    }

    /// All of them, ascending.
    pub fn each(&self, mut f: impl FnMut(Watcher)) {
        match self {
            Watchers::One(w) => f(*w),
            Watchers::Many(set) => set.iter().for_each(|w| f(*w)),
        }
    }
}

type Part = HashTable<(Arc<str>, Watchers)>;

/// The watches of one kind.
#[derive(Clone, Debug)]
pub(super) struct Table {
    parts: Box<[Part]>,
    len: usize,
}

fn hash_of(path: &str) -> u64 {
    FixedState::default().hash_one(path)
}

/// Gives room back that a part has not needed for long: when it is an eighth full. So each watch that goes pays for less
/// than one that is moved.
fn relax(part: &mut Part) {
    if part.capacity() > 64 && part.len() < part.capacity() / 8 {
        part.shrink_to(2 * part.len(), |(path, _)| hash_of(path));
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self { parts: std::iter::repeat_with(Part::new).take(PARTS).collect(), len: 0 }
    }

    /// Paths that are watched.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    const fn part(hash: u64) -> usize {
        (hash >> PART_SHIFT) as usize % PARTS
    }

    pub(super) fn get(&self, path: &str) -> Option<&Watchers> {
        self.get_key_value(path).map(|(_, watchers)| watchers)
    }

    pub(super) fn get_key_value(&self, path: &str) -> Option<&(Arc<str>, Watchers)> {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(path);
        self.parts[Self::part(hash)].find(hash, |(p, _)| **p == *path)
    }

    /// Adds a watch; whether it wasn't in yet.
    pub(super) fn insert(&mut self, path: Arc<str>, watcher: Watcher) -> bool {
        let hash = hash_of(&path);
        let part = &mut self.parts[Self::part(hash)];
        match part.entry(hash, |(p, _)| *p == path, |(p, _)| hash_of(p)) {
            Entry::Occupied(mut entry) => entry.get_mut().1.insert(watcher),
            Entry::Vacant(entry) => {
                entry.insert((path, Watchers::One(watcher)));
                self.len += 1;
                true
            }
        }
    }

    /// Removes one watch, which is in.
    pub(super) fn remove_one(&mut self, path: &str, watcher: Watcher) {
        let hash = hash_of(path);
        let part = &mut self.parts[Self::part(hash)];
        let mut entry = part.find_entry(hash, |(p, _)| **p == *path).expect("the watch is in");
        if entry.get_mut().1.remove(watcher) {
            entry.remove();
            self.len -= 1;
            relax(part);
        }
    }

    /// Takes all watches of a path out.
    pub(super) fn take(&mut self, path: &str) -> Option<(Arc<str>, Watchers)> {
        if self.is_empty() {
            return None;
        }
        let hash = hash_of(path);
        let part = &mut self.parts[Self::part(hash)];
        let (taken, _) = part.find_entry(hash, |(p, _)| **p == *path).ok()?.remove();
        self.len -= 1;
        relax(part);
        Some(taken)
    }
}
