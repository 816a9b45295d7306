//! Which numbers stand for what? Operations, errors, events and special xids of the client protocol.

/// Builds an enum whose variants are numbers on the wire.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $n:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $n,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Its number on the wire.
            pub const fn code(self) -> i32 {
                self as i32
            }

            /// The one of that number, if there is one.
            pub const fn from_code(code: i32) -> Option<Self> {
                match code {
                    $($n => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What a request asks for. All numbers that clients know; which of them are served is the node's matter.
    OpCode {
        /// New node; the reply is its path.
        Create = 1,
        /// Removes a node.
        Delete = 2,
        /// A node's Stat.
        Exists = 3,
        /// A node's data and Stat.
        GetData = 4,
        /// Replaces a node's data.
        SetData = 5,
        /// A node's ACL and Stat.
        GetAcl = 6,
        /// Replaces a node's ACL.
        SetAcl = 7,
        /// Names of a node's children.
        GetChildren = 8,
        /// Waits until this server has everything committed before the request.
        Sync = 9,
        /// Keeps the session alive.
        Ping = 11,
        /// Names of a node's children, and its Stat.
        GetChildren2 = 12,
        /// Version check inside a multi.
        Check = 13,
        /// Several writes, all or nothing.
        Multi = 14,
        /// New node; the reply is its path and Stat.
        Create2 = 15,
        /// Changes the ensemble.
        Reconfig = 16,
        /// Is there a watch?
        CheckWatches = 17,
        /// Removes watches.
        RemoveWatches = 18,
        /// New container node.
        CreateContainer = 19,
        /// Removes an empty container: servers only.
        DeleteContainer = 20,
        /// New node with a time to live.
        CreateTtl = 21,
        /// Several reads.
        MultiRead = 22,
        /// Adds an identity to the connection.
        Auth = 100,
        /// Registers watches again after a reconnect.
        SetWatches = 101,
        /// One step of a SASL exchange.
        Sasl = 102,
        /// The session's ephemerals.
        GetEphemerals = 103,
        /// Number of all descendants.
        GetAllChildrenNumber = 104,
        /// As `SetWatches`, with persistent ones.
        SetWatches2 = 105,
        /// Adds a persistent watch.
        AddWatch = 106,
        /// The connection's identities.
        WhoAmI = 107,
        /// Ends the session.
        CloseSession = -11,
    }
}

numbered! {
    /// Why a request was refused. Only numbers that ZooKeeper's clients know may ever be sent.
    ErrorCode {
        /// Internal failure.
        SystemError = -1,
        /// An op of a multi behind the one that failed.
        RuntimeInconsistency = -2,
        /// The request could not be decoded.
        MarshallingError = -5,
        /// This server doesn't do that.
        Unimplemented = -6,
        /// Invalid path, flag, or a reserved node.
        BadArguments = -8,
        /// The node, or its parent, doesn't exist.
        NoNode = -101,
        /// Not permitted.
        NoAuth = -102,
        /// The node has another version.
        BadVersion = -103,
        /// Ephemerals have no children.
        NoChildrenForEphemerals = -108,
        /// The node exists already.
        NodeExists = -110,
        /// The node has children.
        NotEmpty = -111,
        /// The session is gone.
        SessionExpired = -112,
        /// An ACL is empty or not understood.
        InvalidAcl = -114,
        /// Credentials refused.
        AuthFailed = -115,
        /// The session lives elsewhere. Never sent: the connection is closed.
        SessionMoved = -118,
        /// A write on a read-only server.
        NotReadOnly = -119,
        /// No such watch.
        NoWatcher = -121,
        /// Reconfiguration is switched off.
        ReconfigDisabled = -123,
        /// SASL is required first.
        SessionClosedRequireSaslAuth = -124,
        /// Over quota.
        QuotaExceeded = -125,
        /// Waited too long.
        ThrottledOp = -127,
    }
}

numbered! {
    /// What happened to a watched node.
    EventType {
        /// It came to be.
        NodeCreated = 1,
        /// It went.
        NodeDeleted = 2,
        /// Its data was set.
        NodeDataChanged = 3,
        /// A child came or went.
        NodeChildrenChanged = 4,
    }
}

numbered! {
    /// Which watches are asked for, or removed.
    WatchType {
        /// One-shot ones on children.
        Children = 1,
        /// One-shot ones on data.
        Data = 2,
        /// All.
        Any = 3,
        /// Persistent ones.
        Persistent = 4,
        /// Persistent recursive ones.
        PersistentRecursive = 5,
    }
}

/// The only connection state a server ever puts into an event.
pub const STATE_SYNC_CONNECTED: i32 = 3;

/// Version that matches any.
pub const ANY_VERSION: i32 = -1;

/// Special request numbers; clients count ordinary requests from 1.
pub mod xid {
    /// A watch event: no request.
    pub const EVENT: i32 = -1;
    /// Ping and its reply.
    pub const PING: i32 = -2;
    /// Auth and its reply, of most clients.
    pub const AUTH: i32 = -4;
    /// SetWatches and its reply, of the C client.
    pub const SET_WATCHES: i32 = -8;
}

/// Permission bits of an ACL entry.
pub mod perms {
    /// Get data and children.
    pub const READ: i32 = 1;
    /// Set data.
    pub const WRITE: i32 = 2;
    /// Create children.
    pub const CREATE: i32 = 4;
    /// Delete children.
    pub const DELETE: i32 = 8;
    /// Set the ACL.
    pub const ADMIN: i32 = 16;
    /// All of these.
    pub const ALL: i32 = 31;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_convert_both_ways() {
        assert!(OpCode::ALL.iter().all(|&o| OpCode::from_code(o.code()) == Some(o)));
        assert!(ErrorCode::ALL.iter().all(|&e| ErrorCode::from_code(e.code()) == Some(e) && e.code() < 0));
        assert!(EventType::ALL.iter().all(|&e| EventType::from_code(e.code()) == Some(e)));
        assert_eq!(OpCode::from_code(10), None);
        assert_eq!(ErrorCode::from_code(0), None);
        assert_eq!(EventType::from_code(-1), None);
        assert_eq!(OpCode::CloseSession.code(), -11);
    }
}
