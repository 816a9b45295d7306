//! Nodes on threads of their own, over an embedded log in a directory: what handles are told, and what a start finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{
    Consistency, Image, LogPlace, ProposeError, QueryError, ReplicatedConfig, ReplicatedNode, StateMachine,
    unarchive,
};
use zoolog_core::Gsn;

#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Counters(BTreeMap<String, u64>);

#[derive(Debug, Archive, Serialize)]
enum Command {
    Add { name: String, n: u64 },
    Panic,
}

impl StateMachine for Counters {
    type Command = Command;
    type Outcome = u64;

    fn apply(&mut self, _: Gsn, command: &Archived<Command>) -> u64 {
        match command {
            Archived::<Command>::Add { name, n } => {
                let count = self.0.entry(name.to_string()).or_default();
                *count += n.to_native();
                *count
            }
            Archived::<Command>::Panic => panic!("told to"),
        }
    }

    fn snapshot(&self) -> Image {
        Image::archive(self)
    }

    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}

fn add(name: &str, n: u64) -> Command {
    Command::Add { name: name.into(), n }
}

fn start(dir: &Path) -> Result<ReplicatedNode<Counters>, String> {
    let place = LogPlace::Local(dir.join("log"));
    let cfg = ReplicatedConfig { snapshot_records: 50, ..ReplicatedConfig::new("counters") };
    ReplicatedNode::start(cfg, place, &dir.join("node"))
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("node/snapshots")).expect("a directory");
    let mut files: Vec<PathBuf> = files.map(|f| f.expect("a file").path()).collect();
    files.sort();
    files
}

struct Unpark(std::thread::Thread);
impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn many_threads_propose_and_every_outcome_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut total = 0;
    for life in 1..=3u64 {
        let node = start(dir.path()).expect("a node");
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let handle = node.handle();
                std::thread::spawn(move || {
                    for i in 1..=50u64 {
                        let own = handle.propose(&add(&format!("own {t}"), 1)).wait().expect("applied");
                        assert_eq!(own.outcome, (life - 1) * 50 + i, "its outcomes, in its order");
                        let seen = handle.read(Consistency::Session, move |s| s.0[&format!("own {t}")]);
                        assert_eq!(seen.wait(), Ok(own.outcome), "who was told reads it");
                        assert_eq!(handle.wait_for(own.gsn).wait(), Ok(()));
                    }
                    let all: Vec<_> = (0..20).map(|_| handle.propose(&add("all", 1))).collect();
                    all.into_iter().map(|p| block_on(p).expect("applied").outcome).collect::<Vec<_>>()
                })
            })
            .collect();
        let outcomes: Vec<u64> = threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect();
        let mut sorted = outcomes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (total + 1..=total + 80).collect::<Vec<_>>(), "each once");
        total += 80;
        let handle = node.handle();
        let read = block_on(handle.read(Consistency::Linearizable, |s| s.0["all"]));
        assert_eq!(read, Ok(total));
        let figures = handle.figures().wait().expect("it runs");
        assert!(figures.applied >= 280 && figures.rejected == 0, "{figures:?}");
        assert_eq!(node.stop(), Ok(()));
        let closed = handle.propose(&add("all", 1)).wait().expect_err("it has ended");
        assert!(matches!(closed, ProposeError::Closed(_)), "{closed}");
        assert!(matches!(handle.caught_up().wait(), Err(QueryError::Closed(_))));
    }
    assert_eq!(snapshots(dir.path()).len(), 3, "three are kept");
}

#[test]
fn a_bad_newest_snapshot_is_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).expect("a node");
    let handle = node.handle();
    for i in 0..160 {
        handle.propose(&add(&format!("{}", i % 7), i)).wait().expect("applied");
    }
    let before = handle.read(Consistency::Linearizable, Clone::clone).wait().expect("read");
    let hash = handle.state_hash(Consistency::Session).wait().expect("read");
    drop(node);
    let files = snapshots(dir.path());
    assert!(files.len() >= 2, "{files:?}");
    let newest = files.last().expect("some");
    let mut bytes = std::fs::read(newest).expect("readable");
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    std::fs::write(newest, &bytes).expect("writable");
    for damage in 0..2 {
        let node = start(dir.path()).expect("a node");
        let read = node.handle().read(Consistency::Session, Clone::clone).wait();
        assert_eq!(read.as_ref(), Ok(&before), "damage {damage}");
        assert_eq!(node.handle().state_hash(Consistency::Session).wait(), Ok(hash));
        drop(node);
        std::fs::write(newest, []).expect("writable");
    }
}

