//! How does a writer come to its name, and when does it lose it?

use crate::bench::*;
use zoolog_client::{AppendError, ClientConfig, LogEvent, SharedLog, WriterLost};
use zoolog_core::batch::{Batch, BatchKind, FENCE_SEQ, first_seq};
use zoolog_core::wire::*;
use zoolog_core::*;

const WRITER: WriterId = WriterId(77);

fn named(expected_tail: Option<Gsn>) -> ClientConfig {
    ClientConfig { name: Some("n".into()), expected_tail, ..config() }
}

/// A bench that follows an empty order of two shards and has asked for its name: the orderer's connection.
fn asked(cfg: ClientConfig) -> (Bench, ConnId, u64) {
    let mut b = Bench::new(cfg, 3);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let request = b.sent(orderer).into_iter().find_map(|p| match p.message {
        Message::OpenWriter(m) => Some((m.request, m.name)),
        _ => None,
    });
    let (request, name) = request.expect("it asks for its name");
    assert_eq!((name.as_str(), b.client.append(b"x")), ("n", Err(AppendError::NotOpen)));
    assert!(!b.client.has_room());
    (b, orderer, request)
}

fn opened(request: u64, epoch: u32, lane: Option<LaneId>, tail: u64) -> WriterIs {
    let (refused, epoch, tail) = (WriterRefused::No, Epoch(epoch), Gsn(tail));
    WriterIs { request, refused, writer: WRITER, epoch, lane, tail }
}

fn claim(b: &mut Bench, orderer: ConnId) -> ClaimLane {
    let claims = b.sent(orderer).into_iter().filter_map(|p| match p.message {
        Message::ClaimLane(m) => Some(m),
        _ => None,
    });
    claims.last().expect("it claims a lane")
}

#[test]
fn a_first_opening_claims_a_lane_before_it_sends_anything() {
    let (mut b, orderer, request) = asked(named(Some(Gsn(0))));
    b.say(orderer, opened(request, 1, None, 0));
    let events = b.events();
    assert!(events.contains(&LogEvent::Opened { writer: WRITER, epoch: Epoch(1), tail: Some(Gsn(0)) }));
    let (seq, _) = b.client.append(b"x").unwrap();
    assert_eq!(seq, first_seq(Epoch(1)));
    b.drain();
    connect_all(&mut b);
    assert!(
        b.up.keys()
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .all(|c| c == orderer || appends(&b.sent(c)).is_empty())
    );
    let c = claim(&mut b, orderer);
    assert_eq!((c.name.as_str(), c.epoch), ("n", Epoch(1)));
    b.say(orderer, opened(c.request, 1, Some(c.lane), 0));
    let primary =
        b.up.iter().find(|(_, a)| a.starts_with('s') && lane_at(a) == c.lane).map(|(c, _)| *c).unwrap();
    let sent = appends(&b.sent(primary));
    assert_eq!(sent.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [seq]);
    let batch = Batch::check(sent[0].1.clone()).unwrap();
    assert_eq!((batch.writer(), batch.epoch()), (WRITER, Epoch(1)));
}

#[test]
fn a_later_opening_fences_the_lane_of_the_one_before_and_goes_on_from_its_tail() {
    for (expected, end) in [(None, None), (Some(41), None), (Some(40), Some(Some(Gsn(41))))] {
        let (mut b, orderer, request) = asked(named(expected.map(Gsn)));
        let old = lane(1, 1);
        b.say(orderer, opened(request, 5, Some(old), 7));
        b.ms(1);
        connect_all(&mut b);
        b.ms(250);
        let questions = sent_to(&mut b, |m| match m {
            Message::Resolve(m) => Some(m.clone()),
            _ => None,
        });
        let (conn, q) = questions.last().cloned().expect("it asks whether the lane is closed");
        assert_eq!((q.lane, q.writer, q.epoch), (old, WRITER, Epoch(4)));
        assert!(b.events().iter().all(|e| !matches!(e, LogEvent::Opened { .. })), "not before it is closed");
        let (request, lane, writer, acks) = (q.request, q.lane, q.writer, vec![]);
        b.say(
            conn,
            Resolved {
                request,
                lane,
                writer,
                end: ResolveEnd::Final,
                acks,
                tail: Some(Gsn(41)),
                newest: None,
            },
        );
        let events = b.events();
        match end {
            None => {
                let opened = LogEvent::Opened { writer: WRITER, epoch: Epoch(5), tail: Some(Gsn(41)) };
                assert!(events.contains(&opened), "{events:?}");
                assert_eq!(claim(&mut b, orderer).tail, Gsn(41));
            }
            Some(tail) => {
                let why = WriterLost::Conflict { tail };
                assert!(events.iter().any(|e| matches!(e, LogEvent::WriterLost { why: w, .. } if *w == why)));
                assert_eq!(b.client.append(b"x"), Err(AppendError::Closed));
            }
        }
    }
}

/// Found by seed 1998: what a leader that fell silent was asked was asked of nobody else, and the writer waited for ever.
#[test]
fn a_silent_leader_is_left_and_the_next_one_asked_for_the_name_and_the_lane() {
    let (mut b, silent, first) = asked(named(None));
    // Neither the question nor the sign of life that is asked for later is answered.
    b.ms(3_100);
    assert!(b.closing.contains(&silent), "left");
    b.close(silent);
    b.ms(600);
    let next = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let again = b.sent(next).into_iter().find_map(|p| match p.message {
        Message::OpenWriter(m) => Some(m.request),
        _ => None,
    });
    let again = again.expect("it asks the next one for its name");
    assert_ne!(again, first);
    b.say(next, opened(again, 2, None, 0));
    let claimed = claim(&mut b, next);
    b.ms(3_100);
    assert!(b.closing.contains(&next), "left");
    b.close(next);
    b.ms(600);
    let third = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let claimed_again = claim(&mut b, third);
    assert_ne!(claimed_again.request, claimed.request);
    assert_eq!(claimed_again.epoch, Epoch(2));
}

#[test]
fn the_fence_is_one_and_names_the_opening_before() {
    let (mut b, orderer, request) = asked(named(None));
    b.say(orderer, opened(request, 5, Some(lane(1, 1)), 7));
    b.ms(1);
    connect_all(&mut b);
    b.ms(250);
    let conns: Vec<_> = b.up.keys().copied().collect();
    let all: Vec<Packet> = conns.into_iter().flat_map(|c| b.sent(c)).collect();
    let fence = all.iter().find(|p| matches!(p.message, Message::Fence(_))).expect("a fence");
    let fence = Batch::check(fence.payload.clone()).unwrap();
    let is = (fence.kind(), fence.writer(), fence.epoch(), fence.seq());
    assert_eq!(is, (BatchKind::Fence, WRITER, Epoch(4), FENCE_SEQ));
}

#[test]
fn a_name_that_another_has_opened_since_is_lost_at_the_next_lane() {
    let (mut b, orderer, request) = asked(named(None));
    b.say(orderer, opened(request, 1, None, 0));
    let c = claim(&mut b, orderer);
    let refused = WriterRefused::Fenced;
    b.say(orderer, WriterIs { refused, ..opened(c.request, 0, None, 0) });
    let lost = b.events().into_iter().find_map(|e| match e {
        LogEvent::WriterLost { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(lost, Some(WriterLost::Fenced));
}
