//! The line before a store's task, in two lanes: whoever stands at the till or asks something goes before what peers have said,
//! which may be a month's sales. After some of them in a row it is a peer's turn, so that nobody waits for ever.

use tokio::sync::mpsc;

use super::handle::Job;

/// Jobs that may wait in a lane; senders wait beyond that.
const JOBS_WAITING: usize = 1_024;
/// Jobs of people in a row while a peer waits.
const IN_A_ROW: usize = 8;

/// Where jobs go into the line. Clones share it.
#[derive(Clone)]
pub(super) struct Entrance {
    people: mpsc::Sender<Job>,
    peers: mpsc::Sender<Job>,
}

/// The jobs of a line, in the order in which they are done: that of their coming within a lane.
pub(crate) struct Jobs {
    people: mpsc::Receiver<Job>,
    peers: mpsc::Receiver<Job>,
    in_a_row: usize,
}

/// An empty line.
pub(super) fn line() -> (Entrance, Jobs) {
    let ((people, of_people), (peers, of_peers)) = (mpsc::channel(JOBS_WAITING), mpsc::channel(JOBS_WAITING));
    (Entrance { people, peers }, Jobs { people: of_people, peers: of_peers, in_a_row: 0 })
}

impl Entrance {
    /// False when nobody does jobs any more.
    pub(super) async fn put(&self, job: Job) -> bool {
        let lane = match &job {
            Job::LinkUp(..) | Job::LinkDown(..) | Job::Frame(..) => &self.peers,
            Job::Capture(..) | Job::State(..) | Job::Ask(_) | Job::Journal(..) | Job::Stop(_) => &self.people,
        };
        lane.send(job).await.is_ok()
    }
}

impl Jobs {
    /// The next job, once there is one; `None` when none can come any more.
    pub(crate) async fn recv(&mut self) -> Option<Job> {
        if let Some(job) = self.try_recv() {
            return Some(job);
        }
        tokio::select! {
            biased;
            Some(job) = self.people.recv() => Some(job),
            Some(job) = self.peers.recv() => Some(job),
            else => None,
        }
    }

    /// The next job, if there is one.
    pub(super) fn try_recv(&mut self) -> Option<Job> {
        if self.in_a_row < IN_A_ROW
            && let Ok(job) = self.people.try_recv()
        {
            self.in_a_row += 1;
            return Some(job);
        }
        self.in_a_row = 0;
        self.peers.try_recv().or_else(|_| self.people.try_recv()).ok()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.people.is_empty() && self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use engine::ids::WriterId;

    use super::*;

    /// What a peer's job and one of people are called here.
    fn names(jobs: &mut Jobs) -> Vec<&'static str> {
        let name = |job| match job {
            Job::LinkDown(..) => "peer",
            Job::Ask(_) => "person",
            _ => "another",
        };
        std::iter::from_fn(|| jobs.try_recv()).map(name).collect()
    }

    async fn put(entrance: &Entrance, people: usize, peers: u64) {
        for link in 0..peers {
            assert!(entrance.put(Job::LinkDown(WriterId([1; 32]), link)).await);
        }
        for _ in 0..people {
            assert!(entrance.put(Job::Ask(Box::new(|_| {}))).await);
        }
    }

    #[tokio::test]
    async fn whoever_asks_goes_before_what_peers_have_said() {
        let (entrance, mut jobs) = line();
        put(&entrance, 2, 3).await;
        assert!(!jobs.is_empty());
        assert_eq!(names(&mut jobs), ["person", "person", "peer", "peer", "peer"]);
        assert!(jobs.is_empty());
    }

    #[tokio::test]
    async fn however_many_ask_a_peer_gets_its_turn() {
        let (entrance, mut jobs) = line();
        put(&entrance, 10 * IN_A_ROW, 5).await;
        let names = names(&mut jobs);
        let turns: Vec<usize> = (0..names.len()).filter(|at| names[*at] == "peer").collect();
        assert_eq!(turns, [1, 2, 3, 4, 5].map(|turn| turn * (IN_A_ROW + 1) - 1));
    }

    #[tokio::test]
    async fn a_line_that_nobody_can_join_any_more_ends_once_it_is_empty() {
        let (entrance, mut jobs) = line();
        put(&entrance, 1, 1).await;
        drop(entrance);
        assert!(matches!(jobs.recv().await, Some(Job::Ask(_))));
        assert!(matches!(jobs.recv().await, Some(Job::LinkDown(..))));
        assert!(jobs.recv().await.is_none());
    }

    #[tokio::test]
    async fn whoever_comes_while_nothing_waits_is_heard() {
        let (entrance, mut jobs) = line();
        let (heard, ()) = tokio::join!(jobs.recv(), put(&entrance, 0, 1));
        assert!(matches!(heard, Some(Job::LinkDown(..))));
        drop(jobs);
        assert!(!entrance.put(Job::Ask(Box::new(|_| {}))).await);
    }
}
