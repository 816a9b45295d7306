//! Does a ZooKeeper node of several executors serve real clients, as processes and threads?

#[path = "common/zk.rs"]
mod zk;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use zk::{Client, Got, create, data, get, word as word_of};
use zoolog_zk::jute::{EventType, Request};

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
        word_of(&self.zk, word)
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
