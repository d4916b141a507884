//! A column of numbers: one by one, as they are or as differences, or as planes: all of one width, their bytes of one
//! rank together. What is random in a number then stands apart from what is not.

use super::{
    CONSTANT, ColumnError, DELTA, DELTA_PLANES, PLANES, SIGNED, UNSIGNED, Written, fold, put, refused, take,
    unfold,
};

/// Bytes that the head of planes takes more than others, about.
const PLANES_HEAD: usize = 5;

/// Appends the numbers in the form that takes the fewest bytes.
pub(super) fn write(numbers: &[u64], signed: bool, to: &mut Written) {
    let first = numbers.first().copied().unwrap_or_default();
    let level = Spread::of(numbers.iter().copied());
    if level.most_steps == 0 {
        to.head.push(CONSTANT);
        put(&mut to.head, fold(first.cast_signed()));
        to.estimate += 2;
        return;
    }
    let differences = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let slope = Spread::of(differences.clone());
    let plain = numbers.iter().map(|number| if signed { fold(number.cast_signed()) } else { *number });
    let delta = std::iter::once(first).chain(differences).map(|number| fold(number.cast_signed()));
    let plain_len: usize = plain.clone().map(length).sum();
    let delta_len: usize = delta.clone().map(length).sum();
    let falls = slope.most_steps < level.most_steps;
    let planes = if falls { slope } else { level };
    // Planes may take an eighth more: they compress better.
    if (planes.bytes(numbers.len()) + PLANES_HEAD) * 8 <= plain_len.min(delta_len) * 9 {
        let mut last = if falls { first.wrapping_sub(slope.least) } else { 0 };
        let start = falls.then_some(last);
        let above =
            |number: &u64| number.wrapping_sub(if falls { std::mem::replace(&mut last, *number) } else { 0 });
        planes.write(start, numbers.iter().map(above), numbers.len(), to);
    } else if delta_len < plain_len {
        one_by_one(DELTA, delta, delta_len, to);
    } else {
        one_by_one(if signed { SIGNED } else { UNSIGNED }, plain, plain_len, to);
    }
}

fn one_by_one(kind: u8, stored: impl Iterator<Item = u64>, bytes: usize, to: &mut Written) {
    let mut part = Vec::with_capacity(bytes);
    stored.for_each(|number| put(&mut part, number));
    to.head.push(kind);
    put(&mut to.head, part.len() as u64);
    to.estimate += 3 + part.len();
    to.parts.push(part);
}

