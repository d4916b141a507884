//! The JSON form of what the APIs show (CONTRACT: amounts end in `_minor`, times are RFC 3339, days YYYY-MM-DD).
//! A transaction is shown in the form in which it is captured, so that what was read can be sent.

use std::collections::BTreeMap;

use engine::ids::RecordId;
use engine::ledger::{Account, Books, JournalEntry};
use engine::money::Currency;
use engine::record::Record;
use engine::replica::{Custody, CustodyStep, Receipt, Replica, Waiting};
use engine::review::Case;
use engine::transaction::{Basket, Body, CloseTotals, Line, LineFlag, Reference, Tender};
use serde_json::{Map, Value, json};

use crate::runtime::clock::{now_ms, rfc3339};

/// The answer to a capture; `repeated` if it was recorded before and this is the first answer again.
#[must_use]
pub fn receipt(receipt: &Receipt) -> Value {
    let mut view =
        json!({"receipt": receipt.receipt, "id": receipt.id, "seq": receipt.seq, "state": "saved"});
    if receipt.repeated {
        view["repeated"] = json!(true);
    }
    view
}

/// A record with its transaction in capture form.
#[must_use]
pub fn record(record: &Record) -> Value {
    let transaction = &record.transaction;
    let mut view = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            view.insert(key.to_owned(), value);
        }
    };
    put("id", json!(record.id));
    put("kind", json!(transaction.kind().as_str()));
    put("receipt", json!(transaction.receipt));
    put("store", json!(record.store));
    put("terminal", json!(record.log.terminal));
    put("incarnation", json!(record.log.incarnation));
    put("seq", json!(record.seq));
    put("business_day", json!(record.business_day));
    put("at", json!(record.at.to_string()));
    put("effective_at", json!(rfc3339(record.effective_ms)));
    put("operator", json!(transaction.operator));
    put("idempotency_key", json!(transaction.idempotency_key));
    put("offline", if transaction.offline { json!(true) } else { Value::Null });
    if let Some(lines_and_tenders) = transaction.basket() {
        basket(lines_and_tenders, &mut put);
    }
    match &transaction.body {
        Body::Refund { original, reason, approver, .. } => {
            put("original", original.as_ref().map_or(Value::Null, reference));
            put("reason", json!(reason));
            put("approver", json!(approver));
        }
        Body::Void { original, reverses, reason, approver, .. } => {
            put("original", original.as_ref().map_or(Value::Null, reference));
            put("reverses", json!(reverses));
            put("reason", json!(reason));
            put("approver", json!(approver));
        }
        Body::CashMove { movement, amount_minor, currency, reason } => {
            put("movement", json!(movement));
            put("amount_minor", json!(amount_minor));
            put("currency", json!(currency));
            put("reason", json!(reason));
        }
        Body::DayClose(close) => {
            put("z_number", json!(close.z_number));
            put("covers", json!(close.covers));
            put("totals", close.totals.iter().map(totals).collect());
        }
        Body::Hub(statement) => put("statement", json!(statement)),
        Body::Sale(_) => {}
    }
    Value::Object(view)
}

fn basket(basket: &Basket, put: &mut impl FnMut(&str, Value)) {
    put("currency", json!(basket.currency));
    put("lines", basket.lines.iter().map(line).collect());
    put("tenders", basket.tenders.iter().map(tender).collect());
    put("rounding_minor", json!(basket.rounding_minor));
    put("tip_minor", json!(basket.tip_minor));
    put("total_minor", json!(basket.total_minor()));
    put("tax_total_minor", json!(basket.tax_minor()));
}

fn line(line: &Line) -> Value {
    let mut view = json!({
        "line": line.number,
        "sku": line.sku,
        "quantity": line.quantity.to_string(),
        "discount_minor": line.discount_minor,
        "amount_minor": line.amount_minor,
        "tax_minor": line.tax_minor,
    });
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            view[key] = value;
        }
    };
    put("description", json!(line.description));
    put("unit_price_minor", json!(line.unit_price_minor));
    put("tax_code", json!(line.tax_code));
    put("tax_rate", json!(line.tax_rate.map(|rate| rate.to_string())));
    put("tax_exclusive", if line.adjustment.tax_exclusive { json!(true) } else { Value::Null });
    match line.flag {
        LineFlag::Item => {}
        LineFlag::ReturnInSale => put("return_in_sale", json!(true)),
        LineFlag::LineVoid => put("line_void", json!(true)),
        LineFlag::GiftCardSold => put("gift_card_sold", json!(true)),
    }
    if let Some(original) = &line.original {
        put("original", original.reference.as_ref().map_or(Value::Null, reference));
        put("original_line", json!(original.line));
    }
    view
}

