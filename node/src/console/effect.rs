//! What a decision does to the books, before it is taken: the entries, the state of its case, cases that open or end.

use engine::ledger::Effect;
use engine::replica::Replica;
use engine::review::CaseState;
use maud::{Markup, html};

use super::slip::posting_table;
use super::{show, words};

/// An effect in full.
pub fn effect(replica: &Replica, effect: &Effect) -> Markup {
    let receipt =
        |id| replica.books().record(id).map_or_else(String::new, |it| it.transaction.receipt.clone());
    html! {
        @if effect.postings.is_empty() { p.small.soft { "Nothing is posted." } }
        @for (record, postings) in &effect.postings {
            p.small.soft { "Posted for " (receipt(record)) ":" }
            (posting_table(postings))
        }
        p.small {
            @match effect.state {
                Some(CaseState::Open) => "The case stays open: others in it wait for a word.",
                Some(CaseState::Decided) => "The case is decided.",
                Some(CaseState::SelfCancelled) => "The case cancels itself.",
                None => "The case ends.",
            }
            @for opened in &effect.opens { " A new case opens: " (words::doubt(opened.key.case_type)) ", " (opened.about) "." }
            @if !effect.ends.is_empty() { " It ends " (show::count(effect.ends.len() as u64, "other case", "other cases")) "." }
        }
    }
}
