//! What does a session cost that has nothing to do? Everything that the node's machine allocates for it is counted.

mod common;

use common::{LIVE_BYTES, World};
use std::sync::atomic::Ordering;
use zoolog_core::ConnId;
use zoolog_zk::jute::Request;

/// Sessions that are opened.
const SESSIONS: usize = 800;
/// Bytes that each may cost while it is idle, its place in the replicated state included.
const IDLE_BYTES_MAX: usize = 2048;

fn check(world: &World, before: usize, when: &str) {
    let each = (LIVE_BYTES.load(Ordering::Relaxed) - before) / SESSIONS;
    println!("an idle session takes {each} bytes {when}");
    assert!(each <= IDLE_BYTES_MAX, "an idle session takes {each} bytes {when}");
    assert_eq!(world.node.status().sessions, SESSIONS);
}

#[test]
fn an_idle_session_costs_less_than_2_kib_before_and_after_a_burst() {
    let mut world = World::new();
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let conns: Vec<ConnId> = (1..=SESSIONS as u64).map(|n| world.connect(n)).collect();
    world.turn();
    world.idle(&conns);
    check(&world, before, "that has never done anything");

    let data = [7; 2000];
    let path = || "/busy".to_string().into();
    for (i, conn) in conns.iter().enumerate() {
        if i == 0 {
            let acl = vec![zoolog_zk::txn::Acl {
                perms: 31,
                id: zoolog_zk::txn::AuthId { scheme: "world".into(), id: "anyone".into() },
            }];
            let create = Request::Create { path: path(), data: None, acl, flags: 0, with_stat: false };
            world.request(*conn, 1, &create);
        }
        for xid in 2..200 {
            if xid % 2 == 0 {
                let set = Request::SetData { path: path(), data: Some(&data), version: -1 };
                world.request(*conn, xid, &set);
            } else {
                world.request(*conn, xid, &Request::GetData { path: path(), watch: false });
            }
        }
        world.turn();
    }
    assert_eq!(world.node.status().outstanding, 0);
    assert!(world.sent_bytes > SESSIONS * 90 * data.len(), "{} bytes of answers", world.sent_bytes);
    world.idle(&conns);
    check(&world, before, "after a burst");
}
