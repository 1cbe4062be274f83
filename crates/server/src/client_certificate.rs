//! Client certificates of API keys (`access-control.md` §4): what `docker --tlscert` and its like present to whatever
//! was told to trust our authority.
//!
//! The authority is derived from the server's key file, so that every server with that file has the same one and none
//! stores it; its certificate is the same bytes each time. Each download is a new key, which stays with who asked.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd,
};
use remuda_schema::Time;
use remuda_store::Seal;

/// Of the authority's key, among what is derived from the key file.
const PURPOSE: &str = "authority of client certificates";
/// PKCS #8 around the 32 bytes of an Ed25519 key (RFC 8410, section 7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const YEARS: i32 = 10;

/// The three files, as PEM.
pub struct Files {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

/// A certificate whose common name is the access key, from the beginning of this year.
pub fn issue(seal: &Seal, access_key: &str, now: Time) -> Result<Files, Error> {
    let seed = seal.derived(PURPOSE);
    let pkcs8 = [PKCS8.as_slice(), &seed].concat();
    let authority_key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.as_slice().into(), &PKCS_ED25519)?;
    let mut authority = named("Remuda client certificates", (1970, 9999));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];

    let year = now.iso().get(..4).and_then(|year| year.parse().ok()).unwrap_or(1970);
    let mut certificate = named(access_key, (year, year + YEARS));
    certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    certificate.use_authority_key_identifier_extension = true;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let certificate = certificate.signed_by(&key, &Issuer::new(authority, authority_key))?.pem();
    Ok(Files { authority: authority_pem, certificate, key: key.serialize_pem() })
}

fn named(name: &str, (from, to): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use remuda_runtime::Random;
    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    /// 24 November 2026.
    const NOW: Time = Time(1_795_523_484_662);

    /// Whether somebody who trusts this authority takes the certificate, so many years from now.
    fn is_taken(authority: &Files, shown: &Files, years: u64) -> bool {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("is PEM");
        let mut roots = RootCertStore::empty();
        roots.add(der(&authority.authority)).expect("is an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("builds");
        let seconds = u64::try_from(NOW.0 / 1000).expect("after 1970") + years * 365 * 86_400;
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        verifier.verify_client_cert(&der(&shown.certificate), &[], then).is_ok()
    }

    #[test]
    fn the_authority_is_the_key_files_and_each_certificate_new() {
        let (one, other) = (Seal::transient(&Random::seeded(1)), Seal::transient(&Random::seeded(2)));
        let issue = |seal: &Seal| issue(seal, "AB12", NOW).expect("is issued");
        let (first, second, third) = (issue(&one), issue(&one), issue(&other));
        assert_eq!(first.authority, second.authority);
        assert_ne!(first.authority, third.authority);
        assert_ne!(first.key, second.key);
        assert!(is_taken(&first, &second, 0) && is_taken(&first, &second, 9));
        assert!(!is_taken(&first, &second, 10), "it ends");
        assert!(!is_taken(&third, &first, 0), "of another server");
    }
}
