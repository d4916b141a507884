//! `tillsync verify`: a data directory at rest, held against everything that must be true of it: frames, signatures,
//! chains, documents, journal, ΣJ = D(S), trial balance, export batches. It believes nothing that was computed before:
//! every batch of records goes once more through the admission that a foreign one would, into a replica of its own.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use data_encoding::HEXLOWER;
use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::ids::{LogId, RecordId, StoreId, TerminalId, WriterId};
use engine::lease::shard_of;
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;
use engine::replica::{Identity as ReplicaIdentity, Input, Output, Replica};
use engine::sync::{Carried, Dialect, Message};
use engine::time::Instant;
use engine::transaction::Enrolment as ReplicaEnrolment;
use serde_json::{Value, json};

use crate::api::views;
use crate::error::Failure;
use crate::hub::{EXPORT_KIND, Exports, HubConfig, base_policy};
use crate::identity::{Authority, Enrolment, NodeKey};
use crate::runtime::audit::AUDIT_KIND;
use crate::runtime::clock::now_ms;
use crate::storage::{At, Logs, StorageError, audit, manifest};

/// Problems listed at most; the first are the ones to look at.
const PROBLEMS_LISTED: usize = 100;

/// What is checked, store by store.
struct Checker {
    hub: WriterId,
    currency: Currency,
    /// Over how many shards the stores are spread; 0: everything is in one log.
    shards: u16,
    stores: BTreeMap<StoreId, StoreCheck>,
    /// The hub's export batches, as they are in the log.
    exports: Vec<(u8, Vec<u8>)>,
    report: Report,
}

/// One store: the replica as the node restores it, and one that admits everything anew.
struct StoreCheck {
    restored: Replica,
    witness: Replica,
    number: u64,
    /// Where the batches stand, by ordinal.
    batches: Vec<At>,
    /// Batches refused so far. A till may have captured before the hub's word of its enrolment arrived; peers deliver
    /// such a batch again, and so does this.
    refused: Vec<(Carried, At, String)>,
    journal: VecDeque<JournalEntry>,
    /// What settling the restored books adds: records that arrived just before the node stopped.
    appended: Vec<JournalEntry>,
}

#[derive(Default)]
struct Report {
    entries: u64,
    batches: u64,
    records: u64,
    journal_entries: u64,
    captured_unsealed: u64,
    documents: u64,
    problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, text: impl Into<String>) {
        if self.problems.len() < PROBLEMS_LISTED {
            self.problems.push(text.into());
        }
    }
}

/// Checks a data directory. No node may hold it, unless its logs are those of several hubs.
///
/// # Errors
/// The directory is in use or is no node's. What is wrong inside it is in the answer, not here.
pub fn verify(dir: &Path) -> Result<Value, Failure> {
    verify_dir(dir).map_err(|failure| failure.during("verify"))
}

fn verify_dir(dir: &Path) -> Result<Value, Failure> {
    let owner = owner(dir)?;
    let frames = audit(dir).map_err(Failure::refused)?;
    let mut checker = Checker::new(&owner);
    for problem in &frames.problems {
        checker.report.problem(problem.to_string());
    }
    if checker.report.problems.is_empty() {
        checker.small_files(dir, &owner.0)?;
        checker.logs(dir, &owner.0, &Logs::open(dir).map_err(Failure::refused)?);
    }
    let mut report = checker.told();
    report["checked"]["segments"] = json!(frames.segments);
    report["checked"]["bytes"] = json!(frames.bytes);
    Ok(report)
}

/// Checks logs as those of a hub's directory, wherever they lie.
///
/// # Errors
/// The directory is no node's.
pub(crate) fn verify_logs(dir: &Path, logs: &Logs) -> Result<Value, Failure> {
    let owner = owner(dir)?;
    let mut checker = Checker::new(&owner);
    checker.logs(dir, &owner.0, logs);
    Ok(checker.told())
}

/// Whose directory it is: its key, its hub, its currency.
pub(crate) fn owner(dir: &Path) -> Result<(NodeKey, WriterId, Currency), Failure> {
    let nobody = || Failure::refused(format!("{} is no data directory of a till or hub", dir.display()));
    let key = NodeKey::load(dir).map_err(Failure::refused)?.ok_or_else(nobody)?;
    if let Some(enrolment) = Enrolment::load(dir).map_err(Failure::refused)? {
        let currency = enrolment.currency.parse().map_err(Failure::refused)?;
        return Ok((key, WriterId(enrolment.hub_public_key), currency));
    }
    if !dir.join("hub.json").exists() {
        return Err(nobody());
    }
    let config = HubConfig::load(dir)?;
    let hub = WriterId(key.public());
    Ok((key, hub, config.currency))
}

