//! Exports: numbered, immutable batches of journal entries, chained by hash. A batch is a range of each store's
//! journal, with everything else that its files depend on, so that it can be written again, byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use engine::ids::{RecordId, StoreId};
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;
use engine::replica::Replica;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Hub;
use crate::error::Failure;
use crate::export::journal::is_kept;
use crate::export::options::{DateFormat, Form, Format, Wishes};
use crate::export::totals::Totals;
use crate::export::{self, Batch, ExportEntry, Written};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreHandle;
use crate::storage::Entry;

/// Kind byte of an export batch in the hub's log.
pub const EXPORT_KIND: u8 = 66;
/// Journal entries read at a time: a store goes on selling between two pages.
const PAGE: u64 = 1_000;
/// Entries of a batch whose review case is kept with it. An entry of the log has a limit; beyond this one, files name
/// the record and not the case.
const CASES_KEPT: usize = 20_000;

/// Numbers of journal entries, by the case that they belonged to.
type Cases = BTreeMap<StoreId, BTreeMap<String, Vec<u64>>>;

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
    /// The company's name then; batches of the first version do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// How it was written first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// The review cases of its entries then: cases end, files do not change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cases: Cases,
}

/// The batches cut so far, and what can be derived from them and the journals.
#[derive(Debug, Default)]
pub struct Exports {
    batches: Vec<ExportBatch>,
    /// Control totals of the first batches; read from the journals when first asked for.
    totals: Vec<Totals>,
    /// Records with an entry in one of these batches, and when the first of them was cut.
    records: HashMap<StoreId, HashMap<RecordId, i64>>,
}

impl Exports {
    /// The batches that a hub's own log entries leave.
    ///
    /// # Errors
    /// A batch cannot be read, or one is missing: another number 3 would hold the same entries once more.
    pub fn restore(own: &[(u8, Vec<u8>)]) -> Result<Self, Failure> {
        let mut exports = Self::default();
        for (_, bytes) in own.iter().filter(|(kind, _)| *kind == EXPORT_KIND) {
            let number = exports.batches.len() as u64 + 1;
            let read = serde_json::from_slice::<ExportBatch>(bytes).map_err(|error| error.to_string());
            let batch = read.and_then(|batch| {
                let follows = batch.number == number && batch.prev == exports.last_hash();
                if follows { Ok(batch) } else { Err(format!("batch {} stands in its place", batch.number)) }
            });
            let batch = batch.map_err(|reason| {
                Failure::refused(format!(
                    "export batch {number} cannot be read: {reason}; restore the directory from a backup"
                ))
            })?;
            exports.batches.push(batch);
        }
        Ok(exports)
    }

    /// Last journal number of a store that an export holds.
    fn through(&self, store: &StoreId) -> u64 {
        let ranges = self.batches.iter().filter_map(|batch| batch.ranges.get(store));
        ranges.map(|range| range.1).max().unwrap_or(0)
    }

    fn last_hash(&self) -> String {
        self.batches.last().map(|batch| batch.hash.clone()).unwrap_or_default()
    }

    /// Accounts of the batches before one, in the order of batches.
    fn earlier(&self, number: u64) -> Vec<(Account, Currency)> {
        let before = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut seen = HashSet::new();
        let accounts = self.totals.iter().take(before).flat_map(|totals| totals.accounts.keys());
        accounts.filter(|key| seen.insert(*key)).cloned().collect()
    }

    /// Remembers what a batch holds.
    fn note(&mut self, at_ms: i64, totals: Totals, entries: &BTreeMap<StoreId, Vec<JournalEntry>>) {
        self.totals.push(totals);
        for (store, entries) in entries {
            let records = self.records.entry(store.clone()).or_default();
            for entry in entries {
                records.entry(entry.record).or_insert(at_ms);
            }
        }
    }
}

/// The hash of a batch: of the one before it and of every entry's hash, store by store.
fn hash_of(prev: &str, entries: &BTreeMap<StoreId, Vec<JournalEntry>>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync export v1");
    hasher.update(prev.as_bytes());
    for entry in entries.values().flatten() {
        hasher.update(&entry.hash);
    }
    hasher.finalize().to_hex().to_string()
}

impl Hub {
    /// Cuts the next export batch, of all stores or of one, and writes it. Nothing is cut unless the files that were
    /// written say what the books say.
    ///
    /// # Errors
    /// Nothing is new, a wish does not fit the format, the files failed their check, or the storage failed.
    pub async fn export(self: &Arc<Self>, wishes: Wishes, only: Option<StoreId>) -> Result<Value, Failure> {
        // A caller that hangs up must not leave a batch that the log holds and this process does not know.
        let hub = Arc::clone(self);
        let cut = tokio::spawn(async move { hub.cut(&wishes, only.as_ref()).await });
        cut.await.map_err(Failure::refused)?.map_err(|failure| failure.during("export"))
    }

