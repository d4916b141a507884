//! Who takes which log when several hubs serve one company, and who makes himself ready to. Pure arithmetic over what the table
//! of hubs and the table of logs say at one moment: every hub reckons for itself, and two that see the same tables want the same.
//! Nothing here makes a double claim harmless; that is the fencing token's work.
//!
//! A hub is *warm* in a log if it has images of the log's stores that are nearly new: it opens the log in a moment, however long
//! that is. Whoever would take a log if its holder died is the log's *deputy* ([`deputies`]), and makes himself warm in it.

use std::collections::{BTreeMap, BTreeSet};

/// A hub by its name: the same for every process that runs in its directory, one after the other.
pub type HubName = [u8; 16];

/// A hub as the table of hubs has it. Hubs whose time is over are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub hub: HubName,
    /// It has been there long enough to be given what others hold.
    pub settled: bool,
}

/// A log as the table of logs has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// 0: the company's; from 1 on the shards.
    pub number: u16,
    /// Whose lease is in force.
    pub holder: Option<HubName>,
    /// Whose the last lease was, if none is in force.
    pub before: Option<HubName>,
    /// That lease ended by itself: it was not given back.
    pub lapsed: bool,
}

/// Which hubs say that they are warm in which logs.
pub type Warm = BTreeSet<(HubName, u16)>;

/// A log of a hub that is gone goes to one that is warm in it as long as that has at most so many more than whoever has least. It is
/// evened out afterwards, in order.
const WARM_AHEAD: usize = 8;

/// What a hub should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Claim a log that nobody holds.
    Take(u16),
    /// Give a log to whoever has least.
    HandOver {
        /// The log.
        number: u16,
        /// Whoever has least is warm in it.
        warm: bool,
    },
}

/// How many logs each hub has.
type Counts = BTreeMap<HubName, usize>;

/// What `me` should do: free logs go one by one to whoever has least, those of a hub that is gone rather to whoever is warm in them;
/// when none is free, whoever has most gives one to whoever has least, as long as that makes a difference.
#[must_use]
pub fn plan(me: HubName, members: &[Member], logs: &[Held], warm: &Warm) -> Vec<Step> {
    let mut counts = counts(members, logs);
    let mut free: Vec<&Held> = logs.iter().filter(|log| log.holder.is_none()).collect();
    free.sort_unstable_by_key(|log| log.number);
    let mut steps = Vec::new();
    let all_held = free.is_empty();
    for log in free {
        // What a hub gives away that stays is to make a difference; that of one that is gone is to be served soon.
        let gone = log.before.is_some_and(|before| log.lapsed || !counts.contains_key(&before));
        let ahead = if gone { WARM_AHEAD } else { 0 };
        let Some(hub) = taker(&counts, log.number, warm, ahead) else { return steps };
        *counts.entry(hub).or_default() += 1;
        if hub == me {
            steps.push(Step::Take(log.number));
        }
    }
    if all_held
        && let Some((from, to, number)) = gift(members, logs, warm)
        && from == me
    {
        steps.push(Step::HandOver { number, warm: warm.contains(&(to, number)) });
    }
    steps
}

/// The deputy of each log that a hub holds: who takes it, if that hub dies and nothing else changes. Whoever is warm in it already
/// stays its deputy, as long as that would not leave him with much more than the others.
#[must_use]
pub fn deputies(members: &[Member], logs: &[Held], warm: &Warm) -> BTreeMap<u16, HubName> {
    let all = counts(members, logs);
    let mut found = BTreeMap::new();
    for holder in all.keys() {
        let mut others = all.clone();
        others.remove(holder);
        let mut its: Vec<u16> =
            logs.iter().filter(|log| log.holder == Some(*holder)).map(|log| log.number).collect();
        its.sort_unstable();
        for number in its {
            let Some(deputy) = taker(&others, number, warm, WARM_AHEAD) else { continue };
            *others.entry(deputy).or_default() += 1;
            found.insert(number, deputy);
        }
    }
    found
}

