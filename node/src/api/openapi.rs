//! What there is, as OpenAPI 3.1: gathered from the handlers themselves, so that it cannot tell of another program. A test
//! holds it against the routes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Info, OpenApi as Document, Ref, RefOr, Response};
use utoipa::{IntoResponses, OpenApi, ToSchema};

use super::{exports, hub, kpi, review, till};
use crate::metrics;

/// A problem (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct ProblemBody {
    /// `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    kind: String,
    /// What kind of problem, in a few words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// This problem: operation, reason, way out.
    detail: String,
    /// The input field, if one is to blame.
    field: Option<String>,
}

/// The refusals that any endpoint may answer with.
pub struct Refused;

const REFUSALS: [(&str, &str); 11] = [
    ("400", "The request cannot be read."),
    ("401", "Nobody is there: a token is missing or not known."),
    ("403", "Not this person, or not from this device."),
    ("404", "Nothing of that name."),
    ("405", "The endpoint does not know the method."),
    ("409", "Used already, or changed meanwhile."),
    ("413", "The body is too large."),
    ("415", "The body is not of a kind that is taken."),
    ("422", "A field does not fit, or the rules do not allow it."),
    ("429", "Too many wrong tokens or codes from this address: ask again after the time that it tells."),
    (
        "503",
        "The storage failed, the node is stopping, or what is asked for passes from one hub to another (`Retry-After`).",
    ),
];

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let one = |(status, description): (&str, &str)| {
            let content = Content::new(Some(Ref::from_schema_name("ProblemBody")));
            let response = Response::builder()
                .description(description)
                .content("application/problem+json", content)
                .build();
            (status.to_owned(), RefOr::T(response))
        };
        REFUSALS.into_iter().map(one).collect()
    }
}

/// Answers that it serves.
#[utoipa::path(get, path = "/healthz", tag = "node", responses((status = 200, description = "It serves.", content_type = "text/plain", body = String)))]
pub async fn healthz() -> &'static str {
    "ok"
}

/// Parts that both roles have.
#[derive(OpenApi)]
#[openapi(paths(healthz), components(schemas(ProblemBody)))]
struct Common;

fn gathered(title: &str, description: &str, parts: Vec<Document>) -> Value {
    let mut document = Common::openapi();
    for part in parts {
        document.merge(part);
    }
    document.info = Info::builder()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .build();
    if let Some(components) = &mut document.components {
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
    serde_json::to_value(document).unwrap_or_default()
}

/// The hub's endpoints.
#[must_use]
pub fn hub() -> Value {
    let parts = vec![
        hub::Doc::openapi(),
        review::Doc::openapi(),
        exports::Doc::openapi(),
        kpi::Doc::openapi(),
        metrics::hub::Doc::openapi(),
    ];
    gathered(
        "Tillsync hub",
        "Stores, cases, books and tills of a company. Amounts are whole minor units.",
        parts,
    )
}

/// The till's endpoints.
#[must_use]
pub fn till() -> Value {
    let parts = vec![till::Doc::openapi(), metrics::till::Doc::openapi()];
    gathered(
        "Tillsync till",
        "Capture and status, on the till's own machine only. Amounts are whole minor units.",
        parts,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths with methods of a document.
    fn told(document: &Value) -> BTreeSet<(String, String)> {
        let paths = document["paths"].as_object().unwrap().iter();
        paths
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|it| (path.clone(), it.clone())))
            .collect()
    }

    /// Paths with methods that the sources serve: `.route("/v1/people", get(people).post(add_person))`.
    fn served(sources: &[&str]) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for route in sources.iter().flat_map(|source| source.split(".route(\"").skip(1)) {
            let (path, rest) = route.split_once('"').unwrap();
            let handlers = rest.split(".route(").next().unwrap().split(';').next().unwrap();
            for method in ["get", "post", "put", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    found.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
        found.remove(&("/openapi.json".to_owned(), "get".to_owned()));
        found
    }

    #[test]
    fn everything_that_is_served_is_told_and_nothing_else() {
        let of_hub = [include_str!("hub.rs"), include_str!("review.rs"), include_str!("exports.rs")];
        assert_eq!(told(&hub()), served(&of_hub));
        assert!(served(&of_hub).len() >= 25, "the routes were found");
        assert_eq!(told(&till()), served(&[include_str!("till.rs")]));
    }

    #[test]
    fn every_endpoint_tells_its_refusals_and_who_may_ask() {
        let document = hub();
        for (path, method) in
            told(&document).into_iter().filter(|row| !["/healthz", "/readyz"].contains(&row.0.as_str()))
        {
            let endpoint = &document["paths"][&path][&method];
            for status in ["401", "403", "422"] {
                let kinds = &endpoint["responses"][status]["content"];
                assert!(kinds.get("application/problem+json").is_some(), "{method} {path}: {status}");
            }
            assert_eq!(endpoint["security"][0]["token"], serde_json::json!([]), "{method} {path}");
        }
        assert!(document["components"]["schemas"]["ProblemBody"].is_object());
    }
}
