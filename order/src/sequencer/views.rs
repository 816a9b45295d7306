//! Which shards are there? Registrations and views, as they are applied.

use super::{
    Applied, FormView, NAME_BYTES_MAX, Parts, Registration, SHARDS_MAX, SLOTS_MAX, SlotEntry, State,
    Succession,
};
use std::collections::BTreeSet;
use zoolog_core::limits::REPLICAS_MAX;
use zoolog_core::view::{Final, ReplicaView, ShardState, ShardView};
use zoolog_core::{Incarnation, ServerId, ShardId, SlotId};

/// Why a registration is refused whose stamp is not the one that is known.
const OTHER_LOG: &str = "another log is known under its id";

impl State {
    pub(super) fn register(&mut self, r: Registration) -> Applied {
        let (slot, incarnation) = (r.slot, r.incarnation);
        let no = |why| Applied::NotRegistered { slot, incarnation, why };
        if r.addr.is_empty() || r.addr.len() > NAME_BYTES_MAX || r.domain.len() > NAME_BYTES_MAX {
            return no("its address or domain is empty or too long");
        }
        match self.slots.get(&slot) {
            Some(known) if known.stamp != r.stamp => return no(OTHER_LOG),
            Some(known) if known.incarnation > incarnation => return no("a newer incarnation is registered"),
            None if self.slots.len() >= SLOTS_MAX => return no("there are too many slots"),
            _ => {}
        }
        let mut view_changed = false;
        for shard in &mut self.view.shards {
            let copy = shard.rebuild.as_mut().map(|r| &mut r.to);
            for replica in shard.replicas.iter_mut().chain(copy).filter(|p| p.slot == slot) {
                if replica.addr != r.addr {
                    replica.addr.clone_from(&r.addr);
                    view_changed = true;
                }
            }
        }
        if view_changed {
            self.view.number = self.view.number.next();
        }
        self.slots.insert(slot, SlotEntry { incarnation, addr: r.addr, domain: r.domain, stamp: r.stamp });
        Applied::Registered { slot, incarnation, view_changed }
    }

    /// Whether the slot is registered exactly like this, so that no entry is needed to say so again.
    pub(crate) fn is_registered(&self, r: &Registration) -> bool {
        self.slots.get(&r.slot).is_some_and(|e| {
            (e.incarnation, e.stamp) == (r.incarnation, r.stamp) && e.addr == r.addr && e.domain == r.domain
        })
    }

    /// Whether the slot is known with another log than that.
    pub(crate) fn has_other_log(&self, slot: SlotId, stamp: u64) -> bool {
        self.slots.get(&slot).is_some_and(|e| e.stamp != stamp)
    }

    /// The newest incarnation of a slot.
    pub(crate) fn incarnation(&self, slot: SlotId) -> Option<Incarnation> {
        self.slots.get(&slot).map(|e| e.incarnation)
    }

    pub(super) fn form_view(&mut self, form: FormView) -> Applied {
        if form.expected != self.view.number {
            return Applied::Nothing("a view made for another view");
        }
        if self.succession == Succession::Awaits {
            return Applied::Nothing("a view of a log that has not begun");
        }
        if self.seal.is_some() {
            return Applied::Nothing("a view of a log that has ended");
        }
        if form.shards.is_empty() && form.finalize.is_empty() {
            return Applied::Nothing("a view that changes nothing");
        }
        if self.view.shards.len() + form.shards.len() > SHARDS_MAX {
            return Applied::Nothing("a view with too many shards");
        }
        let sound = |slots: &Vec<SlotId>| {
            let servers: BTreeSet<ServerId> = slots.iter().map(|s| s.server).collect();
            (1..=REPLICAS_MAX).contains(&slots.len())
                && servers.len() == slots.len()
                && slots.iter().all(|s| self.slots.contains_key(s))
        };
        if !form.shards.iter().all(sound) {
            return Applied::Nothing("a view with a shard of unknown slots, or of one server twice");
        }
        let ends: BTreeSet<ShardId> = form.finalize.iter().copied().collect();
        let live: BTreeSet<ShardId> = self.view.live().map(|s| s.id).collect();
        if ends.len() != form.finalize.len() || !ends.is_subset(&live) {
            return Applied::Nothing("a view that ends a shard which takes no appends, or one twice");
        }
        if ends.len() == live.len() && form.shards.is_empty() {
            return Applied::Nothing("a view in which no shard takes appends");
        }
        ends.iter().for_each(|id| self.finalize(*id));
        let formed = form.shards.into_iter().map(|slots| self.form(slots)).collect();
        self.view.number = self.view.number.next();
        Applied::Formed { formed, finalized: form.finalize }
    }

