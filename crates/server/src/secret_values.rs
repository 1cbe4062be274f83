//! `/v1/secretvalues/NUMBER`: the value of a secret, for agents of its project and nobody else.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, header};
use axum::response::IntoResponse;
use axum::routing::get;
use remuda_model::Secret;
use remuda_model::secret::VALUES_PATH;
use remuda_schema::{ApiError, Code, Id, Role, Row};
use remuda_store::Scope;

use crate::auth;
use crate::failure::Failure;
use crate::reply::{self, Reply};
use crate::request::Query;
use crate::state::ServerState;

/// The route.
pub fn routes(state: ServerState) -> Router {
    Router::new().route(&format!("{VALUES_PATH}/{{number}}"), get(value)).with_state(state)
}

async fn value(State(state): State<ServerState>, Path(number): Path<i64>, headers: HeaderMap) -> Response<Body> {
    let (shared, given) = (state.clone(), headers.clone());
    let found = state.store.read::<_, Failure, _>(move |read| {
        let principal = auth::authenticate(read, &shared.asked(&given, &Query::default(), None))?;
        let project = principal.resource_account_id.filter(|_| principal.role == Role::Agent);
        let Some(project) = project else { return Err(ApiError::new(Code::Forbidden).into()) };
        let gone = || ApiError::new(Code::NotFound).because("there is no such secret (any more)");
        let row: Row<Secret> = read.get(&Scope::Account(project), Id::new(number))?.ok_or_else(gone)?;
        let sealed = row.data.sealed_value.ok_or_else(gone)?;
        Ok(shared.seal.open(&sealed)?)
    });
    match found.await {
        Ok(value) => ([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")], value)
            .into_response(),
        Err(failure) => {
            let id = state.seams.random.uuid();
            reply::write(Reply::error(&failure.answer(&id), &id), &headers, None)
        }
    }
}
