//! House rules that a machine can keep: one file knows each engine room's heavy machinery, and the engine has no IO.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files below `folder` (tests aside) whose code (comments aside) holds one of the words.
fn files_with(folder: &str, words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let holds = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        code.into_iter().any(|line| words.iter().any(|word| line.contains(word)))
    };
    let mut names: Vec<String> = files
        .iter()
        .filter(|path| holds(path))
        .map(|path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| !name.contains("tests"));
    names.sort();
    names
}

#[test]
fn one_file_each_knows_automerge_bincode_sled_and_quinn() {
    assert_eq!(files_with("engine/src", &["automerge::"]), ["document.rs"]);
    assert_eq!(files_with("engine/src", &["bincode::"]), ["codec.rs"]);
    assert_eq!(files_with("node/src", &["sled::"]), ["storage/index.rs"]);
    assert_eq!(files_with("node/src", &["quinn::"]), ["transport/quic.rs"]);
    assert_eq!(files_with("node/src", &["quick_xml::"]), ["import/xml.rs"]);
    assert!(files_with("node/src", &["automerge::", "bincode::"]).is_empty());
}

#[test]
fn the_engine_has_no_io_clock_or_chance() {
    let words = [
        "std::fs",
        "std::net",
        "SystemTime",
        "Instant::now",
        "thread::",
        "rand::",
        "tokio",
        "Timestamp::now",
    ];
    assert_eq!(files_with("engine/src", &words).join(", "), "");
    let hashed = files_with("engine/src", &["HashMap", "HashSet"]);
    assert_eq!(hashed.join(", "), "", "order must not depend on hashing");
}
