//! A company in a temporary directory: a hub and its tills, enrolled as real ones are, and the checks that every
//! measurement ends with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node::storage::vault::{self, Source, Vault};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Outcome;
use crate::http::Http;
use crate::process::{Node, until};
use crate::relay::Relay;
use crate::workload::{Transaction, net_minor};

const STORE: &str = "high-street";
/// How many lines go into one POST of NDJSON.
pub const CHUNK_LINES: usize = 500;
const POLL: Duration = Duration::from_millis(10);

/// A hub and its tills.
pub struct Shop {
    program: PathBuf,
    /// The hub's process, if it runs.
    pub hub: Option<Node>,
    listen: String,
    /// The tills.
    pub tills: Vec<Till>,
    /// What counts the bytes between them, if anything does.
    pub relay: Option<Relay>,
    /// The key file of all its directories, if they are encrypted.
    key: Option<PathBuf>,
    dir: TempDir,
}

/// A till.
pub struct Till {
    /// Its name.
    pub name: String,
    dir: PathBuf,
    key: Option<PathBuf>,
    /// Its process, if it runs.
    pub node: Option<Node>,
}

impl Till {
    /// Its running process.
    ///
    /// # Errors
    /// It does not run.
    pub fn node(&self) -> Outcome<&Node> {
        self.node.as_ref().ok_or_else(|| format!("till {} does not run", self.name).into())
    }

    fn start(&mut self, program: &Path) -> Outcome<()> {
        let arguments = ["terminal", "run", "--http", "127.0.0.1:0"];
        self.node = Some(Node::start(program, &self.dir, &arguments, self.key.as_deref())?);
        Ok(())
    }

    /// Stops it properly.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self) -> Outcome<()> {
        self.node.take().map_or(Ok(()), Node::stop)
    }

    /// Records transactions, in POSTs of NDJSON, and checks every answer.
    ///
    /// # Errors
    /// One is refused.
    pub fn capture(&self, work: &[Transaction]) -> Outcome<()> {
        let mut http = self.node()?.connect()?;
        for chunk in work.chunks(CHUNK_LINES) {
            post_lines(&mut http, chunk)?;
        }
        Ok(())
    }
}

/// One POST of NDJSON lines; every one must be saved.
///
/// # Errors
/// One is refused.
pub fn post_lines(http: &mut Http, chunk: &[Transaction]) -> Outcome<()> {
    let lines: Vec<&str> = chunk.iter().map(|one| one.json.as_str()).collect();
    let answer = http.post("/v1/transactions", "application/x-ndjson", lines.join("\n").as_bytes())?;
    let text = String::from_utf8(answer.body)?;
    let saved = text.lines().filter(|line| line.contains("\"state\":\"saved\"")).count();
    if saved != chunk.len() {
        return Err(format!("{} of {} lines were saved: {text}", saved, chunk.len()).into());
    }
    Ok(())
}

impl Shop {
    /// Founds the company, enrols the tills and waits until all are online.
    ///
    /// # Errors
    /// A node does not start.
    pub fn open(program: &Path, tills: usize) -> Outcome<Self> {
        Self::open_as(program, tills, false, false, false)
    }

    /// As [`Shop::open`], with a relay that counts bytes.
    ///
    /// # Errors
    /// A node does not start.
    pub fn open_counted(program: &Path, tills: usize) -> Outcome<Self> {
        Self::open_as(program, tills, true, false, false)
    }

    /// As [`Shop::open`], with encrypted directories.
    ///
    /// # Errors
    /// A node does not start.
    pub fn open_sealed(program: &Path, tills: usize) -> Outcome<Self> {
        Self::open_as(program, tills, false, true, false)
    }

    /// As [`Shop::open`] or [`Shop::open_counted`], with a store for each till: tills of one store get each other's
    /// records too, these do not.
    ///
    /// # Errors
    /// A node does not start.
    #[cfg(feature = "peers")]
    pub fn open_apart(program: &Path, tills: usize, counted: bool) -> Outcome<Self> {
        Self::open_as(program, tills, counted, false, true)
    }

