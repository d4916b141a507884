//! `export`: the batches that go to the bookkeeper. It asks the hub and writes files down; every figure is the hub's.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::amount;
use super::client::{Client, Role, Where, with_query};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, local_time, text, text_or_dash};
use crate::error::Failure;
use crate::export::options::{DateFormat, Detail, Form, Format, Wishes};

/// Give the bookkeeper the next batch of journal entries, or an earlier one again
///
/// Makes the next numbered batch of journal entries for the bookkeeper, or gives an earlier one again, byte for byte.
/// Without --out the file goes to standard output and the control totals to standard error.
#[derive(Debug, Default, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["format", "list"])))]
pub(super) struct Export {
    /// Program that shall read the files
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Folder for the files; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Give this earlier batch again
    #[arg(long, value_name = "NUMBER")]
    batch: Option<u64>,
    /// Cut a batch of this store's entries only
    #[arg(long, conflicts_with = "batch")]
    store: Option<String>,
    /// What becomes one journal [default: summary for quickbooks and xero, record for the others]
    #[arg(long, value_name = "DETAIL")]
    detail: Option<Detail>,
    /// How the company writes its dates, for quickbooks [default: mdy]
    #[arg(long, value_name = "FORM")]
    date_format: Option<DateFormat>,
    /// Full name of Xero's rate without tax [default: by currency, such as "No VAT"]
    #[arg(long, value_name = "NAME")]
    tax_rate: Option<String>,
    /// List the batches that were cut
    #[arg(long, conflicts_with_all = ["format", "out", "batch", "store", "detail", "date_format", "tax_rate"])]
    list: bool,
    #[command(flatten)]
    at: Where,
}

impl Export {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "export")?;
        if self.list {
            let batches = client.get("/v1/exports")?;
            return if out.json() { out.document(&batches) } else { out.text(&list_page(&batches)) };
        }
        self.check(out).map_err(|failure| failure.during("export"))?;
        let mut batch = self.ask(&client)?;
        let Some(dir) = &self.out else {
            if out.json() {
                return out.document(&batch);
            }
            let _ = write!(std::io::stderr(), "{}", batch_page(&batch));
            // What stands beside the file is its control totals, which are on stderr already.
            return contents(&batch).first().map_or(Ok(()), |(_, content)| out.text(content));
        };
        let mut files = Vec::new();
        for (name, content) in contents(&batch) {
            let path = place(dir, &name, &content).map_err(|error| {
                let again = format!(
                    "`tillsync export --format {} --batch {} --out DIR`",
                    self.format().as_str(),
                    text(&batch["number"])
                );
                Failure::refused(format!("export: {error}; the batch is cut, {again} gives it again"))
            })?;
            files.push(json!({"name": name, "path": path}));
        }
        batch["files"] = json!(files);
        if out.json() { out.document(&batch) } else { out.text(&batch_page(&batch)) }
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Hledger)
    }

    /// What can be wrong is found before a batch is cut: a number used up for nothing helps nobody.
    fn check(&self, out: &Out) -> Result<(), Failure> {
        let wishes = Wishes {
            format: self.format,
            detail: self.detail,
            date_format: self.date_format,
            tax_rate: self.tax_rate.clone(),
        };
        Form::of(&wishes, None)?;
        match &self.out {
            None if self.format() == Format::Xero && !out.json() => {
                Err(Failure::usage("xero takes 300 lines a file, so there may be several; add --out DIR"))
            }
            None => Ok(()),
            Some(dir) => fs::create_dir_all(dir).map_err(|error| {
                Failure::refused(format!("cannot make {}: {error}; choose another --out", dir.display()))
            }),
        }
    }

    fn ask(&self, client: &Client) -> Result<Value, Failure> {
        let word = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        let wishes = [
            ("format", Some(self.format().as_str().to_owned())),
            ("detail", word(self.detail.map(|it| json!(it)))),
            ("date_format", word(self.date_format.map(|it| json!(it)))),
            ("tax_rate", self.tax_rate.clone()),
            ("store", self.store.clone()),
        ];
        match self.batch {
            None => {
                let said =
                    wishes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
                client.post("/v1/exports", &Value::Object(said.collect::<Map<_, _>>()))
            }
            Some(number) => {
                let said: Vec<(&str, Option<&str>)> =
                    wishes.iter().map(|(name, value)| (*name, value.as_deref())).collect();
                client.get(&with_query(&format!("/v1/exports/{number}"), &said))
            }
        }
    }
}

