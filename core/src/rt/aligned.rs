//! What memory does direct I/O take? Whole pages, zeroed once and used again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

/// Alignment of address and length that every disk takes.
pub(super) const PAGE_BYTES: usize = 4096;

/// A buffer of whole pages.
#[derive(Debug)]
pub(super) struct Aligned {
    start: std::ptr::NonNull<u8>,
    len: usize,
}

impl Aligned {
    /// At least `bytes` long, all zero.
    pub fn zeroed(bytes: usize) -> Self {
        let len = bytes.max(1).next_multiple_of(PAGE_BYTES);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(Self::layout(len)) };
        let start = std::ptr::NonNull::new(start).unwrap_or_else(|| handle_alloc_error(Self::layout(len)));
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, PAGE_BYTES).expect("a length far below the address space")
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: ours, initialized, and not written to while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: ours, initialized, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

// SAFETY: nobody else has the memory.
unsafe impl Send for Aligned {}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: made with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}
