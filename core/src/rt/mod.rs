//! What meets the kernel? The shells that run machines for real: threads with an io_uring each, framed TCP, direct
//! files and the clock. Why not a ready-made executor: docs/decisions/0003-own-ring-loop.md.
//!
//! - [`preflight`]: can this machine run us at all?
//! - [`executors`]: threads, and the nodes on them.
//! - [`datadir`]: whose directory is this?
//! - [`pump`]: one node's turn: machine in the middle, network and disk around it.
//! - [`snapshots`]: files of an application's state, on a thread of their own.
//! - `net`, `opening`, `conn`, `disk`, `segments`, `space`: its parts.
//! - `ring`, `aligned`, `wake`: what they stand on: requests to the kernel, memory for direct I/O, other threads.

mod aligned;
pub mod clock;
mod conn;
pub mod datadir;
mod disk;
pub mod executors;
mod net;
mod opening;
pub mod preflight;
pub mod pump;
mod ring;
mod segments;
pub mod snapshots;
mod space;
mod wake;

pub use conn::{Framing, node_framing};
pub use disk::Disk;
pub use executors::{Executor, Host, Job};
pub use pump::NodeSpec;
pub use space::SpaceLimits;
pub use wake::{Stop, Waker};

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
/// As [`listen`]; also if it is in use by somebody who would share it.
pub fn listen_shared(addr: &str, sockets: u16) -> Result<Vec<std::net::TcpListener>, String> {
    // Who shares an address is not told of others who do: only one who doesn't is.
    drop(bind(addr, false)?);
    (0..sockets).map(|_| bind(addr, true)).collect()
}

fn bind(addr: &str, shared: bool) -> Result<std::net::TcpListener, String> {
    use std::net::ToSocketAddrs;
    let wrong = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "{addr} is in use by another process (`ss -ltnp` names it): stop it, or choose another port"
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("may not listen on {addr}: choose a port above 1023, or grant CAP_NET_BIND_SERVICE")
        }
        _ => format!("can't listen on {addr}: {e}"),
    };
    let at = addr.to_socket_addrs().map_err(wrong)?.next().ok_or_else(|| format!("{addr} is no address"))?;
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None);
    let socket = socket.map_err(wrong)?;
    socket.set_reuse_address(true).map_err(wrong)?;
    socket.set_reuse_port(shared).map_err(wrong)?;
    socket.bind(&at.into()).map_err(wrong)?;
    socket.listen(1024).map_err(wrong)?;
    Ok(socket.into())
}
