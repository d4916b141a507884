//! Which scenarios make sense: nodes that exist, figures within bounds, settings that the policy knows, receipts that
//! are one thing each. A scenario that passes runs; what breaks then is the engine's doing.

use std::collections::BTreeSet;

use engine::policy::{Policy, PolicyChange};

use crate::scenario::{Item, Scenario, What};
use crate::trade::DAY_MS;
use crate::world::{DATABASE, HUB, hub_names, is_hub};

/// Most tills.
pub const TILLS_LIMIT: u64 = 64;
/// Most hubs, and most shards.
pub const HUBS_LIMIT: u64 = 8;
const SHARDS_LIMIT: u16 = 64;
/// Most days.
pub const DAYS_LIMIT: u64 = 366;
/// Most transactions of a till and day, about.
pub const TRANSACTIONS_LIMIT: u64 = 10_000;
/// Most happenings of a file, and of what a seed thinks up for it.
pub const HAPPENINGS_LIMIT: usize = 1_000_000;
/// Longest that anything takes, ms: a day.
const SLOWEST_MS: i64 = DAY_MS;
/// Most that a clock is off, ms: ten years. `i64::MIN` sets it to 1970.
const CLOCK_LIMIT_MS: i64 = 3_660 * DAY_MS;
/// Largest price or sum, minor units.
const PRICE_LIMIT_MINOR: i64 = 100_000_000;

/// What makes no sense in a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which happening, counted from 0; none: the scenario itself.
    pub happening: Option<usize>,
    /// Which key of it.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// Whether a scenario makes sense.
///
/// # Errors
/// The first thing that does not.
pub fn check(scenario: &Scenario) -> Result<(), Problem> {
    let own = |key, reason: String| Err(Problem { happening: None, key, reason });
    if !(1..=TILLS_LIMIT).contains(&scenario.tills) {
        return own("tills", format!("{} is no number of tills; give 1 to {TILLS_LIMIT}", scenario.tills));
    }
    if !(1..=DAYS_LIMIT).contains(&scenario.days) {
        return own("days", format!("{} is no number of days; give 1 to {DAYS_LIMIT}", scenario.days));
    }
    if scenario.hubs > HUBS_LIMIT {
        return own(
            "hubs",
            format!("{} is too many; give up to {HUBS_LIMIT}, or 0 for a hub on its disk", scenario.hubs),
        );
    }
    if !(1..=SHARDS_LIMIT).contains(&scenario.shards) {
        return own(
            "shards",
            format!("{} is no number of shards; give 1 to {SHARDS_LIMIT}", scenario.shards),
        );
    }
    if i64::try_from(scenario.seed).is_err() {
        return own("seed", format!("{} is too large; give up to {}", scenario.seed, i64::MAX));
    }
    let mut policy = Policy::default();
    for setting in &scenario.policy {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        if let Err(error) = policy.set(key, value) {
            return own("policy", error.to_string());
        }
    }
    check_speed(scenario).or_else(|(key, reason)| own(key, reason))?;
    check_trade(scenario).or_else(|(key, reason)| own(key, reason))?;
    if scenario.happens.len() > HAPPENINGS_LIMIT {
        return own("happens", format!("more than {HAPPENINGS_LIMIT} happenings; write fewer"));
    }
    check_happenings(scenario)
}

