//! The one-time code that lets a till in: typed, scanned or read over the telephone.
//!
//! It carries where the company's hubs are, the fingerprint of the company's CA (so that the till knows its hub before it
//! says anything) and a 16-byte secret (so that the hub knows the till was invited). Layout, before base32:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 for one address, 2 for more |
//! | 16 | first half of the BLAKE3 of the CA certificate's DER |
//! | 16 | secret |
//! | 1 | only in version 2: how many addresses, 2 or 3 |
//! | 1 | each address: its kind, 4 = IPv4, 6 = IPv6, 0 = `host:port` text |
//! | 6, 18 or 1 + n | address and port, big endian; or length and text |
//! | 4 | CRC-32 (ISO-HDLC) of all that, big endian |
//!
//! Written in Crockford's base32, groups of five. A CRC finds every error within 32 bits, so every wrong
//! character and every pair of swapped neighbours: a typing error is told apart from a code that is
//! merely unknown to the hub. The hub keeps only a hash of the secret ([`PendingJoin`]); never the code.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

use super::{HubAddress, PublicKey, hub_address::each_once};

/// With one address: what every Tillsync reads.
const VERSION: u8 = 1;
/// With more than one.
const VERSION_OF_MANY: u8 = 2;
/// Addresses that a code names at most: it has to be typed, or fit into a picture.
const HUBS_MAX: usize = 3;
/// Longest text that is looked at, separators included; a code of three 255-byte host names has 1,555.
const TEXT_LIMIT: usize = 2048;
const GROUP: usize = 5;
const SECRET_DOMAIN: &str = "tillsync 2026 join secret";

/// The first 16 bytes of the BLAKE3 of a CA certificate (DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaFingerprint(pub [u8; 16]);

impl CaFingerprint {
    /// The fingerprint of this certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(certificate).as_bytes()[..16]);
        Self(short)
    }
}

/// The secret of one invitation. Compared and kept only by its hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JoinSecret(pub [u8; 16]);

impl JoinSecret {
    /// What the hub keeps of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key(SECRET_DOMAIN, &self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(…)")
    }
}

/// Why a text is no join code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinCodeError {
    /// Nothing was typed.
    #[error("the join code is empty; ask the head office for one (`tillsync hub enroll`)")]
    Empty,
    /// More than any code has.
    #[error("the join code is longer than {TEXT_LIMIT} characters; copy the code alone")]
    TooLong,
    /// A character that no code has.
    #[error(
        "character {position} of the join code is {found:?}, which no code contains; compare it with the original"
    )]
    Character {
        /// Counted from 1, separators not counted.
        position: usize,
        /// What stands there.
        found: char,
    },
    /// The checksum says that something is mistyped, missing or too much.
    #[error(
        "the join code is mistyped or incomplete ({characters} characters read); compare it with the original"
    )]
    Mistyped {
        /// Characters read, separators not counted.
        characters: usize,
    },
    /// A code of another Tillsync.
    #[error(
        "the join code is of version {0}, this Tillsync reads up to version {VERSION_OF_MANY}; update this device"
    )]
    Version(u8),
    /// The checksum holds, the contents do not.
    #[error("the join code is intact but its hub address is not readable; make a new code at the hub")]
    Contents,
    /// Not an address.
    #[error("{0:?} is no hub address; write it as HOST:PORT, such as hub.example.com:7440")]
    Address(String),
}

/// An invitation for one till.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinCode {
    /// Where to dial, in the order of preference.
    hubs: Vec<HubAddress>,
    /// Whom to believe there.
    pub ca: CaFingerprint,
    /// What to say there.
    pub secret: JoinSecret,
}

impl JoinCode {
    /// A new invitation with a fresh secret.
    #[must_use]
    pub fn new(hub: HubAddress, ca: CaFingerprint) -> Self {
        Self::with_secret(hub, ca, JoinSecret(rand::random()))
    }

    /// An invitation with a secret that is known already.
    #[must_use]
    pub fn with_secret(hub: HubAddress, ca: CaFingerprint, secret: JoinSecret) -> Self {
        Self { hubs: vec![hub], ca, secret }
    }

    /// The same with more hubs to try, each once, as far as there is room.
    #[must_use]
    pub fn and_hubs(mut self, more: impl IntoIterator<Item = HubAddress>) -> Self {
        self.hubs = each_once(self.hubs.into_iter().chain(more));
        self.hubs.truncate(HUBS_MAX);
        self
    }

