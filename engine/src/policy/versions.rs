//! The policy as versions in the hub's log. A record is judged by the version in force on its business day, at the till
//! that wrote it.
//!
//! Settings are made for the company, for a store or for one till, and the narrower wins whichever came later. All three
//! lie in the log of the store that they concern, because stores share nothing: the hub repeats the company's in each.
//! A setting's scope stands before its name (`company:KEY`, `till:NAME:KEY`, or nothing for the store), so that programs
//! of before there were scopes leave it aside as they do with any setting that they do not know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{BadSetting, Policy};
use crate::ids::{RecordId, TerminalId};
use crate::time::Day;

/// What takes a setting of a scope back: what is next wider counts again.
pub const INHERIT: &str = "inherit";

/// Settings that weigh records of several tills against each other, or say how the store's books are kept.
const STORE_WIDE: [&str; 5] =
    ["ageing_hours", "batch_baseline", "discounts", "four_eyes_limit_minor", "receipt_scope"];

/// For whom a setting is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Every store of the company.
    Company,
    /// The store in whose log it stands.
    Store,
    /// One till of the store, whatever device it runs on.
    Till(TerminalId),
}

impl Scope {
    /// Takes a written setting apart into scope and key; `None` if the scope is none.
    fn split(written: &str) -> Option<(Self, &str)> {
        match written.rsplit_once(':') {
            None => Some((Self::Store, written)),
            Some(("company", key)) => Some((Self::Company, key)),
            Some((scope, key)) => Some((Self::Till(scope.strip_prefix("till:")?.parse().ok()?), key)),
        }
    }

    /// A key with its scope before it.
    fn written(&self, key: &str) -> String {
        match self {
            Self::Company => format!("company:{key}"),
            Self::Store => key.to_owned(),
            Self::Till(till) => format!("till:{till}:{key}"),
        }
    }
}

/// A setting of a change, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting<'a> {
    /// For whom.
    pub scope: Scope,
    /// What is set.
    pub key: &'a str,
    /// To what; [`INHERIT`] takes it back.
    pub value: &'a str,
}

/// A new version of the policy: the settings that change, and the first business day they apply to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PolicyChange {
    /// First business day judged by it; `None`: every day that no lock covers yet.
    pub from: Option<Day>,
    /// Changed settings, by name, as text.
    pub settings: Vec<(String, String)>,
    /// Who changed it.
    pub by: String,
}

impl PolicyChange {
    /// Checks a list of `key=value` and makes the change.
    ///
    /// # Errors
    /// The first setting that does not fit.
    pub fn parse<'a>(
        settings: impl IntoIterator<Item = &'a str>,
        from: Option<Day>,
        by: &str,
    ) -> Result<Self, BadSetting> {
        let mut scratch = Policy::default();
        let mut parsed = Vec::new();
        for setting in settings {
            let (written, value) =
                setting.split_once('=').ok_or_else(|| BadSetting::NotKeyValue(setting.to_owned()))?;
            let (written, value) = (written.trim(), value.trim());
            let (scope, key) =
                Scope::split(written).ok_or_else(|| BadSetting::BadScope(written.to_owned()))?;
            let known = scratch.get(key);
            let value_or_known = known.as_deref().filter(|_| value == INHERIT).unwrap_or(value);
            scratch.set(key, value_or_known)?;
            if matches!(scope, Scope::Till(_)) && STORE_WIDE.contains(&key) {
                return Err(BadSetting::NotForTill(key.to_owned()));
            }
            parsed.push((written.to_owned(), value.to_owned()));
        }
        Ok(Self { from, settings: parsed, by: by.to_owned() })
    }

    /// As [`PolicyChange::parse`], all settings for one scope.
    ///
    /// # Errors
    /// The first setting that does not fit; one that names a scope itself.
    pub fn parse_for<'a>(
        scope: &Scope,
        settings: impl IntoIterator<Item = &'a str>,
        from: Option<Day>,
        by: &str,
    ) -> Result<Self, BadSetting> {
        let mut written = Vec::new();
        for setting in settings {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| BadSetting::NotKeyValue(setting.to_owned()))?;
            if key.contains(':') {
                return Err(BadSetting::BadScope(key.to_owned()));
            }
            written.push(format!("{}={value}", scope.written(key.trim())));
        }
        Self::parse(written.iter().map(String::as_str), from, by)
    }

    /// Its settings, taken apart. What a till has no say in, and what has no scope that is known, is left aside.
    pub fn parts(&self) -> impl Iterator<Item = Setting<'_>> {
        self.settings.iter().filter_map(|(written, value)| {
            let (scope, key) = Scope::split(written)?;
            let too_narrow = matches!(scope, Scope::Till(_)) && STORE_WIDE.contains(&key);
            (!too_narrow).then_some(Setting { scope, key, value })
        })
    }

    /// The tills for which it has settings of their own.
    pub(crate) fn tills(&self) -> impl Iterator<Item = TerminalId> {
        self.parts().filter_map(|setting| match setting.scope {
            Scope::Till(till) => Some(till),
            Scope::Company | Scope::Store => None,
        })
    }
}

