//! How often something may happen: a token bucket, and the gates before the join desk and the log-in made of them. Pure: time
//! is an argument. Nothing here decides whether a secret is right.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Most addresses remembered by an [`AddressGate`]; beyond it the one that erred longest ago is forgotten.
pub const GATE_ADDRESS_LIMIT: usize = 1024;
/// Wrong secrets in a row from one address, then one a [`ADDRESS_REFILL`].
const ADDRESS_BURST: u32 = 5;
const ADDRESS_REFILL: Duration = Duration::from_secs(12);
/// The same for all addresses together: a secret has 128 bits, so this is about noise, not about guessing.
const GLOBAL_BURST: u32 = 60;
const GLOBAL_REFILL: Duration = Duration::from_secs(1);

/// At most `burst` at once, and one more each `refill`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: u32,
    refill: Duration,
    /// When the bucket will be full: the debt is the distance from now.
    full_at: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, full_at: None }
    }

    /// Takes one if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let there = self.wait(now).is_zero();
        if there {
            self.spend(now);
        }
        there
    }

    /// How long until there is one.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let debt = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        (debt + self.refill).saturating_sub(self.refill * self.burst)
    }

    /// Takes one, there or not.
    pub fn spend(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.unwrap_or(now).max(now) + self.refill);
    }
}

/// Slows down each address that says wrong secrets, and no other. Right secrets cost nothing.
#[derive(Debug, Default)]
pub struct AddressGate {
    by_address: BTreeMap<IpAddr, (TokenBucket, Instant)>,
}

/// Slows down whoever says wrong secrets, and, once they come from everywhere, everybody.
#[derive(Debug)]
pub struct JoinGate {
    all: TokenBucket,
    each: AddressGate,
}

impl Default for JoinGate {
    fn default() -> Self {
        Self { all: TokenBucket::new(GLOBAL_BURST, GLOBAL_REFILL), each: AddressGate::default() }
    }
}

impl JoinGate {
    /// How long this address has to wait before its next secret is even looked at; zero: now.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        self.each.wait(address, now).max(self.all.wait(now))
    }

    /// The secret was wrong.
    pub fn wrong(&mut self, address: IpAddr, now: Instant) {
        self.all.spend(now);
        self.each.wrong(address, now);
    }
}

impl AddressGate {
    /// How long this address has to wait before its next secret is even looked at; zero: now.
    #[must_use]
    pub fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        self.by_address.get(&household(address)).map_or(Duration::ZERO, |(bucket, _)| bucket.wait(now))
    }

    /// The secret was wrong.
    pub fn wrong(&mut self, address: IpAddr, now: Instant) {
        let address = household(address);
        if !self.by_address.contains_key(&address) && self.by_address.len() >= GATE_ADDRESS_LIMIT {
            let oldest = self.by_address.iter().min_by_key(|(_, (_, last))| *last).map(|(a, _)| *a);
            oldest.map(|a| self.by_address.remove(&a));
        }
        let fresh = || (TokenBucket::new(ADDRESS_BURST, ADDRESS_REFILL), now);
        let (bucket, last) = self.by_address.entry(address).or_insert_with(fresh);
        bucket.spend(now);
        *last = now;
    }
}

/// An IPv6 household has 2^64 addresses: count its network. A mapped IPv4 address is an IPv4 address.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_secrets_then_one_each_twelve_seconds() {
        let (mut gate, now, home) = (JoinGate::default(), Instant::now(), IpAddr::from([10, 0, 0, 1]));
        for _ in 0..5 {
            assert_eq!(gate.wait(home, now), Duration::ZERO);
            gate.wrong(home, now);
        }
        assert_eq!(gate.wait(home, now), Duration::from_secs(12));
        assert_eq!(gate.wait(IpAddr::from([10, 0, 0, 2]), now), Duration::ZERO, "the neighbour may");
        assert_eq!(gate.wait(home, now + Duration::from_secs(12)), Duration::ZERO);
    }

    #[test]
    fn a_million_addresses_are_slowed_together_and_cost_no_memory() {
        let (mut gate, now) = (JoinGate::default(), Instant::now());
        for i in 0..2_000_u128 {
            gate.wrong(IpAddr::V6(Ipv6Addr::from_bits(i << 64)), now);
        }
        assert_eq!(gate.each.by_address.len(), GATE_ADDRESS_LIMIT);
        assert!(gate.wait(IpAddr::from([10, 0, 0, 2]), now) > Duration::ZERO);
        let one_network: Vec<IpAddr> = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(household(one_network[0]), household(one_network[1]));
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (mut bucket, now) = (TokenBucket::new(3, Duration::from_secs(1)), Instant::now());
        assert_eq!((0..5).filter(|_| bucket.take(now)).count(), 3);
        assert!(bucket.take(now + Duration::from_secs(1)) && !bucket.take(now + Duration::from_secs(1)));
    }
}
