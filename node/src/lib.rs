//! The node obeys: it carries out what the engine decides, over real disks, networks and clocks.
//!
//! Rooms: `cli` (commands), `hub` and `terminal` (the two roles), `api` (HTTP), `runtime` (a task for each store),
//! `transport` (QUIC), `identity` (keys, certificates, enrolment), `storage` (the log and its index), `import` (logs
//! of other POS), `export`, `verify`, `project`, `demo`.

pub mod api;
pub mod cli;
pub mod demo;
pub mod error;
pub mod export;
pub mod hub;
pub mod identity;
pub mod import;
pub mod project;
pub mod runtime;
pub mod storage;
pub mod terminal;
pub mod transport;
pub mod verify;
