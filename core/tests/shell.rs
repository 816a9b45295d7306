//! Does the shell keep its side of the contract? A machine that answers a frame only once it is durable, run
//! for real: sockets, O_DIRECT files, restarts.

use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use zoolog_core::rt::{self, Disk, Executor, Job, NodeSpec, Stop, clock};
use zoolog_core::wal::{OnDamage, Recovered, WalConfig, WalPos, WalRecord};
use zoolog_core::wire::{self, Message, Status, StatusIs};
use zoolog_core::{ClusterId, ConnId, Input, Instant, Machine, Output, Token};

/// A request that is answered to everybody.
const ALL: u64 = u64::MAX - 1;

/// Persists every frame's bytes, then answers with how many it has persisted, ever; frame 0 is answered from
/// the log, the last at once, and the one before it is answered to all who ever asked for that.
#[derive(Default)]
struct Echo {
    count: u64,
    first: Option<WalPos>,
    turn: Vec<(ConnId, Bytes)>,
    waiting: VecDeque<(Token, Vec<ConnId>)>,
    loads: VecDeque<ConnId>,
    crowd: BTreeSet<ConnId>,
    out: VecDeque<Output<()>>,
}

impl Echo {
    fn new(recovered: Recovered) -> Self {
        let from = recovered.checkpoint.map_or(0, |c| u64::from_le_bytes(c[..8].try_into().unwrap()));
        let first = recovered.sealed.iter().chain(&recovered.tail).map(|e| e.pos).min();
        Self { count: from + recovered.tail.len() as u64, first, ..Self::default() }
    }

    fn answer(&mut self, conn: ConnId, text: String) {
        self.out.push_back(Output::Send { conn, bytes: wire::encode(StatusIs { request: 0, json: text }) });
    }
}

impl Machine for Echo {
    type Command = ();
    type Event = ();

    fn handle(&mut self, _: Instant, input: Input<()>) {
        match input {
            Input::Frame { conn, bytes } => match wire::decode(bytes.clone()).unwrap().message {
                Message::Status(Status { request: 0 }) => {
                    self.loads.push_back(conn);
                    self.out.push_back(Output::Load { token: Token(u64::MAX), pos: self.first.unwrap() });
                }
                Message::Status(Status { request: u64::MAX }) => {
                    self.crowd.insert(conn);
                    self.answer(conn, "at once".into());
                }
                Message::Status(Status { request: ALL }) => {
                    for conn in self.crowd.clone() {
                        self.answer(conn, "all".into());
                    }
                }
                _ => self.turn.push((conn, bytes)),
            },
            Input::Persisted { token, positions } => {
                self.first = self.first.or(positions.first().copied());
                let (expected, conns) = self.waiting.pop_front().unwrap();
                assert_eq!(token, expected, "completions come in order");
                assert_eq!(positions.len(), conns.len());
                for conn in conns {
                    self.count += 1;
                    self.answer(conn, self.count.to_string());
                }
            }
            Input::Loaded { result, .. } => {
                let conn = self.loads.pop_front().unwrap();
                let text = format!("{:?}", wire::decode(result.unwrap()).unwrap().message);
                self.answer(conn, text);
            }
            _ => {}
        }
    }

    fn poll_output(&mut self, _: Instant) -> Option<Output<()>> {
        if !self.turn.is_empty() {
            let turn = std::mem::take(&mut self.turn);
            let token = Token(self.count + self.waiting.iter().map(|w| w.1.len() as u64).sum::<u64>());
            let record = |b: &Bytes| WalRecord {
                kind: 1,
                in_index: false,
                aux: 0,
                key1: 0,
                key2: 0,
                data: vec![b.slice(..8), b.slice(8..)],
            };
            let records = turn.iter().map(|(_, b)| record(b)).collect();
            self.waiting.push_back((token, turn.into_iter().map(|t| t.0).collect()));
            return Some(Output::Persist { token, records });
        }
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }

    fn checkpoint(&self) -> Bytes {
        let pending: u64 = self.waiting.iter().map(|w| w.1.len() as u64).sum();
        Bytes::copy_from_slice(&(self.count + pending).to_le_bytes())
    }
}