impl Checker {
    fn new((_, hub, currency): &(NodeKey, WriterId, Currency)) -> Self {
        Self {
            hub: *hub,
            currency: *currency,
            shards: 0,
            stores: BTreeMap::new(),
            exports: Vec::new(),
            report: Report::default(),
        }
    }

    /// Every entry, and what they make together.
    fn logs(&mut self, dir: &Path, key: &NodeKey, logs: &Logs) {
        let hub = self.hub;
        let identity = |store: &StoreId, log: LogId| ReplicaIdentity {
            store: store.clone(),
            log,
            key: key.signing_key().clone(),
            nonce: [0; 16],
            hub,
        };
        self.shards = logs.shards();
        let read = logs.replay(&mut |at, entry| {
            self.entry(&identity, dir, at, entry.kind, &entry.bytes);
            Ok::<(), StorageError>(())
        });
        if let Err(error) = read {
            self.report.problem(error.to_string());
        }
        self.conclude(logs);
    }

    /// What was found.
    fn told(self) -> Value {
        let Report { entries, batches, records, journal_entries, captured_unsealed, documents, problems } =
            self.report;
        let stores: BTreeMap<String, Value> =
            self.stores.iter().map(|(store, check)| (store.to_string(), check.told())).collect();
        let mut told = json!({
            "ok": problems.is_empty(),
            "checked": {
                "segments": 0,
                "bytes": 0,
                "entries": entries,
                "stores": stores.len(),
                "batches": batches,
                "records": records,
                "captured_unsealed": captured_unsealed,
                "documents": documents,
                "journal_entries": journal_entries,
                "export_batches": self.exports.len(),
            },
            "stores": stores,
            "problems": problems,
        });
        if self.shards > 0 {
            told["checked"]["shards"] = json!(self.shards);
        }
        told
    }

    /// What the log does not prove: the small files beside it, and that key and certificates belong together.
    fn small_files(&mut self, dir: &Path, key: &NodeKey) -> Result<(), Failure> {
        let problems = manifest::problems(dir).map_err(Failure::refused)?;
        problems.into_iter().for_each(|it| self.report.problem(it));
        match Enrolment::load(dir).map_err(Failure::refused)? {
            Some(enrolment) => {
                if let Err(error) = enrolment.identity(key.clone()) {
                    self.report.problem(format!("the enrolment does not belong to the key: {error}"));
                }
            }
            None => match Authority::load(dir) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.report.problem("the certificate authority is missing; restore it from a backup");
                }
                Err(error) => self.report.problem(error.to_string()),
            },
        }
        Ok(())
    }

    fn entry(
        &mut self,
        identity: &impl Fn(&StoreId, LogId) -> ReplicaIdentity,
        dir: &Path,
        at: At,
        kind: u8,
        bytes: &[u8],
    ) {
        self.report.entries += 1;
        if kind >= NODE_KINDS_FROM {
            if at.log > 0 && kind != AUDIT_KIND {
                self.report.problem(format!("entry at {at}: it is the company's and stands in a shard"));
            }
            if kind == EXPORT_KIND {
                self.exports.push((kind, bytes.to_vec()));
            }
            return;
        }
        let (store, entry) = match LogEntry::decode(kind, bytes) {
            Ok(decoded) => decoded,
            Err(error) => return self.report.problem(format!("entry at {at}: {error}")),
        };
        if self.shards > 0 && shard_of(store.as_str(), self.shards) != at.log {
            self.report.problem(format!("entry at {at}: store {store} belongs into another shard"));
        }
        let hub = self.hub;
        let policy = base_policy(self.currency);
        let check = self.stores.entry(store.clone()).or_insert_with(|| {
            let log = own_log(dir, identity(&store, hub_log()).key.verifying_key().to_bytes() == hub.0);
            // A key that is nobody's: the witness never writes.
            let nobody = ed25519_dalek::SigningKey::from_bytes(blake3::hash(b"tillsync verify").as_bytes());
            let witness_log = LogId { terminal: witness_name(), incarnation: 1 };
            let witness =
                ReplicaIdentity { store: store.clone(), log: witness_log, key: nobody, nonce: [0; 16], hub };
            let own = identity(&store, log.clone());
            let writer = WriterId(own.key.verifying_key().to_bytes());
            let mut check = StoreCheck {
                restored: Replica::new(own, policy.clone()),
                witness: Replica::new(witness, policy),
                number: 0,
                batches: Vec::new(),
                refused: Vec::new(),
                journal: VecDeque::new(),
                appended: Vec::new(),
            };
            // A till that has not reached the hub since it was enrolled has its certificate's word for it only.
            check.witness.trust_enrolment(&ReplicaEnrolment { log, writer });
            check.witness.handle(Instant::utc(now_ms()), Input::PeerUp(hub, Dialect::Full));
            check
        });
        match &entry {
            LogEntry::Batch(batch) => {
                self.report.batches += 1;
                let carried = Carried { bytes: batch.bytes.clone(), change: batch.change };
                check.batches.push(at);
                check.admit(hub, &carried, at);
            }
            LogEntry::Journal(run) => match run.entries() {
                Ok(entries) => {
                    self.report.journal_entries += entries.len() as u64;
                    check.journal.extend(entries);
                }
                Err(error) => self.report.problem(format!("entry at {at}: {error}")),
            },
            LogEntry::Captured(_) | LogEntry::Custody(_) | LogEntry::Posted(_) | LogEntry::Link(_) => {}
        }
        if let Err(error) = check.restored.restore(entry) {
            self.report.problem(format!("entry at {at}: {error}"));
        }
    }

    fn conclude(&mut self, logs: &Logs) {
        let hub = self.hub;
        for (store, check) in &mut self.stores {
            check.conclude(store, hub, logs, &mut self.report);
        }
        let hashes = |check: &StoreCheck| check.journal.iter().map(|entry| entry.hash).collect();
        let journals = self.stores.iter().map(|(store, check)| (store.clone(), hashes(check))).collect();
        match Exports::restore(&self.exports) {
            Ok(exports) => exports.problems(&journals).into_iter().for_each(|it| self.report.problem(it)),
            Err(failure) => self.report.problem(failure.message),
        }
    }
}

