//! Random worlds (`world`): whatever the order, the splits and the redeliveries, the books are those of the set, the
//! journal adds up to them, everything balances, and suspense is explained by cases.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::world::World;
use crate::codec;
use crate::ids::RecordId;
use crate::ledger::{Account, Books, JournalEntry, Sheet};
use crate::time::Day;
use crate::transaction::Kind;

const TODAY: Day = Day(20_780);

fn same(a: &Books, b: &Books, what: &str) {
    let differing: Vec<_> = a.cases().filter(|case| !b.cases().any(|other| other == *case)).collect();
    let missing: Vec<_> = b.cases().filter(|case| !a.cases().any(|other| other == *case)).collect();
    assert!(differing.is_empty() && missing.is_empty(), "{what}: {differing:#?} against {missing:#?}");
    assert_eq!(a.balances(), b.balances(), "{what}");
    assert_eq!(a.view_hash(), b.view_hash(), "{what}");
}

/// I7 and the chain: the journal, summed up, is what the books require.
fn journal_adds_up(books: &Books, journal: &[JournalEntry], world: &World) {
    let mut sums: BTreeMap<RecordId, Sheet> = BTreeMap::new();
    let mut prev = [0; 32];
    for (entry, number) in journal.iter().zip(1..) {
        assert_eq!((entry.number, entry.prev, entry.hash), (number, prev, entry.expected_hash()));
        prev = entry.hash;
        let mut own = Sheet::default();
        own.add_all(&entry.postings, 1);
        assert!(own.sums().values().all(|sum| *sum == 0), "I1: an entry balances");
        sums.entry(entry.record).or_default().add_all(&entry.postings, 1);
    }
    for (record, _) in &world.arrivals {
        let posted = sums.remove(&record.id).unwrap_or_default().postings();
        assert_eq!(posted, books.postings_of(&record.id), "I7");
    }
}

/// I3, I6: every record stands somewhere, and what is in suspense has a case that says why.
fn suspense_is_explained(books: &Books, world: &World) {
    for (record, _) in &world.arrivals {
        assert!(books.standing(&record.id).is_some(), "I3");
        let waits = books.postings_of(&record.id).iter().any(|posting| posting.account.is_suspense());
        let named = books.cases().any(|case| case.members.contains(&record.id));
        // A void that follows a held record nets it: the case is that of its target. A void whose mirror is not
        // here holds nothing itself.
        let void = record.transaction.kind() == Kind::Void;
        assert!(!waits || named || void, "I6: {:?} {:?}", record.id, books.postings_of(&record.id));
    }
}

/// I4: no more comes back of a sale than was sold (returns that a reviewer approved without it aside).
fn returns_fit_sales(books: &Books, world: &World) {
    let mut back: BTreeMap<RecordId, i64> = BTreeMap::new();
    for (record, _) in &world.arrivals {
        let Some(original) = record.transaction.original() else { continue };
        let approved = books.cases().any(|case| case.held.contains_key(&record.id));
        let Some(target) = books.resolve(original).filter(|_| !approved) else { continue };
        let returned = |posting: &&crate::ledger::Posting| {
            matches!(posting.account, Account::Returns | Account::SalesTax(_))
        };
        if record.transaction.kind() == Kind::Refund {
            let postings = books.postings_of(&record.id).iter().filter(returned);
            *back.entry(target).or_default() += postings.map(|posting| posting.amount_minor).sum::<i64>();
        } else if let Some(refund) = books.record(&target).filter(|of| of.transaction.kind() == Kind::Refund)
            && books.postings_of(&record.id).iter().any(|posting| posting.account == Account::Returns)
            && let Some(sale) = refund.transaction.original().and_then(|original| books.resolve(original))
        {
            let postings = books.postings_of(&record.id).iter().filter(returned);
            *back.entry(sale).or_default() += postings.map(|posting| posting.amount_minor).sum::<i64>();
        }
    }
    for (sale, returned) in back {
        let Some(sold) = books.record(&sale).and_then(|sale| sale.transaction.basket()) else { continue };
        let gross: i64 = sold.lines.iter().map(|line| line.gross_minor().max(0)).sum();
        assert!(returned <= gross, "I4: {returned} of {gross}");
    }
}

fn check(seed: u64, steps: usize) {
    let mut world = World::new(seed, steps);
    let mut whole = world.books();
    for (record, seen) in &world.arrivals {
        whole.insert(Arc::clone(record), seen);
    }
    let settled = whole.settle(TODAY);
    journal_adds_up(&whole, &settled.journal, &world);
    suspense_is_explained(&whole, &world);
    returns_fit_sales(&whole, &world);
    assert!(whole.trial_balance().values().all(|(debits, credits)| debits == credits), "I1");

    for round in 0..2 {
        let (mut books, mut journal, mut held) = (world.books(), Vec::new(), Vec::new());
        for (record, seen) in world.shuffled() {
            books.insert(Arc::clone(&record), &seen);
            held.push((record, seen));
            if world.pick(3) == 0 {
                journal.extend(books.settle(TODAY).journal);
                same(&books, &books.rebuild(TODAY), "incremental against rebuilt");
            }
            if round == 1 && world.pick(20) == 0 {
                journal.extend(books.settle(TODAY).journal);
                books = restarted(&books, &held, &world);
            }
        }
        journal.extend(books.settle(TODAY).journal);
        same(&books, &whole, "I2: another order");
        journal_adds_up(&books, &journal, &world);
    }
}

/// Through the checkpoint and back, with the image as bytes.
fn restarted(books: &Books, held: &[super::world::Arrival], world: &World) -> Books {
    let days = books.day_hashes().into_keys().map(|day| books.day_part(day)).collect::<Vec<_>>();
    let bytes = codec::encode(&(books.shared_part(), days));
    let (shared, days) = codec::decode::<_, 10_000_000>(&bytes).unwrap();
    let mut seen_ids = std::collections::BTreeSet::new();
    let distinct: Vec<_> = held.iter().filter(|row| seen_ids.insert(row.0.id)).cloned().collect();
    let policy = world.books();
    let again =
        Books::restore(policy.store().clone(), world.policy().clone(), &distinct, shared, days).unwrap();
    same(&again, books, "restored");
    again
}

#[test]
fn random_worlds_give_the_same_books_in_every_order() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: cases(), failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let worlds = (any::<u64>(), 5usize..60);
    runner
        .run(&worlds, |(seed, steps)| {
            check(seed, steps);
            Ok(())
        })
        .unwrap();
}

fn cases() -> u32 {
    std::env::var("TILLSYNC_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}
