//! What has been decided? The replicated state: the same on all orderers after the same entry, a pure
//! function of the entries before it.

mod board;
mod command;
mod cuts;
mod invariants;
mod members;
mod names;
mod pace;
mod packed;
mod parts;
mod place;
mod rebuild;
mod reports;
mod retention;
mod sealing;
mod sizes;
mod snapshot;
mod succession;
mod trim;
mod views;

pub(crate) use board::Board;
pub use command::{Command, FormView, ProposedCut, RebuildStep, RebuildWhat, Registration};
pub use members::{Change, Member, Members, ORDERERS_MAX, Standing};
pub(crate) use members::{Conf, Step, is_addr};
pub use names::{NAMES_MAX, NameIs, Named};
pub(crate) use pace::Pace;
pub use parts::Parts;
pub(crate) use place::{Choice, pair, place, place_copy};
pub(crate) use reports::{Refusal, Reports};
pub(crate) use retention::Retention;
pub use retention::Tick;
pub use sealing::Seal;
pub(crate) use sizes::Sizes;
pub use succession::Succession;
pub use trim::ConsumerAt;
pub(crate) use trim::is_name;

use std::collections::BTreeMap;
use zoolog_core::cut::{Cut, ShardPart};
pub use zoolog_core::limits::CONSUMERS_MAX;
use zoolog_core::view::{ShardView, View};
use zoolog_core::wire::TrimEnd;
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
    /// Of its log, drawn at random when that was begun: another log under the same id is refused, what the first one
    /// held must not seem to be held by it.
    pub stamp: u64,
}

/// What all orderers agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub(crate) cluster: ClusterId,
    pub(crate) slots: BTreeMap<SlotId, SlotEntry>,
    pub(crate) view: View,
    pub(crate) next_shard: ShardId,
    /// Shards that are to take appends; `None` leaves it to the settings.
    pub(crate) wanted: Option<u32>,
    /// Writers that have names.
    pub(crate) names: BTreeMap<String, Named>,
    /// Records of shards that have left the view, all of them trimmed.
    pub(crate) gone: u64,
    /// The last cut.
    pub(crate) number: CutNumber,
    /// First GSN not yet assigned.
    pub(crate) tail: Gsn,
    /// Of each shard of the view, in the view's order: found by position, not by id, on the way of a cut.
    pub(crate) parts: Vec<Parts>,
    /// What each consumer still needs.
    pub(crate) consumers: BTreeMap<String, Gsn>,
    /// First GSN that is still readable.
    pub(crate) trim: Gsn,
    /// What is kept beyond what consumers need.
    pub(crate) retention: Retention,
    /// The orderers themselves.
    pub(crate) members: Members,
    /// Whether this log follows another.
    pub(crate) succession: Succession,
    /// Where it has ended, and goes on, once that is so.
    pub(crate) seal: Option<Seal>,
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
    /// There is a new view.
    Formed {
        /// Shards that it adds.
        formed: Vec<ShardId>,
        /// Shards that take no appends any more.
        finalized: Vec<ShardId>,
    },
    /// There is a new cut.
    Cut(Cut),
    /// The trim point has moved to there.
    Trimmed(Gsn),
    /// A request about a name is decided.
    Name(NameIs),
    /// Somebody asked to trim what may not go: why.
    NotTrimmed(TrimEnd),
    /// More is known of the orderers, or something else: births, addresses.
    Members,
    /// The log goes on there, where another has ended.
    Begun(Gsn),
    /// The log has ended: these shards took appends until then.
    Sealed(Vec<ShardId>),
}

