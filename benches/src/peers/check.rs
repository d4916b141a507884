//! Looks at what a hub holds after a measurement: how much of each till, and the last of it. A figure of a contender
//! that lost or changed something is no figure.

use super::{Held, Last};
use crate::Outcome;
use crate::drain::Work;
use crate::shop::same_content;
use crate::workload::Transaction;

/// Every till's transactions, all of them, and the last as it was handed over.
///
/// # Errors
/// The first thing that is not so.
pub fn complete(held: &[Held], work: &Work) -> Outcome<()> {
    if held.len() != work.len() {
        return Err(format!("the hub knows {} tills of {}", held.len(), work.len()).into());
    }
    for (held, (till, transactions)) in held.iter().zip(work) {
        if held.count != transactions.len() {
            let (found, wanted) = (held.count, transactions.len());
            return Err(format!("{till}: the hub holds {found} of {wanted} transactions").into());
        }
        match (&held.last, transactions.last()) {
            (Some(there), Some(given)) => {
                same(there, given).map_err(|error| format!("{till}: its last record differs: {error}"))?;
            }
            (None, None) => {}
            _ => return Err(format!("{till}: the hub has no last record of it").into()),
        }
    }
    Ok(())
}

fn same(there: &Last, given: &Transaction) -> Outcome<()> {
    let equal = match there {
        Last::Bytes(bytes) => bytes == given.json.as_bytes(),
        Last::Json(value) => *value == serde_json::from_str::<serde_json::Value>(&given.json)?,
        Last::View(value) => return same_content(value, given),
    };
    if equal { Ok(()) } else { Err(format!("{there:?} instead of {}", given.json).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::transactions;

    fn given() -> Work {
        ["a", "b"].map(|till| (till.to_owned(), transactions(till, 20, 1))).into()
    }

    fn honest(work: &Work) -> Vec<Held> {
        let held = |transactions: &[Transaction]| Held {
            count: transactions.len(),
            last: transactions.last().map(|last| Last::Bytes(last.json.clone().into_bytes())),
        };
        work.iter().map(|(_, transactions)| held(transactions)).collect()
    }

    #[test]
    fn a_hub_that_has_everything_passes() {
        complete(&honest(&given()), &given()).unwrap();
    }

    #[test]
    fn a_lost_record_is_found() {
        let mut held = honest(&given());
        held[1].count -= 1;
        let said = complete(&held, &given()).unwrap_err().to_string();
        assert!(said.contains("b: the hub holds 19 of 20"), "{said}");
    }

    #[test]
    fn a_lost_till_is_found() {
        let held = honest(&given()).split_off(1);
        assert!(complete(&held, &given()).is_err());
    }

    #[test]
    fn one_changed_byte_of_the_last_record_is_found() {
        let mut held = honest(&given());
        let Some(Last::Bytes(bytes)) = &mut held[0].last else { unreachable!("it was made so above") };
        bytes[40] ^= 1;
        assert!(complete(&held, &given()).is_err());
    }

    #[test]
    fn another_order_of_fields_is_the_same_json_and_another_amount_is_not() {
        let work = given();
        let mut value: serde_json::Value = serde_json::from_str(&work[0].1[19].json).unwrap();
        let mut held = honest(&work);
        held[0].last = Some(Last::Json(value.clone()));
        complete(&held, &work).unwrap();
        value["lines"][0]["amount_minor"] = serde_json::json!(1);
        held[0].last = Some(Last::Json(value));
        assert!(complete(&held, &work).is_err());
    }
}
