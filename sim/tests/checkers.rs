//! Each check breaks once on purpose and complains: a check that cannot fail proves nothing. First everything is as it
//! should be and the check is content; then one thing is changed.

use std::sync::Arc;

use engine::ids::RecordId;
use engine::ledger::Books;
use engine::policy::Policy;
use engine::record::Record;
use engine::replica::Receipt;
use engine::scenario::read;
use engine::transaction::Draft;
use serde_json::{Value, json};
use sim::checks::{self, Broken};
use sim::disk::Disk;
use sim::drafts;
use sim::kpis;
use sim::scenario::{Item, Paid};
use sim::truth::{Rung, Sale, Truth};
use sim::world::{Delays, HUB, World};

const ITEMS: [Item; 1] = [Item { pieces: 2, price_minor: 600 }];

fn policy() -> Policy {
    Policy { currencies: vec!["GBP".parse().unwrap()], ..Policy::default() }
}

/// A hub and two tills, connected and level.
fn shop() -> (World, Truth) {
    let tills = ["till-01".to_owned(), "till-02".to_owned()];
    let mut world = World::new(&tills, Delays { link_ms: (1, 20), disk_ms: (1, 3) }, &policy(), 7);
    world.connect("till-01", HUB);
    world.connect("till-02", HUB);
    world.run_for(5_000);
    (world, Truth::default())
}

/// Something that is acknowledged and known to be.
fn record(world: &mut World, truth: &mut Truth, till: &str, draft: Draft) -> Receipt {
    let rung = Rung::of(&draft.transaction);
    let token = world.capture(till, draft);
    world.run_for(2_000);
    let answered = world.node(till).answers[&token].clone().unwrap();
    truth.acknowledge(till, &answered.receipt, answered.id);
    truth.rung.entry(till.to_owned()).or_default().insert(answered.seq, rung);
    answered
}

/// A sale that is acknowledged and known to be.
fn ring(world: &mut World, truth: &mut Truth, till: &str, receipt: &str, paid: Paid) -> Sale {
    let answered = record(world, truth, till, drafts::sale(receipt, &ITEMS, paid, None, 0));
    let sale = Sale {
        till: till.to_owned(),
        id: answered.id,
        receipt: receipt.to_owned(),
        items: ITEMS.to_vec(),
        paid,
        key: None,
        tip_minor: 0,
        returned: 0,
        voids: 0,
        reversals: Vec::new(),
        outcome: None,
    };
    truth.sales.insert(receipt.to_owned(), sale.clone());
    sale
}

fn hub(world: &World) -> &Books {
    world.nodes[HUB].replica().books()
}

#[track_caller]
fn complains(result: Result<(), Broken>, invariant: &str) {
    assert_eq!(result.expect_err("a check that complains").invariant, invariant);
}

/// The books of a story in the form of `golden.json`.
fn told(records: &Value) -> Books {
    read(&json!([{ "name": "story", "config": {}, "records": records }]).to_string()).unwrap().remove(0).run()
}

#[test]
fn all_is_well_in_a_shop_where_nothing_is_broken() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    assert_eq!(checks::at_the_end(&mut world, &truth), Ok(()));
    assert!(checks::is_level(&world));
}

#[test]
fn one_changed_balance_unbalances_the_books_the_journal_and_suspense() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    let mut balances = hub(&world).balances();
    let disk = world.backup(HUB);
    checks::balances_to_zero(HUB, &balances).unwrap();
    checks::journal_adds_up(&disk, &balances).unwrap();
    *balances.values_mut().next().unwrap() += 1;
    complains(checks::balances_to_zero(HUB, &balances), "the trial balance is zero");
    complains(checks::journal_adds_up(&disk, &balances), "the journal adds up to the books");
    let mut balances = hub(&world).balances();
    checks::suspense_explains_itself(hub(&world), &balances).unwrap();
    let account = engine::ledger::Account::SuspenseSales;
    balances.insert((account, "GBP".parse().unwrap()), 1);
    complains(checks::suspense_explains_itself(hub(&world), &balances), "suspense explains itself");
}

#[test]
fn a_journal_that_lost_its_end_does_not_add_up() {
    let (mut world, mut truth) = shop();
    let before = world.backup(HUB);
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    complains(checks::journal_adds_up(&before, &hub(&world).balances()), "the journal adds up to the books");
}

#[test]
fn a_till_that_missed_a_batch_is_not_level_and_holds_other_documents() {
    let (mut world, mut truth) = shop();
    world.cut("till-02", HUB);
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    let found = checks::not_level(&world);
    assert!(
        matches!(found.as_slice(), [only] if only.starts_with("till-02 holds other batches")),
        "{found:?}"
    );
    complains(checks::same_everywhere(&mut world), "every node holds the same documents");
}

