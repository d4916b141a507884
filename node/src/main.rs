//! The one program: a till's node, the hub, and the commands that talk to them.

fn main() -> std::process::ExitCode {
    node::cli::main()
}
