//! A cheap signature of the local network, polled while a dialer waits: a changed signature (a cable plugged in,
//! a Wi-Fi joined, a route learned) is a reason to dial at once. Where the system tells nothing it never
//! changes, and the dialer is left with its knocks.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// The signature now; equal signatures mean that nothing relevant was seen to change.
pub(super) fn signature() -> u64 {
    signature_of(Path::new("/proc/net"), Path::new("/sys/class/net"))
}

fn signature_of(proc_net: &Path, class_net: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in text(&proc_net.join("route")).lines() {
        // Interface, destination, gateway, flags, metric and mask; not the use counters between them.
        let fields: Vec<&str> = line.split_whitespace().collect();
        for i in [0, 1, 2, 3, 6, 7] {
            fields.get(i).hash(&mut hasher);
        }
    }
    text(&proc_net.join("if_inet6")).hash(&mut hasher);
    let mut states: Vec<(String, String)> = fs::read_dir(class_net)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), text(&e.path().join("operstate"))))
        .collect();
    // The order of a folder is no fact about the network.
    states.sort();
    states.hash(&mut hasher);
    hasher.finish()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_do_not_count_and_a_new_route_does() {
        let dir = tempfile::tempdir().unwrap();
        let now = |route: &str| {
            fs::write(dir.path().join("route"), route).unwrap();
            signature_of(dir.path(), &dir.path().join("none"))
        };
        let before = now("eth0 00000000 0100000A 0003 0 0 100 00000000 0 0 0\n");
        assert_eq!(before, now("eth0 00000000 0100000A 0003 7 9 100 00000000 0 0 0\n"));
        assert_ne!(before, now("wlan0 00000000 0100000A 0003 0 0 100 00000000 0 0 0\n"));
        assert_eq!(signature(), signature());
    }
}
