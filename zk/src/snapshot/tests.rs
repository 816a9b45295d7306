//! What a corrupted file comes to, what strangers are told, and that the bytes stay what they are.

use super::*;
use crate::jute::codes::perms;
use crate::state::{APPLY_VERSION_MAX, encode};
use crate::tree::world;
use crate::txn::{Acl, AuthId, CreateMode, CreateTtl, ImportedNode, Op, Txn};
use proptest::prelude::*;
use proptest::sample::Index;
use zoolog_core::snapshot::{Framer, SnapshotError, Unframer};
use zoolog_core::{ClusterId, WallMs};

const CLUSTER: ClusterId = ClusterId(5);

fn apply(state: &mut State, session: i64, attach: u64, op: Op) {
    let record = encode(&Txn { session, attach, wall: WallMs(1000), ids: vec![], op });
    state.apply(state.applied(), &record, &mut Vec::new());
}

fn create(path: &str, data: &[u8], perms: i32, mode: CreateMode) -> Op {
    Op::Create { path: path.into(), data: Some(data.into()), acl: world(perms), mode }
}

/// Nodes with and without data, ACLs and sessions, and holes between the slots.
fn some_state() -> State {
    let mut state = State::new();
    apply(&mut state, 0, 0, Op::CreateSession { timeout_ms: 4000 });
    let session = state.sessions().next().expect("just made").0;
    for i in 0..40 {
        let perms = [perms::ALL, perms::READ, perms::WRITE][i % 3];
        apply(
            &mut state,
            0,
            0,
            create(&format!("/n{}", i * 7 % 40), &[1; 20], perms, CreateMode::Persistent),
        );
        apply(&mut state, session, 0, create(&format!("/e{i}"), b"", perms::ALL, CreateMode::Ephemeral));
    }
    for i in 0..20 {
        apply(&mut state, 0, 0, Op::Delete { path: format!("/n{}", i * 2), version: -1 });
    }
    // Places are used again, so that some of these lie before their parents.
    let mut path = String::new();
    for _ in 0..10 {
        path.push_str("/d");
        apply(&mut state, 0, 0, create(&path, b"x", perms::ALL, CreateMode::Persistent));
    }
    state
}

fn file(state: &mut State, pace: Pace) -> Vec<u8> {
    let mut taking = Taking::begin(state, CLUSTER, pace);
    let mut file = Vec::new();
    loop {
        let (bytes, last) = taking.next(state);
        file.extend_from_slice(&bytes);
        if last {
            return file;
        }
    }
}

/// Both ways, which must come to the same, to the letter.
fn load(bytes: &[u8], chunk: usize) -> Result<State, SnapshotError> {
    let alone = {
        let mut loader = Loader::new(CLUSTER);
        let pushed = bytes.chunks(chunk).try_for_each(|chunk| loader.push(chunk));
        pushed.and_then(|()| loader.finish())
    };
    let makers = 1 + chunk % 3;
    let together = load_together(CLUSTER, makers, |sink| {
        bytes.chunks(chunk).try_for_each(sink).map_err(|e| e.to_string())
    });
    match (&alone, &together) {
        (Ok(alone), Ok(together)) => {
            let what =
                |state: &State| (state.applied(), state.hash(), state.data_bytes(), state.znode_count());
            assert_eq!(what(alone), what(together));
            assert_eq!(together.hash(), together.hash_from_scratch());
        }
        _ => assert_eq!(alone.as_ref().err().map(ToString::to_string), together.err()),
    }
    alone
}

/// The payloads of a file's pieces.
fn payloads(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut frame, mut all) = (Unframer::new(CLUSTER), Vec::new());
    let each = |payload: &[u8], _| {
        all.push(payload.to_vec());
        Ok(())
    };
    frame.push(file, each).expect("a good file");
    all
}

/// A file of those pieces, whose checksums are right.
fn framed(payloads: &[Vec<u8>], gsn: Gsn) -> Vec<u8> {
    let mut out = Vec::new();
    let mut framer = Framer::begin(&mut out, CLUSTER, gsn);
    for (i, payload) in payloads.iter().enumerate() {
        framer.piece(&mut out, i + 1 == payloads.len(), |out| out.extend_from_slice(payload));
    }
    out
}

