//! The books at the end: trial balance by account, what suspense consists of, and the cases that wait for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use engine::ledger::{Account, Books, Standing};
use engine::money::Currency;
use engine::review::{Case, CaseState, Knowledge};

use super::{count, escape, grouped, words};
use crate::run::Run;

/// Drawers are told one by one up to so many; beyond, as a sum with the list folded away.
const DRAWERS_SHOWN: usize = 8;
/// Open cases that are listed.
const CASES_SHOWN: usize = 300;

/// The section with the books.
pub(super) fn section(html: &mut String, run: &Run) {
    let books = run.world.hub_node().replica().books();
    html.push_str("<section>\n<h2>The books at the end</h2>\n<div class=\"cards wide\">\n");
    trial_balance(html, books);
    suspense(html, books);
    html.push_str("</div>\n</section>\n");
    open_cases(html, books);
}

fn row(html: &mut String, code: &str, name: &str, currency: Currency, balance: i128) {
    let amount = escape(&currency.format(balance.abs()));
    let (debit, credit) = if balance >= 0 { (amount.as_str(), "") } else { ("", amount.as_str()) };
    let _ = writeln!(
        html,
        "<tr><td class=\"code\">{code}</td><td>{}</td><td class=\"num\">{debit}</td><td class=\"num\">{credit}</td></tr>",
        escape(name)
    );
}

fn trial_balance(html: &mut String, books: &Books) {
    let balances = books.balances();
    for (currency, (debits, credits)) in books.trial_balance() {
        let own: Vec<(&Account, i128)> =
            balances.iter().filter(|row| row.0.1 == currency).map(|row| (&row.0.0, *row.1)).collect();
        let (drawers, mut others): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|row| matches!(row.0, Account::Drawer(_)));
        others.sort_by_key(|row| row.0.code());
        let _ = writeln!(
            html,
            "<article class=\"card\"><h3>Trial balance, {}</h3><div class=\"scroll\"><table><thead><tr><th></th>\
             <th>Account</th><th class=\"num\">Debit</th><th class=\"num\">Credit</th></tr></thead><tbody>",
            escape(currency.code())
        );
        let many = drawers.len() > DRAWERS_SHOWN;
        if many {
            let sum = drawers.iter().map(|row| row.1).sum();
            let name = format!("Assets:Cash:Drawer, {}", count(drawers.len() as u64, "till", "tills"));
            row(html, "1010", &name, currency, sum);
        } else {
            for (account, balance) in &drawers {
                row(html, "1010", &account.to_string(), currency, *balance);
            }
        }
        for (account, balance) in &others {
            row(html, &account.code().to_string(), &account.to_string(), currency, *balance);
        }
        let _ = writeln!(
            html,
            "</tbody><tfoot><tr><td></td><td>Off by {}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\
             </tfoot></table></div>",
            escape(
                &currency.format(balances.iter().filter(|row| row.0.1 == currency).map(|row| row.1).sum())
            ),
            escape(&currency.format(debits.abs())),
            escape(&currency.format(credits.abs()))
        );
        if many {
            let _ = writeln!(
                html,
                "<p class=\"sub\">The drawers stand as a sum; a credit is more cash paid out than taken in.</p>\
                 <details><summary>All {} drawers</summary><div class=\"scroll\"><table><tbody>",
                grouped(drawers.len() as u64)
            );
            for (account, balance) in &drawers {
                row(html, "1010", &account.to_string(), currency, *balance);
            }
            html.push_str("</tbody></table></div></details>\n");
        }
        html.push_str("</article>\n");
    }
}

