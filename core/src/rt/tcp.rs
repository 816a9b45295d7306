//! How do bytes get from a socket to a machine and back? Framed connections of one executor: a reader task
//! each, which cuts frames and hands them over; writes go straight to the socket once per turn, and only
//! what it doesn't take at once goes through a writer task.

use super::event::Event;
use crate::limits::{OUT_BYTES_MAX, OUT_BYTES_PAUSE};
use crate::machine::{ConnId, Input};
use bytes::{Buf, Bytes, BytesMut};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use glommio::net::{TcpListener, TcpStream};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// Cuts frames: length of the frame that starts the bytes, `None` if it takes more to tell. `first` is true
/// for a connection's first frame.
pub type Framing = fn(first: bool, bytes: &[u8], limit: usize) -> Result<Option<usize>, String>;

/// Frames between our own nodes.
pub fn node_framing(_first: bool, bytes: &[u8], limit: usize) -> Result<Option<usize>, String> {
    crate::wire::frame_length(bytes, limit).map_err(|e| e.to_string())
}

/// First size of a connection's read buffer, and what it doubles up to while reads fill it.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Reads that fill their buffer, in a row, before the reader lets the reactor look at everything else.
const FULL_READS_MAX: u32 = 4;
/// How long a connection that is being closed may take to drain what was sent.
const LINGER: Duration = Duration::from_secs(3);
/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection.
#[derive(Debug)]
struct Conn {
    id: ConnId,
    /// -1 while it is being dialled.
    fd: Cell<RawFd>,
    writer: RefCell<Option<WriteHalf<TcpStream>>>,
    out: RefCell<VecDeque<Bytes>>,
    out_bytes: Cell<usize>,
    /// A writer task is at it.
    writing: Cell<bool>,
    /// Listed in `Net::dirty`.
    dirty: Cell<bool>,
    /// The machine was told last that much waits to leave.
    told_high: Cell<bool>,
    /// By the machine.
    paused: Cell<bool>,
    closing: Cell<bool>,
    dead: Cell<bool>,
    may_read: Event,
}

impl Conn {
    fn new(id: ConnId) -> Rc<Self> {
        Rc::new(Self {
            id,
            fd: Cell::new(-1),
            writer: RefCell::default(),
            out: RefCell::default(),
            out_bytes: Cell::new(0),
            writing: Cell::new(false),
            dirty: Cell::new(false),
            told_high: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            dead: Cell::new(false),
            may_read: Event::default(),
        })
    }

    fn must_wait_to_read(&self) -> bool {
        !self.dead.get()
            && !self.closing.get()
            && (self.paused.get() || self.out_bytes.get() > OUT_BYTES_PAUSE)
    }

    /// Makes reader and writer end; the reader then reports `Closed`.
    fn shut(&self) {
        self.dead.set(true);
        if self.fd.get() >= 0 {
            // SAFETY: a plain syscall; the fd is open as long as `fd` is set (the reader resets it first).
            unsafe { libc::shutdown(self.fd.get(), libc::SHUT_RDWR) };
        }
        self.may_read.set();
    }

    fn took(&self, bytes: usize) {
        self.out_bytes.set(self.out_bytes.get() - bytes);
        if self.out_bytes.get() <= OUT_BYTES_PAUSE {
            self.may_read.set();
        }
    }