    fn open_as(program: &Path, tills: usize, counted: bool, sealed: bool, apart: bool) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let key = sealed.then(|| dir.path().join("key"));
        if let Some(key) = &key {
            vault::new_key_file(key)?;
        }
        let mut shop = Self {
            program: program.to_owned(),
            hub: None,
            listen: "127.0.0.1:0".to_owned(),
            tills: Vec::new(),
            relay: None,
            key,
            dir,
        };
        shop.lock(&shop.hub_dir())?;
        node::hub::init(&shop.hub_dir(), "Benches Ltd", "GBP", "Europe/London")?;
        shop.start_hub()?;
        if counted {
            shop.relay = Some(Relay::start(shop.listen.parse()?)?);
        }
        let through = shop.relay.as_ref().map(|relay| relay.address.to_string());
        for number in 1..=tills {
            let name = format!("till-{number:02}");
            let store = if apart { format!("store-{number:02}") } else { STORE.to_owned() };
            let request = json!({"store": store, "terminal": name}).to_string();
            let answer = shop.ask_hub()?.post("/v1/enrolments", "application/json", request.as_bytes())?;
            let code = answer.json()?["code"].as_str().unwrap_or_default().to_owned();
            let till_dir = shop.dir.path().join(&name);
            shop.lock(&till_dir)?;
            node::terminal::join(&till_dir, &code, through.as_deref())?;
            shop.tills.push(Till { name, dir: till_dir, key: shop.key.clone(), node: None });
            shop.start_till(number - 1)?;
        }
        for till in &shop.tills {
            let mut http = till.node()?.connect()?;
            until("a till online", POLL, || Ok(http.get("/v1/status")?.json()?["online"] == json!(true)))?;
        }
        Ok(shop)
    }

    /// Makes a directory an encrypted one, if the shop has a key.
    fn lock(&self, dir: &Path) -> Outcome<()> {
        if let Some(key) = &self.key {
            std::fs::create_dir_all(dir)?;
            Vault::create(dir, &Source::key_file(key)?)?;
        }
        Ok(())
    }

    /// Where the hub keeps everything.
    #[must_use]
    pub fn hub_dir(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    /// Starts the hub, at the address where the tills look for it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_hub(&mut self) -> Outcome<()> {
        let arguments = ["hub", "run", "--listen", &self.listen, "--http", "127.0.0.1:0"];
        let hub = Node::start(&self.program, &self.hub_dir(), &arguments, self.key.as_deref())?;
        self.listen = hub.quic.clone().ok_or("the hub did not say where it listens")?;
        self.hub = Some(hub);
        Ok(())
    }

    /// Stops the hub properly.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop_hub(&mut self) -> Outcome<()> {
        self.hub.take().map_or(Ok(()), Node::stop)
    }

    /// Starts all tills at once. Gives when the first of them said that it was ready.
    ///
    /// # Errors
    /// One does not start.
    pub fn start_tills(&mut self) -> Outcome<Instant> {
        let program = &self.program;
        let start = move |till: &mut Till| till.start(program).map(|()| Instant::now());
        std::thread::scope(|scope| {
            let starting: Vec<_> =
                self.tills.iter_mut().map(|till| scope.spawn(move || start(till))).collect();
            let ready = starting.into_iter().map(|start| start.join().expect("starting does not panic"));
            let ready = ready.collect::<Outcome<Vec<_>>>()?;
            ready.into_iter().min().ok_or_else(|| "there are no tills".into())
        })
    }

    /// Starts a till.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_till(&mut self, at: usize) -> Outcome<()> {
        self.tills[at].start(&self.program)
    }

    /// A connection to the hub's API.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask_hub(&self) -> Outcome<Http> {
        self.hub.as_ref().ok_or("the hub does not run")?.connect()
    }

    /// Everything that the tills recorded must be in the hub's books: the count, no case, debits that equal credits,
    /// the money that came in, and the last record of every till as it was handed over.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check(&self, work: &[(String, Vec<Transaction>)]) -> Outcome<()> {
        self.check_with_cases(work, 0)
    }

    /// As [`Shop::check`], where up to so many cases may be open.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn check_with_cases(&self, work: &[(String, Vec<Transaction>)], cases: usize) -> Outcome<()> {
        check_books(&mut self.ask_hub()?, work, cases)
    }

    /// How many records of every terminal the hub holds. The books are up to date when the hub answers this.
    ///
    /// # Errors
    /// The connection broke.
    pub fn arrived(hub: &mut Http) -> Outcome<BTreeMap<String, u64>> {
        let terminals = hub.get("/v1/terminals")?.json()?;
        let terminals = terminals.as_array().cloned().unwrap_or_default();
        let arrived = terminals.iter().filter_map(|terminal| {
            Some((terminal["terminal"].as_str()?.to_owned(), terminal["records"].as_u64()?))
        });
        Ok(arrived.collect())
    }
}

