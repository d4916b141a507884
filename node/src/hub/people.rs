//! Who may do what at the hub: people with a role and a token of their own. Tokens are random, shown once and kept as
//! hashes; people are entries of the hub's own log, so a removal is as durable as an addition. It judges no request:
//! `api::hub` asks for a role, this says who is there.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sessions::Opened;
use super::{Hub, new_token, token_hash};
use crate::error::Failure;
use crate::identity::{AddressGate, TokenBucket};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::storage::Entry;

/// Kind byte of a person in the hub's log.
pub const PERSON_KIND: u8 = 67;
/// Name of whoever holds the admin token of `hub init`, or sits at the hub's machine.
const ADMIN: &str = "admin";
/// Most people.
const PEOPLE_LIMIT: usize = 10_000;
/// Wrong tokens told in the audit log: a burst, then one in so long.
const TOLD_BURST: u32 = 50;
const TOLD_INTERVAL: Duration = Duration::from_secs(2);
/// Longest name, in bytes.
const NAME_LIMIT: usize = 64;

/// What somebody may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Decide cases, lock days, state outcomes and settlements, cut exports.
    Reviewer,
    /// Enrol and revoke tills, set policies, add and remove people.
    Admin,
}

impl Role {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Reviewer => "reviewer",
            Self::Admin => "admin",
        }
    }
}

/// Somebody at the hub's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Name, as decisions and the audit log have it.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Hash of their token; none once they are removed.
    token_hash: Option<String>,
    /// When they were added or removed, ms since 1970.
    at_ms: i64,
}

/// What stands before every look at a token.
pub struct TokenGate {
    /// Slows down who says wrong ones.
    pub addresses: AddressGate,
    /// How many wrong ones the audit log is told of: a flood from everywhere must not drown it.
    pub told: TokenBucket,
}

impl Default for TokenGate {
    fn default() -> Self {
        Self { addresses: AddressGate::default(), told: TokenBucket::new(TOLD_BURST, TOLD_INTERVAL) }
    }
}

/// The people that a hub's own log entries leave, by name.
pub(super) fn restore_people(own: &[(u8, Vec<u8>)]) -> BTreeMap<String, Person> {
    let entries = own.iter().filter(|(kind, _)| *kind == PERSON_KIND);
    let mut people = BTreeMap::new();
    for person in entries.filter_map(|(_, bytes)| serde_json::from_slice::<Person>(bytes).ok()) {
        if person.token_hash.is_some() {
            people.insert(person.name.clone(), person);
        } else {
            people.remove(&person.name);
        }
    }
    people
}

impl Hub {
    /// Who holds a bearer token.
    #[must_use]
    pub fn who(&self, token: &str) -> Option<Person> {
        self.who_by_hash(&token_hash(token))
    }

    fn who_by_hash(&self, given: &str) -> Option<Person> {
        let admin = Person { name: ADMIN.to_owned(), role: Role::Admin, token_hash: None, at_ms: 0 };
        if same(given, &self.config.admin_token_hash) || same(given, &token_hash(&self.run_token)) {
            return Some(admin);
        }
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        people
            .values()
            .find(|person| person.token_hash.as_ref().is_some_and(|known| same(given, known)))
            .cloned()
    }

    /// Whether somebody who was let in may still be here: not removed, nor given another role or token since. For what
    /// goes on after the request, such as a stream of events.
    #[must_use]
    pub fn is_still(&self, person: &Person) -> bool {
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        person.token_hash.is_none()
            || people
                .get(&person.name)
                .is_some_and(|known| known.token_hash == person.token_hash && known.role == person.role)
    }

    /// Whether this is the token of the process's own `run.json`.
    #[must_use]
    pub fn is_run_token(&self, token: &str) -> bool {
        same(&token_hash(token), &token_hash(&self.run_token))
    }

    /// Opens a session for the holder of a token; `None` when nobody holds it.
    #[must_use]
    pub fn open_session(&self, token: &str) -> Option<(Person, Opened)> {
        let person = self.who(token)?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        Some((person, sessions.open(&token_hash(token), Instant::now())))
    }

