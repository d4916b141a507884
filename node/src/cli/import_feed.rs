//! The reading side of `import`, in a thread of its own: files become items, a few ahead of what is sent. It says what
//! it cannot read and never waits for the till.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::capture::too_long;
use super::lines::{Chunk, Line, read_chunks};
use crate::import::poslog::{Assumed, PosLog};
use crate::import::{Origins, Place, PostVoid, Step};

/// What the sender is told.
pub(super) enum Told {
    /// The next of the input.
    Item {
        place: Place,
        item: Item,
        /// Bytes of the input read up to here.
        read: u64,
    },
    /// The input cannot be read any further.
    Broken(String),
}

/// One transaction of an input.
pub(super) enum Item {
    /// For the till as it is.
    Line(Vec<u8>),
    Void(Box<PostVoid>),
    Skipped(String),
    Refused {
        receipt: Option<String>,
        problem: String,
    },
}

/// Hands over to the sender; false when nobody takes any more.
pub(super) struct Feed {
    to: SyncSender<Told>,
}

impl Feed {
    pub(super) fn new(to: SyncSender<Told>) -> Self {
        Self { to }
    }

    fn item(&self, place: Place, item: Item, read: u64) -> bool {
        self.to.send(Told::Item { place, item, read }).is_ok()
    }

    fn broken(&self, problem: String) {
        let _ = self.to.send(Told::Broken(problem));
    }
}

/// Reads a POSLog to its end.
pub(super) fn read_poslog(source: impl Read, assumed: Assumed, from: u64, feed: &Feed) {
    let mut log = PosLog::new(source, assumed, from);
    let counter = log.counter();
    loop {
        let (place, step) = match log.step() {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(broken) => return feed.broken(broken.to_string()),
        };
        let item = match step {
            Step::Transaction(fields) => Item::Line(Value::Object(fields).to_string().into_bytes()),
            Step::Void(void) => Item::Void(void),
            Step::Skipped(reason) => Item::Skipped(reason),
            Step::Refused { receipt, problem } => Item::Refused { receipt, problem },
        };
        if !feed.item(place, item, counter.load(Ordering::Relaxed)) {
            return;
        }
    }
}

/// Reads NDJSON to its end. Lines before number `from` are passed over; `origins`, if lines of other tills are taken.
pub(super) fn read_lines(
    source: impl Read,
    eager: bool,
    from: u64,
    mut origins: Option<Origins>,
    feed: &Feed,
) {
    let result = read_chunks(source, eager, |chunk| {
        let Chunk { body, lines, read } = chunk;
        let mut whole = body.split(|byte| *byte == b'\n');
        for line in lines {
            let (number, item) = match line {
                Line::TooLong(number) => (number, Item::Refused { receipt: None, problem: too_long() }),
                Line::Whole(number) => {
                    let text = whole.next().unwrap_or_default();
                    if number < from {
                        pass_over(text, origins.as_mut());
                        continue;
                    }
                    (number, one_line(text, origins.as_mut()))
                }
            };
            if number >= from && !feed.item(Place::of_line(number), item, read) {
                return false;
            }
        }
        true
    });
    if let Err(error) = result {
        feed.broken(format!("cannot read on: {error}"));
    }
}

fn pass_over(text: &[u8], origins: Option<&mut Origins>) {
    if let (Some(origins), Ok(Value::Object(line))) = (origins, serde_json::from_slice(text)) {
        origins.note(&line);
    }
}

/// What a line is known by when it is imported again.
#[derive(Deserialize)]
struct Names {
    receipt: Option<IgnoredAny>,
    idempotency_key: Option<IgnoredAny>,
}

const NAMELESS: &str = "receipt: is missing, and so is idempotency_key: without either, importing again would record this twice; give the number that the source has for it";

fn one_line(text: &[u8], origins: Option<&mut Origins>) -> Item {
    // What is no JSON object is for the till to refuse: it names the place in the line.
    if let Ok(Names { receipt: None, idempotency_key: None }) = serde_json::from_slice(text) {
        return Item::Refused { receipt: None, problem: NAMELESS.to_owned() };
    }
    let Some(origins) = origins else { return Item::Line(text.to_vec()) };
    let Ok(Value::Object(mut line)) = serde_json::from_slice(text) else { return Item::Line(text.to_vec()) };
    let receipt = line.get("receipt").and_then(Value::as_str).map(engine::transaction::mask_card_numbers);
    match origins.take(&mut line) {
        Ok(()) => Item::Line(Value::Object(line).to_string().into_bytes()),
        Err(problem) => Item::Refused { receipt, problem },
    }
}
