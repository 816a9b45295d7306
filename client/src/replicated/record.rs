//! What does an entry look like in the log? A header that says whose it is, then the command.
//!
//! ```text
//! "ZR" | format u8 | kind u8 | version u16 | zero u16 | structure u64     16 bytes, little-endian
//! ```
//! `structure` is the XXH3 of the structure's name, so that several live in one log, and beside a ZooKeeper: each passes over
//! what is not its own. `version` is the [`StateMachine::VERSION`](super::StateMachine::VERSION) of the build that wrote it.
//!
//! | kind | entry | then |
//! |---|---|---|
//! | 1 | command | its rkyv archive |
//! | 2 | skip | position u64: the command there is to be passed over, since applying it panics |
//! | 3 | mark | nothing: here the nodes' states are compared |
//! | 4 | said | node u64, position u64 of a mark, state hash u64 behind it, version u16 of the build, zero u16 three times |
//!
//! Marks and what is said of them have version 0, so that they end no older build.
//!
//! A skip stands behind what it is about. Who has applied that already can't undo it, and ends; who starts at or before it looks
//! for skips beforehand, once he has reason to ([`Restored::beware`](super::Restored)).

use super::machine::Command;
use super::proposals::ProposeError;
use rkyv::rancor::Error;
use xxhash_rust::xxh3::xxh3_64;
use zoolog_core::Gsn;
use zoolog_core::limits::RECORD_BYTES_MAX;

/// Bytes before what an entry holds.
const HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 2] = b"ZR";
const FORMAT: u8 = 1;
const COMMAND: u8 = 1;
const SKIP: u8 = 2;
const MARK: u8 = 3;
const SAID: u8 = 4;
const SAID_BYTES: usize = 32;

/// What a node says of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which node.
    pub node: u64,
    /// Position of the mark.
    pub at: Gsn,
    /// Of its state, behind the mark.
    pub hash: u64,
    /// [`StateMachine::VERSION`](super::StateMachine::VERSION) of its build: states of others may have other bytes.
    pub version: u16,
}

/// What a record of the log is to one structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Somebody else's: passed over.
    Foreign,
    /// A command's archive.
    Command(&'a [u8]),
    /// The command at this position is to be passed over.
    Skip(Gsn),
    /// Here the nodes' states are compared.
    Mark,
    /// A node says what it had at a mark.
    Said(Said),
    /// Ours, and not as we write it: rejected.
    Malformed(&'static str),
    /// Ours, of a build that knows more.
    Newer {
        /// The format, the version, and the kind it has.
        found: (u8, u16, u8),
    },
}

impl<'a> Entry<'a> {
    /// Reads a record. Never fails: whatever it holds is one of these, alike on every node of this build.
    pub fn read(record: &'a [u8], writing: Writing) -> Self {
        let Some((header, rest)) = record.split_at_checked(HEADER_BYTES) else { return Self::Foreign };
        let structure = u64::from_le_bytes(header[8..16].try_into().expect("8 bytes"));
        if &header[..2] != MAGIC || structure != writing.structure {
            return Self::Foreign;
        }
        let (format, kind, version) = (header[2], header[3], u16::from_le_bytes([header[4], header[5]]));
        if format > FORMAT || version > writing.version || kind > SAID {
            return Self::Newer { found: (format, version, kind) };
        }
        match kind {
            COMMAND if format == FORMAT => Self::Command(rest),
            SKIP if format == FORMAT => match rest.try_into() {
                Ok(gsn) => Self::Skip(Gsn(u64::from_le_bytes(gsn))),
                Err(_) => Self::Malformed("a skip that is not 8 bytes long"),
            },
            MARK if format == FORMAT && rest.is_empty() => Self::Mark,
            MARK if format == FORMAT => Self::Malformed("a mark that holds something"),
            SAID if format == FORMAT && rest.len() == SAID_BYTES => {
                let long = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().expect("8 bytes"));
                let version = u16::from_le_bytes([rest[24], rest[25]]);
                Self::Said(Said { node: long(0), at: Gsn(long(8)), hash: long(16), version })
            }
            SAID if format == FORMAT => Self::Malformed("what is said of a mark is not 32 bytes long"),
            _ => Self::Malformed("a kind or format that never was"),
        }
    }
}

/// As whom entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    structure: u64,
    version: u16,
}

impl Writing {
    /// For the structure of that name, by a build of that [`VERSION`](super::StateMachine::VERSION).
    pub fn new(name: &str, version: u16) -> Self {
        Self { structure: xxh3_64(name.as_bytes()), version }
    }

