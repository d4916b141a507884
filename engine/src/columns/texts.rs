//! A column of texts: each without what it shares with the one before, or by patterns: where texts are alike but for
//! their digits (receipts, codes of payments, numbers of items), the digits are numbers.

use std::ops::Range;

use super::numbers::{self, Numbers};
use super::{ColumnError, PATTERNS, TEXTS, Written, put, refused, take};

/// More patterns than this are no patterns.
const PATTERNS_LIMIT: usize = 64;
/// Longer runs of digits are taken for several: a number has 64 bits.
const RUN_LIMIT: usize = 18;
/// Stands for any digit in a pattern; a pattern has no other.
const ANY_DIGIT: u8 = b'0';

/// Texts that are written.
#[derive(Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut from, *end)..*end])
    }

    /// Appends the texts in the form that takes the fewest bytes.
    pub(super) fn write(&self, to: &mut Written) {
        let [mut shared, mut as_patterns] = [(); 2].map(|()| Written::default());
        self.write_shared(&mut shared);
        let fewer = match Patterns::of(self) {
            Some(patterns) => {
                patterns.write(&mut as_patterns);
                as_patterns.estimate < shared.estimate
            }
            None => false,
        };
        let written = if fewer { as_patterns } else { shared };
        to.head.extend(written.head);
        to.parts.extend(written.parts);
    }

    fn write_shared(&self, to: &mut Written) {
        let [mut shared, mut lengths, mut own] = [(); 3].map(|()| Vec::new());
        let mut last: &[u8] = &[];
        for text in self.iter() {
            let same = last.iter().zip(text).take_while(|(a, b)| a == b).count();
            put(&mut shared, same as u64);
            put(&mut lengths, (text.len() - same) as u64);
            own.extend_from_slice(&text[same..]);
            last = text;
        }
        to.head.push(TEXTS);
        for part in [shared, lengths, own] {
            put(&mut to.head, part.len() as u64);
            to.estimate += 1 + part.len();
            to.parts.push(part);
        }
    }
}

/// Texts as patterns and the numbers in them.
struct Patterns {
    /// The pattern of each text.
    which: Vec<u64>,
    patterns: Vec<Pattern>,
}

struct Pattern {
    text: Vec<u8>,
    runs: Vec<Range<usize>>,
    /// The numbers of each run.
    numbers: Vec<Vec<u64>>,
}

impl Patterns {
    fn of(texts: &Texts) -> Option<Self> {
        let (mut which, mut patterns) = (Vec::with_capacity(texts.ends.len()), Vec::<Pattern>::new());
        for text in texts.iter() {
            let known = patterns.iter().position(|pattern| pattern.fits(text));
            let at = known.unwrap_or_else(|| {
                patterns.push(Pattern::of(text));
                patterns.len() - 1
            });
            if at == PATTERNS_LIMIT {
                return None;
            }
            which.push(at as u64);
            patterns[at].push(text);
        }
        Some(Self { which, patterns })
    }

    fn write(&self, to: &mut Written) {
        to.head.push(PATTERNS);
        put(&mut to.head, self.patterns.len() as u64);
        for pattern in &self.patterns {
            put(&mut to.head, pattern.text.len() as u64);
            to.head.extend_from_slice(&pattern.text);
            to.estimate += 1 + pattern.text.len();
        }
        numbers::write(&self.which, false, to);
        for numbers in self.patterns.iter().flat_map(|pattern| &pattern.numbers) {
            numbers::write(numbers, false, to);
        }
    }
}

impl Pattern {
    fn of(text: &[u8]) -> Self {
        let any = |byte: &u8| if byte.is_ascii_digit() { ANY_DIGIT } else { *byte };
        let text: Vec<u8> = text.iter().map(any).collect();
        let runs = runs(&text);
        let numbers = vec![Vec::new(); runs.len()];
        Self { text, runs, numbers }
    }

    fn fits(&self, text: &[u8]) -> bool {
        let fits = |(pattern, byte): (&u8, &u8)| {
            if *pattern == ANY_DIGIT { byte.is_ascii_digit() } else { byte == pattern }
        };
        self.text.len() == text.len() && self.text.iter().zip(text).all(fits)
    }

    fn push(&mut self, text: &[u8]) {
        for (run, numbers) in self.runs.iter().zip(&mut self.numbers) {
            let digits = text[run.clone()].iter().map(|digit| u64::from(digit - b'0'));
            numbers.push(digits.fold(0, |number, digit| 10 * number + digit));
        }
    }
}

