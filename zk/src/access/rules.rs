//! How is a list of who may do what asked quickly? Its texts are read when it comes into use, once for all nodes that have it: what
//! everyone may stands apart, addresses are numbers, what can match nobody is left out. A list of few entries is gone
//! through; one of many, which a client may make of tens of thousands, is ordered, and each identity and each width of
//! address is looked up. So a check never costs what the list is long.

use super::Caller;
use crate::txn::{Acl, AuthId};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// Entries beside those for everyone that are gone through rather than ordered.
const FEW: usize = 8;

/// A range of addresses: whether they are IPv4, how many leading bits count, and these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    is_v4: bool,
    bits: u32,
    first: u128,
}

impl Range {
    /// The range of addresses that have so many leading bits of `address` in common with it.
    fn around(address: IpAddr, bits: u32) -> Self {
        let (is_v4, width, number) = match address {
            IpAddr::V4(a) => (true, 32, u128::from(a.to_bits())),
            IpAddr::V6(a) => (false, 128, a.to_bits()),
        };
        let bits = bits.min(width);
        let free = width - bits;
        Self { is_v4, bits, first: number.checked_shr(free).unwrap_or(0) }
    }

    fn of_text(text: &str) -> Option<Self> {
        super::range(text).map(|(of, bits)| Self::around(of.to_canonical(), bits))
    }

    fn has(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4 && Self::around(address, self.bits) == *self
    }
}

/// Whom an entry is for, if not for everyone.
#[derive(Debug)]
enum Who {
    Within(Range),
    /// Whoever has proved the identity that stands at this place of the list.
    Is(u32),
}

#[derive(Debug)]
enum Named {
    Few(Box<[(Who, i32)]>),
    Many(Box<Many>),
}

/// Entries in order, each range and each identity with all that it may.
#[derive(Debug)]
struct Many {
    ranges: Box<[(Range, i32)]>,
    /// Which widths these have.
    widths: Box<[(bool, u32)]>,
    /// By the hash of the identity, which stands at that place of the list. Several may have one hash.
    ids: Box<[(u64, u32, i32)]>,
}

/// An access control list, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    acl: Box<[Acl]>,
    anyone: i32,
    named: Named,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.acl == other.acl
    }
}

impl Eq for Rules {}

fn hash_of(scheme: &str, id: &str) -> u64 {
    FixedState::default().hash_one((scheme, id))
}

impl Rules {
    /// The rules of that list.
    ///
    /// # Panics
    /// If it has more entries than a `u32` counts.
    pub fn new(acl: &[Acl]) -> Self {
        let mut anyone = 0;
        let mut named = Vec::new();
        for (place, entry) in (0u32..).zip(acl) {
            match entry.id.scheme.as_str() {
                "world" if entry.id.id == "anyone" => anyone |= entry.perms,
                "world" => {}
                "ip" => {
                    named.extend(Range::of_text(&entry.id.id).map(|range| (Who::Within(range), entry.perms)));
                }
                _ => named.push((Who::Is(place), entry.perms)),
            }
        }
        u32::try_from(acl.len()).expect("a list comes in a frame");
        let named = match named.len() {
            0..=FEW => Named::Few(named.into()),
            _ => Named::Many(Box::new(Many::new(acl, named))),
        };
        Self { acl: acl.into(), anyone, named }
    }

    /// The list.
    pub fn acl(&self) -> &[Acl] {
        &self.acl
    }

    /// What it gives to everyone.
    pub fn to_anyone(&self) -> i32 {
        self.anyone
    }

    /// Whether it gives the caller one of the permissions `wanted`, whoever may do everything apart.
    pub(super) fn give(&self, caller: &Caller<'_>, wanted: i32) -> bool {
        if self.anyone & wanted != 0 {
            return true;
        }
        match &self.named {
            Named::Few(few) => few.iter().any(|(who, perms)| {
                perms & wanted != 0
                    && match who {
                        Who::Within(range) => caller.address.is_some_and(|a| range.has(a)),
                        Who::Is(place) => {
                            let AuthId { scheme, id } = &self.acl[*place as usize].id;
                            // Ids differ more often than schemes do.
                            caller.any(|s, own| own == id && s == scheme)
                        }
                    }
            }),
            Named::Many(many) => {
                caller.address.is_some_and(|a| many.give_within(a, wanted))
                    || (!many.ids.is_empty() && caller.any(|s, own| many.give_to(&self.acl, s, own, wanted)))
            }
        }
    }
}

