//! Paths that run once per packet or message allocate nothing. One module per path; each measures with [`allocations`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait; this one only counts and forwards")]

mod relay;
mod srtp;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts this thread's allocations, so that tests may run side by side.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Allocated less freed.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is forwarded to the system allocator unchanged; counting touches no allocator state.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and no test either.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + layout.size() as i64));
        // SAFETY: the caller's promises are those of the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() - layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `act`; returns how often this thread allocated meanwhile.
fn allocations(act: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    act();
    ALLOCATIONS.get() - before
}

/// Runs `act`; returns how many bytes more this thread has allocated after it, and what it gives.
fn bytes_kept<T>(act: impl FnOnce() -> T) -> (i64, T) {
    let before = BYTES.get();
    let given = act();
    (BYTES.get() - before, given)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
    assert_eq!(bytes_kept(|| std::hint::black_box(Box::new(1_u64))).0, 8);
    assert_eq!(bytes_kept(|| drop(std::hint::black_box(Box::new(1_u64)))).0, 0);
}
