//! What the answers look like, for OpenAPI. The answers themselves are made in `views` and where the work is done; a test asks
//! both nodes for every one of them and finds each field told here, and each required field there (`tests/openapi.rs`).
//! Amounts are whole minor units in fields that end in `_minor`, times RFC 3339, days YYYY-MM-DD.
#![allow(dead_code, reason = "read by OpenAPI only")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// A sum: an integer, or its digits where 64 bits do not hold it.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Sum {
    /// Minor units.
    Whole(i64),
    /// Minor units, in digits.
    Digits(String),
}

/// The answer to a capture: the record is durable at the till.
#[derive(ToSchema)]
pub struct ReceiptSaved {
    /// Receipt number.
    receipt: String,
    /// Identity of the record.
    id: String,
    /// Number in the till's log.
    seq: u64,
    /// `saved`.
    state: String,
    /// True if it was recorded before and this is the first answer again.
    repeated: Option<bool>,
}

/// A record with its transaction in the form in which it is captured. Which fields there are depends on `kind`.
#[derive(ToSchema)]
pub struct RecordShape {
    /// Identity: hash of the content and its place.
    id: String,
    /// `sale`, `refund`, `void`, `cash_move`, `day_close`, or a statement of the hub.
    kind: String,
    /// Receipt number.
    receipt: String,
    /// Its store.
    store: String,
    /// Its till.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// Number in the till's log.
    seq: u64,
    /// Business day.
    business_day: String,
    /// Clock of the till.
    at: String,
    /// Never before what its till had received.
    effective_at: String,
    /// Pseudonym of the operator.
    operator: Option<String>,
    /// One per basket.
    idempotency_key: Option<String>,
    /// True if the POS said that nobody could be reached.
    offline: Option<bool>,
    /// ISO 4217.
    currency: Option<String>,
    /// What was sold or returned.
    lines: Option<Vec<LineShape>>,
    /// How it was paid.
    tenders: Option<Vec<TenderShape>>,
    /// Cash rounding.
    rounding_minor: Option<i64>,
    /// Tip.
    tip_minor: Option<i64>,
    /// What was paid in all.
    total_minor: Option<i64>,
    /// Tax in it.
    tax_total_minor: Option<i64>,
    /// What is returned or voided.
    original: Option<ReferenceShape>,
    /// Why.
    reason: Option<String>,
    /// Who approved it.
    approver: Option<String>,
    /// What a void takes back.
    reverses: Option<String>,
    /// Of a cash movement: which.
    movement: Option<String>,
    /// Of a cash movement: how much.
    amount_minor: Option<i64>,
    /// Of a day close: number of the Z.
    z_number: Option<u64>,
    /// Of a day close: first and last number in the log.
    covers: Option<Vec<u64>>,
    /// Of a day close: sums by currency.
    totals: Option<Vec<CloseShape>>,
    /// Of the hub: what it states.
    #[schema(value_type = Option<Object>)]
    statement: Option<()>,
    /// Where it is on its way into the books; where one record is asked for.
    custody: Option<CustodyShape>,
    /// What it posts; where one record or case is asked for.
    postings: Option<Vec<PostingShape>>,
    /// Cases that name it; where one record is asked for.
    cases: Option<Vec<String>>,
    /// Why it is held; among the members of a case.
    held: Option<String>,
}

/// A line of a basket.
#[derive(ToSchema)]
pub struct LineShape {
    /// Number of the line.
    line: u32,
    /// Article.
    sku: String,
    /// Pieces or weight, decimal.
    quantity: String,
    /// What was taken off.
    discount_minor: i64,
    /// What was paid for it.
    amount_minor: i64,
    /// Tax in it, or on it.
    tax_minor: i64,
    /// Its name.
    description: Option<String>,
    /// Price of one.
    unit_price_minor: Option<i64>,
    /// Code of the tax.
    tax_code: Option<String>,
    /// Percent, decimal.
    tax_rate: Option<String>,
    /// True if the tax comes on top.
    tax_exclusive: Option<bool>,
    /// True if goods come back in a sale.
    return_in_sale: Option<bool>,
    /// True if an earlier line is taken back.
    line_void: Option<bool>,
    /// True if a gift card was sold.
    gift_card_sold: Option<bool>,
    /// The sale that goods come back from.
    original: Option<ReferenceShape>,
    /// Its line.
    original_line: Option<u32>,
}

