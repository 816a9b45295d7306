//! What does a client's write do to the tree? One op, or several of which all are done or none.

use super::{State, acl, zxid};
use crate::access::Caller;
use crate::jute::ErrorCode;
use crate::tree::{Lifetime, NewNode, Stamp, TTL_MS_MAX, Undone, Writer, path};
use crate::txn::{
    Acl, ArchivedAcl, ArchivedAuthId, ArchivedCreateMode, ArchivedOp, ArchivedPart, ArchivedTxn, Change,
    Ephemeral, Outcome, PartOutcome, flags,
};
use std::net::IpAddr;
use zoolog_core::Gsn;

/// Rules from which on ACLs count, and which know what came after [`ArchivedOp::RaiseApplyVersion`].
const ACLS_COUNT: u32 = 2;

/// Rules from which on nodes can be imported.
const IMPORTS: u32 = 3;

/// Whose write it is.
struct Whose<'a> {
    session: i64,
    ids: &'a [ArchivedAuthId],
    by: Writer<'a>,
}

/// A node to be, as the client wants it.
struct Wanted<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [ArchivedAcl],
    life: Lifetime,
    sequential: bool,
}

impl State {
    /// A client's write.
    pub(super) fn write(
        &mut self,
        gsn: Gsn,
        given: u8,
        txn: &ArchivedTxn,
        address: Option<IpAddr>,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let wall_ms = i64::try_from(txn.wall.0.to_native()).unwrap_or(i64::MAX);
        let at = Stamp { zxid: zxid(gsn.next()), wall_ms };
        let everything = self.apply_version < ACLS_COUNT || given & flags::SKIP_ACL != 0;
        let caller = Caller::of_record(&txn.ids, address, everything);
        let by = Writer { caller, at, enforce_quota: given & flags::ENFORCE_QUOTA != 0 };
        let whose = &Whose { session: txn.session.to_native(), ids: &txn.ids, by };
        let done = match &txn.op {
            ArchivedOp::Create { path, data, acl, mode } => {
                self.create(wanted(path, data.as_deref(), acl, mode, whose.session), whose, changes)
            }
            ArchivedOp::Delete { path, version } => self.delete(path, version.to_native(), whose, changes),
            ArchivedOp::SetData { path, data, version } => {
                self.set_data(path, data.as_deref(), version.to_native(), whose, changes)
            }
            ArchivedOp::CreateTtl(node) => self.create(wanted_ttl(node), whose, changes),
            ArchivedOp::SetAcl { path, acl, version } => self.set_acl(path, acl, version.to_native(), whose),
            ArchivedOp::Multi { parts } => return self.multi(parts, whose, changes),
            _ => panic!("an op that writes nothing to the tree came to where the tree is written"),
        };
        done.unwrap_or_else(Outcome::Failed)
    }

    fn create(
        &mut self,
        wanted: Wanted<'_>,
        whose: &Whose<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        let Wanted { path, data, acl, life, sequential } = wanted;
        path::split(path).ok_or(ErrorCode::BadArguments)?;
        let acl: Option<Vec<Acl>> = acl::fix_up(acl, whose.ids)?;
        let new = NewNode { path, sequential, data, acl: acl.as_deref(), owner: life.owner() };
        let created = self.tree.create(new, whose.by)?;
        if let Lifetime::Ephemeral(session) = life {
            self.sessions.add_ephemeral(session, created.slot);
        }
        note_quota(created.over_quota, changes);
        let readers = created.readers.into();
        changes.push(Change::Created { path: created.path.clone(), readers });
        Ok(Outcome::Created { path: created.path, stat: created.stat })
    }