    async fn cut(&self, wishes: &Wishes, only: Option<&StoreId>) -> Result<Value, Failure> {
        let form = Form::of(wishes, None)?;
        let stores: Vec<StoreHandle> =
            self.stores().into_iter().filter(|store| only.is_none_or(|only| only == store.store())).collect();
        if let (Some(only), true) = (only, stores.is_empty()) {
            return Err(Failure::refused(format!("there is no store {only}; `tillsync stores` lists them")));
        }
        let mut exports = self.exports.lock().await;
        self.catch_up(&mut exports).await?;
        let (mut entries, mut written, mut cases) = (BTreeMap::new(), Vec::new(), Cases::new());
        for store in stores {
            let head = store.ask(|replica| replica.books().journal_head().number).await;
            let from = exports.through(store.store()) + 1;
            let fresh = read(&store, from, head.map_err(Failure::refused)?).await?;
            if fresh.is_empty() {
                continue;
            }
            let (mut described, of_store) = describe(&store, &fresh, None).await?;
            written.append(&mut described);
            if !of_store.is_empty() {
                cases.insert(store.store().clone(), of_store);
            }
            entries.insert(store.store().clone(), fresh);
        }
        let number = exports.batches.len() as u64 + 1;
        if entries.is_empty() {
            return Err(nothing_new(number - 1, only));
        }
        let prev = exports.last_hash();
        let hash = hash_of(&prev, &entries);
        let ends = |of: &Vec<JournalEntry>| {
            (of.first().map_or(0, |entry| entry.number), of.last().map_or(0, |entry| entry.number))
        };
        let ranges = entries.iter().map(|(store, of)| (store.clone(), ends(of))).collect();
        let company = Some(self.config.company.clone());
        let at_ms = now_ms();
        let batch =
            ExportBatch { number, ranges, prev, hash, at_ms, company, form: Some(form.clone()), cases };
        let files = self.write(&exports, &batch, &form, &written)?;
        let bytes = serde_json::to_vec(&batch).map_err(Failure::refused)?;
        let (send, receive) = tokio::sync::oneshot::channel();
        self.storage.append(vec![Entry { kind: EXPORT_KIND, bytes }], move |result| {
            let _ = send.send(result.map(|_| ()));
        });
        receive.await.map_err(|_| Failure::refused("the storage is closed"))?.map_err(Failure::refused)?;
        let view = view(&batch, &form, &files);
        exports.note(at_ms, files.totals, &entries);
        exports.batches.push(batch);
        let detail = format!("batch {number} as {}", form.format.as_str());
        self.audit.note(now_ms(), only.map(StoreId::as_str), None, "exported", detail);
        Ok(view)
    }

    /// Writes an earlier batch again: in the form it was cut in the same bytes, in any other form always the same.
    ///
    /// # Errors
    /// There is no such batch, a wish does not fit the format, or the journal does not hold what the batch held.
    pub async fn export_again(&self, number: u64, wishes: &Wishes) -> Result<Value, Failure> {
        let mut exports = self.exports.lock().await;
        let at = number.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let Some(batch) = at.and_then(|at| exports.batches.get(at)).cloned() else {
            let made = match exports.batches.len() {
                0 => "none was cut yet; leave --batch out to cut the first".to_owned(),
                made => format!("batches 1 to {made} are there; `tillsync export --list` shows them"),
            };
            return Err(Failure::refused(format!("export: there is no batch {number}: {made}")));
        };
        let form = Form::of(wishes, batch.form.as_ref())?;
        self.catch_up(&mut exports).await?;
        let mut written = Vec::new();
        for (store, entries) in self.entries_of(&batch).await? {
            let handle = self.known(&store)?;
            let known = batch.cases.get(&store).cloned().unwrap_or_default();
            written.append(&mut describe(&handle, &entries, Some(&known)).await?.0);
        }
        Ok(view(&batch, &form, &self.write(&exports, &batch, &form, &written)?))
    }

    /// Every batch with its control totals, the oldest first.
    ///
    /// # Errors
    /// The journals cannot be read, or do not hold what a batch held.
    pub async fn export_list(&self) -> Result<Value, Failure> {
        let mut exports = self.exports.lock().await;
        self.catch_up(&mut exports).await?;
        let batches = exports.batches.iter().zip(&exports.totals);
        Ok(batches
            .map(|(batch, totals)| {
                let mut view = head(batch);
                view["format"] = json!(batch.form.as_ref().map(|form| form.format));
                view["detail"] = json!(batch.form.as_ref().map(|form| form.detail));
                view["totals"] = totals.to_json();
                view
            })
            .collect())
    }

