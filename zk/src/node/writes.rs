//! Which write does a request ask for? What can be refused without looking at the tree is refused here.

use super::NodeConfig;
use super::queue::WriteOp;
use crate::jute::{ErrorCode, NewNode, OpCode, Request};
use crate::tree::TTL_MS_MAX;
use crate::txn::{CreateMode, CreateTtl, Op, Part};

/// Bytes of the reply to `getData` beside the data: header, length, Stat.
const REPLY_BYTES: usize = 16 + 4 + 68;
/// Bytes of a part of a multi's reply beside a path: header, length and Stat.
const PART_REPLY_BYTES: usize = 9 + 4 + 68;

/// What the write asked for is, and the bytes of paths and the like that its answer repeats.
pub(super) struct Asked {
    pub kind: WriteOp,
    pub op: Op,
    pub echo_bytes: usize,
}

/// A node to be.
enum New {
    Plain(CreateMode),
    Ttl(CreateTtl),
}

/// The write that a request asks for.
///
/// # Errors
/// What the request is refused with.
pub(super) fn asked(cfg: &NodeConfig, op: i32, body: &[u8]) -> Result<Asked, ErrorCode> {
    let request = Request::decode(op, body).map_err(|_| ErrorCode::MarshallingError)?;
    let plain = |kind, op| Ok(Asked { kind, op, echo_bytes: 0 });
    match request {
        Request::Create { path, data, acl, flags, with_stat } => {
            let kind = if with_stat { WriteOp::Create2 } else { WriteOp::Create };
            let node = NewNode { path, data, acl, flags };
            create(cfg, if with_stat { OpCode::Create2 } else { OpCode::Create }, node, -1)
                .map(|(op, echo_bytes)| Asked { kind, op, echo_bytes })
        }
        Request::CreateContainer(node) => create(cfg, OpCode::CreateContainer, node, -1)
            .map(|(op, echo_bytes)| Asked { kind: WriteOp::Create2, op, echo_bytes }),
        Request::CreateTtl { node, ttl_ms } => create(cfg, OpCode::CreateTtl, node, ttl_ms)
            .map(|(op, echo_bytes)| Asked { kind: WriteOp::Create2, op, echo_bytes }),
        Request::Delete { path, version } => {
            plain(WriteOp::Delete, Op::Delete { path: path.into_owned(), version })
        }
        Request::SetData { path, data, version } => {
            check_data(cfg, data)?;
            let data = data.map(<[u8]>::to_vec);
            plain(WriteOp::SetData, Op::SetData { path: path.into_owned(), data, version })
        }
        Request::SetAcl { path, acl, version } => {
            plain(WriteOp::SetData, Op::SetAcl { path: path.into_owned(), acl, version })
        }
        Request::Multi(requests) => {
            let mut echo_bytes = 0;
            let mut part = |request| {
                let (part, bytes) = part(cfg, request);
                echo_bytes += PART_REPLY_BYTES + bytes;
                part
            };
            let parts = requests.into_iter().map(&mut part).collect();
            Ok(Asked { kind: WriteOp::Multi, op: Op::Multi { parts }, echo_bytes })
        }
        Request::CloseSession => plain(WriteOp::CloseSession, Op::CloseSession),
        other => panic!("{other:?} is not a write"),
    }
}

/// What can't be read by clients must not be written: their limit is the same.
fn check_data(cfg: &NodeConfig, data: Option<&[u8]>) -> Result<(), ErrorCode> {
    let bytes = data.map_or(0, <[u8]>::len);
    if bytes + REPLY_BYTES > cfg.max_frame_bytes { Err(ErrorCode::BadArguments) } else { Ok(()) }
}

