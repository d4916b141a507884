//! Refunding: the original is found by its number, also from another till of the store; what is given back is at most
//! what is left of each line, as far as this till knows. A receipt that is not here is named and checked later.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Response};
use engine::ids::RecordId;
use engine::money::{Quantity, cumulative_share};
use engine::record::Record;
use engine::replica::Replica;
use engine::transaction::{Body, Kind, Line, LineFlag};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::strip::{self, Facts, facts};
use super::void::{Wanted, finder, unchecked};
use super::{form, record};
use crate::api::problem::Problem;
use crate::api::till::{Till, find};
use crate::console::layout::{Page, Tone, notice};
use crate::console::{Fields, show, slip};

/// `GET /refund`.
pub async fn page(State(till): State<Arc<Till>>, Query(wanted): Query<Wanted>) -> Result<Page, Problem> {
    shown(&till, wanted.receipt.trim(), &Fields::default(), None).await
}

async fn shown(
    till: &Till,
    wanted: &str,
    fields: &Fields,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let (known, name, filled) = (facts(till).await?, wanted.to_owned(), fields.clone());
    let found = till
        .store
        .ask(move |replica| {
            let id = find(replica, &name)?;
            Some(of_original(replica, replica.books().record(&id)?, &known, &filled))
        })
        .await?;
    let body = html! {
        h1 { "Refund" }
        (finder("refund", "/refund", wanted))
        @match found {
            Some(found) => (found),
            None if wanted.is_empty() => p.soft { "Type or scan the number of the receipt that the customer brings, of this till or another one." },
            None => (not_here(&facts(till).await?, wanted, fields)),
        }
    };
    strip::page(till, "/refund", "Refund", said, body).await
}

/// What was given back of each line already, as far as this node knows.
fn given_back(replica: &Replica, sale: &Record) -> BTreeMap<u32, i64> {
    let books = replica.books();
    let family: Vec<&Record> =
        books.family(&sale.id).iter().filter_map(|id| books.record(id)).map(|it| &**it).collect();
    let voided = |id: RecordId| {
        family.iter().any(|it| {
            it.transaction.kind() == Kind::Void
                && it.transaction.original().is_some_and(|of| books.resolve(of) == Some(id))
        })
    };
    let mut back = BTreeMap::new();
    for refund in family.iter().filter(|it| it.transaction.kind() == Kind::Refund && !voided(it.id)) {
        let of_sale = refund.transaction.original().is_some_and(|of| books.resolve(of) == Some(sale.id));
        let lines = refund.transaction.basket().into_iter().flat_map(|basket| &basket.lines);
        for line in lines.filter(|_| of_sale) {
            if let Some(number) = line.original.as_ref().and_then(|original| original.line) {
                *back.entry(number).or_insert(0) += line.quantity.0;
            }
        }
    }
    back
}

fn goods(record: &Record) -> impl Iterator<Item = &Line> {
    let lines = record.transaction.basket().into_iter().flat_map(|basket| &basket.lines);
    lines.filter(|line| line.flag == LineFlag::Item)
}

fn of_original(replica: &Replica, sale: &Record, facts: &Facts, fields: &Fields) -> Markup {
    let Body::Sale(basket) = &sale.transaction.body else {
        return notice(Tone::Bad, "Only a sale can be refunded.");
    };
    let back = given_back(replica, sale);
    let voided =
        replica.books().family(&sale.id).iter().filter_map(|id| replica.books().record(id)).any(|it| {
            it.transaction.kind() == Kind::Void
                && it.transaction.original().is_some_and(|of| replica.books().resolve(of) == Some(sale.id))
        });
    html! {
        div.receipts { (slip::slip(replica, sale, None)) }
        @if voided { (notice(Tone::Bad, "This sale was voided. Its money went back already.")) } @else {
            (unchecked(facts))
            form.register method="post" action="/refund" {
                input type="hidden" name="receipt" value=(sale.id);
                fieldset {
                    legend { "How many come back?" }
                    @for line in goods(sale) {
                        @let left = line.quantity.0 - back.get(&line.number).copied().unwrap_or(0);
                        @let name = format!("back-{}", line.number);
                        div.field.backline {
                            label for=(name) { (line.description.as_deref().unwrap_or(&line.sku)) ", " (show::money(line.gross_minor(), basket.currency)) " for " (line.quantity) }
                            input id=(name) name=(name) value=(fields.text(&name)) inputmode="decimal" placeholder="0" disabled[left <= 0] aria-describedby={ (name) "-hint" };
                            p.hint id={ (name) "-hint" } { @if left <= 0 { "all came back already" } @else { (Quantity(left)) " can come back" } }
                        }
                    }
                }
                (pay_back(facts, fields))
            }
        }
    }
}

