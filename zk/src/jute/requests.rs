//! What can a client ask? The handshake, and every request that is served, decoded and encoded.

use super::codec::{DecodeError, Reader, Writer};
use super::codes::OpCode;
use crate::txn::Acl;
use std::borrow::Cow;

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// Clients send 0; servers ignore it.
    pub protocol_version: i32,
    /// Highest zxid the client has seen in any reply; 0 for a new client.
    pub last_zxid_seen: i64,
    /// Wished session timeout.
    pub timeout_ms: i32,
    /// Session to resume, 0 for a new one.
    pub session: i64,
    /// Of the session to resume: 16 bytes, or anything from odd clients; null counts as empty.
    pub password: &'a [u8],
    /// Whether a read-only server will do; `None` from clients that don't know the flag, which must then not
    /// get it in the answer.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Reads a frame's payload.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        Ok(Self {
            protocol_version: r.int()?,
            last_zxid_seen: r.long()?,
            timeout_ms: r.int()?,
            session: r.long()?,
            password: r.buffer()?.unwrap_or_default(),
            read_only: if r.rest().is_empty() { None } else { Some(r.boolean()?) },
        })
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut w = Writer::frame(out);
        w.int(self.protocol_version).long(self.last_zxid_seen).int(self.timeout_ms).long(self.session);
        w.buffer(Some(self.password));
        if let Some(flag) = self.read_only {
            w.boolean(flag);
        }
        w.finish();
    }
}

/// What precedes every later request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for it; the reply echoes it.
    pub xid: i32,
    /// What is asked: an [`OpCode`], or a number that nobody knows.
    pub op: i32,
}

impl RequestHeader {
    /// Reads a header; the request's record follows in `r`.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { xid: r.int()?, op: r.int()? })
    }
}

/// Watches that a client had before it reconnected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches<'a> {
    /// The client's last zxid: what happened after it must be told.
    pub relative_zxid: i64,
    /// Paths with data watches on nodes that existed.
    pub data: Vec<Cow<'a, str>>,
    /// Paths with watches on nodes that did not exist.
    pub exist: Vec<Cow<'a, str>>,
    /// Paths with child watches.
    pub child: Vec<Cow<'a, str>>,
}

/// The same, with persistent ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches2<'a> {
    /// One-shot ones.
    pub set: SetWatches<'a>,
    /// Paths with persistent watches.
    pub persistent: Vec<Cow<'a, str>>,
    /// Paths with persistent recursive watches.
    pub recursive: Vec<Cow<'a, str>>,
}

/// The fields of a request that makes a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode<'a> {
    /// As given; a sequence number is not yet added.
    pub path: Cow<'a, str>,
    /// `None` is null.
    pub data: Option<&'a [u8]>,
    /// Null counts as empty, and both are refused later.
    pub acl: Vec<Acl>,
    /// The mode's number.
    pub flags: i32,
}

