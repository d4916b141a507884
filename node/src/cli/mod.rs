//! The command line: one command in, one clear answer out. A room for each kind of question (`capture`,
//! `import`, `transaction`, `reversal`, `till`, `cases`, `decide`, `closing`, `statements`, `books`, `export`, `kpi`, `company`,
//! `people`, `authority`, `audit`, `db`, `webhook`, `setup`, `local`, `key`, `backup`, `doctor`, `manual`), and what they share:
//! `client` (HTTP), `send`, `out`, `table`, `words`, `amount`, `basket`, `lines`. It decides nothing about money or records
//! and never prompts; what it knows it has read from a node, or from a role of this crate.

mod amount;
mod audit;
mod authority;
mod backup;
mod basket;
mod books;
mod capture;
mod cases;
mod client;
mod closing;
mod company;
mod db;
mod decide;
mod doctor;
mod export;
mod import;
mod import_feed;
mod key;
mod kpi;
mod lines;
mod local;
mod manual;
mod moving;
mod out;
mod people;
mod reversal;
mod send;
mod setup;
#[cfg(test)]
mod stand_in;
mod statements;
mod table;
mod till;
mod transaction;
mod webhook;
mod words;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::database;
use crate::error::Failure;
use crate::storage::vault;
use out::Out;
pub(crate) use reversal::cancelling;

/// Point-of-sale tills that keep working without a network, and books that agree afterwards.
#[derive(Debug, Parser)]
#[command(name = "tillsync", version, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the node cannot be reached, \
    4 something is not true (`verify`, `demo`, a copy by `backup` or `hub move`).\nStart with `tillsync demo`: the whole product on this machine."
)]
struct Cli {
    /// Print JSON instead of text for people: one document, or one line an item where items keep coming
    #[arg(long, global = true)]
    json: bool,
    /// Form of the log lines on stderr, json or text; how many is set by the variable RUST_LOG
    #[arg(long, global = true, value_name = "FORM", value_enum, default_value_t = LogForm::Text)]
    #[arg(hide_possible_values = true)]
    log: LogForm,
    /// File with the key of an encrypted data directory; given to `hub init` or `terminal join`, it encrypts the new one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "passphrase_file",
        hide_short_help = true
    )]
    key_file: Option<PathBuf>,
    /// File with the passphrase of an encrypted data directory, instead of a key
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    passphrase_file: Option<PathBuf>,
    /// Database that a hub keeps its log in, postgres://user@host/name; better given in the variable TILLSYNC_DATABASE, where a
    /// password in it is not in the list of processes
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    database: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogForm {
    /// One JSON object a line, for machines.
    Json,
    /// Lines for people.
    Text,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(local::Demo),
    #[command(subcommand)]
    Hub(setup::Hub),
    #[command(subcommand)]
    Terminal(setup::Terminal),
    Capture(capture::Capture),
    Import(import::Import),
    Sale(transaction::Sale),
    Refund(reversal::Refund),
    Void(reversal::Void),
    Close(transaction::Close),
    Cash(transaction::Cash),
    Status(till::Status),
    Pending(till::Pending),
    Custody(till::Custody),
    Cases(cases::Cases),
    Case(cases::Case),
    Decide(decide::Decide),
    CloseStatus(closing::CloseStatus),
    Lock(closing::Lock),
    Payment(statements::Payment),
    Settle(statements::Settle),
    #[command(subcommand)]
    Ledger(books::Ledger),
    Export(export::Export),
    #[command(subcommand)]
    Policy(company::Policy),
    Stores(company::Stores),
    Terminals(company::Terminals),
    Kpi(kpi::Kpi),
    Audit(audit::Audit),
    Doctor(doctor::Doctor),
    Verify(local::Verify),
    Backup(backup::Backup),
    #[command(subcommand)]
    Db(db::Db),
    Restore(backup::Restore),
    Project(local::Project),
    #[command(subcommand)]
    Key(key::Key),
    Completions(manual::Completions),
    Man(manual::Man),
}

/// The program: reads the arguments, does what they ask, and says with its exit code how that went.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help asked for is an answer (0); a wrong argument is a usage error (2). A closed pipe is no concern.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    start_log(&cli);
    vault::declare(cli.key_file.clone(), cli.passphrase_file.clone());
    database::declare(cli.database.clone());
    let form = cli.log;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if out::is_reader_gone(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", error_line(&failure, form));
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let out = &mut Out::stdout(cli.json);
    match cli.command {
        Command::Demo(demo) => demo.run(),
        Command::Hub(hub) => hub.run(out),
        Command::Terminal(terminal) => terminal.run(out),
        Command::Capture(capture) => capture.run(out),
        Command::Import(import) => import.run(out),
        Command::Sale(sale) => sale.run(out),
        Command::Refund(refund) => refund.run(out),
        Command::Void(void) => void.run(out),
        Command::Close(close) => close.run(out),
        Command::Cash(cash) => cash.run(out),
        Command::Status(status) => status.run(out),
        Command::Pending(pending) => pending.run(out),
        Command::Custody(custody) => custody.run(out),
        Command::Cases(cases) => cases.run(out),
        Command::Case(case) => case.run(out),
        Command::Decide(decide) => decide.run(out),
        Command::CloseStatus(status) => status.run(out),
        Command::Lock(lock) => lock.run(out),
        Command::Payment(payment) => payment.run(out),
        Command::Settle(settle) => settle.run(out),
        Command::Ledger(ledger) => ledger.run(out),
        Command::Export(export) => export.run(out),
        Command::Policy(policy) => policy.run(out),
        Command::Stores(stores) => stores.run(out),
        Command::Terminals(terminals) => terminals.run(out),
        Command::Kpi(kpi) => kpi.run(out),
        Command::Audit(audit) => audit.run(out),
        Command::Doctor(doctor) => doctor.run(out),
        Command::Verify(verify) => verify.run(out),
        Command::Backup(backup) => backup.run(out),
        Command::Db(db) => db.run(out),
        Command::Restore(restore) => restore.run(out),
        Command::Project(project) => project.run(out),
        Command::Key(key) => key.run(out),
        Command::Completions(completions) => completions.run(out),
        Command::Man(man) => man.run(out),
    }
}

