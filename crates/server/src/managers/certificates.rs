//! Certificates (`resources-infra.md` §5.4): read when they come, the key sealed before anything is stored.

use remuda_model::Certificate;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Row, TypeDef};
use remuda_store::{Query as Select, Scope, Tx};
use serde_json::{Value, json};

use crate::call::Call;
use crate::certificate::{self, Parsed};
use crate::failure::Failure;

fn refused(error: &certificate::Error) -> Failure {
    ApiError::new(Code::InvalidFormat).because(error.to_string()).detailed(error.to_string()).into()
}

/// The values that are read out of a certificate.
fn show(fields: &mut Object, parsed: Parsed) {
    for (name, value) in [
        ("CN", json!(parsed.cn)),
        ("issuer", json!(parsed.issuer)),
        ("issuedAt", json!(parsed.issued_at)),
        ("expiresAt", json!(parsed.expires_at)),
        ("expires", json!(parsed.expires.0)),
        ("version", json!(parsed.version)),
        ("serialNumber", json!(parsed.serial_number)),
        ("algorithm", json!(parsed.algorithm)),
        ("certFingerprint", json!(parsed.fingerprint)),
        ("keySize", json!(parsed.key_size)),
        ("subjectAlternativeNames", json!(parsed.subject_alternative_names)),
    ] {
        fields.insert(name.to_owned(), value);
    }
}

fn text<'a>(fields: &'a Object, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The key is nobody's but the seal's from here on.
fn seal(call: &Call, fields: &mut Object) {
    if let Some(Value::String(key)) = fields.remove("key") {
        fields.insert("sealedKey".to_owned(), call.server.seal.seal(key.as_bytes()).into());
    }
}

/// Before a certificate is made.
pub fn create(call: &Call, fields: &mut Object) -> Result<(), Failure> {
    let parsed =
        certificate::parse(text(fields, "cert"), text(fields, "certChain")).map_err(|error| refused(&error))?;
    certificate::check_key(text(fields, "cert"), text(fields, "key")).map_err(|error| refused(&error))?;
    show(fields, parsed);
    seal(call, fields);
    Ok(())
}

/// Before a certificate is changed: what is not in the request stays, and everything must still fit together.
pub fn update(tx: &Tx<'_>, call: &Call, def: &TypeDef, row: &AnyRow, fields: &mut Object) -> Result<(), Failure> {
    if let Some(name) = fields.get("name").and_then(Value::as_str) {
        let query = Select::new().eq("name", name).ne("id", row.meta.id);
        let account = row.meta.account_id.unwrap_or(call.principal.effective_id);
        if tx.count_any(def, &Scope::Account(account), &query)? > 0 {
            return Err(ApiError::field(Code::NotUnique, "name").into());
        }
    }
    if !["cert", "certChain", "key"].iter().any(|name| fields.contains_key(*name)) {
        return Ok(());
    }
    let stored = |name: &str| row.get(name).as_str().unwrap_or_default().to_owned();
    let kept = |name: &str| match fields.get(name) {
        Some(given) => given.as_str().unwrap_or_default().to_owned(),
        None => stored(name),
    };
    let (cert, chain) = (kept("cert"), kept("certChain"));
    let key = match fields.get("key").and_then(Value::as_str) {
        Some(key) => key.to_owned(),
        None => String::from_utf8_lossy(&call.server.seal.open(&stored("sealedKey"))?).into_owned(),
    };
    let parsed = certificate::parse(&cert, &chain).map_err(|error| refused(&error))?;
    certificate::check_key(&cert, &key).map_err(|error| refused(&error))?;
    show(fields, parsed);
    seal(call, fields);
    Ok(())
}

/// One that has ended says so wherever it is shown.
pub fn decorate(call: &Call, row: &mut AnyRow) {
    let expires = row.get("expires").as_i64();
    if row.meta.state == "active" && expires.is_some_and(|expires| expires <= call.now.0) {
        row.meta.progress.failed = true;
        row.meta.progress.message =
            Some(format!("the certificate ended on {}", row.get("expiresAt").as_str().unwrap_or_default()));
    }
}

/// When each certificate ends, for Prometheus. By public id only: who reads metrics need not be of the project.
pub fn expiries(rows: &[Row<Certificate>]) -> String {
    let mut text = String::from(
        "# HELP remuda_certificate_expiry_seconds When a certificate ends, in seconds since 1970.\n\
         # TYPE remuda_certificate_expiry_seconds gauge\n",
    );
    for row in rows {
        let Some(expires) = row.expires else { continue };
        let (id, seconds) = (row.public_id(), expires.0 / 1000);
        text.push_str(&format!("remuda_certificate_expiry_seconds{{certificate=\"{id}\"}} {seconds}\n"));
    }
    text
}