    /// The same, to be used at another address alone.
    #[must_use]
    pub fn at(self, hub: HubAddress) -> Self {
        Self { hubs: vec![hub], ..self }
    }

    /// Where to dial, in the order of preference; at least one.
    #[must_use]
    pub fn hubs(&self) -> &[HubAddress] {
        &self.hubs
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![if self.hubs.len() == 1 { VERSION } else { VERSION_OF_MANY }];
        bytes.extend(self.ca.0);
        bytes.extend(self.secret.0);
        if self.hubs.len() > 1 {
            bytes.push(u8::try_from(self.hubs.len()).expect("at most HUBS_MAX"));
        }
        for hub in &self.hubs {
            write_address(hub, &mut bytes);
        }
        bytes.extend(crc32(&bytes).to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, JoinCodeError> {
        let version = bytes[0];
        if version != VERSION && version != VERSION_OF_MANY {
            return Err(JoinCodeError::Version(version));
        }
        let fixed = |from: usize| bytes.get(from..from + 16).and_then(|b| <[u8; 16]>::try_from(b).ok());
        let (Some(ca), Some(secret), Some(rest)) = (fixed(1), fixed(17), bytes.get(33..)) else {
            return Err(JoinCodeError::Contents);
        };
        let hubs = read_addresses(version, rest).ok_or(JoinCodeError::Contents)?;
        Ok(Self { hubs, ca: CaFingerprint(ca), secret: JoinSecret(secret) })
    }
}

fn write_address(hub: &HubAddress, bytes: &mut Vec<u8>) {
    let text = hub.as_str();
    match text.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(a)) => {
            bytes.push(4);
            bytes.extend(a.ip().octets());
            bytes.extend(a.port().to_be_bytes());
        }
        Ok(SocketAddr::V6(a)) => {
            bytes.push(6);
            bytes.extend(a.ip().octets());
            bytes.extend(a.port().to_be_bytes());
        }
        Err(_) => {
            bytes.push(0);
            bytes.push(u8::try_from(text.len()).expect("HubAddress is at most 255 bytes"));
            bytes.extend(text.as_bytes());
        }
    }
}

/// All of `rest`, or nothing. One way to write each list, so that a code read back equals the code written.
fn read_addresses(version: u8, rest: &[u8]) -> Option<Vec<HubAddress>> {
    let (count, mut rest) = if version == VERSION {
        (1, rest)
    } else {
        let (count, rest) = rest.split_first()?;
        (usize::from(*count), rest)
    };
    (version == VERSION || (2..=HUBS_MAX).contains(&count)).then_some(())?;
    let mut hubs = Vec::with_capacity(count);
    for _ in 0..count {
        hubs.push(read_address(&mut rest)?);
    }
    (rest.is_empty() && each_once(hubs.clone()) == hubs).then_some(hubs)
}

fn read_address(rest: &mut &[u8]) -> Option<HubAddress> {
    let text = match take(rest, 1)?[0] {
        4 => {
            let ip = Ipv4Addr::from(<[u8; 4]>::try_from(take(rest, 4)?).ok()?);
            SocketAddr::new(IpAddr::V4(ip), read_port(rest)?).to_string()
        }
        6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(take(rest, 16)?).ok()?);
            SocketAddr::new(IpAddr::V6(ip), read_port(rest)?).to_string()
        }
        0 => {
            let length = usize::from(take(rest, 1)?[0]);
            std::str::from_utf8(take(rest, length)?).ok()?.to_owned()
        }
        _ => return None,
    };
    text.parse().ok()
}

fn read_port(rest: &mut &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(take(rest, 2)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = crockford().encode(&self.to_bytes());
        for (i, c) in text.chars().enumerate() {
            if i > 0 && i % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        if text.len() > TEXT_LIMIT {
            return Err(JoinCodeError::TooLong);
        }
        let mut symbols = String::with_capacity(text.len());
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let position = symbols.len() + 1;
            symbols.push(symbol(c).ok_or(JoinCodeError::Character { position, found: c })?);
        }
        if symbols.is_empty() {
            return Err(JoinCodeError::Empty);
        }
        let mistyped = JoinCodeError::Mistyped { characters: symbols.len() };
        let bytes = crockford().decode(symbols.as_bytes()).map_err(|_| mistyped.clone())?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(mistyped.clone())?;
        if body.is_empty() || crc32(body).to_be_bytes() != *sum {
            return Err(mistyped);
        }
        Self::from_bytes(body)
    }
}

