//! Are requests of a session answered in order, each from the right state?

use super::world::*;
use crate::jute::{ErrorCode, Request, xid};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_client::SharedLog;

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Set(usize, u8),
    Delete(usize),
    Get(usize),
    Exists(usize),
    Children,
    Sync,
    Ping,
    Unknown,
    Garbled,
    /// Let the log commit so many batches, then let everything happen.
    Commit(usize),
    Run,
}

fn step() -> impl Strategy<Value = Step> {
    let path = 0usize..4;
    prop_oneof![
        3 => path.clone().prop_map(Step::Create),
        4 => (path.clone(), any::<u8>()).prop_map(|(p, b)| Step::Set(p, b)),
        2 => path.clone().prop_map(Step::Delete),
        6 => path.clone().prop_map(Step::Get),
        3 => path.prop_map(Step::Exists),
        1 => Just(Step::Children),
        2 => Just(Step::Sync),
        1 => Just(Step::Ping),
        1 => Just(Step::Unknown),
        1 => Just(Step::Garbled),
        3 => (0usize..4).prop_map(Step::Commit),
        3 => Just(Step::Run),
    ]
}

const BYTES: [u8; 256] = {
    let mut all = [0; 256];
    let mut i = 0;
    while i < 256 {
        all[i] = i as u8;
        i += 1;
    }
    all
};

fn name(p: usize) -> String {
    format!("/n{p}")
}

/// What a sequential ZooKeeper with this one client would say: error, and the record's start.
fn model(tree: &mut BTreeMap<usize, Vec<u8>>, step: &Step) -> (i32, Option<Vec<u8>>) {
    let no_node = (ErrorCode::NoNode.code(), None);
    match step {
        Step::Create(p) if tree.contains_key(p) => (ErrorCode::NodeExists.code(), None),
        Step::Create(p) => {
            tree.insert(*p, b"new".to_vec());
            (0, Some(name(*p).into_bytes()))
        }
        Step::Set(p, b) => match tree.get_mut(p) {
            Some(data) => {
                *data = vec![*b];
                (0, None)
            }
            None => no_node,
        },
        Step::Delete(p) => tree.remove(p).map_or(no_node, |_| (0, None)),
        Step::Get(p) => tree.get(p).map_or(no_node, |d| (0, Some(d.clone()))),
        Step::Exists(p) => {
            if tree.contains_key(p) {
                (0, None)
            } else {
                no_node
            }
        }
        Step::Children => (0, None),
        Step::Sync => (0, Some(b"/".to_vec())),
        Step::Unknown => (ErrorCode::Unimplemented.code(), None),
        Step::Garbled => (ErrorCode::MarshallingError.code(), None),
        Step::Ping | Step::Commit(_) | Step::Run => panic!("not a request with a reply in order"),
    }
}

fn request(step: &Step) -> Request<'static> {
    match step {
        Step::Create(p) => create(&name(*p), 0),
        Step::Set(p, b) => set(&name(*p), &BYTES[usize::from(*b)..=usize::from(*b)]),
        Step::Delete(p) => delete(&name(*p)),
        Step::Get(p) => get(&name(*p), false),
        Step::Exists(p) => exists(&name(*p), false),
        Step::Children => children("/", false),
        Step::Sync => sync(),
        Step::Ping => Request::Ping,
        Step::Unknown => Request::Other(999),
        Step::Garbled => Request::Other(4), // a getData whose record is missing
        Step::Commit(_) | Step::Run => panic!("not a request"),
    }
}

