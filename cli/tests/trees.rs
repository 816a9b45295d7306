//! Does a tree come from one service into another with all that belongs to it?

mod common;
#[path = "common/zk.rs"]
mod zk;

use common::{Dev, zoolog};
use std::io::{BufRead, BufReader};
use std::path::Path;
use zk::{Client, create, get};
use zoolog_zk::jute::{Reader, Request};

fn dump(server: &str, out: &Path) -> String {
    let done = zoolog(&["zk", "dump", "--server", server, "-o"]).arg(out).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read_to_string(out).unwrap()
}

fn restore(file: &Path, dev: &Dev, more: &[&str]) -> Result<(), (i32, String)> {
    let done = zoolog(&["zk", "restore", "--server", &dev.zk[0], "--orderers", &dev.orderers.join(",")])
        .args(more)
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err((done.status.code().unwrap(), text)) }
}

#[test]
fn a_tree_goes_from_one_service_into_another() {
    let dir = tempfile::tempdir().unwrap();
    let from = Dev::start(&dir.path().join("a"), &[]);
    let mut at = Client::open(&from.zk[0], None);
    at.call(&create("/a", 0));
    (0..300).for_each(|_| drop(at.call(&create("/a/s-", 2))));
    at.call(&Request::Delete { path: "/a/s-0000000007".into(), version: 0 });
    at.call(&Request::SetData { path: "/a".into(), data: Some(&[0xff; 9]), version: 0 });
    at.call(&create("/a/e", 1));
    let file = dir.path().join("dump");
    let first = dump(&from.zk[0], &file);
    from.stop();
    assert!(first.ends_with("{\"nodes\":301,\"ephemerals\":1}\n"), "{}", first.lines().last().unwrap());

    let to = Dev::start(&dir.path().join("b"), &[]);
    let cut = dir.path().join("cut");
    std::fs::write(&cut, &first[..first.len() / 2]).unwrap();
    let (code, text) = restore(&cut, &to, &[]).unwrap_err();
    assert!(code == 1 && text.contains("line"), "{code} {text}");
    let mut at = Client::open(&to.zk[0], None);
    let below = |at: &mut Client| {
        let count = at.call(&Request::GetAllChildrenNumber { path: "/".into() });
        Reader::new(&count).int().unwrap()
    };
    assert_eq!(below(&mut at), 3, "a dump that is not whole changes nothing");
    restore(&file, &to, &[]).unwrap();
    let again = dump(&to.zk[0], &dir.path().join("again"));
    let nodes = |text: &str| {
        text.lines().skip(1).filter(|l| !l.contains("nodes")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(nodes(&again), nodes(&first), "versions, times, counters, ACLs, data");
    let next = at.call(&create("/a/s-", 2));
    let next = Reader::new(&next).string().unwrap().into_owned();
    assert_eq!(next, "/a/s-0000000301", "sequence numbers go on behind the 300 and the ephemeral");
    assert_eq!(zk::data(&at.call(&get("/a", false))), [0xff; 9]);

    let (code, text) = restore(&file, &to, &[]).unwrap_err();
    assert!(code == 2 && text.contains("--force"), "{code} {text}");
    restore(&file, &to, &["--force"]).unwrap();
    to.stop();
}

/// What a command prints, and its exit code.
fn out(dev: &Dev, args: &[&str]) -> (String, i32) {
    let done = zoolog(&["zk"]).args(args).args(["--orderers", &dev.orderers.join(",")]).output().unwrap();
    (String::from_utf8(done.stdout).unwrap(), done.status.code().unwrap())
}

#[test]
fn the_log_tells_what_has_changed_and_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[]);
    let mut at = Client::open(&dev.zk[0], None);
    let set = |at: &mut Client, text: &str| {
        at.call(&Request::SetData { path: "/a/b".into(), data: Some(text.as_bytes()), version: -1 });
        at.newest_zxid
    };
    at.call(&create("/a", 0));
    at.call(&create("/a/b", 0));
    let (one, two) = (set(&mut at, "one"), set(&mut at, "two"));
    at.call(&create("/ab", 0));
    at.call(&Request::Delete { path: "/a/b".into(), version: -1 });
    let gone = at.newest_zxid;

    let since = |z: i64| format!("--since={z}");
    let (text, code) = out(&dev, &["changes", "/a", &since(one)]);
    assert_eq!((text, code), (format!("{two:#x}\tchanged\t/a/b\n{gone:#x}\tdeleted\t/a/b\n"), 0));
    let (text, _) = out(&dev, &["changes", "--since", "0", "--json"]);
    let paths: Vec<_> =
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["path"].clone()).collect();
    assert_eq!(paths, ["/a", "/a/b", "/a/b", "/a/b", "/ab", "/a/b"]);

    assert_eq!(out(&dev, &["get", "/a/b", &format!("--at={one:#x}")]), ("one".into(), 0));
    assert_eq!(out(&dev, &["get", "/a/b", &format!("--at={two}")]), ("two".into(), 0));
    assert_eq!(out(&dev, &["get", "/a/b", &format!("--at={gone}")]).1, 4);
    assert_eq!(out(&dev, &["get", "/a/b", &format!("--at={}", gone + 1_000_000)]).1, 6);
    assert_eq!(out(&dev, &["get", "/a/b", "--at=-1"]).1, 2);
    let (text, _) = out(&dev, &["get", "/a/b", "--json", &format!("--at={two}")]);
    let node: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&node["data"], &node["version"], &node["mzxid"]), (&"two".into(), &2.into(), &two.into()));
    dev.stop();
}

