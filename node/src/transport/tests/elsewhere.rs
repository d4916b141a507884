//! Several hubs of one company: a till goes where its store is, whoever of them it asks first and whoever of them is dead.

use super::*;
use crate::identity::{HUBS_MAX, Holds};

/// Hubs that share key and authority, and a till that knows all of them.
struct Company {
    ca: Arc<Authority>,
    heard: Heard,
    /// Who has the till's store.
    store: Arc<Mutex<Word>>,
}

/// What the hubs say of where the store is.
#[derive(Clone)]
enum Word {
    At(SocketAddr),
    Unknown,
}

struct Running {
    at: SocketAddr,
    links: mpsc::UnboundedReceiver<LinkControl>,
    endpoint: Endpoint,
    /// How often somebody asked for a link here.
    asked: Arc<AtomicU64>,
}

fn key() -> NodeKey {
    NodeKey::from_seed(&[200; 32])
}

impl Company {
    fn new() -> Self {
        let ca = Arc::new(Authority::generate("Acme").unwrap());
        Self { ca, heard: Heard::default(), store: Arc::new(Mutex::new(Word::Unknown)) }
    }

    fn moved_to(&self, word: Word) {
        *self.store.lock().unwrap() = word;
    }

    /// A hub that has the store when the company says so.
    fn hub(&self) -> Running {
        let own = Arc::new(Mutex::new(None));
        let (store, here) = (self.store.clone(), own.clone());
        let running = self.hub_saying(move || match store.lock().unwrap().clone() {
            Word::At(at) if Some(at) == *here.lock().unwrap() => Ok(()),
            Word::At(at) => Err(NotHere::Elsewhere(Some(at.to_string()))),
            Word::Unknown => Err(NotHere::Elsewhere(None)),
        });
        *own.lock().unwrap() = Some(running.at);
        running
    }

    fn hub_saying(&self, word: impl Fn() -> Result<(), NotHere> + Send + Sync + 'static) -> Running {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        let admit: Admit = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            word()
        });
        let identity = self.ca.hub_identity(key()).unwrap();
        let nobody: Decide = Arc::new(|_| Box::pin(async { Err(Refusal::Unknown) }));
        let desk = JoinDesk::new(self.ca.clone(), identity.public(), nobody);
        let events = self.heard.sink();
        let endpoint = Endpoint::hub(LOCAL.into(), &identity, Some(desk), admit, events, settings()).unwrap();
        let (taken, links) = mpsc::unbounded_channel();
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Some(link) = accepting.accept().await {
                let _ = taken.send(link.control());
                held.push(link);
            }
        });
        Running { at: endpoint.local_addr().unwrap(), links, endpoint, asked }
    }

    fn till(&self, hubs: &HubList) -> Till {
        self.till_of(hubs, Backoff::new(HOUR, HOUR))
    }

    fn till_of(&self, hubs: &HubList, backoff: Backoff) -> Till {
        let (links, taken) = mpsc::channel(4);
        let (told, events) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let plan = DialPlan { backoff, ..DialPlan::new(hubs.clone(), Role::Hub, Some(key().public())) };
        let sink: DialEvents = Arc::new(move |e| drop(told.send(e)));
        let endpoint = Endpoint::till(&identity(&self.ca, 1, Role::Till), settings()).unwrap();
        tokio::spawn(keep_connected(endpoint, plan, links, sink, stopped));
        Till { taken, events, _stop: stop }
    }
}

impl Running {
    async fn link(&mut self) -> LinkControl {
        timeout(SOON, self.links.recv()).await.expect("a link in time").unwrap()
    }
}

struct Till {
    taken: mpsc::Receiver<Link>,
    events: mpsc::UnboundedReceiver<DialEvent>,
    _stop: watch::Sender<bool>,
}

impl Till {
    async fn link(&mut self) -> Link {
        timeout(SOON, self.taken.recv()).await.expect("a link in time").unwrap()
    }

