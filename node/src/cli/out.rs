//! Where answers go: stdout, as JSON for scripts or text for people. Never diagnostics, which belong on stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::error::Failure;

/// The answer of a command.
pub(super) struct Out {
    json: bool,
    terminal: bool,
    to: Box<dyn Write>,
}

impl Out {
    /// Answers on stdout.
    pub(super) fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { json, terminal, to: Box::new(io::BufWriter::new(stdout)) }
    }

    /// Answers into any writer that is no terminal.
    #[cfg(test)]
    pub(super) fn to(writer: impl Write + 'static, json: bool) -> Self {
        Self { json, terminal: false, to: Box::new(writer) }
    }

    /// Whether scripts read this.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at it right now.
    pub(super) fn terminal(&self) -> bool {
        self.terminal
    }

    /// Whether colours help: a terminal whose owner has not said no to them (`NO_COLOR`).
    pub(super) fn colours(&self) -> bool {
        self.terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// One JSON document, or one line of NDJSON.
    pub(super) fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec(value).map_err(Failure::refused)?;
        bytes.push(b'\n');
        self.bytes(&bytes)?;
        self.flush()
    }

    /// Text for people; a line end is added where it lacks one.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            self.bytes(b"\n")?;
        }
        self.flush()
    }

    /// Bytes as they are, not flushed.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(|error| failed(&error))
    }

    /// Hands everything to the reader.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| failed(&error))
    }
}

/// `tillsync cases | head` has its lines and closes the pipe: the question was answered, nobody wants an error.
fn failed(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure { code: 0, message: String::new() },
        _ => Failure::refused(format!(
            "cannot write the answer to stdout: {error}; free space or choose another file"
        )),
    }
}

/// Whether a command ended because nobody reads on.
pub(super) fn is_reader_gone(failure: &Failure) -> bool {
    failure.code == 0
}

/// A writer that a test can look into while a command still holds it.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct Page(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Page {
    pub(super) fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_told_apart_from_a_full_disk() {
        let failure = Out::to(Closed, false).text("hello").unwrap_err();
        assert!(is_reader_gone(&failure));
        assert!(!is_reader_gone(&failed(&io::Error::other("disk full"))));
    }

    #[test]
    fn text_ends_its_line_and_json_is_one_line() {
        let page = Page::default();
        Out::to(page.clone(), false).text("a").unwrap();
        Out::to(page.clone(), true).document(&serde_json::json!({"a": "b\nc"})).unwrap();
        assert_eq!(page.read(), "a\n{\"a\":\"b\\nc\"}\n");
    }
}
