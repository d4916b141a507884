//! How long links rest, over real QUIC, with times a fifteenth of the true ones and less.

use super::*;
use crate::identity::{Holds, Reply};

const LEISURE: Leisure = Leisure { keep_alive: ms(600), answer: ms(400), after: ms(100) };

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Of one of several hubs: a link may not rest for as long as one at leisure does.
fn close_watch() -> Settings {
    Settings { keep_alive: ms(100), idle: ms(400), leisure: LEISURE, ..settings() }
}

/// A hub at an address, which says how long its links rest, or is of a version that does not.
async fn hub_at(ca: &Arc<Authority>, at: SocketAddr, settings: &Settings, says: bool) -> Endpoint {
    let identity = identity(ca, 200, Role::Hub);
    let began = Instant::now();
    loop {
        let nobody: Decide = Arc::new(|_| Box::pin(async { Err(Refusal::Unknown) }));
        let desk = says.then(|| JoinDesk::new(ca.clone(), identity.public(), nobody));
        let (heard, settings) = (Heard::default(), settings.clone());
        match Endpoint::hub(at, &identity, desk, everybody(), heard.sink(), settings) {
            Ok(hub) => return hub,
            // The socket of the hub before is closed by its driver task, a moment later.
            Err(_) if began.elapsed() < SOON => tokio::time::sleep(ms(10)).await,
            Err(e) => panic!("{e}"),
        }
    }
}

/// A till that keeps its link to a hub, and the links that it gets.
struct Till {
    endpoint: Endpoint,
    links: mpsc::Receiver<Link>,
    told: Arc<Mutex<Vec<DialEvent>>>,
    _stop: watch::Sender<bool>,
}

impl Till {
    /// `rests`: as one that has learnt that its hub lets it.
    fn dials(ca: &Authority, at: SocketAddr, rests: bool) -> Self {
        let keeper = Keeper::new(Holds::default, |_, _: &Reply| Ok(()));
        let identity = identity(ca, 1, Role::Till);
        let endpoint = Endpoint::till_for_life(&identity, keeper, close_watch()).unwrap();
        if rests {
            endpoint.pace().unwrap().0.learnt(LEISURE.idle());
        }
        let (taken, links) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let told = Arc::<Mutex<Vec<DialEvent>>>::default();
        let kept = told.clone();
        let events: DialEvents = Arc::new(move |event| kept.lock().unwrap().push(event));
        let plan = DialPlan {
            backoff: Backoff::new(ms(100), ms(100)),
            ..DialPlan::new(HubList::of([super::hub_at(at)]), Role::Hub, None)
        };
        tokio::spawn(keep_connected(endpoint.clone(), plan, taken, events, stopped));
        Self { endpoint, links, told, _stop: stop }
    }

    async fn link(&mut self) -> Link {
        timeout(SOON, self.links.recv()).await.unwrap().unwrap()
    }

    /// No other link takes the place of the present one for so long.
    async fn stays(&mut self, time: Duration) -> bool {
        timeout(time, self.links.recv()).await.is_err()
    }

    fn was_paced(&self) -> Vec<bool> {
        let told = self.told.lock().unwrap();
        let paced = told.iter().filter_map(|event| match event {
            DialEvent::Paced { rests } => Some(*rests),
            _ => None,
        });
        paced.collect()
    }
}

#[tokio::test]
async fn a_link_to_the_only_hub_rests_once_the_hub_has_said_so() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let hub = hub_at(&ca, LOCAL.into(), &close_watch().at_leisure(), true).await;
    let mut till = Till::dials(&ca, hub.local_addr().unwrap(), false);
    let first = till.link().await;
    assert_eq!(first.control().leisure(), None, "no hub has said anything yet");
    let resting = till.link().await;
    assert_eq!(resting.control().leisure(), Some(LEISURE));
    assert_eq!(timeout(SOON, first.control().closed()).await.unwrap(), End::Local);
    let before = resting.control().stats().received_bytes;
    assert!(till.stays(LEISURE.idle() * 2).await, "neither side ends it");
    assert!(resting.control().stats().received_bytes > before, "it is kept alive");
    assert_eq!(till.was_paced(), [true]);
}

#[tokio::test]
async fn a_link_to_one_of_several_hubs_never_rests() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let hub = hub_at(&ca, LOCAL.into(), &close_watch(), true).await;
    let mut till = Till::dials(&ca, hub.local_addr().unwrap(), false);
    let link = till.link().await;
    assert!(till.stays(LEISURE.idle() * 2).await && link.control().leisure().is_none());
    assert!(till.was_paced().is_empty());
}

#[tokio::test]
async fn a_hub_that_does_not_say_and_does_not_let_links_rest_loses_one_and_no_more() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let hub = hub_at(&ca, LOCAL.into(), &close_watch(), false).await;
    let mut till = Till::dials(&ca, hub.local_addr().unwrap(), true);
    let (first, began) = (till.link().await, Instant::now());
    assert_eq!(first.control().leisure(), Some(LEISURE));
    let second = till.link().await;
    assert!(
        began.elapsed() < SOON && second.control().leisure().is_none(),
        "{:?}",
        till.told.lock().unwrap()
    );
    assert!(till.stays(LEISURE.idle() * 3).await, "no flapping");
}

