//! Links between nodes. A link is a reliable, ordered stream both ways while it is up, as QUIC is: what is lost below is
//! sent again and comes late. A partition holds back what is sent; when it lasts, the link dies at both ends. Rules may
//! meddle with every frame: one small trait for all misery.

use std::collections::{BTreeMap, BTreeSet};

use crate::chance::Chance;

/// A partition that lasts so long kills a link, ms (QUIC's idle time-out).
pub const IDLE_MS: i64 = 30_000;

/// A frame on its way.
pub struct Frame<'a> {
    /// Who sends it.
    pub from: &'a str,
    /// To whom.
    pub to: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// When, true ms.
    pub now_ms: i64,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing special.
    Pass,
    /// It comes so much later, and everything behind it with it.
    Late(i64),
    /// It overtakes what was sent before it (no transport should do that).
    Overtake,
    /// It comes twice (no transport should do that).
    Twice,
    /// It does not come (no transport should do that: streams are reliable until they end).
    Lost,
}

/// Something that meddles with frames.
pub trait Rule {
    /// Its name in the report.
    fn name(&self) -> &'static str;
    /// What it does to a frame.
    fn verdict(&mut self, frame: &Frame<'_>, chance: &mut Chance) -> Verdict;
}

/// Datagrams are lost below: what was on its way comes later.
pub struct Loss {
    /// Out of a hundred frames, so many are hit.
    pub percent: u64,
}

impl Rule for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn verdict(&mut self, _: &Frame<'_>, chance: &mut Chance) -> Verdict {
        // Each further loss of the same datagram doubles the time-out, as QUIC's probes do.
        let mut late_ms = 0;
        let mut wait_ms = 60;
        while chance.below(100) < self.percent && late_ms < 20_000 {
            late_ms += wait_ms;
            wait_ms *= 2;
        }
        if late_ms == 0 { Verdict::Pass } else { Verdict::Late(late_ms) }
    }
}

/// A transport that breaks its promise now and then: once in so many frames.
pub struct Broken {
    /// Once in so many frames.
    pub once_in: u64,
    /// What it does.
    pub how: Verdict,
}

impl Rule for Broken {
    fn name(&self) -> &'static str {
        match self.how {
            Verdict::Twice => "duplicate",
            Verdict::Overtake => "reorder",
            _ => "drop",
        }
    }

    fn verdict(&mut self, _: &Frame<'_>, chance: &mut Chance) -> Verdict {
        if chance.once_in(self.once_in) { self.how.clone() } else { Verdict::Pass }
    }
}

/// How long a frame takes on a quiet link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSpeed {
    /// One way, ms: shortest and longest.
    pub delay_ms: (i64, i64),
    /// Bytes in a millisecond; 0: no limit.
    pub bytes_a_ms: u64,
}

/// One link.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its number; another link between the same two has another.
    pub id: u64,
    /// When the last frame arrives in each direction (by sender), ms.
    last_ms: BTreeMap<String, i64>,
}

/// A frame that was put on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// When it arrives, true ms.
    pub at_ms: i64,
    /// Over which link.
    pub link: u64,
}

/// All links, partitions and rules.
#[derive(Default)]
pub struct Network {
    links: BTreeMap<(String, String), Link>,
    next_link: u64,
    /// Directions in which nothing gets through, with when that began.
    blocked: BTreeMap<(String, String), i64>,
    rules: Vec<Box<dyn Rule>>,
    /// When the next link dies of a partition; reckoned when links or partitions change.
    next_death_ms: Option<i64>,
    /// How often each rule struck.
    pub struck: BTreeMap<&'static str, u64>,
    /// Bytes and frames put on their way.
    pub bytes: u64,
    /// See `bytes`.
    pub frames: u64,
}

fn ends(one: &str, two: &str) -> (String, String) {
    if one < two { (one.to_owned(), two.to_owned()) } else { (two.to_owned(), one.to_owned()) }
}

impl Network {
    /// Adds a rule.
    pub fn meddle(&mut self, rule: Box<dyn Rule>) {
        self.rules.push(rule);
    }

    /// Ends all rules and partitions.
    pub fn heal(&mut self) {
        self.rules.clear();
        self.blocked.clear();
        self.reckon_death();
    }

    /// From now on nothing gets from one node to another (in this direction).
    pub fn block(&mut self, from: &str, to: &str, now_ms: i64) {
        self.blocked.entry((from.to_owned(), to.to_owned())).or_insert(now_ms);
        self.reckon_death();
    }

    /// It gets through again.
    pub fn unblock(&mut self, from: &str, to: &str) {
        self.blocked.remove(&(from.to_owned(), to.to_owned()));
        self.reckon_death();
    }

