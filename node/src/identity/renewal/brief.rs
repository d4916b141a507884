//! When the hub may answer that all is the same, and when it must not.

use super::*;
use crate::identity::{NodeKey, Terms};

const DAY: u64 = 86_400;
const START: u64 = 1_800_000_000;
/// What the hub says of links, short answer or not.
const REST: Duration = Duration::from_secs(15);

fn till() -> NodeKey {
    NodeKey::from_seed(&[1; 32])
}

fn papers(ca: &Authority, now: u64) -> Papers {
    let certificate = ca.issue_at(&till().public(), "S1/T1", Role::Till, now).unwrap();
    Papers { certificate, chain: vec![ca.certificate()], trusted: vec![ca.certificate()] }
}

/// What a till with these papers, told of these hubs, gets to hear; a twin is where it says.
async fn answer(
    ca: &Authority,
    (held, known): (&Papers, &[&str]),
    now: u64,
    (hubs, twin): (&[&str], Option<&str>),
) -> Result<Reply, String> {
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    let hubs = HubList::of(hubs.iter().map(|hub| hub.parse().unwrap()));
    let holds = Holds::of(&held.trusted, &known);
    let (mut asking, mut answering) = tokio::io::duplex(64 * 1024);
    let twin_of = |_| twin.map(str::to_owned);
    let (asked, answered) = tokio::join!(
        ask_for_papers(&mut asking, &[7; 16], holds),
        answer_renewal(&mut answering, ca, &held.certificate, now, (&hubs, REST), twin_of),
    );
    let answered = answered?;
    if answered.refused.is_empty() {
        assert_eq!(asked.as_ref(), Ok(&answered));
    }
    asked
}

/// As a whole answer has it, which changes something for who gets it.
fn is_whole(reply: &Reply) -> bool {
    !reply.same && !reply.chain.is_empty() && !reply.trusted.is_empty()
}

#[tokio::test]
async fn a_till_that_holds_everything_hears_when_to_ask_again_and_no_more() {
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    let reply = answer(&ca, (&held, &[]), START + DAY, (&[], None)).await.unwrap();
    assert!(reply.same && reply.trusted.is_empty() && reply.chain.is_empty(), "{reply:?}");
    assert_eq!(reply.rest_ms, 15_000, "a till that does not hear it goes back to the quick pace");
    let whole = ca.reply(&held.certificate, START + DAY).unwrap();
    assert_eq!((reply.now, reply.ask_again_seconds), (whole.now, whole.ask_again_seconds));
    assert!(serde_json::to_vec(&reply).unwrap().len() < 100);
    assert_eq!(accept_reply(&reply, &till().public(), &held).unwrap(), held);

    // The interval is the hub's to say in a short answer as well: when the certificate is due, or for the sake of the hubs.
    let due = renewal_due(&facts(&held.certificate).unwrap(), ca.terms().life_seconds);
    let soon = answer(&ca, (&held, &[]), due - 5, (&[], None)).await.unwrap();
    assert_eq!((soon.same, soon.ask_again_seconds), (true, 5));
    let several = answer(&ca, (&held, &["a:1", "b:1"]), START, (&["a:1", "b:1"], None)).await.unwrap();
    assert_eq!((several.same, several.ask_again_seconds), (true, ASK_FOR_HUBS_SECONDS));
    assert!(several.hubs.is_empty());
    // A hub that is alone has nothing to say of hubs that the till knows.
    assert!(answer(&ca, (&held, &["a:1", "b:1"]), START, (&[], None)).await.unwrap().same);
}

#[tokio::test]
async fn a_certificate_that_is_due_is_never_the_same() {
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    let due = renewal_due(&facts(&held.certificate).unwrap(), ca.terms().life_seconds);
    for now in [due, START + 30 * DAY, START + 400 * DAY] {
        let reply = answer(&ca, (&held, &[]), now, (&[], None)).await.unwrap();
        assert!(is_whole(&reply) && !reply.certificate.is_empty(), "{now}: {reply:?}");
    }
    let shorter = ca.on_terms(Terms { life_seconds: 10 * DAY, ..Terms::default() });
    let reply = answer(&shorter, (&held, &[]), START + DAY, (&[], None)).await.unwrap();
    assert!(is_whole(&reply) && !reply.certificate.is_empty(), "it lives longer than the terms say");
}

