//! API keys and registration tokens (`access-control.md` §4, §9). An API key's secret is hashed and shown once; a
//! registration token's is sealed, because the token is made from it again at every reading.

use remuda_model::Credential;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Time};
use remuda_store::{Query as Select, Read, Scope, Tx};
use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::Failure;
use remuda_store::secret;

use crate::state::ServerState;
use crate::{client_certificate, registration_token, zip};

/// Makes the values of a key. The secret is returned, to be shown in the answer and nowhere else.
pub fn create(tx: &Tx<'_>, call: &Call, fields: &mut Object) -> Result<Object, Failure> {
    let random = &call.server.seams.random;
    let given = |fields: &mut Object, name: &str| match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let public_value = given(fields, "publicValue").unwrap_or_else(|| secret::public_value(random));
    let secret_value = given(fields, "secretValue").unwrap_or_else(|| secret::secret_value(random));
    let escaped = public_value.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    // Without wildcards LIKE compares ignoring case, which is how public values must differ.
    let query = Select::new().filter("publicValue", remuda_store::Op::Like, escaped).eq("kind", "apiKey");
    if tx.count::<Credential>(&Scope::Everything, &query)? > 0 {
        return Err(ApiError::field(Code::NotUnique, "publicValue").into());
    }
    fields.insert("publicValue".into(), public_value.into());
    fields.insert("secretHash".into(), secret::hash(random, &secret_value).into());
    let mut shown = Object::new();
    shown.insert("secretValue".into(), secret_value.into());
    Ok(shown)
}

/// The file behind an API key's link `certificate`: a client certificate in one archive.
pub fn certificate(_: &Read<'_>, call: &Call, row: &AnyRow) -> Result<Vec<u8>, Failure> {
    let access_key = row.get("publicValue").as_str().unwrap_or_default().to_owned();
    let issued = client_certificate::issue(&call.server.seal, &access_key, call.now);
    let files = issued.map_err(|error| Failure::internal(format!("cannot make the certificate of a key: {error}")))?;
    Ok(zip::archive(&[
        ("ca.pem", files.authority.as_bytes()),
        ("cert.pem", files.certificate.as_bytes()),
        ("key.pem", files.key.as_bytes()),
    ]))
}

/// Makes the values of a registration token.
pub fn registration_create(call: &Call, fields: &mut Object) {
    let (public_value, sealed) = registration_values(&call.server);
    fields.insert("publicValue".into(), public_value.into());
    fields.insert("sealedSecret".into(), sealed.into());
}

/// A fresh public value and sealed secret.
pub fn registration_values(state: &ServerState) -> (String, String) {
    let random = &state.seams.random;
    let sealed = state.seal.seal(secret::secret_value(random).as_bytes());
    (secret::public_value(random), sealed)
}

/// The token of this hour, while the credential is active.
fn token(call: &Call, row: &AnyRow) -> Result<Option<String>, Failure> {
    if row.meta.state != "active" {
        return Ok(None);
    }
    let (public_value, sealed) = (row.get("publicValue"), row.get("sealedSecret"));
    match (public_value.as_str(), sealed.as_str()) {
        (Some(public_value), Some(sealed)) => {
            let secret = call.server.seal.open(sealed)?;
            Ok(Some(registration_token::spell(public_value, &secret, call.now.0)))
        }
        _ => Ok(None),
    }
}

/// Base URL that hosts use: setting `api.host`, else the request's.
pub fn host_api_base(call: &Call) -> String {
    match call.settings.get("api.host") {
        Some(base) if !base.is_empty() => {
            let base = base.trim_end_matches('/');
            let base = base.strip_suffix("/v1").unwrap_or(base);
            if base.contains("://") { base.to_owned() } else { format!("http://{base}") }
        }
        _ => call.urls.origin.clone(),
    }
}

/// URL of the registration script; keeps the token's case.
pub fn registration_url(call: &Call, row: &AnyRow) -> Result<Option<String>, Failure> {
    Ok(token(call, row)?.map(|token| format!("{}/v1/scripts/{token}", host_api_base(call))))
}

/// Sets what a registration token shows.
pub fn registration_decorate(call: &Call, row: &mut AnyRow) -> Result<(), Failure> {
    let setting = |name: &str| call.server.settings.value(&call.settings, name);
    let (Some(token), Some(url)) = (token(call, row)?, registration_url(call, row)?) else { return Ok(()) };
    let command = setting("docker.register.command").unwrap_or_default().replace("%URL%", &url);
    for (name, value) in [
        ("token", json!(token)),
        ("registrationUrl", json!(url)),
        ("command", json!(command)),
        ("image", json!(setting("bootstrap.required.image"))),
    ] {
        row.data.insert(name.into(), value);
    }
    Ok(())
}

/// A registration token that is active at once, for accounts the server makes.
pub fn registration_row(
    public_value: String,
    sealed: String,
    account_id: i64,
    now: Time,
) -> remuda_schema::Row<remuda_model::RegistrationToken> {
    let data = remuda_model::RegistrationToken {
        public_value: Some(public_value),
        sealed_secret: Some(sealed),
        ..Default::default()
    };
    let mut row = remuda_schema::Row::new(Some(account_id), "active", data);
    row.meta.created = now;
    row
}