#[test]
fn a_till_that_judges_the_same_records_by_another_rule_has_other_books() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::same_everywhere(&mut world).unwrap();
    world.policy.currencies = vec!["EUR".parse().unwrap()];
    world.crash("till-02");
    world.run_for(1_000);
    complains(checks::same_everywhere(&mut world), "every node has the same books");
}

#[test]
fn a_hub_that_lost_its_disk_is_believed_to_hold_more_than_it_does() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    world.cut("till-01", HUB);
    world.cut("till-02", HUB);
    checks::at_every_turn(&world, &truth).unwrap();
    world.restore(HUB, Disk::default());
    complains(checks::at_every_turn(&world, &truth), "custody says what is so");
}

#[test]
fn a_till_that_once_believed_too_much_is_remembered() {
    let (mut world, truth) = shop();
    world.overstated.insert("till-01".to_owned(), "1 of 0".to_owned());
    complains(checks::at_every_turn(&world, &truth), "custody says what is so");
}

#[test]
fn what_was_acknowledged_and_is_removed_is_missed_at_the_till_and_at_the_hub() {
    let (mut world, mut truth) = shop();
    world.cut("till-01", HUB);
    let empty = world.backup("till-01");
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::at_every_turn(&world, &truth).unwrap();
    world.restore("till-01", empty);
    complains(
        checks::at_every_turn(&world, &truth),
        "what was acknowledged is held where it was acknowledged",
    );
    complains(checks::acknowledged_once(hub(&world), &truth), "what was acknowledged is in the books");
    truth.destroyed.insert("R-1".to_owned());
    checks::at_every_turn(&world, &truth).unwrap();
    checks::acknowledged_once(hub(&world), &truth).unwrap();
}

#[test]
fn one_receipt_with_two_records_is_seen() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::acknowledged_once(hub(&world), &truth).unwrap();
    ring(&mut world, &mut truth, "till-02", "R-1", Paid::Cash);
    complains(checks::acknowledged_once(hub(&world), &truth), "what was acknowledged is in the books once");
}

#[test]
fn a_lie_that_got_in_is_seen() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "LIE-1", Paid::Cash);
    truth.lies.insert("LIE-1".to_owned());
    complains(checks::at_every_turn(&world, &truth), "what a liar brings is never seen");
}

#[test]
fn a_batch_that_the_document_lacks_is_missed() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    let before = world.backup(HUB);
    world.node(HUB).document_heads().unwrap();
    checks::documents_hold_the_batches(&before, world.nodes[HUB].replica()).unwrap();
    ring(&mut world, &mut truth, "till-01", "R-2", Paid::Cash);
    // Automerge was not given the second batch yet.
    let after = world.backup(HUB);
    complains(
        checks::documents_hold_the_batches(&after, world.nodes[HUB].replica()),
        "the documents hold every batch",
    );
}

#[test]
fn mischief_that_nobody_flags_escapes_no_check() {
    let (mut world, mut truth) = shop();
    let sale = ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::conflicts_are_flagged(hub(&world), &truth).unwrap();
    truth.sales.insert("R-1".to_owned(), Sale { voids: 2, ..sale.clone() });
    complains(checks::conflicts_are_flagged(hub(&world), &truth), "every planted conflict is flagged");
    let keyed =
        |receipt: &str| Sale { receipt: receipt.to_owned(), key: Some("K".to_owned()), ..sale.clone() };
    truth.sales.insert("R-1".to_owned(), keyed("R-1"));
    truth.sales.insert("R-2".to_owned(), keyed("R-2"));
    complains(checks::conflicts_are_flagged(hub(&world), &truth), "every basket rung twice is flagged");
    truth.sales.clear();
    truth.sales.insert("R-1".to_owned(), Sale { outcome: Some(false), ..sale });
    complains(checks::conflicts_are_flagged(hub(&world), &truth), "every failed payment is flagged");
}

#[test]
fn an_honest_sale_that_is_held_is_seen() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::honest_is_not_held(hub(&world), &truth).unwrap();
    world.policy.currencies = vec!["EUR".parse().unwrap()];
    world.crash(HUB);
    complains(checks::honest_is_not_held(hub(&world), &truth), "nothing honest is held");
}

