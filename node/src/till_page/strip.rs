//! The line at the top of every page of the till: online or offline since when, what waits, what the hub has. And the
//! frame that pages of the till stand in.

use engine::money::Currency;
use engine::replica::Replica;
use maud::{DOCTYPE, Markup, html};

use crate::api::problem::Problem;
use crate::api::till::Till;
use crate::console::layout::{Page, Tone, chip, notice};
use crate::console::show;
use crate::runtime::clock::{Clock, now_ms};

const TASKS: [(&str, &str); 5] = [
    ("/", "Sell"),
    ("/refund", "Refund"),
    ("/void", "Void"),
    ("/close", "Close the day"),
    ("/receipts", "Receipts"),
];

/// A page of the till.
pub async fn page(
    till: &Till,
    task: &str,
    title: &str,
    said: Option<(Tone, String)>,
    body: Markup,
) -> Result<Page, Problem> {
    let clock = till.clock.clone();
    let strip = till.store.ask(move |replica| strip(replica, &clock)).await?;
    Ok(Page(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Till" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/style.css";
                link rel="stylesheet" href="/assets/till.css";
                script src="/assets/live.js" defer {}
                script src="/assets/till.js" defer {}
            }
            body.till data-live="/live" data-every="4000" {
                a.skip href="#main" { "Skip to the content" }
                header { div.strip #strip data-fresh="" role="status" { (strip) }
                    nav aria-label="Tasks" { ul { @for (path, name) in TASKS { li { a href=(path) aria-current=[(path == task).then_some("page")] { (name) } } } } } }
                main #main tabindex="-1" {
                    @if let Some((tone, text)) = &said { (notice(*tone, text)) }
                    (body)
                }
                p.stale #stale role="status" hidden { "The till's program does not answer. Receipts that were shown as saved are safe." }
            }
        }
    }))
}

fn strip(replica: &Replica, clock: &Clock) -> Markup {
    let identity = replica.identity();
    let (online, since) = replica.hub_link();
    let waiting = replica.waiting();
    let through = replica.at_hub_through();
    let receipt =
        replica.books().log_record(&identity.log, through).map(|record| record.transaction.receipt.clone());
    let now = now_ms();
    html! {
        span.where_ { strong { (identity.log.terminal) } " · " (identity.store) }
        @if online { (chip(Tone::Good, "Online")) }
        @else { span.chip.warn { "Offline" @if let Some(since) = since { " since " (show::time_today(since, now, clock)) } } }
        @if waiting.count == 0 { span { "Nothing waits" } }
        @else {
            span {
                strong { (show::number(waiting.count)) " waiting" }
                @if let Some(oldest) = waiting.oldest_ms { ", oldest " (minutes(now - oldest)) }
                @for (currency, minor) in &waiting.value_minor { ", " (show::money(*minor, *currency)) }
            }
        }
        span.soft { @match receipt {
            Some(receipt) => { "The hub has everything up to receipt " strong { (receipt) } },
            None => "The hub has no receipt of this till yet",
        } }
    }
}

fn minutes(ms: i64) -> String {
    if ms < 60_000 { "less than a minute".to_owned() } else { format!("{} min", ms / 60_000) }
}

/// What a till needs to know before it writes a form.
pub struct Facts {
    /// Whether the hub is connected.
    pub online: bool,
    /// The store's currency.
    pub currency: Currency,
    /// Who worked here last.
    pub operator: String,
    /// The tax rate and code used here last.
    pub tax: (String, Option<String>),
}

/// Reads them.
pub async fn facts(till: &Till) -> Result<Facts, Problem> {
    let today = till.clock.now().day();
    let facts = till.store.ask(move |replica| {
        let currency = replica.policies().on(today).currencies.first().copied();
        let log = replica.identity().log.clone();
        let head = replica.log_heads().get(&log).copied().unwrap_or(0);
        let own: Vec<_> = replica.books().log_records(&log, head.saturating_sub(50)).collect();
        let operator = own.iter().rev().find_map(|record| record.transaction.operator.clone());
        let taxed =
            own.iter().rev().filter_map(|record| record.transaction.basket()).flat_map(|it| it.lines.iter());
        let tax = taxed.filter_map(|line| Some((line.tax_rate?.to_string(), line.tax_code.clone()))).next();
        (replica.hub_link().0, currency, operator, tax)
    });
    let (online, currency, operator, tax) = facts.await?;
    let currency = currency.ok_or_else(|| Problem::invalid("the store's policy names no currency"))?;
    Ok(Facts {
        online,
        currency,
        operator: operator.unwrap_or_default(),
        tax: tax.unwrap_or_else(|| ("0".to_owned(), None)),
    })
}
