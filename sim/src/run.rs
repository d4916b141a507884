//! One scenario, from the first sale to the last check: its happenings are made to happen in the order of time, what is
//! answered becomes truth, and in the end everything is mended and held against it.

mod answers;
mod desk;
mod faults;
mod lost;
mod mend;

use std::collections::{BTreeMap, BTreeSet};

use engine::policy::Policy;
use engine::transaction::Draft;

use crate::checks::{self, Broken};
use crate::disk::Disk;
use crate::drafts;
use crate::figures::{self, Ages};
use crate::scenario::{Scenario, Timed, What};
use crate::truth::{Rung, Sale, Truth};
use crate::watch::Watch;
use crate::world::{DATABASE, Delays, HUB, START_MS, World};

use answers::Asked;

pub use crate::watch::Moment;
pub use mend::CONVERGENCE_MS;

/// Checks of the whole state at least so often, virtual ms.
const CHECK_EVERY_MS: i64 = 2 * 3_600_000;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Outcome {
    /// Acknowledged transactions.
    pub transactions: u64,
    /// Sales that were reversed more than there was, and baskets rung twice: all flagged.
    pub mischief: u64,
    /// Messages that arrived, and bytes sent.
    pub messages: u64,
    /// See `messages`.
    pub bytes: u64,
    /// Virtual time, ms.
    pub simulated_ms: i64,
    /// How often each fault struck.
    pub faults: BTreeMap<String, u64>,
    /// Cases of each type in the hub's books at the end.
    pub cases: BTreeMap<String, u64>,
    /// How long after mending everybody was level, virtual ms.
    pub converged_ms: i64,
    /// Batches of tills in the hub's books.
    pub batches: u64,
    /// How old the records of tills were when they reached the hub.
    #[serde(skip)]
    pub ages: Ages,
    /// How long after the last outage the last of what it had held up reached the hub, virtual ms; 0: nothing was.
    pub drained_ms: i64,
    /// Hash of everything that happened: the same for the same scenario.
    pub trace: String,
}

/// A run in progress.
pub struct Run {
    /// The world.
    pub world: World,
    /// What is known.
    pub truth: Truth,
    /// What is worth looking at, if it is wanted.
    pub moments: Option<Vec<Moment>>,
    asked: BTreeMap<(String, u64), Asked>,
    /// Outcomes of payments that the hub was asked to state: token → receipt of the sale, and whether it was paid.
    outcomes: BTreeMap<u64, (String, bool)>,
    backups: BTreeMap<String, (Disk, BTreeSet<String>)>,
    struck: BTreeMap<String, u64>,
    copies: BTreeMap<String, String>,
    revoked: BTreeSet<String>,
    /// Nodes that are down and when they start again, true ms.
    restarts: BTreeSet<(i64, String)>,
    /// What was handed to tills, by receipt.
    rings: BTreeMap<String, Rung>,
    /// What each till was asked last: a POS that lost its till sends that again.
    last: BTreeMap<String, Draft>,
    checked_ms: i64,
    /// To whom the present happening happens, and what else is told of it.
    happening: (String, String),
    /// Directions that a partition holds cut now, and when the last outage ended, true ms.
    cut: BTreeSet<(String, String)>,
    outage_ended_ms: Option<i64>,
}

/// Runs a scenario.
///
/// # Errors
/// The invariant that does not hold.
pub fn run(scenario: &Scenario) -> Result<Outcome, Broken> {
    run_explicit(&scenario.explicit(), false).map(|done| done.0)
}

