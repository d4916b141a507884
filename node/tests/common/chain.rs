//! Several hubs of one company on a PostgreSQL of the test's own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Node, json, path, postgres, tillsync, until};

/// Several hubs of a company with four shards.
pub struct Chain {
    pub folder: tempfile::TempDir,
    pub server: postgres::Server,
    pub dirs: Vec<PathBuf>,
    /// Where each hub listens, from its first start on.
    pub quic: std::cell::RefCell<std::collections::BTreeMap<usize, String>>,
}

impl Chain {
    pub fn new(hubs: usize) -> Option<Self> {
        let server = postgres::Server::start()?;
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("hub-1");
        let init =
            ["hub", "init", "--company", "Chain", "--currency", "GBP", "--json", "--dir", path(&first)];
        json(&init);
        let mut chain =
            Self { folder, server, dirs: vec![first.clone()], quic: std::cell::RefCell::default() };
        // The company begins with its first start.
        super::in_database(&first, &chain.server.url("postgres"));
        let hub = chain.start(0);
        for number in 2..=hubs {
            let dir = chain.folder.path().join(format!("hub-{number}"));
            json(&["hub", "add", "--json", "--dir", path(&first), "--to", path(&dir)]);
            super::in_database(&dir, &chain.server.url("postgres"));
            chain.dirs.push(dir);
        }
        hub.stop();
        Some(chain)
    }

    pub fn start(&self, hub: usize) -> Node {
        let listen = self.quic.borrow().get(&hub).cloned().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let (node, quic) = super::hub_at(&self.dirs[hub], &listen, &["--shards", "4"]);
        self.quic.borrow_mut().insert(hub, quic);
        node
    }

    pub fn join(&self, store: &str, terminal: &str, by: usize) -> PathBuf {
        let dir = self.folder.path().join(terminal);
        let enroll = ["hub", "enroll", "--json", "--store", store, "--terminal", terminal];
        let code = json(&[&enroll[..], &["--dir", path(&self.dirs[by])]].concat());
        let code = code["code"].as_str().unwrap();
        let output = tillsync(&["terminal", "join", "--dir", path(&dir), "--code", code], "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        dir
    }

    pub fn ask(&self, hub: usize, arguments: &[&str]) -> Value {
        json(&[arguments, &["--json", "--dir", path(&self.dirs[hub])]].concat())
    }

    /// Which hub has a store, by the place of its address in `hubs`.
    pub fn holder(&self, asked: usize, store: &str) -> Option<String> {
        let hubs = self.ask(asked, &["hub", "list"]);
        let its = |hub: &&Value| hub["stores"].as_array().unwrap().iter().any(|name| name == store);
        Some(hubs.as_array().unwrap().iter().find(its)?["address"].as_str().unwrap().to_owned())
    }

    /// Waits until a till knows every hub: it asks where they are every half minute.
    pub fn until_told(&self, till: &Path) {
        until("it knows all hubs", || {
            let told = std::fs::read_to_string(till.join("identity/enrolment.json")).unwrap();
            self.quic.borrow().values().all(|address| told.contains(address.as_str()))
        });
    }

    /// Records in the books that a hub tells of; 0 while a store changes hands and cannot be asked.
    pub fn records(&self, hub: usize) -> u64 {
        let output = tillsync(&["stores", "--json", "--dir", path(&self.dirs[hub])], "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("passes from one hub of the company to another") {
            return 0;
        }
        assert!(output.status.success(), "{said}");
        let stores: Value = serde_json::from_slice(&output.stdout).unwrap();
        stores.as_array().unwrap().iter().map(|store| store["records"].as_u64().unwrap()).sum()
    }
}

pub fn online(till: &Node) -> bool {
    till.status()["online"] == true
}

pub fn waiting(till: &Node) -> u64 {
    till.status()["waiting"]["count"].as_u64().unwrap()
}
