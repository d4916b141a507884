//! Many transactions to a till, parcel by parcel, and its answers out, line by line: what `capture` and `import` share.
//! Bounded by what a parcel holds. It reads no transaction and sends none twice; the till judges each.

use std::io::{self, IsTerminal};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{CallError, Client};
use super::out::Out;
use super::words::text_or_dash;
use crate::error::Failure;
use crate::import::Place;

/// HTTP status of a till that can take nothing now: its storage failed, or it stops.
const OUT_OF_SERVICE: [u64; 2] = [503, 507];

/// Where the lines come from.
pub(super) struct Input {
    pub(super) source: Box<dyn io::Read + Send>,
    /// Its length; none of a pipe, which gives bit by bit.
    pub(super) bytes: Option<u64>,
}

/// Opens a file, or standard input for `-`.
pub(super) fn open(path: &Path, operation: &str) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Input { source: Box::new(io::stdin()), bytes: None });
    }
    let refused = |error: io::Error| {
        Failure::refused(format!(
            "{operation}: cannot read {}: {error}; name a file of transactions, or - for standard input",
            path.display()
        ))
    };
    let file = std::fs::File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    if about.is_dir() {
        return Err(refused(io::Error::other("it is a directory")));
    }
    Ok(Input { source: Box::new(file), bytes: about.is_file().then_some(about.len()) })
}

/// Drawn on stderr, and only if that is a terminal.
pub(super) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, form) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}  {elapsed}, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Whether a person sees the progress bar.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Some transactions that follow each other.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    /// Those for the till, one a line.
    pub(super) body: Vec<u8>,
    /// Every one, in order.
    pub(super) entries: Vec<(Place, Entry)>,
    /// Bytes of the input read up to here.
    pub(super) read: u64,
}

/// What becomes of a transaction of a parcel.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is in the body.
    Sent,
    /// It is not, for a reason that is told here.
    Refused { receipt: Option<String>, detail: String },
}

/// How far it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Saved by the till now.
    pub(super) recorded: u64,
    /// Saved by the till before; it gave the first answer again.
    pub(super) known: u64,
    pub(super) refused: u64,
    /// The last one that was answered.
    pub(super) last: Place,
}

impl Tally {
    pub(super) fn saved(&self) -> u64 {
        self.recorded + self.known
    }

    pub(super) fn answered(&self) -> u64 {
        self.saved() + self.refused
    }
}

/// Sends parcels and passes the answers on.
pub(super) struct Sender<'a> {
    pub(super) client: &'a Client,
    pub(super) out: &'a mut Out,
    pub(super) bar: &'a ProgressBar,
    pub(super) tally: &'a mut Tally,
    /// File that the places are in, where there are several.
    pub(super) file: Option<&'a str>,
    /// A person reads: refusals in words, nothing for what went well.
    pub(super) in_words: bool,
}

/// Whether an answer is a refusal, or one that was given before; the rest of it is not looked at.
#[derive(Deserialize)]
struct Verdict {
    error: Option<IgnoredAny>,
    #[serde(default)]
    repeated: bool,
}

/// A refusal with its place in the input.
#[derive(Serialize)]
struct RefusedLine<'a> {
    receipt: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<u64>,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
    error: Value,
}

impl Sender<'_> {
    /// Sends a parcel and writes the answers, in its order.
    ///
    /// # Errors
    /// The till is gone, answers strangely or takes nothing now; or nobody reads the answers. The tally says how far it
    /// went.
    pub(super) fn send(&mut self, parcel: &Parcel) -> Result<(), Failure> {
        let answers = if parcel.body.is_empty() {
            String::new()
        } else {
            let sent = self.client.try_post_lines("/v1/transactions", &parcel.body);
            sent.map_err(|error| self.client.fail(&error))?
        };
        let bar = self.bar;
        let out_of_service = bar.suspend(|| self.pass_on(parcel, &answers))?;
        self.bar.set_position(parcel.read);
        self.bar.set_message(format!("{} saved, {} refused", self.tally.saved(), self.tally.refused));
        match out_of_service {
            None => Ok(()),
            Some(reason) => {
                let operation = self.client.operation();
                Err(Failure::unreachable(format!("{operation}: the till takes nothing now: {reason}")))
            }
        }
    }

    /// Writes the answers of a parcel. Gives the reason if the till is out of service: then everything to come would be
    /// refused as well, though nothing is wrong with it.
    fn pass_on(&mut self, parcel: &Parcel, answers: &str) -> Result<Option<String>, Failure> {
        let mut answers = answers.lines().filter(|line| !line.trim().is_empty());
        let mut out_of_service = None;
        for (place, entry) in &parcel.entries {
            let refused = match entry {
                Entry::Refused { receipt, detail } => {
                    let error = json!({"title": "invalid input", "detail": detail, "status": 422});
                    Some((json!(receipt), error))
                }
                Entry::Sent => {
                    let strange = |what: String| self.client.fail(&CallError::Strange(what));
                    let answer =
                        answers.next().ok_or_else(|| strange("it left lines unanswered".to_owned()))?;
                    let verdict: Verdict =
                        serde_json::from_str(answer).map_err(|error| strange(error.to_string()))?;
                    if verdict.error.is_none() {
                        *(if verdict.repeated { &mut self.tally.known } else { &mut self.tally.recorded }) +=
                            1;
                        if !self.in_words {
                            self.out.bytes(answer.as_bytes())?;
                            self.out.bytes(b"\n")?;
                        }
                        None
                    } else {
                        let mut answer: Value =
                            serde_json::from_str(answer).map_err(|error| strange(error.to_string()))?;
                        Some((answer["receipt"].take(), answer["error"].take()))
                    }
                }
            };
            if let Some((receipt, error)) = refused {
                if error["status"].as_u64().is_some_and(|status| OUT_OF_SERVICE.contains(&status)) {
                    out_of_service = Some(error["detail"].as_str().unwrap_or("out of service").to_owned());
                }
                self.tally.refused += 1;
                self.say_refused(*place, receipt, error)?;
            }
            self.tally.last = *place;
        }
        self.out.flush()?;
        Ok(out_of_service)
    }

    fn say_refused(&mut self, place: Place, receipt: Value, error: Value) -> Result<(), Failure> {
        if self.in_words {
            let file = self.file.map_or(String::new(), |file| format!("{file}, "));
            let receipt = text_or_dash(&receipt);
            let detail = super::words::one_line(error["detail"].as_str().unwrap_or("refused"));
            return self.out.text(&format!("refused: {file}{place}, receipt {receipt}: {detail}"));
        }
        let Place { transaction, line, column } = place;
        let refused = RefusedLine { receipt, file: self.file, transaction, line, column, error };
        let mut bytes = serde_json::to_vec(&refused).map_err(Failure::refused)?;
        bytes.push(b'\n');
        self.out.bytes(&bytes)
    }
}