    /// Offers what waits to the socket, without waiting. True if all of it was taken.
    fn send_now(&self) -> std::io::Result<bool> {
        let mut out = self.out.borrow_mut();
        while !out.is_empty() {
            let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 64];
            let mut n = 0;
            for (part, bytes) in parts.iter_mut().zip(out.iter()) {
                *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
                n += 1;
            }
            // SAFETY: zeroed is a valid msghdr; the iovecs point into `out`, which lives across the call.
            let sent = unsafe {
                let mut msg: libc::msghdr = std::mem::zeroed();
                msg.msg_iov = parts.as_mut_ptr();
                msg.msg_iovlen = n;
                libc::sendmsg(self.fd.get(), &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            if sent < 0 {
                let e = std::io::Error::last_os_error();
                return match e.kind() {
                    std::io::ErrorKind::WouldBlock => Ok(false),
                    std::io::ErrorKind::Interrupted => continue,
                    _ => Err(e),
                };
            }
            let mut left = sent as usize;
            self.took(left);
            while left > 0 {
                let front = out.front_mut().expect("the kernel took no more than it was given");
                let n = left.min(front.len());
                front.advance(n);
                left -= n;
                if front.is_empty() {
                    out.pop_front();
                }
            }
        }
        Ok(true)
    }
}

/// What is waiting for the machine, and the pump that carries it there.
#[derive(Debug)]
pub(super) struct Inbox<C> {
    pub queue: RefCell<VecDeque<Input<C>>>,
    pub event: Event,
    /// Counts turns of the pump.
    pub turns: Cell<u64>,
}

impl<C> Inbox<C> {
    pub fn push(&self, input: Input<C>) {
        self.queue.borrow_mut().push_back(input);
        self.event.set();
    }
}

/// All connections of one node.
pub(super) struct Net<C> {
    name: String,
    inbox: Rc<Inbox<C>>,
    conns: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    dirty: RefCell<Vec<Rc<Conn>>>,
    framing: Framing,
    frame_limit: usize,
    next_accepted: Cell<u64>,
}

impl<C: 'static> Net<C> {
    pub fn new(name: String, inbox: Rc<Inbox<C>>, framing: Framing, frame_limit: usize) -> Rc<Self> {
        Rc::new(Self {
            name,
            inbox,
            conns: RefCell::default(),
            dirty: RefCell::default(),
            framing,
            frame_limit,
            next_accepted: Cell::new(1),
        })
    }