/// The character as Crockford means it: no case, `O` is zero, `I` and `L` are one. There is no `U`.
fn symbol(c: char) -> Option<char> {
    match c.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        'U' => None,
        c if c.is_ascii_digit() || c.is_ascii_uppercase() => Some(c),
        _ => None,
    }
}

fn crockford() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    spec.encoding().expect("Crockford's alphabet is a base32")
}

/// CRC-32/ISO-HDLC, bit by bit: codes are 50 bytes and made once a till.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, b| (0..8).fold(crc ^ u32::from(*b), step))
}

/// What the hub keeps of an invitation. Storing it, durably and before the certificate goes out, is the hub's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJoin {
    /// Store of the invited till.
    pub store: String,
    /// Its name there.
    pub terminal: String,
    /// [`JoinSecret::hash`].
    pub secret_hash: [u8; 32],
    /// The code is refused from this moment on (milliseconds since 1970, the hub's clock).
    pub expires_at_ms: u64,
    /// The key that used it up.
    pub used_by: Option<PublicKey>,
}

/// What the hub makes of a secret that it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another invitation's secret, or nobody's.
    NotThisOne,
    /// Right, but too late.
    Expired,
    /// Right, but another device used it.
    UsedByAnother,
    /// Right and unused: mark it used by this key, durably, then grant.
    Grant,
    /// Right, used by the same key before: the answer was lost on the way, so give the same one again.
    GrantAgain,
}

impl PendingJoin {
    /// The hub's side of an invitation.
    #[must_use]
    pub fn new(store: &str, terminal: &str, secret: &JoinSecret, expires_at_ms: u64) -> Self {
        let (store, terminal) = (store.to_owned(), terminal.to_owned());
        Self { store, terminal, secret_hash: secret.hash(), expires_at_ms, used_by: None }
    }

