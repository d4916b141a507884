//! A round: each measurement is taken of every contender before the next one begins, so that what is compared was
//! measured within the same minute.

use super::results::Figure;
use super::{Contender, Fleet, Results, check};
use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples, nanos, per_second};
use crate::workload::{Transaction, transactions};

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Transactions captured one at a time.
    single: usize,
    /// Transactions captured by [`GROUP`].
    many: usize,
    /// Transactions drained.
    drain: usize,
    /// Numbers of tills that share them; the widest but one is used for everything else.
    tills: &'static [usize],
    /// Transactions sent one at a time.
    live: usize,
}

/// A whole report.
pub const FULL: Sizes = Sizes { single: 3_000, many: 50_000, drain: 100_000, tills: &[1, 8, 32], live: 500 };
/// Counts and contents only.
pub const TINY: Sizes = Sizes { single: 40, many: 300, drain: 600, tills: &[1, 3], live: 20 };

/// Transactions of a group in the second row of captures.
const GROUP: usize = 100;
/// Of ten parts of a history, so many are at the hub before the rest is drained.
const TENTHS_BEFORE: usize = 9;

/// Every measurement of every contender. One that fails is in the results, and the others go on: a report takes long.
pub fn round(all: &[Box<dyn Contender>], sizes: &Sizes, round: u64, results: &mut Results) {
    for (group, count) in [(1, sizes.single), (GROUP, sizes.many)] {
        let work = transactions("till-01", count, round);
        each(all, results, &format!("capture by {group}"), |contender, figures| {
            if let Some(rate) = contender.capture(&work, group)?.and_then(|measure: Measure| measure.rate) {
                figures.push((Figure::Capture(group), rate));
            }
            Ok(())
        });
    }
    for tills in sizes.tills {
        each(all, results, &format!("drain of {tills} tills"), |contender, figures| {
            drain(contender, sizes, round, *tills, figures)
        });
    }
    each(all, results, "drain again", |contender, figures| again(contender, sizes, round, figures));
}

/// The number of tills of everything that is measured with one number of tills only.
fn main_tills(sizes: &Sizes) -> usize {
    sizes.tills.get(1).or(sizes.tills.first()).copied().unwrap_or(1)
}

type Figures = Vec<(Figure, u64)>;

fn each(
    all: &[Box<dyn Contender>],
    results: &mut Results,
    what: &str,
    mut measure: impl FnMut(&dyn Contender, &mut Figures) -> Outcome<()>,
) {
    for contender in all {
        let (name, mut figures) = (contender.name(), Figures::new());
        eprintln!("  {what}: {name}");
        results.promise(name, contender.promises());
        if let Err(error) = measure(contender.as_ref(), &mut figures) {
            let failed = format!("{what}: {name}: {error}");
            eprintln!("  failed: {failed}");
            results.failed(failed);
            continue;
        }
        for (figure, value) in figures {
            results.add(name, figure, value);
        }
    }
}

/// From an empty hub; with the main number of tills also what comes after it.
fn drain(
    contender: &dyn Contender,
    sizes: &Sizes,
    round: u64,
    tills: usize,
    figures: &mut Figures,
) -> Outcome<()> {
    let passes: &[bool] = if contender.needs_relay() { &[false, true] } else { &[false] };
    for counted in passes {
        let Some(mut fleet) = contender.open(tills, *counted)? else { return Ok(()) };
        let mut work = of_tills(tills, sizes.drain, round);
        fleet.record(&work)?;
        let drained = fleet.drain()?;
        check::complete(&fleet.held()?, &work)?;
        let count = count(&work);
        if !counted {
            figures.push((Figure::Drain(tills), per_second(count, drained.acknowledged)));
            figures.extend(drained.books.map(|took| (Figure::DrainBooks(tills), per_second(count, took))));
            figures.extend(drained.peak.map(|bytes| (Figure::DrainMemory(tills), bytes)));
        }
        figures.extend(drained.wire.map(|bytes| (Figure::DrainWire(tills), tenths(bytes, count))));
        if tills == main_tills(sizes) {
            afterwards(fleet.as_mut(), sizes, round, *counted, &mut work, figures)?;
        }
    }
    Ok(())
}

/// What is measured over a history: nothing new, one at a time, and the hub's return.
fn afterwards(
    fleet: &mut dyn Fleet,
    sizes: &Sizes,
    round: u64,
    counted: bool,
    work: &mut Work,
    figures: &mut Figures,
) -> Outcome<()> {
    if let Some(nothing) = fleet.again_nothing()? {
        if !counted {
            figures.push((Figure::NothingTime, nanos(nothing.took)));
        }
        figures.extend(nothing.wire.map(|bytes| (Figure::NothingWire, tenths(bytes, work.len()))));
    }
    if !counted && let Some(reopened) = fleet.reopen()? {
        figures.push((Figure::Disk, tenths(reopened.disk_bytes, count(work))));
        figures.push((Figure::Reopen, nanos(reopened.took)));
        check::complete(&fleet.held()?, work)?;
    }
    let more = transactions(&work[0].0, sizes.live, round + LIVE_SEED);
    if let Some(lived) = fleet.live(&more)? {
        if !counted {
            figures.extend(percentiles(lived.acknowledged, [Figure::LiveP50, Figure::LiveP99]));
            figures.extend(percentiles(lived.books, [Figure::LiveBooksP50, Figure::LiveBooksP99]));
        }
        figures.extend(lived.wire.map(|bytes| (Figure::LiveWire, tenths(bytes, more.len()))));
        work[0].1.extend(more);
        check::complete(&fleet.held()?, work)?;
    }
    Ok(())
}