    /// Hash of the structure's name.
    pub(super) const fn structure(self) -> u64 {
        self.structure
    }

    fn header(self, kind: u8) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(MAGIC);
        (header[2], header[3]) = (FORMAT, kind);
        header[4..6].copy_from_slice(&self.version.to_le_bytes());
        header[8..].copy_from_slice(&self.structure.to_le_bytes());
        header
    }

    /// A command as a record of the log.
    ///
    /// # Errors
    /// [`ProposeError::TooLong`], or [`ProposeError::Unwritable`].
    pub fn command<C: Command>(self, command: &C) -> Result<Vec<u8>, ProposeError> {
        let archive =
            rkyv::to_bytes::<Error>(command).map_err(|e| ProposeError::Unwritable(e.to_string()))?;
        let mut record = Vec::with_capacity(HEADER_BYTES + archive.len());
        record.extend_from_slice(&self.header(COMMAND));
        record.extend_from_slice(&archive);
        match record.len() {
            bytes if bytes > RECORD_BYTES_MAX => {
                Err(ProposeError::TooLong { bytes, limit: RECORD_BYTES_MAX })
            }
            _ => Ok(record),
        }
    }

    /// The record that has the command at `gsn` passed over.
    pub fn skip(self, gsn: Gsn) -> Vec<u8> {
        [&self.header(SKIP)[..], &gsn.0.to_le_bytes()].concat()
    }

    /// The record at which states are compared.
    pub(super) fn mark(self) -> Vec<u8> {
        Self { version: 0, ..self }.header(MARK).to_vec()
    }

    /// The record that says what a node had there.
    pub(super) fn said(self, said: Said) -> Vec<u8> {
        let mut record = Self { version: 0, ..self }.header(SAID).to_vec();
        for long in [said.node, said.at.0, said.hash, u64::from(said.version)] {
            record.extend_from_slice(&long.to_le_bytes());
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_some_entry(bytes in prop::collection::vec(any::<u8>(), 0..60), version in any::<u16>()) {
            let us = Writing::new("a", version);
            let read = Entry::read(&bytes, us);
            prop_assert!(bytes.starts_with(b"ZR") || read == Entry::Foreign);
            // The same behind a header of ours.
            let ours = [&us.header(COMMAND)[..], &bytes].concat();
            prop_assert_eq!(Entry::read(&ours, us), Entry::Command(&bytes));
        }
    }

    #[test]
    fn whose_an_entry_is_and_what() {
        let (us, other) = (Writing::new("a", 3), Writing::new("b", 3));
        let skip = us.skip(Gsn(7));
        assert_eq!(Entry::read(&skip, us), Entry::Skip(Gsn(7)));
        assert_eq!(Entry::read(&skip, other), Entry::Foreign);
        assert_eq!(Entry::read(&skip[..20], us), Entry::Malformed("a skip that is not 8 bytes long"));
        let newer = Writing::new("a", 4).skip(Gsn(7));
        assert_eq!(Entry::read(&newer, us), Entry::Newer { found: (1, 4, 2) });
        assert_eq!(Entry::read(&skip, Writing::new("a", 4)), Entry::Skip(Gsn(7)), "what is older is known");
        let mut unknown = skip.clone();
        unknown[3] = 5;
        assert_eq!(Entry::read(&unknown, us), Entry::Newer { found: (1, 3, 5) });
        unknown[3] = 0;
        assert!(matches!(Entry::read(&unknown, us), Entry::Malformed(_)));
        let long = vec![0u8; RECORD_BYTES_MAX];
        assert!(matches!(us.command(&long), Err(ProposeError::TooLong { .. })));
    }

    #[test]
    fn what_nodes_say_of_their_states_ends_no_older_build() {
        let (us, older) = (Writing::new("a", 3), Writing::new("a", 1));
        let said = Said { node: u64::MAX, at: Gsn(7), hash: 5, version: 3 };
        for writing in [us, older] {
            assert_eq!(Entry::read(&us.mark(), writing), Entry::Mark);
            assert_eq!(Entry::read(&us.said(said), writing), Entry::Said(said));
        }
        assert!(matches!(Entry::read(&us.said(said)[..40], us), Entry::Malformed(_)));
        assert!(matches!(Entry::read(&[&us.mark()[..], b"x"].concat(), us), Entry::Malformed(_)));
    }

    /// The bytes are in logs for ever.
    #[test]
    fn an_entry_has_its_golden_bytes() {
        let record = Writing::new("a", 3).command(&0x0102_u16).expect("short");
        let hex: String = record.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5a520101030000001f4e961eb632c6e60201");
    }
}
