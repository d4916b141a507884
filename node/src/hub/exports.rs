//! Exports: cuts the next batch of journal entries, writes an earlier one again, lists them. `batches` keeps what was
//! cut; the rooms of `crate::export` write it down.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine::ids::{RecordId, StoreId};
use engine::ledger::JournalEntry;
use engine::replica::Replica;
use serde_json::{Value, json};

use super::Hub;
use super::batches::{Cases, EXPORT_KIND, ExportBatch, ExportRange, Exports, hash_of};
use crate::error::Failure;
use crate::export::journal::is_kept;
use crate::export::options::{DateFormat, Form, Format, Wishes};
use crate::export::totals::Totals;
use crate::export::{self, Batch, ExportEntry, Written};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreHandle;
use crate::storage::Entry;

/// Journal entries read at a time: a store goes on selling between two pages.
const PAGE: u64 = 1_000;
/// Entries of a batch whose review case is kept with it. An entry of the log has a limit; beyond this one, files name
/// the record and not the case.
const CASES_KEPT: usize = 20_000;

impl Hub {
    /// Cuts the next export batch, of all stores or of one, and writes it; `by` asked for it. Nothing is cut unless the files that were
    /// written say what the books say.
    ///
    /// # Errors
    /// Nothing is new, a wish does not fit the format, the files failed their check, or the storage failed.
    pub async fn export(
        self: &Arc<Self>,
        wishes: Wishes,
        only: Option<StoreId>,
        by: String,
    ) -> Result<Value, Failure> {
        // A caller that hangs up must not leave a batch that the log holds and this process does not know.
        let hub = Arc::clone(self);
        let cut = tokio::spawn(async move { hub.cut(&wishes, only.as_ref(), by).await });
        cut.await.map_err(Failure::refused)?.map_err(|failure| failure.during("export"))
    }

    async fn cut(&self, wishes: &Wishes, only: Option<&StoreId>, by: String) -> Result<Value, Failure> {
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
        self.audit.note(now_ms(), only.map(StoreId::as_str), Some(by), "exported", detail);
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

    /// The ranges of journals in batches behind the first `from`, and how many batches there are.
    pub(crate) async fn export_ranges(&self, from: u64) -> (Vec<ExportRange>, u64) {
        let exports = self.exports.lock().await;
        let new = exports.batches.iter().filter(|batch| batch.number > from);
        let ranges = new.flat_map(|batch| {
            let (number, at_ms) = (batch.number, batch.at_ms);
            let range = move |(store, (first, last)): (&StoreId, &(u64, u64))| ExportRange {
                number,
                store: store.clone(),
                first: *first,
                last: *last,
                at_ms,
            };
            batch.ranges.iter().map(range)
        });
        (ranges.collect(), exports.batches.len() as u64)
    }

    /// When the first export that holds an entry of a record was cut.
    pub(crate) async fn exported_at_ms(&self, handle: &StoreHandle, id: &RecordId) -> Option<i64> {
        let mut exports = self.exports.lock().await;
        if let Err(failure) = self.catch_up(&mut exports).await {
            tracing::error!("{failure}");
        }
        exports.records.get(handle.store())?.get(id).copied()
    }

    /// Whether an export holds entries of every one of these records.
    pub(crate) async fn all_exported(&self, store: &StoreId, ids: &[RecordId]) -> bool {
        let mut exports = self.exports.lock().await;
        if let Err(failure) = self.catch_up(&mut exports).await {
            tracing::error!("{failure}");
        }
        let of_store = exports.records.get(store);
        of_store.is_some_and(|known| ids.iter().all(|id| known.contains_key(id)))
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
