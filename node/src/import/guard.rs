//! A reader in front of the XML parser that counts lines and stops a single tag or text before the parser has kept
//! too much of it: the parser keeps each in memory as a whole. Knows nothing of XML.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest tag, text or comment, in bytes. A drawn signature takes a few thousand.
pub(super) const EVENT_BYTES: u64 = 1 << 20;
/// Bytes asked of the source at a time.
const READ_BYTES: usize = 64 << 10;

/// Counts what is taken, and refuses more once an event is too long.
pub(super) struct Guard<R> {
    source: BufReader<R>,
    /// Bytes taken in all, for others to look at.
    read: Arc<AtomicU64>,
    line: u64,
    column: u64,
    /// Bytes taken since the event began.
    event: u64,
    /// Bytes taken since the transaction began.
    transaction: u64,
    overrun: bool,
}

impl<R: Read> Guard<R> {
    pub(super) fn new(source: R) -> Self {
        let source = BufReader::with_capacity(READ_BYTES, source);
        let read = Arc::default();
        Self { source, read, line: 1, column: 1, event: 0, transaction: 0, overrun: false }
    }

    /// The next event begins here.
    pub(super) fn begin_event(&mut self) -> (u64, u64) {
        self.event = 0;
        (self.line, self.column)
    }

    pub(super) fn begin_transaction(&mut self) {
        self.transaction = 0;
    }

    /// Bytes of the transaction so far.
    pub(super) fn transaction_bytes(&self) -> u64 {
        self.transaction
    }

    /// Whether an event was longer than [`EVENT_BYTES`].
    pub(super) fn overrun(&self) -> bool {
        self.overrun
    }

    /// Bytes taken so far, readable while somebody else reads on.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// The first bytes, not taken yet. Few if a pipe gave few.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Guard<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.event > EVENT_BYTES {
            self.overrun = true;
            return Err(io::Error::other("event too long"));
        }
        self.source.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        let taken = &self.source.buffer()[..amount];
        let lines = taken.iter().filter(|byte| **byte == b'\n').count() as u64;
        match taken.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => self.column = (taken.len() - at) as u64,
            None => self.column += taken.len() as u64,
        }
        self.line += lines;
        self.event += amount as u64;
        self.transaction += amount as u64;
        self.read.fetch_add(amount as u64, Ordering::Relaxed);
        self.source.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_an_editor() {
        let mut guard = Guard::new(&b"ab\ncd\n\ne"[..]);
        let mut places = Vec::new();
        for _ in 0..8 {
            places.push(guard.begin_event());
            guard.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(places, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)]);
        assert_eq!(guard.counter().load(Ordering::Relaxed), 8);
    }

    #[test]
    fn an_event_without_end_is_stopped_and_the_next_begins_anew() {
        let mut guard = Guard::new(io::repeat(b'x'));
        let mut kept = Vec::new();
        guard.read_to_end(&mut kept).unwrap_err();
        assert!(guard.overrun());
        assert!(kept.len() as u64 <= EVENT_BYTES + READ_BYTES as u64);
        guard.begin_event();
        assert!(guard.fill_buf().is_ok());
    }
}
