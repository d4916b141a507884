//! One scenario, from the first sale to the last check: its happenings are made to happen in the order of time, what is
//! answered becomes truth, and in the end everything is mended and held against it.

mod lost;

use std::collections::{BTreeMap, BTreeSet};

use engine::host::NotRecorded;
use engine::policy::{Policy, PolicyChange};
use engine::replica::Receipt;
use engine::review::CaseState;
use engine::transaction::{
    Decision, DecisionAction, Draft, HubRecord, Lock, Outcome as PaymentOutcome, Payment,
};

use crate::checks::{self, Broken};
use crate::disk::{Disk, DiskState};
use crate::drafts;
use crate::figures::{self, Ages};
use crate::liar;
use crate::network::{Broken as BrokenTransport, LinkSpeed, Loss, Verdict};
use crate::scenario::{Meddling, Scenario, Timed, What};
use crate::truth::{Sale, Truth};
use crate::watch::Watch;
use crate::world::{Delays, HUB, START_MS, World};

pub use crate::watch::Moment;

/// After mending, everything must be level within this, virtual ms.
const CONVERGENCE_MS: i64 = 15 * 60_000;
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
    /// What each till was asked last: a POS that lost its till sends that again.
    last: BTreeMap<String, Draft>,
    checked_ms: i64,
    /// To whom the present happening happens, and what else is told of it.
    happening: (String, String),
    /// Directions that a partition holds cut now, and when the last outage ended, true ms.
    cut: BTreeSet<(String, String)>,
    outage_ended_ms: Option<i64>,
}

/// What a token stands for until it is answered.
enum Asked {
    Sale(Box<Sale>),
    Refund { of: String, pieces: i64, receipt: String },
    Exchange { of: String, receipt: String },
    Void { of: String, receipt: String },
    Other { receipt: String },
}

