//! How do bytes get from sockets to a machine and back? All connections of one node: receives cut into frames,
//! sends offered to the sockets once per turn; only what a socket doesn't take at once waits for the kernel's
//! word. How they begin is in `opening`.

use super::clock;
use super::conn::{Conn, Framing};
use super::ring::{Op, Ring};
use super::wake::Elsewhere;
use crate::limits::OUT_BYTES_MAX;
use crate::machine::{ConnId, Input};
use crate::time::Instant;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// How long a connection that is being closed may take to drain what was sent.
const LINGER: Duration = Duration::from_secs(3);
/// How long a connection whose peer has said all may take to be answered.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
/// Inputs that may wait for the machine while more is read.
const INBOX: usize = 4096;
/// How long a turn may send to sockets, as seen after so many of them. A socket costs 10 to 20 us, and one that is closed
/// twice as much: a thousand answered in one turn would keep everybody waiting who asks next.
const SEND_FOR: Duration = Duration::from_millis(2);
const SENDS_PER_LOOK: usize = 16;
/// How many of those that the turns before left over are sent to at least.
const LATE_PER_TURN: usize = 64;

/// All connections of one node, and what waits for its machine.
pub(super) struct Net<C> {
    pub(super) name: String,
    pub(super) node: usize,
    listener: Option<Rc<OwnedFd>>,
    pub(super) framing: Framing,
    pub(super) frame_limit: usize,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) next_accepted: u64,
    pub(super) accept_at: Option<Instant>,
    /// With something to send.
    pub(super) dirty: Vec<ConnId>,
    /// The same, for which turns before had no time.
    late: VecDeque<ConnId>,
    /// That end by themselves soon, and when the next of them does at the latest.
    ending: Vec<ConnId>,
    next_end: Option<Instant>,
    /// To be read once the inbox is shorter.
    put_off: Vec<ConnId>,
    pub(super) inbox: VecDeque<Input<C>>,
    /// Turns of the machine so far.
    turns: u64,
    /// Something waits for the end of a turn.
    wants_turn: bool,
    pub(super) elsewhere: Elsewhere,
}

impl<C> Net<C> {
    pub fn new(
        name: String,
        listener: Option<std::net::TcpListener>,
        framing: Framing,
        frame_limit: usize,
        elsewhere: Elsewhere,
        ring: &mut Ring,
    ) -> Self {
        let node = elsewhere.node;
        let listener = listener.map(|l| Rc::new(OwnedFd::from(l)));
        if let Some(listener) = &listener {
            ring.ask(node, Op::Accept { listener: listener.clone() });
        }
        Self {
            name,
            node,
            listener,
            framing,
            frame_limit,
            conns: BTreeMap::new(),
            next_accepted: 1,
            accept_at: None,
            dirty: Vec::new(),
            late: VecDeque::new(),
            ending: Vec::new(),
            next_end: None,
            put_off: Vec::new(),
            inbox: VecDeque::new(),
            turns: 0,
            wants_turn: false,
            elsewhere,
        }
    }

    /// Has the kernel receive, if more is wanted.
    pub(super) fn read_on(&mut self, ring: &mut Ring, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.is_reading() || !conn.may_read() {
            return;
        }
        if self.inbox.len() > INBOX {
            if !std::mem::replace(&mut conn.put_off, true) {
                self.put_off.push(id);
            }
            return;
        }
        let socket = conn.socket.clone().expect("it may be read");
        ring.ask(self.node, Op::Recv { conn: id, socket, buf: conn.take_buf() });
    }

    /// Bytes arrived, or the end, or an error.
    pub fn received(
        &mut self,
        ring: &mut Ring,
        id: ConnId,
        buf: BytesMut,
        n: std::io::Result<usize>,
        now: Instant,
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let why = match n {
            Ok(0) => {
                let fill = conn.received_nothing(buf);
                if !conn.dead && fill == 0 {
                    // What the machine answers in its next turn still goes out (as four-letter words want it,
                    // which are often sent with the end of the stream behind them).
                    conn.ended_in = Some(self.turns);
                    self.end_soon(id, now + LAST_ANSWERS);
                    self.wants_turn = true;
                    return;
                }
                Some(format!("it ended within a frame ({fill} bytes)"))
            }
            Ok(n) => {
                let inbox = &mut self.inbox;
                conn.received(buf, n, |bytes| inbox.push_back(Input::Frame { conn: id, bytes })).err()
            }
            Err(e) => {
                conn.received_nothing(buf);
                Some(e.to_string())
            }
        };
        match why {
            Some(why) => {
                if !conn.dead {
                    tracing::info!(node = %self.name, conn = id.0, "closing a connection: {why}");
                }
                self.gone(id);
            }
            None if conn.dead => self.gone(id),
            None => self.read_on(ring, id),
        }
    }

