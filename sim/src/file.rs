//! Scenario files, in TOML: reading, with the line and the key of whatever does not fit, and writing. A time is written
//! `at = "1d 2h 30m"` by people and `at_ms = 95400000` by programs. A cut that lasts is one happening in a file and the
//! `block`s and `open`s it stands for in a scenario.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use crate::limits;
use crate::scenario::{Scenario, Timed, What};

/// Most times that one happening repeats a cut.
const REPEATS_LIMIT: i64 = 10_000;

/// A scenario file that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// The file.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Key; empty where there is none.
    pub key: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the scenario {}, line {}", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, ", key {}", self.key)?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for BadFile {}

/// Something wrong at a place of the text, or at a key that is still to be found.
struct Wrong {
    span: Range<usize>,
    key: Option<String>,
    reason: String,
}

impl Wrong {
    fn at(span: Range<usize>, key: &str, reason: impl Into<String>) -> Self {
        Self { span, key: Some(key.to_owned()), reason: reason.into() }
    }

    fn of(error: &toml::de::Error, fallback: Range<usize>) -> Self {
        let reason = error.message().to_owned();
        // Serde names the key that is missing; it has no place of its own.
        let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        Self { span: error.span().unwrap_or(fallback), key: missing.map(str::to_owned), reason }
    }

    fn in_file(self, file: &str, text: &str) -> BadFile {
        let start = self.span.start.min(text.len());
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
        let key = self.key.unwrap_or_else(|| key_at(text, &self.span));
        BadFile { file: file.to_owned(), line, key, reason: self.reason }
    }
}

/// The key that a place of the text belongs to.
fn key_at(text: &str, span: &Range<usize>) -> String {
    let name = |byte: char| byte.is_ascii_alphanumeric() || byte == '_' || byte == '-';
    let there = text.get(span.clone()).unwrap_or("");
    let follows = text.get(span.end..).unwrap_or("").trim_start_matches([' ', '\t']);
    if !there.is_empty() && there.chars().all(name) && follows.starts_with(['=', '.', ']']) {
        return there.to_owned();
    }
    // The nearest `key =` before it; a header's name if there is none in between.
    let before = text.get(..span.start.min(text.len())).unwrap_or("");
    for line in before.rsplit('\n') {
        if let Some((left, _)) = line.rsplit_once('=').filter(|_| !line.trim_start().starts_with('#')) {
            let left = left.trim_end();
            return left.rsplit(|byte| !name(byte)).next().unwrap_or("").to_owned();
        }
        if line.trim_start().starts_with('[') {
            return line.trim_matches(|byte| !name(byte)).to_owned();
        }
    }
    String::new()
}

/// Reads a scenario and checks that it makes sense.
///
/// # Errors
/// The first thing that does not fit, with its line and key.
pub fn read(file: &str, text: &str) -> Result<Scenario, BadFile> {
    read_text(text).map_err(|wrong| wrong.in_file(file, text))
}

/// Lines of a happening's keys, to say where one is wrong after it was read.
struct Place {
    span: Range<usize>,
    keys: BTreeMap<String, Range<usize>>,
}

fn read_text(text: &str) -> Result<Scenario, Wrong> {
    let document = DeTable::parse(text).map_err(|error| Wrong::of(&error, 0..0))?;
    let span = document.span();
    let mut table = document.into_inner();
    let mut keys = key_spans(&table);
    for inner in ["trade", "speed"] {
        if let Some(table) = table.get(inner).and_then(|value| value.get_ref().as_table()) {
            keys.extend(key_spans(table));
        }
    }
    let happens = table.remove("happens");
    let head = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
    let mut scenario = Scenario::deserialize(head).map_err(|error| Wrong::of(&error, span))?;
    let mut places = Vec::new();
    if let Some(happens) = happens {
        let span = happens.span();
        let DeValue::Array(happens) = happens.into_inner() else {
            return Err(Wrong::at(span, "happens", "write each happening under [[happens]]"));
        };
        for happening in happens {
            let (timed, place) = read_happening(happening)?;
            places.extend(timed.iter().map(|_| (place.span.clone(), place.keys.clone())));
            scenario.happens.extend(timed);
        }
    }
    limits::check(&scenario).map_err(|problem| {
        let place = problem.happening.and_then(|at| places.get(at));
        let keys = place.map_or(&keys, |place| &place.1);
        // A time may be under either name.
        let other = format!("{}_ms", problem.key);
        let known = [problem.key, other.as_str()].into_iter().find_map(|key| Some((key, keys.get(key)?)));
        let span = place.map_or(0..0, |place| place.0.clone());
        let (key, span) = known.map_or((problem.key, span), |(key, span)| (key, span.clone()));
        Wrong::at(span, key, problem.reason)
    })?;
    Ok(scenario)
}

