//! What runs on a node? A machine, whatever its commands and events: they are reduced to observations.

use crate::observe::Observation;
use bytes::Bytes;
use std::convert::Infallible;
use std::fmt::Debug;
use zoolog_core::limits::FRAME_BYTES_MAX;
use zoolog_core::{ConnId, Input, Instant, Machine, Output, wire};

/// A machine as the world sees it.
pub trait Process {
    /// As [`Machine::handle`].
    fn handle(&mut self, now: Instant, input: Input<Infallible>);
    /// As [`Machine::poll_output`].
    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>>;
    /// As [`Machine::next_deadline`].
    fn next_deadline(&self) -> Option<(Instant, &'static str)>;
    /// Changes a bit of its memory behind its back; says which.
    fn corrupt(&mut self, choice: u64) -> String {
        panic!("of this process no bit can be changed (choice {choice})")
    }
    /// As [`Machine::may_checkpoint`].
    fn may_checkpoint(&self) -> bool {
        true
    }
    /// As [`Machine::checkpoint`].
    fn checkpoint(&self) -> Bytes;
    /// Whether it does what it is there for.
    fn is_serving(&self) -> bool {
        true
    }
    /// Length of the frame at the front of `bytes`; `first` on a connection's first.
    ///
    /// # Errors
    /// When the bytes are no frame: the connection is closed.
    fn frame_length(&self, conn: ConnId, first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        let _ = (conn, first);
        wire::frame_length(bytes, FRAME_BYTES_MAX).map_err(|e| e.to_string())
    }
}

/// A machine whose events are only of interest to the trace.
#[derive(Debug)]
pub struct Plain<M>(pub M);

impl<M: Machine> Process for Plain<M>
where
    M::Event: Debug,
{
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.0.handle(now, uncommanded(input));
    }
    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        self.0.poll_output(now).map(|o| map_event(o, |e| Observation::Note(format!("{e:?}"))))
    }
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.0.next_deadline()
    }
    fn may_checkpoint(&self) -> bool {
        self.0.may_checkpoint()
    }
    fn checkpoint(&self) -> Bytes {
        self.0.checkpoint()
    }
}

/// A machine whose events are told as observations.
#[derive(Debug)]
pub struct Told<M: Machine>(pub M, pub fn(M::Event) -> Observation);

impl<M: Machine> Process for Told<M> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.0.handle(now, uncommanded(input));
    }
    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        self.0.poll_output(now).map(|o| map_event(o, self.1))
    }
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.0.next_deadline()
    }
    fn may_checkpoint(&self) -> bool {
        self.0.may_checkpoint()
    }
    fn checkpoint(&self) -> Bytes {
        self.0.checkpoint()
    }
}

/// The same input for a machine with other commands: nobody commands anything here.
pub fn uncommanded<C>(input: Input<Infallible>) -> Input<C> {
    input.try_map(|never| match never {}).expect("there are no commands")
}

/// The same output with its event, if it is one, changed by `f`.
pub fn map_event<E, F>(output: Output<E>, f: impl FnOnce(E) -> F) -> Output<F> {
    match output.try_map(|e| Ok::<F, Infallible>(f(e))) {
        Ok(output) => output,
        Err(never) => match never {},
    }
}
