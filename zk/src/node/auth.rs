//! Who is a connection? What it is by its address, and what it has proved by `auth` requests since it began.

use super::connection::Slot;
use super::published::Item;
use super::queue::What;
use super::{Back, NodeConfig};
use crate::access::{Caller, SUPER, address_of};
use crate::jute::codes::perms;
use crate::jute::{ErrorCode, EventType, OpCode, Request, responses};
use crate::state::State;
use crate::txn::{AuthId, Readers, flags};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::net::IpAddr;
use zoolog_client::SharedLog;

/// Identities that a connection may prove.
const IDS_MAX: usize = 64;
/// Bytes of them: they are part of every write.
const ID_BYTES_MAX: usize = 16 << 10;

/// Answers that belong to the connection rather than to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfConn {
    /// From here on, reads count this many identities.
    Authenticated(usize),
    /// A proof was refused: the connection ends.
    AuthFailed,
    /// No SASL is configured.
    Sasl,
}

impl OfConn {
    /// Appends the answer. Clients take no zxid from those to proofs.
    pub(super) fn answer(self, out: &mut Vec<u8>, xid: i32, zxid: i64) {
        match self {
            OfConn::Authenticated(_) => responses::empty(out, xid, 0),
            OfConn::AuthFailed => responses::error(out, xid, 0, ErrorCode::AuthFailed),
            OfConn::Sasl => responses::no_token(out, xid, zxid),
        }
    }
}

/// What a connection is.
#[derive(Debug, Default)]
pub(super) struct Auth {
    address: Option<IpAddr>,
    /// What it has proved, in that order. Writes count all of it as soon as the proof has come.
    proved: Vec<AuthId>,
    /// How many of these count for reads: those whose answer was given, so that a read that came before a proof
    /// doesn't profit from it.
    answered: usize,
    /// ACLs don't count on this node.
    everything: bool,
}

impl Auth {
    /// Of a peer, `ip:port`.
    pub(super) fn of_peer(peer: &str, skip_acl: bool) -> Self {
        Self { address: address_of(peer), everything: skip_acl, ..Self::default() }
    }

    /// For reads and events.
    pub(super) fn caller(&self) -> Caller<'_> {
        match self.everything {
            true => Caller::ROOT,
            false => Caller::new(&self.proved[..self.answered], self.address),
        }
    }

    /// Whether it is told of a change: whether it may read the node that it concerns.
    pub(super) fn hears(&self, kind: EventType, readers: Option<&Readers>) -> bool {
        let readers = readers.and_then(|r| match kind {
            EventType::NodeChildrenChanged => r.parent.as_ref(),
            _ => r.node.as_ref(),
        });
        readers.is_none_or(|rules| self.caller().may(rules, perms::READ))
    }

    /// Identities that a write carries.
    pub(super) fn ids(&self) -> Vec<AuthId> {
        self.proved.clone()
    }

    /// The identity that the session has by its connection's address.
    pub(super) fn address_id(&self) -> Option<AuthId> {
        self.address.map(|a| AuthId { scheme: "ip".into(), id: a.to_string() })
    }

    /// What `whoAmI` says: scheme and user of each identity.
    pub(super) fn users(&self) -> Vec<(String, String)> {
        let user = |id: &AuthId| match id.scheme.as_str() {
            "digest" => id.id.split(':').next().unwrap_or_default().to_owned(),
            _ => id.id.clone(),
        };
        let all = self.address_id().into_iter().chain(self.proved[..self.answered].iter().cloned());
        all.map(|id| (id.scheme.clone(), user(&id))).collect()
    }

    /// Takes a proof; whether it is one, and there is room for what it proves.
    fn prove(&mut self, cfg: &NodeConfig, scheme: &str, auth: &[u8]) -> bool {
        let mut new = Vec::new();
        match scheme {
            // Everyone has it already.
            "ip" => return true,
            "digest" => {
                let id = digest_id(auth);
                if cfg.super_digest.as_ref() == Some(&id) {
                    new.push(AuthId { scheme: SUPER.into(), id: String::new() });
                }
                new.push(AuthId { scheme: "digest".into(), id });
            }
            _ => return false,
        }
        new.retain(|id| !self.proved.contains(id));
        let bytes = self.proved.iter().chain(&new).map(|id| id.scheme.len() + id.id.len());
        if self.proved.len() + new.len() > IDS_MAX || bytes.sum::<usize>() > ID_BYTES_MAX {
            return false;
        }
        self.proved.extend(new);
        true
    }

    /// What the connection has proved, as the executor says that knows.
    pub(super) fn set_proved(&mut self, ids: &[AuthId]) {
        self.proved = ids.to_vec();
        self.answered = ids.len();
    }

    /// The answer to so many proofs is given.
    pub(super) fn answered(&mut self, proofs: usize) {
        self.answered = proofs;
    }
}

