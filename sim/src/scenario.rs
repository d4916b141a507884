//! Scenarios as files: how many tills and days, what trade, what network, and what happens when. One run is one
//! scenario; a failure is shrunk to the fewest happenings that still fail and written down as one. Types only: `file`
//! reads and writes them, `limits` says which make sense.

use serde::{Deserialize, Serialize};

use crate::database::Ailing;
use crate::swarm;
use crate::trade;
use crate::world::HUB;

/// A scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What it is about.
    #[serde(default)]
    pub about: String,
    /// Everything that chance decides follows from this.
    #[serde(default)]
    pub seed: u64,
    /// Number of tills, `till-01` and so on.
    pub tills: u64,
    /// Simulated days, each from 08:00.
    pub days: u64,
    /// Hubs of the company, `hub-1` and so on, on one database; 0: one, called `hub`, on its disk.
    #[serde(default)]
    pub hubs: u64,
    /// Logs of the company besides its own, which several hubs share.
    #[serde(default = "shards")]
    pub shards: u16,
    /// Settings of the policy, such as `sync_interval=5s`.
    #[serde(default)]
    pub policy: Vec<String>,
    /// Trade that is thought up from the seed; none: only what `happens` says.
    pub trade: Option<Trade>,
    /// Faults that are drawn from the seed: a random subset with random intensity.
    #[serde(default)]
    pub swarm: bool,
    /// The network and disks when nothing is wrong.
    #[serde(default)]
    pub speed: Speed,
    /// What happens besides, in any order. A file names each beside its time, so `file` reads them one by one.
    #[serde(skip)]
    pub happens: Vec<Timed>,
}

/// How busy the shops are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trade {
    /// Transactions of a till and day, about.
    pub transactions: u64,
    /// Out of a hundred sales, so many become mischief: reversed twice, returned beyond what was sold, rung twice.
    #[serde(default = "four")]
    pub mischief_percent: u64,
    /// Whether tills close their days.
    #[serde(default = "yes")]
    pub closes: bool,
}

fn four() -> u64 {
    4
}

/// Shards that a company has unless something else is said.
#[must_use]
pub fn shards() -> u16 {
    4
}

/// Once in so many statements, unless something else is said.
fn now_and_then() -> u64 {
    20
}

fn yes() -> bool {
    true
}

/// The network and the disks when nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Speed {
    /// One way over a link, ms: shortest and longest.
    pub link_ms: (i64, i64),
    /// Bytes in a millisecond; 0: no limit.
    pub bytes_a_ms: u64,
    /// An fsync, ms: shortest and longest.
    pub disk_ms: (i64, i64),
}

impl Default for Speed {
    fn default() -> Self {
        Self { link_ms: (2, 40), bytes_a_ms: 0, disk_ms: (0, 4) }
    }
}

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When, ms since the first day's 08:00.
    pub at_ms: i64,
    /// What.
    pub what: What,
}

/// A line of a basket: pieces of an item at a price in minor units, a multiple of 6 so that a fifth of the net is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Pieces.
    pub pieces: i64,
    /// Price of one, minor units, tax included.
    pub price_minor: i64,
}

