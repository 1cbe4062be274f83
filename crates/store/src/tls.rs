//! TLS to PostgreSQL, chosen by the URL with libpq's words: `sslmode` and `sslrootcert`.
//!
//! `disable`, `prefer` (the default) and `require` as in libpq: the certificate is not checked unless `sslrootcert` names
//! the authorities; `verify-ca` and `verify-full` check it (against public authorities when none are named) and the name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::OpenError;

/// A database URL, read.
pub(crate) struct Target {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
}

/// Reads a `postgres://` URL.
pub(crate) fn target(url: &str) -> Result<Target, OpenError> {
    let (base, options) = url.split_once('?').unwrap_or((url, ""));
    let mut verify = false;
    let mut roots = None;
    let mut kept = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslmode", "verify-ca" | "verify-full")) => {
                verify = true;
                kept.push("sslmode=require");
            }
            Some(("sslrootcert", path)) => roots = Some(percent_decoded(path)),
            _ => kept.push(option),
        }
    }
    let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    let unusable = |reason: String| OpenError::Url { reason };
    // The error of the parser can quote the URL, and with it the password.
    let config =
        url.parse().map_err(|_| unusable("it is not of the form `postgres://user:password@host:5432/name`".into()))?;

    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let client = if verify || roots.is_some() {
        builder.with_root_certificates(root_certificates(roots.as_deref())?).with_no_client_auth()
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth()
    };
    Ok(Target { config, tls: MakeRustlsConnect::new(client) })
}

fn root_certificates(path: Option<&str>) -> Result<RootCertStore, OpenError> {
    let mut store = RootCertStore::empty();
    let Some(path) = path else {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(store);
    };
    let unreadable = |error: &dyn std::fmt::Display| OpenError::Url {
        reason: format!("the certificates of `sslrootcert` in `{path}` cannot be read: {error}"),
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        store.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if store.is_empty() {
        return Err(unreadable(&"there is no certificate in it"));
    }
    Ok(store)
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Encrypts without knowing to whom, as libpq does for `prefer` and `require`: no worse than no TLS.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_libpq_does() {
        for (url, usable) in [
            ("postgres://u:p@db.example:5432/remuda", true),
            ("postgres://u@db/remuda?sslmode=verify-full", true),
            ("postgres://u@db/remuda?sslmode=require&application_name=x", true),
            ("postgres://u@db/remuda?sslmode=verify-full&sslrootcert=/no%20such/file", false),
            ("mysql://u@db/remuda", false),
        ] {
            assert_eq!(target(url).is_ok(), usable, "{url}");
        }
        assert_eq!(percent_decoded("/a%20b%2"), "/a b%2");
    }

    #[test]
    fn a_bad_url_does_not_show_its_password() {
        let error = target("postgres://u:secret@db:port/x").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!error.is_empty() && !error.contains("secret"), "{error}");
    }
}
