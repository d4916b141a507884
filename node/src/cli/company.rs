//! `stores`, `terminals`, `policy`: the company as the hub knows it, and the limits it works by.

use serde_json::{Map, Value, json};

use super::client::{Role, Where, escape, with_query};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, local_time, text, text_or_dash};
use crate::error::Failure;

/// The company's stores
#[derive(Debug, clap::Args)]
pub(super) struct Stores {
    #[command(flatten)]
    at: Where,
}

/// The company's tills
///
/// Lists the company's tills: online or not, what waits on them, their clocks.
#[derive(Debug, clap::Args)]
pub(super) struct Terminals {
    #[command(flatten)]
    at: Where,
}

/// Limits and intervals of the company, a store or a till
#[derive(Debug, clap::Subcommand)]
pub(super) enum Policy {
    /// Show the settings of the company, a store or a till, for whom each was made, and how they came about
    Get(Get),
    /// Change settings of the company, of a store or of one till
    ///
    /// The narrower counts, whichever was set later: a till's before its store's, that before the company's. The value
    /// `inherit` takes a setting back.
    Set(Set),
}

/// Whose policy is meant.
#[derive(Debug, clap::Args)]
struct WhoseArgs {
    /// The store
    #[arg(long, required_unless_present = "company", conflicts_with = "company")]
    store: Option<String>,
    /// One till of the store
    #[arg(long, value_name = "TILL", requires = "store", conflicts_with = "company")]
    till: Option<String>,
    /// The whole company: every store that is there, and those that come
    #[arg(long)]
    company: bool,
}

impl WhoseArgs {
    fn path(&self) -> String {
        self.store
            .as_ref()
            .map_or_else(|| "/v1/policies".to_owned(), |store| format!("/v1/policies/{}", escape(store)))
    }
}

/// Shows settings.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    #[command(flatten)]
    whose: WhoseArgs,
    #[command(flatten)]
    at: Where,
}

/// Changes settings.
#[derive(Debug, clap::Args)]
pub(super) struct Set {
    #[command(flatten)]
    whose: WhoseArgs,
    /// What is set, such as refund_limit_minor=5000 sync_interval=5s; `policy get` lists the keys
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<String>,
    /// First business day it judges; otherwise every day that no lock covers
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<String>,
    #[command(flatten)]
    at: Where,
}

impl Stores {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let stores = self.at.client(Role::Hub, "stores")?.get("/v1/stores")?;
        if out.json() { out.document(&stores) } else { out.text(&stores_page(&stores)) }
    }
}

impl Terminals {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let terminals = self.at.client(Role::Hub, "terminals")?.get("/v1/terminals")?;
        if out.json() { out.document(&terminals) } else { out.text(&terminals_page(&terminals)) }
    }
}

fn stores_page(stores: &Value) -> String {
    let heads = [
        ("Store", Side::Left),
        ("Tills", Side::Right),
        ("Online", Side::Right),
        ("Records", Side::Right),
        ("Open cases", Side::Right),
        ("Policy", Side::Right),
    ];
    let mut table = Table::new(&heads);
    for store in stores.as_array().into_iter().flatten() {
        let fields = ["store", "terminals", "online", "records", "open_cases", "policy_version"];
        table.row(fields.map(|field| text(&store[field])));
    }
    if table.is_empty() {
        return "No store yet; a store begins with its first `tillsync hub enroll`.\n".to_owned();
    }
    table.set()
}

fn terminals_page(terminals: &Value) -> String {
    let heads = [
        ("Store", Side::Left),
        ("Till", Side::Left),
        ("Network", Side::Left),
        ("Records", Side::Right),
        ("Waiting", Side::Right),
        ("Clock", Side::Right),
        ("Policy", Side::Right),
        ("Software", Side::Left),
        ("Last heard", Side::Left),
    ];
    let mut table = Table::new(&heads);
    for terminal in terminals.as_array().into_iter().flatten() {
        let name = match terminal["incarnation"].as_u64() {
            None | Some(1) => text(&terminal["terminal"]),
            Some(incarnation) => format!("{} (device {incarnation})", text(&terminal["terminal"])),
        };
        let clock =
            terminal["clock_offset_ms"].as_i64().map_or_else(|| "–".to_owned(), |ms| format!("{ms:+} ms"));
        table.row([
            text(&terminal["store"]),
            name,
            network(terminal),
            text(&terminal["records"]),
            text_or_dash(&terminal["waiting"]),
            clock,
            text_or_dash(&terminal["policy_version"]),
            text_or_dash(&terminal["software"]),
            local_time(&json!(text_or_dash(&terminal["last_status"]))),
        ]);
    }
    if table.is_empty() {
        return "No till yet; `tillsync hub enroll` makes a join code for one.\n".to_owned();
    }
    table.set()
}

