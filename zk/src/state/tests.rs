//! Random histories against the model, agreement of states, garbage, and the session rules one by one.

mod images;
mod imports;
mod model;

use super::*;
use crate::jute::ErrorCode;
use crate::jute::codes::perms;
use crate::tree::world;
use crate::txn::{
    AuthId, Change, CreateMode, CreateTtl, Ephemeral, Op, Outcome, Part, Readers, Sweeping, Txn,
};
use model::Model;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use zoolog_core::WallMs;

fn txn(session: i64, attach: u64, op: Op) -> Txn {
    Txn { session, attach, wall: WallMs(1000), ids: vec![], op }
}

fn create(path: &str, mode: CreateMode) -> Op {
    Op::Create { path: path.into(), data: None, acl: world(perms::ALL), mode }
}

/// A state, and what each record to it came to.
#[derive(Default)]
struct Run {
    state: State,
    /// Without what only says where ephemerals were, which models don't know,
    changes: Vec<Change>,
    /// and that.
    gone: Vec<Ephemeral>,
}

impl Run {
    fn apply(&mut self, txn: &Txn) -> Outcome {
        self.apply_bytes(&encode(txn))
    }

    fn apply_bytes(&mut self, record: &[u8]) -> Outcome {
        self.changes.clear();
        let outcome = self.state.apply(self.state.applied(), record, &mut self.changes);
        let gone = |change: &mut Change| match change {
            Change::Deleted { ephemeral, .. } => ephemeral.take(),
            _ => None,
        };
        self.gone = self.changes.iter_mut().filter_map(gone).collect();
        assert_eq!(self.state.hash(), self.state.hash_from_scratch());
        outcome
    }

    /// A new session: its id and attach GSN.
    fn session(&mut self) -> (i64, u64) {
        let attach = self.state.applied().0;
        match self.apply(&txn(0, 0, Op::CreateSession { timeout_ms: 4000 })) {
            Outcome::SessionCreated { session, .. } => (session, attach),
            other => panic!("{other:?}"),
        }
    }

    fn expire(&mut self, session: i64, attach: u64, touch: u64) -> bool {
        assert_eq!(self.apply(&txn(0, 0, Op::Expire { session, attach, touch })), Outcome::Done);
        self.state.session(session).is_none()
    }
}

fn deleted(path: &str) -> Change {
    Change::Deleted { path: path.into(), readers: Readers::default(), ephemeral: None }
}

#[test]
fn session_ids_are_positive_and_never_used_twice() {
    let mut run = Run::default();
    let mut last = 0;
    for _ in 0..3 {
        let (id, attach) = run.session();
        assert!(id > last && id >> 56 == 1, "{id:#x}");
        assert_eq!(run.changes, [Change::SessionAttached { session: id, attach }]);
        last = id;
        assert_eq!(run.apply(&txn(id, attach, Op::CloseSession)), Outcome::Done);
    }
}

#[test]
fn a_connection_whose_session_was_attached_elsewhere_is_stale() {
    let mut run = Run::default();
    let (id, first) = run.session();
    let second = run.state.applied().0;
    let attach = txn(0, 0, Op::Attach { session: id, timeout_ms: 9000 });
    assert_eq!(run.apply(&attach), Outcome::Attached { timeout_ms: 9000 });
    assert_eq!(run.changes, [Change::SessionAttached { session: id, attach: second }]);
    for op in [create("/a", CreateMode::Persistent), Op::CloseSession, Op::Nothing] {
        assert_eq!(run.apply(&txn(id, first, op)), Outcome::Stale);
        assert!(run.changes.is_empty());
    }
    let s = run.state.session(id).expect("it lives");
    assert_eq!(
        (s.timeout_ms, s.attach.0, s.touch.0),
        (9000, second, second),
        "stale requests are no touches"
    );
    let done = run.apply(&txn(id, second, create("/a", CreateMode::Persistent)));
    assert!(matches!(done, Outcome::Created { .. }), "{done:?}");
}

