//! Words for what a run counts: durations, sizes, names of faults and cases.

/// A duration, in its two largest units.
pub(super) fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let (s, min, h, d) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let two = |big: i64, unit: &str, small: i64, part: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {part}") }
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{s}.{} s", ms % 1_000 / 100),
        10_000..60_000 => format!("{s} s"),
        60_000..3_600_000 => two(min, "min", s % 60, "s"),
        3_600_000..86_400_000 => two(h, "h", min % 60, "min"),
        _ => two(d, "d", h % 24, "h"),
    }
}

/// A size.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// A fault as people say it.
pub(super) fn fault(name: &str) -> String {
    let known = match name {
        "rot" => "bit rot",
        "rot-found" => "bit rot found, device given up",
        "clock-1970" => "clock set to 1970",
        "clock-jump" => "clock set wrong",
        "drift" => "clock drifts",
        "old-backup" => "till restored from an old backup",
        "hub-backup" => "hub restored from a backup",
        "wipe" => "device wiped, enrolled anew",
        "clone" => "device cloned",
        "revoke" => "till revoked",
        "lie" => "liar with a stolen key",
        "slow" => "slow disk and link",
        "loss" => "datagrams lost",
        "duplicate" => "frames doubled",
        "reorder" => "frames reordered",
        "drop" => "frames dropped",
        "gossip" => "tills talk directly",
        "policy" => "policy changed",
        "decide" => "reviewer decides",
        "lock" => "period locked",
        "torn-write" => "crash with a torn write",
        "disk-hangs" => "disk hangs",
        "sync-fails" => "fsync fails",
        "disk-full" => "disk full",
        other => return other.replace('-', " "),
    };
    known.to_owned()
}

/// The type of a case as people say it: `REVERSAL_CONFLICT` is a reversal conflict.
pub(super) fn case_type(word: &str) -> String {
    let lower = word.replace('_', " ").to_lowercase();
    let mut letters = lower.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let told = [0, 1_250, 42_000, 61_000, 3_600_000, 90_000_000].map(duration);
        assert_eq!(told, ["0 ms", "1.2 s", "42 s", "1 min 1 s", "1 h", "1 d 1 h"]);
        assert_eq!(case_type("Z_MISMATCH"), "Z mismatch");
    }
}
