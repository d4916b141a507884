//! Who takes which log when several hubs serve one company. Pure arithmetic over what the table of hubs and the table of logs
//! say at one moment: every hub reckons for itself, and two that see the same tables want the same. Nothing here makes a
//! double claim harmless; that is the fencing token's work.

use std::collections::BTreeMap;

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
}

/// What a hub should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Claim a log that nobody holds.
    Take(u16),
    /// Give a log to whoever has least.
    HandOver(u16),
}

/// What `me` should do: free logs go one by one to whoever has least; when none is free, whoever has most gives one to
/// whoever has least, as long as that makes a difference.
#[must_use]
pub fn plan(me: HubName, members: &[Member], logs: &[Held]) -> Vec<Step> {
    let mut counts: BTreeMap<HubName, usize> = members.iter().map(|member| (member.hub, 0)).collect();
    for holder in logs.iter().filter_map(|log| log.holder) {
        if let Some(count) = counts.get_mut(&holder) {
            *count += 1;
        }
    }
    let mut steps = Vec::new();
    let mut free: Vec<u16> = logs.iter().filter(|log| log.holder.is_none()).map(|log| log.number).collect();
    free.sort_unstable();
    let all_held = free.is_empty();
    for number in free {
        let Some(hub) = least(&counts) else { return steps };
        *counts.entry(hub).or_default() += 1;
        if hub == me {
            steps.push(Step::Take(number));
        }
    }
    let settled = |hub: &HubName| members.iter().any(|member| member.hub == *hub && member.settled);
    let (Some(poorest), Some(mine)) = (least(&counts), counts.get(&me)) else { return steps };
    let richest = counts.iter().max_by_key(|(hub, count)| (**count, std::cmp::Reverse(**hub)));
    let i_give = richest.is_some_and(|(hub, _)| *hub == me) && *mine >= counts[&poorest] + 2;
    if all_held && i_give && settled(&poorest) {
        let held = logs.iter().filter(|log| log.holder == Some(me));
        steps.extend(held.map(|log| log.number).max().map(Step::HandOver));
    }
    steps
}

/// Whoever has least; of several, the first by name.
fn least(counts: &BTreeMap<HubName, usize>) -> Option<HubName> {
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
    fn settle(members: &[Member], logs: &mut [Held]) -> usize {
        for round in 0..100 {
            let seen = logs.to_vec();
            let mut quiet = true;
            for member in members {
                for step in plan(member.hub, members, &seen) {
                    quiet = false;
                    let (Step::Take(number) | Step::HandOver(number)) = step;
                    let log = logs.iter_mut().find(|log| log.number == number).expect("it is there");
                    match step {
                        Step::Take(_) => {
                            assert_eq!(log.holder, None, "two want {number}");
                            log.holder = Some(member.hub);
                        }
                        Step::HandOver(_) => {
                            assert_eq!(log.holder, Some(member.hub));
                            log.holder = None;
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

    fn share(members: &[Member], logs: &[Held]) -> Vec<usize> {
        members.iter().map(|m| logs.iter().filter(|log| log.holder == Some(m.hub)).count()).collect()
    }

    #[test]
    fn logs_spread_evenly_and_stay_where_they_are() {
        let mut logs: Vec<Held> = (0..9).map(|number| Held { number, holder: None }).collect();
        let all = [1, 2, 3, 4].map(|number| Member { hub: hub(number), settled: true });
        settle(&all[..1], &mut logs);
        assert_eq!(share(&all, &logs), [9, 0, 0, 0]);
        settle(&all[..3], &mut logs);
        assert_eq!(share(&all, &logs), [3, 3, 3, 0]);
        assert_eq!(settle(&all[..3], &mut logs), 0, "what is even stays");
        // One dies: its logs are nobody's, the others' stay.
        let before = logs.clone();
        logs.iter_mut().filter(|log| log.holder == Some(hub(1))).for_each(|log| log.holder = None);
        settle(&all[1..3], &mut logs);
        assert_eq!(share(&all, &logs), [0, 5, 4, 0]);
        for (was, is) in before.iter().zip(&logs).filter(|(was, _)| was.holder != Some(hub(1))) {
            assert_eq!(was, is);
        }
    }

    #[test]
    fn a_newcomer_is_given_nothing_before_it_has_settled() {
        let mut logs: Vec<Held> = (0..4).map(|number| Held { number, holder: Some(hub(1)) }).collect();
        let members = [Member { hub: hub(1), settled: true }, Member { hub: hub(2), settled: false }];
        assert_eq!(settle(&members, &mut logs), 0);
        let members = members.map(|member| Member { settled: true, ..member });
        settle(&members, &mut logs);
        assert_eq!(share(&members, &logs), [2, 2]);
        assert_eq!(logs[0].holder, Some(hub(1)), "the company's log moves last");
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
