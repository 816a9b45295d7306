//! What does a record do? A pure function of the state, the record's GSN and its bytes.

use super::{APPLY_VERSION_MAX, State, acl, record, zxid};
use crate::jute::ErrorCode;
use crate::tree::{NewNode, Stamp, path};
use crate::txn::{ArchivedCreateMode, ArchivedOp, ArchivedTxn, Change, Outcome};
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
        match record::access(record) {
            Some(txn) if is_meaningful(txn) => self.apply_txn(gsn, txn, changes),
            _ => Outcome::Rejected,
        }
    }

    fn apply_txn(&mut self, gsn: Gsn, txn: &ArchivedTxn, changes: &mut Vec<Change>) -> Outcome {
        let session = txn.session.to_native();
        // A connection's requests count only while its session rests on it (invariant ZK-4), and show that
        // the session is alive.
        if session != 0 && !self.sessions.touch(session, Gsn(txn.attach.to_native()), gsn) {
            return Outcome::Stale;
        }
        match &txn.op {
            ArchivedOp::CreateSession { timeout_ms } => {
                self.create_session(gsn, timeout_ms.to_native(), changes)
            }
            ArchivedOp::Attach { session, timeout_ms } => {
                self.attach(gsn, session.to_native(), timeout_ms.to_native(), changes)
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
            _ => self.write(gsn, txn, changes).unwrap_or_else(Outcome::Failed),
        }
    }

    fn create_session(&mut self, gsn: Gsn, timeout_ms: u32, changes: &mut Vec<Change>) -> Outcome {
        let session = self.sessions.create(gsn, timeout_ms);
        changes.push(Change::SessionAttached { session, attach: gsn.0 });
        Outcome::SessionCreated { session, timeout_ms }
    }

    fn attach(&mut self, gsn: Gsn, session: i64, timeout_ms: u32, changes: &mut Vec<Change>) -> Outcome {
        if !self.sessions.attach(session, gsn, timeout_ms) {
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
            self.tree.delete_ephemeral(slot, path.len(), zxid(gsn.next()));
            changes.push(Change::Deleted { path });
        }
        changes.push(Change::SessionEnded { session });
    }

    /// A client's write to the tree.
    fn write(
        &mut self,
        gsn: Gsn,
        txn: &ArchivedTxn,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        let wall_ms = i64::try_from(txn.wall.0.to_native()).unwrap_or(i64::MAX);
        let at = Stamp { zxid: zxid(gsn.next()), wall_ms };
        match &txn.op {
            ArchivedOp::Create { path, data, acl, mode } => {
                path::split(path).ok_or(ErrorCode::BadArguments)?;
                let acl = acl::fix_up(acl, &txn.ids)?;
                let (ephemeral, sequential) = kind(mode);
                let owner = if ephemeral { txn.session.to_native() } else { 0 };
                let data = data.as_ref().map(|d| d.as_slice());
                let new = NewNode { path, sequential, data, acl: acl.as_deref(), owner };
                let created = self.tree.create(new, at)?;
                if owner != 0 {
                    self.sessions.add_ephemeral(owner, created.slot);
                }
                changes.push(Change::Created { path: created.path.clone() });
                Ok(Outcome::Created { path: created.path, stat: created.stat })
            }
            ArchivedOp::Delete { path, version } => {
                let deleted = self.tree.delete(path, version.to_native(), at.zxid)?;
                if deleted.owner != 0 {
                    self.sessions.remove_ephemeral(deleted.owner, deleted.slot);
                }
                changes.push(Change::Deleted { path: path.as_str().into() });
                Ok(Outcome::Deleted)
            }
            ArchivedOp::SetData { path, data, version } => {
                let data = data.as_ref().map(|d| d.as_slice());
                let stat = self.tree.set_data(path, data, version.to_native(), at)?;
                changes.push(Change::DataChanged { path: path.as_str().into() });
                Ok(Outcome::Set { stat })
            }
            _ => panic!("an op that writes nothing to the tree came to where the tree is written"),
        }
    }
}

/// (ephemeral, sequential)
const fn kind(mode: &ArchivedCreateMode) -> (bool, bool) {
    match mode {
        ArchivedCreateMode::Persistent => (false, false),
        ArchivedCreateMode::Ephemeral => (true, false),
        ArchivedCreateMode::PersistentSequential => (false, true),
        ArchivedCreateMode::EphemeralSequential => (true, true),
    }
}

/// Whether what it says can be done at all: what belongs to a session must name one.
fn is_meaningful(txn: &ArchivedTxn) -> bool {
    match &txn.op {
        ArchivedOp::CloseSession => txn.session != 0,
        ArchivedOp::Create { mode, .. } => txn.session != 0 || !kind(mode).0,
        _ => true,
    }
}