/// What explains the suspense balance: held records by the case that holds them, and differences.
fn suspense(html: &mut String, books: &Books) {
    let cases: Vec<&Case> = books.cases().collect();
    let members: BTreeSet<_> = cases.iter().flat_map(|case| &case.members).collect();
    let mut holds = BTreeMap::new();
    for case in &cases {
        for id in case.held.keys() {
            holds.entry(*id).or_insert(case.key.case_type.as_str());
        }
    }
    let mut rows: BTreeMap<(Currency, String), (u64, i128)> = BTreeMap::new();
    for (record, _) in books.arrivals() {
        let held = books.standing(&record.id) == Some(Standing::InReview);
        let mut own: BTreeMap<Currency, i128> = BTreeMap::new();
        for posting in books.postings_of(&record.id).iter().filter(|posting| posting.account.is_suspense()) {
            *own.entry(posting.currency).or_default() += i128::from(posting.amount_minor);
        }
        for (currency, sum) in own.into_iter().filter(|row| row.1 != 0) {
            let why = match (held, members.contains(&record.id)) {
                (true, _) => {
                    let case = holds.get(&record.id).map_or("a case", |word| *word);
                    format!("held: {}", words::case_type(case).to_lowercase())
                }
                (false, true) => "difference, recorded in a case".to_owned(),
                (false, false) => "not explained".to_owned(),
            };
            let entry = rows.entry((currency, why)).or_default();
            *entry = (entry.0 + 1, entry.1 + sum);
        }
    }
    html.push_str(
        "<article class=\"card\"><h3>Suspense, explained</h3><p class=\"sub\">Money whose reason a person still has to \
         confirm: the cash is where it is, the reason waits here.</p>",
    );
    if rows.is_empty() {
        html.push_str("<p class=\"none\">Suspense is empty.</p></article>\n");
        return;
    }
    html.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>Why</th><th class=\"num\">Records</th><th class=\"num\">Amount\
         </th></tr></thead><tbody>\n",
    );
    for ((currency, why), (records, sum)) in &rows {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}&#160;{}</td></tr>",
            escape(why),
            grouped(*records),
            escape(&currency.format(*sum)),
            escape(currency.code())
        );
    }
    html.push_str("</tbody><tfoot>\n");
    let mut totals: BTreeMap<Currency, i128> = BTreeMap::new();
    for ((account, currency), balance) in books.balances() {
        if account.is_suspense() {
            *totals.entry(currency).or_default() += balance;
        }
    }
    for (currency, total) in totals {
        let _ = writeln!(
            html,
            "<tr><td>The suspense accounts hold</td><td></td><td class=\"num\">{}&#160;{}</td></tr>",
            escape(&currency.format(total)),
            escape(currency.code())
        );
    }
    html.push_str("</tfoot></table></div></article>\n");
}

fn open_cases(html: &mut String, books: &Books) {
    let mut open: Vec<&Case> = books.cases().filter(|case| case.state == CaseState::Open).collect();
    open.sort_by_key(|case| (case.severity, case.key.clone()));
    let _ = writeln!(
        html,
        "<section>\n<h2>Open cases <span class=\"muted\">{}</span></h2>",
        grouped(open.len() as u64)
    );
    if open.is_empty() {
        html.push_str("<p class=\"none\">Nothing waits for a person.</p>\n</section>\n");
        return;
    }
    html.push_str(
        "<p class=\"sub\">What a reviewer finds on the desk, the most urgent first.</p>\n<div class=\"scroll tall\">\
         <table class=\"cases\"><thead><tr><th>Case</th><th>Type</th><th>About</th><th>Did the till know?</th>\
         <th class=\"num\">Records</th><th class=\"num\">Amount</th></tr></thead><tbody>\n",
    );
    for case in open.iter().take(CASES_SHOWN) {
        let amount = case.currency.map_or_else(String::new, |currency| {
            format!("{}\u{a0}{}", currency.format(i128::from(case.amount_minor)), currency.code())
        });
        let knew = match case.knowledge() {
            Some(Knowledge::Knowing) => "yes",
            Some(Knowledge::Concurrent) => "no, it was cut off",
            None => "",
        };
        let _ = writeln!(
            html,
            "<tr><td class=\"code\"><i class=\"key dot s{}\"></i>{}</td><td>{}</td><td>{}</td><td>{knew}</td>\
             <td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
            case.severity,
            escape(&case.id),
            escape(&words::case_type(case.key.case_type.as_str())),
            escape(&case.about),
            case.members.len(),
            escape(&amount)
        );
    }
    html.push_str("</tbody></table></div>\n");
    if open.len() > CASES_SHOWN {
        let _ =
            writeln!(html, "<p class=\"sub\">and {} more.</p>", grouped((open.len() - CASES_SHOWN) as u64));
    }
    html.push_str("</section>\n");
}
