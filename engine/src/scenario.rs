//! What-if: reads scenarios (records under short symbolic names, in the form of `golden.json`), runs them through the
//! books and reports balances and cases under the same names. For `tillsync project` and for tests; it adds no rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ids::{LogId, RecordId, StoreId, TerminalId};
use crate::ledger::Books;
use crate::money::{Currency, Quantity, TaxRate};
use crate::policy::{Policy, PolicyChange};
use crate::record::Record;
use crate::review::{Case, CaseType};
use crate::time::{Day, Instant};
use crate::transaction::{
    Adjustment, Basket, Body, CashMovement, CloseTotals, CountSum, DayClose, Decision, DecisionAction,
    HubRecord, Line, LineFlag, Lock, LogHead, OriginalLine, Outcome, Payment, Reference, Reverses, Settled,
    Settlement, Tender, TenderStatus, TenderType, Transaction,
};

/// Cash unit of every currency in a scenario that sets none, minor units: the fixtures round cash by up to 2.
const SCENARIO_CASH_UNIT_MINOR: i64 = 5;

/// Why scenarios cannot be read; says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ScenarioError {
    /// Scenario, record and field.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl ScenarioError {
    fn at(place: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self { place: place.into(), problem: problem.to_string() }
    }
}

/// A record with what its till had seen.
pub type Told = (Arc<Record>, Vec<(LogId, u64)>);

/// A scenario, ready for the books.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Records, each with what its till had seen.
    pub records: Vec<Told>,
    /// What it says it must give, if it does: balances and cases.
    pub expect: Option<Value>,
    policy: Policy,
    store: StoreId,
    names: BTreeMap<RecordId, String>,
}

/// Reads scenarios, runs them and reports each as `{"name", "balances", "cases"}`.
///
/// # Errors
/// The first scenario, record and field that cannot be read.
pub fn project(input: &str) -> Result<Vec<Value>, ScenarioError> {
    let scenarios = read(input)?;
    Ok(scenarios.iter().map(|scenario| scenario.report(&scenario.run())).collect())
}

/// Reads scenarios: a JSON list, a single object, or one object a line.
///
/// # Errors
/// The first scenario, record and field that cannot be read.
pub fn read(input: &str) -> Result<Vec<Scenario>, ScenarioError> {
    let malformed = |error: serde_json::Error| ScenarioError::at("input", error);
    let mut scenarios = Vec::new();
    for value in serde_json::Deserializer::from_str(input).into_iter::<Value>() {
        match value.map_err(malformed)? {
            Value::Array(list) => scenarios.extend(list),
            one => scenarios.push(one),
        }
    }
    scenarios.into_iter().enumerate().map(|(at, value)| Scenario::from_value(at, value)).collect()
}

impl Scenario {
    /// Empty books under the scenario's policy.
    #[must_use]
    pub fn books(&self) -> Books {
        Books::new(self.store.clone(), self.policy.clone())
    }

    /// A day for corrections: that of the last record.
    #[must_use]
    pub fn today(&self) -> Day {
        self.records.iter().map(|(record, _)| record.business_day).max().unwrap_or_default()
    }

    /// The books of all records.
    #[must_use]
    pub fn run(&self) -> Books {
        let mut books = self.books();
        for (record, seen) in &self.records {
            books.insert(Arc::clone(record), seen);
        }
        books.settle(self.today());
        books
    }

    /// Balances and cases of books under the scenario's names.
    #[must_use]
    pub fn report(&self, books: &Books) -> Value {
        let balances: Map<String, Value> = books
            .balances()
            .into_iter()
            .map(|((account, currency), amount)| (format!("{account} {currency}"), number(amount)))
            .collect();
        let mut cases: Vec<Value> = books.cases().map(|case| self.report_case(case)).collect();
        cases.sort_by_key(|case| (case["type"].to_string(), case["subject"].to_string()));
        json!({ "name": self.name, "balances": balances, "cases": cases })
    }

    fn report_case(&self, case: &Case) -> Value {
        let mut members: Vec<String> = case.members.iter().map(|id| self.name_of(id)).collect();
        members.sort();
        let held: BTreeMap<String, &str> =
            case.held.iter().map(|(id, reason)| (self.name_of(id), reason.as_str())).collect();
        let subject =
            case.key.subject.parse().map_or_else(|_| case.key.subject.clone(), |id| self.name_of(&id));
        json!({
            "type": case.key.case_type.as_str(), "subject": subject,
            "members": members, "held": held, "status": case.state.as_str(),
        })
    }

