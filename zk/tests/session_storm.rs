//! What do twenty thousand sessions leave that begin and end, at once and over and over? Nothing: not in the node, not in
//! the replicated state.

mod common;

use common::{LIVE_BYTES, World};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zoolog_core::{ConnId, Input};
use zoolog_zk::jute::Request;
use zoolog_zk::txn::{Acl, AuthId};

/// Sessions at once.
const SESSIONS: u64 = 20_000;
/// Bytes that a connection may cost with its session and an ephemeral.
const OPEN_BYTES_MAX: usize = 3072;
/// Bytes that may stay of all of them: tables keep the room they had.
const LEFT_BYTES_MAX: usize = 8 << 20;

fn ephemeral(n: u64) -> Request<'static> {
    let acl = vec![Acl { perms: 31, id: AuthId { scheme: "world".into(), id: "anyone".into() } }];
    Request::Create { path: format!("/e{n}").into(), data: None, acl, flags: 1, with_stat: false }
}

/// Opens them all; how they end is up to the round: with a goodbye, by a broken connection, or in silence.
fn storm(world: &mut World, round: u64) -> usize {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let conns: Vec<ConnId> = (1..=SESSIONS).map(|n| world.connect(round * SESSIONS + n)).collect();
    world.turn();
    for (conn, n) in conns.iter().zip(0..) {
        world.request(*conn, 1, &ephemeral(n));
    }
    world.turn();
    let status = world.node.status();
    assert_eq!((status.sessions as u64, status.ephemerals as u64), (SESSIONS, SESSIONS));
    assert_eq!(status.connections as u64, SESSIONS);
    let open = LIVE_BYTES.load(Ordering::Relaxed) - before;
    for (conn, n) in conns.iter().zip(0..) {
        match (n + round) % 3 {
            0 => world.request(*conn, 2, &Request::CloseSession),
            1 => world.give(Input::Closed { conn: *conn }),
            _ => {}
        }
    }
    // For longer than their timeout.
    for _ in 0..50 {
        world.advance(Duration::from_secs(1));
    }
    open
}

#[test]
fn twenty_thousand_sessions_come_and_go_and_leave_nothing() {
    let mut world = World::new();
    world.closes = true;
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for round in 0..3 {
        let open = storm(&mut world, round) / SESSIONS as usize;
        println!("a session with a connection and an ephemeral takes {open} bytes");
        assert!(open <= OPEN_BYTES_MAX, "{open} bytes");
        let status = world.node.status();
        assert_eq!((status.sessions, status.ephemerals, status.connections), (0, 0, 0));
        let left = LIVE_BYTES.load(Ordering::Relaxed) - before;
        println!("{left} bytes are left of all");
        assert!(left <= LEFT_BYTES_MAX, "{left} bytes after round {round}");
    }
    assert_eq!(world.node.state().hash(), world.node.state().hash_from_scratch());
}
