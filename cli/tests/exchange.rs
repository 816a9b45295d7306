//! A ZooKeeper moves from one cluster to the next, and to a third, while clients write: does each write that was answered count once,
//! do sessions live on, does whoever is killed find his way, and is nobody taken for one of another cluster?

mod common;
#[path = "common/writing.rs"]
mod writing;
#[path = "common/zk.rs"]
mod zk;

use common::Dev;
use serde_json::Value;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use writing::{Zk, set, text, write_on};
use zk::{Client, create, data, get};
use zoolog_zk::jute::Request;

/// Where clusters are.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name).join("cluster.toml")
    }

    /// A first cluster.
    fn first(&self, name: &str) -> Dev {
        let dir = self.0.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let dev = Dev::start(&dir, &["--zk", "0"]);
        dev.wait_for_shards();
        dev
    }

    /// One that is to follow another.
    fn next(&self, name: &str, after: &str) -> Dev {
        let (file, before) = (self.file(name), self.file(after));
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let orderers = [0; 3].map(|_| format!("127.0.0.1:{}", common::free_port())).join(",");
        let (before, out) = (before.to_str().unwrap(), file.to_str().unwrap());
        let init = ["admin", "init", "--succeeds", before, "--orderers", &orderers, "--out", out];
        let made = common::zoolog(&init).output().unwrap();
        assert!(made.status.success(), "{}", text(&made));
        Dev::start(file.parent().unwrap(), &["--zk", "0"])
    }

    /// Settings of a ZooKeeper node.
    fn node(&self, id: u32, cluster: &str) -> String {
        let config = self.0.path().join(format!("zk-{id}.toml"));
        let data_dir = self.0.path().join(format!("zk-{id}")).display().to_string();
        let file = self.file(cluster).display().to_string();
        std::fs::write(&config, format!("id = {id}\ndata_dir = {data_dir:?}\ncluster_file = {file:?}\n"))
            .unwrap();
        config.display().to_string()
    }

    fn args(&self, from: &str, to: &str) -> Vec<String> {
        let path = |name: &str| self.file(name).display().to_string();
        let args = ["admin", "log", "switch", "--from", &path(from), "--to", &path(to), "--json"];
        args.map(String::from).to_vec()
    }

    fn switch(&self, from: &str, to: &str) -> Output {
        let args = self.args(from, to);
        common::zoolog(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap()
    }

    /// The same until the cluster's servers are there.
    fn switch_when_ready(&self, from: &str, to: &str) -> Value {
        for _ in 0..200 {
            let said = self.switch(from, to);
            if said.status.success() {
                return serde_json::from_slice(&said.stdout).unwrap();
            }
            assert!(matches!(said.status.code(), Some(3 | 5)), "it can be tried again: {}", text(&said));
        }
        panic!("the cluster is never ready");
    }
}

fn wait(client: &mut Client, sets: &[Arc<AtomicI32>], more: i32) {
    let least = sets.iter().map(|s| s.load(Ordering::SeqCst)).max().unwrap() + more;
    // Each answer takes a while; what is written by others is of no interest.
    while !sets.iter().all(|s| s.load(Ordering::SeqCst) >= least) {
        client.call(&get("/", false));
    }
}

