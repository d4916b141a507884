//! `payment` and `settle`: what payment providers and acquirers say, for the books. It only spells the request.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Role, Where};
use super::out::Out;
use super::words::text;
use crate::error::Failure;

/// Largest file of a settled batch, in bytes.
const FILE_BYTES: u64 = 64 << 20;

/// Say what became of a card payment that was accepted offline
#[derive(Debug, clap::Args)]
pub(super) struct Payment {
    /// Id of the payment, as in the tender
    #[arg(value_name = "PAYMENT")]
    payment: String,
    /// What became of it: approved, declined, expired
    #[arg(long)]
    outcome: String,
    /// The store, where no receipt with the payment has arrived yet
    #[arg(long)]
    store: Option<String>,
    #[command(flatten)]
    at: Where,
}

/// Enter a batch that the acquirer settled
///
/// The file is one JSON object: {"batch","currency","payments":[{"payment","amount_minor"}],"fees_minor","store"}. The
/// same batch again changes nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Settle {
    /// File with the batch; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    at: Where,
}

impl Payment {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "payment")?;
        let body = json!({"payment": self.payment, "outcome": self.outcome, "store": self.store});
        let answer = client.post("/v1/payments", &body)?;
        if out.json() {
            return out.document(&answer);
        }
        let known = if answer["recorded"] == true { "" } else { ", as was known" };
        out.text(&format!(
            "Payment {} of {}: {}{known}.",
            text(&answer["payment"]),
            text(&answer["store"]),
            text(&answer["outcome"])
        ))
    }
}

impl Settle {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let batch = read(&self.file).map_err(|error| error.during("settle"))?;
        let answer = self.at.client(Role::Hub, "settle")?.post("/v1/settlements", &batch)?;
        if out.json() {
            return out.document(&answer);
        }
        let of_store =
            |store: &Value| format!("{} payments new in {}", text(&store["recorded"]), text(&store["store"]));
        let stores: Vec<String> = answer["stores"].as_array().into_iter().flatten().map(of_store).collect();
        out.text(&format!("Batch {}: {}.", text(&answer["batch"]), stores.join(", ")))
    }
}

fn read(path: &Path) -> Result<Value, Failure> {
    let cannot = |error: std::io::Error| Failure::refused(format!("cannot read {}: {error}", path.display()));
    let mut content = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(FILE_BYTES + 1).read_to_string(&mut content).map_err(cannot)?;
    } else {
        let file = std::fs::File::open(path).map_err(cannot)?;
        file.take(FILE_BYTES + 1).read_to_string(&mut content).map_err(cannot)?;
    }
    if content.len() as u64 > FILE_BYTES {
        return Err(Failure::refused(format!(
            "{} has more than {FILE_BYTES} bytes; split the batch",
            path.display()
        )));
    }
    serde_json::from_str(&content)
        .map_err(|error| Failure::refused(format!("{} is no JSON object: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;

    #[test]
    fn an_outcome_and_a_batch_reach_the_hub() {
        let node = StandIn::routes(&[
            ("/v1/payments", r#"{"store":"s1","payment":"P1","outcome":"declined","recorded":false}"#),
            ("/v1/settlements", r#"{"batch":"B-7","stores":[{"store":"s1","recorded":2}]}"#),
        ]);
        let at = || Where { api: Some(node.api()), ..Where::default() };
        let page = Page::default();
        let payment = Payment { payment: "P1".into(), outcome: "declined".into(), store: None, at: at() };
        payment.run(&mut Out::to(page.clone(), false)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("batch.json");
        std::fs::write(&file, r#"{"batch":"B-7"}"#).unwrap();
        Settle { file, at: at() }.run(&mut Out::to(page.clone(), false)).unwrap();
        assert_eq!(
            page.read(),
            "Payment P1 of s1: declined, as was known.\nBatch B-7: 2 payments new in s1.\n"
        );
    }

    #[test]
    fn a_file_that_is_no_batch_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "no").unwrap();
        assert!(read(&file).unwrap_err().message.contains("is no JSON object"));
        assert!(read(Path::new("/nowhere/x")).unwrap_err().message.starts_with("cannot read /nowhere/x"));
    }
}
