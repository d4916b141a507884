//! The join conversation: one question, one answer, over any byte stream (in the product: a QUIC stream with
//! ALPN `tillsync-join/1` to a hub whose CA matches the code).
//!
//! Each message is a little-endian u32 length, at most [`JOIN_MESSAGE_LIMIT`], and JSON. The till says its
//! secret, its public key, a label and a signature that proves it owns the key; the hub answers with
//! `{"granted": …}` or `{"refused": {"reason": …}}`. The till sends the secret only after the hub's certificate
//! chain was found to match the code, so a wrong hub learns nothing. Whether the secret is right is decided by
//! the hub's callback, which marks it used, durably, before it answers; an answer that got lost can be asked for
//! again with the same key. This file keeps nothing.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::enrolled::{base64, fixed, hex_key};
use super::{
    Applicant, Authority, CaFingerprint, Decide, Enrolment, Grant, HubList, IdentityError, Instance,
    JoinCode, JoinError, JoinGate, JoinOutcome, JoinSecret, NodeKey, PublicKey, Refusal, Role, Twins, keys,
    system_seconds, verify_chain,
};

/// Longest message of the join conversation, in bytes.
pub const JOIN_MESSAGE_LIMIT: usize = 16 * 1024;
/// A join conversation ends after this, finished or not.
pub const JOIN_DEADLINE: Duration = Duration::from_secs(10);
/// Join conversations that a hub holds at the same time.
pub const JOIN_SEATS: usize = 16;
/// Longest label of a device, in characters; the rest is cut.
const LABEL_LIMIT: usize = 120;
const PROOF_DOMAIN: &str = "tillsync 2026 join proof";

/// The till's question.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    v: u32,
    secret: Hex<16>,
    public_key: Hex<32>,
    proof: Hex<64>,
    label: String,
}

/// The hub's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Granted(Granted),
    Refused(Refusal),
}

#[derive(Debug, Serialize, Deserialize)]
struct Granted {
    #[serde(with = "base64")]
    certificate: Vec<u8>,
    #[serde(with = "base64")]
    ca: Vec<u8>,
    #[serde(with = "hex_key")]
    hub_public_key: PublicKey,
    company: String,
    #[serde(flatten)]
    grant: Grant,
}

/// Asked before each join conversation: whether this hub enrols. If not, the `host:port` of the hub that does, where it is
/// known.
pub type Enrols = Arc<dyn Fn() -> Result<(), Option<String>> + Send + Sync>;

/// The hub's side: who issues, who decides, and how many at a time.
pub struct JoinDesk {
    authority: Arc<Authority>,
    hub_public_key: PublicKey,
    decide: Decide,
    enrols: Enrols,
    hubs: HubList,
    gate: Mutex<JoinGate>,
    seats: Semaphore,
    twins: Mutex<Twins>,
}

impl JoinDesk {
    /// A desk with [`JOIN_SEATS`] seats.
    #[must_use]
    pub fn new(authority: Arc<Authority>, hub_public_key: PublicKey, decide: Decide) -> Self {
        let (gate, seats) = (Mutex::default(), Semaphore::new(JOIN_SEATS));
        let enrols: Enrols = Arc::new(|| Ok(()));
        let (hubs, twins) = (HubList::default(), Mutex::default());
        Self { authority, hub_public_key, decide, enrols, hubs, gate, seats, twins }
    }

    /// The same desk of a hub that does not always enrol, because another one of the company may.
    #[must_use]
    pub fn enrolling_if(self, enrols: Enrols) -> Self {
        Self { enrols, ..self }
    }

    /// The same desk, whose tills are told these hubs with their papers; an empty list tells them nothing.
    #[must_use]
    pub fn naming(self, hubs: HubList) -> Self {
        Self { hubs, ..self }
    }

    /// Whether this hub enrols now; if not, who does, where it is known.
    ///
    /// # Errors
    /// Another hub does.
    pub fn enrols(&self) -> Result<(), Option<String>> {
        (self.enrols)()
    }

    /// The company's hubs, as tills are told.
    #[must_use]
    pub fn hubs(&self) -> &HubList {
        &self.hubs
    }

    /// The certificate authority behind it.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// An instance of a till has connected. True when another with its key had followed it.
    pub fn met(&self, key: PublicKey, instance: Instance) -> bool {
        // Whatever a panicking holder left tells clones well enough.
        self.twins.lock().unwrap_or_else(PoisonError::into_inner).met(key, instance)
    }

