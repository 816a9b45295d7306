//! Who are the orderers? Their ids, addresses and standing, as decided: what raft's own set of members follows.
//!
//! One change at a time. A new one comes as a learner, under an id above all that were ever used; once it has
//! caught up it votes, and whom it replaces goes in the same step, by joint consensus.

use super::{Applied, NAME_BYTES_MAX, State};
use std::collections::BTreeMap;
use zoolog_core::{ClusterId, OrdererId};

/// Orderers at a time, those that only learn included.
pub const ORDERERS_MAX: usize = 9;

const VERSION: u8 = 1;

/// What an orderer counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Standing {
    /// Nothing yet: it is catching up.
    Learner,
    /// It votes.
    Voter,
    /// It votes among those of before, until all of them know those of now.
    Leaving,
}

/// An orderer.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Member {
    /// `ip:port`.
    pub addr: String,
    /// Of its data directory; 0 until that has introduced itself. It never changes.
    pub birth: u64,
    /// What it counts for.
    pub standing: Standing,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub(super) list: BTreeMap<OrdererId, Member>,
    /// The highest id that was ever used.
    pub(super) newest: OrdererId,
    /// Who comes, and whom it replaces.
    pub(super) replacing: Option<(OrdererId, OrdererId)>,
    /// Who goes: a member no more, but still there for those who may not know yet that it isn't (its vote may be what
    /// they need to find out).
    pub(super) parting: Option<(OrdererId, String)>,
    /// Changes so far: what expects another number comes too late.
    pub(super) changes: u64,
}

/// A change to be decided.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Change {
    /// This one begins to learn.
    Add {
        /// Its id.
        id: OrdererId,
        /// `ip:port`.
        addr: String,
        /// Whom it replaces.
        replaces: Option<OrdererId>,
    },
    /// The learner votes from now on.
    Promote {
        /// Which.
        id: OrdererId,
    },
    /// This one is a member no more.
    Remove {
        /// Which.
        id: OrdererId,
    },
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Proposed {
    expected: u64,
    change: Change,
}

/// One step of raft's set of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Learns(OrdererId),
    Votes(OrdererId),
    Goes(OrdererId),
}

/// Raft's set of members, ids ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    pub voters: Vec<u64>,
    /// The voters of before, while the change to those of now is under way.
    pub outgoing: Vec<u64>,
    pub learners: Vec<u64>,
}

impl Members {
    /// The first ones.
    pub(crate) fn first(list: &[(OrdererId, String)]) -> Self {
        let member = |addr: &String| Member { addr: addr.clone(), birth: 0, standing: Standing::Voter };
        let list: BTreeMap<_, _> = list.iter().map(|(id, addr)| (*id, member(addr))).collect();
        let newest = list.keys().next_back().copied().unwrap_or_default();
        Self { list, newest, ..Self::default() }
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (OrdererId, &Member)> + '_ {
        self.list.iter().map(|(id, m)| (*id, m))
    }

    /// That one, if it is one.
    pub fn get(&self, id: OrdererId) -> Option<&Member> {
        self.list.get(&id)
    }

    /// Whether that id was used, by whoever is gone for good.
    pub fn was_removed(&self, id: OrdererId) -> bool {
        let parts = self.parting.as_ref().is_some_and(|(p, _)| *p == id);
        !self.list.contains_key(&id) && id <= self.newest && id != OrdererId(0) && !parts
    }

    /// Who goes, and where it is.
    pub fn parting(&self) -> Option<(OrdererId, &str)> {
        self.parting.as_ref().map(|(id, addr)| (*id, addr.as_str()))
    }

    /// The highest id that was ever used.
    pub fn newest(&self) -> OrdererId {
        self.newest
    }

    /// Who comes, and whom it replaces, if that is under way.
    pub fn replacing(&self) -> Option<(OrdererId, OrdererId)> {
        self.replacing
    }

