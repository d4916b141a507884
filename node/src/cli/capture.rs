//! `tillsync capture`: transactions from a file or a pipe to the till, answers out, line by line. Streams in bounded
//! memory: one chunk is read ahead while the till makes the one before durable. It reads no transaction itself and
//! sends none twice; the till judges each.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{CallError, Client, Role, Where};
use super::lines::{Chunk, LINE_BYTES, Line, read_chunks};
use super::out::{Out, is_reader_gone};
use super::words::count;
use crate::error::Failure;

/// HTTP status of a till that can take nothing now: its storage failed, or it stops.
const OUT_OF_SERVICE: u64 = 503;

/// Give a till many transactions, one JSON object a line; answers one line for each
///
/// Gives a till many transactions, one JSON object a line. For each it prints one line, once the till has made it
/// durable: {"receipt","id","seq","state":"saved"}, or {"receipt","line","error"} for a refused one; the rest go on.
/// A file is never read into memory as a whole, and what a pipe holds is sent without waiting for more. If the till
/// goes away, capture the same file again: receipts it knows get their first answer again.
#[derive(Debug, clap::Args)]
pub(super) struct Capture {
    /// File with one transaction a line; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    at: Where,
}

impl Capture {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Till, "capture")?;
        let Input { source, bytes } = open(&self.file)?;
        let bar = progress_bar(bytes);
        let mut taken = Taken::default();
        let result = capture(&client, source, bytes.is_none(), out, &bar, &mut taken);
        bar.finish_and_clear();
        match result {
            Ok(()) if taken.refused > 0 => Err(taken.some_refused()),
            Ok(()) => {
                if io::stderr().is_terminal() {
                    let all = count(taken.saved, "transaction", "transactions");
                    let _ = writeln!(io::stderr(), "{all} saved by the till.");
                }
                Ok(())
            }
            Err(failure) if is_reader_gone(&failure) => Err(Failure::refused(format!(
                "capture: nobody reads the answers any more; {}",
                taken.go_on()
            ))),
            Err(failure) => Err(failure),
        }
    }
}

/// Where the lines come from.
struct Input {
    source: Box<dyn Read + Send>,
    /// Its length; none of a pipe, which gives bit by bit.
    bytes: Option<u64>,
}

fn open(path: &Path) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Input { source: Box::new(io::stdin()), bytes: None });
    }
    let refused = |error: io::Error| {
        Failure::refused(format!(
            "capture: cannot read {}: {error}; name a file of transactions, or - for standard input",
            path.display()
        ))
    };
    let file = File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    Ok(Input { source: Box::new(file), bytes: about.is_file().then_some(about.len()) })
}

/// Drawn on stderr, and only if that is a terminal.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, form) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}  {elapsed}, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// How far it went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    saved: u64,
    refused: u64,
    /// Last line of the input that was answered.
    line: u64,
}

impl Taken {
    fn answered(&self) -> u64 {
        self.saved + self.refused
    }

    fn some_refused(&self) -> Failure {
        Failure::refused(format!(
            "capture: {} of {} refused; the lines with \"error\" say why. Correct them and capture the file again: what is saved stays saved once",
            self.refused,
            count(self.answered(), "transaction was", "transactions were"),
        ))
    }

    fn go_on(&self) -> String {
        format!(
            "{} answered (up to line {} of the input). Capture the same input again to go on: receipts and idempotency keys \
             that the till knows get their first answer again. A line without either would be rung twice: start those after \
             what `tillsync pending` shows",
            count(self.answered(), "line was", "lines were"),
            self.line,
        )
    }

    fn broken_off(&self, failure: Failure) -> Failure {
        if self.answered() == 0 {
            return failure;
        }
        Failure { message: format!("{}. {}", failure.message, self.go_on()), ..failure }
    }
}

