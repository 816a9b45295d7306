//! `zoolog zk changes` and `get`: what has happened since a zxid, and what was there at one? The log tells, from a snapshot
//! on, or from its beginning where it is whole: its records are applied here as every node applies them, but for those that
//! are passed over because a later one says so, for which the log is searched first.

use super::snapshot;
use crate::args::{ChangesArgs, GetArgs, PastArgs};
use crate::exit::{Code, Failure};
use crate::log::{Interrupt, Said, Session};
use crate::out::{self, Reader, Stdout};
use serde_json::json;
use std::collections::BTreeSet;
use zoolog_client::replicated::{Lookahead, LookaheadNext};
use zoolog_client::{Committed, LogCommand, LogEvent, ReadEnd, RequestId};
use zoolog_core::Gsn;
use zoolog_core::rt::clock;
use zoolog_zk::state::{State, skips};
use zoolog_zk::txn::Change;

/// A state that follows the log.
struct Replay {
    session: Session,
    interrupt: Interrupt,
    state: State,
    /// Where the log ended when this began.
    tail: Gsn,
    /// Positions of records that are passed over, as the log says before its tail.
    skipped: BTreeSet<Gsn>,
    changes: Vec<Change>,
}

/// What the follower of a replay wants after a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl Replay {
    /// Begins at the newest state that is known and not behind `zxid`.
    fn begin(args: &PastArgs, zxid: i64) -> Result<Self, Failure> {
        let zxid = u64::try_from(zxid)
            .map_err(|_| Failure::new(Code::Usage, "a zxid is not negative: 0 is before all"))?;
        let interrupt = Interrupt::install()?;
        let mut session = Session::start(&args.place, args.patience.patience())?;
        let tail = session.tail(&interrupt)?;
        if zxid > tail.0 {
            let text =
                format!("zxid {zxid:#x} ({zxid}) isn't there yet: the newest is {:#x} ({})", tail.0, tail.0);
            return Err(Failure::new(Code::NotYet, text));
        }
        let state = match &args.snapshots {
            Some(dir) => snapshot::newest_until(dir, Gsn(zxid))?.unwrap_or_default(),
            None => State::new(),
        };
        let mut replay =
            Self { session, interrupt, state, tail, skipped: BTreeSet::new(), changes: Vec::new() };
        replay.look_ahead()?;
        replay.session.ask(LogCommand::Subscribe { from: replay.state.applied() });
        Ok(replay)
    }

    /// Searches the log for what says that a record is passed over: it lies behind that record.
    fn look_ahead(&mut self) -> Result<(), Failure> {
        let start = self.state.applied();
        let mut search = Lookahead::new(start, BTreeSet::new(), &BTreeSet::new());
        search.ends_at(self.tail);
        let mut moved = clock::now();
        loop {
            match search.next() {
                LookaheadNext::Done(_) => break,
                LookaheadNext::Read(from, to, max_bytes) => {
                    let tag = self.session.tag();
                    self.session.ask(LogCommand::Read { tag, from, to, max_bytes });
                    search.asked(RequestId(tag));
                }
                LookaheadNext::Write(gsn) => unreachable!("nobody wants {gsn} passed over"),
                LookaheadNext::Wait => {}
            }
            match self.session.next()? {
                Some(Said::Log(LogEvent::ReadDone { request, batches, covers, end })) => {
                    if end == ReadEnd::Trimmed {
                        return Err(gap(start, covers));
                    }
                    moved = clock::now();
                    search.read(request, &batches, (covers, end), skips)?;
                }
                _ if clock::now().since(moved) > self.session.patience() => {
                    return Err(self.session.unavailable());
                }
                _ => self.interrupt.check()?,
            }
        }
        self.skipped = search.found;
        match self.skipped.range(..start).find(|gsn| !self.state.has_skipped(**gsn)) {
            Some(gsn) => Err(applied(*gsn, "the snapshot that this begins with")),
            None => Ok(()),
        }
    }

    /// Applies record after record until `each`, told what it did, has enough; or until the tail, unless what comes from
    /// then on is wanted, too. `idle` is told when there is nothing more for the moment.
    fn run(
        &mut self,
        follow: bool,
        mut each: impl FnMut(&State, &mut Vec<Change>) -> Result<Next, Failure>,
        mut idle: impl FnMut() -> Result<Next, Failure>,
    ) -> Result<(), Failure> {
        let mut moved = clock::now();
        loop {
            if !follow && self.state.applied() >= self.tail {
                return Ok(());
            }
            let mut said = self.session.next()?;
            while let Some(news) = said.take() {
                moved = clock::now();
                let next = match news {
                    Said::Log(LogEvent::Committed(batch)) => self.apply(&batch, &mut each)?,
                    Said::Log(LogEvent::Gap { from, until }) => return Err(gap(from, until)),
                    _ => Next::More,
                };
                if next == Next::Enough {
                    return Ok(());
                }
                said = self.session.at_once();
            }
            if idle()? == Next::Enough {
                return Ok(());
            }
            let behind = self.state.applied() < self.tail;
            if behind && clock::now().since(moved) > self.session.patience() {
                return Err(self.session.unavailable());
            }
            if self.interrupt.is_set() {
                return if follow && !behind { Ok(()) } else { Err(Failure::silent(Code::Interrupted)) };
            }
        }
    }

    fn apply(
        &mut self,
        batch: &Committed,
        each: &mut impl FnMut(&State, &mut Vec<Change>) -> Result<Next, Failure>,
    ) -> Result<Next, Failure> {
        let Self { state, changes, skipped, tail, .. } = self;
        if !batch.placed.batch.holds_at(batch.first_gsn) {
            // It has a place in the order, and says nothing to this state.
            (batch.from().0..batch.end().0).for_each(|gsn| drop(state.apply(Gsn(gsn), b"", changes)));
        }
        for (gsn, _, record) in batch.records() {
            changes.clear();
            match skipped.contains(&gsn) {
                true => drop(state.pass_over(gsn)),
                false => drop(state.apply(gsn, &record, changes)),
            }
            // What lay before the tail was searched.
            if gsn >= *tail
                && let Some(late) = skips(&record).filter(|late| *late < gsn && !state.has_skipped(*late))
            {
                return Err(applied(late, "what was told here"));
            }
            if each(state, changes)? == Next::Enough {
                return Ok(Next::Enough);
            }
        }
        Ok(Next::More)
    }
}

