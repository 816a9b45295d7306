//! What is one connection? A socket, the frame that is coming in, and the bytes that wait to go out.

use crate::limits::OUT_BYTES_PAUSE;
use crate::machine::ConnId;
use crate::time::Instant;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

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
/// Who has sent so much, of this frame or in one read before, gets room for all of the frame that it has announced;
/// anybody else gets as much again as he has sent: announcing costs nothing, and memory must not be had for it.
const TRUSTED_BYTES: usize = 64 << 10;
/// Pieces given to the kernel in one send.
const PIECES: usize = 64;

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub id: ConnId,
    /// `None` while it is being dialled.
    pub socket: Option<Rc<OwnedFd>>,
    framing: Framing,
    limit: usize,
    first: bool,
    chunk: usize,
    /// Here when no receive is under way.
    buf: Option<BytesMut>,
    out: VecDeque<Bytes>,
    pub out_bytes: usize,
    /// The kernel will say when the socket takes more.
    pub polling: bool,
    /// Listed as having something to send.
    pub dirty: bool,
    /// The machine was told last that much waits to leave.
    told_high: bool,
    /// By the machine.
    pub paused: bool,
    /// Will be read once the inbox is shorter.
    pub put_off: bool,
    pub closing: bool,
    pub dead: bool,
    /// When it ends even if not all was sent.
    pub end_at: Option<Instant>,
    /// The peer has said all it will; the turn in which it was seen.
    pub ended_in: Option<u64>,
}

impl Conn {
    pub fn new(id: ConnId, framing: Framing, limit: usize) -> Self {
        Self {
            id,
            socket: None,
            framing,
            limit,
            first: true,
            chunk: READ_BYTES_MIN,
            buf: Some(BytesMut::new()),
            out: VecDeque::new(),
            out_bytes: 0,
            polling: false,
            dirty: false,
            told_high: false,
            paused: false,
            put_off: false,
            closing: false,
            dead: false,
            end_at: None,
            ended_in: None,
        }
    }

    /// Whether the kernel has its read buffer.
    pub fn is_reading(&self) -> bool {
        self.buf.is_none()
    }

    /// Whether more of it is wanted.
    pub fn may_read(&self) -> bool {
        let held_back = !self.closing && (self.paused || self.out_bytes > OUT_BYTES_PAUSE);
        self.socket.is_some() && !self.dead && self.ended_in.is_none() && !held_back
    }

    /// The read buffer, with room.
    pub fn take_buf(&mut self) -> BytesMut {
        let mut buf = self.buf.take().expect("one receive at a time");
        let lacking = self.frame_under_way(&buf).map_or(0, |len| len - buf.len());
        let sent = self.chunk.max(buf.len());
        let want = if sent >= TRUSTED_BYTES { lacking } else { lacking.min(sent) };
        if buf.capacity() - buf.len() < READ_BYTES_MIN.max(want) {
            buf.reserve(self.chunk.max(want));
        }
        buf
    }

    /// Length of the frame that `buf` begins, if it tells.
    fn frame_under_way(&self, buf: &BytesMut) -> Option<usize> {
        if buf.is_empty() {
            return None;
        }
        (self.framing)(self.first, buf, self.limit).ok().flatten().filter(|&len| len > buf.len())
    }

    /// Takes the read buffer back, with `n` bytes more, and cuts frames.
    ///
    /// # Errors
    /// What is wrong with what came; the connection must end.
    pub fn received(
        &mut self,
        mut buf: BytesMut,
        n: usize,
        mut frame: impl FnMut(Bytes),
    ) -> Result<(), String> {
        assert!(
            buf.len() + n <= buf.capacity(),
            "the kernel gave {n} bytes to {} of {}",
            buf.len(),
            buf.capacity()
        );
        // SAFETY: the kernel has initialized the `n` bytes behind the present ones, and they fit.
        unsafe { buf.set_len(buf.len() + n) };
        if buf.len() == buf.capacity() && self.chunk < READ_BYTES_MAX {
            self.chunk *= 2;
        }
        let mut wrong = None;
        while !buf.is_empty() {
            match (self.framing)(self.first, &buf, self.limit) {
                Ok(Some(len)) if len <= buf.len() => {
                    self.first = false;
                    frame(buf.split_to(len).freeze());
                }
                Ok(_) => break,
                Err(e) => {
                    wrong = Some(e);
                    break;
                }
            }
        }
        self.buf = Some(buf);
        wrong.map_or(Ok(()), Err)
    }

