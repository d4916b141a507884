//! Admission: what a peer brings is checked against the logs, then becomes part of them. What does not fit is
//! refused with its reason and never stops what stands beside it.

use std::sync::Arc;

use super::{BatchMeta, Head, Held, Outputs, Replica, SessionState};
use crate::batch::{BatchError, Sealed, session_id};
use crate::document::{Document, Prepared};
use crate::entry::{AdmittedBatch, Entry};
use crate::ids::{BatchHash, LogId, WriterId};
use crate::record::{Place, Record};
use crate::sync::Announced;
use crate::time::Instant;
use crate::transaction::{Body, InputError};

/// A record may follow what its till had received by this much, wherever that lies.
const EFFECTIVE_SLACK_MS: i64 = 1;

/// Why a batch was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not a sealed batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Another store's.
    #[error("it belongs to store {0}")]
    Store(String),
    /// The writer is not enrolled, or for another log.
    #[error("its writer {0} is not enrolled in this store")]
    UnknownWriter(WriterId),
    /// The log named is not the writer's.
    #[error("its writer is enrolled for log {0}")]
    WrongLog(LogId),
    /// Another batch stands at its place.
    #[error("another batch stands at this place of its session: the session's key is used twice")]
    Overwrite,
    /// Batches before it are missing.
    #[error("{0} batches before it in its session are missing here")]
    Early(u32),
    /// It does not continue its log.
    #[error("record {seq} does not follow what is here: {why}")]
    Chain {
        /// Number of its first record.
        seq: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// It was made knowing records that are missing here.
    #[error("it knew record {seq} of {writer}, which is missing here")]
    Unseen {
        /// Writer of the missing record.
        writer: WriterId,
        /// Its number.
        seq: u64,
    },
    /// A time that the rules do not allow.
    #[error("the effective time of record {0} is not lawful")]
    Time(u64),
    /// A transaction that no node may record.
    #[error("record {seq}: {error}")]
    Schema {
        /// Number of the record.
        seq: u64,
        /// What is wrong with it.
        error: InputError,
    },
    /// The change differs.
    #[error("its Automerge change differs from the one announced")]
    Change,
}

/// What became of a carried batch.
pub(super) enum Admission {
    /// Taken in: how many records.
    Admitted(usize),
    /// Was here already.
    Redelivered,
}