#[test]
fn a_zookeeper_moves_from_cluster_to_cluster_under_its_clients() {
    let place = Place::new();
    let _a = place.first("a");
    let (first, second) = (place.node(0, "a"), place.node(1, "a"));
    let (dies, stays) = (Zk::start(&["--config", &first]), Zk::start(&["--config", &second]));
    let mut own = Client::open(&dies.addr, None);
    own.call(&create("/mine", 1));
    let mut other = Client::open(&stays.addr, None);
    let stop = Arc::new(AtomicBool::new(false));
    let sets: Vec<Arc<AtomicI32>> = (0..3).map(|_| Arc::default()).collect();
    let writers = sets.iter().enumerate().map(|(i, sets)| {
        let (addr, sets, stop) = (stays.addr.clone(), sets.clone(), stop.clone());
        std::thread::spawn(move || write_on(&addr, format!("/w{i}"), &sets, &stop))
    });
    let writers: Vec<_> = writers.collect();
    wait(&mut other, &sets, 20);
    let _b = place.next("b", "a");
    // Whoever carries it out is killed, and so is a node; what was begun is finished by whoever says it again.
    let args = place.args("a", "b");
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    for _ in 0..3 {
        let mut killed = common::zoolog(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&mut other, &sets, 1);
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    drop(dies);
    let said = place.switch_when_ready("a", "b");
    wait(&mut other, &sets, 50);
    let again = place.switch("a", "b");
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["tail"], said["tail"]);
    // Which missed it, and is told by the cluster that it knows.
    let back = Zk::start(&["--config", &first]);
    let mut own = Client::open(&back.addr, Some(&own.session));
    assert_eq!(data(&own.call(&get("/mine", false))), b"old", "the ephemeral of a session that lives");
    // And once more, to a third.
    let _c = place.next("c", "b");
    let further = place.switch_when_ready("b", "c");
    assert!(further["tail"].as_u64() > said["tail"].as_u64(), "{further} {said}");
    wait(&mut other, &sets, 50);
    stop.store(true, Ordering::SeqCst);
    let sessions: Vec<Client> = writers.into_iter().map(|w| w.join().unwrap()).collect();
    for (i, (before, sets)) in sessions.iter().zip(&sets).enumerate() {
        let mut client = Client::open(&back.addr, Some(&before.session));
        client.call(&set(&format!("/w{i}"), sets.load(Ordering::SeqCst)));
    }
    own.call(&create("/later", 0));
    // From the first cluster, by way of the second: one that never was there.
    drop(stays);
    let stays = Zk::start(&["--config", &second]);
    let mut client = Client::open(&stays.addr, Some(&own.session));
    client.call(&get("/later", false));
    client.call(&get("/mine", false));
}

/// Position of the newest snapshot of a node.
fn newest_snapshot(place: &Place, id: u32) -> u64 {
    let dir = place.0.path().join(format!("zk-{id}")).join("snapshots");
    let names = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".snapshot")?.parse().ok()).max().unwrap_or(0)
}

/// Writes until that has come about.
fn write_until(client: &mut Client, what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        client.call(&Request::SetData { path: "/kept".into(), data: Some(b"x"), version: -1 });
    }
    panic!("never: {what}");
}

