//! Where what belongs to records is kept, by slot: the newest as it is, the rest packed, a chunk of slots to a piece.
//! Asking for a packed one unpacks its chunk; [`Shelf::rest_a_chunk`] packs again what is over the limit. Memory follows what is
//! in use, not the history; no answer depends on what is packed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zstd::bulk::{Compressor, Decompressor};

use crate::attic::{Packed, Workroom, room_of_image};

/// A row by number.
pub type Slot = u32;

/// How much of the books stays unpacked, and how much is judged at once. Never part of an answer: the simulator and the
/// tests run with the least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkLimits {
    /// Slots that are packed together, at least 1.
    pub chunk_rows: usize,
    /// Chunks that stay unpacked, beside the one that is being filled.
    pub awake_chunks: usize,
    /// Rows of an index that stay unsorted in memory, at least 1.
    pub fresh_rows: usize,
    /// Families that are judged before others have their turn, at least 1.
    pub families_at_once: usize,
}

impl WorkLimits {
    /// Everything that can be is packed, and little is judged at once: for finding out whether it is ever missed.
    pub const TIGHTEST: Self = Self { chunk_rows: 3, awake_chunks: 0, fresh_rows: 5, families_at_once: 2 };

    /// Of a node with a single store, a till: what it captured is still unpacked when it is sealed, some 5 MB.
    pub const ONE_STORE: Self =
        Self { chunk_rows: 32, awake_chunks: 128, fresh_rows: 4_096, families_at_once: 1_024 };
}

impl Default for WorkLimits {
    /// Of a node with many stores, a hub.
    fn default() -> Self {
        // Half as many rows again as are judged at once stay unpacked. Twice as many of all cost 0.8 MB a store more and
        // made a bulk of many stores no faster; half as many made it slower.
        Self { chunk_rows: 32, awake_chunks: 12, fresh_rows: 1_024, families_at_once: 256 }
    }
}

/// How hard packing tries (zstd).
const LEVEL: i32 = 1;
/// So many times more rows of a few bytes are packed together than rows of some size.
const SMALL_ROWS: usize = 8;
/// What is overdue is over its limit by this part of it.
const OVERDUE_PART: usize = 8;
/// Of what stays unpacked otherwise, whoever is idle keeps this part, and so many chunks at least.
const IDLE_PART: usize = 8;
const IDLE_CHUNKS: usize = 2;
/// More slots are never packed together.
const ROWS_LIMIT: usize = 1 << 16;
/// So many of the newest full chunks are still expected to change.
const PACKED_BEHIND: usize = 4;
/// Memory that unpacking may claim; more than any chunk of lawful records holds.
const UNPACKED_LIMIT: usize = 1 << 30;

/// Rows of one kind, by slot.
#[derive(Debug)]
pub struct Shelf<T> {
    room: Workroom,
    cut: Cut,
    chunks: Vec<Chunk<T>>,
    len: usize,
    /// Full chunks that are unpacked, in the order in which they were.
    awake: Mutex<VecDeque<usize>>,
    /// Chunks before this one were packed once, so that an image finds little to pack.
    packed_to: usize,
}

/// How a shelf is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// Slots that are packed together, at least 1.
    pub rows: usize,
    /// Chunks that stay unpacked, beside the one that is being filled.
    pub awake: usize,
}

/// What of the work of packing is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Whatever is over a limit: for moments in which nobody waits.
    Now,
    /// Nearly everything: for those who expect nothing more for a while.
    Idle,
    /// What is far over it: for those who come before such a moment.
    Overdue,
}

/// Rows of neighbouring slots: unpacked, packed, or both if nothing changed since.
#[derive(Clone, Debug)]
struct Chunk<T> {
    rows: OnceLock<Vec<T>>,
    packed: Option<Packed>,
}

/// How a chunk is packed: its rows, and the slot of the first.
pub trait Packing<T> {
    /// The rows as bytes.
    fn pack(&self, first: Slot, rows: &[T]) -> Vec<u8>;
    /// The rows of bytes that `pack` made; `None` if it did not make them.
    fn unpack(&self, first: Slot, bytes: &[u8]) -> Option<Vec<T>>;
}

/// Rows packed as serde sees them, compressed.
pub(crate) struct Pressed;

impl<T: Serialize + DeserializeOwned> Packing<T> for Pressed {
    fn pack(&self, _: Slot, rows: &[T]) -> Vec<u8> {
        press(&rows)
    }

    fn unpack(&self, _: Slot, bytes: &[u8]) -> Option<Vec<T>> {
        unpress(bytes)
    }
}