#[tokio::test]
async fn a_hub_that_becomes_one_of_several_is_watched_closely_at_once_and_one_left_alone_later() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let hub = hub_at(&ca, LOCAL.into(), &close_watch().at_leisure(), true).await;
    let at = hub.local_addr().unwrap();
    let mut till = Till::dials(&ca, at, true);
    assert!(till.link().await.control().leisure().is_some());
    hub.shutdown().await;
    drop(hub);
    let several = hub_at(&ca, at, &close_watch(), true).await;
    let resting = till.link().await;
    let close = if resting.control().leisure().is_some() { till.link().await } else { resting };
    assert_eq!((close.control().leisure(), till.endpoint.pace().unwrap().0.rests()), (None, false));
    assert!(till.stays(LEISURE.idle()).await);
    assert_eq!(till.was_paced(), [false]);
    several.shutdown().await;
    drop((several, close));
    let _alone = hub_at(&ca, at, &close_watch().at_leisure(), true).await;
    let close = till.link().await;
    assert_eq!((close.control().leisure(), till.link().await.control().leisure()), (None, Some(LEISURE)));
}

/// Carries datagrams between a till and a hub until it is `deaf`.
async fn relay(hub: SocketAddr, deaf: Arc<AtomicU64>) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut till) = ([0; 2048], hub);
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if from != hub {
                till = from;
            }
            if deaf.load(Ordering::Relaxed) == 0 {
                let to = if from == hub { till } else { hub };
                let _ = socket.send_to(&buffer[..length], to).await;
            }
        }
    });
    at
}

#[tokio::test]
async fn a_silent_hub_is_noticed_in_the_time_that_is_documented() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let alone = hub_at(&ca, LOCAL.into(), &close_watch().at_leisure(), true).await;
    let several = hub_at(&ca, LOCAL.into(), &close_watch(), true).await;
    let some = ms(300);
    for (rests, sells) in [(true, false), (true, true), (false, false)] {
        let deaf = Arc::new(AtomicU64::new(0));
        let hub = if rests { &alone } else { &several };
        let at = relay(hub.local_addr().unwrap(), deaf.clone()).await;
        let mut till = Till::dials(&ca, at, rests);
        let link = till.link().await;
        assert_eq!(link.control().leisure().is_some(), rests);
        tokio::time::sleep(ms(30)).await;
        deaf.store(1, Ordering::Relaxed);
        let silent = Instant::now();
        if sells {
            link.send(vec![1; 100]).await.unwrap();
        }
        timeout(SOON, link.control().closed()).await.unwrap();
        let noticed = silent.elapsed();
        let answer = LEISURE.answer * 7 / 5;
        let (soonest, latest) = match (rests, sells) {
            (true, true) => (LEISURE.answer, answer),
            (true, false) => (LEISURE.answer, LEISURE.keep_alive + answer),
            (false, _) => (ms(300), close_watch().keep_alive + close_watch().idle),
        };
        assert!(soonest <= noticed && noticed <= latest + some, "{rests} {sells}: {noticed:?}");
    }
}

#[tokio::test]
async fn a_hub_that_is_started_after_its_death_tells_its_tills_before_they_say_anything() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let identity = identity(&ca, 200, Role::Hub);
    let (heard, alone) = (Heard::default(), settings().at_leisure());
    let till = Endpoint::till(&self::identity(&ca, 1, Role::Till), alone.clone()).unwrap();
    let start = |at| Endpoint::hub(at, &identity, None, everybody(), heard.sink(), alone.clone()).unwrap();
    let (before, after) = (start(LOCAL.into()), start(LOCAL.into()));
    // Stands for the hub's address, and for its death: what it says last is not carried.
    let way = Arc::new(Mutex::new(before.local_addr().unwrap()));
    let at = switchable(way.clone()).await;
    let link = till.dial(at, Role::Hub).await.unwrap();
    timeout(SOON, before.links_changed()).await.unwrap();
    let former = before.linked();
    assert_eq!(former.len(), 1);
    // Until the till has nothing more to say about the handshake.
    tokio::time::sleep(ms(300)).await;
    *way.lock().unwrap() = after.local_addr().unwrap();
    let strange = Linked { id: [7; 8], ..former[0] };
    after.end_former(&[strange]).await;
    let living = timeout(ms(300), link.control().closed()).await;
    assert!(living.is_err(), "a reset without the right id is nothing: {living:?}");
    after.end_former(&former).await;
    // Long before a keep-alive, which is ten seconds away.
    assert_eq!(timeout(Duration::from_secs(2), link.control().closed()).await.unwrap(), End::Restarted);
}

/// Carries datagrams between a till and the hub that is at the end of `way` now.
async fn switchable(way: Arc<Mutex<SocketAddr>>) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
    let at = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut till) = ([0; 2048], None);
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let hub = *way.lock().unwrap();
            let to = if from == hub { till } else { Some(hub) };
            if from != hub {
                till = Some(from);
            }
            if let Some(to) = to {
                let _ = socket.send_to(&buffer[..length], to).await;
            }
        }
    });
    at
}
