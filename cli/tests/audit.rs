//! Do `log fsck` and `log dump` tell of a stopped node's data what is true, and change nothing? On the data of real
//! processes, damaged in every way that files can be.

mod common;

use common::{Dev, zoolog};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;

const UNIT: usize = 4096;

/// A stopped `dev` whose log has more than one segment: made once, and copied by each test.
fn made() -> &'static (tempfile::TempDir, String) {
    static MADE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start(dir.path(), &[]);
        let in_use = fsck(dir.path(), &[]);
        let line = [&[b'x'; 60_000][..], b"\n"].concat();
        let place = ["--data-dir", dir.path().to_str().unwrap()];
        let mut append = zoolog(&["log", "append", "-q"]).args(place).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = append.stdin.take().unwrap();
        // 12 MB in one lane: the first segment has 8 MiB.
        (0..200).for_each(|_| stdin.write_all(&line).unwrap());
        drop(stdin);
        assert!(append.wait().unwrap().success());
        // Cut marks ride in the next group, whichever lane that is for: some go to each slot.
        (0..12).for_each(|_| {
            assert!(zoolog(&["log", "append", "-q", "small"]).args(place).status().unwrap().success());
        });
        dev.stop();
        (dir, format!("{}\n{}", code(&in_use), text(&in_use)))
    })
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

/// All that it printed.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(what: &str, dir: &Path, more: &[&str]) -> Output {
    zoolog(&["log", what, dir.to_str().unwrap()]).args(more).env_remove("RUST_LOG").output().unwrap()
}

fn fsck(dir: &Path, more: &[&str]) -> Output {
    run("fsck", dir, more)
}

/// Files are copied with holes for zeros: most of a segment's 64 MiB are.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            sparse(&target, &std::fs::read(&path).unwrap());
        }
    }
}

fn sparse(path: &Path, bytes: &[u8]) {
    let file = File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (i, chunk) in bytes.chunks(UNIT).enumerate().filter(|(_, c)| c.iter().any(|b| *b != 0)) {
        file.write_all_at(chunk, (i * UNIT) as u64).unwrap();
    }
}

/// Every file below, with its length, time of change and bytes.
fn image(dir: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime, u32)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(image(&path));
        } else {
            let about = path.metadata().unwrap();
            let crc = crc32c::crc32c(&std::fs::read(&path).unwrap());
            all.insert(path, (about.len(), about.modified().unwrap(), crc));
        }
    }
    all
}

/// A copy of one node's data.
struct Node {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Node {
    /// Of a slot whose log has two segments.
    fn slot() -> Self {
        let slots = (0..3).map(|i| format!("nodes/shard-{i}/data/slot-0"));
        let used = |slot: &String| {
            let second = made().0.path().join(slot).join("wal/wal-0000000002.seg");
            std::fs::read(second).is_ok_and(|bytes| bytes[..UNIT] != [0; UNIT])
        };
        Self::copy_of(&slots.into_iter().find(used).expect("12 MB went somewhere"))
    }

    fn orderer() -> Self {
        Self::copy_of("nodes/order-1/data")
    }

    fn copy_of(node: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        copy(&made().0.path().join(node), &path);
        Self { _dir: dir, path }
    }

    fn file(&self, segment: u32) -> PathBuf {
        self.path.join(format!("wal/wal-{segment:010}.seg"))
    }

    fn change(&self, segment: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.file(segment)).unwrap();
        change(&mut bytes);
        sparse(&self.file(segment), &bytes);
    }

    /// Changes the header of the block there, and makes its checksum right again.
    fn forge(&self, segment: u32, at: usize, change: impl FnOnce(&mut [u8])) {
        self.change(segment, |bytes| {
            let header = &mut bytes[at..at + 96];
            change(header);
            let crc = crc32c::crc32c(&header[..92]);
            header[92..].copy_from_slice(&crc.to_le_bytes());
        });
    }

