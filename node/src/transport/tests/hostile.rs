//! Callers that mean harm, over real QUIC: what each of them gets, and that honest tills get in beside them.

use super::*;

fn quick() -> Settings {
    Settings { handshake: Duration::from_millis(400), ..settings() }
}

async fn caller_with(company: &Company, seed: u8, alpn: &[u8]) -> Connection {
    let identity = identity(&company.ca, seed, Role::Till);
    let caller = Caller::new(tls::client(&identity, &[alpn]).unwrap(), &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    socket.dial(&caller, company.at, Role::Hub.server_name()).await.unwrap()
}

async fn ended(connection: &Connection) -> End {
    timeout(SOON, connection.closed()).await.unwrap()
}

async fn honest_gets_in(company: &Company) {
    let till = company.till(99);
    assert!(timeout(SOON, till.dial(company.at, Role::Hub)).await.unwrap().is_ok(), "an honest till gets in");
}

#[tokio::test]
async fn a_caller_that_says_nothing_after_its_handshake_is_shed() {
    let company = company_with(quick());
    let silent: Vec<Connection> =
        futures_of((1..20).map(|seed| caller_with(&company, seed, ALPN_LINK))).await;
    for connection in &silent {
        let end = ended(connection).await;
        assert!(matches!(end, End::Peer { .. }), "{end}");
    }
    company
        .heard
        .wait_for(|e| matches!(e, Event::Rejected { reason, .. } if reason.contains("in time")))
        .await;
    honest_gets_in(&company).await;
}

/// One after the other; the callers' connections stay.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut done = Vec::new();
    for one in all {
        done.push(one.await);
    }
    done
}

#[tokio::test]
async fn a_preface_that_drips_is_shed_by_the_same_deadline() {
    let company = company_with(quick());
    let connection = caller_with(&company, 1, ALPN_LINK).await;
    let mut stream = connection.open_stream().await.unwrap();
    for byte in b"TSLINK1" {
        if stream.send.write_all(vec![vec![*byte]]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(matches!(ended(&connection).await, End::Peer { .. }));
    assert!(company.hub.peers().is_empty());
}

#[tokio::test]
async fn another_protocol_on_the_first_stream_is_turned_away() {
    let company = company();
    let connection = caller_with(&company, 1, ALPN_LINK).await;
    let mut stream = connection.open_stream().await.unwrap();
    stream.send.write_all(vec![b"GET / HTTP/1.1\r\n\r\n".to_vec()]).await.unwrap();
    let end = ended(&connection).await;
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::PROTOCOL)), "{end}");
}

#[tokio::test]
async fn an_unknown_application_protocol_does_not_get_through_the_handshake() {
    let company = company();
    let identity = identity(&company.ca, 1, Role::Till);
    let caller = Caller::new(tls::client(&identity, &[b"h3"]).unwrap(), &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let refused = socket.dial(&caller, company.at, Role::Hub.server_name()).await;
    assert!(matches!(refused, Err(End::Handshake(_))), "{:?}", refused.err());
}

#[tokio::test]
async fn half_open_handshakes_are_asked_for_their_address_and_shed() {
    // Whoever sends from a false address never hears the answer: a way that swallows answers stands for that.
    let company = company_with(Settings { handshakes_before_retry: 8, ..quick() });
    let swallow = Arc::new(tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap());
    let (way, hub_at) = (swallow.local_addr().unwrap(), company.at);
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = swallow.recv_from(&mut buffer).await {
            if from != hub_at {
                let _ = swallow.send_to(&buffer[..length], hub_at).await;
            }
        }
    });
    let identity = identity(&company.ca, 1, Role::Till);
    let caller = Caller::new(tls::client(&identity, &[ALPN_LINK]).unwrap(), &settings()).unwrap();
    let mut dials = Vec::new();
    for _ in 0..64 {
        let (caller, socket) = (caller.clone(), Socket::dial_only(LOCAL.into()).unwrap());
        dials.push(tokio::spawn(async move {
            let _ = timeout(SOON, socket.dial(&caller, way, Role::Hub.server_name())).await;
        }));
    }
    // Until the hub has begun to ask for addresses; then an honest till, which proves its own, gets in.
    let asked = async {
        while company.hub.counters().asked_again < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, asked).await.expect("most of them cost the hub nothing but a question");
    honest_gets_in(&company).await;
    company
        .heard
        .wait_for(|e| matches!(e, Event::Rejected { reason, .. } if reason.contains("in time")))
        .await;
    for dial in dials {
        dial.abort();
    }
}

