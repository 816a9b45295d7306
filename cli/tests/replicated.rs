//! A replicated map on a cluster of real processes: its nodes, servers and orderers are killed with SIGKILL, and whatever any node
//! answered is there, the same on all, while the log is trimmed behind their snapshots.

mod common;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../client/examples/map/state.rs"]
mod state;

use common::Dev;
use state::{Command as Change, Map};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use zoolog_client::replicated::{Consistency, LogPlace, ProposeError, ReplicatedConfig, ReplicatedNode};

/// Says to this binary that it is a node: orderers, and its directory.
const NODE: &str = "ZOOLOG_TEST_NODE";

/// Not a test by itself: what a node's process runs.
#[test]
fn node() {
    let Ok(told) = std::env::var(NODE) else { return };
    let (orderers, dir) = told.split_once(' ').expect("orderers and a directory");
    let place: LogPlace = orderers.parse().expect("orderers");
    let cfg = ReplicatedConfig { snapshot_records: 30, ..ReplicatedConfig::new("map") };
    let node = ReplicatedNode::<Map>::start(cfg, place, Path::new(dir)).expect("a node");
    let map = node.handle();
    map.caught_up().wait().expect("it runs");
    println!("> ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            ["put", key, value] => {
                let change = Change::Put { key: key.into(), value: value.into() };
                let applied = loop {
                    match map.propose(&change).wait() {
                        Err(ProposeError::Busy) => {}
                        other => break other.expect("the node lives"),
                    }
                };
                applied.outcome.unwrap_or_default()
            }
            ["get", key] => {
                let key = key.to_string();
                let read = move |map: &Map| map.get(&key).unwrap_or_default().to_string();
                map.read(Consistency::Linearizable, read).wait().expect("the node lives")
            }
            ["hash"] => {
                let (gsn, hash) = map.state_hash(Consistency::Linearizable).wait().expect("the node lives");
                format!("{gsn} {hash:016x}")
            }
            _ => panic!("{line}"),
        };
        println!("> {answer}");
    }
}

struct Node {
    child: Child,
    say: ChildStdin,
    hear: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(dev: &Dev, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["node", "--exact", "--nocapture"])
            .env(NODE, format!("{} {}", dev.orderers.join(","), dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, hear) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut node = Self { child, say, hear: BufReader::new(hear).lines() };
        assert_eq!(node.answer(), "ready");
        node
    }

    fn answer(&mut self) -> String {
        loop {
            let line = self.hear.next().expect("it answers").unwrap();
            if let Some((_, answer)) = line.split_once("> ") {
                return answer.to_string();
            }
        }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.say, "{line}").unwrap();
        self.answer()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a node of the cluster; it is started again.
fn kill(dir: &Path, name: &str) {
    let pid = std::fs::read_to_string(dir.join("nodes").join(name).join("pid")).unwrap();
    assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
}

#[test]
fn a_map_outlives_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = dir.path().join("cluster");
    let more = ["--isolate", "process", "--zk", "0", "--servers", "3", "--shards", "2", "--replicas", "2"];
    let dev = Dev::start(&cluster, &more);
    dev.wait_for_shards();
    let dirs: [PathBuf; 2] = ["one", "two"].map(|name| dir.path().join(name));
    let mut nodes: Vec<Option<Node>> = dirs.iter().map(|dir| Some(Node::start(&dev, dir))).collect();
    let mut wanted = BTreeMap::new();
    for round in 0..6 {
        match round {
            1 => kill(&cluster, "shard-1"),
            2 => kill(&cluster, "order-0"),
            3 => kill(&cluster, "shard-2"),
            5 => kill(&cluster, "order-1"),
            _ => {}
        }
        for i in 0..24 {
            let (key, value) = (format!("k{}", i % 7), format!("{round}.{i}"));
            let before = wanted.insert(key.clone(), value.clone()).unwrap_or_default();
            let (one, other) = (i % 2, 1 - i % 2);
            let mut ask = |n: usize, line: &str| nodes[n].as_mut().unwrap().ask(line);
            assert_eq!(ask(one, &format!("put {key} {value}")), before, "round {round}");
            assert_eq!(ask(other, &format!("get {key}")), value, "round {round}");
        }
        // One of them dies with something under way that nobody hears the end of.
        let dies = round % 2;
        let node = nodes[dies].as_mut().unwrap();
        for i in 0..20 {
            writeln!(node.say, "put other{i} {round}").unwrap();
        }
        nodes[dies] = None;
        nodes[dies] = Some(Node::start(&dev, &dirs[dies]));
        for (key, value) in &wanted {
            assert_eq!(nodes[dies].as_mut().unwrap().ask(&format!("get {key}")), *value, "round {round}");
        }
        let hashes: Vec<String> = nodes.iter_mut().map(|n| n.as_mut().unwrap().ask("hash")).collect();
        assert_eq!(hashes[0], hashes[1], "round {round}");
    }
    let status = dev.json(&["admin", "status"]);
    let trims = status["orderers"].as_array().unwrap().iter().filter_map(|o| o["trim"].as_u64());
    assert!(trims.max().unwrap() > 0, "snapshots let go of the log: {status}");
    let consumers = dev.json(&["admin", "consumers"]);
    assert_eq!(consumers.to_string().matches("map/").count(), 2, "{consumers}");
    drop(nodes);
    dev.stop();
}