    /// When the first export that holds an entry of a record was cut.
    pub(crate) async fn exported_at_ms(&self, handle: &StoreHandle, id: &RecordId) -> Option<i64> {
        let mut exports = self.exports.lock().await;
        if let Err(failure) = self.catch_up(&mut exports).await {
            tracing::error!("{failure}");
        }
        exports.records.get(handle.store())?.get(id).copied()
    }

    /// Reads, once in the life of the process, what the batches of the log hold.
    async fn catch_up(&self, exports: &mut Exports) -> Result<(), Failure> {
        while let Some(batch) = exports.batches.get(exports.totals.len()).cloned() {
            let entries = self.entries_of(&batch).await?;
            let mut totals = Totals::default();
            for (store, entries) in &entries {
                for entry in entries {
                    totals.add(store, entry).map_err(Failure::refused)?;
                }
            }
            exports.note(batch.at_ms, totals, &entries);
        }
        Ok(())
    }

    /// The entries of a batch, held against its hash.
    async fn entries_of(&self, batch: &ExportBatch) -> Result<BTreeMap<StoreId, Vec<JournalEntry>>, Failure> {
        let mut entries = BTreeMap::new();
        for (store, (from, to)) in &batch.ranges {
            entries.insert(store.clone(), read(&self.known(store)?, *from, *to).await?);
        }
        if hash_of(&batch.prev, &entries) == batch.hash {
            return Ok(entries);
        }
        Err(Failure::refused(format!(
            "export: the journals do not hold what batch {} held; stop the hub and run `tillsync verify --dir DIR`",
            batch.number
        )))
    }

    fn known(&self, store: &StoreId) -> Result<StoreHandle, Failure> {
        self.store(store).ok_or_else(|| {
            Failure::refused(format!(
                "export: store {store} is not here; restore the directory from a backup"
            ))
        })
    }

    fn write(
        &self,
        exports: &Exports,
        batch: &ExportBatch,
        form: &Form,
        entries: &[ExportEntry],
    ) -> Result<Written, Failure> {
        let company = batch.company.as_ref().unwrap_or(&self.config.company);
        let (hash, prev) = (&batch.hash, &batch.prev);
        let earlier = exports.earlier(batch.number);
        let batch = Batch { company, number: batch.number, hash, prev, entries, earlier: &earlier };
        export::write(&batch, form).map_err(Failure::refused)
    }
}

fn nothing_new(made: u64, only: Option<&StoreId>) -> Failure {
    let place = only.map_or_else(|| "the books".to_owned(), |store| format!("the books of store {store}"));
    Failure::refused(match made {
        0 => format!("nothing is in {place} yet; sell something first"),
        last => format!(
            "nothing is new in {place} since the last batch; `--batch {last}` gives batch {last} again"
        ),
    })
}

/// Entries of a store's journal, page by page.
async fn read(handle: &StoreHandle, from: u64, to: u64) -> Result<Vec<JournalEntry>, Failure> {
    let (mut entries, mut next) = (Vec::new(), from);
    while next <= to {
        let limit = usize::try_from(PAGE.min(to - next + 1)).unwrap_or(usize::MAX);
        let page = handle.journal(next, limit).await.map_err(Failure::refused)?;
        let Some(last) = page.last() else { break };
        next = last.number + 1;
        entries.extend(page);
    }
    Ok(entries)
}

/// Puts beside entries what a bookkeeper reads. The cases are those `known` since the batch was cut, or, for a batch
/// being cut, those of now, which are returned.
async fn describe(
    handle: &StoreHandle,
    entries: &[JournalEntry],
    known: Option<&BTreeMap<String, Vec<u64>>>,
) -> Result<(Vec<ExportEntry>, BTreeMap<String, Vec<u64>>), Failure> {
    let (entries, store) = (entries.to_vec(), handle.store().clone());
    let known = known.cloned();
    let described = handle.ask(move |replica| {
        let cases = known.unwrap_or_else(|| find_cases(replica, &entries));
        let of: HashMap<u64, &String> = cases
            .iter()
            .flat_map(|(case, numbers)| numbers.iter().map(move |number| (*number, case)))
            .collect();
        let described = entries.into_iter().map(|entry| {
            let case = of.get(&entry.number).map(|case| (*case).clone());
            export_entry(replica, &store, entry, case)
        });
        let described: Vec<ExportEntry> = described.collect();
        (described, cases)
    });
    described.await.map_err(Failure::refused)
}

