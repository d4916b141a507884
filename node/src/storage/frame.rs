//! The frame: how one entry lies in a segment, and how a frame that is not what was written is recognised.
//!
//! ```text
//! 0   4  length of the whole frame, head included; 0 = nothing written from here on
//! 4   1  kind (the caller's, opaque here)
//! 5   3  back: bytes from this frame to the first frame of its commit group
//! 8   4  head check: BLAKE3 (head key) over position and bytes 0..8
//! 12 16  body check: BLAKE3 (body key) over position, bytes 0..8 and the body
//! 28  …  body
//! ```
//!
//! In an encrypted log: kind 0; the tag of XChaCha20-Poly1305 in place of the body check; the body is a nonce (24) and
//! the ciphertext of the entry's bytes and, behind them, its kind. The tag is bound to position and bytes 0..8.
//!
//!
//! Both keys are derived from the log id (and from the data key, if there is one), and the position is hashed, so a frame that was moved, swapped or copied
//! from another log fails like a flipped bit. 16 bytes are kept of the body's hash: the check is against accidents
//! (2^-128 to miss one), the batches inside are signed against people, and a till keeps these bytes for ever. The
//! head has a check of its own so that a damaged length is never followed and a search for the next frame costs one
//! small hash per place, whatever the payload imitates.
//!
//! `back` is the commit group's number in disguise: position − back is where the group began, and a later group
//! begins later. A number alone could not say whether a bad frame belongs to the group before it or to the one after
//! it; the beginning can (see recovery.rs). This file never touches a disk.

use super::vault::Vault;
use super::vault::cipher::{Cipher, NONCE_BYTES};
use std::sync::Arc;

/// Bytes before the body of a frame.
pub(super) const HEAD_BYTES: usize = 28;
/// The largest body of an entry: 1 MiB and 64 KiB for what the engine wraps around it.
pub const MAX_ENTRY_BYTES: usize = (1 << 20) + (64 << 10);
/// What a cipher adds to a body: the nonce and, hidden in the ciphertext, the kind. Its tag lies in the head.
const CIPHER_BYTES: usize = NONCE_BYTES + 1;
/// The largest frame.
pub(super) const FRAME_BYTES_MAX: usize = HEAD_BYTES + CIPHER_BYTES + MAX_ENTRY_BYTES;
/// The kind byte of an encrypted frame: the real one is nobody's business.
const KIND_HIDDEN: u8 = 0;
/// `back` has three bytes; a commit group must stay below this.
pub(super) const BACK_MAX: usize = (1 << 24) - 1;

/// What the first bytes at a position say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Zero length: nothing was written here.
    End,
    /// A frame whose head is intact; its body is not checked yet.
    Frame { length: usize, back: u64 },
    /// Something that no writer wrote here.
    Bad,
}

/// The two keys of one log.
#[derive(Clone)]
pub(super) struct Seal {
    head_key: [u8; 32],
    body: Body,
}

/// How bodies are kept.
#[derive(Clone)]
enum Body {
    /// As they are, beside a check under this key.
    Plain([u8; 32]),
    /// Encrypted.
    Sealed(Arc<Cipher>),
}

impl Seal {
    pub(super) fn new(log_id: &[u8; 16], vault: Option<&Vault>) -> Self {
        match vault {
            None => Seal {
                head_key: blake3::derive_key("tillsync 2026 storage frame head v1", log_id),
                body: Body::Plain(blake3::derive_key("tillsync 2026 storage frame body v1", log_id)),
            },
            Some(vault) => Seal {
                head_key: *vault.derive("tillsync 2026 vault frame head v1", log_id),
                body: Body::Sealed(Arc::new(Cipher::new(
                    &vault.derive("tillsync 2026 vault frame body v1", log_id),
                ))),
            },
        }
    }

    /// Bytes of the frame of an entry with so many bytes.
    pub(super) fn frame_bytes(&self, entry: usize) -> usize {
        let added = if matches!(self.body, Body::Sealed(_)) { CIPHER_BYTES } else { 0 };
        HEAD_BYTES + added + entry
    }

