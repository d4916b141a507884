//! The hub's KPI figures (LEDGER-RULES section 15) against the known truth: when a record was really written and when it
//! really arrived, how many numbers each till really used, what it really took. The truth is that of disks and of what
//! cashiers were told; of the hub only the figures are taken, and which record stands in which batch. Tills whose
//! clock, device or right was tampered with are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::batch::Sealed;
use engine::entry::Entry;
use engine::ids::LogId;
use engine::kpi::{Latency, Sample};
use engine::ledger::Books;
use engine::record::Record;
use engine::transaction::{Body, HubRecord};

use crate::checks::Broken;
use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::figures::{self, Spread};
use crate::truth::{Rung, Truth};
use crate::world::{Node, World, is_hub};

/// How late data is.
pub const LATENCY: &str = "the hub's latency figures are true";
/// How much of what tills committed was captured.
pub const CAPTURES: &str = "the hub's capture figures are true";
/// How often books and control totals differ.
pub const RECONCILIATION: &str = "the hub's reconciliation figures are true";

fn honest<'a>(world: &'a World, truth: &'a Truth) -> impl Iterator<Item = &'a Node> {
    world.nodes.values().filter(|node| !is_hub(&node.name) && !truth.suspicious.contains(&*node.name))
}

/// When each number of a till's log was first on its disk, true ms.
fn written(node: &Node) -> BTreeMap<u64, i64> {
    let mut written = BTreeMap::new();
    for (at_ms, entry) in node.disk.read_with_times().unwrap_or_default() {
        match entry {
            Entry::Captured(captured) => {
                written.entry(captured.seq).or_insert(at_ms);
            }
            Entry::Batch(admitted) => {
                let sealed = Sealed::reopen(Arc::from(admitted.bytes.as_slice()));
                if let Some(sealed) = sealed.ok().filter(|sealed| sealed.batch.writer == node.writer()) {
                    for seq in sealed.batch.first_seq..=sealed.batch.last_seq() {
                        written.entry(seq).or_insert(at_ms);
                    }
                }
            }
            _ => {}
        }
    }
    written
}

/// When each batch was on the hub's disk and when it was noted there as posted, true ms, by ordinal.
fn arrived_and_posted(disk: &Disk) -> (Vec<i64>, Vec<i64>) {
    let (mut arrived, mut posted) = (Vec::new(), Vec::new());
    for (at_ms, entry) in disk.read_with_times().unwrap_or_default() {
        match entry {
            Entry::Batch(_) => arrived.push(at_ms),
            Entry::Posted(mark) => {
                let batches = usize::try_from(mark.batches).unwrap_or(usize::MAX).min(arrived.len());
                posted.resize(batches.max(posted.len()), at_ms);
            }
            _ => {}
        }
    }
    (arrived, posted)
}

/// When each log was enrolled, ms by the hub's clock: records with a time before that are imported history, of which no
/// latency is told.
fn enrolled(books: &Books) -> BTreeMap<LogId, i64> {
    let enrolment = |record: &Record| match &record.transaction.body {
        Body::Hub(HubRecord::Enrol(enrolment)) => Some((enrolment.log.clone(), record.at.ms)),
        _ => None,
    };
    books.arrivals().filter_map(|(record, _)| enrolment(&record)).collect()
}

/// Commits, arrivals and postings are told as they were, commits within the error that the hub states of a till's clock.
///
/// # Errors
/// One is told otherwise, or the distribution made of them is another.
pub fn latency_is_true(world: &World, truth: &Truth) -> Result<(), Broken> {
    let hub = world.hub_node();
    let mut hubs = world.nodes.values().filter(|node| is_hub(&node.name));
    let wrong = |hub: &Node| truth.suspicious.contains(&*hub.name) || hub.clock != NodeClock::default();
    if hubs.any(wrong) {
        return Ok(());
    }
    let replica = hub.replica();
    let (arrived, posted) = arrived_and_posted(&hub.disk);
    let exact = honest(world, truth).filter(|node| node.clock == NodeClock::default());
    let tills: BTreeMap<_, _> = exact.map(|node| (node.writer(), written(node))).collect();
    let enrolled = enrolled(replica.books());
    let mut told = figures::ways(replica, world.now_ms).into_iter();
    let mut judged: Vec<Sample> = Vec::new();
    let (mut known_ms, mut widest_ms) = (Vec::new(), 0);
    let mut batches: Vec<_> = replica.batch_metas(0).enumerate().collect();
    batches.sort_by_key(|(ordinal, meta)| (meta.day, *ordinal));
    for (ordinal, meta) in batches {
        let Some(log) = replica.registry().log_of(&meta.writer).filter(|log| !log.terminal.is_hub()) else {
            continue;
        };
        let enrolled_ms = enrolled.get(log).copied().unwrap_or(i64::MIN);
        let records = replica.books().log_records(log, meta.first_seq);
        let records = records.take_while(|record| record.seq <= meta.last_seq);
        for record in records.filter(|record| record.at.ms >= enrolled_ms) {
            let way = told
                .next()
                .ok_or_else(|| Broken::new(LATENCY, format!("{log} {} is not told", record.seq)))?;
            let Some(written) = tills.get(&meta.writer) else { continue };
            let so = (written.get(&record.seq), arrived.get(ordinal), posted.get(ordinal));
            let (Some(written_ms), Some(arrived_ms), Some(posted_ms)) = so else {
                let found =
                    format!("{log} {} is told and was never written, or never came: {so:?}", record.seq);
                return Err(Broken::new(LATENCY, found));
            };
            // Half a round trip is what the hub may be wrong by of a clock, and says so.
            let errors = replica.links_of(&meta.writer).filter_map(|span| Some(span.clock?.1));
            let error_ms = errors.max().unwrap_or(0) + 1;
            let off_ms = (way.committed_ms - written_ms).abs();
            if off_ms > error_ms || (way.arrived_ms, way.posted_ms) != (*arrived_ms, *posted_ms) {
                let found = format!(
                    "{log} {} is told as {way:?}; written at {written_ms} (± {error_ms}), arrived {arrived_ms}, posted {posted_ms}",
                    record.seq
                );
                return Err(Broken::new(LATENCY, found));
            }
            widest_ms = widest_ms.max(error_ms);
            known_ms.push((posted_ms - written_ms).max(0));
            judged.push(way);
        }
    }
    known_ms.sort_unstable();
    let (so, told) = (Spread::of(&known_ms), Latency::of(&judged.iter().collect::<Vec<_>>()).latency);
    let pairs = [(so.p50_ms, told.p50_ms), (so.p95_ms, told.p95_ms), (so.max_ms, told.max_ms)];
    if so.count != told.count || pairs.iter().any(|(so, told)| (so - told).abs() > widest_ms) {
        return Err(Broken::new(LATENCY, format!("{told:?} is told, {so:?} (± {widest_ms}) is so")));
    }
    Ok(())
}

