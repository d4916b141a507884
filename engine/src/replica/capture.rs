//! Capturing: a transaction becomes a record, and records become sealed batches. Capture is durable before it is
//! acknowledged, and the same basket or receipt twice makes one record.

use super::unsealed::Run;
use super::{Head, Output, Outputs, Replica, SyncEvent};
use crate::batch::{BATCH_RECORDS_LIMIT, Batch, BatchEntry, Sealed, TRANSACTION_BYTES_LIMIT};
use crate::codec;
use crate::entry::{Captured, Entry};
use crate::ids::{LogId, RecordId, WriterId};
use crate::record::{Place, Record, effective_ms};
use crate::time::{Day, Instant};
use crate::transaction::{Body, CashMovement, Draft, HubRecord, InputError, Kind, Reverses, Transaction};

/// Times of a record beside its transaction in a batch: never more.
const ENTRY_BYTES: usize = 32;

/// Nothing was captured for so long: the till rests, ms.
const REST_MS: i64 = 1_000;

/// Furthest that a stated time may be ahead of the till's clock, ms.
const AHEAD_LIMIT_MS: i64 = 2 * 86_400_000;
/// A clock before 2020 was never set.
const CLOCK_SET_FROM_MS: i64 = 1_577_836_800_000;

/// A transaction to record.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Returned with the answer.
    pub token: u64,
    /// What the POS handed over.
    pub draft: Draft,
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Identity of the record.
    pub id: RecordId,
    /// Its receipt number.
    pub receipt: String,
    /// Its number in the log.
    pub seq: u64,
    /// Its business day.
    pub business_day: Day,
    /// It had been recorded before: this is the first answer again.
    pub repeated: bool,
}

/// Why a transaction was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// A field does not fit.
    #[error(transparent)]
    Invalid(#[from] InputError),
    /// The receipt number or idempotency key was used for something else.
    #[error(
        "{what} {value:?} was already used for record {id} with other content; give this transaction its own"
    )]
    Conflict {
        /// `receipt` or `idempotency_key`.
        what: &'static str,
        /// The value.
        value: String,
        /// The earlier record.
        id: RecordId,
    },
}

impl Replica {
    /// Records transactions that arrived together. Sealed at once when a peer is there, queued otherwise.
    pub(super) fn capture(&mut self, now: Instant, captures: Vec<Capture>, outputs: &mut Outputs) {
        self.captured_ms = now.ms;
        let mut answers = Vec::with_capacity(captures.len());
        for Capture { token, draft } in captures {
            let result = self.record_draft(now, draft);
            answers.push(Output::Captured { token, result });
        }
        self.persist_or_seal(now, outputs);
        for answer in answers {
            match &answer {
                Output::Captured { result: Err(_), .. } => outputs.push(answer),
                _ => self.when_durable(answer, outputs),
            }
        }
    }

    /// Records a statement of the hub in its own log.
    pub(super) fn state(
        &mut self,
        now: Instant,
        token: u64,
        record: HubRecord,
        receipt: String,
        outputs: &mut Outputs,
    ) {
        assert!(self.is_hub(), "only the hub states");
        let transaction = Transaction {
            receipt,
            operator: None,
            idempotency_key: None,
            offline: false,
            body: Body::Hub(record),
        };
        if let Err(error) = self.check_statement(&transaction) {
            outputs.push(Output::Captured { token, result: Err(error) });
            return;
        }
        let result = self.append(now, now.day(), transaction);
        self.persist_or_seal(now, outputs);
        self.when_durable(Output::Captured { token, result: Ok(result) }, outputs);
    }

    fn check_statement(&self, transaction: &Transaction) -> Result<(), CaptureError> {
        transaction.validate_statement()?;
        let size = codec::encode(transaction).len();
        if size > TRANSACTION_BYTES_LIMIT {
            let problem = format!("takes {size} bytes recorded; the limit is {TRANSACTION_BYTES_LIMIT}");
            return Err(InputError::at("input", problem).into());
        }
        Ok(())
    }

