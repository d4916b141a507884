//! What a record looks like: what was captured, its custody and postings.

use utoipa::ToSchema;

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
    /// `saved`, `on_peer`, `at_hub`, `posted`, `exported`, or `in_review`.
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
