//! Does what comes from outside stay bounded, and harmless?

use super::world::*;
use crate::jute::{ErrorCode, Request};
use proptest::prelude::*;
use zoolog_client::{DiskRoom, LogEvent, SharedLog};
use zoolog_core::limits::OUT_BYTES_PAUSE;

#[test]
pub(super) fn connections_beyond_the_limit_per_address_are_closed_at_once() {
    let mut w = World::new(0);
    w.cfg.max_connections_per_ip = 2;
    w.start(10);
    let (a, _) = w.connect(0);
    w.connect(0);
    let c = w.dial(0);
    assert!(w.is_closed(c));
    w.hang_up(a);
    w.connect(0);
}

#[test]
pub(super) fn a_session_with_too_much_pending_is_paused_and_resumed_at_half() {
    let mut w = World::new(0);
    w.cfg.max_pending_requests = 10;
    w.start(1000);
    let (c, _) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    for i in 0..11 {
        assert!(!w.is_paused(c));
        w.send(c, i + 1, &create(&format!("/n{i}"), 0));
    }
    assert!(w.is_paused(c));
    w.hub.borrow_mut().commit(5);
    w.run();
    assert!(w.is_paused(c));
    w.hub.borrow_mut().commit(1);
    w.run();
    assert!(!w.is_paused(c));
    assert_eq!(w.got(c).len(), 6);
}

#[test]
pub(super) fn when_all_together_have_too_much_pending_those_with_most_are_paused() {
    let mut w = World::new(0);
    w.cfg.max_frame_bytes = 1000;
    w.cfg.max_pending_bytes = 10_000;
    w.cfg.max_pending_bytes_of_all = 12_000;
    w.start(1000);
    let [a, b, c, d] = [(); 4].map(|()| w.connect(0).0);
    w.hub.borrow_mut().hold = true;
    let send =
        |w: &mut World, who, n: usize| (0..n).for_each(|i| w.send(who, i as i32 + 1, &set("/", &[1; 400])));
    // Each of these counts some 570.
    send(&mut w, a, 14);
    send(&mut w, b, 6);
    send(&mut w, c, 1);
    assert!([a, b, c].iter().all(|x| !w.is_paused(*x)), "each has less than one may have, and all than all");
    send(&mut w, d, 1);
    assert_eq!([a, b, c, d].map(|x| w.is_paused(x)), [true, true, false, false]);
    // Those with little go on until they have as much as the others may.
    send(&mut w, d, 4);
    assert!(!w.is_paused(d));
    send(&mut w, d, 1);
    assert!(w.is_paused(d));
    w.hub.borrow_mut().hold = false;
    let commit = |w: &mut World| {
        w.hub.borrow_mut().commit(100);
        w.run();
    };
    commit(&mut w);
    assert!([a, b, c, d].iter().all(|x| !w.is_paused(*x)));
    assert_eq!([a, b, c, d].map(|x| w.got(x).len()), [14, 6, 1, 6]);
    // Who goes takes what was his with him.
    w.hub.borrow_mut().hold = true;
    send(&mut w, a, 16);
    send(&mut w, b, 6);
    assert_eq!([a, b].map(|x| w.is_paused(x)), [true, false]);
    w.hang_up(a);
    send(&mut w, b, 10);
    assert!(!w.is_paused(b));
}

#[test]
pub(super) fn who_goes_on_sending_while_paused_is_closed_in_the_end() {
    let mut w = World::new(0);
    w.cfg.max_pending_requests = 10;
    w.start(1000);
    let (c, _) = w.connect(0);
    w.hub.borrow_mut().hold = true;
    for i in 0..700 {
        w.put_request(c, i + 1, &create("/n", 0));
    }
    w.run();
    assert!(w.is_closed(c));
}

static BIG: [u8; 500_000] = [7; 500_000];

/// A client that asked for twenty long answers in one turn: the client, and how many it got in that turn.
fn twenty_long_reads() -> (World, usize, usize) {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    static BIG: [u8; 500_000] = [7; 500_000];
    w.call(c, 1, &create("/big", 0));
    w.call(c, 2, &set("/big", &BIG));
    for i in 0..20 {
        w.put_request(c, 10 + i, &get("/big", false));
    }
    w.run();
    let first = w.got(c).len();
    (w, c, first)
}

#[test]
pub(super) fn long_answers_are_spread_over_turns() {
    let (mut w, c, first) = twenty_long_reads();
    assert!(first * BIG.len() <= OUT_BYTES_PAUSE + 2 * BIG.len(), "{first}");
    w.advance(20 * MS);
    assert_eq!(w.got(c).len() + first, 20);
}

/// A node that went on answering would be closed by its shell for what piles up there.
#[test]
pub(super) fn reads_wait_while_their_client_takes_its_answers_too_slowly() {
    let (mut w, c, first) = twenty_long_reads();
    assert!(first < 20, "{first}");
    w.backlog(c, true);
    w.advance(20 * MS);
    assert_eq!(w.got(c).len(), 0);
    w.backlog(c, false);
    w.advance(20 * MS);
    let rest: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    let wanted: Vec<_> = (first as i32..20).map(|i| (10 + i, 0)).collect();
    assert_eq!(rest, wanted);
}

