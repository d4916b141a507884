//! Exports: numbered, immutable batches of journal entries, chained by hash. A batch is a range of each store's
//! journal, so that it can be written again, byte for byte.

use std::collections::BTreeMap;

use engine::ids::{RecordId, StoreId};
use engine::ledger::JournalEntry;
use engine::replica::Replica;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Hub;
use crate::error::Failure;
use crate::export::{ExportEntry, hledger};
use crate::runtime::clock::now_ms;
use crate::runtime::store::StoreHandle;
use crate::storage::Entry;

/// Kind byte of an export batch in the hub's log.
pub const EXPORT_KIND: u8 = 66;

/// One export batch: which entries it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportBatch {
    /// Number, from 1 without gaps.
    pub number: u64,
    /// First and last journal number of each store.
    pub ranges: BTreeMap<StoreId, (u64, u64)>,
    /// Hash of the batch before.
    pub prev: String,
    /// Hash of the entries' hashes and of `prev`.
    pub hash: String,
    /// When it was cut, ms since 1970.
    pub at_ms: i64,
}

/// The batches cut so far.
#[derive(Debug, Default)]
pub struct Exports {
    batches: Vec<ExportBatch>,
}

impl Exports {
    /// The batches that a hub's own log entries leave.
    #[must_use]
    pub fn restore(own: &[(u8, Vec<u8>)]) -> Self {
        let batches = own.iter().filter(|(kind, _)| *kind == EXPORT_KIND);
        Self { batches: batches.filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect() }
    }

    /// Last journal number of a store that an export holds.
    fn through(&self, store: &StoreId) -> u64 {
        self.batches
            .iter()
            .filter_map(|batch| batch.ranges.get(store))
            .map(|range| range.1)
            .max()
            .unwrap_or(0)
    }
}

impl Hub {
    /// Cuts the next export batch and writes it.
    ///
    /// # Errors
    /// Nothing is new, the format is not known, or the storage failed.
    pub async fn export(&self, format: &str) -> Result<Value, Failure> {
        check_format(format)?;
        let mut exports = self.exports.lock().await;
        let (mut ranges, mut hasher) =
            (BTreeMap::new(), blake3::Hasher::new_derive_key("tillsync export v1"));
        let prev = exports.batches.last().map(|batch| batch.hash.clone()).unwrap_or_default();
        hasher.update(prev.as_bytes());
        for store in self.stores() {
            let from = exports.through(store.store()) + 1;
            let fresh = store.journal(from, usize::MAX).await.map_err(Failure::refused)?;
            if let Some(last) = fresh.last() {
                ranges.insert(store.store().clone(), (from, last.number));
            }
            for entry in fresh {
                hasher.update(&entry.hash);
            }
        }
        let number = exports.batches.len() as u64 + 1;
        if ranges.is_empty() {
            let message = match number - 1 {
                0 => "nothing is in the books yet".to_owned(),
                last => format!("nothing is new since batch {last}; `--batch {last}` gives it again"),
            };
            return Err(Failure::refused(message).during("export"));
        }
        let hash = hasher.finalize().to_hex().to_string();
        let batch = ExportBatch { number, ranges, prev, hash, at_ms: now_ms() };
        let view = self.write_export(&batch, format).await?;
        let bytes = serde_json::to_vec(&batch).map_err(Failure::refused)?;
        let (send, receive) = tokio::sync::oneshot::channel();
        self.storage.append(vec![Entry { kind: EXPORT_KIND, bytes }], move |result| {
            let _ = send.send(result.map(|_| ()));
        });
        receive.await.map_err(|_| Failure::refused("the storage is closed"))?.map_err(Failure::refused)?;
        exports.batches.push(batch);
        self.audit.note(now_ms(), None, None, "exported", format!("batch {number} as {format}"));
        Ok(view)
    }

    /// Writes an earlier batch again: the same bytes.
    ///
    /// # Errors
    /// There is no such batch, or the format is not known.
    pub async fn export_again(&self, number: u64, format: &str) -> Result<Value, Failure> {
        check_format(format)?;
        let exports = self.exports.lock().await;
        let batch = exports.batches.iter().find(|batch| batch.number == number);
        let batch = batch.ok_or_else(|| {
            Failure::refused(format!(
                "there is no export batch {number}; {} were made",
                exports.batches.len()
            ))
        })?;
        self.write_export(batch, format).await
    }

