//! What a follower gathers: it follows what came, and the tables are those that are filled from nothing.

mod shop;

use std::collections::BTreeMap;

use super::gather::{Look, gather};
use super::known::Known;
use super::rows::{CaseMark, DayKey, DayRow, Rows};
use crate::runtime::clock::Clock;
use shop::Shop;

/// What the statements make of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tables {
    /// Custody by record.
    receipts: BTreeMap<String, &'static str>,
    cases: BTreeMap<String, CaseMark>,
    days: BTreeMap<DayKey, DayRow>,
}

impl Tables {
    fn take(&mut self, rows: Rows) {
        self.receipts.extend(rows.receipts.into_iter().map(|row| (row.record_id, row.custody)));
        for (id, custody) in rows.custody {
            self.receipts.entry(id.to_string()).and_modify(|there| *there = custody);
        }
        for row in rows.cases {
            let members = row.members.iter().map(|member| member.0.parse().unwrap()).collect();
            self.cases.insert(row.id.clone(), CaseMark { said: row.digest(), members });
        }
        for id in rows.ended {
            assert!(self.cases.remove(&id).is_some(), "what ended was there");
        }
        self.days.extend(rows.days);
    }

    /// What a follower reads when it begins.
    fn known(&self) -> Known {
        let mut known = Known::default();
        (known.cases, known.days) = (self.cases.clone(), self.days.clone());
        known
    }
}

struct Follower {
    tables: Tables,
    known: Known,
    batches: u64,
    /// How many cases and till-days each portion looked at.
    looked_at: Vec<usize>,
}

impl Follower {
    /// One that begins with what is in the tables.
    fn new(tables: Tables, batches: u64) -> Self {
        Self { known: tables.known(), tables, batches, looked_at: Vec::new() }
    }

    /// Brings a portion over; whether more waits.
    fn portion(&mut self, shop: &Shop, records: usize, for_time: bool) -> bool {
        let look = Look { seen: None, from: self.batches, records, for_time, now_ms: shop.now.ms };
        let news = gather(shop.hub(), look, &self.known, &Clock::in_zone("Europe/London").unwrap()).unwrap();
        self.batches = news.batches;
        self.looked_at.push(news.looked_at);
        self.known.take(news.changes);
        self.tables.take(news.rows);
        news.more
    }

    fn all(mut self, shop: &Shop, records: usize) -> Self {
        while self.portion(shop, records, false) {}
        self.portion(shop, records, true);
        self
    }
}

fn sale(receipt: &str, amount: usize) -> String {
    format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"A","quantity":"1","amount_minor":{amount}}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]}}"#
    )
}

fn reversal(kind: &str, receipt: &str, of: &str, amount: usize) -> String {
    let sale = sale(receipt, amount).replace(r#""kind":"sale""#, &format!(r#""kind":"{kind}""#));
    sale.replacen('{', &format!(r#"{{"original_receipt":"{of}","#), 1)
}

/// Time passes until the till has sealed and the hub has everything.
fn bring(shop: &mut Shop) {
    for _ in 0..20 {
        shop.wait(1_000);
        shop.carry(usize::MAX);
    }
}

/// A day of a thousand records costs a portion what a day of a hundred costs it.
#[test]
fn a_portion_looks_at_what_it_touches_however_long_the_day_is() {
    let mut shop = Shop::new(2);
    (1..=2).for_each(|till| shop.link(till));
    let mut follower = Follower::new(Tables::default(), 0);
    let mut most = Vec::new();
    for round in 0..10 {
        for till in 1..=2 {
            let lines: Vec<String> =
                (0..50).map(|n| sale(&format!("{till}-{}", 50 * round + n), 100 + 50 * round + n)).collect();
            shop.capture(till, &lines);
        }
        // Somebody waits for an original that never comes: a case more each day of trade.
        shop.capture(1, &[reversal("void", &format!("V-{round}"), &format!("nobody's-{round}"), 100)]);
        bring(&mut shop);
        let from = follower.looked_at.len();
        while follower.portion(&shop, 40, false) {}
        most.push(*follower.looked_at[from..].iter().max().unwrap());
    }
    assert_eq!(follower.tables.receipts.len(), 1_010);
    assert!(shop.hub().books().cases().count() >= 10);
    // Both tills on the one day, and the case that is new.
    assert!(most.iter().all(|looked_at| *looked_at <= 3), "{most:?}");
}

/// Numbers that look like chance and are the same every time.
struct Lots(u64);

impl Lots {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Tills sell, undo what others sold, return what nobody sold, close their days or do not, go away and come back; days pass,
/// the hub and its follower start again in between. Whatever the order, the tables end up as those that a follower fills
/// that sees everything at once.
#[test]
fn tables_that_were_followed_are_those_that_are_filled_from_nothing() {
    const TILLS: usize = 3;
    let mut seen_cases = 0;
    for seed in 0..30 {
        let (mut lots, mut shop) = (Lots(seed), Shop::new(TILLS));
        let mut follower = Follower::new(Tables::default(), 0);
        let mut sold: Vec<(String, usize)> = Vec::new();
        for step in 0..120 {
            let till = 1 + lots.below(TILLS);
            match lots.below(14) {
                0..=4 => {
                    let lines: Vec<String> = (0..=lots.below(5))
                        .map(|n| {
                            let (receipt, amount) = (format!("S-{step}-{n}"), 100 + lots.below(900));
                            sold.push((receipt.clone(), amount));
                            sale(&receipt, amount)
                        })
                        .collect();
                    shop.capture(till, &lines);
                }
                5 if !sold.is_empty() => {
                    let (of, amount) = sold[lots.below(sold.len())].clone();
                    let kind = ["void", "refund"][lots.below(2)];
                    shop.capture(till, &[reversal(kind, &format!("R-{step}"), &of, amount)]);
                }
                6 => {
                    // What it returns may be sold later, elsewhere.
                    let of = format!("S-{}-0", step + lots.below(20));
                    shop.capture(till, &[reversal("refund", &format!("R-{step}"), &of, 100)]);
                }
                7 => {
                    let counted = lots.below(2) * 100_000;
                    let close = format!(
                        r#"{{"kind":"day_close","receipt":"Z-{step}","counted":{{"GBP":{counted}}}}}"#
                    );
                    shop.capture(till, &[close]);
                }
                8 | 9 => shop.link(till),
                10 => shop.cut(till),
                11 => shop.wait(i64::try_from(lots.below(20)).unwrap() * 3_600_000),
                12 if lots.below(4) == 0 => {
                    shop.restart_hub();
                    follower = Follower::new(follower.tables, follower.batches);
                }
                _ => shop.wait(2_000),
            }
            shop.carry(lots.below(12));
            if lots.below(3) == 0 {
                follower.portion(&shop, 1 + lots.below(20), lots.below(8) == 0);
            }
        }
        (1..=TILLS).for_each(|till| shop.link(till));
        bring(&mut shop);
        let followed = follower.all(&shop, 7);
        let filled = Follower::new(Tables::default(), 0).all(&shop, 1_000);
        assert_eq!(followed.tables, filled.tables, "seed {seed}");
        seen_cases += filled.tables.cases.len();
        // And nothing is left to be said.
        let (mut again, before) = (followed, filled.tables);
        again.portion(&shop, 10, true);
        assert_eq!(again.tables, before, "seed {seed}");
    }
    assert!(seen_cases > 50, "something happened: {seen_cases}");
}
