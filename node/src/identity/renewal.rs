//! Papers for life: what a till's certificate is still good for, and the conversation by which it gets its next one.
//!
//! The till asks on its connection (ALPN `tillsync/1`, a second stream) soon after it is up and again when it is told to;
//! a till whose certificate has ended, or was signed by a former CA past its overlap, is sent away from there and asks on
//! a connection that allows nothing else (ALPN `tillsync-renew/1`). Either way the TLS handshake has proved that it owns
//! the key. The till's clock has no say in any of it: the hub judges by its own, and tells when to ask again.
//!
//! One question `{"v":1}`, one [`Reply`], each as a little-endian u32 length and JSON, at most 16 KiB. A till says in its
//! question what it [`Holds`], and a reply that would tell it nothing new is a short one. Revocation is not judged here: the
//! listener asks the hub's directory first.

use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::certificate::verify_under;
use super::enrolled::{base64, base64_list};
use super::enrolment::{ReadFailed, read_message, write_message};
use super::{
    Authority, BACKDATE_SECONDS, CertificateFacts, HUBS_MAX, Holds, HubAddress, HubList, IdentityError,
    Instance, Papers, PublicKey, Role, each_once, facts,
};

/// A renewal conversation ends after this, finished or not.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// A till asks again at least this often: so long a changed company certificate, or another list of hubs, may take to
/// reach a till whose link stands. Ten thousand tills ask some seventeen times a second.
const ASK_AGAIN_MAX_SECONDS: u64 = 600;
/// Of several hubs one may come, and another die a minute later: a till asks this often where they are.
const ASK_FOR_HUBS_SECONDS: u64 = 30;

/// What a till's certificate is good for at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything, for so many seconds more.
    Good {
        /// Until its end, or its CA's.
        seconds: u64,
    },
    /// Its own renewal and nothing else.
    RenewOnly {
        /// Why.
        reason: String,
    },
    /// Nothing: a person has to enrol the device anew.
    Void {
        /// Why.
        reason: String,
    },
}

/// The till's question.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    v: u32,
    /// 32 hexadecimal digits that this start of the till's process goes by.
    #[serde(default)]
    instance: String,
    /// What it holds; a till of an earlier version says nothing of it.
    #[serde(flatten)]
    holds: Holds,
}

/// The hub's answer: everything that the till should hold from now on, or that this is what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The hub's clock, seconds since 1970.
    pub now: u64,
    /// When to ask again, in seconds from now.
    pub ask_again_seconds: u64,
    /// Nothing of the rest has anything new for who asked: what it holds stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same: bool,
    /// A new certificate, DER; empty: the present one stays.
    #[serde(with = "base64", default, skip_serializing_if = "Vec::is_empty")]
    pub certificate: Vec<u8>,
    /// What goes along with it and proves a new CA to who knows an old one; empty only if all is the same.
    #[serde(with = "base64_list", default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Vec<u8>>,
    /// The company certificates to believe, the one that signs now first; empty only if all is the same.
    #[serde(with = "base64_list", default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<Vec<u8>>,
    /// Where another process with the same key connected from; empty: there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub twin: String,
    /// Why nothing is given; empty: all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// Where the company's hubs are (`host:port`), at most [`HUBS_MAX`]; empty: nothing to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<String>,
    /// How long the hub lets a link rest, in milliseconds; 0: nothing to say (a hub of an earlier version).
    #[serde(default)]
    pub rest_ms: u64,
}

impl Reply {
    /// The hubs that are named, as far as they are addresses.
    #[must_use]
    pub fn hubs(&self) -> Vec<HubAddress> {
        each_once(self.hubs.iter().filter_map(|text| text.parse().ok()).take(HUBS_MAX))
    }

    /// Whether it has anything for a till that holds this: it gives, warns or refuses, or lists something else. The chain
    /// is there for a certificate that is given, so without one it is no news.
    fn is_news_to(&self, holds: &Holds) -> bool {
        let silent = self.certificate.is_empty() && self.twin.is_empty() && self.refused.is_empty();
        !(silent && holds.has(&self.trusted, &self.hubs))
    }

    /// Says that all is the same in place of saying it again.
    fn shorten(&mut self) {
        self.same = true;
        self.chain.clear();
        self.trusted.clear();
        self.hubs.clear();
    }
}

impl Authority {
    /// The hub's time for judging and issuing, seconds since 1970: a clock that stands before the present CA was made
    /// is wrong.
    #[must_use]
    pub fn time(&self, system: u64) -> u64 {
        let made = x509_start(&self.certificate()).saturating_add(BACKDATE_SECONDS);
        system.max(made)
    }