type Wrong = (&'static str, String);

fn check_speed(scenario: &Scenario) -> Result<(), Wrong> {
    let speed = &scenario.speed;
    for (key, (low, high)) in [("link_ms", speed.link_ms), ("disk_ms", speed.disk_ms)] {
        if low < 0 || low > high || high > SLOWEST_MS {
            let reason = format!("[{low}, {high}] is no range; give shortest and longest, up to a day");
            return Err((key, reason));
        }
    }
    Ok(())
}

fn check_trade(scenario: &Scenario) -> Result<(), Wrong> {
    let Some(trade) = &scenario.trade else { return Ok(()) };
    if trade.mischief_percent > 100 {
        return Err(("mischief_percent", format!("{} is no percentage", trade.mischief_percent)));
    }
    let (tills, days) = (scenario.tills, scenario.days);
    if trade.transactions > TRANSACTIONS_LIMIT || trade.transactions * tills * days > HAPPENINGS_LIMIT as u64
    {
        let reason = format!(
            "{} a till and day is too much for {tills} tills and {days} days; give at most {TRANSACTIONS_LIMIT}, \
             and {HAPPENINGS_LIMIT} in all",
            trade.transactions
        );
        return Err(("transactions", reason));
    }
    Ok(())
}

fn check_happenings(scenario: &Scenario) -> Result<(), Problem> {
    let names = scenario.till_names();
    let tills: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let copies: BTreeSet<&str> = scenario
        .happens
        .iter()
        .filter_map(|timed| match &timed.what {
            What::CloneDevice { copy, .. } => Some(copy.as_str()),
            _ => None,
        })
        .collect();
    let sale = |what: &What| matches!(what, What::Sale { .. });
    let sales = scenario.happens.iter().filter(|timed| sale(&timed.what));
    let sales: BTreeSet<&str> = sales.filter_map(|timed| timed.what.receipt()).collect();
    let mut made = BTreeSet::new();
    let end_ms = i64::try_from(scenario.days).unwrap_or(1) * DAY_MS;
    for (at, timed) in scenario.happens.iter().enumerate() {
        let wrong = |(key, reason)| Problem { happening: Some(at), key, reason };
        if !(0..=end_ms).contains(&timed.at_ms) {
            let days = scenario.days;
            return Err(wrong(("at", format!("it is not within the {days} days of this scenario"))));
        }
        if scenario.hubs == 0 {
            check_nodes(&timed.what, &tills, &copies, &names).map_err(wrong)?;
        } else {
            check_hubs(&timed.what, &tills, &copies, scenario).map_err(wrong)?;
        }
        check_figures(&timed.what).map_err(wrong)?;
        if let Some(receipt) = timed.what.receipt() {
            if receipt.is_empty() || receipt.len() > 32 {
                return Err(wrong(("receipt", "a receipt number has 1 to 32 characters".to_owned())));
            }
            if scenario.trade.is_some() && may_be_thought_up(receipt) {
                let reason =
                    format!("{receipt} may be one of the trade's own numbers; write another, such as MY-1");
                return Err(wrong(("receipt", reason)));
            }
            if !made.insert(receipt) {
                let reason = format!("receipt {receipt} is there already; give each its own number");
                return Err(wrong(("receipt", reason)));
            }
        }
        if let Some(of) = timed.what.of().filter(|of| !sales.contains(of)) {
            return Err(wrong(("of", format!("there is no sale {of} among the happenings"))));
        }
    }
    Ok(())
}

/// A letter and a number, as trade that is thought up has them.
fn may_be_thought_up(receipt: &str) -> bool {
    let digits = receipt.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
    receipt.len() - digits.len() == 1
        && !digits.is_empty()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
}

fn check_nodes(
    what: &What,
    tills: &BTreeSet<&str>,
    copies: &BTreeSet<&str>,
    names: &[String],
) -> Result<(), Wrong> {
    let is_till = |name: &str| tills.contains(name) || copies.contains(name);
    let there = || match names {
        [only] => format!("there are {HUB} and {only}"),
        [first, .., last] => format!("there are {HUB}, {first} … {last}"),
        [] => format!("there is {HUB}"),
    };
    let no_node = |name: &str| format!("{name} is no node of this scenario; {}", there());
    if let What::CloneDevice { till, copy } = what {
        if !tills.contains(till.as_str()) {
            return Err(("till", no_node(till)));
        }
        if *copy != format!("{till}-copy") {
            return Err(("copy", format!("the copy of {till} is called {till}-copy")));
        }
        return Ok(());
    }
    let keys: &[&'static str] = match what {
        What::Block { .. } | What::Open { .. } => &["from", "to"],
        What::Gossip { .. } => &["one", "two"],
        What::Crash { .. }
        | What::Kill { .. }
        | What::Pause { .. }
        | What::Restart { .. }
        | What::DiskHangs { .. }
        | What::SyncFails { .. }
        | What::DiskFull { .. }
        | What::Rot { .. }
        | What::Backup { .. }
        | What::RestoreBackup { .. }
        | What::Clock { .. }
        | What::Drift { .. }
        | What::Slow { .. } => &["node"],
        _ => &["till"],
    };
    let several = match what {
        What::Kill { .. } | What::Pause { .. } => Some("node"),
        What::Database { .. } => Some("do"),
        _ => None,
    };
    if let Some(key) = several {
        return Err((key, "this happens to several hubs on a database; give hubs = 2 or more".to_owned()));
    }
    let nodes = what.nodes();
    for (key, name) in keys.iter().zip(&nodes) {
        let fits = is_till(name) || (*key != "till" && name.as_str() == HUB);
        if !fits && name.as_str() == HUB {
            return Err((key, "the hub does not do that; name a till".to_owned()));
        }
        if !fits {
            return Err((key, no_node(name)));
        }
    }
    match nodes.as_slice() {
        [one, two] if one == two => Err((keys[1], format!("{one} has no link to itself; name two nodes"))),
        _ => Ok(()),
    }
}

/// The same where the company has several hubs: what happens to a hub or to the way to the database is of their kind, what
/// happens to tills is as ever.
fn check_hubs(
    what: &What,
    tills: &BTreeSet<&str>,
    copies: &BTreeSet<&str>,
    scenario: &Scenario,
) -> Result<(), Wrong> {
    let hubs = hub_names(scenario.hubs);
    let known = |name: &str| hubs.iter().any(|hub| hub == name);
    for name in what.nodes() {
        let fits = known(name)
            || *name == DATABASE
            || tills.contains(name.as_str())
            || copies.contains(name.as_str());
        if !fits {
            let there = format!("there are {} hubs from hub-1, {DATABASE}, and tills", scenario.hubs);
            return Err(("node", format!("{name} is no node of this scenario; {there}")));
        }
    }
    match what {
        What::Kill { node, .. } | What::Pause { node, .. } if !known(node) => {
            Err(("node", format!("{node} is no hub; name one from hub-1")))
        }
        What::Crash { node, .. }
        | What::Restart { node }
        | What::Clock { node, .. }
        | What::Drift { node, .. }
        | What::Slow { node, .. }
            if node == DATABASE =>
        {
            Err(("node", "what happens to the database is do = \"database\"".to_owned()))
        }
        What::DiskHangs { node }
        | What::SyncFails { node }
        | What::DiskFull { node }
        | What::Rot { node, .. }
        | What::Backup { node }
        | What::RestoreBackup { node }
            if is_hub(node) || node == DATABASE =>
        {
            Err(("node", "hubs on a database have no disk of their own; name a till".to_owned()))
        }
        What::Block { from, to } | What::Open { from, to } => {
            let till = |name: &String| !is_hub(name) && name != DATABASE;
            let way = (till(from) || till(to)) && from != DATABASE && to != DATABASE;
            match way || (known(from) && to == DATABASE) || (from == DATABASE && known(to)) {
                true if from != to => Ok(()),
                _ => Err((
                    "to",
                    format!("{from} does not talk to {to}; name a till and a hub, or a hub and {DATABASE}"),
                )),
            }
        }
        What::Gossip { one, two }
            if !tills.contains(one.as_str()) || !tills.contains(two.as_str()) || one == two =>
        {
            Err(("two", "two tills talk; name two".to_owned()))
        }
        What::CloneDevice { till, copy }
            if *copy != format!("{till}-copy") || !tills.contains(till.as_str()) =>
        {
            Err(("copy", format!("the copy of {till} is called {till}-copy")))
        }
        What::Wipe { till } | What::Revoke { till } | What::Lie { till, .. }
            if is_hub(till) || till == DATABASE =>
        {
            Err(("till", "the hub does not do that; name a till".to_owned()))
        }
        What::Sale { till, .. }
        | What::Refund { till, .. }
        | What::Void { till, .. }
        | What::Exchange { till, .. }
        | What::Cash { till, .. }
        | What::Close { till, .. }
            if is_hub(till) || till == DATABASE =>
        {
            Err(("till", "the hub does not do that; name a till".to_owned()))
        }
        _ => Ok(()),
    }
}

fn within(key: &'static str, value: i64, low: i64, high: i64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err((key, format!("{value} is out of bounds; give {low} to {high}")))
}

fn price(key: &'static str, value: i64) -> Result<(), Wrong> {
    within(key, value, 6, PRICE_LIMIT_MINOR)?;
    if value % 6 == 0 {
        return Ok(());
    }
    Err((key, format!("{value} is no multiple of 6; a fifth of the net must be whole")))
}

fn check_figures(what: &What) -> Result<(), Wrong> {
    match what {
        What::Sale { items, tip_minor, .. } => {
            within("items", i64::try_from(items.len()).unwrap_or(i64::MAX), 1, 50)?;
            for Item { pieces, price_minor } in items {
                within("pieces", *pieces, 1, 1_000)?;
                price("price_minor", *price_minor)?;
            }
            within("tip_minor", *tip_minor, 0, PRICE_LIMIT_MINOR)
        }
        What::Refund { pieces, .. } => within("pieces", *pieces, 1, 1_000),
        What::Exchange { price_minor, .. } => price("price_minor", *price_minor),
        What::Cash { amount_minor, .. } => {
            within("amount_minor", *amount_minor, -PRICE_LIMIT_MINOR, PRICE_LIMIT_MINOR)
        }
        What::Policy { setting } => PolicyChange::parse([setting.as_str()], None, "admin")
            .map(drop)
            .map_err(|error| ("setting", error.to_string())),
        What::Crash { down_ms, .. } => within("down_ms", *down_ms, 0, 30 * DAY_MS),
        What::Kill { down_ms, .. } => within("down_ms", *down_ms, 0, 30 * DAY_MS),
        What::Pause { lasts_ms, .. } => within("lasts_ms", *lasts_ms, 0, DAY_MS),
        What::Database { lasts_ms, once_in, .. } => {
            within("lasts_ms", *lasts_ms, 0, DAY_MS)?;
            within("once_in", i64::try_from(*once_in).unwrap_or(i64::MAX), 1, 1_000_000)
        }
        What::Clock { ahead_ms: i64::MIN, .. } => Ok(()),
        What::Clock { ahead_ms, .. } => within("ahead_ms", *ahead_ms, -CLOCK_LIMIT_MS, CLOCK_LIMIT_MS),
        What::Drift { ppm, .. } => within("ppm", *ppm, -100_000, 100_000),
        What::Slow { disk_ms, link_ms, .. } => {
            within("disk_ms", *disk_ms, 0, SLOWEST_MS)?;
            within("link_ms", *link_ms, 0, SLOWEST_MS)
        }
        What::Loss { percent } => within("percent", i64::try_from(*percent).unwrap_or(i64::MAX), 0, 95),
        What::Meddle { once_in, .. } => {
            within("once_in", i64::try_from(*once_in).unwrap_or(i64::MAX), 1, i64::MAX)
        }
        _ => Ok(()),
    }
}