/// The versions of a store's policy, in the order of the hub's log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Policies {
    base: Policy,
    changes: BTreeMap<(u64, RecordId), PolicyChange>,
}

impl Policies {
    /// Policies that start from `base` instead of the defaults.
    #[must_use]
    pub fn starting_from(base: Policy) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Adds the change that the hub recorded as `id` under `seq` (two of one number if the hub's log is forked). Order
    /// of arrival does not matter.
    pub fn insert(&mut self, seq: u64, id: RecordId, change: PolicyChange) {
        self.changes.insert((seq, id), change);
    }

    /// The store's policy for a business day. Unknown settings of newer versions are left aside.
    #[must_use]
    pub fn on(&self, day: Day) -> Policy {
        let mut policy = self.base.clone();
        policy.apply(&self.begun(day), None);
        policy
    }

    /// The policy that judges a till's records of a business day.
    #[must_use]
    pub fn of_till(&self, day: Day, till: &TerminalId) -> Policy {
        let mut policy = self.base.clone();
        policy.apply(&self.begun(day), Some(till));
        policy
    }

    /// For whom each setting that is not the default was made, on a business day, by key: as the store has it, or a till.
    #[must_use]
    pub fn made_for(&self, day: Day, till: Option<&TerminalId>) -> BTreeMap<&str, Scope> {
        self.base.clone().apply(&self.begun(day), till)
    }

    /// The tills that have settings of their own.
    #[must_use]
    pub fn tills(&self) -> BTreeSet<TerminalId> {
        self.changes.values().flat_map(PolicyChange::tills).collect()
    }

    fn begun(&self, day: Day) -> impl Iterator<Item = &PolicyChange> + Clone {
        self.changes.values().filter(move |change| change.from.is_none_or(|from| from <= day))
    }

    /// Number of the newest version: how many changes were made.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.changes.len() as u64
    }

    /// The changes by the hub's number, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = (u64, &PolicyChange)> {
        self.changes.iter().map(|((seq, _), change)| (*seq, change))
    }
}

