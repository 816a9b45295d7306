//! What is promised of the end of a log?

use crate::suite::*;
use zoolog_client::{AppendError, LogEvent, ReadEnd, SUCCESSOR_BYTES_MAX, SealError, Sealed};
use zoolog_core::Gsn;

/// LOG-11: what was appended before a seal is in the log, and nothing else ever will be; whoever asks is told the same. A log that
/// goes on by itself does so at the next position. One that can't be sealed says so.
pub fn a_seal_is_the_end_of_a_log<H: Harness>() {
    let mut s = Suite::<H>::new(UNSWITCHED);
    s.fill(0, 60, 30);
    let since = s.subscribe(Gsn(20));
    let taken = s.append(60, 5, 30).len() as u64;
    assert!(taken > 0, "there is room");
    let asked: Result<_, SealError> = s.h.with(|log| {
        let asked = log.seal(H::SUCCESSOR)?;
        for wrong in [String::new(), "x".repeat(SUCCESSOR_BYTES_MAX + 1), "a\nb".into()] {
            assert_eq!(log.seal(&wrong), Err(SealError::Malformed { bytes: wrong.len() }));
        }
        Ok((asked, log.seal(H::SUCCESSOR)?, log.seal("another:1")?))
    });
    let end = 60 + taken;
    let (first, again, other) = match asked {
        Ok(asked) => asked,
        Err(refused) => {
            assert_eq!(refused, SealError::Unsupported);
            s.fill(end, 5, 30);
            return assert_eq!(s.tail(), Gsn(end + 5), "it goes on as if nothing had been asked");
        }
    };
    let refused = s.h.with(|log| log.append(b"late")).expect_err("behind the seal");
    let sealed = Sealed { tail: Gsn(end), successor: H::SUCCESSOR.into() };
    assert_eq!(s.sealed(first), Ok(sealed.clone()));
    assert_eq!(s.sealed(again), Ok(sealed.clone()));
    assert_eq!(s.sealed(other), Err(SealError::Another(sealed.clone())));
    let all = |s: &mut Suite<H>, since: usize, to: u64| {
        s.until("all is delivered", |events| {
            let ends = |e: &LogEvent| matches!(e, LogEvent::Committed(c) if c.end() == Gsn(to));
            events[since..].iter().any(ends).then_some(())
        });
        assert_eq!(s.delivered(since, Gsn(20)), records(20, to, 30));
    };
    all(&mut s, since, end);
    assert_eq!(s.read_all(0, end), records(0, end, 30));
    if refused.is_retryable() {
        // It goes on by itself.
        let moved = |events: &[LogEvent]| events.contains(&LogEvent::Moved(sealed.clone())).then_some(());
        s.until("it goes on elsewhere", moved);
        assert_eq!(s.fill(end, 40, 30), (end..end + 40).map(Gsn).collect::<Vec<_>>());
        all(&mut s, since, end + 40);
        s.reopen();
        assert_eq!(s.tail(), Gsn(end + 40), "not of the log that has ended");
        let since = s.subscribe(Gsn(20));
        all(&mut s, since, end + 40);
        s.until("it goes on elsewhere", moved);
        assert_eq!(s.fill(end + 40, 10, 30), (end + 40..end + 50).map(Gsn).collect::<Vec<_>>());
    } else {
        assert_eq!(refused, AppendError::Sealed);
        let told = |events: &[LogEvent]| events.contains(&LogEvent::Sealed(sealed.clone())).then_some(());
        s.until("it is told", told);
        s.reopen();
        s.until("it is told again", told);
        assert_eq!((s.tail(), s.read(end, end + 1, 1)), (Gsn(end), (vec![], Gsn(end), ReadEnd::NotYet)));
        assert_eq!(s.h.with(|log| log.append_vital(b"late")), Err(AppendError::Sealed));
        let since = s.subscribe(Gsn(20));
        all(&mut s, since, end);
        let again = s.h.with(|log| log.seal(H::SUCCESSOR)).expect("it can be");
        assert_eq!(s.sealed(again), Ok(sealed));
    }
}