/// A means of payment.
#[derive(ToSchema)]
pub struct TenderShape {
    /// `cash`, `card`, …
    r#type: String,
    /// How much.
    amount_minor: i64,
    /// `approved`, `offline`, …
    status: String,
    /// If it differs from the basket's.
    currency: Option<String>,
    /// Id of the payment at its provider.
    payment: Option<String>,
    /// Authorisation.
    auth: Option<String>,
    /// Brand of the card.
    card_brand: Option<String>,
    /// Last four digits of the card.
    card_last4: Option<String>,
    /// Token of the card.
    card_token: Option<String>,
    /// Cash given.
    tendered_minor: Option<i64>,
    /// Cash given back.
    change_minor: Option<i64>,
}

/// Names another record.
#[derive(ToSchema)]
pub struct ReferenceShape {
    /// Its identity.
    id: Option<String>,
    /// Its store.
    store: Option<String>,
    /// Its till.
    terminal: Option<String>,
    /// Its receipt number.
    receipt: Option<String>,
    /// Its number in the log.
    seq: Option<u64>,
}

/// Sums of a day close in one currency.
#[derive(ToSchema)]
pub struct CloseShape {
    /// ISO 4217.
    currency: String,
    /// Sales.
    sales: CountShape,
    /// Refunds.
    refunds: CountShape,
    /// Voids.
    voids: CountShape,
    /// Tax by code.
    tax: Vec<TaxShape>,
    /// Money by means of payment.
    tenders: Vec<TenderSumShape>,
    /// What the drawer should hold.
    expected_cash_minor: i64,
    /// What was counted.
    counted_cash_minor: i64,
    /// Since the till's first record.
    grand_total_minor: i64,
}

/// How many, and their sum.
#[derive(ToSchema)]
pub struct CountShape {
    /// How many.
    count: u64,
    /// Their sum.
    sum_minor: i64,
}

/// Tax of one code.
#[derive(ToSchema)]
pub struct TaxShape {
    /// The code.
    tax_code: String,
    /// The tax.
    tax_minor: i64,
}

/// Money of one means of payment.
#[derive(ToSchema)]
pub struct TenderSumShape {
    /// Which.
    r#type: String,
    /// How much.
    amount_minor: i64,
}

/// Where a record is on the custody ladder.
#[derive(ToSchema)]
pub struct CustodyShape {
    /// The record.
    id: String,
    /// Its receipt number.
    receipt: String,
    /// Its till.
    terminal: String,
    /// Its number in the log.
    seq: u64,
    /// `saved`, `on_peer`, `at_hub`, `merged`, `posted`, `exported`, or `in_review`.
    state: String,
    /// States reached.
    history: Vec<CustodyStepShape>,
}

/// A state that was reached.
#[derive(ToSchema)]
pub struct CustodyStepShape {
    /// Which.
    state: String,
    /// When, by the clock of the node that was asked.
    at: String,
}

/// A debit (positive) or credit (negative).
#[derive(ToSchema)]
pub struct PostingShape {
    /// Name of the account.
    account: String,
    /// Its code.
    account_code: u16,
    /// ISO 4217.
    currency: String,
    /// How much.
    amount_minor: i64,
}

/// What waits at a till.
#[derive(ToSchema)]
pub struct WaitingShape {
    /// How many records.
    count: u64,
    /// Their value by currency.
    value_minor: BTreeMap<String, i64>,
    /// Age of the oldest.
    oldest_seconds: Option<i64>,
}

