//! The engine of Tillsync decides; it never touches a socket, a file, a clock or chance. Time, bytes and randomness
//! arrive as arguments, and what is to be done leaves as data.
//!
//! Start at [`replica`]: one door, `Replica::handle(now, Input) -> Outputs`. Floors, downwards only: money, ids,
//! time → transaction, policy → record → batch, document → ledger, review → entry → sync → replica.

pub mod attic;
pub mod batch;
pub mod codec;
pub mod columns;
pub mod document;
pub mod entry;
pub mod host;
pub mod ids;
pub mod image;
pub mod journal_run;
pub mod kpi;
pub mod lease;
pub mod ledger;
pub mod money;
pub mod policy;
pub mod record;
pub mod registry;
pub mod replica;
mod residuals;
pub mod review;
mod runs;
pub mod scenario;
pub mod shelf;
pub mod sync;
pub mod time;
pub mod transaction;
