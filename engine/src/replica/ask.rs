//! Questions to a replica: what waits, where a record is, what the store's logs, policy and registry say. Changes
//! nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BatchMeta, Identity, Replica};
use crate::attic::Workroom;
use crate::document::{Document, DocumentError};
use crate::ids::{LogId, RecordId, SessionId, WriterId};
use crate::ledger::{Books, Effect, Heard, Possible, Standing, TillDay};
use crate::policy::Policies;
use crate::record::Record;
use crate::registry::Registry;
use crate::review::Case;
use crate::shelf::{Due, Pressed};
use crate::sync::{Peer, Status};
use crate::time::Day;
use crate::transaction::{Decision, Enrolment};

/// Where a record is on its way into the books.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CustodyStep {
    /// Durable at the till.
    Saved,
    /// Durable at another till as well.
    OnPeer,
    /// Durable at the hub.
    AtHub,
    /// In the hub's books, explained.
    Posted,
    /// In the hub's books, its reason side in suspense until a person decides.
    InReview,
    /// In an export.
    Exported,
}

impl CustodyStep {
    /// The state of a record that the hub holds.
    fn at_hub(standing: Option<Standing>) -> Self {
        match standing {
            Some(Standing::Posted) => Self::Posted,
            Some(Standing::InReview) => Self::InReview,
            _ => Self::AtHub,
        }
    }

    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::OnPeer => "on_peer",
            Self::AtHub => "at_hub",
            Self::Posted => "posted",
            Self::InReview => "in_review",
            Self::Exported => "exported",
        }
    }
}

/// A record's custody: the state it is in, and when it reached each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Custody {
    /// Present state.
    pub state: CustodyStep,
    /// States reached with the time, ms since 1970, by the clock of the node that is asked.
    pub history: Vec<(CustodyStep, i64)>,
}

/// How a till is doing, as the hub that has its store knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Live {
    /// Its key.
    pub writer: WriterId,
    /// It is connected.
    pub online: bool,
    /// What it said last of itself, and when, ms since 1970.
    pub heard: Option<(i64, Status)>,
}

/// See [`Replica::revision`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Revision {
    life: [u8; 16],
    persisted: u64,
    told: u64,
}

impl Revision {
    /// Whether both were told in one life of the replica; numbers of entries begin anew in each.
    #[must_use]
    pub fn is_of_one_life_with(&self, other: &Self) -> bool {
        self.life == other.life
    }

    /// Whether peers said something new of themselves since the other.
    #[must_use]
    pub fn has_heard_since(&self, other: &Self) -> bool {
        self.is_of_one_life_with(other) && self.told != other.told
    }
}

impl Replica {
    /// Who this node is here.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where its books rest.
    #[must_use]
    pub fn room(&self) -> &Workroom {
        self.books.room()
    }

    /// The key this node writes with.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// How many entries this replica has handed out to be persisted.
    #[must_use]
    pub fn persisted(&self) -> u64 {
        self.persisted
    }

    /// How many of them are durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Own records that no batch holds yet.
    #[must_use]
    pub fn unsealed_count(&self) -> usize {
        self.unsealed.len()
    }

    /// The own record with a receipt number (of the hub: with the name of a statement).
    #[must_use]
    pub fn own_record(&self, receipt: &str) -> Option<&Record> {
        self.books.with_receipt(&self.identity.log, receipt).map(|record| &**record)
    }

    /// Whether the hub is connected, and since when it is or is not, ms since 1970.
    #[must_use]
    pub fn hub_link(&self) -> (bool, Option<i64>) {
        (self.peers.contains_key(&self.identity.hub), self.hub_link_ms)
    }

    /// The books.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The registry of writers.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Takes an enrolment in that the hub's log has not brought yet: what a node's own certificate says of its key.
    pub fn trust_enrolment(&mut self, enrolment: &Enrolment) {
        self.registry.enrol(enrolment);
    }

    /// The policy versions.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What may be decided on a case of the books, each with what it would do.
    pub fn options(&mut self, case: &Case) -> Vec<Possible> {
        self.books.options(case)
    }

    /// What a decision would do, without taking it.
    pub fn effect_of(&mut self, decision: &Decision) -> Effect {
        self.books.effect_of(decision)
    }

    /// What is known of the node that writes a log, beside its records: its last status, else its last batch.
    #[must_use]
    pub fn heard(&self, log: &LogId) -> Heard {
        let Some(writer) = self.registry.writer_of(log) else { return Heard::default() };
        let status = self.heard.get(&writer);
        let batch = || self.batches.newest_of(&writer).map(|meta| meta.admitted_ms);
        Heard {
            at_ms: status.map(|row| row.0).or_else(batch),
            head_seq: status.map_or(0, |row| row.1.head_seq),
        }
    }

    /// What a peer said last of itself, and when, ms; of one that is gone, too.
    #[must_use]
    pub fn last_status(&self, writer: &WriterId) -> Option<(i64, &Status)> {
        self.heard.get(writer).map(|row| (row.0, &row.1))
    }

