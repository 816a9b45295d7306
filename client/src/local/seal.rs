//! How does an embedded log end? What was appended goes out, and behind it, as the last that counts, a record of where the log goes
//! on. Once that is durable it has ended, for good; a crash before leaves a log that goes on as if nothing had been asked.

use crate::{RequestId, SealError, Sealed};
use std::collections::VecDeque;
use zoolog_core::Gsn;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// It goes on.
    #[default]
    Open,
    /// To be written at the end of the turn.
    Asked,
    /// On its way to the disk.
    Written,
    /// It has ended.
    Durable,
}

/// The end of a log.
#[derive(Debug, Default)]
pub(super) struct Seal {
    pub stage: Stage,
    /// Who waits to hear of it, and for which successor.
    waiting: VecDeque<(RequestId, String)>,
}

/// What can be told to somebody.
pub(super) type Answer = (RequestId, Result<Sealed, SealError>);

impl Seal {
    /// Somebody asks for it; `successor` of the log is set by the first.
    pub fn ask(&mut self, request: RequestId, wanted: &str, successor: &mut Option<String>) {
        if self.stage == Stage::Open {
            self.stage = Stage::Asked;
            *successor = Some(wanted.to_string());
        }
        self.waiting.push_back((request, wanted.to_string()));
    }

    /// Who can be answered, now that it has ended.
    pub fn answer(&mut self, tail: Gsn, successor: Option<&str>) -> Option<Answer> {
        let successor = successor.filter(|_| self.stage == Stage::Durable)?.to_string();
        let (request, wanted) = self.waiting.pop_front()?;
        let same = wanted == successor;
        let sealed = Sealed { tail, successor };
        Some((request, if same { Ok(sealed) } else { Err(SealError::Another(sealed)) }))
    }
}
