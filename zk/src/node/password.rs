//! How does a session prove itself? By 16 bytes of an HMAC over its id under the cluster's secret, which every
//! node can compute and nobody else guess.

use crate::jute::responses::PASSWORD_BYTES;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Told apart from other uses of the cluster's secret.
const USE: &[u8] = b"zoolog session password v1";

/// Makes and checks session passwords.
#[derive(Clone)]
pub(super) struct Passwords(Hmac<Sha256>);

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords(..)")
    }
}

impl Passwords {
    /// Under the cluster's secret.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(USE);
        Self(mac)
    }

    /// The session's password.
    pub(super) fn of(&self, session: i64) -> [u8; PASSWORD_BYTES] {
        let mut mac = self.0.clone();
        mac.update(&session.to_be_bytes());
        mac.finalize().into_bytes()[..PASSWORD_BYTES].try_into().expect("a SHA-256 has 32 bytes")
    }

    /// Whether `given` is the session's password. Takes as long for a nearly right one as for a wrong one.
    pub(super) fn check(&self, session: i64, given: &[u8]) -> bool {
        let mut mac = self.0.clone();
        mac.update(&session.to_be_bytes());
        given.len() == PASSWORD_BYTES && mac.verify_truncated_left(given).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_own_password_under_the_same_secret_fits() {
        let ours = Passwords::new(&[7; 32]);
        let good = ours.of(42);
        assert!(ours.check(42, &good));
        assert!(!ours.check(43, &good));
        assert!(!Passwords::new(&[8; 32]).check(42, &good));
        assert!(!ours.check(42, &good[..15]), "a shorter prefix is not enough");
        assert!(!ours.check(42, &[]));
        for bit in 0..128 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!ours.check(42, &bad));
        }
    }
}
