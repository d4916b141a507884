//! Writing news: rows, numbers of the change feed and the cursor in one transaction.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use engine::ids::StoreId;
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;
use tokio::sync::Notify;

use super::known::Known;
use super::rows::{CaseMark, CaseRow, DayRow, Rows};
use crate::database::{DatabaseError, Link, Passes, Statement, ToSql};
use crate::hub::ExportRange;
use crate::runtime::clock::rfc3339;
use crate::storage::Kept;

/// The channel that is notified after each transaction; who listens reads `ledger.changes` then.
const CHANNEL: &str = "tillsync_changes";
/// What every statement here is a part of.
const WRITING: &str = "writing the tables of the books";
/// What the server says of a statement in a transaction that has failed already.
const OVER: &str = "25P02";
/// Tries of a transaction that met another one.
const CROSSINGS: u32 = 20;

const RECEIPTS: &str = "INSERT INTO tillsync.receipt (log_id, store, record_id, receipt, kind, terminal, incarnation, seq,
        business_day, at, at_hub, operator, currency, total_minor, tax_minor, custody)
    SELECT $1::bytea, $2::text, record_id, receipt, kind, terminal, incarnation, seq, DATE '1970-01-01' + business_day, at,
        at_hub, operator, currency, total_minor, tax_minor, custody
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[], $9::integer[],
        $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::text[])
        AS rows (record_id, receipt, kind, terminal, incarnation, seq, business_day, at, at_hub, operator, currency,
        total_minor, tax_minor, custody)
    ON CONFLICT (log_id, store, record_id) DO UPDATE SET custody = excluded.custody";
const CUSTODY: &str = "UPDATE tillsync.receipt SET custody = rows.custody
    FROM unnest($3::text[], $4::text[]) AS rows (record_id, custody)
    WHERE receipt.log_id = $1 AND receipt.store = $2 AND receipt.record_id = rows.record_id";
const ENTRIES: &str =
    "INSERT INTO tillsync.journal_entry (log_id, store, number, date, record_id, because, hash)
    SELECT $1::bytea, $2::text, number, DATE '1970-01-01' + date, record_id, because, hash
    FROM unnest($3::bigint[], $4::integer[], $5::text[], $6::text[], $7::bytea[])
        AS rows (number, date, record_id, because, hash)";
const POSTINGS: &str =
    "INSERT INTO tillsync.posting (log_id, store, number, line, account, currency, amount_minor)
    SELECT $1::bytea, $2::text, number, line, account, currency, amount_minor
    FROM unnest($3::bigint[], $4::integer[], $5::text[], $6::text[], $7::bigint[])
        AS rows (number, line, account, currency, amount_minor)";
const BALANCES: &str = "INSERT INTO tillsync.balance (log_id, store, account, currency, amount_minor)
    SELECT $1::bytea, $2::text, account, currency, amount_minor::numeric
    FROM unnest($3::text[], $4::text[], $5::text[]) AS rows (account, currency, amount_minor)
    ON CONFLICT (log_id, store, account, currency)
        DO UPDATE SET amount_minor = balance.amount_minor + excluded.amount_minor";
const ACCOUNTS: &str = "INSERT INTO tillsync.account (log_id, account, code, kind)
    SELECT $1::bytea, account, code, kind
    FROM unnest($2::text[], $3::integer[], $4::text[]) AS rows (account, code, kind)
    ON CONFLICT DO NOTHING";
const CASES: &str = "INSERT INTO tillsync.review_case (log_id, store, case_id, type, subject, about, severity, state,
        amount_minor, currency, opened_at, version, decisions)
    SELECT $1::bytea, $2::text, case_id, type, subject, about, severity, state, amount_minor, currency,
        opened_at::timestamptz, version, decisions
    FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[], $9::bigint[], $10::text[],
        $11::text[], $12::text[], $13::integer[])
        AS rows (case_id, type, subject, about, severity, state, amount_minor, currency, opened_at, version, decisions)
    ON CONFLICT (log_id, store, case_id) DO UPDATE SET about = excluded.about, severity = excluded.severity,
        state = excluded.state, amount_minor = excluded.amount_minor, currency = excluded.currency,
        opened_at = excluded.opened_at, version = excluded.version, decisions = excluded.decisions";
