//! The Automerge document of a store's business day, and the one file that names automerge.
//!
//! `{ format, store, day, logs: { <writer>: { <session>: [ page, page, … ] } } }`; a page is a list of at most 128
//! sealed batches, a batch one `Bytes` value. Every change is **built here** from checked facts, the till's own
//! like a peer's, so no foreign byte reaches Automerge's parser. A session is linear and its lists are its own, so
//! operation ids, dependencies and pages follow from the batch's position alone; only the hash is compared.
//!
//! The maps that several sessions need (`logs`, a writer's map) are made by changes that every replica derives
//! bit for bit, because two replicas making "the same" map would make two maps, one of them hidden.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::legacy::{ElementId, Key, ObjectId, Op, OpId, OpType, SortedVec};
use automerge::{
    ActorId, Automerge, Change, ChangeHash, ExpandedChange, ObjType, ReadDoc, ScalarValue, Value,
};

use crate::ids::{SessionId, StoreId, WriterId};
use crate::time::Day;

/// Most batches in a page: applying a change walks every element of the list it touches.
pub const PAGE_BATCHES: u32 = 128;
/// Operations of the genesis change: `format`, `store`, `day`, `logs`.
const GENESIS_OPS: u64 = 4;
/// Counter of the operation that makes a writer's map.
const WRITER_OP: u64 = GENESIS_OPS + 1;
/// Counter of a session's first operation in a document.
const SESSION_OP: u64 = WRITER_OP + 1;

/// Hash of an Automerge change.
pub type ChangeId = [u8; 32];

/// One store's business day as an Automerge document. Changes are applied in bulk when the document is read:
/// nothing that is acknowledged waits for it.
pub struct Document {
    store: StoreId,
    day: Day,
    sessions: BTreeMap<SessionId, Chain>,
    automerge: Option<Automerge>,
    pending: Vec<Change>,
    pending_bytes: usize,
    /// Some of its batches are not in memory: it is read from the log.
    released: bool,
}

/// A session's changes in one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    writer: WriterId,
    count: u32,
    last: ChangeId,
}

/// A change that was built but not yet admitted.
pub struct Prepared {
    session: SessionId,
    chain: Chain,
    changes: Vec<Change>,
    /// Bytes of the batch.
    bytes: usize,
}

impl Prepared {
    /// The hash that every replica must arrive at.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.chain.last
    }
}

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Automerge refused or failed; the document is rebuilt from its batches.
    #[error("the document of {day} failed in Automerge ({reason}); it is rebuilt from its batches")]
    Failed {
        /// The business day.
        day: Day,
        /// What Automerge said.
        reason: String,
    },
    /// A batch cannot be read.
    #[error("the document of {day} cannot be read: a batch of it is not where the log should have it")]
    Unread {
        /// The business day.
        day: Day,
    },
    /// The heads differ from those that the batches imply.
    #[error("the document of {day} has other heads than its batches imply")]
    Heads {
        /// The business day.
        day: Day,
    },
}

impl Document {
    /// The empty document of a store's day.
    #[must_use]
    pub fn new(store: StoreId, day: Day) -> Self {
        let sessions = BTreeMap::new();
        Self { store, day, sessions, automerge: None, pending: Vec::new(), pending_bytes: 0, released: false }
    }

    /// A document whose batches are known by position only: it is applied from its batches when it is read
    /// ([`Document::apply_batches`]).
    #[must_use]
    pub fn resumed(
        store: StoreId,
        day: Day,
        chains: impl IntoIterator<Item = (SessionId, WriterId, u32, ChangeId)>,
    ) -> Self {
        let sessions = chains
            .into_iter()
            .map(|(session, writer, count, last)| (session, Chain { writer, count, last }))
            .collect();
        Self { sessions, released: true, ..Self::new(store, day) }
    }

    /// Number of batches of a session.
    #[must_use]
    pub fn count(&self, session: &SessionId) -> u32 {
        self.sessions.get(session).map_or(0, |chain| chain.count)
    }

    /// Builds the change that appends a sealed batch to a session's list. Changes nothing.
    #[must_use]
    pub fn prepare(&self, writer: WriterId, session: SessionId, sealed: &[u8]) -> Prepared {
        let (index, last) =
            self.sessions.get(&session).map_or((0, None), |chain| (chain.count, Some(chain.last)));
        let mut changes = Vec::new();
        let dependency = last.unwrap_or_else(|| {
            if self.sessions.values().all(|chain| chain.writer != writer) {
                if self.sessions.is_empty() {
                    changes.push(self.genesis());
                }
                changes.push(self.writer_map(writer));
            }
            self.writer_map(writer).hash().0
        });
        let change = self.append(session, writer, index, dependency, sealed);
        let last = change.hash().0;
        changes.push(change);
        Prepared { session, chain: Chain { writer, count: index + 1, last }, changes, bytes: sealed.len() }
    }

