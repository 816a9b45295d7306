//! Which answers are so long that they are made in pieces? And how are a million children's names told? In pieces, over turns, though the tree changes meanwhile: the answer is exact
//! as of when it was begun. Its length and the number of names go first; then the names, in order, from the tree as it is
//! now, but for those that have come since, and with those that have gone. Which those are follows from the changes that
//! every executor with connections hears of, in their order, before it may look at the state.
//!
//! What else is said to the connection meanwhile waits behind the answer, in order.

use super::ephemerals::Ephemerals;
use super::reads::named;
use crate::jute::Writer;
use crate::jute::responses::STAT_BYTES;
use crate::state::{NodeView, State};
use crate::txn::{Ephemeral, Stat};
use std::collections::{BTreeSet, VecDeque};

/// Bytes of names of one piece.
const PIECE_BYTES: usize = 128 << 10;
/// Bytes of names put aside because they came or went, above which the client is not waited for any more.
const ASIDE_BYTES_MAX: usize = 1 << 20;

/// What may still be done in a step, for all listings together: names, and bytes.
#[derive(Debug)]
pub(super) struct Budget {
    names: usize,
    bytes: usize,
    /// Names of one piece.
    piece: usize,
}

impl Budget {
    /// Of a step, when lists of more than so many names are made in pieces.
    pub(super) fn of_step(names: usize) -> Self {
        let piece = (names / 2).max(1);
        Self { names: 4 * piece, bytes: 4 * PIECE_BYTES, piece }
    }

    pub(super) const fn is_used_up(&self) -> bool {
        self.names == 0 || self.bytes == 0
    }

    /// What one answer may have of it before the others' turn.
    pub(super) fn piece(&self) -> Piece {
        Piece { names: self.piece.min(self.names), bytes: PIECE_BYTES.min(self.bytes), spent: (0, 0) }
    }

    /// An answer has had that much.
    pub(super) fn spend(&mut self, piece: &Piece) {
        let (names, bytes) = piece.spent;
        self.names -= names;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A part of a budget.
#[derive(Debug)]
pub(super) struct Piece {
    names: usize,
    bytes: usize,
    spent: (usize, usize),
}

impl Piece {
    pub(super) const fn has_room(&self) -> bool {
        self.spent.0 < self.names && self.spent.1 < self.bytes
    }

    /// A name was looked at, and made the answer longer.
    pub(super) const fn spend(&mut self, bytes: usize) {
        self.spent = (self.spent.0 + 1, self.spent.1 + bytes);
    }
}

/// An answer that is under way.
#[derive(Clone, Debug)]
pub(super) enum Listing {
    Children(Children),
    Ephemerals(Ephemerals),
}

impl Listing {
    /// The tree has changed: a node has come, or gone.
    fn changed(&mut self, change: &Moved<'_>) {
        match self {
            Self::Children(children) => children.changed(change.parent, change.name, change.came),
            Self::Ephemerals(all) => {
                if let Some(was) = change.was {
                    all.gone(change.path, was);
                }
            }
        }
    }

    /// Writes the next piece. Whether it was the last.
    fn go_on(&mut self, out: &mut Vec<u8>, state: &State, budget: &mut Budget) -> bool {
        match self {
            Self::Children(children) => children.go_on(out, state, budget),
            Self::Ephemerals(all) => all.go_on(out, state, budget),
        }
    }

    /// Bytes that were put aside because names came or went.
    fn aside_bytes(&self) -> usize {
        match self {
            Self::Children(children) => children.aside_bytes,
            Self::Ephemerals(_) => 0,
        }
    }

    /// Bytes that it keeps beside what it has written.
    fn kept_bytes(&self) -> usize {
        match self {
            Self::Children(_) => 0,
            Self::Ephemerals(all) => all.bytes(),
        }
    }
}

/// A node that has come, or gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved<'a> {
    pub path: &'a str,
    /// Its parent, as it is watched, and its name there.
    pub parent: &'a str,
    pub name: &'a str,
    pub came: bool,
    /// What it was, if it was an ephemeral and has gone.
    pub was: Option<Ephemeral>,
}

/// Names of a node's children.
#[derive(Clone, Debug)]
pub(super) struct Children {
    parent: Box<str>,
    /// The last name that was written.
    last: Option<Box<str>>,
    /// Names to be written.
    left: usize,
    /// What follows them.
    stat: Option<Stat>,
    /// Names behind the last that are to be written, and are not there any more; and the other way round.
    gone: BTreeSet<Box<str>>,
    come: BTreeSet<Box<str>>,
    aside_bytes: usize,
}

impl Children {
    /// Begins the answer, in `out`. `None` if its length can't be said in its frame.
    pub(super) fn begin(
        out: &mut Vec<u8>,
        (xid, zxid): (i32, i64),
        path: &str,
        node: NodeView<'_>,
        with_stat: bool,
    ) -> Option<Self> {
        let (left, stat) = (node.children().len(), with_stat.then(|| node.stat()));
        let names = node.child_name_bytes() + 4 * left as u64;
        let bytes = 16 + 4 + names + stat.map_or(0, |_| STAT_BYTES as u64);
        let bytes = i32::try_from(bytes).ok()?;
        for part in [&bytes.to_be_bytes()[..], &xid.to_be_bytes(), &zxid.to_be_bytes(), &[0; 4]] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&(left as u32).to_be_bytes());
        let (gone, come) = (BTreeSet::new(), BTreeSet::new());
        Some(Self { parent: named(path).into(), last: None, left, stat, gone, come, aside_bytes: 0 })
    }