    fn events(&mut self) -> Vec<DialEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// A wait that no test would survive: who comes in did not wait for it.
const HOUR: Duration = Duration::from_secs(3_600);

/// An address at which nothing ever answers, for as long as the socket lives.
fn dead() -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind(SocketAddr::from(LOCAL)).unwrap();
    let at = socket.local_addr().unwrap();
    (socket, at)
}

#[tokio::test]
async fn a_till_is_sent_to_the_hub_that_has_its_store() {
    let company = Company::new();
    let (asked, mut holder) = (company.hub(), company.hub());
    company.moved_to(Word::At(holder.at));
    // It knows the one alone, and has never heard of the other.
    let mut till = company.till(&HubList::of([hub_at(asked.at)]));
    assert_eq!(till.link().await.remote(), holder.at);
    holder.link().await;
    let events = till.events();
    assert!(events.contains(&DialEvent::Moved { to: Some(hub_at(holder.at)) }), "{events:?}");
    let harmless = |e: &DialEvent| !matches!(e, DialEvent::Refused { .. } | DialEvent::Failed { .. });
    assert!(events.iter().all(harmless), "nothing is wrong: {events:?}");
    assert_eq!((asked.endpoint.counters().rejected, asked.endpoint.counters().accepted), (0, 0));
    let rejected = |e: &Event| matches!(e, Event::Rejected { .. });
    assert!(!company.heard.0.lock().unwrap().iter().any(rejected), "a till sent on is no stranger");
}

#[tokio::test]
async fn a_store_that_moves_under_a_link_takes_its_till_along_at_once() {
    let company = Company::new();
    let (mut first, mut second) = (company.hub(), company.hub());
    company.moved_to(Word::At(first.at));
    let mut till = company.till(&HubList::of([hub_at(first.at)]));
    for _ in 0..2 {
        let held = till.link().await;
        company.moved_to(Word::At(second.at));
        first.link().await.close(close_code::ELSEWHERE, &second.at.to_string());
        // Its holder hears the end before he lets it go.
        timeout(SOON, held.control().closed()).await.unwrap();
        std::mem::swap(&mut first, &mut second);
    }
    assert_eq!(till.link().await.remote(), first.at);
    assert!(!till.events().iter().any(|e| matches!(e, DialEvent::Waiting { .. } | DialEvent::Lost { .. })));
}

#[tokio::test]
async fn hubs_that_send_a_till_round_in_a_circle_are_left_after_four_hops() {
    let company = Company::new();
    let other = Arc::new(Mutex::new(String::new()));
    let named = other.clone();
    let one = company.hub_saying(move || Err(NotHere::Elsewhere(Some(named.lock().unwrap().clone()))));
    let one_at = one.at.to_string();
    let two = company.hub_saying(move || Err(NotHere::Elsewhere(Some(one_at.clone()))));
    *other.lock().unwrap() = two.at.to_string();
    let mut till = company.till(&HubList::of([hub_at(one.at)]));
    let waits = async { while !matches!(till.events.recv().await, Some(DialEvent::Waiting { .. })) {} };
    timeout(SOON, waits).await.expect("it waits as if nobody had answered");
    assert_eq!((one.asked.load(Ordering::Relaxed), two.asked.load(Ordering::Relaxed)), (3, 2));
}

#[tokio::test]
async fn hubs_that_let_a_till_in_and_send_it_on_are_left_after_four_hops() {
    let company = Company::new();
    let (mut one, mut two) = (company.hub_saying(|| Ok(())), company.hub_saying(|| Ok(())));
    let mut till = company.till(&HubList::of([hub_at(one.at)]));
    for _ in 0..HOPS {
        let held = till.link().await;
        one.link().await.close(close_code::ELSEWHERE, &two.at.to_string());
        timeout(SOON, held.control().closed()).await.unwrap();
        std::mem::swap(&mut one, &mut two);
    }
    let held = till.link().await;
    one.link().await.close(close_code::ELSEWHERE, &two.at.to_string());
    timeout(SOON, held.control().closed()).await.unwrap();
    let waits = async { while !matches!(till.events.recv().await, Some(DialEvent::Waiting { .. })) {} };
    timeout(SOON, waits).await.expect("it waits as if nobody had answered");
}

