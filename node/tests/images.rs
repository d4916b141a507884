//! Starts from images: what a node keeps of its stores for its next start is worth nothing without the log. Whatever becomes
//! of the images, the index or the scratch file, the books are those of the log.

mod common;

use std::fs;
use std::path::Path;

use common::{Company, assert_verified, json, path, sale, till, tillsync, until};
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::replica::{Identity, Input, Replica};
use engine::time::Instant;
use node::hub::base_policy;
use node::identity::NodeKey;
use node::runtime::restore::{Images, restore};
use node::runtime::workroom::Home;
use node::storage::{Options, Storage};

/// More than the records after which a running node keeps an image.
const RECORDS: usize = 9_000;

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| sale(&format!("R-{n}"), 100 + i64::try_from(n).unwrap()) + "\n").collect()
}

fn capture(node: &common::Node, from: usize, to: usize) {
    let done = tillsync(&["capture", "-", "--api", &node.http], &lines(from, to));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What a hub's directory makes of its store: how many records came from an image, and all there are with a hash of the books.
fn started(dir: &Path, with_images: bool) -> (u64, (usize, [u8; 32])) {
    let key = NodeKey::load(dir).unwrap().unwrap();
    let (storage, _) = Storage::open(dir, &Options::default()).unwrap();
    let home = Home::of_node(dir, &storage);
    let fresh = |store: &StoreId| {
        let log = LogId { terminal: TerminalId::hub(), incarnation: 1 };
        let (hub, key) = (WriterId(key.public()), key.signing_key().clone());
        let identity = Identity { store: store.clone(), log, key, nonce: [0; 16], hub };
        Ok(Replica::new(identity, base_policy("GBP".parse().unwrap())).in_room(&home.room()))
    };
    let images = if with_images { Images::of(&home) } else { Images::None };
    let (_, mut made) = restore(&storage, images, fresh).unwrap().stores.pop_first().unwrap();
    while made.replica.next_wakeup().is_some_and(|at| at <= 0) {
        made.replica.handle(Instant::utc(1_800_000_000_000), Input::Wakeup);
    }
    let found = (made.judged, (made.replica.books().len(), made.replica.books().view_hash()));
    drop(made);
    storage.close().unwrap();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// What is done to a directory.
type Harm<'a> = &'a dyn Fn(&Path);

#[test]
fn whatever_becomes_of_what_a_node_keeps_for_its_next_start_the_books_are_those_of_the_log() {
    let mut company = Company::new();
    let mut hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let mut node = till(&dir);
    let all = |company: &Company, count: usize| company.records() == count as u64;
    capture(&node, 0, RECORDS);
    until("the sales at the hub", || all(&company, RECORDS));
    // Some more come after the image that was kept meanwhile, and nobody stops in an orderly way.
    capture(&node, RECORDS, RECORDS + 50);
    until("the last sales at the hub", || all(&company, RECORDS + 50));
    node.kill();
    hub.kill();
    let (judged, books) = started(&company.dir, true);
    assert!(judged >= 8_192, "{judged} records came from an image");
    assert_eq!(started(&company.dir, false).1, books, "image and log make the same books");

    // Older images than the last, of a node that was stopped in an orderly way.
    let older = company.folder().join("older");
    let hub = company.hub();
    hub.stop();
    copy(&company.dir, &older);
    let hub = company.hub();
    let node = till(&dir);
    capture(&node, RECORDS + 50, RECORDS + 300);
    until("more sales at the hub", || all(&company, RECORDS + 300));
    let balances = company.balances();
    node.stop();
    hub.stop();
    let whole = company.folder().join("whole");
    copy(&company.dir, &whole);

    let harm: [(&str, Harm<'_>); 6] = [
        ("nothing", &|_| {}),
        ("no scratch file", &|dir| fs::remove_file(dir.join("scratch")).unwrap()),
        ("half a scratch file", &|dir| {
            let file = fs::File::options().write(true).open(dir.join("scratch")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }),
        ("noise in the scratch file", &|dir| {
            let mut bytes = fs::read(dir.join("scratch")).unwrap();
            bytes.iter_mut().skip(300).step_by(97).for_each(|byte| *byte ^= 0x20);
            fs::write(dir.join("scratch"), bytes).unwrap();
        }),
        ("no index", &|dir| fs::remove_dir_all(dir.join("index")).unwrap()),
        ("an older index", &|dir| {
            fs::remove_dir_all(dir.join("index")).unwrap();
            copy(&older.join("index"), &dir.join("index"));
        }),
    ];
    for (title, harm) in harm {
        fs::remove_dir_all(&company.dir).unwrap();
        copy(&whole, &company.dir);
        harm(&company.dir);
        let hub = company.hub();
        // Reading every record finds every piece that is not what it was; the store is read from its log then.
        until(title, || {
            let found = ["R-3", "R-4000", "R-9299"].map(|receipt| {
                let of = ["custody", receipt, "--json", "--api", &hub.http, "--token", &company.token];
                tillsync(&of, "").status.success()
            });
            let asked = tillsync(&["ledger", "trial-balance", "--json", "--dir", path(&company.dir)], "");
            found == [true; 3] && asked.status.success() && all(&company, RECORDS + 300)
        });
        assert_eq!(company.balances(), balances, "{title}");
        assert_eq!(json(&["stores", "--json", "--dir", path(&company.dir)])[0]["records"], RECORDS + 300);
        hub.stop();
        assert_verified(&company.dir);
        let (judged, books) = started(&company.dir, true);
        assert!(judged >= u64::try_from(RECORDS).unwrap(), "{title}: the next start has an image again");
        assert_eq!(started(&company.dir, false).1, books, "{title}");
    }
}

#[test]
fn the_image_of_a_log_that_went_another_way_is_refused() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    let arrived = |company: &Company, count: u64| company.records() == count;
    capture(&node, 0, 30);
    until("the sales at the hub", || arrived(&company, 30));
    hub.stop();
    let (fork, one_way) = (company.folder().join("fork"), company.folder().join("one-way"));
    copy(&company.dir, &fork);
    // From there the same sales come twice, to a hub that knows nothing of the first time: other entries at the same places.
    capture(&node, 30, 60);
    let hub = company.hub();
    until("more sales at the hub", || arrived(&company, 60));
    hub.stop();
    copy(&company.dir, &one_way);
    let (judged, (all, _)) = started(&one_way, true);
    assert_eq!(judged, all as u64, "its own image is used");
    fs::remove_dir_all(&company.dir).unwrap();
    copy(&fork, &company.dir);
    let hub = company.hub();
    until("the same sales at the hub", || arrived(&company, 60));
    hub.stop();
    node.stop();
    fs::remove_dir_all(company.dir.join("index")).unwrap();
    copy(&one_way.join("index"), &company.dir.join("index"));
    fs::copy(one_way.join("scratch"), company.dir.join("scratch")).unwrap();
    let (judged, books) = started(&company.dir, true);
    assert_eq!(judged, 0, "the image of the other way is not");
    assert_eq!(started(&company.dir, false).1, books);
}
