#![no_main]

libfuzzer_sys::fuzz_target!(
    // `fuzz/run` makes the corpora with this target, so that no other binary has to be built and linked for it.
    init: targets::seeds::write_if_asked(),
    |bytes: &[u8]| targets::decoders::message(bytes)
);
