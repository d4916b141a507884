//! The image of a replica: a start goes on from there with what the log holds since, instead of filing every record again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::unsealed::Unsealed;
use super::waiting::{Reckoned, Rows};
use super::{Head, Replica, SessionState, batches::Batches, links::Links};
use crate::attic::{Attic, Place};
use crate::document::{ChangeId, Document};
use crate::entry::CustodyMark;
use crate::ids::{LogId, SessionId, StoreId, WriterId};
use crate::image::{self, Stale};
use crate::ledger::Books;
use crate::policy::{Policies, Policy};
use crate::registry::Registry;
use crate::shelf::{Pressed, Shelf};
use crate::time::Day;

/// An image, until its bytes are durable. Pieces of the attic that it no longer names stay until then.
#[derive(Debug)]
pub struct Image {
    /// What [`Replica::resume`] reads.
    pub bytes: Vec<u8>,
    attic: Option<Arc<dyn Attic>>,
    freed: Vec<Place>,
}

impl Image {
    /// Its bytes, and the pieces that they name, are durable: what only images before it named is forgotten.
    pub fn is_durable(mut self) {
        self.give_back(true);
    }

    fn give_back(&mut self, forget: bool) {
        if let Some(attic) = &self.attic {
            attic.give_back(std::mem::take(&mut self.freed), forget);
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

/// Whose image it is: only the same replica goes on with it.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Whose {
    store: StoreId,
    log: LogId,
    writer: WriterId,
    hub: WriterId,
    /// What the store starts from.
    base: Policy,
}

/// A document: its day, and each session with its writer, number of batches and last change.
type Chains = (Day, Vec<(SessionId, WriterId, u32, ChangeId)>);

/// What a replica holds between two starts. Written from borrowed parts, in this order.
#[derive(Deserialize)]
struct Held {
    whose: Whose,
    registry: Registry,
    policies: Policies,
    books: Books,
    heads: BTreeMap<WriterId, Head>,
    sessions: BTreeMap<SessionId, SessionState>,
    documents: Vec<Chains>,
    places: BTreeMap<(Day, SessionId), Vec<u32>>,
    batches: Batches,
    unsealed: Unsealed,
    waiting: Rows,
    horizon_ms: Option<i64>,
    custody: Vec<CustodyMark>,
    links: Links,
    posted_ms: Shelf<i64>,
    log_ends_ms: Option<i64>,
}

impl Replica {
    /// Everything that the replica holds, if nothing waits to be judged or to be durable: the image of exactly what its log
    /// holds now.
    pub fn image(&mut self) -> Option<Image> {
        if self.unsettled || self.persisted != self.durable || !self.books.is_settled() {
            return None;
        }
        self.books.pack();
        self.batches.pack();
        self.posted_ms.pack(&Pressed);
        let chains = |row: (&Day, &Document)| -> Chains { (*row.0, row.1.chains().collect()) };
        let documents: Vec<Chains> = self.documents.iter().map(chains).collect();
        // What waits is counted up to here.
        let _ = self.waiting();
        let waiting = self.reckoned.rows();
        let bytes = image::write(&(
            self.whose(),
            (&self.registry, &self.policies, &self.books),
            (&self.heads, &self.sessions, documents, &self.places, &self.batches),
            (&self.unsealed, &*waiting, self.horizon_ms, &self.custody, &self.links, &self.posted_ms),
            self.log_ends(),
        ));
        drop(waiting);
        let attic = self.books.room().attic.clone();
        let freed = attic.as_ref().map(|attic| attic.take_freed()).unwrap_or_default();
        Some(Image { bytes, attic, freed })
    }

    /// Goes on from an image with a fresh replica. The entries of the log that came after it follow.
    ///
    /// # Errors
    /// It is the image of another replica or of another build, or its pieces are gone.
    pub fn resume(mut self, bytes: &[u8]) -> Result<Self, Stale> {
        let held: Held = image::read(bytes, self.books.room())?;
        if held.whose != self.whose() {
            return Err(Stale("it is of another store, key or policy".to_owned()));
        }
        let store = self.identity.store.clone();
        let document = |(day, chains): Chains| (day, Document::resumed(store.clone(), day, chains));
        self.documents = held.documents.into_iter().map(document).collect();
        (self.registry, self.policies, self.books) = (held.registry, held.policies, held.books);
        (self.heads, self.sessions, self.places) = (held.heads, held.sessions, held.places);
        (self.batches, self.unsealed, self.custody) = (held.batches, held.unsealed, held.custody);
        (self.links, self.posted_ms) = (held.links, held.posted_ms);
        self.reckoned = Reckoned::of(held.waiting);
        (self.horizon_ms, self.log_ends_ms) = (held.horizon_ms, held.log_ends_ms);
        self.policy_today = self.policies.of_till(self.policy_day, &self.identity.log.terminal);
        Ok(self)
    }

    fn whose(&self) -> Whose {
        Whose {
            store: self.identity.store.clone(),
            log: self.identity.log.clone(),
            writer: self.writer,
            hub: self.identity.hub,
            base: self.books.base_policy().clone(),
        }
    }

    /// The latest time that the log tells, ms since 1970.
    fn log_ends(&self) -> Option<i64> {
        let last = |len: usize| len.checked_sub(1);
        let batch = last(self.batches.len()).and_then(|at| self.batches.at(at as u64));
        let posted = last(self.posted_ms.len()).and_then(|at| u32::try_from(at).ok());
        let posted = posted.map(|at| *self.posted_ms.get(at, &Pressed));
        let told = [self.log_ends_ms, batch.map(|batch| batch.admitted_ms), posted, self.links.latest_ms()];
        told.into_iter().flatten().max()
    }
}