/// Live transactions are others than those of the history: receipts are unique.
const LIVE_SEED: u64 = 1_000_000;

/// The last tenth is drained when the hub holds the others.
fn again(contender: &dyn Contender, sizes: &Sizes, round: u64, figures: &mut Figures) -> Outcome<()> {
    let passes: &[bool] = if contender.needs_relay() { &[false, true] } else { &[false] };
    for counted in passes {
        let tills = main_tills(sizes);
        let Some(mut fleet) = contender.open(tills, *counted)? else { return Ok(()) };
        let all = of_tills(tills, sizes.drain, round);
        let (before, after) = cut(&all);
        fleet.record(&before)?;
        fleet.drain()?;
        check::complete(&fleet.held()?, &before)?;
        fleet.record(&after)?;
        let drained = fleet.drain()?;
        check::complete(&fleet.held()?, &all)?;
        let count = count(&after);
        if !counted {
            figures.push((Figure::Again, per_second(count, drained.acknowledged)));
            figures.extend(drained.books.map(|took| (Figure::AgainBooks, per_second(count, took))));
        }
        figures.extend(drained.wire.map(|bytes| (Figure::AgainWire, tenths(bytes, count))));
    }
    Ok(())
}

fn of_tills(tills: usize, count: usize, round: u64) -> Work {
    let share = |number: usize| count / tills + usize::from(number < count % tills);
    let name = |number: usize| format!("till-{:02}", number + 1);
    (0..tills).map(|number| (name(number), transactions(&name(number), share(number), round))).collect()
}

fn cut(all: &Work) -> (Work, Work) {
    let cut = |(till, work): &(String, Vec<Transaction>)| {
        let (before, after) = work.split_at(work.len() * TENTHS_BEFORE / 10);
        ((till.clone(), before.to_vec()), (till.clone(), after.to_vec()))
    };
    all.iter().map(cut).unzip()
}

fn count(work: &Work) -> usize {
    work.iter().map(|(_, transactions)| transactions.len()).sum()
}

fn tenths(bytes: u64, count: usize) -> u64 {
    Measure::bytes(count, bytes).bytes_tenths.unwrap_or(0)
}

fn percentiles(samples: Samples, figures: [Figure; 2]) -> Figures {
    if samples.is_empty() {
        return Figures::new();
    }
    let measure = samples.latency();
    figures
        .into_iter()
        .zip([measure.p50_ns, measure.p99_ns])
        .filter_map(|(figure, ns)| Some((figure, ns?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Drained, Held, Last, Lived, Nothing, Promises, Reopened};
    use super::*;

    /// What a hub does to the last record of its last till.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Hub {
        Keeps,
        Loses,
        Changes,
    }

    struct Fake {
        hub: Hub,
        work: Work,
    }

    impl Contender for Hub {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn promises(&self) -> Promises {
            Promises::NOTHING
        }

        fn capture(&self, _work: &[Transaction], _group: usize) -> Outcome<Option<Measure>> {
            Ok(None)
        }

        fn open(&self, _tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
            Ok(Some(Box::new(Fake { hub: *self, work: Work::new() })))
        }
    }

    impl Fleet for Fake {
        fn record(&mut self, work: &Work) -> Outcome<()> {
            if self.work.is_empty() {
                self.work.clone_from(work);
            } else {
                self.work.iter_mut().zip(work).for_each(|(all, more)| all.1.extend_from_slice(&more.1));
            }
            Ok(())
        }

        fn drain(&mut self) -> Outcome<Drained> {
            Ok(Drained { acknowledged: Duration::from_millis(1), books: None, wire: Some(1), peak: None })
        }

        fn held(&mut self) -> Outcome<Vec<Held>> {
            let held = |(_, transactions): &(String, Vec<Transaction>)| Held {
                count: transactions.len(),
                last: transactions.last().map(|last| Last::Bytes(last.json.clone().into_bytes())),
            };
            let mut all: Vec<Held> = self.work.iter().map(held).collect();
            if let Some(last) = all.last_mut() {
                match (self.hub, &mut last.last) {
                    (Hub::Loses, _) => last.count -= 1,
                    (Hub::Changes, Some(Last::Bytes(bytes))) => bytes[10] ^= 1,
                    _ => {}
                }
            }
            Ok(all)
        }

        fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
            Ok(None)
        }

        fn live(&mut self, _work: &[Transaction]) -> Outcome<Option<Lived>> {
            Ok(None)
        }

        fn reopen(&mut self) -> Outcome<Option<Reopened>> {
            Ok(None)
        }
    }

    #[test]
    fn a_hub_that_loses_or_changes_a_record_has_no_figure() {
        for (hub, passes) in [(Hub::Keeps, true), (Hub::Loses, false), (Hub::Changes, false)] {
            let mut figures = Figures::new();
            assert_eq!(drain(&hub, &TINY, 1, 3, &mut figures).is_ok(), passes);
            assert_eq!(again(&hub, &TINY, 1, &mut figures).is_ok(), passes);
            assert_eq!(figures.is_empty(), !passes);
        }
    }

    #[test]
    fn the_work_is_shared_out_whole_and_cut_without_a_loss() {
        let all = of_tills(3, 100, 1);
        assert_eq!((all.len(), count(&all)), (3, 100));
        let (before, after) = cut(&all);
        assert_eq!(count(&before) + count(&after), 100);
        assert_eq!(before[0].1.len(), 30);
        assert_eq!(after[0].1[0].receipt, all[0].1[30].receipt);
    }
}