/// Of an honest till the hub knows every number that is on the till's disk, and holds each; of all tills it holds at
/// least what cashiers were told.
///
/// # Errors
/// It counts otherwise.
pub fn captures_are_true(world: &World, truth: &Truth) -> Result<(), Broken> {
    let hub = world.hub_node().replica();
    let (mut tills, mut numbers) = (0, 0);
    for node in honest(world, truth) {
        let used = written(node).len() as u64;
        let (known, here) = hub.books().capture_count(&node.identity().log);
        if (known, here) != (used, used) {
            let found =
                format!("{} used {used} numbers; the hub knows of {known} and counts {here}", node.name);
            return Err(Broken::new(CAPTURES, found));
        }
        tills += 1;
        numbers += used;
    }
    let told = hub.kpi_captured();
    let all = world.nodes.keys().filter(|name| !is_hub(name)).count();
    if tills == all && (told.committed, told.captured) != (numbers, numbers) {
        return Err(Broken::new(CAPTURES, format!("tills used {numbers} numbers, told is {told:?}")));
    }
    let kept = truth.acknowledged.keys().filter(|receipt| !truth.destroyed.contains(*receipt)).count() as u64;
    if truth.forked.is_empty() && told.captured < kept {
        return Err(Broken::new(
            CAPTURES,
            format!("{kept} were acknowledged and not lost, told is {told:?}"),
        ));
    }
    Ok(())
}

/// What the Z reports of an honest till state is what it took, by tender and tax; and the books differ from none of them
/// without a case that explains it.
///
/// # Errors
/// A sum is another, or a difference has no explanation.
pub fn reconciliation_is_true(world: &World, truth: &Truth) -> Result<(), Broken> {
    let hub = world.hub_node().replica();
    let days = || hub.batch_metas(0).map(|meta| meta.day);
    let (Some(first), Some(last)) = (days().min(), days().max()) else { return Ok(()) };
    let cells = hub.kpi_cells((first, last));
    for node in honest(world, truth) {
        let cells = cells.get(&node.identity().log).map_or(&[][..], Vec::as_slice);
        let differs = |cell: &&engine::kpi::Cell| cell.control_minor != cell.ledger_minor && !cell.explained;
        if let Some(cell) = cells.iter().find(differs) {
            return Err(Broken::new(RECONCILIATION, format!("{}: {cell:?} has no explanation", node.name)));
        }
        let Some(took) = truth.rung.get(&*node.name).and_then(took_until_its_last_close) else { continue };
        let mut stated: BTreeMap<String, i64> = BTreeMap::new();
        for cell in cells {
            *stated.entry(cell.name.clone()).or_default() += cell.control_minor;
        }
        stated.retain(|_, minor| *minor != 0);
        if stated != took {
            let found = format!("{} took {took:?}, its Z reports are told as {stated:?}", node.name);
            return Err(Broken::new(RECONCILIATION, found));
        }
    }
    Ok(())
}

/// Sums up to a till's last close; `None` if it recorded something that nobody was told of, or never closed.
fn took_until_its_last_close(rung: &BTreeMap<u64, Rung>) -> Option<BTreeMap<String, i64>> {
    let close = *rung.iter().rev().find(|row| row.1.closes)?.0;
    let mut took: BTreeMap<String, i64> = BTreeMap::new();
    let mut next = 1;
    for (seq, rung) in rung.range(..close) {
        if *seq != next {
            return None;
        }
        next += 1;
        for (name, minor) in &rung.figures {
            *took.entry(name.clone()).or_default() += minor;
        }
    }
    took.retain(|_, minor| *minor != 0);
    (next == close).then_some(took)
}
