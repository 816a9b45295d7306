//! Who wants to be told of what? A node's watches in four tables keyed by path, holding which connections watch
//! it: one-shot ones on data and on children, persistent ones on a node, and on a node and all below it. A
//! (connection, path, table) is one entry, however often it is set, and a change is told to a connection once,
//! however many of its watches see it.
//!
//! Watches are local to a node and die with their connection; clients set them again elsewhere.

use crate::jute::EventType;
use crate::txn::Change;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A connection, as its place in the node's table of connections.
pub type Watcher = u32;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Set by `exists` and `getData`: creation, deletion and data of the node itself. One-shot.
    Data,
    /// Set by `getChildren`: its children's coming and going, and its own deletion. One-shot.
    Child,
    /// Set by `addWatch`: all of both, again and again.
    Persistent,
    /// Set by `addWatch`: creation, deletion and data of the node and of all below it, again and again.
    Recursive,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Data, Kind::Child, Kind::Persistent, Kind::Recursive];
}

/// Most paths are watched by one connection: that costs no allocation. Boxed, so that a million of the others take half
/// the room.
#[derive(Clone, Debug)]
enum Watchers {
    One(Watcher),
    #[allow(clippy::box_collection, reason = "a place in the table is as large as the largest of these")]
    Many(Box<BTreeSet<Watcher>>),
}

impl Watchers {
    /// Whether it wasn't in yet.
    fn insert(&mut self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) if *w == watcher => false,
            Watchers::One(w) => {
                *self = Watchers::Many(Box::new(BTreeSet::from([*w, watcher])));
                true
            }
            Watchers::Many(set) => set.insert(watcher),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) => *w == watcher,
            Watchers::Many(set) => {
                set.remove(&watcher);
                set.is_empty()
            }
        }
    }

    fn contains(&self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) => *w == watcher,
            Watchers::Many(set) => set.contains(&watcher),
        }
    }

    fn each(&self, mut f: impl FnMut(Watcher)) {
        match self {
            Watchers::One(w) => f(*w),
            Watchers::Many(set) => set.iter().for_each(|w| f(*w)),
        }
    }
}

type Table = HashMap<Arc<str>, Watchers, FixedState>;

/// Paths in order.
pub type Paths = Vec<Arc<str>>;

