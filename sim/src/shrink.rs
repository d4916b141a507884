//! From a scenario that fails to the smallest one that still fails the same way: fewer days, fewer tills, fewer
//! happenings, no policy that does not matter. Tries are made in a fixed order and counted, so the same failure gives
//! the same small scenario. Runs nothing itself: the caller says what a try did.

use std::collections::BTreeSet;

use crate::checks::Broken;
use crate::scenario::{Scenario, Speed, Timed, What};
use crate::trade::DAY_MS;

/// The smallest failing scenario that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The scenario, with everything written out.
    pub scenario: Scenario,
    /// How it fails.
    pub broken: Broken,
    /// How many scenarios were tried.
    pub tries: u64,
    /// Whether nothing more can be left out, as far as tries of one thing tell.
    pub minimal: bool,
}

struct Shrinker<'a> {
    best: Shrunk,
    budget: u64,
    fails: &'a mut dyn FnMut(&Scenario) -> Option<Broken>,
}

/// Shrinks a scenario that fails as `broken` says, with at most `budget` tries.
pub fn shrink(
    scenario: &Scenario,
    broken: &Broken,
    budget: u64,
    fails: &mut dyn FnMut(&Scenario) -> Option<Broken>,
) -> Shrunk {
    let best = Shrunk { scenario: scenario.explicit(), broken: broken.clone(), tries: 0, minimal: false };
    let mut shrinker = Shrinker { best, budget, fails };
    loop {
        let before = size(&shrinker.best.scenario);
        shrinker.fewer_days();
        shrinker.fewer_hubs();
        shrinker.fewer_tills();
        shrinker.fewer_happenings();
        shrinker.plainer();
        if size(&shrinker.best.scenario) == before {
            break;
        }
    }
    shrinker.best.minimal = shrinker.best.tries < budget;
    shrinker.best
}

/// What gets smaller with every step.
fn size(scenario: &Scenario) -> (u64, u64, u64, usize, usize, bool) {
    let plain = scenario.speed == Speed::default();
    (scenario.days, scenario.hubs, scenario.tills, scenario.happens.len(), scenario.policy.len(), !plain)
}

/// Leaves out what makes no sense without what was left out before: a void of a sale that nobody rings.
fn tidied(mut scenario: Scenario) -> Scenario {
    let sales: BTreeSet<String> = scenario
        .happens
        .iter()
        .filter(|timed| matches!(timed.what, What::Sale { .. }))
        .filter_map(|timed| timed.what.receipt().map(str::to_owned))
        .collect();
    let copied: BTreeSet<String> = scenario
        .happens
        .iter()
        .filter_map(|timed| match &timed.what {
            What::CloneDevice { copy, .. } => Some(copy.clone()),
            _ => None,
        })
        .collect();
    scenario.happens.retain(|timed| {
        let there = |node: &&String| !node.ends_with("-copy") || copied.contains(*node);
        timed.what.of().is_none_or(|of| sales.contains(of)) && timed.what.nodes().iter().all(there)
    });
    scenario
}

/// Without some of the days, counted from 0; those behind them move up.
fn without_days(scenario: &Scenario, gone: std::ops::Range<u64>) -> Scenario {
    let ms = |days: u64| i64::try_from(days).unwrap_or(0) * DAY_MS;
    let (from_ms, until_ms) = (ms(gone.start), ms(gone.end));
    let stays = |timed: &&Timed| !(from_ms..until_ms).contains(&timed.at_ms);
    let moved = |timed: &Timed| {
        let late = timed.at_ms >= until_ms;
        let at_ms = if late { timed.at_ms - (until_ms - from_ms) } else { timed.at_ms };
        Timed { at_ms, ..timed.clone() }
    };
    let happens = scenario.happens.iter().filter(stays).map(moved).collect();
    tidied(Scenario { days: scenario.days - (gone.end - gone.start), happens, ..scenario.clone() })
}

