//! Values as columns: a serde format for lists of records that are alike. Every number, text and choice at one place of
//! the type stands with those of the other records, which is what a compressor needs; rows keep them apart.
//!
//! A place is a path through the type: field, element, variant. It gets its column when it is first visited, and because
//! the reader visits places in the order in which the writer did, columns are found by counting; no path is written.
//! FORMAT.md has the bytes. Like bincode it cannot read what does not know its own type (untagged, flattened).

mod numbers;
mod read;
mod texts;
mod write;

pub use read::decode;
pub use write::{Packed, encode, pack};

use serde::{de, ser};

/// Why values cannot be columns, or columns are not such values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ColumnError(String);

impl ser::Error for ColumnError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl de::Error for ColumnError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn refused<T>(what: &str) -> Result<T, ColumnError> {
    Err(ColumnError(what.to_owned()))
}

/// Numbers as they are.
const UNSIGNED: u8 = 0;
/// Numbers folded so that small negative ones are short (zigzag).
const SIGNED: u8 = 1;
/// Each number less the one before it, folded.
const DELTA: u8 = 2;
/// One byte each.
const BYTES: u8 = 3;
/// Texts, each without what it shares with the head of the one before it.
const TEXTS: u8 = 4;
/// The same number everywhere.
const CONSTANT: u8 = 5;
/// Numbers of one width as steps above the least of them, their bytes of one rank together.
const PLANES: u8 = 6;
/// As [`PLANES`], of each number less the one before it.
const DELTA_PLANES: u8 = 7;
/// Texts as patterns and the numbers in them.
const PATTERNS: u8 = 8;

/// Tuples of more members are read as lists of one kind: keys and hashes.
const TUPLE_LIMIT: usize = 8;

/// Places of a type, as far as they were visited.
#[derive(Default)]
struct Places {
    nodes: Vec<Place>,
    columns: usize,
}

#[derive(Default)]
struct Place {
    /// Its column, counted from 1; 0: none yet.
    column: usize,
    /// Places below it by field, variant or element; 0: not visited.
    below: Vec<usize>,
}

impl Places {
    fn new() -> Self {
        Self { nodes: vec![Place::default()], columns: 0 }
    }

    fn below(&mut self, place: usize, at: usize) -> usize {
        if let Some(known) = self.nodes[place].below.get(at).filter(|known| **known > 0) {
            return *known;
        }
        let new = self.nodes.len();
        self.nodes.push(Place::default());
        let below = &mut self.nodes[place].below;
        below.resize(below.len().max(at + 1), 0);
        below[at] = new;
        new
    }

    /// The column of a place, counted from 0, and whether it is new.
    fn column(&mut self, place: usize) -> (usize, bool) {
        let known = &mut self.nodes[place].column;
        let new = *known == 0;
        if new {
            self.columns += 1;
            *known = self.columns;
        }
        (*known - 1, new)
    }
}

/// A number with its sign in the lowest bit, so that small ones of either sign are short.
pub(crate) fn fold(number: i64) -> u64 {
    (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned()
}

/// Takes [`fold`] back.
pub(crate) fn unfold(folded: u64) -> i64 {
    (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed()
}

/// Appends a number, 7 bits a byte, the lowest first.
pub(crate) fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// Takes a number off the front.
///
/// # Errors
/// It does not end, or has more than 64 bits.
pub(crate) fn take(from: &mut &[u8]) -> Result<u64, ColumnError> {
    // Nearly all are small.
    if let Some((byte, rest)) = from.split_first()
        && *byte < 0x80
    {
        *from = rest;
        return Ok(u64::from(*byte));
    }
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, rest)) = from.split_first() else { return refused("a column ends too early") };
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return refused("a number has more than 64 bits");
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    refused("a number does not end")
}

/// Columns as they are written: what tells how they are to be read, and their parts.
#[derive(Default)]
struct Written {
    head: Vec<u8>,
    parts: Vec<Vec<u8>>,
    /// Bytes that it takes in the end, about.
    estimate: usize,
}