    /// The policy that the scenario starts from.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The scenario's name of a record, or its id.
    #[must_use]
    pub fn name_of(&self, id: &RecordId) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn from_value(at: usize, value: Value) -> Result<Self, ScenarioError> {
        let fallback = format!("scenario {}", at + 1);
        let name = value.get("name").and_then(Value::as_str).unwrap_or(&fallback).to_owned();
        let file: ScenarioFile = parse(&name, value)?;
        let mut inputs = Vec::new();
        for (at, record) in file.records.into_iter().enumerate() {
            let label =
                record.get("id").and_then(Value::as_str).map_or(format!("record {}", at + 1), str::to_owned);
            inputs.push(parse::<RecordInput>(&format!("scenario {name}, record {label}"), record)?);
        }
        Reader::new(&name, inputs).scenario(&file.config, file.expect)
    }
}

fn parse<T: for<'de> Deserialize<'de>>(place: &str, value: Value) -> Result<T, ScenarioError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let place = if field == "." { place.to_owned() } else { format!("{place}, field {field}") };
        ScenarioError::at(place, error.inner())
    })
}

fn number(amount: i128) -> Value {
    i64::try_from(amount).map_or_else(|_| Value::String(amount.to_string()), Value::from)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "doc")]
    _doc: Option<String>,
    #[serde(default)]
    config: Map<String, Value>,
    records: Vec<Value>,
    expect: Option<Value>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum InputKind {
    Sale,
    Refund,
    Void,
    CashMove,
    #[serde(alias = "day_close")]
    Close,
    Config,
    Revoke,
    Payment,
    Settlement,
    Lock,
    Decision,
}

