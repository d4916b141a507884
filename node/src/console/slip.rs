//! A record as a receipt: head, goods, payment, what it stands for. Receipts beside each other make a case.

use engine::ledger::Posting;
use engine::record::Record;
use engine::replica::Replica;
use engine::review::Reason;
use engine::transaction::{Basket, Body, CashMovement, LineFlag, Reference};
use maud::{Markup, html};

use super::layout::{Tone, chip};
use super::{show, words};

/// A record as a receipt of its own; `held` says why, if it is.
pub fn slip(replica: &Replica, record: &Record, held: Option<Reason>) -> Markup {
    let transaction = &record.transaction;
    let postings = replica.books().postings_of(&record.id);
    html! {
        article class={ "receipt " (if held.is_some() { "held" } else { "posted" }) } {
            h3 {
                span { (words::kind(transaction.kind())) " " a href={ "/receipts/" (record.id) } { (transaction.receipt) } }
                @match held {
                    Some(_) => (chip(Tone::Warn, "held")),
                    None => (chip(Tone::Good, "counts")),
                }
            }
            @if let Some(reason) = held { p.small { "Held: " (words::held(reason)) "." } }
            (head(record))
            (content(replica, record))
            @if !postings.is_empty() {
                div.slip {
                    details id={ "postings-" (record.id.short()) } {
                        summary.small { "What the books say now" }
                        (posting_table(postings))
                    }
                }
            }
        }
    }
}

/// Who, when and where.
pub fn head(record: &Record) -> Markup {
    let transaction = &record.transaction;
    html! {
        dl.pairs.small {
            dt { "Till" } dd { (record.log.terminal) ", number " (record.seq) }
            dt { "When" } dd { (show::instant(record.at)) }
            dt { "Day" } dd { (show::day(record.business_day)) }
            @if let Some(operator) = &transaction.operator { dt { "Operator" } dd { (operator) } }
            @if transaction.offline { dt { "Line" } dd { "made offline" } }
            @if let Some(original) = transaction.original() { dt { "Gives back" } dd { (reference(original)) } }
            @match &transaction.body {
                Body::Refund { reason, approver, .. } | Body::Void { reason, approver, .. } => {
                    @if let Some(reason) = reason { dt { "Reason" } dd { (reason) } }
                    @if let Some(approver) = approver { dt { "Approved by" } dd { (approver) } }
                },
                _ => {},
            }
        }
    }
}

/// Goods and payment, or whatever else a record holds.
pub fn content(replica: &Replica, record: &Record) -> Markup {
    match &record.transaction.body {
        Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => goods(basket),
        Body::CashMove { movement, amount_minor, currency, reason } => html! {
            div.slip {
                p.sum { span { (movement_word(*movement)) } span { (show::money(*amount_minor, *currency)) } }
                @if let Some(reason) = reason { p { span { (reason) } } }
            }
        },
        Body::DayClose(close) => html! {
            div.slip {
                p { span { "Z report" } span { (close.z_number) } }
                @for totals in &close.totals {
                    p { span { (show::count(totals.sales.count, "sale", "sales")) } span { (show::money(totals.sales.sum_minor, totals.currency)) } }
                    @if totals.refunds.count > 0 { p { span { (show::count(totals.refunds.count, "refund", "refunds")) } span { (show::money(-totals.refunds.sum_minor, totals.currency)) } } }
                    @if totals.voids.count > 0 { p { span { (show::count(totals.voids.count, "void", "voids")) } span { (show::money(-totals.voids.sum_minor, totals.currency)) } } }
                    p { span { "Cash expected" } span { (show::money(totals.expected_cash_minor, totals.currency)) } }
                    p.sum { span { "Cash counted" } span { (show::money(totals.counted_cash_minor, totals.currency)) } }
                }
            }
        },
        Body::Hub(statement) => html! {
            div.slip { p.small { code.long { (serde_json::to_string(statement).unwrap_or_default()) } } }
            @if replica.books().postings_of(&record.id).is_empty() { p.small.soft { "It posts nothing by itself." } }
        },
    }
}

fn goods(basket: &Basket) -> Markup {
    let currency = basket.currency;
    html! {
        div.slip {
            @for line in &basket.lines {
                p {
                    span {
                        (line.quantity) " × " (line.description.as_deref().unwrap_or(&line.sku))
                        @match line.flag {
                            LineFlag::Item => {},
                            LineFlag::ReturnInSale => " (taken back)",
                            LineFlag::LineVoid => " (struck out)",
                            LineFlag::GiftCardSold => " (gift card sold)",
                        }
                    }
                    span { (show::money(line.amount_minor, currency)) }
                }
            }
        }
        div.slip {
            p.sum { span { "Total" } span { (show::money(basket.total_minor(), currency)) } }
            @if basket.tax_minor() != 0 { p.soft { span { "of it tax" } span { (show::money(basket.tax_minor(), currency)) } } }
            @if basket.rounding_minor != 0 { p { span { "Rounding" } span { (show::money(basket.rounding_minor, currency)) } } }
            @if basket.tip_minor != 0 { p { span { "Tip" } span { (show::money(basket.tip_minor, currency)) } } }
            @for tender in &basket.tenders {
                p { span { (words::tender(tender.tender, tender.status)) @if let Some(last4) = tender.card.as_ref().and_then(|card| card.last4.as_ref()) { " …" (last4) } }
                    span { (show::money(tender.amount_minor, tender.currency.unwrap_or(currency))) } }
            }
        }
    }
}

/// What a reference names, in words.
pub fn reference(reference: &Reference) -> String {
    let mut parts = Vec::new();
    match (&reference.receipt, &reference.id) {
        (Some(receipt), _) => parts.push(format!("receipt {receipt}")),
        (None, Some(id)) => parts.push(format!("record {}", id.short())),
        (None, None) => {}
    }
    if reference.receipt.is_none() {
        parts.extend(reference.seq.map(|seq| format!("number {seq}")));
    }
    parts.extend(reference.terminal.as_ref().map(|till| format!("of {till}")));
    parts.extend(reference.store.as_ref().map(|store| format!("in {store}")));
    parts.join(" ")
}

/// Accounts with amounts, debit and credit in words.
pub fn posting_table(postings: &[Posting]) -> Markup {
    html! {
        table.postings {
            tbody {
                @for posting in postings {
                    tr {
                        td { (posting.account.to_string()) @let what = words::account(&posting.account); @if !what.is_empty() { br; span.soft { (what) } } }
                        td.num { @if posting.amount_minor > 0 { "debit " } @else { "credit " } (show::money(posting.amount_minor.abs(), posting.currency)) }
                    }
                }
            }
        }
    }
}

fn movement_word(movement: CashMovement) -> &'static str {
    match movement {
        CashMovement::Float => "Change put into the drawer",
        CashMovement::PaidIn => "Paid in",
        CashMovement::PaidOut => "Paid out",
        CashMovement::Pickup => "Taken to the safe",
    }
}