fn gap(from: Gsn, until: Gsn) -> Failure {
    let text = format!(
        "the log is trimmed up to {until}, and what there is to begin with is as of {from}: give --snapshots the data \
         directory of a ZooKeeper node whose snapshot lies between {until} and what is asked for; `retain_time_s` of the \
         orderers keeps more of the log"
    );
    Failure::new(Code::NotFound, text)
}

fn applied(gsn: Gsn, who: &str) -> Failure {
    let text = format!(
        "the record at {gsn} is passed over, as a later one says, and {who} has applied it: begin again, and if need be with an \
         older snapshot"
    );
    Failure::new(Code::Conflict, text)
}

/// Whether it is of that node, or of one below it.
fn is_within(path: &str, of: &str) -> bool {
    of == "/" || path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `zoolog zk changes`.
///
/// # Errors
/// If the log doesn't tell any more, or nobody is there.
pub fn changes(args: &ChangesArgs) -> Result<(), Failure> {
    let mut replay = Replay::begin(&args.past, args.since)?;
    let stdout = std::cell::RefCell::new(Stdout::open()?);
    let each = |state: &State, changes: &mut Vec<Change>| {
        if state.zxid() <= args.since {
            return Ok(Next::More);
        }
        for change in changes.drain(..) {
            let (what, path) = match &change {
                Change::Created { path, .. } => ("created", path),
                Change::Deleted { path, .. } => ("deleted", path),
                Change::DataChanged { path, .. } => ("changed", path),
                _ => continue,
            };
            if !is_within(path, &args.path) {
                continue;
            }
            let line = match args.json {
                true => format!("{}\n", json!({ "zxid": state.zxid(), "what": what, "path": path })),
                false => format!("{:#x}\t{what}\t{path}\n", state.zxid()),
            };
            if stdout.borrow_mut().write(line.as_bytes())? == Reader::Gone {
                return Ok(Next::Enough);
            }
        }
        Ok(Next::More)
    };
    let idle = || Ok(if stdout.borrow_mut().flush()? == Reader::Gone { Next::Enough } else { Next::More });
    let outcome = replay.run(args.follow, each, idle);
    stdout.borrow_mut().flush()?;
    outcome
}

/// `zoolog zk get`.
///
/// # Errors
/// If it wasn't there, or the log doesn't tell any more.
pub fn get(args: &GetArgs) -> Result<(), Failure> {
    let mut replay = Replay::begin(&args.past, args.at)?;
    let at = args.at;
    if replay.state.zxid() < at {
        let reached = |state: &State, _: &mut Vec<Change>| {
            Ok(if state.zxid() >= at { Next::Enough } else { Next::More })
        };
        replay.run(false, reached, || Ok(Next::More))?;
    }
    let node = replay
        .state
        .look(&args.path)
        .map_err(|_| Failure::new(Code::NotFound, format!("there was no {} at zxid {at:#x}", args.path)))?;
    if args.json {
        let (stat, data) = (node.stat(), node.data());
        let text = data.map(String::from_utf8_lossy);
        let children: Vec<_> = node.children().collect();
        return out::print(json!({
            "zxid": at, "path": args.path, "data": text, "version": stat.version, "cversion": stat.cversion,
            "czxid": stat.czxid, "mzxid": stat.mzxid, "pzxid": stat.pzxid, "ctime": stat.ctime, "mtime": stat.mtime,
            "ephemeral_owner": stat.ephemeral_owner, "children": children,
        }));
    }
    let mut stdout = Stdout::open()?;
    stdout.write(node.data().unwrap_or_default())?;
    stdout.flush().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_node_is_within_it_and_what_only_begins_alike_is_not() {
        assert!(is_within("/a", "/a") && is_within("/a/b", "/a") && is_within("/x", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/", "/a"));
    }
}
