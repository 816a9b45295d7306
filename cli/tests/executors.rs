//! Does a ZooKeeper node of several executors serve real clients, as processes and threads?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zoolog_zk::jute::{
    ConnectRequest, ConnectResponse, EventType, Reader, ReplyHeader, Request, WatcherEvent, xid,
};
use zoolog_zk::txn::{Acl, AuthId};

/// Clients: so many that they are not all at one executor, by all odds.
const CLIENTS: usize = 16;

/// A running `dev`, ended with the test.
struct Dev {
    child: Child,
    zk: String,
}

impl Dev {
    fn start(dir: &Path, executors: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let (port, admin) = (free(), free());
        let dir = dir.to_str().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_zoolog"))
            .args(["dev", "--isolate", "process", "--data-dir", dir, "--executors", executors])
            .args(["--port", &port, "--admin-port", &admin])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: "), "{line}");
        Dev { child, zk: format!("127.0.0.1:{port}") }
    }

    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.child.wait().unwrap().success(), "a clean end");
    }

    fn word(&self, word: &str) -> String {
        let mut stream = dial(&self.zk);
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
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dial(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What comes over a connection that has its session.
#[derive(Debug, PartialEq)]
enum Got {
    Reply(i32, i32, Vec<u8>),
    Event(EventType, String),
}

struct Client {
    stream: TcpStream,
    session: ConnectResponse,
    xid: i32,
    newest_zxid: i64,
}

impl Client {
    fn open(addr: &str, resume: Option<&ConnectResponse>) -> Self {
        let mut stream = dial(addr);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 30_000,
            session: resume.map_or(0, |r| r.session),
            password: resume.map_or(&[0; 16], |r| &r.password),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
        let session = ConnectResponse::decode(&frame(&mut stream)).unwrap();
        assert!(!session.is_refusal());
        Self { stream, session, xid: 0, newest_zxid: 0 }
    }

    fn send(&mut self, request: &Request<'_>) -> i32 {
        self.xid += 1;
        let mut bytes = Vec::new();
        request.encode(self.xid, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
        self.xid
    }

    fn next(&mut self) -> Got {
        let frame = frame(&mut self.stream);
        let (header, mut r) = ReplyHeader::decode(&frame).unwrap();
        assert!(header.zxid >= self.newest_zxid, "header zxids never decrease");
        self.newest_zxid = header.zxid;
        if header.xid == xid::EVENT {
            let event = WatcherEvent::decode(&mut r).unwrap();
            return Got::Event(event.kind, event.path.into_owned());
        }
        Got::Reply(header.xid, header.err, r.rest().to_vec())
    }

    /// The record of the next reply, which must be this one's and no error.
    fn reply(&mut self, to: i32) -> Vec<u8> {
        match self.next() {
            Got::Reply(xid, 0, record) if xid == to => record,
            other => panic!("{other:?} instead of the reply to {to}"),
        }
    }

    fn call(&mut self, request: &Request<'_>) -> Vec<u8> {
        let xid = self.send(request);
        self.reply(xid)
    }
}

fn frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn data(record: &[u8]) -> Vec<u8> {
    Reader::new(record).buffer().unwrap().unwrap().to_vec()
}

fn create(path: &str, flags: i32) -> Request<'_> {
    let acl = vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }];
    Request::Create { path: path.into(), data: Some(b"old"), acl, flags, with_stat: false }
}

fn get(path: &str, watch: bool) -> Request<'_> {
    Request::GetData { path: path.into(), watch }
}

#[test]
fn clients_at_all_executors_of_a_node_are_served_and_move_among_them() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), "3");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::open(&dev.zk, None)).collect();
    clients[0].call(&create("/w", 0));
    for (i, client) in clients.iter_mut().enumerate() {
        let path = format!("/e{i}");
        client.call(&create(&path, 1));
        // Pipelined behind a write, so that it travels with it; then alone.
        let write =
            client.send(&Request::SetData { path: path.as_str().into(), data: Some(b"mine"), version: -1 });
        let read = client.send(&get(&path, false));
        client.reply(write);
        assert_eq!(data(&client.reply(read)), b"mine");
        assert_eq!(data(&client.call(&get("/w", true))), b"old");
    }
    assert_eq!(dev.figure("zk_watch_count"), CLIENTS as u64);
    assert_eq!(dev.figure("zk_ephemerals_count"), CLIENTS as u64);

    // ZK-3, wherever the client is: no new data before the event.
    let write = clients[0].send(&Request::SetData { path: "/w".into(), data: Some(b"new"), version: -1 });
    for (i, client) in clients.iter_mut().enumerate() {
        let mut told = false;
        let mut read = if i == 0 { write } else { client.send(&get("/w", false)) };
        loop {
            match client.next() {
                Got::Event(EventType::NodeDataChanged, path) if path == "/w" && !told => told = true,
                Got::Reply(xid, 0, _) if i == 0 && xid == write => {
                    assert!(told, "the writer watches, too");
                    break;
                }
                Got::Reply(xid, 0, record) if xid == read && data(&record) == b"new" => {
                    assert!(told, "client {i} sees new data before the event");
                    break;
                }
                Got::Reply(xid, 0, _) if xid == read => read = client.send(&get("/w", false)),
                other => panic!("client {i}: {other:?}"),
            }
        }
    }

    // A session goes from connection to connection, whichever executor each is at.
    let mut moving = clients.pop().unwrap();
    let mine = format!("/e{}", CLIENTS - 1);
    for _ in 0..8 {
        let session = moving.session;
        let mut old = std::mem::replace(&mut moving, Client::open(&dev.zk, Some(&session)));
        assert_eq!(moving.session.session, session.session);
        assert_eq!(data(&moving.call(&get(&mine, false))), b"mine");
        assert_eq!(old.stream.read(&mut [0; 64]).unwrap(), 0, "the old connection is closed");
    }
    moving.call(&Request::CloseSession);
    let gone = clients[0].send(&get(&mine, false));
    assert!(matches!(clients[0].next(), Got::Reply(xid, err, _) if xid == gone && err != 0));

    let stages: serde_json::Value = serde_json::from_str(&dev.word("stgs")).unwrap();
    let count = |name: &str| {
        stages.as_array().unwrap().iter().find(|s| s["name"] == name).expect(name)["count"].as_u64().unwrap()
    };
    let all =
        ["zk_write", "zk_read", "zk_decode", "zk_submit", "zk_log", "zk_deliver", "zk_apply", "zk_reply"];
    assert!(all.iter().all(|name| count(name) > 0), "{stages}");
    assert!(count("zk_read") >= 2 * CLIENTS as u64, "those that fronts answered are counted: {stages}");
    dev.stop();

    // The same directory goes on with one executor, and with two.
    for executors in ["1", "2"] {
        let dev = Dev::start(dir.path(), executors);
        let mut client = Client::open(&dev.zk, None);
        assert_eq!(data(&client.call(&get("/w", false))), b"new");
        dev.stop();
    }
}

#[test]
fn what_can_not_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for (args, about) in [
        (vec!["--executors", "3"], "--isolate process"),
        (vec!["--isolate", "process", "--executors", "65"], "`executors` must be 0"),
        (vec!["--isolate", "process", "--set", "zk.executors=many"], "executors"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zoolog"));
        let output = command.args(["dev", "--data-dir"]).arg(dir.path()).args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(about), "{args:?}: {text}");
    }
}
