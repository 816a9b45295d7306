//! The end of an embedded log (LOG-11): durable or not there, in front of nothing, behind all that was told; and it outlives
//! everything else that is in the log.

use super::bench::{Bench, tiny};
use zoolog_client::{AppendError, LocalConfig, LogEvent, RequestId, SealError, Sealed, SharedLog};
use zoolog_core::Gsn;
use zoolog_core::rng::Rng;

fn outcome(bench: &Bench, request: RequestId) -> Option<Result<Sealed, SealError>> {
    bench.events.iter().find_map(|e| match e {
        LogEvent::SealDone { request: r, result } if *r == request => Some(result.clone()),
        _ => None,
    })
}

fn acked(bench: &Bench) -> u64 {
    let end = |e: &LogEvent| match e {
        LogEvent::Appended { first_gsn, count, .. } => first_gsn.0 + u64::from(*count),
        _ => 0,
    };
    bench.events.iter().map(end).max().unwrap_or_default()
}

/// Random appends, syncs and power cuts around a seal: it is in force if it was told, and never if it wasn't asked for; what was
/// told lies before it, and nothing behind.
#[test]
fn wherever_the_power_goes_it_has_ended_or_goes_on() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::new(seed, "seal");
        let mut bench = Bench::new(tiny());
        let mut told = 0;
        for _ in 0..rng.below(30) {
            // What finds no room is not there.
            let _ = (0..rng.below(4)).try_for_each(|_| bench.log.append(&[7; 100]).map(|_| ()));
            bench.turn(None);
            if rng.chance(50) {
                bench.sync();
            }
            told = told.max(acked(&bench));
        }
        let request = bench.log.seal("next:1").expect("it can be");
        assert_eq!(bench.log.append(b"late"), Err(AppendError::Sealed));
        assert!(!bench.log.has_room());
        for _ in 0..rng.below(6) {
            bench.turn(None);
            bench.sync();
        }
        told = told.max(acked(&bench));
        let done = outcome(&bench, request);
        assert_eq!(bench.log.sealed().is_some(), done.is_some(), "told when it is so");
        let mut bench = bench.crash(tiny(), &mut rng);
        bench.settle();
        let tail = bench.log.durable();
        assert!(tail.0 >= told, "LOG-2: {tail}, told {told}");
        match (&done, bench.log.sealed()) {
            (Some(Ok(sealed)), found) => {
                assert_eq!((found.as_ref(), sealed.tail), (Some(sealed), tail), "seed {seed}");
                kept += 1;
            }
            (Some(Err(e)), _) => panic!("{e}"),
            // It may have come to the disk in time.
            (None, Some(found)) => assert_eq!(found, Sealed { tail, successor: "next:1".into() }),
            (None, None) => {
                lost += 1;
                bench.log.append(b"it goes on").expect("room");
                bench.settle();
                assert_eq!(bench.log.durable(), tail.next());
            }
        }
    }
    assert!(kept > 50 && lost > 20, "{kept} {lost}");
}

/// Segments come and go behind it, and take it along.
#[test]
fn it_outlives_all_that_was_in_the_log() {
    let mut rng = Rng::new(5, "seal");
    let mut bench = Bench::new(LocalConfig { window_bytes: 1 << 20, ..tiny() });
    for _ in 0..200 {
        bench.log.append(&[3; 1000]).expect("room");
        bench.settle();
    }
    let tail = Gsn(200);
    let request = bench.log.seal("next:1").expect("it can be");
    bench.settle();
    let sealed = Sealed { tail, successor: "next:1".into() };
    assert_eq!(outcome(&bench, request), Some(Ok(sealed.clone())));
    let before = bench.segments();
    for upto in [50, 120, 199, 200] {
        let trim = bench.log.trim(Gsn(upto));
        bench.settle();
        assert!(
            bench.events.iter().any(|e| matches!(e, LogEvent::TrimDone { request: r, .. } if *r == trim))
        );
        bench = bench.crash(tiny(), &mut rng);
        bench.settle();
        assert_eq!((bench.log.sealed(), bench.log.trimmed()), (Some(sealed.clone()), Gsn(upto)));
        assert!(bench.events.contains(&LogEvent::Sealed(sealed.clone())), "it is told");
    }
    assert!(bench.segments() < before, "{} {before}", bench.segments());
    assert_eq!(bench.log.append_vital(b"late"), Err(AppendError::Sealed));
    let again = bench.log.seal("other:1").expect("it can be asked");
    bench.settle();
    assert_eq!(outcome(&bench, again), Some(Err(SealError::Another(sealed))));
}
