//! What stands between a hub and its database where a story needs the connection to end, or to fall silent, at one moment.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A relay that ends the connection when the hub says COMMIT: before the server hears it, or before the hub hears that
/// it was done.
pub struct Relay {
    port: u16,
    deed: Arc<Mutex<Deed>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    Pass,
    /// The next COMMIT does not arrive.
    LoseCommit,
    /// The next COMMIT arrives, and its answer does not.
    LoseAnswer,
    /// Whoever sends the next COMMIT stands still before it: nothing more comes from it, and its connection stays.
    StandStill,
    /// Nothing passes in either direction, and nobody is told.
    Hang,
    /// So many bytes more in one direction, then the connection ends, in the middle of whatever it is.
    CutAfter {
        from_hub: bool,
        bytes: usize,
    },
}

impl Relay {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let deed = Arc::new(Mutex::new(Deed::Pass));
        let shared = Arc::clone(&deed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let silent = Arc::new(AtomicBool::new(false));
                let ends = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                pass(client, server, Arc::clone(&shared), Arc::clone(&silent), true);
                pass(ends.1, ends.0, Arc::clone(&shared), silent, false);
            }
        });
        Relay { port, deed }
    }

    /// The address of a server's database, by way of the relay.
    pub fn url(&self, direct: &str, port: u16) -> String {
        direct.replace(&format!(":{port}/"), &format!(":{}/", self.port))
    }

    /// What it does from now on.
    pub fn set(&self, deed: Deed) {
        *self.deed.lock().expect("deed") = deed;
    }

    pub fn get(&self) -> Deed {
        *self.deed.lock().expect("deed")
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    deed: Arc<Mutex<Deed>>,
    silent: Arc<AtomicBool>,
    from_hub: bool,
) {
    thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while *deed.lock().expect("deed") == Deed::Hang {
                thread::sleep(Duration::from_millis(10));
            }
            let commits = from_hub && buffer[..count].windows(7).any(|it| it == b"COMMIT\0");
            if commits {
                let mut deed = deed.lock().expect("deed");
                match std::mem::replace(&mut *deed, Deed::Pass) {
                    Deed::LoseCommit => break,
                    Deed::LoseAnswer => silent.store(true, Ordering::SeqCst),
                    Deed::StandStill => {
                        drop(deed);
                        thread::sleep(Duration::from_secs(30));
                        break;
                    }
                    other => *deed = other,
                }
            }
            if !from_hub && silent.load(Ordering::SeqCst) {
                break;
            }
            if let Some(last) = last_bytes(&deed, from_hub, count) {
                let _ = to.write_all(&buffer[..last]);
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// How much of what came passes before the connection ends, if it is to end in it.
fn last_bytes(deed: &Mutex<Deed>, from_hub: bool, count: usize) -> Option<usize> {
    let mut deed = deed.lock().expect("deed");
    match *deed {
        Deed::CutAfter { from_hub: meant, bytes } if meant == from_hub => {
            if bytes <= count {
                *deed = Deed::Pass;
                return Some(bytes);
            }
            *deed = Deed::CutAfter { from_hub, bytes: bytes - count };
            None
        }
        _ => None,
    }
}
