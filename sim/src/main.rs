//! `tillsync-sim`: runs seeds and scenarios and says what held. `cli` has the commands.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
