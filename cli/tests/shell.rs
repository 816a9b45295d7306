//! Is the log usable from a shell? Real processes: what goes in comes out, gaps are told apart by exit code, and
//! commands end as commands should.

mod common;

use common::{Dev, zoolog};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use zoolog_core::batch::{BatchBuilder, BatchKind, FENCE_SEQ};
use zoolog_core::wire::{self, Message, ResolveEnd};
use zoolog_core::{ClusterId, Epoch, Incarnation, LaneId, Seq, ShardId, WriterId};

/// A log of its own for each test: a `dev` without ZooKeeper nodes, which would write to it.
struct Log {
    dev: Dev,
    _dir: tempfile::TempDir,
}

impl Log {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Self { dev: Dev::start(dir.path(), &["--zk", "0"]), _dir: dir };
        log.dev.wait_for_shards();
        log
    }

    /// A command on this log.
    fn command(&self, args: &[&str]) -> Command {
        let orderers = self.dev.orderers.join(",");
        let mut all = args.to_vec();
        all.extend(["--orderers", &orderers]);
        let mut command = zoolog(&all);
        command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it with this on stdin.
    fn run_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that refuses its input need not read it all.
            let _ = pipe.write_all(&bytes);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"")
    }

    /// Runs it, and gives its stdout if it ended well.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Appends these, as lines.
    fn append(&self, records: std::ops::Range<u64>) {
        let lines: String = records.map(|i| format!("record {i}\n")).collect();
        let output = self.run_with(&["log", "append", "-q"], lines.as_bytes());
        assert_eq!((code(&output), output.stdout.len()), (0, 0), "{}", stderr(&output));
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|i| format!("record {i}\n")).collect()
}

#[test]
fn what_is_appended_is_read_in_every_form() {
    let log = Log::start();
    assert_eq!(log.good(&["log", "tail"]), "0\n");
    assert_eq!(log.good(&["log", "read"]), "", "an empty log is no error");
    assert_eq!(log.good(&["log", "append", "record 0", "record 1"]), "0\n1\n");
    let output = log.run_with(&["log", "append", "--json"], lines(2..10).as_bytes());
    let said: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    assert_eq!(
        said.iter().map(|s| s["gsn"].as_u64().unwrap()).collect::<Vec<_>>(),
        (2..10).collect::<Vec<_>>()
    );

    assert_eq!(log.good(&["log", "read"]), lines(0..10));
    assert_eq!(log.good(&["log", "read", "3..5"]), lines(3..5));
    assert_eq!(log.good(&["log", "read", "..2"]), lines(0..2));
    assert_eq!(log.good(&["log", "read", "8.."]), lines(8..10));
    assert_eq!(log.good(&["log", "read", "7"]), lines(7..8));
    assert_eq!(log.good(&["log", "read", "-n", "3"]), lines(0..3));
    assert_eq!(log.good(&["log", "read", "5..5"]), "");
    assert_eq!(log.good(&["log", "tail", "-n", "2"]), lines(8..10));
    assert_eq!(log.json(&["log", "tail", "--json"])["tail"], 10);
    assert_eq!(log.good(&["log", "read", "-p", "4"]), "4\trecord 4\n");
    let one = log.json(&["log", "read", "--json", "4"]);
    assert_eq!((&one["gsn"], &one["text"]), (&4.into(), &"record 4".into()));

    let lanes = log.json(&["log", "view", "--json"]);
    let records: u64 = lanes["shards"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["lanes"].as_array().unwrap())
        .map(|l| l["records"].as_u64().unwrap())
        .sum();
    assert_eq!((records, lanes["tail"].as_u64()), (10, Some(10)));
}

#[test]
fn binary_records_go_through_as_frames() {
    let log = Log::start();
    let records: Vec<Vec<u8>> = (0..300usize).map(|i| (0..i * 7).map(|j| (i * j) as u8).collect()).collect();
    let mut frames = Vec::new();
    for record in &records {
        frames.extend_from_slice(&(record.len() as u32).to_le_bytes());
        frames.extend_from_slice(record);
    }
    let output = log.run_with(&["log", "append", "--frames", "-q"], &frames);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = log.run(&["log", "read", "--frames"]);
    assert!(output.stdout == frames, "{} bytes came back of {}", output.stdout.len(), frames.len());
    // A frame that is cut off is not appended, what came before it is.
    let output = log.run_with(&["log", "append", "--frames"], b"\x01\0\0\0a\x05\0\0\0bc");
    assert_eq!((code(&output), &output.stdout[..]), (1, &b"300\n"[..]));
    assert!(stderr(&output).contains("record 2 of stdin") && stderr(&output).contains("within a frame"));
}