    fn record_draft(&mut self, now: Instant, draft: Draft) -> Result<Receipt, CaptureError> {
        self.check_origin(&draft)?;
        let at = draft.at.unwrap_or(now);
        let day = draft.business_day.unwrap_or_else(|| at.day());
        check_ahead(now, at, day)?;
        let transaction = self.complete(draft);
        if let Some(earlier) = self.repeated(&transaction)? {
            return Ok(earlier);
        }
        transaction.validate_capture(self.policy(day))?;
        let size = codec::encode(&transaction).len();
        if size > TRANSACTION_BYTES_LIMIT {
            let problem = format!(
                "takes {size} bytes recorded; the limit is {TRANSACTION_BYTES_LIMIT}: split the basket"
            );
            return Err(InputError::at("input", problem).into());
        }
        Ok(self.append(at, day, transaction))
    }

    fn check_origin(&self, draft: &Draft) -> Result<(), InputError> {
        let (store, terminal) = (&self.identity.store, &self.identity.log.terminal);
        if draft.store.as_ref().is_some_and(|given| given != store) {
            return Err(InputError::at("store", format!("is another store's; this till belongs to {store}")));
        }
        if draft.terminal.as_ref().is_some_and(|given| given != terminal) {
            return Err(InputError::at("terminal", format!("is another till's; this till is {terminal}")));
        }
        Ok(())
    }

    /// Fills in what the POS left to the till: number, the full name of what is referred to, the day's totals.
    fn complete(&mut self, draft: Draft) -> Transaction {
        let Draft { mut transaction, reverses_stated, .. } = draft;
        if transaction.receipt.is_empty() {
            let number = self.next_seq();
            transaction.receipt = format!("{}-{number:06}", self.identity.log);
            transaction.receipt = transaction.receipt.replace('/', "-");
        }
        let books = &self.books;
        if let Body::Refund { original: Some(reference), .. } | Body::Void { original: Some(reference), .. } =
            &mut transaction.body
            && let Some(known) = books.resolve(reference).and_then(|id| books.record(&id).cloned())
        {
            reference.id = Some(known.id);
            reference.store = Some(known.store.clone());
            reference.terminal = Some(known.log.terminal.clone());
            reference.receipt = Some(known.transaction.receipt.clone());
            reference.seq = Some(known.seq);
            if let Body::Void { reverses, .. } = &mut transaction.body
                && !reverses_stated
            {
                *reverses =
                    if known.transaction.kind() == Kind::Refund { Reverses::Refund } else { Reverses::Sale };
            }
        }
        if let Body::DayClose(close) = &mut transaction.body {
            let counted = std::mem::take(&mut close.totals);
            *close = self.books.z_report(&self.identity.log).unwrap_or_default();
            for totals in &mut close.totals {
                if let Some(stated) = counted.iter().find(|stated| stated.currency == totals.currency) {
                    totals.counted_cash_minor = stated.counted_cash_minor;
                }
            }
        }
        transaction
    }

    /// The first answer again, if this basket or receipt was recorded before.
    fn repeated(&self, transaction: &Transaction) -> Result<Option<Receipt>, CaptureError> {
        let log = &self.identity.log;
        let key = transaction.idempotency_key.as_ref();
        let by_key = key.and_then(|key| Some((key, self.books.with_key(log, key)?)));
        let (what, value, earlier) = match by_key {
            Some((key, earlier)) => ("idempotency_key", key, earlier),
            None => match self.books.with_receipt(log, &transaction.receipt) {
                Some(earlier) => ("receipt", &transaction.receipt, earlier),
                None => return Ok(None),
            },
        };
        if !same_business(transaction, &earlier.transaction) {
            return Err(CaptureError::Conflict { what, value: value.clone(), id: earlier.id });
        }
        Ok(Some(Receipt {
            id: earlier.id,
            receipt: earlier.transaction.receipt.clone(),
            seq: earlier.seq,
            business_day: earlier.business_day,
            repeated: true,
        }))
    }

