//! Copying entries as they are, and knowing afterwards that they are the same. A copy that was cut off is gone on with if what is
//! there is the beginning of what should be.

use std::collections::BTreeMap;
use std::path::Path;

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::lease::shard_of;

use crate::database::Database;
use crate::error::Failure;
use crate::hub::log_options;
use crate::runtime::audit::{AUDIT_KIND, AuditEvent};
use crate::storage::vault::Vault;
use crate::storage::{Entry, Logs, Options, Position, Storage, folder_of, log_id};

/// Bytes appended at a time.
const STEP_BYTES: usize = 4 << 20;
/// Logs written at a time: each is a thread and two connections. The source is read once for so many.
const AT_A_TIME: usize = 16;

/// So many entries, and a hash over all of them in their order.
#[derive(Clone, Default)]
pub(super) struct Print {
    entries: u64,
    hasher: blake3::Hasher,
}

impl Print {
    fn take(&mut self, entry: &Entry) {
        self.entries += 1;
        self.hasher.update(&[entry.kind]).update(&(entry.bytes.len() as u64).to_le_bytes());
        self.hasher.update(&entry.bytes);
    }

    fn is(&self, other: &Print) -> bool {
        self.entries == other.entries && self.hasher.finalize() == other.hasher.finalize()
    }
}

/// What each log holds, by its number.
pub(super) type Prints = BTreeMap<u16, Print>;

/// The number of the log that an entry belongs in.
pub(super) fn number_of(entry: &Entry, shards: u16) -> Result<u16, Failure> {
    if shards == 0 {
        return Ok(0);
    }
    if entry.kind == AUDIT_KIND {
        let store = AuditEvent::decode(&entry.bytes).and_then(|event| event.store);
        return Ok(store.map_or(0, |store| shard_of(&store, shards)));
    }
    if entry.kind >= NODE_KINDS_FROM {
        return Ok(0);
    }
    let store = LogEntry::store_of(&entry.bytes).map_err(Failure::refused)?;
    Ok(shard_of(store.as_str(), shards))
}

/// What logs hold, spread over so many shards.
pub(super) fn prints(logs: &Logs, shards: u16) -> Result<Prints, Failure> {
    let mut prints = Prints::new();
    logs.replay(&mut |_, entry| {
        prints.entry(number_of(&entry, shards)?).or_default().take(&entry);
        Ok::<(), Failure>(())
    })?;
    Ok(prints)
}

/// What each log of a copy holds, as the copy has them.
pub(super) fn prints_of_copy(logs: &Logs) -> Result<Prints, Failure> {
    let mut prints = Prints::new();
    logs.replay(&mut |at, entry| {
        prints.entry(at.log).or_default().take(&entry);
        Ok::<(), Failure>(())
    })?;
    Ok(prints)
}

/// Every log of a copy must hold what was to be in it.
pub(super) fn compare(wanted: &Prints, copy: &Prints) -> Result<(), Failure> {
    let nothing = Print::default();
    let of = |prints: &Prints, number: u16| prints.get(&number).unwrap_or(&nothing).clone();
    match wanted.keys().chain(copy.keys()).find(|number| !of(wanted, **number).is(&of(copy, **number))) {
        None => Ok(()),
        Some(number) => Err(Failure::untrue(format!(
            "what was copied into log {number} is not what the source holds; nothing was switched, the hub runs where it ran \
             before. Run this again"
        ))),
    }
}

/// A log that is being filled.
struct Target {
    number: u16,
    storage: Storage,
    /// What was there already.
    there: Print,
    seen: Print,
    waiting: Vec<Entry>,
    bytes: usize,
}

impl Target {
    fn new(number: u16, storage: Storage) -> Result<Self, Failure> {
        let mut there = Print::default();
        storage.replay(Position(0), &mut |_, entry| {
            there.take(&entry);
            Ok::<(), Failure>(())
        })?;
        Ok(Self { number, storage, there, seen: Print::default(), waiting: Vec::new(), bytes: 0 })
    }

    fn take(&mut self, entry: Entry) -> Result<(), Failure> {
        self.seen.take(&entry);
        if self.seen.entries <= self.there.entries {
            return if self.seen.entries == self.there.entries { self.same_beginning() } else { Ok(()) };
        }
        self.bytes += entry.bytes.len();
        self.waiting.push(entry);
        if self.bytes >= STEP_BYTES { self.append() } else { Ok(()) }
    }

    fn same_beginning(&self) -> Result<(), Failure> {
        if self.seen.is(&self.there) {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "log {} in the new place holds something else than the beginning of the source; give the move up (--give-up) and \
             begin again",
            self.number
        )))
    }

    fn append(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        self.storage.append_blocking(std::mem::take(&mut self.waiting))?;
        Ok(())
    }

    /// Everything is there, durably.
    fn end(mut self) -> Result<Position, Failure> {
        if self.seen.entries < self.there.entries {
            self.same_beginning()?;
        }
        self.append()?;
        let end = self.storage.end();
        self.storage.close()?;
        Ok(end)
    }
}

/// Where and how the logs of a company in a database are written.
pub(super) struct Writing<'a> {
    pub(super) dir: &'a Path,
    pub(super) database: &'a Database,
    pub(super) company: [u8; 16],
    pub(super) shards: u16,
    pub(super) vault: Option<Vault>,
    pub(super) mover: [u8; 16],
}

impl Writing<'_> {
    /// Writes everything that `source` holds; returns where the company's own log ends.
    pub(super) fn write(&self, source: &Logs, aside: &Path) -> Result<Position, Failure> {
        let numbers: Vec<u16> = (0..=self.shards).collect();
        let mut own_end = Position(0);
        for some in numbers.chunks(AT_A_TIME) {
            let mut targets = BTreeMap::new();
            for number in some {
                targets.insert(*number, Target::new(*number, self.open(*number, aside)?)?);
            }
            source.replay(&mut |_, entry| match targets.get_mut(&number_of(&entry, self.shards)?) {
                Some(target) => target.take(entry),
                None => Ok(()),
            })?;
            for (number, target) in targets {
                let end = target.end()?;
                own_end = if number == 0 { end } else { own_end };
            }
        }
        Ok(own_end)
    }

    fn open(&self, number: u16, aside: &Path) -> Result<Storage, Failure> {
        let folder = if self.shards == 0 { aside.to_path_buf() } else { folder_of(self.dir, number) };
        let mut options = log_options(self.database, Some(self.mover));
        options.log_id = Some(log_id(self.company, number));
        options.vault = self.vault.clone();
        Ok(Storage::open(&folder, &options)?.0)
    }
}

/// Writes everything that `source` holds into segment files in an empty folder.
pub(super) fn into_files(
    source: &Logs,
    folder: &Path,
    log_id: [u8; 16],
    vault: Option<Vault>,
) -> Result<(), Failure> {
    let options = Options { log_id: Some(log_id), vault, ..Options::default() };
    let (storage, _) = Storage::open(folder, &options)?;
    let mut target = Target::new(0, storage)?;
    source.replay(&mut |_, entry| target.take(entry))?;
    target.end().map(drop)
}
