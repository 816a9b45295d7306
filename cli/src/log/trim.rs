//! `zoolog log trim`: how does a person forget what lies before a position, and what was really forgotten?

use super::interrupt::Interrupt;
use super::session::{Said, Session};
use crate::args::TrimArgs;
use crate::exit::{Code, Failure};
use crate::out;
use serde_json::json;
use zoolog_client::{LogCommand, LogEvent, TrimError, Trimmed};
use zoolog_core::Gsn;
use zoolog_core::rt::clock;

/// Carries it out.
///
/// # Errors
/// If nothing was trimmed, and why; or if nobody said.
pub fn run(args: &TrimArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let tag = session.tag();
    session.ask(LogCommand::Trim { tag, gsn: Gsn(args.gsn) });
    let since = clock::now();
    // Whoever was reached may have been asked.
    let mut reached = false;
    loop {
        match session.next()? {
            Some(Said::Log(LogEvent::TrimDone { result: Ok(trimmed), .. })) => return print(args, trimmed),
            Some(Said::Log(LogEvent::TrimDone { result: Err(error), .. })) => {
                return Err(refused(args.gsn, &error));
            }
            Some(Said::Log(_)) => reached = true,
            _ => {}
        }
        let overdue = clock::now().since(since) > session.patience();
        if overdue && reached {
            return Err(unknown(&session.unavailable().text));
        } else if overdue {
            return Err(session.unavailable());
        }
        if reached && interrupt.is_set() {
            let text = "interrupted: whether it was trimmed is unknown; to trim twice is to trim once";
            return Err(Failure::new(Code::Interrupted, text));
        }
        interrupt.check()?;
    }
}

fn refused(gsn: u64, error: &TrimError) -> Failure {
    match error {
        TrimError::HeldBack { .. } => {
            let text = format!("nothing was trimmed: {error} (`zoolog admin consumers` shows all of them)");
            Failure::new(Code::Unavailable, text)
        }
        TrimError::BeyondTail { tail } => Failure::new(
            Code::NotYet,
            format!("nothing was trimmed: {gsn} isn't there yet, the log ends at {tail}"),
        ),
    }
}

fn unknown(why: &str) -> Failure {
    let text = format!("{why}. Whether it was trimmed is unknown: ask again, to trim twice is to trim once");
    Failure::new(Code::Unknown, text)
}

fn print(args: &TrimArgs, Trimmed { before, trim }: Trimmed) -> Result<(), Failure> {
    let gone = trim.0.saturating_sub(before.0);
    if args.json {
        return out::print(json!({ "asked": args.gsn, "before": before.0, "trim": trim.0, "trimmed": gone }));
    }
    let mut table = out::table(["asked for", "log began at", "begins at", "positions trimmed"], 0..4);
    table.add_row([args.gsn, before.0, trim.0, gone]);
    out::print(table)
}