/// Logs of others that `me` should be warm in, the most urgent first: the one that is about to be given to it, those whose deputy it
/// is, and, if that is the company's own among them, all others: whoever serves the company reads along in all of them.
#[must_use]
pub fn duties(me: HubName, members: &[Member], logs: &[Held], warm: &Warm) -> Vec<u16> {
    let given = gift(members, logs, warm).filter(|(_, to, _)| *to == me).map(|(.., number)| number);
    let deputies = deputies(members, logs, warm);
    let mine = deputies.iter().filter(|(_, deputy)| **deputy == me).map(|(number, _)| *number);
    let heir = deputies.get(&0) == Some(&me);
    let others = logs.iter().filter(|log| heir && log.holder != Some(me)).map(|log| log.number);
    let mut duties: Vec<u16> = Vec::new();
    for number in given.into_iter().chain(mine).chain(others) {
        // The company's own log has no stores.
        if number > 0 && !duties.contains(&number) {
            duties.push(number);
        }
    }
    duties
}

fn counts(members: &[Member], logs: &[Held]) -> Counts {
    let mut counts: Counts = members.iter().map(|member| (member.hub, 0)).collect();
    for holder in logs.iter().filter_map(|log| log.holder) {
        if let Some(count) = counts.get_mut(&holder) {
            *count += 1;
        }
    }
    counts
}

/// Which log whoever has most gives to whoever has least next: from, to, and its number. Rather one in which that is warm, and the
/// company's own last.
fn gift(members: &[Member], logs: &[Held], warm: &Warm) -> Option<(HubName, HubName, u16)> {
    let counts = counts(members, logs);
    let poorest = least(&counts)?;
    let (richest, most) = counts.iter().max_by_key(|(hub, count)| (**count, std::cmp::Reverse(**hub)))?;
    let settled = members.iter().any(|member| member.hub == poorest && member.settled);
    if !settled || *most < counts[&poorest] + 2 {
        return None;
    }
    let held = logs.iter().filter(|log| log.holder == Some(*richest)).map(|log| log.number);
    let number = held.max_by_key(|number| (*number > 0 && warm.contains(&(poorest, *number)), *number))?;
    Some((*richest, poorest, number))
}

/// Who takes a free log: of those that are warm in it and have at most so many more than whoever has least, the one with least; if
/// there is none, whoever has least.
fn taker(counts: &Counts, number: u16, warm: &Warm, ahead: usize) -> Option<HubName> {
    let least_of = least(counts)?;
    let most = counts[&least_of] + ahead;
    let warm = counts.iter().filter(|(hub, count)| **count <= most && warm.contains(&(**hub, number)));
    Some(warm.min_by_key(|(hub, count)| (**count, **hub)).map_or(least_of, |(hub, _)| *hub))
}

/// Whoever has least; of several, the first by name.
fn least(counts: &Counts) -> Option<HubName> {
    counts.iter().min_by_key(|(hub, count)| (**count, **hub)).map(|(hub, _)| *hub)
}