/// Bytes that [`put`] takes.
fn length(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

/// Numbers as steps above the least of them.
#[derive(Clone, Copy)]
struct Spread {
    least: u64,
    /// Every distance to the least is a multiple of it; at least 1.
    step: u64,
    most_steps: u64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = u64> + Clone) -> Self {
        let ends = numbers.clone().map(u64::cast_signed).fold(None, |ends, number| {
            let (least, most) = ends.unwrap_or((number, number));
            Some((number.min(least), number.max(most)))
        });
        let (least, most) = ends.unwrap_or_default();
        let (least, range) = (least.cast_unsigned(), most.wrapping_sub(least).cast_unsigned());
        let mut step = range;
        for number in numbers {
            // What fits a byte gains nothing from steps.
            if step <= 1 || range <= 0xff {
                break;
            }
            step = common_divisor(step, number.wrapping_sub(least));
        }
        let step = if range <= 0xff { 1 } else { step };
        Self { least, step, most_steps: range / step }
    }

    /// Bits that each number takes: none, 1, 2, 4, or whole bytes.
    fn width(self) -> usize {
        match self.bits() {
            bits @ 0..=2 => bits,
            3 | 4 => 4,
            bits => bits.next_multiple_of(8),
        }
    }

    fn bits(self) -> usize {
        64 - self.most_steps.leading_zeros() as usize
    }

    fn bytes(self, count: usize) -> usize {
        (self.width() * count).div_ceil(8)
    }

    fn write(self, start: Option<u64>, numbers: impl Iterator<Item = u64>, count: usize, to: &mut Written) {
        let width = self.width();
        let steps = numbers.map(|number| number.wrapping_sub(self.least) / self.step);
        to.head.push(if start.is_some() { DELTA_PLANES } else { PLANES });
        put(&mut to.head, count as u64);
        put(&mut to.head, width as u64);
        put(&mut to.head, fold(self.least.cast_signed()));
        put(&mut to.head, self.step);
        if let Some(start) = start {
            put(&mut to.head, fold(start.cast_signed()));
        }
        to.estimate += PLANES_HEAD + (self.bits() * count).div_ceil(8);
        if width < 8 {
            let mut packed = vec![0_u8; self.bytes(count)];
            // Without a width there is nothing to set.
            for (at, steps) in steps.enumerate().filter(|_| width > 0) {
                packed[at * width / 8] |= steps.to_le_bytes()[0] << (at * width % 8);
            }
            to.parts.push(packed);
        } else {
            let mut planes = vec![Vec::with_capacity(count); width / 8];
            for steps in steps {
                planes.iter_mut().zip(steps.to_le_bytes()).for_each(|(plane, byte)| plane.push(byte));
            }
            to.parts.extend(planes);
        }
    }
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A column of numbers that is read.
pub(super) enum Numbers<'a> {
    OneByOne { kind: u8, length: usize, left: &'a [u8], last: u64 },
    Constant(u64),
    Planes(Planes<'a>),
}

/// Numbers of one width.
pub(super) struct Planes<'a> {
    count: usize,
    /// In bits.
    width: usize,
    least: u64,
    step: u64,
    /// The number before, if they are differences.
    last: Option<u64>,
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Numbers<'a> {
    /// Takes the head of a column of that kind; the numbers follow with [`Numbers::fill`].
    pub(super) fn open(kind: u8, heads: &mut &[u8]) -> Result<Self, ColumnError> {
        let length = |number| usize::try_from(number).unwrap_or(usize::MAX);
        match kind {
            UNSIGNED | SIGNED | DELTA => {
                Ok(Self::OneByOne { kind, length: length(take(heads)?), left: &[], last: 0 })
            }
            CONSTANT => Ok(Self::Constant(unfold(take(heads)?).cast_unsigned())),
            PLANES | DELTA_PLANES => {
                let (count, width) = (length(take(heads)?), length(take(heads)?));
                if !matches!(width, 0 | 1 | 2 | 4 | 8 | 16 | 24 | 32 | 40 | 48 | 56 | 64) {
                    return refused("numbers have no such width");
                }
                let (least, step) = (unfold(take(heads)?).cast_unsigned(), take(heads)?);
                let last = if kind == PLANES { None } else { Some(unfold(take(heads)?).cast_unsigned()) };
                Ok(Self::Planes(Planes { count, width, least, step, last, bytes: &[], next: 0 }))
            }
            _ => refused("a column is of no kind that is known here, or in a place of numbers"),
        }
    }

    /// Takes its parts.
    pub(super) fn fill(&mut self, parts: &mut &'a [u8]) -> Result<(), ColumnError> {
        let (length, own) = match self {
            Self::OneByOne { length, left, .. } => (Some(*length), left),
            Self::Constant(_) => return Ok(()),
            Self::Planes(Planes { count, width, bytes, .. }) => {
                (count.checked_mul(*width).map(|bits| bits.div_ceil(8)), bytes)
            }
        };
        let Some((part, rest)) = length.and_then(|length| parts.split_at_checked(length)) else {
            return refused("a column is longer than what is there");
        };
        (*own, *parts) = (part, rest);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<u64, ColumnError> {
        match self {
            Self::OneByOne { kind, left, last, .. } => {
                let stored = take(left)?;
                let number = match *kind {
                    UNSIGNED => stored,
                    SIGNED => unfold(stored).cast_unsigned(),
                    _ => last.wrapping_add(unfold(stored).cast_unsigned()),
                };
                *last = number;
                Ok(number)
            }
            Self::Constant(number) => Ok(*number),
            Self::Planes(planes) => planes.next(),
        }
    }

    pub(super) fn is_used_up(&self) -> bool {
        match self {
            Self::OneByOne { left, .. } => left.is_empty(),
            Self::Constant(_) => true,
            Self::Planes(planes) => planes.next == planes.count,
        }
    }
}

impl Planes<'_> {
    fn next(&mut self) -> Result<u64, ColumnError> {
        let (at, width) = (self.next, self.width);
        if at == self.count {
            return refused("a column ends too early");
        }
        self.next += 1;
        let steps = match width {
            0 => 0,
            1 | 2 | 4 => u64::from(self.bytes[at * width / 8] >> (at * width % 8)) & ((1 << width) - 1),
            _ => (0..width / 8)
                .map(|rank| u64::from(self.bytes[rank * self.count + at]) << (8 * rank))
                .fold(0, |steps, byte| steps | byte),
        };
        let number = self.least.wrapping_add(steps.wrapping_mul(self.step));
        let Some(last) = &mut self.last else { return Ok(number) };
        *last = last.wrapping_add(number);
        Ok(*last)
    }
}