fn capture(
    client: &Client,
    source: impl Read + Send + 'static,
    eager: bool,
    out: &mut Out,
    bar: &ProgressBar,
    taken: &mut Taken,
) -> Result<(), Failure> {
    // Not a scoped thread: when the till is gone, nobody waits for a reader that waits for its pipe.
    let (send, chunks) = mpsc::sync_channel::<io::Result<Chunk>>(1);
    std::thread::spawn(move || {
        if let Err(error) = read_chunks(source, eager, |chunk| send.send(Ok(chunk)).is_ok()) {
            let _ = send.send(Err(error));
        }
    });
    for chunk in chunks {
        let chunk = chunk.map_err(|error| {
            taken.broken_off(Failure::refused(format!("capture: cannot read on: {error}")))
        })?;
        let answers = if chunk.body.is_empty() {
            String::new()
        } else {
            let sent = client.try_post_lines("/v1/transactions", &chunk.body);
            sent.map_err(|error| taken.broken_off(client.fail(&error)))?
        };
        let out_of_service = bar.suspend(|| pass_on(client, &chunk, &answers, out, taken))?;
        bar.set_position(chunk.read);
        bar.set_message(format!("{} saved, {} refused", taken.saved, taken.refused));
        if let Some(reason) = out_of_service {
            return Err(taken
                .broken_off(Failure::unreachable(format!("capture: the till takes nothing now: {reason}"))));
        }
    }
    Ok(())
}

/// Whether an answer is a refusal; the rest of it is not looked at.
#[derive(Deserialize)]
struct Verdict {
    error: Option<IgnoredAny>,
}

/// A refusal with the number of its line in the input.
#[derive(Serialize)]
struct RefusedLine {
    receipt: Value,
    line: u64,
    error: Value,
}

/// Writes the answers of a chunk, in the order of its lines. Gives the reason if the till is out of service: then
/// every line to come would be refused as well, though nothing is wrong with it.
fn pass_on(
    client: &Client,
    chunk: &Chunk,
    answers: &str,
    out: &mut Out,
    taken: &mut Taken,
) -> Result<Option<String>, Failure> {
    let mut answers = answers.lines().filter(|line| !line.trim().is_empty());
    let mut out_of_service = None;
    for line in &chunk.lines {
        let (number, refused) = match line {
            Line::TooLong(number) => (*number, Some(too_long(*number))),
            Line::Whole(number) => {
                let missing = || CallError::Strange("it left lines unanswered".to_owned());
                let answer = answers.next().ok_or_else(|| taken.broken_off(client.fail(&missing())))?;
                let refused = refusal(answer, *number)
                    .map_err(|error| taken.broken_off(client.fail(&CallError::Strange(error.to_string()))))?;
                if refused.is_none() {
                    out.bytes(answer.as_bytes())?;
                    out.bytes(b"\n")?;
                }
                (*number, refused)
            }
        };
        match refused {
            None => taken.saved += 1,
            Some(refused) => {
                if refused.error["status"].as_u64() == Some(OUT_OF_SERVICE) {
                    out_of_service =
                        Some(refused.error["detail"].as_str().unwrap_or("out of service").to_owned());
                }
                let mut bytes = serde_json::to_vec(&refused).map_err(Failure::refused)?;
                bytes.push(b'\n');
                out.bytes(&bytes)?;
                taken.refused += 1;
            }
        }
        taken.line = number;
    }
    out.flush()?;
    Ok(out_of_service)
}

fn refusal(answer: &str, line: u64) -> Result<Option<RefusedLine>, serde_json::Error> {
    let verdict: Verdict = serde_json::from_str(answer)?;
    if verdict.error.is_none() {
        return Ok(None);
    }
    let mut answer: Value = serde_json::from_str(answer)?;
    Ok(Some(RefusedLine { receipt: answer["receipt"].take(), line, error: answer["error"].take() }))
}

