//! Which watches does a request set, look for or remove? All but those that come with a read.

use super::again::List;
use super::reads::{Reads, named};
use crate::jute::{ErrorCode, EventType, SetWatches, WatchType, responses};
use crate::watch::{Kind, TooMany};
use std::borrow::Cow;

impl Reads<'_> {
    /// Tells what the client has missed since the zxid it names, and watches on for the rest.
    pub(super) fn set_watches(
        mut self,
        out: &mut Vec<u8>,
        set: &SetWatches<'_>,
        persistent: &[Cow<'_, str>],
        recursive: &[Cow<'_, str>],
    ) -> Result<(), TooMany> {
        let SetWatches { relative_zxid, data, exist, child } = set;
        let lists = [
            (List::Data, &data[..]),
            (List::Exist, exist),
            (List::Child, child),
            (List::Persistent, persistent),
            (List::Recursive, recursive),
        ];
        for (list, paths) in lists {
            for path in paths {
                self.set_again(out, *relative_zxid, list, path)?;
            }
        }
        Ok(())
    }

    /// One of these watches is either told or set. Persistent ones are set, whatever happened meanwhile.
    pub(super) fn set_again(
        &mut self,
        out: &mut Vec<u8>,
        since: i64,
        list: List,
        path: &str,
    ) -> Result<(), TooMany> {
        let stat = || self.state.stat(path);
        let (missed, kind) = match list {
            List::Data => {
                let missed = match stat() {
                    Err(_) => Some(EventType::NodeDeleted),
                    Ok(stat) => (stat.mzxid > since).then_some(EventType::NodeDataChanged),
                };
                (missed, Kind::Data)
            }
            List::Exist => (stat().is_ok().then_some(EventType::NodeCreated), Kind::Data),
            List::Child => {
                let missed = match stat() {
                    Err(_) => Some(EventType::NodeDeleted),
                    Ok(stat) => (stat.pzxid > since).then_some(EventType::NodeChildrenChanged),
                };
                (missed, Kind::Child)
            }
            List::Persistent => (None, Kind::Persistent),
            List::Recursive => (None, Kind::Recursive),
        };
        match missed {
            Some(event) => responses::event(out, -1, event, path),
            None => self.watches.set(kind, named(path))?,
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
