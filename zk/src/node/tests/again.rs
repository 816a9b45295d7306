//! Are watches set again as if it took no time? A request with many is worked off over turns while the tree changes: each path is
//! told of once or watched, what waits behind comes behind, and others are answered in between.

use super::world::*;
use crate::jute::{ErrorCode, EventType, Request, SetWatches, SetWatches2, xid};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use zoolog_core::Gsn;

/// As in [`Steps`](crate::node::Steps).
const STEP: usize = 2048;
const MANY: usize = 20_000;
const AGAIN: i32 = 101;

type Paths = Vec<Cow<'static, str>>;

fn again(data: Paths, exist: Paths, child: Paths) -> Request<'static> {
    Request::SetWatches(SetWatches { relative_zxid: 0, data, exist, child })
}

/// Paths of so many nodes that are not there.
fn absent(n: usize) -> Paths {
    (0..n).map(|n| format!("/w{n}").into()).collect()
}

/// A node whose steps are of so few paths that every request takes several.
fn small(paths: usize) -> World {
    let mut w = World::new(0);
    w.cfg.steps.set_again = paths;
    w.start(1000);
    w
}

fn watches(w: &World) -> usize {
    w.node(0).status().watches
}

/// A frame as long as a client may send: so many paths a turn, and whoever else asks is answered in each.
#[test]
pub(super) fn a_frame_of_many_is_worked_off_over_turns_and_others_are_answered() {
    let mut w = World::new(1);
    let ((c, _), (other, _)) = (w.connect(0), w.connect(0));
    w.put_request(c, AGAIN, &again(vec![], absent(MANY), vec![]));
    w.put_request(c, 1, &get("/", false));
    w.put_request(c, 2, &create("/mine", 0));
    w.put_request(c, 3, &sync());
    w.put_request(c, xid::PING, &Request::Ping);
    w.put_request(c, 4, &Request::WhoAmI);
    w.run();
    let (mut before, mut turns, mut got) = (0, 0, w.got(c));
    assert_eq!(got.iter().map(Got::reply).collect::<Vec<_>>(), [(xid::PING, 0)], "a ping waits for nothing");
    while before < MANY {
        let now = watches(&w);
        assert!(now > before && now - before <= STEP, "from {before} to {now} in one turn");
        assert_eq!(w.call(other, 1, &create(&format!("/other{turns}"), 0)).reply(), (1, 0));
        if now < MANY {
            assert_eq!(w.got(c), [], "what is behind it waits");
        }
        (before, turns) = (now, turns + 1);
        w.advance(MS);
    }
    assert!(turns >= MANY / STEP);
    w.advance(10 * MS);
    got = w.got(c);
    assert_eq!(got.iter().map(Got::reply).collect::<Vec<_>>(), [(AGAIN, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
    assert!(got.windows(2).all(|g| g[0].zxid() <= g[1].zxid()));
    // All of them are there.
    w.call(other, 1, &create(&format!("/w{}", MANY - 1), 0));
    assert_eq!(w.got(c)[0].event(), (EventType::NodeCreated, &*format!("/w{}", MANY - 1)));
}

/// Several at once: to each a part of every step.
#[test]
pub(super) fn those_who_set_many_again_get_on_side_by_side() {
    let mut w = World::new(1);
    let few = 4000;
    let ((long, _), (short, _)) = (w.connect(0), w.connect(0));
    w.put_request(long, AGAIN, &again(vec![], absent(70_000), vec![]));
    w.put_request(short, AGAIN, &again(vec![], absent(few), vec![]));
    w.run();
    let mut turns = 0;
    while w.got(short).is_empty() {
        turns += 1;
        // Of one executor: half of a step each.
        assert!(turns <= few / (STEP / 2) + 1, "{turns}");
        w.advance(MS);
    }
    assert_eq!(w.got(long), []);
    w.advance(100 * MS);
    assert_eq!(w.got(long)[0].reply(), (AGAIN, 0));
}

/// One that can't be decoded to its end does nothing.
#[test]
pub(super) fn a_long_frame_that_is_broken_at_its_end_is_refused_as_a_whole() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    let mut bytes = Vec::new();
    again(vec![], vec![], absent(MANY)).encode(AGAIN, &mut bytes);
    // The last path is null.
    let last = format!("/w{}", MANY - 1).len();
    bytes.truncate(bytes.len() - last - 4);
    bytes.extend_from_slice(&(-1i32).to_be_bytes());
    let length = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    assert!(w.put(c, &bytes, false));
    w.advance(100 * MS);
    assert_eq!(w.got(c)[0].reply(), (AGAIN, ErrorCode::MarshallingError.code()));
    assert_eq!(watches(&w), 0);
    assert_eq!(w.call(c, 1, &get("/", false)).reply(), (1, 0));
}

/// Writes before it are answered before it, writes behind it are applied behind it.
#[test]
pub(super) fn it_has_its_place_among_the_writes_of_its_connection() {
    let mut w = small(2);
    let (c, _) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    w.put_request(c, 1, &create("/w3", 0));
    w.put_request(c, 2, &again(vec!["/".into()], absent(20), vec![]));
    w.put_request(c, 3, &create("/w5", 0));
    w.put_request(c, 4, &get("/w5", false));
    w.run();
    w.advance(5 * MS);
    assert_eq!((w.got(c), watches(&w)), (vec![], 0), "it waits for what is before it");
    w.hub.borrow_mut().hold = false;
    w.hub.borrow_mut().commit(9);
    w.advance(100 * MS);
    let got = w.got(c);
    let told = |path: &str| Got::Event(-1, EventType::NodeCreated, path.into());
    // The first write was missed; the second is not, and comes when all is set.
    assert_eq!(got[0].reply(), (1, 0));
    assert!(got[1..4].contains(&told("/w3")), "{got:?}");
    let at = got.iter().position(|g| matches!(g, Got::Reply(2, ..))).expect("the reply");
    let behind: Vec<_> = got[at..]
        .iter()
        .map(|g| match g {
            Got::Reply(xid, ..) => xid.to_string(),
            Got::Event(_, kind, path) => format!("{kind:?} {path}"),
        })
        .collect();
    assert_eq!(behind, ["2", "NodeCreated /w5", "3", "4"]);
}

/// Who takes nothing is waited for, and what he watches already is told before what is still to be set.
#[test]
pub(super) fn it_waits_for_a_client_that_does_not_take_its_events() {
    let mut w = small(100);
    let ((c, _), (other, _)) = (w.connect(0), w.connect(0));
    w.put_request(c, AGAIN, &again(absent(1000), absent(1000), vec![]));
    w.run();
    w.backlog(c, true);
    let before = watches(&w);
    w.advance(50 * MS);
    assert_eq!(watches(&w), before);
    assert_eq!(w.call(other, 1, &get("/", false)).reply(), (1, 0));
    w.backlog(c, false);
    w.advance(100 * MS);
    let got = w.got(c);
    assert_eq!((got.len(), watches(&w)), (1001, 1000));
    assert_eq!(got[1000].reply(), (AGAIN, 0));
}

/// It ends with its connection, however that ends; nothing of it is left, and its place is used again.
#[test]
pub(super) fn it_ends_with_its_connection() {
    for how in ["the client goes", "the session moves", "the node begins anew"] {
        let mut w = World::new(2);
        let (c, session) = w.connect(0);
        w.put_request(c, AGAIN, &again(vec![], absent(MANY), vec![]));
        w.put_request(c, 1, &get("/", false));
        w.run();
        w.advance(2 * MS);
        assert!((1..MANY).contains(&watches(&w)), "it is under way");
        match how {
            "the client goes" => w.hang_up(c),
            "the session moves" => drop(w.ask(1, 0, 4000, Some(&session))),
            _ => {
                w.hub.borrow_mut().offers = Some((Gsn(1), Vec::new()));
                w.rebuild(0);
            }
        }
        w.advance(200 * MS);
        assert!(w.is_closed(c), "{how}");
        assert!(!w.got(c).iter().any(|g| matches!(g, Got::Reply(AGAIN, ..))), "{how}");
        assert_eq!((watches(&w), w.failed(0)), (0, None), "{how}");
        if how != "the node begins anew" {
            let (c, _) = w.connect(0);
            assert_eq!(w.call(c, 1, &create("/w1", 0)).reply(), (1, 0), "{how}");
            assert_eq!(w.got(c), [], "{how}");
        }
    }
}

#[test]
pub(super) fn persistent_ones_are_set_in_steps_too() {
    let mut w = small(3);
    let ((c, _), (other, _)) = (w.connect(0), w.connect(0));
    let set = SetWatches { relative_zxid: 0, data: vec![], exist: vec!["/x".into()], child: vec![] };
    let (persistent, recursive) = (absent(10), vec!["/r".into(), "/q".into()]);
    w.put_request(c, AGAIN, &Request::SetWatches2(Box::new(SetWatches2 { set, persistent, recursive })));
    w.run();
    w.advance(10 * MS);
    assert_eq!((w.got(c)[0].reply(), watches(&w)), ((AGAIN, 0), 13));
    for path in ["/r", "/r/a", "/w9"] {
        w.call(other, 1, &create(path, 0));
        assert_eq!(w.got(c)[0].event(), (EventType::NodeCreated, path));
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// This happens to node `.1` of the list: it, or a child of it, comes, goes, is set.
    Change(usize, usize, u8),
    Wait,
}

/// Nodes of each list.
const EACH: usize = 12;
const LISTS: [&str; 3] = ["/d", "/e", "/c"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..3, 0..EACH, 0u8..3).prop_map(|(l, n, how)| Step::Change(l, n, how)),
        1 => Just(Step::Wait),
    ]
}

/// What happens between two connections of a client, and then while its watches are set again.
fn check(before: &[Step], during: &[Step], paths: usize) {
    let mut w = small(paths);
    let (writer, _) = w.connect(0);
    let path = |l: usize, n: usize| format!("{}{n}", LISTS[l]);
    for n in 0..EACH {
        w.call(writer, 1, &create(&path(0, n), 0));
        w.call(writer, 1, &create(&path(2, n), 0));
    }
    let since = w.call(writer, 1, &get("/", false)).zxid();
    let change = |w: &mut World, l, n, how| {
        let path = path(l, n);
        let child = format!("{path}/k");
        let request = match (l, how) {
            (0, 0) => set(&path, b"x"),
            (2, 0) => create(&child, 0),
            (2, 1) => delete(&child),
            (_, 0) => create(&path, 0),
            (_, 1) => delete(&path),
            _ if w.call(writer, 1, &delete(&path)).reply().1 == 0 => create(&path, 0),
            _ => return false,
        };
        w.call(writer, 1, &request).reply().1 == 0
    };
    let mut changed: BTreeMap<String, bool> = BTreeMap::new();
    let mut apply = |w: &mut World, s: &Step| match s {
        Step::Change(l, n, how) => {
            if change(w, *l, *n, *how) {
                changed.insert(path(*l, *n), true);
            }
        }
        Step::Wait => w.advance(MS),
    };
    before.iter().for_each(|s| apply(&mut w, s));
    let (c, _) = w.connect(0);
    let list = |l| (0..EACH).map(|n| path(l, n).into()).collect();
    let set = SetWatches { relative_zxid: since, data: list(0), exist: list(1), child: list(2) };
    w.put_request(c, AGAIN, &Request::SetWatches(set));
    w.put_request(c, 1, &get("/", false));
    w.run();
    during.iter().for_each(|s| apply(&mut w, s));
    w.advance(100 * MS);
    let got = w.got(c);
    let reply =
        |xid: i32| got.iter().position(|g| matches!(g, Got::Reply(x, ..) if *x == xid)).expect("a reply");
    assert!(reply(AGAIN) < reply(1));
    // What was missed is told before the reply; all else in the order in which it was.
    let missed = |g: &Got| matches!(g, Got::Event(-1, ..));
    assert!(got.iter().skip(reply(AGAIN)).all(|g| !missed(g)), "{got:?}");
    let order: Vec<i64> = got.iter().filter(|g| !missed(g)).map(Got::zxid).collect();
    assert!(order.is_sorted(), "{got:?}");
    for l in 0..3 {
        for n in 0..EACH {
            let path = path(l, n);
            let told = got.iter().filter(|g| matches!(g, Got::Event(_, _, p) if *p == path)).count();
            let kind = if l == 2 { 1 } else { 2 };
            let look = Request::Watches { path: path.clone().into(), kind, remove: false };
            let watched = w.call(c, 2, &look).reply().1 == 0;
            assert_eq!(told + usize::from(watched), 1, "{path} was told {told} times: {got:?}");
            let is_there = w.call(c, 2, &exists(&path, false)).reply().1 == 0;
            match l {
                // It may have come and gone before its turn was.
                1 => assert!(told == 1 || !is_there, "{path} was not told: {got:?}"),
                _ => assert_eq!(told == 1, changed.contains_key(&path), "{path}: {got:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_path_is_told_once_or_watched_whatever_changes_meanwhile(
        before in prop::collection::vec(step(), 0..20),
        during in prop::collection::vec(step(), 0..60),
        paths in 1usize..6,
        fronts in 0u16..3,
    ) {
        match fronts {
            0 => check(&before, &during, paths),
            _ => super::member::with_fronts(fronts, 1, || check(&before, &during, paths)),
        }
    }
}
