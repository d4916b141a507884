//! Many runs at once, each on one thread and each the same whoever runs it: results come back in the order of the jobs.
//! A run whose engine stops over its own assertion is a failure like any other, with the line of code.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use sim::checks::{Broken, NO_PANIC};
use sim::run::{Outcome, Run, run_explicit};
use sim::scenario::Scenario;

/// Exit code of a process that is interrupted twice, as shells have it.
const INTERRUPTED: i32 = 130;
/// Without a terminal, how far it is is told after so many runs.
const TOLD_EVERY: usize = 500;

/// One run to make.
pub struct Job {
    /// The scenario.
    pub scenario: Scenario,
    /// Whether its report is wanted.
    pub page: bool,
}

/// What became of it.
pub struct Done {
    /// What it did, or which invariant does not hold.
    pub result: Result<Outcome, Broken>,
    /// Its report, if that was wanted and it held.
    pub page: Option<String>,
}

thread_local! {
    static IN_A_RUN: Cell<bool> = const { Cell::new(false) };
    static STOPPED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Threads to use.
pub fn workers(jobs: Option<u64>) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    jobs.map_or_else(cores, |jobs| usize::try_from(jobs).unwrap_or(1))
}

/// A progress bar on stderr; none where stderr is no terminal.
pub fn bar(count: u64, of: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(count);
    let template = "{bar:40} {pos}/{len} {msg}, {elapsed}, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(of);
    bar
}

/// A flag that an interruption (Ctrl-C, or a request to end) sets; another one ends the process.
pub fn interruption() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Makes all runs, so many at a time; none is begun any more once `stop` is set. Results are those of the jobs from the
/// first on, without a gap. A failure is told on stderr as it happens, and where no bar is shown, how far it is.
pub fn run_all(
    count: usize,
    workers: usize,
    bar: &ProgressBar,
    stop: &AtomicBool,
    job: impl Fn(usize) -> Job + Sync,
) -> Vec<Done> {
    let next = AtomicUsize::new(0);
    let (finished, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done: Mutex<Vec<Option<Done>>> = Mutex::new((0..count).map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        break;
                    }
                    let job = job(at);
                    let made = make(&job);
                    if let Err(broken) = &made.result {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let (name, invariant) = (&job.scenario.name, broken.invariant);
                        bar.suspend(|| eprintln!("{name}: it does not hold that {invariant}"));
                    }
                    done.lock().expect("no thread stops while it holds the results")[at] = Some(made);
                    bar.inc(1);
                    let made = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    if bar.is_hidden() && made.is_multiple_of(TOLD_EVERY) {
                        let failed = failed.load(Ordering::Relaxed);
                        let minutes = bar.elapsed().as_secs() / 60;
                        eprintln!("{made} of {count} runs made, {failed} failed, {minutes} min");
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let done = done.into_inner().expect("no thread stops while it holds the results");
    done.into_iter().map_while(|done| done).collect()
}

fn make(job: &Job) -> Done {
    let explicit = job.scenario.explicit();
    match attempt(&explicit, job.page) {
        Ok((outcome, run)) => {
            let page = job.page.then(|| sim::report::page(&explicit, &outcome, &run));
            Done { result: Ok(outcome), page }
        }
        Err(broken) => Done { result: Err(broken), page: None },
    }
}

/// Makes one run of a scenario with everything written out; a stop of the engine is a failure.
pub fn attempt(explicit: &Scenario, watch: bool) -> Result<(Outcome, Run), Broken> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_A_RUN.get() {
                let place =
                    info.location().map_or(String::new(), |at| format!("{}:{}", at.file(), at.line()));
                STOPPED_AT.with_borrow_mut(|kept| *kept = place);
            } else {
                usual(info);
            }
        }));
    });
    IN_A_RUN.set(true);
    let made = panic::catch_unwind(AssertUnwindSafe(|| run_explicit(explicit, watch)));
    IN_A_RUN.set(false);
    made.unwrap_or_else(|payload| {
        let said = payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        let place = STOPPED_AT.with_borrow(Clone::clone);
        Err(Broken::new(NO_PANIC, format!("{place}: {said}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_ends_with_the_runs_made_so_far() {
        let stop = AtomicBool::new(false);
        let job = |at: usize| {
            stop.store(at == 2, Ordering::Relaxed);
            Job { scenario: Scenario::swarm(at as u64, 1, 1, 1, false), page: false }
        };
        let done = run_all(1_000, 1, &ProgressBar::hidden(), &stop, job);
        assert_eq!(done.len(), 3, "those begun before the interruption, and no more");
        assert!(done.iter().all(|done| done.result.is_ok()));
    }
}
