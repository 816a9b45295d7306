//! What does a znode cost in memory? All allocations of a state are counted, as an allocator rounds them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use zoolog_core::WallMs;
use zoolog_zk::state::{State, encode};
use zoolog_zk::txn::{Acl, AuthId, CreateMode, Op, Txn};

/// Bytes in use, each block with a header of 8 and rounded up to 16, as common allocators do.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn real(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

// SAFETY: passes everything on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(real(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(real(layout.size()), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ZNODES: usize = 100_000;
const DATA: [u8; 100] = [7; 100];

/// Bytes per znode beyond its name and data, with that many children per parent.
fn bytes_each(children: usize) -> usize {
    let before = IN_USE.load(Ordering::Relaxed);
    let (mut state, mut names) = (State::new(), 0);
    for i in 0..ZNODES {
        let parent = i / children * children;
        let name = format!("node-{i:010}");
        let path = if i == parent { format!("/{name}") } else { format!("/node-{parent:010}/{name}") };
        names += name.len();
        let id = AuthId { scheme: "world".into(), id: "anyone".into() };
        let (data, acl) = (Some(DATA.to_vec()), vec![Acl { perms: 31, id }]);
        let op = Op::Create { path, data, acl, mode: CreateMode::Persistent };
        let record = encode(&Txn { session: 0, attach: 0, wall: WallMs(1), ids: vec![], op });
        state.apply(state.applied(), &record, &mut Vec::new());
    }
    assert_eq!(state.znode_count(), ZNODES + 4);
    let used = IN_USE.load(Ordering::Relaxed) - before;
    (used - names - ZNODES * DATA.len()) / ZNODES
}

// One test: another one beside it would be counted as well.
#[test]
fn a_znode_costs_at_most_250_bytes_beyond_its_name_and_data() {
    for children in [1, 2, 3, 10, 1000, ZNODES] {
        let each = bytes_each(children);
        assert!(each <= 250, "{each} bytes each, {children} under a parent");
    }
}