fn tender(tender: &Tender) -> Value {
    let mut view =
        json!({"type": tender.tender, "amount_minor": tender.amount_minor, "status": tender.status});
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            view[key] = value;
        }
    };
    put("currency", json!(tender.currency));
    put("payment", json!(tender.payment));
    put("auth", json!(tender.auth));
    if let Some(card) = &tender.card {
        put("card_brand", json!(card.brand));
        put("card_last4", json!(card.last4));
        put("card_token", json!(card.token));
    }
    if let Some((tendered, change)) = tender.cash {
        put("tendered_minor", json!(tendered));
        put("change_minor", json!(change));
    }
    view
}

fn reference(reference: &Reference) -> Value {
    let mut view = Map::new();
    let Reference { id, store, terminal, receipt, seq } = reference;
    let fields = [
        ("id", json!(id)),
        ("store", json!(store)),
        ("terminal", json!(terminal)),
        ("receipt", json!(receipt)),
        ("seq", json!(seq)),
    ];
    view.extend(
        fields.into_iter().filter(|field| !field.1.is_null()).map(|(key, value)| (key.to_owned(), value)),
    );
    Value::Object(view)
}

fn totals(totals: &CloseTotals) -> Value {
    let sum = |it: &engine::transaction::CountSum| json!({"count": it.count, "sum_minor": it.sum_minor});
    json!({
        "currency": totals.currency,
        "sales": sum(&totals.sales),
        "refunds": sum(&totals.refunds),
        "voids": sum(&totals.voids),
        "tax": totals.tax.iter().map(|(code, minor)| json!({"tax_code": code, "tax_minor": minor})).collect::<Vec<_>>(),
        "tenders": totals.tenders.iter().map(|(kind, minor)| json!({"type": kind, "amount_minor": minor})).collect::<Vec<_>>(),
        "expected_cash_minor": totals.expected_cash_minor,
        "counted_cash_minor": totals.counted_cash_minor,
        "grand_total_minor": totals.grand_total_minor,
    })
}

/// Where a record is on the custody ladder.
#[must_use]
pub fn custody(record: &Record, custody: &Custody) -> Value {
    json!({
        "id": record.id,
        "receipt": record.transaction.receipt,
        "terminal": record.log.terminal,
        "seq": record.seq,
        "state": custody.state,
        "history": custody.history.iter().map(|(state, at)| json!({"state": state, "at": rfc3339(*at)})).collect::<Vec<_>>(),
    })
}

/// A record with its custody, its postings and the cases that name it; `exported` says when it was, ms.
#[must_use]
pub fn record_in_full(replica: &Replica, id: &RecordId, exported: Option<i64>) -> Option<Value> {
    let books = replica.books();
    let found = books.record(id)?;
    let mut ladder = replica.custody(id)?;
    if let Some(at) = exported {
        ladder.state = CustodyStep::Exported;
        ladder.history.push((CustodyStep::Exported, at));
    }
    let mut view = record(found);
    view["custody"] = custody(found, &ladder);
    view["postings"] = books.postings_of(id).iter().map(posting).collect();
    view["cases"] =
        books.cases().filter(|case| case.members.contains(id)).map(|case| json!(case.id)).collect();
    Some(view)
}

/// A posting.
#[must_use]
pub fn posting(posting: &engine::ledger::Posting) -> Value {
    json!({
        "account": posting.account.to_string(),
        "account_code": posting.account.code(),
        "currency": posting.currency,
        "amount_minor": posting.amount_minor,
    })
}

/// A case, as `cases --json` lists it.
#[must_use]
pub fn case(replica: &Replica, case: &Case) -> Value {
    let books = replica.books();
    let store = &replica.identity().store;
    let mut members: Vec<(&RecordId, Option<&std::sync::Arc<Record>>)> =
        case.members.iter().map(|id| (id, books.record(id))).collect();
    members.sort_by_key(|(id, record)| (record.map(|record| record.effective_ms), **id));
    let members: Vec<Value> = members
        .into_iter()
        .map(|(id, record)| {
            json!({
                "id": id,
                "receipt": record.map(|record| &record.transaction.receipt),
                "terminal": record.map(|record| &record.log.terminal),
                "seq": record.map(|record| record.seq),
                "kind": record.map(|record| record.transaction.kind()),
                "held": case.held.get(id).map(|reason| reason.as_str()),
            })
        })
        .collect();
    let policy = replica.policies().on(engine::time::Instant::utc(now_ms()).day());
    json!({
        "id": case.id,
        "type": case.key.case_type.as_str(),
        "subject": case.key.subject,
        "about": case.about,
        "store": store,
        "severity": case.severity_at(now_ms(), policy.ageing_hours),
        "state": case.state.as_str(),
        "verdict": case.knowledge(),
        "members": members,
        "amount_minor": case.amount_minor,
        "currency": case.currency,
        "opened_at": rfc3339(case.opened_ms),
        "version": case.version,
    })
}