fn create(cfg: &NodeConfig, op: OpCode, node: NewNode<'_>, ttl_ms: i64) -> Result<(Op, usize), ErrorCode> {
    check_data(cfg, node.data)?;
    let echo_bytes = node.path.len();
    let op = match new(cfg, op, &node, ttl_ms)? {
        New::Ttl(ttl) => Op::CreateTtl(Box::new(CreateTtl { acl: node.acl, ..ttl })),
        New::Plain(mode) => Op::Create {
            path: node.path.into_owned(),
            data: node.data.map(<[u8]>::to_vec),
            acl: node.acl,
            mode,
        },
    };
    Ok((op, echo_bytes))
}

/// How a node is to be made: the operation decides about containers and times to live, the flags about the rest.
/// The ACL is not taken along.
fn new(cfg: &NodeConfig, op: OpCode, node: &NewNode<'_>, ttl_ms: i64) -> Result<New, ErrorCode> {
    let (ephemeral, sequential, has_ttl) = match node.flags {
        0 | 4 => (false, false, false),
        1 => (true, false, false),
        2 => (false, true, false),
        3 => (true, true, false),
        5 => (false, false, true),
        6 => (false, true, true),
        _ => return Err(ErrorCode::BadArguments),
    };
    if has_ttl && !cfg.extended_types {
        return Err(ErrorCode::Unimplemented);
    }
    let lives = u64::try_from(ttl_ms).ok().filter(|ms| (1..=TTL_MS_MAX).contains(ms));
    match (has_ttl, lives) {
        (true, Some(ttl_ms)) if op == OpCode::CreateTtl => Ok(New::Ttl(CreateTtl {
            path: node.path.clone().into_owned(),
            data: node.data.map(<[u8]>::to_vec),
            acl: Vec::new(),
            sequential,
            ttl_ms,
        })),
        (true, _) => Err(ErrorCode::BadArguments),
        (false, _) if ttl_ms >= 0 || op == OpCode::CreateTtl => Err(ErrorCode::BadArguments),
        (false, _) => Ok(New::Plain(match (op == OpCode::CreateContainer, ephemeral, sequential) {
            (true, _, false) => CreateMode::Container,
            (true, _, true) => CreateMode::ContainerSequential,
            (false, false, false) => CreateMode::Persistent,
            (false, true, false) => CreateMode::Ephemeral,
            (false, false, true) => CreateMode::PersistentSequential,
            (false, true, true) => CreateMode::EphemeralSequential,
        })),
    }
}

/// One part of a multi, and the bytes that its answer repeats.
fn part(cfg: &NodeConfig, request: Request<'_>) -> (Part, usize) {
    let refused = |error: ErrorCode| (Part::Refused { error: error.code() }, 0);
    let create = |op, node: NewNode<'_>, ttl_ms, with_stat| match create(cfg, op, node, ttl_ms) {
        Ok((Op::Create { path, data, acl, mode }, bytes)) => {
            (Part::Create { path, data, acl, mode, with_stat }, bytes)
        }
        Ok((Op::CreateTtl(node), bytes)) => (Part::CreateTtl(*node), bytes),
        Ok((other, _)) => panic!("{other:?} creates nothing"),
        Err(error) => refused(error),
    };
    match request {
        Request::Create { path, data, acl, flags, with_stat } => {
            let op = if with_stat { OpCode::Create2 } else { OpCode::Create };
            create(op, NewNode { path, data, acl, flags }, -1, with_stat)
        }
        Request::CreateContainer(node) => create(OpCode::CreateContainer, node, -1, true),
        Request::CreateTtl { node, ttl_ms } => create(OpCode::CreateTtl, node, ttl_ms, true),
        Request::Delete { path, version } => (Part::Delete { path: path.into_owned(), version }, 0),
        Request::Check { path, version } => (Part::Check { path: path.into_owned(), version }, 0),
        Request::SetData { path, data, version } => match check_data(cfg, data) {
            Ok(()) => {
                let data = data.map(<[u8]>::to_vec);
                (Part::SetData { path: path.into_owned(), data, version }, 0)
            }
            Err(error) => refused(error),
        },
        other => panic!("{other:?} is in no multi"),
    }
}