    /// Number of the next own record.
    fn next_seq(&self) -> u64 {
        self.own_head().map_or(1, |head| head.seq + 1)
    }

    /// Head of the own log, unsealed records included.
    pub(super) fn own_head(&self) -> Option<Head> {
        self.unsealed.head().or_else(|| self.heads.get(&self.writer).copied())
    }

    /// Puts a transaction at the end of the own log.
    fn append(&mut self, at: Instant, day: Day, transaction: Transaction) -> Receipt {
        let before = self.own_head();
        let effective = effective_ms(at, before.map(|head| head.effective_ms), self.horizon_ms);
        let later = u64::try_from(effective - at.ms).expect("effective time is never before the clock");
        let entry = BatchEntry { at, effective_later_ms: later, transaction };
        let captured = Captured { seq: before.map_or(1, |head| head.seq + 1), day, entry };
        let (receipt, seq) = (captured.entry.transaction.receipt.clone(), captured.seq);
        let id = self.enqueue(captured, before.map(|head| head.id), false);
        Receipt { id, receipt, seq, business_day: day, repeated: false }
    }

    /// Adds an own record to the queue and to the books.
    pub(super) fn enqueue(
        &mut self,
        captured: Captured,
        prev: Option<RecordId>,
        persisted: bool,
    ) -> RecordId {
        let place = Place {
            store: self.identity.store.clone(),
            writer: self.writer,
            log: self.identity.log.clone(),
            seq: captured.seq,
            prev,
            business_day: captured.day,
            at: captured.entry.at,
            effective_ms: captured.entry.at.ms
                + i64::try_from(captured.entry.effective_later_ms).unwrap_or(0),
        };
        let (record, bytes) = Record::measured(place, captured.entry.transaction);
        let head = Head { seq: record.seq, id: record.id, effective_ms: record.effective_ms };
        let seen: Vec<(LogId, u64)> = self
            .heads
            .iter()
            .filter(|(writer, _)| **writer != self.writer)
            .filter_map(|(writer, head)| Some((self.registry.log_of(writer)?.clone(), head.seq)))
            .collect();
        self.take_record(record, &seen);
        let slot = self.books.slot_of(&head.id).expect("it was filed a line above");
        self.unsealed.push(head, (slot, captured.day, bytes + ENTRY_BYTES), persisted);
        head.id
    }

    /// Either seals what waits (a peer is there and the policy wants it at once), or makes it durable as it is.
    pub(super) fn persist_or_seal(&mut self, now: Instant, outputs: &mut Outputs) {
        let online = !self.peers.is_empty();
        let (interval_ms, threshold) = {
            let policy = self.policy(now.day());
            (policy.sync_interval_ms, usize::try_from(policy.batch_threshold).unwrap_or(usize::MAX))
        };
        if online && (interval_ms == 0 || self.unsealed.len() >= threshold) || self.is_hub() {
            self.seal_all(now, outputs);
            return;
        }
        if online && !self.unsealed.is_empty() {
            let due = now.ms.saturating_add(i64::try_from(interval_ms).unwrap_or(i64::MAX));
            self.flush_at_ms = Some(self.flush_at_ms.map_or(due, |at| at.min(due)));
        }
        for captured in self.take_fresh() {
            self.persist(Entry::Captured(Box::new(captured)), None, outputs);
        }
    }

    /// Seals everything that waits, in batches of one day each. Done before anything foreign is merged, so that
    /// `seen` says exactly what the till knew when it acted.
    pub(super) fn seal_all(&mut self, now: Instant, outputs: &mut Outputs) {
        self.flush_at_ms = None;
        let (mut batches, mut records) = (0, 0);
        while let Some(sealed) = self.seal_next(now, outputs) {
            (batches, records) = (batches + 1, records + sealed);
        }
        if batches > 0 {
            outputs.push(Output::Event(SyncEvent::Sealed { batches, records }));
        }
    }