/// The shard of a store: 1 to `shards`; 0, the company's own log, where a company has no shards.
#[must_use]
pub fn shard_of(store: &str, shards: u16) -> u16 {
    let hash = blake3::hash(store.as_bytes());
    let (number, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let place = u64::from_le_bytes(*number) % u64::from(shards.max(1));
    if shards == 0 { 0 } else { u16::try_from(place).unwrap_or(0) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(number: u8) -> HubName {
        [number; 16]
    }

    /// Lets all hubs reckon until nobody wants anything any more.
    fn settle(members: &[Member], logs: &mut [Held], warm: &Warm) -> usize {
        for round in 0..100 {
            let seen = logs.to_vec();
            let mut quiet = true;
            for member in members {
                for step in plan(member.hub, members, &seen, warm) {
                    quiet = false;
                    let (Step::Take(number) | Step::HandOver { number, .. }) = step;
                    let log = logs.iter_mut().find(|log| log.number == number).expect("it is there");
                    match step {
                        Step::Take(_) => {
                            assert_eq!(log.holder, None, "two want {number}");
                            log.holder = Some(member.hub);
                        }
                        Step::HandOver { .. } => {
                            assert_eq!(log.holder, Some(member.hub));
                            (log.holder, log.before, log.lapsed) = (None, log.holder, false);
                        }
                    }
                }
            }
            if quiet {
                return round;
            }
        }
        panic!("it never settles");
    }

    fn logs(count: u16, holder: impl Fn(u16) -> Option<HubName>) -> Vec<Held> {
        (0..count)
            .map(|number| Held { number, holder: holder(number), before: None, lapsed: false })
            .collect()
    }

    fn die(logs: &mut [Held], dead: HubName) {
        for log in logs.iter_mut().filter(|log| log.holder == Some(dead)) {
            (log.holder, log.before, log.lapsed) = (None, log.holder, true);
        }
    }

    fn share(members: &[Member], logs: &[Held]) -> Vec<usize> {
        members.iter().map(|m| logs.iter().filter(|log| log.holder == Some(m.hub)).count()).collect()
    }

    #[test]
    fn logs_spread_evenly_and_stay_where_they_are() {
        let (mut logs, cold) = (logs(9, |_| None), Warm::new());
        let all = [1, 2, 3, 4].map(|number| Member { hub: hub(number), settled: true });
        settle(&all[..1], &mut logs, &cold);
        assert_eq!(share(&all, &logs), [9, 0, 0, 0]);
        settle(&all[..3], &mut logs, &cold);
        assert_eq!(share(&all, &logs), [3, 3, 3, 0]);
        assert_eq!(settle(&all[..3], &mut logs, &cold), 0, "what is even stays");
        // One dies: its logs are nobody's, the others' stay.
        let before = logs.clone();
        die(&mut logs, hub(1));
        settle(&all[1..3], &mut logs, &cold);
        assert_eq!(share(&all, &logs), [0, 5, 4, 0]);
        for (was, is) in before.iter().zip(&logs).filter(|(was, _)| was.holder != Some(hub(1))) {
            assert_eq!(was, is);
        }
    }

    #[test]
    fn a_newcomer_is_given_nothing_before_it_has_settled() {
        let (mut logs, cold) = (logs(4, |_| Some(hub(1))), Warm::new());
        let members = [Member { hub: hub(1), settled: true }, Member { hub: hub(2), settled: false }];
        assert_eq!(settle(&members, &mut logs, &cold), 0);
        let members = members.map(|member| Member { settled: true, ..member });
        settle(&members, &mut logs, &cold);
        assert_eq!(share(&members, &logs), [2, 2]);
        assert_eq!(logs[0].holder, Some(hub(1)), "the company's log moves last");
    }

    #[test]
    fn the_logs_of_a_dead_hub_go_to_their_deputies_in_whatever_order_they_become_free() {
        let all = [1, 2, 3].map(|number| Member { hub: hub(number), settled: true });
        let mut held = logs(31, |number| Some(hub(u8::try_from(number % 3).unwrap() + 1)));
        let deputies = deputies(&all, &held, &Warm::new());
        assert_eq!(deputies.len(), 31);
        assert!(held.iter().all(|log| Some(deputies[&log.number]) != log.holder));
        for member in &all {
            let its = deputies.values().filter(|deputy| **deputy == member.hub).count();
            assert!((10..=11).contains(&its), "the deputies are spread: {its}");
        }
        let warm: Warm = deputies.iter().map(|(number, deputy)| (*deputy, *number)).collect();
        let dead = hub(2);
        let mut its: Vec<u16> =
            held.iter().filter(|log| log.holder == Some(dead)).map(|log| log.number).collect();
        its.sort_by_key(|number| number % 4);
        for number in its {
            let log = held.iter_mut().find(|log| log.number == number).unwrap();
            (log.holder, log.before, log.lapsed) = (None, Some(dead), true);
            let seen = held.clone();
            let left = [all[0], all[2]];
            for member in &left {
                for step in plan(member.hub, &left, &seen, &warm) {
                    assert_eq!((step, member.hub), (Step::Take(number), deputies[&number]));
                    held.iter_mut().find(|log| log.number == number).unwrap().holder = Some(member.hub);
                }
            }
        }
        assert_eq!(held.iter().filter(|log| log.holder.is_none()).count(), 0);
        assert_eq!(settle(&[all[0], all[2]], &mut held, &warm), 0, "it is even, too");
    }

    #[test]
    fn whoever_is_warm_stays_deputy_and_a_cold_newcomer_is_not_given_a_dead_hubs_logs() {
        let all = [1, 2, 3].map(|number| Member { hub: hub(number), settled: true });
        let held = logs(7, |number| Some(hub(if number < 4 { 1 } else { 2 })));
        assert_eq!(deputies(&all, &held, &Warm::new())[&0], hub(3), "it has least");
        let warm: Warm = (0..7).flat_map(|number| [(hub(1), number), (hub(2), number)]).collect();
        let known = deputies(&all, &held, &warm);
        assert_eq!(known.values().filter(|deputy| **deputy == hub(3)).count(), 0);
        let mut left = held.clone();
        die(&mut left, hub(1));
        assert_eq!(plan(hub(3), &all[1..], &left, &warm), []);
        assert_eq!(plan(hub(2), &all[1..], &left, &warm), (0..4).map(Step::Take).collect::<Vec<_>>());
        // It is evened out afterwards, in order.
        settle(&all[1..], &mut left, &warm);
        assert_eq!(share(&all, &left), [0, 4, 3]);
    }

    #[test]
    fn a_log_is_given_rather_to_who_is_warm_in_it_and_the_company_last() {
        let all = [1, 2].map(|number| Member { hub: hub(number), settled: true });
        let held = logs(4, |_| Some(hub(1)));
        let step = |warm: &Warm| plan(hub(1), &all, &held, warm);
        assert_eq!(step(&Warm::new()), [Step::HandOver { number: 3, warm: false }]);
        assert_eq!(step(&Warm::from([(hub(2), 1)])), [Step::HandOver { number: 1, warm: true }]);
        assert_eq!(step(&Warm::from([(hub(2), 0)])), [Step::HandOver { number: 3, warm: false }]);
        assert_eq!(duties(hub(2), &all, &held, &Warm::new()), [3, 1, 2], "the next first");
        assert!(duties(hub(1), &all, &held, &Warm::new()).is_empty());
    }

    #[test]
    fn the_deputy_of_the_company_is_warm_in_all_that_it_will_read_along_in() {
        let all = [1, 2, 3].map(|number| Member { hub: hub(number), settled: true });
        let held = logs(9, |number| Some(hub(u8::try_from(number % 3).unwrap() + 1)));
        let heir = deputies(&all, &held, &Warm::new())[&0];
        let mut its = duties(heir, &all, &held, &Warm::new());
        its.sort_unstable();
        let others: Vec<u16> = held
            .iter()
            .filter(|log| log.number > 0 && log.holder != Some(heir))
            .map(|log| log.number)
            .collect();
        assert_eq!(its, others);
    }

    /// Whoever is warm in whatever: it settles, and nobody has much more than another.
    #[test]
    fn whatever_is_warm_it_settles_evenly() {
        let all = [1, 2, 3, 4].map(|number| Member { hub: hub(number), settled: true });
        for seed in 0..200_u64 {
            let bit = |hub: u8, number: u16| {
                blake3::hash(format!("{seed} {hub} {number}").as_bytes()).as_bytes()[0] & 1 == 1
            };
            let pairs = (1..=4).flat_map(|hub| (0..13).map(move |number| (hub, number)));
            let warm: Warm = pairs
                .filter(|(hub, number)| bit(*hub, *number))
                .map(|(n, number)| (hub(n), number))
                .collect();
            let mut logs = logs(13, |_| None);
            settle(&all, &mut logs, &warm);
            die(&mut logs, hub(u8::try_from(seed % 4).unwrap() + 1));
            let left: Vec<Member> = all
                .iter()
                .filter(|member| member.hub != hub(u8::try_from(seed % 4).unwrap() + 1))
                .copied()
                .collect();
            settle(&left, &mut logs, &warm);
            let shares = share(&left, &logs);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{seed}: {shares:?}");
        }
    }

    #[test]
    fn stores_spread_over_all_shards_and_without_shards_stay_with_the_company() {
        let mut found = [0; 9];
        for number in 0..8_000 {
            found[usize::from(shard_of(&format!("store-{number}"), 8))] += 1;
        }
        assert_eq!(found[0], 0);
        assert!(found[1..].iter().all(|count| (900..1_100).contains(count)), "{found:?}");
        assert_eq!(shard_of("store-1", 0), 0);
        assert_eq!(shard_of("store-1", 1), 1);
        // Where a store's records lie never changes.
        assert_eq!(["store-1", "store-2", "north"].map(|store| shard_of(store, 8)), [2, 1, 4]);
    }
}
