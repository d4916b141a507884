//! Stage B of LEDGER-RULES section 5: the integrity of each log. Decisions lift holds later; what a fork or a broken
//! chain *is* does not depend on them.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::{LogId, RecordId};
use engine::record::Record;
use engine::transaction::HubRecord;

use super::judgement::Judgement;
use super::set::UNLOCKED;

/// Stage B.
pub(super) fn judge(books: &mut Judgement<'_>) {
    for log in books.set.logs() {
        judge_log(books, &log);
    }
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
        // B3
        if seq > 1 && before.is_empty() {
            let ids: Vec<RecordId> = here.iter().map(|record| record.id).collect();
            books.flag("SEQUENCE_GAP", point(log, seq - 1), &ids);
        }
        let locked = |record: &Record| books.set.rank_of_lock.contains_key(&record.id);
        // Descendants of what is held
        let mut heirs = Vec::new();
        for record in &here {
            let parent = record.prev.and_then(|prev| held_at.get(&prev)).copied();
            if let Some(cause) = parent.filter(|_| !locked(record)) {
                held_at.insert(record.id, cause);
                heirs.push((*record, cause));
            }
        }
        // B2, with B4: if the later one is locked, what contradicts it is held instead
        let mut broken = Vec::new();
        for record in here.iter().filter(|record| !held_at.contains_key(&record.id)) {
            let contradicts = !before.is_empty() && !before.iter().any(|one| Some(one.id) == record.prev);
            if contradicts && !locked(record) {
                broken.push(*record);
            }
        }
        // B1: the branch whose first record is lowest by (rank, at, id) stays
        let mut rivals: Vec<&Record> =
            here.iter().copied().filter(|record| !held_at.contains_key(&record.id)).collect();
        rivals.retain(|record| !broken.iter().any(|one| one.id == record.id));
        let rank = |record: &Record| books.set.rank_of_lock.get(&record.id).copied().unwrap_or(UNLOCKED);
        rivals.sort_by_key(|record| (rank(record), record.at.ms, record.id));
        let losers: Vec<&Record> = rivals.iter().skip(1).copied().filter(|record| !locked(record)).collect();
        let first: Vec<RecordId> = rivals.first().map(|record| record.id).into_iter().collect();
        for (record, cause) in heirs {
            books.hold(record, cause.0, point(log, cause.1), &[]);
        }
        for record in broken {
            held_at.insert(record.id, ("BROKEN_CHAIN", seq));
            books.hold(record, "BROKEN_CHAIN", point(log, seq), &[]);
        }
        for record in losers {
            held_at.insert(record.id, ("CLONED_TERMINAL", seq));
            books.hold(record, "CLONED_TERMINAL", point(log, seq), &first);
        }
    }
}

/// B5.
fn revocations(books: &mut Judgement<'_>) {
    for (_, statement) in books.set.hub_statements() {
        let HubRecord::Revoke { terminal, incarnation, last_valid_seq } = statement else { continue };
        let later: Vec<&Record> = books
            .set
            .of_tills()
            .filter(|record| record.log.terminal == *terminal)
            .filter(|record| incarnation.is_none_or(|one| one == record.log.incarnation))
            .filter(|record| record.seq > *last_valid_seq)
            .collect();
        for record in later {
            let known = books.holds_of(&record.id).iter().any(|hold| hold.reason == "REVOKED_TERMINAL");
            if !known {
                books.hold(record, "REVOKED_TERMINAL", terminal.to_string(), &[]);
            }
        }
    }
}

/// A point in a log, as the subject of a case.
pub(super) fn point(log: &LogId, seq: u64) -> String {
    format!("{log}:{seq}")
}
