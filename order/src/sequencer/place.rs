//! Which slots shall make a new shard? The leader's choice, from those that are there and well.

use super::SlotEntry;
use std::collections::{BTreeMap, BTreeSet};
use zoolog_core::view::{ShardView, View};
use zoolog_core::{ServerId, SlotId};

/// What a choice rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// All slots that ever registered.
    pub slots: &'a BTreeMap<SlotId, SlotEntry>,
    /// Those that may be chosen.
    pub fit: &'a BTreeSet<SlotId>,
    /// Replicas of each shard, on as many servers.
    pub replicas: u32,
    /// Pairs of servers that don't reach each other, the lower first: apart if at all possible.
    pub apart: &'a BTreeSet<(ServerId, ServerId)>,
}

/// Slots for `shards` more shards than take appends in `view` (not counting what is `ending` there), or `None` if there
/// are too few servers. Servers that reach each other come first, then another domain, then the least loaded
/// server, then the pair of servers that share the fewest shards, then the least loaded slot.
pub(crate) fn place(
    choice: Choice<'_>,
    view: &View,
    ending: &BTreeSet<zoolog_core::ShardId>,
    shards: u32,
) -> Option<Vec<Vec<SlotId>>> {
    let Choice { slots, fit, replicas, apart } = choice;
    let mut load = Load::default();
    for shard in view.live().filter(|s| !ending.contains(&s.id)) {
        load.add(&shard.replicas.iter().map(|r| r.slot).collect::<Vec<_>>());
    }
    let domain = |s: SlotId| slots.get(&s).map_or("", |e| e.domain.as_str());
    let servers: BTreeSet<ServerId> = fit.iter().map(|s| s.server).collect();
    let mut all = Vec::new();
    for _ in 0..shards {
        let mut chosen: Vec<SlotId> = Vec::new();
        for _ in 0..replicas {
            let cost = |s: &&SlotId| {
                let torn = |c: ServerId| apart.contains(&pair(c, s.server));
                // The first is to be one that reaches many servers: others have to join it.
                let cut_off = match chosen.is_empty() {
                    true => servers.iter().filter(|c| torn(**c)).count(),
                    false => chosen.iter().filter(|c| torn(c.server)).count(),
                };
                let same =
                    chosen.iter().filter(|c| !domain(**s).is_empty() && domain(**c) == domain(**s)).count();
                let shared: u32 = chosen.iter().map(|c| load.together(c.server, s.server)).sum();
                (cut_off, same, load.server(s.server), shared, load.slot(**s), **s)
            };
            let free = fit.iter().filter(|s| chosen.iter().all(|c| c.server != s.server));
            chosen.push(*free.min_by_key(cost)?);
        }
        load.add(&chosen);
        all.push(chosen);
    }
    Some(all)
}

/// The slot in which a copy of `shard` is best made in place of replica `lost`, if there is one: on a server that has
/// none, in a domain that has none, on the server with the least copies of anything.
pub(crate) fn place_copy(
    slots: &BTreeMap<SlotId, SlotEntry>,
    fit: &BTreeSet<SlotId>,
    view: &View,
    shard: &ShardView,
    lost: u8,
) -> Option<SlotId> {
    let mut load = Load::default();
    for s in &view.shards {
        let copy = s.rebuild.iter().map(|r| r.to.slot);
        load.add(&s.replicas.iter().map(|r| r.slot).chain(copy).collect::<Vec<_>>());
    }
    let domain = |s: SlotId| slots.get(&s).map_or("", |e| e.domain.as_str());
    let free = fit.iter().filter(|s| shard.replicas.iter().all(|r| r.slot.server != s.server));
    let cost = |s: &&SlotId| {
        let stay = shard.replicas.iter().enumerate().filter(|(i, _)| *i != usize::from(lost));
        let same = stay.filter(|(_, r)| !domain(**s).is_empty() && domain(r.slot) == domain(**s)).count();
        (same, load.server(s.server), load.slot(**s), **s)
    };
    free.min_by_key(cost).copied()
}

/// How many shards are where.
#[derive(Debug, Default)]
struct Load {
    servers: BTreeMap<ServerId, u32>,
    slots: BTreeMap<SlotId, u32>,
    pairs: BTreeMap<(ServerId, ServerId), u32>,
}

