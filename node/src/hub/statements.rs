//! What the hub is told by payment providers and acquirers and states in a store's log: outcomes of payments accepted
//! offline, settled batches, and that a payment has become too old. The same word twice is recorded once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::ids::StoreId;
use engine::money::Currency;
use engine::transaction::{Body, HubRecord, Outcome, Payment, Settled, Settlement};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use utoipa::ToSchema;

use super::closing::no_store;
use super::review::NotDecided;
use super::{Hub, Person};
use crate::runtime::clock::now_ms;
use crate::runtime::store::StoreHandle;
use crate::runtime::store::several::ask_each;

/// Payments in one record of a settlement; a larger batch becomes several.
const SETTLED_A_RECORD: usize = 400;
/// How often payments are looked through for those that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// The outcome of a payment, as the payment provider's side tells it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PaymentRequest {
    /// Id of the payment attempt, as in the tender.
    pub payment: String,
    /// What became of it.
    #[schema(value_type = String, example = "approved")]
    pub outcome: Outcome,
    /// The store, where no record with the payment has arrived yet.
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreId>,
}

/// A batch that the acquirer settled.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettlementRequest {
    /// The acquirer's number of the batch: the same batch again changes nothing.
    pub batch: String,
    /// The store, for payments that no store has.
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreId>,
    /// Currency of all amounts.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// The payments.
    pub payments: Vec<SettledRequest>,
    /// Fees kept, minor units.
    #[serde(default)]
    pub fees_minor: i64,
}

/// One payment of a settled batch.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettledRequest {
    /// Authorisation or payment id.
    pub payment: String,
    /// Gross, minor units; negative for refunds.
    pub amount_minor: i64,
}

impl Hub {
    /// States the outcome of a payment.
    ///
    /// # Errors
    /// No store has the payment and none is named, a field does not fit, or the storage failed.
    pub async fn payment(&self, request: PaymentRequest, by: &Person) -> Result<Value, NotDecided> {
        let _one_at_a_time = self.deciding.lock().await;
        let store = self.store_of_payment(&request.payment, request.store.as_ref()).await?;
        let (payment, outcome) = (request.payment.clone(), request.outcome);
        let known = store.ask(move |replica| replica.books().payment_outcome(&payment)).await?;
        let view = |recorded: bool| json!({"store": store.store(), "payment": request.payment, "outcome": outcome, "recorded": recorded});
        if known == Some(outcome) {
            return Ok(view(false));
        }
        self.state_outcome(&store, &request.payment, outcome).await?;
        let detail = format!("payment {} {}", request.payment, word(outcome));
        self.audit.note(now_ms(), Some(store.store().as_str()), Some(by.name.clone()), "payment", detail);
        Ok(view(true))
    }

    async fn state_outcome(
        &self,
        store: &StoreHandle,
        payment: &str,
        outcome: Outcome,
    ) -> Result<(), NotDecided> {
        let number = store
            .ask(|replica| replica.log_heads().get(&replica.identity().log).copied().unwrap_or(0))
            .await?;
        let record = HubRecord::Payment(Payment { payment: payment.to_owned(), outcome });
        store.state(record, format!("payment-{}", number + 1)).await?;
        Ok(())
    }

    /// States a settled batch, in the store of each payment.
    ///
    /// # Errors
    /// The batch was stated with other content, a payment is nowhere, a field does not fit, or the storage failed.
    pub async fn settlement(&self, request: SettlementRequest, by: &Person) -> Result<Value, NotDecided> {
        let _one_at_a_time = self.deciding.lock().await;
        if request.payments.is_empty() && request.fees_minor == 0 {
            return Err(NotDecided::Refused(
                "payments: is empty; a settled batch has payments or fees".to_owned(),
            ));
        }
        let mut by_store: BTreeMap<StoreId, Vec<Settled>> = BTreeMap::new();
        for (at, row) in request.payments.iter().enumerate() {
            let store = self.store_of_payment(&row.payment, request.store.as_ref()).await;
            let store = store.map_err(|error| match error {
                NotDecided::Refused(text) => NotDecided::Refused(format!("payments[{at}].{text}")),
                other => other,
            })?;
            let settled = Settled { payment: row.payment.clone(), amount_minor: row.amount_minor };
            by_store.entry(store.store().clone()).or_default().push(settled);
        }
        if let (true, Some(store)) = (by_store.is_empty(), &request.store) {
            by_store.insert(store.clone(), Vec::new());
        }
        let mut views = Vec::new();
        let mut fees_minor = request.fees_minor;
        for (name, payments) in by_store {
            let store = self.store(&name).ok_or_else(|| no_store(&name))?;
            // Fees are kept of the batch as a whole: they stand in the first store's books.
            let fees = std::mem::take(&mut fees_minor);
            views.push(self.settle_store(&store, &request, payments, fees).await?);
        }
        let detail = format!("batch {} with {} payments", request.batch, request.payments.len());
        self.audit.note(now_ms(), None, Some(by.name.clone()), "settlement", detail);
        Ok(json!({"batch": request.batch, "stores": views}))
    }

