//! One attempt at a delivery: an HTTP POST with a time limit, in a thread of its own. TLS believes the authorities that this
//! machine believes; no redirect is followed and no proxy asked.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::crypto::ring;
use tokio::sync::oneshot;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::secret::Secret;

/// Time for an attempt, from looking up the name to the answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// What is read of an answer, so that its connection can be used again; nobody looks at it.
const ANSWER_BYTES: u64 = 64 << 10;
/// Longest address.
const URL_BYTES: usize = 2_048;
const USER_AGENT: &str = concat!("tillsync/", env!("CARGO_PKG_VERSION"));

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered 2xx: it is the receiver's now.
    Accepted,
    /// Answered 410: the receiver wants nothing more.
    Gone,
    /// Anything else.
    Failed {
        /// In words, without anything secret.
        reason: String,
        /// How long the receiver asked to be left alone.
        asked: Option<Duration>,
    },
}

/// Something to deliver.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
}

/// Delivers. Clones share connections.
#[derive(Clone, Default)]
pub(crate) struct Post(Arc<OnceLock<ureq::Agent>>);

impl Post {
    /// Makes one attempt, signed now.
    pub(crate) async fn send(&self, url: &str, secret: &Secret, message: Message, now_ms: i64) -> Outcome {
        let (tell, told) = oneshot::channel();
        let (post, url, secret) = (self.clone(), url.to_owned(), secret.clone());
        // Not one of the runtime's threads: a hub that stops does not wait for a receiver.
        let thread = std::thread::Builder::new().name("webhook".to_owned()).spawn(move || {
            let _ = tell.send(post.attempt(&url, &secret, &message, now_ms / 1_000));
        });
        let failed = |reason: String| Outcome::Failed { reason, asked: None };
        match thread {
            Ok(_) => told.await.unwrap_or_else(|_| failed("the attempt broke off".to_owned())),
            Err(error) => failed(format!("no thread for the attempt: {error}")),
        }
    }

    fn attempt(&self, url: &str, secret: &Secret, message: &Message, timestamp: i64) -> Outcome {
        let signature = secret.sign(&message.id, timestamp, &message.body);
        let request = self.0.get_or_init(agent).post(url);
        let answered = request
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp.to_string())
            .header("webhook-signature", signature)
            .send(&message.body[..]);
        match answered {
            Ok(mut answer) => {
                let outcome = judged(&answer);
                let _ = answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec();
                outcome
            }
            Err(error) => Outcome::Failed { reason: in_words(&error), asked: None },
        }
    }
}

fn agent() -> ureq::Agent {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!(
            "this machine names no certificate authority (package ca-certificates), so https fails"
        );
    }
    let roots = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .user_agent(USER_AGENT)
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(ATTEMPT))
        .build()
        .into()
}

fn judged(answer: &Response<ureq::Body>) -> Outcome {
    let status = answer.status();
    if status.is_success() {
        return Outcome::Accepted;
    }
    if status == StatusCode::GONE {
        return Outcome::Gone;
    }
    let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let why = if status.is_redirection() { ": redirects are not followed" } else { "" };
    Outcome::Failed { reason: format!("answered {status}{why}"), asked: asked.map(Duration::from_secs) }
}

fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", ATTEMPT.as_secs()),
        ureq::Error::HostNotFound => "the host's name is not known".to_owned(),
        other => other.to_string(),
    }
}

/// Checks an address: https, or http to this very machine, where a test or a proxy with a certificate of its own listens.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}; write --url https://HOST/PATH"));
    if url.len() > URL_BYTES {
        return wrong("the URL is longer than 2,048 bytes");
    }
    let Ok(uri) = url.parse::<Uri>() else { return wrong("that is no URL") };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return wrong("the URL names no scheme or no host");
    };
    if authority.as_str().contains('@') {
        return wrong(
            "the URL holds a user or password, which would be shown and logged; deliveries are signed instead",
        );
    }
    if url.contains('#') {
        return wrong("the URL has a fragment, which no server sees");
    }
    match scheme {
        "https" => Ok(()),
        "http" if is_here(authority.host()) => Ok(()),
        "http" => wrong("plain http is for this machine only (localhost, 127.0.0.1, [::1])"),
        _ => wrong("the URL is not https"),
    }
}

fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Where an address leads, without path and query, which often hold a secret.
pub(crate) fn origin(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |it| it.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine() {
        for good in [
            "https://erp.example/hooks/tillsync?token=1",
            "https://10.0.0.4:8443/",
            "http://localhost:9/x",
            "http://127.0.0.2/",
            "http://[::1]:80/",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("http://erp.example/", "this machine only"),
            ("http://127.0.0.1.example/", "this machine only"),
            ("http://localhost.example/", "this machine only"),
            ("ftp://erp.example/", "not https"),
            ("https://user:word@erp.example/", "user or password"),
            ("http://127.0.0.1@erp.example/", "user or password"),
            ("https://erp.example/#part", "fragment"),
            ("/path", "no scheme"),
            ("https://", "no URL"),
            ("https://a b/", "no URL"),
        ] {
            let said = check_url(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
        let secret = check_url("https://user:word@erp.example/").unwrap_err();
        assert!(!secret.contains("word@"), "{secret}");
        assert!(check_url(&format!("https://erp.example/{}", "x".repeat(URL_BYTES))).is_err());
    }

    #[test]
    fn what_is_logged_of_an_address_holds_no_secret() {
        assert_eq!(origin("https://erp.example:8443/hooks/s3cret?token=1"), "https://erp.example:8443");
    }
}