    /// A child has come, or gone.
    fn changed(&mut self, parent: &str, name: &str, came: bool) {
        if *self.parent != *parent || self.last.as_deref().is_some_and(|last| name <= last) {
            return;
        }
        let (from, to) =
            if came { (&mut self.gone, &mut self.come) } else { (&mut self.come, &mut self.gone) };
        if from.remove(name) {
            self.aside_bytes -= name.len();
        } else {
            assert!(to.insert(name.into()), "{parent}/{name} came or went twice");
            self.aside_bytes += name.len();
        }
    }

    /// Writes the next piece. Whether it was the last.
    fn go_on(&mut self, out: &mut Vec<u8>, state: &State, budget: &mut Budget) -> bool {
        let node = state.look(&self.parent).ok();
        let there = node.into_iter().flat_map(|n| n.children_behind(self.last.as_deref()));
        let mut there = there.peekable();
        let (start, most_bytes) = (out.len(), PIECE_BYTES.min(budget.bytes));
        let (mut looked_at, most_names) = (0, budget.piece.min(budget.names));
        let mut last: Option<Box<str>> = None;
        let mut last_there = None;
        while self.left > 0 && looked_at < most_names && out.len() - start < most_bytes {
            looked_at += 1;
            let gone = self.gone.first();
            let is_gone = match (there.peek(), gone) {
                (Some(name), Some(gone)) => **gone < **name,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => panic!("{} names of {} are missing", self.left, self.parent),
            };
            let name: &str = if is_gone {
                let name = self.gone.pop_first().expect("just seen");
                self.aside_bytes -= name.len();
                last_there = None;
                last.insert(name)
            } else {
                let name = there.next().expect("just seen");
                last_there = Some(name);
                if !self.come.is_empty() && self.come.remove(name) {
                    self.aside_bytes -= name.len();
                    continue;
                }
                name
            };
            out.extend_from_slice(&(name.len() as u32).to_be_bytes());
            out.extend_from_slice(name.as_bytes());
            self.left -= 1;
        }
        budget.names -= looked_at;
        budget.bytes = budget.bytes.saturating_sub(out.len() - start);
        if let Some(name) = last_there.map(Box::from).or(last) {
            self.last = Some(name);
        }
        if self.left > 0 {
            return false;
        }
        if let Some(stat) = &self.stat {
            Writer::bare(out).stat(stat);
        }
        true
    }
}

/// What is to be sent to a connection: bytes, and behind them answers that are under way, each with what follows it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// May leave.
    pub out: Vec<u8>,
    lists: VecDeque<(Listing, Vec<u8>)>,
}

impl Outgoing {
    /// Where the next answer or event goes.
    pub(super) fn to(&mut self) -> &mut Vec<u8> {
        self.lists.back_mut().map_or(&mut self.out, |(_, behind)| behind)
    }

    /// Bytes of all of it that are there.
    pub(super) fn len(&self) -> usize {
        self.out.len()
            + self.lists.iter().map(|(list, behind)| list.kept_bytes() + behind.len()).sum::<usize>()
    }

    /// An answer was begun at the end of what is there.
    pub(super) fn begin(&mut self, listing: Listing) {
        self.lists.push_back((listing, Vec::new()));
    }

    /// Whether an answer is under way.
    pub(super) fn is_listing(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Whether what has changed meanwhile is too much for a client to be waited for.
    pub(super) fn must_go_on(&self) -> bool {
        self.lists.iter().map(|(l, _)| l.aside_bytes()).sum::<usize>() > ASIDE_BYTES_MAX
    }

    /// Gives up what is under way, and what is behind it.
    pub(super) fn cut(&mut self) {
        self.lists.clear();
    }

    /// A node has come, or gone.
    pub(super) fn changed(&mut self, change: &Moved<'_>) {
        self.lists.iter_mut().for_each(|(listing, _)| listing.changed(change));
    }

    /// Writes a piece of the first answer that is under way; behind its last, what followed it may leave. Every change up
    /// to `state` was told.
    pub(super) fn go_on(&mut self, state: &State, budget: &mut Budget) {
        let Some((listing, _)) = self.lists.front_mut() else { return };
        if listing.go_on(&mut self.out, state, budget) {
            let (_, behind) = self.lists.pop_front().expect("it is the first");
            self.out.extend_from_slice(&behind);
        }
    }
}

/// A path's parent, as it is watched, and its name there.
pub(super) fn parent_and_name(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    Some((named(parent), name))
}
