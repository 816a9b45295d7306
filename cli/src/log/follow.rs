//! `zoolog log follow`: what is appended from a position on, and from now on? History first, then live: the client's
//! subscription joins the two, each position exactly once.

use super::interrupt::Interrupt;
use super::read::trimmed;
use super::records::{Records, Wanted};
use super::session::{Said, Session};
use crate::args::FollowArgs;
use crate::exit::{Code, Failure};
use crate::out;
use std::time::Duration;
use zoolog_client::{LogCommand, LogEvent};
use zoolog_core::Gsn;
use zoolog_core::rt::clock;

/// Carries it out.
///
/// # Errors
/// Why it can't begin, or go on: trimmed, or nobody there at first. An interrupt is how it ends, unless so many
/// records were asked for.
pub fn run(args: &FollowArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let mut session = Session::start(&args.place, Duration::from_secs_f64(args.timeout))?;
    let from = match args.from {
        Some(from) => Gsn(from),
        None => session.tail(&interrupt)?,
    };
    let mut records = Records::new(&args.format, args.n)?;
    if records.left() == 0 {
        return Ok(());
    }
    session.ask(LogCommand::Subscribe { from });
    let (since, mut reached) = (clock::now(), args.from.is_none());
    loop {
        match session.next()? {
            Some(said) => {
                reached = true;
                if hear(said, &mut records)? == Wanted::NoMore {
                    return records.flush().map(drop);
                }
                while let Some(said) = session.at_once() {
                    if hear(said, &mut records)? == Wanted::NoMore {
                        return records.flush().map(drop);
                    }
                }
                // Nothing more for the moment: let what there is be seen.
                if records.flush()? == Wanted::NoMore {
                    return Ok(());
                }
            }
            None if !records.is_read() => return Ok(()),
            None if !reached && clock::now().since(since) > session.patience() => {
                return Err(session.unavailable());
            }
            None => {}
        }
        if interrupt.is_set() {
            records.flush()?;
            return if args.n.is_none() { Ok(()) } else { Err(Failure::silent(Code::Interrupted)) };
        }
    }
}

fn hear(said: Said, records: &mut Records) -> Result<Wanted, Failure> {
    match said {
        Said::Log(LogEvent::Committed(batch)) => return records.write(&batch),
        Said::Log(LogEvent::Gap { from, until }) => {
            records.flush()?;
            return Err(trimmed(from, until));
        }
        Said::Log(LogEvent::Stalled { what: "order" }) => {
            out::note("the orderers are silent; waiting for them (ctrl-c ends it)");
        }
        Said::Log(LogEvent::Sealed(sealed)) => out::note(format!(
            "the log has ended at {}, and goes on at {}: follow it there from that position on",
            sealed.tail, sealed.successor
        )),
        Said::Log(LogEvent::Resumed { what: "order" }) => out::note("the orderers are back"),
        _ => {}
    }
    Ok(Wanted::More)
}
