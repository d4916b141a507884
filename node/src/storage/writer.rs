//! The writer: it owns the newest segment, commits groups and answers for them. A thread of its own does that for whoever
//! appends; a caller that finds nobody at the desk and nothing in line may do it himself, which spares him two changes of
//! thread, often longer than the disk takes.
//!
//! The law of this file: **nothing of group g+1 is written before group g is durable, and nobody is answered before
//! the group holding all his entries is.** One pwrite, one fdatasync, then the callbacks. The place was filled with
//! zeros and synced before, so a commit changes no metadata.
//!
//! Two kinds of failure. Setting space aside fails *before* anything of the group is written: the group is refused
//! (`DiskFull`) and the next one tries again. Everything else (a write, an fsync) leaves the disk in a state that
//! nobody knows, so it poisons: this group and all later ones are refused until the store is opened again.
//!
//! The zeros written ahead are the reserve of a full disk: they are the log's own, so no other program eats them. A disk
//! counts as full from the first group that cannot leave the reserve behind it, and until it can be left again; the
//! writer looks for that by itself while nobody appends.

use super::disk::{Disk, Role, is_full};
use super::frame::Seal;
use super::mark::Mark;
use super::queue::{Job, Next};
use super::reader::Reader;
use super::segment::{HEADER_BYTES, Header, Segment, write_zeros};
use super::shared::{Alarm, Shared, answer, refuse};
use super::{Options, Position, StorageError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Space is set aside in whole pages when a whole step does not fit any more.
const PAGE_BYTES: u64 = 4096;
/// How often a full disk is asked whether there is space again.
const LOOK_FOR_SPACE_EVERY: Duration = Duration::from_secs(1);

/// The sizes a writer goes by; see `Options`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes of frames that a segment can hold.
    pub(super) capacity: u64,
    pub(super) ahead: u64,
    pub(super) reserve: u64,
    pub(super) group_max: usize,
}

impl Sizes {
    pub(super) fn new(options: &Options) -> Result<Sizes, StorageError> {
        let Options { segment_bytes, ahead_bytes, reserve_bytes, group_bytes_max, .. } = *options;
        let wrong = |reason: String| Err(StorageError::BadOptions { reason });
        if !(4 << 10..=1 << 30).contains(&segment_bytes) {
            return wrong(format!("segment_bytes is {segment_bytes}, must be 4 KiB to 1 GiB"));
        }
        if reserve_bytes > segment_bytes / 2 {
            return wrong(format!("reserve_bytes is {reserve_bytes}, must be at most half a segment"));
        }
        if ahead_bytes == 0 || group_bytes_max == 0 || group_bytes_max > super::GROUP_BYTES_MAX {
            return wrong(format!(
                "ahead_bytes is {ahead_bytes} and group_bytes_max {group_bytes_max}; both must be at least 1, the \
                 latter at most {}",
                super::GROUP_BYTES_MAX
            ));
        }
        let (capacity, ahead) = (segment_bytes - HEADER_BYTES, ahead_bytes);
        Ok(Sizes { capacity, ahead, reserve: reserve_bytes, group_max: group_bytes_max })
    }

    /// The largest append, frames included: it must fit one group and one empty segment.
    pub(super) fn append_max(&self) -> usize {
        usize::try_from(self.capacity - self.reserve).unwrap_or(usize::MAX).min(self.group_max)
    }

    /// Bytes of zeros that a new segment starts with, to take a first group of `bytes`.
    pub(super) fn first_ahead(&self, bytes: u64) -> u64 {
        (bytes + self.reserve).next_multiple_of(self.ahead).min(self.capacity)
    }
}

/// Where one at a time writes: groups are taken from the queue by him only, so they are written in their order.
pub(super) type Desk = Mutex<Writer>;

/// What whoever is at the desk works with.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Arc<Reader>,
    pub(super) disk: Disk,
    pub(super) log: PathBuf,
    pub(super) log_id: [u8; 16],
    pub(super) seal: Seal,
    /// Names the data key, if there is one.
    pub(super) key: Option<[u8; 16]>,
    pub(super) sizes: Sizes,
    pub(super) mark: Mark,
    /// The newest segment; its descriptor is held since opening, so no writeback error can be missed.
    pub(super) segment: Segment,
    /// End of what is durable.
    pub(super) end: u64,
    /// Zeros are durable up to this position.
    pub(super) ahead_to: u64,
    pub(super) buffer: Vec<u8>,
}

