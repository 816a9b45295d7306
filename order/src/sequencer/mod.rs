//! What has been decided? The replicated state: the same on all orderers after the same entry, a pure
//! function of the entries before it.

mod command;
mod cuts;
mod invariants;
mod pace;
mod reports;
mod snapshot;
mod views;

pub use command::{Command, FormView, ProposedCut, Registration};
pub(crate) use pace::Pace;
pub(crate) use reports::{Refusal, Reports};
pub(crate) use views::place;

use std::collections::{BTreeMap, VecDeque};
use zoolog_core::cut::{Cut, Order, ShardPart};
use zoolog_core::view::View;
use zoolog_core::{ClusterId, CutNumber, Gsn, Incarnation, LaneId, ShardId, SlotId};

/// Slots that may ever register; more are turned away.
pub const SLOTS_MAX: usize = 4096;
/// Shards of a view.
pub const SHARDS_MAX: usize = 1024;
/// Parts kept for returning replicas, over all shards; each shard may use an equal share of them.
pub const PARTS_MAX: usize = 1 << 16;
/// Bytes of an address or of a domain's name.
pub const NAME_BYTES_MAX: usize = 256;
/// GSNs end here: far beyond any honest log, far below overflow.
pub const GSN_MAX: u64 = 1 << 62;

/// A slot, as it last registered.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SlotEntry {
    /// Its newest start.
    pub incarnation: Incarnation,
    /// `ip:port`.
    pub addr: String,
    /// What it fails together with; empty for "nothing else".
    pub domain: String,
}

/// The parts of a shard that some replica may not hold durably yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// All replicas hold this and earlier parts: they were dropped.
    pub known: CutNumber,
    /// Later ones, ascending.
    pub parts: VecDeque<ShardPart>,
}

/// What all orderers agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(crate) cluster: ClusterId,
    pub(crate) slots: BTreeMap<SlotId, SlotEntry>,
    pub(crate) view: View,
    pub(crate) next_shard: ShardId,
    pub(crate) order: Order,
    pub(crate) parts: BTreeMap<ShardId, Parts>,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed nothing that anybody waits for; why, for logs.
    Nothing(&'static str),
    /// The slot is registered with this incarnation.
    Registered {
        /// Which slot.
        slot: SlotId,
        /// Its start.
        incarnation: Incarnation,
        /// Whether that made a new view.
        view_changed: bool,
    },
    /// The slot is not registered.
    NotRegistered {
        /// Which slot.
        slot: SlotId,
        /// The start it named.
        incarnation: Incarnation,
        /// Why.
        why: &'static str,
    },
    /// There is a new view, with these new shards.
    Formed(Vec<ShardId>),
    /// There is a new cut.
    Cut(Cut),
}

impl State {
    /// The state before the first entry.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            slots: BTreeMap::new(),
            view: View::default(),
            next_shard: ShardId(1),
            order: Order::default(),
            parts: BTreeMap::new(),
        }
    }

    /// Applies the data of one committed entry. Anything can be in it: what makes no sense changes nothing.
    pub fn apply(&mut self, data: &[u8]) -> Applied {
        let before = (self.order.number, self.order.tail);
        let applied = match Command::decode(data) {
            None => Applied::Nothing("not a command of this version"),
            Some(Command::Register(r)) => self.register(r),
            Some(Command::FormView(f)) => self.form_view(f),
            Some(Command::Cut(c)) => self.cut(c),
        };
        invariants::after_entry(self, before, &applied);
        applied
    }

    /// First GSN not yet assigned.
    pub fn tail(&self) -> Gsn {
        self.order.tail
    }

    /// The last cut.
    pub fn last_cut(&self) -> CutNumber {
        self.order.number
    }

    /// The shards.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Committed length of each lane of a shard; empty for an unknown one.
    pub fn lens(&self, shard: ShardId) -> Vec<u64> {
        self.view.shard(shard).map_or(Vec::new(), |s| s.lanes().map(|l| self.order.len(l)).collect())
    }

    /// Shards that have a replica in `slot`.
    pub fn shards_of(&self, slot: SlotId) -> impl Iterator<Item = ShardId> + '_ {
        self.view.shards.iter().filter(move |s| s.replica_in(slot).is_some()).map(|s| s.id)
    }

    /// Parts of `shard` beyond `after`, or `None` if some of those were dropped already.
    pub fn parts_after(&self, shard: ShardId, after: CutNumber) -> Option<Vec<ShardPart>> {
        let Some(keep) = self.parts.get(&shard) else { return Some(Vec::new()) };
        if after < keep.known {
            return None;
        }
        let from = keep.parts.partition_point(|p| p.number <= after);
        Some(keep.parts.iter().skip(from).cloned().collect())
    }

    /// Parts of `shard` that are kept, and how many may be.
    pub(crate) fn parts_kept(&self, shard: ShardId) -> (usize, usize) {
        let share = PARTS_MAX / self.view.shards.len().max(1);
        (self.parts.get(&shard).map_or(0, |p| p.parts.len()), share)
    }

    /// The newest part that all replicas of `shard` hold, as far as was decided.
    pub(crate) fn known(&self, shard: ShardId) -> CutNumber {
        self.parts.get(&shard).map_or(CutNumber(0), |p| p.known)
    }

    /// Servers that have registered a slot.
    pub fn servers(&self) -> usize {
        let mut servers: Vec<_> = self.slots.keys().map(|s| s.server).collect();
        servers.dedup();
        servers.len()
    }

    /// All committed lane lengths, ascending by lane.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        self.order.lens.iter().map(|(l, n)| (*l, *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::{ServerId, ViewNumber};

    pub(crate) fn slot(server: u32) -> SlotId {
        SlotId { server: ServerId(server), index: 0 }
    }

    pub(crate) fn entry(server: u32, domain: &str) -> SlotEntry {
        SlotEntry {
            incarnation: Incarnation(1),
            addr: format!("10.0.0.{server}:7000"),
            domain: domain.into(),
        }
    }

    /// A state with `servers` registered servers and a first view of `shards` shards.
    pub(crate) fn formed(servers: u32, shards: u32, replicas: u32) -> State {
        let mut s = State::new(ClusterId(5));
        for i in 0..servers {
            let SlotEntry { incarnation, addr, domain } = entry(i, "");
            let r = Registration { slot: slot(i), incarnation, addr, domain };
            s.apply(&Command::Register(r).encode());
        }
        let live = s.slots.keys().copied().collect();
        let shards = place(&s.slots, &live, shards, replicas).expect("enough servers");
        let form = FormView { expected: ViewNumber(0), shards };
        assert!(matches!(s.apply(&Command::FormView(form).encode()), Applied::Formed(_)));
        s
    }
}
