//! IPv4 networks and the host's routes, as far as needed to see whether the project's subnet is free here.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::overlay::PROTOCOL;

/// `10.42.0.0/16`. Host bits are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IPv4 network like 10.42.0.0/16")]
pub struct NotASubnet(String);

impl Subnet {
    pub fn new(address: Ipv4Addr, prefix: u8) -> Subnet {
        let prefix = prefix.min(32);
        Subnet { base: u32::from(address) & mask(prefix), prefix }
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.base & mask(prefix) == other.base & mask(prefix)
    }

    /// The last four addresses: what the engine's own address management may give to containers of others that join
    /// the network. The server allocates below.
    pub fn far_end(self) -> Option<Subnet> {
        (self.prefix <= 28).then(|| Subnet::new(Ipv4Addr::from(self.base | !mask(self.prefix)), 30))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Subnet {
    type Err = NotASubnet;

    fn from_str(text: &str) -> Result<Subnet, NotASubnet> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            Some(Subnet::new(address.parse().ok()?, prefix.parse().ok().filter(|prefix| *prefix <= 32)?))
        });
        parsed.ok_or_else(|| NotASubnet(text.to_owned()))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// A line of the kernel's main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub interface: String,
    pub subnet: Subnet,
}

/// Reads `ip -4 route show`. Routes of ours and lines that do not read are left out.
pub fn parse(text: &str) -> Vec<Route> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| words.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1]);
    if after("proto") == Some(PROTOCOL) {
        return None;
    }
    // Some begin with their type: `blackhole 10.42.7.0/24`.
    let subnet = words.iter().take(2).find_map(|word| match *word {
        "default" => "0.0.0.0/0".parse().ok(),
        word if word.contains('/') => word.parse().ok(),
        word => Some(Subnet::new(word.parse().ok()?, 32)),
    })?;
    Some(Route { interface: after("dev").unwrap_or(words[0]).to_owned(), subnet })
}

/// Why the subnet cannot be used here: another interface already leads to a part of it. Default routes do not count.
pub fn conflict(subnet: Subnet, routes: &[Route], own: &[&str]) -> Option<String> {
    let other = |route: &&Route| !own.contains(&route.interface.as_str()) && route.subnet.prefix() > 0;
    let taken = routes.iter().filter(other).find(|route| route.subnet.overlaps(subnet))?;
    Some(format!(
        "the managed network {subnet} overlaps with the route {} over `{}` of this host; change the setting \
         `docker.network.subnet.cidr` and create a new environment, or remove the route",
        taken.subnet, taken.interface
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_and_compared() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        assert_eq!(subnet("10.42.3.4/16").to_string(), "10.42.0.0/16");
        assert_eq!(subnet("10.42.0.0/16").far_end(), Some(subnet("10.42.255.252/30")));
        assert_eq!(subnet("10.42.0.0/29").far_end(), None);
        assert!(subnet("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert!(subnet("10.42.0.0/16").contains(Ipv4Addr::new(10, 42, 255, 1)));
        for wrong in ["", "10.42.0.0", "10.42.0.0/33", "10.42.0/16", "fd00::/8", "10.42.0.0/-1"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_kernels_table_is_read() {
        let text = "default via 192.0.2.1 dev eth0\n192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2\n\
                    10.42.0.9 via 192.0.2.3 dev eth0 proto 142 src 10.42.9.1\nblackhole 10.42.7.0/24\n\
                    10.8.0.1 dev tun0 scope link\nrubbish\n\n";
        let routes: Vec<_> = parse(text).iter().map(|route| format!("{} {}", route.interface, route.subnet)).collect();
        assert_eq!(
            routes,
            ["eth0 0.0.0.0/0", "eth0 192.0.2.0/24", "blackhole 10.42.7.0/24", "tun0 10.8.0.1/32"],
            "ours is not among them"
        );
    }

    #[test]
    fn overlap_is_refused_with_the_route() {
        let cases = [
            ("eth0", "192.0.2.0/24", false),
            ("eth0", "0.0.0.0/0", false),
            ("remuda0", "10.42.0.0/16", false),
            ("remuda1", "10.42.0.9/32", false),
            ("eth0", "10.42.7.0/24", true),
            ("tun0", "10.0.0.0/8", true),
            ("tun0", "10.43.0.0/16", false),
            ("tun0", "10.42.0.9/32", true),
        ];
        for (interface, route, refused) in cases {
            let routes = [Route { interface: interface.into(), subnet: route.parse().unwrap() }];
            let reason = conflict("10.42.0.0/16".parse().unwrap(), &routes, &["remuda0", "remuda1"]);
            assert_eq!(reason.is_some(), refused, "{route} over {interface}");
            assert!(reason.is_none_or(|reason| reason.contains(route) && reason.contains(interface)));
        }
    }
}
