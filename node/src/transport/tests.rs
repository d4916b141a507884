//! Nodes on loopback: real sockets, real TLS, no sleeps longer than what is tested.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::quic::{Caller, Connection, Socket, Stream};
use super::*;
use crate::identity::{
    Authority, CaFingerprint, Decide, Grant, HubAddress, HubList, Identity, JoinCode, JoinDesk, JoinError,
    JoinSecret, NodeKey, PendingJoin, Refusal, Role, Verdict,
};

mod elsewhere;
mod hostile;
mod leisure;
mod papers;
mod roaming;

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);
const SOON: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings { connect: Duration::from_secs(2), ..Settings::default() }
}

fn hub_at(at: SocketAddr) -> HubAddress {
    at.to_string().parse().unwrap()
}

fn everybody() -> Admit {
    Arc::new(|_| Ok(()))
}

/// What happened, to be asked for.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Event>>>);

impl Heard {
    fn sink(&self) -> EventSink {
        let heard = self.0.clone();
        Arc::new(move |event| heard.lock().unwrap().push(event))
    }

    async fn wait_for(&self, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = async {
            loop {
                if let Some(event) = self.0.lock().unwrap().iter().find(|e| wanted(e)) {
                    return event.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, found).await.unwrap_or_else(|_| panic!("not heard; heard {:?}", self.0.lock().unwrap()))
    }
}

fn identity(ca: &Authority, seed: u8, role: Role) -> Identity {
    let key = NodeKey::from_seed(&[seed; 32]);
    let certificate = ca.issue(&key.public(), "S1/T1", role).unwrap();
    Identity::new(key, &certificate, &ca.certificate()).unwrap()
}

struct Company {
    ca: Arc<Authority>,
    hub: Endpoint,
    at: SocketAddr,
    heard: Heard,
}

fn company() -> Company {
    company_with(settings())
}

fn company_with(settings: Settings) -> Company {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let heard = Heard::default();
    let nobody: Decide = Arc::new(|_| Box::pin(async { Err(Refusal::Unknown) }));
    let hub_identity = identity(&ca, 200, Role::Hub);
    let desk = JoinDesk::new(ca.clone(), hub_identity.public(), nobody);
    let hub =
        Endpoint::hub(LOCAL.into(), &hub_identity, Some(desk), everybody(), heard.sink(), settings).unwrap();
    let at = hub.local_addr().unwrap();
    Company { ca, hub, at, heard }
}

impl Company {
    fn till(&self, seed: u8) -> Endpoint {
        Endpoint::till(&identity(&self.ca, seed, Role::Till), settings()).unwrap()
    }

    async fn pair(&self, seed: u8) -> (Link, Link) {
        let till = self.till(seed);
        let dialled = till.dial(self.at, Role::Hub).await.unwrap();
        (dialled, timeout(SOON, self.hub.accept()).await.unwrap().unwrap())
    }
}

#[tokio::test]
async fn frames_of_every_size_go_round_and_links_know_whom_they_join() {
    let company = company();
    let (mut till, mut hub) = company.pair(1).await;
    assert_eq!(hub.peer(), NodeKey::from_seed(&[1; 32]).public());
    assert_eq!(till.peer(), NodeKey::from_seed(&[200; 32]).public());
    assert_eq!((hub.role(), till.role()), (Role::Till, Role::Hub));
    let echo = tokio::spawn(async move {
        while let Some(frame) = hub.recv().await.unwrap() {
            hub.send(frame).await.unwrap();
        }
    });
    for size in [0, 1, 3, 4096, 16 * 1024, 16 * 1024 + 1, 1024 * 1024, FRAME_LIMIT] {
        let frame: Vec<u8> = (0..size).map(|i| (i % 251).to_le_bytes()[0]).collect();
        till.send(frame.clone()).await.unwrap();
        assert!(till.recv().await.unwrap().unwrap() == frame, "{size} bytes");
    }
    let long = till.send(vec![0; FRAME_LIMIT + 1]).await;
    assert_eq!(long, Err(LinkError::TooLong { bytes: FRAME_LIMIT + 1 }), "and the link lives on");
    for i in 0..1000_u32 {
        till.send(i.to_le_bytes().to_vec()).await.unwrap();
    }
    for i in 0..1000_u32 {
        assert_eq!(till.recv().await.unwrap().unwrap(), i.to_le_bytes());
    }
    let stats = till.control().stats();
    assert!(stats.sent_bytes > 2_000_000 && stats.received_bytes > 2_000_000 && stats.rtt < SOON);
    let (sender, mut receiver) = till.split();
    sender.finish().await;
    assert_eq!(receiver.recv().await.unwrap(), None, "the echo has ended politely too");
    echo.await.unwrap();
}

#[tokio::test]
async fn two_nodes_of_this_version_know_short_batches_and_with_an_older_one_neither_does() {
    let company = company();
    let (till, hub) = company.pair(1).await;
    assert!(till.knows_short() && hub.knows_short());
    let (_connection, _stream, hub) = raw(&company).await;
    assert!(!hub.knows_short(), "its till is of an older version");

    let identity = identity(&company.ca, 201, Role::Hub);
    let mut older = tls::server(&identity, true).unwrap();
    older.alpn_protocols.retain(|alpn| alpn != ALPN_LINK_SHORT);
    let socket = Socket::listen(LOCAL.into(), older, [0; 32], &settings()).unwrap();
    let at = socket.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let caller = socket.next_caller().await.unwrap();
        Link::accepted(caller.answer().await.unwrap()).await.unwrap()
    });
    let till = company.till(2).dial(at, Role::Hub).await.unwrap();
    let hub = timeout(SOON, accepted).await.unwrap().unwrap();
    assert!(!till.knows_short() && !hub.knows_short());
}

