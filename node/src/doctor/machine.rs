//! The machine under a node: space and speed of its disk, its clock, the addresses it listens on.

use std::fs;
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Addresses, Finding, Node, Role, age};
use crate::storage::{Space, space, try_disk};

/// Less free space than this stops a node soon: the log grows by segments of this length.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Less free space than this is worth knowing.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// Writes of a trial.
const TRIALS: usize = 20;
/// A sync that takes longer is felt by the customer at the counter (as the alert `TillsyncDiskSlow`).
const SYNC_SLOW: Duration = Duration::from_millis(250);
/// A sync that usually takes longer is worth knowing.
const SYNC_LAZY: Duration = Duration::from_millis(50);
/// A clock that is off by more is pointed out, ms.
const CLOCK_OFF_MS: i64 = 60_000;
/// Files of a till may be written so much later than its clock says, and no more.
const FUTURE_MAX: Duration = Duration::from_secs(300);

pub(super) fn disk(dir: &Path, node: &Node, found: &mut Vec<Finding>) {
    let full = match node {
        Node::Running(answers) => says(&answers.status, "disk_full"),
        Node::Stopped | Node::Silent(_) => false,
    };
    if full {
        found.push(Finding::wrong(
            "disk",
            "the node says that its disk is full: it takes nothing new in",
            "free some space on the disk of the directory, outside of it; the node goes on by itself",
        ));
    } else {
        found.push(room(space(dir)));
    }
    found.push(match try_disk(dir, TRIALS) {
        Ok(took) => speed(&took),
        Err(error) => Finding::wrong(
            "disk speed",
            format!("a file in the directory cannot be written: {error}"),
            "check that the disk is not full or mounted read-only, and that the directory belongs to whoever runs \
             the node (chown -R tillsync: DIR)",
        ),
    });
}

/// Whether an answer, or one of a list of answers, says yes to something.
fn says(answer: &Value, field: &str) -> bool {
    answer[field] == true || answer.as_array().is_some_and(|list| list.iter().any(|it| it[field] == true))
}

fn room(space: Option<Space>) -> Finding {
    let Some(space) = space else { return Finding::unknown("disk", "the system does not say what is free") };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let text = format!("{} free of {}", mib(space.free_bytes), mib(space.size_bytes));
    match space.free_bytes {
        0..FREE_BYTES_MIN => Finding::wrong(
            "disk",
            text,
            "free some space outside of the directory now: without it the node stops taking anything in",
        ),
        FREE_BYTES_MIN..FREE_BYTES_LOW => {
            Finding::note("disk", text, "free some space outside of the directory soon")
        }
        _ => Finding::well("disk", text),
    }
}