    /// Another one whenever something was recorded here (a record, a case's entry, a link that came or went) or a peer
    /// told of records that are not here, and in each life of a replica: what was reckoned under the same one still holds,
    /// but for what time alone changes.
    #[must_use]
    pub fn revision(&self) -> Revision {
        let told = self.heard.values().fold(0_u64, |sum, row| sum.wrapping_add(row.1.head_seq));
        Revision { life: self.identity.nonce, persisted: self.persisted, told }
    }

    /// How far a business day of the store has come, till by till.
    #[must_use]
    pub fn day(&self, day: Day, now_ms: i64, day_ends_ms: i64) -> Vec<TillDay> {
        let logs = self.registry.writers().map(|(_, log)| log).filter(|log| !log.terminal.is_hub());
        let mut logs: Vec<&LogId> = logs.collect();
        logs.sort();
        logs.into_iter().filter_map(|log| self.till_day(log, day, now_ms, day_ends_ms)).collect()
    }

    /// How far a till's day has come; `None` if nobody expects anything of it.
    #[must_use]
    pub fn till_day(&self, log: &LogId, day: Day, now_ms: i64, day_ends_ms: i64) -> Option<TillDay> {
        let till = self.books.till_day(log, day, self.heard(log), now_ms, day_ends_ms);
        // A device that was not there yet, or was replaced since, is named only if it has something of the day.
        let there = || self.books.enrolled_on(log).is_none_or(|since| since <= day);
        let replaced = || log.incarnation < self.registry.incarnation(&log.terminal);
        let expected = till.records > 0 || till.missing_count() > 0 || (!replaced() && there());
        expected.then_some(till)
    }

    /// Connected peers.
    pub fn peers(&self) -> impl Iterator<Item = (WriterId, &Peer)> {
        self.peers.iter().map(|(peer, state)| (*peer, state))
    }

    /// Whether a till is connected, here or (as far as this replica was told) at another hub; then what it said of itself.
    #[must_use]
    pub fn online(&self, writer: &WriterId) -> Option<Option<(i64, &Status)>> {
        if let Some(peer) = self.peers.get(writer) {
            return Some(peer.status.as_ref().map(|(at_ms, status)| (*at_ms, status)));
        }
        self.elsewhere.contains(writer).then(|| self.last_status(writer))
    }

    /// How many peers are connected, here or at another hub.
    #[must_use]
    pub fn online_count(&self) -> usize {
        self.peers.len() + self.elsewhere.len()
    }

    /// How the tills of the store are doing, for a replica that only reads along.
    #[must_use]
    pub fn live(&self) -> Vec<Live> {
        let online = |writer: &WriterId| self.peers.contains_key(writer);
        let heard = self.heard.iter().map(|(writer, heard)| (*writer, Some(heard.clone())));
        let silent = self.peers.keys().filter(|writer| !self.heard.contains_key(writer));
        let all = heard.chain(silent.map(|writer| (*writer, None)));
        all.map(|(writer, heard)| Live { writer, online: online(&writer), heard }).collect()
    }

    /// Takes in how the tills are doing at the hub that has the store.
    pub fn hear_elsewhere(&mut self, tills: Vec<Live>) {
        self.elsewhere = tills.iter().filter(|till| till.online).map(|till| till.writer).collect();
        let heard = tills.into_iter().filter_map(|till| Some((till.writer, till.heard?)));
        self.heard.extend(heard);
    }

    /// How many batches are held.
    #[must_use]
    pub fn batch_count(&self) -> usize {
        self.batches.len()
    }

    /// Every batch held from an ordinal on, in the order of admission.
    pub fn batch_metas(&self, from: usize) -> impl Iterator<Item = &BatchMeta> {
        self.batches.from(from)
    }

    /// Calls `each` for every batch held, in the order of admission, and keeps none unpacked for it.
    pub fn visit_batches(&self, mut each: impl FnMut(&BatchMeta)) {
        self.batches.for_each(|_, meta| each(meta));
    }

    /// The batch that holds a record; `None` while it is captured and not sealed.
    #[must_use]
    pub fn batch_of(&self, record: &Record) -> Option<&BatchMeta> {
        let writer = self.registry.writer_of(&record.log)?;
        self.batches.holding(&writer, record.seq)
    }

    /// Packs what is not in use.
    pub fn rest(&mut self) {
        while self.rest_a_chunk(Due::Now) {}
    }