const FORGET_MEMBERS: &str =
    "DELETE FROM tillsync.case_member WHERE log_id = $1 AND store = $2 AND case_id = ANY($3::text[])";
const MEMBERS: &str = "INSERT INTO tillsync.case_member (log_id, store, case_id, record_id, held)
    SELECT $1::bytea, $2::text, case_id, record_id, held
    FROM unnest($3::text[], $4::text[], $5::text[]) AS rows (case_id, record_id, held)";
const FORGET_CASES: &str =
    "DELETE FROM tillsync.review_case WHERE log_id = $1 AND store = $2 AND case_id = ANY($3::text[])";
const DAYS: &str = "INSERT INTO tillsync.store_day (log_id, store, day, terminal, incarnation, state, records, not_arrived,
        closed, z_agrees)
    SELECT $1::bytea, $2::text, day::date, terminal, incarnation, state, records, not_arrived, closed, z_agrees
    FROM unnest($3::text[], $4::text[], $5::integer[], $6::text[], $7::bigint[], $8::bigint[], $9::boolean[],
        $10::boolean[])
        AS rows (day, terminal, incarnation, state, records, not_arrived, closed, z_agrees)
    ON CONFLICT (log_id, store, day, terminal, incarnation) DO UPDATE SET state = excluded.state,
        records = excluded.records, not_arrived = excluded.not_arrived, closed = excluded.closed,
        z_agrees = excluded.z_agrees";
const MOVE: &str = "UPDATE tillsync.follower SET batches = $5, journal = $6, open_day = $7::text::date
    WHERE log_id = $1 AND store = $2 AND batches = $3 AND journal = $4
        AND EXISTS (SELECT 1 FROM tillsync.log WHERE log.log_id = $1 AND log.writer = $8)";
const MINE: &str = "SELECT 1 FROM tillsync.log WHERE log_id = $1 AND writer = $2";
const NUMBER: &str = "UPDATE tillsync.feed SET last_seq = last_seq + $2 WHERE log_id = $1 RETURNING last_seq";
const CHANGES: &str = "INSERT INTO tillsync.change (log_id, seq, topic, store, subject)
    SELECT $1::bytea, seq, topic, store, subject
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) AS rows (seq, topic, store, subject)";
const EXPORTS: &str =
    "INSERT INTO tillsync.export_range (log_id, number, store, first_number, last_number, at)
    SELECT log_id, number, store, first_number, last_number, at::timestamptz
    FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
        AS rows (log_id, number, store, first_number, last_number, at)";

const FORGET_EXPORTS: &str = "DELETE FROM tillsync.export_range
    USING unnest($1::bytea[], $2::bigint[], $3::text[]) AS rows (log_id, number, store)
    WHERE export_range.log_id = rows.log_id AND export_range.number = rows.number AND export_range.store = rows.store";

/// The statements of every portion, prepared once a connection.
struct Statements {
    cursor: Statement,
    mine: Statement,
    receipts: Statement,
    custody: Statement,
    entries: Statement,
    postings: Statement,
    balances: Statement,
    accounts: Statement,
    cases: Statement,
    forget_members: Statement,
    members: Statement,
    forget_cases: Statement,
    days: Statement,
    number: Statement,
    changes: Statement,
}

impl Statements {
    async fn prepare(link: &Link) -> Result<Self, DatabaseError> {
        let prepared = |sql| link.prepare(WRITING, sql);
        Ok(Self {
            cursor: prepared(MOVE).await?,
            mine: prepared(MINE).await?,
            receipts: prepared(RECEIPTS).await?,
            custody: prepared(CUSTODY).await?,
            entries: prepared(ENTRIES).await?,
            postings: prepared(POSTINGS).await?,
            balances: prepared(BALANCES).await?,
            accounts: prepared(ACCOUNTS).await?,
            cases: prepared(CASES).await?,
            forget_members: prepared(FORGET_MEMBERS).await?,
            members: prepared(MEMBERS).await?,
            forget_cases: prepared(FORGET_CASES).await?,
            days: prepared(DAYS).await?,
            number: prepared(NUMBER).await?,
            changes: prepared(CHANGES).await?,
        })
    }
}

