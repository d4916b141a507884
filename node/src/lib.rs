//! The node obeys: it carries out what the engine decides, over real disks, networks and clocks.
//!
//! Rooms: `cli` (commands), `client` (the API for other programs), `hub` and `terminal` (the two roles), `api` (HTTP), `console` (the hub's pages),
//! `till_page` (the till's), `metrics`, `runtime` (a task for each store),
//! `transport` (QUIC), `identity` (keys, certificates, enrolment), `storage` (the log, its index and the key to both), `database` (the way to one), `central` (the books as tables there), `import` (logs
//! of other POS), `moving` (a log into a database and out of it), `export`, `verify`, `doctor`, `project`, `demo`.

pub mod api;
pub mod backup;
mod central;
pub mod cli;
pub mod client;
mod cluster;
pub mod console;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod error;
pub mod export;
pub mod hub;
pub mod identity;
pub mod import;
pub mod metrics;
pub mod moving;
pub mod project;
pub mod runtime;
pub mod storage;
pub mod terminal;
pub mod till_page;
pub mod transport;
pub mod verify;
