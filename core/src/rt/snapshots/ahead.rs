//! How is a large file read faster than by who waits for each piece of it? A thread reads ahead, past the kernel's cache, much
//! at a time, which the kernel makes several requests of; so the disk works while what it has given is looked at.
//!
//! What fills up: the blocks. Then the thread waits until one is free.

use super::super::aligned::Aligned;
use super::open_past_cache;
use crate::snapshot::SnapshotError;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes read at a time.
const BLOCK_BYTES: usize = 4 << 20;
/// Blocks at a time: one is looked at, one waits, one is being read.
const BLOCKS: usize = 3;

/// A block, and how much of it was read.
type Block = (Aligned, std::io::Result<usize>);

/// Gives all bytes of a file to `sink`, in order.
///
/// # Errors
/// Text for a person, without the file's name: it can't be read, or `sink` says so.
pub(super) fn read_ahead(
    path: &Path,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotError>,
) -> Result<(), String> {
    let unread = |e: std::io::Error| format!("it can't be read: {e}");
    let file = open_past_cache(path).map_err(unread)?;
    let bytes = file.metadata().map_err(unread)?.len();
    let block = usize::try_from(bytes).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
    std::thread::scope(|scope| {
        let (free, to_fill) = sync_channel(BLOCKS);
        let (full, filled) = sync_channel(BLOCKS);
        (0..BLOCKS).for_each(|_| free.send(Aligned::zeroed(block)).expect("it has room for all"));
        let reader = std::thread::Builder::new().name("reading".into());
        let reading = reader.spawn_scoped(scope, move || fill(file, bytes, &to_fill, &full));
        reading.map_err(|e| format!("there can be no thread that reads it: {e}"))?;
        for (buffer, read) in filled {
            let read = read.map_err(unread)?;
            sink(&buffer.bytes()[..read]).map_err(|e| e.to_string())?;
            // Behind the end nobody fills it any more.
            let _ = free.send(buffer);
        }
        Ok(())
    })
}

/// Fills blocks with what the file holds, until its end, an error, or until nobody wants them.
fn fill(mut file: File, bytes: u64, to_fill: &Receiver<Aligned>, full: &SyncSender<Block>) {
    let mut left = bytes;
    while left > 0
        && let Ok(mut buffer) = to_fill.recv()
    {
        let read = loop {
            match file.read(buffer.bytes_mut()) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Never more than there was when it was opened: what it should hold does not grow.
                read => break read.map(|n| n.min(left as usize)),
            }
        };
        let more = match read {
            Ok(n) if n > 0 => n as u64,
            _ => left,
        };
        left -= more;
        if full.send((buffer, read)).is_err() {
            return;
        }
    }
}