/// How far the tables reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) batches: u64,
    pub(super) journal: u64,
}

/// What is written of a store in one transaction.
pub(super) struct Portion {
    pub(super) store: String,
    /// Where the cursor must be, and where it will be.
    pub(super) from: Cursor,
    pub(super) to: Cursor,
    pub(super) rows: Rows,
    pub(super) journal: Vec<JournalEntry>,
}

impl Portion {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.from == self.to
    }
}

/// The tables of one hub, over one connection.
pub(super) struct Target {
    link: Link,
    statements: Statements,
    log_id: [u8; 16],
    /// Whose the log must be (`Kept`).
    writer: [u8; 16],
    /// Whether the server knows NOTIFY.
    notifies: AtomicBool,
    /// How long the last portion took, ms.
    took_ms: AtomicU64,
    /// Who waits in this process for something new.
    written: Arc<Notify>,
}

/// Lines of the change feed before they have numbers: topic, store, subject.
type Feed<'a> = (Vec<&'static str>, Vec<&'a str>, Vec<Cow<'a, str>>);

impl Target {
    pub(super) async fn new(link: Link, kept: &Kept, written: Arc<Notify>) -> Result<Self, DatabaseError> {
        let Kept { log_id, writer, .. } = *kept;
        let first = "INSERT INTO tillsync.feed (log_id, last_seq) VALUES ($1, 0) ON CONFLICT DO NOTHING";
        link.execute(WRITING, first, &[&&log_id[..]]).await?;
        let statements = Statements::prepare(&link).await?;
        Ok(Self {
            link,
            statements,
            log_id,
            writer,
            notifies: AtomicBool::new(true),
            took_ms: AtomicU64::new(0),
            written,
        })
    }

    /// What the tables say of a store.
    pub(super) async fn begin(&self, store: &str) -> Result<(Cursor, Known), DatabaseError> {
        let reading = "reading the tables of the books";
        let values: [&(dyn ToSql + Sync); 2] = [&&self.log_id[..], &store];
        let first = "INSERT INTO tillsync.follower (log_id, store, batches, journal) VALUES ($1, $2, 0, 0)
            ON CONFLICT DO NOTHING";
        self.link.execute(reading, first, &values).await?;
        let sql = "SELECT batches, journal FROM tillsync.follower WHERE log_id = $1 AND store = $2";
        let rows = self.link.query(reading, sql, &values).await?;
        let at = |nth| rows.first().map_or(0, |row| u64::try_from(row.get::<_, i64>(nth)).unwrap_or(0));
        let cursor = Cursor { batches: at(0), journal: at(1) };
        let mut known = Known::default();
        let mut members: BTreeMap<String, Vec<(String, Option<String>)>> = BTreeMap::new();
        let sql =
            "SELECT case_id, record_id, held FROM tillsync.case_member WHERE log_id = $1 AND store = $2";
        for row in self.link.query(reading, sql, &values).await? {
            members.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
        }
        let sql = "SELECT case_id, about, severity, state, amount_minor, currency,
            (extract(epoch FROM opened_at) * 1000)::bigint, version, decisions
            FROM tillsync.review_case WHERE log_id = $1 AND store = $2";
        for row in self.link.query(reading, sql, &values).await? {
            let id: String = row.get(0);
            let mut members = members.remove(&id).unwrap_or_default();
            members.sort_unstable();
            let there = members.iter().filter_map(|member| member.0.parse().ok()).collect();
            let said = CaseRow {
                case_type: String::new(),
                subject: String::new(),
                about: row.get(1),
                severity: row.get(2),
                state: row.get(3),
                amount_minor: row.get(4),
                currency: row.get(5),
                opened_ms: row.get(6),
                version: row.get(7),
                decisions: row.get(8),
                members,
                id: id.clone(),
            };
            known.cases.insert(id, CaseMark { said: said.digest(), members: there });
        }
        let sql = "SELECT day::text, terminal, incarnation, state, records, not_arrived, closed, z_agrees
            FROM tillsync.store_day WHERE log_id = $1 AND store = $2";
        for row in self.link.query(reading, sql, &values).await? {
            let Ok(day) = row.get::<_, &str>(0).parse() else { continue };
            let (state, records, not_arrived) = (row.get(3), row.get(4), row.get(5));
            let there = DayRow { state, records, not_arrived, closed: row.get(6), z_agrees: row.get(7) };
            known.days.insert((day, row.get(1), row.get(2)), there);
        }
        Ok((cursor, known))
    }

