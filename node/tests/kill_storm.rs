//! A storm of `kill -9` at both sides over lines that lose, delay and part (`storm/storm.py`): a few rounds of it, four kills
//! each. `TILLSYNC_STORM_ROUNDS` says how many; docs/reliability.md has the figures of a long one.

use std::path::Path;
use std::process::Command;

/// What the script says when there can be no network namespaces here.
const SKIPPED: i32 = 77;

#[test]
fn a_storm_of_kills_at_both_sides_of_a_bad_line_loses_nothing_and_doubles_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storm/storm.py");
    let rounds = std::env::var("TILLSYNC_STORM_ROUNDS").unwrap_or_else(|_| "3".to_owned());
    let run = Command::new("python3").arg(script).args([env!("CARGO_BIN_EXE_tillsync"), &rounds]).output();
    let run = match run {
        Ok(run) => run,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: python3 is not here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    println!("{said}");
    match run.status.code() {
        Some(SKIPPED) => eprintln!("{}", said.trim()),
        code => {
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("nothing lost, nothing twice"), "{said}");
        }
    }
}
