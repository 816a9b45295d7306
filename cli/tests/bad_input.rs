//! What does bad input come to on real sockets? Those of the fifty-six points of `zk/src/node/tests/bad_input` that the
//! shell answers for: bytes that are no frames, frames that don't end, clients that are slow, silent or far too many.
//! Throughout, a client in good faith is served, and nothing grows.

mod common;
#[path = "common/zk.rs"]
mod zk;

use common::Dev;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;
use zk::{Client, Got, create, dial, get};
use zoolog_zk::jute::{Request, xid};

/// How long anything may take that happens at once.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A topology, and a client whom nothing may disturb.
struct Stage {
    dev: Dev,
    good: Client,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start(dir.path(), &[&["--isolate", "process"], more].concat());
        let mut good = Client::open(&dev.zk[0], None);
        good.call(&create("/good", 1));
        Self { dev, good, _dir: dir }
    }

    fn addr(&self) -> &str {
        &self.dev.zk[0]
    }

    /// The good client is served; so is a new one.
    fn check(&mut self) {
        assert_eq!(zk::data(&self.good.call(&get("/good", false))), b"old");
        let mut fresh = Client::open(self.addr(), None);
        assert_eq!(zk::data(&fresh.call(&get("/good", false))), b"old");
        fresh.call(&Request::CloseSession);
    }

    fn word(&self, word: &str) -> String {
        let mut stream = dial(self.addr());
        stream.write_all(word.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A figure of `mntr`.
    fn figure(&self, key: &str) -> u64 {
        let text = self.word("mntr");
        let line = text.lines().find(|l| l.starts_with(&format!("{key}\t"))).expect(&text);
        line.split('\t').nth(1).unwrap().parse().unwrap()
    }

    /// Process of the ZooKeeper node.
    fn pid(&self) -> i32 {
        let file = self._dir.path().join("nodes/zk-0/pid");
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    /// Resident bytes of the ZooKeeper node.
    fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Waits until only the connections in good faith are there.
    fn until_all_are_gone(&self) {
        let gone = || self.figure("zk_num_alive_connections") <= 2;
        assert!((0..2000).any(|_| gone()), "{}", self.word("cons"));
    }
}

/// Whether the server ends the connection before nothing has come for that long; what still comes is dropped.
fn ends(stream: &mut TcpStream, quiet: Duration) -> bool {
    stream.set_read_timeout(Some(quiet)).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// A connection from an address of our own, so that a limit per address doesn't come in the way.
fn dial_from(last: u8, addr: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 1, last], 0)).into()).unwrap();
    socket.connect(&addr.parse::<SocketAddr>().unwrap().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A request's frame.
fn request(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(1, &mut bytes);
    bytes
}

#[test]
fn p01_to_p03_p09_p11_what_is_no_frame_ends_the_connection_at_once() {
    let mut stage = Stage::new(&[]);
    let inputs: [&[u8]; 8] = [
        &[0xff; 4],
        &[0x80, 0, 0, 0],
        &[0, 0x10, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff],
        &[0; 4],
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        b"GET / HTTP/1.1\r\nHost: zoo\r\n\r\n",
        b"POST /commands/ruok HTTP/1.1\r\n\r\n",
    ];
    for input in inputs {
        let mut bare = dial(stage.addr());
        bare.write_all(input).unwrap();
        assert!(ends(&mut bare, AT_ONCE), "{input:?}");
        let mut open = Client::open(stage.addr(), None);
        open.stream.write_all(input).unwrap();
        assert!(ends(&mut open.stream, AT_ONCE), "{input:?} in a session");
        stage.check();
    }
    stage.until_all_are_gone();
}

/// Long frames that are announced and don't come, bytes one by one, and silence: no memory meanwhile, and an end.
#[test]
fn p04_p05_p12_who_is_slow_or_silent_costs_nothing_and_is_closed() {
    let mut stage = Stage::new(&[]);
    let before = stage.resident();
    let announce = |mut stream: TcpStream| {
        stream.write_all(&[0, 0x0f, 0xff, 0xff, 0, 0, 0]).unwrap();
        stream
    };
    let mut announced: Vec<_> = (0..300).map(|_| announce(dial(stage.addr()))).collect();
    let mut silent: Vec<_> = (0..20).map(|_| dial(stage.addr())).collect();
    let mut dribbler = dial(stage.addr());
    stage.check();
    let grown = stage.resident().saturating_sub(before);
    assert!(grown < 300 * 64 * 1024, "{grown} bytes for announced frames");
    let hello = [0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x27, 0x10, 0, 0, 0, 0];
    let closed = hello.iter().any(|byte| {
        // It may be closed between two bytes.
        dribbler.write_all(&[*byte]).is_err() || ends(&mut dribbler, Duration::from_secs(1))
    });
    assert!(closed, "24 seconds for a handshake");
    assert!(announced.iter_mut().chain(&mut silent).all(|s| ends(s, AT_ONCE)));
    stage.check();
    stage.until_all_are_gone();
}

#[test]
fn p06_p07_half_frames_and_the_end_leave_nothing_but_the_session() {
    let mut stage = Stage::new(&[]);
    for reset in [false, true] {
        let mut session = None;
        for _ in 0..50 {
            let mut client = Client::open(stage.addr(), session.as_ref());
            let frame = request(&create("/half", 0));
            client.stream.write_all(&frame[..frame.len() - 1]).unwrap();
            if reset {
                SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            session = Some(client.session);
        }
        let mut again = Client::open(stage.addr(), session.as_ref());
        let read = again.send(&get("/half", false));
        assert!(matches!(again.next(), Got::Reply(xid, -101, _) if xid == read), "nothing was done");
        again.call(&Request::CloseSession);
    }
    stage.check();
    stage.until_all_are_gone();
}

/// There is no TLS: what is configured for it stays closed, rather than being served to whoever speaks in clear.
#[test]
fn p10_a_port_for_tls_is_not_opened() {
    let (dir, port) = (tempfile::tempdir().unwrap(), common::free_port());
    let cfg = dir.path().join("zoo.cfg");
    std::fs::write(
        &cfg,
        format!("secureClientPort={port}\nssl.clientAuth=need\nclient.portUnification=true\n"),
    )
    .unwrap();
    let mut stage = Stage::new(&["--zoo-cfg", cfg.to_str().unwrap()]);
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    stage.check();
}

/// Nothing can be taken or put back over the admin port, whatever a header says of who asks.
#[test]
fn p46_p47_the_admin_port_gives_and_takes_no_state_whoever_asks() {
    let mut stage = Stage::new(&[]);
    let sessions = stage.figure("zk_global_sessions");
    let asked =
        ["/commands/snapshot?streaming=true", "/commands/restore", "/commands/snap", "/commands/rest"];
    for (path, method) in asked.into_iter().flat_map(|path| [(path, "GET"), (path, "POST"), (path, "PUT")]) {
        let mut stream = dial(&stage.dev.admin);
        let claims = "X-Forwarded-For: 127.0.0.1\r\nAuthorization: digest super:super\r\nContent-Length: 4";
        write!(stream, "{method} {path} HTTP/1.0\r\n{claims}\r\n\r\nzkzk").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let refused = ["404", "405"].iter().any(|code| text.starts_with(&format!("HTTP/1.0 {code}")));
        assert!(refused || text.contains("Unknown command"), "{method} {path}: {text}");
    }
    stage.check();
    assert_eq!(stage.figure("zk_global_sessions"), sessions);
}

#[test]
fn p49_words_in_pieces_and_a_flood_of_long_ones() {
    let mut stage = Stage::new(&[]);
    let mut pieces = dial(stage.addr());
    pieces.set_nodelay(true).unwrap();
    for piece in [&b"r"[..], b"uo", b"k"] {
        pieces.write_all(piece).unwrap();
        stage.check();
    }
    let mut text = String::new();
    pieces.read_to_string(&mut text).unwrap();
    assert_eq!(text, "imok");
    let clients: Vec<_> = (0..500).map(|_| Client::open(stage.addr(), None)).collect();
    let before = stage.resident();
    let asked: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = dial(stage.addr());
            stream.write_all(b"cons").unwrap();
            stream
        })
        .collect();
    for mut stream in asked {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.lines().count() > 500);
    }
    assert!(stage.resident() < before + (64 << 20));
    for word in ["wchp", "wchc"] {
        assert_eq!(stage.word(word), format!("{word} is not executed because it is not in the whitelist.\n"));
    }
    drop(clients);
    stage.check();
}

