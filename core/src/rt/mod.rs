//! What meets the kernel? The shells that run machines for real: threads with an io_uring each, framed TCP, direct
//! files and the clock. Why not a ready-made executor: docs/decisions/0003-own-ring-loop.md.
//!
//! - [`preflight`]: can this machine run us at all?
//! - [`executors`]: threads, and the nodes on them.
//! - [`datadir`]: whose directory is this?
//! - [`starts`]: where the number of a slot's newest start is kept beside its log.
//! - [`pump`]: one node's turn: machine in the middle, network and disk around it.
//! - [`memory`]: touched before it is needed.
//! - [`priority`]: threads that let others go first.
//! - [`snapshots`]: files of an application's state, on a thread of their own.
//! - `net`, `opening`, `conn`, `disk`, `segments`, `space`: its parts.
//! - `ring`, `aligned`, `wake`: what they stand on: requests to the kernel, memory for direct I/O, other threads.

mod aligned;
pub mod clock;
mod conn;
pub mod datadir;
mod disk;
pub mod executors;
pub mod memory;
mod net;
mod opening;
pub mod preflight;
pub mod priority;
pub mod pump;
mod ring;
mod segments;
pub mod snapshots;
mod space;
pub mod starts;
mod wake;

pub use conn::{Framing, node_framing};
pub use disk::Disk;
pub use executors::{Executor, Host, Job};
pub use pump::NodeSpec;
pub use space::SpaceLimits;
pub use wake::{Stop, Waker};

use std::time::Duration;

/// Bytes that nobody can guess.
///
/// # Errors
/// If the system gives none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0u8; N];
    let mut file =
        std::fs::File::open("/dev/urandom").map_err(|e| format!("can't open /dev/urandom: {e}"))?;
    std::io::Read::read_exact(&mut file, &mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Binds a listening socket, so that a port in use is reported before anything starts.
///
/// # Errors
/// With the address and the cure in the text.
pub fn listen(addr: &str) -> Result<std::net::TcpListener, String> {
    bind(addr, false)
}

/// Binds several listening sockets to one address, between which the kernel spreads connections.
///
/// # Errors
/// As [`listen_when_free`]; also if it is in use by somebody who would share it.
pub fn listen_shared(addr: &str, sockets: u16) -> Result<Vec<std::net::TcpListener>, String> {
    // Who shares an address is not told of others who do: only one who doesn't is.
    drop(listen_when_free(addr)?);
    (0..sockets).map(|_| bind(addr, true)).collect()
}

/// As [`listen`], for a node of its own process: waits a while for a port that is in use. What a process that was killed
/// listened on is only given back once the kernel has taken its ring apart, which may be after it is gone and its
/// successor is there.
///
/// # Errors
/// As [`listen`].
#[allow(clippy::disallowed_methods, reason = "nothing runs yet; there is only this to wait for")]
pub fn listen_when_free(addr: &str) -> Result<std::net::TcpListener, String> {
    let until = clock::now() + PORT_PATIENCE;
    loop {
        match try_bind(addr, false) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && clock::now() < until => {
                std::thread::sleep(PORT_PAUSE);
            }
            result => return result.map_err(|e| why_not(addr, &e)),
        }
    }
}

/// How long a node waits for its port, and how often it tries.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
const PORT_PAUSE: Duration = Duration::from_millis(20);

fn bind(addr: &str, shared: bool) -> Result<std::net::TcpListener, String> {
    try_bind(addr, shared).map_err(|e| why_not(addr, &e))
}

fn why_not(addr: &str, e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "{addr} is in use by another process (`ss -ltnp` names it): stop it, or choose another port"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("may not listen on {addr}: choose a port above 1023, or grant CAP_NET_BIND_SERVICE")
        }
        _ => format!("can't listen on {addr}: {e}"),
    }
}

fn try_bind(addr: &str, shared: bool) -> std::io::Result<std::net::TcpListener> {
    use std::net::ToSocketAddrs;
    let at = addr.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("it is no address"))?;
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&at.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the drill: an orderer that was killed and started again at once ended, since its port was in use.
    #[test]
    fn a_port_that_is_given_back_soon_is_waited_for() {
        for _ in 0..20 {
            let before = listen("127.0.0.1:0").unwrap();
            let addr = before.local_addr().unwrap().to_string();
            let (begins, begun) = std::sync::mpsc::channel();
            let after = std::thread::spawn({
                let addr = addr.clone();
                move || {
                    begins.send(()).unwrap();
                    listen_when_free(&addr)
                }
            });
            begun.recv().unwrap();
            assert!(listen(&addr).unwrap_err().contains("in use"));
            drop(before);
            assert!(after.join().unwrap().is_ok());
        }
    }
}
