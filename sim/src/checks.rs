//! What must hold: at every turn, and once everything is mended. Each check names its invariant in words; a test breaks
//! convergence on purpose and watches it complain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::batch::Sealed;
use engine::document::Document;
use engine::entry::Entry;
use engine::ids::LogId;
use engine::ledger::{Account, Books, Standing};
use engine::money::Currency;
use engine::policy::Policy;
use engine::record::Record;
use engine::replica::{Replica, Waiting};
use engine::review::Reason;

use crate::books_model;
use crate::compare;
use crate::disk::Disk;
use crate::kpis;
use crate::truth::Truth;
use crate::world::{Company, Node, World, is_hub};

/// Records that a till may hold unsealed, and batches a peer may be owed: bounds on memory.
const QUEUE_LIMIT: u64 = 100_000;

/// Balances of accounts, debit positive.
pub type Balances = BTreeMap<(Account, Currency), i128>;

/// An invariant that does not hold, with what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which invariant, in words.
    pub invariant: &'static str,
    /// What was found instead.
    pub found: String,
}

impl Broken {
    /// An invariant and what was found instead.
    pub fn new(invariant: &'static str, found: impl Into<String>) -> Self {
        Self { invariant, found: found.into() }
    }

    /// Whether another failure is the same one: the same invariant, and for a panic the same line of code.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let place = |broken: &Self| broken.found.split(": ").next().map(str::to_owned);
        self.invariant == other.invariant && (self.invariant != NO_PANIC || place(self) == place(other))
    }
}

/// The invariant that a run breaks when the engine stops itself; what is found begins with the line of code.
pub const NO_PANIC: &str = "no node stops over an assertion of its own";

/// Every invariant that a run is held against, in words, in the order of the checks.
pub const CHECKED: &[&str] = &[
    "the trial balance is zero",
    "custody says what is so",
    "queues are bounded",
    "a till counts what waits",
    "what a liar brings is never seen",
    "what was acknowledged is held where it was acknowledged",
    "everybody is level within bounded time after mending",
    "documents apply",
    "Automerge agrees with the batches",
    "every node holds the same documents",
    "every node has the same books",
    "what was acknowledged is in the books",
    "what was acknowledged is in the books once",
    "the hub's disk is whole",
    "nothing is committed under an old fence",
    "the database has what hubs were told",
    "every till is served again within 10 s",
    "every log is at one hub, and the hubs share them evenly",
    "a hub has what its log in the database has",
    "the journal is a chain",
    "the journal adds up to the books",
    "suspense explains itself",
    "every planted conflict is flagged",
    "every basket rung twice is flagged",
    "every failed payment is flagged",
    "nothing honest is held",
    "the Z of an honest till agrees",
    "causes come before effects",
    kpis::LATENCY,
    kpis::CAPTURES,
    kpis::RECONCILIATION,
    "the plain model of the rules agrees",
    NO_PANIC,
];