fn contents(batch: &Value) -> Vec<(String, String)> {
    let files = batch["files"].as_array().into_iter().flatten();
    files.map(|file| (text(&file["name"]), text(&file["content"]))).collect()
}

/// Writes a file whole or not at all. A batch never changes: a file that is there already with other content is
/// somebody else's, and stays.
fn place(dir: &Path, name: &str, content: &str) -> Result<PathBuf, String> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0']);
    if !plain {
        return Err(format!("the hub named a file {name:?}, which is no plain file name"));
    }
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(there) if there == content.as_bytes() => return Ok(path),
        Ok(_) => return Err(format!("{} is there already with other content; move it away", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    let aside = dir.join(format!(".{name}.new"));
    let written = fs::File::create(&aside)
        .and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, &path));
    written.map_err(|error| {
        let _ = fs::remove_file(&aside);
        format!("cannot write {}: {error}", path.display())
    })?;
    Ok(path)
}

fn list_page(batches: &Value) -> String {
    let heads = [
        ("Batch", Side::Right),
        ("Cut", Side::Left),
        ("Format", Side::Left),
        ("Entries", Side::Right),
        ("Debits", Side::Right),
        ("Credits", Side::Right),
        ("", Side::Left),
        ("Hash", Side::Left),
    ];
    let mut table = Table::new(&heads);
    for batch in batches.as_array().into_iter().flatten() {
        let short: String = text(&batch["hash"]).chars().take(12).collect();
        let first = [text(&batch["number"]), local_time(&batch["at"]), text_or_dash(&batch["format"])];
        let mut left = [&first[..], &[text(&batch["totals"]["entries"])]].concat();
        // A line a currency; what belongs to the batch stands on its first.
        for (currency, sums) in batch["totals"]["currencies"].as_object().into_iter().flatten() {
            let amounts = ["debits_minor", "credits_minor"].map(|side| amount::show(&sums[side], currency));
            let hash = if left[0].is_empty() { String::new() } else { short.clone() };
            table.row(left.iter().chain(&amounts).chain([currency, &hash]));
            left = vec![String::new(); 4];
        }
    }
    if table.is_empty() {
        return "No batch was cut yet; `tillsync export --format FORMAT` cuts the first.\n".to_owned();
    }
    format!("{}\n`tillsync export --format FORMAT --batch NUMBER` gives one again.\n", table.set())
}

