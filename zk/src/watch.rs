//! Who wants to be told of what? A node's one-shot watches: a data table and a child table, keyed by path,
//! holding which connections watch it. A (connection, path, table) is one entry, however often it is set.
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
    /// Set by `exists` and `getData`: creation, deletion and data of the node itself.
    Data,
    /// Set by `getChildren`: its children's coming and going, and its own deletion.
    Child,
}

/// Most paths are watched by one connection: that costs no allocation.
#[derive(Clone, Debug)]
enum Watchers {
    One(Watcher),
    Many(BTreeSet<Watcher>),
}

impl Watchers {
    /// Whether it wasn't in yet.
    fn insert(&mut self, watcher: Watcher) -> bool {
        match self {
            Watchers::One(w) if *w == watcher => false,
            Watchers::One(w) => {
                *self = Watchers::Many(BTreeSet::from([*w, watcher]));
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

/// What one connection watches, per table.
#[derive(Clone, Debug, Default)]
struct Held {
    data: BTreeSet<Arc<str>>,
    child: BTreeSet<Arc<str>>,
}

impl Held {
    fn of(&mut self, kind: Kind) -> &mut BTreeSet<Arc<str>> {
        match kind {
            Kind::Data => &mut self.data,
            Kind::Child => &mut self.child,
        }
    }
}

/// The node holds as many watches as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} watches are set, which is the limit")]
pub struct TooMany {
    /// The limit.
    pub limit: usize,
}

/// Both tables.
#[derive(Clone, Debug)]
pub struct Watches {
    data: Table,
    child: Table,
    held: BTreeMap<Watcher, Held>,
    count: usize,
    limit: usize,
}

impl Watches {
    /// Empty tables that take up to `limit` watches together.
    pub fn new(limit: usize) -> Self {
        let table = || Table::with_hasher(FixedState::default());
        Self { data: table(), child: table(), held: BTreeMap::new(), count: 0, limit }
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
        self.data.len() + self.child.len()
    }

    /// Sets a watch. Setting it again changes nothing.
    ///
    /// # Errors
    /// When the node's limit is reached.
    pub fn set(&mut self, watcher: Watcher, kind: Kind, path: &str) -> Result<(), TooMany> {
        let full = self.count >= self.limit;
        let table = match kind {
            Kind::Data => &mut self.data,
            Kind::Child => &mut self.child,
        };
        let key = match table.get_key_value(path) {
            Some((_, watchers)) if watchers.contains(watcher) => return Ok(()),
            _ if full => return Err(TooMany { limit: self.limit }),
            Some((key, _)) => key.clone(),
            None => Arc::from(path),
        };
        let mut fresh = true;
        table.entry(key.clone()).and_modify(|w| fresh = w.insert(watcher)).or_insert(Watchers::One(watcher));
        let inserted = self.held.entry(watcher).or_default().of(kind).insert(key);
        assert!(fresh && inserted, "watcher {watcher} of {path} is in one of the tables only");
        self.count += 1;
        Ok(())
    }

    /// Forgets all watches of a connection.
    pub fn forget(&mut self, watcher: Watcher) {
        let Some(held) = self.held.remove(&watcher) else { return };
        for (table, paths) in [(&mut self.data, held.data), (&mut self.child, held.child)] {
            for path in paths {
                let watchers = table.get_mut(&path).expect("a held watch is in its table");
                if watchers.remove(watcher) {
                    table.remove(&path);
                }
                self.count -= 1;
            }
        }
    }

    /// Takes out the watches that `change` triggers and tells of each, in the order in which the events must
    /// reach a connection that gets several: the node's own first, then its parent's.
    pub fn fire(&mut self, change: &Change, mut emit: impl FnMut(Watcher, EventType, &str)) {
        if self.count == 0 {
            return;
        }
        match change {
            Change::Created { path } => {
                self.take(Kind::Data, path, |w| emit(w, EventType::NodeCreated, path));
                self.children_changed(path, emit);
            }
            Change::DataChanged { path } => {
                self.take(Kind::Data, path, |w| emit(w, EventType::NodeDataChanged, path));
            }
            Change::Deleted { path } => {
                let mut told = None;
                if let Some(watchers) = self.take(Kind::Data, path, |w| emit(w, EventType::NodeDeleted, path))
                {
                    told = Some(watchers);
                }
                self.take(Kind::Child, path, |w| {
                    if !told.as_ref().is_some_and(|t| t.contains(w)) {
                        emit(w, EventType::NodeDeleted, path);
                    }
                });
                self.children_changed(path, emit);
            }
            Change::SessionEnded { .. } | Change::SessionAttached { .. } => {}
        }
    }

    fn children_changed(&mut self, path: &str, mut emit: impl FnMut(Watcher, EventType, &str)) {
        let Some(cut) = path.rfind('/') else { return };
        let parent = if cut == 0 { "/" } else { &path[..cut] };
        self.take(Kind::Child, parent, |w| emit(w, EventType::NodeChildrenChanged, parent));
    }

    /// Takes out all watches of a path in one table and calls `f` for each.
    fn take(&mut self, kind: Kind, path: &str, mut f: impl FnMut(Watcher)) -> Option<Watchers> {
        let table = match kind {
            Kind::Data => &mut self.data,
            Kind::Child => &mut self.child,
        };
        let watchers = table.remove(path)?;
        let (held, count) = (&mut self.held, &mut self.count);
        watchers.each(|w| {
            let of = held.get_mut(&w).expect("a watcher in a table holds something");
            assert!(of.of(kind).remove(path), "watcher {w} doesn't hold {path}");
            if of.data.is_empty() && of.child.is_empty() {
                held.remove(&w);
            }
            *count -= 1;
            f(w);
        });
        Some(watchers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(Watcher, bool, usize),
        Fire(u8, usize),
        Forget(Watcher),
    }

    const PATHS: [&str; 5] = ["/", "/a", "/a/b", "/a/b/c", "/d"];

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..5, any::<bool>(), 0..PATHS.len()).prop_map(|(w, c, p)| Step::Set(w, c, p)),
            2 => (0u8..3, 1..PATHS.len()).prop_map(|(k, p)| Step::Fire(k, p)),
            1 => (0u32..5).prop_map(Step::Forget),
        ]
    }

    fn change(kind: u8, path: &str) -> Change {
        let path = path.into();
        match kind {
            0 => Change::Created { path },
            1 => Change::Deleted { path },
            _ => Change::DataChanged { path },
        }
    }

    /// The trigger table, read off a plain set of (watcher, is it a child watch, path).
    fn model(
        set: &mut BTreeSet<(Watcher, bool, String)>,
        kind: u8,
        path: &str,
    ) -> Vec<(Watcher, i32, String)> {
        let parent = path.rsplit_once('/').map(|(p, _)| if p.is_empty() { "/" } else { p }).unwrap();
        let mut out = BTreeSet::new();
        for w in 0..5 {
            let own_data = set.remove(&(w, false, path.into()));
            let own_child = kind == 1 && set.remove(&(w, true, path.into()));
            let event = [1, 2, 3][usize::from(kind)];
            if own_data || own_child {
                out.insert((w, event, path.to_string()));
            }
            if kind != 2 && set.remove(&(w, true, parent.into())) {
                out.insert((w, 4, parent.to_string()));
            }
        }
        out.into_iter().collect()
    }

    proptest! {
        #[test]
        fn tables_fire_as_the_trigger_table_says(steps in prop::collection::vec(step(), 0..60)) {
            let mut watches = Watches::new(1000);
            let mut set = BTreeSet::new();
            for s in steps {
                match s {
                    Step::Set(w, child, p) => {
                        watches.set(w, if child { Kind::Child } else { Kind::Data }, PATHS[p]).unwrap();
                        set.insert((w, child, PATHS[p].to_string()));
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
                let paths: BTreeSet<(bool, &String)> = set.iter().map(|e| (e.1, &e.2)).collect();
                prop_assert_eq!(watches.paths(), paths.len());
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
