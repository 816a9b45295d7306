//! Does a ZooKeeper run in one process, its log a directory, and lose nothing when it is killed?

mod common;
#[path = "common/zk.rs"]
mod zk;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use zk::{Client, create, data, get};
use zoolog_zk::jute::Request;

struct Zk {
    child: Child,
    addr: String,
}

impl Zk {
    fn start(dir: &Path, executors: &str) -> Self {
        let port = common::free_port();
        let place = format!("local:{}", dir.join("log").display());
        let data = dir.join("data");
        let mut child = common::zoolog(&["zk", "--log", &place, "--port", &port.to_string(), "--data-dir"])
            .arg(data)
            .args(["--executors", executors])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready: zk-0\n");
        Self { child, addr: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Zk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut session = None;
    // One executor, or one with the log and several with the clients: it's the same log.
    for (round, executors) in (0..).zip(["1", "3", "2", "1"]) {
        let zk = Zk::start(dir.path(), executors);
        let mut client = Client::open(&zk.addr, session.as_ref());
        if round == 0 {
            client.call(&create("/kept", 0));
            client.call(&create("/mine", 1));
        } else {
            let before = format!("round {}", round - 1);
            assert_eq!(data(&client.call(&get("/kept", false))), before.as_bytes());
            assert_eq!(
                data(&client.call(&get("/mine", false))),
                b"old",
                "the session lives on, by its password"
            );
        }
        let text = format!("round {round}");
        client.call(&Request::SetData { path: "/kept".into(), data: Some(text.as_bytes()), version: round });
        session = Some(client.session);
    }
}

#[test]
fn who_can_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let zk = Zk::start(dir.path(), "1");
    let place = format!("local:{}", dir.path().join("log").display());
    let other = dir.path().join("other").display().to_string();
    for (args, about) in [
        (vec!["--log", place.as_str(), "--port", "0", "--data-dir", &other], "in use"),
        (vec!["--log", "elsewhere", "--port", "0"], "local:DIR"),
        (vec!["--log", &place, "--fetch", "lazy"], "streamed"),
        (vec!["--log", &place, "--reads", "stale"], "session, linearizable, log"),
        (vec![], "--config"),
    ] {
        let output = common::zoolog(&["zk"]).args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(about), "{args:?}: {text}");
    }
    drop(zk);
    std::fs::remove_file(dir.path().join("log/log.toml")).unwrap();
    let output =
        common::zoolog(&["zk", "--log", &place, "--port", "0", "--data-dir", &other]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("put it back"), "{text}");
}
