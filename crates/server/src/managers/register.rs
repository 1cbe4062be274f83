//! A host asks for keys of its own with a registration token (`access-control.md` §9, `resources-infra.md` §1.3).
//!
//! Account, agent and key are made in the transaction that makes the register row. The secret is sealed in that row
//! and shown only to who asks by the host's own key, which nobody else knows.

use remuda_model::{Account, Agent, AgentApiKey, Register};
use remuda_orchestrator::commands::Context;
use remuda_schema::row::Object;
use remuda_schema::{AnyRow, ApiError, Code, Id, Row};
use remuda_store::{Query as Select, Scope, Tx};

use crate::call::Call;
use crate::failure::Failure;
use remuda_store::secret;

/// Makes what the host will act as.
pub fn create(tx: &mut Tx<'_>, call: &Call, fields: &mut Object, context: &Context) -> Result<(), Failure> {
    let project_id = context.account_id;
    let key = fields.get("key").and_then(|key| key.as_str()).unwrap_or_default().to_owned();
    if key.is_empty() {
        return Err(ApiError::field(Code::MissingRequired, "key").into());
    }
    let same = Select::new().eq("key", key.as_str());
    if tx.count::<Register>(&Scope::Account(project_id), &same)? > 0 {
        return Err(ApiError::field(Code::NotUnique, "key").into());
    }
    let random = &call.server.seams.random;
    let mut account = Row::new(None, "active", Account::default());
    account.meta.kind = "agent".to_owned();
    account.meta.name = Some("Host agent".to_owned());
    let account = tx.insert(account)?;
    let mut agent = Row::new(
        Some(account.meta.id),
        "active",
        Agent {
            uri: Some(format!("event://{}", random.uuid())),
            resource_account_id: Some(Id::new(project_id)),
            ..Agent::default()
        },
    );
    agent.meta.kind = "registeredAgent".to_owned();
    let agent = tx.insert(agent)?;
    let secret_value = secret::secret_value(random);
    let access_key = AgentApiKey {
        public_value: Some(secret::public_value(random)),
        secret_hash: Some(secret::hash(random, &secret_value)),
    };
    let access_key = tx.insert(Row::new(Some(account.meta.id), "active", access_key))?;
    let shown_later = format!("{}:{secret_value}", access_key.data.public_value.as_deref().unwrap_or_default());
    fields.insert("agentId".into(), agent.meta.id.into());
    fields.insert("sealedSecret".into(), call.server.seal.seal(shown_later.as_bytes()).into());
    Ok(())
}

/// Shows key and secrets to who names the key, once the row is active.
pub fn decorate(call: &Call, row: &mut AnyRow) -> Result<(), Failure> {
    let key = row.get("key");
    let is_asked_by_key = call.path.id.is_none()
        && call.verb == crate::request::Verb::Get
        && key.as_str().is_some_and(|key| call.query.get("key") == Some(key));
    if is_asked_by_key && row.meta.state == "active" {
        if let Some(sealed) = row.get("sealedSecret").as_str() {
            let opened = call.server.seal.open(sealed)?;
            let text = String::from_utf8_lossy(&opened).into_owned();
            if let Some((access_key, secret_key)) = text.split_once(':') {
                row.data.insert("accessKey".into(), access_key.into());
                row.data.insert("secretKey".into(), secret_key.into());
            }
        }
    } else {
        row.data.remove("key");
    }
    Ok(())
}

/// Removing the row takes the keys away.
pub fn removed(tx: &mut Tx<'_>, row: &AnyRow) -> Result<(), Failure> {
    let Some(agent_id) = row.get("agentId").as_i64() else { return Ok(()) };
    let Some(agent) = tx.get::<Agent>(&Scope::Everything, Id::new(agent_id))? else { return Ok(()) };
    let Some(account_id) = agent.meta.account_id else { return Ok(()) };
    let keys: Vec<Row<AgentApiKey>> = tx.list(&Scope::Account(account_id), &Select::new())?;
    for mut key in keys {
        key.meta.enter("inactive");
        tx.update(&mut key)?;
    }
    Ok(())
}