impl<T: Clone> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        let awake = Mutex::new(self.awake().clone());
        let (room, chunks) = (self.room.clone(), self.chunks.clone());
        Self { room, cut: self.cut, chunks, len: self.len, awake, packed_to: self.packed_to }
    }
}

impl<T> Shelf<T> {
    /// An empty shelf for rows of some size: a record, or what is judged of it.
    #[must_use]
    pub fn new(room: &Workroom) -> Self {
        let cut = Cut { rows: room.limits.chunk_rows, awake: room.limits.awake_chunks };
        Self::cut(room, cut)
    }

    /// An empty shelf for rows of a few bytes.
    #[must_use]
    pub fn of_small(room: &Workroom) -> Self {
        let cut =
            Cut { rows: room.limits.chunk_rows * SMALL_ROWS, awake: room.limits.awake_chunks / SMALL_ROWS };
        Self::cut(room, cut)
    }

    /// An empty shelf that is cut otherwise.
    #[must_use]
    pub fn cut(room: &Workroom, cut: Cut) -> Self {
        Self { room: room.clone(), cut, chunks: Vec::new(), len: 0, awake: Mutex::default(), packed_to: 0 }
    }

    /// Where it was made.
    #[must_use]
    pub fn room(&self) -> &Workroom {
        &self.room
    }

    fn place(&self, slot: Slot) -> (usize, usize) {
        (slot as usize / self.cut.rows, slot as usize % self.cut.rows)
    }

    /// First slot of a chunk.
    fn first_of(&self, chunk: usize) -> Slot {
        Slot::try_from(chunk * self.cut.rows).expect("slots are 32 bits")
    }

    /// The chunk of a slot.
    #[must_use]
    pub fn chunk_of(&self, slot: Slot) -> usize {
        self.place(slot).0
    }

