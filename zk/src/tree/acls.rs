//! Which ACLs are in use? Each list once, counted, since most nodes share a few.

use super::node::hash_words;
use crate::access::{Caller, Rules};
use crate::jute::codes::perms;
use crate::txn::{Acl, AuthId};
use hashbrown::HashTable;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// An ACL in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AclId(u32);

impl AclId {
    /// Anyone may do anything. Always there.
    pub const OPEN: Self = Self(0);

    /// As it stands in a snapshot.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// What stands in a snapshot, whether it is in use or not.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Entry {
    /// Shared with the snapshot being taken, and with changes that not all may hear of.
    rules: Arc<Rules>,
    hash: u64,
    nodes: u64,
    /// What it permits to everyone: mostly, no other entry needs to be looked at.
    anyone: i32,
}

/// All ACLs in use.
#[derive(Debug)]
pub struct Acls {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

/// The list that allows `perms` to everyone.
pub fn world(perms: i32) -> Vec<Acl> {
    vec![Acl { perms, id: AuthId { scheme: "world".into(), id: "anyone".into() } }]
}

/// Hash of a list, the same on every machine.
pub fn acl_hash(acl: &[Acl]) -> u64 {
    acl.iter().fold(acl.len() as u64, |seed, a| {
        let scheme = xxh3_64_with_seed(a.id.scheme.as_bytes(), seed);
        hash_words(&[xxh3_64_with_seed(a.id.id.as_bytes(), scheme), a.perms as u64])
    })
}

impl Acls {
    /// Only [`AclId::OPEN`].
    pub fn new() -> Self {
        let mut all = Self { entries: Vec::new(), free: Vec::new(), index: HashTable::new() };
        let open = all.hold(&world(perms::ALL));
        assert_eq!(open, AclId::OPEN, "the first list is the open one");
        all
    }

    fn entry(&self, id: AclId) -> &Entry {
        self.entries[id.0 as usize].as_ref().unwrap_or_else(|| panic!("ACL {} is not in use", id.0))
    }

    /// The list.
    pub fn get(&self, id: AclId) -> &[Acl] {
        self.entry(id).rules.acl()
    }

    /// Whether the list gives the caller one of the permissions `wanted`.
    #[inline]
    pub fn permits(&self, id: AclId, wanted: i32, caller: &Caller<'_>) -> bool {
        id == AclId::OPEN || {
            let entry = self.entry(id);
            entry.anyone & wanted != 0 || caller.may(&entry.rules, wanted)
        }
    }

    /// The list, unless it lets everyone read.
    #[inline]
    pub fn restricting(&self, id: AclId) -> Option<Arc<Rules>> {
        if id == AclId::OPEN {
            return None;
        }
        let entry = self.entry(id);
        (entry.anyone & perms::READ == 0).then(|| entry.rules.clone())
    }

    /// The list's hash.
    pub fn hash(&self, id: AclId) -> u64 {
        self.entry(id).hash
    }

    /// One node more uses this list.
    pub fn hold(&mut self, acl: &[Acl]) -> AclId {
        let hash = acl_hash(acl);
        let entries = &self.entries;
        let same = |&i: &u32| entries[i as usize].as_ref().is_some_and(|e| *e.rules.acl() == *acl);
        if let Some(&i) = self.index.find(hash, same) {
            self.entries[i as usize].as_mut().expect("it was just seen").nodes += 1;
            return AclId(i);
        }
        let rules = Rules::new(acl);
        let entry = Some(Entry { hash, nodes: 1, anyone: rules.to_anyone(), rules: Arc::new(rules) });
        let i = self.free.pop().unwrap_or(self.entries.len() as u32);
        if i as usize == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[i as usize] = entry;
        }
        let entries = &self.entries;
        self.index.insert_unique(hash, i, |&i| entries[i as usize].as_ref().map_or(0, |e| e.hash));
        AclId(i)
    }

    /// One node more uses this list, which is in use.
    pub fn hold_again(&mut self, id: AclId) {
        let entry = self.entries[id.0 as usize].as_mut();
        entry.unwrap_or_else(|| panic!("ACL {} is not in use", id.0)).nodes += 1;
    }

    /// All lists but the open one, by their ids.
    pub fn lists(&self) -> Vec<(AclId, Arc<Rules>)> {
        let used = self.entries.iter().zip(0..).skip(1);
        used.filter_map(|(e, i)| Some((AclId(i), e.as_ref()?.rules.clone()))).collect()
    }

    /// One node less uses it. The open one stays.
    pub fn release(&mut self, id: AclId) {
        if id == AclId::OPEN {
            return;
        }
        let place = &mut self.entries[id.0 as usize];
        let entry = place.as_mut().unwrap_or_else(|| panic!("ACL {} is released once too often", id.0));
        entry.nodes -= 1;
        if entry.nodes > 0 {
            return;
        }
        let hash = entry.hash;
        *place = None;
        self.free.push(id.0);
        let found = self.index.find_entry(hash, |&i| i == id.0);
        found.unwrap_or_else(|_| panic!("ACL {} is not in the index", id.0)).remove();
    }

    /// Number of lists in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_kept_once_and_as_long_as_it_is_used() {
        let mut all = Acls::new();
        let (one, two) = (world(perms::READ), world(perms::WRITE));
        let a = all.hold(&one);
        assert_eq!(all.hold(&one), a);
        let b = all.hold(&two);
        assert_ne!(all.hash(a), all.hash(b));
        assert_eq!((all.get(a), all.len()), (&one[..], 3));
        all.release(a);
        assert_eq!(all.get(a), &one[..]);
        all.release(a);
        assert_eq!(all.len(), 2);
        assert_eq!(all.hold(&one), a, "its place is used again");
        all.release(AclId::OPEN);
        assert_eq!(all.hold(&world(perms::ALL)), AclId::OPEN);
    }

    #[test]
    fn hashes_tell_lists_apart() {
        let acl = |perms, scheme: &str, id: &str| Acl {
            perms,
            id: AuthId { scheme: scheme.into(), id: id.into() },
        };
        let lists = [
            vec![],
            vec![acl(1, "ab", "c")],
            vec![acl(1, "a", "bc")],
            vec![acl(2, "ab", "c")],
            vec![acl(1, "ab", "c"), acl(1, "ab", "c")],
            vec![acl(1, "x", ""), acl(2, "y", "")],
            vec![acl(2, "y", ""), acl(1, "x", "")],
        ];
        let hashes: std::collections::BTreeSet<u64> = lists.iter().map(|l| acl_hash(l)).collect();
        assert_eq!(hashes.len(), lists.len());
    }
}
