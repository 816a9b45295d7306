//! The examples as they are, as real processes over an embedded log: killed with SIGKILL in the middle of things, again and
//! again, they have what they answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

fn example(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a path");
    let profile = me.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let path = profile.join("examples").join(name);
    // `cargo test` builds them all, unless it is told which tests it is to build.
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        if !path.exists() {
            let args = ["build", "-q", "-p", "zoolog-client", "--features", "rt", "--examples"];
            assert!(Command::new(env!("CARGO")).args(args).status().expect("cargo").success());
        }
    });
    path
}

fn command(name: &str, dir: &Path) -> Command {
    let mut command = Command::new(example(name));
    command.arg("--log").arg(format!("local:{}", dir.display())).args(["--snapshot-records", "40"]);
    command
}

/// A process that is told what to do line by line.
struct Node {
    child: Child,
    say: ChildStdin,
    hear: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(name: &str, dir: &Path) -> Self {
        let mut command = command(name, dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the example");
        let (say, hear) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, say, hear: BufReader::new(hear).lines() }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.say, "{line}").expect("it listens");
        self.hear.next().expect("it answers").expect("text")
    }

    /// Kills it, with lines under way that nobody has heard the answers of.
    fn kill(mut self, under_way: &[String]) {
        for line in under_way {
            writeln!(self.say, "{line}").expect("it listens");
        }
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_map_has_what_it_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wanted = BTreeMap::new();
    for round in 0..6 {
        let mut map = Node::start("map", dir.path());
        for (key, value) in &wanted {
            assert_eq!(map.ask(&format!("get {key}")), *value, "round {round}");
        }
        for i in 0..40 {
            let (key, value) = (format!("k{}", i % 13), format!("{round}.{i}"));
            let before = wanted.insert(key.clone(), value.clone());
            assert_eq!(map.ask(&format!("put {key} {value}")), before.unwrap_or_else(|| "(none)".into()));
        }
        let under_way: Vec<String> = (0..50).map(|i| format!("put other{i} {round}")).collect();
        map.kill(&under_way);
    }
    // And from a command line.
    let once = |args: &[&str]| {
        let output = command("map", dir.path()).args(args).output().expect("the example");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    assert_eq!(once(&["get", "k0"]), (true, wanted["k0"].clone()));
    assert_eq!(once(&["swap", "k0", "wrong", "new"]), (true, wanted["k0"].clone()));
    assert!(!once(&["sing"]).0);
}

#[test]
fn a_queue_forgets_no_job_and_gives_none_away_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut added = Vec::new();
    let mut taken: Vec<u64> = Vec::new();
    for round in 0..4 {
        let mut queue = Node::start("queue", dir.path());
        for i in 0..20 {
            let told = queue.ask(&format!("add job-{round}-{i}"));
            added.push(told.strip_prefix("added ").expect(&told).parse::<u64>().expect("a number"));
        }
        for _ in 0..10 {
            let told = queue.ask("take anna 3600000");
            let number = told.split(' ').nth(1).and_then(|n| n.parse().ok());
            taken.push(number.unwrap_or_else(|| panic!("{told}")));
        }
        // Some of these go through, or none: a job may then be taken by somebody who never heard of it.
        queue.kill(&["take bert 3600000".to_string()]);
    }
    assert!(taken.is_sorted_by(|a, b| a < b), "in order, each once: {taken:?}");
    assert!(taken.iter().all(|n| added.contains(n)));
    let mut queue = Node::start("queue", dir.path());
    assert_eq!(queue.ask("count"), "80");
    for number in &taken {
        assert_eq!(queue.ask(&format!("done anna {number}")), "done");
        assert_eq!(queue.ask(&format!("done anna {number}")), "it is not yours any more");
    }
}

#[test]
fn a_lock_is_held_and_its_tokens_grow_whatever_dies() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut last = None;
    for round in 0..4u64 {
        let mut locks = Node::start("lock", dir.path());
        if let Some(token) = last {
            assert!(locks.ask("lock it bert 1").starts_with("anna has it"), "round {round}");
            assert_eq!(locks.ask("lock it anna 3600000"), format!("token {token}"), "asked again");
            assert_eq!(locks.ask("read it"), format!("text-{}", round - 1));
            assert_eq!(locks.ask(&format!("unlock it {token}")), "unlocked");
        }
        let told = locks.ask("lock it anna 3600000");
        let token: u64 = told.strip_prefix("token ").expect(&told).parse().expect("a number");
        assert!(last.is_none_or(|before| token > before));
        assert_eq!(locks.ask(&format!("write it {token} text-{round}")), "written");
        if let Some(before) = last.replace(token) {
            assert_eq!(locks.ask(&format!("write it {before} late")), "refused: a later holder has written");
        }
        locks.kill(&[]);
    }
}