    /// Holds one conversation, to its end or to the deadline.
    pub async fn serve<S>(&self, mut stream: S, remote: SocketAddr) -> JoinOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let conversation = async {
            let (reply, outcome) = match self.answer(&mut stream, remote).await {
                Ok(answer) => answer,
                Err(reason) => return JoinOutcome::Broken(reason),
            };
            match write_message(&mut stream, &reply).await {
                Ok(()) => outcome,
                Err(e) => JoinOutcome::Broken(format!("the answer could not be sent: {e}")),
            }
        };
        match timeout(JOIN_DEADLINE, conversation).await {
            Ok(outcome) => outcome,
            Err(_) => JoinOutcome::Broken(format!("not finished within {JOIN_DEADLINE:?}")),
        }
    }

    async fn answer<S>(&self, stream: &mut S, remote: SocketAddr) -> Result<(Reply, JoinOutcome), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let refused = |r: Refusal| Ok((Reply::Refused(r.clone()), JoinOutcome::Refused(r)));
        let Ok(_seat) = self.seats.try_acquire() else { return refused(Refusal::Busy) };
        let request: Request = match read_message(stream).await {
            Ok(request) => request,
            Err(ReadFailed::Malformed(detail)) => return refused(Refusal::Malformed { detail }),
            Err(ReadFailed::Broken(reason)) => return Err(reason),
        };
        match self.judge(request, remote).await {
            Ok((granted, outcome)) => Ok((Reply::Granted(granted), outcome)),
            Err(refusal) => refused(refusal),
        }
    }

    async fn judge(&self, request: Request, remote: SocketAddr) -> Result<(Granted, JoinOutcome), Refusal> {
        let malformed = |detail: &str| Refusal::Malformed { detail: detail.to_owned() };
        if request.v != 1 {
            return Err(malformed("unknown version of the join message"));
        }
        let wait = self.gate().wait(remote.ip(), Instant::now());
        if !wait.is_zero() {
            return Err(Refusal::TooManyAttempts { seconds: wait.as_secs() + 1 });
        }
        let (secret, public_key) = (JoinSecret(request.secret.0), request.public_key.0);
        let message = proof_message(&secret, &public_key, self.authority.fingerprint());
        if !keys::verifies(&public_key, &message, &request.proof.0) {
            return Err(malformed("the signature does not prove that the device owns its key"));
        }
        let label = request.label.chars().filter(|c| !c.is_control()).take(LABEL_LIMIT).collect();
        let grant = (self.decide)(Applicant { secret, public_key, label, remote }).await;
        let grant = grant.inspect_err(|refusal| {
            if *refusal == Refusal::Unknown {
                self.gate().wrong(remote.ip(), Instant::now());
            }
        })?;
        let name = format!("{}/{}", grant.store, grant.terminal);
        let certificate = self
            .authority
            .issue_at(&public_key, &name, Role::Till, self.authority.time(system_seconds()))
            .map_err(|e| Refusal::HubFailed { detail: e.to_string() })?;
        let outcome =
            JoinOutcome::Granted { public_key, store: grant.store.clone(), terminal: grant.terminal.clone() };
        let granted = Granted {
            certificate,
            ca: self.authority.certificate(),
            hub_public_key: self.hub_public_key,
            company: self.authority.company().to_owned(),
            grant,
        };
        Ok((granted, outcome))
    }

    fn gate(&self) -> std::sync::MutexGuard<'_, JoinGate> {
        // The gate's data are counters: whatever a panicking holder left is good enough.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The till's side, over a stream to a hub whose certificate chain has been checked against the code.
/// `hub_seen` is the public key in that certificate.
///
/// # Errors
/// When the hub refuses, breaks off, or answers with something that does not fit.
pub async fn ask_to_join<S>(
    stream: &mut S,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
    hub_seen: &PublicKey,
) -> Result<Enrolment, JoinError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let public_key = key.public();
    let request = Request {
        v: 1,
        secret: Hex(code.secret.0),
        public_key: Hex(public_key),
        proof: Hex(key.sign(&proof_message(&code.secret, &public_key, code.ca))),
        label: label.chars().take(LABEL_LIMIT).collect(),
    };
    let conversation = async {
        write_message(stream, &request).await.map_err(|e| JoinError::Broken(e.to_string()))?;
        read_message::<Reply, _>(stream).await.map_err(|e| match e {
            ReadFailed::Broken(reason) => JoinError::Broken(reason),
            ReadFailed::Malformed(detail) => JoinError::BadAnswer(detail),
        })
    };
    let reply = timeout(JOIN_DEADLINE, conversation)
        .await
        .map_err(|_| JoinError::Broken(format!("no answer within {JOIN_DEADLINE:?}")))??;
    match reply {
        Reply::Refused(refusal) => Err(refusal.into()),
        Reply::Granted(granted) => accept(granted, code, &public_key, hub_seen),
    }
}

