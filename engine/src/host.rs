//! A replica at home: what every node does with a replica's outputs, whatever its disk and its network are. It groups
//! what is appended, keeps the promise that nothing is answered before it is durable (and nothing at all after the disk
//! has failed), and remembers the newest batches for sending. The node and the simulator run this same code; only what
//! it asks for (append, send, read back) differs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::entry::Entry;
use crate::ids::WriterId;
use crate::replica::{CaptureError, Input, Output, Outputs, Receipt, Replica, SyncEvent};
use crate::review::CaseEvent;
use crate::sync::{Carried, Dialect, Familiar, Message};
use crate::time::Instant;

/// Bytes put into one append of the storage.
const APPEND_BYTES: usize = 4 << 20;
/// Sealed batches kept in memory for sending, in bytes.
const RECENT_BYTES: usize = 2 << 20;

/// An entry for the node's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Its kind.
    pub kind: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// By what it is looked up again.
    pub looked: Looked,
}

impl Line {
    /// Whether somebody waits until it is durable: who captured it, or the peer that brought it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        Entry::is_awaited(self.kind)
    }
}

/// Whether an entry of the log is looked up again, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// By the ordinal of a batch.
    Batch,
    /// By the number of a journal entry; so many are in it.
    Journal(u32),
    /// It is not.
    Not,
}

impl Looked {
    /// How an entry is looked up.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Batch(_) => Self::Batch,
            Entry::Journal(run) => Self::Journal(run.count()),
            Entry::Captured(_) | Entry::Custody(_) | Entry::Posted(_) | Entry::Link(_) => Self::Not,
        }
    }
}

/// Why nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The transaction was refused.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The storage failed; nothing is recorded until the node is restarted.
    #[error("nothing can be recorded: {0}; restart the node when the disk is well")]
    Storage(String),
}

/// What the surroundings have to do, in order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Append these lines together, make them durable, and say so with [`Host::appended`] (or [`Host::append_failed`]).
    /// Appends are to become durable in the order in which they are asked for.
    Append(Vec<Line>),
    /// The answer to a token.
    Answer(u64, Result<Receipt, NotRecorded>),
    /// Send a frame; if the peer does not take it, its link is to end.
    Send(WriterId, Vec<u8>),
    /// Send batches, some of which have to be read back first.
    SendBatches {
        /// To whom.
        peer: WriterId,
        /// Number of the message.
        number: u64,
        /// The batches, in order.
        batches: Vec<Stored>,
    },
    /// End the link to a peer.
    End(WriterId, String),
    /// For the audit log.
    Event(SyncEvent),
    /// For the audit log.
    Case(CaseEvent),
}

impl Effect {
    /// Whether somebody else goes on with it: let him, before the books follow.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Answer(..) | Self::Send(..) | Self::SendBatches { .. })
    }
}

/// A batch to be sent.
#[derive(Debug, PartialEq)]
pub enum Stored {
    /// It is still in memory.
    Here(Carried),
    /// It has to be read from the log, by its ordinal.
    InLog(u64),
}

/// A replica with what its node owes others.
pub struct Host {
    replica: Replica,
    effects: Vec<Effect>,
    /// To be appended at the end of the turn.
    pending: Vec<Line>,
    /// Newest sealed batches, for sending without reading them back.
    recent: VecDeque<(u64, Carried)>,
    recent_bytes: usize,
    /// By what batches are written short to the peers that understand it.
    familiar: BTreeMap<WriterId, Familiar>,
    /// Tokens that nobody has answered.
    waiting: BTreeSet<u64>,
    handed_out: u64,
    durable: u64,
    failed: Option<String>,
}

