//! `zoolog log append`: how do records get from a shell into the log, and what is known of them at the end?

use super::driven::Inbox;
use super::input::{self, Source};
use super::interrupt::Interrupt;
use super::session::{Said, Session};
use crate::args::AppendArgs;
use crate::exit::{Code, Failure};
use crate::out::{self, Reader, Stdout};
use indicatif::ProgressBar;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use zoolog_client::{AppendError, LogEvent, Sealed, WriterLost};
use zoolog_core::batch::first_seq;
use zoolog_core::rt::clock;
use zoolog_core::{Gsn, Instant, Seq, WriterId};

/// Carries it out.
///
/// # Errors
/// What was not appended, and what of it may have been all the same.
pub fn run(args: AppendArgs) -> Result<(), Failure> {
    let interrupt = Interrupt::install()?;
    let expected = args.expected_tail.map(Gsn);
    let only_if = args.if_tail.map(Gsn);
    if let Some(expected) = only_if {
        let tail = Session::start(&args.place, args.patience.patience())?.tail(&interrupt)?;
        if tail != expected {
            return Err(conflict(&format!("the log was to end at {expected}, and ends at {tail}")));
        }
    }
    let session = Session::start_as(&args.place, args.patience.patience(), args.name.clone(), expected)?;
    let (inbox, teller) = session.input();
    let taken = Arc::new(AtomicU64::new(0));
    let source = match (args.records.is_empty(), args.frames) {
        (false, _) => Source::Given(args.records.clone()),
        (true, true) => Source::Frames,
        (true, false) => Source::Lines,
    };
    input::start(source, only_if, inbox.clone(), taken.clone(), teller)?;
    let progress = if out::shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let (look, stdout) = (Look::of(&args), Stdout::open()?);
    let moved = clock::now();
    let writer = session.writer();
    let mut appending = Appending {
        session,
        writer,
        inbox,
        taken,
        look,
        stdout,
        progress,
        reached: false,
        input: None,
        acked: 0,
        last: None,
        next_seq: Seq(0),
        moved,
    };
    let outcome = appending.run(&interrupt);
    appending.progress.finish_and_clear();
    outcome
}

fn conflict(why: &str) -> Failure {
    Failure::new(Code::Conflict, format!("nothing was appended: {why}"))
}

/// How a position is printed.
#[derive(Clone, Copy, Debug)]
enum Look {
    Nothing,
    Position,
    Json,
}

impl Look {
    fn of(args: &AppendArgs) -> Self {
        match (args.quiet, args.json) {
            (true, _) => Self::Nothing,
            (_, true) => Self::Json,
            _ => Self::Position,
        }
    }

    fn line(self, gsn: Gsn, record: u64, (writer, seq): (WriterId, Seq)) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Position => format!("{gsn}\n"),
            Self::Json => format!(
                "{}\n",
                json!({
                    "gsn": gsn.0, "record": record, "writer": format!("{:032x}", writer.0), "seq": seq.0,
                })
            ),
        }
    }
}

struct Appending {
    session: Session,
    writer: WriterId,
    inbox: Arc<Inbox>,
    /// Records that were given to the client.
    taken: Arc<AtomicU64>,
    look: Look,
    stdout: Stdout,
    progress: ProgressBar,
    /// Our primary was there once: before that nothing was sent.
    reached: bool,
    /// How the input ended, if it has.
    input: Option<Result<(), Failure>>,
    /// Records that are in the log.
    acked: u64,
    last: Option<Gsn>,
    /// The first batch of which nothing is known.
    next_seq: Seq,
    /// When something was acknowledged, or there was nothing to be.
    moved: Instant,
}

impl Appending {
    fn pending(&self) -> u64 {
        self.taken.load(Ordering::SeqCst) - self.acked
    }

    fn run(&mut self, interrupt: &Interrupt) -> Result<(), Failure> {
        let mut interrupted = false;
        loop {
            let mut said = self.session.next()?;
            while let Some(news) = said.take() {
                self.hear(news)?;
                said = self.session.at_once();
            }
            // Who doesn't want to know the positions wants the records appended all the same.
            self.stdout.flush()?;
            if interrupt.is_set() && !std::mem::replace(&mut interrupted, true) {
                let dropped = self.inbox.close();
                self.taken.fetch_sub(dropped, Ordering::SeqCst);
                self.input = Some(Ok(()));
                if !self.reached {
                    return Err(self.interrupted());
                }
            }
            let pending = self.pending();
            if pending == 0 {
                self.moved = clock::now();
                if let Some(input) = self.input.take() {
                    input?;
                    return if interrupted { Err(self.interrupted()) } else { Ok(()) };
                }
            } else if clock::now().since(self.moved) > self.session.patience() {
                return Err(self.given_up());
            }
        }
    }

