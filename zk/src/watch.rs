//! Who wants to be told of what? A node's watches in four tables keyed by path, holding which connections watch
//! it: one-shot ones on data and on children, persistent ones on a node, and on a node and all below it. A
//! (connection, path, table) is one entry, however often it is set, and a change is told to a connection once,
//! however many of its watches see it.
//!
//! Watches are local to a node and die with their connection; clients set them again elsewhere.
//!
//! # Nobody waits for many
//! What a table says counts; what a connection holds is a list of where it may have something, which is put in order
//! later. So a change takes all one-shot watches of a path out at once, however many, and hands the crowd on as a whole
//! ([`Told::Crowd`]); a connection that goes hands in its list. Both are tidied up in steps ([`Watches::tidy`]).

mod table;

use crate::jute::EventType;
use crate::txn::Change;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use table::Table;
pub use table::Watchers;

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

/// Who is told of an event.
#[derive(Debug)]
pub enum Told {
    /// One connection.
    One(Watcher),
    /// All that are in one of these lists, each once.
    Crowd(Vec<Watchers>),
}

/// Paths in order.
pub type Paths = Vec<Arc<str>>;

/// What one connection watches, per table.
type Held = [BTreeSet<Arc<str>>; 4];

/// The node holds as many watches as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} watches are set, which is the limit")]
pub struct TooMany {
    /// The limit.
    pub limit: usize,
}

/// Connections that were taken out of a table as a whole, and may still hold what they lost.
#[derive(Clone, Debug)]
struct Lost {
    kind: usize,
    path: Arc<str>,
    watchers: Watchers,
    /// The first that was not looked at.
    next: Watcher,
}

/// All tables.
#[derive(Clone, Debug)]
pub struct Watches {
    tables: [Table; 4],
    /// Where a connection may have a watch: all that the tables have of it are among these.
    held: BTreeMap<Watcher, Held>,
    lost: VecDeque<Lost>,
    /// Connections that have gone, and what of theirs may still be in tables.
    going: BTreeMap<Watcher, Held>,
    count: usize,
    limit: usize,
    /// How many more events of this turn are told one by one, of so many.
    at_once: usize,
    at_once_max: usize,
}

impl Watches {
    /// Empty tables that take up to `limit` watches together. In a turn `at_once` events are told one by one, beside those
    /// that only one connection hears.
    pub fn new(limit: usize, at_once: usize) -> Self {
        Self {
            tables: [(); 4].map(|()| Table::new()),
            held: BTreeMap::new(),
            lost: VecDeque::new(),
            going: BTreeMap::new(),
            count: 0,
            limit,
            at_once,
            at_once_max: at_once,
        }
    }

    /// A turn begins.
    pub fn turn(&mut self) {
        self.at_once = self.at_once_max;
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
            let all = held.iter().zip(&self.tables).flat_map(|(paths, table)| {
                paths.iter().filter(move |path| table.get(path).is_some_and(|w| w.contains(watcher)))
            });
            let paths: BTreeSet<Arc<str>> = all.take(room).inspect(|_| seen += 1).cloned().collect();
            if paths.is_empty() {
                continue; // all it holds was just taken out
            }
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
        let fresh = table.insert(key.clone(), watcher);
        assert!(fresh, "watcher {watcher} of {path} was not in the table a moment ago");
        // It may still hold one that was just taken out.
        self.held.entry(watcher).or_default()[kind as usize].insert(key);
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
        self.tables[kind as usize].remove_one(path, watcher);
        self.let_go(watcher, kind as usize, path);
        self.count -= 1;
        true
    }

    /// A connection doesn't hold that watch any more; one that has gone holds nothing.
    fn let_go(&mut self, watcher: Watcher, kind: usize, path: &str) {
        let Some(held) = self.held.get_mut(&watcher) else { return };
        held[kind].remove(path);
        if held.iter().all(BTreeSet::is_empty) {
            self.held.remove(&watcher);
        }
    }

    /// Forgets all watches of a connection, in steps. Until [`Watches::tidy`] says that it is done, its number may be told
    /// of events, and is not to be used again.
    pub fn forget(&mut self, watcher: Watcher) {
        if let Some(held) = self.held.remove(&watcher) {
            let before = self.going.insert(watcher, held);
            assert!(before.is_none(), "watcher {watcher} was used again too early");
        }
    }

    /// Whether watches of a connection that has gone are still being forgotten.
    pub fn is_forgetting(&self, watcher: Watcher) -> bool {
        self.going.contains_key(&watcher)
    }

