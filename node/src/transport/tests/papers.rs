//! Papers at the door: ended certificates, replaced authorities and mad clocks, over real QUIC.

use super::*;
use crate::identity::{Holds, Papers, Terms, accept_reply, system_seconds};

const YEAR: u64 = 365 * 86_400;

/// A hub whose certificate was issued at a given time, so that "now" lies anywhere against it.
fn hub_of(ca: &Arc<Authority>, issued: u64) -> (Endpoint, SocketAddr, Heard) {
    let key = NodeKey::from_seed(&[200; 32]);
    let certificate = ca.issue_at(&key.public(), "hub", Role::Hub, issued).unwrap();
    let papers = Papers { certificate, chain: ca.reign().chain(), trusted: ca.reign().known() };
    let identity = Identity::with_papers(key, papers).unwrap();
    let heard = Heard::default();
    let nobody: Decide = Arc::new(|_| Box::pin(async { Err(Refusal::Unknown) }));
    let desk = JoinDesk::new(ca.clone(), identity.public(), nobody);
    let hub = Endpoint::hub(LOCAL.into(), &identity, Some(desk), everybody(), heard.sink(), settings());
    let hub = hub.unwrap();
    let at = hub.local_addr().unwrap();
    (hub, at, heard)
}

/// A till whose certificate was issued at a given time, and what it keeps.
fn till_of(ca: &Authority, issued: u64) -> (Endpoint, Identity) {
    let key = NodeKey::from_seed(&[1; 32]);
    let certificate = ca.issue_at(&key.public(), "S1/T1", Role::Till, issued).unwrap();
    let identity = Identity::new(key, &certificate, &ca.certificate()).unwrap();
    let held = identity.clone();
    let keeper = Keeper::new(Holds::default, move |hub, reply| {
        assert_eq!(*hub, NodeKey::from_seed(&[200; 32]).public());
        let next = accept_reply(reply, &held.public(), &held.papers()).map_err(|e| e.to_string())?;
        held.replace(next).map_err(|e| e.to_string())
    });
    (Endpoint::till_for_life(&identity, keeper, settings()).unwrap(), identity)
}

#[tokio::test]
async fn an_ended_certificate_is_renewed_on_the_way_in() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let (hub, at, heard) = hub_of(&ca, system_seconds());
    let (till, identity) = till_of(&ca, system_seconds() - YEAR);
    let link = till.dial(at, Role::Hub).await.unwrap();
    assert!(link.peer() == NodeKey::from_seed(&[200; 32]).public() && hub.peers() == [identity.public()]);
    assert!(identity.facts().not_after > system_seconds());
    heard.wait_for(|e| matches!(e, Event::Renewed { ended: true, .. })).await;
}

#[tokio::test]
async fn an_ended_certificate_opens_nothing_but_its_own_renewal() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let (hub, at, _) = hub_of(&ca, system_seconds());
    let key = NodeKey::from_seed(&[1; 32]);
    let ended = ca.issue_at(&key.public(), "S1/T1", Role::Till, system_seconds() - YEAR).unwrap();
    let identity = Identity::new(key, &ended, &ca.certificate()).unwrap();
    let plain = Endpoint::till(&identity, settings()).unwrap();
    let refused = plain.dial(at, Role::Hub).await.err().unwrap();
    assert!(matches!(refused, DialError::Ended { .. }), "{refused}");

    // On a connection for renewal, frames are no question, and a second stream is not heard.
    let caller = Caller::new(tls::client(&identity, &[ALPN_RENEW]).unwrap(), &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let connection = socket.dial(&caller, at, Role::Hub.server_name()).await.unwrap();
    let mut stream = connection.open_stream().await.unwrap();
    stream.send.write_all(vec![b"TSLINK1\n".to_vec()]).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.recv.read_into(&mut answer, 64)).await.unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    timeout(SOON, connection.closed()).await.unwrap();
    assert!(hub.peers().is_empty());
}

#[tokio::test]
async fn beyond_the_grace_time_not_even_that() {
    let terms = Terms { grace_seconds: YEAR, ..Terms::default() };
    let ca = Arc::new(Authority::generate("Acme").unwrap().on_terms(terms));
    let (_hub, at, _) = hub_of(&ca, system_seconds());
    let (till, _) = till_of(&ca, system_seconds() - 3 * YEAR);
    let refused = till.dial(at, Role::Hub).await.err().unwrap();
    assert!(
        matches!(&refused, DialError::Refused { reason, .. } if reason.contains("too long ago")),
        "{refused}"
    );
}