    fn hear(&mut self, said: Said) -> Result<(), Failure> {
        match said {
            Said::InputEnded(outcome) => self.input = Some(outcome),
            Said::Log(LogEvent::Ready { .. }) => self.reached = true,
            Said::Log(LogEvent::Appended { seq, first_gsn, count }) => {
                let batch = (self.writer, seq);
                for i in 0..u64::from(count) {
                    let line = self.look.line(first_gsn.plus(i), self.acked + i, batch);
                    if !line.is_empty() && self.stdout.write(line.as_bytes())? == Reader::Gone {
                        self.look = Look::Nothing;
                    }
                }
                self.acked += u64::from(count);
                self.next_seq = seq.next();
                self.last = Some(first_gsn.plus(u64::from(count) - 1));
                self.moved = clock::now();
                self.progress.set_message(format!("{} records appended", self.acked));
                self.progress.tick();
            }
            Said::Log(LogEvent::Opened { writer, epoch, .. }) => {
                (self.writer, self.next_seq, self.moved) = (writer, first_seq(epoch), clock::now());
            }
            Said::Log(LogEvent::Conflict { expected, tail, .. }) => {
                return Err(conflict(&format!(
                    "somebody else was first: not at {expected}, the log ended at {tail}"
                )));
            }
            Said::Log(LogEvent::AppendFailed { error: error @ AppendError::Conflict { .. }, .. }) => {
                return Err(conflict(&error.to_string()));
            }
            Said::Log(LogEvent::AppendFailed { error: error @ AppendError::NoBatch { .. }, .. }) => {
                return Err(Failure::new(Code::Usage, format!("nothing was appended: {error}")));
            }
            Said::Log(LogEvent::WriterLost { why: why @ WriterLost::Conflict { .. }, .. }) => {
                return Err(conflict(&why.to_string()));
            }
            Said::Log(LogEvent::WriterLost { why: why @ WriterLost::NoName, .. }) => {
                return Err(Failure::new(Code::Usage, format!("nothing was appended: {why}")));
            }
            Said::Log(LogEvent::Sealed(sealed)) => return Err(self.ended(&sealed)),
            Said::Log(LogEvent::WriterLost { why, .. }) => {
                return Err(self.unknown(&format!("the writer can't go on: {why}")));
            }
            Said::Log(LogEvent::AppendFailed { error, .. }) => {
                // Lengths were looked at before, and it is kept until there is room.
                return Err(self.unknown(&error.to_string()));
            }
            Said::Log(_) => {}
        }
        Ok(())
    }

    /// What is not acknowledged is not in it.
    fn ended(&self, sealed: &Sealed) -> Failure {
        let text = format!(
            "the log has ended at {}, and goes on at {}: {}; what came behind it is in neither. Append that there",
            sealed.tail,
            sealed.successor,
            self.known()
        );
        Failure::new(Code::Conflict, text)
    }

    fn known(&self) -> String {
        match self.last {
            Some(last) => format!("{} records are in the log, the last of them at {last}", self.acked),
            None => "no record is known to be in the log".into(),
        }
    }

    fn given_up(&self) -> Failure {
        let why = self.session.unavailable();
        if self.reached {
            return self.unknown(&why.text);
        }
        Failure::new(why.code, format!("nothing was appended: {}", why.text))
    }

    fn unknown(&self, why: &str) -> Failure {
        Failure::new(
            Code::Unknown,
            format!(
                "{why}. {}; whether the {} after them are is unknown. Before appending them again: `zoolog log resolve \
                 {:032x} --from {} --fence` tells which are, and sees to it that no more of them come",
                self.known(),
                self.pending(),
                self.writer.0,
                self.next_seq
            ),
        )
    }

    fn interrupted(&self) -> Failure {
        Failure::new(
            Code::Interrupted,
            format!("interrupted: {}, what came after was not sent", self.known()),
        )
    }
}
