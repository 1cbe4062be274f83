//! What can go wrong between us and a server, with what to do about it. Secrets never appear in a message.

use serde_json::Value;

use crate::resource::Resource;

/// The thing an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// As people call it: `stack` where the API says `environment`.
    pub kind: String,
    /// Empty for what does not exist yet.
    pub id: String,
    title: String,
}

impl Subject {
    /// Something that is to be created in that collection.
    pub(crate) fn new_in(collection: &str, name: &str) -> Subject {
        let kind = match collection {
            "environments" => "stack",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        Subject { kind: kind.to_owned(), id: String::new(), title: format!("{kind} {name}").trim_end().to_owned() }
    }
}

impl From<&Resource> for Subject {
    fn from(resource: &Resource) -> Subject {
        Subject { kind: resource.word().to_owned(), id: resource.id().to_owned(), title: resource.title() }
    }
}

impl From<&Resource> for Box<Subject> {
    fn from(resource: &Resource) -> Box<Subject> {
        Box::new(resource.into())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)
    }
}

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
    #[error("{what} is {state}; cannot {action}; allowed now: {}", if allowed.is_empty() { "nothing" } else { allowed.as_str() })]
    ActionMissing { what: Box<Subject>, action: String, state: String, allowed: String },
    #[error("{what} has no link `{link}`")]
    LinkMissing { what: Box<Subject>, link: String },
    #[error("timed out after {seconds} s waiting for {what}: {state}{}", message.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    TimedOut { what: Box<Subject>, seconds: u64, state: String, message: Option<String> },
    #[error("{what} failed: {message}")]
    Failed { what: Box<Subject>, message: String },
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
    /// What the request was about, where that is one thing.
    pub about: Option<Subject>,
    pub body: Value,
}

impl std::fmt::Display for ApiAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.about {
            Some(about) => write!(f, "server refused {about}: ")?,
            None => write!(f, "server refused {}: ", self.request)?,
        }
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

    /// The same error, about that.
    #[must_use]
    pub(crate) fn concerning(mut self, what: Subject) -> Error {
        if let Error::Api(answer) = &mut self {
            answer.about = Some(what);
        }
        self
    }

    /// Code of an error answer.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Api(answer) => Some(&answer.code),
            _ => None,
        }
    }

    /// What it is about, where that is one thing.
    pub fn about(&self) -> Option<&Subject> {
        match self {
            Error::Api(answer) => answer.about.as_ref(),
            Error::ActionMissing { what, .. }
            | Error::LinkMissing { what, .. }
            | Error::TimedOut { what, .. }
            | Error::Failed { what, .. } => Some(what),
            _ => None,
        }
    }

    /// The state of the thing stands in the way; another state may not.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::ActionMissing { .. })
            || self.status() == Some(409)
            || self.code() == Some("ActionNotAvailable")
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
