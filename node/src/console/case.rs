//! A case: its receipts side by side, the rule in plain words, who knew what, what stands in the books, and each possible
//! decision with what it would do, before it is taken.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use engine::ledger::Possible;
use engine::record::Record;
use engine::replica::Replica;
use engine::review::{Case, CaseState};
use engine::transaction::{DecisionAction, TenderType};
use maud::{Markup, html};
use serde::Deserialize;

use super::door::Visitor;
use super::effect::effect;
use super::knowledge::knowledge;
use super::layout::{self, Page, Tone, chip, may, notice};
use super::slip::slip;
use super::{Console, Fields, show, words};
use crate::api::problem::Problem;
use crate::hub::{DecisionRequest, Role};
use crate::runtime::clock::{Clock, now_ms};

/// Members shown; a case of thousands names them all in the API.
const MEMBERS_SHOWN: usize = 24;

/// What is said above the page after a decision.
#[derive(Deserialize, Default)]
pub struct Said {
    #[serde(default)]
    done: String,
}

/// `GET /review/{id}`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Query(said): Query<Said>,
) -> Result<Page, Problem> {
    let done = (!said.done.is_empty()).then(|| {
        let name = said.done.parse().map_or("The decision", |action| words::action(action).0);
        (Tone::Good, format!("{name}: recorded. The tills hear of it."))
    });
    shown(&console, &visitor, &id, done, &Fields::default()).await
}

async fn shown(
    console: &Console,
    visitor: &Visitor,
    id: &str,
    said: Option<(Tone, String)>,
    filled: &Fields,
) -> Result<Page, Problem> {
    let (store, case) = match console.hub.find_case(id).await {
        Ok(found) => found,
        // The decision just taken may have ended it.
        Err(_) if said.as_ref().is_some_and(|said| said.0 == Tone::Good) => return Ok(ended(visitor, said)),
        Err(error) => return Err(error.into()),
    };
    let (clock, asked, filled) = (console.hub.clock().clone(), visitor.clone(), filled.clone());
    let history: Vec<String> = console
        .hub
        .audit()
        .read(0, usize::MAX)
        .into_iter()
        .filter(|event| event.event == "case" && event.detail.starts_with(id))
        .map(|event| {
            let what = event.detail.split_once(": ").map_or("", |parts| parts.0);
            let what = what.rsplit(' ').next().unwrap_or("");
            let at = clock.at(event.at_ms);
            format!(
                "{} {}: {}",
                show::day(at.day()),
                at.to_string().get(11..19).unwrap_or(""),
                story_word(what)
            )
        })
        .collect();
    let name = store.store().clone();
    let title = words::doubt(case.key.case_type);
    let body = store
        .ask(move |replica| {
            let options = replica.options(&case);
            html! {
                p.crumbs { a href="/review" { "Review" } }
                @if let Some((tone, text)) = &said { (notice(*tone, text)) }
                (head(replica, &case, name.as_str(), &clock))
                (members(replica, &case))
                (knowledge(replica, &case))
                (decided(replica, &case))
                (decision_form(replica, &case, &options, &asked, &filled))
                @if history.len() > 1 {
                    section.card { h2 { "What happened to this case" } ol { @for line in &history { li { (line) } } } }
                }
            }
        })
        .await?;
    Ok(layout::page(visitor, "/review", title, false, &body))
}

fn ended(visitor: &Visitor, said: Option<(Tone, String)>) -> Page {
    let body = html! {
        p.crumbs { a href="/review" { "Review" } }
        h1 { "The case has ended" }
        @if let Some((tone, text)) = said { (notice(tone, &text)) }
        p { "Nothing is left to decide here. " a href="/review" { "To the next case" } }
    };
    layout::page(visitor, "/review", "Ended", false, &body)
}

fn story_word(change: &str) -> &'static str {
    match change {
        "opened" => "opened",
        "decided" => "decided",
        "selfcancelled" => "cancelled itself",
        "resolved" => "ended by itself",
        _ => "changed",
    }
}

fn head(replica: &Replica, case: &Case, store: &str, clock: &Clock) -> Markup {
    let ageing = replica.policies().on(engine::time::Instant::utc(now_ms()).day()).ageing_hours;
    let (tone, urgency) = words::urgency(case.severity_at(now_ms(), ageing));
    let (state_tone, state) = words::case_state(case.state);
    html! {
        div.heading {
            h1 { (words::doubt(case.key.case_type)) @if case.amount_minor != 0 { ": " (show::money_of(case.amount_minor, case.currency)) } }
            p.row { (chip(state_tone, state)) (chip(tone, urgency)) span.soft { (store) " · " (case.about) " · since " (show::ago(case.opened_ms, now_ms(), clock)) " · case " (case.id) } }
        }
        p.lead { (words::rule(case.key.case_type)) }
    }
}

fn members(replica: &Replica, case: &Case) -> Markup {
    let mut members: Vec<&Record> =
        case.members.iter().filter_map(|id| replica.books().record(id)).map(|it| &**it).collect();
    members.sort_by_key(|record| (record.effective_ms, record.id));
    html! {
        @if !members.is_empty() {
            section {
                h2 { "The receipts" }
                div.receipts {
                    @for record in members.iter().take(MEMBERS_SHOWN) {
                        (slip(replica, record, case.held.get(&record.id).copied()))
                    }
                }
                @if members.len() > MEMBERS_SHOWN { p.soft { "And " (members.len() - MEMBERS_SHOWN) " more." } }
            }
        }
    }
}

