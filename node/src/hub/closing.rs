//! Days and locks: how far a store's day has come, and closing a period. A lock names the head of every log, and is
//! taken only over finished days, or with a reason that stays in the log. What is finished is the engine's to say.

use engine::ids::{RecordId, StoreId};
use engine::ledger::{DayState, Figure, TillDay};
use engine::replica::Replica;
use engine::time::Day;
use engine::transaction::{Body, Decision, DecisionAction, HubRecord, Lock};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::review::NotDecided;
use super::{Hub, Person};
use crate::runtime::clock::{now_ms, rfc3339};

/// What stands in a lock's way is listed up to here.
const OBSTACLES_LISTED: usize = 12;
/// Name under which the reason of a lock over unfinished days is recorded; no case has this type.
const OVERRIDE: &str = "LOCK_OVERRIDE";

/// What is to be locked.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// Last day that the lock covers.
    #[schema(value_type = String, format = Date)]
    pub through: Day,
    /// Lock although a day is not finished; needs a reason.
    #[serde(default, rename = "override")]
    pub over: bool,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
}

impl Hub {
    /// How far a store's day has come.
    ///
    /// # Errors
    /// There is no such store, or the node is stopping.
    pub async fn day_view(&self, store: &StoreId, day: Day) -> Result<Value, NotDecided> {
        let handle = self.store(store).ok_or_else(|| no_store(store))?;
        let ends_ms = self.clock.start_of(day.plus(1));
        Ok(handle.ask(move |replica| day_view(replica, day, ends_ms)).await?)
    }

    /// Locks a store's days through one.
    ///
    /// # Errors
    /// A day is not finished and no reason is given, the day is locked already or still to come, or the storage failed.
    pub async fn lock(
        &self,
        store: &StoreId,
        request: LockRequest,
        by: &Person,
    ) -> Result<Value, NotDecided> {
        let _one_at_a_time = self.deciding.lock().await;
        let handle = self.store(store).ok_or_else(|| no_store(store))?;
        let (through, today) = (request.through, self.clock.now().day());
        if through > today {
            return Err(NotDecided::Refused(format!(
                "through: {through} is still to come; today is {today}"
            )));
        }
        let clock = self.clock.clone();
        let judged = handle
            .ask(move |replica| {
                let open = replica.books().open_day();
                if open.is_some_and(|open| through < open) {
                    let message = format!(
                        "through: {through} is locked already; the first open day is {}",
                        open.unwrap_or_default()
                    );
                    return Err(NotDecided::Refused(message));
                }
                let from = open.unwrap_or(Day(i32::MIN));
                let mut days: Vec<Day> =
                    replica.books().business_days().filter(|day| (from..=through).contains(day)).collect();
                days.extend((!days.contains(&through)).then_some(through));
                let obstacles: Vec<String> = days
                    .into_iter()
                    .flat_map(|day| {
                        let tills = replica.day(day, now_ms(), clock.start_of(day.plus(1)));
                        tills
                            .into_iter()
                            .filter(|till| !is_done(till.state))
                            .map(move |till| obstacle(day, &till))
                    })
                    .collect();
                let lock = Lock {
                    number: replica.books().next_lock_number(),
                    heads: replica.books().lock_heads(through.plus(1)),
                    open_day: through.plus(1),
                };
                Ok((obstacles, lock, replica.books().next_decision_number()))
            })
            .await?;
        let (obstacles, lock, decision) = judged?;
        let reason = request.reason.trim().to_owned();
        if !obstacles.is_empty() && (!request.over || reason.is_empty()) {
            return Err(NotDecided::Refused(unfinished(&obstacles)));
        }
        if !obstacles.is_empty() {
            let statement = over(decision, &lock, by, &reason);
            handle.state(HubRecord::Decision(statement), format!("decision-{decision}")).await?;
        }
        let view = json!({
            "store": store, "lock": lock.number, "through": through, "open_day": lock.open_day,
            "heads": lock.heads.iter().map(|head| json!({"terminal": head.log.terminal, "incarnation": head.log.incarnation, "seq": head.seq, "id": head.id})).collect::<Vec<_>>(),
            "unfinished": obstacles,
        });
        let name = format!("lock-{}", lock.number);
        handle.state(HubRecord::Lock(lock), name).await?;
        let detail = match reason.as_str() {
            "" => format!("days through {through}"),
            reason => format!("days through {through}: {reason}"),
        };
        self.audit.note(now_ms(), Some(store.as_str()), Some(by.name.clone()), "locked", detail);
        Ok(view)
    }
}

pub(super) fn no_store(store: &StoreId) -> NotDecided {
    NotDecided::NoCase(format!("there is no store {store}; `tillsync stores` lists them"))
}