/// How a till stands.
#[derive(ToSchema)]
pub struct TillStatusShape {
    /// Its store.
    store: String,
    /// Its name.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// Whether the hub is connected.
    online: bool,
    /// Since when it is, or is not.
    since: Option<String>,
    /// What the hub does not hold yet.
    waiting: WaitingShape,
    /// Up to where the hub holds everything.
    at_hub_through: ThroughShape,
    /// Last number in its log.
    head_seq: u64,
    /// Version of the policy in force.
    policy_version: u64,
    /// Hash of the books; equal on every node that holds the same records.
    view_hash: String,
    /// Cases that are open, as far as it knows.
    open_cases: u64,
    /// Who is connected.
    peers: Vec<PeerShape>,
    /// Version of the program.
    software: String,
    /// What somebody should look at.
    alarms: Vec<AlarmShape>,
    /// Whether the disk is full.
    disk_full: bool,
}

/// A number in a log with its receipt.
#[derive(ToSchema)]
pub struct ThroughShape {
    /// The number; 0: none.
    seq: u64,
    /// The receipt.
    receipt: Option<String>,
}

/// A connected node.
#[derive(ToSchema)]
pub struct PeerShape {
    /// Its name.
    peer: Option<String>,
    /// Whether both hold the same.
    level: bool,
    /// Batches still to be sent.
    backlog: u64,
    /// Batches of it that were refused.
    refused: u64,
    /// What it said last.
    last_status: Option<PeerStatusShape>,
}

/// What a node says of itself.
#[derive(ToSchema)]
pub struct PeerStatusShape {
    /// When it came.
    at: String,
    /// Its clock less ours.
    clock_offset_ms: i64,
    /// Records that wait there.
    waiting: u64,
    /// Its policy.
    policy_version: u64,
    /// Its program.
    software: String,
}

/// What waits at a till, with the first of it.
#[derive(ToSchema)]
pub struct PendingShape {
    /// How many records.
    count: u64,
    /// Their value by currency.
    value_minor: BTreeMap<String, i64>,
    /// Age of the oldest.
    oldest_seconds: Option<i64>,
    /// The first of them.
    records: Vec<PendingRecordShape>,
}

/// A record that waits.
#[derive(ToSchema)]
pub struct PendingRecordShape {
    /// Receipt number.
    receipt: String,
    /// Identity.
    id: String,
    /// Number in the log.
    seq: u64,
    /// What it is.
    kind: String,
    /// Clock of the till.
    at: String,
    /// Its total, if it has a basket.
    total_minor: Option<i64>,
    /// ISO 4217.
    currency: Option<String>,
}

/// Something that somebody should look at.
#[derive(ToSchema)]
pub struct AlarmShape {
    /// A till or a store.
    about: String,
    /// What, in one word.
    what: String,
    /// First time.
    since: String,
    /// Last time.
    last: String,
    /// How often.
    times: u64,
    /// The rest, for people.
    detail: String,
}

/// An event of the audit log.
#[derive(ToSchema)]
pub struct AuditShape {
    /// Number in the node's log of events.
    number: u64,
    /// When.
    at: String,
    /// The store, if it concerns one.
    store: Option<String>,
    /// The peer or person.
    who: Option<String>,
    /// What, in one word.
    event: String,
    /// The rest, for people.
    detail: String,
}

/// A case for review. What only one that is asked for has: `verdicts`, `receipts`, `options`, `decisions`.
#[derive(ToSchema)]
pub struct CaseShape {
    /// Its id.
    id: String,
    /// Which kind.
    r#type: String,
    /// What it is about, for programs.
    subject: String,
    /// What it is about, for people.
    about: String,
    /// Its store.
    store: String,
    /// 1 is the most urgent.
    severity: u8,
    /// `open`, `decided` or `self_cancelled`.
    state: String,
    /// `concurrent`, `knowing`, or null where the question does not arise.
    verdict: Option<String>,
    /// The records that it names.
    members: Vec<MemberShape>,
    /// How much is at stake.
    amount_minor: i64,
    /// ISO 4217.
    currency: Option<String>,
    /// When it opened.
    opened_at: String,
    /// Changes with its members; a decision names it.
    version: String,
    /// Who knew of whom.
    verdicts: Option<Vec<VerdictShape>>,
    /// The members as receipts.
    receipts: Option<Vec<RecordShape>>,
    /// What can be decided.
    options: Option<Vec<OptionShape>>,
    /// What was.
    decisions: Option<Vec<DecisionShape>>,
}