/// Where a pattern has digits.
fn runs(pattern: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in (0..pattern.len()).filter(|at| pattern[*at] == ANY_DIGIT) {
        match runs.last_mut() {
            Some(run) if run.end == at && run.len() < RUN_LIMIT => run.end += 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// A column of texts that is read.
pub(super) enum TextsRead<'a> {
    Shared { lengths: [u64; 3], parts: [&'a [u8]; 3], last: Vec<u8> },
    Patterns { which: Numbers<'a>, patterns: Vec<PatternRead<'a>> },
}

/// A pattern, and the numbers of its runs.
pub(super) struct PatternRead<'a> {
    text: &'a [u8],
    runs: Vec<(Range<usize>, Numbers<'a>)>,
}

impl<'a> TextsRead<'a> {
    /// Takes the head of a column of that kind; the texts follow with [`TextsRead::fill`].
    pub(super) fn open(kind: u8, heads: &mut &'a [u8]) -> Result<Self, ColumnError> {
        if kind == TEXTS {
            let lengths = [take(heads)?, take(heads)?, take(heads)?];
            return Ok(Self::Shared { lengths, parts: [&[]; 3], last: Vec::new() });
        }
        let count = take(heads)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(take(heads)?).unwrap_or(usize::MAX);
            let Some((text, rest)) = heads.split_at_checked(length) else {
                return refused("a pattern is longer than what is there");
            };
            *heads = rest;
            texts.push(text);
        }
        let mut numbers = || -> Result<Numbers<'a>, ColumnError> {
            let Some((kind, rest)) = heads.split_first() else { return refused("a column has no kind") };
            *heads = rest;
            Numbers::open(*kind, heads)
        };
        let which = numbers()?;
        let mut patterns = Vec::with_capacity(texts.len());
        for text in texts {
            let runs = runs(text).into_iter().map(|run| Ok((run, numbers()?)));
            patterns.push(PatternRead { text, runs: runs.collect::<Result<_, ColumnError>>()? });
        }
        Ok(Self::Patterns { which, patterns })
    }

    /// Takes its parts.
    pub(super) fn fill(&mut self, from: &mut &'a [u8]) -> Result<(), ColumnError> {
        match self {
            Self::Shared { lengths, parts, .. } => {
                for (part, length) in parts.iter_mut().zip(lengths) {
                    let length = usize::try_from(*length).unwrap_or(usize::MAX);
                    let Some((own, rest)) = from.split_at_checked(length) else {
                        return refused("a column is longer than what is there");
                    };
                    (*part, *from) = (own, rest);
                }
                Ok(())
            }
            Self::Patterns { which, patterns } => {
                which.fill(from)?;
                let mut all = patterns.iter_mut().flat_map(|pattern| &mut pattern.runs);
                all.try_for_each(|(_, numbers)| numbers.fill(from))
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Vec<u8>, ColumnError> {
        match self {
            Self::Shared { parts: [shared, lengths, texts], last, .. } => {
                let shared = usize::try_from(take(shared)?).unwrap_or(usize::MAX);
                let length = usize::try_from(take(lengths)?).unwrap_or(usize::MAX);
                let Some((own, rest)) = texts.split_at_checked(length) else {
                    return refused("a column ends too early");
                };
                if shared > last.len() {
                    return refused("a text shares more than the one before it has");
                }
                *texts = rest;
                last.truncate(shared);
                last.extend_from_slice(own);
                Ok(last.clone())
            }
            Self::Patterns { which, patterns } => {
                let at = usize::try_from(which.next()?).unwrap_or(usize::MAX);
                let Some(pattern) = patterns.get_mut(at) else { return refused("no such pattern") };
                pattern.next()
            }
        }
    }

    pub(super) fn is_used_up(&self) -> bool {
        match self {
            Self::Shared { parts, .. } => parts.iter().all(|part| part.is_empty()),
            Self::Patterns { which, patterns } => {
                let mut all = patterns.iter().flat_map(|pattern| &pattern.runs);
                which.is_used_up() && all.all(|(_, numbers)| numbers.is_used_up())
            }
        }
    }
}

impl PatternRead<'_> {
    fn next(&mut self) -> Result<Vec<u8>, ColumnError> {
        let mut text = self.text.to_vec();
        for (run, numbers) in &mut self.runs {
            let mut number = numbers.next()?;
            for digit in text[run.clone()].iter_mut().rev() {
                *digit += (number % 10).to_le_bytes()[0];
                number /= 10;
            }
            if number > 0 {
                return refused("a number has more digits than its pattern");
            }
        }
        Ok(text)
    }
}
