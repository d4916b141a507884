//! Telling a cloned data directory from a till that only restarts or roams. Each start of a till thinks up an instance
//! number and says it with every connection. A restart brings a new number and the old one never comes back; when one does
//! that another had followed, two processes write with one key. Pure; bounded; nothing is kept over a restart of the hub.

use std::collections::{BTreeMap, VecDeque};

use super::PublicKey;

/// A number that one start of a till's process goes by.
pub type Instance = [u8; 16];

/// Numbers remembered for each key.
const PAST_LIMIT: usize = 8;
/// Keys remembered; those beyond it are simply not watched.
const KEYS_LIMIT: usize = 100_000;

/// The instances of each key, newest last.
#[derive(Debug, Default)]
pub struct Twins(BTreeMap<PublicKey, VecDeque<Instance>>);

impl Twins {
    /// An instance of a key has connected. True when another had followed it since: the key is used twice.
    pub fn met(&mut self, key: PublicKey, instance: Instance) -> bool {
        if self.0.len() >= KEYS_LIMIT && !self.0.contains_key(&key) {
            return false;
        }
        let known = self.0.entry(key).or_default();
        if known.back() == Some(&instance) {
            return false;
        }
        let before = known.len();
        known.retain(|past| *past != instance);
        let came_back = known.len() < before;
        known.push_back(instance);
        if known.len() > PAST_LIMIT {
            known.pop_front();
        }
        came_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_and_reconnections_are_no_clone_and_a_clone_is() {
        let mut twins = Twins::default();
        for start in 0..20_u8 {
            for _ in 0..3 {
                assert!(!twins.met([1; 32], [start; 16]), "the same process again, or a later start");
            }
        }
        assert!(!twins.met([1; 32], [77; 16]), "the copy comes up: it could be a restart");
        assert!(twins.met([1; 32], [19; 16]), "but the first is alive");
        assert!(twins.met([1; 32], [77; 16]), "and the copy too");
        assert!(!twins.met([2; 32], [77; 16]), "another till");
        assert!(twins.0[&[1; 32]].len() <= PAST_LIMIT);
    }
}
