//! How is a read answered? From the state as it is now, leaving the watch that was asked for.

use super::auth::Auth;
use super::connection::Slot;
use super::ephemerals::Ephemerals;
use super::listing::{Children, Listing};
use super::published::{Draft, Item};
use crate::access::{self, SEES_ACL};
use crate::jute::codes::perms;
use crate::jute::{ErrorCode, Request, Writer, responses};
use crate::state::{NodeView, State};
use crate::watch::{Kind, TooMany, Watches};
use zoolog_core::ConnId;
use zoolog_core::limits::OUT_BYTES_PAUSE;

/// Bytes of a multiRead's answer above which it is refused: it is made in one turn, and one request must not become any
/// number of answers.
const MULTI_READ_BYTES_MAX: usize = 4 * OUT_BYTES_PAUSE;

/// Where a reader's watches are.
#[derive(Debug)]
pub(super) enum Leave<'a> {
    /// In this table, under this connection.
    Here(&'a mut Watches, Slot),
    /// At the front of this connection.
    AtFront(&'a mut Draft, ConnId),
    /// Nowhere: nothing changes as long as the reader is there. All that it ever left is there, and goes when it says so.
    Nowhere,
}

impl Leave<'_> {
    pub(super) fn set(&mut self, kind: Kind, path: &str) -> Result<(), TooMany> {
        match self {
            Leave::Here(watches, slot) => watches.set(*slot, kind, path),
            Leave::AtFront(draft, conn) => {
                draft.push(Item::Watched { conn: *conn, kind, path: path.into() });
                Ok(())
            }
            Leave::Nowhere => Ok(()),
        }
    }

    /// Whether there is that watch; it is removed, if so wanted. Panics away from the table: whoever has it
    /// answers what asks for it.
    pub(super) fn find(&mut self, kind: Kind, path: &str, remove: bool) -> bool {
        match self {
            Leave::Here(watches, slot) if remove => watches.remove(*slot, kind, path),
            Leave::Here(watches, slot) => watches.has(*slot, kind, path),
            Leave::Nowhere => true,
            Leave::AtFront(_, conn) => panic!("the watches of {conn:?} are at its front"),
        }
    }
}

/// What reads need of the node.
#[derive(Debug)]
pub(super) struct Reads<'a> {
    pub state: &'a State,
    /// The reader's.
    pub watches: Leave<'a>,
    /// Who reads.
    pub auth: &'a Auth,
    /// Its session; 0 where only its connection is known.
    pub session: i64,
    /// Children above which they are listed in pieces.
    pub names_at_once: usize,
}

