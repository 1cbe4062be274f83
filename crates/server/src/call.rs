//! One authenticated request: everything a handler needs to know, in one value that can move to the database's thread.

use std::sync::Arc;

use remuda_orchestrator::settings::Settings;
use remuda_schema::id::{self, Decoded};
use remuda_schema::row::Object;
use remuda_schema::{ApiError, Code, Registry, Schema, Schemas, Time, TypeDef};
use remuda_store::Visibility;

use crate::auth::Principal;
use crate::base_url::Urls;
use crate::request::{Path, Query, Verb};
use crate::state::ServerState;

/// One authenticated request.
#[derive(Clone)]
pub struct Call {
    pub server: ServerState,
    pub principal: Principal,
    pub schemas: &'static Schemas,
    pub urls: Urls,
    pub verb: Verb,
    pub path: Path,
    pub query: Query,
    /// The body over the query parameters.
    pub input: Object,
    pub now: Time,
    pub settings: Arc<Settings>,
    pub client_ip: String,
    /// Ids in answers are bare numbers (`_plainId`).
    pub plain_ids: bool,
}

impl Call {
    pub fn registry(&self) -> &'static Registry {
        remuda_model::registry()
    }

    /// The declaration of a type.
    pub fn def(&self, name: &str) -> Option<&'static TypeDef> {
        self.registry().get(name)
    }

    /// The type the path names, if the caller sees it; 404 otherwise.
    pub fn schema(&self) -> Result<&'static Schema, ApiError> {
        let found = self.path.type_name.as_deref().and_then(|name| self.find(name));
        found.ok_or_else(|| ApiError::new(Code::NotFound))
    }

    /// The type a URL segment names, if the caller sees it. `subscribe` is asked for in the plural too.
    pub fn find(&self, segment: &str) -> Option<&'static Schema> {
        let segment = if segment.eq_ignore_ascii_case("subscribes") { "subscribe" } else { segment };
        self.schemas.find(segment)
    }

    /// Public id of a row.
    pub fn public_id(&self, schema: &Schema, number: i64) -> String {
        id::encode(schema.base, number)
    }

    /// The row number the path names; 404 when it cannot be one.
    pub fn path_number(&self) -> Result<i64, ApiError> {
        match self.path.id.as_deref().and_then(id::decode) {
            Some(Decoded::Number(number)) => Ok(number),
            _ => Err(ApiError::new(Code::NotFound)),
        }
    }

    /// Query parameters as the filter parser takes them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.query.0
    }

    /// What lists show of removed rows (`api-conventions.md` §8.5).
    pub fn listed(&self) -> Visibility {
        let seconds = self.settings.get("api.show.removed.for.seconds").and_then(|text| text.parse::<f64>().ok());
        let removed_for_ms = (seconds.filter(|seconds| seconds.is_finite()).unwrap_or(300.0) * 1000.0) as i64;
        Visibility::Listed { now: self.now, removed_for_ms }
    }

    /// URL of the request without its query.
    pub fn self_url(&self, schema: &Schema) -> String {
        match (&self.path.id, &self.path.link) {
            (Some(id), Some(link)) => self.urls.link(&schema.plural, id, link),
            (Some(id), None) => self.urls.resource(&schema.plural, id),
            _ => match &self.path.type_name {
                Some(name) => self.urls.collection(name),
                None => self.urls.version(),
            },
        }
    }
}