    /// Looks at it both ways: exit code, text, and the JSON of its report. Nothing is changed by that.
    fn look(&self) -> (i32, String, Value) {
        let before = image(&self.path);
        let (people, programs) = (fsck(&self.path, &[]), fsck(&self.path, &["--json"]));
        assert_eq!(image(&self.path), before, "nothing was changed");
        assert_eq!(code(&people), code(&programs));
        let mut json: Value = serde_json::from_slice(&programs.stdout).expect("JSON");
        (code(&people), text(&people), json["nodes"][0].take())
    }

    /// What a look must say.
    fn expect(&self, want: i32, verdict: &str, said: &[&str]) -> Value {
        let (code, text, json) = self.look();
        assert_eq!((code, json["verdict"].as_str()), (want, Some(verdict)), "{text}");
        for said in said {
            assert!(text.contains(said), "`{said}` is not in: {text}");
        }
        json
    }
}

#[test]
fn a_stopped_topology_is_whole_and_a_running_one_is_refused() {
    let (dir, in_use) = made();
    assert!(in_use.starts_with("3\n"), "{in_use}");
    assert!(in_use.contains("is in use: stop its node first") && in_use.contains("shard-0.0"), "{in_use}");
    let before = image(dir.path());
    let output = fsck(dir.path(), &["--json"]);
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert_eq!(image(dir.path()), before);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        all["nodes"].as_array().unwrap().iter().map(|n| n["node"].as_str().unwrap()).collect();
    assert_eq!(names, ["order-0", "order-1", "order-2", "shard-0.0", "shard-1.0", "shard-2.0", "zk-0"]);
    assert!(all["nodes"].as_array().unwrap().iter().all(|n| n["verdict"] == "whole"), "{all}");
    // From the log's own folder, and of the wrong cluster.
    assert_eq!(code(&fsck(&dir.path().join("nodes/order-0/data/wal"), &[])), 0);
    let output = fsck(dir.path(), &["--cluster", "00000000000000000000000000000abc"]);
    assert_eq!(code(&output), 8);
    assert!(text(&output).contains("belongs to cluster"), "{}", text(&output));
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(code(&fsck(nothing.path(), &[])), 4);
}

/// What trimming, finalizing and a sudden end leave behind is no damage.
#[test]
fn a_trimmed_log_whose_shards_came_and_went_is_whole_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(dir.path(), &["--zk", "0"]);
    dev.wait_for_shards();
    let orderers = dev.orderers.join(",");
    let line = [&[b'x'; 60_000][..], b"\n"].concat();
    let append = |n: usize| {
        let mut append = zoolog(&["log", "append", "-q", "--orderers", &orderers]);
        let mut append = append.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = append.stdin.take().unwrap();
        (0..n).for_each(|_| stdin.write_all(&line).unwrap());
        drop(stdin);
        assert!(append.wait().unwrap().success());
    };
    for round in 1..3u64 {
        append(200);
        dev.release(round * 200 - 50);
        for shard in dev.json(&["log", "view"])["shards"].as_array().unwrap() {
            let id = shard["shard"].to_string();
            assert!(
                zoolog(&["admin", "finalize", &id, "--orderers", &orderers])
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
        }
    }
    append(3);
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    let output = fsck(dir.path(), &[]);
    assert_eq!(code(&output), 0, "{}", text(&output));
}

#[test]
fn a_slots_records_are_counted_and_its_lanes_named() {
    let json = Node::slot().expect(0, "whole", &["whole", "files", "records"]);
    let lanes = json["details"]["lanes"].as_array().unwrap();
    let longest = lanes.iter().max_by_key(|l| l["end"].as_u64()).unwrap();
    assert!(longest["end"].as_u64() >= Some(200) && longest["missing"] == serde_json::json!([]), "{json}");
    assert_eq!(json["details"]["started"]["role"], "slot");
}

#[test]
fn truncated_files_are_damage_that_peers_mend() {
    for segment in [1, 2] {
        let node = Node::slot();
        node.change(segment, |bytes| bytes.truncate(2 * UNIT + 1000));
        let file = format!("wal-000000000{segment}.seg");
        let json = node.expect(7, "damaged", &[&file, "its peers have these records"]);
        assert!(!json["details"]["damage"].as_array().unwrap().is_empty(), "{json}");
    }
}

