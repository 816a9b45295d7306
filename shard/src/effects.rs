//! What does a turn want done? Outputs as they arise, and those held back until the turn's end so as to be
//! one per turn.

use crate::event::SlotEvent;
use crate::loads::{Done, Loads, Piece, Purpose, Rot};
use crate::marks::Item;
use crate::stages::SlotStages;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use zoolog_core::batch::{PLACEMENT_BYTES, PlacedBatch};
use zoolog_core::machine::{ConnId, Output, Token};
use zoolog_core::wal::WalRecord;
use zoolog_core::wire::{self, Message, Refused, RefusedWhy};
use zoolog_core::{Gsn, Instant, Seq, WriterId};

/// Why a connection is ended by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For programs.
    pub why: RefusedWhy,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(why: RefusedWhy, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }
}

/// Outputs and what will become outputs.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Ready to be carried out.
    pub out: VecDeque<Output<SlotEvent>>,
    /// Batches taken in this turn, for its one `Persist`.
    pub staged: Vec<PlacedBatch>,
    /// New copies of damaged batches, for the turn's one `Persist`.
    pub mended: Vec<PlacedBatch>,
    /// The turn's `Persist` is wanted even if there is no batch for it.
    pub at_once: bool,
    /// What could not be read back, and wasn't looked at yet.
    pub rotten: Vec<Rot>,
    /// Cut marks and views, which ride in the next `Persist` that has a batch.
    pub marks: Vec<(Item, WalRecord)>,
    /// Acknowledgements of this turn.
    pub acks: BTreeMap<(ConnId, WriterId), Vec<(Seq, Gsn)>>,
    /// Jobs that are done and not looked at yet.
    pub done: VecDeque<Done>,
    /// The turn's time: for what is measured only.
    pub now: Instant,
    /// What is measured.
    pub stages: SlotStages,
    loads: Loads,
    tokens: u64,
}

impl Effects {
    /// Sends a message without payload.
    pub fn send(&mut self, conn: ConnId, message: impl Into<Message>) {
        self.out.push_back(Output::Send { conn, bytes: wire::encode(message) });
    }

    /// Sends frames.
    pub fn send_bytes(&mut self, conn: ConnId, bytes: Bytes) {
        self.out.push_back(Output::Send { conn, bytes });
    }

    /// Puts the newest view among the marks, in the place of one that is on no disk yet: of views only the newest
    /// counts, and an idle slot may hear of many before it has a batch to write them with.
    pub fn mark_view(&mut self, mark: (Item, WalRecord)) {
        match self.marks.iter_mut().find(|m| m.0 == Item::View) {
            Some(old) => *old = mark,
            None => self.marks.push(mark),
        }
    }

    /// Says why the connection is about to be closed.
    pub fn refusal(&mut self, conn: ConnId, refusal: Refusal) {
        self.send(conn, Refused { why: refusal.why, text: refusal.text });
    }

    /// Tells the owner.
    pub fn event(&mut self, event: SlotEvent) {
        self.out.push_back(Output::Event(event));
    }

    /// A token never used before.
    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// Collects batches; the job comes to `done` when they are there, perhaps at once.
    pub fn load(&mut self, purpose: Purpose, pieces: Vec<Piece>) {
        let (tokens, out) = (&mut self.tokens, &mut self.out);
        let done = self.loads.start(purpose, pieces, |pos| {
            *tokens += 1;
            out.push_back(Output::Load { token: Token(*tokens), pos });
            Token(*tokens)
        });
        self.done.extend(done);
    }

    /// A record was read back.
    pub fn loaded(&mut self, token: Token, result: Result<Bytes, String>) {
        let (done, rot) = self.loads.loaded(token, result);
        self.done.extend(done);
        self.rotten.extend(rot);
    }

    /// The oldest segment that is being read back.
    pub fn oldest_load(&self) -> Option<u32> {
        self.loads.oldest_segment()
    }

    /// Jobs waiting for the log.
    pub fn loading(&self) -> usize {
        self.loads.len()
    }
}

/// Encodes `message` with placed batches as its payload.
pub(crate) fn encode_batches(message: impl Into<Message>, batches: &[&PlacedBatch]) -> Bytes {
    let places: Vec<[u8; PLACEMENT_BYTES]> = batches.iter().map(|b| b.placement.encode()).collect();
    let mut parts: Vec<&[u8]> = Vec::with_capacity(2 * batches.len());
    for (place, b) in places.iter().zip(batches) {
        parts.push(place);
        parts.push(b.batch.bytes());
    }
    wire::encode_with(message, &parts)
}
