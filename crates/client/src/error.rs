//! What can go wrong between us and a server, with what to do about it. Secrets never appear in a message.

use serde_json::Value;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not a URL of a server; it looks like http://HOST:8080")]
    BadUrl(String),
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("cannot connect to {url}")]
    Unreachable {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} answered, but it is not a Remuda/Rancher API (no X-API-Schemas header)")]
    NotAnApi { url: String },
    #[error("server rejected {} (401)", key.as_deref().map_or_else(|| "a request without access key".to_owned(), |key| format!("access key {key}")))]
    Rejected { key: Option<String> },
    #[error("no environment `{0}`; those you can see: {1}")]
    NoEnvironment(String, String),
    /// Any other answer that is not success.
    #[error("{0}")]
    Api(Box<ApiAnswer>),
    #[error("server sent what cannot be read at {url}: {reason}")]
    Garbled { url: String, reason: String },
    #[error("{what} offers no action `{action}` while {state}; allowed now: {allowed}")]
    ActionMissing { what: String, action: String, state: String, allowed: String },
    #[error("{what} has no link `{link}`")]
    LinkMissing { what: String, link: String },
    #[error("timed out after {seconds} s waiting for {what}: {state}{}", message.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    TimedOut { what: String, seconds: u64, state: String, message: Option<String> },
    #[error("{what} failed: {message}")]
    Failed { what: String, message: String },
    #[error("stream was refused: {0}")]
    StreamRefused(String),
    #[error("stream broke: {0}")]
    Stream(String),
}

/// An error answer of the API (`api-conventions.md` §11).
#[derive(Debug)]
pub struct ApiAnswer {
    pub status: u16,
    pub code: String,
    pub field: Option<String>,
    pub message: Option<String>,
    pub detail: Option<String>,
    /// Method and path of the request.
    pub request: String,
    pub body: Value,
}

impl std::fmt::Display for ApiAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "server refused {}: ", self.request)?;
        if let Some(field) = &self.field {
            write!(f, "`{field}` ")?;
        }
        match self.message.as_deref().or(self.detail.as_deref()) {
            Some(message) if message != self.code => write!(f, "{message} ({}, {})", self.code, self.status),
            _ => write!(f, "{} ({})", self.code, self.status),
        }
    }
}

impl Error {
    /// HTTP status of an error answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Api(answer) => Some(answer.status),
            Error::Rejected { .. } => Some(401),
            _ => None,
        }
    }

    /// Code of an error answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Api(answer) => Some(&answer.code),
            _ => None,
        }
    }

    /// The object is not there, or not ours to see.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// The whole chain of causes as one line, without repeating the first.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