/// One record in the form of `golden.json`: flat, whatever its kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordInput {
    id: String,
    kind: InputKind,
    terminal: Option<TerminalId>,
    inc: Option<u32>,
    seq: Option<u64>,
    prev: Option<String>,
    at: Option<String>,
    business_day: Option<Day>,
    store: Option<StoreId>,
    #[serde(default)]
    seen: BTreeMap<String, u64>,
    receipt: Option<String>,
    operator: Option<String>,
    idem: Option<String>,
    #[serde(default)]
    offline: bool,
    currency: Option<Currency>,
    #[serde(default)]
    lines: Vec<LineInput>,
    #[serde(default)]
    tenders: Vec<TenderInput>,
    #[serde(default)]
    tip: i64,
    #[serde(default)]
    rounding: i64,
    original: Option<String>,
    original_terminal: Option<TerminalId>,
    original_seq: Option<u64>,
    original_receipt: Option<String>,
    reverses: Option<Reverses>,
    reason: Option<String>,
    approver: Option<String>,
    movement: Option<CashMovement>,
    amount: Option<i64>,
    expected_cash: Option<i64>,
    counted_cash: Option<i64>,
    number: Option<u64>,
    payment: Option<String>,
    result: Option<Outcome>,
    #[serde(default)]
    payments: Vec<SettledInput>,
    #[serde(default)]
    fees: i64,
    target: Option<TerminalId>,
    target_inc: Option<u32>,
    last_valid_seq: Option<u64>,
    #[serde(default)]
    covers: Vec<String>,
    open_day: Option<Day>,
    case: Option<String>,
    subject: Option<String>,
    action: Option<DecisionAction>,
    record: Option<String>,
    winner: Option<String>,
    tender: Option<String>,
    account: Option<String>,
    reviewer: Option<String>,
    #[serde(default)]
    settings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineInput {
    n: u32,
    sku: String,
    qty: Value,
    amount: i64,
    #[serde(default)]
    tax: i64,
    description: Option<String>,
    unit_price: Option<i64>,
    #[serde(default)]
    discount: i64,
    tax_code: Option<String>,
    tax_rate: Option<String>,
    #[serde(default)]
    tax_exclusive: bool,
    #[serde(default)]
    return_in_sale: bool,
    #[serde(default)]
    line_void: bool,
    #[serde(default)]
    gift_card_sold: bool,
    original: Option<String>,
    original_line: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenderInput {
    #[serde(rename = "type")]
    tender: TenderType,
    amount: i64,
    currency: Option<Currency>,
    #[serde(default)]
    status: TenderStatus,
    payment: Option<String>,
    auth: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettledInput {
    payment: String,
    amount: i64,
}

/// Turns the inputs of one scenario into records.
struct Reader<'a> {
    name: &'a str,
    inputs: Vec<RecordInput>,
    currency: Option<Currency>,
    last_at: Instant,
    days: (Day, Day),
}

impl<'a> Reader<'a> {
    fn new(name: &'a str, inputs: Vec<RecordInput>) -> Self {
        // The store's own currency is that of its first sale, whatever the order of the list.
        let first =
            inputs.iter().filter(|input| input.currency.is_some()).min_by_key(|input| (&input.at, &input.id));
        let currency = first.and_then(|input| input.currency);
        let last_at = inputs.iter().filter_map(|input| input.at.as_ref()?.parse::<Instant>().ok()).max();
        let days: Vec<Day> = inputs.iter().filter_map(|input| input.business_day).collect();
        let days =
            (days.iter().min().copied().unwrap_or_default(), days.iter().max().copied().unwrap_or_default());
        Self { name, inputs, currency, last_at: last_at.unwrap_or_default(), days }
    }

    fn error(&self, input: &RecordInput, field: &str, problem: impl std::fmt::Display) -> ScenarioError {
        ScenarioError::at(format!("scenario {}, record {}, field {field}", self.name, input.id), problem)
    }

    fn scenario(self, config: &Map<String, Value>, expect: Option<Value>) -> Result<Scenario, ScenarioError> {
        let policy = self.policy(config)?;
        let hub_seqs = self.hub_numbers();
        let mut records = Vec::new();
        let (mut names, mut own) = (BTreeMap::new(), BTreeSet::new());
        for input in &self.inputs {
            let record = self.record(input, &hub_seqs)?;
            if !own.insert(record.id) {
                return Err(self.error(input, "id", "is used twice"));
            }
            names.insert(record.id, input.id.clone());
            let named = [&input.original, &input.prev, &input.record, &input.winner];
            let in_lines = input.lines.iter().map(|line| &line.original);
            for name in named.into_iter().chain(in_lines).flatten() {
                names.entry(RecordId::symbolic(name)).or_insert_with(|| name.clone());
            }
            records.push((record, self.seen(input)?));
        }
        raise_over_seen(&mut records);
        let store = self.inputs.iter().find_map(|input| input.store.clone());
        let store = store.unwrap_or_else(|| "s1".parse().expect("a plain name"));
        let records = records.into_iter().map(|(record, seen)| (Arc::new(record), seen)).collect();
        Ok(Scenario { name: self.name.to_owned(), records, expect, policy, store, names })
    }

    /// Short names of the fixtures, and the settings of the policy.
    fn policy(&self, config: &Map<String, Value>) -> Result<Policy, ScenarioError> {
        let mut policy = Policy { currencies: self.currency.into_iter().collect(), ..Policy::default() };
        let currencies = self.inputs.iter().filter_map(|input| input.currency);
        policy.cash_unit_minor = currencies.map(|currency| (currency, SCENARIO_CASH_UNIT_MINOR)).collect();
        for (key, value) in config {
            let place = || format!("scenario {}, field config.{key}", self.name);
            let text = match value {
                Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                Value::Object(map) => {
                    map.iter().map(|(k, v)| format!("{k}:{v}")).collect::<Vec<_>>().join(",")
                }
                Value::Null => "unlimited".to_owned(),
                other => other.as_str().map_or_else(|| other.to_string(), str::to_owned),
            };
            let setting = match key.as_str() {
                "refund_limit" => "refund_limit_minor",
                "currencies" => "accepted_currencies",
                "cash_unit" => "cash_unit_minor",
                "over_short_tolerance" => "over_short_tolerance_minor",
                other => other,
            };
            policy.set(setting, &text).map_err(|error| ScenarioError::at(place(), error))?;
            if setting == "accepted_currencies" {
                policy.currencies.extend(self.currency);
            }
        }
        Ok(policy)
    }

    /// Numbers of the hub's records in its log: by kind, then by their own number.
    fn hub_numbers(&self) -> BTreeMap<String, u64> {
        let hub = self.inputs.iter().enumerate().filter(|(_, input)| input.kind >= InputKind::Config);
        let order: BTreeSet<_> =
            hub.map(|(at, input)| (input.kind, input.number.unwrap_or(0), at, input.id.clone())).collect();
        order.into_iter().zip(1..).map(|(row, seq)| (row.3, seq)).collect()
    }

    fn record(&self, input: &RecordInput, hub: &BTreeMap<String, u64>) -> Result<Record, ScenarioError> {
        let transaction = self.transaction(input)?;
        transaction.validate_schema().map_err(|error| self.error(input, &error.field, &error.problem))?;
        let (log, seq, prev) = match hub.get(&input.id) {
            Some(seq) => (LogId { terminal: TerminalId::hub(), incarnation: 1 }, *seq, None),
            None => {
                let log = self.log(input)?;
                let seq = input.seq.ok_or_else(|| self.error(input, "seq", "is missing"))?;
                (log.clone(), seq, self.prev(input, &log, seq))
            }
        };
        let parsed = input.at.as_deref().map(str::parse::<Instant>).transpose();
        let at = parsed.map_err(|error| self.error(input, "at", error))?;
        let after_all = Instant { ms: self.last_at.ms + 1, ..self.last_at };
        let at = at.unwrap_or(after_all);
        Ok(Record {
            id: RecordId::symbolic(&input.id),
            store: input.store.clone().unwrap_or_else(|| "s1".parse().expect("a plain name")),
            log,
            seq,
            prev,
            business_day: input.business_day.unwrap_or(self.days.1),
            at,
            effective_ms: at.ms,
            transaction,
        })
    }

    fn log(&self, input: &RecordInput) -> Result<LogId, ScenarioError> {
        let terminal = input.terminal.clone().ok_or_else(|| self.error(input, "terminal", "is missing"))?;
        Ok(LogId { terminal, incarnation: input.inc.unwrap_or(1) })
    }

    /// Where `prev` is absent it means the record before it, even one that the scenario leaves out.
    fn prev(&self, input: &RecordInput, log: &LogId, seq: u64) -> Option<RecordId> {
        if let Some(named) = &input.prev {
            return Some(RecordId::symbolic(named));
        }
        let before = seq.checked_sub(1).filter(|before| *before > 0)?;
        let own = |other: &&RecordInput| {
            other.terminal.as_ref() == Some(&log.terminal)
                && other.inc.unwrap_or(1) == log.incarnation
                && other.seq == Some(before)
        };
        let found = self.inputs.iter().filter(own).min_by_key(|other| (&other.at, &other.id));
        Some(found.map_or_else(
            || RecordId::symbolic(&format!("{log}:{before}")),
            |other| RecordId::symbolic(&other.id),
        ))
    }

    fn seen(&self, input: &RecordInput) -> Result<Vec<(LogId, u64)>, ScenarioError> {
        let pair = |(log, seq): (&String, &u64)| {
            let (terminal, incarnation) = log.split_once('/').unwrap_or((log, "1"));
            let bad = || self.error(input, "seen", format!("{log:?} is not a log; write till-01/1"));
            let terminal = terminal.parse().map_err(|_| bad())?;
            let incarnation = incarnation.parse().map_err(|_| bad())?;
            Ok((LogId { terminal, incarnation }, *seq))
        };
        input.seen.iter().map(pair).collect()
    }

    fn transaction(&self, input: &RecordInput) -> Result<Transaction, ScenarioError> {
        Ok(Transaction {
            receipt: input.receipt.clone().unwrap_or_else(|| input.id.clone()),
            operator: input.operator.clone(),
            idempotency_key: input.idem.clone(),
            offline: input.offline,
            body: self.body(input)?,
        })
    }

    fn body(&self, input: &RecordInput) -> Result<Body, ScenarioError> {
        let (reason, approver) = (input.reason.clone(), input.approver.clone());
        let original = reference(input);
        Ok(match input.kind {
            InputKind::Sale => Body::Sale(self.basket(input)?),
            InputKind::Refund => Body::Refund { basket: self.basket(input)?, original, reason, approver },
            InputKind::Void => {
                let reverses = input.reverses.unwrap_or_else(|| self.reversed_kind(input));
                Body::Void { basket: self.basket(input)?, original, reverses, reason, approver }
            }
            InputKind::CashMove => Body::CashMove {
                movement: input.movement.ok_or_else(|| self.error(input, "movement", "is missing"))?,
                amount_minor: input.amount.ok_or_else(|| self.error(input, "amount", "is missing"))?,
                currency: self.currency(input)?,
                reason,
            },
            InputKind::Close => Body::DayClose(self.close(input)?),
            _ => Body::Hub(self.statement(input)?),
        })
    }

    fn currency(&self, input: &RecordInput) -> Result<Currency, ScenarioError> {
        input.currency.or(self.currency).ok_or_else(|| self.error(input, "currency", "is missing"))
    }

    fn reversed_kind(&self, input: &RecordInput) -> Reverses {
        let original = self.inputs.iter().find(|other| Some(&other.id) == input.original.as_ref());
        if original.is_some_and(|other| other.kind == InputKind::Refund) {
            Reverses::Refund
        } else {
            Reverses::Sale
        }
    }

    fn basket(&self, input: &RecordInput) -> Result<Basket, ScenarioError> {
        let lines = input.lines.iter().map(|line| self.line(input, line)).collect::<Result<_, _>>()?;
        let tender = |tender: &TenderInput| Tender {
            tender: tender.tender,
            amount_minor: tender.amount,
            currency: tender.currency,
            status: tender.status,
            payment: tender.payment.clone(),
            auth: tender.auth.clone(),
            card: None,
            cash: None,
        };
        Ok(Basket {
            currency: self.currency(input)?,
            lines,
            tenders: input.tenders.iter().map(tender).collect(),
            rounding_minor: input.rounding,
            tip_minor: input.tip,
        })
    }

    fn line(&self, input: &RecordInput, line: &LineInput) -> Result<Line, ScenarioError> {
        let field = |name: &str| format!("lines[n={}].{name}", line.n);
        let quantity = line.qty.as_str().map_or_else(|| line.qty.to_string(), str::to_owned);
        let quantity =
            quantity.parse::<Quantity>().map_err(|error| self.error(input, &field("qty"), error))?;
        let rate = line.tax_rate.as_deref().map(str::parse::<TaxRate>).transpose();
        let tax_rate = rate.map_err(|error| self.error(input, &field("tax_rate"), error))?;
        let flag = match (line.return_in_sale, line.line_void, line.gift_card_sold) {
            (true, _, _) => LineFlag::ReturnInSale,
            (_, true, _) => LineFlag::LineVoid,
            (_, _, true) => LineFlag::GiftCardSold,
            _ => LineFlag::Item,
        };
        let names = line.original.is_some() || line.original_line.is_some();
        let original = names.then(|| {
            let reference = line.original.as_ref().map(|name| Reference::to_id(RecordId::symbolic(name)));
            Box::new(OriginalLine { reference, line: line.original_line })
        });
        Ok(Line {
            number: line.n,
            sku: line.sku.clone(),
            description: line.description.clone(),
            quantity,
            unit_price_minor: line.unit_price,
            discount_minor: line.discount,
            amount_minor: line.amount,
            tax_minor: line.tax,
            tax_code: line.tax_code.clone(),
            tax_rate,
            flag,
            original,
            adjustment: Adjustment { tax_exclusive: line.tax_exclusive },
        })
    }

    /// A close in a scenario states cash only; the hub checks no more than what is stated.
    fn close(&self, input: &RecordInput) -> Result<DayClose, ScenarioError> {
        let totals = CloseTotals {
            currency: self.currency(input).or_else(|error| "GBP".parse().map_err(|_| error))?,
            sales: CountSum::default(),
            refunds: CountSum::default(),
            voids: CountSum::default(),
            tax: Vec::new(),
            tenders: Vec::new(),
            expected_cash_minor: input.expected_cash.unwrap_or(0),
            counted_cash_minor: input.counted_cash.or(input.expected_cash).unwrap_or(0),
            grand_total_minor: 0,
        };
        Ok(DayClose { z_number: input.number.unwrap_or(1), covers: None, totals: vec![totals] })
    }

    fn statement(&self, input: &RecordInput) -> Result<HubRecord, ScenarioError> {
        let missing = |field: &str| self.error(input, field, "is missing");
        Ok(match input.kind {
            InputKind::Payment => HubRecord::Payment(Payment {
                payment: input.payment.clone().ok_or_else(|| missing("payment"))?,
                outcome: input.result.ok_or_else(|| missing("result"))?,
            }),
            InputKind::Revoke => HubRecord::Revoke {
                terminal: input.target.clone().ok_or_else(|| missing("target"))?,
                incarnation: input.target_inc,
                last_valid_seq: input.last_valid_seq.ok_or_else(|| missing("last_valid_seq"))?,
            },
            InputKind::Settlement => {
                let settled =
                    |row: &SettledInput| Settled { payment: row.payment.clone(), amount_minor: row.amount };
                HubRecord::Settlement(Settlement {
                    currency: self.currency(input)?,
                    payments: input.payments.iter().map(settled).collect(),
                    fees_minor: input.fees,
                })
            }
            InputKind::Lock => HubRecord::Lock(self.lock(input)?),
            InputKind::Config => {
                let settings = input.settings.iter().map(String::as_str);
                let change = PolicyChange::parse(settings, input.business_day, "scenario");
                HubRecord::Config(change.map_err(|error| self.error(input, "settings", error))?)
            }
            _ => HubRecord::Decision(self.decision(input)?),
        })
    }

    fn lock(&self, input: &RecordInput) -> Result<Lock, ScenarioError> {
        let mut heads = Vec::new();
        for name in &input.covers {
            let covered = self.inputs.iter().find(|other| other.id == *name);
            let covered =
                covered.ok_or_else(|| self.error(input, "covers", format!("{name:?} is no record here")))?;
            let seq = covered.seq.ok_or_else(|| self.error(covered, "seq", "is missing"))?;
            heads.push(LogHead { log: self.log(covered)?, seq, id: RecordId::symbolic(name) });
        }
        let open_day = input.open_day.unwrap_or(self.days.0);
        Ok(Lock { number: input.number.unwrap_or(1), heads, open_day })
    }

    fn decision(&self, input: &RecordInput) -> Result<Decision, ScenarioError> {
        let missing = |field: &str| self.error(input, field, "is missing");
        let case_type = input.case.clone().ok_or_else(|| missing("case"))?;
        let known = case_type.parse::<CaseType>();
        let known =
            known.map_err(|()| self.error(input, "case", format!("{case_type:?} is no case type")))?;
        let subject = input.subject.clone().ok_or_else(|| missing("subject"))?;
        let member = input.record.as_ref().or(input.winner.as_ref()).map(|name| RecordId::symbolic(name));
        Ok(Decision {
            number: input.number.unwrap_or(1),
            subject: if about_a_record(known) { RecordId::symbolic(&subject).to_string() } else { subject },
            case_type,
            case_version: None,
            member,
            action: input.action.ok_or_else(|| missing("action"))?,
            parameter: input.account.clone().or_else(|| input.tender.clone()),
            terminal: input.terminal.clone(),
            reviewer: input.reviewer.clone().unwrap_or_else(|| "reviewer".to_owned()),
            approver: input.approver.clone(),
            reason: input.reason.clone().unwrap_or_default(),
        })
    }
}

fn reference(input: &RecordInput) -> Option<Reference> {
    let reference = Reference {
        id: input.original.as_ref().map(|name| RecordId::symbolic(name)),
        store: None,
        terminal: input.original_terminal.clone(),
        receipt: input.original_receipt.clone(),
        seq: input.original_seq,
    };
    (reference != Reference::default()).then_some(reference)
}

/// Whether the subject of a case is a record, here under its symbolic name.
fn about_a_record(case_type: CaseType) -> bool {
    !matches!(
        case_type,
        CaseType::DuplicateCapture
            | CaseType::DuplicatePayment
            | CaseType::ClonedTerminal
            | CaseType::BrokenChain
            | CaseType::SequenceGap
            | CaseType::RevokedTerminal
            | CaseType::ClockSkew
            | CaseType::FailedPayment
            | CaseType::FailedRefundPayment
            | CaseType::PaymentAfterVoid
            | CaseType::ZMismatch
            | CaseType::CashOverShort
    )
}

/// What capture does at a till: the effective time comes after everything that was seen, and not before `prev`.
fn raise_over_seen(records: &mut [(Record, Vec<(LogId, u64)>)]) {
    for _ in 0..records.len() {
        let times: Vec<(LogId, u64, RecordId, i64)> = records
            .iter()
            .map(|(record, _)| (record.log.clone(), record.seq, record.id, record.effective_ms))
            .collect();
        let mut changed = false;
        for (record, seen) in records.iter_mut() {
            let knew = |log: &LogId, seq: u64| seen.iter().any(|(known, to)| known == log && *to >= seq);
            let horizon = times.iter().filter(|row| knew(&row.0, row.1)).map(|row| row.3).max();
            let before =
                times.iter().find(|row| Some(row.2) == record.prev && row.2 != record.id).map(|row| row.3);
            let ms = crate::record::effective_ms(record.at, before, horizon).max(record.effective_ms);
            changed |= ms != record.effective_ms;
            record.effective_ms = ms;
        }
        if !changed {
            return;
        }
    }
}
