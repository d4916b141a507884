//! What both nodes say of their own API, and that every refusal has one form, whoever refuses: ours, or the framework.

mod common;

use std::cell::RefCell;

use common::{Company, till, tillsync, until};
use serde_json::{Value, json};

/// A request and what came of it: status, kind of content, body.
struct Asked {
    status: u16,
    kind: String,
    allow: Option<String>,
    body: String,
}

fn ask(method: &str, url: &str, token: &str, kind: &str, body: &str) -> Asked {
    let config = ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true);
    let agent: ureq::Agent = config.build().into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", kind);
    let mut response = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (kind, allow) = (header("content-type").unwrap_or_default(), header("allow"));
    Asked {
        status: response.status().as_u16(),
        kind,
        allow,
        body: response.body_mut().read_to_string().unwrap(),
    }
}

fn refused(asked: &Asked, status: u16) -> Value {
    assert_eq!(asked.status, status, "{}", asked.body);
    assert_eq!(asked.kind, "application/problem+json", "{}", asked.body);
    let problem: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(problem["status"], status);
    assert!(
        !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
    );
    problem
}

/// Whether an answer is what the document tells: every field told, every required field there, kinds right.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&name[1..]).ok_or(name)?, value)
            .map_err(|why| format!("{name}: {why}"));
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let tried: Vec<_> = choices.iter().map(|one| fits(document, one, value)).collect();
            if tried.iter().all(Result::is_err) {
                return Err(format!("{value} is none of {tried:?}"));
            }
            return Ok(());
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(format!("the document does not tell what {value} is")),
    };
    if !kinds.contains(&kind) {
        return Err(format!("{value} is no {kinds:?}"));
    }
    for one in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], one)?;
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        value.get(required).ok_or_else(|| format!("{required} is missing in {value}"))?;
    }
    for (field, inside) in value.as_object().into_iter().flatten() {
        match (schema["properties"].get(field), &schema["additionalProperties"]) {
            (Some(told), _) => fits(document, told, inside).map_err(|why| format!("{field}: {why}"))?,
            (None, every @ Value::Object(_)) => fits(document, every, inside)?,
            // An object of which nothing is told may be any.
            (None, _) if schema.get("properties").is_none() => {}
            (None, _) => return Err(format!("{field} is not told; it is {inside}")),
        }
    }
    Ok(())
}

/// A node, asked for what its own document tells.
struct Api<'a> {
    base: &'a str,
    token: &'a str,
    document: Value,
    wrong: RefCell<Vec<String>>,
}

impl<'a> Api<'a> {
    fn of(base: &'a str, token: &'a str) -> Self {
        let told = ask("GET", &format!("{base}/openapi.json"), "", "application/json", "");
        Self { base, token, document: serde_json::from_str(&told.body).unwrap(), wrong: RefCell::default() }
    }

    /// Asks, and holds the answer against what the document tells of `path` with `{}` for what is named.
    fn ask(&self, method: &str, path: &str, names: &[&str], body: &Value) -> Value {
        let mut url = path.to_owned();
        for name in names {
            let (from, to) = (url.find('{').unwrap(), url.find('}').unwrap());
            url.replace_range(from..=to, name);
        }
        let asked =
            ask(method, &format!("{}{url}", self.base), self.token, "application/json", &body.to_string());
        assert!((200..300).contains(&asked.status), "{method} {url}: {}", asked.body);
        let answer: Value = serde_json::from_str(&asked.body).unwrap();
        let told =
            &self.document["paths"][path][method.to_lowercase()]["responses"][asked.status.to_string()];
        let schema = &told["content"]["application/json"]["schema"];
        if let Err(why) = fits(&self.document, schema, &answer) {
            self.wrong.borrow_mut().push(format!("{method} {path}, {}: {why}", asked.status));
        }
        answer
    }

    fn get(&self, path: &str, names: &[&str]) -> Value {
        self.ask("GET", path, names, &Value::Null)
    }
}

