//! Many tills in one process, each with its own directory, key, log and link, made of the same parts as `tillsync terminal
//! run` but for the HTTP API. A process of its own for each of a thousand would measure the machine.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine::ids::{LogId, WriterId};
use engine::replica::{Identity, Replica};
use engine::transaction::Draft;
use node::hub::base_policy;
use node::identity::{Enrolment, NodeKey};
use node::runtime::alarms::Alarms;
use node::runtime::audit::AuditLog;
use node::runtime::clock::Clock;
use node::runtime::links::dial;
use node::runtime::restore::RestoredStore;
use node::runtime::store::{self, StoreHandle};
use node::runtime::workroom::Home;
use node::storage::{Options, Storage};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::workload::Transaction;

/// Captures of a till that are on their way at the same time when it captures as fast as it can.
const AT_A_TIME: usize = 16;

/// The tills. They end with this value.
pub struct Crew {
    runtime: Runtime,
    tills: Vec<Till>,
    hang_up: watch::Sender<bool>,
}

struct Till {
    store: StoreHandle,
    storage: Storage,
    dialling: JoinHandle<()>,
}

impl Crew {
    /// Starts a till in each of the directories, which have joined and hold no records.
    ///
    /// # Errors
    /// A directory is not a till's, or the disk refuses.
    pub fn start(dirs: &[PathBuf]) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (hang_up, hung_up) = watch::channel(false);
        let tills = runtime.block_on(async {
            let mut tills = Vec::new();
            for dir in dirs {
                tills.push(begin(dir, hung_up.clone()).await?);
            }
            Outcome::Ok(tills)
        })?;
        Ok(Self { runtime, tills, hang_up })
    }

    /// Captures one at a till and returns when it is durable there.
    ///
    /// # Errors
    /// It is refused.
    pub fn capture(&self, till: usize, transaction: &Transaction) -> Outcome<()> {
        let draft = Draft::from_json(&transaction.json)?;
        let receipt = self.runtime.block_on(self.tills[till].store.capture(draft))?;
        assert_eq!(receipt.receipt, transaction.receipt);
        Ok(())
    }

    /// All tills in turns, one transaction every so often, until `over`; how many of each till's work were captured.
    ///
    /// # Errors
    /// One is refused.
    pub fn steadily(
        &self,
        work: &[Vec<Transaction>],
        every: Duration,
        over: &AtomicBool,
    ) -> Outcome<Vec<usize>> {
        let mut captured = vec![0; work.len()];
        self.runtime.block_on(async {
            let mut tick = tokio::time::interval(every);
            for till in (0..work.len()).cycle() {
                tick.tick().await;
                let Some(transaction) = work[till].get(captured[till]) else { break };
                if over.load(Ordering::Relaxed) {
                    break;
                }
                self.tills[till].store.capture(Draft::from_json(&transaction.json)?).await?;
                captured[till] += 1;
            }
            Ok(captured)
        })
    }

    /// All tills at once, each as fast as it can; returns when everything is durable at the tills.
    ///
    /// # Errors
    /// One is refused.
    pub fn at_once(&self, work: &[Vec<Transaction>]) -> Outcome<()> {
        self.runtime.block_on(async {
            let mut workers = Vec::new();
            for (till, work) in self.tills.iter().zip(work) {
                let drafts: Vec<Draft> =
                    work.iter().map(|one| Ok(Draft::from_json(&one.json)?)).collect::<Outcome<_>>()?;
                let (drafts, next) = (Arc::new(drafts), Arc::new(AtomicUsize::new(0)));
                for _ in 0..AT_A_TIME.min(drafts.len()) {
                    workers.push(tokio::spawn(in_turn(
                        till.store.clone(),
                        Arc::clone(&drafts),
                        Arc::clone(&next),
                    )));
                }
            }
            for worker in workers {
                worker.await??;
            }
            Ok(())
        })
    }

    /// Stops all of them.
    ///
    /// # Errors
    /// A log cannot be closed.
    pub fn stop(self) -> Outcome<()> {
        let _ = self.hang_up.send(true);
        self.runtime.block_on(async {
            for till in self.tills {
                till.store.stop().await;
                till.dialling.abort();
                till.storage.close()?;
            }
            Ok(())
        })
    }
}

async fn in_turn(store: StoreHandle, drafts: Arc<Vec<Draft>>, next: Arc<AtomicUsize>) -> Outcome<()> {
    while let Some(draft) = drafts.get(next.fetch_add(1, Ordering::Relaxed)) {
        store.capture(draft.clone()).await?;
    }
    Ok(())
}

async fn begin(dir: &Path, hung_up: watch::Receiver<bool>) -> Outcome<Till> {
    let enrolment = Enrolment::load(dir)?.ok_or("the till has not joined")?;
    let key = NodeKey::load(dir)?.ok_or("the till has no key")?;
    let identity = Identity {
        store: enrolment.store.parse()?,
        log: LogId {
            terminal: enrolment.terminal.parse()?,
            incarnation: u32::try_from(enrolment.incarnation)?,
        },
        key: key.signing_key().clone(),
        nonce: [1; 16],
        hub: WriterId(enrolment.hub_public_key),
    };
    let (storage, _) = Storage::open(dir, &Options::default())?;
    let home = Home::of_node(dir, &storage);
    let replica =
        Replica::new(identity, base_policy(enrolment.currency.parse()?)).in_room(&home.room().of_one_store());
    let audit = AuditLog::new(storage.clone(), VecDeque::new());
    let clock = Clock::in_zone(&enrolment.time_zone)?;
    let store = store::start(RestoredStore::of(replica), home, audit.clone(), clock);
    let dialling =
        dial(dir, Arc::new(enrolment), key, store.clone(), audit, Alarms::default(), hung_up).await?;
    Ok(Till { store, storage, dialling })
}
