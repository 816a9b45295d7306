//! `zoolog log read`, and `tail -n`: which records lie in a range?

use super::interrupt::Interrupt;
use super::records::{Records, Wanted};
use super::session::{Said, Session};
use crate::args::{ReadArgs, TailArgs};
use crate::exit::{Code, Failure};
use crate::out;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use zoolog_client::{LogCommand, LogEvent, ReadEnd};
use zoolog_core::Gsn;

/// Bytes asked for at a time.
const WINDOW_BYTES: usize = 4 << 20;

/// Carries out `read`.
///
/// # Errors
/// Why there is not all that was asked for: trimmed, not there yet, or nobody to say.
pub fn run(args: &ReadArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let to = match args.range.to {
        Some(to) => to,
        None => session.tail(&interrupt)?,
    };
    let records = Records::new(&args.format, args.n)?;
    let range = Wish { from: args.range.from.unwrap_or(Gsn(0)), from_first: args.range.from.is_none(), to };
    Reading { session, records, range, interrupt }.run()
}

/// Carries out `tail`.
///
/// # Errors
/// If nobody can say.
pub fn tail(args: &TailArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let mut session = Session::start(&args.place, args.patience.patience())?;
    let to = session.tail(&interrupt)?;
    let Some(n) = args.n else {
        return if args.format.json { out::print(json!({ "tail": to.0 })) } else { out::print(to) };
    };
    let records = Records::new(&args.format, None)?;
    let range = Wish { from: Gsn(to.0.saturating_sub(n)), from_first: true, to };
    Reading { session, records, range, interrupt }.run()
}

/// What is to be read.
#[derive(Clone, Copy, Debug)]
struct Wish {
    from: Gsn,
    /// What is trimmed of it is not missed.
    from_first: bool,
    to: Gsn,
}

struct Reading {
    session: Session,
    records: Records,
    range: Wish,
    interrupt: Interrupt,
}

impl Reading {
    fn run(mut self) -> Result<(), Failure> {
        let bar = if out::shows_progress() {
            let style =
                ProgressStyle::with_template("{bar:30} {pos} of {len} positions, {per_sec}, {eta} left");
            ProgressBar::new(self.range.to.0.saturating_sub(self.range.from.0))
                .with_style(style.expect("a constant"))
        } else {
            ProgressBar::hidden()
        };
        let start = self.range.from;
        let outcome = self.windows(|at| bar.set_position(at.0.saturating_sub(start.0)));
        bar.finish_and_clear();
        // What was had is brought out whatever happened then.
        let flushed = self.records.flush();
        outcome.and(flushed.map(drop))
    }

    fn windows(&mut self, moved: impl Fn(Gsn)) -> Result<(), Failure> {
        let Wish { mut from, mut from_first, to } = self.range;
        if from >= to || self.records.left() == 0 {
            return Ok(());
        }
        self.ask(from);
        loop {
            let (batches, covers, end) = self.answer()?;
            let goes_on = match end {
                // Of what lies before the log begins nothing is missed, be it all.
                ReadEnd::Trimmed if from_first => covers < to,
                ReadEnd::Trimmed => return Err(trimmed(from, covers)),
                ReadEnd::More => covers < to,
                ReadEnd::Complete => covers < to, // a window that was narrower than the range
                ReadEnd::NotYet | ReadEnd::Unavailable | ReadEnd::Invalid => false,
            };
            // The next window comes while this one is written.
            let expected: u64 = batches.iter().map(|b| u64::from(b.take)).sum();
            let early = goes_on && expected < self.records.left();
            if early {
                self.ask(covers);
            }
            for batch in &batches {
                if self.records.write(batch)? == Wanted::NoMore {
                    return Ok(());
                }
            }
            moved(covers);
            match end {
                ReadEnd::NotYet => return Err(not_yet(self.session.tail(&self.interrupt)?)),
                ReadEnd::Unavailable => {
                    let why = self.session.unavailable();
                    return Err(Failure::new(why.code, format!("{}; read up to {covers}", why.text)));
                }
                ReadEnd::Invalid => {
                    return Err(Failure::new(Code::Usage, format!("{from}..{to} is no range")));
                }
                _ if !goes_on => return Ok(()),
                _ if !early => self.ask(covers),
                _ => {}
            }
            (from, from_first) = (covers, from_first && end == ReadEnd::Trimmed);
        }
    }

    /// Asks for the next window. Few records are not looked for in more positions than they may need.
    fn ask(&mut self, from: Gsn) {
        let to = Gsn(from.0.saturating_add(self.records.left())).min(self.range.to);
        let tag = self.session.tag();
        self.session.ask(LogCommand::Read { tag, from, to, max_bytes: WINDOW_BYTES });
    }

    fn answer(&mut self) -> Result<(Vec<zoolog_client::Committed>, Gsn, ReadEnd), Failure> {
        loop {
            match self.session.next()? {
                Some(Said::Log(LogEvent::ReadDone { batches, covers, end, .. })) => {
                    return Ok((batches, covers, end));
                }
                _ if !self.records.is_read() => return Ok((Vec::new(), self.range.to, ReadEnd::Complete)),
                _ => self.interrupt.check()?,
            }
        }
    }
}

/// What is asked for is gone.
pub fn trimmed(from: Gsn, until: Gsn) -> Failure {
    Failure::new(
        Code::NotFound,
        format!("the log from {from} to {until} was trimmed: it begins at {until} now (`..` begins there)"),
    )
}

fn not_yet(at: Gsn) -> Failure {
    Failure::new(
        Code::NotYet,
        format!(
            "the log ends at {at}: what lies beyond isn't there yet (`zoolog log follow {at}` waits for it)"
        ),
    )
}