fn decided(replica: &Replica, case: &Case) -> Markup {
    let taken: Vec<_> = replica.books().decisions_on(&case.key).collect();
    html! {
        @if !taken.is_empty() {
            section.card {
                h2 { "Decisions so far" }
                ul {
                    @for issued in taken {
                        @let decision = &issued.decision;
                        li {
                            strong { (words::action(decision.action).0) } ", by " (decision.reviewer)
                            @if let Some(second) = &decision.approver { " with " (second) }
                            ": “" (decision.reason) "”"
                        }
                    }
                }
            }
        }
    }
}

fn decision_form(
    replica: &Replica,
    case: &Case,
    options: &[Possible],
    visitor: &Visitor,
    filled: &Fields,
) -> Markup {
    if options.is_empty() {
        return html! {};
    }
    let chosen = filled.text("choice");
    let needs = |wanted: &[DecisionAction]| options.iter().any(|it| wanted.contains(&it.choice.action));
    let second = second_due(replica, case, options, visitor);
    let may = may(visitor, Role::Reviewer);
    let again = if case.state == CaseState::Open { "Your decision" } else { "Decide anew" };
    html! {
        section.card {
            h2 { (again) }
            form method="post" action={ "/review/" (case.id) "/decide" } {
                (layout::csrf(visitor))
                input type="hidden" name="version" value=(case.version);
                fieldset {
                    legend { "What shall be done? Each says what it posts." }
                    div.choices {
                        @for (at, option) in options.iter().enumerate() {
                            (choice(replica, option, at, chosen, may))
                        }
                    }
                }
                @if may {
                    @if needs(&[DecisionAction::Classify]) {
                        div.field { label for="account" { "Account, if it is put on one" } input #account name="account" placeholder="Expenses:Petty-Cash" value=(filled.text("account")); }
                    }
                    @if needs(&[DecisionAction::Recover]) {
                        div.field { label for="from" { "From whom, if it is got back" } input #from name="from" value=(filled.text("from")); }
                    }
                    @if needs(&[DecisionAction::Paid, DecisionAction::PaidOut]) {
                        div.field { label for="tender" { "Paid how, if it was paid" }
                            select #tender name="tender" { option value="" { "not said" } option value=(TenderType::Cash.as_str()) { "cash" } option value=(TenderType::Card.as_str()) { "card" } } }
                    }
                    div.field {
                        label for="reason" { "Why (required)" }
                        textarea #reason name="reason" required maxlength="500" { (filled.text("reason")) }
                    }
                    div.field {
                        label for="approver" { "Token of a second reviewer" @if second { " (due here)" } @else { ", only where one is due" } }
                        input #approver name="approver" type="password" autocomplete="off" aria-describedby="approver-hint";
                        p.hint #approver-hint {
                            @if second { "The amount is above the limit for one person, or the till has closed its day since. " }
                            "The second reviewer types it themselves."
                        }
                    }
                    p { button type="submit" { "Record the decision" } }
                } @else {
                    p.soft { "You are a viewer: you see what is possible; a reviewer decides." }
                }
            }
        }
    }
}

/// Whether the rules would refuse every choice to one person alone.
fn second_due(replica: &Replica, case: &Case, options: &[Possible], visitor: &Visitor) -> bool {
    use engine::review::Refusal;
    options.iter().any(|option| {
        let decision = engine::transaction::Decision {
            number: 0,
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            case_version: Some(case.version),
            member: option.choice.member,
            action: option.choice.action,
            parameter: Some("cash".to_owned()),
            terminal: None,
            reviewer: visitor.person.name.clone(),
            approver: None,
            reason: "tried".to_owned(),
        };
        matches!(
            replica.books().permit(case, &decision),
            Err(Refusal::FourEyes { .. } | Refusal::RemoveAfterClose)
        )
    })
}

fn choice(replica: &Replica, option: &Possible, at: usize, chosen: &str, may: bool) -> Markup {
    let (name, says) = words::action(option.choice.action);
    let member = option.choice.member.and_then(|id| replica.books().record(&id));
    let value = format!(
        "{}:{}",
        option.choice.action.as_str(),
        option.choice.member.map(|id| id.to_string()).unwrap_or_default()
    );
    html! {
        div.choice {
            label for={ "choice-" (at) } {
                @if may { input id={ "choice-" (at) } type="radio" name="choice" value=(value) checked[value == chosen] required; }
                span {
                    span.what { (name) @if let Some(member) = member { ": " (words::kind(member.transaction.kind()).to_lowercase()) " " (member.transaction.receipt) " of " (member.log.terminal) } }
                    span.soft { (says) }
                }
            }
            div.effect {
                @match &option.effect {
                    Some(known) => (effect(replica, known)),
                    None => p.small.soft { "What it posts hangs on the account that you name." },
                }
            }
        }
    }
}

/// `POST /review/{id}/decide`.
pub async fn decide(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let request = request(&fields);
    let action = request.action.clone();
    match console.hub.decide_case(&id, request, &visitor.person).await {
        Ok(_) => Ok(Redirect::to(&format!("/review/{id}?done={}", super::escape(&action))).into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            let text = format!("Not recorded: {}.", problem.detail);
            let page = shown(&console, &visitor, &id, Some((Tone::Bad, text)), &fields).await?;
            Ok((problem.status, page).into_response())
        }
    }
}

fn request(fields: &Fields) -> DecisionRequest {
    let (action, member) = fields.text("choice").split_once(':').unwrap_or((fields.text("choice"), ""));
    let parameter = match action {
        "classify" => fields.filled("account"),
        "recover" => fields.filled("from"),
        "paid" | "paid-out" => fields.filled("tender"),
        _ => None,
    };
    DecisionRequest {
        action: action.to_owned(),
        reason: fields.text("reason").to_owned(),
        member: Some(member.to_owned()).filter(|member| !member.is_empty()),
        parameter,
        terminal: None,
        version: fields.filled("version"),
        approver_token: fields.filled("approver"),
        dry_run: false,
    }
}
