//! The door of the hub's API: who is there, by bearer token (commands, scripts) or by session cookie (the console).
//!
//! `POST /v1/session {"token"}` logs in and sets the cookie; the answer holds `csrf`. `GET /v1/session` tells a page that
//! was loaded anew who is logged in, and the same `csrf`. `DELETE /v1/session` logs out. A cookie alone reads; a write with
//! it must repeat `csrf` in the header `X-Tillsync-Csrf` and must not come from another site's page. A wrong token slows
//! down the address that said it, and no other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use crate::hub::{Hub, LIFE_LIMIT, Person, Role, same};
use crate::runtime::clock::now_ms;

/// The cookie's name.
pub const COOKIE: &str = "tillsync_session";
/// The header with which a page proves that it is the hub's own.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-tillsync-csrf");
/// Longest token that is looked at, in bytes.
const TOKEN_BYTES: usize = 256;

/// The endpoints of the log-in.
pub fn routes() -> Router<Arc<Hub>> {
    Router::new().route("/v1/session", post(log_in).get(who).delete(log_out))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: String,
}

async fn log_in(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(request): Json<LogIn>,
) -> Result<Response, Problem> {
    same_site(&headers)?;
    let address = caller(from, &headers);
    let token = look_at(&hub, address, &request.token)?;
    let Some((person, opened)) = hub.open_session(token) else { return Err(wrong(&hub, address)) };
    hub.audit().note(now_ms(), None, Some(person.name.clone()), "logged-in", format!("from {address}"));
    let body = json!({
        "name": person.name,
        "role": person.role,
        "csrf": opened.csrf,
        "expires_in_seconds": LIFE_LIMIT.as_secs(),
    });
    Ok((StatusCode::CREATED, [set_cookie(&headers, &opened.secret, LIFE_LIMIT.as_secs())], Json(body))
        .into_response())
}

async fn who(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<serde_json::Value>, Problem> {
    let (person, csrf) = recognise(&hub, from, &headers)?;
    Ok(Json(json!({"name": person.name, "role": person.role, "csrf": csrf})))
}

async fn log_out(
    State(hub): State<Arc<Hub>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (person, csrf) = recognise(&hub, from, &headers)?;
    check_write(&headers, csrf.as_deref())?;
    if cookie(&headers).is_some_and(|secret| hub.end_session(secret)) {
        hub.audit().note(now_ms(), None, Some(person.name), "logged-out", String::new());
    }
    Ok((StatusCode::NO_CONTENT, [set_cookie(&headers, "", 0)]).into_response())
}

/// Lets in who holds a token or a session with the role that the endpoint asks for; the endpoint gets the [`Person`].
pub async fn guard(
    State((hub, needed)): State<(Arc<Hub>, Role)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let (person, csrf) = match recognise(&hub, from, request.headers()) {
        Ok(known) => known,
        Err(problem) => return problem.into_response(),
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && let Err(problem) = check_write(request.headers(), csrf.as_deref()) {
        return problem.into_response();
    }
    if person.role < needed {
        let detail =
            format!("{} is a {}; this needs a {}", person.name, person.role.as_str(), needed.as_str());
        return Problem::new(StatusCode::FORBIDDEN, "not allowed", detail).into_response();
    }
    let address = caller(from, request.headers());
    request.extensions_mut().insert(person);
    request.extensions_mut().insert(Caller(address));
    next.run(request).await
}

/// Where a request comes from, for endpoints that look at a further token.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub IpAddr);

/// Who is there; with a cookie, also the word that writes must repeat. A bearer token goes before a cookie.
fn recognise(hub: &Hub, from: SocketAddr, headers: &HeaderMap) -> Result<(Person, Option<String>), Problem> {
    let address = caller(from, headers);
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        // The owner of the machine is never locked out by a script beside them that has a wrong token.
        let token = if from.ip().is_loopback() && token.len() <= TOKEN_BYTES && hub.is_run_token(token) {
            token
        } else {
            look_at(hub, address, token)?
        };
        return hub.who(token).map(|person| (person, None)).ok_or_else(|| wrong(hub, address));
    }
    let known = cookie(headers).and_then(|secret| hub.who_in_session(secret));
    known.map(|(person, csrf)| (person, Some(csrf))).ok_or_else(|| {
        let detail = "this needs a token of the hub: pass --token, set TILLSYNC_TOKEN, or use --dir on the hub's \
                      machine; in a browser, log in (again: a session ends after a while, and when the hub restarts)";
        Problem::new(StatusCode::UNAUTHORIZED, "not authorised", detail)
    })
}

/// Hands the token over unless its address has said too many wrong ones: then it is not even looked at.
pub fn look_at<'t>(hub: &Hub, address: IpAddr, token: &'t str) -> Result<&'t str, Problem> {
    let wait = hub.token_gate().addresses.wait(address, Instant::now());
    if !wait.is_zero() {
        let detail =
            format!("too many wrong tokens from {address}; wait {} s and try again", wait.as_secs() + 1);
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts", detail));
    }
    if token.len() > TOKEN_BYTES {
        return Err(wrong(hub, address));
    }
    Ok(token)
}