    /// What is committed of the shard is all that it will ever hold: entries that come later add nothing to it.
    pub(super) fn finalize(&mut self, id: ShardId) {
        let i = self.position(&mut 0, id).expect("checked to be in the view");
        let parts = &self.parts[i];
        let (first, end) = parts.span.unwrap_or((self.tail, self.tail));
        self.view.shards[i].state = ShardState::Finalized(Final { lens: parts.lens.clone(), first, end });
    }

    fn form(&mut self, slots: Vec<SlotId>) -> ShardId {
        let id = self.next_shard;
        self.next_shard = id.next();
        let replica = |&slot: &SlotId| ReplicaView { slot, addr: self.slots[&slot].addr.clone() };
        let replicas = slots.iter().map(replica).collect();
        self.view.shards.push(ShardView { id, replicas, state: ShardState::Live, rebuild: None });
        self.parts.push(Parts::new(slots.len()));
        id
    }

    pub(super) fn want_shards(&mut self, n: u32) -> Applied {
        if self.seal.is_some() {
            return Applied::Nothing("shards for a log that has ended");
        }
        if n == 0 || n as usize > SHARDS_MAX {
            return Applied::Nothing("no shards are wanted, or too many");
        }
        self.wanted = Some(n);
        Applied::Nothing("so many shards are wanted")
    }

    /// Whether all that the shard at that place in the view holds is trimmed, for good. Nothing is soon trimmed: shards
    /// that ended before anything was in them don't pile up where nobody trims.
    pub(crate) fn is_spent(&self, i: usize) -> bool {
        let is_empty = || self.parts[i].span.is_none();
        matches!(&self.view.shards[i].state, ShardState::Finalized(f) if f.end <= self.trim || is_empty())
    }

