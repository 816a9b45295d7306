//! Points 13 to 19: records whose lengths, counts and parts are not what they say.

use super::*;
use crate::jute::{OpCode, Reader};

/// Every operation whose record begins with a string.
const WITH_PATH: [OpCode; 18] = {
    use OpCode::*;
    [
        Create,
        Create2,
        CreateContainer,
        CreateTtl,
        Delete,
        Exists,
        GetData,
        SetData,
        GetAcl,
        SetAcl,
        GetChildren,
        GetChildren2,
        Sync,
        CheckWatches,
        RemoveWatches,
        GetEphemerals,
        GetAllChildrenNumber,
        AddWatch,
    ]
};

#[test]
pub fn p13_unreasonable_lengths_of_strings_and_buffers_are_refused() {
    let mut s = Stage::new();
    let c = s.client();
    for length in [-2, i32::MIN, 100, i32::MAX] {
        for op in WITH_PATH {
            let error = s.refused(c, op.code(), |w| {
                w.int(length).int(0x2f61_0000);
            });
            assert_eq!(error, MARSHALLING, "{op:?} {length}");
        }
        let error = s.refused(c, OpCode::SetData.code(), |w| {
            w.string("/good").int(length).int(-1);
        });
        assert_eq!(error, MARSHALLING);
        let error = s.refused(c, OpCode::Auth.code(), |w| {
            w.int(0).string("digest").int(length);
        });
        assert_eq!(error, MARSHALLING);
        let bare = s.w.dial(0);
        let hello = framed(|w| {
            w.int(0).long(0).int(4000).long(0).int(length).int(0);
        });
        s.wire(bare, &hello, true);
        assert!(s.w.is_closed(bare) && s.w.answer(bare).is_none());
    }
    assert!(s.is_served(c));
    s.end();
}

#[test]
pub fn p14_null_is_refused_as_a_path_and_is_data_of_its_own_kind() {
    let mut s = Stage::new();
    let c = s.client();
    for op in WITH_PATH {
        let error = s.refused(c, op.code(), |w| {
            w.int(-1).int(-1).int(-1).int(0).long(1000);
        });
        let expected = match op {
            OpCode::Sync | OpCode::GetEphemerals => 0,
            OpCode::SetData | OpCode::SetAcl => BAD_ARGUMENTS,
            _ => MARSHALLING,
        };
        assert_eq!(error, expected, "{op:?}");
    }
    s.w.call(c, 1, &create("/null", 0));
    let null = Request::SetData { path: "/null".into(), data: None, version: -1 };
    assert_eq!(s.w.call(c, 2, &null).reply(), (2, 0));
    let read = s.w.call(c, 3, &get("/null", false));
    assert_eq!(Reader::new(read.record()).buffer(), Ok(None));

    let hello = |session: i64| {
        framed(|w| {
            w.int(0).long(0).int(4000).long(session).int(-1).boolean(false);
        })
    };
    let fresh = s.w.dial(0);
    s.wire(fresh, &hello(0), true);
    let session = s.w.answer(fresh).expect("an answer").session;
    let thief = s.w.dial(0);
    s.wire(thief, &hello(session), true);
    assert!(s.w.answer(thief).expect("an answer").is_refusal() && s.w.is_closed(thief));
    assert!(s.is_served(fresh));
    s.wire(
        fresh,
        &request(-4, OpCode::Auth.code(), |w| {
            w.int(0).int(-1).int(-1);
        }),
        false,
    );
    assert_eq!(s.w.got(fresh)[0].reply().1, ErrorCode::AuthFailed.code());
    assert!(s.w.is_closed(fresh));
    s.end();
}

#[test]
pub fn p15_a_count_beyond_the_record_is_refused_before_it_is_allocated() {
    let mut s = Stage::new();
    let c = s.client();
    for count in [i32::MAX, 1 << 24, 3] {
        let error = s.refused(c, OpCode::Create.code(), |w| {
            w.string("/a").buffer(None).int(count).int(0);
        });
        assert_eq!(error, MARSHALLING);
        let error = s.refused(c, OpCode::SetAcl.code(), |w| {
            w.string("/good").int(count).int(31);
        });
        assert_eq!(error, MARSHALLING);
        for (op, lists) in [(OpCode::SetWatches, 3), (OpCode::SetWatches2, 5)] {
            for at in 0..lists {
                let error = s.refused(c, op.code(), |w| {
                    w.long(0);
                    for _ in 0..at {
                        w.int(0);
                    }
                    w.int(count).int(0);
                });
                assert_eq!(error, MARSHALLING);
            }
        }
    }
    assert_eq!(s.w.node(0).status().watches, 1);
    s.end();
}

