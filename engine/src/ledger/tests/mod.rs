//! Tests of the merge layer: the fixtures of the law. Random sets of records, the invariants of section 11 and the plain
//! second model are in the `sim` crate (`sim/tests/model.rs`, `sim/tests/invariants.rs`).

mod golden;
mod preview;
mod tables;