#[tokio::test]
async fn under_load_an_honest_caller_proves_its_address_and_gets_in() {
    let company = company_with(Settings { handshakes_before_retry: 0, ..settings() });
    honest_gets_in(&company).await;
    assert!(company.hub.counters().asked_again >= 1);
}

#[tokio::test]
async fn a_hub_at_its_connection_limit_keeps_the_tills_it_has() {
    const TILLS: u8 = 150;
    let company = company_with(Settings { connections_max: usize::from(TILLS), ..settings() });
    let mut links = Vec::new();
    for till in 1..=TILLS {
        links.push(company.pair(till).await);
    }
    for late in TILLS + 1..TILLS + 30 {
        let refused = company.till(late).dial(company.at, Role::Hub).await;
        assert!(
            matches!(refused, Err(DialError::Unreachable { .. })),
            "worth trying again: {:?}",
            refused.err()
        );
    }
    for (till, at_hub) in &mut links {
        till.send(vec![7]).await.unwrap();
        assert_eq!(at_hub.recv().await.unwrap(), Some(vec![7]));
        at_hub.send(vec![8]).await.unwrap();
        assert_eq!(till.recv().await.unwrap(), Some(vec![8]));
    }
    // Room again: the next one gets it.
    links.pop();
    let gets_in = async {
        while company.till(TILLS + 1).dial(company.at, Role::Hub).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, gets_in).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_connects_in_a_storm_is_slowed_and_nobody_else() {
    let company = company();
    let mut sent_away = 0;
    for _ in 0..60 {
        let connection = caller_with(&company, 1, ALPN_LINK).await;
        let mut stream = connection.open_stream().await.unwrap();
        let _ = stream.send.write_all(vec![b"TSLINK1\n".to_vec()]).await;
        let mut answer = Vec::new();
        if stream.recv.read_into(&mut answer, 8).await.is_err() {
            let end = ended(&connection).await;
            assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::FULL)), "{end}");
            sent_away += 1;
        }
        // The accept queue is drained, as the hub does.
        while let Ok(Some(_)) = timeout(Duration::from_millis(1), company.hub.accept()).await {}
    }
    assert!(sent_away >= 20, "{sent_away} of 60");
    honest_gets_in(&company).await;
}

#[tokio::test]
async fn a_link_that_opens_stream_after_stream_is_cut() {
    let company = company();
    let (connection, _stream, _link) = raw(&company).await;
    let flood = async {
        loop {
            let Ok(mut stream) = connection.open_stream().await else { return };
            let question = b"{\"v\":1}";
            let head = 7_u32.to_le_bytes().to_vec();
            if stream.send.write_all(vec![head, question.to_vec()]).await.is_err() {
                return;
            }
        }
    };
    timeout(SOON, flood).await.expect("it ends");
    let end = ended(&connection).await;
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::PROTOCOL)), "{end}");
}

#[tokio::test]
async fn a_question_for_papers_that_is_garbage_or_gigabytes_gets_no_answer_and_the_link_lives() {
    let company = company();
    let (connection, mut control, mut link) = raw(&company).await;
    for garbage in [u32::MAX.to_le_bytes().to_vec(), [4_u32.to_le_bytes().as_slice(), b"\xff{}]"].concat()] {
        let mut stream = connection.open_stream().await.unwrap();
        stream.send.write_all(vec![garbage]).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.recv.read_into(&mut answer, 1024)).await.unwrap();
        assert!(answer.is_empty(), "{read:?}");
    }
    control.send.write_all(vec![1_u32.to_le_bytes().to_vec(), vec![5]]).await.unwrap();
    assert_eq!(timeout(SOON, link.recv()).await.unwrap().unwrap(), Some(vec![5]));
}

#[tokio::test]
async fn a_frame_that_drips_is_cut_by_its_deadline_however_alive_its_connection_is() {
    let company = company_with(Settings { idle: Duration::from_secs(600), ..settings() });
    let (_connection, mut stream, mut link) = raw(&company).await;
    stream.send.write_all(vec![1000_u32.to_le_bytes().to_vec()]).await.unwrap();
    assert!(timeout(Duration::from_millis(100), link.recv()).await.is_err(), "it waits");
    tokio::time::pause();
    for _ in 0..30 {
        let _ = stream.send.write_all(vec![vec![1]]).await;
        if let Ok(result) = timeout(Duration::from_secs(1), link.recv()).await {
            assert!(matches!(result, Err(LinkError::Stalled { bytes: 1000, .. })), "{result:?}");
            return;
        }
    }
    panic!("thirty seconds and thirty bytes later it still waits");
}
