//! Does the simulator itself keep the shell's duties? Toy machines in place of the real ones: a counter that
//! persists what it is sent and answers once that is durable, and clients that count.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use zoolog_core::wal::{Recovered, WalRecord};
use zoolog_core::wire::{self, Message, Status, StatusIs};
use zoolog_core::{ConnId, Input, Instant, Output, Token};
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::options::Options;
use zoolog_sim::process::Process;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::world::World;

/// Persists each number it is sent, then answers it.
struct Counter {
    known: BTreeSet<u64>,
    waiting: VecDeque<(Token, ConnId, u64)>,
    open: BTreeSet<ConnId>,
    closed: BTreeSet<ConnId>,
    last: BTreeMap<ConnId, u64>,
    token: u64,
    out: VecDeque<Output<Observation>>,
}

fn broken(text: String) -> Output<Observation> {
    Output::Event(Observation::Broken { promise: "shell", text })
}

impl Counter {
    fn new(recovered: Recovered) -> Self {
        let mut known = BTreeSet::new();
        if let Some(checkpoint) = recovered.checkpoint {
            known.extend(checkpoint.chunks(8).map(|c| u64::from_le_bytes(c.try_into().unwrap())));
        }
        known.extend(recovered.tail.iter().map(|e| e.key1));
        Self {
            known,
            waiting: VecDeque::new(),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
            last: BTreeMap::new(),
            token: 0,
            out: VecDeque::new(),
        }
    }
}

impl Process for Counter {
    fn handle(&mut self, _now: Instant, input: Input<Infallible>) {
        match input {
            Input::Accepted { conn, .. } => assert!(self.open.insert(conn), "{conn:?} twice"),
            Input::Closed { conn } => {
                assert!(self.open.remove(&conn) && self.closed.insert(conn), "{conn:?} closed twice");
            }
            Input::Frame { conn, bytes } => {
                assert!(self.open.contains(&conn), "a frame on {conn:?}, which is not open");
                let Ok(packet) = wire::decode(bytes) else { panic!("a frame that is none") };
                let Message::Status(Status { request }) = packet.message else { panic!("another message") };
                let last = self.last.insert(conn, request);
                assert!(last.is_none_or(|l| l + 1 == request), "{request} after {last:?} on {conn:?}");
                self.token += 1;
                let token = Token(self.token);
                self.waiting.push_back((token, conn, request));
                self.known.insert(request);
                let data = vec![Bytes::from(vec![7; 1 + (request % 3000) as usize])];
                let record = WalRecord { kind: 1, in_index: false, aux: 0, key1: request, key2: 0, data };
                self.out.push_back(Output::Persist { token, records: vec![record] });
            }
            Input::Persisted { token, positions } => {
                let (first, conn, request) = self.waiting.pop_front().expect("something waits");
                assert_eq!((first, positions.len()), (token, 1), "completions come in order");
                let bytes = wire::encode(StatusIs { request, json: String::new() });
                self.out.push_back(Output::Send { conn, bytes });
            }
            _ => {}
        }
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        None
    }

    fn checkpoint(&self) -> Bytes {
        self.known.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>().into()
    }
}

/// Sends numbers, each on until it is answered; over and over on new connections.
struct Client {
    conn: Option<ConnId>,
    up: bool,
    dialled: u64,
    next: u64,
    expected: u64,
    at: Instant,
    until: Instant,
    out: VecDeque<Output<Observation>>,
}

impl Process for Client {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Connected { conn } if self.conn == Some(conn) => {
                self.up = true;
                self.next = self.expected;
            }
            Input::Closed { conn } if self.conn == Some(conn) => {
                (self.conn, self.up) = (None, false);
                self.at = now + Duration::from_millis(5);
            }
            Input::Frame { conn, bytes } if self.conn == Some(conn) => {
                let Ok(Message::StatusIs(m)) = wire::decode(bytes).map(|p| p.message) else {
                    return self.out.push_back(broken("not an answer".into()));
                };
                if m.request != self.expected {
                    self.out.push_back(broken(format!("{} where {} is next", m.request, self.expected)));
                }
                self.expected += 1;
                if now > self.until {
                    self.out.push_back(Output::Event(Observation::Done));
                }
            }
            _ => {}
        }
        if now < self.at {
            return;
        }
        self.at = now + Duration::from_millis(3);
        match self.conn {
            None => {
                self.dialled += 1;
                let conn = ConnId::dialled(self.dialled);
                self.conn = Some(conn);
                self.out.push_back(Output::Dial { conn, addr: Role::Server(1).addr() });
            }
            Some(conn) if self.up && self.next < self.expected + 50 => {
                for _ in 0..3 {
                    let bytes = wire::encode(Status { request: self.next });
                    self.next += 1;
                    self.out.push_back(Output::Send { conn, bytes });
                }
            }
            Some(_) => {}
        }
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        Some((self.at, "the next number"))
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }
}

fn world(seed: u64) -> World {
    let mut options = Options::draw(seed);
    options.fault_phase = Duration::from_secs(4);
    let mut world = World::new(options, &[Role::Server(1), Role::Writer(1)], TraceMode::Collect);
    world.builder = Box::new(|birth| {
        Ok(match birth.role {
            Role::Server(_) => Box::new(Counter::new(birth.recovered.expect("a log"))),
            _ => Box::new(Client {
                conn: None,
                up: false,
                dialled: 0,
                next: birth.life << 32,
                expected: birth.life << 32,
                at: birth.now,
                until: Instant(0) + birth.options.fault_phase,
                out: VecDeque::new(),
            }),
        })
    });
    world.start_all();
    world.storm();
    world
}

#[test]
fn toy_machines_see_an_honest_shell_in_any_weather() {
    for seed in 0..30 {
        let mut world = world(seed);
        world.run_until(Instant(0) + Duration::from_secs(4));
        world.heal();
        let well = world.run_while(Duration::from_secs(10), |w| !w.checks.done.is_empty());
        assert!(well, "seed {seed}: {:?}", world.violation);
    }
}

#[test]
fn one_seed_is_one_history() {
    let run = |seed| {
        let mut world = world(seed);
        world.run_until(Instant(0) + Duration::from_secs(2));
        world.trace.text().to_string()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
