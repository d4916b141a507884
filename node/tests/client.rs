//! The client for other programs, against a real till: one sale however often it is sent, a refusal with its reason, and the
//! difference between "refused" and "not known".

mod common;

use common::{Company, till};
use node::client::{CallError, Client};
use serde_json::json;

#[test]
fn a_sale_sent_again_is_the_same_record_and_a_dead_till_leaves_it_open() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    drop(hub);
    let mut node = till(&dir);
    let client = Client::new(&node.http, None).unwrap();
    let sale = json!({
        "kind": "sale", "idempotency_key": "cart-77", "currency": "GBP",
        "lines": [{"sku": "85123A", "quantity": "6", "amount_minor": 1530, "tax_minor": 255}],
        "tenders": [{"type": "cash", "amount_minor": 1530}],
    });
    let first = client.capture(&sale).unwrap();
    assert_eq!(client.capture(&sale).unwrap(), first, "sent again, the record that is there is the answer");
    assert_eq!(client.status().unwrap()["waiting"]["count"], 1);

    let mut short = sale.clone();
    short["idempotency_key"] = "cart-78".into();
    short["lines"] = json!([]);
    let refused = client.capture(&short).unwrap_err();
    assert!(
        matches!(&refused, CallError::Refused { status: 422, text } if text.contains("lines")),
        "{refused:?}"
    );

    node.kill();
    let unknown = client.capture(&sale).unwrap_err();
    assert!(matches!(unknown, CallError::Unreachable(_)), "{unknown:?}");
    let node = till(&dir);
    assert_eq!(Client::new(&node.http, None).unwrap().capture(&sale).unwrap(), first, "also after a kill");
}