/// Writes what is in line until the door closes; then syncs the mark.
pub(super) fn run(desk: &Desk, shared: &Shared) {
    let _alarm = Alarm(shared);
    loop {
        let timeout = {
            let mut writer = sit_down(desk);
            match writer.look_again_in() {
                Some(Duration::ZERO) => {
                    writer.sync_mark();
                    continue;
                }
                timeout => timeout,
            }
        };
        match shared.queue.wait(timeout) {
            Next::Group => {
                let mut writer = sit_down(desk);
                let jobs = shared.queue.take(writer.sizes.group_max);
                writer.commit(jobs);
            }
            Next::Idle => {
                let mut writer = sit_down(desk);
                writer.sync_mark();
                writer.look_for_space();
            }
            Next::Nudged => {}
            Next::Closed => break,
        }
    }
    if shared.usable().is_ok() {
        sit_down(desk).sync_mark();
    }
}

/// Commits a job at once if nobody is at the desk and nothing is in line; gives it back otherwise.
pub(super) fn commit_here(desk: &Desk, shared: &Shared, job: Job) -> Option<Job> {
    let Ok(mut writer) = desk.try_lock() else { return Some(job) };
    // Nobody else takes anything out of the queue while we are here.
    if !shared.queue.is_idle() {
        return Some(job);
    }
    let rests = writer.look_again_in().is_none();
    writer.commit(vec![job]);
    if rests {
        // The thread waits for appends only: from now on the mark wants a sync.
        shared.queue.nudge();
    }
    None
}

/// A writer that panicked has poisoned the store: whoever comes after him is refused by `commit`.
fn sit_down(desk: &Desk) -> MutexGuard<'_, Writer> {
    desk.lock().unwrap_or_else(|broken| {
        let writer = broken.into_inner();
        let _ = writer.shared.poison.set("the writer panicked; please report this".to_owned());
        writer
    })
}

impl Writer {
    /// When the mark wants a sync, or a full disk to be asked again.
    fn look_again_in(&self) -> Option<Duration> {
        let looks = self.shared.full.load(Ordering::Acquire).then_some(LOOK_FOR_SPACE_EVERY);
        let due = self.mark.due_in().into_iter().chain(looks).min();
        due.filter(|_| self.shared.usable().is_ok())
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let Some(jobs) = self.admit(jobs) else { return };
        let positions = self.encode(&jobs);
        if let Err(error) = self.write_group() {
            self.poison(&error);
            return refuse(jobs, &self.refusal());
        }
        self.end += self.buffer.len() as u64;
        self.reader.publish(self.end);
        self.shared.room.store(self.ahead_to - self.end, Ordering::Release);
        // The group is durable whatever happens to the mark, so it is answered with Ok either way.
        if let Err(error) = self.mark.advance(self.end, self.segment.base) {
            self.poison(&error);
        }
        for (job, positions) in jobs.into_iter().zip(positions) {
            answer(job, Ok(positions));
        }
    }

