//! A UDP relay between the tills and the hub that counts what passes: payloads of datagrams, both ways, with 28 bytes
//! of IP and UDP headers for each. Only drains that are not timed go through it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// IPv4 and UDP headers, bytes.
const HEADER_BYTES: u64 = 28;
/// How often a relay that hears nothing looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A relay; it ends with its value.
pub struct Relay {
    /// Where tills find it.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    up: AtomicU64,
    down: AtomicU64,
    over: AtomicBool,
}

impl Relay {
    /// Starts one in front of a hub.
    ///
    /// # Errors
    /// No socket is to be had.
    pub fn start(hub: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let (address, shared) = (socket.local_addr()?, Arc::<Shared>::default());
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || up(&socket, hub, &of_thread));
        Ok(Self { address, shared })
    }

    /// Bytes that have passed: from the tills to the hub, and back.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        [&self.shared.up, &self.shared.down].map(|bytes| bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

/// From the tills to the hub; every till gets a socket of its own towards the hub, and a thread for the way back.
fn up(socket: &UdpSocket, hub: SocketAddr, shared: &Arc<Shared>) {
    let mut tills: BTreeMap<SocketAddr, UdpSocket> = BTreeMap::new();
    pump(socket, &shared.over, &shared.up, |bytes, from| {
        if let Entry::Vacant(place) = tills.entry(from) {
            let towards = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            towards.set_read_timeout(Some(LOOK_EVERY))?;
            let (back, till_side, shared) = (towards.try_clone()?, socket.try_clone()?, Arc::clone(shared));
            thread::spawn(move || {
                pump(&back, &shared.over, &shared.down, |bytes, _| {
                    till_side.send_to(bytes, from).map(|_| ())
                });
            });
            place.insert(towards);
        }
        tills.get(&from).map_or(Ok(()), |towards| towards.send_to(bytes, hub).map(|_| ()))
    });
}

/// Passes datagrams on. One that cannot be sent is lost, as on any network.
fn pump(
    socket: &UdpSocket,
    over: &AtomicBool,
    passed: &AtomicU64,
    mut send: impl FnMut(&[u8], SocketAddr) -> std::io::Result<()>,
) {
    let mut buffer = vec![0; 65_536];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if send(&buffer[..length], from).is_ok() {
            passed.fetch_add(length as u64 + HEADER_BYTES, Ordering::Relaxed);
        }
    }
}