fn over(number: u64, lock: &Lock, by: &Person, reason: &str) -> Decision {
    Decision {
        number,
        case_type: OVERRIDE.to_owned(),
        subject: format!("lock:{}", lock.number),
        case_version: None,
        member: None,
        action: DecisionAction::Acknowledge,
        parameter: None,
        terminal: None,
        reviewer: by.name.clone(),
        approver: None,
        reason: reason.to_owned(),
    }
}

fn is_done(state: DayState) -> bool {
    matches!(state, DayState::Finished | DayState::NoTrade)
}

fn obstacle(day: Day, till: &TillDay) -> String {
    let what = match till.state {
        DayState::Gap => format!("a gap: {}", ranges(&till.missing)),
        DayState::Missing => {
            format!("{} known but not arrived: {}", till.missing_count(), ranges(&till.missing))
        }
        DayState::Unheard => "not heard of since".to_owned(),
        DayState::Open => "not closed".to_owned(),
        DayState::Complete if !till.z_agrees => "its Z differs from the records".to_owned(),
        DayState::Complete => format!("open cases: {}", till.urgent.join(", ")),
        DayState::NoTrade | DayState::Finished => String::new(),
    };
    format!("{day} {}: {what}", till.log.terminal)
}

fn unfinished(obstacles: &[String]) -> String {
    let more = obstacles.len().saturating_sub(OBSTACLES_LISTED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(
        "not finished: {}{more}. `tillsync close-status` shows a day in full; --override with --reason locks all the same",
        obstacles[..obstacles.len().min(OBSTACLES_LISTED)].join("; ")
    )
}

/// `3, 7-9`.
fn ranges(ranges: &[(u64, u64)]) -> String {
    let one = |range: &(u64, u64)| {
        if range.0 == range.1 { range.0.to_string() } else { format!("{}-{}", range.0, range.1) }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn day_view(replica: &Replica, day: Day, ends_ms: i64) -> Value {
    let tills = replica.day(day, now_ms(), ends_ms);
    let worst = tills.iter().map(|till| till.state).min().unwrap_or(DayState::NoTrade);
    let locked = replica.books().open_day().is_some_and(|open| day < open);
    let of_day = |id: &RecordId| replica.books().record(id).is_some_and(|record| record.business_day == day);
    let cases: Vec<&str> = replica
        .books()
        .cases()
        .filter(|case| case.state.as_str() == "open" && case.members.iter().any(of_day))
        .map(|case| case.id.as_str())
        .collect();
    json!({
        "store": replica.identity().store,
        "day": day,
        "state": worst,
        "locked": locked,
        "open_cases": cases,
        "terminals": tills.iter().map(|till| till_view(replica, till)).collect::<Vec<_>>(),
    })
}

fn till_view(replica: &Replica, till: &TillDay) -> Value {
    json!({
        "terminal": till.log.terminal,
        "incarnation": till.log.incarnation,
        "state": till.state,
        "records": till.records,
        "first_seq": till.numbers.map(|numbers| numbers.0),
        "last_seq": till.numbers.map(|numbers| numbers.1),
        "not_arrived": till.missing_count(),
        "missing": till.missing,
        "last_seen": till.heard.at_ms.map(rfc3339),
        "close": till.close.and_then(|close| close_view(replica, &close)),
        "urgent_cases": till.urgent,
    })
}

/// A close with what the hub makes of it: every figure that differs, and the receipts that would account for it.
fn close_view(replica: &Replica, close: &RecordId) -> Option<Value> {
    let books = replica.books();
    let record = books.record(close)?;
    let Body::DayClose(stated) = &record.transaction.body else { return None };
    let check = books.z_check(close)?;
    let receipt = |id: &RecordId| books.record(id).map(|record| record.transaction.receipt.clone());
    let figure = |it: &Figure| json!({"figure": it.name, "currency": it.currency, "stated_minor": it.stated_minor, "found_minor": it.found_minor});
    Some(json!({
        "id": close,
        "receipt": record.transaction.receipt,
        "seq": record.seq,
        "at": record.at.to_string(),
        "z_number": stated.z_number,
        "agrees": check.figures.is_empty() && check.missing.is_empty(),
        "differences": check.figures.iter().map(figure).collect::<Vec<_>>(),
        "missing": check.missing,
        "receipts": check.suspects.iter().filter_map(receipt).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_of_a_lock_is_named() {
        let till = TillDay {
            log: engine::ids::LogId { terminal: "till-02".parse().unwrap(), incarnation: 1 },
            state: DayState::Missing,
            records: 3,
            numbers: Some((1, 3)),
            missing: vec![(4, 4), (6, 8)],
            close: None,
            z_agrees: false,
            urgent: Vec::new(),
            heard: engine::ledger::Heard::default(),
        };
        let day = "2026-11-23".parse().unwrap();
        assert_eq!(obstacle(day, &till), "2026-11-23 till-02: 4 known but not arrived: 4, 6-8");
        let many: Vec<String> = (0..14).map(|n| n.to_string()).collect();
        assert!(unfinished(&many).contains("11; and 2 more."), "{}", unfinished(&many));
    }
}