    /// Sets space aside for the group; answers those that cannot be taken and returns the rest.
    fn admit(&mut self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        if let Err(error) = self.shared.usable() {
            refuse(jobs, &error);
            return None;
        }
        let Err(error) = self.make_room(total(&jobs), true) else {
            self.shared.full.store(false, Ordering::Release);
            return Some(jobs);
        };
        if !matches!(error, StorageError::DiskFull { .. }) {
            self.poison(&error);
            refuse(jobs, &self.refusal());
            return None;
        }
        // Who only asked for room has his answer, and the others are looked at without it.
        let (asking, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.entries.is_empty());
        if !asking.is_empty() {
            refuse(asking, &error);
            return if jobs.is_empty() { None } else { self.admit(jobs) };
        }
        self.shared.full.store(true, Ordering::Release);
        // The reserve is for the urgent ones of the group.
        let (urgent, others): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.urgent);
        refuse(others, &error);
        if urgent.is_empty() {
            return None;
        }
        match self.make_room(total(&urgent), false) {
            Ok(()) => return Some(urgent),
            Err(error @ StorageError::DiskFull { .. }) => refuse(urgent, &error),
            Err(error) => {
                self.poison(&error);
                refuse(urgent, &self.refusal());
            }
        }
        None
    }

    /// Whether a full disk has space again.
    fn look_for_space(&mut self) {
        if !self.shared.full.load(Ordering::Acquire) {
            return;
        }
        match self.make_room(0, true) {
            Ok(()) => self.shared.full.store(false, Ordering::Release),
            Err(StorageError::DiskFull { .. }) => {}
            Err(error) => self.poison(&error),
        }
    }

    /// Lays the frames of all jobs into the buffer and says where each will be.
    fn encode(&mut self, jobs: &[Job]) -> Vec<Vec<Position>> {
        self.buffer.clear();
        let (seal, buffer, end) = (&self.seal, &mut self.buffer, self.end);
        let mut place = |entry: &super::Entry| {
            let back = buffer.len();
            let at = end + back as u64;
            seal.encode(buffer, at, back, entry.kind, &entry.bytes);
            Position(at)
        };
        jobs.iter().map(|job| job.entries.iter().map(&mut place).collect()).collect()
    }

    fn write_group(&self) -> Result<(), StorageError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        assert!(self.end + self.buffer.len() as u64 <= self.ahead_to, "space was set aside before");
        let Segment { file, path, .. } = &self.segment;
        let offset = self.segment.offset_of(self.end);
        let written = self.disk.write_at(Role::Commit, file, &self.buffer, offset);
        written.map_err(|e| StorageError::io("writing", path, &e))?;
        self.disk.sync(Role::Commit, file).map_err(|e| StorageError::io("syncing", path, &e))
    }

    /// Makes sure that `bytes` fit the synced zeros of the newest segment; ordinary groups leave the reserve behind.
    fn make_room(&mut self, bytes: u64, ordinary: bool) -> Result<(), StorageError> {
        let reserve = if ordinary { self.sizes.reserve } else { 0 };
        if self.end + bytes + reserve > self.segment.base + self.sizes.capacity.max(self.segment_capacity()) {
            self.rotate(bytes)?;
        }
        let needed = self.end + bytes + reserve;
        if needed <= self.ahead_to {
            return Ok(());
        }
        let steps = [self.sizes.ahead, PAGE_BYTES];
        let last = self.segment.base + self.sizes.capacity;
        let [step, page] =
            steps.map(|step| (needed - self.segment.base).next_multiple_of(step) + self.segment.base);
        let mut set_aside = self.extend(step.min(last).max(needed));
        if set_aside.as_ref().is_err_and(is_full) {
            set_aside = self.extend(page.min(last).max(needed));
        }
        set_aside.map_err(|e| self.no_room(&e, needed - self.ahead_to, "writing zeros ahead in"))
    }

    /// A segment opened with smaller options may already be longer than they say; its zeros are used up first.
    fn segment_capacity(&self) -> u64 {
        self.ahead_to - self.segment.base
    }

    fn extend(&mut self, to: u64) -> io::Result<()> {
        let Segment { file, .. } = &self.segment;
        let (from, until) = (self.segment.offset_of(self.ahead_to), self.segment.offset_of(to));
        write_zeros(&self.disk, Role::Ahead, file, from, until)?;
        self.disk.sync(Role::Ahead, file)?;
        self.ahead_to = to;
        Ok(())
    }

    /// Starts a new segment at the end of the log: complete, synced and named before anything is acknowledged in it.
    fn rotate(&mut self, bytes: u64) -> Result<(), StorageError> {
        let header = Header { log_id: self.log_id, base: self.end, key: self.key };
        let ahead = self.sizes.first_ahead(bytes);
        let segment = Segment::create(&self.disk, &self.log, header, ahead);
        let segment = segment.map_err(|e| self.no_room(&e, ahead + HEADER_BYTES, "creating a segment in"))?;
        // From here on a failure poisons: the name exists, perhaps not durably. Never DiskFull.
        self.disk.sync_folder(&self.log)?;
        self.ahead_to = segment.limit();
        self.segment = segment;
        self.reader.add_segment(self.end);
        self.mark.advance(self.end, self.segment.base)?;
        self.mark.sync()
    }

    fn no_room(&self, error: &io::Error, needed: u64, operation: &'static str) -> StorageError {
        if is_full(error) {
            StorageError::DiskFull { needed, path: self.log.clone() }
        } else {
            StorageError::io(operation, &self.log, error)
        }
    }

    fn sync_mark(&mut self) {
        if let Err(error) = self.mark.sync() {
            self.poison(&error);
        }
    }

    fn poison(&self, error: &StorageError) {
        self.shared.poison(error);
    }

    fn refusal(&self) -> StorageError {
        self.shared.refusal()
    }
}

fn total(jobs: &[Job]) -> u64 {
    jobs.iter().map(|job| job.bytes as u64).sum()
}
