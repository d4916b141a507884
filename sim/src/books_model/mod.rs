//! A second model of the books, written from LEDGER-RULES.md alone: slow, plain, one pass per rule over one list of
//! records. It exists to disagree with the engine. It knows nothing of families, incremental settling, journals or
//! checkpoints, and it never imports the engine's ledger or review.
//!
//! Read it beside the rules: `set` is sections 3 and 4, `logs` stage B, `capture` stages C and D, `reversals` stage E,
//! `money` stage F and the money side of section 7, `advisories` and `close` stage G, `posting` stage H with sections 6
//! and 9, `cases` the states of section 8. Where the law is silent the comment says "silent" and what was done.

mod advisories;
mod capture;
mod cases;
mod close;
mod judgement;
mod logs;
mod money;
mod posting;
mod reversals;
mod set;

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::money::Currency;
use engine::policy::Policy;

pub use set::Arrival;

/// The books of a set of records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelBooks {
    /// Balance per account and currency, minor units, Dr +; no zeros.
    pub balances: BTreeMap<(String, Currency), i128>,
    /// Review cases, by type and subject.
    pub cases: Vec<ModelCase>,
    /// Where each record stands.
    pub standing: BTreeMap<RecordId, Standing>,
    /// Postings per record, no zeros.
    pub postings: BTreeMap<RecordId, BTreeMap<(String, Currency), i128>>,
}

/// A review case (LEDGER-RULES section 8).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ModelCase {
    /// Type, in the words of the rules.
    pub case_type: String,
    /// Subject.
    pub subject: String,
    /// Records it is about.
    pub members: BTreeSet<RecordId>,
    /// Members whose reason side is in suspense, or was until a reviewer decided; with the reason.
    pub held: BTreeMap<RecordId, String>,
    /// `open`, `decided` or `self-cancelled`.
    pub state: String,
}

/// Where a record stands (invariant I3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Posted and explained.
    Posted,
    /// Its reason side waits in suspense.
    Held,
    /// A void that follows a held record and nets it.
    Following,
    /// A reviewer judged that it never happened.
    Removed,
    /// A statement of the hub.
    Stated,
}

/// The books of a set of records: a pure function, whatever the order of the list and however often a record is in it.
#[must_use]
pub fn project(records: &[Arrival], policy: &Policy) -> ModelBooks {
    let mut books = judgement::Judgement::new(set::Set::new(records, policy));
    logs::judge(&mut books);
    capture::judge_structure(&mut books);
    capture::judge_duplicates(&mut books);
    reversals::judge(&mut books);
    capture::judge_differences(&mut books);
    capture::suspect(&mut books);
    posting::judge_cash_moves(&mut books);
    money::judge_payments(&mut books);
    advisories::judge(&mut books);
    close::judge(&mut books);

    let mut result = ModelBooks { cases: cases::close_up(&books), ..ModelBooks::default() };
    for (id, record) in &books.set.records {
        let sheet = posting::postings(&books, record);
        for (key, amount) in &sheet {
            *result.balances.entry(key.clone()).or_default() += amount;
        }
        result.standing.insert(*id, posting::standing(&books, record, id));
        result.postings.insert(*id, sheet);
    }
    result.balances.retain(|_, amount| *amount != 0);
    result
}
