//! Every target on inputs that are the same everywhere, one a core at a time.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use targets::{TARGETS, bounded};

#[test]
fn every_target_holds_on_inputs_that_are_the_same_everywhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Those that take longest begin first.
    let mut waiting: Vec<_> = TARGETS.iter().collect();
    waiting.sort_by_key(|target| std::cmp::Reverse(target.rounds));
    let (waiting, found) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(target) = waiting.lock().unwrap().pop() else { break };
                    match bounded::run(target, folder) {
                        Ok(count) => println!("{}: {count} inputs", target.name),
                        Err(error) => found.lock().unwrap().push(error),
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
