//! Which watches does a request set, look for or remove? All but those that come with a read.

use super::reads::{Reads, named};
use crate::jute::{ErrorCode, EventType, SetWatches, WatchType, responses};
use crate::watch::{Kind, TooMany};
use std::borrow::Cow;

impl Reads<'_> {
    /// Tells what the client has missed since the zxid it names, and watches on for the rest. Each watch is
    /// either told or set. Persistent ones are set, whatever happened meanwhile.
    pub(super) fn set_watches(
        mut self,
        out: &mut Vec<u8>,
        set: &SetWatches<'_>,
        persistent: &[Cow<'_, str>],
        recursive: &[Cow<'_, str>],
    ) -> Result<(), TooMany> {
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
        for (kind, paths) in [(Kind::Persistent, persistent), (Kind::Recursive, recursive)] {
            for path in paths {
                self.watches.set(kind, named(path))?;
            }
        }
        Ok(())
    }

    /// `addWatch`: neither the node nor a permission is needed.
    pub(super) fn add_watch(mut self, path: &str, mode: i32) -> Result<Result<(), ErrorCode>, TooMany> {
        let kind = match mode {
            0 => Kind::Persistent,
            1 => Kind::Recursive,
            _ => return Ok(Err(ErrorCode::MarshallingError)),
        };
        self.watches.set(kind, named(path))?;
        Ok(Ok(()))
    }

    /// `checkWatches` and `removeWatches`.
    pub(super) fn find_watches(mut self, path: &str, kind: i32, remove: bool) -> Result<(), ErrorCode> {
        let kinds: &[Kind] = match WatchType::from_code(kind).ok_or(ErrorCode::MarshallingError)? {
            WatchType::Children => &[Kind::Child],
            WatchType::Data => &[Kind::Data],
            WatchType::Persistent => &[Kind::Persistent],
            WatchType::PersistentRecursive => &[Kind::Recursive],
            WatchType::Any => &Kind::ALL,
        };
        let mut found = false;
        for kind in kinds {
            found |= self.watches.find(*kind, named(path), remove);
        }
        if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }
}
