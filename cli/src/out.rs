//! How does something come out? On stdout what was asked for, whose reader may go away at any time; on stderr
//! what a person should know.

use crate::exit::Failure;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// Stdout, for much of it. Every write says whether somebody still reads: `head` goes when it has enough, which is
/// the end of the command, and no failure.
#[derive(Debug)]
pub struct Stdout(BufWriter<File>);

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as is known.
    There,
    /// What was written last may not have been read, and nothing more will be.
    Gone,
}

impl Stdout {
    /// Opens it.
    ///
    /// # Errors
    /// If it is closed.
    pub fn open() -> Result<Self, Failure> {
        let file = io::stdout().as_fd().try_clone_to_owned().map_err(|e| format!("stdout: {e}"))?;
        Ok(Self(BufWriter::with_capacity(BUFFER_BYTES, file.into())))
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// If they can't be written, for another reason than that nobody reads.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Reader, Failure> {
        judge(self.0.write_all(bytes))
    }

    /// Brings out what was gathered.
    ///
    /// # Errors
    /// As [`Stdout::write`].
    pub fn flush(&mut self) -> Result<Reader, Failure> {
        judge(self.0.flush())
    }

    /// Looks whether somebody still reads, without writing.
    pub fn look(&self) -> Reader {
        use std::os::fd::AsRawFd;
        let mut poll = libc::pollfd { fd: self.0.get_ref().as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one entry, which is there, and no waiting.
        let n = unsafe { libc::poll(&raw mut poll, 1, 0) };
        if n > 0 && poll.revents & libc::POLLERR != 0 { Reader::Gone } else { Reader::There }
    }
}

impl Drop for Stdout {
    fn drop(&mut self) {
        // What could be told of a failure was told when it was flushed.
        let _ = self.0.flush();
    }
}

fn judge(result: io::Result<()>) -> Result<Reader, Failure> {
    match result {
        Ok(()) => Ok(Reader::There),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(format!("can't write to stdout: {e}").into()),
    }
}

/// Prints something small. Who doesn't read it any more misses it.
///
/// # Errors
/// If it can't be written, for another reason than that nobody reads.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut stdout = Stdout::open()?;
    stdout.write(format!("{text}\n").as_bytes())?;
    stdout.flush().map(drop)
}

/// An empty table of these columns; those in `figures` are figures.
pub fn table<const N: usize>(columns: [&str; N], figures: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(columns);
    for i in figures {
        table.column_mut(i).expect("a column").set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Says something to the person at the terminal, or to the log of a script.
pub fn note(text: impl Display) {
    // Without stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "zoolog: {text}");
}

/// Whether a progress bar is seen and in nobody's way.
pub fn shows_progress() -> bool {
    io::stderr().is_terminal() && !io::stdout().is_terminal()
}