fn node(dir: &Path) -> (String, Stop, Executor) {
    let listener = rt::listen("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let stop = Stop::default();
    let (dir, asked) = (dir.to_path_buf(), stop.clone());
    let job: Job = Box::new(move |host| {
        let config = WalConfig {
            first_segment_bytes: 64 << 10,
            segment_bytes: 64 << 10,
            ..WalConfig::new(ClusterId(5), 1, OnDamage::Refuse)
        };
        let (disk, recovered) = Disk::open(&dir, config)?;
        let spec = NodeSpec {
            name: "echo".into(),
            listener: Some(listener),
            framing: rt::node_framing,
            frame_limit: 1 << 20,
            disk: Some(disk),
            snapshots: None,
            gives: None,
            stop: asked,
        };
        host.run(Echo::new(recovered), spec, |()| Ok(()))
    });
    (addr, stop, Executor::start("test", Duration::ZERO, vec![job]).unwrap())
}

fn read_answer(stream: &mut TcpStream) -> String {
    let mut header = [0u8; wire::HEADER_BYTES];
    stream.read_exact(&mut header).unwrap();
    let len = wire::frame_length(&header, usize::MAX).unwrap().unwrap();
    let mut frame = header.to_vec();
    frame.resize(len, 0);
    stream.read_exact(&mut frame[wire::HEADER_BYTES..]).unwrap();
    match wire::decode(frame.into()).unwrap().message {
        Message::StatusIs(is) => is.json,
        other => panic!("{other:?}"),
    }
}

fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A temporary directory where O_DIRECT means something: below the build directory, not on tmpfs.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn what_was_answered_is_there_after_each_restart_and_rolls_don_t_lose_any() {
    let dir = directory();
    let mut expected = 0u64;
    for start in 0..3 {
        let (addr, stop, executor) = node(dir.path());
        let mut streams: Vec<_> = (0..3).map(|_| connect(&addr)).collect();
        for round in 0..40u64 {
            for (i, stream) in streams.iter_mut().enumerate() {
                let burst: Vec<u8> = (0..20u64)
                    .flat_map(|n| wire::encode(Status { request: 1 + round * 100 + n + i as u64 }))
                    .collect();
                stream.write_all(&burst).unwrap();
            }
            let mut answers: Vec<u64> = streams
                .iter_mut()
                .flat_map(|s| (0..20).map(|_| read_answer(s).parse::<u64>().unwrap()).collect::<Vec<_>>())
                .collect();
            answers.sort_unstable();
            assert_eq!(
                answers,
                (expected + 1..=expected + 60).collect::<Vec<_>>(),
                "start {start} round {round}"
            );
            expected += 60;
        }
        streams[0].write_all(&wire::encode(Status { request: 0 })).unwrap();
        assert!(
            read_answer(&mut streams[0]).starts_with("Status(Status { request: "),
            "the first record, loaded"
        );
        stop.stop();
        executor.join().unwrap();
    }
    assert!(dir.path().join("wal-0000000002.seg").exists(), "it should have rolled");
}

#[test]
fn garbage_closes_its_connection_only() {
    let dir = directory();
    let (addr, stop, executor) = node(dir.path());
    let mut good = connect(&addr);
    let mut bad = connect(&addr);
    bad.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    assert_eq!(bad.read_to_end(&mut rest).unwrap_or(0), 0, "closed without an answer");
    good.write_all(&wire::encode(Status { request: 7 })).unwrap();
    assert_eq!(read_answer(&mut good), "1");
    // What can be answered at once is, though the peer has stopped talking.
    good.write_all(&wire::encode(Status { request: u64::MAX })).unwrap();
    good.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut good), "at once");
    assert!(clock::wall().0 > 1_600_000_000_000);
    stop.stop();
    executor.join().unwrap();
}

/// More than one turn sends to: each gets what it is told, and so does who asks meanwhile.
#[test]
fn a_crowd_is_answered_over_turns_and_nobody_is_left_out() {
    let dir = directory();
    let (addr, stop, executor) = node(dir.path());
    let mut crowd: Vec<TcpStream> = (0..500).map(|_| connect(&addr)).collect();
    for stream in &mut crowd {
        stream.write_all(&wire::encode(Status { request: u64::MAX })).unwrap();
    }
    for stream in &mut crowd {
        assert_eq!(read_answer(stream), "at once");
    }
    let mut one = connect(&addr);
    for _ in 0..3 {
        one.write_all(&wire::encode(Status { request: ALL })).unwrap();
    }
    for stream in &mut crowd {
        stream.write_all(&wire::encode(Status { request: u64::MAX })).unwrap();
    }
    for stream in &mut crowd {
        let mut answers: Vec<_> = (0..4).map(|_| read_answer(stream)).collect();
        answers.sort();
        assert_eq!(answers, ["all", "all", "all", "at once"]);
    }
    stop.stop();
    executor.join().unwrap();
}