    /// Of these shards, those that are spent leave the view: nobody has to ask for them any more.
    pub(super) fn drop_shards(&mut self, ids: &[ShardId]) -> Applied {
        let all = 0..self.view.shards.len();
        let keep: Vec<bool> =
            all.map(|i| !self.is_spent(i) || !ids.contains(&self.view.shards[i].id)).collect();
        if keep.iter().all(|k| *k) {
            return Applied::Nothing("shards that hold something, or are gone already");
        }
        let mut kept = keep.iter();
        self.view.shards.retain(|_| *kept.next().expect("one per shard"));
        let mut kept = keep.iter();
        self.parts.retain(|parts| {
            let stays = *kept.next().expect("one per shard");
            self.gone += if stays { 0 } else { parts.lens.iter().sum() };
            stays
        });
        self.view.number = self.view.number.next();
        Applied::Formed { formed: Vec::new(), finalized: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, formed, slot};
    use super::super::{Command, ConsumerAt, ProposedCut};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::{ClusterId, Gsn, LaneId, ViewNumber};

    fn register(s: &mut State, server: u32, incarnation: u64, addr: &str) -> Applied {
        let r = Registration {
            slot: slot(server),
            incarnation: Incarnation(incarnation),
            addr: addr.into(),
            domain: String::new(),
            stamp: u64::from(server),
        };
        s.apply(&Command::Register(r).encode())
    }

    /// LOG-2: what a lost log held is not held by the empty one that took its place.
    #[test]
    fn another_log_under_a_known_id_is_refused() {
        let mut s = formed(3, 3, 2);
        let before = s.slots.clone();
        let SlotEntry { addr, domain, .. } = entry(1, "");
        for incarnation in [1, 2, 99] {
            let incarnation = Incarnation(incarnation);
            let (addr, domain) = (addr.clone(), domain.clone());
            let r = Registration { slot: slot(1), incarnation, addr, domain, stamp: 77 };
            assert!(s.has_other_log(slot(1), 77) && !s.is_registered(&r));
            assert!(matches!(s.apply(&Command::Register(r).encode()), Applied::NotRegistered { .. }));
        }
        assert_eq!(s.slots, before);
    }

    #[test]
    fn an_older_incarnation_never_replaces_a_newer_one() {
        let mut s = State::new(ClusterId(1));
        assert!(matches!(register(&mut s, 1, 3, "a:1"), Applied::Registered { view_changed: false, .. }));
        assert!(matches!(register(&mut s, 1, 2, "b:1"), Applied::NotRegistered { .. }));
        assert_eq!(s.slots[&slot(1)].addr, "a:1");
        assert!(matches!(register(&mut s, 1, 4, "b:1"), Applied::Registered { .. }));
        assert_eq!(s.incarnation(slot(1)), Some(Incarnation(4)));
    }

    #[test]
    fn a_new_address_makes_a_new_view_and_the_same_one_does_not() {
        let mut s = formed(3, 3, 2);
        let addr = s.slots[&slot(0)].addr.clone();
        assert!(matches!(register(&mut s, 0, 5, &addr), Applied::Registered { view_changed: false, .. }));
        assert_eq!(s.view.number, ViewNumber(1));
        assert!(matches!(register(&mut s, 0, 6, "new:1"), Applied::Registered { view_changed: true, .. }));
        assert_eq!(s.view.number, ViewNumber(2));
        let replicas = s.view.shards.iter().flat_map(|s| &s.replicas).filter(|r| r.slot == slot(0));
        assert!(replicas.clone().count() == 2 && replicas.into_iter().all(|r| r.addr == "new:1"));
    }

    #[test]
    fn impossible_views_change_nothing() {
        let mut s = formed(3, 3, 2);
        let (one, nine) = (vec![ShardId(1)], vec![ShardId(9)]);
        for (finalize, shards) in [
            (vec![], vec![]),
            (vec![], vec![vec![]]),
            (vec![], vec![vec![slot(0), slot(0)]]),
            (vec![], vec![vec![slot(9)]]),
            (nine, vec![vec![slot(0), slot(1)]]),
            (vec![ShardId(1), ShardId(1)], vec![]),
            ((1..4).map(ShardId).collect(), vec![]),
        ] {
            assert!(matches!(change(&mut s, finalize, shards), Applied::Nothing(_)));
        }
        assert_eq!(s.view.live().count(), 3);
        assert!(matches!(change(&mut s, one.clone(), vec![]), Applied::Formed { .. }));
        assert!(matches!(change(&mut s, one, vec![]), Applied::Nothing(_)), "it is finalized already");
    }

    fn change(s: &mut State, finalize: Vec<ShardId>, shards: Vec<Vec<SlotId>>) -> Applied {
        let form = FormView { expected: s.view.number, finalize, shards };
        s.apply(&Command::FormView(form).encode())
    }

    fn grow(s: &mut State, shard: u32, to: u64) -> Applied {
        let lanes = vec![(LaneId::new(ShardId(shard), 0), to)];
        s.apply(&Command::Cut(ProposedCut { lanes, known: vec![] }).encode())
    }

    /// Lengths are those at the entry's place in the log, whatever was proposed before or comes later.
    #[test]
    fn a_finalized_shard_keeps_what_was_committed_and_takes_no_more() {
        let mut s = formed(3, 3, 2);
        grow(&mut s, 2, 3);
        grow(&mut s, 1, 4);
        grow(&mut s, 2, 5);
        let Applied::Formed { formed, finalized } =
            change(&mut s, vec![ShardId(2)], vec![vec![slot(0), slot(2)]])
        else {
            panic!()
        };
        assert_eq!((formed, finalized), (vec![ShardId(4)], vec![ShardId(2)]));
        let end = Final { lens: vec![5, 0], first: Gsn(0), end: Gsn(9) };
        assert_eq!(s.view.shard(ShardId(2)).unwrap().state, ShardState::Finalized(end));
        assert!(matches!(grow(&mut s, 2, 8), Applied::Nothing(_)));
        assert!(matches!(grow(&mut s, 4, 1), Applied::Cut(_)));
        assert_eq!(s.lens(ShardId(2)), [5, 0]);
    }

    #[test]
    fn a_finalized_shard_leaves_the_view_once_all_of_it_is_trimmed() {
        let mut s = formed(3, 3, 2);
        grow(&mut s, 1, 4);
        grow(&mut s, 2, 3);
        change(&mut s, vec![ShardId(1)], vec![]);
        let upto = |s: &mut State, to| {
            let at = ConsumerAt { name: "c".into(), upto: Gsn(to) };
            s.apply(&Command::Consumers(vec![at]).encode())
        };
        upto(&mut s, 3);
        assert!(s.view.shard(ShardId(1)).is_some());
        let view = s.view.number;
        let go = |s: &mut State| s.apply(&Command::DropShards(vec![ShardId(1), ShardId(2)]).encode());
        assert!(matches!(go(&mut s), Applied::Nothing(_)), "some of it can still be read");
        upto(&mut s, 4);
        assert!(s.view.shard(ShardId(1)).is_some(), "its writers may ask");
        assert!(matches!(go(&mut s), Applied::Formed { .. }));
        assert!(s.view.shard(ShardId(1)).is_none() && s.view.number == view.next());
        assert_eq!(s.lens(ShardId(2)), [3, 0], "the others stay in their places");
        grow(&mut s, 3, 2);
        assert_eq!(State::decode(ClusterId(5), &s.encode()).unwrap(), s);
    }

    /// SYS-1: a server on which no shard ever comes to serve makes a new one each time; none is kept for nothing.
    #[test]
    fn a_shard_that_ended_with_nothing_in_it_needs_no_trim_to_leave_the_view() {
        let mut s = formed(3, 3, 2);
        grow(&mut s, 2, 3);
        change(&mut s, vec![ShardId(1), ShardId(2)], vec![]);
        s.apply(&Command::DropShards(vec![ShardId(1), ShardId(2), ShardId(3)]).encode());
        assert_eq!(s.view.shards.iter().map(|s| s.id.0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(State::decode(ClusterId(5), &s.encode()).unwrap(), s);
    }

    proptest! {
        /// LOG-1, ORD-7: however views change between cuts, GSNs stay dense and each shard's are where it says.
        #[test]
        fn any_views_and_cuts_make_a_dense_order(
            steps in prop::collection::vec((0u8..6, 1u32..9, 1u64..6), 0..60),
        ) {
            let mut s = formed(3, 3, 2);
            for (what, shard, n) in steps {
                let tail = s.tail();
                match what {
                    0 => drop(change(&mut s, vec![ShardId(shard)], vec![vec![slot(0), slot(1)]])),
                    1 => drop(change(&mut s, vec![ShardId(shard), ShardId(shard + 1)], vec![])),
                    2 => {
                        let at = ConsumerAt { name: "c".into(), upto: Gsn(tail.0.saturating_sub(n)) };
                        s.apply(&Command::Consumers(vec![at]).encode());
                        s.apply(&Command::DropShards(vec![ShardId(shard)]).encode());
                    }
                    _ => {
                        let held = s.lens(ShardId(shard)).first().copied().unwrap_or(0);
                        if let Applied::Cut(cut) = grow(&mut s, shard, held + n) {
                            prop_assert_eq!((cut.base, cut.end()), (tail, tail.plus(n)));
                        }
                    }
                }
                prop_assert!(s.view.live().count() > 0);
                prop_assert_eq!(&State::decode(ClusterId(5), &s.encode()).unwrap(), &s);
            }
        }
    }

    #[test]
    fn names_without_bound_are_refused() {
        let mut s = State::new(ClusterId(1));
        assert!(matches!(register(&mut s, 1, 1, &"x".repeat(300)), Applied::NotRegistered { .. }));
        assert!(matches!(register(&mut s, 1, 1, ""), Applied::NotRegistered { .. }));
    }
}