/// The review cases of the entries that somebody will ask about: the one that holds the record, else the most urgent.
fn find_cases(replica: &Replica, entries: &[JournalEntry]) -> BTreeMap<String, Vec<u64>> {
    let asked = |entry: &&JournalEntry| entry.postings.iter().any(|posting| is_kept(&posting.account));
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let wanted: Vec<&JournalEntry> = entries.iter().filter(asked).take(CASES_KEPT).collect();
    if wanted.is_empty() {
        return found;
    }
    let mut case_of: HashMap<RecordId, (bool, u8, &str)> = HashMap::new();
    for case in replica.books().cases() {
        for member in &case.members {
            let rank = (!case.held.contains_key(member), case.severity, case.id.as_str());
            let known = case_of.entry(*member).or_insert(rank);
            *known = rank.min(*known);
        }
    }
    for entry in wanted {
        if let Some((_, _, case)) = case_of.get(&entry.record) {
            found.entry((*case).to_owned()).or_default().push(entry.number);
        }
    }
    found
}

fn export_entry(
    replica: &Replica,
    store: &StoreId,
    entry: JournalEntry,
    case: Option<String>,
) -> ExportEntry {
    let record = |id: &RecordId| replica.books().record(id);
    let receipt = |id: &RecordId| record(id).map(|record| record.transaction.receipt.clone());
    let (kind, terminal) = record(&entry.record).map_or_else(Default::default, |record| {
        (record.transaction.kind().as_str().to_owned(), record.log.terminal.to_string())
    });
    ExportEntry {
        store: store.clone(),
        kind,
        terminal,
        receipt: receipt(&entry.record).unwrap_or_default(),
        because: entry.because.as_ref().and_then(receipt),
        case,
        entry,
    }
}

fn head(batch: &ExportBatch) -> Value {
    json!({"number": batch.number, "at": rfc3339(batch.at_ms), "hash": batch.hash, "prev": batch.prev})
}

fn view(batch: &ExportBatch, form: &Form, written: &Written) -> Value {
    let mut view = head(batch);
    view["format"] = json!(form.format);
    view["detail"] = json!(form.detail);
    if form.format == Format::Quickbooks {
        let format: DateFormat = form.date_format;
        view["date_format"] = json!(format);
    }
    view["totals"] = written.totals.to_json();
    view["files"] =
        written.files.iter().map(|file| json!({"name": file.name, "content": file.content})).collect();
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first version wrote it.
    const OLD: &str = r#"{"number":1,"ranges":{"s1":[1,7]},"prev":"","hash":"aa","at_ms":5}"#;

    fn own(batches: &[&str]) -> Vec<(u8, Vec<u8>)> {
        let mut own = vec![(65, b"a join code".to_vec())];
        own.extend(batches.iter().map(|batch| (EXPORT_KIND, batch.as_bytes().to_vec())));
        own
    }

    #[test]
    fn a_batch_of_the_first_version_is_read_and_written_as_it_was() {
        let exports = Exports::restore(&own(&[OLD])).unwrap();
        assert_eq!(exports.through(&"s1".parse().unwrap()), 7);
        assert_eq!(exports.through(&"s2".parse().unwrap()), 0);
        assert_eq!(serde_json::to_string(&exports.batches[0]).unwrap(), OLD);
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_not_forgotten() {
        let second = r#"{"number":2,"ranges":{"s1":[8,9]},"prev":"aa","hash":"bb","at_ms":6}"#;
        assert_eq!(Exports::restore(&own(&[OLD, second])).unwrap().last_hash(), "bb");
        for wrong in [&second[..20], &second.replace("\"aa\"", "\"ab\""), OLD] {
            let failure = Exports::restore(&own(&[OLD, wrong])).unwrap_err();
            assert!(failure.message.starts_with("export batch 2 cannot be read"), "{failure}");
        }
    }

    #[test]
    fn a_batch_keeps_its_form_and_its_cases() {
        let store: StoreId = "s1".parse().unwrap();
        let batch = ExportBatch {
            company: Some("Shops".to_owned()),
            form: Some(Form::of(&Wishes::default(), None).unwrap()),
            cases: Cases::from([(store, BTreeMap::from([("C-1".to_owned(), vec![3, 4])]))]),
            ..serde_json::from_str(OLD).unwrap()
        };
        let text = serde_json::to_string(&batch).unwrap();
        assert_eq!(serde_json::from_str::<ExportBatch>(&text).unwrap(), batch);
    }
}
