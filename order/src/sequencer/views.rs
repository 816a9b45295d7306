//! Which slots make which shards? Registrations and views as they are applied, and the leader's placement.

use super::{
    Applied, FormView, NAME_BYTES_MAX, Parts, Registration, SHARDS_MAX, SLOTS_MAX, SlotEntry, State,
};
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::limits::REPLICAS_MAX;
use zoolog_core::view::{ReplicaView, ShardState, ShardView};
use zoolog_core::{Incarnation, ServerId, SlotId};

impl State {
    pub(super) fn register(&mut self, r: Registration) -> Applied {
        let (slot, incarnation) = (r.slot, r.incarnation);
        let no = |why| Applied::NotRegistered { slot, incarnation, why };
        if r.addr.is_empty() || r.addr.len() > NAME_BYTES_MAX || r.domain.len() > NAME_BYTES_MAX {
            return no("its address or domain is empty or too long");
        }
        match self.slots.get(&slot) {
            Some(known) if known.incarnation > incarnation => return no("a newer incarnation is registered"),
            None if self.slots.len() >= SLOTS_MAX => return no("there are too many slots"),
            _ => {}
        }
        let mut view_changed = false;
        for replica in self.view.shards.iter_mut().flat_map(|s| &mut s.replicas).filter(|p| p.slot == slot) {
            if replica.addr != r.addr {
                replica.addr.clone_from(&r.addr);
                view_changed = true;
            }
        }
        if view_changed {
            self.view.number = self.view.number.next();
        }
        self.slots.insert(slot, SlotEntry { incarnation, addr: r.addr, domain: r.domain });
        Applied::Registered { slot, incarnation, view_changed }
    }

    /// Whether the slot is registered exactly like this, so that no entry is needed to say so again.
    pub(crate) fn is_registered(&self, r: &Registration) -> bool {
        self.slots
            .get(&r.slot)
            .is_some_and(|e| e.incarnation == r.incarnation && e.addr == r.addr && e.domain == r.domain)
    }

    /// The newest incarnation of a slot.
    pub(crate) fn incarnation(&self, slot: SlotId) -> Option<Incarnation> {
        self.slots.get(&slot).map(|e| e.incarnation)
    }

