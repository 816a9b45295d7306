//! How do several threads load a snapshot? One reads it and checks its frame, some make nodes of its pieces, and the caller's
//! puts those together, in the order in which they lie in the file: what comes of it is what [`Loader`](super::Loader) makes of the
//! same bytes. Most of the work is to give each node memory of its own, and that is what is done side by side.
//!
//! What fills up: pieces before and behind each of those who make nodes. Then who is ahead waits.

use super::loader::{Content, Made};
use crate::state::State;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use zoolog_core::snapshot::{SnapshotError, Unframer};
use zoolog_core::{ClusterId, Gsn};

/// Pieces that may wait before, and behind, each of those who make nodes.
const WAITING_MAX: usize = 2;

/// What takes the bytes of a file as they are read.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>;

/// The state in a snapshot of that cluster; 0 takes any. `read` gives all bytes of its file, in order, to what it is called
/// with, and is called on a thread of its own; so many others make nodes of them.
///
/// # Errors
/// Text for a person: it can't be read, was not whole, or is not what it was when it was written.
pub fn load_together(
    cluster: ClusterId,
    makers: usize,
    read: impl FnOnce(Sink<'_>) -> Result<(), String> + Send,
) -> Result<State, String> {
    std::thread::scope(|scope| {
        let (mut to, mut from) = (Vec::new(), Vec::new());
        for _ in 0..makers.max(1) {
            let (sender, pieces) = sync_channel(WAITING_MAX);
            let (made, receiver) = sync_channel(WAITING_MAX);
            scope.spawn(move || make(&pieces, &made));
            to.push(sender);
            from.push(receiver);
        }
        let reader = scope.spawn(move || take_apart(cluster, &to, read));
        let (mut content, mut wrong) = (Content::new(), None);
        for made in from.iter().cycle() {
            // Each in turn; who has none for its turn has none any more.
            let Ok((piece, last)) = made.recv() else { break };
            wrong = content.made(piece, last).err();
            if wrong.is_some() {
                break;
            }
        }
        drop(from);
        let gsn = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let content = match wrong {
            Some(why) => Err(why),
            None => content.finish(gsn?),
        };
        content.map_err(|why| SnapshotError::Content(why).to_string())
    })
}

/// Gives pieces to those who make nodes, to each in turn. Returns the position of the snapshot.
fn take_apart(
    cluster: ClusterId,
    to: &[SyncSender<(Vec<u8>, bool)>],
    read: impl FnOnce(Sink<'_>) -> Result<(), String>,
) -> Result<Gsn, String> {
    let (mut frame, mut turns) = (Unframer::new(cluster), to.iter().cycle());
    let mut give = |payload: &[u8], last| {
        let next = turns.next().expect("there is one");
        let given = next.send((payload.to_vec(), last));
        given.map_err(|_| SnapshotError::Content("nobody takes it any more".into()))
    };
    read(&mut |bytes| frame.push(bytes, &mut give))?;
    frame.finish().map_err(|e| e.to_string())
}

/// Makes nodes of pieces until there are no more, or nobody wants them.
fn make(pieces: &Receiver<(Vec<u8>, bool)>, made: &SyncSender<(Made, bool)>) {
    for (payload, last) in pieces {
        if made.send((Made::of(payload), last)).is_err() {
            return;
        }
    }
}