    /// What a certificate is good for at a time (seconds since 1970). Its chain must have been checked by TLS against
    /// the CAs that are [known](super::Reign::known).
    #[must_use]
    pub fn standing(&self, leaf: &[u8], now: u64) -> Standing {
        let void = |reason: &str| Standing::Void { reason: reason.to_owned() };
        let reign = self.reign();
        let signed_by = |ca: &[u8]| verify_under(leaf, &[], &[ca.to_vec()]).ok();
        let (facts, full_until, renew_until) = match signed_by(&reign.certificate) {
            Some(facts) => (facts, u64::MAX, u64::MAX),
            None => {
                let former =
                    reign.former.iter().find_map(|f| signed_by(&f.certificate).map(|facts| (facts, f)));
                match former {
                    Some((facts, former)) => (facts, former.full_until, former.renew_until),
                    None => return void("it was signed by no certificate authority of this company"),
                }
            }
        };
        let grace_end = facts.not_after.saturating_add(self.terms().grace_seconds).min(renew_until);
        let end = facts.not_after.min(full_until);
        if now < end {
            Standing::Good { seconds: end - now }
        } else if now < grace_end {
            let reason =
                if now < facts.not_after { "its certificate authority was replaced" } else { "it has ended" };
            Standing::RenewOnly { reason: reason.to_owned() }
        } else {
            void("it ended too long ago to be renewed; enrol the device anew, or set the hub's clock right")
        }
    }

    /// The answer to a till that asks, at a time (seconds since 1970): a new certificate when the present one is past two
    /// thirds of its life (spread over a twelfth, so that a company's tills do not come together), was signed by a former
    /// CA, or lives longer than the terms say.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn reply(&self, leaf: &[u8], now: u64) -> Result<Reply, IdentityError> {
        let facts = facts(leaf)?;
        let reign = self.reign();
        let mut reply = Reply {
            now,
            ask_again_seconds: ASK_AGAIN_MAX_SECONDS,
            same: false,
            certificate: Vec::new(),
            chain: reign.chain(),
            trusted: reign.accepted(now),
            twin: String::new(),
            refused: String::new(),
            hubs: Vec::new(),
            rest_ms: 0,
        };
        if let Standing::Void { reason } = self.standing(leaf, now) {
            reply.refused = reason;
            return Ok(reply);
        }
        let by_present_ca = verify_under(leaf, &[], std::slice::from_ref(&reign.certificate)).is_ok();
        let life = self.terms().life_seconds;
        let issued = facts.not_before.saturating_add(BACKDATE_SECONDS);
        let due = renewal_due(&facts, life);
        // Made while the hub's clock ran ahead, or it runs behind now. Nobody can tell which; a shorter certificate could
        // lock the till out once the clock is right, so the present one stays.
        let from_the_future = issued > now.saturating_add(BACKDATE_SECONDS);
        let too_long = facts.not_after.saturating_sub(issued) > life;
        if !by_present_ca || (!from_the_future && (now >= due || too_long)) {
            reply.certificate = self.issue_at(&facts.public_key, &facts.name, Role::Till, now)?;
            reply.ask_again_seconds = (life / 3 * 2).clamp(1, ASK_AGAIN_MAX_SECONDS);
        } else {
            reply.ask_again_seconds = due.saturating_sub(now).clamp(1, ASK_AGAIN_MAX_SECONDS);
        }
        Ok(reply)
    }
}

/// When a certificate is to be renewed, seconds since 1970.
fn renewal_due(facts: &CertificateFacts, life: u64) -> u64 {
    let issued = facts.not_before.saturating_add(BACKDATE_SECONDS);
    let own_life = facts.not_after.saturating_sub(issued).min(life);
    let chance = blake3::hash(&[facts.public_key.as_slice(), &issued.to_le_bytes()].concat());
    let chance = u64::from(u16::from_le_bytes([chance.as_bytes()[0], chance.as_bytes()[1]]));
    let spread = (u128::from(own_life / 12) * u128::from(chance)) >> 16;
    issued.saturating_add(own_life / 3 * 2).saturating_add(u64::try_from(spread).unwrap_or(0))
}

fn x509_start(certificate: &[u8]) -> u64 {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let start =
        X509Certificate::from_der(certificate).map(|(_, read)| read.validity().not_before.timestamp());
    start.ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}