impl Load {
    fn add(&mut self, replicas: &[SlotId]) {
        for (i, a) in replicas.iter().enumerate() {
            *self.servers.entry(a.server).or_default() += 1;
            *self.slots.entry(*a).or_default() += 1;
            for b in &replicas[..i] {
                *self.pairs.entry(pair(a.server, b.server)).or_default() += 1;
            }
        }
    }

    fn server(&self, s: ServerId) -> u32 {
        self.servers.get(&s).copied().unwrap_or(0)
    }

    fn slot(&self, s: SlotId) -> u32 {
        self.slots.get(&s).copied().unwrap_or(0)
    }

    fn together(&self, a: ServerId, b: ServerId) -> u32 {
        self.pairs.get(&pair(a, b)).copied().unwrap_or(0)
    }
}

/// Two servers in one order.
pub(crate) fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, formed, slot};
    use super::*;
    use proptest::prelude::*;
    use zoolog_core::ShardId;

    fn place_of(
        slots: &BTreeMap<SlotId, SlotEntry>,
        fit: &BTreeSet<SlotId>,
        shards: u32,
        replicas: u32,
    ) -> Option<Vec<Vec<SlotId>>> {
        let choice = Choice { slots, fit, replicas, apart: &BTreeSet::new() };
        place(choice, &View::default(), &BTreeSet::new(), shards)
    }

    #[test]
    fn three_shards_of_two_on_three_servers_give_each_pair_one() {
        let slots: BTreeMap<_, _> = (0..3).map(|i| (slot(i), entry(i, ""))).collect();
        let shards = place_of(&slots, &slots.keys().copied().collect(), 3, 2).unwrap();
        let pairs: BTreeSet<_> = shards.iter().map(|s| pair(s[0].server, s[1].server)).collect();
        assert_eq!(pairs.len(), 3, "{shards:?}");
    }

    #[test]
    fn replicas_are_kept_in_different_domains_where_possible() {
        let slots: BTreeMap<_, _> =
            (0..4).map(|i| (slot(i), entry(i, if i < 2 { "left" } else { "right" }))).collect();
        let live: BTreeSet<_> = slots.keys().copied().collect();
        for s in place_of(&slots, &live, 4, 2).unwrap() {
            assert_ne!(slots[&s[0]].domain, slots[&s[1]].domain);
        }
        let left = place_of(&slots, &live.into_iter().take(2).collect(), 1, 2).unwrap();
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
            let Some(placed) = place_of(&slots, &live, shards, replicas) else {
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
    fn what_is_there_counts_and_what_ends_does_not() {
        let s = formed(4, 1, 2);
        let used: BTreeSet<_> = s.view.shards[0].replicas.iter().map(|r| r.slot).collect();
        let fit: BTreeSet<_> = s.slots.keys().copied().collect();
        let choice = Choice { slots: &s.slots, fit: &fit, replicas: 2, apart: &BTreeSet::new() };
        let next = place(choice, &s.view, &BTreeSet::new(), 1).unwrap();
        assert!(next[0].iter().all(|s| !used.contains(s)), "the idle servers come first");
        let again = place(choice, &s.view, &[ShardId(1)].into(), 1).unwrap();
        assert!(again[0].iter().all(|s| used.contains(s)), "lowest ids, as nothing is anywhere");
    }

    #[test]
    fn servers_that_do_not_reach_each_other_are_kept_apart_while_there_are_others() {
        let slots: BTreeMap<_, _> = (0..3).map(|i| (slot(i), entry(i, ""))).collect();
        let fit: BTreeSet<_> = slots.keys().copied().collect();
        let apart = [pair(ServerId(0), ServerId(1))].into();
        let placed = |fit: &BTreeSet<SlotId>| {
            place(
                Choice { slots: &slots, fit, replicas: 2, apart: &apart },
                &View::default(),
                &BTreeSet::new(),
                2,
            )
        };
        for s in placed(&fit).unwrap() {
            assert_ne!(pair(s[0].server, s[1].server), pair(ServerId(0), ServerId(1)));
        }
        assert_eq!(placed(&fit.into_iter().take(2).collect()).unwrap()[0].len(), 2);
    }
}
