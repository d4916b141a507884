//! XChaCha20-Poly1305, and the only file that names its crate.
//!
//! Nonces are 24 random bytes, fresh for every sealing: a tail that a crash tore is written again at the same position,
//! perhaps with other bytes, so neither position nor counter may serve as a nonce. After 2^64 sealings under one key the
//! chance that two nonces were ever equal is about 2^-64; no counter has to survive a crash for that.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use std::fmt;

/// Random bytes before a ciphertext.
pub(crate) const NONCE_BYTES: usize = 24;
/// Bytes of the authentication tag.
pub(crate) const TAG_BYTES: usize = 16;

/// One key, ready for use; the crate wipes it when it is dropped.
pub(crate) struct Cipher(XChaCha20Poly1305);

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Cipher {
        Cipher(XChaCha20Poly1305::new(&Key::from(*key)))
    }

    /// Encrypts `bytes` where they are; `about` is bound to them without being kept. Returns nonce and tag.
    pub(crate) fn seal_in_place(
        &self,
        about: &[u8],
        bytes: &mut [u8],
    ) -> ([u8; NONCE_BYTES], [u8; TAG_BYTES]) {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let tag = self.0.encrypt_inout_detached(&XNonce::from(nonce), about, bytes.into());
        // The cipher refuses only what is longer than 256 GiB.
        let tag = tag.expect("entries and files are bounded");
        (nonce, tag.into())
    }

    /// Decrypts `bytes` where they are; `false`, with unusable bytes, if they or `about` are not what was sealed.
    #[must_use]
    pub(crate) fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        about: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        self.0.decrypt_inout_detached(&nonce, about, bytes.into(), &tag).is_ok()
    }

    /// `nonce ‖ ciphertext ‖ tag`.
    pub(crate) fn seal(&self, about: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; NONCE_BYTES];
        sealed.extend_from_slice(plain);
        let (nonce, tag) = self.seal_in_place(about, &mut sealed[NONCE_BYTES..]);
        sealed[..NONCE_BYTES].copy_from_slice(&nonce);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// What `seal` was given, or `None` if this is not what it gave for `about`.
    pub(crate) fn open(&self, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (bytes, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut plain = bytes.to_vec();
        self.open_in_place(nonce, about, &mut plain, tag).then_some(plain)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of draft-irtf-cfrg-xchacha-03, A.3.1: what is on the disk is the published cipher.
    #[test]
    fn it_is_the_published_cipher() {
        let key: Vec<u8> = (0x80..0xa0).collect();
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let about = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let cipher = Cipher::new(key.as_slice().try_into().unwrap());
        let nonce = XNonce::try_from(nonce.as_slice()).unwrap();
        let mut bytes = plain.to_vec();
        let tag = cipher.0.encrypt_inout_detached(&nonce, &about, bytes.as_mut_slice().into()).unwrap();
        assert_eq!(bytes[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        assert_eq!(tag[..4], [0xc0, 0x87, 0x59, 0x24]);
        assert!(cipher.open_in_place(&nonce.into(), &about, &mut bytes, &tag.into()));
        assert_eq!(bytes, plain);
    }

    #[test]
    fn only_the_same_key_about_the_same_opens() {
        let cipher = Cipher::new(&[1; 32]);
        let sealed = cipher.seal(b"here", b"one receipt");
        assert_eq!(cipher.open(b"here", &sealed).as_deref(), Some(&b"one receipt"[..]));
        assert_ne!(cipher.seal(b"here", b"one receipt"), sealed, "every sealing has its own nonce");
        assert_eq!(cipher.open(b"there", &sealed), None);
        assert_eq!(Cipher::new(&[2; 32]).open(b"here", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(cipher.open(b"here", &sealed[..cut]), None, "cut to {cut}");
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(cipher.open(b"here", &flipped), None, "bit {bit}");
        }
    }
}
