//! Connections as they were: when each till was reachable and how far its clock was off. The hub keeps it for its KPIs;
//! nothing here decides anything about records.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Output, Outputs, Replica};
use crate::entry::{Entry, LinkChange, LinkMark, PostedMark};
use crate::ids::WriterId;
use crate::shelf::{Due, Pressed};
use crate::sync::Message;
use crate::time::Instant;

/// Connections remembered for each till: the newest.
const LINKS_KEPT: usize = 4_096;

/// One connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkSpan {
    /// When it came, ms since 1970.
    pub up_ms: i64,
    /// When it went; `None`: it is there.
    pub down_ms: Option<i64>,
    /// The till's clock less this node's with its error, ms, once told.
    pub clock: Option<(i64, i64)>,
}

/// The connections of every till, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Links {
    spans: BTreeMap<WriterId, VecDeque<LinkSpan>>,
}

impl Links {
    pub(super) fn take(&mut self, mark: &LinkMark) {
        let spans = self.spans.entry(mark.peer).or_default();
        let open = spans.back_mut().filter(|span| span.down_ms.is_none());
        match (mark.what, open) {
            (LinkChange::Up, open) => {
                // A hub that lost power never saw the connection go.
                open.into_iter().for_each(|span| span.down_ms = Some(mark.at_ms));
                if spans.len() == LINKS_KEPT {
                    spans.pop_front();
                }
                spans.push_back(LinkSpan { up_ms: mark.at_ms, down_ms: None, clock: None });
            }
            (LinkChange::Down, Some(span)) => span.down_ms = Some(mark.at_ms),
            (LinkChange::Clock { offset_ms, error_ms }, Some(span)) => {
                span.clock = Some((offset_ms, error_ms));
            }
            (LinkChange::Down | LinkChange::Clock { .. }, None) => {}
        }
    }

    /// Tills whose connection nobody saw go.
    fn open(&self) -> Vec<WriterId> {
        let open = |spans: &VecDeque<LinkSpan>| spans.back().is_some_and(|span| span.down_ms.is_none());
        self.spans.iter().filter(|(_, spans)| open(spans)).map(|(peer, _)| *peer).collect()
    }

    /// The latest time that is told of a connection, ms since 1970.
    pub(super) fn latest_ms(&self) -> Option<i64> {
        let latest = |span: &LinkSpan| span.down_ms.unwrap_or(span.up_ms);
        self.spans.values().flatten().map(latest).max()
    }

    pub(super) fn of(&self, peer: &WriterId) -> impl Iterator<Item = &LinkSpan> {
        self.spans.get(peer).into_iter().flatten()
    }
}

impl Replica {
    /// The connections to a writer since this node keeps them, oldest first (hub).
    pub fn links_of(&self, peer: &WriterId) -> impl Iterator<Item = &LinkSpan> {
        self.links.of(peer)
    }

    pub(super) fn note_link(
        &mut self,
        now: Instant,
        peer: WriterId,
        what: LinkChange,
        outputs: &mut Outputs,
    ) {
        if !self.is_hub() {
            return;
        }
        let mark = LinkMark { peer, at_ms: now.ms, what };
        self.links.take(&mark);
        self.persist(Entry::Link(mark), None, outputs);
    }

    /// A node that starts again was unreachable since the last thing its log tells of; nobody saw the connections go.
    pub(super) fn close_links(&mut self, outputs: &mut Outputs) {
        let Some(at_ms) = self.log_ends_ms.take().filter(|_| self.is_hub()) else { return };
        for peer in self.links.open() {
            let mark = LinkMark { peer, at_ms, what: LinkChange::Down };
            self.links.take(&mark);
            self.persist(Entry::Link(mark), None, outputs);
        }
    }

    /// Asks a peer what its clock shows.
    pub(super) fn ask_clock(&self, now: Instant, peer: WriterId, outputs: &mut Outputs) {
        if self.is_hub() {
            outputs.push(Output::Send(peer, Message::Clock { sent_ms: now.ms, echo: None }));
        }
    }

    /// Answers such a question, or takes the answer (LEDGER-RULES section 15: offset, and half the round trip).
    pub(super) fn clock(
        &mut self,
        now: Instant,
        peer: WriterId,
        sent_ms: i64,
        echo: Option<(i64, i64)>,
        outputs: &mut Outputs,
    ) {
        let Some((asked_ms, arrived_ms)) = echo else {
            let answer = Message::Clock { sent_ms: now.ms, echo: Some((sent_ms, now.ms)) };
            outputs.push(Output::Send(peer, answer));
            return;
        };
        let there = |theirs: i64, ours: i64| i128::from(theirs) - i128::from(ours);
        let offset = (there(arrived_ms, asked_ms) + there(sent_ms, now.ms)) / 2;
        let round_trip = there(now.ms, asked_ms) - there(sent_ms, arrived_ms);
        // A peer may say anything: what is no measurement is left aside.
        if let (Ok(offset_ms), Ok(error_ms)) = (i64::try_from(offset), i64::try_from(round_trip / 2))
            && (0..=60_000).contains(&error_ms)
        {
            self.note_link(now, peer, LinkChange::Clock { offset_ms, error_ms }, outputs);
        }
    }

    /// Everything that was admitted is in the books now.
    pub(super) fn note_posted(&mut self, now: Instant, outputs: &mut Outputs) {
        let batches = self.batches.len() as u64;
        if self.is_hub() && batches > self.posted_ms.len() as u64 {
            let mark = PostedMark { batches, at_ms: now.ms };
            self.take_posted(mark);
            self.persist(Entry::Posted(mark), None, outputs);
        }
    }

    pub(super) fn take_posted(&mut self, mark: PostedMark) {
        let batches = usize::try_from(mark.batches).unwrap_or(usize::MAX).min(self.batches.len());
        if batches > self.posted_ms.len() {
            for _ in self.posted_ms.len()..batches {
                self.posted_ms.push(mark.at_ms);
            }
            self.posted_ms.rest_a_chunk(Due::Overdue, &Pressed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_nobody_saw_go_ends_when_the_next_comes() {
        let peer = WriterId([1; 32]);
        let mark = |at_ms, what| LinkMark { peer, at_ms, what };
        let mut links = Links::default();
        links.take(&mark(5, LinkChange::Down));
        links.take(&mark(10, LinkChange::Up));
        links.take(&mark(11, LinkChange::Clock { offset_ms: -3, error_ms: 1 }));
        links.take(&mark(50, LinkChange::Up));
        let spans: Vec<LinkSpan> = links.of(&peer).copied().collect();
        let first = LinkSpan { up_ms: 10, down_ms: Some(50), clock: Some((-3, 1)) };
        assert_eq!(spans, [first, LinkSpan { up_ms: 50, down_ms: None, clock: None }]);
    }
}