#[test]
fn a_panic_of_the_state_machine_names_its_position_and_ends_the_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).expect("a node");
    let handle = node.handle();
    handle.propose(&add("a", 1)).wait().expect("applied");
    let unknown = handle.propose(&Command::Panic).wait().expect_err("no outcome");
    assert!(unknown.is_unknown() && unknown.to_string().contains("the command at 1: told to"), "{unknown}");
    let why = node.stop().expect_err("it has ended by itself");
    assert!(why.contains("panicked on the command at 1"), "{why}");
    let closed = handle.propose(&add("a", 1)).wait().expect_err("it has ended");
    assert!(closed.to_string().contains("at 1"), "{closed}");
}

/// The way round it: one node is told to have it skipped; a state that has applied what is skipped is put aside.
#[test]
fn a_command_that_panics_is_skipped_by_an_operators_word() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).expect("a node");
    let handle = node.handle();
    handle.propose(&add("a", 1)).wait().expect("applied");
    handle.propose(&Command::Panic).wait().expect_err("no outcome");
    drop(node);
    let again = start(dir.path()).expect("it begins");
    let unknown = again.handle().propose(&add("b", 1)).wait();
    assert!(unknown.is_err(), "it meets the command again, and that one is in the log or not");
    drop(again);
    let skipping = |gsn| {
        let place = LogPlace::Local(dir.path().join("log"));
        let skip = std::collections::BTreeSet::from([Gsn(gsn)]);
        let cfg = ReplicatedConfig { skip, ..ReplicatedConfig::new("counters") };
        ReplicatedNode::<Counters>::start(cfg, place, &dir.path().join("node")).expect("it begins")
    };
    let node = skipping(1);
    for n in 2..=200 {
        assert_eq!(node.handle().propose(&add("a", 1)).wait().expect("applied").outcome, n);
    }
    node.handle().snapshot();
    drop(node);
    for _ in 0..3 {
        // Without being told again, and in the end without looking ahead.
        let node = start(dir.path()).expect("it begins");
        let before = node.handle().read(Consistency::Session, |s| s.0["a"]).wait().expect("it runs");
        for n in 1..=60 {
            assert_eq!(node.handle().propose(&add("a", 1)).wait().expect("applied").outcome, before + n);
        }
    }
    assert!(!dir.path().join("node/beware").exists(), "all that it may fall back on has passed over it");
    // One that was applied everywhere: the snapshots that have it go aside, and the log is still whole.
    let before = snapshots(dir.path()).len();
    let node = skipping(0);
    let count = node.handle().read(Consistency::Session, |s| s.0["a"]).wait();
    assert_eq!((before, count), (3, Ok(379)), "200 + 180, without the first");
    assert!(
        snapshots(dir.path()).iter().filter(|f| f.extension().is_some_and(|e| e == "aside")).count() >= 3
    );
}

#[test]
fn a_read_that_panics_harms_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).expect("a node");
    let handle = node.handle();
    let read = handle.read(Consistency::Session, |s: &Counters| s.0["not there"]);
    assert_eq!(read.wait(), Err(QueryError::Panicked));
    assert_eq!(handle.propose(&add("a", 1)).wait().expect("applied").outcome, 1);
}

#[test]
fn who_can_not_start_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).expect("a node");
    node.handle().propose(&add("a", 1)).wait().expect("applied");
    assert!(start(dir.path()).expect_err("in use").contains("in use"));
    let cfg = |name: &str| ReplicatedConfig::new(name);
    let place = LogPlace::Local(dir.path().join("log"));
    let other = dir.path().join("other");
    let refused = ReplicatedNode::<Counters>::start(cfg("counters"), place.clone(), &other).map(drop);
    assert!(refused.expect_err("the log is in use").contains("in use"));
    drop(node);
    let elsewhere = LogPlace::Local(dir.path().join("elsewhere"));
    let refused = ReplicatedNode::<Counters>::start(cfg("counters"), elsewhere, &dir.path().join("node"));
    assert!(refused.map(drop).expect_err("another log").contains("is of the log"));
    let refused = ReplicatedNode::<Counters>::start(cfg(&"x".repeat(48)), place, &other).map(drop);
    assert!(refused.expect_err("too long").contains("47 bytes"));
    for (text, good) in [("local:/a", true), ("a:1,b:2", true), ("", false), ("local:", false), ("a", false)]
    {
        let place = text.parse::<LogPlace>();
        assert_eq!(place.is_ok(), good, "{text}");
        assert!(place.is_err() || place.map(|p| p.to_string()) == Ok(text.to_string()));
    }
}