/// Runs a scenario whose happenings are all written out; with what is worth looking at, if it is wanted.
///
/// # Errors
/// The invariant that does not hold.
pub fn run_explicit(scenario: &Scenario, watch: bool) -> Result<(Outcome, Run), Broken> {
    let mut run = Run::new(scenario, watch)?;
    for timed in &scenario.happens {
        run.until(START_MS + timed.at_ms)?;
        run.happen(timed);
    }
    let end_ms = START_MS + i64::try_from(scenario.days).unwrap_or(1) * crate::trade::DAY_MS;
    run.until(end_ms)?;
    let converged_ms = run.mend()?;
    checks::at_the_end(&mut run.world, &run.truth)?;
    let hub = run.world.hub_node().replica().books();
    let mut cases: BTreeMap<String, u64> = BTreeMap::new();
    for case in hub.cases() {
        *cases.entry(case.key.case_type.as_str().to_owned()).or_default() += 1;
    }
    for (rule, times) in &run.world.network.struck {
        *run.struck.entry((*rule).to_owned()).or_default() += times;
    }
    for (what, times) in run.world.company.iter().flat_map(|company| &company.counts) {
        *run.struck.entry((*what).to_owned()).or_default() += times;
    }
    let hub = run.world.hub_node().replica();
    let ways = figures::ways(hub, run.world.now_ms);
    let outcome = Outcome {
        transactions: run.truth.acknowledged.len() as u64,
        mischief: run.truth.mischief() + run.truth.doubled().len() as u64,
        messages: run.world.messages,
        bytes: run.world.network.bytes,
        simulated_ms: run.world.now_ms - START_MS,
        faults: run.struck.clone(),
        cases,
        converged_ms,
        batches: figures::batches(hub),
        ages: Ages::of(&ways),
        drained_ms: run.outage_ended_ms.map_or(0, |ended_ms| figures::drained_ms(&ways, ended_ms)),
        trace: run.world.trace.finalize().to_hex().to_string(),
    };
    if let (Some(moments), Some(watch)) = (&mut run.moments, &mut run.world.watch) {
        moments.append(&mut watch.moments);
        moments.sort_by_key(|moment| moment.at_ms);
    }
    Ok((outcome, run))
}

impl Run {
    fn new(scenario: &Scenario, watch: bool) -> Result<Self, Broken> {
        let mut policy = Policy { currencies: vec!["GBP".parse().expect("a currency")], ..Policy::default() };
        for setting in &scenario.policy {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            policy
                .set(key, value)
                .map_err(|error| Broken::new("the scenario's policy makes sense", error.to_string()))?;
        }
        let speed = &scenario.speed;
        let delays = Delays { link_ms: speed.link_ms, disk_ms: speed.disk_ms };
        let tills = scenario.till_names();
        let mut world = if scenario.hubs == 0 {
            World::new(&tills, delays, &policy, scenario.seed)
        } else {
            World::of_company(&tills, delays, &policy, scenario.seed, (scenario.hubs, scenario.shards))
        };
        for node in world.nodes.values_mut() {
            node.speed.bytes_a_ms = speed.bytes_a_ms;
        }
        for till in tills.iter().filter(|_| scenario.hubs == 0) {
            world.connect(till, HUB);
            world.dial(till, HUB);
        }
        // A till cannot sell before it knows what it is enrolled for.
        world.run_for(10_000);
        world.now_ms = world.now_ms.max(START_MS);
        if watch {
            let mut begun = Watch::default();
            for till in tills.iter().filter(|till| world.linked_hub(till).is_some()) {
                begun.moment(0, till, "link-up", 0, String::new());
            }
            world.watch = Some(begun);
        }
        Ok(Self {
            world,
            truth: Truth::default(),
            moments: watch.then(Vec::new),
            asked: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            backups: BTreeMap::new(),
            struck: BTreeMap::new(),
            copies: BTreeMap::new(),
            revoked: BTreeSet::new(),
            restarts: BTreeSet::new(),
            rings: BTreeMap::new(),
            last: BTreeMap::new(),
            checked_ms: 0,
            happening: (HUB.to_owned(), String::new()),
            cut: BTreeSet::new(),
            outage_ended_ms: None,
        })
    }

