//! What a store's task takes in and what not, while there is no space, and while a restored node waits for its peers.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::ids::WriterId;
use engine::replica::Input;
use engine::sync::Message;

use super::{StoreError, StoreTask};
use crate::runtime::conversation::InHand;
use crate::runtime::take_back::TakeBack;

/// The part of the storage's reserve that may be on its way to the disk before new jobs wait: a disk that is found full
/// must have room for what was taken in meanwhile.
const RESERVE_SHARE: usize = 4;
/// Bytes of peers' batches that wait for a full disk, a few windows of unacknowledged ones; a peer that sends more is let
/// go, and sends them again.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Bytes of log that a byte of a peer's batches may make: itself at a till; at the hub its journal entries as well (26
/// bytes of a packed record make some 80, those of a small batch fewer a byte).
const LOG_BYTES_A_BYTE: [usize; 2] = [2, 6];
/// How often room that could not be had is asked for again.
pub(super) const ROOM_ASK: Duration = Duration::from_millis(1_000);

impl StoreTask {
    /// Why nothing new can be recorded now.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        if self.storage.is_full() {
            let away = self.storage.is_away().is_some();
            return Some(if away { StoreError::DatabaseAway } else { StoreError::DiskFull });
        }
        self.take_back.is_some().then_some(StoreError::TakingBack)
    }

    /// Looks whether the peers of a restored node have given back what they hold.
    pub(super) fn look_at_peers(&mut self) {
        if let Some(waits) = self.take_back.take_if(|_| TakeBack::is_done(self.host.replica())) {
            waits.done();
            let records = self.records();
            self.notes.note(
                None,
                "taken-back",
                format!("restored from a backup; {records} records are here now"),
            );
        }
    }

    pub(super) fn take_frame(&mut self, peer: WriterId, link: u64, bytes: Vec<u8>, mut room: InHand) {
        if self.links.get(&peer).is_none_or(|known| known.0 != link) {
            return;
        }
        let waits = self.storage.is_full() || !self.held.is_empty() || self.lacks_room(&bytes);
        if !waits || !matches!(Message::decode(&bytes), Ok(Message::Batches { .. } | Message::Short { .. })) {
            return self.judge(peer, bytes, room.take_seat());
        }
        if self.held_bytes + bytes.len() > HELD_BYTES_MAX {
            self.links.remove(&peer);
            let event = if self.storage.in_database() { "database-away" } else { "disk-full" };
            self.notes.note(Some(self.name(&peer)), event, "its batches cannot be kept now".to_owned());
            return self.give(Input::PeerDown(peer));
        }
        // Others, whose disk has space, take theirs in meanwhile.
        drop(room.take_seat());
        self.held_bytes += bytes.len();
        self.held.push_back((peer, link, bytes, room));
    }

    /// Says when the disk becomes full and when it has space again, and takes in what waited for that.
    pub(super) async fn look_at_space(&mut self) {
        let full = self.storage.is_full() || self.short;
        if full != self.full.swap(full, Ordering::AcqRel) {
            let store = &self.host.replica().identity().store;
            if self.storage.in_database() {
                tracing::warn!(%store, away = full, "what comes in waits while the database is away");
            } else if full {
                tracing::error!(%store, "the disk is full: nothing new is taken in until there is space");
            } else {
                tracing::warn!(%store, "the disk has space again");
                self.notes.note(None, "disk-space", "the disk was full and has space again".to_owned());
            }
        }
        while !self.storage.is_full() && self.in_flight <= self.in_flight_max() {
            let Some(wanted) = self.held.front().map(|held| self.log_bytes_of(&held.2)) else {
                self.short = false;
                return;
            };
            if !self.granted && self.storage.room() < wanted + self.in_flight {
                if !self.asked && (!self.short || Instant::now() >= self.ask_again) {
                    self.asked = true;
                    let report = self.room_report.clone();
                    self.storage.set_aside(wanted + self.in_flight, move |there| {
                        let _ = report.send(there.is_ok());
                    });
                }
                return;
            }
            (self.short, self.granted) = (false, false);
            let Some((peer, link, bytes, _room)) = self.held.pop_front() else { return };
            self.held_bytes -= bytes.len();
            if self.links.get(&peer).is_some_and(|known| known.0 == link) {
                self.judge(peer, bytes, None);
                self.turn().await;
            }
        }
    }

    /// Whether what a peer's batches may make in the log does not fit without asking the disk.
    pub(super) fn lacks_room(&self, frame: &[u8]) -> bool {
        self.storage.room() < self.log_bytes_of(frame) + self.in_flight
    }

    pub(super) fn log_bytes_of(&self, frame: &[u8]) -> usize {
        let replica = self.host.replica();
        let factor = LOG_BYTES_A_BYTE[usize::from(replica.writer() == replica.identity().hub)];
        Message::brings_at_most(frame).saturating_mul(factor)
    }

    pub(super) fn in_flight_max(&self) -> usize {
        self.storage.reserve_bytes() / RESERVE_SHARE
    }
}