    /// A socket takes bytes again.
    pub fn writable(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.polling = false;
            mark(&mut self.dirty, conn);
        }
    }

    /// Queues bytes; `flush` sends them.
    pub fn send(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.dead || conn.closing || bytes.is_empty() {
            return;
        }
        conn.push(bytes);
        if conn.out_bytes > OUT_BYTES_MAX {
            tracing::warn!(node = %self.name, conn = id.0, "closing a connection that doesn't read: {} bytes wait", conn.out_bytes);
            return self.shut(id);
        }
        mark(&mut self.dirty, conn);
    }

    /// Sends what was queued, as far as the sockets take it and there is time. To be called at the end of a turn. Returns
    /// whether there was anything.
    pub fn flush(&mut self, ring: &mut Ring) -> bool {
        let mut dirty = std::mem::take(&mut self.dirty);
        let any = !dirty.is_empty() || !self.late.is_empty();
        let mut time = SendTime::new();
        // What this turn brings goes first: who asks for little now need not wait for thousands who were told something.
        for id in dirty.drain(..) {
            match time.is_over() {
                false => self.send_to(ring, id),
                true => self.late.push_back(id),
            }
        }
        for n in 0..self.late.len() {
            if n >= LATE_PER_TURN && time.is_over() {
                break;
            }
            let id = self.late.pop_front().expect("as many as there are");
            self.send_to(ring, id);
        }
        if self.dirty.is_empty() {
            self.dirty = dirty; // keeps the allocation
        }
        any
    }

    /// Sends what the connection has.
    fn send_to(&mut self, ring: &mut Ring, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.dirty = false;
        if conn.dead || conn.socket.is_none() {
            return;
        }
        let sent = if conn.polling { Ok(false) } else { conn.send_now() };
        if let Some(high) = conn.backlog_changed() {
            // Before what else waits: the machine is to know of it in its next turn.
            self.inbox.push_front(Input::Backlog { conn: id, high });
        }
        match sent {
            Ok(true) if conn.closing => self.shut(id),
            Ok(all) => {
                if !all && !std::mem::replace(&mut conn.polling, true) {
                    let socket = conn.socket.clone().expect("looked at");
                    ring.ask(self.node, Op::Writable { conn: id, socket });
                }
                self.read_on(ring, id);
            }
            Err(e) => {
                tracing::debug!(node = %self.name, conn = id.0, "send: {e}");
                self.shut(id);
            }
        }
    }

    /// Ends a connection once what was sent has left, or after `LINGER`.
    pub fn close(&mut self, id: ConnId, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.closing = true;
        if conn.socket.is_none() {
            conn.dead = true; // still dialling: it is dropped when the dial ends
        } else if conn.out_bytes == 0 {
            self.shut(id);
        } else if !conn.dead {
            self.end_soon(id, now + LINGER);
        }
    }

    /// The connection ends by itself, at `at` at the latest.
    fn end_soon(&mut self, id: ConnId, at: Instant) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.end_at = Some(at);
            self.ending.push(id);
            self.next_end = Some(self.next_end.map_or(at, |end| end.min(at)));
        }
    }

    /// Stops or resumes reading.
    pub fn pause(&mut self, ring: &mut Ring, id: ConnId, paused: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.paused = paused;
            self.read_on(ring, id);
        }
    }

    /// Makes a connection end, now.
    fn shut(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.shut();
        // A receive under way comes back and ends it.
        if !conn.is_reading() {
            self.gone(id);
        }
    }

    pub(super) fn gone(&mut self, id: ConnId) {
        if let Some(mut conn) = self.conns.remove(&id) {
            conn.shut();
            self.inbox.push_back(Input::Closed { conn: id });
        }
    }

    /// Whether a turn has something to do for it, whatever the time.
    pub fn has_work(&self) -> bool {
        self.wants_turn || !self.inbox.is_empty() || !self.dirty.is_empty() || !self.late.is_empty()
    }

    /// Whether turns have left over what is to be sent.
    pub fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// A turn begins.
    pub fn turn(&mut self) {
        self.turns += 1;
        self.wants_turn = false;
    }

    /// What time brings: accepts after a pause, ends that are due, reads that were put off. Once a turn.
    pub fn tick(&mut self, ring: &mut Ring, now: Instant) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            let listener = self.listener.clone().expect("accepts come from a listener");
            ring.ask(self.node, Op::Accept { listener });
        }
        let (turns, mut ending) = (self.turns, std::mem::take(&mut self.ending));
        let mut next_end: Option<Instant> = None;
        ending.retain(|&id| {
            let Some(conn) = self.conns.get(&id) else { return false };
            let answered = conn.ended_in.is_some_and(|turn| turns > turn) && conn.out_bytes == 0;
            let over = answered || conn.end_at.is_some_and(|at| at <= now);
            match conn.end_at {
                _ if over => self.shut(id),
                at => next_end = next_end.into_iter().chain(at).min(),
            }
            !over
        });
        self.ending.append(&mut ending);
        self.next_end = next_end;
        if !self.put_off.is_empty() && self.inbox.len() <= INBOX / 2 {
            for id in std::mem::take(&mut self.put_off) {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.put_off = false;
                    self.read_on(ring, id);
                }
            }
        }
    }

    /// When `tick` has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_end.into_iter().chain(self.accept_at).min()
    }
}

/// Of one turn, for sending.
struct SendTime {
    since: Instant,
    sends: usize,
    over: bool,
}

impl SendTime {
    fn new() -> Self {
        Self { since: clock::now(), sends: 0, over: false }
    }

    /// Whether there is none left. To be asked before each send that may be put off.
    fn is_over(&mut self) -> bool {
        self.sends += 1;
        if self.sends.is_multiple_of(SENDS_PER_LOOK) {
            self.over |= clock::now().since(self.since) >= SEND_FOR;
        }
        self.over
    }
}

/// Has `flush` send what the connection has.
pub(super) fn mark(dirty: &mut Vec<ConnId>, conn: &mut Conn) {
    if !std::mem::replace(&mut conn.dirty, true) {
        dirty.push(conn.id);
    }
}