impl StoreCheck {
    /// What the store's books say, for who compares them.
    fn told(&self) -> Value {
        let books = self.restored.books();
        let mut balances: BTreeMap<String, Value> = BTreeMap::new();
        for ((account, currency), sum) in books.balances() {
            if sum != 0 {
                balances.insert(format!("{account} {currency}"), views::amount(sum));
            }
        }
        json!({
            "records": self.restored.log_heads().values().sum::<u64>(),
            "view_hash": HEXLOWER.encode(&books.view_hash()),
            "balances": balances,
        })
    }

    /// Puts a batch through admission.
    fn admit(&mut self, hub: WriterId, carried: &Carried, at: At) {
        self.number += 1;
        let message = Message::Batches { number: self.number, batches: vec![carried.clone()] };
        let now = Instant::utc(now_ms());
        for output in self.witness.handle(now, Input::Message(hub, message.encode())) {
            if let Output::Send(_, Message::Refused { batch, reason }) = output {
                self.refused.push((carried.clone(), at, format!("batch {batch} at {at}: {reason}")));
            }
        }
        let entries = self.witness.persisted();
        self.witness.handle(now, Input::Durable { entries });
    }

    /// Delivers what was refused again, as long as that helps. What is refused at the end is a problem.
    fn admit_again(&mut self, hub: WriterId, report: &mut Report) {
        loop {
            let refused = std::mem::take(&mut self.refused);
            let before = refused.len();
            for (carried, at, _) in refused {
                self.admit(hub, &carried, at);
            }
            if self.refused.len() == before || self.refused.is_empty() {
                break;
            }
        }
        for (_, _, problem) in &self.refused {
            report.problem(problem.clone());
        }
    }