    fn awake(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.awake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the row of the next slot.
    pub fn push(&mut self, row: T) {
        if self.len.is_multiple_of(self.cut.rows) {
            let rows = OnceLock::from(Vec::with_capacity(self.cut.rows));
            self.chunks.push(Chunk { rows, packed: None });
        }
        let last = self.chunks.last_mut().expect("a chunk was opened");
        last.rows.get_mut().expect("the chunk that is filled is never packed").push(row);
        self.len += 1;
        if self.len.is_multiple_of(self.cut.rows) {
            let at = self.chunks.len() - 1;
            self.awake().push_back(at);
        }
    }

    /// The row of a slot.
    #[must_use]
    pub fn get(&self, slot: Slot, packing: &impl Packing<T>) -> &T {
        let (at, within) = self.place(slot);
        &self.rows(at, packing)[within]
    }

    fn rows(&self, at: usize, packing: &impl Packing<T>) -> &[T] {
        self.chunks[at].rows.get_or_init(|| {
            self.awake().push_back(at);
            self.chunks[at].unpack(self.first_of(at), packing)
        })
    }

    /// The row of a slot, to be changed.
    pub fn get_mut(&mut self, slot: Slot, packing: &impl Packing<T>) -> &mut T {
        let (at, within) = self.place(slot);
        self.rows(at, packing);
        let chunk = &mut self.chunks[at];
        chunk.packed = None;
        &mut chunk.rows.get_mut().expect("unpacked a line above")[within]
    }

    /// Puts another row into a slot and gives back the one that was there.
    pub fn replace(&mut self, slot: Slot, row: T, packing: &impl Packing<T>) -> T {
        std::mem::replace(self.get_mut(slot, packing), row)
    }

    /// Packs a chunk, if one is due: the one that has been unpacked longest, if they are over the limit, or, where images are
    /// made, the next that has not changed for a while, which stays unpacked too. Whether it did: a chunk takes as long as
    /// filing a record, so whoever has somebody waiting asks for one at a time. What is only let go, or is over the limit by
    /// more than it may ever be, is done at once.
    pub fn rest_a_chunk(&mut self, due: Due, packing: &impl Packing<T>) -> bool {
        let (awake, slack) = match due {
            Due::Idle => ((self.cut.awake / IDLE_PART).max(IDLE_CHUNKS).min(self.cut.awake), 0),
            Due::Now => (self.cut.awake, 0),
            Due::Overdue => (self.cut.awake, self.cut.awake / OVERDUE_PART),
        };
        let mut packed = false;
        while self.awake().len() > awake + slack {
            if packed && self.awake().len() <= awake + 2 * slack {
                return true;
            }
            let Some(at) = self.awake().pop_front() else { break };
            packed |= self.pack_chunk(at, packing);
            self.chunks[at].rows = OnceLock::new();
        }
        let image_to = if self.room.makes_images() { self.len / self.cut.rows } else { 0 };
        while !packed && self.packed_to + PACKED_BEHIND + slack < image_to {
            packed = self.pack_chunk(self.packed_to, packing);
            self.packed_to += 1;
        }
        packed
    }

    /// Calls `each` for every row from slot 0 on, without keeping what has to be unpacked for it.
    pub fn for_each(&self, packing: &impl Packing<T>, each: impl FnMut(Slot, &T)) {
        let end = Slot::try_from(self.len).expect("slots are 32 bits");
        self.visit(0..end, packing, each);
    }

    /// Calls `each` for the rows of slots in ascending order, without keeping what has to be unpacked for it.
    pub fn for_slots(&self, slots: &[Slot], packing: &impl Packing<T>, each: impl FnMut(Slot, &T)) {
        self.visit(slots.iter().copied(), packing, each);
    }

    fn visit(
        &self,
        slots: impl Iterator<Item = Slot>,
        packing: &impl Packing<T>,
        mut each: impl FnMut(Slot, &T),
    ) {
        let mut unpacked: Option<(usize, Vec<T>)> = None;
        for slot in slots {
            let (at, within) = self.place(slot);
            if let Some(rows) = self.chunks[at].rows.get() {
                each(slot, &rows[within]);
                continue;
            }
            let (_, rows) = match unpacked.take().filter(|(known, _)| *known == at) {
                Some(known) => unpacked.insert(known),
                None => unpacked.insert((at, self.chunks[at].unpack(self.first_of(at), packing))),
            };
            each(slot, &rows[within]);
        }
    }

    /// Packs every full chunk and keeps unpacked what is: so much as an image needs.
    pub fn pack(&mut self, packing: &impl Packing<T>) {
        let full = self.len / self.cut.rows;
        for at in 0..full {
            self.pack_chunk(at, packing);
        }
    }

    /// Packs a chunk that is not packed; whether it was not.
    fn pack_chunk(&mut self, at: usize, packing: &impl Packing<T>) -> bool {
        let first = self.first_of(at);
        let chunk = &mut self.chunks[at];
        if chunk.packed.is_some() {
            return false;
        }
        let rows = chunk.rows.get().map_or(&[][..], Vec::as_slice);
        chunk.packed = Some(Packed::put(&self.room, packing.pack(first, rows)));
        true
    }
}

/// The image of a shelf: how it is cut, its pieces, and the rows that are in none.
impl<T: Serialize> Serialize for Shelf<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (full, open) = self.chunks.split_at(self.len / self.cut.rows);
        let pieces: Option<Vec<&Packed>> = full.iter().map(|chunk| chunk.packed.as_ref()).collect();
        let pieces = pieces.ok_or_else(|| S::Error::custom("a full chunk was not packed for the image"))?;
        let rows = open.first().and_then(|chunk| chunk.rows.get()).map_or(&[][..], Vec::as_slice);
        (self.cut, pieces, rows).serialize(to)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shelf<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (cut, pieces, rows) = <(Cut, Vec<Packed>, Vec<T>)>::deserialize(from)?;
        if !(1..=ROWS_LIMIT).contains(&cut.rows) || rows.len() >= cut.rows {
            return Err(D::Error::custom("a shelf is cut otherwise than it says"));
        }
        let room = room_of_image::<D>()?;
        // A node that keeps less than the one that made the image does so from now on.
        let cut = Cut { awake: cut.awake.min(room.limits.awake_chunks), ..cut };
        let mut shelf = Self::cut(&room, cut);
        (shelf.len, shelf.packed_to) = (pieces.len() * cut.rows, pieces.len());
        let packed = |piece| Chunk { rows: OnceLock::new(), packed: Some(piece) };
        shelf.chunks = pieces.into_iter().map(packed).collect();
        rows.into_iter().for_each(|row| shelf.push(row));
        Ok(shelf)
    }
}

impl<T> Chunk<T> {
    fn unpack(&self, first: Slot, packing: &impl Packing<T>) -> Vec<T> {
        let packed = self.packed.as_ref().expect("a chunk is packed if it is not unpacked");
        packing.unpack(first, &packed.bytes()).expect("a chunk unpacks as it was packed")
    }
}

thread_local! {
    /// Kept, because making one costs more than a chunk takes.
    static ZSTD: RefCell<Option<(Compressor<'static>, Decompressor<'static>)>> = const { RefCell::new(None) };
}

