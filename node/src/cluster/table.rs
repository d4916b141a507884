//! What the hubs of a company tell each other through the database: who is there, whose lease on which log is in force, which
//! till belongs to which store. Nothing here is needed for an acknowledgement.

use std::collections::BTreeMap;

use engine::ids::{LogId, StoreId, WriterId};
use engine::lease::{Held, HubName, Member};

use crate::database::{Database, DatabaseError, Link, ToSql};
pub(crate) use crate::storage::{log_id, shards};

/// How long a hub counts as there after it has said so.
const BEAT: &str = "INSERT INTO tillsync.hub (company, hub, address, holder, software, warm, alive_until)
    VALUES ($1, $2, $3, $4, $5, $6, now() + interval '4 seconds')
    ON CONFLICT (company, hub) DO UPDATE
        SET alive_until = excluded.alive_until, address = excluded.address, warm = excluded.warm";
const LEAVE: &str = "DELETE FROM tillsync.hub WHERE company = $1 AND hub = $2";
const FORGET: &str = "DELETE FROM tillsync.hub WHERE company = $1 AND alive_until < now() - interval '1 day'";
/// A hub is settled once it has been there for longer than others need to see it.
const MEMBERS: &str = "SELECT hub, address, since < now() - interval '3 seconds', holder, software,
        to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), warm
    FROM tillsync.hub WHERE company = $1 AND alive_until > now() ORDER BY hub";
const LOGS: &str =
    "SELECT log_id, hub, lease_until > now(), isfinite(lease_until), next_position, total_bytes
    FROM tillsync.log WHERE log_id = ANY($1)";
const DEVICES: &str =
    "SELECT writer, store, terminal, incarnation, revoked, changed_at::text FROM tillsync.device
    WHERE company = $1 AND changed_at > $2::text::timestamptz - interval '10 seconds' ORDER BY changed_at";
const TELL: &str = "INSERT INTO tillsync.device (company, writer, store, terminal, incarnation, revoked)
    SELECT $1::bytea, writer, store, terminal, incarnation, revoked
    FROM unnest($2::bytea[], $3::text[], $4::text[], $5::integer[], $6::boolean[])
        AS rows (writer, store, terminal, incarnation, revoked)
    ON CONFLICT (company, writer) DO UPDATE SET revoked = excluded.revoked, changed_at = now()
        WHERE device.revoked <> excluded.revoked";
const BEGIN: &str = "INSERT INTO tillsync.company (log_id, shards) VALUES ($1, $2) ON CONFLICT DO NOTHING";
const BEGUN: &str = "SELECT count(*) FROM tillsync.log WHERE log_id = $1";

/// What the tables say of a hub.
#[derive(Debug, Clone)]
pub(crate) struct HubRow {
    pub(crate) member: Member,
    /// Where tills reach it.
    pub(crate) address: String,
    /// Directory, machine and process, for people.
    pub(crate) holder: String,
    pub(crate) software: String,
    /// Since when, RFC 3339.
    pub(crate) since: String,
    /// Logs of others that it keeps images of: it would open them in a moment.
    pub(crate) warm: Vec<u16>,
}

/// Hubs and logs as the tables had them at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) hubs: Vec<HubRow>,
    pub(crate) logs: Vec<Held>,
    /// Where each log ends, and its bytes.
    pub(crate) ends: BTreeMap<u16, (u64, u64)>,
}

/// A key, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Device {
    pub(crate) writer: WriterId,
    pub(crate) store: StoreId,
    pub(crate) log: LogId,
    pub(crate) revoked: bool,
}

/// Writes down that a company has so many shards, unless its log was begun without.
///
/// # Errors
/// The database cannot be asked.
pub(crate) async fn begin(link: &Link, company: [u8; 16], count: u16) -> Result<(), DatabaseError> {
    let operation = "beginning a company with shards";
    let begun = link.query(operation, BEGUN, &[&&company[..]]).await?;
    if begun.first().is_some_and(|row| row.get::<_, i64>(0) == 0) {
        link.execute(operation, BEGIN, &[&&company[..], &i32::from(count)]).await?;
    }
    Ok(())
}

/// One hub's connection to these tables.
pub(crate) struct Table {
    link: Link,
    company: [u8; 16],
    me: HubName,
    ids: Vec<[u8; 16]>,
}

impl Table {
    pub(crate) async fn connect(
        database: &Database,
        company: [u8; 16],
        shards: u16,
        me: HubName,
    ) -> Result<Self, DatabaseError> {
        let link = Link::connect(database, "hub members").await?;
        link.execute("forgetting hubs that are gone", FORGET, &[&&company[..]]).await?;
        let ids = (0..=shards).map(|number| log_id(company, number)).collect();
        Ok(Self { link, company, me, ids })
    }