#[test]
fn requests_even_failed_ones_touch_their_session() {
    let mut run = Run::default();
    let (id, attach) = run.session();
    for op in [create("/no/parent", CreateMode::Persistent), Op::Nothing] {
        let gsn = run.state.applied();
        run.apply(&txn(id, attach, op));
        assert_eq!(run.state.session(id).map(|s| s.touch), Some(gsn));
    }
}

#[test]
fn an_expiry_is_void_after_a_touch_or_an_attach() {
    let mut run = Run::default();
    let (id, attach) = run.session();
    let touched = run.state.applied().0;
    let heard = vec![(id, attach), (id, attach + 1), (42, 0)];
    assert_eq!(run.apply(&txn(0, 0, Op::Touch { sessions: heard })), Outcome::Done);
    assert!(!run.expire(id, attach, attach), "it was touched since");
    let moved = run.state.applied().0;
    run.apply(&txn(0, 0, Op::Attach { session: id, timeout_ms: 4000 }));
    assert!(!run.expire(id, attach, touched), "it was attached since");
    run.apply(&txn(0, 0, Op::Touch { sessions: vec![(id, attach)] }));
    assert!(run.changes.is_empty());
    assert!(run.expire(id, moved, moved), "a touch for the old attach is void");
    assert_eq!(run.changes, [Change::SessionEnded { session: id }]);
    assert!(run.expire(id, moved, moved), "once more does nothing");
    assert!(run.changes.is_empty());
    let late = txn(0, 0, Op::Attach { session: id, timeout_ms: 4000 });
    assert_eq!(run.apply(&late), Outcome::NoSuchSession);
    assert_eq!(run.apply(&txn(id, moved, Op::Nothing)), Outcome::Stale);
}

#[test]
fn ephemerals_go_at_once_in_the_order_of_their_paths() {
    let mut run = Run::default();
    let (mine, attach) = run.session();
    let (other, other_attach) = run.session();
    run.apply(&txn(0, 0, create("/p", CreateMode::Persistent)));
    for path in ["/z", "/p/b", "/p.x", "/p/a", "/p/c"] {
        run.apply(&txn(mine, attach, create(path, CreateMode::Ephemeral)));
    }
    run.apply(&txn(other, other_attach, create("/o", CreateMode::Ephemeral)));
    let by_other = txn(other, other_attach, Op::Delete { path: "/p/b".into(), version: -1 });
    assert_eq!(run.apply(&by_other), Outcome::Deleted);
    assert_eq!(run.state.ephemerals(mine), ["/p.x", "/p/a", "/p/c", "/z"]);
    assert_eq!(run.gone.iter().map(|e| e.session).collect::<Vec<_>>(), [mine]);
    let mut slots = run.state.ephemeral_slots(mine);
    assert!(!slots.contains(&run.gone[0].slot));
    let touch = run.state.session(mine).expect("it lives").touch.0;
    let zxid = run.state.applied().0 as i64 + 1;
    assert!(run.expire(mine, attach, touch));
    let mut expected: Vec<_> = ["/p.x", "/p/a", "/p/c", "/z"].map(deleted).into();
    expected.push(Change::SessionEnded { session: mine });
    assert_eq!(run.changes, expected);
    let mut gone: Vec<_> = run.gone.iter().map(|e| e.slot).collect();
    gone.sort_unstable();
    slots.sort_unstable();
    assert_eq!(gone, slots);
    assert_eq!(run.state.stat("/p").map(|s| (s.pzxid, s.num_children, s.cversion)), Ok((zxid, 0, 6)));
    assert_eq!((run.state.ephemeral_count(), run.state.znode_count()), (1, 6));
}