/// What [`Shop::check`] asks of a hub's books, asked of whichever hub answers.
///
/// # Errors
/// The first thing that is not so.
pub fn check_books(hub: &mut Http, work: &[(String, Vec<Transaction>)], cases: usize) -> Outcome<()> {
    let count: usize = work.iter().map(|(_, transactions)| transactions.len()).sum();
    let stores = hub.get("/v1/stores")?.json()?;
    let sum = |field: &str| -> Outcome<u64> {
        let stores = stores.as_array().into_iter().flatten();
        stores
            .map(|store| store[field].as_u64().ok_or_else(|| format!("the hub says no {field}").into()))
            .sum()
    };
    expect("records", &json!(sum("records")?), &json!(count))?;
    let open = sum("open_cases")?;
    if open > cases as u64 {
        return Err(format!("{open} cases are open, and at most {cases} may be").into());
    }
    let trial = hub.get("/v1/ledger/trial-balance")?.json()?;
    expect("difference", &trial["currencies"]["GBP"]["difference_minor"], &json!(0))?;
    let balances = hub.get("/v1/ledger/balances")?.json()?;
    let assets = balances["balances"].as_object().into_iter().flatten();
    let assets: i64 = assets
        .filter(|(account, _)| account.starts_with("Assets:"))
        .filter_map(|(_, minor)| minor.as_i64())
        .sum();
    let brought_in: i64 = work.iter().map(|(_, transactions)| net_minor(transactions)).sum();
    expect("money in", &json!(assets), &json!(brought_in))?;
    for (till, transactions) in work {
        let Some(last) = transactions.last() else { continue };
        let there = hub.get(&format!("/v1/transactions/{}", last.receipt))?.json()?;
        expect("terminal", &there["terminal"], &json!(till))?;
        same_content(&there, last)?;
    }
    Ok(())
}

fn expect(what: &str, found: &Value, wanted: &Value) -> Outcome<()> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found}, but must be {wanted}").into()) }
}

/// Every field that was handed over must come back; the node adds others.
///
/// # Errors
/// The first field that differs.
pub fn same_content(there: &Value, given: &Transaction) -> Outcome<()> {
    let mut given: Value = serde_json::from_str(&given.json)?;
    if let Some(original) = given.as_object_mut().and_then(|fields| fields.remove("original_receipt")) {
        expect("original", &there["original"]["receipt"], &original)?;
    }
    covers("", there, &given)
}

fn covers(path: &str, there: &Value, given: &Value) -> Outcome<()> {
    match (there, given) {
        (_, Value::Object(fields)) => {
            fields.iter().try_for_each(|(name, value)| covers(&format!("{path}.{name}"), &there[name], value))
        }
        (Value::Array(there), Value::Array(given)) if there.len() == given.len() => {
            there.iter().zip(given).try_for_each(|(there, given)| covers(path, there, given))
        }
        _ => expect(path, there, given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_lost_or_changed_a_field_is_found() {
        let given = crate::workload::transactions("t", 1, 1).remove(0);
        let mut there: Value = serde_json::from_str(&given.json).unwrap();
        there["id"] = json!("added by the node");
        same_content(&there, &given).unwrap();
        let mut changed = there.clone();
        changed["lines"][0]["amount_minor"] = json!(1);
        assert!(same_content(&changed, &given).is_err());
        there.as_object_mut().unwrap().remove("operator");
        assert!(same_content(&there, &given).is_err());
    }
}