fn batch_page(batch: &Value) -> String {
    let totals = &batch["totals"];
    let entries = count(totals["entries"].as_u64().unwrap_or(0), "entry", "entries");
    let mut page = format!("Batch {}, {}: {entries}\n", text(&batch["number"]), text(&batch["format"]));
    for (store, numbers) in totals["stores"].as_object().into_iter().flatten() {
        page.push_str(&format!("{store}: no. {} to {}\n", text(&numbers["first"]), text(&numbers["last"])));
    }
    let mut table =
        Table::new(&[("Currency", Side::Left), ("Debits", Side::Right), ("Credits", Side::Right)]);
    for (currency, sums) in totals["currencies"].as_object().into_iter().flatten() {
        let shown = |field: &str| amount::show(&sums[field], currency);
        table.row([currency.as_str(), &shown("debits_minor"), &shown("credits_minor")]);
    }
    if !table.is_empty() {
        page.push_str(&format!("\n{}", table.set()));
    }
    let paths: Vec<String> = batch["files"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|file| !file["path"].is_null())
        .map(|file| text(&file["path"]))
        .collect();
    if !paths.is_empty() {
        page.push_str(&format!("\n{}\n", paths.join("\n")));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;

    fn hledger(node: &StandIn) -> Export {
        let at = Where { api: Some(node.api()), ..Where::default() };
        Export { format: Some(Format::Hledger), at, ..Export::default() }
    }

    const BATCH: &str = r#"{"number":3,"format":"hledger","files":[{"name":"b.journal","content":"text\n"}],
        "totals":{"entries":1,"stores":{"s1":{"first":7,"last":7}},"currencies":{"GBP":{"debits_minor":100,"credits_minor":100}}}}"#;

    #[test]
    fn an_export_is_written_into_its_folder_once_and_the_same_again() {
        let node = StandIn::routes(&[("/v1/exports", BATCH), ("/v1/exports/3?format=hledger", BATCH)]);
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new");
        for batch in [None, Some(3)] {
            let export = Export { out: Some(dir.clone()), batch, ..hledger(&node) };
            let page = Page::default();
            export.run(&mut Out::to(page.clone(), false)).unwrap();
            assert!(
                page.read().starts_with("Batch 3, hledger: 1 entry\ns1: no. 7 to 7\n"),
                "{}",
                page.read()
            );
            assert!(page.read().contains("b.journal"));
        }
        assert_eq!(fs::read_to_string(dir.join("b.journal")).unwrap(), "text\n");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::write(dir.join("b.journal"), "mine").unwrap();
        let export = Export { out: Some(dir.clone()), ..hledger(&node) };
        let failure = export.run(&mut Out::to(Page::default(), false)).unwrap_err();
        assert!(failure.message.contains("--batch 3"), "{failure}");
        assert_eq!(fs::read_to_string(dir.join("b.journal")).unwrap(), "mine");
    }

    #[test]
    fn without_a_folder_the_file_itself_is_the_answer() {
        let node = StandIn::routes(&[("/v1/exports", BATCH)]);
        let page = Page::default();
        let export = hledger(&node);
        export.run(&mut Out::to(page.clone(), false)).unwrap();
        assert_eq!(page.read(), "text\n");
    }

    #[test]
    fn a_file_name_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "", ".hidden", "a/b", "c:x"] {
            assert!(place(dir.path(), name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_a_number_is_used_up() {
        let node = StandIn::routes(&[]);
        let dates = Export { date_format: Some(DateFormat::Dmy), ..hledger(&node) };
        let stdout = Export { format: Some(Format::Xero), ..hledger(&node) };
        let blocked = Export { out: Some("/dev/null/x".into()), ..hledger(&node) };
        for (export, code, word) in [(dates, 2, "quickbooks"), (stdout, 2, "--out"), (blocked, 1, "--out")] {
            let failure = export.run(&mut Out::to(Page::default(), false)).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.starts_with("export: ") && failure.message.contains(word), "{failure}");
        }
    }

    #[test]
    fn batches_are_listed_with_their_control_totals() {
        let node = StandIn::routes(&[(
            "/v1/exports",
            r#"[{"number":1,"at":"t","format":"xero","hash":"0123456789abcdef","totals":{"entries":2,"currencies":{
                "GBP":{"debits_minor":100,"credits_minor":100},"JPY":{"debits_minor":7,"credits_minor":7}}}}]"#,
        )]);
        let page = Page::default();
        Export { format: None, list: true, ..hledger(&node) }.run(&mut Out::to(page.clone(), false)).unwrap();
        let wanted = "\
Batch  Cut  Format  Entries  Debits  Credits       Hash
─────  ───  ──────  ───────  ──────  ───────  ───  ────────────
    1  t    xero          2    1.00     1.00  GBP  0123456789ab
                                  7        7  JPY

`tillsync export --format FORMAT --batch NUMBER` gives one again.
";
        assert_eq!(page.read(), wanted);
        assert!(list_page(&json!([])).starts_with("No batch"));
    }
}
