//! What goes wrong. Each seed draws its own subset of faults and how often they strike (a swarm), because a fault that
//! always strikes hides what only its absence allows.

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::world::Delays;

/// How often what goes wrong, once in so many turns; `None`: never in this run.
#[derive(Debug, Clone)]
pub struct Faults {
    /// A till's link to the hub is cut.
    pub cut: Option<u64>,
    /// A cut link comes back.
    pub mend: u64,
    /// Two tills connect directly.
    pub gossip: Option<u64>,
    /// A till loses power.
    pub till_crash: Option<u64>,
    /// The hub loses power.
    pub hub_crash: Option<u64>,
    /// A disk hangs until its node restarts.
    pub disk_hang: Option<u64>,
    /// Clocks are off by up to this, ms.
    pub clock_skew_ms: i64,
    /// How long links and disks take.
    pub delays: Delays,
    /// How often each fault struck.
    pub struck: BTreeMap<&'static str, u64>,
}

impl Faults {
    /// No faults: short delays, right clocks.
    #[must_use]
    pub fn none() -> Self {
        Self {
            cut: None,
            mend: 1,
            gossip: None,
            till_crash: None,
            hub_crash: None,
            disk_hang: None,
            clock_skew_ms: 0,
            delays: Delays { link_ms: (1, 5), disk_ms: (0, 1) },
            struck: BTreeMap::new(),
        }
    }

    /// The faults of a seed.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "faults");
        let mut sometimes = |low: i64, high: i64| {
            let rate = u64::try_from(chance.between(low, high)).unwrap_or(1);
            (!chance.once_in(3)).then_some(rate)
        };
        let (cut, gossip) = (sometimes(5, 40), sometimes(10, 60));
        let (till_crash, hub_crash, disk_hang) = (sometimes(15, 80), sometimes(40, 200), sometimes(60, 300));
        let skews = [0, 0, 400, 60_000, 7_200_000];
        let (slow_link, slow_disk) = (chance.between(2, 2_000), chance.between(0, 200));
        Self {
            cut,
            mend: 1 + chance.below(20),
            gossip,
            till_crash,
            hub_crash,
            disk_hang,
            clock_skew_ms: *chance.pick(&skews),
            delays: Delays { link_ms: (1, slow_link), disk_ms: (0, slow_disk) },
            struck: BTreeMap::new(),
        }
    }

    /// Whether a fault strikes now; counted if it does.
    pub fn strikes(&mut self, name: &'static str, rate: Option<u64>, chance: &mut Chance) -> bool {
        let strikes = rate.is_some_and(|rate| chance.once_in(rate));
        if strikes {
            *self.struck.entry(name).or_insert(0) += 1;
        }
        strikes
    }
}