impl State {
    /// The state before the first entry, of an orderer that knows no others yet.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            slots: BTreeMap::new(),
            view: View::default(),
            next_shard: ShardId(1),
            wanted: None,
            names: BTreeMap::new(),
            gone: 0,
            number: CutNumber(0),
            tail: Gsn(0),
            parts: Vec::new(),
            consumers: BTreeMap::new(),
            trim: Gsn(0),
            retention: Retention::default(),
            members: Members::default(),
            succession: Succession::default(),
            seal: None,
        }
    }

    /// Applies the data of one committed entry. Anything can be in it: what makes no sense changes nothing.
    pub fn apply(&mut self, data: &[u8]) -> Applied {
        let (before, trim, clock_ms) = ((self.number, self.tail), self.trim, self.retention.clock_ms);
        let applied = match Command::decode(data) {
            None => Applied::Nothing("not a command of this version"),
            Some(Command::Register(r)) => self.register(r),
            Some(Command::FormView(f)) => self.form_view(f),
            Some(Command::Cut(c)) => self.cut(c),
            Some(Command::Consumers(list)) => self.move_consumers(list),
            Some(Command::ForgetConsumer(name)) => self.forget_consumer(&name),
            Some(Command::WantShards(n)) => self.want_shards(n),
            Some(Command::DropShards(shards)) => self.drop_shards(&shards),
            Some(Command::OpenWriter(name)) => self.open_writer(name),
            Some(Command::ClaimLane { name, epoch, lane, tail }) => self.claim_lane(&name, epoch, lane, tail),
            Some(Command::Trim(gsn)) => self.trim_by_hand(gsn),
            Some(Command::Tick(tick)) => self.tick(*tick),
            Some(Command::Welcome(births)) => self.welcome(&births),
            Some(Command::MoveOrderers(addrs)) => self.move_orderers(addrs),
            Some(Command::Parted(id)) => self.parted(id),
            Some(Command::Rebuild(step)) => self.rebuild(step),
            Some(Command::Await) => self.await_begin(),
            Some(Command::Begin(gsn)) => self.begin(gsn),
            Some(Command::Seal(successor)) => self.end(successor),
        };
        invariants::after_entry(self, before, &applied);
        invariants::trim_after(self, trim, &applied);
        if self.retention.clock_ms != clock_ms {
            invariants::clock_after(self, clock_ms);
        }
        applied
    }

    /// First GSN not yet assigned.
    pub fn tail(&self) -> Gsn {
        self.tail
    }

    /// The last cut.
    pub fn last_cut(&self) -> CutNumber {
        self.number
    }

    /// The shards.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How many shards are to take appends, if that was decided.
    pub fn wanted(&self) -> Option<u32> {
        self.wanted
    }

    /// Position of that shard in the view. `at` is where to look first, and afterwards just behind the shard: who
    /// asks for shards by ascending id walks along them.
    pub(crate) fn position(&self, at: &mut usize, id: ShardId) -> Option<usize> {
        let shards = &self.view.shards;
        let (mut from, mut to, mut step) = (0, *at, 1);
        if shards.get(*at).is_some_and(|s| s.id <= id) {
            (from, to) = (*at, *at + 1);
            while shards.get(to).is_some_and(|s| s.id <= id) {
                (from, to, step) = (to, to + step, step * 2);
            }
        }
        let i = from + shards[from..to.min(shards.len())].partition_point(|s| s.id < id);
        let found = shards.get(i).is_some_and(|s| s.id == id);
        if found {
            *at = i + 1;
        }
        found.then_some(i)
    }

    fn of(&self, shard: ShardId) -> Option<&Parts> {
        self.position(&mut 0, shard).map(|i| &self.parts[i])
    }

    /// Committed length of each lane of a shard; empty for an unknown one.
    pub fn lens(&self, shard: ShardId) -> Vec<u64> {
        self.of(shard).map_or(Vec::new(), |p| p.lens.clone())
    }

    /// The newest part of a shard.
    pub(crate) fn newest_part(&self, shard: ShardId) -> CutNumber {
        self.of(shard).map_or(CutNumber(0), Parts::newest)
    }

    /// All slots that ever registered.
    pub(crate) fn slots(&self) -> &BTreeMap<SlotId, SlotEntry> {
        &self.slots
    }

    /// Shards that have a replica in `slot`.
    pub fn shards_of(&self, slot: SlotId) -> impl Iterator<Item = ShardId> + '_ {
        self.view.shards.iter().filter(move |s| s.replica_in(slot).is_some()).map(|s| s.id)
    }

    /// Parts of `shard` beyond `after`, or `None` if some of those were dropped already.
    pub fn parts_after(&self, shard: ShardId, after: CutNumber) -> Option<Vec<ShardPart>> {
        let Some(keep) = self.of(shard) else { return Some(Vec::new()) };
        if after < keep.known {
            return None;
        }
        Some(keep.after(after).collect())
    }

    /// The newest part of `shard` that all its replicas said to hold.
    pub(crate) fn known_part(&self, shard: ShardId) -> CutNumber {
        self.of(shard).map_or(CutNumber(0), |p| p.known)
    }

    /// How many parts of each shard may be kept.
    pub(crate) fn room(&self) -> usize {
        PARTS_MAX / self.view.shards.len().max(1)
    }

    /// Servers that have registered a slot.
    pub fn servers(&self) -> usize {
        let mut servers: Vec<_> = self.slots.keys().map(|s| s.server).collect();
        servers.dedup();
        servers.len()
    }

    /// The lanes that hold something, and how much of it is committed, ascending by lane.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneId, u64)> + '_ {
        let lanes = |(shard, parts): (&ShardView, &Parts)| {
            let id = shard.id;
            let lens = parts.lens.clone().into_iter().enumerate();
            lens.map(move |(i, len)| (LaneId::new(id, i as u8), len)).filter(|(_, len)| *len > 0)
        };
        self.view.shards.iter().zip(&self.parts).flat_map(lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use zoolog_core::{ServerId, ViewNumber};

    pub(crate) fn slot(server: u32) -> SlotId {
        SlotId { server: ServerId(server), index: 0 }
    }

    pub(crate) fn entry(server: u32, domain: &str) -> SlotEntry {
        SlotEntry {
            incarnation: Incarnation(1),
            addr: format!("10.0.0.{server}:7000"),
            domain: domain.into(),
            stamp: u64::from(server),
        }
    }

    /// A state with `servers` registered servers and a first view of `shards` shards.
    pub(crate) fn formed(servers: u32, shards: u32, replicas: u32) -> State {
        let mut s = State::new(ClusterId(5));
        for i in 0..servers {
            let SlotEntry { incarnation, addr, domain, stamp } = entry(i, "");
            let r = Registration { slot: slot(i), incarnation, addr, domain, stamp };
            s.apply(&Command::Register(r).encode());
        }
        let fit = s.slots.keys().copied().collect();
        let choice = Choice { slots: &s.slots, fit: &fit, replicas, apart: &BTreeSet::new() };
        let shards = place(choice, &s.view, &BTreeSet::new(), shards).expect("enough servers");
        let form = FormView { expected: ViewNumber(0), finalize: vec![], shards };
        assert!(matches!(s.apply(&Command::FormView(form).encode()), Applied::Formed { .. }));
        s
    }

    /// Wherever the search starts, and whether ids ascend or not.
    #[test]
    fn a_shard_is_found_at_its_position_from_anywhere() {
        let s = formed(3, 40, 2);
        for from in 0..45 {
            for id in 0..45 {
                let mut at = from;
                let expected = (1..=40).contains(&id).then(|| id as usize - 1);
                assert_eq!(s.position(&mut at, ShardId(id)), expected, "shard {id} from {from}");
                assert_eq!(at, expected.map_or(from, |i| i + 1));
            }
        }
    }
}
