//! The door to the other programs, which are only built in with `--features peers`: without it nothing here does
//! anything but say so.

#[cfg(feature = "peers")]
pub use built::Beside;
#[cfg(not(feature = "peers"))]
pub use not_built::Beside;

/// Whether they are built in.
pub const BUILT: bool = cfg!(feature = "peers");

#[cfg(feature = "peers")]
mod built {
    use std::path::Path;

    use crate::peers::{self, Contender, Results, Sizes};
    use crate::{Outcome, bars};

    /// All contenders and what was measured of them.
    pub struct Beside {
        contenders: Vec<Box<dyn Contender>>,
        sizes: Sizes,
        results: Results,
    }

    impl Beside {
        /// Nothing measured yet.
        pub fn new(program: &Path, tiny: bool) -> Self {
            let mut results = Results::default();
            let contenders = peers::contenders(program, &mut results);
            Self { contenders, sizes: if tiny { peers::TINY } else { peers::FULL }, results }
        }

        /// A round of all contenders.
        ///
        /// # Errors
        /// None: a measurement that fails is in [`Beside::verdict`].
        pub fn round(&mut self, round: u64) -> Outcome<()> {
            peers::round(&self.contenders, &self.sizes, round, &mut self.results);
            Ok(())
        }

        /// Whether all could be measured.
        ///
        /// # Errors
        /// Everything that could not.
        pub fn verdict(&self) -> Outcome<()> {
            self.results.verdict()
        }

        /// How many numbers there are.
        pub fn len(&self) -> usize {
            self.results.len()
        }

        /// The tables; nothing if nothing was measured.
        pub fn markdown(&self, rounds: u64, load: &str) -> String {
            if self.len() == 0 { String::new() } else { self.results.markdown(rounds, load) }
        }

        /// The charts.
        ///
        /// # Errors
        /// The directory cannot be written.
        pub fn plots(&self, dir: &Path) -> Outcome<()> {
            std::fs::create_dir_all(dir)?;
            for (name, chart) in self.results.charts() {
                std::fs::write(dir.join(name), bars::svg(&chart))?;
            }
            Ok(())
        }
    }
}

#[cfg(not(feature = "peers"))]
mod not_built {
    use std::path::Path;

    use crate::Outcome;

    /// Nobody.
    pub struct Beside;

    impl Beside {
        /// Nobody.
        pub fn new(_program: &Path, _tiny: bool) -> Self {
            Self
        }

        /// Says how to have somebody.
        ///
        /// # Errors
        /// Always.
        pub fn round(&mut self, _round: u64) -> Outcome<()> {
            Err("other programs are not built in; \
                `cargo run --release -p benches --features peers -- report --only peers` builds and measures them"
                .into())
        }

        /// None.
        ///
        /// # Errors
        /// None.
        pub fn verdict(&self) -> Outcome<()> {
            Ok(())
        }

        /// None.
        pub fn len(&self) -> usize {
            0
        }

        /// Nothing.
        pub fn markdown(&self, _rounds: u64, _load: &str) -> String {
            String::new()
        }

        /// None.
        ///
        /// # Errors
        /// None.
        pub fn plots(&self, _dir: &Path) -> Outcome<()> {
            Ok(())
        }
    }
}
