//! Processor time as the system counts it: of a process with all threads it ever had, and of a server that makes a process
//! for each connection.

use std::path::Path;

use crate::Outcome;

/// Nanoseconds of the unit in which the system tells times of processes: a hundredth of a second on every Linux.
const TICK_NS: u64 = 10_000_000;

/// What one line of `stat` says: its parent, its own time, and that of its children that have ended, in ticks.
struct Times {
    parent: u32,
    own: u64,
    ended: u64,
}

/// Processor time of a process, ns.
///
/// # Errors
/// It is not there.
pub fn of(pid: u32) -> Outcome<u64> {
    Ok(times(pid)?.own * TICK_NS)
}

/// Processor time of a process and of all that it started, also of those that have ended, ns.
///
/// # Errors
/// It is not there.
pub fn of_family(pid: u32) -> Outcome<u64> {
    let head = times(pid)?;
    let mut ticks = head.own + head.ended;
    for entry in std::fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        ticks += times(child).ok().filter(|times| times.parent == pid).map_or(0, |times| times.own);
    }
    Ok(ticks * TICK_NS)
}

fn times(pid: u32) -> Outcome<Times> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    read(&text).ok_or_else(|| format!("the system does not say what process {pid} used").into())
}

/// Fields stand behind the name, which is in brackets and may hold anything.
fn read(stat: &str) -> Option<Times> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Times {
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        ended: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let times = read("7 (a) b) S 1 7 7 0 -1 4194560 9 9 0 0 30 12 5 6 20 0 1 0 99 0 0").unwrap();
        assert_eq!((times.parent, times.own, times.ended), (1, 42, 11));
        assert!(read("7 nothing").is_none());
    }
}