fn with_zstd<A>(work: impl FnOnce(&mut Compressor<'static>, &mut Decompressor<'static>) -> A) -> A {
    ZSTD.with_borrow_mut(|kept| {
        let (compressor, decompressor) = kept.get_or_insert_with(|| {
            let compressor = Compressor::new(LEVEL).expect("a level that zstd knows");
            (compressor, Decompressor::new().expect("memory for a decompressor"))
        });
        work(compressor, decompressor)
    })
}

/// Values as compressed bytes, after their length.
pub(crate) fn press<V: Serialize>(values: &V) -> Vec<u8> {
    let plain = crate::codec::encode(values);
    let packed =
        with_zstd(|zstd, _| zstd.compress(&plain)).expect("memory to memory compression does not fail");
    let mut bytes = (plain.len() as u64).to_le_bytes().to_vec();
    bytes.extend(packed);
    bytes
}

/// What `press` was given; `None` if the bytes are not of that kind.
pub(crate) fn unpress<V: DeserializeOwned>(bytes: &[u8]) -> Option<V> {
    let (len, packed) = bytes.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok().filter(|len| *len <= UNPACKED_LIMIT)?;
    let plain = with_zstd(|_, zstd| zstd.decompress(packed, len)).ok()?;
    crate::codec::decode::<V, UNPACKED_LIMIT>(&plain).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::attic::{Attic, MemoryAttic, in_room};

    const LIMITS: WorkLimits =
        WorkLimits { chunk_rows: 8, awake_chunks: 3, fresh_rows: 1, families_at_once: 1 };

    fn room() -> Workroom {
        Workroom { limits: LIMITS, attic: None }
    }

    struct Texts;

    impl Packing<String> for Texts {
        fn pack(&self, first: Slot, rows: &[String]) -> Vec<u8> {
            press(&(first, rows))
        }

        fn unpack(&self, first: Slot, bytes: &[u8]) -> Option<Vec<String>> {
            let (packed_first, rows): (Slot, Vec<String>) = unpress(bytes)?;
            (packed_first == first).then_some(rows)
        }
    }

    fn shelf_of(rows: usize, room: &Workroom) -> Shelf<String> {
        let mut shelf = Shelf::new(room);
        for slot in 0..rows {
            shelf.push(format!("row {slot}"));
            while shelf.rest_a_chunk(Due::Now, &Texts) {}
        }
        shelf
    }

    fn unpacked(shelf: &Shelf<String>) -> usize {
        shelf.chunks.iter().filter(|chunk| chunk.rows.get().is_some()).count()
    }

    #[test]
    fn every_row_is_what_was_pushed_or_replaced_however_much_is_packed() {
        let count = LIMITS.chunk_rows * (LIMITS.awake_chunks * 3) + 7;
        let mut shelf = shelf_of(count, &room());
        assert_eq!(shelf.len(), count);
        assert_eq!(unpacked(&shelf), LIMITS.awake_chunks + 1, "the newest, and the one that is filled");
        assert_eq!(shelf.replace(3, "other".to_owned(), &Texts), "row 3");
        for slot in 0..count {
            let row = shelf.get(Slot::try_from(slot).unwrap(), &Texts);
            assert_eq!(*row, if slot == 3 { "other".to_owned() } else { format!("row {slot}") });
        }
        while shelf.rest_a_chunk(Due::Now, &Texts) {}
        assert_eq!(unpacked(&shelf), LIMITS.awake_chunks + 1);
        assert_eq!(shelf.get(3, &Texts), "other", "what changed was packed anew");
    }

    #[test]
    fn what_is_overdue_is_packed_a_chunk_at_a_time_and_the_rest_when_nobody_waits() {
        let cut = Cut { rows: 4, awake: 2 * OVERDUE_PART };
        let room = Workroom { limits: LIMITS, attic: Some(Arc::new(MemoryAttic::default())) }.with_images();
        let packed = |shelf: &Shelf<String>| shelf.chunks.iter().filter(|it| it.packed.is_some()).count();
        let mut shelf = Shelf::cut(&room, cut);
        let mut most = 0;
        for slot in 0..600 {
            shelf.push(format!("row {slot}"));
            // Rows that were packed change again, as with a record that is referred to.
            shelf.get_mut(slot / 2, &Texts).push('!');
            let before = packed(&shelf);
            let worked = shelf.rest_a_chunk(Due::Overdue, &Texts);
            assert_eq!(packed(&shelf) - before, usize::from(worked), "at slot {slot}");
            most = most.max(shelf.awake().len());
        }
        assert!((cut.awake + 1..=cut.awake + 4).contains(&most), "{most}");
        assert!(shelf.rest_a_chunk(Due::Now, &Texts));
        while shelf.rest_a_chunk(Due::Now, &Texts) {}
        assert_eq!(shelf.awake().len(), cut.awake);
        assert_eq!(shelf.packed_to + PACKED_BEHIND, shelf.len() / cut.rows);
        shelf.for_each(&Texts, |slot, row| assert!(row.starts_with(&format!("row {slot}"))));
    }

    #[test]
    fn whoever_is_idle_keeps_little_unpacked() {
        let packed_to = |awake, idle| {
            let mut shelf = Shelf::cut(&room(), Cut { rows: 4, awake });
            (0..4_000).for_each(|row| shelf.push(format!("row {row}")));
            while shelf.rest_a_chunk(Due::Now, &Texts) {}
            assert_eq!(shelf.awake().len(), awake);
            while shelf.rest_a_chunk(Due::Idle, &Texts) {}
            assert_eq!(shelf.awake().len(), idle);
            shelf.for_each(&Texts, |slot, row| assert_eq!(*row, format!("row {slot}")));
        };
        packed_to(5 * IDLE_PART, 5);
        packed_to(IDLE_PART, IDLE_CHUNKS);
        packed_to(1, 1);
    }

    #[test]
    fn going_through_all_rows_keeps_nothing_unpacked() {
        let shelf = shelf_of(LIMITS.chunk_rows * (LIMITS.awake_chunks + 9), &room());
        let before = unpacked(&shelf);
        let mut seen = Vec::new();
        shelf.for_each(&Texts, |slot, row| {
            assert_eq!(*row, format!("row {slot}"));
            seen.push(slot);
        });
        assert_eq!(seen.len(), shelf.len());
        assert_eq!(unpacked(&shelf), before);
    }

    #[test]
    fn an_image_holds_every_row_and_takes_the_pieces_over() {
        let attic = Arc::new(MemoryAttic::default());
        let room = Workroom { limits: LIMITS, attic: Some(Arc::clone(&attic) as Arc<dyn Attic>) };
        let kept = room.with_images();
        for rows in [0, 5, LIMITS.chunk_rows, LIMITS.chunk_rows * 9 + 5] {
            let mut shelf = shelf_of(rows, &kept);
            shelf.pack(&Texts);
            let image = crate::codec::encode(&shelf);
            drop(shelf);
            attic.restart();
            let again: Shelf<String> =
                in_room(&room, || crate::codec::decode::<_, UNPACKED_LIMIT>(&image)).unwrap();
            attic.settle();
            assert_eq!(again.len(), rows);
            again.for_each(&Texts, |slot, row| assert_eq!(*row, format!("row {slot}")));
            drop(again);
            assert_eq!(attic.pieces(), 0);
        }
    }

    #[test]
    fn an_image_of_pieces_that_are_gone_is_refused() {
        let attic = Arc::new(MemoryAttic::default());
        let room = Workroom { limits: LIMITS, attic: Some(Arc::clone(&attic) as Arc<dyn Attic>) };
        let mut shelf = shelf_of(LIMITS.chunk_rows * 9, &room);
        shelf.pack(&Texts);
        let image = crate::codec::encode(&shelf);
        drop(shelf);
        let read = || crate::codec::decode::<Shelf<String>, UNPACKED_LIMIT>(&image);
        assert!(in_room(&room, read).is_err());
        assert!(read().is_err(), "outside of a room");
    }

    #[test]
    fn an_attic_holds_what_is_packed_and_nothing_that_changed_since() {
        let attic = Arc::new(MemoryAttic::default());
        let room = Workroom { limits: LIMITS, attic: Some(Arc::clone(&attic) as Arc<dyn Attic>) };
        let mut shelf = shelf_of(LIMITS.chunk_rows * (LIMITS.awake_chunks + 4), &room);
        assert_eq!(attic.pieces(), 4, "fewer than it begins to refuse after");
        let copy = shelf.clone();
        shelf.replace(3, "other".to_owned(), &Texts);
        while shelf.rest_a_chunk(Due::Now, &Texts) {}
        assert_eq!((shelf.get(3, &Texts).as_str(), copy.get(3, &Texts).as_str()), ("other", "row 3"));
        drop(copy);
        drop(shelf);
        assert_eq!(attic.pieces(), 0, "what nobody has is freed");
    }
}
