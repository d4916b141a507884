//! Sorted rows of a few bytes: a small set in memory for what is new, and sorted runs for the rest, whose pages rest in
//! the attic. In memory a run keeps a filter (16 bits a row) and the first row of each page, so that asking for
//! what is not there reads nothing. Rows are only ever added, and runs are merged a few rows with each of them, so that no
//! row pays for all before it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::attic::{Packed, Workroom, room_of_image};

/// Rows of a run that are read together.
const PAGE_ROWS: usize = 512;
/// Runs with more rows are not merged any more: what a merge holds of the old runs is bounded.
const MERGED_ROWS: usize = 1 << 19;
/// A run is merged into the one before if that has at most so many times its rows.
const MERGE_RATIO: usize = 3;
/// Rows that are merged with each new one: some times more than a row is merged in all, so that runs do not pile up.
const MERGED_AT_ONCE: usize = 32;

/// A row: a few bytes with an order.
pub(crate) trait Row: Copy + Ord + std::fmt::Debug {
    /// Bytes of a row in a page.
    const BYTES: usize;
    /// Appends the bytes of the row.
    fn write(&self, to: &mut Vec<u8>);
    /// The row of `BYTES` bytes.
    fn read(bytes: &[u8]) -> Self;
    /// What a filter is asked for.
    fn mark(&self) -> u64;
}

/// A set of rows.
#[derive(Debug)]
pub(crate) struct Runs<R> {
    room: Workroom,
    fresh: BTreeSet<R>,
    runs: Vec<Arc<Run<R>>>,
    merging: Option<Merging<R>>,
}

impl<R: Clone> Clone for Runs<R> {
    fn clone(&self) -> Self {
        Self { room: self.room.clone(), fresh: self.fresh.clone(), runs: self.runs.clone(), merging: None }
    }
}

/// Neighbouring runs on their way to become one.
#[derive(Debug)]
struct Merging<R> {
    /// Where the first of them is.
    at: usize,
    from: Vec<Cursor<R>>,
    built: Building<R>,
}

/// A place in a run.
#[derive(Debug)]
struct Cursor<R> {
    run: Arc<Run<R>>,
    page: usize,
    row: usize,
    bytes: Vec<u8>,
}

/// A run that is being written.
#[derive(Debug)]
struct Building<R> {
    run: Run<R>,
    rows: usize,
    page: Vec<u8>,
}

#[derive(Debug)]
struct Run<R> {
    len: usize,
    filter: Filter,
    /// The filter for images, since the first of them.
    filter_piece: OnceLock<Packed>,
    firsts: Vec<R>,
    pages: Vec<Packed>,
}

/// A run as an image has it.
#[derive(Serialize)]
struct Named<'a, R> {
    len: usize,
    filter: &'a Packed,
    firsts: &'a [R],
    pages: &'a [Packed],
}

#[derive(Deserialize)]
struct Found<R> {
    len: usize,
    filter: Packed,
    firsts: Vec<R>,
    pages: Vec<Packed>,
}

