//! A panic in one store's work costs that store a moment, and nobody else anything: the task's end is noticed, the store is
//! made again from the log, and everybody who looks is told. A peer whose message was being judged when it happened is not
//! listened to for a while, or it would say it again.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::ids::{StoreId, WriterId};
use engine::replica::Replica;
use tokio::sync::oneshot;

use super::alarms::Alarms;
use super::audit::AuditLog;
use super::checkpoint::Saved;
use super::clock::{Clock, now_ms};
use super::restore::{RestoreFailure, RestoredStore, restore_store};
use super::store::{Jobs, Shown, StoreTask};
use super::take_back::TakeBack;
use super::workroom::Home;

/// First wait before a store is made again; it doubles with each panic up to the longest, and starts again after an hour.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const GOOD_LIFE: Duration = Duration::from_secs(3_600);
/// How long a peer is not listened to.
const BAN: Duration = Duration::from_secs(600);
/// Longest piece of a panic's message that is noted, in characters.
const MESSAGE_LIMIT: usize = 300;

/// Makes the empty replica that the log is read into. Each call must give it a session of its own.
pub type Fresh = Arc<dyn Fn() -> Replica + Send + Sync>;

/// Whose message is being judged, and who is not listened to.
#[derive(Clone, Default)]
pub(super) struct Suspects(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    judging: Option<WriterId>,
    banned: BTreeMap<WriterId, Instant>,
}

impl Suspects {
    /// Whether a peer is not listened to now.
    pub(super) fn is_banned(&self, peer: &WriterId) -> bool {
        let mut inner = self.lock();
        match inner.banned.get(peer) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                inner.banned.remove(peer);
                false
            }
            None => false,
        }
    }

    /// Names the peer whose message is judged by `work`.
    pub(super) fn judging<T>(&self, peer: WriterId, work: impl FnOnce() -> T) -> T {
        self.lock().judging = Some(peer);
        let done = work();
        self.lock().judging = None;
        done
    }

    /// After a panic: who was being judged, and is not listened to from now on.
    fn blame(&self) -> Option<WriterId> {
        let mut inner = self.lock();
        let peer = inner.judging.take()?;
        inner.banned.insert(peer, Instant::now() + BAN);
        Some(peer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Plain values: whatever a panicking holder left is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a store's life needs.
pub(super) struct Life {
    pub(super) store: StoreId,
    pub(super) home: Home,
    pub(super) audit: AuditLog,
    pub(super) clock: Clock,
    pub(super) alarms: Alarms,
    /// `None`: a panic is the end of the store's task.
    pub(super) fresh: Option<Fresh>,
    /// Of a restored node: nothing is recorded until its peers have given back what they hold.
    pub(super) take_back: Option<TakeBack>,
    /// Nothing is taken in because the disk is full.
    pub(super) full: Arc<AtomicBool>,
    /// How far the store's task has come.
    pub(super) shown: Shown,
}

impl Life {
    /// Runs the store's task until it is told to stop, over every panic.
    pub(super) async fn live(self, jobs: Jobs, first: RestoredStore) {
        let jobs = Arc::new(tokio::sync::Mutex::new(jobs));
        let (suspects, mut wait) = (Suspects::default(), FIRST_WAIT);
        let mut next = Some(first);
        loop {
            let restored = match next.take() {
                Some(restored) => Ok(restored),
                None => self.again().await,
            };
            let (reason, began) = match restored {
                Ok(restored) => {
                    let began = Instant::now();
                    let jobs = Arc::clone(&jobs).lock_owned().await;
                    let task = StoreTask::new(&self, restored, jobs, suspects.clone());
                    let Err(end) = tokio::spawn(task.run()).await else { return };
                    let Ok(panic) = end.try_into_panic() else { return };
                    (message(panic.as_ref()), Some(began))
                }
                Err(reason) => (format!("it cannot be read back: {reason}"), None),
            };
            let told = self.tell(&reason, suspects.blame());
            if self.fresh.is_none() {
                return;
            }
            if began.is_some_and(|began| began.elapsed() >= GOOD_LIFE) {
                wait = FIRST_WAIT;
            }
            // Once this note is durable, so is everything that the former life handed to the disk.
            let _ = told.await;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn tell(&self, reason: &str, blamed: Option<WriterId>) -> oneshot::Receiver<()> {
        let blamed = blamed.map_or_else(String::new, |peer| {
            format!("; {} was being listened to and is not for {} s", peer.short(), BAN.as_secs())
        });
        let detail = format!("the work of this store failed and begins anew from its log: {reason}{blamed}");
        tracing::error!(store = %self.store, "{detail}");
        self.alarms.raise(self.store.as_str(), "restarted", detail.clone());
        let (send, told) = oneshot::channel();
        self.audit.note_and(now_ms(), Some(self.store.as_str()), None, "restarted", detail, |_| {
            let _ = send.send(());
        });
        told
    }

    /// Reads the store back.
    async fn again(&self) -> Result<RestoredStore, String> {
        let (storage, store, fresh) = (self.home.storage.clone(), self.store.clone(), self.fresh.clone());
        let Some(fresh) = fresh else { return Err("it has one life only".to_owned()) };
        let read = move || {
            // It may be the reason.
            Saved::forget(storage.index(), &store);
            restore_store(&storage, &store, fresh()).map_err(|e: RestoreFailure| e.to_string())
        };
        // A panic while reading is told like any other failure.
        match tokio::task::spawn_blocking(read).await {
            Ok(restored) => restored,
            Err(end) => {
                Err(end.try_into_panic().map_or_else(|e| e.to_string(), |panic| message(panic.as_ref())))
            }
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    text.unwrap_or("a panic without words").chars().take(MESSAGE_LIMIT).collect()
}
