//! The simulator doubts: the shipped engine under a virtual clock, links that are cut, disks that lose what was not
//! fsynced, clocks that are wrong, and liars with stolen keys. A scenario and its seed decide everything; the same one
//! gives the same run, to the byte.
//!
//! * `chance`, `clock`, `disk`, `network`, `world`: the engine's host over what is simulated of the world.
//! * `scenario` (the file), `trade` (shop days from a seed), `swarm` (faults from a seed), `drafts`, `liar`: what happens.
//! * `file` reads and writes scenarios, `limits` says which make sense, `shipped` are those in this binary.
//! * `shrink` finds the fewest happenings that still fail, `figures` says how old the hub's books are.
//! * `run` makes it happen, `truth` is what is known of it, `checks` what must hold, `kpis` whether the hub's figures do.
//! * `books_model`: a second, plain model of the books, written from the rules alone; `sets`: random sets of records;
//!   `compare` holds engine and model together.
//! * `watch` writes down what is worth looking at, `report` makes a page of it.

pub mod books_model;
pub mod chance;
pub mod checks;
pub mod clock;
pub mod compare;
pub mod database;
pub mod disk;
pub mod drafts;
pub mod figures;
pub mod file;
pub mod kpis;
pub mod liar;
pub mod limits;
pub mod network;
pub mod report;
pub mod run;
pub mod saved;
pub mod scenario;
pub mod sets;
pub mod shipped;
pub mod shrink;
pub mod swarm;
pub mod trade;
pub mod truth;
pub mod watch;
pub mod world;
pub mod writer;
