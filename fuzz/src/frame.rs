//! A frame as a network card hands it over.

use ringdown::wire::frame::{Ethernet, HEADERS_BYTES_MAX, parse, write_headers};

/// What is found in a frame lies in it, and says the same when it is sent on in a frame of ours.
pub fn frame(data: &[u8]) {
    let Ok(found) = parse(data) else { return };
    let payload = data.get(found.payload.clone()).expect("a place in the frame");
    let mut buffer = [&[0; HEADERS_BYTES_MAX][..], payload].concat();
    let place = HEADERS_BYTES_MAX..buffer.len();
    let ethernet = Ethernet { source: [2; 6], target: [6; 6], vlan: Some(1) };
    let start = write_headers(&mut buffer, place, &ethernet, (found.source, found.target), 46);
    let frame = &buffer[start.expect("it fitted into a frame before")..];
    let again = parse(frame).expect("a frame of ours");
    assert_eq!((again.source, again.target), (found.source, found.target));
    assert_eq!(&frame[again.payload], payload);
}
