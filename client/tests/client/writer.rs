//! Does the writer send its batches once, in order, and take the answers right?

use crate::bench::*;
use std::collections::BTreeSet;
use zoolog_client::{AppendError, ClientConfig, LogEvent, SharedLog, WriterLost};
use zoolog_core::batch::Batch;
use zoolog_core::limits::{BATCH_BYTES_TARGET, RECORD_BYTES_MAX};
use zoolog_core::wire::*;
use zoolog_core::*;

#[test]
fn records_of_one_turn_share_a_batch_and_keep_their_places() {
    let (mut b, _, conn, lane) = placed(config(), 1);
    assert_eq!(b.client.append(b"a"), Ok((Seq(0), 0)));
    assert_eq!(b.client.append(b"b"), Ok((Seq(0), 1)));
    b.drain();
    assert_eq!(b.client.append(b"c"), Ok((Seq(1), 0)));
    b.drain();
    let packets = b.sent(conn);
    assert!(
        packets.iter().all(|p| p.message == Message::Append(Append { lane, start: Seq(0), prompt: true }))
    );
    assert_eq!(seqs(&packets), [0, 1]);
    let first = Batch::check(packets[0].payload.clone()).unwrap();
    assert_eq!(first.records().collect::<Vec<_>>(), [&b"a"[..], b"b"]);
    ack(&mut b, conn, &[(0, 7), (1, 9)]);
    let acked: Vec<_> = b.events().into_iter().filter(|e| matches!(e, LogEvent::Appended { .. })).collect();
    let first = LogEvent::Appended { seq: Seq(0), first_gsn: Gsn(7), count: 2 };
    assert_eq!(acked, [first, LogEvent::Appended { seq: Seq(1), first_gsn: Gsn(9), count: 1 }]);
    assert_eq!(b.client.pending_batches(), 0);
}

#[test]
fn after_a_reconnect_what_is_unacknowledged_goes_out_again_byte_for_byte() {
    let (mut b, _, conn, _) = placed(config(), 2);
    append_each(&mut b, 4);
    let before = appends(&b.sent(conn));
    ack(&mut b, conn, &[(0, 0)]);
    b.close(conn);
    append_each(&mut b, 1);
    b.ms(100);
    connect_all(&mut b);
    let again: Vec<_> = b.up.keys().copied().collect();
    let after: Vec<_> = again.into_iter().flat_map(|c| appends(&b.sent(c))).collect();
    assert_eq!(after[..3], before[1..]);
    assert_eq!(after[3].0, Seq(4));
    assert_eq!(after.len(), 4);
}

#[test]
fn a_gap_is_resent_from_where_the_primary_says_and_only_once() {
    let (mut b, _, conn, _) = placed(config(), 3);
    append_each(&mut b, 5);
    assert_eq!(seqs(&b.sent(conn)), [0, 1, 2, 3, 4]);
    for seq in 3..5 {
        refuse(&mut b, conn, seq, AppendRefusedWhy::Gap, 2);
    }
    append_each(&mut b, 1);
    assert_eq!(seqs(&b.sent(conn)), [] as [u64; 0], "nothing goes out before the pause is over");
    b.ms(10);
    assert_eq!(seqs(&b.sent(conn)), [2, 3, 4, 5]);
}

#[test]
fn a_recovering_primary_is_asked_again_from_the_first_ever_more_patiently() {
    let (mut b, _, conn, _) = placed(config(), 4);
    append_each(&mut b, 2);
    b.sent(conn);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        refuse(&mut b, conn, 0, AppendRefusedWhy::Recovering, 0);
        let start = b.now;
        while !b.sent.contains_key(&conn) {
            b.ms(1);
        }
        assert_eq!(seqs(&b.sent(conn)), [0, 1]);
        pauses.push(b.now.since(start));
    }
    assert!(pauses.is_sorted() && pauses[4] > 4 * pauses[0], "{pauses:?}");
}

#[test]
fn a_writer_that_cannot_go_on_says_so_and_takes_nothing_more() {
    type Ending = (fn(&mut Bench, ConnId), WriterLost);
    let ends: [Ending; 2] = [
        (|b, c| refuse(b, c, 2, AppendRefusedWhy::Gap, 0), WriterLost::Forgotten),
        (
            |b, c| {
                for _ in 0..3 {
                    refuse(b, c, 2, AppendRefusedWhy::Malformed, 2);
                    b.ms(300);
                }
            },
            WriterLost::Malformed,
        ),
    ];
    for (end, why) in ends {
        let (mut b, _, conn, _) = placed(config(), 5);
        append_each(&mut b, 3);
        ack(&mut b, conn, &[(0, 0), (1, 1)]);
        end(&mut b, conn);
        assert!(b.events().contains(&LogEvent::WriterLost { why, unknown_from: Seq(2) }), "{why:?}");
        assert_eq!(b.client.append(b"x"), Err(AppendError::Closed));
        assert!(!b.client.has_room());
    }
}

