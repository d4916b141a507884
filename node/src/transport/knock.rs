//! The knock: one stateless UDP datagram that asks "is a QUIC server there?" (RFC 8999 section 6).
//!
//! Every QUIC server answers a long-header packet of a version that it does not speak with a Version
//! Negotiation packet, without keeping state and without a handshake. So a waiting till can ask every two
//! seconds at next to no cost, and finds a restarted hub at once while full handshakes stay in backoff. The
//! answer is believed only if it echoes both of our random connection ids; and it only brings a dial forward,
//! it proves nothing.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// RFC 9000 section 14.1: servers ignore smaller packets of unknown versions.
const DATAGRAM_BYTES: usize = 1200;
const ID_BYTES: u8 = 16;

/// The connection ids of one knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnockIds {
    destination: [u8; ID_BYTES as usize],
    source: [u8; ID_BYTES as usize],
}

impl KnockIds {
    pub(super) fn random() -> Self {
        Self { destination: rand::random(), source: rand::random() }
    }
}

/// The datagram: first byte, version `0x?a?a?a?a` (reserved to force negotiation), both ids, zeros.
pub(super) fn encode(ids: &KnockIds, version: u32) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    datagram.push(0xc0);
    datagram.extend(((version & 0xf0f0_f0f0) | 0x0a0a_0a0a).to_be_bytes());
    for id in [&ids.destination, &ids.source] {
        datagram.push(ID_BYTES);
        datagram.extend(id);
    }
    datagram.resize(DATAGRAM_BYTES, 0);
    datagram
}

/// Whether `datagram` is the Version Negotiation packet that answers this knock.
pub(super) fn is_answer(datagram: &[u8], ids: &KnockIds) -> bool {
    let mut head = vec![0, 0, 0, 0, ID_BYTES];
    head.extend(ids.source);
    head.push(ID_BYTES);
    head.extend(ids.destination);
    let Some((first, rest)) = datagram.split_first() else { return false };
    let Some(versions) = rest.strip_prefix(head.as_slice()) else { return false };
    first & 0x80 != 0 && !versions.is_empty() && versions.len() % 4 == 0
}

/// Knocks at all these addresses and waits for the first answer, at most `patience`.
///
/// # Errors
/// When no datagram could be sent at all: there is no network, or no address.
pub async fn knock(addresses: &[SocketAddr], patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    let ids = KnockIds::random();
    let datagram = encode(&ids, rand::random());
    let mut sockets = Vec::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no address to knock at");
    for v6 in [false, true] {
        let mine: Vec<_> = addresses.iter().filter(|a| a.is_ipv6() == v6).collect();
        if mine.is_empty() {
            continue;
        }
        let any = if v6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
        match UdpSocket::bind::<SocketAddr>(any).await {
            Ok(socket) => {
                let mut sent = false;
                for address in mine {
                    match socket.send_to(&datagram, address).await {
                        Ok(_) => sent = true,
                        Err(e) => failed = e,
                    }
                }
                if sent {
                    sockets.push(socket);
                }
            }
            Err(e) => failed = e,
        }
    }
    match sockets.as_slice() {
        [] => Err(failed),
        [one] => Ok(answered(one, &ids, deadline).await),
        [one, two, ..] => {
            // The first yes wins; a no is only final when both have said it.
            let (mut a, mut b) =
                (Box::pin(answered(one, &ids, deadline)), Box::pin(answered(two, &ids, deadline)));
            tokio::select! {
                yes = &mut a => Ok(yes || b.await),
                yes = &mut b => Ok(yes || a.await),
            }
        }
    }
}

async fn answered(socket: &UdpSocket, ids: &KnockIds, deadline: Instant) -> bool {
    let mut buffer = [0; 2048];
    loop {
        match timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            Err(_) => return false,
            Ok(Ok((length, _))) if is_answer(&buffer[..length], ids) => return true,
            Ok(Ok(_)) => {}
            // An ICMP "port unreachable" of one address, say: others may still answer. The pause keeps a socket
            // that only errs from spinning.
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_echo_of_our_own_ids_is_an_answer() {
        let ids = KnockIds { destination: [1; 16], source: [2; 16] };
        let sent = encode(&ids, 0xffff_ffff);
        assert_eq!((sent.len(), &sent[1..5]), (1200, [0xfa; 4].as_slice()));
        let answer = |source: [u8; 16], destination: [u8; 16], tail: &[u8]| {
            [&[0xc7, 0, 0, 0, 0, 16], source.as_slice(), &[16], &destination, tail].concat()
        };
        assert!(is_answer(&answer([2; 16], [1; 16], &[0, 0, 0, 1]), &ids));
        assert!(!is_answer(&answer([1; 16], [2; 16], &[0, 0, 0, 1]), &ids), "ids not swapped");
        assert!(!is_answer(&answer([2; 16], [1; 16], &[]), &ids), "no version");
        assert!(!is_answer(&answer([2; 16], [1; 16], &[0, 0, 1]), &ids), "half a version");
        assert!(!is_answer(&sent, &ids), "our own knock reflected");
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let ids = KnockIds { destination: [1; 16], source: [2; 16] };
            prop_assert!(!is_answer(&bytes, &ids));
        }
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = deaf.local_addr().unwrap();
        assert!(!knock(&[address], Duration::from_millis(50)).await.unwrap());
        assert!(knock(&[], Duration::from_millis(50)).await.is_err());
    }
}
