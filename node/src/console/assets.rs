//! What pages load, kept inside the binary, and the headers that keep anything else out.

use axum::body::to_bytes;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::layout::{Tone, bare, chip};
use crate::api::problem::Problem;

const FILES: [(&str, &str, &str); 5] = [
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("till.css", "text/css; charset=utf-8", include_str!("assets/till.css")),
    ("till.js", "text/javascript; charset=utf-8", include_str!("assets/till.js")),
];

/// What a page may load and do: nothing but what this node serves.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Nothing leaves the site. `no-referrer` would make browsers hide where our own forms come from as well.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];
/// Largest problem that is turned into a page, in bytes.
const PROBLEM_BYTES: usize = 64 << 10;

/// `GET /assets/{name}`.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|file| file.0 == name) else {
        return Problem::not_found("no such file").into_response();
    };
    let tag = format!("\"{}\"", &blake3::hash(text.as_bytes()).to_hex()[..16]);
    let cached = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| *known == tag) {
        return (StatusCode::NOT_MODIFIED, cached).into_response();
    }
    (cached, [(header::CONTENT_TYPE, *kind)], *text).into_response()
}

/// Puts the headers on everything; pages of somebody's are kept by no cache.
pub async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A refusal, as people read it: handlers answer with a problem, a browser gets a page.
pub async fn dress(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some("application/problem+json") {
        return response;
    }
    let status = response.status();
    let body = to_bytes(response.into_body(), PROBLEM_BYTES).await.unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let title = problem["title"].as_str().unwrap_or("refused");
    let mut detail = problem["detail"].as_str().unwrap_or("").to_owned();
    if let Some(first) = detail.get(..1) {
        detail.replace_range(..1, &first.to_uppercase());
    }
    let page = bare(
        title,
        &html! {
            div.door {
                div.card {
                    h1 { (chip(Tone::Bad, title)) }
                    p { (detail) @if !detail.ends_with('.') { "." } }
                    p { a.button href="/" { "Back to the beginning" } }
                }
            }
        },
    );
    (status, page).into_response()
}
