//! What can a server say? The handshake's answer, replies and watch events, encoded and decoded.
//!
//! Servers call the free functions, each of which appends one whole frame to a connection's buffer.
//! Clients take a frame's payload apart with [`ReplyHeader::decode`] and then the [`Reader`] it leaves.

use super::codec::{DecodeError, Reader, Writer};
use super::codes::{ErrorCode, EventType, STATE_SYNC_CONNECTED, xid};
use super::frame::LENGTH_BYTES;
use crate::txn::{Acl, Stat};
use std::borrow::Cow;

/// Bytes of a session's password; the C client reads it at a fixed place, so it always has them all.
pub const PASSWORD_BYTES: usize = 16;

/// Bytes of a Stat.
pub const STAT_BYTES: usize = 68;

/// The answer to a connect request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Agreed session timeout; 0 when refused.
    pub timeout_ms: i32,
    /// The session; 0 when refused.
    pub session: i64,
    /// The session's; zeros when refused.
    pub password: [u8; PASSWORD_BYTES],
    /// Whether this server is read-only; `None` for clients that didn't send the flag, since an extra byte
    /// breaks old ones.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// "Your session is gone": every client looks at another field, so all are zero.
    pub const fn refusal(read_only: Option<bool>) -> Self {
        Self { timeout_ms: 0, session: 0, password: [0; PASSWORD_BYTES], read_only }
    }

    /// Whether the session was refused.
    pub const fn is_refusal(&self) -> bool {
        self.timeout_ms <= 0 || self.session == 0
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::frame(out);
        w.int(0).int(self.timeout_ms).long(self.session).buffer(Some(&self.password));
        if let Some(flag) = self.read_only {
            w.boolean(flag);
        }
        w.finish();
    }

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// When it is cut short or the password has another length.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        r.int()?;
        Ok(Self {
            timeout_ms: r.int()?,
            session: r.long()?,
            password: r
                .buffer()?
                .and_then(|p| p.try_into().ok())
                .ok_or(DecodeError::Value("the password is not of 16 bytes"))?,
            read_only: if r.rest().is_empty() { None } else { Some(r.boolean()?) },
        })
    }
}

/// What precedes every reply and event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's, or [`xid::EVENT`].
    pub xid: i32,
    /// What the server had applied; never decreases on a connection.
    pub zxid: i64,
    /// 0, or an [`ErrorCode`]; a record follows only if 0.
    pub err: i32,
}

impl ReplyHeader {
    /// Reads a frame's payload up to the record, which the returned reader stands at.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn decode(payload: &[u8]) -> Result<(Self, Reader<'_>), DecodeError> {
        let mut r = Reader::new(payload);
        Ok((Self { xid: r.int()?, zxid: r.long()?, err: r.int()? }, r))
    }

    /// The error, if it is one that is known; an unknown number counts as [`ErrorCode::SystemError`].
    pub fn error(&self) -> Option<ErrorCode> {
        (self.err != 0).then(|| ErrorCode::from_code(self.err).unwrap_or(ErrorCode::SystemError))
    }
}

/// A watch fired. State is always "connected".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    /// What happened.
    pub kind: EventType,
    /// To which node: the watched one.
    pub path: Cow<'a, str>,
}

impl<'a> WatcherEvent<'a> {
    /// Reads the record behind an event's header.
    ///
    /// # Errors
    /// When it is malformed or no event that servers send.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let kind = EventType::from_code(r.int()?).ok_or(DecodeError::Value("unknown event type"))?;
        if r.int()? != STATE_SYNC_CONNECTED {
            return Err(DecodeError::Value("an event's state is not connected"));
        }
        Ok(Self { kind, path: r.string()? })
    }
}