/// How a basket is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paid {
    /// In cash.
    Cash,
    /// By card, authorised.
    Card,
    /// Half in cash, half by card.
    Split,
    /// By card, accepted offline; its outcome comes later.
    OfflineCard,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// A till sells.
    Sale {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
        /// What.
        items: Vec<Item>,
        /// How it is paid.
        paid: Paid,
        /// Key of the basket; two tills with one key rang one basket twice.
        key: Option<String>,
        /// Tip, minor units.
        #[serde(default)]
        tip_minor: i64,
    },
    /// A till takes pieces of the first line of a sale back.
    Refund {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
        /// Receipt of the sale.
        of: String,
        /// Pieces.
        pieces: i64,
        /// No manager agreed: above the limit a reviewer has to.
        #[serde(default)]
        unapproved: bool,
    },
    /// A till voids a sale.
    Void {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
        /// Receipt of the sale.
        of: String,
    },
    /// A till exchanges a piece of the first line of a sale for another item.
    Exchange {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
        /// Receipt of the sale.
        of: String,
        /// Price of the new item, minor units.
        price_minor: i64,
    },
    /// Cash into the drawer (float) or into the safe (pickup).
    Cash {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
        /// Positive: float; negative: pickup. Minor units.
        amount_minor: i64,
    },
    /// A till closes its day.
    Close {
        /// The till.
        till: String,
        /// Receipt number.
        receipt: String,
    },
    /// The payment provider says what became of the card payment of a sale.
    Outcome {
        /// Receipt of the sale.
        of: String,
        /// Whether it was paid.
        approved: bool,
    },
    /// A reviewer takes one of the possible decisions, drawn by chance, on one of the open cases.
    Decide {
        /// The draw.
        draw: u64,
    },
    /// The hub locks every day before this one, finished or not.
    Lock,
    /// The hub changes the policy.
    Policy {
        /// A setting, such as `refund_limit_minor=5000`.
        setting: String,
    },
    /// The hub ends a till's right to write after what has arrived.
    Revoke {
        /// The till.
        till: String,
    },
    /// Nothing gets from one node to another, until `open`.
    Block {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// It gets through again.
    Open {
        /// From.
        from: String,
        /// To.
        to: String,
    },
    /// Two tills connect directly.
    Gossip {
        /// One.
        one: String,
        /// The other.
        two: String,
    },
    /// A node loses power for a while.
    Crash {
        /// The node.
        node: String,
        /// For so long, ms.
        down_ms: i64,
        /// Of what was not synced, so many lines are on the disk all the same (a torn write: the rest is cut).
        #[serde(default)]
        survive: usize,
    },
    /// The process of one of several hubs is killed, and started again after a while.
    Kill {
        /// The hub.
        node: String,
        /// For so long, ms.
        down_ms: i64,
    },
    /// One of several hubs does nothing for a while, and does not know it.
    Pause {
        /// The hub.
        node: String,
        /// For so long, ms.
        lasts_ms: i64,
    },
    /// The database of several hubs ails.
    Database {
        /// How.
        how: Ailing,
        /// For so long, ms.
        lasts_ms: i64,
        /// What strikes now and then strikes one in so many statements.
        #[serde(default = "now_and_then")]
        once_in: u64,
    },
    /// A node is stopped and started again in an orderly way.
    Restart {
        /// The node.
        node: String,
    },
    /// A disk hangs: nothing becomes durable until the node restarts.
    DiskHangs {
        /// The node.
        node: String,
    },
    /// The next fsync fails: the node refuses until it restarts.
    SyncFails {
        /// The node.
        node: String,
    },
    /// The disk is full until the node restarts.
    DiskFull {
        /// The node.
        node: String,
    },
    /// A bit on the disk flips; found when the node starts next, which this makes it do.
    Rot {
        /// The node.
        node: String,
        /// The draw of the bit.
        draw: u64,
    },
    /// A copy of a node's disk is put aside.
    Backup {
        /// The node.
        node: String,
    },
    /// A node loses its disk and starts from the copy.
    RestoreBackup {
        /// The node.
        node: String,
    },
    /// A till loses everything and is enrolled anew.
    Wipe {
        /// The till.
        till: String,
    },
    /// Somebody copies a till's device; the copy sells too.
    CloneDevice {
        /// The till.
        till: String,
        /// Name of the copy.
        copy: String,
    },
    /// A clock is set so far ahead of true time (negative: behind).
    Clock {
        /// The node.
        node: String,
        /// Ms.
        ahead_ms: i64,
    },
    /// A clock drifts.
    Drift {
        /// The node.
        node: String,
        /// Ms gained in a million.
        ppm: i64,
    },
    /// A node is slow: its disk and its links.
    Slow {
        /// The node.
        node: String,
        /// An fsync takes up to so long, ms.
        disk_ms: i64,
        /// A frame takes up to so long, ms.
        link_ms: i64,
        /// Bytes in a millisecond; 0: no limit.
        #[serde(default)]
        bytes_a_ms: u64,
    },
    /// Datagrams are lost.
    Loss {
        /// Out of a hundred.
        percent: u64,
    },
    /// The transport breaks its promise once in so many frames.
    Meddle {
        /// `duplicate`, `reorder` or `drop`.
        how: Meddling,
        /// Once in so many.
        once_in: u64,
    },
    /// Somebody has a till's key and lies with it.
    Lie {
        /// The till.
        till: String,
        /// How.
        how: Lying,
    },
    /// Everything is mended: networks, disks, clocks.
    Heal,
}

