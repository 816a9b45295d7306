//! Who may do what? A caller's identities held against an ACL.

mod rules;

use crate::jute::codes::perms;
use crate::txn::{Acl, ArchivedAuthId, AuthId};
pub use rules::Rules;
use std::net::IpAddr;

/// Scheme of who may do everything.
pub const SUPER: &str = "super";

/// Who asks: what a connection is and has proved, besides being anyone.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    ids: Ids<'a>,
    address: Option<IpAddr>,
    everything: bool,
}

#[derive(Clone, Copy)]
enum Ids<'a> {
    Plain(&'a [AuthId]),
    Archived(&'a [ArchivedAuthId]),
}

impl std::fmt::Debug for Ids<'_> {
    /// Without what could tell a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids(..)")
    }
}

impl<'a> Caller<'a> {
    /// Anyone, from nowhere.
    pub const NOBODY: Self = Self { ids: Ids::Plain(&[]), address: None, everything: false };

    /// Who is not asked.
    pub const ROOT: Self = Self { everything: true, ..Self::NOBODY };

    /// Somebody at that address who has proved `ids`.
    pub const fn new(ids: &'a [AuthId], address: Option<IpAddr>) -> Self {
        Self { ids: Ids::Plain(ids), address, everything: false }
    }

    /// The same, of a record.
    pub const fn of_record(ids: &'a [ArchivedAuthId], address: Option<IpAddr>, everything: bool) -> Self {
        Self { ids: Ids::Archived(ids), address, everything }
    }

    fn any(&self, is: impl Fn(&str, &str) -> bool) -> bool {
        match self.ids {
            Ids::Plain(ids) => ids.iter().any(|i| is(&i.scheme, &i.id)),
            Ids::Archived(ids) => ids.iter().any(|i| is(&i.scheme, &i.id)),
        }
    }

    /// Whether ACLs don't count for it.
    pub fn is_super(&self) -> bool {
        self.everything || self.any(|scheme, _| scheme == SUPER)
    }

    /// Whether the list gives it one of the permissions `wanted`.
    pub fn may(&self, rules: &Rules, wanted: i32) -> bool {
        rules.give(self, wanted) || self.is_super()
    }
}

/// The list as it is shown to who may not change it: without what passwords could be guessed from.
pub fn redacted(acl: &[Acl]) -> Vec<Acl> {
    let mut shown = acl.to_vec();
    for entry in shown.iter_mut().filter(|a| a.id.scheme == "digest") {
        if let Some((user, _)) = entry.id.id.split_once(':') {
            entry.id.id = format!("{user}:x");
        }
    }
    shown
}

/// Whether that permission lets one see the list as it is.
pub const SEES_ACL: i32 = perms::READ | perms::ADMIN;

/// The address in `ip:port`, or in what else a shell calls a peer; IPv4 inside IPv6 is IPv4.
pub fn address_of(peer: &str) -> Option<IpAddr> {
    let ip = peer.rsplit_once(':').map_or(peer, |(ip, _)| ip);
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    ip.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// An address, or an address and the number of its leading bits that count.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(b) if b.bytes().all(|c| c.is_ascii_digit()) => b.parse().ok().filter(|b| *b <= most)?,
        Some(_) => return None,
    };
    Some((address, bits))
}

/// Whether the text is an address, or one and the number of its leading bits that count.
pub fn is_address_range(text: &str) -> bool {
    range(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: AuthId { scheme: scheme.into(), id: id.into() } }
    }

    #[test]
    fn addresses_are_within_their_ranges_and_no_others() {
        let cases = [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.2/31", true),
            ("10.1.2.4", "10.1.2.2/31", false),
            ("1.2.3.4", "0.0.0.0/0", true),
            ("::1", "0.0.0.0/0", false),
            ("1.2.3.4", "::/0", false),
            ("fe80::1", "fe80::/64", true),
            ("fe81::1", "fe80::/64", false),
            ("::1", "::1", true),
            ("::2", "::/0", true),
            ("1.2.3.4", "nonsense", false),
        ];
        for (address, text, within) in cases {
            let caller = Caller::new(&[], Some(address.parse().expect("one")));
            // As the only entry, and as one of many.
            for n in [1, 20] {
                let rules = Rules::new(&vec![acl(1, "ip", text); n]);
                assert_eq!(caller.may(&rules, 1), within, "{address} in {text}");
            }
        }
    }

    #[test]
    fn peers_have_addresses() {
        for (peer, address) in [
            ("10.0.0.1:99", Some("10.0.0.1")),
            ("[::1]:99", Some("::1")),
            ("[::ffff:10.0.0.1]:99", Some("10.0.0.1")),
            ("client-3", None),
        ] {
            assert_eq!(address_of(peer), address.map(|a| a.parse().expect("one")), "{peer}");
        }
    }

    /// Scheme by scheme, who is let in.
    #[test]
    fn each_scheme_lets_in_whom_it_names() {
        let ids = [
            AuthId { scheme: "digest".into(), id: "u:h".into() },
            AuthId { scheme: "sasl".into(), id: "me".into() },
        ];
        let me = Caller::new(&ids, address_of("10.0.0.1:5"));
        for (entry, lets_in) in [
            (acl(1, "world", "anyone"), true),
            (acl(2, "world", "anyone"), false),
            (acl(1, "digest", "u:h"), true),
            (acl(1, "digest", "u:other"), false),
            (acl(1, "sasl", "u:h"), false),
            (acl(1, "sasl", "me"), true),
            (acl(1, "ip", "10.0.0.0/24"), true),
            (acl(1, "ip", "10.0.1.0/24"), false),
            (acl(1, "x509", "CN=me"), false),
        ] {
            let rules = Rules::new(&[acl(30, "digest", "u:h"), entry.clone()]);
            assert_eq!(me.may(&rules, 1), lets_in, "{entry:?}");
        }
        let addresses = Rules::new(&[acl(31, "ip", "0.0.0.0/0")]);
        assert!(!Caller::NOBODY.may(&addresses, 1), "who has no address is in no range");
        let nobodys = Rules::new(&[acl(0, "digest", "x:y")]);
        let root = [AuthId { scheme: SUPER.into(), id: String::new() }];
        assert!(Caller::new(&root, None).may(&nobodys, 16) && Caller::ROOT.may(&nobodys, 16));
        assert!(!me.may(&nobodys, 31));
    }

    #[test]
    fn only_digests_are_redacted() {
        let list = [acl(1, "digest", "u:h:x"), acl(2, "ip", "::1"), acl(4, "sasl", "a:b")];
        let shown = [acl(1, "digest", "u:x"), acl(2, "ip", "::1"), acl(4, "sasl", "a:b")];
        assert_eq!(redacted(&list), shown);
        let open = [acl(1, "world", "anyone"), acl(6, "world", "anyone"), list[0].clone()];
        assert_eq!(Rules::new(&open).to_anyone(), 7);
    }
}
