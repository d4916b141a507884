//! Errors as RFC 9457 `application/problem+json`.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use engine::host::NotRecorded;
use engine::replica::CaptureError;
use engine::transaction::InputError;
use serde_json::{Value, json};

use crate::runtime::store::StoreError;

/// Largest refusal of another's that is put into our form, in bytes.
const FOREIGN_BYTES: usize = 64 << 10;
/// When to ask again where a moment is enough, in seconds.
const MOMENT_S: u32 = 1;

/// Gives every refusal the form of a problem, also those of the framework (405, 413, a body that is no JSON).
pub async fn everywhere(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_ours = kind
        .is_some_and(|kind| kind.starts_with("application/problem+json") || kind.starts_with("text/html"));
    if !(status.is_client_error() || status.is_server_error()) || is_ours {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, FOREIGN_BYTES).await.unwrap_or_default();
    let title = status.canonical_reason().unwrap_or("refused");
    let detail = match String::from_utf8_lossy(&text).trim() {
        "" if status == StatusCode::METHOD_NOT_ALLOWED => "this endpoint does not know the method".to_owned(),
        "" => title.to_owned(),
        text => text.to_owned(),
    };
    let (problem, body) = Problem::new(status, title, detail).into_response().into_parts();
    // What else was said stays, such as which methods are allowed.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(problem.headers);
    Response::from_parts(parts, body)
}

/// A refusal as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// What kind of problem, in a few words.
    pub title: &'static str,
    /// This problem: operation, reason, way out.
    pub detail: String,
    /// The input field, if one is to blame.
    pub field: Option<String>,
    /// When to ask again, in seconds, if it passes by itself so soon.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem without a field.
    pub fn new(status: StatusCode, title: &'static str, detail: impl std::fmt::Display) -> Self {
        Self { status, title, detail: detail.to_string(), field: None, retry_after_s: None }
    }

    /// It passes by itself in a moment: whoever asks again then may be answered.
    #[must_use]
    pub fn passing(self) -> Self {
        Self { retry_after_s: Some(MOMENT_S), ..self }
    }

    /// Nothing of that name.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", what)
    }

    /// The input does not fit.
    pub fn invalid(detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid input", detail)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(field) = &self.field {
            body["field"] = json!(field);
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, headers, self.to_json().to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            title: "invalid transaction",
            detail: error.to_string(),
            field: Some(error.field),
            retry_after_s: None,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotRecorded(NotRecorded::Capture(CaptureError::Invalid(error))) => error.into(),
            StoreError::NotRecorded(NotRecorded::Capture(error @ CaptureError::Conflict { .. })) => {
                Self::new(StatusCode::CONFLICT, "already used", error)
            }
            StoreError::NotRecorded(NotRecorded::Storage(_)) | StoreError::Unreadable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage failed", error)
            }
            StoreError::DiskFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk full", error),
            StoreError::DatabaseAway => Self::new(StatusCode::SERVICE_UNAVAILABLE, "database away", error),
            StoreError::Elsewhere(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "another hub", error).passing()
            }
            StoreError::ChangesHands => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "changes hands", error).passing()
            }
            StoreError::TakingBack => Self::new(StatusCode::SERVICE_UNAVAILABLE, "taking back", error),
            StoreError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_while_a_store_changes_hands_is_told_when_to_ask_again() {
        let told = |error: StoreError| {
            let response = Problem::from(error).into_response();
            let after =
                response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
            (response.status(), after)
        };
        let moment = Some("1".to_owned());
        assert_eq!(told(StoreError::ChangesHands), (StatusCode::SERVICE_UNAVAILABLE, moment.clone()));
        assert_eq!(told(StoreError::Elsewhere(String::new())), (StatusCode::SERVICE_UNAVAILABLE, moment));
        // Nobody knows when a node that stops is there again.
        assert_eq!(told(StoreError::Stopping), (StatusCode::SERVICE_UNAVAILABLE, None));
    }
}