#[test]
fn a_writer_whose_primary_cannot_be_reached_at_first_takes_another_lane() {
    let mut b = Bench::new(config(), 6);
    b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    b.client.append(b"x").unwrap();
    b.drain();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let (conn, addr) = b.dials.pop_first().expect("the next lane's primary is dialled at once");
        assert!(!tried.contains(&addr));
        tried.push(addr);
        b.close(conn);
    }
    let conn = *b.dials.first_key_value().unwrap().0;
    b.connected(conn);
    assert_eq!(seqs(&b.sent(conn)), [0]);
    // From now on it stays, whatever happens: this lane may hold its batch.
    let (stays, addr) = (conn, b.up[&conn].clone());
    b.close(stays);
    b.ms(2000);
    connect_all(&mut b);
    let conn = b.conn(&addr).expect("dialled again");
    assert_eq!(seqs(&b.sent(conn)), [0]);
}

/// Seconds of a log that stands still, in which every question for a sign of life is answered if `alive`; each connection
/// that is made comes up. To which replicas a fence went out.
fn stands_still(b: &mut Bench, seconds: u64, alive: bool) -> BTreeSet<String> {
    let mut fenced = BTreeSet::new();
    for _ in 0..seconds * 20 {
        b.ms(50);
        b.closing.clone().into_iter().for_each(|conn| b.close(conn));
        connect_all(b);
        for conn in b.up.keys().copied().collect::<Vec<_>>() {
            for packet in b.sent(conn) {
                match packet.message {
                    Message::Status(m) if alive => {
                        b.say(conn, StatusIs { request: m.request, json: "{}".into() });
                    }
                    Message::Fence(_) => {
                        fenced.insert(b.up[&conn].clone());
                    }
                    _ => {}
                }
            }
        }
    }
    fenced
}

/// LOG-5: found by the drill, seed 2: what the client says doesn't arrive at one server, and its connections come up.
#[test]
fn a_primary_that_is_connected_but_answers_nothing_is_left_behind_a_fence() {
    let (mut b, _, conn, lane) = placed(config(), 1);
    append_each(&mut b, 3);
    assert_eq!(seqs(&b.sent(conn)), [0, 1, 2]);
    let fenced = stands_still(&mut b, 5, false);
    let backup = addr(lane.shard().0, 1 - usize::from(lane.index()));
    assert!(fenced.contains(&backup), "the primary doesn't hear it: {fenced:?}");
}

#[test]
fn a_primary_that_gives_signs_of_life_is_not_left_however_long_the_log_stands_still() {
    let (mut b, ..) = placed(config(), 1);
    append_each(&mut b, 3);
    assert_eq!(stands_still(&mut b, 60, true), BTreeSet::new());
}

#[test]
fn writers_spread_evenly_over_the_lanes() {
    let mut count = std::collections::BTreeMap::new();
    for seed in 0..400 {
        let (_, _, _, lane) = placed(config(), seed);
        *count.entry(lane).or_insert(0) += 1;
    }
    assert!(count.len() == 4 && count.values().all(|n| (60..140).contains(n)), "{count:?}");
}

#[test]
fn the_window_is_bounded_and_opens_again() {
    let (mut b, _, conn, _) = placed(ClientConfig { window_batches: 2, ..config() }, 7);
    append_each(&mut b, 2);
    // Beyond the window records gather in the open batch, until it is full.
    let record = vec![7; 10_000];
    let mut taken = 0;
    let full = loop {
        match b.client.append(&record) {
            Ok((seq, index)) => assert_eq!((seq, index), (Seq(2), taken)),
            Err(error) => break error,
        }
        taken += 1;
        b.drain();
    };
    assert_eq!(full, AppendError::Full);
    assert!(!b.client.has_room() && taken as usize * record.len() <= BATCH_BYTES_TARGET);
    assert_eq!(seqs(&b.sent(conn)), [0, 1]);
    ack(&mut b, conn, &[(0, 0)]);
    assert_eq!(seqs(&b.sent(conn)), [2]);
    assert_eq!(b.client.append(&record), Ok((Seq(3), 0)));
    let limit = RECORD_BYTES_MAX;
    let too_long = Err(AppendError::TooLong { bytes: limit + 1, limit });
    assert_eq!(b.client.append(&vec![0; limit + 1]), too_long);
}