#[tokio::test]
async fn a_full_queue_makes_the_sender_wait() {
    let company = company();
    let (till, hub) = company.pair(1).await;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let pump = tokio::spawn(async move {
        while till.send(vec![7; 256 * 1024]).await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        till
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = sent.load(Ordering::Relaxed);
    assert!(before <= 64, "queue and windows hold about 5 MiB, not {before} frames");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sent.load(Ordering::Relaxed), before, "nobody reads, so nothing moves");
    drop(hub);
    let till = timeout(SOON, pump).await.unwrap().unwrap();
    assert!(matches!(till.send(vec![1]).await, Err(LinkError::Closed(_))), "and the end is told");
}

/// A peer that speaks QUIC but not frames.
async fn raw(company: &Company) -> (Connection, Stream, Link) {
    let identity = identity(&company.ca, 1, Role::Till);
    let patient = Settings { idle: Duration::from_secs(600), ..settings() };
    let caller = Caller::new(tls::client(&identity, &[ALPN_LINK]).unwrap(), &patient).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let connection = socket.dial(&caller, company.at, Role::Hub.server_name()).await.unwrap();
    let mut stream = connection.open_stream().await.unwrap();
    stream.send.write_all(vec![b"TSLINK1\n".to_vec()]).await.unwrap();
    let link = timeout(SOON, company.hub.accept()).await.unwrap().unwrap();
    (connection, stream, link)
}

#[tokio::test]
async fn an_oversized_length_is_refused_before_anything_is_kept_for_it() {
    let company = company();
    let (connection, mut stream, mut link) = raw(&company).await;
    stream.send.write_all(vec![u32::MAX.to_le_bytes().to_vec()]).await.unwrap();
    let refused = timeout(SOON, link.recv()).await.unwrap();
    assert_eq!(refused, Err(LinkError::TooLong { bytes: 0xffff_ffff }));
    let end = timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::PROTOCOL)), "{end}");
}

#[tokio::test]
async fn a_frame_cut_short_is_told_apart_from_an_end() {
    let company = company();
    let (_connection, mut stream, mut link) = raw(&company).await;
    stream.send.write_all(vec![10_u32.to_le_bytes().to_vec(), b"short".to_vec()]).await.unwrap();
    tokio::spawn(async move { stream.send.finish().await });
    let cut = timeout(SOON, link.recv()).await.unwrap();
    assert_eq!(cut, Err(LinkError::Truncated { have: 9, bytes: 14 }));
}

