//! The engine's hot functions one by one, without disk or network: `cargo bench -p benches`, in about a minute. Beside each
//! time stands what it is made of (signing, hashing, compressing), so that a gain has a place to come from.

use std::error::Error;
use std::sync::Arc;

use divan::{Bencher, black_box};
use ed25519_dalek::{Signer, SigningKey, Verifier};
use engine::batch::{Batch, BatchEntry, Sealed};
use engine::codec;
use engine::ids::{LogId, WriterId};
use engine::ledger::Books;
use engine::record::Record;
use engine::replica::records_of;
use engine::time::{Day, Instant};
use engine::transaction::{Draft, Transaction};
use node::hub::base_policy;

#[path = "../src/pair.rs"]
#[allow(dead_code, reason = "the counts of instructions use the rest")]
mod pair;
#[path = "../src/workload.rs"]
#[allow(dead_code, unused_imports, reason = "the measures of whole nodes use the rest")]
mod workload;

/// What `pair` gives.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Records of a batch: a live sale, a usual bulk, the most there may be.
const BATCHES: [usize; 3] = [1, 100, 1_000];
/// The shop opens: 2026-11-23T08:00:00Z.
const OPENS_MS: i64 = 1_795_420_800_000;
const SALE_EVERY_MS: i64 = 700;
/// Memory that decoding a batch may claim.
const DECODE_LIMIT: usize = 16 << 20;