    /// Says that this hub is there, and in which logs of others it is warm.
    pub(crate) async fn beat(&self, address: &str, holder: &str, warm: &[u16]) -> Result<(), DatabaseError> {
        let software = env!("CARGO_PKG_VERSION");
        let warm: Vec<i32> = warm.iter().copied().map(i32::from).collect();
        let values: [&(dyn ToSql + Sync); 6] =
            [&&self.company[..], &&self.me[..], &address, &holder, &software, &warm];
        self.link.execute("saying that this hub is there", BEAT, &values).await.map(drop)
    }

    /// Says that it goes.
    pub(crate) async fn leave(&self) -> Result<(), DatabaseError> {
        self.link.execute("leaving", LEAVE, &[&&self.company[..], &&self.me[..]]).await.map(drop)
    }

    /// Who is there and who has what.
    pub(crate) async fn look(&self) -> Result<Seen, DatabaseError> {
        let operation = "looking who is there";
        let hubs = self.link.query(operation, MEMBERS, &[&&self.company[..]]).await?;
        let hubs = hubs.iter().filter_map(|row| {
            let hub = row.get::<_, &[u8]>(0).try_into().ok()?;
            Some(HubRow {
                member: Member { hub, settled: row.get(2) },
                address: row.get(1),
                holder: row.get(3),
                software: row.get(4),
                since: row.get(5),
                warm: row.get::<_, Vec<i32>>(6).into_iter().filter_map(|n| u16::try_from(n).ok()).collect(),
            })
        });
        let ids: Vec<&[u8]> = self.ids.iter().map(|id| &id[..]).collect();
        let rows = self.link.query(operation, LOGS, &[&ids]).await?;
        let (mut logs, mut ends) = (Vec::new(), BTreeMap::new());
        for (number, id) in (0..).zip(&self.ids) {
            let row = rows.iter().find(|row| row.get::<_, &[u8]>(0) == id);
            let last = row.and_then(|row| row.get::<_, Option<&[u8]>>(1)?.try_into().ok());
            let in_force = row.is_some_and(|row| row.get(2));
            // A hub of a version that knew no others: nobody takes what it has.
            let holder = in_force.then(|| last.unwrap_or([0; 16]));
            // What was given back has no time any more (storage/postgres).
            let lapsed = !in_force && row.is_some_and(|row| row.get(3));
            logs.push(Held { number, holder, before: last.filter(|_| !in_force), lapsed });
            let count = |at: usize| row.map_or(0, |row| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0));
            ends.insert(number, (count(4), count(5)));
        }
        Ok(Seen { hubs: hubs.collect(), logs, ends })
    }

    /// Keys that were told since a time that this gave before (at first: empty), and some from before it.
    pub(crate) async fn devices(&self, since: &mut String) -> Result<Vec<Device>, DatabaseError> {
        let from = if since.is_empty() { "2000-01-01" } else { since.as_str() };
        let rows =
            self.link.query("looking where tills belong", DEVICES, &[&&self.company[..], &from]).await?;
        if let Some(row) = rows.last() {
            *since = row.get(5);
        }
        let device = |row: &crate::database::Row| {
            let writer = WriterId(row.get::<_, &[u8]>(0).try_into().ok()?);
            let terminal = row.get::<_, &str>(2).parse().ok()?;
            let incarnation = u32::try_from(row.get::<_, i32>(3)).ok()?;
            let store = row.get::<_, &str>(1).parse().ok()?;
            Some(Device { writer, store, log: LogId { terminal, incarnation }, revoked: row.get(4) })
        };
        Ok(rows.iter().filter_map(device).collect())
    }

    /// Tells the others where keys belong.
    pub(crate) async fn tell(&self, devices: &[Device]) -> Result<(), DatabaseError> {
        for part in devices.chunks(1_000) {
            let writers: Vec<&[u8]> = part.iter().map(|device| &device.writer.0[..]).collect();
            let stores: Vec<&str> = part.iter().map(|device| device.store.as_str()).collect();
            let terminals: Vec<String> = part.iter().map(|device| device.log.terminal.to_string()).collect();
            let numbers: Vec<i32> =
                part.iter().map(|device| i32::try_from(device.log.incarnation).unwrap_or(i32::MAX)).collect();
            let revoked: Vec<bool> = part.iter().map(|device| device.revoked).collect();
            let values: [&(dyn ToSql + Sync); 6] =
                [&&self.company[..], &writers, &stores, &terminals, &numbers, &revoked];
            self.link.execute("telling where tills belong", TELL, &values).await?;
        }
        Ok(())
    }
}
