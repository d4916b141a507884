//! A panic in one store's work: the store is back by itself with everything that was acknowledged, and its neighbour never
//! notices.

use std::sync::Arc;
use std::time::Duration;

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::replica::{Identity, Replica};
use engine::transaction::Draft;
use node::hub::base_policy;
use node::identity::NodeKey;
use node::runtime::alarms::Alarms;
use node::runtime::audit::AuditLog;
use node::runtime::clock::Clock;
use node::runtime::restore::RestoredStore;
use node::runtime::store::{StoreHandle, start_for_life};
use node::runtime::workroom::Home;
use node::storage::{Options, Storage};

fn replica(store: &str) -> Replica {
    let key = NodeKey::from_seed(&[7; 32]);
    let identity = Identity {
        store: store.parse::<StoreId>().unwrap(),
        log: LogId { terminal: "t".parse::<TerminalId>().unwrap(), incarnation: 1 },
        key: key.signing_key().clone(),
        nonce: rand::random(),
        hub: WriterId([9; 32]),
    };
    Replica::new(identity, base_policy("GBP".parse().unwrap()))
}

fn sale(receipt: &str) -> Draft {
    let text = format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"a","quantity":"1","amount_minor":100,
        "tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":100}}]}}"#
    );
    Draft::from_json(&text).unwrap()
}

async fn records(store: &StoreHandle) -> usize {
    store.ask(|replica| replica.books().len()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_store_takes_neither_the_process_nor_another_store_down() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, _) = Storage::open(dir.path(), &Options::default()).unwrap();
    let audit = AuditLog::new(storage.clone(), std::collections::VecDeque::new());
    let (clock, alarms) = (Clock::in_zone("Europe/London").unwrap(), Alarms::default());
    let start = |name: &'static str| {
        let restored = RestoredStore::of(replica(name));
        let fresh = Arc::new(move || replica(name));
        let home = Home::in_memory(storage.clone());
        start_for_life(restored, home, audit.clone(), clock.clone(), alarms.clone(), fresh, None)
    };
    let (bad, good) = (start("bad"), start("good"));
    let first = bad.capture(sale("R-1")).await.unwrap();
    good.capture(sale("R-1")).await.unwrap();

    for round in 1..=2_u32 {
        let failed = bad.ask(|_| -> () { panic!("planted in round") }).await;
        assert!(failed.is_err(), "who asked is told");
        assert_eq!(records(&good).await, usize::try_from(round).unwrap(), "the neighbour works on");
        good.capture(sale(&format!("R-{}", round + 1))).await.unwrap();
        // What is asked meanwhile waits until the store is back.
        let back =
            tokio::time::timeout(Duration::from_secs(30), bad.capture(sale("R-1"))).await.unwrap().unwrap();
        assert!(back.repeated && back.id == first.id, "the acknowledged receipt is there: {back:?}");
        bad.capture(sale(&format!("R-{}", round + 1))).await.unwrap();
        assert_eq!(records(&bad).await, usize::try_from(round).unwrap() + 1);
    }
    assert_eq!(alarms.about("bad"), ["restarted"]);
    assert!(alarms.view().to_string().contains("planted in round"));
    assert!(alarms.about("good").is_empty());
    let told = audit.read(0, 100);
    assert_eq!(told.iter().filter(|event| event.event == "restarted").count(), 2);
    bad.stop().await;
    good.stop().await;
    storage.close().unwrap();
}