    /// When the next batch is to be sealed although nobody is there to take it, because enough for one waits: while the
    /// till rests, so that it has little left to do once it is connected.
    pub(super) fn seal_at_rest_ms(&self) -> Option<i64> {
        let fills_a_batch = self.unsealed.len() >= BATCH_RECORDS_LIMIT;
        fills_a_batch.then(|| self.captured_ms.saturating_add(REST_MS))
    }

    /// Seals the next batch; the one after it comes with the next wake-up.
    pub(super) fn seal_at_rest(&mut self, now: Instant, outputs: &mut Outputs) {
        if self.seal_at_rest_ms().is_some_and(|at| at <= now.ms)
            && let Some(records) = self.seal_next(now, outputs)
        {
            outputs.push(Output::Event(SyncEvent::Sealed { batches: 1, records }));
        }
    }

    /// Seals what goes into the next batch. Gives how many records that are.
    fn seal_next(&mut self, now: Instant, outputs: &mut Outputs) -> Option<usize> {
        let Run { day, first_seq, prev, entries, head } = self.take_run()?;
        self.heads.insert(self.writer, head);
        let records = entries.len();
        self.seal(now, day, first_seq, prev, entries, outputs);
        Some(records)
    }

    fn seal(
        &mut self,
        now: Instant,
        day: Day,
        first_seq: u64,
        prev: Option<RecordId>,
        entries: Vec<BatchEntry>,
        outputs: &mut Outputs,
    ) {
        let (writer, session) = (self.writer, self.session);
        let batch = Batch {
            store: self.identity.store.clone(),
            writer,
            log: self.identity.log.clone(),
            nonce: self.identity.nonce,
            day,
            index: self.document(day).count(&session),
            first_seq,
            prev,
            seen: self.tell_seen(),
            entries,
        };
        let head = self.heads[&self.writer];
        let sealed = Sealed::seal(batch, &self.identity.key);
        let prepared = self.document(day).prepare(writer, session, &sealed.bytes);
        self.admit_prepared(now, &sealed, prepared, head, None, outputs);
    }

    /// What changed in what this node holds since its last batch; everything, in a session's first batch.
    fn tell_seen(&mut self) -> Vec<(WriterId, u64)> {
        let news: Vec<(WriterId, u64)> = self
            .heads
            .iter()
            .filter(|(writer, head)| {
                **writer != self.writer && self.seen_told.get(*writer) != Some(&head.seq)
            })
            .map(|(writer, head)| (*writer, head.seq))
            .collect();
        self.seen_told.extend(news.iter().copied());
        news
    }
}

/// A time far ahead would put everything that anybody records afterwards behind it: surely a mistake, and the cashier
/// is there to correct it. A till whose own clock is not set cannot tell.
fn check_ahead(now: Instant, at: Instant, day: Day) -> Result<(), InputError> {
    if now.ms < CLOCK_SET_FROM_MS {
        return Ok(());
    }
    if at.ms > now.ms.saturating_add(AHEAD_LIMIT_MS) {
        return Err(InputError::at(
            "at",
            format!("is more than two days ahead of this till's clock ({now})"),
        ));
    }
    if day > now.day().plus(3) {
        return Err(InputError::at("business_day", format!("is days ahead of this till's clock ({now})")));
    }
    Ok(())
}

/// Whether two inputs state the same business: what the till filled in (number, full references, totals) may differ,
/// because it may know more now.
fn same_business(one: &Transaction, other: &Transaction) -> bool {
    one.kind() == other.kind() && one.basket() == other.basket() && cash_of(one) == cash_of(other)
}

fn cash_of(transaction: &Transaction) -> Option<(CashMovement, i64)> {
    match &transaction.body {
        Body::CashMove { movement, amount_minor, .. } => Some((*movement, *amount_minor)),
        _ => None,
    }
}
