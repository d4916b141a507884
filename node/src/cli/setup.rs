//! `hub` and `terminal`: making nodes, running them, letting tills in and ending their right. Enrolment and revocation
//! go to the hub that runs on the directory, over HTTP with the key it left there; if none runs, they are done on the
//! directory itself, whose lock sees to it that never both happen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value, json};

use super::authority::Ca;
use super::client::{CallError, Client, Role, Where, escape};
use super::moving::Move;
use super::out::Out;
use super::people::People;
use super::table::{Side, Table};
use super::words::{local_time, text};
use crate::error::Failure;
use crate::runtime::run_file::RunFile;

/// Longest life of a join code.
const TTL_LIMIT: Duration = Duration::from_secs(7 * 86_400);

/// Set up and run the hub: the head office's side
#[derive(Debug, clap::Subcommand)]
pub(super) enum Hub {
    /// Make a hub: its key, the company's certificate authority, the admin token (shown once)
    Init(Init),
    /// Run the hub until it is stopped; prints `ready quic=ADDR http=ADDR` when it serves
    Run(HubRun),
    /// Make the directory of a further hub of the company, to be carried to another machine
    ///
    /// For a company whose hub keeps its logs in a database, in shards (`hub run --database … --shards N`). The directory
    /// holds the company's key: whoever has it can speak for the company.
    Add(AddHub),
    Move(Move),
    /// List the hubs that serve the company, and which stores each has
    List(HubList),
    /// Make a one-time join code for a till
    Enroll(Enroll),
    /// End a till's right to write; what it writes later is held for review
    Revoke(Revoke),
    #[command(subcommand)]
    People(People),
    #[command(subcommand)]
    Ca(Ca),
}

/// Set up and run a till's node
#[derive(Debug, clap::Subcommand)]
pub(super) enum Terminal {
    /// Make this device a till: uses up a join code, makes the key here, fetches the certificate
    Join(Join),
    /// Run the till's node until it is stopped; prints `ready http=ADDR` when it serves
    Run(TerminalRun),
}

/// Makes a hub in an empty directory.
#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Data directory of the hub
    #[arg(long)]
    dir: PathBuf,
    /// Name of the company
    #[arg(long, value_name = "NAME")]
    company: String,
    /// The company's currency, such as GBP
    #[arg(long, value_name = "CUR")]
    currency: String,
    /// Time zone whose midnight ends a business day
    #[arg(long, value_name = "ZONE", default_value = "Europe/London")]
    time_zone: String,
}

/// Runs the hub.
#[derive(Debug, clap::Args)]
pub(super) struct HubRun {
    /// Data directory of the hub
    #[arg(long)]
    dir: PathBuf,
    /// Address for the tills (QUIC over UDP)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7440")]
    listen: String,
    /// Address of the HTTP API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    http: String,
    /// Address by which tills reach the hub, for the join codes
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Spread the stores over so many logs when the company begins in a database, so that several hubs can share them
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// After a restore, record at once instead of waiting for a till of each store; what forks is held for review
    #[arg(long, hide_short_help = true)]
    write_at_once: bool,
}

/// Lists the hubs.
#[derive(Debug, clap::Args)]
pub(super) struct HubList {
    #[command(flatten)]
    at: Where,
}

impl HubList {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let hubs = self.at.client(Role::Hub, "hub list")?.get("/v1/hubs")?;
        if out.json() {
            return out.document(&hubs);
        }
        let heads = [
            ("Address", Side::Left),
            ("Serves company", Side::Left),
            ("Stores", Side::Right),
            ("Logs", Side::Right),
            ("Warm in", Side::Right),
            ("Software", Side::Left),
            ("Since", Side::Left),
        ];
        let mut table = Table::new(&heads);
        for hub in hubs.as_array().into_iter().flatten() {
            let count = |key: &str| hub[key].as_array().map_or(0, Vec::len).to_string();
            let [stores, logs, warm] = ["stores", "logs", "warm"].map(count);
            let serves = if hub["serves_company"] == true { "yes" } else { "" };
            let [address, software, since] = ["address", "software", "since"].map(|key| text(&hub[key]));
            table.row([address.as_str(), serves, &stores, &logs, &warm, &software, &since]);
        }
        out.text(&table.set())
    }
}