#[test]
fn a_z_that_states_other_cash_than_was_taken_is_seen() {
    let at = |time: &str| format!("2026-11-23T{time}:00Z");
    let books = told(&json!([
        {"id": "S1", "terminal": "till-01", "inc": 1, "seq": 1, "kind": "sale", "at": at("10:00"),
         "business_day": "2026-11-23", "store": "s1", "receipt": "S1", "currency": "GBP",
         "lines": [{"n": 1, "sku": "A", "qty": 2, "amount": 10_800, "tax": 1_800}],
         "tenders": [{"type": "cash", "amount": 10_800}]},
        {"id": "Z1", "terminal": "till-01", "inc": 1, "seq": 2, "kind": "close", "at": at("18:00"),
         "business_day": "2026-11-23", "store": "s1", "expected_cash": 12_000, "counted_cash": 12_000}]));
    let mut truth = Truth::default();
    complains(checks::closes_agree(&books, &truth), "the Z of an honest till agrees");
    truth.suspicious.insert("till-01".to_owned());
    checks::closes_agree(&books, &truth).unwrap();
}

#[test]
fn an_effect_that_stands_before_its_cause_is_seen() {
    let sale = |id: &str, till: &str, time: &str, seen: Value| {
        json!({"id": id, "terminal": till, "inc": 1, "seq": 1, "kind": "sale", "at": format!("2026-11-23T{time}:00Z"),
            "business_day": "2026-11-23", "store": "s1", "receipt": id, "currency": "GBP", "seen": seen,
            "lines": [{"n": 1, "sku": "A", "qty": 1, "amount": 600, "tax": 100}],
            "tenders": [{"type": "cash", "amount": 600}]})
    };
    let records = json!([
        sale("S1", "till-01", "10:00", json!({})),
        sale("S2", "till-02", "09:59", json!({"till-01/1": 1}))
    ]);
    let story = json!([{ "name": "story", "config": {}, "records": records }]).to_string();
    let story = read(&story).unwrap().remove(0);
    // Capture puts the second sale after the first, although its clock is behind.
    checks::causes_come_first(&story.run()).unwrap();
    let mut books = story.books();
    for (record, seen) in &story.records {
        let by_its_clock = Record { effective_ms: record.at.ms, ..(**record).clone() };
        books.insert(Arc::new(by_its_clock), seen);
    }
    complains(checks::causes_come_first(&books), "causes come before effects");
}

#[test]
fn a_model_with_another_rule_disagrees() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    checks::model_agrees(&policy(), hub(&world)).unwrap();
    let other = Policy { currencies: vec!["EUR".parse().unwrap()], ..Policy::default() };
    complains(checks::model_agrees(&other, hub(&world)), "the plain model of the rules agrees");
    assert_ne!(truth.acknowledged["R-1"].0, RecordId::default());
}

#[test]
fn an_arrival_told_a_minute_late_is_seen() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    kpis::latency_is_true(&world, &truth).unwrap();
    let (now_ms, right) = (world.now_ms, world.nodes[HUB].clock);
    world.node(HUB).clock.set(now_ms, now_ms + 60_000);
    ring(&mut world, &mut truth, "till-01", "R-2", Paid::Cash);
    world.node(HUB).clock = right;
    complains(kpis::latency_is_true(&world, &truth), kpis::LATENCY);
}

#[test]
fn a_commit_told_by_a_wrong_clock_that_nobody_admits_is_seen() {
    let (mut world, mut truth) = shop();
    let (now_ms, right) = (world.now_ms, world.nodes["till-01"].clock);
    world.node("till-01").clock.set(now_ms, now_ms + 60_000);
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    world.node("till-01").clock = right;
    complains(kpis::latency_is_true(&world, &truth), kpis::LATENCY);
    truth.suspicious.insert("till-01".to_owned());
    kpis::latency_is_true(&world, &truth).unwrap();
}

#[test]
fn a_number_that_the_hub_does_not_count_is_seen() {
    let (mut world, mut truth) = shop();
    ring(&mut world, &mut truth, "till-01", "R-1", Paid::Cash);
    kpis::captures_are_true(&world, &truth).unwrap();
    world.cut("till-01", HUB);
    ring(&mut world, &mut truth, "till-01", "R-2", Paid::Cash);
    complains(kpis::captures_are_true(&world, &truth), kpis::CAPTURES);
}

#[test]
fn a_z_whose_sum_is_off_by_a_penny_is_seen() {
    let (mut world, mut truth) = shop();
    for (receipt, paid) in [("R-1", Paid::Cash), ("R-2", Paid::Split)] {
        ring(&mut world, &mut truth, "till-01", receipt, paid);
    }
    record(&mut world, &mut truth, "till-01", drafts::close("Z-1"));
    kpis::reconciliation_is_true(&world, &truth).unwrap();
    let rung = truth.rung.get_mut("till-01").and_then(|rung| rung.get_mut(&2)).unwrap();
    assert_eq!(rung.figures.keys().collect::<Vec<_>>(), ["tax", "tender card", "tender cash"]);
    *rung.figures.get_mut("tender card").unwrap() += 1;
    complains(kpis::reconciliation_is_true(&world, &truth), kpis::RECONCILIATION);
}
