//! What must hold: at every turn, and once everything is mended.

use engine::ledger::Standing;

use crate::model;
use crate::shop::Shop;
use crate::world::{World, writer};

/// An invariant that does not hold, with what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was found instead.
    pub found: String,
}

fn broken(invariant: &'static str, found: impl Into<String>) -> Broken {
    Broken { invariant, found: found.into() }
}

/// At every turn: books balance everywhere, and what tills believe to be at the hub is there.
///
/// # Errors
/// The first invariant that does not hold.
pub fn at_every_turn(world: &World) -> Result<(), Broken> {
    let hub = &world.nodes[&writer("hub")].replica;
    let heads = hub.log_heads();
    for node in world.nodes.values() {
        let sum: i128 = node.replica.books().balances().values().sum();
        if sum != 0 {
            return Err(broken("the trial balance is zero", format!("{} is off by {sum}", node.name)));
        }
        let believed = node.replica.at_hub_through();
        let there = heads.get(&node.replica.identity().log).copied().unwrap_or(0);
        if believed > there {
            let found = format!("{} believes {believed}, the hub has {there}", node.name);
            return Err(broken("custody says what is so", found));
        }
    }
    Ok(())
}

/// Once everything is mended and quiet.
///
/// # Errors
/// The first invariant that does not hold.
pub fn at_the_end(world: &mut World, shop: &Shop) -> Result<(), Broken> {
    at_every_turn(world)?;
    same_everywhere(world)?;
    let hub = &world.nodes[&writer("hub")].replica;
    let books = hub.books();
    for (name, receipt) in &shop.acknowledged {
        let found = books.find_receipt(name);
        if found != [receipt.id] {
            let text = format!("receipt {name} was acknowledged as {}, the hub has {found:?}", receipt.id);
            return Err(broken("what was acknowledged is in the books exactly once", text));
        }
    }
    if let Some(difference) = model::money_differs(shop, books) {
        return Err(broken("the money side is what tills took", difference));
    }
    for sale in shop.sales.values() {
        let held: Vec<&String> = sale
            .reversals
            .iter()
            .chain(std::iter::once(&sale.receipt))
            .filter(|name| {
                books.find_receipt(name).iter().any(|id| books.standing(id) == Some(Standing::InReview))
            })
            .collect();
        if sale.is_mischief() && held.is_empty() {
            return Err(broken("every planted conflict is flagged", format!("{sale:?} escaped")));
        }
        if !sale.is_mischief() && !held.is_empty() {
            return Err(broken("nothing honest is held", format!("{sale:?}: {held:?} held")));
        }
    }
    suspense_explains_itself(world)
}

fn same_everywhere(world: &mut World) -> Result<(), Broken> {
    let mut views = Vec::new();
    for node in world.nodes.values_mut() {
        if node.replica.waiting().count > 0 {
            return Err(broken("nothing waits after mending", format!("{} waits", node.name)));
        }
        let heads =
            node.replica.document_heads().map_err(|error| broken("documents apply", error.to_string()))?;
        for (day, document) in node.replica.days() {
            if heads.get(&day) != Some(&document.implied_heads()) {
                return Err(broken("Automerge agrees with the batches", format!("{} on {day}", node.name)));
            }
        }
        views.push((node.replica.digest(), heads, node.replica.books().view_hash()));
    }
    if views.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(broken("every replica holds the same documents and books", "they differ"))
}

/// The suspense balance is the reason side of what is held, to the penny.
fn suspense_explains_itself(world: &World) -> Result<(), Broken> {
    let books = world.nodes[&writer("hub")].replica.books();
    let suspense: i128 = books
        .balances()
        .iter()
        .filter(|((account, _), _)| account.is_suspense())
        .map(|(_, minor)| minor)
        .sum();
    let mut held: i128 = 0;
    for node in world.nodes.values() {
        for record in books.log_records(&node.replica.identity().log, 1) {
            if books.standing(&record.id) == Some(Standing::InReview)
                && let Some(basket) = record.transaction.basket()
            {
                held -= i128::from(basket.tendered_minor() * record.transaction.direction());
            }
        }
    }
    if suspense == held {
        return Ok(());
    }
    Err(broken("suspense explains itself", format!("suspense is {suspense}, held records explain {held}")))
}