/// At every turn: books balance on every node, custody says what is so, nothing acknowledged is missing where it was
/// acknowledged, no lie is seen, queues are bounded.
///
/// # Errors
/// The first invariant that does not hold.
pub fn at_every_turn(world: &World, truth: &Truth) -> Result<(), Broken> {
    let hub = world.hub_node();
    let hub_heads = hub.is_up().then(|| hub.replica().log_heads());
    for node in world.nodes.values().filter(|node| node.is_up()) {
        let replica = node.replica();
        balances_to_zero(&node.name, &replica.books().balances())?;
        if let Some(heads) = hub_heads.as_ref().filter(|_| !truth.hub_lost && !is_hub(&node.name)) {
            let (believed, there) =
                (replica.at_hub_through(), heads.get(&replica.identity().log).copied().unwrap_or(0));
            if believed > there {
                let found = format!("{} believes {believed}, the hub has {there}", node.name);
                return Err(Broken::new("custody says what is so", found));
            }
        }
        let queued = replica.unsealed_count() as u64;
        if queued > QUEUE_LIMIT {
            return Err(Broken::new("queues are bounded", format!("{} holds {queued} unsealed", node.name)));
        }
        for lie in &truth.lies {
            if !replica.books().find_receipt(lie).is_empty() {
                return Err(Broken::new(
                    "what a liar brings is never seen",
                    format!("{} has {lie}", node.name),
                ));
            }
        }
    }
    // One till a turn, another one each time: counting what waits at a hundred every time takes longer than all they do.
    let tills: Vec<&Node> = up_tills(world).collect();
    let turn = usize::try_from(world.now_ms).unwrap_or(0);
    if let Some(node) = turn.checked_rem(tills.len()).map(|at| tills[at]) {
        // From here on it keeps the rows' sums up to date, and those of the end are no fresh ones.
        let _ = node.replica().books().view_hash();
        counts_what_waits(&node.name, node.replica())?;
    }
    // A till whose log forked may know better than the branch that its number came from.
    if let Some((_, found)) = world.overstated.iter().find(|row| !truth.forked.contains(row.0)) {
        return Err(Broken::new("custody says what is so", found.clone()));
    }
    for (receipt, (id, till)) in &truth.acknowledged {
        let Some(node) = world.nodes.get(till).filter(|node| node.is_up()) else { continue };
        let here = node.replica().books().record(id).is_some();
        if !here && !truth.destroyed.contains(receipt) && !truth.suspicious.contains(till) {
            let found = format!("{till} acknowledged {receipt} and does not hold it");
            return Err(Broken::new("what was acknowledged is held where it was acknowledged", found));
        }
    }
    world.company.as_deref().map_or(Ok(()), hubs_keep_order)
}

fn up_tills(world: &World) -> impl Iterator<Item = &Node> {
    world.nodes.values().filter(|node| node.is_up() && !is_hub(&node.name))
}

/// What a till says that waits is what its records come to, counted one by one.
///
/// # Errors
/// It says something else.
pub fn counts_what_waits(name: &str, replica: &Replica) -> Result<(), Broken> {
    let mut plain = Waiting::default();
    for record in replica.waiting_records() {
        plain.count += 1;
        plain.oldest_ms = plain.oldest_ms.or(Some(record.at.ms));
        if let Some(basket) = record.transaction.basket() {
            let signed = basket.total_minor() * record.transaction.direction();
            *plain.value_minor.entry(basket.currency).or_default() += signed;
        }
    }
    let said = replica.waiting();
    if said == plain {
        return Ok(());
    }
    Err(Broken::new("a till counts what waits", format!("{name} says {said:?}, its records are {plain:?}")))
}

/// Of several hubs, at every turn: no append came into a log that another had claimed since, the database has what hubs were
/// told, and every till that could be served is.
///
/// # Errors
/// The first of these that does not hold.
pub fn hubs_keep_order(company: &Company) -> Result<(), Broken> {
    if let Some(late) = company.database.late.first() {
        return Err(Broken::new("nothing is committed under an old fence", late.clone()));
    }
    if let Some(behind) = &company.behind {
        return Err(Broken::new("the database has what hubs were told", behind.clone()));
    }
    company.unserved.as_ref().map_or(Ok(()), |unserved| {
        Err(Broken::new("every till is served again within 10 s", unserved.clone()))
    })
}

/// Of several hubs, at the end: each log is at one of them that lives, as evenly as the plan wants; the one that serves the
/// store has what the database has; and what any of them said is recorded is in the books.
///
/// # Errors
/// The first of these that does not hold.
pub fn hubs_are_level(world: &World, company: &Company) -> Result<(), Broken> {
    if let Some(found) = company.not_spread(world.now_ms).into_iter().next() {
        return Err(Broken::new("every log is at one hub, and the hubs share them evenly", found));
    }
    let hub = world.hub_node();
    if !hub.disk.holds_the_same(company.database.log(company.shard)) {
        let found = format!("{} has {} lines, or others", hub.name, hub.disk.durable());
        return Err(Broken::new("a hub has what its log in the database has", found));
    }
    let books = hub.replica().books();
    match company.stated.iter().find(|id| books.record(id).is_none()) {
        None => Ok(()),
        Some(id) => {
            let found = format!("the hub's own record {id} was acknowledged and is not there");
            Err(Broken::new("what was acknowledged is in the books", found))
        }
    }
}

/// Debits equal credits.
///
/// # Errors
/// They do not.
pub fn balances_to_zero(name: &str, balances: &Balances) -> Result<(), Broken> {
    let sum: i128 = balances.values().sum();
    if sum == 0 {
        return Ok(());
    }
    Err(Broken::new("the trial balance is zero", format!("{name} is off by {sum}")))
}

