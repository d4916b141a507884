//! What programs without TLS speak over: frames on a TCP stream that counts its bytes, and a relay that counts for
//! programs whose stream cannot be reached. Payload only: the headers of TCP and IP are not counted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// A frame is larger than this only by mistake.
const FRAME_BYTES_MAX: u32 = 64 << 20;

/// A stream of frames: a kind, a length, a body.
pub struct Frames {
    stream: TcpStream,
    passed: Arc<AtomicU64>,
}

impl Frames {
    /// Connects; `passed` takes the bytes of both directions.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(to: SocketAddr, passed: &Arc<AtomicU64>) -> io::Result<Self> {
        Self::on(TcpStream::connect(to)?, passed)
    }

    /// The other end; nothing is counted twice.
    ///
    /// # Errors
    /// The stream is broken.
    pub fn accepted(stream: TcpStream) -> io::Result<Self> {
        Self::on(stream, &Arc::default())
    }

    fn on(stream: TcpStream, passed: &Arc<AtomicU64>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, passed: Arc::clone(passed) })
    }

    /// Sends one.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(body.len() + 5);
        frame.push(kind);
        frame.extend(length.to_le_bytes());
        frame.extend(body);
        self.stream.write_all(&frame)?;
        self.passed.fetch_add(frame.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The next one, or `None` when the other end has closed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut head = [0; 5];
        match self.stream.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length);
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        let mut body = vec![0; length as usize];
        self.stream.read_exact(&mut body)?;
        self.passed.fetch_add(5 + u64::from(length), Ordering::Relaxed);
        Ok(Some((kind, body)))
    }

    /// The next one, which must be a number.
    ///
    /// # Errors
    /// The connection broke, or it is something else.
    pub fn receive_number(&mut self) -> io::Result<u64> {
        let number = self.receive()?.and_then(|(_, body)| body.try_into().ok()).map(u64::from_le_bytes);
        number.ok_or_else(|| io::Error::other("the hub sent no number"))
    }
}

/// Passes streams on to a server and counts. Threads end with their streams; the listener ends with the program.
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    passed: Arc<AtomicU64>,
}

impl Relay {
    /// Starts one in front of a server.
    ///
    /// # Errors
    /// No socket is to be had.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let relay = Self { address: listener.local_addr()?, passed: Arc::default() };
        let passed = Arc::clone(&relay.passed);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(server) else { continue };
                let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
                let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { continue };
                for (from, to) in [(near, far), (far_too, near_too)] {
                    let passed = Arc::clone(&passed);
                    thread::spawn(move || pass(from, to, &passed));
                }
            }
        });
        Ok(relay)
    }

    /// Bytes that have passed, both ways.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        passed.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_through_a_relay_and_both_count_the_same() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(listener.local_addr().unwrap()).unwrap();
        let hub = thread::spawn(move || {
            let mut frames = Frames::accepted(listener.accept().unwrap().0).unwrap();
            let (kind, body) = frames.receive().unwrap().unwrap();
            frames.send(0, &(body.len() as u64 + u64::from(kind)).to_le_bytes()).unwrap();
            assert!(frames.receive().unwrap().is_none());
        });
        let passed = Arc::default();
        let mut till = Frames::connect(relay.address, &passed).unwrap();
        till.send(7, &[1; 100_000]).unwrap();
        assert_eq!(till.receive_number().unwrap(), 100_007);
        drop(till);
        hub.join().unwrap();
        assert_eq!(passed.load(Ordering::Relaxed), 5 + 100_000 + 5 + 8);
        assert_eq!(relay.bytes(), passed.load(Ordering::Relaxed));
    }
}
