//! Addresses of the managed network (`networking-and-dns.md` §2).

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The network a project gets unless a setting says otherwise.
pub const DEFAULT_SUBNET: Subnet = Subnet { network: Ipv4Addr::new(10, 42, 0, 0), size: 16 };

/// Where resolver and metadata answer in every container of the managed network.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 250);

/// An IPv4 network in CIDR notation, large enough to hand out addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    size: u8,
}

/// What is not a network we can hand addresses out of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an IPv4 network of size 8 to 28 like `10.42.0.0/16`")]
pub struct BadSubnet(String);

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Subnet, BadSubnet> {
        let bad = || BadSubnet(text.to_owned());
        let (network, size) = text.split_once('/').ok_or_else(bad)?;
        let network: Ipv4Addr = network.parse().map_err(|_| bad())?;
        let size: u8 = size.parse().map_err(|_| bad())?;
        if !(8..=28).contains(&size) {
            return Err(bad());
        }
        let mask = u32::MAX << (32 - size);
        Ok(Subnet { network: Ipv4Addr::from(u32::from(network) & mask), size })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.size)
    }
}

impl Subnet {
    /// Number of bits that all addresses share.
    pub fn size(&self) -> u8 {
        self.size
    }

    /// The gateway every host has: the first address.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// First and last address that containers get: up to six short of the end, as in the original.
    pub fn range(&self) -> (Ipv4Addr, Ipv4Addr) {
        let start = u32::from(self.network);
        let end = start + ((1_u32 << (32 - self.size)) - 6);
        (Ipv4Addr::from(start + 2), Ipv4Addr::from(end))
    }

    /// Whether the address lies in the network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - self.size);
        u32::from(address) & mask == u32::from(self.network)
    }

    /// Whether containers can be given the address.
    pub fn can_allocate(&self, address: Ipv4Addr) -> bool {
        let (first, last) = self.range();
        (first..=last).contains(&address)
    }

    /// The requested address if it can be had, else the first free one from a place that `seed` decides; `None` when
    /// all are used.
    pub fn allocate(
        &self,
        requested: Option<Ipv4Addr>,
        seed: u64,
        is_used: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        if let Some(address) = requested.filter(|address| self.can_allocate(*address) && !is_used(*address)) {
            return Some(address);
        }
        let (first, last) = self.range();
        let (first, last) = (u64::from(u32::from(first)), u64::from(u32::from(last)));
        let size = last - first + 1;
        let start = seed % size;
        (0..size)
            .filter_map(|step| u32::try_from(first + (start + step) % size).ok())
            .map(Ipv4Addr::from)
            .find(|address| !is_used(*address))
    }
}

/// The Ethernet address that goes with an address: locally administered, and as unique as the address.
pub fn mac_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_range_is_the_specified_one() {
        assert_eq!(DEFAULT_SUBNET.to_string(), "10.42.0.0/16");
        assert_eq!(DEFAULT_SUBNET.gateway().to_string(), "10.42.0.1");
        let (first, last) = DEFAULT_SUBNET.range();
        assert_eq!((first.to_string(), last.to_string()), ("10.42.0.2".to_owned(), "10.42.255.250".to_owned()));
    }

    #[test]
    fn networks_are_read_or_refused() {
        assert_eq!("10.1.2.3/24".parse::<Subnet>().map(|subnet| subnet.to_string()), Ok("10.1.2.0/24".to_owned()));
        for text in ["", "10.42.0.0", "10.42.0.0/33", "10.42.0.0/30", "0.0.0.0/0", "x/16", "10.42.0.0/-1"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_address_is_handed_out_once() {
        let subnet: Subnet = "192.168.7.0/28".parse().expect("a network");
        let mut used = BTreeSet::new();
        while let Some(address) = subnet.allocate(None, 5 + used.len() as u64 * 7, |address| used.contains(&address)) {
            assert!(used.insert(address), "{address} twice");
        }
        assert_eq!(used.len(), 9);
    }

    #[test]
    fn a_request_is_honoured_if_it_can_be() {
        let used = Ipv4Addr::new(10, 42, 7, 7);
        for (requested, expected) in [
            (Ipv4Addr::new(10, 42, 9, 9), Ipv4Addr::new(10, 42, 9, 9)),
            (used, Ipv4Addr::new(10, 42, 0, 2)),
            (Ipv4Addr::new(10, 42, 0, 1), Ipv4Addr::new(10, 42, 0, 2)),
            (Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(10, 42, 0, 2)),
        ] {
            assert_eq!(DEFAULT_SUBNET.allocate(Some(requested), 0, |address| address == used), Some(expected));
        }
        assert_eq!(mac_address(used), "02:42:0a:2a:07:07");
    }
}