impl<R: Row> Runs<R> {
    /// No rows yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        Self { room: room.clone(), fresh: BTreeSet::new(), runs: Vec::new(), merging: None }
    }

    /// Whether no row is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.runs.is_empty()
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, row: R) {
        self.fresh.insert(row);
        self.merge_on();
        if self.fresh.len() < self.room.limits.fresh_rows {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let mut run = Building::of(fresh.len());
        fresh.into_iter().for_each(|row| run.push(&self.room, row));
        self.runs.push(Arc::new(run.end(&self.room)));
        self.begin_to_merge();
    }

    /// Begins to merge the newest runs with those before them that are near enough in size, if nothing is being merged.
    fn begin_to_merge(&mut self) {
        let mut at = self.runs.len().saturating_sub(1);
        let mut len = self.runs.last().map_or(0, |run| run.len);
        while let Some(before) = at.checked_sub(1).map(|before| self.runs[before].len) {
            if before > MERGE_RATIO * len || before + len > MERGED_ROWS {
                break;
            }
            (at, len) = (at - 1, len + before);
        }
        if self.merging.is_none() && at + 1 < self.runs.len() {
            let from = self.runs[at..].iter().map(|run| Cursor::of(Arc::clone(run))).collect();
            self.merging = Some(Merging { at, from, built: Building::of(len) });
        }
    }

    fn merge_on(&mut self) {
        let Some(merging) = &mut self.merging else { return };
        if merging.step(&self.room, MERGED_AT_ONCE) {
            return;
        }
        if let Some(Merging { at, from, built }) = self.merging.take() {
            let merged = Arc::new(built.end(&self.room));
            self.runs.splice(at..at + from.len(), [merged]);
            self.begin_to_merge();
        }
    }

    /// Whether runs have to be read for rows with some marks, and not the new rows alone.
    pub(crate) fn may_have_old(&self, marks: &[u64]) -> bool {
        self.runs.iter().any(|run| run.may_have(marks))
    }

    /// As [`Runs::up`], of the new rows alone.
    pub(crate) fn up_fresh(&self, from: R, to: R, limit: usize) -> Vec<R> {
        self.fresh.range(from..=to).take(limit).copied().collect()
    }

    /// The first `limit` rows in a range, ascending. `marks`: those that rows in the range may have, as far as it is
    /// known.
    pub(crate) fn up(&self, from: R, to: R, limit: usize, marks: &[u64]) -> Vec<R> {
        let mut found = self.up_fresh(from, to, limit);
        for run in self.runs.iter().filter(|run| run.may_have(marks)) {
            run.up(from, to, limit, &mut found);
        }
        found.sort_unstable();
        found.truncate(limit);
        found
    }

    /// The last `limit` rows in a range, descending; `marks` as in `up`.
    pub(crate) fn down(&self, from: R, to: R, limit: usize, marks: &[u64]) -> Vec<R> {
        let mut found: Vec<R> = self.fresh.range(from..=to).rev().take(limit).copied().collect();
        for run in self.runs.iter().filter(|run| run.may_have(marks)) {
            run.down(from, to, limit, &mut found);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(limit);
        found
    }
}

/// The image of a set: its new rows, and of each run the first rows of its pages and the names of its pieces.
impl<R: Row + Serialize> Serialize for Runs<R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let named = |run: &Arc<Run<R>>| {
            run.filter_piece.get_or_init(|| Packed::put(&self.room, run.filter.bytes()));
        };
        self.runs.iter().for_each(named);
        let named = self.runs.iter().filter_map(|run| {
            let filter = run.filter_piece.get()?;
            Some(Named { len: run.len, filter, firsts: &run.firsts, pages: &run.pages })
        });
        (&self.fresh, named.collect::<Vec<_>>()).serialize(to)
    }
}

impl<'de, R: Row + Deserialize<'de>> Deserialize<'de> for Runs<R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (fresh, found) = <(BTreeSet<R>, Vec<Found<R>>)>::deserialize(from)?;
        let run = |found: Found<R>| {
            let Found { len, filter: piece, firsts, pages } = found;
            let fits = firsts.len() == pages.len() && len <= pages.len() * PAGE_ROWS;
            let filter = Filter::of_bytes(&piece.read()?).filter(|_| fits);
            let filter = filter.ok_or("a run is not as it was put")?;
            Ok(Arc::new(Run { len, filter, filter_piece: OnceLock::from(piece), firsts, pages }))
        };
        let runs: Result<Vec<_>, String> = found.into_iter().map(run).collect();
        let (room, runs) = (room_of_image::<D>()?, runs.map_err(D::Error::custom)?);
        Ok(Self { room, fresh, runs, merging: None })
    }
}

impl<R: Row> Run<R> {
    fn may_have(&self, marks: &[u64]) -> bool {
        marks.is_empty() || marks.iter().any(|mark| self.filter.may_have(*mark))
    }

    fn page(&self, at: usize) -> Page<'_> {
        Page { bytes: self.pages[at].bytes() }
    }

    fn up(&self, from: R, to: R, limit: usize, found: &mut Vec<R>) {
        let first = self.firsts.partition_point(|first| *first <= from).saturating_sub(1);
        let mut left = limit;
        for at in first..self.pages.len() {
            if left == 0 || self.firsts[at] > to {
                return;
            }
            let page = self.page(at);
            let begin = page.before(|row: &R| *row < from);
            let end = page.before(|row: &R| *row <= to).min(begin.saturating_add(left));
            found.extend((begin..end).map(|row| page.row::<R>(row)));
            left -= end.saturating_sub(begin);
        }
    }

    fn down(&self, from: R, to: R, limit: usize, found: &mut Vec<R>) {
        let mut left = limit;
        for at in (0..self.firsts.partition_point(|first| *first <= to)).rev() {
            let page = self.page(at);
            let end = page.before(|row: &R| *row <= to);
            let begin = page.before(|row: &R| *row < from).max(end.saturating_sub(left));
            found.extend((begin..end).rev().map(|row| page.row::<R>(row)));
            left -= end.saturating_sub(begin);
            if left == 0 || self.firsts[at] < from {
                return;
            }
        }
    }
}

