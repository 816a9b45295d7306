//! What does a writer do that has no lane to go to? Invariants LOG-3, LOG-5, LOG-8.

use crate::bench::*;
use crate::leaving::{all_sent, appended, ended, fences, resolves};
use bytes::Bytes;
use std::time::Duration;
use zoolog_client::{ClientConfig, LogEvent, SharedLog};
use zoolog_core::wire::*;
use zoolog_core::*;

const WRITER: WriterId = WriterId(77);

/// What came in while the cluster was played.
#[derive(Default)]
struct Heard {
    appends: Vec<(LaneId, Seq, Seq, Bytes)>,
    questions: usize,
    fences: Vec<LaneId>,
}

/// Plays a cluster for so long: gives the name and each lane that is claimed for it; appends are refused if `closed`; what
/// is in a lane is said to be nothing. Servers in `away` can't be reached.
fn play(b: &mut Bench, orderer: ConnId, ms: u64, closed: bool, away: &[String]) -> Heard {
    let mut heard = Heard::default();
    for _ in 0..ms {
        let dials: Vec<_> = b.dials.iter().map(|(c, a)| (*c, away.contains(a))).collect();
        dials.into_iter().for_each(|(c, dead)| if dead { b.close(c) } else { b.connected(c) });
        let sent = all_sent(b);
        for (conn, packet) in &sent {
            let writer = b.client.writer();
            match &packet.message {
                Message::OpenWriter(m) => {
                    let (request, refused, epoch) = (m.request, WriterRefused::No, Epoch(1));
                    b.say(
                        orderer,
                        WriterIs { request, refused, writer: WRITER, epoch, lane: None, tail: Gsn(0) },
                    );
                }
                Message::ClaimLane(m) => {
                    let (request, refused, epoch, lane) =
                        (m.request, WriterRefused::No, m.epoch, Some(m.lane));
                    b.say(orderer, WriterIs { request, refused, writer: WRITER, epoch, lane, tail: Gsn(0) });
                }
                Message::Tail(m) => b.say(orderer, TailIs { request: m.request, gsn: Gsn(0) }),
                Message::Append(m) if closed => {
                    let seq = zoolog_core::batch::Batch::check(packet.payload.clone()).unwrap().seq();
                    let why = AppendRefusedWhy::Closed;
                    b.say(*conn, AppendRefused { lane: m.lane, writer, seq, why, expected: seq });
                }
                Message::Resolve(m) => {
                    let (request, lane, writer, end) = (m.request, m.lane, m.writer, ResolveEnd::Final);
                    b.say(
                        *conn,
                        Resolved { request, lane, writer, end, acks: Vec::new(), tail: None, newest: None },
                    );
                }
                _ => {}
            }
        }
        heard.appends.extend(appended(&sent));
        heard.questions += resolves(&sent).len();
        heard.fences.extend(fences(&sent).into_iter().map(|f| f.1));
        b.ms(1);
    }
    heard
}

fn lost(b: &mut Bench) -> bool {
    b.events().iter().any(|e| matches!(e, LogEvent::WriterLost { .. }))
}

/// A bench of two shards, whose writer has appended two batches that are with its primary.
fn begun(name: Option<&str>, shards: u32) -> (Bench, ConnId, Heard) {
    let leave_after = Duration::from_millis(300);
    let cfg = ClientConfig { name: name.map(String::from), leave_after, ..config() };
    let mut b = Bench::new(cfg, 71);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, shards), &[]));
    play(&mut b, orderer, 20, false, &[]);
    append_each(&mut b, 2);
    let heard = play(&mut b, orderer, 5, false, &[]);
    assert_eq!(heard.appends.len(), 2);
    (b, orderer, heard)
}

/// Found by the simulator's seed 7257: all shards had ended, and the view that said so was late. A writer without a name took
/// that for fences of its own, opened anew and tried all lanes again, a thousand times a second; one with a name ended.
#[test]
fn lanes_that_have_ended_are_left_once_and_the_view_is_waited_for() {
    for name in [None, Some("n")] {
        let (mut b, orderer, before) = begun(name, 2);
        let again = play(&mut b, orderer, 5, false, &[]);
        assert!(again.appends.is_empty());
        let conn =
            b.conn(&addr(before.appends[0].0.shard().0, usize::from(before.appends[0].0.index()))).unwrap();
        let (lane, _, seq, _) = before.appends[0];
        let (writer, why) = (b.client.writer(), AppendRefusedWhy::Closed);
        b.say(conn, AppendRefused { lane, writer, seq, why, expected: seq });
        let heard = play(&mut b, orderer, 700, true, &[]);
        assert!((4..=8).contains(&heard.questions), "{} questions about four lanes", heard.questions);
        assert!(!lost(&mut b) && heard.fences.is_empty());
        b.say(orderer, ViewIs { view: ended(2, 4, &[1, 2]) });
        let heard = play(&mut b, orderer, 300, false, &[]);
        assert!(heard.appends.iter().all(|a| a.0.shard() > ShardId(2)));
        let bytes = |h: &Heard| h.appends.iter().map(|a| (a.2, a.3.clone())).collect::<Vec<_>>();
        assert_eq!(bytes(&heard), bytes(&before), "byte for byte: it has not opened anew");
        assert!(!lost(&mut b));
    }
}

/// A fence there would end it; so it waits until the primary answers, or its shard has ended.
#[test]
fn a_writer_with_a_name_does_not_fence_its_last_lane() {
    for comes_back in [true, false] {
        let (mut b, orderer, before) = begun(Some("n"), 1);
        let first = before.appends[0].0;
        let primary = addr(1, usize::from(first.index()));
        let conn = b.conn(&primary).unwrap();
        b.close(conn);
        // The first lane can be left for the other.
        let heard = play(&mut b, orderer, 3_000, false, &[primary]);
        assert!(!heard.fences.is_empty() && heard.fences.iter().all(|lane| *lane == first));
        let (last, _, seq, bytes) = heard.appends.last().cloned().expect("it goes on in the other");
        assert_ne!(last, first);
        let primary = addr(1, usize::from(last.index()));
        let conn = b.conn(&primary).unwrap();
        b.close(conn);
        let heard = play(&mut b, orderer, 10_000, false, std::slice::from_ref(&primary));
        assert!(heard.fences.is_empty(), "it fences its last lane");
        assert!(!lost(&mut b));
        let (away, at): (&[String], _) = if comes_back {
            (&[], last.shard())
        } else {
            b.say(orderer, ViewIs { view: ended(2, 2, &[1]) });
            (&[primary], ShardId(2))
        };
        let heard = play(&mut b, orderer, 1_000, false, away);
        let end = heard.appends.last().cloned().expect("it goes on");
        assert_eq!((end.0.shard(), end.2, end.3), (at, seq, bytes));
        assert!(!lost(&mut b));
    }
}