#[test]
fn an_acl_is_judged_before_the_parent_and_after_the_slash() {
    let mut run = Run::default();
    let (id, attach) = run.session();
    let mut with_acl = |path: &str, scheme: &str| {
        let acl = vec![Acl { perms: 31, id: AuthId { scheme: scheme.into(), id: "x".into() } }];
        let mode = CreateMode::Persistent;
        run.apply(&txn(id, attach, Op::Create { path: path.into(), data: None, acl, mode }))
    };
    assert_eq!(with_acl("nowhere", "bad"), Outcome::Failed(ErrorCode::BadArguments));
    assert_eq!(with_acl("/no/parent", "bad"), Outcome::Failed(ErrorCode::InvalidAcl));
    assert_eq!(with_acl("/no/parent", "sasl"), Outcome::Failed(ErrorCode::NoNode));
    assert!(matches!(with_acl("/a", "sasl"), Outcome::Created { .. }));
    assert_eq!(run.state.acl("/a").map(|a| a.0[0].id.scheme.clone()).as_deref(), Ok("sasl"));
}

#[test]
fn what_belongs_to_a_session_must_name_one() {
    let mut run = Run::default();
    for op in
        [Op::CloseSession, create("/e", CreateMode::Ephemeral), create("/e", CreateMode::EphemeralSequential)]
    {
        assert_eq!(run.apply(&txn(0, 0, op)), Outcome::Rejected);
    }
    assert_eq!(run.state.znode_count(), 4);
}

#[test]
fn the_apply_version_only_rises_and_unknown_rules_reject_everything() {
    let mut run = Run::default();
    assert_eq!(run.state.apply_version(), APPLY_VERSION_MAX);
    for (to, now) in
        [(0, APPLY_VERSION_MAX), (1, APPLY_VERSION_MAX), (APPLY_VERSION_MAX + 1, APPLY_VERSION_MAX + 1)]
    {
        assert_eq!(run.apply(&txn(0, 0, Op::RaiseApplyVersion { to })), Outcome::Done);
        assert_eq!(run.state.apply_version(), now);
    }
    assert_eq!(run.apply(&txn(0, 0, create("/a", CreateMode::Persistent))), Outcome::Rejected);
    assert_eq!(run.state.applied(), Gsn(4));
}

/// Rules of version 1: what was logged before ACLs counted comes to what it came to then.
#[test]
fn by_the_first_rules_acls_do_not_count_and_nothing_newer_is_known() {
    let mut run = Run { state: State::by_rules(1), ..Run::default() };
    let (id, attach) = run.session();
    let closed = vec![acl(1, "digest", "nobody:h")];
    let mode = CreateMode::Persistent;
    run.apply(&txn(id, attach, Op::Create { path: "/a".into(), data: None, acl: closed.clone(), mode }));
    let set = Op::SetData { path: "/a".into(), data: None, version: -1 };
    assert!(matches!(run.apply(&txn(id, attach, set.clone())), Outcome::Set { .. }));
    let ttl = CreateTtl { path: "/t".into(), data: None, acl: world(31), sequential: false, ttl_ms: 1 };
    for op in [
        create("/c", CreateMode::Container),
        Op::CreateTtl(Box::new(ttl)),
        Op::SetAcl { path: "/a".into(), acl: closed, version: -1 },
        Op::Multi { parts: vec![] },
        Op::Sweep { nodes: vec![] },
    ] {
        assert_eq!(run.apply(&txn(id, attach, op.clone())), Outcome::Rejected, "{op:?}");
    }
    assert_eq!(run.apply(&txn(0, 0, Op::RaiseApplyVersion { to: 2 })), Outcome::Done);
    assert_eq!(run.apply(&txn(id, attach, set)), Outcome::Failed(ErrorCode::NoAuth));
    assert_eq!(run.apply(&txn(id, attach, Op::Multi { parts: vec![] })), Outcome::Multi(vec![]));
}

#[test]
#[should_panic(expected = "records are applied one after the other")]
fn a_skipped_record_is_our_own_mistake() {
    State::new().apply(Gsn(1), &[], &mut Vec::new());
}

