//! Holds the engine's books against those of the plain model (`books_model`), and says where they differ. It corrects
//! nothing and forgives nothing.

use std::collections::BTreeMap;

use engine::ledger::{Books, Standing as Stands};

use crate::books_model::{ModelBooks, ModelCase, Standing};

/// The engine's books in the model's words, for records of a set.
#[must_use]
pub fn in_plain_words(books: &Books, like: &ModelBooks) -> ModelBooks {
    let mut plain = ModelBooks::default();
    for ((account, currency), amount) in books.balances() {
        if amount != 0 {
            plain.balances.insert((account.to_string(), currency), amount);
        }
    }
    plain.cases = books
        .cases()
        .map(|case| ModelCase {
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            members: case.members.iter().copied().collect(),
            held: case.held.iter().map(|(id, reason)| (*id, reason.as_str().to_owned())).collect(),
            state: case.state.as_str().to_owned(),
        })
        .collect();
    plain.cases.sort();
    for (id, standing) in &like.standing {
        let found = books.standing(id);
        if let Some(found) = found {
            plain.standing.insert(*id, same_words(*standing, found));
        }
        let postings: BTreeMap<_, i128> = books
            .postings_of(id)
            .iter()
            .map(|posting| {
                ((posting.account.to_string(), posting.currency), i128::from(posting.amount_minor))
            })
            .collect();
        plain.postings.insert(*id, postings);
    }
    plain
}

/// The engine has fewer words for where a record stands: a following void is posted there.
fn same_words(model: Standing, engine: Stands) -> Standing {
    match engine {
        Stands::Posted if model == Standing::Following => Standing::Following,
        Stands::InReview => Standing::Held,
        Stands::Removed => Standing::Removed,
        Stands::NotPosted => Standing::Stated,
        Stands::Posted => Standing::Posted,
    }
}

/// Every difference between two books, in words; empty if they are the same.
#[must_use]
pub fn differences(engine: &ModelBooks, model: &ModelBooks) -> Vec<String> {
    let mut found = Vec::new();
    let mut engine_cases = engine.cases.clone();
    let mut model_cases = model.cases.clone();
    engine_cases.sort();
    model_cases.sort();
    for case in engine_cases.iter().filter(|case| !model_cases.contains(case)) {
        found.push(format!("only the engine has {case:?}"));
    }
    for case in model_cases.iter().filter(|case| !engine_cases.contains(case)) {
        found.push(format!("only the model has {case:?}"));
    }
    differing(&mut found, "postings of", &engine.postings, &model.postings);
    differing(&mut found, "standing of", &engine.standing, &model.standing);
    differing(&mut found, "balance of", &engine.balances, &model.balances);
    found
}

fn differing<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    found: &mut Vec<String>,
    what: &str,
    engine: &BTreeMap<K, V>,
    model: &BTreeMap<K, V>,
) {
    let keys: std::collections::BTreeSet<&K> = engine.keys().chain(model.keys()).collect();
    for key in keys {
        let (ours, theirs) = (engine.get(key), model.get(key));
        if ours != theirs {
            found.push(format!("{what} {key:?}: engine {ours:?}, model {theirs:?}"));
        }
    }
}
