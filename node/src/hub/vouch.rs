//! References across stores. A customer may bring a receipt of another store of the company. Stores share no document,
//! so the hub, which holds them all, records the sale it found in the log of the store that asks: every till of that
//! store then judges the return by the same facts. Nothing is vouched for that is there twice.

use std::sync::Arc;
use std::time::Duration;

use engine::ids::StoreId;
use engine::replica::Replica;
use engine::transaction::{Body, ForeignOriginal, HubRecord};
use tokio::sync::watch;

use super::Hub;
use crate::runtime::clock::now_ms;

/// How often new records are looked through for open references.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks for what stores ask for until the hub stops.
pub(super) async fn vouch(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    let mut seen = 0;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let mut held = 0;
        for store in hub.stores() {
            held += store.ask(|replica| replica.batch_count()).await.unwrap_or(0);
        }
        if held != seen {
            seen = held;
            look(&hub).await;
        }
    }
}

async fn look(hub: &Hub) {
    for asking in hub.stores() {
        let wanted = asking.ask(|replica| replica.books().unresolved_receipts()).await.unwrap_or_default();
        for receipt in wanted {
            let mut found = Vec::new();
            for other in hub.stores().into_iter().filter(|other| other.store() != asking.store()) {
                let name = receipt.clone();
                found.extend(other.ask(move |replica| sales_of(replica, &name)).await.unwrap_or_default());
            }
            if found.len() == 1 {
                vouch_for(hub, asking.store(), found.remove(0)).await;
            }
        }
    }
}

async fn vouch_for(hub: &Hub, asking: &StoreId, original: ForeignOriginal) {
    let Some(handle) = hub.store(asking) else { return };
    let detail = format!("receipt {} of store {} is referred to here", original.receipt, original.store);
    let name = format!("original-{}-{}", original.log.terminal, original.seq);
    match handle.state(HubRecord::ForeignOriginal(original), name).await {
        Ok(_) => hub.audit().note(now_ms(), Some(asking.as_str()), None, "vouched", detail),
        Err(error) => tracing::error!("cannot vouch: {error}"),
    }
}

/// The sales of a store that carry a receipt number.
fn sales_of(replica: &mut Replica, receipt: &str) -> Vec<ForeignOriginal> {
    let books = replica.books();
    let records = books.find_receipt(receipt).into_iter().filter_map(|id| books.record(&id));
    records
        .filter_map(|record| {
            let Body::Sale(basket) = &record.transaction.body else { return None };
            Some(ForeignOriginal {
                id: record.id,
                store: record.store.clone(),
                log: record.log.clone(),
                seq: record.seq,
                receipt: record.transaction.receipt.clone(),
                business_day: record.business_day,
                effective_ms: record.effective_ms,
                currency: basket.currency,
                lines: basket.lines.clone(),
                tenders: basket.tenders.clone(),
            })
        })
        .collect()
}
