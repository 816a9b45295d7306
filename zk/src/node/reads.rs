//! How is a read answered? From the state as it is now, leaving the watch that was asked for.

use super::connection::Slot;
use super::published::{Draft, Item};
use crate::jute::{ErrorCode, EventType, Request, SetWatches, responses};
use crate::state::State;
use crate::watch::{Kind, TooMany, Watches};
use zoolog_core::ConnId;

/// Where a reader's watches are.
#[derive(Debug)]
pub(super) enum Leave<'a> {
    /// In this table, under this connection.
    Here(&'a mut Watches, Slot),
    /// At the front of this connection.
    AtFront(&'a mut Draft, ConnId),
}

impl Leave<'_> {
    fn set(&mut self, kind: Kind, path: &str) -> Result<(), TooMany> {
        match self {
            Leave::Here(watches, slot) => watches.set(*slot, kind, path),
            Leave::AtFront(draft, conn) => {
                draft.push(Item::Watched { conn: *conn, kind, path: path.into() });
                Ok(())
            }
        }
    }
}

/// What reads need of the node.
#[derive(Debug)]
pub(super) struct Reads<'a> {
    pub state: &'a State,
    /// The reader's.
    pub watches: Leave<'a>,
}

/// The root has two names, of which only this one is watched.
fn named(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl Reads<'_> {
    /// Appends to `out` the reply to operation `op` with the record `body`, and the events that `setWatches`
    /// must tell first.
    ///
    /// # Errors
    /// When the node has no room for its watch: nothing was answered, the connection can't go on.
    pub(super) fn answer(mut self, out: &mut Vec<u8>, xid: i32, op: i32, body: &[u8]) -> Result<(), TooMany> {
        let (state, zxid) = (self.state, self.state.zxid());
        let Ok(request) = Request::decode(op, body) else {
            responses::error(out, xid, zxid, ErrorCode::MarshallingError);
            return Ok(());
        };
        match request {
            Request::Exists { path, watch } => {
                let found = state.exists(&path);
                // On a missing node it is a watch for its creation.
                if watch && matches!(found, Ok(_) | Err(ErrorCode::NoNode)) {
                    self.watches.set(Kind::Data, named(&path))?;
                }
                match found {
                    Ok(stat) => responses::stat(out, xid, zxid, &stat),
                    Err(error) => responses::error(out, xid, zxid, error),
                }
            }
            Request::GetData { path, watch } => match state.get(&path) {
                Ok((data, stat)) => {
                    if watch {
                        self.watches.set(Kind::Data, named(&path))?;
                    }
                    responses::data(out, xid, zxid, data, &stat);
                }
                Err(error) => responses::error(out, xid, zxid, error),
            },
            Request::GetChildren { path, watch, with_stat } => match state.children(&path) {
                Ok((names, stat)) => {
                    if watch {
                        self.watches.set(Kind::Child, named(&path))?;
                    }
                    responses::children(out, xid, zxid, names, with_stat.then_some(&stat));
                }
                Err(error) => responses::error(out, xid, zxid, error),
            },
            Request::SetWatches(set) => {
                self.set_watches(out, &set)?;
                responses::empty(out, xid, zxid);
            }
            other => panic!("{other:?} is not a read"),
        }
        Ok(())
    }

    /// Tells what the client has missed since the zxid it names, and watches on for the rest. Each watch is
    /// either told or set.
    fn set_watches(mut self, out: &mut Vec<u8>, set: &SetWatches<'_>) -> Result<(), TooMany> {
        let (state, since) = (self.state, set.relative_zxid);
        let mut tell = |kind, path: &str| responses::event(out, -1, kind, path);
        for path in &set.data {
            match state.stat(path) {
                Err(_) => tell(EventType::NodeDeleted, path),
                Ok(stat) if stat.mzxid > since => tell(EventType::NodeDataChanged, path),
                Ok(_) => self.watches.set(Kind::Data, named(path))?,
            }
        }
        for path in &set.exist {
            match state.stat(path) {
                Ok(_) => tell(EventType::NodeCreated, path),
                Err(_) => self.watches.set(Kind::Data, named(path))?,
            }
        }
        for path in &set.child {
            match state.stat(path) {
                Err(_) => tell(EventType::NodeDeleted, path),
                Ok(stat) if stat.pzxid > since => tell(EventType::NodeChildrenChanged, path),
                Ok(_) => self.watches.set(Kind::Child, named(path))?,
            }
        }
        Ok(())
    }
}
