//! Webhooks: the change feed brought to receivers as signed HTTP requests, by the convention of Standard Webhooks.
//!
//! A subscription has a cursor in the feed of each log. Whoever follows a log (central/) delivers for it: a courier for each
//! subscription, so that a slow receiver holds up nobody else, over one connection to the database. The bytes of a
//! delivery are fixed in the database before they are sent for the first time, and the cursor moves when the receiver has
//! answered 2xx; each by a statement that changes nothing if the cursor is not where it was. So whatever is killed when, a
//! receiver gets every change, in order, in deliveries that have the same id and bytes each time they come.
//!
//! Nothing here is in the way of an acknowledgement or of the tables, and nothing that a receiver says is believed but the
//! status.
//!
//! ```text
//! desk.rs     what an administrator may ask: add, list, remove, pause, resume, test
//! table.rs    subscriptions and cursors in the database
//! body.rs     the next delivery: changes from the feed, within limits
//! data.rs     what they are about
//! courier.rs  one receiver: deliver, try again
//! retry.rs    when
//! secret.rs   signatures
//! post.rs     one attempt
//! board.rs    for the metrics
//! ```

mod board;
mod body;
mod courier;
mod data;
pub(crate) mod desk;
mod post;
mod retry;
mod secret;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use board::Board;
use courier::Courier;
use post::{Post, origin};
pub(crate) use table::Standing;
use table::{State, Subscription};

use crate::database::{Database, DatabaseError, Link};
use crate::hub::Rooms;
use crate::runtime::clock::now_ms;

/// How often is looked for new changes and subscriptions although nobody woke us.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long news are gathered before anybody is told.
const GATHER: Duration = Duration::from_millis(100);
/// The pause after the database failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Alarms of subscriptions.
const GONE: &str = "webhook-gone";
const FAILING: &str = "webhook-failing";

/// Delivers for a log as long as this is polled. `wake`: the feed has something new.
pub(super) async fn deliver(rooms: &Arc<Rooms>, database: &Database, log_id: [u8; 16], wake: &Notify) {
    let mut round =
        Round { rooms: Arc::clone(rooms), log_id, post: Post::default(), alarmed: BTreeSet::new() };
    let mut failures = 0_u32;
    loop {
        let Err(error) = round.run(database, wake, &mut failures).await;
        failures = failures.saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!("webhooks wait: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is remembered from one connection to the next.
struct Round {
    rooms: Arc<Rooms>,
    log_id: [u8; 16],
    post: Post,
    /// Alarms that were raised: subscription and kind.
    alarmed: BTreeSet<(String, &'static str)>,
}

/// A courier at work. It ends with the set that its task is in.
struct AtWork {
    wake: Arc<Notify>,
    task: AbortHandle,
}

impl Round {
    /// Delivers over one connection until that breaks.
    async fn run(
        &mut self,
        database: &Database,
        wake: &Notify,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, DatabaseError> {
        let link = Arc::new(Link::connect(database, "hub webhooks").await?);
        let mut tasks = JoinSet::new();
        let mut couriers: BTreeMap<String, AtWork> = BTreeMap::new();
        loop {
            let subscriptions = table::subscriptions(&link).await?;
            let standings = self.standings(&link, &subscriptions).await?;
            self.raise_and_clear(&subscriptions, &standings);
            let behind = standings.iter().map(|(id, standing)| (id.clone(), standing.behind()));
            self.rooms.webhooks.stands(self.log_id, behind);
            self.keep_at_work(&link, subscriptions, &standings, &mut couriers, &mut tasks);
            *failures = 0;
            tokio::select! {
                () = wake.notified() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    /// How each subscription stands in the feed of the log. One that was added before the log began is given its cursor.
    async fn standings(
        &self,
        link: &Link,
        subscriptions: &[Subscription],
    ) -> Result<BTreeMap<String, Standing>, DatabaseError> {
        let read = async || {
            let rows = table::standings(link, Some(&self.log_id)).await?;
            let known = rows.into_iter().filter(|row| subscriptions.iter().any(|it| it.id == row.webhook_id));
            Ok::<_, DatabaseError>(known.map(|row| (row.webhook_id.clone(), row)).collect::<BTreeMap<_, _>>())
        };
        let there = read().await?;
        if there.len() == subscriptions.len() {
            return Ok(there);
        }
        table::begin(link, &self.log_id).await?;
        read().await
    }

    /// A courier for each active subscription and none for another; those who have something to do are woken.
    fn keep_at_work(
        &self,
        link: &Arc<Link>,
        subscriptions: Vec<Subscription>,
        standings: &BTreeMap<String, Standing>,
        couriers: &mut BTreeMap<String, AtWork>,
        tasks: &mut JoinSet<()>,
    ) {
        let active: BTreeMap<String, Subscription> = subscriptions
            .into_iter()
            .filter(|subscription| subscription.state == State::Active)
            .map(|subscription| (subscription.id.clone(), subscription))
            .collect();
        couriers.retain(|id, courier| {
            let stays = active.contains_key(id) && !courier.task.is_finished();
            if !stays {
                courier.task.abort();
            }
            stays
        });
        for (id, subscription) in active {
            let Some(standing) = standings.get(&id) else { continue };
            let courier = couriers.entry(id).or_insert_with(|| {
                let wake = Arc::new(Notify::new());
                let courier = Courier {
                    rooms: Arc::clone(&self.rooms),
                    link: Arc::clone(link),
                    log_id: self.log_id,
                    post: self.post.clone(),
                    subscription,
                    wake: Arc::clone(&wake),
                    failures: u32::try_from(standing.failures).unwrap_or(0),
                };
                AtWork { wake, task: tasks.spawn(courier.run()) }
            });
            if standing.behind() > 0 {
                courier.wake.notify_one();
            }
        }
    }

    /// The alarms are what the tables say: they outlive no subscription and return after a restart.
    fn raise_and_clear(&mut self, subscriptions: &[Subscription], standings: &BTreeMap<String, Standing>) {
        let mut due = BTreeMap::new();
        for Subscription { id, url, state, .. } in subscriptions {
            let Some(standing) = standings.get(id) else { continue };
            let (at, behind) = (origin(url), standing.behind());
            if *state == State::Gone {
                let detail = format!(
                    "{id}: {at} answered 410 Gone, so nothing is delivered to it; remove it, or go on with \
                    `tillsync db webhook resume {id}`"
                );
                due.insert((id.clone(), GONE), detail);
            }
            let long = i64::try_from(retry::ALARM_AFTER.as_millis()).unwrap_or(i64::MAX);
            if *state == State::Active && standing.failing_ms.is_some_and(|failing| failing >= long) {
                let why = standing.last_error.as_deref().unwrap_or_default();
                let every = retry::LONGEST.as_secs() / 60;
                let detail = format!(
                    "{id}: {at} has taken nothing for a day ({why}); up to {behind} changes wait, and it is tried every \
                    {every} minutes"
                );
                due.insert((id.clone(), FAILING), detail);
            }
        }
        for (about, what) in self.alarmed.iter().filter(|key| !due.contains_key(*key)) {
            self.rooms.alarms.clear(about, *what);
        }
        self.alarmed.retain(|key| due.contains_key(key));
        for ((about, what), detail) in due {
            if self.alarmed.insert((about.clone(), what))
                && self.rooms.alarms.raise(&about, what, detail.clone())
            {
                tracing::warn!("{detail}");
                self.rooms.audit.note(now_ms(), None, None, what, detail);
            }
        }
    }
}
