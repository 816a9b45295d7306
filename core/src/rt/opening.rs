//! How does a connection begin? It comes in by the listener, or is dialled; then both ways are alike.

use super::conn::{Conn, node_framing};
use super::net::{Net, mark};
use super::ring::{Op, Ring};
use super::wake::Finished;
use crate::machine::{ConnId, Input};
use crate::time::Instant;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

impl<C> Net<C> {
    /// A connection came in, or couldn't.
    pub fn accepted(
        &mut self,
        ring: &mut Ring,
        listener: Rc<OwnedFd>,
        fd: std::io::Result<usize>,
        now: Instant,
    ) {
        match fd {
            Ok(fd) => {
                // SAFETY: the kernel just made it for us.
                let socket = unsafe { OwnedFd::from_raw_fd(fd as i32) };
                ring.ask(self.node, Op::Accept { listener });
                let id = ConnId(self.next_accepted);
                self.next_accepted += 1;
                let peer = socket2::SockRef::from(&socket).peer_addr().ok().and_then(|a| a.as_socket());
                self.conns.insert(id, Conn::new(id, self.framing, self.frame_limit));
                let peer = peer.map(|a| a.to_string()).unwrap_or_default();
                self.inbox.push_back(Input::Accepted { conn: id, peer });
                self.start(ring, id, Rc::new(socket));
            }
            Err(e) => {
                // Out of file descriptors, mostly: it passes when connections end; don't spin.
                tracing::warn!(node = %self.name, "can't accept a connection: {e}; trying again in 20 ms");
                self.accept_at = Some(now + ACCEPT_PAUSE);
            }
        }
    }

    /// Connects; always in the framing of our own nodes.
    pub fn dial(&mut self, ring: &mut Ring, id: ConnId, addr: String) {
        let old = self.conns.insert(id, Conn::new(id, node_framing, crate::limits::FRAME_BYTES_MAX));
        assert!(old.is_none(), "connection {id:?} dialled twice");
        match addr.parse() {
            Ok(addr) => self.resolved(ring, id, Ok(addr)),
            // A name: elsewhere, since the resolver blocks.
            Err(_) => self.elsewhere.run(move || Finished::Resolved { conn: id, result: resolve(&addr) }),
        }
    }

    /// It is known where a name leads.
    pub fn resolved(&mut self, ring: &mut Ring, id: ConnId, result: Result<SocketAddr, String>) {
        if self.conns.get(&id).is_none_or(|c| c.dead) {
            return self.gone(id);
        }
        let made = result.and_then(|addr| {
            let domain = socket2::Domain::for_address(addr);
            let socket = socket2::Socket::new(domain, socket2::Type::STREAM.cloexec(), None);
            socket.map(|s| (addr, OwnedFd::from(s))).map_err(|e| e.to_string())
        });
        match made {
            Ok((addr, socket)) => {
                let addr = Box::new(socket2::SockAddr::from(addr));
                ring.ask(self.node, Op::Connect { conn: id, socket: Rc::new(socket), addr });
            }
            Err(e) => {
                tracing::debug!(node = %self.name, "can't connect: {e}");
                self.gone(id);
            }
        }
    }

    /// A dial succeeded or failed.
    pub fn connected(
        &mut self,
        ring: &mut Ring,
        id: ConnId,
        socket: Rc<OwnedFd>,
        result: std::io::Result<usize>,
    ) {
        match result {
            Ok(_) if self.conns.get(&id).is_some_and(|c| !c.dead) => {
                self.inbox.push_back(Input::Connected { conn: id });
                self.start(ring, id, socket);
            }
            Ok(_) => self.gone(id),
            Err(e) => {
                tracing::debug!(node = %self.name, "can't connect: {e}");
                self.gone(id);
            }
        }
    }

    fn start(&mut self, ring: &mut Ring, id: ConnId, socket: Rc<OwnedFd>) {
        let fd = socket.as_fd();
        let options = socket2::SockRef::from(&fd);
        let tuned = options.set_tcp_nodelay(true).and_then(|()| options.set_keepalive(true));
        let tuned = tuned.and_then(|()| options.set_tcp_user_timeout(Some(Duration::from_secs(20))));
        if let Err(e) = tuned {
            tracing::debug!(node = %self.name, "socket options: {e}");
        }
        let conn = self.conns.get_mut(&id).expect("entered before");
        conn.socket = Some(socket);
        if conn.out_bytes > 0 {
            mark(&mut self.dirty, conn);
        }
        self.read_on(ring, id);
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let found = addr.to_socket_addrs().map_err(|e| format!("{addr}: {e}"))?.next();
    found.ok_or_else(|| format!("{addr} has no address"))
}
