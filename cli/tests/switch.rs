//! Somebody begins with a ZooKeeper in one process, and moves to a cluster while clients write: does each write that was answered
//! count once, do sessions live on, and does whoever is killed find his way?

mod common;
#[allow(dead_code, reason = "what the command line asks")]
#[path = "../../client/examples/map/state.rs"]
mod state;
#[path = "common/writing.rs"]
mod writing;
#[path = "common/zk.rs"]
mod zk;

use common::Dev;
use serde_json::Value;
use state::{Command as Change, Map};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use writing::{Zk, set, text, write_on};
use zk::{Client, create, data, get};
use zoolog_client::replicated::{
    Consistency, LogPlace, ProposeError, ReplicatedConfig, ReplicatedHandle, ReplicatedNode,
};
use zoolog_zk::jute::Request;

/// An embedded log, and the place of a cluster that is to follow it.
struct Place {
    dir: tempfile::TempDir,
    log: String,
    cluster: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = format!("local:{}", dir.path().join("log").display());
        let cluster = dir.path().join("cluster").join("cluster.toml");
        std::fs::create_dir(cluster.parent().unwrap()).unwrap();
        Self { dir, log, cluster }
    }

    fn embedded(&self) -> Zk {
        Zk::start(&["--log", &self.log, "--data-dir", self.data().to_str().unwrap()])
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Makes the cluster's file, and starts it.
    fn cluster(&self) -> Dev {
        cluster_after(&self.log, &self.cluster)
    }

    /// The cluster after that one.
    fn next(&self) -> PathBuf {
        let dir = self.dir.path().join("next");
        std::fs::create_dir_all(&dir).unwrap();
        dir.join("cluster.toml")
    }

    fn next_cluster(&self) -> Dev {
        cluster_after(self.cluster.to_str().unwrap(), &self.next())
    }

    fn switch_to_next(&self) -> u64 {
        let (from, to) = (self.cluster.display().to_string(), self.next().display().to_string());
        let said = when_ready(|| {
            common::zoolog(&["admin", "log", "switch", "--from", &from, "--to", &to, "--json"])
                .output()
                .unwrap()
        });
        said["tail"].as_u64().unwrap()
    }

    fn switch(&self) -> Output {
        let to = self.cluster.to_str().unwrap();
        common::zoolog(&["admin", "log", "switch", "--log", &self.log, "--to", to, "--json"])
            .output()
            .unwrap()
    }

    /// The same until the cluster's servers are there.
    fn switch_when_ready(&self) -> Value {
        when_ready(|| self.switch())
    }

    fn has_snapshot_from(&self, tail: u64) -> bool {
        let names = std::fs::read_dir(self.data().join("snapshots")).unwrap();
        let names = names.map(|f| f.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(".snapshot")?.parse().ok()).any(|gsn: u64| gsn >= tail)
    }
}

/// Makes the file of a cluster that follows that log, and starts it.
fn cluster_after(log: &str, file: &Path) -> Dev {
    let orderers = [0; 3].map(|_| format!("127.0.0.1:{}", common::free_port())).join(",");
    let out = file.to_str().unwrap();
    let init = ["admin", "init", "--succeeds", log, "--orderers", &orderers, "--out", out];
    let made = common::zoolog(&init).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    Dev::start(file.parent().unwrap(), &["--zk", "0"])
}

fn when_ready(mut switch: impl FnMut() -> Output) -> Value {
    for _ in 0..200 {
        let said = switch();
        if said.status.success() {
            return serde_json::from_slice(&said.stdout).unwrap();
        }
        assert!(matches!(said.status.code(), Some(3 | 5)), "it can be tried again: {}", text(&said));
    }
    panic!("the cluster is never ready");
}

