//! Where an external service is, by request: addresses or a name, not both (`services.md` §4.1 row 10).

use std::net::IpAddr;

use remuda_model::Service;
use remuda_schema::{ApiError, Code};

/// Most addresses of one service: an answer of DNS holds no more of them.
const MAX_ADDRESSES: usize = 256;

/// What is said of the place makes sense. Names of the managed network are IPv4, so an IPv6 address is only used by
/// balancers.
pub fn check(row: &Service) -> Result<(), ApiError> {
    let addresses = row.external_ip_addresses.as_deref().unwrap_or_default();
    let hostname = row.hostname.as_deref().filter(|name| !name.is_empty());
    if !addresses.is_empty() && hostname.is_some() {
        let text = "externalIpAddresses and hostname are mutually exclusive";
        return Err(ApiError::field(Code::InvalidOption, text).detailed(text));
    }
    if addresses.len() > MAX_ADDRESSES {
        return Err(ApiError::field(Code::MaxLimitExceeded, "externalIpAddresses")
            .because(format!("an external service has at most {MAX_ADDRESSES} addresses, not {}", addresses.len())));
    }
    if let Some(wrong) = addresses.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        return Err(ApiError::field(Code::InvalidFormat, "externalIpAddresses")
            .because(format!("`{}` is no IP address; a name belongs in `hostname`", shown(wrong))));
    }
    match hostname {
        Some(name) => check_hostname(name),
        None => Ok(()),
    }
}

fn check_hostname(name: &str) -> Result<(), ApiError> {
    let wrong = |code, why: &str| {
        let text = format!("`{}` {why}", shown(name));
        Err(ApiError::field(code, "hostname").because(text))
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if bare.parse::<IpAddr>().is_ok() {
        return wrong(Code::InvalidFormat, "is an address, which belongs in `externalIpAddresses`");
    }
    if bare.len() > 253 || bare.split('.').any(|label| label.len() > 63) {
        return wrong(Code::MaxLengthExceeded, "is longer than names in DNS are");
    }
    if !bare.split('.').all(is_plain) {
        return wrong(Code::InvalidCharacters, "is no name that DNS can look up");
    }
    Ok(())
}

/// The start of what somebody sent, for a message.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_addresses_or_a_name() {
        let many: Vec<&str> = vec!["192.0.2.1"; MAX_ADDRESSES + 1];
        let long = format!("{}.example", "a".repeat(64));
        let cases: [(&[&str], &str, &str); 12] = [
            (&[], "", "ok"),
            (&["192.0.2.1", "2001:db8::1"], "", "ok"),
            (&[], "api.example.com", "ok"),
            (&[], "_sip.api-1.example.com.", "ok"),
            (&["192.0.2.1"], "a", "InvalidOption externalIpAddresses and hostname are mutually exclusive"),
            (&["api.example.com"], "", "InvalidFormat externalIpAddresses"),
            (&["192.0.2.1/24"], "", "InvalidFormat externalIpAddresses"),
            (&many, "", "MaxLimitExceeded externalIpAddresses"),
            (&[], "192.0.2.1", "InvalidFormat hostname"),
            (&[], "a..b", "InvalidCharacters hostname"),
            (&[], "a b", "InvalidCharacters hostname"),
            (&[], &long, "MaxLengthExceeded hostname"),
        ];
        for (addresses, hostname, expected) in cases {
            let row = Service {
                external_ip_addresses: Some(addresses.iter().map(|text| (*text).to_owned()).collect()),
                hostname: Some(hostname.to_owned()),
                ..Service::default()
            };
            let told = check(&row).map_or_else(
                |error| format!("{} {}", error.code.table().0, error.field.unwrap_or_default()),
                |()| "ok".to_owned(),
            );
            assert_eq!(told, expected, "{addresses:?} {hostname}");
        }
    }
}
