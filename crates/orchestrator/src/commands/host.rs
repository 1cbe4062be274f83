//! What a person says of a host: empty it, or give it up.

use remuda_model::states::*;
use remuda_model::{Agent, Clearing, Host};
use remuda_schema::row::AnyRow;
use remuda_schema::{ApiError, Code, Row};
use remuda_store::{Scope, Tx};

use super::{CommandError, Context, enter, not_offered};

/// Whether the host can be told that in its state.
pub fn offered(state: &str, agent_state: Option<&str>, action: &str) -> bool {
    match action {
        "drain" | "evacuate" => {
            matches!(state, ACTIVE | UPDATING_ACTIVE | ACTIVATING | INACTIVE | UPDATING_INACTIVE | DEACTIVATING)
        }
        _ => {
            let lives = matches!(state, ACTIVE | UPDATING_ACTIVE | INACTIVE | UPDATING_INACTIVE);
            lives && matches!(agent_state, Some(RECONNECTING | DISCONNECTED))
        }
    }
}

/// `drain`, `evacuate`: takes no new containers from now on, and those there leave. `giveup`: counts as lost at once.
pub fn act(tx: &mut Tx<'_>, ctx: &Context, row: &AnyRow, action: &str) -> Result<AnyRow, CommandError> {
    let mut host: Row<Host> = row.typed()?;
    let agent = host.agent_id.map(|id| tx.get::<Agent>(&Scope::Everything, id)).transpose()?.flatten();
    let agent_state = agent.as_ref().map(|agent| agent.meta.state.as_str());
    if !offered(&host.meta.state, agent_state, action) {
        if action == "giveup" && agent_state == Some(ACTIVE) {
            let why = "`giveup` is for hosts whose agent is silent; `evacuate` empties one that answers";
            return Err(ApiError::field(Code::ActionNotAvailable, "action").because(why.to_owned()).into());
        }
        return Err(not_offered(action, "host", &host.meta.state).into());
    }
    match action {
        "giveup" => host.given_up = Some(ctx.now),
        _ => {
            host.clearing = Some(if action == "drain" { Clearing::Drain } else { Clearing::Evacuate });
            host.n_to_clear = 0;
            if !matches!(host.meta.state.as_str(), INACTIVE | UPDATING_INACTIVE | DEACTIVATING) {
                enter(&mut host, DEACTIVATING, ctx);
            }
        }
    }
    tx.update(&mut host)?;
    Ok(host.to_any()?)
}