    fn of(&self, standing: Standing) -> impl Iterator<Item = OrdererId> + '_ {
        self.list.iter().filter(move |(_, m)| m.standing == standing).map(|(id, _)| *id)
    }

    /// Those that vote from now on.
    pub fn voters(&self) -> impl Iterator<Item = OrdererId> + '_ {
        self.of(Standing::Voter)
    }

    /// Who is catching up.
    pub fn learner(&self) -> Option<OrdererId> {
        self.of(Standing::Learner).next()
    }

    /// Whether those of before still count, too.
    pub fn is_joint(&self) -> bool {
        self.of(Standing::Leaving).next().is_some()
    }

    /// As raft is to have it.
    pub(crate) fn conf(&self) -> Conf {
        let ids = |it: &mut dyn Iterator<Item = OrdererId>| it.map(|id| id.0).collect::<Vec<u64>>();
        let incoming = self.replacing.filter(|_| self.is_joint()).map(|(new, _)| new);
        let of_before = |id: &OrdererId| {
            self.list[id].standing != Standing::Learner && Some(*id) != incoming && incoming.is_some()
        };
        Conf {
            voters: ids(&mut self.voters()),
            outgoing: ids(&mut self.list.keys().copied().filter(of_before)),
            learners: ids(&mut self.of(Standing::Learner)),
        }
    }

    /// The change as it is proposed: it does nothing to any other state of the members.
    pub(crate) fn propose(&self, change: Change) -> Vec<u8> {
        let proposed = Proposed { expected: self.changes, change };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&proposed).expect("our own changes serialize");
        [&[VERSION], &body[..]].concat()
    }

    /// What the change would do to raft's set of members.
    ///
    /// # Errors
    /// Why it can't be made.
    pub(crate) fn steps(&self, change: &Change) -> Result<Vec<Step>, &'static str> {
        let quiet = self.learner().is_none() && !self.is_joint() && self.parting.is_none();
        match change {
            Change::Add { id, addr, replaces } => {
                let votes = |old: &OrdererId| self.voters().any(|v| v == *old);
                if !quiet {
                    return Err("another change is under way");
                }
                if *id <= self.newest {
                    return Err("an id is never used twice");
                }
                if self.list.len() >= ORDERERS_MAX {
                    return Err("there are too many orderers");
                }
                if !is_addr(addr) || self.list.values().any(|m| m.addr == *addr) {
                    return Err("the address is none, or another orderer's");
                }
                if self.list.values().any(|m| m.birth == 0) {
                    return Err("an orderer has not introduced itself yet");
                }
                if replaces.as_ref().is_some_and(|old| !votes(old)) {
                    return Err("whom it replaces does not vote");
                }
                Ok(vec![Step::Learns(*id)])
            }
            Change::Promote { id } => match self.get(*id) {
                Some(m) if m.standing == Standing::Learner && m.birth != 0 => {
                    let goes = self.replacing.iter().map(|(_, old)| Step::Goes(*old));
                    Ok([Step::Votes(*id)].into_iter().chain(goes).collect())
                }
                _ => Err("it is no learner, or has not introduced itself"),
            },
            Change::Remove { id } => match self.get(*id).map(|m| m.standing) {
                Some(Standing::Learner) if self.parting.is_none() => Ok(vec![Step::Goes(*id)]),
                Some(Standing::Voter | Standing::Learner) if !quiet => Err("another change is under way"),
                Some(Standing::Voter) if self.voters().count() > 1 => Ok(vec![Step::Goes(*id)]),
                Some(Standing::Voter) => Err("it is the last one"),
                _ => Err("it is no member, or about to be none"),
            },
        }
    }

    fn make(&mut self, change: Change) {
        match change {
            Change::Add { id, addr, replaces } => {
                self.list.insert(id, Member { addr, birth: 0, standing: Standing::Learner });
                self.newest = id;
                self.replacing = replaces.map(|old| (id, old));
            }
            Change::Promote { id } => {
                self.stand(id, Standing::Voter);
                if let Some((_, old)) = self.replacing {
                    self.stand(old, Standing::Leaving);
                }
            }
            Change::Remove { id } => {
                self.part(id);
                self.replacing.take_if(|(new, _)| *new == id);
            }
        }
        self.changes += 1;
    }

    fn part(&mut self, id: OrdererId) {
        self.parting = self.list.remove(&id).map(|m| (id, m.addr));
    }

    fn stand(&mut self, id: OrdererId, standing: Standing) {
        self.list.get_mut(&id).expect("looked at before").standing = standing;
    }
}

/// Whether it can be one.
pub(crate) fn is_addr(addr: &str) -> bool {
    let port = addr.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok()?;
        (!host.is_empty()).then_some(port)
    });
    addr.len() <= NAME_BYTES_MAX && port.is_some_and(|p| p != 0)
}

impl State {
    /// The state before the first entry, of a cluster with these first orderers.
    pub fn found(cluster: ClusterId, orderers: &[(OrdererId, String)]) -> Self {
        Self { members: Members::first(orderers), ..Self::new(cluster) }
    }