/// The root has two names, of which only this one is watched.
pub(super) fn named(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl<'a> Reads<'a> {
    /// Appends to `out` the reply to operation `op` with the record `body`, and the events that `setWatches`
    /// must tell first. What is returned, if anything, is the rest of the reply: it is to go on in pieces, with nothing
    /// in between.
    ///
    /// # Errors
    /// When the node has no room for its watch: nothing was answered, the connection can't go on.
    pub(super) fn answer(
        mut self,
        out: &mut Vec<u8>,
        xid: i32,
        op: i32,
        body: &[u8],
    ) -> Result<Option<Listing>, TooMany> {
        let (state, zxid) = (self.state, self.state.zxid());
        let Ok(request) = Request::decode(op, body) else {
            responses::error(out, xid, zxid, ErrorCode::MarshallingError);
            return Ok(None);
        };
        let mut listing = None;
        let refused = match request {
            Request::Exists { path, watch } => {
                let found = self.exists(&path);
                // On a missing node it is a watch for its creation.
                if watch && matches!(found, Ok(_) | Err(ErrorCode::NoNode)) {
                    self.watches.set(Kind::Data, named(&path))?;
                }
                found.map(|node| responses::stat(out, xid, zxid, &node.stat()))
            }
            Request::GetData { path, watch } => match self.readable(&path) {
                Ok(node) => {
                    if watch {
                        self.watches.set(Kind::Data, named(&path))?;
                    }
                    responses::data(out, xid, zxid, node.data(), &node.stat());
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Request::GetChildren { path, watch, with_stat } => match self.readable(&path) {
                Ok(node) => {
                    if watch {
                        self.watches.set(Kind::Child, named(&path))?;
                    }
                    if node.children().len() > self.names_at_once {
                        listing =
                            Children::begin(out, (xid, zxid), &path, node, with_stat).map(Listing::Children);
                        if listing.is_some() { Ok(()) } else { Err(ErrorCode::MarshallingError) }
                    } else {
                        let stat = with_stat.then(|| node.stat());
                        responses::children(out, xid, zxid, node.children(), stat.as_ref());
                        Ok(())
                    }
                }
                Err(error) => Err(error),
            },
            Request::SetWatches(set) => {
                self.set_watches(out, &set, &[], &[])?;
                responses::empty(out, xid, zxid);
                Ok(())
            }
            Request::SetWatches2(s) => {
                self.set_watches(out, &s.set, &s.persistent, &s.recursive)?;
                responses::empty(out, xid, zxid);
                Ok(())
            }
            Request::AddWatch { path, mode } => {
                self.add_watch(&path, mode)?.map(|()| responses::number(out, xid, zxid, 0))
            }
            Request::Watches { path, kind, remove } => {
                self.find_watches(&path, kind, remove).map(|()| responses::empty(out, xid, zxid))
            }
            Request::GetAcl { path } => {
                let caller = self.auth.caller();
                state.look_as(&path, SEES_ACL, &caller).map(|node| {
                    match node.permits(perms::ADMIN, &caller) {
                        true => responses::acl(out, xid, zxid, node.acl(), &node.stat()),
                        false => responses::acl(out, xid, zxid, &access::redacted(node.acl()), &node.stat()),
                    }
                })
            }
            Request::GetEphemerals { prefix } => {
                // What Java trims is blank.
                let all = prefix == "/" || prefix.chars().all(|c| c <= ' ');
                if state.session(self.session).is_some_and(|s| s.ephemeral_count() > self.names_at_once) {
                    let (slots, prefix) = (state.ephemeral_slots(self.session), (!all).then_some(&*prefix));
                    let begun = Ephemerals::begin((xid, zxid), self.session, prefix, slots);
                    listing = Some(Listing::Ephemerals(begun));
                } else {
                    let mut paths = state.ephemerals(self.session);
                    paths.retain(|path| all || path.starts_with(&*prefix));
                    responses::paths(out, xid, zxid, paths.iter());
                }
                Ok(())
            }
            Request::GetAllChildrenNumber { path } => self.readable(&path).map(|node| {
                let number = i32::try_from(node.descendants()).unwrap_or(i32::MAX);
                responses::number(out, xid, zxid, number);
            }),
            Request::WhoAmI => {
                let users = self.auth.users();
                responses::users(out, xid, zxid, users.iter().map(|(s, u)| (s.as_str(), u.as_str())));
                Ok(())
            }
            Request::MultiRead(parts) => self.multi(out, xid, zxid, &parts)?,
            other => panic!("{other:?} is not a read"),
        };
        if let Err(error) = refused {
            responses::error(out, xid, zxid, error);
        }
        Ok(listing)
    }

    fn readable(&self, path: &str) -> Result<NodeView<'a>, ErrorCode> {
        self.state.look_as(path, perms::READ, &self.auth.caller())
    }

    fn exists(&self, path: &str) -> Result<NodeView<'a>, ErrorCode> {
        if path.contains('\0') { Err(ErrorCode::BadArguments) } else { self.readable(path) }
    }

    /// `multiRead`: each part by itself.
    fn multi(
        mut self,
        out: &mut Vec<u8>,
        xid: i32,
        zxid: i64,
        parts: &[Request<'_>],
    ) -> Result<Result<(), ErrorCode>, TooMany> {
        let before = out.len();
        let (mut too_many, mut too_long) = (None, false);
        responses::multi(out, xid, zxid, |w| {
            for part in parts {
                let done = self.part(w, part);
                too_long = w.bytes() > MULTI_READ_BYTES_MAX;
                too_many = done.err();
                if too_long || too_many.is_some() {
                    return;
                }
            }
        });
        if too_long || too_many.is_some() {
            out.truncate(before);
        }
        match too_many {
            Some(error) => Err(error),
            None if too_long => Ok(Err(ErrorCode::MarshallingError)),
            None => Ok(Ok(())),
        }
    }

    fn part(&mut self, w: &mut Writer<'_>, part: &Request<'_>) -> Result<(), TooMany> {
        let (path, watch, kind) = match part {
            Request::GetData { path, watch } => (path, *watch, Kind::Data),
            Request::GetChildren { path, watch, .. } => (path, *watch, Kind::Child),
            other => panic!("{other:?} is in no multiRead"),
        };
        match self.readable(path) {
            Ok(node) => {
                if watch {
                    self.watches.set(kind, named(path))?;
                }
                w.multi_header(part.op(), false, 0);
                match kind {
                    Kind::Data => w.buffer(node.data()).stat(&node.stat()),
                    _ => w.strings(node.children()),
                };
            }
            Err(error) => responses::part_failed(w, error.code()),
        }
        Ok(())
    }
}