/// As the original reads them; only -1 is null.
#[test]
pub fn p16_a_negative_count_is_an_empty_list() {
    let mut s = Stage::new();
    let c = s.client();
    for count in [-1, -2, i32::MIN] {
        let error = s.refused(c, OpCode::Create.code(), |w| {
            w.string("/a").buffer(None).int(count).int(0);
        });
        assert_eq!(error, ErrorCode::InvalidAcl.code(), "{count}");
        let error = s.refused(c, OpCode::SetWatches.code(), |w| {
            w.long(0).int(count).int(count).int(count);
        });
        assert_eq!(error, 0, "{count}");
    }
    s.end();
}

/// As many as a frame holds are done or refused as a whole; a million need a frame above the limit.
#[test]
pub fn p17_a_multi_of_as_many_parts_as_a_frame_holds_is_one_answer() {
    let mut s = Stage::new();
    let c = s.client();
    let parts = |n: usize, op: OpCode| {
        request(5, OpCode::Multi.code(), |w| {
            for _ in 0..n {
                w.multi_header(op.code(), false, -1).string("/good").int(0);
            }
            w.multi_header(-1, true, -1);
        })
    };
    let most = (s.w.cfg.max_frame_bytes - 17) / 22;
    let before = s.w.node(0).state().hash();
    for (op, done) in [(OpCode::Check, 0), (OpCode::Delete, 0)] {
        s.wire(c, &parts(most, op), false);
        let got = s.w.got(c);
        assert_eq!(got[0].reply(), (5, done), "{op:?}");
        assert!(s.is_served(c));
    }
    // The second deleted the first time and failed the second: nothing was done.
    assert_eq!(s.w.call(c, 6, &exists("/good", false)).reply(), (6, 0));
    assert_ne!(before, 0);
    s.wire(c, &parts(1_000_000, OpCode::Check), false);
    assert!(s.w.is_closed(c));
    s.end();
}

#[test]
pub fn p18_a_multi_of_what_it_may_not_have_is_unreadable_as_a_whole() {
    let mut s = Stage::new();
    let c = s.client();
    let check = |w: &mut Writer<'_>| {
        w.multi_header(OpCode::Check.code(), false, -1).string("/good").int(0);
    };
    let read = |w: &mut Writer<'_>| {
        w.multi_header(OpCode::GetData.code(), false, -1).string("/good").boolean(false);
    };
    let end = |w: &mut Writer<'_>| {
        w.multi_header(-1, true, -1);
    };
    for op in [OpCode::Multi, OpCode::MultiRead] {
        let own = |w: &mut Writer<'_>| if op == OpCode::Multi { check(w) } else { read(w) };
        for (what, record) in [
            (
                "nested",
                &(|w: &mut Writer<'_>| {
                    w.multi_header(op.code(), false, -1);
                    own(w);
                    end(w);
                    end(w);
                }) as &dyn Fn(&mut Writer<'_>),
            ),
            ("unknown", &|w| {
                own(w);
                w.multi_header(99, false, -1);
                end(w);
            }),
            ("without an end", &|w| own(w)),
            ("nothing at all", &|_| ()),
            ("mixed", &|w| {
                check(w);
                read(w);
                end(w);
            }),
            ("mixed the other way", &|w| {
                read(w);
                check(w);
                end(w);
            }),
            ("a goodbye", &|w| {
                w.multi_header(OpCode::CloseSession.code(), false, -1);
                end(w);
            }),
        ] {
            assert_eq!(s.refused(c, op.code(), record), MARSHALLING, "{op:?}: {what}");
        }
        assert_eq!(s.refused(c, op.code(), end), 0, "an empty one is legal");
    }
    // Headers, and nothing in them.
    let empty = |w: &mut Writer<'_>| {
        for _ in 0..100_000 {
            w.multi_header(-1, false, -1);
        }
    };
    assert_eq!(s.refused(c, OpCode::Multi.code(), empty), MARSHALLING);
    assert!(s.is_served(c));
    s.end();
}

#[test]
pub fn p19_bytes_behind_a_request_are_ignored() {
    let mut s = Stage::new();
    let c = s.client();
    for (op, path) in
        [(OpCode::Exists, "/good"), (OpCode::Delete, "/none"), (OpCode::GetAllChildrenNumber, "/")]
    {
        let error = s.refused(c, op.code(), |w| {
            w.string(path).int(0).buffer(Some(&[0xff; 1000]));
        });
        assert_eq!(error, if path == "/none" { ErrorCode::NoNode.code() } else { 0 }, "{op:?}");
    }
    s.wire(
        c,
        &request(-2, OpCode::Ping.code(), |w| {
            w.buffer(Some(&[0; 70]));
        }),
        false,
    );
    assert_eq!(s.w.got(c)[0].reply(), (-2, 0));
    s.end();
}