/// The id of `user:password`: the user, and a digest of it all.
fn digest_id(auth: &[u8]) -> String {
    let text = String::from_utf8_lossy(auth);
    let user = text.split(':').next().unwrap_or_default();
    format!("{user}:{}", STANDARD.encode(Sha1::digest(text.as_bytes())))
}

impl<L: SharedLog> Back<L> {
    /// An `auth` request has come.
    pub(super) fn on_auth(&mut self, slot: Slot, body: &[u8]) -> What {
        let Ok(Request::Auth { scheme, auth }) = Request::decode(OpCode::Auth.code(), body) else {
            return What::Refused(ErrorCode::MarshallingError);
        };
        let conn = self.conns.at(slot);
        if conn.auth.prove(&self.cfg, &scheme, auth) {
            return What::OfConn(OfConn::Authenticated(conn.auth.proved.len()));
        }
        // Nothing behind it counts.
        conn.leaving = true;
        self.stats.auth_failed += 1;
        What::OfConn(OfConn::AuthFailed)
    }

    /// What belongs to the connection was answered.
    pub(super) fn settle_of_conn(&mut self, slot: Slot, of: OfConn) {
        match of {
            OfConn::Authenticated(proofs) => {
                let conn = self.conns.at(slot);
                conn.auth.answered(proofs);
                // Its front reads for it, too, from now on as who it is.
                if let Some(draft) = &mut self.draft {
                    draft.push(Item::Proved { conn: conn.id, ids: conn.auth.proved[..proofs].into() });
                }
            }
            OfConn::AuthFailed => self.drop_conn(slot, "it could not prove who it is"),
            OfConn::Sasl => {}
        }
    }

    /// What this node's operator said about writes that it hands to the log.
    pub(super) fn record_flags(&self, state: &State) -> u8 {
        let mut given = 0;
        if self.cfg.enforce_quota && state.has_quotas() {
            given |= flags::ENFORCE_QUOTA;
        }
        if self.cfg.skip_acl {
            given |= flags::SKIP_ACL;
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_original() {
        assert_eq!(digest_id(b"super:test"), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=");
        assert_eq!(digest_id(b"user:password"), "user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=");
        assert!(digest_id(b"nobody").starts_with("nobody:"));
    }

    #[test]
    fn identities_add_up_once_each_and_within_bounds() {
        let cfg = NodeConfig { super_digest: Some(digest_id(b"super:test")), ..NodeConfig::default() };
        let mut auth = Auth::of_peer("10.0.0.1:7", false);
        for (scheme, proof, good) in [
            ("digest", &b"me:x"[..], true),
            ("digest", b"me:x", true),
            ("ip", b"", true),
            ("world", b"anyone", false),
            ("super", b"super:test", false),
            ("digest", b"super:test", true),
        ] {
            assert_eq!(auth.prove(&cfg, scheme, proof), good, "{scheme}");
        }
        assert!(!auth.caller().is_super(), "its answer was not given yet");
        auth.answered(auth.proved.len());
        assert!(auth.caller().is_super());
        let schemes: Vec<_> = auth.users().into_iter().collect();
        let user = |scheme: &str, user: &str| (scheme.to_owned(), user.to_owned());
        let expected =
            [user("ip", "10.0.0.1"), user("digest", "me"), user("super", ""), user("digest", "super")];
        assert_eq!(schemes, expected);
        for i in 0..IDS_MAX - 3 {
            assert!(auth.prove(&cfg, "digest", format!("u{i}:x").as_bytes()));
        }
        assert!(!auth.prove(&cfg, "digest", b"one:more"));
        let mut auth = Auth::of_peer("nowhere", false);
        assert!(!auth.prove(&cfg, "digest", &[b'x'; ID_BYTES_MAX]));
    }
}
