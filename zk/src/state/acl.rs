//! Which ACLs may a node get? What a client gives is put in order, or refused, before it is stored.

use crate::access::is_address_range;
use crate::jute::ErrorCode;
use crate::jute::codes::perms;
use crate::txn::{Acl, ArchivedAcl, ArchivedAuthId, AuthId};
use std::collections::BTreeSet;
use zoolog_core::limits::RECORD_BYTES_MAX;

/// Bytes of an entry on the wire, its two strings apart.
const ACL_BYTES_MIN: usize = 12;

/// Puts a list in order: `auth` entries become the connection's `ids`, duplicates go. `None` is the list
/// that allows everything to everyone, which nearly all nodes have.
///
/// # Errors
/// `InvalidAcl` when it is empty, has an entry of an unknown scheme or with a malformed id, or when `auth`
/// entries make it longer than any that could be sent: entries times identities must not become memory.
pub fn fix_up(acl: &[ArchivedAcl], ids: &[ArchivedAuthId]) -> Result<Option<Vec<Acl>>, ErrorCode> {
    if let [only] = acl
        && only.perms == perms::ALL
        && is_anyone(&only.id)
    {
        return Ok(None);
    }
    let mut fixed = Fixed::default();
    for entry in acl {
        let (perms, id) = (entry.perms.to_native(), own(&entry.id));
        if id.scheme == "auth" {
            let mut held = ids.iter().filter(|i| is_authenticated(i)).peekable();
            held.peek().ok_or(ErrorCode::InvalidAcl)?;
            for i in held {
                fixed.add(perms, own(i))?;
            }
        } else if is_legal(&id) {
            fixed.add(perms, id)?;
        } else {
            return Err(ErrorCode::InvalidAcl);
        }
    }
    if fixed.list.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(Some(fixed.list)) }
}

/// A list in the making.
#[derive(Default)]
struct Fixed {
    list: Vec<Acl>,
    seen: BTreeSet<Acl>,
    bytes: usize,
}

impl Fixed {
    fn add(&mut self, perms: i32, id: AuthId) -> Result<(), ErrorCode> {
        self.bytes += ACL_BYTES_MIN + id.scheme.len() + id.id.len();
        if self.bytes > RECORD_BYTES_MAX {
            return Err(ErrorCode::InvalidAcl);
        }
        let entry = Acl { perms, id };
        if self.seen.insert(entry.clone()) {
            self.list.push(entry);
        }
        Ok(())
    }
}

fn own(id: &ArchivedAuthId) -> AuthId {
    AuthId { scheme: id.scheme.as_str().into(), id: id.id.as_str().into() }
}

fn is_anyone(id: &ArchivedAuthId) -> bool {
    id.scheme == "world" && id.id == "anyone"
}

/// Whether an identity was proved, rather than being what anyone or any peer has.
fn is_authenticated(id: &ArchivedAuthId) -> bool {
    matches!(id.scheme.as_str(), "digest" | "x509" | "sasl")
}

/// Whether an id is in its scheme's syntax.
fn is_legal(id: &AuthId) -> bool {
    match id.scheme.as_str() {
        "world" => id.id == "anyone",
        // Java's split, which ZooKeeper uses, overlooks what is empty at the end.
        "digest" => id.id.trim_end_matches(':').split(':').count() == 2,
        "ip" => is_address_range(&id.id),
        "x509" | "sasl" => !id.id.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record;
    use crate::txn::{ArchivedOp, CreateMode, Op, Txn};
    use zoolog_core::WallMs;

    fn id(scheme: &str, id: &str) -> AuthId {
        AuthId { scheme: scheme.into(), id: id.into() }
    }

    fn fixed(acl: &[(i32, &str, &str)], ids: &[(&str, &str)]) -> Result<Option<Vec<Acl>>, ErrorCode> {
        let acl = acl.iter().map(|&(perms, s, i)| Acl { perms, id: id(s, i) }).collect();
        let ids = ids.iter().map(|&(s, i)| id(s, i)).collect();
        let op = Op::Create { path: "/".into(), data: None, acl, mode: CreateMode::Persistent };
        let record = record::encode(&Txn { session: 0, attach: 0, wall: WallMs(0), ids, op });
        let (_, txn) = record::access(&record).expect("just made");
        let ArchivedOp::Create { acl, .. } = &txn.op else { panic!("another op") };
        fix_up(acl, &txn.ids)
    }

    fn list(acl: &[(i32, &str, &str)]) -> Result<Option<Vec<Acl>>, ErrorCode> {
        Ok(Some(acl.iter().map(|&(perms, s, i)| Acl { perms, id: id(s, i) }).collect()))
    }

    #[test]
    fn lists_are_put_in_order_or_refused() {
        let refused = Err(ErrorCode::InvalidAcl);
        assert_eq!(fixed(&[], &[]), refused);
        assert_eq!(fixed(&[(31, "world", "anyone")], &[]), Ok(None));
        assert_eq!(fixed(&[(1, "world", "anyone")], &[]), list(&[(1, "world", "anyone")]));
        assert_eq!(fixed(&[(31, "world", "someone")], &[]), refused);
        assert_eq!(fixed(&[(31, "nonsense", "x")], &[]), refused);
        let (a, b) = ((2, "digest", "u:h"), (1, "world", "anyone"));
        assert_eq!(fixed(&[a, b, a, b], &[]), list(&[a, b]));
        assert_eq!(fixed(&[a, (31, "", "")], &[]), refused);
    }

    #[test]
    fn auth_stands_for_what_the_connection_proved() {
        let auth = [(3, "auth", "ignored")];
        assert_eq!(fixed(&auth, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fixed(&auth, &[("ip", "10.0.0.1")]), Err(ErrorCode::InvalidAcl));
        let ids = [("ip", "10.0.0.1"), ("digest", "u:h"), ("sasl", "s")];
        assert_eq!(fixed(&auth, &ids), list(&[(3, "digest", "u:h"), (3, "sasl", "s")]));
    }

    #[test]
    fn entries_times_identities_do_not_become_memory() {
        let long = format!("u:{}", "h".repeat(200_000));
        let auth: Vec<_> = (0..50).map(|perms| (perms, "auth", "")).collect();
        assert_eq!(fixed(&auth, &[("digest", &long)]), Err(ErrorCode::InvalidAcl));
        assert!(fixed(&auth[..5], &[("digest", &long)]).is_ok());
    }

    #[test]
    fn ids_are_in_their_schemes_syntax() {
        for (scheme, good) in [
            ("digest", "u:h"),
            ("digest", ":h"),
            ("digest", "u:h:"),
            ("ip", "10.0.0.1"),
            ("ip", "10.0.0.0/8"),
            ("ip", "::1"),
            ("ip", "fe80::/64"),
            ("x509", "CN=a"),
            ("sasl", "me"),
        ] {
            assert!(is_legal(&id(scheme, good)), "{scheme} {good}");
        }
        for (scheme, bad) in [
            ("digest", ""),
            ("digest", "u"),
            ("digest", "u:"),
            ("digest", "a:b:c"),
            ("ip", "10.0.0"),
            ("ip", "10.0.0.0/33"),
            ("ip", "10.0.0.0/"),
            ("ip", "10.0.0.0/+8"),
            ("ip", ""),
            ("sasl", ""),
            ("super", ""),
        ] {
            assert!(!is_legal(&id(scheme, bad)), "{scheme} {bad}");
        }
    }
}
