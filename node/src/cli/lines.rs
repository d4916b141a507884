//! Lines out of a stream of any size, in chunks of bounded memory: a line that is too long is noted and skipped without
//! being kept. Knows nothing of what the lines say.

use std::io::{self, Read};

/// Longest line, in bytes without its line end: what a till takes.
pub(super) const LINE_BYTES: usize = 1 << 20;
/// Lines of a chunk at most.
const CHUNK_LINES: usize = 64;
/// Bytes of a chunk after which it is full; the line that fills it is still in it.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes asked of the source at a time.
const READ_BYTES: usize = 64 << 10;

/// A line of a chunk, by its number in the input, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is in the body.
    Whole(u64),
    /// It was longer than [`LINE_BYTES`] and is nowhere.
    TooLong(u64),
}

/// Some lines that follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The whole lines, each with its line end.
    pub(super) body: Vec<u8>,
    /// Every line that is not blank, in order.
    pub(super) lines: Vec<Line>,
    /// Bytes of the input read up to here.
    pub(super) read: u64,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.lines.len() >= CHUNK_LINES || self.body.len() >= CHUNK_BYTES
    }
}

/// Reads a source to its end and hands over chunk after chunk, until `take` says that it wants no more. An `eager`
/// reader never waits for more input while it holds a whole line: a POS may keep a pipe open and wait for answers.
///
/// # Errors
/// The source cannot be read on; the lines before were handed over.
pub(super) fn read_chunks(
    mut source: impl Read,
    eager: bool,
    mut take: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    let mut chunker = Chunker::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                chunker.hand_over(&mut take);
                return Err(error);
            }
        };
        if !chunker.push(&buffer[..length], &mut take) || (eager && !chunker.hand_over(&mut take)) {
            return Ok(());
        }
    }
    chunker.end_line();
    chunker.hand_over(&mut take);
    Ok(())
}

/// Cuts bytes into lines and gathers them.
#[derive(Default)]
struct Chunker {
    chunk: Chunk,
    /// Where the line in the making begins in the chunk's body.
    start: usize,
    too_long: bool,
    /// Lines ended so far.
    number: u64,
    read: u64,
}

