//! What an administrator may ask about webhooks, at the database, whether a hub runs or not. There is no way in over HTTP:
//! whoever names an address makes hubs send requests into their network.

use std::path::Path;

use engine::ids::StoreId;

use super::post::{Message, Outcome, Post, check_url};
use super::secret::Secret;
use super::table::{self, Filter, Standing, State, Subscription};
use crate::database::Link;
use crate::error::Failure;
use crate::runtime::clock::now_ms;
use crate::storage::{Place, vault};

/// Subscriptions of a database.
const SUBSCRIPTIONS_MAX: usize = 100;
/// Topics of the feed.
pub(crate) const TOPICS: [&str; 8] =
    ["receipt", "custody", "journal_entry", "case", "case_ended", "store_day", "export", "store_emptied"];

/// A subscription that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    /// None: all.
    pub(crate) topics: Vec<String>,
    /// None: all.
    pub(crate) stores: Vec<String>,
    /// Of what the feeds hold already, too.
    pub(crate) from_start: bool,
}

/// A subscription and how it stands in the feed of each log.
pub(crate) type Listed = (Subscription, Vec<Standing>);

/// Checks a wish before the database is asked.
///
/// # Errors
/// The address, a topic or a store is none (usage), or the hub's log is in no database or encrypted.
pub(crate) fn check(dir: &Path, wanted: &Wanted) -> Result<(), Failure> {
    check_url(&wanted.url).map_err(Failure::usage)?;
    if let Some(unknown) = wanted.topics.iter().find(|topic| !TOPICS.contains(&topic.as_str())) {
        return Err(Failure::usage(format!(
            "there is no topic {unknown:?}; topics are {}",
            TOPICS.join(", ")
        )));
    }
    for store in &wanted.stores {
        store.parse::<StoreId>().map_err(Failure::usage)?;
    }
    let shown = dir.display();
    if Place::of(dir)?.is_none() {
        return Err(Failure::refused(format!(
            "the log of {shown} is in no database, so there is no feed to tell of; a hub that was begun with \
            `tillsync hub run --database` has one (docs/database.md)"
        )));
    }
    if vault::describe(dir).map_err(Failure::refused)?.is_some() {
        return Err(Failure::refused(format!(
            "the log of {shown} is encrypted, so its books are not written into tables and there is no feed to tell of"
        )));
    }
    Ok(())
}

/// Keeps a subscription. Its secret is told here and nowhere else.
///
/// # Errors
/// There are too many, or the database fails.
pub(crate) async fn add(link: &Link, wanted: Wanted) -> Result<Subscription, Failure> {
    let there = table::subscriptions(link).await.map_err(Failure::refused)?;
    if there.len() >= SUBSCRIPTIONS_MAX {
        return Err(Failure::refused(format!(
            "the database has {SUBSCRIPTIONS_MAX} webhooks already; remove one that is not needed"
        )));
    }
    let listed = |mut words: Vec<String>| {
        words.sort();
        words.dedup();
        (!words.is_empty()).then_some(words)
    };
    let name: [u8; 10] = rand::random();
    let subscription = Subscription {
        id: format!("wh_{}", data_encoding::BASE32_NOPAD.encode(&name).to_lowercase()),
        url: wanted.url,
        secret: Secret::generate(),
        filter: Filter { topics: listed(wanted.topics), stores: listed(wanted.stores) },
        state: State::Active,
        created_ms: now_ms(),
    };
    table::add(link, &subscription, wanted.from_start).await.map_err(Failure::refused)?;
    Ok(subscription)
}

/// Every subscription.
///
/// # Errors
/// The database fails.
pub(crate) async fn list(link: &Link) -> Result<Vec<Listed>, Failure> {
    let subscriptions = table::subscriptions(link).await.map_err(Failure::refused)?;
    let standings = table::standings(link, None).await.map_err(Failure::refused)?;
    let of = |id: &str| standings.iter().filter(|row| row.webhook_id == id).cloned().collect();
    Ok(subscriptions.into_iter().map(|subscription| (subscription.clone(), of(&subscription.id))).collect())
}

/// Ends a subscription.
///
/// # Errors
/// There is none of that id, or the database fails.
pub(crate) async fn remove(link: &Link, id: &str) -> Result<(), Failure> {
    if table::remove(link, id).await.map_err(Failure::refused)? { Ok(()) } else { Err(unknown(id)) }
}

/// Stops deliveries, or goes on with them where they stopped.
///
/// # Errors
/// There is none of that id, or the database fails.
pub(crate) async fn pause(link: &Link, id: &str, pauses: bool) -> Result<State, Failure> {
    let state = if pauses { State::Paused } else { State::Active };
    if table::set_state(link, id, state).await.map_err(Failure::refused)? {
        Ok(state)
    } else {
        Err(unknown(id))
    }
}

/// Sends a delivery without changes, from this machine, once.
///
/// # Errors
/// There is none of that id, the database fails, or the receiver does not answer 2xx.
pub(crate) async fn test(link: &Link, id: &str) -> Result<String, Failure> {
    let all = table::subscriptions(link).await.map_err(Failure::refused)?;
    let subscription = all.into_iter().find(|it| it.id == id).ok_or_else(|| unknown(id))?;
    let name: [u8; 16] = rand::random();
    let message = Message {
        id: format!("ping_{}", data_encoding::HEXLOWER.encode(&name)),
        body: br#"{"hub":null,"from_seq":0,"to_seq":0,"changes":[]}"#.to_vec(),
    };
    let named = message.id.clone();
    let refused = |reason: &str| Err(Failure::refused(format!("{}: {reason}", subscription.url)));
    match Post::default().send(&subscription.url, &subscription.secret, message, now_ms()).await {
        Outcome::Accepted => Ok(named),
        Outcome::Gone => refused("answered 410 Gone: the receiver wants nothing more"),
        Outcome::Failed { reason, .. } => refused(&reason),
    }
}

fn unknown(id: &str) -> Failure {
    Failure::refused(format!(
        "there is no webhook {id:?} in this database; `tillsync db webhook list` shows all"
    ))
}
