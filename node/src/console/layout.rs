//! What every page of the console has: head, navigation, landmarks, and the small parts that pages are made of.

use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::door::Visitor;
use crate::hub::Role;

/// The rooms of the console: path, name.
const ROOMS: [(&str, &str); 7] = [
    ("/", "Today"),
    ("/review", "Review"),
    ("/days", "Store-days"),
    ("/books", "Books"),
    ("/receipts", "Receipts"),
    ("/fleet", "Fleet"),
    ("/audit", "Audit"),
];

/// A finished page.
pub struct Page(pub Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        axum::response::Html(self.0.into_string()).into_response()
    }
}

/// A page of a room for somebody. `live` pages are read again when something happens.
pub fn page(visitor: &Visitor, room: &str, title: &str, live: bool, body: &Markup) -> Page {
    Page(html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body data-live=[live.then_some("/live")] {
                a.skip href="#main" { "Skip to the content" }
                header.bar {
                    a.brand href="/" { span.mark aria-hidden="true" {} "Tillsync" }
                    nav aria-label="Rooms" {
                        ul {
                            @for (path, name) in ROOMS {
                                li { a href=(path) aria-current=[(path == room).then_some("page")] { (name) } }
                            }
                        }
                    }
                    div.who {
                        span { (visitor.person.name) " · " (visitor.person.role.as_str()) }
                        form method="post" action="/logout" {
                            (csrf(visitor))
                            button.plain type="submit" { "Log out" }
                        }
                    }
                }
                main #main tabindex="-1" { (body) }
                @if live { p.stale #stale role="status" hidden { "No connection to the hub. What you see may be old." } }
            }
        }
    })
}

/// A page without a room: log-in and refusals.
pub fn bare(title: &str, body: &Markup) -> Page {
    Page(html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body.bare { main #main { (body) } }
        }
    })
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Tillsync" }
            link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/assets/style.css";
            script src="/assets/live.js" defer {}
        }
    }
}

/// What proves that a form came from a page of ours.
pub fn csrf(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="csrf" value=(visitor.csrf); }
}

/// How a state looks; it always says it in words as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// Somebody must look.
    Bad,
    /// Neither.
    Calm,
}

impl Tone {
    /// Name of its style.
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Calm => "calm",
        }
    }
}

/// A state in a word, with its colour and its own shape.
pub fn chip(tone: Tone, text: &str) -> Markup {
    html! { span class={ "chip " (tone.class()) } { (text) } }
}

/// The head of a page.
pub fn heading(title: &str, lead: &str) -> Markup {
    html! {
        div.heading {
            h1 { (title) }
            @if !lead.is_empty() { p.lead { (lead) } }
        }
    }
}

/// Nothing to show, in a sentence.
pub fn nothing(text: &str) -> Markup {
    html! { p.nothing { (text) } }
}

/// A number somebody looks at first.
pub fn figure(name: &str, value: &str, below: &Markup, tone: Tone) -> Markup {
    html! {
        div class={ "figure " (tone.class()) } {
            p.name { (name) }
            p.value { (value) }
            p.below { (below) }
        }
    }
}

/// A notice above a page: what was done, or why not.
pub fn notice(tone: Tone, text: &str) -> Markup {
    html! { p class={ "notice " (tone.class()) } role=(if tone == Tone::Bad { "alert" } else { "status" }) { (text) } }
}

/// Whether somebody may do what needs a role; pages show no form that would be refused.
pub fn may(visitor: &Visitor, role: Role) -> bool {
    visitor.person.role >= role
}