    /// Who a session stands for now, and the word that its writes must repeat. Somebody who was removed, or got another
    /// token or role since, is judged by that.
    #[must_use]
    pub fn who_in_session(&self, secret: &str) -> Option<(Person, String)> {
        let session = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.resume(secret, Instant::now())?
        };
        let person = self.who_by_hash(&session.token_hash)?;
        Some((person, session.csrf))
    }

    /// Ends a session. True when there was one.
    pub fn end_session(&self, secret: &str) -> bool {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).end(secret)
    }

    /// The gate before every look at a token.
    pub fn token_gate(&self) -> std::sync::MutexGuard<'_, TokenGate> {
        // The gate's data are counters: whatever a panicking holder left is good enough.
        self.token_gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds somebody, or gives somebody known a new role and token. The token is in the answer and nowhere else.
    ///
    /// # Errors
    /// The name does not fit, or the storage failed.
    pub async fn add_person(&self, name: &str, role: Role, by: &str) -> Result<Value, Failure> {
        check_name(name)?;
        if self.people.lock().unwrap_or_else(PoisonError::into_inner).len() >= PEOPLE_LIMIT {
            return Err(Failure::refused(format!(
                "there are {PEOPLE_LIMIT} people already; remove some first"
            )));
        }
        let token = new_token();
        let person =
            Person { name: name.to_owned(), role, token_hash: Some(token_hash(&token)), at_ms: now_ms() };
        self.keep_person(&person).await?;
        self.audit.note(
            now_ms(),
            None,
            Some(by.to_owned()),
            "person-added",
            format!("{name} as {}", role.as_str()),
        );
        self.people.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), person);
        Ok(json!({"name": name, "role": role, "token": token}))
    }

    /// Ends somebody's access at once.
    ///
    /// # Errors
    /// Nobody of that name, or the storage failed.
    pub async fn remove_person(&self, name: &str, by: &str) -> Result<Value, Failure> {
        let known = self.people.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let known = known.ok_or_else(|| {
            Failure::refused(format!("nobody is called {name:?} here; `tillsync hub people` lists them"))
        })?;
        let gone = Person { token_hash: None, at_ms: now_ms(), ..known };
        self.keep_person(&gone).await?;
        self.people.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.audit.note(now_ms(), None, Some(by.to_owned()), "person-removed", name.to_owned());
        Ok(json!({"name": name, "role": gone.role}))
    }

    /// Everybody with access, by name. Tokens are not told.
    #[must_use]
    pub fn people_view(&self) -> Value {
        let people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |person: &Person| json!({"name": person.name, "role": person.role, "since": rfc3339(person.at_ms)});
        people.values().map(row).collect()
    }

    async fn keep_person(&self, person: &Person) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(person).map_err(Failure::refused)?;
        self.keep(Entry { kind: PERSON_KIND, bytes }).await
    }

    /// Makes an entry of the hub's own durable.
    pub(super) async fn keep(&self, entry: Entry) -> Result<(), Failure> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.storage.append(vec![entry], move |result| {
            let _ = send.send(result.map(|_| ()));
        });
        receive.await.map_err(|_| Failure::refused("the storage is closed"))?.map_err(Failure::refused)
    }
}

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | ' ');
    if name == ADMIN
        || name.trim() != name
        || name.is_empty()
        || name.len() > NAME_LIMIT
        || !name.chars().all(fits)
    {
        return Err(Failure::refused(format!(
            "{name:?} cannot be somebody's name here: give 1 to {NAME_LIMIT} letters, digits, '-', '_', '.', '@' or \
             blanks inside, and not {ADMIN:?}, who holds the token of `hub init`"
        )));
    }
    Ok(())
}

/// Compares hashes in the same time whatever they have in common.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_person_stays_removed_and_roles_are_ordered() {
        let entry = |name: &str, hash: Option<&str>| {
            let person = Person {
                name: name.to_owned(),
                role: Role::Reviewer,
                token_hash: hash.map(str::to_owned),
                at_ms: 1,
            };
            (PERSON_KIND, serde_json::to_vec(&person).unwrap())
        };
        let people =
            restore_people(&[entry("anna", Some("a")), entry("bert", Some("b")), entry("anna", None)]);
        assert_eq!(people.keys().collect::<Vec<_>>(), ["bert"]);
        assert!(Role::Viewer < Role::Reviewer && Role::Reviewer < Role::Admin);
    }

    #[test]
    fn names_are_plain_and_admin_is_taken() {
        for bad in ["", "admin", " anna", "a\nb", "x\u{1b}[2J"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["anna", "Zoë Müller", "op-7@head.office"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
    }
}
