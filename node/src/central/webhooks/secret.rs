//! The secret of a subscription and what is signed with it, by the convention of Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a written secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a new secret; the convention allows 24 to 64.
const BYTES: usize = 32;

/// What deliveries of one subscription are signed with. Shown once, when it is made.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one.
    pub(crate) fn generate() -> Self {
        let bytes: [u8; BYTES] = rand::random();
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Reads `whsec_…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX)?.as_bytes()).ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// As it is kept and given to the receiver: `whsec_` and base64.
    pub(crate) fn written(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&self.0)))
    }

    /// The header `webhook-signature`: HMAC-SHA256 over `id.timestamp.body`.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the convention's own libraries.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_read_as_it_was_written_and_never_shown_by_accident() {
        let secret = Secret::generate();
        let written = secret.written();
        assert_eq!(Secret::parse(&written).unwrap().sign("m", 1, b"x"), secret.sign("m", 1, b"x"));
        assert_ne!(Secret::generate().written(), written);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for wrong in ["", "whsec", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64"] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