#[test]
fn a_state_comes_back_whole_and_goes_on_as_before() {
    let mut state = some_state();
    let bytes = file(&mut state, Pace { piece_bytes: 300, piece_slots: 3 });
    assert_eq!(
        file(&mut state, Pace { piece_bytes: 300, piece_slots: 3 }),
        bytes,
        "nothing of it stays behind"
    );
    let mut back = load(&bytes, 77).expect("a good file");
    for round in 0..100 {
        assert_eq!((back.applied(), back.hash()), (state.applied(), state.hash()), "round {round}");
        assert_eq!((back.data_bytes(), back.znode_count()), (state.data_bytes(), state.znode_count()));
        for state in [&mut state, &mut back] {
            match round % 3 {
                0 => apply(
                    state,
                    0,
                    0,
                    create(&format!("/x{round}"), b"x", 7, CreateMode::PersistentSequential),
                ),
                1 => apply(state, 0, 0, Op::Delete { path: format!("/n{round}"), version: -1 }),
                _ => apply(state, 0, 0, Op::SetData { path: "/n1".into(), data: None, version: -1 }),
            }
        }
    }
    let session = state.sessions().next().expect("it lives").0;
    assert_eq!(back.ephemerals(session), state.ephemerals(session));
    for state in [&mut state, &mut back] {
        apply(state, session, 0, Op::CloseSession);
        assert_eq!((state.ephemeral_count(), state.hash()), (0, state.hash_from_scratch()));
    }
    assert_eq!(back.hash(), state.hash());
}

#[test]
fn a_new_service_has_a_snapshot_too() {
    let mut state = State::new();
    let bytes = file(&mut state, Pace::default());
    let back = load(&bytes, 10_000).expect("a good file");
    assert_eq!((back.hash(), back.applied(), back.hash_from_scratch()), (state.hash(), Gsn(0), state.hash()));
}

#[test]
fn many_sessions_and_acls_are_cut_into_pieces() {
    let mut state = State::new();
    for i in 0..500 {
        apply(&mut state, 0, 0, Op::CreateSession { timeout_ms: 4000 + i });
        let acl = world(1 + (i as i32 % 30));
        let op = Op::Create { path: format!("/{i}"), data: None, acl, mode: CreateMode::Persistent };
        apply(&mut state, 0, 0, op);
    }
    let bytes = file(&mut state, Pace { piece_bytes: 100, piece_slots: 10 });
    let pieces = payloads(&bytes);
    assert!(pieces.iter().all(|p| p.len() < 300) && pieces.len() > 150, "{}", pieces.len());
    let back = load(&bytes, 1 << 20).expect("a good file");
    assert_eq!((back.hash(), back.sessions().len()), (state.hash(), 500));
    assert_eq!(back.hash_from_scratch(), state.hash());
}

#[test]
fn a_snapshot_by_rules_that_this_build_does_not_know_is_refused() {
    let mut state = some_state();
    apply(&mut state, 0, 0, Op::RaiseApplyVersion { to: APPLY_VERSION_MAX + 1 });
    let bytes = file(&mut state, Pace::default());
    let error = load(&bytes, 1000).expect_err("unknown rules").to_string();
    assert!(error.contains("newer than this build's"), "{error}");
}

#[test]
fn what_makes_no_sense_is_told_apart() {
    let mut state = some_state();
    let good = payloads(&file(&mut state, Pace::default()));
    let gsn = state.applied();
    assert!(load(&framed(&good, gsn), 1000).is_ok());
    let wrong = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut pieces = good.clone();
        change(&mut pieces);
        load(&framed(&pieces, gsn), 1000).expect_err("it makes no sense").to_string()
    };
    let kind = |k: u8| good.iter().position(|p| p[0] == k).expect("there is one");
    let (sessions, nodes, foot) = (kind(kind::SESSIONS), kind(kind::NODES), kind(kind::FOOT));
    for (about, text) in [
        ("not in its place", wrong(&|p| drop(p.remove(0)))),
        ("not in its place", wrong(&|p| p.swap(0, 1))),
        ("not in its place", wrong(&|p| drop(p.pop()))),
        ("unknown kind", wrong(&|p| p[1][0] = 9)),
        ("an empty piece", wrong(&|p| p[1].clear())),
        ("its hash is", wrong(&|p| p[foot][1] ^= 1)),
        ("sessions and ACLs, not", wrong(&|p| p[foot][9] ^= 1)),
        ("sessions and ACLs, not", wrong(&|p| p[0][5] ^= 1)),
        ("too long", wrong(&|p| p[0].push(0))),
        ("a session is cut off", wrong(&|p| p[sessions].push(0))),
        ("session", wrong(&|p| p[sessions][1] ^= 1)),
        ("a node's bytes make no sense", wrong(&|p| p[nodes].push(0))),
        ("should be the root", wrong(&|p| p[nodes][5] = 1)),
    ] {
        assert!(text.contains(about), "{about}: {text}");
    }
    let other_place = load(&framed(&good, gsn.next()), 1000).expect_err("another position").to_string();
    assert!(other_place.contains("its hash is"), "{other_place}");
}

