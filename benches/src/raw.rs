//! The disk alone: the same bytes appended and made durable with nothing around it. What the product is held against.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::stats::{Measure, Samples};
use crate::table::row;
use crate::workload::{Transaction, transactions};
use crate::{Outcome, Sizes};

/// Growing and preallocated, singly and in groups, in turns.
///
/// # Errors
/// The disk refuses.
pub fn measure(sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let dir = tempfile::tempdir()?;
    let work = transactions("raw", sizes.many, round);
    let mut rows = Vec::new();
    rows.push((row::RAW_GROWING, growing(dir.path(), &work[..sizes.single], 1)?));
    for (row, group) in [(row::RAW, 1), (row::RAW_16, 16), (row::RAW_1000, 1_000)] {
        let work = if group == 1 { &work[..sizes.single] } else { &work[..] };
        rows.push((row, in_place(dir.path(), work, group)?));
    }
    Ok(rows)
}

/// `group` transactions appended before each fdatasync, to a file that grows by them.
///
/// # Errors
/// The disk refuses.
pub fn growing(dir: &Path, work: &[Transaction], group: usize) -> Outcome<Measure> {
    let groups = grouped(work, group);
    let mut file = File::create(dir.join("growing"))?;
    let (mut samples, start) = (Samples::default(), Instant::now());
    for bytes in &groups {
        let from = Instant::now();
        file.write_all(bytes)?;
        file.sync_data()?;
        samples.push(from.elapsed());
    }
    Ok(samples.measure(work.len(), start.elapsed()))
}

/// `group` transactions written before each fdatasync, over zeros that are on the disk already.
///
/// # Errors
/// The disk refuses.
pub fn in_place(dir: &Path, work: &[Transaction], group: usize) -> Outcome<Measure> {
    let groups = grouped(work, group);
    let file = preallocated(&dir.join(format!("in-place-{group}")), groups.iter().map(Vec::len).sum())?;
    let (mut samples, mut at, start) = (Samples::default(), 0, Instant::now());
    for bytes in &groups {
        let from = Instant::now();
        file.write_all_at(bytes, at)?;
        file.sync_data()?;
        samples.push(from.elapsed());
        at += bytes.len() as u64;
    }
    Ok(samples.measure(work.len(), start.elapsed()))
}

fn grouped(work: &[Transaction], group: usize) -> Vec<Vec<u8>> {
    work.chunks(group).map(|chunk| chunk.iter().flat_map(|one| one.json.bytes()).collect()).collect()
}

/// Two durable writes, one after the other: what lies under a transaction that is durable at the till and then at
/// the hub, before anything is sent or thought.
///
/// # Errors
/// The disk refuses.
pub fn twice(sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let dir = tempfile::tempdir()?;
    let work = transactions("raw", sizes.live, round);
    let bytes = work.iter().map(|one| one.json.len()).sum();
    let files =
        [preallocated(&dir.path().join("till"), bytes)?, preallocated(&dir.path().join("hub"), bytes)?];
    let (mut samples, mut at) = (Samples::default(), 0);
    for transaction in &work {
        let from = Instant::now();
        for file in &files {
            file.write_all_at(transaction.json.as_bytes(), at)?;
            file.sync_data()?;
        }
        samples.push(from.elapsed());
        at += transaction.json.len() as u64;
    }
    Ok(vec![(row::RAW_TWICE, samples.latency())])
}

/// A file whose zeros are on the disk already, as the product's segments are.
fn preallocated(path: &Path, bytes: usize) -> Outcome<File> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()?;
    Ok(file)
}
