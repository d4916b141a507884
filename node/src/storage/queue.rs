//! The queue before the disk: bounded, many callers in, one writer out, a group at a time.
//!
//! It never touches a file and never drops an append unanswered: what cannot be taken goes back to its caller.

use super::{Entry, Position, StorageError};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Appends that may wait for the disk.
pub const QUEUE_APPENDS_MAX: usize = 4096;
/// Bytes, frames included, that may wait for the disk.
pub const QUEUE_BYTES_MAX: usize = 32 << 20;

/// Called once, with the positions or with the reason why there are none.
pub(super) type Done = Box<dyn FnOnce(Result<Vec<Position>, StorageError>) + Send>;

/// One append on its way to the disk.
pub(super) struct Job {
    pub(super) entries: Vec<Entry>,
    /// Bytes of its frames.
    pub(super) bytes: usize,
    /// May use the reserve of a full disk, and goes into a full queue.
    pub(super) urgent: bool,
    pub(super) done: Done,
}

/// What the writer should do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take a group: something waits.
    Group,
    /// Nothing came within the timeout.
    Idle,
    /// Nothing waits; what there is to do has changed.
    Nudged,
    /// The storage is closed and everything accepted has been handed out.
    Closed,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    bytes: usize,
    nudged: bool,
    closed: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
}

impl Queue {
    /// Takes a job, or gives it back with the reason. With `wait`, waits for room instead of answering Busy. An urgent one
    /// is taken at any length of the queue.
    pub(super) fn push(&self, job: Job, wait: bool) -> Result<(), Box<(Job, StorageError)>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Err(Box::new((job, StorageError::Closed { operation: "append" })));
            }
            let room = state.jobs.len() < QUEUE_APPENDS_MAX && state.bytes + job.bytes <= QUEUE_BYTES_MAX;
            // What is urgent was decided already and cannot be taken back; who decides does so within limits of its own.
            if room || job.urgent {
                break;
            }
            if !wait {
                return Err(Box::new((job, StorageError::Busy { waiting: state.jobs.len() })));
            }
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += job.bytes;
        state.jobs.push_back(job);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until there is something to do.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Next {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return Next::Closed;
            }
            if std::mem::take(&mut state.nudged) {
                return Next::Nudged;
            }
            let Some(timeout) = timeout else {
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.filled.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            if waited.1.timed_out() && state.jobs.is_empty() && !state.closed && !state.nudged {
                return Next::Idle;
            }
        }
        Next::Group
    }

    /// The next group: everything that waits, up to `bytes_max`; nothing if nothing waits.
    pub(super) fn take(&self, bytes_max: usize) -> Vec<Job> {
        let mut state = self.lock();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(job) = state.jobs.pop_front() {
            if !group.is_empty() && bytes + job.bytes > bytes_max {
                state.jobs.push_front(job);
                break;
            }
            bytes += job.bytes;
            group.push(job);
        }
        state.bytes -= bytes;
        self.drained.notify_all();
        group
    }

    /// Whether appends are accepted and none waits.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.jobs.is_empty() && !state.closed
    }

    /// Lets whoever waits look again at what there is to do.
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.filled.notify_one();
    }

    /// Accepts nothing more; what was accepted is still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Closes and takes everything that still waits, so that it can be answered.
    pub(super) fn abandon(&self) -> Vec<Job> {
        self.close();
        let mut state = self.lock();
        state.bytes = 0;
        state.jobs.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn job(bytes: usize) -> Job {
        Job { entries: Vec::new(), bytes, urgent: false, done: Box::new(|_| ()) }
    }

    #[test]
    fn a_full_queue_says_busy_and_gives_the_job_back() {
        let queue = Queue::default();
        for _ in 0..QUEUE_APPENDS_MAX {
            assert!(queue.push(job(1), false).is_ok());
        }
        let (back, why) = *queue.push(job(9), false).expect_err("full");
        assert!(matches!(why, StorageError::Busy { waiting: QUEUE_APPENDS_MAX }), "{why}");
        assert_eq!(back.bytes, 9);
        assert!(
            queue.push(Job { urgent: true, ..job(1) }, false).is_ok(),
            "what was decided is never refused"
        );
        assert_eq!((queue.wait(None), queue.take(100).len()), (Next::Group, 100));
        assert!(queue.push(job(QUEUE_BYTES_MAX), false).is_err(), "bytes are limited too");
        assert!(queue.push(job(9), false).is_ok());
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_took() {
        let queue = Queue::default();
        assert_eq!((queue.wait(Some(Duration::ZERO)), queue.take(9).len()), (Next::Idle, 0));
        let (send, answers) = mpsc::channel();
        let done = Box::new(move |result| send.send(result).expect("send"));
        assert!(queue.push(Job { done, ..job(1) }, false).is_ok());
        queue.close();
        assert!(queue.push(job(1), true).is_err());
        for job in queue.take(9) {
            (job.done)(Ok(vec![Position(5)]));
        }
        assert_eq!(answers.recv().expect("answer").expect("ok"), vec![Position(5)]);
        assert_eq!(queue.wait(None), Next::Closed);
    }
}
