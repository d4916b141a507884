//! `cases` and `case`: what a person has to judge. It shows the members beside each other and the verdict in words; it
//! takes no decision (`decide` does).

use serde_json::Value;

use super::amount;
use super::client::{Role, Where, escape, with_query};
use super::decide;
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, doubt, local_time, severity, text, verdict};
use crate::error::Failure;

/// Members that fit beside each other; more are set one below the other.
const BESIDE_EACH_OTHER: usize = 4;

/// What a person has to judge
///
/// Lists what a person has to judge, the most urgent first.
#[derive(Debug, clap::Args)]
pub(super) struct Cases {
    /// Only cases in this state: open, decided, self-cancelled
    #[arg(long)]
    state: Option<String>,
    /// Only cases of this store
    #[arg(long)]
    store: Option<String>,
    /// Only cases of this type, such as REVERSAL_CONFLICT
    #[arg(long = "type", value_name = "TYPE")]
    case_type: Option<String>,
    #[command(flatten)]
    at: Where,
}

/// One case in full: its members side by side, and who could know what
///
/// Shows one case in full: its members side by side with what they posted, and whether the later one could know.
#[derive(Debug, clap::Args)]
pub(super) struct Case {
    /// Id of the case, as `tillsync cases` lists it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: Where,
}

impl Cases {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "cases")?;
        let case_type = self.case_type.as_deref().map(|name| name.to_uppercase().replace('-', "_"));
        let parameters = [
            ("state", self.state.as_deref()),
            ("store", self.store.as_deref()),
            ("type", case_type.as_deref()),
        ];
        let cases = client.get(&with_query("/v1/cases", &parameters))?;
        if out.json() { out.document(&cases) } else { out.text(&list(&cases)) }
    }
}

impl Case {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "case")?;
        let case = client.get(&format!("/v1/cases/{}", escape(&self.id)))?;
        if out.json() { out.document(&case) } else { out.text(&page(&case)) }
    }
}

fn list(cases: &Value) -> String {
    let cases = cases.as_array().map_or(&[][..], Vec::as_slice);
    let heads = [
        ("Case", Side::Left),
        ("Store", Side::Left),
        ("When", Side::Left),
        ("Urgency", Side::Left),
        ("State", Side::Left),
        ("Amount", Side::Right),
        ("", Side::Left),
        ("About", Side::Left),
        ("Doubt", Side::Left),
    ];
    let mut table = Table::new(&heads);
    for case in cases {
        let currency = text(&case["currency"]);
        table.row([
            &text(&case["id"]),
            &text(&case["store"]),
            &local_time(&case["opened_at"]),
            &severity(&case["severity"]),
            &text(&case["state"]),
            &amount::show(&case["amount_minor"], &currency),
            &currency,
            &receipts_of(case),
            doubt(case["type"].as_str().unwrap_or("")),
        ]);
    }
    if table.is_empty() {
        return "No case; there is nothing to judge.\n".to_owned();
    }
    let open = cases.iter().filter(|case| case["state"] == "open").count() as u64;
    let all = count(cases.len() as u64, "case", "cases");
    format!("{}\n{all}, {open} open. `tillsync case ID` shows one in full.\n", table.set())
}

/// The receipts of a case, or what else it is about.
fn receipts_of(case: &Value) -> String {
    let receipts: Vec<String> =
        case["members"].as_array().into_iter().flatten().map(|member| text(&member["receipt"])).collect();
    let about = if case["about"].is_null() { &case["subject"] } else { &case["about"] };
    match receipts.iter().filter(|receipt| !receipt.is_empty()).count() {
        0 => text(about),
        1..=3 => receipts.join(", "),
        more => format!("{} and {} more", receipts[0], more - 1),
    }
}

fn page(case: &Value) -> String {
    let kind = text(&case["type"]);
    let mut list = Table::list();
    list.row(["case", &format!("{}: {}", text(&case["id"]), doubt(&kind))]);
    list.row(["type", &kind]);
    list.row(["about", &text(if case["about"].is_null() { &case["subject"] } else { &case["about"] })]);
    list.row(["store", &text(&case["store"])]);
    list.row(["opened", &local_time(&case["opened_at"])]);
    list.row(["state", &format!("{}, urgency: {}", text(&case["state"]), severity(&case["severity"]))]);
    let amount = amount::show_with_currency(&case["amount_minor"], &text(&case["currency"]));
    if !amount.is_empty() {
        list.row(["amount", &amount]);
    }
    for sentence in verdicts(case) {
        list.row(["verdict", &sentence]);
    }
    let members: Vec<Member<'_>> = members(case);
    let mut page = list.set();
    for together in members.chunks(if members.len() > BESIDE_EACH_OTHER { 1 } else { BESIDE_EACH_OTHER }) {
        page.push('\n');
        page.push_str(&side_by_side(together));
    }
    page.push_str(&decide::taken(case));
    page.push_str(&decide::options(case));
    page
}