    fn conclude(&mut self, store: &StoreId, hub: WriterId, logs: &Logs, report: &mut Report) {
        self.admit_again(hub, report);
        let now = Instant::utc(now_ms());
        self.restored.restored();
        while self.restored.next_wakeup().is_some_and(|at| at <= 0) {
            for output in self.restored.handle(now, Input::Wakeup) {
                if let Output::Persist { entry: LogEntry::Journal(run), .. } = output {
                    self.appended.extend(run.entries().into_iter().flatten());
                }
            }
        }
        while self.witness.next_wakeup().is_some_and(|at| at <= 0) {
            self.witness.handle(now, Input::Wakeup);
        }
        let heads: u64 = self.restored.log_heads().values().sum();
        report.records += heads;
        report.captured_unsealed += self.restored.unsealed_count() as u64;
        if self.restored.digest() != self.witness.digest() {
            report.problem(format!("store {store}: the batches admitted anew make other documents"));
        }
        let batches = &self.batches;
        let read = |ordinal: u64| {
            let entry = logs.read(*batches.get(usize::try_from(ordinal).ok()?)?).ok()?;
            match LogEntry::decode(entry.kind, &entry.bytes) {
                Ok((_, LogEntry::Batch(batch))) => Some(batch.bytes),
                _ => None,
            }
        };
        match self.restored.document_heads(read) {
            Ok(heads) => {
                report.documents += heads.len() as u64;
                for (day, document) in self.restored.days() {
                    if heads.get(&day) != Some(&document.implied_heads()) {
                        report.problem(format!(
                            "store {store}, day {day}: the Automerge document has other heads"
                        ));
                    }
                }
            }
            Err(error) => report.problem(format!("store {store}: {error}")),
        }
        let same_records = self.restored.unsealed_count() == 0;
        if same_records && self.restored.books().view_hash() != self.witness.books().view_hash() {
            report.problem(format!("store {store}: the records admitted anew make other books"));
        }
        let books = self.restored.books();
        for (currency, sum) in sum_by_currency(&books.balances()) {
            if sum != 0 {
                report.problem(format!("store {store}: the trial balance of {currency} is {sum}, not 0"));
            }
        }
        if self.restored.writer() == hub {
            self.check_journal(store, report);
        }
    }

    /// The journal in the log: numbered, chained, balanced, and its sum equal to what the records require. Records
    /// that arrived just before the node stopped may not be in it yet; the next start appends them.
    fn check_journal(&mut self, store: &StoreId, report: &mut Report) {
        let (mut number, mut prev) = (0, [0; 32]);
        let mut sums: BTreeMap<(RecordId, Account, Currency), i128> = BTreeMap::new();
        for entry in &self.journal {
            number += 1;
            if entry.number != number || entry.prev != prev || entry.hash != entry.expected_hash() {
                return report
                    .problem(format!("store {store}: journal entry {} breaks the chain", entry.number));
            }
            prev = entry.hash;
            let mut balance: BTreeMap<Currency, i128> = BTreeMap::new();
            for posting in &entry.postings {
                *balance.entry(posting.currency).or_default() += i128::from(posting.amount_minor);
                let key = (entry.record, posting.account.clone(), posting.currency);
                *sums.entry(key).or_default() += i128::from(posting.amount_minor);
            }
            if balance.values().any(|sum| *sum != 0) {
                report.problem(format!("store {store}: journal entry {number} does not balance"));
            }
        }
        for entry in &self.appended {
            for posting in &entry.postings {
                let key = (entry.record, posting.account.clone(), posting.currency);
                *sums.entry(key).or_default() += i128::from(posting.amount_minor);
            }
        }
        let books = self.restored.books();
        let mut total: BTreeMap<(Account, Currency), i128> = BTreeMap::new();
        for ((_, account, currency), sum) in sums {
            *total.entry((account, currency)).or_default() += sum;
        }
        total.retain(|_, sum| *sum != 0);
        let required: BTreeMap<_, _> = books.balances().into_iter().filter(|(_, sum)| *sum != 0).collect();
        if total != required {
            report.problem(format!("store {store}: the journal does not add up to what the records require"));
        }
    }
}

fn sum_by_currency(balances: &BTreeMap<(Account, Currency), i128>) -> BTreeMap<Currency, i128> {
    let mut sums = BTreeMap::new();
    for ((_, currency), sum) in balances {
        *sums.entry(*currency).or_default() += sum;
    }
    sums
}

fn hub_log() -> LogId {
    LogId { terminal: TerminalId::hub(), incarnation: 1 }
}

/// A name that no enrolment of the directory's own stands under is not needed: the witness writes nothing.
fn witness_name() -> TerminalId {
    "verify".parse().unwrap_or_else(|_| TerminalId::hub())
}

/// The log that a directory's node writes.
pub(crate) fn own_log(dir: &Path, is_hub: bool) -> LogId {
    let enrolled = Enrolment::load(dir).ok().flatten().filter(|_| !is_hub);
    let log = enrolled.and_then(|enrolment| {
        let incarnation = u32::try_from(enrolment.incarnation).ok()?;
        Some(LogId { terminal: enrolment.terminal.parse().ok()?, incarnation })
    });
    log.unwrap_or_else(hub_log)
}