/// A record of a case.
#[derive(ToSchema)]
pub struct MemberShape {
    /// Identity.
    id: String,
    /// Receipt number, if it is here.
    receipt: Option<String>,
    /// Its till.
    terminal: Option<String>,
    /// Its number in the log.
    seq: Option<u64>,
    /// What it is.
    kind: Option<String>,
    /// Why it is held.
    held: Option<String>,
}

/// Whether the loser of a conflict knew of the winner.
#[derive(ToSchema)]
pub struct VerdictShape {
    /// The record that gives way.
    loser: String,
    /// The record that stands.
    winner: String,
    /// `concurrent` or `knowing`.
    verdict: String,
    /// When the loser's till first recorded something after the winner had arrived there.
    known_since: Option<String>,
    /// That record's number.
    known_since_seq: Option<u64>,
}

/// A decision that can be taken.
#[derive(ToSchema)]
pub struct OptionShape {
    /// What to do.
    action: String,
    /// With which record.
    member: Option<String>,
    /// Its receipt.
    receipt: Option<String>,
    /// `parameter` if the effect depends on one that is not given.
    needs: Option<String>,
    /// What it would do.
    effect: Option<EffectShape>,
}

/// What a decision does.
#[derive(ToSchema)]
pub struct EffectShape {
    /// What is posted, by record.
    entries: Vec<EffectEntryShape>,
    /// The state of the case after it.
    state: Option<String>,
    /// Cases that open.
    opens: Vec<EffectCaseShape>,
    /// Cases that end.
    ends: Vec<String>,
}

/// Postings that explain a record.
#[derive(ToSchema)]
pub struct EffectEntryShape {
    /// The record.
    record: String,
    /// Its receipt.
    receipt: Option<String>,
    /// The postings.
    postings: Vec<PostingShape>,
}

/// A case that opens.
#[derive(ToSchema)]
pub struct EffectCaseShape {
    /// Which kind.
    r#type: String,
    /// What it is about.
    about: String,
    /// 1 is the most urgent.
    severity: u8,
}

/// A decision that was taken.
#[derive(ToSchema)]
pub struct DecisionShape {
    /// The record that states it.
    id: String,
    /// Its number in the store.
    number: u64,
    /// What.
    action: String,
    /// With which record.
    member: Option<String>,
    /// How.
    parameter: Option<String>,
    /// The till that it concerns.
    terminal: Option<String>,
    /// Who.
    reviewer: String,
    /// Who approved.
    approver: Option<String>,
    /// Why.
    reason: String,
}

/// What a decision did, or would do.
#[derive(ToSchema)]
pub struct DecidedShape {
    /// The case.
    case: String,
    /// Its store.
    store: String,
    /// What states it; null if it was only tried.
    decision: Option<DecisionNumberShape>,
    /// What.
    action: String,
    /// With which record.
    member: Option<String>,
    /// Who.
    reviewer: String,
    /// Who approved.
    approver: Option<String>,
    /// What it does.
    effect: EffectShape,
    /// The state of the case after it.
    state: Option<String>,
}

/// Number and record of a decision.
#[derive(ToSchema)]
pub struct DecisionNumberShape {
    /// Its number in the store.
    number: u64,
    /// The record that states it.
    id: String,
}

/// A store.
#[derive(ToSchema)]
pub struct StoreShape {
    /// Its name.
    store: String,
    /// Devices that were enrolled.
    terminals: u64,
    /// Of them connected.
    online: u64,
    /// Records of its tills.
    records: u64,
    /// Cases that are open.
    open_cases: u64,
    /// Version of its policy.
    policy_version: u64,
    /// Hash of its books.
    view_hash: String,
    /// What waits at its tills, as they told.
    waiting: WaitingShape,
    /// Whether the disk is full.
    disk_full: bool,
}

/// A till, as the hub knows it.
#[derive(ToSchema)]
pub struct TerminalShape {
    /// Its store.
    store: String,
    /// Its name.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// Its public key.
    key: String,
    /// Whether it is connected.
    online: bool,
    /// Whether it was shut out.
    revoked: bool,
    /// Names of the alarms about it.
    alarms: Vec<String>,
    /// Its records.
    records: u64,
    /// Records that wait there, as it said last while connected.
    waiting: Option<u64>,
    /// What waits there, as it ever said last.
    told_waiting: WaitingShape,
    /// Its clock less ours.
    clock_offset_ms: Option<i64>,
    /// Its policy.
    policy_version: Option<u64>,
    /// Its program.
    software: Option<String>,
    /// When it said so.
    last_status: Option<String>,
}