fn key_spans(table: &DeTable<'_>) -> BTreeMap<String, Range<usize>> {
    table.iter().map(|(key, _)| (key.get_ref().to_string(), key.span())).collect()
}

fn read_happening(happening: Spanned<DeValue<'_>>) -> Result<(Vec<Timed>, Place), Wrong> {
    let span = happening.span();
    let DeValue::Table(mut table) = happening.into_inner() else {
        return Err(Wrong::at(span, "happens", "a happening has keys: at, do, and what that needs"));
    };
    let place = Place { span: span.clone(), keys: key_spans(&table) };
    let at_ms = match (table.remove("at"), table.remove("at_ms")) {
        (Some(at), None) => duration_of("at", &at)?,
        (None, Some(at_ms)) => integer_of("at_ms", at_ms)?,
        (Some(at), Some(_)) => {
            return Err(Wrong::at(at.span(), "at", "there is at and at_ms; give one of them"));
        }
        (None, None) => {
            let reason =
                "the time is missing; give at = \"1d 2h 30m\" (or at_ms, in ms) since the first 08:00";
            return Err(Wrong::at(span, "at", reason));
        }
    };
    let Some(kind) = table.remove("do") else {
        return Err(Wrong::at(
            span,
            "do",
            "what happens is missing; give do = \"sale\", do = \"crash\" and so on",
        ));
    };
    let Some(name) = kind.get_ref().as_str().map(str::to_owned) else {
        return Err(Wrong::at(kind.span(), "do", "give a word in quotes, such as do = \"crash\""));
    };
    if name == "cut" {
        let cuts = read_cut(at_ms, table, &span)?;
        return Ok((cuts, place));
    }
    let mut tagged = DeTable::new();
    tagged.insert(Spanned::new(kind.span(), name.into()), Spanned::new(span.clone(), DeValue::Table(table)));
    let value = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(tagged)));
    let what = What::deserialize(value).map_err(|error| Wrong::of(&error, span))?;
    Ok((vec![Timed { at_ms, what }], place))
}

/// A cut between two nodes that lasts, perhaps again and again: what a file says in one line.
fn read_cut(at_ms: i64, mut table: DeTable<'_>, span: &Range<usize>) -> Result<Vec<Timed>, Wrong> {
    let mut node = |key: &str| {
        let Some(value) = table.remove(key) else {
            return Err(Wrong::at(
                span.clone(),
                key,
                format!("{key} is missing; a cut is between from and to"),
            ));
        };
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| Wrong::at(value.span(), key, "give the name of a node in quotes"))
    };
    let (from, to) = (node("from")?, node("to")?);
    let Some(lasts) = table.remove("lasts") else {
        return Err(Wrong::at(
            span.clone(),
            "lasts",
            "lasts is missing; give a time such as lasts = \"40s\"",
        ));
    };
    let lasts_ms = duration_of("lasts", &lasts)?;
    let times_span = table.get("times").map_or(0..0, Spanned::span);
    let times = table.remove("times").map_or(Ok(1), |times| integer_of("times", times))?;
    if !(1..=REPEATS_LIMIT).contains(&times) {
        return Err(Wrong::at(times_span, "times", format!("give 1 to {REPEATS_LIMIT}")));
    }
    let every_ms = match table.remove("every") {
        Some(every) => {
            let every_ms = duration_of("every", &every)?;
            if every_ms < lasts_ms {
                return Err(Wrong::at(every.span(), "every", "it is shorter than lasts; give a longer one"));
            }
            every_ms
        }
        None if times > 1 => {
            return Err(Wrong::at(
                times_span,
                "every",
                "every is missing; how often does the cut come again?",
            ));
        }
        None => 0,
    };
    if let Some((key, _)) = table.iter().next() {
        let reason =
            format!("unknown field `{}`, expected one of from, to, lasts, times, every", key.get_ref());
        return Err(Wrong::at(key.span(), key.get_ref(), reason));
    }
    let mut happens = Vec::new();
    for number in 0..times {
        let from_ms = at_ms.saturating_add(number.saturating_mul(every_ms));
        for (from, to) in [(&from, &to), (&to, &from)] {
            let (from, to) = (from.clone(), to.clone());
            happens.push(Timed { at_ms: from_ms, what: What::Block { from: from.clone(), to: to.clone() } });
            happens.push(Timed { at_ms: from_ms.saturating_add(lasts_ms), what: What::Open { from, to } });
        }
    }
    Ok(happens)
}