/// Without some of the tills, counted from 0; those behind them move up.
fn without_tills(scenario: &Scenario, gone: std::ops::Range<u64>) -> Scenario {
    let names = scenario.till_names();
    let new_name = |name: &str| {
        let (till, copy) = name.strip_suffix("-copy").map_or((name, ""), |till| (till, "-copy"));
        let Some(at) = names.iter().position(|known| known == till) else { return Some(name.to_owned()) };
        let at = at as u64;
        let moved = if at >= gone.end { at - (gone.end - gone.start) } else { at };
        (!gone.contains(&at)).then(|| format!("till-{:02}{copy}", moved + 1))
    };
    let mut happens = scenario.happens.clone();
    happens.retain(|timed| timed.what.nodes().iter().all(|name| new_name(name).is_some()));
    for timed in &mut happens {
        for name in timed.what.nodes_mut() {
            if let Some(new) = new_name(name) {
                *name = new;
            }
        }
    }
    tidied(Scenario { tills: scenario.tills - (gone.end - gone.start), happens, ..scenario.clone() })
}

impl Shrinker<'_> {
    /// Tries a scenario; keeps it if it fails the same way.
    fn attempt(&mut self, candidate: Scenario) -> bool {
        if self.best.tries >= self.budget {
            return false;
        }
        self.best.tries += 1;
        let same = |found: &Broken| found.is_like(&self.best.broken);
        match (self.fails)(&candidate).filter(same) {
            Some(broken) => {
                (self.best.scenario, self.best.broken) = (candidate, broken);
                true
            }
            None => false,
        }
    }

    fn fewer_days(&mut self) {
        // How many days from the first are enough, by halves; then each of those that are left.
        let (mut too_few, mut enough) = (0, self.best.scenario.days);
        while enough - too_few > 1 {
            let days = too_few + (enough - too_few) / 2;
            if self.attempt(without_days(&self.best.scenario, days..self.best.scenario.days)) {
                enough = days;
            } else {
                too_few = days;
            }
        }
        let mut day = self.best.scenario.days;
        while day > 0 && self.best.scenario.days > 1 {
            day -= 1;
            self.attempt(without_days(&self.best.scenario, day..day + 1));
        }
    }

    fn fewer_tills(&mut self) {
        let mut chunk = self.best.scenario.tills / 2;
        while chunk > 0 {
            // From the back, so that names stay what they are where they can.
            let mut end = self.best.scenario.tills;
            while end >= chunk && self.best.scenario.tills > chunk {
                let gone = end - chunk..end;
                end -= if self.attempt(without_tills(&self.best.scenario, gone)) { chunk } else { 1 };
                end = end.min(self.best.scenario.tills);
            }
            chunk /= 2;
        }
    }

    /// The last hub goes, with what happens to it; of several at least one stays, because one on its disk is another world.
    fn fewer_hubs(&mut self) {
        while self.best.scenario.hubs > 1 {
            let last = format!("hub-{}", self.best.scenario.hubs);
            let mut fewer = self.best.scenario.clone();
            fewer.hubs -= 1;
            fewer.happens.retain(|timed| !timed.what.nodes().contains(&&last));
            if !self.attempt(fewer) {
                return;
            }
        }
    }

    fn fewer_happenings(&mut self) {
        let mut chunk = self.best.scenario.happens.len().div_ceil(2);
        while chunk > 0 {
            // From the back: what happened last matters least to what follows.
            let mut end = self.best.scenario.happens.len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                let mut candidate = self.best.scenario.clone();
                candidate.happens.drain(start..end.min(candidate.happens.len()));
                self.attempt(tidied(candidate));
                end = start.min(self.best.scenario.happens.len());
            }
            if self.best.tries >= self.budget {
                return;
            }
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }

    fn plainer(&mut self) {
        let mut at = self.best.scenario.policy.len();
        while at > 0 {
            at -= 1;
            let mut candidate = self.best.scenario.clone();
            candidate.policy.remove(at);
            self.attempt(candidate);
        }
        if self.best.scenario.speed != Speed::default() {
            let candidate = Scenario { speed: Speed::default(), ..self.best.scenario.clone() };
            self.attempt(candidate);
        }
    }
}
