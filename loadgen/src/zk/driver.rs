//! What meets the kernel? One thread, one epoll: whatever is readable is read at once, answered at once, and
//! leaves in one write per connection and turn.

use super::session::{Hangup, Session, State, World};
use super::work::Phase;
use crate::clock::Clock;
use crate::timer::Timer;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Token of the timer; sessions have their index.
const TIMER: Token = Token(usize::MAX);
/// First size of the buffer all connections read into; it grows for replies that don't fit.
const READ_BYTES: usize = 256 << 10;
/// How often pings, time-outs and dials are looked at.
const TICK_NS: u64 = 20_000_000;
/// Shortest sleep until the next scheduled start: below it the generator would take the servers' processor.
const NAP_NS: u64 = 50_000;

struct Connection {
    stream: TcpStream,
    /// The front of a frame whose rest is still to come.
    partial: Vec<u8>,
    /// Bytes of the session's output that are sent.
    sent: usize,
    writable: bool,
}

/// All sessions and their connections.
pub struct Driver {
    poll: Poll,
    events: Events,
    clock: Clock,
    servers: Vec<SocketAddr>,
    sessions: Vec<Session>,
    connections: Vec<Option<Connection>>,
    /// Per session: which server is next.
    next_server: Vec<usize>,
    buffer: Vec<u8>,
    timer: Timer,
    tick_ns: u64,
}