/// Makes the directory of a further hub.
#[derive(Debug, clap::Args)]
pub(super) struct AddHub {
    /// Data directory of a hub of the company
    #[arg(long)]
    dir: PathBuf,
    /// The new directory
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl AddHub {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let made = crate::backup::add_hub(&self.dir, &self.to)?;
        if out.json() {
            return out.document(&made);
        }
        out.text(&format!(
            "{} is a further hub of the company. It holds the company's key: carry it like one.\nNext, where it is to run: tillsync hub run --dir DIR --advertise HOST:PORT",
            text(&made["dir"])
        ))
    }
}

/// Makes a one-time join code for a till of a store. On a terminal it is also drawn as a QR code.
#[derive(Debug, clap::Args)]
pub(super) struct Enroll {
    /// The till's store
    #[arg(long)]
    store: String,
    /// The till's name, unique in the company
    #[arg(long)]
    terminal: String,
    /// How long the code holds, such as 15m, 2h, 1d; at most 7d
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time_to_live)]
    ttl: Duration,
    #[command(flatten)]
    at: Where,
}

/// Ends a till's right to write.
#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    /// The till
    #[arg(long)]
    terminal: String,
    /// Which device of that name, counted from 1, if it has been enrolled again since; otherwise the newest
    #[arg(long, value_name = "N")]
    incarnation: Option<u32>,
    /// Last of its records that still counts; otherwise the last that has arrived
    #[arg(long, value_name = "N")]
    after_seq: Option<u64>,
    #[command(flatten)]
    at: Where,
}

/// Makes this device a till.
#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// Data directory of the till
    #[arg(long)]
    dir: PathBuf,
    /// The join code
    #[arg(long)]
    code: String,
    /// Address of the hub, if it is another than the code names
    #[arg(long, value_name = "HOST:PORT")]
    hub: Option<String>,
}

/// Runs the till's node.
#[derive(Debug, clap::Args)]
pub(super) struct TerminalRun {
    /// Data directory of the till
    #[arg(long)]
    dir: PathBuf,
    /// Address of the local HTTP API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7401")]
    http: String,
    /// After a restore, record at once instead of waiting for the hub; what forks is held for review
    #[arg(long, hide_short_help = true)]
    write_at_once: bool,
}

impl Hub {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(out),
            Self::Run(run) => {
                let options = crate::hub::RunOptions {
                    advertise: run.advertise.clone(),
                    write_at_once: run.write_at_once,
                    shards: run.shards,
                };
                crate::hub::run(&run.dir, &run.listen, &run.http, &options)
            }
            Self::Add(add) => add.run(out),
            Self::Move(it) => it.run(out),
            Self::List(list) => list.run(out),
            Self::Enroll(enroll) => enroll.run(out),
            Self::Revoke(revoke) => revoke.run(out),
            Self::People(people) => people.run(out),
            Self::Ca(ca) => ca.run(out),
        }
    }
}

impl Terminal {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Join(join) => join.run(out),
            Self::Run(run) => crate::terminal::run(&run.dir, &run.http, run.write_at_once),
        }
    }
}

impl Init {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let made = crate::hub::init(&self.dir, &self.company, &self.currency, &self.time_zone)?;
        if out.json() {
            return out
                .document(&json!({"company": made.company, "token": made.token, "hub_id": made.hub_id}));
        }
        let mut list = Table::list();
        list.row(["company", &made.company]).row(["hub", &made.hub_id]).row(["token", &made.token]);
        let dir = self.dir.display();
        out.text(&format!(
            "{}\nKeep the token: it opens the hub's API and is not shown again.\nNext: tillsync hub run --dir {dir}\n      tillsync hub enroll --dir {dir} --store STORE --terminal TILL\n",
            list.set()
        ))
    }
}

