//! How is a machine run for real? One loop per node: take what has arrived, let the machine handle it, carry
//! out what it wants, flush once, wait. The loop is the same for every kind of node.

use super::clock;
use super::disk::Disk;
use super::event::Event;
use super::executors::{Stop, count_inputs, within};
use super::tcp::{Framing, Inbox, Net};
use crate::machine::{Input, Machine, Output};
use crate::time::Instant;
use glommio::net::TcpListener;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::time::Duration;

/// Inputs handled in one turn at most. Enough that a turn's fixed cost (some 10 us) disappears, few enough
/// that a turn stays below a millisecond.
const INPUTS_PER_TURN: usize = 512;
/// How often a machine is told the wall time.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// Longest sleep without looking.
const IDLE: Duration = Duration::from_secs(3600);

/// What a node needs besides its machine.
pub struct NodeSpec {
    /// For logs, such as `shard-0`.
    pub name: String,
    /// Where peers and clients connect.
    pub listener: Option<std::net::TcpListener>,
    /// How accepted connections are cut into frames.
    pub framing: Framing,
    /// Bytes of one accepted frame at most.
    pub frame_limit: usize,
    /// Its log, if it has one, already recovered.
    pub disk: Option<Disk>,
    /// Asks it to end.
    pub stop: Stop,
}

impl std::fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs `machine` until it is asked to stop or its disk fails. Commands come from other threads through
/// `commands`, if given; `on_event` hears of the machine's events, and ends the node with an error.
///
/// # Errors
/// Text for a person; the node must not go on.
pub async fn run<M>(
    machine: M,
    spec: NodeSpec,
    commands: Option<flume::Receiver<M::Command>>,
    mut on_event: impl FnMut(M::Event) -> Result<(), String>,
) -> Result<(), String>
where
    M: Machine + 'static,
    M::Command: 'static,
{
    let inbox = Rc::new(Inbox { queue: RefCell::default(), event: Event::default(), turns: Cell::new(0) });
    let net = Net::new(spec.name.clone(), inbox.clone(), spec.framing, spec.frame_limit);
    if let Some(listener) = spec.listener {
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        // SAFETY: the descriptor is a listening socket that we own and give away here.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        glommio::spawn_local(net.clone().accept_all(listener)).detach();
    }
    if let Some(commands) = commands {
        let inbox = inbox.clone();
        glommio::spawn_local(async move {
            while let Ok(command) = commands.recv_async().await {
                inbox.push(Input::Command(command));
                while let Ok(command) = commands.try_recv() {
                    inbox.push(Input::Command(command));
                }
            }
        })
        .detach();
    }
    let stop = spec.stop.clone();
    let waker = inbox.clone();
    glommio::spawn_local(async move {
        stop.wait().await;
        waker.event.set();
    })
    .detach();
    let disk = match spec.disk {
        Some(disk) => Some(disk.start(inbox.clone()).await?),
        None => None,
    };
    let mut pump = Pump { machine, inbox, net, disk, now: clock::now(), wall_at: Instant(0) };
    loop {
        let ended = pump.turn(&mut on_event)?;
        if spec.stop.is_stopped() {
            break;
        }
        if let Some(why) = ended {
            return Err(why);
        }
        pump.wait().await;
    }
    if let Some(disk) = &pump.disk {
        disk.finish().await;
    }
    Ok(())
}

struct Pump<M: Machine> {
    machine: M,
    inbox: Rc<Inbox<M::Command>>,
    net: Rc<Net<M::Command>>,
    disk: Option<super::disk::RunningDisk<M::Command>>,
    now: Instant,
    wall_at: Instant,
}

impl<M: Machine + 'static> Pump<M>
where
    M::Command: 'static,
{
    /// One turn. `Some` when the node can't go on.
    fn turn(
        &mut self,
        on_event: &mut impl FnMut(M::Event) -> Result<(), String>,
    ) -> Result<Option<String>, String> {
        self.now = clock::now();
        self.inbox.turns.set(self.inbox.turns.get() + 1);
        if self.now >= self.wall_at {
            self.wall_at = self.now + WALL_CLOCK_EVERY;
            self.machine.handle(self.now, Input::WallClock(clock::wall()));
        }
        let mut inputs: VecDeque<Input<M::Command>> = std::mem::take(&mut *self.inbox.queue.borrow_mut());
        let n = inputs.len().min(INPUTS_PER_TURN);
        count_inputs(n);
        for input in inputs.drain(..n) {
            self.machine.handle(self.now, input);
        }
        self.give_back(inputs);
        if self.machine.next_deadline().is_some_and(|(at, _)| at <= self.now) {
            self.machine.handle(self.now, Input::Timer);
        }
        while let Some(output) = self.machine.poll_output(self.now) {
            self.carry_out(output, on_event)?;
        }
        if let Some(disk) = &self.disk {
            disk.roll_if_due(|| self.machine.checkpoint());
            disk.kick();
            if let Some(why) = disk.failure() {
                return Ok(Some(why));
            }
        }
        self.net.flush();
        Ok(None)
    }

    /// Puts what a turn left over back to the front.
    fn give_back(&self, mut left: VecDeque<Input<M::Command>>) {
        let mut queue = self.inbox.queue.borrow_mut();
        if left.is_empty() && queue.is_empty() {
            *queue = left; // keeps the allocation
            return;
        }
        left.append(&mut queue);
        *queue = left;
        if !queue.is_empty() {
            self.inbox.event.set();
        }
    }

    fn carry_out(
        &mut self,
        output: Output<M::Event>,
        on_event: &mut impl FnMut(M::Event) -> Result<(), String>,
    ) -> Result<(), String> {
        let disk = || self.disk.as_ref().ok_or_else(|| "a node without a log wanted to persist".to_string());
        match output {
            Output::Dial { conn, addr } => self.net.dial(conn, addr),
            Output::Send { conn, bytes } => self.net.send(conn, bytes),
            Output::Close { conn } => self.net.close(conn),
            Output::Pause { conn } => self.net.pause(conn, true),
            Output::Resume { conn } => self.net.pause(conn, false),
            Output::Persist { token, records } => disk()?.persist(token, records),
            Output::Load { token, pos } => disk()?.load(token, pos),
            Output::Release { segment } => disk()?.release(segment),
            Output::Event(event) => on_event(event)?,
        }
        Ok(())
    }

    /// Waits for work, or for the machine's next deadline.
    async fn wait(&self) {
        let next = self.machine.next_deadline().map_or(self.now + IDLE, |(at, _)| at).min(self.wall_at);
        let now = clock::now();
        if next <= now {
            // Always give other tasks, and the reactor, their turn.
            glommio::executor().yield_task_queue_now().await;
            return;
        }
        let _ = within(next.since(now), self.inbox.event.wait()).await;
    }
}
