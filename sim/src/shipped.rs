//! Scenarios that come with the simulator, inside the binary: each tells one story, and each must hold.

use crate::file::{self, BadFile};
use crate::scenario::Scenario;

/// A scenario that comes with the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its file, comments and all.
    pub text: &'static str,
}

/// All of them.
pub const ALL: &[Shipped] = &[
    Shipped { name: "black-friday", text: include_str!("../scenarios/black-friday.toml") },
    Shipped { name: "three-days-offline", text: include_str!("../scenarios/three-days-offline.toml") },
    Shipped { name: "hub-restored", text: include_str!("../scenarios/hub-restored.toml") },
    Shipped { name: "cloned-handheld", text: include_str!("../scenarios/cloned-handheld.toml") },
    Shipped { name: "reviewers-and-a-thief", text: include_str!("../scenarios/reviewers-and-a-thief.toml") },
    Shipped { name: "slow-2g", text: include_str!("../scenarios/slow-2g.toml") },
    Shipped { name: "bad-disks", text: include_str!("../scenarios/bad-disks.toml") },
    Shipped { name: "two-days-of-abuse", text: include_str!("../scenarios/two-days-of-abuse.toml") },
    Shipped { name: "three-hubs", text: include_str!("../scenarios/three-hubs.toml") },
    Shipped { name: "database-at-noon", text: include_str!("../scenarios/database-at-noon.toml") },
];

impl Shipped {
    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|shipped| shipped.name == name)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Never, as long as the tests pass.
    pub fn scenario(&self) -> Result<Scenario, BadFile> {
        file::read(self.name, self.text)
    }
}