fn reply(out: &mut Vec<u8>, xid: i32, zxid: i64, err: i32, record: impl FnOnce(&mut Writer<'_>)) {
    let mut w = Writer::frame(out);
    w.int(xid).long(zxid).int(err);
    record(&mut w);
    w.finish();
}

/// A refusal: header only.
pub fn error(out: &mut Vec<u8>, xid: i32, zxid: i64, err: ErrorCode) {
    reply(out, xid, zxid, err.code(), |_| {});
}

/// Success without a record: delete, ping, setWatches, closeSession, auth.
pub fn empty(out: &mut Vec<u8>, xid: i32, zxid: i64) {
    reply(out, xid, zxid, 0, |_| {});
}

/// A path: create, sync.
pub fn path(out: &mut Vec<u8>, xid: i32, zxid: i64, path: &str) {
    reply(out, xid, zxid, 0, |w| {
        w.string(path);
    });
}

/// A path and a Stat: create2.
pub fn path_stat(out: &mut Vec<u8>, xid: i32, zxid: i64, path: &str, stat: &Stat) {
    reply(out, xid, zxid, 0, |w| {
        w.string(path).stat(stat);
    });
}

/// A Stat: exists, setData.
pub fn stat(out: &mut Vec<u8>, xid: i32, zxid: i64, stat: &Stat) {
    reply(out, xid, zxid, 0, |w| {
        w.stat(stat);
    });
}

/// Data and Stat: getData.
pub fn data(out: &mut Vec<u8>, xid: i32, zxid: i64, data: Option<&[u8]>, stat: &Stat) {
    reply(out, xid, zxid, 0, |w| {
        w.buffer(data).stat(stat);
    });
}

/// Names: getChildren; with a Stat: getChildren2.
pub fn children<S: AsRef<str>>(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: i64,
    names: impl ExactSizeIterator<Item = S>,
    stat: Option<&Stat>,
) {
    reply(out, xid, zxid, 0, |w| {
        w.strings(names);
        if let Some(stat) = stat {
            w.stat(stat);
        }
    });
}

/// A list of ACL entries and a Stat: getACL.
pub fn acl(out: &mut Vec<u8>, xid: i32, zxid: i64, acl: &[Acl], stat: &Stat) {
    reply(out, xid, zxid, 0, |w| {
        w.acls(acl).stat(stat);
    });
}

/// Names without a Stat: getEphemerals.
pub fn paths<S: AsRef<str>>(out: &mut Vec<u8>, xid: i32, zxid: i64, all: impl ExactSizeIterator<Item = S>) {
    children(out, xid, zxid, all, None);
}

/// The same, path by path: how long it is is known in the end.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The frame, its length and the number of paths not said yet.
    frame: Vec<u8>,
    count: u32,
}

/// Where the number of paths stands: behind the length, and the header.
const COUNT_AT: usize = LENGTH_BYTES + 16;

impl Paths {
    /// Without any.
    pub fn begin(xid: i32, zxid: i64) -> Self {
        let mut frame = Vec::new();
        paths::<&str>(&mut frame, xid, zxid, [].into_iter());
        Self { frame, count: 0 }
    }

    /// One more.
    pub fn push(&mut self, path: &str) {
        Writer::bare(&mut self.frame).string(path);
        self.count += 1;
    }

    /// Bytes of it.
    pub const fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Appends the whole frame to `out`.
    ///
    /// # Panics
    /// If its length is none that a frame can say.
    pub fn end(mut self, out: &mut Vec<u8>) {
        let length = i32::try_from(self.frame.len() - LENGTH_BYTES).expect("answers are bounded far below");
        self.frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        self.frame[COUNT_AT..COUNT_AT + 4].copy_from_slice(&self.count.to_be_bytes());
        if out.is_empty() {
            *out = self.frame;
        } else {
            out.extend_from_slice(&self.frame);
        }
    }
}

/// A number: getAllChildrenNumber; the error in the record of addWatch.
pub fn number(out: &mut Vec<u8>, xid: i32, zxid: i64, number: i32) {
    reply(out, xid, zxid, 0, |w| {
        w.int(number);
    });
}

/// No token: sasl, where none is configured.
pub fn no_token(out: &mut Vec<u8>, xid: i32, zxid: i64) {
    reply(out, xid, zxid, 0, |w| {
        w.buffer(None);
    });
}

/// Schemes and users: whoAmI.
pub fn users<'a>(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: i64,
    all: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) {
    reply(out, xid, zxid, 0, |w| {
        w.count(all.len());
        for (scheme, user) in all {
            w.string(scheme).string(user);
        }
    });
}

