//! `decide`: a reviewer's decision on a case, and what each possible one would do to the books. It asks and shows; the
//! hub judges whether it may be taken.

use serde_json::{Value, json};

use super::amount;
use super::client::{Role, Where, escape};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, text};
use crate::error::Failure;

/// Take a decision on a case, with its reason
///
/// Takes a decision on a case. `tillsync case ID` lists what is possible and what each would do to the books;
/// --dry-run shows it for the one that is asked. The decision replicates to the tills; a later one on the same member
/// supersedes it.
#[derive(Debug, clap::Args)]
pub(super) struct Decide {
    /// Id of the case, as `tillsync cases` lists it
    #[arg(value_name = "CASE")]
    case: String,
    /// What to do: approve, convert, prefer, remove, genuine, goodwill, write-off, over-short, recover, classify, retry,
    /// paid, bad-debt, tax-relief, reversed, paid-out, acknowledge
    #[arg(long)]
    action: String,
    /// Why, in words
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The member that is meant, by id or receipt number; without it everybody who is held
    #[arg(long, value_name = "ID")]
    member: Option<String>,
    /// classify: the account, such as Expenses:Petty-Cash
    #[arg(long, conflicts_with_all = ["from", "tender"])]
    account: Option<String>,
    /// recover: from whom
    #[arg(long, value_name = "WHOM", conflicts_with = "tender")]
    from: Option<String>,
    /// paid, paid-out: cash or card
    #[arg(long)]
    tender: Option<String>,
    /// paid, paid-out in cash: the till whose drawer it is; otherwise the till of the receipt
    #[arg(long, value_name = "TILL")]
    terminal: Option<String>,
    /// Version of the case that was looked at; refused if the case has changed since
    #[arg(long)]
    version: Option<String>,
    /// Token of the second approver, where the amount or a closed day asks for one [env: TILLSYNC_APPROVER_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    approver_token: Option<String>,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: Where,
}

impl Decide {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "decide")?;
        let variable = || std::env::var("TILLSYNC_APPROVER_TOKEN").ok().filter(|token| !token.is_empty());
        let body = json!({
            "action": self.action,
            "reason": if self.dry_run && self.reason.is_empty() { "tried" } else { &self.reason },
            "member": self.member,
            "parameter": self.account.as_ref().or(self.from.as_ref()).or(self.tender.as_ref()),
            "terminal": self.terminal,
            "version": self.version,
            "approver_token": self.approver_token.clone().or_else(variable),
            "dry_run": self.dry_run,
        });
        let answer = client.post(&format!("/v1/cases/{}/decisions", escape(&self.case)), &body)?;
        if out.json() { out.document(&answer) } else { out.text(&page(&answer)) }
    }
}

fn page(answer: &Value) -> String {
    let what = format!("{} on {}", text(&answer["action"]), text(&answer["case"]));
    let head = match answer["decision"]["number"].as_u64() {
        Some(number) => format!("Decision {number}: {what}."),
        None => format!("Only tried: {what}."),
    };
    let state = match answer["state"].as_str() {
        Some(state) => {
            format!("The case is {}{state}.", if answer["decision"].is_null() { "then " } else { "" })
        }
        None => "The case ends.".to_owned(),
    };
    format!("{head}\n\n{}\n{state}\n", effect_table(&answer["effect"], ""))
}

/// What is appended to the journal, record by record, and the cases that open or end.
pub(super) fn effect_table(effect: &Value, indent: &str) -> String {
    let mut table = Table::bare(&[Side::Left, Side::Left, Side::Right, Side::Left]);
    for entry in effect["entries"].as_array().into_iter().flatten() {
        let mut name = text(&entry["receipt"]);
        for posting in entry["postings"].as_array().into_iter().flatten() {
            let currency = text(&posting["currency"]);
            let shown = amount::show(&posting["amount_minor"], &currency);
            table.row([&std::mem::take(&mut name), &text(&posting["account"]), &shown, &currency]);
        }
    }
    let mut lines: Vec<String> = table.set().lines().map(str::to_owned).collect();
    if lines.is_empty() {
        lines.push("nothing is posted".to_owned());
    }
    for case in effect["opens"].as_array().into_iter().flatten() {
        lines.push(format!("opens {}: {}", text(&case["type"]), text(&case["about"])));
    }
    let ends = effect["ends"].as_array().map_or(0, Vec::len) as u64;
    if ends > 0 {
        lines.push(format!("ends {}", count(ends, "other case", "other cases")));
    }
    lines.iter().map(|line| format!("{indent}{line}\n")).collect()
}