/// The verdict between each two members; the one over all where the node gives no more.
fn verdicts(case: &Value) -> Vec<String> {
    let name = |id: &Value| {
        let members = case["members"].as_array().into_iter().flatten();
        let found = members.clone().find(|member| member["id"] == *id);
        found.map_or_else(
            || text(id),
            |member| format!("{} of {}", text(&member["receipt"]), text(&member["terminal"])),
        )
    };
    let each: Vec<String> = case["verdicts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let (loser, winner) = (name(&one["loser"]), name(&one["winner"]));
            match one["verdict"].as_str() {
                Some("knowing") if one["known_since"].is_null() => {
                    format!("knowing: the till of {loser} had {winner} when it acted")
                }
                Some("knowing") => format!(
                    "knowing: the till of {loser} had {winner} since {}",
                    local_time(&one["known_since"])
                ),
                Some("concurrent") => format!("concurrent: the till of {loser} could not know of {winner}"),
                _ => format!("{}: {loser} against {winner}", text(&one["verdict"])),
            }
        })
        .collect();
    if each.is_empty() && !case["verdict"].is_null() {
        vec![verdict(&case["verdict"]).to_owned()]
    } else {
        each
    }
}

/// A member as the list has it, with its receipt in full where the node holds it.
struct Member<'a> {
    named: &'a Value,
    full: &'a Value,
}

fn members(case: &Value) -> Vec<Member<'_>> {
    let receipts = || case["receipts"].as_array().into_iter().flatten();
    let members = case["members"].as_array().into_iter().flatten();
    members
        .map(|named| Member {
            named,
            full: receipts().find(|full| full["id"] == named["id"]).unwrap_or(&Value::Null),
        })
        .collect()
}

impl Member<'_> {
    fn currency(&self) -> String {
        text(&self.full["currency"])
    }

    fn field(&self, name: &str) -> String {
        if self.named[name].is_null() { text(&self.full[name]) } else { text(&self.named[name]) }
    }

    fn amounts<'b>(&'b self, list: &str, say: impl Fn(&Value) -> String + 'b) -> Vec<String> {
        let items = self.full[list].as_array().into_iter().flatten();
        items
            .map(|item| format!("{} {}", say(item), amount::show(&item["amount_minor"], &self.currency())))
            .collect()
    }

    fn outcome(&self) -> Vec<String> {
        match self.named["held"].as_str() {
            None => vec!["posted".to_owned()],
            Some(reason) => vec!["held for review".to_owned(), doubt(reason).to_owned()],
        }
    }
}

