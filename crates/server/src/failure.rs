//! What can stop a request inside a transaction, and the one table from there to the answer a client gets.

use std::error::Error as _;

use remuda_schema::{ApiError, Code, RowError};

use remuda_store::SealError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The caller's doing: the error as documented.
    #[error("{0}")]
    Api(ApiError),
    #[error("the database refused")]
    Store(#[source] remuda_store::Error),
    #[error("a stored row cannot be read")]
    Row(#[source] RowError),
    #[error("a sealed secret cannot be opened")]
    Seal(#[source] SealError),
    #[error("{what}")]
    Internal { what: String },
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

impl From<remuda_store::Error> for Failure {
    fn from(error: remuda_store::Error) -> Failure {
        Failure::Store(error)
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Failure {
        Failure::Row(error)
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Failure {
        Failure::Seal(error)
    }
}

impl Failure {
    /// A fault of ours, in words for the log.
    pub fn internal(what: impl Into<String>) -> Failure {
        Failure::Internal { what: what.into() }
    }

    /// Whether doing the whole transaction again may succeed: somebody else wrote a row in between.
    pub fn is_repeatable(&self) -> bool {
        matches!(self, Failure::Store(remuda_store::Error::Changed { .. }))
    }

    /// The answer. What only operators should know goes to the log under the answer's id instead.
    pub fn answer(&self, id: &str) -> ApiError {
        use remuda_store::Error as Store;
        match self {
            Failure::Api(error) => error.clone(),
            Failure::Store(Store::Changed { .. } | Store::Claimed { .. } | Store::LeaseLost { .. }) => {
                ApiError::new(Code::Conflict).detailed(self.chain())
            }
            Failure::Store(Store::Missing { .. }) => ApiError::new(Code::NotFound),
            Failure::Store(Store::NotUnique { field, .. }) => ApiError::field(Code::NotUnique, *field),
            Failure::Store(Store::Unstorable { reason, .. }) => {
                ApiError::new(Code::InvalidFormat).detailed(reason.clone())
            }
            Failure::Store(Store::Unavailable { .. } | Store::Uncertain { .. } | Store::Closed) => {
                tracing::warn!(error_id = id, error = self.chain(), "request failed: the database is not available");
                ApiError::new(Code::ServiceUnavailable).detailed("the database is not available; try again later")
            }
            Failure::Store(_) | Failure::Row(_) | Failure::Seal(_) | Failure::Internal { .. } => {
                tracing::error!(error_id = id, error = self.chain(), "request failed");
                ApiError::new(Code::InternalServerError)
                    .detailed(format!("the server's log says more under `error_id={id}`"))
            }
        }
    }

    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
