//! Where do the records come from that are to be appended? The command line, or stdin: lines or frames. Read on a
//! thread of its own, which waits when the log doesn't keep up.

use super::driven::Inbox;
use super::frames;
use super::session::Said;
use crate::exit::Failure;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use zoolog_client::LogCommand;
use zoolog_core::Gsn;
use zoolog_core::limits::RECORD_BYTES_MAX;

/// Bytes read at a time, and gathered before they are handed on, unless nothing more is there at the moment.
const CHUNK_BYTES: usize = 64 << 10;

/// What is read.
pub enum Source {
    /// These.
    Given(Vec<String>),
    /// stdin, a record a line.
    Lines,
    /// stdin, each behind its length.
    Frames,
    /// Made on the way.
    Made(Box<dyn Iterator<Item = Result<Vec<u8>, Failure>> + Send>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given",
            Self::Lines => "Lines",
            Self::Frames => "Frames",
            Self::Made(_) => "Made",
        })
    }
}

/// Bytes of records that are appended all or none.
const TOGETHER_BYTES_MAX: usize = zoolog_core::limits::BATCH_BYTES_TARGET;

/// Reads on a thread of its own, into `inbox`; counts in `taken` what it has put there; says when it is through.
///
/// # Errors
/// If stdin is closed, or there can be no more threads.
pub fn start(
    source: Source,
    only_if: Option<Gsn>,
    inbox: Arc<Inbox>,
    taken: Arc<AtomicU64>,
    teller: SyncSender<Said>,
) -> Result<(), Failure> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|e| format!("stdin: {e}"))?;
    let read = move || {
        let mut sink = Sink { inbox, taken, only_if, records: Vec::new(), bytes: 0, gone: false };
        let mut input = BufReader::with_capacity(CHUNK_BYTES, File::from(stdin));
        let outcome = match source {
            Source::Given(records) => {
                records.into_iter().try_for_each(|r| sink.take(r.into_bytes(), false).map(drop))
            }
            Source::Made(mut records) => {
                records.try_for_each(|record| record.and_then(|r| sink.take(r, false)))
            }
            Source::Lines => each(&mut input, &mut sink, "line", line),
            Source::Frames => each(&mut input, &mut sink, "record", frames::read),
        };
        // Of what is appended all or none nothing is, if it couldn't be read.
        if only_if.is_none() || outcome.is_ok() {
            sink.hand_on();
        }
        let _ = teller.send(Said::InputEnded(outcome)); // nobody listens any more after an interrupt
    };
    let thread = std::thread::Builder::new().name("input".into()).spawn(read);
    thread.map(drop).map_err(|e| format!("can't start a thread: {e}").into())
}

/// Takes all that `next` reads.
fn each<R: Read>(
    input: &mut BufReader<R>,
    sink: &mut Sink,
    what: &str,
    next: impl Fn(&mut BufReader<R>, &mut Vec<u8>) -> io::Result<bool>,
) -> Result<(), Failure> {
    let (mut record, mut n) = (Vec::new(), 0u64);
    loop {
        n += 1;
        match next(input, &mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let more_is_there = !input.buffer().is_empty();
                sink.take(std::mem::take(&mut record), more_is_there).map_err(|e| wrong(what, n, &e.text))?;
                if sink.gone {
                    return Ok(());
                }
            }
            Err(e) => return Err(wrong(what, n, &e)),
        }
    }
}

fn wrong(what: &str, n: u64, why: &dyn std::fmt::Display) -> Failure {
    format!("{what} {n} of stdin: {why}; it and what follows it is not appended").into()
}

/// Reads a line without its end. The last one need not have any.
fn line(input: &mut BufReader<impl Read>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    // One byte more than is allowed, and the line's end: enough to see that it is too long.
    let n = input.take(RECORD_BYTES_MAX as u64 + 2).read_until(b'\n', line)?;
    line.pop_if(|last| *last == b'\n');
    Ok(n > 0)
}

/// Gathers records for the inbox.
struct Sink {
    inbox: Arc<Inbox>,
    taken: Arc<AtomicU64>,
    /// They are appended together, if the log ends there.
    only_if: Option<Gsn>,
    records: Vec<Bytes>,
    bytes: usize,
    /// Nothing is taken any more.
    gone: bool,
}

impl Sink {
    fn take(&mut self, record: Vec<u8>, more_is_there: bool) -> Result<(), Failure> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(format!("more than {RECORD_BYTES_MAX} bytes, which is what a record may have").into());
        }
        self.bytes += record.len() + 64;
        self.records.push(record.into());
        if self.only_if.is_some() {
            if self.bytes > TOGETHER_BYTES_MAX && self.records.len() > 1 {
                return Err(
                    format!("more than {TOGETHER_BYTES_MAX} bytes can't be appended all or none").into()
                );
            }
        } else if !more_is_there || self.bytes >= CHUNK_BYTES {
            self.hand_on();
        }
        Ok(())
    }

    fn hand_on(&mut self) {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let n = records.len() as u64;
        // Counted first: who sees an acknowledgement must find it counted.
        self.taken.fetch_add(n, Ordering::SeqCst);
        let command = match self.only_if {
            None => LogCommand::Append { records },
            Some(expected_tail) => LogCommand::AppendIf { expected_tail, records },
        };
        if n > 0 && !self.inbox.put(command) {
            self.taken.fetch_sub(n, Ordering::SeqCst);
            self.gone = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_records_whatever_their_end() {
        for (text, want) in [
            (&b""[..], vec![]),
            (b"\n", vec![&b""[..]]),
            (b"a\n\nb", vec![b"a", b"", b"b"]),
            (b"a\r\n\xff\0\n", vec![b"a\r", b"\xff\0"]),
        ] {
            let mut input = BufReader::with_capacity(2, text);
            let (mut found, mut record) = (Vec::new(), Vec::new());
            while line(&mut input, &mut record).unwrap() {
                found.push(record.clone());
            }
            assert_eq!(found, want);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_not_read_to_its_end() {
        let long = vec![b'x'; RECORD_BYTES_MAX * 3];
        let mut record = Vec::new();
        assert!(line(&mut BufReader::new(&long[..]), &mut record).unwrap());
        assert_eq!(record.len(), RECORD_BYTES_MAX + 2);
    }
}
