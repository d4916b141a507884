//! What pages reckon over a store's records of a day, kept until the store has something new. A page then costs what has
//! changed since the last one, and not what the company ever sold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::ids::StoreId;
use engine::replica::{Replica, Revision};
use engine::time::Day;

use crate::runtime::clock::now_ms;

/// Rows kept; beyond it all are reckoned anew.
const KEPT_MAX: usize = 50_000;
/// What only time changes (a case that has become urgent) shows at the latest after so long, ms.
const AGES_MS: i64 = 600_000;

/// When something was reckoned: under which revision, and in which stretch of time.
type Mark = (Revision, i64);

/// Rows by store and day, with their marks.
type Rows<T> = BTreeMap<(StoreId, Day), (Mark, Arc<T>)>;

/// Rows by store and day.
pub struct Kept<T>(Arc<Mutex<Rows<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Kept<T> {
    /// What was reckoned of a day of a replica's store, or is reckoned now.
    pub fn of(&self, replica: &Replica, day: Day, reckon: impl FnOnce() -> T) -> Arc<T> {
        let store = replica.identity().store.clone();
        let mark = (replica.revision(), now_ms().saturating_add(spread_ms(&store)) / AGES_MS);
        let of = (store, day);
        if let Some((_, known)) = self.rows().get(&of).filter(|row| row.0 == mark) {
            return Arc::clone(known);
        }
        let reckoned = Arc::new(reckon());
        let mut rows = self.rows();
        if rows.len() >= KEPT_MAX {
            rows.clear();
        }
        rows.insert(of, (mark, Arc::clone(&reckoned)));
        reckoned
    }

    fn rows(&self) -> MutexGuard<'_, Rows<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stores age at different moments, or one page in ten minutes would pay for all of them.
fn spread_ms(store: &StoreId) -> i64 {
    let sum = store.as_str().bytes().fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % AGES_MS);
    sum.rem_euclid(AGES_MS)
}

#[cfg(test)]
mod tests {
    use engine::ids::{LogId, TerminalId, WriterId};
    use engine::policy::Policy;
    use engine::replica::{Identity, Input};
    use engine::time::Instant;
    use engine::transaction::HubRecord;

    use super::*;

    fn hub(nonce: u8) -> Replica {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let identity = Identity {
            store: "s1".parse().unwrap(),
            log: LogId { terminal: TerminalId::hub(), incarnation: 1 },
            hub: WriterId(key.verifying_key().to_bytes()),
            key,
            nonce: [nonce; 16],
        };
        Replica::new(identity, Policy::default())
    }

    /// Reckoned once until something is recorded; anew for another day, and in another life of the store's task.
    #[test]
    fn a_row_is_reckoned_again_when_its_store_has_something_new_and_not_before() {
        let (kept, mut times) = (Kept::<u32>::default(), 0);
        let mut look = |replica: &Replica, day: i32| {
            *kept.of(replica, Day(day), || {
                times += 1;
                times
            })
        };
        let mut replica = hub(1);
        assert_eq!((look(&replica, 1), look(&replica, 1)), (1, 1));
        assert_eq!((look(&replica, 2), look(&replica, 1)), (2, 1));
        let change = engine::policy::PolicyChange::parse(["ageing_hours=1"], None, "admin").unwrap();
        let state = Input::State {
            token: 1,
            record: Box::new(HubRecord::Config(change)),
            receipt: "policy-1".into(),
        };
        replica.handle(Instant::utc(1_000), state);
        assert_eq!((look(&replica, 1), look(&replica, 1)), (3, 3));
        assert_eq!(look(&hub(2), 1), 4);
    }
}