    fn delete(
        &mut self,
        path: &str,
        version: i32,
        whose: &Whose<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        let deleted = self.tree.delete(path, version, whose.by)?;
        let (session, slot) = (deleted.owner, deleted.slot);
        if session > 0 {
            self.sessions.remove_ephemeral(session, slot);
        }
        let ephemeral = (session > 0).then_some(Ephemeral { session, slot });
        changes.push(Change::Deleted { path: path.into(), readers: deleted.readers.into(), ephemeral });
        Ok(Outcome::Deleted)
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        whose: &Whose<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, ErrorCode> {
        let set = self.tree.set_data(path, data, version, whose.by)?;
        note_quota(set.over_quota, changes);
        let readers = [set.readers, None].into();
        changes.push(Change::DataChanged { path: path.into(), readers });
        Ok(Outcome::Set { stat: set.stat })
    }

    fn set_acl(
        &mut self,
        path: &str,
        acl: &[ArchivedAcl],
        version: i32,
        whose: &Whose<'_>,
    ) -> Result<Outcome, ErrorCode> {
        if !path::is_valid(path) {
            return Err(ErrorCode::BadArguments);
        }
        let acl = acl::fix_up(acl, whose.ids)?;
        let stat = self.tree.set_acl(path, acl.as_deref(), version, whose.by)?;
        Ok(Outcome::Set { stat })
    }

    fn multi(&mut self, parts: &[ArchivedPart], whose: &Whose<'_>, changes: &mut Vec<Change>) -> Outcome {
        let before = changes.len();
        self.tree.begin_changes();
        let mut outcomes = Vec::with_capacity(parts.len());
        for part in parts {
            match self.part(part, whose, changes) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    let sessions = &mut self.sessions;
                    self.tree.undo_changes(|undone| match undone {
                        Undone::Created(slot, owner @ 1..) => sessions.remove_ephemeral(owner, slot),
                        Undone::Deleted(slot, owner @ 1..) => sessions.add_ephemeral(owner, slot),
                        Undone::Created(..) | Undone::Deleted(..) => {}
                    });
                    changes.truncate(before);
                    return Outcome::MultiFailed { at: outcomes.len(), of: parts.len(), error };
                }
            }
        }
        self.tree.keep_changes();
        Outcome::Multi(outcomes)
    }

    fn part(
        &mut self,
        part: &ArchivedPart,
        whose: &Whose<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<PartOutcome, ErrorCode> {
        let (done, with_stat) = match part {
            ArchivedPart::Create { path, data, acl, mode, with_stat } => {
                let wanted = wanted(path, data.as_deref(), acl, mode, whose.session);
                (self.create(wanted, whose, changes)?, *with_stat)
            }
            ArchivedPart::CreateTtl(node) => (self.create(wanted_ttl(node), whose, changes)?, true),
            ArchivedPart::Delete { path, version } => {
                (self.delete(path, version.to_native(), whose, changes)?, false)
            }
            ArchivedPart::SetData { path, data, version } => {
                (self.set_data(path, data.as_deref(), version.to_native(), whose, changes)?, true)
            }
            ArchivedPart::Check { path, version } => {
                return self.tree.check(path, version.to_native(), whose.by).map(|()| PartOutcome::Checked);
            }
            ArchivedPart::Refused { error } => {
                return Err(ErrorCode::from_code(error.to_native()).unwrap_or(ErrorCode::BadArguments));
            }
        };
        Ok(match done {
            Outcome::Created { path, stat } => PartOutcome::Created { path, stat: with_stat.then_some(stat) },
            Outcome::Set { stat } => PartOutcome::Set { stat },
            Outcome::Deleted => PartOutcome::Deleted,
            other => panic!("a part of a multi came to {other:?}"),
        })
    }
}

fn note_quota(over: Option<String>, changes: &mut Vec<Change>) {
    changes.extend(over.map(|path| Change::OverQuota { path }));
}

fn wanted<'a>(
    path: &'a str,
    data: Option<&'a [u8]>,
    acl: &'a [ArchivedAcl],
    mode: &ArchivedCreateMode,
    session: i64,
) -> Wanted<'a> {
    let (life, sequential) = match mode {
        ArchivedCreateMode::Persistent => (Lifetime::Persistent, false),
        ArchivedCreateMode::Ephemeral => (Lifetime::Ephemeral(session), false),
        ArchivedCreateMode::PersistentSequential => (Lifetime::Persistent, true),
        ArchivedCreateMode::EphemeralSequential => (Lifetime::Ephemeral(session), true),
        ArchivedCreateMode::Container => (Lifetime::Container, false),
        ArchivedCreateMode::ContainerSequential => (Lifetime::Container, true),
    };
    Wanted { path, data, acl, life, sequential }
}

fn wanted_ttl(node: &crate::txn::ArchivedCreateTtl) -> Wanted<'_> {
    let (data, life) = (node.data.as_deref(), Lifetime::Ttl(node.ttl_ms.to_native()));
    Wanted { path: &node.path, data, acl: &node.acl, life, sequential: node.sequential }
}

const fn is_ephemeral(mode: &ArchivedCreateMode) -> bool {
    matches!(mode, ArchivedCreateMode::Ephemeral | ArchivedCreateMode::EphemeralSequential)
}

const fn is_container(mode: &ArchivedCreateMode) -> bool {
    matches!(mode, ArchivedCreateMode::Container | ArchivedCreateMode::ContainerSequential)
}

fn is_lifetime(ttl_ms: u64) -> bool {
    (1..=TTL_MS_MAX).contains(&ttl_ms)
}

/// Whether what it says can be done at all, by the rules of that version: what belongs to a session must name
/// one, a time to live is within its bounds.
pub(super) fn is_meaningful(txn: &ArchivedTxn, version: u32) -> bool {
    let has_session = txn.session != 0;
    let new = version >= ACLS_COUNT;
    match &txn.op {
        ArchivedOp::CloseSession => has_session,
        ArchivedOp::Create { mode, .. } => {
            (has_session || !is_ephemeral(mode)) && (new || !is_container(mode))
        }
        ArchivedOp::CreateTtl(node) => new && is_lifetime(node.ttl_ms.to_native()),
        ArchivedOp::Multi { parts } => {
            new && parts.iter().all(|part| match part {
                ArchivedPart::Create { mode, .. } => has_session || !is_ephemeral(mode),
                ArchivedPart::CreateTtl(node) => is_lifetime(node.ttl_ms.to_native()),
                _ => true,
            })
        }
        ArchivedOp::SetAcl { .. } | ArchivedOp::Sweep { .. } => new,
        ArchivedOp::Import { nodes } => version >= IMPORTS && nodes.iter().all(super::import::is_meaningful),
        _ => true,
    }
}