fn accept(
    granted: Granted,
    code: &JoinCode,
    public_key: &PublicKey,
    hub_seen: &PublicKey,
) -> Result<Enrolment, JoinError> {
    let bad = |what: &str| JoinError::BadAnswer(what.to_owned());
    if CaFingerprint::of(&granted.ca) != code.ca {
        return Err(bad("its company certificate is not the one of the code"));
    }
    let facts = verify_chain(&granted.certificate, &granted.ca)
        .map_err(|e: IdentityError| JoinError::BadAnswer(e.to_string()))?;
    if facts.public_key != *public_key || facts.role != Role::Till {
        return Err(bad("the certificate is not this till's"));
    }
    if granted.hub_public_key != *hub_seen {
        return Err(bad("it names another hub than the one that answered"));
    }
    let Granted { certificate, ca, hub_public_key, company, grant } = granted;
    let Grant { store, terminal, incarnation, time_zone, currency, extra } = grant;
    let mut hubs = code.hubs().iter().map(ToString::to_string);
    let hub_address = hubs.next().unwrap_or_default();
    Ok(Enrolment {
        company,
        store,
        terminal,
        incarnation,
        hub_public_key,
        hub_address,
        hub_addresses: hubs.collect(),
        time_zone,
        currency,
        certificate,
        trusted: vec![ca.clone()],
        ca,
        extra,
    })
}

/// What the device signs: bound to the code, the key and the company, so that it proves nothing elsewhere.
fn proof_message(secret: &JoinSecret, public_key: &PublicKey, ca: CaFingerprint) -> [u8; 32] {
    blake3::derive_key(PROOF_DOMAIN, &[secret.0.as_slice(), public_key, &ca.0].concat())
}

/// Why a message could not be read.
pub(super) enum ReadFailed {
    Broken(String),
    Malformed(String),
}

impl ReadFailed {
    pub(super) fn into_words(self) -> String {
        match self {
            Self::Broken(reason) | Self::Malformed(reason) => reason,
        }
    }
}

pub(super) async fn read_message<T: DeserializeOwned, S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<T, ReadFailed> {
    let broken = |e: std::io::Error| ReadFailed::Broken(e.to_string());
    let length = usize::try_from(stream.read_u32_le().await.map_err(broken)?).unwrap_or(usize::MAX);
    if length > JOIN_MESSAGE_LIMIT {
        return Err(ReadFailed::Malformed(format!(
            "a message of {length} bytes, {JOIN_MESSAGE_LIMIT} are allowed"
        )));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(broken)?;
    take_end(stream).await;
    serde_json::from_slice(&bytes).map_err(|e| ReadFailed::Malformed(e.to_string()))
}

/// Takes the end of the stream, if it has come with the message: a QUIC stream that is let go of before its end was seen is
/// stopped, with a datagram of its own each way.
async fn take_end<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    poll_fn(|context| {
        let _ = Pin::new(&mut *stream).poll_read(context, &mut buffer);
        Poll::Ready(())
    })
    .await;
}

pub(super) async fn write_message<T: Serialize, S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &T,
) -> std::io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= JOIN_MESSAGE_LIMIT);
    let length = length.ok_or_else(|| {
        std::io::Error::other(format!(
            "the message has {} bytes, {JOIN_MESSAGE_LIMIT} are allowed",
            body.len()
        ))
    })?;
    stream.write_all(&[length.to_le_bytes().as_slice(), &body].concat()).await?;
    stream.shutdown().await
}

