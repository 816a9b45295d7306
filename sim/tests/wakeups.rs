//! How often is somebody woken for one request, when there is but one at a time? On a machine with few cores
//! that is what its latency is made of.

use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use zoolog_core::{ConnId, Input, Instant, Output};
use zoolog_sim::cluster::{self, roles};
use zoolog_sim::node::Role;
use zoolog_sim::observe::Observation;
use zoolog_sim::options::Options;
use zoolog_sim::process::Process;
use zoolog_sim::trace::TraceMode;
use zoolog_sim::work::jute::{Frame, op};
use zoolog_sim::world::World;

/// Sets one node, again and again, each time once the answer is there.
struct OneAtATime {
    addr: String,
    conn: ConnId,
    xid: i32,
    up: bool,
    answered: Rc<Cell<u64>>,
    dial_at: Option<Instant>,
    out: VecDeque<Output<Observation>>,
}

impl OneAtATime {
    fn request(&mut self) {
        self.xid += 1;
        let frame = if self.xid == 1 {
            Frame::request(1, op::CREATE).bytes(b"/w").bytes(b"").open_acl().int(0)
        } else {
            Frame::request(self.xid, op::SET).bytes(b"/w").bytes(&[7; 100]).int(-1)
        };
        self.out.push_back(Output::Send { conn: self.conn, bytes: frame.done() });
    }
}

impl Process for OneAtATime {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        match input {
            Input::Timer if self.dial_at.is_some_and(|at| at <= now) => {
                self.dial_at = None;
                self.conn = ConnId(self.conn.0 + 1);
                self.out.push_back(Output::Dial { conn: self.conn, addr: self.addr.clone() });
            }
            Input::Connected { conn } => {
                let hello = Frame::bare().int(0).long(0).int(10_000).long(0).bytes(&[0; 16]).bool(false);
                self.out.push_back(Output::Send { conn, bytes: hello.done() });
            }
            Input::Frame { bytes, .. } => {
                if self.up {
                    let error = i32::from_be_bytes(bytes[16..20].try_into().expect("a reply"));
                    assert_eq!(error, 0, "request {}", self.xid);
                    self.answered.set(self.answered.get() + 1);
                }
                self.up = true;
                self.request();
            }
            Input::Closed { .. } => {
                assert!(!self.up, "the connection broke");
                self.dial_at = Some(now + Duration::from_millis(50));
            }
            _ => {}
        }
    }

    fn poll_output(&mut self, _now: Instant) -> Option<Output<Observation>> {
        self.out.pop_front()
    }

    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        self.dial_at.map(|at| (at, "dial"))
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::new()
    }

    fn frame_length(&self, _conn: ConnId, _first: bool, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some((front, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        Ok(Some(4 + i32::from_be_bytes(*front) as usize))
    }
}

/// Three orderers, slots and ZooKeeper nodes, fast links and disks, and the one client. Returns, per request,
/// how often each node was woken, and how long a request took, in microseconds.
fn measure(seed: u64) -> (Vec<(String, f64)>, f64) {
    let mut o = Options::calm(seed);
    (o.orderers, o.servers, o.shards, o.replicas, o.zk) = (3, 3, 3, 2, 3);
    (o.writers, o.readers, o.zk_clients, o.small_caches) = (0, 0, 1, false);
    (o.delay, o.sync, o.segment_bytes) = (Duration::from_micros(20), Duration::from_micros(150), 1 << 20);
    (o.fault_phase, o.session_timeout_ms) = (Duration::from_secs(60), 10_000);
    // As often as in service.
    (o.mark_records, o.mark_interval) = (65_536, Duration::from_secs(10));
    o.check_pass = Duration::from_secs(600);
    let roles = roles(&o);
    let mut world = World::new(o, &roles, TraceMode::Off);
    let answered = Rc::new(Cell::new(0));
    let count = answered.clone();
    world.builder = Box::new(move |birth| match birth.role {
        Role::ZkClient(_) => Ok(Box::new(OneAtATime {
            addr: Role::Zk(1).addr(),
            conn: ConnId::dialled(0),
            xid: 0,
            up: false,
            answered: count.clone(),
            dial_at: Some(birth.now + Duration::from_millis(500)),
            out: VecDeque::new(),
        })),
        _ => cluster::build(birth),
    });
    world.start_all();
    assert!(world.run_while(Duration::from_secs(5), |_| answered.get() > 100), "{:?}", world.violation);
    let (from, before) = (world.now(), answered.get());
    let turns: Vec<u64> = world.nodes.iter().map(|n| n.turns).collect();
    world.run_until(from + Duration::from_secs(2));
    assert_eq!(world.violation, None);
    let requests = (answered.get() - before) as f64;
    let per = |(n, t): (&zoolog_sim::node::Node, &u64)| (n.name.clone(), (n.turns - t) as f64 / requests);
    (world.nodes.iter().zip(&turns).map(per).collect(), 2e6 / requests)
}

#[test]
fn a_request_alone_wakes_few() {
    for seed in 1..3 {
        let (nodes, micros) = measure(seed);
        let sum: f64 = nodes.iter().map(|n| n.1).sum();
        println!("seed {seed}: {micros:.0} us, {sum:.1} wake-ups: {nodes:.1?}");
        assert!(sum < 21.0, "seed {seed}: {sum:.1} wake-ups per request: {nodes:.1?}");
    }
}