/// A request without its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `create` and `create2`.
    Create {
        /// As given; a sequence number is not yet added.
        path: Cow<'a, str>,
        /// `None` is null.
        data: Option<&'a [u8]>,
        /// Null counts as empty, and both are refused later.
        acl: Vec<Acl>,
        /// The mode's number: 0 to 3 are [`crate::txn::CreateMode`]s, others exist.
        flags: i32,
        /// Whether the reply carries a Stat: `create2`.
        with_stat: bool,
    },
    /// `delete`.
    Delete {
        /// Which.
        path: Cow<'a, str>,
        /// Expected, -1 for any.
        version: i32,
    },
    /// `exists`.
    Exists {
        /// Which.
        path: Cow<'a, str>,
        /// Whether to leave a watch.
        watch: bool,
    },
    /// `getData`.
    GetData {
        /// Which.
        path: Cow<'a, str>,
        /// Whether to leave a watch.
        watch: bool,
    },
    /// `setData`.
    SetData {
        /// Which.
        path: Cow<'a, str>,
        /// `None` is null.
        data: Option<&'a [u8]>,
        /// Expected, -1 for any.
        version: i32,
    },
    /// `getChildren` and `getChildren2`.
    GetChildren {
        /// Of which.
        path: Cow<'a, str>,
        /// Whether to leave a watch.
        watch: bool,
        /// Whether the reply carries a Stat: `getChildren2`.
        with_stat: bool,
    },
    /// `sync`.
    Sync {
        /// Echoed.
        path: Cow<'a, str>,
    },
    /// `ping`.
    Ping,
    /// `setWatches`.
    SetWatches(SetWatches<'a>),
    /// `setWatches2`.
    SetWatches2(Box<SetWatches2<'a>>),
    /// `addWatch`.
    AddWatch {
        /// Which.
        path: Cow<'a, str>,
        /// 0 is persistent, 1 persistent recursive.
        mode: i32,
    },
    /// `checkWatches` and `removeWatches`.
    Watches {
        /// Which.
        path: Cow<'a, str>,
        /// A [`WatchType`](super::codes::WatchType)'s number.
        kind: i32,
        /// Whether they are removed.
        remove: bool,
    },
    /// `createContainer`.
    CreateContainer(NewNode<'a>),
    /// `createTTL`.
    CreateTtl {
        /// What.
        node: NewNode<'a>,
        /// Its time to live.
        ttl_ms: i64,
    },
    /// `check`, which only a multi may have.
    Check {
        /// Which.
        path: Cow<'a, str>,
        /// Expected, -1 for any.
        version: i32,
    },
    /// `multi`: what it may have of these.
    Multi(Vec<Request<'a>>),
    /// `multiRead`: `GetData` and `GetChildren` without Stat.
    MultiRead(Vec<Request<'a>>),
    /// `getACL`.
    GetAcl {
        /// Of which.
        path: Cow<'a, str>,
    },
    /// `setACL`.
    SetAcl {
        /// Of which.
        path: Cow<'a, str>,
        /// Null counts as empty, and both are refused later.
        acl: Vec<Acl>,
        /// Expected aversion, -1 for any.
        version: i32,
    },
    /// `getEphemerals`.
    GetEphemerals {
        /// What their paths begin with.
        prefix: Cow<'a, str>,
    },
    /// `getAllChildrenNumber`.
    GetAllChildrenNumber {
        /// Of which.
        path: Cow<'a, str>,
    },
    /// `whoAmI`.
    WhoAmI,
    /// `auth`.
    Auth {
        /// How it is proved.
        scheme: Cow<'a, str>,
        /// The proof.
        auth: &'a [u8],
    },
    /// `closeSession`.
    CloseSession,
    /// A number without a decoder here, known to other servers or to nobody.
    Other(i32),
}

impl<'a> Request<'a> {
    /// Reads the record of operation `op`. Bytes behind it are ignored.
    ///
    /// # Errors
    /// When it is malformed: to be answered with a marshalling error.
    pub fn decode(op: i32, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        match OpCode::from_code(op) {
            // It has a meaning in a multi only.
            Some(OpCode::Check) | None => Ok(Self::Other(op)),
            Some(OpCode::Multi) => parts(&mut r, PARTS, usize::MAX).map(Self::Multi),
            Some(OpCode::MultiRead) => parts(&mut r, READ_PARTS, READ_PARTS_MAX).map(Self::MultiRead),
            Some(known) => Self::record(known, &mut r),
        }
    }

    /// Reads the record of an operation that holds no others.
    fn record(op: OpCode, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match op {
            OpCode::Create | OpCode::Create2 => {
                let NewNode { path, data, acl, flags } = new_node(r)?;
                Self::Create { path, data, acl, flags, with_stat: op == OpCode::Create2 }
            }
            OpCode::Delete => Self::Delete { path: r.path()?, version: r.int()? },
            OpCode::Exists => Self::Exists { path: r.path()?, watch: r.boolean()? },
            OpCode::GetData => Self::GetData { path: r.path()?, watch: r.boolean()? },
            // A null path is empty here, and an invalid argument.
            OpCode::SetData => Self::SetData { path: r.string()?, data: r.buffer()?, version: r.int()? },
            OpCode::GetChildren | OpCode::GetChildren2 => Self::GetChildren {
                path: r.path()?,
                watch: r.boolean()?,
                with_stat: op == OpCode::GetChildren2,
            },
            OpCode::Sync => Self::Sync { path: r.string()? },
            OpCode::Ping => Self::Ping,
            OpCode::SetWatches => Self::SetWatches(set_watches(r)?),
            OpCode::SetWatches2 => {
                let (set, persistent, recursive) = (set_watches(r)?, r.paths()?, r.paths()?);
                Self::SetWatches2(Box::new(SetWatches2 { set, persistent, recursive }))
            }
            OpCode::AddWatch => Self::AddWatch { path: r.path()?, mode: r.int()? },
            OpCode::CheckWatches | OpCode::RemoveWatches => {
                Self::Watches { path: r.path()?, kind: r.int()?, remove: op == OpCode::RemoveWatches }
            }
            OpCode::CreateContainer => Self::CreateContainer(new_node(r)?),
            OpCode::CreateTtl => Self::CreateTtl { node: new_node(r)?, ttl_ms: r.long()? },
            OpCode::Check => Self::Check { path: r.string()?, version: r.int()? },
            OpCode::GetAcl => Self::GetAcl { path: r.path()? },
            OpCode::SetAcl => Self::SetAcl { path: r.string()?, acl: r.acls()?, version: r.int()? },
            OpCode::GetEphemerals => Self::GetEphemerals { prefix: r.string()? },
            OpCode::GetAllChildrenNumber => Self::GetAllChildrenNumber { path: r.path()? },
            OpCode::WhoAmI => Self::WhoAmI,
            OpCode::Auth => {
                r.int()?;
                Self::Auth { scheme: r.string()?, auth: r.buffer()?.unwrap_or_default() }
            }
            OpCode::CloseSession => Self::CloseSession,
            OpCode::Multi | OpCode::MultiRead | OpCode::Reconfig | OpCode::DeleteContainer | OpCode::Sasl => {
                Self::Other(op.code())
            }
        })
    }

    /// Its operation's number.
    pub fn op(&self) -> i32 {
        let known = match self {
            Self::Create { with_stat: false, .. } => OpCode::Create,
            Self::Create { with_stat: true, .. } => OpCode::Create2,
            Self::Delete { .. } => OpCode::Delete,
            Self::Exists { .. } => OpCode::Exists,
            Self::GetData { .. } => OpCode::GetData,
            Self::SetData { .. } => OpCode::SetData,
            Self::GetChildren { with_stat: false, .. } => OpCode::GetChildren,
            Self::GetChildren { with_stat: true, .. } => OpCode::GetChildren2,
            Self::Sync { .. } => OpCode::Sync,
            Self::Ping => OpCode::Ping,
            Self::SetWatches(_) => OpCode::SetWatches,
            Self::SetWatches2(_) => OpCode::SetWatches2,
            Self::AddWatch { .. } => OpCode::AddWatch,
            Self::Watches { remove: false, .. } => OpCode::CheckWatches,
            Self::Watches { remove: true, .. } => OpCode::RemoveWatches,
            Self::CreateContainer(_) => OpCode::CreateContainer,
            Self::CreateTtl { .. } => OpCode::CreateTtl,
            Self::Check { .. } => OpCode::Check,
            Self::Multi(_) => OpCode::Multi,
            Self::MultiRead(_) => OpCode::MultiRead,
            Self::GetAcl { .. } => OpCode::GetAcl,
            Self::SetAcl { .. } => OpCode::SetAcl,
            Self::GetEphemerals { .. } => OpCode::GetEphemerals,
            Self::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Self::WhoAmI => OpCode::WhoAmI,
            Self::Auth { .. } => OpCode::Auth,
            Self::CloseSession => OpCode::CloseSession,
            Self::Other(op) => return *op,
        };
        known.code()
    }

    /// Appends the whole frame, header included, to `out`. `Other` gets no record.
    pub fn encode(&self, xid: i32, out: &mut Vec<u8>) {
        let mut w = Writer::frame(out);
        w.int(xid).int(self.op());
        self.encode_record(&mut w);
        w.finish();
    }

    fn encode_record(&self, w: &mut Writer<'_>) {
        match self {
            Self::Create { path, data, acl, flags, .. }
            | Self::CreateContainer(NewNode { path, data, acl, flags }) => {
                w.string(path).buffer(*data).acls(acl).int(*flags);
            }
            Self::CreateTtl { node: NewNode { path, data, acl, flags }, ttl_ms } => {
                w.string(path).buffer(*data).acls(acl).int(*flags).long(*ttl_ms);
            }
            Self::Delete { path, version } | Self::Check { path, version } => {
                w.string(path).int(*version);
            }
            Self::Exists { path, watch }
            | Self::GetData { path, watch }
            | Self::GetChildren { path, watch, .. } => {
                w.string(path).boolean(*watch);
            }
            Self::SetData { path, data, version } => {
                w.string(path).buffer(*data).int(*version);
            }
            Self::SetAcl { path, acl, version } => {
                w.string(path).acls(acl).int(*version);
            }
            Self::Sync { path } | Self::GetAcl { path } | Self::GetAllChildrenNumber { path } => {
                w.string(path);
            }
            Self::GetEphemerals { prefix } => {
                w.string(prefix);
            }
            Self::SetWatches(s) => encode_set_watches(w, s),
            Self::SetWatches2(s) => {
                encode_set_watches(w, &s.set);
                w.strings(s.persistent.iter()).strings(s.recursive.iter());
            }
            Self::AddWatch { path, mode: number } | Self::Watches { path, kind: number, .. } => {
                w.string(path).int(*number);
            }
            Self::Multi(parts) | Self::MultiRead(parts) => {
                for part in parts {
                    w.multi_header(part.op(), false, -1);
                    part.encode_record(w);
                }
                w.multi_header(-1, true, -1);
            }
            Self::Auth { scheme, auth } => {
                w.int(0).string(scheme).buffer(Some(auth));
            }
            Self::WhoAmI | Self::Ping | Self::CloseSession | Self::Other(_) => {}
        }
    }
}

/// What a multi may have.
const PARTS: &[OpCode] = &[
    OpCode::Create,
    OpCode::Delete,
    OpCode::SetData,
    OpCode::Check,
    OpCode::Create2,
    OpCode::CreateContainer,
    OpCode::CreateTtl,
];
/// What a multiRead may have.
const READ_PARTS: &[OpCode] = &[OpCode::GetData, OpCode::GetChildren];
/// How many of them. A multiRead is answered in one piece: its reply has one zxid, and must not show what came later, nor leave a
/// watch that misses what came before that.
pub const READ_PARTS_MAX: usize = 16_384;
/// Highest number of a create mode.
const FLAGS_MAX: i32 = 6;

/// The operations of a multi, up to its terminator. What can't be done at all in one makes it unreadable, as do more than `max`.
fn parts<'a>(r: &mut Reader<'a>, allowed: &[OpCode], max: usize) -> Result<Vec<Request<'a>>, DecodeError> {
    let mut parts = Vec::new();
    loop {
        let (op, done, _) = (r.int()?, r.boolean()?, r.int()?);
        if done {
            return Ok(parts);
        }
        if parts.len() == max {
            return Err(DecodeError::Value("a multi has too many operations"));
        }
        let op = OpCode::from_code(op).filter(|op| allowed.contains(op));
        let part = Request::record(op.ok_or(DecodeError::Value("a multi has no such operation"))?, r)?;
        if let Request::Create { flags, .. }
        | Request::CreateContainer(NewNode { flags, .. })
        | Request::CreateTtl { node: NewNode { flags, .. }, .. } = part
            && !(0..=FLAGS_MAX).contains(&flags)
        {
            return Err(DecodeError::Value("a multi creates in an unknown mode"));
        }
        parts.push(part);
    }
}

fn new_node<'a>(r: &mut Reader<'a>) -> Result<NewNode<'a>, DecodeError> {
    Ok(NewNode { path: r.path()?, data: r.buffer()?, acl: r.acls()?, flags: r.int()? })
}

