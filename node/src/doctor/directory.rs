//! The files of a data directory: whose they are, whether its key opens it, whether they are what was written, and what a
//! stopped till's log tells of its queue. Reads only.

use std::path::Path;

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::ids::WriterId;
use engine::replica::{Identity as ReplicaIdentity, Replica, Waiting};

use super::{Finding, Node, Role};
use crate::backup;
use crate::error::Failure;
use crate::hub::base_policy;
use crate::moving;
use crate::runtime::audit::{AUDIT_KIND, AuditEvent};
use crate::storage::vault::{self, Vault};
use crate::storage::{Logs, StorageError, manifest, private};
use crate::verify::{own_log, owner};

/// What a stopped till's log tells.
pub(super) struct Told {
    pub(super) waiting: Waiting,
    /// When the hub's word last came, ms.
    pub(super) heard_ms: Option<i64>,
}

pub(super) fn role_of(dir: &Path) -> Result<Role, Finding> {
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(Finding::wrong(
            "directory",
            format!("{shown} is not there"),
            "check --dir; if the disk is not mounted, mount it; never start a new node in its place",
        ));
    }
    if dir.join("hub.json").exists() {
        return Ok(Role::Hub);
    }
    if dir.join("identity/enrolment.json").exists() {
        return Ok(Role::Till);
    }
    let begun = dir.join("identity").exists() || dir.join("log").exists();
    let (found, next) = if begun {
        (
            format!("{shown} has neither a hub's configuration nor a till's enrolment"),
            "an interrupted `tillsync terminal join` or `hub init` is finished by running it again; if it was a node \
             before, keep the directory and restore it from a backup",
        )
    } else {
        (
            format!("{shown} is no node's directory"),
            "check --dir; a till begins with `tillsync terminal join`, a hub with `tillsync hub init`",
        )
    };
    Err(Finding::wrong("directory", found, next))
}

/// Whether the directory is encrypted and opens. Returns whether its files can be read.
pub(super) fn key(dir: &Path, found: &mut Vec<Finding>) -> bool {
    let described = match vault::describe(dir) {
        Ok(described) => described,
        Err(error) => {
            found.push(Finding::of_error("key", &error));
            return false;
        }
    };
    let Some(described) = described else {
        found.push(Finding::well("key", "the directory is not encrypted, so it needs none"));
        return true;
    };
    match Vault::of(dir) {
        Ok(_) => {
            let times = described.generation;
            let text = format!("the {} opens it; rotated {times} times", described.opened_by);
            found.push(Finding::well("key", text));
            true
        }
        Err(error) => {
            found.push(Finding::of_error("key", &error));
            false
        }
    }
}

/// The directory's format, and whether the small files are those that the node wrote.
pub(super) fn files(dir: &Path, found: &mut Vec<Finding>) {
    match backup::is_restored(dir) {
        Ok(false) => {}
        Ok(true) => found.push(Finding::note(
            "directory",
            "restored from a backup; before it records anything it takes back what the other nodes hold",
            "start it and let it meet the others; docs/operations.md, \"Restore\"",
        )),
        Err(error) => found.push(Finding::of_error("directory", &error)),
    }
    if let Some((since, to)) = moving::begun(dir) {
        found.push(Finding::note(
            "move",
            format!("a move of the log (--to {to}) was begun on {since} and is not finished"),
            "stop the hub and run the same `tillsync hub move` again; docs/database.md, \"Move\"",
        ));
    }
    if private::others_can_enter(dir) {
        found.push(Finding::note(
            "directory",
            "other users of this machine may look into it",
            format!("chmod 700 {}", dir.display()),
        ));
    }
    match manifest::problems(dir) {
        Err(error) => found.push(Finding::of_error("format", &error)),
        Ok(problems) => {
            let format = manifest::DIRECTORY_FORMAT;
            found.push(match manifest::exists(dir) {
                true => Finding::well("format", format!("format {format}, which this program writes")),
                false => Finding::note(
                    "format",
                    format!("of before format {format}: it has no manifest"),
                    "the next start writes one; nothing else to do",
                ),
            });
            if problems.is_empty() {
                found.push(Finding::well("files", "every small file is what the node wrote"));
            }
            found.extend(problems.into_iter().map(|problem| {
                let next =
                    "if nobody edited it on purpose, restore it from a backup, then run `tillsync verify`";
                Finding::wrong("files", problem, next)
            }));
        }
    }
}

/// Reads the log of a stopped node; a till's is asked what waits.
pub(super) fn told(dir: &Path, role: Role, node: &Node, found: &mut Vec<Finding>) -> Option<Told> {
    if *node != Node::Stopped {
        return None;
    }
    let read = match role {
        Role::Till => till_log(dir).map(|told| (Some(told), 0)),
        Role::Hub => Logs::open(dir)
            .and_then(|logs| logs.replay(&mut |_, _| Ok::<(), StorageError>(())).map(|()| logs.shards()))
            .map(|shards| (None, shards))
            .map_err(|error| Failure::refused(&error)),
    };
    match read {
        Ok((told, shards)) => {
            let where_it_is = match shards {
                0 => String::new(),
                shards => format!(", in the company's log and its {shards} shards"),
            };
            found.push(Finding::well("log", format!("every entry reads as it was written{where_it_is}")));
            told
        }
        Err(error) => {
            found.push(Finding::wrong(
                "log",
                error.to_string(),
                "keep the directory as it is and run `tillsync verify --dir` on it; docs/operations.md says how a \
                 till or the hub is brought back",
            ));
            None
        }
    }
}

fn till_log(dir: &Path) -> Result<Told, Failure> {
    let (key, hub, currency) = owner(dir)?;
    let log = own_log(dir, WriterId(key.public()) == hub);
    let mut replica: Option<Replica> = None;
    let mut heard_ms = None;
    Logs::open(dir).map_err(Failure::refused)?.replay(&mut |at, entry| {
        let failed =
            |reason: String| Failure::refused(format!("the entry at position {at} does not fit: {reason}"));
        if entry.kind == AUDIT_KIND {
            let event = serde_json::from_slice::<AuditEvent>(&entry.bytes).ok();
            let of_hub = event.filter(|event| event.event == "connected" || event.event == "disconnected");
            heard_ms = of_hub.map(|event| event.at_ms).max(heard_ms);
        }
        if entry.kind >= NODE_KINDS_FROM.min(AUDIT_KIND) {
            return Ok(());
        }
        let (store, entry) = LogEntry::decode(entry.kind, &entry.bytes).map_err(|e| failed(e.to_string()))?;
        if let LogEntry::Custody(mark) = &entry {
            heard_ms = heard_ms.max(Some(mark.at_ms));
        }
        let replica = replica.get_or_insert_with(|| {
            let key = key.signing_key().clone();
            let identity = ReplicaIdentity { store, log: log.clone(), key, nonce: [0; 16], hub };
            Replica::new(identity, base_policy(currency))
        });
        replica.restore(entry).map_err(|e| failed(e.to_string()))
    })?;
    // Filed and not judged: what waits is a question of numbers only.
    let waiting = replica.as_ref().map(Replica::waiting).unwrap_or_default();
    Ok(Told { waiting, heard_ms })
}