#[test]
fn gaps_are_told_apart_by_exit_code() {
    let log = Log::start();
    log.append(0..20);
    let output = log.run(&["log", "read", "15..30"]);
    assert_eq!((code(&output), String::from_utf8_lossy(&output.stdout).into_owned()), (6, lines(15..20)));
    assert!(stderr(&output).contains("ends at 20"), "{}", stderr(&output));
    let output = log.run(&["log", "read", "90"]);
    assert_eq!(code(&output), 6);
    assert!(stderr(&output).contains("ends at 20"), "{}", stderr(&output));

    log.dev.release(12);
    for (args, said) in [(["log", "read", "5..15"], "begins at 12"), (["log", "follow", "5"], "begins at 12")]
    {
        let output = log.run(&args);
        assert_eq!((code(&output), output.stdout.len()), (4, 0), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(log.good(&["log", "read"]), lines(12..20), "what is trimmed is not missed from `..`");
    assert_eq!(log.good(&["log", "tail", "-n", "15"]), lines(12..20));

    for args in [&["log", "read", "9..3"][..], &["log", "read", "x"], &["log", "append", "--frames", "x"]] {
        assert_eq!(code(&log.run(args)), 2, "{args:?}");
    }
}

#[test]
fn a_trim_says_what_it_really_trimmed_or_why_nothing() {
    let log = Log::start();
    log.append(0..20);
    let trim = |to: &str| log.json(&["log", "trim", to, "--json"]);
    let said = |asked: u64, before: u64, trim: u64| serde_json::json!({ "asked": asked, "before": before, "trim": trim, "trimmed": trim - before });
    assert_eq!(trim("0"), said(0, 0, 0), "nothing lies before it");
    assert_eq!(trim("5"), said(5, 0, 5));
    assert_eq!(trim("3"), said(3, 5, 5), "it is gone already");
    assert_eq!(log.good(&["log", "read"]), lines(5..20));
    let text = log.good(&["log", "trim", "8"]);
    let figures: Vec<&str> = text.lines().last().unwrap().split('|').map(str::trim).collect();
    assert_eq!(figures[1..5], ["8", "5", "8", "3"], "{text}");

    let output = log.run(&["log", "trim", "21", "--json"]);
    assert_eq!((code(&output), output.stdout.len()), (6, 0));
    assert!(stderr(&output).contains("nothing was trimmed") && stderr(&output).contains("ends at 20"));
    log.dev.release(12);
    let output = log.run(&["log", "trim", "15"]);
    assert_eq!((code(&output), output.stdout.len()), (3, 0));
    assert!(stderr(&output).contains("`test` still needs the log from 12 on"), "{}", stderr(&output));
    assert_eq!(trim("12"), said(12, 12, 12), "the consumer's release trimmed it");
    log.good(&["admin", "consumers", "forget", "test"]);
    assert_eq!(trim("20"), said(20, 12, 20), "all of it");
    assert_eq!(log.good(&["log", "read"]), "");
    assert_eq!(code(&log.run(&["log", "trim", "-1"])), 2);
    assert_eq!(code(&log.run(&["log", "trim"])), 2);
}

#[test]
fn a_name_is_taken_over_only_where_it_was_expected_to_end() {
    let log = Log::start();
    let named = ["log", "append", "--name", "n", "--expected-tail"];
    let append = |tail: &str, record: &str| log.run(&[&named[..], &[tail, record]].concat());
    let output = append("0", "first");
    assert_eq!((code(&output), &output.stdout[..]), (0, &b"0\n"[..]), "{}", stderr(&output));
    // Whoever else appends without that name is not asked about.
    log.append(0..3);
    let output = append("0", "second");
    assert_eq!((code(&output), output.stdout.len()), (9, 0), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was appended"), "{}", stderr(&output));
    let output = append("1", "second");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let at: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let ids: Vec<Value> =
        ["0", &at.to_string()].map(|p| log.json(&["log", "read", "--json", p])["writer"].clone()).into();
    assert_eq!(ids[0], ids[1], "one writer in all openings");
    assert_eq!(code(&log.run(&["log", "append", "--expected-tail", "1", "x"])), 2, "of what name?");
    let long = "n".repeat(65);
    assert_eq!(code(&log.run(&["log", "append", "--name", &long, "x"])), 2);
}

#[test]
fn records_are_appended_only_if_nobody_else_was_first() {
    let log = Log::start();
    log.append(0..3);
    let append = |tail: &str| log.run_with(&["log", "append", "--if-tail", tail], b"a\nb\n");
    for stale in ["2", "0", "4"] {
        let output = append(stale);
        assert_eq!((code(&output), output.stdout.len()), (9, 0), "{stale}: {}", stderr(&output));
        assert!(stderr(&output).contains("nothing was appended"), "{}", stderr(&output));
    }
    assert_eq!(append("3").stdout, b"3\n4\n");
    assert_eq!(log.good(&["log", "read", "3.."]), "a\nb\n");
    // Of several that read the same exactly one goes on, every time.
    for round in 0..5u64 {
        let tail = log.good(&["log", "tail"]).trim().to_owned();
        let racing: Vec<Child> = (0..4)
            .map(|i| {
                let record = format!("round {round} by {i}");
                log.command(&["log", "append", "--if-tail", &tail, &record]).spawn().unwrap()
            })
            .collect();
        let ends: Vec<i32> = racing.into_iter().map(|c| code(&c.wait_with_output().unwrap())).collect();
        assert_eq!(ends.iter().filter(|c| **c == 0).count(), 1, "{ends:?}");
        assert!(ends.iter().all(|c| [0, 9].contains(c)), "{ends:?}");
        let text = log.good(&["log", "read"]);
        assert_eq!(text.matches(&format!("round {round} ")).count(), 1, "{text}");
    }
    let big = vec![b'x'; 300_000];
    let lines = [&big[..], b"\n", &big, b"\n"].concat();
    let tail = log.good(&["log", "tail"]).trim().to_owned();
    let output = log.run_with(&["log", "append", "--if-tail", &tail], &lines);
    assert_eq!((code(&output), output.stdout.len()), (1, 0), "{}", stderr(&output));
    assert!(stderr(&output).contains("all or none"), "{}", stderr(&output));
    assert_eq!(log.good(&["log", "tail"]).trim(), tail);
}

#[test]
fn nobody_there_is_told_with_its_cause_and_nothing_was_done() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for args in [
        &["log", "tail"][..],
        &["log", "read"],
        &["log", "read", "3..4"],
        &["log", "follow"],
        &["log", "follow", "0"],
        &["log", "append", "x"],
        &["log", "append", "--name", "n", "x"],
        &["log", "append", "--if-tail", "0", "x"],
        &["log", "trim", "3"],
    ] {
        let output = zoolog(args).args(["--orderers", &free, "--timeout", "0.3"]).output().unwrap();
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{args:?}");
        assert!(
            stderr(&output).contains(&free) && stderr(&output).contains("running"),
            "{}",
            stderr(&output)
        );
    }
    for args in [
        ["log", "view"],
        ["admin", "status"],
        ["admin", "shards"],
        ["admin", "servers"],
        ["admin", "consumers"],
    ] {
        assert_eq!(code(&zoolog(&args).args(["--orderers", &free]).output().unwrap()), 3, "{args:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = zoolog(&["log", "tail"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--orderers"), "{}", stderr(&output));
}

#[test]
fn a_follower_sees_history_then_what_comes_each_once() {
    let log = Log::start();
    log.append(0..500);
    let mut all = log.command(&["log", "follow", "0", "-n", "1500"]).spawn().unwrap();
    // From a position that isn't there yet, and from wherever the log ends now.
    let mut late = log.command(&["log", "follow", "1200", "-n", "300"]).spawn().unwrap();
    let mut out = BufReader::new(all.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let writers: Vec<_> = (0..2u64)
        .map(|w| {
            let mut child = log.command(&["log", "append", "-q"]).stdin(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            for i in 0..500 {
                writeln!(stdin, "live {w} {i}").unwrap();
                if i % 50 == 0 {
                    stdin.flush().unwrap();
                }
            }
            child
        })
        .collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let mut text = first;
    out.read_to_string(&mut text).unwrap();
    assert!(all.wait().unwrap().success());
    let followed: Vec<&str> = text.lines().collect();
    assert_eq!(followed.len(), 1500);
    assert_eq!(text, log.good(&["log", "read"]), "as it is read afterwards");
    for w in 0..2 {
        let prefix = format!("live {w} ");
        let order: Vec<u64> = followed.iter().filter_map(|l| l.strip_prefix(&prefix)?.parse().ok()).collect();
        assert_eq!(order, (0..500).collect::<Vec<_>>(), "writer {w}");
    }
    let mut tail = String::new();
    late.stdout.take().unwrap().read_to_string(&mut tail).unwrap();
    assert!(late.wait().unwrap().success());
    assert_eq!(tail, followed[1200..].iter().map(|l| format!("{l}\n")).collect::<String>());
}

#[test]
fn commands_end_cleanly_when_nobody_reads_or_somebody_interrupts() {
    let log = Log::start();
    log.append(0..20_000);
    // Like `| head -1`: of what is much, of what waits for more, and of what was read whole already.
    for args in [&["log", "read"][..], &["log", "follow", "0"], &["log", "follow", "19990"], &["log", "view"]]
    {
        let mut child = log.command(args).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
    }
    for (args, want) in [(&["log", "follow", "0"][..], 0), (&["log", "follow", "0", "-n", "30000"], 130)] {
        let mut child = log.command(args).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "record 19999\n" {
            line.clear();
            out.read_line(&mut line).unwrap();
        }
        signal(&child, "-INT");
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (want, ""), "{args:?}");
    }
    // Who appends wants it appended, whether or not the positions are read.
    let mut child = log.command(&["log", "append"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    (20_000..21_000).for_each(|i| writeln!(stdin, "record {i}").unwrap());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    assert_eq!(log.good(&["log", "tail"]), "21000\n");
    // An append that is interrupted says what is in.
    let mut child = log.command(&["log", "append"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    writeln!(stdin, "one").unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "21000\n", "at once, though more may come");
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 130);
    assert!(
        stderr(&output).contains("1 records are in the log, the last of them at 21000"),
        "{}",
        stderr(&output)
    );
    assert_eq!(log.good(&["log", "tail"]), "21001\n");
}

#[test]
fn a_record_that_is_too_long_ends_the_append_and_is_named() {
    let log = Log::start();
    let mut input = b"before\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', (2 << 20) + 1));
    input.extend_from_slice(b"\nafter\n");
    let output = log.run_with(&["log", "append"], &input);
    assert_eq!((code(&output), &output.stdout[..]), (1, &b"0\n"[..]));
    let said = stderr(&output);
    assert!(
        said.contains("line 2 of stdin") && said.contains("2097152") && said.contains("not appended"),
        "{said}"
    );
    // The longest that is allowed goes through.
    let longest = vec![b'y'; 2 << 20];
    let output = log.run_with(&["log", "append", "-q"], &longest);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(log.run(&["log", "read", "1"]).stdout[..2 << 20] == longest);
}

#[test]
fn an_append_without_an_answer_is_unknown_and_says_where_to_look() {
    let log = Log::start();
    let mut child = log.command(&["log", "append", "--timeout", "3"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    writeln!(stdin, "one").unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    signal(&log.dev.child, "-STOP");
    writeln!(stdin, "two").unwrap();
    let output = child.wait_with_output().unwrap();
    signal(&log.dev.child, "-CONT");
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("1 records are in the log") && said.contains("unknown"), "{said}");
    // What it says to do tells what became of it, the same each time, and as it is read.
    let mut words = said.split_once("zoolog log resolve ").expect(&said).1.split_whitespace();
    let (writer, from) = (words.next().unwrap(), words.nth(1).unwrap());
    let resolve = ["log", "resolve", writer, "--from", from, "--json"];
    let fenced = log.json(&[&resolve[..], &["--fence"]].concat());
    assert_eq!(fenced["final"], true, "{fenced}");
    assert_eq!(log.json(&resolve), fenced);
    let records: u64 =
        fenced["batches"].as_array().unwrap().iter().map(|b| b["records"].as_u64().unwrap()).sum();
    let all = log.good(&["log", "read"]);
    assert_eq!(all, if records == 1 { "one\ntwo\n" } else { "one\n" }, "{fenced}");
    let whole = log.json(&["log", "resolve", writer, "--json"]);
    let first = serde_json::json!({ "seq": 0, "gsn": 0, "records": 1 });
    let found = &whole["batches"][0];
    assert_eq!(
        (&found["seq"], &found["gsn"], &found["records"]),
        (&first["seq"], &first["gsn"], &first["records"])
    );
    assert!(log.good(&["log", "resolve", writer]).contains("position"));
}

#[test]
fn a_writer_that_may_still_append_is_not_resolved() {
    let log = Log::start();
    let output = log.run(&["log", "resolve", "0123456789abcdef0123456789abcdef"]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("--fence"), "{}", stderr(&output));
    let writer = "0123456789abcdef0123456789abcdef";
    let one = ["log", "resolve", writer, "--lane", "1/1"];
    assert_eq!(code(&log.run(&one)), 5);
    let text = log.good(&[&one[..], &["--fence"]].concat());
    assert!(text.contains("none of its batches"), "{text}");
    assert_eq!(code(&log.run(&one)), 0, "that lane is closed now");
    assert_eq!(log.good(&["log", "read"]), "", "a fence is no record of anybody's");
    assert_eq!(code(&log.run(&["log", "resolve", writer, "--lane", "99/0"])), 4);
    assert_eq!(code(&log.run(&["log", "resolve", "abc"])), 2);
}

/// Says that to a slot, as its writer would, and takes the answer.
fn say(addr: &str, frames: &[bytes::Bytes]) -> Message {
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let (role, cluster) = (wire::Role::Client, ClusterId(0));
    let hello = wire::Hello { role, cluster, node: 0, slot: 0, incarnation: Incarnation(0) };
    stream.write_all(&wire::encode(hello)).unwrap();
    frames.iter().for_each(|f| stream.write_all(f).unwrap());
    let mut got = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "it closed the connection");
        got.extend_from_slice(&chunk[..n]);
        if wire::frame_length(&got, 1 << 20).unwrap().is_some_and(|len| len <= got.len()) {
            let len = wire::frame_length(&got, 1 << 20).unwrap().unwrap();
            return wire::decode(bytes::Bytes::copy_from_slice(&got[..len])).unwrap().message;
        }
    }
}

/// A writer without a name for which every lane was closed has gone on in its next opening. What is in of that is found as
/// well, and what a lane has forgotten of the first is called so.
#[test]
fn a_writers_later_openings_are_resolved_too() {
    let log = Log::start();
    let view = log.json(&["log", "view", "--json"]);
    let shard = &view["shards"][0];
    let (addr, lane) = (shard["lanes"][0]["addr"].as_str().unwrap(), LaneId::new(ShardId(1), 0));
    assert_eq!(shard["shard"], 1);
    let writer = WriterId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let batch = |kind, epoch, seq| {
        let mut b = BatchBuilder::new();
        b.push(format!("{epoch}.{seq}").as_bytes());
        b.finish(kind, writer, Epoch(epoch), seq)
    };
    let append = |epoch, seq, start| {
        let batch = batch(BatchKind::Data, epoch, Seq(seq));
        let m = wire::Append { lane, start: Seq(start), prompt: true };
        let answer = say(addr, &[wire::encode_with(m, &[batch.bytes()])]);
        assert!(matches!(answer, Message::Appended(_)), "{answer:?}");
    };
    append(0, 0, 0);
    append(0, 1, 0);
    // Its own fence, as it sends one when it can't reach its primary.
    let fence = wire::encode_with(wire::Fence { lane }, &[batch(BatchKind::Fence, 0, FENCE_SEQ).bytes()]);
    let question = wire::Resolve { request: 1, lane, writer, epoch: Epoch(0), from: Seq(2) };
    let is_closed = || {
        let answer = say(addr, &[fence.clone(), wire::encode(question.clone())]);
        matches!(answer, Message::Resolved(m) if m.end == ResolveEnd::Final)
    };
    assert!((0..1000).any(|_| is_closed()), "the fence is committed");
    append(1, 2, 2);
    append(1, 3, 2);
    let id = format!("{:032x}", writer.0);
    assert_eq!(code(&log.run(&["log", "resolve", &id])), 5, "its second opening may go on");
    let said = log.json(&["log", "resolve", &id, "--from", "2", "--fence", "--json"]);
    let seqs = |said: &Value| -> Vec<u64> {
        said["batches"].as_array().unwrap().iter().map(|b| b["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!((&said["final"], seqs(&said)), (&Value::Bool(true), vec![2, 3]), "{said}");
    assert_eq!(said["unplaced"], serde_json::json!([]));
    // It is closed, for that opening too.
    let late = batch(BatchKind::Data, 1, Seq(4));
    let m = wire::Append { lane, start: Seq(2), prompt: true };
    let answer = say(addr, &[wire::encode_with(m, &[late.bytes()])]);
    let is_refused = matches!(&answer, Message::AppendRefused(m) if m.why == wire::AppendRefusedWhy::Closed);
    assert!(is_refused, "{answer:?}");
    // Of the first opening nobody knows the places any more; that its batches are in follows.
    let whole = log.json(&["log", "resolve", &id, "--json"]);
    assert_eq!((seqs(&whole), &whole["unplaced"]), (vec![2, 3], &serde_json::json!([[0, 1]])), "{whole}");
    let text = log.good(&["log", "resolve", &id]);
    assert!(text.contains("batches 0 to 1 are in as well"), "{text}");
}

#[test]
fn an_operator_ends_shards_and_wants_more() {
    let log = Log::start();
    log.append(0..100);
    let live = || -> Vec<u64> {
        let view = log.json(&["log", "view", "--json"]);
        let shards = view["shards"].as_array().unwrap().iter().filter(|s| s["state"] == "live");
        shards.map(|s| s["shard"].as_u64().unwrap()).collect()
    };
    let before = live();
    assert_eq!(before.len(), 3);
    for shard in &before {
        let said = log.good(&["admin", "finalize", &shard.to_string()]);
        assert!(said.contains("is finalized"), "{said}");
    }
    let after = live();
    assert!(after.len() == 3 && after.iter().all(|s| !before.contains(s)), "{after:?}");
    assert!(log.good(&["admin", "finalize", &before[0].to_string()]).contains("finalized before"));
    assert!(log.good(&["admin", "shards"]).contains("finalized"));
    log.append(100..200);
    assert_eq!(log.good(&["log", "read"]), lines(0..200), "what they hold stays readable");
    let output = log.run(&["admin", "finalize", "4711"]);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("there is no shard 4711"), "{}", stderr(&output));
    log.good(&["admin", "want-shards", "5"]);
    assert!((0..1000).any(|_| live().len() == 5), "two more are formed");
    assert_eq!(code(&log.run(&["admin", "want-shards", "0"])), 2);
    assert_eq!(code(&log.run(&["admin", "want-shards", "100000"])), 1);
}

#[test]
fn the_cluster_is_shown_to_people_and_programs() {
    let log = Log::start();
    log.append(0..10);
    log.dev.release(4);
    let status = log.json(&["admin", "status", "--json"]);
    let leads = status["orderers"].as_array().unwrap().iter().filter(|o| o["leader"] == true).count();
    assert_eq!(leads, 1, "{status}");
    assert!(log.good(&["admin", "status"]).contains("leader"));

    let shards = log.json(&["admin", "shards", "--json"]);
    let replicas: Vec<&Value> =
        shards["shards"].as_array().unwrap().iter().flat_map(|s| s["replicas"].as_array().unwrap()).collect();
    assert_eq!(replicas.len(), 6);
    for replica in replicas {
        let lanes = replica["lanes"].as_array().unwrap();
        assert!(lanes.len() == 2 && lanes.iter().all(|l| l["state"] == "serving"), "{replica}");
    }
    let text = log.good(&["admin", "shards"]);
    assert!(text.contains("serving") && text.contains("primary") && text.contains("1/0"), "{text}");
    let servers = log.json(&["admin", "servers", "--json"]);
    assert_eq!(servers["slots"].as_array().unwrap().len(), 3, "{servers}");
    assert!(log.good(&["admin", "servers"]).contains("connected"));

    let consumers = log.json(&["admin", "consumers", "--json"]);
    let want = serde_json::json!([{ "name": "test", "position": 4, "behind": 6 }]);
    assert_eq!((&consumers["trim"], &consumers["consumers"]), (&4.into(), &want));
    assert!(log.good(&["admin", "consumers"]).contains("test"));
    let output = log.run(&["admin", "consumers", "forget", "tset"]);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("did you mean `test`"), "{}", stderr(&output));
    assert!(log.good(&["admin", "consumers", "forget", "test"]).contains("is forgotten"));
    assert_eq!(log.json(&["admin", "consumers", "--json"])["consumers"], serde_json::json!([]));
}