    /// Whether something gets through both ways.
    #[must_use]
    pub fn is_open(&self, one: &str, two: &str) -> bool {
        let blocked = |from: &str, to: &str| self.blocked.contains_key(&(from.to_owned(), to.to_owned()));
        !blocked(one, two) && !blocked(two, one)
    }

    /// Makes a link. There is none between the two.
    pub fn link(&mut self, one: &str, two: &str) -> u64 {
        self.next_link += 1;
        let link = Link { id: self.next_link, last_ms: BTreeMap::new() };
        self.links.insert(ends(one, two), link);
        self.reckon_death();
        self.next_link
    }

    /// Ends a link. Gives whether there was one.
    pub fn unlink(&mut self, one: &str, two: &str) -> bool {
        let was_there = self.links.remove(&ends(one, two)).is_some();
        self.reckon_death();
        was_there
    }

    /// The link between two nodes.
    #[must_use]
    pub fn between(&self, one: &str, two: &str) -> Option<u64> {
        self.links.get(&ends(one, two)).map(|link| link.id)
    }

    /// Who is linked to a node.
    #[must_use]
    pub fn linked_to(&self, name: &str) -> BTreeSet<String> {
        let other = |(one, two): &(String, String)| match name {
            name if one == name => Some(two.clone()),
            name if two == name => Some(one.clone()),
            _ => None,
        };
        self.links.keys().filter_map(other).collect()
    }

    /// Links that a partition has killed by now.
    #[must_use]
    pub fn dead(&self, now_ms: i64) -> Vec<(String, String)> {
        let old = |from: &String, to: &String| {
            self.blocked.get(&(from.clone(), to.clone())).is_some_and(|since| now_ms - since >= IDLE_MS)
        };
        self.links.keys().filter(|(one, two)| old(one, two) || old(two, one)).cloned().collect()
    }

    /// When the next link dies of a partition, true ms.
    #[must_use]
    pub fn next_death_ms(&self) -> Option<i64> {
        self.next_death_ms
    }

    fn reckon_death(&mut self) {
        let linked = |(from, to): &(String, String)| self.links.contains_key(&ends(from, to));
        let deaths = self.blocked.iter().filter(|(pair, _)| linked(pair)).map(|(_, since)| since + IDLE_MS);
        self.next_death_ms = deaths.min();
    }

    /// Puts a frame on its way: when it arrives, once or twice; nothing if it is lost or there is no link.
    pub fn send(&mut self, frame: &Frame<'_>, speed: LinkSpeed, chance: &mut Chance) -> Vec<Departure> {
        let pair = ends(frame.from, frame.to);
        if !self.links.contains_key(&pair) {
            return Vec::new();
        }
        self.frames += 1;
        self.bytes += frame.bytes.len() as u64;
        let (mut late_ms, mut overtakes, mut twice, mut lost) = (0, false, false, false);
        for rule in &mut self.rules {
            let verdict = rule.verdict(frame, chance);
            if verdict != Verdict::Pass {
                *self.struck.entry(rule.name()).or_insert(0) += 1;
            }
            match verdict {
                Verdict::Pass => {}
                Verdict::Late(ms) => late_ms += ms,
                Verdict::Overtake => overtakes = true,
                Verdict::Twice => twice = true,
                Verdict::Lost => lost = true,
            }
        }
        let transfer = (frame.bytes.len() as u64).checked_div(speed.bytes_a_ms).unwrap_or(0);
        let delay_ms =
            chance.between(speed.delay_ms.0, speed.delay_ms.1) + i64::try_from(transfer).unwrap_or(0);
        let Some(link) = self.links.get_mut(&pair) else { return Vec::new() };
        let last = link.last_ms.entry(frame.from.to_owned()).or_insert(0);
        let earliest_ms = frame.now_ms + delay_ms + late_ms;
        let at_ms = if overtakes { frame.now_ms } else { earliest_ms.max(*last) };
        *last = at_ms.max(*last);
        let departure = Departure { at_ms, link: link.id };
        match (lost, twice) {
            (true, _) => Vec::new(),
            (false, true) => vec![departure.clone(), departure],
            (false, false) => vec![departure],
        }
    }

    /// Whether a frame that should arrive now gets through: `None` if its link is gone, else whether the way is open.
    #[must_use]
    pub fn arrives(&self, from: &str, to: &str, link: u64) -> Option<bool> {
        (self.between(from, to) == Some(link))
            .then(|| !self.blocked.contains_key(&(from.to_owned(), to.to_owned())))
    }
}