#[test]
fn a_zookeeper_moves_to_a_cluster_under_its_clients() {
    let place = Place::new();
    let zk = place.embedded();
    let mut first = Client::open(&zk.addr, None);
    first.call(&create("/mine", 1));
    let stop = Arc::new(AtomicBool::new(false));
    let sets: Vec<Arc<AtomicI32>> = (0..3).map(|_| Arc::default()).collect();
    let writers = sets.iter().enumerate().map(|(i, sets)| {
        let (addr, sets, stop) = (zk.addr.clone(), sets.clone(), stop.clone());
        std::thread::spawn(move || write_on(&addr, format!("/w{i}"), &sets, &stop))
    });
    let writers: Vec<_> = writers.collect();
    let all_at_least = |n: i32| sets.iter().all(|s| s.load(Ordering::SeqCst) >= n);
    let mut wait = |more: i32| {
        let least = sets.iter().map(|s| s.load(Ordering::SeqCst)).max().unwrap() + more;
        // Each answer takes a while; what is written by others is of no interest.
        while !all_at_least(least) {
            first.call(&get("/mine", false));
        }
    };
    wait(20);
    let dev = place.cluster();
    let said = place.switch_when_ready();
    wait(50);
    // By whomever, again: it is as it was.
    let again = place.switch();
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["tail"], said["tail"]);
    let status = dev.json(&["admin", "status"]);
    let tail = status["orderers"].as_array().unwrap().iter().filter_map(|o| o["tail"].as_u64()).max();
    assert!(tail > said["tail"].as_u64(), "it goes on there: {tail:?} {said}");
    stop.store(true, Ordering::SeqCst);
    let sessions: Vec<Client> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    // Killed, it finds the cluster from the log that has ended; and sessions live on, by their passwords.
    drop(zk);
    let zk = place.embedded();
    for (i, (before, sets)) in sessions.iter().zip(&sets).enumerate() {
        let mut client = Client::open(&zk.addr, Some(&before.session));
        client.call(&set(&format!("/w{i}"), sets.load(Ordering::SeqCst)));
    }
    let mut client = Client::open(&zk.addr, Some(&first.session));
    assert_eq!(data(&client.call(&get("/mine", false))), b"old", "the ephemeral of a session that lives");
    client.call(&create("/later", 0));
    drop(zk);
    // Nothing of the directory is needed once its node has a snapshot from behind it: an ordinary node of the cluster.
    let config = place.dir.path().join("zk.toml");
    let (data_dir, file) = (place.data().display().to_string(), place.cluster.display().to_string());
    std::fs::write(&config, format!("id = 0\ndata_dir = {data_dir:?}\ncluster_file = {file:?}\n")).unwrap();
    std::fs::remove_dir_all(place.dir.path().join("log")).unwrap();
    let zk = Zk::start(&["--config", config.to_str().unwrap()]);
    let mut client = Client::open(&zk.addr, Some(&first.session));
    client.call(&get("/later", false));
    client.call(&get("/mine", false));
}

/// From its own disk to a cluster and to the next, without ever being started anew; and then again, from the newest on.
#[test]
fn a_zookeeper_moves_twice_in_one_life() {
    let place = Place::new();
    let zk = place.embedded();
    let mut client = Client::open(&zk.addr, None);
    client.call(&create("/mine", 1));
    let stop = Arc::new(AtomicBool::new(false));
    let sets: Vec<Arc<AtomicI32>> = (0..2).map(|_| Arc::default()).collect();
    let writers = sets.iter().enumerate().map(|(i, sets)| {
        let (addr, sets, stop) = (zk.addr.clone(), sets.clone(), stop.clone());
        std::thread::spawn(move || write_on(&addr, format!("/w{i}"), &sets, &stop))
    });
    let writers: Vec<_> = writers.collect();
    let wait = |client: &mut Client, more: i32| {
        let least = sets.iter().map(|s| s.load(Ordering::SeqCst)).max().unwrap() + more;
        while !sets.iter().all(|s| s.load(Ordering::SeqCst) >= least) {
            client.call(&get("/mine", false));
        }
    };
    wait(&mut client, 20);
    let dev = place.cluster();
    let first = place.switch_when_ready()["tail"].as_u64().unwrap();
    wait(&mut client, 20);
    let _next = place.next_cluster();
    let tail = place.switch_to_next();
    assert!(tail > first, "{tail} {first}");
    wait(&mut client, 20);
    while !place.has_snapshot_from(tail) {
        wait(&mut client, 1);
    }
    stop.store(true, Ordering::SeqCst);
    let sessions: Vec<Client> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    // Its settings name the directory still; what was between that and the newest is gone.
    drop((zk, dev));
    let zk = place.embedded();
    for (i, (before, sets)) in sessions.iter().zip(&sets).enumerate() {
        let mut client = Client::open(&zk.addr, Some(&before.session));
        client.call(&set(&format!("/w{i}"), sets.load(Ordering::SeqCst)));
    }
    let mut client = Client::open(&zk.addr, Some(&client.session));
    assert_eq!(data(&client.call(&get("/mine", false))), b"old", "the ephemeral of a session that lives");
    client.call(&create("/later", 0));
}

