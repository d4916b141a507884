//! `tillsync import`: history, or the log of another POS, into a till's log. Streams like `capture` and sends as it
//! does; what the formats mean is known in the crate's room `import`. Whatever is imported has a number that comes
//! from the source, so that it is recorded once however often it is imported.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clap::ValueEnum;
use engine::money::Currency;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::basket::Fields;
use super::capture::too_long;
use super::client::{CallError, Client, Role, Where};
use super::import_feed::{Feed, Item, Told, read_lines, read_poslog};
use super::lines::LINE_BYTES;
use super::out::{Out, is_reader_gone};
use super::reversal::{cancelling, transaction_path};
use super::send::{Entry, Input, Parcel, Sender, Tally, open, progress_bar};
use super::words::count;
use crate::error::Failure;
use crate::import::poslog::Assumed;
use crate::import::{Origins, Own, Place, PostVoid};

/// Transactions read ahead of the sender.
const AHEAD: usize = 8;
/// Most transactions of a parcel.
const PARCEL_ENTRIES: usize = 64;
/// Bytes after which a parcel is full; the transaction that fills it is still in it.
const PARCEL_BYTES: usize = 256 << 10;
/// How long a parcel that is not full waits for more: a pipe may be kept open by somebody who waits for answers.
const PARCEL_PATIENCE: Duration = Duration::from_millis(3);

/// Import history, or another POS's log, into a till
///
/// Takes transactions with their own times and business days: NDJSON lines as `capture` takes them, or POSLog XML (ARTS
/// 6.0, NCR ACS 2.1). A POSLog transaction becomes receipt STORE.WORKSTATION.DAY.NUMBER; sign-ons, training and
/// cancelled transactions are skipped and counted. What does not add up, or holds money that is not understood, is
/// refused with its place; the rest go on. Answers are those of `capture`; then it says what was read, recorded, known
/// already, skipped and refused.
///
/// Importing again records nothing twice. After any failure, run the same import again.
///
/// All of it becomes part of this till's log: the cash of every workstation in the file is then expected in this till's
/// drawer. To keep drawers apart, import each till's part into its own till (--workstation, or a file for each).
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Format of the files: ndjson or poslog
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    format: Format,
    /// Files, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Take lines of other tills and stores, too, under the number STORE/TILL/RECEIPT; their cash is then this
    /// drawer's. A POSLog is taken whole in any case
    #[arg(long)]
    take_all: bool,
    /// Only transactions of this workstation of a POSLog
    #[arg(long, value_name = "ID")]
    workstation: Option<String>,
    /// Pass over what comes before transaction N (NDJSON: line N) of the file
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    from: u64,
    /// Time zone of a POSLog's times, such as America/New_York; that of this machine otherwise
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Currency of POSLog transactions that name none
    #[arg(long, value_name = "CUR")]
    currency: Option<Currency>,
    #[command(flatten)]
    at: Where,
}

/// Format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line.
    Ndjson,
    /// ARTS POSLog XML.
    Poslog,
}

/// What came of it.
#[derive(Debug, Default)]
struct Summary {
    tally: Tally,
    skipped: BTreeMap<String, u64>,
    /// Files that could not be read to their end.
    broken: Vec<String>,
}