fn pay_back(facts: &Facts, fields: &Fields) -> Markup {
    html! {
        div.fields {
            (form::common(facts, fields))
            div.field { label for="reason" { "Why" } input #reason name="reason" value=(fields.text("reason")) required maxlength="200"; }
            div.field { label for="approver" { "Approved by, if the amount needs it" } input #approver name="approver" value=(fields.text("approver")) maxlength="64"; }
        }
        div.pay {
            button type="submit" name="do" value="cash" { "Give cash back" }
            button.second type="submit" name="do" value="card" { "Back to the card" }
        }
    }
}

/// The receipt is not here: of another store, or of a till whose receipts have not come here yet.
fn not_here(facts: &Facts, wanted: &str, fields: &Fields) -> Markup {
    html! {
        (notice(Tone::Warn, "This till does not hold this receipt. You can refund it by its number: it is not checked against other tills now; the hub checks it when the sale arrives."))
        form.register method="post" action="/refund" {
            input type="hidden" name="unseen" value=(wanted);
            div.fields {
                div.field { label for="what" { "What comes back" } input #what name="what" value=(fields.text("what")) required maxlength="120"; }
                div.field { label for="quantity" { "How many" } input #quantity name="quantity" value=(fields.text("quantity")) inputmode="decimal" placeholder="1"; }
                div.field { label for="price" { "Price of one, as printed, " (facts.currency) } input #price name="price" value=(fields.text("price")) required inputmode="decimal"; }
                div.field { label for="rate" { "Tax in it, %" } input #rate name="rate" value=(fields.filled("rate").unwrap_or_else(|| facts.tax.0.clone())) inputmode="decimal"; }
            }
            (pay_back(facts, fields))
        }
    }
}

/// `POST /refund`.
pub async fn refund(
    State(till): State<Arc<Till>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(fields);
    match try_refund(&till, &fields).await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let said = Some((Tone::Bad, format!("Nothing was given back: {}.", problem.detail)));
            let wanted = fields.filled("receipt").or(fields.filled("unseen")).unwrap_or_default();
            Ok((problem.status, shown(&till, &wanted, &fields, said).await?).into_response())
        }
    }
}

async fn try_refund(till: &Till, fields: &Fields) -> Result<Response, Problem> {
    let facts = facts(till).await?;
    let mut refund = form::transaction("refund", fields, &facts)?;
    let (lines, total) = if let Some(unseen) = fields.filled("unseen") {
        refund["original_receipt"] = json!(unseen);
        refund["currency"] = json!(facts.currency);
        let of = |name| fields.text(name);
        let typed = form::line(1, of("what"), of("quantity"), of("price"), of("rate"), &facts)?;
        (vec![typed.json], typed.amount_minor)
    } else {
        let (name, filled) = (fields.text("receipt").to_owned(), fields.clone());
        let spelled = till.store.ask(move |replica| {
            let found = find(replica, &name).and_then(|id| replica.books().record(&id).cloned());
            let sale =
                found.ok_or_else(|| Problem::not_found("this till does not hold the receipt any more"))?;
            let currency = sale.transaction.basket().map(|basket| basket.currency);
            lines_back(replica, &sale, &filled).map(|lines| (sale.id, currency, lines))
        });
        let (id, currency, (lines, total)) = spelled.await??;
        refund["original"] = json!({"id": id});
        refund["currency"] = json!(currency);
        (lines, total)
    };
    refund["lines"] = json!(lines);
    refund["tenders"] = json!([form::tender(fields.text("do"), total, fields)]);
    record(till, &refund).await
}

/// The lines that come back. Shares are cumulative, so that all parts of a line together give back exactly its amount.
fn lines_back(replica: &Replica, sale: &Record, fields: &Fields) -> Result<(Vec<Value>, i64), Problem> {
    let back = given_back(replica, sale);
    // A repeated tap must spell the same again although the first is in the books by now.
    let own = fields.filled("key").and_then(|key| {
        let books = replica.books();
        let made = books.family(&sale.id).into_iter().filter_map(|id| books.record(&id));
        made.into_iter().find(|it| it.transaction.idempotency_key.as_deref() == Some(key.as_str())).cloned()
    });
    let (mut lines, mut total) = (Vec::new(), 0_i64);
    for line in goods(sale) {
        let Some(typed) = fields.filled(&format!("back-{}", line.number)) else { continue };
        let name = line.description.as_deref().unwrap_or(&line.sku);
        let wrong = |problem: &str| Problem::invalid(format!("{name}: {problem}"));
        let part: Quantity = typed.replace(',', ".").parse().map_err(|_| wrong("this is no quantity"))?;
        if part.0 == 0 {
            continue;
        }
        let same = |it: &&Line| it.original.as_ref().and_then(|of| of.line) == Some(line.number);
        let mine = own.iter().flat_map(|it| goods(it)).find(same).map_or(0, |it| it.quantity.0);
        let before = back.get(&line.number).copied().unwrap_or(0) - mine;
        if part.0 < 0 || before + part.0 > line.quantity.0 {
            return Err(wrong("more would come back than was sold"));
        }
        let share = |of: i64| {
            cumulative_share(of, Quantity(before + part.0), line.quantity)
                - cumulative_share(of, Quantity(before), line.quantity)
        };
        let (amount, tax) = (share(line.amount_minor), share(line.tax_minor));
        total += if line.adjustment.tax_exclusive { amount + tax } else { amount };
        lines.push(json!({
            "line": lines.len() + 1, "sku": line.sku, "description": line.description, "quantity": part.to_string(),
            "amount_minor": amount, "tax_minor": tax, "tax_code": line.tax_code,
            "tax_rate": line.tax_rate.map(|rate| rate.to_string()), "tax_exclusive": line.adjustment.tax_exclusive,
            "original_line": line.number,
        }));
    }
    if lines.is_empty() { Err(Problem::invalid("say how many come back")) } else { Ok((lines, total)) }
}
