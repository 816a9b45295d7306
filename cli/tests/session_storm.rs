//! Do twenty thousand clients at once get their sessions over real sockets, and leave nothing when they go? Memory is told,
//! and bounded by a number of bytes; time is not asked for.

mod common;
#[path = "common/zk.rs"]
mod zk;

use common::Dev;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use zk::{Client, create, get};
use zoolog_zk::jute::{ConnectRequest, ConnectResponse, Request};

/// Sessions that are wanted, as far as this process may have sockets.
const SESSIONS: usize = 20_000;
/// So many ask before any is waited for.
const AT_ONCE: usize = 500;
/// Resident bytes that a session may cost a node, its connection and all that an executor keeps for it included.
const BYTES_MAX: u64 = 16 << 10;

/// How many files this process may have open, raised as far as it goes.
fn files() -> usize {
    let wanted = SESSIONS as u64 + 1000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain syscalls on a local struct.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        for hard in [limit.rlim_max.max(wanted), limit.rlim_max] {
            let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                return hard as usize;
            }
        }
    }
    limit.rlim_cur as usize
}

/// A connection from one of several addresses: of one there are not many more ports than this needs.
fn dial_from(n: usize, addr: &SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // The port is chosen when it is known where to, and may be used towards others, too.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 1, 1 + (n % 8) as u8], 0)).into()).unwrap();
    socket.connect(&(*addr).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A figure of `mntr`.
fn figure(addr: &str, key: &str) -> u64 {
    let text = zk::word(addr, "mntr");
    let line = text.lines().find(|l| l.starts_with(&format!("{key}\t"))).expect(&text);
    line.split('\t').nth(1).unwrap().parse().unwrap()
}

/// Resident bytes of a process.
fn resident(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn twenty_thousand_sessions_are_open_at_once_and_leave_nothing() {
    let sessions = SESSIONS.min(files().saturating_sub(200));
    let dir = tempfile::tempdir().unwrap();
    // A session must not expire while the machine opens the others.
    let dev = Dev::start(dir.path(), &["--isolate", "process", "--set", "zk.max_session_timeout_ms=600000"]);
    let addr: SocketAddr = dev.zk[0].parse().unwrap();
    let pid = std::fs::read_to_string(dir.path().join("nodes/zk-0/pid")).unwrap().trim().to_string();
    let mut good = Client::open(&dev.zk[0], None);
    good.call(&create("/good", 1));
    let before = resident(&pid);
    let hello = {
        let ask = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 600_000,
            session: 0,
            password: &[0; 16],
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        ask.encode(&mut bytes);
        bytes
    };
    let mut open: Vec<TcpStream> = Vec::with_capacity(sessions);
    while open.len() < sessions {
        let from = open.len();
        open.extend((from..sessions.min(from + AT_ONCE)).map(|n| dial_from(n, &addr)));
        open[from..].iter_mut().for_each(|s| s.write_all(&hello).unwrap());
        for stream in &mut open[from..] {
            assert!(!ConnectResponse::decode(&zk::frame(stream)).unwrap().is_refusal());
        }
    }
    let there = figure(&dev.zk[0], "zk_global_sessions") as usize;
    assert_eq!(there, sessions + 1, "sessions of all of them");
    assert!(figure(&dev.zk[0], "zk_num_alive_connections") as usize > sessions);
    let each = resident(&pid).saturating_sub(before) / sessions as u64;
    println!("{sessions} sessions are open; each takes {each} resident bytes of the node");
    assert!(each < BYTES_MAX, "each of {sessions} sessions takes {each} resident bytes");
    assert_eq!(zk::data(&good.call(&get("/good", false))), b"old", "who was there before is served");

    let mut goodbye = Vec::new();
    Request::CloseSession.encode(1, &mut goodbye);
    while !open.is_empty() {
        let mut some = open.split_off(open.len().saturating_sub(AT_ONCE));
        some.iter_mut().for_each(|s| s.write_all(&goodbye).unwrap());
        some.iter_mut().for_each(|s| assert_eq!(zk::frame(s).len(), 16));
    }
    assert_eq!(figure(&dev.zk[0], "zk_global_sessions"), 1);
    assert!(
        (0..2000).any(|_| figure(&dev.zk[0], "zk_num_alive_connections") <= 2),
        "and no connection is left"
    );
    assert_eq!(zk::data(&good.call(&get("/good", false))), b"old");
    dev.stop();
}
