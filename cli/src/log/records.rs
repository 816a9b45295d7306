//! How do records come out? As lines, frames or JSON, until so many are out or nobody reads any more.

use super::frames;
use crate::args::{Format, FormatArgs};
use crate::exit::Failure;
use crate::out::{Reader, Stdout};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use zoolog_client::Committed;

/// Whether more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Yes.
    More,
    /// No: as many as were asked for are out, or their reader is gone.
    NoMore,
}

/// Records on their way to stdout.
#[derive(Debug)]
pub struct Records {
    stdout: Stdout,
    look: Look,
    left: u64,
    line: Vec<u8>,
    /// So many are out.
    pub written: u64,
}

impl Records {
    /// Of that look, at most `n`.
    ///
    /// # Errors
    /// If stdout is closed.
    pub fn new(args: &FormatArgs, n: Option<u64>) -> Result<Self, Failure> {
        let look = Look { format: args.format(), positions: args.positions };
        let left = n.unwrap_or(u64::MAX);
        Ok(Self { stdout: Stdout::open()?, look, left, line: Vec::new(), written: 0 })
    }

    /// How many are still wanted.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Writes the records of a batch that are in the range. They may wait to be flushed.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn write(&mut self, batch: &Committed) -> Result<Wanted, Failure> {
        let b = &batch.placed.batch;
        for (gsn, index, record) in batch.records() {
            if self.left == 0 {
                return Ok(Wanted::NoMore);
            }
            self.left -= 1;
            self.written += 1;
            self.line.clear();
            let from = || (b.writer(), b.seq().0, batch.placed.placement.lane, index);
            self.look.write(gsn.0, from, &record, &mut self.line);
            if self.stdout.write(&self.line)? == Reader::Gone {
                return Ok(Wanted::NoMore);
            }
        }
        Ok(self.wanted())
    }

    fn wanted(&self) -> Wanted {
        if self.left == 0 { Wanted::NoMore } else { Wanted::More }
    }

    /// Brings out what was written.
    ///
    /// # Errors
    /// As [`Records::write`].
    pub fn flush(&mut self) -> Result<Wanted, Failure> {
        match self.stdout.flush()? {
            Reader::Gone => Ok(Wanted::NoMore),
            Reader::There => Ok(self.wanted()),
        }
    }

    /// Whether somebody still reads, though nothing is written now.
    pub fn is_read(&self) -> bool {
        self.stdout.look() == Reader::There
    }
}

/// What a record looks like.
#[derive(Clone, Copy, Debug)]
struct Look {
    format: Format,
    positions: bool,
}

impl Look {
    fn write(
        self,
        gsn: u64,
        from: impl FnOnce() -> (zoolog_core::WriterId, u64, zoolog_core::LaneId, u32),
        record: &[u8],
        out: &mut Vec<u8>,
    ) {
        match self.format {
            Format::Frames => frames::write(record, out),
            Format::Lines => {
                if self.positions {
                    out.extend_from_slice(format!("{gsn}\t").as_bytes());
                }
                out.extend_from_slice(record);
                out.push(b'\n');
            }
            Format::Json => {
                let (writer, seq, lane, index) = from();
                let mut all = json!({
                    "gsn": gsn, "writer": format!("{:032x}", writer.0), "seq": seq, "index": index,
                    "lane": lane.to_string(),
                });
                match std::str::from_utf8(record) {
                    Ok(text) => all["text"] = json!(text),
                    Err(_) => all["base64"] = json!(BASE64_STANDARD.encode(record)),
                }
                out.extend_from_slice(format!("{all}\n").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::{LaneId, ShardId, WriterId};

    fn look(format: Format, positions: bool, record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let from = || (WriterId(10), 3, LaneId::new(ShardId(2), 1), 4);
        Look { format, positions }.write(8, from, record, &mut out);
        out
    }

    #[test]
    fn each_look_shows_the_same_record() {
        assert_eq!(look(Format::Lines, false, b"ab"), b"ab\n");
        assert_eq!(look(Format::Lines, true, b"ab"), b"8\tab\n");
        assert_eq!(look(Format::Frames, true, b"ab"), [2, 0, 0, 0, b'a', b'b']);
        let json: serde_json::Value = serde_json::from_slice(&look(Format::Json, false, b"a\n\"b")).unwrap();
        assert_eq!(
            (&json["gsn"], &json["text"], &json["lane"]),
            (&json!(8), &json!("a\n\"b"), &json!("2/1"))
        );
        let json: serde_json::Value =
            serde_json::from_slice(&look(Format::Json, false, b"\xff\x00")).unwrap();
        assert_eq!((&json["base64"], &json["text"]), (&json!("/wA="), &serde_json::Value::Null));
    }
}
