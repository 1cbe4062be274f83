//! Secrets and configs of compose files, on their way into the server's store (`compose.md` §13).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use remuda_client::Resource;
use remuda_compose::{Project, SecretSource};
use serde_json::json;

use crate::failure::{Failure, exit};
use crate::session::Session;

/// What stands for the id of a secret that is not there yet, where nothing is sent.
const NOT_YET: &str = "(new)";

/// Gives every service the ids of its secrets. Those of the files are stored when they are not there with this value;
/// without a stack nothing is sent, and whether values changed is not known.
pub async fn name(session: &Session, project: &mut Project, stack: Option<&Resource>) -> Result<(), Failure> {
    let mut ids = BTreeMap::new();
    for secret in &project.secrets {
        let id = match (&secret.value, stack) {
            (Some(value), Some(stack)) => store(session, secret, value, stack).await?,
            (Some(_), None) => newest(session, &secret.real_name).await?.unwrap_or_else(|| NOT_YET.to_owned()),
            (None, _) => newest(session, &secret.real_name).await?.ok_or_else(|| {
                let text = format!("{}: there is no {} `{}`", secret.place, secret.kind, secret.real_name);
                Failure::new(exit::NOT_FOUND, text).hint("one that is `external` is made before: `POST /v1/secrets`")
            })?,
        };
        ids.insert(secret.key.clone(), id);
    }
    project.services.iter_mut().for_each(|service| service.secrets_are(&ids));
    Ok(())
}

async fn store(session: &Session, secret: &SecretSource, value: &[u8], stack: &Resource) -> Result<String, Failure> {
    let value = BASE64_STANDARD.encode(value);
    let body = json!({"name": secret.real_name, "value": value, "environmentId": stack.id()});
    Ok(session.client.create("secrets", &body).await?.id().to_owned())
}

/// The one that was made last: older ones of the name are what older containers have.
async fn newest(session: &Session, name: &str) -> Result<Option<String>, Failure> {
    let found = session.client.list("secrets", &[("name", name), ("sort", "id"), ("order", "asc")]).await?;
    Ok(found.last().map(|row| row.id().to_owned()))
}