    /// Judges a secret. The comparison takes the same time wherever the two differ.
    #[must_use]
    pub fn check(&self, secret: &JoinSecret, public_key: &PublicKey, now_ms: u64) -> Verdict {
        if blake3::Hash::from(self.secret_hash) != blake3::Hash::from(secret.hash()) {
            return Verdict::NotThisOne;
        }
        match &self.used_by {
            Some(key) if key != public_key => Verdict::UsedByAnother,
            _ if now_ms >= self.expires_at_ms => Verdict::Expired,
            Some(_) => Verdict::GrantAgain,
            None => Verdict::Grant,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(hub: &str, ca: [u8; 16], secret: [u8; 16]) -> JoinCode {
        JoinCode::with_secret(hub.parse().unwrap(), CaFingerprint(ca), JoinSecret(secret))
    }

    fn any_code() -> impl Strategy<Value = JoinCode> {
        let v4 = any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)).to_string());
        let v6 = any::<([u16; 8], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port)).to_string());
        let host = ("[a-z][a-z0-9.-]{0,100}", 1..u16::MAX).prop_map(|(h, p)| format!("{h}:{p}"));
        let hubs = prop::collection::vec(prop_oneof![v4, v6, host], 1..=HUBS_MAX);
        (hubs, any::<([u8; 16], [u8; 16])>()).prop_map(|(hubs, (ca, secret))| {
            let more = hubs[1..].iter().map(|hub| hub.parse().unwrap());
            code(&hubs[0], ca, secret).and_hubs(more)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_typed(code in any_code()) {
            let text = code.to_string();
            prop_assert_eq!(text.parse::<JoinCode>().unwrap(), code.clone());
            let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(sloppy.parse::<JoinCode>().unwrap(), code);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(text.parse::<JoinCode>().is_err());
            // With a right checksum, so that the decoder behind it is reached.
            let mut bytes = bytes;
            bytes.extend(crc32(&bytes).to_be_bytes());
            let _ = crockford().encode(&bytes).parse::<JoinCode>();
        }
    }

    #[test]
    fn every_wrong_character_and_every_swap_is_a_typing_error() {
        for hub in ["10.0.0.7:7440", "[2001:db8::1]:7440", "hub.shop.example:7440"] {
            let text =
                code(hub, [0xa5; 16], std::array::from_fn(|i| u8::try_from(i * 7).unwrap())).to_string();
            let symbols: Vec<char> = text.chars().filter(|c| *c != '-').collect();
            let refused = |symbols: &[char]| {
                let result = symbols.iter().collect::<String>().parse::<JoinCode>();
                assert!(matches!(result, Err(JoinCodeError::Mistyped { .. })), "{result:?}");
            };
            for i in 0..symbols.len() {
                for wrong in "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().filter(|c| *c != symbols[i]) {
                    let mut typed = symbols.clone();
                    typed[i] = wrong;
                    refused(&typed);
                }
                let mut swapped = symbols.clone();
                swapped.swap(i, (i + 1) % symbols.len());
                if swapped != symbols && i + 1 < symbols.len() {
                    refused(&swapped);
                }
                let mut missing = symbols.clone();
                missing.remove(i);
                refused(&missing);
            }
        }
    }

    #[test]
    fn errors_say_what_to_look_at() {
        let text = code("10.0.0.7:7440", [1; 16], [2; 16]).to_string();
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the published check value");
        assert_eq!("".parse::<JoinCode>(), Err(JoinCodeError::Empty));
        assert_eq!("ABC!".parse::<JoinCode>(), Err(JoinCodeError::Character { position: 4, found: '!' }));
        assert!(matches!(text[..20].parse::<JoinCode>(), Err(JoinCodeError::Mistyped { .. })));
        assert_eq!("0".repeat(TEXT_LIMIT + 1).parse::<JoinCode>(), Err(JoinCodeError::TooLong));
        let mut newer = vec![9_u8; 40];
        newer.extend(crc32(&newer).to_be_bytes());
        assert_eq!(crockford().encode(&newer).parse::<JoinCode>(), Err(JoinCodeError::Version(9)));
    }

    #[test]
    fn a_code_of_one_hub_is_what_it_always_was_and_more_hubs_make_a_code_of_another_version() {
        let one = code("10.0.0.7:7440", [1; 16], [2; 16]);
        let bytes = [&[1], [1; 16].as_slice(), &[2; 16], &[4, 10, 0, 0, 7, 0x1d, 0x10]].concat();
        let sealed = [bytes.clone(), crc32(&bytes).to_be_bytes().to_vec()].concat();
        assert_eq!(one.to_bytes(), sealed);
        let at = |text: &str| text.parse::<HubAddress>().unwrap();
        let more = [at("hub-b.example:7440"), at("10.0.0.7:7440"), at("[2001:db8::1]:7440"), at("d:1")];
        let many = one.clone().and_hubs(more.clone());
        assert_eq!(many.hubs(), [at("10.0.0.7:7440"), more[0].clone(), more[2].clone()], "each once, three");
        assert_eq!(many.to_bytes()[0], 2);
        assert_eq!(many.to_string().parse::<JoinCode>().unwrap(), many);
        assert_eq!(many.at(at("d:1")).hubs(), [at("d:1")]);
    }

    #[test]
    fn a_list_of_hubs_that_is_none_is_refused() {
        let head = [&[2], [1; 16].as_slice(), &[2; 16]].concat();
        let hub = [4, 10, 0, 0, 7, 0x1d, 0x10];
        let other = [4, 10, 0, 0, 8, 0x1d, 0x10];
        let twice = [&[2], hub.as_slice(), &hub].concat();
        let short = [&[3], hub.as_slice(), &other].concat();
        let long = [&[2], hub.as_slice(), &other, &[0]].concat();
        for list in [[&[1], hub.as_slice()].concat(), vec![0], vec![4; 200], twice, short, long] {
            let mut bytes = [head.clone(), list].concat();
            bytes.extend(crc32(&bytes).to_be_bytes());
            let read = crockford().encode(&bytes).parse::<JoinCode>();
            assert_eq!(read, Err(JoinCodeError::Contents), "{bytes:?}");
        }
    }

    #[test]
    fn an_invitation_is_good_for_one_key_until_it_expires() {
        let (right, wrong) = (JoinSecret([1; 16]), JoinSecret([2; 16]));
        let mut pending = PendingJoin::new("S1", "T1", &right, 1_000);
        assert_eq!(pending.check(&wrong, &[5; 32], 0), Verdict::NotThisOne);
        assert_eq!(pending.check(&right, &[5; 32], 999), Verdict::Grant);
        assert_eq!(pending.check(&right, &[5; 32], 1_000), Verdict::Expired);
        pending.used_by = Some([5; 32]);
        assert_eq!(pending.check(&right, &[5; 32], 999), Verdict::GrantAgain);
        assert_eq!(pending.check(&right, &[6; 32], 999), Verdict::UsedByAnother);
    }
}