    /// Takes the read buffer back, as it was. Gives how many bytes of a frame it holds.
    pub fn received_nothing(&mut self, buf: BytesMut) -> usize {
        let fill = buf.len();
        self.buf = Some(buf);
        fill
    }

    /// Queues bytes to be sent.
    pub fn push(&mut self, bytes: Bytes) {
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
    }

    /// Makes a receive under way end; nothing is sent or taken any more.
    pub fn shut(&mut self) {
        self.dead = true;
        self.out.clear();
        self.out_bytes = 0;
        if let Some(socket) = &self.socket {
            // SAFETY: a plain syscall on a descriptor that is open.
            unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// `Some` when what waits to leave has crossed the bound since the machine was told last.
    pub fn backlog_changed(&mut self) -> Option<bool> {
        let high = self.out_bytes > OUT_BYTES_PAUSE;
        (std::mem::replace(&mut self.told_high, high) != high && !self.dead).then_some(high)
    }

    /// Offers what waits to the socket, without waiting. True if all of it was taken.
    ///
    /// # Errors
    /// Of the socket: the connection must end.
    pub fn send_now(&mut self) -> std::io::Result<bool> {
        let Some(socket) = self.socket.clone() else { return Ok(false) };
        while !self.out.is_empty() {
            let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
            let mut n = 0;
            for (piece, bytes) in pieces.iter_mut().zip(&self.out) {
                *piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
                n += 1;
            }
            // SAFETY: zeroed is a valid msghdr; the iovecs point into `out`, which lives across the call.
            let sent = unsafe {
                let mut msg: libc::msghdr = std::mem::zeroed();
                msg.msg_iov = pieces.as_mut_ptr();
                msg.msg_iovlen = n;
                libc::sendmsg(socket.as_raw_fd(), &msg, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            if sent < 0 {
                let e = std::io::Error::last_os_error();
                match e.kind() {
                    std::io::ErrorKind::WouldBlock => return Ok(false),
                    std::io::ErrorKind::Interrupted => continue,
                    _ => return Err(e),
                }
            }
            self.sent(sent as usize);
        }
        Ok(true)
    }

    fn sent(&mut self, mut left: usize) {
        self.out_bytes -= left;
        while left > 0 {
            let front = self.out.front_mut().expect("the kernel took no more than it was given");
            let n = left.min(front.len());
            front.advance(n);
            left -= n;
            if front.is_empty() {
                self.out.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of four bytes of length and as many bytes.
    fn framing(_first: bool, bytes: &[u8], _limit: usize) -> Result<Option<usize>, String> {
        let head = bytes.first_chunk::<4>();
        Ok(head.map(|len| 4 + u32::from_be_bytes(*len) as usize))
    }

    /// Gives the connection as many of `bytes` as its buffer takes; how many, how much room there was, and a frame.
    fn feed(conn: &mut Conn, bytes: &[u8]) -> (usize, usize, Option<Bytes>) {
        let mut buf = conn.take_buf();
        let (len, room) = (buf.len(), buf.capacity());
        let n = bytes.len().min(room - len);
        buf.extend_from_slice(&bytes[..n]);
        // SAFETY: shorter than it was, of bytes.
        unsafe { buf.set_len(len) };
        let mut frame = None;
        conn.received(buf, n, |f| frame = Some(f)).unwrap();
        (n, room, frame)
    }

    #[test]
    fn room_is_given_for_what_was_sent_not_for_what_was_announced() {
        let mut conn = Conn::new(ConnId(1), framing, usize::MAX);
        let body = vec![7u8; 1 << 20];
        let all = [&(1u32 << 20).to_be_bytes()[..], &body[..]].concat();
        let (mut at, mut reads) = (7, 1);
        assert_eq!(feed(&mut conn, &all[..7]).2, None);
        let frame = loop {
            let (n, room, frame) = feed(&mut conn, &all[at..]);
            let fair =
                if at < TRUSTED_BYTES { 3 * at.max(READ_BYTES_MIN) } else { all.len() + READ_BYTES_MAX };
            assert!(room <= fair, "room for {room} after {at} bytes");
            (at, reads) = (at + n, reads + 1);
            if let Some(frame) = frame {
                break frame;
            }
        };
        assert_eq!((frame.len(), at), (all.len(), all.len()));
        assert!(reads < 12, "{reads} reads of a frame of a megabyte");
    }
}
