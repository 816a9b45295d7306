//! What was in one state is in another as it was: versions, counters, lifetimes, and what rests on them.

use super::*;
use crate::txn::ImportedNode;

/// Every node but the service's own, parents first.
fn export(state: &State, path: &str, out: &mut Vec<ImportedNode>) {
    let node = state.look(path).unwrap();
    if path != "/zookeeper" && path != "/zookeeper/config" && path != "/zookeeper/quota" {
        out.push(node.export(path));
    }
    for name in node.children().map(str::to_owned).collect::<Vec<_>>() {
        export(state, &format!("{}/{name}", path.trim_end_matches('/')), out);
    }
}

/// What a client sees of it that is carried over.
fn seen(state: &State) -> Vec<(ImportedNode, Stat)> {
    let mut all = Vec::new();
    export(state, "/", &mut all);
    let stat = |n: &ImportedNode| Stat { czxid: 0, mzxid: 0, pzxid: 0, ..state.stat(&n.path).unwrap() };
    all.into_iter().map(|n| (n.clone(), stat(&n))).collect()
}

fn import(run: &mut Run, nodes: Vec<ImportedNode>) -> Outcome {
    run.apply(&txn(0, 0, Op::Import { nodes }))
}

fn full() -> Run {
    let mut run = Run::default();
    let closed = vec![crate::txn::Acl {
        perms: perms::READ,
        id: AuthId { scheme: "digest".into(), id: "me:x".into() },
    }];
    for op in [
        create("/a", CreateMode::Persistent),
        create("/a/s-", CreateMode::PersistentSequential),
        create("/a/s-", CreateMode::PersistentSequential),
        Op::Delete { path: "/a/s-0000000000".into(), version: -1 },
        Op::SetData { path: "/a".into(), data: Some(b"x".to_vec()), version: 0 },
        Op::SetData { path: "/a".into(), data: Some(b"xyz".to_vec()), version: 1 },
        create("/box", CreateMode::Container),
        create("/box/in", CreateMode::Persistent),
        Op::SetAcl { path: "/a/s-0000000001".into(), acl: closed, version: 0 },
        create("/zookeeper/quota/a", CreateMode::Persistent),
        Op::Create {
            path: "/zookeeper/quota/a/zookeeper_limits".into(),
            data: Some(b"count=10,bytes=-1".to_vec()),
            acl: world(perms::ALL),
            mode: CreateMode::Persistent,
        },
        create("/zookeeper/quota/a/zookeeper_stats", CreateMode::Persistent),
    ] {
        let done = run.apply(&txn(0, 0, op));
        assert!(matches!(done, Outcome::Created { .. } | Outcome::Set { .. } | Outcome::Deleted), "{done:?}");
    }
    let ttl =
        CreateTtl { path: "/t".into(), data: None, acl: world(perms::ALL), sequential: false, ttl_ms: 5000 };
    run.apply(&txn(0, 0, Op::CreateTtl(Box::new(ttl))));
    run
}

#[test]
fn a_service_that_is_brought_over_is_the_same_and_goes_on_the_same() {
    let mut from = full();
    let all: Vec<ImportedNode> = seen(&from.state).into_iter().map(|n| n.0).collect();
    let mut to = Run::default();
    assert_eq!(import(&mut to, all[..4].to_vec()), Outcome::Done);
    assert_eq!(import(&mut to, all[4..].to_vec()), Outcome::Done);
    assert_eq!(seen(&to.state), seen(&from.state));
    assert_eq!(to.state.data_bytes(), from.state.data_bytes());
    let next = txn(0, 0, create("/a/s-", CreateMode::PersistentSequential));
    for run in [&mut from, &mut to] {
        let done = run.apply(&next);
        assert!(matches!(&done, Outcome::Created { path, .. } if path == "/a/s-0000000002"), "{done:?}");
    }
    assert_eq!(seen(&to.state), seen(&from.state), "quotas count on, too");
    assert!(to.state.has_quotas() && to.state.has_sweepable());
    // Once more into the same: nothing but times of change moves.
    let again = seen(&to.state).into_iter().map(|n| n.0).collect();
    let before = seen(&to.state);
    import(&mut to, again);
    assert_eq!(seen(&to.state), before);
}

#[test]
fn watchers_hear_of_what_is_imported() {
    let mut run = full();
    let mut node = run.state.look("/a").unwrap().export("/a");
    node.data = None;
    let new = ImportedNode { path: "/new".into(), ..node.clone() };
    import(&mut run, vec![node, new]);
    let paths: Vec<_> = run.changes.iter().map(|c| format!("{c:?}")).collect();
    assert!(
        paths[0].starts_with("DataChanged { path: \"/a\"")
            && paths[1].starts_with("Created { path: \"/new\"")
    );
}

/// ZK-5: what can't be is left out, alike on every node; what makes no sense takes its place and does nothing.
#[test]
fn impossible_imports_change_nothing() {
    let mut run = full();
    let (session, attach) = run.session();
    run.apply(&txn(session, attach, create("/e", CreateMode::Ephemeral)));
    let node = run.state.look("/a").unwrap().export("/a");
    for path in [
        "",
        "x",
        "/no/parent",
        "/a/",
        "/a//b",
        "/zookeeper",
        "/zookeeper/config",
        "/zookeeper/x",
        "/e",
        "/e/x",
    ] {
        let before = run.state.znode_count();
        let wrong = ImportedNode { path: path.into(), ..node.clone() };
        assert_eq!(import(&mut run, vec![wrong]), Outcome::Done, "{path}");
        assert!(run.changes.is_empty() && run.state.znode_count() == before, "{path}");
    }
    let bad_acl = vec![crate::txn::Acl { perms: 1, id: AuthId { scheme: "auth".into(), id: String::new() } }];
    for wrong in [
        ImportedNode { owner: session, ..node.clone() },
        ImportedNode { owner: -5, ..node.clone() },
        ImportedNode { acl: bad_acl, ..node.clone() },
    ] {
        assert_eq!(import(&mut run, vec![node.clone(), wrong]), Outcome::Rejected);
        assert!(run.changes.is_empty());
    }
    let mut old = Run { state: State::by_rules(2), ..Run::default() };
    assert_eq!(import(&mut old, vec![node]), Outcome::Rejected);
}