fn too_long(line: u64) -> RefusedLine {
    let detail = format!("line of more than {LINE_BYTES} bytes: a transaction is one line of at most that");
    RefusedLine {
        receipt: Value::Null,
        line,
        error: json!({"title": "invalid input", "detail": detail, "status": 422}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::{Request, StandIn, response};
    use super::*;

    /// Answers as a till does: `{"receipt":"bad…"}` and what is no JSON is refused.
    fn till(request: &Request) -> Vec<u8> {
        let text = String::from_utf8(request.body.clone()).unwrap();
        let answers: String = text.lines().map(|line| format!("{}\n", till_line(line))).collect();
        response(200, "application/x-ndjson", &answers)
    }

    fn till_line(line: &str) -> Value {
        let Ok(transaction) = serde_json::from_str::<Value>(line) else {
            return json!({"receipt": null, "error": {"detail": "input: EOF", "status": 422}});
        };
        match transaction["receipt"].as_str().unwrap() {
            "stop" => json!({"receipt": "stop", "error": {"detail": "the node is stopping", "status": 503}}),
            bad if bad.starts_with("bad") => {
                json!({"receipt": bad, "error": {"detail": "no", "status": 422}})
            }
            receipt => json!({"receipt": receipt, "id": "x", "seq": 1, "state": "saved"}),
        }
    }

    fn run(node: &StandIn, input: Vec<u8>) -> (Result<(), Failure>, Taken, Vec<Value>) {
        let (page, mut taken) = (Page::default(), Taken::default());
        let client = node.client(Role::Till, "capture");
        let mut out = Out::to(page.clone(), false);
        let result =
            capture(&client, io::Cursor::new(input), false, &mut out, &ProgressBar::hidden(), &mut taken);
        let answers = page.read().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (result, taken, answers)
    }

    fn sales(receipts: impl IntoIterator<Item = String>) -> Vec<u8> {
        receipts
            .into_iter()
            .map(|receipt| format!("{{\"receipt\":\"{receipt}\"}}\n"))
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn every_line_is_answered_in_order_across_chunks() {
        let node = StandIn::serve(till);
        let (result, taken, answers) = run(&node, sales((1..=200).map(|n| format!("R-{n}"))));
        result.unwrap();
        assert_eq!(taken, Taken { saved: 200, refused: 0, line: 200 });
        let receipts: Vec<&str> = answers.iter().map(|answer| answer["receipt"].as_str().unwrap()).collect();
        assert_eq!(receipts, (1..=200).map(|n| format!("R-{n}")).collect::<Vec<_>>());
        let request = &node.requests()[0];
        assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(node.requests().len(), 4);
    }

    #[test]
    fn refused_malformed_and_overlong_lines_say_so_by_number_and_the_rest_go_on() {
        let node = StandIn::serve(till);
        let mut input = sales(["R-1".to_owned(), "bad-2".to_owned()]);
        input.extend_from_slice(b"\n{\n");
        input.extend(std::iter::repeat_n(b'x', LINE_BYTES + 1));
        input.push(b'\n');
        input.extend(sales(["R-6".to_owned()]));
        let (result, taken, answers) = run(&node, input);
        result.unwrap();
        assert_eq!(taken, Taken { saved: 2, refused: 3, line: 6 });
        let lines: Vec<Option<u64>> = answers.iter().map(|answer| answer["line"].as_u64()).collect();
        assert_eq!(lines, [None, Some(2), Some(4), Some(5), None]);
        assert_eq!(answers[3]["receipt"], Value::Null);
        assert!(
            answers[3]["error"]["detail"].as_str().unwrap().starts_with("line of more than 1048576 bytes")
        );
        assert_eq!(taken.some_refused().code, 1);
    }

    #[test]
    fn a_till_that_goes_away_in_the_middle_is_exit_3_and_says_how_to_go_on() {
        let mut asked = 0;
        let node = StandIn::serve(move |request| {
            asked += 1;
            if asked == 1 { till(request) } else { Vec::new() }
        });
        let (result, taken, answers) = run(&node, sales((1..=100).map(|n| format!("R-{n}"))));
        let failure = result.unwrap_err();
        assert_eq!((failure.code, taken.saved, answers.len()), (3, 64, 64));
        assert!(failure.message.contains("64 lines were answered (up to line 64 of the input)"), "{failure}");
        assert!(failure.message.contains("Capture the same input again"), "{failure}");
    }

    #[test]
    fn a_till_out_of_service_ends_the_capture_instead_of_refusing_everything() {
        let node = StandIn::serve(till);
        let mut receipts: Vec<String> = (1..=63).map(|n| format!("R-{n}")).collect();
        receipts.extend(["stop".to_owned(), "R-65".to_owned()]);
        let (result, taken, _) = run(&node, sales(receipts));
        let failure = result.unwrap_err();
        assert_eq!((failure.code, taken.saved, taken.refused), (3, 63, 1));
        assert!(failure.message.contains("the node is stopping"), "{failure}");
    }

    #[test]
    fn a_till_that_leaves_lines_unanswered_is_an_error_not_a_success() {
        let node =
            StandIn::answer(200, "application/x-ndjson", "{\"receipt\":\"R-1\",\"state\":\"saved\"}\n");
        let (result, taken, _) = run(&node, sales(["R-1".to_owned(), "R-2".to_owned()]));
        assert!(result.unwrap_err().message.contains("it left lines unanswered"));
        assert_eq!(taken.saved, 1);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = open(Path::new("/nowhere/x.ndjson")).err().unwrap();
        assert_eq!(failure.code, 1);
        assert!(failure.message.starts_with("capture: cannot read /nowhere/x.ndjson"), "{failure}");
    }
}
