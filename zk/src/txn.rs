//! What enters the log? A [`Txn`]: a request with every choice already made, so that applying it is a pure
//! function of (state, GSN, txn). Record bytes: version u8, [`flags`] u8, six zeros, the rkyv archive of [`Txn`].
//!
//! New kinds of [`Op`] are added behind the others and must not be longer than the longest, so that records
//! written before stay what they are.

use crate::access::Rules;
use crate::jute::ErrorCode;
use std::sync::Arc;
use zoolog_core::{Gsn, WallMs};

/// Version of the record format, its first byte.
pub const TXN_VERSION: u8 = 1;
/// Bytes before the archive.
pub const TXN_HEADER_BYTES: usize = 8;

/// What the node that wrote a record was told by its operator.
pub mod flags {
    /// Hard quotas are enforced.
    pub const ENFORCE_QUOTA: u8 = 1;
    /// ACLs are not.
    pub const SKIP_ACL: u8 = 2;
    /// All of them.
    pub const ALL: u8 = ENFORCE_QUOTA | SKIP_ACL;
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Txn {
    /// Whose request; 0 when a node speaks for itself (touch, expire) or no session exists yet.
    pub session: i64,
    /// GSN of the `CreateSession` or `Attach` that this connection rests on; apply rejects the txn if the
    /// session has been attached since. 0 where `session` is 0.
    pub attach: u64,
    /// The wall clock of the node that wrote it: ctime, mtime.
    pub wall: WallMs,
    /// What the connection has proved, as of when the request came. Of a `CreateSession` or `Attach`: its
    /// address instead, scheme `ip`, which the session keeps until it is attached again.
    pub ids: Vec<AuthId>,
    /// What to do.
    pub op: Op,
}

/// An identity: scheme and id, as in ACLs.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct AuthId {
    /// `world`, `digest`, `ip`, ...
    pub scheme: String,
    /// In the scheme's syntax.
    pub id: String,
}

/// Permissions of an identity.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Acl {
    /// Permission bits.
    pub perms: i32,
    /// Whose.
    pub id: AuthId,
}

/// How a node is created. Numbers as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent,
    /// Goes with its session.
    Ephemeral,
    /// Gets a sequence number.
    PersistentSequential,
    /// Both.
    EphemeralSequential,
    /// Goes when its last child has gone.
    Container,
    /// The same, with a sequence number.
    ContainerSequential,
}

/// A node with a time to live: it goes when it has had no children and its data was not set for so long.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreateTtl {
    /// As the client gave it; sequence suffix not yet added.
    pub path: String,
    /// `None` is ZooKeeper's null.
    pub data: Option<Vec<u8>>,
    /// As the client gave it.
    pub acl: Vec<Acl>,
    /// Whether it gets a sequence number.
    pub sequential: bool,
    /// How long: 1 to 2^40 - 1.
    pub ttl_ms: u64,
}

/// A node to be swept, if it still is as the proposer saw it.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Sweeping {
    /// Which.
    pub path: String,
    /// Its czxid, mzxid and pzxid.
    pub zxids: [i64; 3],
}

/// A node as it was elsewhere: in a dump, or in another service.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ImportedNode {
    /// Where. Its parent is there, or comes before it.
    pub path: String,
    /// `None` is ZooKeeper's null.
    pub data: Option<Vec<u8>>,
    /// Empty: open to everyone.
    pub acl: Vec<Acl>,
    /// How long it lives, as [`Lifetime::owner`](crate::tree::Lifetime::owner) says; no ephemeral.
    pub owner: i64,
    /// Children ever created below it: its cversion and its sequence numbers rest on it.
    pub created: u64,
    /// Changes of its data, and of its ACL.
    pub versions: [i32; 2],
    /// Wall clock of its creation and of its last change, ms.
    pub times: [i64; 2],
}

pub use op::{ArchivedOp, ArchivedPart, Op, Part};

// A room of its own, closed, because rkyv makes a resolver with fields that nobody can document.
mod op {
    use super::{Acl, CreateMode, CreateTtl, ImportedNode, Sweeping};

