//! What does a ZooKeeper request cost? On the node that serves it, in the state, and in the whole cluster.

use crate::cluster::{Cluster, DEFAULT};
use crate::log::{everything, repeat_times};
use crate::net::{About, Net, NodeId, Pick, UserId, about};
use crate::{ROUNDS, Scenario, meter};
use bytes::Bytes;
use std::hint::black_box;
use zoolog_core::{Gsn, WallMs};
use zoolog_sim::work::jute::{Frame, op};
use zoolog_zk::state::{State, encode};
use zoolog_zk::txn::{Acl, AuthId, Change, CreateMode, Op, Outcome, Txn};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "zk/get",
        what: "a get of 100 bytes in, to the answer",
        run: || node(1, Mix::Gets, Part::Requests),
    },
    Scenario {
        name: "zk/get-32",
        what: "32 gets of one session in one turn; per get",
        run: || node(32, Mix::Gets, Part::Requests),
    },
    Scenario {
        name: "zk/get-acl",
        what: "as zk/get, of a node that bob alone may read, by who has proved to be alice and bob",
        run: || node(1, Mix::GetsOfBob, Part::Requests),
    },
    Scenario {
        name: "zk/set-submit",
        what: "a set of 100 bytes in, to Append sent",
        run: || node(1, Mix::Sets, Part::Requests),
    },
    Scenario {
        name: "zk/set-submit-32",
        what: "32 sets of one session in one turn; per set",
        run: || node(32, Mix::Sets, Part::Requests),
    },
    Scenario {
        name: "zk/set-apply",
        what: "pushes and cuts in, to the set applied and answered",
        run: || node(1, Mix::Sets, Part::Log),
    },
    Scenario {
        name: "zk/set-apply-32",
        what: "the same with 32 sets in one batch; per set",
        run: || node(32, Mix::Sets, Part::Log),
    },
    Scenario {
        name: "zk/mixed-32",
        what: "a turn of 3 sets and 29 gets of one session, and its deliveries; per request",
        run: || node(32, Mix::Tenth, Part::Node),
    },
    Scenario {
        name: "zk/create-32",
        what: "a turn of 32 creates of 100 bytes, and its deliveries; per create",
        run: || node(32, Mix::Creates, Part::Node),
    },
    Scenario {
        name: "path/set-1",
        what: "one set, 3 ZooKeeper nodes: all turns of all nodes, and their logs",
        run: || node(1, Mix::Sets, Part::All),
    },
    Scenario {
        name: "path/set-32",
        what: "the same with 32 sets in one turn; per set",
        run: || node(32, Mix::Sets, Part::All),
    },
    Scenario {
        name: "path/set-1536",
        what: "the same with 48 sessions of 32 sets; per set",
        run: || node(1536, Mix::Sets, Part::All),
    },
    Scenario { name: "txn/encode", what: "a set becomes a record", run: txn },
    Scenario { name: "state/set", what: "a set is applied, at 100,000 znodes", run: || state(false) },
    Scenario { name: "state/create", what: "a create is applied, at 100,000 znodes", run: || state(true) },
];

/// Znodes of the scenarios with a node.
const KEYS: usize = 1000;
/// Znodes of the scenarios with a state alone.
const ZNODES: usize = 100_000;
/// Who proves `bob:secret`.
const BOB: &str = "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=";
/// Requests of one session in one turn at most.
const DEPTH: usize = 32;

#[derive(Clone, Copy)]
enum Mix {
    Gets,
    /// Of nodes that one of two proved identities may read.
    GetsOfBob,
    Sets,
    Creates,
    /// One set in ten requests.
    Tenth,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The turn in which the client's requests come.
    Requests,
    /// The turns in which the log delivers.
    Log,
    /// Both.
    Node,
    /// All turns of all nodes, and their logs.
    All,
}

/// A ZooKeeper client that never waits.
struct Client {
    user: UserId,
    requests: usize,
}

fn path(i: usize) -> String {
    format!("/keys/node-{:06}", i % KEYS)
}

impl Client {
    fn connect(cluster: &mut Cluster, node: NodeId) -> Self {
        let user = cluster.net.connect(node);
        let hello = Frame::bare().int(0).long(0).int(30_000).long(0).bytes(&[0; 16]).bool(false).done();
        cluster.net.send(user, vec![hello]);
        cluster.net.run();
        cluster.net.wait_ms(10);
        assert_eq!(cluster.net.receive(user).len(), 1, "the session is there");
        Self { user, requests: 0 }
    }

    /// Proves to be two.
    fn prove(&mut self, net: &mut Net) {
        let proof = |xid: i32, proof: &[u8]| {
            Frame::request(xid, op::AUTH).int(0).bytes(b"digest").bytes(proof).done()
        };
        net.send(self.user, vec![proof(1, b"alice:secret"), proof(2, b"bob:secret")]);
        net.run();
        assert_eq!(self.received(net), 2 * 20, "both are taken");
    }

    /// Sends `n` requests to arrive in one turn.
    fn send(&mut self, net: &mut Net, mix: Mix, n: usize) {
        let requests = (0..n).map(|_| {
            let (i, xid) = (self.requests, self.requests as i32 + 1);
            self.requests += 1;
            match mix {
                Mix::Creates => create(xid, &format!("/keys/new-{i:06}")),
                Mix::Sets => set(xid, i),
                Mix::Tenth if i % 10 == 0 => set(xid, i),
                Mix::Gets | Mix::GetsOfBob | Mix::Tenth => {
                    Frame::request(xid, op::GET).bytes(path(i).as_bytes()).bool(false).done()
                }
            }
        });
        net.send(self.user, requests.collect());
    }

    /// Bytes that have come since it last looked.
    fn received(&self, net: &mut Net) -> usize {
        net.receive(self.user).iter().map(Bytes::len).sum()
    }
}

