//! What the disk under a data directory has to give: free space, and how long it takes to make something durable. The
//! one file with rustix. Measures; what is too little or too slow is for others to say.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of the file that is written to try the disk; removed again.
const TRIAL: &str = "doctor.tmp";
/// Bytes of one write of a trial: an append of a few receipts.
const TRIAL_BYTES: usize = 4 << 10;

/// Space of a file system, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What a program without special rights can still write.
    pub free_bytes: u64,
    /// All of it.
    pub size_bytes: u64,
}

/// The space of the file system that holds a directory; `None` where the system does not say.
#[cfg(unix)]
#[must_use]
pub fn space(dir: &Path) -> Option<Space> {
    let told = rustix::fs::statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    Some(Space { free_bytes: bytes(told.f_bavail), size_bytes: bytes(told.f_blocks) })
}

/// The space of the file system that holds a directory; `None` where the system does not say.
#[cfg(not(unix))]
#[must_use]
pub fn space(_dir: &Path) -> Option<Space> {
    None
}

/// Writes to a file of its own in the directory and makes it durable, so many times; the times it took, shortest first.
///
/// # Errors
/// The disk does not take it.
pub fn try_disk(dir: &Path, times: usize) -> io::Result<Vec<Duration>> {
    let path = dir.join(TRIAL);
    let tried = try_file(&path, times);
    let removed = fs::remove_file(&path);
    let took = tried?;
    removed?;
    Ok(took)
}

fn try_file(path: &Path, times: usize) -> io::Result<Vec<Duration>> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        file.write_all(&[0; TRIAL_BYTES])?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    took.sort();
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_tells_times_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let took = try_disk(dir.path(), 3).unwrap();
        assert_eq!(took.len(), 3);
        assert!(took.is_sorted());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn free_space_is_some_of_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let told = space(dir.path()).unwrap();
        assert!(told.free_bytes <= told.size_bytes && told.size_bytes > 0, "{told:?}");
        assert_eq!(space(&dir.path().join("nothing")), None);
    }
}