const HOPS: usize = 4;

#[tokio::test]
async fn dead_addresses_cost_a_till_a_moment_each() {
    let company = Company::new();
    let hub = company.hub_saying(|| Ok(()));
    let silent: Vec<_> = (0..5).map(|_| dead()).collect();
    let hubs = silent.iter().map(|(_, at)| hub_at(*at)).chain([hub_at(hub.at)]);
    let began = Instant::now();
    let mut till = company.till(&HubList::of(hubs));
    assert_eq!(till.link().await.remote(), hub.at);
    // One after the other they would take two seconds each.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_name_that_nobody_knows_stands_in_nobodys_way() {
    let company = Company::new();
    let hub = company.hub_saying(|| Ok(()));
    let hubs = ["no-such-host.invalid:7440".parse().unwrap(), hub_at(hub.at)];
    let mut till = company.till(&HubList::of(hubs));
    assert_eq!(till.link().await.remote(), hub.at);
}

#[tokio::test]
async fn one_hub_with_two_addresses_gives_one_link() {
    let company = Company::new();
    let hub = company.hub_saying(|| Ok(()));
    // The same port by two names, both dialled before either has answered: the way there is slow.
    let (way, slow) = (tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap(), hub.at);
    let way_at = way.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut client) = ([0; 2048], None);
        while let Ok((length, from)) = way.recv_from(&mut buffer).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let to = if from == slow { client } else { Some(slow) };
            if from != slow {
                client = Some(from);
            }
            if let Some(to) = to {
                let _ = way.send_to(&buffer[..length], to).await;
            }
        }
    });
    let mut till = company.till(&HubList::of([hub_at(way_at), hub_at(hub.at)]));
    let link = till.link().await;
    assert!(timeout(Duration::from_secs(1), link.control().closed()).await.is_err(), "and it stays");
    assert_eq!(hub.endpoint.counters().replaced, 0);
}

#[tokio::test]
async fn while_a_store_changes_hands_its_till_asks_every_second_and_is_served_as_soon_as_it_is_known() {
    let company = Company::new();
    let (mut one, two) = (company.hub(), company.hub());
    let mut till = company.till(&HubList::of([hub_at(one.at), hub_at(two.at)]));
    let asked_often = async {
        while two.asked.load(Ordering::Relaxed) < 3 || one.asked.load(Ordering::Relaxed) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, asked_often).await.expect("three rounds in ten seconds, of about one each");
    company.moved_to(Word::At(one.at));
    assert_eq!(till.link().await.remote(), one.at);
    one.link().await;
    let moved: Vec<_> = till.events().into_iter().filter(|e| matches!(e, DialEvent::Moved { .. })).collect();
    assert_eq!(moved[0], DialEvent::Moved { to: None });
    assert!(moved.len() <= 2, "told once, however often it asked: {moved:?}");
}

#[tokio::test]
async fn the_hub_that_the_others_still_name_may_be_the_dead_one() {
    let company = Company::new();
    let (_socket, gone) = dead();
    let mut survivor = company.hub();
    company.moved_to(Word::At(gone));
    let mut till = company.till(&HubList::of([hub_at(gone), hub_at(survivor.at)]));
    let asked_again = async {
        while survivor.asked.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, asked_again).await.expect("it asks again while the dead one is silent");
    company.moved_to(Word::At(survivor.at));
    assert_eq!(till.link().await.remote(), survivor.at);
    survivor.link().await;
}

