//! What does a watch cost? A million of them on one node, by the bytes that are allocated for them; firing and forgetting
//! them gives all of it back.

mod common;

use common::{LIVE_BYTES, World};
use std::sync::atomic::Ordering;
use zoolog_core::{ConnId, Input};
use zoolog_zk::jute::{Request, SetWatches};

/// Watches on the node.
const WATCHES: usize = 1_000_000;
/// Paths in one `setWatches`: what fits a frame.
const PACKET: usize = 20_000;
/// Bytes that each may take beside its path, which is kept once per table.
const BYTES_MAX: usize = 130;
/// The same when many connections watch one path.
const SHARED_BYTES_MAX: usize = 60;

fn path(n: usize) -> String {
    format!("/watched/by/somebody/{n:08}")
}

/// A connection leaves so many watches on nodes that are not there, or are, in as few requests as fit.
fn watch(world: &mut World, conn: ConnId, from: usize, count: usize) {
    for at in (from..from + count).step_by(PACKET) {
        let exist = (at..(at + PACKET).min(from + count)).map(|n| path(n).into()).collect();
        let set = SetWatches { relative_zxid: 0, data: vec![], exist, child: vec![] };
        let before = world.node.status().watches;
        world.request(conn, -8, &Request::SetWatches(set));
        world.turn();
        // Many are set in steps, in turns that come soon.
        let all = before + PACKET.min(from + count - at);
        for _ in 0..PACKET {
            if world.node.status().watches == all {
                break;
            }
            world.advance(std::time::Duration::from_micros(10));
        }
        assert_eq!(world.node.status().watches, all);
    }
}

/// Until what is forgotten in steps is forgotten.
fn tidy(world: &mut World) {
    for _ in 0..1000 {
        world.advance(std::time::Duration::from_millis(1));
    }
}

fn live() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

// One test: another one beside it would be counted as well.
#[test]
fn a_million_watches_take_bounded_memory_and_give_it_back() {
    let mut world = World::new();
    world.closes = true;
    let conns: Vec<ConnId> = (1..=1000).map(|n| world.connect(n)).collect();
    world.turn();
    let before = live();

    // All of one connection.
    watch(&mut world, conns[0], 0, WATCHES);
    assert_eq!(world.node.status().watches, WATCHES);
    let each = (live() - before) / WATCHES - path(0).len();
    println!("a watch of one connection takes {each} bytes beside its path");
    assert!(each <= BYTES_MAX, "{each} bytes");
    world.give(Input::Closed { conn: conns[0] });
    world.turn();
    assert!(world.node.status().watches > 0, "a million are not forgotten in one turn");
    tidy(&mut world);
    assert_eq!(world.node.status().watches, 0);
    println!("{} bytes are left", live().saturating_sub(before));
    assert!(live() < before + (1 << 20));

    // A thousand of each of a thousand, each on paths of its own.
    let before = live();
    for (i, conn) in conns[1..].iter().enumerate() {
        watch(&mut world, *conn, i * 1000, 1000);
    }
    let each = (live().saturating_sub(before)) / (999 * 1000);
    println!("a watch of one of many takes {each} bytes, its path included");
    assert!(each <= BYTES_MAX + path(0).len(), "{each} bytes");
    for conn in &conns[1..] {
        world.give(Input::Closed { conn: *conn });
    }
    tidy(&mut world);
    assert_eq!(world.node.status().watches, 0);

    // A thousand connections on the same thousand paths.
    let conns: Vec<ConnId> = (2001..=3000).map(|n| world.connect(n)).collect();
    world.turn();
    let before = live();
    for conn in &conns {
        watch(&mut world, *conn, 0, 1000);
    }
    let each = (live() - before) / WATCHES;
    println!("a watch on a path that a thousand watch takes {each} bytes");
    assert!(each <= SHARED_BYTES_MAX, "{each} bytes");
    assert_eq!(world.node.status().watches, WATCHES);
}
