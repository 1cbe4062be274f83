//! What a certificate says of itself, and whether a key is its own (`resources-infra.md` §5.4): a pure function of the
//! texts a client sent.
//!
//! The original took any key. Remuda compares it with the certificate, because the alternative is a balancer that does
//! not start. Keys that are encrypted are refused: there is nobody to ask for the passphrase when a balancer starts.

use std::fmt::Write as _;

use jiff::Timestamp;
use remuda_schema::Time;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

/// Most certificates of a chain.
const LONGEST_CHAIN: usize = 20;

/// Why texts are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{field}` holds no certificate: a certificate in PEM begins with `-----BEGIN CERTIFICATE-----`")]
    NoCertificate { field: &'static str },
    #[error("a certificate in `{field}` cannot be read: {cause}")]
    Unreadable { field: &'static str, cause: String },
    #[error("`{field}` has more than {LONGEST_CHAIN} certificates")]
    LongChain { field: &'static str },
    #[error("no certificate of `certChain` is that of the issuer, `{issuer}`")]
    StrangeChain { issuer: String },
    #[error(
        "the key is encrypted: take the passphrase off, for example with `openssl pkey -in key.pem -out plain.pem`"
    )]
    EncryptedKey,
    #[error(
        "`key` holds no private key: one in PEM begins with `-----BEGIN PRIVATE KEY-----`, or RSA or EC PRIVATE KEY"
    )]
    NoKey,
    #[error("the key is of no kind that can be used; RSA from 2048 bits, ECDSA (P-256, P-384) and Ed25519 can")]
    UnknownKey,
    #[error("the key does not belong to the certificate of `{subject}`")]
    OtherKey { subject: String },
}

/// What is shown of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub cn: Option<String>,
    pub issuer: String,
    pub issued_at: String,
    pub expires_at: String,
    pub expires: Time,
    pub version: String,
    pub serial_number: String,
    pub algorithm: String,
    pub fingerprint: String,
    pub key_size: Option<i64>,
    pub subject_alternative_names: Option<Vec<String>>,
}

/// Reads the first certificate of `cert`, and holds the others against it.
pub fn parse(cert: &str, chain: &str) -> Result<Parsed, Error> {
    let own = certificates(cert, "cert")?;
    let first = own.first().ok_or(Error::NoCertificate { field: "cert" })?;
    let read = read(first, "cert")?;
    let mut issuers = Vec::new();
    let given = if chain.trim().is_empty() { Vec::new() } else { certificates(chain, "certChain")? };
    if given.is_empty() && !chain.trim().is_empty() {
        return Err(Error::NoCertificate { field: "certChain" });
    }
    for (der, field) in own[1..].iter().map(|der| (der, "cert")).chain(given.iter().map(|der| (der, "certChain"))) {
        issuers.push(self::read(der, field)?.subject().as_raw().to_vec());
    }
    let is_own_issuer = read.subject().as_raw() == read.issuer().as_raw();
    if !given.is_empty() && !is_own_issuer && !issuers.iter().any(|name| name.as_slice() == read.issuer().as_raw()) {
        return Err(Error::StrangeChain { issuer: name_text(read.issuer()) });
    }
    Ok(parsed(&read, first))
}

/// Whether the key belongs to the first certificate of `cert`.
pub fn check_key(cert: &str, key: &str) -> Result<(), Error> {
    if key.contains("ENCRYPTED") {
        return Err(Error::EncryptedKey);
    }
    let own = certificates(cert, "cert")?;
    let first = own.first().ok_or(Error::NoCertificate { field: "cert" })?;
    let read = read(first, "cert")?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| Error::NoKey)?;
    let key = any_supported_type(&key).map_err(|_| Error::UnknownKey)?;
    let public = key.public_key().ok_or(Error::UnknownKey)?;
    if public.as_ref() == read.public_key().raw {
        Ok(())
    } else {
        Err(Error::OtherKey { subject: name_text(read.subject()) })
    }
}

fn certificates(pem: &str, field: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(LONGEST_CHAIN + 1).collect();
    let found = found.map_err(|error| Error::Unreadable { field, cause: error.to_string() })?;
    if found.len() > LONGEST_CHAIN { Err(Error::LongChain { field }) } else { Ok(found) }
}

