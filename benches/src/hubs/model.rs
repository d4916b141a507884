//! What the measured figures say of other sizes of a company: plain multiplication of what a record, a till and a log cost by how
//! many there are. What is assumed stands in [`Assumed`]; what is measured comes from the last whole run; what the program
//! allows is repeated in [`limit`]. Integers only.

use clap::Args;

use super::figures::{Figures, row};
use crate::Outcome;
use crate::table::thousands;

/// The document that has the tables.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.md");
/// Sizes of a company, in stores.
const STORES: [u64; 5] = [10, 100, 1_000, 10_000, 100_000];

/// What the program allows.
mod limit {
    /// Connections of tills to one hub (`node/src/transport`).
    pub const TILLS_A_HUB: u64 = 4_096;
    /// Shards of a company (`node/src/cluster`).
    pub const SHARDS: u64 = 256;
}

/// Processor time that an idle till costs its hub, nanoseconds a second: 3.05 % of a core for 1,000, measured with links that speak
/// every 1.5 s as those of several hubs do (docs/performance.md, "hub idle", before; `benches scale --only tills`).
const IDLE_TILL_NS: u64 = 30_500;

/// What is assumed; put in your own.
#[derive(Debug, Clone, Args)]
pub struct Assumed {
    /// Tills of a store
    #[arg(long, default_value_t = 10)]
    pub tills_a_store: u64,
    /// Records of a till on a business day
    #[arg(long, default_value_t = 200)]
    pub records_a_day: u64,
    /// Which part of a day's records falls into its busiest hour, in a hundred
    #[arg(long, default_value_t = 15)]
    pub peak_percent: u64,
    /// Business days of a year
    #[arg(long, default_value_t = 360)]
    pub days_a_year: u64,
    /// Cores of a hub's machine
    #[arg(long, default_value_t = 8)]
    pub hub_cores: u64,
    /// Memory of a hub's machine, GB
    #[arg(long, default_value_t = 64)]
    pub hub_memory: u64,
    /// Cores of a database server
    #[arg(long, default_value_t = 16)]
    pub server_cores: u64,
    /// How full processors, memory and connections may be in the busiest hour, in a hundred: the rest is for the day on which a hub dies
    #[arg(long, default_value_t = 50)]
    pub full_percent: u64,
    /// Shards for each hub, so that a dead hub's are spread over the others
    #[arg(long, default_value_t = 4)]
    pub shards_a_hub: u64,
}

impl Default for Assumed {
    fn default() -> Self {
        Self {
            tills_a_store: 10,
            records_a_day: 200,
            peak_percent: 15,
            days_a_year: 360,
            hub_cores: 8,
            hub_memory: 64,
            server_cores: 16,
            full_percent: 50,
            shards_a_hub: 4,
        }
    }
}

/// What one thing costs, as it was measured.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// Processor time a record that travels alone, ns.
    hub_ns: u64,
    server_ns: u64,
    /// Of 1,000 such records.
    commits: u64,
    rows: u64,
    /// Bytes a record.
    wal: u64,
    disk: u64,
    /// Of head office's hub, for a record that it reads along: processor time, ns; memory, bytes.
    along_ns: u64,
    along_bytes: u64,
    /// Until a killed hub's shard is served by one that has read it along, and by one that has nothing of it: with 10,000
    /// records, with 200,000, ns.
    warm: [u64; 2],
    cold: [u64; 2],
}

impl Costs {
    fn of(figures: &Figures) -> Outcome<Self> {
        let live = |row| figures.median(row, "3 hubs");
        Ok(Self {
            hub_ns: live(row::BUSY_CPU[0])?,
            server_ns: live(row::BUSY_CPU[2])?,
            commits: live(row::BUSY_COMMITS)?,
            rows: live(row::BUSY_ROWS)?,
            wal: live(row::BUSY_WAL)?,
            disk: live(row::BUSY_DISK)?,
            along_ns: figures.median(row::ALONG_CPU, "200,000")?,
            along_bytes: more(
                figures.median(row::ALONG_MEMORY, "100,000")?,
                figures.median(row::ALONG_MEMORY, "200,000")?,
            ),
            warm: [figures.median(row::WARM, "10,000")?, figures.median(row::WARM, "200,000")?],
            cold: [figures.median(row::COLD, "10,000")?, figures.median(row::COLD, "200,000")?],
        })
    }
}

