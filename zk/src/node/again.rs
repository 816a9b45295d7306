//! How are 70,000 watches set again after a reconnect? So many paths at a time, over turns. For each path the client is told what
//! it has missed, or the watch is set: one decision, by the state as it is then. What happens before counts for it, what
//! happens later fires the watch; so nothing is missed and nothing told twice, however the tree changes between two steps.
//!
//! Until the reply, which comes last and with the zxid of then, the connection's other requests wait where they are, be they
//! reads or writes. So nothing is said to it that could be ahead of an event that is still to come (ZK-3), or that another event
//! would have to wait for: what it watches already and what its pings are answered with goes out as it happens.

use super::reads::Reads;
use crate::jute::frame::LENGTH_BYTES;
use crate::jute::{DecodeError, OpCode, Reader, RequestHeader};
use crate::watch::TooMany;
use bytes::Bytes;
use zoolog_core::Instant;

/// Bytes of a request, for each path that a step may look at, up to which it is answered at once.
const AT_ONCE_BYTES: usize = 8;
/// Bytes of a path that cost as much as a path.
const PATH_BYTES: usize = 64;

/// Which of a request's lists a path is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// It was there, and its data was watched.
    Data,
    /// It was not there.
    Exist,
    /// It was there, and its children were watched.
    Child,
    Persistent,
    Recursive,
}

impl List {
    /// In the order in which they are in a request; `setWatches` has three of them.
    const ALL: [Self; 5] = [Self::Data, Self::Exist, Self::Child, Self::Persistent, Self::Recursive];
}

/// How many lists the request has, if it is one that sets watches again.
fn lists_of(op: i32) -> Option<usize> {
    match OpCode::from_code(op)? {
        OpCode::SetWatches => Some(3),
        OpCode::SetWatches2 => Some(5),
        _ => None,
    }
}

/// Whether the request sets watches again, and is so long that it is done in steps of so many paths.
pub(super) fn is_long(op: i32, frame: &[u8], paths: usize) -> bool {
    frame.len() > AT_ONCE_BYTES * paths && lists_of(op).is_some()
}

/// A request that sets watches again, as far as it is done.
#[derive(Debug)]
pub(super) struct SetAgain {
    pub xid: i32,
    pub op: i32,
    /// When it came.
    pub at: Instant,
    /// What happened later must be told.
    since: i64,
    frame: Bytes,
    /// Where in it the next path is, or the next list if none is left of the one before.
    next: usize,
    /// Paths left of that list.
    left: usize,
    /// Lists that were begun, of so many.
    list: usize,
    lists: usize,
}

impl SetAgain {
    /// Begins with a whole frame, which came then. All of it is looked at, so that nothing is done of one that can't be decoded.
    ///
    /// # Errors
    /// It can't be.
    pub(super) fn begin(at: Instant, frame: &Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&frame[LENGTH_BYTES..]);
        let RequestHeader { xid, op } = RequestHeader::decode(&mut r)?;
        let since = r.long()?;
        let next = frame.len() - r.rest().len();
        let lists = lists_of(op).expect("it sets watches again");
        for _ in 0..lists {
            r.skip_paths()?;
        }
        Ok(Self { xid, op, at, since, frame: frame.clone(), next, left: 0, list: 0, lists })
    }

    /// Bytes that it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Goes on as long as `budget`, in paths, lasts. Whether that was all of it.
    ///
    /// # Errors
    /// When there is no room for a watch: the connection can't go on.
    pub(super) fn go_on(
        &mut self,
        reads: &mut Reads<'_>,
        out: &mut Vec<u8>,
        budget: &mut usize,
    ) -> Result<bool, TooMany> {
        let frame = self.frame.clone();
        let mut r = Reader::new(&frame[self.next..]);
        loop {
            while self.left == 0 && self.list < self.lists {
                self.left = usize::try_from(r.int().expect("it was looked at")).unwrap_or(0);
                self.list += 1;
            }
            if self.left == 0 || *budget == 0 {
                self.next = frame.len() - r.rest().len();
                return Ok(self.left == 0);
            }
            let path = r.path().expect("it was looked at");
            reads.set_again(out, self.since, List::ALL[self.list - 1], &path)?;
            self.left -= 1;
            *budget = budget.saturating_sub(1 + path.len() / PATH_BYTES);
        }
    }
}