/// What may be decided on a case, as `case` shows it below the members.
pub(super) fn options(case: &Value) -> String {
    let options = case["options"].as_array().map_or(&[][..], Vec::as_slice);
    if options.is_empty() {
        return String::new();
    }
    let mut page =
        "\nPossible decisions (`tillsync decide` takes one, and says again what it does):\n".to_owned();
    for option in options {
        let member = text(&option["receipt"]);
        let whom = if member.is_empty() { String::new() } else { format!(" --member {member}") };
        page.push_str(&format!("\n  --action {}{whom}\n", text(&option["action"])));
        if option["effect"].is_null() {
            page.push_str("      hangs on --account: try it with --dry-run\n");
        } else {
            page.push_str(&effect_table(&option["effect"], "      "));
        }
    }
    page
}

/// The decisions in force, the latest first.
pub(super) fn taken(case: &Value) -> String {
    let decisions = case["decisions"].as_array().map_or(&[][..], Vec::as_slice);
    let mut page = String::new();
    for decision in decisions {
        let second =
            decision["approver"].as_str().map_or_else(String::new, |second| format!(" with {second}"));
        page.push_str(&format!(
            "\nDecision {}: {} by {}{second}: {}",
            text(&decision["number"]),
            text(&decision["action"]),
            text(&decision["reviewer"]),
            text(&decision["reason"]),
        ));
    }
    if page.is_empty() { page } else { page + "\n" }
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::{StandIn, response};
    use super::*;

    fn effect() -> Value {
        json!({
            "entries": [{"record": "v", "receipt": "V-2", "postings": [
                {"account": "Assets:Suspense:Voids", "currency": "GBP", "amount_minor": -1530},
                {"account": "Expenses:Cash-Over-Short", "currency": "GBP", "amount_minor": 1530}]}],
            "state": "decided", "opens": [], "ends": []
        })
    }

    #[test]
    fn a_decision_goes_to_the_case_and_its_effect_comes_back() {
        let answer = json!({"case": "C-1", "store": "s1", "decision": {"number": 3, "id": "d"}, "action": "over-short",
            "member": "v", "effect": effect(), "state": "decided"});
        let node = StandIn::serve(move |_| response(201, "application/json", &answer.to_string()));
        let decide = Decide {
            case: "C-1".into(),
            action: "over-short".into(),
            reason: "counted".into(),
            member: Some("V-2".into()),
            account: None,
            from: None,
            tender: None,
            terminal: None,
            version: None,
            approver_token: Some("tsk_x".into()),
            dry_run: false,
            at: Where { api: Some(node.api()), ..Where::default() },
        };
        let page = Page::default();
        decide.run(&mut Out::to(page.clone(), false)).unwrap();
        let request = node.requests().remove(0);
        assert_eq!(request.path, "/v1/cases/C-1/decisions");
        assert_eq!(request.json()["approver_token"], "tsk_x");
        let wanted = "\
Decision 3: over-short on C-1.

V-2  Assets:Suspense:Voids     -15.30  GBP
     Expenses:Cash-Over-Short   15.30  GBP

The case is decided.
";
        assert_eq!(page.read(), wanted);
    }

    #[test]
    fn possible_decisions_stand_below_a_case_with_what_each_would_do() {
        let case = json!({"options": [
            {"action": "over-short", "member": "v", "receipt": "V-2", "effect": effect()},
            {"action": "classify", "member": null, "receipt": null, "needs": "parameter", "effect": null}]});
        let page = options(&case);
        assert!(
            page.contains("  --action over-short --member V-2\n      V-2  Assets:Suspense:Voids"),
            "{page}"
        );
        assert!(page.contains("  --action classify\n      hangs on --account"), "{page}");
        assert_eq!(options(&json!({"options": []})), "");
    }
}