fn put(map: &ReplicatedHandle<Map>, key: &str, n: u64) -> u64 {
    let change = Change::Put { key: key.into(), value: n.to_string() };
    loop {
        match map.propose(&change).wait() {
            Ok(applied) => return applied.gsn.0,
            Err(ProposeError::Busy) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_structure_moves_to_a_cluster_under_its_program() {
    let place = Place::new();
    let (log, own) = (place.dir.path().join("log"), place.dir.path().join("own"));
    let cfg = || ReplicatedConfig { snapshot_records: 50, ..ReplicatedConfig::new("map") };
    let node = ReplicatedNode::<Map>::start(cfg(), LogPlace::Local(log), &own).unwrap();
    let map = node.handle();
    map.caught_up().wait().unwrap();
    let (stop, puts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
    let (program, ends, count) = (map.clone(), stop.clone(), puts.clone());
    let program = std::thread::spawn(move || {
        let (mut n, mut before) = (0, None);
        while !ends.load(Ordering::SeqCst) {
            let gsn = put(&program, "n", n);
            assert!(before < Some(gsn), "positions ascend, whatever is below");
            (before, n) = (Some(gsn), n + 1);
            count.fetch_add(1, Ordering::SeqCst);
        }
        (n, before.unwrap())
    });
    let wait = |more: i32| {
        let least = puts.load(Ordering::SeqCst) + more;
        while puts.load(Ordering::SeqCst) < least {
            map.read(Consistency::Linearizable, |_| ()).wait().unwrap();
        }
    };
    wait(20);
    let dev = place.cluster();
    let tail = place.switch_when_ready()["tail"].as_u64().unwrap();
    wait(120);
    stop.store(true, Ordering::SeqCst);
    let (n, last) = program.join().unwrap();
    assert!(last > tail, "{last} {tail}");
    let value = |map: &ReplicatedHandle<Map>| {
        let read = |map: &Map| map.get("n").unwrap_or_default().to_string();
        map.read(Consistency::Linearizable, read).wait().unwrap()
    };
    assert_eq!(value(&map), (n - 1).to_string());
    let hash = map.state_hash(Consistency::Linearizable).wait().unwrap();
    drop(map);
    node.stop().unwrap();
    // It has a snapshot from behind the end by now: the log that has ended is not needed.
    let node = ReplicatedNode::<Map>::start(cfg(), LogPlace::Cluster(dev.orderers.clone()), &own).unwrap();
    let map = node.handle();
    assert_eq!(map.state_hash(Consistency::Linearizable).wait().unwrap(), hash);
    assert!(put(&map, "n", n) > last);
    // To the next. The program goes on naming the one before, which is gone.
    let _next = place.next_cluster();
    let tail = place.switch_to_next();
    let way = || std::fs::read_to_string(own.join("way")).unwrap_or_default();
    let written = (n + 1..n + 20_000).find(|n| {
        put(&map, "n", *n);
        way().contains(&format!("{tail} left "))
    });
    let last = written.expect("it leaves the cluster");
    let hash = map.state_hash(Consistency::Linearizable).wait().unwrap();
    drop(map);
    node.stop().unwrap();
    let gone = dev.orderers.clone();
    drop(dev);
    let node = ReplicatedNode::<Map>::start(cfg(), LogPlace::Cluster(gone), &own).unwrap();
    let map = node.handle();
    assert_eq!(map.state_hash(Consistency::Linearizable).wait().unwrap(), hash);
    assert_eq!(value(&map), last.to_string());
}

/// Nobody uses the log when it ends.
#[test]
fn a_log_that_nobody_uses_goes_on_elsewhere_too() {
    let place = Place::new();
    let zk = place.embedded();
    let mut client = Client::open(&zk.addr, None);
    client.call(&create("/kept", 0));
    client.call(&Request::SetData { path: "/kept".into(), data: Some(b"before"), version: 0 });
    drop(zk);
    let wrong = place.switch();
    assert!(!wrong.status.success(), "there is no cluster");
    let _dev = place.cluster();
    let tail = place.switch_when_ready()["tail"].clone();
    assert_eq!(serde_json::from_slice::<Value>(&place.switch().stdout).unwrap()["tail"], tail);
    let zk = place.embedded();
    let mut client = Client::open(&zk.addr, Some(&client.session));
    assert_eq!(data(&client.call(&get("/kept", false))), b"before");
    client.call(&Request::SetData { path: "/kept".into(), data: Some(b"behind"), version: 1 });
}

/// Nothing is sealed for a cluster that would not go on.
#[test]
fn a_log_is_not_sealed_for_a_cluster_that_is_none_of_its() {
    let place = Place::new();
    let zk = place.embedded();
    let _dev = Dev::start(place.cluster.parent().unwrap(), &["--zk", "0"]);
    let said = place.switch();
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    assert!(text(&said).contains("--succeeds"), "{}", text(&said));
    let absent = format!("local:{}", Path::new("/nowhere").display());
    let out = place.dir.path().join("x.toml");
    let init = ["admin", "init", "--succeeds", &absent, "--orderers", "a:1", "--out", out.to_str().unwrap()];
    let said = common::zoolog(&init).output().unwrap();
    assert!(!said.status.success() && text(&said).contains("no embedded log"), "{}", text(&said));
    let mut client = Client::open(&zk.addr, None);
    client.call(&create("/it-goes-on", 0));
}
