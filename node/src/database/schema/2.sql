-- The books as tables, filled by the hub's follower (central/). People read the views of the schema `ledger` below; these
-- tables may change from version to version.
CREATE TABLE IF NOT EXISTS tillsync.follower (
    log_id bytea NOT NULL,
    store text NOT NULL,
    -- How many of the store's batches, and of its journal entries, are in the tables below.
    batches bigint NOT NULL,
    journal bigint NOT NULL,
    -- First day that no lock covers; null: no day is locked.
    open_day date,
    PRIMARY KEY (log_id, store)
);

-- Numbers of the change feed: taken under this row's lock in the transaction that makes the change, so they are gapless and
-- become visible in their order.
CREATE TABLE IF NOT EXISTS tillsync.feed (
    log_id bytea PRIMARY KEY,
    last_seq bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS tillsync.change (
    log_id bytea NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    topic text NOT NULL,
    store text NOT NULL,
    subject text NOT NULL,
    PRIMARY KEY (log_id, seq)
);

CREATE TABLE IF NOT EXISTS tillsync.account (
    log_id bytea NOT NULL,
    account text NOT NULL,
    code integer NOT NULL,
    kind text NOT NULL,
    PRIMARY KEY (log_id, account)
);

CREATE TABLE IF NOT EXISTS tillsync.journal_entry (
    log_id bytea NOT NULL,
    store text NOT NULL,
    number bigint NOT NULL,
    date date NOT NULL,
    record_id text NOT NULL,
    because text,
    hash bytea NOT NULL,
    PRIMARY KEY (log_id, store, number)
);
CREATE INDEX IF NOT EXISTS journal_entry_by_record ON tillsync.journal_entry (log_id, store, record_id);
CREATE INDEX IF NOT EXISTS journal_entry_by_date ON tillsync.journal_entry (log_id, date);

CREATE TABLE IF NOT EXISTS tillsync.posting (
    log_id bytea NOT NULL,
    store text NOT NULL,
    number bigint NOT NULL,
    line integer NOT NULL,
    account text NOT NULL,
    currency text NOT NULL,
    amount_minor bigint NOT NULL,
    PRIMARY KEY (log_id, store, number, line)
);

CREATE TABLE IF NOT EXISTS tillsync.balance (
    log_id bytea NOT NULL,
    store text NOT NULL,
    account text NOT NULL,
    currency text NOT NULL,
    amount_minor numeric NOT NULL,
    PRIMARY KEY (log_id, store, account, currency)
);

CREATE TABLE IF NOT EXISTS tillsync.receipt (
    log_id bytea NOT NULL,
    store text NOT NULL,
    record_id text NOT NULL,
    receipt text NOT NULL,
    kind text NOT NULL,
    terminal text NOT NULL,
    incarnation integer NOT NULL,
    seq bigint NOT NULL,
    business_day date NOT NULL,
    at timestamptz NOT NULL,
    at_hub timestamptz NOT NULL,
    operator text,
    currency text,
    total_minor bigint,
    tax_minor bigint,
    custody text NOT NULL,
    PRIMARY KEY (log_id, store, record_id)
);
CREATE INDEX IF NOT EXISTS receipt_by_number ON tillsync.receipt (log_id, receipt);
CREATE INDEX IF NOT EXISTS receipt_by_day ON tillsync.receipt (log_id, store, business_day);

CREATE TABLE IF NOT EXISTS tillsync.review_case (
    log_id bytea NOT NULL,
    store text NOT NULL,
    case_id text NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    about text NOT NULL,
    severity integer NOT NULL,
    state text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text,
    opened_at timestamptz NOT NULL,
    version text NOT NULL,
    decisions integer NOT NULL,
    PRIMARY KEY (log_id, store, case_id)
);

CREATE TABLE IF NOT EXISTS tillsync.case_member (
    log_id bytea NOT NULL,
    store text NOT NULL,
    case_id text NOT NULL,
    record_id text NOT NULL,
    held text,
    PRIMARY KEY (log_id, store, case_id, record_id)
);

CREATE TABLE IF NOT EXISTS tillsync.store_day (
    log_id bytea NOT NULL,
    store text NOT NULL,
    day date NOT NULL,
    terminal text NOT NULL,
    incarnation integer NOT NULL,
    state text NOT NULL,
    records bigint NOT NULL,
    not_arrived bigint NOT NULL,
    closed boolean NOT NULL,
    z_agrees boolean NOT NULL,
    PRIMARY KEY (log_id, store, day, terminal, incarnation)
);

CREATE TABLE IF NOT EXISTS tillsync.export_range (
    log_id bytea NOT NULL,
    number bigint NOT NULL,
    store text NOT NULL,
    first_number bigint NOT NULL,
    last_number bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (log_id, number, store)
);

CREATE SCHEMA IF NOT EXISTS ledger;

CREATE OR REPLACE VIEW ledger.accounts AS
    SELECT encode(log_id, 'hex') AS hub, account, code, kind FROM tillsync.account;

CREATE OR REPLACE VIEW ledger.journal_entries AS
    SELECT encode(log_id, 'hex') AS hub, store, number, date, record_id, because, encode(hash, 'hex') AS hash
    FROM tillsync.journal_entry;

CREATE OR REPLACE VIEW ledger.postings AS
    SELECT encode(p.log_id, 'hex') AS hub, p.store, p.number, p.line, e.date, e.record_id, p.account, p.currency, p.amount_minor
    FROM tillsync.posting p
    JOIN tillsync.journal_entry e ON e.log_id = p.log_id AND e.store = p.store AND e.number = p.number;

CREATE OR REPLACE VIEW ledger.balances AS
    SELECT encode(log_id, 'hex') AS hub, store, account, currency, amount_minor
    FROM tillsync.balance WHERE amount_minor <> 0;

CREATE OR REPLACE VIEW ledger.receipts AS
    SELECT encode(r.log_id, 'hex') AS hub, r.store, r.record_id, r.receipt, r.kind, r.terminal, r.incarnation, r.seq,
        r.business_day, r.at, r.at_hub, r.operator, r.currency, r.total_minor, r.tax_minor,
        CASE WHEN EXISTS (
            SELECT 1 FROM tillsync.journal_entry e
            JOIN tillsync.export_range x ON x.log_id = e.log_id AND x.store = e.store
                AND e.number BETWEEN x.first_number AND x.last_number
            WHERE e.log_id = r.log_id AND e.store = r.store AND e.record_id = r.record_id
        ) THEN 'exported' ELSE r.custody END AS custody
    FROM tillsync.receipt r;

CREATE OR REPLACE VIEW ledger.cases AS
    SELECT encode(log_id, 'hex') AS hub, store, case_id, type, subject, about, severity, state, amount_minor, currency, opened_at
    FROM tillsync.review_case;

CREATE OR REPLACE VIEW ledger.case_members AS
    SELECT encode(log_id, 'hex') AS hub, store, case_id, record_id, held FROM tillsync.case_member;

CREATE OR REPLACE VIEW ledger.store_days AS
    SELECT encode(d.log_id, 'hex') AS hub, d.store, d.day, d.terminal, d.incarnation, d.state, d.records, d.not_arrived,
        d.closed, d.z_agrees, coalesce(d.day < f.open_day, false) AS locked
    FROM tillsync.store_day d
    JOIN tillsync.follower f ON f.log_id = d.log_id AND f.store = d.store;

CREATE OR REPLACE VIEW ledger.exports AS
    SELECT encode(log_id, 'hex') AS hub, number, store, first_number, last_number, at FROM tillsync.export_range;

CREATE OR REPLACE VIEW ledger.changes AS
    SELECT encode(log_id, 'hex') AS hub, seq, at, topic, store, subject FROM tillsync.change;
