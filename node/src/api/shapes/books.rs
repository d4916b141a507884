//! Balances, journal, days and their locks, payments, exports.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::Sum;
use super::records::PostingShape;

/// Balances of accounts.
#[derive(ToSchema)]
pub struct BalancesShape {
    /// `account currency` to minor units; zeros are left out.
    balances: BTreeMap<String, Sum>,
    /// When it was asked.
    as_of: String,
    /// Hash of the books.
    view_hash: String,
}

/// Debits and credits.
#[derive(ToSchema)]
pub struct TrialBalanceShape {
    /// By currency.
    currencies: BTreeMap<String, TrialShape>,
    /// When it was asked.
    as_of: String,
}

/// Debits and credits of one currency.
#[derive(ToSchema)]
pub struct TrialShape {
    /// Debits.
    debits_minor: Sum,
    /// Credits.
    credits_minor: Sum,
    /// Zero.
    difference_minor: Sum,
}

/// A page of journals.
#[derive(ToSchema)]
pub struct JournalShape {
    /// The entries.
    entries: Vec<JournalEntryShape>,
    /// `after` of the next page; null at the end.
    next: Option<u64>,
}

/// An entry of a journal.
#[derive(ToSchema)]
pub struct JournalEntryShape {
    /// Number in the store, from 1 without gaps.
    number: u64,
    /// Accounting date.
    date: String,
    /// The record that the postings explain.
    record: String,
    /// Its receipt.
    receipt: Option<String>,
    /// Its till.
    terminal: Option<String>,
    /// What caused a correction.
    because: Option<String>,
    /// The postings; they balance by currency.
    postings: Vec<PostingShape>,
    /// Chains it to the entry before.
    hash: String,
    /// Its store.
    store: String,
}

/// How far a store's day has come.
#[derive(ToSchema)]
pub struct DayShape {
    /// The store.
    store: String,
    /// The business day.
    day: String,
    /// The state of the till that is furthest behind.
    state: String,
    /// Whether it is locked.
    locked: bool,
    /// Open cases that name its records.
    open_cases: Vec<String>,
    /// Till by till.
    terminals: Vec<TillDayShape>,
}

/// How far a till's day has come.
#[derive(ToSchema)]
pub struct TillDayShape {
    /// The till.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// `gap`, `missing`, `unheard`, `open`, `complete`, `no_trade` or `finished`.
    state: String,
    /// Records of the day that are here.
    records: u64,
    /// Their first number.
    first_seq: Option<u64>,
    /// Their last.
    last_seq: Option<u64>,
    /// How many are known and not here.
    not_arrived: u64,
    /// Their numbers: pairs of first and last.
    missing: Vec<Vec<u64>>,
    /// When the till was heard of.
    last_seen: Option<String>,
    /// Its Z.
    close: Option<ZShape>,
    /// Open cases of severity 1.
    urgent_cases: Vec<String>,
}

/// A Z beside the records.
#[derive(ToSchema)]
pub struct ZShape {
    /// The record.
    id: String,
    /// Its receipt number.
    receipt: String,
    /// Its number in the log.
    seq: u64,
    /// When.
    at: String,
    /// Number of the Z.
    z_number: u64,
    /// Whether everything is here and equal.
    agrees: bool,
    /// What is not equal.
    differences: Vec<FigureShape>,
    /// Numbers that it covers and that are not here: pairs of first and last.
    missing: Vec<Vec<u64>>,
    /// Receipts that would account for the differences.
    receipts: Vec<String>,
}

/// A figure that differs.
#[derive(ToSchema)]
pub struct FigureShape {
    /// Which.
    figure: String,
    /// ISO 4217.
    currency: String,
    /// What the Z says.
    stated_minor: i64,
    /// What the records say.
    found_minor: i64,
}

/// Days that were locked.
#[derive(ToSchema)]
pub struct LockedShape {
    /// The store.
    store: String,
    /// Number of the lock.
    lock: u64,
    /// Last day of it.
    through: String,
    /// The day that is open now.
    open_day: String,
    /// What is in it.
    heads: Vec<HeadShape>,
    /// What was not finished.
    unfinished: Vec<String>,
}

/// The last record of a till in a lock.
#[derive(ToSchema)]
pub struct HeadShape {
    /// The till.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// The record's number.
    seq: u64,
    /// The record.
    id: String,
}

/// What became of a payment.
#[derive(ToSchema)]
pub struct PaymentShape {
    /// The store.
    store: String,
    /// The payment.
    payment: String,
    /// What became of it.
    outcome: String,
    /// False if it was known already.
    recorded: bool,
}

/// A settled batch of card payments.
#[derive(ToSchema)]
pub struct SettlementShape {
    /// Its number at the provider.
    batch: String,
    /// What was recorded where.
    stores: Vec<SettledShape>,
}

/// What a settlement was in one store.
#[derive(ToSchema)]
pub struct SettledShape {
    /// The store.
    store: String,
    /// Records that were written; 0 if it was known already.
    recorded: u64,
}

/// A batch of an export.
#[derive(ToSchema)]
pub struct ExportShape {
    /// Its number.
    number: u64,
    /// When it was cut.
    at: String,
    /// Hash of its entries and of the batch before.
    hash: String,
    /// Hash of the batch before.
    prev: String,
    /// Form of the files.
    format: Option<String>,
    /// How fine.
    detail: Option<String>,
    /// How days are written, for programs that ask.
    date_format: Option<String>,
    /// Control totals.
    #[schema(value_type = Object)]
    totals: (),
    /// The files; not in the list.
    files: Option<Vec<FileShape>>,
}

/// A file of an export.
#[derive(ToSchema)]
pub struct FileShape {
    /// Its name.
    name: String,
    /// What is in it.
    content: String,
}