fn check(steps: &[Step], window: usize) {
    let mut w = World::new(1);
    let node = w.start(window);
    let (c, _) = w.connect(node);
    w.hub.borrow_mut().hold = true;
    let (mut tree, mut expected, mut pings) = (BTreeMap::new(), Vec::new(), 0);
    for s in steps {
        match s {
            Step::Commit(n) => {
                w.run();
                w.hub.borrow_mut().commit(*n);
                w.run();
            }
            Step::Run => w.run(),
            Step::Ping => {
                pings += 1;
                w.put_request(c, xid::PING, &Request::Ping);
            }
            s => {
                expected.push(model(&mut tree, s));
                w.put_request(c, expected.len() as i32, &request(s));
            }
        }
    }
    w.run();
    loop {
        if w.hub.borrow_mut().commit(1) == 0 {
            break;
        }
        w.run();
    }
    let got = w.got(c);
    let zxids: Vec<i64> = got.iter().map(Got::zxid).collect();
    assert!(zxids.is_sorted(), "header zxids never decrease: {zxids:?}");
    let (pongs, replies): (Vec<&Got>, Vec<&Got>) = got.iter().partition(|g| g.reply().0 == xid::PING);
    assert_eq!(pongs.len(), pings);
    assert_eq!(replies.len(), expected.len());
    for (i, (reply, (err, start))) in replies.iter().zip(&expected).enumerate() {
        assert_eq!(reply.reply(), (i as i32 + 1, *err), "reply {i}: {:?}", steps);
        if let Some(start) = start {
            assert_eq!(crate::jute::Reader::new(reply.record()).buffer(), Ok(Some(&start[..])));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is pipelined, in whatever turns, however the log dawdles or refuses: the replies are those of
    /// a server that does one request after the other.
    #[test]
    fn replies_are_those_of_a_sequential_server(steps in prop::collection::vec(step(), 0..60), window in 1usize..4) {
        check(&steps, window);
    }
}

#[test]
pub(super) fn a_thousand_mixed_requests_in_one_turn_are_answered_in_order() {
    let kinds = |i: usize| match i % 10 {
        0 => Step::Create(i % 4),
        1 | 4 => Step::Set(i % 4, i as u8),
        2 | 3 | 5 => Step::Get(i % 4),
        6 => Step::Delete(i % 3),
        7 => Step::Sync,
        8 => Step::Unknown,
        _ => Step::Ping,
    };
    let steps: Vec<Step> = (0..1000).map(kinds).collect();
    check(&steps, 1000);
    check(&steps, 1);
}

#[test]
pub(super) fn a_ping_is_answered_while_a_write_is_stuck() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    w.send(c, 1, &create("/a", 0));
    w.send(c, xid::PING, &Request::Ping);
    assert_eq!(w.got(c).iter().map(Got::reply).collect::<Vec<_>>(), [(xid::PING, 0)]);
    w.hub.borrow_mut().commit(1);
    w.run();
    assert_eq!(w.got(c)[0].reply(), (1, 0));
}

#[test]
pub(super) fn a_read_behind_a_write_carries_the_writes_zxid_though_more_is_committed_at_once() {
    let mut w = World::new(1);
    let (a, _) = w.connect(0);
    let (b, _) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    w.put_request(a, 1, &create("/a", 0));
    w.put_request(a, 2, &get("/a", false));
    w.put_request(b, 1, &set("/a", b"later"));
    w.run();
    w.hub.borrow_mut().commit(usize::MAX);
    w.run();
    let got = w.got(a);
    assert_eq!(got[0].zxid(), got[1].zxid());
    assert_eq!(got[1].data(), b"new");
    assert_eq!(w.got(b)[0].zxid(), got[1].zxid() + 1);
}

#[test]
pub(super) fn a_read_that_waits_for_nothing_sees_the_state_before_a_write_sent_with_it() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.put_request(c, 1, &exists("/a", false));
    w.put_request(c, 2, &create("/a", 0));
    w.run();
    let got: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    assert_eq!(got, [(1, ErrorCode::NoNode.code()), (2, 0)]);
}

