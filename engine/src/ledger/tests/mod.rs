//! Tests of the merge layer: the fixtures of the law, and random worlds.

mod golden;
mod preview;
mod random;
mod tables;
mod world;