impl Driver {
    /// The sessions of these numbers over `servers`, nothing dialled yet.
    ///
    /// # Errors
    /// If epoll is not to be had.
    pub fn new(servers: Vec<SocketAddr>, sessions: Range<u32>, depth: u32, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new()?;
        poll.registry().register(&mut SourceFd(&timer.fd()), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            clock,
            servers,
            sessions: sessions.clone().map(|i| Session::new(i, depth)).collect(),
            connections: sessions.clone().map(|_| None).collect(),
            next_server: sessions.map(|i| i as usize).collect(),
            buffer: vec![0; READ_BYTES],
            timer,
            tick_ns: 0,
        })
    }

    /// The sessions.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// One turn: waits for something to happen, at most until `until_ns`, and deals with it.
    ///
    /// # Errors
    /// If epoll fails; what happens to connections is the sessions' matter.
    pub fn turn(&mut self, until_ns: u64, world: &mut World) -> io::Result<()> {
        let now_ns = self.clock.now_ns();
        let mut wait_ns = until_ns.min(self.tick_ns).saturating_sub(now_ns);
        if let Some(due_ns) = world.work.next_due_ns() {
            let nap_ns = due_ns.saturating_sub(now_ns).max(NAP_NS);
            if nap_ns < wait_ns {
                self.timer.set(nap_ns)?;
                wait_ns += 1_000_000; // the timer rings first
            }
        }
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(wait_ns))) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() == TIMER {
                continue; // one shot: nothing to take back
            }
            let i = event.token().0;
            if event.is_writable() {
                self.writable(i, world);
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                self.readable(i, world);
            }
            self.serve(i, world);
        }
        self.events = events;
        let now_ns = self.clock.now_ns();
        for i in world.work.take_due(now_ns) {
            self.serve(i, world);
        }
        if now_ns >= self.tick_ns {
            self.tick_ns = now_ns + TICK_NS;
            self.tick(now_ns, world);
        }
        Ok(())
    }

    /// Gives every session work, after something changed for all: a phase, or the time.
    pub fn serve_all(&mut self, world: &mut World) {
        for i in 0..self.sessions.len() {
            self.serve(i, world);
        }
    }

    fn serve(&mut self, i: usize, world: &mut World) {
        let now_ns = self.clock.now_ns();
        self.sessions[i].top_up(now_ns, world);
        self.flush(i, world);
    }

    fn tick(&mut self, now_ns: u64, world: &mut World) {
        for i in 0..self.sessions.len() {
            match self.sessions[i].state() {
                State::Down { until_ns } if until_ns <= now_ns && world.work.phase() < Phase::Drain => {
                    self.dial(i, now_ns, world);
                }
                State::Closed => self.connections[i] = None,
                _ => match self.sessions[i].tick(now_ns, world) {
                    Ok(()) => self.flush(i, world),
                    Err(_) => self.hang_up(i, "given up after silence", world),
                },
            }
        }
    }

    fn dial(&mut self, i: usize, now_ns: u64, world: &mut World) {
        let server = self.next_server[i] % self.servers.len();
        self.next_server[i] += 1;
        self.sessions[i].dialling(now_ns, server);
        let dialled = TcpStream::connect(self.servers[server]).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(i), interest)?;
            Ok(stream)
        });
        match dialled {
            Ok(stream) => {
                let partial = Vec::new();
                self.connections[i] = Some(Connection { stream, partial, sent: 0, writable: false });
            }
            Err(e) => self.hang_up(i, &e.to_string(), world),
        }
    }

    /// Ends the connection of a session; one that has done its turn in a session storm dials the next at once.
    fn hang_up(&mut self, i: usize, why: &str, world: &mut World) {
        let is_over = self.sessions[i].state() == State::Over;
        if let Some(connection) = self.connections[i].take()
            && is_over
        {
            // A reset leaves no port behind that waits out its time: a storm would run out of them.
            let _ = SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO));
        }
        // The stream was dropped, which closes it and takes it out of epoll.
        let now_ns = self.clock.now_ns();
        self.sessions[i].disconnected(now_ns, why, world);
        if is_over && world.work.is_session_storm() {
            self.dial(i, now_ns, world);
        }
    }

    fn writable(&mut self, i: usize, world: &mut World) {
        let Some(connection) = &mut self.connections[i] else { return };
        connection.writable = true;
        if self.sessions[i].state() != State::Dialling {
            return;
        }
        match connection.stream.peer_addr() {
            Ok(_) => {
                let _ = connection.stream.set_nodelay(true);
                let now_ns = self.clock.now_ns();
                self.sessions[i].connected(now_ns, world);
            }
            Err(e) if e.kind() == ErrorKind::NotConnected => {
                if let Some(e) = connection.stream.take_error().unwrap_or_else(Some) {
                    self.hang_up(i, &e.to_string(), world);
                }
            }
            Err(e) => match connection.stream.take_error() {
                Ok(Some(e)) => self.hang_up(i, &e.to_string(), world),
                _ => self.hang_up(i, &e.to_string(), world),
            },
        }
    }

    fn readable(&mut self, i: usize, world: &mut World) {
        loop {
            let Some(connection) = &mut self.connections[i] else { return };
            let carried = connection.partial.len();
            if self.buffer.len() < carried * 2 {
                self.buffer.resize(carried * 2, 0);
            }
            self.buffer[..carried].copy_from_slice(&connection.partial);
            match connection.stream.read(&mut self.buffer[carried..]) {
                Ok(0) => return self.hang_up(i, "the server closed it", world),
                Ok(n) => {
                    let filled = carried + n;
                    let now_ns = self.clock.now_ns();
                    match self.sessions[i].received(now_ns, &self.buffer[..filled], world) {
                        Ok(used) => {
                            connection.partial.clear();
                            connection.partial.extend_from_slice(&self.buffer[used..filled]);
                        }
                        Err(Hangup) => return self.hang_up(i, "it makes no sense", world),
                    }
                    // A read that did not fill the buffer took all there was; later bytes bring a new event.
                    if filled < self.buffer.len() {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.hang_up(i, &e.to_string(), world),
            }
        }
    }

    fn flush(&mut self, i: usize, world: &mut World) {
        let Some(connection) = &mut self.connections[i] else { return };
        let output = self.sessions[i].output();
        while connection.writable && connection.sent < output.len() {
            match connection.stream.write(&output[connection.sent..]) {
                Ok(n) => connection.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => connection.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.hang_up(i, &e.to_string(), world),
            }
        }
        if connection.sent == output.len() {
            output.clear();
            connection.sent = 0;
        } else if connection.sent > output.len() / 2 {
            output.drain(..connection.sent);
            connection.sent = 0;
        }
    }
}