/// Gives room back that a table has not needed for long: when it is an eighth full. So each watch that goes pays for less
/// than one that is moved.
fn relax(table: &mut Table) {
    if table.capacity() > 1024 && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

/// What one connection watches, per table.
type Held = [BTreeSet<Arc<str>>; 4];

/// The node holds as many watches as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} watches are set, which is the limit")]
pub struct TooMany {
    /// The limit.
    pub limit: usize,
}

/// All tables.
#[derive(Clone, Debug)]
pub struct Watches {
    tables: [Table; 4],
    held: BTreeMap<Watcher, Held>,
    count: usize,
    limit: usize,
}

impl Watches {
    /// Empty tables that take up to `limit` watches together.
    pub fn new(limit: usize) -> Self {
        let tables = [(); 4].map(|()| Table::with_hasher(FixedState::default()));
        Self { tables, held: BTreeMap::new(), count: 0, limit }
    }

    /// How many watches are set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many connections watch something.
    pub fn watchers(&self) -> usize {
        self.held.len()
    }

    /// How many (table, path) are watched.
    pub fn paths(&self) -> usize {
        self.tables.iter().map(|t| t.len()).sum()
    }

    /// What each connection watches, each path once, up to `max` paths in all; and how many were too many, a path in
    /// two tables counted twice.
    pub fn lists(&self, max: usize) -> (Vec<(Watcher, Paths)>, usize) {
        let (mut lists, mut seen, mut room) = (Vec::new(), 0, max);
        for (&watcher, held) in &self.held {
            if room == 0 {
                break;
            }
            let paths = held.iter().flatten().take(room).inspect(|_| seen += 1);
            let paths: BTreeSet<Arc<str>> = paths.cloned().collect();
            room -= paths.len();
            lists.push((watcher, paths.into_iter().collect()));
        }
        (lists, self.count - seen)
    }

    /// Sets a watch. Setting it again changes nothing.
    ///
    /// # Errors
    /// When the node's limit is reached.
    pub fn set(&mut self, watcher: Watcher, kind: Kind, path: &str) -> Result<(), TooMany> {
        let full = self.count >= self.limit;
        let table = &mut self.tables[kind as usize];
        let key = match table.get_key_value(path) {
            Some((_, watchers)) if watchers.contains(watcher) => return Ok(()),
            _ if full => return Err(TooMany { limit: self.limit }),
            Some((key, _)) => key.clone(),
            None => Arc::from(path),
        };
        let mut fresh = true;
        table.entry(key.clone()).and_modify(|w| fresh = w.insert(watcher)).or_insert(Watchers::One(watcher));
        let inserted = self.held.entry(watcher).or_default()[kind as usize].insert(key);
        assert!(fresh && inserted, "watcher {watcher} of {path} is in one of the tables only");
        self.count += 1;
        Ok(())
    }

    /// Whether a connection has that watch.
    pub fn has(&self, watcher: Watcher, kind: Kind, path: &str) -> bool {
        self.tables[kind as usize].get(path).is_some_and(|w| w.contains(watcher))
    }

    /// Forgets one watch; whether there was one.
    pub fn remove(&mut self, watcher: Watcher, kind: Kind, path: &str) -> bool {
        if !self.has(watcher, kind, path) {
            return false;
        }
        let table = &mut self.tables[kind as usize];
        if table.get_mut(path).expect("just seen").remove(watcher) {
            table.remove(path);
            relax(table);
        }
        self.let_go(watcher, kind, path);
        true
    }

    /// A connection doesn't hold that watch any more.
    fn let_go(&mut self, watcher: Watcher, kind: Kind, path: &str) {
        let held = self.held.get_mut(&watcher).expect("a watcher in a table holds something");
        assert!(held[kind as usize].remove(path), "watcher {watcher} doesn't hold {path}");
        if held.iter().all(BTreeSet::is_empty) {
            self.held.remove(&watcher);
        }
        self.count -= 1;
    }

    /// Forgets all watches of a connection.
    pub fn forget(&mut self, watcher: Watcher) {
        let Some(held) = self.held.remove(&watcher) else { return };
        for (table, paths) in self.tables.iter_mut().zip(held) {
            for path in paths {
                let watchers = table.get_mut(&path).expect("a held watch is in its table");
                if watchers.remove(watcher) {
                    table.remove(&path);
                }
                self.count -= 1;
            }
            relax(table);
        }
    }

    /// Takes out the one-shot watches that `change` triggers and tells of each change once per connection, in the
    /// order in which the events must reach a connection that gets several: the node's own first, then its
    /// parent's.
    pub fn fire(&mut self, change: &Change, mut emit: impl FnMut(Watcher, EventType, &str)) {
        if self.count == 0 {
            return;
        }
        match change {
            Change::Created { path, .. } => {
                self.tell(path, &[Kind::Data], true, |w| emit(w, EventType::NodeCreated, path));
                self.children_changed(path, emit);
            }
            Change::DataChanged { path, .. } => {
                self.tell(path, &[Kind::Data], true, |w| emit(w, EventType::NodeDataChanged, path));
            }
            Change::Deleted { path, .. } => {
                let tables = [Kind::Data, Kind::Child];
                self.tell(path, &tables, true, |w| emit(w, EventType::NodeDeleted, path));
                self.children_changed(path, emit);
            }
            Change::OverQuota { .. } | Change::SessionEnded { .. } | Change::SessionAttached { .. } => {}
        }
    }

    fn children_changed(&mut self, path: &str, mut emit: impl FnMut(Watcher, EventType, &str)) {
        let Some(parent) = parent(path) else { return };
        self.tell(parent, &[Kind::Child], false, |w| emit(w, EventType::NodeChildrenChanged, parent));
    }

    /// Calls `f` once for each connection that has a watch on the path in one of the one-shot tables, which it
    /// loses, or a persistent one; and, if that counts, a recursive one on it or above it.
    fn tell(&mut self, path: &str, once: &[Kind], recursive: bool, mut f: impl FnMut(Watcher)) {
        let mut told = [None, None];
        for (i, kind) in once.iter().enumerate() {
            let table = &mut self.tables[*kind as usize];
            let Some(watchers) = table.remove(path) else { continue };
            relax(table);
            watchers.each(|w| {
                self.let_go(w, *kind, path);
                if !told.iter().flatten().any(|t: &Watchers| t.contains(w)) {
                    f(w);
                }
            });
            told[i] = Some(watchers);
        }
        let [.., standing, below] = &self.tables;
        if standing.is_empty() && below.is_empty() {
            return;
        }
        let above =
            std::iter::successors(Some(path).filter(|_| recursive && !below.is_empty()), |p| parent(p));
        let lists = standing.get(path).into_iter().chain(above.filter_map(|p| below.get(p)));
        let mut again: Vec<&Watchers> = Vec::new();
        for watchers in lists {
            watchers.each(|w| {
                if !told.iter().flatten().chain(again.iter().copied()).any(|t| t.contains(w)) {
                    f(w);
                }
            });
            again.push(watchers);
        }
    }
}

/// The path above.
fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Readers;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(Watcher, usize, usize),
        Remove(Watcher, usize, usize),
        Fire(u8, usize),
        Forget(Watcher),
    }

    const PATHS: [&str; 5] = ["/", "/a", "/a/b", "/a/b/c", "/d"];

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u32..5, 0usize..4, 0..PATHS.len()).prop_map(|(w, k, p)| Step::Set(w, k, p)),
            2 => (0u32..5, 0usize..4, 0..PATHS.len()).prop_map(|(w, k, p)| Step::Remove(w, k, p)),
            3 => (0u8..3, 1..PATHS.len()).prop_map(|(k, p)| Step::Fire(k, p)),
            1 => (0u32..5).prop_map(Step::Forget),
        ]
    }

    fn change(kind: u8, path: &str) -> Change {
        let (path, readers) = (path.into(), Readers::default());
        match kind {
            0 => Change::Created { path, readers },
            1 => Change::Deleted { path, readers },
            _ => Change::DataChanged { path, readers },
        }
    }

    type Set = BTreeSet<(Watcher, usize, String)>;

    /// The trigger table, read off a plain set of (watcher, table, path).
    fn model(set: &mut Set, kind: u8, path: &str) -> Vec<(Watcher, i32, String)> {
        let parent = path.rsplit_once('/').map(|(p, _)| if p.is_empty() { "/" } else { p }).unwrap();
        let mut out = Vec::new();
        for w in 0..5 {
            let data = set.remove(&(w, 0, path.into()));
            let child = kind == 1 && set.remove(&(w, 1, path.into()));
            let standing = set.contains(&(w, 2, path.into()));
            let recursive = PATHS.iter().any(|p| {
                let above = *p == "/" || *p == path || path.starts_with(&format!("{p}/"));
                above && set.contains(&(w, 3, p.to_string()))
            });
            if data || child || standing || recursive {
                out.push((w, [1, 2, 3][usize::from(kind)], path.to_string()));
            }
            if kind != 2 {
                let child = set.remove(&(w, 1, parent.into()));
                if child || set.contains(&(w, 2, parent.into())) {
                    out.push((w, 4, parent.to_string()));
                }
            }
        }
        out.sort();
        out
    }

    proptest! {
        #[test]
        fn tables_fire_as_the_trigger_table_says(steps in prop::collection::vec(step(), 0..60)) {
            let mut watches = Watches::new(1000);
            let mut set = Set::new();
            for s in steps {
                match s {
                    Step::Set(w, k, p) => {
                        watches.set(w, Kind::ALL[k], PATHS[p]).unwrap();
                        set.insert((w, k, PATHS[p].to_string()));
                        prop_assert!(watches.has(w, Kind::ALL[k], PATHS[p]));
                    }
                    Step::Remove(w, k, p) => {
                        let was = set.remove(&(w, k, PATHS[p].to_string()));
                        prop_assert_eq!(watches.remove(w, Kind::ALL[k], PATHS[p]), was);
                        prop_assert!(!watches.has(w, Kind::ALL[k], PATHS[p]));
                    }
                    Step::Forget(w) => {
                        watches.forget(w);
                        set.retain(|e| e.0 != w);
                    }
                    Step::Fire(kind, p) => {
                        let mut got = Vec::new();
                        watches.fire(&change(kind, PATHS[p]), |w, e, path| got.push((w, e as i32, path.to_string())));
                        // A node's own event comes before its parent's.
                        let parent_at = got.iter().position(|e| e.1 == 4).unwrap_or(got.len());
                        prop_assert!(got[parent_at..].iter().all(|e| e.1 == 4));
                        got.sort();
                        prop_assert_eq!(got, model(&mut set, kind, PATHS[p]));
                    }
                }
                prop_assert_eq!(watches.count(), set.len());
                let watchers: BTreeSet<Watcher> = set.iter().map(|e| e.0).collect();
                prop_assert_eq!(watches.watchers(), watchers.len());
                let paths: BTreeSet<(usize, &String)> = set.iter().map(|e| (e.1, &e.2)).collect();
                prop_assert_eq!(watches.paths(), paths.len());
            }
        }
    }

    /// What is watched in each table, and what each change then tells: the protocol's table, row by row.
    #[test]
    fn each_kind_of_watch_sees_what_it_should() {
        use EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
        // Watched is /a/b; the changes are to /a/b, to a child of it and to a grandchild.
        let rows: [(Kind, [&[EventType]; 3]); 4] = [
            (Kind::Data, [&[NodeCreated], &[], &[]]),
            // After its node has gone it is no more.
            (Kind::Child, [&[NodeDeleted], &[NodeChildrenChanged], &[]]),
            (
                Kind::Persistent,
                [
                    &[NodeCreated, NodeDataChanged, NodeDeleted],
                    &[NodeChildrenChanged, NodeChildrenChanged],
                    &[],
                ],
            ),
            (
                Kind::Recursive,
                [
                    &[NodeCreated, NodeDataChanged, NodeDeleted],
                    &[NodeCreated, NodeDataChanged, NodeDeleted],
                    &[NodeCreated, NodeDataChanged, NodeDeleted],
                ],
            ),
        ];
        for (kind, expected) in rows {
            for (path, expected) in ["/a/b", "/a/b/c", "/a/b/c/d"].into_iter().zip(expected) {
                let mut watches = Watches::new(10);
                watches.set(1, kind, "/a/b").unwrap();
                let mut got = Vec::new();
                for what in [0, 2, 1] {
                    watches.fire(&change(what, path), |_, e, _| got.push(e));
                }
                assert_eq!(got, expected, "{kind:?} {path}");
            }
        }
    }

    #[test]
    fn the_limit_is_kept_and_setting_again_is_free() {
        let mut watches = Watches::new(2);
        watches.set(1, Kind::Data, "/a").unwrap();
        watches.set(1, Kind::Child, "/a").unwrap();
        watches.set(1, Kind::Data, "/a").unwrap();
        assert_eq!(watches.set(2, Kind::Data, "/a"), Err(TooMany { limit: 2 }));
        watches.forget(1);
        assert_eq!(watches.count(), 0);
        watches.set(2, Kind::Data, "/a").unwrap();
    }
}
