//! What is counted? Whatever runs below [`counted_part`]: callgrind collects in that function only, and the
//! allocator counts in it only.

use crate::ALLOCATOR;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Turns of machines that were counted.
pub static TURNS: AtomicU64 = AtomicU64::new(0);
/// Groups that were written to logs, each with its sync, and counted.
pub static WRITES: AtomicU64 = AtomicU64::new(0);
/// Whether each of both is to be told on stderr.
pub static TELLS: AtomicBool = AtomicBool::new(false);

/// Counts one more turn or write.
pub fn tally(which: &AtomicU64, what: impl FnOnce() -> String) {
    which.fetch_add(1, Relaxed);
    if TELLS.load(Relaxed) {
        eprintln!("{}", what());
    }
}

/// Runs `work`; if `counted`, it goes into the figures.
pub fn run<R>(counted: bool, work: impl FnOnce() -> R) -> R {
    let (mut work, mut done) = (Some(work), None);
    let mut once = || done = work.take().map(|work| work());
    if counted {
        counted_part(&mut once);
    } else {
        once();
    }
    done.expect("it ran")
}

/// `scripts/instructions.py` knows this name.
#[inline(never)]
fn counted_part(work: &mut dyn FnMut()) {
    ALLOCATOR.set_counting(true);
    work();
    // Also keeps the call above from being made a jump, which callgrind would not see returning.
    ALLOCATOR.set_counting(false);
}
