//! Choices read from the fuzzer's bytes. When they are used up every answer is zero, so that an input always ends.

use arbitrary::{Arbitrary, Unstructured};

/// The bytes, as choices.
pub struct Chance<'a>(Unstructured<'a>);

impl<'a> Chance<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Whether all choices were made.
    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// Any value.
    pub fn any<T: Arbitrary<'a> + Default>(&mut self) -> T {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        let drawn: u16 = self.any();
        usize::from(drawn) % limit
    }

    /// True in one of `of` cases, never when the bytes are used up.
    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 1
    }

    /// One of these.
    pub fn of<'b, T>(&mut self, list: &'b [T]) -> &'b T {
        &list[self.below(list.len())]
    }

    /// So many bytes, or what is left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let count = count.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    /// Flips, cuts, doubles and overwrites a few places.
    pub fn mangle(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                return;
            }
            let at = usize::from(self.any::<u16>()) * bytes.len() / 65_536;
            match self.below(5) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.any(),
                2 => bytes.truncate(at),
                3 => {
                    let piece: Vec<u8> = bytes[at..].iter().take(self.below(64)).copied().collect();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let with = self.bytes(8).to_vec();
                    let end = (at + with.len()).min(bytes.len());
                    bytes.splice(at..end, with);
                }
            }
        }
    }
}
