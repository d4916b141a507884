//! A network cable that can be pulled: a UDP relay between one till and the hub. Pulled, it drops everything, both
//! ways; the programs at its ends see what they would see in a shop.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A relay between one till and the hub.
pub struct Cable {
    address: SocketAddr,
    pulled: Arc<AtomicBool>,
    gone: Arc<AtomicBool>,
}

impl Cable {
    /// Lays a cable to the hub.
    ///
    /// # Errors
    /// Loopback sockets cannot be had.
    pub fn lay(hub: SocketAddr) -> std::io::Result<Self> {
        let till_side = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let hub_side = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        hub_side.connect(hub)?;
        let address = till_side.local_addr()?;
        let (pulled, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let till: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        for socket in [&till_side, &hub_side] {
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        }
        let up = (till_side.try_clone()?, hub_side.try_clone()?, till.clone());
        let flags = (pulled.clone(), gone.clone());
        thread::spawn(move || {
            relay(
                &flags.0,
                &flags.1,
                |buffer| {
                    let (length, from) = up.0.recv_from(buffer).ok()?;
                    *up.2.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
                    Some(length)
                },
                |bytes| up.1.send(bytes).map(|_| ()),
            );
        });
        let flags = (pulled.clone(), gone.clone());
        thread::spawn(move || {
            relay(
                &flags.0,
                &flags.1,
                |buffer| hub_side.recv(buffer).ok(),
                |bytes| {
                    let to = *till.lock().unwrap_or_else(PoisonError::into_inner);
                    to.map_or(Ok(()), |to| till_side.send_to(bytes, to).map(|_| ()))
                },
            );
        });
        Ok(Self { address, pulled, gone })
    }

    /// Where the till plugs in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pulls the cable, or puts it back.
    pub fn pull(&self, pulled: bool) {
        self.pulled.store(pulled, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

fn relay(
    pulled: &AtomicBool,
    gone: &AtomicBool,
    mut receive: impl FnMut(&mut [u8]) -> Option<usize>,
    mut send: impl FnMut(&[u8]) -> std::io::Result<()>,
) {
    let mut buffer = vec![0; 65_536];
    while !gone.load(Ordering::SeqCst) {
        let Some(length) = receive(&mut buffer) else { continue };
        if !pulled.load(Ordering::SeqCst) {
            // A datagram that cannot be sent is a lost datagram.
            let _ = send(&buffer[..length]);
        }
    }
}