/// Members as columns, what they say as rows; a list takes a row for each of its items.
fn side_by_side(members: &[Member<'_>]) -> String {
    let mut table = Table::bare(&vec![Side::Left; members.len() + 1]);
    let mut row = |name: &str, cells: Vec<Vec<String>>| {
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        let says_nothing = cells.iter().flatten().all(String::is_empty);
        for at in 0..if says_nothing { 0 } else { height } {
            let label = if at == 0 { name.to_owned() } else { String::new() };
            table.row(
                std::iter::once(label)
                    .chain(cells.iter().map(|cell| cell.get(at).cloned().unwrap_or_default())),
            );
        }
    };
    let each = |say: &dyn Fn(&Member<'_>) -> String| {
        members.iter().map(|member| vec![say(member)]).collect::<Vec<_>>()
    };
    let many = |say: &dyn Fn(&Member<'_>) -> Vec<String>| members.iter().map(say).collect::<Vec<_>>();
    row("", each(&|it| format!("{} {}", it.field("kind"), it.field("receipt"))));
    row("till", each(&|it| it.field("terminal")));
    row("number", each(&|it| it.field("seq")));
    row("at", each(&|it| local_time(&it.full["at"])));
    row("day", each(&|it| text(&it.full["business_day"])));
    row("operator", each(&|it| text(&it.full["operator"])));
    row("reason", each(&|it| text(&it.full["reason"])));
    row("approver", each(&|it| text(&it.full["approver"])));
    row(
        "goods",
        many(&|it| {
            it.amounts("lines", |line| {
                let what = if line["description"].is_null() { &line["sku"] } else { &line["description"] };
                format!("{} × {}", text(&line["quantity"]), text(what))
            })
        }),
    );
    row("total", each(&|it| amount::show_with_currency(&it.full["total_minor"], &it.currency())));
    row(
        "paid",
        many(&|it| {
            it.amounts("tenders", |tender| match tender["status"].as_str() {
                None | Some("approved" | "mirror") => text(&tender["type"]),
                Some(status) => format!("{} ({status})", text(&tender["type"])),
            })
        }),
    );
    row("outcome", many(&|it| it.outcome()));
    row(
        "postings",
        many(&|it| {
            let postings = it.full["postings"].as_array().into_iter().flatten();
            let say = |posting: &Value| {
                format!(
                    "{} {}",
                    text(&posting["account"]),
                    amount::show(&posting["amount_minor"], &text(&posting["currency"]))
                )
            };
            postings.map(say).collect()
        }),
    );
    table.set()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;

    fn double_void() -> Value {
        let posting =
            |account: &str, minor: i64| json!({"account": account, "currency": "GBP", "amount_minor": minor});
        json!({
            "id": "C-1", "type": "REVERSAL_CONFLICT", "subject": "abc", "about": "sale R-1", "store": "s1", "severity": 1,
            "state": "open", "verdict": "concurrent", "amount_minor": 1530, "currency": "GBP", "opened_at": "t",
            "members": [
                {"id": "v1", "receipt": "V-1", "terminal": "till-01", "seq": 4, "kind": "void", "held": null},
                {"id": "v2", "receipt": "V-2", "terminal": "till-02", "seq": 9, "kind": "void", "held": "DOUBLE_VOID"}
            ],
            "verdicts": [{"loser": "v2", "winner": "v1", "verdict": "concurrent", "known_since": null}],
            "receipts": [
                {"id": "v2", "kind": "void", "receipt": "V-2", "currency": "GBP", "total_minor": 1530, "at": "b",
                 "lines": [{"quantity": "6", "sku": "85123A", "amount_minor": 1530}],
                 "tenders": [{"type": "cash", "amount_minor": 1530, "status": "approved"}],
                 "postings": [posting("Assets:Suspense:Voids", 1530), posting("Assets:Cash:Drawer:till-02", -1530)]},
                {"id": "v1", "kind": "void", "receipt": "V-1", "currency": "GBP", "total_minor": 1530, "at": "a",
                 "reason": "rung twice",
                 "lines": [{"quantity": "6", "sku": "85123A", "description": "Lantern", "amount_minor": 1530}],
                 "tenders": [{"type": "card", "amount_minor": 1530, "status": "pending"}], "postings": []}
            ],
            "decisions": []
        })
    }

    #[test]
    fn a_case_shows_its_members_side_by_side_and_the_verdict_in_words() {
        let wanted = "\
case     C-1: voids or refunds that exclude each other
type     REVERSAL_CONFLICT
about    sale R-1
store    s1
opened   t
state    open, urgency: today
amount   GBP 15.30
verdict  concurrent: the till of V-2 of till-02 could not know of V-1 of till-01

          void V-1              void V-2
till      till-01               till-02
number    4                     9
at        a                     b
reason    rung twice
goods     6 × Lantern 15.30     6 × 85123A 15.30
total     GBP 15.30             GBP 15.30
paid      card (pending) 15.30  cash 15.30
outcome   posted                held for review
                                already voided by another
postings                        Assets:Suspense:Voids 15.30
                                Assets:Cash:Drawer:till-02 -15.30
";
        assert_eq!(page(&double_void()), wanted);
    }

    #[test]
    fn many_members_stand_one_below_the_other() {
        let mut case = double_void();
        let member = case["members"][0].clone();
        case["members"].as_array_mut().unwrap().extend([member.clone(), member.clone(), member]);
        assert_eq!(page(&case).matches("\ntill ").count(), 5);
    }

    #[test]
    fn the_list_names_receipts_amounts_and_the_doubt() {
        let text = list(&json!([double_void()]));
        assert!(
            text.contains("C-1   s1     t     today    open    15.30  GBP  V-1, V-2  voids or refunds"),
            "{text}"
        );
        assert!(text.ends_with("\n1 case, 1 open. `tillsync case ID` shows one in full.\n"), "{text}");
        assert_eq!(list(&json!([])), "No case; there is nothing to judge.\n");
    }

    #[test]
    fn filters_reach_the_node_and_json_is_what_it_said() {
        let node = StandIn::routes(&[("/v1/cases?state=open&store=s%201&type=LATE_RECORD", "[]")]);
        let cases = Cases {
            state: Some("open".into()),
            store: Some("s 1".into()),
            case_type: Some("late-record".into()),
            at: Where { api: Some(node.api()), ..Where::default() },
        };
        let page = Page::default();
        cases.run(&mut Out::to(page.clone(), true)).unwrap();
        assert_eq!(page.read(), "[]\n");
    }
}