impl What {
    /// To whom it happens (`hub` where it is nobody in particular), and what else there is to tell of it.
    #[must_use]
    pub fn whom(&self) -> (&str, String) {
        let (node, told): (&str, String) = match self {
            Self::Sale { till, .. }
            | Self::Refund { till, .. }
            | Self::Void { till, .. }
            | Self::Exchange { till, .. }
            | Self::Cash { till, .. }
            | Self::Close { till, .. }
            | Self::Revoke { till }
            | Self::Wipe { till } => (till, String::new()),
            Self::Outcome { .. }
            | Self::Decide { .. }
            | Self::Lock
            | Self::Loss { .. }
            | Self::Meddle { .. }
            | Self::Heal => (HUB, String::new()),
            Self::Database { how, lasts_ms, .. } => (HUB, format!("{how:?} for {lasts_ms} ms")),
            Self::Policy { setting } => (HUB, setting.clone()),
            Self::Block { from, to } | Self::Open { from, to } => {
                (if from == HUB { to } else { from }, format!("{from} to {to}"))
            }
            Self::Gossip { one, two } => (one, format!("with {two}")),
            Self::Crash { node, down_ms, .. } => (node, format!("down for {} s", down_ms / 1_000)),
            Self::Kill { node, down_ms } => (node, format!("down for {} s", down_ms / 1_000)),
            Self::Pause { node, lasts_ms } => (node, format!("for {lasts_ms} ms")),
            Self::Restart { node }
            | Self::DiskHangs { node }
            | Self::SyncFails { node }
            | Self::DiskFull { node }
            | Self::Rot { node, .. }
            | Self::Backup { node }
            | Self::RestoreBackup { node } => (node, String::new()),
            Self::CloneDevice { till, copy } => (till, format!("as {copy}")),
            Self::Clock { node, ahead_ms: i64::MIN } => (node, "set to 1970".to_owned()),
            Self::Clock { node, ahead_ms } => (node, format!("{:+} s off", ahead_ms / 1_000)),
            Self::Drift { node, ppm } => (node, format!("{ppm:+} ppm")),
            Self::Slow { node, disk_ms, link_ms, .. } => {
                (node, format!("disk up to {disk_ms} ms, link up to {link_ms} ms"))
            }
            Self::Lie { till, how } => (till, format!("{how:?}")),
        };
        (node, told)
    }
}

/// The nodes that something names, borrowed as the value is.
macro_rules! nodes_of {
    ($what:expr) => {
        match $what {
            What::Sale { till, .. }
            | What::Refund { till, .. }
            | What::Void { till, .. }
            | What::Exchange { till, .. }
            | What::Cash { till, .. }
            | What::Close { till, .. }
            | What::Revoke { till }
            | What::Wipe { till }
            | What::Lie { till, .. } => vec![till],
            What::CloneDevice { till, copy } => vec![till, copy],
            What::Block { from, to } | What::Open { from, to } => vec![from, to],
            What::Gossip { one, two } => vec![one, two],
            What::Crash { node, .. }
            | What::Kill { node, .. }
            | What::Pause { node, .. }
            | What::Restart { node }
            | What::DiskHangs { node }
            | What::SyncFails { node }
            | What::DiskFull { node }
            | What::Rot { node, .. }
            | What::Backup { node }
            | What::RestoreBackup { node }
            | What::Clock { node, .. }
            | What::Drift { node, .. }
            | What::Slow { node, .. } => vec![node],
            What::Outcome { .. }
            | What::Decide { .. }
            | What::Lock
            | What::Policy { .. }
            | What::Loss { .. }
            | What::Meddle { .. }
            | What::Database { .. }
            | What::Heal => Vec::new(),
        }
    };
}

