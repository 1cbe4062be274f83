//! Port specifications: `[ip:][public:]private[/protocol]` (`resources.md` §6.4, `services.md` §4.2).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use remuda_schema::{ApiError, Code};

/// One entry of `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpec {
    /// Host address to publish on; all addresses when absent.
    pub bind: Option<IpAddr>,
    /// Port of the host; absent means exposed only.
    pub public: Option<u16>,
    /// Port of the container.
    pub private: u16,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// The protocol of exactly that lower-case name.
    pub fn parse(name: &str) -> Option<Protocol> {
        match name {
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rewritten form of the specification: the protocol is always said.
impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bind, self.public) {
            (Some(IpAddr::V6(bind)), _) => write!(f, "[{bind}]:")?,
            (Some(bind), _) => write!(f, "{bind}:")?,
            (None, _) => {}
        }
        match (self.bind, self.public) {
            (_, Some(public)) => write!(f, "{public}:")?,
            (Some(_), None) => f.write_str(":")?,
            (None, None) => {}
        }
        write!(f, "{}/{}", self.private, self.protocol)
    }
}

impl PortSpec {
    /// Reads one entry. The errors name no field, as the specification says.
    pub fn parse(text: &str) -> Result<PortSpec, ApiError> {
        let refuse = |code: Code, why: &str| ApiError::new(code).because(format!("port `{text}`: {why}"));
        let malformed = || refuse(Code::PortWrongFormat, "write it as `[ip:][public:]private[/protocol]`");
        let (numbers, protocol) = match text.split_once('/') {
            Some((numbers, protocol)) => (numbers, Some(protocol)),
            None => (text, None),
        };
        let (bind, rest) = if let Some(rest) = numbers.strip_prefix('[') {
            let (bind, rest) = rest.split_once("]:").ok_or_else(malformed)?;
            (Some(bind), rest)
        } else if numbers.matches(':').count() >= 2 {
            let (bind, rest) = numbers.split_once(':').ok_or_else(malformed)?;
            (Some(bind), rest)
        } else {
            (None, numbers)
        };
        let bind = match bind {
            Some(bind) => Some(bind.parse::<IpAddr>().map_err(|_| malformed())?),
            None => None,
        };
        let (public, private) = match (rest.split_once(':'), bind) {
            (Some(("", private)), Some(_)) => (None, private),
            (Some((public, private)), _) => (Some(public), private),
            (None, None) => (None, rest),
            (None, Some(_)) => return Err(malformed()),
        };
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(private) || !public.is_none_or(is_number) || protocol.is_some_and(str::is_empty) {
            return Err(malformed());
        }
        let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0);
        let protocol = match protocol {
            Some(name) => Protocol::parse(name)
                .ok_or_else(|| refuse(Code::PortInvalidProtocol, "the protocol is `tcp` or `udp`"))?,
            None => Protocol::Tcp,
        };
        let private = port(private)
            .ok_or_else(|| refuse(Code::PortInvalidPrivatePort, "the container's port is between 1 and 65535"))?;
        let public = match public {
            Some(digits) => Some(
                port(digits)
                    .ok_or_else(|| refuse(Code::PortInvalidPublicPort, "the host's port is between 1 and 65535"))?,
            ),
            None => None,
        };
        Ok(PortSpec { bind, public, private, protocol })
    }

    /// Reads all entries of a list.
    pub fn parse_all<S: AsRef<str>>(entries: &[S]) -> Result<Vec<PortSpec>, ApiError> {
        entries.iter().map(|entry| PortSpec::parse(entry.as_ref())).collect()
    }
}

/// How a service's ports are rewritten at creation: entries with a public port first, then the others with one from
/// `free` each. When `free` is too short they all stay without.
pub fn publish(specs: &[PortSpec], free: &[u16]) -> Vec<PortSpec> {
    let (mut published, mut open): (Vec<PortSpec>, Vec<PortSpec>) =
        specs.iter().copied().partition(|spec| spec.public.is_some());
    if free.len() >= open.len() {
        for (spec, port) in open.iter_mut().zip(free) {
            spec.public = Some(*port);
        }
    }
    published.append(&mut open);
    published
}

/// `n` unused ports of the range, found from a place that `seed` decides. Fewer when the range has fewer.
pub fn free_ports(range: RangeInclusive<u16>, used: &BTreeSet<u16>, seed: u64, n: usize) -> Vec<u16> {
    let size = u64::from(range.end().saturating_sub(*range.start())) + 1;
    if range.is_empty() {
        return Vec::new();
    }
    (0..size)
        .filter_map(|step| u16::try_from(u64::from(*range.start()) + (seed % size + step) % size).ok())
        .filter(|port| !used.contains(port))
        .take(n)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_read_and_rewritten() {
        for (text, rewritten) in [
            ("80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("53:53/udp", "53:53/udp"),
            ("127.0.0.1:89:8999", "127.0.0.1:89:8999/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[fe80::1]:8080:80", "[fe80::1]:8080:80/tcp"),
        ] {
            assert_eq!(PortSpec::parse(text).map(|spec| spec.to_string()), Ok(rewritten.to_owned()), "{text}");
        }
    }

    #[test]
    fn mistakes_have_their_codes() {
        for (text, code) in [
            ("", Code::PortWrongFormat),
            (":80", Code::PortWrongFormat),
            ("80:", Code::PortWrongFormat),
            ("a:80", Code::PortWrongFormat),
            ("127.0.0.1:80", Code::PortWrongFormat),
            ("1.2.3:80:80", Code::PortWrongFormat),
            ("80-90:80-90", Code::PortWrongFormat),
            ("80/", Code::PortWrongFormat),
            ("80/TCP", Code::PortInvalidProtocol),
            ("80/sctp", Code::PortInvalidProtocol),
            ("0", Code::PortInvalidPrivatePort),
            ("80:65536", Code::PortInvalidPrivatePort),
            ("0:80", Code::PortInvalidPublicPort),
            ("99999999999999999999:80", Code::PortInvalidPublicPort),
        ] {
            let error = PortSpec::parse(text).expect_err(text);
            assert_eq!((error.code, error.field), (code, None), "{text}");
        }
    }

    #[test]
    fn published_entries_come_first_and_all_or_none_get_ports() {
        let specs = PortSpec::parse_all(&["80", "8080:81", "82/udp"]).expect("well-formed");
        let text = |free: &[u16]| publish(&specs, free).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&[50_000, 50_001]), ["8080:81/tcp", "50000:80/tcp", "50001:82/udp"]);
        assert_eq!(text(&[50_000]), ["8080:81/tcp", "80/tcp", "82/udp"]);
    }

    #[test]
    fn free_ports_wrap_around_and_run_out() {
        let used = BTreeSet::from([11]);
        assert_eq!(free_ports(10..=12, &used, 2, 5), [12, 10]);
        assert_eq!(free_ports(1..=65535, &BTreeSet::new(), u64::MAX, 1).len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            if let Ok(spec) = PortSpec::parse(&text) {
                prop_assert_eq!(PortSpec::parse(&spec.to_string()), Ok(spec));
            }
        }
    }
}
