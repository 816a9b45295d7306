//! What does a record do? A pure function of the state, the record's GSN and its bytes.

use super::{APPLY_VERSION_MAX, SKIPPED_MAX, State, record, write, zxid};
use crate::access::address_of;
use crate::txn::{ArchivedOp, ArchivedTxn, Change, Ephemeral, Outcome, Word};
use std::net::IpAddr;
use zoolog_core::Gsn;

impl State {
    /// Applies the record at `gsn`, which must be the next one, appends what it did to `changes`, and says
    /// what it came to. What can't be understood is [`Outcome::Rejected`] and takes its place like any other.
    pub fn apply(&mut self, gsn: Gsn, record: &[u8], changes: &mut Vec<Change>) -> Outcome {
        assert_eq!(gsn, self.applied, "records are applied one after the other");
        self.applied = gsn.next();
        if self.apply_version > APPLY_VERSION_MAX {
            return Outcome::Rejected;
        }
        #[cfg(test)]
        assert!(PANICS_AT.get() != Some(gsn), "a test has it so");
        match record::access(record) {
            Some((flags, txn)) if write::is_meaningful(txn, self.apply_version) => {
                self.apply_txn(gsn, flags, txn, changes)
            }
            _ => Outcome::Rejected,
        }
    }

    /// The record at `gsn`, which must be the next one, is passed over: it takes its place and does nothing.
    pub fn pass_over(&mut self, gsn: Gsn) -> Outcome {
        assert_eq!(gsn, self.applied, "records are applied one after the other");
        self.applied = gsn.next();
        self.skipped.insert(gsn);
        while self.skipped.len() > SKIPPED_MAX {
            self.skipped.pop_first();
        }
        Outcome::Rejected
    }

    fn apply_txn(&mut self, gsn: Gsn, flags: u8, txn: &ArchivedTxn, changes: &mut Vec<Change>) -> Outcome {
        let session = txn.session.to_native();
        let mut address = None;
        if session != 0 {
            // A connection's requests count only while its session rests on it (invariant ZK-4), and show that
            // the session is alive.
            match self.sessions.touch(session, Gsn(txn.attach.to_native()), gsn) {
                Some(touched) => address = touched.address,
                None => return Outcome::Stale,
            }
        }
        match &txn.op {
            ArchivedOp::CreateSession { timeout_ms } => {
                self.create_session(gsn, timeout_ms.to_native(), address_in(txn), changes)
            }
            ArchivedOp::Attach { session, timeout_ms } => {
                self.attach(gsn, session.to_native(), timeout_ms.to_native(), address_in(txn), changes)
            }
            ArchivedOp::CloseSession => {
                self.end_session(gsn, session, changes);
                Outcome::Done
            }
            ArchivedOp::Touch { sessions } => {
                for heard in sessions.iter() {
                    self.sessions.touch(heard.0.to_native(), Gsn(heard.1.to_native()), gsn);
                }
                Outcome::Done
            }
            ArchivedOp::Expire { session, attach, touch } => {
                let (session, attach, touch) = (session.to_native(), attach.to_native(), touch.to_native());
                if self.sessions.get(session).is_some_and(|s| (s.attach.0, s.touch.0) == (attach, touch)) {
                    self.end_session(gsn, session, changes);
                }
                Outcome::Done
            }
            ArchivedOp::Nothing => Outcome::Done,
            ArchivedOp::RaiseApplyVersion { to } => {
                self.apply_version = self.apply_version.max(to.to_native());
                Outcome::Done
            }
            ArchivedOp::Sweep { nodes } => {
                let wall_ms = i64::try_from(txn.wall.0.to_native()).unwrap_or(i64::MAX);
                for seen in nodes.iter() {
                    let zxids = seen.zxids.map(|z| z.to_native());
                    let path = seen.path.as_str();
                    if let Some(readers) = self.tree.sweep((path, zxids), wall_ms, zxid(gsn.next())) {
                        let (path, readers) = (path.into(), readers.into());
                        changes.push(Change::Deleted { path, readers, ephemeral: None });
                    }
                }
                Outcome::Done
            }
            ArchivedOp::Import { nodes } => {
                nodes.iter().for_each(|node| self.import(gsn, node, changes));
                Outcome::Done
            }
            ArchivedOp::Mark => Outcome::Word(Word::Mark),
            ArchivedOp::Hashed { node, at, hash } => Outcome::Word(Word::Hashed {
                node: node.to_native(),
                at: Gsn(at.to_native()),
                hash: hash.as_ref().map(|hash| hash.to_native()),
            }),
            ArchivedOp::Skip { gsn } => Outcome::Word(Word::Skip { gsn: Gsn(gsn.to_native()) }),
            _ => self.write(gsn, flags, txn, address, changes),
        }
    }

    fn create_session(
        &mut self,
        gsn: Gsn,
        timeout_ms: u32,
        address: Option<IpAddr>,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let session = self.sessions.create(gsn, timeout_ms, address);
        changes.push(Change::SessionAttached { session, attach: gsn.0 });
        Outcome::SessionCreated { session, timeout_ms }
    }

    fn attach(
        &mut self,
        gsn: Gsn,
        session: i64,
        timeout_ms: u32,
        address: Option<IpAddr>,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        if !self.sessions.attach(session, gsn, timeout_ms, address) {
            return Outcome::NoSuchSession;
        }
        changes.push(Change::SessionAttached { session, attach: gsn.0 });
        Outcome::Attached { timeout_ms }
    }

    /// Ends a session that lives: all its ephemerals go with it, in the order of their paths.
    fn end_session(&mut self, gsn: Gsn, session: i64, changes: &mut Vec<Change>) {
        let ended =
            self.sessions.remove(session).unwrap_or_else(|| panic!("session {session:#x} ends twice"));
        let slots = ended.ephemerals.into_iter();
        let mut gone: Vec<_> = slots.map(|slot| (self.tree.path_of(slot), slot)).collect();
        gone.sort_unstable();
        for (path, slot) in gone {
            let readers = self.tree.delete_ephemeral(slot, &path, zxid(gsn.next())).into();
            changes.push(Change::Deleted { path, readers, ephemeral: Some(Ephemeral { session, slot }) });
        }
        changes.push(Change::SessionEnded { session });
    }
}

#[cfg(test)]
thread_local! {
    /// Applying the record there panics, in this thread.
    pub(crate) static PANICS_AT: std::cell::Cell<Option<Gsn>> = const { std::cell::Cell::new(None) };
}

/// The address of the connection that gets the session.
fn address_in(txn: &ArchivedTxn) -> Option<IpAddr> {
    txn.ids.iter().find(|id| id.scheme == "ip").and_then(|id| address_of(&id.id))
}
