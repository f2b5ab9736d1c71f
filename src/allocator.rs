//! mimalloc as Rust's allocator, with two things that its own crate does not do (`docs/decisions`, 0010).

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys as mi;

pub(crate) struct Mimalloc;

/// Every block that is at least as large as its alignment, and no more aligned than this, is so by itself. The calls
/// that take an alignment look for such a block the long way, for anything over a kilobyte.
const NATURAL: usize = 16;

fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL && align <= size
}

/// Out of memory is the end here, as it is in the standard library a moment later. But said here, the compiler can see
/// that an allocation does not unwind, and builds what goes into a box in the box: Pingora's future of a request has
/// thirteen kilobytes, which were copied for each.
fn never_null(block: *mut c_void) -> *mut u8 {
    if block.is_null() {
        std::process::abort();
    }
    block.cast()
}

#[expect(
    unsafe_code,
    reason = "an allocator is; each call hands over what it was given"
)]
// SAFETY: mimalloc's blocks have the size that was asked for and, by `is_natural` or by its own word, the alignment;
// they stay until they are freed. Nothing here unwinds.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        never_null(match is_natural(align, size) {
            true => unsafe { mi::mi_malloc(size) },
            false => unsafe { mi::mi_malloc_aligned(size, align) },
        })
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        never_null(match is_natural(align, size) {
            true => unsafe { mi::mi_zalloc(size) },
            false => unsafe { mi::mi_zalloc_aligned(size, align) },
        })
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        never_null(match is_natural(align, size) {
            true => unsafe { mi::mi_realloc(block.cast(), size) },
            false => unsafe { mi::mi_realloc_aligned(block.cast(), size, align) },
        })
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        unsafe { mi::mi_free(block.cast()) }
    }
}
