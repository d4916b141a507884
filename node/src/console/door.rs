//! The door of the console: a person's token opens a session (the same that `POST /v1/session` opens, see `api::session`),
//! a cookie carries it, and every form must prove that it came from a page of ours. What is behind it sees a [`Visitor`],
//! never a token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Form, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::layout::{Page, Tone, bare, notice};
use super::{Console, Fields};
use crate::api::problem::Problem;
use crate::api::session;
use crate::hub::{LIFE_LIMIT, Person, Role, same};
use crate::runtime::clock::now_ms;

/// Largest form, in bytes.
const FORM_BYTES: usize = 256 << 10;

/// Somebody who is logged in, as a page sees them.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Who it is.
    pub person: Person,
    /// What every form of theirs carries; another site cannot know it.
    pub csrf: String,
}

/// Where somebody wanted to go.
#[derive(Deserialize, Default)]
pub struct Wanted {
    to: Option<String>,
}

/// `GET /login`.
pub async fn form(Query(wanted): Query<Wanted>) -> Page {
    login_page(wanted.to.as_deref(), None)
}

fn login_page(to: Option<&str>, refused: Option<&str>) -> Page {
    bare(
        "Log in",
        &html! {
            div.door {
                form.card method="post" action="/login" {
                    div.row { span.mark aria-hidden="true" {} h1 { "Tillsync" } }
                    @if let Some(reason) = refused { (notice(Tone::Bad, reason)) }
                    div.field {
                        label for="token" { "Your token" }
                        input #token name="token" type="password" autocomplete="current-password" required autofocus
                            spellcheck="false" aria-describedby="token-hint";
                        p.hint #token-hint { "An administrator gave it to you. It begins with tsk_." }
                    }
                    @if let Some(to) = to { input type="hidden" name="to" value=(to); }
                    button type="submit" { "Log in" }
                }
            }
        },
    )
}

/// `POST /login`: a right token begins a session; wrong ones slow their address down.
pub async fn log_in(
    State(console): State<Arc<Console>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(fields): Form<Vec<(String, String)>>,
) -> Response {
    let fields = Fields(fields);
    let to = Some(fields.text("to")).filter(|to| is_local(to));
    if let Err(problem) = session::same_site(&headers) {
        return problem.into_response();
    }
    let address = session::caller(from, &headers);
    let token = match session::look_at(&console.hub, address, fields.text("token").trim()) {
        Ok(token) => token,
        Err(problem) => return (problem.status, login_page(to, Some(&problem.detail))).into_response(),
    };
    let Some((person, opened)) = console.hub.open_session(token) else {
        let problem = session::wrong(&console.hub, address);
        return (problem.status, login_page(to, Some("This token is not known here."))).into_response();
    };
    console.hub.audit().note(now_ms(), None, Some(person.name), "logged-in", format!("from {address}"));
    let cookie = session::set_cookie(&headers, &opened.secret, LIFE_LIMIT.as_secs());
    ([cookie], Redirect::to(to.unwrap_or("/"))).into_response()
}

/// `POST /logout`.
pub async fn log_out(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    if let Some(secret) = session::cookie(&headers) {
        console.hub.end_session(secret);
    }
    ([session::set_cookie(&headers, "", 0)], Redirect::to("/login")).into_response()
}

/// Lets in who has a session and the role; a form must carry the session's word.
pub async fn guard(
    State((console, needed)): State<(Arc<Console>, Role)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = session::caller(from, request.headers());
    let known = session::cookie(request.headers()).and_then(|secret| console.hub.who_in_session(secret));
    let Some(visitor) = known.map(|(person, csrf)| Visitor { person, csrf }) else {
        if wants_events(request.headers()) {
            // A page whose session has ended: an event source that is led to a form complains to nobody who reads it,
            // and one that gets this stops asking; the page then reads itself again and finds the form.
            return StatusCode::NO_CONTENT.into_response();
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let to = if request.method() == Method::GET && path != "/" {
            format!("/login?to={}", escape(path))
        } else {
            "/login".to_owned()
        };
        return Redirect::to(&to).into_response();
    };
    if visitor.person.role < needed {
        let detail = format!(
            "this needs the role of {}; {} has that of {}",
            needed.as_str(),
            visitor.person.name,
            visitor.person.role.as_str()
        );
        return Problem::new(StatusCode::FORBIDDEN, "not allowed", detail).into_response();
    }
    if request.method() == Method::POST {
        request = match proven(&visitor, request).await {
            Ok(request) => request,
            Err(problem) => return problem.into_response(),
        };
        let fields = request.extensions().get::<Fields>();
        if let Some(token) = fields.and_then(|fields| fields.filled("approver"))
            && let Err(problem) = session::look_at_another(&console.hub, address, &token)
        {
            return problem.into_response();
        }
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|kinds| kinds.as_bytes() == b"text/event-stream")
}

/// Reads a form and checks that it came from a page of this session.
async fn proven(visitor: &Visitor, request: Request) -> Result<Request, Problem> {
    let refused = |detail: &str| Problem::new(StatusCode::FORBIDDEN, "not allowed", detail);
    session::same_site(request.headers())?;
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, FORM_BYTES).await.map_err(|_| Problem::invalid("the form is too large"))?;
    let again = Request::from_parts(parts.clone(), Body::from(bytes));
    let read = Form::<Vec<(String, String)>>::from_request(again, &()).await;
    let fields = Fields(read.map_err(|error| Problem::invalid(error.body_text()))?.0);
    if !same(fields.text("csrf"), &visitor.csrf) {
        return Err(refused(
            "the form is from an earlier log-in. Go back, load the page again, and repeat it",
        ));
    }
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(fields);
    Ok(request)
}

/// A path of this hub, and no way out of it.
fn is_local(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n'])
}

/// A text as part of a query or path.
pub fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_log_in_nobody_is_sent_elsewhere() {
        assert!(is_local("/review?state=open"));
        for elsewhere in
            ["https://evil.example", "//evil.example", "/\\evil.example", "review", "/a\r\nSet-Cookie: x"]
        {
            assert!(!is_local(elsewhere), "{elsewhere}");
        }
    }
}