/// Clients that send all they can and read nothing: what the node holds for each is bounded, others are served; one that
/// begins to read gets all of it in order.
#[test]
fn p53_p54_clients_that_never_read_cost_a_bounded_number_of_bytes() {
    const FLOODS: usize = 12;
    static DATA: [u8; 100_000] = [7; 100_000];
    let mut stage = Stage::new(&[]);
    stage.good.call(&create("/big", 0));
    stage.good.call(&Request::SetData { path: "/big".into(), data: Some(&DATA), version: -1 });
    stage.check();
    let before = stage.resident();
    let mut floods: Vec<(Client, usize)> = (0..FLOODS)
        .map(|_| {
            let mut client = Client::open(stage.addr(), None);
            // All of them together take less than a session may be silent.
            client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let (one, mut sent) = (request(&get("/big", false)), 0);
            let many = one.repeat(1000);
            let mut at = 0;
            // A million at most; they stop being taken long before.
            while sent < 1_000_000 * one.len() {
                match client.stream.write(&many[at..]) {
                    Ok(n) => (sent, at) = (sent + n, (at + n) % many.len()),
                    Err(_) => break,
                }
            }
            (client, sent / one.len())
        })
        .collect();
    stage.check();
    let grown = stage.resident().saturating_sub(before);
    assert!(grown < FLOODS as u64 * (10 << 20), "{grown} bytes for {FLOODS} of them");
    let (mut reader, sent) = floods.pop().unwrap();
    assert!(sent < 1_000_000 && sent > 100, "{sent} were taken");
    for n in 0..100 {
        assert!(matches!(reader.next(), Got::Reply(1, 0, r) if r.len() == 4 + DATA.len() + 68), "answer {n}");
    }
    drop((reader, floods));
    stage.check();
    stage.until_all_are_gone();
}