/// Node `slot` with that parent, all else being empty.
fn node(slot: u32, parent: u32, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 84];
    bytes[..4].copy_from_slice(&slot.to_le_bytes());
    bytes[4..8].copy_from_slice(&parent.to_le_bytes());
    bytes[12..16].copy_from_slice(&(name.len() as u32).to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

#[test]
fn nodes_that_form_no_tree_are_an_error() {
    let root = node(0, 0, "");
    for (about, nodes) in [
        ("no root", vec![]),
        ("no root", vec![node(1, 1, "")]),
        ("below themselves", vec![root.clone(), node(1, 2, "a"), node(2, 1, "b")]),
        ("below themselves", vec![root.clone(), node(1, 1, "a")]),
        ("parent is missing", vec![root.clone(), node(5, 4, "a")]),
        ("parent is missing", vec![root.clone(), node(1, 2, "a")]),
        ("order of their slots", vec![root.clone(), node(1, 0, "a"), node(1, 0, "b")]),
        ("its hash is", vec![root.clone(), node(7, 9, "a"), node(9, 0, "b")]),
    ] {
        let count = nodes.len() as u64;
        let counts = [count, 0, 0].map(u64::to_le_bytes);
        let head = [&[kind::HEAD, 1, 0, 0, 0], counts.as_flattened()].concat();
        let foot = [&[kind::FOOT], [[0; 8]].as_flattened(), counts.as_flattened()].concat();
        let body = [vec![kind::NODES], nodes.concat()].concat();
        let error = load(&framed(&[head, body, foot], Gsn(3)), 100).expect_err(about).to_string();
        assert!(error.contains(about), "{about}: {error}");
    }
}

/// The bytes on disk are for ever: if this fails, raise the version and keep reading the old one.
/// By the rules of then, whose number is among the bytes.
#[test]
fn a_snapshot_has_its_golden_bytes() {
    let mut state = State::by_rules(2);
    apply(&mut state, 0, 0, Op::CreateSession { timeout_ms: 4000 });
    apply(&mut state, 0, 0, create("/a", b"data", perms::READ, CreateMode::Persistent));
    let bytes = file(&mut state, Pace::default());
    assert_eq!((bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)), GOLDEN);
}

const GOLDEN: (usize, u64) = (730, 3_981_088_295_259_303_661);

