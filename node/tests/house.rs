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
    assert_eq!(files_with("node/src", &["chacha20poly1305::"]), ["storage/vault/cipher.rs"]);
    assert_eq!(files_with("node/src", &["argon2::"]), ["storage/vault/source.rs"]);
    assert_eq!(files_with("node/src", &["quick_xml::"]), ["import/xml.rs"]);
    assert_eq!(files_with("node/src", &["hyper::", "hyper_util::"]), ["api/serve.rs"]);
    assert!(files_with("node/src", &["automerge::", "bincode::"]).is_empty());
    // The client of the database has a room of its own: whoever writes to one goes through its door.
    let room = files_with("node/src", &["tokio_postgres::", "tokio_postgres_rustls::"]);
    assert!(!room.is_empty() && room.iter().all(|file| file.starts_with("database/")), "{room:?}");
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

#[test]
fn every_attack_of_the_table_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = std::fs::read_to_string(root.join("docs/attacks.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["engine", "node", "sim"] {
        sources(&root.join(folder), &mut files);
    }
    let code: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.get(1).is_some_and(|number| number.parse::<usize>().is_ok()))
        .collect();
    for (at, cells) in rows.iter().enumerate() {
        assert_eq!(cells[1], (at + 1).to_string(), "rows are numbered without a gap");
        let named = cells[4];
        let tests: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        let labels: Vec<&str> = named.split('"').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || !labels.is_empty(), "row {} names no test", at + 1);
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "row {}: there is no test {test}", at + 1);
        }
        for label in labels {
            assert!(
                code.contains(&format!("\"{label}\",\n")) || code.contains(&format!("\"{label}\", ")),
                "row {}: no attack is called {label:?}",
                at + 1
            );
        }
    }
    assert!(rows.len() >= 40, "{} attacks", rows.len());
}