fn main() {
    for count in BATCHES {
        let (plain, sealed) = (codec::encode(&batch(count)).len(), sealed(count).bytes.len());
        println!(
            "a batch of {count}: {plain} B encoded, {sealed} B signed and on the wire, {} B a record",
            sealed / count
        );
    }
    divan::main();
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn sold(count: usize) -> Vec<Transaction> {
    let texts = workload::transactions("till-01", count, 1);
    texts.iter().map(|one| Draft::from_json(&one.json).expect("the workload is honest").transaction).collect()
}

fn batch(count: usize) -> Batch {
    let entries = sold(count).into_iter().zip(0_i64..).map(|(transaction, number)| BatchEntry {
        at: Instant::utc(OPENS_MS + number * SALE_EVERY_MS),
        effective_later_ms: 0,
        transaction,
    });
    Batch {
        store: "high-street".parse().expect("a store's name"),
        writer: WriterId(key().verifying_key().to_bytes()),
        log: LogId { terminal: "till-01".parse().expect("a till's name"), incarnation: 1 },
        nonce: [1; 16],
        day: Instant::utc(OPENS_MS).day(),
        index: 0,
        first_seq: 1,
        prev: None,
        seen: Vec::new(),
        entries: entries.collect(),
    }
}

fn sealed(count: usize) -> Sealed {
    Sealed::seal(batch(count), &key())
}

/// Records of a batch, and of a business day where it matters little.
const A_BATCH: usize = 1_000;

/// Records of a till, day after day of so many.
fn history(count: usize, a_day: usize) -> Vec<Arc<Record>> {
    let mut all = batch(count);
    let mut records = Vec::with_capacity(count);
    let first = all.day.plus(-i32::try_from(count / a_day).unwrap_or(0));
    for entries in std::mem::take(&mut all.entries).chunks(A_BATCH) {
        let day = first.plus(i32::try_from(records.len() / a_day).unwrap_or(0));
        let sealed = Sealed::seal(Batch { day, entries: entries.to_vec(), ..all.clone() }, &key());
        let made = records_of(&sealed);
        all.first_seq += made.len() as u64;
        all.prev = made.last().map(|record| record.id);
        records.extend(made.into_iter().map(Arc::new));
    }
    records
}

fn today() -> Day {
    Instant::utc(OPENS_MS).day()
}

fn empty_books() -> Books {
    let policy = base_policy("GBP".parse().expect("a currency"));
    Books::new("high-street".parse().expect("a store's name"), policy)
}

/// What a till does with a sale before it numbers it.
mod draft {
    use super::{Bencher, Draft, base_policy, black_box, sold, workload};

    #[divan::bench]
    fn read_from_json(bencher: Bencher<'_, '_>) {
        let texts = workload::transactions("till-01", 1_000, 1);
        let mut next = texts.iter().cycle();
        bencher.bench_local(|| next.next().map(|text| Draft::from_json(black_box(&text.json))));
    }

    #[divan::bench]
    fn validate(bencher: Bencher<'_, '_>) {
        let (sold, policy) = (sold(1_000), base_policy("GBP".parse().expect("a currency")));
        let mut next = sold.iter().cycle();
        bencher.bench_local(|| next.next().map(|one| black_box(one).validate_capture(&policy)));
    }
}

/// Whole batches; divide by the number of records.
mod batches {
    use super::{
        Arc, BATCHES, Batch, Bencher, DECODE_LIMIT, Sealed, batch, black_box, codec, key, records_of, sealed,
    };

    #[divan::bench(args = BATCHES)]
    fn encode(bencher: Bencher<'_, '_>, count: usize) {
        let batch = batch(count);
        bencher.bench(|| codec::encode(black_box(&batch)));
    }

    #[divan::bench(args = BATCHES)]
    fn decode(bencher: Bencher<'_, '_>, count: usize) {
        let bytes = codec::encode(&batch(count));
        bencher.bench(|| codec::decode::<Batch, DECODE_LIMIT>(black_box(&bytes)));
    }

    #[divan::bench(args = BATCHES)]
    fn seal(bencher: Bencher<'_, '_>, count: usize) {
        let (batch, key) = (batch(count), key());
        bencher.with_inputs(|| batch.clone()).bench_values(|batch| Sealed::seal(batch, &key));
    }

    /// Decompress, decode, verify the signature.
    #[divan::bench(args = BATCHES)]
    fn open(bencher: Bencher<'_, '_>, count: usize) {
        let bytes = sealed(count).bytes;
        bencher.bench(|| Sealed::open(Arc::clone(black_box(&bytes))));
    }

    /// Number the records and hash each into the chain.
    #[divan::bench(args = BATCHES)]
    fn chain(bencher: Bencher<'_, '_>, count: usize) {
        let sealed = sealed(count);
        bencher.bench(|| records_of(black_box(&sealed)));
    }
}

/// One sale through hub and till, without disk or network.
mod pairs {
    use super::{Bencher, Draft, pair::Pair, workload};

    /// The till is alone.
    #[divan::bench(max_time = 3)]
    fn capture(bencher: Bencher<'_, '_>) {
        sell(bencher, Pair::new());
    }

    /// The till is linked: sealed, sent, checked, filed, judged, posted, acknowledged.
    #[divan::bench(max_time = 3)]
    fn capture_until_in_the_hubs_books(bencher: Bencher<'_, '_>) {
        let mut pair = Pair::new();
        pair.link();
        sell(bencher, pair);
    }

    fn sell(bencher: Bencher<'_, '_>, mut pair: Pair) {
        let texts = workload::transactions("till-01", 20_000, 1);
        let mut next = texts.iter();
        let draft =
            || Draft::from_json(&next.next().expect("enough work").json).expect("the workload is honest");
        let mut draft = draft;
        bencher.with_inputs(|| vec![draft()]).bench_local_values(|drafts| pair.capture(drafts));
    }
}

/// The ledger.
mod books {
    use super::{A_BATCH, Arc, Bencher, Books, empty_books, history, today};

    #[divan::bench(args = [100, 1_000, 10_000], sample_count = 10)]
    fn file_and_judge_at_once(bencher: Bencher<'_, '_>, count: usize) {
        let records = history(count, A_BATCH);
        bencher.with_inputs(empty_books).bench_local_values(|mut books| {
            records.iter().for_each(|record| books.insert(Arc::clone(record), &[]));
            books.settle(today());
            books
        });
    }

    #[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 500, sample_size = 1)]
    fn one_more_on(bencher: Bencher<'_, '_>, count: usize) {
        let records = history(count + 1_000, A_BATCH);
        let (many, more) = records.split_at(count);
        let mut books: Books = empty_books();
        many.iter().for_each(|record| books.insert(Arc::clone(record), &[]));
        books.settle(today());
        let mut next = more.iter();
        bencher.bench_local(|| {
            books.insert(Arc::clone(next.next().expect("enough records")), &[]);
            books.settle(today())
        });
    }

    /// On one business day with so many records.
    #[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 500, sample_size = 1)]
    fn one_more_and_the_hash_of_the_view(bencher: Bencher<'_, '_>, a_day: usize) {
        let records = history(a_day + 500, 2 * a_day);
        let (many, more) = records.split_at(a_day);
        let mut books: Books = empty_books();
        many.iter().for_each(|record| books.insert(Arc::clone(record), &[]));
        books.settle(today());
        let mut next = more.iter();
        let _ = books.view_hash();
        bencher.bench_local(|| {
            books.insert(Arc::clone(next.next().expect("enough records")), &[]);
            books.settle(today());
            books.view_hash()
        });
    }
}

/// What the above is made of.
mod parts {
    use super::{Bencher, Signer, Verifier, batch, black_box, codec, key};

    #[divan::bench(args = [400, 40_000])]
    fn blake3_of_bytes(bencher: Bencher<'_, '_>, bytes: usize) {
        let bytes = vec![7; bytes];
        bencher.bench(|| {
            let mut hasher = blake3::Hasher::new_derive_key("tillsync record v1");
            hasher.update(black_box(&bytes));
            hasher.finalize()
        });
    }

    #[divan::bench]
    fn ed25519_sign(bencher: Bencher<'_, '_>) {
        let key = key();
        bencher.bench(|| key.sign(black_box(&[5; 32])));
    }

    #[divan::bench]
    fn ed25519_verify(bencher: Bencher<'_, '_>) {
        let (key, signature) = (key().verifying_key(), key().sign(&[5; 32]));
        bencher.bench(|| key.verify(black_box(&[5; 32]), &signature));
    }

    #[divan::bench(args = [1, 100, 1_000])]
    fn zstd_compress(bencher: Bencher<'_, '_>, records: usize) {
        let plain = codec::encode(&batch(records));
        bencher.bench(|| zstd::bulk::compress(black_box(&plain), 3));
    }

    #[divan::bench(args = [1, 100, 1_000])]
    fn zstd_decompress(bencher: Bencher<'_, '_>, records: usize) {
        let plain = codec::encode(&batch(records));
        let packed = zstd::bulk::compress(&plain, 3).expect("it compresses");
        bencher.bench(|| zstd::bulk::decompress(black_box(&packed), plain.len()));
    }
}