/// What a random history does next. Sessions and versions are picked from what the model has by then.
#[derive(Clone, Debug)]
enum Step {
    New,
    Attach(Index),
    Touch(Vec<Index>),
    Expire(Index, bool, bool),
    /// A request over a connection, the newest ones most often; `None` for session 0. With what the connection
    /// has proved, and flags.
    Request(Option<Index>, Op, Vec<AuthId>, u8),
    /// Paths that are swept, each as it is, or with another zxid.
    Sweep(Vec<(String, bool)>),
    Bytes(Vec<u8>),
}

fn proofs() -> impl Strategy<Value = Vec<AuthId>> {
    let root = AuthId { scheme: "super".into(), id: String::new() };
    select(vec![vec![], vec![], vec![digest("me")], vec![digest("you"), digest("me")], vec![root]])
}

fn paths() -> impl Strategy<Value = String> {
    const GOOD: &[&str] =
        &["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/a/x/", "/zookeeper/k", "/a-", "/b/s-", "/zookeeper/quota"];
    const QUOTA: &[&str] = &[
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/x",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
        "/zookeeper/quota/a/x/zookeeper_limits",
        "/zookeeper/quota/a/x/zookeeper_stats",
        "/zookeeper/quota/zookeeper_limits",
        "/zookeeper/quota/zookeeper_stats",
    ];
    const BAD: &[&str] = &["", "/", "//", "a", "/a/.", "/none/x", "/a//x", "/zookeeper", "/a\u{1}"];
    prop_oneof![18 => select(GOOD), 5 => select(QUOTA), 2 => select(BAD)].prop_map(str::to_owned)
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    let quotas =
        ["count=2,bytes=5", "count=-1,bytes=-1=;byteHardLimit=302;countHardLimit=3", "count=1,bytes=-1"];
    let mut all = vec![None, Some(vec![]), Some(b"one".to_vec()), Some(b"two".to_vec()), Some(vec![7; 300])];
    all.extend(quotas.map(|q| Some(q.as_bytes().to_vec())));
    select(all)
}

fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, id: AuthId { scheme: scheme.into(), id: id.into() } }
}

fn digest(user: &str) -> AuthId {
    AuthId { scheme: "digest".into(), id: format!("{user}:h") }
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    let lists = vec![
        world(31),
        world(1),
        vec![],
        vec![acl(31, "digest", "me:h"), acl(1, "world", "anyone")],
        vec![acl(31, "digest", "me:h"), acl(14, "ip", "10.0.0.1")],
        vec![acl(30, "auth", "")],
        vec![acl(31, "nonsense", "x")],
    ];
    prop_oneof![3 => Just(world(31)), 2 => select(lists)]
}

fn modes() -> impl Strategy<Value = CreateMode> {
    use CreateMode::{
        Container, ContainerSequential, Ephemeral, EphemeralSequential, Persistent, PersistentSequential,
    };
    select(vec![
        Persistent,
        Persistent,
        Persistent,
        Ephemeral,
        PersistentSequential,
        EphemeralSequential,
        Container,
        ContainerSequential,
    ])
}

fn versions() -> impl Strategy<Value = i32> {
    select(vec![-1, -1, -1, 0, 1, 2, -2])
}

fn ttls() -> impl Strategy<Value = CreateTtl> {
    (paths(), data(), acls(), any::<bool>(), select(vec![1u64, 50, 0xff_ffff_ffff]))
        .prop_map(|(path, data, acl, sequential, ttl_ms)| CreateTtl { path, data, acl, sequential, ttl_ms })
}

