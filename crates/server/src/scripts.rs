//! `/v1/scripts/…`: plain text for machines, without authentication (`resources-infra.md` §1.2). A registration token
//! gives the script that makes a host join; the rest of the line that people paste is `curl … | sudo sh`.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use remuda_schema::{ApiError, Code};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::Value;

use crate::auth;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::state::ServerState;
use crate::transform;

/// What was asked for.
pub struct Asked<'r> {
    pub name: &'r str,
    pub is_post: bool,
    pub body: &'r [u8],
    pub content_type: Option<&'r str>,
    pub origin: &'r str,
    pub client_ip: &'r str,
}

/// Installs and starts the agent. Expects the variables that the token script sets before it.
const INSTALL: &str = include_str!("install.sh");

/// Answers a script by name.
pub async fn answer(state: &ServerState, asked: &Asked<'_>) -> Result<Reply, Failure> {
    match asked.name.to_ascii_lowercase().as_str() {
        "api.crt" => return Ok(Reply::text(state.public_key.clone())),
        "bootstrap" => return Ok(Reply::text(format!("#!/bin/sh\n{INSTALL}"))),
        "transform" if asked.is_post => {
            let malformed =
                |error: serde_json::Error| ApiError::new(Code::InvalidBodyContent).because(error.to_string());
            let inspect: Value = serde_json::from_slice(asked.body).map_err(malformed)?;
            let inspect = inspect.as_object().cloned().unwrap_or_default();
            return Ok(Reply::ok(Value::Object(transform::container(&inspect)?)));
        }
        _ => {}
    }
    let not_found = || Failure::from(ApiError::new(Code::NotFound));
    if !asked.name.contains(':') {
        return Err(not_found());
    }
    let (owned, token) = (state.clone(), asked.name.to_owned());
    let account = state
        .store
        .read::<_, Failure, _>(move |read| {
            let (now_ms, period_ms) = (owned.seams.clock.now_ms(), owned.registration_period_ms());
            auth::registration_account(read, &owned.seal, &token, now_ms, period_ms)
        })
        .await?;
    if account.is_none() {
        return Err(not_found());
    }
    let settings = state.settings.current();
    let base = match settings.get("api.host").filter(|base| !base.is_empty()) {
        Some(base) if base.contains("://") => base.trim_end_matches('/').to_owned(),
        Some(base) => format!("http://{}", base.trim_end_matches('/')),
        None => asked.origin.to_owned(),
    };
    let base = base.strip_suffix("/v1").unwrap_or(&base);
    Ok(Reply::text(registration(asked.name, base, asked.client_ip)))
}

/// The four exports that clients of the original look for, then the installation.
fn registration(token: &str, base: &str, client_ip: &str) -> String {
    let client_ip: String = client_ip.chars().filter(|ch| ch.is_ascii_hexdigit() || matches!(ch, '.' | ':')).collect();
    format!(
        "#!/bin/sh\n\
         export CATTLE_REGISTRATION_ACCESS_KEY=\"registrationToken\"\n\
         export CATTLE_REGISTRATION_SECRET_KEY=\"{}\"\n\
         export CATTLE_URL=\"{}/v1\"\n\
         export DETECTED_CATTLE_AGENT_IP=\"{client_ip}\"\n{INSTALL}",
        quoted(token),
        quoted(base),
    )
}

/// Text between double quotes of a shell.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for ch in text.chars().filter(|ch| !ch.is_control()) {
        if matches!(ch, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(ch);
    }
    out
}

/// A key pair for `api.crt`: what is kept sealed, and what anybody may see.
pub fn generate_key() -> Result<Vec<u8>, Failure> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|document| document.as_ref().to_vec())
        .map_err(|_| Failure::internal("the operating system gives no randomness for a key"))
}

/// PEM of the public half.
pub fn public_key_pem(pkcs8: &[u8]) -> Result<String, Failure> {
    // SubjectPublicKeyInfo of a P-256 key: everything before the point never changes (RFC 5480).
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new())
        .map_err(|error| Failure::internal(format!("the stored key is malformed: {error}")))?;
    let encoded = BASE64_STANDARD.encode([&HEAD[..], pair.public_key().as_ref()].concat());
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registration_script_begins_with_four_exports() {
        let script = registration("A:1:b\"$(x)", "http://h:8080", "10.0.0.1; rm -rf /");
        let lines: Vec<&str> = script.lines().take(5).collect();
        assert_eq!(
            lines,
            [
                "#!/bin/sh",
                "export CATTLE_REGISTRATION_ACCESS_KEY=\"registrationToken\"",
                "export CATTLE_REGISTRATION_SECRET_KEY=\"A:1:b\\\"\\$(x)\"",
                "export CATTLE_URL=\"http://h:8080/v1\"",
                "export DETECTED_CATTLE_AGENT_IP=\"10.0.0.1f\"",
            ]
        );
    }

    #[test]
    fn the_public_key_is_pem() {
        let pem = public_key_pem(&generate_key().expect("a key")).expect("PEM");
        assert!(
            pem.starts_with("-----BEGIN PUBLIC KEY-----\nMFkw") && pem.ends_with("-----END PUBLIC KEY-----\n"),
            "{pem}"
        );
    }
}
