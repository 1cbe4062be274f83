//! The error a client sees: one shape (`api-conventions.md` §11), and the one table of codes and statuses.

use serde_json::{Value, json};

/// Declares the codes: variant, wire spelling, HTTP status.
macro_rules! codes {
    ($($variant:ident = $spelling:literal, $status:literal;)*) => {
        /// Codes clients match on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// Wire spelling and HTTP status.
            pub fn table(self) -> (&'static str, u16) {
                match self {
                    $(Code::$variant => ($spelling, $status),)*
                }
            }
        }
    };
}

// The one place where a code gets its HTTP status.
codes! {
    MissingRequired = "MissingRequired", 422;
    NotNullable = "NotNullable", 422;
    NotUnique = "NotUnique", 422;
    InvalidFormat = "InvalidFormat", 422;
    InvalidDateFormat = "InvalidDateFormat", 422;
    InvalidReference = "InvalidReference", 422;
    InvalidOption = "InvalidOption", 422;
    InvalidCharacters = "InvalidCharacters", 422;
    MinLengthExceeded = "MinLengthExceeded", 422;
    MaxLengthExceeded = "MaxLengthExceeded", 422;
    MinLimitExceeded = "MinLimitExceeded", 422;
    MaxLimitExceeded = "MaxLimitExceeded", 422;
    InvalidAction = "InvalidAction", 422;
    ActionNotAvailable = "ActionNotAvailable", 422;
    InvalidState = "InvalidState", 422;
    UnsupportedVersion = "UnsupportedVersion", 422;
    InvalidBodyContent = "InvalidBodyContent", 400;
    InvalidCsrfToken = "InvalidCSRFToken", 403;
    PortWrongFormat = "PortWrongFormat", 422;
    InvalidPort = "InvalidPort", 422;
    PortInvalidProtocol = "PortInvalidProtocol", 422;
    PortInvalidPublicPort = "PortInvalidPublicPort", 422;
    PortInvalidPrivatePort = "PortInvalidPrivatePort", 422;
    CantVerifyAgent = "CantVerifyAgent", 403;
    CantVerifyHealthcheck = "CantVerifyHealthcheck", 403;
    LastAdminAccount = "LastAdminAccount", 405;
    InvalidIdentityType = "invalidIdentityType", 400;
    IdentityNotFound = "identityNotFound", 404;
    BadRequest = "Bad Request", 400;
    Unauthorized = "Unauthorized", 401;
    Forbidden = "Forbidden", 403;
    NotFound = "Not Found", 404;
    MethodNotAllowed = "Method not allowed", 405;
    Conflict = "Conflict", 409;
    RequestTooLarge = "Request Entity Too Long", 413;
    InternalServerError = "Internal Server Error", 500;
    ServiceUnavailable = "Service Unavailable", 503;
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