/// Whether it is connected, and what somebody should look at.
fn network(terminal: &Value) -> String {
    let state = if terminal["revoked"] == true {
        "revoked"
    } else if terminal["online"] == true {
        "online"
    } else {
        "offline"
    };
    let alarms =
        terminal["alarms"].as_array().into_iter().flatten().map(|alarm| format!(", {}!", text(alarm)));
    std::iter::once(state.to_owned()).chain(alarms).collect()
}

impl Policy {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Get(get) => {
                let client = get.at.client(Role::Hub, "policy get")?;
                let policy =
                    client.get(&with_query(&get.whose.path(), &[("till", get.whose.till.as_deref())]))?;
                if out.json() { out.document(&policy) } else { out.text(&policy_page(&policy)) }
            }
            Self::Set(set) => set.run(out),
        }
    }
}

impl Set {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let settings = self.settings().map_err(|error| Failure::usage(error).during("policy set"))?;
        let client = self.at.client(Role::Hub, "policy set")?;
        let mut body = json!({"settings": settings, "from": self.from});
        if let Some(till) = &self.whose.till {
            body["till"] = json!(till);
        }
        let answer = client.put(&self.whose.path(), &body)?;
        if out.json() {
            return out.document(&answer);
        }
        let from = self.from.as_ref().map_or_else(|| "at once".to_owned(), |day| format!("from {day} on"));
        if self.whose.company {
            return out.text(&company_answer(&answer, settings.len(), &from));
        }
        let whose = match &self.whose.till {
            Some(till) => format!("till {till} of {}", text(&answer["store"])),
            None => text(&answer["store"]),
        };
        out.text(&format!(
            "{} of {} set, version {}, {from}. The tills get it as they are online; `tillsync terminals` shows which have it.",
            count(settings.len() as u64, "setting", "settings"),
            whose,
            text(&answer["version"]),
        ))
    }

    fn settings(&self) -> Result<Map<String, Value>, String> {
        let mut settings = Map::new();
        for text in &self.settings {
            let wrong =
                || format!("{text:?} is not a setting; write key=value, such as refund_limit_minor=5000");
            let (key, value) = text.split_once('=').ok_or_else(wrong)?;
            if settings.insert(key.to_owned(), json!(value)).is_some() {
                return Err(format!("{key} is set twice"));
            }
        }
        Ok(settings)
    }
}

fn company_answer(answer: &Value, settings: usize, from: &str) -> String {
    let mut said = format!(
        "{} of the company set, version {}, {from}, in {}. The tills get it as they are online.",
        count(settings as u64, "setting", "settings"),
        text(&answer["company_version"]),
        count(answer["stores"].as_u64().unwrap_or(0), "store", "stores"),
    );
    for store in answer["behind"].as_array().into_iter().flatten() {
        said.push_str(&format!("\n{} gets it later: {}", text(&store["store"]), text(&store["because"])));
    }
    said
}

fn policy_page(policy: &Value) -> String {
    let heads = [("Setting", Side::Left), ("Value", Side::Left), ("Made for", Side::Left)];
    let mut table = Table::new(&heads);
    for (key, value) in policy["settings"].as_object().into_iter().flatten() {
        let made_for = match policy["made_for"][key].as_str() {
            Some("company") => "the company",
            Some("store") => "the store",
            Some("till") => "this till",
            _ => "",
        };
        table.row([key.as_str(), &text_or_dash(value), made_for]);
    }
    let whose = match (policy["till"].as_str(), policy["store"].as_str()) {
        (Some(till), Some(store)) => format!("Till {till} of store {store}"),
        (None, Some(store)) => format!("Store {store}"),
        (_, None) => "The company".to_owned(),
    };
    let mut page = format!("{whose}, policy version {}\n\n{}", text(&policy["version"]), table.set());
    let own: Vec<String> = policy["tills"].as_array().into_iter().flatten().map(text).collect();
    if !own.is_empty() && policy["till"].is_null() {
        page.push_str(&format!("\nWith settings of their own (--till shows them): {}\n", own.join(", ")));
    }
    for store in policy["stores"].as_array().into_iter().flatten() {
        let changes = store["own_changes"].as_u64().unwrap_or(0);
        if changes > 0 {
            let many = count(changes, "change", "changes");
            page.push_str(&format!("\nStore {} has {many} of its own", text(&store["store"])));
        }
    }
    let mut changes = Table::bare(&[Side::Right, Side::Left, Side::Left, Side::Left]);
    for change in policy["changes"].as_array().into_iter().flatten() {
        let from = match change["from"].as_str() {
            Some(day) => format!("from {day}"),
            None => "at once".to_owned(),
        };
        changes.row([
            &text(&change["seq"]),
            &from,
            &text(&change["by"]),
            &settings_line(&change["settings"]),
        ]);
    }
    if !changes.is_empty() {
        page.push_str(&format!("\nChanges\n{}", changes.set()));
    }
    page
}

