//! Certificates that load balancers show (`resources-infra.md` §5.4).

use remuda_schema::{Resource, Time};
use serde::{Deserialize, Serialize};

use crate::machines;

#[expect(non_snake_case, reason = "`CN` is its name on the wire")]
/// A certificate with its private key, for load balancers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Resource)]
#[serde(rename_all = "camelCase", default)]
#[resource(id = "certificate", machine = machines::CERTIFICATE, access(project = "crud", user = "r", admin = "r", service = "crud"))]
#[common(
    name(create, update, required, nullable, unique, filter),
    account_id(ty = "reference[account]", nullable, filter, roles(service = "cr"))
)]
#[action(create, output = "certificate")]
#[action(remove, output = "certificate")]
#[action(update, output = "certificate")]
#[extra_filters(key = "string")]
pub struct Certificate {
    /// Common name of its subject.
    #[field()]
    #[serde(rename = "CN")]
    pub CN: Option<String>,
    /// How it is signed.
    #[field()]
    pub algorithm: Option<String>,
    /// The certificate, PEM.
    #[field(create, update, required, filter, max_length = 65535, schedules_update)]
    pub cert: Option<String>,
    /// The certificates between it and the authority, PEM.
    #[field(create, update, nullable, filter, max_length = 65535, schedules_update)]
    pub cert_chain: Option<String>,
    /// SHA-1 of it.
    #[field()]
    pub cert_fingerprint: Option<String>,
    /// When it ends.
    #[field()]
    pub expires_at: Option<String>,
    /// When it begins.
    #[field()]
    pub issued_at: Option<String>,
    /// Who signed it.
    #[field()]
    pub issuer: Option<String>,
    /// The private key, PEM, not encrypted; shown to nobody.
    #[field(create, update, required, read_on_create_only, input_only, max_length = 65535)]
    #[serde(skip)]
    pub key: Option<String>,
    /// Bits of an RSA key.
    #[field()]
    pub key_size: Option<i64>,
    /// Number its issuer gave it.
    #[field()]
    pub serial_number: Option<String>,
    /// Names it is for.
    #[field()]
    pub subject_alternative_names: Option<Vec<String>>,
    /// Version of the format.
    #[field()]
    pub version: Option<String>,
    /// The private key, sealed with the key file.
    #[field(hidden, schedules_update)]
    pub sealed_key: Option<String>,
    /// When it ends, to compare.
    #[field(hidden)]
    pub expires: Option<Time>,
}