/// N bytes, hexadecimal in JSON.
struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Debug for Hex<N> {
    // Requests carry secrets: none reaches a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'d, const N: usize> Deserialize<'d> for Hex<N> {
    fn deserialize<D: Deserializer<'d>>(d: D) -> Result<Self, D::Error> {
        fixed(&String::deserialize(d)?).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: ([u8; 4], u16) = ([10, 0, 0, 9], 5000);

    fn grant() -> Grant {
        Grant {
            store: "S1".into(),
            terminal: "T1".into(),
            incarnation: 2,
            time_zone: "Europe/London".into(),
            currency: "GBP".into(),
            extra: b"policy".to_vec(),
        }
    }

    fn desk(right: JoinSecret) -> (Arc<JoinDesk>, JoinCode) {
        let ca = Arc::new(Authority::generate("Acme").unwrap());
        let code = JoinCode::with_secret("hub:1".parse().unwrap(), ca.fingerprint(), right);
        let decide: Decide = Arc::new(move |a| {
            let answer = if a.secret == right { Ok(grant()) } else { Err(Refusal::Unknown) };
            Box::pin(async move { answer })
        });
        (Arc::new(JoinDesk::new(ca, [8; 32], decide)), code)
    }

    async fn join(desk: &Arc<JoinDesk>, code: &JoinCode, hub_seen: [u8; 32]) -> Result<Enrolment, JoinError> {
        let (mut till, hub) = tokio::io::duplex(1024);
        let served = tokio::spawn({
            let desk = desk.clone();
            async move { desk.serve(hub, REMOTE.into()).await }
        });
        let key = NodeKey::from_seed(&[1; 32]);
        let result = ask_to_join(&mut till, code, &key, "till \u{7} one", &hub_seen).await;
        served.await.unwrap();
        result
    }

    #[tokio::test]
    async fn a_right_secret_gets_a_place_and_a_certificate() {
        let (desk, code) = desk(JoinSecret([1; 16]));
        let enrolment = join(&desk, &code, [8; 32]).await.unwrap();
        assert_eq!((enrolment.terminal.as_str(), enrolment.incarnation), ("T1", 2));
        assert_eq!((enrolment.company.as_str(), enrolment.extra.as_slice()), ("Acme", b"policy".as_slice()));
        enrolment.identity(NodeKey::from_seed(&[1; 32])).unwrap();
    }

    #[tokio::test]
    async fn wrong_secrets_are_refused_and_then_slowed_down() {
        let (desk, code) = desk(JoinSecret([1; 16]));
        let mut wrong = code.clone();
        wrong.secret = JoinSecret([2; 16]);
        for _ in 0..5 {
            let refused = join(&desk, &wrong, [8; 32]).await;
            assert!(matches!(refused, Err(JoinError::Refused(Refusal::Unknown))), "{refused:?}");
        }
        let refused = join(&desk, &code, [8; 32]).await;
        assert!(matches!(refused, Err(JoinError::Refused(Refusal::TooManyAttempts { .. }))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_hub_that_answers_with_anothers_name_or_company_is_not_believed() {
        let (desk, code) = desk(JoinSecret([1; 16]));
        assert!(matches!(join(&desk, &code, [9; 32]).await, Err(JoinError::BadAnswer(_))));
        let mut other = code;
        other.ca = CaFingerprint([0; 16]);
        // The proof is bound to the company, so the hub of another one does not even ask its callback.
        assert!(matches!(
            join(&desk, &other, [8; 32]).await,
            Err(JoinError::Refused(Refusal::Malformed { .. }))
        ));
    }

    #[tokio::test]
    async fn garbage_oversize_and_silence_end_the_conversation() {
        let (desk, _) = desk(JoinSecret([1; 16]));
        for garbage in [vec![0xff; 64], [8_u32.to_le_bytes().as_slice(), b"not json"].concat()] {
            let (mut till, hub) = tokio::io::duplex(1024);
            till.write_all(&garbage).await.unwrap();
            let outcome = desk.serve(hub, REMOTE.into()).await;
            assert!(matches!(outcome, JoinOutcome::Refused(Refusal::Malformed { .. })), "{outcome:?}");
        }
        let (till, hub) = tokio::io::duplex(1024);
        drop(till);
        assert!(matches!(desk.serve(hub, REMOTE.into()).await, JoinOutcome::Broken(_)));
    }

    #[test]
    fn a_newer_hubs_reason_is_still_an_answer() {
        let reply: Reply =
            serde_json::from_str(r#"{"refused":{"reason":"moon_phase","detail":"x"}}"#).unwrap();
        assert!(matches!(reply, Reply::Refused(Refusal::Unrecognised)));
    }
}
