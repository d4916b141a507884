//! Stores, tills, authorities, people, policies, and what happened to them.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::till::WaitingShape;

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
    /// Whether the database that the hub's log is in is away, and everything waits for it.
    database_away: bool,
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

/// A hub that serves the company.
#[derive(ToSchema)]
pub struct HubShape {
    /// Where tills reach it.
    address: String,
    /// Whether people, join codes and exports are with this one.
    serves_company: bool,
    /// The stores that it has.
    stores: Vec<String>,
    /// Numbers of the logs that it has: 0 is the company's, from 1 on the shards.
    logs: Vec<u16>,
    /// Logs of other hubs that it would open in a moment: it keeps images of their stores that are nearly new.
    warm: Vec<u16>,
    /// Its version.
    software: String,
    /// Since when it is there, if there are several.
    since: Option<String>,
    /// Directory, machine and process, if there are several.
    process: Option<String>,
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