/// The rows of a page.
struct Page<'a> {
    bytes: Cow<'a, [u8]>,
}

impl Page<'_> {
    fn len<R: Row>(&self) -> usize {
        self.bytes.len() / R::BYTES
    }

    fn row<R: Row>(&self, at: usize) -> R {
        R::read(&self.bytes[at * R::BYTES..(at + 1) * R::BYTES])
    }

    /// How many rows come before the first for which `is_before` does not hold.
    fn before<R: Row>(&self, is_before: impl Fn(&R) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len::<R>());
        while low < high {
            let middle = usize::midpoint(low, high);
            if is_before(&self.row(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl<R: Row> Building<R> {
    fn of(rows: usize) -> Self {
        let (filter, filter_piece) = (Filter::for_rows(rows), OnceLock::new());
        let run = Run { len: rows, filter, filter_piece, firsts: Vec::new(), pages: Vec::new() };
        Self { run, rows: 0, page: Vec::with_capacity(PAGE_ROWS * R::BYTES) }
    }

    /// Adds the next row in order.
    fn push(&mut self, room: &Workroom, row: R) {
        if self.rows.is_multiple_of(PAGE_ROWS) {
            self.end_page(room);
            self.run.firsts.push(row);
        }
        self.rows += 1;
        self.run.filter.add(row.mark());
        row.write(&mut self.page);
    }

    fn end_page(&mut self, room: &Workroom) {
        if !self.page.is_empty() {
            self.run.pages.push(Packed::put(room, std::mem::take(&mut self.page)));
        }
    }

    fn end(mut self, room: &Workroom) -> Run<R> {
        self.end_page(room);
        self.run.pages.shrink_to_fit();
        self.run.firsts.shrink_to_fit();
        self.run
    }
}

impl<R: Row> Cursor<R> {
    fn of(run: Arc<Run<R>>) -> Self {
        let bytes = run.page(0).bytes.into_owned();
        Self { run, page: 0, row: 0, bytes }
    }

    /// The row at the place; `None` at the end.
    fn row(&self) -> Option<R> {
        let from = self.row * R::BYTES;
        self.bytes.get(from..from + R::BYTES).map(R::read)
    }

    fn advance(&mut self) {
        self.row += 1;
        if self.row * R::BYTES < self.bytes.len() {
            return;
        }
        (self.page, self.row) = (self.page + 1, 0);
        let pages = self.run.pages.len();
        self.bytes = if self.page < pages { self.run.page(self.page).bytes.into_owned() } else { Vec::new() };
    }
}

impl<R: Row> Merging<R> {
    /// Merges some rows; whether any is left.
    fn step(&mut self, room: &Workroom, rows: usize) -> bool {
        for _ in 0..rows {
            let rows = self.from.iter().enumerate().filter_map(|(at, cursor)| Some((cursor.row()?, at)));
            let Some((row, at)) = rows.min() else { return false };
            self.from[at].advance();
            self.built.push(room, row);
        }
        true
    }
}

/// A Bloom filter: `false` is certain, `true` is wrong about once in a thousand times. A wrong one reads a page, which
/// costs as much as filing a record.
#[derive(Debug)]
struct Filter {
    bits: Box<[u64]>,
}

impl Filter {
    const BITS_A_ROW: usize = 16;
    const PROBES: u32 = 8;

    fn for_rows(rows: usize) -> Self {
        Self { bits: vec![0; (rows * Self::BITS_A_ROW).div_ceil(64).max(1)].into() }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bits.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The filter of such bytes; `None` if they are none.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let bits: Box<[u64]> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (!bits.is_empty()).then_some(Self { bits })
    }

    /// Where the bits of a mark are: word and bit. The places follow from two hashes (Kirsch and Mitzenmacher, "Less
    /// hashing, same performance").
    fn places(&self, mark: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.bits.len() as u64 * 64;
        // One step of splitmix64.
        let hash = mark.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let step = mixed.rotate_left(32) | 1;
        (0..Self::PROBES).map(move |_| {
            let scaled = (u128::from(mixed) * u128::from(bits)) >> 64;
            mixed = mixed.wrapping_add(step);
            let bit = u64::try_from(scaled).expect("less than the bits");
            (usize::try_from(bit / 64).expect("a filter fits memory"), 1 << (bit % 64))
        })
    }

    fn add(&mut self, mark: u64) {
        for (word, bit) in self.places(mark) {
            self.bits[word] |= bit;
        }
    }

    fn may_have(&self, mark: u64) -> bool {
        self.places(mark).all(|(word, bit)| self.bits[word] & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attic::{Attic, MemoryAttic};
    use crate::shelf::WorkLimits;

    impl Row for (u32, u32) {
        const BYTES: usize = 8;

        fn write(&self, to: &mut Vec<u8>) {
            to.extend(self.0.to_be_bytes());
            to.extend(self.1.to_be_bytes());
        }

        fn read(bytes: &[u8]) -> Self {
            let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            (number(0), number(4))
        }

        fn mark(&self) -> u64 {
            u64::from(self.0)
        }
    }

    /// Rows in a scattered order: keys 0 to 996, some with many rows.
    fn rows(count: u32) -> Vec<(u32, u32)> {
        let mut rows: Vec<(u32, u32)> = (0..count).map(|n| (n.wrapping_mul(7_919) % 997, n)).collect();
        rows.extend((0..count / 3).map(|n| (500, count + n)));
        rows
    }

    fn runs_of(rows: &[(u32, u32)], fresh_rows: usize, attic: Option<Arc<dyn Attic>>) -> Runs<(u32, u32)> {
        let limits = WorkLimits { fresh_rows, ..WorkLimits::default() };
        let mut runs = Runs::new(&Workroom { limits, attic });
        rows.iter().for_each(|row| runs.insert(*row));
        runs
    }

    #[test]
    fn every_range_is_what_a_plain_set_gives_however_the_rows_are_cut() {
        let rows = rows(9_000);
        let plain: BTreeSet<(u32, u32)> = rows.iter().copied().collect();
        for fresh_rows in [1, 7, 600, 20_000] {
            let attic = Arc::new(MemoryAttic::default());
            let runs = runs_of(&rows, fresh_rows, Some(Arc::clone(&attic) as Arc<dyn Attic>));
            assert_eq!(attic.pieces() == 0, fresh_rows == 20_000);
            for key in (0..1_000).step_by(13).chain([500]) {
                let (from, to) = ((key, 0), (key, u32::MAX));
                for limit in [1, 8, usize::MAX] {
                    let marks = [u64::from(key)];
                    let up: Vec<_> = plain.range(from..=to).take(limit).copied().collect();
                    assert_eq!(runs.up(from, to, limit, &marks), up, "{key} {limit}");
                    let down: Vec<_> = plain.range(from..=to).rev().take(limit).copied().collect();
                    assert_eq!(runs.down(from, to, limit, &marks), down, "{key} {limit}");
                    let (from, to) = ((key, 4_000), (key + 3, 8_000));
                    let up: Vec<_> = plain.range(from..=to).take(limit).copied().collect();
                    assert_eq!(runs.up(from, to, limit, &[]), up);
                    let down: Vec<_> = plain.range(from..=to).rev().take(limit).copied().collect();
                    assert_eq!(runs.down(from, to, limit, &[]), down);
                }
            }
            drop(runs);
            assert_eq!(attic.pieces(), 0);
        }
    }

    #[test]
    fn runs_are_few_and_filters_seldom_wrong() {
        let rows: Vec<(u32, u32)> = (0..40_000).map(|n| (n * 2, n)).collect();
        let runs = runs_of(&rows, 100, None);
        assert!(runs.runs.len() <= 8, "{}", runs.runs.len());
        let wrong = |run: &Run<_>| (0..40_000_u64).filter(|n| run.filter.may_have(n * 2 + 1)).count();
        let wrong: usize = runs.runs.iter().map(|run| wrong(run)).sum();
        assert!(wrong < 40_000 / 100, "{wrong}");
    }
}
