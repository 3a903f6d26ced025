#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringdown_fuzz::admin(data));
