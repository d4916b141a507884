//! What is fuzzed: a function a target, each of plain bytes, so that a seed is a file and every finding runs again in a
//! plain test. `decoders` are the engine's, `outside` those of the node that a stranger reaches, `files` what a disk may
//! hold; `admission` and `session` are structure-aware: a thief with a till's key, and a link that mangles honest words.
//! `seeds` makes the corpora. Nothing here decides what is right: it asks the product and holds it to its own word.

pub mod admission;
pub mod chance;
pub mod decoders;
pub mod files;
pub mod outside;
pub mod seeds;
pub mod session;
pub mod shop;

/// A target.
pub type Target = fn(&[u8]);

/// Every target with its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("admission", admission::admission),
    ("batch", decoders::batch),
    ("card_numbers", decoders::card_numbers),
    ("certificate", outside::certificate),
    ("checkpoint", decoders::checkpoint),
    ("entry", decoders::entry),
    ("happenings", decoders::happenings),
    ("import_lines", outside::import_lines),
    ("join_code", outside::join_code),
    ("join_desk", outside::join_desk),
    ("log_files", files::log_files),
    ("message", decoders::message),
    ("node_files", files::node_files),
    ("policy", decoders::policy),
    ("poslog", outside::poslog),
    ("scenario", decoders::scenario),
    ("session", session::session),
    ("transaction", decoders::transaction),
];
