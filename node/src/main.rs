//! The one program: a till's node, the hub, and the commands that talk to them.

/// Gives memory back to the system after a burst; the system's own allocator keeps most of it.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    node::cli::main()
}
