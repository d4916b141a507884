//! Links that rest. A till whose hub is the only one says something every ten seconds instead of every one and a half: its
//! radio sleeps, and the hub is not woken for nothing.
//!
//! A till cannot know by itself whether its hub lets a link rest so long: QUIC takes the shorter of both sides' idle times,
//! and a hub of an earlier version, or one of several, ends a link after five seconds of silence. So a till begins at the
//! quick pace, which suits every hub. Its hub says with the papers how long a link may rest; if that is long enough, the till
//! dials anew a while later, and lets that link and the next ones rest. It goes back to the quick pace at once when a hub
//! says less or nothing, and when a link that rested fell silent soon after its beginning.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::dialer::breath;
use super::link::LinkControl;

/// A link that rests is looked at so often while an answer may be missing.
const LOOKS: u32 = 5;
/// From one try to let links rest to the next, at most: the first distance doubled so often.
const DOUBLED_MAX: u32 = 7;

/// How a link rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leisure {
    /// The dialling side says something at least this often.
    pub keep_alive: Duration,
    /// Once it has said something, the dialling side waits this long for an answer (and up to two fifths longer, because it
    /// looks five times in it). As with links that do not rest, what is lost is repeated meanwhile, six times or so.
    pub answer: Duration,
    /// A till that may let its links rest dials anew after this on average: from half of it to one and a half.
    pub after: Duration,
}

impl Default for Leisure {
    /// Ten seconds are a third of what address translators forget a silent UDP flow after (RFC 4787 asks for two minutes, cheap
    /// ones take thirty seconds). The till's page is wrong about a silent hub for 17 s at the longest, and for 7 s after a
    /// sale, as with links that do not rest; the hub misses a silent till after 15 s. Much longer times would save little
    /// more and show people an "online" that is none.
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(10),
            answer: Duration::from_secs(5),
            after: Duration::from_secs(30),
        }
    }
}

impl Leisure {
    /// After this long without a word the peer is gone: a keep-alive, and the time in which it is repeated if it is lost.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.keep_alive + self.answer
    }
}

/// How fast a till's links go, as its hub says and as they fare. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Pace(Arc<Learnt>);

struct Learnt {
    /// The next link is dialled to rest.
    rests: AtomicBool,
    /// How long the hub that answered last lets a link rest.
    allowed: watch::Sender<Duration>,
    /// Links in a row that were dialled to rest and soon fell silent.
    fell_silent: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Arc::new(Learnt {
            rests: AtomicBool::new(false),
            allowed: watch::Sender::new(Duration::ZERO),
            fell_silent: AtomicU32::new(0),
        }))
    }
}

impl Pace {
    /// Whether the next link is dialled to rest.
    pub(super) fn rests(&self) -> bool {
        self.0.rests.load(Ordering::Relaxed)
    }

    /// A hub has said how long it lets a link rest; zero: it has not.
    pub(super) fn told(&self, rest: Duration) {
        self.0.allowed.send_replace(rest);
    }

    /// As if a hub had said so, long ago.
    #[cfg(test)]
    pub(super) fn learnt(&self, rest: Duration) {
        self.told(rest);
        self.0.rests.store(true, Ordering::Relaxed);
    }

    /// A link that was dialled to rest is over. One that fell silent before it had rested twice may have been ended by a hub
    /// that did not let it.
    pub(super) fn ended(&self, leisure: Leisure, silent: bool, lived: Duration) {
        if lived >= leisure.idle() * 2 {
            self.0.fell_silent.store(0, Ordering::Relaxed);
        } else if silent {
            self.0.fell_silent.fetch_add(1, Ordering::Relaxed);
            self.0.rests.store(false, Ordering::Relaxed);
            self.told(Duration::ZERO);
        }
    }

    /// Until a link must give way to one of another pace; `rests`: whether it was dialled to rest.
    pub(super) async fn changes(&self, leisure: Leisure, rests: bool) {
        let doubled = self.0.fell_silent.load(Ordering::Relaxed).min(DOUBLED_MAX);
        let after = breath(leisure.after * (1 << doubled), rand::random());
        let mut allowed = self.0.allowed.subscribe();
        // The sender lives as long as `self`.
        if rests {
            let _ = allowed.wait_for(|rest| *rest < leisure.idle()).await;
        } else {
            while allowed.wait_for(|rest| *rest >= leisure.idle()).await.is_ok() {
                tokio::select! {
                    () = sleep(after) => break,
                    _ = allowed.wait_for(|rest| *rest < leisure.idle()) => {}
                }
            }
        }
        self.0.rests.store(!rests, Ordering::Relaxed);
    }
}

/// Until something was said on a link that rests, and nothing was heard since for as long as an answer may take. QUIC alone
/// would wait for the whole idle time. Looks are counted, not time: a process that stood still finds the answer waiting.
pub(super) async fn unanswered(control: &LinkControl) {
    let Some(leisure) = control.leisure() else { return pending().await };
    let mut before = control.connection().figures();
    let mut looks = 0;
    while looks < LOOKS + 1 {
        sleep(leisure.answer / LOOKS).await;
        let now = control.connection().figures();
        if now.received_datagrams != before.received_datagrams {
            looks = 0;
        } else if looks > 0 || now.asked_frames != before.asked_frames {
            looks += 1;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LEISURE: Leisure = Leisure {
        keep_alive: Duration::from_secs(10),
        answer: Duration::from_secs(5),
        after: Duration::from_secs(30),
    };

    async fn changes_within(pace: &Pace, rests: bool, seconds: u64) -> bool {
        timeout(Duration::from_secs(seconds), pace.changes(LEISURE, rests)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn links_rest_only_when_the_hub_says_so_and_no_longer_than_it_says() {
        let pace = Pace::default();
        assert!(!pace.rests() && !changes_within(&pace, false, 3_600).await, "a hub that says nothing");
        pace.told(Duration::from_secs(5));
        assert!(!changes_within(&pace, false, 3_600).await, "one of several hubs");
        pace.told(LEISURE.idle());
        assert!(!changes_within(&pace, false, 14).await, "not at once: other tills do the same");
        assert!(changes_within(&pace, false, 46).await && pace.rests());
        assert!(!changes_within(&pace, true, 3_600).await, "and so it stays");
        pace.told(Duration::from_secs(5));
        assert!(changes_within(&pace, true, 0).await && !pace.rests(), "at once: another hub came");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_ends_links_while_they_rest_is_believed_less_and_less() {
        let pace = Pace::default();
        let mut waits = Vec::new();
        for _ in 0..5 {
            pace.told(LEISURE.idle());
            let began = tokio::time::Instant::now();
            pace.changes(LEISURE, false).await;
            waits.push(began.elapsed());
            pace.ended(LEISURE, true, Duration::from_secs(5));
            assert!(
                !pace.rests() && !changes_within(&pace, false, 3_600).await,
                "not before it is told anew"
            );
        }
        assert!(waits[4] >= LEISURE.after * 8, "{waits:?}");
        pace.told(LEISURE.idle());
        pace.changes(LEISURE, false).await;
        pace.ended(LEISURE, true, LEISURE.idle() * 2);
        assert!(pace.rests(), "one that has rested before was ended by something else");
    }
}
