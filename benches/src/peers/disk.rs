//! The disk alone, as a till that does nothing but write: the limit of capture.

use super::{Contender, Fleet, Promises};
use crate::Outcome;
use crate::raw;
use crate::stats::Measure;
use crate::workload::Transaction;

/// How the file grows.
pub enum Disk {
    /// Its zeros are on the disk already.
    Preallocated,
    /// By what is appended.
    Growing,
}

impl Contender for Disk {
    fn name(&self) -> &'static str {
        match self {
            Self::Preallocated => super::results::DISK,
            Self::Growing => "limit: append + fdatasync, growing file",
        }
    }

    fn promises(&self) -> Promises {
        Promises::DURABLE
    }

    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>> {
        let dir = tempfile::tempdir()?;
        let measure = match self {
            Self::Preallocated => raw::in_place(dir.path(), work, group)?,
            Self::Growing => raw::growing(dir.path(), work, group)?,
        };
        Ok(Some(measure))
    }

    fn open(&self, _tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        Ok(None)
    }
}