#[test]
fn p55_connections_beyond_the_limit_per_address_are_closed_and_another_address_is_served() {
    let stage = Stage::new(&["--set", "zk.max_connections_per_ip=20"]);
    let mut flood: Vec<_> = (0..60).map(|_| dial_from(1, stage.addr())).collect();
    let closed = flood[20..].iter_mut().filter_map(|s| ends(s, AT_ONCE).then_some(())).count();
    assert_eq!(closed, 40);
    let mut other = Client::over(dial_from(2, stage.addr()), None);
    other.call(&get("/good", false));
    drop(flood);
    let served = (0..200).any(|_| {
        let mut again = dial_from(1, stage.addr());
        again.write_all(b"ruok").is_ok() && again.read(&mut [0; 4]).is_ok_and(|n| n == 4)
    });
    assert!(served, "the places come back");
}

/// Out of file descriptors: who is in is served, and when others go, who waits comes in.
#[test]
fn p55_without_file_descriptors_sessions_live_on_and_places_come_back() {
    let mut stage = Stage::new(&[]);
    let pid = stage.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let limit = libc::rlimit { rlim_cur: open + 40, rlim_max: libc::rlim_t::MAX };
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both structs live across the calls.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old), 0);
        let limit = libc::rlimit { rlim_max: old.rlim_max, ..limit };
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()), 0);
    }
    let flood: Vec<_> = (0..120).map(|_| dial(stage.addr())).collect();
    for _ in 0..20 {
        stage.good.call(&Request::SetData { path: "/good".into(), data: Some(b"old"), version: -1 });
    }
    drop(flood);
    stage.check();
    assert_eq!(
        stage.good.session.session,
        Client::open(stage.addr(), Some(&stage.good.session)).session.session
    );
}

#[test]
fn p55_storms_of_connections_and_sessions_leave_nothing_behind() {
    let mut stage = Stage::new(&[]);
    for _ in 0..10 {
        let bare: Vec<_> = (0..100).map(|_| dial(stage.addr())).collect();
        let mut open: Vec<_> = (0..100).map(|_| Client::open(stage.addr(), None)).collect();
        for client in &mut open {
            client.send(&Request::CloseSession);
        }
        drop((bare, open));
        let pinged = stage.good.send(&Request::Ping);
        assert!(pinged > 0 && matches!(stage.good.next(), Got::Reply(xid::PING, 0, _)));
    }
    stage.check();
    stage.until_all_are_gone();
    assert!((0..2000).any(|_| stage.figure("zk_global_sessions") <= 2), "each said goodbye");
    assert!(Path::new(&format!("/proc/{}", stage.pid())).exists());
}