/// The settings of a change, whether the node lists them as an object or as pairs.
fn settings_line(settings: &Value) -> String {
    match settings {
        Value::Object(pairs) => {
            pairs.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => {
            let item = |item: &Value| match item.as_array().map(Vec::as_slice) {
                Some([key, value]) => format!("{}={}", text(key), text(value)),
                _ => text(item),
            };
            items.iter().map(item).collect::<Vec<_>>().join(" ")
        }
        other => text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;

    fn set(settings: &[&str], at: Where) -> Set {
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        let whose = WhoseArgs { store: Some("s 1".into()), till: None, company: false };
        Set { whose, settings, from: Some("2026-12-01".into()), at }
    }

    #[test]
    fn settings_travel_as_text_with_their_day() {
        let node = StandIn::answer(200, "application/json", r#"{"store":"s 1","version":3,"settings":{}}"#);
        let at = Where { api: Some(node.api()), ..Where::default() };
        let page = Page::default();
        set(&["refund_limit_minor=unlimited", "sync_interval=5s"], at)
            .run(&mut Out::to(page.clone(), false))
            .unwrap();
        let request = node.requests().remove(0);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/v1/policies/s%201"));
        assert_eq!(
            request.json(),
            json!({"settings": {"refund_limit_minor": "unlimited", "sync_interval": "5s"}, "from": "2026-12-01"})
        );
        assert!(
            page.read().starts_with("2 settings of s 1 set, version 3, from 2026-12-01 on."),
            "{}",
            page.read()
        );
    }

    #[test]
    fn a_setting_without_value_or_twice_is_wrong_usage() {
        assert!(set(&["sync_interval"], Where::default()).settings().is_err());
        assert_eq!(set(&["a=1", "a=2"], Where::default()).settings().unwrap_err(), "a is set twice");
        assert_eq!(
            set(&["a"], Where::default()).run(&mut Out::to(Page::default(), false)).unwrap_err().code,
            2
        );
    }

    #[test]
    fn a_policy_is_shown_with_its_history() {
        let page = policy_page(&json!({
            "store": "s1", "version": 2, "settings": {"ageing_hours": "24", "sync_interval": "0s"},
            "made_for": {"ageing_hours": "company"}, "tills": [],
            "changes": [{"seq": 2, "from": null, "by": "admin", "settings": [["sync_interval", "5s"]]}]
        }));
        let wanted = "\
Store s1, policy version 2

Setting        Value  Made for
─────────────  ─────  ───────────
ageing_hours   24     the company
sync_interval  0s

Changes
2  at once  admin  sync_interval=5s
";
        assert_eq!(page, wanted);
        assert_eq!(settings_line(&json!({"a": "1"})), "a=1");
    }

    #[test]
    fn tills_and_stores_stand_in_tables_and_an_empty_company_says_how_to_begin() {
        let page = terminals_page(&json!([
            {"store": "s1", "terminal": "till-01", "incarnation": 2, "online": true, "records": 7, "waiting": 0,
             "clock_offset_ms": -12, "policy_version": 1, "software": "0.1.0", "last_status": "t"},
            {"store": "s1", "terminal": "till-02", "incarnation": 1, "online": false, "records": 0, "waiting": null,
             "clock_offset_ms": null, "policy_version": null, "software": null, "last_status": null}
        ]));
        assert!(
            page.contains(
                "s1     till-01 (device 2)  online         7        0  -12 ms       1  0.1.0     t\n"
            ),
            "{page}"
        );
        assert!(
            page.contains(
                "s1     till-02             offline        0        –       –       –  –         –\n"
            ),
            "{page}"
        );
        assert!(stores_page(&json!([])).contains("hub enroll"));
        assert!(terminals_page(&json!([])).contains("hub enroll"));
    }
}
