#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::outside::join_code(bytes));