/// Until a shard with so many records is served again, s: the straight line through the times with 10,000 and 200,000.
fn served_after(times: [u64; 2], records: u64) -> u64 {
    let [few, many] = times.map(u128::from);
    let each = many.saturating_sub(few);
    let ns = few + each * u128::from(records.saturating_sub(10_000)) / 190_000;
    u64::try_from(ns / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Bytes of each further record, of bytes a record at 100,000 and at 200,000: what a process needs in any case falls out.
fn more(at_few: u64, at_many: u64) -> u64 {
    (2 * at_many).saturating_sub(at_few)
}

/// A company of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Company {
    tills: u64,
    day: u64,
    /// Records a second in the busiest hour.
    peak: u64,
    /// Hundredths of a core in the busiest hour.
    hub_cores: u64,
    server_cores: u64,
    /// Of all hubs of head office for reading along.
    office_cores: u64,
    /// And their memory after a year, bytes.
    office_bytes: u64,
    /// Companies, each with a database of its own, into which it is split, and what asks for it.
    parts: u64,
    split_by: &'static str,
    hubs: u64,
    shards: u64,
    connections: u64,
    commits: u64,
    wal_a_second: u64,
    rows_a_year: u64,
    disk_a_year: u64,
    shard_a_year: u64,
    warm_seconds: u64,
    cold_seconds: u64,
}

fn company(stores: u64, assumed: &Assumed, costs: &Costs) -> Company {
    let tills = stores * assumed.tills_a_store;
    let day = tills * assumed.records_a_day;
    let peak = (day * assumed.peak_percent).div_ceil(100 * 3_600);
    let cores = |ns: u64| ns.div_ceil(10_000_000);
    let hub_cores = cores(peak * costs.hub_ns + tills * IDLE_TILL_NS);
    let server_cores = cores(peak * costs.server_ns);
    let (full, shards_a_hub) = (assumed.full_percent.max(1), assumed.shards_a_hub.max(1));
    let by_processor = hub_cores.div_ceil((assumed.hub_cores * full).max(1));
    let by_connections = (tills * 100).div_ceil(limit::TILLS_A_HUB * full);
    // One more than is needed, so that one may go; hence at least two.
    let needed = by_processor.max(by_connections).max(1);
    let hubs_a_part = (limit::SHARDS / shards_a_hub).max(2) - 1;
    let year = day * assumed.days_a_year;
    let (office_cores, office_bytes) = (cores(peak * costs.along_ns), year * costs.along_bytes);
    let bounds = [
        ("nothing", 1),
        ("shards of a company", needed.div_ceil(hubs_a_part)),
        ("cores of the server", server_cores.div_ceil((assumed.server_cores * full).max(1))),
        ("head office's cores", office_cores.div_ceil((assumed.hub_cores * full).max(1))),
        (
            "head office's memory",
            (office_bytes * 100).div_ceil((assumed.hub_memory * full).max(1) * 1_000_000_000),
        ),
    ];
    // The first of those that ask for most.
    let most = bounds.iter().map(|(_, parts)| *parts).max().unwrap_or(1);
    let (split_by, parts) = bounds.into_iter().find(|(_, parts)| *parts == most).unwrap_or(bounds[0]);
    let hubs = needed.div_ceil(parts) + 1;
    let shards = (hubs * shards_a_hub).min(limit::SHARDS);
    let shard_a_year = year / (parts * shards);
    let logs = shards + 1;
    // Of each log a writer, a reader, a follower and a courier; of each hub one that sees the others; and one that reads along
    // for each log that the hub of head office does not hold.
    let connections = logs * 4 + hubs + (logs - logs / hubs);
    Company {
        tills,
        day,
        peak,
        hub_cores,
        server_cores,
        office_cores,
        office_bytes,
        parts,
        split_by,
        hubs: hubs * parts,
        shards: shards * parts,
        connections: connections * parts,
        commits: peak * costs.commits / 1_000,
        wal_a_second: peak * costs.wal,
        rows_a_year: year / 1_000 * costs.rows,
        disk_a_year: year * costs.disk,
        shard_a_year,
        warm_seconds: served_after(costs.warm, shard_a_year),
        cold_seconds: served_after(costs.cold, shard_a_year),
    }
}

/// Prints the table.
///
/// # Errors
/// Nothing was measured yet.
pub fn print(assumed: &Assumed) -> Outcome<()> {
    print!("{}", sizes(assumed, &Figures::kept()?)?);
    Ok(())
}

/// A row: what, its number, and where that comes from.
type Row = (&'static str, fn(&Company) -> String, &'static str);

const ROWS: [Row; 19] = [
    ("tills", |c| thousands(c.tills), "assumed"),
    ("records a day", |c| thousands(c.day), "assumed"),
    ("records a second in the busiest hour", |c| thousands(c.peak), "assumed"),
    ("hubs: cores in use then", |c| hundredths(c.hub_cores), "“processor time for them, hubs”; an idle till"),
    ("server: cores in use then", |c| hundredths(c.server_cores), "“processor time for them, server”"),
    (
        "head office: cores in use then",
        |c| hundredths(c.office_cores),
        "“head office's hub, … processor time”",
    ),
    (
        "head office: memory after a year, GB",
        |c| hundredths(c.office_bytes / 10_000_000),
        "“its memory for them”",
    ),
    ("companies, a database each", |c| thousands(c.parts), "the next row"),
    ("what asks for so many", |c| c.split_by.to_owned(), "256 shards; what is assumed of machines"),
    ("hubs", |c| thousands(c.hubs), "cores, connections of tills, one to spare in each company"),
    ("shards", |c| thousands(c.shards), "assumed for each hub"),
    ("connections to the databases", |c| thousands(c.connections), "rows “connections”"),
    ("commits a second then", |c| thousands(c.commits), "“commits for 1,000 of them”"),
    (
        "write-ahead log then, MB a second",
        |c| hundredths(c.wal_a_second / 10_000),
        "“write-ahead log for them”",
    ),
    (
        "rows of the logs a year, millions",
        |c| thousands(c.rows_a_year / 1_000_000),
        "“rows of the logs for 1,000 of them”",
    ),
    ("disk a year, GB", |c| thousands(c.disk_a_year / 1_000_000_000), "“all tables on the disk for them”"),
    ("records of a shard after a year, millions", |c| hundredths(c.shard_a_year / 10_000), "from the above"),
    ("a hub dies then: until a shard of it is served, s", |c| thousands(c.warm_seconds), "“killed; … along”"),
    (
        "the same if nobody is warm in it, s",
        |c| thousands(c.cold_seconds),
        "“killed; … from the first entry”",
    ),
];

/// The table of sizes.
fn sizes(assumed: &Assumed, figures: &Figures) -> Outcome<String> {
    let costs = Costs::of(figures)?;
    let companies: Vec<Company> = STORES.iter().map(|stores| company(*stores, assumed, &costs)).collect();
    let Assumed {
        tills_a_store,
        records_a_day,
        peak_percent,
        days_a_year,
        hub_cores,
        hub_memory,
        server_cores,
        full_percent,
        shards_a_hub,
    } = assumed;
    let mut text = format!(
        "Assumed: {tills_a_store} tills a store, {records_a_day} records a till and day, {peak_percent} % of them in the busiest hour, {days_a_year} \
         business days a year; hubs of {hub_cores} cores and {hub_memory} GB, servers of {server_cores} cores; processors, memory and the \
         tills' connections at most {full_percent} % full then; {shards_a_hub} shards for each hub.\n\n| stores |"
    );
    for stores in STORES {
        text.push_str(&format!(" {} |", thousands(stores)));
    }
    text.push_str(&format!(" from |\n|---|{}---|\n", "--:|".repeat(STORES.len())));
    for (name, form, from) in ROWS {
        let cells: Vec<String> = companies.iter().map(form).collect();
        text.push_str(&format!("| {name} | {} | {from} |\n", cells.join(" | ")));
    }
    let (said, is) =
        (served_after(costs.cold, 100_000), figures.median(row::COLD, "100,000")? / 1_000_000_000);
    text.push_str(&format!(
        "\n“Until it is served” is the straight line through 10,000 and 200,000 records. For 100,000 and nobody warm it says {said} s, measured were {is} s.\n"
    ));
    Ok(text)
}

/// `1234` hundredths as `12.34`, as `123` from a hundred on.
fn hundredths(value: u64) -> String {
    if value < 10_000 { format!("{}.{:02}", value / 100, value % 100) } else { thousands(value / 100) }
}

/// Puts the tables of the last whole run into the document.
///
/// # Errors
/// Nothing was measured yet, or the document has not the marks between which they stand.
pub fn write() -> Outcome<()> {
    let (figures, text) = (Figures::kept()?, std::fs::read_to_string(DOCUMENT)?);
    Ok(std::fs::write(DOCUMENT, document(&text, &figures)?)?)
}

fn document(text: &str, figures: &Figures) -> Outcome<String> {
    let measured = between(text, "measured", &figures.markdown())?;
    between(&measured, "sizes", &sizes(&Assumed::default(), figures)?)
}

/// Puts something between the two marks of a name.
fn between(text: &str, name: &str, what: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("docs/scaling.md has no marks {name:?}"))?;
    Ok(format!("{before}{begin}{what}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        hub_ns: 1_000_000,
        server_ns: 500_000,
        commits: 2_000,
        rows: 3_000,
        wal: 4_000,
        disk: 2_000,
        along_ns: 200_000,
        along_bytes: 100,
        warm: [6_000_000_000, 6_000_000_000],
        cold: [7_000_000_000, 16_000_000_000],
    };

    #[test]
    fn the_document_says_what_the_last_whole_run_and_the_model_say() {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let wanted = document(&text, &Figures::kept().unwrap()).unwrap();
        assert!(text == wanted, "`benches scaling-model --write` puts them right");
    }

    #[test]
    fn a_shop_has_two_hubs_and_a_hundred_thousand_stores_are_split() {
        let assumed = Assumed::default();
        let small = company(10, &assumed, &COSTS);
        assert_eq!((small.tills, small.day, small.peak), (100, 20_000, 1));
        assert_eq!((small.hubs, small.shards, small.parts), (2, 8, 1));
        // Nine logs with four connections, two hubs, and five logs that the hub of head office reads along.
        assert_eq!(small.connections, 36 + 2 + 5);
        assert_eq!(small.wal_a_second, 4_000);
        let large = company(100_000, &assumed, &COSTS);
        assert_eq!((large.tills, large.peak), (1_000_000, 8_334));
        // 8.3 cores for records, 30.5 for tills that are only there.
        assert_eq!(large.hub_cores, 3_884);
        // 72 billion records of 100 bytes in the memory of head office's hubs, 32 GB each.
        assert_eq!((large.split_by, large.parts), ("head office's memory", 225));
        // 1,000,000 tills at 2,048 a hub are 489 hubs, three in each company; each has one to spare.
        assert_eq!((large.hubs, large.shards), (225 * 4, 225 * 16));
        // With memory for it, 63 hubs are what 256 shards are enough for.
        let roomy = company(100_000, &Assumed { hub_memory: 1_000_000, ..assumed }, &COSTS);
        assert_eq!((roomy.split_by, roomy.parts, roomy.hubs), ("shards of a company", 8, 8 * 63));
        assert_eq!(large.rows_a_year, 216_000_000_000);
    }

    #[test]
    fn what_one_thing_costs_is_paid_for_each() {
        let assumed = Assumed::default();
        let [one, ten] = [1_000, 10_000].map(|stores| company(stores, &assumed, &COSTS));
        assert_eq!((ten.day, ten.disk_a_year), (10 * one.day, 10 * one.disk_a_year));
        assert_eq!(served_after(COSTS.cold, 10_000), 7);
        assert_eq!(served_after(COSTS.cold, 200_000), 16);
        assert_eq!(served_after(COSTS.cold, 1_000_000), 53);
        assert_eq!(served_after(COSTS.cold, 100), 7, "not less than the till's noticing");
        assert_eq!((more(500, 300), more(100, 100), more(900, 100)), (100, 100, 0));
    }

    #[test]
    fn what_is_between_the_marks_is_replaced_and_nothing_else() {
        let text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = between(text, "x", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n");
        assert!(between(text, "y", "").is_err());
    }
}
