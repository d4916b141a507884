//! Links between nodes. A link is a reliable, ordered stream both ways while it is up, as QUIC is: what is lost below is
//! sent again and comes late. A partition holds back what is sent; when it lasts, the link dies at both ends. Rules may
//! meddle with every frame: one small trait for all misery.

use std::collections::BTreeMap;

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

/// One link, between two ends of which the first comes first by name.
#[derive(Debug, Clone)]
struct Link {
    ends: (String, String),
    /// Its number; another link between the same two has another.
    id: u64,
    /// When the last frame from the first end arrives, and from the second, ms.
    last_ms: (i64, i64),
}

impl Link {
    fn is_between(&self, one: &str, two: &str) -> bool {
        let (first, second) = (self.ends.0.as_str(), self.ends.1.as_str());
        (first == one && second == two) || (first == two && second == one)
    }
}

/// A frame that was put on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// When it arrives, true ms.
    pub at_ms: i64,
    /// Over which link.
    pub link: u64,
}

/// All links, partitions and rules. There are few links and fewer partitions, and every frame asks for them: short lists
/// are looked through faster than a map of names is searched, and nothing is copied for the question.
pub struct Network {
    /// In the order of their ends.
    links: Vec<Link>,
    next_link: u64,
    /// Directions in which nothing gets through, with when that began.
    blocked: Vec<(String, String, i64)>,
    rules: Vec<Box<dyn Rule>>,
    /// When the next link dies of a partition; reckoned when links or partitions change.
    next_death_ms: Option<i64>,
    /// A partition that lasts so long kills a link, ms.
    pub idle_ms: i64,
    /// How often each rule struck.
    pub struck: BTreeMap<&'static str, u64>,
    /// Bytes and frames put on their way.
    pub bytes: u64,
    /// See `bytes`.
    pub frames: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            next_link: 0,
            blocked: Vec::new(),
            rules: Vec::new(),
            next_death_ms: None,
            idle_ms: IDLE_MS,
            struck: BTreeMap::new(),
            bytes: 0,
            frames: 0,
        }
    }
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
        if self.blocked_since(from, to).is_none() {
            self.blocked.push((from.to_owned(), to.to_owned(), now_ms));
        }
        self.reckon_death();
    }

    /// It gets through again.
    pub fn unblock(&mut self, from: &str, to: &str) {
        self.blocked.retain(|row| row.0 != from || row.1 != to);
        self.reckon_death();
    }

    /// Since when nothing gets from one node to another, true ms.
    fn blocked_since(&self, from: &str, to: &str) -> Option<i64> {
        self.blocked.iter().find(|row| row.0 == from && row.1 == to).map(|row| row.2)
    }

    /// Whether something gets through both ways.
    #[must_use]
    pub fn is_open(&self, one: &str, two: &str) -> bool {
        self.blocked_since(one, two).is_none() && self.blocked_since(two, one).is_none()
    }

    /// Whether something gets from one node to another.
    #[must_use]
    pub fn gets_through(&self, from: &str, to: &str) -> bool {
        self.blocked_since(from, to).is_none()
    }

    /// Makes a link. There is none between the two.
    pub fn link(&mut self, one: &str, two: &str) -> u64 {
        self.next_link += 1;
        let link = Link { ends: ends(one, two), id: self.next_link, last_ms: (0, 0) };
        let at = self.links.partition_point(|known| known.ends < link.ends);
        self.links.insert(at, link);
        self.reckon_death();
        self.next_link
    }

    /// Ends a link. Gives whether there was one.
    pub fn unlink(&mut self, one: &str, two: &str) -> bool {
        let before = self.links.len();
        self.links.retain(|link| !link.is_between(one, two));
        self.reckon_death();
        self.links.len() < before
    }

    /// The link between two nodes.
    #[must_use]
    pub fn between(&self, one: &str, two: &str) -> Option<u64> {
        self.links.iter().find(|link| link.is_between(one, two)).map(|link| link.id)
    }

    /// Who is linked to a node.
    pub fn linked_to<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.links.iter().filter_map(move |link| match (link.ends.0.as_str(), link.ends.1.as_str()) {
            (one, two) if one == name => Some(two),
            (one, two) if two == name => Some(one),
            _ => None,
        })
    }

    /// Links that a partition has killed by now.
    #[must_use]
    pub fn dead(&self, now_ms: i64) -> Vec<(String, String)> {
        let old = |from: &str, to: &str| {
            self.blocked_since(from, to).is_some_and(|since_ms| now_ms - since_ms >= self.idle_ms)
        };
        let dead = |link: &&Link| old(&link.ends.0, &link.ends.1) || old(&link.ends.1, &link.ends.0);
        self.links.iter().filter(dead).map(|link| link.ends.clone()).collect()
    }

    /// When the next link dies of a partition, true ms.
    #[must_use]
    pub fn next_death_ms(&self) -> Option<i64> {
        self.next_death_ms
    }

    fn reckon_death(&mut self) {
        let linked = self.blocked.iter().filter(|row| self.between(&row.0, &row.1).is_some());
        self.next_death_ms = linked.map(|row| row.2 + self.idle_ms).min();
    }

    /// Puts a frame on its way: when it arrives, once or twice; nothing if it is lost or there is no link.
    pub fn send(&mut self, frame: &Frame<'_>, speed: LinkSpeed, chance: &mut Chance) -> Vec<Departure> {
        let found = self.links.iter().position(|link| link.is_between(frame.from, frame.to));
        let Some(found) = found else { return Vec::new() };
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
        let link = &mut self.links[found];
        let last = if link.ends.0 == frame.from { &mut link.last_ms.0 } else { &mut link.last_ms.1 };
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
        (self.between(from, to) == Some(link)).then(|| self.blocked_since(from, to).is_none())
    }
}