    /// One op of a multi.
    #[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub enum Part {
        /// As [`Op::Create`].
        Create {
            /// As the client gave it; sequence suffix not yet added.
            path: String,
            /// `None` is ZooKeeper's null.
            data: Option<Vec<u8>>,
            /// As the client gave it.
            acl: Vec<Acl>,
            /// How.
            mode: CreateMode,
            /// Whether the client asked for the Stat, too.
            with_stat: bool,
        },
        /// As [`Op::CreateTtl`].
        CreateTtl(CreateTtl),
        /// As [`Op::Delete`].
        Delete {
            /// Which.
            path: String,
            /// Expected version, -1 for any.
            version: i32,
        },
        /// As [`Op::SetData`].
        SetData {
            /// Which.
            path: String,
            /// `None` is ZooKeeper's null.
            data: Option<Vec<u8>>,
            /// Expected version, -1 for any.
            version: i32,
        },
        /// Fails unless the node has that version.
        Check {
            /// Which.
            path: String,
            /// Expected version, -1 for any.
            version: i32,
        },
        /// Fails: what was wrong with it was seen when it came, but an op before it may fail first.
        Refused {
            /// Number of the [`ErrorCode`](crate::jute::ErrorCode).
            error: i32,
        },
    }

    /// What a txn does.
    #[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    pub enum Op {
        /// A new session; its id follows from the GSN.
        CreateSession {
            /// Negotiated timeout.
            timeout_ms: u32,
        },
        /// A known session comes back on another connection: validity check, move and touch at once.
        Attach {
            /// The session; the txn's own `session` is 0.
            session: i64,
            /// Negotiated timeout.
            timeout_ms: u32,
        },
        /// The client says goodbye.
        CloseSession,
        /// A node has heard from these sessions: (session, attach GSN).
        Touch {
            /// All of them since its last touch.
            sessions: Vec<(i64, u64)>,
        },
        /// A session was silent too long. Void if it was attached or touched since.
        Expire {
            /// Which.
            session: i64,
            /// Its attach GSN when the proposer decided.
            attach: u64,
            /// Its last-touch GSN when the proposer decided.
            touch: u64,
        },
        /// New node.
        Create {
            /// As the client gave it; sequence suffix not yet added.
            path: String,
            /// `None` is ZooKeeper's null.
            data: Option<Vec<u8>>,
            /// As the client gave it.
            acl: Vec<Acl>,
            /// How.
            mode: CreateMode,
        },
        /// Removes a node.
        Delete {
            /// Which.
            path: String,
            /// Expected version, -1 for any.
            version: i32,
        },
        /// Replaces a node's data.
        SetData {
            /// Which.
            path: String,
            /// `None` is ZooKeeper's null.
            data: Option<Vec<u8>>,
            /// Expected version, -1 for any.
            version: i32,
        },
        /// Does nothing but take its place in the order: what `sync` and linearizable reads through the log use.
        Nothing,
        /// Raises the version of the rules by which txns are applied. Void if not greater.
        RaiseApplyVersion {
            /// The new version.
            to: u32,
        },
        /// New node with a time to live.
        CreateTtl(Box<CreateTtl>),
        /// Replaces a node's ACL.
        SetAcl {
            /// Which.
            path: String,
            /// As the client gave it.
            acl: Vec<Acl>,
            /// Expected aversion, -1 for any.
            version: i32,
        },
        /// All of them or none, in this order, as one transaction.
        Multi {
            /// They.
            parts: Vec<Part>,
        },
        /// Containers without children, and nodes whose time to live is over at the txn's wall clock, go.
        Sweep {
            /// Each is kept if it is not as it was seen.
            nodes: Vec<Sweeping>,
        },
        /// These nodes are to be as they were elsewhere; one that can't be is left out.
        Import {
            /// Parents before children.
            nodes: Vec<ImportedNode>,
        },
        /// Every node notes which hash its state has behind this record. Changes nothing.
        Mark,
        /// What a node noted at a mark. Changes nothing.
        Hashed {
            /// Which node.
            node: u32,
            /// GSN of the mark.
            at: u64,
            /// Hash of its state; `None` takes back what it said, since it was wrong.
            hash: Option<u64>,
        },
        /// The record at that GSN, which lies before this one, is passed over: applying it ends a node. Changes nothing
        /// here: who comes to that record has looked for this one before.
        Skip {
            /// Which.
            gsn: u64,
        },
    }
}

/// A node's Stat, in ZooKeeper's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "ZooKeeper's own names")]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: i64,
}