impl Written {
    fn len(&self) -> usize {
        self.head.len() + self.parts.iter().map(Vec::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    enum Shape {
        Unit,
        One(String),
        Two(u64, Option<i64>),
        Named { key: [u8; 32], flags: (bool, u8), more: Vec<Shape> },
    }

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Row {
        number: u64,
        signed: i64,
        small: (u16, i8, char),
        text: Option<String>,
        shapes: Vec<Shape>,
        sums: BTreeMap<String, i32>,
        unit: (),
    }

    fn shape() -> impl Strategy<Value = Shape> {
        let flat = prop_oneof![
            Just(Shape::Unit),
            ".{0,12}".prop_map(Shape::One),
            (any::<u64>(), any::<Option<i64>>()).prop_map(|(a, b)| Shape::Two(a, b)),
        ];
        flat.prop_recursive(3, 12, 3, |inner| {
            (any::<[u8; 32]>(), any::<(bool, u8)>(), prop::collection::vec(inner, 0..3))
                .prop_map(|(key, flags, more)| Shape::Named { key, flags, more })
        })
    }

    prop_compose! {
        fn row()(
            number in any::<u64>(), signed in any::<i64>(), small in any::<(u16, i8, char)>(),
            text in proptest::option::of("[a-c€]{0,6}"), shapes in prop::collection::vec(shape(), 0..4),
            sums in prop::collection::btree_map("[a-b]{0,2}", any::<i32>(), 0..3),
        ) -> Row {
            Row { number, signed, small, text, shapes, sums, unit: () }
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(rows in prop::collection::vec(row(), 0..20)) {
            let bytes = encode(&rows).unwrap();
            prop_assert_eq!(decode::<Vec<Row>>(&bytes, 1 << 16).unwrap(), rows);
        }

        #[test]
        fn broken_columns_are_refused_or_are_other_values(
            rows in prop::collection::vec(row(), 1..6), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = encode(&rows).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(other) = decode::<Vec<Row>>(&bytes, 1 << 16) {
                let again = encode(&other).unwrap();
                prop_assert_eq!(decode::<Vec<Row>>(&again, 1 << 16).unwrap(), other);
            }
            let cut = &bytes[..at];
            prop_assert!(decode::<Vec<Row>>(cut, 1 << 16).is_err());
        }
    }

    prop_compose! {
        /// Numbers as columns know them: constant, in steps, of some width, rising or not.
        fn column()(
            base in any::<u64>(), step in prop_oneof![Just(1_u64), Just(10_000), any::<u64>()], bits in 0_u32..=64,
            steps in prop::collection::vec(any::<u64>(), 1..80), rising in any::<bool>(),
        ) -> Vec<u64> {
            let mut number = base;
            let below = |any: u64| any.checked_shr(64 - bits).unwrap_or(0).wrapping_mul(step);
            steps.into_iter().map(|any| {
                number = if rising { number } else { base }.wrapping_add(below(any));
                number
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn numbers_of_every_form_come_back(column in column()) {
            let signed: Vec<i64> = column.iter().map(|number| number.cast_signed()).collect();
            let bytes = encode(&(&column, &signed)).unwrap();
            prop_assert_eq!(decode::<(Vec<u64>, Vec<i64>)>(&bytes, 1 << 16).unwrap(), (column, signed));
        }

        #[test]
        fn texts_of_every_form_come_back(
            texts in prop::collection::vec("[A-B]?[0-9]{0,3}|R-0{0,2}[0-9]{17,20}|cart-[0-9]{6}x[0-9]{6}|.{0,3}", 1..100),
        ) {
            let bytes = encode(&texts).unwrap();
            prop_assert_eq!(decode::<Vec<String>>(&bytes, 1 << 16).unwrap(), texts);
        }

        #[test]
        fn broken_heads_are_refused_or_are_other_values(
            column in column(), texts in prop::collection::vec("R-[0-9]{1,4}", 1..60),
            at in 0_usize..40, byte in any::<u8>(),
        ) {
            let mut bytes = encode(&(column, texts)).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            if let Ok(other) = decode::<(Vec<u64>, Vec<String>)>(&bytes, 1 << 16) {
                let again = encode(&other).unwrap();
                prop_assert_eq!(decode::<(Vec<u64>, Vec<String>)>(&again, 1 << 16).unwrap(), other);
            }
        }
    }

    #[test]
    fn what_takes_no_bytes_takes_no_memory_without_end() {
        let bytes = encode(&vec![vec![7_u64; 1_000]; 1_000]).unwrap();
        assert!(bytes.len() < 20, "{}", bytes.len());
        assert!(decode::<Vec<Vec<u64>>>(&bytes, 1 << 20).is_err());
        assert_eq!(decode::<Vec<Vec<u64>>>(&bytes, 9 << 20).unwrap(), vec![vec![7_u64; 1_000]; 1_000]);
    }

    #[test]
    fn digits_take_what_numbers_take() {
        let texts: Vec<String> =
            (0..1_000_u64).map(|n| format!("till-01-{n:07}-{:06}", n * n * 7_919 % 1_000_000)).collect();
        let bytes = encode(&texts).unwrap();
        assert!(
            bytes.len() < 3_100,
            "three bytes for six digits, none for what rises by one: {}",
            bytes.len()
        );
    }

    #[test]
    fn a_small_claim_never_becomes_much_memory() {
        let texts: Vec<String> = (0..1_000).map(|_| "x".repeat(10_000)).collect();
        let bytes = encode(&texts).unwrap();
        assert!(bytes.len() < 20_000);
        assert!(decode::<Vec<String>>(&bytes, 1 << 20).is_err());
        assert_eq!(decode::<Vec<String>>(&bytes, 10 << 20).unwrap(), texts);
        let endless = encode(&u64::MAX).unwrap();
        assert!(decode::<Vec<()>>(&endless, 0).is_err());
    }

    #[test]
    fn times_and_numbers_that_rise_take_a_byte() {
        let rows: Vec<(u64, i64)> = (0..1_000)
            .map(|n: u32| (1_000_000 + u64::from(n), 1_795_420_800_000 + 40 * i64::from(n)))
            .collect();
        let bytes = encode(&rows).unwrap();
        assert!(bytes.len() < 2_100, "{}", bytes.len());
    }
}