impl Enroll {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let body = json!({"store": self.store, "terminal": self.terminal, "ttl_seconds": self.ttl.as_secs()});
        let invitation = ask_hub(&self.at, "hub enroll", "/v1/enrolments", &body, |dir| {
            crate::hub::enroll_offline(dir, &self.store, &self.terminal, self.ttl)
        })?;
        if out.json() {
            return out.document(&invitation);
        }
        let drawn = if out.terminal() { qr(&text(&invitation["code"])) } else { None };
        out.text(&invitation_page(&invitation, drawn.as_deref()))
    }
}

impl Revoke {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let path = format!("/v1/terminals/{}/revoke", escape(&self.terminal));
        let body = json!({"after_seq": self.after_seq, "incarnation": self.incarnation});
        let revoked = ask_hub(&self.at, "hub revoke", &path, &body, |dir| {
            crate::hub::revoke_offline(dir, &self.terminal, self.incarnation, self.after_seq)
        })?;
        if out.json() {
            return out.document(&revoked);
        }
        out.text(&format!(
            "{} of {} may write no longer: its records after number {} are held for review.",
            text(&revoked["terminal"]),
            text(&revoked["store"]),
            text(&revoked["last_valid_seq"]),
        ))
    }
}

impl Join {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let joined = crate::terminal::join(&self.dir, &self.code, self.hub.as_deref())?;
        if out.json() {
            return out.document(&joined);
        }
        out.text(&format!(
            "This is till {} of store {}, {}. The code is used up.\nNext: tillsync terminal run --dir {}",
            text(&joined["terminal"]),
            text(&joined["store"]),
            text(&joined["company"]),
            self.dir.display(),
        ))
    }
}

/// Asks the hub of a directory, running or not; without a directory the hub at an address.
pub(super) fn ask_hub(
    at: &Where,
    operation: &'static str,
    path: &str,
    body: &Value,
    offline: impl FnOnce(&Path) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let Some(dir) = &at.dir else { return at.client(Role::Hub, operation)?.post(path, body) };
    if at.api.is_some() {
        return at.client(Role::Hub, operation)?.post(path, body);
    }
    let Some(run) = RunFile::read(dir).map_err(|failure| failure.during(operation))? else {
        return offline(dir);
    };
    let client = Client::new(&run.http, run.token, Role::Hub, operation)?;
    match client.try_post(path, body) {
        Ok(answer) => Ok(answer),
        // A hub that was killed leaves its run.json, and by now its port may be somebody else's.
        Err(error) if is_not_this_hub(&error) => offline(dir),
        Err(error) => Err(client.fail(&error)),
    }
}

fn is_not_this_hub(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Unreachable(_)
            | CallError::Strange(_)
            | CallError::Refused { status: 401 | 404 | 405, .. }
    )
}

fn invitation_page(invitation: &Value, drawn: Option<&str>) -> String {
    let drawn = drawn.map_or_else(String::new, |drawn| format!("{drawn}\n\n"));
    format!(
        "{drawn}Join code for till {} of store {}, once, until {}:\n\n  {code}\n\nOn the till: tillsync terminal join --dir DIR --code {code}\n",
        text(&invitation["terminal"]),
        text(&invitation["store"]),
        local_time(&invitation["expires_at"]),
        code = text(&invitation["code"]),
    )
}