#[test]
fn an_impossible_acknowledgement_costs_the_connection_and_is_not_believed() {
    for acks in [&[(1u64, 5u64)][..], &[(0, 5), (0, 6)], &[(0, u64::MAX)]] {
        let (mut b, _, conn, _) = placed(config(), 8);
        append_each(&mut b, 1);
        ack(&mut b, conn, acks);
        assert!(b.closing.contains(&conn), "{acks:?}");
        assert!(!b.events().iter().any(|e| matches!(e, LogEvent::Appended { .. })), "{acks:?}");
        assert_eq!(b.client.pending_batches(), 1);
    }
}

#[test]
fn standing_still_is_told_once_and_so_is_going_on() {
    let (mut b, _, conn, _) = placed(config(), 9);
    append_each(&mut b, 1);
    b.ms(1500);
    let stalls = |b: &mut Bench| {
        let all = b.events().into_iter();
        all.filter(|e| matches!(e, LogEvent::Stalled { .. } | LogEvent::Resumed { .. })).collect::<Vec<_>>()
    };
    assert_eq!(stalls(&mut b), [LogEvent::Stalled { what: "append" }]);
    ack(&mut b, conn, &[(0, 0)]);
    assert_eq!(stalls(&mut b), [LogEvent::Resumed { what: "append" }]);
}

fn rooms(b: &mut Bench) -> Vec<DiskRoom> {
    let rooms = b.events().into_iter().filter_map(|e| match e {
        LogEvent::Room { room } => Some(room),
        _ => None,
    });
    rooms.collect()
}

/// What is appended while a disk is low is refused at once, with an error that says so; what was on its way, and what
/// is vital, goes on.
#[test]
fn a_low_disk_refuses_appends_but_vital_ones() {
    let (mut b, _, conn, lane) = placed(config(), 31);
    append_each(&mut b, 1);
    b.say(conn, Room { lane, room: DiskRoom::Low });
    assert_eq!(b.client.append(b"x"), Err(AppendError::DiskFull));
    assert!(AppendError::DiskFull.is_retryable() && !AppendError::Closed.is_retryable());
    b.client.append_vital(b"alive").unwrap();
    b.drain();
    assert_eq!(seqs(&b.sent(conn)), [0, 1]);
    b.say(conn, Room { lane, room: DiskRoom::Low });
    assert_eq!(rooms(&mut b), [DiskRoom::Low]);
    b.say(conn, Room { lane: LaneId::new(ShardId(99), 0), room: DiskRoom::Ample });
    assert_eq!(b.client.append(b"x"), Err(AppendError::DiskFull), "another lane's");
    b.say(conn, Room { lane, room: DiskRoom::Ample });
    assert_eq!((rooms(&mut b), b.client.append(b"x").is_ok()), (vec![DiskRoom::Ample], true));
}

/// What a full disk refuses is tried again one batch at a time, seldom, for as long as it takes; then all of it goes
/// out, in order.
#[test]
fn a_full_disk_is_probed_with_one_batch() {
    let (mut b, _, conn, lane) = placed(config(), 32);
    append_each(&mut b, 6);
    let before = appends(&b.sent(conn));
    b.say(conn, Room { lane, room: DiskRoom::Full });
    ack(&mut b, conn, &[(0, 0)]);
    refuse(&mut b, conn, 1, AppendRefusedWhy::DiskFull, 1);
    for _ in 0..40 {
        b.ms(650);
        assert_eq!(appends(&b.sent(conn)), before[1..2]);
        refuse(&mut b, conn, 1, AppendRefusedWhy::DiskFull, 1);
    }
    assert!(b.up.contains_key(&conn), "its answers are signs of life");
    b.say(conn, Room { lane, room: DiskRoom::Ample });
    assert_eq!(appends(&b.sent(conn)), before[1..], "at once when there is room");
    // Without a word, too, if the one is taken.
    refuse(&mut b, conn, 1, AppendRefusedWhy::DiskFull, 1);
    b.ms(650);
    assert_eq!(seqs(&b.sent(conn)), [1]);
    ack(&mut b, conn, &[(1, 1)]);
    assert_eq!(appends(&b.sent(conn)), before[2..]);
}

/// Over a new connection nothing is known of the disks until the primary says it.
#[test]
fn room_is_forgotten_with_the_connection() {
    let (mut b, _, conn, lane) = placed(config(), 33);
    append_each(&mut b, 1);
    b.say(conn, Room { lane, room: DiskRoom::Full });
    refuse(&mut b, conn, 0, AppendRefusedWhy::DiskFull, 0);
    b.close(conn);
    b.ms(100);
    connect_all(&mut b);
    assert_eq!(rooms(&mut b), [DiskRoom::Full, DiskRoom::Ample]);
    assert!(b.client.append(b"x").is_ok());
}