/// What each operation came to, by `record`: multi, multiRead.
pub fn multi(out: &mut Vec<u8>, xid: i32, zxid: i64, record: impl FnOnce(&mut Writer<'_>)) {
    reply(out, xid, zxid, 0, |w| {
        record(w);
        w.multi_header(-1, true, -1);
    });
}

/// One operation of a multi failed, or was not done: an error with an error in its record.
pub fn part_failed(w: &mut Writer<'_>, err: i32) {
    w.multi_header(-1, false, err).int(err);
}

/// A watch event; `zxid` is that of the change, or -1 if synthesised for setWatches.
pub fn event(out: &mut Vec<u8>, zxid: i64, kind: EventType, path: &str) {
    reply(out, xid::EVENT, zxid, 0, |w| {
        w.int(kind.code()).int(STATE_SYNC_CONNECTED).string(path);
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;
    use crate::txn::AuthId;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn the_connect_response_has_its_golden_bytes_with_and_without_the_flag() {
        let golden = hex("00000025 00000000 00002710 0100000000000000 00000010 \
             f22acd4a97e69d6d20a49bb638eadb38 00");
        let mut response = ConnectResponse {
            timeout_ms: 10_000,
            session: 0x0100_0000_0000_0000,
            password: golden[24..40].try_into().expect("16 bytes"),
            read_only: Some(false),
        };
        assert_eq!(written(|out| response.encode(out)), golden);
        assert_eq!(ConnectResponse::decode(&golden[4..]), Ok(response));
        response.read_only = None;
        let short = written(|out| response.encode(out));
        assert_eq!((short.len(), short[3]), (40, 36));
        assert_eq!(ConnectResponse::decode(&short[4..]), Ok(response));
    }

    #[test]
    fn a_refusal_is_zero_in_every_field_clients_look_at() {
        let bytes = written(|out| ConnectResponse::refusal(Some(false)).encode(out));
        assert_eq!(bytes.len(), 41);
        assert!(bytes[4..20].iter().all(|&b| b == 0), "version, timeout, session");
        assert!(bytes[24..].iter().all(|&b| b == 0), "password, flag");
        assert!(ConnectResponse::decode(&bytes[4..]).is_ok_and(|r| r.is_refusal()));
    }

    #[test]
    fn replies_and_events_have_their_golden_bytes() {
        assert_eq!(
            written(|out| path(out, 1, 2, "/a")),
            hex("00000016 00000001 0000000000000002 00000000 00000002 2f61")
        );
        assert_eq!(
            written(|out| error(out, 2, 3, ErrorCode::NodeExists)),
            hex("00000010 00000002 0000000000000003 ffffff92")
        );
        assert_eq!(
            written(|out| empty(out, xid::PING, 9)),
            hex("00000010 fffffffe 0000000000000009 00000000")
        );
        let golden = hex("0000001e ffffffff 0000000000000005 00000000 00000003 00000003 00000002 2f61");
        assert_eq!(written(|out| event(out, 5, EventType::NodeDataChanged, "/a")), golden);
        let (header, mut r) = ReplyHeader::decode(&golden[4..]).expect("a header");
        assert_eq!(header, ReplyHeader { xid: xid::EVENT, zxid: 5, err: 0 });
        let event = WatcherEvent { kind: EventType::NodeDataChanged, path: "/a".into() };
        assert_eq!(WatcherEvent::decode(&mut r), Ok(event));
    }

    #[test]
    fn multis_have_their_golden_bytes() {
        let failed = written(|out| {
            multi(out, 5, 9, |w| {
                part_failed(w, 0);
                part_failed(w, ErrorCode::NoNode.code());
            });
        });
        let golden = "00000033 00000005 0000000000000009 00000000  ffffffff 00 00000000 00000000 \
                      ffffffff 00 ffffff9b ffffff9b  ffffffff 01 ffffffff";
        assert_eq!(failed, hex(golden));
        let done = written(|out| {
            multi(out, 5, 9, |w| {
                w.multi_header(13, false, 0).multi_header(2, false, 0);
            });
        });
        let golden = "0000002b 00000005 0000000000000009 00000000  0000000d 00 00000000 \
                      00000002 00 00000000  ffffffff 01 ffffffff";
        assert_eq!(done, hex(golden));
    }

    #[test]
    fn lists_and_numbers_have_their_golden_bytes() {
        let list = [Acl { perms: 1, id: AuthId { scheme: "ip".into(), id: "::1".into() } }];
        let bytes = written(|out| acl(out, 1, 2, &list, &Stat::default()));
        let head = hex("00000069 00000001 0000000000000002 00000000 \
             00000001 00000001 00000002 6970 00000003 3a3a31");
        assert_eq!((&bytes[..head.len()], bytes.len()), (&head[..], head.len() + 68));
        assert_eq!(
            written(|out| users(out, 1, 2, [("ip", "::1"), ("super", "")].into_iter())),
            hex("0000002e 00000001 0000000000000002 00000000 00000002 \
                 00000002 6970 00000003 3a3a31 00000005 7375706572 00000000")
        );
        assert_eq!(
            written(|out| paths(out, 1, 2, ["/a"].iter())),
            hex("0000001a 00000001 0000000000000002 00000000 00000001 00000002 2f61")
        );
        assert_eq!(
            written(|out| number(out, 1, 2, 7)),
            hex("00000014 00000001 0000000000000002 00000000 00000007")
        );
        assert_eq!(
            written(|out| no_token(out, 1, 2)),
            hex("00000014 00000001 0000000000000002 00000000 ffffffff")
        );
    }

    #[test]
    fn frames_in_one_buffer_follow_each_other() {
        let out = written(|out| {
            empty(out, 1, 1);
            path(out, 2, 2, "/b");
        });
        let first = super::super::frame_length(&out, 1 << 20).expect("legal").expect("there");
        let (header, _) = ReplyHeader::decode(&out[4..first]).expect("a header");
        assert_eq!(header.xid, 1);
        let (header, mut r) = ReplyHeader::decode(&out[first + 4..]).expect("a header");
        assert_eq!((header.xid, r.string().as_deref()), (2, Ok("/b")));
    }

    proptest! {
        #[test]
        fn what_a_server_encodes_the_client_decodes(
            names in prop::collection::vec(".{0,9}", 0..6),
            body in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
            zxid in any::<i64>(),
        ) {
            let s = Stat { mzxid: zxid, num_children: names.len() as i32, ..Stat::default() };
            let bytes = written(|out| children(out, 4, zxid, names.iter(), Some(&s)));
            let (header, mut r) = ReplyHeader::decode(&bytes[4..]).unwrap();
            prop_assert_eq!((header.zxid, header.error()), (zxid, None));
            let back: Vec<_> = r.strings().unwrap().into_iter().map(Cow::into_owned).collect();
            prop_assert_eq!((back, r.stat()), (names, Ok(s)));

            let bytes = written(|out| data(out, 5, zxid, body.as_deref(), &s));
            let (_, mut r) = ReplyHeader::decode(&bytes[4..]).unwrap();
            prop_assert_eq!((r.buffer(), r.stat()), (Ok(body.as_deref()), Ok(s)));
            let bytes = written(|out| path_stat(out, 6, zxid, "/p", &s));
            let (_, mut r) = ReplyHeader::decode(&bytes[4..]).unwrap();
            let back = r.string().unwrap();
            prop_assert_eq!((&*back, r.stat()), ("/p", Ok(s)));
            let bytes = written(|out| stat(out, 7, zxid, &s));
            let (_, mut r) = ReplyHeader::decode(&bytes[4..]).unwrap();
            prop_assert_eq!(r.stat(), Ok(s));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ConnectResponse::decode(&bytes);
            prop_assert_eq!(ReplyHeader::decode(&bytes).is_ok(), bytes.len() >= 16);
            if let Ok((_, mut r)) = ReplyHeader::decode(&bytes) {
                let _ = WatcherEvent::decode(&mut r);
            }
        }
    }
}