impl Chunker {
    /// Takes bytes in; full chunks go out. False: nobody wants more.
    fn push(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Chunk) -> bool) -> bool {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            self.read += 1;
            self.end_line();
            bytes = &bytes[end + 1..];
            if self.chunk.is_full() && !self.hand_over(take) {
                return false;
            }
        }
        self.extend(bytes);
        true
    }

    fn extend(&mut self, part: &[u8]) {
        self.read += part.len() as u64;
        if self.too_long {
            return;
        }
        if self.chunk.body.len() - self.start + part.len() > LINE_BYTES {
            self.too_long = true;
            self.chunk.body.truncate(self.start);
        } else {
            self.chunk.body.extend_from_slice(part);
        }
    }

    fn end_line(&mut self) {
        self.number += 1;
        if self.number == 1 && self.chunk.body.starts_with(b"\xef\xbb\xbf") {
            // Some programs put a byte order mark in front of UTF-8; it is no part of the first transaction.
            self.chunk.body.drain(..3);
        }
        let blank = self.chunk.body[self.start..].iter().all(u8::is_ascii_whitespace);
        if self.too_long {
            self.chunk.lines.push(Line::TooLong(self.number));
        } else if blank {
            self.chunk.body.truncate(self.start);
        } else {
            self.chunk.body.push(b'\n');
            self.chunk.lines.push(Line::Whole(self.number));
        }
        self.too_long = false;
        self.start = self.chunk.body.len();
    }

    /// Hands over the ended lines, if there are any; the line in the making stays.
    fn hand_over(&mut self, take: &mut impl FnMut(Chunk) -> bool) -> bool {
        if self.chunk.lines.is_empty() {
            return true;
        }
        let unfinished = self.chunk.body.split_off(self.start);
        let mut chunk = std::mem::replace(&mut self.chunk, Chunk { body: unfinished, ..Chunk::default() });
        chunk.read = self.read;
        self.start = 0;
        take(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives one piece at each reading, as a pipe does.
    struct Pipe(Vec<Vec<u8>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    fn chunks(source: impl Read, eager: bool) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        read_chunks(source, eager, |chunk| {
            chunks.push(chunk);
            true
        })
        .unwrap();
        chunks
    }

    fn pipe(pieces: &[&str]) -> Pipe {
        Pipe(pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect())
    }

    #[test]
    fn blank_lines_are_skipped_but_counted_and_the_last_needs_no_end() {
        let got = chunks(&b"\xef\xbb\xbf{1}\r\n\n  \n{4}"[..], false);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].lines, [Line::Whole(1), Line::Whole(4)]);
        assert_eq!(got[0].body, b"{1}\r\n{4}\n");
        assert_eq!(got[0].read, 15);
    }

    #[test]
    fn nothing_gives_no_chunk() {
        assert!(chunks(&b""[..], false).is_empty());
        assert!(chunks(&b"\n \n"[..], true).is_empty());
    }

    #[test]
    fn an_eager_reader_hands_over_what_is_there_and_keeps_the_unfinished_line() {
        let got = chunks(pipe(&["{1}\n{2", "}\n", "{3}"]), true);
        let bodies: Vec<&[u8]> = got.iter().map(|chunk| &chunk.body[..]).collect();
        assert_eq!(bodies, [&b"{1}\n"[..], b"{2}\n", b"{3}\n"]);
        assert_eq!(chunks(pipe(&["{1}\n{2", "}\n", "{3}"]), false).len(), 1);
    }

    #[test]
    fn a_chunk_is_full_by_lines_or_by_bytes() {
        let many = "{}\n".repeat(150);
        let counts: Vec<usize> =
            chunks(many.as_bytes(), false).iter().map(|chunk| chunk.lines.len()).collect();
        assert_eq!(counts, [64, 64, 22]);
        let large = format!("{}\n", "x".repeat(100 << 10)).repeat(4);
        let counts: Vec<usize> =
            chunks(large.as_bytes(), false).iter().map(|chunk| chunk.lines.len()).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_is_noted_without_being_kept() {
        let (fits, exceeds) = ("y".repeat(LINE_BYTES), "x".repeat(LINE_BYTES + 1));
        let text = format!("{{1}}\n{exceeds}\n{fits}\n{exceeds}");
        let got = chunks(text.as_bytes(), false);
        let lines: Vec<Line> = got.iter().flat_map(|chunk| chunk.lines.clone()).collect();
        assert_eq!(lines, [Line::Whole(1), Line::TooLong(2), Line::Whole(3), Line::TooLong(4)]);
        assert!(got.iter().all(|chunk| !chunk.body.contains(&b'x')));
        assert_eq!(got.iter().map(|chunk| chunk.body.len()).sum::<usize>(), 4 + LINE_BYTES + 1);
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut chunker = Chunker::default();
        let piece = vec![b'x'; READ_BYTES];
        for _ in 0..200 {
            chunker.push(&piece, &mut |_| true);
        }
        assert!(chunker.chunk.body.capacity() <= 2 * (LINE_BYTES + READ_BYTES));
        assert_eq!(chunker.read, 200 * READ_BYTES as u64);
    }

    #[test]
    fn reading_stops_when_nobody_wants_more_and_an_error_comes_after_the_lines_before() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("disk"))
            }
        }
        let mut seen = 0;
        read_chunks(pipe(&["{1}\n", "{2}\n"]), true, |_| {
            seen += 1;
            false
        })
        .unwrap();
        assert_eq!(seen, 1);
        let mut before = Vec::new();
        let error = read_chunks((&b"{1}\n"[..]).chain(Broken), false, |chunk| {
            before.push(chunk);
            true
        });
        assert!(error.is_err());
        assert_eq!(before.len(), 1);
    }
}
