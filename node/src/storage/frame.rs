//! The frame: how one entry lies in a segment, and how a frame that is not what was written is recognised.
//!
//! ```text
//! 0   4  length of the whole frame, head included; 0 = nothing written from here on
//! 4   1  kind (the caller's, opaque here)
//! 5   3  back: bytes from this frame to the first frame of its commit group
//! 8   4  head check: BLAKE3 (head key) over position and bytes 0..8
//! 12 16  body check: BLAKE3 (body key) over position, bytes 0..8 and the body
//! 28  …  body (with a cipher: ciphertext and tag; `length` already covers them)
//! ```
//!
//! Both keys are derived from the log id, and the position is hashed, so a frame that was moved, swapped or copied
//! from another log fails like a flipped bit. 16 bytes are kept of the body's hash: the check is against accidents
//! (2^-128 to miss one), the batches inside are signed against people, and a till keeps these bytes for ever. The
//! head has a check of its own so that a damaged length is never followed and a search for the next frame costs one
//! small hash per place, whatever the payload imitates.
//!
//! `back` is the commit group's number in disguise: position − back is where the group began, and a later group
//! begins later. A number alone could not say whether a bad frame belongs to the group before it or to the one after
//! it; the beginning can (see recovery.rs). This file never touches a disk.

/// Bytes before the body of a frame.
pub(super) const HEAD_BYTES: usize = 28;
/// The largest body of an entry: 1 MiB and 64 KiB for what the engine wraps around it.
pub const MAX_ENTRY_BYTES: usize = (1 << 20) + (64 << 10);
/// The largest frame.
pub(super) const FRAME_BYTES_MAX: usize = HEAD_BYTES + MAX_ENTRY_BYTES;
/// `back` has three bytes; a commit group must stay below this.
pub(super) const BACK_MAX: usize = (1 << 24) - 1;

/// What the first bytes at a position say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Zero length: nothing was written here.
    End,
    /// A frame whose head is intact; its body is not checked yet.
    Frame { length: usize, kind: u8, back: u64 },
    /// Something that no writer wrote here.
    Bad,
}

/// The two keys of one log.
#[derive(Clone)]
pub(super) struct Seal {
    head_key: [u8; 32],
    body_key: [u8; 32],
}

impl Seal {
    pub(super) fn new(log_id: &[u8; 16]) -> Self {
        Seal {
            head_key: blake3::derive_key("tillsync 2026 storage frame head v1", log_id),
            body_key: blake3::derive_key("tillsync 2026 storage frame body v1", log_id),
        }
    }

    /// Appends the frame of one entry to `out`. Sizes were checked at the door.
    pub(super) fn encode(&self, out: &mut Vec<u8>, at: u64, back: usize, kind: u8, body: &[u8]) {
        assert!(body.len() <= MAX_ENTRY_BYTES && back <= BACK_MAX, "the door admits no such entry");
        let mut head = [0; 8];
        head[..4].copy_from_slice(&u32::try_from(HEAD_BYTES + body.len()).unwrap_or(0).to_le_bytes());
        head[4] = kind;
        head[5..].copy_from_slice(&back.to_le_bytes()[..3]);
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.head_check(at, &head));
        out.extend_from_slice(&self.body_check(at, &head, body));
        out.extend_from_slice(body);
    }

    /// Reads a head; `raw` holds at least `HEAD_BYTES`.
    pub(super) fn head(&self, at: u64, raw: &[u8]) -> Head {
        let mut head = [0; 8];
        head.copy_from_slice(&raw[..8]);
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length == 0 {
            return Head::End;
        }
        if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) || raw[8..12] != self.head_check(at, &head) {
            return Head::Bad;
        }
        let back = u64::from(u32::from_le_bytes([head[5], head[6], head[7], 0]));
        Head::Frame { length, kind: head[4], back }
    }

    /// Whether a whole frame (head and body) is what was written at this position.
    pub(super) fn is_intact(&self, at: u64, frame: &[u8]) -> bool {
        let mut head = [0; 8];
        head.copy_from_slice(&frame[..8]);
        frame[12..HEAD_BYTES] == self.body_check(at, &head, &frame[HEAD_BYTES..])
    }

    fn head_check(&self, at: u64, head: &[u8; 8]) -> [u8; 4] {
        let mut message = [0; 16];
        message[..8].copy_from_slice(&at.to_le_bytes());
        message[8..].copy_from_slice(head);
        let hash = blake3::keyed_hash(&self.head_key, &message);
        let [a, b, c, d, ..] = *hash.as_bytes();
        [a, b, c, d]
    }

    fn body_check(&self, at: u64, head: &[u8; 8], body: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.body_key);
        hasher.update(&at.to_le_bytes()).update(head).update(body);
        let mut check = [0; 16];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// What was written at a position reads back there, and nowhere else, and in no other log.
        #[test]
        fn a_frame_is_bound_to_its_place(at in 0..1u64 << 60, back in 0..BACK_MAX, kind: u8, body: Vec<u8>) {
            let seal = Seal::new(&[7; 16]);
            let mut frame = Vec::new();
            seal.encode(&mut frame, at, back, kind, &body);
            let length = HEAD_BYTES + body.len();
            prop_assert_eq!(seal.head(at, &frame), Head::Frame { length, kind, back: back as u64 });
            prop_assert!(seal.is_intact(at, &frame));
            prop_assert_eq!(seal.head(at + 1, &frame), Head::Bad);
            prop_assert!(!seal.is_intact(at + 1, &frame));
            prop_assert!(!Seal::new(&[8; 16]).is_intact(at, &frame));
        }

        /// No input makes the reader follow a length out of bounds.
        #[test]
        fn noise_is_not_a_frame(at: u64, raw in prop::collection::vec(1u8.., HEAD_BYTES)) {
            prop_assert_eq!(Seal::new(&[7; 16]).head(at, &raw), Head::Bad);
        }
    }

    /// Every single flipped bit of a frame is found by one of the two checks.
    #[test]
    fn every_flipped_bit_is_found() {
        let seal = Seal::new(&[7; 16]);
        let mut frame = Vec::new();
        seal.encode(&mut frame, 4096, 300, 9, b"one receipt, 3 lines, 12.40 EUR");
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let head_ok = matches!(seal.head(4096, &flipped), Head::Frame { .. });
            assert!(!(head_ok && seal.is_intact(4096, &flipped)), "bit {bit} passed");
        }
    }
}