    async fn settle_store(
        &self,
        store: &StoreHandle,
        request: &SettlementRequest,
        payments: Vec<Settled>,
        fees_minor: i64,
    ) -> Result<Value, NotDecided> {
        let mut parts: Vec<Vec<Settled>> =
            payments.chunks(SETTLED_A_RECORD).map(<[Settled]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let mut recorded = 0;
        for (at, payments) in parts.into_iter().enumerate() {
            let fees_minor = if at == 0 { fees_minor } else { 0 };
            let count = payments.len();
            let settlement = Settlement { currency: request.currency, payments, fees_minor };
            let name = format!("settlement-{}-{}", request.batch, at + 1);
            let known = name.clone();
            let earlier =
                store.ask(move |replica| replica.own_record(&known).map(|it| it.transaction.body.clone()));
            let earlier = earlier.await?;
            match earlier {
                Some(Body::Hub(HubRecord::Settlement(before))) if before == settlement => {}
                Some(_) => {
                    return Err(NotDecided::Stale(format!(
                        "batch {} was stated with other content; give this one its own number",
                        request.batch
                    )));
                }
                None => {
                    store.state(HubRecord::Settlement(settlement), name).await?;
                    recorded += count;
                }
            }
        }
        Ok(json!({"store": store.store(), "recorded": recorded}))
    }

    /// The store that has a record with a payment; else the one that is named, or the only one.
    async fn store_of_payment(
        &self,
        payment: &str,
        named: Option<&StoreId>,
    ) -> Result<StoreHandle, NotDecided> {
        let (stores, wanted) = (self.stores(), payment.to_owned());
        let known = ask_each(stores.clone(), move |replica| replica.books().knows_payment(&wanted)).await?;
        let mut found: Vec<StoreHandle> =
            stores.into_iter().zip(known).filter_map(|(store, known)| known.then_some(store)).collect();
        found.retain(|store| found_in(named, store));
        match (found.len(), named) {
            (1, _) => Ok(found.remove(0)),
            (0, Some(named)) => self.store(named).ok_or_else(|| no_store(named)),
            (0, None) => match self.stores().as_slice() {
                [only] => Ok(only.clone()),
                _ => Err(NotDecided::Refused(format!(
                    "payment: no record with payment {payment:?} has arrived; name its store"
                ))),
            },
            _ => {
                Err(NotDecided::Refused(format!("payment: {payment:?} is in several stores; name the store")))
            }
        }
    }
}

fn found_in(named: Option<&StoreId>, store: &StoreHandle) -> bool {
    named.is_none_or(|named| named == store.store())
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Approved => "approved",
        Outcome::Declined => "declined",
        Outcome::Expired => "expired",
    }
}

/// States, until the hub stops, that payments accepted offline are too old to be forwarded. Their age counts from when
/// the hub heard of them: before that nobody could have asked the provider.
pub(super) async fn expire(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
        }
        for store in hub.stores() {
            let due = store.ask(|replica| replica.payments_past_age(now_ms())).await.unwrap_or_default();
            for payment in due {
                let _one_at_a_time = hub.deciding.lock().await;
                let asked = payment.clone();
                let answered = store.ask(move |replica| replica.books().payment_outcome(&asked)).await;
                if answered != Ok(None) {
                    continue;
                }
                if let Err(error) = hub.state_outcome(&store, &payment, Outcome::Expired).await {
                    tracing::error!("cannot state that payment {payment} expired: {error:?}");
                    return;
                }
                let detail = format!("payment {payment} expired: no outcome within the policy's hours");
                hub.audit.note(now_ms(), Some(store.store().as_str()), None, "payment", detail);
            }
        }
    }
}