    /// Whether an export holds an entry of a record.
    pub(crate) async fn is_exported(&self, handle: &StoreHandle, id: &RecordId) -> bool {
        let through = self.exports.lock().await.through(handle.store());
        let entries =
            handle.journal(1, usize::try_from(through).unwrap_or(usize::MAX)).await.unwrap_or_default();
        entries.iter().any(|entry| entry.record == *id)
    }

    async fn write_export(&self, batch: &ExportBatch, format: &str) -> Result<Value, Failure> {
        let (mut written, mut earlier) = (Vec::new(), std::collections::BTreeSet::new());
        for (store, (from, to)) in &batch.ranges {
            let Some(handle) = self.store(store) else { continue };
            let entries = handle
                .journal(1, usize::try_from(*to).unwrap_or(usize::MAX))
                .await
                .map_err(Failure::refused)?;
            let (before, of_batch): (Vec<JournalEntry>, Vec<JournalEntry>) =
                entries.into_iter().partition(|entry| entry.number < *from);
            let postings = before.into_iter().flat_map(|entry| entry.postings);
            earlier.extend(postings.map(|posting| (posting.account, posting.currency)));
            let name = store.clone();
            let mut of_store: Vec<ExportEntry> = handle
                .ask(move |replica| {
                    of_batch.into_iter().map(|entry| export_entry(replica, &name, entry)).collect()
                })
                .await
                .map_err(Failure::refused)?;
            written.append(&mut of_store);
        }
        let text = hledger::write(&self.config.company, batch.number, &batch.hash, &written, &earlier);
        let name = format!("tillsync-{:06}.journal", batch.number);
        Ok(json!({
            "number": batch.number,
            "format": format,
            "hash": batch.hash,
            "files": [{"name": name, "content": text}],
            "totals": totals(&written),
        }))
    }
}

fn check_format(format: &str) -> Result<(), Failure> {
    if format == "hledger" {
        return Ok(());
    }
    Err(Failure::usage(format!("{format:?} is not an export format of this version; hledger is")))
}

fn export_entry(replica: &Replica, store: &StoreId, entry: JournalEntry) -> ExportEntry {
    let name = |id: &RecordId| {
        let record = replica.books().record(id)?;
        let transaction = &record.transaction;
        Some((
            transaction.receipt.clone(),
            format!("{} {}", transaction.kind().as_str(), record.log.terminal),
        ))
    };
    let (receipt, text) = name(&entry.record).unwrap_or_default();
    let because = entry.because.as_ref().and_then(name).map(|(receipt, _)| receipt);
    ExportEntry { store: store.clone(), entry, receipt, text, because }
}

/// Control totals of a batch: entries, debits and credits per currency, balance per account.
fn totals(entries: &[ExportEntry]) -> Value {
    let mut sums: BTreeMap<String, (i128, i128)> = BTreeMap::new();
    let mut accounts: BTreeMap<String, i128> = BTreeMap::new();
    for posting in entries.iter().flat_map(|entry| &entry.entry.postings) {
        let sum = sums.entry(posting.currency.to_string()).or_default();
        let amount = i128::from(posting.amount_minor);
        if amount > 0 {
            sum.0 += amount;
        } else {
            sum.1 -= amount;
        }
        *accounts.entry(format!("{} {}", posting.account, posting.currency)).or_default() += amount;
    }
    let plain = |minor: i128| i64::try_from(minor).unwrap_or(i64::MAX);
    json!({
        "entries": entries.len(),
        "currencies": sums.into_iter().map(|(currency, (debits, credits))| {
            (currency, json!({"debits_minor": plain(debits), "credits_minor": plain(credits)}))
        }).collect::<serde_json::Map<_, _>>(),
        "accounts": accounts.into_iter().map(|(account, minor)| (account, json!(plain(minor)))).collect::<serde_json::Map<_, _>>(),
    })
}