/// What applying a txn came to: the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A `CreateSession`.
    SessionCreated {
        /// Its id.
        session: i64,
        /// What was agreed.
        timeout_ms: u32,
    },
    /// An `Attach` to a session that lives.
    Attached {
        /// What was agreed.
        timeout_ms: u32,
    },
    /// An `Attach` to a session that doesn't.
    NoSuchSession,
    /// The session has been attached elsewhere since this connection's attach, or is gone: nothing was done,
    /// the connection must be closed.
    Stale,
    /// A `Create`.
    Created {
        /// Final path.
        path: String,
        /// Of the new node.
        stat: Stat,
    },
    /// A `Delete`.
    Deleted,
    /// A `SetData` or a `SetAcl`.
    Set {
        /// Of the node.
        stat: Stat,
    },
    /// A `Multi`: what each part came to.
    Multi(Vec<PartOutcome>),
    /// A `Multi` of which nothing was done.
    MultiFailed {
        /// Which part was refused.
        at: usize,
        /// How many there are.
        of: usize,
        /// Why.
        error: ErrorCode,
    },
    /// A `CloseSession`, `Touch`, `Expire`, `Sweep`, `Import`, `Nothing` or `RaiseApplyVersion`.
    Done,
    /// Nothing: it is from node to node.
    Word(Word),
    /// Refused under ZooKeeper's rules; nothing was done.
    Failed(ErrorCode),
    /// The record can't be understood by the rules of this `apply_version`; nothing was done.
    Rejected,
}

/// What a record says to nodes, and not to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Here states are compared.
    Mark,
    /// A node's state had this hash behind the mark at `at`; `None`: what it said was wrong.
    Hashed {
        /// Which node.
        node: u32,
        /// Position of the mark.
        at: Gsn,
        /// Of its state.
        hash: Option<u64>,
    },
    /// The record at this position is passed over.
    Skip {
        /// Which.
        gsn: Gsn,
    },
}

/// What one part of a multi came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartOutcome {
    /// A node was made.
    Created {
        /// Final path.
        path: String,
        /// Of the new node, if that was asked for.
        stat: Option<Stat>,
    },
    /// A node was removed.
    Deleted,
    /// A node's data was set.
    Set {
        /// Of the node.
        stat: Stat,
    },
    /// A node has the version it should.
    Checked,
}

/// Who may hear of a change: who may read the node, as it was when it changed. `None` is everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    /// The node's ACL.
    pub node: Option<Arc<Rules>>,
    /// Its parent's, where its children changed.
    pub parent: Option<Arc<Rules>>,
}

impl From<[Option<Arc<Rules>>; 2]> for Readers {
    fn from([node, parent]: [Option<Arc<Rules>>; 2]) -> Self {
        Self { node, parent }
    }
}

/// An ephemeral that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ephemeral {
    /// Whose it was.
    pub session: i64,
    /// Where it was in the tree.
    pub slot: u32,
}

/// What apply did to the tree or to the sessions, for watches and connections, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node came to be; its parent's children changed.
    Created {
        /// Which.
        path: String,
        /// Who may hear of it.
        readers: Readers,
    },
    /// A node went; its parent's children changed.
    Deleted {
        /// Which.
        path: String,
        /// Who may hear of it.
        readers: Readers,
        /// What it was, if it was a session's.
        ephemeral: Option<Ephemeral>,
    },
    /// A node's data was set.
    DataChanged {
        /// Which.
        path: String,
        /// Who may hear of it.
        readers: Readers,
    },
    /// A soft quota was passed.
    OverQuota {
        /// Of this path.
        path: String,
    },
    /// A session is gone, by close or expiry; its ephemerals' `Deleted` came just before.
    SessionEnded {
        /// Which.
        session: i64,
    },
    /// A session rests on another connection now, or is new.
    SessionAttached {
        /// Which.
        session: i64,
        /// GSN of the attach.
        attach: u64,
    },
}

impl Change {
    /// Who may hear of it, if it is of a node.
    pub fn readers(&self) -> Option<&Readers> {
        match self {
            Self::Created { readers, .. }
            | Self::Deleted { readers, .. }
            | Self::DataChanged { readers, .. } => Some(readers),
            Self::OverQuota { .. } | Self::SessionEnded { .. } | Self::SessionAttached { .. } => None,
        }
    }
}
