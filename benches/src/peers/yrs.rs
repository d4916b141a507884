//! Yrs: the hub says its state vector, the till sends what is beyond it.

use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Any, Array, ArrayRef, Doc, Out, ReadTxn, StateVector, Transact, Update};

use super::in_process::{Document as InProcess, Log};
use crate::Outcome;
use crate::workload::Transaction;

/// Client id of the hub's copies, which write nothing.
const HUB: u64 = 1_000;

/// A document.
pub struct Document {
    document: Doc,
    list: ArrayRef,
}

impl Document {
    fn of_client(client: u64) -> Self {
        let document = Doc::with_client_id(client);
        let list = document.get_or_insert_array("log");
        Self { document, list }
    }

    fn apply(&self, update: &[u8]) -> Outcome<()> {
        Ok(self.document.transact_mut().apply_update(Update::decode_v1(update)?)?)
    }
}

impl InProcess for Document {
    const NAME: &'static str = "Yrs 0.28, in process, no network";

    fn of_till(number: u8) -> Outcome<Self> {
        Ok(Self::of_client(u64::from(number)))
    }

    fn copy() -> Outcome<Self> {
        Ok(Self::of_client(HUB))
    }

    fn append(&mut self, work: &[Transaction]) -> Outcome<Vec<u8>> {
        let mut change = self.document.transact_mut();
        for transaction in work {
            self.list.push_back(&mut change, Any::Buffer(transaction.json.as_bytes().into()));
        }
        change.commit();
        Ok(change.encode_update_v1())
    }

    fn meet(&mut self, hub: &mut Self, log: &mut Log) -> Outcome<u64> {
        let has = hub.document.transact().state_vector().encode_v1();
        let vector = StateVector::decode_v1(&has)?;
        let (own, update) = {
            let read = self.document.transact();
            (read.state_vector(), read.encode_state_as_update_v1(&vector))
        };
        if own != vector {
            hub.apply(&update)?;
            log.append(&update)?;
        }
        Ok((has.len() + update.len()) as u64)
    }

    fn load(kept: &[&[u8]]) -> Outcome<Self> {
        let document = Self::of_client(HUB);
        kept.iter().try_for_each(|update| document.apply(update))?;
        Ok(document)
    }

    fn held(&self) -> Outcome<(usize, Option<Vec<u8>>)> {
        let read = self.document.transact();
        let count = self.list.len(&read);
        let Some(at) = count.checked_sub(1) else { return Ok((0, None)) };
        match self.list.get(&read, at) {
            Some(Out::Any(Any::Buffer(bytes))) => Ok((count as usize, Some(bytes.to_vec()))),
            other => Err(format!("{other:?} is in the list").into()),
        }
    }
}