fn parts() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => (paths(), data(), acls(), modes(), any::<bool>()).prop_map(|(path, data, acl, mode, with_stat)| {
            Part::Create { path, data, acl, mode, with_stat }
        }),
        1 => ttls().prop_map(Part::CreateTtl),
        3 => (paths(), versions()).prop_map(|(path, version)| Part::Delete { path, version }),
        3 => (paths(), data(), versions())
            .prop_map(|(path, data, version)| Part::SetData { path, data, version }),
        1 => (paths(), versions()).prop_map(|(path, version)| Part::Check { path, version }),
        1 => Just(Part::Refused { error: ErrorCode::Unimplemented.code() }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (paths(), data(), acls(), modes())
            .prop_map(|(path, data, acl, mode)| Op::Create { path, data, acl, mode }),
        2 => ttls().prop_map(|t| Op::CreateTtl(Box::new(t))),
        3 => (paths(), versions()).prop_map(|(path, version)| Op::Delete { path, version }),
        3 => (paths(), data(), versions())
            .prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        2 => (paths(), acls(), versions()).prop_map(|(path, acl, version)| Op::SetAcl { path, acl, version }),
        4 => prop::collection::vec(parts(), 0..6).prop_map(|parts| Op::Multi { parts }),
        1 => Just(Op::CloseSession),
        1 => Just(Op::Nothing),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::New),
        1 => any::<Index>().prop_map(Step::Attach),
        1 => prop::collection::vec(any::<Index>(), 0..4).prop_map(Step::Touch),
        2 => (any::<Index>(), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(i, attach, touch)| Step::Expire(i, attach, touch)),
        16 => (prop::option::weighted(0.9, any::<Index>()), ops(), proofs(), select(vec![0, 0, 1, 2]))
            .prop_map(|(c, op, ids, flags)| Step::Request(c, op, ids, flags)),
        2 => prop::collection::vec((paths(), prop::bool::weighted(0.8)), 0..5).prop_map(Step::Sweep),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
    ]
}

/// Flags and txn of a step; `connections` are all (session, attach) there ever were, dead and stale ones included.
fn resolve(step: &Step, model: &Model, connections: &[(i64, u64)]) -> Option<(u8, Txn)> {
    let pick = |i: &Index| *i.get(&connections[connections.len().saturating_sub(6)..]);
    let (wall, mut ids) = (WallMs(model.next * 20), vec![]);
    // Every second connection comes from somewhere.
    let address = |n: usize| AuthId { scheme: "ip".into(), id: format!("10.0.0.{}", n % 4) };
    let op = match step {
        Step::New => {
            ids.extend(Some(address(connections.len())).filter(|_| connections.len() % 2 == 1));
            Op::CreateSession { timeout_ms: 4000 }
        }
        Step::Bytes(_) => return None,
        Step::Sweep(nodes) => {
            let seen = |path: &String, right: bool| {
                let stat = model.stat(path).unwrap_or_default();
                let zxids = [stat.czxid, stat.mzxid + i64::from(!right), stat.pzxid];
                Sweeping { path: path.clone(), zxids }
            };
            Op::Sweep { nodes: nodes.iter().map(|(path, right)| seen(path, *right)).collect() }
        }
        Step::Request(None, op, ids, flags) => {
            return Some((*flags, Txn { wall, ids: ids.clone(), ..txn(0, 0, op.clone()) }));
        }
        _ if connections.is_empty() => Op::Nothing,
        Step::Request(Some(i), op, ids, flags) => {
            let (session, attach) = pick(i);
            return Some((*flags, Txn { wall, ids: ids.clone(), ..txn(session, attach, op.clone()) }));
        }
        Step::Attach(i) => {
            ids.push(address(model.next as usize));
            Op::Attach { session: pick(i).0, timeout_ms: 5000 + model.next as u32 }
        }
        Step::Touch(all) => Op::Touch { sessions: all.iter().map(pick).collect() },
        Step::Expire(i, right_attach, right_touch) => {
            let (session, attach) = pick(i);
            let now = model.sessions.get(&session).map_or((attach, 0), |s| (s.attach, s.touch));
            let attach = if *right_attach { now.0 } else { attach };
            Op::Expire { session, attach, touch: if *right_touch { now.1 } else { attach } }
        }
    };
    Some((0, Txn { wall, ids, ..txn(0, 0, op) }))
}

