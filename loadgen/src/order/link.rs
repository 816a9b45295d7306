//! How do frames come and go on one connection to an orderer? Bytes are gathered and written once per turn;
//! frames are taken out without being copied.

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use zoolog_core::limits::{FRAME_BYTES_MAX, OUT_BYTES_MAX};
use zoolog_core::wire::{self, Message};

/// How long the kernel may take to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// The socket, not waiting for anything.
    pub stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
    sent: usize,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = std::net::TcpStream::connect_timeout(&to, CONNECT_PATIENCE)
            .with_context(|| format!("no connection to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, input: BytesMut::new(), output: Vec::new(), sent: 0 })
    }

    /// Adds a frame to what is sent with the next [`flush`](Self::flush).
    pub fn send(&mut self, frame: &[u8]) {
        self.output.extend_from_slice(frame);
    }

    /// Whether earlier frames still wait to be sent.
    pub fn is_behind(&self) -> bool {
        !self.output.is_empty()
    }

    /// Sends what the kernel takes.
    ///
    /// # Errors
    /// When the connection is gone, or takes nothing any more.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(anyhow!(e).context("the connection to the orderer was lost")),
            }
        }
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        } else if self.output.len() - self.sent > OUT_BYTES_MAX {
            bail!("the orderer takes nothing any more: {} bytes wait for it", self.output.len() - self.sent);
        }
        Ok(())
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn receive(&mut self, scratch: &mut [u8]) -> anyhow::Result<()> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => bail!("the orderer closed the connection"),
                Ok(n) => {
                    self.input.extend_from_slice(&scratch[..n]);
                    if n < scratch.len() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(anyhow!(e).context("the connection to the orderer was lost")),
            }
        }
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// When what comes is not the protocol of Zoolog's nodes.
    pub fn frame(&mut self) -> anyhow::Result<Option<Bytes>> {
        let length = wire::frame_length(&self.input, FRAME_BYTES_MAX)
            .context("what answers is no orderer of this version: --orderers wants their own ports")?;
        Ok(length.filter(|n| *n <= self.input.len()).map(|n| self.input.split_to(n).freeze()))
    }
}

/// Number of a frame's message, without looking further.
pub fn kind(frame: &[u8]) -> u16 {
    wire::kind(frame)
}

/// A frame's message.
///
/// # Errors
/// When it is malformed, or the orderer refuses to go on.
pub fn message(frame: Bytes) -> anyhow::Result<Message> {
    match wire::decode(frame)?.message {
        Message::Refused(refused) => bail!("the orderer refuses: {} ({:?})", refused.text, refused.why),
        message => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::wire::{Refused, RefusedWhy, Tail};

    #[test]
    fn a_frames_kind_is_where_it_is_looked_for() {
        let tail = wire::encode(Tail { request: 3 });
        assert_eq!(kind(&tail), Message::Tail(Tail { request: 3 }).kind());
        assert_eq!(kind(b"abc"), 0);
    }

    #[test]
    fn a_refusal_is_an_error_in_its_own_words() {
        let refused = wire::encode(Refused { why: RefusedWhy::Stale, text: "too old".to_owned() });
        assert!(message(refused).unwrap_err().to_string().contains("too old"));
    }
}