#[tokio::test]
async fn a_frame_that_does_not_go_on_ends_the_link_even_if_nobody_waits_for_long() {
    let company = company_with(Settings { idle: Duration::from_secs(600), ..settings() });
    let (_connection, mut stream, mut link) = raw(&company).await;
    stream.send.write_all(vec![8192_u32.to_le_bytes().to_vec(), vec![1; 100]]).await.unwrap();
    assert!(timeout(Duration::from_millis(200), link.recv()).await.is_err(), "it waits");
    tokio::time::pause();
    // 20 s and one for the 8 KiB; each wait is cut short, as in a `select!` with a ticking timer.
    let mut waits = 0;
    let stalled = loop {
        match timeout(Duration::from_secs(2), link.recv()).await {
            Err(_) => waits += 1,
            Ok(result) => break result,
        }
    };
    assert_eq!(stalled, Err(LinkError::Stalled { bytes: 8192, seconds: 21 }));
    assert!((9..=10).contains(&waits), "{waits}");
}

/// A caller that believes a company and is not ours.
fn believing(ca: &Authority) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider);
    client.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_root_certificates(roots)
}

#[tokio::test]
async fn without_a_certificate_there_is_nothing_but_join() {
    let company = company();
    let mut client = believing(&company.ca).with_no_client_auth();
    client.alpn_protocols = vec![ALPN_LINK.to_vec()];
    let caller = Caller::new(client, &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let connection = socket.dial(&caller, company.at, Role::Hub.server_name()).await.unwrap();
    let end = timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::NO_CERTIFICATE)), "{end}");
    company
        .heard
        .wait_for(|e| matches!(e, Event::Rejected { reason, .. } if reason.contains("no certificate")))
        .await;
    assert!(company.hub.peers().is_empty());
}

#[tokio::test]
async fn silent_joiners_cannot_fill_the_hub() {
    let company = company();
    let (client, _) = tls::joiner(company.ca.fingerprint()).unwrap();
    let caller = Caller::new(client, &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let mut silent = Vec::new();
    for _ in 0..65 {
        silent.push(socket.dial(&caller, company.at, Role::Hub.server_name()).await.unwrap());
    }
    let end = timeout(SOON, silent[64].closed()).await.unwrap();
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::FULL)), "{end}");
    assert!(company.till(1).dial(company.at, Role::Hub).await.is_ok(), "tills still get in");
}

#[tokio::test]
async fn foreign_and_self_made_certificates_are_refused_by_both_sides() {
    let company = company();
    let stranger = Authority::generate("Acme").unwrap();
    let till = Endpoint::till(&identity(&stranger, 1, Role::Till), settings()).unwrap();
    let refused = till.dial(company.at, Role::Hub).await;
    assert!(matches!(refused, Err(DialError::Refused { .. })), "the till does not believe the hub");

    // A till that believes our hub, but whose own certificate is self-made with the right name.
    let key = NodeKey::from_seed(&[1; 32]);
    let mut params = rcgen::CertificateParams::new([Role::Till.server_name().to_owned()]).unwrap();
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    let self_made = params.self_signed(&key.rcgen_key().unwrap()).unwrap().der().clone();
    let foreign = stranger.issue(&key.public(), "S1/T1", Role::Till).unwrap().into();
    for certificate in [self_made, foreign] {
        let client = believing(&company.ca).with_client_auth_cert(vec![certificate], key.rustls_key());
        let mut client = client.unwrap();
        client.alpn_protocols = vec![ALPN_LINK.to_vec()];
        let caller = Caller::new(client, &settings()).unwrap();
        let socket = Socket::dial_only(LOCAL.into()).unwrap();
        // In TLS 1.3 the client finishes first; the refusal comes back as the end of the connection.
        let end = match socket.dial(&caller, company.at, Role::Hub.server_name()).await {
            Ok(connection) => timeout(SOON, connection.closed()).await.unwrap(),
            Err(end) => end,
        };
        assert!(matches!(end, End::Handshake(_)), "{end}");
    }
    company.heard.wait_for(|e| matches!(e, Event::Rejected { reason, .. } if reason.contains("TLS"))).await;
    let counted = company.hub.counters();
    assert_eq!((counted.accepted, company.hub.peers().len()), (0, 0));
    assert!(counted.handshakes_refused >= 2, "{counted:?}");
}