    /// Packs a chunk of what is not in use; whether there was any. For moments in which nobody waits: what is far over its
    /// limit is packed with the next record, whoever waits.
    pub fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.batches.rest_a_chunk(due)
            || self.books.rest_a_chunk(due)
            || self.posted_ms.rest_a_chunk(due, &Pressed)
    }

    /// Business days that have a document.
    pub fn days(&self) -> impl Iterator<Item = (Day, &Document)> {
        self.documents.iter().map(|(day, document)| (*day, document))
    }

    /// The heads of the Automerge document of every day. One that is not in memory is applied from its batches, which
    /// `read` gives by ordinal, and let go again.
    ///
    /// # Errors
    /// A document failed, or a batch of it cannot be read.
    pub fn document_heads(
        &mut self,
        mut read: impl FnMut(u64) -> Option<Vec<u8>>,
    ) -> Result<BTreeMap<Day, Vec<[u8; 32]>>, DocumentError> {
        let mut heads = BTreeMap::new();
        for (day, document) in &mut self.documents {
            if !document.is_released() {
                document.apply()?;
                heads.insert(*day, document.heads().unwrap_or_default());
                continue;
            }
            let sessions = self.places.range((*day, SessionId([0; 16]))..=(*day, SessionId([255; 16])));
            let mut ordinals: Vec<u32> = sessions.flat_map(|row| row.1).copied().collect();
            ordinals.sort_unstable();
            let unread = || DocumentError::Unread { day: *day };
            let mut batches = Vec::with_capacity(ordinals.len());
            for ordinal in ordinals {
                let meta = self.batches.get(ordinal).ok_or_else(unread)?;
                batches.push((meta.writer, meta.session, read(ordinal.into()).ok_or_else(unread)?));
            }
            let batches =
                batches.iter().map(|(writer, session, bytes)| (*writer, *session, bytes.as_slice()));
            heads.insert(*day, document.heads_from(batches)?);
        }
        Ok(heads)
    }

    /// Highest number of every log, as far as it arrived here.
    #[must_use]
    pub fn log_heads(&self) -> BTreeMap<LogId, u64> {
        let logs = self
            .heads
            .iter()
            .filter_map(|(writer, head)| Some((self.registry.log_of(writer)?.clone(), head.seq)));
        let mut heads: BTreeMap<LogId, u64> = logs.collect();
        if let Some(head) = self.own_head() {
            heads.insert(self.identity.log.clone(), head.seq);
        }
        heads
    }

    /// Last number of the own log that the hub holds.
    #[must_use]
    pub fn at_hub_through(&self) -> u64 {
        self.custody.last().map_or(0, |mark| mark.through_seq)
    }

    /// Whether a connected peer has told what it holds, and all of it is here: a restored node has taken back from it what
    /// it lacked.
    #[must_use]
    pub fn has_all_of(&self, peer: &WriterId) -> bool {
        let here =
            |day: Day, session: &SessionId| self.documents.get(&day).map_or(0, |day| day.count(session));
        self.peers.get(peer).is_some_and(|peer| {
            peer.is_level() && peer.holdings().all(|((day, session), count)| here(day, &session) >= count)
        })
    }

    /// Where a record is on its way into the books, as far as this node knows.
    #[must_use]
    pub fn custody(&self, id: &RecordId) -> Option<Custody> {
        let record = self.books.record(id)?;
        let mut history = vec![(CustodyStep::Saved, record.at.ms)];
        let at_hub_ms = if self.writer == self.identity.hub {
            self.admitted_ms(record)
        } else if record.log == self.identity.log {
            self.custody.iter().find(|mark| mark.through_seq >= record.seq).map(|mark| mark.at_ms)
        } else {
            None
        };
        if let Some(at_ms) = at_hub_ms {
            history.push((CustodyStep::AtHub, at_ms));
            let step = CustodyStep::at_hub(self.books.standing(id));
            history.extend((step != CustodyStep::AtHub).then_some((step, at_ms)));
        }
        let state = history.last().map_or(CustodyStep::Saved, |step| step.0);
        Some(Custody { state, history })
    }

    /// Payments accepted offline that the store's policy gives up at a time: no outcome so many hours after the record
    /// that took them arrived here.
    #[must_use]
    pub fn payments_past_age(&self, now_ms: i64) -> Vec<String> {
        let past = |record: &&Record| {
            let hours = self.books.policy_of(&record.id).map_or(24, |policy| policy.offline_card_hours);
            let since = self.admitted_ms(record).unwrap_or(now_ms);
            now_ms.saturating_sub(since) > i64::from(hours) * 3_600_000
        };
        let unanswered = self.books.unanswered_payments();
        let due = unanswered.filter(|(_, records)| !records.is_empty() && records.iter().all(&past));
        due.map(|(payment, _)| payment.to_owned()).collect()
    }

    /// Calls `each` for the records of a batch that is here, with the state of their custody, and keeps none unpacked for it
    /// (of what the hub holds, at the hub). Of a log that forked within its numbers every branch is told.
    pub fn visit_batch(&self, meta: &BatchMeta, mut each: impl FnMut(&Record, CustodyStep)) {
        let Some(log) = self.registry.log_of(&meta.writer) else { return };
        let here = self.writer == self.identity.hub;
        self.books.visit_log_standing(log, (meta.first_seq, meta.last_seq), |record, standing| {
            each(record, if here { CustodyStep::at_hub(standing) } else { CustodyStep::Saved });
        });
    }

    /// When the batch that holds a record was admitted here.
    fn admitted_ms(&self, record: &Record) -> Option<i64> {
        self.batch_of(record).map(|meta| meta.admitted_ms)
    }
}