impl Many {
    fn new(acl: &[Acl], named: Vec<(Who, i32)>) -> Self {
        let (mut ranges, mut ids) = (Vec::<(Range, i32)>::new(), Vec::<(u64, u32, i32)>::new());
        for (who, perms) in named {
            match who {
                Who::Within(range) => ranges.push((range, perms)),
                Who::Is(place) => {
                    let id = &acl[place as usize].id;
                    ids.push((hash_of(&id.scheme, &id.id), place, perms));
                }
            }
        }
        ranges.sort_unstable_by_key(|(range, _)| *range);
        ranges.dedup_by(|later, kept| {
            later.0 == kept.0 && {
                kept.1 |= later.1;
                true
            }
        });
        let id_at = |place: u32| &acl[place as usize].id;
        ids.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id_at(a.1).cmp(id_at(b.1))));
        ids.dedup_by(|later, kept| {
            id_at(later.1) == id_at(kept.1) && {
                kept.2 |= later.2;
                true
            }
        });
        let mut widths: Vec<(bool, u32)> = ranges.iter().map(|(r, _)| (r.is_v4, r.bits)).collect();
        widths.dedup();
        Self { ranges: ranges.into(), widths: widths.into(), ids: ids.into() }
    }

    fn give_within(&self, address: IpAddr, wanted: i32) -> bool {
        let widths = self.widths.iter().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
        widths.map(|(_, bits)| Range::around(address, *bits)).any(|range| {
            let found = self.ranges.binary_search_by_key(&range, |(r, _)| *r);
            found.is_ok_and(|at| self.ranges[at].1 & wanted != 0)
        })
    }

    fn give_to(&self, acl: &[Acl], scheme: &str, id: &str, wanted: i32) -> bool {
        let hash = hash_of(scheme, id);
        let first = self.ids.partition_point(|(h, ..)| *h < hash);
        let same = self.ids[first..].iter().take_while(|(h, ..)| *h == hash);
        same.into_iter().any(|(_, place, perms)| {
            let named = &acl[*place as usize].id;
            perms & wanted != 0 && named.id == id && named.scheme == scheme
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Entry by entry, as the list reads.
    fn plainly(acl: &[Acl], caller: &Caller<'_>, wanted: i32) -> bool {
        let is = |id: &AuthId| match id.scheme.as_str() {
            "world" => id.id == "anyone",
            "ip" => caller.address.is_some_and(|a| Range::of_text(&id.id).is_some_and(|range| range.has(a))),
            _ => caller.any(|scheme, own| scheme == id.scheme && own == id.id),
        };
        acl.iter().any(|entry| entry.perms & wanted != 0 && is(&entry.id))
    }

    fn id() -> impl Strategy<Value = AuthId> {
        let ids = prop_oneof![
            1 => Just(("world".to_string(), "anyone".to_string())),
            1 => Just(("world".to_string(), "nobody".to_string())),
            6 => (0u8..2, 0u8..20).prop_map(|(s, n)| (["digest", "sasl"][usize::from(s)].into(), format!("u:{n}"))),
            4 => (0u8..4, 0u8..4, 0u8..33).prop_map(|(a, b, bits)| ("ip".into(), format!("10.{a}.{b}.0/{bits}"))),
            2 => (0u8..4, 0u8..129).prop_map(|(a, bits)| ("ip".into(), format!("fe8{a}::1/{bits}"))),
            1 => Just(("ip".to_string(), "nonsense".to_string())),
        ];
        ids.prop_map(|(scheme, id)| AuthId { scheme, id })
    }

    proptest! {
        #[test]
        fn they_say_what_the_list_says(
            acl in prop::collection::vec((0i32..32, id()), 0..40),
            ids in prop::collection::vec(id(), 0..4),
            address in prop_oneof![
                Just(None),
                (0u8..4, 0u8..4).prop_map(|(a, b)| Some(format!("10.{a}.{b}.7").parse().expect("one"))),
                (0u8..4).prop_map(|a| Some(format!("fe8{a}::1").parse().expect("one"))),
            ],
        ) {
            let acl: Vec<Acl> = acl.into_iter().map(|(perms, id)| Acl { perms, id }).collect();
            let (rules, caller) = (Rules::new(&acl), Caller::new(&ids, address));
            for wanted in 0..32 {
                prop_assert_eq!(rules.give(&caller, wanted), plainly(&acl, &caller, wanted), "{}", wanted);
            }
        }
    }

    /// Two identities of one hash are told apart, as are texts that only begin alike.
    #[test]
    fn a_hash_is_not_an_identity() {
        let acl: Vec<Acl> = (0..100)
            .map(|n| Acl { perms: 1 << (n % 5), id: AuthId { scheme: "sasl".into(), id: format!("u{n}") } })
            .collect();
        let Named::Many(mut many) = Rules::new(&acl).named else { panic!("100 are many") };
        many.ids.iter_mut().for_each(|(hash, ..)| *hash = hash_of("sasl", "u7"));
        assert!(many.give_to(&acl, "sasl", "u7", 1 << 2) && !many.give_to(&acl, "sasl", "u7", 1 << 3));
        assert!(!many.give_to(&acl[..], "digest", "u7", 31));
    }
}
