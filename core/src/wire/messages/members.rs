//! Who are the orderers? Between them, to those who need to find them, and with who changes them.

use crate::ids::*;

body! {
    /// An orderer, and where it is.
    OrdererAt {
        /// Which.
        id: OrdererId,
        /// `ip:port`.
        addr: String,
    }
}

body! {
    /// The orderers of now, ascending by id. Sent when a slot is let in or a subscriber answered, and whenever they
    /// change: who remembers them finds the leader though every orderer it was configured with is gone.
    OrderersAre {
        /// All of them.
        orderers: Vec<OrdererAt>,
    }
}

body! {
    /// The second message between orderers: which data directory speaks. An id whose directory was lost is never
    /// heard again, since its votes and confirmations were promises about what was in it.
    Introduce {
        /// Drawn when the directory was made; never 0.
        birth: u64,
        /// Whether it has taken part in raft, or may do so from now on.
        born: bool,
        /// The birth that the sender knows of the receiver; 0 for none.
        yours: u64,
        /// Where the sender is reached: whom it reaches may not know it yet.
        addr: String,
    }
}

body! {
    /// An orderer that is to come.
    NewOrderer {
        /// Its id, above all ids that were ever used.
        id: OrdererId,
        /// `ip:port`.
        addr: String,
        /// Who goes in the moment in which it begins to vote.
        replaces: Option<OrdererId>,
    }
}

/// What is to become of the orderers.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OrdererChange {
    /// A new one comes: first it learns, and once it has caught up it votes.
    Add(NewOrderer),
    /// This one goes.
    Remove(OrdererId),
    /// This one is to lead.
    Transfer(OrdererId),
}

body! {
    /// Change the orderers. Asking for what is so already is answered as done.
    ChangeOrderers {
        /// Comes back.
        request: u64,
        /// How.
        change: OrdererChange,
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ChangeOutcome {
    /// It is decided (`Add`: the new one learns; whether it votes, the status says) or begun (`Transfer`).
    Done,
    /// Not now, says the text for people: ask again.
    Later(String),
    /// Not like this, says the text, and what to do; nothing has changed.
    Refused(String),
}

body! {
    /// The answer to `ChangeOrderers`; `NotLeader` is another.
    OrderersChanged {
        /// Of the question.
        request: u64,
        /// What became of it.
        outcome: ChangeOutcome,
    }
}