    /// Takes a prepared change in.
    pub fn admit(&mut self, prepared: Prepared) {
        self.sessions.insert(prepared.session, prepared.chain);
        if !self.released {
            self.pending_bytes += prepared.bytes;
            self.pending.extend(prepared.changes);
        }
    }

    /// Takes a prepared change in by its place alone, and lets the document go.
    pub fn admit_unread(&mut self, prepared: &Prepared) {
        self.sessions.insert(prepared.session, prepared.chain);
        self.let_go();
    }

    /// Lets the document go, once what Automerge makes of it was held against what its batches imply.
    ///
    /// # Errors
    /// Automerge failed or has other heads; the document is let go all the same.
    pub fn release(&mut self) -> Result<(), DocumentError> {
        if self.released {
            return Ok(());
        }
        let applied = self.apply();
        let agrees = self.heads().is_none_or(|heads| heads == self.implied_heads());
        self.let_go();
        applied.and(if agrees { Ok(()) } else { Err(DocumentError::Heads { day: self.day }) })
    }

    fn let_go(&mut self) {
        (self.automerge, self.pending, self.pending_bytes, self.released) = (None, Vec::new(), 0, true);
    }

    /// Whether it has to be read from the log.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// Sessions with their writer, number of batches and last change, in order.
    pub fn chains(&self) -> impl Iterator<Item = (SessionId, WriterId, u32, ChangeId)> + '_ {
        self.sessions.iter().map(|(session, chain)| (*session, chain.writer, chain.count, chain.last))
    }

    /// What this replica holds of the day, in 16 bytes: equal digests, equal documents.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync day digest v1");
        for (session, chain) in &self.sessions {
            hasher.update(&session.0);
            hasher.update(&chain.count.to_le_bytes());
            hasher.update(&chain.last);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        digest
    }

    /// The heads that the batches imply: each session's last change.
    #[must_use]
    pub fn implied_heads(&self) -> Vec<ChangeId> {
        let mut heads: Vec<ChangeId> = self.sessions.values().map(|chain| chain.last).collect();
        heads.sort_unstable();
        heads
    }

    /// Number of changes that Automerge has not been given yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of the batches in them.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Applies what waits, in bulk. A failure or panic inside Automerge costs this document a rebuild, never more.
    ///
    /// # Errors
    /// Automerge refused or failed.
    pub fn apply(&mut self) -> Result<(), DocumentError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut automerge = self.automerge.take().unwrap_or_default();
        let changes = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            automerge.apply_changes(changes).map_err(|error| error.to_string())?;
            Ok::<_, String>(automerge)
        }));
        match applied {
            Ok(Ok(automerge)) => {
                self.automerge = Some(automerge);
                Ok(())
            }
            Ok(Err(reason)) => Err(self.failed(reason)),
            Err(_) => Err(self.failed("panic".to_owned())),
        }
    }

    /// Rebuilds the document from its sealed batches, in the order they were admitted, and checks that the heads
    /// are those that the positions imply.
    ///
    /// # Errors
    /// Automerge failed, or the batches are not the ones this document was made of.
    pub fn apply_batches<'a>(
        &mut self,
        batches: impl IntoIterator<Item = (WriterId, SessionId, &'a [u8])>,
    ) -> Result<(), DocumentError> {
        *self = self.applied(batches)?;
        Ok(())
    }

    /// Heads of the Automerge document that its batches make, without keeping it.
    ///
    /// # Errors
    /// As [`Document::apply_batches`].
    pub fn heads_from<'a>(
        &self,
        batches: impl IntoIterator<Item = (WriterId, SessionId, &'a [u8])>,
    ) -> Result<Vec<ChangeId>, DocumentError> {
        Ok(self.applied(batches)?.heads().unwrap_or_default())
    }

    fn applied<'a>(
        &self,
        batches: impl IntoIterator<Item = (WriterId, SessionId, &'a [u8])>,
    ) -> Result<Self, DocumentError> {
        let mut fresh = Self::new(self.store.clone(), self.day);
        for (writer, session, sealed) in batches {
            let prepared = fresh.prepare(writer, session, sealed);
            fresh.admit(prepared);
        }
        if fresh.sessions != self.sessions {
            return Err(DocumentError::Heads { day: self.day });
        }
        fresh.apply()?;
        Ok(fresh)
    }

    /// Heads of the Automerge document itself, sorted; `None` if it is not in memory.
    #[must_use]
    pub fn heads(&self) -> Option<Vec<ChangeId>> {
        let mut heads: Vec<ChangeId> =
            self.automerge.as_ref()?.get_heads().iter().map(|hash| hash.0).collect();
        heads.sort_unstable();
        Some(heads)
    }

    /// The document in Automerge's compact form; `None` if it is not in memory.
    #[must_use]
    pub fn save(&self) -> Option<Vec<u8>> {
        self.automerge.as_ref().map(Automerge::save)
    }

    /// Reads a session's batches back from the Automerge document, page by page.
    #[must_use]
    pub fn batches(&self, writer: &WriterId, session: &SessionId) -> Vec<Vec<u8>> {
        let Some(automerge) = &self.automerge else { return Vec::new() };
        let mut object = automerge::ROOT;
        for key in ["logs".to_owned(), writer.to_string(), session.to_string()] {
            match automerge.get(&object, key) {
                Ok(Some((Value::Object(_), id))) => object = id,
                _ => return Vec::new(),
            }
        }
        let mut batches = Vec::new();
        for page in automerge.list_range(&object, ..) {
            for item in automerge.list_range(page.id(), ..) {
                if let Some(bytes) = item.value.to_owned().into_value().as_bytes() {
                    batches.push(bytes.to_vec());
                }
            }
        }
        batches
    }

    fn failed(&mut self, reason: String) -> DocumentError {
        self.let_go();
        DocumentError::Failed { day: self.day, reason }
    }

    fn derived_actor(&self, purpose: &str, subject: &[u8]) -> ActorId {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync document actor v1");
        for part in [purpose.as_bytes(), self.store.as_str().as_bytes(), &self.day.0.to_le_bytes(), subject] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        ActorId::from(&hasher.finalize().as_bytes()[..16])
    }

    /// The first change, the same on every replica.
    fn genesis(&self) -> Change {
        let put = |key: &str, value: ScalarValue| map_op(ObjectId::Root, key, OpType::Put(value));
        let operations = vec![
            map_op(ObjectId::Root, "logs", OpType::Make(ObjType::Map)),
            put("day", ScalarValue::Str(self.day.to_string().into())),
            put("format", ScalarValue::Uint(1)),
            put("store", ScalarValue::Str(self.store.as_str().into())),
        ];
        build(self.derived_actor("genesis", &[]), 1, 1, Vec::new(), operations)
    }

    /// The change that makes a writer's map, the same on every replica.
    fn writer_map(&self, writer: WriterId) -> Change {
        let logs = OpId::new(1, &self.derived_actor("genesis", &[]));
        let operations = vec![map_op(ObjectId::Id(logs), &writer.to_string(), OpType::Make(ObjType::Map))];
        let actor = self.derived_actor("writer", &writer.0);
        build(actor, 1, WRITER_OP, vec![self.genesis().hash()], operations)
    }

    fn append(
        &self,
        session: SessionId,
        writer: WriterId,
        index: u32,
        dependency: ChangeId,
        sealed: &[u8],
    ) -> Change {
        let actor = ActorId::from(&session.0[..]);
        let position = Position::of(index);
        let own = |counter: u64| OpId::new(counter, &actor);
        let after =
            |previous: Option<u64>| previous.map_or(ElementId::Head, |counter| ElementId::Id(own(counter)));
        let mut operations = Vec::new();
        if index == 0 {
            let map = OpId::new(WRITER_OP, &self.derived_actor("writer", &writer.0));
            operations.push(map_op(ObjectId::Id(map), &session.to_string(), OpType::Make(ObjType::List)));
        }
        if position.opens_page {
            let pages = ObjectId::Id(own(SESSION_OP));
            operations.push(insert_op(pages, after(position.page_before), OpType::Make(ObjType::List)));
        }
        let value = OpType::Put(ScalarValue::Bytes(sealed.to_vec()));
        operations.push(insert_op(ObjectId::Id(own(position.page)), after(position.batch_before), value));
        build(actor, u64::from(index) + 1, position.start_op, vec![ChangeHash(dependency)], operations)
    }
}