    /// Whether the newest journal entry of the tables is this one; of an empty journal, `None`.
    pub(super) async fn journal_ends_with(
        &self,
        store: &str,
        number: u64,
        entry: Option<&JournalEntry>,
    ) -> Result<bool, DatabaseError> {
        let sql = "SELECT number, hash FROM tillsync.journal_entry WHERE log_id = $1 AND store = $2
            ORDER BY number DESC LIMIT 1";
        let rows =
            self.link.query("reading the tables of the books", sql, &[&&self.log_id[..], &store]).await?;
        let there = rows.first().map(|row| (row.get::<_, i64>(0), row.get::<_, Vec<u8>>(1)));
        Ok(there == entry.map(|entry| (signed(number), entry.hash.to_vec())))
    }

    /// Begins a transaction, if the log is still this process's: otherwise what led to it may be long out of date, because the
    /// next hub's follower has moved on in the tables.
    async fn begin_if_mine(&self) -> Result<(), DatabaseError> {
        self.link.batch(WRITING, "BEGIN; SET LOCAL synchronous_commit TO on").await?;
        let (id, me) = (&self.log_id[..], &self.writer[..]);
        let mine = self.link.query(WRITING, &self.statements.mine, &[&id, &me]).await?;
        if mine.is_empty() { Err(moved_on()) } else { Ok(()) }
    }

    /// Takes everything of a store out of the tables, and says so in the feed.
    pub(super) async fn empty(&self, store: &str) -> Result<(), DatabaseError> {
        let id = &self.log_id[..];
        self.begin_if_mine().await?;
        // The cursor first: its row is what two hubs meet at.
        for table in [
            "follower",
            "receipt",
            "posting",
            "journal_entry",
            "balance",
            "case_member",
            "review_case",
            "store_day",
        ] {
            let sql = format!("DELETE FROM tillsync.{table} WHERE log_id = $1 AND store = $2");
            self.link.execute(WRITING, &sql, &[&id, &store]).await?;
        }
        self.write_feed(&(vec!["store_emptied"], vec![store], vec![store.into()])).await?;
        self.link.batch(WRITING, "COMMIT").await
    }