/// Who always has writes waiting gets a share of the log's room, not all of it.
#[test]
pub(super) fn who_always_has_writes_waiting_leaves_room_for_others() {
    let mut w = World::new(0);
    w.start(1);
    let (greedy, modest) = (w.connect(0).0, w.connect(0).0);
    w.call(modest, 1, &create("/a", 0));
    w.hub.borrow_mut().hold = true;
    let mut sent = 0;
    let mut feed = |w: &mut World, n: usize| {
        for _ in 0..n {
            sent += 1;
            w.put_request(greedy, sent, &set("/a", &BIG[..200_000]));
        }
        w.run();
    };
    feed(&mut w, 30);
    w.put_request(modest, 2, &set("/a", b"small"));
    let mut rounds = 0;
    while w.got(modest).is_empty() {
        rounds += 1;
        assert!(rounds < 10, "the greedy one's writes are sent before it again and again");
        w.hub.borrow_mut().commit(1);
        w.run();
        let answered = w.got(greedy).len();
        feed(&mut w, answered);
    }
    assert!(sent > 30, "the greedy one had writes waiting all the time");
}

#[test]
pub(super) fn a_write_that_fits_no_record_is_refused_in_order() {
    let mut w = World::new(0);
    w.cfg.max_frame_bytes = 3 << 20;
    w.start(10);
    let (c, _) = w.connect(0);
    static HUGE: [u8; 5 << 19] = [7; 5 << 19];
    w.put_request(c, 1, &create("/a", 0));
    w.put_request(c, 2, &set("/a", &HUGE));
    w.put_request(c, 3, &exists("/a", false));
    w.run();
    let got: Vec<_> = w.got(c).iter().map(Got::reply).collect();
    assert_eq!(got, [(1, 0), (2, ErrorCode::BadArguments.code()), (3, 0)]);
}

#[test]
pub(super) fn create_flags_beyond_the_known_ones_are_told_apart() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    assert_eq!(w.call(c, 1, &create("/a", 4)).reply(), (1, 0), "the operation decides about containers");
    for flags in [-1, 5, 6, 7, i32::MAX] {
        assert_eq!(w.call(c, 2, &create("/a", flags)).reply(), (2, ErrorCode::BadArguments.code()));
    }
}

#[test]
pub(super) fn operations_that_are_not_served_are_answered_and_the_connection_lives() {
    let mut w = World::new(1);
    let (c, _) = w.connect(0);
    for op in [-10, -1, 0, 10, 13, 20, 23, 99, 108, 500, 999] {
        assert_eq!(w.call(c, 5, &Request::Other(op)).reply(), (5, ErrorCode::Unimplemented.code()));
    }
    assert_eq!(w.call(c, 1, &create("/a", 0)).reply(), (1, 0));
}

/// Random frames: of random bytes, and of real operations with random records.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let framed = |payload: Vec<u8>| {
        let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
        frame.extend(payload);
        frame
    };
    let op = prop_oneof![-12i32..24, 100i32..108, any::<i32>()];
    let body = prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..60);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60).prop_map(framed),
        (any::<i32>(), op, body).prop_map(move |(xid, op, body)| {
            framed([&xid.to_be_bytes()[..], &op.to_be_bytes(), &body].concat())
        }),
    ]
}

proptest! {
    /// SYS-1: nothing that a client sends panics, or disturbs another.
    #[test]
    fn any_frames_cost_their_own_connection_at_most(frames in prop::collection::vec((any::<bool>(), frame()), 0..40)) {
        let mut w = World::new(1);
        let (good, _) = w.connect(0);
        let mut bare = w.dial(0);
        let (mut attached, _) = w.connect(0);
        for (as_session, frame) in &frames {
            let first = !as_session;
            let c = if *as_session { attached } else { bare };
            w.put(c, frame, first);
            w.run();
            if w.is_closed(attached) {
                attached = w.connect(0).0;
            }
            if w.is_closed(bare) || first {
                w.hang_up(bare);
                bare = w.dial(0);
            }
        }
        prop_assert_eq!(w.call(good, 1, &create("/good", 0)).reply(), (1, 0));
        prop_assert_eq!(w.node(0).state().hash(), w.node(0).state().hash_from_scratch());
        prop_assert_eq!(w.node(0).log().pending_batches(), 0);
    }
}

/// The same, for nodes of several executors.
pub(super) fn any_frames_cost_their_own_connection_at_most_again() {
    any_frames_cost_their_own_connection_at_most();
}

/// While the disks below the log are short of room, clients' writes are refused in their places, reads and sessions go
/// on, sessions may begin and end; then writes are taken again.
#[test]
fn short_disks_refuse_writes_and_nothing_else() {
    let mut w = World::new(2);
    let (c, _) = w.connect(0);
    w.call(c, 1, &create("/n", 0));
    let room = |w: &mut World, room| {
        w.hub.borrow_mut().gap = Some(LogEvent::Room { room });
        w.run();
    };
    room(&mut w, DiskRoom::Low);
    let (read, written) = (w.call(c, 2, &get("/n", false)), w.call(c, 3, &set("/n", b"new")));
    assert_eq!((read.reply(), written.reply()), ((2, 0), (3, ErrorCode::SystemError as i32)));
    for (xid, request) in [(4, create("/m", 0)), (5, delete("/n"))] {
        assert_eq!(w.call(c, xid, &request).reply(), (xid, ErrorCode::SystemError as i32));
    }
    room(&mut w, DiskRoom::Full);
    assert!(w.command_status(0).contains("\"log_room\":\"full\""));
    // For many timeouts.
    w.advance_pinging(120_000 * MS, &[c]);
    w.got(c);
    assert_eq!(w.call(c, 6, &get("/n", false)).reply(), (6, 0));
    let (d, _) = w.connect(0);
    assert_eq!(w.call(d, 1, &Request::CloseSession).reply(), (1, 0), "a session begins and ends");
    room(&mut w, DiskRoom::Ample);
    assert_eq!(w.call(c, 7, &set("/n", b"new")).reply(), (7, 0));
    assert_eq!(w.notes(0).iter().filter(|n| n.contains("disks")).count(), 2, "{:?}", w.notes(0));
}
