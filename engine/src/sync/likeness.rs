//! Bytes written by what they share with other bytes that the reader has, too: runs of their own, and runs copied from
//! there. Records of one till are alike field by field, so most copies begin where the last one ended and need no place.
//! A reader takes nothing on trust: no run is longer than what is there, and the whole not longer than its limit.

use crate::columns::{fold, put, take, unfold};

/// Shortest run that is looked for elsewhere than where it is expected.
const FOUND_FROM: usize = 4;
/// Shortest run that is copied from where it is expected.
const EXPECTED_FROM: usize = 2;
/// Places that are looked up by the bytes there.
const PLACES: usize = 512;

/// In the first byte of a step: where the copied run is follows.
const MOVED: u8 = 0x80;
/// Own bytes of a step as its first byte has them; the highest value says that more follow.
const OWN_MOST: usize = 7;
/// Copied bytes of a step as its first byte has them; the highest value says that more follow.
const COPIED_MOST: usize = 15;

/// Why bytes are not written by their likeness to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unlike {
    /// A step ends in its middle, or its numbers are none.
    #[error("a step of it is cut off")]
    Cut,
    /// A run is copied from where nothing is.
    #[error("it copies what is not there")]
    Outside,
    /// It makes more than it may.
    #[error("it makes more bytes than it may")]
    TooLong,
}

/// Writes `bytes` by what they share with `model`. Steps: first byte (bit 7: moved, bits 4–6: own, bits 0–3: copied), more
/// of own and more of copied as numbers where the first byte is full, the own bytes, and if moved by how much.
#[must_use]
pub fn write(model: &[u8], bytes: &[u8]) -> Vec<u8> {
    let places = places(model);
    let mut written = Vec::with_capacity(bytes.len() / 2);
    let (mut at, mut own_from, mut expected) = (0, 0, 0);
    while at < bytes.len() {
        let in_line = expected + (at - own_from);
        let (from, length) = match shared(model, in_line, bytes, at) {
            length if length >= EXPECTED_FROM => (in_line, length),
            _ => found(&places, model, bytes, at),
        };
        if length == 0 {
            at += 1;
            continue;
        }
        step(&mut written, &bytes[own_from..at], length, from.cast_signed() - in_line.cast_signed());
        at += length;
        (own_from, expected) = (at, from + length);
    }
    if own_from < bytes.len() {
        step(&mut written, &bytes[own_from..], 0, 0);
    }
    written
}

/// Reads back what was written by its likeness to `model`, at most `limit` bytes.
///
/// # Errors
/// It was not.
pub fn read(model: &[u8], mut written: &[u8], limit: usize) -> Result<Vec<u8>, Unlike> {
    let mut bytes = Vec::with_capacity(limit.min(model.len() + written.len()));
    let mut expected = 0_usize;
    while let Some((first, rest)) = written.split_first() {
        written = rest;
        let own = length(&mut written, usize::from(first >> 4) & OWN_MOST, OWN_MOST)?;
        let copied = length(&mut written, usize::from(*first) & COPIED_MOST, COPIED_MOST)?;
        if own > limit - bytes.len() || copied > limit - bytes.len() - own {
            return Err(Unlike::TooLong);
        }
        let (run, rest) = written.split_at_checked(own).ok_or(Unlike::Cut)?;
        bytes.extend(run);
        written = rest;
        let moved = if first & MOVED == 0 { 0 } else { unfold(number(&mut written)?) };
        let moved = isize::try_from(moved).map_err(|_| Unlike::Outside)?;
        if copied > 0 {
            let from = (expected + own).checked_add_signed(moved).ok_or(Unlike::Outside)?;
            let to = from.checked_add(copied).ok_or(Unlike::Outside)?;
            bytes.extend(model.get(from..to).ok_or(Unlike::Outside)?);
            expected = to;
        }
    }
    Ok(bytes)
}

fn step(written: &mut Vec<u8>, own: &[u8], copied: usize, moved: isize) {
    let (few_own, few_copied) = (own.len().min(OWN_MOST), copied.min(COPIED_MOST));
    let head = u8::try_from(few_own << 4 | few_copied).expect("both are cut to their bits");
    written.push(if moved == 0 { head } else { head | MOVED });
    if few_own == OWN_MOST {
        put(written, (own.len() - OWN_MOST) as u64);
    }
    if few_copied == COPIED_MOST {
        put(written, (copied - COPIED_MOST) as u64);
    }
    written.extend(own);
    if moved != 0 {
        put(written, fold(moved as i64));
    }
}

