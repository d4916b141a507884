//! The HTTP APIs: what POS apps and scripts use. `till` and `hub` are the two sets of endpoints (`review`, `exports` and
//! `kpi` are rooms of the hub's); `views` gives things their JSON form; `problem` gives errors theirs. No decision is
//! taken here.

pub mod exports;
pub mod hub;
mod kpi;
pub mod problem;
pub mod review;
pub mod serve;
pub mod till;
pub mod views;