fn check_against_model(state: &State, model: &Model) {
    assert_eq!(state.znode_count(), model.nodes.len());
    for (path, node) in &model.nodes {
        let stat = model.stat(path).expect("the model has it");
        assert_eq!(state.get(path), Ok((node.data.as_deref(), stat)), "{path}");
        let (names, _) = state.children(path).expect("it is there");
        assert_eq!(names.len(), stat.num_children as usize);
        assert!(names.eq(model.children(path)), "children of {path}");
        let view = state.look(path).expect("it is there");
        assert_eq!(view.descendants(), model.below(path).len() as u64, "{path}");
        assert_eq!(view.acl(), node.acl, "{path}");
    }
    let sweepable = |(path, node): (&String, &model::MNode)| {
        let lives = match node.life {
            model::Life::Container => i64::MIN,
            model::Life::Ttl(ms) => node.stat.mtime + ms,
            model::Life::Long | model::Life::Session(_) => return None,
        };
        let unused = lives == i64::MIN && node.stat.czxid == node.stat.pzxid;
        (model.children(path).is_empty() && !unused && lives < i64::MAX - 1).then(|| path.clone())
    };
    let mut can: Vec<String> = state.to_sweep(u64::MAX, usize::MAX).into_iter().map(|c| c.path).collect();
    can.sort();
    let should: Vec<String> = model.nodes.iter().filter_map(sweepable).collect();
    assert_eq!(can, should, "what may be swept");
    assert_eq!(state.sessions().len(), model.sessions.len());
    let mut ephemerals = 0;
    for ((id, s), (want_id, want)) in state.sessions().zip(&model.sessions) {
        let have = (id, s.timeout_ms, s.attach.0, s.touch.0);
        let address = want.address.first().map(|a| a.id.clone());
        assert_eq!(s.address.map(|a| a.to_string()), address, "of session {id:#x}");
        assert_eq!(have, (*want_id, want.timeout_ms, want.attach, want.touch));
        assert_eq!(state.ephemerals(id), model.ephemerals(id));
        ephemerals += s.ephemeral_count();
    }
    assert_eq!(state.ephemeral_count(), ephemerals);
    let bytes = |(p, n): (&String, &model::MNode)| p.len() + n.data.as_ref().map_or(0, Vec::len);
    assert_eq!(state.data_bytes(), model.nodes.iter().map(bytes).sum::<usize>() as u64);
}