/// Whether nothing waits anywhere and every node holds the same.
#[must_use]
pub fn is_level(world: &World) -> bool {
    not_level(world).is_empty()
}

/// What keeps everybody from being level.
#[must_use]
pub fn not_level(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    if !world.hub_serves() {
        return vec!["no hub serves the store".to_owned()];
    }
    let hub = world.hub_node().replica().digest();
    let hub_heads = world.hub_node().replica().log_heads();
    for node in world.nodes.values().filter(|node| node.is_up()) {
        let waiting = node.replica().waiting().count;
        let refused = node.events.iter().rev().find_map(|event| match event {
            engine::replica::SyncEvent::Refused { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        let linked: Vec<&str> = world.network.linked_to(&node.name).collect();
        if waiting > 0 {
            let hub = node.replica().peers().find(|(_, state)| state.is_level() || state.owes().is_some());
            let talk = hub.map(|(_, state)| (state.owes(), state.backlog(), state.is_level()));
            found.push(format!(
                "{} has {waiting} waiting ({} unsealed) of {:?} behind {}, linked to {linked:?} (owed, backlog, level: {talk:?}), \
                 last refusal {refused:?}",
                node.name,
                node.replica().unsealed_count(),
                node.replica().log_heads().get(&node.replica().identity().log),
                node.replica().at_hub_through(),
            ));
        }
        if node.replica().digest() != hub {
            found.push(format!(
                "{} holds other batches than the hub (heads {:?}, the hub's {hub_heads:?}), linked to {linked:?}, \
                 last refusal {refused:?}",
                node.name,
                node.replica().log_heads(),
            ));
        }
    }
    found
}

/// Once everything is mended and quiet.
///
/// # Errors
/// The first invariant that does not hold.
pub fn at_the_end(world: &mut World, truth: &Truth) -> Result<(), Broken> {
    at_every_turn(world, truth)?;
    up_tills(world).try_for_each(|node| counts_what_waits(&node.name, node.replica()))?;
    same_everywhere(world)?;
    let hub = world.hub_node();
    documents_hold_the_batches(&hub.disk, hub.replica())?;
    if let Some(company) = &world.company {
        hubs_are_level(world, company)?;
    }
    let (disk, hub) = (&hub.disk, hub.replica().books());
    acknowledged_once(hub, truth)?;
    if !truth.hub_lost {
        journal_adds_up(disk, &hub.balances())?;
    }
    suspense_explains_itself(hub, &hub.balances())?;
    conflicts_are_flagged(hub, truth)?;
    honest_is_not_held(hub, truth)?;
    closes_agree(hub, truth)?;
    causes_come_first(hub)?;
    kpis::latency_is_true(world, truth)?;
    kpis::captures_are_true(world, truth)?;
    kpis::reconciliation_is_true(world, truth)?;
    model_agrees(&world.policy, hub)
}

/// Equal documents, equal to what the batches imply, and equal books.
///
/// # Errors
/// Two nodes differ.
pub fn same_everywhere(world: &mut World) -> Result<(), Broken> {
    let mut views = Vec::new();
    for node in world.nodes.values_mut().filter(|node| node.is_up()) {
        let name = node.name.clone();
        let heads =
            node.document_heads().map_err(|error| Broken::new("documents apply", error.to_string()))?;
        let replica = node.replica();
        for (day, document) in replica.days() {
            if heads.get(&day) != Some(&document.implied_heads()) {
                return Err(Broken::new("Automerge agrees with the batches", format!("{name} on {day}")));
            }
        }
        views.push((name, replica.digest(), heads, replica.books().view_hash()));
    }
    for pair in views.windows(2) {
        if (pair[0].1, &pair[0].2) != (pair[1].1, &pair[1].2) {
            let found = format!("{} and {} differ", pair[0].0, pair[1].0);
            return Err(Broken::new("every node holds the same documents", found));
        }
        if pair[0].3 != pair[1].3 {
            let found = format!("{} and {} differ", pair[0].0, pair[1].0);
            return Err(Broken::new("every node has the same books", found));
        }
    }
    Ok(())
}

/// What Automerge gives back of every session is what its batches on the hub's disk say, page after page.
///
/// # Errors
/// A batch is not there, or another.
pub fn documents_hold_the_batches(disk: &Disk, hub: &Replica) -> Result<(), Broken> {
    let mut expected: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    let mut by_day: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in disk.read().unwrap_or_default() {
        let Entry::Batch(admitted) = entry else { continue };
        if let Ok(sealed) = Sealed::reopen(Arc::from(admitted.bytes.as_slice())) {
            let (day, writer, session) = (sealed.batch.day, sealed.batch.writer, sealed.batch.session());
            expected.entry((day, writer, session)).or_default().push(admitted.bytes.clone());
            by_day.entry(day).or_default().push((writer, session, admitted.bytes));
        }
    }
    // What is not in memory any more is applied from the log, as a reader would have it.
    let mut documents: BTreeMap<_, Document> = BTreeMap::new();
    for (day, document) in hub.days().filter(|row| row.1.is_released()) {
        let mut read = Document::resumed(hub.identity().store.clone(), day, document.chains());
        let batches = by_day.remove(&day).unwrap_or_default();
        let batches = batches.iter().map(|(writer, session, bytes)| (*writer, *session, bytes.as_slice()));
        read.apply_batches(batches).map_err(|error| Broken::new("documents apply", error.to_string()))?;
        documents.insert(day, read);
    }
    let in_memory: BTreeMap<_, &Document> = hub.days().filter(|row| !row.1.is_released()).collect();
    for ((day, writer, session), batches) in expected {
        let document = documents.get(&day).or_else(|| in_memory.get(&day).copied());
        if document.is_none_or(|document| document.batches(&writer, &session) != batches) {
            let found = format!("{} batches of session {session} on {day}", batches.len());
            return Err(Broken::new("the documents hold every batch", found));
        }
    }
    Ok(())
}

/// What a till had received when it acted comes before that act, whatever the clocks said.
///
/// # Errors
/// An effect stands before its cause.
pub fn causes_come_first(hub: &Books) -> Result<(), Broken> {
    let arrivals: Vec<_> = hub.arrivals().collect();
    let mut times: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (record, _) in &arrivals {
        times.entry((&record.log, record.seq)).or_default().push(record.effective_ms);
    }
    // Where a log forked, what was known is kept by number, for both branches as one.
    let forked = |record: &Record| times[&(&record.log, record.seq)].len() > 1;
    for (record, seen) in arrivals.iter().filter(|row| !forked(&row.0)) {
        let later = |(log, seq): &&(LogId, u64)| {
            times.get(&(log, *seq)).is_some_and(|all| all.iter().all(|ms| *ms >= record.effective_ms))
        };
        if let Some((log, seq)) = seen.iter().find(later) {
            let found = format!("{} {} knew {log} {seq} and stands before it", record.log, record.seq);
            return Err(Broken::new("causes come before effects", found));
        }
    }
    Ok(())
}

/// Every acknowledged receipt is in the books, once.
///
/// # Errors
/// One is not, or more often.
pub fn acknowledged_once(hub: &Books, truth: &Truth) -> Result<(), Broken> {
    for (receipt, (id, till)) in &truth.acknowledged {
        if truth.destroyed.contains(receipt) {
            continue;
        }
        if hub.record(id).is_none() {
            let found = format!("receipt {receipt} of {till} was acknowledged as {id} and is not at the hub");
            return Err(Broken::new("what was acknowledged is in the books", found));
        }
        let same = hub.find_receipt(receipt);
        if same.len() > 1 && !truth.suspicious.contains(till) {
            let found = format!("receipt {receipt} of {till} is there {} times", same.len());
            return Err(Broken::new("what was acknowledged is in the books once", found));
        }
    }
    Ok(())
}

/// ΣJ = D(S): the journal on the hub's disk is a chain and adds up to the books.
///
/// # Errors
/// It does not.
pub fn journal_adds_up(disk: &Disk, balances: &Balances) -> Result<(), Broken> {
    let entries =
        disk.read().map_err(|rotten| Broken::new("the hub's disk is whole", format!("{rotten:?}")))?;
    let mut sums: BTreeMap<(Account, Currency), i128> = BTreeMap::new();
    let (mut number, mut prev) = (0, [0; 32]);
    for entry in entries {
        let Entry::Journal(run) = entry else { continue };
        let run = run.entries().map_err(|error| Broken::new("the journal is a chain", error.to_string()))?;
        for entry in run {
            if (entry.number, entry.prev, entry.hash) != (number + 1, prev, entry.expected_hash()) {
                return Err(Broken::new(
                    "the journal is a chain",
                    format!("entry {} does not follow {number}", entry.number),
                ));
            }
            (number, prev) = (entry.number, entry.hash);
            for posting in entry.postings {
                *sums.entry((posting.account, posting.currency)).or_default() +=
                    i128::from(posting.amount_minor);
            }
        }
    }
    sums.retain(|_, sum| *sum != 0);
    if sums == *balances {
        Ok(())
    } else {
        Err(Broken::new("the journal adds up to the books", "it does not"))
    }
}

/// The suspense balance is the reason side of what is held and recorded differences, to the penny.
///
/// # Errors
/// There is more or less in suspense than that.
pub fn suspense_explains_itself(hub: &Books, balances: &Balances) -> Result<(), Broken> {
    let suspense: i128 =
        balances.iter().filter(|((account, _), _)| account.is_suspense()).map(|row| *row.1).sum();
    let (mut held, mut differences) = (0, 0);
    for (record, _) in hub.arrivals() {
        let own: i128 = hub
            .postings_of(&record.id)
            .iter()
            .filter(|posting| posting.account.is_suspense())
            .map(|posting| i128::from(posting.amount_minor))
            .sum();
        // A void of a held record follows it into suspense and nets it there.
        let target = || record.transaction.original().and_then(|original| hub.resolve(original));
        let named = || {
            let id = target().unwrap_or(record.id);
            hub.cases().any(|case| case.members.contains(&record.id) || case.members.contains(&id))
        };
        // The void of a sale that is held goes where the sale went.
        let original = || record.transaction.original().and_then(|reference| hub.resolve(reference));
        let follows = || original().is_some_and(|id| hub.standing(&id) == Some(Standing::InReview));
        if own != 0 && (hub.standing(&record.id) == Some(Standing::InReview) || follows()) {
            held += own;
        } else if own != 0 && named() {
            differences += own;
        }
    }
    if suspense == held + differences {
        return Ok(());
    }
    let found = format!("suspense is {suspense}; held records explain {held}, differences {differences}");
    Err(Broken::new("suspense explains itself", found))
}

/// Receipts of a sale and everything done to it.
fn around(sale: &crate::truth::Sale) -> impl Iterator<Item = &String> {
    std::iter::once(&sale.receipt).chain(&sale.reversals)
}

fn in_a_case(hub: &Books, receipt: &str) -> bool {
    let flags = |case: &&engine::review::Case| {
        Reason::ALL.iter().any(|reason| reason.case_type() == case.key.case_type)
    };
    let ids = hub.find_receipt(receipt);
    // Once a reviewer lifted the hold, the record is a member still.
    hub.cases().filter(flags).any(|case| ids.iter().any(|id| case.members.contains(id)))
}

/// Where a sale and everything around it stands, for a message.
fn stands(hub: &Books, sale: &crate::truth::Sale) -> String {
    let one = |receipt: &String| {
        let ids = hub.find_receipt(receipt);
        let standing: Vec<_> = ids
            .iter()
            .map(|id| (hub.record(id).map(|it| (it.log.clone(), it.seq)), hub.standing(id)))
            .collect();
        let cases: Vec<_> = hub
            .cases()
            .filter(|case| ids.iter().any(|id| case.members.contains(id)))
            .map(|case| format!("{} {}", case.key.case_type, case.state.as_str()))
            .collect();
        format!("{receipt}: {standing:?} in {cases:?}")
    };
    around(sale).map(one).collect::<Vec<_>>().join("; ")
}

/// Whatever was reversed beyond what was sold, rung twice or not paid is in front of a reviewer.
///
/// # Errors
/// Something escaped.
pub fn conflicts_are_flagged(hub: &Books, truth: &Truth) -> Result<(), Broken> {
    let gone = |receipt: &String| truth.destroyed.contains(receipt);
    for sale in truth.sales.values().filter(|sale| sale.is_mischief()) {
        if !around(sale).any(gone) && !around(sale).any(|receipt| in_a_case(hub, receipt)) {
            return Err(Broken::new("every planted conflict is flagged", format!("{sale:?} escaped")));
        }
    }
    for sales in truth.doubled() {
        let flagged = sales.iter().any(|sale| around(sale).any(|receipt| in_a_case(hub, receipt)));
        if !flagged && !sales.iter().any(|sale| gone(&sale.receipt)) {
            let stands: Vec<String> = sales.iter().map(|sale| stands(hub, sale)).collect();
            return Err(Broken::new("every basket rung twice is flagged", format!("{stands:?} escaped")));
        }
    }
    for sale in truth.sales.values() {
        let failed = sale.outcome == Some(false) && sale.voids == 0 && sale.returned == 0;
        if failed && !gone(&sale.receipt) && !truth.hub_lost {
            let subject = format!("P-{}", sale.receipt);
            let flagged = hub.cases().any(|case| case.key.subject == subject);
            if !flagged && !in_a_case(hub, &sale.receipt) {
                return Err(Broken::new("every failed payment is flagged", format!("{subject} escaped")));
            }
        }
    }
    Ok(())
}

/// What honest people did at honest devices is posted, not held.
///
/// # Errors
/// Something is held.
pub fn honest_is_not_held(hub: &Books, truth: &Truth) -> Result<(), Broken> {
    if truth.policy_changed || truth.locked {
        return Ok(());
    }
    let doubled: BTreeSet<&str> =
        truth.doubled().iter().flatten().flat_map(|sale| around(sale)).map(String::as_str).collect();
    let till_of = |receipt: &String| truth.acknowledged.get(receipt).map(|row| row.1.as_str());
    for sale in truth.sales.values().filter(|sale| !sale.is_mischief()) {
        let doubtful = |receipt: &String| {
            truth.destroyed.contains(receipt)
                || till_of(receipt).is_none_or(|till| truth.suspicious.contains(till))
                || doubled.contains(receipt.as_str())
        };
        // A wrong clock anywhere may put a void behind a close in the canonical order.
        if around(sale).any(doubtful) || (sale.voids > 0 && !truth.suspicious.is_empty()) {
            continue;
        }
        let held = around(sale).find(|receipt| {
            hub.find_receipt(receipt).iter().any(|id| hub.standing(id) == Some(Standing::InReview))
        });
        if let Some(receipt) = held {
            let why: Vec<String> = hub
                .cases()
                .filter(|case| case.members.iter().any(|id| hub.find_receipt(receipt).contains(id)))
                .map(|case| format!("{} {}", case.key.case_type, case.about))
                .collect();
            return Err(Broken::new(
                "nothing honest is held",
                format!("{receipt} of {sale:?} is held: {why:?}"),
            ));
        }
    }
    Ok(())
}

/// An honest till's Z agrees with its records.
///
/// # Errors
/// One does not.
pub fn closes_agree(hub: &Books, truth: &Truth) -> Result<(), Broken> {
    let mismatch = |case: &&engine::review::Case| case.key.case_type == engine::review::CaseType::ZMismatch;
    for case in hub.cases().filter(mismatch) {
        let tills: Vec<String> = case
            .members
            .iter()
            .filter_map(|id| hub.record(id))
            .map(|record| record.log.terminal.to_string())
            .collect();
        if !tills.iter().any(|till| truth.suspicious.contains(till)) {
            let check = case.members.iter().next().and_then(|id| hub.z_check(id));
            return Err(Broken::new("the Z of an honest till agrees", format!("{}: {check:?}", case.about)));
        }
    }
    Ok(())
}

/// The plain model of the rules, given the same records, has the same books.
///
/// # Errors
/// It has others.
pub fn model_agrees(policy: &Policy, hub: &Books) -> Result<(), Broken> {
    let arrivals: Vec<_> = hub.arrivals().collect();
    let model = books_model::project(&arrivals, policy);
    let differences = compare::differences(&compare::in_plain_words(hub, &model), &model);
    match differences.first() {
        None => Ok(()),
        Some(first) => Err(Broken::new("the plain model of the rules agrees", first.clone())),
    }
}