impl Replica {
    /// Checks and takes in one batch from a peer. Gives its hash beside what became of it.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        from: WriterId,
        bytes: Vec<u8>,
        announced: Announced,
        outputs: &mut Outputs,
    ) -> (BatchHash, Result<Admission, Refusal>) {
        let bytes: Arc<[u8]> = bytes.into();
        match Sealed::open(Arc::clone(&bytes)) {
            Ok(sealed) => (sealed.hash, self.admit_sealed(now, from, sealed, announced, outputs)),
            // Nothing in it can be believed: what is remembered as evidence are the bytes as they came.
            Err(error) => (BatchHash(*blake3::hash(&bytes).as_bytes()), Err(error.into())),
        }
    }

    fn admit_sealed(
        &mut self,
        now: Instant,
        from: WriterId,
        mut sealed: Sealed,
        announced: Announced,
        outputs: &mut Outputs,
    ) -> Result<Admission, Refusal> {
        if self.holds(&sealed)? {
            return Ok(Admission::Redelivered);
        }
        let records = self.check(&mut sealed)?;
        self.seal_all(now, outputs);
        let batch = &sealed.batch;
        // A document is made only for what is admitted.
        let prepared = match self.documents.get(&batch.day) {
            Some(document) => document.prepare(batch.writer, batch.session(), &sealed.bytes),
            None => Document::new(batch.store.clone(), batch.day).prepare(
                batch.writer,
                batch.session(),
                &sealed.bytes,
            ),
        };
        if !announced.is(&prepared.id()) {
            return Err(Refusal::Change);
        }
        let head = records.last().map(head_of).expect("a batch is never empty");
        let count = records.len();
        self.admit_prepared(now, &sealed, prepared, head, Some(from), outputs);
        self.take_records(batch, records);
        if batch.writer == self.writer {
            self.leave_session();
        }
        Ok(Admission::Admitted(count))
    }

    /// Whether exactly this batch stands at its place already.
    fn holds(&self, sealed: &Sealed) -> Result<bool, Refusal> {
        let batch = &sealed.batch;
        if batch.store != self.identity.store {
            return Err(Refusal::Store(batch.store.to_string()));
        }
        let Some(ordinals) = self.places.get(&(batch.day, batch.session())) else { return Ok(false) };
        let at = usize::try_from(batch.index).unwrap_or(usize::MAX);
        match ordinals.get(at).and_then(|ordinal| self.batches.get(*ordinal)) {
            Some(meta) if meta.hash == sealed.hash => Ok(true),
            Some(_) => Err(Refusal::Overwrite),
            None => Ok(false),
        }
    }

    /// Checks a batch against the logs and puts its records in their places: its entries are taken out.
    fn check(&mut self, sealed: &mut Sealed) -> Result<Vec<Record>, Refusal> {
        let batch = &sealed.batch;
        let log = self.registry.log_of(&batch.writer).ok_or(Refusal::UnknownWriter(batch.writer))?;
        if *log != batch.log {
            return Err(Refusal::WrongLog(log.clone()));
        }
        let count = self.documents.get(&batch.day).map_or(0, |document| document.count(&batch.session()));
        if batch.index != count {
            return Err(Refusal::Early(batch.index.saturating_sub(count)));
        }
        let before = self.head_before(sealed)?;
        self.check_seen(sealed)?;
        let records = self.place_records(sealed, before)?;
        let by_hub = sealed.batch.writer == self.identity.hub;
        for record in &records {
            let schema = record.transaction.validate_schema();
            schema.map_err(|error| Refusal::Schema { seq: record.seq, error })?;
            if matches!(record.transaction.body, Body::Hub(_)) != by_hub {
                let error = InputError::at("kind", "is not one that this writer may record");
                return Err(Refusal::Schema { seq: record.seq, error });
            }
        }
        Ok(records)
    }

    /// The record that the batch continues: the session's last, or for a new session any record of the log. A
    /// session that continues an older record forks the log; the books hold the branch (CLONED_TERMINAL).
    fn head_before(&mut self, sealed: &Sealed) -> Result<Option<Head>, Refusal> {
        let batch = &sealed.batch;
        let chain = |why| Refusal::Chain { seq: batch.first_seq, why };
        if let Some(session) = self.sessions.get(&batch.session()) {
            let fits = Some(session.head.id) == batch.prev && session.head.seq + 1 == batch.first_seq;
            return if fits { Ok(Some(session.head)) } else { Err(chain("its session continues elsewhere")) };
        }
        let Some(prev) = batch.prev else {
            return if batch.first_seq == 1 { Ok(None) } else { Err(chain("it names no predecessor")) };
        };
        if let Some(head) = self.heads.get(&batch.writer).filter(|head| head.id == prev) {
            return if head.seq + 1 == batch.first_seq {
                Ok(Some(*head))
            } else {
                Err(chain("its number is wrong"))
            };
        }
        self.file(usize::MAX);
        let known = self.books.record(&prev).ok_or_else(|| chain("its predecessor is missing here"))?;
        if known.log != batch.log || known.seq + 1 != batch.first_seq {
            return Err(chain("its predecessor is another record"));
        }
        Ok(Some(head_of(known)))
    }

    fn check_seen(&self, sealed: &Sealed) -> Result<(), Refusal> {
        for (writer, seq) in &sealed.batch.seen {
            if self.heads.get(writer).is_none_or(|head| head.seq < *seq) {
                return Err(Refusal::Unseen { writer: *writer, seq: *seq });
            }
        }
        Ok(())
    }

    fn place_records(&self, sealed: &mut Sealed, before: Option<Head>) -> Result<Vec<Record>, Refusal> {
        let entries = std::mem::take(&mut sealed.batch.entries);
        let batch = &sealed.batch;
        let horizon_ms = self.horizon_ms.max(self.own_head().map(|head| head.effective_ms));
        let mut before = before;
        let mut records = Vec::with_capacity(entries.len());
        for (seq, entry) in (batch.first_seq..).zip(entries) {
            let later = i64::try_from(entry.effective_later_ms).map_err(|_| Refusal::Time(seq))?;
            let effective_ms = entry.at.ms.checked_add(later).ok_or(Refusal::Time(seq))?;
            if !entry.at.is_lawful() || !batch.day.is_lawful() {
                return Err(Refusal::Time(seq));
            }
            let earliest = before.map_or(entry.at.ms, |head: Head| head.effective_ms.max(entry.at.ms));
            // Not bounded by what is known here within the range of clocks: its till may have received the
            // other branch of a log that forked, and a forged clock reaches as far.
            let known = horizon_ms.map_or(earliest, |ms| ms.saturating_add(EFFECTIVE_SLACK_MS).max(earliest));
            let latest = known.max(Instant::LATEST_MS);
            if !(earliest..=latest).contains(&effective_ms) {
                return Err(Refusal::Time(seq));
            }
            let place = Place {
                store: batch.store.clone(),
                writer: batch.writer,
                log: batch.log.clone(),
                seq,
                prev: before.map(|head| head.id),
                business_day: batch.day,
                at: entry.at,
                effective_ms,
            };
            let record = Record::new(place, entry.transaction);
            before = Some(head_of(&record));
            records.push(record);
        }
        Ok(records)
    }

    /// The step that own and foreign batches share: place, log entry, offer to the peers.
    pub(super) fn admit_prepared(
        &mut self,
        now: Instant,
        sealed: &Sealed,
        prepared: Prepared,
        head: Head,
        from: Option<WriterId>,
        outputs: &mut Outputs,
    ) {
        let change = prepared.id();
        let ordinal = self.place_batch(sealed, prepared, head, now.ms);
        let admitted = AdmittedBatch { admitted_ms: now.ms, from, change, bytes: sealed.bytes.to_vec() };
        self.persist(Entry::Batch(admitted), Some(ordinal), outputs);
        if let Some(peer) = from.and_then(|from| self.peers.get_mut(&from)) {
            let batch = &sealed.batch;
            peer.learn(batch.day, batch.session(), batch.index + 1);
        }
        self.waiting.push_back((self.persisted, Held::Offer(ordinal)));
    }

    /// The own log went on elsewhere: a restored backup was further than this, or another device writes with this key.
    /// What comes next continues the longest branch, in a session of its own, so that every node can follow it and no
    /// number is used again. The books hold the fork (CLONED_TERMINAL).
    fn leave_session(&mut self) {
        if !self.sessions.contains_key(&self.session) {
            return;
        }
        let mut hasher = blake3::Hasher::new_derive_key("tillsync next session v1");
        hasher.update(&self.identity.nonce);
        self.identity.nonce.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.session = session_id(&self.writer, &self.identity.nonce);
        self.seen_told.clear();
    }

    /// Puts a batch in its place in document, session and log. Returns its ordinal.
    pub(super) fn place_batch(
        &mut self,
        sealed: &Sealed,
        prepared: Prepared,
        head: Head,
        admitted_ms: i64,
    ) -> u64 {
        let batch = &sealed.batch;
        let session = batch.session();
        if self.restoring.is_some() {
            self.document(batch.day).admit_unread(&prepared);
        } else {
            self.document(batch.day).admit(prepared);
        }
        let ordinal = self.batches.push(BatchMeta {
            day: batch.day,
            session,
            index: batch.index,
            writer: batch.writer,
            first_seq: batch.first_seq,
            last_seq: head.seq,
            size: u32::try_from(sealed.bytes.len()).unwrap_or(u32::MAX),
            hash: sealed.hash,
            admitted_ms,
        });
        self.places.entry((batch.day, session)).or_default().push(ordinal);
        self.sessions.insert(session, SessionState { writer: batch.writer, head });
        let newest = self.heads.entry(batch.writer).or_insert(head);
        if head.seq > newest.seq {
            *newest = head;
        }
        ordinal.into()
    }
}

fn head_of(record: &Record) -> Head {
    Head { seq: record.seq, id: record.id, effective_ms: record.effective_ms }
}