    /// Appends the frame of one entry to `out`. Sizes were checked at the door.
    pub(super) fn encode(&self, out: &mut Vec<u8>, at: u64, back: usize, kind: u8, body: &[u8]) {
        assert!(body.len() <= MAX_ENTRY_BYTES && back <= BACK_MAX, "the door admits no such entry");
        let mut head = [0; 8];
        let length = self.frame_bytes(body.len());
        head[..4].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        head[4] = if matches!(self.body, Body::Sealed(_)) { KIND_HIDDEN } else { kind };
        head[5..].copy_from_slice(&back.to_le_bytes()[..3]);
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.head_check(at, &head));
        match &self.body {
            Body::Plain(key) => {
                out.extend_from_slice(&body_check(key, at, &head, body));
                out.extend_from_slice(body);
            }
            Body::Sealed(cipher) => {
                let start = out.len() - 12;
                out.resize(start + HEAD_BYTES + NONCE_BYTES, 0);
                out.extend_from_slice(body);
                out.push(kind);
                let frame = &mut out[start..];
                let (fixed, sealed) = frame.split_at_mut(HEAD_BYTES + NONCE_BYTES);
                let (nonce, tag) = cipher.seal_in_place(&place(at, &head), sealed);
                fixed[12..HEAD_BYTES].copy_from_slice(&tag);
                fixed[HEAD_BYTES..].copy_from_slice(&nonce);
            }
        }
    }

    /// Reads a head; `raw` holds at least `HEAD_BYTES`.
    pub(super) fn head(&self, at: u64, raw: &[u8]) -> Head {
        let mut head = [0; 8];
        head.copy_from_slice(&raw[..8]);
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length == 0 {
            return Head::End;
        }
        if !(self.frame_bytes(0)..=self.frame_bytes(MAX_ENTRY_BYTES)).contains(&length)
            || raw[8..12] != self.head_check(at, &head)
        {
            return Head::Bad;
        }
        let back = u64::from(u32::from_le_bytes([head[5], head[6], head[7], 0]));
        Head::Frame { length, back }
    }

    /// Puts the bytes of an entry into `body` and gives its kind, if this whole frame (head and body) is what was
    /// written at this position.
    pub(super) fn open(&self, at: u64, frame: &[u8], body: &mut Vec<u8>) -> Option<u8> {
        body.clear();
        let (head, rest) = frame.split_first_chunk::<8>()?;
        let (check, raw) = rest.get(4..)?.split_first_chunk::<16>()?;
        match &self.body {
            Body::Plain(key) => {
                let intact = *check == body_check(key, at, head, raw);
                body.extend_from_slice(if intact { raw } else { &[] });
                intact.then_some(head[4])
            }
            Body::Sealed(cipher) => {
                let (nonce, sealed) = raw.split_first_chunk::<NONCE_BYTES>()?;
                body.extend_from_slice(sealed);
                let opened = cipher.open_in_place(nonce, &place(at, head), body, check);
                if opened { body.pop() } else { None }
            }
        }
    }

    fn head_check(&self, at: u64, head: &[u8; 8]) -> [u8; 4] {
        let hash = blake3::keyed_hash(&self.head_key, &place(at, head));
        let [a, b, c, d, ..] = *hash.as_bytes();
        [a, b, c, d]
    }
}

/// What a frame is bound to: its position and its head.
fn place(at: u64, head: &[u8; 8]) -> [u8; 16] {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&at.to_le_bytes());
    place[8..].copy_from_slice(head);
    place
}

fn body_check(key: &[u8; 32], at: u64, head: &[u8; 8], body: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&place(at, head)).update(body);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A plain and an encrypted log.
    fn seals(log_id: [u8; 16]) -> [Seal; 2] {
        let vault = Vault::for_tests([5; 32]);
        [Seal::new(&log_id, None), Seal::new(&log_id, Some(&vault))]
    }

    fn opened(seal: &Seal, at: u64, frame: &[u8]) -> Option<(u8, Vec<u8>)> {
        let mut body = Vec::new();
        Some((seal.open(at, frame, &mut body)?, body))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// What was written at a position reads back there, and nowhere else, and in no other log.
        #[test]
        fn a_frame_is_bound_to_its_place(at in 0..1u64 << 60, back in 0..BACK_MAX, kind: u8, body: Vec<u8>) {
            for (seal, other) in seals([7; 16]).into_iter().zip(seals([8; 16])) {
                let mut frame = Vec::new();
                seal.encode(&mut frame, at, back, kind, &body);
                let length = seal.frame_bytes(body.len());
                prop_assert_eq!(seal.head(at, &frame), Head::Frame { length, back: back as u64 });
                prop_assert_eq!(opened(&seal, at, &frame), Some((kind, body.clone())));
                prop_assert_eq!(seal.head(at + 1, &frame), Head::Bad);
                prop_assert_eq!(opened(&seal, at + 1, &frame), None);
                prop_assert_eq!(opened(&other, at, &frame), None);
            }
        }

        /// No input makes the reader follow a length out of bounds.
        #[test]
        fn noise_is_not_a_frame(at: u64, raw in prop::collection::vec(1u8.., HEAD_BYTES)) {
            for seal in seals([7; 16]) {
                prop_assert_eq!(seal.head(at, &raw), Head::Bad);
            }
        }
    }

    /// Every single flipped bit of a frame is found by one of the two checks.
    #[test]
    fn every_flipped_bit_is_found() {
        for seal in seals([7; 16]) {
            let mut frame = Vec::new();
            seal.encode(&mut frame, 4096, 300, 9, b"one receipt, 3 lines, 12.40 EUR");
            for bit in 0..frame.len() * 8 {
                let mut flipped = frame.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let head_ok = matches!(seal.head(4096, &flipped), Head::Frame { .. });
                assert!(!(head_ok && opened(&seal, 4096, &flipped).is_some()), "bit {bit} passed");
            }
        }
    }

    /// The same entry written again at the same place, as after a crash, does not look the same: nobody can tell what
    /// was captured twice, and no nonce is used twice.
    #[test]
    fn an_encrypted_frame_shows_neither_kind_nor_bytes_and_never_repeats() {
        let [_, seal] = seals([7; 16]);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        seal.encode(&mut one, 0, 0, 65, &[b'A'; 64]);
        seal.encode(&mut two, 0, 0, 65, &[b'A'; 64]);
        assert_ne!(one[HEAD_BYTES..HEAD_BYTES + NONCE_BYTES], two[HEAD_BYTES..HEAD_BYTES + NONCE_BYTES]);
        assert_ne!(one[HEAD_BYTES + NONCE_BYTES..], two[HEAD_BYTES + NONCE_BYTES..]);
        assert_eq!(one[4], KIND_HIDDEN);
        assert!(!one.windows(4).any(|window| window == b"AAAA"));
    }
}