impl Import {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Till, "import")?;
        let assumed = self.assumed()?;
        if self.from != 1 && self.files.len() > 1 {
            return Err(Failure::usage("import: --from counts in one file; name only that one"));
        }
        let own = self.take_all.then(|| own_till(&client)).transpose()?;
        let mut summary = Summary::default();
        let mut result = Ok(());
        for file in &self.files {
            result = self.one_file(file, &client, &assumed, own.as_ref(), out, &mut summary);
            if result.is_err() {
                break;
            }
        }
        let go_on = || summary.go_on(&self.files, self.from);
        match result {
            Ok(()) => {
                summary.say(out)?;
                summary.failure().map_or(Ok(()), Err)
            }
            Err(failure) if is_reader_gone(&failure) => {
                Err(Failure::refused(format!("import: nobody reads the answers any more; {}", go_on())))
            }
            Err(failure) if summary.tally.answered() == 0 => Err(failure),
            Err(failure) => Err(Failure { message: format!("{}. {}", failure.message, go_on()), ..failure }),
        }
    }

    fn assumed(&self) -> Result<Assumed, Failure> {
        let poslog_only = [
            ("--workstation", self.workstation.is_some()),
            ("--time-zone", self.time_zone.is_some()),
            ("--currency", self.currency.is_some()),
        ];
        if let (Format::Ndjson, Some((flag, _))) = (self.format, poslog_only.iter().find(|row| row.1)) {
            return Err(Failure::usage(format!(
                "import: {flag} belongs to --format poslog; NDJSON lines say it themselves"
            )));
        }
        let zone = match &self.time_zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|error| {
                Failure::usage(format!("import: --time-zone: {error}; give a name such as America/New_York"))
            })?,
        };
        Ok(Assumed { zone, currency: self.currency, workstation: self.workstation.clone() })
    }

    fn one_file(
        &self,
        path: &std::path::Path,
        client: &Client,
        assumed: &Assumed,
        own: Option<&Own>,
        out: &mut Out,
        summary: &mut Summary,
    ) -> Result<(), Failure> {
        let Input { source, bytes } = open(path, "import")?;
        let bar = progress_bar(bytes);
        let name = path.display().to_string();
        let (send, told) = mpsc::sync_channel(AHEAD);
        let feed = Feed::new(send);
        let (from, eager) = (self.from, bytes.is_none());
        // Not scoped threads: when the till is gone, nobody waits for a reader that waits for its pipe.
        match self.format {
            Format::Ndjson => {
                let origins = own.cloned().map(Origins::new);
                std::thread::spawn(move || read_lines(source, eager, from, origins, &feed));
            }
            Format::Poslog => {
                let assumed = assumed.clone();
                std::thread::spawn(move || read_poslog(source, assumed, from, &feed));
            }
        }
        let in_words = out.terminal() && !out.json();
        let file = (self.files.len() > 1).then_some(name.as_str());
        let Summary { tally, skipped, broken } = summary;
        let sender = Sender { client, out, bar: &bar, tally, file, in_words };
        let mut work = Work { sender, skipped, parcel: Parcel::default(), read: 0 };
        let result = work.all(&told);
        bar.finish_and_clear();
        broken.extend(result?.map(|problem| format!("{name}: {problem}")));
        Ok(())
    }
}

/// The till's own name, which lines of it may carry.
fn own_till(client: &Client) -> Result<Own, Failure> {
    let status = client.get("/v1/status")?;
    let text = |name: &str| status[name].as_str().map(str::to_owned);
    match (text("store"), text("terminal")) {
        (Some(store), Some(terminal)) => Ok(Own { store, terminal }),
        _ => Err(client.fail(&CallError::Strange("its status names no till".to_owned()))),
    }
}

/// Gathers what was read into parcels and sends them.
struct Work<'a> {
    sender: Sender<'a>,
    skipped: &'a mut BTreeMap<String, u64>,
    parcel: Parcel,
    /// Bytes of the input read up to the last of the parcel.
    read: u64,
}