#[tokio::test]
async fn a_till_cannot_pass_for_a_hub_and_a_revoked_one_is_turned_away() {
    let company = company();
    let other = identity(&company.ca, 3, Role::Till);
    let (heard, revoked) = (Heard::default(), NodeKey::from_seed(&[1; 32]).public());
    let admit: Admit =
        Arc::new(move |peer| if *peer == revoked { Err(NotHere::Refused("revoked".into())) } else { Ok(()) });
    let till = Endpoint::till_listening(LOCAL.into(), &other, admit, heard.sink(), settings()).unwrap();
    let at = till.local_addr().unwrap();
    assert!(matches!(company.till(2).dial(at, Role::Hub).await, Err(DialError::Refused { .. })));
    let sent_away = company.till(1).dial(at, Role::Till).await.err().unwrap();
    assert!(
        matches!(&sent_away, DialError::Refused { reason, .. } if reason.contains("revoked")),
        "{sent_away}"
    );
    assert!(company.till(2).dial(at, Role::Till).await.is_ok(), "till to till with the same certificates");
}

#[tokio::test]
async fn a_second_connection_of_the_same_certificate_replaces_the_first() {
    let company = company();
    let (first, mut first_at_hub) = company.pair(1).await;
    let (second, _second_at_hub) = company.pair(1).await;
    let end = timeout(SOON, first.control().closed()).await.unwrap();
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::REPLACED)), "{end}");
    assert!(first_at_hub.recv().await.is_err(), "the hub's half of the first is gone");
    assert!(second.send(vec![1]).await.is_ok());
    assert_eq!(company.hub.peers(), [NodeKey::from_seed(&[1; 32]).public()]);
    assert_eq!(company.hub.counters().replaced, 1);
    company.heard.wait_for(|e| matches!(e, Event::Replaced { .. })).await;
    assert!(company.hub.disconnect(&NodeKey::from_seed(&[1; 32]).public(), "revoked"));
    company.heard.wait_for(|e| matches!(e, Event::Ended { .. })).await;
    assert!(company.hub.peers().is_empty());
}

/// A hub's shelf of invitations, as the real one keeps it, without a disk.
type Shelf = Arc<Mutex<Vec<PendingJoin>>>;

fn joining_hub(now_ms: u64) -> (Endpoint, Arc<Authority>, Shelf, Heard) {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let (shelf, heard) = (Shelf::default(), Heard::default());
    let kept = shelf.clone();
    let decide: Decide = Arc::new(move |applicant| {
        let mut shelf = kept.lock().unwrap();
        let mut answer = Err(Refusal::Unknown);
        for pending in shelf.iter_mut() {
            match pending.check(&applicant.secret, &applicant.public_key, now_ms) {
                Verdict::NotThisOne => continue,
                Verdict::Expired => answer = Err(Refusal::Expired),
                Verdict::UsedByAnother => answer = Err(Refusal::Used),
                Verdict::Grant | Verdict::GrantAgain => {
                    pending.used_by = Some(applicant.public_key);
                    answer = Ok(Grant {
                        store: pending.store.clone(),
                        terminal: pending.terminal.clone(),
                        incarnation: 1,
                        time_zone: "Europe/London".into(),
                        currency: "GBP".into(),
                        extra: vec![1, 2, 3],
                    });
                }
            }
            break;
        }
        Box::pin(async move { answer })
    });
    let hub_identity = ca.hub_identity(NodeKey::from_seed(&[200; 32])).unwrap();
    let desk = JoinDesk::new(ca.clone(), hub_identity.public(), decide);
    let hub = Endpoint::hub(LOCAL.into(), &hub_identity, Some(desk), everybody(), heard.sink(), settings())
        .unwrap();
    (hub, ca, shelf, heard)
}

