//! Who knew what when: the tills of a case as lines of time, what each did, and whether word of it had reached the other
//! before. A drawing for the eye, and the same in sentences.

use std::collections::BTreeMap;

use engine::ids::{LogId, RecordId};
use engine::record::Record;
use engine::replica::Replica;
use engine::review::{Case, Knowledge};
use maud::{Markup, html};

use super::{show, words};

/// Most tills in a drawing.
const TILLS_DRAWN: usize = 5;
const ROW: usize = 62;
const LEFT: usize = 96;
const RIGHT: usize = 640;

/// The drawing and the sentences; nothing where the question does not arise.
pub fn knowledge(replica: &Replica, case: &Case) -> Markup {
    if case.verdicts.is_empty() {
        return html! {};
    }
    html! {
        section.card {
            h2 { "Who knew what when" }
            div.drawing tabindex="0" role="group" aria-label="Drawing" { (picture(replica, case)) }
            ul {
                @for verdict in &case.verdicts {
                    @if let (Some(loser), Some(winner)) = (replica.books().record(&verdict.loser), replica.books().record(&verdict.winner)) {
                        li {
                            @match verdict.knowledge {
                                Knowledge::Concurrent => {
                                    (loser.log.terminal) " could not know: when it made " (loser.transaction.receipt) ", "
                                    (winner.transaction.receipt) " of " (winner.log.terminal) " had not reached it. Two honest tills without a line."
                                },
                                Knowledge::Knowing => {
                                    strong { (loser.log.terminal) " knew: " }
                                    (winner.transaction.receipt) " of " (winner.log.terminal) " was on it "
                                    @match learned(replica, loser, verdict.known_since) {
                                        Some(record) => { "at the latest at " (show::instant(record.at)) ", before it made " },
                                        None => "before it made ",
                                    }
                                    (loser.transaction.receipt) ". A question of procedure."
                                },
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The record at which a till first acted with the winner on it.
fn learned<'a>(replica: &'a Replica, loser: &Record, since: Option<u64>) -> Option<&'a Record> {
    replica.books().log_record(&loser.log, since?).map(|record| &**record)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions on a drawing")]
fn picture(replica: &Replica, case: &Case) -> Markup {
    let mut members: Vec<&Record> =
        case.members.iter().filter_map(|id| replica.books().record(id)).map(|record| &**record).collect();
    members.sort_by_key(|record| (record.effective_ms, record.id));
    let mut rows: BTreeMap<&LogId, usize> = BTreeMap::new();
    for record in &members {
        let next = rows.len();
        rows.entry(&record.log).or_insert(next);
    }
    if rows.len() > TILLS_DRAWN || members.len() > 12 {
        return html! {};
    }
    // Evenly apart in the order of time: minutes and days fit on one line.
    let step = (RIGHT - LEFT - 90) / members.len().max(1);
    let x = |at: usize| LEFT + 50 + step * at;
    let y = |record: &Record| 30 + ROW * rows.get(&record.log).copied().unwrap_or(0);
    let place = |id: &RecordId| members.iter().position(|record| record.id == *id);
    let height = 30 + ROW * rows.len();
    html! {
        svg.picture viewBox={ "0 0 " (RIGHT) " " (height) } role="img"
            aria-label="What each till did in the order of time; the sentences below say the same" {
            @for (log, row) in &rows {
                text.dim x="0" y=(34 + ROW * row) { (log.terminal) }
                line.life x1=(LEFT) y1=(30 + ROW * row) x2=(RIGHT - 10) y2=(30 + ROW * row) {}
            }
            @for verdict in &case.verdicts {
                @if let (Some(from), Some(to)) = (place(&verdict.winner), place(&verdict.loser)) {
                    @if verdict.knowledge == Knowledge::Knowing {
                        path.msg d={ "M" (x(from)) " " (y(members[from])) "L" (x(to)) " " (y(members[to])) } {}
                    } @else {
                        path.cut d={ "M" (x(from)) " " (y(members[from])) "L" (x(to)) " " (y(members[to])) } {}
                        text.dim x=((x(from) + x(to)) / 2 + 14) y=((y(members[from]) + y(members[to])) / 2) { "no word of it" }
                    }
                }
            }
            @for (at, record) in members.iter().enumerate() {
                circle class=(if case.held.contains_key(&record.id) { "dot held" } else { "dot" }) cx=(x(at)) cy=(y(record)) r="7" {}
                text x=(x(at) - 20) y=(y(record) - 13) { (words::kind(record.transaction.kind())) " " (record.transaction.receipt) }
            }
        }
    }
}
