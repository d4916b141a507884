//! References across stores. A customer may bring a receipt of another store of the company. Stores share no document,
//! so the hub, which holds them all, records the sale it found in the log of the store that asks: every till of that
//! store then judges the return by the same facts. Nothing is vouched for that is there twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::ids::StoreId;
use engine::replica::{Replica, Revision};
use engine::transaction::{Body, ForeignOriginal, HubRecord};
use tokio::sync::watch;

use super::Hub;
use crate::runtime::clock::now_ms;

/// How often new records are looked through for open references.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks for what stores ask for until the hub stops.
pub(super) async fn vouch(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    let mut seen = BTreeMap::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        if has_news(&hub, &mut seen).await {
            look(&hub).await;
        }
    }
}

/// Whether some store holds other batches than when it was `seen` last. A store that shows nothing new is not asked: with a
/// hundred stores, four questions a second to each would be most of what an idle hub does.
async fn has_news(hub: &Hub, seen: &mut BTreeMap<StoreId, (Option<Revision>, usize)>) -> bool {
    let mut news = false;
    for store in hub.stores() {
        let shown = store.revision_shown();
        let before = seen.get(store.store()).copied();
        if shown.is_some() && before.is_some_and(|before| before.0 == shown) {
            continue;
        }
        let held = store.ask(|replica| replica.batch_count()).await.unwrap_or(0);
        news |= before.is_none_or(|before| before.1 != held);
        seen.insert(store.store().clone(), (shown, held));
    }
    news
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