#[tokio::test]
async fn a_till_whose_hub_dies_silently_is_served_by_another_within_ten_seconds() {
    let company = Company::new();
    let (holder, mut survivor) = (company.hub_saying(|| Ok(())), company.hub());
    // A way to the holder that goes dead, as kill -9 and a pulled plug do: nobody says goodbye.
    let way = tokio::net::UdpSocket::bind(SocketAddr::from(LOCAL)).await.unwrap();
    let (way_at, holder_at) = (way.local_addr().unwrap(), holder.at);
    company.moved_to(Word::At(way_at));
    let forwarder = tokio::spawn(async move {
        let (mut buffer, mut client) = ([0; 2048], None);
        while let Ok((length, from)) = way.recv_from(&mut buffer).await {
            let to = if from == holder_at { client } else { Some(holder_at) };
            if from != holder_at {
                client = Some(from);
            }
            if let Some(to) = to {
                let _ = way.send_to(&buffer[..length], to).await;
            }
        }
    });
    let hubs = HubList::of([hub_at(way_at), hub_at(survivor.at)]);
    // The usual settings and patience: it is they that keep the promise.
    let (links, mut taken) = mpsc::channel(4);
    let (_stop, stopped) = watch::channel(false);
    let endpoint = Endpoint::till(&identity(&company.ca, 1, Role::Till), Settings::default()).unwrap();
    let plan = DialPlan::new(hubs, Role::Hub, Some(key().public()));
    tokio::spawn(keep_connected(endpoint, plan, links, Arc::new(|_| ()), stopped));
    let held = timeout(SOON, taken.recv()).await.unwrap().unwrap();
    forwarder.abort();
    let died = Instant::now();
    let takes_over = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        company.moved_to(Word::At(survivor.at));
    };
    let served = async {
        timeout(SOON, held.control().closed()).await.unwrap();
        let link = timeout(SOON * 2, taken.recv()).await.unwrap().unwrap();
        (link, died.elapsed())
    };
    let ((), (link, after)) = tokio::join!(takes_over, served);
    assert_eq!(link.remote(), survivor.at);
    assert!(after < Duration::from_secs(10), "{after:?}");
    survivor.link().await;
}

#[tokio::test]
async fn papers_are_renewed_by_a_hub_that_has_not_the_store() {
    let company = Company::new();
    let hub = company.hub();
    company.moved_to(Word::Unknown);
    let identity = identity(&company.ca, 1, Role::Till);
    let caller = Caller::new(tls::client(&identity, &[ALPN_RENEW]).unwrap(), &settings()).unwrap();
    let socket = Socket::dial_only(LOCAL.into()).unwrap();
    let connection = socket.dial(&caller, hub.at, Role::Hub.server_name()).await.unwrap();
    let stream = connection.open_stream().await.unwrap();
    let reply =
        crate::identity::ask_for_papers(&mut stream.into_io(), &[7; 16], Holds::default()).await.unwrap();
    assert_eq!(reply.trusted, [company.ca.certificate()]);

    let out = company.hub_saying(|| Err(NotHere::Refused("revoked".into())));
    let connection = socket.dial(&caller, out.at, Role::Hub.server_name()).await.unwrap();
    let end = timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(end, End::Peer { code, .. } if code == u64::from(close_code::NOT_ADMITTED)), "{end}");
}

#[tokio::test]
async fn a_till_is_told_where_the_hubs_are_with_its_papers() {
    let company = Company::new();
    let hub_identity = company.ca.hub_identity(key()).unwrap();
    let nobody: Decide = Arc::new(|_| Box::pin(async { Err(Refusal::Unknown) }));
    let told = HubList::of((0..HUBS_MAX + 1).map(|i| format!("hub-{i}.example:7440").parse().unwrap()));
    let desk = JoinDesk::new(company.ca.clone(), hub_identity.public(), nobody).naming(told.clone());
    let events = company.heard.sink();
    let hub =
        Endpoint::hub(LOCAL.into(), &hub_identity, Some(desk), everybody(), events, settings()).unwrap();
    let (heard, mut hears) = mpsc::unbounded_channel();
    let keeper = Keeper::new(Holds::default, move |_, reply| {
        let _ = heard.send(reply.hubs());
        Ok(())
    });
    let till = Endpoint::till_for_life(&identity(&company.ca, 1, Role::Till), keeper, settings()).unwrap();
    for named in [told.get()[..HUBS_MAX].to_vec(), vec![hub_at(hub.local_addr().unwrap())], Vec::new()] {
        told.set(named.clone());
        let _link = till.dial(hub.local_addr().unwrap(), Role::Hub).await.unwrap();
        assert_eq!(timeout(SOON, hears.recv()).await.unwrap().unwrap(), named, "asked at every link");
    }
}