#[tokio::test]
async fn a_join_code_lets_in_one_device_once() {
    let (hub, ca, shelf, heard) = joining_hub(1_000);
    let at = hub.local_addr().unwrap();
    let code = JoinCode::new(at.to_string().parse().unwrap(), ca.fingerprint());
    shelf.lock().unwrap().push(PendingJoin::new("S1", "T7", &code.secret, 2_000));
    let late = JoinCode::new(code.hubs()[0].clone(), ca.fingerprint());
    shelf.lock().unwrap().push(PendingJoin::new("S1", "T8", &late.secret, 1_000));

    let key = NodeKey::from_seed(&[1; 32]);
    let typed: JoinCode = code.to_string().parse().unwrap();
    let enrolment = join(&typed, None, &key, "counter 7", &settings()).await.unwrap();
    assert_eq!((enrolment.store.as_str(), enrolment.terminal.as_str()), ("S1", "T7"));
    assert_eq!(enrolment.hub_public_key, NodeKey::from_seed(&[200; 32]).public());
    heard.wait_for(|e| matches!(e, Event::Join { outcome: JoinOutcome::Granted { terminal, .. }, .. } if terminal == "T7")).await;

    // The certificate that it got opens the hub's door.
    let till = Endpoint::till(&enrolment.identity(key.clone()).unwrap(), settings()).unwrap();
    let link = till.dial(at, Role::Hub).await.unwrap();
    assert_eq!(link.peer(), enrolment.hub_public_key);

    let again = join(&code, None, &key, "", &settings()).await.unwrap();
    assert_eq!(again.terminal, "T7", "the same device may ask again: its answer may have been lost");
    let thief = NodeKey::from_seed(&[66; 32]);
    let refused = |code: JoinCode| {
        let thief = thief.clone();
        async move { join(&code, None, &thief, "", &settings()).await.unwrap_err() }
    };
    let used = refused(code.clone()).await;
    assert!(matches!(used, JoinError::Refused(Refusal::Used)), "{used}");
    let expired = refused(late).await;
    assert!(matches!(expired, JoinError::Refused(Refusal::Expired)), "{expired}");
    let (mut wrong, mut foreign) = (code.clone(), code.clone());
    wrong.secret = JoinSecret([0; 16]);
    foreign.ca = CaFingerprint([0; 16]);
    let unknown = refused(wrong).await;
    assert!(matches!(unknown, JoinError::Refused(Refusal::Unknown)), "{unknown}");
    let mismatch = refused(foreign).await;
    assert!(matches!(mismatch, JoinError::WrongHub { .. }), "{mismatch}");
    let nobody = refused(code.at("127.0.0.1:9".parse().unwrap())).await;
    assert!(matches!(nobody, JoinError::Unreachable { .. }), "{nobody}");
}

#[tokio::test]
async fn one_who_copies_the_company_certificate_is_no_hub() {
    // The impostor shows the true CA certificate beside a leaf of its own making.
    let (_, ca, _, _) = joining_hub(0);
    let impostor = company();
    let code = JoinCode::new(impostor.at.to_string().parse().unwrap(), ca.fingerprint());
    let hub_key = NodeKey::from_seed(&[200; 32]);
    let leaf = impostor.ca.issue(&hub_key.public(), "hub", Role::Hub).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.into(), ca.certificate().into()], hub_key.rustls_key())
        .unwrap();
    server.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    let socket = Socket::listen(LOCAL.into(), server, [0; 32], &settings()).unwrap();
    let code = code.at(socket.local_addr().unwrap().to_string().parse().unwrap());
    tokio::spawn(async move {
        while let Some(caller) = socket.next_caller().await {
            let _ = caller.answer().await;
        }
    });
    let error = join(&code, None, &NodeKey::from_seed(&[1; 32]), "", &settings()).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongHub { .. }), "{error}");
}