    /// Whether [`Watches::tidy`] has something to do.
    pub fn is_untidy(&self) -> bool {
        !self.going.is_empty() || !self.lost.is_empty()
    }

    /// Looks at `max` watches that were taken out, or whose connections have gone, and forgets them. `done` hears of
    /// each connection all of whose watches are forgotten.
    pub fn tidy(&mut self, max: usize, mut done: impl FnMut(Watcher)) {
        let mut left = max;
        while left > 0
            && let Some(mut lost) = self.lost.pop_front()
        {
            while left > 0
                && let Some(watcher) = lost.watchers.at_or_after(lost.next)
            {
                left -= 1;
                lost.next = watcher + 1;
                // Unless it has set it again.
                if !self.tables[lost.kind].get(&lost.path).is_some_and(|w| w.contains(watcher)) {
                    self.let_go(watcher, lost.kind, &lost.path);
                }
            }
            if lost.watchers.at_or_after(lost.next).is_some() {
                self.lost.push_front(lost);
            }
        }
        while left > 0
            && let Some(mut going) = self.going.first_entry()
        {
            let watcher = *going.key();
            let paths = going.get_mut().iter_mut().enumerate();
            let Some((kind, path)) = paths.filter_map(|(kind, p)| Some((kind, p.pop_first()?))).next() else {
                going.remove();
                done(watcher);
                continue;
            };
            left -= 1;
            if self.tables[kind].get(&path).is_some_and(|w| w.contains(watcher)) {
                self.tables[kind].remove_one(&path, watcher);
                self.count -= 1;
            }
        }
    }