/// The write is acknowledged to one client before the other, on a node that lags, syncs.
#[test]
pub(super) fn sync_then_read_sees_what_another_node_has_acknowledged() {
    let mut w = World::new(2);
    let (a, _) = w.connect(0);
    let (b, _) = w.connect(1);
    w.hub.borrow_mut().slow.push(w.node(1).log().writer());
    assert_eq!(w.call(a, 1, &create("/a", 0)).reply(), (1, 0));
    assert_eq!(w.call(b, 1, &get("/a", false)).reply(), (1, ErrorCode::NoNode.code()), "it lags");
    w.put_request(b, 2, &sync());
    w.put_request(b, 3, &get("/a", false));
    w.run();
    assert_eq!(w.got(b), [], "both wait");
    w.hub.borrow_mut().slow.clear();
    w.run();
    let got = w.got(b);
    assert_eq!((got[0].path(), got[1].data()), ("/".to_string(), b"new".to_vec()));
    assert_eq!(got[0].zxid(), w.node(0).state().zxid());
}

/// The sync was answered by the log, but what it waits for has not come when the session's next write does: all
/// that the sync must see lies before that write.
#[test]
pub(super) fn a_sync_does_not_hold_up_the_write_behind_it() {
    let mut w = World::new(2);
    let (a, _) = w.connect(0);
    let (b, _) = w.connect(1);
    w.hub.borrow_mut().slow.push(w.node(1).log().writer());
    w.call(a, 1, &create("/a", 0));
    w.put_request(b, 1, &sync());
    w.put_request(b, 2, &exists("/b", false));
    w.put_request(b, 3, &create("/b", 0));
    w.put_request(b, 4, &get("/a", false));
    w.run();
    let sent = w.node(0).state().zxid();
    assert_eq!(w.got(b), []);
    w.call(a, 2, &create("/later", 0));
    w.hub.borrow_mut().slow.clear();
    w.run();
    let got = w.got(b);
    let replies: Vec<_> = got.iter().map(Got::reply).collect();
    assert_eq!(replies, [(1, 0), (2, ErrorCode::NoNode.code()), (3, 0), (4, 0)]);
    assert_eq!(got.iter().map(Got::zxid).collect::<Vec<_>>(), [sent - 1, sent - 1, sent, sent]);
}

/// The log has room for the short record, but not for the long one before it.
#[test]
pub(super) fn a_write_does_not_overtake_one_that_waits_for_room() {
    static LONG: [u8; 1000] = [1; 1000];
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/a", 0));
    w.hub.borrow_mut().room = Some(500);
    w.send(c, 2, &set("/a", &LONG));
    w.send(c, 3, &set("/a", b"short"));
    w.send(c, 4, &get("/a", false));
    assert_eq!(w.got(c), []);
    w.hub.borrow_mut().room = None;
    w.run();
    let got = w.got(c);
    assert_eq!(got.iter().map(Got::reply).collect::<Vec<_>>(), [(2, 0), (3, 0), (4, 0)]);
    assert_eq!(got[2].data(), b"short");
}

#[test]
pub(super) fn writes_of_many_sessions_share_a_turns_batch_and_keep_their_outcomes() {
    let mut w = World::new(2);
    let clients: Vec<usize> = (0..20).map(|i| w.connect(i % 2).0).collect();
    w.call(clients[0], 1, &create("/q", 0));
    for round in 0..5 {
        for &c in &clients {
            w.put_request(c, 10 + round, &create("/q/n-", 2));
        }
    }
    w.run();
    let mut paths = BTreeSet::new();
    for &c in &clients {
        let got = w.got(c);
        let mine: Vec<String> = got.iter().map(Got::path).collect();
        assert!(mine.is_sorted() && mine.len() == 5, "{mine:?}");
        paths.extend(mine);
    }
    assert_eq!(paths.len(), 100, "no two creates got one name");
    assert_eq!(w.hash(0), w.hash(1));
}

/// The same, for nodes of several executors.
pub(super) fn replies_are_those_of_a_sequential_server_again() {
    replies_are_those_of_a_sequential_server();
}