/// The cluster that the settings name is gone for good, and the one after it, too: a node that has gone past them finds its log.
#[test]
fn a_node_that_starts_again_needs_none_of_the_clusters_that_it_left() {
    let place = Place::new();
    let config = place.node(0, "a");
    let way = || std::fs::read_to_string(place.0.path().join("zk-0").join("way")).unwrap_or_default();
    let a = place.first("a");
    let node = Zk::start(&["--config", &config]);
    let mut client = Client::open(&node.addr, None);
    client.call(&create("/kept", 0));
    client.call(&create("/mine", 1));
    let b = place.next("b", "a");
    let tail = place.switch_when_ready("a", "b")["tail"].as_u64().unwrap();
    write_until(&mut client, "a snapshot from behind the end", || newest_snapshot(&place, 0) >= tail);
    // There is one, so that the first cluster is not needed; that it knows is not waited for.
    drop((node, a));
    assert!(way().contains(&format!("{tail} ")), "{}", way());
    let node = Zk::start(&["--config", &config]);
    let mut client = Client::open(&node.addr, Some(&client.session));
    client.call(&get("/mine", false));
    drop(node);
    // With two snapshots behind the end, nothing of what is before is needed, and who was left knows.
    let often = std::fs::read_to_string(&config).unwrap() + "snapshot_records = 30\n";
    std::fs::write(&config, often).unwrap();
    let node = Zk::start(&["--config", &config]);
    let mut client = Client::open(&node.addr, Some(&client.session));
    let c = place.next("c", "b");
    let tail = place.switch_when_ready("b", "c")["tail"].as_u64().unwrap();
    write_until(&mut client, "the second is left", || way().contains(&format!("{tail} left ")));
    drop((node, b));
    let node = Zk::start(&["--config", &config]);
    let mut client = Client::open(&node.addr, Some(&client.session));
    client.call(&get("/mine", false));
    client.call(&create("/later", 0));
    drop(node);
    // What it wrote down is damaged: it says so, and what to do; and that helps.
    let file = place.0.path().join("zk-0").join("way");
    let damaged = way().replace("left", "leFt");
    std::fs::write(&file, damaged).unwrap();
    let port = common::free_port().to_string();
    let mut lost = common::zoolog(&["zk", "--port", &port, "--config", &config]);
    let mut lost = lost.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(lost.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = said.find(|line| line.contains("can't be used")).expect("it says so");
    assert!(line.contains("have them name the newest one"), "{line}");
    lost.kill().unwrap();
    lost.wait().unwrap();
    std::fs::remove_file(file).unwrap();
    let node = Zk::start(&["--config", &place.node(0, "c")]);
    let mut client = Client::open(&node.addr, Some(&client.session));
    client.call(&get("/later", false));
    drop(c);
}

/// Nothing is sealed for a cluster that would not go on, and a log only once.
#[test]
fn a_log_is_sealed_once_and_for_a_cluster_that_was_made_for_it() {
    let place = Place::new();
    let a = place.first("a");
    let stranger = place.file("x");
    std::fs::create_dir(stranger.parent().unwrap()).unwrap();
    let init = ["admin", "init", "--orderers", "127.0.0.1:1", "--out", stranger.to_str().unwrap()];
    assert!(common::zoolog(&init).status().unwrap().success());
    let said = place.switch("a", "x");
    assert_eq!(said.status.code(), Some(2), "{}", text(&said));
    assert!(text(&said).contains("--succeeds"), "{}", text(&said));
    let _b = place.next("b", "a");
    // The one that follows b can't before b has begun.
    let c = place.next("c", "b");
    let refused = |_| {
        let early = place.switch("b", "c");
        assert!(!early.status.success());
        text(&early).contains("waits to be told")
    };
    assert!((0..200).any(refused), "b has not begun");
    drop(c);
    let _d = place.next("d", "a");
    let tail = place.switch_when_ready("a", "b")["tail"].clone();
    let said = refused_for_good(&place);
    assert_eq!(said.status.code(), Some(9), "{}", text(&said));
    assert!(text(&said).contains("ended before"), "{}", text(&said));
    let status = a.json(&["admin", "status"]);
    let sealed = |o: &Value| o["sealed"]["tail"] == tail;
    assert!(status["orderers"].as_array().unwrap().iter().any(sealed), "{status}");
    // Whoever writes to it by its address is told.
    let append = ["log", "append", "late", "--orderers", &a.orderers.join(",")];
    let said = common::zoolog(&append).output().unwrap();
    assert_eq!(said.status.code(), Some(9), "{}", text(&said));
    assert!(text(&said).contains("goes on at"), "{}", text(&said));
    // A directory of the one cluster is none of the other's.
    let (old, new) = (place.0.path().join("a"), place.file("b"));
    drop(a);
    assert!(started_on(&old, &new).contains("cluster"), "it is refused by name");
}

/// What is said to who would have the first log go on elsewhere, once that place is ready.
fn refused_for_good(place: &Place) -> Output {
    let asked = (0..200).map(|_| place.switch("a", "d"));
    asked.into_iter().find(|said| said.status.code() != Some(3)).expect("its servers come")
}

/// What an orderer says that is started on a directory of another cluster.
fn started_on(old: &Path, file: &Path) -> String {
    let dir = old.join("nodes").join("order-0").join("data");
    let config = old.join("wrong.toml");
    let (dir, file) = (dir.display().to_string(), file.display().to_string());
    let listen = format!("127.0.0.1:{}", common::free_port());
    let toml = format!("id = 1\ndata_dir = {dir:?}\ncluster_file = {file:?}\nlisten = {listen:?}\n");
    std::fs::write(&config, toml).unwrap();
    let said = common::zoolog(&["order", "--config", config.to_str().unwrap()]).output().unwrap();
    assert!(!said.status.success());
    text(&said)
}