    /// Takes out the one-shot watches that `change` triggers and tells of each change once per connection, in the
    /// order in which the events must reach a connection that gets several: the node's own first, then its
    /// parent's. Of connections that go, some may be told.
    pub fn fire(&mut self, change: &Change, mut emit: impl FnMut(Told, EventType, &str)) {
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

    fn children_changed(&mut self, path: &str, mut emit: impl FnMut(Told, EventType, &str)) {
        let Some(parent) = parent(path) else { return };
        self.tell(parent, &[Kind::Child], false, |w| emit(w, EventType::NodeChildrenChanged, parent));
    }

    /// Calls `f` for the connections that have a watch on the path in one of the one-shot tables, which they lose, or a
    /// persistent one; and, if that counts, a recursive one on it or above it.
    fn tell(&mut self, path: &str, once: &[Kind], recursive: bool, mut f: impl FnMut(Told)) {
        let mut lists: Vec<Watchers> = Vec::new();
        for kind in once.iter().map(|k| *k as usize) {
            let Some((key, watchers)) = self.tables[kind].take(path) else { continue };
            self.count -= watchers.len();
            match watchers {
                Watchers::One(watcher) => self.let_go(watcher, kind, path),
                Watchers::Many(_) => {
                    let watchers = watchers.clone();
                    self.lost.push_back(Lost { kind, path: key, watchers, next: 0 });
                }
            }
            lists.push(watchers);
        }
        let [.., standing, below] = &self.tables;
        if !standing.is_empty() || !below.is_empty() {
            let above =
                std::iter::successors(Some(path).filter(|_| recursive && !below.is_empty()), |p| parent(p));
            lists.extend(standing.get(path).into_iter().chain(above.filter_map(|p| below.get(p))).cloned());
        }
        let total: usize = lists.iter().map(Watchers::len).sum();
        match total {
            0 => {}
            _ if total > 1 && total > self.at_once => f(Told::Crowd(lists)),
            _ => {
                self.at_once = self.at_once.saturating_sub(total);
                for (i, list) in lists.iter().enumerate() {
                    list.each(|w| {
                        if !lists[..i].iter().any(|l| l.contains(w)) {
                            f(Told::One(w));
                        }
                    });
                }
            }
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
            1 => Change::Deleted { path, readers, ephemeral: None },
            _ => Change::DataChanged { path, readers },
        }
    }

    /// Whom an event is told, each once.
    fn each(told: Told) -> BTreeSet<Watcher> {
        let mut all = BTreeSet::new();
        match told {
            Told::One(w) => all.extend([w]),
            Told::Crowd(lists) => lists.iter().for_each(|l| l.each(|w| all.extend([w]))),
        }
        all
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
        fn tables_fire_as_the_trigger_table_says(
            steps in prop::collection::vec(step(), 0..60),
            crowds in any::<bool>(),
            tidy in 0usize..4,
        ) {
            let mut watches = Watches::new(1000, 512);
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
                        let mut steps = 0;
                        while watches.is_forgetting(w) {
                            watches.tidy(tidy + 1, |done| assert_eq!(done, w));
                            steps += 1;
                        }
                        prop_assert!(steps < 200);
                    }
                    Step::Fire(kind, p) => {
                        let mut got = Vec::new();
                        if crowds {
                            watches.at_once = 0;
                        }
                        watches.fire(&change(kind, PATHS[p]), |told, e, path| {
                            for w in each(told) {
                                got.push((w, e as i32, path.to_string()));
                            }
                        });
                        // A node's own event comes before its parent's.
                        let parent_at = got.iter().position(|e| e.1 == 4).unwrap_or(got.len());
                        prop_assert!(got[parent_at..].iter().all(|e| e.1 == 4));
                        got.sort();
                        prop_assert_eq!(got, model(&mut set, kind, PATHS[p]));
                    }
                }
                prop_assert_eq!(watches.count(), set.len());
                watches.tidy(tidy, |w| panic!("nobody goes, nor {w}"));
                let lists: Set = watches.lists(1000).0.into_iter().flat_map(|(w, paths)| {
                    paths.into_iter().map(move |p| (w, 0, p.to_string()))
                }).collect();
                prop_assert_eq!(lists, set.iter().map(|e| (e.0, 0, e.2.clone())).collect::<Set>());
                let paths: BTreeSet<(usize, &String)> = set.iter().map(|e| (e.1, &e.2)).collect();
                prop_assert_eq!(watches.paths(), paths.len());
            }
            watches.tidy(10_000, |_| {});
            prop_assert!(!watches.is_untidy());
            let watchers: BTreeSet<Watcher> = set.iter().map(|e| e.0).collect();
            prop_assert_eq!(watches.watchers(), watchers.len());
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
                let mut watches = Watches::new(10, 512);
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
        let mut watches = Watches::new(2, 512);
        watches.set(1, Kind::Data, "/a").unwrap();
        watches.set(1, Kind::Child, "/a").unwrap();
        watches.set(1, Kind::Data, "/a").unwrap();
        assert_eq!(watches.set(2, Kind::Data, "/a"), Err(TooMany { limit: 2 }));
        watches.forget(1);
        assert_eq!(watches.count(), 2, "nothing is forgotten but in steps");
        let mut done = Vec::new();
        watches.tidy(1, |w| done.push(w));
        assert_eq!((watches.count(), &done[..]), (1, &[][..]));
        watches.tidy(2, |w| done.push(w));
        assert_eq!((watches.count(), &done[..], watches.is_untidy()), (0, &[1][..], false));
        watches.set(2, Kind::Data, "/a").unwrap();
    }
    /// However many watch a node: no more are told one by one than a turn may tell, and the rest comes as one.
    #[test]
    fn a_crowd_is_handed_on_as_one() {
        let mut watches = Watches::new(200_000, 512);
        (0..100_000).for_each(|w| watches.set(w, Kind::Data, "/a").unwrap());
        watches.set(7, Kind::Data, "/b").unwrap();
        let mut told = Vec::new();
        watches.fire(&change(2, "/a"), |t, _, _| told.push(t));
        watches.fire(&change(2, "/b"), |t, _, _| told.push(t));
        assert!(matches!(&told[..], [Told::Crowd(lists), Told::One(7)] if lists[0].len() == 100_000));
        assert_eq!((watches.count(), watches.watchers()), (0, 100_000));
        // Whoever sets it again keeps it, though what it lost is not tidied up yet.
        watches.set(99_999, Kind::Data, "/a").unwrap();
        let mut steps = 0;
        while watches.is_untidy() {
            watches.tidy(1000, |_| {});
            steps += 1;
        }
        assert!((100..110).contains(&steps), "{steps}");
        assert_eq!((watches.count(), watches.watchers()), (1, 1));
        assert!(watches.remove(99_999, Kind::Data, "/a"));
    }

    #[test]
    fn so_many_events_of_a_turn_are_told_one_by_one() {
        let mut watches = Watches::new(10_000, 512);
        for path in PATHS {
            (0..256).for_each(|w| watches.set(w, Kind::Data, path).unwrap());
        }
        let (mut ones, mut crowds) = (0, 0);
        for path in &PATHS[1..] {
            watches.fire(&change(2, path), |t, _, _| match t {
                Told::One(_) => ones += 1,
                Told::Crowd(_) => crowds += 1,
            });
        }
        assert_eq!((ones, crowds), (512, 2));
    }
}