proptest! {
    /// Any history does what the rules say; the hash is that of what is stored; and a second state that gets
    /// the same records (at another alignment) agrees in everything: invariant ZK-5.
    #[test]
    fn histories_follow_the_model(steps in prop::collection::vec(steps(), 1..120)) {
        let (mut run, mut twin, mut model) = (Run::default(), Run::default(), Model::new());
        let mut connections: Vec<(i64, u64)> = Vec::new();
        let mut expected = Vec::new();
        for step in &steps {
            expected.clear();
            let (record, want) = match (step, resolve(step, &model, &connections)) {
                (_, Some((flags, txn))) => {
                    (encode_with(flags, &txn), model.apply(flags, &txn, &mut expected))
                }
                (Step::Bytes(bytes), None) => {
                    model.next += 1;
                    (bytes.clone(), Outcome::Rejected)
                }
                (step, None) => panic!("{step:?} is no txn"),
            };
            prop_assert_eq!(&run.apply_bytes(&record), &want, "{:?}", step);
            prop_assert_eq!(&run.changes, &expected);
            for change in &run.changes {
                if let Change::SessionAttached { session, attach } = change {
                    connections.push((*session, *attach));
                }
            }
            let shifted = [&[0xee][..], &record].concat();
            prop_assert_eq!(twin.apply_bytes(&shifted[1..]), want);
            prop_assert_eq!(&twin.changes, &run.changes);
            prop_assert_eq!(twin.state.hash(), run.state.hash());
            prop_assert_eq!(run.state.applied().0, model.next);
        }
        check_against_model(&run.state, &model);
    }

    /// SYS-1: a damaged record does something legal or nothing, the same everywhere, and never panics.
    #[test]
    fn damaged_records_are_applied_alike_or_rejected(
        steps in prop::collection::vec(
            (steps(), prop::collection::vec((any::<Index>(), any::<u8>()), 0..3)),
            1..40,
        ),
    ) {
        let (mut run, mut twin, model) = (Run::default(), Run::default(), Model::new());
        let mut connections = Vec::new();
        for (step, damage) in &steps {
            let Some((flags, txn)) = resolve(step, &model, &connections) else { continue };
            let mut record = encode_with(flags, &txn);
            for (at, with) in damage {
                let at = at.index(record.len());
                record[at] ^= with;
            }
            let (tree, sessions) = (run.state.tree.hash(), run.state.sessions.hash());
            let outcome = run.apply_bytes(&record);
            if outcome == Outcome::Rejected || outcome == Outcome::Stale {
                prop_assert_eq!((run.state.tree.hash(), run.state.sessions.hash()), (tree, sessions));
                prop_assert!(run.changes.is_empty());
            }
            if let Outcome::SessionCreated { session, .. } = outcome {
                connections.push((session, run.state.applied().0 - 1));
            }
            prop_assert_eq!(twin.apply_bytes(&record), outcome);
            prop_assert_eq!(twin.state.hash(), run.state.hash());
        }
    }

    /// A multi that fails leaves no trace, whatever it did before it failed, to nodes, sessions, quotas or to what
    /// may be swept; one that succeeds does what its parts do one by one.
    #[test]
    fn a_multi_is_all_or_nothing(
        before in prop::collection::vec(ops(), 0..25),
        parts in prop::collection::vec(parts(), 1..8),
        fails in any::<bool>(),
    ) {
        let mut run = Run::default();
        let (id, attach) = run.session();
        for op in &before {
            if !matches!(op, Op::CloseSession) {
                run.apply(&txn(id, attach, op.clone()));
            }
        }
        let good: Vec<Part> = parts.into_iter().filter(|p| !matches!(p, Part::Refused { .. })).collect();
        let mut all = good.clone();
        if fails {
            all.push(Part::Refused { error: ErrorCode::SystemError.code() });
        }
        let (tree, sweepable, ephemerals) =
            (run.state.tree.hash(), run.state.to_sweep(u64::MAX, 1000), run.state.ephemerals(id));
        let (bytes, acls) = (run.state.data_bytes(), run.state.tree.acl_count());
        match run.apply(&txn(id, attach, Op::Multi { parts: all })) {
            Outcome::MultiFailed { at, .. } => {
                prop_assert!(fails || at < good.len());
                prop_assert_eq!(run.state.tree.hash(), tree);
                prop_assert_eq!(run.state.to_sweep(u64::MAX, 1000), sweepable);
                prop_assert_eq!(run.state.ephemerals(id), ephemerals);
                prop_assert_eq!((run.state.data_bytes(), run.state.tree.acl_count()), (bytes, acls));
                prop_assert!(run.changes.is_empty());
            }
            Outcome::Multi(done) => prop_assert!(!fails && done.len() == good.len()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Different histories give different hashes: a change anywhere shows.
    #[test]
    fn a_difference_shows_in_the_hash(mut ops in prop::collection::vec(ops(), 2..20), at in any::<Index>()) {
        let run = |ops: &[Op]| {
            let mut run = Run::default();
            let (id, attach) = run.session();
            let outcomes: Vec<_> = ops.iter().map(|op| run.apply(&txn(id, attach, op.clone()))).collect();
            (outcomes, run.state.hash())
        };
        let whole = run(&ops);
        let at = at.index(ops.len());
        ops[at] = create("/difference", CreateMode::Persistent);
        let other = run(&ops);
        if whole.0 == other.0 {
            prop_assert_eq!(whole.1, other.1);
        } else if matches!(other.0[at], Outcome::Created { .. }) {
            // What fails in one way or in another leaves one state.
            prop_assert_ne!(whole.1, other.1);
        }
    }
}