/// A further token in a request, of a second approver: somebody logged in must not try out other people's tokens faster
/// than at the door.
pub fn look_at_another(hub: &Hub, address: IpAddr, token: &str) -> Result<(), Problem> {
    let token = look_at(hub, address, token)?;
    if hub.who(token).is_some() { Ok(()) } else { Err(wrong(hub, address)) }
}

/// The token was wrong: said in the audit log, and the address waits longer from here.
pub fn wrong(hub: &Hub, address: IpAddr) -> Problem {
    let now = Instant::now();
    let told = {
        let mut gate = hub.token_gate();
        gate.addresses.wrong(address, now);
        gate.told.take(now)
    };
    if told {
        hub.audit().note(now_ms(), None, Some(address.to_string()), "wrong-token", String::new());
    }
    let detail = "this needs a token of the hub, and nobody here has the one given; ask an admin for one (`tillsync hub \
                  people add`)";
    Problem::new(StatusCode::UNAUTHORIZED, "not authorised", detail)
}

/// Whether a write may be done: with a bearer token always (no browser adds one by itself), with a cookie only from the
/// hub's own pages.
fn check_write(headers: &HeaderMap, csrf: Option<&str>) -> Result<(), Problem> {
    let Some(csrf) = csrf else { return Ok(()) };
    same_site(headers)?;
    let given = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("");
    if same(given, csrf) {
        return Ok(());
    }
    let detail =
        "a write with a session needs the header X-Tillsync-Csrf with the word that GET /v1/session tells";
    Err(Problem::new(StatusCode::FORBIDDEN, "not from this page", detail))
}

/// Refuses what a browser says another site's page asked for.
pub(crate) fn same_site(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let foreign_site = site.is_some_and(|site| !matches!(site, "same-origin" | "none"));
    // Browsers that do not send Sec-Fetch-Site send Origin with writes. Scheme and host of the hub itself may be a
    // proxy's: the host that was asked for is what both ends see.
    let foreign_origin = text(header::ORIGIN).is_some_and(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_none() || host != text(header::HOST)
    });
    if foreign_site || foreign_origin {
        let detail = "another site's page asked for this; use the hub's own console";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not from this page", detail));
    }
    Ok(())
}

/// The address to hold wrong tokens against. Behind a proxy on this machine it is the last that the proxy was called from;
/// a header from anywhere else proves nothing.
pub(crate) fn caller(from: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get("x-forwarded-for").filter(|_| from.ip().is_loopback());
    let last = forwarded.and_then(|value| value.to_str().ok()).and_then(|list| list.rsplit(',').next());
    last.and_then(|address| address.trim().parse().ok()).unwrap_or_else(|| from.ip())
}

pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, secret)| secret)
}

/// Scripts of a page cannot read it, other sites' pages do not get it sent, and behind TLS it never travels without.
pub(crate) fn set_cookie(headers: &HeaderMap, secret: &str, life_seconds: u64) -> (HeaderName, HeaderValue) {
    let tls = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    let secure = if tls { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life_seconds}{secure}");
    let value = HeaderValue::from_str(&text).expect("hexadecimal digits and fixed words make a header");
    (header::SET_COOKIE, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_of_another_site_is_refused_however_the_browser_says_so() {
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example"), ("host", "hub.example")],
            &[("origin", "null"), ("host", "hub.example")],
        ] {
            assert!(same_site(&headers(foreign)).is_err(), "{foreign:?}");
        }
        for own in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "https://hub.example:8443"), ("host", "hub.example:8443")],
        ] {
            assert!(same_site(&headers(own)).is_ok(), "{own:?}");
        }
    }

    #[test]
    fn only_a_proxy_on_this_machine_is_believed_about_whom_it_serves() {
        let told = headers(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9")]);
        let at = |text: &str| caller(text.parse().unwrap(), &told).to_string();
        assert_eq!(at("127.0.0.1:1"), "203.0.113.9");
        assert_eq!(at("198.51.100.4:1"), "198.51.100.4");
    }

    #[test]
    fn the_cookie_is_found_among_others_and_is_closed_to_scripts_and_sites() {
        let sent = headers(&[("cookie", "a=b; tillsync_session=s3; tillsync_sessions=no")]);
        assert_eq!(cookie(&sent), Some("s3"));
        let (_, plain) = set_cookie(&headers(&[]), "s3", 60);
        assert_eq!(plain, "tillsync_session=s3; HttpOnly; SameSite=Strict; Path=/; Max-Age=60");
        let (_, tls) = set_cookie(&headers(&[("x-forwarded-proto", "https")]), "s3", 60);
        assert!(tls.to_str().unwrap().ends_with("; Secure"));
    }
}