    /// Takes connections for ever. The future is never dropped half-way: an accept in flight would leak.
    pub async fn accept_all(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    let peer = stream.peer_addr().map(|a| a.to_string()).unwrap_or_default();
                    let id = ConnId(self.next_accepted.get());
                    self.next_accepted.set(id.0 + 1);
                    let conn = Conn::new(id);
                    self.conns.borrow_mut().insert(id, conn.clone());
                    self.inbox.push(Input::Accepted { conn: id, peer });
                    self.start(conn, stream, self.framing, self.frame_limit);
                }
                Err(e) => {
                    // Out of file descriptors, mostly: it passes when connections end; don't spin.
                    tracing::warn!(node = %self.name, "can't accept a connection: {e}; trying again in 20 ms");
                    glommio::timer::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Connects; always in the framing of our own nodes.
    pub fn dial(self: &Rc<Self>, id: ConnId, addr: String) {
        let conn = Conn::new(id);
        let old = self.conns.borrow_mut().insert(id, conn.clone());
        assert!(old.is_none(), "connection {id:?} dialled twice");
        let net = self.clone();
        glommio::spawn_local(async move {
            let stream = match resolve(addr.clone()).await {
                Ok(addr) => TcpStream::connect_timeout(addr, DIAL_TIMEOUT).await.map_err(|e| e.to_string()),
                Err(e) => Err(e),
            };
            match stream {
                Ok(stream) if !conn.dead.get() => {
                    net.inbox.push(Input::Connected { conn: id });
                    net.start(conn, stream, node_framing, crate::limits::FRAME_BYTES_MAX);
                }
                Ok(_) => net.gone(&conn),
                Err(e) => {
                    tracing::debug!(node = %net.name, "can't connect to {addr}: {e}");
                    net.gone(&conn);
                }
            }
        })
        .detach();
    }

    fn start(self: &Rc<Self>, conn: Rc<Conn>, stream: TcpStream, framing: Framing, limit: usize) {
        let fd = stream.as_raw_fd();
        // SAFETY: the stream is open, and owned by this function until it is split below.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = socket2::SockRef::from(&socket);
        let tuned = socket.set_tcp_nodelay(true).and_then(|()| socket.set_keepalive(true));
        let tuned = tuned.and_then(|()| socket.set_tcp_user_timeout(Some(Duration::from_secs(20))));
        if let Err(e) = tuned {
            tracing::debug!(node = %self.name, "socket options: {e}");
        }
        let (reader, writer) = futures_lite::io::split(stream);
        *conn.writer.borrow_mut() = Some(writer);
        conn.fd.set(fd);
        if !conn.out.borrow().is_empty() {
            self.mark(&conn);
            self.flush();
        }
        if conn.closing.get() {
            self.close(conn.id);
        }
        let net = self.clone();
        glommio::spawn_local(async move {
            if let Err(why) = net.read_all(&conn, reader, framing, limit).await {
                tracing::info!(node = %net.name, conn = conn.id.0, "closing a connection: {why}");
            }
            net.gone(&conn);
        })
        .detach();
    }

    async fn read_all(
        &self,
        conn: &Conn,
        mut reader: ReadHalf<TcpStream>,
        framing: Framing,
        limit: usize,
    ) -> Result<(), String> {
        let (mut chunk, mut first, mut full_reads) = (READ_BYTES_MIN, true, 0);
        let mut buf = BytesMut::zeroed(chunk);
        let mut fill = 0;
        loop {
            while conn.must_wait_to_read() {
                conn.may_read.wait().await;
            }
            if conn.dead.get() {
                return Ok(());
            }
            let n = match reader.read(&mut buf[fill..]).await {
                Ok(n) => n,
                Err(e) => return Err(e.to_string()),
            };
            if n == 0 {
                self.drain(conn).await;
                return if fill == 0 {
                    Ok(())
                } else {
                    Err(format!("it ended within a frame ({fill} bytes)"))
                };
            }
            fill += n;
            let was_full = fill == buf.len();
            let mut want = 0;
            while fill > 0 {
                match framing(first, &buf[..fill], limit)? {
                    Some(len) if len <= fill => {
                        first = false;
                        let bytes = buf.split_to(len).freeze();
                        fill -= len;
                        self.inbox.push(Input::Frame { conn: conn.id, bytes });
                    }
                    Some(len) => {
                        want = len;
                        break;
                    }
                    None => break,
                }
            }
            if was_full && chunk < READ_BYTES_MAX {
                chunk *= 2;
            }
            // Room for the rest of a frame that is under way, and for a good read.
            if buf.len() < want || buf.len() - fill < READ_BYTES_MIN {
                let mut next = BytesMut::zeroed(want.max(fill + chunk));
                next[..fill].copy_from_slice(&buf[..fill]);
                buf = next;
            }
            full_reads = if was_full { full_reads + 1 } else { 0 };
            if full_reads >= FULL_READS_MAX {
                full_reads = 0;
                glommio::timer::sleep(Duration::from_micros(1)).await;
            }
        }
    }

    /// The peer has said all it will: what the machine answers in its next turn still goes out (as four-letter
    /// words want it, which are often sent with the end of the stream behind them).
    async fn drain(&self, conn: &Conn) {
        let turn = self.inbox.turns.get();
        self.inbox.event.set();
        for _ in 0..200 {
            let turned = self.inbox.turns.get() > turn;
            if conn.dead.get() || (turned && conn.out_bytes.get() == 0) {
                return;
            }
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }

    fn gone(&self, conn: &Rc<Conn>) {
        conn.dead.set(true);
        conn.fd.set(-1);
        conn.out.borrow_mut().clear();
        conn.out_bytes.set(0);
        drop(conn.writer.borrow_mut().take());
        if self.conns.borrow_mut().remove(&conn.id).is_some() {
            self.inbox.push(Input::Closed { conn: conn.id });
        }
    }

    fn mark(&self, conn: &Rc<Conn>) {
        if !conn.dirty.replace(true) {
            self.dirty.borrow_mut().push(conn.clone());
        }
    }

    /// Queues bytes; `flush` sends them.
    pub fn send(&self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.conns.borrow().get(&id).cloned() else { return };
        if conn.dead.get() || conn.closing.get() || bytes.is_empty() {
            return;
        }
        conn.out_bytes.set(conn.out_bytes.get() + bytes.len());
        conn.out.borrow_mut().push_back(bytes);
        if conn.out_bytes.get() > OUT_BYTES_MAX {
            tracing::warn!(node = %self.name, conn = id.0, "closing a connection that doesn't read: {} bytes wait", conn.out_bytes.get());
            conn.shut();
            return;
        }
        self.mark(&conn);
    }

    /// Sends what was queued, as far as the sockets take it; the rest goes on in the background.
    pub fn flush(self: &Rc<Self>) {
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        for conn in dirty {
            conn.dirty.set(false);
            if conn.dead.get() || conn.fd.get() < 0 {
                continue;
            }
            if conn.writing.get() {
                self.tell_backlog(&conn);
                continue;
            }
            match conn.send_now() {
                Ok(true) => {}
                Ok(false) => {
                    self.tell_backlog(&conn);
                    self.write_rest(conn);
                }
                Err(e) => {
                    tracing::debug!(node = %self.name, conn = conn.id.0, "send: {e}");
                    conn.shut();
                }
            }
        }
    }

    /// Tells the machine when what waits to leave has crossed the bound.
    fn tell_backlog(&self, conn: &Conn) {
        let high = conn.out_bytes.get() > OUT_BYTES_PAUSE;
        if conn.told_high.replace(high) != high && !conn.dead.get() {
            self.inbox.push(Input::Backlog { conn: conn.id, high });
        }
    }

    fn write_rest(self: &Rc<Self>, conn: Rc<Conn>) {
        let Some(mut writer) = conn.writer.borrow_mut().take() else { return };
        conn.writing.set(true);
        let net = self.clone();
        glommio::spawn_local(async move {
            loop {
                let Some(bytes) = conn.out.borrow_mut().pop_front() else { break };
                if let Err(e) = writer.write_all(&bytes).await {
                    tracing::debug!(conn = conn.id.0, "write: {e}");
                    conn.shut();
                    break;
                }
                if conn.dead.get() {
                    break;
                }
                conn.took(bytes.len());
                net.tell_backlog(&conn);
            }
            conn.writing.set(false);
            if !conn.dead.get() {
                *conn.writer.borrow_mut() = Some(writer);
                if conn.closing.get() {
                    conn.shut();
                }
            }
        })
        .detach();
    }

    /// Ends a connection once what was sent has left, or after `LINGER`.
    pub fn close(self: &Rc<Self>, id: ConnId) {
        let Some(conn) = self.conns.borrow().get(&id).cloned() else { return };
        conn.closing.set(true);
        conn.may_read.set();
        self.flush();
        if conn.fd.get() < 0 {
            conn.dead.set(true); // still dialling: it is dropped when the dial ends
        } else if conn.out_bytes.get() == 0 {
            conn.shut();
        } else {
            glommio::spawn_local(async move {
                glommio::timer::sleep(LINGER).await;
                if !conn.dead.get() {
                    conn.shut();
                }
            })
            .detach();
        }
    }

    /// Stops or resumes reading.
    pub fn pause(&self, id: ConnId, paused: bool) {
        if let Some(conn) = self.conns.borrow().get(&id) {
            conn.paused.set(paused);
            conn.may_read.set();
        }
    }
}

/// `ip:port` at once; a name on the blocking thread, since the resolver blocks.
async fn resolve(addr: String) -> Result<std::net::SocketAddr, String> {
    if let Ok(addr) = addr.parse() {
        return Ok(addr);
    }
    let name = addr.clone();
    let found = glommio::executor().spawn_blocking(move || {
        use std::net::ToSocketAddrs;
        name.to_socket_addrs().map(|mut all| all.next()).map_err(|e| e.to_string())
    });
    found.await.map_err(|e| format!("{addr}: {e}"))?.ok_or_else(|| format!("{addr} has no address"))
}
