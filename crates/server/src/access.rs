//! Access tokens for streams (`api-conventions.md` §15): an API call says what may be opened, signs that, and the
//! client brings it back on the socket. Opaque to clients, bound to one purpose, valid for a short time; nothing is
//! stored, so any server of the database honours a token of another.
//!
//! Form: base64url(JSON of [`Ticket`]) `.` base64url(HMAC-SHA256). The key is random per database.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::hmac;
use serde::{Deserialize, Serialize};

/// Lifetime of exec, logs, console, socket and stats tokens, milliseconds.
pub const STREAM_TOKEN_MS: i64 = 300_000;
/// Lifetime of container proxy tokens, milliseconds.
pub const PROXY_TOKEN_MS: i64 = 57_600_000;

/// What a token allows. Externally tagged: an inner tag would turn the maps' number keys into text that does not read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Claim {
    Exec {
        host_id: i64,
        container: String,
        command: Vec<String>,
        stdin: bool,
        stdout: bool,
        tty: bool,
        /// Beyond the old input: `user`, `workingDir`, `env` for our own client.
        user: Option<String>,
        working_dir: Option<String>,
        env: Vec<String>,
    },
    Logs {
        host_id: i64,
        container: String,
        follow: bool,
        lines: Option<i64>,
        since: Option<i64>,
        until: Option<i64>,
    },
    Console {
        host_id: i64,
        container: String,
    },
    DockerSocket {
        host_id: i64,
    },
    Proxy {
        host_id: i64,
        /// `ip:port` as seen from the host.
        address: String,
        scheme: String,
    },
    /// Stats of some or all containers of several hosts; host row id to (Docker id to public id), empty for all.
    ContainerStats {
        hosts: BTreeMap<i64, BTreeMap<String, String>>,
    },
    /// Host stats; host row id to public id.
    HostStats {
        hosts: BTreeMap<i64, String>,
    },
}

#[derive(Serialize, Deserialize)]
struct Ticket {
    claim: Claim,
    expires_ms: i64,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    key: hmac::Key,
}

/// A token that opens nothing. One answer for every cause, so that nobody learns which.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("token is not valid, or no longer")]
pub struct Invalid;

impl Tokens {
    /// `key` is at least 32 random bytes, the same on every server of a database.
    pub fn new(key: &[u8]) -> Tokens {
        Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A token for the claim, good until `expires_ms` (milliseconds since the epoch).
    pub fn sign(&self, claim: Claim, expires_ms: i64) -> Result<String, serde_json::Error> {
        let body = base64url(&serde_json::to_vec(&Ticket { claim, expires_ms })?);
        let tag = hmac::sign(&self.key, body.as_bytes());
        Ok(format!("{body}.{}", base64url(tag.as_ref())))
    }

    /// What the token allows now.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Claim, Invalid> {
        let (body, tag) = token.split_once('.').ok_or(Invalid)?;
        let tag = from_base64url(tag).ok_or(Invalid)?;
        hmac::verify(&self.key, body.as_bytes(), &tag).map_err(|_| Invalid)?;
        let ticket: Ticket = serde_json::from_slice(&from_base64url(body).ok_or(Invalid)?).map_err(|_| Invalid)?;
        if ticket.expires_ms < now_ms { Err(Invalid) } else { Ok(ticket.claim) }
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_it_was_signed_for_until_it_expires() {
        let tokens = Tokens::new(&[7; 32]);
        let claim = Claim::DockerSocket { host_id: 3 };
        let token = tokens.sign(claim.clone(), 1000).expect("signs");
        assert_eq!(tokens.verify(&token, 1000), Ok(claim));
        assert_eq!(tokens.verify(&token, 1001), Err(Invalid));
        assert_eq!(Tokens::new(&[8; 32]).verify(&token, 0), Err(Invalid));
        let (body, tag) = token.split_once('.').expect("two parts");
        for bad in [String::new(), ".".into(), format!("{body}A.{tag}"), format!("{body}."), format!("{body}.é")] {
            assert_eq!(tokens.verify(&bad, 0), Err(Invalid), "{bad}");
        }
    }
}