#[test]
fn zero_filled_parts_are_damage_and_the_records_in_them_are_named() {
    let node = Node::slot();
    node.change(1, |bytes| bytes[100 * UNIT..1200 * UNIT].fill(0));
    let json = node.expect(7, "damaged", &["wal-0000000001.seg", "records are missing, LSN"]);
    let lanes = json["details"]["lanes"].as_array().unwrap();
    assert!(lanes.iter().any(|l| !l["missing"].as_array().unwrap().is_empty()), "{json}");
    // A start reads the index of a sealed segment, and not what it lists.
    assert_ne!(json["details"]["started"], Value::Null);
    let whole = Node::slot();
    whole.change(1, |bytes| bytes.fill(0));
    whole.expect(7, "damaged", &["wal-0000000001.seg"]);
}

#[test]
fn an_orderers_damage_is_not_to_be_started_on() {
    let node = Node::orderer();
    node.change(1, |bytes| bytes[2 * UNIT + 40] ^= 1);
    node.expect(
        8,
        "unusable",
        &["wal-0000000001.seg", "don't start it: replace it, empty and under a new id"],
    );
    let node = Node::orderer();
    node.change(1, |bytes| {
        let end = (0..bytes.len() / UNIT).find(|u| bytes[u * UNIT..(u + 1) * UNIT] == [0; UNIT]).unwrap();
        bytes.truncate((end - 1) * UNIT);
    });
    node.expect(8, "unusable", &["the file is cut off"]);
}

#[test]
fn swapped_and_duplicated_files_are_named() {
    let node = Node::slot();
    let (one, two) = (std::fs::read(node.file(1)).unwrap(), std::fs::read(node.file(2)).unwrap());
    node.change(1, |bytes| *bytes = two.clone());
    node.change(2, |bytes| *bytes = one.clone());
    let said =
        ["wal-0000000001.seg holds segment 2", "wal-0000000002.seg holds segment 1", "swapped or copied"];
    node.expect(8, "unusable", &said);
    let node = Node::slot();
    std::fs::write(node.file(3), two).unwrap();
    node.expect(8, "unusable", &["wal-0000000003.seg holds segment 2"]);
    let node = Node::slot();
    std::fs::rename(node.file(1), node.path.join("elsewhere")).unwrap();
    std::fs::write(node.file(4), one).unwrap();
    node.expect(8, "unusable", &["wal-0000000004.seg holds segment 1"]);
}

#[test]
fn another_clusters_another_nodes_and_a_newer_versions_files_are_named() {
    let node = Node::slot();
    node.forge(2, 0, |h| h[8..24].copy_from_slice(&0xabcdu128.to_le_bytes()));
    node.expect(8, "unusable", &["wal-0000000002.seg belongs to cluster 0000000000000000000000000000abcd"]);
    let node = Node::slot();
    node.forge(2, 0, |h| h[24..32].copy_from_slice(&0x99_0000u64.to_le_bytes()));
    node.expect(8, "unusable", &["wal-0000000002.seg belongs to node 0x990000"]);
    let node = Node::slot();
    node.forge(2, 0, |h| h[4] = 7);
    node.expect(8, "unusable", &["wal-0000000002.seg at byte 0 has format version 7", "newer build"]);
    let node = Node::slot();
    let stamp = node.path.join("stamp.toml");
    let newer = std::fs::read_to_string(&stamp).unwrap().replace("format = 1", "format = 9");
    std::fs::write(&stamp, newer).unwrap();
    node.expect(8, "unusable", &["has format 9", "newer zoolog"]);
    // Without its stamp the files themselves say whose they are.
    let node = Node::slot();
    std::fs::remove_file(node.path.join("stamp.toml")).unwrap();
    node.expect(0, "whole", &["there is none: what the records say was not looked at"]);
}

