//! A ZooKeeper node is killed and loses all its files, after the log was trimmed: it serves everything again without a human
//! hand, from another node's snapshot. Real processes.

mod common;
#[path = "common/zk.rs"]
mod zk;

use common::Dev;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use zk::{Client, create, data, get};
use zoolog_zk::jute::Request;

/// Attempts, each of some milliseconds or a process of its own: a minute or two.
const TRIES: usize = 20_000;

fn until(what: &str, mut done: impl FnMut() -> bool) {
    assert!((0..TRIES).any(|_| done()), "{what}");
}

fn node(dir: &Path, name: &str) -> PathBuf {
    dir.join("nodes").join(name)
}

/// Kills the node, keeps it from being started again, and removes its directory's data.
fn wipe(dir: &Path, name: &str) {
    let node = node(dir, name);
    std::fs::write(node.join("hold"), "").unwrap();
    let pid = std::fs::read_to_string(node.join("pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    std::fs::remove_dir_all(node.join("data")).unwrap();
}

fn snapshots(dir: &Path, name: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(node(dir, name).join("data/snapshots")).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = files.map(|f| f.path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "snapshot"));
    all.sort();
    all
}

fn trim(dev: &Dev) -> u64 {
    dev.json(&["admin", "consumers"])["trim"].as_u64().unwrap_or(0)
}

/// Writes until the log is trimmed behind `before`.
fn write_until_trimmed(dev: &Dev, client: &mut Client, before: u64) {
    let text = [b'x'; 4000];
    until("the log is trimmed", || {
        let sent: Vec<i32> = (0..200)
            .map(|i| {
                let path = format!("/n{}", i % 100);
                let set = Request::SetData { path: path.into(), data: Some(&text), version: -1 };
                client.send(&set)
            })
            .collect();
        sent.into_iter().for_each(|xid| drop(client.reply(xid)));
        trim(dev) > before
    });
}

/// Whether the node serves; a connection to one that is just starting may break.
fn serves(addr: &str) -> bool {
    let asked = TcpStream::connect(addr).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"srvr")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    asked.is_ok_and(|text| text.contains("Zxid"))
}

#[test]
fn a_node_that_was_killed_and_wiped_serves_again_though_the_log_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--isolate", "process", "--zk", "2", "--set", "zk.snapshot_records=100", "--executors"];
    for executors in ["1", "3"] {
        let dir = dir.path().join(executors);
        let dev = Dev::start(&dir, &[&more[..], &[executors]].concat());
        let mut client = Client::open(&dev.zk[0], None);
        for i in 0..100 {
            client.call(&create(&format!("/n{i}"), 0));
        }
        write_until_trimmed(&dev, &mut client, 0);
        for (name, lost, other) in [("zk-1", 1, 0), ("zk-0", 0, 1)] {
            let mut client = Client::open(&dev.zk[other], None);
            wipe(&dir, name);
            // What it missed is more than what was there.
            let path = format!("/written-without-{name}");
            client.call(&create(&path, 0));
            std::fs::remove_file(node(&dir, name).join("hold")).unwrap();
            until("it serves", || serves(&dev.zk[lost]));
            let mut again = Client::open(&dev.zk[lost], None);
            again.call(&Request::Sync { path: "/".into() });
            for i in 0..100 {
                let text = data(&again.call(&get(&format!("/n{i}"), false)));
                assert_eq!(text.len(), 4000, "/n{i}");
            }
            assert_eq!(data(&again.call(&get(&path, false))), b"old");
            assert!(!snapshots(&dir, name).is_empty(), "its disk has what it was given");
            // It writes, and takes snapshots of its own, so that the log is trimmed on.
            let before = trim(&dev);
            write_until_trimmed(&dev, &mut again, before);
        }
        drop(client);
        dev.stop();
    }
}