fn set_watches<'a>(r: &mut Reader<'a>) -> Result<SetWatches<'a>, DecodeError> {
    Ok(SetWatches { relative_zxid: r.long()?, data: r.paths()?, exist: r.paths()?, child: r.paths()? })
}

fn encode_set_watches(w: &mut Writer<'_>, s: &SetWatches<'_>) {
    w.long(s.relative_zxid);
    w.strings(s.data.iter()).strings(s.exist.iter()).strings(s.child.iter());
}

#[cfg(test)]
mod tests {
    use super::super::frame::LENGTH_BYTES;
    use super::super::testing::hex;
    use super::*;
    use crate::txn::AuthId;
    use proptest::prelude::*;

    fn encoded(request: &Request<'_>, xid: i32) -> Vec<u8> {
        let mut out = Vec::new();
        request.encode(xid, &mut out);
        out
    }

    fn decoded(frame: &[u8]) -> Result<(RequestHeader, Request<'_>), DecodeError> {
        let mut r = Reader::new(&frame[LENGTH_BYTES..]);
        let header = RequestHeader::decode(&mut r)?;
        Ok((header, Request::decode(header.op, r.rest())?))
    }

    #[test]
    fn the_connect_request_has_its_golden_bytes_with_and_without_the_flag() {
        let golden = hex("0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010 \
             00000000000000000000000000000000 00");
        let mut request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 10_000,
            session: 0,
            password: &[0; 16],
            read_only: Some(false),
        };
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, golden);
        assert_eq!(ConnectRequest::decode(&golden[4..]), Ok(request.clone()));
        request.read_only = None;
        assert_eq!(ConnectRequest::decode(&golden[4..48]), Ok(request));
        assert!(ConnectRequest::decode(&golden[4..47]).is_err());
    }

    #[test]
    fn a_null_password_is_an_empty_one() {
        let bytes = hex("00000000 0000000000000000 00002710 0000000000000000 ffffffff");
        let request = ConnectRequest::decode(&bytes).expect("legal");
        assert_eq!((request.password, request.read_only), (&[][..], None));
    }

    #[test]
    fn create_and_ping_have_their_golden_bytes() {
        let golden = hex("00000032 00000001 00000001 00000002 2f61 00000001 78 00000001 0000001f \
             00000005 776f726c64 00000006 616e796f6e65 00000000");
        let id = AuthId { scheme: "world".into(), id: "anyone".into() };
        let create = Request::Create {
            path: "/a".into(),
            data: Some(b"x"),
            acl: vec![Acl { perms: 31, id }],
            flags: 0,
            with_stat: false,
        };
        assert_eq!(encoded(&create, 1), golden);
        assert_eq!(decoded(&golden), Ok((RequestHeader { xid: 1, op: 1 }, create)));

        let golden = hex("00000008 fffffffe 0000000b");
        assert_eq!(encoded(&Request::Ping, -2), golden);
        assert_eq!(decoded(&golden), Ok((RequestHeader { xid: -2, op: 11 }, Request::Ping)));
    }

    #[test]
    fn bytes_behind_a_record_are_ignored_and_missing_ones_are_not() {
        let mut bytes = encoded(&Request::Delete { path: "/a".into(), version: 7 }, 3);
        bytes.extend_from_slice(b"junk");
        assert_eq!(decoded(&bytes).map(|d| d.1), Ok(Request::Delete { path: "/a".into(), version: 7 }));
        bytes.truncate(bytes.len() - 5);
        assert!(matches!(decoded(&bytes), Err(DecodeError::Short { have: 3, want: 4 })));
    }

    /// The empty path is a name of the root, and some clients write what is empty as null.
    #[test]
    fn a_null_path_is_refused_and_never_the_root() {
        let null = hex("ffffffff 00000000 00000000 00000000 00000000");
        for op in [OpCode::Create, OpCode::Delete, OpCode::Exists, OpCode::GetData, OpCode::GetChildren] {
            assert_eq!(
                Request::decode(op.code(), &null),
                Err(DecodeError::Value("a path is null")),
                "{op:?}"
            );
        }
        let set = hex("0000000000000000 00000000 00000001 ffffffff 00000000");
        assert!(Request::decode(OpCode::SetWatches.code(), &set).is_err());
        let empty = Request::SetData { path: "".into(), data: Some(b""), version: 0 };
        assert_eq!(Request::decode(OpCode::SetData.code(), &null), Ok(empty), "refused later, as invalid");
    }

    #[test]
    fn an_unknown_operation_is_told_from_a_broken_one() {
        assert_eq!(Request::decode(999, b"whatever"), Ok(Request::Other(999)));
        assert_eq!(Request::decode(OpCode::Reconfig.code(), b""), Ok(Request::Other(16)));
        assert_eq!(Request::decode(OpCode::Check.code(), b""), Ok(Request::Other(13)), "only in a multi");
        assert!(Request::decode(OpCode::Multi.code(), b"").is_err());
        assert!(Request::decode(OpCode::Create.code(), b"").is_err());
    }

    #[test]
    fn a_multi_has_its_golden_bytes() {
        let golden = hex("0000003a 00000005 0000000e  0000000d 00 ffffffff 00000002 2f61 00000000 \
             00000002 00 ffffffff 00000005 2f6e6f7065 ffffffff  ffffffff 01 ffffffff");
        let multi = Request::Multi(vec![
            Request::Check { path: "/a".into(), version: 0 },
            Request::Delete { path: "/nope".into(), version: -1 },
        ]);
        assert_eq!(encoded(&multi, 5), golden);
        assert_eq!(decoded(&golden), Ok((RequestHeader { xid: 5, op: 14 }, multi)));
    }

    #[test]
    fn what_a_multi_may_not_have_makes_it_unreadable() {
        let of = |op: OpCode, part: Request<'static>| {
            let mut out = Vec::new();
            let parts =
                if op == OpCode::Multi { Request::Multi(vec![part]) } else { Request::MultiRead(vec![part]) };
            parts.encode(1, &mut out);
            Request::decode(op.code(), &out[12..]).map(|_| ())
        };
        let wrong = || Err(DecodeError::Value("a multi has no such operation"));
        let get = || Request::GetData { path: "/a".into(), watch: false };
        let exists = || Request::Exists { path: "/a".into(), watch: false };
        let delete = || Request::Delete { path: "/a".into(), version: -1 };
        assert_eq!(of(OpCode::Multi, get()), wrong());
        assert_eq!(of(OpCode::MultiRead, delete()), wrong());
        assert_eq!(of(OpCode::MultiRead, exists()), wrong());
        assert_eq!(of(OpCode::Multi, Request::Multi(vec![])), wrong(), "none within another");
        assert_eq!(of(OpCode::Multi, Request::Other(999)), wrong());
        assert_eq!((of(OpCode::Multi, delete()), of(OpCode::MultiRead, get())), (Ok(()), Ok(())));
        let create =
            |flags| Request::Create { path: "/a".into(), data: None, acl: vec![], flags, with_stat: false };
        assert_eq!(of(OpCode::Multi, create(6)), Ok(()));
        for flags in [-1, 7] {
            assert_eq!(
                of(OpCode::Multi, create(flags)),
                Err(DecodeError::Value("a multi creates in an unknown mode"))
            );
        }
    }

    fn requests() -> impl Strategy<Value = Request<'static>> {
        prop_oneof![4 => single(), 1 => multis()]
    }

    fn multis() -> impl Strategy<Value = Request<'static>> {
        let part = (".{0,9}", any::<i32>(), 0..5u8).prop_map(|(path, version, kind)| {
            let path = Cow::Owned(path);
            let node = |path| NewNode { path, data: None, acl: Vec::new(), flags: 5 };
            match kind {
                0 => Request::Check { path, version },
                1 => Request::Delete { path, version },
                2 => Request::SetData { path, data: Some(b"x"), version },
                3 => Request::CreateContainer(node(path)),
                _ => Request::CreateTtl { node: node(path), ttl_ms: i64::from(version) },
            }
        });
        let read = (".{0,9}", any::<bool>(), any::<bool>()).prop_map(|(path, watch, data)| {
            let path = Cow::Owned(path);
            match data {
                true => Request::GetData { path, watch },
                false => Request::GetChildren { path, watch, with_stat: false },
            }
        });
        prop_oneof![
            prop::collection::vec(part, 0..5).prop_map(Request::Multi),
            prop::collection::vec(read, 0..5).prop_map(Request::MultiRead),
        ]
    }

    fn single() -> impl Strategy<Value = Request<'static>> {
        let path = || ".{0,12}".prop_map(Cow::<str>::Owned);
        let data = || prop::sample::select(vec![None, Some(&b""[..]), Some(&b"some"[..])]);
        let paths = move || prop::collection::vec(path(), 0..4);
        prop_oneof![
            (path(), data(), any::<i32>(), any::<bool>()).prop_map(|(path, data, flags, with_stat)| {
                Request::Create { path, data, acl: Vec::new(), flags, with_stat }
            }),
            (path(), any::<i32>()).prop_map(|(path, version)| Request::Delete { path, version }),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::Exists { path, watch }),
            (path(), any::<bool>()).prop_map(|(path, watch)| Request::GetData { path, watch }),
            (path(), data(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData {
                path,
                data,
                version
            }),
            (path(), any::<bool>(), any::<bool>())
                .prop_map(|(path, watch, with_stat)| Request::GetChildren { path, watch, with_stat }),
            path().prop_map(|path| Request::Sync { path }),
            Just(Request::Ping),
            Just(Request::CloseSession),
            Just(Request::WhoAmI),
            (any::<i64>(), paths(), paths(), paths()).prop_map(|(relative_zxid, data, exist, child)| {
                Request::SetWatches(SetWatches { relative_zxid, data, exist, child })
            }),
            (any::<i64>(), paths(), paths(), paths()).prop_map(
                |(relative_zxid, data, persistent, recursive)| {
                    let set = SetWatches { relative_zxid, data, exist: vec![], child: vec![] };
                    Request::SetWatches2(Box::new(SetWatches2 { set, persistent, recursive }))
                }
            ),
            (path(), any::<i32>()).prop_map(|(path, mode)| Request::AddWatch { path, mode }),
            (path(), any::<i32>(), any::<bool>()).prop_map(|(path, kind, remove)| Request::Watches {
                path,
                kind,
                remove
            }),
            path().prop_map(|path| Request::GetAcl { path }),
            (path(), any::<i32>()).prop_map(|(path, version)| Request::SetAcl { path, acl: vec![], version }),
            path().prop_map(|prefix| Request::GetEphemerals { prefix }),
            path().prop_map(|path| Request::GetAllChildrenNumber { path }),
            path().prop_map(|scheme| Request::Auth { scheme, auth: b"me:secret" }),
        ]
    }

    proptest! {
        #[test]
        fn what_a_client_encodes_the_server_decodes(request in requests(), xid in any::<i32>()) {
            let bytes = encoded(&request, xid);
            let (header, back) = decoded(&bytes).unwrap();
            prop_assert_eq!(header, RequestHeader { xid, op: request.op() });
            prop_assert_eq!(back, request);
        }

        /// Cut anywhere, a request is refused or (an op without a record) complete; it never panics.
        #[test]
        fn half_requests_are_refused(request in requests(), keep in 0usize..200) {
            let bytes = encoded(&request, 1);
            let cut = &bytes[..keep.clamp(LENGTH_BYTES, bytes.len())];
            prop_assert!(cut.len() == bytes.len() || decoded(cut).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            op in -12i32..110,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = Request::decode(op, &bytes);
            let _ = ConnectRequest::decode(&bytes);
            let known = OpCode::from_code(op).is_some();
            prop_assert!(known || Request::decode(op, &bytes) == Ok(Request::Other(op)));
        }
    }
}
