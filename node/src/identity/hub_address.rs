//! Where hubs listen: an address, and the list of a company's. Texts, resolved at every dial. A list is shared between who
//! learns of a change and who uses it; what of it is durable is in [`Enrolment`](super::Enrolment).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use super::JoinCodeError;

/// Hubs that a node is told of, at most.
pub const HUBS_MAX: usize = 16;

/// Where a hub listens: an address, or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubAddress(String);

impl HubAddress {
    /// As text, to be resolved at every dial.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HubAddress {
    type Err = JoinCodeError;

    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let bad = || JoinCodeError::Address(text.chars().take(80).collect());
        if let Ok(address) = text.parse::<SocketAddr>() {
            // One way to write one address, so that a code read back equals the code written.
            return Ok(Self(plain(address).to_string()));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host_fits = !host.is_empty()
            && host.len() <= 249
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let port_fits =
            !port.starts_with('+') && port.parse::<u16>().is_ok_and(|p| p != 0) && port.len() <= 5;
        if host_fits && port_fits { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Scope and flow label of an IPv6 address mean something on one machine only: they do not travel.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

/// The company's hubs as they are known now. Cheap to clone; clones share the list.
#[derive(Debug, Clone, Default)]
pub struct HubList(Arc<RwLock<Vec<HubAddress>>>);

impl HubList {
    /// A list that begins with these.
    #[must_use]
    pub fn of(addresses: impl IntoIterator<Item = HubAddress>) -> Self {
        let list = Self::default();
        list.set(addresses);
        list
    }

    /// The list as it is now, each address once.
    #[must_use]
    pub fn get(&self) -> Vec<HubAddress> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is this.
    pub fn set(&self, addresses: impl IntoIterator<Item = HubAddress>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = each_once(addresses);
    }
}

/// The addresses in their order, each where it stands first.
#[must_use]
pub fn each_once(addresses: impl IntoIterator<Item = HubAddress>) -> Vec<HubAddress> {
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shared_and_holds_each_address_once() {
        let at = |text: &str| text.parse::<HubAddress>().unwrap();
        let list = HubList::of([at("a:1"), at("b:1"), at("a:1")]);
        assert_eq!(list.get(), [at("a:1"), at("b:1")]);
        let same = list.clone();
        same.set([at("c:1")]);
        assert_eq!(list.get(), [at("c:1")]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["hub", "hub:", ":7440", "hub:0", "hub:99999", "hub:+1", "a b:1", "hub/x:1"] {
            assert!(bad.parse::<HubAddress>().is_err(), "{bad}");
        }
    }
}