#[tokio::test]
async fn whatever_the_clocks_say_a_till_finds_its_hub() {
    // To a till whose clock is right, the certificate of a hub that ended years ago or begins in years is what any
    // hub's is to a till whose clock stands in 2099 or in 1970.
    let now = system_seconds();
    for issued in [now - 20 * YEAR, now - YEAR, now, now + YEAR, now + 20 * YEAR] {
        let ca = Arc::new(Authority::generate("Acme").unwrap());
        let (_hub, at, _) = hub_of(&ca, issued);
        let (till, _) = till_of(&ca, now);
        assert!(till.dial(at, Role::Hub).await.is_ok(), "hub of {issued}");
    }
    // And a till whose certificate comes from the future: its hub's clock ran ahead for a while.
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let (_hub, at, _) = hub_of(&ca, now);
    let (till, _) = till_of(&ca, now + 20 * YEAR);
    assert!(till.dial(at, Role::Hub).await.is_ok());
}

#[tokio::test]
async fn a_replaced_authority_changes_hands_under_running_endpoints() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let now = system_seconds();
    let (_hub, at, _) = hub_of(&ca, now);
    let (till, identity) = till_of(&ca, now);
    let (sleeper, sleeping) = till_of(&ca, now);
    ca.rotate(now, 3_600).unwrap();
    let _link = till.dial(at, Role::Hub).await.unwrap();
    let fetched = async {
        while !identity.papers().trusted.contains(&ca.certificate()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, fetched).await.unwrap();

    // A hub started since shows only the new; both reach it, the sleeper by the word of the old authority.
    let (_again, at, _) = hub_of(&ca, now);
    assert!(till.dial(at, Role::Hub).await.is_ok());
    assert!(sleeper.dial(at, Role::Hub).await.is_ok());
    // A stranger's authority with a chain of its own making is nobody.
    let thief = Arc::new(Authority::generate("Acme").unwrap());
    thief.rotate(now, 3_600).unwrap();
    let (_theirs, their_at, _) = hub_of(&thief, now);
    let refused = sleeper.dial(their_at, Role::Hub).await;
    assert!(matches!(refused, Err(DialError::Refused { .. })), "{:?}", refused.err());
    assert!(!sleeping.papers().trusted.contains(&thief.certificate()));
}

#[tokio::test]
async fn tills_of_every_authority_come_in_and_devices_join_after_several_rotations() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let now = system_seconds();
    let mut tills = vec![till_of(&ca, now)];
    for _ in 0..3 {
        ca.rotate(now, 3_600).unwrap();
        tills.push(till_of(&ca, now));
    }
    let (_hub, at, _) = hub_of(&ca, now);
    for (till, identity) in &tills {
        let _link = till.dial(at, Role::Hub).await.unwrap();
        let fetched = async {
            while identity.papers().trusted.first() != Some(&ca.certificate()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, fetched).await.unwrap();
        assert!(identity.papers().words().is_empty(), "its new certificate goes alone");
    }
    // The desk turns everybody away here, but a hub that could not prove the code's fingerprint would not be asked.
    let code = JoinCode::new(hub_at(at), ca.fingerprint());
    let joined = join(&code, None, &NodeKey::from_seed(&[9; 32]), "", &settings()).await;
    assert!(matches!(joined, Err(JoinError::Refused(Refusal::Unknown))), "{joined:?}");
}

#[tokio::test]
async fn a_clone_is_told_to_both_ends() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let (_hub, at, heard) = hub_of(&ca, system_seconds());
    let told = Arc::new(AtomicU64::new(0));
    let start = || {
        let key = NodeKey::from_seed(&[1; 32]);
        let certificate = ca.issue(&key.public(), "S1/T1", Role::Till).unwrap();
        let identity = Identity::new(key, &certificate, &ca.certificate()).unwrap();
        let told = told.clone();
        let keeper = Keeper::new(Holds::default, move |_, reply| {
            told.fetch_add(u64::from(!reply.twin.is_empty()), Ordering::Relaxed);
            Ok(())
        });
        Endpoint::till_for_life(&identity, keeper, settings()).unwrap()
    };
    let asked = async |till: &Endpoint| {
        let link = till.dial(at, Role::Hub).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        link
    };
    let (one, two) = (start(), start());
    let _first = asked(&one).await;
    let _again = asked(&one).await;
    let _second = asked(&two).await;
    assert_eq!(told.load(Ordering::Relaxed), 0, "reconnections and one restart are no clone");
    let _third = asked(&one).await;
    heard.wait_for(|e| matches!(e, Event::Cloned { .. })).await;
    let heard_of_it = async {
        while told.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, heard_of_it).await.unwrap();
}