fn integer_of(key: &str, value: Spanned<DeValue<'_>>) -> Result<i64, Wrong> {
    let span = value.span();
    i64::deserialize(ValueDeserializer::from(value))
        .map_err(|error| Wrong::at(span, key, error.message().to_owned()))
}

fn duration_of(key: &str, value: &Spanned<DeValue<'_>>) -> Result<i64, Wrong> {
    let text = value.get_ref().as_str().ok_or("give a time in quotes, such as \"1d 2h 30m\"".to_owned());
    text.and_then(duration).map_err(|reason| Wrong::at(value.span(), key, reason))
}

/// Reads a time such as `1d 2h 30m`, `90s` or `250ms`, in ms.
///
/// # Errors
/// In words, what it is not.
pub fn duration(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("{text:?} is no time; write days, hours, minutes, seconds or ms, such as 1d 2h 30m");
    let mut sum_ms: i64 = 0;
    let mut parts = 0;
    for part in text.split_whitespace() {
        let digits = part.trim_end_matches(|byte: char| byte.is_ascii_alphabetic());
        let unit_ms = match &part[digits.len()..] {
            "d" => 86_400_000,
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(wrong()),
        };
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        sum_ms = sum_ms.saturating_add(i64::from(number).saturating_mul(unit_ms));
        parts += 1;
    }
    if parts == 0 { Err(wrong()) } else { Ok(sum_ms) }
}

/// Writes a scenario as a file that reads as the same scenario.
#[must_use]
pub fn write(scenario: &Scenario) -> String {
    let integer = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut text = String::new();
    let mut line = |key: &str, value: Value| {
        writeln!(text, "{key} = {value}").expect("text grows");
    };
    line("name", Value::from(scenario.name.as_str()));
    line("about", Value::from(scenario.about.as_str()));
    line("seed", Value::from(integer(scenario.seed)));
    line("tills", Value::from(integer(scenario.tills)));
    line("days", Value::from(integer(scenario.days)));
    if scenario.hubs > 0 {
        line("hubs", Value::from(integer(scenario.hubs)));
        line("shards", Value::from(i64::from(scenario.shards)));
    }
    line("policy", Value::from(scenario.policy.clone()));
    line("swarm", Value::from(scenario.swarm));
    let speed = &scenario.speed;
    let pair = |(low, high): (i64, i64)| Value::from(vec![low, high]);
    line("speed.link_ms", pair(speed.link_ms));
    line("speed.bytes_a_ms", Value::from(integer(speed.bytes_a_ms)));
    line("speed.disk_ms", pair(speed.disk_ms));
    if let Some(trade) = &scenario.trade {
        line("trade.transactions", Value::from(integer(trade.transactions)));
        line("trade.mischief_percent", Value::from(integer(trade.mischief_percent)));
        line("trade.closes", Value::from(trade.closes));
    }
    for timed in &scenario.happens {
        writeln!(text, "\n[[happens]]\nat_ms = {}", timed.at_ms).expect("text grows");
        let what = Value::try_from(&timed.what).expect("what happens is plain data");
        match what {
            // The outer table names what happens, the inner one has its keys.
            Value::Table(tagged) => {
                for (name, keys) in tagged {
                    writeln!(text, "do = {}", Value::from(name)).expect("text grows");
                    for (key, value) in keys.as_table().into_iter().flatten() {
                        writeln!(text, "{key} = {value}").expect("text grows");
                    }
                }
            }
            name => writeln!(text, "do = {name}").expect("text grows"),
        }
    }
    text
}
