//! Sessions of people at the hub's web door: a token is shown once, and a random session stands for it until it has
//! rested too long, has lived too long, is ended, or its owner's token changes. In memory only: a restart ends them all.
//! Pure (time is an argument); it knows no cookies, those are `api::session`'s.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;

/// A session that nobody used for this long has ended.
pub const REST_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A session ends after this, used or not: a working day.
pub const LIFE_LIMIT: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at a time; beyond it the one that rested longest ends.
const SESSIONS_LIMIT: usize = 4_096;
/// Sessions of one token at a time: browsers that were closed without a log-out pile up no further.
const SESSIONS_EACH: usize = 8;

/// What a browser gets when somebody logs in.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The secret that stands for the token: 64 hexadecimal digits, told once, kept as a hash.
    pub secret: String,
    /// What a page must repeat in a header with every write: another site can make the browser send its cookie, but
    /// cannot read this. 64 hexadecimal digits.
    pub csrf: String,
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Hash of the token that it stands for.
    pub token_hash: String,
    /// See [`Opened::csrf`].
    pub csrf: String,
    opened: Instant,
    used: Instant,
}

/// Every live session, by the hash of its secret.
#[derive(Default)]
pub struct Sessions(BTreeMap<[u8; 32], Session>);

impl Sessions {
    /// Opens a session for the holder of a token.
    pub fn open(&mut self, token_hash: &str, now: Instant) -> Opened {
        self.0.retain(|_, session| !session.is_over(now));
        let of_token = self.0.values().filter(|session| session.token_hash == token_hash).count();
        if of_token >= SESSIONS_EACH {
            self.end_oldest(|session| session.token_hash == token_hash);
        }
        if self.0.len() >= SESSIONS_LIMIT {
            self.end_oldest(|_| true);
        }
        let opened = Opened { secret: fresh(), csrf: fresh() };
        let session =
            Session { token_hash: token_hash.to_owned(), csrf: opened.csrf.clone(), opened: now, used: now };
        self.0.insert(key(&opened.secret), session);
        opened
    }

    /// The session that a secret stands for, which is thereby used; `None` when it has ended or never was.
    pub fn resume(&mut self, secret: &str, now: Instant) -> Option<Session> {
        let key = key(secret);
        let session = self.0.get_mut(&key)?;
        if session.is_over(now) {
            self.0.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.clone())
    }

    /// Ends a session. True when there was one.
    pub fn end(&mut self, secret: &str) -> bool {
        self.0.remove(&key(secret)).is_some()
    }

    fn end_oldest(&mut self, of: impl Fn(&Session) -> bool) {
        let oldest = self.0.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.0.remove(&key);
        }
    }
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= REST_LIMIT
            || now.saturating_duration_since(self.opened) >= LIFE_LIMIT
    }
}

fn fresh() -> String {
    HEXLOWER.encode(&rand::random::<[u8; 32]>())
}

/// What is kept of a secret: whoever reads the memory of a dead process finds nothing to log in with.
fn key(secret: &str) -> [u8; 32] {
    blake3::derive_key("tillsync hub session v1", secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_rest_by_age_and_by_log_out() {
        let (mut sessions, start) = (Sessions::default(), Instant::now());
        let one = sessions.open("anna", start);
        assert_eq!(sessions.resume(&one.secret, start).unwrap().csrf, one.csrf);
        assert!(sessions.resume(&one.csrf, start).is_none(), "the header's word opens nothing");
        assert!(sessions.resume(&one.secret, start + REST_LIMIT).is_none(), "rested too long");
        assert!(sessions.resume(&one.secret, start).is_none(), "and is gone for good");

        let busy = sessions.open("anna", start);
        let step = REST_LIMIT / 2;
        let mut now = start;
        while now + step < start + LIFE_LIMIT {
            now += step;
            assert!(sessions.resume(&busy.secret, now).is_some(), "used often enough");
        }
        assert!(sessions.resume(&busy.secret, start + LIFE_LIMIT).is_none(), "a day is over");

        let last = sessions.open("anna", now);
        assert!(sessions.end(&last.secret) && !sessions.end(&last.secret));
        assert!(sessions.resume(&last.secret, now).is_none());
    }

    #[test]
    fn sessions_are_limited_for_each_token_and_together() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.open("anna", now);
        let later = now + Duration::from_secs(1);
        for _ in 0..SESSIONS_EACH {
            sessions.open("anna", later);
        }
        assert!(sessions.resume(&first.secret, later).is_none(), "her oldest made room");
        for person in 0..SESSIONS_LIMIT * 2 {
            sessions.open(&person.to_string(), later);
        }
        assert_eq!(sessions.0.len(), SESSIONS_LIMIT);
    }
}
