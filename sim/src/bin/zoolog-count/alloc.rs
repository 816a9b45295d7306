//! How often does the counted part ask for memory? The allocator of this program: it counts, and its own cost
//! doesn't depend on the C library, so that instruction counts mean the same on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// log2 of the bytes of the smallest block.
const SMALLEST: u32 = 4;
/// Sizes of blocks, each twice the one before: 16 bytes to 1 MiB.
const CLASSES: usize = 17;
/// Bytes asked from the system at a time, aligned to a page.
const CHUNK: Layout = match Layout::from_size_align(4 << 20, 4096) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// What was asked for while counting.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Calls: allocations, and reallocations to a larger size.
    pub allocations: u64,
    /// Bytes: of allocations, and what reallocations added.
    pub bytes: u64,
}

/// Blocks in powers of two, given back to lists of their size. Larger ones come from the system.
pub struct Counting {
    locked: AtomicBool,
    pools: UnsafeCell<Pools>,
    counts: AtomicBool,
    allocations: AtomicU64,
    bytes: AtomicU64,
}

struct Pools {
    free: [*mut u8; CLASSES],
    chunk: *mut u8,
    left: usize,
}

// SAFETY: `pools` is only touched between taking `locked` and giving it back.
unsafe impl Sync for Counting {}

impl Counting {
    /// One that has given nothing yet.
    pub const fn new() -> Self {
        let pools = Pools { free: [null_mut(); CLASSES], chunk: null_mut(), left: 0 };
        Self {
            locked: AtomicBool::new(false),
            pools: UnsafeCell::new(pools),
            counts: AtomicBool::new(false),
            allocations: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Counts from now on, or no more.
    pub fn set_counting(&self, on: bool) {
        self.counts.store(on, Relaxed);
    }

    /// What was asked for while it counted.
    pub fn asked(&self) -> Asked {
        Asked { allocations: self.allocations.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }

    fn count(&self, bytes: usize) {
        if self.counts.load(Relaxed) {
            self.allocations.fetch_add(1, Relaxed);
            self.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Pools) -> R) -> R {
        while self.locked.swap(true, Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: we hold the lock, and `work` neither allocates nor comes back here.
        let done = work(unsafe { &mut *self.pools.get() });
        self.locked.store(false, Release);
        done
    }
}

impl Pools {
    fn take(&mut self, class: usize) -> *mut u8 {
        let first = self.free[class];
        if !first.is_null() {
            // SAFETY: a free block starts with the address of the next one, see `give`.
            self.free[class] = unsafe { first.cast::<*mut u8>().read() };
            return first;
        }
        let bytes = 1usize << (class as u32 + SMALLEST);
        // Blocks are aligned to their own size, up to a page: `skip` is what that costs.
        let align = bytes.min(CHUNK.align());
        let mut skip = self.chunk.addr().wrapping_neg() % align;
        if self.left < skip + bytes {
            // SAFETY: the layout has a size.
            self.chunk = unsafe { System.alloc(CHUNK) };
            if self.chunk.is_null() {
                return null_mut();
            }
            (self.left, skip) = (CHUNK.size(), 0);
        }
        // SAFETY: `skip + bytes` are left of the chunk.
        let block = unsafe { self.chunk.add(skip) };
        // SAFETY: as above; the end of the chunk at most.
        self.chunk = unsafe { block.add(bytes) };
        self.left -= skip + bytes;
        block
    }

    fn give(&mut self, class: usize, block: *mut u8) {
        // SAFETY: a block has at least 16 bytes, is aligned to as many, and nobody uses it any more.
        unsafe { block.cast::<*mut u8>().write(self.free[class]) };
        self.free[class] = block;
    }
}

/// The list that a block of this layout belongs to; `None`: the system's.
fn class(layout: Layout) -> Option<usize> {
    let bytes = layout.size().max(layout.align()).max(1 << SMALLEST);
    let class = (usize::BITS - (bytes - 1).leading_zeros() - SMALLEST) as usize;
    (class < CLASSES && layout.align() <= CHUNK.align()).then_some(class)
}

// SAFETY: blocks are as large and as aligned as `class` says, from memory that is never given back to the system,
// and belong to one owner between `take` and `give`; the others are the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size());
        match class(layout) {
            Some(class) => self.with(|p| p.take(class)),
            // SAFETY: the caller's duty is the same.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout) {
            Some(class) => self.with(|p| p.give(class, block)),
            // SAFETY: of this layout, it came from the system.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            self.count(size - layout.size());
        }
        // SAFETY: the caller guarantees that `size`, rounded up to the alignment, is no overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let (from, to) = (class(layout), class(new));
        match (from, to) {
            (None, None) => {
                // SAFETY: both are the system's.
                return unsafe { System.realloc(block, layout, size) };
            }
            _ if from == to => return block,
            _ => {}
        }
        let moved = match to {
            Some(class) => self.with(|p| p.take(class)),
            // SAFETY: the caller's duty: `size` is above 0.
            None => unsafe { System.alloc(new) },
        };
        if !moved.is_null() {
            // SAFETY: both blocks have that many bytes, and they are different blocks.
            unsafe { std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size)) };
            // SAFETY: the caller gives the block up.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zoolog_core::rng::Rng;

    /// Blocks are aligned, don't overlap, and keep what was written, whatever is asked for and given back.
    #[test]
    fn blocks_are_whole_aligned_and_nobody_elses() {
        let (ours, mut rng) = (Counting::new(), Rng::new(7, "blocks"));
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for i in 0..4000u32 {
            let bits = 1 + rng.below(21);
            let size = 1 + rng.below(1 << bits) as usize;
            let mark = i as u8;
            if rng.chance(40) && !held.is_empty() {
                let (block, layout, mark) = held.swap_remove(rng.below(held.len() as u64) as usize);
                // SAFETY: the block is of this layout, and of at least `size` bytes afterwards.
                let kept = unsafe {
                    let moved = ours.realloc(block, layout, size);
                    let kept =
                        std::slice::from_raw_parts(moved, layout.size().min(size)).iter().all(|&b| b == mark);
                    ours.dealloc(moved, Layout::from_size_align(size, layout.align()).expect("a layout"));
                    kept
                };
                assert!(kept, "a block of {layout:?} changed, or lost something when it became {size}");
                continue;
            }
            let layout = Layout::from_size_align(size, 1 << rng.below(14)).expect("a layout");
            // SAFETY: its size is above 0, and the block has as many bytes.
            let block = unsafe {
                let block = ours.alloc(layout);
                block.write_bytes(mark, size);
                block
            };
            assert!(block.addr().is_multiple_of(layout.align()), "{block:?} is not of {layout:?}");
            held.push((block, layout, mark));
        }
        for (block, layout, mark) in held {
            // SAFETY: the block is of this layout.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            assert!(bytes.iter().all(|&b| b == mark), "a block of {layout:?} was written by another");
        }
    }

    #[test]
    fn only_what_is_asked_for_while_counting_counts() {
        let ours = Counting::new();
        let layout = Layout::from_size_align(100, 8).expect("a layout");
        let larger = Layout::from_size_align(120, 8).expect("a layout");
        // SAFETY: each block is of the layout that is named, used by nobody, and given back once.
        let once =
            || unsafe { ours.dealloc(ours.realloc(ours.alloc(layout), layout, larger.size()), larger) };
        once();
        ours.set_counting(true);
        once();
        ours.set_counting(false);
        once();
        assert_eq!((ours.asked().allocations, ours.asked().bytes), (2, 120));
    }
}
