//! A server is lost for good, with its disk: what it held is copied to another, and when the other of the first two is lost
//! as well, every record can still be read. Real processes.

mod common;

use common::{Dev, zoolog};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Attempts, each a process of its own: some minutes.
const TRIES: usize = 4000;

fn run(dev: &Dev, args: &[&str]) -> Output {
    zoolog(args).args(["--orderers", &dev.orderers.join(",")]).output().unwrap()
}

/// Kills the node, keeps it from being started again, and removes its directory's data.
fn lose(dir: &Path, server: &str) {
    let node = dir.join("nodes").join(format!("shard-{server}"));
    std::fs::write(node.join("hold"), "").unwrap();
    let pid = std::fs::read_to_string(node.join("pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    std::fs::remove_dir_all(node.join("data")).unwrap();
}

/// The shard as `zoolog admin shards` shows it, whoever doesn't answer.
fn shard(dev: &Dev, id: u64) -> Value {
    let shards = dev.json(&["admin", "shards"])["shards"].clone();
    let found = shards.as_array().into_iter().flatten().find(|s| s["shard"] == id);
    found.expect("the shard").clone()
}

fn servers(shard: &Value) -> Vec<String> {
    let replicas = shard["replicas"].as_array().unwrap().iter().filter(|r| r["copy"].is_null());
    replicas.map(|r| r["slot"].as_str().unwrap().split('.').next().unwrap().to_string()).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    assert!((0..TRIES).any(|_| done()), "{what}");
}

#[test]
fn a_server_that_is_lost_for_good_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--isolate", "process", "--zk", "0", "--servers", "4", "--shards", "1", "--replicas", "2"];
    let dev = Dev::start(dir.path(), &more);
    dev.wait_for_shards();
    let wanted: String = (0..3000).map(|i| format!("record {i}\n")).collect();
    let orderers = dev.orderers.join(",");
    let mut append =
        zoolog(&["log", "append", "-q", "--orderers", &orderers]).stdin(Stdio::piped()).spawn().unwrap();
    append.stdin.take().unwrap().write_all(wanted.as_bytes()).unwrap();
    assert!(append.wait().unwrap().success());

    let first = servers(&shard(&dev, 1));
    assert_eq!(first.len(), 2);
    let early = run(&dev, &["admin", "rebuild", "1"]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("takes appends"), "{early:?}");
    lose(dir.path(), &first[0]);
    until("it ends", || shard(&dev, 1)["state"] == "finalized");
    // By itself this would happen after a minute.
    until("a copy is begun", || run(&dev, &["admin", "rebuild", "1"]).status.success());
    until("the copy counts", || {
        let now = shard(&dev, 1);
        if now["rebuild"].is_object() {
            assert_eq!(now["rebuild"]["instead_of"], format!("{}.0", first[0]), "{now}");
        }
        now["rebuild"].is_null() && !servers(&now).contains(&first[0])
    });
    assert_eq!(servers(&shard(&dev, 1)).len(), 2, "as many copies as there were");
    let table = String::from_utf8(run(&dev, &["admin", "shards"]).stdout).unwrap();
    assert!(table.contains("finalized"), "{table}");

    lose(dir.path(), &first[1]);
    let mut read = Vec::new();
    until("all is read", || {
        let output = run(&dev, &["log", "read", "..3000"]);
        read = output.stdout;
        output.status.success()
    });
    assert_eq!(String::from_utf8(read).unwrap(), wanted);
}
