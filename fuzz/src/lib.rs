//! What is fuzzed: a function a target, each of plain bytes, so that a seed is a file and every finding runs again in a
//! plain test. `decoders` are the engine's, `outside` those of the node that a stranger reaches, `files` what a disk may
//! hold; `admission` and `session` are structure-aware: a thief with a till's key, and a link that mangles honest words.
//! `seeds` makes the corpora, `bounded` inputs that are the same everywhere. Nothing here decides what is right: it asks the product and holds it to its own word.

pub mod admission;
pub mod bounded;
pub mod chance;
pub mod decoders;
pub mod files;
pub mod outside;
pub mod seeds;
pub mod session;
pub mod shop;

/// A target.
pub struct Target {
    /// Its name, which is also that of its folder of seeds.
    pub name: &'static str,
    /// What is given the bytes; it panics if something does not hold.
    pub run: fn(&[u8]),
    /// How many changed inputs `bounded` gives it: as many as take it a few seconds.
    pub rounds: u32,
}

const fn target(name: &'static str, run: fn(&[u8]), rounds: u32) -> Target {
    Target { name, run, rounds }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("admission", admission::admission, 4_000),
    target("batch", decoders::batch, 300_000),
    target("card_numbers", decoders::card_numbers, 300_000),
    target("certificate", outside::certificate, 20_000),
    target("checkpoint", decoders::checkpoint, 60_000),
    target("entry", decoders::entry, 300_000),
    target("happenings", decoders::happenings, 60_000),
    target("import_lines", outside::import_lines, 300_000),
    target("join_code", outside::join_code, 300_000),
    target("join_desk", outside::join_desk, 20_000),
    target("log_files", files::log_files, 3_000),
    target("message", decoders::message, 300_000),
    target("node_files", files::node_files, 3_000),
    target("policy", decoders::policy, 300_000),
    target("poslog", outside::poslog, 60_000),
    target("scenario", decoders::scenario, 60_000),
    target("session", session::session, 4_000),
    target("transaction", decoders::transaction, 300_000),
];
