//! `zoolog admin skip`: how is a record passed over on which ZooKeeper nodes end? By a record behind it that says so. It is
//! appended only if no node has applied the other one, as far as the log tells, and nothing came in between.

use crate::args::SkipArgs;
use crate::exit::{Code, Failure};
use crate::log::{Interrupt, Said, Session, trimmed};
use crate::out;
use bytes::Bytes;
use serde_json::json;
use zoolog_client::{Committed, LogCommand, LogEvent, ReadEnd};
use zoolog_core::rt::clock;
use zoolog_core::{Gsn, WallMs};
use zoolog_zk::state::{encode, shows_applied, skips};
use zoolog_zk::txn::{Op, Txn};

/// Bytes asked for at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// What the log says of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nobody is known to have applied it.
    NotApplied,
    /// It is passed over already: the record there says so.
    Skipped(Gsn),
    /// Whoever wrote the record there had applied it.
    Applied(Gsn),
    /// The record there is no transaction of a ZooKeeper: no node applies it.
    Foreign,
}

/// Carries it out.
///
/// # Errors
/// If it isn't there, was applied, or nobody says whether it is passed over now.
pub fn run(args: &SkipArgs) -> Result<(), Failure> {
    let gsn = Gsn(args.gsn);
    let interrupt = Interrupt::install()?;
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let tail = session.tail(&interrupt)?;
    if gsn >= tail {
        let text = format!("nothing is at {gsn} yet: the log ends at {tail}");
        return Err(Failure::new(Code::NotYet, text));
    }
    match search(&mut session, &interrupt, gsn, tail)? {
        Found::NotApplied => {}
        Found::Skipped(at) => return say(args, at, "is passed over already"),
        Found::Applied(at) => {
            return Err(Failure::new(
                Code::Conflict,
                format!(
                    "a ZooKeeper node has applied {gsn}: the record at {at} shows it. What others end with there is their \
                     own build, or their own state: bring all nodes to one version, then have those that end rebuild \
                     themselves (docs/OPERATING.md)"
                ),
            ));
        }
        Found::Foreign => {
            let text = format!("what is at {gsn} is no ZooKeeper's: no node applies it");
            return Err(Failure::new(Code::NotFound, text));
        }
    }
    append(&mut session, &interrupt, gsn, tail).and_then(|at| say(args, at, "is passed over"))
}

fn say(args: &SkipArgs, at: Gsn, what: &str) -> Result<(), Failure> {
    let gsn = args.gsn;
    if args.json {
        return out::print(json!({ "skipped": gsn, "by": at.0 }));
    }
    out::print(format!(
        "{gsn} {what}, as the record at {at} says. Start the ZooKeeper nodes that have ended."
    ))
}

/// Reads the log from the record on.
fn search(session: &mut Session, interrupt: &Interrupt, gsn: Gsn, tail: Gsn) -> Result<Found, Failure> {
    let mut from = gsn;
    while from < tail {
        let tag = session.tag();
        session.ask(LogCommand::Read { tag, from, to: tail, max_bytes: WINDOW_BYTES });
        let (batches, covers, end) = loop {
            match session.next()? {
                Some(Said::Log(LogEvent::ReadDone { batches, covers, end, .. })) => {
                    break (batches, covers, end);
                }
                _ => interrupt.check()?,
            }
        };
        if let Some(found) = look(&batches, gsn) {
            return Ok(found);
        }
        match end {
            ReadEnd::Trimmed => return Err(trimmed(from, covers)),
            ReadEnd::More | ReadEnd::Complete if covers > from => from = covers,
            _ => return Err(session.unavailable()),
        }
    }
    Ok(Found::NotApplied)
}

fn look(batches: &[Committed], gsn: Gsn) -> Option<Found> {
    for (at, _, record) in batches.iter().flat_map(Committed::records) {
        if at == gsn && !zoolog_zk::state::is_txn(&record) {
            return Some(Found::Foreign);
        }
        if at > gsn && skips(&record) == Some(gsn) {
            return Some(Found::Skipped(at));
        }
        if at > gsn && shows_applied(&record).is_some_and(|applied| applied >= gsn) {
            return Some(Found::Applied(at));
        }
    }
    None
}

/// Appends what says that the record is passed over, where the log ended when it was searched.
fn append(session: &mut Session, interrupt: &Interrupt, gsn: Gsn, tail: Gsn) -> Result<Gsn, Failure> {
    let txn = Txn { session: 0, attach: 0, wall: WallMs(0), ids: Vec::new(), op: Op::Skip { gsn: gsn.0 } };
    session.ask(LogCommand::AppendIf { expected_tail: tail, records: vec![Bytes::from(encode(&txn))] });
    let since = clock::now();
    loop {
        match session.next()? {
            Some(Said::Log(LogEvent::Appended { first_gsn, .. })) => return Ok(first_gsn),
            Some(Said::Log(LogEvent::Conflict { .. })) => {
                let text = "something was appended meanwhile, so nothing was done: ask again";
                return Err(Failure::new(Code::Conflict, text));
            }
            Some(Said::Log(LogEvent::AppendFailed { error, .. })) => {
                return Err(Failure::new(Code::Unavailable, format!("nothing was appended: {error}")));
            }
            Some(Said::Log(LogEvent::WriterLost { why, .. })) => return Err(unknown(&why.to_string())),
            _ if clock::now().since(since) > session.patience() => {
                return Err(unknown(&session.unavailable().text));
            }
            _ if interrupt.is_set() => return Err(unknown("interrupted")),
            _ => {}
        }
    }
}

fn unknown(why: &str) -> Failure {
    let text = format!("{why}. Whether it is passed over is unknown: ask again, that does no harm");
    Failure::new(Code::Unknown, text)
}
