//! The error a client sees: one shape (`api-conventions.md` §11), and the one table of codes and statuses.

use serde_json::{Value, json};

/// Codes clients match on. `Code::status` is the one place where a code gets its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    MissingRequired,
    NotNullable,
    NotUnique,
    InvalidFormat,
    InvalidDateFormat,
    InvalidReference,
    InvalidOption,
    InvalidCharacters,
    MinLengthExceeded,
    MaxLengthExceeded,
    MinLimitExceeded,
    MaxLimitExceeded,
    InvalidAction,
    ActionNotAvailable,
    InvalidState,
    UnsupportedVersion,
    InvalidBodyContent,
    InvalidCsrfToken,
    PortWrongFormat,
    PortInvalidProtocol,
    PortInvalidPublicPort,
    PortInvalidPrivatePort,
    InvalidPort,
    NetworkIdsSubnetIdsMutuallyExclusive,
    CantVerifyAgent,
    LastAdminAccount,
    InvalidIdentityType,
    IdentityNotFound,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    RequestTooLarge,
    InternalServerError,
    NotImplemented,
    ServiceUnavailable,
}

impl Code {
    /// Wire spelling and HTTP status.
    pub fn table(self) -> (&'static str, u16) {
        match self {
            Code::MissingRequired => ("MissingRequired", 422),
            Code::NotNullable => ("NotNullable", 422),
            Code::NotUnique => ("NotUnique", 422),
            Code::InvalidFormat => ("InvalidFormat", 422),
            Code::InvalidDateFormat => ("InvalidDateFormat", 422),
            Code::InvalidReference => ("InvalidReference", 422),
            Code::InvalidOption => ("InvalidOption", 422),
            Code::InvalidCharacters => ("InvalidCharacters", 422),
            Code::MinLengthExceeded => ("MinLengthExceeded", 422),
            Code::MaxLengthExceeded => ("MaxLengthExceeded", 422),
            Code::MinLimitExceeded => ("MinLimitExceeded", 422),
            Code::MaxLimitExceeded => ("MaxLimitExceeded", 422),
            Code::InvalidAction => ("InvalidAction", 422),
            Code::ActionNotAvailable => ("ActionNotAvailable", 422),
            Code::InvalidState => ("InvalidState", 422),
            Code::UnsupportedVersion => ("UnsupportedVersion", 422),
            Code::InvalidBodyContent => ("InvalidBodyContent", 400),
            Code::InvalidCsrfToken => ("InvalidCSRFToken", 403),
            Code::PortWrongFormat => ("PortWrongFormat", 422),
            Code::PortInvalidProtocol => ("PortInvalidProtocol", 422),
            Code::PortInvalidPublicPort => ("PortInvalidPublicPort", 422),
            Code::PortInvalidPrivatePort => ("PortInvalidPrivatePort", 422),
            Code::InvalidPort => ("InvalidPort", 422),
            Code::NetworkIdsSubnetIdsMutuallyExclusive => ("NetworkIdsSubnetIdsMutuallyExclusive", 422),
            Code::CantVerifyAgent => ("CantVerifyAgent", 403),
            Code::LastAdminAccount => ("LastAdminAccount", 405),
            Code::InvalidIdentityType => ("invalidIdentityType", 400),
            Code::IdentityNotFound => ("identityNotFound", 404),
            Code::BadRequest => ("Bad Request", 400),
            Code::Unauthorized => ("Unauthorized", 401),
            Code::Forbidden => ("Forbidden", 403),
            Code::NotFound => ("Not Found", 404),
            Code::MethodNotAllowed => ("Method not allowed", 405),
            Code::Conflict => ("Conflict", 409),
            Code::RequestTooLarge => ("Request Entity Too Long", 413),
            Code::InternalServerError => ("Internal Server Error", 500),
            Code::NotImplemented => ("Not Implemented", 501),
            Code::ServiceUnavailable => ("Service Unavailable", 503),
        }
    }
}

/// What a client is told. Validation errors name a field; `message` is a sentence for people.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{} ({status}){}{}", code.table().0, field.as_deref().map(|f| format!(" `{f}`")).unwrap_or_default(), message.as_deref().map(|m| format!(": {m}")).unwrap_or_default())]
pub struct ApiError {
    pub code: Code,
    /// HTTP status; the code's own unless a manager of the original answered another one.
    pub status: u16,
    pub field: Option<String>,
    pub message: Option<String>,
    pub detail: Option<String>,
}

impl ApiError {
    pub fn new(code: Code) -> ApiError {
        ApiError { code, status: code.table().1, field: None, message: None, detail: None }
    }

    /// A validation error about one field.
    pub fn field(code: Code, field: impl Into<String>) -> ApiError {
        ApiError { field: Some(field.into()), ..ApiError::new(code) }
    }

    /// The same error with a sentence for people.
    pub fn because(mut self, message: impl Into<String>) -> ApiError {
        self.message = Some(message.into());
        self
    }

    /// The same error with the longer explanation clients show as `detail`.
    pub fn detailed(mut self, detail: impl Into<String>) -> ApiError {
        self.detail = Some(detail.into());
        self
    }

    /// The same error under another status, where the specification says so.
    pub fn with_status(mut self, status: u16) -> ApiError {
        self.status = status;
        self
    }

    /// The body of the answer; `id` is a fresh uuid that the log names too.
    pub fn body(&self, id: &str) -> Value {
        let name = self.code.table().0;
        // Plain status errors repeat their text as message; validation errors stay null unless there is a sentence.
        let plain = matches!(
            self.code,
            Code::BadRequest
                | Code::Unauthorized
                | Code::Forbidden
                | Code::NotFound
                | Code::MethodNotAllowed
                | Code::Conflict
                | Code::RequestTooLarge
                | Code::InternalServerError
                | Code::NotImplemented
                | Code::ServiceUnavailable
        );
        let message = self.message.clone().or_else(|| plain.then(|| name.to_owned()));
        let mut body = json!({
            "id": id, "type": "error", "links": {}, "actions": {},
            "status": self.status, "code": name, "message": message, "detail": self.detail,
        });
        if let (Some(field), Some(map)) = (&self.field, body.as_object_mut()) {
            map.insert("fieldName".into(), Value::String(field.clone()));
        }
        body
    }
}