impl Policy {
    /// Makes the settings of changes, in their order: the company's first, then the store's, then those of `till`. Returns
    /// for whom each setting that counts was made.
    pub(crate) fn apply<'a>(
        &mut self,
        changes: &(impl Iterator<Item = &'a PolicyChange> + Clone),
        till: Option<&TerminalId>,
    ) -> BTreeMap<&'a str, Scope> {
        let mut made = BTreeMap::new();
        let scopes = [Some(Scope::Company), Some(Scope::Store), till.cloned().map(Scope::Till)];
        for scope in scopes.into_iter().flatten() {
            let (wider, made_wider) = (self.clone(), made.clone());
            for setting in changes.clone().flat_map(PolicyChange::parts).filter(|it| it.scope == scope) {
                let inherited = (setting.value == INHERIT).then(|| wider.get(setting.key)).flatten();
                // A setting of a newer version is left aside.
                if self.set(setting.key, inherited.as_deref().unwrap_or(setting.value)).is_err() {
                    continue;
                }
                let by = if inherited.is_some() { made_wider.get(setting.key) } else { Some(&scope) };
                match by {
                    Some(scope) => drop(made.insert(setting.key, scope.clone())),
                    None => drop(made.remove(setting.key)),
                }
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_judges_from_its_day_on_whatever_the_order_of_arrival() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let change =
            |setting, from: Option<&str>| PolicyChange::parse([setting], from.map(day), "admin").unwrap();
        let mut policies = Policies::default();
        policies.insert(7, RecordId([1; 32]), change("refund_limit_minor=500", Some("2026-02-01")));
        policies.insert(3, RecordId([2; 32]), change("refund_limit_minor=unlimited", None));
        assert_eq!(policies.on(day("2026-01-31")).refund_limit_minor, None);
        assert_eq!(policies.on(day("2026-02-01")).refund_limit_minor, Some(500));
    }

    fn changes(settings: &[&str]) -> Policies {
        let mut policies = Policies::default();
        for (seq, setting) in (1..).zip(settings) {
            let change = PolicyChange::parse([*setting], None, "admin").unwrap();
            policies.insert(seq, RecordId([0; 32]), change);
        }
        policies
    }

    #[test]
    fn the_narrower_setting_wins_whichever_came_later_and_can_be_taken_back() {
        let (today, till) = (Day(1), "till-01".parse::<TerminalId>().unwrap());
        let other: TerminalId = "till-02".parse().unwrap();
        let limit = |policies: &Policies, till: &TerminalId| policies.of_till(today, till).refund_limit_minor;
        let table: [(&[&str], i64, i64, Option<Scope>); 5] = [
            (&[], 10_000, 10_000, None),
            (&["company:refund_limit_minor=1"], 1, 1, Some(Scope::Company)),
            (&["refund_limit_minor=2", "company:refund_limit_minor=1"], 2, 2, Some(Scope::Store)),
            (
                &["till:till-01:refund_limit_minor=3", "refund_limit_minor=2"],
                3,
                2,
                Some(Scope::Till(till.clone())),
            ),
            (
                &[
                    "company:refund_limit_minor=1",
                    "till:till-01:refund_limit_minor=3",
                    "till:till-01:refund_limit_minor=inherit",
                ],
                1,
                1,
                Some(Scope::Company),
            ),
        ];
        for (settings, at_till, elsewhere, scope) in table {
            let policies = changes(settings);
            assert_eq!(limit(&policies, &till), Some(at_till), "{settings:?}");
            assert_eq!(limit(&policies, &other), Some(elsewhere), "{settings:?}");
            assert_eq!(policies.on(today).refund_limit_minor, Some(elsewhere), "{settings:?}");
            let made = policies.made_for(today, Some(&till));
            assert_eq!(made.get("refund_limit_minor"), scope.as_ref(), "{settings:?}");
        }
    }

    #[test]
    fn a_scope_that_is_none_and_a_setting_that_no_till_has_are_refused_and_never_counted() {
        for (setting, words) in [
            ("region:refund_limit_minor=1", "names nobody"),
            ("till:bad name:refund_limit_minor=1", "names nobody"),
            ("till:till-01:receipt_scope=store", "the same for a whole store"),
            ("till:till-01:colour=red", "is not a policy setting"),
            ("company:refund_limit_minor=-1", "unlimited"),
        ] {
            let refused = PolicyChange::parse([setting], None, "admin").unwrap_err().to_string();
            assert!(refused.contains(words), "{setting}: {refused}");
        }
        // Written by a hub of another version, it changes nothing here.
        let mut policies = Policies::default();
        let strange = PolicyChange {
            from: None,
            settings: vec![
                ("till:till-01:receipt_scope".into(), "store".into()),
                ("x:y:discounts".into(), "contra".into()),
            ],
            by: "admin".into(),
        };
        policies.insert(1, RecordId([0; 32]), strange);
        assert_eq!(policies.of_till(Day(1), &"till-01".parse().unwrap()), Policy::default());
    }

    #[test]
    fn settings_for_a_scope_are_written_with_it() {
        let till = Scope::Till("till-01".parse().unwrap());
        let change = PolicyChange::parse_for(&till, ["offline_card_count = 5"], None, "admin").unwrap();
        assert_eq!(change.settings, [("till:till-01:offline_card_count".to_owned(), "5".to_owned())]);
        assert!(PolicyChange::parse_for(&Scope::Store, ["company:ageing_hours=1"], None, "admin").is_err());
    }
}
