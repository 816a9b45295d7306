//! How is memory touched before somebody waits for it? The first touch of a page is work for the kernel, which clears it, and on
//! a virtual machine for the host, which may have to find it first: seconds for each gigabyte, at worst. Whoever is about to take
//! much, on one thread, has another do that ahead of it, with what the allocator maps meanwhile and has not given away yet: it
//! maps the more at a time the more was taken (a fifth of that, about), and takes what lies lowest first.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

/// Touched at a time: a huge page.
const STEP_BYTES: usize = 2 << 20;
/// Shorter mappings are left alone: stacks of threads, rings, and what is soon used up.
const MAPPING_BYTES_MIN: usize = 16 << 20;
/// Until mappings are looked at again when all there were are touched: the allocator makes the next when it needs them.
const PAUSE: Duration = Duration::from_millis(2);

/// A thread that touches memory, until this is dropped or it has touched as much as it should.
#[derive(Debug)]
pub struct Toucher {
    /// Tells by its end.
    _wanted: Sender<()>,
}

impl Toucher {
    /// Touches so many bytes at most. That there can be no such thread is no harm.
    pub fn start(bytes: u64) -> Option<Self> {
        let (wanted, ended) = channel();
        let thread = std::thread::Builder::new().name("touching".into());
        let begun = thread.spawn(move || touch(bytes, &ended));
        begun.ok().map(|_| Self { _wanted: wanted })
    }
}

fn touch(bytes: u64, ended: &Receiver<()>) {
    super::priority::let_others_go_first();
    let mut left = bytes / STEP_BYTES as u64;
    // What was there before may be others' who take no more of it.
    let mut seen: BTreeSet<usize> = mappings().into_iter().flat_map(steps).collect();
    while left > 0 {
        for start in mappings().into_iter().filter(|m| m.len() >= MAPPING_BYTES_MIN).flat_map(steps) {
            if !seen.insert(start) || is_touched(start) {
                continue;
            }
            if left == 0 || ended.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            populate(start);
            left -= 1;
        }
        if ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Memory of this process that is no file's and may be written to.
fn mappings() -> Vec<Range<usize>> {
    let all = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    all.lines().filter_map(mapping).collect()
}

/// Where the steps begin that lie in there as a whole.
fn steps(range: Range<usize>) -> impl Iterator<Item = usize> {
    let first = range.start.next_multiple_of(STEP_BYTES);
    (first..range.end).step_by(STEP_BYTES).filter(move |start| range.end - start >= STEP_BYTES)
}

/// `START-END rw-p OFFSET DEVICE 0`, and nothing behind that.
fn mapping(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let anonymous = fields.next()? == "rw-p" && fields.nth(2)? == "0" && fields.next().is_none();
    let number = |text| usize::from_str_radix(text, 16).ok();
    anonymous.then_some(number(start)?..number(end)?)
}

/// Whether the first page there is in memory, or that can't be said.
fn is_touched(start: usize) -> bool {
    let mut is_in = 1u8;
    // SAFETY: one page is asked for, whose answer is one byte; where nothing is mapped any more, that is an error.
    let asked = unsafe { libc::mincore(start as *mut libc::c_void, 1, &raw mut is_in) };
    asked != 0 || is_in & 1 != 0
}

/// Has the kernel find memory for a step, as if it were written to, without a change to what is there.
fn populate(start: usize) {
    // SAFETY: what is mapped there keeps what it holds, whoever uses it meanwhile; where nothing is mapped any more, or by a kernel
    // that doesn't know this (before Linux 5.14), it is an error, and nothing happens.
    let _ = unsafe { libc::madvise(start as *mut libc::c_void, STEP_BYTES, libc::MADV_POPULATE_WRITE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mappings_of_no_file_that_may_be_written_to_are_touched() {
        let line = "7f0000000000-7f0001000000 rw-p 00000000 00:00 0 ";
        assert_eq!(mapping(line), Some(0x7f00_0000_0000..0x7f00_0100_0000));
        for other in [
            "7f0000000000-7f0001000000 r--p 00000000 00:00 0 ",
            "7f0000000000-7f0001000000 rw-s 00000000 00:00 0 ",
            "7f0000000000-7f0001000000 rw-p 00000000 fd:00 77  /usr/lib/x.so",
            "7f0000000000-7f0001000000 rw-p 00000000 00:00 0   [stack]",
            "",
        ] {
            assert_eq!(mapping(other), None, "{other}");
        }
        let range = 0x7f00_0010_0000..0x7f00_0070_0000;
        assert!(steps(range).eq([0x7f00_0020_0000, 0x7f00_0040_0000]), "whole ones");
    }

    #[test]
    fn what_is_mapped_is_touched_and_keeps_what_it_holds() {
        let bytes = 2 * MAPPING_BYTES_MIN;
        // SAFETY: a mapping of its own, which nobody else knows of.
        let start = unsafe {
            let (rights, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), bytes, rights, kind, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let first = (start as usize).next_multiple_of(STEP_BYTES);
        // SAFETY: within the mapping.
        unsafe { (first as *mut u8).write(77) };
        let second = first + STEP_BYTES;
        assert!(is_touched(first) && !is_touched(second));
        assert!(mappings().iter().any(|m| m.contains(&first) && m.contains(&second)));
        populate(second);
        populate(first);
        // SAFETY: as above.
        let kept = unsafe { ((first as *const u8).read(), (second as *const u8).read()) };
        assert_eq!((kept, is_touched(second)), ((77, 0), true));
        // SAFETY: made above, and used no more.
        unsafe { libc::munmap(start, bytes) };
        // Where nothing is mapped, nothing happens.
        populate(first);
        assert!(is_touched(first), "nothing is to be done there");
    }

    #[test]
    fn it_ends_when_nobody_wants_it_or_enough_was_touched() {
        for bytes in [0, u64::MAX] {
            let (wanted, ended) = channel();
            let thread = std::thread::spawn(move || touch(bytes, &ended));
            if bytes > 0 {
                drop(wanted);
            }
            thread.join().expect("it ends");
        }
    }
}
