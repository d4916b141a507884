//! The HTTP APIs: what POS apps and scripts use. `till` and `hub` are the two sets of endpoints (`review`, `exports` and
//! `kpi` are rooms of the hub's, `session` its door); `views` gives things their JSON form; `problem` gives errors theirs;
//! `openapi` tells what there is, and `shapes` what it looks like. No decision is taken here.

pub mod exports;
pub mod hub;
pub mod kpi;
pub mod openapi;
mod patience;
pub mod problem;
pub mod review;
pub mod serve;
pub(crate) mod session;
mod shapes;
pub mod till;
pub mod views;
