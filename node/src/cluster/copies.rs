//! A store in a log that another hub writes, as the log has it up to the writer's last mark.

use std::sync::Arc;

use engine::attic::{Attic, Workroom};
use engine::entry::Entry as LogEntry;
use engine::host::Looked;
use engine::ids::StoreId;
use engine::ledger::WorkLimits;
use engine::replica::{ReadBack, Replica};

use super::along::Broken;
use super::nook::Nook;
use super::reading::Company;
use crate::hub::{base_policy, replica_identity};
use crate::runtime::checkpoint::{Print, Taken};
use crate::runtime::positions::Positions;
use crate::runtime::restore::RestoredStore;
use crate::storage::{Entry, Position};

/// A store as the log has it.
pub(super) struct Copy {
    pub(super) replica: Replica,
    pub(super) positions: Positions,
    /// What stands behind the writer's last mark.
    tail: Vec<Waiting>,
    /// The last entry that the replica holds.
    last: Option<(Position, Print)>,
    /// The first entry that its image does not hold.
    unsaved: Option<Position>,
    /// There is an image of it.
    imaged: bool,
    /// The last entry of the image from which it began, until the log is known to have it.
    begun_at: Option<(Position, Print)>,
}

/// An entry that is not judged yet.
struct Waiting {
    at: Position,
    print: Print,
    looked: Looked,
    ready: ReadBack,
}

impl Copy {
    /// A store that is not known yet: it begins with its image, if there is one.
    pub(super) fn begin(company: &Company, nook: &Nook, store: &StoreId) -> Result<Self, Broken> {
        let attic = nook.scratch().map(|scratch| scratch as Arc<dyn Attic>);
        let mut room = Workroom { limits: WorkLimits::default(), attic };
        if nook.keeps().is_some() {
            room = room.with_images();
        }
        let policy = base_policy(company.config.currency);
        let replica = Replica::new(replica_identity(&company.key, store), policy).in_room(&room);
        let fresh = RestoredStore::of(replica);
        let saved = nook.saved(store);
        let begun_at = saved.as_ref().map(|saved| saved.last);
        let made = match saved {
            Some(saved) => {
                let made = saved.apply(fresh);
                made.map_err(|stale| Broken::Misfit(format!("store {store}: {stale}")))?
            }
            None => fresh,
        };
        let RestoredStore { replica, positions, .. } = made;
        let (tail, unsaved, imaged) = (Vec::new(), None, begun_at.is_some());
        Ok(Self { replica, positions, tail, last: begun_at, unsaved, imaged, begun_at })
    }

    /// The log is known to have what stands before a place.
    ///
    /// # Errors
    /// It has no image.
    pub(super) fn is_known_before(&mut self, place: Position) -> Result<(), Broken> {
        let Some((through, _)) = self.last else {
            return Err(Broken::Misfit("a checkpoint is not there".to_owned()));
        };
        if through < place {
            self.begun_at = None;
        }
        Ok(())
    }

    /// Whether the log is known to be that of the image from which it began.
    pub(super) fn is_met(&self) -> bool {
        self.begun_at.is_none()
    }

    /// The first entry that no image holds.
    pub(super) fn unsaved(&self) -> Option<Position> {
        self.unsaved
    }

    pub(super) fn is_imaged(&self) -> bool {
        self.imaged
    }

    /// Whether it holds what its image does not.
    pub(super) fn is_changed(&self) -> bool {
        self.last.is_some_and(|(last, _)| self.unsaved.is_some_and(|unsaved| unsaved <= last))
    }

