//! Is a record passed over when an operator says so, and only where no node has applied it?

mod common;

use common::{Dev, zoolog};
use std::io::Write;
use std::process::{Output, Stdio};
use zoolog_core::WallMs;
use zoolog_zk::state::encode;
use zoolog_zk::txn::{Acl, AuthId, CreateMode, Op, Txn};

fn txn(op: Op) -> Vec<u8> {
    encode(&Txn { session: 0, attach: 0, wall: WallMs(0), ids: Vec::new(), op })
}

/// Appends a record; its position.
fn append(dev: &Dev, record: &[u8]) -> u64 {
    let orderers = dev.orderers.join(",");
    let mut child = zoolog(&["log", "append", "--frames", "--orderers", &orderers])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&(record.len() as u32).to_le_bytes()).unwrap();
    stdin.write_all(record).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn skip(dev: &Dev, gsn: u64) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        zoolog(&["admin", "skip", &gsn.to_string(), "--orderers", &dev.orderers.join(",")]).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_record_is_passed_over_only_if_it_is_there_is_one_of_ours_and_no_node_has_applied_it() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["--zk", "0"]);
    dev.wait_for_shards();
    let foreign = append(&dev, b"hello");
    let (code, text) = skip(&dev, foreign);
    assert!(code == Some(4) && text.contains("no ZooKeeper's"), "{code:?} {text}");
    let (code, text) = skip(&dev, foreign + 1);
    assert!(code == Some(6) && text.contains("the log ends at"), "{code:?} {text}");
    let bad = append(&dev, &txn(Op::Nothing));
    let (code, text) = skip(&dev, bad);
    assert!(code == Some(0) && text.contains(&format!("as the record at {} says", bad + 1)), "{text}");
    let (code, text) = skip(&dev, bad);
    assert!(code == Some(0) && text.contains("already"), "{code:?} {text}");
    assert_eq!(append(&dev, b"the next"), bad + 2, "it is said once");
    // Whoever touches a session that was attached there has applied it.
    let applied = append(&dev, &txn(Op::CreateSession { timeout_ms: 1000 }));
    append(&dev, &txn(Op::Touch { sessions: vec![(7, applied)] }));
    let (code, text) = skip(&dev, applied);
    assert!(code == Some(9) && text.contains("has applied"), "{code:?} {text}");
    dev.stop();
}

fn create(path: &str) -> Vec<u8> {
    let acl = vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }];
    txn(Op::Create { path: path.into(), data: Some(b"x".to_vec()), acl, mode: CreateMode::Persistent })
}

/// A node never applies it, so it has changed nothing, whoever asks.
#[test]
fn what_was_passed_over_is_among_no_changes() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), &["--zk", "0"]);
    dev.wait_for_shards();
    let first = append(&dev, &create("/a"));
    let bad = append(&dev, &create("/a/bad"));
    append(&dev, &create("/a/good"));
    let changes = || {
        let orderers = dev.orderers.join(",");
        let said = zoolog(&["zk", "changes", "--since", "0", "--orderers", &orderers]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    let line = |gsn: u64, path: &str| format!("{:#x}\tcreated\t{path}\n", gsn + 1);
    let (before, behind) = (line(first, "/a"), line(bad + 1, "/a/good"));
    assert_eq!(changes(), [&*before, &*line(bad, "/a/bad"), &*behind].concat());
    assert_eq!(skip(&dev, bad).0, Some(0));
    assert_eq!(changes(), [before, behind].concat());
    dev.stop();
}