impl What {
    /// The nodes it names.
    #[must_use]
    pub fn nodes(&self) -> Vec<&String> {
        nodes_of!(self)
    }

    /// The nodes it names, to rename them.
    pub fn nodes_mut(&mut self) -> Vec<&mut String> {
        nodes_of!(self)
    }

    /// The receipt number it makes.
    #[must_use]
    pub fn receipt(&self) -> Option<&str> {
        match self {
            Self::Sale { receipt, .. }
            | Self::Refund { receipt, .. }
            | Self::Void { receipt, .. }
            | Self::Exchange { receipt, .. }
            | Self::Cash { receipt, .. }
            | Self::Close { receipt, .. } => Some(receipt),
            _ => None,
        }
    }

    /// The receipt of the sale it is about.
    #[must_use]
    pub fn of(&self) -> Option<&str> {
        match self {
            Self::Refund { of, .. }
            | Self::Void { of, .. }
            | Self::Exchange { of, .. }
            | Self::Outcome { of, .. } => Some(of),
            _ => None,
        }
    }
}

/// How a transport breaks its promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meddling {
    /// Frames come twice.
    Duplicate,
    /// Frames overtake.
    Reorder,
    /// Frames do not come.
    Drop,
}

/// What a liar with a stolen key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lying {
    /// A signature that is none.
    ForgedSignature,
    /// A batch of another till's log.
    OthersLog,
    /// Another batch at a place that is taken.
    RewrittenHistory,
    /// A frame above the limit.
    Oversized,
    /// An honest batch again.
    Replay,
    /// More in the vector than there is.
    LyingVector,
    /// Bytes that are no message.
    Noise,
    /// Times far in the future.
    FutureTime,
}

impl Lying {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::ForgedSignature,
        Self::OthersLog,
        Self::RewrittenHistory,
        Self::Oversized,
        Self::Replay,
        Self::LyingVector,
        Self::Noise,
        Self::FutureTime,
    ];
}

impl Scenario {
    /// A seed of the swarm: a week (or so many days) of several tills with drawn faults.
    #[must_use]
    pub fn swarm(seed: u64, tills: u64, days: u64, transactions: u64, faults: bool) -> Self {
        Self {
            name: format!("seed {seed}"),
            about: String::new(),
            seed,
            tills,
            days,
            hubs: 0,
            shards: shards(),
            policy: Vec::new(),
            trade: Some(Trade { transactions, mischief_percent: 4, closes: true }),
            swarm: faults,
            speed: Speed::default(),
            happens: Vec::new(),
        }
    }

    /// Names of the tills.
    #[must_use]
    pub fn till_names(&self) -> Vec<String> {
        (1..=self.tills).map(|number| format!("till-{number:02}")).collect()
    }

    /// The same with everything that chance thinks up written out, in the order of time.
    #[must_use]
    pub fn explicit(&self) -> Self {
        let mut happens = self.happens.clone();
        if let Some(trade) = &self.trade {
            happens.extend(trade::think_up(self.seed, &self.till_names(), self.days, trade));
        }
        if self.swarm {
            let drawn = swarm::draw(self.seed, &self.till_names(), self.days);
            happens.extend(if self.hubs == 0 { drawn } else { swarm::for_hubs(drawn, self) });
        }
        happens.sort_by_key(|timed| timed.at_ms);
        Self { trade: None, swarm: false, happens, ..self.clone() }
    }
}