/// Where the operations of a session's batch number `index` stand: all of it follows from the index.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    start_op: u64,
    opens_page: bool,
    /// Operation that made the page.
    page: u64,
    /// Operation that made the page before it.
    page_before: Option<u64>,
    /// Operation of the batch before it in the page.
    batch_before: Option<u64>,
}

impl Position {
    fn of(index: u32) -> Self {
        let opens_page = index.is_multiple_of(PAGE_BATCHES);
        let first_in_page = index - index % PAGE_BATCHES;
        Self {
            start_op: start_op(index),
            opens_page,
            page: page_op(first_in_page),
            page_before: (opens_page && index > 0).then(|| page_op(index - PAGE_BATCHES)),
            batch_before: (!opens_page).then(|| batch_op(index - 1)),
        }
    }
}

/// First operation of a batch: before it stand the session's list (one operation), a batch each, and the pages.
fn start_op(index: u32) -> u64 {
    SESSION_OP + u64::from(index > 0) + u64::from(index) + u64::from(index.div_ceil(PAGE_BATCHES))
}

/// The operation that makes the page which batch `first` opens.
fn page_op(first: u32) -> u64 {
    start_op(first) + u64::from(first == 0)
}

/// The operation that holds the batch.
fn batch_op(index: u32) -> u64 {
    start_op(index) + u64::from(index == 0) + u64::from(index.is_multiple_of(PAGE_BATCHES))
}

