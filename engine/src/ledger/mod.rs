//! The merge layer: from a set of records to double-entry books and review cases (LEDGER-RULES.md is the law).
//! A pure function of the set: no clock, no order of arrival, no identity of a replica enters a result.
//!
//! The door is [`Books`]. Behind it, from the ground up:
//!
//! * `account`, `journal`: the chart, postings, entries chained by hash.
//! * `slot_index`, `records`, `outcomes`, `numbers`, `days`: what is kept of every record; what is not in use rests
//!   packed, in the attic.
//! * `families`, `facts`, `seen`, `hub`, `reference`, `order`, `log`: the set and what is looked up in it; `log` is
//!   stage B, kept up to date number by number, `order` the canonical order K.
//! * `judgement` judges one family: `duplicates` (stages C, D), `returns` and `reversals` (E), `payments` (F),
//!   `advisories` (G), `posting` and `close` (H); `casework` makes the cases.
//! * `case_index`: open cases by till-day, and which cases changed last.
//! * `day_status` says how far a day has come, `z_check` and `reconcile` hold Z reports against records and books.
//! * `books`, `view`, `image`: incremental settling, the restated view, the image for a restart.
//! * `preview`: what a decision or a changed policy would do, before it is taken.

mod account;
mod advisories;
mod books;
mod case_index;
mod casework;
mod close;
mod day_status;
mod days;
mod dirty;
mod duplicates;
mod facts;
mod families;
mod hub;
mod image;
mod journal;
mod judgement;
mod log;
mod lookup;
mod numbers;
mod order;
mod outcomes;
mod payments;
mod posting;
mod preview;
mod reconcile;
mod records;
mod reference;
mod returns;
mod reversals;
mod seen;
mod slot_index;
mod view;
mod z_check;

#[cfg(test)]
mod tests;

pub use crate::shelf::WorkLimits;
pub use account::{Account, BadAccount};
pub use books::{Books, Settled};
pub use day_status::{DayState, Heard, TillDay};
pub use journal::{JournalEntry, JournalHead, Posting, Sheet};
pub use judgement::Standing;
pub use preview::{Effect, Possible};
pub use z_check::{Figure, ZCheck};
