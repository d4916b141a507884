//! Holds the engine's books against those of the plain model (`books_model`), says where they differ, and looks for the
//! smallest set that still differs. It corrects nothing and forgives nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use engine::ledger::{Books, Standing as Stands};
use engine::policy::Policy;

use crate::books_model::{ModelBooks, ModelCase, Standing, project};
use crate::sets::{Arrival, books_of};

/// The engine's books in the model's words, for the records that the model knows.
#[must_use]
pub fn in_plain_words(books: &Books, like: &ModelBooks) -> ModelBooks {
    let mut plain = ModelBooks::default();
    for ((account, currency), amount) in books.balances() {
        if amount != 0 {
            plain.balances.insert((account.to_string(), currency), amount);
        }
    }
    let cases = books.cases().map(|case| ModelCase {
        case_type: case.key.case_type.as_str().to_owned(),
        subject: case.key.subject.clone(),
        members: case.members.iter().copied().collect(),
        held: case.held.iter().map(|(id, reason)| (*id, reason.as_str().to_owned())).collect(),
        state: case.state.as_str().to_owned(),
    });
    plain.cases = cases.collect();
    plain.cases.sort();
    for (id, standing) in &like.standing {
        if let Some(found) = books.standing(id) {
            plain.standing.insert(*id, same_words(*standing, found));
        }
        let mut sheet: BTreeMap<_, i128> = BTreeMap::new();
        for posting in books.postings_of(id) {
            let account = (posting.account.to_string(), posting.currency);
            *sheet.entry(account).or_default() += i128::from(posting.amount_minor);
        }
        plain.postings.insert(*id, sheet);
    }
    plain
}

/// The engine has fewer words for where a record stands: a following void is posted there.
fn same_words(model: Standing, engine: Stands) -> Standing {
    match engine {
        Stands::Posted if model == Standing::Following => Standing::Following,
        Stands::Posted => Standing::Posted,
        Stands::InReview => Standing::Held,
        Stands::Removed => Standing::Removed,
        Stands::NotPosted => Standing::Stated,
    }
}

/// Every difference between two books, in words; empty if they are the same.
#[must_use]
pub fn differences(engine: &ModelBooks, model: &ModelBooks) -> Vec<String> {
    let mut found = Vec::new();
    let by_key = |books: &ModelBooks| -> BTreeMap<(String, String), ModelCase> {
        books
            .cases
            .iter()
            .map(|case| ((case.case_type.clone(), case.subject.clone()), case.clone()))
            .collect()
    };
    differing(&mut found, "case", &by_key(engine), &by_key(model));
    differing(&mut found, "postings of", &engine.postings, &model.postings);
    differing(&mut found, "standing of", &engine.standing, &model.standing);
    differing(&mut found, "balance of", &engine.balances, &model.balances);
    found
}

fn differing<K: Ord + Debug, V: PartialEq + Debug>(
    found: &mut Vec<String>,
    what: &str,
    engine: &BTreeMap<K, V>,
    model: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = engine.keys().chain(model.keys()).collect();
    for key in keys {
        let (ours, theirs) = (engine.get(key), model.get(key));
        if ours != theirs {
            found.push(format!("{what} {key:?}:\n  engine {ours:?}\n  model  {theirs:?}"));
        }
    }
}

/// Projects some records by engine and by model, and says where the two differ.
#[must_use]
pub fn disagreements(arrivals: &[Arrival], policy: &Policy) -> Vec<String> {
    let model = project(arrivals, policy);
    differences(&in_plain_words(&books_of(arrivals, policy), &model), &model)
}

/// The story of a disagreement: the smallest part of the set that still differs, record by record, and how.
#[must_use]
pub fn smallest_story(arrivals: &[Arrival], policy: &Policy) -> String {
    let mut left = arrivals.to_vec();
    let mut at = 0;
    while at < left.len() {
        let mut less = left.clone();
        less.remove(at);
        if disagreements(&less, policy).is_empty() {
            at += 1;
        } else {
            (left, at) = (less, 0);
        }
    }
    let mut story = String::new();
    for (record, seen) in &left {
        // Writing into a string cannot fail.
        let _ = writeln!(story, "{record:?}\n  had seen {seen:?}");
    }
    for line in disagreements(&left, policy) {
        let _ = writeln!(story, "** {line}");
    }
    story
}