fn map_op(obj: ObjectId, key: &str, action: OpType) -> Op {
    Op { action, obj, key: Key::Map(key.into()), pred: SortedVec::new(), insert: false }
}

fn insert_op(obj: ObjectId, after: ElementId, action: OpType) -> Op {
    Op { action, obj, key: Key::Seq(after), pred: SortedVec::new(), insert: true }
}

fn build(actor_id: ActorId, seq: u64, start_op: u64, deps: Vec<ChangeHash>, operations: Vec<Op>) -> Change {
    Change::from(ExpandedChange {
        operations,
        actor_id,
        hash: None,
        seq,
        start_op: NonZeroU64::new(start_op).expect("operations are counted from 1"),
        time: 0,
        message: None,
        deps,
        extra_bytes: Vec::new(),
        author: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: WriterId = WriterId([7; 32]);

    fn document() -> Document {
        Document::new("store-1".parse().unwrap(), "2026-11-23".parse().unwrap())
    }

    fn append(document: &mut Document, writer: WriterId, session: u8, batch: &[u8]) -> ChangeId {
        let prepared = document.prepare(writer, SessionId([session; 16]), batch);
        let id = prepared.id();
        document.admit(prepared);
        id
    }

    #[test]
    fn automerge_agrees_with_the_positions_over_several_pages() {
        let mut document = document();
        let batches: Vec<Vec<u8>> = (0..400u32).map(|n| n.to_le_bytes().to_vec()).collect();
        for (at, batch) in batches.iter().enumerate() {
            append(&mut document, WRITER, 1, batch);
            if at % 37 == 0 {
                document.apply().unwrap();
            }
        }
        document.apply().unwrap();
        assert_eq!(document.heads().unwrap(), document.implied_heads());
        assert_eq!(document.batches(&WRITER, &SessionId([1; 16])), batches);
        let loaded = Automerge::load(&document.save().unwrap()).unwrap();
        assert_eq!(loaded.get_heads(), document.automerge.as_ref().unwrap().get_heads());
    }

    #[test]
    fn two_replicas_arrive_at_the_same_document_in_any_order_of_sessions() {
        let (mut one, mut two) = (document(), document());
        let other = WriterId([9; 32]);
        let steps = [(WRITER, 1), (WRITER, 2), (other, 3), (WRITER, 1), (other, 3)];
        for (writer, session) in steps {
            append(&mut one, writer, session, &[session]);
        }
        for at in [2, 4, 1, 0, 3] {
            append(&mut two, steps[at].0, steps[at].1, &[steps[at].1]);
        }
        one.apply().unwrap();
        two.apply().unwrap();
        assert_eq!(one.digest(), two.digest());
        assert_eq!(one.heads(), two.heads());
        assert_eq!(one.heads().unwrap(), one.implied_heads());
        assert_eq!(one.batches(&WRITER, &SessionId([1; 16])).len(), 2);
        assert_eq!(two.batches(&WRITER, &SessionId([2; 16])).len(), 1);
    }

    #[test]
    fn a_resumed_document_refuses_batches_that_it_was_not_made_of() {
        let mut document = document();
        append(&mut document, WRITER, 1, b"one");
        let chains: Vec<_> = document.chains().collect();
        let mut resumed =
            Document::resumed("store-1".parse().unwrap(), "2026-11-23".parse().unwrap(), chains);
        let session = SessionId([1; 16]);
        assert!(resumed.apply_batches([(WRITER, session, &b"two"[..])]).is_err());
        resumed.apply_batches([(WRITER, session, &b"one"[..])]).unwrap();
        assert_eq!(resumed.heads().unwrap(), document.implied_heads());
    }

    #[test]
    fn the_bytes_of_a_change_are_frozen() {
        let mut document = document();
        let id = append(&mut document, WRITER, 1, b"sealed batch");
        assert_eq!(
            data_encoding::HEXLOWER.encode(&id),
            "9fced09edef63db461183dd2882d86a4a6a922d7e932bd93c7335f35f4b3a188"
        );
    }
}