/// A join code.
#[derive(ToSchema)]
pub struct InvitedShape {
    /// The code; it works once.
    code: String,
    /// For which store.
    store: String,
    /// For which till.
    terminal: String,
    /// Until when.
    expires_at: String,
}

/// A till that was shut out.
#[derive(ToSchema)]
pub struct RevokedShape {
    /// Its store.
    store: String,
    /// Its name.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// Records of it after this number are held.
    last_valid_seq: u64,
}

/// The company's certificate authorities.
#[derive(ToSchema)]
pub struct AuthorityShape {
    /// Fingerprint of the one that signs.
    fingerprint: String,
    /// Since when, if it is not the first.
    since: Option<String>,
    /// Those before it that still count.
    former: Vec<FormerShape>,
    /// Life of a till's certificate.
    life_seconds: u64,
    /// How long after its end it may still be renewed.
    grace_seconds: u64,
}

/// A former authority.
#[derive(ToSchema)]
pub struct FormerShape {
    /// Its fingerprint.
    fingerprint: String,
    /// Until when its certificates count.
    full_until: String,
    /// Until when they may be renewed.
    renew_until: String,
}

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

/// Somebody with access.
#[derive(ToSchema)]
pub struct PersonShape {
    /// Their name.
    name: String,
    /// `admin`, `reviewer` or `viewer`.
    role: String,
    /// Since when; in the list.
    since: Option<String>,
    /// What they log in with; told once, when they are added.
    token: Option<String>,
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

/// A policy as it is shown.
#[derive(ToSchema)]
pub struct PolicyShape {
    /// The store; not in the company's.
    store: Option<String>,
    /// The till that was asked for.
    till: Option<String>,
    /// How many changes were made.
    version: u64,
    /// Every setting as text, by its name.
    settings: BTreeMap<String, String>,
    /// `company`, `store` or `till` for every setting that is not the default.
    made_for: BTreeMap<String, String>,
    /// Tills with settings of their own.
    tills: Vec<String>,
    /// Every change, oldest first.
    changes: Vec<PolicyChangeShape>,
    /// Of the company's: each store, its version and what it has of its own.
    stores: Option<Vec<StorePolicyShape>>,
}

/// A change of a policy.
#[derive(ToSchema)]
pub struct PolicyChangeShape {
    /// Its number in the hub's log.
    seq: u64,
    /// First business day that it judges; null: every day that no lock covers.
    from: Option<String>,
    /// Pairs of setting and value; the scope stands before the setting (`company:`, `till:NAME:`).
    settings: Vec<Vec<String>>,
    /// Who made it.
    by: String,
}

/// What a store has of its own.
#[derive(ToSchema)]
pub struct StorePolicyShape {
    /// The store.
    store: String,
    /// How many changes it knows.
    version: u64,
    /// Of them for it alone.
    own_changes: u64,
    /// Its tills with settings of their own.
    tills: Vec<String>,
}

/// A version of a policy that was made.
#[derive(ToSchema)]
pub struct PolicyMadeShape {
    /// The store.
    store: String,
    /// The till, if it is one's.
    till: Option<String>,
    /// How many changes there are now.
    version: u64,
    /// What was asked for.
    #[schema(value_type = Object)]
    settings: (),
}

/// A version of the company's policy that was made.
#[derive(ToSchema)]
pub struct CompanyPolicyMadeShape {
    /// How many changes there are now.
    company_version: u64,
    /// Stores that have it.
    stores: u64,
    /// Stores that could not take it yet.
    behind: Vec<BehindShape>,
}

/// A store that could not take a policy yet.
#[derive(ToSchema)]
pub struct BehindShape {
    /// Which.
    store: String,
    /// Why.
    because: String,
}

/// The three KPIs with their denominators; shares in millionths.
#[derive(ToSchema)]
pub struct MetricsShape {
    /// When it was asked.
    as_of: String,
    /// The store, if one was named.
    store: Option<String>,
    /// First day.
    from: Option<String>,
    /// Last day.
    to: Option<String>,
    /// From the till into the books.
    data_latency: DataLatencyShape,
    /// Z reports against the books.
    reconciliation: ReconciliationShape,
    /// What is here of what was made.
    capture: CaptureShape,
    /// The history.
    by_day: Vec<MetricsDayShape>,
}

/// Data latency.
#[derive(ToSchema)]
pub struct DataLatencyShape {
    /// Of all records.
    all: LatencyShape,
    /// Of those made without a link.
    offline: LatencyShape,
    /// From the link to the hub.
    drain_after_link_up: SpreadShape,
    /// Imported records, which are not counted.
    imported_records_left_out: u64,
}

/// Latency and its parts.
#[derive(ToSchema)]
pub struct LatencyShape {
    /// From commit at the till to the books.
    latency: SpreadShape,
    /// Of it: waiting for the link.
    waiting: SpreadShape,
    /// Of it: from there to the hub.
    transfer: SpreadShape,
    /// Of it: from there into the books.
    projection: SpreadShape,
    /// From commit to the first nightly batch that could have carried it.
    batch: SpreadShape,
    /// How much shorter, in millionths.
    reduction_ppm: Option<i64>,
}

/// A spread of durations, ms.
#[derive(ToSchema)]
pub struct SpreadShape {
    /// How many.
    count: u64,
    /// The middle one.
    p50_ms: i64,
    /// 95 in 100 are at most this.
    p95_ms: i64,
    /// 99 in 100 are at most this.
    p99_ms: i64,
    /// The longest.
    max_ms: i64,
    /// Their mean.
    mean_ms: i64,
}

/// Figures of Z reports beside those of the books.
#[derive(ToSchema)]
pub struct ReconciliationShape {
    /// How many.
    cells: u64,
    /// Equal.
    equal: u64,
    /// Different, and records under review account for it.
    explained: u64,
    /// Different without a reason.
    unexplained: u64,
    /// Their share.
    error_rate_ppm: Option<i64>,
    /// The first of those that differ.
    differences: Vec<DifferenceShape>,
}

/// A figure that differs.
#[derive(ToSchema)]
pub struct DifferenceShape {
    /// The store.
    store: String,
    /// The till.
    terminal: String,
    /// Which figure.
    figure: String,
    /// ISO 4217.
    currency: String,
    /// What the Z says.
    control_minor: i64,
    /// What the books say.
    ledger_minor: i64,
    /// Whether records under review account for it.
    explained: bool,
}

/// What is here of what was made.
#[derive(ToSchema)]
pub struct CaptureShape {
    /// Numbers known from any source.
    committed: u64,
    /// Of them here.
    captured: u64,
    /// Their share.
    success_rate_ppm: Option<i64>,
    /// Of them under review.
    in_review: u64,
    /// Their share.
    in_review_ppm: Option<i64>,
    /// Batches that were refused since the hub started.
    rejected_batches_since_start: u64,
    /// How soon after the link.
    within_link: Vec<WithinShape>,
}

/// What was captured within a time of the link.
#[derive(ToSchema)]
pub struct WithinShape {
    /// `1m`, `5m`, `24h`.
    within: String,
    /// How many.
    captured: u64,
    /// Of how many.
    of: u64,
    /// Their share.
    share_ppm: Option<i64>,
}

/// The KPIs of one day.
#[derive(ToSchema)]
pub struct MetricsDayShape {
    /// The day.
    day: String,
    /// Records that were committed on it.
    records: u64,
    /// Their latency: the middle one.
    p50_ms: Option<i64>,
    /// 95 in 100 are at most this.
    p95_ms: Option<i64>,
    /// Against the nightly batch.
    reduction_ppm: Option<i64>,
    /// Figures in Z reports of this business day.
    cells: u64,
    /// Of them different without a reason.
    unexplained: u64,
    /// Their share.
    error_rate_ppm: Option<i64>,
}