/// A case in full: members side by side as receipts, what each posted, who knew what when.
#[must_use]
pub fn case_in_full(replica: &Replica, found: &Case) -> Value {
    let books = replica.books();
    let mut view = case(replica, found);
    view["verdicts"] = found
        .verdicts
        .iter()
        .map(|verdict| {
            json!({
                "loser": verdict.loser,
                "winner": verdict.winner,
                "verdict": verdict.knowledge,
                "known_since": verdict.known_since.and_then(|seq| learned_at(books, &verdict.loser, seq)),
                "known_since_seq": verdict.known_since,
            })
        })
        .collect();
    view["receipts"] = found
        .members
        .iter()
        .filter_map(|id| Some((id, books.record(id)?)))
        .map(|(id, member)| {
            let mut shown = record(member);
            shown["postings"] = books.postings_of(id).iter().map(posting).collect();
            shown["held"] = json!(found.held.get(id).map(|reason| reason.as_str()));
            shown
        })
        .collect();
    view
}

/// The clock of the loser's till when it first recorded something after the winner had arrived there.
fn learned_at(books: &Books, loser: &RecordId, seq: u64) -> Option<String> {
    let log = &books.record(loser)?.log;
    books.log_record(log, seq).map(|record| record.at.to_string())
}

/// Balances as `ledger balances --json` gives them: "account currency" → minor units, no zeros.
#[must_use]
pub fn balances(balances: &BTreeMap<(Account, Currency), i128>) -> Map<String, Value> {
    balances
        .iter()
        .filter(|(_, minor)| **minor != 0)
        .map(|((account, currency), minor)| (format!("{account} {currency}"), amount(*minor)))
        .collect()
}

/// Debits, credits and their difference per currency.
#[must_use]
pub fn trial_balance(balances: &BTreeMap<(Account, Currency), i128>) -> Value {
    let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
    for ((_, currency), minor) in balances {
        let sum = sums.entry(*currency).or_default();
        if *minor > 0 {
            sum.0 += minor;
        } else {
            sum.1 -= minor;
        }
    }
    let currencies: Map<String, Value> = sums
        .into_iter()
        .map(|(currency, (debits, credits))| {
            let row = json!({
                "debits_minor": amount(debits),
                "credits_minor": amount(credits),
                "difference_minor": amount(debits - credits),
            });
            (currency.to_string(), row)
        })
        .collect();
    json!({"currencies": currencies, "as_of": rfc3339(now_ms())})
}

/// A sum as a JSON integer. Sums of 128 bits that leave 64 become a decimal string rather than a wrong number.
#[must_use]
pub fn amount(minor: i128) -> Value {
    i64::try_from(minor).map_or_else(|_| json!(minor.to_string()), |minor| json!(minor))
}

/// A journal entry.
#[must_use]
pub fn journal_entry(books: &Books, entry: &JournalEntry) -> Value {
    let source = books.record(&entry.record);
    json!({
        "number": entry.number,
        "date": entry.date,
        "record": entry.record,
        "receipt": source.map(|record| &record.transaction.receipt),
        "terminal": source.map(|record| &record.log.terminal),
        "because": entry.because,
        "postings": entry.postings.iter().map(posting).collect::<Vec<_>>(),
        "hash": data_encoding::HEXLOWER.encode(&entry.hash),
    })
}

/// What waits at a till, with its value by currency and its age.
#[must_use]
pub fn waiting(replica: &Replica) -> Value {
    waits(&replica.waiting())
}

/// What waits, counted, with its value by currency and the age of the oldest.
#[must_use]
pub fn waits(waiting: &Waiting) -> Value {
    let values: Map<String, Value> =
        waiting.value_minor.iter().map(|(currency, minor)| (currency.to_string(), json!(minor))).collect();
    json!({
        "count": waiting.count,
        "value_minor": values,
        "oldest_seconds": waiting.oldest_ms.map(|oldest| (now_ms() - oldest).max(0) / 1_000),
    })
}