/// The hub's side of one conversation, over a stream of a connection whose owner showed `leaf`. `hubs` are named beside the
/// papers, and how long a link may `rest`; `twin_of` says, for the instance that asks, where another with its key is. Gives the reply that was sent.
///
/// # Errors
/// When the conversation breaks off, in words.
pub async fn answer_renewal<S>(
    stream: &mut S,
    authority: &Authority,
    leaf: &[u8],
    now: u64,
    (hubs, rest): (&HubList, Duration),
    twin_of: impl FnOnce(Instance) -> Option<String>,
) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let conversation = async {
        let question: Question = read_message(stream).await.map_err(ReadFailed::into_words)?;
        let mut reply = authority.reply(leaf, now).map_err(|e| e.to_string())?;
        reply.hubs = hubs.get().iter().take(HUBS_MAX).map(ToString::to_string).collect();
        reply.rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        if !reply.hubs.is_empty() {
            reply.ask_again_seconds = reply.ask_again_seconds.min(ASK_FOR_HUBS_SECONDS);
        }
        if let Ok(instance) = HEXLOWER.decode(question.instance.as_bytes())
            && let Ok(instance) = Instance::try_from(instance)
        {
            reply.twin = twin_of(instance).unwrap_or_default();
        }
        if question.v != 1 {
            reply.certificate.clear();
            reply.refused = "unknown version of the renewal message; update this device".to_owned();
        }
        if !reply.is_news_to(&question.holds) {
            reply.shorten();
        }
        write_message(stream, &reply).await.map_err(|e| format!("the answer could not be sent: {e}"))?;
        Ok(reply)
    };
    timeout(RENEW_DEADLINE, conversation).await.unwrap_or_else(|_| Err("not finished in time".to_owned()))
}

/// The side of a till that holds this.
///
/// # Errors
/// When the conversation breaks off or the hub refuses, in words.
pub async fn ask_for_papers<S>(stream: &mut S, instance: &Instance, holds: Holds) -> Result<Reply, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let question = Question { v: 1, instance: HEXLOWER.encode(instance), holds };
    let conversation = async {
        write_message(stream, &question).await.map_err(|e| e.to_string())?;
        read_message::<Reply, _>(stream).await.map_err(ReadFailed::into_words)
    };
    let reply = timeout(RENEW_DEADLINE, conversation).await.map_err(|_| "no answer in time".to_owned())??;
    if reply.refused.is_empty() { Ok(reply) } else { Err(format!("the hub refuses: {}", reply.refused)) }
}

/// What to hold after a reply: the new certificate, if it is this till's and a company certificate believed already
/// vouches for it, at once or by way of the chain; and of the company certificates named, those believed already and the
/// one that signed the new certificate. A hub that says that all is the same gives nothing.
///
/// # Errors
/// When something does not fit; then nothing of the reply may be kept.
pub fn accept_reply(reply: &Reply, key: &PublicKey, present: &Papers) -> Result<Papers, IdentityError> {
    if reply.same {
        return Ok(present.clone());
    }
    let bad = |reason: &str| IdentityError::Certificate {
        operation: "take the hub's new papers",
        reason: reason.to_owned(),
    };
    let certificate = if reply.certificate.is_empty() {
        present.certificate.clone()
    } else {
        verify_under(&reply.certificate, &reply.chain, &present.trusted)?;
        reply.certificate.clone()
    };
    let signed = |ca: &Vec<u8>| verify_under(&certificate, &[], std::slice::from_ref(ca)).is_ok();
    let trusted: Vec<Vec<u8>> =
        reply.trusted.iter().filter(|ca| present.trusted.contains(ca) || signed(ca)).cloned().collect();
    let facts = verify_under(&certificate, &[], &trusted)?;
    if facts.public_key != *key || facts.role != Role::Till {
        return Err(bad("the certificate is not this till's"));
    }
    let chain = trusted.iter().find(|ca| signed(ca)).cloned().into_iter().collect();
    Ok(Papers { certificate, chain, trusted })
}