/// The code in half blocks, two rows of modules a line; none if it is too long for a QR code.
fn qr(code: &str) -> Option<String> {
    // Light on dark terminals: the code's light modules must be the lit ones, or scanners refuse it.
    let drawn = QrCode::new(code).ok()?;
    Some(drawn.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// A number and its unit, or plain seconds.
pub(super) fn span(text: &str) -> Option<Duration> {
    let (number, unit) =
        text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Reads `90s`, `15m`, `2h`, `1d`, or plain seconds.
fn time_to_live(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write it like 15m, 2h or 1d");
    let time = span(text).ok_or_else(wrong)?;
    if time.is_zero() || time > TTL_LIMIT {
        return Err(format!("{text:?} is out of range: a join code holds for 1s to 7d"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::StandIn;
    use super::*;

    fn at_dir(http: Option<&str>) -> (tempfile::TempDir, Where) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(http) = http {
            let run = json!({"pid": 1, "http": http, "quic": "127.0.0.1:1", "token": "tsk_run"});
            std::fs::write(dir.path().join("run.json"), run.to_string()).unwrap();
        }
        let at = Where { dir: Some(dir.path().to_owned()), ..Where::default() };
        (dir, at)
    }

    fn offline(_: &Path) -> Result<Value, Failure> {
        Ok(json!("offline"))
    }

    fn ask(at: &Where) -> Result<Value, Failure> {
        ask_hub(at, "hub enroll", "/v1/enrolments", &json!({"store": "s"}), offline)
    }

    #[test]
    fn a_running_hub_is_asked_with_the_key_it_left() {
        let node = StandIn::answer(200, "application/json", r#"{"code":"c"}"#);
        let (_dir, at) = at_dir(Some(node.api().trim_start_matches("http://")));
        assert_eq!(ask(&at).unwrap(), json!({"code": "c"}));
        let request = node.requests().remove(0);
        assert_eq!(request.header("authorization"), Some("Bearer tsk_run"));
        assert_eq!(request.json(), json!({"store": "s"}));
    }

    #[test]
    fn without_a_running_hub_the_directory_itself_is_used() {
        let (_dir, at) = at_dir(None);
        assert_eq!(ask(&at).unwrap(), json!("offline"));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (_dir, at) = at_dir(Some(&closed));
        assert_eq!(ask(&at).unwrap(), json!("offline"));
        let other_node =
            StandIn::answer(401, "application/problem+json", r#"{"detail":"this needs the hub's token"}"#);
        let (_dir, at) = at_dir(Some(&other_node.api()));
        assert_eq!(ask(&at).unwrap(), json!("offline"));
    }

    #[test]
    fn a_refusal_of_the_running_hub_stays_a_refusal() {
        let node =
            StandIn::answer(422, "application/problem+json", r#"{"detail":"terminal t belongs to store x"}"#);
        let (_dir, at) = at_dir(Some(&node.api()));
        assert_eq!(ask(&at).unwrap_err(), Failure::refused("hub enroll: terminal t belongs to store x"));
    }

    #[test]
    fn times_to_live_are_read_and_bounded() {
        let cases = [("15m", 900), ("90s", 90), ("2h", 7_200), ("1d", 86_400), ("7d", 604_800), ("30", 30)];
        for (text, seconds) in cases {
            assert_eq!(time_to_live(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "0s", "8d", "1.5h", "-1m", "15 m", "99999999999999999999d", "5y"] {
            assert!(time_to_live(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_invitation_says_what_to_do_with_the_code() {
        let page = invitation_page(
            &json!({"code": "ABC", "store": "s", "terminal": "t", "expires_at": "x"}),
            Some("##"),
        );
        assert_eq!(
            page,
            "##\n\nJoin code for till t of store s, once, until x:\n\n  ABC\n\nOn the till: tillsync terminal join --dir DIR --code ABC\n"
        );
    }

    #[test]
    fn a_code_is_drawn_in_half_blocks_and_one_that_is_too_long_is_not() {
        let drawn = qr("tillsync:ABCDEF").unwrap();
        assert!(drawn.lines().count() > 10);
        assert!(drawn.chars().all(|letter| " ▀▄█\n".contains(letter)), "{drawn}");
        assert_eq!(qr(&"x".repeat(5_000)), None);
    }
}