#[test]
fn every_answer_is_what_the_document_tells() {
    let mut company = Company::new();
    let hub = company.hub();
    let node = till(&company.join("s1", "till-01"));
    let (hub, till) = (Api::of(&hub.http, &company.token), Api::of(&node.http, ""));
    let basket = |kind: &str, receipt: &str, amount: i64| {
        json!({
            "kind": kind, "receipt": receipt, "operator": "anna", "currency": "GBP",
            "lines": [{"sku": "A", "description": "Lantern", "quantity": "2", "unit_price_minor": amount / 2,
                "amount_minor": amount, "tax_minor": amount / 6, "tax_code": "S", "tax_rate": "20"}],
            "tenders": [{"type": "card", "amount_minor": amount, "status": "approved", "payment": format!("pay-{receipt}"),
                "card_last4": "4242"}],
        })
    };
    let mut refund = basket("refund", "R-2", 30_000);
    refund["original_receipt"] = json!("R-1");
    refund["reason"] = json!("broken");
    let paid_later = |receipt: &str| {
        let mut sale = basket("sale", receipt, 600);
        sale["tenders"][0]["status"] = json!("pending");
        sale
    };
    let float = json!({"kind": "cash_move", "receipt": "M-1", "movement": "float", "amount_minor": 5_000, "currency": "GBP"});
    for transaction in [float, basket("sale", "R-1", 30_000), refund, paid_later("R-3")] {
        let saved = till.ask("POST", "/v1/transactions", &[], &transaction);
        till.get("/v1/transactions/{name}", &[saved["id"].as_str().unwrap()]);
    }
    till.ask("POST", "/v1/transactions", &[], &basket("sale", "R-1", 30_000));
    let closed = tillsync(&["close", "--api", till.base, "--counted", "GBP=50.00"], "");
    assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    until("the close", || till.get("/v1/status", &[])["head_seq"] == 5);
    until("everything at the hub", || node.status()["waiting"]["count"] == 0);
    for receipt in ["R-1", "R-2", "R-3", "M-1"] {
        till.get("/v1/transactions/{name}", &[receipt]);
        hub.get("/v1/transactions/{name}", &[receipt]);
    }
    for path in ["/v1/status", "/v1/pending", "/v1/cases", "/v1/audit"] {
        till.get(path, &[]);
    }
    let day = hub.get("/v1/transactions/{name}", &["R-1"])["business_day"].as_str().unwrap().to_owned();
    hub.get("/v1/days/{store}/{day}", &["s1", &day]);
    for case in hub.get("/v1/cases", &[]).as_array().unwrap() {
        let case = hub.get("/v1/cases/{id}", &[case["id"].as_str().unwrap()]);
        let options = case["options"].as_array().unwrap();
        let option = options.iter().find(|option| option["effect"].is_object());
        for only_try in [true, false] {
            if let Some(option) = option {
                let decision = json!({"action": option["action"], "member": option["member"], "reason": "seen", "dry_run": only_try});
                hub.ask("POST", "/v1/cases/{id}/decisions", &[case["id"].as_str().unwrap()], &decision);
            }
        }
        hub.get("/v1/cases/{id}", &[case["id"].as_str().unwrap()]);
    }
    hub.ask("POST", "/v1/payments", &[], &json!({"payment": "pay-R-3", "outcome": "declined"}));
    hub.ask("POST", "/v1/payments", &[], &json!({"payment": "pay-R-3", "outcome": "declined"}));
    let settled = json!({"batch": "B-1", "currency": "GBP", "payments": [{"payment": "pay-R-1", "amount_minor": 30_000}]});
    hub.ask("POST", "/v1/settlements", &[], &settled);
    hub.ask("POST", "/v1/exports", &[], &json!({"format": "csv"}));
    hub.get("/v1/exports/{number}", &["1"]);
    let settings = json!({"settings": {"ageing_hours": 30}});
    hub.ask("PUT", "/v1/policies/{store}", &["s1"], &settings);
    hub.ask("PUT", "/v1/policies", &[], &settings);
    hub.get("/v1/policies/{store}", &["s1"]);
    hub.ask("POST", "/v1/enrolments", &[], &json!({"store": "s1", "terminal": "till-09"}));
    hub.ask("POST", "/v1/people", &[], &json!({"name": "anna", "role": "viewer"}));
    let lists = [
        "/v1/stores",
        "/v1/terminals",
        "/v1/alarms",
        "/v1/authority",
        "/v1/hubs",
        "/v1/audit",
        "/v1/people",
        "/v1/exports",
        "/v1/policies",
        "/v1/ledger/balances",
        "/v1/ledger/trial-balance",
        "/v1/ledger/journal",
        "/v1/metrics-report",
    ];
    for path in lists {
        hub.get(path, &[]);
    }
    hub.ask("DELETE", "/v1/people/{name}", &["anna"], &Value::Null);
    hub.ask(
        "POST",
        "/v1/stores/{store}/locks",
        &["s1"],
        &json!({"through": day, "override": true, "reason": "audit"}),
    );
    hub.ask("POST", "/v1/terminals/{terminal}/revoke", &["till-01"], &json!({}));
    hub.ask("POST", "/v1/authority/rotate", &[], &json!({"overlap_seconds": 3_600}));
    hub.ask("POST", "/v1/authority/drop", &[], &Value::Null);
    for api in [hub, till] {
        let wrong = api.wrong.into_inner();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn the_api_tells_what_it_is_and_every_refusal_is_a_problem() {
    let mut company = Company::new();
    let hub = company.hub();
    let node = till(&company.join("s1", "till-01"));
    until("the till online", || node.status()["online"] == true);
    let json = "application/json";
    let token = company.token.as_str();

    for base in [&hub.http, &node.http] {
        let at = |path: &str| format!("{base}{path}");
        let document: Value =
            serde_json::from_str(&ask("GET", &at("/openapi.json"), "", json, "").body).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
        let paths = document["paths"].as_object().unwrap();
        for path in paths.keys().filter(|path| !path.contains('{') && !path.ends_with("/events")) {
            if paths[path].get("get").is_some() {
                let asked = ask("GET", &at(path), token, json, "");
                assert_eq!(asked.status, 200, "{path}: {}", asked.body);
                let told = &paths[path]["get"]["responses"]["200"]["content"];
                let kind = asked.kind.split(';').next().unwrap();
                assert!(told.get(kind).is_some(), "{path} answers {kind}, and tells {told}");
            }
        }
        refused(&ask("GET", &at("/v1/nothing"), token, json, ""), 404);
        let other = ask("DELETE", &at("/v1/audit"), token, json, "");
        refused(&other, 405);
        assert_eq!(other.allow.as_deref(), Some("GET,HEAD"), "which methods there are is still said");
        refused(&ask("GET", &at("/v1/audit?after=x"), token, json, ""), 400);
    }

    let decide = format!("{}/v1/enrolments", hub.http);
    refused(&ask("POST", &decide, "", json, "{}"), 401);
    refused(&ask("POST", &decide, token, json, "{"), 400);
    refused(&ask("POST", &decide, token, json, r#"{"store":1}"#), 422);
    refused(&ask("POST", &decide, token, "text/plain", "{}"), 415);
    let large = format!(r#"{{"store":"{}"}}"#, "x".repeat(9 << 20));
    refused(&ask("POST", &decide, token, json, &large), 413);
    let capture = format!("{}/v1/transactions", node.http);
    let problem = refused(&ask("POST", &capture, "", json, r#"{"kind":"sale","colour":1}"#), 422);
    assert!(problem["detail"].as_str().unwrap().contains("colour"), "{problem}");
    refused(&ask("POST", &capture, "", json, &large), 413);
}
