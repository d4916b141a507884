//! `tillsync capture`: transactions from a file or a pipe to the till, answers out, line by line. Streams in bounded
//! memory: one chunk is read ahead while the till makes the one before durable. It reads no transaction itself and
//! sends none twice; the till judges each.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc;

use indicatif::ProgressBar;

use super::client::{Client, Role, Where};
use super::lines::{Chunk, LINE_BYTES, Line, read_chunks};
use super::out::{Out, is_reader_gone};
use super::send::{Entry, Input, Parcel, Sender, Tally, is_watched, open, progress_bar};
use super::words::count;
use crate::error::Failure;
use crate::import::Place;

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
        let Input { source, bytes } = open(&self.file, "capture")?;
        let bar = progress_bar(bytes);
        let mut tally = Tally::default();
        let result = capture(&client, source, bytes.is_none(), out, &bar, &mut tally);
        bar.finish_and_clear();
        match result {
            Ok(()) if tally.refused > 0 => Err(some_refused(&tally)),
            Ok(()) => {
                if is_watched() {
                    let all = count(tally.saved(), "transaction", "transactions");
                    let _ = writeln!(io::stderr(), "{all} saved by the till.");
                }
                Ok(())
            }
            Err(failure) if is_reader_gone(&failure) => Err(Failure::refused(format!(
                "capture: nobody reads the answers any more; {}",
                go_on(&tally)
            ))),
            Err(failure) if tally.answered() == 0 => Err(failure),
            Err(failure) => {
                Err(Failure { message: format!("{}. {}", failure.message, go_on(&tally)), ..failure })
            }
        }
    }
}

fn some_refused(tally: &Tally) -> Failure {
    Failure::refused(format!(
        "capture: {} of {} refused; the lines with \"error\" say why. Correct them and capture the file again: what is saved stays saved once",
        tally.refused,
        count(tally.answered(), "transaction was", "transactions were"),
    ))
}

fn go_on(tally: &Tally) -> String {
    format!(
        "{} answered (up to line {} of the input). Capture the same input again to go on: receipts and idempotency keys \
         that the till knows get their first answer again. A line without either would be rung twice: start those after \
         what `tillsync pending` shows",
        count(tally.answered(), "line was", "lines were"),
        tally.last.line,
    )
}

fn capture(
    client: &Client,
    source: impl Read + Send + 'static,
    eager: bool,
    out: &mut Out,
    bar: &ProgressBar,
    tally: &mut Tally,
) -> Result<(), Failure> {
    // Not a scoped thread: when the till is gone, nobody waits for a reader that waits for its pipe.
    let (send, chunks) = mpsc::sync_channel::<io::Result<Chunk>>(1);
    std::thread::spawn(move || {
        if let Err(error) = read_chunks(source, eager, |chunk| send.send(Ok(chunk)).is_ok()) {
            let _ = send.send(Err(error));
        }
    });
    let mut sender = Sender { client, out, bar, tally, file: None, in_words: false };
    for chunk in chunks {
        let chunk = chunk.map_err(|error| Failure::refused(format!("capture: cannot read on: {error}")))?;
        sender.send(&parcel(chunk))?;
    }
    Ok(())
}

fn parcel(chunk: Chunk) -> Parcel {
    let entries = chunk.lines.iter().map(|line| match line {
        Line::Whole(number) => (Place::of_line(*number), Entry::Sent),
        Line::TooLong(number) => {
            (Place::of_line(*number), Entry::Refused { receipt: None, detail: too_long() })
        }
    });
    Parcel { entries: entries.collect(), body: chunk.body, read: chunk.read }
}

/// Why a line is not sent.
pub(super) fn too_long() -> String {
    format!("line of more than {LINE_BYTES} bytes: a transaction is one line of at most that")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

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

    fn run(node: &StandIn, input: Vec<u8>) -> (Result<(), Failure>, Tally, Vec<Value>) {
        let (page, mut taken) = (Page::default(), Tally::default());
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
        assert_eq!((taken.saved(), taken.refused, taken.last.line), (200, 0, 200));
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
        assert_eq!((taken.saved(), taken.refused, taken.last.line), (2, 3, 6));
        let lines: Vec<Option<u64>> = answers.iter().map(|answer| answer["line"].as_u64()).collect();
        assert_eq!(lines, [None, Some(2), Some(4), Some(5), None]);
        assert_eq!(answers[3]["receipt"], Value::Null);
        assert!(
            answers[3]["error"]["detail"].as_str().unwrap().starts_with("line of more than 1048576 bytes")
        );
        assert_eq!(some_refused(&taken).code, 1);
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
        assert_eq!((failure.code, taken.saved(), answers.len()), (3, 64, 64));
        assert!(go_on(&taken).contains("64 lines were answered (up to line 64 of the input)"));
        assert!(go_on(&taken).contains("Capture the same input again"));
    }

    #[test]
    fn a_till_out_of_service_ends_the_capture_instead_of_refusing_everything() {
        let node = StandIn::serve(till);
        let mut receipts: Vec<String> = (1..=63).map(|n| format!("R-{n}")).collect();
        receipts.extend(["stop".to_owned(), "R-65".to_owned()]);
        let (result, taken, _) = run(&node, sales(receipts));
        let failure = result.unwrap_err();
        assert_eq!((failure.code, taken.saved(), taken.refused), (3, 63, 1));
        assert!(failure.message.contains("the node is stopping"), "{failure}");
    }

    #[test]
    fn a_till_that_leaves_lines_unanswered_is_an_error_not_a_success() {
        let node =
            StandIn::answer(200, "application/x-ndjson", "{\"receipt\":\"R-1\",\"state\":\"saved\"}\n");
        let (result, taken, _) = run(&node, sales(["R-1".to_owned(), "R-2".to_owned()]));
        assert!(result.unwrap_err().message.contains("it left lines unanswered"));
        assert_eq!(taken.saved(), 1);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let failure = open(Path::new("/nowhere/x.ndjson"), "capture").err().unwrap();
        assert_eq!(failure.code, 1);
        assert!(failure.message.starts_with("capture: cannot read /nowhere/x.ndjson"), "{failure}");
    }
}
