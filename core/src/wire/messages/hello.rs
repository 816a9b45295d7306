//! Who is there, and how is it? What every connection may carry.

use crate::ids::*;

plain_enum! {
    /// What the dialling side is.
    Role {
        /// An orderer.
        Orderer,
        /// A slot of a data server.
        Slot,
        /// A writer, reader or subscriber.
        Client,
    }
}

body! {
    /// First on every connection, from who dialled it. No answer if all is well.
    Hello {
        /// What it is.
        role: Role,
        /// Its cluster; 0 from a client that doesn't know it. Another cluster's is refused.
        cluster: ClusterId,
        /// Orderer id, or server id; 0 from clients.
        node: u64,
        /// Slot index; else 0.
        slot: u16,
        /// Its start; 0 from clients.
        incarnation: Incarnation,
    }
}

plain_enum! {
    /// Why a connection is refused.
    RefusedWhy {
        /// Another cluster.
        Cluster,
        /// A message that has no place on this connection.
        Unexpected,
        /// A newer incarnation of the sender is known.
        Stale,
        /// The request contradicts the protocol or committed state.
        Invalid,
        /// Its state is damaged or behind what is committed; it must be repaired first.
        Damaged,
        /// This node is not ready to serve it; try again later.
        NotReady,
        /// An orderer that was removed, or whoever lost its data directory: it must never speak under its id again. Or a start
        /// of a slot that has had a later one: that start must not.
        Dismissed,
    }
}

body! {
    /// Sent before closing a connection.
    Refused {
        /// Why, for programs.
        why: RefusedWhy,
        /// Why, for people.
        text: String,
    }
}

body! {
    /// How are you?
    Status {
        /// Comes back.
        request: u64,
    }
}

body! {
    /// How long do your stages take? Answered by `StatusIs`, whose JSON is then that of
    /// [`Stages`](crate::stages::Stages).
    Stages {
        /// Comes back.
        request: u64,
        /// Whether to count anew from now on, after the answer.
        reset: bool,
    }
}

body! {
    /// The answer to `Status` and `Stages`.
    StatusIs {
        /// Of the question.
        request: u64,
        /// A JSON object, or array of stages; its fields are for people and tests, not for the protocol.
        json: String,
    }
}
