//! The simulator doubts: the shipped engine under a virtual clock, links that are cut, disks that lose what was not
//! fsynced, clocks that are wrong. One seed decides everything; the same seed gives the same run, to the byte.
//!
//! Two kinds of doubt: whole replicas in a bad world (`world`, `run`), and the books against a second, plain model
//! written from the rules (`books_model`, `sets` of random records, `compare`).
//!
//! `world` steps nodes and links through time, `chance` is the only randomness, `shop` is what happens in the shops,
//! `faults` what goes wrong, `checks` what must hold at every step and at the end, `model` a naive second opinion of
//! the books, `run` puts a seed together.

pub mod books_model;
pub mod chance;
pub mod checks;
pub mod compare;
pub mod faults;
pub mod model;
pub mod run;
pub mod sets;
pub mod shop;
pub mod world;