    /// Takes the next entry of the log that is this store's.
    pub(super) fn take(&mut self, at: Position, entry: &Entry) -> Result<(), Broken> {
        let misfit = |reason: String| Broken::Misfit(format!("entry {at}: {reason}"));
        let print = Print::of(entry);
        if self.holds(at, print)? {
            return Ok(());
        }
        let (_, read) =
            LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| misfit(error.to_string()))?;
        let mark = matches!(read, LogEntry::Posted(_));
        // What changes no books waits for nothing.
        let aside = matches!(read, LogEntry::Link(_) | LogEntry::Custody(_));
        let looked = Looked::of(&read);
        let ready = ReadBack::of(read).map_err(|error| misfit(error.to_string()))?;
        self.unsaved.get_or_insert(at);
        self.tail.push(Waiting { at, print, looked, ready });
        if mark || aside && self.tail.len() == 1 {
            self.take_in().map_err(misfit)?;
        }
        Ok(())
    }

    /// Whether the image from which it began holds an entry.
    fn holds(&mut self, at: Position, print: Print) -> Result<bool, Broken> {
        if self.begun_at.is_some_and(|(begun, of)| begun == at && of == print) {
            self.begun_at = None;
        }
        if self.begun_at.is_some_and(|(begun, _)| at >= begun) {
            return Err(Broken::Misfit(format!("entry {at}: a checkpoint is of another log")));
        }
        Ok(self.last.is_some_and(|(last, _)| at <= last))
    }

    /// Takes in what waits, up to the writer's mark. Where things stand is noted with it, never before: an image says nothing of
    /// what is behind the mark.
    fn take_in(&mut self) -> Result<(), String> {
        for Waiting { at, print, looked, ready } in self.tail.drain(..) {
            self.positions.note(looked, at);
            self.last = Some((at, print));
            self.replica.take_back(ready).map_err(|error| error.to_string())?;
        }
        self.replica.rest();
        Ok(())
    }

    /// Its image, if everything up to the mark is judged. `end`: up to where the log was read.
    pub(super) fn image(&mut self, end: Position) -> Option<(Taken, Print)> {
        let (through, print) = self.last?;
        Some((Taken::of(end, &mut self.replica, &mut self.positions, through)?, print))
    }

    /// That image is durable.
    pub(super) fn is_kept(&mut self) {
        (self.unsaved, self.imaged) = (self.tail.first().map(|first| first.at), true);
    }
}

#[cfg(test)]
mod tests {
    use engine::entry::{LinkChange, LinkMark};
    use engine::ids::WriterId;

    use super::*;
    use crate::identity::NodeKey;

    fn link(at_ms: i64) -> Entry {
        let mark = LinkMark { peer: WriterId([1; 32]), at_ms, what: LinkChange::Up };
        let (kind, bytes) = LogEntry::Link(mark).encode(&"store-1".parse().unwrap());
        Entry { kind, bytes }
    }

    fn copy(begun_at: Option<(Position, Print)>) -> Copy {
        let identity = replica_identity(&NodeKey::from_seed(&[7; 32]), &"store-1".parse().unwrap());
        let replica = Replica::new(identity, base_policy("GBP".parse().unwrap()));
        let positions = Positions::new(replica.room());
        let imaged = begun_at.is_some();
        Copy { replica, positions, tail: Vec::new(), last: begun_at, unsaved: None, imaged, begun_at }
    }

    #[test]
    fn what_an_image_holds_is_stepped_over_if_the_log_has_its_last_entry() {
        let image = Some((Position(5), Print::of(&link(5))));
        let mut fits = copy(image);
        for at in [2, 5] {
            fits.take(Position(at), &link(i64::try_from(at).unwrap())).ok().unwrap();
            assert_eq!((fits.unsaved(), fits.is_changed()), (None, false));
        }
        assert!(fits.is_met());
        fits.take(Position(9), &link(9)).ok().unwrap();
        assert_eq!((fits.unsaved(), fits.is_changed()), (Some(Position(9)), true));
        fits.is_kept();
        assert_eq!((fits.unsaved(), fits.is_changed()), (None, false));

        assert!(copy(image).take(Position(5), &link(6)).is_err(), "another entry is there");
        assert!(copy(image).take(Position(6), &link(6)).is_err(), "it is not there");
        let mut short = copy(image);
        short.take(Position(4), &link(4)).ok().unwrap();
        assert!(!short.is_met(), "the log ends before it");
    }
}
