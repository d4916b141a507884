//! Stage B of LEDGER-RULES section 5: the integrity of each log. Decisions lift holds later; what a fork or a broken
//! chain *is* does not depend on them.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::{LogId, RecordId};
use engine::record::Record;

use super::judgement::Judgement;

/// Stage B.
pub(super) fn judge(books: &mut Judgement<'_>) {
    for log in books.set.logs() {
        judge_log(books, &log);
    }
    known_and_absent(books);
    revocations(books);
}

/// B1 to B4, from number 1 upwards. A record that descends from one held here belongs to the same case.
fn judge_log(books: &mut Judgement<'_>, log: &LogId) {
    let mut held_at: BTreeMap<RecordId, (&'static str, u64)> = BTreeMap::new();
    let numbers: BTreeSet<u64> =
        books.set.of_tills().filter(|record| record.log == *log).map(|record| record.seq).collect();
    for seq in numbers {
        let here = books.set.at(log, seq);
        let before = if seq > 1 { books.set.at(log, seq - 1) } else { Vec::new() };
        let after = books.set.at(log, seq + 1);
        // B3
        if seq > 1 && before.is_empty() {
            let ids: Vec<RecordId> = here.iter().map(|record| record.id).collect();
            books.flag("SEQUENCE_GAP", point(log, seq - 1), &ids);
        }
        let locked = |record: &Record| books.set.rank_of_lock.contains_key(&record.id);
        let (mut found, mut rivals) = (Vec::new(), Vec::new());
        for record in &here {
            let parent = record.prev.and_then(|prev| held_at.get(&prev)).copied();
            let follows = before.iter().any(|one| Some(one.id) == record.prev);
            // B4: what contradicts a locked record is the one that is held.
            let contradicts = after.iter().any(|next| locked(next) && next.prev != Some(record.id));
            match parent {
                Some(cause) if follows => found.push((*record, cause)),
                _ => rivals.push((*record, (!before.is_empty() && !follows) || contradicts)),
            }
        }
        // B1: the branch whose first record is lowest by (rank, at, id) stays. One that is broken (B2) as well never
        // wins over a sound one, and is listed as a branch of the fork (silent).
        rivals.sort_by_key(|(record, broken)| (books.set.lock_of(record), *broken, record.at.ms, record.id));
        for (place, (record, broken)) in rivals.iter().enumerate() {
            if place > 0 {
                found.push((record, ("CLONED_TERMINAL", seq)));
            } else if *broken {
                found.push((record, ("BROKEN_CHAIN", seq)));
            }
        }
        found.retain(|row| !locked(row.0));
        held_at.extend(found.iter().map(|row| (row.0.id, row.1)));
        let standing = here.iter().filter(|record| !held_at.contains_key(&record.id));
        let stays = standing
            .min_by_key(|record| (books.set.lock_of(record), record.at.ms, record.id))
            .map(|record| record.id);
        for (record, (reason, from)) in found {
            let winner: Vec<RecordId> =
                stays.into_iter().filter(|_| reason == "CLONED_TERMINAL" && from == seq).collect();
            books.hold(record, reason, point(log, from), &winner);
        }
    }
}

/// B3, for the end of a log: section 15 counts numbers known from any source, so a number that somebody had seen
/// beyond the last one here is missing as well. (The subject is the last missing number, as in a gap.)
fn known_and_absent(books: &mut Judgement<'_>) {
    for (log, known) in books.set.highest_known() {
        if books.set.at(&log, known).is_empty() {
            books.flag("SEQUENCE_GAP", point(&log, known), &[]);
        }
    }
}

/// B5.
fn revocations(books: &mut Judgement<'_>) {
    let later: Vec<&Record> = books.set.of_tills().filter(|record| books.set.is_revoked(record)).collect();
    for record in later {
        books.hold(record, "REVOKED_TERMINAL", record.log.terminal.to_string(), &[]);
    }
}

/// A point in a log, as the subject of a case.
pub(super) fn point(log: &LogId, seq: u64) -> String {
    format!("{log}:{seq}")
}