fn length(written: &mut &[u8], few: usize, most: usize) -> Result<usize, Unlike> {
    if few < most {
        return Ok(few);
    }
    let more = usize::try_from(number(written)?).map_err(|_| Unlike::TooLong)?;
    most.checked_add(more).ok_or(Unlike::TooLong)
}

fn number(written: &mut &[u8]) -> Result<u64, Unlike> {
    take(written).map_err(|_| Unlike::Cut)
}

/// How many bytes are the same from two places on.
fn shared(model: &[u8], from: usize, bytes: &[u8], at: usize) -> usize {
    let model = model.get(from..).unwrap_or_default();
    model.iter().zip(&bytes[at..]).take_while(|(one, other)| one == other).count()
}

/// Where the model has each four bytes last, by a hash of them.
fn places(model: &[u8]) -> [u16; PLACES] {
    let mut places = [u16::MAX; PLACES];
    for (at, four) in model.windows(FOUND_FROM).enumerate().take(usize::from(u16::MAX)) {
        places[slot(four)] = u16::try_from(at).unwrap_or(u16::MAX);
    }
    places
}

/// A run of the model that continues `bytes` here: where it is, and how long, 0 if there is none.
fn found(places: &[u16; PLACES], model: &[u8], bytes: &[u8], at: usize) -> (usize, usize) {
    let Some(four) = bytes.get(at..at + FOUND_FROM) else { return (0, 0) };
    let from = usize::from(places[slot(four)]);
    let length = shared(model, from, bytes, at);
    if length >= FOUND_FROM { (from, length) } else { (0, 0) }
}

fn slot(four: &[u8]) -> usize {
    let number = four.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    (number.wrapping_mul(0x9E37_79B1) >> 23) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_like_the_one_before_takes_what_is_its_own() {
        let before = b"store-1 till-01 R-0000019 Lantern, white SKU-00012345 GBP 1200 S20 cash";
        let after = b"store-1 till-01 R-0000020 Lantern, white SKU-00077745 GBP 90 S20 cash";
        let written = write(before, after);
        assert!(written.len() < 24, "{} bytes", written.len());
        assert_eq!(read(before, &written, after.len()).as_deref(), Ok(after.as_slice()));
        assert_eq!(read(before, &written, after.len() - 1), Err(Unlike::TooLong));
        assert_eq!(write(b"", b""), b"");
        assert_eq!(read(b"", b"", 0), Ok(Vec::new()));
    }

    #[test]
    fn what_copies_from_nowhere_or_ends_too_early_is_refused() {
        let model = b"0123456789";
        let cases: &[(&[u8], Unlike)] = &[
            (&[0x0B], Unlike::Outside),
            (&[0x82, 0x01], Unlike::Outside),
            (&[0x82, 0x14], Unlike::Outside),
            (&[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Unlike::Outside),
            (&[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02], Unlike::Cut),
            (&[0x82], Unlike::Cut),
            (&[0x30, 1, 2], Unlike::Cut),
            (&[0x70], Unlike::Cut),
            (&[0x0F], Unlike::Cut),
            (&[0x70, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Unlike::TooLong),
            (&[0x0F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Unlike::TooLong),
            (&[0x0F, 0x20], Unlike::TooLong),
            (&[0x0A, 0x8A, 0x13, 0x8A, 0x13, 0x8A, 0x13], Unlike::TooLong),
        ];
        for (written, why) in cases {
            assert_eq!(read(model, written, 32), Err(*why), "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_bit_for_bit(
            model in proptest::collection::vec(0..4_u8, 0..700),
            edits in proptest::collection::vec((0..700_usize, 0..40_usize, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
        ) {
            let mut bytes = model.clone();
            for (at, length, new) in edits {
                let at = at.min(bytes.len());
                let to = (at + length).min(bytes.len());
                bytes.splice(at..to, new);
            }
            let written = write(&model, &bytes);
            prop_assert_eq!(read(&model, &written, bytes.len()), Ok(bytes.clone()));
            prop_assert!(written.len() <= bytes.len() + bytes.len() / 64 + 3);
        }

        #[test]
        fn no_bytes_make_it_panic_or_give_more_than_the_limit(
            model in proptest::collection::vec(any::<u8>(), 0..100),
            written in proptest::collection::vec(any::<u8>(), 0..100),
            limit in 0..200_usize,
        ) {
            if let Ok(bytes) = read(&model, &written, limit) {
                prop_assert!(bytes.len() <= limit);
            }
        }
    }
}
