//! How is a machine driven here? As by any shell: the inputs of a turn, then its outputs until there are none;
//! the turn alone is counted.

use crate::meter;
use bytes::Bytes;
use std::any::Any;
use zoolog_client::{LogClient, LogCommand, LogEvent};
use zoolog_core::{Input, Instant, Machine, Output};
use zoolog_order::Orderer;
use zoolog_shard::Slot;
use zoolog_sim::process::map_event;
use zoolog_zk::Node;

/// Outputs of one turn for which there is room without asking for memory.
const OUTPUTS: usize = 4096;

/// What a machine told its owner, as far as scenarios care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It delivered that many records of the log.
    Delivered(u64),
    /// That many records of its own are in the log.
    Appended(u64),
    /// Anything else.
    Other,
}

/// A machine of any type.
pub trait Host {
    /// One turn.
    fn turn(&mut self, now: Instant, inputs: Vec<Input<LogCommand>>, counted: bool) -> Vec<Output<Told>>;
    /// As [`Machine::next_deadline`].
    fn deadline(&self) -> Option<Instant>;
    /// The machine itself.
    fn any(&self) -> &dyn Any;
}

struct Hosted<M: Machine> {
    machine: M,
    outputs: Vec<Output<M::Event>>,
    told: fn(M::Event) -> Told,
    command: fn(LogCommand) -> Option<M::Command>,
}

impl<M: Machine + 'static> Hosted<M> {
    fn boxed(
        machine: M,
        told: fn(M::Event) -> Told,
        command: fn(LogCommand) -> Option<M::Command>,
    ) -> Box<dyn Host> {
        Box::new(Self { machine, outputs: Vec::with_capacity(OUTPUTS), told, command })
    }
}

/// Hosts an orderer.
pub fn orderer(machine: Orderer) -> Box<dyn Host> {
    Hosted::boxed(machine, |_| Told::Other, |_| None)
}

/// Hosts a slot.
pub fn slot(machine: Slot) -> Box<dyn Host> {
    Hosted::boxed(machine, |_| Told::Other, |_| None)
}

/// Hosts a log client.
pub fn client(machine: LogClient) -> Box<dyn Host> {
    let told = |event| match event {
        LogEvent::Committed(c) => Told::Delivered(u64::from(c.take)),
        LogEvent::Appended { count, .. } => Told::Appended(u64::from(count)),
        _ => Told::Other,
    };
    Hosted::boxed(machine, told, Some)
}

/// Hosts a ZooKeeper node.
pub fn zk(machine: Node) -> Box<dyn Host> {
    Hosted::boxed(machine, |_| Told::Other, |_| None)
}

impl<M: Machine + 'static> Host for Hosted<M> {
    fn turn(&mut self, now: Instant, inputs: Vec<Input<LogCommand>>, counted: bool) -> Vec<Output<Told>> {
        let command = self.command;
        let inputs = inputs.into_iter().map(|i| i.try_map(command).expect("only log clients take commands"));
        let inputs: Vec<_> = inputs.collect();
        let (machine, outputs) = (&mut self.machine, &mut self.outputs);
        meter::run(counted, || {
            for input in inputs {
                machine.handle(now, input);
            }
            while let Some(output) = machine.poll_output(now) {
                if !matches!(output, Output::ReadClock) {
                    outputs.push(output);
                }
            }
            machine.sent(now);
        });
        self.outputs.drain(..).map(|o| map_event(o, self.told)).collect()
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.next_deadline().map(|(at, _)| at)
    }

    fn any(&self) -> &dyn Any {
        &self.machine
    }
}

/// The frames in what was sent over a connection between nodes.
pub fn frames(mut bytes: Bytes) -> Vec<Bytes> {
    use zoolog_core::{limits::FRAME_BYTES_MAX, wire::frame_length};
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len =
            frame_length(&bytes, FRAME_BYTES_MAX).expect("our own frames").expect("whole frames are sent");
        frames.push(bytes.split_to(len));
    }
    frames
}
