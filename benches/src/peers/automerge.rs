//! Automerge alone, with its own sync protocol. Between two connections both ends keep the sync state that it tells
//! them to keep.

use automerge::sync::{Message, State, SyncDoc};
use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, ObjId, ObjType, ROOT, ReadDoc, ScalarValue, Value};

use super::in_process::{Document as InProcess, Log};
use crate::Outcome;
use crate::workload::Transaction;

/// Where the list stands in the document.
const LIST: &str = "log";

/// A document and its conversation.
pub struct Document {
    document: Automerge,
    state: State,
}

impl InProcess for Document {
    const NAME: &'static str = "Automerge 0.12 sync, in process, no network";

    fn of_till(number: u8) -> Outcome<Self> {
        let mut document = Automerge::new().with_actor(ActorId::from([number; 16]));
        make_list(&mut document)?;
        Ok(Self { document, state: State::new() })
    }

    fn copy() -> Outcome<Self> {
        Ok(Self { document: Automerge::new(), state: State::new() })
    }

    fn append(&mut self, work: &[Transaction]) -> Outcome<Vec<u8>> {
        append(&mut self.document, work)?;
        let change = self.document.get_last_local_change().ok_or("there is no last change")?;
        Ok(change.raw_bytes().to_vec())
    }

    fn connect(&mut self) -> Outcome<()> {
        self.state = State::decode(&self.state.encode())?;
        Ok(())
    }

    fn meet(&mut self, hub: &mut Self, log: &mut Log) -> Outcome<u64> {
        let mut bytes = 0;
        loop {
            let up = self.document.generate_sync_message(&mut self.state).map(Message::encode);
            let nothing_up = up.is_none();
            if let Some(up) = up {
                bytes += up.len() as u64;
                let before = hub.document.get_heads();
                hub.document.receive_sync_message(&mut hub.state, Message::decode(&up)?)?;
                if hub.document.get_heads() != before {
                    log.append(&hub.document.save_after(&before))?;
                }
            }
            match hub.document.generate_sync_message(&mut hub.state).map(Message::encode) {
                Some(down) => {
                    bytes += down.len() as u64;
                    self.document.receive_sync_message(&mut self.state, Message::decode(&down)?)?;
                }
                None if nothing_up => return Ok(bytes),
                None => {}
            }
        }
    }

    fn load(kept: &[&[u8]]) -> Outcome<Self> {
        let mut document = Automerge::new();
        document.load_incremental(&kept.concat())?;
        Ok(Self { document, state: State::new() })
    }

    fn held(&self) -> Outcome<(usize, Option<Vec<u8>>)> {
        held(&self.document)
    }
}

/// Gives an empty document its list.
///
/// # Errors
/// The library refuses.
pub fn make_list(document: &mut Automerge) -> Outcome<()> {
    let mut change = document.transaction();
    change.put_object(ROOT, LIST, ObjType::List)?;
    change.commit_with(CommitOptions::default().with_time(0));
    Ok(())
}

/// Adds transactions in one change.
///
/// # Errors
/// The document has no list.
pub fn append(document: &mut Automerge, work: &[Transaction]) -> Outcome<()> {
    let list = list(document)?.ok_or("the document has no list")?;
    let first = document.length(&list);
    let mut change = document.transaction();
    for (at, transaction) in work.iter().enumerate() {
        change.insert(&list, first + at, transaction.json.clone().into_bytes())?;
    }
    change.commit_with(CommitOptions::default().with_time(0));
    Ok(())
}

/// How many transactions there are, and the last.
///
/// # Errors
/// There is something else in the list.
pub fn held(document: &Automerge) -> Outcome<(usize, Option<Vec<u8>>)> {
    let Some(list) = list(document)? else { return Ok((0, None)) };
    let count = document.length(&list);
    let Some(at) = count.checked_sub(1) else { return Ok((0, None)) };
    match document.get(&list, at)? {
        Some((Value::Scalar(value), _)) => match value.as_ref() {
            ScalarValue::Bytes(bytes) => Ok((count, Some(bytes.clone()))),
            other => Err(format!("{other:?} is in the list").into()),
        },
        other => Err(format!("{other:?} is in the list").into()),
    }
}

fn list(document: &Automerge) -> Outcome<Option<ObjId>> {
    Ok(document.get(ROOT, LIST)?.map(|(_, id)| id))
}