    /// Writes news of a store and moves its cursor, both or neither.
    pub(super) async fn write(&self, portion: &Portion) -> Result<(), DatabaseError> {
        let began = Instant::now();
        for crossing in 1.. {
            let written = self.transaction(portion).await;
            match written {
                Err(error) if error.passes == Passes::AtOnce && error.refused && crossing < CROSSINGS => {
                    self.link.batch(WRITING, "ROLLBACK").await?;
                    tokio::time::sleep(Duration::from_millis(u64::from(5 * crossing))).await;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        self.took_ms.store(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.notify().await;
        Ok(())
    }

    /// How long the last portion took.
    pub(super) fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms.load(Ordering::Relaxed))
    }

    /// Statements are sent without waiting for the answer to the one before, so a portion takes a few round trips.
    async fn transaction(&self, portion: &Portion) -> Result<(), DatabaseError> {
        let Portion { store, rows, journal, .. } = portion;
        // The cursor is moved first: its row is what two hubs meet at.
        let (begun, moved, receipts, entries, cases, days) = tokio::join!(
            biased;
            self.link.batch(WRITING, "BEGIN; SET LOCAL synchronous_commit TO on"),
            self.move_cursor(portion),
            self.write_receipts(store, rows),
            self.write_journal(store, journal),
            self.write_cases(store, rows),
            self.write_days(store, rows),
        );
        let failed = [begun, moved, receipts, entries, cases, days].into_iter().filter_map(Result::err);
        // Of what came after the first failure the server only says that the transaction is over.
        if let Some(error) = failed.min_by_key(|error| error.code.as_deref() == Some(OVER)) {
            return Err(error);
        }
        self.write_feed(&feed(portion)).await?;
        self.link.batch(WRITING, "COMMIT").await
    }

    async fn move_cursor(&self, portion: &Portion) -> Result<(), DatabaseError> {
        let Portion { store, from, to, rows, .. } = portion;
        let id = &self.log_id[..];
        let [batches, entries] = [from.batches, from.journal].map(signed);
        let [next_batches, next_entries] = [to.batches, to.journal].map(signed);
        let open_day = rows.open_day.map(|day| day.to_string());
        let me = &self.writer[..];
        let values: [&(dyn ToSql + Sync); 8] =
            [&id, store, &batches, &entries, &next_batches, &next_entries, &open_day, &me];
        if self.link.execute(WRITING, &self.statements.cursor, &values).await? != 1 {
            return Err(moved_on());
        }
        Ok(())
    }

    async fn write_receipts(&self, store: &str, news: &Rows) -> Result<(), DatabaseError> {
        let (id, rows) = (&self.log_id[..], &news.receipts);
        if !rows.is_empty() {
            let record: Vec<&str> = rows.iter().map(|row| row.record_id.as_str()).collect();
            let receipt: Vec<&str> = rows.iter().map(|row| row.receipt.as_str()).collect();
            let kind: Vec<&str> = rows.iter().map(|row| row.kind).collect();
            let terminal: Vec<&str> = rows.iter().map(|row| row.terminal.as_str()).collect();
            let incarnation: Vec<i32> = rows.iter().map(|row| row.incarnation).collect();
            let seq: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            let day: Vec<i32> = rows.iter().map(|row| row.business_day).collect();
            let at: Vec<SystemTime> = rows.iter().map(|row| row.at).collect();
            let at_hub: Vec<SystemTime> = rows.iter().map(|row| row.at_hub).collect();
            let operator: Vec<Option<&str>> = rows.iter().map(|row| row.operator.as_deref()).collect();
            let currency: Vec<Option<&str>> = rows.iter().map(|row| row.currency.as_deref()).collect();
            let total: Vec<Option<i64>> = rows.iter().map(|row| row.total_minor).collect();
            let tax: Vec<Option<i64>> = rows.iter().map(|row| row.tax_minor).collect();
            let custody: Vec<&str> = rows.iter().map(|row| row.custody).collect();
            let values: [&(dyn ToSql + Sync); 16] = [
                &id,
                &store,
                &record,
                &receipt,
                &kind,
                &terminal,
                &incarnation,
                &seq,
                &day,
                &at,
                &at_hub,
                &operator,
                &currency,
                &total,
                &tax,
                &custody,
            ];
            self.link.execute(WRITING, &self.statements.receipts, &values).await?;
        }
        if !news.custody.is_empty() {
            let record: Vec<String> = news.custody.iter().map(|row| row.0.to_string()).collect();
            let state: Vec<&str> = news.custody.iter().map(|row| row.1).collect();
            self.link.execute(WRITING, &self.statements.custody, &[&id, &store, &record, &state]).await?;
        }
        Ok(())
    }

    async fn write_journal(&self, store: &str, journal: &[JournalEntry]) -> Result<(), DatabaseError> {
        if journal.is_empty() {
            return Ok(());
        }
        let id = &self.log_id[..];
        let number: Vec<i64> = journal.iter().map(|entry| signed(entry.number)).collect();
        let date: Vec<i32> = journal.iter().map(|entry| entry.date.0).collect();
        let record: Vec<String> = journal.iter().map(|entry| entry.record.to_string()).collect();
        let because: Vec<Option<String>> =
            journal.iter().map(|entry| entry.because.map(|id| id.to_string())).collect();
        let hash: Vec<&[u8]> = journal.iter().map(|entry| &entry.hash[..]).collect();
        self.link
            .execute(
                WRITING,
                &self.statements.entries,
                &[&id, &store, &number, &date, &record, &because, &hash],
            )
            .await?;

        let (mut numbers, mut lines) = (Vec::new(), Vec::new());
        let (mut accounts, mut currencies, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
        let mut sums: BTreeMap<(&Account, Currency), i128> = BTreeMap::new();
        // Few accounts in thousands of postings: each is spelled once.
        let mut chart: BTreeMap<&Account, String> = BTreeMap::new();
        for posting in journal.iter().flat_map(|entry| &entry.postings) {
            chart.entry(&posting.account).or_insert_with(|| posting.account.to_string());
            *sums.entry((&posting.account, posting.currency)).or_insert(0) +=
                i128::from(posting.amount_minor);
        }
        for entry in journal {
            for (line, posting) in (1_i32..).zip(&entry.postings) {
                numbers.push(signed(entry.number));
                lines.push(line);
                accounts.push(chart[&posting.account].as_str());
                currencies.push(posting.currency.to_string());
                amounts.push(posting.amount_minor);
            }
        }
        let names: Vec<&str> = chart.values().map(String::as_str).collect();
        let codes: Vec<i32> = chart.keys().map(|account| i32::from(account.code())).collect();
        let kinds: Vec<&str> = names.iter().map(|name| name.split(':').next().unwrap_or_default()).collect();
        let moved: Vec<&str> = sums.keys().map(|key| chart[key.0].as_str()).collect();
        let moved_in: Vec<String> = sums.keys().map(|key| key.1.to_string()).collect();
        let by: Vec<String> = sums.values().map(ToString::to_string).collect();
        self.link.execute(WRITING, &self.statements.accounts, &[&id, &names, &codes, &kinds]).await?;
        let values: [&(dyn ToSql + Sync); 7] =
            [&id, &store, &numbers, &lines, &accounts, &currencies, &amounts];
        self.link.execute(WRITING, &self.statements.postings, &values).await?;
        let values: [&(dyn ToSql + Sync); 5] = [&id, &store, &moved, &moved_in, &by];
        self.link.execute(WRITING, &self.statements.balances, &values).await?;
        Ok(())
    }

    async fn write_cases(&self, store: &str, news: &Rows) -> Result<(), DatabaseError> {
        let (id, rows) = (&self.log_id[..], &news.cases);
        let changed: Vec<&str> =
            rows.iter().map(|row| row.id.as_str()).chain(news.ended.iter().map(String::as_str)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        self.link.execute(WRITING, &self.statements.forget_members, &[&id, &store, &changed]).await?;
        if !news.ended.is_empty() {
            self.link.execute(WRITING, &self.statements.forget_cases, &[&id, &store, &news.ended]).await?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        let case: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        let kind: Vec<&str> = rows.iter().map(|row| row.case_type.as_str()).collect();
        let subject: Vec<&str> = rows.iter().map(|row| row.subject.as_str()).collect();
        let about: Vec<&str> = rows.iter().map(|row| row.about.as_str()).collect();
        let severity: Vec<i32> = rows.iter().map(|row| row.severity).collect();
        let state: Vec<&str> = rows.iter().map(|row| row.state.as_str()).collect();
        let amount: Vec<i64> = rows.iter().map(|row| row.amount_minor).collect();
        let currency: Vec<Option<&str>> = rows.iter().map(|row| row.currency.as_deref()).collect();
        let opened: Vec<String> = rows.iter().map(|row| rfc3339(row.opened_ms)).collect();
        let version: Vec<&str> = rows.iter().map(|row| row.version.as_str()).collect();
        let decisions: Vec<i32> = rows.iter().map(|row| row.decisions).collect();
        let values: [&(dyn ToSql + Sync); 13] = [
            &id, &store, &case, &kind, &subject, &about, &severity, &state, &amount, &currency, &opened,
            &version, &decisions,
        ];
        self.link.execute(WRITING, &self.statements.cases, &values).await?;
        let members = || rows.iter().flat_map(|row| row.members.iter().map(move |member| (&row.id, member)));
        let case: Vec<&str> = members().map(|(id, _)| id.as_str()).collect();
        let record: Vec<&str> = members().map(|(_, member)| member.0.as_str()).collect();
        let held: Vec<Option<&str>> = members().map(|(_, member)| member.1.as_deref()).collect();
        self.link.execute(WRITING, &self.statements.members, &[&id, &store, &case, &record, &held]).await?;
        Ok(())
    }

    async fn write_days(&self, store: &str, news: &Rows) -> Result<(), DatabaseError> {
        let (id, rows) = (&self.log_id[..], &news.days);
        if rows.is_empty() {
            return Ok(());
        }
        let day: Vec<String> = rows.iter().map(|(key, _)| key.0.to_string()).collect();
        let terminal: Vec<&str> = rows.iter().map(|(key, _)| key.1.as_str()).collect();
        let incarnation: Vec<i32> = rows.iter().map(|(key, _)| key.2).collect();
        let state: Vec<&str> = rows.iter().map(|(_, row)| row.state.as_str()).collect();
        let records: Vec<i64> = rows.iter().map(|(_, row)| row.records).collect();
        let missing: Vec<i64> = rows.iter().map(|(_, row)| row.not_arrived).collect();
        let closed: Vec<bool> = rows.iter().map(|(_, row)| row.closed).collect();
        let agrees: Vec<bool> = rows.iter().map(|(_, row)| row.z_agrees).collect();
        let values: [&(dyn ToSql + Sync); 10] =
            [&id, &store, &day, &terminal, &incarnation, &state, &records, &missing, &closed, &agrees];
        self.link.execute(WRITING, &self.statements.days, &values).await?;
        Ok(())
    }

    /// Numbers the lines and writes them. Last of all: the row that gives numbers is locked until the commit.
    async fn write_feed(&self, (topics, stores, subjects): &Feed<'_>) -> Result<(), DatabaseError> {
        let count = i64::try_from(topics.len()).unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        let id = &self.log_id[..];
        let rows = self.link.query(WRITING, &self.statements.number, &[&id, &count]).await?;
        let last: i64 = rows.first().map_or(0, |row| row.get(0));
        let numbers: Vec<i64> = (last - count + 1..=last).collect();
        self.link
            .execute(WRITING, &self.statements.changes, &[&id, &numbers, topics, stores, subjects])
            .await?;
        Ok(())
    }

    /// Wakes who listens. Not every server that speaks the protocol knows how; who does not hear it looks by himself.
    async fn notify(&self) {
        self.written.notify_one();
        if self.notifies.load(Ordering::Relaxed)
            && let Err(error) = self.link.batch("waking listeners", &format!("NOTIFY {CHANNEL}")).await
        {
            tracing::info!("listeners are not woken: {error}");
            self.notifies.store(false, Ordering::Relaxed);
        }
    }

    /// Takes the exports out of the tables that are not among these, and out of these what the tables have.
    pub(super) async fn keep_exports(
        &self,
        logs: &[[u8; 16]],
        ranges: &mut Vec<ExportRange>,
        log_of: impl Fn(&StoreId) -> [u8; 16],
    ) -> Result<(), DatabaseError> {
        let ids: Vec<&[u8]> = logs.iter().map(|id| &id[..]).collect();
        let sql = "SELECT log_id, number, store, first_number, last_number FROM tillsync.export_range WHERE log_id = ANY($1)";
        let there = self.link.query(WRITING, sql, &[&ids]).await?;
        let there = there.iter().map(|row| {
            let key = (row.get::<_, Vec<u8>>(0), row.get::<_, i64>(1), row.get::<_, String>(2));
            (key, (row.get::<_, i64>(3), row.get::<_, i64>(4)))
        });
        let mut there: BTreeMap<_, _> = there.collect();
        ranges.retain(|range| {
            let key = (log_of(&range.store).to_vec(), signed(range.number), range.store.to_string());
            let same = there.get(&key) == Some(&(signed(range.first), signed(range.last)));
            if same {
                there.remove(&key);
            }
            !same
        });
        let (mut logs, mut numbers, mut stores) = (Vec::new(), Vec::new(), Vec::new());
        for (log, number, store) in there.into_keys() {
            logs.push(log);
            numbers.push(number);
            stores.push(store);
        }
        if logs.is_empty() {
            return Ok(());
        }
        self.begin_if_mine().await?;
        self.link.execute(WRITING, FORGET_EXPORTS, &[&logs, &numbers, &stores]).await?;
        self.link.batch(WRITING, "COMMIT").await
    }

    /// Writes ranges of exports; `log_of` tells the log that a store is in.
    pub(super) async fn write_exports(
        &self,
        ranges: &[ExportRange],
        log_of: impl Fn(&StoreId) -> [u8; 16],
    ) -> Result<(), DatabaseError> {
        let logs: Vec<Vec<u8>> = ranges.iter().map(|range| log_of(&range.store).to_vec()).collect();
        let number: Vec<i64> = ranges.iter().map(|range| signed(range.number)).collect();
        let store: Vec<&str> = ranges.iter().map(|range| range.store.as_str()).collect();
        let first: Vec<i64> = ranges.iter().map(|range| signed(range.first)).collect();
        let last: Vec<i64> = ranges.iter().map(|range| signed(range.last)).collect();
        let at: Vec<String> = ranges.iter().map(|range| rfc3339(range.at_ms)).collect();
        let subjects = number.iter().map(|number| number.to_string().into()).collect();
        self.begin_if_mine().await?;
        self.link.execute(WRITING, EXPORTS, &[&logs, &number, &store, &first, &last, &at]).await?;
        self.write_feed(&(vec!["export"; ranges.len()], store, subjects)).await?;
        self.link.batch(WRITING, "COMMIT").await?;
        self.notify().await;
        Ok(())
    }
}

fn moved_on() -> DatabaseError {
    let next = "the hub begins again from what the tables say";
    DatabaseError::never(WRITING, "another hub has moved on in them", next)
}

/// What changed, one line a thing.
fn feed(Portion { store, rows, journal, .. }: &Portion) -> Feed<'_> {
    let mut feed: Feed<'_> = Feed::default();
    fn say<'a>(feed: &mut Feed<'a>, store: &'a str, topic: &'static str, subject: Cow<'a, str>) {
        feed.0.push(topic);
        feed.1.push(store);
        feed.2.push(subject);
    }
    let mut say = |topic, subject| say(&mut feed, store, topic, subject);
    rows.receipts.iter().for_each(|row| say("receipt", row.record_id.as_str().into()));
    journal.iter().for_each(|entry| say("journal_entry", entry.number.to_string().into()));
    rows.cases.iter().for_each(|row| say("case", row.id.as_str().into()));
    rows.ended.iter().for_each(|id| say("case_ended", id.as_str().into()));
    if !rows.custody.is_empty() {
        // What a new receipt says of itself is not said again.
        let new: BTreeSet<&str> = rows.receipts.iter().map(|row| row.record_id.as_str()).collect();
        let custody = rows.custody.iter().map(|row| row.0.to_string());
        custody.filter(|id| !new.contains(id.as_str())).for_each(|id| say("custody", id.into()));
    }
    rows.days.iter().for_each(|(key, _)| say("store_day", format!("{} {} {}", key.0, key.1, key.2).into()));
    feed
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
