//! Memory that is given back holds nothing any more. Keys have types that wipe themselves; the texts that they came in,
//! buffers of connections and what libraries copy have not.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    ptr,
    sync::atomic::{Ordering, compiler_fence},
};

/// The allocator of the whole process: another one, whose memory is overwritten with zeros before it is freed.
///
/// What grows or shrinks is moved (the provided `realloc`), since the other one would free the old place unwiped.
#[derive(Debug)]
pub struct Wiping<A>(pub A);

// SAFETY: allocating is the inner allocator's; freeing hands the same pointer and layout on, and what is written before lies
// within them and is the caller's no more.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back `layout.size()` bytes at `pointer`, which nobody else refers to.
        unsafe { ptr::write_bytes(pointer, 0, layout.size()) };
        // Without this, writing to what is freed next is of no use to the compiler, and left out.
        black_box(pointer);
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `pointer` came from `alloc` or `alloc_zeroed` above, that is from the inner allocator, with this layout.
        unsafe { self.0.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        alloc::System,
        cell::{Cell, RefCell},
        slice,
    };

    use super::*;

    /// Notes what lies in the memory that is freed.
    #[derive(Default)]
    struct Watching {
        freed: RefCell<Vec<Vec<u8>>>,
        moves: Cell<usize>,
    }

    // SAFETY: every call is forwarded unchanged to the system allocator; what is freed is only read before.
    unsafe impl GlobalAlloc for Watching {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: the caller gives back `layout.size()` bytes, all of which the tests below have written.
            let bytes = unsafe { slice::from_raw_parts(pointer, layout.size()) };
            self.freed.borrow_mut().push(bytes.to_vec());
            // SAFETY: the caller's promises are passed on.
            unsafe { System.dealloc(pointer, layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            self.moves.set(self.moves.get() + 1);
            // SAFETY: the caller's promises are passed on.
            unsafe { System.realloc(pointer, layout, size) }
        }
    }

    #[test]
    fn what_is_freed_was_wiped_to_its_last_byte() {
        for size in [1, 7, 64, 4_099] {
            let allocator = Wiping(Watching::default());
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the layout is not empty, and all of the memory is written before it is given back with that layout.
            unsafe {
                let pointer = allocator.alloc(layout);
                ptr::write_bytes(pointer, 0xa5, size);
                allocator.dealloc(pointer, layout);
            }
            assert_eq!(*allocator.0.freed.borrow(), [vec![0; size]]);
        }
    }

    #[test]
    fn what_grows_leaves_a_wiped_place_behind_and_keeps_its_content() {
        let allocator = Wiping(Watching::default());
        let layout = Layout::from_size_align(48, 8).unwrap();
        // SAFETY: as above; the second layout is that of the grown memory.
        let kept = unsafe {
            let pointer = allocator.alloc(layout);
            ptr::write_bytes(pointer, 0xa5, 48);
            let pointer = allocator.realloc(pointer, layout, 96);
            let kept = slice::from_raw_parts(pointer, 48).to_vec();
            allocator.dealloc(pointer, Layout::from_size_align(96, 8).unwrap());
            kept
        };
        assert_eq!(kept, [0xa5; 48]);
        assert_eq!(allocator.0.freed.borrow()[0], [0; 48]);
        assert_eq!(allocator.0.moves.get(), 0, "the inner allocator would move it without wiping");
    }
}
