//! Certificates made for the test, and some that are none.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, SerialNumber, date_time_ymd};

use super::*;

struct Made {
    cert: String,
    key: KeyPair,
    params: CertificateParams,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "DE");
    params.distinguished_name.push(DnType::OrganizationName, "Ranch, Ltd");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2016, 4, 4);
    params.not_after = date_time_ymd(2030, 1, 2);
    params.serial_number = Some(SerialNumber::from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0]));
    params
}

fn own_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().expect("a key");
    Made { cert: params.self_signed(&key).expect("signed").pem(), key, params }
}

fn signed_by(params: CertificateParams, authority: Made) -> Made {
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(authority.params, authority.key);
    Made { cert: params.signed_by(&key, &issuer).expect("signed").pem(), key, params }
}

#[test]
fn everything_is_read_in_the_originals_words() {
    let mut params = params("www.a.test");
    params.subject_alt_names = vec![
        SanType::DnsName("www.a.test".try_into().expect("ASCII")),
        SanType::IpAddress("192.0.2.1".parse().expect("an address")),
        SanType::Rfc822Name("me@a.test".try_into().expect("ASCII")),
    ];
    let made = own_signed(params);
    let parsed = parse(&format!("words before\n{}", made.cert), "").expect("reads");
    let fingerprint = parsed.fingerprint.clone();
    let expected = Parsed {
        cn: Some("www.a.test".into()),
        issuer: "CN=www.a.test,O=Ranch\\, Ltd,C=DE".into(),
        issued_at: "Mon Apr 04 00:00:00 UTC 2016".into(),
        expires_at: "Wed Jan 02 00:00:00 UTC 2030".into(),
        expires: Time(1_893_542_400_000),
        version: "3".into(),
        serial_number: "18446744073709551616".into(),
        algorithm: "SHA256WITHECDSA".into(),
        fingerprint: fingerprint.clone(),
        key_size: None,
        subject_alternative_names: Some(["www.a.test", "192.0.2.1", "me@a.test"].map(str::to_owned).to_vec()),
    };
    assert_eq!(parsed, expected);
    assert!(fingerprint.len() == 59 && fingerprint.bytes().all(|byte| b"0123456789abcdef:".contains(&byte)));
    assert_eq!(parse(&own_signed(self::params("x")).cert, "").expect("reads").subject_alternative_names, None);
}

#[test]
fn a_chain_holds_the_issuer_or_is_refused() {
    let mut authority = params("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = own_signed(authority);
    let (authority_pem, stranger) = (authority.cert.clone(), own_signed(params("stranger")).cert);
    let leaf = signed_by(params("leaf"), authority);
    let whole = format!("{}{authority_pem}", leaf.cert);
    assert_eq!(parse(&leaf.cert, &authority_pem).expect("fits").issuer, "CN=authority,O=Ranch\\, Ltd,C=DE");
    assert!(parse(&whole, "").is_ok() && parse(&leaf.cert, "  ").is_ok());
    assert!(parse(&leaf.cert, &format!("{stranger}{authority_pem}")).is_ok(), "the order is the client's");
    let issuer = "CN=authority,O=Ranch\\, Ltd,C=DE".to_owned();
    assert_eq!(parse(&leaf.cert, &stranger), Err(Error::StrangeChain { issuer }));
    assert_eq!(parse(&leaf.cert, "no"), Err(Error::NoCertificate { field: "certChain" }));
    assert_eq!(parse(&leaf.cert, &authority_pem.repeat(21)), Err(Error::LongChain { field: "certChain" }));
}

#[test]
fn a_key_is_the_certificates_and_plain() {
    let (made, other) = (own_signed(params("a")), own_signed(params("b")));
    assert_eq!(check_key(&made.cert, &made.key.serialize_pem()), Ok(()));
    let subject = "CN=a,O=Ranch\\, Ltd,C=DE".to_owned();
    assert_eq!(check_key(&made.cert, &other.key.serialize_pem()), Err(Error::OtherKey { subject }));
    let encrypted = [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ];
    for key in encrypted {
        assert_eq!(check_key(&made.cert, key), Err(Error::EncryptedKey));
    }
    for key in ["", "nonsense", &made.cert] {
        assert_eq!(check_key(&made.cert, key), Err(Error::NoKey), "{key}");
    }
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(check_key(&made.cert, broken), Err(Error::UnknownKey));
}

/// Made with OpenSSL 3.0, RSA of 2048 bits, PKCS #1.
#[test]
fn rsa_keys_tell_their_size() {
    let (cert, key) = (include_str!("rsa-cert.pem"), include_str!("rsa-key.pem"));
    let parsed = parse(cert, "").expect("reads");
    assert_eq!((parsed.key_size, parsed.algorithm.as_str()), (Some(2048), "SHA256WITHRSA"));
    assert_eq!(check_key(cert, key), Ok(()));
}

#[test]
fn what_is_no_certificate_is_said_to_be_none() {
    assert_eq!(parse("nonsense", ""), Err(Error::NoCertificate { field: "cert" }));
    let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(parse(odd, ""), Err(Error::Unreadable { field: "cert", .. })));
    let odd = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(parse(odd, ""), Err(Error::Unreadable { field: "cert", .. })));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".*", cut in 0..800_usize) {
        let _ = parse(&text, &text);
        let _ = check_key(&text, &text);
        let made = include_str!("rsa-cert.pem");
        let broken = format!("{}{text}{}", &made[..cut], &made[cut..]);
        let _ = parse(&broken, &broken);
    }
}