fn speed(took: &[Duration]) -> Finding {
    let (usual, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let ms = |time: Duration| format!("{}.{:02} ms", time.as_millis(), time.as_micros() % 1_000 / 10);
    let text = format!("a sync takes {}, at most {}, in {} tries", ms(usual), ms(longest), took.len());
    if usual > SYNC_SLOW {
        let next =
            "selling feels this: find what else writes (iostat -x 5), or replace the disk before it fails";
        return Finding::wrong("disk speed", text, next);
    }
    if usual > SYNC_LAZY {
        return Finding::note("disk speed", text, "a better disk makes every sale quicker; it is not urgent");
    }
    Finding::well("disk speed", text)
}

pub(super) fn clock(dir: &Path, node: &Node, found: &mut Vec<Finding>) {
    const NEXT: &str = "set the clock and keep it right by network time (timedatectl set-ntp true)";
    if let Some(ahead) = newest_file(dir).and_then(|at| at.duration_since(SystemTime::now()).ok())
        && ahead > FUTURE_MAX
    {
        let text = format!(
            "this machine's clock was set back: the node wrote files {} from now",
            age(ahead.as_secs())
        );
        return found.push(Finding::wrong("clock", text, NEXT));
    }
    let Node::Running(answers) = node else {
        return found.push(Finding::well("clock", "no file is from the future; nobody else was asked"));
    };
    let offsets = offsets_ms(answers);
    let off = |ms: i64| ms.abs() > CLOCK_OFF_MS;
    let way = |ms: i64| if ms > 0 { "behind" } else { "ahead of" };
    found.push(match offsets.as_slice() {
        [] => Finding::unknown("clock", "no file is from the future; no other node has told its time"),
        [ms] if off(*ms) => {
            let behind = age(ms.unsigned_abs() / 1_000);
            Finding::wrong("clock", format!("this clock is {behind} {} the other node's", way(*ms)), NEXT)
        }
        // A hub that is wrong itself finds most of its tills wrong the same way.
        many if many.len() > 1 && same_way(many) * 2 > many.len() => {
            Finding::wrong("clock", "most nodes' clocks are off the same way, so it is this one's", NEXT)
        }
        many => match many.iter().filter(|ms| off(**ms)).count() {
            0 => Finding::well("clock", format!("agrees with {} other nodes within a minute", many.len())),
            count => Finding::note(
                "clock",
                format!("{count} of {} tills' clocks are off by more than a minute", many.len()),
                "`tillsync terminals` shows which; set them by network time",
            ),
        },
    });
}

/// How many clocks are off in the direction in which most are.
fn same_way(offsets: &[i64]) -> usize {
    let ahead = offsets.iter().filter(|ms| **ms > CLOCK_OFF_MS).count();
    let behind = offsets.iter().filter(|ms| **ms < -CLOCK_OFF_MS).count();
    ahead.max(behind)
}

/// Other nodes' clocks less this one's.
fn offsets_ms(answers: &super::Answers) -> Vec<i64> {
    let of_peers = answers.status["peers"].as_array().into_iter().flatten();
    let of_peers = of_peers.filter_map(|peer| peer["last_status"]["clock_offset_ms"].as_i64());
    let of_tills = answers.terminals.as_array().into_iter().flatten();
    of_peers.chain(of_tills.filter_map(|till| till["clock_offset_ms"].as_i64())).collect()
}

/// When a file of the node was last written.
fn newest_file(dir: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(dir.join("log")).ok()?.flatten().map(|file| file.path());
    files
        .chain([dir.join("mark"), dir.join("manifest")])
        .filter_map(|it| it.metadata().ok()?.modified().ok())
        .max()
}

pub(super) fn ports(role: Role, node: &Node, at: &Addresses, found: &mut Vec<Finding>) {
    match node {
        Node::Running(answers) => {
            let quic = answers.quic.as_ref().map_or_else(String::new, |quic| format!(", tills on {quic}"));
            found.push(Finding::well("port", format!("the node listens on {}{quic}", answers.http)));
        }
        Node::Silent(_) => {
            found.push(Finding::unknown("port", "the process that holds the directory may hold it"));
        }
        Node::Stopped => {
            found.push(bindable(&at.http, "--http", &|address| TcpListener::bind(address).map(drop)));
            if role == Role::Hub {
                found.push(bindable(&at.listen, "--listen", &|address| UdpSocket::bind(address).map(drop)));
            }
        }
    }
}

fn bindable(
    address: &str,
    option: &str,
    bind: &dyn Fn(std::net::SocketAddr) -> std::io::Result<()>,
) -> Finding {
    let resolved = address.to_socket_addrs().map(|mut all| all.next());
    let tried = resolved.and_then(|first| bind(first.ok_or(std::io::ErrorKind::NotFound)?));
    match tried {
        Ok(()) => Finding::well("port", format!("{address} is free for the node")),
        Err(error) => Finding::wrong(
            "port",
            format!("{address} cannot be listened on: {error}"),
            format!(
                "find who has it (ss -lntup), or run the node with another {option}; if the node is to run elsewhere, \
                 give doctor the same {option}"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Answers, State};
    use super::*;
    use serde_json::json;

    #[test]
    fn space_is_judged_by_what_the_log_needs() {
        let of = |free_bytes| room(Some(Space { free_bytes, size_bytes: 8 << 30 })).state;
        assert_eq!(of(63 << 20), State::Wrong);
        assert_eq!(of(65 << 20), State::Note);
        assert_eq!(of(2 << 30), State::Well);
        assert_eq!(room(None).state, State::Unknown);
    }

    #[test]
    fn speed_is_judged_by_the_usual_sync_and_not_by_the_longest() {
        let ms = Duration::from_millis;
        let slow = speed(&[ms(1), ms(2), ms(900)]);
        assert_eq!(slow.state, State::Well);
        assert_eq!(slow.found, "a sync takes 2.00 ms, at most 900.00 ms, in 3 tries");
        assert_eq!(speed(&[ms(60)]).state, State::Note);
        assert_eq!(speed(&[ms(300)]).state, State::Wrong);
    }

    fn told(offsets: &[i64]) -> Node {
        let terminals = offsets.iter().map(|ms| json!({"clock_offset_ms": ms})).collect();
        Node::Running(Answers { terminals, ..Answers::default() })
    }

    #[test]
    fn a_clock_is_judged_by_what_the_others_say() {
        let dir = tempfile::tempdir().unwrap();
        let of = |offsets: &[i64]| {
            let mut found = Vec::new();
            clock(dir.path(), &told(offsets), &mut found);
            found.remove(0)
        };
        assert_eq!(of(&[]).state, State::Unknown);
        assert_eq!(of(&[900]).state, State::Well);
        let behind = of(&[600_000]);
        assert_eq!(
            (behind.state, behind.found.as_str()),
            (State::Wrong, "this clock is 10 minutes behind the other node's")
        );
        assert!(of(&[-600_000]).found.contains("ahead of"));
        assert_eq!(of(&[600_000, 700_000, 0]).state, State::Wrong, "two of three agree that it is ours");
        assert_eq!(of(&[600_000, -600_000, 0]).state, State::Note);
    }

    #[test]
    fn a_taken_port_and_one_that_is_not_ours_are_wrong() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Addresses { http: taken.local_addr().unwrap().to_string(), listen: "192.0.2.1:1".into() };
        let mut found = Vec::new();
        ports(Role::Hub, &Node::Stopped, &at, &mut found);
        assert!(found.iter().all(|it| it.state == State::Wrong), "{found:?}");
        drop(taken);
        assert_eq!(bindable(&at.http, "--http", &|it| TcpListener::bind(it).map(drop)).state, State::Well);
    }
}