#[tokio::test]
async fn a_restarted_hub_is_found_by_a_knock_long_before_the_backoff_ends() {
    let company = company();
    let at = company.at;
    let hub_identity = identity(&company.ca, 200, Role::Hub);
    let (links, mut taken) = mpsc::channel(4);
    let (told, mut events) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let minute = Duration::from_secs(60);
    let plan = DialPlan {
        // Any wait but a lucky one is far longer than the test.
        backoff: Backoff::new(minute * 60, minute * 60),
        knock_every: Duration::from_millis(300),
        ..DialPlan::new(HubList::of([hub_at(at)]), Role::Hub, Some(hub_identity.public()))
    };
    let sink: DialEvents = Arc::new(move |e| drop(told.send(e)));
    let dialer = tokio::spawn(keep_connected(company.till(1), plan, links, sink, stopped));
    let first = timeout(SOON, taken.recv()).await.unwrap().unwrap();
    company.hub.shutdown().await;
    let Company { hub, .. } = company;
    drop(hub);
    timeout(SOON, first.control().closed()).await.unwrap();
    drop(first);
    tokio::time::sleep(Duration::from_millis(700)).await;

    let back = Instant::now();
    let heard = Heard::default();
    let reborn = loop {
        match Endpoint::hub(at, &hub_identity, None, everybody(), heard.sink(), settings()) {
            Ok(hub) => break hub,
            // The former socket is closed by its driver task, a moment later.
            Err(_) if back.elapsed() < SOON => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(e) => panic!("{e}"),
        }
    };
    let second = timeout(SOON, taken.recv()).await.unwrap().unwrap();
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    assert_eq!(second.peer(), hub_identity.public());
    assert_eq!(reborn.peers().len(), 1);
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        kinds.push(event);
    }
    assert!(kinds.iter().any(|e| matches!(e, DialEvent::Lost { .. })), "{kinds:?}");
    assert!(kinds.contains(&DialEvent::Woken { reason: "the peer answers again" }), "{kinds:?}");
    stop.send(true).unwrap();
    timeout(SOON, dialer).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_hub_that_lost_its_memory_resets_its_peers_at_once() {
    // As after kill -9: the old socket says no goodbye, the new one knows nothing of the connection.
    let company = company();
    let hub_identity = identity(&company.ca, 200, Role::Hub);
    let (reset_key, server) = ([5; 32], || tls::server(&hub_identity, false).unwrap());
    let first = Socket::listen(LOCAL.into(), server(), reset_key, &settings()).unwrap();
    let second = Socket::listen(LOCAL.into(), server(), reset_key, &settings()).unwrap();
    let (first_at, second_at) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    // A forwarder stands for the hub's address; switching it is the restart.
    let way = Arc::new(Mutex::new(first_at));
    let forwarder = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
    let at = forwarder.local_addr().unwrap();
    let switch = way.clone();
    tokio::spawn(async move {
        let (mut buffer, mut client) = ([0; 2048], None);
        while let Ok((length, from)) = forwarder.recv_from(&mut buffer).await {
            let now = *way.lock().unwrap();
            let to = if from == first_at || from == second_at { client } else { Some(now) };
            if from != first_at && from != second_at {
                client = Some(from);
            }
            if let Some(to) = to {
                let _ = forwarder.send_to(&buffer[..length], to).await;
            }
        }
    });
    tokio::spawn(async move {
        let caller = first.next_caller().await.unwrap();
        let link = Link::accepted(caller.answer().await.unwrap()).await.unwrap();
        link.control().closed().await;
    });
    let quick = Settings { keep_alive: Duration::from_millis(100), ..settings() };
    let till = Endpoint::till(&identity(&company.ca, 1, Role::Till), quick).unwrap();
    let link = till.dial(at, Role::Hub).await.unwrap();
    *switch.lock().unwrap() = second_at;
    let end = timeout(Duration::from_secs(3), link.control().closed()).await.unwrap();
    assert_eq!(end, End::Restarted);
}