impl Work<'_> {
    /// Everything up to the end of the input; gives the reason if that is not the end of the file.
    fn all(&mut self, told: &Receiver<Told>) -> Result<Option<String>, Failure> {
        while let Ok(first) = told.recv() {
            let mut next = Some(first);
            while let Some(told_next) = next.take() {
                match told_next {
                    Told::Item { place, item, read } => {
                        self.read = read;
                        self.take(place, item)?;
                    }
                    Told::Broken(problem) => {
                        self.flush()?;
                        return Ok(Some(problem));
                    }
                }
                let full =
                    self.parcel.entries.len() >= PARCEL_ENTRIES || self.parcel.body.len() >= PARCEL_BYTES;
                if !full {
                    next = told.recv_timeout(PARCEL_PATIENCE).ok();
                }
            }
            self.flush()?;
        }
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let parcel = Parcel { read: self.read, ..std::mem::take(&mut self.parcel) };
        self.sender.send(&parcel)
    }

    fn take(&mut self, place: Place, item: Item) -> Result<(), Failure> {
        match item {
            Item::Line(line) => self.put(place, &line),
            Item::Refused { receipt, problem } => {
                self.parcel.entries.push((place, Entry::Refused { receipt, detail: problem }));
            }
            Item::Skipped(reason) => *self.skipped.entry(reason).or_default() += 1,
            Item::Void(void) => {
                // What it cancels may be in the parcel.
                self.flush()?;
                let receipt = void.fields["receipt"].as_str().map(str::to_owned);
                let client = self.sender.client;
                let entry = match client.try_get(&transaction_path(&void.of)) {
                    Ok(original) => void_of(*void, Some(&original)),
                    Err(CallError::Refused { status: 404, .. }) => void_of(*void, None),
                    Err(error) => return Err(client.fail(&error)),
                };
                match entry {
                    Ok(fields) => self.put(place, &Value::Object(fields).to_string().into_bytes()),
                    Err(detail) => self.parcel.entries.push((place, Entry::Refused { receipt, detail })),
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, place: Place, line: &[u8]) {
        if line.len() > LINE_BYTES {
            self.parcel.entries.push((place, Entry::Refused { receipt: None, detail: too_long() }));
            return;
        }
        self.parcel.body.extend_from_slice(line);
        self.parcel.body.push(b'\n');
        self.parcel.entries.push((place, Entry::Sent));
    }
}

/// A post-void with the lines and tenders of what it cancels; of an unknown original, with those of the log.
fn void_of(void: PostVoid, original: Option<&Value>) -> Result<Fields, String> {
    let PostVoid { mut fields, of, repeated, total_minor } = void;
    let Some(original) = original else {
        let repeated = repeated.ok_or_else(|| {
            format!("cancels {of}, which this till does not hold; import the log that holds it first, then this again")
        })?;
        fields.extend(repeated);
        fields.insert("original".to_owned(), json!({"receipt": of}));
        return Ok(fields);
    };
    if let (Some(stated), Some(total)) = (total_minor, original["total_minor"].as_i64())
        && stated != total
    {
        return Err(format!("cancels {of} and states {stated} minor units, but {of} was over {total}"));
    }
    fields.extend(cancelling(&of, original)?);
    Ok(fields)
}

impl Summary {
    fn skipped_in_all(&self) -> u64 {
        self.skipped.values().sum()
    }

    fn read(&self) -> u64 {
        self.tally.answered() + self.skipped_in_all()
    }

    fn say(&self, out: &mut Out) -> Result<(), Failure> {
        let Tally { recorded, known, refused, .. } = self.tally;
        if out.json() {
            return out.document(&json!({"summary": {
                "read": self.read(), "recorded": recorded, "known": known, "skipped": self.skipped, "refused": refused,
            }}));
        }
        let reasons: Vec<String> =
            self.skipped.iter().map(|(reason, number)| format!("{number} {reason}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let text = format!(
            "{} read: {recorded} recorded, {known} known already, {} skipped{reasons}, {refused} refused.",
            count(self.read(), "transaction", "transactions"),
            self.skipped_in_all(),
        );
        if out.terminal() {
            return out.text(&text);
        }
        // Answers fill stdout; a summary among them would be taken for one.
        let _ = writeln!(io::stderr(), "{}", super::words::one_line(&text));
        Ok(())
    }

    fn failure(&self) -> Option<Failure> {
        let refused = self.tally.refused;
        let mut parts = self.broken.clone();
        if !parts.is_empty() {
            parts.push(format!(
                "what came before stands ({} saved)",
                count(self.tally.saved(), "transaction", "transactions")
            ));
        }
        if refused > 0 {
            parts.push(format!(
                "{refused} of {} refused; each says why. Correct them and import again: what is saved stays saved once",
                count(self.read(), "transaction was", "transactions were"),
            ));
        }
        (!parts.is_empty()).then(|| Failure::refused(format!("import: {}", parts.join("; "))))
    }

    fn go_on(&self, files: &[PathBuf], from: u64) -> String {
        let answered = count(self.tally.answered(), "transaction was", "transactions were");
        let next = self.tally.last.number() + 1;
        let quickly = if files.len() == 1 && next > from {
            format!("; --from {next} passes over them quickly")
        } else {
            String::new()
        };
        format!(
            "{answered} answered, up to {}. Run the same import again to go on: what the till has is not recorded \
             twice{quickly}",
            self.tally.last
        )
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
