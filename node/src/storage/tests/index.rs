//! Stories about the index: it keeps what it is given, and is thrown away on any doubt.

use super::super::inspect::Paths;
use super::*;

#[test]
fn the_index_keeps_values_of_any_size() {
    let dir = temp();
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let index = storage.index();
    let value = |size: usize| (0..size).map(|at| u8::try_from(at % 241).expect("small")).collect::<Vec<_>>();
    let sizes = [0, 1, 3999, 4000, 4001, 8000, 300_000];
    let key = |nth: usize| format!("k/{nth}").into_bytes();
    let batch = sizes.iter().enumerate().map(|(nth, size)| (key(nth), Some(value(*size))));
    index
        .put_batch(batch.chain([(b"k".to_vec(), None), (b"z".to_vec(), Some(value(2)))]).collect(), None)
        .expect("put");
    let found = index.scan_prefix(b"k/", None, 100).expect("scan");
    assert_eq!(found.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), sizes);
    let rest = index.scan_prefix(b"k/", Some(&key(2)), 2).expect("scan");
    assert_eq!(rest.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [key(3), key(4)]);
    assert_eq!(index.scan_prefix(b"", None, 100).expect("scan").len(), sizes.len() + 1, "no chunks, no meta");

    index.put_batch(vec![(key(6), Some(value(5000))), (key(5), None)], Some(Position(0))).expect("put");
    assert_eq!(index.get(&key(6)).expect("get"), Some(value(5000)));
    assert_eq!(index.get(&key(5)).expect("get"), None);
    assert!(matches!(index.put_batch(vec![(vec![0; 1025], None)], None), Err(StorageError::TooLarge { .. })));
    index.clear().expect("clear");
    assert_eq!(index.scan_prefix(b"", None, 100).expect("scan"), []);
    index.put_batch(vec![(key(1), Some(value(9)))], None).expect("put");
    storage.close().expect("close");
    let (storage, report) = Storage::open(dir.path(), &small()).expect("open");
    assert_eq!(report.index, IndexState::Kept);
    assert_eq!(storage.index().get(&key(1)).expect("get"), Some(value(9)));
}

/// Whatever happens to sled's folder, opening succeeds, and an index that is not to be trusted starts from zero.
#[test]
fn a_harmed_index_is_thrown_away() {
    let (dir, work) = (temp(), temp());
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let mut acked = Acked::new();
    fill(&storage, &[30], &mut acked);
    let batch = acked.iter().map(|(at, entry)| (at.0.to_be_bytes().to_vec(), Some(entry.bytes.clone())));
    storage.index().put_batch(batch.collect(), None).expect("put");
    storage.index().checkpoint(storage.end()).expect("checkpoint");
    storage.close().expect("close");
    type Harm = (&'static str, fn(&Path));
    let harms: Vec<Harm> = vec![
        ("deleted", |index| fs::remove_dir_all(index).expect("remove")),
        ("db emptied", |index| fs::write(index.join("db"), b"").expect("write")),
        ("db is noise", |index| fs::write(index.join("db"), [0xa7; 70_000]).expect("write")),
        ("db cut", |index| {
            let db = fs::read(index.join("db")).expect("read");
            fs::write(index.join("db"), &db[..db.len() / 3]).expect("write");
        }),
        ("conf is noise", |index| fs::write(index.join("conf"), [0xff; 64]).expect("write")),
        ("conf is gone", |index| fs::remove_file(index.join("conf")).expect("remove")),
        ("doubted", |index| fs::write(index.with_file_name("index.doubt"), b"").expect("write")),
        ("unfinished snapshot", |index| {
            fs::write(index.join("snap.0000000000001000.generating"), b"x").expect("write");
        }),
        ("unfinished clean-up", |index| copy(index, &index.with_file_name("index.discard"))),
        ("unfinished creation", |index| {
            fs::rename(index, index.with_file_name("index.tmp")).expect("rename");
        }),
    ];
    for (title, harm) in harms {
        let image = work.path().join(title);
        copy(dir.path(), &image);
        harm(&image.join("index"));
        let (storage, report) = Storage::open(&image, &small()).unwrap_or_else(|e| panic!("{title}: {e}"));
        let index = storage.index();
        if report.index == IndexState::Kept {
            // Then it must hold all that it claims.
            let claimed = acked.range(..report.index_through);
            claimed.for_each(|(at, entry)| {
                let found = index.get(&at.0.to_be_bytes()).unwrap_or_else(|e| panic!("{title}: {e}"));
                assert_eq!(found.as_ref(), Some(&entry.bytes), "{title}");
            });
        } else {
            assert_eq!(
                (report.index_through, index.scan_prefix(b"", None, 9).expect("scan").len()),
                (Position(0), 0)
            );
        }
        index.put_batch(vec![(b"new".to_vec(), Some(vec![1]))], None).expect("put");
        index.checkpoint(storage.end()).expect("checkpoint");
        storage.close().expect("close");
        assert!(!Paths::new(&image).dir.join("index.discard").exists(), "{title}");
        let (_, report) = Storage::open(&image, &small()).expect("open");
        assert_eq!((report.index, report.index_through), (IndexState::Kept, report.end), "{title}");
    }
    let newer = Options { index_version: 7, ..small() };
    let (_, report) = Storage::open(dir.path(), &newer).expect("open");
    assert!(matches!(report.index, IndexState::Discarded(_)));
}

/// sled holds its file a little longer than its handle lives; opening again at once must neither fail nor throw the
/// index away.
#[test]
fn closing_and_opening_at_once_keeps_the_index() {
    let dir = quick_temp();
    drop(Storage::open(dir.path(), &small()).expect("open"));
    for _ in 0..40 {
        let (storage, report) = Storage::open(dir.path(), &small()).expect("open");
        assert_eq!(report.index, IndexState::Kept);
        storage.index().clear().expect("clear");
    }
}

/// An index that knows more than the log (a log restored from an older copy) is thrown away.
#[test]
fn an_index_ahead_of_the_log_is_thrown_away() {
    let dir = temp();
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    fill(&storage, &[3], &mut Acked::new());
    storage.index().checkpoint(Position(storage.end().0 + 1)).expect("checkpoint");
    storage.close().expect("close");
    let (_, report) = Storage::open(dir.path(), &small()).expect("open");
    assert!(matches!(report.index, IndexState::Discarded(_)) && report.index_through == Position(0));
}
