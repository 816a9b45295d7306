//! How does a command end? With an exit code that a script can branch on, and a text that a person can act on.

use std::fmt::Display;
use std::process::ExitCode;

/// The exit codes, as documented in `docs/OPERATING.md`. `0` is success, `2` a wrong command line (clap's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Something is broken here: a file, a directory, a setting, bytes that make no sense.
    Fault = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Nobody who could answer was there. Nothing was changed: try again.
    Unavailable = 3,
    /// It is not there (any more), and won't be: trimmed, or of an unknown name.
    NotFound = 4,
    /// Some of what was asked for may have been done, or may not.
    Unknown = 5,
    /// It isn't there yet: ask again later.
    NotYet = 6,
    /// `fsck`: damaged, but peers have what is lost.
    Damaged = 7,
    /// `fsck`: a node would not start on this, or should not.
    Unusable = 8,
    /// It was to be done only if nobody else was first, and somebody was. Nothing was done.
    Conflict = 9,
    /// A signal ended it before it was done.
    Interrupted = 130,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For scripts.
    pub code: Code,
    /// For people: what happened, where, and what to do. Empty: everything is said already.
    pub text: String,
}

impl Failure {
    /// A failure of that kind.
    pub fn new(code: Code, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }

    /// A failure whose reason was printed already.
    pub const fn silent(code: Code) -> Self {
        Self { code, text: String::new() }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { code: Code::Fault, text }
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// What `main` returns: a failure is said on stderr.
pub fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                crate::out::note(&failure.text);
            }
            ExitCode::from(failure.code as u8)
        }
    }
}
