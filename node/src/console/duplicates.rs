//! Identical duplicates, decided together: only cases whose receipts say the same in every line and tender are here, each
//! with what it would post. The decision is still one for each case, with the one reason.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use engine::record::Record;
use engine::replica::Replica;
use engine::review::{Case, CaseState, CaseType};
use engine::transaction::DecisionAction;
use maud::{Markup, html};

use super::door::Visitor;
use super::effect::effect;
use super::layout::{self, Page, Tone, heading, may, nothing, notice};
use super::{Console, Fields, show, words};
use crate::api::problem::Problem;
use crate::hub::{DecisionRequest, Role};

/// Cases decided at once.
const AT_ONCE: usize = 200;

/// `GET /duplicates`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, Problem> {
    shown(&console, &visitor, &[]).await
}

async fn shown(console: &Console, visitor: &Visitor, said: &[(Tone, String)]) -> Result<Page, Problem> {
    let mut rows: Vec<(CaseType, Markup)> = Vec::new();
    for store in console.hub.stores() {
        // No more is asked for than the page shows.
        let room = AT_ONCE - rows.len();
        let of_store: Vec<(CaseType, Markup)> = store
            .ask(move |replica| {
                let cases: Vec<Case> = replica
                    .books()
                    .cases()
                    .filter(|case| identical(replica, case))
                    .take(room)
                    .cloned()
                    .collect();
                cases.iter().map(|case| (case.key.case_type, row(replica, case))).collect()
            })
            .await?;
        rows.extend(of_store);
        if rows.len() == AT_ONCE {
            break;
        }
    }
    let body = html! {
        p.crumbs { a href="/review" { "Review" } }
        (heading("Identical duplicates", "Receipts that are the same in every line and every payment. Tick those that you have looked at, and decide them with one reason."))
        @for (tone, text) in said { (notice(*tone, text)) }
        @if rows.is_empty() { (nothing("There are no identical duplicates to decide.")) }
        @for (case_type, offered) in [
            (CaseType::DuplicateCapture, &[DecisionAction::Remove, DecisionAction::Genuine][..]),
            (CaseType::SuspectedDuplicate, &[DecisionAction::Acknowledge][..]),
        ] {
            @let of_type: Vec<&Markup> = rows.iter().filter(|row| row.0 == case_type).map(|row| &row.1).collect();
            @if !of_type.is_empty() {
                section.card {
                    h2 { (words::doubt(case_type)) ": " (show::count(of_type.len() as u64, "case", "cases")) }
                    p.soft { (words::rule(case_type)) }
                    form method="post" action="/duplicates/decide" {
                        (layout::csrf(visitor))
                        fieldset { legend { "Which" } div.choices { @for row in of_type { (row) } } }
                        @if may(visitor, Role::Reviewer) {
                            div.fields {
                                div.field {
                                    label for={ "action-" (case_type) } { "What shall be done" }
                                    select id={ "action-" (case_type) } name="action" {
                                        @for action in offered { option value=(action.as_str()) { (words::action(*action).0) } }
                                    }
                                }
                                div.field { label for={ "reason-" (case_type) } { "Why (required)" } input id={ "reason-" (case_type) } name="reason" required maxlength="500"; }
                                div.field { label for={ "approver-" (case_type) } { "Token of a second reviewer, where one is due" } input id={ "approver-" (case_type) } name="approver" type="password" autocomplete="off"; }
                            }
                            p { button type="submit" { "Decide the ticked ones" } }
                        }
                    }
                }
            }
        }
    };
    Ok(layout::page(visitor, "/review", "Identical duplicates", false, &body))
}

/// Whether a case is about receipts that say the same: kind, lines, tenders, everything but number and time.
fn identical(replica: &Replica, case: &Case) -> bool {
    let kinds = [CaseType::DuplicateCapture, CaseType::SuspectedDuplicate];
    if case.state != CaseState::Open || !kinds.contains(&case.key.case_type) {
        return false;
    }
    let mut members = case.members.iter().filter_map(|id| replica.books().record(id));
    let Some(first) = members.next() else { return false };
    case.members.len() > 1
        && first.transaction.basket().is_some()
        && members.all(|other| first.transaction.body == other.transaction.body)
}

fn row(replica: &mut Replica, case: &Case) -> Markup {
    let options = replica.options(case);
    let members: Vec<&Record> =
        case.members.iter().filter_map(|id| replica.books().record(id)).map(|it| &**it).collect();
    html! {
        div.choice {
            label for={ "case-" (case.id) } {
                input id={ "case-" (case.id) } type="checkbox" name="case" value={ (case.id) ":" (case.version) };
                span {
                    span.what { @if let Some(basket) = members.first().and_then(|it| it.transaction.basket()) { (show::money(basket.total_minor(), basket.currency)) ": " } (members.iter().map(|it| it.transaction.receipt.as_str()).collect::<Vec<_>>().join(", ")) }
                    span.soft {
                        @for record in &members { (record.log.terminal) " at " (show::instant(record.at)) ". " }
                        a href={ "/review/" (case.id) } { "The case in full" }
                    }
                }
            }
            div.effect {
                @for option in &options {
                    @if let Some(known) = &option.effect {
                        details { summary.small { "“" (words::action(option.choice.action).0) "”" " would do" } (effect(replica, known)) }
                    }
                }
            }
        }
    }
}

/// `POST /duplicates/decide`.
pub async fn decide(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Page, Problem> {
    let (mut done, mut said) = (0, Vec::new());
    for named in fields.all("case").take(AT_ONCE) {
        let (id, version) = named.split_once(':').unwrap_or((named, ""));
        let still = match console.hub.find_case(id).await {
            Ok((store, case)) => store.ask(move |replica| identical(replica, &case)).await?,
            Err(_) => false,
        };
        if !still {
            said.push((
                Tone::Bad,
                format!("Case {id} is no longer one of identical receipts. Look at it by itself."),
            ));
            continue;
        }
        let request = DecisionRequest {
            action: fields.text("action").to_owned(),
            reason: fields.text("reason").to_owned(),
            version: Some(version.to_owned()),
            approver_token: fields.filled("approver"),
            ..DecisionRequest::default()
        };
        match console.hub.decide_case(id, request, &visitor.person).await {
            Ok(_) => done += 1,
            Err(error) => said.push((Tone::Bad, format!("Case {id}: {}.", Problem::from(error).detail))),
        }
    }
    let text = if done == 0 && said.is_empty() {
        "Nothing was ticked.".to_owned()
    } else {
        format!("{} decided.", show::count(done, "case", "cases"))
    };
    said.insert(0, (if done > 0 { Tone::Good } else { Tone::Warn }, text));
    shown(&console, &visitor, &said).await
}