impl Asked {
    fn receipt(&self) -> &str {
        match self {
            Self::Sale(sale) => &sale.receipt,
            Self::Refund { receipt, .. }
            | Self::Exchange { receipt, .. }
            | Self::Void { receipt, .. }
            | Self::Other { receipt } => receipt,
        }
    }
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
    let hub = run.world.nodes[HUB].replica().books();
    let mut cases: BTreeMap<String, u64> = BTreeMap::new();
    for case in hub.cases() {
        *cases.entry(case.key.case_type.as_str().to_owned()).or_default() += 1;
    }
    for (rule, times) in &run.world.network.struck {
        *run.struck.entry((*rule).to_owned()).or_default() += times;
    }
    let hub = run.world.nodes[HUB].replica();
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
        let mut world = World::new(&tills, delays, &policy, scenario.seed);
        for node in world.nodes.values_mut() {
            node.speed.bytes_a_ms = speed.bytes_a_ms;
        }
        for till in &tills {
            world.connect(till, HUB);
            world.dial(till, HUB);
        }
        // A till cannot sell before it knows what it is enrolled for.
        world.run_for(10_000);
        world.now_ms = world.now_ms.max(START_MS);
        if watch {
            let mut begun = Watch::default();
            for till in tills.iter().filter(|till| world.connected(till, HUB)) {
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

    fn ask(&mut self, till: &str, draft: Draft, asked: Asked) {
        // Somebody who copied a till sells there too, now and then.
        let till = match self.copies.get(till) {
            Some(copy) if asked.receipt().bytes().last().is_some_and(|digit| digit % 3 == 0) => copy.clone(),
            _ => till.to_owned(),
        };
        if !self.world.nodes[&till].is_up() {
            return;
        }
        self.last.insert(till.clone(), draft.clone());
        let token = self.world.capture(&till, draft);
        self.asked.insert((till.clone(), token), asked);
        let waiting = self.world.nodes[&till].replica().waiting().count;
        self.moment(&till, "capture", waiting);
        let at_ms = self.world.now_ms - START_MS;
        if let Some(watch) = &mut self.world.watch {
            watch.waits(at_ms, &till, waiting);
        }
    }

    /// A sale that a customer has a receipt of.
    fn sold(&self, receipt: &str) -> Option<Sale> {
        self.truth.sales.get(receipt).cloned()
    }

    fn happen(&mut self, timed: &Timed) {
        // A copy of a device is there only once somebody could copy it.
        let missing = |name: &&String| !self.world.nodes.contains_key(*name);
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

    /// What the hub states, and what goes wrong.
    #[expect(clippy::collapsible_match, reason = "what strikes is one thing, whether it can is another")]
    fn strike_or_state(&mut self, what: &What) {
        match what {
            What::Outcome { of, approved } => {
                if self.truth.sales.contains_key(of) {
                    let outcome = if *approved { PaymentOutcome::Approved } else { PaymentOutcome::Declined };
                    let stated =
                        self.world.state(HubRecord::Payment(Payment { payment: format!("P-{of}"), outcome }));
                    self.outcomes.extend(stated.map(|token| (token, (of.clone(), *approved))));
                }
            }
            What::Decide { draw } => self.decide(*draw),
            What::Lock => self.lock(),
            What::Policy { setting } => {
                if let Ok(change) = PolicyChange::parse([setting.as_str()], None, "admin")
                    && self.world.state(HubRecord::Config(change)).is_some()
                {
                    self.strike("policy");
                    self.truth.policy_changed = true;
                }
            }
            What::Revoke { till } => self.revoke(till),
            What::Block { from, to } => {
                if self.world.nodes.contains_key(from) && self.world.nodes.contains_key(to) {
                    let now_ms = self.world.now_ms;
                    self.world.network.block(from, to, now_ms);
                    self.cut.insert((from.clone(), to.clone()));
                    self.strike("partition");
                    self.tell(if from == HUB { to } else { from }, "block", 0, from.clone());
                }
            }
            What::Open { from, to } => {
                self.world.network.unblock(from, to);
                if self.cut.remove(&(from.clone(), to.clone())) {
                    self.outage_ended_ms = Some(self.world.now_ms);
                }
                self.tell(if from == HUB { to } else { from }, "open", 0, from.clone());
            }
            What::Gossip { one, two } => {
                if self.world.network.is_open(one, two) && one != two {
                    self.world.connect(one, two);
                    self.strike("gossip");
                }
            }
            What::Crash { node, down_ms, survive } => self.crash(node, *down_ms, *survive),
            What::Restart { node } => {
                if self.world.nodes[node].is_up() {
                    self.collect();
                    self.world.shut_down(node);
                    self.start(node);
                    self.strike("restart");
                }
            }
            What::DiskHangs { node } => self.disk(node, DiskState::Hangs, "disk-hangs"),
            What::SyncFails { node } => self.disk(node, DiskState::SyncFails, "sync-fails"),
            What::DiskFull { node } => self.disk(node, DiskState::Full, "disk-full"),
            What::Rot { node, draw } => self.rot(node, *draw),
            What::Backup { node } => {
                let held = self.held_by(node);
                self.backups.insert(node.clone(), (self.world.backup(node), held));
            }
            What::RestoreBackup { node } => self.restore_backup(node),
            What::Wipe { till } => {
                if self.world.nodes[HUB].is_up() {
                    self.lose_device(till, &BTreeSet::new());
                    self.world.wipe(till);
                    self.truth.suspicious.insert(till.clone());
                    self.strike("wipe");
                }
            }
            What::CloneDevice { till, copy } => {
                if !self.world.nodes.contains_key(copy) && self.world.nodes[till].is_up() {
                    self.world.clone_device(till, copy);
                    self.world.dial(copy, HUB);
                    self.copies.insert(till.clone(), copy.clone());
                    self.truth.suspicious.extend([till.clone(), copy.clone()]);
                    self.strike("clone");
                }
            }
            What::Clock { node, ahead_ms } => {
                let now_ms = self.world.now_ms;
                let shows_ms = if *ahead_ms == i64::MIN { 0 } else { (now_ms + ahead_ms).max(0) };
                self.world.node(node).clock.set(now_ms, shows_ms);
                self.truth.suspicious.insert(node.clone());
                self.strike(if *ahead_ms == i64::MIN { "clock-1970" } else { "clock-jump" });
            }
            What::Drift { node, ppm } => {
                let now_ms = self.world.now_ms;
                let clock = &mut self.world.node(node).clock;
                (clock.drift_ppm, clock.since_ms) = (*ppm, now_ms);
                self.strike("drift");
            }
            What::Slow { node, disk_ms, link_ms, bytes_a_ms } => {
                let slow = self.world.node(node);
                slow.disk_ms = (0, (*disk_ms).max(0));
                slow.speed = LinkSpeed { delay_ms: (1, (*link_ms).max(1)), bytes_a_ms: *bytes_a_ms };
                self.strike("slow");
            }
            What::Loss { percent } => self.world.network.meddle(Box::new(Loss { percent: *percent })),
            What::Meddle { how, once_in } => {
                let how = match how {
                    Meddling::Duplicate => Verdict::Twice,
                    Meddling::Reorder => Verdict::Overtake,
                    Meddling::Drop => Verdict::Lost,
                };
                self.world.network.meddle(Box::new(BrokenTransport { once_in: *once_in, how }));
            }
            What::Lie { till, how } => {
                if liar::lie(&mut self.world, &mut self.truth, till, *how) {
                    self.strike("lie");
                }
            }
            What::Heal => self.heal(),
            _ => {}
        }
    }

    fn disk(&mut self, node: &str, state: DiskState, name: &str) {
        if self.world.nodes[node].is_up() {
            self.world.node(node).disk.state = state;
            self.strike(name);
        }
    }

    fn crash(&mut self, node: &str, down_ms: i64, survive: usize) {
        if !self.world.nodes.contains_key(node) || !self.world.nodes[node].is_up() {
            return;
        }
        self.collect();
        let unsynced = self.world.nodes[node].disk.unsynced();
        self.world.stop(node, survive.min(unsynced));
        self.strike(if survive > 0 && unsynced > 0 { "torn-write" } else { "crash" });
        // The others trade on meanwhile.
        self.restarts.insert((self.world.now_ms + down_ms.max(1), node.to_owned()));
    }

    fn heal(&mut self) {
        self.world.network.heal();
        self.moment(HUB, "heal", 0);
        if !self.cut.is_empty() {
            self.cut.clear();
            self.outage_ended_ms = Some(self.world.now_ms);
        }
    }

    fn start(&mut self, node: &str) {
        self.outage_ended_ms = Some(self.world.now_ms);
        // What rot has eaten is found at the start: the device is given up.
        if self.world.start(node).is_err() {
            self.give_up(node);
        }
        self.abandon(node);
    }

    /// What was asked before power failed and not answered may or may not have happened. The cashier looks at the till
    /// afterwards, as people do, and counts what it holds.
    fn abandon(&mut self, node: &str) {
        let unanswered: Vec<(String, u64)> =
            self.asked.keys().filter(|(till, _)| till == node).cloned().collect();
        let last = self.last.remove(node);
        let mut again = None;
        for key in unanswered {
            let Some(asked) = self.asked.remove(&key) else { continue };
            let kept = self.world.nodes[node].replica().own_record(asked.receipt()).cloned();
            if let Some(record) = kept {
                let receipt = Receipt {
                    id: record.id,
                    receipt: record.transaction.receipt.clone(),
                    seq: record.seq,
                    business_day: record.business_day,
                    repeated: false,
                };
                self.acknowledge(node, asked, &receipt);
            } else if last.as_ref().is_some_and(|draft| draft.transaction.receipt == asked.receipt()) {
                again = Some(asked);
            }
        }
        // The POS sends its last basket again, because it cannot know whether the till has recorded it.
        if let Some(draft) = last {
            let receipt = draft.transaction.receipt.clone();
            let token = self.world.capture(node, draft);
            self.asked.insert((node.to_owned(), token), again.unwrap_or(Asked::Other { receipt }));
        }
    }

    fn rot(&mut self, node: &str, draw: u64) {
        // A damaged device is enrolled anew, so the hub has to be there.
        if node == HUB || !self.world.nodes[node].is_up() || !self.world.nodes[HUB].is_up() {
            return;
        }
        self.collect();
        self.world.stop(node, 0);
        if self.world.node(node).disk.rot(draw).is_some() {
            self.strike("rot");
        }
        self.start(node);
    }

    /// A damaged device is enrolled anew; what only it held is gone.
    fn give_up(&mut self, node: &str) {
        self.lose_device(node, &BTreeSet::new());
        self.world.wipe(node);
        self.truth.suspicious.insert(node.to_owned());
        self.strike("rot-found");
    }

    fn revoke(&mut self, till: &str) {
        if !self.world.nodes[HUB].is_up() || !self.revoked.insert(till.to_owned()) {
            return;
        }
        let log = self.world.nodes[till].identity().log.clone();
        let last_valid_seq = self.world.nodes[HUB].replica().log_heads().get(&log).copied().unwrap_or(0);
        let record =
            HubRecord::Revoke { terminal: log.terminal, incarnation: Some(log.incarnation), last_valid_seq };
        if self.world.state(record).is_some() {
            self.truth.suspicious.insert(till.to_owned());
            self.strike("revoke");
        }
    }

    fn decide(&mut self, draw: u64) {
        if !self.world.nodes[HUB].is_up() {
            return;
        }
        let replica = self.world.node(HUB).replica_mut();
        let open: Vec<_> =
            replica.books().cases().filter(|case| case.state == CaseState::Open).cloned().collect();
        let Some(case) = usize::try_from(draw % open.len().max(1) as u64).ok().and_then(|at| open.get(at))
        else {
            return;
        };
        let options = replica.options(case);
        let draw = draw / 7;
        let Some(option) =
            usize::try_from(draw % options.len().max(1) as u64).ok().and_then(|at| options.get(at))
        else {
            return;
        };
        let decision = Decision {
            number: replica.books().next_decision_number(),
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            case_version: Some(case.version),
            member: option.choice.member,
            action: option.choice.action,
            parameter: (option.choice.action == DecisionAction::Classify)
                .then(|| "Expenses:Other".to_owned()),
            terminal: None,
            reviewer: "anna".to_owned(),
            approver: Some("bert".to_owned()),
            reason: "drawn".to_owned(),
        };
        if self.world.state(HubRecord::Decision(decision)).is_some() {
            self.truth.decided = true;
            self.strike("decide");
        }
    }

    fn lock(&mut self) {
        if !self.world.nodes[HUB].is_up() {
            return;
        }
        let today = self.world.nodes[HUB].clock.shows(self.world.now_ms).day();
        let books = self.world.nodes[HUB].replica().books();
        if books.open_day().is_some_and(|open| open >= today) {
            return;
        }
        let lock = Lock { number: books.next_lock_number(), heads: books.lock_heads(today), open_day: today };
        if self.world.state(HubRecord::Lock(lock)).is_some() {
            self.truth.locked = true;
            self.strike("lock");
        }
    }

    /// Takes the answers that nodes have given.
    fn collect(&mut self) {
        let answered: Vec<(String, u64, Result<Receipt, NotRecorded>)> = self
            .world
            .nodes
            .values_mut()
            .flat_map(|node| {
                let name = node.name.clone();
                std::mem::take(&mut node.answers)
                    .into_iter()
                    .map(move |(token, result)| (name.clone(), token, result))
            })
            .collect();
        for (till, token, result) in answered {
            if let (Some((of, approved)), Ok(_)) = (self.outcomes.remove(&token), &result)
                && let Some(sale) = self.truth.sales.get_mut(&of)
            {
                sale.outcome = Some(approved);
            }
            let Some(asked) = self.asked.remove(&(till.clone(), token)) else { continue };
            if let Ok(receipt) = result {
                self.acknowledge(&till, asked, &receipt);
            }
        }
    }

    fn acknowledge(&mut self, till: &str, asked: Asked, receipt: &Receipt) {
        self.truth.acknowledge(till, &receipt.receipt, receipt.id);
        match asked {
            Asked::Sale(mut sale) => {
                sale.id = receipt.id;
                till.clone_into(&mut sale.till);
                self.truth.sales.insert(sale.receipt.clone(), *sale);
            }
            Asked::Refund { of, pieces, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.returned += pieces;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Exchange { of, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.returned += 1;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Void { of, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.voids += 1;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Other { .. } => {}
        }
    }

    /// Everything works again; gives how long it took until everybody was level.
    fn mend(&mut self) -> Result<i64, Broken> {
        self.heal();
        self.happening = (HUB.to_owned(), "found while mending".to_owned());
        let names: Vec<String> = self.world.nodes.keys().cloned().collect();
        for name in &names {
            let node = self.world.node(name);
            node.disk_ms = (0, 4);
            node.speed = LinkSpeed { delay_ms: (1, 20), bytes_a_ms: 0 };
            let host_failed = node.host().is_some_and(|host| host.failed().is_some());
            if !node.is_up()
                || node.disk.state != DiskState::Works
                || host_failed
                || node.disk.on_their_way() > 0
            {
                self.collect();
                self.world.stop(name, 0);
                self.start(name);
            }
        }
        // Two devices with one key take turns at the hub; the copy is found and switched off once it is empty.
        let from_ms = self.world.now_ms;
        let copies: Vec<String> = self.copies.values().cloned().collect();
        for copy in copies {
            for name in [copy.trim_end_matches("-copy"), copy.as_str()] {
                self.world.connect(name, HUB);
                self.world.run_for(30_000);
            }
            self.collect();
            self.world.node(&copy).dials = None;
            self.world.stop(&copy, 0);
            // Nobody takes its place any more.
            self.world.connect(copy.trim_end_matches("-copy"), HUB);
        }
        let until_ms = self.world.now_ms + CONVERGENCE_MS;
        while self.world.now_ms < until_ms {
            self.world.run_for(15_000);
            if checks::is_level(&self.world) {
                break;
            }
        }
        self.collect();
        if !checks::is_level(&self.world) {
            let waits: Vec<String> = checks::not_level(&self.world);
            return Err(Broken::new(
                "everybody is level within bounded time after mending",
                waits.join("; "),
            ));
        }
        let took_ms = self.world.now_ms - from_ms;
        self.world.run_for(30_000);
        Ok(took_ms)
    }
}
