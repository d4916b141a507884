//! *Fleet*: every device that writes a till's log, letting one in and shutting one out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use engine::ids::{LogId, StoreId, WriterId};
use engine::replica::Replica;
use engine::transaction::{Body, HubRecord};
use maud::{Markup, html};
use qrcode::{Color, QrCode};

use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, heading, may, nothing, notice};
use super::{Console, Fields, show};
use crate::api::problem::Problem;
use crate::hub::Role;
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::store::several::ask_each;

/// Lives of a join code that are offered, in minutes.
const LIVES: [(u64, &str); 4] = [(15, "15 minutes"), (60, "an hour"), (1_440, "a day"), (10_080, "a week")];

/// A device.
struct Device {
    store: StoreId,
    log: LogId,
    writer: WriterId,
    newest: bool,
    revoked: bool,
    online: bool,
    heard_ms: Option<i64>,
    software: Option<String>,
    policy: Option<u64>,
    newest_policy: u64,
}

fn devices(replica: &Replica) -> Vec<Device> {
    let hub = LogId { terminal: engine::ids::TerminalId::hub(), incarnation: 1 };
    let revoked: BTreeSet<(String, Option<u32>)> = replica
        .books()
        .log_records(&hub, 1)
        .filter_map(|record| match &record.transaction.body {
            Body::Hub(HubRecord::Revoke { terminal, incarnation, .. }) => {
                Some((terminal.to_string(), *incarnation))
            }
            _ => None,
        })
        .collect();
    let logs = replica.registry().writers().filter(|row| !row.1.terminal.is_hub());
    let device = |(writer, log): (WriterId, &LogId)| {
        let online = replica.online(&writer);
        let status = online.flatten();
        let shut_out = |incarnation| revoked.contains(&(log.terminal.to_string(), incarnation));
        Device {
            store: replica.identity().store.clone(),
            log: log.clone(),
            writer,
            newest: replica.registry().incarnation(&log.terminal) == log.incarnation,
            revoked: shut_out(None) || shut_out(Some(log.incarnation)),
            online: online.is_some(),
            heard_ms: replica.heard(log).at_ms,
            software: status.map(|told| told.1.software.clone()),
            policy: status.map(|told| told.1.policy_version),
            newest_policy: replica.policies().version(),
        }
    };
    let mut devices: Vec<Device> = logs.map(device).collect();
    devices.sort_by(|one, other| one.log.cmp(&other.log));
    devices
}

/// `GET /fleet`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Page, Problem> {
    shown(&console, &visitor, &html! {}).await
}

async fn shown(console: &Console, visitor: &Visitor, above: &Markup) -> Result<Page, Problem> {
    let hub = &console.hub;
    let all: Vec<Device> =
        ask_each(hub.stores(), |replica| devices(replica)).await?.into_iter().flatten().collect();
    let stores: BTreeSet<StoreId> = hub.stores().iter().map(|store| store.store().clone()).collect();
    let body = html! {
        (heading("Fleet", "Every device that may write receipts, and what it runs."))
        (above)
        @if may(visitor, Role::Admin) { (enrol_form(visitor, &stores)) }
        div #devices data-fresh="" { @if all.is_empty() { (nothing("No till yet.")) } @else { (table(&all, visitor, hub.clock())) } }
        @if !stores.is_empty() {
            section.card { h2 { "Policies" } p.soft { "Limits, intervals and tolerances: of " a href="/fleet/policies" { "the whole company" } ", and of each store and its tills; who changed them and when." }
                ul { @for store in &stores { li { a href={ "/fleet/policies/" (store) } { (store) } } } } }
        }
    };
    Ok(layout::page(visitor, "/fleet", "Fleet", true, &body))
}