/// A hub that enrols when `enrols` says so.
fn enrolling(
    ca: &Arc<Authority>,
    enrols: impl Fn() -> Result<(), Option<String>> + Send + Sync + 'static,
) -> Endpoint {
    let identity = ca.hub_identity(key()).unwrap();
    let decide: Decide = Arc::new(|_| {
        let (store, terminal) = ("S1".to_owned(), "T1".to_owned());
        let (time_zone, currency) = ("Europe/London".to_owned(), "GBP".to_owned());
        let grant = Grant { store, terminal, incarnation: 1, time_zone, currency, extra: Vec::new() };
        Box::pin(async move { Ok(grant) })
    });
    let desk = JoinDesk::new(ca.clone(), identity.public(), decide).enrolling_if(Arc::new(enrols));
    Endpoint::hub(LOCAL.into(), &identity, Some(desk), everybody(), Arc::new(|_| ()), settings()).unwrap()
}

#[tokio::test]
async fn a_device_joins_at_whichever_hub_enrols() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let enrols = enrolling(&ca, || Ok(()));
    let at = hub_at(enrols.local_addr().unwrap());
    let named = at.to_string();
    let sends_on = enrolling(&ca, move || Err(Some(named.clone())));
    let entry = hub_at(sends_on.local_addr().unwrap());
    let (_socket, gone) = dead();
    let till = NodeKey::from_seed(&[1; 32]);

    // A dead one, then one that sends on to one that the code does not name.
    let code = JoinCode::new(hub_at(gone), ca.fingerprint()).and_hubs([entry.clone()]);
    let enrolment = join(&code, None, &till, "", &settings()).await.unwrap();
    assert_eq!(enrolment.hub_address, entry.as_str());
    assert_eq!(enrolment.hubs(), [at.clone(), hub_at(gone), entry.clone()]);
    assert_eq!(enrols.counters().joins, 1);

    let plain =
        join(&JoinCode::new(at.clone(), ca.fingerprint()), None, &till, "", &settings()).await.unwrap();
    assert_eq!((plain.hub_addresses.len(), plain.hubs()), (0, vec![at]));
}

#[tokio::test]
async fn a_device_that_no_hub_enrols_now_is_told_to_come_again_and_one_sent_in_circles_too() {
    let ca = Arc::new(Authority::generate("Acme").unwrap());
    let nobody = enrolling(&ca, || Err(None));
    let to = Arc::new(Mutex::new(String::new()));
    let named = to.clone();
    let circle = enrolling(&ca, move || Err(Some(named.lock().unwrap().clone())));
    *to.lock().unwrap() = circle.local_addr().unwrap().to_string();
    let till = NodeKey::from_seed(&[1; 32]);
    for hub in [nobody, circle] {
        let code = JoinCode::new(hub_at(hub.local_addr().unwrap()), ca.fingerprint());
        let error = join(&code, None, &till, "", &settings()).await.unwrap_err();
        assert!(matches!(error, JoinError::Elsewhere { .. }), "{error}");
        assert_eq!(hub.counters().joins, 0, "before any conversation");
    }
}

#[tokio::test]
async fn only_a_hub_of_the_codes_company_sends_a_device_on() {
    let (ca, thief) =
        (Arc::new(Authority::generate("Acme").unwrap()), Arc::new(Authority::generate("Acme").unwrap()));
    let hub = enrolling(&ca, || Ok(()));
    let named = hub.local_addr().unwrap().to_string();
    let liar = enrolling(&thief, move || Err(Some(named.clone())));
    let code = JoinCode::new(hub_at(liar.local_addr().unwrap()), ca.fingerprint());
    let error = join(&code, None, &NodeKey::from_seed(&[1; 32]), "", &settings()).await.unwrap_err();
    assert!(matches!(error, JoinError::WrongHub { .. }), "{error}");
    assert_eq!(hub.counters().joins, 0);
}
