//! A POS application that sells through a till's node: `cargo run --example pos -- http://127.0.0.1:7401 cart-77`.
//!
//! The node must not be asked twice for one sale, and every answer must be had: so a sale carries its cart's key, and is sent
//! again as it was until the till says that it is durable, or that it refuses. Whether the network is there plays no part.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use node::client::{CallError, Captured, Client};
use serde_json::{Value, json};

/// Between two attempts while the node does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// Then the cashier is told.
const ATTEMPTS: usize = 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(api), Some(cart)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: pos API CART");
        return ExitCode::from(2);
    };
    match Client::new(&api, None).and_then(|till| sell(&till, &cart)) {
        Ok(captured) => {
            println!("{} is safe on this till (record {} of its log)", captured.receipt, captured.seq);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("not recorded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sell(till: &Client, cart: &str) -> Result<Captured, CallError> {
    let sale = basket(cart);
    for _ in 1..ATTEMPTS {
        match till.capture(&sale) {
            Err(CallError::Unreachable(_)) => sleep(PAUSE),
            answered => return answered,
        }
    }
    till.capture(&sale)
}

/// What lies in the cart. Without a receipt number: the till gives one.
fn basket(cart: &str) -> Value {
    json!({
        "kind": "sale",
        "idempotency_key": cart,
        "currency": "GBP",
        "lines": [{"sku": "85123A", "quantity": "6", "amount_minor": 1530, "tax_minor": 255}],
        "tenders": [{"type": "cash", "amount_minor": 1530}],
    })
}