fn enrol_form(visitor: &Visitor, stores: &BTreeSet<StoreId>) -> Markup {
    html! {
        section.card {
            h2 { "Let a till in" }
            form.fields method="post" action="/fleet/enrol" {
                (layout::csrf(visitor))
                div.field { label for="store" { "Store" } input #store name="store" list="stores" required maxlength="64" autocomplete="off"; }
                datalist #stores { @for store in stores { option value=(store) {} } }
                div.field { label for="terminal" { "Name of the till" } input #terminal name="terminal" required maxlength="64" placeholder="till-07" autocomplete="off"; }
                div.field { label for="life" { "The code is good for" } select #life name="minutes" { @for (minutes, name) in LIVES { option value=(minutes) { (name) } } } }
                div.go { button type="submit" { "Make a code" } }
            }
            p.hint { "A till that was wiped or replaced keeps its name: it gets a new device number and its old receipts stay." }
        }
    }
}

fn table(devices: &[Device], visitor: &Visitor, clock: &Clock) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Till" } th scope="col" { "Store" } th scope="col" { "State" } th scope="col" { "Last contact" } th scope="col" { "Software" } th scope="col" { "Policy" } th scope="col" { "Key" } @if may(visitor, Role::Admin) { th scope="col" { "" } } } }
            tbody { @for device in devices {
                tr {
                    th scope="row" { (device.log.terminal) @if device.log.incarnation > 1 { span.soft.small { " device " (device.log.incarnation) } } }
                    td data-name="Store" { (device.store) }
                    td data-name="State" {
                        @if device.revoked { (chip(Tone::Bad, "shut out")) }
                        @else if !device.newest { (chip(Tone::Calm, "replaced")) }
                        @else if device.online { (chip(Tone::Good, "online")) }
                        @else { (chip(Tone::Warn, "offline")) }
                    }
                    td data-name="Last contact" { @match device.heard_ms { Some(at) => (show::ago(at, now_ms(), clock)), None => "never" } }
                    td data-name="Software" { @match &device.software {
                        Some(version) if version != env!("CARGO_PKG_VERSION") => (chip(Tone::Warn, &format!("{version}, the hub has {}", env!("CARGO_PKG_VERSION")))),
                        Some(version) => (version),
                        None => span.soft { "not told" },
                    } }
                    td data-name="Policy" { @match device.policy {
                        Some(version) if version < device.newest_policy => (chip(Tone::Warn, &format!("version {version}, not yet {}", device.newest_policy))),
                        Some(version) => { "version " (version) },
                        None => span.soft { "not told" },
                    } }
                    td data-name="Key" { code { (device.writer.short()) } }
                    @if may(visitor, Role::Admin) { td data-name="" {
                        @if device.newest && !device.revoked {
                            details id={ "revoke-" (device.log.terminal) } {
                                summary { "Shut out" }
                                form method="post" action="/fleet/revoke" {
                                    (layout::csrf(visitor))
                                    input type="hidden" name="terminal" value=(device.log.terminal);
                                    p.small { "It cannot connect any more. Receipts after the last that arrived are held." }
                                    button.danger type="submit" { "Shut " (device.log.terminal) " out" }
                                }
                            }
                        }
                    } }
                }
            } }
        } }
    }
}

/// `POST /fleet/enrol`.
pub async fn enrol(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let minutes = fields.text("minutes").parse::<u64>().ok();
    let minutes = minutes.filter(|minutes| LIVES.iter().any(|life| life.0 == *minutes)).unwrap_or(15);
    let (store, terminal) = (fields.text("store").trim(), fields.text("terminal").trim());
    let made = console.hub.invite(store, terminal, Duration::from_secs(minutes * 60)).await;
    let above = match made {
        Ok(code) => {
            let text = code["code"].as_str().unwrap_or("").to_owned();
            let expires = code["expires_at"].as_str().unwrap_or("").replace('T', " ");
            html! {
                section.card {
                    h2 { "Code for " (terminal) " of " (store) }
                    div.grid {
                        (qr(&text))
                        div {
                            p { "On the till, scan it or type:" }
                            p { code.long { "tillsync terminal join --dir DIR --code " (text) } }
                            p.soft { "It works once, until " (expires.get(..16).unwrap_or("")) " UTC. It is shown only now." }
                        }
                    }
                }
            }
        }
        Err(failure) => notice(Tone::Bad, &format!("No code was made: {}.", failure.message)),
    };
    Ok(shown(&console, &visitor, &above).await?.into_response())
}

/// The code as a drawing: dark modules as one path.
fn qr(text: &str) -> Markup {
    let Ok(code) = QrCode::new(text.as_bytes()) else { return html! {} };
    let width = code.width();
    let mut path = String::new();
    for (at, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            path.push_str(&format!("M{} {}h1v1h-1z", at % width, at / width));
        }
    }
    html! { svg.qr viewBox={ "0 0 " (width) " " (width) } role="img" aria-label="The code to scan" { path d=(path) {} } }
}

/// `POST /fleet/revoke`.
pub async fn revoke(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let above = match console.hub.revoke(fields.text("terminal"), None, None).await {
        Ok(view) => notice(
            Tone::Good,
            &format!(
                "{} is shut out. Receipts after number {} are held.",
                fields.text("terminal"),
                show::number(view["last_valid_seq"].as_u64().unwrap_or(0))
            ),
        ),
        Err(failure) => notice(Tone::Bad, &format!("Not shut out: {}.", failure.message)),
    };
    Ok(shown(&console, &visitor, &above).await?.into_response())
}