impl Host {
    /// A host of a fresh or restored replica.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self {
            replica,
            effects: Vec::new(),
            pending: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            familiar: BTreeMap::new(),
            waiting: BTreeSet::new(),
            handed_out: 0,
            durable: 0,
            failed: None,
        }
    }

    /// The replica, for questions.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The replica, for questions that keep what they reckoned.
    pub fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Whether everything that was handed out to be appended is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.durable == self.handed_out
    }

    /// Why the storage failed, if it has.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Gives the replica an event. What follows is done by the effects of [`Host::turn`].
    pub fn give(&mut self, now: Instant, input: Input) {
        if let Some(reason) = &self.failed {
            let refused = |token: u64| Effect::Answer(token, Err(NotRecorded::Storage(reason.clone())));
            match input {
                Input::Capture(captures) => {
                    self.effects.extend(captures.iter().map(|capture| refused(capture.token)));
                    return;
                }
                Input::State { token, .. } => {
                    self.effects.push(refused(token));
                    return;
                }
                // What a peer brings could be acknowledged to nobody.
                Input::Message(..) => return,
                _ => {}
            }
        }
        match &input {
            Input::Capture(captures) => self.waiting.extend(captures.iter().map(|capture| capture.token)),
            Input::State { token, .. } => {
                self.waiting.insert(*token);
            }
            Input::PeerUp(peer, Dialect::Short) => drop(self.familiar.insert(*peer, Familiar::default())),
            Input::PeerUp(peer, Dialect::Full) | Input::PeerDown(peer) => drop(self.familiar.remove(peer)),
            _ => {}
        }
        let outputs = self.replica.handle(now, input);
        self.obey(now, outputs);
    }

    /// Ends a turn: says what is to be done. To be asked again until nothing is: what is in line for the disk and the
    /// peers goes first, and the books follow while the disk works.
    pub fn turn(&mut self, now: Instant) -> Vec<Effect> {
        self.submit();
        if self.effects.is_empty() && self.replica.next_wakeup().is_some_and(|at| at <= now.ms) {
            self.give(now, Input::Wakeup);
            self.submit();
        }
        std::mem::take(&mut self.effects)
    }

    /// As [`Host::turn`], but the books do not follow yet: for a node to whom more has been said already.
    pub fn listen(&mut self) -> Vec<Effect> {
        self.submit();
        std::mem::take(&mut self.effects)
    }

    /// The next `lines` lines that were handed out are durable.
    pub fn appended(&mut self, now: Instant, lines: u64) {
        if self.failed.is_none() {
            self.durable += lines;
            let entries = self.durable;
            self.give(now, Input::Durable { entries });
        }
    }

    /// The storage failed: whoever waits hears it, and nothing is promised any more. Only a restart, from what is
    /// durable, recovers.
    pub fn append_failed(&mut self, reason: &str) {
        if self.failed.is_none() {
            self.failed = Some(reason.to_owned());
            self.pending.clear();
            for token in std::mem::take(&mut self.waiting) {
                self.effects.push(Effect::Answer(token, Err(NotRecorded::Storage(reason.to_owned()))));
            }
        }
    }

    fn obey(&mut self, now: Instant, outputs: Outputs) {
        for output in outputs {
            match output {
                Output::Persist { entry, ordinal } => self.keep(&entry, ordinal),
                Output::Captured { token, result } => {
                    if self.waiting.remove(&token) {
                        self.effects.push(Effect::Answer(token, result.map_err(NotRecorded::from)));
                    }
                }
                Output::Send(peer, message) => self.effects.push(Effect::Send(peer, message.encode())),
                Output::SendBatches { peer, number, ordinals } => self.send_batches(peer, number, &ordinals),
                Output::Disconnect(peer, reason) => {
                    self.effects.push(Effect::End(peer, reason));
                    self.familiar.remove(&peer);
                    let outputs = self.replica.handle(now, Input::PeerDown(peer));
                    self.obey(now, outputs);
                }
                Output::Event(event) => self.effects.push(Effect::Event(event)),
                Output::Case(event) => self.effects.push(Effect::Case(event)),
            }
        }
    }

    /// Puts an entry in line for the storage.
    fn keep(&mut self, entry: &Entry, ordinal: Option<u64>) {
        if let (Entry::Batch(batch), Some(ordinal)) = (entry, ordinal) {
            let carried = Carried { bytes: batch.bytes.clone(), change: batch.change };
            self.recent_bytes += carried.bytes.len();
            self.recent.push_back((ordinal, carried));
            while self.recent_bytes > RECENT_BYTES {
                let Some((_, oldest)) = self.recent.pop_front() else { break };
                self.recent_bytes -= oldest.bytes.len();
            }
        }
        if self.failed.is_none() {
            let (kind, bytes) = entry.encode(&self.replica.identity().store);
            self.pending.push(Line { kind, bytes, looked: Looked::of(entry) });
        }
    }

    /// Hands out what is in line, in appends of a size that one fsync takes well.
    fn submit(&mut self) {
        let mut lines = std::mem::take(&mut self.pending).into_iter().peekable();
        while lines.peek().is_some() {
            let (mut append, mut bytes) = (Vec::new(), 0);
            while let Some(line) =
                lines.next_if(|line| append.is_empty() || bytes + line.bytes.len() <= APPEND_BYTES)
            {
                bytes += line.bytes.len();
                append.push(line);
            }
            self.handed_out += append.len() as u64;
            self.effects.push(Effect::Append(append));
        }
    }

    fn send_batches(&mut self, peer: WriterId, number: u64, ordinals: &[u64]) {
        let batches: Vec<Stored> = ordinals.iter().map(|ordinal| self.stored(*ordinal)).collect();
        let here = |stored: &Stored| match stored {
            Stored::Here(carried) => Some(carried.clone()),
            Stored::InLog(_) => None,
        };
        let effect = match batches.iter().map(here).collect::<Option<Vec<Carried>>>() {
            Some(batches) => Effect::Send(peer, self.message(peer, number, batches).encode()),
            None => Effect::SendBatches { peer, number, batches },
        };
        self.effects.push(effect);
    }

    /// Only what is said here is expected by both ends: batches that have to be read back first go in full.
    fn message(&mut self, peer: WriterId, number: u64, batches: Vec<Carried>) -> Message {
        let short = self.familiar.get_mut(&peer).and_then(|familiar| familiar.write(&batches));
        match short {
            Some(batches) => Message::Short { number, batches },
            None => Message::Batches { number, batches },
        }
    }

    fn stored(&self, ordinal: u64) -> Stored {
        let first = self.recent.front().map_or(u64::MAX, |(first, _)| *first);
        let at = ordinal.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.recent.get(at));
        found.map_or(Stored::InLog(ordinal), |(_, carried)| Stored::Here(carried.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogId;
    use crate::policy::Policy;
    use crate::replica::{Capture, Identity};
    use crate::transaction::Draft;

    fn host() -> Host {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let hub = WriterId([9; 32]);
        let log = LogId { terminal: "till-01".parse().unwrap(), incarnation: 1 };
        let identity = Identity { store: "s1".parse().unwrap(), log, key, nonce: [1; 16], hub };
        Host::new(Replica::new(identity, Policy::default()))
    }

    fn sale(token: u64) -> Input {
        let text = format!(
            r#"{{"kind":"sale","receipt":"R-{token}","currency":"GBP","lines":[{{"sku":"a","quantity":"1","amount_minor":100}}],
               "tenders":[{{"type":"cash","amount_minor":100}}]}}"#
        );
        Input::Capture(vec![Capture { token, draft: Draft::from_json(&text).unwrap() }])
    }

    fn answers(effects: &[Effect]) -> Vec<(u64, bool)> {
        let answer = |effect: &Effect| match effect {
            Effect::Answer(token, result) => Some((*token, result.is_ok())),
            _ => None,
        };
        effects.iter().filter_map(answer).collect()
    }

    #[test]
    fn captures_of_one_turn_share_an_append_and_are_answered_when_it_is_durable() {
        let (mut host, now) = (host(), Instant::utc(1_795_420_800_000));
        host.give(now, sale(1));
        host.give(now, sale(2));
        let effects = host.turn(now);
        assert!(matches!(effects.as_slice(), [Effect::Append(lines)] if lines.len() == 2), "{effects:?}");
        assert!(!host.is_settled());
        host.turn(now);
        host.appended(now, 2);
        assert_eq!(answers(&host.turn(now)), [(1, true), (2, true)]);
        assert!(host.is_settled());
    }

    #[test]
    fn after_a_failed_append_everybody_who_waits_and_everybody_who_asks_is_refused() {
        let (mut host, now) = (host(), Instant::utc(1_795_420_800_000));
        host.give(now, sale(1));
        host.turn(now);
        host.append_failed("the disk is full");
        host.give(now, sale(2));
        host.appended(now, 1);
        assert_eq!(answers(&host.turn(now)), [(1, false), (2, false)]);
        assert_eq!(host.failed(), Some("the disk is full"));
    }
}
