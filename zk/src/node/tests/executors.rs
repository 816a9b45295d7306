//! Do executors agree? Clients at several fronts of one node, with batches that wait for room, in every order of turns:
//! what each client sees is what one of a single executor may see.

use super::member::with_fronts;
use super::world::*;
use crate::jute::{EventType, Request, xid};
use proptest::prelude::*;

const CLIENTS: usize = 4;
const NODES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize),
    /// With a watch.
    Watch(usize, usize),
    Get(usize, usize),
    Ping(usize),
    /// Lets the log commit so many batches, and everybody take turns.
    Commit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (client, node) = (0..CLIENTS, 0..NODES);
    prop_oneof![
        4 => (client.clone(), node.clone()).prop_map(|(c, n)| Step::Set(c, n)),
        4 => (client.clone(), node.clone()).prop_map(|(c, n)| Step::Watch(c, n)),
        4 => (client.clone(), node).prop_map(|(c, n)| Step::Get(c, n)),
        1 => client.prop_map(Step::Ping),
        3 => (1usize..9).prop_map(Step::Commit),
    ]
}

fn path(n: usize) -> String {
    format!("/n{n}")
}

/// What one client sent, in order: which node, and whether to read it, to read and watch it, or to write it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    Get(usize),
    Watch(usize),
    Set(usize),
}

#[derive(Default)]
struct View {
    sent: Vec<Sent>,
    /// Per node, the zxid of the newest write seen, and of the one seen when the watch was left that has not fired.
    newest: [i64; NODES],
    watched: [Option<i64>; NODES],
}

/// When the node was written last, from the Stat at `at` in a record.
fn mzxid(record: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(record[at + 8..at + 16].try_into().unwrap())
}

impl View {
    /// Checks everything that the client got, in order.
    fn check(&mut self, got: &[Got]) {
        assert!(got.iter().map(Got::zxid).is_sorted(), "header zxids never decrease");
        let mut next = 0;
        for g in got {
            if let Got::Event(..) = g {
                let (kind, at) = g.event();
                assert_eq!(kind, EventType::NodeDataChanged);
                let n: usize = at.trim_start_matches("/n").parse().unwrap();
                assert!(self.watched[n].take().is_some(), "an event at {at} that was not asked for");
                continue;
            }
            if g.reply().0 == xid::PING {
                continue;
            }
            next += 1;
            assert_eq!(g.reply(), (next as i32, 0), "answers come in the order of their requests");
            match self.sent[next - 1] {
                Sent::Set(n) => {
                    let written = mzxid(g.record(), 0);
                    assert_eq!(written, g.zxid());
                    assert!(written > self.newest[n], "request {next} was seen before it was written");
                    self.newest[n] = written;
                }
                Sent::Get(n) | Sent::Watch(n) => {
                    let seen = mzxid(g.record(), 4 + g.data().len());
                    assert!(
                        seen >= self.newest[n],
                        "request {next} goes back from {} to {seen}",
                        self.newest[n]
                    );
                    assert!(seen <= g.zxid());
                    let unchanged = self.watched[n].is_none_or(|before| before == seen);
                    assert!(unchanged, "ZK-3: request {next} sees {seen} before the event that tells of it");
                    self.newest[n] = seen;
                    if let Sent::Watch(n) = self.sent[next - 1] {
                        self.watched[n] = Some(seen);
                    }
                }
            }
        }
        assert_eq!(next, self.sent.len(), "every request is answered");
    }
}

fn run(steps: &[Step], window: usize) {
    let mut w = World::new(1);
    let node = w.start(window);
    let clients: Vec<usize> = (0..CLIENTS).map(|_| w.connect(node).0).collect();
    for n in 0..NODES {
        w.call(clients[0], 1, &create(&path(n), 0));
    }
    w.hub.borrow_mut().hold = true;
    let mut views: Vec<View> = (0..CLIENTS).map(|_| View::default()).collect();
    for step in steps {
        let (c, sent) = match *step {
            Step::Set(c, n) => (c, Sent::Set(n)),
            Step::Watch(c, n) => (c, Sent::Watch(n)),
            Step::Get(c, n) => (c, Sent::Get(n)),
            Step::Ping(c) => {
                w.put_request(clients[c], xid::PING, &Request::Ping);
                continue;
            }
            Step::Commit(n) => {
                w.run();
                w.hub.borrow_mut().commit(n);
                w.run();
                continue;
            }
        };
        views[c].sent.push(sent);
        let xid = views[c].sent.len() as i32;
        match sent {
            Sent::Get(n) => w.put_request(clients[c], xid, &get(&path(n), false)),
            Sent::Watch(n) => w.put_request(clients[c], xid, &get(&path(n), true)),
            Sent::Set(n) => w.put_request(clients[c], xid, &set(&path(n), b"x")),
        }
    }
    w.hub.borrow_mut().hold = false;
    for _ in 0..1000 {
        w.run();
        w.hub.borrow_mut().commit(usize::MAX);
        w.advance(MS);
    }
    for (view, client) in views.iter_mut().zip(clients) {
        assert!(!w.is_closed(client), "{:?}", w.notes(node));
        let got = w.got(client);
        view.check(&got);
    }
    assert_eq!(w.hash(node), w.hash(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, max_shrink_iters: 500, ..ProptestConfig::default() })]

    /// ZK-2, ZK-3 and the order of each connection.
    #[test]
    fn clients_of_several_executors_see_one_history(
        steps in prop::collection::vec(step(), 0..60), window in 1usize..5, seed in any::<u64>(), fronts in 1u16..5,
    ) {
        with_fronts(fronts, seed, || run(&steps, window));
    }
}

/// A session goes on at another executor of its node; its old connection hears no more.
#[test]
fn a_session_is_resumed_at_another_executor() {
    with_fronts(3, 7, || {
        let mut w = World::new(1);
        let (a, session) = w.connect(0);
        let (b, _) = w.connect(0);
        w.call(a, 1, &create("/mine", 1));
        assert_eq!(w.call(a, 2, &get("/mine", true)).data(), b"new");
        let moved = w.ask(0, 0, 4000, Some(&session));
        assert!(!w.answer(moved).expect("an answer").is_refusal());
        assert!(w.is_closed(a), "its old connection is closed");
        // What it watched there is forgotten; what it owns is still its own.
        w.call(b, 1, &set("/mine", b"x"));
        assert_eq!(w.got(a), []);
        assert_eq!(w.call(moved, 1, &get("/mine", false)).data(), b"x");
        assert_eq!(w.node(0).status().watches, 0);
        w.call(moved, 2, &Request::CloseSession);
        assert_eq!(w.call(b, 2, &exists("/mine", false)).reply(), (2, crate::jute::ErrorCode::NoNode.code()));
    });
}

/// An executor whose session was touched by nobody else stops answering when the node may be cut off, without a
/// word from the one that applies.
#[test]
fn a_front_stops_answering_by_itself() {
    with_fronts(2, 7, || {
        let mut w = World::new(2);
        let (c, _) = w.connect(0);
        w.call(c, 1, &create("/a", 0));
        w.cut(0, true);
        w.advance_pinging(std::time::Duration::from_secs(3), &[c]);
        assert!(w.is_closed(c), "the node can't know that it was not expired");
    });
}