/// The log goes to stderr. A node tells what it does; a question is answered without chatter unless it is asked for.
fn start_log(cli: &Cli) {
    let runs_a_node =
        matches!(cli.command, Command::Hub(setup::Hub::Run(_)) | Command::Terminal(setup::Terminal::Run(_)));
    let quiet_or_not = if runs_a_node { LevelFilter::INFO } else { LevelFilter::ERROR };
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(quiet_or_not));
    let lines = fmt::layer().with_writer(std::io::stderr);
    // A second start (a test, an embedding program) keeps the first log.
    let _ = match cli.log {
        LogForm::Json => tracing_subscriber::registry().with(lines.json().with_filter(filter)).try_init(),
        LogForm::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()
        }
    };
}

/// One line, whatever the message holds: scripts read stderr by lines, and a terminal obeys control characters.
fn error_line(failure: &Failure, form: LogForm) -> String {
    let message = words::one_line(&failure.message);
    match form {
        LogForm::Text => format!("tillsync: {message}"),
        LogForm::Json => {
            serde_json::json!({"level": "ERROR", "exit_code": failure.code, "message": message}).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn exit_code_of(arguments: &[&str]) -> i32 {
        let all = std::iter::once("tillsync").chain(arguments.iter().copied());
        Cli::try_parse_from(all).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn the_definition_of_the_arguments_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_in_words_what_it_is_for() {
        fn check(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&Cli::command(), "tillsync");
    }

    #[test]
    fn the_commands_of_the_contract_are_understood_as_written_there() {
        let lines = [
            "demo --dir d --tills 3 --transactions 50 --serve",
            "hub init --dir d --company Shop --currency GBP --time-zone Europe/London",
            "hub run --dir d --listen 0.0.0.0:7440 --http 127.0.0.1:7480",
            "hub run --dir d --database postgres://hub@localhost/shops",
            "db migrate --database postgres://hub@localhost/shops",
            "db status --json",
            "hub enroll --dir d --store s --terminal t --ttl 15m --json",
            "hub revoke --dir d --terminal t --after-seq 7",
            "terminal join --dir d --code c --hub h:1",
            "terminal run --dir d --http 127.0.0.1:7401 --log json",
            "capture - --api http://127.0.0.1:1",
            "import --format poslog POSLog.xml --api http://127.0.0.1:1",
            "import --format ndjson - --take-all",
            "status --json",
            "--json pending",
            "custody R-1",
            "cases --state open --store s --type REVERSAL_CONFLICT --token t",
            "case C-1",
            "decide C-1 --member V-1 --action over-short --reason counted",
            "close-status --store s --day 2026-11-23",
            "lock --store s --through 2026-11-23",
            "payment P-1 --outcome declined",
            "settle batch.json",
            "hub people add --dir d --name anna --role reviewer",
            "hub ca show --token t",
            "hub ca rotate --dir d --overlap 14d",
            "hub ca drop --dir d",
            "hub revoke --dir d --terminal t --incarnation 1",
            "ledger balances --store s --day 2026-11-23",
            "ledger journal",
            "ledger trial-balance --dir d",
            "export --format hledger --out o --batch 1",
            "export --format quickbooks --detail record --date-format dmy --store s",
            "export --list --json",
            "policy set --store s refund_limit_minor=unlimited sync_interval=5s",
            "policy set --company ageing_hours=12",
            "policy set --store s --till t refund_limit_minor=inherit",
            "policy get --store s --till t",
            "policy get --company --json",
            "kpi --store s --from 2026-11-01 --to 2026-11-30",
            "audit --follow",
            "verify --dir d",
            "doctor --dir d --json",
            "completions zsh",
            "man --out d",
            "project f.json",
            "verify --dir d --key-file k",
            "backup --dir d --to b",
            "restore --from b --dir d",
            "terminal run --dir d --write-at-once",
            "key new k",
            "key show --dir d --json",
            "key encrypt --dir d --key-file k",
            "key rotate --dir d --key-file k --new-passphrase-file p",
            "project --from-dir d --policy refund_limit_minor=5000 --policy blind_refunds=flag",
        ];
        for line in lines {
            assert_eq!(exit_code_of(&line.split(' ').collect::<Vec<_>>()), 0, "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_2_and_help_is_0() {
        for (line, code) in [
            ("nonsense", 2),
            ("verify", 2),
            ("cases --colour red", 2),
            ("export --format sage", 2),
            ("export", 2),
            ("policy set refund_limit_minor=5", 2),
            ("policy set --company --till t refund_limit_minor=5", 2),
            ("key rotate --dir d", 2),
            ("key encrypt --dir d --key-file k --passphrase-file p", 2),
            ("sale --help", 0),
        ] {
            assert_eq!(exit_code_of(&line.split(' ').collect::<Vec<_>>()), code, "{line}");
        }
    }

    #[test]
    fn an_error_is_one_line_in_either_form() {
        let failure = Failure::unreachable("status: nobody\nanswers \u{1b}[2J");
        assert_eq!(error_line(&failure, LogForm::Text), "tillsync: status: nobody answers \u{fffd}[2J");
        let json: serde_json::Value = serde_json::from_str(&error_line(&failure, LogForm::Json)).unwrap();
        assert_eq!(json["exit_code"], 3);
    }
}