    /// The orderers.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Applies a committed change of the members: what raft's set of members must follow.
    ///
    /// # Errors
    /// Why it changed nothing.
    pub(crate) fn change_members(&mut self, data: &[u8]) -> Result<Vec<Step>, &'static str> {
        let proposed = match data.split_first() {
            Some((&VERSION, body)) => rkyv::from_bytes::<Proposed, rkyv::rancor::Error>(body).ok(),
            _ => None,
        };
        let Some(Proposed { expected, change }) = proposed else {
            return Err("not a change of this version");
        };
        if expected != self.members.changes {
            return Err("a change made for other members");
        }
        let steps = self.members.steps(&change)?;
        self.members.make(change);
        super::invariants::members(&self.members).unwrap_or_else(|e| panic!("{e}"));
        Ok(steps)
    }

    /// All know those of now: those of before count no more. Whether they did.
    pub(crate) fn leave_joint(&mut self) -> bool {
        let m = &mut self.members;
        let joint = m.is_joint();
        if joint {
            let gone = m.of(Standing::Leaving).next().expect("it is joint");
            m.part(gone);
            m.replacing = None;
            m.changes += 1;
            super::invariants::members(m).unwrap_or_else(|e| panic!("{e}"));
        }
        joint
    }

    /// Orderers have introduced themselves: of each the first birth counts, for ever.
    pub(super) fn welcome(&mut self, births: &[(OrdererId, u64)]) -> Applied {
        let mut news = false;
        for (id, birth) in births.iter().filter(|(_, birth)| *birth != 0) {
            if let Some(m) = self.members.list.get_mut(id).filter(|m| m.birth == 0) {
                (m.birth, news) = (*birth, true);
            }
        }
        if news { Applied::Members } else { Applied::Nothing("orderers that are known") }
    }

    /// Enough of those of now know, for ever, that this one is none any more: nobody needs it.
    pub(super) fn parted(&mut self, id: OrdererId) -> Applied {
        match self.members.parting.take_if(|(parts, _)| *parts == id) {
            Some(_) => Applied::Members,
            None => Applied::Nothing("an orderer that doesn't go"),
        }
    }

    /// Orderers are reached elsewhere.
    pub(super) fn move_orderers(&mut self, addrs: Vec<(OrdererId, String)>) -> Applied {
        let mut news = false;
        for (id, addr) in addrs.into_iter().filter(|(_, addr)| is_addr(addr)) {
            if let Some(m) = self.members.list.get_mut(&id).filter(|m| m.addr != addr) {
                (m.addr, news) = (addr, true);
            }
        }
        if news { Applied::Members } else { Applied::Nothing("orderers that are where they were") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::*;
    use proptest::prelude::*;

    fn id(n: u64) -> OrdererId {
        OrdererId(n)
    }

    fn three() -> State {
        let first: Vec<_> = (1..=3).map(|i| (id(i), format!("o{i}:1"))).collect();
        let mut s = State::found(ClusterId(5), &first);
        let births = (1..=3).map(|i| (id(i), 100 + i)).collect();
        assert_eq!(s.apply(&Command::Welcome(births).encode()), Applied::Members);
        s
    }

    fn change(s: &mut State, change: Change) -> Result<Vec<Step>, &'static str> {
        let data = s.members.propose(change);
        s.change_members(&data)
    }

    fn add(n: u64, replaces: Option<u64>) -> Change {
        Change::Add { id: id(n), addr: format!("o{n}:1"), replaces: replaces.map(id) }
    }

    fn welcome(s: &mut State, n: u64) {
        s.apply(&Command::Welcome(vec![(id(n), 100 + n)]).encode());
    }

    fn parted(s: &mut State, n: u64) {
        s.apply(&Command::Parted(id(n)).encode());
    }

    fn conf(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Conf {
        Conf { voters: voters.to_vec(), outgoing: outgoing.to_vec(), learners: learners.to_vec() }
    }

    #[test]
    fn one_comes_learns_votes_and_one_goes() {
        let mut s = three();
        assert_eq!(change(&mut s, add(4, None)), Ok(vec![Step::Learns(id(4))]));
        assert_eq!(s.members.conf(), conf(&[1, 2, 3], &[], &[4]));
        assert!(change(&mut s, Change::Promote { id: id(4) }).is_err(), "it has not introduced itself");
        welcome(&mut s, 4);
        assert_eq!(change(&mut s, Change::Promote { id: id(4) }), Ok(vec![Step::Votes(id(4))]));
        assert_eq!(change(&mut s, Change::Remove { id: id(1) }), Ok(vec![Step::Goes(id(1))]));
        assert_eq!(s.members.conf(), conf(&[2, 3, 4], &[], &[]));
        assert!(!s.members.was_removed(id(1)), "somebody may still need its vote");
        assert!(change(&mut s, Change::Remove { id: id(2) }).is_err(), "one change at a time");
        parted(&mut s, 1);
        assert!(s.members.was_removed(id(1)) && !s.members.was_removed(id(5)));
    }

    #[test]
    fn a_replacement_goes_through_a_joint_set_and_never_through_an_even_one() {
        let mut s = three();
        change(&mut s, add(7, Some(2))).unwrap();
        welcome(&mut s, 7);
        let steps = change(&mut s, Change::Promote { id: id(7) }).unwrap();
        assert_eq!(steps, [Step::Votes(id(7)), Step::Goes(id(2))]);
        assert_eq!(s.members.conf(), conf(&[1, 3, 7], &[1, 2, 3], &[]));
        assert!(change(&mut s, Change::Remove { id: id(1) }).is_err(), "one change at a time");
        assert!(s.leave_joint() && !s.leave_joint());
        assert_eq!(s.members.conf(), conf(&[1, 3, 7], &[], &[]));
    }

    #[test]
    fn an_id_is_never_used_twice_and_a_birth_never_changes() {
        let mut s = three();
        change(&mut s, add(9, None)).unwrap();
        change(&mut s, Change::Remove { id: id(9) }).unwrap();
        parted(&mut s, 9);
        for n in [1, 5, 9] {
            assert_eq!(change(&mut s, add(n, None)), Err("an id is never used twice"));
        }
        s.apply(&Command::Welcome(vec![(id(1), 999)]).encode());
        assert_eq!(s.members.get(id(1)).unwrap().birth, 101);
    }

    #[test]
    fn what_was_made_for_other_members_does_nothing() {
        let mut s = three();
        let late = s.members.propose(Change::Remove { id: id(3) });
        change(&mut s, Change::Remove { id: id(2) }).unwrap();
        assert_eq!(s.change_members(&late), Err("a change made for other members"));
        parted(&mut s, 2);
        change(&mut s, Change::Remove { id: id(3) }).unwrap();
        parted(&mut s, 3);
        assert_eq!(change(&mut s, Change::Remove { id: id(1) }), Err("it is the last one"));
    }

    proptest! {
        /// Whatever is decided in whatever order: at most one comes or goes, ids only ascend, and the state travels.
        #[test]
        fn members_change_one_by_one(
            steps in prop::collection::vec((0u8..6, 1u64..14, prop::option::of(1u64..14)), 0..60),
        ) {
            let mut s = three();
            for (what, n, other) in steps {
                let before = (s.members.conf(), s.members.newest);
                match what {
                    0 | 1 => { let _ = change(&mut s, add(n, other)); }
                    2 => { welcome(&mut s, n); let _ = change(&mut s, Change::Promote { id: id(n) }); }
                    3 => { let _ = change(&mut s, Change::Remove { id: id(n) }); }
                    4 => { s.leave_joint(); }
                    _ => { (1..14).for_each(|n| parted(&mut s, n)); }
                }
                let conf = s.members.conf();
                let voters = |c: &Conf| c.voters.iter().copied().collect::<std::collections::BTreeSet<u64>>();
                let (old, new) = (voters(&before.0), voters(&conf));
                let moved = old.symmetric_difference(&new).count();
                prop_assert!(moved <= 1 || (moved == 2 && conf.outgoing == before.0.voters));
                prop_assert!(!new.is_empty() && s.members.newest >= before.1);
                prop_assert!(conf.voters.iter().chain(&conf.outgoing).chain(&conf.learners).all(|n| *n <= s.members.newest.0));
                prop_assert_eq!(&State::decode(ClusterId(5), &s.encode()).unwrap(), &s);
            }
        }

        #[test]
        fn garbage_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut s = three();
            let before = s.clone();
            prop_assert!(s.change_members(&bytes).is_err());
            prop_assert!(s.change_members(&[&[VERSION], &bytes[..]].concat()).is_err() || s != before);
        }
    }
}
