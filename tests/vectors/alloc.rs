//! Reading a message takes no heap: a counting allocator proves it for an ordinary 1.5 kB INVITE and its 200. Nor does the test for
//! an emergency number of what people dial most.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use bytes::Bytes;
use ringdown::{
    policy::emergency::{Dialled, Site, classify},
    wire::sip::{Message, Name, validate},
};

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

/// Emergency specification 2.9.
#[test]
fn recognising_that_an_extension_is_no_emergency_allocates_nothing() {
    for region in ["US", "GB", "DE", "AU"] {
        let site = Site::for_region(region, &["9", "0"], &["pbx.example.com", "192.0.2.1"]).expect("a region");
        for uri in [
            "sip:1001@pbx.example.com",
            "sip:1001@192.0.2.1:5060;transport=tls",
            "sips:alice@pbx.example.com",
            "sip:10-01@pbx.example.com;user=phone",
            "tel:1001",
            "1001",
        ] {
            let mut dialled = None;
            let count = allocations(|| dialled = Some(classify(uri, &site)));
            assert!(matches!(dialled, Some(Dialled::Ordinary(_))), "{uri} in {region}");
            assert_eq!(count, 0, "{uri} in {region}");
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(vec![1]))), 1);
}