    /// Time goes on; now and then the whole state is checked.
    fn until(&mut self, at_ms: i64) -> Result<(), Broken> {
        while self.world.now_ms < at_ms {
            let restart_ms = self.restarts.first().map_or(i64::MAX, |row| row.0);
            let next_ms = at_ms.min(self.checked_ms.max(self.world.now_ms) + CHECK_EVERY_MS).min(restart_ms);
            self.world.run_until(next_ms);
            self.collect();
            while self.restarts.first().is_some_and(|row| row.0 <= self.world.now_ms) {
                if let Some((_, node)) = self.restarts.pop_first() {
                    self.start(&node);
                }
            }
            if self.world.now_ms - self.checked_ms >= CHECK_EVERY_MS {
                self.checked_ms = self.world.now_ms;
                checks::at_every_turn(&self.world, &self.truth)?;
                self.world.keep_checkpoints();
                // With a hub that died, an enrolment may have died of which nobody was told that it is recorded.
                if self.world.company.is_some() && self.world.hub_records() {
                    self.enrol_again();
                }
            }
        }
        self.collect();
        Ok(())
    }

    fn strike(&mut self, name: &str) {
        if self.moments.is_some() {
            let (node, text) = self.happening.clone();
            self.tell(&node, name, 0, text);
        }
        *self.struck.entry(name.to_owned()).or_default() += 1;
    }

    fn moment(&mut self, node: &str, what: &str, figure: u64) {
        self.tell(node, what, figure, String::new());
    }

    fn tell(&mut self, node: &str, what: &str, figure: u64, text: String) {
        let at_ms = self.world.now_ms - START_MS;
        if let Some(moments) = &mut self.moments {
            let (node, what) = (node.to_owned(), what.to_owned());
            moments.push(Moment { at_ms, node, what, figure, text });
        }
    }

    /// A sale that a customer has a receipt of.
    fn sold(&self, receipt: &str) -> Option<Sale> {
        self.truth.sales.get(receipt).cloned()
    }

    fn happen(&mut self, timed: &Timed) {
        // A copy of a device is there only once somebody could copy it.
        let missing = |name: &&String| *name != DATABASE && !self.world.nodes.contains_key(*name);
        if !matches!(timed.what, What::CloneDevice { .. }) && timed.what.nodes().iter().any(missing) {
            return;
        }
        if self.moments.is_some() {
            let (node, text) = timed.what.whom();
            self.happening = (node.to_owned(), text);
        }
        match &timed.what {
            What::Sale { till, receipt, items, paid, key, tip_minor } => {
                let draft = drafts::sale(receipt, items, *paid, key.as_deref(), *tip_minor);
                let sale = Sale {
                    till: till.clone(),
                    id: engine::ids::RecordId::default(),
                    receipt: receipt.clone(),
                    items: items.clone(),
                    paid: *paid,
                    key: key.clone(),
                    tip_minor: *tip_minor,
                    returned: 0,
                    voids: 0,
                    reversals: Vec::new(),
                    outcome: None,
                };
                self.ask(till, draft, Asked::Sale(Box::new(sale)));
            }
            What::Refund { till, receipt, of, pieces, unapproved } => {
                if let Some(sale) = self.sold(of) {
                    let draft = drafts::refund(receipt, &sale, *pieces, !unapproved);
                    self.ask(
                        till,
                        draft,
                        Asked::Refund { of: of.clone(), pieces: *pieces, receipt: receipt.clone() },
                    );
                }
            }
            What::Exchange { till, receipt, of, price_minor } => {
                if let Some(sale) = self.sold(of) {
                    let draft = drafts::exchange(receipt, &sale, *price_minor);
                    self.ask(till, draft, Asked::Exchange { of: of.clone(), receipt: receipt.clone() });
                }
            }
            What::Void { till, receipt, of } => {
                if let Some(sale) = self.sold(of) {
                    let draft = drafts::void(receipt, &sale);
                    self.ask(till, draft, Asked::Void { of: of.clone(), receipt: receipt.clone() });
                }
            }
            What::Cash { till, receipt, amount_minor } => {
                self.ask(
                    till,
                    drafts::cash(receipt, *amount_minor),
                    Asked::Other { receipt: receipt.clone() },
                );
            }
            What::Close { till, receipt } => {
                self.ask(till, drafts::close(receipt), Asked::Other { receipt: receipt.clone() });
            }
            other => self.strike_or_state(other),
        }
    }
}