fn set(xid: i32, i: usize) -> Bytes {
    Frame::request(xid, op::SET).bytes(path(i).as_bytes()).bytes(&[i as u8; 100]).int(-1).done()
}

fn create(xid: i32, path: &str) -> Bytes {
    Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(&[1; 100]).open_acl().int(0).done()
}

/// Of a node that is bob's alone.
fn create_for_bob(xid: i32, path: &str) -> Bytes {
    let frame = Frame::request(xid, op::CREATE).bytes(path.as_bytes()).bytes(&[1; 100]);
    frame.int(1).int(31).bytes(b"digest").bytes(BOB.as_bytes()).int(0).done()
}

/// `burst` requests in each round, of as many sessions as that takes. Per request.
fn node(burst: usize, mix: Mix, part: Part) -> usize {
    let mut cluster = Cluster::start(DEFAULT);
    let node = cluster.add_zk(1);
    if part == Part::All {
        for n in 2..=3 {
            cluster.add_zk(n);
        }
    }
    let sessions = burst.div_ceil(DEPTH);
    let mut clients: Vec<Client> = (0..sessions).map(|_| Client::connect(&mut cluster, node)).collect();
    let mut filler = Client::connect(&mut cluster, node);
    let create_key = if matches!(mix, Mix::GetsOfBob) { create_for_bob } else { create };
    let frames = (0..KEYS).map(|i| create_key(i as i32 + 2, &path(i)));
    let frames = std::iter::once(create(1, "/keys")).chain(frames).collect();
    cluster.net.send(filler.user, frames);
    cluster.net.run();
    cluster.net.wait_ms(20);
    filler.requests = KEYS + 1;
    assert!(filler.received(&mut cluster.net) > KEYS * 20, "the znodes are there");
    if matches!(mix, Mix::GetsOfBob) {
        clients.iter_mut().for_each(|client| client.prove(&mut cluster.net));
    }
    let of = |about| Pick { node: Some(node), about: Some(about) };
    let deliveries = ["Push", "Grown", "Appended", "ReadIs"].map(|m| of(about(m)));
    let picks = match part {
        Part::Requests => vec![of(About::Jute)],
        Part::Log => deliveries.to_vec(),
        Part::Node => vec![Pick { node: Some(node), about: None }],
        Part::All => everything(),
    };
    let rounds = repeat_times(ROUNDS / sessions.min(16), &mut cluster, picks, |net| {
        for client in &mut clients {
            client.send(net, mix, burst / sessions);
        }
    });
    // A reply has 20 bytes before its record; that of a refused request has no more.
    let least = if matches!(mix, Mix::Gets | Mix::GetsOfBob) { 100 } else { 30 };
    for client in &clients {
        let received = client.received(&mut cluster.net);
        assert!(received > client.requests * least, "{received} bytes for {} requests", client.requests);
    }
    rounds * burst
}

fn world() -> AuthId {
    AuthId { scheme: "world".into(), id: "anyone".into() }
}

fn record(session: i64, op: Op) -> Vec<u8> {
    encode(&Txn { session, attach: 0, wall: WallMs(1_700_000_000_000), ids: Vec::new(), op })
}

fn set_op(i: usize) -> Op {
    Op::SetData { path: state_path(i), data: Some(vec![i as u8; 100]), version: -1 }
}

fn create_op(path: String) -> Op {
    let acl = vec![Acl { perms: 31, id: world() }];
    Op::Create { path, data: Some(vec![1; 100]), acl, mode: CreateMode::Persistent }
}

fn txn() -> usize {
    let txn = Txn { session: 1, attach: 0, wall: WallMs(0), ids: Vec::new(), op: set_op(1) };
    (0..ROUNDS).for_each(|_| drop(black_box(encode(&txn))));
    meter::run(true, || (0..ROUNDS).for_each(|_| drop(black_box(encode(&txn)))));
    ROUNDS
}

fn state_path(i: usize) -> String {
    format!("/bench-{:03}/node-{:06}", i % 100, i % ZNODES)
}

/// The pure function alone, with 100,000 znodes under 100 parents.
fn state(creates: bool) -> usize {
    let mut state = State::new();
    let mut changes: Vec<Change> = Vec::with_capacity(16);
    let apply = |state: &mut State, changes: &mut Vec<Change>, record: &[u8]| {
        let outcome = state.apply(state.applied(), record, changes);
        changes.clear();
        outcome
    };
    let created = apply(&mut state, &mut changes, &record(0, Op::CreateSession { timeout_ms: 30_000 }));
    let Outcome::SessionCreated { session, .. } = created else { panic!("a session came to {created:?}") };
    let parents = (0..100).map(|i| format!("/bench-{i:03}"));
    for path in parents.chain((0..ZNODES).map(state_path)) {
        let outcome = apply(&mut state, &mut changes, &record(session, create_op(path)));
        assert!(matches!(outcome, Outcome::Created { .. }), "a create came to {outcome:?}");
    }
    // Spread over the tree, as users' requests are.
    let op = |i: usize| match creates {
        true => create_op(format!("/bench-{:03}/new-{i:06}", i * 37 % 100)),
        false => set_op(i * 7919),
    };
    let records: Vec<Vec<u8>> = (0..2 * ROUNDS).map(|i| record(session, op(i))).collect();
    let before = state.applied();
    for (i, record) in records.iter().enumerate() {
        let outcome = meter::run(i >= ROUNDS, || apply(&mut state, &mut changes, record));
        assert!(matches!(outcome, Outcome::Created { .. } | Outcome::Set { .. }), "{outcome:?}");
    }
    assert_eq!(state.applied(), Gsn(before.0 + 2 * ROUNDS as u64), "all are applied");
    ROUNDS
}
