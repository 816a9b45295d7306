//! Are trims asked until they are answered, and answered as they were decided? Senseless reads, too, are answered as such.

use crate::bench::*;
use zoolog_client::{LogCommand, LogEvent, ReadEnd, SharedLog, TrimError, Trimmed};
use zoolog_core::wire::*;
use zoolog_core::*;

/// The one trim that it asks for: (request, position).
fn asked(b: &mut Bench, conn: ConnId) -> Option<(u64, u64)> {
    let packets = b.sent(conn);
    let trims = packets.iter().filter_map(|p| match &p.message {
        Message::Trim(m) => Some((m.request, m.gsn.0)),
        _ => None,
    });
    let trims: Vec<_> = trims.collect();
    assert!(trims.len() <= 1, "one at a time: {trims:?}");
    trims.first().copied()
}

fn done(b: &mut Bench) -> Vec<(u64, Result<Trimmed, TrimError>)> {
    let events = b.events().into_iter().filter_map(|e| match e {
        LogEvent::TrimDone { request, result } => Some((request.0, result)),
        _ => None,
    });
    events.collect()
}

#[test]
fn trims_are_asked_one_by_one_and_answered_as_decided() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    let first = b.client.trim(Gsn(40)).0;
    b.input(Input::Command(LogCommand::Trim { tag: 7, gsn: Gsn(90) }));
    b.input(Input::Command(LogCommand::Trim { tag: 8, gsn: Gsn(900) }));
    let answer =
        |request, end, before, trim| TrimAnswer { request, end, before: Gsn(before), trim: Gsn(trim) };
    let (request, gsn) = asked(&mut b, orderer).expect("it asks");
    assert_eq!(gsn, 40);
    b.say(orderer, answer(request + 77, TrimEnd::Done, 0, 40));
    assert_eq!(done(&mut b), [], "that answers nothing of ours");
    b.say(orderer, answer(request, TrimEnd::Done, 10, 40));
    let (request, gsn) = asked(&mut b, orderer).expect("the next");
    assert_eq!(gsn, 90);
    b.say(orderer, answer(request, TrimEnd::HeldBack("zk-1".into(), Gsn(50)), 40, 40));
    let (request, _) = asked(&mut b, orderer).expect("the last");
    b.say(orderer, answer(request, TrimEnd::BeyondTail(Gsn(100)), 40, 40));
    let held = TrimError::HeldBack { consumer: "zk-1".into(), at: Gsn(50) };
    assert!(held.to_string().contains("`zk-1`"), "{held}");
    assert_eq!(
        done(&mut b),
        [
            (first, Ok(Trimmed { before: Gsn(10), trim: Gsn(40) })),
            (7, Err(held)),
            (8, Err(TrimError::BeyondTail { tail: Gsn(100) }))
        ]
    );
}

#[test]
fn a_trim_is_asked_again_of_a_silent_leader_and_of_the_next() {
    let (mut b, orderer, _, _) = placed(config(), 16);
    let trim = b.client.trim(Gsn(40)).0;
    b.drain();
    let (silent, _) = asked(&mut b, orderer).unwrap();
    b.ms(1_100);
    let (again, _) = asked(&mut b, orderer).expect("again");
    assert_ne!(silent, again);
    b.close(orderer);
    b.ms(100);
    let orderer = b.follow(&|r| order_is(r, 0, 0, view(1, 2), &[]));
    let (request, _) = asked(&mut b, orderer).expect("of the next");
    b.say(orderer, TrimAnswer { request, end: TrimEnd::Done, before: Gsn(40), trim: Gsn(45) });
    assert_eq!(done(&mut b), [(trim, Ok(Trimmed { before: Gsn(40), trim: Gsn(45) }))]);
    b.ms(5_000);
    assert_eq!(asked(&mut b, orderer), None);
}

#[test]
fn senseless_reads_are_answered_as_such() {
    let (mut b, _, _, _) = placed(config(), 16);
    let reads = [(Gsn(9), Gsn(3), 100), (Gsn(u64::MAX), Gsn(0), 100), (Gsn(0), Gsn(4), 0)];
    let asked: Vec<_> = reads.iter().map(|&(from, to, bytes)| b.client.read(from, to, bytes)).collect();
    b.drain();
    let ends = b.events().into_iter().filter_map(|e| match e {
        LogEvent::ReadDone { request, batches, end, .. } => Some((request, batches.len(), end)),
        _ => None,
    });
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, asked.into_iter().map(|r| (r, 0, ReadEnd::Invalid)).collect::<Vec<_>>());
}
