//! Reading a message takes no heap: a counting allocator proves it for an ordinary 1.5 kB INVITE and its 200.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use bytes::Bytes;
use ringdown::wire::sip::{Message, Name, validate};

/// Counts per thread, because other tests run beside this one.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "a global allocator is an unsafe trait; it only counts and forwards")]
// SAFETY: every call is forwarded unchanged to the system allocator, which upholds the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from the system allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    act();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn indexing_and_validating_an_ordinary_message_allocates_nothing() {
    for bytes in [&include_bytes!("invite.sip")[..], include_bytes!("ok.sip")] {
        let received = Bytes::copy_from_slice(bytes);
        let count = allocations(|| {
            let message = Message::parse(received).expect("an index");
            assert_eq!(validate(&message), Ok(()));
            let routing = (message.via().unwrap().branch(), message.from_tag(), message.call_id(), message.cseq());
            let _ = black_box((routing, message.values(Name::Supported).count(), message.header(Name::SessionExpires)));
        });
        assert_eq!(count, 0, "{} bytes", bytes.len());
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(vec![1]))), 1);
}