#[cfg(test)]
mod brief;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{NodeKey, Terms};

    const DAY: u64 = 86_400;
    const START: u64 = 1_800_000_000;

    fn till() -> NodeKey {
        NodeKey::from_seed(&[1; 32])
    }

    fn papers(ca: &Authority, now: u64) -> Papers {
        let certificate = ca.issue_at(&till().public(), "S1/T1", Role::Till, now).unwrap();
        Papers { certificate, chain: vec![ca.certificate()], trusted: vec![ca.certificate()] }
    }

    fn renewed(ca: &Authority, held: &Papers, now: u64) -> Option<Papers> {
        let reply = ca.reply(&held.certificate, now).unwrap();
        assert!(reply.ask_again_seconds >= 1, "never a busy loop");
        assert!(reply.refused.is_empty(), "{}", reply.refused);
        let next = accept_reply(&reply, &till().public(), held).unwrap();
        (next != *held).then_some(next)
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_and_not_all_tills_at_once() {
        let ca = Authority::generate("Acme").unwrap();
        let held = papers(&ca, START);
        assert!(renewed(&ca, &held, START + 19 * DAY).is_none(), "not yet");
        let next = renewed(&ca, &held, START + 23 * DAY).unwrap();
        assert_eq!(facts(&next.certificate).unwrap().not_after, START + 53 * DAY);
        let due: std::collections::BTreeSet<u64> = (0..50)
            .map(|seed| {
                let certificate = ca.issue_at(&[seed; 32], "t", Role::Till, START).unwrap();
                renewal_due(&facts(&certificate).unwrap(), 30 * DAY)
            })
            .collect();
        assert!(due.len() > 45, "spread");
        assert!(
            due.iter().all(|at| (START + 20 * DAY..START + 20 * DAY + 60 * 3_600).contains(at)),
            "{due:?}"
        );
    }

    #[test]
    fn an_ended_certificate_renews_itself_and_nothing_else_for_a_bounded_time() {
        let ca = Authority::generate("Acme").unwrap();
        let held = papers(&ca, START);
        let at = |days: u64| ca.standing(&held.certificate, START + days * DAY);
        assert_eq!(at(29), Standing::Good { seconds: DAY });
        assert!(matches!(at(30), Standing::RenewOnly { .. }), "from the first second on");
        assert!(matches!(at(429), Standing::RenewOnly { .. }));
        assert!(matches!(at(430), Standing::Void { .. }));
        let next = renewed(&ca, &held, START + 400 * DAY).unwrap();
        assert!(matches!(ca.standing(&next.certificate, START + 400 * DAY), Standing::Good { .. }));
        let late = ca.reply(&held.certificate, START + 431 * DAY).unwrap();
        assert!(late.certificate.is_empty() && late.refused.contains("enrol"), "{}", late.refused);
        let strange = Authority::generate("Acme").unwrap();
        assert!(matches!(strange.standing(&held.certificate, START), Standing::Void { .. }));
    }

    #[test]
    fn a_hub_whose_clock_jumps_locks_nobody_out() {
        let ca = Authority::generate("Acme").unwrap();
        let held = papers(&ca, START);
        // In 1970 nothing has ended, nothing is refused and nothing is made shorter.
        assert!(matches!(ca.standing(&held.certificate, 0), Standing::Good { .. }));
        assert!(renewed(&ca, &held, 0).is_none());
        assert!(ca.time(0) + 5 * DAY > crate::identity::system_seconds(), "and it knows that it is not 1970");
        // A hundred days ahead for a while: till renews, and when the clock is right again its certificate is good.
        let ahead = renewed(&ca, &held, START + 100 * DAY).unwrap();
        assert!(matches!(ca.standing(&ahead.certificate, START), Standing::Good { .. }));
        assert!(renewed(&ca, &ahead, START).is_none());
        assert!(renewed(&ca, &ahead, START + 125 * DAY).is_some(), "time has caught up with it");
    }

    #[test]
    fn a_certificate_of_longer_terms_is_shortened() {
        let long = Terms { life_seconds: 825 * DAY, ..Terms::default() };
        let ca = Authority::generate("Acme").unwrap().on_terms(long);
        let held = papers(&ca, START);
        let ca = ca.on_terms(Terms::default());
        let next = renewed(&ca, &held, START + DAY).unwrap();
        assert_eq!(facts(&next.certificate).unwrap().not_after, START + 31 * DAY);
    }

    #[test]
    fn a_new_authority_is_believed_by_the_word_of_the_old_and_the_old_ends_in_steps() {
        let ca = Authority::generate("Acme").unwrap();
        let first = ca.certificate();
        let (online, offline) = (papers(&ca, START), papers(&ca, START));
        ca.rotate(START, 14 * DAY).unwrap();
        assert!(matches!(ca.standing(&online.certificate, START + DAY), Standing::Good { .. }));

        let next = renewed(&ca, &online, START + DAY).unwrap();
        assert_eq!(next.trusted, [ca.certificate(), first.clone()], "both for a while");
        assert!(verify_under(&next.certificate, &[], &[ca.certificate()]).is_ok());
        let later = renewed(&ca, &next, START + 15 * DAY).unwrap();
        assert_eq!(later.trusted, [ca.certificate()], "and then the new one alone");

        // One that slept through it, and through a second rotation, comes back by the chain of words.
        ca.rotate(START + 20 * DAY, DAY).unwrap();
        let standing = ca.standing(&offline.certificate, START + 25 * DAY);
        assert!(matches!(standing, Standing::RenewOnly { .. }), "{standing:?}");
        let hub = ca.hub_papers(&[8; 32]).unwrap();
        assert!(verify_under(&hub.certificate, &hub.chain, &offline.trusted).is_ok(), "it believes the hub");
        let back = renewed(&ca, &offline, START + 25 * DAY).unwrap();
        assert_eq!(back.trusted, [ca.certificate()]);
        let late = ca.standing(&offline.certificate, START + 500 * DAY);
        assert!(matches!(late, Standing::Void { .. }), "the grace time is bounded: {late:?}");
        ca.drop_former().unwrap();
        assert!(matches!(ca.standing(&offline.certificate, START + 25 * DAY), Standing::Void { .. }));
    }

    #[test]
    fn papers_of_another_company_or_another_till_are_not_taken() {
        let (ca, thief) = (Authority::generate("Acme").unwrap(), Authority::generate("Acme").unwrap());
        let held = papers(&ca, START);
        thief.rotate(START, DAY).unwrap();
        let forged = thief.issue_at(&till().public(), "S1/T1", Role::Till, START).unwrap();
        let reply = |certificate: Vec<u8>, from: &Authority| Reply {
            now: START,
            ask_again_seconds: 60,
            same: false,
            certificate,
            chain: from.reign().chain(),
            trusted: from.reign().accepted(START),
            twin: String::new(),
            refused: String::new(),
            hubs: Vec::new(),
            rest_ms: 0,
        };
        assert!(accept_reply(&reply(forged, &thief), &till().public(), &held).is_err());
        assert!(accept_reply(&reply(Vec::new(), &thief), &till().public(), &held).is_err(), "trust alone");
        let anothers = ca.issue_at(&[9; 32], "S1/T2", Role::Till, START).unwrap();
        assert!(accept_reply(&reply(anothers, &ca), &till().public(), &held).is_err());
        let hubs = ca.issue_at(&till().public(), "hub", Role::Hub, START).unwrap();
        assert!(accept_reply(&reply(hubs, &ca), &till().public(), &held).is_err());
    }

    #[tokio::test]
    async fn a_reply_names_the_hubs_and_a_till_takes_no_more_than_are_addresses() {
        let ca = Authority::generate("Acme").unwrap();
        let held = papers(&ca, START);
        let hubs = HubList::of((0..HUBS_MAX + 4).map(|i| format!("hub-{i}.example:7440").parse().unwrap()));
        let (mut asking, mut answering) = tokio::io::duplex(64 * 1024);
        let told = (&hubs, Duration::from_secs(5));
        let (asked, answered) = tokio::join!(
            ask_for_papers(&mut asking, &[7; 16], Holds::default()),
            answer_renewal(&mut answering, &ca, &held.certificate, START, told, |_| None),
        );
        let reply = asked.unwrap();
        assert_eq!(reply, answered.unwrap());
        assert_eq!(reply.hubs(), hubs.get()[..HUBS_MAX]);
        assert_eq!((reply.ask_again_seconds, reply.rest_ms), (ASK_FOR_HUBS_SECONDS, 5_000));

        let words = ["a:1", "no address", "a:1", "b:1"].map(str::to_owned);
        let odd = Reply { hubs: words.to_vec(), ..reply };
        assert_eq!(odd.hubs().iter().map(HubAddress::as_str).collect::<Vec<_>>(), ["a:1", "b:1"]);
        let older = r#"{"now":1,"ask_again_seconds":1,"chain":[],"trusted":[]}"#;
        let older = serde_json::from_str::<Reply>(older).unwrap();
        assert!(older.hubs().is_empty() && older.rest_ms == 0, "of a hub that tells none");
    }

    #[test]
    fn a_rotation_survives_the_disk_and_the_old_key_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::create(dir.path(), "Acme").unwrap();
        let held = papers(&ca, START);
        ca.rotate(START, DAY).unwrap();
        let old_key = dir.path().join("identity/ca.key");
        assert!(!old_key.exists());
        // Interrupted just before that, the next start does it.
        std::fs::write(&old_key, "left over").unwrap();
        assert!(Authority::load(dir.path()).unwrap().is_some() && !old_key.exists());
        let read = Authority::load(dir.path()).unwrap().unwrap();
        assert_eq!((read.certificate(), read.company()), (ca.certificate(), "Acme"));
        assert_eq!(read.standing(&held.certificate, START), ca.standing(&held.certificate, START));
        assert!(renewed(&read, &held, START + 10).is_some());
        assert!(matches!(Authority::create(dir.path(), "B"), Err(IdentityError::Exists(_))));
    }
}
