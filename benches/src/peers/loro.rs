//! Loro: the hub says its version vector, the till sends the updates beyond it.

use loro::{ExportMode, LoroDoc, LoroValue, ValueOrContainer, VersionVector};

use super::in_process::{Document as InProcess, Log};
use crate::Outcome;
use crate::workload::Transaction;

/// Where the list stands in the document.
const LIST: &str = "log";

/// A document.
pub struct Document(LoroDoc);

impl InProcess for Document {
    const NAME: &'static str = "Loro 1.17, in process, no network";

    fn of_till(number: u8) -> Outcome<Self> {
        let document = LoroDoc::new();
        document.set_peer_id(u64::from(number))?;
        Ok(Self(document))
    }

    fn copy() -> Outcome<Self> {
        Ok(Self(LoroDoc::new()))
    }

    fn append(&mut self, work: &[Transaction]) -> Outcome<Vec<u8>> {
        let (before, list) = (self.0.oplog_vv(), self.0.get_list(LIST));
        for transaction in work {
            list.push(transaction.json.as_bytes())?;
        }
        self.0.commit();
        Ok(self.0.export(ExportMode::updates(&before))?)
    }

    fn meet(&mut self, hub: &mut Self, log: &mut Log) -> Outcome<u64> {
        let has = hub.0.oplog_vv().encode();
        let vector = VersionVector::decode(&has)?;
        if self.0.oplog_vv() == vector {
            return Ok(has.len() as u64);
        }
        let update = self.0.export(ExportMode::updates(&vector))?;
        hub.0.import(&update)?;
        log.append(&update)?;
        Ok((has.len() + update.len()) as u64)
    }

    fn load(kept: &[&[u8]]) -> Outcome<Self> {
        let document = LoroDoc::new();
        for update in kept {
            document.import(update)?;
        }
        Ok(Self(document))
    }

    fn held(&self) -> Outcome<(usize, Option<Vec<u8>>)> {
        let list = self.0.get_list(LIST);
        let count = list.len();
        let Some(at) = count.checked_sub(1) else { return Ok((0, None)) };
        match list.get(at) {
            Some(ValueOrContainer::Value(LoroValue::Binary(bytes))) => Ok((count, Some(bytes.to_vec()))),
            other => Err(format!("{other:?} is in the list").into()),
        }
    }
}