    pub(super) fn form_view(&mut self, form: FormView) -> Applied {
        if form.expected != self.view.number {
            return Applied::Nothing("a view made for another view");
        }
        if form.shards.is_empty() || self.view.shards.len() + form.shards.len() > SHARDS_MAX {
            return Applied::Nothing("a view with no new shards, or too many");
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
        let mut ids = Vec::with_capacity(form.shards.len());
        for slots in form.shards {
            let id = self.next_shard;
            self.next_shard = id.next();
            let replicas = slots
                .iter()
                .map(|&slot| ReplicaView { slot, addr: self.slots[&slot].addr.clone() })
                .collect();
            self.view.shards.push(ShardView { id, replicas, state: ShardState::Live });
            self.parts.push(Parts::new(slots.len()));
            ids.push(id);
        }
        self.view.number = self.view.number.next();
        Applied::Formed(ids)
    }
}

/// Slots for `shards` shards of `replicas` replicas on different servers, or `None` if there are too few
/// servers. Another domain comes first, then the least loaded server, then the pair of servers that share
/// the fewest shards, then the least loaded slot.
pub(crate) fn place(
    slots: &BTreeMap<SlotId, SlotEntry>,
    live: &BTreeSet<SlotId>,
    shards: u32,
    replicas: u32,
) -> Option<Vec<Vec<SlotId>>> {
    let mut on_server: BTreeMap<ServerId, u32> = BTreeMap::new();
    let mut on_slot: BTreeMap<SlotId, u32> = BTreeMap::new();
    let mut together: BTreeMap<(ServerId, ServerId), u32> = BTreeMap::new();
    let domain = |s: SlotId| slots.get(&s).map_or("", |e| e.domain.as_str());
    let mut all = Vec::new();
    for _ in 0..shards {
        let mut chosen: Vec<SlotId> = Vec::new();
        for _ in 0..replicas {
            let cost = |s: &&SlotId| {
                let same =
                    chosen.iter().filter(|c| !domain(**s).is_empty() && domain(**c) == domain(**s)).count();
                let shared: u32 = chosen
                    .iter()
                    .map(|c| together.get(&pair(c.server, s.server)).copied().unwrap_or(0))
                    .sum();
                let load = on_server.get(&s.server).copied().unwrap_or(0);
                (same, load, shared, on_slot.get(*s).copied().unwrap_or(0), **s)
            };
            let free = live.iter().filter(|s| chosen.iter().all(|c| c.server != s.server));
            chosen.push(*free.min_by_key(cost)?);
        }
        for (i, a) in chosen.iter().enumerate() {
            *on_server.entry(a.server).or_default() += 1;
            *on_slot.entry(*a).or_default() += 1;
            for b in &chosen[..i] {
                *together.entry(pair(a.server, b.server)).or_default() += 1;
            }
        }
        all.push(chosen);
    }
    Some(all)
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{entry, formed, slot};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::{ClusterId, ViewNumber};

    fn register(s: &mut State, server: u32, incarnation: u64, addr: &str) -> Applied {
        let r = Registration {
            slot: slot(server),
            incarnation: Incarnation(incarnation),
            addr: addr.into(),
            domain: String::new(),
        };
        s.apply(&Command::Register(r).encode())
    }

    #[test]
    fn three_shards_of_two_on_three_servers_give_each_pair_one() {
        let slots: BTreeMap<_, _> = (0..3).map(|i| (slot(i), entry(i, ""))).collect();
        let shards = place(&slots, &slots.keys().copied().collect(), 3, 2).unwrap();
        let pairs: BTreeSet<_> = shards.iter().map(|s| pair(s[0].server, s[1].server)).collect();
        assert_eq!(pairs.len(), 3, "{shards:?}");
    }

    #[test]
    fn replicas_are_kept_in_different_domains_where_possible() {
        let slots: BTreeMap<_, _> =
            (0..4).map(|i| (slot(i), entry(i, if i < 2 { "left" } else { "right" }))).collect();
        let live: BTreeSet<_> = slots.keys().copied().collect();
        for s in place(&slots, &live, 4, 2).unwrap() {
            assert_ne!(slots[&s[0]].domain, slots[&s[1]].domain);
        }
        let left = place(&slots, &live.into_iter().take(2).collect(), 1, 2).unwrap();
        assert_eq!(left[0].len(), 2, "one domain is better than no shard");
    }

    proptest! {
        #[test]
        fn placement_uses_different_servers_evenly(servers in 1u32..7, per in 1u16..4, shards in 1u32..12, replicas in 1u32..4) {
            let slots: BTreeMap<_, _> = (0..servers)
                .flat_map(|s| (0..per).map(move |i| SlotId { server: ServerId(s), index: i }))
                .map(|s| (s, entry(s.server.0, "")))
                .collect();
            let live: BTreeSet<_> = slots.keys().copied().collect();
            let Some(placed) = place(&slots, &live, shards, replicas) else {
                prop_assert!(servers < replicas);
                return Ok(());
            };
            let mut load: BTreeMap<ServerId, u32> = (0..servers).map(|s| (ServerId(s), 0)).collect();
            for s in &placed {
                let on: BTreeSet<_> = s.iter().map(|r| r.server).collect();
                prop_assert_eq!(on.len(), replicas as usize);
                on.iter().for_each(|r| *load.get_mut(r).unwrap() += 1);
            }
            let (least, most) = (load.values().min().unwrap(), load.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", load);
        }
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
        for shards in [vec![], vec![vec![]], vec![vec![slot(0), slot(0)]], vec![vec![slot(9)]]] {
            let form = FormView { expected: s.view.number, shards };
            assert!(matches!(s.apply(&Command::FormView(form).encode()), Applied::Nothing(_)));
        }
        assert_eq!(s.view.shards.len(), 3);
    }

    #[test]
    fn names_without_bound_are_refused() {
        let mut s = State::new(ClusterId(1));
        assert!(matches!(register(&mut s, 1, 1, &"x".repeat(300)), Applied::NotRegistered { .. }));
        assert!(matches!(register(&mut s, 1, 1, ""), Applied::NotRegistered { .. }));
    }
}
