//! What somebody should look at now, by name, for status pages: a till cloned, papers that could not be kept, a store's
//! task that failed. In memory; each is in the audit log as well.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::clock::{now_ms, rfc3339};

/// Alarms kept; more than that is one alarm too many to read.
const ALARMS_LIMIT: usize = 1_000;

/// The alarms of a node. Clones share them.
#[derive(Clone, Default)]
pub struct Alarms(Arc<Mutex<BTreeMap<Key, Alarm>>>);

/// About what, and which alarm.
type Key = (String, Cow<'static, str>);

/// An alarm as one node tells another: about what, which, and what is known.
pub(crate) type Told = (String, String, String);

struct Alarm {
    since_ms: i64,
    last_ms: i64,
    times: u64,
    detail: String,
}

impl Alarms {
    /// Raises an alarm about something (a till, a store); again only counts it. True when it is new.
    pub fn raise(&self, about: &str, what: impl Into<Cow<'static, str>>, detail: String) -> bool {
        let mut alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, now) = ((about.to_owned(), what.into()), now_ms());
        if let Some(alarm) = alarms.get_mut(&key) {
            (alarm.last_ms, alarm.times, alarm.detail) = (now, alarm.times + 1, detail);
            return false;
        }
        if alarms.len() < ALARMS_LIMIT {
            alarms.insert(key, Alarm { since_ms: now, last_ms: now, times: 1, detail });
        }
        true
    }

    /// Ends an alarm.
    pub fn clear(&self, about: &str, what: impl Into<Cow<'static, str>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(about.to_owned(), what.into()));
    }

    /// The names of those about something.
    #[must_use]
    pub fn about(&self, about: &str) -> Vec<Cow<'static, str>> {
        let alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.keys().filter(|(known, _)| known == about).map(|(_, what)| what.clone()).collect()
    }

    /// All of them, to be told to another node.
    #[must_use]
    pub(crate) fn told(&self) -> Vec<Told> {
        let alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row =
            |((about, what), alarm): (&Key, &Alarm)| (about.clone(), what.to_string(), alarm.detail.clone());
        alarms.iter().map(row).collect()
    }

    /// Raises what another node tells now and ends what it told `before` and tells no more.
    pub(crate) fn hear(&self, now: &[Told], before: &[Told]) {
        let is_new = |told: &&Told| !before.contains(told);
        for (about, what, detail) in now.iter().filter(is_new) {
            self.raise(about, what.clone(), detail.clone());
        }
        let stays = |told: &Told| now.iter().any(|other| (&other.0, &other.1) == (&told.0, &told.1));
        for (about, what, _) in before.iter().filter(|told| !stays(told)) {
            self.clear(about, what.clone());
        }
    }

    /// All of them.
    #[must_use]
    pub fn view(&self) -> Value {
        let alarms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((about, what), alarm): (&Key, &Alarm)| {
            json!({
                "about": about,
                "what": what,
                "since": rfc3339(alarm.since_ms),
                "last": rfc3339(alarm.last_ms),
                "times": alarm.times,
                "detail": alarm.detail,
            })
        };
        alarms.iter().map(row).collect()
    }
}