/// Who was away hears of all that he missed, and goes on hearing.
#[test]
fn a_follower_is_told_what_was_missed_and_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &[]);
    let mut at = Client::open(&dev.zk[0], None);
    at.call(&create("/a", 0));
    let since = at.newest_zxid;
    at.call(&create("/a/missed", 0));
    at.call(&create("/b", 0));
    at.call(&Request::SetData { path: "/a".into(), data: None, version: -1 });
    let mut child = zoolog(&["zk", "changes", "/a", &format!("--since={since}"), "--follow"])
        .args(["--orderers", &dev.orderers.join(",")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap().split_once('\t').unwrap().1.to_string();
    assert_eq!((next(), next()), ("created\t/a/missed".into(), "changed\t/a".into()));
    at.call(&Request::Delete { path: "/a/missed".into(), version: -1 });
    assert_eq!(next(), "deleted\t/a/missed");
    at.call(&create("/a/later", 0));
    assert_eq!(next(), "created\t/a/later");
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success() && child.wait().unwrap().success());
    dev.stop();
}

/// Where the log is trimmed, a node's snapshot is what the past begins with; before that it is gone, and that is said.
#[test]
fn the_past_begins_with_a_snapshot_where_the_log_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["--isolate", "process", "--set", "zk.snapshot_records=100"]);
    let mut at = Client::open(&dev.zk[0], None);
    at.call(&create("/a", 0));
    let first = at.newest_zxid;
    let trim = || dev.json(&["admin", "consumers"])["trim"].as_u64().unwrap_or(0);
    let is_trimmed = (0..20_000).any(|_| {
        at.call(&Request::SetData { path: "/a".into(), data: Some(b"old"), version: -1 });
        at.newest_zxid % 50 == 0 && trim() > 0
    });
    assert!(is_trimmed, "two snapshots, and nobody needs what is before");
    at.call(&Request::SetData { path: "/a".into(), data: Some(b"last"), version: -1 });
    let last = at.newest_zxid;

    let data = dir.path().join("nodes/zk-0/data");
    let with = |what: &[&str]| out(&dev, &[what, &["--snapshots", data.to_str().unwrap()]].concat());
    for zxid in [0, first] {
        assert_eq!(
            out(&dev, &["changes", &format!("--since={zxid}")]).1,
            4,
            "it is gone, and nothing is made up"
        );
        assert_eq!(with(&["get", "/a", &format!("--at={zxid}")]).1, 4);
    }
    assert_eq!(with(&["get", "/a", &format!("--at={last}")]), ("last".into(), 0));
    let (text, code) = with(&["changes", "/a", &format!("--since={}", last - 1)]);
    assert_eq!((text, code), (format!("{last:#x}\tchanged\t/a\n"), 0));
    dev.stop();
}

#[test]
fn what_can_not_be_dumped_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().display().to_string();
    for (args, code, about) in [
        (vec!["--server", "127.0.0.1:1"], 3, "127.0.0.1:1"),
        (vec!["--snapshot", &nothing], 4, "snapshot.ZXID"),
        (vec!["--snapshot", "/no/such/file"], 1, "/no/such/file"),
        (vec![], 2, "--server"),
        (vec!["--server", "x:1", "--snapshot", "y"], 2, "cannot be used"),
    ] {
        let done = zoolog(&["zk", "dump"]).args(&args).output().unwrap();
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(code) && text.contains(about), "{args:?}: {text}");
    }
}
