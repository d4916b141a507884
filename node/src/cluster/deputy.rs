//! A hub keeps itself warm in logs that it would have to take: it reads them along now and then, one after the other, and keeps images of
//! their stores. Which ones, `engine::lease::duties` says, and those that it reads along in anyway.
//!
//! Nobody waits for it: it pauses as long as it works (`along`), and what fails costs warmth and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::lease::{HubName, duties};

use super::reading::Elsewhere;

/// How often it is looked what lacks most.
const LOOK: Duration = Duration::from_millis(500);
/// So much is enough to read on for; less is read after a while.
const DUE_ENTRIES: u64 = 8_192;
const DUE_BYTES: u64 = 2 << 20;
const DUE_AFTER: Duration = Duration::from_secs(300);
/// A log of which nothing could be kept is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// A log rests for so many times as long as reading it took, between these.
const RESTS: u32 = 3;
const REST: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// Longest that one reading is waited for before the next begins.
const VISIT: Duration = Duration::from_secs(900);

/// When a log was read on last, and how long it rests then.
struct Visit {
    ended: Instant,
    rests: Duration,
}

/// Goes on until it is dropped.
pub(super) async fn keep_warm(elsewhere: Arc<Elsewhere>, me: HubName) {
    let mut visits: BTreeMap<u16, Visit> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if elsewhere.is_blind() || elsewhere.cut_off().is_some() {
            continue;
        }
        let Some(number) = next(&elsewhere, me, &visits) else { continue };
        let began = Instant::now();
        // Dropped by a thread that ended: whatever it kept is kept.
        let _ = tokio::time::timeout(VISIT, elsewhere.freshen(number)).await;
        let rests = (began.elapsed() * RESTS).clamp(REST[0], REST[1]);
        visits.insert(number, Visit { ended: Instant::now(), rests });
    }
}

/// The first log that is to be read on.
fn next(elsewhere: &Elsewhere, me: HubName, visits: &BTreeMap<u16, Visit>) -> Option<u16> {
    let seen = elsewhere.seen();
    let members: Vec<_> = seen.hubs.iter().map(|row| row.member).collect();
    let duties = duties(me, &members, &seen.logs, &elsewhere.warm());
    let others = duties.into_iter().chain(elsewhere.along()).filter(|number| !elsewhere.is_here(*number));
    let mut due = others.filter(|number| {
        let since = visits.get(number).map(|visit| visit.ended.elapsed());
        let rests = visits.get(number).map_or(Duration::ZERO, |visit| visit.rests);
        let lacks = elsewhere.kept(*number).map(|kept| kept.lacks(elsewhere.end_of(*number)));
        since.is_none_or(|since| since >= rests) && is_due(lacks, since)
    });
    due.next()
}

/// Whether a log is read on that has so many entries and bytes beyond its images (`None`: there are none) and was read on so long ago.
fn is_due(lacks: Option<(u64, u64)>, since: Option<Duration>) -> bool {
    let after = |wait: Duration| since.is_none_or(|since| since >= wait);
    match lacks {
        None => after(TRY_AGAIN),
        Some((0, _)) => false,
        Some((entries, bytes)) => entries >= DUE_ENTRIES || bytes >= DUE_BYTES || after(DUE_AFTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_on_when_there_is_enough_or_after_a_while() {
        let ago = |seconds| Some(Duration::from_secs(seconds));
        assert!(is_due(None, None) && is_due(None, ago(30)) && !is_due(None, ago(29)));
        assert!(!is_due(Some((0, 0)), None) && !is_due(Some((0, 0)), ago(9_000)));
        assert!(is_due(Some((1, 600)), None) && is_due(Some((1, 600)), ago(300)));
        assert!(!is_due(Some((8_191, 4_000)), ago(10)) && is_due(Some((8_192, 4_000)), ago(10)));
        assert!(is_due(Some((10, 2 << 20)), ago(10)));
    }
}
