//! Cases, what can be decided and what it does.

use utoipa::ToSchema;

use super::records::{PostingShape, RecordShape};

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