#[tokio::test]
async fn another_set_of_authorities_is_never_the_same() {
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    ca.rotate(START, 14 * DAY).unwrap();
    let reply = answer(&ca, (&held, &[]), START + DAY, (&[], None)).await.unwrap();
    assert!(is_whole(&reply) && !reply.certificate.is_empty());
    let next = accept_reply(&reply, &till().public(), &held).unwrap();
    assert!(answer(&ca, (&next, &[]), START + DAY, (&[], None)).await.unwrap().same, "both are held");

    // A till with the new certificate that believes one authority less, or more, or in another order.
    let both = next.trusted.clone();
    for trusted in [vec![both[0].clone()], vec![both[1].clone(), both[0].clone()], Vec::new()] {
        let other = Papers { trusted, ..next.clone() };
        assert!(is_whole(&answer(&ca, (&other, &[]), START + DAY, (&[], None)).await.unwrap()));
    }
    // The overlap ends: the old one is to be forgotten, though the certificate stays.
    let over = answer(&ca, (&next, &[]), START + 15 * DAY, (&[], None)).await.unwrap();
    assert!(is_whole(&over) && over.certificate.is_empty());
    assert_eq!(accept_reply(&over, &till().public(), &next).unwrap().trusted, [ca.certificate()]);
    // And at once when it is dropped.
    ca.drop_former().unwrap();
    assert!(is_whole(&answer(&ca, (&next, &[]), START + DAY, (&[], None)).await.unwrap()));
}

#[tokio::test]
async fn other_hubs_are_never_the_same() {
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    for (known, named) in [
        (&[][..], &["a:1"][..]),
        (&["a:1"], &["a:1", "b:1"]),
        (&["a:1", "b:1"], &["a:1"]),
        (&["a:1", "b:1"], &["b:1", "a:1"]),
        (&["a:1"], &["a:2"]),
    ] {
        let reply = answer(&ca, (&held, known), START, (named, None)).await.unwrap();
        assert!(is_whole(&reply), "{known:?} {named:?}");
        assert_eq!(reply.hubs, named);
    }
}

#[tokio::test]
async fn a_twin_and_a_refusal_are_told_to_who_holds_everything() {
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    let reply = answer(&ca, (&held, &[]), START, (&[], Some("this one is at x"))).await.unwrap();
    assert!(is_whole(&reply) && reply.twin == "this one is at x", "{reply:?}");
    let late = answer(&ca, (&held, &[]), START + 431 * DAY, (&[], None)).await;
    assert!(late.unwrap_err().contains("enrol the device anew"));

    let (mut asking, mut answering) = tokio::io::duplex(64 * 1024);
    let question = Question { v: 2, instance: String::new(), holds: Holds::of(&held.trusted, &[]) };
    write_message(&mut asking, &question).await.unwrap();
    let hubs = HubList::default();
    let sent =
        answer_renewal(&mut answering, &ca, &held.certificate, START, (&hubs, REST), |_| None).await.unwrap();
    assert!(!sent.same && sent.refused.contains("unknown version"), "{sent:?}");
}

#[tokio::test]
async fn earlier_versions_are_understood_and_understand() {
    /// The answer as earlier tills read it.
    #[derive(Deserialize)]
    struct Earlier {
        #[serde(with = "base64", default)]
        certificate: Vec<u8>,
        #[serde(with = "base64_list")]
        chain: Vec<Vec<u8>>,
        #[serde(with = "base64_list")]
        trusted: Vec<Vec<u8>>,
        #[serde(default)]
        twin: String,
        #[serde(default)]
        refused: String,
    }
    /// The question as earlier hubs read it.
    #[derive(Deserialize)]
    struct Asked {
        v: u32,
        #[serde(default)]
        instance: String,
    }
    let ca = Authority::generate("Acme").unwrap();
    let held = papers(&ca, START);
    let (mut asking, mut answering) = tokio::io::duplex(64 * 1024);
    write_message(&mut asking, &serde_json::json!({"v": 1, "instance": "07".repeat(16)})).await.unwrap();
    let hubs = HubList::default();
    answer_renewal(&mut answering, &ca, &held.certificate, START, (&hubs, REST), |_| None).await.unwrap();
    let told: Earlier = read_message(&mut asking).await.map_err(ReadFailed::into_words).unwrap();
    assert_eq!((told.trusted, told.chain), (held.trusted.clone(), ca.reign().chain()));
    assert!(told.certificate.is_empty() && told.twin.is_empty() && told.refused.is_empty());

    let question = Question { v: 1, instance: "07".repeat(16), holds: Holds::of(&held.trusted, &[]) };
    let asked: Asked = serde_json::from_slice(&serde_json::to_vec(&question).unwrap()).unwrap();
    assert_eq!((asked.v, asked.instance), (1, question.instance));
}

#[test]
fn a_hub_that_says_the_same_gives_nothing_beside_it() {
    let (ca, thief) = (Authority::generate("Acme").unwrap(), Authority::generate("Acme").unwrap());
    let held = papers(&ca, START);
    let mut reply = ca.reply(&held.certificate, START + 25 * DAY).unwrap();
    assert!(!reply.certificate.is_empty());
    reply.same = true;
    reply.trusted = vec![thief.certificate()];
    assert_eq!(accept_reply(&reply, &till().public(), &held).unwrap(), held);
}