fn read<'a>(der: &'a CertificateDer<'static>, field: &'static str) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok((_, read)) => Ok(read),
        Err(error) => Err(Error::Unreadable { field, cause: error.to_string() }),
    }
}

fn parsed(read: &X509Certificate<'_>, der: &CertificateDer<'_>) -> Parsed {
    let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, der.as_ref());
    let hex: Vec<String> = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let ends = read.validity().not_after.timestamp();
    Parsed {
        cn: read.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned),
        issuer: name_text(read.issuer()),
        issued_at: date(read.validity().not_before.timestamp()),
        expires_at: date(ends),
        expires: Time(ends.saturating_mul(1000)),
        version: (u64::from(read.version().0) + 1).to_string(),
        serial_number: read.serial.to_string(),
        algorithm: algorithm(read.signature_algorithm.oid()),
        fingerprint: hex.join(":"),
        key_size: match read.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => i64::try_from(key.key_size()).ok(),
            _ => None,
        },
        subject_alternative_names: alternatives(read),
    }
}

/// `Mon Apr 04 12:00:00 UTC 2016`
fn date(seconds: i64) -> String {
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

/// As Java names them, in its capitals.
fn algorithm(oid: &Oid<'_>) -> String {
    let known = match oid.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => "MD5WITHRSA",
        "1.2.840.113549.1.1.5" => "SHA1WITHRSA",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "SHA256WITHRSA",
        "1.2.840.113549.1.1.12" => "SHA384WITHRSA",
        "1.2.840.113549.1.1.13" => "SHA512WITHRSA",
        "1.2.840.10045.4.1" => "SHA1WITHECDSA",
        "1.2.840.10045.4.3.2" => "SHA256WITHECDSA",
        "1.2.840.10045.4.3.3" => "SHA384WITHECDSA",
        "1.2.840.10045.4.3.4" => "SHA512WITHECDSA",
        "1.3.101.112" => "ED25519",
        "1.3.101.113" => "ED448",
        other => return other.to_owned(),
    };
    known.to_owned()
}

/// RFC 2253: the last part first, values with their special characters escaped.
fn name_text(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        for (n, attribute) in part.iter().enumerate() {
            if n > 0 {
                text.push('+');
            }
            let short = oid2abbrev(attribute.attr_type(), oid_registry()).ok();
            let is_named = |name: &&str| ["CN", "L", "ST", "O", "OU", "C", "STREET", "DC", "UID"].contains(name);
            match (short.filter(is_named), attribute.as_str()) {
                (Some(short), Ok(value)) => {
                    let _ = write!(text, "{short}={}", escaped(value));
                }
                _ => {
                    let _ = write!(text, "{}=#", attribute.attr_type());
                    let value = attribute.attr_value();
                    let header = [u8::try_from(value.header.tag().0).unwrap_or(0)];
                    let length = u8::try_from(value.data.len()).ok().filter(|length| *length < 128);
                    // Longer values are told without their head; nobody reads them as more than text.
                    let head = length.map(|length| [header[0], length]);
                    for byte in head.iter().flatten().chain(value.data) {
                        let _ = write!(text, "{byte:02x}");
                    }
                }
            }
        }
    }
    text
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (n, ch) in value.chars().enumerate() {
        let is_edge = (n == 0 && (ch == '#' || ch == ' ')) || (n == last && ch == ' ');
        if is_edge || matches!(ch, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(ch);
    }
    out
}

/// Values of the names in their order; `None` without the extension.
fn alternatives(read: &X509Certificate<'_>) -> Option<Vec<String>> {
    let found = read.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(names),
        _ => None,
    })?;
    Some(found.general_names.iter().map(alternative).collect())
}

fn alternative(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => (*text).to_owned(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(four), _) => std::net::Ipv4Addr::from(four).to_string(),
            (_, Ok(sixteen)) => std::net::Ipv6Addr::from(sixteen).to_string(),
            _ => String::new(),
        },
        GeneralName::DirectoryName(name) => name_text(name),
        GeneralName::RegisteredID(oid) => oid.to_id_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