/// The same by the rules of version 3, with everything that such a state can hold: sessions from anywhere, nodes of every
/// kind of life, some of them imported, with ACLs of several entries, null data and data of no length, and holes.
#[test]
fn a_snapshot_of_every_kind_of_thing_has_its_golden_bytes_and_is_read() {
    let mut state = State::by_rules(3);
    for address in [None, Some("10.1.2.3"), Some("fe80::1")] {
        let ids = address.map(|a| AuthId { scheme: "ip".into(), id: a.into() }).into_iter().collect();
        let op = Op::CreateSession { timeout_ms: 4000 };
        let record = encode(&Txn { session: 0, attach: 0, wall: WallMs(1000), ids, op });
        state.apply(state.applied(), &record, &mut Vec::new());
    }
    let (session, attach) = state.sessions().map(|(id, s)| (id, s.attach.0)).next().expect("just made");
    apply(&mut state, session, attach, create("/e", b"", perms::ALL, CreateMode::Ephemeral));
    for (path, mode) in [("/c", CreateMode::Container), ("/s-", CreateMode::PersistentSequential)] {
        apply(&mut state, 0, 0, create(path, b"data", perms::READ, mode));
    }
    let ttl = CreateTtl { path: "/t".into(), data: None, acl: world(31), sequential: false, ttl_ms: 5000 };
    apply(&mut state, 0, 0, Op::CreateTtl(Box::new(ttl)));
    apply(&mut state, 0, 0, create("/gone", b"x", perms::ALL, CreateMode::Persistent));
    apply(&mut state, 0, 0, create("/limits", b"x", perms::ALL, CreateMode::Persistent));
    apply(&mut state, 0, 0, Op::Delete { path: "/gone".into(), version: -1 });
    let digest = Acl { perms: 3, id: AuthId { scheme: "digest".into(), id: "a:b".into() } };
    let imported = ImportedNode {
        path: "/i".into(),
        data: Some(vec![7; 10]),
        acl: vec![digest, world(perms::READ).remove(0)],
        owner: 0,
        created: 12,
        versions: [3, 4],
        times: [50, 60],
    };
    apply(&mut state, 0, 0, Op::Import { nodes: vec![imported] });
    assert_eq!((state.znode_count(), state.sessions().len()), (4 + 6, 3), "everything was done");
    let bytes = file(&mut state, Pace::default());
    assert_eq!((bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)), GOLDEN_3);
    let back = load(&bytes, 100).expect("it is read");
    assert_eq!((back.hash(), back.apply_version()), (state.hash(), 3));
    assert_eq!(back.hash(), back.hash_from_scratch());
}

const GOLDEN_3: (usize, u64) = (1328, 6_093_292_170_886_273_726);

/// Snapshots taken before sessions had addresses, by the rules of then.
#[test]
fn sessions_without_addresses_are_read_too() {
    let mut old = State::by_rules(1);
    apply(&mut old, 0, 0, Op::CreateSession { timeout_ms: 4000 });
    apply(&mut old, 0, 0, create("/a", b"data", perms::READ, CreateMode::Persistent));
    let mut pieces = payloads(&file(&mut old, Pace::default()));
    let sessions = pieces.iter_mut().find(|p| p[0] == kind::SESSIONS).expect("there is one");
    sessions[0] = kind::OLD_SESSIONS;
    sessions.truncate(1 + 28);
    let bytes = framed(&pieces, old.applied());
    assert_eq!(
        (bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)),
        OLD_GOLDEN,
        "as this build's predecessors wrote it"
    );
    let state = load(&bytes, 100).expect("it is still read");
    assert_eq!((state.hash(), state.apply_version()), (old.hash(), 1));
}

const OLD_GOLDEN: (usize, u64) = (713, 8_330_007_644_561_416_907);

proptest! {
    /// A changed file is an error, whether or not its checksums were made to fit; never a panic, never another
    /// state.
    #[test]
    fn a_changed_file_is_an_error(
        flips in prop::collection::vec((any::<Index>(), any::<Index>(), 1..=255u8), 1..4),
        chunk in 1..3000usize,
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut state = some_state();
        let good = file(&mut state, Pace { piece_bytes: 1000, piece_slots: 100 });
        let mut raw = good.clone();
        for (at, _, with) in &flips {
            let at = at.index(raw.len());
            raw[at] ^= with;
        }
        if let Some(at) = &cut {
            raw.truncate(at.index(raw.len()));
        }
        if raw != good {
            prop_assert!(load(&raw, chunk).is_err());
        }
        let before = payloads(&good);
        let mut pieces = before.clone();
        for (piece, at, with) in &flips {
            let piece = piece.index(pieces.len());
            let at = at.index(pieces[piece].len());
            pieces[piece][at] ^= with;
        }
        if let Some(piece) = &cut {
            pieces.remove(piece.index(pieces.len()));
        }
        let loaded = load(&framed(&pieces, state.applied()), chunk);
        // What names a slot or an ACL in the file means nothing outside it: such a change may not matter.
        prop_assert!(loaded.is_err() || pieces == before || loaded.is_ok_and(|s| s.hash() == state.hash()));
    }

    #[test]
    fn garbage_is_an_error(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
        kinds in prop::collection::vec(0..7u8, 5),
    ) {
        let mut pieces = pieces;
        for (piece, kind) in pieces.iter_mut().zip(kinds) {
            piece.insert(0, kind);
        }
        prop_assert!(load(&framed(&pieces, Gsn(1)), 100).is_err());
    }
}
