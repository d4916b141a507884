//! A target on inputs that are the same everywhere: its seeds, what was found before (`regressions/`), and seeds and noise
//! changed by choices that its name and a number determine. No coverage guides it; `fuzz/run` has libFuzzer for that.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use crate::chance::Chance;
use crate::{Target, seeds};

/// Bytes of choices for one input.
const CHOICES: usize = 4_096;
/// Longest input, bytes.
const LENGTH_LIMIT: usize = 8_192;

/// Gives a target all its inputs and says how many. `folder` is that of the fuzz workspace.
///
/// # Errors
/// The file with the input that something does not hold for, or what the disk refuses.
pub fn run(target: &Target, folder: &Path) -> Result<usize, String> {
    let mut seeds = seeds::of(target.name);
    seeds.extend(regressions(&folder.join("regressions").join(target.name))?);
    for seed in &seeds {
        hold(target, seed, folder)?;
    }
    for round in 0..target.rounds {
        hold(target, &changed(&seeds, target.name, round), folder)?;
    }
    Ok(seeds.len() + target.rounds as usize)
}

fn regressions(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let told = |error| format!("{}: {error}", folder.display());
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(told)?.collect();
    let mut files: Vec<PathBuf> = entries.map_err(told)?.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).map_err(told)).collect()
}

/// A seed, or noise in one of four cases, with a few places changed.
fn changed(seeds: &[Vec<u8>], name: &str, round: u32) -> Vec<u8> {
    let mut choices = vec![0; CHOICES];
    let mut hasher = blake3::Hasher::new_derive_key("tillsync bounded fuzzing v1");
    hasher.update(name.as_bytes()).update(&round.to_le_bytes());
    hasher.finalize_xof().fill(&mut choices);
    let chance = &mut Chance::new(&choices);
    let mut bytes = match seeds {
        [] => noise(chance),
        _ if chance.one_in(4) => noise(chance),
        seeds => chance.of(seeds).clone(),
    };
    chance.mangle(&mut bytes);
    bytes.truncate(LENGTH_LIMIT);
    bytes
}

fn noise(chance: &mut Chance<'_>) -> Vec<u8> {
    let length = 1 << chance.below(12);
    chance.bytes(length).to_vec()
}

fn hold(target: &Target, bytes: &[u8], folder: &Path) -> Result<(), String> {
    if panic::catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_ok() {
        return Ok(());
    }
    let folder = folder.join("artifacts").join(target.name);
    let file = folder.join(&blake3::hash(bytes).to_hex()[..16]);
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, bytes));
    written.map_err(|error| format!("{}: {error}", file.display()))?;
    Err(format!("{}: something does not hold for the input {}", target.name, file.display()))
}