#[test]
fn a_node_does_not_start_on_files_that_were_swapped() {
    let dir = tempfile::tempdir().unwrap();
    copy(made().0.path(), dir.path());
    // The settings name the original's paths.
    for name in ["order-0", "order-1", "order-2"] {
        let config = dir.path().join("nodes").join(name).join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let here = text.replace(made().0.path().to_str().unwrap(), dir.path().to_str().unwrap());
        let other_port = format!("\nlisten = \"127.0.0.1:{}\"", common::free_port());
        std::fs::write(&config, here.replace("\nlisten = \"\"", &other_port)).unwrap();
    }
    let node = dir.path().join("nodes/order-0");
    let wal = node.join("data/wal");
    std::fs::copy(wal.join("wal-0000000001.seg"), wal.join("wal-0000000002.seg")).unwrap();
    let output = zoolog(&["order", "--config", node.join("config.toml").to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("wal-0000000002.seg holds segment 1"), "{}", text(&output));
}

#[test]
fn snapshots_are_read_to_their_end() {
    let node = Node::copy_of("nodes/zk-0/data");
    let folder = node.path.join("snapshots");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("00000000000000000007.snapshot"), b"ZLSNAP\r\nnot much").unwrap();
    std::fs::write(folder.join("00000000000000000009.tmp"), b"unfinished").unwrap();
    node.expect(8, "unusable", &["00000000000000000007.snapshot", "copy the newest `.snapshot` of another"]);
    assert!(folder.join("00000000000000000009.tmp").exists());
}

#[test]
fn a_dump_shows_every_block_and_what_is_asked_for() {
    let node = Node::slot();
    let lines = |more: &[&str]| -> Vec<Value> {
        let output = run("dump", &node.path, &[&["--json"][..], more].concat());
        assert_eq!(code(&output), 0, "{}", text(&output));
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect()
    };
    let all = lines(&[]);
    let (_, _, report) = node.look();
    let blocks: u64 =
        report["details"]["segments"].as_array().unwrap().iter().map(|s| s["blocks"].as_u64().unwrap()).sum();
    assert_eq!(all.iter().filter(|l| l["type"] == "block").count() as u64, blocks);
    assert_eq!(lines(&["--blocks"]).len() as u64, blocks);
    let batches: Vec<&Value> = all.iter().filter(|l| l["type"] == "batch").collect();
    let lane = batches.iter().max_by_key(|l| l["end_lsn"].as_u64()).unwrap()["lane"].as_str().unwrap();
    let of_lane = lines(&["--lane", lane]);
    assert!(of_lane.iter().all(|l| l["type"] != "batch" || l["lane"] == lane), "{of_lane:?}");
    let counted: u64 = of_lane.iter().filter_map(|l| l["count"].as_u64()).sum();
    let end = of_lane.iter().filter_map(|l| l["end_lsn"].as_u64()).max();
    assert!(end == Some(counted) && counted >= 200, "each record once: {counted} up to {end:?}");
    assert!(of_lane.iter().any(|l| l["type"] == "cut"), "cut marks of its shard");
    assert_eq!(lines(&["-n", "5"]).len(), 5);

    let text_of = |dir: &Path, more: &[&str]| text(&run("dump", dir, more));
    let people = text_of(&node.path, &[]);
    assert!(
        people.contains("block open seq 0") && people.contains("batch lane") && people.contains("writer")
    );
    assert!(text_of(&Node::orderer().path, &[]).contains("raft entries"));
    assert_eq!(code(&run("dump", &Node::orderer().path, &["--lane", "1/0"])), 2);
    // Several nodes, or one without such a log.
    assert!(text_of(made().0.path(), &[]).contains("name one of the nodes"));
    assert!(text_of(&made().0.path().join("nodes/zk-0"), &[]).contains("no write-ahead log"));
    // Damage is shown where it is, and what lies behind it too.
    node.change(1, |bytes| bytes[50 * UNIT..60 * UNIT].fill(0));
    let output = run("dump", &node.path, &[]);
    assert_eq!(code(&output), 7);
    assert!(text(&output).contains(" damage ") && text(&output).contains("wal-0000000002.seg 0 block"));
}
